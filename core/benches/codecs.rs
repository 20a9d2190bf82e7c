//! What every connection and every message goes through: addresses, negotiation, records.
#![allow(missing_docs, clippy::unwrap_used)]

use divan::{Bencher, black_box};
use peerage_core::{
    Keypair, Multiaddr, ProtocolId,
    envelope::Envelope,
    multistream::{Dialer, Listener},
    peer_record::PeerRecord,
};

fn main() {
    divan::main();
}

const ADDRESSES: [&str; 3] = [
    "/ip4/192.0.2.1/tcp/4001",
    "/ip6/2001:db8::1/udp/4001/quic-v1/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
    "/dns4/relay.example.org/tcp/443/tls/ws/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA/p2p-circuit",
];

#[divan::bench(args = ADDRESSES)]
fn multiaddr_from_text(text: &str) -> Multiaddr {
    Multiaddr::parse(black_box(text)).unwrap()
}

#[divan::bench(args = ADDRESSES)]
fn multiaddr_from_bytes(bencher: Bencher<'_, '_>, text: &str) {
    let address = Multiaddr::parse(text).unwrap();
    bencher.bench_local(|| Multiaddr::from_bytes(black_box(address.as_bytes())).unwrap());
}

#[divan::bench(args = ADDRESSES)]
fn multiaddr_to_text(bencher: Bencher<'_, '_>, text: &str) {
    let address = Multiaddr::parse(text).unwrap();
    bencher.bench_local(|| black_box(&address).to_string());
}

/// Both sides, of which the listener takes the proposal of this number.
#[divan::bench(args = [1, 4])]
fn multistream(bencher: Bencher<'_, '_>, taken: usize) {
    let proposals: Vec<ProtocolId> =
        (1..=taken).map(|number| ProtocolId::new(format!("/bench/protocol/{number}.0.0")).unwrap()).collect();
    let last = proposals.last().unwrap().clone();
    bencher.bench_local(|| {
        let mut dialer = Dialer::new(proposals.clone()).unwrap();
        let mut listener = Listener::new();
        while dialer.outcome().is_none() {
            if let Some(bytes) = dialer.poll_transmit() {
                listener.handle_input(&bytes, |name| (last == name).then(|| last.clone())).unwrap();
            }
            if let Some(bytes) = listener.poll_transmit() {
                dialer.handle_input(&bytes).unwrap();
            }
        }
    });
}

fn record() -> (Keypair, PeerRecord) {
    let keypair = Keypair::from_ed25519_seed([7; 32]);
    let addresses = ADDRESSES.iter().map(|text| Multiaddr::parse(text).unwrap()).collect();
    let record = PeerRecord::new(keypair.peer_id(), 1, addresses).unwrap();
    (keypair, record)
}

#[divan::bench]
fn peer_record_seal(bencher: Bencher<'_, '_>) {
    let (keypair, record) = record();
    bencher.bench_local(|| record.seal(&keypair).unwrap());
}

#[divan::bench]
fn peer_record_open(bencher: Bencher<'_, '_>) {
    let (keypair, record) = record();
    let bytes = record.seal(&keypair).unwrap().encode();
    bencher.bench_local(|| PeerRecord::open(&Envelope::decode(black_box(&bytes)).unwrap()).unwrap());
}
