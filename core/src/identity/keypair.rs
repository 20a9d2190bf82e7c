use super::{
    DecodeError, KeyType, PeerId, PublicKey, decode_key, ecdsa, ed25519, encode_key, rsa, secp256k1,
};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The most bytes of an encoded private key that are looked at: an RSA key of 8192 bits has some 4700.
pub const MAX_PRIVATE_KEY_LEN: usize = 16 * 1024;

/// A private key with its public half. Cloning shares it.
///
/// The private half is wiped from memory with the last clone, and never printed.
///
/// ```
/// use peerage_core::Keypair;
///
/// let keypair = Keypair::generate();
/// let stored = keypair.to_protobuf();
/// assert_eq!(Keypair::from_protobuf(&stored)?.peer_id(), keypair.peer_id());
/// # Ok::<(), peerage_core::identity::DecodeError>(())
/// ```
#[derive(Clone)]
pub struct Keypair {
    private: Private,
    public: PublicKey,
    peer_id: PeerId,
}

#[derive(Clone)]
enum Private {
    Ed25519(Arc<ed25519::Private>),
    Secp256k1(Arc<secp256k1::Private>),
    Ecdsa(Arc<ecdsa::Private>),
    Rsa(Arc<rsa::Private>),
}

impl Keypair {
    /// Makes a new Ed25519 key from the operating system's randomness: the type that all implementations have, with
    /// the shortest keys and signatures.
    ///
    /// # Panics
    ///
    /// When the operating system has no randomness to give.
    pub fn generate() -> Keypair {
        Keypair::generate_of(KeyType::Ed25519)
    }

    /// Makes a new key of some type. ECDSA keys are on P-256. RSA keys have 2048 bits, which is what all
    /// implementations make and take, and need up to a second.
    ///
    /// # Panics
    ///
    /// When the operating system has no randomness to give, and for a type that the program was built without.
    pub fn generate_of(key_type: KeyType) -> Keypair {
        Keypair::of(match key_type {
            KeyType::Ed25519 => Private::Ed25519(Arc::new(ed25519::Private::generate())),
            KeyType::Secp256k1 => Private::Secp256k1(Arc::new(secp256k1::Private::generate())),
            KeyType::Ecdsa => Private::Ecdsa(Arc::new(ecdsa::Private::generate())),
            KeyType::Rsa => Private::Rsa(Arc::new(rsa::Private::generate())),
        })
    }

    /// Makes the Ed25519 key of a seed, the private key of RFC 8032: for tests, and for keys derived elsewhere.
    pub fn from_ed25519_seed(seed: [u8; 32]) -> Keypair {
        let private = ed25519::Private::from_seed(Zeroizing::new(seed));
        Keypair::of(Private::Ed25519(Arc::new(private)))
    }

    /// Reads the spec's `PrivateKey` message. The key in it is, by its type:
    ///
    /// - Ed25519: seed and public key, 64 bytes, or the older form with the public key twice, 96 bytes;
    /// - secp256k1: the number, 32 bytes;
    /// - ECDSA: `ECPrivateKey` of RFC 5915 on P-256, with the curve, with or without the public half;
    /// - RSA: `RSAPrivateKey` of PKCS#1 with two primes, its numbers as [`PublicKey::from_protobuf`] has them.
    ///
    /// # Errors
    ///
    /// When it is over [`MAX_PRIVATE_KEY_LEN`], malformed, not such a key, or when its halves do not belong together.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Keypair, DecodeError> {
        let (key_type, data) = decode_key(bytes, MAX_PRIVATE_KEY_LEN, None)?;
        Ok(Keypair::of(match key_type {
            KeyType::Ed25519 => Private::Ed25519(Arc::new(ed25519::Private::read(data)?)),
            KeyType::Secp256k1 => Private::Secp256k1(Arc::new(secp256k1::Private::read(data)?)),
            KeyType::Ecdsa => Private::Ecdsa(Arc::new(ecdsa::Private::read(data)?)),
            KeyType::Rsa => Private::Rsa(Arc::new(rsa::Private::read(data)?)),
        }))
    }

    /// Writes the spec's `PrivateKey` message, to be kept on disk. The bytes are wiped when dropped.
    pub fn to_protobuf(&self) -> Zeroizing<Vec<u8>> {
        match &self.private {
            Private::Ed25519(key) => self.encoded(&key.data()),
            Private::Secp256k1(key) => self.encoded(&key.data()[..]),
            Private::Ecdsa(key) => self.encoded(&key.data()),
            Private::Rsa(key) => self.encoded(key.data()),
        }
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The id of the peer that has this key.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Signs `message`. An RSA signature takes some thousand times as long as the others: a millisecond and more.
    ///
    /// # Panics
    ///
    /// With an ECDSA key, when the operating system has no randomness to give.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.private {
            Private::Ed25519(key) => key.sign(message),
            Private::Secp256k1(key) => key.sign(message),
            Private::Ecdsa(key) => key.sign(message),
            Private::Rsa(key) => key.sign(message),
        }
    }

    fn of(private: Private) -> Keypair {
        let public = match &private {
            Private::Ed25519(key) => PublicKey::from_ed25519(key.public()),
            Private::Secp256k1(key) => PublicKey::of_secp256k1(key.public()),
            Private::Ecdsa(key) => PublicKey::of_ecdsa(key.public()),
            Private::Rsa(key) => PublicKey::of_rsa(key.public()),
        };
        let peer_id = public.peer_id();
        Keypair { private, public, peer_id }
    }

    fn encoded(&self, data: &[u8]) -> Zeroizing<Vec<u8>> {
        // Room for all of it from the start: growing would leave a copy behind.
        let mut out = Zeroizing::new(Vec::with_capacity(data.len().saturating_add(8)));
        encode_key(self.public.key_type(), data, &mut out);
        out
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({} of {})", self.public.key_type(), self.peer_id)
    }
}
