//! What is kept and waits is charged to a budget.

use peerage_core::budget::Budget;

use super::*;
use crate::{
    event::{DropReason, Refusal},
    queue::Lane,
};

fn rig(bytes: usize) -> (Rig, Budget) {
    let (mut rig, budget) = (Rig::new(|_| ()), Budget::limited(bytes));
    let config = rig.engine().config.clone();
    let engine = Engine::new(config, peer(0), rng(7), 1);
    rig.sim = Sim::new(engine.restored([topic("t")], []).charged_to(budget.clone()));
    (rig, budget)
}

/// All of it is there.
fn is_free(budget: &Budget, bytes: usize) -> bool {
    budget.reserve(bytes).is_ok()
}

fn size(message: &WireMessage) -> usize {
    Parcel::new(signing::default_id(message), message.clone()).frame.len()
}

#[test]
fn a_message_is_charged_once_however_many_it_waits_for_and_one_byte_more_is_refused() {
    let room = 4000;
    let text = "x".repeat(1000);
    for missing in [0, 1] {
        let (mut rig, budget) = rig(room);
        (1..=6).for_each(|n| rig.wants(n, "t"));
        rig.heartbeats(1);
        // What was said so far is sent.
        (1..=6).for_each(|n| drop(rig.told(n)));
        assert_eq!(rig.mesh().len(), 6);
        let message = rig.written(1, &text);
        let others = budget.reserve(room - size(&message) + missing).unwrap();
        rig.sends(1, message.clone());
        let taken = missing == 0;
        assert_eq!(rig.delivered.len(), usize::from(taken));
        assert_eq!(rig.engine().sizes().cached, usize::from(taken));
        let refused = rig.engine().stats().refused.get(&Refusal::NoMemory).copied();
        assert_eq!(refused.unwrap_or_default(), missing as u64, "and it is counted");
        assert_eq!(rig.engine().stats().topics[&topic("t")].ignored, missing as u64);
        assert!(rig.engine().score(&peer(1)) >= 0.0, "it is nobody's fault");
        drop(others);

        if taken {
            // It waits for five peers, and is kept for who asks: as long as any of them has it, it counts.
            assert!(!is_free(&budget, room - size(&message) + 1));
            (1..=5).for_each(|n| drop(rig.told(n)));
            rig.heartbeats(6);
            assert_eq!(rig.engine().sizes().cached, 0);
            (1..=5).for_each(|n| drop(rig.told(n)));
            assert!(!is_free(&budget, room));
        }
        (1..=6).for_each(|n| drop(rig.told(n)));
        rig.heartbeats(6);
        (1..=6).for_each(|n| drop(rig.told(n)));
        assert!(is_free(&budget, room));
    }
}

#[test]
fn what_is_kept_for_who_asks_gives_way_to_what_is_new() {
    let (mut rig, budget) = rig(3000);
    rig.wants(1, "t");
    rig.heartbeats(1);
    rig.told(1);
    for _ in 0..20 {
        let text = "x".repeat(1000);
        rig.message(1, 1, &text);
        rig.heartbeats(1);
        rig.told(1);
    }
    assert_eq!(rig.delivered.len(), 20);
    rig.heartbeats(6);
    rig.told(1);
    assert!(is_free(&budget, 3000));
}

#[test]
fn a_peer_that_is_gone_gives_back_what_waited_for_it() {
    let room = 100_000;
    for how in 0..3 {
        let (mut rig, budget) = rig(room);
        (1..=2).for_each(|n| rig.wants(n, "t"));
        rig.heartbeats(1);
        let text = "x".repeat(1000);
        (0..10).for_each(|_| drop(rig.message(1, 1, &text)));
        rig.heartbeats(10);
        rig.told(1);
        assert!(!is_free(&budget, room - 10_000), "ten messages wait for the other");
        // The driver holds the queue yet.
        match how {
            0 => {
                let session = rig.engine().net.peers[&peer(2)].session;
                rig.input(Input::LinkFailed { peer: peer(2), session, unsupported: false });
            }
            1 => rig.disconnect(2),
            _ => rig.command(Command::Blacklist { peer: peer(2), on: true }),
        }
        rig.told(1);
        assert!(is_free(&budget, room), "{how}");
    }
}

#[test]
fn without_memory_for_control_the_stream_begins_anew_later_and_both_know_all_again() {
    let (mut rig, budget) = rig(2000);
    rig.wants(1, "t");
    rig.heartbeats(1);
    rig.told(1);
    assert!(rig.in_mesh(1));
    let all = budget.reserve(2000).unwrap();
    rig.command(Command::Subscribe(topic("u")));
    let dropped = |rig: &Rig| {
        rig.engine().stats().dropped.get(&(Lane::Control, DropReason::NoMemory)).copied().unwrap_or_default()
    };
    assert_eq!(dropped(&rig), 1);
    assert!(!rig.in_mesh(1));
    // It is tried once a heartbeat at most, not at once and for ever.
    let opens = rig.opens;
    rig.heartbeats(10);
    assert!((1..=10).contains(&(rig.opens - opens)), "{}", rig.opens - opens);
    drop(all);
    rig.heartbeats(3);
    let told = rig.told(1);
    let subscriptions: usize = told.iter().map(|rpc| rpc.subscriptions.len()).sum();
    assert_eq!(subscriptions, 2);
    assert!(rig.in_mesh(1));
}
