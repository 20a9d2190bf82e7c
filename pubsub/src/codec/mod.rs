//! What is on the wire: one `RPC` message of protobuf after another, each with its length before it, as the libp2p spec
//! `pubsub/README.md` and the gossipsub specs up to 1.3 define it.

mod decode;
mod encode;
mod partial;
#[cfg(test)]
mod tests;

pub(crate) use decode::decode_with;
pub use decode::{DecodeError, decode};
pub use encode::{Control, publish, subscriptions};
pub(crate) use encode::{publish_parts, put_signed, signed_len, test_extension};
pub use partial::{MAX_GROUP, MAX_METADATA, Partial};

use bytes::Bytes;
use peerage_core::PeerId;

use crate::{partial::Mode, topic::Topic};

/// The most bytes of one RPC, unless told otherwise; the same as go-libp2p-pubsub's.
pub const MAX_RPC: usize = 1 << 20;
/// The most subscriptions in one RPC, unless told otherwise.
pub const MAX_SUBSCRIPTIONS: usize = 100;
/// The most messages in one RPC.
pub const MAX_MESSAGES: usize = 4096;
/// The most IHAVE, IWANT, GRAFT, PRUNE and IDONTWANT entries of one RPC, of each kind.
pub const MAX_ENTRIES: usize = 1024;
/// Ids that are read of all IHAVEs, all IWANTs and all IDONTWANTs of one RPC each; the rest is passed over, for others
/// may send more without ill will.
pub const MAX_IDS: usize = 5000;
/// Peers that are read of one PRUNE; the rest is passed over.
pub const MAX_EXCHANGED: usize = 16;
/// The most bytes of a signed record in a PRUNE.
pub const MAX_RECORD: usize = 4096;

/// What one RPC may hold. The numbers without a place here are constants of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Its bytes. Default: [`MAX_RPC`].
    pub bytes: usize,
    /// Its subscriptions. Default: [`MAX_SUBSCRIPTIONS`].
    pub subscriptions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: MAX_RPC, subscriptions: MAX_SUBSCRIPTIONS }
    }
}

/// One RPC. Payloads are slices of the frame that it was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rpc {
    /// Topics that the peer now wants, or does not want any more.
    pub subscriptions: Vec<Subscription>,
    /// Messages.
    pub messages: Vec<WireMessage>,
    /// What the peer has.
    pub ihave: Vec<IHave>,
    /// Ids of what it wants.
    pub iwant: Vec<Bytes>,
    /// Topics into whose mesh it takes this node.
    pub grafts: Vec<Topic>,
    /// Topics of whose mesh it puts this node out.
    pub prunes: Vec<Prune>,
    /// Ids of what it does not want.
    pub idontwant: Vec<Bytes>,
    /// How many IDONTWANT entries they came in.
    pub idontwant_entries: usize,
    /// What it can do beyond its version (gossipsub 1.3).
    pub extensions: Option<Extensions>,
    /// A part of a message, or what the peer has of one and wants (extension "partial messages").
    pub partial: Option<Box<Partial>>,
    /// The message of the extension that exists for tests.
    pub test_extension: bool,
    /// Entries that were passed over: without a topic, with one that is none, or too many.
    pub skipped: usize,
}

/// One change of what a peer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Whether it wants it.
    pub subscribe: bool,
    /// What.
    pub topic: Topic,
    /// Whether it wants and sends parts of the topic's messages; nothing of that, where it does not want the topic.
    pub partial: Mode,
}

impl Subscription {
    /// A topic is wanted, whole messages of it.
    pub fn to(topic: Topic) -> Self {
        Self { subscribe: true, topic, partial: Mode::Off }
    }

    /// A topic is not wanted any more.
    pub fn end(topic: Topic) -> Self {
        Self { subscribe: false, topic, partial: Mode::Off }
    }

    /// The same, with parts of messages.
    #[must_use]
    pub fn partial(mut self, mode: Mode) -> Self {
        self.partial = mode;
        self
    }
}

/// A message as it is on the wire. A field that is there and empty differs from one that is not: the signature covers
/// that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireMessage {
    /// Who wrote it: a peer id.
    pub from: Option<Bytes>,
    /// What it says.
    pub data: Option<Bytes>,
    /// The author's number for it.
    pub sequence: Option<Bytes>,
    /// What it is about.
    pub topic: Topic,
    /// The author's signature.
    pub signature: Option<Bytes>,
    /// The author's key, where the peer id does not hold it.
    pub key: Option<Bytes>,
}

/// What a peer has of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IHave {
    /// The topic.
    pub topic: Topic,
    /// Ids of messages.
    pub ids: Vec<Bytes>,
}

/// A peer puts this node out of a mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prune {
    /// The topic.
    pub topic: Topic,
    /// Others to take instead.
    pub peers: Vec<Exchanged>,
    /// Seconds in which it does not want to hear a GRAFT.
    pub backoff: Option<u64>,
}

/// A peer that another one names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// Who.
    pub peer: PeerId,
    /// Where it is, signed by itself: an envelope.
    pub record: Option<Bytes>,
}

/// What a peer can do beyond its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extensions {
    /// Partial messages.
    pub partial_messages: bool,
    /// The extension that exists for tests.
    pub test: bool,
}

impl WireMessage {
    /// The payload; none is the same as an empty one.
    pub fn payload(&self) -> Bytes {
        self.data.clone().unwrap_or_default()
    }
}

/// Field numbers.
mod field {
    pub(super) const SUBSCRIPTIONS: u32 = 1;
    pub(super) const PUBLISH: u32 = 2;
    pub(super) const CONTROL: u32 = 3;
    pub(super) const PARTIAL: u32 = 10;
    pub(super) const TEST_EXTENSION: u32 = 6_492_434;

    pub(super) mod subscription {
        pub(crate) const SUBSCRIBE: u32 = 1;
        pub(crate) const TOPIC: u32 = 2;
        pub(crate) const REQUESTS_PARTIAL: u32 = 3;
        pub(crate) const SENDS_PARTIAL: u32 = 4;
    }

    pub(super) mod message {
        pub(crate) const FROM: u32 = 1;
        pub(crate) const DATA: u32 = 2;
        pub(crate) const SEQUENCE: u32 = 3;
        pub(crate) const TOPIC: u32 = 4;
        pub(crate) const SIGNATURE: u32 = 5;
        pub(crate) const KEY: u32 = 6;
    }

    pub(super) mod control {
        pub(crate) const IHAVE: u32 = 1;
        pub(crate) const IWANT: u32 = 2;
        pub(crate) const GRAFT: u32 = 3;
        pub(crate) const PRUNE: u32 = 4;
        pub(crate) const IDONTWANT: u32 = 5;
        pub(crate) const EXTENSIONS: u32 = 6;
    }

    pub(super) mod partial {
        pub(crate) const TOPIC: u32 = 1;
        pub(crate) const GROUP: u32 = 2;
        pub(crate) const PARTS: u32 = 3;
        pub(crate) const METADATA: u32 = 4;
    }

    /// Of IHAVE, GRAFT and PRUNE.
    pub(super) const ENTRY_TOPIC: u32 = 1;
    pub(super) const IHAVE_IDS: u32 = 2;
    /// Of IWANT and IDONTWANT.
    pub(super) const IDS: u32 = 1;
    pub(super) const PRUNE_PEERS: u32 = 2;
    pub(super) const PRUNE_BACKOFF: u32 = 3;
    pub(super) const PEER_ID: u32 = 1;
    pub(super) const PEER_RECORD: u32 = 2;
    pub(super) const PARTIAL_MESSAGES: u32 = 10;
}
