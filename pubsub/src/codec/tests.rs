use bytes::Bytes;
use peerage_core::{Keypair, frame, protobuf::put_bytes};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{MessageId, signing};

/// The schema of the specs, for prost: another implementation to compare with.
mod schema {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Rpc {
        #[prost(message, repeated, tag = "1")]
        pub(super) subscriptions: Vec<SubOpts>,
        #[prost(message, repeated, tag = "2")]
        pub(super) publish: Vec<Message>,
        #[prost(message, optional, tag = "3")]
        pub(super) control: Option<Control>,
        #[prost(message, optional, tag = "6492434")]
        pub(super) test: Option<Empty>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Empty {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SubOpts {
        #[prost(bool, optional, tag = "1")]
        pub(super) subscribe: Option<bool>,
        #[prost(string, optional, tag = "2")]
        pub(super) topicid: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Message {
        #[prost(bytes = "vec", optional, tag = "1")]
        pub(super) from: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "2")]
        pub(super) data: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "3")]
        pub(super) seqno: Option<Vec<u8>>,
        #[prost(string, required, tag = "4")]
        pub(super) topic: String,
        #[prost(bytes = "vec", optional, tag = "5")]
        pub(super) signature: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "6")]
        pub(super) key: Option<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Control {
        #[prost(message, repeated, tag = "1")]
        pub(super) ihave: Vec<IHave>,
        #[prost(message, repeated, tag = "2")]
        pub(super) iwant: Vec<Ids>,
        #[prost(message, repeated, tag = "3")]
        pub(super) graft: Vec<Graft>,
        #[prost(message, repeated, tag = "4")]
        pub(super) prune: Vec<Prune>,
        #[prost(message, repeated, tag = "5")]
        pub(super) idontwant: Vec<Ids>,
        #[prost(message, optional, tag = "6")]
        pub(super) extensions: Option<Extensions>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct IHave {
        #[prost(string, optional, tag = "1")]
        pub(super) topic: Option<String>,
        #[prost(bytes = "vec", repeated, tag = "2")]
        pub(super) ids: Vec<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Ids {
        #[prost(bytes = "vec", repeated, tag = "1")]
        pub(super) ids: Vec<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Graft {
        #[prost(string, optional, tag = "1")]
        pub(super) topic: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Prune {
        #[prost(string, optional, tag = "1")]
        pub(super) topic: Option<String>,
        #[prost(message, repeated, tag = "2")]
        pub(super) peers: Vec<PeerInfo>,
        #[prost(uint64, optional, tag = "3")]
        pub(super) backoff: Option<u64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PeerInfo {
        #[prost(bytes = "vec", optional, tag = "1")]
        pub(super) peer: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "2")]
        pub(super) record: Option<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Extensions {
        #[prost(bool, optional, tag = "10")]
        pub(super) partial: Option<bool>,
        #[prost(bool, optional, tag = "6492434")]
        pub(super) test: Option<bool>,
    }
}

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

fn id(bytes: &[u8]) -> MessageId {
    MessageId::new(bytes).unwrap()
}

fn read(bytes: impl Into<Bytes>) -> Result<Rpc, DecodeError> {
    decode(&bytes.into(), &Limits::default())
}

/// A frame without its length.
fn unframed(frame: &Bytes) -> Bytes {
    let mut input = &frame[..];
    let rpc = frame::Decoder::new(MAX_RPC).decode(&mut input).unwrap().unwrap();
    assert!(input.is_empty());
    rpc
}

fn by_prost(frame: &Bytes) -> schema::Rpc {
    schema::Rpc::decode(unframed(frame)).unwrap()
}

#[test]
fn what_is_written_is_what_the_schema_says() {
    let mut control = Control::default();
    control.ihave(&topic("a"), &[id(b"1"), id(&[0xff, 0xfe])]);
    control.iwant([&b"2"[..]]);
    control.graft(&topic("b"));
    let other = Keypair::from_ed25519_seed([2; 32]).peer_id();
    control.prune(&Prune {
        topic: topic("c"),
        peers: vec![Exchanged { peer: other, record: Some(Bytes::from_static(b"signed")) }],
        backoff: Some(60),
    });
    control.idontwant([&b"3"[..]]);
    control.extensions(Extensions { partial_messages: false, test: true });
    let frames = control.finish();
    let expected = schema::Control {
        ihave: vec![schema::IHave { topic: Some("a".into()), ids: vec![b"1".to_vec(), vec![0xff, 0xfe]] }],
        iwant: vec![schema::Ids { ids: vec![b"2".to_vec()] }],
        graft: vec![schema::Graft { topic: Some("b".into()) }],
        prune: vec![schema::Prune {
            topic: Some("c".into()),
            peers: vec![schema::PeerInfo { peer: Some(other.to_bytes()), record: Some(b"signed".to_vec()) }],
            backoff: Some(60),
        }],
        idontwant: vec![schema::Ids { ids: vec![b"3".to_vec()] }],
        extensions: Some(schema::Extensions { partial: None, test: Some(true) }),
    };
    assert_eq!(frames.len(), 1);
    assert_eq!(by_prost(&frames[0]).control, Some(expected));
    assert_eq!(by_prost(&test_extension()).test, Some(schema::Empty {}));
    assert!(Control::default().finish().is_empty());
}

#[test]
fn subscriptions_come_in_portions_that_everybody_takes() {
    let topics: Vec<_> = (0..201).map(|n| topic(&format!("{n}"))).collect();
    let frames = subscriptions(topics.into_iter().map(Subscription::to));
    let counts: Vec<_> = frames.iter().map(|frame| by_prost(frame).subscriptions.len()).collect();
    assert_eq!(counts, [100, 100, 1]);
    assert!(frames.iter().all(|frame| read(unframed(frame)).is_ok()));
    assert!(subscriptions([]).is_empty());
}

#[test]
fn many_ids_are_several_frames() {
    let ids: Vec<_> = (0..5000_u32).map(|n| id(&[&n.to_be_bytes()[..], &[0; 252]].concat())).collect();
    let mut control = Control::default();
    control.ihave(&topic("a"), &ids);
    let frames = control.finish();
    assert!(frames.len() > 4 && frames.iter().all(|frame| frame.len() < 300 << 10));
    let read: usize = frames
        .iter()
        .map(|frame| read(unframed(frame)).unwrap().ihave.iter().map(|one| one.ids.len()).sum::<usize>())
        .sum();
    assert_eq!(read, 5000);
}

/// A message that go-libp2p-pubsub would write: the bytes that are signed are the fields in order, without signature and
/// key, after the domain.
#[test]
fn the_signed_part_is_the_message_without_signature_and_key() {
    let message = WireMessage {
        from: Some(Bytes::from_static(b"f")),
        data: Some(Bytes::new()),
        sequence: Some(Bytes::from_static(b"s")),
        topic: topic("t"),
        signature: Some(Bytes::from_static(b"sig")),
        key: Some(Bytes::from_static(b"k")),
    };
    let signed_part = |message: &WireMessage| {
        let mut out = Vec::new();
        put_signed(message, &mut out);
        assert_eq!(out.len(), signed_len(message));
        out
    };
    assert_eq!(signed_part(&message), b"\x0a\x01f\x12\x00\x1a\x01s\x22\x01t");
    let without = WireMessage { data: None, ..message };
    assert_eq!(signed_part(&without), b"\x0a\x01f\x1a\x01s\x22\x01t", "empty is not the same as absent");
}

#[test]
fn a_signature_survives_the_wire() {
    let author = crate::Author::new(Keypair::from_ed25519_seed([1; 32]), 1);
    let message = author.write(topic("t"), Bytes::from_static(b"rain"), crate::Signing::Strict);
    let rpc = read(unframed(&publish(&message))).unwrap();
    assert_eq!(rpc.messages, [message]);
    assert_eq!(signing::verify(&rpc.messages[0]), Ok(()));
}

fn repeated(number: u32, entry: &[u8], count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    (0..count).for_each(|_| put_bytes(number, entry, &mut out));
    out
}

#[test]
fn limits_hold_at_n_and_not_at_n_plus_1() {
    let too_many = |what, max| Err(DecodeError::TooMany { what, max });
    for entry in [&b""[..], b"\x08\x01\x12\x01a"] {
        assert!(read(repeated(1, entry, MAX_SUBSCRIPTIONS)).is_ok());
        let more = read(repeated(1, entry, MAX_SUBSCRIPTIONS + 1));
        assert_eq!(more, too_many("subscriptions", MAX_SUBSCRIPTIONS), "empty entries count");
    }
    assert!(read(repeated(2, b"", MAX_MESSAGES)).is_ok());
    assert_eq!(read(repeated(2, b"", MAX_MESSAGES + 1)), too_many("messages", MAX_MESSAGES));
    let kinds = ["IHAVE", "IWANT", "GRAFT", "PRUNE", "IDONTWANT"];
    for (number, what) in (1..).zip(kinds) {
        let control = |count| repeated(3, &repeated(number, b"", count), 1);
        assert!(read(control(MAX_ENTRIES)).is_ok());
        assert_eq!(read(control(MAX_ENTRIES + 1)), too_many(what, MAX_ENTRIES));
        // Split over several control messages they are as many.
        let split = repeated(3, &repeated(number, b"", MAX_ENTRIES / 2 + 1), 2);
        assert_eq!(read(split), too_many(what, MAX_ENTRIES));
    }
    assert!(read(repeated(9, &[0; 1018], 1027)).is_ok());
    let long = vec![0; MAX_RPC + 1];
    assert_eq!(read(long), Err(DecodeError::TooLong { len: MAX_RPC + 1, max: MAX_RPC }));
}

#[test]
fn what_is_passed_over_and_counted() {
    // Ids beyond the limit, of all entries together, and ids that are none.
    let ids = |id: u32, count| repeated(id, b"id", count);
    let ihave = [repeated(1, b"t", 1), ids(2, MAX_IDS)].concat();
    let rpc = read(repeated(3, &repeated(1, &ihave, 2), 1)).unwrap();
    assert_eq!(rpc.ihave.iter().map(|one| one.ids.len()).sum::<usize>(), MAX_IDS);
    assert_eq!(rpc.skipped, MAX_IDS);
    let rpc = read(repeated(3, &repeated(2, &ids(1, MAX_IDS), 2), 1)).unwrap();
    assert_eq!((rpc.iwant.len(), rpc.skipped), (MAX_IDS, MAX_IDS));
    let odd = [repeated(1, b"", 1), repeated(1, &[0; 256], 1), repeated(1, &[0; 257], 1)].concat();
    let rpc = read(repeated(3, &repeated(5, &odd, 1), 1)).unwrap();
    assert_eq!((rpc.idontwant.len(), rpc.idontwant_entries, rpc.skipped), (1, 1, 2));
    // Topics that are none: empty, too long, not text.
    for (name, skipped) in [(vec![b'x'; 256], 0), (vec![b'x'; 257], 1), (vec![], 1), (vec![0xff], 1)] {
        let graft = repeated(3, &repeated(3, &repeated(1, &name, 1), 1), 1);
        assert_eq!(read(graft).unwrap().skipped, skipped);
        let message = repeated(2, &repeated(4, &name, 1), 1);
        assert_eq!(read(message).unwrap().skipped, skipped);
        let subscription = repeated(1, &repeated(2, &name, 1), 1);
        assert_eq!(read(subscription).unwrap().skipped, skipped);
    }
    // Peers of a PRUNE.
    let somebody = Keypair::from_ed25519_seed([2; 32]).peer_id();
    let peer = repeated(1, somebody.as_bytes(), 1);
    let prune = [repeated(1, b"t", 1), repeated(2, &peer, MAX_EXCHANGED + 3)].concat();
    let rpc = read(repeated(3, &repeated(4, &prune, 1), 1)).unwrap();
    assert_eq!((rpc.prunes[0].peers.len(), rpc.skipped), (MAX_EXCHANGED, 3));
    for (len, kept) in [(MAX_RECORD, true), (MAX_RECORD + 1, false)] {
        let peer = [peer.clone(), repeated(2, &vec![0; len], 1)].concat();
        let prune = [repeated(1, b"t", 1), repeated(2, &peer, 1)].concat();
        let rpc = read(repeated(3, &repeated(4, &prune, 1), 1)).unwrap();
        assert_eq!(rpc.prunes[0].peers[0].record.is_some(), kept);
    }
}

/// 349,525 topics in 4 MB, of which js-libp2p's gossipsub made 89 MB (CVE-2026-46679), are refused by their length; what
/// fits into an RPC, after a hundred.
#[test]
fn a_flood_of_subscriptions() {
    let entry = |n: u32| repeated(1, &repeated(2, &n.to_be_bytes(), 1), 1);
    let flood: Vec<u8> = (0..349_525).flat_map(entry).collect();
    let mut framed = Vec::new();
    frame::encode(&flood, &mut framed);
    let refused = frame::Decoder::new(MAX_RPC).decode(&mut &framed[..10]);
    assert!(matches!(refused, Err(frame::Error::TooLong { .. })), "in the poll in which its length is there");
    let fits = Bytes::from(flood).slice(..1_000_000);
    assert!(matches!(read(fits), Err(DecodeError::TooMany { what: "subscriptions", .. })));
}

#[test]
fn a_small_message_does_not_keep_a_large_frame() {
    let small = repeated(2, &[repeated(2, b"data", 1), repeated(4, b"t", 1)].concat(), 1);
    let frame = Bytes::from([small.clone(), repeated(9, &[0; 10_000], 1)].concat());
    let rpc = read(frame.clone()).unwrap();
    let within = |part: &Bytes| frame.as_ptr_range().contains(&part.as_ptr());
    assert!(!within(rpc.messages[0].data.as_ref().unwrap()));
    let alone = Bytes::from(small);
    let rpc = read(alone.clone()).unwrap();
    assert!(alone.as_ptr_range().contains(&rpc.messages[0].data.as_ref().unwrap().as_ptr()));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = read(bytes);
    }

    /// What prost takes, this takes, within its limits, and it finds the same messages.
    #[test]
    fn agrees_with_prost(messages in prop::collection::vec(message(), 0..4), more in prop::collection::vec(0..40_u8, 0..12)) {
        let rpc = schema::Rpc { publish: messages, ..schema::Rpc::default() };
        let mut bytes = rpc.encode_to_vec();
        bytes.extend(&more);
        if let (Ok(theirs), Ok(ours)) = (schema::Rpc::decode(&bytes[..]), read(bytes)) {
            let fits = |message: &&schema::Message| (1..=256).contains(&message.topic.len());
            let theirs: Vec<_> = theirs.publish.iter().filter(fits).map(|one| (one.data.clone(), one.seqno.clone())).collect();
            let ours: Vec<_> = ours.messages.iter().map(|one| {
                (one.data.as_ref().map(|data| data.to_vec()), one.sequence.as_ref().map(|number| number.to_vec()))
            }).collect();
            prop_assert_eq!(theirs, ours);
        }
    }

    #[test]
    fn messages_survive(message in message()) {
        let bytes = |part: Option<Vec<u8>>| part.map(Bytes::from);
        let Ok(topic) = Topic::new(&message.topic) else { return Ok(()) };
        let wire = WireMessage {
            from: bytes(message.from.clone()),
            data: bytes(message.data.clone()),
            sequence: bytes(message.seqno.clone()),
            topic,
            signature: bytes(message.signature.clone()),
            key: bytes(message.key.clone()),
        };
        let frame = publish(&wire);
        prop_assert_eq!(&by_prost(&frame).publish, &[message]);
        prop_assert_eq!(read(unframed(&frame)).unwrap().messages, [wire]);
    }
}

prop_compose! {
    fn message()(
        from: Option<Vec<u8>>,
        data: Option<Vec<u8>>,
        seqno: Option<Vec<u8>>,
        topic in "[a-z]{0,8}",
        signature: Option<Vec<u8>>,
        key: Option<Vec<u8>>,
    ) -> schema::Message {
        schema::Message { from, data, seqno, topic, signature, key }
    }
}
