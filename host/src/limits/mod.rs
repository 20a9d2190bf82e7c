//! What one node spends at most, and the [`Ledger`] that keeps count.
//!
//! A limit is asked before the resource is taken, a lease gives back exactly what it took, and a refusal names the
//! limit, the number, and whose share was used up ([`LimitError`]). Nothing here judges peers: who asks for one too
//! many is refused that one.
//!
//! What a connection costs before anybody knows who is there, a socket and a place among the connections of its
//! address, is taken when the socket is accepted; it lasts until the connection is gone. Memory is taken from the
//! connection's [`MemoryScope`], which charges the connection, its peer, its address and the node at once.

mod leases;
mod ledger;
mod machine;
mod memory;
mod numbers;
mod prefix;
mod refusal;
mod usage;

use std::fmt;

pub use leases::{ConnectionLease, HandshakeLease, NotAdmitted, Place, StreamLease};
pub use ledger::Ledger;
pub use memory::MemoryScope;
pub use numbers::{Limits, StreamLimits};
pub use prefix::{MAX_RATED, NotAPrefix, Prefix, PrefixLimit};
pub use refusal::{LimitError, Scope};
pub use usage::{ConnectionUsage, PeerUsage, PrefixUsage, ProtocolUsage, Usage};

/// Who opened a connection or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The other side.
    Inbound,
    /// This node.
    Outbound,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        })
    }
}

/// The number of a connection; a node gives each number once, and counts upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u64);

impl From<u64> for ConnectionId {
    /// For who drives an engine without a node, as simulators do.
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
