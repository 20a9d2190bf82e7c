use std::{collections::VecDeque, time::Duration, time::Instant};

/// OTP's restart intensity: more than `max` failures within `period` is too much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intensity {
    pub(crate) max: usize,
    pub(crate) period: Duration,
}

/// Counts failures against an [`Intensity`], and says how long to wait before the next start.
#[derive(Debug)]
pub(crate) struct Budget {
    intensity: Intensity,
    failures: VecDeque<Instant>,
    in_a_row: u32,
}

impl Budget {
    /// The wait before the first restart; it doubles from there.
    pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(10);
    /// The longest wait between restarts.
    pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(5);

    pub(crate) fn new(intensity: Intensity) -> Self {
        Self { intensity, failures: VecDeque::new(), in_a_row: 0 }
    }

    /// Counts a failure; `false` if it was one too many.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let period = self.intensity.period;
        self.failures.retain(|at| now.saturating_duration_since(*at) <= period);
        self.in_a_row = if self.failures.is_empty() { 1 } else { self.in_a_row.saturating_add(1) };
        self.failures.push_back(now);
        self.failures.len() <= self.intensity.max
    }

    /// How long to wait after the failure that was just counted.
    pub(crate) fn backoff(&self) -> Duration {
        let doublings = self.in_a_row.saturating_sub(1).min(16);
        Self::BACKOFF_FIRST.saturating_mul(1 << doublings).min(Self::BACKOFF_MAX)
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::engine::sim;

    use super::*;

    #[test]
    fn the_budget_allows_max_failures_in_a_period_and_refuses_one_more() {
        let t = sim::start().mono;
        let mut budget = Budget::new(Intensity { max: 3, period: Duration::from_secs(5) });
        assert!((0..3).all(|i| budget.take(t + Duration::from_secs(i))));
        assert!(!budget.take(t + Duration::from_secs(3)));
    }

    #[test]
    fn failures_that_lie_further_back_than_the_period_do_not_count() {
        let t = sim::start().mono;
        let mut budget = Budget::new(Intensity { max: 1, period: Duration::from_secs(5) });
        assert!((0..100).all(|i| budget.take(t + Duration::from_secs(6 * i))));
        assert_eq!(budget.backoff(), Budget::BACKOFF_FIRST);
    }

    #[test]
    fn the_wait_doubles_up_to_its_maximum() {
        let t = sim::start().mono;
        let mut budget = Budget::new(Intensity { max: 100, period: Duration::from_secs(60) });
        let waits: Vec<_> = (0..12)
            .map(|_| {
                budget.take(t);
                budget.backoff().as_millis()
            })
            .collect();
        assert_eq!(waits[..4], [10, 20, 40, 80]);
        assert_eq!(waits[11], 5_000);
    }
}
