use super::*;

#[test]
fn peers_outside_of_the_mesh_are_told_and_get_what_they_ask_for_three_times() {
    let mut rig = Rig::meshed(30);
    let id = rig.message(1, 1, "rain");
    (1..=30).for_each(|n| drop(rig.told(n)));
    rig.heartbeats(1);
    let told = rig.count(1..=30, |rpc| rpc.ihave.iter().map(|ihave| ihave.ids.len()).sum());
    assert_eq!(told.iter().sum::<usize>(), 6, "Dlazy, of 24");
    assert!((1..=30).all(|n| told[usize::from(n) - 1] == 0 || !rig.in_mesh(n)));

    let asks = told.iter().position(|ids| *ids == 1).unwrap() as u16 + 1;
    let want = Rpc { iwant: vec![Bytes::copy_from_slice(id.as_bytes())], ..Rpc::default() };
    for _ in 0..1000 {
        rig.hears(asks, want.clone());
    }
    assert_eq!(rig.count([asks], |rpc| rpc.messages.len()), [3]);
    // Told of for three heartbeats, kept for five.
    rig.heartbeats(2);
    let other = (1..=30).find(|n| *n != asks).unwrap();
    rig.count(1..=30, |_| 0);
    rig.heartbeats(1);
    assert_eq!(rig.count(1..=30, |rpc| rpc.ihave.len()).iter().sum::<usize>(), 0);
    rig.hears(other, want.clone());
    assert_eq!(rig.count([other], |rpc| rpc.messages.len()), [1]);
    rig.heartbeats(1);
    rig.hears(other, want);
    assert_eq!(rig.count([other], |rpc| rpc.messages.len()), [0]);
}

#[test]
fn a_quarter_of_many_peers_is_told() {
    let mut rig = Rig::meshed(86);
    rig.message(1, 1, "rain");
    rig.count(1..=86, |_| 0);
    rig.heartbeats(1);
    assert_eq!(rig.count(1..=86, |rpc| rpc.ihave.len()).iter().sum::<usize>(), 20);
}

#[test]
fn peers_are_told_in_turn() {
    let mut rig = Rig::meshed(86);
    let outside: Vec<u16> = (1..=86).filter(|n| !rig.in_mesh(*n)).collect();
    let mut told_of = vec![0; outside.len()];
    rig.message(1, 1, "rain");
    for heartbeat in 1..=8 {
        // A message is told of for three heartbeats, and each of four a quarter of the 80 are told.
        rig.message(1, 1, &format!("rain {heartbeat}"));
        rig.heartbeats(1);
        let told = rig.count(outside.iter().copied(), |rpc| rpc.ihave.len());
        told_of.iter_mut().zip(told).for_each(|(sum, told)| *sum += told);
        if heartbeat % 4 == 0 {
            assert!(told_of.iter().all(|told| *told == heartbeat / 4), "{told_of:?}");
        }
    }
    // Who comes later is told first.
    rig.wants(87, "t");
    rig.message(1, 1, "snow");
    rig.heartbeats(1);
    assert_eq!(rig.count([87], |rpc| rpc.ihave.len()), [1]);
    rig.hears(87, subscription("t", false));
    assert!(
        !rig.engine().topics[&topic("t")].gossiped.contains_key(&peer(87)),
        "nothing is left of who is gone"
    );
}

#[test]
fn what_is_not_known_is_asked_for() {
    let mut rig = Rig::meshed(2);
    let known = rig.message(2, 2, "rain");
    rig.told(1);
    rig.hears(1, ihave([known.as_bytes().to_vec(), b"new".to_vec()]));
    let asked: Vec<_> = rig.told(1).into_iter().flat_map(|rpc| rpc.iwant).collect();
    assert_eq!(asked, [Bytes::from_static(b"new")]);
    // Not about topics that nobody here wants.
    let other = IHave { topic: topic("other"), ids: vec![Bytes::from_static(b"more")] };
    rig.hears(1, Rpc { ihave: vec![other], ..Rpc::default() });
    assert_eq!(rig.count([1], |rpc| rpc.iwant.len()), [0]);
}

#[test]
fn a_promise_is_kept_by_whoever_brings_the_message() {
    let mut rig = Rig::meshed(2);
    let message = rig.written(2, "rain");
    let id = signing::default_id(&message);
    rig.hears(1, ihave([id.as_bytes().to_vec()]));
    rig.sends(2, message);
    rig.heartbeats(5);
    assert_eq!(rig.misdeeds(Misdeed::BrokenPromise), 0);
    rig.hears(1, ihave(made_up(0, 100)));
    rig.heartbeats(3);
    assert_eq!(rig.misdeeds(Misdeed::BrokenPromise), 0);
    rig.heartbeats(1);
    assert_eq!(rig.misdeeds(Misdeed::BrokenPromise), 1);
    assert_eq!(rig.engine().sizes().promises, 0);
}

#[test]
fn large_messages_are_said_not_to_be_wanted_any_more() {
    let mut rig = Rig::new(|_| ());
    rig.connect_as(1, Version::V12, false);
    rig.connect_as(2, Version::V11, false);
    rig.connect_as(3, Version::V13, false);
    (1..=3).for_each(|n| rig.wants(n, "t"));
    rig.command(Command::Subscribe(topic("t")));
    assert_eq!(rig.mesh().len(), 3);
    let unwanted = |rpc: &Rpc| rpc.idontwant.len();
    rig.count(1..=3, unwanted);

    rig.message(3, 3, &"x".repeat(4095));
    assert_eq!(rig.count(1..=3, unwanted), [0, 0, 0]);
    rig.message(3, 3, &"x".repeat(4096));
    assert_eq!(rig.count(1..=3, unwanted), [1, 0, 0], "not to who sent it, nor to 1.1");
    rig.publish("t", &"x".repeat(4096)).unwrap();
    assert_eq!(rig.count(1..=3, unwanted), [1, 0, 1]);
    // A forged one must not keep the true one away.
    let mut forged = rig.written(1, &"x".repeat(5000));
    forged.signature = Some(Bytes::from_static(&[0; 64]));
    rig.sends(1, forged);
    assert_eq!(rig.count(1..=3, unwanted), [0, 0, 0]);
}

#[test]
fn what_a_peer_does_not_want_it_is_not_sent_for_three_heartbeats() {
    let mut rig = Rig::meshed(3);
    rig.count(1..=3, |_| 0);
    let unwanted = |message: &WireMessage| {
        let id = Bytes::copy_from_slice(signing::default_id(message).as_bytes());
        Rpc { idontwant: vec![id], idontwant_entries: 1, ..Rpc::default() }
    };
    let message = rig.written(1, "rain");
    rig.hears(2, unwanted(&message));
    rig.heartbeats(2);
    rig.sends(1, message);
    assert_eq!(rig.count(2..=3, |rpc| rpc.messages.len()), [0, 1]);
    let message = rig.written(1, "snow");
    rig.hears(2, unwanted(&message));
    rig.heartbeats(3);
    assert_eq!(rig.engine().sizes().unwanted, 0);
    rig.sends(1, message);
    assert_eq!(rig.count(2..=3, |rpc| rpc.messages.len()), [1, 1]);
}

#[test]
fn a_peer_below_the_threshold_is_neither_told_nor_heard() {
    let mut rig = Rig::meshed(8);
    let out = (1..=8).find(|n| !rig.in_mesh(*n)).unwrap();
    rig.command(Command::SetAppScore { peer: peer(out), score: -100.0 });
    let id = rig.message(1, 1, "rain");
    rig.told(out);
    rig.heartbeats(1);
    rig.hears(out, ihave(made_up(0, 10)));
    rig.hears(out, Rpc { iwant: vec![Bytes::copy_from_slice(id.as_bytes())], ..Rpc::default() });
    let told = rig.told(out);
    assert!(told.iter().all(|rpc| rpc.ihave.is_empty() && rpc.iwant.is_empty() && rpc.messages.is_empty()));
}
