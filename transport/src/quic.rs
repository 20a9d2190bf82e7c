//! `/ip4/<a>/udp/<p>/quic-v1` and `/ip6/<a>/udp/<p>/quic-v1`
//! ([spec](https://github.com/libp2p/specs/blob/master/quic/README.md)), on quinn.
//!
//! QUIC secures and multiplexes by itself: its handshake is TLS with the certificates of
//! [`peerage_security::tls`], its streams are libp2p's. Dials go out from where this transport listens, if it does,
//! so that a NAT keeps one mapping.
//!
//! | | |
//! |---|---|
//! | `port` | a UDP socket with quinn's endpoint on it, shared by dials and a listener |
//! | `handshake` | from the first packet to a connection |
//! | `driver` | a connection: quinn's driver, windows and budget, the orderly end |
//! | `handle`, `stream` | what the layers above see of it |
//!
//! # Who runs what
//!
//! One task is spawned for each socket, in the runtime where it is bound: quinn's endpoint, which reads the socket. It
//! ends with the last listener, dial and connection that use the socket. quinn would spawn a task for each connection as
//! well; here that is a part of the connection's [`Driver`](peerage_muxer::Driver), and of the handshake before there
//! is one. A panic in it ends that connection; one in the endpoint ends the socket's connections, and its listener
//! fails and can be bound again.
//!
//! # What a peer can make one connection hold
//!
//! - Unread data: [`RECEIVE_WINDOW`] over all streams, taken from the budget with the handshake. It grows to
//!   [`MAX_RECEIVE_WINDOW`] where that makes the connection faster, and where one stream that nobody reads would else
//!   stop the others; it is taken from the budget before the peer is told.
//! - Unsent and unacknowledged data: [`SEND_WINDOW`], growing to [`MAX_SEND_WINDOW`], in the same way.
//! - Streams: [`MAX_STREAMS`], accepted or not.
//! - The connection itself: [`IDLE_TIMEOUT`].
//!
//! # A peer that is known
//!
//! Listeners hand out tickets, and a dial that expects a peer whose ticket is there resumes that session
//! ([`peerage_security::tls::quic`]). Then the dial may carry the beginning of a first stream ahead of the handshake
//! ([`DialOpts::early`]), and a listener may answer it before the handshake is done ([`UpgradeOpts::early`](crate::UpgradeOpts::early)):
//! the answer is there after one round trip.
//!
//! # What strangers can do
//!
//! - Junk is dropped by its first byte, and by quinn.
//! - Who comes while [`RETRY_THRESHOLD`] handshakes are under way has to show first that it receives at its address
//!   (RFC 9000, section 8.1.2). [`MAX_INCOMING`] wait for the listener; the next is refused.
//! - Before its address is proven, nobody gets more than three times the bytes it sent (RFC 9000, section 8.1).
//!
//! A reset loses what was sent on the stream before and not yet read: QUIC allows it (RFC 9000, section 3.2), and quinn
//! does it on both sides.

mod config;
mod contained;
mod driver;
mod error;
mod flight;
mod handle;
mod handshake;
mod listener;
mod port;
mod qlog;
mod runtime;
mod shared;
mod stream;
mod turns;
mod window;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{FutureExt as _, future::BoxFuture};
use peerage_core::{Keypair, Multiaddr, PeerId, ProtocolId};
use peerage_security::tls;
use quinn::{ServerConfig, crypto::rustls::QuicServerConfig};
use tokio::time;

pub(crate) use self::error::Failure;
pub use self::{
    config::{Config, IDLE_TIMEOUT, KEEP_ALIVE, MAX_LARGE_PACKET, MAX_PACKET, MAX_STREAMS},
    driver::CLOSE_TIMEOUT,
    error::Error,
    window::{MAX_RECEIVE_WINDOW, MAX_SEND_WINDOW, RECEIVE_WINDOW, SEND_WINDOW, STREAM_WINDOW},
};
use self::{
    handshake::Handshake,
    listener::Bound,
    port::{Port, Ports},
};
use crate::{
    DialOpts, Link, ListenError, ListenOpts, Listener, Transport, TransportError, Unfinished, address,
    udp::Sockets,
};

/// What QUIC is called as a muxer; no such protocol is negotiated.
pub const PROTOCOL: ProtocolId = ProtocolId::from_static("/quic-v1");

/// Handshakes of others under way, from which on newcomers have to prove their address first. Less than the smallest
/// number of handshakes that a node's ledger allows, so that forged addresses do not keep others out.
pub const RETRY_THRESHOLD: usize = 16;

/// Newcomers that wait for the listener to look at them.
pub const MAX_INCOMING: usize = 256;

/// Bytes that may come from one of them meanwhile, beside its first packet: some more of a large ClientHello.
const INCOMING_BYTES: u64 = 16 * 1024;

/// Bytes that may come from all of them.
const INCOMING_BYTES_TOTAL: u64 = 1024 * 1024;

/// The QUIC transport. Clones share their sockets.
#[derive(Clone)]
pub struct Quic {
    shared: Arc<Shared>,
}

struct Shared {
    tls: tls::Config,
    config: Config,
    /// For newcomers; each connection gets a copy with a verifier of its own.
    server: ServerConfig,
    ports: Ports,
    under_way: Arc<AtomicUsize>,
}

impl Quic {
    /// A transport that proves to be `keypair`'s peer, on UDP sockets that it may share with others.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, as [`Keypair::generate`] does.
    #[allow(clippy::expect_used, reason = "a machine without randomness can do nothing that follows")]
    pub fn new(keypair: &Keypair, sockets: Sockets, config: Config) -> Self {
        let tls = tls::Config::new(keypair).expect("the operating system gives randomness");
        let tls = tls.exchanging(config.key_exchange).early_data(config.early_data);
        let (crypto, _) = tls.quic_server().expect("the operating system gives randomness");
        let crypto = QuicServerConfig::try_from(crypto).expect("AES-128-GCM is among the ciphers");
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
        let ports = Ports::new(sockets);
        Self { shared: Arc::new(Shared { tls, config, server, ports, under_way: Arc::default() }) }
    }
}

impl Shared {
    fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    fn listen(&self, local: SocketAddr) -> io::Result<Arc<Port>> {
        self.ports.listen(local, &self.config, self.server.clone())
    }
}

/// One of the handshakes of others, until it is done or given up.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn count(quic: &Shared) -> Self {
        quic.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&quic.under_way))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Transport for Quic {
    fn name(&self) -> &'static str {
        "quic"
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        dialable(address).is_some()
    }

    fn listens(&self, address: &Multiaddr) -> bool {
        address::as_quic(address).is_some()
    }

    fn brings_security(&self) -> bool {
        true
    }

    fn may_be_early(&self, peer: PeerId) -> bool {
        self.shared.tls.may_be_early(peer)
    }

    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        let quic = Arc::clone(&self.shared);
        async move {
            let remote = dialable(&address).ok_or(TransportError::Unsupported(address))?;
            let source = route(remote)?;
            let port = quic.ports.dial(remote, opts.reuse_listen_port, &quic.config)?;
            let local = address::quic(SocketAddr::new(source, port.local.port()));
            let answered = match Handshake::dial(&quic, port, remote, opts.expected, opts.early) {
                Ok(mut handshake) => match time::timeout_at(opts.deadline, handshake.answered()).await {
                    Err(_) => return Err(TransportError::Timeout),
                    Ok(answered) => answered.map(|()| handshake),
                },
                Err(failure) => Err(failure),
            };
            if let Err(failure) = &answered {
                nobody(failure)?;
            }
            let remote = address::quic(remote);
            let (here, there) = (local.clone(), remote.clone());
            Ok(Link::Unfinished(Unfinished::new(local, remote, move |opts| {
                handshake::proceed(quic, answered, here, there, opts)
            })))
        }
        .boxed()
    }

    fn listen(
        &self,
        address: Multiaddr,
        _: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        let quic = Arc::clone(&self.shared);
        async move {
            let local =
                address::as_quic(&address).ok_or_else(|| ListenError::Unsupported(address.clone()))?;
            let port = quic.listen(local).map_err(|source| ListenError::Bind { address, source })?;
            Ok(Box::new(Bound::new(quic, port)) as Box<dyn Listener>)
        }
        .boxed()
    }
}

/// Port 0 and unspecified addresses are nowhere.
fn dialable(address: &Multiaddr) -> Option<SocketAddr> {
    address::as_quic(address).filter(|remote| remote.port() != 0 && !remote.ip().is_unspecified())
}

/// From which address `remote` is reached; without a packet. A QUIC endpoint would not tell that there is no way there: it
/// shares its socket with others.
fn route(remote: SocketAddr) -> io::Result<std::net::IpAddr> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

/// Ends of a dial at which nobody who speaks QUIC, or wants to, was there.
fn nobody(failure: &Failure) -> Result<(), TransportError> {
    match failure {
        Failure::TimedOut => Err(TransportError::Timeout),
        Failure::Quic(error @ (Error::Refused | Error::Version)) => {
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, error.clone()).into())
        }
        Failure::Quic(error @ Error::Internal(_)) => Err(io::Error::other(error.clone()).into()),
        _ => Ok(()),
    }
}

impl fmt::Debug for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quic").field("ports", &self.shared.ports).finish_non_exhaustive()
    }
}
