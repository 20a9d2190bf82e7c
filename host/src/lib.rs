//! The node: its actors, and the protocols that every node speaks.
//!
//! | module | what is decided there |
//! | --- | --- |
//! | [`actor`] | nothing: it runs what decides, and is the one place that names actix |
//! | [`node`] | how a node is put together; the handle that users hold |
//! | [`hub`] | who is connected, who may be, who is told of it |
//! | [`dial`] | which addresses are tried, when, and what is reported of it |
//! | [`book`] | what is remembered of peers |
//! | [`addresses`] | where this node is, and who is told so |
//! | [`manager`] | which connections are kept |
//! | [`listen`] | what is bound, and bound again |
//! | [`key_file`] | how a node stays who it is |
//! | [`store`] | nothing: it keeps rows of bytes on disk |
//! | `upgrade` | which handshakes are under way |
//! | `conn` | the life of one connection, and of the streams on it |
//! | [`limits`] | how much there may be of everything |
//! | [`gater`] | who may connect, by rules of the program |
//! | [`metrics`] | nothing: it shows what is counted |
//! | [`registry`] | which protocols are served |
//! | [`identify`], [`ping`] | the two protocols of every node |
//! | [`perf`] | how fast a connection is |
//! | [`request_response`] | one message there, one back |
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

pub mod actor;
pub mod addresses;
pub mod book;
mod conn;
mod counters;
pub mod dial;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod gater;
pub mod hub;
pub mod identify;
pub mod key_file;
pub mod limits;
pub mod listen;
pub mod manager;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod node;
pub mod perf;
pub mod ping;
mod protocol;
pub mod registry;
mod reply;
pub mod request_response;
pub mod store;
mod stream;
#[cfg(test)]
mod testing;
mod upgrade;

pub use actor::{Effects, Fault, Faults, Gone, Point, Port, Tasks};
pub use addresses::OwnAddress;
pub use dial::{Connected, DialError, DialErrorKind, Report};
pub use events::{Event, Events, MAX_INCOMING_FAILED};
pub use gater::{Gated, Gater};
pub use hub::{ConnInfo, ConnectionEvent};
pub use key_file::{KeyFile, KeyFileError};
pub use limits::{ConnectionId, Direction, LimitError, Limits, StreamLimits, Usage};
pub use manager::{Keep, Policy, TagError};
pub use node::{
    AddressSource, BesideError, Builder, ConnectOptions, First, Node, NodeRef, OpenError, OpenOptions,
    Optimism, StartError, Target,
};
pub use protocol::{Outcome, Protocol, Registrar, ServeOptions};
pub use registry::{Matcher, ServeError, ServingId};
pub use reply::Reply;
pub use stream::{ErrorCode, Stream, StreamError};
