use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use peerage_core::PeerId;

use crate::{message::MessageId, parcel::Parcel, seen::Keyed, topic::Topic};

/// The messages of the last heartbeats, for those who ask for them (gossipsub 1.0, "Message Cache").
#[derive(Debug)]
pub(crate) struct MessageCache {
    /// Heartbeats, the newest first.
    windows: VecDeque<BTreeMap<Topic, Vec<MessageId>>>,
    /// How many of them are gossiped about.
    gossip: usize,
    messages: HashMap<MessageId, Cached, Keyed>,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Cached {
    parcel: Arc<Parcel>,
    /// How often each peer was sent it for its IWANT.
    sent: BTreeMap<PeerId, u32>,
}

impl MessageCache {
    pub(crate) fn new(history: usize, gossip: usize, max_bytes: usize, key: Keyed) -> Self {
        let windows = (0..history.max(1)).map(|_| BTreeMap::new()).collect();
        Self { windows, gossip, messages: HashMap::with_hasher(key), bytes: 0, max_bytes }
    }

    /// Keeps a message. When there are too many bytes, the oldest heartbeats are forgotten early.
    pub(crate) fn put(&mut self, parcel: &Arc<Parcel>) {
        if self.messages.contains_key(&parcel.id) {
            return;
        }
        let size = parcel.frame.len();
        while self.bytes.saturating_add(size) > self.max_bytes && !self.messages.is_empty() {
            if !self.forget_oldest() {
                break;
            }
        }
        self.bytes = self.bytes.saturating_add(size);
        let cached = Cached { parcel: parcel.clone(), sent: BTreeMap::new() };
        self.messages.insert(parcel.id.clone(), cached);
        if let Some(window) = self.windows.front_mut() {
            window.entry(parcel.message.topic.clone()).or_default().push(parcel.id.clone());
        }
    }

    /// Forgets what it has kept longest, a heartbeat's worth; `false` if there is nothing.
    pub(crate) fn forget_oldest(&mut self) -> bool {
        let oldest = self.windows.iter_mut().rev().find(|window| !window.is_empty());
        let forgotten = oldest.map(std::mem::take);
        let some = forgotten.is_some();
        forgotten.into_iter().for_each(|window| self.forget(window));
        some
    }

    /// The message, to be sent to a peer that asks for it, and how often it was sent it before.
    pub(crate) fn want(&mut self, id: &[u8], peer: PeerId) -> Option<(Arc<Parcel>, u32)> {
        let cached = self.messages.get_mut(id)?;
        let sent = cached.sent.entry(peer).or_default();
        let before = *sent;
        *sent = sent.saturating_add(1);
        Some((cached.parcel.clone(), before))
    }

    /// What others may be told of.
    pub(crate) fn gossip(&self, topic: &Topic) -> Vec<MessageId> {
        let windows = self.windows.iter().take(self.gossip);
        windows.filter_map(|window| window.get(topic)).flatten().cloned().collect()
    }

    /// A heartbeat is over.
    pub(crate) fn shift(&mut self) {
        if let Some(oldest) = self.windows.pop_back() {
            self.forget(oldest);
        }
        self.windows.push_front(BTreeMap::new());
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, window: BTreeMap<Topic, Vec<MessageId>>) {
        for id in window.into_values().flatten() {
            if let Some(cached) = self.messages.remove(&id) {
                self.bytes = self.bytes.saturating_sub(cached.parcel.frame.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use peerage_core::Keypair;

    use super::*;
    use crate::{Author, Signing};

    fn parcel(author: &Author, topic: &str) -> Arc<Parcel> {
        let topic = Topic::new(topic).unwrap();
        let message = author.write(topic, Bytes::from(vec![0; 100]), Signing::Named);
        Arc::new(Parcel::new(crate::signing::default_id(&message), message))
    }

    fn author() -> Author {
        Author::new(Keypair::from_ed25519_seed([1; 32]), 0)
    }

    #[test]
    fn three_heartbeats_are_told_of_and_five_are_kept() {
        let (mut cache, author) = (MessageCache::new(5, 3, usize::MAX, Keyed(1, 2)), author());
        let message = parcel(&author, "a");
        cache.put(&message);
        cache.put(&message);
        cache.put(&parcel(&author, "b"));
        let topic = Topic::new("a").unwrap();
        for heartbeat in 0..6 {
            assert_eq!(cache.gossip(&topic).len(), usize::from(heartbeat < 3), "{heartbeat}");
            let kept = cache.want(message.id.as_bytes(), author.peer_id());
            assert_eq!(kept.map(|(_, before)| before), (heartbeat < 5).then_some(heartbeat));
            cache.shift();
        }
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
    }

    #[test]
    fn too_many_bytes_push_out_the_oldest() {
        let author = author();
        let size = parcel(&author, "a").frame.len();
        let mut cache = MessageCache::new(5, 3, size * 3, Keyed(1, 2));
        for _ in 0..3 {
            cache.put(&parcel(&author, "a"));
            cache.shift();
        }
        let message = parcel(&author, "a");
        cache.put(&message);
        assert_eq!(cache.len(), 3);
        assert!(cache.want(message.id.as_bytes(), author.peer_id()).is_some());
        assert_eq!(cache.bytes(), size * 3);
    }
}
