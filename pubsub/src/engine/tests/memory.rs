use super::*;

/// A life ends, and the next one begins: nobody is connected with it yet.
fn reborn(rig: &mut Rig, memory: &Memory) {
    let config = rig.engine().config.clone();
    let next = Engine::new(config, peer(0), rng(8), 1_000_000).restored([topic("t")], []);
    // Time goes on.
    rig.sim = Sim::at(next.remembering(memory.clone()), rig.sim.now());
    rig.versions.clear();
    rig.queues.clear();
}

fn remembering(change: impl FnOnce(&mut Config)) -> (Rig, Memory) {
    let (mut rig, memory) = (Rig::new(change), Memory::default());
    let config = rig.engine().config.clone();
    let engine = Engine::new(config, peer(0), rng(7), 1).restored([topic("t")], []);
    rig.sim = Sim::at(engine.remembering(memory.clone()), rig.sim.now());
    (rig, memory)
}

#[test]
fn a_panic_whitewashes_nobody_and_makes_nothing_new() {
    let (mut rig, memory) = remembering(|_| ());
    (1..=4).for_each(|n| rig.wants(n, "t"));
    // One has broken rules, one has sent forgeries, one the program dislikes, and one is on the blacklist.
    (0..12).for_each(|_| rig.input(Input::Malformed { peer: peer(1) }));
    for _ in 0..6 {
        let mut forged = rig.written(9, "x");
        forged.data = Some(Bytes::from_static(b"y"));
        rig.sends(2, forged);
    }
    rig.command(Command::SetAppScore { peer: peer(3), score: -300.0 });
    rig.command(Command::Blacklist { peer: peer(4), on: true });
    rig.wants(5, "t");
    let known = rig.written(5, "rain");
    rig.sends(5, known.clone());
    assert_eq!(rig.delivered.len(), 1);
    rig.heartbeats(1);
    let before: Vec<f64> = (1..=3).map(|n| rig.engine().score(&peer(n))).collect();
    assert!(before.iter().all(|score| *score < -200.0), "{before:?}");

    reborn(&mut rig, &memory);
    (1..=5).for_each(|n| rig.wants(n, "t"));
    let after: Vec<f64> = (1..=3).map(|n| rig.engine().score(&peer(n))).collect();
    for (before, after) in before.iter().zip(&after) {
        assert!(after <= before, "rewards are gone, faults are not: {before} {after}");
    }
    (1..=4).for_each(|n| drop(rig.message(n, n, "sun")));
    rig.sends(5, known);
    assert_eq!(rig.delivered.len(), 1, "nobody is listened to, and nothing is new");
    assert_eq!(rig.engine().stats().topics[&topic("t")].duplicates, 1);
    let lost = rig.engine().stats().lost;
    assert_eq!((lost.lives, lost.cached, lost.seen, lost.judged), (1, 1, 0, 0));
    assert!(lost.rewarded > 0);
    // What decays goes on to decay, however many lives there are.
    rig.heartbeats(600);
    reborn(&mut rig, &memory);
    rig.connect(1);
    assert!(rig.engine().score(&peer(1)) > before[0]);
}

#[test]
fn whom_it_said_to_leave_alone_it_leaves_alone() {
    let (mut rig, memory) = remembering(|_| ());
    rig.wants(1, "t");
    rig.prunes(1, "t", Some(60));
    reborn(&mut rig, &memory);
    rig.wants(1, "t");
    rig.heartbeats(50);
    assert!(!rig.in_mesh(1));
    rig.heartbeats(20);
    assert!(rig.in_mesh(1));
}

#[test]
fn lives_that_die_at_once_do_not_hand_on_for_ever_what_they_may_die_of() {
    for (deaths, kept) in [(2, true), (3, false)] {
        let (mut rig, memory) = remembering(|_| ());
        rig.command(Command::SetAppScore { peer: peer(1), score: -300.0 });
        rig.wants(2, "t");
        rig.message(2, 2, "rain");
        rig.heartbeats(1);
        reborn(&mut rig, &memory);
        for _ in 0..deaths {
            rig.connect(2);
            reborn(&mut rig, &memory);
        }
        rig.connect(2);
        assert_eq!(rig.engine().score(&peer(1)) < 0.0, kept, "{deaths}");
        assert_eq!(rig.engine().sizes().seen == 1, kept);
        let lost = rig.engine().stats().lost;
        assert_eq!(lost.seen, u64::from(!kept));
    }
}
