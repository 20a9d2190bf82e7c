use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use peerage_core::PeerId;
use peerage_host::limits::Prefix;

use super::{
    Breakdown, Params, ParamsError, TopicParams,
    colocation::{Addresses, counted},
    counters::{self, Counters, Globals},
    params::intervals,
    records::{Records, State, after},
};
use crate::{MessageId, Topic};

/// The most peers whose faults are remembered after they are gone. For one more the one goes that would go next.
pub const MAX_GONE: usize = 8192;
/// The most peers that a program has an opinion of.
pub const MAX_APP_SCORES: usize = 65_536;
/// The best opinion there is of a peer; its opposite is the worst.
pub const MAX_APP_SCORE: f64 = 1e9;

/// Why a message was not accepted, as far as that matters to the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reject {
    /// It breaks the rules of its topic for authors and signatures, or a signature is wrong. Who sent it could know.
    Unauthentic,
    /// It names this node as its author, but this node did not write it.
    SelfOrigin,
    /// A validator said that it is invalid. All who sent it could know.
    Invalid,
    /// A validator said that it is not to be spread, and nobody's fault.
    Ignored,
    /// It was not validated: there was too much to do, or it took too long.
    Throttled,
    /// Its author or sender is on a list of this node's.
    Blacklisted,
}

/// How much an [`Engine`] remembers, for tests and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Peers that are connected.
    pub connected: usize,
    /// Peers that are gone and whose faults are remembered; [`MAX_GONE`] at most.
    pub gone: usize,
    /// Messages whose deliveries are remembered; [`MAX_RECORDS`](super::MAX_RECORDS) at most.
    pub records: usize,
    /// Addresses of peers.
    pub addresses: usize,
}

/// The scores of all peers. The rules are in the [module's documentation](super).
#[derive(Debug)]
pub struct Engine {
    params: Params,
    peers: BTreeMap<PeerId, Peer>,
    /// When each peer that is gone is forgotten.
    gone: BTreeSet<(Instant, PeerId)>,
    addresses: Addresses,
    app: BTreeMap<PeerId, f64>,
    records: Records,
    /// Up to when counters have decayed.
    refreshed: Option<Instant>,
}

#[derive(Debug, Default)]
struct Peer {
    /// When it is forgotten; `None` while it is connected.
    forget: Option<Instant>,
    ip: Option<IpAddr>,
    /// What that counts as.
    at: Option<Prefix>,
    topics: BTreeMap<Topic, Counters>,
    misbehaviour: f64,
    /// The score; `None` when it must be computed again.
    score: Cell<Option<f64>>,
}

impl Engine {
    /// Nobody known.
    pub fn new(params: Params) -> Self {
        Self {
            params,
            peers: BTreeMap::new(),
            gone: BTreeSet::new(),
            addresses: Addresses::default(),
            app: BTreeMap::new(),
            records: Records::default(),
            refreshed: None,
        }
    }

    /// The score of a peer; 0 for one that is not known, but for what the program thinks of it.
    pub fn score(&self, peer: &PeerId) -> f64 {
        let known = self.peers.get(peer);
        if let Some(score) = known.and_then(|known| known.score.get()) {
            return score;
        }
        let settings = self.params.settings();
        let topics = known.map(|known| &known.topics).into_iter().flatten();
        let in_topics = counters::in_topics(settings, topics, |_, _| {});
        let score = counters::total(in_topics, counters::in_general(settings, self.globals(peer)));
        if let Some(known) = known {
            known.score.set(Some(score));
        }
        score
    }

    /// What decides whether a peer may be in the mesh of a topic: it may not, when this is negative.
    ///
    /// With the [gate](super::Settings::gate) it is the lower of the peer's score and of what the topic alone adds to it. Without
    /// it is the score, in which good deeds in other topics hide that a peer never forwards in this one: with the
    /// parameters of Ethereum it can do so for ever (Kumar et al., "Formal Model-Driven Analysis of Resilience of
    /// GossipSub to Attacks from Misbehaving Peers", CVE-2022-47547).
    pub fn standing(&self, peer: &PeerId, topic: &Topic) -> f64 {
        let settings = self.params.settings();
        let score = self.score(peer);
        let counters = || self.peers.get(peer)?.topics.get(topic);
        match (settings.topics.get(topic), counters()) {
            (Some(params), Some(counters)) if settings.gate => score.min(counters.breakdown(params).score()),
            _ => score,
        }
    }

    /// What the score of a peer is made of.
    pub fn breakdown(&self, peer: &PeerId) -> Breakdown {
        let topics = self.peers.get(peer).map(|known| &known.topics).into_iter().flatten();
        counters::breakdown(self.params.settings(), topics, self.globals(peer))
    }

    /// By what is scored.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Scores by other parameters from now on. Counters stay, up to the new caps; those of topics that are not scored
    /// any more go.
    pub fn set_params(&mut self, params: Params) {
        self.params = params;
        let settings = self.params.settings();
        self.addresses = Addresses::default();
        for (id, peer) in &mut self.peers {
            peer.topics.retain(|topic, counters| match settings.topics.get(topic) {
                Some(params) => {
                    counters.recap(params);
                    true
                }
                None => false,
            });
            peer.score.set(None);
            // Who is counted where may have changed.
            peer.at = settings.colocation.as_ref().zip(peer.ip).and_then(|(p6, ip)| counted(ip, p6));
            if let Some(at) = peer.at {
                self.addresses.insert(at, *id);
            }
        }
    }

    /// Sets or, with `None`, removes the parameters of one topic. What is counted there stays, up to the new caps, or goes.
    ///
    /// # Errors
    /// The first rule that is broken; then nothing has changed.
    pub fn set_topic(&mut self, topic: &Topic, params: Option<TopicParams>) -> Result<(), ParamsError> {
        self.params.set_topic(topic, params)?;
        for peer in self.peers.values_mut() {
            match &params {
                Some(params) => {
                    if let Some(counters) = peer.topics.get_mut(topic) {
                        counters.recap(params);
                    }
                }
                None => drop(peer.topics.remove(topic)),
            }
            peer.score.set(None);
        }
        Ok(())
    }

    /// A peer is connected, or from another address than before.
    pub fn connected(&mut self, peer: PeerId, ip: Option<IpAddr>, now: Instant) {
        self.refreshed.get_or_insert(now);
        let known = self.peers.entry(peer).or_default();
        if let Some(at) = known.forget.take() {
            self.gone.remove(&(at, peer));
        }
        let colocation = self.params.settings().colocation.as_ref();
        let at = colocation.zip(ip).and_then(|(p6, ip)| counted(ip, p6));
        known.ip = ip;
        known.score.set(None);
        let old = std::mem::replace(&mut known.at, at);
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.move_out(old, peer);
        }
        if let Some(at) = at {
            self.addresses.insert(at, peer);
            self.score_anew(at);
        }
    }

    /// A peer is not at an address any more, which changes the scores of all others there.
    fn move_out(&mut self, at: Prefix, peer: PeerId) {
        self.addresses.remove(at, peer);
        self.score_anew(at);
    }

    fn score_anew(&self, at: Prefix) {
        for peer in self.addresses.peers(at) {
            if let Some(known) = self.peers.get(peer) {
                known.score.set(None);
            }
        }
    }

    /// A peer has no connection any more. Its rewards are gone; its faults, if it has any, are remembered for
    /// [`Settings::retain`](super::Settings::retain).
    pub fn disconnected(&mut self, peer: PeerId, now: Instant) {
        let settings = self.params.settings();
        let Some(known) = self.peers.get_mut(&peer).filter(|known| known.forget.is_none()) else {
            return;
        };
        known.topics.retain(|topic, counters| {
            if let Some(params) = settings.topics.get(topic) {
                counters.prune(params);
            }
            counters.forget_rewards();
            !counters.is_clean()
        });
        known.score.set(None);
        let clean = known.topics.is_empty() && known.misbehaviour == 0.0;
        if clean || settings.retain.is_zero() {
            self.forget(peer);
            return;
        }
        let at = after(now, settings.retain);
        known.forget = Some(at);
        self.gone.insert((at, peer));
        while self.gone.len() > MAX_GONE
            && let Some((_, next)) = self.gone.first().copied()
        {
            self.forget(next);
        }
    }

    /// Nobody has a connection any more, as far as is known, and what was being validated is not. How many peers had earned
    /// something, or could have.
    pub(crate) fn all_disconnected(&mut self, now: Instant) -> usize {
        self.records = Records::default();
        let connected = self.peers.iter().filter(|(_, known)| known.forget.is_none());
        let connected: Vec<(PeerId, bool)> =
            connected.map(|(peer, known)| (*peer, !known.topics.is_empty())).collect();
        connected.iter().for_each(|(peer, _)| self.disconnected(*peer, now));
        connected.iter().filter(|(_, scored)| *scored).count()
    }

    /// A peer joined the mesh of a topic.
    pub fn grafted(&mut self, peer: PeerId, topic: &Topic, now: Instant) {
        self.edit(&peer, topic, |counters, _| counters.graft(now));
    }

    /// A peer left the mesh of a topic. What it owed at that moment is held against it (P3b).
    pub fn pruned(&mut self, peer: PeerId, topic: &Topic, _now: Instant) {
        self.edit(&peer, topic, Counters::prune);
    }

    /// A peer brought a message that was not seen before, and whose validation begins.
    pub fn validating(&mut self, peer: PeerId, id: &MessageId, topic: &Topic, now: Instant) {
        if self.is_scored(topic) {
            self.records.entry(id, now).sent_by(peer);
        }
    }

    /// A message is valid; `peer` was the first to bring it.
    pub fn delivered(&mut self, peer: PeerId, id: &MessageId, topic: &Topic, now: Instant) {
        let Some(params) = self.params.settings().topics.get(topic) else {
            return;
        };
        let window = params.mesh_deliveries.map(|p3| p3.window);
        let record = self.records.entry(id, now);
        if record.state != State::Validating {
            return;
        }
        record.sent_by(peer);
        // Whoever sent it while it was being validated could not have had it from here.
        let near_first: Vec<PeerId> = record.senders().copied().filter(|sender| *sender != peer).collect();
        match window {
            Some(window) => self.records.settle(id, State::Valid(now), after(now, window)),
            None => self.records.remove(id),
        }
        self.edit(&peer, topic, Counters::first_delivery);
        for sender in near_first {
            self.edit(&sender, topic, Counters::mesh_delivery);
        }
    }

    /// A message was not accepted; `peer` was the first to bring it.
    pub fn rejected(&mut self, peer: PeerId, id: &MessageId, topic: &Topic, reason: Reject, now: Instant) {
        match reason {
            Reject::Unauthentic | Reject::SelfOrigin => {
                self.edit(&peer, topic, |counters, _| counters.invalid())
            }
            Reject::Blacklisted | Reject::Ignored | Reject::Throttled => self.records.remove(id),
            Reject::Invalid => self.invalid(peer, id, topic, now),
        }
    }

    fn invalid(&mut self, peer: PeerId, id: &MessageId, topic: &Topic, now: Instant) {
        if !self.is_scored(topic) {
            return;
        }
        let record = self.records.entry(id, now);
        if record.state != State::Validating {
            return;
        }
        record.sent_by(peer);
        let mut senders = record.take_senders();
        senders.insert(peer);
        self.records.settle(id, State::Invalid, after(now, self.params.settings().remember));
        for sender in senders {
            self.edit(&sender, topic, |counters, _| counters.invalid());
        }
    }

    /// A peer brought a message that was seen before.
    pub fn duplicate(&mut self, peer: PeerId, id: &MessageId, topic: &Topic, now: Instant) {
        let Some(record) = self.records.get(id) else {
            return;
        };
        match record.state {
            State::Validating => {
                record.sent_by(peer);
            }
            State::Valid(since) => {
                if record.sent_by(peer) {
                    let late = now.saturating_duration_since(since);
                    self.edit(&peer, topic, |counters, params| {
                        if params.mesh_deliveries.is_some_and(|p3| late <= p3.window) {
                            counters.mesh_delivery(params);
                        }
                    });
                }
            }
            State::Invalid => self.edit(&peer, topic, |counters, _| counters.invalid()),
        }
    }

    /// Counts misbehaviour of a peer, for P7: a GRAFT during backoff, a promise that was not kept, a flood.
    pub fn penalize(&mut self, peer: PeerId, count: u32) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.misbehaviour += f64::from(count);
            known.score.set(None);
        }
    }

    /// Sets P5, what the program thinks of a peer, within [`MAX_APP_SCORE`]; also of one that is not connected. It stays
    /// until it is set to 0. Returns whether it was taken: not what is no number, nor an opinion of more than
    /// [`MAX_APP_SCORES`] peers.
    pub fn set_app_score(&mut self, peer: PeerId, score: f64) -> bool {
        if let Some(known) = self.peers.get(&peer) {
            known.score.set(None);
        }
        if score == 0.0 {
            self.app.remove(&peer);
            return true;
        }
        let room = self.app.len() < MAX_APP_SCORES || self.app.contains_key(&peer);
        let taken = room && !score.is_nan();
        if taken {
            self.app.insert(peer, score.clamp(-MAX_APP_SCORE, MAX_APP_SCORE));
        }
        taken
    }

    /// Lets counters decay, by as many whole intervals as have passed, and forgets what has expired. Call it about once in
    /// a [`Settings::decay_interval`](super::Settings::decay_interval); more often does no harm.
    pub fn refresh(&mut self, now: Instant) {
        self.records.expire(now);
        while let Some((_, peer)) = self.gone.first().copied().filter(|(at, _)| *at <= now) {
            self.forget(peer);
        }
        let settings = self.params.settings();
        let since = *self.refreshed.get_or_insert(now);
        let steps = intervals(since, now, settings.decay_interval);
        if steps == 0 {
            return;
        }
        self.refreshed = Some(after(since, settings.decay_interval.saturating_mul(steps)));
        let to_zero = settings.decay_to_zero;
        for peer in self.peers.values_mut().filter(|peer| peer.forget.is_none()) {
            for (topic, counters) in &mut peer.topics {
                if let Some(params) = settings.topics.get(topic) {
                    counters.refresh(params, steps, to_zero, now);
                }
            }
            let decay = settings.behaviour.map_or(0.0, |p7| p7.decay);
            peer.misbehaviour = counters::decayed(peer.misbehaviour, decay, steps, to_zero);
            peer.score.set(None);
        }
    }

    /// How much is remembered.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            connected: self.peers.len().saturating_sub(self.gone.len()),
            gone: self.gone.len(),
            records: self.records.len(),
            addresses: self.addresses.len(),
        }
    }

    fn is_scored(&self, topic: &Topic) -> bool {
        self.params.settings().topics.contains_key(topic)
    }

    fn globals(&self, peer: &PeerId) -> Globals {
        let app = self.app.get(peer).copied().unwrap_or(0.0);
        let Some(known) = self.peers.get(peer) else {
            return Globals { app, ..Globals::default() };
        };
        let colocation = self.params.settings().colocation.as_ref();
        let surplus = known.at.zip(colocation).map_or(0, |(at, params)| self.addresses.surplus(at, params));
        Globals { app, surplus, misbehaviour: known.misbehaviour }
    }

    /// Changes what is counted of a known peer in a scored topic.
    fn edit(&mut self, peer: &PeerId, topic: &Topic, change: impl FnOnce(&mut Counters, &TopicParams)) {
        let Some(params) = self.params.settings().topics.get(topic) else {
            return;
        };
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        if !known.topics.contains_key(topic) {
            known.topics.insert(topic.clone(), Counters::default());
        }
        if let Some(counters) = known.topics.get_mut(topic) {
            change(counters, params);
        }
        known.score.set(None);
    }

    fn forget(&mut self, peer: PeerId) {
        let Some(known) = self.peers.remove(&peer) else {
            return;
        };
        if let Some(at) = known.forget {
            self.gone.remove(&(at, peer));
        }
        if let Some(at) = known.at {
            self.move_out(at, peer);
        }
    }
}
