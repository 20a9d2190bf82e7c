//! Our node, as it gossips in a test.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use peerage::pubsub::{
    Config, Event as GossipEvent, Gossipsub, Handle, Happened, Subscription, Topic, TopicConfig, Version,
    partial::Mode,
};
use peerage::{Event, Keypair, Multiaddr, Node, PeerId, identify};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{
    message,
    pieces::{Collector, Share},
};
use crate::{
    ours::AGENT,
    process::{Received, State},
};

/// How long it may take to end.
const SHUTDOWN: Duration = Duration::from_secs(15);
/// Messages that wait to be looked at.
const INBOX: usize = 4096;
/// How much of what it noticed is kept.
const NOTICES: usize = 40;

/// Our node.
pub(super) struct Ours {
    node: Node,
    gossip: Handle,
    /// What is subscribed to, and the task that hands on what comes.
    subscriptions: HashMap<String, JoinHandle<()>>,
    /// What there is of messages that travel in parts.
    collector: Collector,
    inbox: mpsc::Receiver<Received>,
    receiving: mpsc::Sender<Received>,
    noted: Arc<Mutex<Noted>>,
}

/// What its events have told.
#[derive(Default)]
struct Noted {
    versions: BTreeMap<PeerId, Version>,
    noticed: Vec<String>,
    panicked: Vec<String>,
}

impl Noted {
    fn notice(&mut self, text: String) {
        if self.noticed.len() < NOTICES {
            self.noticed.push(text);
        }
    }
}

impl Ours {
    /// Starts it, on loopback.
    pub(super) async fn start(config: Config) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("our node: {error}");
        let gossip = Gossipsub::new(config).map_err(|error| wrong(&error))?;
        let builder = Node::builder(Keypair::generate()).agent(AGENT);
        let builder = builder.listen("/ip4/127.0.0.1/tcp/0").map_err(|error| wrong(&error))?;
        let (builder, _) = builder.with(identify::Identify::default());
        let (builder, gossip) = builder.with(gossip);
        let node = builder.start().await.map_err(|error| wrong(&error))?;
        let noted = Arc::<Mutex<Noted>>::default();
        tokio::spawn(watch_node(node.events(), Arc::clone(&noted)));
        tokio::spawn(watch_gossip(gossip.events(), Arc::clone(&noted)));
        let (receiving, inbox) = mpsc::channel(INBOX);
        let collector = Collector::new(gossip.clone(), receiving.clone());
        Ok(Self { node, gossip, subscriptions: HashMap::new(), collector, inbox, receiving, noted })
    }

    pub(super) fn id(&self) -> String {
        self.node.peer_id().to_string()
    }

    pub(super) fn address(&self) -> Result<String, String> {
        let first = self.node.addresses().into_iter().next();
        first.map(|address| address.to_string()).ok_or_else(|| "our node listens nowhere".to_owned())
    }

    pub(super) async fn dial(&self, address: &str) -> Result<(), String> {
        let address: Multiaddr = address.parse().map_err(|error| format!("{address}: {error}"))?;
        self.node.connect(address).await.map(drop).map_err(|error| error.to_string())
    }

    pub(super) fn subscribe(&mut self, topic: &str) -> Result<(), String> {
        let subscription = self.gossip.subscribe(topic).map_err(|error| error.to_string())?;
        let relating = tokio::spawn(relate(subscription, self.receiving.clone()));
        self.subscriptions.insert(topic.to_owned(), relating);
        Ok(())
    }

    pub(super) fn subscribe_partial(&mut self, topic: &str, mode: Mode) -> Result<(), String> {
        let rules = TopicConfig::default().partial(mode);
        self.gossip.set_topic(topic, rules).map_err(|error| error.to_string())?;
        let subscription = self.gossip.subscribe_partial(topic).map_err(|error| error.to_string())?;
        // As long as the node lives: these topics are not left.
        tokio::spawn(self.collector.clone().collect(subscription));
        self.subscribe(topic)
    }

    pub(super) async fn publish_partial(
        &self,
        topic: &str,
        name: &str,
        bytes: usize,
        share: Share,
    ) -> Result<(), String> {
        self.collector.publish(topic, name, bytes, share).await
    }

    pub(super) async fn unsubscribe(&mut self, topic: &str) -> Result<(), String> {
        let relating = self.subscriptions.remove(topic).ok_or("not subscribed")?;
        relating.abort();
        // Only once the task is over, its subscription is.
        let _ = relating.await;
        Ok(())
    }

    pub(super) async fn publish(&self, topic: &str, name: &str, bytes: usize) -> Result<(), String> {
        let published = self.gossip.publish(topic, message::write(name, bytes)).await;
        published.map(drop).map_err(|error| error.to_string())
    }

    pub(super) async fn state(&self, topic: &str) -> Result<State, String> {
        let topic = Topic::new(topic).map_err(|error| error.to_string())?;
        let texts = |peers: Vec<PeerId>| peers.iter().map(ToString::to_string).collect();
        let (subscribers, mesh) = (self.gossip.peers(&topic).await, self.gossip.mesh(&topic).await);
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let protocols = noted.versions.iter().map(|(peer, version)| (peer.to_string(), version.to_string()));
        Ok(State { subscribers: texts(subscribers), mesh: texts(mesh), protocols: protocols.collect() })
    }

    pub(super) async fn received(&mut self) -> Result<Received, String> {
        self.inbox.recv().await.ok_or_else(|| "our node has ended".to_owned())
    }

    /// An error if others broke the rules; else how much was gossiped.
    pub(super) fn misdeeds(&self) -> Result<String, String> {
        let stats = self.gossip.stats();
        if stats.misdeeds.is_empty() {
            let (sent, asked) = (stats.ihave_sent, stats.iwant_received);
            let (told, wanted) = (stats.ihave_received, stats.iwant_sent);
            return Ok(format!(
                "told of {sent} and asked for {asked}; was told of {told} and asked for {wanted}"
            ));
        }
        Err(format!("peers broke rules: {:?}", stats.misdeeds))
    }

    /// Bytes of parts that it has sent, and that came, up to its last heartbeat.
    pub(super) fn parts(&self) -> (u64, u64) {
        let counted = self.gossip.stats().partial;
        (counted.sent_bytes, counted.received_bytes)
    }

    /// Ends it; an error if it does not end, or if one of its actors has panicked.
    pub(super) async fn stop(&self) -> Result<(), String> {
        if timeout(SHUTDOWN, self.node.shutdown()).await.is_err() {
            return Err(format!("our node did not end within {} s", SHUTDOWN.as_secs()));
        }
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.panicked.is_empty() { Ok(()) } else { Err(noted.panicked.join("; ")) }
    }

    pub(super) fn noticed(&self) -> Vec<String> {
        let mut noticed = self.noted.lock().unwrap_or_else(PoisonError::into_inner).noticed.clone();
        noticed.push(format!("it counted {:?}", self.gossip.stats()));
        noticed
    }
}

async fn relate(mut subscription: Subscription, to: mpsc::Sender<Received>) {
    while let Some(message) = subscription.next().await {
        let (name, intact) = message::read(&message.data);
        let author = message.author.map(|peer| peer.to_string()).unwrap_or_default();
        let topic = message.topic.to_string();
        let received = Received { topic, name, bytes: message.data.len(), intact, author };
        if to.send(received).await.is_err() {
            return;
        }
    }
}

async fn watch_node(mut events: peerage::Events, noted: Arc<Mutex<Noted>>) {
    while let Some(event) = events.next().await {
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Disconnected { connection, why, .. } => {
                noted.notice(format!("disconnected from {}: {why}", connection.peer));
            }
            Event::IncomingFailed { remote, why, .. } => {
                noted.notice(format!("an incoming connection from {remote} failed: {why}"));
            }
            Event::ActorPanicked { actor, panic, .. } => {
                noted.panicked.push(format!("our actor {actor} panicked: {panic}"));
            }
            Event::ActorSwitchedOff { actor, why } => {
                noted.panicked.push(format!("our actor {actor} was switched off: {why}"));
            }
            _ => {}
        }
    }
}

async fn watch_gossip(mut events: peerage::pubsub::Events, noted: Arc<Mutex<Noted>>) {
    while let Some(happened) = events.next().await {
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        match happened {
            Happened::Event(GossipEvent::PeerJoined { peer, version }) => {
                noted.versions.insert(peer, version);
            }
            Happened::Event(GossipEvent::PeerLeft { peer }) => {
                noted.versions.remove(&peer);
                noted.notice(format!("{peer} left"));
            }
            other => noted.notice(format!("{other:?}")),
        }
    }
}
