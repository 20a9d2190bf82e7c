//! Nodes over QUIC, on loopback, with threads of their own.

mod common;

use std::{net::UdpSocket, time::Duration};

use common::*;
use peerage_core::{Keypair, Multiaddr};
use peerage_host::{DialErrorKind, Direction, Event, Limits, Node, ping::Ping};
use peerage_transport::pnet::PreSharedKey;

/// Long enough for any machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

const LOOPBACK: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

async fn quic_node(address: &str) -> Node {
    let builder = Node::builder(Keypair::generate()).workers(2).listen(address).expect("an address");
    let node = builder.start().await.expect("it starts");
    serve_echo(&node);
    node
}

fn dead() -> (UdpSocket, Multiaddr) {
    let nobody = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let port = nobody.local_addr().expect("bound").port();
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
    (nobody, address.parse().expect("an address"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_node_to_node() {
    for loopback in [LOOPBACK, "/ip6/::1/udp/0/quic-v1"] {
        let alice = quic_node(loopback).await;
        let (builder, ping) = Node::builder(Keypair::generate()).with(Ping::default());
        let bob = builder.listen(loopback).expect("an address").start().await.expect("it starts");
        let mut events = bob.events();
        let report = bob.connect(address(&alice)).await.expect("connected");
        assert_eq!(report.peer, alice.peer_id());
        ping.rtt(alice.peer_id()).await.expect("answered");
        check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 4 << 20).await;

        let info = &bob.connections()[0];
        assert_eq!((info.security.as_str(), info.muxer.as_str()), ("/tls/1.0.0", "/quic-v1"));
        until("the other side has it", || !alice.connections().is_empty()).await;
        assert_eq!(alice.connections()[0].remote, bob.listen_addresses()[0], "dialed from where it listens");
        assert_eq!((alice.usage().file_descriptors, bob.usage().file_descriptors), (0, 0));
        let told = event(&mut events, |event| match event {
            Event::Identified { info, .. } => Some(info.listen_addrs.clone()),
            _ => None,
        });
        let told = tokio::time::timeout(PATIENCE, told).await.expect("identify answers");
        assert!(told.contains(&alice.listen_addresses()[0]), "{told:?}");

        alice.shutdown().await;
        until("the goodbye is heard", || bob.connections().is_empty()).await;
        assert_eq!(bob.usage().connections_outbound, 0);
        bob.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_peer_and_nobody_at_all() {
    let (alice, bob) = (quic_node(LOOPBACK).await, quic_node(LOOPBACK).await);
    let wrong = alice.listen_addresses()[0].with_peer(peer(9)).expect("it has none");
    let error = bob.connect(wrong).await.expect_err("somebody else is there");
    assert!(error.to_string().contains(&alice.peer_id().to_string()), "{error}");
    assert!(alice.connections().is_empty() && bob.connections().is_empty());
    until("no handshake is left", || alice.usage().handshakes_inbound == 0).await;

    // A dead address beside a good one: the good one decides.
    let (_nobody, dead) = dead();
    let mut options = peerage_host::ConnectOptions::default();
    options.addresses = vec![dead.clone(), alice.listen_addresses()[0].clone()];
    let connecting = bob.connect_with(alice.peer_id(), options);
    let report = tokio::time::timeout(PATIENCE, connecting).await.expect("in time").expect("connected");
    assert_eq!(report.peer, alice.peer_id());

    // And alone: the end comes by the deadline, and says where it was.
    let mut options = peerage_host::ConnectOptions::default();
    options.timeout = Duration::from_millis(500);
    let error = bob.connect_with(dead, options).await.expect_err("nobody is there");
    assert!(!matches!(error.kind, DialErrorKind::NoAddresses), "{error}");
    alice.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_network_speaks_no_quic() {
    let key = PreSharedKey::generate().expect("randomness");
    let builder = Node::builder(Keypair::generate()).private_network(key).workers(1);
    let error = builder.listen(LOOPBACK).expect("an address").start().await.expect_err("refused");
    assert!(error.to_string().contains("private network"), "{error}");
}

/// Somebody sends first packets from more addresses than there are handshakes, and nobody else is kept out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_the_limit_are_refused_and_leave_nothing() {
    let mut limits = Limits::default();
    limits.connections_per_peer = 1;
    let alice = Node::builder(Keypair::generate()).workers(1).limits(limits).listen(LOOPBACK);
    let alice = alice.expect("an address").start().await.expect("it starts");
    serve_echo(&alice);
    for _ in 0..20 {
        let bob = quic_node(LOOPBACK).await;
        bob.connect(address(&alice)).await.expect("connected");
        check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 1000).await;
        assert!(alice.connections().iter().all(|info| info.direction == Direction::Inbound));
        bob.shutdown().await;
    }
    until("all have gone", || alice.connections().is_empty()).await;
    until("nothing is held", || alice.usage() == peerage_host::Usage::default()).await;
    alice.shutdown().await;
}

/// In one thread, where tasks can be counted: the endpoints' are there as long as their nodes, and no longer.
#[test]
fn a_hundred_dials_and_hang_ups_leave_nothing_behind() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build_local(Default::default()).expect("a runtime");
    runtime.block_on(async {
        let before = tasks();
        let start = async |seed| {
            let builder = Node::builder(keypair(seed)).in_thread().listen(LOOPBACK).expect("an address");
            let node = builder.start().await.expect("it starts");
            serve_echo(&node);
            node
        };
        let (alice, bob) = (start(1).await, start(2).await);
        let one = async || {
            bob.connect(address(&alice)).await.expect("connected");
            check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 100).await;
            bob.disconnect(alice.peer_id()).await;
            until("both have forgotten", || {
                [&alice, &bob].iter().all(|node| node.usage() == peerage_host::Usage::default())
            })
            .await;
        };
        one().await;
        let between = tasks();
        for _ in 0..100 {
            one().await;
        }
        until("no task is left", || tasks() <= between).await;
        alice.shutdown().await;
        bob.shutdown().await;
        drop((alice, bob));
        until("no task is left of the nodes", || tasks() <= before).await;
    });
}
