use peerage_core::{Multiaddr, engine::sim::Sim};
use proptest::prelude::*;

use super::*;
use crate::limits::Direction;

type Hub = Sim<Engine<u64>>;

const SECOND: Duration = Duration::from_secs(1);

fn peer(n: u16) -> PeerId {
    let [a, b] = n.to_be_bytes();
    PeerId::from_bytes(&[0, 2, a, b]).unwrap()
}

fn hub() -> Hub {
    Sim::new(Engine::new(peer(0), SharedAccounts::default()))
}

fn info(id: u64, who: u16) -> ConnInfo {
    let address: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
    ConnInfo {
        id: ConnectionId(id),
        peer: peer(who),
        direction: Direction::Inbound,
        limited: false,
        local: address.clone(),
        remote: address,
        security: peerage_core::ProtocolId::from_static("/noise"),
        muxer: peerage_core::ProtocolId::from_static("/yamux/1.0.0"),
    }
}

fn admit(hub: &mut Hub, id: u64, who: u16) -> Result<(), Refused> {
    hub.command(Command::Admit { info: info(id, who), connection: id, reply: Some(Reply::new(drop)) });
    let mut actions = hub.actions().into_iter();
    match actions.next() {
        Some(Action::Start { connection, reply: Some(_), .. }) if connection == id => {
            assert_eq!(actions.len(), 2, "notified, emitted");
            Ok(())
        }
        Some(Action::Refuse { connection, why, reply: Some(_), .. }) if connection == id => {
            assert_eq!(actions.len(), 0, "nobody hears of it");
            Err(why)
        }
        other => panic!("{other:?}"),
    }
}

fn blame(hub: &mut Hub, who: u16, disconnect: bool) -> Vec<Action<u64>> {
    let (actor, panic) = ("protocols/echo".to_owned(), "oh no".to_owned());
    hub.command(Command::Blame { peer: peer(who), disconnect, actor, panic });
    hub.actions()
}

fn ban(hub: &mut Hub, who: u16, period: Duration) {
    hub.command(Command::Ban { peer: peer(who), period });
}

fn close_requests(actions: &[Action<u64>]) -> Vec<(u64, CloseReason)> {
    let ids = actions.iter().filter_map(|action| match action {
        Action::CloseConnection { id, why } => Some((id.0, *why)),
        _ => None,
    });
    ids.collect()
}

fn notices(hub: &mut Hub) -> Vec<(Option<SubscriberId>, ConnectionEvent)> {
    let of = |action| match action {
        Action::Notify { subscriber, event } => Some((subscriber, event)),
        _ => None,
    };
    hub.actions().into_iter().filter_map(of).collect()
}

fn close(hub: &mut Hub, id: u64) {
    hub.command(Command::Closed { id: ConnectionId(id), reason: "gone".to_owned() });
}

#[test]
fn first_and_last_connection_of_a_peer() {
    let mut hub = hub();
    for id in [1, 2] {
        hub.command(Command::Admit { info: info(id, 1), connection: id, reply: None });
        let event = ConnectionEvent::Opened { info: info(id, 1), first: id == 1 };
        assert_eq!(notices(&mut hub), [(None, event)]);
    }
    for id in [1, 2] {
        close(&mut hub, id);
        let event = ConnectionEvent::Closed { info: info(id, 1), last: id == 2, reason: "gone".to_owned() };
        assert_eq!(notices(&mut hub), [(None, event)]);
    }
    assert!(hub.engine().peers.is_empty() && hub.engine().connections.is_empty());
}

#[test]
fn an_unknown_connection_that_closes_is_only_struck_from_the_directory() {
    let mut hub = hub();
    close(&mut hub, 7);
    assert!(matches!(&hub.actions()[..], [Action::Forget { id: ConnectionId(7) }]));
}

#[test]
fn who_is_refused() {
    let mut hub = hub();
    assert_eq!(admit(&mut hub, 1, 0), Err(Refused::OwnPeer));
    assert_eq!(admit(&mut hub, 2, 1), Ok(()));
    assert_eq!(admit(&mut hub, 2, 1), Err(Refused::Duplicate(ConnectionId(2))));
    ban(&mut hub, 1, 9 * SECOND);
    hub.actions();
    assert_eq!(admit(&mut hub, 3, 1), Err(Refused::Banned { peer: peer(1), remaining: 9 * SECOND }));
    hub.command(Command::ShuttingDown);
    assert_eq!(close_requests(&hub.actions()), [(2, CloseReason::ShuttingDown)]);
    assert_eq!(admit(&mut hub, 4, 2), Err(Refused::ShuttingDown));
}

#[test]
fn a_ban_closes_and_ends_on_time() {
    let mut hub = hub();
    for id in [1, 2] {
        admit(&mut hub, id, 1).unwrap();
    }
    ban(&mut hub, 1, 10 * SECOND);
    let actions = hub.actions();
    assert_eq!(close_requests(&actions), [(1, CloseReason::Banned), (2, CloseReason::Banned)]);
    assert!(matches!(
        actions.last(),
        Some(Action::Emit(HubEvent::PeerBanned { peer: who, period, .. })) if *who == peer(1) && *period == 10 * SECOND
    ));
    assert_eq!(hub.next_deadline().unwrap().reason, "end of a ban");
    hub.advance(10 * SECOND - Duration::from_nanos(1));
    assert!(admit(&mut hub, 3, 1).is_err());
    hub.advance(Duration::from_nanos(1));
    assert_eq!(admit(&mut hub, 3, 1), Ok(()));
    assert!(hub.engine().accounts.lock().bans.is_empty());
}

#[test]
fn a_ban_can_be_lifted_is_not_shortened_and_never_strikes_this_node() {
    let mut hub = hub();
    ban(&mut hub, 0, SECOND);
    assert!(hub.engine().accounts.lock().bans.is_empty());
    ban(&mut hub, 1, Duration::MAX);
    ban(&mut hub, 1, SECOND);
    hub.advance(1000 * SECOND);
    hub.actions();
    assert!(admit(&mut hub, 1, 1).is_err());
    hub.command(Command::Unban { peer: peer(1) });
    assert_eq!(admit(&mut hub, 1, 1), Ok(()));
}

#[test]
fn as_many_bans_as_allowed_and_then_the_soonest_to_end_goes() {
    let mut hub = hub();
    let max = u16::try_from(MAX_BANS).unwrap();
    for n in 1..=max {
        ban(&mut hub, n, SECOND * u32::from(if n == 77 { 1 } else { n.saturating_add(10) }));
    }
    assert_eq!(hub.engine().accounts.lock().bans.len(), MAX_BANS);
    assert!(hub.engine().accounts.lock().bans.contains_key(&peer(77)));
    ban(&mut hub, max + 1, SECOND);
    assert_eq!(hub.engine().accounts.lock().bans.len(), MAX_BANS);
    assert!(!hub.engine().accounts.lock().bans.contains_key(&peer(77)));
    hub.advance(SECOND * 10_000);
    assert!(hub.engine().accounts.lock().bans.is_empty());
}

#[test]
fn three_provoked_panics_in_ten_minutes_are_a_ban_and_two_are_not() {
    let mut hub = hub();
    admit(&mut hub, 1, 1).unwrap();
    assert!(blame(&mut hub, 1, false).is_empty());
    assert_eq!(close_requests(&blame(&mut hub, 1, true)), [(1, CloseReason::Blamed)]);
    hub.advance(BLAME_WINDOW - SECOND);
    let actions = blame(&mut hub, 1, false);
    assert_eq!(close_requests(&actions), [(1, CloseReason::Banned)]);
    let Some(Action::Emit(HubEvent::PeerBanned { period, reason, .. })) = actions.last() else {
        panic!("{actions:?}")
    };
    assert_eq!(*period, BLAME_BAN);
    assert_eq!(reason, "it provoked 3 panics, the last in protocols/echo: oh no");
    assert!(hub.engine().accounts.lock().blames.is_empty());
}

#[test]
fn panics_of_long_ago_are_forgotten() {
    let mut hub = hub();
    for _ in 0..20 {
        assert!(blame(&mut hub, 1, true).is_empty());
        hub.advance(BLAME_WINDOW / 2);
    }
    hub.advance(BLAME_WINDOW);
    assert!(hub.engine().accounts.lock().blames.is_empty());
    assert_eq!(hub.next_deadline(), None);
}

#[test]
fn this_node_is_not_to_blame() {
    let mut hub = hub();
    for _ in 0..10 {
        assert!(blame(&mut hub, 0, true).is_empty());
    }
}

#[test]
fn as_many_blamed_peers_as_allowed_and_then_the_oldest_goes() {
    let mut hub = hub();
    let max = u16::try_from(MAX_BLAMED).unwrap();
    for n in 1..=max {
        blame(&mut hub, n, false);
        hub.advance(Duration::from_millis(1));
    }
    blame(&mut hub, 1, false);
    assert_eq!(hub.engine().accounts.lock().blames.len(), MAX_BLAMED);
    blame(&mut hub, max + 1, false);
    assert_eq!(hub.engine().accounts.lock().blames.len(), MAX_BLAMED);
    assert!(hub.engine().accounts.lock().blames.contains_key(&peer(1)), "blamed again since");
    assert!(!hub.engine().accounts.lock().blames.contains_key(&peer(2)));
}

fn disconnect(hub: &mut Hub, who: u16) {
    hub.command(Command::Disconnect { peer: peer(who), reply: Reply::new(drop) });
}

fn disconnect_answers(hub: &mut Hub) -> Vec<usize> {
    let of = |action: &Action<u64>| match action {
        Action::AnswerDisconnect { closed, .. } => Some(*closed),
        _ => None,
    };
    hub.actions().iter().filter_map(of).collect()
}

#[test]
fn a_disconnect_is_answered_when_all_are_gone() {
    let mut hub = hub();
    disconnect(&mut hub, 1);
    assert_eq!(disconnect_answers(&mut hub), [0]);
    for id in [1, 2] {
        admit(&mut hub, id, 1).unwrap();
    }
    disconnect(&mut hub, 1);
    assert_eq!(close_requests(&hub.actions()).len(), 2);
    close(&mut hub, 1);
    assert!(disconnect_answers(&mut hub).is_empty());
    close(&mut hub, 2);
    assert_eq!(disconnect_answers(&mut hub), [2]);
    assert_eq!(hub.next_deadline(), None);
}

#[test]
fn a_disconnect_is_answered_on_time_although_a_connection_hangs() {
    let mut hub = hub();
    for id in [1, 2] {
        admit(&mut hub, id, 1).unwrap();
    }
    disconnect(&mut hub, 1);
    close(&mut hub, 2);
    hub.advance(DISCONNECT_WAIT - Duration::from_nanos(1));
    assert!(disconnect_answers(&mut hub).is_empty());
    hub.advance(Duration::from_nanos(1));
    assert_eq!(disconnect_answers(&mut hub), [1]);
}

#[test]
fn so_many_disconnects_wait_and_one_more_does_not() {
    let mut hub = hub();
    admit(&mut hub, 1, 1).unwrap();
    for _ in 0..MAX_DISCONNECTING {
        disconnect(&mut hub, 1);
    }
    assert!(disconnect_answers(&mut hub).is_empty());
    disconnect(&mut hub, 1);
    assert_eq!(disconnect_answers(&mut hub), [0]);
    close(&mut hub, 1);
    assert_eq!(disconnect_answers(&mut hub).len(), MAX_DISCONNECTING);
}

#[test]
fn a_restarted_protocol_hears_of_everybody_again() {
    let mut hub = hub();
    for (id, who) in [(1, 1), (2, 2), (3, 1)] {
        admit(&mut hub, id, who).unwrap();
    }
    hub.command(Command::Replay { subscriber: SubscriberId(5) });
    let mut told = notices(&mut hub);
    told.sort_by_key(|(_, event)| match event {
        ConnectionEvent::Opened { info, .. } | ConnectionEvent::Closed { info, .. } => info.id,
    });
    let opened = |id, who, first| ConnectionEvent::Opened { info: info(id, who), first };
    let to = Some(SubscriberId(5));
    assert_eq!(told, [(to, opened(1, 1, true)), (to, opened(2, 2, true)), (to, opened(3, 1, false))]);
}

#[test]
fn a_restarted_host_learns_who_is_connected_and_tells_nobody_twice() {
    let mut hub = hub();
    hub.command(Command::Present { infos: vec![info(1, 1), info(2, 1)] });
    hub.command(Command::Present { infos: vec![info(1, 1)] });
    assert!(hub.actions().is_empty());
    close(&mut hub, 1);
    let event = ConnectionEvent::Closed { info: info(1, 1), last: false, reason: "gone".to_owned() };
    assert_eq!(notices(&mut hub), [(None, event)]);
    hub.command(Command::ShuttingDown);
    hub.command(Command::Present { infos: vec![info(9, 1)] });
    let closes = close_requests(&hub.actions());
    assert_eq!(closes, [(2, CloseReason::ShuttingDown), (9, CloseReason::ShuttingDown)]);
}

proptest! {
    /// Whatever happens: every connection is started or refused, openings and closings pair up and their `first` and
    /// `last` are true, every disconnect is answered, and nothing is left in the end.
    #[test]
    fn any_order(ops in proptest::collection::vec((0..10_u8, 0..4_u16, 0..12_u64), 1..150)) {
        let mut hub = hub();
        let (mut admitted, mut answered, mut asked) = (0, 0, 0);
        let mut open: BTreeMap<ConnectionId, PeerId> = BTreeMap::new();
        let ids: Vec<u64> = (0..12).collect();
        let ending = ids.iter().map(|id| (4_u8, 0_u16, *id));
        let mut offered = 0;
        for (op, who, id) in ops.into_iter().chain(ending) {
            match op {
                0..=3 => {
                    offered += 1;
                    hub.command(Command::Admit { info: info(id, who), connection: id, reply: Some(Reply::new(drop)) });
                }
                4 => close(&mut hub, id),
                5 => {
                    asked += 1;
                    disconnect(&mut hub, who);
                }
                6 => hub.advance(SECOND * u32::try_from(id * 30).unwrap()),
                7 => ban(&mut hub, who, SECOND * u32::try_from(id).unwrap()),
                8 => hub.command(Command::Blame {
                    peer: peer(who),
                    disconnect: id % 2 == 0,
                    actor: "a".to_owned(),
                    panic: "p".to_owned(),
                }),
                _ => hub.command(Command::Replay { subscriber: SubscriberId(1) }),
            }
            for action in hub.actions() {
                match action {
                    Action::Start { reply: Some(_), .. } | Action::Refuse { reply: Some(_), .. } => admitted += 1,
                    Action::Notify { subscriber: None, event: ConnectionEvent::Opened { info, first } } => {
                        prop_assert_eq!(first, !open.values().any(|peer| *peer == info.peer));
                        prop_assert!(open.insert(info.id, info.peer).is_none());
                    }
                    Action::Notify { subscriber: None, event: ConnectionEvent::Closed { info, last, .. } } => {
                        prop_assert_eq!(open.remove(&info.id), Some(info.peer));
                        prop_assert_eq!(last, !open.values().any(|peer| *peer == info.peer));
                    }
                    Action::CloseConnection { id, .. } => prop_assert!(open.contains_key(&id)),
                    Action::AnswerDisconnect { .. } => answered += 1,
                    _ => {}
                }
            }
        }
        hub.advance(BLAME_WINDOW + BLAME_BAN);
        answered += disconnect_answers(&mut hub).len();
        prop_assert_eq!(offered, admitted);
        prop_assert_eq!(asked, answered);
        prop_assert!(open.is_empty());
        let engine = hub.engine();
        prop_assert!(engine.connections.is_empty() && engine.peers.is_empty() && engine.disconnecting.is_empty());
        prop_assert!(engine.accounts.lock().bans.is_empty() && engine.accounts.lock().blames.is_empty());
        prop_assert_eq!(hub.next_deadline(), None);
    }
}
