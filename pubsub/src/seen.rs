use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, DefaultHasher, Hasher as _},
    time::{Duration, Instant},
};

use peerage_core::Now;

use crate::message::MessageId;

/// How long a message counts as known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remember {
    /// From when it was seen first.
    #[default]
    FirstSeen,
    /// From when it was seen last: for networks in which old messages come around for long.
    LastSeen,
}

/// Hashes with a key, so that no peer can choose ids that collide, and the same in every run of the same seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed(pub(crate) u64, pub(crate) u64);

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher.write_u64(self.1);
        hasher
    }
}

/// The ids of the messages that were seen.
#[derive(Debug)]
pub(crate) struct Seen {
    remember: Remember,
    ttl: Duration,
    max: usize,
    until: HashMap<MessageId, Instant, Keyed>,
    /// In the order in which they were entered; a time that was moved since is looked up.
    order: VecDeque<(Instant, MessageId)>,
}

impl Seen {
    pub(crate) fn new(remember: Remember, ttl: Duration, max: usize, key: Keyed) -> Self {
        Self { remember, ttl, max, until: HashMap::with_hasher(key), order: VecDeque::new() }
    }

    /// All that was seen, for another one; nothing is left here.
    pub(crate) fn hand_on(&mut self) -> Self {
        let empty = Self::new(self.remember, self.ttl, self.max, Keyed(0, 0));
        std::mem::replace(self, empty)
    }

    /// Whether this message was seen.
    pub(crate) fn contains(&self, id: &[u8]) -> bool {
        self.until.contains_key(id)
    }

    /// The same, of a copy that has come.
    pub(crate) fn again(&mut self, id: &MessageId, now: Now) -> bool {
        match self.until.get_mut(id) {
            Some(until) => {
                if self.remember == Remember::LastSeen {
                    *until = now.after(self.ttl);
                }
                true
            }
            None => false,
        }
    }

    /// Enters a message; `false` if it was there. The oldest gives way when there are too many.
    pub(crate) fn insert(&mut self, id: MessageId, now: Now) -> bool {
        if self.again(&id, now) {
            return false;
        }
        while self.until.len() >= self.max {
            let Some((_, oldest)) = self.order.pop_front() else { break };
            self.until.remove(&oldest);
        }
        let until = now.after(self.ttl);
        self.until.insert(id.clone(), until);
        self.order.push_back((until, id));
        true
    }

    /// Forgets what is over.
    pub(crate) fn expire(&mut self, now: Now) {
        while self.order.front().is_some_and(|(until, _)| *until <= now.mono) {
            let Some((_, id)) = self.order.pop_front() else { break };
            match self.until.get(&id) {
                Some(until) if *until > now.mono => self.order.push_back((*until, id)),
                _ => drop(self.until.remove(&id)),
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.until.len()
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::engine::sim;

    use super::*;

    fn seen(remember: Remember) -> Seen {
        Seen::new(remember, Duration::from_secs(120), 3, Keyed(1, 2))
    }

    fn id(n: u8) -> MessageId {
        MessageId::new([n]).unwrap()
    }

    #[test]
    fn from_the_first_time_or_from_the_last() {
        let start = sim::start();
        let at = |secs| start.plus(Duration::from_secs(secs));
        for (remember, still) in [(Remember::FirstSeen, false), (Remember::LastSeen, true)] {
            let mut seen = seen(remember);
            assert!(seen.insert(id(1), at(0)));
            seen.expire(at(119));
            assert!(seen.again(&id(1), at(119)));
            seen.expire(at(120));
            assert_eq!(seen.contains(&[1]), still, "{remember:?}");
            seen.expire(at(239));
            assert_eq!(seen.len(), 0);
            assert!(seen.order.is_empty());
        }
    }

    #[test]
    fn the_oldest_gives_way() {
        let (mut seen, now) = (seen(Remember::FirstSeen), sim::start());
        for n in 1..=4 {
            assert!(seen.insert(id(n), now));
            assert!(!seen.insert(id(n), now));
        }
        assert_eq!(seen.len(), 3);
        assert!(!seen.contains(&[1]) && seen.contains(&[2]));
    }
}
