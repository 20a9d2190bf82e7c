//! How fast a file is, and when it was told last.

use std::time::Duration;

use tokio::time::Instant;

/// The share that the last moment has in the rate that is shown: the rest is what it was before.
const NEW: f64 = 0.2;

#[derive(Debug)]
pub(super) struct Progress {
    since: Instant,
    seen: (Instant, u64),
    rate: Option<f64>,
    told: Instant,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, seen: (now, 0), rate: None, told: now }
    }

    /// So many bytes by now. Whether it is time to tell somebody again who is told once in `pause`.
    pub(super) fn update(&mut self, bytes: u64, now: Instant, pause: Duration) -> bool {
        let (before, had) = self.seen;
        let passed = now.saturating_duration_since(before).as_secs_f64();
        if passed > 0.0 {
            let current = bytes.saturating_sub(had) as f64 / passed;
            self.rate = Some(self.rate.map_or(current, |rate| rate * (1.0 - NEW) + current * NEW));
            self.seen = (now, bytes);
        }
        let due = now.saturating_duration_since(self.told) >= pause;
        if due {
            self.told = now;
        }
        due
    }

    /// Bytes a second.
    pub(super) fn rate(&self) -> u64 {
        self.rate.unwrap_or(0.0) as u64
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_and_telling_has_its_time() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let pause = Duration::from_secs(1);
        let mut progress = Progress::new(start);
        assert!(!progress.update(0, start, pause) && progress.rate() == 0, "no time has passed");
        assert!(!progress.update(500, after(500), pause));
        assert_eq!(progress.rate(), 1000);
        assert!(progress.update(1000, after(1000), pause), "a second is over");
        assert!(!progress.update(1500, after(1500), pause));
        // It stalls, and that is seen in the end.
        for second in 2..40 {
            progress.update(1500, after(second * 1000), pause);
        }
        assert_eq!(progress.rate(), 0);
        assert_eq!(progress.elapsed(after(3000)), Duration::from_secs(3));
    }
}
