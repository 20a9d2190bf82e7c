use super::*;
use crate::{codec::Extensions, config::TopicConfig, partial::Mode};

/// A node that speaks of partial messages, and does so in this way in topic "t".
fn rig(mode: Mode) -> Rig {
    Rig::new(|config| {
        config.partial_messages = true;
        config.topics = [(topic("t"), TopicConfig::default().partial(mode))].into();
    })
}

fn can(partial_messages: bool) -> Rpc {
    Rpc { extensions: Some(Extensions { partial_messages, test: false }), ..Rpc::default() }
}

fn announced(rig: &mut Rig, n: u16) -> Vec<Subscription> {
    rig.told(n).into_iter().flat_map(|rpc| rpc.subscriptions).collect()
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
fn who_does_not_speak_of_partial_messages_does_not_say_so() {
    let mut rig = Rig::meshed(1);
    let told = rig.told(1);
    assert!(told.iter().all(|rpc| rpc.extensions.is_none() && rpc.partial.is_none()));
    rig.hears(
        1,
        Rpc { subscriptions: vec![Subscription::to(topic("t")).partial(Mode::Requests)], ..can(true) },
    );
    assert!(rig.engine().net.peers[&peer(1)].partial.is_empty());
}
