//! A node, and what it was sent.

use std::{
    collections::{BTreeMap, HashSet},
    future::{Future as _, poll_fn},
    ops::Range,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::node::Node;
use crate::process::{Received, State};

/// How long a step may take; heartbeats are a second apart.
pub(super) const STEP: Duration = Duration::from_secs(20);
/// How often a node is asked whether something has come about.
const POLL: Duration = Duration::from_millis(100);
/// How many missing messages a failure names.
const NAMED: usize = 5;

/// A node, and the names of the messages that it was sent, each of which may come but once.
pub(super) struct Side {
    pub(super) node: Node,
    pub(super) id: String,
    seen: HashSet<String>,
}

/// A message that is to come.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) name: String,
    /// Empty if it is to have none.
    pub(super) author: String,
}

impl Side {
    pub(super) fn new(node: Node) -> Self {
        Self { id: node.id(), node, seen: HashSet::new() }
    }

    /// Waits until what this side says of a topic is as it has to be.
    pub(super) async fn until(
        &mut self,
        topic: &str,
        what: &str,
        holds: impl Fn(&State) -> bool,
    ) -> Result<State, String> {
        self.until_within(STEP, topic, what, holds).await
    }

    pub(super) async fn until_within(
        &mut self,
        limit: Duration,
        topic: &str,
        what: &str,
        holds: impl Fn(&State) -> bool,
    ) -> Result<State, String> {
        let started = Instant::now();
        loop {
            let state = self.node.state(topic).await?;
            if holds(&state) {
                return Ok(state);
            }
            if started.elapsed() > limit {
                return Err(format!(
                    "{} does not see within {} s that {what}: {state:?}",
                    self.id,
                    limit.as_secs()
                ));
            }
            sleep(POLL).await;
        }
    }

    /// Waits for these messages, in any order, and wants each of them once and as it was sent.
    pub(super) async fn receive(
        &mut self,
        topic: &str,
        bytes: usize,
        wanted: &[Expected],
    ) -> Result<(), String> {
        let mut missing: BTreeMap<&str, &str> =
            wanted.iter().map(|one| (one.name.as_str(), one.author.as_str())).collect();
        while !missing.is_empty() {
            let next = timeout(STEP, self.node.received()).await;
            let lost = |_| {
                let (lost, all) = (missing.len(), wanted.len());
                let names: Vec<&&str> = missing.keys().take(NAMED).collect();
                format!(
                    "{lost} of {all} messages do not come to {} within {} s: {names:?}",
                    self.id,
                    STEP.as_secs()
                )
            };
            let message = next.map_err(lost)??;
            self.check_new(&message)?;
            if let Some(author) = missing.remove(message.name.as_str()) {
                check(&message, topic, bytes, author)?;
            }
        }
        Ok(())
    }

    /// Wants nothing at all, for so long.
    pub(super) async fn nothing(&mut self, time: Duration) -> Result<(), String> {
        match timeout(time, self.node.received()).await {
            Ok(message) => Err(format!("{} came to {}", message?.name, self.id)),
            Err(_) => Ok(()),
        }
    }

    /// Wants nothing that came before, for so long.
    pub(super) async fn quiet(&mut self, time: Duration) -> Result<(), String> {
        let until = Instant::now() + time;
        while let Ok(message) = timeout_at(until, self.node.received()).await {
            let message = message?;
            self.check_new(&message)?;
        }
        Ok(())
    }

    fn check_new(&mut self, message: &Received) -> Result<(), String> {
        if self.seen.insert(message.name.clone()) {
            return Ok(());
        }
        Err(format!("{} was delivered to {} a second time", message.name, self.id))
    }
}

/// Has these nodes do something, all at once.
pub(super) async fn each(
    sides: &mut [Side],
    which: Range<usize>,
    doing: impl AsyncFn(usize, &mut Side) -> Result<(), String>,
) -> Result<(), String> {
    let sides = sides.iter_mut().enumerate().filter(|(at, _)| which.contains(at));
    let mut running: Vec<Pin<Box<_>>> = sides.map(|(at, side)| Box::pin(doing(at, side))).collect();
    let mut failed = Vec::new();
    poll_fn(|cx| {
        running.retain_mut(|one| match one.as_mut().poll(cx) {
            Poll::Ready(done) => {
                failed.extend(done.err());
                false
            }
            Poll::Pending => true,
        });
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

fn check(message: &Received, topic: &str, bytes: usize, author: &str) -> Result<(), String> {
    let Received { topic: found, name, bytes: size, intact, author: by } = message;
    if found != topic || *size != bytes || !intact {
        return Err(format!(
            "{name} came as {size} bytes of {found}, intact: {intact}, not {bytes} of {topic}"
        ));
    }
    if by != author {
        return Err(format!("{name} is said to be by {by:?}, not {author:?}"));
    }
    Ok(())
}
