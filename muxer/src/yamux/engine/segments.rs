//! Bytes that wait in a stream: for its reader, or for the socket.

use std::collections::VecDeque;

use peerage_core::{budget::Exhausted, pool};

/// The smallest piece of memory. Single bytes share it, so they cost little more than their number.
pub(super) const SMALLEST_SEGMENT: usize = 256;

/// The largest, so that memory goes back while a long backlog is worked off.
const LARGEST_SEGMENT: usize = 64 * 1024;

/// An empty segment up to this size is kept for what comes next.
pub(super) const KEPT_SEGMENT: usize = 4 * 1024;

/// First in, first out, in pieces of memory each at least as large as the one before it.
#[derive(Default)]
pub(super) struct Segments {
    queue: VecDeque<Segment>,
    len: usize,
    allocated: usize,
}

struct Segment {
    data: Vec<u8>,
    read: usize,
}

impl Segment {
    fn rest(&self) -> &[u8] {
        self.data.get(self.read..).unwrap_or_default()
    }

    fn spare(&self) -> usize {
        self.data.capacity().saturating_sub(self.data.len())
    }
}

impl Segments {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory of all segments.
    pub(super) fn allocated(&self) -> usize {
        self.allocated
    }

    /// Appends. `reserve` is asked before memory is got, with how much there will be then; what was appended before it
    /// refuses stays.
    pub(super) fn push(
        &mut self,
        mut data: &[u8],
        mut reserve: impl FnMut(usize) -> Result<(), Exhausted>,
    ) -> Result<(), Exhausted> {
        while !data.is_empty() {
            let Some(segment) = self.queue.back_mut().filter(|segment| segment.spare() > 0) else {
                let last = self.queue.back().map_or(0, |segment| segment.data.capacity());
                let size = data.len().max(last.saturating_mul(2)).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT);
                let allocated = self.allocated.saturating_add(pool::size_for(size));
                reserve(allocated)?;
                self.allocated = allocated;
                self.queue.push_back(Segment { data: pool::take(size), read: 0 });
                continue;
            };
            let (now, later) = data.split_at(segment.spare().min(data.len()));
            segment.data.extend_from_slice(now);
            self.len = self.len.saturating_add(now.len());
            data = later;
        }
        Ok(())
    }

    /// Takes the first bytes, at most so many, and says how many there were.
    pub(super) fn take(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut taken: usize = 0;
        while taken < most {
            let last = self.queue.len() == 1;
            let Some(segment) = self.queue.front_mut() else { break };
            let rest = segment.rest();
            let part = rest.get(..most.saturating_sub(taken)).unwrap_or(rest);
            each(part);
            taken = taken.saturating_add(part.len());
            segment.read = segment.read.saturating_add(part.len());
            if segment.read < segment.data.len() {
                break;
            }
            if last && self.allocated <= KEPT_SEGMENT {
                segment.data.clear();
                segment.read = 0;
                break;
            }
            if let Some(segment) = self.drop_first() {
                pool::give(segment.data);
            }
        }
        self.len = self.len.saturating_sub(taken);
        taken
    }

    /// How many bytes the first segment has, if all of what was put into it is still there.
    pub(super) fn first_whole(&self) -> Option<usize> {
        self.queue.front().filter(|segment| segment.read == 0).map(|segment| segment.data.len())
    }

    /// The first segment, as it is.
    pub(super) fn take_first(&mut self) -> Option<Vec<u8>> {
        let segment = self.drop_first()?;
        self.len = self.len.saturating_sub(segment.rest().len());
        Some(segment.data)
    }

    fn drop_first(&mut self) -> Option<Segment> {
        let segment = self.queue.pop_front()?;
        self.allocated = self.allocated.saturating_sub(segment.data.capacity());
        Some(segment)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        while let Some(segment) = self.drop_first() {
            pool::give(segment.data);
        }
        *self = Self::default();
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.queue.drain(..).for_each(|segment| pool::give(segment.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut segments = Segments::default();
        let data: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let (mut got, mut rest, mut size) = (Vec::new(), &data[..], 1);
        while got.len() < data.len() {
            let (now, later) = rest.split_at(size.min(rest.len()));
            segments.push(now, |_| Ok(())).unwrap();
            rest = later;
            size = size * 3 % 70_001 + 1;
            if size % 5 == 0 && segments.first_whole().is_some_and(|len| len > 0) {
                got.extend(segments.take_first().unwrap());
            } else {
                let most = size / 2 + 1;
                assert!(segments.take(most, |part| got.extend_from_slice(part)) <= most);
            }
            assert_eq!(segments.len() + got.len() + rest.len(), data.len());
        }
        assert!(got == data);
        assert!(segments.is_empty() && segments.allocated() <= KEPT_SEGMENT);
    }

    #[test]
    fn what_is_allocated_is_what_there_is() {
        let mut segments = Segments::default();
        for size in [1, 255, 256, 257, 5000, 70_000, 1] {
            segments.push(&vec![7; size], |_| Ok(())).unwrap();
            let there: usize = segments.queue.iter().map(|segment| segment.data.capacity()).sum();
            assert_eq!(segments.allocated(), there);
        }
        segments.take(71_000, |_| ());
        let there: usize = segments.queue.iter().map(|segment| segment.data.capacity()).sum();
        assert_eq!(segments.allocated(), there);
        segments.clear();
        assert_eq!((segments.len(), segments.allocated()), (0, 0));
    }
}
