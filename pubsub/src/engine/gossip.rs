use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use bytes::Bytes;
use peerage_core::{Now, PeerId};
use rand::{RngExt as _, seq::SliceRandom as _};

use super::{Engine, IdMap};
use crate::{
    codec::{Control, IHave},
    message::MessageId,
    queue::Lane,
    seen::Keyed,
    topic::Topic,
};

/// Messages that peers have said to have and were asked for (gossipsub 1.1, "Tracking of Broken Promises").
#[derive(Debug)]
pub(super) struct Promises {
    by_message: IdMap<BTreeMap<PeerId, Instant>>,
}

impl Promises {
    pub(super) fn new(key: Keyed) -> Self {
        Self { by_message: HashMap::with_hasher(key) }
    }

    /// A peer was asked for a message that it said it had.
    fn made(&mut self, id: MessageId, peer: PeerId, until: Instant) {
        self.by_message.entry(id).or_default().entry(peer).or_insert(until);
    }

    /// The message is there, from wherever.
    pub(super) fn kept(&mut self, id: &MessageId) {
        if !self.by_message.is_empty() {
            self.by_message.remove(id);
        }
    }

    /// How many promises each peer has broken by now.
    pub(super) fn broken(&mut self, now: Now) -> BTreeMap<PeerId, u32> {
        let mut broken: BTreeMap<PeerId, u32> = BTreeMap::new();
        // The order in which a map is walked does not matter to a sum.
        self.by_message.retain(|_, peers| {
            peers.retain(|peer, until| {
                let kept = *until > now.mono;
                if !kept {
                    let count = broken.entry(*peer).or_default();
                    *count = count.saturating_add(1);
                }
                kept
            });
            !peers.is_empty()
        });
        broken
    }

    /// A peer is gone, and can keep nothing.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.by_message.retain(|_, peers| {
            peers.remove(&peer);
            !peers.is_empty()
        });
    }

    pub(super) fn len(&self) -> usize {
        self.by_message.values().map(BTreeMap::len).sum()
    }
}

impl Engine {
    /// A peer says what it has: it is asked for what is not known, within what one peer may promise.
    pub(super) fn heard_ihave(&mut self, peer: PeerId, ihave: Vec<IHave>, now: Now) {
        if ihave.is_empty() || self.judge.is_below_gossip(&peer) {
            return;
        }
        let Some(state) = self.net.peers.get_mut(&peer) else { return };
        state.spent.ihave_messages = state.spent.ihave_messages.saturating_add(1);
        if state.spent.ihave_messages > self.config.max_ihave_messages {
            self.net.stats.ihave_ignored = self.net.stats.ihave_ignored.saturating_add(1);
            return;
        }
        let room = self.config.max_ihave.saturating_sub(state.spent.asked);
        let mut wanted: Vec<Bytes> = Vec::new();
        for IHave { topic, ids } in ihave {
            self.net.stats.ihave_received = self.net.stats.ihave_received.saturating_add(ids.len() as u64);
            if self.topics.get(&topic).is_some_and(|known| known.subscribed) {
                let new = |id: &Bytes| {
                    let id: &[u8] = id;
                    !self.seen.contains(id) && !self.intake.is_checking(id)
                };
                wanted.extend(ids.into_iter().filter(new));
            }
        }
        if wanted.is_empty() || room == 0 {
            return;
        }
        wanted.shuffle(&mut self.rng);
        wanted.truncate(room);
        let mut control = Control::default();
        control.iwant(wanted.iter().map(|id| &id[..]));
        // A peer that cannot be asked now promises nothing; it says what it has again.
        if !self.net.controls(peer, Lane::Gossip, control.finish()) {
            return;
        }
        if let Some(state) = self.net.peers.get_mut(&peer) {
            state.spent.asked = state.spent.asked.saturating_add(wanted.len());
        }
        self.net.stats.iwant_sent = self.net.stats.iwant_sent.saturating_add(wanted.len() as u64);
        // One of them stands for all; which, the peer cannot know.
        let promised = self.rng.random_range(0..wanted.len());
        if let Some(id) = wanted.get(promised) {
            self.promises.made(MessageId::truncated(id), peer, now.after(self.config.promise));
        }
    }

    /// A peer asks for messages: it gets them, each a few times at most.
    pub(super) fn heard_iwant(&mut self, peer: PeerId, ids: &[Bytes]) {
        if ids.is_empty() || self.judge.is_below_gossip(&peer) {
            return;
        }
        for id in ids {
            self.net.stats.iwant_received = self.net.stats.iwant_received.saturating_add(1);
            if let Some((parcel, before)) = self.cache.want(id, peer)
                && before < self.config.retransmissions
            {
                self.net.message(peer, &parcel, false);
            }
        }
    }

    /// A peer says what it does not want.
    pub(super) fn heard_idontwant(&mut self, peer: PeerId, ids: &[Bytes], entries: usize) {
        if ids.is_empty() {
            return;
        }
        let (max, ttl) = (self.config.max_idontwant, self.config.idontwant_ttl);
        let Some(state) = self.net.peers.get_mut(&peer) else { return };
        state.spent.idontwant_entries = state.spent.idontwant_entries.saturating_add(entries);
        if state.spent.idontwant_entries > max {
            return;
        }
        let room = max.saturating_sub(state.spent.idontwant_ids);
        for id in ids.iter().take(room) {
            state.spent.idontwant_ids = state.spent.idontwant_ids.saturating_add(1);
            state.dont_want.insert(MessageId::truncated(id), ttl);
        }
        self.net.stats.idontwant_received =
            self.net.stats.idontwant_received.saturating_add(ids.len() as u64);
    }

    /// Tells some peers outside of the mesh what was heard lately: those whose turn it is. Were they chosen by lot each time, a third
    /// would be told of a message twice while it is told of, and nearly half not at all; and where most peers are silent
    /// Sybils, gossip is all there is.
    pub(super) fn emit_gossip(&mut self, topic: &Topic) {
        let mut ids = self.cache.gossip(topic);
        if ids.is_empty() && !self.groups.has_own(topic) {
            return;
        }
        ids.shuffle(&mut self.rng);
        ids.truncate(self.config.max_ihave);
        let Some(known) = self.topics.get_mut(topic) else { return };
        let mesh = &self.config.mesh;
        let fanout = known.fanout.as_ref().map(|fanout| &fanout.peers);
        let mut eligible: Vec<PeerId> = (known.peers.iter())
            .filter(|peer| {
                !known.mesh.contains(peer)
                    && !known.always.contains(peer)
                    && !fanout.is_some_and(|fanout| fanout.contains(peer))
                    && self.net.peers.get(peer).is_some_and(super::net::Peer::is_gossip)
                    && !self.judge.is_below_gossip(peer)
            })
            .copied()
            .collect();
        let part = share(eligible.len(), mesh.gossip_factor);
        eligible.shuffle(&mut self.rng);
        eligible.sort_by_key(|peer| known.gossiped.get(peer).copied());
        eligible.truncate(mesh.lazy.max(part));
        known.gossiped.extend(eligible.iter().map(|peer| (*peer, self.heartbeats)));
        // To who requests parts, what there is of partial messages takes the place of IHAVEs.
        let (partial, eligible): (Vec<_>, Vec<_>) =
            eligible.into_iter().partition(|peer| self.takes_parts(peer, topic));
        partial.into_iter().for_each(|peer| self.gossip_groups(peer, topic));
        if eligible.is_empty() || ids.is_empty() {
            return;
        }
        let mut control = Control::default();
        control.ihave(topic, &ids);
        let frames = control.finish();
        for peer in eligible {
            self.net.stats.ihave_sent = self.net.stats.ihave_sent.saturating_add(ids.len() as u64);
            for frame in &frames {
                self.net.control(peer, Lane::Gossip, frame.clone());
            }
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a part, between 0 and 1, of a number of peers"
)]
fn share(peers: usize, factor: f64) -> usize {
    (peers as f64 * factor) as usize
}
