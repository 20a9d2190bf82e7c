use std::{collections::BTreeSet, net::IpAddr};

use peerage_core::{Now, PeerId, engine::Rng};

use super::SetTopicError;
use crate::{
    config::Config,
    gater::{self, Gater},
    message::MessageId,
    score::{self, Breakdown, Reject, Thresholds, TopicParams},
    topic::Topic,
};

/// What peers are worth, and what follows from it. Without scoring all are worth nothing, and nothing follows.
#[derive(Debug)]
pub(super) struct Judge {
    scores: Option<score::Engine>,
    thresholds: Thresholds,
    /// How topics are scored for which nothing was said.
    each_topic: Option<TopicParams>,
    /// Topics for which something was said.
    named: BTreeSet<Topic>,
    gater: Option<Gater>,
}

/// What one judge leaves to the next.
#[derive(Debug)]
pub(super) struct Kept {
    scores: Option<score::Engine>,
    named: BTreeSet<Topic>,
}

impl Kept {
    /// How many peers it knows.
    pub(super) fn len(&self) -> usize {
        self.scores.as_ref().map_or(0, |scores| {
            let sizes = scores.sizes();
            sizes.connected.saturating_add(sizes.gone)
        })
    }
}

impl Judge {
    /// Of a configuration that was validated; of another, it scores nobody.
    pub(super) fn new(config: &Config) -> Self {
        let scoring = config.scoring.as_ref();
        let params = scoring.and_then(|scoring| score::Params::new(scoring.settings.clone()).ok());
        Self {
            scores: params.map(score::Engine::new),
            thresholds: scoring.map(|scoring| scoring.thresholds).unwrap_or_default(),
            each_topic: scoring.and_then(|scoring| scoring.each_topic),
            named: scoring
                .map(|scoring| scoring.settings.topics.keys().cloned().collect())
                .unwrap_or_default(),
            gater: config.gater.clone().and_then(|settings| Gater::new(settings).ok()),
        }
    }

    /// A topic is scored by its own parameters from now on; or, with `None`, like others.
    pub(super) fn set_topic(
        &mut self,
        topic: &Topic,
        params: Option<TopicParams>,
        wanted: bool,
    ) -> Result<(), SetTopicError> {
        let scores = self.scores.as_mut().ok_or(SetTopicError::NotScored)?;
        scores.set_topic(topic, params.or(self.each_topic.filter(|_| wanted)))?;
        if params.is_some() {
            self.named.insert(topic.clone());
        } else {
            self.named.remove(topic);
        }
        Ok(())
    }

    /// A topic is wanted here.
    pub(super) fn topic_wanted(&mut self, topic: &Topic) {
        if let (Some(scores), Some(params)) = (&mut self.scores, &self.each_topic)
            && !scores.params().settings().topics.contains_key(topic)
        {
            // Refused when there are too many topics; the rest is not scored.
            let _ = scores.set_topic(topic, Some(*params));
        }
    }

    /// It is not wanted any more. What is known of peers in it is forgotten, unless it is scored by its own rules: else
    /// who joins and leaves many topics would keep something of each.
    pub(super) fn topic_left(&mut self, topic: &Topic) {
        if let Some(scores) = self.scores.as_mut().filter(|_| !self.named.contains(topic)) {
            let _ = scores.set_topic(topic, None);
        }
    }

    /// All that it knows of peers, for the judge of another engine.
    pub(super) fn hand_on(&mut self) -> Kept {
        Kept { scores: self.scores.take(), named: std::mem::take(&mut self.named) }
    }

    /// Goes on from there, as after the end of all connections: faults stay, rewards do not. How many peers had a name to
    /// lose. How busy the node is, and with whom, the gater learns anew.
    pub(super) fn recall(&mut self, kept: Kept, wanted: impl Fn(&Topic) -> bool, now: Now) -> usize {
        let Some(mut scores) = kept.scores else { return 0 };
        let rewarded = scores.all_disconnected(now.mono);
        self.scores = Some(scores);
        self.named = kept.named;
        let scored = self.scores.iter().flat_map(|scores| scores.params().settings().topics.keys());
        let left: Vec<Topic> = scored.filter(|topic| !wanted(topic)).cloned().collect();
        left.iter().for_each(|topic| self.topic_left(topic));
        rewarded
    }

    pub(super) fn score(&self, peer: &PeerId) -> f64 {
        self.scores.as_ref().map_or(0.0, |scores| scores.score(peer))
    }

    /// What decides about a place in a mesh.
    pub(super) fn standing(&self, peer: &PeerId, topic: &Topic) -> f64 {
        self.scores.as_ref().map_or(0.0, |scores| scores.standing(peer, topic))
    }

    pub(super) fn breakdown(&self, peer: &PeerId) -> Breakdown {
        self.scores.as_ref().map(|scores| scores.breakdown(peer)).unwrap_or_default()
    }

    pub(super) fn is_graylisted(&self, peer: &PeerId) -> bool {
        self.scores.as_ref().is_some_and(|scores| scores.score(peer) < self.thresholds.graylist)
    }

    pub(super) fn is_below_gossip(&self, peer: &PeerId) -> bool {
        self.scores.as_ref().is_some_and(|scores| scores.score(peer) < self.thresholds.gossip)
    }

    pub(super) fn may_be_published_to(&self, peer: &PeerId) -> bool {
        self.scores.as_ref().is_none_or(|scores| scores.score(peer) >= self.thresholds.publish)
    }

    pub(super) fn accepts_exchange(&self, peer: &PeerId) -> bool {
        self.scores.as_ref().is_none_or(|scores| scores.score(peer) >= self.thresholds.accept_px)
    }

    /// Whether a mesh of this median needs better peers.
    pub(super) fn is_poor(&self, median: f64) -> bool {
        self.scores.is_some() && median < self.thresholds.opportunistic_graft
    }

    /// Whether a peer's messages are looked at under the load that there is.
    pub(super) fn takes_messages(&self, peer: &PeerId, now: Now, rng: &mut Rng) -> bool {
        let accept = |gater: &Gater| gater.accept(peer, now.mono, rng) == gater::Verdict::Accept;
        self.gater.as_ref().is_none_or(accept)
    }

    pub(super) fn connected(&mut self, peer: PeerId, ip: Option<IpAddr>, now: Now) {
        if let Some(scores) = &mut self.scores {
            scores.connected(peer, ip, now.mono);
        }
        if let Some(gater) = &mut self.gater {
            gater.connected(peer, ip, now.mono);
        }
    }

    pub(super) fn disconnected(&mut self, peer: PeerId, now: Now) {
        if let Some(scores) = &mut self.scores {
            scores.disconnected(peer, now.mono);
        }
        if let Some(gater) = &mut self.gater {
            gater.disconnected(peer, now.mono);
        }
    }

    pub(super) fn grafted(&mut self, peer: PeerId, topic: &Topic, now: Now) {
        if let Some(scores) = &mut self.scores {
            scores.grafted(peer, topic, now.mono);
        }
    }

    pub(super) fn pruned(&mut self, peer: PeerId, topic: &Topic, now: Now) {
        if let Some(scores) = &mut self.scores {
            scores.pruned(peer, topic, now.mono);
        }
    }

    pub(super) fn validating(&mut self, peer: PeerId, id: &MessageId, topic: &Topic, now: Now) {
        if let Some(scores) = &mut self.scores {
            scores.validating(peer, id, topic, now.mono);
        }
        if let Some(gater) = &mut self.gater {
            gater.validating();
        }
    }

    pub(super) fn delivered(&mut self, peer: PeerId, id: &MessageId, topic: &Topic, now: Now) {
        if let Some(scores) = &mut self.scores {
            scores.delivered(peer, id, topic, now.mono);
        }
        if let Some(gater) = &mut self.gater {
            gater.delivered(&peer, topic);
        }
    }

    pub(super) fn duplicate(&mut self, peer: PeerId, id: &MessageId, topic: &Topic, now: Now) {
        if let Some(scores) = &mut self.scores {
            scores.duplicate(peer, id, topic, now.mono);
        }
        if let Some(gater) = &mut self.gater {
            gater.duplicate(&peer);
        }
    }

    pub(super) fn rejected(&mut self, peer: PeerId, id: &MessageId, topic: &Topic, why: Reject, now: Now) {
        if let Some(scores) = &mut self.scores {
            scores.rejected(peer, id, topic, why, now.mono);
        }
        if let Some(gater) = &mut self.gater {
            match why {
                Reject::Unauthentic | Reject::Invalid => gater.rejected(&peer),
                Reject::Ignored => gater.ignored(&peer),
                _ => {}
            }
        }
    }

    /// There is more to validate than is done.
    pub(super) fn throttled(&mut self, now: Now) {
        if let Some(gater) = &mut self.gater {
            gater.throttled(now.mono);
        }
    }

    pub(super) fn penalize(&mut self, peer: PeerId, count: u32) {
        if let Some(scores) = &mut self.scores {
            scores.penalize(peer, count);
        }
    }

    pub(super) fn set_app_score(&mut self, peer: PeerId, score: f64) {
        if let Some(scores) = &mut self.scores {
            scores.set_app_score(peer, score);
        }
    }

    /// Time passes: counters decay by as many intervals as are over.
    pub(super) fn refresh(&mut self, now: Now) {
        if let Some(scores) = &mut self.scores {
            scores.refresh(now.mono);
        }
        if let Some(gater) = &mut self.gater {
            gater.refresh(now.mono);
        }
    }
}
