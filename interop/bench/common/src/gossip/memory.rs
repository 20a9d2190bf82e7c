//! What topics and peers cost that only are there.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::{Gossiper, MESH, TOPIC, network};
use crate::{Error, Options, Result, Stack, say};

/// Topics and peers that are there before memory is looked at: what a process allocates once is not theirs.
const FIRST: usize = 16;
/// How long nodes are left alone before memory is looked at: some heartbeats.
const SETTLE: Duration = Duration::from_secs(3);
/// The most topics: with the first ones fewer than a hundred, for of more than that rust-libp2p makes no meshes here.
const TOPICS: usize = 80;
/// The most peers: each takes a whole node in the other process.
const PEERS: usize = 300;

/// Topics in which eleven nodes, each connected with all others, are in each other's meshes. What each topic costs a node
/// for each of its ten peers is counted for the client: all nodes are in its process.
pub(super) async fn topics<S: Stack>(stack: &S, options: &Options) -> Result<Vec<S::Gossiper>> {
    let nodes = network::start(stack, options, MESH + 1).await?;
    subscribe(&nodes, 0..FIRST).await?;
    sleep(SETTLE).await;
    say::begin();
    let (began, count) = (Instant::now(), options.connections.min(TOPICS));
    subscribe(&nodes, FIRST..FIRST.saturating_add(count)).await?;
    sleep(SETTLE).await;
    let all = nodes.len().saturating_mul(count).saturating_mul(MESH);
    say::result(&json!({ "connections": all, "seconds": began.elapsed().as_secs_f64() }));
    Ok(nodes)
}

async fn subscribe<G: Gossiper>(nodes: &[G], topics: std::ops::Range<usize>) -> Result<()> {
    let name = |topic: usize| format!("{TOPIC}-{topic}");
    for topic in topics.clone() {
        for node in nodes {
            node.subscribe(&name(topic), Box::new(|_| {})).await?;
        }
    }
    for topic in topics {
        network::meshed(nodes, &name(topic)).await?;
    }
    Ok(())
}

/// The listener gossips, and each of its peers does so as well; what a peer costs is counted for the listener.
pub(super) async fn peers<S: Stack>(stack: &S, options: &Options, address: &str) -> Result<Vec<S::Gossiper>> {
    let mut held = Vec::new();
    join(stack, options, address, FIRST, &mut held).await?;
    sleep(SETTLE).await;
    say::begin();
    let (began, count) = (Instant::now(), options.connections.min(PEERS));
    join(stack, options, address, count, &mut held).await?;
    sleep(SETTLE).await;
    say::result(&json!({ "connections": count, "seconds": began.elapsed().as_secs_f64() }));
    Ok(held)
}

async fn join<S: Stack>(
    stack: &S,
    options: &Options,
    address: &str,
    count: usize,
    held: &mut Vec<S::Gossiper>,
) -> Result<()> {
    for _ in 0..count {
        let node = stack.gossiper(options).await?;
        node.dial(address).await?;
        node.subscribe(TOPIC, Box::new(|_| {})).await?;
        held.push(node);
    }
    Ok(())
}

/// The listener of [`peers`].
pub(crate) async fn listen<S: Stack>(stack: &S, options: &Options) -> Result<(S::Gossiper, String)> {
    let node = stack.gossiper(options).await?;
    node.subscribe(TOPIC, Box::new(|_| {})).await?;
    let address = node.address().to_owned();
    if address.is_empty() { Err(Error::Failed("it listens nowhere".to_owned())) } else { Ok((node, address)) }
}
