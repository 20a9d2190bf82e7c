use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use peerage_core::{Now, PeerId, engine};

use super::network::payload;
use crate::{
    Topic,
    codec::{self, Control, Limits, Rpc, WireMessage},
};

/// How often a Sybil tries to come into meshes.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// How long it stays away when it was pruned and not told for how long. It knows the rules, and breaks none that is
/// seen.
const BACKOFF: Duration = Duration::from_secs(62);
/// Messages that it knows again.
const MAX_SEEN: usize = 4096;

/// What a Sybil does with messages. In the meshes, and about backoffs, it is as good as gold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Forwards nothing.
    Silent,
    /// Forwards everything but what these authors write.
    Censor(BTreeSet<PeerId>),
    /// Forwards everything, and from a time on, counted from the start of the network, nothing.
    Covert(Duration),
}

/// A node that wants to be in every mesh, and is of no use there. It has no engine, but a script.
#[derive(Debug)]
pub struct Sybil {
    strategy: Strategy,
    topic: Topic,
    /// Whom it can talk to, and from when on it may graft; `None` is in the mesh.
    peers: BTreeMap<PeerId, Option<std::time::Instant>>,
    seen: BTreeSet<Bytes>,
    order: VecDeque<Bytes>,
}

/// A frame to a peer.
pub(super) type Outgoing = (PeerId, Bytes);

impl Sybil {
    pub(super) fn new(strategy: Strategy, topic: Topic) -> Self {
        Self { strategy, topic, peers: BTreeMap::new(), seen: BTreeSet::new(), order: VecDeque::new() }
    }

    pub(super) fn opened(&mut self, peer: PeerId, now: Now) -> Vec<Outgoing> {
        self.peers.insert(peer, Some(now.mono));
        let hello = codec::subscriptions([codec::Subscription::to(self.topic.clone())]);
        hello.into_iter().map(|frame| (peer, frame)).collect()
    }

    pub(super) fn closed(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// Grafts wherever it may.
    pub(super) fn beat(&mut self, now: Now) -> Vec<Outgoing> {
        let mut out = Vec::new();
        for (peer, again) in &mut self.peers {
            if again.is_some_and(|at| at <= now.mono) {
                *again = None;
                let mut control = Control::default();
                control.graft(&self.topic);
                out.extend(control.finish().into_iter().map(|frame| (*peer, frame)));
            }
        }
        out
    }

    /// From which age of the network on it does not even look at messages.
    pub(super) fn deaf_from(&self) -> Option<Duration> {
        match &self.strategy {
            Strategy::Silent => Some(Duration::ZERO),
            Strategy::Censor(_) => None,
            Strategy::Covert(until) => Some(*until),
        }
    }

    pub(super) fn heard(&mut self, from: PeerId, frame: &Bytes, age: Duration, now: Now) -> Vec<Outgoing> {
        let Some(Ok(rpc)) = payload(frame).map(|body| codec::decode(&body, &Limits::default())) else {
            return Vec::new();
        };
        self.control(from, &rpc, now);
        if self.deaf_from().is_some_and(|from| age >= from) {
            return Vec::new();
        }
        let spread = rpc.messages.iter().filter(|message| self.spreads(message)).cloned().collect::<Vec<_>>();
        let mut out = Vec::new();
        for message in spread {
            if self.is_new(&message) {
                let frame = codec::publish(&message);
                let others = self.peers.iter().filter(|(peer, again)| again.is_none() && **peer != from);
                out.extend(others.map(|(peer, _)| (*peer, frame.clone())));
            }
        }
        out
    }

    fn control(&mut self, from: PeerId, rpc: &Rpc, now: Now) {
        let Some(again) = self.peers.get_mut(&from) else {
            return;
        };
        if rpc.grafts.contains(&self.topic) {
            *again = None;
        }
        if let Some(prune) = rpc.prunes.iter().find(|prune| prune.topic == self.topic) {
            let asked = prune
                .backoff
                .map_or(BACKOFF, |seconds| Duration::from_secs(seconds).saturating_add(BEAT * 2));
            *again = Some(now.after(asked.min(engine::NEVER)));
        }
    }

    fn spreads(&self, message: &WireMessage) -> bool {
        match &self.strategy {
            Strategy::Censor(authors) => !message
                .from
                .as_deref()
                .and_then(|id| PeerId::from_bytes(id).ok())
                .is_some_and(|id| authors.contains(&id)),
            _ => true,
        }
    }

    fn is_new(&mut self, message: &WireMessage) -> bool {
        let Some(signature) = &message.signature else {
            return false;
        };
        if !self.seen.insert(signature.clone()) {
            return false;
        }
        self.order.push_back(signature.clone());
        if self.order.len() > MAX_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}
