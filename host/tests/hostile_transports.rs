//! The hostile scenarios whose peers are seen above a muxer (S5, S6, S8, S9, S10, S26) or below the handshake (S1),
//! against whole nodes over WebSocket with TLS and without, QUIC and webrtc-direct, on loopback. What they have below and above is
//! the same code that `hostile_peers.rs`, `slowloris.rs` and `identify_bombs.rs` attack in virtual time; what
//! QUIC has of its own is in `quic_frames.rs`.

mod common;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use common::{
    bombs::{Bomb, Says, bombs},
    pki::Pki,
    raw::{ask_for, line_attacks},
    *,
};
use futures::future::join_all;
use peerage_core::{Keypair, Multiaddr};
use peerage_host::{
    Builder, Event, Node, Usage,
    identify::{Identify, IdentifyError},
};
use peerage_muxer::{Connection, ErrorCode};
use peerage_transport::{
    DialOpts, Transport, UpgradeOpts, Upgrader,
    quic::{self, Quic},
    udp::Sockets,
    upgrade,
    webrtc::WebRtc,
    websocket::{self, WebSocket},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// Long enough for any machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a connection goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    WebSocket,
    SecureWebSocket,
    Quic,
    WebRtc,
}

/// WebSockets with a certificate for this machine, whose authority is trusted.
fn with_certificate() -> websocket::Config {
    static CONFIG: OnceLock<websocket::Config> = OnceLock::new();
    // What is in the files is read at once.
    CONFIG.get_or_init(|| Pki::new("hostile", &["127.0.0.1"]).config()).clone()
}

impl Over {
    fn any(self) -> &'static str {
        match self {
            Self::WebSocket => "/ip4/127.0.0.1/tcp/0/ws",
            Self::SecureWebSocket => "/ip4/127.0.0.1/tcp/0/tls/ws",
            Self::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
            Self::WebRtc => "/ip4/127.0.0.1/udp/0/webrtc-direct",
        }
    }

    fn transport(self, keypair: &Keypair) -> Arc<dyn Transport> {
        match self {
            Self::WebSocket => Arc::new(WebSocket::new(websocket::Config::default())),
            Self::SecureWebSocket => Arc::new(WebSocket::new(with_certificate())),
            Self::Quic => Arc::new(Quic::new(keypair, Sockets::new(), quic::Config::default())),
            Self::WebRtc => Arc::new(WebRtc::new(keypair, Sockets::new())),
        }
    }

    /// A node in the making.
    fn builder(self, keypair: Keypair) -> Builder {
        Node::builder(keypair).in_thread().websocket(with_certificate())
    }

    async fn node(self) -> Node {
        let builder = self.builder(Keypair::generate()).listen(self.any()).expect("an address");
        let node = builder.start().await.expect("it starts");
        serve_echo(&node);
        node
    }
}

/// On one thread, in the time that the system has.
fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build_local(Default::default()).expect("a runtime").block_on(test);
}

/// Honest up to its muxer, and then with streams in its hands.
struct Peer {
    connection: Connection,
    driver: JoinHandle<()>,
}

impl Peer {
    async fn dial(over: Over, to: &Multiaddr) -> Option<Self> {
        let keypair = Keypair::generate();
        let opts = DialOpts::new(Instant::now() + PATIENCE);
        let link = over.transport(&keypair).dial(to.clone(), opts.clone()).await.ok()?;
        let upgrader = Upgrader::new(&keypair, upgrade::Config::default());
        let muxed = upgrader.finish(link, UpgradeOpts::from(&opts)).await.ok()?.muxed;
        let driver = tokio::spawn(async move { drop(muxed.driver.await) });
        Some(Self { connection: muxed.connection, driver })
    }

    /// Says this on a stream, and hears what comes until the stream's end.
    async fn say(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connection.open().await.expect("a stream");
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        heard
    }

    async fn echoes(&self) -> bool {
        let mut stream = self.connection.open().await.expect("a stream");
        stream.write_all(&[&ask_for(ECHO)[..], b"hello"].concat()).await.expect("written");
        stream.close_write().await.expect("closed");
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        heard.ends_with(b"hello")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn at(node: &Node) -> Multiaddr {
    node.listen_addresses().remove(0)
}

/// An honest peer beside the hostile one.
async fn is_served(bob: &Node, alice: &Node) {
    let stream = timeout(PATIENCE, bob.open(alice.peer_id(), ECHO)).await.expect("in time").expect("open");
    timeout(PATIENCE, check_echo(stream, 10_000)).await.expect("in time");
}

fn attack(over: Over) {
    run(async move {
        let (alice, bob) = (over.node().await, over.node().await);
        bob.connect(address(&alice)).await.expect("connected");

        // S8, S26: all at once, each on a stream of its own, which ends, and nothing else does.
        let peer = Peer::dial(over, &at(&alice)).await.expect("an honest handshake");
        let lines: Vec<_> = line_attacks().collect();
        let said = join_all(lines.iter().map(|(_, bytes)| peer.say(bytes)));
        timeout(PATIENCE, said).await.expect("each stream is ended");
        assert!(peer.echoes().await, "{over:?}: the connection lives");
        is_served(&bob, &alice).await;

        // S5: an echo that is asked for and not read stalls alone.
        let mut deaf = peer.connection.open().await.expect("a stream");
        deaf.write_all(&ask_for(ECHO)).await.expect("written");
        let mut written = 0;
        let block = [7; 16 * 1024];
        while let Ok(Ok(())) = timeout(Duration::from_millis(200), deaf.write_all(&block)).await {
            written += block.len();
            assert!(written < 128 << 20, "{over:?}: nothing stops it");
        }
        // All streams of WebRTC share one window: who does not read one of its own stops them all, and nobody else's.
        if over != Over::WebRtc {
            assert!(peer.echoes().await, "{over:?}: another stream goes on");
        }
        is_served(&bob, &alice).await;
        drop((deaf, peer));

        match over {
            Over::Quic => opened_and_reset(&alice).await,
            Over::WebRtc => opened_and_reset_in_turn(&alice).await,
            Over::WebSocket | Over::SecureWebSocket => {}
        }
        is_served(&bob, &alice).await;
        assert!(alice.tree().0.iter().all(|actor| actor.panics == 0), "{}", alice.tree());
        bob.disconnect(alice.peer_id()).await;
        until("all is given back", || alice.usage() == Usage::default()).await;
        alice.shutdown().await;
        bob.shutdown().await;
    });
}

/// S6: streams that are opened and reset, over and over, end their connection. (What yamux says of it is in
/// `hostile_peers.rs`.)
async fn opened_and_reset(alice: &Node) {
    let mut events = alice.events();
    let peer = Peer::dial(Over::Quic, &at(alice)).await.expect("an honest handshake");
    let connected = event(&mut events, |event| match event {
        Event::Connected { connection, .. } => Some(connection.id),
        _ => None,
    });
    let id = timeout(PATIENCE, connected).await.expect("it is let in");
    let flood = async {
        while let Ok(mut stream) = peer.connection.open().await {
            let begun = async {
                stream.write_all(b"\x13/multi").await?;
                stream.flush().await
            };
            let _ = begun.await;
            stream.reset(ErrorCode::NONE);
        }
    };
    let ended = event(&mut events, |event| match event {
        Event::Disconnected { connection, why, .. } if connection.id == id => Some(why),
        _ => None,
    });
    let why = timeout(PATIENCE, async { tokio::join!(flood, ended).1 }).await.expect("it is ended");
    assert!(why.contains("came to nothing") || why.contains("broke the protocol"), "{why}");
}

/// S6 over WebRTC, whose channels are free again only when both sides have said so: as fast as this node lets a peer, it
/// costs no more than the streams of one peer, and everything is given back.
async fn opened_and_reset_in_turn(alice: &Node) {
    let peer = Peer::dial(Over::WebRtc, &at(alice)).await.expect("an honest handshake");
    let flood = async {
        for _ in 0..2000 {
            let Ok(mut stream) = peer.connection.open().await else { return };
            let begun = async {
                stream.write_all(b"\x13/multi").await?;
                stream.flush().await
            };
            let _ = begun.await;
            stream.reset(ErrorCode::NONE);
            assert!(alice.usage().streams_inbound <= 512, "{:?}", alice.usage());
        }
    };
    timeout(PATIENCE, flood).await.expect("it is ended, or all are taken");
}

/// S9 and S10: what a peer says of itself is bounded, and its connection goes on.
fn says_too_much(over: Over) {
    run(async move {
        let (alice, identify) = over.builder(Keypair::generate()).with(Identify::default());
        let alice = alice.listen(over.any()).expect("an address").start().await.expect("it starts");
        serve_echo(&alice);
        for Bomb { name, bytes, ends, expected } in bombs() {
            // Those that say nothing more are the other test's, in virtual time.
            if expected(Err(&IdentifyError::Timeout)) {
                continue;
            }
            // Whose own record is among what is said.
            let (eve, ()) = over.builder(keypair(7)).with(Says { bytes, ends });
            let eve = eve.start().await.expect("it starts");
            timeout(PATIENCE, eve.connect(address(&alice))).await.expect("in time").expect("connected");
            let heard = async {
                loop {
                    match identify.info(eve.peer_id()).await {
                        // The dialer's side of a connection is there first.
                        Err(IdentifyError::NotConnected) => tokio::task::yield_now().await,
                        said => break said,
                    }
                }
            };
            let said = timeout(PATIENCE, heard).await.expect("in time");
            let said = said.as_ref().map(std::convert::AsRef::as_ref);
            assert!(expected(said), "{over:?}, {name}: {said:?}");
            is_served(&eve, &alice).await;
            eve.shutdown().await;
        }
        assert!(alice.tree().0.iter().all(|actor| actor.panics == 0), "{}", alice.tree());
        until("all is given back", || alice.usage() == Usage::default()).await;
        alice.shutdown().await;
    });
}

#[test]
fn bombs_over_websocket() {
    says_too_much(Over::WebSocket);
}

#[test]
fn bombs_over_secure_websocket() {
    says_too_much(Over::SecureWebSocket);
}

#[test]
fn bombs_over_quic() {
    says_too_much(Over::Quic);
}

#[test]
fn bombs_over_webrtc() {
    says_too_much(Over::WebRtc);
}

#[test]
fn streams_over_websocket() {
    attack(Over::WebSocket);
}

#[test]
fn streams_over_secure_websocket() {
    attack(Over::SecureWebSocket);
}

#[test]
fn streams_over_quic() {
    attack(Over::Quic);
}

#[test]
fn streams_over_webrtc() {
    attack(Over::WebRtc);
}

/// A way to somewhere that lets through so many of a client's datagrams, and all answers.
async fn valve(to: SocketAddr, number: u8, mut passes: usize) -> SocketAddr {
    let near = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    // Each seems to come from another machine.
    let far = UdpSocket::bind(SocketAddr::from(([127, 7, number, 1], 0))).await.expect("loopback");
    far.connect(to).await.expect("loopback");
    let here = near.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut out, mut back) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((len, from)) = near.recv_from(&mut out) => {
                    client = Some(from);
                    if passes > 0 {
                        passes -= 1;
                        let _ = far.send(&out[..len]).await;
                    }
                }
                Ok(len) = far.recv(&mut back) => {
                    if let Some(client) = client {
                        let _ = near.send_to(&back[..len], client).await;
                    }
                }
            }
        }
    });
    here
}

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The beginning of a ClientHello of 508 bytes.
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 thirty-two random bytes, or so ..";

/// S1: handshakes that stop somewhere are over by the deadline; an honest dial succeeds meanwhile.
fn hang(over: Over, stops: std::ops::Range<usize>) {
    run(async move {
        let (alice, bob) = (over.node().await, over.node().await);
        let to = at(&alice);
        let socket = to.socket_addr().expect("a socket").addr;
        let (mut dials, mut sockets) = (Vec::new(), Vec::new());
        for (number, stop) in stops.clone().cycle().take(20).enumerate() {
            let head = match over {
                Over::WebSocket => Some(HEAD),
                Over::SecureWebSocket => Some(HELLO),
                Over::Quic | Over::WebRtc => None,
            };
            if let Some(head) = head {
                let mut stream = TcpStream::connect(socket).await.expect("it accepts");
                stream.write_all(&head[..stop * head.len() / (stops.end - 1)]).await.expect("written");
                sockets.push(stream);
                continue;
            }
            let way = valve(socket, u8::try_from(number).expect("few"), stop).await;
            let there =
                to.to_string().replace(&format!("/udp/{}/", socket.port()), &format!("/udp/{}/", way.port()));
            let there: Multiaddr = there.parse().expect("an address");
            dials.push(tokio::spawn(async move { Peer::dial(over, &there).await.is_some() }));
        }
        until("some of them hang", || alice.usage().handshakes_inbound >= 10).await;
        bob.connect(address(&alice)).await.expect("an honest dial");
        is_served(&bob, &alice).await;
        until("none of them hangs", || alice.usage().handshakes_inbound == 0).await;
        assert_eq!(alice.connections().len(), 1, "{over:?}: only the honest one was let in");
        is_served(&bob, &alice).await;
        dials.iter().for_each(JoinHandle::abort);
        drop(sockets);
        bob.disconnect(alice.peer_id()).await;
        until("all is given back", || alice.usage() == Usage::default()).await;
        alice.shutdown().await;
        bob.shutdown().await;
    });
}

#[test]
fn handshakes_that_stop_over_websocket() {
    hang(Over::WebSocket, 0..11);
}

#[test]
fn handshakes_that_stop_over_secure_websocket() {
    hang(Over::SecureWebSocket, 0..11);
}

/// After the first part of the hello, and after the whole.
#[test]
fn handshakes_that_stop_over_quic() {
    hang(Over::Quic, 1..3);
}

/// After the first hello of DTLS, and after what follows it.
#[test]
fn handshakes_that_stop_over_webrtc() {
    hang(Over::WebRtc, 2..5);
}
