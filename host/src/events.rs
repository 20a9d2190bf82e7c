use std::sync::Arc;

use peerage_core::{Multiaddr, PeerId};
use tokio::sync::{broadcast, watch};

use crate::{addresses::OwnAddress, hub::ConnInfo, identify, metrics::Counters};

/// What happens on a node. Every subscriber has its own bounded queue; one that is too slow loses the oldest events
/// and is told how many.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The node accepts connections on an address (without its peer id).
    Listening {
        /// The address, its port resolved.
        address: Multiaddr,
    },
    /// The node does not listen on an address any more; if it failed, it tries to bind it again.
    NotListening {
        /// The address.
        address: Multiaddr,
        /// Why.
        why: String,
    },
    /// The node's own addresses have changed. Several changes within a second are one event.
    OwnAddresses {
        /// All that are known now.
        addresses: Vec<OwnAddress>,
    },
    /// A connection was established, its peer's identity proven.
    Connected {
        /// The connection.
        connection: ConnInfo,
        /// Whether it is the only one with that peer.
        first: bool,
    },
    /// A connection ended.
    Disconnected {
        /// The connection.
        connection: ConnInfo,
        /// Whether it was the last one with that peer.
        last: bool,
        /// Why.
        why: String,
    },
    /// Somebody's incoming connection did not come about.
    IncomingFailed {
        /// From where.
        remote: Multiaddr,
        /// Why, whose fault, and how far it came.
        why: String,
    },
    /// A peer said who it is.
    Identified {
        /// The peer.
        peer: PeerId,
        /// What it said.
        info: std::sync::Arc<identify::Info>,
    },
    /// An actor panicked and was, or will be, started again.
    ActorPanicked {
        /// Its path in the tree.
        actor: String,
        /// What the panic said.
        panic: String,
        /// The peer whose input provoked it.
        peer: Option<PeerId>,
    },
    /// An actor panicked too often and stays off; the others live on.
    ActorSwitchedOff {
        /// Its path in the tree.
        actor: String,
        /// Its last end.
        why: String,
    },
    /// A peer provoked too many panics; its connections are refused for a while.
    PeerBanned {
        /// The peer.
        peer: PeerId,
        /// For how long.
        duration: std::time::Duration,
        /// Why.
        why: String,
    },
    /// The store fails: nothing is kept until it works again. The node goes on from memory. Told once a minute at most.
    StoreFailed {
        /// Why.
        why: String,
    },
    /// The store works again; what was not written is written now.
    StoreResumed,
    /// The store's file was damaged. It was renamed, and an empty one has taken its place. If that was found at the
    /// node's start, the first subscriber is told.
    StoreDamaged {
        /// Where the damaged file is now.
        moved_to: std::path::PathBuf,
        /// What was wrong with it.
        why: String,
    },
    /// This subscriber was too slow: that many events are lost to it.
    Missed(
        /// How many.
        u64,
    ),
}

/// Events that wait for one subscriber at most.
pub(crate) const QUEUE: usize = 1024;

/// A subscription to a node's events, from the moment it was made.
#[derive(Debug)]
pub struct Events {
    events: broadcast::Receiver<Event>,
    ended: watch::Receiver<Option<String>>,
    /// What happened before anybody could subscribe.
    first: Option<Event>,
    counters: Arc<Counters>,
}

impl Events {
    pub(crate) fn new(
        events: broadcast::Receiver<Event>,
        ended: watch::Receiver<Option<String>>,
        first: Option<Event>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { events, ended, first, counters }
    }

    /// The next event; `None` once the node has ended and all were read. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event,
            _ = self.ended.wait_for(Option::is_some) => return None,
        };
        match event {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                self.counters.missed(missed);
                Some(Event::Missed(missed))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
