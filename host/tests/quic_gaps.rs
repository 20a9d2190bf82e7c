//! What a peer makes a node hold that sends the smallest pieces of very many streams over QUIC, with gaps
//! between them that it never fills. Alone in its process, whose memory it measures.
#![cfg(target_os = "linux")]

mod common;

use common::{
    puppet::{Puppet, frame::stream, socket},
    *,
};
use peerage_core::Keypair;
use peerage_host::{Limits, Node, Usage};
use peerage_transport::quic::{MAX_STREAMS, RECEIVE_WINDOW};

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("so much");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// Pieces that one stream may be in, before quinn ends the connection.
const PIECES: u64 = 1000;

/// What they may cost, and what it takes to have sent them, which is in this process as well. 17 MiB were
/// measured; without quinn's limits it is a multiple of all the bytes that come.
const MOST: usize = 48 << 20;

#[test]
fn gaps_in_a_hundred_and_more_streams_cost_little() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build_local(Default::default()).expect("a runtime");
    runtime.block_on(async {
        // As many streams as QUIC itself allows.
        let mut limits = Limits::default();
        limits.streams_negotiating_per_connection = 256;
        limits.streams_inbound_per_protocol_and_peer = 256;
        let builder = Node::builder(Keypair::generate()).in_thread().limits(limits);
        let listening = builder.listen("/ip4/127.0.0.1/udp/0/quic-v1").expect("an address");
        let alice = listening.start().await.expect("it starts");
        serve_echo(&alice);
        let bob = Node::builder(Keypair::generate()).in_thread().start().await.expect("it starts");
        bob.connect(address(&alice)).await.expect("connected");
        let before = resident();
        let mut puppets = Vec::new();
        for (seed, piece) in [(10, 1), (11, 6)] {
            let mut puppet = Puppet::connect(socket(&alice.listen_addresses()[0]), seed).await;
            // As many as the window has room for.
            let streams = (u64::from(RECEIVE_WINDOW) / (PIECES * (piece + 1))).min(MAX_STREAMS.into());
            let mut open = Vec::new();
            for _ in 0..streams {
                open.push(puppet.connection.open_bi().await.expect("within the limit"));
            }
            let bytes = vec![7; usize::try_from(piece).expect("few bytes")];
            let frames = (0..streams * PIECES).map(|n| {
                let (nth, of) = (n / streams, n % streams);
                stream(4 * of, nth * (piece + 1) + 1, &bytes)
            });
            assert!(puppet.say_all(frames).await, "{:?}", puppet.connection.close_reason());
            puppets.push((puppet, open));
            check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 100_000).await;
        }
        let cost = resident().saturating_sub(before);
        assert!(cost < MOST, "{cost} bytes");
        assert_eq!(alice.connections().len(), 3, "they did nothing that is forbidden");

        drop(puppets);
        bob.disconnect(alice.peer_id()).await;
        until("all is given back", || alice.usage() == Usage::default()).await;
        alice.shutdown().await;
        bob.shutdown().await;
    });
}
