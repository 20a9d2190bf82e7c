//! Nodes with threads of their own, over real sockets on loopback, used from several runtimes.

mod common;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use common::*;
use peerage_core::Keypair;
use peerage_host::{ConnectOptions, Event, Node, StartError, ping::Ping};
use peerage_transport::{ListenOpts, upgrade::Security};

/// Long enough for any machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

async fn tcp_node() -> Node {
    let builder = Node::builder(Keypair::generate()).workers(2).listen("/ip4/127.0.0.1/tcp/0");
    let node = builder.expect("an address").start().await.expect("it starts");
    serve_echo(&node);
    node
}

fn socket(node: &Node) -> SocketAddr {
    node.listen_addresses()[0].socket_addr().expect("a socket").addr
}

#[test]
fn a_node_is_used_from_every_runtime() {
    let runtime = |threads| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads).enable_all().build().expect("a runtime")
    };
    let (one, other) = (runtime(1), runtime(2));
    let alice = one.block_on(tcp_node());
    let (bob, ping) = other.block_on(async {
        let (builder, ping) = Node::builder(Keypair::generate()).with(Ping::default());
        (builder.start().await.expect("it starts"), ping)
    });
    let connected = one.block_on(bob.connect(address(&alice))).expect("connected");
    assert_eq!(connected.peer, alice.peer_id());
    // Opened here, used there.
    let stream = one.block_on(bob.open(alice.peer_id(), ECHO)).expect("open");
    other.block_on(check_echo(stream, 4 << 20));
    other.block_on(ping.rtt(alice.peer_id())).expect("answered");
    drop(one);
    let stream =
        other.block_on(bob.open(alice.peer_id(), ECHO)).expect("the nodes do not live on that runtime");
    other.block_on(check_echo(stream, 1 << 16));
    other.block_on(async { tokio::join!(alice.shutdown(), bob.shutdown()) });
}

#[tokio::test]
async fn plaintext_goes_alone() {
    let start = |security: &[Security]| Node::builder(Keypair::generate()).security(security).start();
    for security in [[Security::Plaintext, Security::Tls], [Security::Noise, Security::Plaintext]] {
        assert!(matches!(start(&security).await, Err(StartError::Plaintext)));
    }
    start(&[Security::Plaintext]).await.expect("it starts").shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_at_once_over_one_connection() {
    let (alice, bob) = (tcp_node().await, tcp_node().await);
    bob.connect(address(&alice)).await.expect("connected");
    let streams = (0..100).map(|_| async {
        check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 100_000).await;
    });
    tokio::time::timeout(PATIENCE, futures::future::join_all(streams)).await.expect("in time");
    assert_eq!(alice.connections().len(), 1);
    alice.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_do_not_speak_the_protocol_are_turned_away() {
    let node = tcp_node().await;
    let mut events = node.events();
    // Not multistream, an endless length, a protocol that nobody has, and nothing at all.
    let openings: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0xff; 12], b"\x13/multistream/1.0.0\n\x06/none\n", b""];
    for opening in openings {
        let mut stranger = TcpStream::connect(socket(&node)).expect("it accepts");
        stranger.write_all(opening).expect("written");
        stranger.shutdown(Shutdown::Write).expect("open");
        stranger.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let failed = event(&mut events, |event| match event {
            Event::IncomingFailed { why, .. } => Some(why),
            _ => None,
        });
        let why = tokio::time::timeout(PATIENCE, failed).await.expect("in time");
        assert!(why.contains("security"), "{why}");
        // It is hung up on: the rest, if any, and the end, or a reset.
        let _ = stranger.read_to_end(&mut Vec::new());
    }
    let honest = tcp_node().await;
    honest.connect(address(&node)).await.expect("nothing else is affected");
    until("no handshake is left", || node.usage().handshakes_inbound == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_handshakes_at_once_are_refused_and_places_come_back() {
    let mut limits = peerage_host::Limits::default();
    limits.handshakes_inbound = 4;
    let node = Node::builder(Keypair::generate()).limits(limits).listen("/ip4/127.0.0.1/tcp/0");
    let node = node.expect("an address").start().await.expect("it starts");
    let mut events = node.events();
    let silent: Vec<_> = (0..5).map(|_| TcpStream::connect(socket(&node)).expect("it accepts")).collect();
    let refused = event(&mut events, |event| match event {
        Event::IncomingFailed { why, .. } => Some(why),
        _ => None,
    });
    let why = tokio::time::timeout(PATIENCE, refused).await.expect("in time");
    assert!(why.contains("handshakes") && why.contains('4'), "{why}");
    drop(silent);
    for _ in 0..4 {
        event(&mut events, |event| matches!(event, Event::IncomingFailed { .. }).then_some(())).await;
    }
    let honest = tcp_node().await;
    honest.connect(address(&node)).await.expect("a place is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_from_the_listening_port_is_seen_to_come_from_there() {
    let node = Node::builder(Keypair::generate()).workers(1).start().await.expect("it starts");
    let mut opts = ListenOpts::default();
    opts.reuse_port = true;
    let loopback = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    let listening = node.listen_with(loopback, opts).await.expect("bound");

    let other = tcp_node().await;
    let mut options = ConnectOptions::default();
    options.reuse_listen_port = true;
    node.connect_with(address(&other), options).await.expect("connected");
    until("the other side has it", || !other.connections().is_empty()).await;
    assert_eq!(other.connections()[0].remote, listening.addresses[0]);
}

#[test]
fn a_wildcard_is_told_as_the_addresses_behind_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let builder =
            Node::builder(Keypair::generate()).workers(1).no_announce("127.0.0.0/8").expect("a network");
        let builder = builder.announce("/dns4/example.com/tcp/4001").expect("an address");
        let node =
            builder.listen("/ip4/0.0.0.0/tcp/0").expect("an address").start().await.expect("it starts");
        assert!(node.listen_addresses()[0].is_unspecified());
        let addresses = node.addresses();
        assert!(addresses.iter().all(|address| !address.is_unspecified()), "{addresses:?}");
        assert!(addresses[0].to_string().starts_with("/dns4/example.com/tcp/4001/p2p/"));
        assert!(addresses.last().is_some_and(peerage_core::Multiaddr::is_loopback), "{addresses:?}");
        let loopback = node.own_addresses().into_iter().find(|own| own.address.is_loopback());
        assert!(loopback.is_some_and(|own| !own.announced), "it is hidden");
        node.shutdown().await;
    });
}
