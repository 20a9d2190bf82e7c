//! What came out of gossip: a row for each pair, with a cell for each step.

use serde::Serialize;

use super::{
    node::OURS,
    plan::{MIXED_STEPS, PARTIAL_STEPS, STEPS, Signing, crowd_steps},
};
use crate::{plan::Direction, row::Cell};

/// Instead of a peer's name, where all kinds are in one mesh.
pub(super) const MIXED: &str = "mixed";

/// Everything that came out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Results {
    /// Whether every step passed or is excused.
    pub(crate) ok: bool,
    pub(crate) seconds: f64,
    pub(crate) rows: Vec<Row>,
    /// What the excuses say that no longer holds.
    pub(crate) stale: Vec<String>,
}

/// One peer, direction and kind of messages.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// [`MIXED`] for many nodes in one mesh.
    pub(crate) peer: &'static str,
    /// Our node, or who stands in for it.
    pub(crate) with: &'static str,
    /// None, if it is many.
    pub(crate) direction: Option<Direction>,
    pub(crate) signing: Signing,
    /// Whether the peer came several times.
    pub(crate) crowd: bool,
    /// Whether messages travelled in parts.
    pub(crate) partial: bool,
    /// What was agreed on the stream to the peer, and on the one from it.
    pub(crate) version: Option<String>,
    pub(crate) cells: Vec<Cell>,
    /// What our node noticed, if any step failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) first_noticed: Vec<String>,
    /// The end of the peer's stderr, if any failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) second_noticed: Vec<String>,
}

impl Row {
    pub(super) fn new(
        stand_in: Option<&'static str>,
        peer: &'static str,
        direction: Direction,
        signing: Signing,
    ) -> Self {
        Self {
            peer,
            with: stand_in.unwrap_or(OURS),
            direction: Some(direction),
            signing,
            crowd: false,
            partial: false,
            version: None,
            cells: Vec::new(),
            first_noticed: Vec::new(),
            second_noticed: Vec::new(),
        }
    }

    /// Many nodes in one mesh.
    pub(super) fn mixed(signing: Signing) -> Self {
        Self { direction: None, ..Self::new(None, MIXED, Direction::WeDial, signing) }
    }

    /// Several of one kind with our node.
    pub(super) fn crowd(peer: &'static str) -> Self {
        Self { crowd: true, ..Self::new(None, peer, Direction::TheyDial, Signing::Strict) }
    }

    /// Messages that travel in parts.
    pub(super) fn partial(peer: &'static str, direction: Direction) -> Self {
        Self { partial: true, ..Self::new(None, peer, direction, Signing::Strict) }
    }

    /// The steps that it takes.
    pub(super) fn steps(&self) -> &'static [&'static str] {
        match (self.direction, self.crowd) {
            (None, _) => &MIXED_STEPS,
            (_, true) => crowd_steps(self.peer),
            (_, false) if self.partial => &PARTIAL_STEPS,
            (_, false) => &STEPS,
        }
    }

    /// Who dials.
    pub(super) fn dialer(&self) -> &'static str {
        match self.direction {
            Some(Direction::WeDial) => self.with,
            Some(Direction::TheyDial) => self.peer,
            None => "all",
        }
    }

    /// Who dials whom, and with what messages.
    pub(super) fn label(&self) -> String {
        let (dialer, signing) = (self.dialer(), self.signing);
        if self.crowd {
            return format!("many {dialer} -> {}", self.with);
        }
        let what = if self.partial { "partial" } else { signing.word() };
        match self.direction {
            Some(Direction::WeDial) => format!("{dialer} -> {} {what}", self.peer),
            Some(Direction::TheyDial) => format!("{dialer} -> {} {what}", self.with),
            None => format!("{} {signing}", self.peer),
        }
    }

    pub(super) fn cell(&self, step: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.step == step)
    }

    pub(super) fn ok(&self) -> bool {
        !self.cells.is_empty() && self.cells.iter().all(|cell| cell.ok)
    }

    /// Whether every step passed, or has an excuse.
    pub(super) fn excused(&self) -> bool {
        !self.cells.is_empty() && self.cells.iter().all(|cell| cell.ok || cell.excused.is_some())
    }

    pub(super) fn note(&mut self, step: &'static str, result: Result<String, String>) {
        self.cells.push(Cell::new(step, 0.0, result));
    }

    /// Notes the steps that were never taken, as failures.
    pub(super) fn complete(&mut self, steps: &[&'static str]) {
        for step in steps {
            if self.cell(step).is_none() {
                self.note(step, Err("it did not come to that".to_owned()));
            }
        }
    }
}
