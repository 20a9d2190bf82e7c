//! STUN (RFC 8489), as much as connectivity checks need of it (RFC 8445, section 7): Binding requests with short-term
//! credentials, and the answers to them. Bytes only; nothing here sends.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::hmac;

/// What a message has before its attributes.
const HEADER: usize = 20;

/// In every message since RFC 5389, which tells it from other protocols.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// The longest message that is looked at: checks have some hundred bytes, and fit into a packet.
pub(crate) const MAX_MESSAGE: usize = 1500;

const HMAC: usize = 20;

/// Flipped in the checksum, so that it is none of another protocol (RFC 8489, section 14.7).
const FINGERPRINT_MASK: u32 = 0x5354_554e;

const USERNAME: u16 = 0x0006;
const INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const CONTROLLING: u16 = 0x802a;

/// What pairs an answer with its request.
pub(crate) type Transaction = [u8; 12];

/// What a Binding message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Request,
    /// Keeps a path open; nobody answers it.
    Indication,
    Success,
    Failure,
}

impl Class {
    fn number(self) -> u16 {
        match self {
            Self::Request => 0x0001,
            Self::Indication => 0x0011,
            Self::Success => 0x0101,
            Self::Failure => 0x0111,
        }
    }

    fn from_number(number: u16) -> Option<Self> {
        [Self::Request, Self::Indication, Self::Success, Self::Failure]
            .into_iter()
            .find(|class| class.number() == number)
    }
}

/// Whether a datagram may be STUN, and is no DTLS: the first two bits of the first byte are zero (RFC 7983).
pub(crate) fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4) && datagram.get(4..8) == Some(&COOKIE)
}

/// A Binding message that is whole. Whether it comes from where it says, [`Binding::is_from`] tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) class: Class,
    pub(crate) transaction: Transaction,
    pub(crate) username: Option<&'a [u8]>,
    raw: &'a [u8],
    /// Where the attribute with the message's authentication code begins, and the code.
    integrity: Option<(usize, &'a [u8; HMAC])>,
}

impl<'a> Binding<'a> {
    /// `None` if it is no Binding message, or a broken one: nobody is owed an answer to that.
    pub(crate) fn parse(raw: &'a [u8]) -> Option<Self> {
        if raw.len() > MAX_MESSAGE || !is_stun(raw) {
            return None;
        }
        let (kind, rest) = raw.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let class = Class::from_number(u16::from_be_bytes(*kind))?;
        let transaction = *rest.get(4..)?.first_chunk::<12>()?;
        let body = raw.get(HEADER..)?;
        if usize::from(u16::from_be_bytes(*length)) != body.len() {
            return None;
        }
        let mut message = Self { class, transaction, username: None, raw, integrity: None };
        message.attributes(body)?;
        Some(message)
    }

    fn attributes(&mut self, mut rest: &'a [u8]) -> Option<()> {
        while !rest.is_empty() {
            let at = self.raw.len().saturating_sub(rest.len());
            let (kind, after) = rest.split_first_chunk::<2>()?;
            let (length, after) = after.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (value, after) = after.split_at_checked(length)?;
            // Values are filled up to a multiple of four.
            rest = after.get(length.wrapping_neg() & 3..)?;
            match u16::from_be_bytes(*kind) {
                FINGERPRINT => {
                    let found = u32::from_be_bytes(*value.first_chunk()?);
                    let covered = self.raw.get(..at)?;
                    // It is the last attribute, and covers the rest.
                    return (rest.is_empty() && found == fingerprint(covered)).then_some(());
                }
                // What comes behind the authentication code is not covered by it and not looked at.
                _ if self.integrity.is_some() => {}
                USERNAME if self.username.is_none() => self.username = Some(value),
                INTEGRITY => self.integrity = Some((at, value.try_into().ok()?)),
                _ => {}
            }
        }
        Some(())
    }

    /// Whether its sender knows `password`.
    pub(crate) fn is_from(&self, password: &str) -> bool {
        let Some((at, code)) = self.integrity else {
            return false;
        };
        let Some(mut covered) = self.raw.get(..at).map(<[u8]>::to_vec) else {
            return false;
        };
        // It was computed when it was the last attribute.
        set_length(&mut covered, HMAC.saturating_add(4));
        hmac::verify(&key(password), &covered, code).is_ok()
    }
}

/// A check: asks the other side for a sign of life, and settles on this pair of addresses if it answers
/// ("aggressive" nomination: there is one pair only).
pub(crate) fn request(transaction: Transaction, username: &str, password: &str, priority: u32) -> Vec<u8> {
    let mut message = Writer::new(Class::Request, transaction);
    message.attribute(USERNAME, username.as_bytes());
    message.attribute(PRIORITY, &priority.to_be_bytes());
    // The larger tie-breaker keeps the role, should the other side claim it as well (RFC 8445, section 7.3.1.1).
    message.attribute(CONTROLLING, &u64::MAX.to_be_bytes());
    message.attribute(USE_CANDIDATE, &[]);
    message.finish(password)
}

/// The answer to a check that came from `source`. It is never longer than the check, which has a user name and more.
pub(crate) fn success(transaction: Transaction, source: SocketAddr, password: &str) -> Vec<u8> {
    let mut message = Writer::new(Class::Success, transaction);
    let mut mask = COOKIE.to_vec();
    mask.extend_from_slice(&transaction);
    let (family, address) = match source.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend(source.port().to_be_bytes().iter().zip(&mask).map(|(byte, mask)| byte ^ mask));
    value.extend(address.iter().zip(&mask).map(|(byte, mask)| byte ^ mask));
    message.attribute(XOR_MAPPED_ADDRESS, &value);
    message.finish(password)
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(class: Class, transaction: Transaction) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&class.number().to_be_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&COOKIE);
        bytes.extend_from_slice(&transaction);
        Self(bytes)
    }

    /// `value` has at most some hundred bytes.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend_from_slice(&kind.to_be_bytes());
        self.0.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.0.extend_from_slice(value);
        let filled = self.0.len().next_multiple_of(4);
        self.0.resize(filled, 0);
    }

    fn finish(mut self, password: &str) -> Vec<u8> {
        set_length(&mut self.0, HMAC.saturating_add(4));
        let code = hmac::sign(&key(password), &self.0);
        self.attribute(INTEGRITY, code.as_ref());
        set_length(&mut self.0, 8);
        let checksum = fingerprint(&self.0);
        self.attribute(FINGERPRINT, &checksum.to_be_bytes());
        self.0
    }
}

/// Writes the length of what there is and of `more` into the header.
fn set_length(message: &mut [u8], more: usize) {
    let length = message.len().saturating_sub(HEADER).saturating_add(more);
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    }
}

/// Short-term credentials: the password is the key (RFC 8489, section 9.1.1).
fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

/// CRC-32 (ITU V.42), bit by bit: it is needed for a handful of short messages in a minute.
fn fingerprint(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
            },
        )
    });
    !crc ^ FINGERPRINT_MASK
}

/// For tests and fuzzing: a Binding request whose user name may be anything.
pub(crate) fn request_named(username: &[u8], password: &str) -> Vec<u8> {
    let mut message = Writer::new(Class::Request, [7; 12]);
    message.attribute(USERNAME, username);
    message.attribute(PRIORITY, &[0; 4]);
    message.finish(password)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 5769, section 2.1: a request with its password.
    const VECTOR: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\
        \x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
        \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";

    const VECTOR_PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    #[test]
    fn the_request_of_the_rfc_is_understood() {
        let message = Binding::parse(VECTOR).unwrap();
        assert_eq!((message.class, message.username), (Class::Request, Some(&b"evtj:h6vY"[..])));
        assert!(message.is_from(VECTOR_PASSWORD));
        assert!(!message.is_from("VOkJxbRl1RmTxUk/WvJxBu"));
    }

    /// RFC 5769, sections 2.2 and 2.3; their software attribute is not sent here.
    #[test]
    fn answers_carry_the_address_as_the_rfc_writes_it() {
        let transaction = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
        let four = success(transaction, "192.0.2.1:32853".parse().unwrap(), VECTOR_PASSWORD);
        assert_eq!(&four[20..32], b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43");
        let six = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        let six = success(transaction, six, VECTOR_PASSWORD);
        assert_eq!(
            &six[20..44],
            b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9"
        );
        for answer in [four, six] {
            let answer = Binding::parse(&answer).unwrap();
            assert_eq!((answer.class, answer.transaction), (Class::Success, transaction));
            assert!(answer.is_from(VECTOR_PASSWORD));
        }
    }

    #[test]
    fn requests_go_both_ways_and_are_longer_than_their_answers() {
        let request = request([1; 12], "aaaa:bbbb", "0123456789012345678901", 7);
        let message = Binding::parse(&request).unwrap();
        assert_eq!((message.transaction, message.username), ([1; 12], Some(&b"aaaa:bbbb"[..])));
        assert!(message.is_from("0123456789012345678901"));
        let answer = success([1; 12], "[::1]:1".parse().unwrap(), "0123456789012345678901");
        assert!(answer.len() <= request.len(), "{} > {}", answer.len(), request.len());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        // All but the checksum at the end, which need not be there.
        for bit in 0..(VECTOR.len() - 8) * 8 {
            let mut bytes = VECTOR.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let accepted = Binding::parse(&bytes).is_some_and(|message| message.is_from(VECTOR_PASSWORD));
            assert!(!accepted, "{bit}");
        }
    }

    #[test]
    fn no_prefix_is_a_message() {
        for len in 0..VECTOR.len() {
            assert!(Binding::parse(&VECTOR[..len]).is_none(), "{len}");
        }
        let mut long = VECTOR.to_vec();
        long.resize(MAX_MESSAGE + 1, 0);
        assert!(Binding::parse(&long).is_none());
    }

    #[test]
    fn a_name_behind_the_authentication_code_is_not_believed() {
        let mut message = Writer(Writer::new(Class::Request, [0; 12]).finish("password"));
        message.0.truncate(message.0.len() - 8);
        message.attribute(USERNAME, b"forged");
        set_length(&mut message.0, 0);
        let message = Binding::parse(&message.0).unwrap();
        assert_eq!(message.username, None);
        assert!(message.is_from("password"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut message = vec![0, 1, 0, bytes.len() as u8];
            message.extend(COOKIE);
            message.extend([0; 12]);
            message.extend(bytes);
            if let Some(message) = Binding::parse(&message) {
                prop_assert!(!message.is_from("password"));
            }
        }
    }
}
