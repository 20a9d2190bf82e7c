//! The benchmark peer on Peerage, as a user of the library puts it together. See ../README.md for the command line and
//! what is printed.

#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

mod crowd;
mod gossip;

use std::{process::ExitCode, sync::Mutex};

use bench_peer::{Dialer, Error, Options, PING, PROTOCOLS, REQUEST, Result, Stack, Transport, failed, serve};
use peerage::{
    Builder, First, Keypair, Limits, Multiaddr, Node, OpenOptions, Optimism, PeerId, ProtocolId,
    ServeOptions, Stream,
    transport::upgrade::{KeyExchange, MuxerKind, Security},
};

use crowd::Crowd;
use gossip::Gossiping;

/// More than any measure opens; the defaults are for nodes that strangers reach.
const CONNECTIONS: usize = 4096;
const STREAMS: usize = 512;

fn main() -> ExitCode {
    // A node has threads of its own. What is measured runs beside them, as a program on the library does.
    bench_peer::main_beside(Peerage::default())
}

#[derive(Default)]
struct Peerage {
    crowd: Mutex<Option<Crowd>>,
}

fn builder(options: &Options) -> Builder {
    let security = match options.transport {
        Transport::TcpTls => Security::Tls,
        _ => Security::Noise,
    };
    let mut limits = Limits::default();
    limits.connections_inbound = CONNECTIONS;
    limits.connections_total = 2 * CONNECTIONS;
    limits.file_descriptors = 2 * CONNECTIONS;
    limits.streams_inbound_per_connection = STREAMS;
    limits.streams_inbound_per_peer = STREAMS;
    limits.streams_inbound_per_protocol_and_peer = STREAMS;
    limits.streams_negotiating_per_connection = STREAMS;
    // The others have no hybrid; with them it is compared at what they have.
    let key_exchange = if options.hybrid { KeyExchange::Hybrid } else { KeyExchange::Classical };
    let builder = Node::builder(Keypair::generate()).key_exchange(key_exchange);
    builder.security([security]).muxers([MuxerKind::Yamux]).limits(limits)
}

async fn listen(node: &Node, options: &Options) -> Result<()> {
    let rest = match options.transport {
        Transport::TcpNoise | Transport::TcpTls => "tcp/0",
        Transport::Quic => "udp/0/quic-v1",
        Transport::WsNoise => "tcp/0/ws",
        Transport::WebRtc => "udp/0/webrtc-direct",
    };
    let address = format!("/ip4/{}/{rest}", options.host);
    match node.listen(address.parse().map_err(failed("the address"))?).await {
        Err(peerage::node::NodeListenError::Unsupported(address)) => {
            Err(Error::Unsupported(address.to_string()))
        }
        other => other.map(drop).map_err(failed("listening")),
    }
}

impl Stack for Peerage {
    type Dialer = Dialing;
    type Listener = Node;
    type Gossiper = Gossiping;

    fn about(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!("peerage {version} (noise and TLS on aws-lc; yamux of its own)")
    }

    async fn listen(&self, options: &Options) -> Result<(Node, String)> {
        let node = builder(options).workers(options.workers).start().await.map_err(failed("starting"))?;
        listen(&node, options).await?;
        // Pings are answered by every node of the library.
        for protocol in PROTOCOLS.into_iter().filter(|protocol| *protocol != PING) {
            // A request gives back what it brings, however often.
            let options = ServeOptions::default();
            let options = if protocol == REQUEST { options.replay_safe() } else { options };
            let name = ProtocolId::new(protocol).map_err(failed("the protocol"))?;
            let serving = node.serve_with(name, options, move |stream, _| serve(protocol, stream));
            serving.map_err(failed("serving"))?;
        }
        let address = node.addresses().first().map(Multiaddr::to_string);
        Ok((node, address.ok_or_else(|| Error::Failed("it listens nowhere".to_owned()))?))
    }

    async fn dialer(&self, options: &Options, crowd: bool) -> Result<Dialing> {
        let builder = builder(options);
        let node = if crowd {
            let starting = self.with_crowd(options.workers, |crowd| crowd.start(builder))?;
            starting.await?
        } else {
            builder.workers(options.workers).start().await.map_err(failed("starting"))?
        };
        Ok(Dialing { node, peer: Mutex::default() })
    }

    async fn gossiper(&self, options: &Options) -> Result<Gossiping> {
        let (builder, gossip) = builder(options).with(gossip::protocol()?);
        let starting = self.with_crowd(options.workers, |crowd| crowd.start(builder))?;
        let node = starting.await?;
        listen(&node, options).await?;
        Gossiping::new(node, gossip)
    }
}

impl Peerage {
    fn with_crowd<T>(&self, workers: usize, doing: impl FnOnce(&mut Crowd) -> T) -> Result<T> {
        let mut crowd = self.crowd.lock().map_err(failed("the crowd"))?;
        if crowd.is_none() {
            *crowd = Some(Crowd::start_threads(workers)?);
        }
        crowd.as_mut().map(doing).ok_or_else(|| Error::Failed("there is no crowd".to_owned()))
    }
}

struct Dialing {
    node: Node,
    peer: Mutex<Option<PeerId>>,
}

impl Dialing {
    fn peer(&self) -> Result<PeerId> {
        let peer = *self.peer.lock().map_err(failed("the peer"))?;
        peer.ok_or_else(|| Error::Failed("there is no connection".to_owned()))
    }
}

impl Dialer for Dialing {
    type Stream = Stream;

    async fn dial(&self, address: &str) -> Result<()> {
        let address: Multiaddr = address.parse().map_err(failed("the address"))?;
        let connected = self.node.connect(address).await.map_err(failed("dialing"))?;
        *self.peer.lock().map_err(failed("the peer"))? = Some(connected.peer);
        Ok(())
    }

    async fn open(&self, protocol: &'static str) -> Result<Stream> {
        self.node.open(self.peer()?, protocol).await.map_err(failed("opening"))
    }

    async fn beside<T, F>(&self, stream: Stream, work: impl FnOnce(Stream) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let ran = self.node.run_beside(stream.connection(), move || work(stream));
        ran.await.map_err(failed("working beside the connection"))?
    }

    async fn ask(&self, address: &str, protocol: &'static str, request: &[u8]) -> Result<Stream> {
        let address: Multiaddr = address.parse().map_err(failed("the address"))?;
        let peer = address.peer_id().ok_or_else(|| Error::Failed("the address names no peer".to_owned()))?;
        *self.peer.lock().map_err(failed("the peer"))? = Some(peer);
        let mut options = OpenOptions::new([ProtocolId::new(protocol).map_err(failed("the protocol"))?]);
        options.addresses = vec![address];
        // Identify may not have told by then.
        options.optimism = Optimism::Always;
        options.first = Some(First::new(request).replay_safe());
        self.node.open_with(peer, options).await.map_err(failed("asking"))
    }

    async fn hang_up(&self) -> Result<()> {
        self.node.disconnect(self.peer()?).await;
        Ok(())
    }
}
