//! What there is of messages that travel in parts, here and at peers, and what was said of it.

use std::collections::{BTreeMap, btree_map::Entry};

use bytes::Bytes;
use peerage_core::{
    PeerId,
    budget::{Budget, Exhausted, Reserved},
};

use crate::{
    partial::{Holding, Limits, PublishError},
    topic::Topic,
};

/// Bytes that a peer's word takes, beside those of the metadata and of the group id.
const ENTRY: usize = 256;

/// Messages by topic and group id.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<Topic, BTreeMap<Bytes, Group>>);

/// One message.
#[derive(Debug)]
pub(super) struct Group {
    /// What there is of it here; peers may speak of it before.
    pub(super) have: Option<Holding>,
    /// Who has brought it up, as long as there is nothing here.
    by: Option<PeerId>,
    /// Heartbeats until it is forgotten.
    left: u32,
    pub(super) peers: BTreeMap<PeerId, Known>,
}

/// What a peer and this node have told each other of one message.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What it said last that it has and wants, and what that takes of its share of the memory.
    word: Option<(Kept, Reserved)>,
    /// What it was told last.
    told: Option<Kept>,
    /// Heartbeats after which that may be said again: it may have been lost, or forgotten.
    told_left: u32,
    /// What it was given, as the program writes it.
    given: Option<Kept>,
    /// Heartbeats after which what the peer says was said after that came.
    given_left: u32,
    /// Whether it is to be told at a heartbeat, for there was no room.
    pub(super) owed: bool,
}

/// Something that is kept, and the node's memory that it takes.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: Bytes,
    _charge: Reserved,
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

    pub(super) fn topics(&self) -> Vec<Topic> {
        self.0.keys().cloned().collect()
    }

    /// Whether there is anything of a topic here.
    pub(super) fn has_own(&self, topic: &Topic) -> bool {
        self.0.get(topic).is_some_and(|groups| groups.values().any(|group| group.have.is_some()))
    }

    /// The messages of a topic of which there is something here.
    pub(super) fn own(&self, topic: &Topic) -> Vec<Bytes> {
        let groups = self.0.get(topic).into_iter().flatten();
        groups.filter(|(_, group)| group.have.is_some()).map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn get(&self, topic: &Topic, group: &Bytes) -> Option<&Group> {
        self.0.get(topic)?.get(group)
    }

    pub(super) fn get_mut(&mut self, topic: &Topic, group: &Bytes) -> Option<&mut Group> {
        self.0.get_mut(topic)?.get_mut(group)
    }

    pub(super) fn known_mut(&mut self, topic: &Topic, group: &Bytes, peer: &PeerId) -> Option<&mut Known> {
        self.get_mut(topic, group)?.peers.get_mut(peer)
    }

    /// Takes what there is of a message here.
    pub(super) fn publish(
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

    /// Remembers what a peer has of a message, and wants; whether there was room for that, among messages, and in both its share
    /// of the memory and the node's. The newer word takes the older one's place (spec "partsMetadata"), which does not hold any
    /// more in any case.
    pub(super) fn heard(
        &mut self,
        peer: PeerId,
        topic: &Topic,
        group: &Bytes,
        metadata: Bytes,
        (share, budget): (&Budget, &Budget),
        limits: &Limits,
    ) -> bool {
        if let Some(known) = self.known_mut(topic, group, &peer) {
            known.word = None;
        }
        let groups = self.0.entry(topic.clone()).or_default();
        if !groups.contains_key(group) {
            let others = || groups.values().filter(|group| group.have.is_none());
            let its = others().filter(|group| group.by == Some(peer)).count();
            if others().count() >= limits.groups || its >= limits.groups_per_peer {
                return false;
            }
        }
        let bytes = group.len().saturating_add(metadata.len()).saturating_add(ENTRY);
        let (Ok(share), Ok(charge)) = (share.reserve(bytes), budget.reserve(bytes)) else { return false };
        let fresh = || Group { have: None, by: Some(peer), left: limits.heartbeats, peers: BTreeMap::new() };
        let known = groups.entry(group.clone()).or_insert_with(fresh).peers.entry(peer).or_default();
        known.word = Some((Kept { bytes: metadata, _charge: charge }, share));
        true
    }

    /// A heartbeat has passed.
    pub(super) fn expire(&mut self) {
        self.0.retain(|_, groups| {
            groups.retain(|_, group| {
                group.left = group.left.saturating_sub(1);
                for known in group.peers.values_mut() {
                    known.told_left = known.told_left.saturating_sub(1);
                    known.given_left = known.given_left.saturating_sub(1);
                }
                group.left > 0
            });
            !groups.is_empty()
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
            known.forget_told();
        }
    }

    /// A peer does not want a topic any more, or no parts of its messages.
    pub(super) fn forget_in(&mut self, topic: &Topic, peer: &PeerId) {
        let Some(groups) = self.0.get_mut(topic) else { return };
        groups.retain(|_, group| group.forget(peer));
        if groups.is_empty() {
            self.0.remove(topic);
        }
    }

    /// What a peer has said does not count any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.0.retain(|_, groups| {
            groups.retain(|_, group| group.forget(peer));
            !groups.is_empty()
        });
    }
}

impl Group {
    /// Forgets a peer; whether there is anything else to remember.
    fn forget(&mut self, peer: &PeerId) -> bool {
        self.peers.remove(peer);
        self.have.is_some() || !self.peers.is_empty()
    }

    /// Who has said what it has of it.
    pub(super) fn speakers(&self) -> impl Iterator<Item = &PeerId> {
        self.peers.iter().filter(|(_, known)| known.word.is_some()).map(|(peer, _)| peer)
    }

    /// Whether a peer was never told of it, as far as one knows.
    pub(super) fn is_news_to(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_none_or(|known| known.told.is_none())
    }

    /// Whether a peer has to be told something at a heartbeat.
    pub(super) fn is_owed_to(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_none_or(|known| known.told.is_none() || known.owed)
    }
}

impl Kept {
    pub(super) fn new(bytes: Bytes, budget: &Budget) -> Result<Self, Exhausted> {
        let charge = budget.reserve(bytes.len())?;
        Ok(Self { bytes, _charge: charge })
    }
}

impl Known {
    /// What the peer said last that it has, and wants.
    pub(super) fn metadata(&self) -> Option<&Bytes> {
        self.word.as_ref().map(|(metadata, _)| &metadata.bytes)
    }

    /// What it was given.
    pub(super) fn given(&self) -> Option<&Bytes> {
        self.given.as_ref().map(|given| &given.bytes)
    }

    /// Whether the peer has to be told this: it was not, or so long ago that it may be lost.
    pub(super) fn is_news(&self, metadata: &Bytes) -> bool {
        self.told_left == 0 || self.told.as_ref().is_none_or(|told| told.bytes != *metadata)
    }

    /// The peer was told what this node has, if that was news, and has been given so much by now, if that is more.
    pub(super) fn said(&mut self, told: Option<Kept>, given: Option<Kept>, heartbeats: u32) {
        if told.is_some() {
            (self.told, self.told_left) = (told, heartbeats);
        }
        if given.is_some() {
            (self.given, self.given_left) = (given, heartbeats);
        }
    }

    /// What the peer said is no metadata.
    pub(super) fn forget_word(&mut self) {
        self.word = None;
    }

    /// The peer may have forgotten all, and what was under way to it is lost.
    fn forget_told(&mut self) {
        (self.told, self.given) = (None, None);
    }

    /// The peer has spoken, and nothing of the topic waits for it: what it was given long ago, and wants still, did not come.
    pub(super) fn forget_old_gifts(&mut self) {
        if self.given_left == 0 {
            self.given = None;
        }
    }
}
