use std::time::Duration;

use peerage_core::{Multiaddr, PeerId};
use peerage_host::Port;
use tokio::sync::broadcast::{self, error::RecvError};

use super::engine::{Command, Engine};

/// Events that wait for one subscriber at most; the oldest are lost to one that is slower.
pub const MAX_EVENTS: usize = 256;

/// Tells who is found. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) port: Port<Engine>,
    /// Subscriptions are made of it; it must not keep them from ending, so it is not a sender.
    pub(super) events: Subscriptions,
}

/// A peer that is on one of this node's links, by its own account: nothing of it is proven before there is a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Who.
    pub peer: PeerId,
    /// Where, without the peer id; each leads to the link that it was heard on.
    pub addresses: Vec<Multiaddr>,
    /// How long that holds, unless the peer says it again, as it does when it is there.
    pub expires_in: Duration,
}

/// Who comes and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer is there, or can be reached in more places than before.
    Found {
        /// Who.
        peer: PeerId,
        /// All addresses that are known, without the peer id.
        addresses: Vec<Multiaddr>,
    },
    /// A peer has said goodbye, or nothing for too long.
    Expired {
        /// Who.
        peer: PeerId,
    },
    /// This subscriber was too slow: that many events are lost to it. [`Handle::peers`] says what is the case.
    Missed(
        /// How many.
        u64,
    ),
}

/// mDNS, or its node, is not running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mDNS is not running")]
pub struct Closed;

/// A subscription to who comes and goes, from the moment it was made.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

/// What subscriptions are made of.
#[derive(Clone, Debug)]
pub(super) struct Subscriptions(pub(super) broadcast::WeakSender<Event>);

impl Handle {
    /// Who is known to be there now, in the order of their ids.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn peers(&self) -> Result<Vec<Found>, Closed> {
        self.port.ask(Command::Peers).await.map_err(|_| Closed)
    }

    /// Subscribes to who comes and goes from now on.
    pub fn events(&self) -> Events {
        match self.events.0.upgrade() {
            Some(events) => Events(events.subscribe()),
            // The node has ended: there is nothing to come.
            None => Events(broadcast::channel(1).1),
        }
    }
}

impl Events {
    /// The next event; `None` once the node has ended and all were read. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;

    use super::*;

    #[tokio::test]
    async fn a_slow_subscriber_is_told_how_many_it_missed() {
        let (sender, receiver) = broadcast::channel(MAX_EVENTS);
        let mut events = Events(receiver);
        let peer = Keypair::from_ed25519_seed([1; 32]).peer_id();
        for _ in 0..MAX_EVENTS + 3 {
            sender.send(Event::Expired { peer }).unwrap();
        }
        assert_eq!(events.next().await, Some(Event::Missed(3)));
        for _ in 0..MAX_EVENTS {
            assert_eq!(events.next().await, Some(Event::Expired { peer }));
        }
        drop(sender);
        assert_eq!(events.next().await, None);
    }
}
