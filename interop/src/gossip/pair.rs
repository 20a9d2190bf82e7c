//! Two nodes, and the steps that they take.

use std::time::Duration;

use super::{
    node::{self, Node},
    plan::{STEPS, Signing},
    row::Row,
    side::{Expected, STEP, Side},
};
use crate::{peers::Peer, plan::Direction, process::State, row::take, site::Site};

/// How long a mesh may take after one of the two has left it: the backoff that is agreed then is ten seconds.
const AGAIN: Duration = Duration::from_secs(40);
/// How long a message may be late that should not come at all.
const QUIET: Duration = Duration::from_millis(500);

/// Both want both; one is left by them, one by us.
const TOPICS: [&str; 2] = [WEATHER, NEWS];
pub(super) const WEATHER: &str = "weather";
pub(super) const NEWS: &str = "news";
pub(super) const SMALL: usize = 1 << 10;
pub(super) const LARGE: usize = 512 << 10;
/// How many messages each side publishes in the step `burst`.
const BURST: usize = 50;

/// Two nodes that meet. The first is ours, unless another one stands in for it.
pub(super) struct Pair {
    pub(super) first: Side,
    pub(super) second: Side,
    pub(super) signing: Signing,
}

/// Lets a peer meet our node, or who stands in for it, and take these steps.
pub(super) async fn run(
    stand_in: Option<&'static Peer>,
    peer: &'static Peer,
    direction: Direction,
    signing: Signing,
    site: &Site,
    steps: &[&'static str],
) -> Row {
    let mut row = Row::new(stand_in.map(|peer| peer.name), peer.name, direction, signing);
    let (first, second) = tokio::join!(
        Node::start(stand_in, node::config(signing), signing, site),
        Node::start(Some(peer), node::config(signing), signing, site)
    );
    match (first, second) {
        (Ok(first), Ok(second)) => {
            let mut pair = Pair { first: Side::new(first), second: Side::new(second), signing };
            for step in STEPS.into_iter().filter(|step| steps.contains(step)) {
                let limit = if step == "again" { AGAIN + 2 * STEP } else { 2 * STEP };
                let done = take(&mut row.cells, step, limit, pair.step(step, direction)).await;
                if step == "dial" && done.is_none() {
                    break;
                }
                if step == "version" {
                    row.version = row.cells.last().and_then(|cell| cell.detail.clone());
                }
            }
            if row.cells.iter().any(|cell| !cell.ok) {
                row.first_noticed = pair.first.node.noticed();
                row.second_noticed = pair.second.node.noticed();
            }
        }
        (Err(why), _) | (_, Err(why)) => row.note("dial", Err(why)),
    }
    row.complete(steps);
    row
}

/// Has one side publish, and the other get it all.
async fn deliver(
    from: &mut Side,
    to: &mut Side,
    signing: Signing,
    topic: &str,
    names: &[String],
    bytes: usize,
) -> Result<(), String> {
    for name in names {
        from.node.publish(topic, name, bytes).await.map_err(|why| format!("publishing: {why}"))?;
    }
    let wanted: Vec<Expected> = names.iter().map(|name| expected(name, from, signing)).collect();
    to.receive(topic, bytes, &wanted).await
}

/// A message of a node's, as it is to come to others.
pub(super) fn expected(name: &str, from: &Side, signing: Signing) -> Expected {
    let author = if signing == Signing::Anonymous { String::new() } else { from.id.clone() };
    Expected { name: name.to_owned(), author }
}

impl Pair {
    async fn step(&mut self, step: &str, direction: Direction) -> Result<((), String), String> {
        let name = [step.to_owned()];
        match step {
            "dial" => self.dial(direction).await?,
            "version" => return self.version().await.map(|said| ((), said)),
            "subscribe" => self.subscribe().await?,
            "mesh" => {
                for topic in TOPICS {
                    self.mesh(topic, STEP).await?;
                }
            }
            "ours-1k" => self.ours(WEATHER, &name, SMALL).await?,
            "theirs-1k" => self.theirs(WEATHER, &name, SMALL).await?,
            "ours-512k" => self.ours(WEATHER, &name, LARGE).await?,
            "theirs-512k" => self.theirs(WEATHER, &name, LARGE).await?,
            "burst" => self.burst().await?,
            "unsubscribe" => leave(&mut self.second, &mut self.first, WEATHER).await?,
            "theirs-fanout" => self.theirs(WEATHER, &name, SMALL).await?,
            "leave" => leave(&mut self.first, &mut self.second, NEWS).await?,
            "ours-fanout" => self.ours(NEWS, &name, SMALL).await?,
            "again" => self.again().await?,
            "end" => self.end().await?,
            other => return Err(format!("no such step: {other}")),
        }
        Ok(((), String::new()))
    }

    pub(super) async fn dial(&mut self, direction: Direction) -> Result<(), String> {
        let (dialer, listener) = match direction {
            Direction::WeDial => (&mut self.first, &mut self.second),
            Direction::TheyDial => (&mut self.second, &mut self.first),
        };
        let address = listener.node.address()?;
        dialer.node.dial(&address).await
    }

    /// Which protocols were agreed: on the stream of the first side, and on that of the second.
    async fn version(&mut self) -> Result<String, String> {
        let mut agreed = Vec::new();
        let (ours, theirs) = (self.first.id.clone(), self.second.id.clone());
        for (side, other) in [(&mut self.first, theirs), (&mut self.second, ours)] {
            let spoken = |state: &State| state.protocols.contains_key(&other);
            let state = side.until(WEATHER, "the other one gossips", spoken).await?;
            agreed.extend(state.protocols.get(&other).cloned());
        }
        Ok(format!(
            "{}, theirs {}",
            agreed.first().map_or("", String::as_str),
            agreed.last().map_or("", String::as_str)
        ))
    }

    async fn subscribe(&mut self) -> Result<(), String> {
        for topic in TOPICS {
            self.first.node.subscribe(topic).await?;
            self.second.node.subscribe(topic).await?;
            self.know_each_other(topic).await?;
        }
        Ok(())
    }

    /// Waits until each knows that the other wants a topic.
    pub(super) async fn know_each_other(&mut self, topic: &str) -> Result<(), String> {
        let (ours, theirs) = (&self.first.id.clone(), &self.second.id.clone());
        let what = "the other one wants the topic";
        self.first.until(topic, what, |state| state.subscribers.contains(theirs)).await?;
        self.second.until(topic, what, |state| state.subscribers.contains(ours)).await?;
        Ok(())
    }

    /// Waits until each has the other in its mesh.
    pub(super) async fn mesh(&mut self, topic: &str, limit: Duration) -> Result<(), String> {
        let (ours, theirs) = (&self.first.id.clone(), &self.second.id.clone());
        let what = "the other one is in the mesh";
        self.first.until_within(limit, topic, what, |state| state.mesh.contains(theirs)).await?;
        self.second.until_within(limit, topic, what, |state| state.mesh.contains(ours)).await?;
        Ok(())
    }

    pub(super) async fn ours(&mut self, topic: &str, names: &[String], bytes: usize) -> Result<(), String> {
        deliver(&mut self.first, &mut self.second, self.signing, topic, names, bytes).await
    }

    async fn theirs(&mut self, topic: &str, names: &[String], bytes: usize) -> Result<(), String> {
        deliver(&mut self.second, &mut self.first, self.signing, topic, names, bytes).await
    }

    /// Many at once, from both.
    async fn burst(&mut self) -> Result<(), String> {
        let names = |of: &str| (0..BURST).map(|n| format!("burst-{of}-{n}")).collect::<Vec<_>>();
        let (ours, theirs) = (names("ours"), names("theirs"));
        for (our, their) in ours.iter().zip(&theirs) {
            let (one, other) = tokio::join!(
                self.first.node.publish(WEATHER, our, SMALL),
                self.second.node.publish(WEATHER, their, SMALL)
            );
            one.and(other).map_err(|why| format!("publishing: {why}"))?;
        }
        let ours: Vec<_> = ours.iter().map(|name| expected(name, &self.first, self.signing)).collect();
        let theirs: Vec<_> = theirs.iter().map(|name| expected(name, &self.second, self.signing)).collect();
        self.second.receive(WEATHER, SMALL, &ours).await?;
        self.first.receive(WEATHER, SMALL, &theirs).await
    }

    /// Both want again what one has left; they are to mesh again, too, once the backoff is over.
    async fn again(&mut self) -> Result<(), String> {
        self.second.node.subscribe(WEATHER).await?;
        self.know_each_other(WEATHER).await?;
        self.mesh(WEATHER, AGAIN).await?;
        self.ours(WEATHER, &["again-ours".to_owned()], SMALL).await?;
        self.theirs(WEATHER, &["again-theirs".to_owned()], SMALL).await
    }

    /// Wants nothing more to come, and both to end.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        for side in [&mut self.first, &mut self.second] {
            side.quiet(QUIET).await?;
        }
        let ours = self.first.node.end().await;
        let theirs = self.second.node.end().await;
        ours.and(theirs)
    }
}

/// One leaves a topic; the other sees that, and has it in no mesh any more.
async fn leave(leaves: &mut Side, stays: &mut Side, topic: &str) -> Result<(), String> {
    leaves.node.unsubscribe(topic).await?;
    let gone = &leaves.id;
    let is_gone = |state: &State| !state.subscribers.contains(gone) && !state.mesh.contains(gone);
    stays.until(topic, "the other one has left the topic and the mesh", is_gone).await?;
    let other = &stays.id;
    leaves.until(topic, "it has no mesh any more", |state| !state.mesh.contains(other)).await.map(drop)
}
