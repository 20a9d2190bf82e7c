//! How much a connection may have on its way and unread. Pure: the driver looks now and then, and asks the budget.
//!
//! quinn has a window for the connection in each direction, which can be changed while it lives, and one for each
//! stream, which cannot. So streams get a wide one, and the connection's decides. Both begin small, and grow to what
//! goes through in two round trips when they are what slows the connection down: the sender's when a writer had to wait
//! although the network would take more, the receiver's whenever so much comes. It doubles too when half of it waits to
//! be read, or when the peer says that it waits and nothing is read: one stream that nobody reads must not keep all others
//! waiting, as long as there is memory.

use std::{mem, time::Duration};

use peerage_muxer::window::{grown, wanted};

/// Bytes that the peer may have sent unread, on all streams together, at the beginning: 256 KiB, which is what a stream
/// of yamux begins with.
pub const RECEIVE_WINDOW: u32 = 256 * 1024;

/// To so much that grows at most: 16 MiB.
pub const MAX_RECEIVE_WINDOW: u32 = 16 * 1024 * 1024;

/// The part of it that one stream may take: 8 MiB.
pub const STREAM_WINDOW: u32 = 8 * 1024 * 1024;

/// Bytes that are kept until the peer acknowledges them, at the beginning: 128 KiB.
pub const SEND_WINDOW: u32 = 128 * 1024;

/// To so much that grows at most: 8 MiB.
pub const MAX_SEND_WINDOW: u32 = 8 * 1024 * 1024;

/// The part of it that is kept for short writes: 16 KiB.
pub(super) const RESERVE: u32 = 16 * 1024;

/// What of the window to send writes of any length may take.
pub(super) fn usual(send_window: u32) -> u64 {
    send_window.saturating_sub(RESERVE).into()
}

/// Shorter round trips are taken for this, 0.25 ms, which is half of what yamux takes them for: there what waits waits in
/// the kernel, and here in front of the thread that moves the packets of all streams. A ping beside bulk within the
/// machine takes half the time for it, and bulk goes as fast.
const SHORTEST: Duration = Duration::from_micros(250);

/// The windows of one connection.
#[derive(Debug)]
pub(super) struct Windows {
    pub(super) receive: u32,
    pub(super) send: u32,
    received: u64,
    read: u64,
    sent: u64,
    /// Bytes of datagrams that came, and bytes that were read, since the last look.
    came: u64,
    taken: u64,
    blocked: u64,
    /// Bytes that came since the peer said that the window keeps it waiting, as long as they are few.
    waits: Option<u64>,
    /// Bytes that wait to be read, as far as that can be told from outside. What comes is counted with its packets, so it
    /// is taken for a little less than it is: the estimate rather forgets than invents.
    unread: u64,
}

/// What there is to see of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Bytes of datagrams that came so far.
    pub(super) received: u64,
    /// How often the peer said that the window keeps it waiting (DATA_BLOCKED; RFC 9000, section 4.1).
    pub(super) blocked: u64,
    /// Bytes that were read from streams so far.
    pub(super) read: u64,
    /// Bytes of datagrams that were sent so far.
    pub(super) sent: u64,
    /// Bytes that the network would take at once.
    pub(super) congestion_window: u64,
    /// Whether a writer had to wait since the last look.
    pub(super) writer_waited: bool,
    /// The time since the last look.
    pub(super) took: Duration,
    /// What a round trip takes while nothing waits on the path.
    pub(super) round_trip: Duration,
}

/// A peer that has said that it waits does not any more once so much of it came, 16 KiB: acknowledgements are less.
const FLOWS: u64 = 16 * 1024;

/// Sixteenths of a datagram that are taken for data. Headers and tags are some 40 bytes of 1,450.
const PAYLOAD_SIXTEENTHS: u64 = 15;

impl Default for Windows {
    fn default() -> Self {
        Self {
            receive: RECEIVE_WINDOW,
            send: SEND_WINDOW,
            received: 0,
            read: 0,
            sent: 0,
            came: 0,
            taken: 0,
            blocked: 0,
            waits: None,
            unread: 0,
        }
    }
}

impl Windows {
    /// To be told of often, so that what came and what was read in between is little: of both together one is an estimate.
    pub(super) fn note(&mut self, Seen { received, read, blocked, .. }: Seen) {
        let came = received.saturating_sub(self.received);
        let payload = came.saturating_mul(PAYLOAD_SIXTEENTHS) / 16;
        let taken = read.saturating_sub(self.read);
        self.unread = self.unread.saturating_add(payload).saturating_sub(taken).min(self.receive.into());
        self.came = self.came.saturating_add(came);
        self.taken = self.taken.saturating_add(taken);
        if blocked > self.blocked {
            self.waits = Some(0);
        } else if let Some(since) = self.waits {
            self.waits = Some(since.saturating_add(came)).filter(|since| *since < FLOWS);
        }
        self.blocked = blocked;
        (self.received, self.read) = (received, read);
    }

    /// Whether the window is to grow with the next look, because too much waits to be read. The look has to come even if
    /// nothing else does: the peer may be waiting for it.
    pub(super) fn is_full(&self) -> bool {
        self.receive < MAX_RECEIVE_WINDOW && (self.peer_waits() || self.unread >= u64::from(self.receive / 2))
    }

    /// Whether the peer has said so, and nothing came since.
    pub(super) fn peer_waits(&self) -> bool {
        self.waits.is_some()
    }

    /// To be asked about once in a round trip: what the windows should be, if they should grow.
    pub(super) fn look(&mut self, seen: Seen) -> (Option<u32>, Option<u32>) {
        self.note(seen);
        let came = mem::take(&mut self.came);
        let went = seen.sent.saturating_sub(mem::replace(&mut self.sent, seen.sent));

        let stuck = mem::take(&mut self.taken) == 0 && self.waits.is_some();
        if stuck {
            self.waits = None;
        }
        let full = stuck || self.unread >= u64::from(self.receive / 2);
        let round_trip = seen.round_trip.max(SHORTEST);
        let receive = if full { u64::MAX } else { wanted(came, seen.took, round_trip) };
        let slows = seen.writer_waited && seen.congestion_window >= u64::from(self.send / 2);
        let send = if slows { wanted(went, seen.took, round_trip) } else { 0 };
        (grown(self.receive, receive, MAX_RECEIVE_WINDOW), grown(self.send, send, MAX_SEND_WINDOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = RECEIVE_WINDOW as u64;

    /// What is there to see after a round trip of 10 ms.
    fn seen() -> Seen {
        let round_trip = Duration::from_millis(10);
        Seen { took: round_trip, round_trip, ..Seen::default() }
    }

    fn came_and_read(windows: &mut Windows, came: u64, read: u64) -> Option<u32> {
        let (received, so_far) = (windows.received + came, windows.read + read);
        windows.look(Seen { received, read: so_far, ..seen() }).0
    }

    #[test]
    fn the_window_is_for_two_round_trips_of_what_comes() {
        let mut windows = Windows::default();
        assert_eq!(came_and_read(&mut windows, WINDOW / 2, WINDOW / 2), None);
        assert_eq!(came_and_read(&mut windows, WINDOW * 3 / 4, WINDOW * 3 / 4), Some(RECEIVE_WINDOW / 2 * 3));
        assert_eq!(came_and_read(&mut windows, WINDOW, WINDOW), Some(2 * RECEIVE_WINDOW));
        assert_eq!(came_and_read(&mut windows, 9 * WINDOW, 9 * WINDOW), Some(2 * RECEIVE_WINDOW));
    }

    #[test]
    fn within_a_machine_round_trips_say_nothing() {
        let grown = |round_trip| {
            let came = 4 * WINDOW;
            let took = Duration::from_millis(1);
            Windows::default()
                .look(Seen { received: came, read: came, took, round_trip, ..Seen::default() })
                .0
        };
        assert_eq!(grown(Duration::from_micros(1)), Some(2 * RECEIVE_WINDOW));
        assert_eq!(grown(Duration::from_micros(1)), grown(SHORTEST));
    }

    #[test]
    fn what_nobody_reads_makes_room_for_others() {
        let mut windows = Windows::default();
        let mut looks = 0;
        while came_and_read(&mut windows, 10_000, 0).is_none() {
            looks += 1;
        }
        assert_eq!(looks, 13, "131,072 bytes, of which 9,375 came each time");
        // Read, it is no reason any more.
        assert_eq!(came_and_read(&mut windows, 1000, 200_000), None);
    }

    /// Of which no look is told that comes after the last packet.
    #[test]
    fn a_reader_that_stops_after_a_lot_is_noticed_with_what_fills_the_window() {
        let mut windows = Windows::default();
        let (mut received, mut read) = (0, 0);
        for _ in 0..1000 {
            (received, read) = (received + 6500, read + 6450);
            windows.note(Seen { received, read, ..seen() });
        }
        assert!(!windows.is_full());
        for _ in 0..WINDOW / 6500 {
            received += 6500;
            windows.note(Seen { received, read, ..seen() });
        }
        assert!(windows.is_full());
        assert!(windows.look(Seen { received, read, ..seen() }).0.is_some());
    }

    /// However wrong the estimate is: what waits here is behind by a sixteenth of all that went through.
    #[test]
    fn a_peer_that_says_it_waits_gets_more_once_nobody_reads() {
        let mut windows = Windows::default();
        let first = Seen { received: 100 * WINDOW, read: 99 * WINDOW, blocked: 1, ..seen() };
        windows.look(first);
        assert!(windows.is_full() && windows.peer_waits(), "to be looked after again");
        assert_eq!(windows.look(first).0, Some(2 * RECEIVE_WINDOW));
        assert!(!windows.peer_waits());

        // Read in between, or sent by the peer: it does not wait for a window.
        let mut windows = Windows::default();
        windows.look(first);
        let read = Seen { read: first.read + 1, ..first };
        assert_eq!(windows.look(read).0, None);
        assert_eq!(windows.look(read).0, Some(2 * RECEIVE_WINDOW));
        let mut windows = Windows::default();
        windows.look(first);
        windows.note(Seen { received: first.received + FLOWS, ..first });
        assert!(!windows.peer_waits());
    }

    #[test]
    fn a_connection_that_is_read_slowly_for_ever_stays_as_it_is() {
        let mut windows = Windows::default();
        for _ in 0..100_000 {
            assert_eq!(came_and_read(&mut windows, 100_000, 97_000), None);
        }
    }

    #[test]
    fn it_grows_to_its_limit() {
        let mut windows = Windows::default();
        while let Some(larger) = came_and_read(&mut windows, u64::from(u32::MAX), 0) {
            assert_eq!(larger, windows.receive * 2);
            windows.receive = larger;
        }
        assert_eq!(windows.receive, MAX_RECEIVE_WINDOW);
    }

    #[test]
    fn a_writer_that_waits_for_the_network_gets_no_more_room() {
        let mut windows = Windows::default();
        let mut look = |congestion_window, writer_waited, went| {
            let sent = windows.sent + u64::from(went);
            windows.look(Seen { sent, congestion_window, writer_waited, ..seen() }).1
        };
        let half = u64::from(SEND_WINDOW / 2);
        assert_eq!(look(half, false, SEND_WINDOW), None);
        assert_eq!(look(half - 1, true, SEND_WINDOW), None);
        assert_eq!(look(half, true, SEND_WINDOW / 2), None);
        assert_eq!(look(half, true, SEND_WINDOW), Some(2 * SEND_WINDOW));
    }
}
