//! Whole nodes that publish and subscribe.

mod common;

use common::*;
use peerage_host::{Fault, Faults, Limits, Point};
use peerage_pubsub::{
    Config, Event, Gossipsub, Happened, MAX_TOPIC_RULES, PublishError, Published, SetTopicError, Signing,
    TopicConfig, ValidateOptions, Verdict, Version,
};
use peerage_transport::memory::Network;

#[test]
fn a_message_reaches_a_subscriber_with_all_that_is_to_be_known_of_it() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (peer(&network, 1).await, peer(&network, 2).await);
        let mut weather = bob.gossip.subscribe("weather").expect("a topic");
        alice.connect(&bob).await;
        until("alice knows what bob wants", async || alice.gossip.peers(&topic()).await == [bob.id()]).await;

        let published = alice.gossip.publish("weather", "rain").await.expect("published");
        let Published { id, peers, full, .. } = published;
        assert_eq!((peers, full), (1, 0));
        let message = next(&mut weather).await;
        assert_eq!(message.id, id);
        assert_eq!(message.topic, topic());
        assert_eq!(message.data, "rain");
        assert_eq!(message.author, Some(alice.id()));
        assert_eq!(message.received_from, alice.id());
        let first = message.sequence_number().expect("eight bytes");
        alice.gossip.publish("weather", "snow").await.expect("published");
        assert_eq!(next(&mut weather).await.sequence_number(), Some(first + 1));
        assert_eq!(weather.missed(), 0);

        bob.node.shutdown().await;
        assert_eq!(weather.next().await, None);
        alice.node.shutdown().await;
    });
}

/// Nodes that all know some others: each the next, and every third.
async fn ring(network: &Network, count: u8) -> Vec<Peer> {
    let mut peers = Vec::new();
    for seed in 1..=count {
        peers.push(peer(network, seed).await);
    }
    for n in 0..peers.len() {
        for step in [1, 3] {
            let other = (n + step) % peers.len();
            if other != n {
                peers[n].connect(&peers[other]).await;
            }
        }
    }
    peers
}

#[test]
fn everybody_in_a_mesh_gets_every_message_once() {
    run(async {
        let network = Network::new();
        let peers = ring(&network, 12).await;
        let subscribe = |peer: &Peer| peer.gossip.subscribe("weather").expect("a topic");
        let mut subscriptions: Vec<_> = peers.iter().map(subscribe).collect();
        sleep(3000).await;
        for (n, peer) in peers.iter().enumerate() {
            assert!(!peer.gossip.mesh(&topic()).await.is_empty());
            peer.gossip.publish("weather", format!("{n}")).await.expect("published");
        }
        sleep(3000).await;
        for (n, subscription) in subscriptions.iter_mut().enumerate() {
            let mut got: Vec<u32> =
                texts(subscription).iter().map(|text| text.parse().expect("a number")).collect();
            got.sort_unstable();
            let others: Vec<u32> = (0..12).filter(|other| *other != n as u32).collect();
            assert_eq!(got, others);
        }
    });
}

#[test]
fn large_messages_go_through_and_too_large_ones_are_refused_at_once() {
    run(async {
        let network = Network::new();
        let peers = ring(&network, 4).await;
        let mut weather = peers[2].gossip.subscribe("weather").expect("a topic");
        let _others: Vec<_> = peers[..2].iter().map(|peer| peer.gossip.subscribe("weather")).collect();
        sleep(2000).await;
        let large = vec![7; (1 << 20) - 1024];
        peers[0].gossip.publish("weather", large.clone()).await.expect("published");
        assert_eq!(next(&mut weather).await.data, large);
        let refused = peers[0].gossip.publish("weather", vec![0; 1 << 20]).await;
        assert!(matches!(refused, Err(PublishError::TooLarge { .. })), "{refused:?}");
    });
}

#[test]
fn who_comes_late_hears_of_it_by_gossip() {
    run(async {
        let network = Network::new();
        // A mesh of one member, so that the third can only be told.
        let config = || {
            let mut config = Config::default();
            (config.mesh.size, config.mesh.low, config.mesh.high) = (1, 1, 1);
            (config.mesh.best, config.mesh.outbound) = (0, 0);
            config.flood_publish = false;
            config
        };
        let (alice, bob) = (peer_with(&network, 1, config()).await, peer_with(&network, 2, config()).await);
        let _alices = alice.gossip.subscribe("weather").expect("a topic");
        let _bobs = bob.gossip.subscribe("weather").expect("a topic");
        alice.connect(&bob).await;
        until("they are a mesh", async || alice.gossip.mesh(&topic()).await == [bob.id()]).await;
        alice.gossip.publish("weather", "rain").await.expect("published");

        let carol = peer_with(&network, 3, config()).await;
        let mut carols = carol.gossip.subscribe("weather").expect("a topic");
        carol.connect(&alice).await;
        let message = next(&mut carols).await;
        assert_eq!((message.data, message.received_from), ("rain".into(), alice.id()));
        assert!(alice.gossip.mesh(&topic()).await == [bob.id()]);
    });
}

#[test]
fn others_hear_of_the_first_subscription_and_of_the_end_of_the_last() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (peer(&network, 1).await, peer(&network, 2).await);
        alice.connect(&bob).await;
        let wanted = async || alice.gossip.peers(&topic()).await == [bob.id()];
        let mut first = bob.gossip.subscribe("weather").expect("a topic");
        let mut second = bob.gossip.subscribe(&topic()).expect("a topic");
        until("alice knows", wanted).await;
        alice.gossip.publish("weather", "rain").await.expect("published");
        assert_eq!(next(&mut first).await, next(&mut second).await);
        drop(first);
        sleep(1000).await;
        assert!(wanted().await);
        drop(second);
        until("alice knows that nobody wants it", async || !wanted().await).await;
        assert!(bob.gossip.topics().is_empty());
        assert_eq!(alice.gossip.publish("weather", "snow").await.expect("published").peers, 0);
    });
}

#[test]
fn a_slow_subscriber_misses_messages_and_is_told_how_many() {
    run(async {
        let network = Network::new();
        let mut config = Config::default();
        (config.subscriber_queue, config.subscriber_bytes) = (10, 100_000);
        let (alice, bob) = (peer(&network, 1).await, peer_with(&network, 2, config).await);
        let mut slow = bob.gossip.subscribe("weather").expect("a topic");
        alice.connect(&bob).await;
        until("alice knows", async || alice.gossip.peers(&topic()).await == [bob.id()]).await;
        for n in 0..25 {
            alice.gossip.publish("weather", format!("{n}")).await.expect("published");
        }
        sleep(1000).await;
        assert_eq!(texts(&mut slow).len(), 10);
        assert_eq!((slow.missed(), slow.missed()), (15, 0));
        alice.gossip.publish("weather", "again").await.expect("published");
        assert_eq!(next(&mut slow).await.data, "again");
        assert!(bob.node.metrics().contains("gossipsub_subscriber_missed_total 15"));
        // The bytes of those that wait are bounded, too; one always fits.
        for _ in 0..5 {
            alice.gossip.publish("weather", vec![b'x'; 60_000]).await.expect("published");
        }
        sleep(1000).await;
        assert_eq!((texts(&mut slow).len(), slow.missed()), (1, 4));
        alice.gossip.publish("weather", vec![b'x'; 200_000]).await.expect("published");
        assert_eq!(next(&mut slow).await.data.len(), 200_000);
    });
}

#[test]
fn validators_are_asked_have_time_and_may_panic() {
    run(async {
        let network = Network::new();
        let peers = ring(&network, 3).await;
        let subscribe = |peer: &Peer| peer.gossip.subscribe("weather").expect("a topic");
        let mut subscriptions: Vec<_> = peers.iter().map(subscribe).collect();
        let options = ValidateOptions::default().timeout(std::time::Duration::from_secs(1));
        for peer in &peers[1..] {
            let judged = peer.gossip.validate("weather", options, |message| async move {
                match &message.data[..] {
                    b"slow" => {
                        sleep(900).await;
                        Verdict::Accept
                    }
                    b"too slow" => std::future::pending().await,
                    b"bug" => panic!("a bug in a validator"),
                    b"lies" => Verdict::Reject,
                    b"old" => Verdict::Ignore,
                    _ => Verdict::Accept,
                }
            });
            judged.expect("a topic");
        }
        sleep(2000).await;
        for text in ["rain", "slow", "too slow", "bug", "lies", "old", "snow"] {
            peers[0].gossip.publish("weather", text).await.expect("published");
        }
        sleep(5000).await;
        for subscription in &mut subscriptions[1..] {
            let mut got = texts(subscription);
            got.sort();
            assert_eq!(got, ["rain", "slow", "snow"]);
        }
        let score = peers[1].gossip.score(peers[0].id()).await;
        assert!(score.topics[&topic()].invalid.value > 0.0, "{score:?}");
        peers[1].gossip.unvalidate(&topic());
        peers[0].gossip.publish("weather", "lies").await.expect("published");
        assert_eq!(next(&mut subscriptions[1]).await.data, "lies");
    });
}

#[test]
fn floodsub_and_gossipsub_understand_each_other() {
    run(async {
        let network = Network::new();
        let (alice, carol) = (peer(&network, 1).await, peer(&network, 3).await);
        let (builder, gossip) = builder(&network, 2).with(Gossipsub::floodsub());
        let bob = Peer { node: builder.start().await.expect("it starts"), gossip };
        let mut subscriptions: Vec<_> =
            [&alice, &bob, &carol].map(|peer| peer.gossip.subscribe("weather").expect("a topic")).into();
        alice.connect(&bob).await;
        bob.connect(&carol).await;
        sleep(2000).await;
        alice.gossip.publish("weather", "rain").await.expect("published");
        assert_eq!(next(&mut subscriptions[1]).await.data, "rain");
        let message = next(&mut subscriptions[2]).await;
        assert_eq!((message.author, message.received_from), (Some(alice.id()), bob.id()));
        assert!(alice.gossip.mesh(&topic()).await.is_empty());
        carol.gossip.publish("weather", "snow").await.expect("published");
        assert_eq!(next(&mut subscriptions[0]).await.data, "snow");
    });
}

#[test]
fn a_node_without_gossip_is_no_trouble() {
    run(async {
        let network = Network::new();
        let alice = peer(&network, 1).await;
        let plain = builder(&network, 2).start().await.expect("it starts");
        plain.connect(alice.node.addresses().swap_remove(0)).await.expect("connected");
        let _weather = alice.gossip.subscribe("weather").expect("a topic");
        sleep(60_000).await;
        assert!(alice.gossip.all_peers().await.is_empty());
        assert!(alice.node.tree().0.iter().all(|actor| actor.panics == 0));
    });
}

#[test]
fn peers_that_are_named_are_connected_with_by_their_signed_records() {
    run(async {
        let network = Network::new();
        let small = |exchange| {
            let mut config = Config::default();
            (config.mesh.size, config.mesh.low, config.mesh.high) = (2, 1, 2);
            (config.mesh.best, config.mesh.outbound) = (1, 0);
            config.exchange = exchange;
            config
        };
        // All know one bootstrap node alone, which takes two into its mesh and names others to the rest.
        let hub = peer_with(&network, 1, small(true)).await;
        let _hubs = hub.gossip.subscribe("weather").expect("a topic");
        let mut peers = Vec::new();
        for seed in 2..=7 {
            let peer = peer_with(&network, seed, small(false)).await;
            peer.connect(&hub).await;
            // Signed records travel with identify.
            sleep(500).await;
            peers.push((peer.gossip.subscribe("weather").expect("a topic"), peer));
        }
        until("some have found each other", async || {
            peers.iter().any(|(_, peer)| peer.node.peers().len() > 1)
        })
        .await;
    });
}

#[test]
fn events_tell_of_meshes_and_of_what_was_lost() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (peer(&network, 1).await, peer(&network, 2).await);
        let mut events = alice.gossip.events();
        let _alices = alice.gossip.subscribe("weather").expect("a topic");
        let _bobs = bob.gossip.subscribe("weather").expect("a topic");
        alice.connect(&bob).await;
        let mut seen = Vec::new();
        while !seen.iter().any(|event| matches!(event, Event::Grafted { .. })) {
            match events.next().await.expect("it runs") {
                Happened::Event(event) => seen.push(event),
                missed => panic!("{missed:?}"),
            }
        }
        let peer = bob.id();
        assert!(seen.contains(&Event::PeerJoined { peer, version: Version::V13 }), "{seen:?}");
        assert!(seen.contains(&Event::Subscribed { peer, topic: topic() }), "{seen:?}");
        sleep(1100).await;
        let metrics = alice.node.metrics();
        // By the name that dashboards of today read, and by that of the draft of the specs.
        for name in ["gossipsub_mesh_peer_counts", "gossipsub_mesh_peers_total"] {
            assert!(metrics.contains(&format!("\n{name}{{topic=\"weather\"}} 1")), "{metrics}");
        }
        for name in ["gossipsub_message_published", "gossipsub_topic_msg_recv_bytes"] {
            assert!(metrics.contains(&format!("\n{name}_total{{topic=\"weather\"}} 0")), "{metrics}");
        }
        assert!(metrics.contains("gossipsub_peers_per_protocol{protocol=\"/meshsub/1.3.0\"} 1"), "{metrics}");
        assert!(metrics.trim_end().ends_with("# EOF"));
        alice.node.shutdown().await;
        while events.next().await.is_some() {}
    });
}

#[test]
fn rules_of_topics_are_set_at_run_time_and_outlive_a_panic() {
    run(async {
        let (network, faults) = (Network::new(), Faults::new());
        let (alice, bob) = (frail(&network, 1, &faults).await, peer(&network, 2).await);
        let mut alices = alice.gossip.subscribe("weather").expect("a topic");
        let _bobs = bob.gossip.subscribe("weather").expect("a topic");
        alice.connect(&bob).await;
        until("there is a mesh", async || bob.gossip.mesh(&topic()).await.len() == 1).await;
        let anonymous = TopicConfig::default().signing(Signing::Anonymous).max_size(100);
        for peer in [&alice, &bob] {
            peer.gossip.set_topic("weather", anonymous.clone()).expect("rules");
        }
        bob.gossip.publish("weather", "rain").await.expect("published");
        assert_eq!(next(&mut alices).await.author, None);
        let large = bob.gossip.publish("weather", vec![0; 101]).await;
        assert_eq!(large, Err(PublishError::TooLarge { len: 101, max: 100 }));

        faults.add(Fault {
            actor: "protocols/gossipsub".into(),
            point: Point::Timer,
            nth: faults
                .passages()
                .get(&("protocols/gossipsub".to_owned(), Point::Timer))
                .copied()
                .unwrap_or_default()
                + 1,
            times: 1,
        });
        until("it was struck", async || faults.struck() == 1).await;
        until("there is a mesh", async || alice.gossip.mesh(&topic()).await.len() == 1).await;
        bob.gossip.publish("weather", "snow").await.expect("published");
        let message = next(&mut alices).await;
        assert_eq!((message.author, &message.data[..]), (None, &b"snow"[..]));

        // As many as there may be, and one more.
        for n in 1..MAX_TOPIC_RULES {
            alice.gossip.set_topic(n.to_string(), anonymous.clone()).expect("rules");
        }
        let refused = alice.gossip.set_topic("one more", anonymous.clone());
        assert_eq!(refused, Err(SetTopicError::TooMany { max: MAX_TOPIC_RULES }));
        alice.gossip.set_topic("1", None).expect("rules");
        alice.gossip.set_topic("one more", anonymous).expect("rules");
        let refused = alice.gossip.set_topic("weather", TopicConfig::default().max_size(1 << 30));
        assert!(matches!(refused, Err(SetTopicError::TooLarge { .. })));
        alice.gossip.score_topic("weather", None).await.expect("parameters");
    });
}

#[test]
fn messages_are_charged_to_the_nodes_memory_and_all_of_it_comes_back() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (peer(&network, 1).await, peer(&network, 2).await);
        let _subscriptions = [&alice, &bob].map(|peer| peer.gossip.subscribe("weather").expect("a topic"));
        alice.connect(&bob).await;
        until("there is a mesh", async || alice.gossip.mesh(&topic()).await.len() == 1).await;
        alice.gossip.publish("weather", vec![7; 100_000]).await.expect("published");
        sleep(1000).await;
        for peer in [&alice, &bob] {
            let memory = peer.node.usage().memory;
            assert!((100_000..200_000).contains(&memory), "kept once: {memory}");
        }
        sleep(10_000).await;
        for peer in [&alice, &bob] {
            assert_eq!(peer.node.usage().memory, 0);
        }

        // With no memory for it, a message is refused, and that is counted.
        let mut limits = Limits::default();
        limits.memory_per_protocol = 50_000;
        let carol = start(builder(&network, 3).limits(limits), Config::default()).await;
        let mut carols = carol.gossip.subscribe("weather").expect("a topic");
        carol.connect(&alice).await;
        until("there is a mesh", async || carol.gossip.mesh(&topic()).await.len() == 1).await;
        let refused = carol.gossip.publish("weather", vec![0; 50_000]).await;
        assert!(matches!(refused, Err(PublishError::Memory(_))), "{refused:?}");
        assert_eq!(carol.node.refusals().get("memory per protocol"), Some(&1));
        carol.gossip.publish("weather", vec![0; 40_000]).await.expect("published");
        alice.gossip.publish("weather", "rain").await.expect("published");
        assert_eq!(&next(&mut carols).await.data[..], b"rain");
    });
}
