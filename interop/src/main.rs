//! The interop suite: our node against the programs in `interop/peers`, which run on other implementations of libp2p; and
//! the benchmarks beside those in `interop/bench`.
//!
//! In the environment of an official suite, and without arguments, it is the program that this suite tests.

mod bench;
mod build;
mod child;
mod contract;
mod contract_matrix;
mod excuses;
mod foreign;
mod gossip;
mod gossipsub;
mod link;
mod matrix;
mod ours;
mod peers;
mod plan;
mod process;
mod row;
mod site;
mod streams;
mod table;
mod told;

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    sync::Arc,
    thread,
    time::Duration,
};

use clap::{Parser, Subcommand, builder::PossibleValuesParser};
use serde::Serialize;

use build::Built;
use peers::Peer;
use plan::{Direction, Filter, Key, Muxer, Security, Transport};
use row::{Results, Row};
use site::Site;

/// Peerage's interop suite.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Matrix(Matrix),
    Foreign(Foreign),
    Gossip(Gossip),
    Gossipsub(gossipsub::Args),
    Contract(Contract),
    ContractMatrix(ContractMatrix),
    Bench(bench::Args),
}

/// Tests this library against foreign peers, as dialer and as listener
///
/// For every peer and both directions, a node of this library and the foreign program meet on loopback. Over TCP: each
/// security (noise, tls) with each muxer (yamux, mplex), and each type of key (ed25519, secp256k1, ecdsa, rsa; on both
/// sides) over each security with yamux. Over WebSocket, with and without TLS around it: each security with yamux. Over
/// QUIC and WebRTC, which bring their own. They take these steps:
///
///   dial        connect, and prove who they are
///   ping        three round trips, by the dialer
///   identify    the dialer learns the listener's agent, protocols and addresses
///   identified  the listener learns the dialer's agent and protocols
///   echo-64k    64 KiB there and back, writing and reading at once, half-close, compared
///   echo-4m     the same with 4 MiB, which is more than any window
///   perf        10 MiB up, half-close, 10 MiB down
///   many        100 echoes of 1 KiB at once
///   callback    the listener opens a stream to the dialer, on the same connection
///   ping-back   the listener pings the dialer
///   push        the dialer speaks one protocol more, and identify pushes that to the listener
///   pushed      the other way round
///   end         both end in good order, and none of our actors has panicked
///
/// Keys other than Ed25519 are not tried in bulk, and mplex, which has no flow control, carries no more than 64 KiB.
///
/// For wss, a certificate authority is made for the run.
///
/// A step that also fails with another foreign peer in our place may be excused; that is tried again in each run. The
/// exit status is 0 only if everything passed but what is excused.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
        peerage-interop matrix                      everything, building the peers where needed\n  \
        peerage-interop matrix --peer go --security tls --key rsa\n  \
        peerage-interop matrix --transport quic-v1,wss\n  \
        peerage-interop matrix --peer js --repeat 20 --no-build\n\n\
        The peers are described in interop/peers/README.md; each can be run by hand."
)]
struct Matrix {
    /// The foreign peers; `rust-signed` is rust with a signed record of its addresses in identify
    #[arg(
        long = "peer", value_delimiter = ',', value_name = "NAMES",
        default_value = "go,js,chromium,py,rust,rust-signed",
        value_parser = PossibleValuesParser::new(peers::ALL.iter().map(|peer| peer.name)),
    )]
    peers: Vec<String>,
    #[command(flatten)]
    only: Only,
    /// Only rows in which this side dials
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = words(Direction::WORDS))]
    direction: Vec<String>,
    /// Write all results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Do everything so often; a step passes if it passed each time, and shows its longest time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Do so many rows at once [default: one more than there are processors, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
    #[command(flatten)]
    programs: Programs,
}

/// Tests two foreign peers against each other, to see whose failure it is
#[derive(clap::Args)]
struct Foreign {
    /// Who dials
    #[arg(value_parser = PossibleValuesParser::new(peers::ALL.iter().map(|peer| peer.name)))]
    dialer: String,
    /// Who listens
    #[arg(value_parser = PossibleValuesParser::new(peers::ALL.iter().map(|peer| peer.name)))]
    listener: String,
    #[command(flatten)]
    only: Only,
    /// Write all results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    programs: Programs,
}

/// Tests gossipsub against foreign peers, in pairs and in one mesh
///
/// A node of this library and a foreign program meet on loopback, over TCP, noise and yamux, in both directions; with
/// messages that are signed (strict), that only name their authors (named) and that have none (anonymous), where the
/// foreign library has such. They take these steps:
///
///   dial           connect
///   version        each opens a stream to the other one, and says what was agreed
///   subscribe      each wants two topics, and knows that the other one does
///   mesh           each has the other one in the meshes of both
///   ours-1k        we publish 1 KiB, and they get it as it was sent, by who wrote it
///   theirs-1k      the other way round
///   ours-512k      the same with 512 KiB
///   theirs-512k    the other way round
///   burst          each publishes 50 messages of 1 KiB at once
///   unsubscribe    they leave a topic; we see it, and have them in no mesh
///   theirs-fanout  they publish to it all the same
///   leave          we leave the other topic; they see it, and have us in no mesh
///   ours-fanout    we publish to it all the same
///   again          they want the first topic again: after the backoff both mesh, and both publish
///   end            nothing was delivered twice, both end in good order, and none of our actors has panicked
///
/// In parts, of messages in 16 pieces, with go, whose library alone has that; messages go whole to nobody who requests parts:
///
///   ours           we have a message of 64 KiB, and they ask for its pieces
///   theirs         the other way round
///   halves         each has every other piece, and both get the rest
///   ours-3m        we have one of 3 MiB, more than goes into one RPC
///   theirs-3m      the other way round
///   whole          what is published whole comes to nobody who requests parts; who only sends them gets ours, and gives theirs
///   once           no piece travelled twice
///
/// In a crowd, five of one kind dial our node, whose mesh takes two of them:
///
///   pruned         those with no place in our mesh know it
///   ours           we publish; who is not in the mesh asks for what it is told of
///   theirs         those in the mesh publish, and all others get it by us
///   gossiped       the others publish; we ask for what we are told of, and pass it on
///
/// Besides, there is one mesh for signed messages, and one for anonymous ones, of three nodes of each kind:
///
///   start, dial    each node dials three others, so that it has six neighbours
///   mesh           each has some of them in its mesh
///   all-1k         every node publishes, and all others get everything
///   each-512k      one of each kind publishes
///   leave          one of each kind leaves; the others see it, and publish among themselves
///   once           nothing came twice to anybody
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Gossip {
    /// The foreign peers
    #[arg(
        long = "peer", value_delimiter = ',', value_name = "NAMES",
        default_value = "go,js,py,rust", value_parser = words(gossip::PEERS),
    )]
    peers: Vec<String>,
    /// Only rows of these kinds
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = words(gossip::Kind::WORDS))]
    rows: Vec<String>,
    /// Only rows with such messages
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = words(gossip::Signing::WORDS))]
    signing: Vec<String>,
    /// Only rows in which this side dials
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = words(Direction::WORDS))]
    direction: Vec<String>,
    /// Write all results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Do so many rows at once [default: one more than there are processors, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
    #[command(flatten)]
    programs: Programs,
}

/// Does what the environment asks for, as the official suites want it
///
/// Without arguments this program does the same, if the environment is that of a suite. It then obeys the contract of
/// libp2p/unified-testing, transport and perf (TRANSPORT, IS_DIALER, REDIS_ADDR, TEST_KEY, ...), or the older one of
/// libp2p/test-plans (transport, is_dialer, redis_addr, ...), if TRANSPORT is not set.
#[derive(clap::Args)]
struct Contract {
    /// Which suite it is [default: perf if the environment says what to measure, or if Redis is at perf-redis]
    #[arg(long, value_name = "NAME", value_parser = contract::Suite::from_str)]
    suite: Option<contract::Suite>,
}

/// Tests that contract against foreign programs which obey it too
///
/// As the official suites do, but without containers: a Redis server on loopback, and for each test two programs that
/// meet there. Both contracts of the transport suite, in both directions, and perf.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
        peerage-interop contract-matrix\n  \
        peerage-interop contract-matrix --peer go,js --transport ws,wss --contract unified")]
struct ContractMatrix {
    /// The foreign programs; `peerage` is this one at both ends [default: all]
    #[arg(long = "peer", value_delimiter = ',', value_name = "NAMES", value_parser = words(contract_matrix::PROGRAMS))]
    peers: Vec<String>,
    /// Only these contracts
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = words(contract_matrix::CONTRACTS))]
    contract: Vec<String>,
    /// Only these transports
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = words(contract_matrix::TRANSPORTS))]
    transport: Vec<String>,
    /// Write all results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Do so many tests at once [default: one more than there are processors, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
    #[command(flatten)]
    programs: Programs,
}

/// What of all that could be spoken.
#[derive(clap::Args)]
struct Only {
    /// Only rows over these transports
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = words(Transport::WORDS))]
    transport: Vec<String>,
    /// Only rows over these security protocols
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = words(Security::WORDS))]
    security: Vec<String>,
    /// Only rows over these muxers
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = words(Muxer::WORDS))]
    muxer: Vec<String>,
    /// Only rows with keys of these types
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = words(Key::WORDS))]
    key: Vec<String>,
}

/// Where the foreign peers are.
#[derive(clap::Args)]
struct Programs {
    /// Take the peers as they are, without looking whether they have to be built
    #[arg(long)]
    no_build: bool,
    /// Where the peers are
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/peers"), hide_default_value = true)]
    peers_dir: PathBuf,
}

fn words(words: &'static [&'static str]) -> PossibleValuesParser {
    PossibleValuesParser::new(words)
}

/// What the words mean. The parser has seen to it that all are known.
fn all<T: FromStr>(words: &[String]) -> Vec<T> {
    words.iter().filter_map(|word| word.parse().ok()).collect()
}

impl Only {
    fn filter(&self, directions: &[String]) -> Filter {
        Filter {
            directions: all(directions),
            transports: all(&self.transport),
            securities: all(&self.security),
            muxers: all(&self.muxer),
            keys: all(&self.key),
        }
    }
}

/// More than the deadline of a test of the contract.
const CONTRACT_LIMIT: Duration = Duration::from_secs(120);
/// More than the deadlines of all steps of one row add up to. Who is later, hangs where no deadline reaches.
const ROW_LIMIT: Duration = Duration::from_secs(600);
/// The most rows at once, unless told otherwise.
const MAX_JOBS: usize = 8;

fn main() -> ExitCode {
    let bare = std::env::args_os().len() == 1;
    let command = if bare && contract::is_asked_for() {
        Command::Contract(Contract { suite: None })
    } else {
        Args::parse_from(with_command(std::env::args_os())).command
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let passed = runtime.block_on(async {
        match &command {
            Command::Matrix(args) => matrix(args).await,
            Command::Foreign(args) => foreign(args).await,
            Command::Gossip(args) => gossip(args).await,
            Command::Gossipsub(args) => {
                gossipsub::run(args).await.map_err(|error| error.to_string())?;
                Ok(true)
            }
            Command::Contract(args) => {
                let said = contract::run(args.suite).await?;
                print(&said)?;
                Ok(true)
            }
            Command::ContractMatrix(args) => contract_matrix(args).await,
            Command::Bench(args) => bench::bench(args).await,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

/// The gossipsub suite knows one option and no command.
fn with_command(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.collect();
    if args.get(1).is_some_and(|first| first == "--params") {
        args.insert(1, "gossipsub".into());
    }
    args
}

fn fail(error: &str) -> ExitCode {
    eprintln!("peerage-interop: {error}");
    ExitCode::FAILURE
}

async fn matrix(args: &Matrix) -> Result<bool, String> {
    let chosen = choose(&args.peers);
    let filter = args.only.filter(&args.direction);
    let plan = plan::rows(&chosen, &filter);
    if plan.is_empty() {
        return Err("there is no such row".to_owned());
    }
    // What an excuse is shown with, has to be there as well.
    let mut wanted = chosen.clone();
    wanted.extend(excuses::stand_ins(&chosen));
    let builds = build(&wanted, &args.programs).await?;
    if filter.transports.is_empty() {
        for (peer, transport, why) in
            plan::BY_CHANCE.iter().filter(|(name, ..)| chosen.iter().any(|peer| peer.name == *name))
        {
            eprintln!("left out unless --transport names it: {peer} over {transport}, since {why}");
        }
    }
    let jobs = jobs(args.jobs);
    let rows = u32::try_from(plan.len()).unwrap_or(u32::MAX).saturating_mul(args.repeat);
    watch(ROW_LIMIT.saturating_mul(rows));
    let site = Arc::new(Site::new(&args.programs.peers_dir)?);
    let results = matrix::run(&plan, &site, args.repeat, jobs, builds).await;
    show(&results)?;
    write_json(args.json.as_deref(), &results)?;
    Ok(results.ok)
}

async fn gossip(args: &Gossip) -> Result<bool, String> {
    let chosen = choose(&args.peers);
    let filter = gossip::Filter {
        directions: all(&args.direction),
        signings: all(&args.signing),
        kinds: all(&args.rows),
    };
    build(&chosen, &args.programs).await?;
    watch(ROW_LIMIT.saturating_mul(gossip::MOST_ROWS));
    let site = Arc::new(Site::new(&args.programs.peers_dir)?);
    let results = gossip::run(&chosen, &filter, &site, jobs(args.jobs)).await;
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    print(&gossip::render(&results, colour))?;
    write_json(args.json.as_deref(), &results)?;
    Ok(results.ok)
}

async fn contract_matrix(args: &ContractMatrix) -> Result<bool, String> {
    let filter = contract_matrix::Filter {
        peers: args.peers.clone(),
        contracts: args.contract.clone(),
        transports: args.transport.clone(),
    };
    build(&contract_matrix::foreign(&filter), &args.programs).await?;
    watch(CONTRACT_LIMIT.saturating_mul(contract_matrix::MOST_TESTS));
    let results = contract_matrix::run(&filter, &args.programs.peers_dir, jobs(args.jobs)).await?;
    print(&contract_matrix::render(&results))?;
    write_json(args.json.as_deref(), &results)?;
    Ok(results.ok)
}

fn jobs(asked: Option<u32>) -> usize {
    match asked {
        Some(jobs) => usize::try_from(jobs).unwrap_or(1),
        None => thread::available_parallelism().map_or(2, |cores| MAX_JOBS.min(cores.get() + 1)),
    }
}

fn write_json(file: Option<&Path>, results: &impl Serialize) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    let json = serde_json::to_vec_pretty(results).map_err(|error| error.to_string())?;
    std::fs::write(file, json).map_err(|error| format!("{}: {error}", file.display()))
}

fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("stdout: {error}"))
}

async fn foreign(args: &Foreign) -> Result<bool, String> {
    let chosen = choose(&[args.dialer.clone(), args.listener.clone()]);
    let (Some(dialer), Some(listener)) = (chosen.first(), chosen.last()) else {
        return Err("there are no such peers".to_owned());
    };
    if !listener.listens() {
        return Err(format!("{} only dials", listener.name));
    }
    build(&chosen, &args.programs).await?;
    let plan = plan::rows(&[*listener], &args.only.filter(&[Direction::WeDial.to_string()]));
    let site = Site::new(&args.programs.peers_dir)?;
    let mut results = Results { repeat: 1, ..Results::default() };
    for (_, _, setup) in plan.into_iter().filter(|(_, _, setup)| dialer.takes(*setup)) {
        let mut row = foreign::pair(dialer, listener, &site, setup, setup.steps()).await;
        row.dialer = dialer.name;
        results.seconds += row.cells.iter().map(|cell| cell.ms).sum::<f64>() / 1000.0;
        results.rows.push(row);
    }
    results.ok = !results.rows.is_empty() && results.rows.iter().all(Row::ok);
    show(&results)?;
    write_json(args.json.as_deref(), &results)?;
    Ok(results.ok)
}

/// The peers of these names, each once.
fn choose(names: &[String]) -> Vec<&'static Peer> {
    let mut chosen: Vec<&Peer> = Vec::new();
    for peer in names.iter().filter_map(|name| peers::find(name)) {
        if !chosen.contains(&peer) {
            chosen.push(peer);
        }
    }
    chosen
}

async fn build(chosen: &[&'static Peer], programs: &Programs) -> Result<Vec<Built>, String> {
    if programs.no_build { Ok(Vec::new()) } else { build::all(chosen, &programs.peers_dir).await }
}

fn show(results: &Results) -> Result<(), String> {
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    print(&table::render(results, colour))
}

/// Ends the process should anything hang in a way that no timer sees.
fn watch(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("peerage-interop: still not done after {} s; giving up", limit.as_secs());
        std::process::exit(3);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Matrix, clap::Error> {
        match Args::try_parse_from(["peerage-interop", "matrix"].iter().chain(args))?.command {
            Command::Matrix(matrix) => Ok(matrix),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn arguments() {
        assert_eq!(parse(&[]).unwrap().peers, ["go", "js", "chromium", "py", "rust", "rust-signed"]);
        let args = parse(&["--peer", "js,go", "--repeat", "3", "--json", "a.json", "--no-build"]).unwrap();
        assert_eq!((args.repeat, args.programs.no_build), (3, true));
        assert_eq!(args.peers, ["js", "go"]);
        assert_eq!(args.json, Some("a.json".into()));
        for wrong in
            [&["--peer", "nim"], &["--repeat", "0"], &["--peer", ""], &["--key", "dsa"], &["--jobs", "0"]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn arguments_of_the_benchmarks() {
        let parse = |args: &[&str]| Args::try_parse_from(["peerage-interop", "bench"].iter().chain(args));
        for right in [&["--quick"][..], &["--against", "none"], &["--only", "up,echo", "--transport", "quic"]]
        {
            assert!(parse(right).is_ok(), "{right:?}");
        }
        for wrong in [["--against", "nim"], ["--only", "speed"], ["--rounds", "0"], ["--transport", "udp"]] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn filters_reach_the_plan() {
        let args = parse(&["--peer", "go", "--security", "tls", "--muxer", "yamux", "--key", "rsa"]).unwrap();
        assert_eq!(plan::rows(&choose(&args.peers), &args.only.filter(&args.direction)).len(), 2);
        let args = parse(&["--peer", "go", "--direction", "they-dial"]).unwrap();
        assert_eq!(plan::rows(&choose(&args.peers), &args.only.filter(&args.direction)).len(), 18);
    }

    #[test]
    fn the_default_is_every_peer() {
        let names: Vec<&str> = peers::ALL.iter().map(|peer| peer.name).collect();
        assert_eq!(parse(&[]).unwrap().peers, names);
    }
}
