//! How wide a window has to be, for every muxer that has windows.

use std::time::Duration;

/// A window has room for what comes in so many round trips. A sender that the window holds up sends one window in one
/// round trip, and so gets twice as much the next time.
const ROUND_TRIPS: u32 = 2;

/// Shorter round trips are to be taken for this, 0.5 ms: it is the grain in which a busy machine gives its tasks time.
pub const SHORTEST: Duration = Duration::from_micros(500);

/// How fast a peer is shows over so much time at least: within less, what comes and is read comes in bursts.
pub const SPAN: Duration = Duration::from_millis(5);

/// Bytes of a window that does not hold up a peer whose `bytes` came within `took`, over a path of this `round_trip`.
///
/// What a window has more than that waits somewhere on the path, and everything else of the connection behind it. For
/// the same reason the round trip has to be that of the path, without what waits on it: the shortest that was seen.
pub fn wanted(bytes: u64, took: Duration, round_trip: Duration) -> u64 {
    let room = round_trip.saturating_mul(ROUND_TRIPS);
    let wanted = u128::from(bytes).saturating_mul(room.as_nanos()).checked_div(took.as_nanos());
    wanted.and_then(|wanted| u64::try_from(wanted).ok()).unwrap_or(u64::MAX)
}

/// What a window should grow to that is so wide: at most to twice as much, and not by less than a quarter.
pub fn grown(window: u32, wanted: u64, max: u32) -> Option<u32> {
    let most = window.saturating_mul(2).min(max);
    let larger = u32::try_from(wanted).unwrap_or(u32::MAX).min(most);
    let least = window.saturating_add(window / 4).min(max);
    (larger >= least && larger > window).then_some(larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn two_round_trips_of_what_comes() {
        assert_eq!(wanted(1000, 10 * MS, 100 * MS), 20_000);
        assert_eq!(wanted(1000, 100 * MS, 10 * MS), 200);
        assert_eq!(wanted(0, MS, MS), 0);
        // No time at all is as fast as can be.
        assert_eq!(wanted(1, Duration::ZERO, MS), u64::MAX);
        assert_eq!(wanted(u64::MAX, Duration::from_nanos(1), Duration::MAX), u64::MAX);
    }

    #[test]
    fn windows_grow_in_steps_that_are_worth_it() {
        assert_eq!(grown(100, 124, 1000), None);
        assert_eq!(grown(100, 125, 1000), Some(125));
        assert_eq!(grown(100, 200, 1000), Some(200));
        assert_eq!(grown(100, 201, 1000), Some(200));
        assert_eq!(grown(100, u64::MAX, 150), Some(150));
        // The last step may be a small one.
        assert_eq!(grown(100, u64::MAX, 101), Some(101));
        assert_eq!(grown(100, u64::MAX, 100), None);
        assert_eq!(grown(100, u64::MAX, 99), None);
        assert_eq!(grown(u32::MAX, u64::MAX, u32::MAX), None);
    }
}
