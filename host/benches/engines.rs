//! Steps of engines, and the messages that every connection begins with.
//!
//! `cargo bench -p peerage-host --features fuzzing --bench engines`, because what is private is reached that way.
#![allow(missing_docs, clippy::unwrap_used)]

use divan::{Bencher, black_box, counter::ItemsCount};
use peerage_core::{Keypair, Multiaddr, PeerId};
use peerage_host::fuzzing;

fn main() {
    divan::main();
}

fn own() -> (Keypair, Vec<Multiaddr>) {
    let addresses =
        (1..=8).map(|n| Multiaddr::parse(&format!("/ip4/192.0.2.{n}/tcp/4001")).unwrap()).collect();
    (Keypair::from_ed25519_seed([7; 32]), addresses)
}

/// The signature of the addresses included, which is kept until they change.
#[divan::bench]
fn identify_encode(bencher: Bencher<'_, '_>) {
    let (keypair, addresses) = own();
    bencher.bench_local(|| fuzzing::identify_message(&keypair, black_box(&addresses)));
}

/// With the check of that signature.
#[divan::bench]
fn identify_decode(bencher: Bencher<'_, '_>) {
    let (keypair, addresses) = own();
    let message = fuzzing::identify_message(&keypair, &addresses);
    assert!(fuzzing::identify_whole(keypair.peer_id(), &message));
    bencher.bench_local(|| fuzzing::identify_whole(keypair.peer_id(), black_box(&message)));
}

/// A command, an input and their actions, with so many peers at once.
#[divan::bench(args = [1, 100, 1000])]
fn ping_engine(bencher: Bencher<'_, '_>, peers: usize) {
    let peer = |n: usize| {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        Keypair::from_ed25519_seed(seed).peer_id()
    };
    let peers: Vec<PeerId> = (0..peers).map(peer).collect();
    bencher.counter(ItemsCount::new(peers.len())).bench_local(|| fuzzing::ping_steps(black_box(&peers)));
}
