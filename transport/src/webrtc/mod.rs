//! `/ip4/<a>/udp/<p>/webrtc-direct/certhash/<h>`, over IPv4 and IPv6
//! ([spec](https://github.com/libp2p/specs/blob/master/webrtc/webrtc-direct.md)): what browsers can dial without anybody's
//! certificate.
//!
//! | module | what it is |
//! |---|---|
//! | `names`, `stun`, `ice` | how two sides find each other without signalling |
//! | `certificate` | what an address names |
//! | `session` | data channels over SCTP over DTLS |
//! | `message`, `engine` | streams on data channels |
//! | `callers` | whom a listener talks to |
//! | `handle`, `driver` | the streams as a [`Connection`](peerage_muxer::Connection) with a driver |
//! | `path`, `listen`, `upgrade`, `transport` | datagrams, and who they are from |
//!
//! All but the last two rows is without I/O.

mod callers;
mod certificate;
mod driver;
mod engine;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod ice;
mod listen;
mod message;
mod names;
mod path;
mod session;
mod stun;
mod transport;
mod upgrade;

pub use certificate::Fingerprint;
pub use names::Version;
pub use transport::WebRtc;
pub use upgrade::MUXER;

/// What can go wrong with a webrtc-direct connection before it is one, beside what can with any other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The listener is not the one that the address names: it has another certificate. The address is old, or somebody
    /// is in between.
    #[error("the address names the certificate {expected}, the listener has {found}")]
    Certificate {
        /// What the address named, or the first of several.
        expected: Fingerprint,
        /// What the listener showed.
        found: Fingerprint,
    },
    /// The other side broke DTLS or SCTP.
    #[error("{0}")]
    Protocol(String),
    /// The operating system has no randomness to give.
    #[error("no randomness")]
    Randomness,
}
