use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use peerage_host::limits::Prefix;

use crate::Topic;

/// The most topics that are scored.
pub const MAX_TOPICS: usize = 4096;
/// The largest number that a parameter may be, above zero or below. Squares and sums of such stay finite.
pub const MAX_PARAMETER: f64 = 1e9;
/// The shortest interval at which counters decay.
pub const MIN_DECAY_INTERVAL: Duration = Duration::from_millis(100);

/// How peers are scored, as a program writes it down. [`Params::new`] checks it, all of it or nothing.
///
/// The default scores no topic, and knows colocation and misbehaviour as the [small network](super::presets::small)
/// does.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The topics that are scored, [`MAX_TOPICS`] at most. What a peer does in another one does not matter.
    pub topics: BTreeMap<Topic, TopicParams>,
    /// How much good the topics can do together.
    pub cap: TopicCap,
    /// The weight of P5, what the program itself thinks of a peer; not negative.
    pub app_weight: f64,
    /// P6; `None` is off.
    pub colocation: Option<Colocation>,
    /// P7; `None` is off.
    pub behaviour: Option<Behaviour>,
    /// How often counters decay; at least [`MIN_DECAY_INTERVAL`].
    pub decay_interval: Duration,
    /// Below this a counter is zero; between 0 and 1.
    pub decay_to_zero: f64,
    /// How long the faults of a peer are remembered after its last connection. They do not decay meanwhile.
    pub retain: Duration,
    /// How long it is remembered that a message was invalid; its duplicates are held against who sends them.
    pub remember: Duration,
    /// Whether a peer needs a good standing in a topic, and not only on the whole, for that topic's mesh: see
    /// [`Engine::standing`](super::Engine::standing).
    pub gate: bool,
}

/// How one topic is scored. What is `None` is off; all may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopicParams {
    /// How much the topic counts; not negative.
    pub weight: f64,
    /// P1.
    pub time_in_mesh: Option<TimeInMesh>,
    /// P2.
    pub first_deliveries: Option<FirstDeliveries>,
    /// P3.
    pub mesh_deliveries: Option<MeshDeliveries>,
    /// P3b; needs P3, which says how much was owed.
    pub mesh_failures: Option<Decaying>,
    /// P4.
    pub invalid: Option<Decaying>,
}

impl Default for TopicParams {
    /// Weight 1, and everything off.
    fn default() -> Self {
        Self {
            weight: 1.0,
            time_in_mesh: None,
            first_deliveries: None,
            mesh_deliveries: None,
            mesh_failures: None,
            invalid: None,
        }
    }
}

/// P1, the reward for staying in the mesh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeInMesh {
    /// Not negative.
    pub weight: f64,
    /// Time that is worth one point; not zero.
    pub quantum: Duration,
    /// The most points; positive.
    pub cap: f64,
}

/// P2, the reward for being the first to deliver a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstDeliveries {
    /// Not negative.
    pub weight: f64,
    /// What is left of the counter after an interval; between 0 and 1.
    pub decay: f64,
    /// The most that is counted; positive.
    pub cap: f64,
}

/// P3, the penalty for a mesh peer that delivers too little: the square of what is missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeshDeliveries {
    /// Not positive.
    pub weight: f64,
    /// What is left of the counter after an interval; between 0 and 1.
    pub decay: f64,
    /// What the counter must reach; positive. It depends on how much there is to deliver in the topic.
    pub threshold: f64,
    /// The most that is counted; at least the threshold.
    pub cap: f64,
    /// How long a peer has been in the mesh before anything is owed; at least a second.
    pub activation: Duration,
    /// How long after the validation of a message another copy of it still counts as delivered. A few milliseconds, lest
    /// a peer is paid for what it was sent.
    pub window: Duration,
}

/// The weight of a penalty, and how fast it is forgotten.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decaying {
    /// Not positive.
    pub weight: f64,
    /// What is left of the counter after an interval; between 0 and 1.
    pub decay: f64,
}

/// P6, the penalty for many peers at one IP address: the square of those too many. IPv6 addresses count by /64, which
/// is what one customer gets. Loopback is not counted: what is there is this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Colocation {
    /// Not positive.
    pub weight: f64,
    /// Peers at one address that are not too many; at least 1.
    pub threshold: u32,
    /// Networks at whose addresses there may be any number of peers.
    pub allowed: Vec<Prefix>,
}

/// P7, the penalty for misbehaviour that the router saw: the square of what is above the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behaviour {
    /// Not positive.
    pub weight: f64,
    /// What is left of the counter after an interval; between 0 and 1.
    pub decay: f64,
    /// What is forgiven; not negative.
    pub threshold: f64,
}

/// A limit on the good that topics do to the score together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TopicCap {
    /// No limit.
    None,
    /// The sum over the topics is at most this, as the spec has it. Above it penalties in a topic do not show.
    Sum(f64),
    /// What is earned in the topics (P1 and P2) counts up to this; penalties count in full.
    Rewards(f64),
}

/// [`Settings`] that keep all rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Params(Settings);

impl Params {
    /// Checks all settings.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn new(settings: Settings) -> Result<Self, ParamsError> {
        settings.check()?;
        Ok(Self(settings))
    }

    /// The settings, as they were given.
    pub fn settings(&self) -> &Settings {
        &self.0
    }

    /// The settings, to be changed and checked again.
    pub fn into_settings(self) -> Settings {
        self.0
    }

    /// Sets or removes the parameters of a topic; the rest was checked before.
    ///
    /// # Errors
    /// The first rule that is broken; then nothing has changed.
    pub(super) fn set_topic(
        &mut self,
        topic: &Topic,
        params: Option<TopicParams>,
    ) -> Result<(), ParamsError> {
        let topics = &mut self.0.topics;
        let Some(params) = params else {
            topics.remove(topic);
            return Ok(());
        };
        params.check_at(topic)?;
        let room = topics.len() < MAX_TOPICS || topics.contains_key(topic);
        let refused = |(parameter, rule)| ParamsError { topic: None, parameter, rule };
        need(room, "topics", Rule::TooMany).map_err(refused)?;
        topics.insert(topic.clone(), params);
        Ok(())
    }
}

impl TryFrom<Settings> for Params {
    type Error = ParamsError;

    fn try_from(settings: Settings) -> Result<Self, ParamsError> {
        Self::new(settings)
    }
}

/// Which parameter is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamsError {
    /// The topic, if it is a topic's parameter.
    pub topic: Option<Topic>,
    /// The parameter.
    pub parameter: &'static str,
    /// The rule that it breaks.
    pub rule: Rule,
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.parameter, self.rule)?;
        match &self.topic {
            Some(topic) => write!(f, " (topic {topic})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParamsError {}

/// What must be true of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// A number, and within [`MAX_PARAMETER`].
    #[error("must be a number of at most {MAX_PARAMETER:e} above or below zero")]
    WithinReason,
    /// Above zero.
    #[error("must be positive")]
    Positive,
    /// Zero or above.
    #[error("must not be negative")]
    NotNegative,
    /// Below zero.
    #[error("must be negative")]
    Negative,
    /// Zero or below.
    #[error("must not be positive")]
    NotPositive,
    /// Above zero and below one.
    #[error("must be between 0 and 1, both excluded")]
    Fraction,
    /// One at least.
    #[error("must be at least 1")]
    AtLeastOne,
    /// A second at least.
    #[error("must be at least a second")]
    AtLeastASecond,
    /// [`MIN_DECAY_INTERVAL`] at least.
    #[error("must be at least {MIN_DECAY_INTERVAL:?}")]
    AtLeastTheInterval,
    /// The cap of P3 is not below its threshold, which could not be reached otherwise.
    #[error("must be at least the threshold")]
    AtLeastTheThreshold,
    /// P3b counts what P3 finds missing.
    #[error("needs mesh_deliveries")]
    NeedsMeshDeliveries,
    /// [`MAX_TOPICS`] at most.
    #[error("must be {MAX_TOPICS} at most")]
    TooMany,
    /// The publish threshold is not above the gossip threshold.
    #[error("must not be above the gossip threshold")]
    NotAboveGossip,
    /// The graylist threshold is below the publish threshold.
    #[error("must be below the publish threshold")]
    BelowPublish,
}

type Checked = Result<(), (&'static str, Rule)>;

fn need(holds: bool, parameter: &'static str, rule: Rule) -> Checked {
    if holds { Ok(()) } else { Err((parameter, rule)) }
}

fn number(value: f64, parameter: &'static str, rule: Rule) -> Checked {
    need(value.abs() <= MAX_PARAMETER, parameter, Rule::WithinReason)?;
    let holds = match rule {
        Rule::Positive => value > 0.0,
        Rule::NotNegative => value >= 0.0,
        Rule::Negative => value < 0.0,
        Rule::NotPositive => value <= 0.0,
        Rule::Fraction => value > 0.0 && value < 1.0,
        _ => true,
    };
    need(holds, parameter, rule)
}

impl Settings {
    fn check(&self) -> Result<(), ParamsError> {
        for (topic, params) in &self.topics {
            params.check_at(topic)?;
        }
        self.check_global().map_err(|(parameter, rule)| ParamsError { topic: None, parameter, rule })
    }

    fn check_global(&self) -> Checked {
        need(self.topics.len() <= MAX_TOPICS, "topics", Rule::TooMany)?;
        if let TopicCap::Sum(cap) | TopicCap::Rewards(cap) = self.cap {
            number(cap, "cap", Rule::Positive)?;
        }
        number(self.app_weight, "app_weight", Rule::NotNegative)?;
        if let Some(colocation) = &self.colocation {
            number(colocation.weight, "colocation.weight", Rule::NotPositive)?;
            need(colocation.threshold >= 1, "colocation.threshold", Rule::AtLeastOne)?;
        }
        if let Some(behaviour) = &self.behaviour {
            number(behaviour.weight, "behaviour.weight", Rule::NotPositive)?;
            number(behaviour.decay, "behaviour.decay", Rule::Fraction)?;
            number(behaviour.threshold, "behaviour.threshold", Rule::NotNegative)?;
        }
        need(self.decay_interval >= MIN_DECAY_INTERVAL, "decay_interval", Rule::AtLeastTheInterval)?;
        number(self.decay_to_zero, "decay_to_zero", Rule::Fraction)
    }
}

impl TopicParams {
    fn check_at(&self, topic: &Topic) -> Result<(), ParamsError> {
        self.check().map_err(|(parameter, rule)| ParamsError { topic: Some(topic.clone()), parameter, rule })
    }

    fn check(&self) -> Checked {
        number(self.weight, "weight", Rule::NotNegative)?;
        if let Some(p1) = &self.time_in_mesh {
            number(p1.weight, "time_in_mesh.weight", Rule::NotNegative)?;
            need(!p1.quantum.is_zero(), "time_in_mesh.quantum", Rule::Positive)?;
            number(p1.cap, "time_in_mesh.cap", Rule::Positive)?;
        }
        if let Some(p2) = &self.first_deliveries {
            number(p2.weight, "first_deliveries.weight", Rule::NotNegative)?;
            number(p2.decay, "first_deliveries.decay", Rule::Fraction)?;
            number(p2.cap, "first_deliveries.cap", Rule::Positive)?;
        }
        if let Some(p3) = &self.mesh_deliveries {
            number(p3.weight, "mesh_deliveries.weight", Rule::NotPositive)?;
            number(p3.decay, "mesh_deliveries.decay", Rule::Fraction)?;
            number(p3.threshold, "mesh_deliveries.threshold", Rule::Positive)?;
            number(p3.cap, "mesh_deliveries.cap", Rule::Positive)?;
            need(p3.cap >= p3.threshold, "mesh_deliveries.cap", Rule::AtLeastTheThreshold)?;
            let activation = p3.activation >= Duration::from_secs(1);
            need(activation, "mesh_deliveries.activation", Rule::AtLeastASecond)?;
        }
        if let Some(p3b) = &self.mesh_failures {
            need(self.mesh_deliveries.is_some(), "mesh_failures", Rule::NeedsMeshDeliveries)?;
            number(p3b.weight, "mesh_failures.weight", Rule::NotPositive)?;
            number(p3b.decay, "mesh_failures.decay", Rule::Fraction)?;
        }
        if let Some(p4) = &self.invalid {
            number(p4.weight, "invalid.weight", Rule::NotPositive)?;
            number(p4.decay, "invalid.decay", Rule::Fraction)?;
        }
        Ok(())
    }
}

/// At which scores a router treats a peer otherwise. Below zero it leaves the mesh anyway.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Below it no gossip is sent to the peer, and its gossip is ignored; negative.
    pub gossip: f64,
    /// Below it the peer is not sent what this node publishes; at most `gossip`.
    pub publish: f64,
    /// Below it all that the peer sends is ignored; below `publish`.
    pub graylist: f64,
    /// Below it the peers that a peer names when it prunes are ignored; not negative. Best a score that only bootstrap
    /// nodes reach, by what the program thinks of them.
    pub accept_px: f64,
    /// When the median of a mesh is below it, better peers are grafted; not negative.
    pub opportunistic_graft: f64,
}

impl Thresholds {
    /// Checks signs and order.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), ParamsError> {
        self.check().map_err(|(parameter, rule)| ParamsError { topic: None, parameter, rule })
    }

    fn check(&self) -> Checked {
        number(self.gossip, "gossip", Rule::Negative)?;
        number(self.publish, "publish", Rule::Negative)?;
        need(self.publish <= self.gossip, "publish", Rule::NotAboveGossip)?;
        number(self.graylist, "graylist", Rule::Negative)?;
        need(self.graylist < self.publish, "graylist", Rule::BelowPublish)?;
        number(self.accept_px, "accept_px", Rule::NotNegative)?;
        number(self.opportunistic_graft, "opportunistic_graft", Rule::NotNegative)
    }
}

/// The decay by which a counter at 1 is `to_zero` after `wait`: the factor for each `interval`.
///
/// ```
/// use peerage_pubsub::score::decay_in;
/// use std::time::Duration;
///
/// let factor = decay_in(Duration::from_secs(2), Duration::from_secs(1), 0.01);
/// assert!((factor - 0.1).abs() < 1e-12);
/// ```
pub fn decay_in(wait: Duration, interval: Duration, to_zero: f64) -> f64 {
    to_zero.powf(interval.as_secs_f64() / wait.as_secs_f64())
}

/// How many whole intervals there are from `since` to `now`.
pub(crate) fn intervals(since: Instant, now: Instant, interval: Duration) -> u32 {
    let gone = now.saturating_duration_since(since).as_nanos();
    u32::try_from(gone.checked_div(interval.as_nanos()).unwrap_or(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::presets;

    fn topic() -> Topic {
        Topic::new("t").unwrap()
    }

    /// Everything on, by the largest preset.
    fn full() -> (Settings, TopicParams) {
        let settings =
            presets::ethereum(&presets::Ethereum::new(topic(), Topic::new("a").unwrap(), [])).settings;
        let params = settings.topics[&topic()];
        (settings, params)
    }

    fn refused(change: impl FnOnce(&mut TopicParams)) -> (&'static str, Rule) {
        let (mut settings, mut params) = full();
        change(&mut params);
        settings.topics.insert(topic(), params);
        let error = Params::new(settings).unwrap_err();
        assert_eq!(error.topic, Some(topic()));
        (error.parameter, error.rule)
    }

    fn refused_globally(change: impl FnOnce(&mut Settings)) -> (&'static str, Rule) {
        let (mut settings, _) = full();
        change(&mut settings);
        let error = Params::new(settings).unwrap_err();
        assert_eq!(error.topic, None);
        (error.parameter, error.rule)
    }

    #[test]
    fn all_off_is_valid() {
        let topics = [(topic(), TopicParams::default())].into();
        let settings = Settings { topics, colocation: None, behaviour: None, ..Settings::default() };
        assert!(Params::new(settings).is_ok());
    }

    /// Each rule of the table in gossipsub-v1.1.md, "Overview of New Parameters", at the value that breaks it.
    #[test]
    fn rules_of_topics() {
        let one = |params: &mut TopicParams| params.time_in_mesh.unwrap();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.01e9] {
            assert_eq!(refused(|p| p.weight = value), ("weight", Rule::WithinReason));
        }
        assert_eq!(refused(|p| p.weight = -0.1), ("weight", Rule::NotNegative));
        assert_eq!(
            refused(|p| p.time_in_mesh = Some(TimeInMesh { weight: -1.0, ..one(p) })),
            ("time_in_mesh.weight", Rule::NotNegative)
        );
        assert_eq!(
            refused(|p| p.time_in_mesh = Some(TimeInMesh { quantum: Duration::ZERO, ..one(p) })),
            ("time_in_mesh.quantum", Rule::Positive)
        );
        assert_eq!(
            refused(|p| p.time_in_mesh = Some(TimeInMesh { cap: 0.0, ..one(p) })),
            ("time_in_mesh.cap", Rule::Positive)
        );
        let two = |p: &mut TopicParams| p.first_deliveries.unwrap();
        assert_eq!(
            refused(|p| p.first_deliveries = Some(FirstDeliveries { weight: -1.0, ..two(p) })),
            ("first_deliveries.weight", Rule::NotNegative)
        );
        for decay in [0.0, 1.0] {
            assert_eq!(
                refused(|p| p.first_deliveries = Some(FirstDeliveries { decay, ..two(p) })),
                ("first_deliveries.decay", Rule::Fraction)
            );
        }
        assert_eq!(
            refused(|p| p.first_deliveries = Some(FirstDeliveries { cap: 0.0, ..two(p) })),
            ("first_deliveries.cap", Rule::Positive)
        );
        let three = |p: &mut TopicParams| p.mesh_deliveries.unwrap();
        assert_eq!(
            refused(|p| p.mesh_deliveries = Some(MeshDeliveries { weight: 1.0, ..three(p) })),
            ("mesh_deliveries.weight", Rule::NotPositive)
        );
        assert_eq!(
            refused(|p| p.mesh_deliveries = Some(MeshDeliveries { decay: 1.0, ..three(p) })),
            ("mesh_deliveries.decay", Rule::Fraction)
        );
        assert_eq!(
            refused(|p| p.mesh_deliveries = Some(MeshDeliveries { threshold: 0.0, ..three(p) })),
            ("mesh_deliveries.threshold", Rule::Positive)
        );
        assert_eq!(
            refused(|p| p.mesh_deliveries = Some(MeshDeliveries { threshold: 3.0, cap: 2.9, ..three(p) })),
            ("mesh_deliveries.cap", Rule::AtLeastTheThreshold)
        );
        let short = Duration::from_millis(999);
        assert_eq!(
            refused(|p| p.mesh_deliveries = Some(MeshDeliveries { activation: short, ..three(p) })),
            ("mesh_deliveries.activation", Rule::AtLeastASecond)
        );
        assert_eq!(refused(|p| p.mesh_deliveries = None), ("mesh_failures", Rule::NeedsMeshDeliveries));
        let penalty = |weight, decay| Some(Decaying { weight, decay });
        assert_eq!(
            refused(|p| p.mesh_failures = penalty(1.0, 0.5)),
            ("mesh_failures.weight", Rule::NotPositive)
        );
        assert_eq!(
            refused(|p| p.mesh_failures = penalty(-1.0, 0.0)),
            ("mesh_failures.decay", Rule::Fraction)
        );
        assert_eq!(refused(|p| p.invalid = penalty(1.0, 0.5)), ("invalid.weight", Rule::NotPositive));
        assert_eq!(refused(|p| p.invalid = penalty(-1.0, 1.5)), ("invalid.decay", Rule::Fraction));
    }

    #[test]
    fn rules_of_peers() {
        assert_eq!(refused_globally(|s| s.cap = TopicCap::Sum(0.0)), ("cap", Rule::Positive));
        assert_eq!(refused_globally(|s| s.cap = TopicCap::Rewards(-1.0)), ("cap", Rule::Positive));
        assert_eq!(refused_globally(|s| s.app_weight = -1.0), ("app_weight", Rule::NotNegative));
        let six = |weight, threshold| Some(Colocation { weight, threshold, allowed: Vec::new() });
        assert_eq!(
            refused_globally(|s| s.colocation = six(1.0, 1)),
            ("colocation.weight", Rule::NotPositive)
        );
        assert_eq!(
            refused_globally(|s| s.colocation = six(-1.0, 0)),
            ("colocation.threshold", Rule::AtLeastOne)
        );
        let seven = |weight, decay, threshold| Some(Behaviour { weight, decay, threshold });
        assert_eq!(
            refused_globally(|s| s.behaviour = seven(1.0, 0.5, 0.0)),
            ("behaviour.weight", Rule::NotPositive)
        );
        assert_eq!(
            refused_globally(|s| s.behaviour = seven(-1.0, 1.0, 0.0)),
            ("behaviour.decay", Rule::Fraction)
        );
        assert_eq!(
            refused_globally(|s| s.behaviour = seven(-1.0, 0.5, -1.0)),
            ("behaviour.threshold", Rule::NotNegative)
        );
        let interval = MIN_DECAY_INTERVAL - Duration::from_nanos(1);
        assert_eq!(
            refused_globally(|s| s.decay_interval = interval),
            ("decay_interval", Rule::AtLeastTheInterval)
        );
        assert_eq!(refused_globally(|s| s.decay_to_zero = 1.0), ("decay_to_zero", Rule::Fraction));
        let topics =
            |many| (0..many).map(|n| (Topic::new(format!("{n}")).unwrap(), TopicParams::default())).collect();
        let settings = |many| Settings { topics: topics(many), ..Settings::default() };
        assert!(Params::new(settings(MAX_TOPICS)).is_ok());
        assert_eq!(Params::new(settings(MAX_TOPICS + 1)).unwrap_err().rule, Rule::TooMany);
    }

    #[test]
    fn rules_of_thresholds() {
        let good = presets::small([]).thresholds;
        assert_eq!(good.validate(), Ok(()));
        let wrong = |thresholds: Thresholds| thresholds.validate().map_err(|e| (e.parameter, e.rule));
        assert_eq!(wrong(Thresholds { gossip: 0.0, ..good }), Err(("gossip", Rule::Negative)));
        let above = Thresholds { gossip: -10.0, publish: -9.0, ..good };
        assert_eq!(wrong(above), Err(("publish", Rule::NotAboveGossip)));
        let equal = Thresholds { gossip: -10.0, publish: -10.0, graylist: -10.0, ..good };
        assert_eq!(wrong(equal), Err(("graylist", Rule::BelowPublish)));
        assert_eq!(wrong(Thresholds { graylist: -10.1, ..equal }), Ok(()));
        assert_eq!(wrong(Thresholds { accept_px: -1.0, ..good }), Err(("accept_px", Rule::NotNegative)));
        let graft = Thresholds { opportunistic_graft: f64::NAN, ..good };
        assert_eq!(wrong(graft), Err(("opportunistic_graft", Rule::WithinReason)));
    }

    #[test]
    fn an_error_names_the_topic() {
        let mut settings = full().0;
        settings.topics.get_mut(&topic()).unwrap().weight = -1.0;
        let error = Params::new(settings).unwrap_err();
        assert_eq!(error.to_string(), "weight must not be negative (topic t)");
    }
}
