use std::collections::BTreeMap;

use peerage_core::{PeerId, ProtocolId};

use super::{ConnectionId, Direction, LimitError, Limits, Prefix, Scope};

/// What is in use. `Usage::default()` is nothing at all: what falls to zero leaves the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Established connections that others opened.
    pub connections_inbound: usize,
    /// Established connections that this node opened.
    pub connections_outbound: usize,
    /// Incoming handshakes under way.
    pub handshakes_inbound: usize,
    /// Outgoing handshakes under way.
    pub handshakes_outbound: usize,
    /// Sockets of connections and handshakes.
    pub file_descriptors: usize,
    /// Bytes of memory.
    pub memory: usize,
    /// Those of them that belong to connections whose peer is not known yet.
    pub memory_transient: usize,
    /// Streams that others opened.
    pub streams_inbound: usize,
    /// Streams that this node opened.
    pub streams_outbound: usize,
    /// By the address that incoming connections come from, for each length of prefix that is limited.
    pub prefixes: BTreeMap<Prefix, PrefixUsage>,
    /// By peer.
    pub peers: BTreeMap<PeerId, PeerUsage>,
    /// By connection; only those with inbound streams or memory.
    pub connections: BTreeMap<ConnectionId, ConnectionUsage>,
    /// By protocol.
    pub protocols: BTreeMap<ProtocolId, ProtocolUsage>,
}

/// What incoming connections from one prefix use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrefixUsage {
    /// Connections, those included whose peer is not known yet.
    pub connections: usize,
    /// Those of them whose peer is not known yet.
    pub handshakes: usize,
    /// Bytes of memory.
    pub memory: usize,
}

/// What one peer uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerUsage {
    /// Established connections, in both directions.
    pub connections: usize,
    /// Streams that it opened.
    pub streams_inbound: usize,
    /// Streams that this node opened to it.
    pub streams_outbound: usize,
    /// Bytes of memory.
    pub memory: usize,
    /// Streams that it opened, by agreed protocol.
    pub inbound_by_protocol: BTreeMap<ProtocolId, usize>,
}

/// What one connection uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionUsage {
    /// Streams that the peer opened on it.
    pub streams_inbound: usize,
    /// Those of them whose protocol is not agreed on yet.
    pub negotiating: usize,
    /// Bytes of memory.
    pub memory: usize,
}

/// What one protocol uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtocolUsage {
    /// Streams that others opened.
    pub inbound: usize,
    /// Streams that this node opened.
    pub outbound: usize,
    /// Bytes of memory that its streams took by themselves.
    pub memory: usize,
}

impl Usage {
    pub(super) fn connections_of(&mut self, direction: Direction) -> &mut usize {
        match direction {
            Direction::Inbound => &mut self.connections_inbound,
            Direction::Outbound => &mut self.connections_outbound,
        }
    }

    pub(super) fn handshakes_of(&mut self, direction: Direction) -> &mut usize {
        match direction {
            Direction::Inbound => &mut self.handshakes_inbound,
            Direction::Outbound => &mut self.handshakes_outbound,
        }
    }

    pub(super) fn check_connections(&self, limits: &Limits, direction: Direction) -> Result<(), LimitError> {
        let (used, max, name) = match direction {
            Direction::Inbound => {
                (self.connections_inbound, limits.connections_inbound, "inbound connections")
            }
            Direction::Outbound => {
                (self.connections_outbound, limits.connections_outbound, "outbound connections")
            }
        };
        LimitError::check(used, max, name, || Scope::System)?;
        let total = self.connections_inbound.saturating_add(self.connections_outbound);
        LimitError::check(total, limits.connections_total, "connections", || Scope::System)
    }

    pub(super) fn protocol_inbound(&self, protocol: &ProtocolId) -> usize {
        self.protocols.get(protocol).map_or(0, |protocol| protocol.inbound)
    }

    pub(super) fn give_inbound_protocol(&mut self, protocol: &ProtocolId, peer: &PeerId) {
        edit(&mut self.protocols, protocol, |protocol| give(&mut protocol.inbound));
        edit(&mut self.peers, peer, |peer| edit(&mut peer.inbound_by_protocol, protocol, give));
    }

    /// Enters what a scope has of memory, which is counted elsewhere.
    pub(super) fn enter_memory(&mut self, scope: &Scope, bytes: usize) {
        match scope {
            Scope::System => self.memory = bytes,
            Scope::Transient => self.memory_transient = bytes,
            Scope::Prefix(prefix) => edit(&mut self.prefixes, prefix, |prefix| prefix.memory = bytes),
            Scope::Peer(peer) => edit(&mut self.peers, peer, |peer| peer.memory = bytes),
            Scope::Connection(id) => edit(&mut self.connections, id, |one| one.memory = bytes),
            Scope::Protocol(protocol) => edit(&mut self.protocols, protocol, |one| one.memory = bytes),
            Scope::ProtocolPeer(..) => {}
        }
    }
}

/// Changes a count and drops its entry when nothing is left, so that the maps are as large as what is in use.
pub(super) fn edit<K: Ord + Clone, V: Default + PartialEq>(
    map: &mut BTreeMap<K, V>,
    key: &K,
    change: impl FnOnce(&mut V),
) {
    let value = map.entry(key.clone()).or_default();
    change(value);
    if *value == V::default() {
        map.remove(key);
    }
}

pub(super) fn take(count: &mut usize) {
    *count = count.saturating_add(1);
}

pub(super) fn give(count: &mut usize) {
    debug_assert!(*count > 0, "given back twice");
    *count = count.saturating_sub(1);
}
