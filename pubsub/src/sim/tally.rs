use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use super::NodeId;
use crate::MessageId;

/// Latencies are counted in steps of this.
const STEP: Duration = Duration::from_millis(1);
/// The most steps; longer ones count as this.
const STEPS: usize = 60_000;

/// Which message came where, when, and how often.
#[derive(Debug)]
pub struct Tally {
    messages: BTreeMap<MessageId, Tracked>,
    latencies: Vec<u32>,
    deliveries: u64,
    twice: u64,
    unknown: u64,
    copies: u64,
}

#[derive(Debug)]
struct Tracked {
    published: Instant,
    author: NodeId,
    /// A bit for each node.
    got: Vec<u64>,
    deliveries: usize,
}

/// What a [`Tally`] comes to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Messages published.
    pub messages: usize,
    /// Deliveries to subscribers.
    pub deliveries: u64,
    /// Deliveries that there should have been and were not.
    pub missing: u64,
    /// Deliveries of a message to one that had it, or of one that nobody published.
    pub wrong: u64,
    /// Copies of messages that honest nodes received.
    pub copies: u64,
    /// Half of all deliveries took at most so long.
    pub median: Duration,
    /// 99 of 100 took at most so long.
    pub p99: Duration,
    /// All took at most so long.
    pub max: Duration,
}

impl Summary {
    /// Copies received for each delivery.
    pub fn copies_per_delivery(&self) -> f64 {
        self.copies as f64 / self.deliveries.max(1) as f64
    }

    /// Whether every message came to everybody once.
    pub fn is_complete(&self) -> bool {
        self.missing == 0 && self.wrong == 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let due = self.deliveries.saturating_add(self.missing);
        writeln!(f, "messages     {}", self.messages)?;
        writeln!(f, "deliveries   {} of {due}, {} wrong", self.deliveries, self.wrong)?;
        writeln!(f, "latency      median {:?}, p99 {:?}, max {:?}", self.median, self.p99, self.max)?;
        write!(f, "copies       {:.2} for each delivery", self.copies_per_delivery())
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            messages: BTreeMap::new(),
            latencies: vec![0; STEPS + 1],
            deliveries: 0,
            twice: 0,
            unknown: 0,
            copies: 0,
        }
    }
}

impl Tally {
    pub(super) fn published(&mut self, id: MessageId, author: NodeId, now: Instant) {
        let tracked = Tracked { published: now, author, got: Vec::new(), deliveries: 0 };
        self.messages.insert(id, tracked);
    }

    pub(super) fn delivered(&mut self, id: &MessageId, to: NodeId, now: Instant) {
        let Some(tracked) = self.messages.get_mut(id) else {
            self.unknown += 1;
            return;
        };
        let (word, bit) = (to.0 / 64, 1_u64 << (to.0 % 64));
        if tracked.got.len() <= word {
            tracked.got.resize(word + 1, 0);
        }
        if to == tracked.author || tracked.got[word] & bit != 0 {
            self.twice += 1;
            return;
        }
        tracked.got[word] |= bit;
        tracked.deliveries += 1;
        self.deliveries += 1;
        let late = now.saturating_duration_since(tracked.published);
        // Rounded up: what is said to be the maximum is not exceeded.
        let steps = late.as_nanos().div_ceil(STEP.as_nanos());
        self.latencies[usize::try_from(steps).unwrap_or(STEPS).min(STEPS)] += 1;
    }

    pub(super) fn copies(&mut self, many: usize) {
        self.copies += many as u64;
    }

    /// Sums up, when each message should have come to `subscribers` nodes beside its author.
    pub fn summary(&self, subscribers: usize) -> Summary {
        let missing =
            self.messages.values().map(|tracked| subscribers.saturating_sub(tracked.deliveries) as u64);
        Summary {
            messages: self.messages.len(),
            deliveries: self.deliveries,
            missing: missing.sum(),
            wrong: self.twice + self.unknown,
            copies: self.copies,
            median: self.quantile(0.5),
            p99: self.quantile(0.99),
            max: self.quantile(1.0),
        }
    }

    /// Which nodes of `all` did not get which messages: for a run that fails.
    pub fn missing(
        &self,
        all: impl IntoIterator<Item = NodeId> + Clone,
    ) -> Vec<(MessageId, Duration, Vec<NodeId>)> {
        let first = self.messages.values().map(|tracked| tracked.published).min();
        let lacks = |tracked: &Tracked, node: &NodeId| {
            let word = tracked.got.get(node.0 / 64).copied().unwrap_or(0);
            *node != tracked.author && word & (1 << (node.0 % 64)) == 0
        };
        let of = |(id, tracked): (&MessageId, &Tracked)| {
            let nodes: Vec<_> = all.clone().into_iter().filter(|node| lacks(tracked, node)).collect();
            let since = first.map_or(Duration::ZERO, |first| tracked.published.duration_since(first));
            (!nodes.is_empty()).then(|| (id.clone(), since, nodes))
        };
        self.messages.iter().filter_map(of).collect()
    }

    fn quantile(&self, part: f64) -> Duration {
        let rank = (self.deliveries as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (steps, many) in self.latencies.iter().enumerate() {
            seen += u64::from(*many);
            if seen >= rank {
                return STEP * u32::try_from(steps).unwrap_or(u32::MAX);
            }
        }
        STEP * STEPS as u32
    }
}
