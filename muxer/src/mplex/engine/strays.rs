//! How much of what has no meaning is put up with.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use crate::mplex::frame::Key;

/// Streams that were given up here whose peer may not know it yet. More of them are forgotten, the oldest first.
const MAX_RECENT: usize = 1024;

/// What may be on the way to such a stream, heads included: what sockets on both sides hold, amply.
const RECENT_BYTES: usize = 16 * 1024 * 1024;

/// The shortest head of a frame.
const HEAD: usize = 2;

/// A bucket of frames that refills by a tenth of its size each second.
pub(super) struct Strays {
    max: u32,
    left: u32,
    since: Option<Instant>,
}

impl Strays {
    pub(super) fn new(max: u32) -> Self {
        Self { max, left: max, since: None }
    }

    /// Takes one; `false` if there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let seconds = now.saturating_duration_since(since).as_secs();
        if seconds > 0 {
            let refill = u64::from(self.max / 10).saturating_mul(seconds);
            let refill = u32::try_from(refill).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(refill).min(self.max);
            self.since = Some(now);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// Streams that are over here, while frames that the peer sent before it knew may still come. Those are no strays.
#[derive(Default)]
pub(super) struct Recent {
    order: VecDeque<Key>,
    left: BTreeMap<Key, usize>,
}

impl Recent {
    pub(super) fn add(&mut self, key: Key) {
        if self.order.len() >= MAX_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.left.remove(&oldest);
        }
        self.order.push_back(key);
        self.left.insert(key, RECENT_BYTES);
    }

    /// Whether a message with a body of `bytes` was to be expected.
    pub(super) fn expects(&mut self, key: Key, bytes: usize) -> bool {
        let Some(left) = self.left.get_mut(&key) else {
            return false;
        };
        let after = left.checked_sub(bytes.saturating_add(HEAD));
        *left = after.unwrap_or(0);
        after.is_some()
    }

    /// The peer has ended the stream as well. Its place in the order stays until it is the oldest.
    pub(super) fn over(&mut self, key: Key) -> bool {
        self.left.remove(&key).is_some()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_last_one_is_given_and_one_more_is_not_until_later() {
        let start = Instant::now();
        let mut strays = Strays::new(20);
        assert!((0..20).all(|_| strays.take(start)));
        assert!(!strays.take(start));
        let second = start + Duration::from_secs(1);
        assert!(strays.take(second) && strays.take(second) && !strays.take(second));
        let much_later = start + Duration::from_secs(1000);
        assert!((0..20).all(|_| strays.take(much_later)));
        assert!(!strays.take(much_later));
    }

    #[test]
    fn what_may_be_on_the_way_has_an_end() {
        let key = |id| Key { id, local: false };
        let mut recent = Recent::default();
        for id in 0..=MAX_RECENT as u64 {
            recent.add(key(id));
        }
        assert!(!recent.expects(key(0), 0), "the oldest is forgotten");
        assert!(recent.expects(key(1), RECENT_BYTES - 2 * HEAD));
        assert!(recent.expects(key(1), 0) && !recent.expects(key(1), 0));
        assert!(recent.over(key(1)) && !recent.over(key(1)));
    }
}
