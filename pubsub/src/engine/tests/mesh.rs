use super::*;
use crate::{codec::Exchanged, event::PruneReason};

#[test]
fn who_subscribes_tells_everybody_and_takes_some_into_its_mesh() {
    let mut rig = Rig::meshed(20);
    rig.connect(21);
    assert_eq!(rig.mesh().len(), 6);
    for n in 1..=20 {
        let told = rig.told(n);
        let subscriptions: Vec<_> = told.iter().flat_map(|rpc| &rpc.subscriptions).collect();
        assert_eq!(subscriptions, [&Subscription::to(topic("t"))]);
        let grafted = told.iter().any(|rpc| rpc.grafts == [topic("t")]);
        assert_eq!(grafted, rig.in_mesh(n));
    }
    assert_eq!(rig.count([21], |rpc| rpc.subscriptions.len()), [1], "a later one is told, too");
}

#[test]
fn a_small_mesh_is_filled_and_a_large_one_cut_down() {
    let mut rig = Rig::meshed(3);
    assert_eq!(rig.mesh().len(), 3);
    (4..=10).for_each(|n| rig.wants(n, "t"));
    rig.advance(Duration::from_millis(100));
    assert_eq!(rig.mesh().len(), 6);

    // Beyond Dhi only peers are taken that were dialed: nobody can fill a mesh by coming.
    (11..=30).for_each(|n| rig.wants(n, "t"));
    (11..=30).for_each(|n| rig.grafts(n, "t"));
    assert_eq!(rig.mesh().len(), 12);
    for n in 31..=34 {
        rig.connect_as(n, Version::V12, true);
        rig.wants(n, "t");
        rig.grafts(n, "t");
    }
    assert_eq!(rig.mesh().len(), 16);
    (1..=34).for_each(|n| drop(rig.told(n)));
    rig.heartbeats(1);
    assert_eq!(rig.mesh().len(), 6);
    assert!((31..=34).filter(|n| rig.in_mesh(*n)).count() >= 2, "Dout are kept");
    let pruned: usize =
        rig.count(1..=34, |rpc| rpc.prunes.iter().filter(|p| p.backoff == Some(60)).count()).iter().sum();
    assert_eq!(pruned, 10);
}

#[test]
fn a_mesh_without_dialed_peers_takes_some() {
    let mut rig = Rig::meshed(6);
    for n in 7..=9 {
        rig.connect_as(n, Version::V11, true);
        rig.wants(n, "t");
    }
    rig.heartbeats(1);
    assert_eq!((7..=9).filter(|n| rig.in_mesh(*n)).count(), 2);
}

#[test]
fn leaving_prunes_tells_everybody_and_leaves_nothing() {
    let mut rig = Rig::meshed(8);
    (1..=8).for_each(|n| drop(rig.told(n)));
    let mesh = rig.mesh();
    rig.command(Command::Unsubscribe(topic("t")));
    for n in 1..=8 {
        let told = rig.told(n);
        let prunes: Vec<_> = told.iter().flat_map(|rpc| &rpc.prunes).map(|prune| prune.backoff).collect();
        assert_eq!(prunes, if mesh.contains(&peer(n)) { vec![Some(10)] } else { vec![] });
        let left = told.iter().flat_map(|rpc| &rpc.subscriptions).all(|change| !change.subscribe);
        assert!(left && !told.is_empty());
    }
    // Coming back at once, those are left alone for as long.
    rig.command(Command::Subscribe(topic("t")));
    assert!(rig.mesh().iter().all(|member| !mesh.contains(member)));
    rig.command(Command::Unsubscribe(topic("t")));
    (1..=8).for_each(|n| rig.hears(n, subscription("t", false)));
    rig.heartbeats(15);
    assert_eq!(rig.engine().sizes().topics, 0);
}

#[test]
fn nobody_is_grafted_in_its_backoff_nor_right_after() {
    let mut rig = Rig::meshed(5);
    rig.prunes(1, "t", Some(30));
    assert!(!rig.in_mesh(1));
    rig.heartbeats(30);
    assert!(!rig.in_mesh(1), "there is a margin");
    rig.heartbeats(3);
    assert!(rig.in_mesh(1));
    assert_eq!(rig.misdeeds(Misdeed::GraftInBackoff), 0);
}

#[test]
fn who_grafts_in_its_backoff_is_pruned_and_has_misbehaved() {
    let mut rig = Rig::meshed(13);
    let out = (1..=13).find(|n| !rig.in_mesh(*n)).unwrap();
    rig.prunes(out, "t", None);
    rig.told(out);
    rig.grafts(out, "t");
    assert_eq!(rig.misdeeds(Misdeed::GraftInBackoff), 2, "so soon that it is a flood");
    assert_eq!(rig.count([out], |rpc| rpc.prunes.len()), [1]);
    rig.heartbeats(20);
    rig.grafts(out, "t");
    assert_eq!(rig.misdeeds(Misdeed::GraftInBackoff), 3);
    // Each of them begins the backoff anew.
    rig.heartbeats(45);
    rig.grafts(out, "t");
    assert_eq!(rig.misdeeds(Misdeed::GraftInBackoff), 4);
    rig.heartbeats(61);
    rig.grafts(out, "t");
    assert_eq!(rig.misdeeds(Misdeed::GraftInBackoff), 4);
    assert!(rig.in_mesh(out));
}

#[test]
fn a_graft_may_come_a_heartbeat_before_the_end_of_its_backoff() {
    for (seconds, early) in [(29, false), (28, true)] {
        let mut rig = Rig::meshed(1);
        rig.prunes(1, "t", Some(30));
        rig.heartbeats(seconds);
        rig.grafts(1, "t");
        assert_eq!(rig.in_mesh(1), !early, "{seconds}");
        assert_eq!(rig.misdeeds(Misdeed::GraftInBackoff), u64::from(early), "{seconds}");
    }
}

#[test]
fn a_graft_may_overtake_its_subscription() {
    let mut rig = Rig::new(|config| config.max_topics_per_peer = 1);
    rig.command(Command::Subscribe(topic("t")));
    rig.connect(1);
    rig.told(1);
    rig.grafts(1, "t");
    assert!(rig.in_mesh(1));
    rig.wants(1, "t");
    assert!(rig.in_mesh(1));
    assert_eq!(rig.count([1], |rpc| rpc.prunes.len()), [0]);
    // It counts as one, though, and who has too many is not taken.
    rig.wants(2, "other");
    rig.told(2);
    rig.grafts(2, "t");
    assert!(!rig.in_mesh(2));
    assert_eq!(rig.count([2], |rpc| rpc.prunes.len()), [1]);
}

#[test]
fn bad_peers_leave_the_mesh_and_do_not_come_back() {
    let mut rig = Rig::meshed(6);
    rig.command(Command::SetAppScore { peer: peer(1), score: -1.0 });
    rig.heartbeats(1);
    assert!(!rig.in_mesh(1));
    rig.heartbeats(100);
    assert!(!rig.in_mesh(1));
    rig.told(1);
    rig.grafts(1, "t");
    assert!(!rig.in_mesh(1));
    assert_eq!(rig.count([1], |rpc| rpc.prunes.len()), [1]);
}

#[test]
fn the_best_stay_when_a_mesh_is_cut_down() {
    let mut rig = Rig::meshed(30);
    (1..=30).for_each(|n| rig.grafts(n, "t"));
    let members: Vec<u16> = (1..=30).filter(|n| rig.in_mesh(*n)).collect();
    assert_eq!(members.len(), 12);
    for n in &members[..4] {
        rig.command(Command::SetAppScore { peer: peer(*n), score: 100.0 });
    }
    rig.connect_as(40, Version::V11, true);
    rig.wants(40, "t");
    rig.grafts(40, "t");
    rig.heartbeats(1);
    assert_eq!(rig.mesh().len(), 6);
    assert!(members[..4].iter().all(|n| rig.in_mesh(*n)));
}

#[test]
fn others_are_named_to_who_is_pruned_from_a_full_mesh() {
    let mut rig = Rig::meshed_with(40, |config| config.exchange = true);
    (1..=40).for_each(|n| rig.grafts(n, "t"));
    assert!(!rig.exchanges.is_empty());
    for (pruned, others) in &rig.exchanges {
        assert_eq!(others.len(), 16);
        assert!(!others.contains(pruned));
    }
}

#[test]
fn others_are_heard_of_only_from_good_peers_and_only_some() {
    let others: Vec<_> = (100..200).map(|n| Exchanged { peer: peer(n), record: None }).collect();
    let prune = Prune { topic: topic("t"), peers: others, backoff: Some(60) };
    let rpc = Rpc { prunes: vec![prune], ..Rpc::default() };
    let mut rig = Rig::meshed_with(2, |config| {
        config.scoring.as_mut().unwrap().thresholds.accept_px = 100.0;
    });
    rig.hears(1, rpc.clone());
    assert!(rig.connects.is_empty());
    rig.command(Command::SetAppScore { peer: peer(2), score: 100.0 });
    rig.hears(2, rpc);
    assert_eq!(rig.connects.len(), 16);
}

#[test]
fn direct_peers_get_everything_and_are_in_no_mesh() {
    let mut rig = Rig::meshed_with(2, |config| {
        config.direct = [(peer(9), Vec::new())].into();
        config.flood_publish = false;
    });
    rig.advance(Duration::from_millis(100));
    assert_eq!(rig.direct, [peer(9)]);
    rig.heartbeats(300);
    assert_eq!(rig.direct.len(), 2);
    rig.wants(9, "t");
    rig.grafts(9, "t");
    rig.heartbeats(300);
    assert_eq!(rig.direct.len(), 2, "it is there");
    assert!(!rig.in_mesh(9));
    rig.told(9);
    rig.message(1, 1, "rain");
    rig.publish("t", "snow").unwrap();
    assert_eq!(rig.count([9], |rpc| rpc.messages.len()), [2]);
    // However bad it is.
    rig.command(Command::SetAppScore { peer: peer(9), score: -1e6 });
    rig.message(9, 9, "sun");
    assert_eq!(rig.delivered.len(), 2);

    rig.command(Command::RemoveDirect(peer(9)));
    rig.command(Command::SetAppScore { peer: peer(9), score: 0.0 });
    rig.heartbeats(80);
    assert!(rig.in_mesh(9));
    rig.command(Command::AddDirect { peer: peer(9), addresses: Vec::new() });
    assert!(!rig.in_mesh(9));
}

#[test]
fn own_messages_go_to_all_or_to_the_mesh() {
    for (flood, took) in [(true, 20), (false, 6)] {
        let mut rig = Rig::meshed_with(20, |config| config.flood_publish = flood);
        let published = rig.publish("t", "rain").unwrap();
        assert_eq!((published.peers, published.full), (took, 0));
        let sent: usize = rig.count(1..=20, |rpc| rpc.messages.len()).iter().sum();
        assert_eq!(sent, took);
        assert!(rig.delivered.is_empty());
    }
}

#[test]
fn topics_that_are_only_published_to_keep_their_peers_for_a_minute() {
    let mut rig = Rig::new(|config| config.flood_publish = false);
    (1..=20).for_each(|n| rig.wants(n, "t"));
    assert_eq!(rig.publish("t", "rain").unwrap().peers, 6);
    let first = rig.count(1..=20, |rpc| rpc.messages.len());
    rig.heartbeats(30);
    rig.count(1..=20, |_| 0);
    rig.publish("t", "snow").unwrap();
    assert_eq!(rig.count(1..=20, |rpc| rpc.messages.len()), first, "the same");
    // One goes, another one comes.
    let gone = first.iter().position(|sent| *sent == 1).unwrap() as u16 + 1;
    rig.disconnect(gone);
    assert_eq!(rig.publish("t", "sun").unwrap().peers, 6);
    // They become the mesh, if somebody here wants the topic.
    rig.command(Command::Subscribe(topic("t")));
    let kept = (1..=20).filter(|n| rig.in_mesh(*n) && first[usize::from(*n) - 1] == 1).count();
    assert_eq!(kept, 5);

    let mut rig = Rig::new(|config| config.flood_publish = false);
    rig.wants(1, "t");
    rig.publish("t", "rain").unwrap();
    rig.hears(1, subscription("t", false));
    rig.heartbeats(59);
    assert_eq!(rig.engine().sizes().topics, 1);
    rig.heartbeats(2);
    assert_eq!(rig.engine().sizes().topics, 0);
}

#[test]
fn who_knows_no_meshes_gets_everything() {
    let mut rig = Rig::meshed(8);
    rig.connect_as(9, Version::Floodsub, false);
    rig.wants(9, "t");
    rig.heartbeats(2);
    assert!(!rig.in_mesh(9));
    rig.told(9);
    rig.message(1, 1, "rain");
    let told = rig.told(9);
    assert_eq!(told.iter().map(|rpc| rpc.messages.len()).sum::<usize>(), 1);
    assert!(told.iter().all(|rpc| rpc.ihave.is_empty() && rpc.grafts.is_empty()));
    rig.message(9, 9, "snow");
    assert_eq!(rig.delivered.len(), 2);
    assert_eq!(rig.count([9], |rpc| rpc.messages.len()), [0], "not back to who sent it");
    rig.grafts(9, "t");
    assert!(!rig.in_mesh(9));
}

#[test]
fn a_peer_that_does_not_want_a_topic_any_more_is_in_no_mesh_of_it() {
    let mut rig = Rig::meshed(1);
    rig.hears(1, subscription("t", false));
    assert!(!rig.in_mesh(1));
    let why = rig.events.iter().filter_map(|event| match event {
        Event::Pruned { why, .. } => Some(*why),
        _ => None,
    });
    assert_eq!(why.collect::<Vec<_>>(), [PruneReason::Gone]);
}
