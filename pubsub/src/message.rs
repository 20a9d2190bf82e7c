use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use peerage_core::PeerId;

use crate::topic::Topic;

/// The most bytes of a message's id.
pub const MAX_ID: usize = 256;

/// Ids of so many bytes are kept in place: an Ed25519 author and a number, as most ids are, just fit.
const SHORT: usize = 46;

/// What tells messages apart: bytes, for others write their ids so, too. At most [`MAX_ID`]. Cheap to clone.
#[derive(Clone)]
pub struct MessageId(Repr);

#[derive(Clone)]
enum Repr {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Arc<[u8]>),
}

/// An id of more than [`MAX_ID`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message id has at most {MAX_ID} bytes, this one has {len}")]
pub struct IdTooLong {
    /// Its bytes.
    pub len: usize,
}

impl MessageId {
    /// The id of these bytes, which are copied: an id may be kept longer than what it came in.
    ///
    /// # Errors
    /// [`IdTooLong`].
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, IdTooLong> {
        let bytes = bytes.as_ref();
        if bytes.len() > MAX_ID {
            return Err(IdTooLong { len: bytes.len() });
        }
        Ok(Self::truncated(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Repr::Long(bytes) => bytes,
        }
    }

    /// The first bytes only, of which there may be too many.
    pub(crate) fn truncated(bytes: &[u8]) -> Self {
        Self::joined(bytes, &[])
    }

    /// Two parts as one id, cut off where it would be too long.
    pub(crate) fn joined(first: &[u8], second: &[u8]) -> Self {
        let (sum, mut bytes) = (first.len().saturating_add(second.len()), [0; SHORT]);
        match (bytes.split_at_mut_checked(first.len()), u8::try_from(sum)) {
            (Some((head, tail)), Ok(len)) if second.len() <= tail.len() => {
                head.copy_from_slice(first);
                tail.iter_mut().zip(second).for_each(|(to, from)| *to = *from);
                Self(Repr::Short { len, bytes })
            }
            _ => {
                let all = [first, second].concat();
                Self(Repr::Long(all.get(..MAX_ID).unwrap_or(&all).into()))
            }
        }
    }
}

impl PartialEq for MessageId {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for MessageId {}

impl PartialOrd for MessageId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MessageId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for MessageId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// An id is found by its bytes: `Borrow` demands that both hash and order alike, and they do.
impl Borrow<[u8]> for MessageId {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// In hexadecimal.
impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

/// A message, as a subscriber gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// What tells it apart.
    pub id: MessageId,
    /// What it is about.
    pub topic: Topic,
    /// What it says.
    pub data: Bytes,
    /// Who wrote it; proven where messages are signed. `None` where they have no author.
    pub author: Option<PeerId>,
    /// The author's number for it, eight bytes, mostly; `None` where messages have none.
    pub sequence: Option<Bytes>,
    /// The neighbour that it came from.
    pub received_from: PeerId,
}

impl Message {
    /// The author's number as a number, if it has eight bytes: big-endian, as all write it.
    pub fn sequence_number(&self) -> Option<u64> {
        let bytes = <[u8; 8]>::try_from(self.sequence.as_deref()?).ok()?;
        Some(u64::from_be_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_every_length() {
        for len in [0, 1, SHORT - 1, SHORT, SHORT + 1, MAX_ID] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let id = MessageId::new(&bytes).unwrap();
            assert_eq!(id.as_bytes(), bytes);
            for cut in [0, len / 2, len] {
                assert_eq!(MessageId::joined(&bytes[..cut], &bytes[cut..]), id, "{len} {cut}");
            }
        }
        assert_eq!(MessageId::new([0; MAX_ID + 1]), Err(IdTooLong { len: MAX_ID + 1 }));
        assert_eq!(MessageId::joined(&[1; 200], &[2; 200]).as_bytes().len(), MAX_ID);
        assert_eq!(size_of::<MessageId>(), 48);
    }
}
