//! Frames on their way to the socket.

use std::{collections::VecDeque, io::IoSlice};

use peerage_core::pool;

/// Bodies of this size and more are handed over as they are; smaller ones are copied behind their headers.
pub(in super::super) const HANDED_OVER: usize = 16 * 1024;

/// A buffer of small frames up to this size is kept when it is empty.
const KEPT: usize = 4 * 1024;

/// The bytes of frames, in pieces: headers and small bodies in some, large bodies in others, which were never copied
/// since the user wrote them.
#[derive(Default)]
pub(in super::super) struct Frames {
    pieces: VecDeque<Vec<u8>>,
    /// Of the first piece that the socket has taken.
    taken: usize,
    len: usize,
    /// The last piece is a body.
    closed: bool,
    /// Empty, with room.
    kept: Vec<u8>,
}

impl Frames {
    /// Bytes in it.
    pub(in super::super) fn len(&self) -> usize {
        self.len
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a copy.
    pub(in super::super) fn put(&mut self, bytes: &[u8]) {
        if self.closed || self.pieces.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.kept));
            self.closed = false;
        }
        if let Some(last) = self.pieces.back_mut() {
            last.extend_from_slice(bytes);
            self.len = self.len.saturating_add(bytes.len());
        }
    }

    /// Appends a body as it is.
    pub(super) fn hand_over(&mut self, body: Vec<u8>) {
        self.len = self.len.saturating_add(body.len());
        self.pieces.push_back(body);
        self.closed = true;
    }

    /// What comes next, as far as there are slices for it; says how many there are.
    pub(in super::super) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.taken;
        let mut filled: usize = 0;
        for (slice, piece) in into.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece.get(skip..).unwrap_or_default());
            skip = 0;
            filled = filled.saturating_add(1);
        }
        filled
    }

    /// All of it.
    #[cfg(test)]
    pub(super) fn to_vec(&self) -> Vec<u8> {
        self.pieces.iter().flatten().copied().skip(self.taken).collect()
    }

    /// The socket took the first `n` bytes.
    pub(in super::super) fn advance(&mut self, n: usize) {
        self.len = self.len.saturating_sub(n);
        self.taken = self.taken.saturating_add(n);
        while let Some(first) = self.pieces.front()
            && self.taken >= first.len()
        {
            self.taken = self.taken.saturating_sub(first.len());
            if let Some(mut piece) = self.pieces.pop_front() {
                if piece.capacity() <= KEPT && piece.capacity() > self.kept.capacity() {
                    piece.clear();
                    self.kept = piece;
                } else {
                    pool::give(piece);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_one_stream() {
        let mut frames = Frames::default();
        let mut all = Vec::new();
        for i in 0..20u8 {
            frames.put(&[i; 12]);
            all.extend([i; 12]);
            if i % 3 == 0 {
                frames.hand_over(vec![i; 1000]);
                all.extend([i; 1000]);
            }
        }
        assert_eq!(frames.len(), all.len());
        let (mut got, mut step) = (Vec::new(), 1);
        while !frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = frames.slices(&mut slices);
            assert!(filled > 0);
            let there: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            let n = there.len().min(step);
            got.extend_from_slice(&there[..n]);
            frames.advance(n);
            step = step * 2 % 1500 + 1;
        }
        assert!(got == all);
        assert!(frames.pieces.is_empty() && frames.taken == 0);
    }
}
