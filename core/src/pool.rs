//! Large buffers on their way from one use to the next.
//!
//! A connection that moves data needs buffers of 64 KiB and more, and one that rests should hold none. Asking the
//! allocator for each and giving each back costs more than what is done with the bytes: it hands such memory to the
//! kernel, and the kernel clears it page by page for the next who asks. So they are kept here, a bounded number of each
//! size, for whichever connection moves next.
//!
//! ```
//! use peerage_core::pool;
//!
//! let mut buffer = pool::take(100_000);
//! assert!(buffer.is_empty() && buffer.capacity() >= 100_000);
//! buffer.extend_from_slice(b"received");
//! pool::give(buffer);
//! ```

use std::sync::{Mutex, PoisonError};

/// The smallest buffer that is kept. The allocator is good at smaller ones.
pub const SMALLEST: usize = 16 * 1024;

/// The largest that is kept.
pub const LARGEST: usize = 512 * 1024;

/// Bytes of the buffers of one size that are kept at most. There are six sizes, so that a process keeps no more than
/// 24 MiB, whatever it did before.
pub const KEPT_OF_A_SIZE: usize = 4 * 1024 * 1024;

/// One for each power of two from [`SMALLEST`] to [`LARGEST`].
static SIZES: [Size; 6] = [const { Size::new() }; 6];

struct Size(Mutex<Vec<Vec<u8>>>);

impl Size {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Of buffers with exactly this capacity.
    fn of(capacity: usize) -> Option<&'static Self> {
        if !capacity.is_power_of_two() || !(SMALLEST..=LARGEST).contains(&capacity) {
            return None;
        }
        let place = capacity.trailing_zeros().checked_sub(SMALLEST.trailing_zeros())?;
        SIZES.get(usize::try_from(place).ok()?)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How large a buffer [`take`] gives for so many bytes: the next power of two.
pub fn size_for(bytes: usize) -> usize {
    bytes.checked_next_power_of_two().unwrap_or(bytes)
}

/// An empty buffer with room for so many bytes; its capacity is [`size_for`] them.
pub fn take(bytes: usize) -> Vec<u8> {
    let capacity = size_for(bytes);
    let kept = Size::of(capacity).and_then(|size| size.with(Vec::pop));
    kept.unwrap_or_else(|| Vec::with_capacity(capacity))
}

/// Keeps a buffer for the next one, if it has a size that is kept and there are not enough of it.
pub fn give(mut buffer: Vec<u8>) {
    let capacity = buffer.capacity();
    let Some(size) = Size::of(capacity) else { return };
    buffer.clear();
    // What is too much is dropped when the lock is open again.
    let _dropped = size.with(|kept| {
        if kept.len() < KEPT_OF_A_SIZE.checked_div(capacity).unwrap_or(0) {
            kept.push(buffer);
            None
        } else {
            Some(buffer)
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_room_that_was_asked_for_and_nothing_in_it() {
        for bytes in [0, 1, 1000, SMALLEST - 1, SMALLEST, SMALLEST + 1, 100_000, LARGEST, LARGEST + 1] {
            for _ in 0..3 {
                let mut buffer = take(bytes);
                assert!(buffer.is_empty() && buffer.capacity() >= bytes, "{bytes}");
                assert!(buffer.capacity() <= (2 * bytes).max(8), "{bytes}: {}", buffer.capacity());
                buffer.resize(bytes, 7);
                give(buffer);
            }
        }
    }

    /// The tests of this file share the pool, and none but this one uses this size.
    #[test]
    fn so_many_are_kept_and_no_more() {
        const SIZE: usize = 256 * 1024;
        let most = KEPT_OF_A_SIZE / SIZE;
        let taken: Vec<_> = (0..most + 2).map(|_| take(SIZE)).collect();
        taken.into_iter().for_each(give);
        assert_eq!(Size::of(SIZE).unwrap().with(|kept| kept.len()), most);
        for other in [0, 1, SMALLEST / 2, SMALLEST + 1, 2 * LARGEST] {
            assert!(Size::of(other).is_none(), "{other}");
        }
    }
}
