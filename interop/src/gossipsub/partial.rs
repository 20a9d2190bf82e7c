//! The suite's messages that travel in parts: each has eight of 1 KiB, and metadata is one byte that says which are there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use peerage::pubsub::{
    Handle,
    partial::{Have, Hearer, NotMetadata, PublishError, Received, Say, Subscription},
};

use super::log::Log;

/// How many parts a message has; bit `n` of a bitmap, the lowest first, is part `n`.
const COUNT: usize = 8;
/// Bytes of a part.
const PART: usize = 1024;
/// Bytes of a group id: the number of the message, the highest first.
const GROUP: usize = 8;
/// The messages of which is kept what there is; with more than so many nothing is taken any more. A script has some dozens.
const MAX_MESSAGES: usize = 4096;

/// What a node has of all messages, and the node that publishes that. Clones are the same.
#[derive(Clone)]
pub(super) struct Collector {
    gossip: Handle,
    log: Log,
    messages: Arc<Mutex<HashMap<(String, u64), Parts>>>,
}

impl Collector {
    pub(super) fn new(gossip: Handle, log: Log) -> Self {
        Self { gossip, log, messages: Arc::default() }
    }

    /// These parts of a message are there.
    pub(super) fn add(&self, topic: &str, group: u64, parts: u8) {
        let mut messages = self.lock();
        let message = entry(&mut messages, topic, group);
        let was_whole = message.is_whole();
        message.fill(parts);
        if message.is_whole() && !was_whole {
            self.log.whole(group);
        }
    }

    /// Says what is there of a message, be it nothing; how many peers hear that.
    pub(super) async fn publish(&self, topic: &str, group: u64) -> Result<usize, PublishError> {
        let message = entry(&mut self.lock(), topic, group).clone();
        let id = group.to_be_bytes().to_vec();
        self.gossip.publish_partial(topic, id, Arc::new(message)).await.map(|published| published.peers)
    }

    /// Takes what others say of a topic's messages, and says what is there then.
    pub(super) async fn collect(self, mut subscription: Subscription) {
        while let Some(heard) = subscription.next().await {
            let Ok(group) = <[u8; GROUP]>::try_from(&heard.group[..]) else { continue };
            let group = u64::from_be_bytes(group);
            if self.take(&heard, group)
                && let Err(error) = self.publish(heard.topic.as_str(), group).await
            {
                eprintln!("message {group}: {error}");
            }
        }
    }

    /// Takes what one has said of a message; whether it has to hear what is there now, or others have.
    fn take(&self, heard: &Received, group: u64) -> bool {
        let mut messages = self.lock();
        if messages.len() >= MAX_MESSAGES {
            return false;
        }
        let message = entry(&mut messages, heard.topic.as_str(), group);
        let new = heard.parts.as_deref().map_or(Some(false), |parts| message.take(parts));
        let Some(new) = new else {
            eprintln!("{} has sent what are no parts of message {group}", heard.received_from);
            return false;
        };
        if new && message.is_whole() {
            self.log.whole(group);
        }
        new || heard.metadata.as_deref().is_some_and(|metadata| metadata != [message.there()])
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, u64), Parts>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry<'a>(messages: &'a mut HashMap<(String, u64), Parts>, topic: &str, group: u64) -> &'a mut Parts {
    messages.entry((topic.to_owned(), group)).or_insert_with(|| Parts { group, parts: Default::default() })
}

/// What there is of one message.
#[derive(Clone, Debug, PartialEq)]
struct Parts {
    group: u64,
    parts: [Option<[u8; PART]>; COUNT],
}

impl Parts {
    /// Which parts are there.
    fn there(&self) -> u8 {
        let bits = self.parts.iter().enumerate().filter(|(_, part)| part.is_some()).map(|(n, _)| 1 << n);
        bits.sum()
    }

    fn is_whole(&self) -> bool {
        self.there() == u8::MAX
    }

    /// Makes those parts that are named. A message is numbers of 64 bits, the highest byte first, that count up from its own.
    fn fill(&mut self, named: u8) {
        let mut number = self.group;
        for (n, part) in self.parts.iter_mut().enumerate() {
            let mut made = [0; PART];
            for place in made.chunks_exact_mut(GROUP) {
                place.copy_from_slice(&number.to_be_bytes());
                number = number.wrapping_add(1);
            }
            if named >> n & 1 == 1 {
                part.get_or_insert(made);
            }
        }
    }

    /// Takes what a peer has sent: which parts, they themselves, and the group id again. Whether any is new; nothing, if it is
    /// not that. What is in the parts is not looked at: go's program of the suite makes others.
    fn take(&mut self, sent: &[u8]) -> Option<bool> {
        let (which, rest) = sent.split_first()?;
        let rest = rest.strip_suffix(&self.group.to_be_bytes())?;
        let (parts, []) = rest.as_chunks::<PART>() else { return None };
        if parts.len() != which.count_ones() as usize {
            return None;
        }
        let before = self.there();
        let places = self.parts.iter_mut().enumerate().filter(|(n, _)| which >> n & 1 == 1);
        for ((_, place), part) in places.zip(parts) {
            place.get_or_insert(*part);
        }
        Some(self.there() != before)
    }
}

/// Who has spoken is given all that it lacks, as by the suite's other programs.
impl Have for Parts {
    fn say(&self, to: &Hearer<'_>) -> Result<Say, NotMetadata> {
        let theirs = match to.metadata.map(|metadata| &metadata[..]) {
            Some([theirs]) => *theirs,
            Some(_) => return Err(NotMetadata),
            None => u8::MAX,
        };
        let mut given = to.given.first().copied().unwrap_or_default();
        let room = to.room.saturating_sub(1 + GROUP) / PART;
        let lacks = |n: usize| (theirs | given) >> n & 1 == 0;
        let parts = self.parts.iter().enumerate().filter_map(|(n, part)| Some((n, part.as_ref()?)));
        let parts: Vec<_> = parts.filter(|(n, _)| to.takes_parts && lacks(*n)).take(room).collect();
        let mut sent = Vec::new();
        if !parts.is_empty() {
            let which: u8 = parts.iter().map(|(n, _)| 1 << n).sum();
            sent.push(which);
            parts.iter().for_each(|(_, part)| sent.extend_from_slice(*part));
            sent.extend_from_slice(&self.group.to_be_bytes());
            given |= which;
        }
        Ok(Say { metadata: vec![self.there()].into(), parts: sent.into(), given: vec![given].into() })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::gossipsub::network::keypair;

    fn parts(group: u64, there: u8) -> Parts {
        let mut parts = Parts { group, parts: Default::default() };
        parts.fill(there);
        parts
    }

    /// As the suite's specification of its Go program has it: from `part[0][0..8]` on, which is the group id, numbers count up.
    #[test]
    fn a_message_counts_from_its_number() {
        let whole = parts(7, u8::MAX);
        assert!(whole.is_whole());
        let number = |part: usize, at: usize| {
            u64::from_be_bytes(whole.parts[part].unwrap()[at..at + 8].try_into().unwrap())
        };
        assert_eq!(
            (number(0, 0), number(0, 8), number(1, 0), number(7, PART - 8)),
            (7, 8, 7 + 128, 7 + 1023)
        );
        assert_eq!(parts(7, 0b101).there(), 0b101);
        assert_eq!(parts(7, 0b101).parts[2], whole.parts[2]);
    }

    #[test]
    fn who_has_spoken_is_given_what_it_lacks_once() {
        let have = parts(7, 0b1101);
        let say = |theirs: Option<&[u8]>, given: &[u8], room: usize| {
            let (theirs, given) = (theirs.map(Bytes::copy_from_slice), Bytes::copy_from_slice(given));
            let mut to = Hearer::new(keypair(1).peer_id(), &given);
            (to.metadata, to.room) = (theirs.as_ref(), room);
            have.say(&to)
        };
        let said = say(Some(&[0b0001]), &[], usize::MAX).unwrap();
        assert_eq!(
            (&said.metadata[..], &said.given[..], said.parts[0]),
            (&[0b1101][..], &[0b1100][..], 0b1100)
        );
        let mut theirs = parts(7, 0b0001);
        assert_eq!((theirs.take(&said.parts), theirs), (Some(true), parts(7, 0b1101)));
        assert_eq!(parts(7, 0b1101).take(&said.parts), Some(false));
        assert!(say(Some(&[0b0001]), &[0b1100], usize::MAX).unwrap().parts.is_empty());
        assert!(say(None, &[], usize::MAX).unwrap().parts.is_empty(), "it may have everything");
        let two = 1 + 2 * PART + GROUP;
        assert_eq!(say(Some(&[0]), &[], two).unwrap().parts.len(), two);
        assert_eq!(say(Some(&[0]), &[], two - 1).unwrap().given[0], 0b0001);
        assert_eq!(
            (say(Some(&[]), &[], 0), say(Some(&[0, 0]), &[], 0)),
            (Err(NotMetadata), Err(NotMetadata))
        );
    }

    #[test]
    fn what_are_no_parts_is_refused() {
        let sent = |which: u8, parts: usize, group: u64| {
            let mut sent = vec![which];
            sent.resize(1 + parts, 0);
            sent.extend(group.to_be_bytes());
            parts_of_seven().take(&sent)
        };
        assert_eq!(sent(0b11, 2 * PART, 7), Some(true));
        assert_eq!(sent(0, 0, 7), Some(false));
        assert_eq!(sent(0b11, 2 * PART, 8), None, "another message");
        for (which, bytes) in [(0b11, PART), (0b1, 2 * PART), (0b1, PART - 1), (0b1, PART + 1)] {
            assert_eq!(sent(which, bytes, 7), None);
        }
        assert_eq!((parts_of_seven().take(&[]), parts_of_seven().take(&[0])), (None, None));
    }

    fn parts_of_seven() -> Parts {
        parts(7, 0)
    }
}
