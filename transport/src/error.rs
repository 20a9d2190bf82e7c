use std::{fmt, io};

use peerage_core::Multiaddr;
pub use peerage_security::Fault;

use crate::tcp::ProxyError;

/// How far a dial or an incoming connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Reading the address.
    Address,
    /// Resolving names.
    Dns,
    /// Opening the socket.
    Connect,
    /// Opening a WebSocket on the socket: TLS, if it is over that, and HTTP.
    WebSocket,
    /// Agreeing on a security protocol, and its handshake.
    Security,
    /// Agreeing on a muxer.
    Muxer,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::WebSocket => "websocket",
            Self::Security => "security",
            Self::Muxer => "muxer",
        })
    }
}

/// Why a transport could not open a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No transport, or not this one, dials such an address.
    #[error("{0} is not an address that this transport can dial")]
    Unsupported(Multiaddr),
    /// The node is in a private network, whose key cannot protect a transport that brings its own security.
    #[error("{0} brings its own security, which a private network does not allow")]
    NotPrivate(Multiaddr),
    /// No socket can have such a path.
    #[error("a path of {len} bytes is too long for a socket, which takes {max}")]
    PathTooLong {
        /// The path's length in bytes.
        len: usize,
        /// The most that there may be: `unix::MAX_PATH_LEN`.
        max: usize,
    },
    /// The proxy, or what it says.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The deadline passed first.
    #[error("nobody answered in time")]
    Timeout,
    /// The operating system, or the other side's, said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl TransportError {
    /// Who has to change something for the next attempt to succeed.
    pub fn fault(&self) -> Fault {
        use io::ErrorKind as Kind;
        match self {
            Self::Unsupported(_) | Self::NotPrivate(_) | Self::PathTooLong { .. } => Fault::Local,
            Self::Proxy(error) => error.fault(),
            Self::Timeout => Fault::Network,
            Self::Io(error) => match error.kind() {
                // The other side's operating system answered.
                Kind::ConnectionRefused | Kind::ConnectionReset | Kind::ConnectionAborted => Fault::Remote,
                Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown | Kind::TimedOut => {
                    Fault::Network
                }
                // Out of sockets or ports, or not permitted.
                _ => Fault::Local,
            },
        }
    }
}

/// Why a transport could not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// No transport, or not this one, listens on such an address.
    #[error("{0} is not an address that a transport of this node can listen on")]
    Unsupported(Multiaddr),
    /// WebSocket over TLS needs a certificate, and this transport has none.
    #[error("{0} needs a certificate, and this node has none")]
    NoCertificate(Multiaddr),
    /// No socket can have such a path.
    #[error("cannot listen on {address}: a path of {len} bytes is too long for a socket, which takes {max}")]
    PathTooLong {
        /// What was to be bound.
        address: Multiaddr,
        /// The path's length in bytes.
        len: usize,
        /// The most that there may be: `unix::MAX_PATH_LEN`.
        max: usize,
    },
    /// The address could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// What was to be bound.
        address: Multiaddr,
        /// What the operating system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_a_dial() {
        let io = |kind: io::ErrorKind| TransportError::from(io::Error::from(kind)).fault();
        assert_eq!(TransportError::Unsupported(Multiaddr::empty()).fault(), Fault::Local);
        assert_eq!(TransportError::Timeout.fault(), Fault::Network);
        assert_eq!(io(io::ErrorKind::ConnectionRefused), Fault::Remote);
        assert_eq!(io(io::ErrorKind::NetworkUnreachable), Fault::Network);
        assert_eq!(io(io::ErrorKind::PermissionDenied), Fault::Local);
        assert_eq!(io(io::ErrorKind::AddrNotAvailable), Fault::Local);
    }
}
