//! Ours, on aws-lc, against snow with cryptography of its own: handshake and frames, in both roles.

use proptest::prelude::*;

use super::{ALICE, AwaitFinal, AwaitResponse, Initiator, Responder, Session, by_hand, config, key};
use crate::{
    Role,
    noise::{
        NoiseStream, TAG,
        buffer::Buffer,
        payload,
        record::{MAX_PLAIN, Opened, Opener, Sealer},
    },
};

const CAROL: [u8; 32] = [3; 32];

/// One handshake: ours in this role, and snow.
fn sessions_with_snow(role: Role) -> (Session, snow::TransportState) {
    let (theirs, static_key) = match role {
        Role::Initiator => by_hand(Role::Responder),
        Role::Responder => by_hand(Role::Initiator),
    };
    let carol = key(CAROL);
    let signature = carol.sign(&payload::signed(&static_key));
    let payload = payload::encode(&carol.public().to_protobuf(), &signature, &[]);
    let (session, theirs) = match role {
        Role::Initiator => initiate(theirs, &payload),
        Role::Responder => respond(theirs, &payload),
    };
    assert_eq!(session.authenticated.peer, carol.peer_id());
    (session, theirs.into_transport_mode().unwrap())
}

fn initiate(mut theirs: snow::HandshakeState, payload: &[u8]) -> (Session, snow::HandshakeState) {
    let mut buf = vec![0; 65535];
    let (ours, message): (AwaitResponse, _) = Initiator::start(&config(ALICE)).unwrap();
    theirs.read_message(&message, &mut buf).unwrap();
    let n = theirs.write_message(payload, &mut buf).unwrap();
    let (session, message) = ours.read(&buf[..n]).unwrap();
    theirs.read_message(&message, &mut buf).unwrap();
    (session, theirs)
}

fn respond(mut theirs: snow::HandshakeState, payload: &[u8]) -> (Session, snow::HandshakeState) {
    let mut buf = vec![0; 65535];
    let n = theirs.write_message(&[], &mut buf).unwrap();
    let ours = Responder::start(&config(ALICE)).unwrap();
    let (ours, message): (AwaitFinal, _) = ours.read(&buf[..n]).unwrap();
    theirs.read_message(&message, &mut buf).unwrap();
    let n = theirs.write_message(payload, &mut buf).unwrap();
    (ours.read(&buf[..n]).unwrap(), theirs)
}

/// A stream of ours in this role, and snow at the other end.
pub(super) fn with_snow<S>(io: S, role: Role) -> (NoiseStream<S>, snow::TransportState) {
    let (session, theirs) = sessions_with_snow(role);
    (NoiseStream::new(io, Buffer::default(), session.keys), theirs)
}

/// What snow makes of frames that ours sealed.
fn opened_by_snow(theirs: &mut snow::TransportState, mut sealed: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((prefix, rest)) = sealed.split_first_chunk::<2>() {
        let (message, later) = rest.split_at(usize::from(u16::from_be_bytes(*prefix)));
        let mut plain = vec![0; message.len()];
        let n = theirs.read_message(message, &mut plain).unwrap();
        plain.truncate(n);
        frames.push(plain);
        sealed = later;
    }
    frames
}

/// What ours makes of frames that snow sealed.
fn opened_by_ours(opener: &mut Opener, theirs: &mut snow::TransportState, plain: &[u8]) -> Vec<u8> {
    let mut message = vec![0; plain.len() + TAG];
    let n = theirs.write_message(plain, &mut message).unwrap();
    for bytes in [&(n as u16).to_be_bytes()[..], &message[..n]] {
        opener.buffer().push(bytes);
    }
    let opened = opener.open().unwrap();
    assert_eq!(opened, if plain.is_empty() { Opened::Empty } else { Opened::Plain });
    let got = opener.plain().to_vec();
    opener.consume(got.len());
    got
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn exchange(role: Role, lens: &[usize]) {
    let (session, mut theirs) = sessions_with_snow(role);
    let mut sealer = Sealer::new(session.keys.ours);
    let mut opener = Opener::new(session.keys.theirs, Buffer::default());
    for len in lens {
        let data = pattern(*len);
        assert_eq!(sealer.push(&data).unwrap(), data.len());
        sealer.seal().unwrap();
        let frames = opened_by_snow(&mut theirs, sealer.sealed());
        assert!(frames.concat() == data, "{len}");
        assert_eq!(frames.len(), len.div_ceil(MAX_PLAIN), "as few frames as can be");
        sealer.sent(usize::MAX);
        let data = pattern((*len).min(MAX_PLAIN));
        assert!(opened_by_ours(&mut opener, &mut theirs, &data) == data, "{len}");
    }
    assert_eq!(theirs.sending_nonce(), lens.len() as u64);
}

#[test]
fn frames_of_every_kind_of_length() {
    for role in [Role::Initiator, Role::Responder] {
        exchange(
            role,
            &[0, 1, 0, 15, 16, 17, 63, 64, 65, 1000, MAX_PLAIN - 1, MAX_PLAIN, MAX_PLAIN + 1, 2 * MAX_PLAIN],
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn frames_of_any_length(
        initiator in any::<bool>(),
        lens in proptest::collection::vec(0..3 * MAX_PLAIN, 0..6),
        small in proptest::collection::vec(0..300usize, 0..40),
    ) {
        let role = if initiator { Role::Initiator } else { Role::Responder };
        exchange(role, &[small, lens].concat());
    }
}
