use std::{io, sync::Arc};

use peerage_core::{PeerId, identity::DecodeError, protobuf};

use crate::Fault;

/// Why a handshake failed, or an encrypted stream broke (then inside the `io::Error`).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A handshake message announces more than is read for one; or one of ours would be as long.
    #[error("a handshake message of {len} bytes, {max} allowed")]
    MessageTooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A message that is too short for its place, or has something where nothing belongs.
    #[error("malformed noise message: {0}")]
    Malformed(&'static str),
    /// Not encrypted with the right key: damaged or forged on the way, or the sides did not hash the same handshake.
    #[error("a message could not be decrypted")]
    Decrypt,
    /// A handshake payload longer than is looked at.
    #[error("a handshake payload of {len} bytes, {max} allowed")]
    PayloadTooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The handshake payload is not protobuf.
    #[error("malformed handshake payload: {0}")]
    Payload(#[from] protobuf::Error),
    /// The handshake payload lacks a field it must have.
    #[error("the handshake payload has no {0}")]
    Missing(&'static str),
    /// More muxers named than are looked at.
    #[error("the peer names more than {max} muxers")]
    TooManyMuxers {
        /// The limit.
        max: usize,
    },
    /// The peer's identity key is malformed, or of a kind that this build does not know.
    #[error("the peer's identity key: {0}")]
    Key(#[source] DecodeError),
    /// The identity key did not sign the key of this handshake: somebody poses as the peer.
    #[error("the peer's signature is wrong")]
    BadSignature,
    /// Somebody else is at the address.
    #[error("expected peer {expected}, found {found}")]
    WrongPeer {
        /// Who was dialed.
        expected: PeerId,
        /// Who answered.
        found: PeerId,
    },
    /// Both sides named muxers, and none is the same.
    #[error("no muxer in common")]
    NoCommonMuxer,
    /// The peer hung up during the handshake.
    #[error("the connection ended during the handshake")]
    Closed,
    /// The socket ended within an encrypted frame.
    #[error("the connection ended within a frame")]
    Truncated,
    /// The socket failed.
    #[error("the connection broke: {0}")]
    Io(Arc<io::Error>),
    /// 2^64 - 1 frames were sent one way; a nonce must not be used twice.
    #[error("the keys of the connection are used up")]
    Exhausted,
    /// The noise implementation refused something that this side asked of it.
    #[error("noise: {0}")]
    Internal(String),
}

impl Error {
    /// Who was at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Key(DecodeError::Curve(_)) | Self::Exhausted | Self::Internal(_) => Fault::Local,
            Self::Closed | Self::Truncated | Self::Io(_) => Fault::Network,
            _ => Fault::Remote,
        }
    }
}

/// For what can only go wrong on this side.
pub(super) fn internal(error: snow::Error) -> Error {
    Error::Internal(error.to_string())
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io(error) => error.kind(),
            Error::Truncated | Error::Closed => io::ErrorKind::UnexpectedEof,
            Error::Exhausted | Error::Internal(_) => io::ErrorKind::Other,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
