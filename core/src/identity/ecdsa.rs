//! ECDSA keys on P-256.
//!
//! peer-ids, "ECDSA": public keys as PKIX DER (RFC 5480), private keys as RFC 5915 (SEC 1) has them, signatures over
//! SHA-256 in DER. The spec leaves the curve open. All implementations make keys on P-256; go-libp2p would also read
//! P-224, P-384 and P-521, which nobody is known to use, and which are refused here by name.
//!
//! js-libp2p reads and writes another form of public keys, signs without DER, and inlines such keys in peer ids
//! that are too long for that. So its ECDSA identities are for itself: go-libp2p refuses them as well. Its private
//! keys are in the form of the spec and are read.

use super::der::{self, DerError, Reader};
use super::{DecodeError, KeyType};
use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use zeroize::Zeroizing;

/// An uncompressed point: 4, x and y.
pub(super) const POINT_LEN: usize = 65;
const SCALAR_LEN: usize = 32;
const UNCOMPRESSED: u8 = 4;

/// 1.2.840.10045.2.1
const ID_EC_PUBLIC_KEY: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7
const P256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// What others call the curve of this object identifier.
fn curve(oid: &[u8]) -> &'static str {
    match oid {
        [0x2b, 0x81, 0x04, 0x00, 0x21] => "P-224",
        [0x2b, 0x81, 0x04, 0x00, 0x22] => "P-384",
        [0x2b, 0x81, 0x04, 0x00, 0x23] => "P-521",
        [0x2b, 0x81, 0x04, 0x00, 0x0a] => "secp256k1",
        _ => "an unknown curve",
    }
}

fn expect_p256(oid: &[u8]) -> Result<(), DecodeError> {
    if oid == P256 { Ok(()) } else { Err(DecodeError::Curve(curve(oid))) }
}

fn malformed(error: DerError) -> DecodeError {
    DecodeError::Der { key_type: KeyType::Ecdsa, error }
}

/// Reads `SubjectPublicKeyInfo` with an uncompressed point, which is the form that everybody writes.
pub(super) fn read_public(data: &[u8]) -> Result<[u8; POINT_LEN], DecodeError> {
    let (curve, point) = public_parts(data).map_err(malformed)?;
    expect_p256(curve)?;
    let point = read_point(point)?;
    // A point that is not of the curve has another group around it, in which signatures mean nothing.
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point)
        .parse()
        .map_err(|_| DecodeError::NotOnCurve(KeyType::Ecdsa))?;
    Ok(point)
}

fn public_parts(data: &[u8]) -> Result<(&[u8], &[u8]), DerError> {
    let mut outer = Reader::new(data);
    let mut info = outer.inside(der::SEQUENCE)?;
    let mut algorithm = info.inside(der::SEQUENCE)?;
    algorithm.constant(der::OID, &ID_EC_PUBLIC_KEY)?;
    let curve = algorithm.element(der::OID)?;
    let point = info.bytes_of_bits()?;
    algorithm.end()?;
    info.end()?;
    outer.end()?;
    Ok((curve, point))
}

fn read_point(bytes: &[u8]) -> Result<[u8; POINT_LEN], DecodeError> {
    let wrong = DecodeError::WrongLength { key_type: KeyType::Ecdsa, len: bytes.len() };
    let point: [u8; POINT_LEN] = bytes.try_into().map_err(|_| wrong)?;
    // The hybrid form, 6 or 7, says what it says already twice.
    if point.first() == Some(&UNCOMPRESSED) {
        Ok(point)
    } else {
        Err(DecodeError::NotOnCurve(KeyType::Ecdsa))
    }
}

/// The `SubjectPublicKeyInfo` of a point.
pub(super) fn write_public(point: &[u8; POINT_LEN]) -> Vec<u8> {
    let (mut algorithm, mut info, mut out) = (Vec::new(), Vec::new(), Vec::new());
    der::put(der::OID, &ID_EC_PUBLIC_KEY, &mut algorithm);
    der::put(der::OID, &P256, &mut algorithm);
    der::put(der::SEQUENCE, &algorithm, &mut info);
    der::put(der::BIT_STRING, &[&[0][..], point].concat(), &mut info);
    der::put(der::SEQUENCE, &info, &mut out);
    out
}

pub(super) fn verify(point: &[u8; POINT_LEN], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature).is_ok()
}

/// A private key, which AWS-LC wipes when it frees it.
pub(super) struct Private(EcdsaKeyPair);

impl Private {
    /// # Panics
    ///
    /// When the operating system has no randomness to give.
    #[allow(clippy::expect_used, reason = "a machine without randomness can do nothing that follows")]
    pub(super) fn generate() -> Self {
        Self(
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
                .expect("the operating system gives randomness"),
        )
    }

    /// Reads `ECPrivateKey`. The public half may be missing, as in RFC 5915; the name of the curve may not.
    pub(super) fn read(data: &[u8]) -> Result<Self, DecodeError> {
        let parts = private_parts(data).map_err(malformed)?;
        expect_p256(parts.curve)?;
        let key_type = KeyType::Ecdsa;
        if parts.scalar.len() != SCALAR_LEN {
            return Err(DecodeError::WrongLength { key_type, len: parts.scalar.len() });
        }
        let with = |point: &[u8]| {
            EcdsaKeyPair::from_private_key_and_public_key(
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                parts.scalar,
                point,
            )
        };
        if let Some(point) = parts.point
            && let Ok(pair) = with(&read_point(point)?)
        {
            return Ok(Self(pair));
        }
        let alone =
            EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &write(parts.scalar, None));
        match (alone, parts.point) {
            (Err(_), _) => Err(DecodeError::OutOfRange(key_type)),
            (Ok(pair), None) => Ok(Self(pair)),
            (Ok(_), Some(_)) => Err(DecodeError::Mismatch),
        }
    }

    /// `ECPrivateKey` with the curve and the public half.
    #[allow(clippy::expect_used, reason = "what was read or made here can be written")]
    pub(super) fn data(&self) -> Zeroizing<Vec<u8>> {
        let scalar: EcPrivateKeyBin<'_> = self.0.private_key().as_be_bytes().expect("a key of P-256");
        write(scalar.as_ref(), Some(&self.public()))
    }

    #[allow(clippy::expect_used, reason = "an uncompressed point of this curve has 65 bytes")]
    pub(super) fn public(&self) -> [u8; POINT_LEN] {
        self.0.public_key().as_ref().try_into().expect("65 bytes")
    }

    /// # Panics
    ///
    /// When the operating system has no randomness to give.
    #[allow(clippy::expect_used, reason = "a machine without randomness can do nothing that follows")]
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature =
            self.0.sign(&SystemRandom::new(), message).expect("the operating system gives randomness");
        signature.as_ref().to_vec()
    }
}

struct PrivateParts<'a> {
    scalar: &'a [u8],
    curve: &'a [u8],
    point: Option<&'a [u8]>,
}

fn private_parts(data: &[u8]) -> Result<PrivateParts<'_>, DerError> {
    let mut outer = Reader::new(data);
    let mut key = outer.inside(der::SEQUENCE)?;
    key.constant(der::INTEGER, &[1])?;
    let scalar = key.element(der::OCTET_STRING)?;
    let mut parameters = key.inside(der::explicit(0))?;
    let curve = parameters.element(der::OID)?;
    parameters.end()?;
    let point = match key.inside_if(der::explicit(1))? {
        Some(mut public) => {
            let point = public.bytes_of_bits()?;
            public.end()?;
            Some(point)
        }
        None => None,
    };
    key.end()?;
    outer.end()?;
    Ok(PrivateParts { scalar, curve, point })
}

/// More than an `ECPrivateKey` of this curve has: growing would leave a copy behind.
const PRIVATE_ROOM: usize = 128;

fn write(scalar: &[u8], point: Option<&[u8; POINT_LEN]>) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(PRIVATE_ROOM));
    der::put(der::INTEGER, &[1], &mut key);
    der::put(der::OCTET_STRING, scalar, &mut key);
    let mut curve = Vec::new();
    der::put(der::OID, &P256, &mut curve);
    der::put(der::explicit(0), &curve, &mut key);
    if let Some(point) = point {
        let mut public = Vec::new();
        der::put(der::BIT_STRING, &[&[0][..], point].concat(), &mut public);
        der::put(der::explicit(1), &public, &mut key);
    }
    let mut out = Zeroizing::new(Vec::with_capacity(PRIVATE_ROOM));
    der::put(der::SEQUENCE, &key, &mut out);
    out
}
