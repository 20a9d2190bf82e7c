//! What a peer is worth to the mesh: the peer score of gossipsub 1.1.
//!
//! Every node scores its peers by what it sees of them, and tells nobody. The [`Engine`] is told what happens and says
//! [how good](Engine::score) a peer is, [why](Engine::breakdown), and whether it [may be in a topic's
//! mesh](Engine::standing). It has no clock: time comes in, and [`Engine::refresh`] lets it pass.
//!
//! ```text
//! score = cap(Σ topic weight × (P1 + P2 + P3 + P3b + P4)) + P5 + P6 + P7       each with its weight
//!
//! P1  time in mesh           +   P4  invalid messages        -     P5  what the program thinks   ±
//! P2  first deliveries       +   P3  deliveries owed         -     P6  peers at one address      -
//!                                P3b owed when pruned        -     P7  misbehaviour              -
//! ```
//!
//! Differences from the specification, which leaves these to the node:
//!
//! - **The gate.** Whether a peer may be grafted into or stay in a mesh is [`Engine::standing`], not the score: with
//!   [`Settings::gate`] a peer needs a good name in that topic as well. All other decisions go by the score.
//! - **The cap** may be on rewards alone ([`TopicCap::Rewards`]), so that a penalty always shows.
//! - **Of a peer that is gone** only faults are kept. (go keeps everything if the score is not positive, and else
//!   nothing: then good deeds wash off faults by a reconnection.)
//! - **Records of deliveries** are kept while a message is validated and for the window of P3 after it, or if it was
//!   invalid; of all others there is nothing to be learnt from a duplicate.
//! - [`Engine::set_params`] and [`Engine::set_topic`] change parameters at run time, all of them or, if one is wrong,
//!   none.
//!
//! Spec: `pubsub/gossipsub/gossipsub-v1.1.md`, "Peer Scoring".

mod breakdown;
mod colocation;
mod counters;
mod engine;
mod params;
pub mod presets;
#[cfg(test)]
mod properties;
mod records;
#[cfg(test)]
pub(crate) mod tests;

pub use breakdown::{Breakdown, Part, TopicBreakdown};
pub(crate) use counters::decayed;
pub use engine::{Engine, MAX_APP_SCORE, MAX_APP_SCORES, MAX_GONE, Reject, Sizes};
pub(crate) use params::intervals;
pub use params::{
    Behaviour, Colocation, Decaying, FirstDeliveries, MAX_PARAMETER, MAX_TOPICS, MIN_DECAY_INTERVAL,
    MeshDeliveries, Params, ParamsError, Rule, Settings, Thresholds, TimeInMesh, TopicCap, TopicParams,
    decay_in,
};
pub use records::{MAX_RECORDS, MAX_SENDERS};
