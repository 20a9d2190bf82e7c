//! What a stream has received and nobody has read yet, and the window that says how much more may come.

use std::{collections::VecDeque, time::Instant};

use bytes::BufMut;
use peerage_core::budget::{Budget, Exhausted, Reserved};

use super::super::INITIAL_WINDOW;

/// Buffered bytes of a stream for which the budget is not asked: a small request costs no look at the ledger, and is
/// not lost when the ledger is empty.
pub(super) const GUARANTEED: usize = 4 * 1024;

/// The smallest piece of memory for received bytes. Frames of one byte share it, so they cost little more than
/// their bytes.
const SMALLEST_SEGMENT: usize = 256;

/// The largest, so that memory goes back while a long backlog is read.
const LARGEST_SEGMENT: usize = 64 * 1024;

/// An empty segment up to this size is kept for what comes next.
const KEPT_SEGMENT: usize = 4 * 1024;

pub(super) struct Receive {
    segments: VecDeque<Segment>,
    unread: usize,
    /// The memory of all segments.
    allocated: usize,
    /// Covers the larger of what is allocated and what the window has grown: growth is promised to the peer, so it
    /// is there before the promise; the initial window the protocol promises, and there what is used is counted.
    held: Reserved,
    window: u32,
    /// What the peer may still send. Never more, together with what is unread, than the window.
    credit: u32,
    /// Of a body whose header was taken off the credit: what has not come yet.
    incoming: u32,
    /// When the peer last got credit, or sent its first byte.
    pub(super) since: Option<Instant>,
}

struct Segment {
    data: Vec<u8>,
    read: usize,
}

impl Receive {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            segments: VecDeque::new(),
            unread: 0,
            allocated: 0,
            held: budget.nothing(),
            window: INITIAL_WINDOW,
            credit: INITIAL_WINDOW,
            incoming: 0,
            since: None,
        }
    }

    pub(super) fn unread(&self) -> usize {
        self.unread
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
    pub(super) fn push(&mut self, mut data: &[u8]) -> Result<(), Exhausted> {
        while !data.is_empty() {
            let last = self.segments.back_mut().filter(|segment| segment.spare() > 0);
            let Some(segment) = last else {
                self.add_segment(data.len())?;
                continue;
            };
            let (now, later) = data.split_at(segment.spare().min(data.len()));
            segment.data.extend_from_slice(now);
            self.unread = self.unread.saturating_add(now.len());
            data = later;
        }
        Ok(())
    }

    fn add_segment(&mut self, wanted: usize) -> Result<(), Exhausted> {
        let last = self.segments.back().map_or(0, |segment| segment.data.capacity());
        let size = wanted.max(last.saturating_mul(2)).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT);
        let allocated = self.allocated.saturating_add(size);
        self.held.resize(self.needed(allocated, self.window))?;
        self.allocated = allocated;
        self.segments.push_back(Segment { data: Vec::with_capacity(size), read: 0 });
        Ok(())
    }

    /// Moves bytes to the reader, as many as there are and as it has room for.
    pub(super) fn read(&mut self, into: &mut impl BufMut) -> usize {
        let mut moved: usize = 0;
        while into.has_remaining_mut() {
            let last = self.segments.len() == 1;
            let Some(segment) = self.segments.front_mut() else { break };
            let unread = segment.data.get(segment.read..).unwrap_or_default();
            let part = unread.get(..into.remaining_mut()).unwrap_or(unread);
            into.put_slice(part);
            moved = moved.saturating_add(part.len());
            segment.read = segment.read.saturating_add(part.len());
            if segment.read < segment.data.len() {
                break;
            }
            if last && self.allocated <= KEPT_SEGMENT {
                segment.data.clear();
                segment.read = 0;
                break;
            }
            self.drop_segment();
        }
        self.unread = self.unread.saturating_sub(moved);
        moved
    }

    fn drop_segment(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            // The vector may have got more than was asked for; what was counted is what `add_segment` counted.
            let size = segment.data.capacity().clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT);
            self.allocated = self.allocated.saturating_sub(size);
            let needed = self.needed(self.allocated, self.window);
            self.held.shrink(self.held.bytes().saturating_sub(needed));
        }
    }

    fn needed(&self, allocated: usize, window: u32) -> usize {
        let growth = usize::try_from(window.saturating_sub(INITIAL_WINDOW)).unwrap_or(usize::MAX);
        allocated.saturating_sub(GUARANTEED).max(growth)
    }

    /// The credit that was read away and not yet given back, once it is half of the window.
    pub(super) fn due(&self) -> Option<u32> {
        let unread = u32::try_from(self.unread).unwrap_or(u32::MAX);
        let here = unread.saturating_add(self.incoming);
        let owed = self.window.saturating_sub(self.credit).saturating_sub(here);
        (owed >= self.window / 2).then_some(owed)
    }

    /// Gives the peer credit.
    pub(super) fn give(&mut self, credit: u32) {
        self.credit = self.credit.saturating_add(credit);
    }

    /// Widens the window, if the budget has the memory for it.
    #[must_use]
    pub(super) fn grow(&mut self, more: u32) -> bool {
        let window = self.window.saturating_add(more);
        if self.held.resize(self.needed(self.allocated, window).max(self.held.bytes())).is_err() {
            return false;
        }
        self.window = window;
        true
    }

    /// Forgets what is unread, gives the memory back, and says by how much the window had grown.
    pub(super) fn discard(&mut self) -> u32 {
        let growth = self.growth();
        self.segments = VecDeque::new();
        (self.unread, self.allocated) = (0, 0);
        self.window = INITIAL_WINDOW;
        self.held.shrink(self.held.bytes());
        growth
    }
}

impl Segment {
    fn spare(&self) -> usize {
        self.data.capacity().saturating_sub(self.data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut receive = Receive::new(&Budget::unlimited());
        let data: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let (mut read, mut rest, mut size) = (Vec::new(), &data[..], 1);
        while read.len() < data.len() {
            let (now, later) = rest.split_at(size.min(rest.len()));
            receive.push(now).unwrap();
            rest = later;
            size = size * 3 % 70_001 + 1;
            let mut chunk = Vec::new();
            let limit = size / 2 + 1;
            receive.read(&mut (&mut chunk).limit(limit));
            read.extend(chunk);
        }
        assert!(read == data);
        assert_eq!(receive.unread(), 0);
        assert!(receive.allocated <= KEPT_SEGMENT && receive.held.bytes() == 0);
    }

    #[test]
    fn single_bytes_cost_at_most_twice_their_number() {
        let mut receive = Receive::new(&Budget::unlimited());
        for i in 1..=INITIAL_WINDOW as usize {
            assert!(receive.spend(1));
            receive.push(b"x").unwrap();
            assert!(receive.allocated <= 2 * i + SMALLEST_SEGMENT, "{i}: {}", receive.allocated);
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
