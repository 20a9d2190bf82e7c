//! A network of many nodes in one process and in virtual time: for tests, and to see what parameters do.
//!
//! The engines are those of production. What is simulated is everything around them: clocks, links, and other people's
//! programs ([`Sybil`]). Whatever happens is drawn from one seed, so that the same seed gives the same run, down to the
//! [trace](Network::trace); a run that fails is repeated by its seed.
//!
//! | file | what is there |
//! | --- | --- |
//! | `network` | nodes, connections and the events between them |
//! | `link` | how long a frame takes: latency, bandwidth, loss |
//! | `sybil` | nodes that do not do what they should |
//! | `tally` | which message came where, when, and how often |
//! | [`scenario`] | whole runs, and what has to be true of them |

mod link;
mod network;
#[cfg(test)]
mod parts;
pub mod scenario;
mod sybil;
mod tally;
#[cfg(test)]
mod tests;

pub use link::LinkModel;
pub use network::{Network, NodeId};
pub use sybil::{Strategy, Sybil};
pub use tally::{Summary, Tally};
