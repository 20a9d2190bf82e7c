//! Nodes that are connected, and have their meshes.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Gossiper, MESH};
use crate::{Error, Options, Result, Stack};

/// Whom each node of a network of twenty dials, counted from itself around a ring: each then has ten peers, and none is
/// further than two hops from any other.
const CHORDS: [usize; 5] = [1, 2, 3, 5, 8];
/// How long it may take until all meshes are there.
const MESHES: Duration = Duration::from_secs(60);
/// How often it is looked whether they are.
const LOOK: Duration = Duration::from_millis(50);

/// Starts so many nodes, and connects them: all with all if that is no more than a mesh, else by [`CHORDS`].
pub(super) async fn start<S: Stack>(stack: &S, options: &Options, count: usize) -> Result<Vec<S::Gossiper>> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(stack.gossiper(options).await?);
    }
    for (index, node) in nodes.iter().enumerate() {
        for other in dialed(index, count) {
            if let Some(other) = nodes.get(other) {
                node.dial(other.address()).await?;
            }
        }
    }
    Ok(nodes)
}

/// How many peers each of so many nodes has.
pub(super) fn degree(count: usize) -> usize {
    if count <= MESH + 1 { count.saturating_sub(1) } else { MESH }
}

fn dialed(index: usize, count: usize) -> Vec<usize> {
    if count <= MESH + 1 {
        return (index.saturating_add(1)..count).collect();
    }
    CHORDS.iter().filter_map(|chord| index.saturating_add(*chord).checked_rem(count)).collect()
}

/// Waits until every node has all its peers in its mesh of a topic.
pub(super) async fn meshed<G: Gossiper>(nodes: &[G], topic: &str) -> Result<()> {
    let (began, wanted) = (Instant::now(), degree(nodes.len()));
    for node in nodes {
        loop {
            let there = node.mesh(topic).await?;
            if there >= wanted {
                break;
            }
            if began.elapsed() >= MESHES {
                return Err(Error::Failed(format!("{there} of {wanted} peers are in the mesh of {topic}")));
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_as_many_peers() {
        for count in [2, 11, 20] {
            let mut peers = vec![std::collections::BTreeSet::new(); count];
            for index in 0..count {
                for other in dialed(index, count) {
                    assert!(peers[index].insert(other) && peers[other].insert(index));
                }
            }
            assert!(peers.iter().all(|peers| peers.len() == degree(count)), "{count}");
        }
    }
}
