use super::{DecodeError, KeyType, PeerId, decode_key, ecdsa, ed25519, encode_key, rsa, secp256k1};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The most bytes of an encoded public key that are looked at: an RSA key of 8192 bits has some 1070.
pub const MAX_PUBLIC_KEY_LEN: usize = 2048;

/// A peer's public key, of any [type](KeyType).
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

/// Of each key one encoding, so that keys are equal when their bytes are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    Ed25519([u8; ed25519::PUBLIC_LEN]),
    /// A compressed point of the curve.
    Secp256k1([u8; secp256k1::PUBLIC_LEN]),
    /// An uncompressed point of P-256.
    Ecdsa([u8; ecdsa::POINT_LEN]),
    /// An `RSAPublicKey` whose numbers were checked.
    Rsa(Arc<[u8]>),
}

impl PublicKey {
    /// Takes the 32 bytes of RFC 8032, section 5.1.5. Whether they are a point of the curve shows when a signature is
    /// checked: there is none for bytes that are not, nor for a [weak](DecodeError::Weak) key.
    pub fn from_ed25519(bytes: [u8; 32]) -> PublicKey {
        PublicKey(Repr::Ed25519(bytes))
    }

    /// Reads the spec's `PublicKey` message. The key in it must be in the one form that peer ids are made from:
    ///
    /// - Ed25519: 32 bytes, not [weak](DecodeError::Weak);
    /// - secp256k1: a compressed point, 33 bytes;
    /// - ECDSA: an uncompressed point of P-256 as PKIX DER, 91 bytes;
    /// - RSA: PKIX DER, the modulus odd and of [`MIN_RSA_BITS`](super::MIN_RSA_BITS) to
    ///   [`MAX_RSA_BITS`](super::MAX_RSA_BITS) bits, the exponent odd and from 3 to
    ///   [`MAX_RSA_EXPONENT`](super::MAX_RSA_EXPONENT). A key that is refused was not computed with.
    ///
    /// # Errors
    ///
    /// When it is over [`MAX_PUBLIC_KEY_LEN`], malformed, or not such a key.
    pub fn from_protobuf(bytes: &[u8]) -> Result<PublicKey, DecodeError> {
        Self::of(decode_key(bytes, MAX_PUBLIC_KEY_LEN, None)?)
    }

    /// As [`PublicKey::from_protobuf`], but for a key without a type, which is an RSA key.
    ///
    /// Deviation of py-libp2p 0.8: it writes the keys in envelopes by a proto3 schema, which leaves out a type of 0, though
    /// the spec's schema requires one. Elsewhere it writes the type.
    pub(crate) fn from_protobuf3(bytes: &[u8]) -> Result<PublicKey, DecodeError> {
        Self::of(decode_key(bytes, MAX_PUBLIC_KEY_LEN, Some(KeyType::Rsa))?)
    }

    fn of((key_type, data): (KeyType, &[u8])) -> Result<PublicKey, DecodeError> {
        Ok(PublicKey(match key_type {
            KeyType::Ed25519 => Repr::Ed25519(ed25519::read_public(data)?),
            KeyType::Secp256k1 => Repr::Secp256k1(secp256k1::read_public(data)?),
            KeyType::Ecdsa => Repr::Ecdsa(ecdsa::read_public(data)?),
            KeyType::Rsa => Repr::Rsa(rsa::read_public(data)?.into()),
        }))
    }

    /// Writes the spec's `PublicKey` message, in the one form that peer ids are made from.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let data = self.data();
        let mut out = Vec::with_capacity(data.len().saturating_add(8));
        encode_key(self.key_type(), &data, &mut out);
        out
    }

    /// Whether `signature` is this key's over `message`. Never with a [weak](DecodeError::Weak) key.
    ///
    /// Signatures of secp256k1 and ECDSA keys are DER, of secp256k1 keys with the smaller s (BIP 62); those of RSA keys
    /// are PKCS#1 v1.5 over SHA-256.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Repr::Ed25519(key) => ed25519::verify(key, message, signature),
            Repr::Secp256k1(key) => secp256k1::verify(key, message, signature),
            Repr::Ecdsa(point) => ecdsa::verify(point, message, signature),
            Repr::Rsa(key) => rsa::verify(key, message, signature),
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
            Repr::Secp256k1(_) => KeyType::Secp256k1,
            Repr::Ecdsa(_) => KeyType::Ecdsa,
            Repr::Rsa(_) => KeyType::Rsa,
        }
    }

    /// Of a private key that was made or read.
    pub(super) fn of_secp256k1(point: [u8; secp256k1::PUBLIC_LEN]) -> PublicKey {
        PublicKey(Repr::Secp256k1(point))
    }

    /// Of a private key that was made or read.
    pub(super) fn of_ecdsa(point: [u8; ecdsa::POINT_LEN]) -> PublicKey {
        PublicKey(Repr::Ecdsa(point))
    }

    /// Of a private key that was made or read.
    pub(super) fn of_rsa(key: &[u8]) -> PublicKey {
        PublicKey(Repr::Rsa(key.into()))
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.0 {
            Repr::Ed25519(bytes) => bytes.into(),
            Repr::Secp256k1(bytes) => bytes.into(),
            Repr::Ecdsa(point) => ecdsa::write_public(point).into(),
            Repr::Rsa(key) => rsa::write_public(key).into(),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = data_encoding::HEXLOWER.encode(&self.data());
        write!(f, "PublicKey({} {hex})", self.key_type())
    }
}
