//! Counts of what an honest peer does rarely.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, DefaultHasher},
    time::{Duration, Instant},
};

/// Resets, and frames for streams that are not there, are counted over so much time.
pub(super) const STRAY_PERIOD: Duration = Duration::from_secs(10);

/// Streams that were given up here whose peer may not know it yet. More of them are forgotten, the oldest first.
const MAX_RECENT: usize = 1024;

/// Frames without a body for such a stream that can be on their way: window updates, above all.
const RECENT_FRAMES: u16 = 64;

/// When the last events were, as many as may be in [`STRAY_PERIOD`].
pub(super) struct Strays {
    max: usize,
    times: VecDeque<Instant>,
}

impl Strays {
    pub(super) fn new(max: usize) -> Self {
        Self { max, times: VecDeque::new() }
    }

    /// Counts one; `false` if that was one too many.
    #[must_use]
    pub(super) fn count(&mut self, now: Instant) -> bool {
        while self.times.front().is_some_and(|at| now.saturating_duration_since(*at) >= STRAY_PERIOD) {
            self.times.pop_front();
        }
        if self.times.len() >= self.max {
            return false;
        }
        self.times.push_back(now);
        true
    }
}

/// Streams that are over here, while frames that the peer sent before it knew may still come. Those are no strays.
#[derive(Default)]
pub(super) struct Recent {
    order: VecDeque<u32>,
    streams: HashMap<u32, Allowance, BuildHasherDefault<DefaultHasher>>,
}

struct Allowance {
    bytes: u32,
    frames: u16,
}

impl Recent {
    /// Remembers a stream on which the peer may still send `bytes`.
    pub(super) fn add(&mut self, id: u32, bytes: u32) {
        if self.order.len() >= MAX_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.streams.remove(&oldest);
        }
        self.order.push_back(id);
        self.streams.insert(id, Allowance { bytes, frames: RECENT_FRAMES });
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.streams.contains_key(&id)
    }

    /// Whether a frame with a body of `bytes` was to be expected.
    pub(super) fn expects(&mut self, id: u32, bytes: u32) -> bool {
        let Some(allowance) = self.streams.get_mut(&id) else {
            return false;
        };
        if bytes > 0 {
            let left = allowance.bytes.checked_sub(bytes);
            allowance.bytes = left.unwrap_or(allowance.bytes);
            return left.is_some();
        }
        let left = allowance.frames.checked_sub(1);
        allowance.frames = left.unwrap_or(0);
        left.is_some()
    }

    /// The peer has ended the stream as well. Its place in the order stays until it is the oldest.
    pub(super) fn over(&mut self, id: u32) -> bool {
        self.streams.remove(&id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_the_period_and_not_one_more() {
        let start = Instant::now_for_tests();
        let mut strays = Strays::new(3);
        for ms in [0, 1, 2] {
            assert!(strays.count(start + Duration::from_millis(ms)));
        }
        assert!(!strays.count(start + STRAY_PERIOD - Duration::from_millis(1)));
        assert!(strays.count(start + STRAY_PERIOD));
        assert!(!strays.count(start + STRAY_PERIOD));
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let mut recent = Recent::default();
        for id in 0..=u32::try_from(MAX_RECENT).unwrap() {
            recent.add(id, 10);
        }
        assert!(!recent.contains(0) && recent.contains(1));
        assert!(recent.expects(1, 10) && !recent.expects(1, 1));
        assert!((0..RECENT_FRAMES).all(|_| recent.expects(1, 0)) && !recent.expects(1, 0));
        assert!(recent.over(1) && !recent.over(1));
    }

    trait Start {
        fn now_for_tests() -> Self;
    }

    impl Start for Instant {
        #[allow(clippy::disallowed_methods, reason = "any instant will do")]
        fn now_for_tests() -> Self {
            Self::now()
        }
    }
}
