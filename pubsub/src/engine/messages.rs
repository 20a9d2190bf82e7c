use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use peerage_core::{
    Multiaddr, PeerId,
    budget::{Exhausted, Reserved},
};
use peerage_host::{ConnectionId, Reply};

use crate::{
    codec::{Extensions, Rpc, Subscription, WireMessage},
    config::TopicConfig,
    event::Event,
    message::{Message, MessageId},
    parcel::Parcel,
    partial::{self, Holding, Received},
    queue::Queue,
    score::{Breakdown, ParamsError, TopicParams},
    signing::Flaw,
    stats::Stats,
    topic::Topic,
    validator::Verdict,
    version::Version,
};

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
    /// Publish what this node has of a message.
    PublishPartial {
        /// The message's topic.
        topic: Topic,
        /// Which message.
        group: Bytes,
        /// What there is of it.
        have: Holding,
        /// Where the outcome goes.
        reply: Reply<Result<partial::Published, partial::PublishError>>,
    },
    /// Parts of a peer's are not of the message.
    RejectPartial {
        /// Who sent them.
        peer: PeerId,
        /// Of what topic.
        topic: Topic,
    },
    /// A topic has a validator now, for so many messages at once; or none any more.
    Validator {
        /// The topic.
        topic: Topic,
        /// Messages at once.
        concurrency: Option<usize>,
    },
    /// A topic has these rules from now on; or those of all others.
    SetTopic {
        /// Which.
        topic: Topic,
        /// Its rules.
        rules: Option<TopicConfig>,
    },
    /// A topic is scored by this from now on; or like all others.
    ScoreTopic {
        /// Which.
        topic: Topic,
        /// How.
        params: Option<TopicParams>,
        /// Where the outcome goes.
        reply: Reply<Result<(), SetTopicError>>,
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
        subscriptions: Vec<Subscription>,
        /// What it can do, if it had said anything.
        heard: Option<Extensions>,
    },
    /// A peer has said something.
    Rpcs {
        /// Who.
        peer: PeerId,
        /// What, in its order.
        rpcs: Vec<Rpc>,
        /// The memory that they take until they were handled.
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
    /// Give what a peer has said of a partial message to those here who want it.
    DeliverPartial(Received),
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
        /// By which [`Action::Open`] its stream is; if the queue has no room, that has failed.
        session: u64,
        /// What is sent on it.
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
    PublishedPartial {
        /// Where it goes.
        reply: Reply<Result<partial::Published, partial::PublishError>>,
        /// What it is.
        result: Result<partial::Published, partial::PublishError>,
    },
    /// Answer.
    AnswerPeers {
        /// Where it goes.
        reply: Reply<Vec<PeerId>>,
        /// What it is.
        peers: Vec<PeerId>,
    },
    /// Answer.
    AnswerScored {
        /// Where it goes.
        reply: Reply<Result<(), SetTopicError>>,
        /// What it is.
        result: Result<(), SetTopicError>,
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
    /// There is no memory for it.
    #[error(transparent)]
    Memory(#[from] Exhausted),
    /// Gossip, or its node, is not running.
    #[error("gossip is not running")]
    Closed,
}

/// Why a topic's rules were not set; always this node's own doing. What was before stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetTopicError {
    /// The topic's name is none.
    #[error(transparent)]
    Topic(#[from] crate::TopicError),
    /// A message of this size does not fit into an RPC.
    #[error("messages of {max_size} bytes do not fit into RPCs of {rpc}")]
    TooLarge {
        /// The size.
        max_size: usize,
        /// What an RPC may hold ([`Config::rpc`](crate::Config::rpc)).
        rpc: usize,
    },
    /// Its messages shall travel in parts, which this node does not speak of
    /// ([`Config::partial`](crate::Config::partial)).
    #[error("partial messages are not spoken")]
    NotPartial,
    /// There are too many topics with rules of their own.
    #[error("{max} topics have rules of their own; more may not")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// The parameters are none.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// This node scores nobody.
    #[error("peers are not scored")]
    NotScored,
    /// Gossip, or its node, is not running.
    #[error("gossip is not running")]
    Closed,
}
