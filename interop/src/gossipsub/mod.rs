//! One node of the gossipsub suite of `libp2p/test-plans` (`gossipsub-interop/`): it obeys the script that all nodes of
//! a simulated network are given, and says on stdout, in lines of JSON, what it receives.

mod log;
mod network;
mod node;
mod params;
mod partial;
mod script;

use std::path::{Path, PathBuf};

use tokio::time::Instant;

use log::Log;
use network::Network;
use node::ScriptedNode;
use script::Script;

/// The longest script that is read, in bytes; one of 700 nodes has less than 1 MiB.
const MAX_PARAMS: u64 = 64 << 20;

/// Obeys the script of a simulated network, as the gossipsub suite wants it
///
/// This is the contract of libp2p/test-plans, gossipsub-interop: every node of the network gets the same file, and does
/// of it what is for all or for itself. `peerage-interop --params FILE` is the same. A node's number N is in the name of
/// its host, nodeN, and makes its key; it listens on TCP port 9000, and others are looked up by their names.
///
/// On stdout come lines of JSON with `time` and `msg`: "PeerID" (`id`, `node_id`) at the start, and "Received Message"
/// (`id`, `from`, `topic`) for each receipt of a message, duplicates as well, and "All parts received" (`group id`) once a
/// message that travels in parts is whole. On stderr comes what it does. It ends with the script, or with the first
/// instruction that fails.
///
/// publishPartial goes to peers of this node's choosing, whatever publishToNodeIDs say. What gossipSubParams leave out is
/// as in go-libp2p-pubsub; SlowHeartbeatWarning, Connectors, MaxPendingConnections, ConnectionTimeout,
/// DirectConnectInitialDelay and MaxIDontWantLength have nothing here that they could change.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
        peerage-interop gossipsub --params params.json\n  \
        peerage-interop gossipsub --params params.json --node 3 --hosts hosts.txt"
)]
pub(crate) struct Args {
    /// The script
    #[arg(long, value_name = "FILE")]
    params: PathBuf,
    /// Which node this is [default: what the name of this host says]
    #[arg(long, value_name = "N")]
    node: Option<u32>,
    /// Where the nodes are, this one as well, instead of what their names say: on each line a number and a multiaddr
    /// over TCP, as `3 /ip4/127.0.0.1/tcp/9003`
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
}

/// Why a node cannot do what it was told. All of it is the doing of who wrote the files, or of the network between.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// A file is not there, or larger than what is read.
    #[error("{file}: {why}")]
    File { file: String, why: String },
    /// The script is none.
    #[error(transparent)]
    Script(#[from] script::Error),
    /// Neither the host's name nor an option says which node this is.
    #[error("the name of this host, {0:?}, is not node<N>; --node says which node this is")]
    WhichNode(String),
    /// A line of the file of hosts is not a number and an address.
    #[error("hosts, line {line}: {why}")]
    Hosts { line: usize, why: String },
    /// Nobody says where a node is.
    #[error("where node {node} is: {why}")]
    Where { node: u32, why: String },
    /// An instruction came before initGossipSub, or that came twice.
    #[error("{instruction}: {why}")]
    Order { instruction: &'static str, why: &'static str },
    /// An instruction failed.
    #[error("{instruction}: {why}")]
    Failed { instruction: &'static str, why: String },
}

/// Does what the script says.
pub(crate) async fn run(args: &Args) -> Result<(), Error> {
    let began = Instant::now();
    let script = Script::parse(&read(&args.params)?)?;
    let network = match &args.hosts {
        Some(file) => Network::read(&read(file)?)?,
        None => Network::ByName,
    };
    let me = match args.node {
        Some(node) => node,
        None => network::node_of_this_host()?,
    };
    let mut node = ScriptedNode::new(me, network, Log::to_stdout(), began);
    let done = node.obey(&script.0).await;
    node.stop().await;
    done
}

fn read(file: &Path) -> Result<String, Error> {
    let wrong = |why: String| Error::File { file: file.display().to_string(), why };
    let size = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if size > MAX_PARAMS {
        return Err(wrong(format!("it has {size} bytes, and {MAX_PARAMS} are read at most")));
    }
    std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))
}
