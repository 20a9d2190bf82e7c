//! Frames (RFC 6455, section 5), without their contents. Pure.
//!
//! A frame's payload is never collected: its header is read, and the bytes after it are passed on as they come. What a
//! header claims therefore allocates nothing.

/// The most bytes of a header: flags, a length of eight bytes, a mask.
pub(super) const MAX_HEADER_LEN: usize = 14;
/// The most bytes of a control frame's payload (RFC 6455, section 5.5).
pub(super) const MAX_CONTROL_LEN: usize = 125;
/// The most bytes of a data frame that a peer may announce. Honest peers put what one write gave them into a frame, which
/// is far below a mebibyte; and no more than this is waited for after nonsense.
pub const MAX_FRAME_LEN: u64 = 16 << 20;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continue,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn of(code: u8) -> Option<Self> {
        Some(match code {
            0x0 => Self::Continue,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    const fn code(self) -> u8 {
        match self {
            Self::Continue => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    pub(super) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What precedes a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The last frame of its message.
    pub(super) last: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<Mask>,
    /// Of the payload.
    pub(super) len: u64,
}

/// How a peer broke the WebSocket protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A bit is set whose meaning no extension has given it; none is ever agreed on.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// The frame is of a kind that does not exist.
    #[error("a frame of an unknown kind")]
    UnknownOpcode,
    /// A client did not mask.
    #[error("a frame of a client without a mask")]
    Unmasked,
    /// A server masked.
    #[error("a frame of a server with a mask")]
    Masked,
    /// Larger than [`MAX_FRAME_LEN`].
    #[error("a frame of {0} bytes; {MAX_FRAME_LEN} is the most")]
    TooLong(u64),
    /// A ping, pong or close of more than 125 bytes, or in several pieces.
    #[error("a control frame that is too long, or in pieces")]
    Control,
    /// A fragment that belongs to no message, or a message inside another one.
    #[error("a fragment where none belongs")]
    Fragment,
    /// libp2p speaks in binary.
    #[error("a text message")]
    Text,
    /// The reason in a close frame is malformed.
    #[error("a malformed close frame")]
    Close,
}

impl Violation {
    /// The status to close with (RFC 6455, section 7.4.1).
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Text => 1003,
            Self::TooLong(_) => 1009,
            _ => 1002,
        }
    }
}

impl Header {
    /// Reads a header from the beginning of `bytes`, and how long it is; `None` if it is not all there. What breaks the
    /// protocol is said as soon as it is seen.
    pub(super) fn decode(bytes: &[u8], of_client: bool) -> Result<Option<(Self, usize)>, Violation> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & RESERVED != 0 {
            return Err(Violation::ReservedBit);
        }
        let last = first & FIN != 0;
        let opcode = Opcode::of(first & 0x0f).ok_or(Violation::UnknownOpcode)?;
        match (of_client, second & MASKED != 0) {
            (true, false) => return Err(Violation::Unmasked),
            (false, true) => return Err(Violation::Masked),
            _ => {}
        }
        let short = second & !MASKED;
        if opcode.is_control() && (!last || usize::from(short) > MAX_CONTROL_LEN) {
            return Err(Violation::Control);
        }
        let (len, rest) = match short {
            LENGTH_16 => match rest.split_first_chunk() {
                Some((len, rest)) => (u16::from_be_bytes(*len).into(), rest),
                None => return Ok(None),
            },
            LENGTH_64 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest),
                None => return Ok(None),
            },
            short => (short.into(), rest),
        };
        if len > MAX_FRAME_LEN {
            return Err(Violation::TooLong(len));
        }
        let (mask, rest) = if of_client {
            match rest.split_first_chunk() {
                Some((key, rest)) => (Some(Mask::new(*key)), rest),
                None => return Ok(None),
            }
        } else {
            (None, rest)
        };
        let used = bytes.len().saturating_sub(rest.len());
        Ok(Some((Self { last, opcode, mask, len }, used)))
    }

    /// Its bytes, and how many of them count.
    pub(super) fn encode(&self) -> ([u8; MAX_HEADER_LEN], usize) {
        let mut bytes = [0; MAX_HEADER_LEN];
        let mut at: usize = 0;
        let mut put = |some: &[u8]| {
            let end = at.saturating_add(some.len());
            if let Some(place) = bytes.get_mut(at..end) {
                place.copy_from_slice(some);
            }
            at = end;
        };
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        put(&[if self.last { FIN } else { 0 } | self.opcode.code()]);
        match (u8::try_from(self.len), u16::try_from(self.len)) {
            (Ok(len), _) if len < LENGTH_16 => put(&[masked | len]),
            (_, Ok(len)) => {
                put(&[masked | LENGTH_16]);
                put(&len.to_be_bytes());
            }
            _ => {
                put(&[masked | LENGTH_64]);
                put(&self.len.to_be_bytes());
            }
        }
        if let Some(mask) = &self.mask {
            put(&mask.key);
        }
        (bytes, at)
    }
}

/// What a client's payload is combined with, so that it cannot choose the bytes that a proxy sees (RFC 6455, section 10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask {
    key: [u8; 4],
    /// Bytes that it was applied to, of which four are as good as none.
    done: usize,
}

impl Mask {
    pub(super) const fn new(key: [u8; 4]) -> Self {
        Self { key, done: 0 }
    }

    /// Masks the payload's next bytes, or takes the mask off them.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        let mut key = self.key;
        key.rotate_left(self.done % 4);
        self.done = self.done.wrapping_add(bytes.len()) % 4;
        let word = u32::from_ne_bytes(key);
        let wide = u64::from(word) << 32 | u64::from(word);
        let (words, rest) = bytes.as_chunks_mut::<8>();
        for bytes in words {
            *bytes = (u64::from_ne_bytes(*bytes) ^ wide).to_ne_bytes();
        }
        for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn hello(last: bool, opcode: Opcode, mask: Option<Mask>, len: u64) -> Header {
        Header { last, opcode, mask, len }
    }

    /// RFC 6455, section 5.7.
    #[test]
    fn the_examples_of_the_rfc() {
        let masked = Some(Mask::new(KEY));
        for (bytes, of_client, header) in [
            (&[0x81, 0x05][..], false, hello(true, Opcode::Text, None, 5)),
            (&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d], true, hello(true, Opcode::Text, masked, 5)),
            (&[0x01, 0x03], false, hello(false, Opcode::Text, None, 3)),
            (&[0x80, 0x02], false, hello(true, Opcode::Continue, None, 2)),
            (&[0x89, 0x05], false, hello(true, Opcode::Ping, None, 5)),
            (&[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d], true, hello(true, Opcode::Pong, masked, 5)),
            (&[0x82, 0x7e, 0x01, 0x00], false, hello(true, Opcode::Binary, None, 256)),
            (&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0], false, hello(true, Opcode::Binary, None, 65536)),
        ] {
            assert_eq!(Header::decode(bytes, of_client), Ok(Some((header, bytes.len()))));
            let (encoded, len) = header.encode();
            assert_eq!(&encoded[..len], bytes);
            for cut in 0..bytes.len() {
                assert_eq!(Header::decode(&bytes[..cut], of_client), Ok(None));
            }
        }
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        Mask::new(KEY).apply(&mut payload);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn what_breaks_the_protocol() {
        let server = |bytes: &[u8]| Header::decode(bytes, false).unwrap_err();
        for flag in [0xc2, 0xa2, 0x92] {
            assert_eq!(server(&[flag, 0]), Violation::ReservedBit);
        }
        for code in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            assert_eq!(server(&[0x80 | code, 0]), Violation::UnknownOpcode);
        }
        assert_eq!(server(&[0x82, 0x80]), Violation::Masked);
        assert_eq!(Header::decode(&[0x82, 0x00], true), Err(Violation::Unmasked));
        for code in [8, 9, 0xa] {
            assert_eq!(server(&[code, 0]), Violation::Control, "in pieces");
            assert_eq!(server(&[0x80 | code, 126]), Violation::Control, "too long");
            assert_eq!(server(&[0x80 | code, 127]), Violation::Control, "too long");
            assert!(Header::decode(&[0x80 | code, 125], false).unwrap().is_some());
        }
    }

    #[test]
    fn lengths_up_to_the_limit() {
        let of = |len: u64| Header::decode(&[&[0x82, 127][..], &len.to_be_bytes()].concat(), false);
        assert!(of(MAX_FRAME_LEN).unwrap().is_some());
        for len in [MAX_FRAME_LEN + 1, 256 << 20, 1 << 63, u64::MAX] {
            assert_eq!(of(len), Err(Violation::TooLong(len)));
        }
    }

    proptest! {
        #[test]
        fn headers_go_both_ways(
            last: bool, code in 0..3_u8, len in 0..=MAX_FRAME_LEN, key: Option<[u8; 4]>
        ) {
            let opcode = Opcode::of(code).unwrap();
            let header = Header { last, opcode, mask: key.map(Mask::new), len };
            let (bytes, used) = header.encode();
            prop_assert_eq!(Header::decode(&bytes[..used], key.is_some()), Ok(Some((header, used))));
        }

        #[test]
        fn a_mask_is_the_same_in_pieces(key: [u8; 4], bytes: Vec<u8>, cut in 0..64_usize) {
            let mut whole = bytes.clone();
            Mask::new(key).apply(&mut whole);
            let slow: Vec<u8> = bytes.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            prop_assert_eq!(&whole, &slow);
            let mut pieces = bytes.clone();
            let (one, two) = pieces.split_at_mut(cut.min(bytes.len()));
            let mut mask = Mask::new(key);
            mask.apply(one);
            mask.apply(two);
            prop_assert_eq!(pieces, slow);
        }
    }
}
