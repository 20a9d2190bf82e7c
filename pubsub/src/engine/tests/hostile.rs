//! What peers have tried elsewhere.

use super::*;
use crate::codec::Exchanged;

/// PRUNE with every boundary value of a backoff, then two hours: no time may overflow, and none is longer than an hour.
#[test]
fn backoffs_of_any_length() {
    let days = 24 * 3600;
    let values =
        [0, 1, 1 << 31, (1 << 32) - 1, i64::MAX as u64, 9_223_372_036_854_674_580, u64::MAX - days, u64::MAX];
    for value in values {
        let mut rig = Rig::meshed(5);
        rig.prunes(1, "t", Some(value));
        assert!(!rig.in_mesh(1));
        rig.heartbeats(3500);
        assert_eq!(rig.in_mesh(1), value < 3600, "{value}");
        rig.heartbeats(2 * 3600 - 3500);
        assert!(rig.in_mesh(1), "{value}");
        assert_eq!(rig.engine().sizes().backoffs, 0, "{value}");
    }
}

#[test]
fn a_million_grafts_of_novel_topics_are_nothing() {
    let mut rig = Rig::meshed(1);
    let before = rig.engine().sizes();
    for n in 0..1000 {
        let grafts = (0..1000).map(|m| topic(&format!("{n}-{m}"))).collect();
        rig.hears(1, Rpc { grafts, ..Rpc::default() });
    }
    assert_eq!(rig.engine().sizes(), before);
    assert_eq!(rig.told(1).iter().map(|rpc| rpc.prunes.len()).sum::<usize>(), 0, "nor are they answered");
    // The same with PRUNE.
    for n in 0..1000 {
        let prune = |m| Prune { topic: topic(&format!("{n}-{m}")), peers: Vec::new(), backoff: Some(9) };
        rig.hears(1, Rpc { prunes: (0..1000).map(prune).collect(), ..Rpc::default() });
    }
    assert_eq!(rig.engine().sizes(), before);
}

#[test]
fn grafting_in_backoff_ends_on_the_graylist() {
    let mut rig = Rig::meshed(1);
    rig.prunes(1, "t", None);
    (0..20).for_each(|_| rig.grafts(1, "t"));
    assert!(!rig.in_mesh(1));
    rig.message(1, 9, "ignored");
    assert!(rig.delivered.is_empty());
    assert!(rig.engine().stats().graylisted > 0);
}

#[test]
fn a_flood_of_ihave_is_asked_for_within_limits_and_lies_are_punished() {
    let mut rig = Rig::meshed(1);
    rig.told(1);
    for n in 0..200 {
        rig.hears(1, ihave(made_up(n * 5000, 5000)));
    }
    let asked: usize = rig.told(1).iter().map(|rpc| rpc.iwant.len()).sum();
    assert_eq!(asked, 5000, "of a million");
    assert!(rig.engine().sizes().promises <= 10);
    // Small ones, many of them.
    rig.heartbeats(1);
    for n in 0..200 {
        rig.hears(1, ihave(made_up(n, 1)));
    }
    assert_eq!(rig.told(1).iter().map(|rpc| rpc.iwant.len()).sum::<usize>(), 10);
    assert_eq!(rig.engine().stats().ihave_ignored, 380);
    for n in 0..10 {
        rig.hears(1, ihave(made_up(n * 10, 10)));
        rig.heartbeats(1);
    }
    rig.heartbeats(5);
    assert!(rig.misdeeds(Misdeed::BrokenPromise) >= 10);
    assert!(rig.engine().score(&peer(1)) < 0.0);
    assert!(!rig.in_mesh(1));
    assert_eq!(rig.engine().sizes().promises, 0);
}

#[test]
fn a_flood_of_idontwant_is_kept_within_limits() {
    let mut rig = Rig::meshed(1);
    for n in 0..1000 {
        let ids = made_up(n * 1000, 1000).map(Bytes::from).collect();
        rig.hears(1, Rpc { idontwant: ids, idontwant_entries: 1, ..Rpc::default() });
    }
    assert_eq!(rig.engine().sizes().unwanted, 1000);
    rig.heartbeats(1);
    for n in 0..1001 {
        let ids = made_up(2_000_000 + n, 1).map(Bytes::from).collect();
        rig.hears(1, Rpc { idontwant: ids, idontwant_entries: 2, ..Rpc::default() });
    }
    assert_eq!(rig.engine().sizes().unwanted, 1500, "entries are counted, too");
    rig.heartbeats(3);
    assert_eq!(rig.engine().sizes().unwanted, 0);
}

#[test]
fn churn_of_a_hundred_thousand_topics_leaves_nothing() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    rig.heartbeats(1);
    let before = rig.engine().sizes();
    for n in 0..1000 {
        let named = |m| topic(&format!("{n}-{m}"));
        let on = (0..100).map(|m| Subscription::to(named(m))).collect();
        rig.hears(1, Rpc { subscriptions: on, ..Rpc::default() });
        assert!(rig.engine().sizes().topics <= 100);
        let off = (0..100).map(|m| Subscription::end(named(m))).collect();
        rig.hears(1, Rpc { subscriptions: off, ..Rpc::default() });
    }
    assert_eq!(rig.engine().sizes(), before);
    assert!(rig.engine().stats().topics.is_empty());
}

#[test]
fn own_churn_leaves_nothing_either() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    for n in 0..1000 {
        let name = topic(&format!("{n}"));
        rig.wants(1, name.as_str());
        rig.command(Command::Subscribe(name.clone()));
        rig.told(1);
        rig.command(Command::Unsubscribe(name.clone()));
        rig.hears(1, subscription(name.as_str(), false));
        rig.told(1);
    }
    rig.heartbeats(20);
    assert_eq!(rig.engine().sizes().topics, 0);
    assert!(rig.engine().stats().topics.is_empty());
}

#[test]
fn ten_thousand_peers_that_another_one_names() {
    let mut rig = Rig::meshed(1);
    for n in 0..100_u16 {
        let peers = (0..100).map(|m| Exchanged { peer: peer(1000 + n * 100 + m), record: None }).collect();
        let prune = Prune { topic: topic("t"), peers, backoff: Some(1) };
        rig.hears(1, Rpc { prunes: vec![prune], ..Rpc::default() });
    }
    assert!(rig.connects.len() <= 100 * 16);
    assert_eq!(rig.engine().sizes().peers, 1, "nothing is kept of them");
}

#[test]
fn backoffs_of_peers_that_come_and_go_are_bounded() {
    let mut rig = Rig::meshed(1);
    for n in 2..=(u16::try_from(crate::MAX_BACKOFFS).unwrap() + 100) {
        rig.wants(n, "t");
        rig.prunes(n, "t", Some(3600));
        rig.disconnect(n);
    }
    assert_eq!(rig.engine().sizes().backoffs, crate::MAX_BACKOFFS);
    assert_eq!(rig.engine().sizes().peers, 1);
    rig.heartbeats(3700);
    assert_eq!(rig.engine().sizes().backoffs, 0);
}

/// A thousand forged messages a second: graylisted in the first, and an honest peer loses nothing.
#[test]
fn invalid_messages_by_the_thousand() {
    let mut rig = Rig::meshed(2);
    let mut honest = 0;
    for second in 0..3 {
        for n in 0..1000 {
            let mut message = rig.written(9, "x");
            message.signature = Some(Bytes::from(vec![n as u8; 64]));
            rig.sends(1, message);
            if n % 100 == 0 {
                rig.message(2, 8, "true");
                honest += 1;
            }
        }
        rig.heartbeats(1);
        let _ = second;
    }
    assert_eq!(rig.delivered.len(), honest);
    assert!(rig.delivered.iter().all(|message| message.data == "true"));
    assert!(!rig.in_mesh(1));
    let verified = rig.engine().stats().topics[&topic("t")].received_unfiltered;
    assert!(verified < 100, "{verified} were looked at");
    assert!(rig.engine().stats().graylisted > 2900);
}
