use bytes::Bytes;
use peerage_core::PeerId;

use crate::{
    codec::{self, WireMessage},
    message::{Message, MessageId},
    signing,
};

/// A message with its id, written once for all peers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parcel {
    /// What tells it apart.
    pub id: MessageId,
    /// What it is.
    pub message: WireMessage,
    /// As it goes to each peer: an RPC, its length before it.
    pub frame: Bytes,
}

impl Parcel {
    /// Writes it.
    pub fn new(id: MessageId, message: WireMessage) -> Self {
        let frame = codec::publish(&message);
        Self { id, message, frame }
    }

    /// As subscribers get it.
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
