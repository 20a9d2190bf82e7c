use peerage_core::Keypair;
use proptest::prelude::*;

use super::*;
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
    held.pop();
    held.push(one(&ledger, 4).unwrap());
    assert!(one(&ledger, 5).is_err());
    drop(held);
    assert_eq!(ledger.snapshot(), Usage::default());
}

#[test]
fn connections() {
    let each = |direction| move |ledger: &Ledger, n| ledger.connection(peer(n), direction);
    three_and_no_more(|l| l.connections_inbound = 3, "inbound connections", Scope::System, each(Inbound));
    three_and_no_more(|l| l.connections_outbound = 3, "outbound connections", Scope::System, each(Outbound));
    three_and_no_more(
        |l| l.connections_total = 3,
        "connections",
        Scope::System,
        |ledger, n| ledger.connection(peer(n), if n % 2 == 0 { Inbound } else { Outbound }),
    );
    let scope = Scope::Peer(peer(1));
    three_and_no_more(
        |l| l.connections_per_peer = 3,
        "connections per peer",
        scope,
        |ledger, n| ledger.connection(peer(1), if n % 2 == 0 { Inbound } else { Outbound }),
    );
}

#[test]
fn handshakes() {
    let each = |direction| move |ledger: &Ledger, _| ledger.handshake(direction);
    three_and_no_more(|l| l.handshakes_inbound = 3, "inbound handshakes", Scope::System, each(Inbound));
    three_and_no_more(|l| l.handshakes_outbound = 3, "outbound handshakes", Scope::System, each(Outbound));
}

#[test]
fn no_handshake_for_a_connection_that_would_have_no_place() {
    let ledger = Ledger::new(Limits { connections_inbound: 1, ..wide() });
    let _connection = ledger.connection(peer(1), Inbound).unwrap();
    assert_eq!(ledger.handshake(Inbound).unwrap_err().limit, "inbound connections");
    assert!(ledger.handshake(Outbound).is_ok());
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
    assert_eq!(usage.connections[&here], ConnectionUsage { streams_inbound: 2, negotiating: 1 });
}

#[test]
fn zero_allows_nothing() {
    let ledger = Ledger::new(Limits { handshakes_inbound: 0, ..wide() });
    assert_eq!(ledger.handshake(Inbound).unwrap_err().max, 0);
}

#[test]
fn threads_that_hold_panic_and_drop_leave_nothing_behind() {
    let ledger = Ledger::new(Limits { connections_per_peer: 4, ..wide() });
    std::thread::scope(|scope| {
        for n in 0..4_u8 {
            let ledger = ledger.clone();
            let worker = scope.spawn(move || {
                for turn in 0..200_u32 {
                    let _connection = ledger.connection(peer(1), Inbound);
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

enum Lease {
    Handshake { _lease: HandshakeLease },
    Connection { _lease: ConnectionLease },
    Stream(StreamLease),
}

proptest! {
    /// Whatever is taken, assigned and dropped in whatever order: no limit is passed, and nothing stays behind.
    #[test]
    fn any_order(ops in proptest::collection::vec((0..7_u8, 0..3_u8, 0..8_usize), 1..200)) {
        let limits = Limits {
            connections_inbound: 3,
            connections_total: 4,
            connections_per_peer: 2,
            handshakes_inbound: 2,
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
        for (op, who, which) in ops {
            let peer = peers[usize::from(who)];
            let direction = if which % 2 == 0 { Inbound } else { Outbound };
            match op {
                0 => held.extend(ledger.handshake(direction).map(|_lease| Lease::Handshake { _lease })),
                1 => held.extend(ledger.connection(peer, direction).map(|_lease| Lease::Connection { _lease })),
                2 => held.extend(ledger.inbound_stream(ConnectionId(who.into()), peer).map(Lease::Stream)),
                3 => held.extend(ledger.outbound_stream(peer, &ECHO).map(Lease::Stream)),
                4 => {
                    if let Some(Lease::Stream(lease)) = held.get_mut(which) {
                        let protocol = if who == 0 { PING } else { ECHO };
                        let _ = lease.assign(&protocol, StreamLimits::new(2, 3));
                    }
                }
                _ if which < held.len() => drop(held.swap_remove(which)),
                _ => {}
            }
            let usage = ledger.snapshot();
            prop_assert!(usage.connections_inbound <= 3);
            prop_assert!(usage.connections_inbound + usage.connections_outbound <= 4);
            prop_assert!(usage.handshakes_inbound <= 2);
            prop_assert!(usage.protocols.values().all(|protocol| protocol.inbound <= 3));
            prop_assert!(usage.connections.values().all(|c| c.negotiating <= 2 && c.streams_inbound <= 4));
            for peer in usage.peers.values() {
                prop_assert!(peer.connections <= 2 && peer.streams_inbound <= 3 && peer.streams_outbound <= 2);
                prop_assert!(peer.inbound_by_protocol.values().all(|count| (1..=2).contains(count)));
            }
        }
        drop(held);
        prop_assert_eq!(ledger.snapshot(), Usage::default());
    }
}
