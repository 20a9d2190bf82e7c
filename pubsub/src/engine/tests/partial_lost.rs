//! Who hears of partial messages later, again, or not at all.

use super::{partial::*, *};
use crate::{
    codec::Partial,
    config::TopicConfig,
    partial::{Limits, Mode, Published},
};

/// Publishes "g" with these pieces at each of so many heartbeats, and says what a peer was told.
fn over(rig: &mut Rig, n: u16, heartbeats: u32, there: &[u8]) -> Vec<(Option<Bytes>, Vec<u8>)> {
    for _ in 0..heartbeats {
        rig.heartbeats(1);
        publish(rig, b"g", pieces(there.iter().copied())).unwrap();
    }
    told(rig, n)
}

/// What a peer was told may not have reached its program. It is said again as long as this one publishes, and not too often.
#[test]
fn what_was_told_is_told_again_with_the_time() {
    let mut rig = meshed(Mode::Requests, Mode::Requests, 1);
    publish(&mut rig, b"g", pieces([0])).unwrap();
    told(&mut rig, 1);
    assert_eq!(over(&mut rig, 1, 4, &[0]), []);
    assert_eq!(over(&mut rig, 1, 1, &[0]), [(Some(bits([0])), vec![])]);
    assert_eq!(over(&mut rig, 1, 4, &[0]), []);
    // Who publishes nothing more says nothing more: else two that answer each other would do so for ever.
    rig.heartbeats(4);
    assert_eq!(told(&mut rig, 1), []);
}

/// What was given and is wanted still, so long after it went out, has not come.
#[test]
fn what_was_given_is_given_again_to_who_still_wants_it() {
    let mut rig = meshed(Mode::Requests, Mode::Requests, 1);
    let wants_first = || said(b"g", None, Some(wants_others(1..8)));
    publish(&mut rig, b"g", pieces([0])).unwrap();
    rig.hears(1, wants_first());
    assert_eq!(told(&mut rig, 1).last(), Some(&(None, vec![0])));
    over(&mut rig, 1, 4, &[0]);
    rig.hears(1, wants_first());
    assert_eq!(told(&mut rig, 1), [], "it may have said so before");
    let parts =
        |told: Vec<(Option<Bytes>, Vec<u8>)>| told.into_iter().flat_map(|told| told.1).collect::<Vec<_>>();
    assert!(parts(over(&mut rig, 1, 9, &[0])).is_empty(), "it says nothing");
    rig.hears(1, wants_first());
    assert_eq!(parts(told(&mut rig, 1)), [0]);
    // What waits for it still has no need to be lost.
    rig.hears(1, said(b"g", None, Some(wants_others([]))));
    publish(&mut rig, b"g", pieces([0, 1])).unwrap();
    for _ in 0..6 {
        rig.heartbeats(1);
        publish(&mut rig, b"g", pieces([0, 1])).unwrap();
        rig.hears(1, said(b"g", None, Some(wants_others([0]))));
    }
    assert_eq!(parts(told(&mut rig, 1)), [1]);
}

/// One question too many is answered at the heartbeat.
#[test]
fn who_asks_too_much_is_answered_later() {
    let mut rig = rig_with(Mode::Requests, |config| {
        config.partial = Some(Limits { answers: 1, ..Limits::default() });
    });
    wants(&mut rig, 1, Mode::Requests);
    rig.command(Command::Subscribe(topic("t")));
    for group in [&b"g"[..], b"h"] {
        publish(&mut rig, group, pieces([0])).unwrap();
    }
    told(&mut rig, 1);
    for group in [&b"g"[..], b"h"] {
        rig.hears(1, said(group, None, Some(wants_others([]))));
    }
    assert_eq!(told(&mut rig, 1), [(None, vec![0])]);
    rig.heartbeats(1);
    assert_eq!(told(&mut rig, 1), [(None, vec![0])]);
}

/// Peers that are told of everything, in the mesh or not.
#[test]
fn for_whom_there_was_no_room_is_told_wherever_it_is() {
    let has_no_room = Published { full: 1, ..Published::default() };
    for is_direct in [true, false] {
        let mode = if is_direct { Mode::Requests } else { Mode::Sends };
        let mut rig = rig_with(mode, |config| {
            config.queue.topic = 1;
            config.direct.extend(is_direct.then(|| (peer(1), Vec::new())));
        });
        wants(&mut rig, 1, Mode::Requests);
        if is_direct {
            rig.command(Command::Subscribe(topic("t")));
        }
        rig.told(1);
        publish(&mut rig, b"other", pieces([0])).unwrap();
        assert_eq!(publish(&mut rig, b"g", pieces([0])), Ok(has_no_room));
        assert!(!rig.in_mesh(1));
        rig.told(1);
        rig.heartbeats(1);
        assert_eq!(told(&mut rig, 1), [(Some(bits([0])), vec![])], "direct: {is_direct}");
    }
}

#[test]
fn whose_gossip_found_no_room_is_told_at_the_next() {
    let mut rig = rig_with(Mode::Requests, |config| {
        config.queue.topic = 1;
        config.mesh.lazy = 20;
    });
    (1..=20).for_each(|n| wants(&mut rig, n, Mode::Requests));
    rig.command(Command::Subscribe(topic("t")));
    let outside = (1..=20).find(|n| !rig.in_mesh(*n)).unwrap();
    let heard_of = |rig: &mut Rig| {
        let mut heard = 0;
        for group in [&b"g"[..], b"h"] {
            publish(rig, group, pieces([0])).unwrap();
        }
        for _ in 0..3 {
            (1..=20).for_each(|n| drop(rig.told(n)));
            rig.heartbeats(1);
            heard += told(rig, outside).len();
        }
        heard
    };
    assert_eq!(heard_of(&mut rig), 2);
    assert_eq!(heard_of(&mut rig), 0);
    // What was under way may be lost with its stream.
    let session = rig.engine().net.peers[&peer(outside)].session;
    rig.input(Input::LinkFailed { peer: peer(outside), session, unsupported: false });
    rig.heartbeats(1);
    assert!(!rig.in_mesh(outside));
    assert_eq!(heard_of(&mut rig), 2);
}

#[test]
fn who_takes_no_partial_messages_is_sent_none() {
    let metadata = || said(b"g", None, Some(wants_others([])));
    let subscribes = |mode| vec![Subscription::to(topic("t")).partial(mode)];
    // It has asked, and wants whole messages from then on.
    let mut rig = meshed(Mode::Requests, Mode::Requests, 1);
    rig.hears(1, metadata());
    rig.hears(1, Rpc { subscriptions: subscribes(Mode::Off), ..Rpc::default() });
    assert_eq!(rig.engine().sizes().hearers, 0);
    assert_eq!(publish(&mut rig, b"g", pieces([0])), Ok(Published::default()));
    // It has wanted whole messages before.
    rig.hears(1, metadata());
    assert_eq!(publish(&mut rig, b"g", pieces([0])), Ok(Published::default()));
    rig.heartbeats(2);
    assert_eq!(told(&mut rig, 1), []);

    // What it speaks itself is 1.3, and what it was found to speak is not.
    let mut rig = rig_with(Mode::Requests, |_| ());
    rig.connect_as(2, Version::V12, false);
    rig.hears(2, can(true));
    rig.command(Command::Subscribe(topic("t")));
    rig.hears(2, metadata());
    assert_eq!((rig.engine().sizes().hearers, rig.parts.len()), (1, 1));
    assert_eq!(publish(&mut rig, b"g", pieces([0])), Ok(Published::default()));
    rig.heartbeats(2);
    assert_eq!(told(&mut rig, 2), []);
}

/// What is not heard from a peer with a bad score is not sent to it either, whatever it asked before. Direct peers have no scores.
#[test]
fn who_is_not_worth_hearing_is_told_nothing() {
    let mut rig = rig_with(Mode::Requests, |config| {
        config.direct.insert(peer(3), Vec::new());
        config.queue.topic = 1;
    });
    (1..=3).for_each(|n| wants(&mut rig, n, Mode::Requests));
    rig.command(Command::Subscribe(topic("t")));
    (1..=3).for_each(|n| rig.hears(n, said(b"g", None, Some(wants_others([])))));
    (1..=3).for_each(|n| drop(rig.told(n)));
    publish(&mut rig, b"other", pieces([0])).unwrap();
    publish(&mut rig, b"g", pieces([0])).unwrap();
    for n in [1, 3] {
        rig.command(Command::SetAppScore { peer: peer(n), score: -100.0 });
    }
    (1..=3).for_each(|n| drop(rig.told(n)));
    rig.heartbeats(1);
    let sent = |rig: &mut Rig| rig.count(1..=3, |rpc| usize::from(rpc.partial.is_some()));
    assert_eq!(sent(&mut rig), [0, 1, 1], "what had no room before");
    assert_eq!(publish(&mut rig, b"g", pieces([0, 1])).unwrap().peers, 2);
    assert_eq!(sent(&mut rig), [0, 1, 1]);
}

/// What a peer says of a message is of its topic alone.
#[test]
fn messages_of_one_name_in_two_topics_are_two() {
    let mut rig = rig_with(Mode::Requests, |config| {
        config.other_topics = TopicConfig::default().partial(Mode::Requests);
    });
    rig.connect(1);
    let both = ["t", "u"].map(|name| Subscription::to(topic(name)).partial(Mode::Requests));
    rig.hears(1, Rpc { subscriptions: both.to_vec(), ..can(true) });
    for name in ["t", "u"] {
        rig.command(Command::Subscribe(topic(name)));
    }
    publish(&mut rig, b"g", pieces([0, 1])).unwrap();
    told(&mut rig, 1);
    let partial = Partial {
        topic: topic("u"),
        group: Bytes::from_static(b"g"),
        parts: None,
        metadata: Some(wants_others([])),
    };
    rig.hears(1, Rpc { partial: Some(Box::new(partial)), ..Rpc::default() });
    rig.heartbeats(1);
    assert_eq!(told(&mut rig, 1), []);
    rig.hears(1, said(b"g", None, Some(wants_others([0]))));
    assert_eq!(told(&mut rig, 1), [(None, vec![1])]);
    rig.command(Command::Unsubscribe(topic("u")));
    assert_eq!(rig.engine().sizes().groups, 1);
}
