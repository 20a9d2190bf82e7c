use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use peerage_core::{PeerId, ProtocolId};

use super::{ConnectionId, Direction, LimitError, Limits, Scope, StreamLimits};

/// Keeps count of what is in use. Cheap to clone, one per node, shared by every thread.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    limits: Limits,
    usage: Mutex<Usage>,
}

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
    /// Streams that others opened.
    pub streams_inbound: usize,
    /// Streams that this node opened.
    pub streams_outbound: usize,
    /// By peer.
    pub peers: BTreeMap<PeerId, PeerUsage>,
    /// By connection; only those with inbound streams.
    pub connections: BTreeMap<ConnectionId, ConnectionUsage>,
    /// By protocol.
    pub protocols: BTreeMap<ProtocolId, ProtocolUsage>,
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
}

/// What one protocol uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtocolUsage {
    /// Streams that others opened.
    pub inbound: usize,
    /// Streams that this node opened.
    pub outbound: usize,
}

impl Ledger {
    /// Nothing in use yet.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner { limits, usage: Mutex::default() }))
    }

    /// The numbers it holds to.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// What is in use now.
    pub fn snapshot(&self) -> Usage {
        self.lock().clone()
    }

    /// A place for a connection whose peer is not known yet.
    ///
    /// # Errors
    ///
    /// When too many of that direction are under way, or when there would be no place for the established connection
    /// as things stand: refusing now costs less than after the handshake.
    pub fn handshake(&self, direction: Direction) -> Result<HandshakeLease, LimitError> {
        let limits = self.limits();
        let mut usage = self.lock();
        usage.check_connections(limits, direction)?;
        let (used, max, name) = match direction {
            Direction::Inbound => {
                (&mut usage.handshakes_inbound, limits.handshakes_inbound, "inbound handshakes")
            }
            Direction::Outbound => {
                (&mut usage.handshakes_outbound, limits.handshakes_outbound, "outbound handshakes")
            }
        };
        LimitError::check(*used, max, name, || Scope::System)?;
        take(used);
        drop(usage);
        Ok(HandshakeLease { ledger: self.clone(), direction })
    }

    /// A place for an established connection.
    ///
    /// # Errors
    ///
    /// When the direction's, the total, or the peer's limit is reached.
    pub fn connection(&self, peer: PeerId, direction: Direction) -> Result<ConnectionLease, LimitError> {
        let limits = self.limits();
        let mut usage = self.lock();
        usage.check_connections(limits, direction)?;
        let of_peer = usage.peers.get(&peer).map_or(0, |peer| peer.connections);
        let per_peer = limits.connections_per_peer;
        LimitError::check(of_peer, per_peer, "connections per peer", || Scope::Peer(peer))?;
        take(usage.connections_of(direction));
        edit(&mut usage.peers, &peer, |peer| take(&mut peer.connections));
        drop(usage);
        Ok(ConnectionLease { ledger: self.clone(), peer, direction })
    }

    /// A place for a stream that `peer` opened on `connection`, to be [assigned](StreamLease::assign) to a protocol.
    ///
    /// # Errors
    ///
    /// When the node's, the connection's or the peer's limit is reached.
    pub fn inbound_stream(&self, connection: ConnectionId, peer: PeerId) -> Result<StreamLease, LimitError> {
        let limits = self.limits();
        let mut usage = self.lock();
        LimitError::check(usage.streams_inbound, limits.streams_inbound, "inbound streams", || {
            Scope::System
        })?;
        let of_peer = usage.peers.get(&peer).map_or(0, |peer| peer.streams_inbound);
        let per_peer = limits.streams_inbound_per_peer;
        LimitError::check(of_peer, per_peer, "inbound streams per peer", || Scope::Peer(peer))?;
        let here = usage.connections.get(&connection).cloned().unwrap_or_default();
        let scope = || Scope::Connection(connection);
        let per_connection = limits.streams_inbound_per_connection;
        LimitError::check(here.streams_inbound, per_connection, "inbound streams per connection", scope)?;
        let negotiating = limits.streams_negotiating_per_connection;
        LimitError::check(here.negotiating, negotiating, "negotiating streams per connection", scope)?;

        take(&mut usage.streams_inbound);
        edit(&mut usage.peers, &peer, |peer| take(&mut peer.streams_inbound));
        edit(&mut usage.connections, &connection, |connection| {
            take(&mut connection.streams_inbound);
            take(&mut connection.negotiating);
        });
        drop(usage);
        Ok(StreamLease { ledger: self.clone(), peer, kind: Kind::Inbound { connection }, protocol: None })
    }

    /// A place for a stream to `peer`.
    ///
    /// # Errors
    ///
    /// When the node's or the peer's limit is reached.
    pub fn outbound_stream(&self, peer: PeerId, protocol: &ProtocolId) -> Result<StreamLease, LimitError> {
        let limits = self.limits();
        let mut usage = self.lock();
        LimitError::check(usage.streams_outbound, limits.streams_outbound, "outbound streams", || {
            Scope::System
        })?;
        let of_peer = usage.peers.get(&peer).map_or(0, |peer| peer.streams_outbound);
        let per_peer = limits.streams_outbound_per_peer;
        LimitError::check(of_peer, per_peer, "outbound streams per peer", || Scope::Peer(peer))?;

        take(&mut usage.streams_outbound);
        edit(&mut usage.peers, &peer, |peer| take(&mut peer.streams_outbound));
        edit(&mut usage.protocols, protocol, |protocol| take(&mut protocol.outbound));
        drop(usage);
        Ok(StreamLease { ledger: self.clone(), peer, kind: Kind::Outbound, protocol: Some(protocol.clone()) })
    }

    /// A panic of another holder leaves whole counts behind: nothing that is called under the lock can panic half way.
    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.0.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    fn connections_of(&mut self, direction: Direction) -> &mut usize {
        match direction {
            Direction::Inbound => &mut self.connections_inbound,
            Direction::Outbound => &mut self.connections_outbound,
        }
    }

    fn check_connections(&self, limits: &Limits, direction: Direction) -> Result<(), LimitError> {
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

    fn protocol_inbound(&self, protocol: &ProtocolId) -> usize {
        self.protocols.get(protocol).map_or(0, |protocol| protocol.inbound)
    }

    fn give_inbound_protocol(&mut self, protocol: &ProtocolId, peer: &PeerId) {
        edit(&mut self.protocols, protocol, |protocol| give(&mut protocol.inbound));
        edit(&mut self.peers, peer, |peer| edit(&mut peer.inbound_by_protocol, protocol, give));
    }
}

/// Changes a count and drops its entry when nothing is left, so that the maps are as large as what is in use.
fn edit<K: Ord + Clone, V: Default + PartialEq>(
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

fn take(count: &mut usize) {
    *count = count.saturating_add(1);
}

fn give(count: &mut usize) {
    debug_assert!(*count > 0, "given back twice");
    *count = count.saturating_sub(1);
}

/// A place among the handshakes under way, until it is dropped.
#[must_use = "dropping a lease gives the place back"]
pub struct HandshakeLease {
    ledger: Ledger,
    direction: Direction,
}

impl Drop for HandshakeLease {
    fn drop(&mut self) {
        let mut usage = self.ledger.lock();
        match self.direction {
            Direction::Inbound => give(&mut usage.handshakes_inbound),
            Direction::Outbound => give(&mut usage.handshakes_outbound),
        }
    }
}

/// A place among the established connections, until it is dropped.
#[must_use = "dropping a lease gives the place back"]
pub struct ConnectionLease {
    ledger: Ledger,
    peer: PeerId,
    direction: Direction,
}

impl Drop for ConnectionLease {
    fn drop(&mut self) {
        let mut usage = self.ledger.lock();
        give(usage.connections_of(self.direction));
        edit(&mut usage.peers, &self.peer, |peer| give(&mut peer.connections));
    }
}

/// A place among the streams, until it is dropped. It may outlive its connection.
#[must_use = "dropping a lease gives the place back"]
pub struct StreamLease {
    ledger: Ledger,
    peer: PeerId,
    kind: Kind,
    protocol: Option<ProtocolId>,
}

#[derive(Clone, Copy)]
enum Kind {
    Inbound { connection: ConnectionId },
    Outbound,
}

impl StreamLease {
    /// Charges an inbound stream to the protocol that was agreed on; before its handler is spawned. From then on it
    /// does not count as negotiating. An outbound stream is charged since it was asked for, and stays as it is.
    ///
    /// # Errors
    ///
    /// When the protocol's limit, the node's or its `own`, is reached, for this peer or for all. The lease is as
    /// it was.
    pub fn assign(&mut self, protocol: &ProtocolId, own: StreamLimits) -> Result<(), LimitError> {
        let Kind::Inbound { connection } = self.kind else {
            return Ok(());
        };
        if self.protocol.as_ref() == Some(protocol) {
            return Ok(());
        }
        let limits = self.ledger.limits();
        let mut usage = self.ledger.lock();
        let total = own.inbound_total.min(limits.streams_inbound_per_protocol);
        LimitError::check(usage.protocol_inbound(protocol), total, "inbound streams per protocol", || {
            Scope::Protocol(protocol.clone())
        })?;
        let of_peer = usage.peers.get(&self.peer).and_then(|peer| peer.inbound_by_protocol.get(protocol));
        let per_peer = own.inbound_per_peer.min(limits.streams_inbound_per_protocol_and_peer);
        let name = "inbound streams per protocol and peer";
        LimitError::check(of_peer.copied().unwrap_or(0), per_peer, name, || {
            Scope::ProtocolPeer(protocol.clone(), self.peer)
        })?;

        edit(&mut usage.protocols, protocol, |protocol| take(&mut protocol.inbound));
        edit(&mut usage.peers, &self.peer, |peer| edit(&mut peer.inbound_by_protocol, protocol, take));
        match self.protocol.replace(protocol.clone()) {
            Some(former) => usage.give_inbound_protocol(&former, &self.peer),
            None => edit(&mut usage.connections, &connection, |connection| give(&mut connection.negotiating)),
        }
        Ok(())
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        let mut usage = self.ledger.lock();
        match self.kind {
            Kind::Inbound { connection } => {
                let negotiating = self.protocol.is_none();
                if let Some(protocol) = self.protocol.take() {
                    usage.give_inbound_protocol(&protocol, &self.peer);
                }
                give(&mut usage.streams_inbound);
                edit(&mut usage.peers, &self.peer, |peer| give(&mut peer.streams_inbound));
                edit(&mut usage.connections, &connection, |connection| {
                    give(&mut connection.streams_inbound);
                    if negotiating {
                        give(&mut connection.negotiating);
                    }
                });
            }
            Kind::Outbound => {
                give(&mut usage.streams_outbound);
                edit(&mut usage.peers, &self.peer, |peer| give(&mut peer.streams_outbound));
                if let Some(protocol) = &self.protocol {
                    edit(&mut usage.protocols, protocol, |protocol| give(&mut protocol.outbound));
                }
            }
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("usage", &*self.lock()).finish_non_exhaustive()
    }
}

impl fmt::Debug for HandshakeLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeLease").field("direction", &self.direction).finish_non_exhaustive()
    }
}

impl fmt::Debug for ConnectionLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLease")
            .field("peer", &self.peer)
            .field("direction", &self.direction)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamLease")
            .field("peer", &self.peer)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
