use std::{fmt, io, sync::Arc};

/// A code that says why a stream or connection was ended, as libp2p/specs PR 623 lists them. 32 bits on the wire;
/// muxers that cannot carry one send none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Nothing was said.
    pub const NONE: Self = Self(0);
    /// In [`ConnectionError::ClosedByPeer`]: the peer found this node breaking the protocol (yamux GoAway 1).
    pub const PEER_SAW_PROTOCOL_ERROR: Self = Self(1);
    /// In [`ConnectionError::ClosedByPeer`]: something failed within the peer (yamux GoAway 2).
    pub const PEER_HAD_INTERNAL_ERROR: Self = Self(2);
    /// No protocol could be agreed on.
    pub const PROTOCOL_NEGOTIATION_FAILED: Self = Self(0x1000);
    /// A limit of this side was reached.
    pub const RESOURCE_LIMIT_EXCEEDED: Self = Self(0x1001);
    /// Too much in too little time.
    pub const RATE_LIMITED: Self = Self(0x1002);
    /// The other side broke the protocol.
    pub const PROTOCOL_VIOLATION: Self = Self(0x1003);
    /// Another connection to the same peer took this one's place.
    pub const SUPPLANTED: Self = Self(0x1004);
    /// Not needed any more.
    pub const GARBAGE_COLLECTED: Self = Self(0x1005);
    /// This node is stopping.
    pub const SHUTDOWN: Self = Self(0x1006);
    /// This node does not want to talk with that peer.
    pub const GATED: Self = Self(0x1007);
    /// A code that 32 bits (or the transport) cannot carry.
    pub const CODE_OUT_OF_RANGE: Self = Self(0x1008);
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NONE => "no code",
            Self::PROTOCOL_NEGOTIATION_FAILED => "protocol negotiation failed",
            Self::RESOURCE_LIMIT_EXCEEDED => "resource limit exceeded",
            Self::RATE_LIMITED => "rate limited",
            Self::PROTOCOL_VIOLATION => "protocol violation",
            Self::SUPPLANTED => "supplanted",
            Self::GARBAGE_COLLECTED => "garbage collected",
            Self::SHUTDOWN => "shutdown",
            Self::GATED => "gated",
            Self::CODE_OUT_OF_RANGE => "code out of range",
            Self(code) => return write!(f, "code {code:#x}"),
        };
        f.write_str(name)
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// This side closed it.
    #[error("the connection was closed by this node")]
    Closed,
    /// The peer closed it in an orderly way, or its socket came to the end.
    #[error("the peer closed the connection ({})", farewell(*.0))]
    ClosedByPeer(ErrorCode),
    /// The peer read nothing for so long that the connection was given up; its fault, or the network's.
    #[error("the peer stopped reading")]
    Stalled,
    /// The peer sent nothing for so long, not even when asked for a sign of life, that it was given up.
    #[error("the peer vanished")]
    Vanished,
    /// The peer broke the muxer's protocol, or that of the encryption under it (an [`io::Error`] of the kind
    /// [`InvalidData`](io::ErrorKind::InvalidData)); its fault.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The socket failed.
    #[error("the connection broke: {0}")]
    Io(Arc<io::Error>),
    /// All stream ids of this side are used up (2^31 of them): time for a new connection.
    #[error("no stream ids are left on the connection")]
    Exhausted,
    /// The driver is gone without having said why (its task panicked or was dropped).
    #[error("the connection's driver ended unexpectedly")]
    DriverGone,
}

/// The codes that yamux itself knows mean something only at the end of a connection.
fn farewell(code: ErrorCode) -> String {
    match code {
        ErrorCode::PEER_SAW_PROTOCOL_ERROR => "it reports a protocol error of this node".to_owned(),
        ErrorCode::PEER_HAD_INTERNAL_ERROR => "it reports an internal error of its own".to_owned(),
        code => code.to_string(),
    }
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        // A socket does not judge its bytes; the encryption on it does.
        if error.kind() == io::ErrorKind::InvalidData {
            return Self::Protocol(error.to_string());
        }
        Self::Io(Arc::new(error))
    }
}

/// Why a stream ended other than by end of file. It travels inside [`io::Error`], because `AsyncRead` and
/// `AsyncWrite` speak that; [`StreamError::of`] takes it out again.
///
/// ```
/// use peerage_muxer::{ErrorCode, StreamError};
/// let error: std::io::Error = StreamError::ResetByPeer(ErrorCode::NONE).into();
/// assert!(matches!(StreamError::of(&error), Some(StreamError::ResetByPeer(_))));
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer gave the stream up; what it sent before may be incomplete.
    #[error("the peer reset the stream ({0})")]
    ResetByPeer(ErrorCode),
    /// This side gave the stream up.
    #[error("the stream was reset by this node ({0})")]
    ResetLocally(ErrorCode),
    /// A write after this side had closed its writing half.
    #[error("the writing half is closed")]
    WriteClosed,
    /// The connection under the stream ended.
    #[error("the connection ended under the stream: {0}")]
    Connection(#[from] ConnectionError),
}

impl StreamError {
    /// The stream's own error inside an `io::Error` that its methods returned.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::ResetByPeer(_) => io::ErrorKind::ConnectionReset,
            StreamError::ResetLocally(_) => io::ErrorKind::ConnectionAborted,
            StreamError::WriteClosed => io::ErrorKind::BrokenPipe,
            StreamError::Connection(_) => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_data_is_the_peers_fault_and_a_broken_socket_is_not() {
        let ended = |kind: io::ErrorKind| ConnectionError::from(io::Error::new(kind, "what"));
        assert!(
            matches!(ended(io::ErrorKind::InvalidData), ConnectionError::Protocol(text) if text == "what")
        );
        assert!(matches!(ended(io::ErrorKind::ConnectionReset), ConnectionError::Io(_)));
        assert!(matches!(ended(io::ErrorKind::UnexpectedEof), ConnectionError::Io(_)));
    }
}
