//! Handshakes. `records` has the encrypted stream that follows, `vectors` what others have computed, `differential`
//! snow with cryptography of its own at the other end.

mod differential;
mod records;
mod vectors;

use peerage_core::{Keypair, ProtocolId};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{
    AwaitFinal, AwaitHello, AwaitResponse, Config, Error, Initiator, MAX_HANDSHAKE_MESSAGE, MAX_PAYLOAD,
    NoiseStream, Responder, Session, record::Sealer, upgrade,
};
use crate::{Authenticated, Fault, Role};

const ALICE: [u8; 32] = [1; 32];
const BOB: [u8; 32] = [2; 32];

fn key(seed: [u8; 32]) -> Keypair {
    Keypair::from_ed25519_seed(seed)
}

fn config(seed: [u8; 32]) -> Config {
    Config::new(&key(seed)).unwrap()
}

fn muxers(names: &[&str]) -> Vec<ProtocolId> {
    names.iter().map(|name| ProtocolId::new(*name).unwrap()).collect()
}

/// The two states that wait for each other, with the messages under way.
fn hello(alice: &Config, bob: &Config) -> (AwaitResponse, AwaitHello, Vec<u8>) {
    let (initiator, message) = Initiator::start(alice).unwrap();
    (initiator, Responder::start(bob).unwrap(), message)
}

fn response(alice: &Config, bob: &Config) -> (AwaitResponse, AwaitFinal, Vec<u8>) {
    let (initiator, responder, message) = hello(alice, bob);
    let (responder, message) = responder.read(&message).unwrap();
    (initiator, responder, message)
}

fn last(alice: &Config, bob: &Config) -> (Session, AwaitFinal, Vec<u8>) {
    let (initiator, responder, message) = response(alice, bob);
    let (session, message) = initiator.read(&message).unwrap();
    (session, responder, message)
}

/// Both sides of a whole handshake, without I/O.
fn sessions(alice: &Config, bob: &Config) -> Result<(Session, Session), Error> {
    let (initiator, responder, message) = hello(alice, bob);
    let (responder, message) = responder.read(&message)?;
    let (one, message) = initiator.read(&message)?;
    Ok((one, responder.read(&message)?))
}

type Upgraded<S> = (NoiseStream<S>, Authenticated);

async fn connect(alice: &Config, bob: &Config) -> (Upgraded<DuplexStream>, Upgraded<DuplexStream>) {
    let (a, b) = tokio::io::duplex(16 * 1024);
    let (one, two) = tokio::join!(upgrade(a, Role::Initiator, alice), upgrade(b, Role::Responder, bob));
    (one.unwrap(), two.unwrap())
}

#[tokio::test]
async fn each_learns_who_the_other_is() {
    let ((mut a, bob), (mut b, alice)) = connect(&config(ALICE), &config(BOB)).await;
    assert_eq!(alice.peer, key(ALICE).peer_id());
    assert_eq!(bob.peer, key(BOB).peer_id());
    assert_eq!(bob.public_key.to_protobuf(), key(BOB).public().to_protobuf());
    assert_eq!((alice.muxer, bob.muxer), (None, None));
    for turn in 0..2 {
        let (x, y) = if turn == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        x.write_all(b"hello").await.unwrap();
        x.flush().await.unwrap();
        let mut buf = [0; 5];
        y.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"hello");
    }
}

#[test]
fn the_expected_peer_is_let_through_and_no_other() {
    for seed in [BOB, ALICE, [3; 32]] {
        let expected = key(seed).peer_id();
        let found = key(BOB).peer_id();
        let (initiator, _, message) = response(&config(ALICE).expecting(expected), &config(BOB));
        match initiator.read(&message) {
            Ok((session, _)) => assert_eq!((session.authenticated.peer, expected), (found, found)),
            Err(error) => {
                assert_eq!(error.fault(), Fault::Remote);
                assert!(
                    matches!(error, Error::WrongPeer { expected: e, found: f } if e == expected && f == found)
                );
                assert_ne!(expected, found);
            }
        }
        // A responder may expect somebody as well: roles are not tied to who dialed.
        let (_, responder, message) = last(&config(ALICE), &config(BOB).expecting(expected));
        assert_eq!(responder.read(&message).is_ok(), expected == key(ALICE).peer_id());
    }
}

#[test]
fn every_bit_of_every_message_counts() {
    let (alice, bob) = (config(ALICE).offering(muxers(&["/y"])), config(BOB).offering(muxers(&["/y"])));
    let flip = |message: &[u8], bit: usize| {
        let mut message = message.to_vec();
        message[bit / 8] ^= 1 << (bit % 8);
        message
    };
    // The first is not encrypted; a changed key shows with the first message that depends on it, except for the bit
    // that X25519 ignores (RFC 7748, section 5), which still is part of the hash.
    let (_, _, message) = hello(&alice, &bob);
    for bit in 0..message.len() * 8 {
        let (initiator, responder, message) = hello(&alice, &bob);
        let failed = match responder.read(&flip(&message, bit)) {
            Ok((_, message)) => initiator.read(&message).is_err(),
            Err(_) => true,
        };
        assert!(failed, "message 1, bit {bit}");
    }
    let (_, _, message) = response(&alice, &bob);
    for bit in 0..message.len() * 8 {
        let (initiator, _, message) = response(&alice, &bob);
        assert!(matches!(initiator.read(&flip(&message, bit)), Err(Error::Decrypt)), "message 2, bit {bit}");
    }
    let (_, _, message) = last(&alice, &bob);
    for bit in 0..message.len() * 8 {
        let (_, responder, message) = last(&alice, &bob);
        assert!(matches!(responder.read(&flip(&message, bit)), Err(Error::Decrypt)), "message 3, bit {bit}");
    }
}

#[test]
fn messages_cut_short_or_drawn_out_fail() {
    let (alice, bob) = (config(ALICE), config(BOB));
    let lengths = |len: usize| (0..len).chain([len + 1, MAX_HANDSHAKE_MESSAGE + 1, 65535]);
    let resized = |message: &[u8], len| {
        let mut message = message.to_vec();
        message.resize(len, 0);
        message
    };
    let (_, _, message) = hello(&alice, &bob);
    for len in lengths(message.len()) {
        let (_, responder, message) = hello(&alice, &bob);
        assert!(responder.read(&resized(&message, len)).is_err(), "message 1, {len}");
    }
    let (_, _, message) = response(&alice, &bob);
    for len in lengths(message.len()) {
        let (initiator, _, message) = response(&alice, &bob);
        assert!(initiator.read(&resized(&message, len)).is_err(), "message 2, {len}");
    }
    let (_, _, message) = last(&alice, &bob);
    for len in lengths(message.len()) {
        let (_, responder, message) = last(&alice, &bob);
        assert!(responder.read(&resized(&message, len)).is_err(), "message 3, {len}");
    }
}

/// A peer that speaks noise well, and puts into its messages what it likes; and its static key.
fn by_hand(role: Role) -> (snow::HandshakeState, Vec<u8>) {
    let builder = snow::Builder::new("Noise_XX_25519_ChaChaPoly_SHA256".parse().unwrap());
    let static_key = builder.generate_keypair().unwrap();
    let builder = builder.local_private_key(&static_key.private).unwrap();
    let state = match role {
        Role::Initiator => builder.build_initiator(),
        Role::Responder => builder.build_responder(),
    };
    (state.unwrap(), static_key.public)
}

/// What ours says to a responder with this payload.
fn answered_with(payload: &[u8]) -> Error {
    let (initiator, message) = Initiator::start(&config(ALICE)).unwrap();
    let (mut responder, _) = by_hand(Role::Responder);
    let mut buf = vec![0; 65535];
    responder.read_message(&message, &mut buf).unwrap();
    let n = responder.write_message(payload, &mut buf).unwrap();
    initiator.read(&buf[..n]).map(|_| ()).unwrap_err()
}

#[test]
fn a_payload_without_a_valid_signature_is_refused() {
    let (bob, other) = (key(BOB), key([3; 32]));
    let encode =
        |key: &Keypair, signature: &[u8]| super::payload::encode(&key.public().to_protobuf(), signature, &[]);
    assert!(matches!(answered_with(&[]), Error::Missing(_)));
    assert!(matches!(answered_with(&[0xff; 40]), Error::Payload(_)));
    // Bob's signature on some other static key: a replayed payload.
    let replayed = bob.sign(&super::payload::signed(&[9; 32]));
    assert!(matches!(answered_with(&encode(&bob, &replayed)), Error::BadSignature));
    assert!(matches!(answered_with(&encode(&other, &replayed)), Error::BadSignature));
    assert!(matches!(answered_with(&encode(&bob, &[])), Error::BadSignature));
    assert!(matches!(answered_with(&vec![0; MAX_PAYLOAD + 1]), Error::PayloadTooLarge { .. }));
    assert!(matches!(answered_with(&[0; 10_000]), Error::MessageTooLong { .. }));
    for payload in [&[][..], &[0xff; 40]] {
        assert_eq!(answered_with(payload).fault(), Fault::Remote);
    }
}

#[test]
fn the_first_message_carries_nothing() {
    let mut buf = [0; 100];
    let n = by_hand(Role::Initiator).0.write_message(b"early", &mut buf).unwrap();
    let responder = Responder::start(&config(BOB)).unwrap();
    assert!(matches!(responder.read(&buf[..n]), Err(Error::Malformed(_))));
}

#[test]
fn muxers_are_settled_on_alike() {
    type Row = (&'static [&'static str], &'static [&'static str], Result<Option<&'static str>, ()>);
    let table: [Row; 8] = [
        (&["/yamux/1.0.0"], &["/yamux/1.0.0"], Ok(Some("/yamux/1.0.0"))),
        (&["/y", "/m"], &["/m", "/y"], Ok(Some("/y"))),
        (&["/m", "/y"], &["/y", "/m"], Ok(Some("/m"))),
        (&["/z", "/m"], &["/y", "/m"], Ok(Some("/m"))),
        (&["/y"], &["/m"], Err(())),
        (&["/y"], &[], Ok(None)),
        (&[], &["/y"], Ok(None)),
        (&[], &[], Ok(None)),
    ];
    for (initiator, responder, expected) in table {
        let (alice, bob) =
            (config(ALICE).offering(muxers(initiator)), config(BOB).offering(muxers(responder)));
        match (sessions(&alice, &bob), expected) {
            (Ok((one, two)), Ok(name)) => {
                let expected = name.map(|name| ProtocolId::new(name).unwrap());
                assert_eq!(one.authenticated.muxer, expected);
                assert_eq!(two.authenticated.muxer, expected);
            }
            (Err(error), Err(())) => assert!(matches!(error, Error::NoCommonMuxer)),
            (result, _) => panic!("{initiator:?} {responder:?}: {:?}", result.err()),
        }
    }
}

#[test]
fn the_prologue_must_be_the_same() {
    let (alice, bob) = (config(ALICE).prologue("x"), config(BOB).prologue("x"));
    assert!(sessions(&alice, &bob).is_ok());
    assert!(matches!(sessions(&alice, &config(BOB)), Err(Error::Decrypt)));
    assert!(matches!(sessions(&alice, &config(BOB).prologue("y")), Err(Error::Decrypt)));
}

#[test]
fn nothing_secret_is_printed() {
    let config = config(ALICE);
    let printed = format!(
        "{config:?} {:?} {:?}",
        Initiator::start(&config).unwrap().0,
        sessions(&config, &config).unwrap().0
    );
    assert!(!printed.contains("secret") && printed.len() < 2000, "{printed}");
}

/// Everything that one side of a handshake writes.
async fn transcript(role: Role) -> Vec<u8> {
    let (a, mut wire_a) = tokio::io::duplex(64 * 1024);
    let (b, mut wire_b) = tokio::io::duplex(64 * 1024);
    let mut said = Vec::new();
    let relay = async {
        // Three messages, alternating.
        for turn in 0..3 {
            let (from, to, speaker) = match turn {
                1 => (&mut wire_b, &mut wire_a, Role::Responder),
                _ => (&mut wire_a, &mut wire_b, Role::Initiator),
            };
            let len = from.read_u16().await.unwrap();
            let mut message = vec![0; usize::from(len)];
            from.read_exact(&mut message).await.unwrap();
            let frame = [&len.to_be_bytes(), &message[..]].concat();
            to.write_all(&frame).await.unwrap();
            if speaker == role {
                said.extend_from_slice(&frame);
            }
        }
    };
    let (alice, bob) = (config(ALICE), config(BOB));
    let (one, two, ()) =
        tokio::join!(upgrade(a, Role::Initiator, &alice), upgrade(b, Role::Responder, &bob), relay);
    one.unwrap();
    two.unwrap();
    said
}

#[tokio::test]
async fn a_peer_that_hangs_up_at_any_byte_is_an_error() {
    // What the initiator hears of a responder, cut anywhere. It cannot be a replay: the keys would be others.
    let heard = transcript(Role::Responder).await;
    for cut in 0..heard.len() {
        let (a, mut wire) = tokio::io::duplex(64 * 1024);
        wire.write_all(&heard[..cut]).await.unwrap();
        wire.shutdown().await.unwrap();
        let error = upgrade(a, Role::Initiator, &config(ALICE)).await.unwrap_err();
        assert!(matches!(error, Error::Closed), "{cut}: {error:?}");
        assert_eq!(error.fault(), Fault::Network);
    }
    let heard = transcript(Role::Initiator).await;
    for cut in 0..heard.len() {
        let (b, mut wire) = tokio::io::duplex(64 * 1024);
        wire.write_all(&heard[..cut]).await.unwrap();
        wire.shutdown().await.unwrap();
        let error = upgrade(b, Role::Responder, &config(BOB)).await.unwrap_err();
        assert!(matches!(error, Error::Closed), "{cut}: {error:?}");
    }
    // Whole, it is refused.
    for (role, heard) in
        [(Role::Initiator, transcript(Role::Responder)), (Role::Responder, transcript(Role::Initiator))]
    {
        let (a, mut wire) = tokio::io::duplex(64 * 1024);
        wire.write_all(&heard.await).await.unwrap();
        assert!(matches!(upgrade(a, role, &config(ALICE)).await, Err(Error::Decrypt)));
    }
}

#[tokio::test]
async fn a_long_handshake_message_is_refused_by_its_length() {
    for role in [Role::Initiator, Role::Responder] {
        for (len, refused) in
            [(MAX_HANDSHAKE_MESSAGE, false), (MAX_HANDSHAKE_MESSAGE + 1, true), (65535, true)]
        {
            let (a, mut wire) = tokio::io::duplex(64 * 1024);
            wire.write_all(&u16::try_from(len).unwrap().to_be_bytes()).await.unwrap();
            if !refused {
                // Up to the limit, the message is waited for and then judged.
                wire.write_all(&vec![0; len]).await.unwrap();
            }
            let error = upgrade(a, role, &config(ALICE)).await.unwrap_err();
            assert_eq!(matches!(error, Error::MessageTooLong { .. }), refused, "{error:?}");
        }
    }
}

#[tokio::test]
async fn what_the_initiator_sends_at_once_is_not_lost() {
    let (mut wire, b) = tokio::io::duplex(64 * 1024);
    let bob = config(BOB);
    let responder = tokio::spawn(async move { upgrade(b, Role::Responder, &bob).await.unwrap() });
    let (initiator, message) = Initiator::start(&config(ALICE)).unwrap();
    wire.write_u16(message.len() as u16).await.unwrap();
    wire.write_all(&message).await.unwrap();
    let mut message = vec![0; usize::from(wire.read_u16().await.unwrap())];
    wire.read_exact(&mut message).await.unwrap();
    let (session, message) = initiator.read(&message).unwrap();
    let mut sealer = Sealer::new(session.keys.ours);
    // The third message and two frames in one write.
    let mut bytes = [&(message.len() as u16).to_be_bytes(), &message[..]].concat();
    for plain in [&b"at "[..], b"once"] {
        assert_eq!(sealer.push(plain).unwrap(), plain.len());
        sealer.seal().unwrap();
    }
    bytes.extend_from_slice(sealer.sealed());
    wire.write_all(&bytes).await.unwrap();
    let (mut stream, _) = responder.await.unwrap();
    let mut buf = [0; 7];
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"at once");
}

proptest! {
    #[test]
    fn no_message_of_a_stranger_panics(message in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (alice, bob) = (config(ALICE), config(BOB));
        let _ = Responder::start(&bob).unwrap().read(&message);
        prop_assert!(Initiator::start(&alice).unwrap().0.read(&message).is_err());
        prop_assert!(response(&alice, &bob).1.read(&message).is_err());
        prop_assert!(super::payload::decode(&message, &[0; 32], &Default::default()).is_err());
    }
}
