//! Messages on a stream, each with its length before it as a [`varint`].
//!
//! Nearly every protocol of libp2p frames its messages so. No input or output happens here: bytes come in as they
//! arrive, in chunks of any size, and frames come out.

use crate::varint;
use bytes::{Bytes, BytesMut};

/// What a frame that has only begun may hold reserved ahead of the bytes that have arrived.
const HEAD_START: usize = 4096;

/// Why a stream is not a sequence of frames, or of frames that are taken. Nothing after it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The length is not a varint.
    #[error("frame length: {0}")]
    Length(#[from] varint::Error),
    /// The frame is longer than allowed.
    #[error("frame of {len} bytes, {max} allowed")]
    TooLong {
        /// Bytes announced.
        len: u64,
        /// Bytes allowed.
        max: usize,
    },
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame")]
    Truncated,
}

/// Appends `frame` to `out` with its length before it.
///
/// ```
/// let mut out = Vec::new();
/// peerage_core::frame::encode(b"na\n", &mut out);
/// assert_eq!(out, b"\x03na\n");
/// ```
pub fn encode(frame: &[u8], out: &mut Vec<u8>) {
    let len = frame.len() as u64;
    out.reserve(frame.len().saturating_add(varint::len(len)));
    varint::encode(len, out);
    out.extend_from_slice(frame);
}

/// Cuts a stream into frames.
///
/// It buffers one unfinished frame at most, never more than the allowed length and a length prefix, and reserves
/// memory as bytes arrive, not as they are announced.
///
/// ```
/// use peerage_core::frame::Decoder;
///
/// let mut decoder = Decoder::new(1024);
/// let mut input = &b"\x05hel"[..];
/// assert_eq!(decoder.decode(&mut input)?, None);
///
/// let mut input = &b"lo\x00\x01"[..];
/// assert_eq!(decoder.decode(&mut input)?.unwrap(), "hello");
/// assert_eq!(decoder.decode(&mut input)?.unwrap(), "");
/// assert_eq!(decoder.decode(&mut input)?, None);
/// assert!(decoder.finish().is_err());
/// # Ok::<(), peerage_core::frame::Error>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    max: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Length { prefix: [u8; varint::MAX_LEN], have: usize },
    Body { missing: usize, body: BytesMut },
    Failed(Error),
}

impl State {
    const START: State = State::Length { prefix: [0; varint::MAX_LEN], have: 0 };
}

impl Decoder {
    /// Takes frames of at most `max` bytes, their length prefix not counted.
    pub fn new(max: usize) -> Decoder {
        Decoder { max, state: State::START }
    }

    /// Takes bytes off the front of `input` until a frame is complete, and no byte after it; `None` when `input` is
    /// used up first.
    ///
    /// # Errors
    ///
    /// When the length is malformed or over the limit, in the same call in which its last byte is there. Every later
    /// call returns the same error and takes nothing.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Bytes>, Error> {
        let result = self.advance(input);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] inside a frame; the error of [`Decoder::decode`], if there was one.
    pub fn finish(&self) -> Result<(), Error> {
        match self.state {
            State::Length { have: 0, .. } => Ok(()),
            State::Failed(error) => Err(error),
            _ => Err(Error::Truncated),
        }
    }

    /// The bytes of an unfinished frame that are held, its length prefix included as long as it is all there is.
    pub fn buffered(&self) -> usize {
        match &self.state {
            State::Length { have, .. } => *have,
            State::Body { body, .. } => body.len(),
            State::Failed(_) => 0,
        }
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Bytes>, Error> {
        loop {
            match &mut self.state {
                State::Length { prefix, have } => {
                    let Some((&byte, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    *input = rest;
                    if let Some(slot) = prefix.get_mut(*have) {
                        *slot = byte;
                    }
                    *have = have.saturating_add(1);
                    if let Some((len, _)) = varint::decode(prefix.get(..*have).unwrap_or(prefix))? {
                        let missing = usize::try_from(len)
                            .ok()
                            .filter(|len| *len <= self.max)
                            .ok_or(Error::TooLong { len, max: self.max })?;
                        self.state = State::Body { missing, body: BytesMut::new() };
                    }
                }
                State::Body { missing, body } => {
                    if body.is_empty() {
                        // A frame that is here whole gets its size; another one a start, and then grows by doubling.
                        body.reserve((*missing).min(input.len().max(HEAD_START)));
                    }
                    let (part, rest) = input.split_at_checked(*missing).unwrap_or((input, &[]));
                    body.extend_from_slice(part);
                    *missing = missing.saturating_sub(part.len());
                    *input = rest;
                    if *missing > 0 {
                        return Ok(None);
                    }
                    let frame = std::mem::take(body).freeze();
                    self.state = State::START;
                    return Ok(Some(frame));
                }
                State::Failed(error) => return Err(*error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            encode(frame, &mut out);
        }
        out
    }

    /// Feeds `stream` in chunks that end at `cuts`: the frames, and the error at which it ended.
    fn run(stream: &[u8], cuts: &[usize], max: usize) -> (Vec<Bytes>, Result<(), Error>) {
        let mut decoder = Decoder::new(max);
        let mut frames = Vec::new();
        let mut from = 0;
        for to in cuts.iter().copied().chain([stream.len()]) {
            let mut chunk = &stream[from.min(to)..to];
            from = from.max(to);
            loop {
                match decoder.decode(&mut chunk) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break assert!(chunk.is_empty()),
                    Err(error) => return (frames, Err(error)),
                }
                assert!(decoder.buffered() <= max + varint::MAX_LEN);
            }
        }
        (frames, decoder.finish())
    }

    #[test]
    fn the_limit_and_one_more() {
        let mut decoder = Decoder::new(300);
        assert_eq!(decoder.decode(&mut &framed(&[vec![7; 300]])[..]), Ok(Some(Bytes::from(vec![7; 300]))));
        // 301 is `ad 02`: refused with the prefix, before any of the frame.
        assert_eq!(decoder.decode(&mut &[0xad][..]), Ok(None));
        let error = Err(Error::TooLong { len: 301, max: 300 });
        assert_eq!(decoder.decode(&mut &[0x02][..]), error);
        let mut later = &[0x01, 0x00][..];
        assert_eq!(decoder.decode(&mut later), error);
        assert_eq!(later.len(), 2);
        assert_eq!(decoder.finish().map(|()| None), error);
    }

    #[test]
    fn lengths_that_are_none() {
        let fails = |stream: &[u8]| Decoder::new(usize::MAX).decode(&mut &stream[..]).unwrap_err();
        assert_eq!(fails(&[0x80, 0x00]), Error::Length(varint::Error::NotMinimal));
        assert_eq!(fails(&[0xff; 9]), Error::Length(varint::Error::TooLong));
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let error = Decoder::new(1024).decode(&mut &huge[..]);
        assert_eq!(error, Err(Error::TooLong { len: varint::MAX, max: 1024 }));
    }

    #[test]
    fn memory_follows_what_arrived() {
        let mut decoder = Decoder::new(1 << 30);
        // A gigabyte announced, a few bytes sent.
        let mut input = &[0x80, 0x80, 0x80, 0x80, 0x04, 1, 2, 3][..];
        assert_eq!(decoder.decode(&mut input), Ok(None));
        let State::Body { body, .. } = &decoder.state else { panic!() };
        assert!(body.capacity() <= HEAD_START, "{}", body.capacity());
    }

    #[test]
    fn the_end_of_a_stream() {
        for cut in 0..5 {
            let mut decoder = Decoder::new(10);
            let _ = decoder.decode(&mut &b"\x04abcd"[..cut]);
            assert_eq!(decoder.finish().is_ok(), cut == 0, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn frames_round_trip(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..6),
            mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let stream = framed(&frames);
            let mut cuts: Vec<_> = cuts.drain(..).map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let (read, end) = run(&stream, &cuts, 400);
            prop_assert_eq!(read, frames);
            prop_assert_eq!(end, Ok(()));
        }

        #[test]
        fn chunks_do_not_matter(stream: Vec<u8>, cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let whole = run(&stream, &[], 64);
            let singly: Vec<_> = (0..stream.len()).collect();
            prop_assert_eq!(run(&stream, &cuts, 64), whole.clone());
            prop_assert_eq!(run(&stream, &singly, 64), whole);
        }
    }
}
