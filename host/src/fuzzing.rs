//! What the fuzz targets reach and nothing else does.

use peerage_core::{Keypair, Multiaddr, PeerId};

use crate::identify::{decode, example};

/// Reads what a peer says in identify, and in a push of it.
pub fn identify(peer: PeerId, bytes: &[u8]) {
    decode(peer, bytes);
}

/// What a node of `keypair` says.
pub fn identify_message(keypair: &Keypair, addresses: &[Multiaddr]) -> Vec<u8> {
    example(keypair, addresses)
}
