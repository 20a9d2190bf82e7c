//! Partial messages: messages that travel in parts, so that nobody is sent what it has (libp2p specs
//! `pubsub/gossipsub/partial-messages.md`, an extension of gossipsub 1.3).
//!
//! What a part is, and how it is written, is the program's choice, and so is the *metadata*: what a node has of a message,
//! and wants. The message itself has a *group id*, which must not depend on all of it. This module carries both, and decides who
//! is sent what when:
//!
//! - [`Handle::publish_partial`](crate::Handle::publish_partial) says what this node has of a message ([`Have`]). The peers in the
//!   mesh are told, and given what they lack. Whoever says later what it has and wants is answered by the same word, without
//!   asking the program again. When the node has more of the message, it publishes anew.
//! - [`Handle::subscribe_partial`](crate::Handle::subscribe_partial) gets what peers say: parts, metadata, or both
//!   ([`Received`]). Nothing was verified of it: parts have to prove themselves, and the program says with
//!   [`Handle::reject_partial`](crate::Handle::reject_partial) that they do not.
//!
//! Messages that are cut into equal pieces, and told of by bitmaps, are ready-made: [`Pieces`].
//!
//! A topic has partial messages by its rules ([`TopicConfig::partial`](crate::TopicConfig::partial)), if the node speaks of them
//! at all ([`Config::partial`](crate::Config::partial)). To a peer that requests parts no whole messages of the topic are sent:
//! who publishes whole ones to it alone, it does not hear. With all others nothing changes.
//!
//! What was published does not outlive a panic of gossip, which is counted ([`Lost`](crate::stats::Lost)); who publishes anew with all
//! that comes notices nothing.
//!
//! Parts count for nothing in the scores of peers, but those that were rejected. So a topic of this kind must not be scored by how
//! many messages a mesh delivers (P3, [`mesh_deliveries`](crate::score::TopicParams::mesh_deliveries)): who sends parts delivers
//! none.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use peerage_core::Keypair;
//! use peerage_host::Node;
//! use peerage_pubsub::{
//!     Config, Gossipsub, TopicConfig,
//!     partial::{Limits, Mode, Pieces},
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::default();
//! config.partial = Some(Limits::default());
//! config.other_topics = TopicConfig::default().partial(Mode::Requests);
//! let (node, gossip) = Node::builder(Keypair::generate()).with(Gossipsub::new(config)?);
//! let node = node.start().await?;
//!
//! let mut maps = gossip.subscribe_partial("maps")?;
//! // Who has a message cuts it: here into 64 pieces.
//! let whole = Pieces::cut(&[7; 100_000], 64)?;
//! gossip.publish_partial("maps", "berlin", Arc::new(whole)).await?;
//!
//! // Who has not collects the pieces: it asks those who have some, and says each time what it has now. Whether a piece is one of
//! // the message is known by its hash, or a signature; the length alone would let through what anybody makes up.
//! let is_piece = |number: usize, piece: &[u8]| piece.len() == if number < 63 { 1563 } else { 1531 };
//! let mut paris = Pieces::nothing(64)?;
//! let mut again = tokio::time::interval(Duration::from_secs(1));
//! while paris.whole().is_none() {
//!     tokio::select! {
//!         received = maps.next() => {
//!             let Some(received) = received else { break };
//!             if received.group != "paris" {
//!                 continue;
//!             }
//!             if let Some(parts) = &received.parts
//!                 && paris.take(parts, is_piece).is_err()
//!             {
//!                 gossip.reject_partial(&received).await;
//!                 paris.give_up(received.received_from);
//!             } else if let Some(metadata) = &received.metadata {
//!                 // What is none is passed over here. It counts against its sender already.
//!                 let _ = paris.ask(received.received_from, metadata);
//!             }
//!         }
//!         // What has not come is asked of others.
//!         _ = again.tick() => paris.ask_anew(),
//!     }
//!     gossip.publish_partial("maps", "paris", Arc::new(paris.clone())).await?;
//! }
//! // It goes on as long as others may want pieces: they are given only what is published.
//! # Ok(())
//! # }
//! ```

mod pieces;
mod subscription;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use peerage_core::PeerId;

pub use crate::codec::{MAX_GROUP, MAX_METADATA};
/// The most bytes of what a program writes of what a peer was given ([`Say::given`]).
pub const MAX_GIVEN: usize = MAX_METADATA;
use crate::topic::{Topic, TopicError};
pub use pieces::{Broken, MAX_ASKED, MAX_PIECES, Pieces, PiecesError};
pub use subscription::Subscription;

/// Whether, and how, parts of a topic's messages go between this node and its peers. Each node chooses for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Not at all.
    #[default]
    Off,
    /// It sends parts to those who want them, and tells what it has. It gets whole messages.
    Sends,
    /// It wants parts instead of whole messages, and sends them, too. From those who do not send parts it gets whole
    /// messages.
    Requests,
}

impl Mode {
    /// Whether parts are sent to those who want them.
    pub fn sends(self) -> bool {
        self != Self::Off
    }

    /// Whether the two have anything to say to each other: one wants parts, and the other sends them.
    pub fn goes_with(self, other: Self) -> bool {
        self.sends() && other.sends() && (self == Self::Requests || other == Self::Requests)
    }
}

/// What this node has of one message at one moment, for whoever asks.
///
/// It is asked by the engine: it must be quick, wait for nothing, and give the same answer to the same question. One that panics
/// ends a life of the engine.
pub trait Have: Send + Sync {
    /// What a peer is told, and given.
    ///
    /// # Errors
    /// [`NotMetadata`] if what the peer has said is none. That is held against it (P7).
    fn say(&self, to: &Hearer<'_>) -> Result<Say, NotMetadata>;
}

/// A peer that is to be told something of a message.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Hearer<'a> {
    /// Who.
    pub peer: PeerId,
    /// What it said last that it has, and wants; up to [`MAX_METADATA`] bytes that nobody has looked at. `None`: nothing yet.
    pub metadata: Option<&'a Bytes>,
    /// The last [`Say::given`] whose parts were sent to it, empty before that. It may have said `metadata` before they came; what
    /// it says so much later that they would have come, or were lost, finds this empty again ([`Limits::heartbeats`]).
    pub given: &'a Bytes,
    /// Whether parts go to it now. They do not to those who did not request any, nor by gossip to those outside of the mesh.
    pub takes_parts: bool,
    /// The most bytes of parts that go to it at once: what fits into an RPC, the topic's
    /// [`max_size`](crate::TopicConfig::max_size), what may wait for it, and [`Limits::answer_bytes`]. The rest follows when it has
    /// said what it has then; after a heartbeat at the latest, if there was less room than there may be. A part that never has
    /// any is never given.
    pub room: usize,
}

impl<'a> Hearer<'a> {
    /// A peer that takes parts, as many as there are, and has not spoken yet: to try a program's own [`Have`].
    pub fn new(peer: PeerId, given: &'a Bytes) -> Self {
        Self { peer, metadata: None, given, takes_parts: true, room: usize::MAX }
    }
}

/// What a peer is told of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Say {
    /// What this node has and wants. It is not sent if it is the last that this peer was told. Up to [`MAX_METADATA`] bytes.
    pub metadata: Bytes,
    /// Parts for it; empty for none. Up to [`Hearer::room`] bytes.
    pub parts: Bytes,
    /// What it was given with these parts, and before, as this program likes to write it: it comes back as [`Hearer::given`].
    /// It is never sent. Up to [`MAX_GIVEN`] bytes.
    pub given: Bytes,
}

/// What a peer said that it has and wants is not what the topic's programs write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the metadata of a partial message")]
pub struct NotMetadata;

/// Something that a peer has said of a message. Nothing of it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// What the message is about.
    pub topic: Topic,
    /// Which message.
    pub group: Bytes,
    /// Parts of it, as the sender wrote them: never empty.
    pub parts: Option<Bytes>,
    /// What the sender has of it, and wants.
    pub metadata: Option<Bytes>,
    /// The neighbour that it came from.
    pub received_from: PeerId,
}

/// What is remembered of partial messages, and what peers may ask. The numbers are go-libp2p-pubsub's, where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Messages of one topic that this node has published in parts; publishing more fails. Default: 255.
    pub own_groups: usize,
    /// Messages of one topic that this node has not published, and of which it is remembered what peers have of them. Of more,
    /// subscribers hear, and nothing is remembered. Default: 255.
    pub groups: usize,
    /// How many of those one peer may have brought up. Default: 8.
    pub groups_per_peer: usize,
    /// Bytes of what one peer has said of messages, of all topics, that are remembered: metadata, its messages' group ids, and 256
    /// for each. Of more, subscribers hear, and it is not answered. Default: 512 KiB.
    pub bytes_per_peer: usize,
    /// Heartbeats after which a message is forgotten that nobody here publishes again. So long it counts, too, what a peer was
    /// told and given: what may have been lost is said again after that, when this node publishes anew, and given again, when the
    /// peer still wants it. Default: 5.
    pub heartbeats: u32,
    /// What one peer says between two heartbeats that is answered at once; the rest is at the next. Default: 1000.
    pub answers: u32,
    /// Bytes of parts that are made for one peer between two heartbeats; the rest follows after the next. Default: 8 MiB.
    pub answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            own_groups: 255,
            groups: 255,
            groups_per_peer: 8,
            bytes_per_peer: 512 << 10,
            heartbeats: 5,
            answers: 1000,
            answer_bytes: 8 << 20,
        }
    }
}

/// What became of what was published in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// How many peers are told, or given something.
    pub peers: usize,
    /// How many had no room for anything more. They are told at a later heartbeat, if anything is news to them.
    pub full: usize,
    /// For how many the parts or the metadata were too large.
    pub too_large: usize,
}

/// Why nothing was published; always this node's own doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic's name is none.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The topic has no partial messages, by its rules ([`TopicConfig::partial`](crate::TopicConfig::partial)).
    #[error("the topic has no partial messages")]
    Off,
    /// The group id is empty or too long.
    #[error("a group id of {len} bytes; it has 1 to {MAX_GROUP}")]
    Group {
        /// Its bytes.
        len: usize,
    },
    /// Too many messages of this topic were published in parts, and not forgotten yet.
    #[error("{max} messages of the topic are published in parts; more may not be at once")]
    TooMany {
        /// How many may be ([`Limits::own_groups`]).
        max: usize,
    },
    /// Gossip, or its node, is not running.
    #[error("gossip is not running")]
    Closed,
}

/// What this node has of a message, where it is kept.
#[derive(Clone)]
pub struct Holding(pub(crate) Arc<dyn Have>);

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Holding")
    }
}

impl From<Arc<dyn Have>> for Holding {
    fn from(have: Arc<dyn Have>) -> Self {
        Self(have)
    }
}
