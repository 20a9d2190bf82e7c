//! Frames (mplex, "Message format"): a varint with the stream's id and a flag, a varint with a length, and the body.

use peerage_core::varint;

/// The longest body that is accepted; go-libp2p and js-libp2p have the same limit.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// The largest stream id: three of the 63 bits that a varint has are the flag.
pub(super) const MAX_ID: u64 = varint::MAX >> 3;

/// The most bytes that the two varints may have.
pub(super) const MAX_HEAD: usize = 2 * varint::MAX_LEN;

/// Both sides count their streams from where they like, so a stream is known by its id and by who opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) id: u64,
    /// This side opened it.
    pub(super) local: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NewStream,
    Message,
    Close,
    Reset,
}

/// What a frame says before its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// As the one who handles the head sees it: the receiver of one that was decoded, the sender of one to encode.
    pub(super) key: Key,
    pub(super) length: usize,
}

/// Why bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error("{0}")]
    Varint(#[from] varint::Error),
    #[error("flag 7, which means nothing")]
    Flag,
    #[error("message of {0} bytes, {MAX_MESSAGE} allowed")]
    Length(u64),
}

impl Head {
    /// Reads a head that the peer sent, and says how many bytes it has. `None` if some are missing.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let Some((header, first)) = varint::decode(bytes)? else {
            return Ok(None);
        };
        // The flags come in pairs: the receiver of the stream (odd) or its initiator speaks.
        let (kind, from_initiator) = match header & 7 {
            0 => (Kind::NewStream, true),
            1 => (Kind::Message, false),
            2 => (Kind::Message, true),
            3 => (Kind::Close, false),
            4 => (Kind::Close, true),
            5 => (Kind::Reset, false),
            6 => (Kind::Reset, true),
            _ => return Err(HeadError::Flag),
        };
        let Some((length, second)) = varint::decode(bytes.get(first..).unwrap_or_default())? else {
            return Ok(None);
        };
        let length = match usize::try_from(length) {
            Ok(length) if length <= MAX_MESSAGE => length,
            _ => return Err(HeadError::Length(length)),
        };
        let key = Key { id: header >> 3, local: !from_initiator };
        Ok(Some((Self { kind, key, length }, first.saturating_add(second))))
    }

    /// Writes a head that this side sends. Its id is at most [`MAX_ID`].
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let flag = match (self.kind, self.key.local) {
            (Kind::NewStream, _) => 0,
            (Kind::Message, false) => 1,
            (Kind::Message, true) => 2,
            (Kind::Close, false) => 3,
            (Kind::Close, true) => 4,
            (Kind::Reset, false) => 5,
            (Kind::Reset, true) => 6,
        };
        varint::encode((self.key.id.min(MAX_ID) << 3) | flag, out);
        varint::encode(u64::try_from(self.length).unwrap_or(u64::MAX).min(varint::MAX), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(kind: Kind, id: u64, local: bool, length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Head { kind, key: Key { id, local }, length }.encode(&mut out);
        out
    }

    /// The table of "Flag Values", with the id 5 and three bytes.
    #[test]
    fn flags() {
        assert_eq!(encoded(Kind::NewStream, 5, true, 3), [40, 3]);
        assert_eq!(encoded(Kind::Message, 5, false, 3), [41, 3]);
        assert_eq!(encoded(Kind::Message, 5, true, 3), [42, 3]);
        assert_eq!(encoded(Kind::Close, 5, false, 0), [43, 0]);
        assert_eq!(encoded(Kind::Close, 5, true, 0), [44, 0]);
        assert_eq!(encoded(Kind::Reset, 5, false, 0), [45, 0]);
        assert_eq!(encoded(Kind::Reset, 5, true, 0), [46, 0]);
        assert_eq!(Head::decode(&[47, 0]), Err(HeadError::Flag));
    }

    #[test]
    fn ids_and_lengths_of_several_bytes() {
        assert_eq!(encoded(Kind::Message, 17, true, 300), [0x8a, 0x01, 0xac, 0x02]);
        let longest = encoded(Kind::Message, MAX_ID, true, MAX_MESSAGE);
        assert_eq!(longest[..9], [0xfa, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        let (head, len) = Head::decode(&longest).unwrap().unwrap();
        assert_eq!((head.key, head.length, len), (Key { id: MAX_ID, local: false }, MAX_MESSAGE, 12));
    }

    #[test]
    fn what_is_no_head() {
        let mut long = vec![2];
        varint::encode(MAX_MESSAGE as u64 + 1, &mut long);
        assert_eq!(Head::decode(&long), Err(HeadError::Length(MAX_MESSAGE as u64 + 1)));
        for length in [1 << 31, u64::from(u32::MAX), varint::MAX] {
            let mut bytes = vec![2];
            varint::encode(length, &mut bytes);
            assert_eq!(Head::decode(&bytes), Err(HeadError::Length(length)));
        }
        let too_long = HeadError::Varint(varint::Error::TooLong);
        assert_eq!(Head::decode(&[0xff; 9]), Err(too_long));
        assert_eq!(Head::decode(&[&[2][..], &[0xff; 9]].concat()), Err(too_long));
        let not_minimal = HeadError::Varint(varint::Error::NotMinimal);
        assert_eq!(Head::decode(&[0x82, 0x00, 0]), Err(not_minimal));
        assert_eq!(Head::decode(&[2, 0x81, 0x00]), Err(not_minimal));
    }

    proptest! {
        /// Who reads is the other side, so that what is local for one is not for the other.
        #[test]
        fn heads_round_trip(id in 0..=MAX_ID, flag in 0..4_u8, local: bool, length in 0..=MAX_MESSAGE) {
            let kind = [Kind::NewStream, Kind::Message, Kind::Close, Kind::Reset][usize::from(flag)];
            let local = local || kind == Kind::NewStream;
            let bytes = encoded(kind, id, local, length);
            let head = Head { kind, key: Key { id, local: !local }, length };
            prop_assert_eq!(Head::decode(&bytes), Ok(Some((head, bytes.len()))));
            prop_assert!(bytes.len() <= MAX_HEAD);
            for end in 0..bytes.len() {
                prop_assert_eq!(Head::decode(&bytes[..end]), Ok(None));
            }
        }
    }
}
