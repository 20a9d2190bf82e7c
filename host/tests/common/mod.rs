//! Nodes inside one paused runtime, over memory transport: virtual time, no threads, no sockets.
#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use peerage_core::{Keypair, Multiaddr, PeerId};
use peerage_host::{Builder, Event, Events, Node, Stream, Usage};
use peerage_transport::memory::Network;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::LocalSet,
};

/// Runs a test in a paused runtime; it fails if virtual time runs past an hour.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    let limit = Duration::from_secs(3600);
    let test = async { tokio::time::timeout(limit, test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime.expect("a runtime"), test)
}

pub fn keypair(seed: u8) -> Keypair {
    Keypair::from_ed25519_seed([seed; 32])
}

pub fn peer(seed: u8) -> PeerId {
    keypair(seed).peer_id()
}

/// A node in the making, in this thread and on this network.
pub fn builder(network: &Network, seed: u8) -> Builder {
    Node::builder(keypair(seed))
        .in_thread()
        .transport(network.transport())
}

pub async fn node(network: &Network, seed: u8) -> Node {
    let builder = builder(network, seed).listen("/memory/0").expect("an address");
    let node = builder.start().await.expect("it starts");
    serve_echo(&node);
    node
}

pub fn serve_echo(node: &Node) {
    node.serve(ECHO, |stream, _| echo(stream))
        .expect("not served yet");
}

pub const ECHO: &str = "/echo/1";

pub async fn echo(stream: Stream) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// Sends and reads at the same time, closes, and expects the same back.
pub async fn check_echo(mut stream: Stream, len: usize) {
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

pub fn address(node: &Node) -> Multiaddr {
    node.addresses().into_iter().next().expect("it listens")
}

/// The first event that fits.
pub async fn event<T>(events: &mut Events, fits: impl Fn(Event) -> Option<T>) -> T {
    loop {
        let event = events.next().await.expect("the node runs");
        if let Some(found) = fits(event) {
            return found;
        }
    }
}

/// Waits, in virtual time, until a node uses nothing any more.
pub async fn idle(node: &Node) {
    for _ in 0..10_000 {
        if node.usage() == Usage::default() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still in use: {:?}", node.usage());
}
