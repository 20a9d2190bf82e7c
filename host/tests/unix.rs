//! Nodes of one machine, over Unix domain sockets.
#![cfg(unix)]

mod common;

use std::{path::PathBuf, time::Duration};

use common::*;
use peerage_core::{Keypair, Multiaddr};
use peerage_host::{Builder, DialErrorKind, Event, Node, StartError};
use peerage_transport::pnet::PreSharedKey;

/// Long enough for any machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// A socket in a directory of its own.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("peerage-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }

    fn address(&self) -> Multiaddr {
        format!("/unix{}", self.socket().display()).parse().expect("an address")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn alone() -> Builder {
    Node::builder(Keypair::generate()).workers(1)
}

async fn at(place: &Place, builder: Builder) -> Node {
    let node = builder.listen(place.address()).expect("an address").start().await.expect("it starts");
    serve_echo(&node);
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_meet_at_a_path_that_nobody_is_told() {
    let place = Place::new("meet");
    let alice = at(&place, alone()).await;
    assert_eq!((alice.listen_addresses(), alice.addresses()), (vec![place.address()], vec![place.address()]));
    assert!(!alice.own_addresses()[0].announced);

    let bob = alone().start().await.expect("it starts");
    let mut events = bob.events();
    let connected = bob.connect(place.address()).await.expect("connected");
    assert_eq!(connected.peer, alice.peer_id());
    check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 1 << 20).await;
    let said = event(&mut events, |event| match event {
        Event::Identified { info, .. } => Some(info),
        _ => None,
    });
    let said = tokio::time::timeout(PATIENCE, said).await.expect("in time");
    assert!(said.listen_addrs.is_empty(), "{:?}", said.listen_addrs);

    let Err(StartError::Listen { why, .. }) =
        alone().listen(place.address()).expect("an address").start().await
    else {
        panic!("the path is in use")
    };
    assert!(why.contains("in use"), "{why}");
    bob.shutdown().await;
    alice.shutdown().await;
    assert!(!place.socket().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_network_works_there_as_well() {
    let place = Place::new("private");
    let member = |key| alone().private_network(PreSharedKey::from_bytes([key; 32]));
    let alice = at(&place, member(7)).await;
    let bob = member(7).start().await.expect("it starts");
    bob.connect(place.address()).await.expect("connected");
    check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 100_000).await;
    let stranger = member(8).start().await.expect("it starts");
    let error = stranger.connect(place.address()).await.expect_err("not in one network");
    assert_eq!(error.kind, DialErrorKind::AllFailed, "{error}");
    for node in [stranger, bob, alice] {
        node.shutdown().await;
    }
}
