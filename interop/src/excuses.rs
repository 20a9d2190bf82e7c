//! Failures that are not ours, each shown again in every run: with a foreign peer in our place the same step fails too.
//!
//! An excused cell is counted as a failure with a reason, never as a pass. An excuse that is no longer needed, because
//! all that it covers passes with us, or because what fails with us passes with the stand-in, fails the run until it is
//! taken out of the list. Only what fails now and
//! then may pass; if it fails, the stand-in has a few tries to fail as well.

use std::path::Path;

use crate::{
    foreign,
    peers::{self, Peer},
    plan::{Direction, Key, Muxer, Security},
    row::Row,
};

/// A pattern of cells, and why they fail. `None` and an empty list mean any.
struct Excuse {
    peer: &'static str,
    direction: Option<Direction>,
    security: Option<Security>,
    muxer: Option<Muxer>,
    key: Option<Key>,
    steps: &'static [&'static str],
    /// Who takes our place to show it.
    stand_in: &'static str,
    /// How often the stand-in may try. More than once only for what does not fail each time.
    tries: u32,
    reason: &'static str,
}

const ALL: &[Excuse] = &[
    Excuse {
        peer: "js",
        direction: None,
        security: None,
        muxer: None,
        key: Some(Key::Ecdsa),
        steps: &[],
        stand_in: "go",
        tries: 1,
        reason: "js-libp2p makes no peer id of an ECDSA key",
    },
    Excuse {
        peer: "py",
        direction: None,
        security: None,
        muxer: None,
        key: Some(Key::Ecdsa),
        steps: &[],
        stand_in: "go",
        tries: 1,
        reason: "py-libp2p reads no ECDSA key, so it cannot know whom it speaks with",
    },
    Excuse {
        peer: "py",
        direction: Some(Direction::TheyDial),
        security: None,
        muxer: Some(Muxer::Mplex),
        key: None,
        steps: &["echo-64k"],
        stand_in: "go",
        tries: 12,
        reason: "mplex of py-libp2p now and then stops reading its own echo",
    },
];

impl Excuse {
    fn covers(&self, row: &Row, step: &str) -> bool {
        fn any<T: PartialEq>(of: Option<T>, it: T) -> bool {
            of.is_none_or(|of| of == it)
        }
        self.peer == row.peer
            && any(self.direction, row.direction)
            && any(self.security, row.setup.security)
            && any(self.muxer, row.setup.muxer)
            && any(self.key, row.setup.key)
            && (self.steps.is_empty() || self.steps.contains(&step))
    }
}

/// The peers that show excuses of these.
pub(crate) fn stand_ins(of: &[&Peer]) -> Vec<&'static Peer> {
    let excuses = ALL.iter().filter(|excuse| of.iter().any(|peer| peer.name == excuse.peer));
    excuses.filter_map(|excuse| peers::find(excuse.stand_in)).collect()
}

/// Marks the failures that have an excuse which still holds, and says which excuses do not.
pub(crate) async fn look_again(rows: &mut [Row], peers: &Path) -> Vec<String> {
    let mut stale = Vec::new();
    for row in rows {
        let excused = |step: &str| ALL.iter().find(|excuse| excuse.covers(row, step));
        let Some(excuse) = row.setup.steps().iter().find_map(|step| excused(step)) else { continue };
        let (Some(foreign), Some(stand_in)) = (peers::find(row.peer), peers::find(excuse.stand_in)) else {
            stale.push(format!("{}: no such peers", excuse.reason));
            continue;
        };
        let (dialer, listener) = match row.direction {
            Direction::WeDial => (stand_in, foreign),
            Direction::TheyDial => (foreign, stand_in),
        };
        let failed: Vec<&str> = row
            .cells
            .iter()
            .filter(|cell| !cell.ok && excuse.covers(row, cell.step))
            .map(|cell| cell.step)
            .collect();
        if failed.is_empty() && excuse.tries > 1 {
            continue;
        }
        let mut shown = foreign::pair(dialer, listener, peers, row.setup).await;
        for _ in 1..excuse.tries {
            if failed.iter().all(|step| shown.cell(step).is_none_or(|cell| !cell.ok)) {
                break;
            }
            shown = foreign::pair(dialer, listener, peers, row.setup).await;
        }
        stale.extend(settle(row, &shown, excuse, &format!("{} -> {}", dialer.name, listener.name)));
    }
    stale
}

/// Compares what failed with us and with the stand-in.
fn settle(row: &mut Row, shown: &Row, excuse: &Excuse, pair: &str) -> Vec<String> {
    let (label, mut stale) = (row.label(), Vec::new());
    let mut covered = row.cells.iter().filter(|cell| excuse.covers(row, cell.step));
    if excuse.tries == 1 && covered.all(|cell| cell.ok) {
        stale.push(format!("{label}: passes, and needs no excuse any more"));
    }
    for step in row.setup.steps().iter().filter(|step| excuse.covers(row, step)).copied().collect::<Vec<_>>()
    {
        let fails_too = shown.cell(step).is_none_or(|cell| !cell.ok);
        let Some(cell) = row.cells.iter_mut().find(|cell| cell.step == step) else { continue };
        match (cell.ok, fails_too) {
            (false, true) => cell.excused = Some(excuse.reason),
            (false, false) => stale.push(format!("{label}, {step}: {pair} passes, so this failure is ours")),
            (true, _) => {}
        }
    }
    stale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Setup;

    const SETUP: Setup = Setup { security: Security::Tls, muxer: Muxer::Yamux, key: Key::Ecdsa };
    const EXCUSE: Excuse = Excuse {
        peer: "py",
        direction: Some(Direction::WeDial),
        security: None,
        muxer: None,
        key: Some(Key::Ecdsa),
        steps: &["dial"],
        stand_in: "go",
        tries: 1,
        reason: "theirs",
    };

    fn row(dial: Result<String, String>) -> Row {
        let mut row = Row::new("py", Direction::WeDial, SETUP);
        row.note("dial", 1.0, dial);
        row.complete();
        row
    }

    #[test]
    fn a_failure_is_excused_only_while_the_stand_in_fails_too() {
        let bad = || Err("no".to_owned());
        let mut ours = row(bad());
        assert!(settle(&mut ours, &row(bad()), &EXCUSE, "go -> py").is_empty());
        assert_eq!(ours.cells[0].excused, Some("theirs"));
        assert_eq!(ours.cells[1].excused, None, "only what the excuse names");
        let mut ours = row(bad());
        let stale = settle(&mut ours, &row(Ok(String::new())), &EXCUSE, "go -> py");
        assert!(ours.cells[0].excused.is_none() && stale[0].contains("go -> py passes"), "{stale:?}");
    }

    #[test]
    fn an_excuse_for_what_passes_is_told() {
        let stale = settle(&mut row(Ok(String::new())), &row(Err("no".to_owned())), &EXCUSE, "go -> py");
        assert!(stale[0].contains("needs no excuse"), "{stale:?}");
        let sometimes = Excuse { tries: 2, ..EXCUSE };
        assert!(
            settle(&mut row(Ok(String::new())), &row(Ok(String::new())), &sometimes, "go -> py").is_empty()
        );
    }

    #[test]
    fn patterns() {
        let row = row(Ok(String::new()));
        assert!(EXCUSE.covers(&row, "dial") && !EXCUSE.covers(&row, "ping"));
        let mut other = row.clone();
        other.direction = Direction::TheyDial;
        assert!(!EXCUSE.covers(&other, "dial"));
        other.peer = "go";
        assert!(!ALL.iter().any(|excuse| excuse.covers(&other, "dial")));
    }

    #[test]
    fn every_excuse_names_peers_and_steps_that_there_are() {
        for excuse in ALL {
            assert!(peers::find(excuse.peer).is_some() && peers::find(excuse.stand_in).is_some());
            assert!(excuse.steps.iter().all(|step| crate::plan::STEPS.contains(step)));
            assert!(!excuse.reason.is_empty());
        }
    }
}
