use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use bytes::Bytes;
use peerage_core::{Now, PeerId, budget::Reserved};

use super::{Action, Engine, net::Sent};
use crate::{
    codec::{self, MAX_GROUP, MAX_METADATA},
    config::TopicConfig,
    event::{DropReason, Misdeed, Refusal},
    message::MessageId,
    partial::{Hearer, Holding, Limits, Mode, PublishError, Published, Received, Say},
    queue::Lane,
    score::Reject,
    topic::{MAX_TOPIC, Topic},
};

/// Bytes of an RPC that are left for keys and lengths.
const HEADS: usize = 64;

/// What there is of messages that travel in parts, here and at peers, by topic and group id.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<Topic, BTreeMap<Bytes, Group>>);

/// One message.
#[derive(Debug)]
struct Group {
    /// What there is of it here; peers may speak of it before.
    have: Option<Holding>,
    /// Who has brought it up, as long as there is nothing here.
    by: Option<PeerId>,
    /// Heartbeats until it is forgotten.
    left: u32,
    peers: BTreeMap<PeerId, Known>,
}

/// What a peer and this node have told each other of one message.
#[derive(Debug, Default)]
struct Known {
    /// What it said last that it has and wants.
    metadata: Option<Bytes>,
    /// What it was told last.
    told: Option<Bytes>,
    /// What it was given, as the program writes it.
    given: Bytes,
    /// The memory that the peer's words take.
    charge: Option<Reserved>,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    pub(super) fn hearers(&self) -> usize {
        self.0.values().flat_map(BTreeMap::values).map(|group| group.peers.len()).sum()
    }

    /// Messages of which there is something here.
    pub(super) fn published(&self) -> usize {
        self.0.values().flat_map(BTreeMap::values).filter(|group| group.have.is_some()).count()
    }

    /// Whether there is anything of a topic here.
    pub(super) fn has_own(&self, topic: &Topic) -> bool {
        self.0.get(topic).is_some_and(|groups| groups.values().any(|group| group.have.is_some()))
    }

    /// The messages of a topic of which there is something here.
    fn own(&self, topic: &Topic) -> Vec<Bytes> {
        let groups = self.0.get(topic).into_iter().flatten();
        groups.filter(|(_, group)| group.have.is_some()).map(|(id, _)| id.clone()).collect()
    }

    fn get(&self, topic: &Topic, group: &Bytes) -> Option<&Group> {
        self.0.get(topic)?.get(group)
    }

    fn get_mut(&mut self, topic: &Topic, group: &Bytes) -> Option<&mut Group> {
        self.0.get_mut(topic)?.get_mut(group)
    }

    /// Takes what there is of a message here.
    fn publish(
        &mut self,
        topic: &Topic,
        group: Bytes,
        have: Holding,
        limits: &Limits,
    ) -> Result<(), PublishError> {
        let groups = self.0.entry(topic.clone()).or_default();
        let own = groups.values().filter(|group| group.have.is_some()).count();
        let left = limits.heartbeats;
        match groups.entry(group) {
            Entry::Occupied(known) if known.get().have.is_some() || own < limits.own_groups => {
                let known = known.into_mut();
                (known.have, known.by, known.left) = (Some(have), None, left);
            }
            Entry::Vacant(place) if own < limits.own_groups => {
                place.insert(Group { have: Some(have), by: None, left, peers: BTreeMap::new() });
            }
            _ => return Err(PublishError::TooMany { max: limits.own_groups }),
        }
        Ok(())
    }

    /// Remembers what a peer has of a message, and wants; whether there was room for that. The newer word takes the older one's
    /// place (spec "partsMetadata").
    fn heard(
        &mut self,
        peer: PeerId,
        topic: &Topic,
        group: &Bytes,
        metadata: Bytes,
        charge: Reserved,
        limits: &Limits,
    ) -> bool {
        let groups = self.0.entry(topic.clone()).or_default();
        if !groups.contains_key(group) {
            let others = || groups.values().filter(|group| group.have.is_none());
            let its = others().filter(|group| group.by == Some(peer)).count();
            if others().count() >= limits.groups || its >= limits.groups_per_peer {
                return false;
            }
        }
        let fresh = || Group { have: None, by: Some(peer), left: limits.heartbeats, peers: BTreeMap::new() };
        let known = groups.entry(group.clone()).or_insert_with(fresh).peers.entry(peer).or_default();
        (known.metadata, known.charge) = (Some(metadata), Some(charge));
        true
    }

    /// A heartbeat has passed.
    pub(super) fn expire(&mut self) {
        self.retain(|group| {
            group.left = group.left.saturating_sub(1);
            group.left > 0
        });
    }

    /// A topic is not wanted any more.
    pub(super) fn topic_left(&mut self, topic: &Topic) {
        self.0.remove(topic);
    }

    /// What a peer was told and given may not have come to it, and it may have forgotten the rest.
    pub(super) fn link_ended(&mut self, peer: &PeerId) {
        for known in self.0.values_mut().flat_map(BTreeMap::values_mut).flat_map(|of| of.peers.get_mut(peer))
        {
            (known.told, known.given) = (None, Bytes::new());
        }
    }

    /// A peer does not want a topic any more.
    pub(super) fn forget_in(&mut self, topic: &Topic, peer: &PeerId) {
        if let Some(groups) = self.0.get_mut(topic) {
            groups.values_mut().for_each(|group| drop(group.peers.remove(peer)));
            self.retain(Group::is_needed);
        }
    }

    /// What a peer has said does not count any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        let all = self.0.values_mut().flat_map(BTreeMap::values_mut);
        all.for_each(|group| drop(group.peers.remove(peer)));
        self.retain(Group::is_needed);
    }

    fn retain(&mut self, mut stays: impl FnMut(&mut Group) -> bool) {
        self.0.retain(|_, groups| {
            groups.retain(|_, group| stays(group));
            !groups.is_empty()
        });
    }
}

impl Group {
    fn is_needed(&mut self) -> bool {
        self.have.is_some() || !self.peers.is_empty()
    }
}

impl Engine {
    /// In which way this node takes part in partial messages of a topic.
    pub(super) fn partial_mode(&self, topic: &Topic) -> Mode {
        match self.config.partial {
            Some(_) => self.rules.get(topic).unwrap_or(&self.config.other_topics).partial,
            None => Mode::Off,
        }
    }

    /// Whether parts go to a peer instead of whole messages.
    pub(super) fn takes_parts(&self, peer: &PeerId, topic: &Topic) -> bool {
        self.partial_mode(topic).sends() && self.net.mode_of(peer, topic) == Mode::Requests
    }

    /// Whether parts come from a peer instead of whole messages.
    pub(super) fn gives_parts(&self, peer: &PeerId, topic: &Topic) -> bool {
        self.partial_mode(topic) == Mode::Requests && self.net.mode_of(peer, topic).sends()
    }

    /// A topic has other rules from now on. Peers are told if that changes what they send.
    pub(super) fn set_rules(&mut self, topic: Topic, rules: Option<TopicConfig>) {
        let before = self.partial_mode(&topic);
        match rules {
            Some(rules) => drop(self.rules.insert(topic.clone(), rules)),
            None => drop(self.rules.remove(&topic)),
        }
        let mode = self.partial_mode(&topic);
        if !mode.sends() {
            self.groups.topic_left(&topic);
        }
        if mode != before && self.topics.get(&topic).is_some_and(|known| known.subscribed) {
            self.announce(&topic, true);
        }
    }

    /// In which way a peer takes part, of a topic that it wants. A node that does not speak of partial messages ignores that
    /// (spec "Changes to `SubOpts`").
    pub(super) fn peer_wants_parts(&mut self, peer: PeerId, topic: &Topic, mode: Mode) {
        let Some(state) = self.net.peers.get_mut(&peer).filter(|state| state.topics.contains(topic)) else {
            return;
        };
        if self.config.partial.is_some() && mode.sends() {
            state.partial.insert(topic.clone(), mode);
        } else {
            state.partial.remove(topic);
        }
    }

    /// Tells the mesh what there is of a message here, and gives it what it lacks; and so all others who have asked.
    pub(super) fn publish_partial(
        &mut self,
        topic: Topic,
        group: Bytes,
        have: Holding,
        now: Now,
    ) -> Result<Published, PublishError> {
        let limits = self.config.partial.filter(|_| self.partial_mode(&topic).sends());
        let limits = limits.ok_or(PublishError::Off)?;
        if !(1..=MAX_GROUP).contains(&group.len()) {
            return Err(PublishError::Group { len: group.len() });
        }
        self.groups.publish(&topic, group.clone(), have, &limits)?;
        let mut hearers = self.meshed_with(&topic, now);
        if let Some(known) = self.groups.get(&topic, &group) {
            let asked = known.peers.iter().filter(|(_, known)| known.metadata.is_some());
            let others = asked.map(|(peer, _)| *peer).filter(|peer| !hearers.contains(peer));
            hearers.extend(others.collect::<Vec<_>>());
        }
        let mut published = Published::default();
        for peer in hearers {
            match self.say(peer, &topic, &group, true) {
                Said::Sent(Sent::Taken) => published.peers = published.peers.saturating_add(1),
                Said::Sent(Sent::Full) => published.full = published.full.saturating_add(1),
                Said::TooLarge => published.too_large = published.too_large.saturating_add(1),
                Said::Sent(Sent::Skipped) => {}
            }
        }
        Ok(published)
    }

    /// A peer says something of a message. All of it goes to the program, also from those who are not in the mesh (spec
    /// "Application Interface").
    pub(super) fn heard_partial(&mut self, peer: PeerId, heard: codec::Partial, now: Now) {
        let codec::Partial { topic, group, mut parts, metadata } = heard;
        let speaks = self
            .net
            .peers
            .get(&peer)
            .is_some_and(|state| state.extensions.is_some_and(|can| can.partial_messages));
        let mode = self.partial_mode(&topic);
        // Who publishes without wanting the topic is answered all the same.
        let wanted = self.topics.get(&topic).is_some_and(|known| known.subscribed)
            || self.groups.get(&topic, &group).is_some_and(|group| group.have.is_some());
        let direct = self.direct.contains_key(&peer);
        let limits = self
            .config
            .partial
            .filter(|_| speaks && mode.sends() && wanted && (direct || !self.judge.is_below_gossip(&peer)));
        let Some(limits) = limits else { return self.pass_over() };
        let len = parts.as_ref().map_or(0, Bytes::len);
        if len > self.rules.get(&topic).unwrap_or(&self.config.other_topics).max_size {
            return self.refuse(peer, &topic, None, Refusal::TooLarge, now);
        }
        // What was requested before is no fault of the peer's.
        let mut takes =
            || mode == Mode::Requests && (direct || self.judge.takes_messages(&peer, now, &mut self.rng));
        if parts.is_some() && !takes() {
            self.pass_over();
            parts = None;
        }
        let len = parts.as_ref().map_or(0, Bytes::len);
        if parts.is_none() && metadata.is_none() {
            return;
        }
        let stats = &mut self.net.stats.partial;
        stats.received = stats.received.saturating_add(1);
        stats.received_bytes = stats.received_bytes.saturating_add(len as u64);
        let is_asked = metadata.as_ref().is_some_and(|metadata| {
            let charge = self.net.budget.reserve(group.len().saturating_add(metadata.len()));
            charge.is_ok_and(|charge| {
                self.groups.heard(peer, &topic, &group, metadata.clone(), charge, &limits)
            })
        });
        if metadata.is_some() && !is_asked {
            let stats = &mut self.net.stats.partial;
            stats.not_remembered = stats.not_remembered.saturating_add(1);
        }
        let received =
            Received { topic: topic.clone(), group: group.clone(), parts, metadata, received_from: peer };
        self.net.actions.push_back(Action::DeliverPartial(received));
        if is_asked && self.may_be_answered(peer, &limits) {
            self.say(peer, &topic, &group, true);
        }
    }

    /// Parts of a peer's are not of the message.
    pub(super) fn reject_partial(&mut self, peer: PeerId, topic: &Topic, now: Now) {
        // The score's word for what is wrong by itself, whoever else sends it.
        self.judge.rejected(peer, &MessageId::truncated(&[]), topic, Reject::Unauthentic, now);
    }

    /// Tells what could not be told before: to those who came into the mesh, and to those for whom there was no room.
    pub(super) fn tell_of_groups(&mut self) {
        let topics: Vec<Topic> = self.groups.0.keys().cloned().collect();
        for topic in topics {
            for group in self.groups.own(&topic) {
                let Some(known) = self.groups.get(&topic, &group) else { continue };
                let is_untold =
                    |peer: &&PeerId| known.peers.get(peer).is_none_or(|known| known.told.is_none());
                let asked = known.peers.iter().filter(|(_, known)| known.metadata.is_some());
                let untold = self.mesh(&topic).chain(asked.map(|(peer, _)| peer)).filter(is_untold);
                let peers: BTreeSet<PeerId> = untold.copied().collect();
                for peer in peers {
                    self.say(peer, &topic, &group, true);
                }
            }
        }
    }

    /// Tells a peer outside of the mesh what there is here, once of each message. It gets parts when it asks for them.
    pub(super) fn gossip_groups(&mut self, peer: PeerId, topic: &Topic) {
        for group in self.groups.own(topic) {
            if !self.groups.get(topic, &group).is_some_and(|known| known.peers.contains_key(&peer)) {
                self.say(peer, topic, &group, false);
            }
        }
    }

    /// Says to a peer what there is of a message here, with parts or without, if that is news to it.
    fn say(&mut self, peer: PeerId, topic: &Topic, group: &Bytes, with_parts: bool) -> Said {
        let ours = self.partial_mode(topic);
        let theirs = self.net.mode_of(&peer, topic);
        let room = self.room(topic);
        let Some(known_group) = self.groups.get_mut(topic, group) else { return Said::NOTHING };
        let Some(Holding(have)) = known_group.have.clone() else { return Said::NOTHING };
        let place = known_group.peers.entry(peer);
        // Who has spoken of the message sends of it, even if it does not want the topic: it publishes.
        let speaks = ours.goes_with(theirs)
            || (ours == Mode::Requests
                && matches!(&place, Entry::Occupied(known) if known.get().metadata.is_some()));
        if !speaks {
            return Said::NOTHING;
        }
        let known = place.or_default();
        let takes_parts = with_parts && theirs == Mode::Requests;
        let hearer =
            Hearer { peer, metadata: known.metadata.as_ref(), given: &known.given, takes_parts, room };
        let Ok(Say { metadata, parts, given }) = have.say(&hearer) else {
            (known.metadata, known.charge) = (None, None);
            self.misbehaved(peer, Misdeed::NotMetadata, 1);
            return Said::NOTHING;
        };
        let is_news = known.told.as_ref() != Some(&metadata);
        // Parts go to nobody who did not request them (spec "Changes to `SubOpts`").
        let parts = Some(parts).filter(|parts| takes_parts && !parts.is_empty());
        if !is_news && parts.is_none() {
            return Said::NOTHING;
        }
        let len = parts.as_ref().map_or(0, Bytes::len);
        if len > room || metadata.len() > MAX_METADATA {
            self.net.dropped(peer, Lane::Forward, Some(topic.clone()), DropReason::TooLarge);
            return Said::TooLarge;
        }
        let told = metadata.clone();
        let metadata = is_news.then_some(metadata);
        let gives = parts.is_some();
        let partial = codec::Partial { topic: topic.clone(), group: group.clone(), parts, metadata };
        let sent = self.net.partial(peer, topic, partial.write(), len);
        if let Some(known) = self.groups.get_mut(topic, group).and_then(|group| group.peers.get_mut(&peer)) {
            // What had no room is said anew at a heartbeat.
            known.told = Some(told).filter(|_| sent == Sent::Taken);
            if gives && sent == Sent::Taken {
                known.given = given;
            }
        }
        Said::Sent(sent)
    }

    /// Bytes of parts that go to a peer at once.
    fn room(&self, topic: &Topic) -> usize {
        let rest = MAX_TOPIC.saturating_add(MAX_GROUP).saturating_add(MAX_METADATA).saturating_add(HEADS);
        let rules = self.rules.get(topic).unwrap_or(&self.config.other_topics);
        rules.max_size.min(self.config.rpc.bytes.saturating_sub(rest))
    }

    fn may_be_answered(&mut self, peer: PeerId, limits: &Limits) -> bool {
        let Some(state) = self.net.peers.get_mut(&peer) else { return false };
        state.spent.answers = state.spent.answers.saturating_add(1);
        let may = state.spent.answers <= limits.answers;
        if !may {
            let stats = &mut self.net.stats.partial;
            stats.not_answered = stats.not_answered.saturating_add(1);
        }
        may
    }

    fn pass_over(&mut self) {
        let stats = &mut self.net.stats.partial;
        stats.passed_over = stats.passed_over.saturating_add(1);
    }
}

/// What became of what was to be said.
enum Said {
    Sent(Sent),
    TooLarge,
}

impl Said {
    const NOTHING: Self = Self::Sent(Sent::Skipped);
}
