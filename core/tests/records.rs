//! Signed envelopes and peer records.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use peerage_core::envelope::{self, DecodeError, Envelope, OpenError};
use peerage_core::identity::{DecodeError as KeyError, KeyType};
use peerage_core::peer_record::{DOMAIN, Error, MAX_ADDRESSES, PAYLOAD_TYPE, PeerRecord};
use peerage_core::{Keypair, Multiaddr, PeerId, protobuf};
use proptest::prelude::*;

fn keypair(seed: u8) -> Keypair {
    Keypair::from_ed25519_seed([seed; 32])
}

fn addr(port: usize) -> Multiaddr {
    format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
}

/// A record as the RFC writes it, field by field: not by the code under test.
fn payload(peer: PeerId, seq: u64, addresses: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    protobuf::put_bytes(1, peer.as_bytes(), &mut out);
    protobuf::put_varint(2, seq, &mut out);
    for address in addresses {
        let mut info = Vec::new();
        protobuf::put_bytes(1, address, &mut info);
        protobuf::put_bytes(3, &info, &mut out);
    }
    out
}

fn sealed(payload: Vec<u8>) -> Result<PeerRecord, Error> {
    PeerRecord::open(&Envelope::seal(&keypair(1), DOMAIN, PAYLOAD_TYPE, payload))
}

/// The layout of RFC 0002, byte for byte.
#[test]
fn an_envelope_on_the_wire() {
    let keypair = keypair(1);
    let envelope = Envelope::seal(&keypair, "domain", &[0x03, 0x01], b"hello".to_vec());
    let signature = keypair.sign(b"\x06domain\x02\x03\x01\x05hello");
    let expected = [
        &[0x0a, 36][..],
        &keypair.public().to_protobuf(),
        &[0x12, 2, 0x03, 0x01],
        b"\x1a\x05hello",
        &[0x2a, 64],
        &signature,
    ]
    .concat();
    assert_eq!(envelope.encode(), expected);
    assert_eq!(Envelope::decode(&expected), Ok(envelope));
}

#[test]
fn a_signature_binds_domain_type_payload_and_key() {
    let envelope = Envelope::seal(&keypair(1), "domain", b"type", b"payload".to_vec());
    assert_eq!(envelope.open("domain", b"type"), Ok(&b"payload"[..]));
    assert_eq!(envelope.open("domains", b"type"), Err(OpenError::BadSignature));
    assert_eq!(envelope.open("domain", b"types"), Err(OpenError::OtherType));

    let bytes = envelope.encode();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let opened =
            Envelope::decode(&changed).map(|envelope| envelope.open("domain", b"type").map(<[u8]>::to_vec));
        assert!(!matches!(opened, Ok(Ok(_))), "byte {at} is not signed");
    }
    // The lengths are signed: no byte moves from the domain to the type.
    let moved = Envelope::seal(&keypair(1), "domaint", b"ype", b"payload".to_vec());
    assert_eq!(moved.open("domain", b"type"), Err(OpenError::OtherType));
}

#[test]
fn peers_with_keys_of_every_type_have_records() {
    for key_type in [KeyType::Ed25519, KeyType::Secp256k1, KeyType::Ecdsa, KeyType::Rsa] {
        let (signer, other) = (Keypair::generate_of(key_type), Keypair::generate_of(key_type));
        let record = payload(signer.peer_id(), 7, &[addr(1).as_bytes()]);
        let encoded = Envelope::seal(&signer, DOMAIN, PAYLOAD_TYPE, record.clone()).encode();
        let opened = PeerRecord::open(&Envelope::decode(&encoded).unwrap()).unwrap();
        assert_eq!(opened.peer_id(), signer.peer_id(), "{key_type}");
        // RUSTSEC-2022-0009: whoever signs speaks for itself alone.
        let foreign = Envelope::seal(&other, DOMAIN, PAYLOAD_TYPE, record);
        assert!(PeerRecord::open(&foreign).is_err(), "{key_type}");
    }
}

#[test]
fn envelopes_that_are_none() {
    assert_eq!(Envelope::decode(&[]), Err(DecodeError::NoKey));
    assert!(matches!(Envelope::decode(&[0x0a]), Err(DecodeError::Malformed(_))));
    let no_key = KeyError::WrongLength { key_type: KeyType::Secp256k1, len: 0 };
    assert_eq!(Envelope::decode(&[0x0a, 4, 0x08, 2, 0x12, 0]), Err(DecodeError::Key(no_key)));
    // Without a signature it can be decoded, and never opened.
    let mut bytes = Vec::new();
    protobuf::put_bytes(1, &keypair(1).public().to_protobuf(), &mut bytes);
    let empty = Envelope::decode(&bytes).unwrap();
    assert_eq!(empty.open("", b""), Err(OpenError::BadSignature));
}

#[test]
fn envelopes_at_the_limit_and_one_byte_more() {
    let sealed = |len: usize| Envelope::seal(&keypair(1), "domain", b"type", vec![7; len]).encode();
    let overhead = sealed(8000).len() - 8000;
    let longest = sealed(envelope::MAX_LEN - overhead);
    assert_eq!(longest.len(), envelope::MAX_LEN);
    assert!(Envelope::decode(&longest).is_ok());
    let error = Envelope::decode(&sealed(envelope::MAX_LEN - overhead + 1));
    assert_eq!(error, Err(DecodeError::TooLong { len: envelope::MAX_LEN + 1 }));
}

#[test]
fn a_record_on_the_wire() {
    let keypair = keypair(1);
    let record = PeerRecord::new(keypair.peer_id(), u64::MAX, vec![addr(1), addr(2)]).unwrap();
    let envelope = record.seal(&keypair).unwrap();
    let expected = payload(keypair.peer_id(), u64::MAX, &[addr(1).as_bytes(), addr(2).as_bytes()]);
    assert_eq!(envelope.payload_type(), [0x03, 0x01]);
    assert_eq!(envelope.open("libp2p-peer-record", &[0x03, 0x01]), Ok(&expected[..]));
    assert_eq!(PeerRecord::open(&envelope), Ok(record));
}

/// The form that RFC 0003 writes and rust-libp2p used to send; never a mixture of the two.
#[test]
fn the_legacy_form() {
    let (domain, payload_type) = ("libp2p-routing-state", &b"/libp2p/routing-state-record"[..]);
    let payload = payload(keypair(1).peer_id(), 7, &[addr(1).as_bytes()]);
    let open = |domain, payload_type| {
        PeerRecord::open(&Envelope::seal(&keypair(1), domain, payload_type, payload.clone()))
    };
    assert_eq!(open(domain, payload_type).unwrap().addresses(), [addr(1)]);
    assert_eq!(open(DOMAIN, payload_type), Err(Error::Envelope(OpenError::BadSignature)));
    assert_eq!(open(domain, PAYLOAD_TYPE), Err(Error::Envelope(OpenError::BadSignature)));
    assert_eq!(open(DOMAIN, b"/other"), Err(Error::Envelope(OpenError::OtherType)));
}

#[test]
fn nobody_signs_for_another() {
    let (alice, bob) = (keypair(1).peer_id(), keypair(2).peer_id());
    let error = Error::NotTheSigner { subject: bob, signer: alice };
    assert_eq!(sealed(payload(bob, 1, &[])), Err(error));
    let record = PeerRecord::new(bob, 1, vec![]).unwrap();
    assert_eq!(record.seal(&keypair(1)), Err(error));
}

#[test]
fn addresses_that_cannot_be_read_are_skipped() {
    let unknown = [0xff, 0x7f];
    let record = sealed(payload(keypair(1).peer_id(), 1, &[&unknown, addr(1).as_bytes(), &[]])).unwrap();
    assert_eq!((record.addresses(), record.skipped()), (&[addr(1)][..], 2));
    // A message that is not even protobuf is something else.
    let mut broken = payload(keypair(1).peer_id(), 1, &[]);
    protobuf::put_bytes(3, &[0x0b], &mut broken);
    assert!(matches!(sealed(broken), Err(Error::Malformed(_))));
    assert!(matches!(sealed(vec![]), Err(Error::PeerId(_))));
}

#[test]
fn addresses_at_the_limit_and_one_more() {
    let addresses: Vec<_> = (0..=MAX_ADDRESSES).map(addr).collect();
    let bytes: Vec<_> = addresses.iter().map(Multiaddr::as_bytes).collect();
    let peer = keypair(1).peer_id();
    let record = sealed(payload(peer, 1, &bytes[..MAX_ADDRESSES])).unwrap();
    assert_eq!(record.addresses(), &addresses[..MAX_ADDRESSES]);
    assert_eq!(sealed(payload(peer, 1, &bytes)), Err(Error::TooManyAddresses));
    // Those that cannot be read count too.
    assert_eq!(sealed(payload(peer, 1, &[&[0xff][..]; MAX_ADDRESSES + 1])), Err(Error::TooManyAddresses));
    assert!(PeerRecord::new(peer, 1, addresses[..MAX_ADDRESSES].to_vec()).is_ok());
    assert_eq!(PeerRecord::new(peer, 1, addresses), Err(Error::TooManyAddresses));
}

proptest! {
    #[test]
    fn records_round_trip(seed: u8, seq: u64, ports in proptest::collection::vec(0..65536_usize, 0..=MAX_ADDRESSES)) {
        let keypair = keypair(seed);
        let record = PeerRecord::new(keypair.peer_id(), seq, ports.into_iter().map(addr).collect()).unwrap();
        let envelope = Envelope::decode(&record.seal(&keypair).unwrap().encode()).unwrap();
        prop_assert_eq!(PeerRecord::open(&envelope), Ok(record));
    }

    #[test]
    fn strangers_bytes(bytes: Vec<u8>) {
        if let Ok(envelope) = Envelope::decode(&bytes) {
            prop_assert!(PeerRecord::open(&envelope).is_err());
        }
        // The same behind a signature that is right.
        if let Ok(record) = sealed(bytes) {
            prop_assert_eq!(record.peer_id(), keypair(1).peer_id());
        }
    }
}

/// py-libp2p 0.8 leaves the type of an RSA key out where it stands in an envelope (proto3, type 0), and nowhere else.
#[test]
fn the_key_of_an_envelope_may_lack_the_type_of_rsa() {
    let keypair = Keypair::generate_of(KeyType::Rsa);
    let record = PeerRecord::new(keypair.peer_id(), 1, vec![addr(1)]).unwrap();
    let encoded = record.seal(&keypair).unwrap().encode();
    let key = keypair.public().to_protobuf();
    let untyped = key.strip_prefix(&[0x08, 0x00]).expect("the type comes first");
    let rest = fields_after_the_key(&encoded);
    let mut bytes = Vec::new();
    protobuf::put_bytes(1, untyped, &mut bytes);
    bytes.extend(rest);
    let read = PeerRecord::open(&Envelope::decode(&bytes).unwrap()).unwrap();
    assert_eq!(read, record);
    assert_eq!(
        peerage_core::PublicKey::from_protobuf(untyped),
        Err(KeyError::Missing("type")),
        "elsewhere the type is asked for"
    );
    // A key of another type without one is not taken for it.
    let mut bytes = Vec::new();
    protobuf::put_bytes(1, &keypair_data(&Keypair::from_ed25519_seed([1; 32])), &mut bytes);
    assert!(matches!(Envelope::decode(&bytes), Err(DecodeError::Key(_))));
}

fn fields_after_the_key(envelope: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in protobuf::fields(envelope) {
        let field = field.unwrap();
        if let (number @ 2.., protobuf::Value::Bytes(bytes)) = (field.number, field.value) {
            protobuf::put_bytes(number, bytes, &mut out);
        }
    }
    out
}

/// An encoded key without its type.
fn keypair_data(keypair: &Keypair) -> Vec<u8> {
    keypair.public().to_protobuf().get(2..).unwrap_or_default().to_vec()
}
