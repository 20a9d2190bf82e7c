use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use peerage_core::{Multiaddr, Now, PeerId, ProtocolId, multiaddr::Protocol};

use super::{
    ConnectionId, Direction, HandshakeLease, LimitError, Limits, MemoryScope, Place, Prefix, PrefixLimit,
    Scope, StreamLease, Usage,
    leases::{Kind, Seat, Turn},
    memory::Meter,
    prefix::Rates,
    usage::{edit, take},
};

/// Keeps count of what is in use. Cheap to clone, one per node, shared by every thread.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    limits: Limits,
    memory: Arc<Meter>,
    memory_transient: Arc<Meter>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// But for memory, which the meters count.
    pub(super) usage: Usage,
    /// Of every scope, besides the node's own, that something may take memory for.
    meters: BTreeMap<Scope, Arc<Meter>>,
    rates: Rates,
    refusals: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// Nothing in use yet.
    pub fn new(limits: Limits) -> Self {
        let memory = Meter::new("memory", limits.memory, Scope::System);
        let max = limits.memory_transient;
        let memory_transient = Meter::new("memory of connections under way", max, Scope::Transient);
        Self(Arc::new(Inner { limits, memory, memory_transient, state: Mutex::default() }))
    }

    /// The numbers it holds to.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// What is in use now.
    pub fn snapshot(&self) -> Usage {
        let state = self.lock();
        let mut usage = state.usage.clone();
        usage.memory = self.0.memory.used();
        usage.memory_transient = self.0.memory_transient.used();
        for (scope, meter) in &state.meters {
            usage.enter_memory(scope, meter.used());
        }
        usage
    }

    /// How many times each limit has refused something so far.
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.lock().refusals.clone()
    }

    /// A place for a connection with `remote` whose peer is not known yet: a socket, a place among the handshakes, and,
    /// for an incoming one, a place among the connections of its address.
    ///
    /// # Errors
    ///
    /// When too many of that direction are under way, or of that address there or coming in this moment; when there is
    /// no file descriptor left; or when there would be no place for the established connection as things stand: refusing
    /// now costs less than after the handshake.
    pub fn handshake(
        &self,
        direction: Direction,
        remote: &Multiaddr,
        now: Now,
    ) -> Result<HandshakeLease, LimitError> {
        let descriptors = descriptors(remote);
        let prefixes: Vec<(Prefix, &PrefixLimit)> = match (direction, remote.ip()) {
            // Through a relay, the address is the relay's.
            (Direction::Inbound, Some(ip)) if !remote.is_relayed() => {
                let limits = self.limits().of_prefixes(ip).iter();
                limits.map(|limit| (Prefix::of(ip, limit.bits), limit)).collect()
            }
            _ => Vec::new(),
        };
        let meters = self.attempt(|limits, state| {
            state.check_prefixes(&prefixes, now)?;
            let usage = &mut state.usage;
            usage.check_connections(limits, direction)?;
            let (max, name) = match direction {
                Direction::Inbound => (limits.handshakes_inbound, "inbound handshakes"),
                Direction::Outbound => (limits.handshakes_outbound, "outbound handshakes"),
            };
            LimitError::check(*usage.handshakes_of(direction), max, name, || Scope::System)?;
            let sockets = usage.file_descriptors.saturating_add(descriptors);
            if sockets > limits.file_descriptors {
                return Err(LimitError::new("file descriptors", limits.file_descriptors, Scope::System));
            }

            usage.file_descriptors = sockets;
            take(usage.handshakes_of(direction));
            let own = Meter::new("memory per connection", limits.memory_per_connection, Scope::Transient);
            let mut meters = vec![own, self.0.memory_transient.clone()];
            for (prefix, limit) in &prefixes {
                state.rates.take(*prefix, limit, now);
                edit(&mut state.usage.prefixes, prefix, |prefix| {
                    take(&mut prefix.connections);
                    take(&mut prefix.handshakes);
                });
                let scope = Scope::Prefix(*prefix);
                meters.push(state.meter(scope, "memory per address prefix", limit.memory));
            }
            meters.push(self.0.memory.clone());
            Ok(meters)
        })?;
        let prefixes: Arc<[Prefix]> = prefixes.into_iter().map(|(prefix, _)| prefix).collect();
        Ok(HandshakeLease {
            turn: Turn { ledger: self.clone(), direction, prefixes: prefixes.clone() },
            place: Place { ledger: self.clone(), descriptors, prefixes },
            memory: MemoryScope::new(self.clone(), meters, None),
        })
    }

    /// A place among the established connections, for one that has a socket already.
    pub(super) fn seat(&self, peer: PeerId, direction: Direction) -> Result<Seat, LimitError> {
        self.attempt(|limits, state| {
            let usage = &mut state.usage;
            usage.check_connections(limits, direction)?;
            let of_peer = usage.peers.get(&peer).map_or(0, |peer| peer.connections);
            let per_peer = limits.connections_per_peer;
            LimitError::check(of_peer, per_peer, "connections per peer", || Scope::Peer(peer))?;
            take(usage.connections_of(direction));
            edit(&mut usage.peers, &peer, |peer| take(&mut peer.connections));
            Ok(())
        })?;
        Ok(Seat { ledger: self.clone(), peer, direction })
    }

    /// A place for a stream that `peer` opened on `connection`, to be [assigned](StreamLease::assign) to a protocol.
    ///
    /// # Errors
    ///
    /// When the node's, the connection's or the peer's limit is reached.
    pub fn inbound_stream(&self, connection: ConnectionId, peer: PeerId) -> Result<StreamLease, LimitError> {
        self.attempt(|limits, state| {
            let usage = &mut state.usage;
            let system = limits.streams_inbound;
            LimitError::check(usage.streams_inbound, system, "inbound streams", || Scope::System)?;
            let of_peer = usage.peers.get(&peer).map_or(0, |peer| peer.streams_inbound);
            let per_peer = limits.streams_inbound_per_peer;
            LimitError::check(of_peer, per_peer, "inbound streams per peer", || Scope::Peer(peer))?;
            let here = usage.connections.get(&connection);
            let (streams, negotiating) = here.map_or((0, 0), |one| (one.streams_inbound, one.negotiating));
            let scope = || Scope::Connection(connection);
            let max = limits.streams_inbound_per_connection;
            LimitError::check(streams, max, "inbound streams per connection", scope)?;
            let max = limits.streams_negotiating_per_connection;
            LimitError::check(negotiating, max, "negotiating streams per connection", scope)?;

            take(&mut usage.streams_inbound);
            edit(&mut usage.peers, &peer, |peer| take(&mut peer.streams_inbound));
            edit(&mut usage.connections, &connection, |connection| {
                take(&mut connection.streams_inbound);
                take(&mut connection.negotiating);
            });
            Ok(())
        })?;
        Ok(StreamLease { ledger: self.clone(), peer, kind: Kind::Inbound { connection }, protocol: None })
    }

    /// A place for a stream to `peer`.
    ///
    /// # Errors
    ///
    /// When the node's or the peer's limit is reached.
    pub fn outbound_stream(&self, peer: PeerId, protocol: &ProtocolId) -> Result<StreamLease, LimitError> {
        self.attempt(|limits, state| {
            let usage = &mut state.usage;
            let system = limits.streams_outbound;
            LimitError::check(usage.streams_outbound, system, "outbound streams", || Scope::System)?;
            let of_peer = usage.peers.get(&peer).map_or(0, |peer| peer.streams_outbound);
            let per_peer = limits.streams_outbound_per_peer;
            LimitError::check(of_peer, per_peer, "outbound streams per peer", || Scope::Peer(peer))?;

            take(&mut usage.streams_outbound);
            edit(&mut usage.peers, &peer, |peer| take(&mut peer.streams_outbound));
            edit(&mut usage.protocols, protocol, |protocol| take(&mut protocol.outbound));
            Ok(())
        })?;
        Ok(StreamLease { ledger: self.clone(), peer, kind: Kind::Outbound, protocol: Some(protocol.clone()) })
    }

    /// The memory of a stream, within that of its connection.
    pub(super) fn stream_memory(
        &self,
        protocol: &ProtocolId,
        peer: PeerId,
        connection: MemoryScope,
    ) -> MemoryScope {
        let limits = self.limits();
        let scope = Scope::ProtocolPeer(protocol.clone(), peer);
        let own = Meter::new("memory per stream", limits.memory_per_stream, scope);
        let max = limits.memory_per_protocol;
        let of_protocol = self.lock().meter(Scope::Protocol(protocol.clone()), "memory per protocol", max);
        MemoryScope::new(self.clone(), vec![own, of_protocol], Some(connection))
    }

    /// The memory of a protocol that belongs to no peer.
    pub(crate) fn protocol_memory(&self, protocol: &ProtocolId) -> MemoryScope {
        let max = self.limits().memory_per_protocol;
        let own = self.lock().meter(Scope::Protocol(protocol.clone()), "memory per protocol", max);
        MemoryScope::new(self.clone(), vec![own, self.0.memory.clone()], None)
    }

    /// What counts a connection's memory once its peer is known: its own, and the peer's.
    pub(super) fn connection_meters(&self, id: ConnectionId, peer: PeerId) -> Vec<Arc<Meter>> {
        let limits = self.limits();
        let mut state = self.lock();
        let max = limits.memory_per_connection;
        let own = state.meter(Scope::Connection(id), "memory per connection", max);
        vec![own, state.meter(Scope::Peer(peer), "memory per peer", limits.memory_per_peer)]
    }

    /// Lets go of meters, and forgets those that nobody else holds. They are handed out under the same lock, so none
    /// is forgotten that somebody is about to hold.
    pub(super) fn put_away(&self, meters: Vec<Arc<Meter>>) {
        let scopes: Vec<Scope> = meters.iter().map(|meter| meter.scope().clone()).collect();
        drop(meters);
        let mut state = self.lock();
        for scope in scopes {
            if state.meters.get(&scope).is_some_and(|meter| Arc::strong_count(meter) == 1) {
                state.meters.remove(&scope);
            }
        }
    }

    /// Takes something under the lock, and counts the refusal.
    pub(super) fn attempt<T>(
        &self,
        take: impl FnOnce(&Limits, &mut State) -> Result<T, LimitError>,
    ) -> Result<T, LimitError> {
        let mut state = self.lock();
        let taken = take(&self.0.limits, &mut state);
        if let Err(error) = &taken {
            state.count_refusal(error);
        }
        taken
    }

    /// Counts a refusal that came without the lock.
    pub(super) fn refused(&self, error: LimitError) -> LimitError {
        self.lock().count_refusal(&error);
        error
    }

    /// A panic of another holder leaves whole counts behind: nothing that is called under the lock can panic half way.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check_prefixes(&self, prefixes: &[(Prefix, &PrefixLimit)], now: Now) -> Result<(), LimitError> {
        for (prefix, limit) in prefixes {
            let used = self.usage.prefixes.get(prefix);
            let (connections, handshakes) = used.map_or((0, 0), |used| (used.connections, used.handshakes));
            let scope = || Scope::Prefix(*prefix);
            LimitError::check(connections, limit.connections, "connections per address prefix", scope)?;
            LimitError::check(handshakes, limit.handshakes, "handshakes per address prefix", scope)?;
            if !self.rates.has(*prefix, limit, now) {
                let burst = usize::try_from(limit.burst).unwrap_or(usize::MAX);
                return Err(LimitError::new("new connections per address prefix", burst, scope()));
            }
        }
        Ok(())
    }

    fn meter(&mut self, scope: Scope, limit: &'static str, max: usize) -> Arc<Meter> {
        let new = || Meter::new(limit, max, scope.clone());
        self.meters.entry(scope.clone()).or_insert_with(new).clone()
    }

    fn count_refusal(&mut self, error: &LimitError) {
        let count = self.refusals.entry(error.limit).or_default();
        *count = count.saturating_add(1);
    }
}

/// The sockets that a connection with this address takes. Those over UDP share their listener's, and those through a
/// relay run inside another connection.
fn descriptors(remote: &Multiaddr) -> usize {
    let own = |protocol: Protocol<'_>| matches!(protocol, Protocol::Tcp(_) | Protocol::Unix(_));
    usize::from(!remote.is_relayed() && remote.iter().any(own))
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("usage", &self.snapshot()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
