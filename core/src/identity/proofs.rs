use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{self, SHA256, SHA256_OUTPUT_LEN};

use super::PublicKey;

/// How many signatures a [`Proofs`] remembers, with about 100 bytes each. For one more the oldest is forgotten.
pub const MAX_PROOFS: usize = 1024;

/// Signatures that have held, so that those of peers that come back cost no curve arithmetic: a key that is good for many
/// connections is signed once, and that signature is looked at once. The last [`MAX_PROOFS`] of them.
///
/// Whether a signature is good depends on three things, key, message and signature, and on nothing else: they are remembered
/// by a digest of them all. That a peer has the key that was signed is proved by each handshake anew. What did not hold is not
/// remembered, so that nobody fills this with what costs nothing to make.
///
/// ```
/// use peerage_core::{Keypair, identity::Proofs};
///
/// let (keypair, proofs) = (Keypair::generate(), Proofs::default());
/// let (key, signature) = (keypair.public(), keypair.sign(b"mine"));
/// for _ in 0..2 {
///     assert!(proofs.verify(&key, b"mine", &signature)); // the second time without arithmetic
/// }
/// assert!(!proofs.verify(&key, b"mine, too", &signature));
/// ```
#[derive(Default)]
pub struct Proofs(Mutex<Held>);

#[derive(Default)]
struct Held {
    proofs: HashSet<Proof>,
    oldest_first: VecDeque<Proof>,
}

type Proof = [u8; SHA256_OUTPUT_LEN];

impl Proofs {
    /// As [`PublicKey::verify`].
    pub fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        self.hold(&[&key.to_protobuf(), message, signature], || key.verify(message, signature))
    }

    /// Whether `check` says yes, which depends on nothing but `parts`. It is not asked again about what it has said yes to.
    pub fn hold(&self, parts: &[&[u8]], check: impl FnOnce() -> bool) -> bool {
        let Some(proof) = digest_of(parts) else {
            return check();
        };
        if self.lock().proofs.contains(&proof) {
            return true;
        }
        let holds = check();
        if holds {
            self.lock().enter(proof);
        }
        holds
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // A panic between two steps leaves at most a proof that is forgotten late.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn enter(&mut self, proof: Proof) {
        if !self.proofs.insert(proof) {
            return;
        }
        self.oldest_first.push_back(proof);
        if self.oldest_first.len() > MAX_PROOFS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.proofs.remove(&oldest);
        }
    }
}

/// Of the parts with their lengths, so that no two lists of parts are the same bytes.
fn digest_of(parts: &[&[u8]]) -> Option<Proof> {
    let mut digest = digest::Context::new(&SHA256);
    for part in parts {
        digest.update(&u64::try_from(part.len()).ok()?.to_be_bytes());
        digest.update(part);
    }
    digest.finish().as_ref().try_into().ok()
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proofs").field("held", &self.lock().proofs.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it had to be asked.
    fn asked(proofs: &Proofs, parts: &[&[u8]]) -> bool {
        let mut asked = false;
        assert!(proofs.hold(parts, || {
            asked = true;
            true
        }));
        asked
    }

    #[test]
    fn what_held_is_not_asked_again() {
        let proofs = Proofs::default();
        assert!(asked(&proofs, &[b"key", b"message", b"signature"]));
        assert!(!asked(&proofs, &[b"key", b"message", b"signature"]));
    }

    #[test]
    fn what_did_not_hold_is_asked_again() {
        let proofs = Proofs::default();
        for _ in 0..2 {
            let mut asked = false;
            assert!(!proofs.hold(&[b"forged"], || {
                asked = true;
                false
            }));
            assert!(asked);
        }
        assert!(asked(&proofs, &[b"forged"]), "nothing was remembered");
    }

    #[test]
    fn every_part_counts_and_so_does_where_it_ends() {
        let proofs = Proofs::default();
        assert!(asked(&proofs, &[b"ab", b"c", b"d"]));
        for other in [[&b"a"[..], b"bc", b"d"], [b"ab", b"cd", b""], [b"abc", b"", b"d"], [b"ab", b"c", b"e"]]
        {
            assert!(asked(&proofs, &other), "{other:?}");
        }
        assert!(asked(&proofs, &[b"abcd"]));
    }

    #[test]
    fn the_oldest_is_forgotten_for_one_too_many() {
        let proofs = Proofs::default();
        let enter = |n: usize| asked(&proofs, &[&n.to_be_bytes()]);
        for n in 0..MAX_PROOFS {
            assert!(enter(n));
        }
        assert!(!enter(0), "all of them have room");
        assert!(enter(MAX_PROOFS));
        assert!(!enter(1) && !enter(MAX_PROOFS), "one is forgotten");
        assert!(enter(0), "the oldest");
        let held = proofs.lock();
        assert_eq!((held.proofs.len(), held.oldest_first.len()), (MAX_PROOFS, MAX_PROOFS));
    }
}
