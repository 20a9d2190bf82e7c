use super::public_key::ED25519_LEN;
use super::{DecodeError, KeyType, PeerId, PublicKey, decode_key, encode_key};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The most bytes of an encoded private key that are looked at: an RSA key of 8192 bits has some 4700.
pub const MAX_PRIVATE_KEY_LEN: usize = 16 * 1024;

const SEED_LEN: usize = 32;
const DATA_LEN: usize = SEED_LEN + ED25519_LEN;

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
    Ed25519(Arc<Ed25519>),
}

struct Ed25519 {
    /// What signs. AWS-LC wipes what it frees.
    pair: Ed25519KeyPair,
    /// Kept beside it, because the library gives a seed back only in memory that nobody wipes.
    seed: Zeroizing<[u8; SEED_LEN]>,
}

impl Keypair {
    /// Makes a new Ed25519 key from the operating system's randomness.
    ///
    /// # Panics
    ///
    /// When the operating system has no randomness to give.
    #[allow(clippy::expect_used, reason = "a machine without randomness can do nothing that follows")]
    pub fn generate() -> Keypair {
        let mut seed = Zeroizing::new([0; SEED_LEN]);
        aws_lc_rs::rand::fill(&mut seed[..]).expect("the operating system gives randomness");
        Keypair::from_seed(seed)
    }

    /// Makes the Ed25519 key of a seed, the private key of RFC 8032: for tests, and for keys derived elsewhere.
    pub fn from_ed25519_seed(seed: [u8; SEED_LEN]) -> Keypair {
        Keypair::from_seed(Zeroizing::new(seed))
    }

    /// Reads the spec's `PrivateKey` message: seed and public key, 64 bytes, or the older form with the public key
    /// twice, 96 bytes.
    ///
    /// # Errors
    ///
    /// When it is over [`MAX_PRIVATE_KEY_LEN`], malformed, of a type that is not supported, or when its halves do not
    /// belong together.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Keypair, DecodeError> {
        match decode_key(bytes, MAX_PRIVATE_KEY_LEN)? {
            (KeyType::Ed25519, data) => Keypair::from_ed25519_data(data),
            (other, _) => Err(DecodeError::Unsupported(other)),
        }
    }

    /// Writes the spec's `PrivateKey` message, to be kept on disk. The bytes are wiped when dropped.
    pub fn to_protobuf(&self) -> Zeroizing<Vec<u8>> {
        match &self.private {
            Private::Ed25519(key) => {
                // Room for all of it from the start: growing would leave a copy behind.
                let mut data = Zeroizing::new(Vec::with_capacity(DATA_LEN));
                data.extend_from_slice(&key.seed[..]);
                data.extend_from_slice(key.pair.public_key().as_ref());
                let mut out = Zeroizing::new(Vec::with_capacity(DATA_LEN.saturating_add(8)));
                encode_key(KeyType::Ed25519, &data, &mut out);
                out
            }
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

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.private {
            Private::Ed25519(key) => key.pair.sign(message).as_ref().to_vec(),
        }
    }

    fn from_ed25519_data(data: &[u8]) -> Result<Keypair, DecodeError> {
        let wrong = DecodeError::WrongLength { key_type: KeyType::Ed25519, len: data.len() };
        let (seed, rest) = data.split_first_chunk::<SEED_LEN>().ok_or(wrong)?;
        let (public, rest) = rest.split_first_chunk::<ED25519_LEN>().ok_or(wrong)?;
        // peer-ids, "Ed25519": the older form repeats the public key, which must be the same.
        match rest.len() {
            0 => {}
            ED25519_LEN if rest == public => {}
            ED25519_LEN => return Err(DecodeError::Mismatch),
            _ => return Err(wrong),
        }
        let keypair = Keypair::from_seed(Zeroizing::new(*seed));
        // A signature made with a foreign public key in it would give the private half away.
        if keypair.public != PublicKey::from_ed25519(*public) {
            return Err(DecodeError::Mismatch);
        }
        Ok(keypair)
    }

    #[allow(
        clippy::expect_used,
        reason = "RFC 8032: any 32 bytes are a private key, and its public key has 32 bytes"
    )]
    fn from_seed(seed: Zeroizing<[u8; SEED_LEN]>) -> Keypair {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed[..]).expect("32 bytes are a seed");
        let public = pair.public_key().as_ref().try_into().expect("a public key has 32 bytes");
        let public = PublicKey::from_ed25519(public);
        let peer_id = public.peer_id();
        Keypair { private: Private::Ed25519(Arc::new(Ed25519 { pair, seed })), public, peer_id }
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({} of {})", self.public.key_type(), self.peer_id)
    }
}
