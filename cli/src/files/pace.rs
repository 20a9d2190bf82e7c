//! When a transfer has stood still for too long.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes that have to move within the limit, or all that are left. A byte now and then is no progress: it would keep a transfer
/// alive for ever.
pub(super) const LEAST: u64 = 4096;

/// By when more of a file has to have moved.
#[derive(Debug)]
pub(super) struct Pace {
    limit: Duration,
    due: Instant,
    counted: u64,
}

impl Pace {
    /// The first bytes have `limit` from now on.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, due: Instant::now() + limit, counted: 0 }
    }

    /// So many bytes have moved by now, of `size`.
    pub(super) fn moved(&mut self, bytes: u64, size: u64) {
        if bytes.saturating_sub(self.counted) >= LEAST || bytes >= size {
            self.counted = bytes;
            self.renew();
        }
    }

    /// Begins anew, after what this side took its time for.
    pub(super) fn renew(&mut self) {
        self.due = Instant::now() + self.limit;
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_so_many_bytes_are_progress() {
        let (second, limit) = (Duration::from_secs(1), Duration::from_secs(30));
        let mut pace = Pace::new(limit);
        let first = pace.due();
        advance(second).await;
        pace.moved(LEAST - 1, 3 * LEAST);
        assert_eq!(pace.due(), first);
        pace.moved(LEAST, 3 * LEAST);
        assert_eq!(pace.due(), first + second);
        advance(second).await;
        pace.moved(2 * LEAST - 1, 2 * LEAST);
        assert_eq!(pace.due(), first + second);
        // And the rest, however little it is.
        pace.moved(2 * LEAST, 2 * LEAST);
        assert_eq!(pace.due(), first + 2 * second);
        advance(second).await;
        pace.moved(2 * LEAST + 3, 2 * LEAST + 3);
        assert_eq!(pace.due(), first + 3 * second);
    }
}
