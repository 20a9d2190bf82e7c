//! The record layer (noise spec, "Wire Format"), without I/O: frames of two bytes of length, big endian, and up to 65535
//! bytes of ciphertext, 16 of them the tag.
//!
//! Bytes are sealed and opened where they lie: in the buffer from which the socket takes them, and in the one that the
//! socket fills. Each is copied once, between there and whoever writes or reads, and nothing is allocated for a frame.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{Error, KEY, TAG, buffer::Buffer};

/// The longest plaintext of one frame.
pub(super) const MAX_PLAIN: usize = 65535 - TAG;

/// The two bytes of length.
pub(super) const PREFIX: usize = 2;

/// The longest frame.
pub(super) const MAX_FRAME: usize = PREFIX + MAX_PLAIN + TAG;

/// Sealed bytes that may wait for the socket; with as many or more, nothing is taken. The last frame may go over it.
pub(super) const MAX_SEALED: usize = 4 * MAX_FRAME;

/// A key of the cipher. `None` only if aws-lc has no memory left.
pub(super) fn key(bytes: &[u8; KEY]) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, bytes).ok().map(LessSafeKey::new)
}

/// "32 bits of zeros followed by little-endian encoding of n" (Noise, section 12.3).
pub(super) fn nonce(n: u64) -> Nonce {
    let mut nonce = [0; 12];
    if let Some(counter) = nonce.last_chunk_mut() {
        *counter = n.to_le_bytes();
    }
    Nonce::assume_unique_for_key(nonce)
}

/// The key of one direction, and how often it was used.
pub(super) struct Direction {
    key: LessSafeKey,
    used: u64,
}

impl Direction {
    pub(super) fn new(bytes: &[u8; KEY]) -> Result<Self, Error> {
        let key = key(bytes).ok_or_else(|| Error::Internal("no key".to_owned()))?;
        Ok(Self { key, used: 0 })
    }

    /// As after `used` frames.
    #[cfg(test)]
    pub(super) fn used(mut self, used: u64) -> Self {
        self.used = used;
        self
    }

    /// What `used` is after one more. 2^64 - 1 is no nonce (Noise, section 5.1), so that this never wraps.
    fn next(&self) -> Result<u64, Error> {
        self.used.checked_add(1).ok_or(Error::Exhausted)
    }

    /// Seals in place. The nonce counts as used whatever comes of it.
    fn seal(&mut self, plain: &mut [u8]) -> Result<[u8; TAG], Error> {
        let next = self.next()?;
        let nonce = nonce(self.used);
        self.used = next;
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), plain);
        let tag = tag.ok().and_then(|tag| tag.as_ref().try_into().ok());
        tag.ok_or_else(|| Error::Internal("a frame could not be sealed".to_owned()))
    }

    /// Opens in place; the plaintext is what was before the tag. What does not open uses up no nonce (the class of
    /// CVE-2024-58265), although nobody asks for another frame then.
    fn open(&mut self, ciphertext: &mut [u8]) -> Result<(), Error> {
        let next = self.next()?;
        self.key.open_in_place(nonce(self.used), Aad::empty(), ciphertext).map_err(|_| Error::Decrypt)?;
        self.used = next;
        Ok(())
    }
}

/// What is written, on its way to the socket: sealed frames, and behind them the one that is being filled.
pub(super) struct Sealer {
    key: Direction,
    buffer: Buffer,
    /// Bytes of sealed frames. What is after them in the buffer is room for a length, and plaintext.
    sealed: usize,
}

impl Sealer {
    pub(super) fn new(key: Direction) -> Self {
        Self { key, buffer: Buffer::default(), sealed: 0 }
    }

    /// Collects what fits, and seals what makes full frames.
    pub(super) fn push(&mut self, mut plain: &[u8]) -> Result<usize, Error> {
        self.reserve(plain.len());
        let before = plain.len();
        while !plain.is_empty() && !self.is_full() {
            let collected = self.buffer.len().saturating_sub(self.sealed).saturating_sub(PREFIX);
            let room = MAX_PLAIN.saturating_sub(collected);
            let (now, later) = plain.split_at_checked(room).unwrap_or((plain, &[]));
            if collected == 0 {
                self.buffer.push(&[0; PREFIX]);
            }
            self.buffer.push(now);
            plain = later;
            if now.len() == room {
                self.seal()?;
            }
        }
        Ok(before.saturating_sub(plain.len()))
    }

    /// Room for all that a [`Sealer::push`] of `len` bytes adds, so that the buffer grows at most once.
    fn reserve(&mut self, len: usize) {
        let frames = (len / MAX_PLAIN).saturating_add(2);
        let wanted = frames.saturating_mul(PREFIX + TAG).saturating_add(len);
        let most = (MAX_SEALED + MAX_FRAME).saturating_sub(self.buffer.len());
        self.buffer.reserve(wanted.min(most));
    }

    /// Seals what was collected.
    pub(super) fn seal(&mut self) -> Result<(), Error> {
        let frame = self.buffer.filled_mut().get_mut(self.sealed..).unwrap_or_default();
        let Some((prefix, plain)) = frame.split_first_chunk_mut::<PREFIX>() else {
            return Ok(());
        };
        let len = u16::try_from(plain.len().saturating_add(TAG));
        let len = len.map_err(|_| Error::Internal("a frame too long".to_owned()))?;
        let tag = self.key.seal(plain)?;
        *prefix = len.to_be_bytes();
        self.buffer.push(&tag);
        self.sealed = self.buffer.len();
        Ok(())
    }

    /// Whether nothing is taken until the socket has taken some.
    pub(super) fn is_full(&self) -> bool {
        self.sealed >= MAX_SEALED
    }

    /// For the socket.
    pub(super) fn sealed(&self) -> &[u8] {
        self.buffer.filled().get(..self.sealed).unwrap_or_default()
    }

    /// The socket took the first `n` sealed bytes.
    pub(super) fn sent(&mut self, n: usize) {
        let n = n.min(self.sealed);
        self.buffer.consume(n);
        self.sealed = self.sealed.saturating_sub(n);
    }

    pub(super) fn rest(&mut self) {
        self.buffer.rest();
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.buffer.allocated()
    }
}

/// What was received: the rest of the frame that was opened last, and behind it what is still sealed.
pub(super) struct Opener {
    key: Direction,
    buffer: Buffer,
    /// Bytes of plaintext at the front. If there are any, the used up tag follows.
    plain: usize,
}

/// What became of [`Opener::open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// There is plaintext.
    Plain,
    /// A frame without content.
    Empty,
    /// There is no whole frame: so many bytes of it are missing, as far as is known.
    Missing(usize),
}

impl Opener {
    /// `received` may begin with frames.
    pub(super) fn new(key: Direction, received: Buffer) -> Self {
        Self { key, buffer: received, plain: 0 }
    }

    /// Where what the socket has is put.
    pub(super) fn buffer(&mut self) -> &mut Buffer {
        &mut self.buffer
    }

    /// Opens the next frame, if the last one is used up.
    pub(super) fn open(&mut self) -> Result<Opened, Error> {
        if self.plain > 0 {
            return Ok(Opened::Plain);
        }
        let received = self.buffer.filled_mut();
        let Some((prefix, rest)) = received.split_first_chunk_mut::<PREFIX>() else {
            return Ok(Opened::Missing(PREFIX.saturating_sub(received.len())));
        };
        let len = usize::from(u16::from_be_bytes(*prefix));
        let plain = len.checked_sub(TAG).ok_or(Error::Malformed("a frame shorter than its tag"))?;
        let there = rest.len();
        let Some(ciphertext) = rest.get_mut(..len) else {
            return Ok(Opened::Missing(len.saturating_sub(there)));
        };
        self.key.open(ciphertext)?;
        if plain == 0 {
            self.buffer.consume(PREFIX + TAG);
            return Ok(Opened::Empty);
        }
        self.buffer.consume(PREFIX);
        self.plain = plain;
        Ok(Opened::Plain)
    }

    /// The rest of the frame that was opened last.
    pub(super) fn plain(&self) -> &[u8] {
        self.buffer.filled().get(..self.plain).unwrap_or_default()
    }

    /// The first `n` bytes of [`Opener::plain`] are done with.
    pub(super) fn consume(&mut self, n: usize) {
        let n = n.min(self.plain);
        if n == 0 {
            return;
        }
        self.plain = self.plain.saturating_sub(n);
        let tag = if self.plain == 0 { TAG } else { 0 };
        self.buffer.consume(n.saturating_add(tag));
    }

    /// Whether nothing is left, not even a part of a frame.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(super) fn rest(&mut self) {
        self.buffer.sleep();
    }

    #[cfg(test)]
    pub(super) fn into_key(self) -> Direction {
        self.key
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.buffer.allocated()
    }
}
