//! Stream multiplexers behind one [`Connection`] and one [`Stream`].
//!
//! A muxer turns one secured byte stream into many. Whatever it is, what the layers above see is the same:
//!
//! - a [`Connection`]: a cheap, cloneable handle that opens and accepts streams from any task on any runtime,
//! - a [`Driver`]: the future that moves bytes between the socket and the streams. Nothing happens unless it is
//!   polled; its end is the connection's end, and it says why,
//! - a [`Stream`]: tokio `AsyncRead + AsyncWrite`, on which a remote reset is an error and never an end of file.
//!
//! ```text
//!   open() accept()          read / write
//!   ┌──────────────┐        ┌────────────┐
//!   │  Connection  │        │   Stream   │   any task, any thread
//!   └──────┬───────┘        └─────┬──────┘
//!          └───── shared state ───┘
//!                     │
//!               ┌─────┴─────┐
//!               │  Driver   │   one task beside the socket
//!               └───────────┘
//! ```
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
#![cfg_attr(test, allow(clippy::duplicate_mod, reason = "two implementations of yamux run the same suite"))]

mod buffered;
mod connection;
mod error;
pub mod handles;
mod leaving;
#[cfg(feature = "mplex")]
pub mod mplex;
mod outflow;
pub mod soon;
mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod window;
pub mod yamux;
#[cfg(feature = "yamux-crate")]
pub mod yamux_crate;

pub use buffered::Buffered;
pub use connection::{Connection, Control, Driver, Muxed};
pub use error::{ConnectionError, ErrorCode, StreamError};
pub use outflow::{Outflow, Watched};
pub use stream::{Stream, Substream};
