//! One mesh of many nodes, several of each kind.
//!
//! They stand in a ring with chords, so that each has six neighbours and most messages have to be passed on by others.

use std::{ops::Range, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    node::{self, Node},
    pair::{LARGE, SMALL, WEATHER, expected},
    plan::{MIXED_STEPS, Signing},
    row::Row,
    side::{Expected, Side, each},
};
use crate::{peers::Peer, process::State, row::take, site::Site};

/// How many nodes of each kind there are.
const EACH: usize = 3;
/// Whom each node dials, counted along the ring.
const CHORDS: [usize; 3] = [1, 3, 7];
/// How many neighbours are in everybody's mesh before anything is said: all have six, and no more than six are wanted.
const MESH: usize = 3;
/// How long a step may take: many programs share few processors.
const LIMIT: Duration = Duration::from_secs(120);
/// How long nothing may come again at the end; there are several heartbeats in it, and what they tell of.
const QUIET: Duration = Duration::from_secs(4);

/// All nodes.
struct Mixed {
    sides: Vec<Side>,
    kinds: usize,
    signing: Signing,
}

/// Lets our nodes and those of these peers meet.
pub(super) async fn run(peers: &[&'static Peer], signing: Signing, site: &Site) -> Row {
    let mut row = Row::mixed(signing);
    let mut mixed = Mixed { sides: Vec::new(), kinds: peers.len() + 1, signing };
    for step in MIXED_STEPS {
        let done = take(&mut row.cells, step, LIMIT, mixed.step(step, peers, site)).await;
        if done.is_none() {
            break;
        }
    }
    if row.cells.iter().any(|cell| !cell.ok) {
        row.first_noticed =
            mixed.sides.iter().step_by(mixed.kinds).flat_map(|side| side.node.noticed()).collect();
        row.second_noticed = mixed.sides.iter().flat_map(|side| side.node.noticed()).collect();
    }
    row.complete(&MIXED_STEPS);
    row
}

impl Mixed {
    async fn step(
        &mut self,
        step: &str,
        peers: &[&'static Peer],
        site: &Site,
    ) -> Result<((), String), String> {
        let detail = match step {
            "start" => self.start(peers, site).await?,
            "dial" => self.dial().await?,
            "mesh" => self.mesh().await?,
            "all-1k" => self.deliver("all-1k", 0..self.sides.len(), SMALL).await?,
            "each-512k" => self.deliver("each-512k", 0..self.kinds, LARGE).await?,
            "leave" => self.leave().await?,
            "once" => self.once().await?,
            "end" => self.end().await?,
            other => return Err(format!("no such step: {other}")),
        };
        Ok(((), detail))
    }

    /// Starts all nodes. Neighbours are of different kinds: ours, then one of each peer, then ours again.
    async fn start(&mut self, peers: &[&'static Peer], site: &Site) -> Result<String, String> {
        let kinds: Vec<Option<&Peer>> =
            std::iter::once(None).chain(peers.iter().copied().map(Some)).collect();
        for at in 0..EACH * kinds.len() {
            let peer = kinds.get(at % kinds.len()).copied().flatten();
            let node = Node::start(peer, node::config(self.signing), self.signing, site).await?;
            self.sides.push(Side::new(node));
        }
        Ok(format!("{} nodes", self.sides.len()))
    }

    async fn dial(&mut self) -> Result<String, String> {
        let addresses: Vec<String> =
            self.sides.iter().map(|side| side.node.address()).collect::<Result<_, _>>()?;
        let all = self.sides.len();
        each(&mut self.sides, 0..all, async |at, side| {
            for chord in CHORDS {
                let address = addresses.get((at + chord) % all).map_or("", String::as_str);
                side.node.dial(address).await.map_err(|why| format!("{} to {address}: {why}", side.id))?;
            }
            side.node.subscribe(WEATHER).await
        })
        .await?;
        Ok(format!("{} connections", all * CHORDS.len()))
    }

    /// Waits until everybody is in a mesh. Those who only heard of it meanwhile have to be done with that, too.
    async fn mesh(&mut self) -> Result<String, String> {
        let all = self.sides.len();
        each(&mut self.sides, 0..all, async |_, side| {
            side.until(WEATHER, "there is a mesh", |state| state.mesh.len() >= MESH).await.map(drop)
        })
        .await?;
        let mut sizes = Vec::new();
        for side in &mut self.sides {
            sizes.push(side.node.state(WEATHER).await?.mesh.len());
        }
        let (least, most) =
            (sizes.iter().min().copied().unwrap_or(0), sizes.iter().max().copied().unwrap_or(0));
        Ok(format!("{least} to {most} neighbours in the mesh"))
    }

    /// Has some publish a message each, and all others get all of them.
    async fn deliver(&mut self, name: &str, from: Range<usize>, bytes: usize) -> Result<String, String> {
        let took = self.publish_among(0..self.sides.len(), name, from.clone(), bytes).await?;
        Ok(format!("{} messages to {} nodes, all within {took} ms", from.len(), self.sides.len()))
    }

    /// The same among these nodes.
    async fn publish_among(
        &mut self,
        among: Range<usize>,
        name: &str,
        from: Range<usize>,
        bytes: usize,
    ) -> Result<u128, String> {
        let wanted: Vec<Expected> = self
            .sides
            .iter()
            .enumerate()
            .filter(|(at, _)| from.contains(at))
            .map(|(at, side)| expected(&format!("{name}-{at}"), side, self.signing))
            .collect();
        let began = Instant::now();
        each(&mut self.sides, among, async |at, side| {
            let own = format!("{name}-{at}");
            if wanted.iter().any(|one| one.name == own) {
                side.node
                    .publish(WEATHER, &own, bytes)
                    .await
                    .map_err(|why| format!("publishing {own}: {why}"))?;
            }
            let others: Vec<Expected> = wanted.iter().filter(|one| one.name != own).cloned().collect();
            side.receive(WEATHER, bytes, &others).await
        })
        .await?;
        Ok(began.elapsed().as_millis())
    }

    /// One of each kind leaves. The others see that, and go on; those that left are told nothing.
    async fn leave(&mut self) -> Result<String, String> {
        let gone: Vec<String> = self.sides.iter().take(self.kinds).map(|side| side.id.clone()).collect();
        each(&mut self.sides, 0..self.kinds, async |_, side| side.node.unsubscribe(WEATHER).await).await?;
        let rest = self.kinds..self.sides.len();
        each(&mut self.sides, rest.clone(), async |_, side| {
            let none = |state: &State| {
                !gone.iter().any(|id| state.subscribers.contains(id) || state.mesh.contains(id))
            };
            side.until(WEATHER, "those that left are gone", none).await.map(drop)
        })
        .await?;
        // Whose mesh was torn fills it up again at the next heartbeat.
        sleep(Duration::from_secs(2)).await;
        let took = self.publish_among(rest.clone(), "left", rest.clone(), SMALL).await?;
        Ok(format!("{} messages to {} nodes, all within {took} ms", rest.len(), rest.len()))
    }

    /// Waits for what must not come.
    async fn once(&mut self) -> Result<String, String> {
        let all = self.sides.len();
        each(&mut self.sides, 0..all, async |_, side| side.quiet(QUIET).await).await?;
        Ok(String::new())
    }

    async fn end(&mut self) -> Result<String, String> {
        let all = self.sides.len();
        each(&mut self.sides, 0..all, async |_, side| side.node.end().await).await?;
        Ok(String::new())
    }
}
