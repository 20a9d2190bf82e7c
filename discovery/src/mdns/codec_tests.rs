use std::str::FromStr;

use hickory_proto::{
    op,
    rr::{self, RData, Record as TheirRecord, RecordType, rdata},
};
use peerage_core::Keypair;
use proptest::prelude::*;

use super::*;
use crate::mdns::vectors::SEEN;

fn names() -> Names {
    Names::new(None).unwrap()
}

fn peer(seed: u8) -> PeerId {
    Keypair::from_ed25519_seed([seed; 32]).peer_id()
}

fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn response(bytes: &[u8]) -> Response {
    match names().decode(bytes).unwrap() {
        Message::Response(response) => response,
        Message::Query(query) => panic!("{query:?}"),
    }
}

fn instance(attributes: &[String]) -> Instance {
    Instance {
        name: names().service.child("abcdefghijklmnopqrstuvwxyz0123456789abcd").unwrap(),
        host: names().local.child("abcdefghijklmnopqrstuvwxyz0123456789abcd").unwrap(),
        port: 4001,
        ips: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        attributes: attributes.to_vec(),
    }
}

fn attribute(address: &str, seed: u8) -> String {
    format!("dnsaddr={address}/p2p/{}", peer(seed))
}

/// A message of records that all have the same name, type and data.
fn message(flags: u16, counts: [u16; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(counts.into_iter().flat_map(u16::to_be_bytes));
    bytes.extend(body);
    bytes
}

fn txt(name: &[u8], strings: &[&[u8]]) -> Vec<u8> {
    let data: Vec<u8> =
        strings.iter().flat_map(|text| [&[u8::try_from(text.len()).unwrap()][..], text].concat()).collect();
    let fixed = [0, 16, 0, 1, 0, 0, 0, 120];
    [name, &fixed[..], &u16::try_from(data.len()).unwrap().to_be_bytes(), &data].concat()
}

#[test]
fn the_question_is_that_of_the_spec() {
    let expected = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x04_p2p\x04_udp\x05local\0\0\x0c\0\x01";
    assert_eq!(query(&names(), 0x1234), expected);
    let read = Query { id: 0x1234, questions: vec![Question::Peers], known: Vec::new() };
    assert_eq!(names().decode(expected), Ok(Message::Query(read)));
}

#[test]
fn a_private_network_has_a_name_of_its_own() {
    let private = Names::new(Some("0f1e2d3c4b5a69788796a5b4c3d2e1f0")).unwrap();
    assert_eq!(format!("{:?}", private.service), "_p2p-0f1e2d3c4b5a69788796a5b4c3d2e1f0._udp.local.");
    let Ok(Message::Query(query)) = private.decode(&query(&names(), 1)) else { panic!("not read") };
    assert_eq!(query.questions, [Question::About(names().service)], "it is nobody's business here");
    let public = announcement(&names(), &instance(&[attribute("/ip4/192.0.2.1/tcp/1", 1)]), Duration::ZERO);
    assert_eq!(private.decode(&public), Ok(Message::Response(Response::default())));
}

/// What go, py, js and rust send: every address is read.
#[test]
fn other_implementations_are_understood() {
    let mut all = addresses(&["/ip4/10.9.0.2/tcp/4101", "/ip4/127.0.0.1/tcp/4102", "/ip4/10.9.0.2/tcp/4103"]);
    all.sort();
    for seen in &SEEN {
        let mut response = response(&seen.bytes());
        assert_eq!((response.announced.len(), response.gone.len()), (1, 0), "{}", seen.of);
        let announced = &mut response.announced[0];
        announced.addresses.sort();
        assert_eq!(announced.peer, PeerId::from_str(seen.peer).unwrap(), "{}", seen.of);
        assert!(announced.ttl >= Duration::from_secs(120), "{}", seen.of);
        // rust-libp2p names no addresses of other interfaces.
        let expected: Vec<_> =
            all.iter().filter(|address| !seen.of.contains("libp2p-mdns") || !address.is_loopback()).collect();
        assert_eq!(announced.addresses.iter().collect::<Vec<_>>(), expected, "{}", seen.of);
    }
}

#[test]
fn what_is_written_is_read_here_and_by_another_parser() {
    let attributes =
        [attribute("/ip4/192.0.2.1/tcp/4001", 1), attribute("/ip6/2001:db8::1/udp/1/quic-v1", 1)];
    let instance = instance(&attributes);
    let bytes = announcement(&names(), &instance, Duration::from_secs(120));
    let announced = Announced {
        instance: instance.name.clone(),
        peer: peer(1),
        addresses: addresses(&["/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/udp/1/quic-v1"]),
        ttl: Duration::from_secs(120),
        whole: true,
    };
    assert_eq!(response(&bytes), Response { announced: vec![announced], gone: Vec::new() });

    let theirs = op::Message::from_vec(&bytes).unwrap();
    assert!(theirs.queries.is_empty(), "or rust-libp2p takes it for a question");
    let label = "abcdefghijklmnopqrstuvwxyz0123456789abcd";
    let [ptr] = &theirs.answers[..] else { panic!("{:?}", theirs.answers) };
    let RData::PTR(target) = &ptr.data else { panic!("{ptr:?}") };
    assert_eq!(ptr.name.to_string(), "_p2p._udp.local.");
    assert_eq!(target.to_string(), format!("{label}._p2p._udp.local."));
    let kinds: Vec<RecordType> = theirs.additionals.iter().map(TheirRecord::record_type).collect();
    assert_eq!(kinds, [RecordType::SRV, RecordType::TXT, RecordType::A, RecordType::AAAA]);
    for record in &theirs.additionals {
        match &record.data {
            RData::SRV(srv) => {
                assert_eq!((srv.port, srv.target.to_string()), (4001, format!("{label}.local.")))
            }
            RData::TXT(txt) => {
                let texts: Vec<String> =
                    txt.txt_data.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
                assert_eq!(texts, attributes);
            }
            RData::A(ip) => assert_eq!(ip.to_string(), "192.0.2.1"),
            RData::AAAA(ip) => assert_eq!(ip.to_string(), "2001:db8::1"),
            other => panic!("{other:?}"),
        }
    }

    let theirs = op::Message::from_vec(&services(&names(), Duration::from_secs(120))).unwrap();
    assert_eq!(theirs.answers[0].name.to_string(), "_services._dns-sd._udp.local.");
    assert!(matches!(&theirs.answers[0].data, RData::PTR(name) if name.to_string() == "_p2p._udp.local."));
}

/// Written by another implementation, names pointing to one another.
#[test]
fn what_another_writer_compresses_is_read() {
    let name = |text: &str| rr::Name::from_str(text).unwrap();
    let (service, instance) = (name("_p2p._udp.local."), name("Some-Name._p2p._udp.local."));
    let mut theirs = op::Message::new(7, op::MessageType::Response, op::OpCode::Query);
    let pointer = RData::PTR(rdata::PTR(instance.clone()));
    theirs.add_answer(TheirRecord::from_rdata(service.clone(), 0, pointer.clone()));
    theirs.add_answer(TheirRecord::from_rdata(service.clone(), 60, pointer));
    let srv = RData::SRV(rdata::SRV::new(0, 0, 1, name("host.local.")));
    theirs.add_additional(TheirRecord::from_rdata(instance.clone(), 60, srv));
    let texts = vec![attribute("/ip4/192.0.2.1/tcp/1", 1), "other=1".into(), String::new()];
    let texts = RData::TXT(rdata::TXT::new(texts));
    theirs.add_additional(TheirRecord::from_rdata(instance, 60, texts));
    let read = response(&theirs.to_vec().unwrap());
    let instance = names().service.child("some-name").unwrap();
    assert_eq!(read.gone, std::slice::from_ref(&instance));
    assert_eq!(read.announced[0].instance, instance);
    assert_eq!(read.announced[0].addresses, addresses(&["/ip4/192.0.2.1/tcp/1"]));
}

#[test]
fn questions_and_what_is_known_already() {
    let mut theirs = op::Message::new(7, op::MessageType::Query, op::OpCode::Query);
    let name = |text: &str| rr::Name::from_str(text).unwrap();
    for (text, kind) in [
        ("_p2p._udp.local.", RecordType::PTR),
        ("_P2P._udp.local.", RecordType::ANY),
        ("_services._dns-sd._udp.local.", RecordType::PTR),
        ("a._p2p._udp.local.", RecordType::TXT),
    ] {
        theirs.add_query(op::Query::query(name(text), kind));
    }
    let pointer = RData::PTR(rdata::PTR(name("b._p2p._udp.local.")));
    theirs.add_answer(TheirRecord::from_rdata(name("_p2p._udp.local."), 60, pointer));
    let expected = Query {
        id: 7,
        questions: vec![
            Question::Peers,
            Question::Peers,
            Question::Services,
            Question::About(names().service.child("a").unwrap()),
        ],
        known: vec![(names().service.child("b").unwrap(), Duration::from_secs(60))],
    };
    assert_eq!(names().decode(&theirs.to_vec().unwrap()), Ok(Message::Query(expected)));
}

#[test]
fn attributes() {
    let id = peer(1);
    let read = |text: String| dnsaddr(text.as_bytes());
    for key in ["dnsaddr", "DNSADDR", "dnsaddr2", "dnsaddr17"] {
        let (who, address) = read(format!("{key}=/ip4/192.0.2.1/tcp/1/p2p/{id}")).unwrap();
        assert_eq!((who, address.to_string()), (id, "/ip4/192.0.2.1/tcp/1".into()), "{key}");
    }
    for wrong in [
        format!("dnsaddrx=/ip4/192.0.2.1/tcp/1/p2p/{id}"),
        format!("dnsadd=/ip4/192.0.2.1/tcp/1/p2p/{id}"),
        format!("dnsaddr /ip4/192.0.2.1/tcp/1/p2p/{id}"),
        "dnsaddr=/ip4/192.0.2.1/tcp/1".into(),
        format!("dnsaddr=/p2p/{id}"),
        "dnsaddr=".into(),
        "=".into(),
        String::new(),
        format!("dnsaddr=/ip4/192.0.2.1/tcp/1/p2p/{id}/p2p-circuit/p2p/{}", peer(2)),
    ] {
        assert_eq!(read(wrong.clone()), None, "{wrong}");
    }
}

#[test]
fn an_instance_is_one_peer() {
    let attributes = [attribute("/ip4/192.0.2.1/tcp/1", 1), attribute("/ip4/192.0.2.2/tcp/1", 2)];
    let read = response(&announcement(&names(), &instance(&attributes), Duration::from_secs(1)));
    assert_eq!(read.announced.len(), 1);
    assert_eq!((read.announced[0].peer, read.announced[0].addresses.len()), (peer(1), 1));
}

/// Texts that belong to something else are not taken.
#[test]
fn a_text_counts_if_it_belongs_to_the_service() {
    let text = attribute("/ip4/192.0.2.1/tcp/1", 1);
    let read =
        |name: &[u8]| response(&message(0x8400, [0, 1, 0, 0], &txt(name, &[text.as_bytes()]))).announced;
    assert_eq!(read(b"\x01a\x04_p2p\x04_udp\x05local\0").len(), 1);
    assert_eq!(read(b"\x01a\x05_http\x04_tcp\x05local\0").len(), 0);
    assert_eq!(read(b"\x01a\0").len(), 0, "nothing points to it");
    let pointer = b"\x04_p2p\x04_udp\x05local\0\0\x0c\0\x01\0\0\0\x78\0\x03\x01a\0";
    let body = [&txt(b"\x01a\0", &[text.as_bytes()])[..], pointer].concat();
    assert_eq!(response(&message(0x8400, [0, 1, 0, 1], &body)).announced.len(), 1, "as rust-libp2p does it");
}

#[test]
fn other_kinds_of_messages_are_not_read() {
    for flags in [0x0800, 0x7800, 0x8001, 0x000f] {
        assert_eq!(names().decode(&message(flags, [0; 4], &[])), Err(DecodeError::Kind), "{flags:x}");
    }
}

#[test]
fn a_message_has_so_many_bytes() {
    let padded = |length: usize| [&query(&names(), 1)[..], &vec![0; length]].concat();
    let room = MAX_MESSAGE - query(&names(), 1).len();
    assert!(names().decode(&padded(room)).is_ok());
    assert_eq!(names().decode(&padded(room + 1)), Err(DecodeError::TooLong(MAX_MESSAGE + 1)));
}

#[test]
fn a_message_has_so_many_entries() {
    let question = b"\x01a\0\0\x01\0\x01";
    let most = u16::try_from(MAX_ENTRIES).unwrap();
    let ask = |count: u16| names().decode(&message(0, [count, 0, 0, 0], &question.repeat(count.into())));
    assert!(ask(most).is_ok());
    assert_eq!(ask(most + 1), Err(DecodeError::TooMany(MAX_ENTRIES + 1)));
    // Before anything is read, and all sections together.
    let each = u16::MAX;
    assert_eq!(names().decode(&message(0x8000, [each; 4], &[])), Err(DecodeError::TooMany(4 * 65_535)));
    let record = txt(b"\x01a\0", &[b"x"]);
    let records = |counts: [u16; 4]| {
        let body = record.repeat(counts.iter().map(|count| usize::from(*count)).sum());
        names().decode(&message(0x8400, counts, &body))
    };
    assert!(records([0, most / 2, 0, most / 2]).is_ok());
    assert!(records([0, most / 2, 1, most / 2]).is_err());
}

#[test]
fn so_many_addresses_are_taken() {
    let texts = |count: usize| -> Vec<String> {
        (0..count).map(|n| attribute(&format!("/ip4/192.0.2.1/tcp/{}", n + 1), 1)).collect()
    };
    let read = |count: usize| {
        let read = response(&announcement(&names(), &instance(&texts(count)), Duration::from_secs(1)));
        read.announced[0].addresses.len()
    };
    assert_eq!(read(MAX_FOUND_ADDRESSES), MAX_FOUND_ADDRESSES);
    assert_eq!(read(MAX_FOUND_ADDRESSES + 1), MAX_FOUND_ADDRESSES);
    // Repeated ones take no place.
    let twice = [texts(2), texts(2)].concat();
    let read = response(&announcement(&names(), &instance(&twice), Duration::from_secs(1)));
    assert_eq!(read.announced[0].addresses.len(), 2);
}

/// A question whose name is the last of a chain of pointers.
fn chain(pointers: usize) -> Vec<u8> {
    // The first record's data: a label, and a pointer to each pointer before.
    let mut data = b"\x01a\0".to_vec();
    let start = HEADER + 1 + 10;
    let mut target = start;
    for _ in 1..pointers {
        let at = start + data.len();
        data.extend((0xc000 | u16::try_from(target).unwrap()).to_be_bytes());
        target = at;
    }
    let length = u16::try_from(data.len()).unwrap();
    let first = [b"\0\0\x63\0\x01\0\0\0\x01", &length.to_be_bytes()[..], &data].concat();
    let pointer = (0xc000 | u16::try_from(target).unwrap()).to_be_bytes();
    let second = [&pointer[..], b"\0\x63\0\x01\0\0\0\x01\0\0"].concat();
    message(0x8400, [0, 2, 0, 0], &[first, second].concat())
}

#[test]
fn so_many_pointers_are_followed() {
    assert!(names().decode(&chain(MAX_POINTERS)).is_ok());
    assert_eq!(names().decode(&chain(MAX_POINTERS + 1)), Err(DecodeError::Name));
}

#[test]
fn names_that_lead_nowhere() {
    let ask = |name: &[u8]| names().decode(&message(0, [1, 0, 0, 0], &[name, b"\0\x0c\0\x01"].concat()));
    assert!(ask(b"\x01a\0").is_ok());
    for (name, why) in [
        (&b"\xc0\x0c"[..], "to itself"),
        (b"\x01a\xc0\x0c", "to where it began"),
        (b"\x01a\xc0\x0e", "into itself"),
        (b"\xc0\x20", "ahead"),
        (b"\xff\xff", "out of the message"),
        (b"\xc0\x00", "into the header"),
        (b"\x40a\0", "a reserved kind of label"),
        (b"\x80a\0", "the other"),
    ] {
        assert_eq!(ask(name), Err(DecodeError::Name), "{why}");
    }
    // Two that point to each other: the later one is refused.
    let body = b"\xc0\x12\0\x0c\0\x01\xc0\x0c\0\x0c\0\x01";
    assert_eq!(names().decode(&message(0, [2, 0, 0, 0], body)), Err(DecodeError::Name));
    let label = [&[63][..], &[b'a'; 63]].concat();
    assert_eq!(ask(&[label.repeat(4), vec![0]].concat()), Err(DecodeError::Name), "257 bytes");
}

#[test]
fn what_is_cut_off_is_refused() {
    for seen in &SEEN {
        let bytes = seen.bytes();
        for length in 0..bytes.len() {
            let cut = names().decode(&bytes[..length]);
            assert!(matches!(cut, Err(DecodeError::Truncated | DecodeError::Name)), "{} {length}", seen.of);
        }
    }
    // A string that claims more than its record has.
    let mut record = txt(b"\x01a\x04_p2p\x04_udp\x05local\0", &[b"dnsaddr=/ip4/192.0.2.1/tcp/1"]);
    let at = record.len() - 29;
    record[at] = 255;
    assert_eq!(response(&message(0x8400, [0, 1, 0, 0], &record)), Response::default());
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = names().decode(&bytes);
    }

    /// With a header that is right, more of it is reached.
    #[test]
    fn whatever_is_in_a_message(
        flags in prop_oneof![Just(0_u16), Just(0x8400)],
        counts in proptest::array::uniform4(0_u16..8),
        body in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(12), Just(16), Just(0xc0), any::<u8>()], 0..400),
    ) {
        if let Ok(Message::Response(response)) = names().decode(&message(flags, counts, &body)) {
            prop_assert!(response.announced.len() + response.gone.len() <= MAX_ENTRIES);
        }
    }

    #[test]
    fn every_instance_comes_back(
        label in "[a-z0-9]{32,63}",
        ports in proptest::collection::btree_set(1_u16.., 1..8),
        ttl in any::<u32>(),
    ) {
        let attributes: Vec<String> =
            ports.iter().map(|port| attribute(&format!("/ip4/192.0.2.1/tcp/{port}"), 1)).collect();
        let mut instance = instance(&attributes);
        instance.name = names().service.child(&label).unwrap();
        instance.host = names().local.child(&label).unwrap();
        let ttl = Duration::from_secs(ttl.into());
        let read = response(&announcement(&names(), &instance, ttl));
        prop_assert_eq!(&read.announced[0].instance, &instance.name);
        prop_assert_eq!(read.announced[0].addresses.len(), ports.len());
        prop_assert_eq!(read.announced[0].ttl, ttl);
        prop_assert_eq!(read.gone.len(), usize::from(ttl.is_zero()));
    }
}
