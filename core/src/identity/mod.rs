//! Who a peer is: public keys, key pairs, and the peer ids made from them.
//!
//! Spec: [peer-ids](https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md). All four types of keys. Each key
//! is read in one form only, the one of the spec: the peer id is made from it.

mod der;
mod ecdsa;
mod ed25519;
mod keypair;
mod peer_id;
mod proofs;
mod public_key;
mod rsa;
#[cfg(feature = "secp256k1")]
mod secp256k1;
#[cfg(not(feature = "secp256k1"))]
#[path = "secp256k1_absent.rs"]
mod secp256k1;
mod text;

pub use der::DerError;
pub use keypair::{Keypair, MAX_PRIVATE_KEY_LEN};
pub use peer_id::{MAX_INLINE_KEY_LEN, MAX_TEXT_LEN, ParseError, PeerId};
pub use proofs::{MAX_PROOFS, Proofs};
pub use public_key::{MAX_PUBLIC_KEY_LEN, PublicKey};
pub use rsa::{MAX_RSA_BITS, MAX_RSA_EXPONENT, MIN_RSA_BITS};

use crate::protobuf::{self, Value};
use std::fmt;
use std::str::FromStr;

/// The kinds of keys, with the numbers of the spec's `KeyType` enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// 0: PKIX DER, PKCS#1 v1.5 signatures over SHA-256.
    Rsa,
    /// 1: 32 bytes as in RFC 8032.
    Ed25519,
    /// 2: the curve of Bitcoin, DER signatures over SHA-256. Feature `secp256k1`.
    Secp256k1,
    /// 3: PKIX DER on P-256, DER signatures over SHA-256.
    Ecdsa,
}

impl KeyType {
    fn from_number(number: u64) -> Option<KeyType> {
        Some(match number {
            0 => KeyType::Rsa,
            1 => KeyType::Ed25519,
            2 => KeyType::Secp256k1,
            3 => KeyType::Ecdsa,
            _ => return None,
        })
    }

    fn number(self) -> u64 {
        match self {
            KeyType::Rsa => 0,
            KeyType::Ed25519 => 1,
            KeyType::Secp256k1 => 2,
            KeyType::Ecdsa => 3,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyType::Rsa => "RSA",
            KeyType::Ed25519 => "Ed25519",
            KeyType::Secp256k1 => "secp256k1",
            KeyType::Ecdsa => "ECDSA",
        })
    }
}

/// A text that names no key type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key type is ed25519, secp256k1, ecdsa or rsa")]
pub struct UnknownKeyType;

/// Reads the name in lower case, as people write it.
impl FromStr for KeyType {
    type Err = UnknownKeyType;

    fn from_str(name: &str) -> Result<KeyType, UnknownKeyType> {
        Ok(match name {
            "rsa" => KeyType::Rsa,
            "ed25519" => KeyType::Ed25519,
            "secp256k1" => KeyType::Secp256k1,
            "ecdsa" => KeyType::Ecdsa,
            _ => return Err(UnknownKeyType),
        })
    }
}

/// Why bytes are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// More bytes than any key has.
    #[error("encoded key of {len} bytes, {max} allowed")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not protobuf.
    #[error("key is not protobuf: {0}")]
    Malformed(#[from] protobuf::Error),
    /// A required field is missing, or has another wire type.
    #[error("key has no {0}")]
    Missing(&'static str),
    /// A key that this program was built without.
    #[error("{0} keys need the feature of that name")]
    Unsupported(KeyType),
    /// A key type that the spec does not have.
    #[error("key type {0} is unknown")]
    UnknownType(u64),
    /// The key itself has not the length its type has.
    #[error("{key_type} key of {len} bytes")]
    WrongLength {
        /// The kind of key.
        key_type: KeyType,
        /// Bytes of the key itself.
        len: usize,
    },
    /// Not the DER of such a key.
    #[error("{key_type} key is malformed: {error}")]
    Der {
        /// The kind of key.
        key_type: KeyType,
        /// What is wrong.
        error: DerError,
    },
    /// An ECDSA key on another curve than P-256.
    #[error("ECDSA key is on {0}; only P-256 is supported")]
    Curve(&'static str),
    /// A public key that is no point of its curve, or not in the form that such keys have.
    #[error("{0} key is not a point of its curve, in the form of the spec")]
    NotOnCurve(KeyType),
    /// A number in a private key that is too small or too large.
    #[error("a number in the private {0} key is out of range")]
    OutOfRange(KeyType),
    /// The modulus of an RSA key has so many bits.
    #[error("RSA key of {0} bits, {MIN_RSA_BITS} to {MAX_RSA_BITS} are allowed")]
    RsaBits(usize),
    /// The modulus of an RSA key is even, which no product of two large primes is.
    #[error("RSA key with an even modulus")]
    RsaModulus,
    /// The public exponent of an RSA key is even, 1, or over [`MAX_RSA_EXPONENT`].
    #[error("RSA key whose public exponent is not odd, or not from 3 to {MAX_RSA_EXPONENT}")]
    RsaExponent,
    /// A point of small order, for which nobody needs the private half: there are signatures that it verifies whatever
    /// the message.
    #[error("{0} key is a weak one, which anybody can sign for")]
    Weak(KeyType),
    /// The public half inside a private key is not that of the private half.
    #[error("public and private half of the key do not belong together")]
    Mismatch,
}

/// Reads `PublicKey` or `PrivateKey`, which look alike: a type and its data.
///
/// The spec asks encoders for one encoding, and decoders for nothing. Other implementations read with a general
/// protobuf library, so this does too: any order, longer varints, unknown fields, the last of repeated fields. Whoever
/// compares or hashes a key does so with our own encoding of it, never with the bytes that were received.
///
/// `unnamed` is the type of a key that names none.
fn decode_key(bytes: &[u8], max: usize, unnamed: Option<KeyType>) -> Result<(KeyType, &[u8]), DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLong { len: bytes.len(), max });
    }
    let (mut key_type, mut data) = (None, None);
    for field in protobuf::fields(bytes) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Varint(number)) => key_type = Some(number),
            (2, Value::Bytes(bytes)) => data = Some(bytes),
            _ => {}
        }
    }
    let key_type = match key_type {
        Some(number) => KeyType::from_number(number).ok_or(DecodeError::UnknownType(number))?,
        None => unnamed.ok_or(DecodeError::Missing("type"))?,
    };
    Ok((key_type, data.ok_or(DecodeError::Missing("data"))?))
}

/// The one encoding that the spec allows: minimal varints, tag order, both fields.
fn encode_key(key_type: KeyType, data: &[u8], out: &mut Vec<u8>) {
    protobuf::put_varint(1, key_type.number(), out);
    protobuf::put_bytes(2, data, out);
}
