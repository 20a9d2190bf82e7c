//! Parameters for networks of known kinds, to begin with and to change: a preset is plain [`Settings`] and
//! [`Thresholds`].
//!
//! All have the [gate](Settings::gate) and cap rewards only, so that the four properties of the score function that
//! Kumar et al. formalised hold of each of them.

use std::time::Duration;

use super::{
    Settings, Thresholds,
    params::{
        Behaviour, Colocation, Decaying, FirstDeliveries, MeshDeliveries, TimeInMesh, TopicCap, TopicParams,
        decay_in,
    },
};
use crate::Topic;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const TO_ZERO: f64 = 0.01;

/// How a network scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// The score function.
    pub settings: Settings,
    /// What it is compared with.
    pub thresholds: Thresholds,
}

impl Default for Settings {
    fn default() -> Self {
        small([]).settings
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        small([]).thresholds
    }
}

/// Up to about a hundred nodes that talk when they have something to say, as in a chat: nobody owes messages (no P3),
/// being quick earns a little, and invalid messages cost a lot. Counters decay every second.
///
/// Without anything good before, the third invalid message ends gossip and the fifth is enough for the graylist. Ten
/// nodes behind one address are not too many, and six broken rules are forgiven.
pub fn small(topics: impl IntoIterator<Item = Topic>) -> Preset {
    let every = |topic| (topic, small_topic());
    Preset {
        settings: Settings {
            topics: topics.into_iter().map(every).collect(),
            cap: TopicCap::Rewards(50.0),
            app_weight: 1.0,
            colocation: Some(Colocation { weight: -10.0, threshold: 10, allowed: Vec::new() }),
            behaviour: Some(Behaviour {
                weight: -10.0,
                decay: decay_in(Duration::from_mins(10), SECOND, TO_ZERO),
                threshold: 6.0,
            }),
            decay_interval: SECOND,
            decay_to_zero: TO_ZERO,
            retain: HOUR,
            remember: Duration::from_mins(2),
            gate: true,
        },
        thresholds: Thresholds {
            gossip: -80.0,
            publish: -120.0,
            graylist: -200.0,
            accept_px: 0.0,
            opportunistic_graft: 1.0,
        },
    }
}

/// A topic of a [small](small()) network.
pub fn small_topic() -> TopicParams {
    TopicParams {
        weight: 1.0,
        time_in_mesh: Some(TimeInMesh { weight: 0.01, quantum: SECOND, cap: 100.0 }),
        first_deliveries: Some(FirstDeliveries {
            weight: 0.5,
            decay: decay_in(Duration::from_mins(10), SECOND, TO_ZERO),
            cap: 20.0,
        }),
        mesh_deliveries: None,
        mesh_failures: None,
        invalid: Some(Decaying { weight: -10.0, decay: decay_in(HOUR, SECOND, TO_ZERO) }),
    }
}

/// What an [Ethereum-like](ethereum()) network looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct Ethereum {
    /// The topic of blocks: one in a slot.
    pub blocks: Topic,
    /// The topic of aggregates.
    pub aggregates: Topic,
    /// The topics of attestations.
    pub subnets: Vec<Topic>,
    /// Slots last so long; 12 s.
    pub slot: Duration,
    /// Slots in an epoch; 32.
    pub slots: u32,
    /// Validators, each of which attests once in an epoch; 500,000.
    pub validators: u32,
    /// Aggregates in a slot; 1024.
    pub aggregates_per_slot: u32,
    /// Attestation subnets there are, whether this node is in them or not; 64.
    pub subnet_count: u32,
}

impl Ethereum {
    /// With the numbers of the main network.
    pub fn new(blocks: Topic, aggregates: Topic, subnets: impl IntoIterator<Item = Topic>) -> Self {
        Self {
            blocks,
            aggregates,
            subnets: subnets.into_iter().collect(),
            slot: Duration::from_secs(12),
            slots: 32,
            validators: 500_000,
            aggregates_per_slot: 1024,
            subnet_count: 64,
        }
    }

    fn epochs(&self, many: u32) -> Duration {
        self.slot.saturating_mul(self.slots).saturating_mul(many)
    }

    fn decay(&self, epochs: u32) -> f64 {
        decay_in(self.epochs(epochs), self.slot, TO_ZERO)
    }

    fn time_in_mesh(&self) -> Option<TimeInMesh> {
        Some(TimeInMesh { weight: 0.0324, quantum: self.slot, cap: 300.0 })
    }

    /// A block in a slot, of which a mesh peer shall bring a tenth.
    fn block_topic(&self) -> TopicParams {
        let five_epochs = f64::from(self.slots) * 5.0;
        TopicParams {
            weight: 0.8,
            time_in_mesh: self.time_in_mesh(),
            first_deliveries: Some(FirstDeliveries { weight: 1.0, decay: self.decay(20), cap: 23.0 }),
            mesh_deliveries: Some(MeshDeliveries {
                weight: -0.717,
                decay: self.decay(5),
                threshold: five_epochs / 10.0,
                cap: five_epochs,
                activation: self.epochs(4),
                window: Duration::from_secs(2),
            }),
            mesh_failures: Some(Decaying { weight: -0.717, decay: self.decay(5) }),
            invalid: Some(Decaying { weight: -140.4475, decay: self.decay(50) }),
        }
    }

    fn aggregate_topic(&self) -> TopicParams {
        let in_epoch = f64::from(self.aggregates_per_slot) * f64::from(self.slots);
        TopicParams {
            weight: 0.5,
            time_in_mesh: self.time_in_mesh(),
            first_deliveries: Some(FirstDeliveries { weight: 0.128, decay: self.decay(1), cap: 179.0 }),
            mesh_deliveries: Some(MeshDeliveries {
                weight: -0.064,
                decay: self.decay(1),
                threshold: in_epoch / 50.0,
                cap: in_epoch,
                activation: self.epochs(1),
                window: Duration::from_secs(2),
            }),
            mesh_failures: Some(Decaying { weight: -0.064, decay: self.decay(1) }),
            invalid: Some(Decaying { weight: -140.4475, decay: self.decay(50) }),
        }
    }

    fn subnet_topic(&self) -> TopicParams {
        let in_epoch = (f64::from(self.validators) / f64::from(self.subnet_count.max(1))).max(1.0);
        TopicParams {
            weight: 1.0 / f64::from(self.subnet_count.max(1)),
            time_in_mesh: self.time_in_mesh(),
            first_deliveries: Some(FirstDeliveries { weight: 0.955, decay: self.decay(1), cap: 24.0 }),
            mesh_deliveries: Some(MeshDeliveries {
                weight: -37.55,
                decay: self.decay(4),
                threshold: in_epoch / 50.0,
                cap: in_epoch,
                activation: self.slot.saturating_mul(17),
                window: Duration::from_secs(2),
            }),
            mesh_failures: Some(Decaying { weight: -37.55, decay: self.decay(4) }),
            invalid: Some(Decaying { weight: -4544.0, decay: self.decay(50) }),
        }
    }
}

/// Like Ethereum's beacon chain: topics whose traffic is known, so that mesh peers owe their share of it (P3), and what
/// they did not bring is remembered (P3b). The numbers are those that Prysm and Lighthouse began with.
///
/// As they use them, without the gate, a peer may be silent for ever in one topic and live on its good name in others.
/// Here it leaves that topic's mesh.
pub fn ethereum(network: &Ethereum) -> Preset {
    let subnets = network.subnets.iter().map(|topic| (topic.clone(), network.subnet_topic()));
    let others = [
        (network.blocks.clone(), network.block_topic()),
        (network.aggregates.clone(), network.aggregate_topic()),
    ];
    Preset {
        settings: Settings {
            topics: others.into_iter().chain(subnets).collect(),
            cap: TopicCap::Rewards(32.72),
            app_weight: 1.0,
            colocation: Some(Colocation { weight: -35.11, threshold: 10, allowed: Vec::new() }),
            behaviour: Some(Behaviour { weight: -15.92, decay: network.decay(10), threshold: 6.0 }),
            decay_interval: network.slot,
            decay_to_zero: TO_ZERO,
            retain: network.epochs(100),
            remember: network.epochs(1),
            gate: true,
        },
        thresholds: Thresholds {
            gossip: -4000.0,
            publish: -8000.0,
            graylist: -16_000.0,
            accept_px: 100.0,
            opportunistic_graft: 5.0,
        },
    }
}

/// Like Filecoin's network: nobody owes messages (no P3), first deliveries earn much, and a single invalid message
/// costs more than a topic can earn. `blocks` and `messages` are its two topics.
pub fn filecoin(blocks: Topic, messages: Topic) -> Preset {
    let topic = |first: FirstDeliveries| TopicParams {
        weight: 0.1,
        time_in_mesh: Some(TimeInMesh { weight: 0.000_277_8, quantum: SECOND, cap: 1.0 }),
        first_deliveries: Some(first),
        mesh_deliveries: None,
        mesh_failures: None,
        invalid: Some(Decaying { weight: -1000.0, decay: decay_in(HOUR, SECOND, TO_ZERO) }),
    };
    let decay = |wait| decay_in(wait, SECOND, TO_ZERO);
    let of_blocks = FirstDeliveries { weight: 5.0, decay: decay(HOUR), cap: 100.0 };
    let of_messages = FirstDeliveries { weight: 0.5, decay: decay(Duration::from_mins(10)), cap: 100.0 };
    Preset {
        settings: Settings {
            topics: [(blocks, topic(of_blocks)), (messages, topic(of_messages))].into(),
            cap: TopicCap::None,
            app_weight: 1.0,
            colocation: Some(Colocation { weight: -100.0, threshold: 5, allowed: Vec::new() }),
            behaviour: Some(Behaviour { weight: -10.0, decay: decay(HOUR), threshold: 6.0 }),
            decay_interval: SECOND,
            decay_to_zero: TO_ZERO,
            retain: Duration::from_hours(6),
            remember: Duration::from_mins(2),
            gate: true,
        },
        thresholds: Thresholds {
            gossip: -500.0,
            publish: -1000.0,
            graylist: -2500.0,
            accept_px: 1000.0,
            opportunistic_graft: 3.5,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::{Params, tests::topic};

    #[test]
    fn presets_keep_the_rules() {
        for (name, preset) in crate::score::tests::presets() {
            assert_eq!(preset.thresholds.validate(), Ok(()), "{name}");
            assert!(Params::new(preset.settings).is_ok(), "{name}");
        }
    }

    /// A network with no validators, or of one slot, has valid parameters, too.
    #[test]
    fn small_ethereums() {
        let mut network = Ethereum::new(topic("b"), topic("a"), [topic("s")]);
        network = Ethereum { validators: 0, subnet_count: 0, slots: 1, aggregates_per_slot: 1, ..network };
        assert!(Params::new(ethereum(&network).settings).is_ok());
    }
}
