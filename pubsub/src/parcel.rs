use std::sync::Arc;

use bytes::Bytes;
use peerage_core::{
    PeerId,
    budget::{Budget, Exhausted, Reserved},
};

use crate::{
    codec::{self, WireMessage},
    message::{Message, MessageId},
    signing,
};

/// A message with its id, written once for all peers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parcel {
    /// What tells it apart.
    pub id: MessageId,
    /// What it is.
    pub message: WireMessage,
    /// As it goes to each peer: an RPC, its length before it.
    pub frame: Bytes,
    /// The memory that it takes, wherever it waits and is kept; given back with the last of them.
    pub(crate) charge: Option<Arc<Reserved>>,
}

impl Parcel {
    /// Writes it. All that the message says is a part of the frame from now on: what it came in need not be kept.
    pub fn new(id: MessageId, message: WireMessage) -> Self {
        let (frame, message) = codec::publish_parts(message);
        Self { id, message, frame, charge: None }
    }

    /// The same, its frame charged to a budget: once, however many peers it waits for, since they share it.
    ///
    /// # Errors
    /// [`Exhausted`]; then it is not to be kept.
    pub fn charged_to(mut self, budget: &Budget) -> Result<Self, Exhausted> {
        self.charge = Some(Arc::new(budget.reserve(self.frame.len())?));
        Ok(self)
    }

    /// As subscribers get it: the data is not copied.
    pub fn to_message(&self, received_from: PeerId) -> Message {
        Message {
            id: self.id.clone(),
            topic: self.message.topic.clone(),
            data: self.message.payload(),
            author: signing::author(&self.message),
            sequence: self.message.sequence.clone(),
            received_from,
        }
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;

    use super::*;
    use crate::{Author, Signing, Topic, default_id};

    #[test]
    fn all_is_a_part_of_the_frame() {
        let author = Author::new(Keypair::from_ed25519_seed([1; 32]), 0);
        for data in [Bytes::new(), Bytes::from_static(b"rain"), Bytes::from(vec![7; 100_000])] {
            for signing in [Signing::Strict, Signing::Anonymous] {
                let message = author.write(Topic::new("t").unwrap(), data.clone(), signing);
                let parcel = Parcel::new(default_id(&message), message.clone());
                assert_eq!(parcel.message, message);
                let WireMessage { from, data, sequence, signature, .. } = parcel.message;
                for kept in [from, data, sequence, signature].into_iter().flatten() {
                    assert!(kept.is_empty() || parcel.frame.as_ptr_range().contains(&kept.as_ptr()));
                }
            }
        }
    }
}
