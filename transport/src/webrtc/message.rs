//! What is sent on a data channel (webrtc/README.md, "Multiplexing"): protobuf messages, each behind its length, that carry
//! bytes of the stream and what WebRTC itself cannot say: that a half has ended, and how.
//!
//! The messages form a stream of bytes: one may come in several parts, and several in one (go-libp2p sends the length by
//! itself).

use peerage_core::{protobuf, varint};

/// The longest message, with its length before it ("MUST NOT exceed 16kiB").
pub(crate) const MAX_MESSAGE: usize = 16 * 1024;

/// What may stand around the data: the length of the message, a flag, a code, and the length of the data.
const MAX_OVERHEAD: usize = 3 + 2 + 6 + 4;

/// The most data in one message.
pub(crate) const MAX_DATA: usize = MAX_MESSAGE - MAX_OVERHEAD;

/// Field numbers of the message.
const FLAG: u32 = 1;
const MESSAGE: u32 = 2;
/// As go-libp2p numbers it, after the draft on error codes (libp2p/specs, pull request 623).
const ERROR_CODE: u32 = 3;

/// What a message says about a half of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// The sender has nothing more to send.
    Fin,
    /// The sender reads no more.
    StopSending,
    /// The sender gives its half up; what it sent may be incomplete.
    Reset,
    /// The sender has received the other side's [`Flag::Fin`], and everything before it.
    FinAck,
}

impl Flag {
    fn number(self) -> u64 {
        match self {
            Self::Fin => 0,
            Self::StopSending => 1,
            Self::Reset => 2,
            Self::FinAck => 3,
        }
    }

    /// A number that this version of the protocol does not know says nothing, as with any unknown value of an enum.
    fn from_number(number: u64) -> Option<Self> {
        [Self::Fin, Self::StopSending, Self::Reset, Self::FinAck]
            .into_iter()
            .find(|flag| flag.number() == number)
    }
}

/// One message. The data comes before what the flag says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) flag: Option<Flag>,
    /// Why the flag was set; nothing was said if it is 0.
    pub(crate) code: u32,
}

impl<'a> Message<'a> {
    /// At most [`MAX_DATA`] bytes.
    pub(crate) fn data(data: &'a [u8]) -> Self {
        Self { data, ..Self::default() }
    }

    pub(crate) fn flag(flag: Flag, code: u32) -> Message<'static> {
        Message { data: &[], flag: Some(flag), code }
    }

    /// The message behind its length.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.data.len().saturating_add(MAX_OVERHEAD));
        if let Some(flag) = self.flag {
            protobuf::put_varint(FLAG, flag.number(), &mut body);
        }
        if !self.data.is_empty() {
            protobuf::put_bytes(MESSAGE, self.data, &mut body);
        }
        if self.code != 0 {
            protobuf::put_varint(ERROR_CODE, self.code.into(), &mut body);
        }
        let mut out = Vec::with_capacity(body.len().saturating_add(3));
        varint::encode(body.len() as u64, &mut out);
        out.extend_from_slice(&body);
        out
    }

    fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut message = Self::default();
        for field in protobuf::fields(body) {
            let field = field?;
            match (field.number, field.value) {
                (FLAG, protobuf::Value::Varint(number)) => message.flag = Flag::from_number(number),
                (MESSAGE, protobuf::Value::Bytes(data)) => message.data = data,
                (ERROR_CODE, protobuf::Value::Varint(code)) => {
                    message.code =
                        u32::try_from(code).unwrap_or(peerage_muxer::ErrorCode::CODE_OUT_OF_RANGE.0);
                }
                (FLAG | MESSAGE | ERROR_CODE, _) => return Err(Malformed::FieldType(field.number)),
                _ => {}
            }
        }
        Ok(message)
    }
}

/// The most that is sent in one go. go-libp2p reads the length into a buffer of this size, and fails if what comes with it
/// does not fit; the rest it reads into a buffer of its own.
const MAX_TOGETHER: usize = 4096;

/// Cuts a long message behind its length: the two go out one after the other.
pub(crate) fn parts(mut message: Vec<u8>) -> (Vec<u8>, Option<Vec<u8>>) {
    if message.len() <= MAX_TOGETHER {
        return (message, None);
    }
    let length = message.iter().take_while(|byte| **byte & 0x80 != 0).count().saturating_add(1);
    let body = message.split_off(length.min(message.len()));
    (message, Some(body))
}

/// How a peer broke the framing. Nothing after it can be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a message of {0} bytes, {MAX_MESSAGE} allowed")]
    TooLong(u64),
    #[error("the length of a message: {0}")]
    Length(#[from] varint::Error),
    #[error("a message: {0}")]
    Protobuf(#[from] protobuf::Error),
    #[error("field {0} of a message has another type")]
    FieldType(u32),
}

/// Takes messages out of the bytes of a channel. It keeps the beginning of one message at most.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The beginning of a message, its length included.
    partial: Vec<u8>,
}

impl Decoder {
    /// Takes `input` and hands each message that is now whole to `each`.
    ///
    /// # Errors
    /// [`Malformed`]; the messages before it were handed on.
    pub(crate) fn feed(
        &mut self,
        mut input: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), Malformed> {
        while !input.is_empty() {
            if self.partial.is_empty() {
                // Nearly always messages come whole, and need not be copied.
                match whole(input)? {
                    Some((body, rest)) => {
                        each(Message::decode(body)?);
                        input = rest;
                        continue;
                    }
                    None => {
                        self.partial.extend_from_slice(input);
                        return Ok(());
                    }
                }
            }
            let (now, later) = input.split_at(missing(&self.partial)?.min(input.len()));
            self.partial.extend_from_slice(now);
            input = later;
            if let Some((body, _)) = whole(&self.partial)? {
                each(Message::decode(body)?);
                self.partial.clear();
                if self.partial.capacity() > KEPT {
                    self.partial = Vec::new();
                }
            }
        }
        Ok(())
    }

    /// Bytes that are kept for a message that is not whole yet.
    pub(crate) fn held(&self) -> usize {
        self.partial.len()
    }
}

/// A buffer up to this size is kept for the next message.
const KEPT: usize = 1024;

/// A body, and what follows it.
type Cut<'a> = (&'a [u8], &'a [u8]);

/// The body of the message at the beginning, and what follows it; `None` if it is not all there.
fn whole(input: &[u8]) -> Result<Option<Cut<'_>>, Malformed> {
    let Some((len, prefix)) = length(input)? else {
        return Ok(None);
    };
    Ok(input.get(prefix..).and_then(|rest| rest.split_at_checked(len)))
}

/// How many bytes the message that begins with `partial` needs for the next step: its length, or its end.
fn missing(partial: &[u8]) -> Result<usize, Malformed> {
    Ok(match length(partial)? {
        None => 1,
        Some((len, prefix)) => prefix.saturating_add(len).saturating_sub(partial.len()),
    })
}

/// The length of the body, and of the length itself.
fn length(input: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let Some((len, prefix)) = varint::decode(input)? else {
        return Ok(None);
    };
    let max = MAX_MESSAGE.saturating_sub(prefix);
    match usize::try_from(len) {
        Ok(body) if body <= max => Ok(Some((body, prefix))),
        _ => Err(Malformed::TooLong(len.saturating_add(prefix as u64))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Owned {
        data: Vec<u8>,
        flag: Option<Flag>,
        code: u32,
    }

    impl Owned {
        fn encode(&self) -> Vec<u8> {
            Message { data: &self.data, flag: self.flag, code: self.code }.encode()
        }
    }

    fn decode_in(parts: impl Iterator<Item = Vec<u8>>) -> Result<Vec<Owned>, Malformed> {
        let (mut decoder, mut all) = (Decoder::default(), Vec::new());
        for part in parts {
            decoder.feed(&part, |message| {
                all.push(Owned { data: message.data.to_vec(), flag: message.flag, code: message.code });
            })?;
            assert!(decoder.held() < MAX_MESSAGE);
        }
        Ok(all)
    }

    fn decode(bytes: &[u8]) -> Result<Vec<Owned>, Malformed> {
        decode_in(std::iter::once(bytes.to_vec()))
    }

    /// As protoc encodes them.
    #[test]
    fn messages_look_as_the_specification_says() {
        assert_eq!(Message::data(b"hi").encode(), [4, 0x12, 2, b'h', b'i']);
        assert_eq!(Message::flag(Flag::Fin, 0).encode(), [2, 0x08, 0]);
        assert_eq!(Message::flag(Flag::StopSending, 0).encode(), [2, 0x08, 1]);
        assert_eq!(Message::flag(Flag::Reset, 0x1002).encode(), [5, 0x08, 2, 0x18, 0x82, 0x20]);
        assert_eq!(Message::flag(Flag::FinAck, 0).encode(), [2, 0x08, 3]);
    }

    #[test]
    fn the_longest_message_fits_and_one_byte_more_does_not() {
        let longest = Message { data: &vec![7; MAX_DATA], flag: Some(Flag::Reset), code: u32::MAX }.encode();
        assert!(longest.len() <= MAX_MESSAGE && longest.len() + 4 > MAX_MESSAGE, "{}", longest.len());
        assert_eq!(decode(&longest).unwrap()[0].data.len(), MAX_DATA);

        let mut exact = Vec::new();
        varint::encode(MAX_MESSAGE as u64 - 2, &mut exact);
        protobuf::put_bytes(MESSAGE, &vec![1; MAX_MESSAGE - 2 - 3], &mut exact);
        assert_eq!((exact.len(), decode(&exact).unwrap().len()), (MAX_MESSAGE, 1));

        let mut over = Vec::new();
        varint::encode(MAX_MESSAGE as u64 - 1, &mut over);
        // Known before the message is there.
        assert!(matches!(decode(&over), Err(Malformed::TooLong(_))));
    }

    #[test]
    fn long_messages_come_in_two_parts() {
        for len in [0, 1, 100, MAX_TOGETHER - 5, MAX_TOGETHER - 4, MAX_DATA] {
            let message = Message::data(&vec![3; len]).encode();
            let (first, second) = parts(message.clone());
            assert_eq!(second.is_some(), message.len() > MAX_TOGETHER, "{len}");
            assert!(first.len() <= MAX_TOGETHER);
            let parts = [Some(first), second].into_iter().flatten();
            assert_eq!(decode_in(parts).unwrap()[0].data.len(), len);
        }
    }

    #[test]
    fn what_is_unknown_is_skipped_and_what_is_malformed_is_not() {
        // An unknown flag, an unknown field, and the last of two data fields.
        let mut body = vec![0x08, 9];
        protobuf::put_bytes(15, b"later", &mut body);
        protobuf::put_bytes(MESSAGE, b"one", &mut body);
        protobuf::put_bytes(MESSAGE, b"two", &mut body);
        let mut bytes = vec![body.len() as u8];
        bytes.extend(body);
        assert_eq!(decode(&bytes).unwrap(), [Owned { data: b"two".to_vec(), flag: None, code: 0 }]);

        assert_eq!(decode(&[0]).unwrap(), [Owned { data: vec![], flag: None, code: 0 }]);
        assert!(matches!(decode(&[2, 0x10, 0]), Err(Malformed::FieldType(2))));
        assert!(matches!(decode(&[1, 0x08]), Err(Malformed::Protobuf(_))));
        assert!(matches!(decode(&[0x82, 0]), Err(Malformed::Length(_))));
        let code = decode(&[8, 0x08, 2, 0x18, 0xff, 0xff, 0xff, 0xff, 0x7f]).unwrap()[0].code;
        assert_eq!(code, peerage_muxer::ErrorCode::CODE_OUT_OF_RANGE.0);
    }

    #[test]
    fn what_came_before_the_violation_is_handed_on() {
        let mut bytes = Message::data(b"good").encode();
        bytes.extend([0xff, 0xff, 0xff, 0x01]);
        let (mut decoder, mut seen) = (Decoder::default(), 0);
        assert!(decoder.feed(&bytes, |_| seen += 1).is_err());
        assert_eq!(seen, 1);
    }

    fn messages() -> impl Strategy<Value = Vec<Owned>> {
        let flag = prop_oneof![
            Just(None),
            Just(Some(Flag::Fin)),
            Just(Some(Flag::StopSending)),
            Just(Some(Flag::Reset)),
            Just(Some(Flag::FinAck)),
        ];
        let data = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            (0..=MAX_DATA).prop_map(|len| vec![5; len]),
        ];
        let message = (data, flag, prop_oneof![Just(0), any::<u32>()]).prop_map(|(data, flag, code)| Owned {
            data,
            flag,
            code,
        });
        proptest::collection::vec(message, 0..6)
    }

    proptest! {
        #[test]
        fn cut_anywhere_and_joined_anyhow_they_come_out_the_same(
            messages in messages(),
            sizes in proptest::collection::vec(1..5000_usize, 1..20),
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(Owned::encode).collect();
            let mut rest = bytes.as_slice();
            let parts = sizes.iter().cycle().map_while(|size| {
                let (now, later) = rest.split_at((*size).min(rest.len()));
                rest = later;
                (!now.is_empty()).then(|| now.to_vec())
            });
            prop_assert_eq!(decode_in(parts).unwrap(), messages);
        }

        #[test]
        fn any_bytes_are_messages_or_a_violation(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
