use std::{io, sync::Arc};

use super::Violation;
use crate::Fault;

/// Why the opening of a WebSocket failed, or one that was open broke (then inside the `io::Error`).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answers HTTP, and did not open a WebSocket. Redirections are not followed: an address says where the
    /// peer is.
    #[error("the server answered HTTP status {0}{name}", name = name(*.0))]
    Status(u16),
    /// A client was answered this HTTP status, because its request opens no WebSocket here.
    #[error("the client was answered HTTP status {status}{name}: {why}", name = name(*.status))]
    Refused {
        /// The status.
        status: u16,
        /// What its request lacked.
        why: &'static str,
    },
    /// The server agreed to something else than a WebSocket without extensions.
    #[error("the server's answer opens no WebSocket: {0}")]
    Answer(&'static str),
    /// What came is not HTTP.
    #[error("the other side does not speak HTTP")]
    NotHttp,
    /// Request or response are larger than [`MAX_HEAD_LEN`](super::MAX_HEAD_LEN).
    #[error("an HTTP head of more than {} bytes", super::MAX_HEAD_LEN)]
    HeadTooLong,
    /// The other side did not finish the opening in [`OPENING_TIMEOUT`](super::OPENING_TIMEOUT).
    #[error("not opened in time")]
    Timeout,
    /// The other side hung up before the WebSocket was open.
    #[error("the connection ended before it was open")]
    Ended,
    /// The server's certificate does not prove that it is who was dialed.
    #[error("the certificate of {name}: {why}")]
    Certificate {
        /// Who was dialed.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// TLS failed otherwise.
    #[error("TLS: {0}")]
    Tls(String),
    /// This machine has no certificates of authorities to believe, and none were given.
    #[error("no certificate authority to believe: {0}")]
    NoRoots(String),
    /// The TLS implementation refused something that this side asked of it.
    #[error("TLS: {0}")]
    Internal(String),
    /// What came first is of no kind that this port serves.
    #[error("the other side speaks neither of what is served on this port")]
    Unexpected,
    /// The other side broke the WebSocket protocol.
    #[error("the other side broke the WebSocket protocol: {0}")]
    Violation(#[from] Violation),
    /// The other side closed because of an error, with this status (RFC 6455, section 7.4).
    #[error("the other side closed the WebSocket with status {0}")]
    Closed(u16),
    /// The socket ended inside a frame.
    #[error("the connection ended inside a frame")]
    Truncated,
    /// The socket failed.
    #[error("the connection broke: {0}")]
    Io(#[source] Arc<io::Error>),
}

impl Error {
    /// Who has to change something for the next attempt to succeed.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoRoots(_) | Self::Internal(_) => Fault::Local,
            Self::Ended | Self::Truncated | Self::Io(_) => Fault::Network,
            _ => Fault::Remote,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            Some(inner) => inner.clone(),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Ended,
            None => Self::Io(Arc::new(error)),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io(io) => io.kind(),
            Error::Truncated | Error::Ended => io::ErrorKind::UnexpectedEof,
            Error::Closed(_) => io::ErrorKind::ConnectionAborted,
            Error::Timeout => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

#[cfg(feature = "websocket")]
fn name(status: u16) -> String {
    use tokio_tungstenite::tungstenite::http::StatusCode;

    let known = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    known.map(|name| format!(" ({name})")).unwrap_or_default()
}

/// Without the transport nobody says one.
#[cfg(not(feature = "websocket"))]
fn name(_status: u16) -> String {
    String::new()
}

#[cfg(test)]
#[cfg(feature = "websocket")]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_and_whose() {
        let error = Error::Status(404);
        assert_eq!(error.to_string(), "the server answered HTTP status 404 (Not Found)");
        assert_eq!(error.fault(), Fault::Remote);
        assert_eq!(Error::Status(799).to_string(), "the server answered HTTP status 799");
        assert_eq!(Error::NoRoots(String::new()).fault(), Fault::Local);
        assert_eq!(Error::Truncated.fault(), Fault::Network);
    }

    #[test]
    fn errors_go_through_io_errors() {
        let there: io::Error = Error::from(Violation::Text).into();
        assert_eq!(there.kind(), io::ErrorKind::InvalidData);
        assert!(matches!(Error::from(there), Error::Violation(Violation::Text)));
        assert!(matches!(Error::from(io::Error::from(io::ErrorKind::BrokenPipe)), Error::Io(_)));
        assert!(matches!(Error::from(io::Error::from(io::ErrorKind::UnexpectedEof)), Error::Ended));
    }
}
