//! Failures that are not ours, each shown again in every run: with a foreign peer in our place the same step fails too.
//! An excused cell is counted as a failure with a reason, never as a pass.

use super::{pair, plan::STEPS, row::Row};
use crate::{peers, site::Site};

/// Steps of a peer, and why they fail.
struct Excuse {
    peer: &'static str,
    steps: &'static [&'static str],
    /// Who takes our place to show it.
    stand_in: &'static str,
    /// How often it may try: what fails now and then need not fail at once.
    tries: u32,
    reason: &'static str,
}

const ALL: &[Excuse] = &[Excuse {
    peer: "py",
    steps: &["burst"],
    stand_in: "go",
    tries: 3,
    reason: "py-libp2p lets 32 RPCs wait for a neighbour, and drops its own messages beyond that",
}];

/// Marks the failures that have an excuse which still holds, and says which excuses do not.
pub(super) async fn look_again(row: &mut Row, site: &Site) -> Vec<String> {
    let (label, Some(direction)) = (row.label(), row.direction) else { return Vec::new() };
    let mut stale = Vec::new();
    for excuse in ALL.iter().filter(|excuse| excuse.peer == row.peer && !row.crowd && !row.partial) {
        let failed: Vec<&'static str> =
            row.cells.iter().filter(|cell| !cell.ok).map(|cell| cell.step).collect();
        let mut missing: Vec<&str> = failed.into_iter().filter(|step| excuse.steps.contains(step)).collect();
        let (Some(peer), Some(stand_in)) = (peers::find(excuse.peer), peers::find(excuse.stand_in)) else {
            stale.push(format!("{}: no such peers", excuse.reason));
            continue;
        };
        for _ in 0..excuse.tries {
            let Some(last) = STEPS.iter().rposition(|step| missing.contains(step)) else { break };
            // Those before it, too: what fails may depend on them. Those after it only take time.
            let steps = STEPS.get(..=last).unwrap_or(&STEPS);
            let tried = pair::run(Some(stand_in), peer, direction, row.signing, site, steps).await;
            let fails = |step: &str| tried.cell(step).is_none_or(|cell| !cell.ok);
            for cell in row.cells.iter_mut().filter(|cell| missing.contains(&cell.step) && fails(cell.step)) {
                cell.excused = Some(excuse.reason);
            }
            missing.retain(|step| !fails(step));
        }
        let passes =
            |step| format!("{label}, {step}: passes with {}, so this failure is ours", excuse.stand_in);
        stale.extend(missing.into_iter().map(passes));
    }
    stale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_excuse_names_peers_and_steps_that_there_are() {
        for excuse in ALL {
            assert!(peers::find(excuse.peer).is_some() && peers::find(excuse.stand_in).is_some());
            assert!(excuse.steps.iter().all(|step| STEPS.contains(step)));
        }
    }
}
