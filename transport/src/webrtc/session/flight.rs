//! How much may be under way at once.
//!
//! SCTP itself learns that from losses alone, and begins with as much as the other side's window has: 1 MiB for some. A
//! socket whose reader is busy for a moment holds less, by default some ninety datagrams in Linux, and loses the rest,
//! which costs both sides much more than waiting. So over a short path less is under way: as much as comes back
//! acknowledged within a round trip at a rate that is more than DTLS and SCTP come to.

use std::time::{Duration, Instant};

use super::packet::{self, DATA, SACK};

/// Over any path. With a message that was begun below it, half of what a socket with the buffer of Linux's default
/// takes, as the rest is for what is not data and for what is sent again.
pub(super) const LEAST: usize = 40 * 1024;

/// Over a long path: as much as a window of ours, so that a fast one is kept busy.
pub(super) const MOST: usize = 512 * 1024;

/// Bytes in a millisecond: 0.5 Gbit/s.
const RATE: u128 = 64 * 1024;

#[derive(Default)]
pub(super) struct Flight {
    /// The last data that was sent. What comes again is not measured by (RFC 9260, section 6.3.1, C5).
    last: Option<u32>,
    /// What the round trip is measured by, and since when.
    probe: Option<(u32, Instant)>,
    /// Of the path without what waits on it.
    shortest: Option<Duration>,
}

impl Flight {
    /// To be told of each packet that is sent.
    pub(super) fn send(&mut self, packet: &[u8], now: Instant) {
        for number in packet::first_numbers(packet, DATA) {
            if self.last.is_none_or(|last| packet::is_after(number, last)) {
                self.last = Some(number);
                self.probe.get_or_insert((number, now));
            }
        }
    }

    /// To be told of each packet that comes.
    pub(super) fn receive(&mut self, packet: &[u8], now: Instant) {
        for acknowledged in packet::first_numbers(packet, SACK) {
            if let Some((_, since)) = self.probe.take_if(|(probe, _)| !packet::is_after(*probe, acknowledged))
            {
                let took = now.saturating_duration_since(since);
                self.shortest = Some(self.shortest.map_or(took, |shortest| shortest.min(took)));
            }
        }
    }

    /// Bytes.
    pub(super) fn limit(&self) -> usize {
        let Some(shortest) = self.shortest else { return LEAST };
        let bytes = shortest.as_micros().saturating_mul(RATE) / 1000;
        usize::try_from(bytes).unwrap_or(MOST).clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::resets::tests::*, *};

    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_longer_path_has_more_under_way() {
        for (micros, limit) in
            [(0, LEAST), (625, LEAST), (627, 41_091), (4000, 256 * 1024), (8001, MOST), (u64::MAX, MOST)]
        {
            let flight = Flight { shortest: Some(Duration::from_micros(micros)), ..Flight::default() };
            assert_eq!(flight.limit(), limit, "{micros}");
        }
    }

    #[test]
    fn the_shortest_round_trip_counts() {
        let (mut flight, begin) = (Flight::default(), start());
        let at = |millis| begin + Duration::from_millis(millis);
        assert_eq!(flight.limit(), LEAST);
        flight.send(&data(u32::MAX), at(0));
        flight.send(&data(0), at(1));
        flight.receive(&sack(u32::MAX - 1), at(2));
        assert_eq!(flight.shortest, None);
        flight.receive(&sack(0), at(3));
        assert_eq!(flight.shortest, Some(Duration::from_millis(3)));
        // Sent again, and then the first comes to be acknowledged.
        flight.send(&data(1), at(4));
        flight.receive(&sack(1), at(9));
        flight.send(&data(1), at(9));
        flight.receive(&sack(1), at(9));
        assert_eq!(flight.shortest, Some(Duration::from_millis(3)));
        flight.send(&data(2), at(10));
        flight.receive(&sack(2), at(12));
        assert_eq!(flight.shortest, Some(Duration::from_millis(2)));
    }
}
