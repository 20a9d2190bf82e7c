//! Gossip: what a library has to bring, and what is measured of it. All nodes of a measure are in the process of the client,
//! each with a socket of its own, so that there is one clock for both ends of every message.

mod load;
mod memory;
mod network;
mod told;

use std::future::Future;

use crate::{Error, Measure, Options, Result, Stack};

pub(crate) use memory::listen;

/// What nodes gossip about unless the measure needs more topics.
const TOPIC: &str = "bench";

/// How many peers are in a mesh: D, and the bounds around it. Scoring is off; what does not stand here is as each library has
/// it by default.
pub const MESH: usize = 10;
/// Dlo: the same, or who has nine peers in its mesh would be content.
pub const MESH_LOW: usize = MESH;
/// Dhi.
pub const MESH_HIGH: usize = 12;
/// Dout.
pub const MESH_OUTBOUND: usize = 2;
/// The largest RPC that is taken.
pub const MAX_RPC: usize = 1 << 20;
/// The most topics of a peer that are known.
pub const MAX_TOPICS: usize = 2000;
/// Milliseconds between heartbeats.
pub const HEARTBEAT_MS: u64 = 1000;
/// Milliseconds until the first one.
pub const FIRST_HEARTBEAT_MS: u64 = 100;

/// What is called with what each message says.
pub type Taken = Box<dyn FnMut(&[u8]) + Send>;

/// A node that gossips: it listens, has as many peers in a mesh as is said above, signs what it publishes, publishes to all
/// peers of a topic, and takes nothing that is not signed.
pub trait Gossiper: Send + Sync + 'static {
    /// Where it listens, with its peer id.
    fn address(&self) -> &str;

    /// Connects.
    fn dial(&self, address: &str) -> impl Future<Output = Result<()>> + Send;

    /// Calls `taken` with every message of a topic from now on, in the order in which they come.
    fn subscribe(&self, topic: &str, taken: Taken) -> impl Future<Output = Result<()>> + Send;

    /// Publishes. That there was no room for it at some peer is a failure, which may also be told of later.
    fn publish(&self, topic: &'static str, data: Vec<u8>) -> impl Future<Output = Result<()>> + Send;

    /// How many peers are in this node's mesh of a topic.
    fn mesh(&self, topic: &str) -> impl Future<Output = Result<usize>> + Send;
}

/// The node of a library that does not gossip.
#[derive(Debug)]
pub enum Silent {}

impl Gossiper for Silent {
    fn address(&self) -> &str {
        match *self {}
    }

    async fn dial(&self, _: &str) -> Result<()> {
        match *self {}
    }

    async fn subscribe(&self, _: &str, _: Taken) -> Result<()> {
        match *self {}
    }

    async fn publish(&self, _: &'static str, _: Vec<u8>) -> Result<()> {
        match *self {}
    }

    async fn mesh(&self, _: &str) -> Result<usize> {
        match *self {}
    }
}

/// Takes a measure of gossip; What is given back shall live until the harness has looked.
pub(crate) async fn take<S: Stack>(
    stack: &S,
    address: &str,
    measure: Measure,
    options: &Options,
) -> Result<Vec<S::Gossiper>> {
    const KIB: usize = 1 << 10;
    match measure {
        Measure::GossipPair => load::flat_out(stack, options, 2, KIB, 64).await,
        Measure::GossipPair64k => load::flat_out(stack, options, 2, 64 * KIB, 8).await,
        Measure::GossipMesh => load::flat_out(stack, options, 20, KIB, 64).await,
        Measure::GossipMesh64k => load::flat_out(stack, options, 20, 64 * KIB, 8).await,
        Measure::GossipPaced => load::paced(stack, options, 20, KIB).await,
        Measure::GossipTopics => memory::topics(stack, options).await,
        Measure::GossipPeers => memory::peers(stack, options, address).await,
        other => Err(Error::Failed(format!("{} is no measure of gossip", other.word()))),
    }
}
