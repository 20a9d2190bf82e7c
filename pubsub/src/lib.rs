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

pub mod gater;
mod message;
pub mod score;
mod topic;

pub use message::{IdTooLong, MAX_ID, Message, MessageId};
pub use topic::{MAX_TOPIC, Topic, TopicError};
