//! Failures that are not ours, each shown again in every run: with a foreign peer in our place the same step fails too.
//!
//! An excused cell is counted as a failure with a reason, never as a pass. An excuse that is no longer needed, because
//! all that it covers passes with us, or because what fails with us passes with the stand-in, fails the run until it is
//! taken out of the list. Only what fails now and
//! then may pass; if it fails, the stand-in has a few tries to fail as well.

use crate::{
    foreign,
    peers::{self, Peer},
    plan::{Direction, Key, Muxer, Security, Transport},
    row::Row,
    site::Site,
};

/// A pattern of cells, and why they fail. `None` and an empty list mean any.
struct Excuse {
    peer: &'static str,
    direction: Option<Direction>,
    transport: Option<Transport>,
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
        transport: None,
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
        transport: None,
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
        transport: None,
        security: None,
        muxer: Some(Muxer::Mplex),
        key: None,
        steps: &["echo-64k"],
        stand_in: "go",
        tries: 12,
        reason: "mplex of py-libp2p now and then stops reading its own echo",
    },
    Excuse {
        peer: "py",
        direction: None,
        transport: Some(Transport::Quic),
        security: None,
        muxer: None,
        key: None,
        steps: &["identify", "echo-64k", "echo-4m", "perf", "many", "callback", "push", "pushed"],
        stand_in: "js",
        tries: 6,
        reason: "QUIC of py-libp2p now and then loses, mixes up or withholds what is on its streams",
    },
    Excuse {
        peer: "rust",
        direction: Some(Direction::WeDial),
        transport: Some(Transport::WebRtc),
        security: None,
        muxer: None,
        key: None,
        steps: &["echo-64k", "echo-4m", "perf", "many", "callback"],
        stand_in: "js",
        tries: 2,
        reason: "WebRTC of rust-libp2p takes no messages over 8 KiB, and knows no FIN_ACK",
    },
    Excuse {
        peer: "rust",
        direction: Some(Direction::TheyDial),
        transport: Some(Transport::WebRtc),
        security: None,
        muxer: None,
        key: None,
        steps: &["echo-64k", "echo-4m", "perf", "many", "callback", "ping-back", "push"],
        stand_in: "js",
        tries: 2,
        reason: "WebRTC of rust-libp2p takes no messages over 8 KiB, and knows no FIN_ACK",
    },
];

impl Excuse {
    fn covers(&self, row: &Row, step: &str) -> bool {
        fn any<T: PartialEq>(of: Option<T>, it: T) -> bool {
            of.is_none_or(|of| of == it)
        }
        self.peer == row.peer
            && any(self.direction, row.direction)
            && any(self.transport, row.setup.transport)
            && (self.security.is_none() || self.security == row.setup.security)
            && (self.muxer.is_none() || self.muxer == row.setup.muxer)
            && any(self.key, row.setup.key)
            && (self.steps.is_empty() || self.steps.contains(&step))
    }
}

/// The peers that show excuses of these.
pub(crate) fn stand_ins(of: &[&Peer]) -> Vec<&'static Peer> {
    let excuses = ALL.iter().filter(|excuse| of.iter().any(|peer| peer.name == excuse.peer));
    excuses.filter_map(|excuse| peers::find(excuse.stand_in)).collect()
}

/// Whether something of a row may be excused.
pub(crate) fn concern(row: &Row) -> bool {
    of(row).is_some()
}

fn of(row: &Row) -> Option<&'static Excuse> {
    ALL.iter().find(|excuse| row.setup.steps().iter().any(|step| excuse.covers(row, step)))
}

/// Marks the failures that have an excuse which still holds, and says which excuses do not.
pub(crate) async fn look_again(row: &mut Row, site: &Site) -> Vec<String> {
    let Some(excuse) = of(row) else { return Vec::new() };
    let (Some(foreign), Some(stand_in)) = (peers::find(row.peer), peers::find(excuse.stand_in)) else {
        return vec![format!("{}: no such peers", excuse.reason)];
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
    // What has failed in one of the tries: not all that fails now and then fails in the same.
    let mut shown = Vec::new();
    for _ in 0..excuse.tries {
        let missing: Vec<&str> = failed.iter().copied().filter(|step| !shown.contains(step)).collect();
        if missing.is_empty() {
            break;
        }
        // Those before it, too: what fails may depend on them. Those after it only take time.
        let steps = row.setup.steps();
        let last = steps.iter().rposition(|step| missing.contains(step));
        let steps = last.and_then(|last| steps.get(..=last)).unwrap_or(steps);
        let tried = foreign::pair(dialer, listener, site, row.setup, steps).await;
        shown.extend(missing.into_iter().filter(|step| tried.cell(step).is_none_or(|cell| !cell.ok)));
    }
    settle(row, &shown, excuse, &format!("{} -> {}", dialer.name, listener.name))
}

/// Compares what failed with us and what with the stand-in.
fn settle(row: &mut Row, shown: &[&str], excuse: &Excuse, pair: &str) -> Vec<String> {
    let (label, mut stale) = (row.label(), Vec::new());
    let mut covered = row.cells.iter().filter(|cell| excuse.covers(row, cell.step));
    if excuse.tries == 1 && covered.all(|cell| cell.ok) {
        stale.push(format!("{label}: passes, and needs no excuse any more"));
    }
    for step in row.setup.steps().iter().filter(|step| excuse.covers(row, step)).copied().collect::<Vec<_>>()
    {
        let fails_too = shown.contains(&step);
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

    const SETUP: Setup = Setup::upgraded(Transport::Tcp, Security::Tls, Muxer::Yamux, Key::Ecdsa);
    const EXCUSE: Excuse = Excuse {
        peer: "py",
        direction: Some(Direction::WeDial),
        transport: None,
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
        assert!(settle(&mut ours, &["dial"], &EXCUSE, "go -> py").is_empty());
        assert_eq!(ours.cells[0].excused, Some("theirs"));
        assert_eq!(ours.cells[1].excused, None, "only what the excuse names");
        let mut ours = row(bad());
        let stale = settle(&mut ours, &["ping"], &EXCUSE, "go -> py");
        assert!(ours.cells[0].excused.is_none() && stale[0].contains("go -> py passes"), "{stale:?}");
    }

    #[test]
    fn an_excuse_for_what_passes_is_told() {
        let stale = settle(&mut row(Ok(String::new())), &["dial"], &EXCUSE, "go -> py");
        assert!(stale[0].contains("needs no excuse"), "{stale:?}");
        let sometimes = Excuse { tries: 2, ..EXCUSE };
        assert!(settle(&mut row(Ok(String::new())), &[], &sometimes, "go -> py").is_empty());
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
