use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use peerage_core::{Multiaddr, Now, PeerId};
use tokio::sync::{broadcast, watch};

use crate::{addresses::OwnAddress, counters::Counters, hub::ConnInfo, identify};

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
    /// Somebody's incoming connection did not come about. Ten of them in a second are told of
    /// ([`MAX_INCOMING_FAILED`]): strangers could drown everything else in them.
    IncomingFailed {
        /// From where.
        remote: Multiaddr,
        /// Why, whose fault, and how far it came.
        why: String,
        /// How many others failed since the last event of this kind, and were not told of.
        left_out: u64,
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
/// [`Event::IncomingFailed`] of one second at most.
pub const MAX_INCOMING_FAILED: u32 = 10;

/// Decides which failures of incoming connections are told of.
#[derive(Debug, Default)]
pub(crate) struct FailedIncoming {
    /// When the second began that is counted, and how many were told of in it.
    second: Option<(Instant, u32)>,
    left_out: u64,
}

impl FailedIncoming {
    /// One more has failed: how many were left out before it, or `None` if it is left out itself.
    pub(crate) fn left_out(&mut self, now: Now) -> Option<u64> {
        let second = self.second.filter(|(began, _)| now.since(*began) < Duration::from_secs(1));
        let (began, told) = second.unwrap_or((now.mono, 0));
        if told >= MAX_INCOMING_FAILED {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.second = Some((began, told.saturating_add(1)));
        Some(std::mem::take(&mut self.left_out))
    }
}

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

#[cfg(test)]
mod tests {
    use peerage_core::engine::sim;

    use super::*;

    #[test]
    fn a_flood_of_failures_is_ten_a_second_and_a_number() {
        let (mut failed, start) = (FailedIncoming::default(), sim::start());
        for _ in 0..MAX_INCOMING_FAILED {
            assert_eq!(failed.left_out(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(failed.left_out(start), None);
        }
        let after = |millis| Now { mono: start.after(Duration::from_millis(millis)), ..start };
        assert_eq!(failed.left_out(after(999)), None);
        assert_eq!(failed.left_out(after(1000)), Some(1001));
        assert_eq!(failed.left_out(after(1000)), Some(0));
    }
}
