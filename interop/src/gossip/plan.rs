//! What is tested: which peers, which messages, in which steps.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::{
    peers::Peer,
    plan::{Direction, words},
};

words! {
    /// Who vouches for messages.
    Signing {
        /// Their authors, by signatures.
        Strict = "strict",
        /// Nobody, but they name their authors.
        Named = "named",
        /// Nobody.
        Anonymous = "anonymous",
    }
}

impl Signing {
    /// The same, as our node calls it.
    pub(super) const fn ours(self) -> peerage::pubsub::Signing {
        match self {
            Self::Strict => peerage::pubsub::Signing::Strict,
            Self::Named => peerage::pubsub::Signing::Named,
            Self::Anonymous => peerage::pubsub::Signing::Anonymous,
        }
    }
}

/// The peers that gossip, in the order of the table.
pub(crate) const PEERS: &[&str] = &["go", "js", "py", "rust"];

/// Whether a peer's library has such messages.
fn has(peer: &Peer, signing: Signing) -> bool {
    match peer.name {
        "js" => signing != Signing::Named,
        "py" => signing != Signing::Anonymous,
        _ => true,
    }
}

/// All steps of a pair, in order.
pub(super) const STEPS: [&str; 15] = [
    "dial",
    "version",
    "subscribe",
    "mesh",
    "ours-1k",
    "theirs-1k",
    "ours-512k",
    "theirs-512k",
    "burst",
    "unsubscribe",
    "theirs-fanout",
    "leave",
    "ours-fanout",
    "again",
    "end",
];

/// The steps of a pair whose messages travel in parts, in order.
pub(super) const PARTIAL_STEPS: [&str; 11] =
    ["dial", "subscribe", "mesh", "ours", "theirs", "halves", "ours-3m", "theirs-3m", "whole", "once", "end"];

/// The steps of many nodes in one mesh, in order.
pub(super) const MIXED_STEPS: [&str; 8] =
    ["start", "dial", "mesh", "all-1k", "each-512k", "leave", "once", "end"];

/// The steps of our node among several of one kind, in order.
pub(super) const CROWD_STEPS: [&str; 7] = ["start", "dial", "pruned", "ours", "theirs", "gossiped", "end"];
/// py-libp2p tells nobody what it has who has pruned it, until the backoff is over.
const CROWD_STEPS_OF_PY: [&str; 6] = ["start", "dial", "pruned", "ours", "theirs", "end"];

/// The steps that a peer takes in a crowd.
pub(super) fn crowd_steps(peer: &str) -> &'static [&'static str] {
    if peer == "py" { &CROWD_STEPS_OF_PY } else { &CROWD_STEPS }
}

words! {
    /// What kinds of rows there are.
    Kind {
        /// A peer with our node.
        Pairs = "pairs",
        /// A peer with our node, and messages that travel in parts.
        Partial = "partial",
        /// Several of one peer's kind with our node, whose mesh is too small for them.
        Crowd = "crowd",
        /// All of them in one mesh.
        Mixed = "mixed",
    }
}

/// Who meets our node, who dials, and what messages are like.
pub(super) type Pair = (&'static Peer, Direction, Signing);

/// What of all there is was asked for; what is empty asks for everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) directions: Vec<Direction>,
    pub(crate) signings: Vec<Signing>,
    pub(crate) kinds: Vec<Kind>,
}

impl Filter {
    pub(super) fn admits(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

/// All pairs.
pub(super) fn pairs(peers: &[&'static Peer], filter: &Filter) -> Vec<Pair> {
    fn one<T: PartialEq>(asked: &[T], it: &T) -> bool {
        asked.is_empty() || asked.contains(it)
    }
    let mut pairs = Vec::new();
    if !filter.admits(Kind::Pairs) {
        return pairs;
    }
    for &peer in peers {
        for &signing in Signing::ALL.iter().filter(|signing| has(peer, **signing)) {
            for &direction in Direction::ALL {
                if one(&filter.directions, &direction) && one(&filter.signings, &signing) {
                    pairs.push((peer, direction, signing));
                }
            }
        }
    }
    pairs
}

/// The pairs whose messages travel in parts. Of the other libraries' releases none has that.
pub(super) fn partial(peers: &[&'static Peer], filter: &Filter) -> Vec<(&'static Peer, Direction)> {
    let signed = filter.signings.is_empty() || filter.signings.contains(&Signing::Strict);
    if !signed || !filter.admits(Kind::Partial) {
        return Vec::new();
    }
    let mut pairs = Vec::new();
    for &peer in peers.iter().filter(|peer| peer.name == "go") {
        let asked =
            |direction: &&Direction| filter.directions.is_empty() || filter.directions.contains(*direction);
        pairs.extend(Direction::ALL.iter().filter(asked).map(|direction| (peer, *direction)));
    }
    pairs
}

/// The peers that come in crowds.
pub(super) fn crowds(peers: &[&'static Peer], filter: &Filter) -> Vec<&'static Peer> {
    let signed = filter.signings.is_empty() || filter.signings.contains(&Signing::Strict);
    if signed && filter.admits(Kind::Crowd) { peers.to_vec() } else { Vec::new() }
}

/// The meshes of many: messages, and the peers that have such.
pub(super) fn mixed(peers: &[&'static Peer], filter: &Filter) -> Vec<(Signing, Vec<&'static Peer>)> {
    let asked = |signing: &Signing| filter.signings.is_empty() || filter.signings.contains(signing);
    let signings = [Signing::Strict, Signing::Anonymous].into_iter().filter(asked);
    let with = |signing| peers.iter().copied().filter(|peer| has(peer, signing)).collect();
    if filter.admits(Kind::Mixed) {
        signings.map(|signing| (signing, with(signing))).collect()
    } else {
        Vec::new()
    }
}
