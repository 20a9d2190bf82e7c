//! How much of what has no meaning is put up with.

use std::time::Instant;

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
}
