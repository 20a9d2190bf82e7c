use peerage_core::Keypair;
use proptest::prelude::*;

use super::*;

fn keypair() -> Keypair {
    Keypair::from_ed25519_seed([3; 32])
}

fn address(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid")
}

fn answer(addresses: usize, protocols: usize) -> Vec<u8> {
    let addresses: Vec<_> = (0..addresses).map(|i| address(i as u16 + 1)).collect();
    let protocols: Vec<_> =
        (0..protocols).map(|i| ProtocolId::new(format!("/protocol/{i:040}")).expect("valid")).collect();
    let record = PeerRecord::new(keypair().peer_id(), 7, addresses.clone()).expect("not too many");
    let envelope = record.seal(&keypair()).expect("ours").encode();
    encode(Own {
        public_key: keypair().public(),
        agent: "test/1",
        listen_addrs: &addresses,
        observed_addr: &address(9),
        protocols: &protocols,
        envelope: (!addresses.is_empty()).then(|| envelope.into()),
    })
}

fn decode_from(peer: PeerId, bytes: &[u8]) -> Result<Info, DecodeError> {
    let mut decoder = Decoder::new(peer, Arc::default());
    decoder.feed(bytes)?;
    decoder.finish()
}

fn decode(bytes: &[u8]) -> Result<Info, DecodeError> {
    decode_from(keypair().peer_id(), bytes)
}

fn framed(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    messages.iter().for_each(|message| frame::encode(&message.encode_to_vec(), &mut out));
    out
}

#[test]
fn what_is_said_is_what_is_heard() {
    let info = decode(&answer(2, 3)).expect("ours");
    assert_eq!(info.public_key.as_ref(), Some(keypair().public()));
    assert_eq!(info.protocol_version, PROTOCOL_VERSION);
    assert_eq!(info.agent_version, "test/1");
    assert_eq!(info.listen_addrs, [address(1), address(2)]);
    assert_eq!(info.observed_addr, Some(address(9)));
    assert_eq!(info.protocols.len(), 3);
    assert!(!info.incomplete);
    let PeerRecordState::Valid(record) = info.signed_record else { panic!("{:?}", info.signed_record) };
    assert_eq!((record.seq(), record.addresses()), (7, &[address(1), address(2)][..]));
}

#[test]
fn the_fields_have_the_numbers_of_the_spec() {
    // identify/README.md: publicKey 1, listenAddrs 2, protocols 3, observedAddr 4, protocolVersion 5, agentVersion 6.
    let bytes = [
        &b"\x19"[..],
        b"\x12\x05\x04\x7f\x00\x00\x01",
        b"\x1a\x03/ab",
        b"\x22\x05\x04\x7f\x00\x00\x02",
        b"\x2a\x01v",
        b"\x32\x01g",
    ]
    .concat();
    let info = decode(&bytes).expect("the spec's");
    assert_eq!(info.listen_addrs, ["/ip4/127.0.0.1".parse().expect("valid")]);
    assert_eq!(info.observed_addr, Some("/ip4/127.0.0.2".parse().expect("valid")));
    assert_eq!((info.protocol_version.as_str(), info.agent_version.as_str()), ("v", "g"));
    assert_eq!(info.protocols, [ProtocolId::from_static("/ab")]);
    assert_eq!((info.public_key, info.signed_record), (None, PeerRecordState::Absent));
}

#[test]
fn a_long_answer_comes_in_several_messages_that_everybody_takes() {
    let bytes = answer(MAX_ADDRESSES, MAX_PROTOCOLS);
    let mut frames = frame::Decoder::new(MAX_MESSAGE);
    let (mut rest, mut lengths) = (&bytes[..], Vec::new());
    while let Some(message) = frames.decode(&mut rest).expect("ours") {
        lengths.push(message.len());
    }
    assert!(lengths.len() > 1 && lengths.len() <= MAX_MESSAGES, "{lengths:?}");
    // rust-libp2p takes 4,096 bytes.
    assert!(lengths.iter().all(|len| *len <= 4_096), "{lengths:?}");
    let info = decode(&bytes).expect("ours");
    assert_eq!((info.listen_addrs.len(), info.protocols.len()), (MAX_ADDRESSES, MAX_PROTOCOLS));
    assert!(!info.incomplete && matches!(info.signed_record, PeerRecordState::Valid(_)));
}

#[test]
fn more_than_is_kept_is_cut_and_said_so() {
    let message = |addresses: usize, protocols: usize| Message {
        listen_addrs: vec![Bytes::copy_from_slice(address(1).as_bytes()); addresses],
        protocols: vec!["/p".to_owned(); protocols],
        ..Message::default()
    };
    for (addresses, protocols, incomplete) in
        [(MAX_ADDRESSES, MAX_PROTOCOLS, false), (MAX_ADDRESSES + 1, 0, true), (0, MAX_PROTOCOLS + 1, true)]
    {
        let info = decode(&framed(&[message(addresses, protocols)])).expect("cut");
        assert_eq!(info.incomplete, incomplete);
        assert!(info.listen_addrs.len() <= MAX_ADDRESSES && info.protocols.len() <= MAX_PROTOCOLS);
    }
    // The lists of several messages are one list.
    let twice = framed(&[message(0, MAX_PROTOCOLS), message(0, 1)]);
    assert!(decode(&twice).expect("cut").incomplete);
}

#[test]
fn bombs_are_refused_before_they_are_decoded() {
    let fields = |count: usize| {
        let mut out = Vec::new();
        frame::encode(&[0x12, 0x00].repeat(count), &mut out);
        out
    };
    decode(&fields(MAX_FIELDS)).expect("as many as are allowed");
    assert!(matches!(decode(&fields(MAX_FIELDS + 1)), Err(DecodeError::Shape(_))));

    let of_length = |len: usize| {
        let message = Message { agent_version: Some("a".repeat(len - 3)), ..Message::default() };
        assert_eq!(message.encoded_len(), len);
        framed(&[message])
    };
    let info = decode(&of_length(MAX_MESSAGE)).expect("as long as is allowed");
    assert_eq!(info.agent_version.len(), MAX_AGENT);
    assert!(matches!(decode(&of_length(MAX_MESSAGE + 1)), Err(DecodeError::Frame(_))));
    // Only the prefix has come.
    assert!(matches!(decode(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(DecodeError::Frame(_))));

    let small = Message { agent_version: Some("a".into()), ..Message::default() };
    decode(&framed(&vec![small.clone(); MAX_MESSAGES])).expect("as many as are allowed");
    assert_eq!(decode(&framed(&vec![small; MAX_MESSAGES + 1])), Err(DecodeError::TooManyMessages));
}

#[test]
fn a_broken_record_costs_only_itself() {
    let other = Keypair::from_ed25519_seed([4; 32]);
    let foreign = PeerRecord::new(other.peer_id(), 1, vec![address(1)]).expect("small");
    let foreign = foreign.seal(&other).expect("own").encode();
    for record in [b"nonsense".to_vec(), foreign] {
        let message = Message {
            protocols: vec!["/a".into()],
            signed_peer_record: Some(record.into()),
            ..Message::default()
        };
        let info = decode(&framed(&[message])).expect("the rest is fine");
        assert!(matches!(info.signed_record, PeerRecordState::Invalid(_)));
        assert_eq!(info.protocols.len(), 1);
    }
}

#[test]
fn what_is_no_address_and_no_protocol_is_left_out() {
    let message = Message {
        listen_addrs: vec![Bytes::from_static(&[0xff, 0xff]), Bytes::copy_from_slice(address(1).as_bytes())],
        protocols: vec![String::new(), "/a".into(), "/a\nb".into()],
        observed_addr: Some(Bytes::from_static(&[0xff])),
        agent_version: Some("red \u{1b}[31m\r\n".into()),
        ..Message::default()
    };
    let info = decode(&framed(&[message])).expect("the rest is fine");
    assert_eq!((info.listen_addrs.len(), info.protocols.len()), (1, 1));
    assert_eq!(info.observed_addr, None);
    assert!(!info.agent_version.chars().any(char::is_control), "nothing that a terminal obeys");
    assert!(info.incomplete);
}

#[test]
fn another_key_than_the_proven_one_is_a_lie() {
    let other = Keypair::from_ed25519_seed([4; 32]).peer_id();
    assert_eq!(decode_from(other, &answer(1, 1)), Err(DecodeError::WrongKey));
    // A key of a kind that this node does not read is no lie.
    let rsa = Message { public_key: Some(Bytes::from_static(&[8, 0, 18, 1, 0])), ..Message::default() };
    assert_eq!(decode(&framed(&[rsa])).expect("fine").public_key, None);
}

#[test]
fn half_an_answer_is_none() {
    let bytes = answer(1, 1);
    assert_eq!(decode(&[]), Err(DecodeError::Empty));
    for end in 1..bytes.len() {
        assert_eq!(decode(&bytes[..end]), Err(DecodeError::Frame(frame::Error::Truncated)), "at {end}");
    }
}

proptest! {
    #[test]
    fn anything_is_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode(&bytes);
        let mut whole = Vec::new();
        frame::encode(&bytes, &mut whole);
        let _ = decode(&whole);
    }

    #[test]
    fn the_pieces_do_not_matter(cut in 0_usize..400, addresses in 0_usize..8, protocols in 0_usize..8) {
        let bytes = answer(addresses, protocols);
        let mut decoder = Decoder::new(keypair().peer_id(), Arc::default());
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        decoder.feed(first).expect("ours");
        decoder.feed(second).expect("ours");
        prop_assert_eq!(decoder.finish(), decode(&bytes));
    }
}

/// S10 of the hostile scenarios; go-libp2p#3501 for the many messages.
#[test]
fn s10_ten_thousand_addresses_a_hundred_thousand_protocols_and_a_mebibyte_of_agent() {
    let address = Bytes::copy_from_slice(address(1).as_bytes());
    let named = Message { protocols: vec!["/p".to_owned()], ..Message::default() };
    for huge in [
        Message { listen_addrs: vec![address; 10_000], ..named.clone() },
        Message { protocols: vec!["/p".to_owned(); 100_000], ..named.clone() },
        Message { agent_version: Some("a".repeat(1 << 20)), ..named.clone() },
        Message { signed_peer_record: Some(vec![0; 1 << 20].into()), ..named.clone() },
    ] {
        assert!(matches!(decode(&framed(&[huge])), Err(DecodeError::Frame(_))), "refused by its length");
    }
    // As many as fit into every message that is read.
    let full = Message { protocols: vec!["/p".to_owned(); 1_000], ..named.clone() };
    let info = decode(&framed(&vec![full.clone(); MAX_MESSAGES])).expect("it is cut");
    assert_eq!((info.protocols.len(), info.incomplete), (MAX_PROTOCOLS, true));
    assert_eq!(decode(&framed(&vec![full; MAX_MESSAGES + 1])), Err(DecodeError::TooManyMessages));
}

#[test]
fn s10_the_records_of_others_are_not_kept() {
    let other = Keypair::from_ed25519_seed([4; 32]);
    let record = PeerRecord::new(other.peer_id(), 1, vec![address(1)]).expect("one address");
    let envelope = record.seal(&other).expect("its own").encode();
    let info =
        decode(&framed(&[Message { signed_peer_record: Some(envelope.into()), ..Message::default() }]));
    let info = info.expect("the rest is fine");
    assert!(matches!(info.signed_record, PeerRecordState::Invalid(_)) && info.envelope.is_none());
    assert!(info.certified().is_none());
}
