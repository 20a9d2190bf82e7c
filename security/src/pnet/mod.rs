//! Private networks: everything on a connection is encrypted with a key that all members share, before anything else is
//! said ([spec](https://github.com/libp2p/specs/blob/master/pnet/Private-Networks-PSK-V1.md)).
//!
//! Each side sends a random nonce of 24 bytes, and from then on XSalsa20 under the key and its nonce. Nothing is
//! authenticated here: the security protocol above does that. What this layer gives is that nodes of different networks do
//! not understand a word of each other.

mod key;
mod stream;
#[cfg(test)]
mod tests;

pub use key::{Fingerprint, KeyError, MAX_FILE_LEN, PreSharedKey};
pub use stream::PnetStream;

/// The environment variable that, set to `1`, forbids nodes without a key (spec, "Safeguard").
pub const FORCE: &str = "LIBP2P_FORCE_PNET";

/// Whether the environment forbids nodes without a key.
pub fn is_forced() -> bool {
    std::env::var_os(FORCE).is_some_and(|value| value == "1")
}

/// Why a stream in a private network broke (then inside the `io::Error`), or could not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer began to speak without encryption.
    #[error("the peer has no pre-shared key: it is not in a private network")]
    Plaintext,
    /// The operating system has no randomness to give.
    #[error("no randomness for a nonce")]
    Randomness,
    /// 2^70 bytes were sent one way.
    #[error("the key stream is used up")]
    Exhausted,
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Plaintext => std::io::ErrorKind::InvalidData,
            Error::Randomness | Error::Exhausted => std::io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
