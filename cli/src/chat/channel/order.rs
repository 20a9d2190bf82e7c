//! What one author says, in the order in which it was said: gossip promises none, since signatures are verified several at a
//! time and messages go different ways. Authors number their messages without gaps.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use peerage::PeerId;

/// So long a message waits for those before it, which may be lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// Messages of one author that wait.
const MAX_WAITING: usize = 64;
/// Authors whose numbers are known. With more, what they say comes as it comes.
const MAX_AUTHORS: usize = super::people::MAX_PEOPLE;

pub(super) struct Order<T>(BTreeMap<PeerId, Author<T>>);

struct Author<T> {
    next: u64,
    waiting: BTreeMap<u64, T>,
    since: Option<Instant>,
}

impl<T> Order<T> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes a message, and gives those whose turn it is.
    pub(super) fn take(&mut self, author: PeerId, number: Option<u64>, message: T, now: Instant) -> Vec<T> {
        let Some(number) = number else { return vec![message] };
        if !self.0.contains_key(&author) {
            if self.0.len() < MAX_AUTHORS {
                let next = number.saturating_add(1);
                self.0.insert(author, Author { next, waiting: BTreeMap::new(), since: None });
            }
            return vec![message];
        }
        let Some(known) = self.0.get_mut(&author) else { return vec![message] };
        if number < known.next {
            // Its place is gone.
            return vec![message];
        }
        known.waiting.insert(number, message);
        known.since.get_or_insert(now);
        if known.waiting.len() > MAX_WAITING { known.all() } else { known.due() }
    }

    /// Those that have waited long enough.
    pub(super) fn late(&mut self, now: Instant) -> Vec<(PeerId, T)> {
        let late = |author: &Author<T>| {
            author.since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE)
        };
        let authors = self.0.iter_mut().filter(|(_, author)| late(author));
        authors.flat_map(|(peer, author)| author.all().into_iter().map(|message| (*peer, message))).collect()
    }

    /// Forgets an author, who is gone; what still waited.
    pub(super) fn forget(&mut self, author: PeerId) -> Vec<T> {
        self.0.remove(&author).map(|mut author| author.all()).unwrap_or_default()
    }
}

impl<T> Author<T> {
    fn due(&mut self) -> Vec<T> {
        let mut due = Vec::new();
        while let Some(message) = self.waiting.remove(&self.next) {
            due.push(message);
            self.next = self.next.saturating_add(1);
        }
        if self.waiting.is_empty() {
            self.since = None;
        }
        due
    }

    fn all(&mut self) -> Vec<T> {
        if let Some(last) = self.waiting.keys().next_back() {
            self.next = last.saturating_add(1);
        }
        self.since = None;
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use peerage::Keypair;

    use super::*;

    fn peer(seed: u8) -> PeerId {
        Keypair::from_ed25519_seed([seed; 32]).peer_id()
    }

    #[test]
    fn messages_come_in_the_order_of_their_numbers() {
        let (mut order, now) = (Order::new(), Instant::now());
        let mut take = |number: u64| order.take(peer(1), Some(number), number, now);
        assert_eq!(take(10), [10], "whatever the first is");
        assert!(take(13).is_empty() && take(12).is_empty());
        assert_eq!(take(11), [11, 12, 13]);
        assert_eq!(take(9), [9], "too late for its place");
        assert_eq!(take(14), [14]);
        assert_eq!(order.take(peer(2), Some(1), 1, now), [1], "authors are apart");
        assert_eq!(order.take(peer(1), None, 0, now), [0]);
    }

    #[test]
    fn what_is_lost_is_not_waited_for_longer() {
        let (mut order, now) = (Order::new(), Instant::now());
        let author = peer(1);
        order.take(author, Some(1), 1, now);
        assert!(order.take(author, Some(4), 4, now).is_empty());
        assert!(order.take(author, Some(3), 3, now + PATIENCE / 2).is_empty());
        assert!(order.late(now + PATIENCE - Duration::from_millis(1)).is_empty());
        assert_eq!(order.late(now + PATIENCE), [(author, 3), (author, 4)]);
        assert_eq!(order.take(author, Some(5), 5, now + PATIENCE), [5]);
        order.take(author, Some(7), 7, now);
        assert_eq!(order.forget(author), [7]);
    }

    #[test]
    fn so_many_wait_and_not_one_more() {
        let (mut order, now) = (Order::new(), Instant::now());
        order.take(peer(1), Some(0), 0, now);
        for number in 0..MAX_WAITING as u64 {
            assert!(order.take(peer(1), Some(number + 2), number, now).is_empty());
        }
        assert_eq!(order.take(peer(1), Some(u64::MAX), 1, now).len(), MAX_WAITING + 1);
    }
}
