//! A swarm that gossips, in a task of its own, which calls the subscribers itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bench_peer::{
    Error, Options, Result, failed,
    gossip::{
        FIRST_HEARTBEAT_MS, Gossiper, HEARTBEAT_MS, MAX_RPC, MESH, MESH_HIGH, MESH_LOW, MESH_OUTBOUND, Taken,
    },
};
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, Swarm,
    gossipsub::{self, IdentTopic, MessageAuthenticity, TopicHash, ValidationMode},
    identify,
    identity::Keypair,
    multiaddr::Protocol,
    swarm::{self, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
};
use tokio::sync::{mpsc, oneshot};

use crate::{Task, new_transport, port};

/// Orders that wait for the swarm.
const ORDERS: usize = 64;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    gossip: gossipsub::Behaviour,
}

pub(crate) struct Gossiping {
    address: String,
    orders: mpsc::Sender<Order>,
    wrong: Wrong,
    _task: Task,
}

/// Why a message did not go everywhere.
type Wrong = Arc<Mutex<Option<String>>>;

enum Order {
    Dial(Multiaddr, oneshot::Sender<Result<()>>),
    Subscribe(IdentTopic, Taken, oneshot::Sender<Result<()>>),
    Publish(IdentTopic, Vec<u8>),
    Mesh(TopicHash, oneshot::Sender<Result<usize>>),
}

fn behaviour(key: &Keypair) -> Result<Behaviour> {
    let identify = identify::Config::new("ipfs/0.1.0".to_owned(), key.public());
    let config = gossipsub::ConfigBuilder::default()
        .mesh_n(MESH)
        .mesh_n_low(MESH_LOW)
        .mesh_n_high(MESH_HIGH)
        .mesh_outbound_min(MESH_OUTBOUND)
        .heartbeat_interval(Duration::from_millis(HEARTBEAT_MS))
        .heartbeat_initial_delay(Duration::from_millis(FIRST_HEARTBEAT_MS))
        .flood_publish(true)
        .max_transmit_size(MAX_RPC)
        .validation_mode(ValidationMode::Strict)
        .build()
        .map_err(failed("the configuration"))?;
    let gossip = gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), config);
    Ok(Behaviour {
        identify: identify::Behaviour::new(identify),
        gossip: gossip.map_err(failed("gossipsub"))?,
    })
}

/// Starts a node that listens.
pub(crate) async fn start(options: &Options) -> Result<Gossiping> {
    let key = Keypair::generate_ed25519();
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(3600));
    let transport = new_transport(options.transport, &key)?;
    let mut swarm = Swarm::new(transport, behaviour(&key)?, key.public().to_peer_id(), config);
    let address = format!("/ip4/{}/{}", options.host, port(options.transport));
    swarm.listen_on(address.parse().map_err(failed("the address"))?).map_err(failed("listening"))?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.with(Protocol::P2p(*swarm.local_peer_id()));
        }
    };
    let (orders, ordered) = mpsc::channel(ORDERS);
    let wrong = Wrong::default();
    let running = tokio::spawn(run(swarm, ordered, wrong.clone()));
    Ok(Gossiping { address: address.to_string(), orders, wrong, _task: Task(running.abort_handle()) })
}

async fn run(mut swarm: Swarm<Behaviour>, mut ordered: mpsc::Receiver<Order>, wrong: Wrong) {
    let mut dialing: Option<oneshot::Sender<Result<()>>> = None;
    let mut subscribers: HashMap<TopicHash, Taken> = HashMap::new();
    let went_wrong = |why: String| *wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    loop {
        tokio::select! {
            order = ordered.recv() => match order {
                Some(Order::Dial(address, done)) => match swarm.dial(DialOpts::from(address)) {
                    Ok(()) => dialing = Some(done),
                    Err(error) => drop(done.send(Err(failed("dialing")(error)))),
                },
                Some(Order::Subscribe(topic, taken, done)) => {
                    let subscribed = swarm.behaviour_mut().gossip.subscribe(&topic);
                    subscribers.insert(topic.hash(), taken);
                    let _ = done.send(subscribed.map(drop).map_err(failed("subscribing")));
                }
                Some(Order::Publish(topic, data)) => {
                    if let Err(error) = swarm.behaviour_mut().gossip.publish(topic, data) {
                        went_wrong(format!("publishing: {error}"));
                    }
                }
                Some(Order::Mesh(topic, reply)) => {
                    let _ = reply.send(Ok(swarm.behaviour().gossip.mesh_peers(&topic).count()));
                }
                None => return,
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. })) => {
                    if let Some(taken) = subscribers.get_mut(&message.topic) {
                        taken(&message.data);
                    }
                }
                SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::SlowPeer { peer_id, .. })) => {
                    went_wrong(format!("messages to {peer_id} were dropped"));
                }
                SwarmEvent::ConnectionEstablished { endpoint, .. } if endpoint.is_dialer() => {
                    if let Some(done) = dialing.take() {
                        let _ = done.send(Ok(()));
                    }
                }
                SwarmEvent::OutgoingConnectionError { error, .. } => {
                    if let Some(done) = dialing.take() {
                        let _ = done.send(Err(failed("dialing")(error)));
                    }
                }
                _ => {}
            },
        }
    }
}

impl Gossiping {
    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<Result<T>>) -> Order) -> Result<T> {
        let (done, outcome) = oneshot::channel();
        self.orders.send(order(done)).await.map_err(failed("the swarm"))?;
        outcome.await.map_err(failed("the swarm"))?
    }
}

impl Gossiper for Gossiping {
    fn address(&self) -> &str {
        &self.address
    }

    async fn dial(&self, address: &str) -> Result<()> {
        let address = address.parse().map_err(failed("the address"))?;
        self.order(|done| Order::Dial(address, done)).await
    }

    async fn subscribe(&self, topic: &str, taken: Taken) -> Result<()> {
        let topic = IdentTopic::new(topic);
        self.order(|done| Order::Subscribe(topic, taken, done)).await
    }

    async fn publish(&self, topic: &'static str, data: Vec<u8>) -> Result<()> {
        if let Some(why) = self.wrong.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Error::Failed(why));
        }
        let order = Order::Publish(IdentTopic::new(topic), data);
        self.orders.send(order).await.map_err(failed("the swarm"))
    }

    async fn mesh(&self, topic: &str) -> Result<usize> {
        let topic = IdentTopic::new(topic).hash();
        self.order(|done| Order::Mesh(topic, done)).await
    }
}
