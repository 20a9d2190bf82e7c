//! Rules of topics that are set while the engine runs.

use super::*;
use crate::{TopicConfig, event::Refusal, score::presets};

fn set(rig: &mut Rig, rules: Option<TopicConfig>) {
    rig.command(Command::SetTopic { topic: topic("t"), rules });
}

fn score(rig: &mut Rig, params: Option<crate::score::TopicParams>) -> Result<(), SetTopicError> {
    let answer = Arc::new(Mutex::new(None));
    let kept = answer.clone();
    let reply = Reply::new(move |result| *kept.lock().unwrap() = Some(result));
    rig.command(Command::ScoreTopic { topic: topic("t"), params, reply });
    answer.lock().unwrap().take().expect("it answers")
}

fn anonymous(text: &'static str) -> WireMessage {
    Author::new(keypair(1), 0).write(topic("t"), Bytes::from_static(text.as_bytes()), Signing::Anonymous)
}

#[test]
fn the_next_message_follows_the_new_rules() {
    let mut rig = Rig::meshed(1);
    rig.sends(1, anonymous("rain"));
    assert_eq!(rig.delivered.len(), 0);
    set(&mut rig, Some(TopicConfig::default().signing(Signing::Anonymous).max_size(10)));
    rig.sends(1, anonymous("rain"));
    assert_eq!(rig.delivered.len(), 1);
    rig.sends(1, anonymous("too much rain"));
    rig.message(1, 1, "signed");
    assert_eq!(rig.delivered.len(), 1);
    assert_eq!(rig.engine().stats().refused.get(&Refusal::TooLarge), Some(&1));
    // And back.
    set(&mut rig, None);
    rig.message(1, 1, "signed");
    rig.sends(1, anonymous("snow"));
    assert_eq!(rig.delivered.len(), 2);
}

#[test]
fn what_is_under_way_goes_on_by_the_rules_under_which_it_came() {
    let mut rig = Rig::meshed(1);
    rig.hold = true;
    rig.message(1, 1, "being verified");
    rig.command(Command::Validator { topic: topic("t"), concurrency: Some(1) });
    set(&mut rig, Some(TopicConfig::default().signing(Signing::Anonymous).max_size(3)));
    rig.verify();
    set(&mut rig, Some(TopicConfig::default().max_size(1)));
    let (ticket, _) = rig.validating.pop().expect("it was looked at");
    rig.input(Input::Validated { ticket, verdict: Verdict::Accept });
    assert_eq!(rig.delivered.len(), 1);
    assert_eq!(rig.engine().stats().refused.len(), 0);
}

#[test]
fn by_other_ids_what_was_seen_is_new() {
    let mut rig = Rig::meshed(1);
    let message = rig.written(1, "rain");
    rig.sends(1, message.clone());
    rig.sends(1, message.clone());
    let by_text = |message: &WireMessage| MessageId::truncated(&message.payload());
    set(&mut rig, Some(TopicConfig::default().id(by_text)));
    rig.sends(1, message.clone());
    rig.sends(1, message);
    rig.message(1, 1, "rain");
    assert_eq!(rig.delivered.len(), 2);
}

#[test]
fn scores_follow_and_what_cannot_be_is_refused_and_changes_nothing() {
    let mut rig = Rig::meshed(1);
    let invalid = |rig: &mut Rig| {
        let mut forged = rig.written(9, "x");
        forged.data = Some(Bytes::from_static(b"y"));
        rig.sends(1, forged);
        rig.engine().score(&peer(1))
    };
    let mild = invalid(&mut rig);
    let mut params = presets::small_topic();
    params.invalid.as_mut().unwrap().weight = -100.0;
    assert_eq!(score(&mut rig, Some(params)), Ok(()));
    assert!(rig.engine().score(&peer(1)) < mild * 5.0, "what is counted weighs more");
    let hard = rig.engine().score(&peer(1));
    params.invalid.as_mut().unwrap().weight = 100.0;
    assert!(matches!(score(&mut rig, Some(params)), Err(SetTopicError::Params(_))));
    assert_eq!(rig.engine().score(&peer(1)), hard);
    // It stays when the topic is left, and is gone when it is taken back.
    rig.command(Command::Unsubscribe(topic("t")));
    assert!(rig.engine().score(&peer(1)) < 0.0);
    assert_eq!(score(&mut rig, None), Ok(()));
    assert_eq!(rig.engine().score(&peer(1)), 0.0);

    let mut rig = Rig::meshed_with(1, |config| config.scoring = None);
    assert_eq!(score(&mut rig, Some(presets::small_topic())), Err(SetTopicError::NotScored));
}
