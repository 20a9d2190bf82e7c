//! Whether the peer is still there, and how far away it is.
//!
//! A ping goes out when nothing was heard for a while, and when a round trip has to be measured; one at a time. Any
//! received byte is a sign of life, since a pong may wait behind a lot of data.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

/// While data comes in, the round trip is measured again after this.
const MEASURE_AGAIN: Duration = Duration::from_secs(30);

/// A path that has become longer is believed after one to two of these.
const PERIOD: Duration = Duration::from_secs(600);

/// Received bytes from which on windows may want to grow, for which a round trip has to be known.
const WORTH_MEASURING: u64 = 16 * 1024;

pub(super) struct Liveness {
    interval: Duration,
    timeout: Duration,
    heard: Instant,
    received: u64,
    /// Since when the peer is asked whether it lives.
    asked: Option<Instant>,
    ping_due: bool,
    outstanding: Option<(u32, Instant)>,
    next: u32,
    /// Makes the values of pings out of their numbers.
    key: Option<RandomState>,
    rtt: Option<Duration>,
    measured: Option<Instant>,
    shortest: Shortest,
}

/// The shortest round trip of late, which is what the path takes while nothing waits on it.
#[derive(Default)]
struct Shortest {
    /// Of the period that is over, and of the one that began then.
    before: Option<Duration>,
    since: Option<(Instant, Duration)>,
}

impl Shortest {
    fn add(&mut self, sample: Duration, now: Instant) {
        self.since = match self.since {
            Some((began, shortest)) if now.saturating_duration_since(began) < PERIOD => {
                Some((began, shortest.min(sample)))
            }
            last => {
                self.before = last.map(|(_, shortest)| shortest);
                Some((now, sample))
            }
        };
    }

    fn get(&self) -> Option<Duration> {
        let since = self.since.map(|(_, shortest)| shortest);
        self.before.into_iter().chain(since).min()
    }
}

impl Liveness {
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self {
            interval,
            timeout,
            heard: now,
            received: 0,
            asked: None,
            ping_due: false,
            outstanding: None,
            next: 0,
            key: None,
            rtt: None,
            measured: None,
            shortest: Shortest::default(),
        }
    }

    /// From now on nobody can guess what the next ping asks, and so seem nearer than it is by answering before it has come.
    pub(super) fn hide(&mut self, key: RandomState) {
        self.key = Some(key);
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// The shortest round trip of the last ten minutes or so.
    pub(super) fn shortest(&self) -> Option<Duration> {
        self.shortest.get()
    }

    pub(super) fn heard(&mut self, bytes: usize, now: Instant) {
        self.heard = now;
        self.asked = None;
        self.received = self.received.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let old = self.measured.is_none_or(|at| now.saturating_duration_since(at) >= MEASURE_AGAIN);
        if old && self.outstanding.is_none() && self.received >= WORTH_MEASURING {
            self.ping_due = true;
        }
    }

    /// The value of a ping that is to be sent now.
    pub(super) fn take_ping(&mut self, now: Instant) -> Option<u32> {
        if !self.ping_due {
            return None;
        }
        self.ping_due = false;
        let hidden = self.key.as_ref().map(|key| key.hash_one(self.next) & u64::from(u32::MAX));
        let value = hidden.and_then(|value| u32::try_from(value).ok()).unwrap_or(self.next);
        self.next = self.next.wrapping_add(1);
        self.outstanding = Some((value, now));
        Some(value)
    }

    #[cfg(test)]
    pub(super) fn ping_is_due(&self) -> bool {
        self.ping_due
    }

    /// A pong; `false` if nobody asked for it.
    #[must_use]
    pub(super) fn pong(&mut self, value: u32, now: Instant) -> bool {
        let Some((_, sent)) = self.outstanding.filter(|(asked, _)| *asked == value) else {
            return false;
        };
        self.outstanding = None;
        let sample = now.saturating_duration_since(sent);
        // Weighted as TCP does it (RFC 6298): one bad sample is not believed at once.
        self.rtt = Some(match self.rtt {
            Some(before) => before.saturating_mul(7).saturating_add(sample).checked_div(8).unwrap_or(sample),
            None => sample,
        });
        self.measured = Some(now);
        self.shortest.add(sample, now);
        true
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.asked {
            Some(at) => at.checked_add(self.timeout),
            None => self.heard.checked_add(self.interval),
        }
    }

    /// `false` if the peer has vanished.
    #[must_use]
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if let Some(at) = self.asked {
            return now.saturating_duration_since(at) < self.timeout;
        }
        if now.saturating_duration_since(self.heard) >= self.interval {
            self.asked = Some(now);
            // One that is still on its way asks the same.
            self.ping_due |= self.outstanding.is_none();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_ping_asks_cannot_be_answered_before_it_is_known() {
        #[allow(clippy::disallowed_methods, reason = "any instant will do")]
        let (mut now, hour) = (Instant::now(), Duration::from_secs(3600));
        let mut liveness = Liveness::new(hour, hour, now);
        liveness.hide(RandomState::new());
        let mut asked = Vec::new();
        for _ in 0..8 {
            liveness.heard(16 * 1024, now);
            let value = liveness.take_ping(now).expect("due");
            let guesses = (0..100).chain(asked.iter().map(|&asked: &u32| asked.wrapping_add(1)));
            for guess in guesses.filter(|guess| *guess != value) {
                assert!(!liveness.pong(guess, now));
            }
            now += MEASURE_AGAIN;
            assert!(liveness.pong(value, now));
            asked.push(value);
            now += MEASURE_AGAIN;
        }
        assert_eq!(liveness.shortest(), Some(MEASURE_AGAIN));
        assert!(asked.iter().any(|value| !(0..100).contains(value)));
    }

    #[test]
    fn the_shortest_round_trip_counts_until_it_is_old() {
        #[allow(clippy::disallowed_methods, reason = "any instant will do")]
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut shortest = Shortest::default();
        assert_eq!(shortest.get(), None);
        shortest.add(ms(20), start);
        shortest.add(ms(90), start + PERIOD / 2);
        assert_eq!(shortest.get(), Some(ms(20)));
        shortest.add(ms(70), start + PERIOD);
        shortest.add(ms(80), start + 2 * PERIOD - ms(1));
        assert_eq!(shortest.get(), Some(ms(20)));
        shortest.add(ms(90), start + 2 * PERIOD);
        assert_eq!(shortest.get(), Some(ms(70)));
        shortest.add(ms(30), start + 2 * PERIOD);
        assert_eq!(shortest.get(), Some(ms(30)));
    }
}
