//! Ed25519 keys (RFC 8032), which every implementation has.

use super::{DecodeError, KeyType};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

pub(super) const SEED_LEN: usize = 32;
pub(super) const PUBLIC_LEN: usize = 32;
const DATA_LEN: usize = SEED_LEN + PUBLIC_LEN;

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
const SMALL_ORDER: [[u8; PUBLIC_LEN]; 7] = [
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

const fn with_ends(first: u8, middle: u8, last: u8) -> [u8; PUBLIC_LEN] {
    let mut bytes = [middle; PUBLIC_LEN];
    bytes[0] = first;
    bytes[PUBLIC_LEN - 1] = last;
    bytes
}

/// Whether these bytes are of a point of small order, with either sign. Public keys are no secret: this need not take
/// the same time for all.
fn is_small_order(bytes: &[u8; PUBLIC_LEN]) -> bool {
    let mut y = *bytes;
    let [.., last] = &mut y;
    *last &= 0x7f;
    SMALL_ORDER.contains(&y)
}

/// Reads the 32 bytes of RFC 8032, section 5.1.5.
pub(super) fn read_public(data: &[u8]) -> Result<[u8; PUBLIC_LEN], DecodeError> {
    let wrong = DecodeError::WrongLength { key_type: KeyType::Ed25519, len: data.len() };
    let bytes = data.try_into().map_err(|_| wrong)?;
    if is_small_order(&bytes) { Err(DecodeError::Weak(KeyType::Ed25519)) } else { Ok(bytes) }
}

pub(super) fn verify(key: &[u8; PUBLIC_LEN], message: &[u8], signature: &[u8]) -> bool {
    !is_small_order(key) && UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

/// A private key.
pub(super) struct Private {
    /// What signs. AWS-LC wipes what it frees.
    pair: Ed25519KeyPair,
    /// Kept beside it, because the library gives a seed back only in memory that nobody wipes.
    seed: Zeroizing<[u8; SEED_LEN]>,
}

impl Private {
    /// # Panics
    ///
    /// When the operating system has no randomness to give.
    #[allow(clippy::expect_used, reason = "a machine without randomness can do nothing that follows")]
    pub(super) fn generate() -> Self {
        let mut seed = Zeroizing::new([0; SEED_LEN]);
        aws_lc_rs::rand::fill(&mut seed[..]).expect("the operating system gives randomness");
        Self::from_seed(seed)
    }

    #[allow(clippy::expect_used, reason = "RFC 8032: any 32 bytes are a private key")]
    pub(super) fn from_seed(seed: Zeroizing<[u8; SEED_LEN]>) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed[..]).expect("32 bytes are a seed");
        Self { pair, seed }
    }

    /// Reads seed and public key, or the older form with the public key twice.
    pub(super) fn read(data: &[u8]) -> Result<Self, DecodeError> {
        let wrong = DecodeError::WrongLength { key_type: KeyType::Ed25519, len: data.len() };
        let (seed, rest) = data.split_first_chunk::<SEED_LEN>().ok_or(wrong)?;
        let (public, rest) = rest.split_first_chunk::<PUBLIC_LEN>().ok_or(wrong)?;
        // peer-ids, "Ed25519": the older form repeats the public key, which must be the same.
        match rest.len() {
            0 => {}
            PUBLIC_LEN if rest == public => {}
            PUBLIC_LEN => return Err(DecodeError::Mismatch),
            _ => return Err(wrong),
        }
        let private = Self::from_seed(Zeroizing::new(*seed));
        // A signature made with a foreign public key in it would give the private half away.
        if private.public() == *public { Ok(private) } else { Err(DecodeError::Mismatch) }
    }

    pub(super) fn data(&self) -> Zeroizing<Vec<u8>> {
        // Room for all of it from the start: growing would leave a copy behind.
        let mut data = Zeroizing::new(Vec::with_capacity(DATA_LEN));
        data.extend_from_slice(&self.seed[..]);
        data.extend_from_slice(self.pair.public_key().as_ref());
        data
    }

    #[allow(clippy::expect_used, reason = "RFC 8032: a public key has 32 bytes")]
    pub(super) fn public(&self) -> [u8; PUBLIC_LEN] {
        self.pair.public_key().as_ref().try_into().expect("32 bytes")
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::super::PublicKey;
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
        let weak = |bytes: [u8; PUBLIC_LEN]| {
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
