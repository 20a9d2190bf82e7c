//! What the fuzz targets and the benchmarks reach, and nothing else does.

use peerage_core::{Keypair, Multiaddr, PeerId};

/// Reads what a peer says in identify, and in a push of it.
pub fn identify(peer: PeerId, bytes: &[u8]) {
    crate::identify::decode(peer, bytes);
}

/// What a node of `keypair` says.
pub fn identify_message(keypair: &Keypair, addresses: &[Multiaddr]) -> Vec<u8> {
    crate::identify::example(keypair, addresses)
}

/// Reads a row of the peer book, as it may stand in a file that others could write.
pub fn book_row(peer: PeerId, bytes: &[u8]) {
    crate::book::read_row(peer, bytes);
}

/// A row of the peer book.
pub fn book_row_of(address: Multiaddr) -> Vec<u8> {
    crate::book::example_row(address)
}

/// Reads the content of a key file.
pub fn key_file(bytes: &[u8]) -> Option<Keypair> {
    crate::key_file::read(bytes)
}

/// Reads an identify message that comes in one piece; whether it is one.
pub fn identify_whole(peer: PeerId, bytes: &[u8]) -> bool {
    crate::identify::decode_whole(peer, bytes)
}

/// Asks the engine of ping for a round trip with each of these, and answers; gives how many actions that took.
pub fn ping_steps(peers: &[PeerId]) -> usize {
    crate::ping::steps(peers)
}
