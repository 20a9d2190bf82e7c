use std::collections::BTreeSet;

use bytes::Bytes;
use peerage_core::{Now, PeerId};

use super::{Action, Engine, groups::Kept, net::Sent};
use crate::{
    codec::{self, MAX_GROUP, MAX_METADATA},
    config::TopicConfig,
    event::{DropReason, Misdeed, Refusal},
    message::MessageId,
    partial::{Hearer, Holding, Limits, MAX_GIVEN, Mode, PublishError, Published, Received, Say},
    queue::Lane,
    score::Reject,
    topic::{MAX_TOPIC, Topic},
};

/// Bytes of an RPC that are left for keys and lengths.
const HEADS: usize = 64;

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
            self.groups.forget_in(topic, &peer);
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
            let others = known.speakers().copied().filter(|peer| !hearers.contains(peer));
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
        let is_asked = metadata
            .as_ref()
            .is_some_and(|metadata| self.remember(peer, &topic, &group, metadata.clone(), &limits));
        if metadata.is_some() && !is_asked {
            let stats = &mut self.net.stats.partial;
            stats.not_remembered = stats.not_remembered.saturating_add(1);
        }
        let received =
            Received { topic: topic.clone(), group: group.clone(), parts, metadata, received_from: peer };
        self.net.actions.push_back(Action::DeliverPartial(received));
        if is_asked && self.may_be_answered(peer, &limits) {
            self.say(peer, &topic, &group, true);
        } else if is_asked && let Some(known) = self.groups.known_mut(&topic, &group, &peer) {
            known.owed = true;
        }
    }

    /// Remembers what a peer says of a message, if there is room for that.
    fn remember(
        &mut self,
        peer: PeerId,
        topic: &Topic,
        group: &Bytes,
        metadata: Bytes,
        limits: &Limits,
    ) -> bool {
        let Some(state) = self.net.peers.get(&peer) else { return false };
        let memory = (&state.words, &self.net.budget);
        if !self.groups.heard(peer, topic, group, metadata, memory, limits) {
            return false;
        }
        if !state.queue.has(topic)
            && let Some(known) = self.groups.known_mut(topic, group, &peer)
        {
            known.forget_old_gifts();
        }
        true
    }

    /// Parts of a peer's are not of the message.
    pub(super) fn reject_partial(&mut self, peer: PeerId, topic: &Topic, now: Now) {
        // The score's word for what is wrong by itself, whoever else sends it.
        self.judge.rejected(peer, &MessageId::truncated(&[]), topic, Reject::Unauthentic, now);
    }

    /// Tells what could not be told before: to those who are told of all messages since, and to those for whom there was no
    /// room.
    pub(super) fn tell_of_groups(&mut self) {
        for topic in self.groups.topics() {
            let hearers = self.hearers(&topic);
            for group in self.groups.own(&topic) {
                let Some(known) = self.groups.get(&topic, &group) else { continue };
                let hearers = hearers.iter().chain(known.speakers());
                let owed: BTreeSet<PeerId> = hearers.filter(|peer| known.is_owed_to(peer)).copied().collect();
                for peer in owed {
                    self.say(peer, &topic, &group, true);
                }
            }
        }
    }

    /// Who is told of every message of a topic: the mesh, or who stands in for it, and those who always are.
    fn hearers(&self, topic: &Topic) -> BTreeSet<PeerId> {
        let Some(known) = self.topics.get(topic) else { return BTreeSet::new() };
        let fanout = known.fanout.iter().flat_map(|fanout| &fanout.peers);
        known.mesh.iter().chain(&known.always).chain(fanout).copied().collect()
    }

    /// Tells a peer outside of the mesh what there is here, once of each message. It gets parts when it asks for them.
    pub(super) fn gossip_groups(&mut self, peer: PeerId, topic: &Topic) {
        for group in self.groups.own(topic) {
            if self.groups.get(topic, &group).is_some_and(|known| known.is_news_to(&peer)) {
                self.say(peer, topic, &group, false);
            }
        }
    }

    /// Says to a peer what there is of a message here, with parts or without, if that is news to it. Nothing is made that has no
    /// room: the program is not asked then.
    fn say(&mut self, peer: PeerId, topic: &Topic, group: &Bytes, with_parts: bool) -> Said {
        let Some(limits) = self.config.partial else { return Said::NOTHING };
        if !self.is_told(&peer, topic, group) {
            return Said::NOTHING;
        }
        let takes_parts = with_parts && self.net.mode_of(&peer, topic) == Mode::Requests;
        let most = self.most_parts(topic).min(limits.answer_bytes);
        let room = self.room(&peer, topic, group, &limits).map(|room| room.min(most));
        let Some(known_group) = self.groups.get_mut(topic, group) else { return Said::NOTHING };
        let Some(Holding(have)) = known_group.have.clone() else { return Said::NOTHING };
        let Some(room) = room else {
            if let Some(known) = known_group.peers.get_mut(&peer) {
                known.owed = true;
            }
            self.net.dropped(peer, Lane::Forward, Some(topic.clone()), DropReason::QueueFull);
            return Said::Sent(Sent::Full);
        };
        let known = known_group.peers.entry(peer).or_default();
        // What had less room than there may be is said anew at a heartbeat.
        known.owed = takes_parts && room < most;
        let nothing = Bytes::new();
        let given = known.given().unwrap_or(&nothing);
        let hearer = Hearer { peer, metadata: known.metadata(), given, takes_parts, room };
        let Ok(Say { metadata, parts, given }) = have.say(&hearer) else {
            known.forget_word();
            self.misbehaved(peer, Misdeed::NotMetadata, 1);
            return Said::NOTHING;
        };
        let is_news = known.is_news(&metadata);
        // Parts go to nobody who did not request them (spec "Changes to `SubOpts`").
        let parts = Some(parts).filter(|parts| takes_parts && !parts.is_empty());
        if !is_news && parts.is_none() {
            return Said::NOTHING;
        }
        let len = parts.as_ref().map_or(0, Bytes::len);
        // They were made, whatever becomes of them.
        if let Some(state) = self.net.peers.get_mut(&peer) {
            state.spent.parts = state.spent.parts.saturating_add(len);
        }
        if len > room || metadata.len() > MAX_METADATA || given.len() > MAX_GIVEN {
            self.net.dropped(peer, Lane::Forward, Some(topic.clone()), DropReason::TooLarge);
            return Said::TooLarge;
        }
        let given = parts.is_some().then_some(given);
        let metadata = is_news.then_some(metadata);
        let partial = codec::Partial { topic: topic.clone(), group: group.clone(), parts, metadata };
        let sent = self.send_partial(peer, &partial, given, limits.heartbeats);
        if sent == Sent::Full
            && let Some(known) = self.groups.known_mut(topic, group, &peer)
        {
            known.owed = true;
        }
        Said::Sent(sent)
    }

    /// Sends it, and remembers what the peer was told and given.
    fn send_partial(
        &mut self,
        peer: PeerId,
        partial: &codec::Partial,
        given: Option<Bytes>,
        heartbeats: u32,
    ) -> Sent {
        let codec::Partial { topic, group, parts, metadata } = partial;
        let keep = |bytes: Option<Bytes>| bytes.map(|bytes| Kept::new(bytes, &self.net.budget)).transpose();
        let (Ok(told), Ok(given)) = (keep(metadata.clone()), keep(given)) else {
            self.net.dropped(peer, Lane::Forward, Some(topic.clone()), DropReason::NoMemory);
            return Sent::Full;
        };
        let sent = self.net.partial(peer, topic, partial.write(), parts.as_ref().map_or(0, Bytes::len));
        if sent == Sent::Taken
            && let Some(known) = self.groups.known_mut(topic, group, &peer)
        {
            known.said(told, given, heartbeats);
        }
        sent
    }

    /// Whether a peer is told what there is of a message.
    fn is_told(&self, peer: &PeerId, topic: &Topic, group: &Bytes) -> bool {
        if !self.direct.contains_key(peer) && self.judge.is_below_gossip(peer) {
            return false;
        }
        let ours = self.partial_mode(topic);
        // Who has spoken of the message, and does not want the topic, publishes: it sends parts.
        let publishes = || {
            let known = self.groups.get(topic, group).and_then(|group| group.peers.get(peer));
            let state = self.net.peers.get(peer).filter(|state| state.takes_partial());
            state.is_some_and(|state| !state.topics.contains(topic))
                && known.is_some_and(|known| known.metadata().is_some())
        };
        ours.goes_with(self.net.mode_of(peer, topic)) || (ours == Mode::Requests && publishes())
    }

    /// Bytes of parts of a topic that go to a peer at once, at most.
    fn most_parts(&self, topic: &Topic) -> usize {
        let rules = self.rules.get(topic).unwrap_or(&self.config.other_topics);
        rules.max_size.min(self.config.rpc.bytes.saturating_sub(rest(MAX_TOPIC, MAX_GROUP)))
    }

    /// For how many bytes of parts there is room, in what waits for a peer and in what it gets until the next heartbeat; `None`
    /// if there may be none even for metadata.
    fn room(&self, peer: &PeerId, topic: &Topic, group: &Bytes, limits: &Limits) -> Option<usize> {
        let state = self.net.peers.get(peer)?;
        let rest = rest(topic.as_str().len(), group.len());
        let queue = state.queue.room(topic)?.checked_sub(rest)?;
        Some(queue.min(limits.answer_bytes.saturating_sub(state.spent.parts)))
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

/// Bytes of an RPC that are not parts, at most, with a topic and a group id of these lengths.
fn rest(topic: usize, group: usize) -> usize {
    topic.saturating_add(group).saturating_add(MAX_METADATA).saturating_add(HEADS)
}

/// What became of what was to be said.
enum Said {
    Sent(Sent),
    TooLarge,
}

impl Said {
    const NOTHING: Self = Self::Sent(Sent::Skipped);
}
