//! What one node spends at most, and the [`Ledger`] that keeps count.
//!
//! A limit is asked before the resource is taken, a lease gives back exactly what it took, and a refusal names the
//! limit, the number, and whose share was used up ([`LimitError`]). Nothing here judges peers: who asks for one too
//! many is refused that one.

mod ledger;

use std::fmt;

use peerage_core::{PeerId, ProtocolId};

pub use ledger::{
    ConnectionLease, ConnectionUsage, HandshakeLease, Ledger, PeerUsage, ProtocolUsage, StreamLease, Usage,
};

/// The numbers of a node. They are those of go-libp2p's resource manager with 8 GB, rounded, where it has them.
///
/// ```
/// use peerage_host::limits::Limits;
///
/// let mut limits = Limits::default();
/// limits.connections_per_peer = 2;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Established connections that others opened. Default: 512.
    pub connections_inbound: usize,
    /// Established connections that this node opened. Default: 1024.
    pub connections_outbound: usize,
    /// Established connections in both directions. More than either of the two, so that neither side can starve the
    /// other. Default: 1280.
    pub connections_total: usize,
    /// Established connections to one peer, in both directions. Default: 8.
    pub connections_per_peer: usize,
    /// Incoming connections whose peer is not known yet. Default: 64.
    pub handshakes_inbound: usize,
    /// Outgoing connections whose peer has not proven itself yet. Default: 128.
    pub handshakes_outbound: usize,
    /// Streams that others opened, over all connections. Default: 8192.
    pub streams_inbound: usize,
    /// Streams that this node opened, over all connections. Default: 16384.
    pub streams_outbound: usize,
    /// Streams that the peer opened on one connection. Default: 256.
    pub streams_inbound_per_connection: usize,
    /// Streams on one connection whose protocol is not agreed on yet: enough for all that an honest peer opens within a
    /// round trip, and half of what it may have. Default: 128.
    pub streams_negotiating_per_connection: usize,
    /// Streams that one peer opened, over all its connections. Default: 256.
    pub streams_inbound_per_peer: usize,
    /// Streams opened to one peer, over all its connections. Default: 512.
    pub streams_outbound_per_peer: usize,
    /// Streams that others opened for one protocol. Default: 2048.
    pub streams_inbound_per_protocol: usize,
    /// Streams that one peer opened for one protocol. Default: 128, which leaves room for a hundred at once.
    pub streams_inbound_per_protocol_and_peer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_inbound: 512,
            connections_outbound: 1024,
            connections_total: 1280,
            connections_per_peer: 8,
            handshakes_inbound: 64,
            handshakes_outbound: 128,
            streams_inbound: 8192,
            streams_outbound: 16_384,
            streams_inbound_per_connection: 256,
            streams_negotiating_per_connection: 128,
            streams_inbound_per_peer: 256,
            streams_outbound_per_peer: 512,
            streams_inbound_per_protocol: 2048,
            streams_inbound_per_protocol_and_peer: 128,
        }
    }
}

/// What one protocol allows for itself. It can only lower the node's [`Limits`], which hold beside it; by default it
/// does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamLimits {
    /// Streams of this protocol that one peer may have open to this node.
    pub inbound_per_peer: usize,
    /// Streams of this protocol that all peers together may have open to this node.
    pub inbound_total: usize,
}

impl StreamLimits {
    /// Both numbers.
    pub const fn new(inbound_per_peer: usize, inbound_total: usize) -> Self {
        Self { inbound_per_peer, inbound_total }
    }
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self::new(usize::MAX, usize::MAX)
    }
}

/// Who opened a connection or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The other side.
    Inbound,
    /// This node.
    Outbound,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        })
    }
}

/// The number of a connection; a node gives each number once, and counts upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Whose share a limit divides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// The whole node's.
    System,
    /// One peer's.
    Peer(PeerId),
    /// One connection's.
    Connection(ConnectionId),
    /// One protocol's.
    Protocol(ProtocolId),
    /// One peer's share of one protocol.
    ProtocolPeer(ProtocolId, PeerId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("this node"),
            Self::Peer(peer) => peer.fmt(f),
            Self::Connection(id) => write!(f, "connection {id}"),
            Self::Protocol(protocol) => protocol.fmt(f),
            Self::ProtocolPeer(protocol, peer) => write!(f, "{protocol} with {peer}"),
        }
    }
}

/// A refusal, because a limit of this node is reached. Nothing was taken; asking again may succeed once something of
/// that scope was given back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit}: limit of {max} reached for {scope}")]
#[non_exhaustive]
pub struct LimitError {
    /// What is limited.
    pub limit: &'static str,
    /// How many are allowed.
    pub max: usize,
    /// Whose share is used up.
    pub scope: Scope,
}

impl LimitError {
    pub(crate) fn new(limit: &'static str, max: usize, scope: Scope) -> Self {
        Self { limit, max, scope }
    }

    /// An error when `used` leaves no room.
    pub(crate) fn check(
        used: usize,
        max: usize,
        limit: &'static str,
        scope: impl FnOnce() -> Scope,
    ) -> Result<(), Self> {
        if used < max { Ok(()) } else { Err(Self::new(limit, max, scope())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_limit_number_and_scope() {
        let peer: PeerId = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA".parse().unwrap();
        let error = LimitError::new("inbound streams per peer", 256, Scope::Peer(peer));
        assert_eq!(
            error.to_string(),
            "inbound streams per peer: limit of 256 reached for \
             12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
        );
        let scope = Scope::ProtocolPeer(ProtocolId::from_static("/x/1"), peer);
        assert!(scope.to_string().starts_with("/x/1 with 12D3"));
        assert_eq!(Scope::Connection(ConnectionId(7)).to_string(), "connection #7");
    }
}
