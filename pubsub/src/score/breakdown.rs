use std::collections::BTreeMap;

use crate::Topic;

/// Why a peer has the score that it has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Breakdown {
    /// The score: what the topics, P5, P6 and P7 add to it.
    pub score: f64,
    /// What the peer did in each scored topic.
    pub topics: BTreeMap<Topic, TopicBreakdown>,
    /// What the topics add, after the cap.
    pub in_topics: f64,
    /// P5: what the program thinks of the peer.
    pub app: Part,
    /// P6: the square of the peers too many at its address.
    pub colocation: Part,
    /// P7: the square of misbehaviour above the threshold.
    pub behaviour: Part,
}

/// What a peer did in a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TopicBreakdown {
    /// Whether the peer is in the mesh.
    pub in_mesh: bool,
    /// P1: quanta of time in the mesh, up to the cap.
    pub time_in_mesh: Part,
    /// P2: messages that it was the first to deliver, decayed.
    pub first_deliveries: Part,
    /// P3: the square of the deliveries that it owes.
    pub mesh_deliveries: Part,
    /// P3b: what it owed when it was pruned, squared, summed and decayed.
    pub mesh_failures: Part,
    /// P4: the square of its invalid messages, decayed.
    pub invalid: Part,
}

/// One term of the score function.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// The value of the parameter, P1 to P7.
    pub value: f64,
    /// What it adds to the score: the value times its weight and, in a topic, the topic's.
    pub score: f64,
}

impl TopicBreakdown {
    /// What the topic adds to the score, before the cap.
    pub fn score(&self) -> f64 {
        self.rewards() + self.penalties()
    }

    /// What P1 and P2 add.
    pub fn rewards(&self) -> f64 {
        self.time_in_mesh.score + self.first_deliveries.score
    }

    /// What P3, P3b and P4 take away: zero or below.
    pub fn penalties(&self) -> f64 {
        self.mesh_deliveries.score + self.mesh_failures.score + self.invalid.score
    }
}

impl Part {
    pub(super) fn new(value: f64, weight: f64) -> Self {
        Self { value, score: value * weight }
    }
}
