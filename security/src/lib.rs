//! Security protocols: they turn a socket into an encrypted one with somebody known at the other end.
//!
//! | module | protocol |
//! |---|---|
//! | [`noise`] | `/noise`, over any byte stream |
//! | [`tls`] | `/tls/1.0.0`, over any byte stream |
//! | [`plaintext`] | `/plaintext/2.0.0`, which secures nothing: for tests |
//! | [`pnet`] | private networks, below a security protocol |
//!
//! Whatever the protocol, an upgrade gives a stream of plain bytes and [`Authenticated`]: who is there, and which
//! muxer both want if the handshake has settled that already. It has no deadline of its own; the transport, which
//! has one for the whole upgrade, drops the future. What fails says whose [`Fault`] it was.
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

pub mod noise;
pub mod plaintext;
pub mod pnet;
pub mod tls;

use peerage_core::{PeerId, ProtocolId, PublicKey};

/// Who speaks first in the handshake. Usually the dialer, but not where roles are exchanged (hole punching) or
/// prescribed (webrtc-direct), so it is always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sends the first message, and its wishes for a muxer are looked at first.
    Initiator,
    /// Answers.
    Responder,
}

/// Who has to change something for a failed handshake to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This node: it lacks something, or ran out of something.
    Local,
    /// The peer: what it sent was wrong, or it is not the one that was asked for.
    Remote,
    /// The connection under it broke or ended.
    Network,
}

/// What a completed handshake proved.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The peer at the other end.
    pub peer: PeerId,
    /// Its key.
    pub public_key: PublicKey,
    /// The muxer that was agreed on along the way ([inlined muxer negotiation]); `None` if a side took no part, and
    /// then multistream-select decides.
    ///
    /// [inlined muxer negotiation]: https://github.com/libp2p/specs/blob/master/connections/inlined-muxer-negotiation.md
    pub muxer: Option<ProtocolId>,
}
