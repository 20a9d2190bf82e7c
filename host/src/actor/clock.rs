use std::time::{Duration, SystemTime};

use peerage_core::Now;
use tokio::time::Instant;

/// The node's clock. It follows the runtime's time, so that a paused runtime moves it; the wall clock is read once, at
/// the start, and then moves with it: a step of the system's clock cannot make deadlines jump.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    started_unix: Duration,
}

impl Clock {
    /// Reads both clocks.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn start() -> Self {
        let started_unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_unix }
    }

    /// The time, as engines take it.
    pub fn now(&self) -> Now {
        let mono = Instant::now();
        let unix = self.started_unix.saturating_add(mono.saturating_duration_since(self.started));
        Now { mono: mono.into_std(), unix }
    }
}
