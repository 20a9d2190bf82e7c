//! Publish and subscribe: gossipsub 1.0 to 1.3, and floodsub with those who know nothing else, as in the libp2p specs
//! `pubsub/`.
//!
//! [`Gossipsub`] is given to a node's builder, which hands a [`Handle`] back; there is an example beside it.
//!
//! | you want to | look at |
//! | --- | --- |
//! | publish, subscribe, see meshes and scores | [`Handle`], [`Subscription`] |
//! | send messages in parts, to those who lack them | [`partial`] |
//! | look at messages before they go anywhere | [`Handle::validate`] |
//! | set numbers, and rules of topics | [`Config`], [`TopicConfig`], [`Handle::set_topic`] |
//! | know what happens | [`Handle::events`], [`trace`], the node's metrics (`gossipsub_*`) |
//! | know what peers are worth | [`score`], [`gater`] |
//! | run meshes without a network | [`engine`] |
//!
//! What a peer can cost is bounded everywhere: what one RPC holds ([`codec`]), what waits for a peer ([`queue`]), what is
//! remembered of peers, topics and messages ([`Config`]).
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::expect_used,
        clippy::panic,
        clippy::cast_possible_truncation
    )
)]

pub mod codec;
mod config;
mod effects;
pub mod engine;
mod event;
pub mod gater;
mod handle;
mod inbox;
mod mcache;
mod message;
mod metrics;
mod parcel;
pub mod partial;
mod protocol;
pub mod queue;
pub mod score;
mod seen;
mod session;
mod shared;
mod signing;
#[cfg(any(test, feature = "sim"))]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "no node runs it, and no peer's numbers reach it"
)]
pub mod sim;
pub mod stats;
mod topic;
pub mod trace;
mod validator;
mod version;

pub use config::{
    Config, ConfigError, Filter, MAX_BACKOFF, MAX_BACKOFFS, MAX_DIRECT, MAX_TOPIC_RULES, Mesh, MessageIdFn,
    Scoring, TopicConfig,
};
pub use effects::MAX_CONNECTING;
pub use engine::{PublishError, Published, SetTopicError};
pub use event::{DropReason, Event, Misdeed, PruneReason, Refusal};
pub use handle::{Events, Handle, Happened, Subscription};
pub use message::{IdTooLong, MAX_ID, Message, MessageId};
pub use parcel::Parcel;
pub use protocol::{Gossipsub, MAX_INBOUND_STREAMS};
pub use queue::Lane;
pub use seen::Remember;
pub use session::WRITE_TIMEOUT;
pub use signing::{Author, DOMAIN, Flaw, Signing, author, check, default_id, verify};
pub use topic::{MAX_TOPIC, Topic, TopicError};
pub use validator::{ValidateOptions, Verdict};
pub use version::Version;
