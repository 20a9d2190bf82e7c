//! The gossip actor panics under load: what it takes with it, and what it leaves alone.

mod common;

use common::*;
use peerage_core::frame;
use peerage_host::{Fault, Faults, OpenOptions, Optimism, Point};
use peerage_pubsub::Version;
use peerage_transport::memory::Network;
use tokio::io::AsyncWriteExt as _;

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

#[test]
fn a_peer_on_the_graylist_is_on_it_after_a_panic_and_what_was_lost_is_counted() {
    run(async {
        let (network, faults) = (Network::new(), Faults::new());
        let struck = frail(&network, 1, &faults).await;
        let other = peer(&network, 2).await;
        other.connect(&struck).await;
        let _subscriptions = [&struck, &other].map(|peer| peer.gossip.subscribe("weather").expect("a topic"));
        // One that breaks a rule a dozen times.
        let mallory = builder(&network, 66).start().await.expect("it starts");
        let address = struck.node.addresses().swap_remove(0);
        mallory.connect(address.clone()).await.expect("connected");
        let mut garbage = Vec::new();
        frame::encode(&[0xff; 100], &mut garbage);
        for _ in 0..12 {
            let mut options = OpenOptions::new([Version::V11.protocol()]);
            options.optimism = Optimism::Never;
            let mut stream = mallory.open_with(struck.id(), options).await.expect("open");
            let _ = stream.write_all(&garbage).await;
            let _ = stream.flush().await;
            sleep(50).await;
        }
        sleep(1000).await;
        let before = struck.gossip.score(mallory.peer_id()).await.score;
        assert!(before < -200.0, "{before}");

        let passed = faults.passages().get(&(ACTOR.to_owned(), Point::Message)).copied().unwrap_or_default();
        faults.add(Fault { actor: ACTOR.into(), point: Point::Message, nth: passed + 5, times: 1 });
        while faults.struck() == 0 {
            let _ = other.gossip.publish("weather", "load").await;
            let _ = struck.gossip.publish("weather", "load").await;
        }
        other.connect(&struck).await;
        // It comes again, too; a score is half of what it was after a minute and a half at the earliest.
        let _ = mallory.connect(address).await;
        sleep(3000).await;
        let after = struck.gossip.score(mallory.peer_id()).await.score;
        assert!(after < -200.0 && after < before / 2.0, "{before} {after}");
        let lost = struck.gossip.stats().lost;
        assert_eq!(lost.lives, 1);
        assert!(lost.cached > 0, "{lost:?}");
        let metrics = struck.node.metrics();
        assert!(metrics.contains("gossipsub_panics_total 1"), "{metrics}");
        for node in [&struck.node, &other.node, &mallory] {
            node.shutdown().await;
        }
    });
}
