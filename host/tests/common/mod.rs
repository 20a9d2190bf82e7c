//! Nodes inside one paused runtime, over memory transport: virtual time, no threads, no sockets.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod bombs;
pub(crate) mod pki;
pub(crate) mod puppet;
pub(crate) mod raw;
pub(crate) mod way;

use std::time::Duration;

use peerage_core::{Keypair, Multiaddr, PeerId};
use peerage_host::{Builder, Event, Events, Node, Stream, Usage};
use peerage_transport::memory::Network;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Runs a test in a paused runtime; it fails if virtual time runs past an hour.
pub(crate) fn run<T: 'static>(test: impl Future<Output = T> + 'static) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build_local(Default::default());
    let limit = Duration::from_secs(3600);
    let test = async move { tokio::time::timeout(limit, test).await.expect("the test hangs") };
    let runtime = runtime.expect("a runtime");
    let test = runtime.spawn_local(test);
    runtime.block_on(test).unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

pub(crate) fn keypair(seed: u8) -> Keypair {
    Keypair::from_ed25519_seed([seed; 32])
}

pub(crate) fn peer(seed: u8) -> PeerId {
    keypair(seed).peer_id()
}

/// A node in the making, in this thread and on this network.
pub(crate) fn builder(network: &Network, seed: u8) -> Builder {
    Node::builder(keypair(seed)).in_thread().transport(network.transport())
}

pub(crate) async fn node(network: &Network, seed: u8) -> Node {
    let builder = builder(network, seed).listen("/memory/0").expect("an address");
    let node = builder.start().await.expect("it starts");
    serve_echo(&node);
    node
}

pub(crate) fn serve_echo(node: &Node) {
    node.serve(ECHO, |stream, _| echo(stream)).expect("not served yet");
}

pub(crate) const ECHO: &str = "/echo/1";

pub(crate) async fn echo(stream: Stream) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// Sends and reads at the same time, closes, and expects the same back.
pub(crate) async fn check_echo(mut stream: Stream, len: usize) {
    let sent: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    let mut got = Vec::with_capacity(len);
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let write = async {
        writer.write_all(&sent).await.expect("written");
        writer.shutdown().await.expect("closed");
    };
    let (_, read) = tokio::join!(write, reader.read_to_end(&mut got));
    read.expect("read");
    assert!(got == sent, "{} of {len} bytes came back", got.len());
}

pub(crate) fn address(node: &Node) -> Multiaddr {
    node.addresses().into_iter().next().expect("it listens")
}

/// The first event that fits.
pub(crate) async fn event<T>(events: &mut Events, fits: impl Fn(Event) -> Option<T>) -> T {
    loop {
        let event = events.next().await.expect("the node runs");
        if let Some(found) = fits(event) {
            return found;
        }
    }
}

/// Waits, in virtual time, until a node uses nothing any more.
pub(crate) async fn idle(node: &Node) {
    for _ in 0..10_000 {
        if node.usage() == Usage::default() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still in use: {:?}", node.usage());
}

/// How many tasks the runtime has.
pub(crate) fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits, in virtual time, until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never comes that {what}");
}
