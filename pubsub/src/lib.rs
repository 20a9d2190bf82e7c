//! Publish and subscribe: gossipsub and floodsub.
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
mod mcache;
mod message;
mod metrics;
mod parcel;
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
    Config, ConfigError, Filter, MAX_BACKOFF, MAX_BACKOFFS, MAX_DIRECT, Mesh, MessageIdFn, Scoring,
    TopicConfig,
};
pub use effects::MAX_CONNECTING;
pub use engine::{PublishError, Published};
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
