use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use peerage_core::{
    Keypair,
    budget::{Budget, Reserved},
    engine::sim,
};
use proptest::prelude::*;

use super::{
    super::{ConnectionLease, ConnectionUsage, StreamLimits},
    *,
};
use Direction::{Inbound, Outbound};

const PING: ProtocolId = ProtocolId::from_static("/ipfs/ping/1.0.0");
const ECHO: ProtocolId = ProtocolId::from_static("/echo/1");

fn peer(n: u8) -> PeerId {
    Keypair::from_ed25519_seed([n; 32]).peer_id()
}

/// Limits that are all far away, so that a test can bring one near.
fn wide() -> Limits {
    Limits {
        connections_inbound: 100,
        connections_outbound: 100,
        connections_total: 100,
        connections_per_peer: 100,
        handshakes_inbound: 100,
        handshakes_outbound: 100,
        ipv4: vec![PrefixLimit::new(32)],
        ipv6: vec![PrefixLimit::new(56), PrefixLimit::new(48)],
        limit_loopback: false,
        file_descriptors: 100,
        memory: 10_000,
        memory_transient: 10_000,
        memory_per_peer: 10_000,
        memory_per_connection: 10_000,
        memory_per_protocol: 10_000,
        memory_per_stream: 10_000,
        streams_inbound: 100,
        streams_outbound: 100,
        streams_inbound_per_connection: 100,
        streams_negotiating_per_connection: 100,
        streams_inbound_per_peer: 100,
        streams_outbound_per_peer: 100,
        streams_inbound_per_protocol: 100,
        streams_inbound_per_protocol_and_peer: 100,
    }
}

/// An address of its own for each number.
fn from(n: u8) -> Multiaddr {
    format!("/ip4/192.0.2.{n}/tcp/4001").parse().unwrap()
}

/// A connection all the way from its handshake.
fn connection(ledger: &Ledger, peer: PeerId, direction: Direction) -> Result<ConnectionLease, LimitError> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = ConnectionId(NEXT.fetch_add(1, Ordering::Relaxed));
    let handshake = ledger.handshake(direction, &from(1), sim::start())?;
    handshake.admit(peer, id).map_err(|refused| *refused.error)
}

/// Takes until refused; dropping one of what was taken makes room for one again, and in the end nothing is in use.
fn three_and_no_more<T>(
    near: impl FnOnce(&mut Limits),
    name: &str,
    scope: Scope,
    mut one: impl FnMut(&Ledger, u8) -> Result<T, LimitError>,
) {
    let mut limits = wide();
    near(&mut limits);
    let ledger = Ledger::new(limits);
    let mut held: Vec<T> = (0..3).map(|n| one(&ledger, n).unwrap()).collect();
    let full = ledger.snapshot();
    let refused = one(&ledger, 3).err().unwrap();
    assert_eq!((refused.limit, refused.max, refused.scope), (name, 3, scope));
    assert_eq!(ledger.snapshot(), full, "a refusal takes nothing");
    assert_eq!(ledger.refusals(), BTreeMap::from([(name_of(&ledger), 1)]));
    held.pop();
    held.push(one(&ledger, 4).unwrap());
    assert!(one(&ledger, 5).is_err());
    drop(held);
    assert_eq!(ledger.snapshot(), Usage::default());
    assert!(ledger.lock().meters.is_empty(), "nothing is remembered of who is gone");
}

fn name_of(ledger: &Ledger) -> &'static str {
    ledger.refusals().into_keys().next().unwrap()
}

#[test]
fn connections() {
    let each = |direction| move |ledger: &Ledger, n| connection(ledger, peer(n), direction);
    three_and_no_more(|l| l.connections_inbound = 3, "inbound connections", Scope::System, each(Inbound));
    three_and_no_more(|l| l.connections_outbound = 3, "outbound connections", Scope::System, each(Outbound));
    three_and_no_more(
        |l| l.connections_total = 3,
        "connections",
        Scope::System,
        |ledger, n| connection(ledger, peer(n), if n % 2 == 0 { Inbound } else { Outbound }),
    );
    let scope = Scope::Peer(peer(1));
    three_and_no_more(
        |l| l.connections_per_peer = 3,
        "connections per peer",
        scope,
        |ledger, n| connection(ledger, peer(1), if n % 2 == 0 { Inbound } else { Outbound }),
    );
}

#[test]
fn handshakes() {
    let each = |direction| move |ledger: &Ledger, n| ledger.handshake(direction, &from(n), sim::start());
    three_and_no_more(|l| l.handshakes_inbound = 3, "inbound handshakes", Scope::System, each(Inbound));
    three_and_no_more(|l| l.handshakes_outbound = 3, "outbound handshakes", Scope::System, each(Outbound));
}

#[test]
fn no_handshake_for_a_connection_that_would_have_no_place() {
    let ledger = Ledger::new(Limits { connections_inbound: 1, ..wide() });
    let _connection = connection(&ledger, peer(1), Inbound).unwrap();
    let handshake = |direction| ledger.handshake(direction, &from(2), sim::start());
    assert_eq!(handshake(Inbound).unwrap_err().limit, "inbound connections");
    assert!(handshake(Outbound).is_ok());
}

#[test]
fn inbound_streams() {
    let here = ConnectionId(1);
    three_and_no_more(
        |l| l.streams_inbound = 3,
        "inbound streams",
        Scope::System,
        |ledger, n| ledger.inbound_stream(ConnectionId(n.into()), peer(n)),
    );
    let scope = Scope::Peer(peer(1));
    three_and_no_more(
        |l| l.streams_inbound_per_peer = 3,
        "inbound streams per peer",
        scope,
        |ledger, n| ledger.inbound_stream(ConnectionId(n.into()), peer(1)),
    );
    three_and_no_more(
        |l| l.streams_inbound_per_connection = 3,
        "inbound streams per connection",
        Scope::Connection(here),
        |ledger, _| ledger.inbound_stream(here, peer(1)),
    );
    three_and_no_more(
        |l| l.streams_negotiating_per_connection = 3,
        "negotiating streams per connection",
        Scope::Connection(here),
        |ledger, _| ledger.inbound_stream(here, peer(1)),
    );
}

/// A stream for which `assign` was refused is dropped, as its connection does.
fn assigned(ledger: &Ledger, peer: PeerId, own: StreamLimits) -> Result<StreamLease, LimitError> {
    let mut lease = ledger.inbound_stream(ConnectionId(1), peer)?;
    lease.assign(&PING, own)?;
    Ok(lease)
}

#[test]
fn streams_of_a_protocol() {
    let any = StreamLimits::default();
    let (total, share) = ("inbound streams per protocol", "inbound streams per protocol and peer");
    let (of_ping, of_peer) = (Scope::Protocol(PING), Scope::ProtocolPeer(PING, peer(1)));
    three_and_no_more(
        |l| l.streams_inbound_per_protocol = 3,
        total,
        of_ping.clone(),
        |ledger, n| assigned(ledger, peer(n), any),
    );
    three_and_no_more(|_| (), total, of_ping, |ledger, n| assigned(ledger, peer(n), StreamLimits::new(9, 3)));
    three_and_no_more(
        |l| l.streams_inbound_per_protocol_and_peer = 3,
        share,
        of_peer.clone(),
        |ledger, _| assigned(ledger, peer(1), any),
    );
    three_and_no_more(|_| (), share, of_peer, |ledger, _| assigned(ledger, peer(1), StreamLimits::new(3, 9)));
}

#[test]
fn a_protocol_cannot_raise_the_limits_of_the_node() {
    let ledger = Ledger::new(Limits { streams_inbound_per_protocol_and_peer: 1, ..wide() });
    let _first = assigned(&ledger, peer(1), StreamLimits::new(50, 50)).unwrap();
    assert_eq!(assigned(&ledger, peer(1), StreamLimits::new(50, 50)).unwrap_err().max, 1);
}

#[test]
fn outbound_streams() {
    three_and_no_more(
        |l| l.streams_outbound = 3,
        "outbound streams",
        Scope::System,
        |ledger, n| ledger.outbound_stream(peer(n), &PING),
    );
    let scope = Scope::Peer(peer(1));
    three_and_no_more(
        |l| l.streams_outbound_per_peer = 3,
        "outbound streams per peer",
        scope,
        |ledger, _| ledger.outbound_stream(peer(1), &PING),
    );
}

#[test]
fn an_assigned_stream_negotiates_no_more() {
    let ledger = Ledger::new(Limits { streams_negotiating_per_connection: 1, ..wide() });
    let here = ConnectionId(1);
    let mut first = ledger.inbound_stream(here, peer(1)).unwrap();
    assert!(ledger.inbound_stream(here, peer(1)).is_err());
    first.assign(&PING, StreamLimits::default()).unwrap();
    let _second = ledger.inbound_stream(here, peer(1)).unwrap();

    first.assign(&ECHO, StreamLimits::default()).unwrap();
    let usage = ledger.snapshot();
    assert_eq!(usage.protocols.keys().collect::<Vec<_>>(), [&ECHO], "assigned anew, charged once");
    assert_eq!(usage.connections[&here], ConnectionUsage { streams_inbound: 2, negotiating: 1, memory: 0 });
}

#[test]
fn zero_allows_nothing() {
    let ledger = Ledger::new(Limits { handshakes_inbound: 0, ..wide() });
    assert_eq!(ledger.handshake(Inbound, &from(1), sim::start()).unwrap_err().max, 0);
}

#[test]
fn threads_that_hold_panic_and_drop_leave_nothing_behind() {
    let ledger = Ledger::new(Limits { connections_per_peer: 4, ..wide() });
    std::thread::scope(|scope| {
        for n in 0..4_u8 {
            let ledger = ledger.clone();
            let worker = scope.spawn(move || {
                for turn in 0..200_u32 {
                    let _connection = connection(&ledger, peer(1), Inbound);
                    let _stream = assigned(&ledger, peer(n), StreamLimits::default());
                    assert!(ledger.snapshot().connections_inbound <= 4);
                    assert!(turn < 199, "panics with leases in hand");
                }
            });
            scope.spawn(move || worker.join().unwrap_err());
        }
    });
    assert_eq!(ledger.snapshot(), Usage::default());
}

#[test]
fn file_descriptors() {
    let near = |limits: &mut Limits| limits.file_descriptors = 3;
    for direction in [Inbound, Outbound] {
        three_and_no_more(near, "file descriptors", Scope::System, |ledger, n| {
            ledger.handshake(direction, &from(n), sim::start())
        });
        three_and_no_more(near, "file descriptors", Scope::System, |ledger, n| {
            connection(ledger, peer(n), direction)
        });
    }
    let ledger = Ledger::new(Limits { file_descriptors: 0, ..wide() });
    let relay = peer(1);
    for without in [
        "/memory/7".to_owned(),
        "/ip4/192.0.2.1/udp/4001/quic-v1".to_owned(),
        format!("/ip4/192.0.2.1/tcp/4001/p2p/{relay}/p2p-circuit"),
    ] {
        assert!(ledger.handshake(Inbound, &without.parse().unwrap(), sim::start()).is_ok(), "{without}");
    }
    for with in ["/dns4/a.example/tcp/4001", "/unix/a"] {
        assert!(ledger.handshake(Outbound, &with.parse().unwrap(), sim::start()).is_err(), "{with}");
    }
}

/// How each kind of address is counted: which addresses share, and with which.
#[test]
fn connections_of_an_address() {
    type Case<'a> = (&'a str, &'a dyn Fn(u8) -> String, &'a str);
    let cases: [Case<'_>; 5] = [
        ("v4", &|n| format!("/ip4/192.0.2.1/tcp/{n}"), "192.0.2.1/32"),
        ("mapped", &|n| format!("/ip6/::ffff:192.0.2.1/tcp/{n}"), "192.0.2.1/32"),
        (
            "both",
            &|n| format!("/ip{}192.0.2.1/tcp/1", ["4/", "6/::ffff:"][usize::from(n % 2)]),
            "192.0.2.1/32",
        ),
        ("a /64", &|n| format!("/ip6/2001:db8:1:2::{n:x}/tcp/1"), "2001:db8:1::/56"),
        ("a /48", &|n| format!("/ip6/2001:db8:1:{n:x}00::1/tcp/1"), "2001:db8:1::/48"),
    ];
    for (what, address, prefix) in cases {
        let address = |n| address(n).parse::<Multiaddr>().unwrap();
        let scope = || Scope::Prefix(prefix.parse().unwrap());
        let bits = |limits: &mut Limits, set: &dyn Fn(&mut PrefixLimit)| {
            let narrow = limits.ipv4.iter_mut().chain(&mut limits.ipv6);
            narrow.filter(|limit| prefix.ends_with(&format!("/{}", limit.bits))).for_each(set);
        };
        let handshake = |ledger: &Ledger, n| ledger.handshake(Inbound, &address(n), sim::start());
        let mut id = 0;
        let mut admitted = |ledger: &Ledger, n| {
            id += 1;
            let lease = ledger.handshake(Inbound, &address(n), sim::start())?;
            Ok::<_, LimitError>(lease.admit(peer(n), ConnectionId(id)).unwrap())
        };
        println!("{what}");
        let three = |limits: &mut Limits| bits(limits, &|limit| limit.connections = 3);
        three_and_no_more(three, "connections per address prefix", scope(), handshake);
        three_and_no_more(three, "connections per address prefix", scope(), &mut admitted);
        let three = |limits: &mut Limits| bits(limits, &|limit| limit.handshakes = 3);
        three_and_no_more(three, "handshakes per address prefix", scope(), handshake);
    }
}

#[test]
fn what_an_address_does_concerns_no_other_and_not_this_nodes_dials() {
    let mut limits = wide();
    limits.ipv4 = vec![PrefixLimit { connections: 1, ..PrefixLimit::new(32) }];
    let ledger = Ledger::new(limits.clone());
    let come = |address: &Multiaddr| ledger.handshake(Inbound, address, sim::start());
    let _first = come(&from(1)).unwrap();
    assert!(come(&from(1)).is_err());
    let _other = come(&from(2)).unwrap();
    let _dials: Vec<_> =
        (0..3).map(|_| ledger.handshake(Outbound, &from(1), sim::start()).unwrap()).collect();
    let through: Multiaddr = format!("{}/p2p/{}/p2p-circuit", from(1), peer(1)).parse().unwrap();
    let _relayed = come(&through).unwrap();

    let loopback: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let _two = [come(&loopback).unwrap(), come(&loopback).unwrap()];
    let strict = Ledger::new(Limits { limit_loopback: true, ..limits });
    let _one = strict.handshake(Inbound, &loopback, sim::start()).unwrap();
    assert!(strict.handshake(Inbound, &loopback, sim::start()).is_err());
}

/// What the defaults promise, come connections as fast as they may.
#[test]
fn one_host_gets_sixteen_connections_at_once_and_then_one_in_five_seconds() {
    let ledger = Ledger::new(Limits { handshakes_inbound: 1_000, ..Limits::default() });
    let mut now = sim::start();
    // Each is gone at once, so that only the rate holds.
    let come = |address: &str, now| {
        let address = address.parse().unwrap();
        ledger.handshake(Inbound, &address, now).map(drop)
    };
    for (host, of) in [("/ip4/192.0.2.1/tcp/1", "192.0.2.1/32"), ("/ip6/2001:db8::1/tcp/1", "2001:db8::/56")]
    {
        assert_eq!((0..40).filter(|_| come(host, now).is_ok()).count(), 16);
        let refused = come(host, now).unwrap_err();
        assert_eq!((refused.limit, refused.max), ("new connections per address prefix", 16));
        assert_eq!(refused.scope.to_string(), of);
    }
    now = now.plus(Duration::from_secs(5));
    assert!(come("/ip4/192.0.2.1/tcp/1", now).is_ok() && come("/ip4/192.0.2.1/tcp/1", now).is_err());
    // A /48 of many customers: 80 at once, those from above included.
    let site = |n: u32, now| come(&format!("/ip6/2001:db8:0:{:x}::1/tcp/1", n << 8), now).is_ok();
    now = now.plus(Duration::from_secs(1_000));
    assert_eq!((0..200).filter(|n| site(*n, now)).count(), 80);
    assert_eq!(ledger.snapshot(), Usage::default());
}

#[test]
fn one_host_leaves_room_for_the_handshakes_of_others() {
    let ledger = Ledger::new(Limits::default());
    let host = |n: u32| format!("/ip6/2001:db8:0:{n:x}::1/tcp/1").parse::<Multiaddr>().unwrap();
    let held: Vec<_> =
        (0..2_000).filter_map(|n| ledger.handshake(Inbound, &host(n), sim::start()).ok()).collect();
    assert_eq!(held.len(), 16, "of a whole /48");
    assert!(ledger.handshake(Inbound, &from(1), sim::start()).is_ok());
}

/// Takes a thousand bytes three times, and no more, wherever the limit is.
fn three_thousand_bytes(near: impl FnOnce(&mut Limits), name: &str, take: impl Fn(&Ledger) -> Taken) {
    let mut limits = wide();
    near(&mut limits);
    let ledger = Ledger::new(limits);
    let mut taken = take(&ledger);
    for _ in 0..3 {
        taken.next().unwrap();
    }
    let full = ledger.snapshot();
    assert_eq!(full.memory, 3_000);
    let error = taken.next().unwrap_err();
    assert!(error.contains(name) && error.contains("limit of 3000"), "{error}");
    assert_eq!(ledger.snapshot(), full, "a refusal takes nothing");
    assert_eq!(ledger.refusals().len(), 1);
    taken.held.pop();
    taken.next().unwrap();
    assert!(taken.next().is_err());
    drop(taken);
    assert_eq!(ledger.snapshot(), Usage::default());
    assert!(ledger.lock().meters.is_empty());
}

/// Who takes memory, in turn, and what it has.
struct Taken {
    held: Vec<Reserved>,
    budgets: Vec<Budget>,
    turn: usize,
    _leases: Vec<Box<dyn std::any::Any>>,
}

impl Taken {
    fn new(budgets: Vec<Budget>, leases: Vec<Box<dyn std::any::Any>>) -> Self {
        Self { held: Vec::new(), budgets, turn: 0, _leases: leases }
    }

    fn next(&mut self) -> Result<(), String> {
        self.turn = (self.turn + 1) % self.budgets.len();
        let more = self.budgets[self.turn].reserve(1_000).map_err(|error| error.to_string())?;
        self.held.push(more);
        Ok(())
    }
}

/// Two connections under way.
fn transient(ledger: &Ledger) -> Taken {
    let leases = [1, 1].map(|n| ledger.handshake(Inbound, &from(n), sim::start()).unwrap());
    let budgets = leases.iter().map(|lease| lease.memory().budget()).collect();
    Taken::new(budgets, leases.into_iter().map(|lease| Box::new(lease) as _).collect())
}

/// Connections of these peers.
fn of_peers<const N: usize>(peers: [u8; N]) -> impl Fn(&Ledger) -> Taken {
    move |ledger| {
        let leases = peers.map(|n| connection(ledger, peer(n), Inbound).unwrap());
        let budgets = leases.iter().map(|lease| lease.memory().budget()).collect();
        Taken::new(budgets, leases.into_iter().map(|lease| Box::new(lease) as _).collect())
    }
}

/// Streams of these protocols on a connection each.
fn of_streams<const N: usize>(protocols: [ProtocolId; N]) -> impl Fn(&Ledger) -> Taken {
    move |ledger| {
        let open = |(n, protocol): (u8, &ProtocolId)| {
            let lease = connection(ledger, peer(n), Outbound).unwrap();
            let budget = lease.memory().of_stream(protocol, peer(n)).budget();
            (budget, Box::new(lease) as Box<dyn std::any::Any>)
        };
        let (budgets, leases) = (1..).zip(&protocols).map(open).unzip();
        Taken::new(budgets, leases)
    }
}

#[test]
fn memory() {
    three_thousand_bytes(|l| l.memory = 3_000, "memory: ", transient);
    three_thousand_bytes(|l| l.memory = 3_000, "memory: ", of_peers([1, 2]));
    three_thousand_bytes(|l| l.memory = 3_000, "memory: ", of_streams([PING, ECHO]));
    three_thousand_bytes(|l| l.memory_transient = 3_000, "memory of connections under way: ", transient);
    three_thousand_bytes(|l| l.memory_per_peer = 3_000, "memory per peer: ", of_peers([1, 1]));
    three_thousand_bytes(|l| l.memory_per_connection = 3_000, "memory per connection: ", of_peers([1]));
    three_thousand_bytes(|l| l.memory_per_connection = 3_000, "memory per connection: ", of_streams([PING]));
    three_thousand_bytes(
        |l| l.memory_per_protocol = 3_000,
        "memory per protocol: ",
        of_streams([PING, PING]),
    );
    three_thousand_bytes(|l| l.memory_per_stream = 3_000, "memory per stream: ", of_streams([PING]));
    let near = |l: &mut Limits| l.ipv4 = vec![PrefixLimit { memory: 3_000, ..PrefixLimit::new(24) }];
    three_thousand_bytes(near, "memory per address prefix: ", transient);
    three_thousand_bytes(near, "memory per address prefix: ", of_peers([1, 2]));
}

#[test]
fn memory_of_the_handshake_becomes_the_peers() {
    let ledger = Ledger::new(Limits { memory_per_peer: 100, ..wide() });
    let begin = || ledger.handshake(Inbound, &from(1), sim::start()).unwrap();
    let lease = begin();
    let held = lease.memory().budget().reserve(100).unwrap();
    assert_eq!((ledger.snapshot().memory, ledger.snapshot().memory_transient), (100, 100));
    let lease = lease.admit(peer(1), ConnectionId(1)).unwrap();
    let usage = ledger.snapshot();
    assert_eq!((usage.memory, usage.memory_transient), (100, 0));
    assert_eq!((usage.peers[&peer(1)].memory, usage.connections[&ConnectionId(1)].memory), (100, 100));
    assert_eq!(usage.prefixes.len(), 1);

    let second = begin();
    let too_much = second.memory().budget().reserve(1).unwrap();
    let refused = second.admit(peer(1), ConnectionId(2)).unwrap_err();
    assert_eq!((refused.error.limit, refused.error.max), ("memory per peer", 100));
    assert_eq!(ledger.snapshot().memory_transient, 1, "as it was");
    drop(too_much);
    drop(refused);

    // What was taken outlives the connection, and is still the peer's.
    drop(lease);
    let usage = ledger.snapshot();
    assert_eq!((usage.connections_inbound, usage.peers[&peer(1)].memory), (0, 100));
    drop(held);
    assert_eq!(ledger.snapshot(), Usage::default());
    assert!(ledger.lock().meters.is_empty());
}

#[test]
fn a_refused_connection_keeps_its_socket_until_it_has_said_goodbye() {
    let ledger = Ledger::new(Limits { connections_per_peer: 1, ..wide() });
    let first = connection(&ledger, peer(1), Inbound).unwrap();
    let handshake = ledger.handshake(Inbound, &from(1), sim::start()).unwrap();
    let refused = handshake.admit(peer(1), ConnectionId(1_000_000)).unwrap_err();
    let usage = ledger.snapshot();
    assert_eq!((usage.handshakes_inbound, usage.connections_inbound, usage.file_descriptors), (0, 1, 2));
    let place = first.into_place();
    let usage = ledger.snapshot();
    assert_eq!((usage.connections_inbound, usage.file_descriptors), (0, 2));
    drop((refused, place));
    assert_eq!(ledger.snapshot(), Usage::default());
}

#[test]
fn memory_from_many_threads_is_never_more_than_there_is() {
    let ledger = Ledger::new(Limits { memory: 1_000, memory_per_peer: 700, ..wide() });
    let leases: Vec<_> = (0..4).map(|n| connection(&ledger, peer(n % 2), Inbound).unwrap()).collect();
    std::thread::scope(|scope| {
        for lease in &leases {
            let budget = lease.memory().budget();
            let ledger = &ledger;
            scope.spawn(move || {
                let mut held = Vec::new();
                for turn in 0..2_000_usize {
                    held.extend(budget.reserve(turn % 97).ok());
                    if turn % 3 == 0 {
                        held.pop();
                    }
                    let usage = ledger.snapshot();
                    assert!(usage.memory <= 1_000 && usage.peers.values().all(|peer| peer.memory <= 700));
                }
            });
        }
    });
    drop(leases);
    assert_eq!(ledger.snapshot(), Usage::default());
}

enum Lease {
    Handshake(HandshakeLease, Vec<Reserved>),
    Connection(ConnectionLease, PeerId, Vec<Reserved>),
    Stream(StreamLease),
}

/// What should be in use, counted by looking at everything that is held.
fn model(held: &[Lease]) -> (usize, usize, usize, usize, usize) {
    let bytes = |reserved: &[Reserved]| reserved.iter().map(Reserved::bytes).sum::<usize>();
    let (mut handshakes, mut connections, mut streams, mut transient, mut memory) = (0, 0, 0, 0, 0);
    for lease in held {
        match lease {
            Lease::Handshake(_, reserved) => {
                handshakes += 1;
                transient += bytes(reserved);
                memory += bytes(reserved);
            }
            Lease::Connection(_, _, reserved) => {
                connections += 1;
                memory += bytes(reserved);
            }
            Lease::Stream(_) => streams += 1,
        }
    }
    (handshakes, connections, streams, transient, memory)
}

proptest! {
    /// Whatever is taken, admitted, assigned and dropped in whatever order: no limit is passed, the counts are those of
    /// what is held, and nothing stays behind.
    #[test]
    fn any_order(ops in proptest::collection::vec((0..9_u8, 0..3_u8, 0..8_usize), 1..200)) {
        let limits = Limits {
            connections_inbound: 3,
            connections_total: 4,
            connections_per_peer: 2,
            handshakes_inbound: 2,
            ipv4: vec![PrefixLimit { connections: 2, memory: 60, ..PrefixLimit::new(32) }],
            file_descriptors: 5,
            memory: 100,
            memory_transient: 40,
            memory_per_peer: 50,
            memory_per_connection: 30,
            streams_inbound: 6,
            streams_inbound_per_connection: 4,
            streams_negotiating_per_connection: 2,
            streams_inbound_per_peer: 3,
            streams_outbound_per_peer: 2,
            streams_inbound_per_protocol: 4,
            streams_inbound_per_protocol_and_peer: 2,
            ..wide()
        };
        let ledger = Ledger::new(limits);
        let peers = [peer(0), peer(1), peer(2)];
        let mut held = Vec::new();
        for (number, (op, who, which)) in (0..).zip(ops) {
            let peer = peers[usize::from(who)];
            let direction = if which % 2 == 0 { Inbound } else { Outbound };
            match op {
                0 => {
                    let lease = ledger.handshake(direction, &from(who), sim::start());
                    held.extend(lease.map(|lease| Lease::Handshake(lease, Vec::new())));
                }
                1 if which < held.len() => match held.swap_remove(which) {
                    Lease::Handshake(lease, reserved) => {
                        let admitted = lease.admit(peer, ConnectionId(number));
                        held.extend(admitted.map(|lease| Lease::Connection(lease, peer, reserved)));
                    }
                    other => held.push(other),
                },
                2 => held.extend(ledger.inbound_stream(ConnectionId(who.into()), peer).map(Lease::Stream)),
                3 => held.extend(ledger.outbound_stream(peer, &ECHO).map(Lease::Stream)),
                4 => {
                    if let Some(Lease::Stream(lease)) = held.get_mut(which) {
                        let protocol = if who == 0 { PING } else { ECHO };
                        let _ = lease.assign(&protocol, StreamLimits::new(2, 3));
                    }
                }
                5 => match held.get_mut(which) {
                    Some(Lease::Handshake(lease, reserved)) => {
                        reserved.extend(lease.memory().budget().reserve(usize::from(who) * 7));
                    }
                    Some(Lease::Connection(lease, peer, reserved)) => {
                        let of_stream = lease.memory().of_stream(&ECHO, *peer);
                        reserved.extend(of_stream.budget().reserve(usize::from(who) * 11));
                    }
                    _ => {}
                },
                6 => {
                    if let Some(Lease::Handshake(_, reserved) | Lease::Connection(_, _, reserved)) =
                        held.get_mut(which)
                    {
                        reserved.pop();
                    }
                }
                _ if which < held.len() => drop(held.swap_remove(which)),
                _ => {}
            }
            let usage = ledger.snapshot();
            let counted = (
                usage.handshakes_inbound + usage.handshakes_outbound,
                usage.connections_inbound + usage.connections_outbound,
                usage.streams_inbound + usage.streams_outbound,
                usage.memory_transient,
                usage.memory,
            );
            prop_assert_eq!(counted, model(&held));
            prop_assert_eq!(usage.file_descriptors, counted.0 + counted.1);
            prop_assert!(usage.connections_inbound <= 3 && counted.1 <= 4 && usage.handshakes_inbound <= 2);
            prop_assert!(usage.file_descriptors <= 5 && usage.memory <= 100 && usage.memory_transient <= 40);
            prop_assert!(usage.prefixes.values().all(|prefix| prefix.connections <= 2 && prefix.memory <= 60));
            prop_assert!(usage.protocols.values().all(|protocol| protocol.inbound <= 3));
            prop_assert!(usage.connections.values().all(|c| c.negotiating <= 2 && c.streams_inbound <= 4));
            prop_assert!(usage.connections.values().all(|c| c.memory <= 30));
            for peer in usage.peers.values() {
                prop_assert!(peer.connections <= 2 && peer.streams_inbound <= 3 && peer.streams_outbound <= 2);
                prop_assert!(peer.memory <= 50);
                prop_assert!(peer.inbound_by_protocol.values().all(|count| (1..=2).contains(count)));
            }
        }
        drop(held);
        prop_assert_eq!(ledger.snapshot(), Usage::default());
        prop_assert!(ledger.lock().meters.is_empty());
    }
}
