use std::time::{Duration, Instant};

use peerage_core::engine::Rng;
use rand::RngExt as _;

/// How long a sender whose frame was lost waits before it sends it again; what TCP waits at least.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// How much of what is to be sent a node hands to its system ahead of time. What is more waits in the engine's queues.
pub(super) const SEND_BUFFER: Duration = Duration::from_millis(5);

/// How long frames take from one node to another. Frames of one connection arrive in order, as they do with TCP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkModel {
    /// One way.
    pub latency: Duration,
    /// How much more or less that is of each frame, by chance, as a part of it.
    pub jitter: f64,
    /// What a node can send to all others together, in bytes a second. What it can receive is not bounded.
    pub bandwidth: u64,
    /// How many frames have to be sent again, as a part of all.
    pub loss: f64,
}

impl Default for LinkModel {
    /// 25 ms ± 10 %, as in the evaluation of gossipsub 1.1, and 100 Mbit/s.
    fn default() -> Self {
        Self { latency: Duration::from_millis(25), jitter: 0.1, bandwidth: 12_500_000, loss: 0.0 }
    }
}

impl LinkModel {
    /// How long it takes to send so many bytes.
    pub(super) fn sending(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bandwidth.max(1) as f64)
    }

    /// How long a frame is under way that was sent.
    pub(super) fn under_way(&self, rng: &mut Rng) -> Duration {
        let jitter = if self.jitter > 0.0 { rng.random_range(-self.jitter..=self.jitter) } else { 0.0 };
        let mut takes = self.latency.mul_f64(1.0 + jitter);
        while self.loss > 0.0 && rng.random::<f64>() < self.loss.min(0.9) {
            takes = takes.saturating_add(RETRANSMIT);
        }
        takes
    }
}

/// What a node has sent, and when it can send more.
#[derive(Debug)]
pub(super) struct Uplink {
    /// Until when it is busy with what it was given.
    pub(super) busy_until: Instant,
    /// Whether an event is due at which it goes on.
    pub(super) waiting: bool,
}

impl Uplink {
    pub(super) fn new(now: Instant) -> Self {
        Self { busy_until: now, waiting: false }
    }

    /// Takes so many bytes; returns when they are out.
    pub(super) fn send(&mut self, bytes: usize, model: &LinkModel, now: Instant) -> Instant {
        self.busy_until = self.busy_until.max(now) + model.sending(bytes);
        self.busy_until
    }

    /// When it can take more, if not now.
    pub(super) fn full_until(&self, now: Instant) -> Option<Instant> {
        let until = self.busy_until.checked_sub(SEND_BUFFER)?;
        (until > now).then_some(until)
    }
}
