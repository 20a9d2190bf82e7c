//! This node's own addresses: where each came from, whether others confirmed it, and who is told of it.
//!
//! - **Listen**: a listener is bound there. A wildcard (`0.0.0.0`, `::`) stands for the addresses of the machine's
//!   interfaces of its family, which are followed ([`INTERFACES_EVERY`]); nobody is ever told the wildcard itself.
//!   Link-local IPv6 addresses mean nothing without a zone, and are left out.
//! - **Announced** by the user (`Builder::announce`), as a port forwarded by hand is: told to everybody, always.
//! - **Observed**: peers say that this node's connections come from there. [`MIN_OBSERVERS`] of different networks make
//!   it known here. It is hearsay: before something has confirmed it, nobody is told (libp2p spec,
//!   `addressing/address-manager`).
//!
//! Who is told what: a peer on this machine everything; one in a private network nothing of loopback; one in the
//! internet public addresses only. A path (`/unix`) is told to nobody: who may connect there knows it. What
//! `Builder::no_announce` names is told to nobody, but to peers on this machine.

mod filter;
mod follow;
mod interfaces;
mod table;

use std::fmt;

use peerage_core::{Multiaddr, Protocol};

pub use filter::{Filter, FilterError};
pub use follow::INTERFACES_EVERY;
pub(crate) use follow::follow;
pub(crate) use interfaces::{Interfaces, List};
pub use table::{MAX_ANNOUNCED, MAX_OBSERVED, MIN_OBSERVERS, OBSERVERS_KEPT};
pub(crate) use table::{Observation, Table};

/// Where an own address came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OwnSource {
    /// A listener is bound there.
    Listen,
    /// A listener is bound to all interfaces, and this is one.
    Interface,
    /// The user said so.
    Announced,
    /// Peers said so.
    Observed,
}

/// Whether somebody has tried an own address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reachability {
    /// Nobody has.
    #[default]
    Unverified,
    /// Somebody reached this node there.
    Confirmed,
    /// Somebody tried, and did not.
    Unreachable,
}

/// An address of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnAddress {
    /// Without the peer id.
    pub address: Multiaddr,
    /// Where it came from.
    pub sources: Vec<OwnSource>,
    /// Whether it was tried.
    pub reachability: Reachability,
    /// How many peers of different networks observed it, of the last [`OBSERVERS_KEPT`].
    pub observers: usize,
    /// Whether peers are told of it; which, depends on where they are.
    pub announced: bool,
}

/// Whether an address is a path of this machine's file system, which nobody but its user has any business to name.
pub(crate) fn is_path(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Unix(_)))
}

impl fmt::Display for OwnSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Listen => "listen",
            Self::Interface => "interface",
            Self::Announced => "announced",
            Self::Observed => "observed",
        })
    }
}

impl fmt::Display for Reachability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unverified => "unverified",
            Self::Confirmed => "confirmed",
            Self::Unreachable => "unreachable",
        })
    }
}
