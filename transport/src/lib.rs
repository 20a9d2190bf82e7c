//! Transports, and the upgrade from a raw socket to a secured, multiplexed connection.
//!
//! A [`Transport`] dials and listens. What it yields is a [`Link`]: either a raw byte stream, which an [`Upgrader`]
//! secures and multiplexes, or (for transports that do both themselves, as QUIC does) one that has yet to do its
//! handshake, or is done with it.
//!
//! Transports are registered on a running node by their trait object, so that one may be built on top of the node
//! itself, as the circuit relay is.

//!
//! | module | what it is |
//! |---|---|
//! | [`memory`] | links inside one process, for tests and simulation |
//! | [`tcp`] | TCP, over IPv4 and IPv6 |
//! | `unix` | Unix domain sockets, inside one machine |
//! | [`websocket`] | WebSocket, over TCP, and TLS |
//! | [`quic`] | QUIC, which brings its own security and multiplexing |
//! | [`webrtc`] | webrtc-direct, which browsers dial without a certificate of anybody's |
//! | [`udp`] | UDP sockets, and who gets what comes to them |
//! | [`dns`] | names, to addresses that transports dial |
//! | [`upgrade`] | from a raw link to a connection, by one deadline |
//! | [`select`] | multistream-select on a byte stream, for links and for streams |
//!
//! The features `quic`, `webrtc` (which is over QUIC's sockets, and so brings QUIC) and `websocket` are on by default.
//!
//! Everything here is a plain future: nothing is spawned, and dropping a future closes what it had opened.
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

mod address;
pub mod dns;
mod error;
mod link;
pub mod memory;
mod progress;
#[cfg(feature = "quic")]
pub mod quic;
mod read_ahead;
pub mod select;
pub mod tcp;
mod transport;
#[cfg(feature = "quic")]
pub mod udp;
#[cfg(unix)]
pub mod unix;
pub mod upgrade;
#[cfg(feature = "webrtc")]
pub mod webrtc;
pub mod websocket;

/// The keys of private networks.
pub use peerage_security::pnet;

pub use error::{Fault, ListenError, Stage, TransportError};
pub use link::{Early, Established, Io, Link, Opening, Raw, Resumption, Unfinished, Unproven};
pub use progress::Progress;
pub use transport::{DialOpts, EarlyData, ListenOpts, Listener, ListenerEvent, Role, Transport};
pub use upgrade::{UpgradeError, UpgradeOpts, Upgrader};
