use peerage_core::{ProtocolId, engine::sim::Sim};
use proptest::prelude::*;

use super::{
    super::{
        AddressError, AddressInfo, KEPT_UNCONNECTED, MAX_ADDRESSES_PER_PEER, MAX_AGENT,
        MAX_PROTOCOLS_PER_PEER, on_connection,
    },
    *,
};
use crate::{hub::ConnectionEvent, limits::ConnectionId};

type Book = Sim<Engine>;

const SECOND: Duration = Duration::from_secs(1);
const KAD: Source = Source::Other("kad");

fn peer(n: u16) -> PeerId {
    let [a, b] = n.to_be_bytes();
    PeerId::from_bytes(&[0, 2, a, b]).unwrap()
}

fn address(n: u16) -> Multiaddr {
    format!("/ip4/10.0.0.1/tcp/{n}").parse().unwrap()
}

fn book() -> Book {
    Sim::new(Engine::new())
}

fn add(book: &mut Book, who: u16, addresses: &[u16], source: Source, ttl: Duration) {
    let addresses = addresses.iter().map(|n| address(*n)).collect();
    book.command(Command::Add { peer: peer(who), addresses, source, ttl: Some(ttl) });
}

fn lookup(book: &mut Book, who: u16) -> Vec<Multiaddr> {
    [false, true].into_iter().flat_map(|hearsay| lookup_by(book, who, hearsay)).collect()
}

fn lookup_by(book: &mut Book, who: u16, hearsay: bool) -> Vec<Multiaddr> {
    book.command(Command::Lookup { peer: peer(who), hearsay, reply: Reply::new(drop) });
    let mut actions = book.actions();
    assert_eq!(actions.len(), 1);
    match actions.pop() {
        Some(Action::AnswerLookup { addresses, .. }) => addresses,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_this_node_knows_for_itself_is_not_hearsay() {
    let mut book = book();
    let minute = 60 * SECOND;
    for (n, source) in [(1, KAD), (2, Source::Identify), (3, Source::Manual), (99, Source::Identify)] {
        add(&mut book, 1, &[n], source, minute);
    }
    connect(&mut book, 1, 1, Direction::Outbound, true);
    assert_eq!(lookup_by(&mut book, 1, false), [address(99), address(3)]);
    assert_eq!(lookup_by(&mut book, 1, true), [address(2), address(1)]);
}

fn known(book: &mut Book, who: u16) -> Option<PeerInfo> {
    book.command(Command::Known { peer: peer(who), reply: Reply::new(drop) });
    let mut actions = book.actions();
    assert_eq!(actions.len(), 1);
    match actions.pop() {
        Some(Action::AnswerKnown { info, .. }) => info,
        other => panic!("{other:?}"),
    }
}

fn info(id: u64, who: u16, direction: Direction, port: u16) -> ConnInfo {
    let (id, peer) = (ConnectionId(id), peer(who));
    ConnInfo {
        id,
        peer,
        direction,
        limited: false,
        local: address(1),
        remote: address(port),
        security: peerage_core::ProtocolId::from_static("/noise"),
        muxer: peerage_core::ProtocolId::from_static("/yamux/1.0.0"),
    }
}

fn connect(book: &mut Book, id: u64, who: u16, direction: Direction, first: bool) {
    book.command(on_connection(ConnectionEvent::Opened { info: info(id, who, direction, 99), first }));
}

fn disconnect(book: &mut Book, id: u64, who: u16, last: bool) {
    let info = info(id, who, Direction::Inbound, 99);
    book.command(on_connection(ConnectionEvent::Closed { info, last, reason: String::new() }));
}

fn said(protocols: Vec<ProtocolId>, agent: &str) -> Said {
    Said { protocols, agent: agent.to_owned(), addresses: Vec::new(), record: None, certified: Vec::new() }
}

fn worked(book: &mut Book, who: u16, port: u16) {
    let now = book.now();
    book.engine_mut().edit_or_new(peer(who), now, |entry| {
        entry.worked(&address(port), now.after(WORKED_TTL), now);
    });
}

fn failed(book: &mut Book, who: u16, port: u16) {
    book.command(Command::Failed { peer: peer(who), address: address(port) });
}

/// The indexes say what the entries say.
fn check(engine: &Engine) {
    let lapses = engine.peers.iter().filter_map(|(peer, entry)| Some((entry.lapses()?, *peer)));
    assert_eq!(engine.lapses, lapses.collect());
    let idle = engine.peers.iter().filter(|(_, entry)| !entry.is_connected());
    let idle = idle.map(|(peer, entry)| (entry.standing(), entry.used, *peer));
    assert_eq!(engine.idle, idle.collect());
    assert!(engine.peers.len() <= MAX_PEERS);
    assert!(engine.peers.values().all(|entry| !entry.is_empty()));
    assert!(
        engine.peers.values().all(|entry| [false, true]
            .map(|hearsay| entry.ranked(hearsay).len())
            .iter()
            .sum::<usize>()
            <= MAX_ADDRESSES_PER_PEER)
    );
}

fn assert_empty(book: &Book) {
    check(book.engine());
    assert!(book.engine().peers.is_empty());
    assert_eq!(book.next_deadline(), None);
}

#[test]
fn addresses_of_others_are_refused_and_the_own_id_is_stripped() {
    let mut book = book();
    let with = |n, who| format!("{}/p2p/{}", address(n), peer(who)).parse::<Multiaddr>().unwrap();
    let only_peer: Multiaddr = format!("/p2p/{}", peer(1)).parse().unwrap();
    let addresses = vec![with(1, 1), with(2, 2), address(1), only_peer.clone()];
    book.command(Command::Add { peer: peer(1), addresses, source: KAD, ttl: None });
    assert_eq!(lookup(&mut book, 1), [address(1)]);
    assert_eq!(address_of(peer(1), &only_peer), Err(AddressError::Empty));
    let other = AddressError::OtherPeer { found: peer(2), expected: peer(1) };
    assert_eq!(address_of(peer(1), &with(2, 2)), Err(other));

    let relay: Multiaddr = format!("{}/p2p-circuit", with(3, 2)).parse().unwrap();
    assert_eq!(address_of(peer(1), &relay), Ok(relay.clone()), "the relay's id is not the destination's");
}

#[test]
fn nothing_is_known_of_whom_nothing_valid_was_said() {
    let mut book = book();
    let addresses = vec![format!("/p2p/{}", peer(1)).parse().unwrap()];
    book.command(Command::Add { peer: peer(1), addresses, source: KAD, ttl: None });
    add(&mut book, 1, &[1], KAD, Duration::ZERO);
    failed(&mut book, 1, 1);
    disconnect(&mut book, 1, 1, true);
    assert_eq!(known(&mut book, 1), None);
    assert!(lookup(&mut book, 1).is_empty());
    assert_empty(&book);
}

#[test]
fn an_address_expires_on_time() {
    let mut book = book();
    add(&mut book, 1, &[1], KAD, 10 * SECOND);
    add(&mut book, 1, &[2], KAD, 20 * SECOND);
    add(&mut book, 1, &[2], KAD, 5 * SECOND);
    assert_eq!(book.next_deadline().unwrap().reason, "an address expires");
    book.advance(10 * SECOND - Duration::from_nanos(1));
    assert_eq!(lookup(&mut book, 1).len(), 2);
    book.advance(Duration::from_nanos(1));
    assert_eq!(lookup(&mut book, 1), [address(2)], "not shortened by being named again");
    book.advance(10 * SECOND);
    assert_empty(&book);
}

#[test]
fn an_answer_never_contains_what_has_expired() {
    let mut book = book();
    add(&mut book, 1, &[1], KAD, SECOND);
    // The shell may be late with the deadline.
    let late = book.now().plus(2 * SECOND);
    let engine = book.engine_mut();
    let lookup = Command::Lookup { peer: peer(1), hearsay: true, reply: Reply::new(drop) };
    engine::Engine::handle_command(engine, lookup, late);
    assert!(matches!(
        engine::Engine::poll_action(engine),
        Some(Action::AnswerLookup { addresses, .. }) if addresses.is_empty()
    ));
}

#[test]
fn the_best_address_comes_first() {
    let mut book = book();
    add(&mut book, 1, &[1], KAD, 50 * SECOND);
    add(&mut book, 1, &[2], KAD, 60 * SECOND);
    add(&mut book, 1, &[3], Source::Identify, 10 * SECOND);
    add(&mut book, 1, &[4], Source::Manual, 10 * SECOND);
    assert_eq!(lookup(&mut book, 1), [4, 3, 2, 1].map(address));
    worked(&mut book, 1, 2);
    book.advance(SECOND);
    worked(&mut book, 1, 1);
    assert_eq!(lookup(&mut book, 1), [1, 2, 4, 3].map(address));
    failed(&mut book, 1, 1);
    failed(&mut book, 1, 4);
    failed(&mut book, 1, 4);
    assert_eq!(lookup(&mut book, 1), [2, 1, 4, 3].map(address));
    worked(&mut book, 1, 4);
    assert_eq!(lookup(&mut book, 1)[0], address(4));
}

#[test]
fn sixty_four_addresses_and_the_worth_least_goes() {
    let mut book = book();
    let max = u16::try_from(MAX_ADDRESSES_PER_PEER).unwrap();
    add(&mut book, 1, &[1], Source::Manual, SECOND);
    worked(&mut book, 1, 2);
    add(&mut book, 1, &[3], KAD, 5 * SECOND);
    add(&mut book, 1, &(4..=max).collect::<Vec<_>>(), KAD, 10 * SECOND);
    assert_eq!(lookup(&mut book, 1).len(), MAX_ADDRESSES_PER_PEER);
    add(&mut book, 1, &[1000], KAD, 4 * SECOND);
    assert!(!lookup(&mut book, 1).contains(&address(1000)), "it would go first");
    add(&mut book, 1, &[1001], KAD, 10 * SECOND);
    let kept = lookup(&mut book, 1);
    assert!(kept.contains(&address(1001)) && !kept.contains(&address(3)));
    add(&mut book, 1, &(2000..3000).collect::<Vec<_>>(), Source::Identify, 3600 * SECOND);
    worked(&mut book, 1, 4000);
    let kept = lookup(&mut book, 1);
    assert_eq!(kept.len(), MAX_ADDRESSES_PER_PEER);
    assert!(
        [1, 2, 4000].iter().all(|n| kept.contains(&address(*n))),
        "a flood does not wash away what is good"
    );
}

#[test]
fn while_connected_nothing_expires_and_some_time_after() {
    let mut book = book();
    add(&mut book, 1, &[1], Source::Identify, SECOND);
    connect(&mut book, 1, 1, Direction::Inbound, true);
    connect(&mut book, 2, 1, Direction::Inbound, false);
    book.advance(9 * 3600 * SECOND);
    disconnect(&mut book, 1, 1, false);
    assert_eq!(known(&mut book, 1).unwrap().addresses[0].expires_in, None);
    disconnect(&mut book, 2, 1, true);
    let left = known(&mut book, 1).unwrap();
    assert_eq!((left.connected, left.addresses[0].expires_in), (false, Some(RECENT)));
    book.advance(RECENT);
    assert_empty(&book);
}

#[test]
fn told_twice_or_not_at_all_of_a_connection() {
    let mut book = book();
    for first in [true, true, false] {
        connect(&mut book, 1, 1, Direction::Inbound, first);
    }
    connect(&mut book, 2, 1, Direction::Inbound, false);
    connect(&mut book, 3, 1, Direction::Inbound, true);
    disconnect(&mut book, 3, 1, false);
    assert_empty(&book);
    connect(&mut book, 4, 1, Direction::Inbound, true);
    connect(&mut book, 5, 1, Direction::Inbound, false);
    disconnect(&mut book, 5, 1, true);
    assert_empty(&book);
}

#[test]
fn only_the_address_of_an_outbound_connection_has_worked() {
    let mut book = book();
    connect(&mut book, 1, 1, Direction::Inbound, true);
    assert!(lookup(&mut book, 1).is_empty(), "an inbound one comes from a port where nobody listens");
    connect(&mut book, 2, 2, Direction::Outbound, true);
    let expected = AddressInfo {
        address: address(99),
        source: Source::Dialed,
        expires_in: None,
        worked: true,
        failures: 0,
        certified: false,
    };
    assert_eq!(known(&mut book, 2).unwrap().addresses, [expected]);
}

#[test]
fn what_a_peer_says_of_itself_is_bounded() {
    let mut book = book();
    let protocols: Vec<ProtocolId> =
        (0..=MAX_PROTOCOLS_PER_PEER).map(|n| format!("/{n}").parse().unwrap()).collect();
    for (count, agent) in [(MAX_PROTOCOLS_PER_PEER, MAX_AGENT), (MAX_PROTOCOLS_PER_PEER + 1, MAX_AGENT + 1)] {
        let protocols = protocols[..count].to_vec();
        book.command(Command::Identified { peer: peer(1), said: said(protocols, &"\n".repeat(agent)) });
        let info = known(&mut book, 1).unwrap();
        assert_eq!(info.protocols.len(), MAX_PROTOCOLS_PER_PEER);
        assert_eq!(info.agent.unwrap(), " ".repeat(MAX_AGENT));
    }
    book.advance(RECENT);
    assert_empty(&book);
}

#[test]
fn forgotten_on_demand() {
    let mut book = book();
    add(&mut book, 1, &[1], Source::Manual, 10 * SECOND);
    connect(&mut book, 1, 1, Direction::Inbound, true);
    book.command(Command::Forget { peer: peer(1) });
    let info = known(&mut book, 1).unwrap();
    assert!(info.connected && info.addresses.is_empty());
    disconnect(&mut book, 1, 1, true);
    assert_empty(&book);
}

#[test]
fn as_many_peers_as_allowed_and_then_the_idlest_goes() {
    let mut book = book();
    let max = u16::try_from(MAX_PEERS).unwrap();
    connect(&mut book, 1, 1, Direction::Inbound, true);
    add(&mut book, 2, &[1], Source::Manual, 3600 * SECOND);
    worked(&mut book, 6, 1);
    for n in (3..=max).filter(|n| *n != 6) {
        add(&mut book, n, &[1], KAD, 3600 * SECOND);
        if n < 5 {
            book.advance(SECOND);
        }
    }
    assert!(!lookup(&mut book, 3).is_empty(), "of use again");
    assert_eq!(book.engine().peers.len(), MAX_PEERS);
    add(&mut book, max + 1, &[1], KAD, 3600 * SECOND);
    let kept = |n| book.engine().peers.contains_key(&peer(n));
    assert_eq!([1, 2, 3, 4, max + 1].map(kept), [true, true, true, false, true]);
    check(book.engine());
    book.advance(SECOND);
    for n in 0..max {
        add(&mut book, 10_000 + n, &[1], KAD, 3600 * SECOND);
    }
    let kept = |n| book.engine().peers.contains_key(&peer(n));
    assert_eq!([1, 2, 6, 3].map(kept), [true, true, true, false]);
    assert_eq!(book.engine().peers.len(), MAX_PEERS);
    check(book.engine());
}

#[test]
fn strangers_that_come_do_not_wash_out_whom_this_node_reached() {
    let mut book = book();
    connect(&mut book, 1, 1, Direction::Outbound, true);
    book.command(Command::Identified { peer: peer(1), said: said(Vec::new(), "reached") });
    disconnect(&mut book, 1, 1, true);
    book.advance(SECOND);
    // All of them say who they are, and all have been here since.
    for who in 2..2 * u16::try_from(MAX_PEERS).unwrap() {
        connect(&mut book, who.into(), who, Direction::Inbound, true);
        book.command(Command::Identified { peer: peer(who), said: said(Vec::new(), "stranger") });
        disconnect(&mut book, who.into(), who, true);
    }
    assert_eq!(book.engine().peers.len(), MAX_PEERS);
    assert!(known(&mut book, 1).is_some());
    check(book.engine());
}

#[test]
fn with_everybody_connected_there_is_no_room() {
    let mut book = book();
    for n in 0..u16::try_from(MAX_PEERS).unwrap() {
        connect(&mut book, n.into(), n, Direction::Inbound, true);
    }
    add(&mut book, 9000, &[1], Source::Manual, SECOND);
    assert_eq!(known(&mut book, 9000), None);
    assert_eq!(book.engine().peers.len(), MAX_PEERS);
}

proptest! {
    /// Whatever is said in whatever order, the indexes hold, and in the end everything is forgotten.
    #[test]
    fn any_order(ops in proptest::collection::vec((0..9_u8, 0..4_u16, 0..90_u16), 1..200)) {
        let mut book = book();
        for (op, who, n) in ops {
            let time = SECOND * u32::from(n) * 60;
            let (peer, address, id) = (peer(who), address(n), u64::from(n % 4));
            match op {
                0 => add(&mut book, who, &[n, n + 1, n + 100], KAD, time),
                1 => add(&mut book, who, &(n..n + 70).collect::<Vec<_>>(), Source::Manual, time),
                2 => connect(&mut book, id, who, Direction::Outbound, n % 2 == 0),
                3 => disconnect(&mut book, id, who, n % 2 == 0),
                4 => worked(&mut book, who, n),
                5 => book.command(Command::Failed { peer, address }),
                6 => book.command(Command::Identified { peer, said: said(Vec::new(), "") }),
                7 => book.advance(time),
                _ => {
                    lookup(&mut book, who);
                    known(&mut book, who);
                }
            }
            check(book.engine());
            prop_assert!(book.actions().is_empty(), "each question was answered once");
        }
        for who in 0..4 {
            disconnect(&mut book, 0, who, true);
        }
        book.advance(SECOND * 100 * 60 * 60);
        assert_empty(&book);
    }
}

mod signed {
    use peerage_core::{Keypair, envelope::Envelope, peer_record::PeerRecord};

    use super::{super::super::row::Certified, *};

    fn keypair() -> Keypair {
        Keypair::from_ed25519_seed([9; 32])
    }

    fn certified(seq: u64, ports: &[u16]) -> Certified {
        let addresses = ports.iter().map(|port| address(*port)).collect();
        let record = PeerRecord::new(keypair().peer_id(), seq, addresses).unwrap();
        let envelope = record.seal(&keypair()).unwrap().encode().into();
        Certified { record, envelope }
    }

    /// All of it.
    fn believed(record: &Option<Certified>) -> Vec<Multiaddr> {
        record.as_ref().map(|certified| certified.record.addresses().to_vec()).unwrap_or_default()
    }

    fn say(book: &mut Book, addresses: &[u16], record: Option<Certified>) {
        let addresses = addresses.iter().map(|port| address(*port)).collect();
        let said = Said {
            protocols: Vec::new(),
            agent: String::new(),
            addresses,
            certified: believed(&record),
            record,
        };
        book.command(Command::Identified { peer: keypair().peer_id(), said });
    }

    fn info(book: &mut Book) -> PeerInfo {
        book.command(Command::Known { peer: keypair().peer_id(), reply: Reply::new(drop) });
        match book.actions().pop() {
            Some(Action::AnswerKnown { info: Some(info), .. }) => info,
            other => panic!("{other:?}"),
        }
    }

    fn ports(book: &mut Book) -> Vec<u16> {
        let mut ports: Vec<_> = info(book)
            .addresses
            .iter()
            .map(|known| known.address.socket_addr().unwrap().addr.port())
            .collect();
        ports.sort_unstable();
        ports
    }

    /// go-libp2p#3487: addresses of an old record stayed for as long as the peer was known.
    #[test]
    fn a_newer_record_takes_the_place_of_the_older() {
        let mut book = book();
        say(&mut book, &[], Some(certified(5, &[1, 2])));
        assert_eq!(ports(&mut book), [1, 2]);
        assert!(info(&mut book).addresses.iter().all(|known| known.certified));
        say(&mut book, &[], Some(certified(6, &[2, 3])));
        assert_eq!(ports(&mut book), [2, 3]);
        say(&mut book, &[], Some(certified(5, &[1])));
        assert_eq!(ports(&mut book), [2, 3], "an older one has no say");
        say(&mut book, &[], Some(certified(6, &[2, 3])));
        assert_eq!(ports(&mut book), [2, 3]);
        let envelope = Envelope::decode(&info(&mut book).record.unwrap()).unwrap();
        assert_eq!(PeerRecord::open(&envelope).unwrap().seq(), 6);
    }

    #[test]
    fn beside_a_record_other_addresses_do_not_count_but_where_it_was_reached_does() {
        let mut book = book();
        let peer = keypair().peer_id();
        let now = book.now();
        book.engine_mut().edit_or_new(peer, now, |entry| {
            entry.worked(&address(7), now.after(WORKED_TTL), now);
        });
        say(&mut book, &[1, 2], None);
        assert_eq!(ports(&mut book), [1, 2, 7]);
        say(&mut book, &[1, 2], Some(certified(1, &[3])));
        assert_eq!(ports(&mut book), [3, 7]);
        say(&mut book, &[4], None);
        assert_eq!(ports(&mut book), [3, 4, 7], "what it certified stays");
        say(&mut book, &[5], None);
        assert_eq!(ports(&mut book), [3, 5, 7]);
    }

    #[test]
    fn a_record_goes_with_its_addresses() {
        let mut book = book();
        say(&mut book, &[], Some(certified(5, &[1])));
        book.advance(SAID_TTL);
        assert_empty(&book);
        say(&mut book, &[], Some(certified(4, &[2])));
        assert_eq!(ports(&mut book), [2], "an older one is new again");
    }

    /// GO-2023-2024 (CVE-2023-40583): records of peers that nobody is connected with were stored without end.
    #[test]
    fn go_2023_2024_a_flood_of_unconnected_peers_takes_a_bounded_place() {
        let mut book = book();
        for n in 0..100_000_u32 {
            let mut id = vec![0, 4];
            id.extend_from_slice(&n.to_be_bytes());
            let peer = PeerId::from_bytes(&id).unwrap();
            let record = PeerRecord::new(peer, 1, vec![address(1)]).unwrap();
            let record = Some(Certified { record, envelope: Default::default() });
            let said = Said {
                protocols: Vec::new(),
                agent: String::new(),
                addresses: Vec::new(),
                certified: believed(&record),
                record,
            };
            book.command(Command::Identified { peer, said });
        }
        check(book.engine());
        assert_eq!(book.engine().peers.len(), MAX_PEERS);
        book.advance(SAID_TTL);
        assert_empty(&book);
    }
}

#[test]
fn twenty_addresses_stay_when_the_last_connection_is_gone() {
    let mut book = book();
    connect(&mut book, 1, 1, Direction::Inbound, true);
    worked(&mut book, 1, 5);
    add(&mut book, 1, &[500], Source::Manual, SECOND);
    add(&mut book, 1, &(1..60).collect::<Vec<_>>(), KAD, SECOND);
    assert!(lookup(&mut book, 1).len() > KEPT_UNCONNECTED);
    disconnect(&mut book, 1, 1, true);
    let kept = lookup(&mut book, 1);
    assert_eq!(kept.len(), KEPT_UNCONNECTED);
    assert!(kept.contains(&address(5)) && kept.contains(&address(500)));
}

mod kept {
    use super::{
        super::super::{REPORT_EVERY, RETRY, WRITE_DELAY, keep::WRITE_BATCH},
        *,
    };

    type Disk = BTreeMap<PeerId, Kept>;

    /// A book whose store was read and was empty.
    fn book() -> Book {
        let mut book = Sim::new(Engine::kept());
        assert!(matches!(book.actions()[..], [Action::Load]));
        book.input(Input::Loaded { failed: None });
        book
    }

    /// Performs the write that is due, if there is one, and says how it went.
    fn write(book: &mut Book, disk: &mut Disk, works: bool) -> Vec<String> {
        let mut told = Vec::new();
        for action in book.actions() {
            match action {
                Action::Write { rows } => {
                    assert!(rows.len() <= WRITE_BATCH);
                    for (peer, row) in rows.into_iter().filter(|_| works) {
                        match row {
                            Some(row) => drop(disk.insert(peer, row)),
                            None => drop(disk.remove(&peer)),
                        }
                    }
                    told.push("write".to_owned());
                    book.input(Input::Written { failed: (!works).then(|| "disk full".to_owned()) });
                }
                Action::StoreFailed { why } => told.push(why),
                Action::StoreResumed => told.push("resumed".to_owned()),
                Action::AnswerFlush { .. } => told.push("flushed".to_owned()),
                other => panic!("{other:?}"),
            }
        }
        if !told.is_empty() {
            told.extend(write(book, disk, works));
        }
        told
    }

    #[test]
    fn changes_are_gathered_and_written_once() {
        let (mut book, mut disk) = (book(), Disk::new());
        for port in 1..=9 {
            worked(&mut book, 1, port);
        }
        book.advance(WRITE_DELAY - Duration::from_nanos(1));
        assert!(write(&mut book, &mut disk, true).is_empty());
        book.advance(Duration::from_nanos(1));
        assert_eq!(write(&mut book, &mut disk, true), ["write"]);
        assert_eq!(disk[&peer(1)].addresses.len(), 9);
        lookup(&mut book, 1);
        known(&mut book, 1);
        book.advance(10 * WRITE_DELAY);
        assert!(write(&mut book, &mut disk, true).is_empty(), "questions change nothing");
        book.command(Command::Forget { peer: peer(1) });
        book.advance(WRITE_DELAY);
        assert_eq!(write(&mut book, &mut disk, true), ["write"]);
        assert!(disk.is_empty());
    }

    #[test]
    fn what_was_written_is_known_again() {
        let (mut first, mut disk) = (book(), Disk::new());
        connect(&mut first, 1, 1, Direction::Outbound, true);
        add(&mut first, 1, &[5], Source::Identify, SECOND);
        add(&mut first, 2, &[6], Source::Manual, 100 * SECOND);
        first.command(Command::Flush { reply: Reply::new(drop) });
        assert_eq!(write(&mut first, &mut disk, true), ["write", "flushed"]);
        let mut second = Sim::new(Engine::kept());
        second.actions();
        second.input(Input::Read { rows: disk.into_iter().collect() });
        second.input(Input::Loaded { failed: None });
        check(second.engine());
        let info = known(&mut second, 1).unwrap();
        assert!(!info.connected && info.addresses[0].worked);
        assert_eq!(info.addresses[1].expires_in, Some(RECENT), "as if the connection had just ended");
        assert_eq!(known(&mut second, 2).unwrap().addresses[0].source, Source::Manual);
    }

    #[test]
    fn while_rows_are_read_nothing_is_written_over_them() {
        let mut book = Sim::new(Engine::kept());
        book.actions();
        worked(&mut book, 1, 1);
        book.advance(10 * WRITE_DELAY);
        assert!(book.actions().is_empty());
        let mut first = self::book();
        worked(&mut first, 1, 2);
        let mut disk = Disk::new();
        first.command(Command::Flush { reply: Reply::new(drop) });
        write(&mut first, &mut disk, true);
        book.input(Input::Read { rows: disk.into_iter().collect() });
        book.input(Input::Loaded { failed: None });
        let mut disk = Disk::new();
        book.advance(WRITE_DELAY);
        assert_eq!(write(&mut book, &mut disk, true), ["write"]);
        assert_eq!(disk[&peer(1)].addresses.len(), 2);
    }

    #[test]
    fn peers_that_were_only_spoken_of_cost_no_write() {
        let mut book = book();
        for who in 0..3 * u16::try_from(MAX_PEERS).unwrap() {
            add(&mut book, who, &[1], KAD, 3600 * SECOND);
        }
        book.advance(10 * WRITE_DELAY);
        assert!(book.actions().is_empty());
    }

    #[test]
    fn a_full_disk_is_tried_again_and_reported_once_a_minute() {
        let (mut book, mut disk) = (book(), Disk::new());
        worked(&mut book, 1, 1);
        book.advance(WRITE_DELAY);
        assert_eq!(write(&mut book, &mut disk, false), ["write", "disk full"]);
        let mut reports = 0;
        let mut waited = Duration::ZERO;
        while waited < 3 * REPORT_EVERY {
            book.advance(RETRY);
            waited += RETRY;
            reports += write(&mut book, &mut disk, false).iter().filter(|told| *told == "disk full").count();
        }
        assert_eq!(reports, 3);
        assert_eq!(lookup(&mut book, 1), [address(1)], "it goes on from memory");
        worked(&mut book, 2, 1);
        book.advance(RETRY);
        assert_eq!(write(&mut book, &mut disk, true), ["write", "resumed"]);
        assert_eq!(disk.len(), 2);
        book.command(Command::Flush { reply: Reply::new(drop) });
        assert_eq!(write(&mut book, &mut disk, true), ["flushed"]);
    }

    #[test]
    fn a_flush_is_answered_though_the_disk_fails() {
        let (mut book, mut disk) = (book(), Disk::new());
        worked(&mut book, 1, 1);
        book.command(Command::Flush { reply: Reply::new(drop) });
        let told = write(&mut book, &mut disk, false);
        assert!(told.contains(&"flushed".to_owned()), "{told:?}");
        book.command(Command::Flush { reply: Reply::new(drop) });
        assert_eq!(write(&mut book, &mut disk, false), ["flushed"], "it does not wait for the next try");
    }

    proptest! {
        /// Whatever happens, and however the disk does: once it works, it holds who is worth it, and nobody else.
        #[test]
        fn the_disk_follows(ops in proptest::collection::vec((0..7_u8, 0..5_u16, any::<bool>()), 1..120)) {
            let (mut book, mut disk) = (book(), Disk::new());
            for (op, who, works) in ops {
                match op {
                    0 => add(&mut book, who, &[1], KAD, 90 * SECOND),
                    1 => worked(&mut book, who, 2),
                    2 => connect(&mut book, who.into(), who, Direction::Outbound, true),
                    3 => disconnect(&mut book, who.into(), who, true),
                    4 => book.command(Command::Forget { peer: peer(who) }),
                    5 => book.advance(600 * SECOND),
                    _ => book.advance(SECOND),
                }
                write(&mut book, &mut disk, works);
            }
            book.advance(RETRY);
            write(&mut book, &mut disk, true);
            book.advance(WRITE_DELAY);
            write(&mut book, &mut disk, true);
            let worth = book.engine().peers.iter().filter(|(_, entry)| entry.standing() > Standing::Hearsay);
            let worth: Vec<_> = worth.map(|(peer, _)| *peer).collect();
            prop_assert_eq!(disk.into_keys().collect::<Vec<_>>(), worth);
        }
    }
}
