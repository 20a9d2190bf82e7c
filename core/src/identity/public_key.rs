use super::{DecodeError, KeyType, PeerId, decode_key, encode_key};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use std::fmt;

/// The most bytes of an encoded public key that are looked at: an RSA key of 8192 bits has some 1070.
pub const MAX_PUBLIC_KEY_LEN: usize = 2048;

pub(super) const ED25519_LEN: usize = 32;

/// The y of every point of small order, as 32 bytes with the sign of x cleared.
///
/// The curve -x² + y² = 1 + dx²y² has eight points whose order divides 8, its cofactor:
///
/// - y = 1 is the neutral element, and y = -1 the point of order 2. Both have x = 0.
/// - y = 0 is what doubles to y = -1: two points of order 4, x² = -1.
/// - What doubles to y = 0 has x² + y² = 0, and so, by the equation of the curve, dy⁴ + 2y² - 1 = 0. Of the solutions,
///   two make a point, y and -y, with two x each: the four points of order 8.
///
/// Of these numbers, 0 and 1 alone have a second encoding, as p and p + 1 (p = 2²⁵⁵ - 19), which lenient readers take.
const SMALL_ORDER: [[u8; ED25519_LEN]; 7] = [
    with_ends(0x00, 0x00, 0x00),
    with_ends(0x01, 0x00, 0x00),
    // p - 1, p and p + 1.
    with_ends(0xec, 0xff, 0x7f),
    with_ends(0xed, 0xff, 0x7f),
    with_ends(0xee, 0xff, 0x7f),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

const fn with_ends(first: u8, middle: u8, last: u8) -> [u8; ED25519_LEN] {
    let mut bytes = [middle; ED25519_LEN];
    bytes[0] = first;
    bytes[ED25519_LEN - 1] = last;
    bytes
}

/// Whether these bytes are of a point of small order, with either sign. Public keys are no secret: this need not take
/// the same time for all.
fn is_small_order(bytes: &[u8; ED25519_LEN]) -> bool {
    let mut y = *bytes;
    let [.., last] = &mut y;
    *last &= 0x7f;
    SMALL_ORDER.contains(&y)
}

/// A peer's public key.
///
/// ```
/// use peerage_core::{Keypair, PublicKey};
///
/// let keypair = Keypair::generate();
/// let public = PublicKey::from_protobuf(&keypair.public().to_protobuf())?;
/// assert!(public.verify(b"message", &keypair.sign(b"message")));
/// # Ok::<(), peerage_core::identity::DecodeError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    Ed25519([u8; ED25519_LEN]),
}

impl PublicKey {
    /// Takes the 32 bytes of RFC 8032, section 5.1.5. Whether they are a point of the curve shows when a signature is
    /// checked: there is none for bytes that are not, nor for a [weak](DecodeError::Weak) key.
    pub fn from_ed25519(bytes: [u8; ED25519_LEN]) -> PublicKey {
        PublicKey(Repr::Ed25519(bytes))
    }

    /// Reads the spec's `PublicKey` message.
    ///
    /// # Errors
    ///
    /// When it is over [`MAX_PUBLIC_KEY_LEN`], malformed, of a type that is not supported, or weak.
    pub fn from_protobuf(bytes: &[u8]) -> Result<PublicKey, DecodeError> {
        match decode_key(bytes, MAX_PUBLIC_KEY_LEN)? {
            (key_type @ KeyType::Ed25519, data) => {
                let wrong = DecodeError::WrongLength { key_type, len: data.len() };
                let bytes = data.try_into().map_err(|_| wrong)?;
                if is_small_order(&bytes) {
                    return Err(DecodeError::Weak(key_type));
                }
                Ok(PublicKey::from_ed25519(bytes))
            }
            (other, _) => Err(DecodeError::Unsupported(other)),
        }
    }

    /// Writes the spec's `PublicKey` message, in the one form that peer ids are made from.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let data = self.data();
        let mut out = Vec::with_capacity(data.len().saturating_add(8));
        encode_key(self.key_type(), data, &mut out);
        out
    }

    /// Whether `signature` is this key's over `message`. Never with a [weak](DecodeError::Weak) key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Repr::Ed25519(key) => {
                !is_small_order(key)
                    && UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
            }
        }
    }

    /// The id of the peer whose key this is.
    pub fn peer_id(&self) -> PeerId {
        PeerId::from_public_key(self)
    }

    /// What kind of key it is.
    pub fn key_type(&self) -> KeyType {
        match self.0 {
            Repr::Ed25519(_) => KeyType::Ed25519,
        }
    }

    fn data(&self) -> &[u8] {
        match &self.0 {
            Repr::Ed25519(bytes) => bytes,
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = data_encoding::HEXLOWER.encode(self.data());
        write!(f, "PublicKey({} {hex})", self.key_type())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With s = 0 and the neutral element as R, a signature says that the hash times the key is the neutral element,
    /// which for a key of order 8 at the most is so for every eighth message, at the least.
    fn forged() -> [u8; 64] {
        let mut signature = [0; 64];
        signature[0] = 1;
        signature
    }

    #[test]
    fn weak_keys_are_refused_and_verify_nothing() {
        for y in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut bytes = y;
                bytes[31] |= sign;
                let key = PublicKey::from_ed25519(bytes);
                assert_eq!(
                    PublicKey::from_protobuf(&key.to_protobuf()),
                    Err(DecodeError::Weak(KeyType::Ed25519)),
                    "{key:?}"
                );
                for message in 0..=u8::MAX {
                    assert!(!key.verify(&[message], &forged()), "{key:?}");
                }
            }
        }
    }

    /// What the table is there for, and that nothing is in it that is not weak.
    #[test]
    fn without_the_table_they_would_verify() {
        let weak = |bytes: [u8; ED25519_LEN]| {
            let key = UnparsedPublicKey::new(&ED25519, bytes);
            (0..=u8::MAX).any(|message| key.verify(&[message], &forged()).is_ok())
        };
        // aws-lc itself refuses the second encodings of 0 and 1.
        let again = [with_ends(0xed, 0xff, 0x7f), with_ends(0xee, 0xff, 0x7f)];
        for y in SMALL_ORDER {
            assert_eq!(weak(y), !again.contains(&y), "{y:x?}");
        }
        assert!(!weak(*b"any other thirty-two bytes, such"));
    }

    #[test]
    fn only_the_points_themselves_are_weak() {
        for y in SMALL_ORDER {
            for bit in 0..255 {
                let mut other = y;
                other[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(is_small_order(&other), SMALL_ORDER.contains(&other), "{other:x?}");
            }
        }
        assert!(!is_small_order(&[0xff; 32]) && !is_small_order(&[7; 32]));
    }
}
