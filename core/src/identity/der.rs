//! As much of DER as the keys of libp2p are made of: read strictly, and written.
//!
//! DER has one encoding for each value (ITU-T X.690, section 10), so bytes that [`Reader`] took, and the same value
//! written again, are the same bytes. Whoever would accept a second form of a key would give it a second peer id.

/// The most bytes that the content of one element may have: what two bytes of length can say. The longest key that is
/// looked at ([`MAX_PRIVATE_KEY_LEN`](super::MAX_PRIVATE_KEY_LEN)) is far below.
pub(super) const MAX_LEN: usize = 0xffff;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// The tag `[number]` around a whole element, of numbers below 31.
pub(super) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// Why bytes are not the DER of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DerError {
    /// The bytes end inside an element.
    #[error("it ends too early")]
    Truncated,
    /// Another kind of element than a key has there.
    #[error("tag {found:#04x} where {expected:#04x} belongs")]
    Tag {
        /// The tag of what a key has there.
        expected: u8,
        /// The tag that is there.
        found: u8,
    },
    /// A length in another than its shortest form, an indefinite one, or one over 65,535.
    #[error("a length that is not in its one form, or over {MAX_LEN}")]
    Length,
    /// An integer that is negative or empty, or that starts with a zero too many.
    #[error("an integer that is negative or not in its one form")]
    Integer,
    /// A constant (a version, an algorithm, the unused bits of a string) has another value than in such keys.
    #[error("a constant that such keys do not have")]
    Constant,
    /// Something follows the last element.
    #[error("bytes follow where it should end")]
    Trailing,
}

/// Reads one element after the other. Nothing is copied, and each byte is looked at once or twice.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The content of the next element, which has this tag.
    pub(super) fn element(&mut self, tag: u8) -> Result<&'a [u8], DerError> {
        let (&found, rest) = self.0.split_first().ok_or(DerError::Truncated)?;
        if found != tag {
            return Err(DerError::Tag { expected: tag, found });
        }
        let (len, rest) = length(rest)?;
        let (content, rest) = rest.split_at_checked(len).ok_or(DerError::Truncated)?;
        self.0 = rest;
        Ok(content)
    }

    /// The elements inside the next one.
    pub(super) fn inside(&mut self, tag: u8) -> Result<Self, DerError> {
        self.element(tag).map(Self)
    }

    /// The elements inside the next one, if it has this tag.
    pub(super) fn inside_if(&mut self, tag: u8) -> Result<Option<Self>, DerError> {
        if self.0.first() == Some(&tag) { self.inside(tag).map(Some) } else { Ok(None) }
    }

    /// The next element, which must be a constant.
    pub(super) fn constant(&mut self, tag: u8, content: &[u8]) -> Result<(), DerError> {
        if self.element(tag)? == content { Ok(()) } else { Err(DerError::Constant) }
    }

    /// The next integer, which is not negative: its bytes from the first that is not zero, none for 0.
    pub(super) fn unsigned(&mut self) -> Result<&'a [u8], DerError> {
        match self.element(INTEGER)? {
            [] => Err(DerError::Integer),
            [0] => Ok(&[]),
            [0, rest @ ..] if rest.first().is_some_and(|byte| *byte >= 0x80) => Ok(rest),
            [0 | 0x80.., ..] => Err(DerError::Integer),
            bytes => Ok(bytes),
        }
    }

    /// The next bit string, which has whole bytes.
    pub(super) fn bytes_of_bits(&mut self) -> Result<&'a [u8], DerError> {
        match self.element(BIT_STRING)?.split_first() {
            Some((0, bytes)) => Ok(bytes),
            Some(_) => Err(DerError::Constant),
            None => Err(DerError::Truncated),
        }
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), DerError> {
        if self.0.is_empty() { Ok(()) } else { Err(DerError::Trailing) }
    }
}

fn length(bytes: &[u8]) -> Result<(usize, &[u8]), DerError> {
    let (len, rest, shortest) = match bytes {
        [len @ ..=0x7f, rest @ ..] => return Ok((usize::from(*len), rest)),
        [0x81, len, rest @ ..] => (usize::from(*len), rest, 0x80),
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest, 0x100),
        [] | [0x81] | [0x82] | [0x82, _] => return Err(DerError::Truncated),
        _ => return Err(DerError::Length),
    };
    if len < shortest { Err(DerError::Length) } else { Ok((len, rest)) }
}

/// Appends an element. Its content has at most [`MAX_LEN`] bytes, as everything has that was read here.
pub(super) fn put(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    let len = u16::try_from(content.len()).unwrap_or(u16::MAX);
    match len.to_be_bytes() {
        [0, low @ ..=0x7f] => out.push(low),
        [0, low] => out.extend([0x81, low]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_have_one_form() {
        assert_eq!(length(&[0x7f]), Ok((0x7f, &[][..])));
        assert_eq!(length(&[0x81, 0x80, 1]), Ok((0x80, &[1][..])));
        assert_eq!(length(&[0x81, 0xff]), Ok((0xff, &[][..])));
        assert_eq!(length(&[0x82, 0x01, 0x00]), Ok((0x100, &[][..])));
        assert_eq!(length(&[0x82, 0xff, 0xff]), Ok((MAX_LEN, &[][..])));
        // One less than needs the form, indefinite, and one byte of length more than there may be.
        for bytes in [&[0x81, 0x7f][..], &[0x82, 0x00, 0xff], &[0x80], &[0x83, 0x01, 0x00, 0x00], &[0xff]] {
            assert_eq!(length(bytes), Err(DerError::Length), "{bytes:x?}");
        }
        for bytes in [&[][..], &[0x81], &[0x82], &[0x82, 0x01]] {
            assert_eq!(length(bytes), Err(DerError::Truncated), "{bytes:x?}");
        }
    }

    #[test]
    fn integers_have_one_form() {
        let unsigned = |content: &[u8]| {
            let mut out = Vec::new();
            put(INTEGER, content, &mut out);
            Reader::new(&out).unsigned().map(<[u8]>::to_vec)
        };
        assert_eq!(unsigned(&[0]), Ok(vec![]));
        assert_eq!(unsigned(&[0x7f]), Ok(vec![0x7f]));
        assert_eq!(unsigned(&[0, 0x80]), Ok(vec![0x80]));
        for content in [&[][..], &[0x80], &[0xff, 0x01], &[0, 0x7f], &[0, 0], &[0, 0, 0x80]] {
            assert_eq!(unsigned(content), Err(DerError::Integer), "{content:x?}");
        }
    }

    #[test]
    fn bit_strings_have_whole_bytes() {
        assert_eq!(Reader::new(&[3, 2, 0, 7]).bytes_of_bits(), Ok(&[7][..]));
        assert_eq!(Reader::new(&[3, 1, 0]).bytes_of_bits(), Ok(&[][..]));
        assert_eq!(Reader::new(&[3, 2, 1, 6]).bytes_of_bits(), Err(DerError::Constant));
        assert_eq!(Reader::new(&[3, 0]).bytes_of_bits(), Err(DerError::Truncated));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(content in proptest::collection::vec(any::<u8>(), 0..600), tag: u8) {
            let mut out = Vec::new();
            put(tag, &content, &mut out);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.element(tag), Ok(&content[..]));
            prop_assert_eq!(reader.end(), Ok(()));
            for end in 0..out.len() {
                prop_assert_eq!(Reader::new(&out[..end]).element(tag), Err(DerError::Truncated));
            }
        }

        /// Each thing that is read, written again, is the bytes that were read.
        #[test]
        fn there_is_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..300), tag: u8) {
            let input = [&[tag][..], &bytes].concat();
            if let Ok(content) = Reader::new(&input).element(tag) {
                let mut out = Vec::new();
                put(tag, content, &mut out);
                prop_assert_eq!(&input[..out.len()], out);
            }
        }
    }
}
