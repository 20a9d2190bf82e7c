//! The ground that every other crate of Peerage stands on.
//!
//! Nothing here opens a socket, starts a thread, reads a clock or waits: bytes and `Now` come in, bytes and values
//! go out. Every decoder takes bytes of a stranger, holds a named limit, and answers with a typed error.
//!
//! | module | what it is |
//! |---|---|
//! | [`varint`] | unsigned LEB128 as the multiformats write it |
//! | [`protobuf`] | the protobuf wire format, walked without allocating |
//! | [`identity`] | public keys, key pairs, peer ids |
//! | [`multiaddr`] | addresses, as text and as bytes |
//! | [`protocol_id`] | names of protocols |
//! | [`frame`] | messages on a stream, each with its length |
//! | [`multistream`] | two peers agree on a protocol |
//! | [`envelope`], [`peer_record`] | what a peer signs: bytes, and its own addresses |
//! | [`budget`] | memory that is asked for before it is allocated |
//! | [`engine`] | the contract of every protocol core, and a virtual-time driver for their tests |
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::expect_used,
        clippy::panic,
        clippy::cast_possible_truncation
    )
)]

pub mod budget;
pub mod engine;
pub mod envelope;
pub mod frame;
pub mod identity;
pub mod multiaddr;
pub mod multistream;
pub mod peer_record;
pub mod pool;
pub mod protobuf;
pub mod protocol_id;
pub mod varint;

pub use budget::Budget;
pub use engine::{Deadline, Engine, Now};
pub use identity::{Keypair, PeerId, PublicKey};
pub use multiaddr::{Multiaddr, Protocol};
pub use protocol_id::ProtocolId;
