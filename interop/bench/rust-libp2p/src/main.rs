//! A benchmark peer on rust-libp2p. See ../README.md for the command line and what is printed.

mod behaviour;
mod gossip;

use std::{process::ExitCode, time::Duration};

use bench_peer::{Dialer, Error, Options, Result, Stack, Transport, failed};
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Stream, Swarm, Transport as _,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    identify,
    identity::Keypair,
    multiaddr::Protocol,
    noise, quic,
    swarm::{self, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, tls, websocket, yamux,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use behaviour::Control;
use gossip::Gossiping;

/// As in Cargo.toml and Cargo.lock.
const ABOUT: &str = "rust-libp2p 0.57.1 (noise and TLS on ring, ChaCha20 first; yamux 0.14; quinn 0.11)";

fn main() -> ExitCode {
    bench_peer::main(Libp2p)
}

struct Libp2p;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    streams: behaviour::Behaviour,
}

fn new_swarm(transport: Transport) -> Result<Swarm<Behaviour>> {
    let key = Keypair::generate_ed25519();
    let identify = identify::Config::new("ipfs/0.1.0".to_owned(), key.public());
    let behaviour =
        Behaviour { identify: identify::Behaviour::new(identify), streams: behaviour::Behaviour::default() };
    // Idle connections are what one of the measures is about.
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(3600));
    Ok(Swarm::new(new_transport(transport, &key)?, behaviour, key.public().to_peer_id(), config))
}

/// As the library's own builder puts them together.
fn new_transport(transport: Transport, key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let noise = || noise::Config::new(key).map_err(failed("noise"));
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    Ok(match transport {
        Transport::TcpNoise => {
            let tcp = tcp().upgrade(Version::V1Lazy);
            tcp.authenticate(noise()?).multiplex(yamux::Config::default()).boxed()
        }
        Transport::TcpTls => {
            let tls = tls::Config::new(key).map_err(failed("tls"))?;
            tcp().upgrade(Version::V1Lazy).authenticate(tls).multiplex(yamux::Config::default()).boxed()
        }
        Transport::WsNoise => {
            let ws = websocket::Config::new(tcp()).upgrade(Version::V1Lazy);
            ws.authenticate(noise()?).multiplex(yamux::Config::default()).boxed()
        }
        Transport::Quic => {
            let mut config = quic::Config::new(key);
            // 256 is too few for as many streams and identify.
            config.max_concurrent_stream_limit = 384;
            quic::tokio::Transport::new(config)
                .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
                .boxed()
        }
        Transport::WebRtc => return Err(Error::Unsupported("WebRTC".to_owned())),
    })
}

/// Any port, of the protocol that a transport is over.
fn port(transport: Transport) -> &'static str {
    match transport {
        Transport::Quic => "udp/0/quic-v1",
        Transport::WsNoise => "tcp/0/ws",
        _ => "tcp/0",
    }
}

impl Stack for Libp2p {
    type Dialer = Node;
    type Listener = Task;
    type Gossiper = Gossiping;

    fn about(&self) -> String {
        ABOUT.to_owned()
    }

    async fn listen(&self, options: &Options) -> Result<(Task, String)> {
        let mut swarm = new_swarm(options.transport)?;
        let address = format!("/ip4/{}/{}", options.host, port(options.transport));
        swarm.listen_on(address.parse().map_err(failed("the address"))?).map_err(failed("listening"))?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.with(Protocol::P2p(*swarm.local_peer_id()));
            }
        };
        let running = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Ok((Task(running.abort_handle()), address.to_string()))
    }

    async fn dialer(&self, options: &Options, _crowd: bool) -> Result<Node> {
        let swarm = new_swarm(options.transport)?;
        let control = swarm.behaviour().streams.control();
        let (orders, ordered) = mpsc::channel(1);
        let running = tokio::spawn(run(swarm, ordered));
        Ok(Node { control, orders, _task: Task(running.abort_handle()) })
    }

    async fn gossiper(&self, options: &Options) -> Result<Gossiping> {
        gossip::start(options).await
    }
}

/// A task that ends with its owner.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Order {
    Dial(Multiaddr),
    HangUp,
}

type Done = oneshot::Sender<Result<()>>;

/// Polls a swarm, and does one thing after another. Done is when the connection is there, or is gone.
async fn run(mut swarm: Swarm<Behaviour>, mut ordered: mpsc::Receiver<(Order, Done)>) {
    let mut waiting: Option<Done> = None;
    loop {
        tokio::select! {
            order = ordered.recv() => match order {
                Some((Order::Dial(address), done)) => match swarm.dial(DialOpts::from(address)) {
                    Ok(()) => waiting = Some(done),
                    Err(error) => drop(done.send(Err(failed("dialing")(error)))),
                },
                Some((Order::HangUp, done)) => {
                    let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
                    for peer in peers {
                        let _ = swarm.disconnect_peer_id(peer);
                    }
                    waiting = Some(done);
                }
                None => return,
            },
            event = swarm.select_next_some() => {
                let outcome = match event {
                    SwarmEvent::ConnectionEstablished { .. } | SwarmEvent::ConnectionClosed { .. } => Ok(()),
                    SwarmEvent::OutgoingConnectionError { error, .. } => Err(failed("dialing")(error)),
                    _ => continue,
                };
                if let Some(done) = waiting.take() {
                    let _ = done.send(outcome);
                }
            }
        }
    }
}

struct Node {
    control: Control,
    orders: mpsc::Sender<(Order, Done)>,
    _task: Task,
}

impl Node {
    async fn order(&self, order: Order) -> Result<()> {
        let gone = || Error::Failed("the swarm has ended".to_owned());
        let (done, outcome) = oneshot::channel();
        self.orders.send((order, done)).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}

impl Dialer for Node {
    type Stream = Compat<Stream>;

    async fn dial(&self, address: &str) -> Result<()> {
        self.order(Order::Dial(address.parse().map_err(failed("the address"))?)).await
    }

    async fn open(&self, protocol: &'static str) -> Result<Compat<Stream>> {
        Ok(self.control.open(protocol).await?.compat())
    }

    async fn hang_up(&self) -> Result<()> {
        self.order(Order::HangUp).await
    }
}
