//! What a link does to packets, pure.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use peerage::engine::{Rng, rng};
use rand_chacha::rand_core::Rng as _;
use serde::Serialize;

/// Bounds of what may be asked for.
const MAX_RTT: Duration = Duration::from_secs(10);
const MAX_QUEUE: Duration = Duration::from_secs(10);
const MIN_RATE: f64 = 1e3;
const MAX_RATE: f64 = 1e11;

/// How long, how wide and how bad a link is; the same in both directions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Shape {
    /// There and back, without queues.
    pub(crate) rtt: Duration,
    /// Bits in a second.
    pub(crate) rate: f64,
    /// The part of packets that is lost by chance, in each direction.
    pub(crate) loss: f64,
    /// How long a packet waits for its turn at most; it is dropped where it would be longer.
    pub(crate) queue: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        let rtt = Duration::from_millis(60);
        Self { rtt, rate: 1e9, loss: 0.0, queue: rtt }
    }
}

impl FromStr for Shape {
    type Err = String;

    /// `rtt=60ms,rate=1gbit,loss=1%,queue=60ms`, of which each may be left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut shape = Self::default();
        let mut queue = None;
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part} is no NAME=VALUE"))?;
            match name {
                "rtt" => shape.rtt = milliseconds(value)?,
                "queue" => queue = Some(milliseconds(value)?),
                "rate" => shape.rate = rate(value)?,
                "loss" => shape.loss = number(value, "%")? / 100.0,
                _ => return Err(format!("{name} is none of rtt, rate, loss, queue")),
            }
        }
        shape.queue = queue.unwrap_or(shape.rtt);
        let fits = shape.rtt <= MAX_RTT
            && shape.queue <= MAX_QUEUE
            && (MIN_RATE..=MAX_RATE).contains(&shape.rate)
            && (0.0..=1.0).contains(&shape.loss);
        if fits { Ok(shape) } else { Err(format!("{text}: no link is so")) }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        write!(f, "{} ms round trip, {} Mbit/s", milliseconds(self.rtt), self.rate / 1e6)?;
        if self.loss > 0.0 {
            write!(f, ", {} % lost", self.loss * 100.0)?;
        }
        write!(f, ", a queue of {} ms", milliseconds(self.queue))
    }
}

fn number(value: &str, unit: &str) -> Result<f64, String> {
    let number = value.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| format!("{value} is no number of {unit}"))
}

fn milliseconds(value: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number(value, "ms")? / 1e3).map_err(|error| error.to_string())
}

fn rate(value: &str) -> Result<f64, String> {
    number(value, "gbit").map(|gbit| gbit * 1e9).or_else(|_| number(value, "mbit").map(|mbit| mbit * 1e6))
}

/// One direction of a link.
pub(super) struct Way {
    shape: Shape,
    /// When the last packet will have left.
    free: Instant,
    rng: Rng,
}

impl Way {
    pub(super) fn new(shape: Shape, now: Instant, seed: u64) -> Self {
        Self { shape, free: now, rng: rng(seed) }
    }

    /// When a packet that comes now arrives; `None` if it never does.
    pub(super) fn offer(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let begins = self.free.max(now);
        if begins.saturating_duration_since(now) > self.shape.queue {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "packets are small")]
        let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / self.shape.rate);
        self.free = begins.checked_add(takes)?;
        let lost = f64::from(self.rng.next_u32()) < self.shape.loss * f64::from(u32::MAX);
        if lost { None } else { self.free.checked_add(self.shape.rtt / 2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(text: &str) -> (Way, Instant) {
        #[allow(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        (Way::new(text.parse().unwrap(), now, 1), now)
    }

    #[test]
    fn shapes() {
        assert_eq!("".parse::<Shape>().unwrap(), Shape::default());
        let shape: Shape = "rtt=10ms,rate=20mbit,loss=1.5%,queue=5ms".parse().unwrap();
        assert_eq!((shape.rtt, shape.queue), (Duration::from_millis(10), Duration::from_millis(5)));
        assert!((shape.rate - 2e7).abs() < 1.0 && (shape.loss - 0.015).abs() < 1e-9);
        let alone: Shape = "rtt=8ms".parse().unwrap();
        assert_eq!(alone.queue, alone.rtt);
        for wrong in
            ["60ms", "rtt=60", "rtt=-1ms", "loss=101%", "rate=0mbit", "rate=nangbit", "speed=1", "rtt=1e9ms"]
        {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn packets_leave_one_after_another_and_arrive_later() {
        // A thousand bytes take 1 ms.
        let (mut way, now) = way("rtt=20ms,rate=8mbit,queue=2ms");
        let after = |ms| Some(now + Duration::from_millis(ms));
        assert_eq!(way.offer(1000, now), after(11));
        assert_eq!(way.offer(1000, now), after(12));
        assert_eq!(way.offer(1000, now), after(13), "2 ms in the queue, and not more");
        assert_eq!(way.offer(1000, now), None);
        assert_eq!(way.offer(1000, now + Duration::from_millis(50)), after(61), "idle time is not saved");
    }

    #[test]
    fn as_many_are_lost_as_was_said() {
        let (mut way, now) = way("rate=100gbit,loss=2%,queue=10000ms");
        let lost = (0..100_000).filter(|_| way.offer(100, now).is_none()).count();
        assert!((1800..2200).contains(&lost), "{lost}");
    }
}
