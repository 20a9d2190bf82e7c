//! What the tests share. Each has a port of its own, so that nothing else on this machine hears or disturbs them.

#![allow(dead_code, reason = "not every test file uses everything")]

use std::{net::UdpSocket, time::Duration};

use peerage_core::{Keypair, PeerId};
use peerage_discovery::mdns::{Event, Events, Handle, Mdns};
use peerage_host::{Builder, Node};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn keypair(seed: u8) -> Keypair {
    Keypair::from_ed25519_seed([seed; 32])
}

/// A port that nobody has at the moment.
pub(crate) fn port() -> u16 {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
    socket.local_addr().expect("bound").port()
}

pub(crate) fn builder(seed: u8) -> Builder {
    Node::builder(keypair(seed)).workers(1).listen("/ip4/127.0.0.1/tcp/0").expect("an address")
}

pub(crate) async fn node(seed: u8, mdns: Mdns) -> (Node, Handle) {
    let (node, handle) = builder(seed).with(mdns);
    (node.start().await.expect("it starts"), handle)
}

/// Waits until that peer is found; returns where.
pub(crate) async fn found(events: &mut Events, who: PeerId) -> Vec<String> {
    let finding = async {
        loop {
            match events.next().await.expect("it runs") {
                Event::Found { peer, addresses } if peer == who => {
                    return addresses.iter().map(ToString::to_string).collect();
                }
                _ => {}
            }
        }
    };
    timeout(PATIENCE, finding).await.expect("found in time")
}

/// Waits until that peer is gone.
pub(crate) async fn expired(events: &mut Events, who: PeerId) {
    let waiting = async {
        while !matches!(events.next().await.expect("it runs"), Event::Expired { peer } if peer == who) {}
    };
    timeout(PATIENCE, waiting).await.expect("gone in time");
}
