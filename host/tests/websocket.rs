//! Nodes over WebSockets on loopback, as they are by default: with and without TLS, on a port of their own and on that of
//! plain TCP.

mod common;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use common::{pki::Pki, *};
use futures::{FutureExt as _, future::BoxFuture};
use peerage_core::{Keypair, Multiaddr, Protocol};
use peerage_host::{
    Builder, ConnectOptions, Event, Node, Usage,
    dial::{AttemptReport, AttemptResult},
    identify::Identify,
    ping::Ping,
};
use peerage_transport::{
    Fault, Stage,
    dns::{DnsError, Resolver},
    pnet::PreSharedKey,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Long enough for any machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

fn new() -> Builder {
    Node::builder(Keypair::generate()).workers(1)
}

async fn start(builder: Builder, listen: &[&str]) -> Node {
    let listening = listen.iter().fold(builder, |builder, at| builder.listen(*at).expect("an address"));
    let node = listening.start().await.expect("it starts");
    serve_echo(&node);
    node
}

/// Where a node listens, with its peer id.
fn listens(node: &Node, place: usize) -> Multiaddr {
    node.listen_addresses()[place].with_peer(node.peer_id()).expect("its own")
}

/// As the system says, and not in virtual time.
async fn unused(node: &Node) {
    let unused = async {
        while node.usage() != Usage::default() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, unused).await.expect("everything is given back");
}

/// Names that stand for this machine.
struct Loopback;

impl Resolver for Loopback {
    fn ip4(&self, _: &str) -> BoxFuture<'static, Result<Vec<Ipv4Addr>, DnsError>> {
        async { Ok(vec![Ipv4Addr::LOCALHOST]) }.boxed()
    }

    fn ip6(&self, name: &str) -> BoxFuture<'static, Result<Vec<Ipv6Addr>, DnsError>> {
        let none = DnsError::NotFound(name.to_owned());
        async { Err(none) }.boxed()
    }

    fn texts(&self, name: &str) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DnsError>> {
        let none = DnsError::NotFound(name.to_owned());
        async { Err(none) }.boxed()
    }
}

fn stages(attempt: &AttemptReport) -> Vec<Stage> {
    attempt.stages.iter().map(|(stage, _)| *stage).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_speak_over_websockets() {
    for at in ["/ip4/127.0.0.1/tcp/0/ws", "/ip6/::1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0/ws/http-path/p2p"] {
        let alice = start(new(), &[at]).await;
        let (builder, ping) = new().with(Ping::default());
        let (builder, identify) = builder.with(Identify::default());
        let bob = start(builder, &[]).await;
        let to = listens(&alice, 0);
        let connected = bob.connect(to).await.expect("connected");
        let attempt = &connected.report.attempts[0];
        assert_eq!(stages(attempt), [Stage::Connect, Stage::WebSocket, Stage::Security, Stage::Muxer]);
        check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 4 << 20).await;
        ping.rtt(alice.peer_id()).await.expect("answered");
        let told = identify.info(alice.peer_id()).await.expect("it says who it is");
        assert_eq!(told.listen_addrs, alice.listen_addresses());
        bob.shutdown().await;
        unused(&alice).await;
        alice.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_port_serves_everything() {
    let pki = Pki::new("port", &["127.0.0.1"]);
    let alice = start(new().websocket(pki.config()), &["/ip4/127.0.0.1/tcp/0"]).await;
    let plain = alice.listen_addresses().remove(0);
    for above in ["/ws", "/tls/ws"] {
        alice.listen(format!("{plain}{above}").parse().expect("an address")).await.expect("shared");
    }
    assert_eq!(alice.listen_addresses().len(), 3);
    for place in 0..3 {
        let bob = start(new().websocket(pki.config()), &[]).await;
        let to = listens(&alice, place);
        let connected = bob.connect(to.clone()).await.expect("connected");
        let seen = bob.connections().remove(0);
        assert_eq!(seen.remote.with_peer(connected.peer).expect("its own"), to);
        check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 100_000).await;
        let came = alice.connections().remove(0);
        assert_eq!(came.local, alice.listen_addresses()[place]);
        bob.shutdown().await;
        unused(&alice).await;
    }
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_stays_in_the_certificate() {
    let pki = Pki::new("name", &["alice.example"]);
    let alice = start(new().websocket(pki.config()), &["/ip4/127.0.0.1/tcp/0/tls/ws"]).await;
    let port = alice.listen_addresses()[0].socket_addr().expect("a socket").addr.port();
    let bob = start(new().websocket(pki.config()).resolver(Loopback), &[]).await;
    let dial = async |to: &str| {
        let to: Multiaddr = to.parse().expect("an address");
        let mut options = ConnectOptions::default();
        options.always_dial = true;
        bob.connect_with(to, options).await
    };
    for above in ["tls/ws", "wss"] {
        let connected = dial(&format!("/dns4/alice.example/tcp/{port}/{above}")).await.expect("connected");
        let won = &connected.report.attempts[1];
        assert_eq!(won.result, AttemptResult::Connected);
        let resolved = format!("/ip4/127.0.0.1/tcp/{port}/tls/sni/alice.example/ws");
        assert_eq!(won.address.split_peer().0.to_string(), resolved);
    }
    for (above, why) in [
        (format!("/dns4/mallory.example/tcp/{port}/tls/ws"), "the certificate of mallory.example"),
        (format!("/ip4/127.0.0.1/tcp/{port}/tls/ws"), "the certificate of 127.0.0.1"),
        (format!("/ip4/127.0.0.1/tcp/{port}/ws"), "does not speak HTTP"),
    ] {
        let report = dial(&above).await.expect_err("not there").report;
        let last = report.attempts.last().expect("it was tried");
        assert_eq!(last.stage, Stage::WebSocket);
        let AttemptResult::Failed { error, .. } = &last.result else { panic!("{last}") };
        assert!(error.contains(why), "{error}");
    }
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test]
async fn a_report_says_what_a_web_server_answered() {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let at = Multiaddr::tcp(server.local_addr().expect("bound")).with(Protocol::Ws).expect("an address");
    let bob = start(new(), &[]).await;
    let answering = async {
        let (mut socket, _) = server.accept().await.expect("loopback");
        let mut request = [0; 1024];
        let read = socket.read(&mut request).await.expect("a request");
        assert!(request[..read].starts_with(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:"));
        socket.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").await.expect("open");
    };
    let (dialed, ()) = tokio::join!(bob.connect(at), answering);
    let report = dialed.expect_err("a web server").report;
    let AttemptResult::Failed { error, fault } = &report.attempts[0].result else { panic!("{report}") };
    assert_eq!((*fault, report.attempts[0].stage), (Fault::Remote, Stage::WebSocket));
    assert!(error.contains("HTTP status 404 (Not Found)"), "{error}");
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_turned_away_and_cost_nothing() {
    const OPEN: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let alice = start(new(), &["/ip4/127.0.0.1/tcp/0/ws"]).await;
    let mut events = alice.events();
    let attacks = BTreeMap::from([
        ("nothing", (String::new(), "ended")),
        ("multistream", ("\x13/multistream/1.0.0\n".to_owned(), "400")),
        ("POST", ("POST / HTTP/1.1\r\n\r\n".to_owned(), "400")),
        ("a page", ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "426")),
        (
            "a giant head",
            (format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(1 << 20)), "HTTP head of more"),
        ),
        ("no mask", (format!("{OPEN}\u{2}\u{2}hi"), "without a mask")),
        ("a reserved bit", (format!("{OPEN}\u{42}\u{2}hi"), "reserved bit")),
        ("an unknown kind", (format!("{OPEN}\u{3}\u{2}hi"), "unknown kind")),
        ("fragments of a ping", (format!("{OPEN}\u{9}\u{2}hi"), "")),
        ("a hang up", (OPEN.to_owned(), "ended")),
    ]);
    for (name, (says, why)) in attacks {
        let socket = alice.listen_addresses()[0].socket_addr().expect("a socket").addr;
        let mut stranger = TcpStream::connect(socket).await.expect("it accepts");
        let _ = stranger.write_all(says.as_bytes()).await;
        let _ = stranger.shutdown().await;
        let failed = event(&mut events, |event| match event {
            Event::IncomingFailed { why, .. } => Some(why),
            _ => None,
        });
        let failed = timeout(PATIENCE, failed).await.expect(name);
        assert!(failed.contains(why), "{name}: {failed}");
    }
    let bob = start(new(), &[]).await;
    bob.connect(listens(&alice, 0)).await.expect("honest peers are served");
    bob.shutdown().await;
    unused(&alice).await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_network_is_inside_and_shares_no_port() {
    let private = || new().private_network(PreSharedKey::from_bytes([7; 32]));
    let alice = start(private(), &["/ip4/127.0.0.1/tcp/0/ws"]).await;
    let at = alice.listen_addresses().remove(0);
    let plain = Multiaddr::tcp(at.socket_addr().expect("a socket").addr);
    let error = alice.listen(plain).await.expect_err("nothing tells it apart");
    assert!(error.to_string().contains("in use"), "{error}");
    let bob = start(private(), &[]).await;
    bob.connect(listens(&alice, 0)).await.expect("a member");
    check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 100_000).await;
    let stranger = start(new(), &[]).await;
    assert!(stranger.connect(listens(&alice, 0)).await.is_err());
    for node in [stranger, bob, alice] {
        node.shutdown().await;
    }
}
