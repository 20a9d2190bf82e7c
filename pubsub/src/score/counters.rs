use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Breakdown, Part, TopicBreakdown,
    params::{Behaviour, Decaying, Settings, TopicCap, TopicParams},
};
use crate::Topic;

/// What a peer did in one topic: the counters behind P1 to P4.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counters {
    /// Since when the peer is in the mesh.
    pub(super) grafted: Option<Instant>,
    /// How long that was at the last refresh; zero outside of the mesh.
    pub(super) mesh_time: Duration,
    /// Whether the peer was in the mesh long enough at the last refresh to owe deliveries.
    pub(super) active: bool,
    pub(super) first_deliveries: f64,
    pub(super) mesh_deliveries: f64,
    pub(super) mesh_failures: f64,
    pub(super) invalid: f64,
}

impl Counters {
    pub(super) fn graft(&mut self, now: Instant) {
        self.grafted = Some(now);
        self.mesh_time = Duration::ZERO;
        self.active = false;
    }

    /// Leaves the mesh. What was owed at that moment stays as a failure.
    pub(super) fn prune(&mut self, params: &TopicParams) {
        if self.grafted.take().is_none() {
            return;
        }
        let deficit = self.deficit(params);
        self.mesh_failures += deficit * deficit;
        self.mesh_time = Duration::ZERO;
        self.active = false;
    }

    pub(super) fn is_grafted(&self) -> bool {
        self.grafted.is_some()
    }

    pub(super) fn first_delivery(&mut self, params: &TopicParams) {
        if let Some(p2) = &params.first_deliveries {
            self.first_deliveries = (self.first_deliveries + 1.0).min(p2.cap);
        }
        self.mesh_delivery(params);
    }

    /// A first or near-first delivery, which counts in the mesh only.
    pub(super) fn mesh_delivery(&mut self, params: &TopicParams) {
        if let Some(p3) = params.mesh_deliveries.as_ref().filter(|_| self.is_grafted()) {
            self.mesh_deliveries = (self.mesh_deliveries + 1.0).min(p3.cap);
        }
    }

    pub(super) fn invalid(&mut self) {
        self.invalid += 1.0;
    }

    /// Forgets the good: what is remembered of a peer that is gone. Deliveries are owed again, too.
    pub(super) fn forget_rewards(&mut self) {
        self.first_deliveries = 0.0;
        self.mesh_deliveries = 0.0;
    }

    /// Keeps what new parameters still have room for.
    pub(super) fn recap(&mut self, params: &TopicParams) {
        let most = |cap: Option<f64>| cap.unwrap_or(0.0);
        self.first_deliveries = self.first_deliveries.min(most(params.first_deliveries.map(|p2| p2.cap)));
        self.mesh_deliveries = self.mesh_deliveries.min(most(params.mesh_deliveries.map(|p3| p3.cap)));
        self.active &= params.mesh_deliveries.is_some();
    }

    /// Lets `steps` intervals pass, and looks at how long the peer is in the mesh.
    pub(super) fn refresh(&mut self, params: &TopicParams, steps: u32, to_zero: f64, now: Instant) {
        let pass = |counter: &mut f64, decay: Option<f64>| {
            *counter = decay.map_or(0.0, |factor| decayed(*counter, factor, steps, to_zero));
        };
        pass(&mut self.first_deliveries, params.first_deliveries.map(|p2| p2.decay));
        pass(&mut self.mesh_deliveries, params.mesh_deliveries.map(|p3| p3.decay));
        pass(&mut self.mesh_failures, params.mesh_failures.map(|p3b| p3b.decay));
        pass(&mut self.invalid, params.invalid.map(|p4| p4.decay));
        if let Some(grafted) = self.grafted {
            self.mesh_time = now.saturating_duration_since(grafted);
            self.active = params.mesh_deliveries.is_some_and(|p3| self.mesh_time > p3.activation);
        }
    }

    /// Whether nothing bad is known, for a peer that is gone.
    pub(super) fn is_clean(&self) -> bool {
        self.mesh_failures == 0.0 && self.invalid == 0.0
    }

    fn deficit(&self, params: &TopicParams) -> f64 {
        match &params.mesh_deliveries {
            Some(p3) if self.active => (p3.threshold - self.mesh_deliveries).max(0.0),
            _ => 0.0,
        }
    }

    /// P1 to P4, with their weights.
    pub(super) fn breakdown(&self, params: &TopicParams) -> TopicBreakdown {
        let part = |value: f64, weight: Option<f64>| Part::new(value, weight.unwrap_or(0.0) * params.weight);
        let sticky = |penalty: Option<Decaying>| penalty.map(|penalty| penalty.weight);
        let points = params.time_in_mesh.map_or(0.0, |p1| {
            let quanta = self.mesh_time.as_nanos().checked_div(p1.quantum.as_nanos()).unwrap_or(0);
            (quanta as f64).min(p1.cap)
        });
        let deficit = self.deficit(params);
        TopicBreakdown {
            in_mesh: self.is_grafted(),
            time_in_mesh: part(points, params.time_in_mesh.map(|p1| p1.weight)),
            first_deliveries: part(self.first_deliveries, params.first_deliveries.map(|p2| p2.weight)),
            mesh_deliveries: part(deficit * deficit, params.mesh_deliveries.map(|p3| p3.weight)),
            mesh_failures: part(self.mesh_failures, sticky(params.mesh_failures)),
            invalid: part(self.invalid * self.invalid, sticky(params.invalid)),
        }
    }
}

/// A counter after some intervals.
pub(crate) fn decayed(counter: f64, factor: f64, steps: u32, to_zero: f64) -> f64 {
    let steps = i32::try_from(steps).unwrap_or(i32::MAX);
    let left = counter * factor.powi(steps);
    if left < to_zero { 0.0 } else { left }
}

/// What counts of a peer beside its topics: the values behind P5 to P7.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Globals {
    /// What the program thinks of the peer.
    pub(super) app: f64,
    /// Peers at its address that are too many.
    pub(super) surplus: u32,
    /// Misbehaviour that was counted.
    pub(super) misbehaviour: f64,
}

/// What the topics are worth together, gossipsub-v1.1.md, "The Score Function"; `each` sees what each is worth.
///
/// This and [`in_general`] are pure functions of counters and parameters: peers with the same counters have the same
/// score.
pub(super) fn in_topics<'a>(
    settings: &Settings,
    topics: impl IntoIterator<Item = (&'a Topic, &'a Counters)>,
    mut each: impl FnMut(&'a Topic, TopicBreakdown),
) -> f64 {
    let (mut rewards, mut penalties) = (0.0, 0.0);
    for (topic, counters) in topics {
        if let Some(params) = settings.topics.get(topic) {
            let parts = counters.breakdown(params);
            rewards += parts.rewards();
            penalties += parts.penalties();
            each(topic, parts);
        }
    }
    match settings.cap {
        TopicCap::None => rewards + penalties,
        TopicCap::Sum(cap) => (rewards + penalties).min(cap),
        TopicCap::Rewards(cap) => rewards.min(cap) + penalties,
    }
}

/// P5, P6 and P7.
pub(super) fn in_general(settings: &Settings, globals: Globals) -> [Part; 3] {
    let square = |value: f64| value * value;
    let surplus = square(globals.surplus.into());
    let excess = |p7: &Behaviour| square((globals.misbehaviour - p7.threshold).max(0.0));
    [
        Part::new(globals.app, settings.app_weight),
        settings.colocation.as_ref().map_or_else(Part::default, |p6| Part::new(surplus, p6.weight)),
        settings.behaviour.as_ref().map_or_else(Part::default, |p7| Part::new(excess(p7), p7.weight)),
    ]
}

/// Everything about a peer.
pub(super) fn breakdown<'a>(
    settings: &Settings,
    topics: impl IntoIterator<Item = (&'a Topic, &'a Counters)>,
    globals: Globals,
) -> Breakdown {
    let mut by_topic = BTreeMap::new();
    let in_topics = in_topics(settings, topics, |topic, parts| {
        by_topic.insert(topic.clone(), parts);
    });
    let [app, colocation, behaviour] = in_general(settings, globals);
    let score = total(in_topics, [app, colocation, behaviour]);
    Breakdown { score, topics: by_topic, in_topics, app, colocation, behaviour }
}

/// The score.
pub(super) fn total(in_topics: f64, in_general: [Part; 3]) -> f64 {
    in_general.iter().fold(in_topics, |score, part| score + part.score)
}
