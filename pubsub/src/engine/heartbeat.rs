use std::collections::BTreeMap;

use peerage_core::{Now, PeerId};

use super::{
    Action, Engine,
    net::{Link, Spent},
    peers::PROVISIONAL,
};
use crate::{
    codec::Control,
    event::{Misdeed, PruneReason},
    queue::Lane,
    topic::Topic,
};

/// GRAFTs of one heartbeat, one frame for each peer.
type Grafts = BTreeMap<PeerId, Control>;

impl Engine {
    pub(super) fn heartbeat(&mut self, now: Now) {
        self.heartbeats = self.heartbeats.saturating_add(1);
        self.judge.refresh(now);
        self.renew_peers(now);
        for (peer, count) in self.promises.broken(now) {
            self.misbehaved(peer, Misdeed::BrokenPromise, count);
        }
        self.seen.expire(now);
        self.expire_backoffs(now);
        if self.heartbeats.saturating_sub(1).is_multiple_of(self.config.direct_ticks) {
            self.dial_direct();
        }

        let topics: Vec<Topic> = self.topics.keys().cloned().collect();
        let mut grafts = Grafts::new();
        for topic in &topics {
            match self.topics.get(topic) {
                Some(known) if known.subscribed => {
                    self.maintain(topic, &mut grafts, now);
                    self.emit_gossip(topic);
                }
                Some(known) if known.fanout.is_some() => {
                    self.maintain_fanout(topic, now);
                    self.emit_gossip(topic);
                }
                _ => {}
            }
            self.tidy(topic);
        }
        for (peer, control) in grafts {
            self.net.controls(peer, Lane::Control, control.finish());
        }
        self.tell_of_groups();
        self.groups.expire();
        self.cache.shift();
        self.report();
    }

    /// Peers may send as much again; streams are tried again; what nobody has connected with is forgotten.
    fn renew_peers(&mut self, now: Now) {
        let (mut reopen, mut gone) = (Vec::new(), Vec::new());
        for (peer, state) in &mut self.net.peers {
            state.spent = Spent::default();
            if !state.dont_want.is_empty() {
                state.dont_want.retain(|_, left| {
                    *left = left.saturating_sub(1);
                    *left > 0
                });
            }
            if state.connections.is_empty() && now.since(state.since) >= PROVISIONAL {
                gone.push(*peer);
            } else if let Link::Closed { again: Some(again), .. } = state.link
                && again <= now.mono
                && !self.blacklist.contains(peer)
            {
                reopen.push(*peer);
            }
        }
        gone.into_iter().for_each(|peer| self.forget(peer, now));
        reopen.into_iter().for_each(|peer| self.open_link(peer));
    }

    fn expire_backoffs(&mut self, now: Now) {
        let slack = self.config.heartbeat.saturating_mul(self.config.backoff_slack);
        for known in self.topics.values_mut().filter(|known| !known.backoff.is_empty()) {
            // Compared as a length of time: a point in time so far ahead could overflow.
            known.backoff.retain(|_, until| now.since(*until) < slack || *until > now.mono);
        }
    }

    /// Keeps a mesh as large, and as good, as it should be (gossipsub 1.1, "Mesh maintenance").
    fn maintain(&mut self, topic: &Topic, grafts: &mut Grafts, now: Now) {
        let mesh = self.config.mesh;
        let members = |engine: &Self| -> Vec<PeerId> { engine.mesh(topic).copied().collect() };
        for peer in members(self) {
            if self.judge.standing(&peer, topic) < 0.0 {
                self.put_out(peer, topic, PruneReason::BadScore, now);
            }
        }
        let size = self.mesh(topic).count();
        if size < mesh.low {
            self.graft_some(topic, mesh.size.saturating_sub(size), grafts, now, |_, _| true);
        }
        if size > mesh.high {
            for peer in self.too_many(members(self)) {
                self.put_out(peer, topic, PruneReason::TooMany, now);
            }
        }
        let outbound = self.mesh(topic).filter(|peer| self.is_dialed(peer)).count();
        if self.mesh(topic).count() >= mesh.low && outbound < mesh.outbound {
            self.graft_some(topic, mesh.outbound.saturating_sub(outbound), grafts, now, |engine, peer| {
                engine.is_dialed(peer)
            });
        }
        if self.heartbeats.is_multiple_of(self.config.opportunistic_ticks) {
            self.graft_opportunistically(topic, members(self), grafts, now);
        }
    }

    fn graft_some(
        &mut self,
        topic: &Topic,
        count: usize,
        grafts: &mut Grafts,
        now: Now,
        fits: impl Fn(&Self, &PeerId) -> bool,
    ) {
        let chosen = self
            .choose(topic, count, |engine, peer| fits(engine, peer) && engine.may_be_grafted(peer, topic));
        for peer in chosen {
            self.graft(peer, topic, true, now);
            grafts.entry(peer).or_default().graft(topic);
        }
    }

    /// Who leaves a mesh that is too large: not the best, and not the last that this node has dialed.
    fn too_many(&mut self, members: Vec<PeerId>) -> Vec<PeerId> {
        let mesh = self.config.mesh;
        // In random order first: equals are equal.
        let mut members = self.shuffled(members);
        members.sort_by(|a, b| self.judge.score(b).total_cmp(&self.judge.score(a)));
        let rest = members.split_off(mesh.best.min(members.len()));
        members.extend(self.shuffled(rest));
        let mut leaving = members.split_off(mesh.size.min(members.len()));
        let dialed = members.iter().filter(|peer| self.is_dialed(peer)).count();
        let missing = mesh.outbound.saturating_sub(dialed);
        let (mut returning, others): (Vec<_>, Vec<_>) =
            leaving.into_iter().partition(|peer| self.is_dialed(peer));
        leaving = others;
        leaving.extend(returning.split_off(missing.min(returning.len())));
        // Each that comes back takes the place of the last that is neither among the best nor dialed.
        for _ in returning {
            let place = members.iter().rposition(|peer| !self.is_dialed(peer));
            if let Some(place) = place.filter(|place| *place >= mesh.best) {
                leaving.push(members.remove(place));
            }
        }
        leaving
    }

    /// A mesh whose median is poor takes in who is better: else it could be full of peers that do just enough.
    fn graft_opportunistically(
        &mut self,
        topic: &Topic,
        members: Vec<PeerId>,
        grafts: &mut Grafts,
        now: Now,
    ) {
        let mut scores: Vec<f64> = members.iter().map(|peer| self.judge.score(peer)).collect();
        scores.sort_by(f64::total_cmp);
        let Some(median) = scores.get(scores.len() / 2).copied().filter(|_| scores.len() > 1) else { return };
        if !self.judge.is_poor(median) {
            return;
        }
        let count = self.config.opportunistic_peers;
        self.graft_some(topic, count, grafts, now, |engine, peer| engine.judge.score(peer) > median);
    }

    fn maintain_fanout(&mut self, topic: &Topic, now: Now) {
        let Some(known) = self.topics.get_mut(topic) else { return };
        let Some(fanout) = &mut known.fanout else { return };
        if now.since(fanout.published) >= self.config.fanout_ttl {
            known.fanout = None;
            self.net.stats.retire(topic);
            return;
        }
        let judge = &self.judge;
        fanout.peers.retain(|peer| known.peers.contains(peer) && judge.may_be_published_to(peer));
        self.fill_fanout(topic);
    }

    fn is_dialed(&self, peer: &PeerId) -> bool {
        self.net.peers.get(peer).is_some_and(|state| state.dialed)
    }

    /// Shows what was counted.
    fn report(&mut self) {
        let stats = &mut self.net.stats;
        stats.heartbeats = self.heartbeats;
        stats.seen = self.seen.len();
        stats.cached = self.cache.len();
        stats.cached_bytes = self.cache.bytes();
        stats.in_progress = self.intake.in_progress();
        stats.meshes.clear();
        for (topic, known) in self.topics.iter().filter(|(_, known)| known.subscribed) {
            stats.meshes.insert(topic.clone(), (known.mesh.len(), known.peers.len()));
        }
        stats.versions.clear();
        for version in self.net.peers.values().filter_map(super::net::Peer::version) {
            let count = stats.versions.entry(version).or_default();
            *count = usize::saturating_add(*count, 1);
        }
        let stats = Box::new(stats.clone());
        self.net.actions.push_back(Action::Stats(stats));
    }
}
