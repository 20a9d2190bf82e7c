//! A node that gossips, with a task for each subscription, as a program has it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bench_peer::{
    Error, Result, failed,
    gossip::{
        FIRST_HEARTBEAT_MS, Gossiper, HEARTBEAT_MS, MAX_RPC, MAX_TOPICS, MESH, MESH_HIGH, MESH_LOW,
        MESH_OUTBOUND, Taken,
    },
};
use peerage::{
    Gossipsub, Multiaddr, Node,
    pubsub::{Config, Handle, Topic},
};
use tokio::sync::Semaphore;

/// Messages that are being handed to the node at once.
const PUBLISHING: usize = 64;

pub(crate) struct Gossiping {
    node: Node,
    gossip: Handle,
    address: String,
    publishing: Arc<Semaphore>,
    wrong: Wrong,
}

/// Why a message did not go everywhere.
type Wrong = Arc<Mutex<Option<String>>>;

pub(crate) fn protocol() -> Result<Gossipsub> {
    let mut config = Config::default();
    (config.mesh.size, config.mesh.low, config.mesh.high) = (MESH, MESH_LOW, MESH_HIGH);
    config.mesh.outbound = MESH_OUTBOUND;
    config.heartbeat = Duration::from_millis(HEARTBEAT_MS);
    config.first_heartbeat = Duration::from_millis(FIRST_HEARTBEAT_MS);
    config.scoring = None;
    config.rpc.bytes = MAX_RPC;
    config.other_topics.max_size = MAX_RPC - 1024;
    config.max_topics_per_peer = MAX_TOPICS;
    Gossipsub::new(config).map_err(failed("the configuration"))
}

impl Gossiping {
    pub(crate) fn new(node: Node, gossip: Handle) -> Result<Self> {
        let address = node.addresses().first().map(Multiaddr::to_string);
        let address = address.ok_or_else(|| Error::Failed("it listens nowhere".to_owned()))?;
        let (publishing, wrong) = (Arc::new(Semaphore::new(PUBLISHING)), Wrong::default());
        Ok(Self { node, gossip, address, publishing, wrong })
    }
}

impl Gossiper for Gossiping {
    fn address(&self) -> &str {
        &self.address
    }

    async fn dial(&self, address: &str) -> Result<()> {
        let address: Multiaddr = address.parse().map_err(failed("the address"))?;
        self.node.connect(address).await.map(drop).map_err(failed("dialing"))
    }

    async fn subscribe(&self, topic: &str, mut taken: Taken) -> Result<()> {
        let mut messages = self.gossip.subscribe(topic).map_err(failed("subscribing"))?;
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                taken(&message.data);
            }
        });
        Ok(())
    }

    async fn publish(&self, topic: &'static str, data: Vec<u8>) -> Result<()> {
        if let Some(why) = self.wrong.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Error::Failed(why));
        }
        let place = self.publishing.clone().acquire_owned().await.map_err(failed("publishing"))?;
        let (gossip, wrong) = (self.gossip.clone(), self.wrong.clone());
        tokio::spawn(async move {
            let why = match gossip.publish(topic, data).await {
                Ok(published) if published.full == 0 && published.peers > 0 => None,
                Ok(published) => {
                    Some(format!("{} took a message, {} did not", published.peers, published.full))
                }
                Err(error) => Some(format!("publishing: {error}")),
            };
            if why.is_some() {
                *wrong.lock().unwrap_or_else(PoisonError::into_inner) = why;
            }
            drop(place);
        });
        Ok(())
    }

    async fn mesh(&self, topic: &str) -> Result<usize> {
        let topic = Topic::new(topic).map_err(failed("the topic"))?;
        Ok(self.gossip.mesh(&topic).await.len())
    }
}
