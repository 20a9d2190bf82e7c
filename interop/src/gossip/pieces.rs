//! What our node has of messages that travel in parts. A message's group is its name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use peerage::pubsub::{
    Handle,
    partial::{Pieces, Received as Heard, Subscription},
};
use tokio::sync::mpsc;

use super::message;
use crate::process::Received;

/// How many pieces every message has.
const COUNT: usize = 16;

/// Which pieces of a message a node has at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    All,
    /// The first, the third and so on.
    Even,
    /// The others.
    Odd,
}

impl Share {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Even => "even",
            Self::Odd => "odd",
        }
    }

    fn has(self, number: usize) -> bool {
        self == Self::All || number.is_multiple_of(2) == (self == Self::Even)
    }
}

/// What there is of each message, by its topic and group.
type Messages = HashMap<(String, Vec<u8>), Pieces>;

/// The messages, and the node that publishes what there is of them. Clones are the same.
#[derive(Clone)]
pub(super) struct Collector {
    gossip: Handle,
    messages: Arc<Mutex<Messages>>,
    /// Where messages go that have become whole.
    whole: mpsc::Sender<Received>,
}

impl Collector {
    pub(super) fn new(gossip: Handle, whole: mpsc::Sender<Received>) -> Self {
        Self { gossip, messages: Arc::default(), whole }
    }

    pub(super) async fn publish(
        &self,
        topic: &str,
        name: &str,
        bytes: usize,
        share: Share,
    ) -> Result<(), String> {
        let wrong = |error: &dyn std::fmt::Display| error.to_string();
        let all = Pieces::cut(&message::write(name, bytes), COUNT).map_err(|error| wrong(&error))?;
        let pieces = {
            let mut messages = self.lock();
            let pieces = entry(&mut messages, topic, name.as_bytes())?;
            for number in (0..COUNT).filter(|number| share.has(*number)) {
                if let Some(piece) = all.piece(number) {
                    pieces.put(number, piece.clone());
                }
            }
            pieces.clone()
        };
        if let Some(whole) = pieces.whole().filter(|_| share != Share::All) {
            // The others have given the rest before this had its share.
            self.tell(topic, name.as_bytes(), &whole).await?;
        }
        let published = self.gossip.publish_partial(topic, name.to_owned(), Arc::new(pieces)).await;
        published.map(drop).map_err(|error| wrong(&error))
    }

    /// Takes what others have, asks for the rest, and hands on what is whole then.
    pub(super) async fn collect(self, mut subscription: Subscription) {
        while let Some(heard) = subscription.next().await {
            let taken = self.take(&heard);
            let Ok((pieces, whole)) = taken else {
                self.gossip.reject_partial(&heard).await;
                continue;
            };
            if let Some(whole) = whole {
                let told = self.tell(heard.topic.as_str(), &heard.group, &whole).await;
                if told.is_err() {
                    return;
                }
            }
            let topic = heard.topic.as_str();
            let _ = self.gossip.publish_partial(topic, heard.group.clone(), Arc::new(pieces)).await;
        }
    }

    /// What there is of a message with what was heard of it, and the message, if it was not whole before.
    fn take(&self, heard: &Heard) -> Result<(Pieces, Option<Vec<u8>>), String> {
        let mut messages = self.lock();
        let pieces = entry(&mut messages, heard.topic.as_str(), &heard.group)?;
        let mut new = 0;
        if let Some(parts) = &heard.parts {
            new = pieces.take(parts, |_, _| true).map_err(|error| error.to_string())?;
        }
        if let Some(metadata) = &heard.metadata {
            pieces.ask(heard.received_from, metadata).map_err(|error| error.to_string())?;
        }
        Ok((pieces.clone(), pieces.whole().filter(|_| new > 0)))
    }

    async fn tell(&self, topic: &str, group: &[u8], whole: &[u8]) -> Result<(), String> {
        let (name, intact) = message::read(whole);
        let intact = intact && name.as_bytes() == group;
        let (topic, bytes) = (topic.to_owned(), whole.len());
        let received = Received { topic, name, bytes, intact, author: String::new() };
        self.whole.send(received).await.map_err(|_| "nobody listens".to_owned())
    }

    fn lock(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is of a message.
fn entry<'a>(messages: &'a mut Messages, topic: &str, group: &[u8]) -> Result<&'a mut Pieces, String> {
    let nothing = Pieces::nothing(COUNT).map_err(|error| error.to_string())?;
    Ok(messages.entry((topic.to_owned(), group.to_vec())).or_insert(nothing))
}
