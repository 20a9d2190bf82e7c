//! Nodes with threads of their own, over TCP on loopback.

use std::{collections::BTreeSet, time::Duration};

use peerage_core::Keypair;
use peerage_host::Node;
use peerage_pubsub::{Gossipsub, Handle, Subscription, Topic};

const MESSAGES: u32 = 300;

async fn node() -> (Node, Handle, Subscription) {
    let (builder, gossip) = Node::builder(Keypair::generate()).workers(2).with(Gossipsub::default());
    let node = builder.listen("/ip4/127.0.0.1/tcp/0").expect("an address").start().await.expect("it starts");
    let subscription = gossip.subscribe("weather").expect("a topic");
    (node, gossip, subscription)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_of_everybody_arrives_once() {
    let topic = Topic::new("weather").expect("a topic");
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(node().await);
    }
    for n in 0..nodes.len() {
        let next = nodes[(n + 1) % nodes.len()].0.addresses().swap_remove(0);
        nodes[n].0.connect(next).await.expect("connected");
    }
    for (_, gossip, _) in &nodes {
        while gossip.mesh(&topic).await.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let count = nodes.len();
    let mut running = Vec::new();
    for (n, (node, gossip, mut subscription)) in nodes.into_iter().enumerate() {
        running.push(tokio::spawn(async move {
            let publishing = gossip.clone();
            let publish = tokio::spawn(async move {
                for number in 0..MESSAGES {
                    let text = format!("{n} {number} {}", "x".repeat(1024));
                    let published = publishing.publish("weather", text).await.expect("published");
                    assert!(published.peers >= 2 && published.full == 0, "{published:?}");
                    // At the pace of the slowest: what has no room is dropped, and this test is not about that.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
            let mut got = BTreeSet::new();
            while got.len() < (count - 1) * MESSAGES as usize {
                let message = subscription.next().await.expect("it runs");
                assert!(got.insert(message.id), "it came twice");
            }
            publish.await.expect("published");
            assert_eq!(subscription.missed(), 0);
            (node, gossip, subscription)
        }));
    }
    let all = async {
        for one in running {
            let (node, ..) = one.await.expect("no panic");
            node.shutdown().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("all arrive");
}
