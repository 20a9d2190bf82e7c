//! Nodes inside one paused runtime, over memory transport: virtual time, no threads, no sockets.
#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use peerage_core::{Keypair, PeerId};
use peerage_host::{Builder, Faults, Node};
use peerage_pubsub::{Config, Gossipsub, Handle, Message, Subscription, Topic};
use peerage_transport::memory::Network;

/// Runs a test in a paused runtime; it fails if virtual time runs past an hour.
pub(crate) fn run<T: 'static>(test: impl Future<Output = T> + 'static) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build_local(Default::default());
    let limit = Duration::from_secs(3600);
    let test = async move { tokio::time::timeout(limit, test).await.expect("the test hangs") };
    let runtime = runtime.expect("a runtime");
    let test = runtime.spawn_local(test);
    runtime.block_on(test).unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

pub(crate) fn topic() -> Topic {
    Topic::new("weather").expect("a topic")
}

/// A node with gossip.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) node: Node,
    pub(crate) gossip: Handle,
}

impl Peer {
    pub(crate) fn id(&self) -> PeerId {
        self.node.peer_id()
    }

    pub(crate) async fn connect(&self, other: &Peer) {
        let address = other.node.addresses().swap_remove(0);
        self.node.connect(address).await.expect("connected");
    }
}

pub(crate) fn builder(network: &Network, seed: u8) -> Builder {
    let keypair = Keypair::from_ed25519_seed([seed; 32]);
    let builder = Node::builder(keypair).in_thread().transport(network.transport());
    builder.listen("/memory/0").expect("an address")
}

pub(crate) async fn peer_with(network: &Network, seed: u8, config: Config) -> Peer {
    start(builder(network, seed), config).await
}

pub(crate) async fn start(builder: Builder, config: Config) -> Peer {
    let (builder, gossip) = builder.with(Gossipsub::new(config).expect("a configuration"));
    Peer { node: builder.start().await.expect("it starts"), gossip }
}

pub(crate) async fn peer(network: &Network, seed: u8) -> Peer {
    peer_with(network, seed, Config::default()).await
}

/// With faults to strike.
pub(crate) async fn frail(network: &Network, seed: u8, faults: &Faults) -> Peer {
    start(builder(network, seed).faults(faults.clone()), Config::default()).await
}

pub(crate) async fn sleep(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// The next message, within a minute of virtual time.
pub(crate) async fn next(subscription: &mut Subscription) -> Message {
    let next = tokio::time::timeout(Duration::from_secs(60), subscription.next());
    next.await.expect("a message comes").expect("gossip runs")
}

/// All messages that have come.
pub(crate) fn texts(subscription: &mut Subscription) -> Vec<String> {
    std::iter::from_fn(|| subscription.try_next())
        .map(|message| String::from_utf8(message.data.to_vec()).expect("text"))
        .collect()
}

/// Waits, in virtual time, until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if holds().await {
            return;
        }
        sleep(10).await;
    }
    panic!("it never comes that {what}");
}
