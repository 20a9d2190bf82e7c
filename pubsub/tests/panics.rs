//! The gossip actor panics under load: what it takes with it, and what it leaves alone.

mod common;

use common::*;
use peerage_host::{Fault, Faults, Point};
use peerage_transport::memory::Network;

const ACTOR: &str = "protocols/gossipsub";

/// Five nodes, all connected with each other, that want a topic; the first is struck while all publish.
fn strike(point: Point, nth: u64) {
    run(async move {
        let (network, faults) = (Network::new(), Faults::new());
        let mut peers = vec![frail(&network, 1, &faults).await];
        for seed in 2..=5 {
            peers.push(peer(&network, seed).await);
        }
        for (n, one) in peers.iter().enumerate() {
            for other in &peers[n + 1..] {
                one.connect(other).await;
            }
        }
        let subscribe = |peer: &Peer| peer.gossip.subscribe("weather").expect("a topic");
        let mut subscriptions: Vec<_> = peers.iter().map(subscribe).collect();
        until("there is a mesh", async || peers[0].gossip.mesh(&topic()).await.len() == 4).await;

        let passed = faults.passages().get(&(ACTOR.to_owned(), point)).copied().unwrap_or_default();
        faults.add(Fault { actor: ACTOR.into(), point, nth: passed + nth, times: 1 });
        while faults.struck() == 0 {
            for peer in &peers {
                // The struck one may fail to, and says so.
                let _ = peer.gossip.publish("weather", "load").await;
            }
            sleep(50).await;
        }
        // A panic over what a peer sent costs that peer its connection; whoever wants it back dials.
        for peer in &peers[1..] {
            peer.connect(&peers[0]).await;
        }
        // Three heartbeats.
        sleep(3000).await;
        for peer in &peers {
            let mesh = peer.gossip.mesh(&topic()).await;
            assert_eq!(mesh.len(), 4, "after {point:?} {nth}: {}", peers[0].node.tree());
        }
        assert_eq!(peers[0].gossip.topics(), [topic()]);
        subscriptions.iter_mut().for_each(|subscription| drop(texts(subscription)));

        let published = peers[0].gossip.publish("weather", "from the struck").await.expect("it works");
        assert_eq!(published.peers, 4);
        peers[1].gossip.publish("weather", "to the struck").await.expect("it works");
        sleep(1000).await;
        assert_eq!(texts(&mut subscriptions[0]), ["to the struck"]);
        for subscription in &mut subscriptions[2..] {
            let mut got = texts(subscription);
            got.sort();
            assert_eq!(got, ["from the struck", "to the struck"]);
        }
        let panics = |peer: &Peer| peer.node.tree().0.iter().map(|actor| actor.panics).sum::<u64>();
        assert_eq!(peers.iter().map(panics).collect::<Vec<_>>(), [1, 0, 0, 0, 0]);
        for peer in &peers {
            peer.node.shutdown().await;
        }
    });
}

#[test]
fn the_mesh_is_back_in_three_heartbeats_and_no_subscription_is_lost() {
    for (point, places) in [
        (Point::Message, &[1, 2, 3, 5, 8, 13, 40][..]),
        (Point::Action, &[1, 2, 3, 5, 8, 13, 40]),
        (Point::Timer, &[1, 2]),
    ] {
        for nth in places {
            strike(point, *nth);
        }
    }
}
