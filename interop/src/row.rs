//! What came out: a row for each peer and direction, with a cell for each step.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout};

use crate::{
    build::Built,
    plan::{Direction, STEPS, Setup},
};

/// What our node is called.
const OURS: &str = "peerage";

/// Everything that came out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Results {
    /// Whether every step passed or is excused.
    pub(crate) ok: bool,
    /// How often everything was done.
    pub(crate) repeat: u32,
    /// How long that took, builds not counted.
    pub(crate) seconds: f64,
    pub(crate) builds: Vec<Built>,
    pub(crate) rows: Vec<Row>,
    /// What the excuses say that no longer holds.
    pub(crate) stale: Vec<String>,
}

/// One peer, direction and setup.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) peer: &'static str,
    pub(crate) direction: Direction,
    /// Who dials.
    pub(crate) dialer: &'static str,
    #[serde(flatten)]
    pub(crate) setup: Setup,
    /// What the peer calls itself in identify.
    pub(crate) agent: Option<String>,
    pub(crate) cells: Vec<Cell>,
    /// Our report of the dial, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dial_report: Option<String>,
    /// What our node noticed beside the steps, if any failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) noticed: Vec<String>,
    /// The end of the peer's stderr, if any failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stderr: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cell {
    pub(crate) step: &'static str,
    pub(crate) ok: bool,
    pub(crate) ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Why a failure is not ours, as was seen again in this run. It is a failure all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) excused: Option<&'static str>,
    /// What there is to know of a step that passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

impl Row {
    pub(crate) fn new(peer: &'static str, direction: Direction, setup: Setup) -> Self {
        let dialer = match direction {
            Direction::WeDial => OURS,
            Direction::TheyDial => peer,
        };
        Self {
            peer,
            direction,
            dialer,
            setup,
            agent: None,
            cells: Vec::new(),
            dial_report: None,
            noticed: Vec::new(),
            stderr: Vec::new(),
        }
    }

    /// Who dials whom, and how.
    pub(crate) fn label(&self) -> String {
        let listener = match self.direction {
            Direction::WeDial => self.peer,
            Direction::TheyDial => OURS,
        };
        format!("{} -> {listener} {}", self.dialer, self.setup)
    }

    pub(crate) fn cell(&self, step: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.step == step)
    }

    /// Whether every step was taken and passed.
    pub(crate) fn ok(&self) -> bool {
        self.setup.steps().iter().all(|step| self.cell(step).is_some_and(|cell| cell.ok))
    }

    /// Whether every step passed, or has an excuse.
    pub(crate) fn excused(&self) -> bool {
        let fine = |cell: &Cell| cell.ok || cell.excused.is_some();
        self.setup.steps().iter().all(|step| self.cell(step).is_some_and(fine))
    }

    /// Notes the steps that were never taken, as failures.
    pub(crate) fn complete(&mut self) {
        for step in self.setup.steps() {
            if self.cell(step).is_none() {
                self.note(step, 0.0, Err("it did not come to that".to_owned()));
            }
        }
    }

    /// Takes a step of ours by its deadline, and notes how it went.
    pub(crate) async fn step<T>(
        &mut self,
        step: &'static str,
        limit: Duration,
        doing: impl Future<Output = Result<(T, String), String>>,
    ) -> Option<T> {
        take(&mut self.cells, step, limit, doing).await
    }

    /// Notes how a step went; `result` has its detail, which may be empty, or the reason.
    pub(crate) fn note(&mut self, step: &'static str, ms: f64, result: Result<String, String>) {
        self.cells.push(Cell::new(step, ms, result));
    }

    /// Takes in another run of the same row: a step passed if it did each time, and takes its longest time.
    pub(crate) fn absorb(&mut self, other: Self) {
        let slowest = |row: &Self, step| row.cell(step).map_or(0.0, |cell| cell.ms);
        let longest: Vec<f64> =
            STEPS.iter().map(|step| slowest(self, step).max(slowest(&other, step))).collect();
        let worth = |row: &Self| (row.excused(), row.ok());
        if worth(&other) < worth(self) {
            *self = other;
        } else if self.agent.is_none() {
            self.agent = other.agent;
        }
        for (step, ms) in STEPS.iter().zip(longest) {
            if let Some(cell) = self.cells.iter_mut().find(|cell| cell.step == *step && cell.ok) {
                cell.ms = ms;
            }
        }
    }
}

impl Cell {
    /// `result` has the step's detail, which may be empty, or the reason.
    pub(crate) fn new(step: &'static str, ms: f64, result: Result<String, String>) -> Self {
        let ms = (ms * 100.0).round() / 100.0;
        let detail = result.as_ref().ok().filter(|detail| !detail.is_empty()).cloned();
        Self { step, ok: result.is_ok(), ms, error: result.err(), excused: None, detail }
    }
}

/// Takes a step by its deadline, and adds a cell for how it went.
pub(crate) async fn take<T>(
    cells: &mut Vec<Cell>,
    step: &'static str,
    limit: Duration,
    doing: impl Future<Output = Result<(T, String), String>>,
) -> Option<T> {
    let started = Instant::now();
    let done = timeout(limit, doing).await;
    let done = done.unwrap_or_else(|_| Err(format!("not done within {} s", limit.as_secs())));
    let (value, result) = match done {
        Ok((value, detail)) => (Some(value), Ok(detail)),
        Err(error) => (None, Err(error)),
    };
    cells.push(Cell::new(step, started.elapsed().as_secs_f64() * 1000.0, result));
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Key, Muxer, Security, Transport};

    const SETUP: Setup = Setup::upgraded(Transport::Tcp, Security::Noise, Muxer::Yamux, Key::Ed25519);

    fn row(ms: f64) -> Row {
        let mut row = Row::new("go", Direction::WeDial, SETUP);
        for step in SETUP.steps() {
            row.note(step, ms, Ok(String::new()));
        }
        row
    }

    #[test]
    fn a_row_passes_with_all_its_steps_only() {
        let mut row = row(1.0);
        assert!(row.ok() && row.excused());
        row.cells.pop();
        assert!(!row.ok() && !row.excused());
        row.complete();
        let last = row.cells.last_mut().unwrap();
        assert_eq!((last.step, last.error.as_deref()), ("end", Some("it did not come to that")));
        last.excused = Some("it is theirs");
        assert!(!row.ok() && row.excused());
    }

    #[test]
    fn repeated_rows_keep_the_first_failure_and_the_longest_time() {
        let mut all = row(1.0);
        all.absorb(row(5.0));
        all.absorb(row(2.0));
        assert!(all.ok() && all.cells.iter().all(|cell| (cell.ms - 5.0).abs() < 0.01));
        let mut failed = Row::new("go", Direction::WeDial, SETUP);
        failed.note("dial", 3.0, Err("first".to_owned()));
        all.absorb(failed.clone());
        failed.cells[0].error = Some("second".to_owned());
        all.absorb(failed);
        all.absorb(row(9.0));
        assert!(!all.ok());
        assert_eq!(all.cell("dial").unwrap().error.as_deref(), Some("first"));
        assert!((all.cell("dial").unwrap().ms - 3.0).abs() < 0.01);
    }

    #[test]
    fn a_failure_counts_for_more_than_an_excused_one() {
        let mut all = row(1.0);
        let mut excused = row(1.0);
        (excused.cells[1].ok, excused.cells[1].excused) = (false, Some("theirs"));
        let mut failed = excused.clone();
        failed.cells[1].excused = None;
        all.absorb(excused.clone());
        assert!(!all.ok() && all.excused());
        all.absorb(failed);
        all.absorb(excused);
        assert!(!all.excused());
    }

    #[tokio::test(start_paused = true)]
    async fn no_step_outlives_its_deadline() {
        let mut row = Row::new("go", Direction::WeDial, SETUP);
        let never = std::future::pending::<Result<((), String), String>>();
        assert_eq!(row.step("ping", Duration::from_secs(2), never).await, None);
        assert_eq!(row.cells[0].error.as_deref(), Some("not done within 2 s"));
        assert!((row.cells[0].ms - 2000.0).abs() < 50.0);
    }
}
