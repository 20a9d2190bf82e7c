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
//! | `net` | what waits for whom |

mod gossip;
mod heartbeat;
mod intake;
mod judge;
mod mesh;
mod net;
mod peers;
mod publish;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use peerage_core::{Deadline, Multiaddr, Now, PeerId, budget::Reserved, engine};
use peerage_host::{ConnectionId, Reply};
use rand::Rng as _;

use crate::{
    codec::{Rpc, WireMessage},
    config::Config,
    event::{Event, Misdeed},
    mcache::MessageCache,
    message::{Message, MessageId},
    parcel::Parcel,
    queue::Queue,
    score::Breakdown,
    seen::{Keyed, Seen},
    signing::Flaw,
    stats::Stats,
    topic::Topic,
    validator::Verdict,
    version::Version,
};

use gossip::Promises;
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
    judge: Judge,
    seen: Seen,
    cache: MessageCache,
    intake: Intake,
    promises: Promises,
    blacklist: BTreeSet<PeerId>,
    direct: BTreeMap<PeerId, Vec<Multiaddr>>,
    heartbeat_at: Option<Instant>,
    heartbeats: u64,
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

/// What a node asks of its engine.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// A connection is there; it may be said more than once.
    Connected {
        /// With whom.
        peer: PeerId,
        /// Which.
        id: ConnectionId,
        /// The address at the other end.
        ip: Option<IpAddr>,
        /// Whether this node dialed.
        dialed: bool,
    },
    /// A connection has ended.
    Disconnected {
        /// With whom.
        peer: PeerId,
        /// Which.
        id: ConnectionId,
    },
    /// Somebody here wants a topic.
    Subscribe(Topic),
    /// Nobody here wants it any more.
    Unsubscribe(Topic),
    /// Publish a message of this node.
    Publish {
        /// Which.
        parcel: Arc<Parcel>,
        /// Where the outcome goes.
        reply: Reply<Result<Published, PublishError>>,
    },
    /// A topic has a validator now, for so many messages at once; or none any more.
    Validator {
        /// The topic.
        topic: Topic,
        /// Messages at once.
        concurrency: Option<usize>,
    },
    /// Who is in the mesh?
    Mesh {
        /// Of which topic.
        topic: Topic,
        /// Where the answer goes.
        reply: Reply<Vec<PeerId>>,
    },
    /// Who wants a topic?
    Peers {
        /// Which; `None` for all who speak with this node at all.
        topic: Option<Topic>,
        /// Where the answer goes.
        reply: Reply<Vec<PeerId>>,
    },
    /// What is a peer worth?
    Score {
        /// Who.
        peer: PeerId,
        /// Where the answer goes.
        reply: Reply<Breakdown>,
    },
    /// Sets what the program thinks of a peer (P5).
    SetAppScore {
        /// Who.
        peer: PeerId,
        /// What it is worth.
        score: f64,
    },
    /// Nothing is taken from a peer, or of an author; or it is again.
    Blacklist {
        /// Who.
        peer: PeerId,
        /// Whether it is on the list.
        on: bool,
    },
    /// A peer is always sent everything from now on, and dialed at these addresses.
    AddDirect {
        /// Who.
        peer: PeerId,
        /// Where.
        addresses: Vec<Multiaddr>,
    },
    /// It is a peer like others again.
    RemoveDirect(PeerId),
}

/// What the network brought.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// The stream to a peer is there.
    Opened {
        /// To whom.
        peer: PeerId,
        /// By which [`Action::Open`].
        session: u64,
        /// What was agreed.
        version: Version,
    },
    /// The stream to a peer is not there, or not any more.
    LinkFailed {
        /// To whom.
        peer: PeerId,
        /// By which [`Action::Open`].
        session: u64,
        /// Whether the peer speaks none of this.
        unsupported: bool,
    },
    /// A peer has opened a stream. What it said on another one does not count any more. A driver without streams may leave
    /// that out.
    Inbound {
        /// Who.
        peer: PeerId,
        /// A number for it.
        stream: u64,
    },
    /// It has ended.
    InboundEnded {
        /// Who.
        peer: PeerId,
        /// The number of the stream.
        stream: u64,
    },
    /// What a peer wants, as it said on a stream that an earlier life of the engine has listened to.
    Recalled {
        /// Who.
        peer: PeerId,
        /// The number of the stream.
        stream: u64,
        /// All that it wants.
        topics: Vec<Topic>,
    },
    /// A peer has said something.
    Rpc {
        /// Who.
        peer: PeerId,
        /// What.
        rpc: Box<Rpc>,
        /// The memory that it takes until it was handled.
        charge: Option<Reserved>,
    },
    /// A peer has sent what is no RPC, or breaks a limit.
    Malformed {
        /// Who.
        peer: PeerId,
    },
    /// The answer to [`Action::Verify`].
    Verified {
        /// Its number.
        ticket: u64,
        /// Whether the author has signed it.
        result: Result<(), Flaw>,
    },
    /// The answer to [`Action::Validate`].
    Validated {
        /// Its number.
        ticket: u64,
        /// What the validator said; that it took too long is [`Verdict::Ignore`].
        verdict: Verdict,
    },
}

/// What is to be done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Action {
    /// Open a stream to a peer, for the first of the versions that it speaks, and send what is in the queue, in its order.
    Open {
        /// To whom.
        peer: PeerId,
        /// A number to report with.
        session: u64,
        /// What to send, from now on.
        queue: Queue,
    },
    /// Close the stream to a peer.
    Close {
        /// To whom.
        peer: PeerId,
    },
    /// There is something in a queue that was empty.
    Flush {
        /// Whose.
        peer: PeerId,
    },
    /// Look whether a message's author has signed it ([`signing::verify`](crate::verify)).
    Verify {
        /// A number to report with.
        ticket: u64,
        /// The peer that it came from.
        peer: PeerId,
        /// Which.
        message: Arc<WireMessage>,
    },
    /// Ask the topic's validator.
    Validate {
        /// A number to report with.
        ticket: u64,
        /// Which.
        message: Message,
    },
    /// Give a message to those here who want it.
    Deliver(Message),
    /// Connect with a peer, of which another one has told.
    Connect {
        /// Who.
        peer: PeerId,
        /// Its signed record, not verified yet.
        record: Option<Bytes>,
    },
    /// Connect with a direct peer.
    ConnectDirect {
        /// Who.
        peer: PeerId,
        /// Where it may be.
        addresses: Vec<Multiaddr>,
    },
    /// Put a peer out of a mesh, and tell it of others, with their signed records where there are some.
    Exchange {
        /// Whom.
        peer: PeerId,
        /// Whose stream that is for.
        queue: Queue,
        /// Of which mesh.
        topic: Topic,
        /// For how long.
        backoff: Duration,
        /// The others.
        others: Vec<PeerId>,
    },
    /// A peer came into the first mesh, or left the last.
    InMesh {
        /// Who.
        peer: PeerId,
        /// Whether it is in one now.
        any: bool,
    },
    /// Tell who watches.
    Event(Event),
    /// What was counted since the engine was made; once with every heartbeat.
    Stats(Box<Stats>),
    /// Answer.
    Published {
        /// Where it goes.
        reply: Reply<Result<Published, PublishError>>,
        /// What it is.
        result: Result<Published, PublishError>,
    },
    /// Answer.
    AnswerPeers {
        /// Where it goes.
        reply: Reply<Vec<PeerId>>,
        /// What it is.
        peers: Vec<PeerId>,
    },
    /// Answer.
    AnswerScore {
        /// Where it goes.
        reply: Reply<Breakdown>,
        /// What it is.
        score: Breakdown,
    },
}

/// What became of a message that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Its id.
    pub id: MessageId,
    /// How many peers took it: it waits for them, and will be sent unless the stream to them ends.
    pub peers: usize,
    /// How many would have got it, had there been room in their queues. Each is an event, too.
    pub full: usize,
}

/// Why a message was not published; always this node's own doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It says too much.
    #[error("a message of {len} bytes, {max} allowed for its topic")]
    TooLarge {
        /// Its bytes.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// It was published before, by this node or another: there is one of this id.
    #[error("a message of the same id is known")]
    Duplicate,
    /// The topic's name is none.
    #[error(transparent)]
    Topic(#[from] crate::TopicError),
    /// Gossip, or its node, is not running.
    #[error("gossip is not running")]
    Closed,
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
            net: Net::new(config.queue, config.trace, first_id, rng.next_u64()),
            topics: BTreeMap::new(),
            blacklist: BTreeSet::new(),
            direct: config.direct.clone(),
            heartbeat_at: None,
            heartbeats: 0,
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
}

impl engine::Engine for Engine {
    type Command = Command;
    type Input = Input;
    type Action = Action;

    fn handle_command(&mut self, command: Command, now: Now) {
        self.heartbeat_at.get_or_insert(now.after(self.config.first_heartbeat));
        match command {
            Command::Connected { peer, id, ip, dialed } => self.connected(peer, id, ip, dialed, now),
            Command::Disconnected { peer, id } => self.disconnected(peer, id, now),
            Command::Subscribe(topic) => self.subscribe(topic, now),
            Command::Unsubscribe(topic) => self.unsubscribe(&topic, now),
            Command::Publish { parcel, reply } => {
                let result = self.publish(&parcel, now);
                self.net.actions.push_back(Action::Published { reply, result });
            }
            Command::Validator { topic, concurrency } => self.intake.set_validator(topic, concurrency),
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
        self.heartbeat_at.get_or_insert(now.after(self.config.first_heartbeat));
        match input {
            Input::Opened { peer, session, version } => self.opened(peer, session, version, now),
            Input::LinkFailed { peer, session, unsupported } => {
                self.link_failed(peer, session, unsupported, now);
            }
            Input::Inbound { peer, stream } => self.inbound(peer, stream, now),
            Input::InboundEnded { peer, stream } => self.inbound_ended(peer, stream, now),
            Input::Recalled { peer, stream, topics } => {
                self.inbound(peer, stream, now);
                topics.into_iter().for_each(|topic| self.peer_wants(peer, topic));
            }
            Input::Rpc { peer, rpc, charge } => {
                self.rpc(peer, *rpc, now);
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
