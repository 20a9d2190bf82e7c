use super::{PublicKey, text};
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt;
use std::str::FromStr;

pub use super::text::MAX_TEXT_LEN;

/// Up to this many bytes an encoded public key is the peer id itself; a longer one is hashed.
pub const MAX_INLINE_KEY_LEN: usize = 42;

const IDENTITY: u8 = 0x00;
const SHA2_256: u8 = 0x12;
const SHA2_256_LEN: usize = 32;

/// The multihash's code and its length, one byte each for the two hashes allowed.
const HEAD_LEN: usize = 2;
const MAX_LEN: usize = HEAD_LEN + MAX_INLINE_KEY_LEN;

/// Who a peer is: the multihash of its public key. Small, copied freely.
///
/// Reads every text form of the spec, and shows itself in base58.
///
/// ```
/// use peerage_core::PeerId;
///
/// let id: PeerId = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA".parse()?;
/// assert_eq!(id.to_cid().parse(), Ok(id));
/// assert_eq!(id.short(), "AJU5SA");
/// # Ok::<(), peerage_core::identity::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    /// The multihash, then zeros. Its second byte is its length, so that ids compare as their bytes do.
    bytes: [u8; MAX_LEN],
}

/// Why bytes or a text are not a peer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The text has no characters.
    #[error("peer id is empty")]
    Empty,
    /// More characters than any peer id has.
    #[error("peer id of {len} characters, {MAX_TEXT_LEN} allowed")]
    TooLong {
        /// Bytes of the text.
        len: usize,
    },
    /// The first characters are of no form that the spec has: `1`, `Qm`, or `b`, `k`, `z` for a CID.
    #[error("peer id starts with neither 1, Qm, b, k nor z")]
    UnknownForm,
    /// A character that the form does not have, or a number of them that makes no whole bytes.
    #[error("peer id is not {form}")]
    BadText {
        /// The form that the first characters announced.
        form: &'static str,
    },
    /// A CID that is not version 1, or that is not of a libp2p key (codec 0x72).
    #[error("CID is not of a libp2p key")]
    NotLibp2pKey,
    /// Not a multihash by the identity of at most 42 bytes, or by sha2-256 of 32.
    #[error("peer id is neither an inlined key nor a sha2-256 hash")]
    BadMultihash,
}

impl PeerId {
    /// The id of the peer that has this key.
    pub fn from_public_key(key: &PublicKey) -> PeerId {
        PeerId::from_encoded_key(&key.to_protobuf())
    }

    /// Reads the binary form, a multihash.
    ///
    /// # Errors
    ///
    /// When it is not by one of the two hashes, each with its length, or when bytes are missing or left over.
    pub fn from_bytes(bytes: &[u8]) -> Result<PeerId, ParseError> {
        match bytes {
            [IDENTITY, len, digest @ ..]
                if usize::from(*len) == digest.len() && digest.len() <= MAX_INLINE_KEY_LEN =>
            {
                Ok(PeerId::assemble(IDENTITY, digest))
            }
            [SHA2_256, len, digest @ ..]
                if usize::from(*len) == digest.len() && digest.len() == SHA2_256_LEN =>
            {
                Ok(PeerId::assemble(SHA2_256, digest))
            }
            _ => Err(ParseError::BadMultihash),
        }
    }

    /// The binary form, 2 to 44 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        let [_, len, ..] = self.bytes;
        self.bytes.get(..usize::from(len).saturating_add(HEAD_LEN)).unwrap_or(&self.bytes)
    }

    /// The binary form, copied.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    /// The key inside an id that inlines it: one whose [`peer_id`](PublicKey::peer_id) is this very id.
    ///
    /// `None` for a hash, when what is inlined is not a key that is supported, and when it is one in another encoding
    /// than the spec's (fields in another order, unknown fields). Such an id is nobody's: the key has the id of its one
    /// encoding.
    pub fn public_key(&self) -> Option<PublicKey> {
        match self.as_bytes() {
            [IDENTITY, _, key @ ..] => {
                PublicKey::from_protobuf(key).ok().filter(|key| key.peer_id() == *self)
            }
            _ => None,
        }
    }

    /// The newer text form: a CIDv1 in base32, `bafz...`.
    pub fn to_cid(&self) -> String {
        text::to_cid(self.as_bytes())
    }

    /// The last six characters of the base58 form, which tell peers apart in a log.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text.get(text.len().saturating_sub(6)..).unwrap_or(&text).to_owned()
    }

    /// peer-ids, "Peer Ids": at most 42 bytes as they are, more by their hash.
    fn from_encoded_key(encoded: &[u8]) -> PeerId {
        if encoded.len() <= MAX_INLINE_KEY_LEN {
            PeerId::assemble(IDENTITY, encoded)
        } else {
            PeerId::assemble(SHA2_256, digest(&SHA256, encoded).as_ref())
        }
    }

    /// `digest` is no longer than [`MAX_INLINE_KEY_LEN`]: every caller has looked.
    fn assemble(code: u8, digest: &[u8]) -> PeerId {
        let mut bytes = [0; MAX_LEN];
        let [code_at, len_at, rest @ ..] = &mut bytes;
        *code_at = code;
        *len_at = u8::try_from(digest.len()).unwrap_or(0);
        for (to, from) in rest.iter_mut().zip(digest) {
            *to = *from;
        }
        PeerId { bytes }
    }
}

impl FromStr for PeerId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<PeerId, ParseError> {
        PeerId::from_bytes(&text::to_multihash(text)?)
    }
}

impl From<&PublicKey> for PeerId {
    fn from(key: &PublicKey) -> PeerId {
        PeerId::from_public_key(key)
    }
}

impl AsRef<[u8]> for PeerId {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&text::to_base58(self.as_bytes()))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[test]
    fn keys_of_42_bytes_are_inlined_and_of_43_hashed() {
        assert_eq!(PeerId::from_encoded_key(&[7; 42]).as_bytes()[..3], [IDENTITY, 42, 7]);
        let hashed = PeerId::from_encoded_key(&[7; 43]);
        assert_eq!(hashed.as_bytes()[..2], [SHA2_256, 32]);
        assert_eq!(hashed.as_bytes()[2..], *digest(&SHA256, &[7; 43]).as_ref());
    }

    /// The spec's secp256k1 and ECDSA public keys, whose ids were computed by other means.
    #[test]
    fn ids_of_the_other_key_types() {
        let id = |hex: &str| PeerId::from_encoded_key(&HEXLOWER.decode(hex.as_bytes()).unwrap()).to_string();
        let secp256k1 = "08021221037777e994e452c21604f91de093ce415f5432f701dd8cd1a7a6fea0e630bfca99";
        assert_eq!(id(secp256k1), "16Uiu2HAmLhLvBoYaoZfaMUKuibM6ac163GwKY74c5kiSLg5KvLpY");
        let ecdsa = "0803125b3059301306072a8648ce3d020106082a8648ce3d03010703420004de3d300fa36ae0e8f5d530899d83abab44abf3161f162a4bc901d8e6ecda020e8b6d5f8da30525e71d6851510c098e5c47c646a597fb4dcec034e9f77c409e62";
        assert_eq!(id(ecdsa), "QmVMT29id3TUASyfZZ6k9hmNyc2nYabCo4uMSpDw4zrgDk");
    }
}
