//! Who is connected, who may be, and who is told of it.
//!
//! The Host actor runs this `Engine` and is the sole owner of peer state. Everybody else looks connections
//! up in the directory, or subscribes to events.

mod accounts;
mod effects;
mod engine;

use std::{fmt, time::Duration};

use peerage_core::{Multiaddr, PeerId, ProtocolId, multiaddr::Protocol};

use crate::limits::{ConnectionId, Direction, LimitError};

pub(crate) use accounts::SharedAccounts;
pub(crate) use effects::spawn;
pub(crate) use engine::{Action, Command, Engine};
pub use engine::{BAN_AFTER_BLAMES, BLAME_BAN, BLAME_WINDOW, DISCONNECT_WAIT, MAX_BANS, MAX_BLAMED};

/// An established connection, as everybody may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnInfo {
    /// Its number.
    pub id: ConnectionId,
    /// Who is at the other end, proven.
    pub peer: PeerId,
    /// Who opened it.
    pub direction: Direction,
    /// Whether it goes through a relay that bounds time and bytes.
    pub limited: bool,
    /// This side's address.
    pub local: Multiaddr,
    /// The other side's address.
    pub remote: Multiaddr,
    /// The security protocol.
    pub security: ProtocolId,
    /// The muxer.
    pub muxer: ProtocolId,
}

impl ConnInfo {
    /// The security protocol, if the two sides had to agree on it. A transport over UDP brings its own, which says nothing
    /// of what the peer takes elsewhere.
    pub(crate) fn negotiated_security(&self) -> Option<&ProtocolId> {
        let udp = self.remote.iter().any(|part| matches!(part, Protocol::Udp(_)));
        (!udp).then_some(&self.security)
    }

    /// The address that shows how near the peer is. The remote one; but who reaches this side at a loopback address is
    /// on this machine, wherever its packets seem to come from. go-libp2p over WebRTC sends them from any interface.
    pub(crate) fn nearness(&self) -> &Multiaddr {
        if self.local.is_loopback() { &self.local } else { &self.remote }
    }
}

/// The connection to open a stream on: a direct one before a limited one, then the oldest. A limited one only if
/// `allow_limited`.
pub fn pick<'a>(
    connections: impl IntoIterator<Item = &'a ConnInfo>,
    allow_limited: bool,
) -> Option<ConnectionId> {
    connections
        .into_iter()
        .filter(|info| allow_limited || !info.limited)
        .min_by_key(|info| (info.limited, info.id))
        .map(|info| info.id)
}

/// What protocols are told about connections.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// A connection is open.
    Opened {
        /// Which.
        info: ConnInfo,
        /// Whether the peer had none before.
        first: bool,
    },
    /// A connection is gone.
    Closed {
        /// Which.
        info: ConnInfo,
        /// Whether the peer has none any more.
        last: bool,
        /// Why, in words.
        reason: String,
    },
}

impl ConnectionEvent {
    /// The connection that it is about.
    pub fn info(&self) -> &ConnInfo {
        match self {
            Self::Opened { info, .. } | Self::Closed { info, .. } => info,
        }
    }
}

/// What users of the node are told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubEvent {
    /// A connection is open.
    Connected {
        /// Which.
        info: ConnInfo,
        /// Whether the peer had none before.
        first: bool,
    },
    /// A connection is gone.
    Disconnected {
        /// Which.
        info: ConnInfo,
        /// Whether the peer has none any more.
        last: bool,
        /// Why, in words.
        reason: String,
    },
    /// A peer is not talked with for a while.
    PeerBanned {
        /// Who.
        peer: PeerId,
        /// For how long from now.
        period: Duration,
        /// Why, in words.
        reason: String,
    },
}

/// A protocol that is told about connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SubscriberId(pub(crate) u64);

/// Why a connection was not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The other end is this node itself.
    #[error("the peer is this node itself")]
    OwnPeer,
    /// The peer is banned.
    #[error("{peer} is banned for another {}", seconds(.remaining))]
    Banned {
        /// Who.
        peer: PeerId,
        /// For how much longer.
        remaining: Duration,
    },
    /// A limit of this node is reached.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// This node is stopping.
    #[error("this node is shutting down")]
    ShuttingDown,
    /// The host was restarted over the question.
    #[error("this node's host actor was interrupted")]
    Interrupted,
    /// There is a connection of that number; a mistake in this program.
    #[error("connection {0} is there already")]
    Duplicate(ConnectionId),
}

/// Why the Host closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The user asked for it.
    Disconnected,
    /// The peer is banned.
    Banned,
    /// The peer provoked a panic.
    Blamed,
    /// This node is stopping.
    ShuttingDown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "disconnected by this node",
            Self::Banned => "the peer is banned",
            Self::Blamed => "the peer provoked a panic",
            Self::ShuttingDown => "this node is shutting down",
        })
    }
}

/// Whole seconds, rounded up: no ban ends "in 0 s".
fn seconds(duration: &Duration) -> String {
    let part = u64::from(duration.subsec_nanos() > 0);
    format!("{} s", duration.as_secs().saturating_add(part))
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;

    use super::*;

    fn info(id: u64, limited: bool) -> ConnInfo {
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
        ConnInfo {
            id: ConnectionId(id),
            peer: Keypair::from_ed25519_seed([1; 32]).peer_id(),
            direction: Direction::Inbound,
            limited,
            local: address.clone(),
            remote: address,
            security: ProtocolId::from_static("/noise"),
            muxer: ProtocolId::from_static("/yamux/1.0.0"),
        }
    }

    #[test]
    fn direct_before_limited_and_then_the_oldest() {
        let all = [info(3, true), info(9, false), info(5, false), info(1, true)];
        assert_eq!(pick(&all, true), Some(ConnectionId(5)));
        assert_eq!(pick(&all, false), Some(ConnectionId(5)));
        let limited = [info(3, true), info(1, true)];
        assert_eq!(pick(&limited, true), Some(ConnectionId(1)));
        assert_eq!(pick(&limited, false), None);
        assert_eq!(pick([], true), None);
    }

    #[test]
    fn a_refusal_says_how_long() {
        let refused =
            Refused::Banned { peer: info(1, false).peer, remaining: Duration::from_millis(599_001) };
        assert!(refused.to_string().ends_with("is banned for another 600 s"));
    }
}
