//! How many messages go through, and how long they take.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::{Gossiper, TOPIC, network, told::Board};
use crate::{Options, Result, Stack, measure::operations, say};

/// How long messages go on before they count.
const WARM_UP: Duration = Duration::from_millis(500);
/// Between two messages where they are paced: fifty a second.
const PACE: Duration = Duration::from_millis(20);
/// More than come together in that time.
const PACED_WINDOW: usize = 256;

/// Nodes that have their mesh, and what they are told. The first one publishes.
struct Network<G> {
    nodes: Vec<G>,
    board: Board,
    size: usize,
    published: usize,
}

async fn start<S: Stack>(
    stack: &S,
    options: &Options,
    count: usize,
    size: usize,
    window: usize,
) -> Result<Network<S::Gossiper>> {
    let nodes = network::start(stack, options, count).await?;
    let board = Board::new(count.saturating_sub(1), window);
    for (index, node) in nodes.iter().enumerate() {
        // The publisher subscribes, too, for it has a mesh then; its own messages are not given to it.
        let subscriber = index.checked_sub(1);
        node.subscribe(
            TOPIC,
            subscriber.map_or_else(|| Box::new(|_: &[u8]| {}) as _, |one| board.taken(one)),
        )
        .await?;
    }
    network::meshed(&nodes, TOPIC).await?;
    Ok(Network { nodes, board, size, published: 0 })
}

impl<G: Gossiper> Network<G> {
    async fn publish(&mut self) -> Result<()> {
        let Some(publisher) = self.nodes.first() else { return Ok(()) };
        let data = self.board.next(self.published, self.size).await?;
        self.published = self.published.saturating_add(1);
        publisher.publish(TOPIC, data).await
    }
}

/// As many messages as go through, while so many are under way: one is when not all have it.
pub(super) async fn flat_out<S: Stack>(
    stack: &S,
    options: &Options,
    count: usize,
    size: usize,
    window: usize,
) -> Result<Vec<S::Gossiper>> {
    let mut network = start(stack, options, count, size, window).await?;
    let warm = Instant::now();
    while warm.elapsed() < WARM_UP.min(options.duration) {
        network.publish().await?;
    }
    network.board.drained().await?;
    say::begin();
    network.board.count();
    let began = Instant::now();
    while began.elapsed() < options.duration {
        network.publish().await?;
    }
    network.board.drained().await?;
    finish(network, began.elapsed())
}

/// Messages at a pace that leaves everybody idle in between.
pub(super) async fn paced<S: Stack>(
    stack: &S,
    options: &Options,
    count: usize,
    size: usize,
) -> Result<Vec<S::Gossiper>> {
    let mut network = start(stack, options, count, size, PACED_WINDOW).await?;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let warm = Instant::now();
    while warm.elapsed() < WARM_UP.min(options.duration) {
        pace.tick().await;
        network.publish().await?;
    }
    network.board.drained().await?;
    say::begin();
    network.board.count();
    let began = Instant::now();
    while began.elapsed() < options.duration {
        pace.tick().await;
        network.publish().await?;
    }
    network.board.drained().await?;
    finish(network, began.elapsed())
}

fn finish<G: Gossiper>(network: Network<G>, took: Duration) -> Result<Vec<G>> {
    let times = network.board.times(network.published)?;
    say::result(&operations(times, took));
    Ok(network.nodes)
}
