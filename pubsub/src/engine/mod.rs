//! Decides who is in which mesh, what is sent to whom, and what is taken from whom: gossipsub 1.0 to 1.3, and floodsub.
//!
//! | file | what is decided there |
//! | --- | --- |
//! | `peers` | who is there, and what they want |
//! | `intake` | which messages are taken |
//! | `publish` | where messages go |
//! | `gossip` | who is told of what, and asked for what |
//! | `mesh` | who comes into a mesh, and leaves it |
//! | `heartbeat` | what is done every second |
//! | `judge` | what peers are worth |
//! | `partial` | which parts of messages go to whom |
//! | `groups` | what is remembered of messages that travel in parts |
//! | `memory` | what outlives a panic |
//! | `net` | what waits for whom |

mod gossip;
mod groups;
mod heartbeat;
mod intake;
mod judge;
mod memory;
mod mesh;
mod messages;
mod net;
mod partial;
mod peers;
mod publish;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use peerage_core::{Deadline, Multiaddr, Now, PeerId, budget::Budget, engine};
use rand::Rng as _;

use crate::{
    config::{Config, TopicConfig},
    event::{Event, Misdeed},
    mcache::MessageCache,
    message::MessageId,
    seen::{Keyed, Seen},
    stats::Stats,
    topic::Topic,
};

pub use memory::Memory;
pub use messages::{Action, Command, Input, PublishError, Published, SetTopicError};

use gossip::Promises;
use groups::Groups;
use intake::Intake;
use judge::Judge;
use net::Net;

/// The state and policy of one node.
#[derive(Debug)]
pub struct Engine {
    config: Arc<Config>,
    local: PeerId,
    rng: engine::Rng,
    net: Net,
    topics: BTreeMap<Topic, TopicState>,
    /// Topics that have rules of their own.
    rules: BTreeMap<Topic, TopicConfig>,
    judge: Judge,
    seen: Seen,
    cache: MessageCache,
    intake: Intake,
    promises: Promises,
    groups: Groups,
    blacklist: BTreeSet<PeerId>,
    direct: BTreeMap<PeerId, Vec<Multiaddr>>,
    heartbeat_at: Option<Instant>,
    heartbeats: u64,
    /// What it leaves when it dies, if that is wanted.
    memory: Option<Memory>,
    /// Whether it has been asked or told anything.
    awake: bool,
    /// Lives before this one, in a row, that saw no heartbeat.
    stillborn: u32,
}

/// What is known of a topic. It is forgotten when nothing is.
#[derive(Debug, Default)]
struct TopicState {
    /// Whether this node wants it.
    subscribed: bool,
    /// Peers that want it.
    peers: BTreeSet<PeerId>,
    /// Those of them that are sent everything: direct ones, and those that know no meshes.
    always: BTreeSet<PeerId>,
    mesh: BTreeSet<PeerId>,
    /// At which heartbeat peers that want it were last told what there is.
    gossiped: BTreeMap<PeerId, u64>,
    fanout: Option<Fanout>,
    /// Until when peers are not grafted.
    backoff: BTreeMap<PeerId, Instant>,
}

/// To whom messages go of a topic that this node does not want itself.
#[derive(Debug)]
struct Fanout {
    peers: BTreeSet<PeerId>,
    published: Instant,
}

impl TopicState {
    fn is_needed(&self) -> bool {
        self.subscribed || !self.peers.is_empty() || self.fanout.is_some() || !self.backoff.is_empty()
    }
}

impl Engine {
    /// An engine that wants these topics. `first_id` is where it may begin to count.
    pub fn new(config: Arc<Config>, local: PeerId, mut rng: engine::Rng, first_id: u64) -> Self {
        let mut key = || Keyed(rng.next_u64(), rng.next_u64());
        let (seen_key, cache_key, intake_key, promise_key) = (key(), key(), key(), key());
        Self {
            seen: Seen::new(config.remember, config.seen_ttl, config.max_seen, seen_key),
            cache: MessageCache::new(config.history, config.history_gossip, config.history_bytes, cache_key),
            intake: Intake::new(first_id, intake_key),
            promises: Promises::new(promise_key),
            judge: Judge::new(&config),
            net: Net::new(&config, first_id, rng.next_u64()),
            topics: BTreeMap::new(),
            groups: Groups::default(),
            rules: config.topics.clone(),
            blacklist: BTreeSet::new(),
            direct: config.direct.clone(),
            heartbeat_at: None,
            heartbeats: 0,
            memory: None,
            awake: false,
            stillborn: 0,
            config,
            local,
            rng,
        }
    }

    /// The same engine, with topics that somebody wanted before it was made, and validators that were there, each for so
    /// many messages at once.
    #[must_use]
    pub fn restored(
        mut self,
        wanted: impl IntoIterator<Item = Topic>,
        validators: impl IntoIterator<Item = (Topic, usize)>,
    ) -> Self {
        for topic in wanted {
            self.judge.topic_wanted(&topic);
            self.net.stats.watch(&topic);
            self.topics.entry(topic).or_default().subscribed = true;
        }
        for (topic, concurrency) in validators {
            self.intake.set_validator(topic, Some(concurrency));
        }
        self
    }

    /// The same engine, with rules of topics that were set before it was made.
    #[must_use]
    pub fn ruled_by(mut self, rules: BTreeMap<Topic, TopicConfig>) -> Self {
        self.rules = rules;
        self
    }

    /// The same engine, which charges to a budget what it keeps and what waits for peers. What has no place is not taken,
    /// and counted ([`Refusal::NoMemory`](crate::Refusal::NoMemory), [`DropReason::NoMemory`](crate::DropReason::NoMemory)).
    #[must_use]
    pub fn charged_to(mut self, budget: Budget) -> Self {
        self.net.budget = budget;
        self
    }

    /// What is kept, to look at: messages known, kept, under verification and validation; topics; peers.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            seen: self.seen.len(),
            cached: self.cache.len(),
            cached_bytes: self.cache.bytes(),
            in_progress: self.intake.in_progress(),
            promises: self.promises.len(),
            topics: self.topics.len(),
            peers: self.net.peers.len(),
            backoffs: self.topics.values().map(|topic| topic.backoff.len()).sum(),
            unwanted: self.net.peers.values().map(|peer| peer.dont_want.len()).sum(),
            groups: self.groups.len(),
            hearers: self.groups.hearers(),
        }
    }

    /// The mesh of a topic.
    pub fn mesh(&self, topic: &Topic) -> impl Iterator<Item = &PeerId> {
        self.topics.get(topic).into_iter().flat_map(|topic| &topic.mesh)
    }

    /// The score of a peer.
    pub fn score(&self, peer: &PeerId) -> f64 {
        self.judge.score(peer)
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.net.stats
    }

    /// The first time that it is asked or told anything.
    fn wake(&mut self, now: Now) {
        if self.heartbeat_at.is_none() {
            self.heartbeat_at = Some(now.after(self.config.first_heartbeat));
            self.recall(now);
        }
    }

    fn misbehaved(&mut self, peer: PeerId, rule: Misdeed, count: u32) {
        self.judge.penalize(peer, count);
        self.net.stats.misdeed(rule, count);
        self.net.event(Event::Misbehaved { peer, rule, count });
    }

    /// Streams whose control messages had no room are given up: the peer has to be told all anew.
    fn mend(&mut self, now: Now) {
        while let Some(peer) = self.net.broken.pop_first() {
            self.link_ended(peer, now);
            self.open_link(peer);
        }
        // Those wait a second first, and more may be free then.
        while let Some(peer) = self.net.starved.pop_first() {
            if let Some(session) = self.net.peers.get(&peer).map(|state| state.session) {
                self.link_failed(peer, session, false, now);
                self.net.actions.push_back(Action::Close { peer });
            }
        }
    }
}

/// How much an engine keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Ids of messages that were seen.
    pub seen: usize,
    /// Messages kept for who asks.
    pub cached: usize,
    /// Their bytes.
    pub cached_bytes: usize,
    /// Messages under verification and validation.
    pub in_progress: usize,
    /// Messages that peers have promised.
    pub promises: usize,
    /// Topics of which anything is known.
    pub topics: usize,
    /// Peers.
    pub peers: usize,
    /// Peers that are not to be grafted, of all topics.
    pub backoffs: usize,
    /// Messages that peers do not want, of all peers.
    pub unwanted: usize,
    /// Messages of which it is remembered what there is of them.
    pub groups: usize,
    /// Peers of which it is remembered what they have of a message, each for each message.
    pub hearers: usize,
}

impl engine::Engine for Engine {
    type Command = Command;
    type Input = Input;
    type Action = Action;

    fn handle_command(&mut self, command: Command, now: Now) {
        self.wake(now);
        match command {
            Command::Connected { peer, id, ip, dialed } => self.connected(peer, id, ip, dialed, now),
            Command::Disconnected { peer, id } => self.disconnected(peer, id, now),
            Command::Subscribe(topic) => self.subscribe(topic, now),
            Command::Unsubscribe(topic) => self.unsubscribe(&topic, now),
            Command::Publish { parcel, reply } => {
                let result = self.publish(&parcel, now);
                self.net.actions.push_back(Action::Published { reply, result });
            }
            Command::PublishPartial { topic, group, have, reply } => {
                let result = self.publish_partial(topic, group, have, now);
                self.net.actions.push_back(Action::PublishedPartial { reply, result });
            }
            Command::RejectPartial { peer, topic } => self.reject_partial(peer, &topic, now),
            Command::Validator { topic, concurrency } => self.intake.set_validator(topic, concurrency),
            Command::SetTopic { topic, rules } => self.set_rules(topic, rules),
            Command::ScoreTopic { topic, params, reply } => {
                let wanted = self.topics.get(&topic).is_some_and(|known| known.subscribed);
                let result = self.judge.set_topic(&topic, params, wanted);
                self.net.actions.push_back(Action::AnswerScored { reply, result });
            }
            Command::Mesh { topic, reply } => {
                let peers = self.mesh(&topic).copied().collect();
                self.net.actions.push_back(Action::AnswerPeers { reply, peers });
            }
            Command::Peers { topic, reply } => {
                let peers = self.peers_of(topic.as_ref());
                self.net.actions.push_back(Action::AnswerPeers { reply, peers });
            }
            Command::Score { peer, reply } => {
                let score = self.judge.breakdown(&peer);
                self.net.actions.push_back(Action::AnswerScore { reply, score });
            }
            Command::SetAppScore { peer, score } => self.judge.set_app_score(peer, score),
            Command::Blacklist { peer, on } => self.set_blacklisted(peer, on, now),
            Command::AddDirect { peer, addresses } => self.add_direct(peer, addresses, now),
            Command::RemoveDirect(peer) => self.remove_direct(peer),
        }
        self.mend(now);
    }

    fn handle_input(&mut self, input: Input, now: Now) {
        self.wake(now);
        match input {
            Input::Opened { peer, session, version } => self.opened(peer, session, version, now),
            Input::LinkFailed { peer, session, unsupported } => {
                self.link_failed(peer, session, unsupported, now);
            }
            Input::Inbound { peer, stream } => self.inbound(peer, stream, now),
            Input::InboundEnded { peer, stream } => self.inbound_ended(peer, stream, now),
            Input::Recalled { peer, stream, subscriptions, heard } => {
                self.recalled(peer, stream, subscriptions, heard, now);
            }
            Input::Rpcs { peer, rpcs, charge } => {
                rpcs.into_iter().for_each(|rpc| self.rpc(peer, rpc, now));
                drop(charge);
            }
            Input::Malformed { peer } => self.misbehaved(peer, Misdeed::Malformed, 1),
            Input::Verified { ticket, result } => self.verified(ticket, result, now),
            Input::Validated { ticket, verdict } => self.validated(ticket, verdict, now),
        }
        self.mend(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.heartbeat_at.is_some_and(|at| at <= now.mono) {
            self.heartbeat(now);
            self.heartbeat_at = Some(now.after(self.config.heartbeat));
        }
        self.mend(now);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.heartbeat_at.map(|at| Deadline { at, reason: "heartbeat" })
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.net.actions.pop_front()
    }
}

/// A set of ids that is only looked up in.
type IdMap<T> = HashMap<MessageId, T, Keyed>;
