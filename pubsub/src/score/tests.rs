//! Each parameter against numbers that were computed by hand.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use peerage_core::{PeerId, engine::sim};

use super::{
    presets::{Ethereum, Preset, ethereum, filecoin, small},
    *,
};
use crate::{MessageId, Topic};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

/// Peers with made-up ids.
pub(crate) fn peers(many: usize) -> Vec<PeerId> {
    let id = |n: usize| {
        let mut bytes = [0_u8; 34];
        bytes[..2].copy_from_slice(&[0x12, 0x20]);
        bytes[2..10].copy_from_slice(&n.to_be_bytes());
        PeerId::from_bytes(&bytes).unwrap()
    };
    (0..many).map(id).collect()
}

/// All presets, with more topics than one.
pub(crate) fn presets() -> [(&'static str, Preset); 3] {
    let network = Ethereum::new(topic("b"), topic("a"), ["s1", "s2", "s3"].map(topic));
    [
        ("small", small(["x", "y", "z"].map(topic))),
        ("ethereum", ethereum(&network)),
        ("filecoin", filecoin(topic("blocks"), topic("messages"))),
    ]
}

/// An engine with nothing on but what a test turns on, and one peer.
struct Test {
    engine: Engine,
    topic: Topic,
    peer: PeerId,
    start: Instant,
    now: Instant,
}

impl Test {
    fn new(params: TopicParams) -> Self {
        Self::with(params, |_| {})
    }

    fn with(params: TopicParams, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            topics: [(topic("t"), params)].into(),
            cap: TopicCap::None,
            app_weight: 1.0,
            colocation: None,
            behaviour: None,
            decay_interval: SECOND,
            decay_to_zero: 0.1,
            retain: SECOND * 10,
            remember: SECOND * 5,
            gate: false,
        };
        change(&mut settings);
        let now = sim::start().mono;
        let mut engine = Engine::new(Params::new(settings).unwrap());
        let peer = peers(1)[0];
        engine.connected(peer, None, now);
        Self { engine, topic: topic("t"), peer, start: now, now }
    }

    fn at(&mut self, seconds: f64) {
        self.now = self.start + Duration::from_secs_f64(seconds);
        self.engine.refresh(self.now);
    }

    fn score(&self) -> f64 {
        self.engine.score(&self.peer)
    }

    fn graft(&mut self) {
        self.engine.grafted(self.peer, &self.topic, self.now);
    }

    fn deliver(&mut self, n: u32) {
        let (id, now) = (id(n), self.now);
        self.engine.validating(self.peer, &id, &self.topic, now);
        self.engine.delivered(self.peer, &id, &self.topic, now);
    }

    fn reject(&mut self, n: u32, reason: Reject) {
        self.engine.rejected(self.peer, &id(n), &self.topic, reason, self.now);
    }
}

fn id(n: u32) -> MessageId {
    MessageId::new(n.to_be_bytes()).unwrap()
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn three(weight: f64) -> MeshDeliveries {
    MeshDeliveries {
        weight,
        decay: 0.5,
        threshold: 4.0,
        cap: 6.0,
        activation: SECOND * 2,
        window: Duration::from_millis(10),
    }
}

#[test]
fn p1_counts_whole_quanta_up_to_the_cap() {
    let p1 = TimeInMesh { weight: 0.5, quantum: SECOND * 2, cap: 3.0 };
    let mut test = Test::new(TopicParams { weight: 2.0, time_in_mesh: Some(p1), ..TopicParams::default() });
    test.at(10.0);
    assert_eq!(test.score(), 0.0, "not in the mesh");
    test.graft();
    for (seconds, quanta) in [(11.0, 0.0), (12.0, 1.0), (13.0, 1.0), (15.0, 2.0), (17.0, 3.0), (99.0, 3.0)] {
        test.at(seconds);
        assert_eq!(test.score(), quanta * 0.5 * 2.0, "after {seconds} s");
    }
    test.engine.pruned(test.peer, &test.topic, test.now);
    assert_eq!(test.score(), 0.0);
}

#[test]
fn p2_is_capped_when_counted_and_decays() {
    let p2 = FirstDeliveries { weight: 3.0, decay: 0.5, cap: 2.0 };
    let mut test =
        Test::new(TopicParams { weight: 0.5, first_deliveries: Some(p2), ..TopicParams::default() });
    (0..5).for_each(|n| test.deliver(n));
    assert_eq!(test.score(), 2.0 * 3.0 * 0.5);
    test.at(1.0);
    assert_eq!(test.score(), 1.0 * 3.0 * 0.5);
    test.at(4.0);
    assert_eq!(test.score(), 0.125 * 3.0 * 0.5, "three intervals at once");
    test.at(5.0);
    assert_eq!(test.score(), 0.0, "0.0625 is below what counts as zero");
}

#[test]
fn a_message_is_first_delivered_once() {
    let p2 = FirstDeliveries { weight: 1.0, decay: 0.5, cap: 9.0 };
    let params = TopicParams {
        first_deliveries: Some(p2),
        mesh_deliveries: Some(three(0.0)),
        ..TopicParams::default()
    };
    let mut test = Test::new(params);
    (0..3).for_each(|_| test.deliver(7));
    assert_eq!(test.score(), 1.0);
}

#[test]
fn p3_is_the_square_of_what_is_owed_after_the_activation() {
    let params = TopicParams { mesh_deliveries: Some(three(-2.0)), ..TopicParams::default() };
    let mut test = Test::new(params);
    test.graft();
    test.at(2.0);
    assert_eq!(test.score(), 0.0, "not longer than the activation");
    test.at(3.0);
    assert_eq!(test.score(), -2.0 * 16.0);
    (0..3).for_each(|n| test.deliver(n));
    assert_eq!(test.score(), -2.0);
    (3..9).for_each(|n| test.deliver(n));
    assert_eq!(test.score(), 0.0);
    test.at(4.0);
    assert_eq!(test.score(), -2.0, "the cap of 6, halved, is 1 below 4");
}

#[test]
fn p3_counts_copies_during_validation_and_in_the_window() {
    let params = TopicParams { mesh_deliveries: Some(three(-1.0)), ..TopicParams::default() };
    let mut test = Test::new(params);
    let ids = peers(5);
    for peer in &ids {
        test.engine.connected(*peer, None, test.now);
        test.engine.grafted(*peer, &test.topic, test.now);
    }
    test.at(3.0);
    let (topic, now) = (test.topic.clone(), test.now);
    test.engine.validating(ids[0], &id(1), &topic, now);
    // Twice, which counts once.
    test.engine.duplicate(ids[1], &id(1), &topic, now + SECOND);
    test.engine.duplicate(ids[1], &id(1), &topic, now + SECOND);
    let valid = now + SECOND * 2;
    test.engine.delivered(ids[0], &id(1), &topic, valid);
    test.engine.duplicate(ids[1], &id(1), &topic, valid);
    test.engine.duplicate(ids[0], &id(1), &topic, valid);
    test.engine.duplicate(ids[2], &id(1), &topic, valid + Duration::from_millis(10));
    test.engine.duplicate(ids[3], &id(1), &topic, valid + Duration::from_millis(11));
    let scores: Vec<f64> = ids.iter().map(|peer| test.engine.score(peer)).collect();
    assert_eq!(scores, [-9.0, -9.0, -9.0, -16.0, -16.0]);
}

#[test]
fn p3_does_not_count_outside_of_the_mesh() {
    let params = TopicParams { mesh_deliveries: Some(three(-1.0)), ..TopicParams::default() };
    let mut test = Test::new(params);
    (0..6).for_each(|n| test.deliver(n));
    test.graft();
    test.at(3.0);
    assert_eq!(test.score(), -16.0);
}

#[test]
fn p3b_sticks_after_a_prune() {
    let failures = Some(Decaying { weight: -0.5, decay: 0.5 });
    let params =
        TopicParams { mesh_deliveries: Some(three(-2.0)), mesh_failures: failures, ..TopicParams::default() };
    let mut test = Test::new(params);
    test.graft();
    test.at(3.0);
    test.deliver(1);
    assert_eq!(test.score(), -2.0 * 9.0);
    test.engine.pruned(test.peer, &test.topic, test.now);
    assert_eq!(test.score(), -0.5 * 9.0);
    // A second prune finds no one in the mesh.
    test.engine.pruned(test.peer, &test.topic, test.now);
    assert_eq!(test.score(), -0.5 * 9.0);
    test.at(4.0);
    assert_eq!(test.score(), -0.5 * 4.5);
    test.graft();
    assert_eq!(test.score(), -0.5 * 4.5, "nothing is owed yet");
    test.engine.pruned(test.peer, &test.topic, test.now);
    assert_eq!(test.score(), -0.5 * 4.5, "and so nothing was missed");
}

#[test]
fn p4_is_the_square_of_invalid_messages() {
    let invalid = Some(Decaying { weight: -3.0, decay: 0.5 });
    let mut test = Test::new(TopicParams { weight: 2.0, invalid, ..TopicParams::default() });
    test.reject(1, Reject::Unauthentic);
    test.reject(2, Reject::SelfOrigin);
    test.reject(3, Reject::Invalid);
    assert_eq!(test.score(), -3.0 * 9.0 * 2.0);
    for reason in [Reject::Ignored, Reject::Throttled, Reject::Blacklisted] {
        test.reject(4, reason);
    }
    assert_eq!(test.score(), -3.0 * 9.0 * 2.0);
    test.at(1.0);
    assert_eq!(test.score(), -3.0 * 2.25 * 2.0);
}

#[test]
fn p4_falls_on_all_who_sent_an_invalid_message() {
    let invalid = Some(Decaying { weight: -1.0, decay: 0.5 });
    let mut test = Test::new(TopicParams { invalid, ..TopicParams::default() });
    let ids = peers(4);
    ids.iter().for_each(|peer| test.engine.connected(*peer, None, test.now));
    let (topic, now) = (test.topic.clone(), test.now);
    test.engine.validating(ids[0], &id(1), &topic, now);
    test.engine.duplicate(ids[1], &id(1), &topic, now);
    test.engine.rejected(ids[0], &id(1), &topic, Reject::Invalid, now);
    test.engine.duplicate(ids[2], &id(1), &topic, now);
    let scores = |test: &Test| ids.iter().map(|peer| test.engine.score(peer)).collect::<Vec<_>>();
    assert_eq!(scores(&test), [-1.0, -1.0, -1.0, 0.0]);
    // After five seconds nobody remembers the message.
    test.engine.refresh(now + SECOND * 5);
    assert_eq!(test.engine.sizes().records, 0);
    test.engine.duplicate(ids[3], &id(1), &topic, now + SECOND * 5);
    assert_eq!(test.engine.score(&ids[3]), 0.0);
}

#[test]
fn p5_is_what_the_program_says() {
    let mut test = Test::with(TopicParams::default(), |settings| settings.app_weight = 2.0);
    assert!(test.engine.set_app_score(test.peer, -1.5));
    assert_eq!(test.score(), -3.0);
    test.engine.disconnected(test.peer, test.now);
    assert_eq!(test.score(), -3.0, "it is the program's, and stays");
    assert!(!test.engine.set_app_score(test.peer, f64::NAN));
    assert!(test.engine.set_app_score(test.peer, f64::INFINITY));
    assert_eq!(test.score(), 2.0 * MAX_APP_SCORE);
    assert!(test.engine.set_app_score(test.peer, 0.0));
    assert_eq!(test.score(), 0.0);
    let ids = peers(MAX_APP_SCORES + 1);
    assert!(ids[..MAX_APP_SCORES].iter().all(|peer| test.engine.set_app_score(*peer, 1.0)));
    assert!(!test.engine.set_app_score(ids[MAX_APP_SCORES], 1.0));
    assert!(test.engine.set_app_score(ids[0], 2.0));
}

#[test]
fn p6_is_the_square_of_those_too_many() {
    let allowed = vec!["198.51.100.0/24".parse().unwrap()];
    let colocation = Colocation { weight: -2.0, threshold: 2, allowed };
    let mut test =
        Test::with(TopicParams::default(), |settings| settings.colocation = Some(colocation.clone()));
    let ids = peers(5);
    let scores = |test: &Test| ids.iter().map(|peer| test.engine.score(peer)).collect::<Vec<_>>();
    let connect = |test: &mut Test, address| {
        ids.iter().for_each(|peer| test.engine.connected(*peer, ip(address), test.now));
    };
    connect(&mut test, "192.0.2.1");
    assert_eq!(scores(&test), [-2.0 * 9.0; 5]);
    test.engine.connected(ids[0], ip("192.0.2.2"), test.now);
    assert_eq!(scores(&test), [0.0, -8.0, -8.0, -8.0, -8.0]);
    test.engine.disconnected(ids[1], test.now);
    test.engine.disconnected(ids[2], test.now);
    assert_eq!(scores(&test), [0.0; 5], "they left nothing behind to remember");
    for (address, score) in [("127.0.0.1", 0.0), ("198.51.100.7", 0.0), ("2001:db8::1", -18.0)] {
        connect(&mut test, address);
        assert_eq!(scores(&test), [score; 5], "{address}");
    }
    // All in one /64.
    for (n, peer) in ids.iter().enumerate() {
        test.engine.connected(*peer, ip(&format!("2001:db8::{n}")), test.now);
    }
    assert_eq!(scores(&test), [-18.0; 5]);
    let mut settings = test.engine.params().settings().clone();
    settings.colocation = Some(Colocation { threshold: 4, ..colocation });
    test.engine.set_params(Params::new(settings).unwrap());
    assert_eq!(scores(&test), [-2.0; 5]);
    ids.iter().for_each(|peer| test.engine.disconnected(*peer, test.now));
    assert_eq!(test.engine.sizes(), Sizes::default());
}

#[test]
fn p7_is_the_square_above_the_threshold() {
    let behaviour = Behaviour { weight: -10.0, decay: 0.5, threshold: 2.0 };
    let mut test = Test::with(TopicParams::default(), |settings| settings.behaviour = Some(behaviour));
    test.engine.penalize(test.peer, 2);
    assert_eq!(test.score(), 0.0);
    test.engine.penalize(test.peer, 3);
    assert_eq!(test.score(), -90.0);
    test.at(1.0);
    assert_eq!(test.score(), -10.0 * 0.25);
    assert_eq!(test.engine.breakdown(&test.peer).behaviour, Part { value: 0.25, score: -2.5 });
}

#[test]
fn caps() {
    let p2 = FirstDeliveries { weight: 1.0, decay: 0.5, cap: 100.0 };
    let invalid = Some(Decaying { weight: -1.0, decay: 0.5 });
    let params = TopicParams { first_deliveries: Some(p2), invalid, ..TopicParams::default() };
    let score = |cap, deliveries, rejections| {
        let mut test = Test::with(params, |settings| settings.cap = cap);
        (0..deliveries).for_each(|n| test.deliver(n));
        (0..rejections).for_each(|n| test.reject(1000 + n, Reject::Invalid));
        test.score()
    };
    assert_eq!(score(TopicCap::None, 20, 2), 16.0);
    assert_eq!(score(TopicCap::Sum(10.0), 20, 2), 10.0, "the penalty does not show");
    assert_eq!(score(TopicCap::Rewards(10.0), 20, 2), 6.0);
    assert_eq!(score(TopicCap::Sum(10.0), 5, 3), -4.0);
    assert_eq!(score(TopicCap::Rewards(10.0), 5, 3), -4.0);
}

#[test]
fn topics_that_are_not_scored_do_not_matter() {
    let mut test = Test::new(TopicParams::default());
    let other = topic("other");
    test.engine.grafted(test.peer, &other, test.now);
    test.engine.validating(test.peer, &id(1), &other, test.now);
    test.engine.rejected(test.peer, &id(1), &other, Reject::Invalid, test.now);
    assert_eq!(test.engine.sizes().records, 0);
    assert_eq!(test.engine.breakdown(&test.peer), Breakdown::default());
    // Nor do strangers.
    let stranger = peers(2)[1];
    test.engine.rejected(stranger, &id(1), &test.topic, Reject::Unauthentic, test.now);
    test.engine.penalize(stranger, 100);
    assert_eq!((test.engine.score(&stranger), test.engine.sizes().connected), (0.0, 1));
}

/// A peer that goes loses the good and keeps the bad, undecayed, for as long as is retained.
#[test]
fn faults_are_retained() {
    let preset = small([topic("t")]);
    let params = preset.settings.topics[&topic("t")];
    let behaviour = Some(Behaviour { weight: -1.0, decay: 0.5, threshold: 0.0 });
    let new = || Test::with(params, |settings| settings.behaviour = behaviour);

    let mut test = new();
    test.graft();
    (0..9).for_each(|n| test.deliver(n));
    test.reject(100, Reject::Invalid);
    test.engine.penalize(test.peer, 2);
    test.engine.disconnected(test.peer, test.now);
    assert_eq!(test.score(), -10.0 - 4.0);
    test.at(9.0);
    assert_eq!(test.score(), -10.0 - 4.0, "not decayed");
    test.engine.connected(test.peer, None, test.now);
    test.at(11.0);
    assert_eq!(test.engine.sizes(), Sizes { connected: 1, ..Sizes::default() });
    assert!((-13.0..-9.0).contains(&test.score()), "decays again: {}", test.score());

    test.engine.disconnected(test.peer, test.now);
    assert_eq!(test.engine.sizes().gone, 1);
    test.at(20.9);
    assert_eq!(test.engine.sizes().gone, 1);
    test.at(21.0);
    assert_eq!((test.engine.sizes(), test.score()), (Sizes::default(), 0.0));

    let mut clean = new();
    clean.deliver(1);
    clean.engine.disconnected(clean.peer, clean.now);
    assert_eq!(clean.engine.sizes().gone, 0, "there is nothing to remember");
}

/// What is owed at a disconnection is a mesh failure as it is at a prune.
#[test]
fn leaving_does_not_avoid_p3b() {
    let failures = Some(Decaying { weight: -1.0, decay: 0.5 });
    let params =
        TopicParams { mesh_deliveries: Some(three(-2.0)), mesh_failures: failures, ..TopicParams::default() };
    let mut test = Test::new(params);
    test.graft();
    test.at(3.0);
    test.engine.disconnected(test.peer, test.now);
    assert_eq!(test.score(), -16.0);
}

#[test]
fn those_who_are_gone_have_a_limit() {
    let invalid = Some(Decaying { weight: -1.0, decay: 0.5 });
    let mut test = Test::new(TopicParams { invalid, ..TopicParams::default() });
    let ids = peers(MAX_GONE + 1);
    for (n, peer) in ids.iter().enumerate() {
        let now = test.now + Duration::from_millis(n as u64);
        test.engine.connected(*peer, ip("192.0.2.1"), now);
        test.engine.rejected(*peer, &id(1), &test.topic, Reject::Unauthentic, now);
        test.engine.disconnected(*peer, now);
    }
    assert_eq!(test.engine.sizes().gone, MAX_GONE);
    assert_eq!(test.engine.score(&ids[0]), 0.0, "the first to be forgotten anyway");
    assert_eq!(test.engine.score(&ids[1]), -1.0);
}

#[test]
fn parameters_change_as_a_whole_or_not_at_all() {
    let p2 = FirstDeliveries { weight: 1.0, decay: 0.5, cap: 10.0 };
    let params = TopicParams { first_deliveries: Some(p2), ..TopicParams::default() };
    let mut test = Test::new(params);
    (0..8).for_each(|n| test.deliver(n));
    let wrong =
        TopicParams { weight: 3.0, first_deliveries: Some(FirstDeliveries { cap: 0.0, ..p2 }), ..params };
    let error = test.engine.set_topic(&test.topic, Some(wrong)).unwrap_err();
    assert_eq!((error.parameter, error.rule), ("first_deliveries.cap", Rule::Positive));
    assert_eq!(test.score(), 8.0, "as before");
    let lower = TopicParams { first_deliveries: Some(FirstDeliveries { cap: 3.0, ..p2 }), ..params };
    test.engine.set_topic(&test.topic, Some(lower)).unwrap();
    assert_eq!(test.score(), 3.0);
    test.engine.set_topic(&test.topic, None).unwrap();
    assert_eq!(test.score(), 0.0);
    let set = |test: &mut Test, n: usize| test.engine.set_topic(&topic(&n.to_string()), Some(params));
    assert!((0..MAX_TOPICS).all(|n| set(&mut test, n).is_ok()));
    assert_eq!(set(&mut test, MAX_TOPICS).unwrap_err().rule, Rule::TooMany);
    assert!(set(&mut test, 0).is_ok());
}

#[test]
fn a_breakdown_adds_up() {
    let (_, preset) = &presets()[1];
    let mut engine = Engine::new(Params::new(preset.settings.clone()).unwrap());
    let start = sim::start().mono;
    let peer = peers(1)[0];
    engine.connected(peer, ip("192.0.2.1"), start);
    for topic in preset.settings.topics.keys() {
        engine.grafted(peer, topic, start);
        engine.validating(peer, &id(1), topic, start);
    }
    engine.delivered(peer, &id(1), &topic("b"), start);
    engine.set_app_score(peer, 12.5);
    engine.refresh(start + SECOND * 12 * 40);
    engine.penalize(peer, 9);
    let breakdown = engine.breakdown(&peer);
    assert_eq!(breakdown.score.to_bits(), engine.score(&peer).to_bits());
    assert_eq!(breakdown.topics.len(), 5);
    let parts = breakdown.in_topics + breakdown.app.score + breakdown.behaviour.score;
    assert!((breakdown.score - parts).abs() < 1e-9 && breakdown.behaviour.score < 0.0);
}
