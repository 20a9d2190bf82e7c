//! What snow needs of cryptography for the handshake, from aws-lc: X25519, ChaCha20-Poly1305, SHA-256 and the operating
//! system's randomness. Nothing else can be asked for.

use std::sync::Arc;

use aws_lc_rs::{
    aead::{Aad, LessSafeKey},
    agreement::{self, PrivateKey, UnparsedPublicKey},
    digest, rand,
};
use snow::{
    Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::CryptoResolver,
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroizing;

use super::{KEY, TAG, record};

/// The block of SHA-256, which HMAC pads keys to.
const SHA256_BLOCK: usize = 64;

/// With the static key of this side, if there is one already, so that it is not prepared for each handshake anew: its
/// public half costs a multiplication on the curve.
#[derive(Default)]
pub(super) struct Resolver(Option<Arc<Loaded>>);

impl Resolver {
    /// For handshakes with this static key.
    pub(super) fn having(own: &Arc<Loaded>) -> Self {
        Self(Some(Arc::clone(own)))
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(System))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519 { own: self.0.clone(), key: None })),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::SHA256 => Some(Box::new(Sha256(digest::Context::new(&digest::SHA256)))),
            _ => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaChaPoly(None))),
            _ => None,
        }
    }
}

struct System;

impl Random for System {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        rand::fill(dest).map_err(|_| Error::Rng)
    }
}

/// A key pair, as parsed by aws-lc. It wipes its copy of the secret when that is freed, and ours is wiped as well.
pub(super) struct Loaded {
    key: PrivateKey,
    secret: Zeroizing<[u8; KEY]>,
    public: [u8; KEY],
}

impl Loaded {
    /// `None` for what is no secret key.
    pub(super) fn of(secret: &[u8]) -> Option<Self> {
        let mut own = Zeroizing::new([0; KEY]);
        own.copy_from_slice(secret.get(..KEY).filter(|_| secret.len() == KEY)?);
        let key = PrivateKey::from_private_key(&agreement::X25519, &*own).ok()?;
        let public = key.compute_public_key().ok()?;
        Some(Self { public: public.as_ref().try_into().ok()?, key, secret: own })
    }
}

/// The key pair that snow asked for.
struct X25519 {
    own: Option<Arc<Loaded>>,
    key: Option<Arc<Loaded>>,
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY
    }

    fn priv_len(&self) -> usize {
        KEY
    }

    /// There is no way to say that a key does not do, so that none is left, and every exchange fails.
    fn set(&mut self, privkey: &[u8]) {
        // Both are ours: how long comparing them takes tells nobody anything.
        let own = self.own.take().filter(|own| *own.secret == *privkey);
        self.key = own.or_else(|| Loaded::of(privkey).map(Arc::new));
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut secret = Zeroizing::new([0; KEY]);
        self.key = None;
        rng.try_fill_bytes(&mut *secret)?;
        self.key = Some(Arc::new(Loaded::of(&*secret).ok_or(Error::Rng)?));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.key.as_ref().map_or(&[0; KEY], |key| &key.public)
    }

    fn privkey(&self) -> &[u8] {
        self.key.as_ref().map_or(&[0; KEY], |key| &*key.secret)
    }

    /// Fails for the points of low order, which give all zeroes whatever the secret is (RFC 7748, section 6.1): the
    /// choice that Noise leaves ("The 25519 DH functions"), as go and js make it.
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let key = self.key.as_ref().ok_or(Error::Dh)?;
        // snow hands over room for the keys of any curve.
        let theirs = UnparsedPublicKey::new(&agreement::X25519, pubkey.get(..KEY).ok_or(Error::Dh)?);
        agreement::agree(&key.key, theirs, Error::Dh, |shared| {
            out.get_mut(..KEY).ok_or(Error::Dh)?.copy_from_slice(shared);
            Ok(())
        })
    }
}

struct Sha256(digest::Context);

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        SHA256_BLOCK
    }

    fn hash_len(&self) -> usize {
        digest::SHA256_OUTPUT_LEN
    }

    fn reset(&mut self) {
        self.0 = digest::Context::new(&digest::SHA256);
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let context = std::mem::replace(&mut self.0, digest::Context::new(&digest::SHA256));
        // snow gives room for the longest hash of all.
        if let Some(out) = out.get_mut(..digest::SHA256_OUTPUT_LEN) {
            out.copy_from_slice(context.finish().as_ref());
        }
    }
}

/// The cipher of the handshake. The record layer has its own keys.
struct ChaChaPoly(Option<LessSafeKey>);

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY]) {
        self.0 = record::key(key);
    }

    /// Gives nothing at all if it cannot encrypt, which snow leaves no way to say: the message is too short then, and the
    /// handshake fails.
    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let len = plaintext.len().saturating_add(TAG);
        let Some((text, tag)) = out.get_mut(..len).and_then(|out| out.split_at_mut_checked(plaintext.len()))
        else {
            return 0;
        };
        let sealed = self.0.as_ref().and_then(|key| {
            let aad = Aad::from(authtext);
            key.seal_out_of_place_scatter(record::nonce(nonce), aad, plaintext, text, &[], tag).ok()
        });
        if sealed.is_some() { len } else { 0 }
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let key = self.0.as_ref().ok_or(Error::Decrypt)?;
        let len = ciphertext.len().checked_sub(TAG).ok_or(Error::Decrypt)?;
        let (text, tag) = ciphertext.split_at_checked(len).ok_or(Error::Decrypt)?;
        let out = out.get_mut(..len).ok_or(Error::Decrypt)?;
        key.open_separate_gather(record::nonce(nonce), Aad::from(authtext), text, tag, out)
            .map_err(|_| Error::Decrypt)?;
        Ok(len)
    }
}
