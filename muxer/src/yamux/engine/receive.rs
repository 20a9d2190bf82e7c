//! What a stream has received and nobody has read yet, and the window that says how much more may come.

use std::{
    mem,
    time::{Duration, Instant},
};

use bytes::BufMut;
use peerage_core::budget::{Budget, Exhausted, Reserved};

use super::{super::INITIAL_WINDOW, segments::Segments};
use crate::window::SPAN;

/// Buffered bytes of a stream for which the budget is not asked: a small request costs no look at the ledger, and is
/// not lost when the ledger is empty.
pub(super) const GUARANTEED: usize = 4 * 1024;

pub(super) struct Receive {
    unread: Segments,
    /// Covers the larger of what is allocated and what the window has grown: growth is promised to the peer, so it
    /// is there before the promise; the initial window the protocol promises, and there what is used is counted.
    held: Reserved,
    window: u32,
    /// What the peer may still send. Never more, together with what is unread, than the window.
    credit: u32,
    /// Of a body whose header was taken off the credit: what has not come yet.
    incoming: u32,
    /// Since when it is counted what the peer gets credit for: its first byte at first.
    since: Option<Instant>,
    counted: u64,
}

impl Receive {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            unread: Segments::default(),
            held: budget.nothing(),
            window: INITIAL_WINDOW,
            credit: INITIAL_WINDOW,
            incoming: 0,
            since: None,
            counted: 0,
        }
    }

    pub(super) fn unread(&self) -> usize {
        self.unread.len()
    }

    pub(super) fn credit(&self) -> u32 {
        self.credit
    }

    pub(super) fn window(&self) -> u32 {
        self.window
    }

    pub(super) fn growth(&self) -> u32 {
        self.window.saturating_sub(INITIAL_WINDOW)
    }

    /// Takes the body of a frame off the credit; `false` if there is not so much of it.
    #[must_use]
    pub(super) fn spend(&mut self, bytes: u32) -> bool {
        match self.credit.checked_sub(bytes) {
            Some(left) => {
                self.credit = left;
                self.incoming = self.incoming.saturating_add(bytes);
                true
            }
            None => false,
        }
    }

    /// A part of a body has come, to be kept or not.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.incoming = self.incoming.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Keeps a part of a body that was spent before.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<(), Exhausted> {
        let (held, window) = (&mut self.held, self.window);
        self.unread.push(data, |allocated| held.resize(needed(allocated, window)))
    }

    /// Moves bytes to the reader, as many as there are and as it has room for.
    pub(super) fn read(&mut self, into: &mut impl BufMut) -> usize {
        let moved = self.unread.take(into.remaining_mut(), |part| into.put_slice(part));
        // At least what the window has grown stays.
        let needed = needed(self.unread.allocated(), self.window);
        self.held.shrink(self.held.bytes().saturating_sub(needed));
        moved
    }

    /// The credit that was read away and not yet given back, once it is half of the window.
    pub(super) fn due(&self) -> Option<u32> {
        let unread = u32::try_from(self.unread.len()).unwrap_or(u32::MAX);
        let here = unread.saturating_add(self.incoming);
        let owed = self.window.saturating_sub(self.credit).saturating_sub(here);
        (owed >= self.window / 2).then_some(owed)
    }

    /// A byte came, maybe the first.
    pub(super) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// How many bytes were read since it was asked and answered last, and in what time; the peer is given credit for the
    /// last `owed` of them now. `None` if that was not long ago.
    pub(super) fn pace(&mut self, owed: u32, now: Instant) -> Option<(u64, Duration)> {
        self.counted = self.counted.saturating_add(owed.into());
        let took = now.saturating_duration_since(self.since?);
        if took < SPAN {
            return None;
        }
        self.since = Some(now);
        Some((mem::take(&mut self.counted), took))
    }

    /// Gives the peer credit.
    pub(super) fn give(&mut self, credit: u32) {
        self.credit = self.credit.saturating_add(credit);
    }

    /// Widens the window, if the budget has the memory for it.
    #[must_use]
    pub(super) fn grow(&mut self, more: u32) -> bool {
        let window = self.window.saturating_add(more);
        if self.held.resize(needed(self.unread.allocated(), window).max(self.held.bytes())).is_err() {
            return false;
        }
        self.window = window;
        true
    }

    /// Forgets what is unread, gives the memory back, and says by how much the window had grown.
    pub(super) fn discard(&mut self) -> u32 {
        let growth = self.growth();
        self.unread.clear();
        self.window = INITIAL_WINDOW;
        self.held.shrink(self.held.bytes());
        growth
    }
}

/// What the ledger has to know of, with so much memory and such a window.
fn needed(allocated: usize, window: u32) -> usize {
    let growth = usize::try_from(window.saturating_sub(INITIAL_WINDOW)).unwrap_or(usize::MAX);
    allocated.saturating_sub(GUARANTEED).max(growth)
}

#[cfg(test)]
mod tests {
    use super::{super::segments::SMALLEST_SEGMENT, *};

    #[test]
    fn single_bytes_cost_at_most_twice_their_number() {
        let mut receive = Receive::new(&Budget::unlimited());
        for i in 1..=INITIAL_WINDOW as usize {
            assert!(receive.spend(1));
            receive.push(b"x").unwrap();
            assert!(
                receive.unread.allocated() <= 2 * i + SMALLEST_SEGMENT,
                "{i}: {}",
                receive.unread.allocated()
            );
        }
        assert!(!receive.spend(1));
    }

    #[test]
    fn memory_is_asked_for_before_it_is_used_and_given_back() {
        let budget = Budget::limited(100_000);
        let mut receive = Receive::new(&budget);
        receive.push(&[0; GUARANTEED]).unwrap();
        assert_eq!(receive.held.bytes(), 0);
        while receive.push(&[0; 1000]).is_ok() {
            assert!(receive.unread() <= 100_000 + GUARANTEED);
        }
        assert!(receive.unread() > 50_000);
        assert!(!receive.grow(200_000));
        receive.read(&mut vec![0u8; 1 << 20].as_mut_slice());
        assert!(receive.grow(60_000) && receive.held.bytes() >= 60_000);
        assert_eq!(receive.discard(), 60_000);
        drop(budget.reserve(100_000).unwrap());
    }
}
