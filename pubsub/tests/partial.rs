//! Whole nodes that send each other parts of messages.

mod common;

use std::{sync::Arc, time::Duration};

use common::*;
use peerage_host::{Fault, Faults, Point};
use peerage_pubsub::{
    Config, SetTopicError, TopicConfig,
    partial::{Limits, Mode, Pieces, PublishError, Received, Subscription},
};
use peerage_transport::memory::Network;
use tokio::time::timeout;

const COUNT: usize = 16;

fn config(mode: Mode) -> Config {
    let mut config = Config::default();
    config.partial = Some(Limits::default());
    config.other_topics = TopicConfig::default().partial(mode);
    config
}

/// A message in so many pieces, each of which says its number.
fn message(len: usize) -> Vec<u8> {
    (0..COUNT * len).map(|n| (n / len) as u8).collect()
}

/// Takes what a peer has said, and says what there is then.
async fn take(peer: &Peer, pieces: &mut Pieces, received: Received) {
    if let Some(parts) = &received.parts {
        let is_piece = |n: usize, piece: &[u8]| piece.iter().all(|byte| usize::from(*byte) == n);
        pieces.take(parts, is_piece).expect("pieces");
    }
    if let Some(metadata) = &received.metadata {
        pieces.ask(received.received_from, metadata).expect("metadata");
    }
    peer.gossip
        .publish_partial("weather", received.group, Arc::new(pieces.clone()))
        .await
        .expect("published");
}

/// Collects a message until all of it is there.
async fn collect(peer: &Peer, subscription: &mut Subscription) -> Vec<u8> {
    let mut pieces = Pieces::nothing(COUNT).expect("pieces");
    let collecting = async {
        loop {
            let received = subscription.next().await.expect("gossip runs");
            take(peer, &mut pieces, received).await;
            if let Some(message) = pieces.whole() {
                return message;
            }
        }
    };
    timeout(Duration::from_secs(60), collecting).await.expect("it comes")
}

async fn meshed(peer: &Peer, with: usize) {
    until("the mesh is there", async || peer.gossip.mesh(&topic()).await.len() == with).await;
}

/// More than fits into one RPC, by a node that hears of the message itself only in parts.
#[test]
fn a_message_comes_in_parts_over_a_node_that_collects_it() {
    run(async {
        let network = Network::new();
        let mut peers = Vec::new();
        for seed in 1..=3 {
            peers.push(peer_with(&network, seed, config(Mode::Requests)).await);
        }
        let mut subscriptions: Vec<Subscription> =
            peers.iter().map(|peer| peer.gossip.subscribe_partial("weather").expect("a topic")).collect();
        peers[0].connect(&peers[1]).await;
        peers[2].connect(&peers[1]).await;
        meshed(&peers[1], 2).await;
        let sent = message(200_000);
        let have = Arc::new(Pieces::cut(&sent, COUNT).expect("pieces"));
        let published = peers[0].gossip.publish_partial("weather", "map", have).await.expect("published");
        assert_eq!((published.peers, published.full, published.too_large), (1, 0, 0));
        let [_, to_second, to_third] = &mut subscriptions[..] else { panic!("three") };
        let (second, third) = tokio::join!(collect(&peers[1], to_second), async {
            let mut pieces = Pieces::nothing(COUNT).expect("pieces");
            while pieces.whole().is_none() {
                let received = to_third.next().await.expect("gossip runs");
                assert_eq!(received.received_from, peers[1].id());
                assert_eq!((received.topic.as_str(), &received.group[..]), ("weather", &b"map"[..]));
                take(&peers[2], &mut pieces, received).await;
            }
            pieces.whole()
        });
        assert!(second == sent && third == Some(sent));
        assert_eq!(to_third.missed(), 0);
        // Nobody is subscribed any more once the last subscription is gone.
        subscriptions.truncate(2);
        until("it has left", async || peers[1].gossip.mesh(&topic()).await == [peers[0].id()]).await;
        peers[1].node.shutdown().await;
        while subscriptions[1].try_next().is_some() {}
        assert_eq!(subscriptions[1].next().await, None);
        for peer in [&peers[0], &peers[2]] {
            peer.node.shutdown().await;
        }
    });
}

#[test]
fn whole_messages_go_to_those_who_do_not_request_parts() {
    run(async {
        let network = Network::new();
        let one = peer_with(&network, 1, config(Mode::Requests)).await;
        let requests = peer_with(&network, 2, config(Mode::Requests)).await;
        let sends = peer_with(&network, 3, config(Mode::Sends)).await;
        let plain = peer(&network, 4).await;
        let others = [&requests, &sends, &plain];
        let mut theirs: Vec<_> =
            others.iter().map(|peer| peer.gossip.subscribe("weather").expect("a topic")).collect();
        let mut of_sends = sends.gossip.subscribe_partial("weather").expect("a topic");
        for other in others {
            one.connect(other).await;
        }
        let _of_one = one.gossip.subscribe_partial("weather").expect("a topic");
        meshed(&one, 3).await;
        assert_eq!(one.gossip.publish("weather", "whole").await.expect("published").peers, 2);
        let have = Arc::new(Pieces::cut(&message(1), COUNT).expect("pieces").eager());
        assert_eq!(one.gossip.publish_partial("weather", "g", have).await.expect("published").peers, 2);
        sleep(2000).await;
        assert_eq!(theirs.iter_mut().map(|of| texts(of).len()).collect::<Vec<_>>(), [0, 1, 1]);
        let received = of_sends.try_next().expect("it is told what there is");
        assert!(received.parts.is_none() && received.metadata.is_some());
        for peer in [&one, &requests, &sends, &plain] {
            peer.node.shutdown().await;
        }
    });
}

/// What peers have said that they want, and can do, is known after a panic, and what there is of messages is published anew.
#[test]
fn parts_go_on_after_a_panic() {
    run(async {
        let (network, faults) = (Network::new(), Faults::new());
        let struck = start(builder(&network, 1).faults(faults.clone()), config(Mode::Requests)).await;
        let other = peer_with(&network, 2, config(Mode::Requests)).await;
        other.connect(&struck).await;
        let _of_struck = struck.gossip.subscribe_partial("weather").expect("a topic");
        let mut of_other = other.gossip.subscribe_partial("weather").expect("a topic");
        meshed(&other, 1).await;
        meshed(&struck, 1).await;
        let nothing = Arc::new(Pieces::nothing(COUNT).expect("pieces"));
        struck.gossip.publish_partial("weather", "lost", nothing).await.expect("published");
        let actor = "protocols/gossipsub";
        let passed = faults.passages().get(&(actor.to_owned(), Point::Timer)).copied().unwrap_or_default();
        faults.add(Fault { actor: actor.into(), point: Point::Timer, nth: passed + 1, times: 1 });
        until("it is struck", async || faults.struck() == 1).await;
        meshed(&other, 1).await;
        meshed(&struck, 1).await;
        let sent = message(100);
        let have = || Arc::new(Pieces::cut(&sent, COUNT).expect("pieces"));
        let published = struck.gossip.publish_partial("weather", "map", have()).await.expect("published");
        assert_eq!(published.peers, 1);
        assert_eq!(of_other.next().await.expect("gossip runs").group, "lost");
        assert_eq!(collect(&other, &mut of_other).await, sent);
        until("it is counted", async || struck.gossip.stats().lost.groups == 1).await;
        // And not as a whole.
        assert_eq!(struck.gossip.publish("weather", "whole").await.expect("published").peers, 0);
        other.node.shutdown().await;
        struck.node.shutdown().await;
    });
}

#[test]
fn who_does_not_speak_of_partial_messages_says_so_and_slow_readers_miss_some() {
    run(async {
        let network = Network::new();
        let plain = peer(&network, 1).await;
        let rules = || TopicConfig::default().partial(Mode::Sends);
        assert_eq!(plain.gossip.set_topic("weather", rules()), Err(SetTopicError::NotPartial));
        let nothing = || Arc::new(Pieces::nothing(COUNT).expect("pieces"));
        let published = plain.gossip.publish_partial("weather", "g", nothing()).await;
        assert_eq!(published, Err(PublishError::Off));
        plain.node.shutdown().await;
        assert_eq!(plain.gossip.publish_partial("weather", "g", nothing()).await, Err(PublishError::Closed));

        let mut few = config(Mode::Off);
        few.subscriber_queue = 2;
        let slow = peer_with(&network, 2, few).await;
        slow.gossip.set_topic("weather", rules()).expect("rules");
        let other = peer_with(&network, 3, config(Mode::Requests)).await;
        other.connect(&slow).await;
        let mut of_slow = slow.gossip.subscribe_partial("weather").expect("a topic");
        let _of_other = other.gossip.subscribe_partial("weather").expect("a topic");
        meshed(&other, 1).await;
        for group in ["a", "b", "c", "d", "e"] {
            other.gossip.publish_partial("weather", group, nothing()).await.expect("published");
        }
        let mut missed = 0;
        until("some were missed", async || {
            missed += of_slow.missed();
            missed == 3
        })
        .await;
        assert!(of_slow.try_next().is_some() && of_slow.try_next().is_some() && of_slow.try_next().is_none());
        slow.node.shutdown().await;
        other.node.shutdown().await;
    });
}
