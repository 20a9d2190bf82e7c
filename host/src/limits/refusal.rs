use std::fmt;

use peerage_core::{PeerId, ProtocolId};

use super::{ConnectionId, Prefix};

/// Whose share a limit divides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// The whole node's.
    System,
    /// That of all connections whose peer is not known yet.
    Transient,
    /// That of all addresses with this prefix.
    Prefix(Prefix),
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
            Self::Transient => f.write_str("connections under way"),
            Self::Prefix(prefix) => prefix.fmt(f),
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
    /// What is limited. One of a few constant texts, fit for the label of a metric.
    pub limit: &'static str,
    /// How many are allowed, or how many bytes.
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
        let prefix = Prefix::of("192.0.2.7".parse().unwrap(), 32);
        let error = LimitError::new("connections per address", 8, Scope::Prefix(prefix));
        assert_eq!(error.to_string(), "connections per address: limit of 8 reached for 192.0.2.7/32");
    }
}
