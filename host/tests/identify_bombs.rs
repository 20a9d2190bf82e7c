//! S9 and S10: peers that say too much of themselves, too often, or of others. What is kept stays within its limits, and
//! the connection with everything else on it goes on.

mod common;

use std::{borrow::Cow, time::Duration};

use common::*;
use peerage_core::{Multiaddr, frame, peer_record::PeerRecord, varint};
use peerage_host::{
    ErrorCode, Event, Node, Protocol, Registrar, ServeOptions, Stream, StreamError,
    identify::{self, Identify, IdentifyError, Info, PeerRecordState},
};
use peerage_transport::memory::Network;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep},
};

/// Answers who asks for identify with these bytes, and then does nothing more, or ends the stream.
struct Says {
    bytes: Vec<u8>,
    ends: bool,
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
const AGENT: u64 = 6;
const RECORD: u64 = 8;

fn field(number: u64, value: &[u8]) -> Vec<u8> {
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

fn one_message(fields: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
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

type Expected = fn(Result<&Info, &IdentifyError>) -> bool;

fn bombs() -> Vec<(&'static str, Vec<u8>, bool, Expected)> {
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
    vec![
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
    ]
}

#[test]
fn bombs_in_answers_and_in_pushes() {
    run(async {
        let network = Network::new();
        let (alice, identify) = builder(&network, 1).with(Identify::default());
        let alice = alice.listen("/memory/0").expect("an address").start().await.expect("it starts");
        serve_echo(&alice);
        for (name, bytes, ends, expected) in bombs() {
            let (eve, ()) = builder(&network, 7).with(Says { bytes: bytes.clone(), ends });
            let eve = eve.start().await.expect("it starts");
            eve.connect(address(&alice)).await.expect("connected");
            let begin = Instant::now();
            let said = identify.info(eve.peer_id()).await;
            assert!(expected(said.as_ref().map(std::convert::AsRef::as_ref)), "{name}: {said:?}");
            if said != Err(IdentifyError::Timeout) {
                assert!(begin.elapsed() < Duration::from_secs(1), "{name}: it is seen when it comes");
            }

            // The same as a push: refused by a reset, or taken; and by the timeout in any case.
            let mut push = eve.open(alice.peer_id(), identify::PUSH.as_str()).await.expect("open");
            let _ = push.write_all(&bytes).await;
            let _ = push.flush().await;
            if ends {
                let _ = push.close_write().await;
            }
            let _ = push.read_u8().await;
            assert!(begin.elapsed() < 2 * identify::TIMEOUT + Duration::from_secs(1), "{name}");

            let known = alice.peer(eve.peer_id()).await;
            if let Some(known) = known {
                assert!(known.addresses.len() <= identify::MAX_ADDRESSES + 1, "{name}");
                assert!(known.protocols.len() <= identify::MAX_PROTOCOLS, "{name}");
            }
            for other in 9..69 {
                assert!(alice.peer(peer(other)).await.is_none(), "{name}: hearsay is kept");
            }
            check_echo(eve.open(alice.peer_id(), ECHO).await.expect("open"), 1000).await;
            eve.shutdown().await;
            idle(&alice).await;
            // So that the next one may push, too.
            sleep(Duration::from_secs(60)).await;
        }
        assert!(alice.tree().0.iter().all(|actor| actor.panics == 0));
    });
}

/// One push; whether it was taken.
async fn push(eve: &Node, alice: &Node, n: u32) -> bool {
    let mut stream = eve.open(alice.peer_id(), identify::PUSH.as_str()).await.expect("the connection lives");
    let said = one_message([field(AGENT, format!("agent/{n}").as_bytes())]);
    // It may be refused while it is written.
    let _ = stream.write_all(&said).await;
    let _ = stream.close_write().await;
    match stream.read_u8().await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => true,
        Err(error) => {
            let why = StreamError::of(&error).expect("an error of the stream");
            assert!(matches!(why, StreamError::ResetByPeer(ErrorCode::RATE_LIMITED)), "{why:?}");
            false
        }
        Ok(_) => panic!("nothing is said on a push"),
    }
}

#[test]
fn ten_thousand_pushes_in_a_second() {
    run(async {
        let network = Network::new();
        let (alice, eve) = (node(&network, 1).await, node(&network, 7).await);
        eve.connect(address(&alice)).await.expect("connected");
        // What it tells by itself, after it has started to serve, is told; and counts no more.
        sleep(Duration::from_secs(60)).await;
        let mut events = alice.events();
        let mut taken = 0;
        for n in 0..10_000 {
            taken += u32::from(push(&eve, &alice, n).await);
            sleep(Duration::from_micros(100)).await;
        }
        // The timer's grain makes more of the pauses than they are.
        assert!((identify::PUSH_BURST..identify::PUSH_BURST + 4).contains(&taken), "{taken}");
        check_echo(eve.open(alice.peer_id(), ECHO).await.expect("open"), 1000).await;
        sleep(identify::PUSH_EVERY).await;
        assert!(push(&eve, &alice, 77_777).await, "it may tell again");
        let mut heard = 0;
        loop {
            let Event::Identified { info, .. } = events.next().await.expect("it runs") else { continue };
            heard += 1;
            if info.agent_version == "agent/77777" {
                break;
            }
        }
        assert_eq!(heard, taken + 1, "nobody hears of the others");
        eve.disconnect(alice.peer_id()).await;
        idle(&alice).await;
        idle(&eve).await;
    });
}
