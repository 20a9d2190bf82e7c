use super::*;
use crate::{codec::Extensions, config::Filter, event::DropReason, queue::Lane};

#[test]
fn a_peer_may_want_a_hundred_topics_and_its_going_leaves_nothing() {
    let mut rig = Rig::new(|_| ());
    (0..101).for_each(|n| rig.wants(1, &format!("{n}")));
    assert_eq!(rig.engine().sizes().topics, 100);
    assert_eq!(rig.engine().stats().subscriptions_passed_over, 1);
    rig.hears(1, subscription("0", false));
    rig.wants(1, "100");
    assert_eq!(rig.engine().sizes().topics, 100);
    rig.disconnect(1);
    assert_eq!(rig.engine().sizes(), Sizes::default());
}

#[test]
fn only_topics_that_pass_the_filter_are_remembered() {
    let mut rig = Rig::new(|config| config.filter = Some(Filter::only([topic("a")])));
    rig.wants(1, "a");
    rig.wants(1, "b");
    assert_eq!(rig.engine().sizes().topics, 1);
}

#[test]
fn several_connections_are_one_peer() {
    let mut rig = Rig::meshed(1);
    let connected =
        |id| Command::Connected { peer: peer(1), id: ConnectionId::from(id), ip: None, dialed: true };
    rig.command(connected(1));
    rig.command(connected(2));
    assert_eq!(rig.opens, 1);
    rig.disconnect(1);
    assert!(rig.in_mesh(1));
    rig.command(Command::Disconnected { peer: peer(1), id: ConnectionId::from(2) });
    rig.command(Command::Disconnected { peer: peer(1), id: ConnectionId::from(2) });
    assert_eq!(rig.engine().sizes().peers, 0);
}

#[test]
fn what_comes_before_its_connection_counts_and_is_forgotten_without_one() {
    let mut rig = Rig::new(|_| ());
    for n in 1..=2 {
        rig.input(Input::Inbound { peer: peer(n), stream: 1 });
        rig.hears(n, subscription("t", true));
    }
    assert_eq!(rig.opens, 0);
    rig.connect(1);
    assert_eq!(rig.engine().peers_of(Some(&topic("t"))).len(), 2);
    rig.heartbeats(12);
    assert_eq!(rig.engine().peers_of(Some(&topic("t"))), [peer(1)]);
    assert_eq!(rig.engine().sizes().peers, 1);
}

#[test]
fn a_broken_stream_is_opened_again_later_and_later() {
    let mut rig = Rig::meshed(1);
    // From now on none comes about.
    rig.versions.clear();
    let mut waits = Vec::new();
    for _ in 0..9 {
        let session = rig.engine().net.peers[&peer(1)].session;
        rig.input(Input::LinkFailed { peer: peer(1), session, unsupported: false });
        assert!(!rig.in_mesh(1));
        let opens = rig.opens;
        waits.push(
            (0..)
                .take_while(|_| {
                    rig.heartbeats(1);
                    rig.opens == opens
                })
                .count()
                + 1,
        );
    }
    // 1 s, doubling, and what is left until the next heartbeat.
    assert_eq!(waits, [2, 3, 5, 9, 17, 33, 65, 65, 65]);
}

#[test]
fn who_speaks_none_of_it_is_left_alone_until_it_does() {
    let mut rig = Rig::new(|_| ());
    let id = ConnectionId::from(1);
    rig.command(Command::Connected { peer: peer(1), id, ip: None, dialed: true });
    let session = rig.engine().net.peers[&peer(1)].session;
    rig.input(Input::LinkFailed { peer: peer(1), session, unsupported: true });
    rig.heartbeats(600);
    assert_eq!(rig.opens, 1);
    rig.input(Input::Inbound { peer: peer(1), stream: 5 });
    assert_eq!(rig.opens, 2);
}

#[test]
fn a_new_stream_of_a_peer_begins_anew_and_the_end_of_an_old_one_is_nothing() {
    let mut rig = Rig::meshed(1);
    rig.input(Input::Inbound { peer: peer(1), stream: 5 });
    assert!(!rig.in_mesh(1));
    rig.wants(1, "t");
    rig.input(Input::InboundEnded { peer: peer(1), stream: 4 });
    assert_eq!(rig.engine().peers_of(Some(&topic("t"))), [peer(1)]);
    rig.input(Input::InboundEnded { peer: peer(1), stream: 5 });
    assert!(rig.engine().peers_of(Some(&topic("t"))).is_empty());
    let subscriptions = vec![Subscription::to(topic("t"))];
    rig.input(Input::Recalled { peer: peer(1), stream: 6, subscriptions, heard: None });
    rig.heartbeats(1);
    assert!(rig.in_mesh(1));
}

#[test]
fn a_peer_that_lets_control_wait_is_told_all_anew() {
    let mut rig = Rig::meshed_with(1, |config| config.queue.control = 4);
    for n in 0..10 {
        rig.command(Command::Subscribe(topic(&format!("{n}"))));
    }
    assert!(rig.opens > 1);
    let dropped = rig.engine().stats().dropped.get(&(Lane::Control, DropReason::QueueFull)).copied();
    assert!(dropped > Some(0));
    let told = rig.told(1);
    let last: usize = told.iter().map(|rpc| rpc.subscriptions.len()).sum();
    assert!(told.len() <= 4 && last == 11, "{last}");
}

#[test]
fn what_a_peer_can_do_it_says_once() {
    let mut rig = Rig::new(|config| config.test_extension = true);
    rig.connect(1);
    let first = rig.told(1);
    assert_eq!(first[0].extensions, Some(Extensions { test: true, ..Extensions::default() }));
    assert_eq!(first.iter().filter(|rpc| rpc.extensions.is_some()).count(), 1);
    let can =
        || Rpc { extensions: Some(Extensions { test: true, ..Extensions::default() }), ..Rpc::default() };
    rig.hears(1, can());
    assert_eq!(rig.misdeeds(Misdeed::ExtensionsTwice), 0);
    assert!(rig.told(1).iter().any(|rpc| rpc.test_extension));
    rig.hears(1, can());
    assert_eq!(rig.misdeeds(Misdeed::ExtensionsTwice), 1);
    // Too late is as bad.
    rig.connect(2);
    rig.hears(2, Rpc::default());
    rig.hears(2, can());
    assert_eq!(rig.misdeeds(Misdeed::ExtensionsTwice), 2);
    // A new stream, a new first word.
    rig.input(Input::Inbound { peer: peer(2), stream: 2 });
    rig.hears(2, can());
    assert_eq!(rig.misdeeds(Misdeed::ExtensionsTwice), 2);
    // Older versions are not told.
    rig.connect_as(3, Version::V12, false);
    assert!(rig.told(3).iter().all(|rpc| rpc.extensions.is_none()));
}

#[test]
fn an_engine_is_made_again_with_what_was_wanted() {
    let config = Arc::new(Config::default());
    let engine = Engine::new(config, peer(0), rng(1), 1).restored([topic("t")], [(topic("t"), 5)]);
    let mut rig = Rig::new(|_| ());
    rig.sim = Sim::new(engine);
    rig.wants(1, "t");
    assert_eq!(rig.count([1], |rpc| rpc.subscriptions.len()), [1]);
    rig.heartbeats(1);
    assert!(rig.in_mesh(1));
    rig.message(1, 1, "rain");
    assert_eq!(rig.validating.len(), 1);
}
