//! The peer gater: whose messages are still validated when there are too many.
//!
//! As long as validation keeps up, everybody's messages are accepted. Once a part of them has to be turned away, the
//! [`Gater`] turns away at random before validation, the more often the less of what an address sends turns out to be
//! of use: random early drop, weighted by goodput. Control messages pass always.
//!
//! It is not in the specification; go-libp2p-pubsub has it, and the numbers are of the same kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use peerage_core::{PeerId, engine::Rng};
use rand::RngExt as _;

use crate::{
    Topic,
    score::{ParamsError, Rule, decay_in},
};

/// The most sources that are remembered after their last peer is gone.
pub const MAX_GONE: usize = 8192;

/// When the gater acts, and how it weighs.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The part of validations that is turned away, compared with those that are begun, at which it acts; positive.
    pub threshold: f64,
    /// What is left after an interval of what is counted for the node; between 0 and 1.
    pub global_decay: f64,
    /// What is left after an interval of what is counted for a source; between 0 and 1.
    pub source_decay: f64,
    /// How often counters decay; not zero.
    pub decay_interval: Duration,
    /// Below this a counter is zero; between 0 and 1.
    pub decay_to_zero: f64,
    /// How long a source is remembered after its last connection.
    pub retain: Duration,
    /// When nothing was turned away for so long, everything is accepted again.
    pub quiet: Duration,
    /// How much a duplicate counts; positive. Honest peers send many.
    pub duplicate_weight: f64,
    /// How much an ignored message counts; at least 1.
    pub ignore_weight: f64,
    /// How much an invalid message counts; at least 1.
    pub reject_weight: f64,
    /// How much a delivered message counts in some topics; positive, and 1 in all others.
    pub topic_weights: BTreeMap<Topic, f64>,
}

impl Default for Settings {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            threshold: 0.33,
            global_decay: decay_in(Duration::from_mins(2), second, 0.01),
            source_decay: decay_in(Duration::from_hours(1), second, 0.01),
            decay_interval: second,
            decay_to_zero: 0.01,
            retain: Duration::from_hours(6),
            quiet: Duration::from_mins(1),
            duplicate_weight: 0.125,
            ignore_weight: 1.0,
            reject_weight: 16.0,
            topic_weights: BTreeMap::new(),
        }
    }
}

impl Settings {
    fn check(&self) -> Result<(), ParamsError> {
        let need = |holds: bool, parameter, rule| {
            if holds { Ok(()) } else { Err(ParamsError { topic: None, parameter, rule }) }
        };
        let sane = |value: f64| value.abs() <= crate::score::MAX_PARAMETER;
        let positive = |value: f64| sane(value) && value > 0.0;
        let fraction = |value: f64| value > 0.0 && value < 1.0;
        need(positive(self.threshold), "threshold", Rule::Positive)?;
        need(fraction(self.global_decay), "global_decay", Rule::Fraction)?;
        need(fraction(self.source_decay), "source_decay", Rule::Fraction)?;
        need(!self.decay_interval.is_zero(), "decay_interval", Rule::Positive)?;
        need(fraction(self.decay_to_zero), "decay_to_zero", Rule::Fraction)?;
        need(positive(self.duplicate_weight), "duplicate_weight", Rule::Positive)?;
        need(sane(self.ignore_weight) && self.ignore_weight >= 1.0, "ignore_weight", Rule::AtLeastOne)?;
        need(sane(self.reject_weight) && self.reject_weight >= 1.0, "reject_weight", Rule::AtLeastOne)?;
        need(self.topic_weights.values().all(|weight| positive(*weight)), "topic_weights", Rule::Positive)
    }
}

/// What to do with what a peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take everything.
    Accept,
    /// Take control messages, and leave the messages unseen.
    ControlOnly,
}

/// Counts what addresses send, and decides whom to turn away under load.
#[derive(Debug)]
pub struct Gater {
    settings: Settings,
    validated: f64,
    throttled: f64,
    /// When validation was last too much.
    last_throttled: Option<Instant>,
    peers: BTreeMap<PeerId, Source>,
    sources: BTreeMap<Source, Counters>,
    gone: BTreeSet<(Instant, Source)>,
    refreshed: Option<Instant>,
}

/// Whom messages are charged to: all peers at an address together, or a peer whose address is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Address(IpAddr),
    Peer(PeerId),
}

#[derive(Debug, Default)]
struct Counters {
    connected: usize,
    forget: Option<Instant>,
    delivered: f64,
    duplicates: f64,
    ignored: f64,
    rejected: f64,
}

impl Gater {
    /// Nobody known.
    ///
    /// # Errors
    /// The first rule that the settings break.
    pub fn new(settings: Settings) -> Result<Self, ParamsError> {
        settings.check()?;
        Ok(Self {
            settings,
            validated: 0.0,
            throttled: 0.0,
            last_throttled: None,
            peers: BTreeMap::new(),
            sources: BTreeMap::new(),
            gone: BTreeSet::new(),
            refreshed: None,
        })
    }

    /// A peer is connected.
    pub fn connected(&mut self, peer: PeerId, ip: Option<IpAddr>, now: Instant) {
        if self.peers.contains_key(&peer) {
            return;
        }
        self.refreshed.get_or_insert(now);
        let source = ip.map_or(Source::Peer(peer), |ip| Source::Address(ip.to_canonical()));
        self.peers.insert(peer, source);
        let counters = self.sources.entry(source).or_default();
        counters.connected = counters.connected.saturating_add(1);
        if let Some(at) = counters.forget.take() {
            self.gone.remove(&(at, source));
        }
    }

    /// A peer has no connection any more.
    pub fn disconnected(&mut self, peer: PeerId, now: Instant) {
        let Some(source) = self.peers.remove(&peer) else {
            return;
        };
        let Some(counters) = self.sources.get_mut(&source) else {
            return;
        };
        counters.connected = counters.connected.saturating_sub(1);
        if counters.connected > 0 {
            return;
        }
        let at = now.checked_add(self.settings.retain).unwrap_or(now);
        counters.forget = Some(at);
        self.gone.insert((at, source));
        while self.gone.len() > MAX_GONE
            && let Some((_, next)) = self.gone.pop_first()
        {
            self.sources.remove(&next);
        }
    }

    /// The validation of a message begins.
    pub fn validating(&mut self) {
        self.validated += 1.0;
    }

    /// A message was turned away, because there was too much to validate.
    pub fn throttled(&mut self, now: Instant) {
        self.throttled += 1.0;
        self.last_throttled = Some(now);
    }

    /// A peer was the first to bring a valid message.
    pub fn delivered(&mut self, peer: &PeerId, topic: &Topic) {
        let weight = self.settings.topic_weights.get(topic).copied().unwrap_or(1.0);
        self.count(peer, |counters| counters.delivered += weight);
    }

    /// A peer brought a message that was known.
    pub fn duplicate(&mut self, peer: &PeerId) {
        self.count(peer, |counters| counters.duplicates += 1.0);
    }

    /// A peer brought a message that a validator ignored.
    pub fn ignored(&mut self, peer: &PeerId) {
        self.count(peer, |counters| counters.ignored += 1.0);
    }

    /// A peer brought a message that is invalid.
    pub fn rejected(&mut self, peer: &PeerId) {
        self.count(peer, |counters| counters.rejected += 1.0);
    }

    /// What to do with what a peer sends now.
    pub fn accept(&self, peer: &PeerId, now: Instant, rng: &mut Rng) -> Verdict {
        if !self.acts(now) {
            return Verdict::Accept;
        }
        let chance = self.goodput(peer);
        // No number is drawn where nothing is to be decided.
        if chance >= 1.0 || rng.random::<f64>() < chance { Verdict::Accept } else { Verdict::ControlOnly }
    }

    /// Lets counters decay, by as many whole intervals as have passed, and forgets sources.
    pub fn refresh(&mut self, now: Instant) {
        while let Some((_, source)) = self.gone.first().copied().filter(|(at, _)| *at <= now) {
            self.gone.pop_first();
            self.sources.remove(&source);
        }
        let since = *self.refreshed.get_or_insert(now);
        let steps = crate::score::intervals(since, now, self.settings.decay_interval);
        if steps == 0 {
            return;
        }
        let passed = self.settings.decay_interval.saturating_mul(steps);
        self.refreshed = since.checked_add(passed).or(Some(now));
        let pass = |counter: &mut f64, factor| {
            *counter = crate::score::decayed(*counter, factor, steps, self.settings.decay_to_zero);
        };
        pass(&mut self.validated, self.settings.global_decay);
        pass(&mut self.throttled, self.settings.global_decay);
        for counters in self.sources.values_mut().filter(|counters| counters.connected > 0) {
            for counter in [
                &mut counters.delivered,
                &mut counters.duplicates,
                &mut counters.ignored,
                &mut counters.rejected,
            ] {
                pass(counter, self.settings.source_decay);
            }
        }
    }

    fn acts(&self, now: Instant) -> bool {
        let lately = |at| now.saturating_duration_since(at) <= self.settings.quiet;
        self.last_throttled.is_some_and(lately)
            && self.throttled > 0.0
            && self.throttled >= self.validated * self.settings.threshold
    }

    /// The part of what a source sends that is of use. One is added to both sides: the first fault does not shut
    /// anybody out, and nobody is shut out for good.
    fn goodput(&self, peer: &PeerId) -> f64 {
        let Some(counters) = self.peers.get(peer).and_then(|source| self.sources.get(source)) else {
            return 1.0;
        };
        let total = counters.delivered
            + counters.duplicates * self.settings.duplicate_weight
            + counters.ignored * self.settings.ignore_weight
            + counters.rejected * self.settings.reject_weight;
        (1.0 + counters.delivered) / (1.0 + total)
    }

    fn count(&mut self, peer: &PeerId, count: impl FnOnce(&mut Counters)) {
        if let Some(counters) = self.peers.get(peer).and_then(|source| self.sources.get_mut(source)) {
            count(counters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::{peers, topic};
    use peerage_core::engine::{self, sim};

    const SECOND: Duration = Duration::from_secs(1);

    fn gater() -> (Gater, Instant) {
        (Gater::new(Settings::default()).unwrap(), sim::start().mono)
    }

    fn accepted(gater: &Gater, peer: &PeerId, now: Instant) -> usize {
        let mut rng = engine::rng(1);
        (0..1000).filter(|_| gater.accept(peer, now, &mut rng) == Verdict::Accept).count()
    }

    #[test]
    fn acts_under_load_only_and_by_goodput() {
        let (mut gater, now) = gater();
        let ids = peers(3);
        let [good, bad, stranger] = [ids[0], ids[1], ids[2]];
        gater.connected(good, Some([192, 0, 2, 1].into()), now);
        gater.connected(bad, Some([192, 0, 2, 2].into()), now);
        for _ in 0..31 {
            gater.delivered(&good, &topic("t"));
        }
        for _ in 0..8 {
            gater.duplicate(&good);
        }
        gater.ignored(&bad);
        (0..2).for_each(|_| gater.rejected(&bad));
        assert_eq!(accepted(&gater, &bad, now), 1000, "no load");

        (0..100).for_each(|_| gater.validating());
        (0..32).for_each(|_| gater.throttled(now));
        assert_eq!(accepted(&gater, &bad, now), 1000, "below the threshold");
        gater.throttled(now);
        // (1 + 31) / (1 + 31 + 8 × 0.125) and 1 / (1 + 1 + 2 × 16).
        assert!((gater.goodput(&good) - 32.0 / 33.0).abs() < 1e-12);
        assert!((gater.goodput(&bad) - 1.0 / 34.0).abs() < 1e-12);
        let (good, bad) = (accepted(&gater, &good, now), accepted(&gater, &bad, now));
        assert!((950..1000).contains(&good), "{good}");
        assert!((15..50).contains(&bad), "{bad}");
        assert_eq!(accepted(&gater, &stranger, now), 1000);
    }

    #[test]
    fn quiet_ends_it() {
        let (mut gater, now) = gater();
        let peer = peers(1)[0];
        gater.connected(peer, None, now);
        (0..10).for_each(|_| gater.rejected(&peer));
        gater.throttled(now);
        assert!(accepted(&gater, &peer, now + SECOND * 60) < 100);
        assert_eq!(accepted(&gater, &peer, now + SECOND * 61), 1000);
    }

    #[test]
    fn peers_at_one_address_are_one_source_and_leaving_does_not_clear_it() {
        let (mut gater, now) = gater();
        let ids = peers(2);
        let at = Some([192, 0, 2, 1].into());
        gater.connected(ids[0], at, now);
        gater.rejected(&ids[0]);
        gater.disconnected(ids[0], now);
        gater.connected(ids[1], Some("::ffff:192.0.2.1".parse().unwrap()), now);
        assert!((gater.goodput(&ids[1]) - 1.0 / 17.0).abs() < 1e-12);
        gater.disconnected(ids[1], now);
        gater.refresh(now + gater.settings.retain - SECOND);
        assert_eq!(gater.sources.len(), 1);
        gater.refresh(now + gater.settings.retain);
        assert_eq!((gater.sources.len(), gater.gone.len(), gater.peers.len()), (0, 0, 0));
    }

    #[test]
    fn counters_decay() {
        let (mut gater, now) = gater();
        let peer = peers(1)[0];
        gater.connected(peer, None, now);
        gater.rejected(&peer);
        gater.throttled(now);
        gater.refresh(now + SECOND * 60);
        assert!((gater.throttled - 0.1).abs() < 1e-9, "half of two minutes: {}", gater.throttled);
        gater.refresh(now + SECOND * 121);
        assert_eq!(gater.throttled, 0.0);
        gater.refresh(now + SECOND * 3601);
        assert_eq!(gater.goodput(&peer), 1.0);
    }

    #[test]
    fn sources_that_are_gone_have_a_limit() {
        let (mut gater, now) = gater();
        for (n, peer) in peers(MAX_GONE + 1).into_iter().enumerate() {
            let at = now + Duration::from_millis(n as u64);
            gater.connected(peer, None, at);
            gater.disconnected(peer, at);
        }
        assert_eq!((gater.sources.len(), gater.gone.len()), (MAX_GONE, MAX_GONE));
    }

    #[test]
    fn settings_are_checked() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = Gater::new(settings).unwrap_err();
            (error.parameter, error.rule)
        };
        assert_eq!(refused(|s| s.threshold = 0.0), ("threshold", Rule::Positive));
        assert_eq!(refused(|s| s.global_decay = 1.0), ("global_decay", Rule::Fraction));
        assert_eq!(refused(|s| s.source_decay = 0.0), ("source_decay", Rule::Fraction));
        assert_eq!(refused(|s| s.decay_interval = Duration::ZERO), ("decay_interval", Rule::Positive));
        assert_eq!(refused(|s| s.decay_to_zero = f64::NAN), ("decay_to_zero", Rule::Fraction));
        assert_eq!(refused(|s| s.duplicate_weight = -1.0), ("duplicate_weight", Rule::Positive));
        assert_eq!(refused(|s| s.ignore_weight = 0.9), ("ignore_weight", Rule::AtLeastOne));
        assert_eq!(refused(|s| s.reject_weight = f64::INFINITY), ("reject_weight", Rule::AtLeastOne));
        assert_eq!(
            refused(|s| s.topic_weights = [(topic("t"), 0.0)].into()),
            ("topic_weights", Rule::Positive)
        );
    }
}
