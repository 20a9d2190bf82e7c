use std::{fmt, sync::Arc};

use peerage_core::{PeerId, ProtocolId};

use super::{
    ConnectionId, Direction, Ledger, LimitError, MemoryScope, Prefix, Scope, StreamLimits,
    usage::{edit, give, take},
};

/// A socket, and a place among the connections of its address: from before the handshake until the connection is gone.
#[must_use = "dropping a lease gives the place back"]
pub struct Place {
    pub(super) ledger: Ledger,
    pub(super) descriptors: usize,
    /// Of the address, where it is limited.
    pub(super) prefixes: Arc<[Prefix]>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.ledger.lock();
        let usage = &mut state.usage;
        usage.file_descriptors = usage.file_descriptors.saturating_sub(self.descriptors);
        for prefix in self.prefixes.iter() {
            edit(&mut usage.prefixes, prefix, |prefix| give(&mut prefix.connections));
        }
    }
}

/// A place among the handshakes under way, until it is dropped or [admitted](Self::admit).
#[must_use = "dropping a lease gives the place back"]
pub struct HandshakeLease {
    pub(super) turn: Turn,
    pub(super) place: Place,
    pub(super) memory: MemoryScope,
}

/// The part of a handshake's place that ends with the handshake.
pub(super) struct Turn {
    pub(super) ledger: Ledger,
    pub(super) direction: Direction,
    pub(super) prefixes: Arc<[Prefix]>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.ledger.lock();
        give(state.usage.handshakes_of(self.direction));
        for prefix in self.prefixes.iter() {
            edit(&mut state.usage.prefixes, prefix, |prefix| give(&mut prefix.handshakes));
        }
    }
}

/// A connection for which there was no place after its handshake. It keeps its socket and its address's place while it
/// says goodbye.
#[derive(Debug)]
pub struct NotAdmitted {
    /// Which limit stands in the way.
    pub error: Box<LimitError>,
    /// What it had.
    pub place: Place,
}

impl HandshakeLease {
    /// The memory of the connection in the making.
    pub fn memory(&self) -> &MemoryScope {
        &self.memory
    }

    /// For one that is not wanted, and only says goodbye.
    pub fn into_place(self) -> Place {
        self.place
    }

    /// The handshake is done: it gives its place back and takes that of an established connection. From now on `peer`
    /// is charged.
    ///
    /// # Errors
    /// [`NotAdmitted`], when the direction's, the total, or the peer's limit is reached, or the memory that was taken
    /// meanwhile is more than the peer may have.
    pub fn admit(self, peer: PeerId, id: ConnectionId) -> Result<ConnectionLease, NotAdmitted> {
        let Self { turn, place, memory } = self;
        let direction = turn.direction;
        drop(turn);
        let ledger = place.ledger.clone();
        let seat = match memory.admit(id, peer) {
            Ok(()) => ledger.seat(peer, direction),
            Err(error) => Err(error),
        };
        match seat {
            Ok(seat) => Ok(ConnectionLease { seat, place, memory }),
            Err(error) => Err(NotAdmitted { error: Box::new(error), place }),
        }
    }
}

/// A place among the established connections, until it is dropped.
#[must_use = "dropping a lease gives the place back"]
pub struct ConnectionLease {
    pub(super) seat: Seat,
    pub(super) place: Place,
    pub(super) memory: MemoryScope,
}

/// The part of a connection's place that ends when it is refused, before it has said goodbye.
pub(super) struct Seat {
    pub(super) ledger: Ledger,
    pub(super) peer: PeerId,
    pub(super) direction: Direction,
}

impl ConnectionLease {
    /// The memory of the connection.
    pub fn memory(&self) -> &MemoryScope {
        &self.memory
    }

    /// For one that only says goodbye: it counts as a connection no more, but it still has a socket.
    pub fn into_place(self) -> Place {
        self.place
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.ledger.lock();
        give(state.usage.connections_of(self.direction));
        edit(&mut state.usage.peers, &self.peer, |peer| give(&mut peer.connections));
    }
}

/// A place among the streams, until it is dropped. It may outlive its connection.
#[must_use = "dropping a lease gives the place back"]
pub struct StreamLease {
    pub(super) ledger: Ledger,
    pub(super) peer: PeerId,
    pub(super) kind: Kind,
    pub(super) protocol: Option<ProtocolId>,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
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
        let (peer, former) = (self.peer, &mut self.protocol);
        self.ledger.attempt(|limits, state| {
            let usage = &mut state.usage;
            let total = own.inbound_total.min(limits.streams_inbound_per_protocol);
            let used = usage.protocol_inbound(protocol);
            LimitError::check(used, total, "inbound streams per protocol", || {
                Scope::Protocol(protocol.clone())
            })?;
            let of_peer = usage.peers.get(&peer).and_then(|peer| peer.inbound_by_protocol.get(protocol));
            let per_peer = own.inbound_per_peer.min(limits.streams_inbound_per_protocol_and_peer);
            let name = "inbound streams per protocol and peer";
            LimitError::check(of_peer.copied().unwrap_or(0), per_peer, name, || {
                Scope::ProtocolPeer(protocol.clone(), peer)
            })?;

            edit(&mut usage.protocols, protocol, |protocol| take(&mut protocol.inbound));
            edit(&mut usage.peers, &peer, |peer| edit(&mut peer.inbound_by_protocol, protocol, take));
            match former.replace(protocol.clone()) {
                Some(former) => usage.give_inbound_protocol(&former, &peer),
                None => edit(&mut usage.connections, &connection, |one| give(&mut one.negotiating)),
            }
            Ok(())
        })
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        let mut state = self.ledger.lock();
        let usage = &mut state.usage;
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

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("descriptors", &self.descriptors)
            .field("prefixes", &self.prefixes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HandshakeLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeLease").field("direction", &self.turn.direction).finish_non_exhaustive()
    }
}

impl fmt::Debug for ConnectionLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLease")
            .field("peer", &self.seat.peer)
            .field("direction", &self.seat.direction)
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
