//! How fast this library is, beside others and beside what the machine can do.

#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

mod echo;
mod machine;
mod peers;
mod plan;
mod results;
mod run;
mod svg;
mod table;

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bench_peer::{Measure, Transport};
use clap::builder::PossibleValuesParser;

use crate::link::{Link, Shape};
use peers::{OTHERS, OURS, Peer, RAW};
use plan::Case;
use results::{Cell, Results};
use run::{Outcome, Settings};

/// Measures this library beside others, and beside what the machine can do
///
/// Each measurement takes two fresh processes on loopback, a listener and a client; the libraries take turns, round by
/// round, and what is shown is the median, with the least and the most. Before each, the machine has to be idle, which is
/// waited for within bounds; what other programs use meanwhile is recorded, and measurements beside more than 0.15
/// processors of that do not count. The measures are:
///
///   up, down       one stream, as fast as it goes
///   ping           round trips of 32 bytes on one stream, one after another, where the library is soonest
///   ping-apart     the same from a thread of the program, if the library has threads of its own
///   connect        connections, one after another, each with a first ping
///   connect-32     connections by 32 nodes at once
///   requests       65 bytes there and back, each on a new stream, one after another
///   requests-64    the same, 64 at any time
///   first-contact  connections, each by a new node with a first ping; only over a link
///   early          requests to a known peer that leave ahead of the handshake; only over a link and QUIC
///   idle           memory of the listener for each connection that is only held
///   gossip-*       signed messages from one node to another (pair, pair-64k), and to nineteen with ten peers in each mesh
///                  (mesh, mesh-64k; paced: 50 a second); memory of topics and peers that only are there (topics, peers);
///                  all nodes in one process, over the first of the transports
///   echo           size and build time of the same program; only where it is asked for
///
/// In the last column of the table is the limit: the same over TCP alone, over rustls, or over quinn. The exit status is 0
/// if nothing has failed; how fast anything is does not matter for it.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
        peerage-interop bench\n  \
        peerage-interop bench --link rtt=60ms,loss=1%\n  \
        peerage-interop bench --only up,down --transport tcp-noise --rounds 9\n  \
        peerage-interop bench --against rust,litep2p,js,py,go --json all.json --svg docs/bench.svg\n\n\
        The programs are described in interop/bench/README.md; each can be run by hand."
)]
pub(crate) struct Args {
    /// With whom to compare; `none` for nobody
    #[arg(
        long, value_delimiter = ',', value_name = "NAMES", default_value = "rust,litep2p",
        value_parser = PossibleValuesParser::new(OTHERS.iter().map(|peer| peer.name).chain(["none"])),
    )]
    against: Vec<String>,
    /// Only these measures
    #[arg(
        long, value_delimiter = ',', value_name = "MEASURES",
        value_parser = PossibleValuesParser::new(Measure::WORDS.iter().copied().chain(["echo"])),
    )]
    only: Vec<String>,
    /// Over what
    #[arg(
        long, value_delimiter = ',', value_name = "TRANSPORTS",
        default_values = plan::TRANSPORTS, value_parser = PossibleValuesParser::new(Transport::WORDS),
    )]
    transport: Vec<String>,
    /// Over a long link in network namespaces, for which it takes root; may say which: rtt=60ms,rate=1gbit,loss=0%,queue=60ms
    #[arg(long, value_name = "LINK", num_args = 0..=1, default_missing_value = "")]
    link: Option<Shape>,
    /// Once, and short: to see that everything works
    #[arg(long)]
    quick: bool,
    /// How often each is measured [default: 5; with --quick: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// How long each measurement takes [default: 2; with --quick: 0.3]
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Let our node agree on keys as it does by default, with ML-KEM beside X25519; the others have X25519 alone
    #[arg(long)]
    hybrid: bool,
    /// How many worker threads each process has
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// How many KiB are handed to a stream at once
    #[arg(long, value_name = "KIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    write: u32,
    /// How many seconds to wait for an idle machine, each time [default: 20; with --quick: 0]
    #[arg(long, value_name = "S")]
    patience: Option<f64>,
    /// Write all that was measured to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw a chart
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Take the programs as they are, without looking whether they have to be built
    #[arg(long)]
    no_build: bool,
    /// Where the programs are
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/bench"), hide_default_value = true)]
    bench_dir: PathBuf,
}

/// With `--quick`, and without.
const QUICK_SECONDS: f64 = 0.3;
const SECONDS: f64 = 2.0;
const QUICK_IDLE: usize = 40;
const IDLE: usize = 1000;
const ROUNDS: u32 = 5;
const PATIENCE: f64 = 20.0;
/// What one system call may carry, for the limit of the machine.
const WIDE: usize = 1 << 20;

impl Args {
    fn settings(&self) -> Result<Settings, String> {
        let seconds = self.seconds.unwrap_or(if self.quick { QUICK_SECONDS } else { SECONDS });
        let patience = self.patience.unwrap_or(if self.quick { 0.0 } else { PATIENCE });
        if !(0.01..=600.0).contains(&seconds) || !(0.0..=3600.0).contains(&patience) {
            return Err("that is too long or too short".to_owned());
        }
        let to_usize = |number: u32| usize::try_from(number).map_err(|error| error.to_string());
        Ok(Settings {
            hybrid: self.hybrid,
            workers: to_usize(self.workers)?,
            seconds,
            write: to_usize(self.write)? * 1024,
            idle: if self.quick { QUICK_IDLE } else { IDLE },
            patience,
            link: self.link.clone(),
        })
    }

    /// Ours, the others, and the limit.
    fn peers(&self) -> Vec<&'static Peer> {
        let mut peers = vec![&OURS];
        for other in self.against.iter().filter_map(|name| peers::find(name)) {
            if !peers.contains(&other) {
                peers.push(other);
            }
        }
        peers.push(&RAW);
        peers
    }

    fn asks_for(&self, what: &str) -> bool {
        self.only.iter().any(|word| word == what)
    }

    fn cases(&self) -> Vec<Case> {
        if !self.only.is_empty() && self.only.iter().all(|word| word == "echo") {
            return Vec::new();
        }
        plan::cases(&self.only, &self.transport, self.link.is_some())
    }
}

/// Measures, and shows it; whether nothing has failed.
pub(crate) async fn bench(args: &Args) -> Result<bool, String> {
    let peers = args.peers();
    if !args.no_build && !args.cases().is_empty() {
        build(&peers, &args.bench_dir).await?;
    }
    let mut results = Results {
        machine: machine::describe(),
        settings: args.settings()?,
        rounds: args.rounds.unwrap_or(if args.quick { 1 } else { ROUNDS }),
        about: BTreeMap::new(),
        labels: peers.iter().map(|peer| peer.label).collect(),
        cells: Vec::new(),
        wide: Vec::new(),
        ciphers: Vec::new(),
        builds: Vec::new(),
        failures: Vec::new(),
    };
    let cases = args.cases();
    let link = match &args.link {
        Some(shape) => Some(Link::start(shape).await?),
        None => None,
    };
    for case in &cases {
        rounds(&mut results, &peers, &args.bench_dir, *case, link.as_ref()).await;
    }
    if !cases.is_empty() && link.is_none() {
        limits(&mut results, &args.bench_dir, &cases).await;
    }
    if args.asks_for("echo") {
        results.builds = echo::measure(&args.bench_dir).await?;
    }
    show(&results)?;
    if let Some(file) = &args.json {
        write(file, &serde_json::to_vec_pretty(&results).map_err(|error| error.to_string())?)?;
    }
    if let Some(file) = &args.svg {
        write(file, svg::draw(&results).as_bytes())?;
    }
    Ok(results.failures.is_empty())
}

async fn build(peers: &[&'static Peer], dir: &Path) -> Result<(), String> {
    let missing: Vec<String> = peers.iter().filter_map(|peer| peer.missing()).collect();
    if !missing.is_empty() {
        return Err(missing.join("\n"));
    }
    for peer in peers {
        crate::build::run(peer.label, &peer.script(dir, "build"), peer.install).await?;
    }
    Ok(())
}

/// Everybody in turn, round by round: what changes on the machine meanwhile changes for all.
async fn rounds(results: &mut Results, peers: &[&'static Peer], dir: &Path, case: Case, link: Option<&Link>) {
    let new = |peer: &&'static Peer| Cell { label: peer.label, case, runs: Vec::new(), unsupported: None };
    let mut cells: Vec<Cell> = peers.iter().map(new).collect();
    for round in 0..results.rounds {
        for (peer, cell) in peers.iter().zip(&mut cells) {
            if !peer.takes(case.measure) || cell.unsupported.is_some() {
                continue;
            }
            match run::once(peer, dir, case, &results.settings, link).await {
                Ok(Outcome::Measured { run, about }) => {
                    results.about.insert(peer.label, about);
                    cell.runs.push(run);
                }
                Ok(Outcome::Unsupported(what)) => cell.unsupported = Some(what),
                Err(why) => {
                    let case = format!("{} over {}", case.measure.word(), case.transport.word());
                    results.failures.push(format!("{case}, {}, round {}: {why}", peer.label, round + 1));
                }
            }
        }
    }
    progress(&cells);
    results.cells.append(&mut cells);
}

/// A line on stderr for each case, while it goes on.
fn progress(cells: &[Cell]) {
    let Some(case) = cells.first().map(|cell| cell.case) else { return };
    let mut line = format!("{:16}{:10}", case.measure.word(), case.transport.word());
    for figure in plan::FIGURES.iter().filter(|figure| figure.measure == case.measure) {
        for cell in cells {
            let number = cell.summary(figure).map_or_else(
                || "-".to_owned(),
                |summary| format!("{:.*}", table::digits(summary.median), summary.median),
            );
            line += &format!("  {} {number}", cell.label);
        }
        line += &format!(" {}", figure.unit);
    }
    eprintln!("{line}");
}

/// What does not depend on the transport: TCP as wide as it goes, and the ciphers.
async fn limits(results: &mut Results, dir: &Path, cases: &[Case]) {
    let settings = Settings { write: WIDE, ..results.settings.clone() };
    for measure in [Measure::Up, Measure::Down] {
        if !cases.iter().any(|case| case.measure == measure) {
            continue;
        }
        let case = Case { measure, transport: Transport::TcpNoise };
        let mut cell = Cell { label: RAW.label, case, runs: Vec::new(), unsupported: None };
        for _ in 0..results.rounds {
            match run::once(&RAW, dir, case, &settings, None).await {
                Ok(Outcome::Measured { run, .. }) => cell.runs.push(run),
                Ok(Outcome::Unsupported(_)) => {}
                Err(why) => results.failures.push(format!("the limit of TCP: {why}")),
            }
        }
        results.wide.push(cell);
    }
    match run::ciphers(&RAW, dir).await {
        Ok(ciphers) => results.ciphers = ciphers,
        Err(why) => results.failures.push(format!("the ciphers: {why}")),
    }
}

fn show(results: &Results) -> Result<(), String> {
    let mut out = io::stdout().lock();
    let mut text = table::render(results);
    if let Some(limits) = table::limits(results) {
        text.push_str(&limits);
        text.push('\n');
    }
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("stdout: {error}"))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()))
}
