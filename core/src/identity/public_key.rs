use super::{DecodeError, KeyType, PeerId, decode_key, encode_key};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use std::fmt;

/// The most bytes of an encoded public key that are looked at: an RSA key of 8192 bits has some 1070.
pub const MAX_PUBLIC_KEY_LEN: usize = 2048;

pub(super) const ED25519_LEN: usize = 32;

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
    /// checked: there is none for bytes that are not.
    pub fn from_ed25519(bytes: [u8; ED25519_LEN]) -> PublicKey {
        PublicKey(Repr::Ed25519(bytes))
    }

    /// Reads the spec's `PublicKey` message.
    ///
    /// # Errors
    ///
    /// When it is over [`MAX_PUBLIC_KEY_LEN`], malformed, or of a type that is not supported.
    pub fn from_protobuf(bytes: &[u8]) -> Result<PublicKey, DecodeError> {
        match decode_key(bytes, MAX_PUBLIC_KEY_LEN)? {
            (key_type @ KeyType::Ed25519, data) => {
                data.try_into()
                    .map(PublicKey::from_ed25519)
                    .map_err(|_| DecodeError::WrongLength {
                        key_type,
                        len: data.len(),
                    })
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

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Repr::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key)
                .verify(message, signature)
                .is_ok(),
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
