//! What is counted.

use std::collections::BTreeMap;

use crate::{
    event::{DropReason, Misdeed, PruneReason, Refusal},
    queue::Lane,
    topic::Topic,
    validator::Verdict,
    version::Version,
};

/// What an engine has counted since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Of the topics that are wanted here, or whose messages go to some peers only.
    pub topics: BTreeMap<Topic, TopicStats>,
    /// Of all others, and of those that were such.
    pub retired: TopicStats,
    /// Peers in the mesh of each wanted topic, and peers that want it.
    pub meshes: BTreeMap<Topic, (usize, usize)>,
    /// Peers, by what was agreed with them.
    pub versions: BTreeMap<Version, usize>,
    /// GRAFTs of this node, and of peers.
    pub grafts: (u64, u64),
    /// Peers that left a mesh, by why.
    pub prunes: BTreeMap<PruneReason, u64>,
    /// Frames that were not sent, by what they were and why.
    pub dropped: BTreeMap<(Lane, DropReason), u64>,
    /// Messages that were not taken, by why.
    pub refused: BTreeMap<Refusal, u64>,
    /// Rules that peers broke.
    pub misdeeds: BTreeMap<Misdeed, u64>,
    /// RPCs that were taken.
    pub rpcs: u64,
    /// RPCs of peers whose score was too bad.
    pub graylisted: u64,
    /// Ids that peers said they had.
    pub ihave_received: u64,
    /// IHAVEs of peers that had sent too many.
    pub ihave_ignored: u64,
    /// Ids that peers were told of.
    pub ihave_sent: u64,
    /// Ids that peers asked for.
    pub iwant_received: u64,
    /// Ids that peers were asked for.
    pub iwant_sent: u64,
    /// Ids that peers did not want.
    pub idontwant_received: u64,
    /// IDONTWANTs that were sent.
    pub idontwant_sent: u64,
    /// Messages that were not sent because they were not wanted.
    pub unwanted: u64,
    /// Subscriptions of peers beyond what is kept, or filtered out.
    pub subscriptions_passed_over: u64,
    /// Partial messages.
    pub partial: PartialStats,
    /// Messages of the extension for tests.
    pub test_extensions: u64,
    /// Heartbeats.
    pub heartbeats: u64,
    /// What panics have cost.
    pub lost: Lost,
    /// Ids of messages that were seen; now.
    pub seen: usize,
    /// Messages kept for who asks; now.
    pub cached: usize,
    /// Their bytes; now.
    pub cached_bytes: usize,
    /// Messages under verification and validation; now.
    pub in_progress: usize,
}

/// What did not outlive a panic of the engine. What peers have done wrong, what was seen, backoffs and both lists of peers
/// do, as do subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Lives that ended, and were followed by another.
    pub lives: u64,
    /// Messages that were kept for who asks.
    pub cached: u64,
    /// Messages under verification and validation.
    pub in_progress: u64,
    /// Messages that peers had promised.
    pub promises: u64,
    /// Messages of which this node had published parts.
    pub groups: u64,
    /// Peers that had earned something in a topic, and begin anew.
    pub rewarded: u64,
    /// Ids of messages that were seen. They are lost only when several lives in a row end before their first heartbeat.
    pub seen: u64,
    /// Peers that were known, with their faults; only then, too.
    pub judged: u64,
}

/// What was counted of partial messages, of all topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialStats {
    /// What was said to peers of a message: metadata, parts, or both.
    pub sent: u64,
    /// Bytes of the parts in it.
    pub sent_bytes: u64,
    /// What peers have said of a message.
    pub received: u64,
    /// Bytes of the parts in it.
    pub received_bytes: u64,
    /// What they said of topics without partial messages here, or out of a bad score, or parts that were not requested.
    pub passed_over: u64,
    /// What they said that they have, and was not remembered: there was too much of that.
    pub not_remembered: u64,
    /// What they said and was not answered: there was too much of that.
    pub not_answered: u64,
}

/// What was counted of one topic. Bytes are of payloads as received, and of frames as sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStats {
    /// Messages of this node.
    pub published: u64,
    /// Messages to a peer, each counted.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Messages from peers, duplicates included.
    pub received_unfiltered: u64,
    /// Their bytes.
    pub received_unfiltered_bytes: u64,
    /// Messages from peers that were new, and their authors'.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Copies of messages that were known.
    pub duplicates: u64,
    /// Messages that were accepted.
    pub delivered: u64,
    /// Messages that are none of this topic: a flaw in author or signature, or too large.
    pub invalid: u64,
    /// Messages that the validator rejected.
    pub rejected: u64,
    /// Messages that were passed over, by the validator or because there was too much to do.
    pub ignored: u64,
}

impl Stats {
    /// A topic is of interest: it is counted by itself.
    pub(crate) fn watch(&mut self, topic: &Topic) {
        self.topics.entry(topic.clone()).or_default();
    }

    pub(crate) fn topic(&mut self, topic: &Topic) -> &mut TopicStats {
        match self.topics.get_mut(topic) {
            Some(stats) => stats,
            None => &mut self.retired,
        }
    }

    /// A topic is not of interest any more.
    pub(crate) fn retire(&mut self, topic: &Topic) {
        if let Some(stats) = self.topics.remove(topic) {
            self.retired.add(&stats);
        }
    }

    pub(crate) fn dropped(&mut self, lane: Lane, why: DropReason, count: u64) {
        if count > 0 {
            add(self.dropped.entry((lane, why)).or_default(), count);
        }
    }

    pub(crate) fn refused(&mut self, topic: &Topic, why: Refusal) {
        add(self.refused.entry(why).or_default(), 1);
        let of_topic = self.topic(topic);
        let sum = match why {
            Refusal::Flaw(_) | Refusal::TooLarge | Refusal::NotOurs | Refusal::Blacklisted => {
                &mut of_topic.invalid
            }
            Refusal::Validator(Verdict::Reject) => &mut of_topic.rejected,
            Refusal::Validator(_) | Refusal::Throttled | Refusal::NoMemory => &mut of_topic.ignored,
            Refusal::UnknownTopic => return,
        };
        add(sum, 1);
    }

    pub(crate) fn misdeed(&mut self, rule: Misdeed, count: u32) {
        add(self.misdeeds.entry(rule).or_default(), count.into());
    }

    pub(crate) fn pruned(&mut self, why: PruneReason) {
        add(self.prunes.entry(why).or_default(), 1);
    }

    pub(crate) fn grafted(&mut self, local: bool) {
        add(if local { &mut self.grafts.0 } else { &mut self.grafts.1 }, 1);
    }

    /// Adds what another one has counted; numbers of what is there now are the other's.
    pub(crate) fn add(&mut self, other: &Stats) {
        for (topic, stats) in &other.topics {
            self.topics.entry(topic.clone()).or_default().add(stats);
        }
        self.retired.add(&other.retired);
        merge(&mut self.prunes, &other.prunes);
        merge(&mut self.dropped, &other.dropped);
        merge(&mut self.refused, &other.refused);
        merge(&mut self.misdeeds, &other.misdeeds);
        add(&mut self.grafts.0, other.grafts.0);
        add(&mut self.grafts.1, other.grafts.1);
        for (sum, count) in [
            (&mut self.rpcs, other.rpcs),
            (&mut self.graylisted, other.graylisted),
            (&mut self.ihave_received, other.ihave_received),
            (&mut self.ihave_ignored, other.ihave_ignored),
            (&mut self.ihave_sent, other.ihave_sent),
            (&mut self.iwant_received, other.iwant_received),
            (&mut self.iwant_sent, other.iwant_sent),
            (&mut self.idontwant_received, other.idontwant_received),
            (&mut self.idontwant_sent, other.idontwant_sent),
            (&mut self.unwanted, other.unwanted),
            (&mut self.subscriptions_passed_over, other.subscriptions_passed_over),
            (&mut self.test_extensions, other.test_extensions),
            (&mut self.partial.sent, other.partial.sent),
            (&mut self.partial.sent_bytes, other.partial.sent_bytes),
            (&mut self.partial.received, other.partial.received),
            (&mut self.partial.received_bytes, other.partial.received_bytes),
            (&mut self.partial.passed_over, other.partial.passed_over),
            (&mut self.partial.not_remembered, other.partial.not_remembered),
            (&mut self.partial.not_answered, other.partial.not_answered),
            (&mut self.heartbeats, other.heartbeats),
            (&mut self.lost.lives, other.lost.lives),
            (&mut self.lost.cached, other.lost.cached),
            (&mut self.lost.in_progress, other.lost.in_progress),
            (&mut self.lost.promises, other.lost.promises),
            (&mut self.lost.groups, other.lost.groups),
            (&mut self.lost.rewarded, other.lost.rewarded),
            (&mut self.lost.seen, other.lost.seen),
            (&mut self.lost.judged, other.lost.judged),
        ] {
            add(sum, count);
        }
        self.meshes.clone_from(&other.meshes);
        self.versions.clone_from(&other.versions);
        (self.seen, self.cached) = (other.seen, other.cached);
        (self.cached_bytes, self.in_progress) = (other.cached_bytes, other.in_progress);
    }
}

impl TopicStats {
    fn add(&mut self, other: &TopicStats) {
        for (sum, count) in [
            (&mut self.published, other.published),
            (&mut self.sent, other.sent),
            (&mut self.sent_bytes, other.sent_bytes),
            (&mut self.received_unfiltered, other.received_unfiltered),
            (&mut self.received_unfiltered_bytes, other.received_unfiltered_bytes),
            (&mut self.received, other.received),
            (&mut self.received_bytes, other.received_bytes),
            (&mut self.duplicates, other.duplicates),
            (&mut self.delivered, other.delivered),
            (&mut self.invalid, other.invalid),
            (&mut self.rejected, other.rejected),
            (&mut self.ignored, other.ignored),
        ] {
            add(sum, count);
        }
    }
}

fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}

fn merge<K: Ord + Copy>(sums: &mut BTreeMap<K, u64>, counts: &BTreeMap<K, u64>) {
    for (key, count) in counts {
        add(sums.entry(*key).or_default(), *count);
    }
}
