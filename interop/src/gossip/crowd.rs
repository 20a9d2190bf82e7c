//! Our node among more peers of one kind than its mesh takes: who is pruned has to obey, and hears the rest by gossip.

use std::time::Duration;

use peerage::pubsub::Mesh;

use super::{
    node::{self, Node},
    pair::{SMALL, WEATHER, expected},
    plan::{Signing, crowd_steps},
    row::Row,
    side::{Expected, Side, each},
};
use crate::{peers::Peer, process::State, row::take, site::Site};

/// How many peers there are.
const PEERS: usize = 5;
/// How many our mesh takes; they find room in it only by their choice.
const HIGH: usize = 2;
const LIMIT: Duration = Duration::from_secs(60);
/// How long nothing may come again; there are several heartbeats in it.
const QUIET: Duration = Duration::from_secs(3);

/// Our node is the first.
struct Crowd {
    sides: Vec<Side>,
    /// Which of them are in our mesh.
    meshed: Vec<String>,
}

/// Lets several of a peer's kind dial our node, and know nobody else.
pub(super) async fn run(peer: &'static Peer, site: &Site) -> Row {
    let mut row = Row::crowd(peer.name);
    let mut crowd = Crowd { sides: Vec::new(), meshed: Vec::new() };
    for &step in crowd_steps(peer.name) {
        if take(&mut row.cells, step, LIMIT, crowd.step(step, peer, site)).await.is_none() {
            break;
        }
    }
    if row.cells.iter().any(|cell| !cell.ok) {
        row.first_noticed = crowd.sides.first().map(|ours| ours.node.noticed()).unwrap_or_default();
        row.second_noticed = crowd.sides.iter().skip(1).flat_map(|side| side.node.noticed()).collect();
    }
    row.complete(crowd_steps(peer.name));
    row
}

impl Crowd {
    async fn step(&mut self, step: &str, peer: &'static Peer, site: &Site) -> Result<((), String), String> {
        let detail = match step {
            "start" => self.start(peer, site).await?,
            "dial" => self.dial().await?,
            "pruned" => self.pruned().await?,
            "ours" => self.ours().await?,
            "theirs" => self.theirs(step, true).await?,
            "gossiped" => self.theirs(step, false).await?,
            "end" => self.end().await?,
            other => return Err(format!("no such step: {other}")),
        };
        Ok(((), detail))
    }

    async fn start(&mut self, peer: &'static Peer, site: &Site) -> Result<String, String> {
        let mut config = node::config(Signing::Strict);
        let mut mesh = Mesh::default();
        (mesh.size, mesh.low, mesh.high) = (HIGH, 1, HIGH);
        (mesh.best, mesh.outbound) = (1, 0);
        config.mesh = mesh;
        // Otherwise all would get our own messages at once, and nobody had to ask.
        config.flood_publish = false;
        for at in 0..=PEERS {
            let foreign = (at > 0).then_some(peer);
            let node = Node::start(foreign, config.clone(), Signing::Strict, site).await?;
            self.sides.push(Side::new(node));
        }
        Ok(format!("{PEERS} peers"))
    }

    async fn dial(&mut self) -> Result<String, String> {
        let address = self.ours_side()?.node.address()?;
        let all = self.sides.len();
        each(&mut self.sides, 0..all, async |_, side| side.node.subscribe(WEATHER).await).await?;
        each(&mut self.sides, 1..all, async |_, side| side.node.dial(&address).await).await?;
        let ours = self.ours_side()?;
        ours.until(WEATHER, "all want the topic", |state| state.subscribers.len() == PEERS).await?;
        Ok(String::new())
    }

    /// Waits until our mesh is as large as it may be, and the others know who is in it.
    async fn pruned(&mut self) -> Result<String, String> {
        // Full, not less: who came into it between two messages would be sent neither the first one nor word of it.
        let full = |state: &State| state.mesh.len() == HIGH;
        let state = self.ours_side()?.until(WEATHER, "its mesh is full", full).await?;
        self.meshed = state.mesh;
        let (ours, meshed) = (self.ours_side()?.id.clone(), &self.meshed);
        let all = self.sides.len();
        each(&mut self.sides, 1..all, async |_, side| {
            let member = meshed.contains(&side.id);
            let what = if member { "it is in our mesh" } else { "it was pruned" };
            side.until(WEATHER, what, |state| state.mesh.contains(&ours) == member).await.map(drop)
        })
        .await?;
        Ok(format!("{} of {PEERS} in the mesh", self.meshed.len()))
    }

    /// We publish: those in the mesh are sent it, the others told of it, and they ask.
    async fn ours(&mut self) -> Result<String, String> {
        let ours = self.ours_side()?;
        let wanted = [expected("crowd-ours", ours, Signing::Strict)];
        ours.node.publish(WEATHER, "crowd-ours", SMALL).await?;
        let all = self.sides.len();
        each(&mut self.sides, 1..all, async |_, side| {
            side.receive(WEATHER, SMALL, &wanted).await?;
            side.quiet(QUIET).await
        })
        .await?;
        Ok(format!("{} by gossip", PEERS.saturating_sub(self.meshed.len())))
    }

    /// Those in the mesh publish, or the others, and all get it, by us. Who is in no mesh can only tell us that it has
    /// something; we ask.
    async fn theirs(&mut self, name: &str, meshed: bool) -> Result<String, String> {
        let all = self.sides.len();
        let mut wanted = Vec::new();
        for (at, side) in self.sides.iter().enumerate().skip(1) {
            if self.meshed.contains(&side.id) == meshed {
                wanted.push(expected(&format!("{name}-{at}"), side, Signing::Strict));
            }
        }
        each(&mut self.sides, 0..all, async |at, side| {
            let own = format!("{name}-{at}");
            if wanted.iter().any(|one| one.name == own) {
                side.node
                    .publish(WEATHER, &own, SMALL)
                    .await
                    .map_err(|why| format!("publishing {own}: {why}"))?;
            }
            let others: Vec<Expected> = wanted.iter().filter(|one| one.name != own).cloned().collect();
            side.receive(WEATHER, SMALL, &others).await?;
            side.quiet(QUIET).await
        })
        .await?;
        Ok(format!("{} messages", wanted.len()))
    }

    /// Wants nobody to have broken a rule, and all to end.
    async fn end(&mut self) -> Result<String, String> {
        let said = self.ours_side()?.node.misdeeds()?;
        let all = self.sides.len();
        each(&mut self.sides, 1..all, async |_, side| side.node.end().await).await?;
        self.ours_side()?.node.end().await?;
        Ok(said)
    }

    fn ours_side(&mut self) -> Result<&mut Side, String> {
        self.sides.first_mut().ok_or_else(|| "our node was not started".to_owned())
    }
}
