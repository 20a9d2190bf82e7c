//! Transfers between nodes, and with peers that do it badly: in one paused runtime, over memory transport.

mod arrivals;
mod hostile;
mod limits;
mod slow;

use std::{fs, pin::pin};

use futures::poll;

use peerage::{Keypair, Multiaddr, transport::memory::Network};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    disk::{PIECE, Scratch, sha256_of},
    name::Name,
    *,
};

/// Runs a test in a paused runtime, with one thread that may block; it fails if virtual time runs past an hour.
fn run(test: impl Future<Output = ()> + 'static) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).max_blocking_threads(1);
    let runtime = runtime.build_local(Default::default());
    let limit = Duration::from_secs(3600);
    let test = async move { timeout(limit, test).await.expect("the test hangs") };
    runtime.expect("a runtime").block_on(test);
}

/// A participant.
struct Side {
    node: Node,
    files: Files,
    scratch: Scratch,
}

impl Side {
    async fn new(network: &Network, seed: u8, test: &str) -> Self {
        Self::with(network, seed, test, |_| {}).await
    }

    async fn with(network: &Network, seed: u8, test: &str, change: impl FnOnce(&mut Config)) -> Self {
        let scratch = Scratch::new(&format!("{test}-{seed}"));
        let node = node(network, seed).await;
        let mut config = Config::new(scratch.folder());
        change(&mut config);
        let files = Files::start(&node, config).unwrap();
        Self { node, files, scratch }
    }

    async fn happened(&mut self) -> Happened {
        self.happened_while(|_| true).await
    }

    async fn happened_while(&mut self, here: impl Fn(PeerId) -> bool) -> Happened {
        loop {
            let event = self.files.next().await;
            if let Some(happened) = self.files.handle(event, &here) {
                return happened;
            }
        }
    }

    async fn asked(&mut self) -> Transfer {
        match self.happened().await {
            Happened::Asked(transfer) => transfer,
            other => panic!("{other:?}"),
        }
    }

    async fn failed(&mut self) -> String {
        match self.happened().await {
            Happened::Failed { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    async fn done(&mut self) -> (Transfer, Option<PathBuf>) {
        match self.happened().await {
            Happened::Done { transfer, path } => (transfer, path),
            other => panic!("{other:?}"),
        }
    }

    async fn turned_away(&mut self) -> String {
        match self.happened().await {
            Happened::TurnedAway { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }
}

async fn node(network: &Network, seed: u8) -> Node {
    let builder =
        Node::builder(Keypair::from_ed25519_seed([seed; 32])).in_thread().transport(network.transport());
    builder.listen("/memory/0").unwrap().start().await.unwrap()
}

fn address(node: &Node) -> Multiaddr {
    node.addresses().swap_remove(0)
}

/// Two who are connected.
async fn pair(test: &str) -> (Side, Side) {
    let network = Network::new();
    let (ada, bob) = (Side::new(&network, 1, test).await, Side::new(&network, 2, test).await);
    bob.node.connect(address(&ada.node)).await.unwrap();
    (ada, bob)
}

/// Somebody who receives as they should, and a node that offers what a test wants.
async fn with_raw(test: &str, change: impl FnOnce(&mut Config)) -> (Side, Node) {
    let network = Network::new();
    let ada = Side::with(&network, 1, test, change).await;
    let raw = node(&network, 2).await;
    raw.connect(address(&ada.node)).await.unwrap();
    (ada, raw)
}

/// A disk that does nothing until this is dropped.
struct StuckDisk(#[allow(dead_code, reason = "it is dropped")] std::sync::mpsc::Sender<()>);

impl StuckDisk {
    fn new() -> Self {
        let (held, until) = std::sync::mpsc::channel();
        // The thread is the only one that may block.
        task::spawn_blocking(move || until.recv());
        Self(held)
    }
}

/// Lets everybody else do what they can do without the disk, and without time: `work` cannot be done by that.
async fn cannot_be_done<T>(mut work: std::pin::Pin<&mut impl Future<Output = T>>) {
    for _ in 0..200 {
        assert!(poll!(work.as_mut()).is_pending());
        task::yield_now().await;
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn offer(name: &str, bytes: &[u8]) -> Offer {
    Offer { name: Name::new(name).unwrap(), size: bytes.len() as u64, sha256: sha256_of(bytes) }
}

/// Opens a stream and offers something on it.
async fn offering(from: &Node, to: &Side, message: &[u8]) -> Stream {
    let mut stream = from.open(to.node.peer_id(), PROTOCOL.as_str()).await.unwrap();
    wire::write(&mut stream, message).await.unwrap();
    stream
}

/// Whether a stream may be opened that offers nothing yet.
async fn stays_open(from: &Node, to: &Side) -> bool {
    waiting(from, to).await.is_some()
}

/// A stream that offers nothing yet, unless it is refused at once.
async fn waiting(from: &Node, to: &Side) -> Option<Stream> {
    let mut stream = from.open(to.node.peer_id(), PROTOCOL.as_str()).await.ok()?;
    // The beginning of an offer.
    stream.write_all(&[100]).await.ok()?;
    // In virtual time: nothing else is left to happen.
    let read = timeout(Duration::from_millis(1), stream.read(&mut [0])).await;
    read.is_err().then_some(stream)
}

async fn reply(stream: &mut Stream) -> Reply {
    wire::read_reply(stream).await.unwrap()
}
