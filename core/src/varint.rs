//! Unsigned varints of the multiformats: LEB128 of at most nine bytes, in the shortest form only.
//!
//! Spec: [multiformats/unsigned-varint](https://github.com/multiformats/unsigned-varint). Nine bytes hold 63 bits,
//! so [`MAX`] is 2^63 - 1. (Protobuf's varints are a different thing: ten bytes, any form; see [`crate::protobuf`].)

/// The most bytes one varint may have.
pub const MAX_LEN: usize = 9;

/// The largest value that has an encoding: 2^63 - 1.
pub const MAX: u64 = (1 << 63) - 1;

/// Why bytes are not an unsigned varint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ninth byte says that another one follows.
    #[error("varint is longer than {MAX_LEN} bytes")]
    TooLong,
    /// The value has a shorter encoding, which is the only one allowed.
    #[error("varint is not in its shortest form")]
    NotMinimal,
}

/// Appends `value` to `out`: one to nine bytes.
///
/// # Panics
///
/// When `value` is over [`MAX`], which has no encoding. Lengths of things in memory and whatever [`decode`] returned
/// are never over it; code that computes a value from a peer's numbers compares with [`MAX`] first.
///
/// ```
/// let mut out = Vec::new();
/// peerage_core::varint::encode(300, &mut out);
/// assert_eq!(out, [0xac, 0x02]);
/// ```
pub fn encode(value: u64, out: &mut Vec<u8>) {
    assert!(value <= MAX, "{value} has no multiformats varint");
    let mut rest = value;
    while rest >= 0x80 {
        out.push(low_bits(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_bits(rest));
}

/// The number of bytes that [`encode`] writes for `value`; ten, which none writes, for a value over [`MAX`].
pub const fn len(value: u64) -> usize {
    let bits = 64_u32.saturating_sub(value.leading_zeros());
    if bits == 0 { 1 } else { bits.div_ceil(7) as usize }
}

/// Reads the varint at the start of `input`: its value and how many bytes it took.
///
/// `None` says that `input` ends inside the varint and that nothing is wrong so far.
///
/// # Errors
///
/// [`Error::TooLong`] as soon as nine bytes are there and the ninth has no end; [`Error::NotMinimal`] for trailing
/// zero groups (`81 00` for 1).
///
/// ```
/// use peerage_core::varint;
/// assert_eq!(varint::decode(&[0xac, 0x02, 0xff]), Ok(Some((300, 2))));
/// assert_eq!(varint::decode(&[0xac]), Ok(None));
/// assert_eq!(varint::decode(&[0x81, 0x00]), Err(varint::Error::NotMinimal));
/// ```
pub fn decode(input: &[u8]) -> Result<Option<(u64, usize)>, Error> {
    let mut value = 0_u64;
    let mut shift = 0_u32;
    for (at, &byte) in input.iter().take(MAX_LEN).enumerate() {
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if byte == 0 && at > 0 {
                return Err(Error::NotMinimal);
            }
            return Ok(Some((value, at.saturating_add(1))));
        }
        shift = shift.saturating_add(7);
    }
    if input.len() >= MAX_LEN { Err(Error::TooLong) } else { Ok(None) }
}

fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The examples of the multiformats specification.
    const VECTORS: &[(u64, &[u8])] = &[
        (0, &[0x00]),
        (1, &[0x01]),
        (127, &[0x7f]),
        (128, &[0x80, 0x01]),
        (255, &[0xff, 0x01]),
        (300, &[0xac, 0x02]),
        (16384, &[0x80, 0x80, 0x01]),
        (MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
    ];

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out);
        out
    }

    #[test]
    fn spec_vectors() {
        for (value, bytes) in VECTORS {
            assert_eq!(encoded(*value), *bytes);
            assert_eq!(decode(bytes), Ok(Some((*value, bytes.len()))));
            assert_eq!(len(*value), bytes.len());
        }
    }

    #[test]
    fn nine_bytes_and_ten() {
        assert_eq!(decode(&[0xff; 8]), Ok(None));
        assert_eq!(decode(&[0xff; 9]), Err(Error::TooLong));
        assert_eq!(
            decode(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
            Err(Error::TooLong)
        );
        assert_eq!(len(MAX + 1), 10);
    }

    #[test]
    fn shortest_form_only() {
        assert_eq!(decode(&[0x00]), Ok(Some((0, 1))));
        for bytes in [&[0x80, 0x00][..], &[0x81, 0x00], &[0xff, 0x80, 0x00]] {
            assert_eq!(decode(bytes), Err(Error::NotMinimal));
        }
    }

    #[test]
    #[should_panic(expected = "no multiformats varint")]
    fn two_to_the_63_has_no_encoding() {
        encode(MAX + 1, &mut Vec::new());
    }

    proptest! {
        #[test]
        fn round_trip(value in 0..=MAX, shift in 0_u32..63) {
            let value = value >> shift;
            let mut bytes = encoded(value);
            prop_assert_eq!(bytes.len(), len(value));
            for cut in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..cut]), Ok(None));
            }
            let whole = bytes.len();
            bytes.push(0xff);
            prop_assert_eq!(decode(&bytes), Ok(Some((value, whole))));
        }

        #[test]
        fn what_decodes_is_what_encodes(bytes: Vec<u8>) {
            if let Ok(Some((value, used))) = decode(&bytes) {
                prop_assert_eq!(encoded(value), &bytes[..used]);
            }
        }
    }
}
