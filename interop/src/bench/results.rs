//! All that was measured, and what of it counts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    echo::Build,
    plan::{Case, Figure},
    run::{Run, Settings},
};

/// Everything, as it is written to a file.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: String,
    pub(crate) settings: Settings,
    pub(crate) rounds: u32,
    /// What each program is, by its label.
    pub(crate) about: BTreeMap<&'static str, String>,
    /// Who was measured, ours first.
    pub(crate) labels: Vec<&'static str>,
    pub(crate) cells: Vec<Cell>,
    /// The same writes of 1 MiB at once over TCP, which is what the machine can carry: up and down.
    pub(crate) wide: Vec<Cell>,
    /// Ciphers alone, in Gbit/s.
    pub(crate) ciphers: Vec<(String, f64)>,
    /// The example `echo`.
    pub(crate) builds: Vec<Build>,
    pub(crate) failures: Vec<String>,
}

/// What one program did in one case, each time.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) label: &'static str,
    #[serde(flatten)]
    pub(crate) case: Case,
    pub(crate) runs: Vec<Run>,
    pub(crate) unsupported: Option<String>,
}

/// What is shown of many measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) count: usize,
    /// Whether the machine was quiet for all that count.
    pub(crate) quiet: bool,
}

impl Summary {
    /// Of some numbers.
    fn of(mut numbers: Vec<f64>, quiet: bool) -> Option<Self> {
        numbers.sort_unstable_by(f64::total_cmp);
        Some(Self {
            median: median(&numbers)?,
            least: *numbers.first()?,
            most: *numbers.last()?,
            count: numbers.len(),
            quiet,
        })
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some((lower + upper) / 2.0)
}

impl Cell {
    /// The runs that count: those on a quiet machine, if they are half of them at least; else all, and that is said.
    fn counted(&self) -> (Vec<&Run>, bool) {
        let quiet: Vec<&Run> = self.runs.iter().filter(|run| run.quiet()).collect();
        if !quiet.is_empty() && quiet.len() * 2 >= self.runs.len() {
            (quiet, true)
        } else {
            (self.runs.iter().collect(), false)
        }
    }

    pub(crate) fn summary(&self, figure: &Figure) -> Option<Summary> {
        let (runs, quiet) = self.counted();
        Summary::of(runs.into_iter().filter_map(figure.of).collect(), quiet)
    }

    /// The medians of what client and server spent.
    pub(crate) fn cpu(&self) -> Option<(f64, f64)> {
        let (runs, quiet) = self.counted();
        let spent: Vec<(f64, f64)> = runs.into_iter().filter_map(Run::cpu).collect();
        let client = Summary::of(spent.iter().map(|(client, _)| *client).collect(), quiet)?;
        let server = Summary::of(spent.iter().map(|(_, server)| *server).collect(), quiet)?;
        Some((client.median, server.median))
    }
}

impl Results {
    pub(crate) fn cell(&self, label: &str, case: Case) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.label == label && cell.case == case)
    }

    pub(crate) fn summary(&self, label: &str, case: Case, figure: &Figure) -> Option<Summary> {
        self.cell(label, case)?.summary(figure)
    }

    /// The cases, each once, in their order.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for cell in &self.cells {
            if !cases.contains(&cell.case) {
                cases.push(cell.case);
            }
        }
        cases
    }

    /// How many measurements there were, and how many of them on a quiet machine.
    pub(crate) fn quiet(&self) -> (usize, usize) {
        let runs = || self.cells.iter().flat_map(|cell| &cell.runs);
        (runs().filter(|run| run.quiet()).count(), runs().count())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bench_peer::{Measure, Transport};

    use super::*;
    use crate::bench::plan::FIGURES;

    pub(crate) const UP: Case = Case { measure: Measure::Up, transport: Transport::TcpNoise };

    /// A cell with these speeds in Gbit/s, each with a foreign load.
    pub(crate) fn cell(label: &'static str, case: Case, speeds: &[(f64, f64)]) -> Cell {
        let run = |&(speed, foreign): &(f64, f64)| Run {
            seconds: 1.0,
            bytes: Some(speed * 1e9 / 8.0),
            client_cpu: speed / 8.0,
            server_cpu: speed / 4.0,
            foreign,
            ..Run::default()
        };
        Cell { label, case, runs: speeds.iter().map(run).collect(), unsupported: None }
    }

    pub(crate) fn results(cells: Vec<Cell>) -> Results {
        let mut labels = Vec::new();
        for cell in &cells {
            if !labels.contains(&cell.label) {
                labels.push(cell.label);
            }
        }
        Results {
            machine: "2 x Abacus (aes), Linux 9".to_owned(),
            settings: Settings {
                hybrid: false,
                workers: 2,
                seconds: 2.0,
                write: 65_536,
                idle: 1000,
                patience: 0.0,
                link: None,
            },
            rounds: 3,
            about: labels.iter().map(|label| (*label, format!("{label} 1.0"))).collect(),
            labels,
            cells,
            wide: Vec::new(),
            ciphers: vec![("AES-128-GCM, 16384 B".to_owned(), 99.5)],
            builds: Vec::new(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_busy_machine_does_not_count() {
        let cell_of = |speeds: &[(f64, f64)]| cell("x", UP, speeds).summary(&FIGURES[0]).unwrap();
        let summary = cell_of(&[(8.0, 0.0), (6.0, 0.1), (1.0, 1.5)]);
        assert_eq!((summary.median, summary.least, summary.count, summary.quiet), (7.0, 6.0, 2, true));
        // Unless it was busy most of the time: better a number with a warning than none.
        let summary = cell_of(&[(8.0, 0.0), (2.0, 1.0), (1.0, 1.5)]);
        assert_eq!((summary.median, summary.count, summary.quiet), (2.0, 3, false));
    }

    #[test]
    fn both_sides_are_charged() {
        let (client, server) = cell("x", UP, &[(8.0, 0.0)]).cpu().unwrap();
        assert!((client - 1.0).abs() < 1e-9 && (server - 2.0).abs() < 1e-9);
    }
}
