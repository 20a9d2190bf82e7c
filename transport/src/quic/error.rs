//! What quinn calls an end, in the words of this crate.

use std::{io, sync::Arc};

use peerage_muxer::{ConnectionError, ErrorCode};
use peerage_security::{Fault, tls};
use quinn::{ConnectionError as End, TransportErrorCode as Code, VarInt};

/// Why a QUIC handshake failed, beside what TLS has to say in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer takes no connection just now: a limit of it, most likely.
    #[error("the peer refused the connection")]
    Refused,
    /// The peer closed the connection with this code (RFC 9000, section 20), an error of this side's as it
    /// thinks.
    #[error("the peer closed the connection with the QUIC error {0:#x}")]
    ClosedByPeer(u64),
    /// The peer does not speak version 1 of QUIC (RFC 9000).
    #[error("the peer does not speak QUIC version 1")]
    Version,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// Something failed on this side.
    #[error("QUIC: {0}")]
    Internal(String),
}

impl Error {
    /// Who was at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Internal(_) => Fault::Local,
            _ => Fault::Remote,
        }
    }
}

/// What a handshake ended with.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Quic(Error),
    Tls(tls::Error),
    /// The peer said that it does not want this connection, without a word about why.
    Closed,
    TimedOut,
}

impl Failure {
    pub(super) fn internal(error: impl ToString) -> Self {
        Self::Quic(Error::Internal(error.to_string()))
    }
}

impl From<tls::Error> for Failure {
    fn from(error: tls::Error) -> Self {
        Self::Tls(error)
    }
}

/// The alert that a code of QUIC carries (RFC 9001, section 4.8).
fn alert(code: Code) -> Option<u8> {
    u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

/// Whether quinn's error is this side's. It calls it an internal error as well when the peer has left so many
/// gaps in a stream that it keeps no more; that one is the peer's.
fn is_ours(error: &quinn_proto::TransportError) -> bool {
    error.code == Code::INTERNAL_ERROR && !error.reason.starts_with(GAPS)
}

/// How quinn begins to say so.
const GAPS: &str = "too many gaps";

/// The end of a handshake.
pub(super) fn failure(end: End) -> Failure {
    match end {
        End::TransportError(error) => match alert(error.code) {
            Some(alert) => tls::Error::of_our_alert(alert, &error.reason).into(),
            None if is_ours(&error) => Failure::internal(error),
            None => Failure::Quic(Error::Protocol(error.to_string())),
        },
        // What the peer says in words is not repeated: it would stand in this node's log.
        End::ConnectionClosed(close) => match (alert(close.error_code), close.error_code) {
            (Some(alert), _) => tls::Error::of_their_alert(alert).into(),
            (None, Code::CONNECTION_REFUSED) => Failure::Quic(Error::Refused),
            // Its application did, but must not show more in a handshake (RFC 9000, section 10.2.3).
            (None, Code::NO_ERROR | Code::APPLICATION_ERROR) => Failure::Closed,
            (None, code) => Failure::Quic(Error::ClosedByPeer(code.into())),
        },
        End::ApplicationClosed(_) | End::Reset => Failure::Closed,
        End::VersionMismatch => Failure::Quic(Error::Version),
        End::TimedOut => Failure::TimedOut,
        End::LocallyClosed | End::CidsExhausted => Failure::internal(end),
    }
}

/// The end of a connection that was established. `ours` is why this side closed it.
pub(super) fn ended(end: End, ours: impl FnOnce() -> ConnectionError) -> ConnectionError {
    match end {
        End::LocallyClosed => ours(),
        End::ApplicationClosed(close) => ConnectionError::ClosedByPeer(code(close.error_code)),
        End::ConnectionClosed(close) => match (alert(close.error_code), close.error_code) {
            // A client hears late that it was refused.
            (Some(alert), _) => ConnectionError::Protocol(tls::Error::of_their_alert(alert).to_string()),
            (None, Code::NO_ERROR) => ConnectionError::ClosedByPeer(ErrorCode::NONE),
            (None, Code::INTERNAL_ERROR) => ConnectionError::ClosedByPeer(ErrorCode::PEER_HAD_INTERNAL_ERROR),
            (None, _) => ConnectionError::ClosedByPeer(ErrorCode::PEER_SAW_PROTOCOL_ERROR),
        },
        // The endpoint under it is gone.
        End::TransportError(error) if is_ours(&error) => ConnectionError::DriverGone,
        End::TransportError(error) => ConnectionError::Protocol(error.to_string()),
        End::VersionMismatch => ConnectionError::Protocol(Error::Version.to_string()),
        // The peer does not know the connection: it was started anew.
        End::Reset => ConnectionError::Io(Arc::new(io::ErrorKind::ConnectionReset.into())),
        End::TimedOut => ConnectionError::Vanished,
        End::CidsExhausted => ConnectionError::Exhausted,
    }
}

/// A code of the peer's, which has up to 62 bits.
pub(super) fn code(code: VarInt) -> ErrorCode {
    u32::try_from(code.into_inner()).map_or(ErrorCode::CODE_OUT_OF_RANGE, ErrorCode)
}

pub(super) fn varint(code: ErrorCode) -> VarInt {
    VarInt::from_u32(code.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_more_than_32_bits_are_out_of_range() {
        let large = VarInt::from_u64(1 << 32).expect("62 bits");
        assert_eq!(code(large), ErrorCode::CODE_OUT_OF_RANGE);
        assert_eq!(code(varint(ErrorCode(u32::MAX))), ErrorCode(u32::MAX));
        assert_eq!(code(varint(ErrorCode::SHUTDOWN)), ErrorCode::SHUTDOWN);
    }

    #[test]
    fn alerts_are_told_from_other_codes() {
        assert_eq!(alert(Code::crypto(0)), Some(0));
        assert_eq!(alert(Code::crypto(255)), Some(255));
        assert_eq!(alert(Code::NO_VIABLE_PATH), None);
    }
}
