//! Two nodes whose messages travel in parts.

use std::time::Duration;

use peerage::pubsub::partial::{Limits, Mode};

use tokio::time::{sleep, timeout};

use super::{
    node::{self, Node},
    pair::{NEWS, Pair, SMALL, WEATHER, expected},
    pieces::Share,
    plan::{PARTIAL_STEPS, Signing},
    row::Row,
    side::{Expected, STEP, Side},
};
use crate::{peers::Peer, plan::Direction, row::take, site::Site};

/// Bytes of a message that goes into one RPC, and of one that does not.
const SMALL_PARTS: usize = 64 << 10;
const LARGE_PARTS: usize = 3 << 20;
/// How long nothing may come where nothing should; there are heartbeats in it, and what they tell of.
const QUIET: Duration = Duration::from_millis(2500);

/// More than the numbers and lengths of all pieces take, and less than one piece.
const HEADS: u64 = 1000;
/// How often our node is asked what it has counted.
const POLL: Duration = Duration::from_millis(100);

/// Lets a peer meet our node. Both want parts of one topic; of the other, the peer sends them only.
pub(super) async fn run(peer: &'static Peer, direction: Direction, site: &Site) -> Row {
    let mut row = Row::partial(peer.name, direction);
    let signing = Signing::Strict;
    let config = || {
        let mut config = node::config(signing);
        config.partial = Some(Limits::default());
        config
    };
    let (first, second) = tokio::join!(
        Node::start(None, config(), signing, site),
        Node::start(Some(peer), config(), signing, site)
    );
    match (first, second) {
        (Ok(first), Ok(second)) => {
            let mut pair = Pair { first: Side::new(first), second: Side::new(second), signing };
            for name in PARTIAL_STEPS {
                let done = take(&mut row.cells, name, 3 * STEP, step(&mut pair, name, direction)).await;
                if name == "dial" && done.is_none() {
                    break;
                }
            }
            if row.cells.iter().any(|cell| !cell.ok) {
                row.first_noticed = pair.first.node.noticed();
                row.second_noticed = pair.second.node.noticed();
            }
        }
        (Err(why), _) | (_, Err(why)) => row.note("dial", Err(why)),
    }
    row.complete(&PARTIAL_STEPS);
    row
}

async fn step(pair: &mut Pair, name: &str, direction: Direction) -> Result<((), String), String> {
    match name {
        "dial" => pair.dial(direction).await?,
        "subscribe" => {
            for (topic, theirs) in [(WEATHER, Mode::Requests), (NEWS, Mode::Sends)] {
                pair.first.node.subscribe_partial(topic, Mode::Requests).await?;
                pair.second.node.subscribe_partial(topic, theirs).await?;
                pair.know_each_other(topic).await?;
            }
        }
        "mesh" => {
            for topic in [WEATHER, NEWS] {
                pair.mesh(topic, STEP).await?;
            }
        }
        "ours" => give(&mut pair.first, &mut pair.second, WEATHER, name, SMALL_PARTS).await?,
        "theirs" => give(&mut pair.second, &mut pair.first, WEATHER, name, SMALL_PARTS).await?,
        "halves" => halves(pair, name).await?,
        "ours-3m" => give(&mut pair.first, &mut pair.second, WEATHER, name, LARGE_PARTS).await?,
        "theirs-3m" => give(&mut pair.second, &mut pair.first, WEATHER, name, LARGE_PARTS).await?,
        "whole" => whole(pair).await?,
        "once" => return once(pair).await.map(|said| ((), said)),
        "end" => {
            pair.first.node.misdeeds()?;
            pair.end().await?;
        }
        other => return Err(format!("no such step: {other}")),
    }
    Ok(((), String::new()))
}

/// A message that came in parts; nobody says who wrote it.
fn in_parts(name: &str) -> [Expected; 1] {
    [Expected { name: name.to_owned(), author: String::new() }]
}

/// One has all of a message, and the other gets it.
async fn give(from: &mut Side, to: &mut Side, topic: &str, name: &str, bytes: usize) -> Result<(), String> {
    from.node.publish_partial(topic, name, bytes, Share::All).await?;
    to.receive(topic, bytes, &in_parts(name)).await
}

/// Each has every other piece, and both get the rest.
async fn halves(pair: &mut Pair, name: &str) -> Result<(), String> {
    pair.first.node.publish_partial(WEATHER, name, SMALL_PARTS, Share::Even).await?;
    pair.second.node.publish_partial(WEATHER, name, SMALL_PARTS, Share::Odd).await?;
    pair.first.receive(WEATHER, SMALL_PARTS, &in_parts(name)).await?;
    pair.second.receive(WEATHER, SMALL_PARTS, &in_parts(name)).await
}

/// Wants each piece to have travelled once: that makes as many bytes as the messages have, and a number and a length for each
/// piece.
async fn once(pair: &Pair) -> Result<String, String> {
    // `ours` and half of `halves`; `theirs`, half of `halves`, and what came in the step `whole`.
    let gave = (SMALL_PARTS + SMALL_PARTS / 2 + LARGE_PARTS) as u64;
    let got = gave + SMALL_PARTS as u64;
    let is_once = |bytes: u64, of: u64| (of..of + HEADS).contains(&bytes);
    let counted = async {
        loop {
            let parts = pair.first.node.parts().unwrap_or_default();
            if parts.0 >= gave && parts.1 >= got {
                return parts;
            }
            sleep(POLL).await;
        }
    };
    let (sent, came) = timeout(STEP, counted).await.map_err(|_| {
        format!("not all pieces travelled: {:?}, not {gave} and {got}", pair.first.node.parts())
    })?;
    if is_once(sent, gave) && is_once(came, got) {
        Ok(format!("we gave {sent} bytes, and got {came}"))
    } else {
        Err(format!("we gave {sent} bytes instead of {gave}, and got {came} instead of {got}"))
    }
}

/// Whole messages are for those who do not request parts. The peer that only sends parts gets ours, and we its parts.
async fn whole(pair: &mut Pair) -> Result<(), String> {
    for side in [&mut pair.first, &mut pair.second] {
        let name = format!("whole-{}", side.id);
        side.node.publish(WEATHER, &name, SMALL).await?;
    }
    pair.second.node.publish(NEWS, "whole-theirs", SMALL).await?;
    pair.first.node.publish(NEWS, "whole-ours", SMALL).await?;
    let wanted = [expected("whole-ours", &pair.first, pair.signing)];
    pair.second.receive(NEWS, SMALL, &wanted).await?;
    // Not even by IHAVE and IWANT.
    let (ours, theirs) = tokio::join!(pair.first.nothing(QUIET), pair.second.nothing(QUIET));
    ours.and(theirs)?;
    give(&mut pair.second, &mut pair.first, NEWS, "parts-theirs", SMALL_PARTS).await
}
