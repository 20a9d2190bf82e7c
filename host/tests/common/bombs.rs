//! What a peer may say of itself that is too much, and what has to come of it.

use std::{borrow::Cow, time::Duration};

use peerage_core::{Multiaddr, frame, peer_record::PeerRecord, varint};
use peerage_host::{
    Protocol, Registrar, ServeOptions, Stream,
    identify::{self, IdentifyError, Info, PeerRecordState},
};
use tokio::{io::AsyncWriteExt as _, time::sleep};

use super::{keypair, peer};

/// Answers who asks for identify with these bytes, and then does nothing more, or ends the stream.
pub(crate) struct Says {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: bool,
}

impl Protocol for Says {
    type Handle = ();

    /// It takes the place of identify.
    fn name(&self) -> Cow<'static, str> {
        "identify".into()
    }

    fn register(self, registrar: &mut Registrar<'_>) {
        let bytes: std::sync::Arc<[u8]> = self.bytes.into();
        registrar.serve(identify::PROTOCOL, ServeOptions::default(), move |mut stream: Stream, _| {
            let bytes = bytes.clone();
            async move {
                let _ = stream.write_all(&bytes).await;
                if self.ends {
                    let _ = stream.close_write().await;
                } else {
                    let _ = stream.flush().await;
                    sleep(Duration::from_secs(3600)).await;
                }
            }
        });
    }
}

const ADDRESS: u64 = 2;
const PROTOCOL: u64 = 3;
pub(crate) const AGENT: u64 = 6;
const RECORD: u64 = 8;

pub(crate) fn field(number: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::encode((number << 3) | 2, &mut out);
    varint::encode(value.len() as u64, &mut out);
    out.extend_from_slice(value);
    out
}

/// Fields in as few messages as they fit into.
fn messages(fields: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let (mut out, mut message) = (Vec::new(), Vec::new());
    for field in fields {
        if message.len() + field.len() > identify::MAX_MESSAGE {
            frame::encode(&message, &mut out);
            message.clear();
        }
        message.extend(field);
    }
    frame::encode(&message, &mut out);
    out
}

pub(crate) fn one_message(fields: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode(&fields.into_iter().flatten().collect::<Vec<_>>(), &mut out);
    out
}

fn address_field(n: u32) -> Vec<u8> {
    let [_, b, c, d] = n.to_be_bytes();
    let address: Multiaddr = format!("/ip4/11.{b}.{c}.{d}/tcp/4001").parse().expect("an address");
    field(ADDRESS, address.as_bytes())
}

fn protocol_field(n: u32) -> Vec<u8> {
    field(PROTOCOL, format!("/planted/{n}").as_bytes())
}

/// A record that is valid, of somebody else.
fn record_of(seed: u8, sequence: u64) -> Vec<u8> {
    let addresses = vec!["/ip4/11.0.0.1/tcp/4001".parse().expect("an address")];
    let record = PeerRecord::new(peer(seed), sequence, addresses).expect("a record");
    record.seal(&keypair(seed)).expect("sealed").encode()
}

/// The peer's own record, which holds, and names nothing.
fn record_of_nothing() -> Vec<u8> {
    let record = PeerRecord::new(peer(7), 1, Vec::new()).expect("a record");
    record.seal(&keypair(7)).expect("sealed").encode()
}

pub(crate) type Expected = fn(Result<&Info, &IdentifyError>) -> bool;

pub(crate) struct Bomb {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Whether the stream ends after them.
    pub(crate) ends: bool,
    /// Whether this may come of it.
    pub(crate) expected: Expected,
}

pub(crate) fn bombs() -> Vec<Bomb> {
    let refused: Expected = |result| matches!(result, Err(IdentifyError::Decode(_)));
    let cut: Expected = |result| {
        result.is_ok_and(|info| {
            info.incomplete
                && info.listen_addrs.len() <= identify::MAX_ADDRESSES
                && info.protocols.len() <= identify::MAX_PROTOCOLS
        })
    };
    let length = |length| {
        let mut out = Vec::new();
        varint::encode(length, &mut out);
        out
    };
    let some = |count, of: fn(u32) -> Vec<u8>| messages((0..count).map(of));
    let all: Vec<(_, _, _, Expected)> = vec![
        ("10,000 addresses", some(10_000, address_field), true, refused),
        ("7,000 addresses, as many as fit", some(7_000, address_field), true, cut),
        ("100,000 protocols", some(100_000, protocol_field), true, refused),
        ("100,000 protocols at once", one_message((0..100_000).map(protocol_field)), true, refused),
        ("4,000 protocols, as many as fit", some(4_000, protocol_field), true, cut),
        ("a mebibyte of agent", one_message([field(AGENT, &vec![b'a'; 1 << 20])]), true, refused),
        ("8 KB of agent", one_message([field(AGENT, &[b'a'; 8000])]), true, |result| {
            result.is_ok_and(|info| info.agent_version.chars().count() <= identify::MAX_AGENT)
        }),
        ("4,000 empty fields", one_message((0..4_000).map(|_| field(PROTOCOL, b""))), true, refused),
        ("4,000 unknown fields", one_message((0..4_000).map(|_| field(99, b""))), true, refused),
        ("groups in groups", one_message([vec![0x0b; 4_000]]), true, refused),
        ("2^31 bytes, withheld", length(1 << 31), false, refused),
        ("2^32-1 bytes, withheld", length(u32::MAX.into()), false, refused),
        ("a length of ten bytes", [&[0xff; 9][..], &[1]].concat(), false, refused),
        ("a length of eleven bytes", vec![0xff; 11], false, refused),
        ("a body, withheld", length(100), false, |result| result == Err(&IdentifyError::Timeout)),
        ("a record without an address", one_message([field(RECORD, &record_of_nothing())]), true, |result| {
            result.is_ok_and(|info| matches!(info.signed_record, PeerRecordState::Valid(_)))
        }),
        ("somebody else's record", one_message([field(RECORD, &record_of(9, 1))]), true, |result| {
            result.is_ok_and(|info| matches!(info.signed_record, PeerRecordState::Invalid(_)))
        }),
        (
            "many records of others",
            messages((0..60).map(|n| field(RECORD, &record_of(9 + n, 1)))),
            true,
            |result| match result {
                Ok(info) => matches!(info.signed_record, PeerRecordState::Invalid(_)),
                Err(error) => matches!(error, IdentifyError::Decode(_)),
            },
        ),
    ];
    let bomb = |(name, bytes, ends, expected)| Bomb { name, bytes, ends, expected };
    all.into_iter().map(bomb).collect()
}
