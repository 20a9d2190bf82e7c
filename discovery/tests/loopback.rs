//! Nodes of one machine, over loopback.

mod common;

use common::*;
use peerage_core::Multiaddr;
use peerage_discovery::mdns::{Closed, Event, Mdns, TTL};
use peerage_host::{ConnectOptions, book::Source};
use tokio::time::timeout;

fn listens(node: &peerage_host::Node) -> Vec<String> {
    node.listen_addresses().iter().map(Multiaddr::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_find_each_other_and_notice_a_goodbye() {
    let port = port();
    let (alice, alices) = node(1, Mdns::default().port(port)).await;
    let mut of_alice = alices.events();
    let (bob, bobs) = node(2, Mdns::default().port(port)).await;
    let mut of_bob = bobs.events();
    assert_eq!(found(&mut of_alice, bob.peer_id()).await, listens(&bob));
    assert_eq!(found(&mut of_bob, alice.peer_id()).await, listens(&alice));

    let [found] = &alices.peers().await.expect("it runs")[..] else { panic!("one, and not itself") };
    assert_eq!((found.peer, &found.addresses), (bob.peer_id(), &bob.listen_addresses()));
    assert!(found.expires_in <= TTL);
    assert_eq!(alice.connections().len() + bob.connections().len(), 0, "nobody said that they shall dial");

    // It is in the peer book: the id is enough to connect.
    let connected = alice.connect_with(bob.peer_id(), ConnectOptions::default()).await.expect("connected");
    assert_eq!(connected.peer, bob.peer_id());
    let known = alice.peer(bob.peer_id()).await.expect("known");
    assert!(known.addresses.iter().any(|known| known.source >= Source::Other("mdns")), "{known:?}");

    bob.shutdown().await;
    assert_eq!(bobs.peers().await, Err(Closed));
    timeout(PATIENCE, async { while of_bob.next().await.is_some() {} }).await.expect("it ends");
    expired(&mut of_alice, bob.peer_id()).await;
    assert_eq!(alices.peers().await, Ok(Vec::new()));
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn found_peers_are_dialed_if_the_user_says_so() {
    let port = port();
    let (alice, _) = node(1, Mdns::default().port(port).dial(true)).await;
    let mut events = alice.events();
    let (bob, _) = node(2, Mdns::default().port(port)).await;
    let connecting = async {
        while let Some(event) = events.next().await {
            if let peerage_host::Event::Connected { connection, .. } = event {
                return connection.peer;
            }
        }
        panic!("it has ended");
    };
    assert_eq!(timeout(PATIENCE, connecting).await.expect("connected in time"), bob.peer_id());
    alice.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_comes_later_is_told_of() {
    let port = port();
    let (alice, alices) = node(1, Mdns::default().port(port)).await;
    let mut events = alices.events();
    let (bob, _) = node(2, Mdns::default().port(port)).await;
    found(&mut events, bob.peer_id()).await;
    bob.listen("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).await.expect("it listens");
    let mut both = listens(&bob);
    both.sort();
    let mut heard = found(&mut events, bob.peer_id()).await;
    heard.sort();
    assert_eq!(heard, both);
    alice.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_network_is_a_service_of_its_own() {
    use peerage_transport::pnet::PreSharedKey;
    let port = port();
    let member = |seed: u8| {
        let builder = builder(seed).private_network(PreSharedKey::from_bytes([7; 32]));
        builder.with(Mdns::default().port(port))
    };
    let (stranger, strangers) = node(9, Mdns::default().port(port)).await;
    let (alice, alices) = member(1);
    let (mut of_alice, mut of_stranger) = (alices.events(), strangers.events());
    let alice = alice.start().await.expect("it starts");
    let (bob, _) = member(2);
    let bob = bob.start().await.expect("it starts");
    found(&mut of_alice, bob.peer_id()).await;
    // Another one in public is found; the members, who spoke before, are not.
    let (other, _) = node(8, Mdns::default().port(port)).await;
    let first = timeout(PATIENCE, of_stranger.next()).await.expect("found in time");
    assert!(matches!(first, Some(Event::Found { peer, .. }) if peer == other.peer_id()), "{first:?}");
    for node in [alice, bob, stranger, other] {
        node.shutdown().await;
    }
}
