//! The engine in virtual time, with made-up peers.

mod agree;
mod budget;
mod gossip;
mod hostile;
mod intake;
mod memory;
mod mesh;
mod opportunistic;
mod partial;
mod partial_lost;
mod partial_room;
mod peers;
mod property;
mod rules;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use peerage_core::{
    Keypair, PeerId,
    engine::{rng, sim::Sim},
    frame,
};
use peerage_host::{ConnectionId, Reply};

use super::*;
use crate::{
    Author, Message, Parcel, Signing, Verdict, Version,
    codec::{self, IHave, Limits, Prune, Rpc, Subscription, WireMessage},
    partial::Received,
    queue::Queue,
    signing,
};

/// An engine, and what its peers were sent.
pub(super) struct Rig {
    pub(super) sim: Sim<Engine>,
    queues: BTreeMap<PeerId, Queue>,
    versions: BTreeMap<PeerId, Version>,
    pub(super) events: Vec<Event>,
    pub(super) delivered: Vec<Message>,
    pub(super) parts: Vec<Received>,
    pub(super) validating: Vec<(u64, Message)>,
    pub(super) connects: Vec<(PeerId, Option<Bytes>)>,
    pub(super) direct: Vec<PeerId>,
    pub(super) exchanges: Vec<(PeerId, Vec<PeerId>)>,
    pub(super) opens: usize,
    /// Signatures wait for [`Rig::verify`].
    pub(super) hold: bool,
    pub(super) held: Vec<(u64, Arc<WireMessage>)>,
    sequence: u64,
}

pub(super) fn keypair(n: u16) -> Keypair {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&n.to_le_bytes());
    Keypair::from_ed25519_seed(seed)
}

/// The peer of this number; 0 is the node itself.
pub(super) fn peer(n: u16) -> PeerId {
    keypair(n).peer_id()
}

pub(super) fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

impl Rig {
    pub(super) fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap();
        Self {
            sim: Sim::new(Engine::new(Arc::new(config), peer(0), rng(7), 1)),
            queues: BTreeMap::new(),
            versions: BTreeMap::new(),
            events: Vec::new(),
            delivered: Vec::new(),
            parts: Vec::new(),
            validating: Vec::new(),
            connects: Vec::new(),
            direct: Vec::new(),
            exchanges: Vec::new(),
            opens: 0,
            hold: false,
            held: Vec::new(),
            sequence: 0,
        }
    }

    /// With so many peers that want topic "t", as does the node.
    pub(super) fn meshed(peers: u16) -> Self {
        Self::meshed_with(peers, |_| ())
    }

    pub(super) fn meshed_with(peers: u16, change: impl FnOnce(&mut Config)) -> Self {
        let mut rig = Self::new(change);
        (1..=peers).for_each(|n| rig.wants(n, "t"));
        rig.command(Command::Subscribe(topic("t")));
        rig
    }

    pub(super) fn command(&mut self, command: Command) {
        self.sim.command(command);
        self.settle();
    }

    pub(super) fn input(&mut self, input: Input) {
        self.sim.input(input);
        self.settle();
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.sim.advance(by);
        self.settle();
    }

    pub(super) fn heartbeats(&mut self, count: u32) {
        for _ in 0..count {
            self.advance(Duration::from_secs(1));
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        self.sim.engine()
    }

    fn settle(&mut self) {
        loop {
            let actions = self.sim.actions();
            if actions.is_empty() {
                return;
            }
            actions.into_iter().for_each(|action| self.perform(action));
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Open { peer, session, queue } => {
                self.opens += 1;
                self.queues.insert(peer, queue);
                if let Some(version) = self.versions.get(&peer).copied() {
                    self.sim.input(Input::Opened { peer, session, version });
                }
            }
            Action::Close { peer } => drop(self.queues.remove(&peer)),
            Action::Verify { ticket, message, .. } if self.hold => self.held.push((ticket, message)),
            Action::Verify { ticket, message, .. } => {
                self.sim.input(Input::Verified { ticket, result: signing::verify(&message) });
            }
            Action::Validate { ticket, message } => self.validating.push((ticket, message)),
            Action::Deliver(message) => self.delivered.push(message),
            Action::Connect { peer, record } => self.connects.push((peer, record)),
            Action::ConnectDirect { peer, .. } => self.direct.push(peer),
            Action::Exchange { peer, others, .. } => self.exchanges.push((peer, others)),
            Action::Event(event) => self.events.push(event),
            Action::Published { reply, result } => reply.send(result),
            Action::DeliverPartial(received) => self.parts.push(received),
            Action::PublishedPartial { reply, result } => reply.send(result),
            Action::AnswerPeers { reply, peers } => reply.send(peers),
            Action::AnswerScored { reply, result } => reply.send(result),
            Action::AnswerScore { reply, score } => reply.send(score),
            Action::Flush { .. } | Action::InMesh { .. } | Action::Stats(_) => {}
        }
    }

    /// Verifies what was held.
    pub(super) fn verify(&mut self) {
        for (ticket, message) in std::mem::take(&mut self.held) {
            self.input(Input::Verified { ticket, result: signing::verify(&message) });
        }
    }

    pub(super) fn connect_as(&mut self, n: u16, version: Version, dialed: bool) {
        self.versions.insert(peer(n), version);
        let id = ConnectionId::from(u64::from(n));
        self.command(Command::Connected { peer: peer(n), id, ip: None, dialed });
    }

    pub(super) fn connect(&mut self, n: u16) {
        self.connect_as(n, Version::V13, false);
    }

    pub(super) fn disconnect(&mut self, n: u16) {
        self.command(Command::Disconnected { peer: peer(n), id: ConnectionId::from(u64::from(n)) });
    }

    pub(super) fn hears(&mut self, n: u16, rpc: Rpc) {
        self.input(Input::Rpcs { peer: peer(n), rpcs: vec![rpc], charge: None });
    }

    /// A peer that is connected, and wants a topic.
    pub(super) fn wants(&mut self, n: u16, name: &str) {
        if !self.versions.contains_key(&peer(n)) {
            self.connect(n);
        }
        self.hears(n, subscription(name, true));
    }

    pub(super) fn grafts(&mut self, n: u16, name: &str) {
        self.hears(n, Rpc { grafts: vec![topic(name)], ..Rpc::default() });
    }

    pub(super) fn prunes(&mut self, n: u16, name: &str, backoff: Option<u64>) {
        let prune = Prune { topic: topic(name), peers: Vec::new(), backoff };
        self.hears(n, Rpc { prunes: vec![prune], ..Rpc::default() });
    }

    /// A message that this one has written and that one sends.
    pub(super) fn message(&mut self, from: u16, author: u16, text: &str) -> MessageId {
        let message = self.written(author, text);
        let id = signing::default_id(&message);
        self.sends(from, message);
        id
    }

    pub(super) fn written(&mut self, author: u16, text: &str) -> WireMessage {
        self.sequence += 1;
        let data = Bytes::copy_from_slice(text.as_bytes());
        Author::new(keypair(author), self.sequence).write(topic("t"), data, Signing::Strict)
    }

    pub(super) fn sends(&mut self, from: u16, message: WireMessage) {
        self.hears(from, Rpc { messages: vec![message], ..Rpc::default() });
    }

    pub(super) fn publish(&mut self, name: &str, text: &str) -> Result<Published, PublishError> {
        self.sequence += 1;
        let data = Bytes::copy_from_slice(text.as_bytes());
        let message = Author::new(keypair(0), self.sequence).write(topic(name), data, Signing::Strict);
        let parcel = Arc::new(Parcel::new(signing::default_id(&message), message));
        let answer = Arc::new(Mutex::new(None));
        let kept = answer.clone();
        let reply = Reply::new(move |result| *kept.lock().unwrap() = Some(result));
        self.command(Command::Publish { parcel, reply });
        answer.lock().unwrap().take().expect("it answers")
    }

    /// What a peer was sent since this was asked the last time.
    pub(super) fn told(&mut self, n: u16) -> Vec<Rpc> {
        let Some(queue) = self.queues.get(&peer(n)) else { return Vec::new() };
        let mut decoder = frame::Decoder::new(codec::MAX_RPC);
        let mut rpcs = Vec::new();
        while let Some(frame) = queue.pop() {
            let mut input = &frame[..];
            while let Some(rpc) = decoder.decode(&mut input).unwrap() {
                rpcs.push(codec::decode(&rpc, &Limits::default()).unwrap());
            }
        }
        rpcs
    }

    /// Sums what all of these peers were sent.
    pub(super) fn count(
        &mut self,
        peers: impl IntoIterator<Item = u16>,
        of: impl Fn(&Rpc) -> usize,
    ) -> Vec<usize> {
        peers.into_iter().map(|n| self.told(n).iter().map(&of).sum()).collect()
    }

    pub(super) fn mesh(&self) -> Vec<PeerId> {
        self.engine().mesh(&topic("t")).copied().collect()
    }

    pub(super) fn in_mesh(&self, n: u16) -> bool {
        self.mesh().contains(&peer(n))
    }

    pub(super) fn misdeeds(&self, rule: Misdeed) -> u64 {
        self.engine().stats().misdeeds.get(&rule).copied().unwrap_or_default()
    }
}

pub(super) fn subscription(name: &str, subscribe: bool) -> Rpc {
    let change = Subscription { subscribe, ..Subscription::to(topic(name)) };
    Rpc { subscriptions: vec![change], ..Rpc::default() }
}

pub(super) fn ihave(ids: impl IntoIterator<Item = Vec<u8>>) -> Rpc {
    let ids = ids.into_iter().map(Bytes::from).collect();
    Rpc { ihave: vec![IHave { topic: topic("t"), ids }], ..Rpc::default() }
}

/// Ids that nobody knows.
pub(super) fn made_up(from: u32, count: u32) -> impl Iterator<Item = Vec<u8>> {
    (from..from + count).map(|n| n.to_be_bytes().to_vec())
}
