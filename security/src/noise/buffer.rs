//! Bytes between a producer and a consumer, in memory that is given back when idle.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use peerage_core::pool;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// What a buffer may keep whatever is in it. Connections are mostly idle, and there are many.
const KEEP: usize = 4 * 1024;

/// `bytes[start..]` is filled; what the vector has room for is spare.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(super) fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    fn spare(&self) -> usize {
        self.bytes.capacity().saturating_sub(self.bytes.len())
    }

    /// Sees to it that `wanted` bytes can be added.
    pub(super) fn reserve(&mut self, wanted: usize) {
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
        if self.spare() >= wanted {
            return;
        }
        let filled = self.len();
        let needed = filled.saturating_add(wanted);
        if needed <= self.bytes.capacity() {
            self.bytes.copy_within(self.start.., 0);
            self.bytes.truncate(filled);
        } else {
            self.move_to(pool::take(needed));
        }
        self.start = 0;
    }

    fn move_to(&mut self, mut bytes: Vec<u8>) {
        bytes.extend_from_slice(self.filled());
        pool::give(std::mem::replace(&mut self.bytes, bytes));
        self.start = 0;
    }

    /// Fills the spare room as far as `io` does; zero at its end.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        poll_read_buf(Pin::new(io), cx, &mut self.bytes)
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// The first `n` filled bytes are done with.
    pub(super) fn consume(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.bytes.len());
    }

    /// Gives memory back, if little or nothing is in it: a peer that stops within a frame holds four times as much as it
    /// sent, at the most.
    pub(super) fn rest(&mut self) {
        let allocated = self.bytes.capacity();
        if allocated > KEEP && self.len() <= allocated / 4 {
            self.move_to(Vec::with_capacity(self.len()));
        }
    }

    /// As [`Buffer::rest`], but one that is empty keeps nothing.
    pub(super) fn sleep(&mut self) {
        if self.is_empty() {
            pool::give(std::mem::take(&mut self.bytes));
            self.start = 0;
        } else {
            self.rest();
        }
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        pool::give(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resting_buffer_keeps_what_is_in_it_and_little_more() {
        let content: Vec<u8> = (0..=u8::MAX).cycle().take(128 * 1024).collect();
        for left in [0, 1, 2, 1000, KEEP, 32 * 1024, 32 * 1024 + 1, 128 * 1024] {
            let mut buffer = Buffer::default();
            buffer.push(&content);
            buffer.consume(content.len() - left);
            buffer.rest();
            let kept = &content[content.len() - left..];
            assert!(buffer.filled() == kept, "{left}");
            assert!(buffer.allocated() <= (4 * left).max(KEEP), "{left}: {}", buffer.allocated());
            buffer.push(b"more");
            assert!(buffer.filled() == [kept, b"more"].concat(), "{left}");
            buffer.sleep();
            assert!(buffer.filled() == [kept, b"more"].concat(), "{left}");
            buffer.consume(usize::MAX);
            buffer.sleep();
            assert_eq!((buffer.allocated(), buffer.filled()), (0, &b""[..]), "{left}");
        }
    }

    #[test]
    fn what_is_left_moves_to_the_front_when_there_is_no_room_behind_it() {
        let mut buffer = Buffer::default();
        buffer.reserve(64);
        let allocated = buffer.allocated();
        for round in 0..100u8 {
            buffer.push(&[round; 40]);
            assert_eq!(buffer.filled()[buffer.len() - 40..], [round; 40]);
            buffer.consume(buffer.len().saturating_sub(20));
        }
        assert_eq!(buffer.allocated(), allocated);
    }
}
