use peerage_core::ProtocolId;
use proptest::prelude::*;

use super::*;
use crate::limits::ConnectionId;

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn texts(addresses: &[Multiaddr]) -> Vec<String> {
    addresses.iter().map(Multiaddr::to_string).collect()
}

fn interfaces() -> Vec<IpAddr> {
    ["127.0.0.1", "192.168.1.7", "8.8.4.4", "::1", "fe80::1", "fd00::7"]
        .map(|ip| ip.parse().unwrap())
        .to_vec()
}

fn peer(n: u16) -> PeerId {
    let [a, b] = n.to_be_bytes();
    PeerId::from_bytes(&[0, 2, a, b]).unwrap()
}

fn connection(who: u16, direction: Direction, local: &str, remote: &str) -> ConnInfo {
    ConnInfo {
        id: ConnectionId(1),
        peer: peer(who),
        direction,
        limited: false,
        local: address(local),
        remote: address(remote),
        security: ProtocolId::from_static("/noise"),
        muxer: ProtocolId::from_static("/yamux/1.0.0"),
    }
}

fn listening(on: &[&str]) -> Table {
    let mut table = Table::default();
    let addresses = on.iter().map(|text| address(text)).collect();
    table.listening(ListenerId(1), addresses, &interfaces());
    table
}

fn told(table: &Table, remote: &str) -> Vec<String> {
    texts(&table.told(&connection(1, Direction::Inbound, "/ip4/192.168.1.7/tcp/4001", remote)))
}

/// Peer `who`, of a network of its own, sees this node at `at`.
fn observe(table: &mut Table, who: u16, at: &str) -> bool {
    let [a, b] = who.to_be_bytes();
    let remote = format!("/ip4/9.{a}.{b}.1/tcp/4001");
    let connection = connection(who, Direction::Outbound, "/ip4/192.168.1.7/tcp/4001", &remote);
    table.observed(&Observation { connection: &connection, address: &address(at) })
}

const MAPPED: &str = "/ip4/8.8.8.8/tcp/4001";

#[test]
fn a_wildcard_is_its_familys_interfaces_and_never_itself() {
    let table = listening(&["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"]);
    let mut expanded = texts(&table.dialable());
    assert!(expanded[3..].iter().all(|address| address.contains("127.0.0.1") || address.contains("::1/")));
    expanded.sort();
    assert_eq!(
        expanded,
        [
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/192.168.1.7/tcp/4001",
            "/ip4/8.8.4.4/tcp/4001",
            "/ip6/::1/tcp/4001",
            "/ip6/fd00::7/tcp/4001",
        ]
    );
    assert!(table.all().iter().all(|own| own.sources == [OwnSource::Interface]));
    assert_eq!(table.bound().count(), 2);
}

#[test]
fn who_is_told_what() {
    let table = listening(&["/ip4/0.0.0.0/tcp/4001"]);
    assert_eq!(told(&table, "/ip4/127.0.0.1/tcp/9").len(), 3);
    assert_eq!(
        told(&table, "/ip4/192.168.1.9/tcp/9"),
        ["/ip4/192.168.1.7/tcp/4001", "/ip4/8.8.4.4/tcp/4001"]
    );
    assert_eq!(told(&table, "/ip4/9.9.9.9/tcp/9"), ["/ip4/8.8.4.4/tcp/4001"]);
    // From an interface of this machine to its loopback, as WebRTC's candidates do.
    let inside = connection(1, Direction::Inbound, "/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.1.7/tcp/9");
    assert_eq!(table.told(&inside).len(), 3);
}

#[test]
fn what_is_inside_this_machine_stays_there() {
    let mut table = Table::new(vec![address("/memory/2")], Vec::new());
    table.listening(ListenerId(1), vec![address("/memory/1")], &[]);
    for remote in ["/memory/9", "/ip4/127.0.0.1/tcp/9", "/unix/home/a"] {
        assert_eq!(told(&table, remote).len(), 2, "{remote}");
    }
    for remote in ["/ip4/192.168.1.9/tcp/9", "/ip4/9.9.9.9/tcp/9"] {
        assert_eq!(told(&table, remote), ["/memory/2"], "{remote}");
    }
}

#[test]
fn a_path_is_told_to_nobody_unless_the_user_says_so() {
    let path = "/unix/home/a";
    let mut table = Table::default();
    table.listening(ListenerId(1), vec![address(path)], &interfaces());
    for remote in [path, "/memory/9", "/ip4/127.0.0.1/tcp/9", "/ip4/192.168.1.9/tcp/9", "/ip4/9.9.9.9/tcp/9"]
    {
        assert_eq!(told(&table, remote), [""; 0], "{remote}");
    }
    assert_eq!(texts(&table.dialable()), [path]);
    assert!(!table.all()[0].announced);
    let table = Table::new(vec![address(path)], Vec::new());
    assert_eq!(told(&table, "/ip4/9.9.9.9/tcp/9"), [path]);
    assert!(table.all()[0].announced);
}

#[test]
fn interfaces_come_and_go() {
    let mut table = listening(&["/ip4/0.0.0.0/tcp/4001", "/ip6/::1/tcp/4001"]);
    assert!(table.has_wildcard());
    let (before, mut now) = (table.revision(), interfaces());
    now.reverse();
    assert!(!table.interfaces(&now), "in another order they are the same");
    now.push("fd00::8".parse().unwrap());
    assert!(!table.interfaces(&now), "no wildcard is of this family");
    assert_eq!(table.revision(), before);
    now.push("192.168.1.8".parse().unwrap());
    now.retain(|ip| *ip != "192.168.1.7".parse::<IpAddr>().unwrap());
    assert!(table.interfaces(&now));
    assert_ne!(table.revision(), before, "the signed record is another one");
    let mut told = told(&table, "/ip4/192.168.1.9/tcp/9");
    told.sort();
    assert_eq!(told, ["/ip4/192.168.1.8/tcp/4001", "/ip4/8.8.4.4/tcp/4001"]);
    table.not_listening(ListenerId(1));
    assert!(!table.has_wildcard() && !table.interfaces(&now));
}

#[test]
fn announced_to_all_and_hidden_from_all_but_this_machine() {
    let announced = vec![address("/dns4/example.com/tcp/4001"), address("/ip4/10.9.9.9/tcp/1")];
    let mut table = Table::new(announced.clone(), vec!["8.8.0.0/16".parse().unwrap()]);
    table.listening(ListenerId(1), vec![address("/ip4/0.0.0.0/tcp/4001")], &interfaces());
    assert_eq!(told(&table, "/ip4/9.9.9.9/tcp/9"), texts(&announced));
    assert!(!told(&table, "/ip4/192.168.1.9/tcp/9").contains(&"/ip4/8.8.4.4/tcp/4001".to_owned()));
    assert!(told(&table, "/ip4/127.0.0.1/tcp/9").contains(&"/ip4/8.8.4.4/tcp/4001".to_owned()));
    let hidden = table.all().into_iter().find(|own| own.address == address("/ip4/8.8.4.4/tcp/4001"));
    assert!(!hidden.unwrap().announced);
    let many: Vec<_> = (0..=MAX_ANNOUNCED).map(|port| address(&format!("/ip4/9.9.9.9/tcp/{port}"))).collect();
    assert_eq!(Table::new(many, Vec::new()).dialable().len(), MAX_ANNOUNCED);
}

#[test]
fn interfaces_that_cannot_be_listed() {
    let mut table = Table::default();
    table.listening(ListenerId(1), vec![address("/ip4/0.0.0.0/tcp/4001")], &[]);
    assert!(table.dialable().is_empty());
    assert_eq!(
        told(&table, "/ip4/192.168.1.9/tcp/9"),
        ["/ip4/192.168.1.7/tcp/4001"],
        "the peer has found one"
    );
}

#[test]
fn three_networks_make_an_observed_address_known_and_nobody_is_told() {
    let mut table = listening(&["/ip4/0.0.0.0/tcp/4001"]);
    let known = |table: &Table| table.all().into_iter().find(|own| own.address == address(MAPPED));
    assert!(!observe(&mut table, 1, MAPPED) && !observe(&mut table, 2, MAPPED));
    assert_eq!(known(&table), None);
    assert!(observe(&mut table, 3, MAPPED));
    let own = known(&table).unwrap();
    assert_eq!((own.sources, own.observers, own.announced), (vec![OwnSource::Observed], 3, false));
    for remote in ["/ip4/127.0.0.1/tcp/9", "/ip4/192.168.1.9/tcp/9", "/ip4/9.9.9.9/tcp/9"] {
        assert!(!told(&table, remote).contains(&MAPPED.to_owned()));
    }
    // Who sees something else now has no vote there any more.
    assert!(observe(&mut table, 1, "/ip4/8.8.8.9/tcp/4001"));
    assert_eq!(known(&table), None);
}

#[test]
fn a_thousand_peers_of_one_network_are_one_observer() {
    let mut table = listening(&["/ip4/0.0.0.0/tcp/4001"]);
    for who in 0..1000 {
        let remote = format!("/ip4/9.9.9.{}/tcp/{}", who % 256, who + 1);
        let connection = connection(who, Direction::Outbound, "/ip4/192.168.1.7/tcp/4001", &remote);
        assert!(!table.observed(&Observation { connection: &connection, address: &address(MAPPED) }));
    }
    assert_eq!(table.observed[&address(MAPPED)].len(), 1);
}

#[test]
fn what_is_not_believed() {
    let mut table = listening(&["/ip4/0.0.0.0/tcp/4001"]);
    for (direction, local, remote, at) in [
        (Direction::Inbound, "/ip4/192.168.1.7/tcp/4001", "/ip4/9.9.9.9/tcp/1", MAPPED),
        (Direction::Outbound, "/ip4/192.168.1.7/tcp/50000", "/ip4/9.9.9.9/tcp/1", MAPPED),
        (Direction::Outbound, "/ip4/192.168.1.7/udp/4001", "/ip4/9.9.9.9/udp/1", "/ip4/8.8.8.8/udp/4001"),
        (Direction::Outbound, "/ip4/192.168.1.7/tcp/4001", "/ip4/192.168.1.9/tcp/1", MAPPED),
        (Direction::Outbound, "/ip4/192.168.1.7/tcp/4001", "/ip4/9.9.9.9/tcp/1", "/ip4/127.0.0.1/tcp/4001"),
        (Direction::Outbound, "/ip4/192.168.1.7/tcp/4001", "/ip4/9.9.9.9/tcp/1", "/ip4/0.0.0.0/tcp/4001"),
        (Direction::Outbound, "/ip4/192.168.1.7/tcp/4001", "/ip4/9.9.9.9/tcp/1", "/ip4/8.8.8.8/tcp/0"),
        (Direction::Outbound, "/ip4/192.168.1.7/tcp/4001", "/ip4/9.9.9.9/tcp/1", "/ip4/10.0.0.1/tcp/4001"),
        (Direction::Outbound, "/ip4/192.168.1.7/tcp/4001", "/ip4/9.9.9.9/tcp/1", "/ip6/2600::1/tcp/4001"),
        (
            Direction::Outbound,
            "/ip4/192.168.1.7/tcp/4001",
            "/ip4/9.9.9.9/tcp/1",
            "/dns4/example.com/tcp/4001",
        ),
    ] {
        let connection = connection(1, direction, local, remote);
        table.observed(&Observation { connection: &connection, address: &address(at) });
        assert!(table.observed.is_empty(), "{direction} {local} {remote} {at}");
    }
}

#[test]
fn observations_are_bounded() {
    let mut table = listening(&["/ip4/0.0.0.0/tcp/4001"]);
    for who in 0..20 {
        observe(&mut table, who, MAPPED);
    }
    assert_eq!(table.observed[&address(MAPPED)].len(), OBSERVERS_KEPT);
    for who in 100..1000 {
        observe(&mut table, who, &format!("/ip4/8.8.8.8/tcp/{who}"));
    }
    assert_eq!(table.observed.len(), MAX_OBSERVED);
    assert!(table.observed.contains_key(&address(MAPPED)), "a flood does not wash away what many say");
}

#[test]
fn a_listener_that_goes_takes_its_addresses_with_it() {
    let mut table = listening(&["/ip4/127.0.0.1/tcp/4001"]);
    assert_eq!(table.dialable().len(), 1);
    table.not_listening(ListenerId(1));
    assert!(table.dialable().is_empty() && table.all().is_empty());
}

proptest! {
    /// Whatever strangers say, nobody is told of a wildcard or of what only strangers said.
    #[test]
    fn only_own_addresses_are_told(
        says in proptest::collection::vec((0..40_u16, 0..5_u8, 1..60_u16), 0..200),
        remote in prop::sample::select(vec!["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.9/tcp/9", "/ip4/9.9.9.9/tcp/9"]),
    ) {
        let mut table = listening(&["/ip4/0.0.0.0/tcp/4001"]);
        for (who, host, port) in says {
            observe(&mut table, who, &format!("/ip4/8.8.8.{host}/tcp/{port}"));
            prop_assert!(table.observed.len() <= MAX_OBSERVED);
        }
        let own = texts(&table.dialable());
        let told = told(&table, remote);
        prop_assert!(told.iter().all(|told| own.contains(told)), "{told:?}");
    }
}
