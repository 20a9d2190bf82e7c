use std::sync::Arc;

use peerage_core::budget::Budget;

use super::*;
use crate::{
    Lane,
    codec::{Extensions, MAX_GROUP, MAX_METADATA, Partial},
    config::TopicConfig,
    event::{DropReason, Refusal},
    partial::{
        Have, Hearer, Holding, Limits, MAX_GIVEN, Mode, NotMetadata, Pieces, PublishError, Published, Say,
    },
};

/// A node that speaks of partial messages, and does so in this way in topic "t".
pub(super) fn rig_with(mode: Mode, change: impl FnOnce(&mut Config)) -> Rig {
    Rig::new(|config| {
        config.partial = Some(Limits::default());
        config.topics = [(topic("t"), TopicConfig::default().partial(mode))].into();
        change(config);
    })
}

pub(super) fn rig(mode: Mode) -> Rig {
    rig_with(mode, |_| ())
}

/// The same, wanting the topic, with so many peers that do so in their way.
pub(super) fn meshed(ours: Mode, theirs: Mode, peers: u16) -> Rig {
    let mut rig = rig(ours);
    (1..=peers).for_each(|n| wants(&mut rig, n, theirs));
    rig.command(Command::Subscribe(topic("t")));
    (1..=peers).for_each(|n| drop(rig.told(n)));
    rig
}

/// A peer that wants the topic in its way.
pub(super) fn wants(rig: &mut Rig, n: u16, mode: Mode) {
    rig.connect(n);
    rig.hears(n, Rpc { subscriptions: vec![Subscription::to(topic("t")).partial(mode)], ..can(true) });
}

pub(super) fn can(partial_messages: bool) -> Rpc {
    Rpc { extensions: Some(Extensions { partial_messages, test: false }), ..Rpc::default() }
}

fn announced(rig: &mut Rig, n: u16) -> Vec<Subscription> {
    rig.told(n).into_iter().flat_map(|rpc| rpc.subscriptions).collect()
}

/// The message "g" of eight pieces, of which these are there.
pub(super) fn pieces(there: impl IntoIterator<Item = u8>) -> Pieces {
    let mut pieces = Pieces::nothing(8).unwrap();
    there.into_iter().for_each(|n| pieces.put(n.into(), Bytes::from(vec![n])));
    pieces
}

/// What the node says: that these are there.
pub(super) fn bits(there: impl IntoIterator<Item = u8>) -> Bytes {
    pieces(there).metadata(&peer(0))
}

/// What a peer says that wants all the others.
pub(super) fn wants_others(there: impl IntoIterator<Item = u8>) -> Bytes {
    let there = bits(there)[0];
    Bytes::from(vec![there, !there])
}

pub(super) fn publish(
    rig: &mut Rig,
    group: &[u8],
    have: impl Have + 'static,
) -> Result<Published, PublishError> {
    let answer = Arc::new(Mutex::new(None));
    let kept = answer.clone();
    let reply = Reply::new(move |result| *kept.lock().unwrap() = Some(result));
    let (group, have) = (Bytes::copy_from_slice(group), Holding(Arc::new(have)));
    rig.command(Command::PublishPartial { topic: topic("t"), group, have, reply });
    answer.lock().unwrap().take().expect("it answers")
}

pub(super) fn said(group: &[u8], parts: Option<&[u8]>, metadata: Option<Bytes>) -> Rpc {
    let parts = parts.map(Bytes::copy_from_slice);
    let partial = Partial { topic: topic("t"), group: Bytes::copy_from_slice(group), parts, metadata };
    Rpc { partial: Some(Box::new(partial)), ..Rpc::default() }
}

/// What a peer was told of message "g": the metadata, and which pieces it was given.
pub(super) fn told(rig: &mut Rig, n: u16) -> Vec<(Option<Bytes>, Vec<u8>)> {
    let partials = rig.told(n).into_iter().filter_map(|rpc| rpc.partial);
    partials
        .map(|partial| {
            let mut got = Pieces::nothing(8).unwrap();
            got.take(&partial.parts.unwrap_or_default(), |n, piece| piece == [n as u8]).unwrap();
            (partial.metadata, (0..8).filter(|n| got.piece((*n).into()).is_some()).collect())
        })
        .collect()
}

#[test]
fn the_first_that_a_peer_of_1_3_hears_is_that_partial_messages_are_spoken() {
    let mut rig = rig(Mode::Requests);
    rig.command(Command::Subscribe(topic("t")));
    rig.command(Command::Subscribe(topic("other")));
    rig.connect(1);
    rig.connect_as(2, Version::V12, false);
    let told = rig.told(1);
    assert_eq!(told[0], can(true));
    let wants = |mode| Subscription::to(topic("t")).partial(mode);
    assert_eq!(told[1].subscriptions, [Subscription::to(topic("other")), wants(Mode::Requests)]);
    assert!(rig.told(2).iter().all(|rpc| rpc.extensions.is_none()));

    rig.command(Command::SetTopic { topic: topic("t"), rules: Some(TopicConfig::default()) });
    assert_eq!(announced(&mut rig, 1), [wants(Mode::Off)]);
    let rules = || Some(TopicConfig::default().partial(Mode::Sends));
    rig.command(Command::SetTopic { topic: topic("t"), rules: rules() });
    assert_eq!(announced(&mut rig, 1), [wants(Mode::Sends)]);
    rig.command(Command::SetTopic { topic: topic("t"), rules: rules() });
    rig.command(Command::SetTopic { topic: topic("unwanted"), rules: rules() });
    assert!(announced(&mut rig, 1).is_empty(), "nothing has changed");
}

#[test]
fn who_does_not_speak_of_partial_messages_ignores_them() {
    let mut rig = Rig::meshed(1);
    let told = rig.told(1);
    assert!(told.iter().all(|rpc| rpc.extensions.is_none() && rpc.partial.is_none()));
    let requests = vec![Subscription::to(topic("t")).partial(Mode::Requests)];
    rig.hears(1, Rpc { subscriptions: requests, ..can(true) });
    rig.hears(1, said(b"g", Some(b"part"), Some(wants_others([]))));
    assert!(rig.engine().net.peers[&peer(1)].partial.is_empty() && rig.parts.is_empty());
    assert_eq!((rig.engine().sizes().groups, rig.engine().stats().partial.passed_over), (0, 1));
    assert_eq!(publish(&mut rig, b"g", pieces([])), Err(PublishError::Off));
    rig.publish("t", "rain").unwrap();
    assert_eq!(rig.count([1], |rpc| rpc.messages.len()), [1]);
}

/// The table of the spec: what a peer gets, by what this node does and what the peer has said.
#[test]
fn who_gets_whole_messages_and_who_parts() {
    use Mode::{Off, Requests, Sends};
    // Ours, theirs: whole messages, metadata, parts.
    let table = [
        (Off, Off, (true, false, false)),
        (Off, Requests, (true, false, false)),
        (Sends, Off, (true, false, false)),
        (Sends, Sends, (true, false, false)),
        (Sends, Requests, (false, true, true)),
        (Requests, Off, (true, false, false)),
        (Requests, Sends, (true, true, false)),
        (Requests, Requests, (false, true, true)),
    ];
    for (ours, theirs, expected) in table {
        for flood in [true, false] {
            let mut rig = rig_with(ours, |config| config.flood_publish = flood);
            wants(&mut rig, 1, theirs);
            rig.connect(2);
            rig.command(Command::Subscribe(topic("t")));
            rig.told(1);
            rig.publish("t", "own").unwrap();
            rig.message(2, 2, "forwarded");
            let whole = rig.count([1], |rpc| rpc.messages.len()) == [2];
            let published = publish(&mut rig, b"g", pieces(0..8).eager());
            assert_eq!(published.is_ok(), ours.sends());
            let told = told(&mut rig, 1);
            let metadata = told.iter().any(|(metadata, _)| metadata.is_some());
            let parts = told.iter().any(|(_, parts)| !parts.is_empty());
            assert_eq!((whole, metadata, parts), expected, "{ours:?} {theirs:?}");
        }
    }
}

/// By the subscription alone it does not count: the peer has to have said that it speaks of partial messages, on a stream of
/// 1.3.
#[test]
fn who_requests_parts_and_cannot_take_them_gets_whole_messages() {
    let mut rig = rig(Mode::Requests);
    let requests = || vec![Subscription::to(topic("t")).partial(Mode::Requests)];
    rig.connect(1);
    rig.hears(1, Rpc { subscriptions: requests(), ..can(false) });
    rig.connect_as(2, Version::V12, false);
    rig.hears(2, Rpc { subscriptions: requests(), ..can(true) });
    rig.command(Command::Subscribe(topic("t")));
    (1..=2).for_each(|n| drop(rig.told(n)));
    assert_eq!(publish(&mut rig, b"g", pieces(0..8)), Ok(Published::default()));
    rig.publish("t", "rain").unwrap();
    assert_eq!(rig.count(1..=2, |rpc| rpc.messages.len()), [1, 1]);
    rig.hears(1, said(b"g", None, Some(wants_others([]))));
    assert_eq!((rig.parts.len(), rig.engine().stats().partial.passed_over), (0, 1));
}

#[test]
fn a_peer_is_told_and_then_given_what_it_lacks_and_nothing_twice() {
    let mut rig = meshed(Mode::Requests, Mode::Requests, 1);
    assert_eq!(publish(&mut rig, b"g", pieces([0, 1, 2])).unwrap().peers, 1);
    assert_eq!(told(&mut rig, 1), [(Some(bits([0, 1, 2])), vec![])], "it may have everything");
    rig.hears(1, said(b"g", None, Some(wants_others([1]))));
    assert_eq!(told(&mut rig, 1), [(None, vec![0, 2])]);
    // What it says next it may have said before those came.
    rig.hears(1, said(b"g", None, Some(wants_others([1, 5]))));
    assert_eq!(told(&mut rig, 1), []);
    assert_eq!(publish(&mut rig, b"g", pieces([0, 1, 2])).unwrap(), Published::default(), "no news");
    assert_eq!(publish(&mut rig, b"g", pieces([0, 1, 2, 3, 5])).unwrap().peers, 1);
    assert_eq!(told(&mut rig, 1), [(Some(bits([0, 1, 2, 3, 5])), vec![3])]);
    rig.heartbeats(2);
    assert_eq!(told(&mut rig, 1), []);
    let heard: Vec<_> = rig.parts.iter().map(|received| received.metadata.clone()).collect();
    assert_eq!(heard, [Some(wants_others([1])), Some(wants_others([1, 5]))], "the program hears all");
}

#[test]
fn who_has_asked_first_is_given_what_there_is_once_there_is_something() {
    let mut rig = meshed(Mode::Requests, Mode::Requests, 20);
    let out = (1..=20).find(|n| !rig.in_mesh(*n)).unwrap();
    rig.hears(out, said(b"g", None, Some(wants_others([0]))));
    assert_eq!(rig.engine().sizes().groups, 1);
    assert_eq!(publish(&mut rig, b"g", pieces([0, 1])).unwrap().peers, 7, "the mesh of six, and it");
    assert_eq!(told(&mut rig, out), [(Some(bits([0, 1])), vec![1])]);
}

/// IHAVEs are for those who get whole messages; the others hear what there is of partial ones, and no parts yet.
#[test]
fn outside_of_the_mesh_metadata_takes_the_place_of_ihave() {
    let mut rig = meshed(Mode::Requests, Mode::Requests, 12);
    (13..=24).for_each(|n| wants(&mut rig, n, Mode::Off));
    rig.message(1, 1, "rain");
    publish(&mut rig, b"g", pieces([0]).eager()).unwrap();
    let inside: Vec<u16> = (1..=24).filter(|n| rig.in_mesh(*n)).collect();
    (1..=24).for_each(|n| drop(rig.told(n)));
    rig.heartbeats(1);
    let (mut by_ihave, mut by_metadata) = (0, 0);
    for n in 1..=24 {
        let rpcs = rig.told(n);
        let ihave = rpcs.iter().any(|rpc| !rpc.ihave.is_empty());
        let partial: Vec<_> = rpcs.iter().filter_map(|rpc| rpc.partial.as_deref()).collect();
        assert!(partial.iter().all(|partial| partial.parts.is_none() && partial.metadata == Some(bits([0]))));
        assert!(!(inside.contains(&n) && (ihave || !partial.is_empty())));
        assert!(!ihave || n > 12, "a peer that requests parts was told of whole messages");
        assert!(partial.is_empty() || n <= 12);
        by_ihave += usize::from(ihave);
        by_metadata += usize::from(!partial.is_empty());
    }
    assert!(by_metadata > 0 && by_ihave > 0 && by_ihave + by_metadata == 6, "{by_ihave} {by_metadata}");
    // Once of each message.
    let before = rig.engine().stats().partial.sent;
    rig.heartbeats(3);
    assert!(rig.engine().stats().partial.sent - before <= 6);
}

#[test]
fn who_sends_parts_is_not_told_which_whole_messages_are_not_wanted() {
    let large = "x".repeat(4096);
    for (ours, theirs, expected) in
        [(Mode::Requests, Mode::Sends, 0), (Mode::Sends, Mode::Sends, 1), (Mode::Requests, Mode::Off, 1)]
    {
        let mut rig = meshed(ours, theirs, 2);
        rig.message(1, 1, &large);
        assert_eq!(rig.count([2], |rpc| rpc.idontwant.len()), [expected], "{ours:?} {theirs:?}");
    }
}

#[test]
fn who_comes_into_the_mesh_later_is_told_at_the_heartbeat() {
    let mut rig = meshed(Mode::Requests, Mode::Requests, 0);
    assert_eq!(publish(&mut rig, b"g", pieces([0])), Ok(Published::default()));
    wants(&mut rig, 1, Mode::Requests);
    rig.grafts(1, "t");
    rig.heartbeats(1);
    assert_eq!(told(&mut rig, 1), [(Some(bits([0])), vec![])]);
    rig.heartbeats(1);
    assert_eq!(told(&mut rig, 1), []);
}

#[test]
fn a_message_is_forgotten_so_many_heartbeats_after_it_was_published_last() {
    let mut rig = meshed(Mode::Requests, Mode::Requests, 1);
    publish(&mut rig, b"g", pieces([0])).unwrap();
    rig.heartbeats(4);
    publish(&mut rig, b"g", pieces([0])).unwrap();
    rig.heartbeats(4);
    assert_eq!((rig.engine().sizes().groups, rig.engine().sizes().hearers), (1, 1));
    rig.heartbeats(1);
    assert_eq!((rig.engine().sizes().groups, rig.engine().sizes().hearers), (0, 0));
    // What peers say of one keeps it no longer than their first word.
    rig.hears(1, said(b"g", None, Some(wants_others([0]))));
    for _ in 0..4 {
        rig.heartbeats(1);
        rig.hears(1, said(b"g", None, Some(wants_others([0]))));
    }
    assert_eq!(rig.engine().sizes().groups, 1);
    rig.heartbeats(1);
    assert_eq!(rig.engine().sizes().groups, 0);
}

/// Beyond that, nothing is remembered, and the program hears of it all the same.
#[test]
fn what_peers_can_bring_up_is_bounded() {
    let change = |config: &mut Config| {
        config.partial = Some(Limits { groups: 10, groups_per_peer: 4, own_groups: 2, ..Limits::default() });
    };
    let mut rig = rig_with(Mode::Requests, change);
    (1..=3).for_each(|n| wants(&mut rig, n, Mode::Requests));
    rig.command(Command::Subscribe(topic("t")));
    let mut heard = 0;
    let mut says = |rig: &mut Rig, n: u16, group: u8| {
        rig.hears(n, said(&[group], None, Some(bits([]))));
        heard += 1;
        assert_eq!(rig.parts.len(), heard);
        rig.engine().sizes().groups
    };
    assert_eq!((1..=4).map(|g| says(&mut rig, 1, g)).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(says(&mut rig, 1, 5), 4, "a fifth of the same peer");
    assert_eq!(says(&mut rig, 1, 1), 4, "one that is known");
    assert_eq!((11..=14).map(|g| says(&mut rig, 2, g)).collect::<Vec<_>>(), [5, 6, 7, 8]);
    assert_eq!((21..=23).map(|g| says(&mut rig, 3, g)).collect::<Vec<_>>(), [9, 10, 10], "an eleventh");
    assert_eq!(rig.engine().stats().partial.not_remembered, 2);
    // What this node publishes does not count, but has a limit of its own.
    publish(&mut rig, &[1], pieces([])).unwrap();
    assert_eq!(says(&mut rig, 1, 5), 11);
    publish(&mut rig, &[99], pieces([])).unwrap();
    publish(&mut rig, &[99], pieces([1])).unwrap();
    assert_eq!(publish(&mut rig, &[98], pieces([])), Err(PublishError::TooMany { max: 2 }));
    assert_eq!(publish(&mut rig, &[2], pieces([])), Err(PublishError::TooMany { max: 2 }));
    rig.disconnect(1);
    rig.disconnect(2);
    rig.disconnect(3);
    assert_eq!((rig.engine().sizes().groups, rig.engine().sizes().hearers), (2, 0));
    rig.command(Command::Unsubscribe(topic("t")));
    assert_eq!(rig.engine().sizes().groups, 0);
}

/// Metadata of the largest size for one message after another, without end.
#[test]
fn a_flood_of_groups_is_kept_within_limits() {
    let mut rig = meshed(Mode::Requests, Mode::Requests, 1);
    let metadata = Bytes::from(vec![0xff; MAX_METADATA]);
    for n in 0..20_000_u32 {
        rig.hears(1, said(&n.to_be_bytes(), None, Some(metadata.clone())));
        rig.parts.clear();
    }
    assert_eq!((rig.engine().sizes().groups, rig.engine().sizes().hearers), (8, 8));
    assert_eq!(rig.engine().stats().partial.not_remembered, 19_992);
    assert_eq!(told(&mut rig, 1), []);
    rig.disconnect(1);
    assert_eq!((rig.engine().sizes().groups, rig.engine().sizes().hearers), (0, 0));
}

#[test]
fn group_ids_have_a_length() {
    let mut rig = meshed(Mode::Sends, Mode::Requests, 1);
    for len in [0, MAX_GROUP + 1] {
        assert_eq!(publish(&mut rig, &vec![1; len], pieces([])), Err(PublishError::Group { len }));
    }
    assert!(publish(&mut rig, &[1; MAX_GROUP], pieces([])).is_ok());
}

/// A peer that says over and over that it has nothing is not answered for ever.
#[test]
fn answers_to_one_peer_are_bounded() {
    /// Gives everything to everybody, always.
    struct Spendthrift;
    impl Have for Spendthrift {
        fn say(&self, _: &Hearer<'_>) -> Result<Say, NotMetadata> {
            Ok(Say { parts: Bytes::from_static(b"all"), ..Say::default() })
        }
    }
    let change = |config: &mut Config| {
        config.partial = Some(Limits { answers: 3, ..Limits::default() });
    };
    let mut rig = rig_with(Mode::Requests, change);
    wants(&mut rig, 1, Mode::Requests);
    rig.command(Command::Subscribe(topic("t")));
    publish(&mut rig, b"g", Spendthrift).unwrap();
    rig.told(1);
    let asked = |rig: &mut Rig| {
        (0..5).for_each(|_| rig.hears(1, said(b"g", None, Some(Bytes::new()))));
        rig.count([1], |rpc| usize::from(rpc.partial.is_some()))
    };
    assert_eq!(asked(&mut rig), [3]);
    rig.heartbeats(1);
    rig.told(1);
    assert_eq!(asked(&mut rig), [3]);
    assert_eq!(rig.engine().stats().partial.not_answered, 4);
}

#[test]
fn parts_that_were_not_requested_or_are_too_large_are_not_taken() {
    let mut rig = meshed(Mode::Sends, Mode::Requests, 1);
    rig.hears(1, said(b"g", Some(b"part"), None));
    assert!(rig.parts.is_empty());
    rig.hears(1, said(b"g", Some(b"part"), Some(wants_others([]))));
    assert_eq!((rig.parts.len(), rig.parts[0].parts.is_none()), (1, true));
    assert_eq!(rig.engine().stats().partial.passed_over, 2);
    assert!(rig.engine().score(&peer(1)) >= 0.0);

    let mut rig = rig_with(Mode::Requests, |config| {
        config.topics = [(topic("t"), TopicConfig::default().partial(Mode::Requests).max_size(4))].into();
    });
    wants(&mut rig, 1, Mode::Requests);
    rig.command(Command::Subscribe(topic("t")));
    rig.hears(1, said(b"g", Some(b"part"), None));
    assert_eq!(rig.parts.len(), 1);
    rig.hears(1, said(b"g", Some(b"parts"), None));
    assert_eq!(rig.parts.len(), 1);
    assert_eq!(rig.engine().stats().refused.get(&Refusal::TooLarge), Some(&1));
    assert!(rig.engine().score(&peer(1)) < 0.0);
}

#[test]
fn what_is_wrong_costs_the_peer() {
    let mut rig = meshed(Mode::Requests, Mode::Requests, 2);
    publish(&mut rig, b"g", pieces([0])).unwrap();
    (1..=2).for_each(|n| drop(rig.told(n)));
    // Of other pieces.
    rig.hears(1, said(b"g", None, Some(Bytes::from_static(&[0; 3]))));
    assert_eq!(rig.misdeeds(Misdeed::NotMetadata), 1);
    assert_eq!(told(&mut rig, 1), []);
    rig.command(Command::RejectPartial { peer: peer(2), topic: topic("t") });
    assert!(rig.engine().score(&peer(2)) < 0.0);
    // And who is not worth hearing is not heard.
    rig.parts.clear();
    rig.command(Command::SetAppScore { peer: peer(1), score: -100.0 });
    rig.hears(1, said(b"g", Some(b"part"), Some(wants_others([]))));
    assert!(rig.parts.is_empty());
}

#[test]
fn for_whom_there_is_no_room_is_told_at_the_heartbeat() {
    let mut rig = rig_with(Mode::Requests, |config| config.queue.topic = 1);
    wants(&mut rig, 1, Mode::Requests);
    rig.command(Command::Subscribe(topic("t")));
    publish(&mut rig, b"other", pieces([0])).unwrap();
    let has_no_room = Published { full: 1, ..Published::default() };
    assert_eq!(publish(&mut rig, b"g", pieces([0])), Ok(has_no_room));
    rig.told(1);
    rig.heartbeats(1);
    assert_eq!(told(&mut rig, 1), [(Some(bits([0])), vec![])]);

    // Also who is in no mesh, and has asked.
    rig.prunes(1, "t", None);
    rig.hears(1, said(b"other", None, Some(wants_others([]))));
    rig.hears(1, said(b"g", None, Some(wants_others([]))));
    rig.told(1);
    rig.heartbeats(1);
    assert_eq!(told(&mut rig, 1), [(None, vec![0])]);
}

#[test]
fn what_does_not_fit_is_not_sent() {
    struct Large(usize, usize, usize);
    impl Have for Large {
        fn say(&self, to: &Hearer<'_>) -> Result<Say, NotMetadata> {
            let (metadata, parts) = (vec![0; self.0].into(), vec![0; to.room + self.1].into());
            Ok(Say { metadata, parts, given: vec![0; self.2].into() })
        }
    }
    let mut rig = meshed(Mode::Requests, Mode::Requests, 1);
    let group = [1; MAX_GROUP];
    assert_eq!(publish(&mut rig, &group, Large(MAX_METADATA + 1, 0, 0)).unwrap().too_large, 1);
    assert_eq!(publish(&mut rig, &group, Large(0, 1, 0)).unwrap().too_large, 1);
    assert_eq!(publish(&mut rig, &group, Large(0, 0, MAX_GIVEN + 1)).unwrap().too_large, 1);
    let dropped = rig.engine().stats().dropped.get(&(Lane::Forward, DropReason::TooLarge)).copied();
    assert_eq!(dropped, Some(3));
    assert_eq!(publish(&mut rig, &group, Large(MAX_METADATA, 0, MAX_GIVEN)).unwrap().peers, 1);
    // Others read it.
    assert_eq!(rig.told(1).len(), 1);
}

/// What peers say is charged to the node's memory. Without any it is heard, and not remembered.
#[test]
fn what_is_remembered_is_charged() {
    let budget = Budget::limited(2000);
    let mut rig = rig(Mode::Requests);
    let config = rig.engine().config.clone();
    rig.sim = Sim::new(Engine::new(config, peer(0), rng(7), 1).charged_to(budget.clone()));
    wants(&mut rig, 1, Mode::Requests);
    rig.command(Command::Subscribe(topic("t")));
    rig.told(1);
    let metadata = |len| Some(Bytes::from(vec![0; len]));
    rig.hears(1, said(b"1", None, metadata(1500)));
    rig.hears(1, said(b"2", None, metadata(1500)));
    assert_eq!((rig.parts.len(), rig.engine().sizes().groups), (2, 1));
    assert!(budget.reserve(600).is_err());
    rig.hears(1, said(b"1", None, metadata(10)));
    rig.disconnect(1);
    drop(budget.reserve(2000).unwrap());
}

/// Who publishes need not want the topic: it is answered, and answers.
#[test]
fn who_publishes_without_wanting_the_topic_gives_parts_to_who_asks() {
    let mut from = rig(Mode::Sends);
    wants(&mut from, 1, Mode::Requests);
    from.told(1);
    assert_eq!(publish(&mut from, b"g", pieces([0, 1])).unwrap().peers, 1);
    assert_eq!(told(&mut from, 1), [(Some(bits([0, 1])), vec![])]);
    from.hears(1, said(b"g", None, Some(wants_others([0]))));
    assert_eq!(told(&mut from, 1), [(None, vec![1])]);
    from.heartbeats(5);
    assert_eq!(from.engine().sizes().groups, 0);

    let mut to = rig(Mode::Requests);
    to.connect(1);
    to.hears(1, can(true));
    to.command(Command::Subscribe(topic("t")));
    to.told(1);
    to.hears(1, said(b"g", None, Some(wants_others([0, 1]))));
    assert_eq!(publish(&mut to, b"g", pieces([0])).unwrap().peers, 1);
    assert_eq!(told(&mut to, 1), [(Some(bits([0])), vec![])]);
    assert_eq!(publish(&mut to, b"other", pieces([0])), Ok(Published::default()), "it has not spoken of it");
}

/// A peer whose stream began anew has forgotten what it was told, and this node what the peer has.
#[test]
fn with_new_streams_all_is_said_anew() {
    let mut rig = meshed(Mode::Requests, Mode::Requests, 1);
    publish(&mut rig, b"g", pieces([0])).unwrap();
    rig.hears(1, said(b"g", None, Some(wants_others([]))));
    assert_eq!(told(&mut rig, 1).last(), Some(&(None, vec![0])));
    let session = rig.engine().net.peers[&peer(1)].session;
    rig.input(Input::LinkFailed { peer: peer(1), session, unsupported: false });
    rig.heartbeats(2);
    rig.grafts(1, "t");
    rig.heartbeats(1);
    assert_eq!(told(&mut rig, 1), [(Some(bits([0])), vec![0])], "what it has, it had said");
    rig.input(Input::Inbound { peer: peer(1), stream: 5 });
    assert_eq!(rig.engine().sizes().hearers, 0);
    let subscriptions = vec![Subscription::to(topic("t")).partial(Mode::Requests)];
    rig.input(Input::Recalled { peer: peer(1), stream: 6, subscriptions, heard: can(true).extensions });
    publish(&mut rig, b"g", pieces([0, 1]).eager()).unwrap();
    assert_eq!(told(&mut rig, 1), [(Some(bits([0, 1])), vec![0, 1])]);
}
