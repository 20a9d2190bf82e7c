//! RSA keys of 2048 to 8192 bits.
//!
//! peer-ids, "RSA": public keys as PKIX DER, private keys as PKCS#1 DER (RFC 8017, appendix A.1.2), signatures
//! RSASSA-PKCS1-v1_5 over SHA-256.
//!
//! Arithmetic with a modulus costs by the square of its length, and whoever connects chooses it (CVE-2023-39533). So
//! the numbers are only *read* here, by [`der`](super::der), and measured; AWS-LC sees those that are not refused.

use super::der::{self, DerError, Reader};
use super::{DecodeError, KeyType};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use zeroize::Zeroizing;

/// The fewest bits that the modulus of an RSA key may have, as in go-libp2p.
pub const MIN_RSA_BITS: usize = 2048;

/// The most bits that the modulus of an RSA key may have, as in go-libp2p and js-libp2p.
pub const MAX_RSA_BITS: usize = 8192;

/// The largest public exponent of an RSA key, as in go-libp2p. Nearly all keys have 65537.
pub const MAX_RSA_EXPONENT: u32 = (1 << 31) - 1;

/// 1.2.840.113549.1.1.1
const RSA_ENCRYPTION: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

fn malformed(error: DerError) -> DecodeError {
    DecodeError::Der { key_type: KeyType::Rsa, error }
}

/// Reads `SubjectPublicKeyInfo`. Gives the `RSAPublicKey` in it, which is the same key in fewer bytes.
pub(super) fn read_public(data: &[u8]) -> Result<&[u8], DecodeError> {
    let key = public_key_of(data).map_err(malformed)?;
    let mut outer = Reader::new(key);
    let mut numbers = outer.inside(der::SEQUENCE).map_err(malformed)?;
    check_public_numbers(&mut numbers)?;
    numbers.end().and_then(|()| outer.end()).map_err(malformed)?;
    Ok(key)
}

fn public_key_of(data: &[u8]) -> Result<&[u8], DerError> {
    let mut outer = Reader::new(data);
    let mut info = outer.inside(der::SEQUENCE)?;
    let mut algorithm = info.inside(der::SEQUENCE)?;
    algorithm.constant(der::OID, &RSA_ENCRYPTION)?;
    // RFC 3279, section 2.3.1: there, and null.
    algorithm.constant(der::NULL, &[])?;
    let key = info.bytes_of_bits()?;
    algorithm.end()?;
    info.end()?;
    outer.end()?;
    Ok(key)
}

/// The modulus and the exponent, which come first in public and private keys. Nothing is computed with them.
fn check_public_numbers(numbers: &mut Reader<'_>) -> Result<(), DecodeError> {
    let modulus = numbers.unsigned().map_err(malformed)?;
    let bits = bits(modulus);
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(DecodeError::RsaBits(bits));
    }
    // The product of two odd primes is odd, and reduction by Montgomery relies on it.
    if is_even(modulus) {
        return Err(DecodeError::RsaModulus);
    }
    let exponent = numbers.unsigned().map_err(malformed)?;
    let value = exponent.iter().try_fold(0_u32, |value, byte| {
        value.checked_mul(0x100).map(|value| value | u32::from(*byte)).filter(|_| exponent.len() <= 4)
    });
    // With 1, every message is its own signature; an even one has no inverse.
    match value {
        Some(value) if value > 1 && value <= MAX_RSA_EXPONENT && !is_even(exponent) => Ok(()),
        _ => Err(DecodeError::RsaExponent),
    }
}

/// The number of bits of a number that starts with a byte other than zero.
fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |byte| byte.leading_zeros());
    let unused = usize::try_from(unused).unwrap_or(0);
    number.len().saturating_mul(8).saturating_sub(unused)
}

fn is_even(number: &[u8]) -> bool {
    number.last().is_none_or(|byte| byte % 2 == 0)
}

/// The `SubjectPublicKeyInfo` around an `RSAPublicKey`.
pub(super) fn write_public(key: &[u8]) -> Vec<u8> {
    let (mut algorithm, mut info, mut out) = (Vec::new(), Vec::new(), Vec::new());
    der::put(der::OID, &RSA_ENCRYPTION, &mut algorithm);
    der::put(der::NULL, &[], &mut algorithm);
    der::put(der::SEQUENCE, &algorithm, &mut info);
    der::put(der::BIT_STRING, &[&[0][..], key].concat(), &mut info);
    der::put(der::SEQUENCE, &info, &mut out);
    out
}

pub(super) fn verify(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(message, signature).is_ok()
}

/// A private key.
pub(super) struct Private {
    /// What signs. AWS-LC wipes what it frees.
    pair: RsaKeyPair,
    /// `RSAPrivateKey`, kept beside it, because the library writes another form.
    data: Zeroizing<Vec<u8>>,
}

impl Private {
    /// A key of 2048 bits, which takes up to a second.
    ///
    /// # Panics
    ///
    /// When the operating system has no randomness to give.
    #[allow(clippy::expect_used, reason = "a machine without randomness can do nothing that follows")]
    pub(super) fn generate() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("the operating system gives randomness");
        let info: Pkcs8V1Der<'_> = pair.as_der().expect("a key that was made can be written");
        let data = key_of_pkcs8(info.as_ref()).expect("what AWS-LC writes is PKCS#8");
        Self { pair, data: Zeroizing::new(data.to_vec()) }
    }

    /// Reads `RSAPrivateKey` of two primes.
    pub(super) fn read(data: &[u8]) -> Result<Self, DecodeError> {
        let mut outer = Reader::new(data);
        let mut numbers = outer.inside(der::SEQUENCE).map_err(malformed)?;
        numbers.constant(der::INTEGER, &[0]).map_err(malformed)?;
        check_public_numbers(&mut numbers)?;
        // d, p, q, d mod (p - 1), d mod (q - 1), 1/q mod p
        for _ in 0..6 {
            if bits(numbers.unsigned().map_err(malformed)?) > MAX_RSA_BITS {
                return Err(DecodeError::OutOfRange(KeyType::Rsa));
            }
        }
        numbers.end().and_then(|()| outer.end()).map_err(malformed)?;
        // This checks that the numbers belong together.
        let pair = RsaKeyPair::from_der(data).map_err(|_| DecodeError::Mismatch)?;
        Ok(Self { pair, data: Zeroizing::new(data.to_vec()) })
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// The `RSAPublicKey`.
    pub(super) fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    #[allow(clippy::expect_used, reason = "it fails for lack of memory alone, as every allocation does")]
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .expect("a key that was checked signs");
        signature
    }
}

/// The `RSAPrivateKey` in a `PrivateKeyInfo` (RFC 5208).
fn key_of_pkcs8(data: &[u8]) -> Result<&[u8], DerError> {
    let mut info = Reader::new(data).inside(der::SEQUENCE)?;
    info.constant(der::INTEGER, &[0])?;
    info.element(der::SEQUENCE)?;
    info.element(der::OCTET_STRING)
}
