use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use bytes::Bytes;
use peerage_core::{Keypair, PeerId, PublicKey};

use crate::{
    codec::{self, WireMessage},
    message::MessageId,
    topic::Topic,
};

/// What is signed begins so (spec `pubsub/README.md`, "Message Signing").
pub const DOMAIN: &[u8] = b"libp2p-pubsub:";
/// Bytes of a message's number.
const SEQUENCE_LEN: usize = 8;

/// Who vouches for the messages of a topic. All nodes have to agree on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signing {
    /// Every message names its author, has a number, and is signed: `StrictSign`. What is not, is refused.
    #[default]
    Strict,
    /// No message has an author, a number, or a signature: `StrictNoSign`. What has, is refused. Messages of the same
    /// content are the same message, unless the topic's ids say otherwise.
    Anonymous,
    /// Messages name an author and a number, and nothing proves it: what go-libp2p-pubsub makes of `StrictNoSign` if it
    /// is not told to leave the author out. Signatures are refused.
    Named,
}

/// What is wrong with a message, before anybody looks at what it says; its author's or its sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// It has no author.
    #[error("no author")]
    NoAuthor,
    /// Its author is no peer.
    #[error("the author is no peer id")]
    BadAuthor,
    /// It has no number, or not one of eight bytes.
    #[error("no sequence number of 8 bytes")]
    BadSequence,
    /// It is not signed.
    #[error("no signature")]
    NoSignature,
    /// It has an author, a number, a key or a signature where there must be none.
    #[error("an author, a number, a key or a signature where there must be none")]
    NotAnonymous,
    /// The key is none, is missing, or is not the author's.
    #[error("the key is not the author's")]
    BadKey,
    /// The author did not sign this.
    #[error("the signature is not the author's")]
    BadSignature,
}

/// Writes messages in this node's name. Shared by all who publish.
#[derive(Debug)]
pub struct Author {
    keypair: Keypair,
    from: Bytes,
    /// For ids that do not hold it.
    key: Option<Bytes>,
    next: AtomicU64,
}

impl Author {
    /// `first` is the number of the first message. It must be higher than all that were used before with this key, or
    /// others take new messages for old ones: the time in nanoseconds is.
    pub fn new(keypair: Keypair, first: u64) -> Self {
        let peer = keypair.peer_id();
        let key = match peer.public_key() {
            Some(_) => None,
            None => Some(keypair.public().to_protobuf().into()),
        };
        Self { from: Bytes::copy_from_slice(peer.as_bytes()), key, keypair, next: AtomicU64::new(first) }
    }

    /// Who it is.
    pub fn peer_id(&self) -> PeerId {
        self.keypair.peer_id()
    }

    /// A message, signed if the topic demands it.
    pub fn write(&self, topic: Topic, data: Bytes, signing: Signing) -> WireMessage {
        let mut message =
            WireMessage { from: None, data: Some(data), sequence: None, topic, signature: None, key: None };
        if signing != Signing::Anonymous {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            message.from = Some(self.from.clone());
            message.sequence = Some(Bytes::copy_from_slice(&number.to_be_bytes()));
        }
        if signing == Signing::Strict {
            message.signature = Some(self.keypair.sign(&to_sign(&message)).into());
            message.key.clone_from(&self.key);
        }
        message
    }
}

fn to_sign(message: &WireMessage) -> Vec<u8> {
    let size = codec::signed_len(message).saturating_add(DOMAIN.len());
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(DOMAIN);
    codec::put_signed(message, &mut bytes);
    bytes
}

/// The author that a message names; `None` if it names none, or one that is none.
pub fn author(message: &WireMessage) -> Option<PeerId> {
    PeerId::from_bytes(message.from.as_deref()?).ok()
}

/// Whether a message has what the topic's messages have: what can be said without cryptography.
///
/// # Errors
/// [`Flaw`].
pub fn check(message: &WireMessage, signing: Signing) -> Result<(), Flaw> {
    if signing == Signing::Anonymous {
        let named = [&message.from, &message.sequence, &message.signature, &message.key];
        return if named.iter().all(|part| part.is_none()) { Ok(()) } else { Err(Flaw::NotAnonymous) };
    }
    message.from.as_ref().ok_or(Flaw::NoAuthor)?;
    author(message).ok_or(Flaw::BadAuthor)?;
    if message.sequence.as_ref().is_none_or(|sequence| sequence.len() != SEQUENCE_LEN) {
        return Err(Flaw::BadSequence);
    }
    match (signing, message.signature.is_some()) {
        (Signing::Strict, false) => Err(Flaw::NoSignature),
        (Signing::Named, true) => Err(Flaw::NotAnonymous),
        _ => Ok(()),
    }
}

/// Whether the author that a message names has signed it. Costs tens of microseconds, and gives the same answer whenever
/// it is asked.
///
/// # Errors
/// [`Flaw`].
pub fn verify(message: &WireMessage) -> Result<(), Flaw> {
    let author = author(message).ok_or(Flaw::BadAuthor)?;
    let signature = message.signature.as_ref().ok_or(Flaw::NoSignature)?;
    let key = match &message.key {
        Some(key) => PublicKey::from_protobuf(key).map_err(|_| Flaw::BadKey)?,
        None => author.public_key().ok_or(Flaw::BadKey)?,
    };
    if key.peer_id() != author {
        return Err(Flaw::BadKey);
    }
    if key.verify(&to_sign(message), signature) { Ok(()) } else { Err(Flaw::BadSignature) }
}

/// The id of a message where the topic has no function for it: author and number, as everybody does it; what it says, as a
/// SHA-256, where there is no author.
pub fn default_id(message: &WireMessage) -> MessageId {
    match (&message.from, &message.sequence) {
        (None, None) => {
            let digest = digest::digest(&digest::SHA256, message.data.as_deref().unwrap_or_default());
            MessageId::truncated(digest.as_ref())
        }
        (from, sequence) => {
            MessageId::joined(from.as_deref().unwrap_or_default(), sequence.as_deref().unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::identity::KeyType;

    use super::*;

    fn topic() -> Topic {
        Topic::new("weather").unwrap()
    }

    fn signed(keypair: Keypair) -> WireMessage {
        Author::new(keypair, 7).write(topic(), Bytes::from_static(b"rain"), Signing::Strict)
    }

    #[test]
    fn every_kind_of_key_signs_and_is_found() {
        for kind in [KeyType::Ed25519, KeyType::Secp256k1, KeyType::Ecdsa] {
            let message = signed(Keypair::generate_of(kind));
            assert_eq!(check(&message, Signing::Strict), Ok(()), "{kind:?}");
            assert_eq!(verify(&message), Ok(()), "{kind:?}");
            // Only ids that are a hash need the key beside them.
            assert_eq!(message.key.is_some(), kind == KeyType::Ecdsa, "{kind:?}");
        }
    }

    #[test]
    fn every_part_is_covered() {
        let message = signed(Keypair::from_ed25519_seed([1; 32]));
        let other = signed(Keypair::from_ed25519_seed([2; 32]));
        let bytes = Bytes::from_static(b"snow");
        let altered = [
            WireMessage { from: other.from.clone(), ..message.clone() },
            WireMessage { data: Some(bytes), ..message.clone() },
            WireMessage { sequence: Some(Bytes::from_static(&[0; 8])), ..message.clone() },
            WireMessage { topic: Topic::new("news").unwrap(), ..message.clone() },
            WireMessage { signature: other.signature.clone(), ..message.clone() },
        ];
        for message in altered {
            assert_eq!(verify(&message), Err(Flaw::BadSignature));
        }
        let key = Keypair::from_ed25519_seed([2; 32]).public().to_protobuf();
        let stolen = WireMessage { key: Some(key.into()), ..message.clone() };
        assert_eq!(verify(&stolen), Err(Flaw::BadKey));
        // A key that the id holds already may be there as well.
        let key = Keypair::from_ed25519_seed([1; 32]).public().to_protobuf();
        assert_eq!(verify(&WireMessage { key: Some(key.into()), ..message }), Ok(()));
    }

    #[test]
    fn topics_get_what_they_demand() {
        let author = Author::new(Keypair::from_ed25519_seed([1; 32]), 7);
        let modes = [Signing::Strict, Signing::Anonymous, Signing::Named];
        for (n, written) in modes.into_iter().enumerate() {
            let message = author.write(topic(), Bytes::new(), written);
            for (m, demanded) in modes.into_iter().enumerate() {
                assert_eq!(check(&message, demanded).is_ok(), n == m, "{written:?} for {demanded:?}");
            }
        }
        let mut message = author.write(topic(), Bytes::new(), Signing::Strict);
        message.sequence = Some(Bytes::from_static(&[0; 7]));
        assert_eq!(check(&message, Signing::Strict), Err(Flaw::BadSequence));
        message.from = Some(Bytes::from_static(b"nobody"));
        assert_eq!(check(&message, Signing::Strict), Err(Flaw::BadAuthor));
    }

    #[test]
    fn numbers_and_ids() {
        let author = Author::new(Keypair::from_ed25519_seed([1; 32]), 7);
        let [first, second] = [(); 2].map(|()| author.write(topic(), Bytes::new(), Signing::Strict));
        assert_eq!(first.sequence.as_deref(), Some(&7_u64.to_be_bytes()[..]));
        let expected = [author.peer_id().as_bytes(), &8_u64.to_be_bytes()].concat();
        assert_eq!(default_id(&second).as_bytes(), expected);
        let [same, again] = [(); 2].map(|()| author.write(topic(), Bytes::new(), Signing::Anonymous));
        assert_eq!(default_id(&same), default_id(&again));
    }
}
