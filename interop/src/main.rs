//! The interop suite: our node against the programs in `interop/peers`, which run on other implementations of libp2p.

mod build;
mod matrix;
mod ours;
mod peers;
mod process;
mod row;
mod streams;
mod table;
mod told;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{Parser, Subcommand, builder::PossibleValuesParser};

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
}

/// Tests this library against foreign peers, as dialer and as listener
///
/// For every peer and both directions: a node of this library and the foreign program meet on loopback, over TCP, noise
/// and yamux, and take these steps:
///
///   dial        connect, and prove who they are
///   ping        three round trips, by the dialer
///   identify    the dialer learns the listener's agent, protocols and addresses
///   identified  the listener learns the dialer's agent and protocols
///   echo-64k    64 KiB there and back, writing and reading at once, half-close, compared
///   echo-4m     the same with 4 MiB, which is more than any window
///   callback    the listener opens a stream to the dialer, on the same connection
///   ping-back   the listener pings the dialer (only where the listener is ours)
///   end         both end in good order, and none of our actors has panicked
///
/// The exit status is 0 only if all of them passed for every peer.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
        peerage-interop matrix                      everything, building the peers where needed\n  \
        peerage-interop matrix --peers go,rust      only those two\n  \
        peerage-interop matrix --peers js --repeat 20 --no-build\n\n\
        The peers are described in interop/peers/README.md; each can be run by hand."
)]
struct Matrix {
    /// The foreign peers; `rust-signed` is rust with a signed record of its addresses in identify
    #[arg(
        long, value_delimiter = ',', value_name = "NAMES",
        default_value = "go,js,py,rust,rust-signed",
        value_parser = PossibleValuesParser::new(peers::ALL.iter().map(|peer| peer.name)),
    )]
    peers: Vec<String>,
    /// Write all results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Do everything so often; a step passes if it passed each time, and shows its longest time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Take the peers as they are, without looking whether they have to be built
    #[arg(long)]
    no_build: bool,
    /// Where the peers are
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/peers"), hide_default_value = true)]
    peers_dir: PathBuf,
}

/// More than the deadlines of all steps of one row add up to. Who is later, hangs where no deadline reaches.
const ROW_LIMIT: Duration = Duration::from_secs(400);

fn main() -> ExitCode {
    let Command::Matrix(args) = Args::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let passed = runtime.block_on(run(&args));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("peerage-interop: {error}");
    ExitCode::FAILURE
}

async fn run(args: &Matrix) -> Result<bool, String> {
    let mut chosen: Vec<&peers::Peer> = Vec::new();
    for peer in args.peers.iter().filter_map(|name| peers::find(name)) {
        if !chosen.iter().any(|other| other.name == peer.name) {
            chosen.push(peer);
        }
    }
    let mut builds = Vec::new();
    if !args.no_build {
        builds = build::all(&chosen, &args.peers_dir).await?;
    }
    let rows = u32::try_from(chosen.len()).unwrap_or(u32::MAX).saturating_mul(2).saturating_mul(args.repeat);
    watch(ROW_LIMIT.saturating_mul(rows));
    let results = matrix::run(&chosen, &args.peers_dir, args.repeat, builds).await;

    let mut out = io::stdout().lock();
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = table::render(&results, colour);
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("stdout: {error}"))?;
    if let Some(file) = &args.json {
        let json = serde_json::to_vec_pretty(&results).map_err(|error| error.to_string())?;
        std::fs::write(file, json).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(results.ok)
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
        let Command::Matrix(matrix) =
            Args::try_parse_from(["peerage-interop", "matrix"].iter().chain(args))?.command;
        Ok(matrix)
    }

    #[test]
    fn arguments() {
        assert_eq!(parse(&[]).unwrap().peers, ["go", "js", "py", "rust", "rust-signed"]);
        let args = parse(&["--peers", "js,go", "--repeat", "3", "--json", "a.json", "--no-build"]).unwrap();
        assert_eq!((args.peers, args.repeat, args.no_build), (vec!["js".into(), "go".into()], 3, true));
        assert_eq!(args.json, Some("a.json".into()));
        for wrong in [&["--peers", "nim"], &["--repeat", "0"], &["--peers", ""]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_default_is_every_peer() {
        let names: Vec<&str> = peers::ALL.iter().map(|peer| peer.name).collect();
        assert_eq!(parse(&[]).unwrap().peers, names);
    }
}
