use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{LinkModel, Network, scenario};
use crate::{Config, Topic, engine::Command};

/// The invariants of [`scenario::small`], and that a seed says everything about a run. Many more seeds run by
/// `cargo run --release -p peerage-pubsub --features sim --example sim -- seeds`.
#[test]
fn small_networks_are_in_order() {
    for seed in 0..12 {
        scenario::small(seed).unwrap_or_else(|broken| panic!("{broken}"));
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (first, second) = (scenario::small(7).unwrap(), scenario::small(7).unwrap());
    assert_eq!(first, second);
    assert_ne!(first.trace, scenario::small(8).unwrap().trace);
}

/// Latency and bandwidth are what they are said to be: 3 hops of 10 ms, and 1 ms for every 1000 bytes and hop.
#[test]
fn frames_take_their_time() {
    let link = LinkModel { latency: Duration::from_millis(10), jitter: 0.0, bandwidth: 1_000_000, loss: 0.0 };
    let mut network = Network::new(1, link);
    let config = Arc::new(Config::default());
    let topic = Topic::new("t").unwrap();
    let nodes: Vec<_> = (0..4).map(|_| network.add(&config)).collect();
    for pair in nodes.windows(2) {
        network.connect(pair[0], pair[1]);
    }
    for node in &nodes {
        network.command(*node, Command::Subscribe(topic.clone()));
    }
    network.run(Duration::from_secs(3));
    network.publish(nodes[0], &topic, Bytes::from(vec![0; 10_000]));
    network.run(Duration::from_secs(1));
    let summary = network.tally().summary(3);
    assert!(summary.is_complete(), "{summary}");
    assert!((60..65).contains(&summary.max.as_millis()), "{summary}");
}

/// Half of all nodes are silent from the first moment on. They leave the meshes, and no honest node is taken for one of
/// them.
#[test]
fn after_a_cold_boot_the_silent_are_out_and_the_honest_are_not() {
    let large = scenario::Large {
        honest: 30,
        publishers: 8,
        rate: 20,
        size: 256,
        publish: Duration::from_secs(30),
        sybils: 30,
        attack: scenario::Attack::ColdBoot,
        ..scenario::Large::default()
    };
    let outcome = large.run();
    assert!(outcome.summary.is_complete(), "{outcome}");
    assert!(outcome.worst_sybil_share > 0.1 && outcome.sybil_share < 0.02, "{outcome}");
    assert!(outcome.worst_score >= 0.0 && outcome.meshes.0 >= 2, "{outcome}");
}
