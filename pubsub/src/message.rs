use std::{borrow::Borrow, fmt};

use bytes::Bytes;
use peerage_core::PeerId;

use crate::topic::Topic;

/// The most bytes of a message's id.
pub const MAX_ID: usize = 256;

/// What tells messages apart: bytes, for others write their ids so, too. At most [`MAX_ID`]. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Bytes);

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
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first bytes only, of which there may be too many.
    pub(crate) fn truncated(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes.get(..MAX_ID).unwrap_or(bytes)))
    }
}

/// An id is found by its bytes: `Borrow` demands that both hash and order alike, and they do.
impl Borrow<[u8]> for MessageId {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// In hexadecimal.
impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
