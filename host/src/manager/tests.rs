use peerage_core::{Keypair, Multiaddr, PeerId, ProtocolId, engine::sim::Sim};
use proptest::prelude::*;

use super::*;
use crate::limits::Limits;

const MINUTE: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(600);

fn peer(n: u8) -> PeerId {
    Keypair::from_ed25519_seed([n; 32]).peer_id()
}

fn info(id: u64, of: u8, direction: Direction, limited: bool) -> ConnInfo {
    let address: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
    ConnInfo {
        id: ConnectionId(id),
        peer: peer(of),
        direction,
        limited,
        local: address.clone(),
        remote: address,
        security: ProtocolId::from_static("/noise"),
        muxer: ProtocolId::from_static("/yamux/1.0.0"),
    }
}

struct World {
    sim: Sim<Engine>,
    board: Board,
}

impl World {
    fn new(high_water: usize, low_water: usize, idle_timeout: Option<Duration>) -> Self {
        let policy = Policy { idle_timeout, high_water, low_water, grace: MINUTE };
        let board = Board::default();
        Self { sim: Sim::new(Engine::new(policy, board.clone())), board }
    }

    fn use_it(&self, id: u64, edit: impl FnOnce(&mut Reading)) {
        let now = self.sim.now().mono;
        let fresh = Reading { opened: now, streams: 0, own_streams: 0, keeps: 0, idle_since: now };
        let mut reading = self.board.lock().activity(ConnectionId(id)).unwrap_or(fresh);
        edit(&mut reading);
        self.board.write(ConnectionId(id), reading);
    }

    fn open(&mut self, id: u64) {
        self.open_as(info(id, 1, Direction::Inbound, false));
    }

    fn open_as(&mut self, info: ConnInfo) {
        self.use_it(info.id.0, |_| ());
        self.sim.command(Command::Opened { info });
    }

    /// What was closed, and closes it.
    fn closed(&mut self) -> Vec<u64> {
        let closed: Vec<_> = self.sim.actions().into_iter().map(|Action::Close { id, .. }| id).collect();
        closed.iter().for_each(|id| self.sim.command(Command::Closed { id: *id }));
        closed.into_iter().map(|id| id.0).collect()
    }
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_up() {
    let mut world = World::new(10, 10, Some(IDLE));
    world.open(1);
    world.sim.advance(IDLE - Duration::from_millis(1));
    assert!(world.closed().is_empty());
    world.sim.advance(Duration::from_millis(1));
    let Some(Action::Close { why, .. }) = world.sim.actions().pop() else { panic!("it is not closed") };
    assert_eq!(why, "idle for 600 s");
    // It is said once.
    world.sim.advance(IDLE * 10);
    assert!(world.closed().is_empty() && world.sim.next_deadline().is_none());
}

#[test]
fn the_time_counts_from_the_end_of_the_last_use() {
    for keep in [false, true] {
        let mut world = World::new(10, 10, Some(IDLE));
        world.open(1);
        world.use_it(1, |reading| *if keep { &mut reading.keeps } else { &mut reading.streams } = 1);
        world.sim.advance(IDLE + MINUTE);
        assert!(world.closed().is_empty(), "in use");
        let now = world.sim.now().mono;
        world.use_it(1, |reading| (reading.streams, reading.keeps, reading.idle_since) = (0, 0, now));
        world.sim.advance(IDLE - Duration::from_millis(1));
        assert!(world.closed().is_empty());
        world.sim.advance(Duration::from_millis(1));
        assert_eq!(world.closed(), [1]);
    }
}

#[test]
fn protected_peers_stay_and_without_a_timeout_all_do() {
    let mut world = World::new(10, 10, Some(IDLE));
    world.board.protect(peer(1), "friend").unwrap();
    world.open(1);
    world.sim.advance(IDLE * 3);
    assert!(world.closed().is_empty());
    world.board.unprotect(peer(1), "friend");
    world.sim.advance(IDLE);
    assert_eq!(world.closed(), [1]);

    let mut world = World::new(10, 10, None);
    world.open(1);
    world.sim.advance(IDLE * 1_000);
    assert!(world.closed().is_empty());
}

#[test]
fn above_the_high_water_the_least_worth_go_down_to_the_low_one() {
    let mut world = World::new(6, 2, None);
    for (tagged, value) in [(2, 5), (3, -5)] {
        world.board.tag(peer(tagged), "worth", value).unwrap();
    }
    world.board.protect(peer(4), "friend").unwrap();
    let (inbound, outbound) = (Direction::Inbound, Direction::Outbound);
    for (id, of, direction, limited) in [
        (1, 2, inbound, false),  // worth more
        (2, 2, inbound, true),   // through a relay
        (3, 3, inbound, false),  // worth less
        (4, 4, inbound, true),   // protected
        (5, 1, inbound, false),  // used by this node
        (6, 1, inbound, false),  // has streams of the peer
        (7, 1, outbound, false), // wanted by this node
    ] {
        world.open_as(info(id, of, direction, limited));
        world.sim.advance(Duration::from_secs(1));
    }
    world.use_it(5, |reading| reading.own_streams = 1);
    world.use_it(6, |reading| reading.streams = 100);
    world.sim.advance(MINUTE);
    assert!(world.closed().is_empty(), "six that came are not too many");
    // These two are too young to be judged.
    world.open(8);
    world.open(9);
    assert!(world.closed().is_empty());
    world.sim.advance(Duration::ZERO);
    assert_eq!(world.closed(), [2, 3, 6, 5, 1]);
    // The protected one and the two young ones are left; once they are older, three are still not too many.
    world.sim.advance(MINUTE * 2);
    assert!(world.closed().is_empty());
}

#[test]
fn what_this_node_opened_is_never_in_the_way_of_others() {
    let limits = Limits { connections_inbound: 4, ..Limits::default() };
    let policy = Policy::of(&limits);
    let mut world = World::new(policy.high_water, policy.low_water, None);
    for id in 1..=100 {
        world.open_as(info(id, 1, Direction::Outbound, id % 2 == 0));
    }
    (101..=103).for_each(|id| world.open(id));
    world.sim.advance(MINUTE * 2);
    assert!(world.closed().is_empty());
    world.open(104);
    world.sim.advance(Duration::ZERO);
    assert_eq!(world.closed(), [101, 102]);
}

#[test]
fn no_time_to_be_idle_is_a_second() {
    let mut world = World::new(10, 10, Some(Duration::ZERO));
    world.open(1);
    world.use_it(1, |reading| reading.own_streams = 1);
    world.sim.advance(MINUTE);
    assert!(world.closed().is_empty(), "in use");
    let now = world.sim.now().mono;
    world.use_it(1, |reading| (reading.own_streams, reading.idle_since) = (0, now));
    world.sim.advance(MIN_IDLE_TIMEOUT);
    assert_eq!(world.closed(), [1]);
}

#[test]
fn of_two_alike_the_younger_goes() {
    let mut world = World::new(3, 2, None);
    for id in 1..=4 {
        world.open(id);
        world.sim.advance(Duration::from_secs(1));
    }
    world.sim.advance(MINUTE * 2);
    assert_eq!(world.closed(), [4, 3]);
}

#[test]
fn room_is_made_no_more_than_every_ten_seconds_and_when_the_grace_is_over() {
    let mut world = World::new(2, 1, None);
    for id in 1..=3 {
        world.open(id);
    }
    world.sim.advance(MINUTE - Duration::from_millis(1));
    assert!(world.closed().is_empty(), "all of them are young");
    world.sim.advance(TRIM_PAUSE);
    assert_eq!(world.closed().len(), 2);
    for id in 4..=6 {
        world.open(id);
        world.use_it(id, |reading| {
            reading.opened = reading.opened.checked_sub(MINUTE * 2).unwrap_or(reading.opened)
        });
    }
    let before = world.sim.now();
    world.sim.advance(Duration::ZERO);
    assert!(world.closed().is_empty());
    world.sim.advance(TRIM_PAUSE);
    assert!(!world.closed().is_empty() && world.sim.now().since(before.mono) <= TRIM_PAUSE);
}

#[test]
fn what_is_told_to_go_is_not_counted_or_told_twice() {
    let mut world = World::new(2, 1, None);
    (1..=3).for_each(|id| world.open(id));
    world.sim.advance(MINUTE * 2);
    assert_eq!(world.sim.actions().len(), 2);
    // They take their time; nobody else goes for them.
    world.sim.advance(MINUTE * 2);
    assert!(world.sim.actions().is_empty() && world.sim.next_deadline().is_none());
}

proptest! {
    /// Whatever opens, is used, marked and closed: nothing protected, kept or young goes, making room ends at the low
    /// water, and the engine never spins (the simulation panics when it does).
    #[test]
    fn any_order(
        ops in proptest::collection::vec((0..7_u8, 0..6_u8, 0..40_u64), 1..150),
        high in 0..8_usize,
        low in 0..8_usize,
    ) {
        let mut world = World::new(high, low, Some(IDLE));
        let mut there: BTreeMap<u64, u8> = BTreeMap::new();
        for (op, who, n) in ops {
            match op {
                0 | 1 if !there.contains_key(&n) => {
                    there.insert(n, who);
                    let direction = if n % 3 == 0 { Direction::Outbound } else { Direction::Inbound };
                    world.open_as(info(n, who, direction, n % 5 == 0));
                }
                2 => drop(world.board.protect(peer(who), "x")),
                3 => drop(world.board.unprotect(peer(who), "x")),
                4 if there.contains_key(&n) => {
                    let now = world.sim.now().mono;
                    world.use_it(n, |reading| {
                        (reading.streams, reading.keeps) = (usize::from(who % 3), usize::from(who / 4));
                        reading.own_streams = usize::from(who % 2);
                        reading.idle_since = now;
                    });
                }
                5 if there.remove(&n).is_some() => world.sim.command(Command::Closed { id: ConnectionId(n) }),
                _ => {}
            }
            let before = there.keys().filter(|n| *n % 3 != 0).count();
            world.sim.advance(Duration::from_secs(n));
            let now = world.sim.now();
            let mut trimmed = 0_usize;
            for Action::Close { id, why } in world.sim.actions() {
                let of = there.remove(&id.0);
                prop_assert!(of.is_some(), "closed twice, or never there");
                prop_assert!(!world.board.is_protected(&peer(of.unwrap_or_default())));
                let reading = world.board.lock().activity(id).unwrap();
                prop_assert_eq!(reading.keeps, 0);
                if why.starts_with("idle") {
                    prop_assert!(!reading.in_use() && now.since(reading.idle_since) >= IDLE);
                } else {
                    prop_assert!(now.since(reading.opened) >= MINUTE);
                    prop_assert!(id.0 % 3 != 0, "outbound ones are this node's own");
                    trimmed += 1;
                }
                world.sim.command(Command::Closed { id });
            }
            if trimmed > 0 {
                prop_assert!(before > high && before - trimmed >= low.min(high));
            }
        }
    }
}
