use std::{fmt, sync::Arc};

use super::Received;
use crate::{handle::Handle, inbox::Inbox, topic::Topic};

/// What peers say of a topic's partial messages. The topic is wanted as long as there is one of these.
///
/// Who reads too slowly misses some: what waits is bounded
/// ([`Config::subscriber_queue`](crate::Config::subscriber_queue) and `subscriber_bytes`), and nobody else waits for it.
pub struct Subscription {
    handle: Handle,
    topic: Topic,
    id: u64,
    inbox: Arc<Inbox<Received>>,
}

impl Subscription {
    pub(crate) fn new(handle: Handle, topic: Topic, id: u64, inbox: Arc<Inbox<Received>>) -> Self {
        Self { handle, topic, id, inbox }
    }

    /// The next; `None` once gossip, or its node, has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Received> {
        tokio::select! {
            biased;
            received = self.inbox.next() => Some(received),
            () = self.handle.closed() => None,
        }
    }

    /// The next, if there is one now.
    pub fn try_next(&mut self) -> Option<Received> {
        self.inbox.try_next()
    }

    /// How many were missed since this was asked the last time.
    pub fn missed(&self) -> u64 {
        self.inbox.missed()
    }

    /// What it is of.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.unsubscribe(&self.topic, self.id);
    }
}
