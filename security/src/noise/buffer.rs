//! Bytes between a producer and a consumer, in memory that is zeroed once, when it is got, and given back when idle.

/// What a buffer may keep whatever is in it. Connections are mostly idle, and there are many.
const KEEP: usize = 4 * 1024;

/// `bytes[start..end]` is filled; what is after `end` is spare.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// All spare room, `wanted` bytes of it at least.
    pub(super) fn spare(&mut self, wanted: usize) -> &mut [u8] {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        if self.bytes.len().saturating_sub(self.end) < wanted && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        let needed = self.end.saturating_add(wanted);
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// The first `n` bytes of the spare room are filled now.
    pub(super) fn fill(&mut self, n: usize) {
        self.end = self.end.saturating_add(n).min(self.bytes.len());
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if let Some(room) = self.spare(bytes.len()).get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.fill(bytes.len());
    }

    /// The first `n` filled bytes are done with.
    pub(super) fn consume(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.end);
    }

    /// Gives memory back, if little or nothing is in it: a peer that stops within a frame holds four times as much as it
    /// sent, at the most.
    pub(super) fn rest(&mut self) {
        let allocated = self.bytes.capacity();
        if allocated > KEEP && self.len() <= allocated / 4 {
            let bytes = self.filled().to_vec();
            *self = Self { start: 0, end: bytes.len(), bytes };
        }
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.bytes.capacity()
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
        }
    }
}
