//! A benchmark peer on litep2p. See ../README.md for the command line and what is printed.

mod protocol;

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bench_peer::{Dialer, Error, Options, PING, PROTOCOLS, Result, Stack, Transport, failed, gossip::Silent};
use litep2p::{
    Litep2p, Litep2pEvent,
    config::ConfigBuilder,
    crypto::ed25519::Keypair,
    executor::Executor,
    protocol::libp2p::identify,
    substream::Substream,
    transport::{quic, tcp, websocket},
    types::multiaddr::Multiaddr,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use protocol::{Protocol, Request};

/// As in Cargo.toml and Cargo.lock.
const ABOUT: &str =
    "litep2p 0.16.0 (noise on ring; yamux 0.13; quinn 0.9; TCP_NODELAY on, which is not its default)";

fn main() -> ExitCode {
    bench_peer::main(Lite)
}

struct Lite;

/// A node, and where each of its protocols is asked.
struct Running {
    requests: HashMap<&'static str, mpsc::Sender<Request>>,
    orders: mpsc::Sender<(Order, Done)>,
    tasks: Arc<Tasks>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The tasks own the node, and the node its executor: nothing of it would end by itself.
        self.tasks.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

enum Order {
    Dial(Multiaddr),
    HangUp,
}

type Done = oneshot::Sender<Result<()>>;

/// All tasks of a node, which end with it.
#[derive(Default)]
struct Tasks(Mutex<JoinSet<()>>);

impl Executor for Tasks {
    fn run(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(future);
    }

    fn run_with_name(&self, _: &'static str, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.run(future);
    }
}

fn start(
    options: &Options,
    listen: bool,
) -> Result<(Litep2p, HashMap<&'static str, mpsc::Sender<Request>>, Arc<Tasks>)> {
    let tasks = Arc::new(Tasks::default());
    let (identify, mut identified) = identify::Config::new("ipfs/0.1.0".to_owned(), None);
    let mut config = ConfigBuilder::new()
        .with_keypair(Keypair::generate())
        .with_libp2p_identify(identify)
        // Idle connections are what one of the measures is about.
        .with_keep_alive_timeout(Duration::from_secs(3600));
    let host = options.host;
    let at = |rest: &str| -> Result<Vec<Multiaddr>> {
        let address = format!("/ip4/{host}/{rest}");
        if listen { Ok(vec![address.parse().map_err(failed("the address"))?]) } else { Ok(Vec::new()) }
    };
    config = match options.transport {
        Transport::TcpNoise => config.with_tcp(tcp::config::Config {
            listen_addresses: at("tcp/0")?,
            nodelay: true,
            ..Default::default()
        }),
        Transport::WsNoise => config.with_websocket(websocket::config::Config {
            listen_addresses: at("tcp/0/ws")?,
            nodelay: true,
            ..Default::default()
        }),
        Transport::Quic => {
            // Its QUIC wants a socket to dial from.
            let listen_addresses =
                vec![format!("/ip4/{host}/udp/0/quic-v1").parse().map_err(failed("the address"))?];
            // Connections outlive being closed, and every third dial of one node hangs: a node for each, which takes
            // all its tasks with it.
            let executor: Arc<dyn Executor> = tasks.clone();
            config
                .with_quic(quic::config::Config { listen_addresses, ..Default::default() })
                .with_executor(executor)
        }
        other => return Err(Error::Unsupported(format!("{} in litep2p", other.word()))),
    };
    let mut requests = HashMap::new();
    for name in PROTOCOLS {
        let (protocol, sender) = Protocol::new(name);
        config = config.with_user_protocol(Box::new(protocol));
        requests.insert(name, sender);
    }
    let node = Litep2p::new(config.build()).map_err(failed("starting"))?;
    // Events that nobody takes would stop identify.
    tasks.run(Box::pin(async move { while futures::StreamExt::next(&mut identified).await.is_some() {} }));
    Ok((node, requests, tasks))
}

impl Stack for Lite {
    type Dialer = Node;
    type Listener = Running;
    type Gossiper = Silent;

    fn about(&self) -> String {
        ABOUT.to_owned()
    }

    async fn listen(&self, options: &Options) -> Result<(Running, String)> {
        let (node, requests, tasks) = start(options, true)?;
        let address = node.listen_addresses().next().map(ToString::to_string);
        let address = address.ok_or_else(|| Error::Failed("it listens nowhere".to_owned()))?;
        let (orders, ordered) = mpsc::channel(1);
        tasks.run(Box::pin(run(node, requests.clone(), ordered)));
        Ok((Running { requests, orders, tasks }, address))
    }

    async fn dialer(&self, options: &Options, _crowd: bool) -> Result<Node> {
        let node = Node { options: options.clone(), running: Mutex::default() };
        node.running()?;
        Ok(node)
    }
}

/// Polls a node, and does one thing after another. Done is when the connection is there, or is gone.
async fn run(
    mut node: Litep2p,
    requests: HashMap<&'static str, mpsc::Sender<Request>>,
    mut ordered: mpsc::Receiver<(Order, Done)>,
) {
    let mut waiting: Option<Done> = None;
    loop {
        let event = tokio::select! {
            order = ordered.recv() => {
                match order {
                    Some((Order::Dial(address), done)) => match node.dial_address(address).await {
                        Ok(()) => waiting = Some(done),
                        Err(error) => drop(done.send(Err(failed("dialing")(error)))),
                    },
                    Some((Order::HangUp, done)) => {
                        if let Some(any) = requests.get(PING) {
                            let _ = any.send(Request::HangUp).await;
                        }
                        waiting = Some(done);
                    }
                    None => return,
                }
                continue;
            }
            event = node.next_event() => event,
        };
        let outcome = match event {
            Some(Litep2pEvent::ConnectionEstablished { .. } | Litep2pEvent::ConnectionClosed { .. }) => {
                Ok(())
            }
            Some(Litep2pEvent::DialFailure { error, .. }) => Err(failed("dialing")(error)),
            Some(Litep2pEvent::ListDialFailures { errors }) => {
                Err(Error::Failed(format!("dialing: {errors:?}")))
            }
            None => return,
        };
        if let Some(done) = waiting.take() {
            let _ = done.send(outcome);
        }
    }
}

struct Node {
    options: Options,
    running: Mutex<Option<Arc<Running>>>,
}

impl Node {
    /// The node under it, or a new one.
    fn running(&self) -> Result<Arc<Running>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            return Ok(Arc::clone(running));
        }
        let (node, requests, tasks) = start(&self.options, false)?;
        let (orders, ordered) = mpsc::channel(1);
        // Through the node's own tasks, so that it ends when they do.
        tasks.run(Box::pin(run(node, requests.clone(), ordered)));
        Ok(Arc::clone(running.insert(Arc::new(Running { requests, orders, tasks }))))
    }

    async fn order(&self, order: Order) -> Result<()> {
        let gone = || Error::Failed("the node has ended".to_owned());
        let (done, outcome) = oneshot::channel();
        let orders = self.running()?.orders.clone();
        orders.send((order, done)).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}

impl Dialer for Node {
    type Stream = Substream;

    async fn dial(&self, address: &str) -> Result<()> {
        self.order(Order::Dial(address.parse().map_err(failed("the address"))?)).await
    }

    async fn open(&self, protocol: &'static str) -> Result<Substream> {
        let gone = || Error::Failed("the node has ended".to_owned());
        let running = self.running()?;
        let requests =
            running.requests.get(protocol).ok_or_else(|| Error::Unsupported(protocol.to_owned()))?;
        let (opened, stream) = oneshot::channel();
        requests.send(Request::Open(opened)).await.map_err(|_| gone())?;
        stream.await.map_err(|_| gone())?
    }

    async fn hang_up(&self) -> Result<()> {
        if self.options.transport == Transport::Quic {
            drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).take());
            return Ok(());
        }
        self.order(Order::HangUp).await
    }
}
