//! The protobuf wire format, walked without allocating.
//!
//! [`fields`] steps through a message; the small messages of this crate are decoded with it. [`scan`] holds a message
//! against [`Limits`] before it is handed to a decoder that allocates as it goes.
//!
//! Spec: <https://protobuf.dev/programming-guides/encoding/>. Groups, which no libp2p message has, are refused: they
//! are the one part of the format that nests without a length.

mod scan;

pub use scan::{Limits, MAX_DEPTH, MAX_RULES, Rule, ScanError, scan};

/// The largest field number the format has: 2^29 - 1.
pub const MAX_FIELD_NUMBER: u32 = (1 << 29) - 1;

/// The most bytes of a protobuf varint, which is 64 bits wide, not 63 as [`crate::varint`].
pub const MAX_VARINT_LEN: usize = 10;

/// Where and why bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {at}")]
pub struct Error {
    /// The byte, counted from the start of the message given to [`fields`] or [`scan`], of the field that is wrong.
    pub at: usize,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The message ends inside the field.
    #[error("truncated field")]
    Truncated,
    /// A varint of more than ten bytes, or of more than 64 bits.
    #[error("varint over 64 bits")]
    VarintTooLong,
    /// A field number of zero or over [`MAX_FIELD_NUMBER`].
    #[error("impossible field number")]
    FieldNumber,
    /// A start or end of a group.
    #[error("group")]
    Group,
    /// Wire type 6 or 7, which do not exist.
    #[error("unknown wire type")]
    WireType,
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number, `1..=MAX_FIELD_NUMBER`.
    pub number: u32,
    /// What it holds.
    pub value: Value<'a>,
}

/// What a field holds, by wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0: integers, booleans, enums.
    Varint(u64),
    /// Wire type 1: eight bytes, little endian.
    Fixed64(u64),
    /// Wire type 2: bytes, strings, messages, packed lists.
    Bytes(&'a [u8]),
    /// Wire type 5: four bytes, little endian.
    Fixed32(u32),
}

/// Steps through the fields of `message`, in the order in which they are there.
///
/// ```
/// use peerage_core::protobuf::{self, Value};
/// let message = [0x08, 0x01, 0x12, 0x02, 0xca, 0xfe];
/// let fields: Result<Vec<_>, _> = protobuf::fields(&message).collect();
/// assert_eq!(fields.unwrap()[1].value, Value::Bytes(&[0xca, 0xfe]));
/// ```
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message, at: 0 }
}

/// The fields of one message. Ends after the first error.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.at;
        let field = self.field().map_err(|kind| Error { at, kind });
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    /// The byte of the message at which the next field starts.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The same fields, counting positions from `at`.
    pub(crate) fn starting_at(self, at: usize) -> Fields<'a> {
        Fields { at, ..self }
    }

    fn field(&mut self) -> Result<Field<'a>, ErrorKind> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|number| (1..=MAX_FIELD_NUMBER).contains(number))
            .ok_or(ErrorKind::FieldNumber)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| ErrorKind::Truncated)?;
                Value::Bytes(self.take(len)?)
            }
            3 | 4 => return Err(ErrorKind::Group),
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(ErrorKind::WireType),
        };
        Ok(Field { number, value })
    }

    fn varint(&mut self) -> Result<u64, ErrorKind> {
        let mut value = 0_u64;
        for group in 0..MAX_VARINT_LEN {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            let shift = u32::try_from(group).unwrap_or(0).saturating_mul(7);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return Err(ErrorKind::VarintTooLong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ErrorKind::VarintTooLong)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ErrorKind> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(ErrorKind::Truncated)?;
        self.advance_to(rest, N);
        Ok(*head)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ErrorKind> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(ErrorKind::Truncated)?;
        self.advance_to(rest, len);
        Ok(head)
    }

    fn advance_to(&mut self, rest: &'a [u8], by: usize) {
        self.rest = rest;
        self.at = self.at.saturating_add(by);
    }
}

/// Appends an integer field in its shortest form.
pub fn put_varint(number: u32, value: u64, out: &mut Vec<u8>) {
    put_raw_varint(u64::from(number) << 3, out);
    put_raw_varint(value, out);
}

/// Appends a field of bytes: a `bytes`, a `string`, or an embedded message.
pub fn put_bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    put_raw_varint(u64::from(number) << 3 | 2, out);
    put_raw_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn put_raw_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(message: &[u8]) -> Result<Vec<Field<'_>>, Error> {
        fields(message).collect()
    }

    fn fails(message: &[u8]) -> (usize, ErrorKind) {
        let error = all(message).unwrap_err();
        (error.at, error.kind)
    }

    #[test]
    fn every_wire_type() {
        let message = [
            &[0x08, 0x96, 0x01][..],
            &[0x11, 1, 0, 0, 0, 0, 0, 0, 0],
            &[0x1a, 2, b'h', b'i'],
            &[0x25, 2, 0, 0, 0],
        ]
        .concat();
        let values: Vec<_> = all(&message).unwrap().iter().map(|field| (field.number, field.value)).collect();
        assert_eq!(
            values,
            [
                (1, Value::Varint(150)),
                (2, Value::Fixed64(1)),
                (3, Value::Bytes(b"hi")),
                (4, Value::Fixed32(2))
            ]
        );
    }

    #[test]
    fn refusals_say_where() {
        assert_eq!(fails(&[0x08]), (0, ErrorKind::Truncated));
        assert_eq!(fails(&[0x08, 1, 0x12, 3, 1, 2]), (2, ErrorKind::Truncated));
        assert_eq!(fails(&[0x0b]), (0, ErrorKind::Group));
        assert_eq!(fails(&[0x0c]), (0, ErrorKind::Group));
        assert_eq!(fails(&[0x0e]), (0, ErrorKind::WireType));
        assert_eq!(fails(&[0x00, 0x00]), (0, ErrorKind::FieldNumber));
        assert_eq!(fails(&[0x80, 0x80, 0x80, 0x80, 0x10, 0x00]), (0, ErrorKind::FieldNumber));
        assert_eq!(fails(&[0x0d, 1, 2, 3]), (0, ErrorKind::Truncated));
        // A length of 2^64 - 1 is a truncated field, not an overflow.
        let mut endless = vec![0x12];
        endless.extend([0xff; 9]);
        endless.push(0x01);
        assert_eq!(fails(&endless), (0, ErrorKind::Truncated));
    }

    #[test]
    fn varints_of_64_bits_and_65() {
        let mut message = vec![0x08];
        message.extend([0xff; 9]);
        message.push(0x01);
        assert_eq!(all(&message).unwrap()[0].value, Value::Varint(u64::MAX));
        *message.last_mut().unwrap() = 0x02;
        assert_eq!(fails(&message), (0, ErrorKind::VarintTooLong));
        *message.last_mut().unwrap() = 0x81;
        message.push(0);
        assert_eq!(fails(&message), (0, ErrorKind::VarintTooLong));
        // Protobuf, unlike the multiformats, lets a varint be longer than it need be.
        assert_eq!(all(&[0x08, 0x81, 0x00]).unwrap()[0].value, Value::Varint(1));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes: Vec<u8>) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }

        /// prost takes what this takes, and beyond that only groups. (`()` is the message without known fields.)
        #[test]
        fn agrees_with_prost(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0_u8..40], 0..24)) {
            let prost = <() as prost::Message>::decode(&bytes[..]);
            match all(&bytes) {
                Ok(_) => prop_assert!(prost.is_ok(), "{:?}", prost),
                Err(error) => prop_assert!(prost.is_err() || error.kind == ErrorKind::Group, "{:?}", error),
            }
        }

        #[test]
        fn what_is_put_is_read(number in 1..=MAX_FIELD_NUMBER, value: u64, data: Vec<u8>) {
            let mut message = Vec::new();
            put_varint(number, value, &mut message);
            put_bytes(number, &data, &mut message);
            let read = all(&message).unwrap();
            prop_assert_eq!(read, [
                Field { number, value: Value::Varint(value) },
                Field { number, value: Value::Bytes(&data) },
            ]);
        }
    }
}
