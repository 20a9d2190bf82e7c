//! Vectors, and as much of a DER writer as it takes to write what no key has.

use data_encoding::HEXLOWER;
use peerage_core::identity::KeyType;
use peerage_core::protobuf::{self, Value};

pub(crate) const ALL: [KeyType; 4] = [KeyType::Rsa, KeyType::Ed25519, KeyType::Secp256k1, KeyType::Ecdsa];

/// The point of the spec's ECDSA vector.
pub(crate) const ECDSA_POINT: &str = "04de3d300fa36ae0e8f5d530899d83abab44abf3161f162a4bc901d8e6ecda020e8b6d5f8da30525e71d6851510c098e5c47c646a597fb4dcec034e9f77c409e62";

pub(crate) fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// The vector of this name.
pub(crate) fn vector(name: &str) -> Vec<u8> {
    let files = [include_str!("../vectors/peer-ids.txt"), include_str!("../vectors/openssl.txt")];
    let mut lines = files.iter().flat_map(|file| file.lines());
    hex(lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap())
}

/// `PublicKey` or `PrivateKey`.
pub(crate) fn message(key_type: u8, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // Proto2: also a zero is written.
    protobuf::put_varint(1, u64::from(key_type), &mut out);
    protobuf::put_bytes(2, data, &mut out);
    out
}

/// What [`message`] was made of.
pub(crate) fn parts(message: &[u8]) -> (u8, Vec<u8>) {
    let (mut key_type, mut data) = (None, None);
    for field in protobuf::fields(message) {
        match field.unwrap().value {
            Value::Varint(number) => key_type = Some(number as u8),
            Value::Bytes(bytes) => data = Some(bytes.to_vec()),
            _ => {}
        }
    }
    (key_type.unwrap(), data.unwrap())
}

pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        len @ ..=0x7f => out.push(len as u8),
        len @ ..=0xff => out.extend([0x81, len as u8]),
        len => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// The integer of these bytes, which start with no zero (but for 0 itself).
pub(crate) fn integer(bytes: &[u8]) -> Vec<u8> {
    if bytes.first().is_some_and(|byte| *byte >= 0x80) {
        der(2, &[&[0], bytes].concat())
    } else {
        der(2, bytes)
    }
}

/// The integers in a sequence.
pub(crate) fn integers(sequence: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = element(sequence).0;
    let mut numbers = Vec::new();
    while !rest.is_empty() {
        let (content, next) = element(rest);
        numbers
            .push(content.strip_prefix(&[0]).filter(|bytes| !bytes.is_empty()).unwrap_or(content).to_vec());
        rest = next;
    }
    numbers
}

fn element(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (len, rest) = match bytes[1] {
        0x82 => (usize::from(bytes[2]) << 8 | usize::from(bytes[3]), &bytes[4..]),
        0x81 => (usize::from(bytes[2]), &bytes[3..]),
        len => (usize::from(len), &bytes[2..]),
    };
    rest.split_at(len)
}

pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    der(3, &[&[0], bytes].concat())
}

/// The `SubjectPublicKeyInfo` of something on P-256.
pub(crate) fn ecdsa_info(point: &[u8]) -> Vec<u8> {
    let algorithm = der(0x30, &[der(6, &hex("2a8648ce3d0201")), der(6, &hex("2a8648ce3d030107"))].concat());
    der(0x30, &[algorithm, bit_string(point)].concat())
}

/// The `SubjectPublicKeyInfo` of an RSA key, its two numbers encoded.
pub(crate) fn rsa_info(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let algorithm = der(0x30, &[&der(6, &hex("2a864886f70d010101"))[..], &[5, 0]].concat());
    der(0x30, &[algorithm, bit_string(&der(0x30, &[modulus, exponent].concat()))].concat())
}

/// A number of so many bits, all of them set.
pub(crate) fn rsa_modulus(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; bits.div_ceil(8)];
    bytes[0] >>= bytes.len() * 8 - bits;
    bytes
}
