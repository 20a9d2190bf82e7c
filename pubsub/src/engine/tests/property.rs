use proptest::prelude::*;

use super::*;
use crate::{
    codec::{Exchanged, Extensions, Partial},
    config::TopicConfig,
    partial::{Holding, Limits, Mode, Pieces},
};

#[derive(Clone, Debug)]
enum Step {
    Connect(u16, u8, bool),
    Disconnect(u16),
    Inbound(u16, u64),
    InboundEnded(u16, u64),
    LinkFailed(u16, bool),
    Rpc(u16, Rpc),
    Message(u16, u16, u8),
    Subscribe(u8),
    Unsubscribe(u8),
    Publish(u8),
    PublishPartial(u8, u8, usize),
    SetTopic(u8, Mode),
    Validate(u8, Option<usize>),
    Verdict(u8),
    Score(u16, i16),
    Blacklist(u16, bool),
    Direct(u16, bool),
    Drain(u16),
    Advance(u64),
}

fn names() -> impl Strategy<Value = u8> {
    0..4_u8
}

fn peers() -> impl Strategy<Value = u16> {
    1..6_u16
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Off), Just(Mode::Sends), Just(Mode::Requests)]
}

/// Metadata of four pieces, or of five: one bitmap, and another one.
fn metadata() -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of((0..17_u8, 0..16_u8).prop_map(|(there, wanted)| Bytes::from(vec![there, wanted])))
}

fn named(n: u8) -> Topic {
    topic(["t", "a", "b", "c"][usize::from(n)])
}

prop_compose! {
    fn rpc()(
        subscriptions in prop::collection::vec((any::<bool>(), names(), modes()), 0..4),
        partial in prop::option::of((names(), 0..12_u8, any::<bool>(), metadata())),
        ids in prop::collection::vec(0..20_u8, 0..6),
        kind in 0..4,
        grafts in prop::collection::vec(names(), 0..3),
        prunes in prop::collection::vec((names(), any::<Option<u64>>(), peers()), 0..3),
        extensions in any::<bool>(),
    ) -> Rpc {
        let ids: Vec<_> = ids.into_iter().map(|id| Bytes::from(vec![id])).collect();
        let mut rpc = Rpc {
            subscriptions: subscriptions.into_iter().map(|(subscribe, n, partial)| Subscription { subscribe, topic: named(n), partial }).collect(),
            partial: partial.map(|(n, group, parts, metadata)| Box::new(Partial {
                topic: named(n),
                group: Bytes::from(vec![group]),
                parts: parts.then(|| Bytes::from_static(b"part")),
                metadata,
            })),
            grafts: grafts.into_iter().map(named).collect(),
            prunes: prunes.into_iter().map(|(n, backoff, other)| Prune {
                topic: named(n),
                peers: vec![Exchanged { peer: peer(other + 3), record: None }],
                backoff,
            }).collect(),
            extensions: extensions.then_some(Extensions { partial_messages: true, test: false }),
            ..Rpc::default()
        };
        match kind {
            0 => rpc.ihave = vec![IHave { topic: topic("t"), ids }],
            1 => rpc.iwant = ids,
            2 => (rpc.idontwant, rpc.idontwant_entries) = (ids, 1),
            _ => {}
        }
        rpc
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (peers(), 0..5_u8, any::<bool>()).prop_map(|(n, version, dialed)| Step::Connect(n, version, dialed)),
        1 => peers().prop_map(Step::Disconnect),
        1 => (peers(), 0..3_u64).prop_map(|(n, stream)| Step::Inbound(n, stream)),
        1 => (peers(), 0..3_u64).prop_map(|(n, stream)| Step::InboundEnded(n, stream)),
        1 => (peers(), any::<bool>()).prop_map(|(n, unsupported)| Step::LinkFailed(n, unsupported)),
        8 => (peers(), rpc()).prop_map(|(n, rpc)| Step::Rpc(n, rpc)),
        3 => (peers(), peers(), any::<u8>()).prop_map(|(from, author, fault)| Step::Message(from, author, fault)),
        2 => names().prop_map(Step::Subscribe),
        1 => names().prop_map(Step::Unsubscribe),
        2 => names().prop_map(Step::Publish),
        2 => (names(), 0..12_u8, 0..5_usize).prop_map(|(n, group, there)| Step::PublishPartial(n, group, there)),
        1 => (names(), modes()).prop_map(|(n, mode)| Step::SetTopic(n, mode)),
        1 => (names(), prop::option::of(0..3_usize)).prop_map(|(n, most)| Step::Validate(n, most)),
        2 => any::<u8>().prop_map(Step::Verdict),
        1 => (peers(), any::<i16>()).prop_map(|(n, score)| Step::Score(n, score)),
        1 => (peers(), any::<bool>()).prop_map(|(n, on)| Step::Blacklist(n, on)),
        1 => (peers(), any::<bool>()).prop_map(|(n, on)| Step::Direct(n, on)),
        2 => peers().prop_map(Step::Drain),
        3 => (0..5000_u64).prop_map(Step::Advance),
    ]
}

fn take(rig: &mut Rig, step: Step) {
    match step {
        Step::Connect(n, version, dialed) => rig.connect_as(n, Version::ALL[usize::from(version)], dialed),
        Step::Disconnect(n) => rig.disconnect(n),
        Step::Inbound(n, stream) => rig.input(Input::Inbound { peer: peer(n), stream }),
        Step::InboundEnded(n, stream) => rig.input(Input::InboundEnded { peer: peer(n), stream }),
        Step::LinkFailed(n, unsupported) => {
            let session = rig.engine().net.peers.get(&peer(n)).map_or(0, |peer| peer.session);
            rig.input(Input::LinkFailed { peer: peer(n), session, unsupported });
        }
        Step::Rpc(n, rpc) => rig.hears(n, rpc),
        Step::Message(from, author, fault) => {
            let mut message = rig.written(author, "x");
            match fault % 8 {
                0 => message.signature = None,
                1 => message.data = None,
                2 => message.from = Some(Bytes::from_static(b"nobody")),
                3 => message.topic = topic("a"),
                _ => {}
            }
            rig.sends(from, message);
        }
        Step::Subscribe(n) => rig.command(Command::Subscribe(named(n))),
        Step::Unsubscribe(n) => rig.command(Command::Unsubscribe(named(n))),
        Step::Publish(n) => drop(rig.publish(named(n).as_str(), "x")),
        Step::PublishPartial(n, group, there) => {
            let mut pieces = Pieces::nothing(4).unwrap();
            (0..there).for_each(|n| pieces.put(n, Bytes::from_static(b"piece")));
            let (have, reply) = (Holding(Arc::new(pieces.eager())), Reply::new(|_| {}));
            let group = Bytes::from(vec![group]);
            rig.command(Command::PublishPartial { topic: named(n), group, have, reply });
        }
        Step::SetTopic(n, mode) => {
            let rules = Some(TopicConfig::default().partial(mode));
            rig.command(Command::SetTopic { topic: named(n), rules });
        }
        Step::Validate(n, concurrency) => rig.command(Command::Validator { topic: named(n), concurrency }),
        Step::Verdict(n) => {
            let verdict = [Verdict::Accept, Verdict::Reject, Verdict::Ignore][usize::from(n % 3)];
            if let Some((ticket, _)) = rig.validating.pop() {
                rig.input(Input::Validated { ticket, verdict });
            }
        }
        Step::Score(n, score) => rig.command(Command::SetAppScore { peer: peer(n), score: score.into() }),
        Step::Blacklist(n, on) => rig.command(Command::Blacklist { peer: peer(n), on }),
        Step::Direct(n, true) => rig.command(Command::AddDirect { peer: peer(n), addresses: Vec::new() }),
        Step::Direct(n, false) => rig.command(Command::RemoveDirect(peer(n))),
        Step::Drain(n) => drop(rig.told(n)),
        Step::Advance(millis) => rig.advance(Duration::from_millis(millis)),
    }
}

/// What holds at all times.
fn check(engine: &Engine) {
    for (name, known) in &engine.topics {
        assert!(known.mesh.is_empty() || known.subscribed, "a mesh of {name} that nobody wants");
        assert!(known.mesh.is_subset(&known.peers), "in the mesh of {name}, but does not want it");
        assert!(known.always.is_subset(&known.peers));
        for peer in &known.peers {
            assert!(engine.net.peers[peer].topics.contains(name));
        }
        for peer in &known.mesh {
            assert!(engine.net.peers[peer].can_join_meshes(), "no stream to a member of the mesh");
            assert!(!engine.direct.contains_key(peer));
            assert!(!engine.blacklist.contains(peer));
        }
    }
    for (peer, state) in &engine.net.peers {
        let meshes = engine.topics.values().filter(|known| known.mesh.contains(peer)).count();
        assert_eq!(state.meshes, meshes);
        assert!(state.topics.iter().all(|topic| engine.topics[topic].peers.contains(peer)));
        assert!(state.partial.keys().all(|topic| state.topics.contains(topic)));
    }
    let sizes = engine.sizes();
    assert!(sizes.peers <= 5 && sizes.topics <= 4 && sizes.backoffs <= 20, "{sizes:?}");
    // Of each topic three of this node's and four of peers'.
    assert!(sizes.groups <= 28 && sizes.hearers <= 28 * 5, "{sizes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_events_breaks_it(steps in prop::collection::vec(step(), 1..120)) {
        let mut rig = Rig::new(|config| {
            config.flood_publish = false;
            config.exchange = true;
            config.queue.control = 8;
            config.queue.topic = 4;
            let limits = Limits { own_groups: 3, groups: 4, groups_per_peer: 2, ..Limits::default() };
            config.partial = Some(limits);
            config.other_topics = TopicConfig::default().partial(Mode::Requests);
        });
        for step in steps {
            take(&mut rig, step);
            check(rig.engine());
        }
        // Everybody goes, and nothing is left once all times have passed.
        for n in 0..4 {
            rig.command(Command::Unsubscribe(named(n)));
        }
        (1..6).for_each(|n| rig.disconnect(n));
        while let Some((ticket, _)) = rig.validating.pop() {
            rig.input(Input::Validated { ticket, verdict: Verdict::Ignore });
        }
        rig.heartbeats(200);
        rig.advance(Duration::from_secs(3700));
        prop_assert_eq!(rig.engine().sizes(), Sizes::default());
    }
}
