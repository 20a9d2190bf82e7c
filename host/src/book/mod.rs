//! What is known of peers: their addresses, with who said so and until when, and what they said of themselves.
//!
//! The PeerBook actor runs this `Engine`. It is a memory, not a judge: dials try what it names, best first, and tell
//! it what worked.
//!
//! With a store (`Builder::store`) peers that this node met, and those that the user named, are kept on disk. Rows are
//! read when the actor starts, without what has expired meanwhile, and written [`WRITE_DELAY`] after a change. When a
//! write fails, the book goes on from memory and tries again every [`RETRY`].

mod effects;
mod engine;
mod entry;
mod keep;
mod row;

use std::{fmt, time::Duration};

use bytes::Bytes;
use peerage_core::{Multiaddr, PeerId, ProtocolId};

use crate::hub::ConnectionEvent;

pub(crate) use effects::{BookSource, spawn};
pub(crate) use engine::{Action, Command, Engine, Input};
pub use engine::{MAX_PEERS, RECENT, SAID_TTL, WORKED_TTL};
pub(crate) use entry::Said;
pub use entry::{KEPT_UNCONNECTED, MAX_ADDRESSES_PER_PEER, MAX_AGENT, MAX_PROTOCOLS_PER_PEER};
pub use keep::{REPORT_EVERY, RETRY, WRITE_DELAY};
pub(crate) use row::Certified;

/// Who named an address. The order is that of trust, the least first. From [`Source::Dialed`] on this node knows it for
/// itself; the others are hearsay, and dialed only where a stranger may send this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A part of the node, or of the program: routing, rendezvous, mDNS.
    Other(&'static str),
    /// The peer itself.
    Identify,
    /// This node reached the peer there.
    Dialed,
    /// The user.
    Manual,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Other(name) => name,
            Self::Identify => "identify",
            Self::Dialed => "dialed",
            Self::Manual => "manual",
        })
    }
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// Whether there is a connection.
    pub connected: bool,
    /// Where it may be reached, the best first.
    pub addresses: Vec<AddressInfo>,
    /// The protocols that it speaks, by its own account; at most [`MAX_PROTOCOLS_PER_PEER`].
    pub protocols: Vec<ProtocolId>,
    /// Its software, by its own account; at most [`MAX_AGENT`] characters. `None` until it was identified.
    pub agent: Option<String>,
    /// Its signed record of its addresses, as the peer sent it: an envelope that can be passed on. It was checked.
    pub record: Option<Bytes>,
}

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressInfo {
    /// The address, without the peer's id at its end.
    pub address: Multiaddr,
    /// The most trusted of those who named it.
    pub source: Source,
    /// When it will be forgotten; `None` as long as there is a connection.
    pub expires_in: Option<Duration>,
    /// Whether the last attempt there succeeded.
    pub worked: bool,
    /// Attempts there that failed, since one succeeded.
    pub failures: u32,
    /// Whether it stands in the peer's signed record.
    pub certified: bool,
}

/// Why an address is not one of a peer. The fault of whoever named it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It leads to another peer.
    #[error("the address leads to {found}, not to {expected}")]
    OtherPeer {
        /// To whom.
        found: PeerId,
        /// To whom it was to lead.
        expected: PeerId,
    },
    /// It says who, at most, but not where.
    #[error("the address says nowhere to go")]
    Empty,
}

/// The address as the book keeps it: without `peer` at its end.
pub(crate) fn address_of(peer: PeerId, address: &Multiaddr) -> Result<Multiaddr, AddressError> {
    if let Some(found) = address.peer_id().filter(|found| *found != peer) {
        return Err(AddressError::OtherPeer { found, expected: peer });
    }
    let (address, _) = address.split_peer();
    if address.is_empty() { Err(AddressError::Empty) } else { Ok(address) }
}

/// What the book makes of a connection's event.
pub(crate) fn on_connection(event: ConnectionEvent) -> Command {
    match event {
        ConnectionEvent::Opened { info, first } => Command::Connected { info, first },
        ConnectionEvent::Closed { info, last, .. } => Command::Disconnected { info, last },
    }
}

/// For the fuzz targets: what is read of a row is what is written of it.
#[cfg(feature = "fuzzing")]
#[allow(clippy::panic, reason = "that is what the fuzzer looks for")]
pub(crate) fn read_row(peer: PeerId, bytes: &[u8]) {
    let now = std::time::Duration::from_secs(1_800_000_000);
    if let Some(kept) = row::decode(peer, bytes, now) {
        let again = row::encode(&kept, now);
        assert!(row::decode(peer, &again, now).is_some(), "what was written is read");
    }
}

/// For the fuzz targets.
#[cfg(feature = "fuzzing")]
pub(crate) fn example_row(address: Multiaddr) -> Vec<u8> {
    let now = std::time::Duration::from_secs(1_800_000_000);
    let left = std::time::Duration::from_secs(60);
    let address = row::KeptAddress { address, source: Source::Manual, left, worked: true, failures: 1 };
    let agent = Some("agent/1".to_owned());
    row::encode(
        &row::Kept {
            addresses: vec![address],
            protocols: Vec::new(),
            agent,
            facts_left: left,
            record: None,
            security: None,
        },
        now,
    )
}
