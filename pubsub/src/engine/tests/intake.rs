use super::*;
use crate::{TopicConfig, event::Refusal, signing::Flaw};

fn refused(rig: &Rig, why: Refusal) -> u64 {
    rig.engine().stats().refused.get(&why).copied().unwrap_or_default()
}

#[test]
fn a_message_is_delivered_once_and_sent_on_to_the_mesh() {
    let mut rig = Rig::meshed(4);
    rig.count(1..=4, |_| 0);
    let message = rig.written(9, "rain");
    rig.sends(1, message.clone());
    rig.sends(2, message.clone());
    rig.sends(1, message.clone());
    assert_eq!(rig.delivered.len(), 1);
    let delivered = &rig.delivered[0];
    assert_eq!((delivered.received_from, delivered.author), (peer(1), Some(peer(9))));
    // To everybody but who sent it, byte for byte, signature included.
    assert_eq!(rig.told(1).iter().map(|rpc| rpc.messages.len()).sum::<usize>(), 0);
    for n in 2..=4 {
        let sent: Vec<_> = rig.told(n).into_iter().flat_map(|rpc| rpc.messages).collect();
        assert_eq!(sent, std::slice::from_ref(&message));
    }
    let counted = rig.engine().stats().topics[&topic("t")];
    assert_eq!((counted.received_unfiltered, counted.received, counted.duplicates), (3, 1, 2));
}

#[test]
fn it_is_not_sent_to_its_author() {
    let mut rig = Rig::meshed(3);
    rig.count(1..=3, |_| 0);
    rig.message(1, 2, "rain");
    assert_eq!(rig.count(1..=3, |rpc| rpc.messages.len()), [0, 0, 1]);
}

#[test]
fn a_forged_copy_does_not_suppress_the_true_message() {
    let mut rig = Rig::meshed(4);
    let message = rig.written(9, "rain");
    let forged = WireMessage { data: Some(Bytes::from_static(b"lies")), ..message.clone() };
    // One that was found out before.
    rig.sends(1, forged.clone());
    assert_eq!(refused(&rig, Refusal::Flaw(Flaw::BadSignature)), 1);
    // And one that is being verified when the true one comes.
    rig.hold = true;
    rig.sends(1, forged.clone());
    rig.sends(2, message.clone());
    rig.sends(3, message.clone());
    rig.sends(4, forged);
    assert_eq!(rig.held.len(), 1, "one at a time");
    rig.verify();
    assert_eq!(rig.held.len(), 1, "then the next that differs, once");
    rig.verify();
    assert_eq!(rig.delivered.len(), 1);
    assert_eq!(rig.delivered[0].data, "rain");
    assert_eq!(rig.delivered[0].received_from, peer(2));
    assert_eq!(refused(&rig, Refusal::Flaw(Flaw::BadSignature)), 3, "both who sent it");
    assert!(rig.engine().score(&peer(1)) < 0.0 && rig.engine().score(&peer(4)) < 0.0);
    assert!(rig.engine().score(&peer(3)) >= 0.0);
    assert_eq!(rig.engine().sizes().in_progress, 0);
}

#[test]
fn a_duplicate_is_found_before_its_signature_is_looked_at() {
    let mut rig = Rig::meshed(2);
    let message = rig.written(9, "rain");
    rig.sends(1, message.clone());
    rig.hold = true;
    rig.sends(2, message);
    assert!(rig.held.is_empty());
}

#[test]
fn what_is_refused_and_why() {
    let mut rig = Rig::meshed_with(2, |config| {
        config.other_topics.max_size = 100;
    });
    let sizes = [(100, 1), (101, 1)];
    for (size, delivered) in sizes {
        rig.message(1, 1, &"x".repeat(size));
        assert_eq!(rig.delivered.len(), delivered);
    }
    assert_eq!(refused(&rig, Refusal::TooLarge), 1);
    let other = WireMessage { topic: topic("other"), ..rig.written(1, "") };
    rig.sends(1, other);
    assert_eq!(refused(&rig, Refusal::UnknownTopic), 1);
    let unsigned = WireMessage { signature: None, ..rig.written(1, "") };
    rig.sends(1, unsigned);
    assert_eq!(refused(&rig, Refusal::Flaw(Flaw::NoSignature)), 1);
    rig.message(1, 0, "from this node");
    assert_eq!(refused(&rig, Refusal::NotOurs), 1);
    rig.command(Command::Blacklist { peer: peer(7), on: true });
    rig.message(1, 7, "by way of another");
    assert_eq!(refused(&rig, Refusal::Blacklisted), 1);
    rig.command(Command::Blacklist { peer: peer(1), on: true });
    rig.message(1, 9, "itself");
    assert_eq!(rig.delivered.len(), 1);
    assert!(!rig.in_mesh(1));
    rig.command(Command::Blacklist { peer: peer(1), on: false });
    rig.wants(1, "t");
    rig.message(1, 9, "again");
    assert_eq!(rig.delivered.len(), 2);
}

#[test]
fn own_messages_that_come_back_are_known() {
    let mut rig = Rig::meshed(2);
    rig.publish("t", "rain").unwrap();
    let mine = rig.told(1).into_iter().flat_map(|rpc| rpc.messages).next().unwrap();
    rig.sends(2, mine);
    assert_eq!(refused(&rig, Refusal::NotOurs), 0);
    assert_eq!(rig.engine().stats().topics[&topic("t")].duplicates, 1);
    assert!(rig.delivered.is_empty());
}

#[test]
fn topics_may_be_anonymous_and_have_ids_of_their_own() {
    let anonymous = TopicConfig::default()
        .signing(Signing::Anonymous)
        .id(|message| MessageId::new(&message.payload()[..1]).unwrap());
    let mut rig = Rig::meshed_with(2, |config| {
        config.topics = [(topic("t"), anonymous)].into();
    });
    let author = Author::new(keypair(1), 0);
    for text in [&b"a1"[..], b"a2", b"b"] {
        rig.sends(1, author.write(topic("t"), Bytes::copy_from_slice(text), Signing::Anonymous));
    }
    let texts: Vec<_> = rig.delivered.iter().map(|message| &message.data[..]).collect();
    assert_eq!(texts, [b"a1", &b"b"[..]]);
    assert!(rig.delivered.iter().all(|message| message.author.is_none() && message.sequence.is_none()));
    rig.message(1, 1, "signed");
    assert_eq!(refused(&rig, Refusal::Flaw(Flaw::NotAnonymous)), 1);
}

#[test]
fn validators_decide_and_only_so_many_at_once() {
    let mut rig = Rig::meshed(3);
    rig.count(1..=3, |_| 0);
    rig.command(Command::Validator { topic: topic("t"), concurrency: Some(3) });
    for _ in 0..4 {
        rig.message(1, 9, "rain");
    }
    assert_eq!(rig.validating.len(), 3);
    assert_eq!(refused(&rig, Refusal::Throttled), 1);
    assert!(rig.delivered.is_empty());
    for ((ticket, _), verdict) in std::mem::take(&mut rig.validating).into_iter().zip([
        Verdict::Ignore,
        Verdict::Accept,
        Verdict::Reject,
    ]) {
        rig.input(Input::Validated { ticket, verdict });
        rig.input(Input::Validated { ticket, verdict: Verdict::Accept });
    }
    assert_eq!(rig.delivered.len(), 1);
    assert_eq!(rig.count(1..=3, |rpc| rpc.messages.len()), [0, 1, 1]);
    assert_eq!(refused(&rig, Refusal::Validator(Verdict::Reject)), 1);
    assert_eq!(refused(&rig, Refusal::Validator(Verdict::Ignore)), 1);
    assert!(rig.engine().score(&peer(1)) < 0.0);
    assert_eq!(rig.engine().sizes().in_progress, 0);
    // There is room again, and without a validator no need of it.
    rig.message(1, 9, "snow");
    assert_eq!(rig.validating.len(), 1);
    rig.command(Command::Validator { topic: topic("t"), concurrency: None });
    rig.message(1, 9, "sun");
    assert_eq!(rig.delivered.len(), 2);
}

#[test]
fn nobody_takes_all_the_places_of_verification() {
    let mut rig = Rig::meshed_with(2, |config| config.max_validating = 100);
    rig.hold = true;
    for _ in 0..200 {
        rig.message(1, 9, "x");
    }
    assert_eq!(rig.held.len(), 26);
    rig.message(2, 9, "x");
    assert_eq!(rig.held.len(), 27);
    rig.verify();
    assert_eq!(rig.delivered.len(), 27);
    rig.message(1, 9, "x");
    assert_eq!(rig.held.len(), 1);
}

#[test]
fn a_full_queue_is_told_to_the_publisher_and_counted() {
    let mut rig = Rig::meshed_with(2, |config| config.queue.own = 3);
    let took: Vec<_> = (0..5).map(|_| rig.publish("t", "x").unwrap()).map(|p| (p.peers, p.full)).collect();
    assert_eq!(took, [(2, 0), (2, 0), (2, 0), (0, 2), (0, 2)]);
    let drops =
        rig.events.iter().filter(|event| matches!(event, Event::Dropped { lane: crate::Lane::Own, .. }));
    assert_eq!(drops.count(), 4);
    assert_eq!(rig.publish("t", "x").unwrap().full, 2);
    rig.count(1..=2, |_| 0);
    assert_eq!(rig.publish("t", "x").unwrap().peers, 2);
}
