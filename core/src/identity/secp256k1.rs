//! Keys on the curve of Bitcoin.
//!
//! peer-ids, "Secp256k1": public keys as Bitcoin has them, compressed; signatures over SHA-256 in DER. Of the two
//! signatures that there are for each message, BIP 62 takes the one with the smaller s, as signers of all
//! implementations do, so the other one is refused: a signature that anybody can change is no fingerprint of anything.

use super::{DecodeError, KeyType};
use k256::ecdsa::{
    Signature, SigningKey, VerifyingKey,
    signature::{Signer as _, Verifier as _},
};
use zeroize::Zeroizing;

pub(super) const PRIVATE_LEN: usize = 32;
pub(super) const PUBLIC_LEN: usize = 33;

/// A point of the curve, compressed.
///
/// The uncompressed form, which some decoders take, is refused: it would be the same key with another peer id.
pub(super) fn read_public(data: &[u8]) -> Result<[u8; PUBLIC_LEN], DecodeError> {
    let key_type = KeyType::Secp256k1;
    let bytes: [u8; PUBLIC_LEN] =
        data.try_into().map_err(|_| DecodeError::WrongLength { key_type, len: data.len() })?;
    // The library would also take 5, a form that leaves the sign of y out.
    match (bytes.first(), VerifyingKey::from_sec1_bytes(&bytes)) {
        (Some(2 | 3), Ok(_)) => Ok(bytes),
        _ => Err(DecodeError::NotOnCurve(key_type)),
    }
}

pub(super) fn verify(key: &[u8; PUBLIC_LEN], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_sec1_bytes(key), Signature::from_der(signature))
    else {
        return false;
    };
    key.verify(message, &signature).is_ok()
}

/// A private key, wiped when dropped.
pub(super) struct Private(SigningKey);

impl Private {
    /// # Panics
    ///
    /// When the operating system has no randomness to give.
    #[allow(clippy::expect_used, reason = "a machine without randomness can do nothing that follows")]
    pub(super) fn generate() -> Self {
        // All numbers of 32 bytes but zero and the 2^128 last ones are keys: in practice this goes round once.
        loop {
            let mut bytes = Zeroizing::new([0; PRIVATE_LEN]);
            aws_lc_rs::rand::fill(&mut bytes[..]).expect("the operating system gives randomness");
            if let Ok(key) = SigningKey::from_slice(&bytes[..]) {
                return Self(key);
            }
        }
    }

    /// A number from 1 to the order of the curve, less one.
    pub(super) fn read(data: &[u8]) -> Result<Self, DecodeError> {
        let key_type = KeyType::Secp256k1;
        if data.len() != PRIVATE_LEN {
            return Err(DecodeError::WrongLength { key_type, len: data.len() });
        }
        SigningKey::from_slice(data).map(Self).map_err(|_| DecodeError::OutOfRange(key_type))
    }

    pub(super) fn data(&self) -> Zeroizing<[u8; PRIVATE_LEN]> {
        let mut bytes = self.0.to_bytes();
        let data = Zeroizing::new(bytes.into());
        zeroize::Zeroize::zeroize(&mut bytes[..]);
        data
    }

    #[allow(clippy::expect_used, reason = "a compressed point of this curve has 33 bytes")]
    pub(super) fn public(&self) -> [u8; PUBLIC_LEN] {
        let point = self.0.verifying_key().to_sec1_point(true);
        point.as_bytes().try_into().expect("33 bytes")
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.0.sign(message);
        signature.to_der().as_bytes().to_vec()
    }
}
