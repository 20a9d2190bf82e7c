use super::{MAX_CIRCUITS, MAX_COMPONENTS};
use crate::{PeerId, varint};

/// Where and why a text or bytes are not a multiaddr, or are not taken as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}, at byte {at}")]
pub struct Error {
    at: usize,
    kind: ErrorKind,
}

/// What is wrong with a multiaddr.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no component.
    #[error("expected a component")]
    Empty,
    /// The text does not start with a slash.
    #[error("expected '/'")]
    NoSlash,
    /// The text or the bytes are longer than allowed.
    #[error("{len} bytes, {max} allowed")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed: [`MAX_TEXT_LEN`](super::MAX_TEXT_LEN) or [`MAX_LEN`](super::MAX_LEN).
        max: usize,
    },
    /// More than [`MAX_COMPONENTS`].
    #[error("more than {MAX_COMPONENTS} components")]
    TooManyComponents,
    /// More than [`MAX_CIRCUITS`] times `/p2p-circuit`.
    #[error("more than {MAX_CIRCUITS} relay")]
    TooManyCircuits,
    /// A text names a protocol that is not known; its first 32 characters.
    #[error("unknown protocol {0:?}")]
    UnknownName(String),
    /// Bytes have the code of a protocol that is not known. How long its value is cannot be known either.
    #[error("unknown protocol code {0}")]
    UnknownCode(u64),
    /// A code or a length is not a varint.
    #[error("{0}")]
    Varint(varint::Error),
    /// The bytes end inside a component.
    #[error("truncated component")]
    Truncated,
    /// The protocol has a value, which is missing or not what it has to be.
    #[error("/{protocol}: expected {expected}")]
    Value {
        /// The protocol's name.
        protocol: &'static str,
        /// What the value has to be.
        expected: &'static str,
    },
    /// Something follows `/unix`, whose path reaches to the end of a text.
    #[error("/unix: expected nothing after the path")]
    AfterUnix,
}

impl Error {
    pub(super) fn new(at: usize, kind: ErrorKind) -> Error {
        Error { at, kind }
    }

    /// The byte of the text, or of the binary form, at which it is wrong.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What is wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

/// Why an address cannot be made one of a certain peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WithPeerError {
    /// It is one of another peer.
    #[error("address of {found}, not of {wanted}")]
    Conflict {
        /// Whose it is.
        found: PeerId,
        /// Whose it was to be.
        wanted: PeerId,
    },
    /// There is no room for the peer id.
    #[error(transparent)]
    NoRoom(#[from] Error),
}
