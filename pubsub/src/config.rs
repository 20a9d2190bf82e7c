use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use peerage_core::{Multiaddr, PeerId};

use crate::{
    codec::{self, WireMessage},
    gater,
    message::MessageId,
    partial::{self, Mode},
    queue,
    score::{self, TopicParams, presets},
    seen::Remember,
    signing::{self, Signing},
    topic::Topic,
    version::Version,
};

/// The longest backoff that a peer can ask for; more counts as this. Peers have asked for 2^64 seconds, to overflow a
/// clock.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3600);
/// The most backoffs that are kept for one topic; beyond that the one that ends first is forgotten.
pub const MAX_BACKOFFS: usize = 4096;
/// The most topics whose rules are set while the node runs, and those of the configuration with them.
pub const MAX_TOPIC_RULES: usize = 4096;
/// The most direct peers.
pub const MAX_DIRECT: usize = 256;

/// How a node takes part. The defaults are the spec's, or where it has none go-libp2p-pubsub's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The protocols that are spoken, the preferred first. Default: all.
    pub versions: Vec<Version>,
    /// How many peers are in a mesh.
    pub mesh: Mesh,
    /// Time between heartbeats. Default: 1 s.
    pub heartbeat: Duration,
    /// Until the first heartbeat. Default: 100 ms.
    pub first_heartbeat: Duration,
    /// How long a topic that is only published to keeps its peers. Default: 60 s.
    pub fanout_ttl: Duration,
    /// How long who was pruned does not graft. Default: 60 s.
    pub prune_backoff: Duration,
    /// The same after leaving a topic. Default: 10 s.
    pub unsubscribe_backoff: Duration,
    /// Heartbeats by which this node keeps a backoff longer than it was said, and others may keep it shorter, for clocks and
    /// links differ. Default: 1.
    pub backoff_slack: u32,
    /// A GRAFT so soon after a PRUNE is misbehaviour twice. Default: 10 s.
    pub graft_flood: Duration,
    /// Whether own messages go to all peers of a topic, not to the mesh alone. Default: yes.
    pub flood_publish: bool,
    /// Every so many heartbeats a mesh of poor peers takes better ones. Default: 60.
    pub opportunistic_ticks: u64,
    /// How many it takes then. Default: 2.
    pub opportunistic_peers: usize,
    /// Whether who is pruned from a full mesh is told of other peers. Default: no; bootstrap nodes should.
    pub exchange: bool,
    /// How many it is told of. Default: 16.
    pub exchange_peers: usize,
    /// Peers that are always sent everything, and never in a mesh; both sides have to agree on that.
    pub direct: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Every so many heartbeats direct peers that are not connected are dialed. Default: 300.
    pub direct_ticks: u64,
    /// Heartbeats for which messages are kept for who asks. Default: 5.
    pub history: usize,
    /// How many of them others are told of. Default: 3.
    pub history_gossip: usize,
    /// Bytes of messages that are kept for that. Default: 64 MiB.
    pub history_bytes: usize,
    /// How long a message counts as known. Default: 120 s.
    pub seen_ttl: Duration,
    /// Since when. Default: since it was seen first.
    pub remember: Remember,
    /// How many are known at most. Default: 1,048,576.
    pub max_seen: usize,
    /// How often one peer is sent a message that it asks for. Default: 3.
    pub retransmissions: u32,
    /// Ids that are asked of one peer between two heartbeats, and told to it at once. Default: 5000.
    pub max_ihave: usize,
    /// IHAVEs of one peer between two heartbeats that are heard. Default: 10.
    pub max_ihave_messages: u32,
    /// How long a peer may take to send what it said it has. Default: 3 s.
    pub promise: Duration,
    /// Messages of this size, and larger ones, are worth an IDONTWANT. Default: 4096 bytes; telling a mesh costs as much
    /// as the copies of a message of 1 KiB that it saves.
    pub idontwant_size: usize,
    /// IDONTWANTs of one peer between two heartbeats that are heard, and ids in all of them. Default: 1000.
    pub max_idontwant: usize,
    /// Heartbeats for which an IDONTWANT counts. Default: 3.
    pub idontwant_ttl: u8,
    /// What one RPC may hold.
    pub rpc: codec::Limits,
    /// Topics of one peer that are known; more are passed over. Default: 100.
    pub max_topics_per_peer: usize,
    /// Which topics of peers are remembered. Default: all.
    pub filter: Option<Filter>,
    /// What may wait for one peer.
    pub queue: queue::Limits,
    /// Messages that may be under verification and validation at once. Default: 1024.
    pub max_validating: usize,
    /// Messages that may wait for one subscriber; it is told how many it missed beyond that. Default: 1024.
    pub subscriber_queue: usize,
    /// Bytes of messages that may wait for one subscriber. Default: 64 MiB.
    pub subscriber_bytes: usize,
    /// Whether own messages are given to own subscribers. Default: no.
    pub deliver_own: bool,
    /// How peers are scored. Default: as in [`presets::small`], every wanted topic alike. `None`: not at all.
    pub scoring: Option<Scoring>,
    /// Whether, and how, messages of poor sources are turned away under load. Default: no.
    pub gater: Option<gater::Settings>,
    /// Topics with rules of their own.
    pub topics: BTreeMap<Topic, TopicConfig>,
    /// The rules of all other topics.
    pub other_topics: TopicConfig,
    /// Whether the 1.3 extension for partial messages is spoken, and what is remembered of them; of which topics, is a rule of
    /// each ([`TopicConfig::partial`]). Default: no.
    pub partial: Option<partial::Limits>,
    /// Whether the 1.3 extension that exists for tests is spoken. Default: no.
    pub test_extension: bool,
    /// Whether every message is told of as an event. Default: no.
    pub trace: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            versions: Version::ALL.to_vec(),
            mesh: Mesh::default(),
            heartbeat: Duration::from_secs(1),
            first_heartbeat: Duration::from_millis(100),
            fanout_ttl: Duration::from_secs(60),
            prune_backoff: Duration::from_secs(60),
            unsubscribe_backoff: Duration::from_secs(10),
            backoff_slack: 1,
            graft_flood: Duration::from_secs(10),
            flood_publish: true,
            opportunistic_ticks: 60,
            opportunistic_peers: 2,
            exchange: false,
            exchange_peers: 16,
            direct: BTreeMap::new(),
            direct_ticks: 300,
            history: 5,
            history_gossip: 3,
            history_bytes: 64 << 20,
            seen_ttl: Duration::from_secs(120),
            remember: Remember::FirstSeen,
            max_seen: 1 << 20,
            retransmissions: 3,
            max_ihave: 5000,
            max_ihave_messages: 10,
            promise: Duration::from_secs(3),
            idontwant_size: 4096,
            max_idontwant: 1000,
            idontwant_ttl: 3,
            rpc: codec::Limits::default(),
            max_topics_per_peer: 100,
            filter: None,
            queue: queue::Limits::default(),
            max_validating: 1024,
            subscriber_queue: 1024,
            subscriber_bytes: 64 << 20,
            deliver_own: false,
            scoring: Some(Scoring::default()),
            gater: None,
            topics: BTreeMap::new(),
            other_topics: TopicConfig::default(),
            partial: None,
            test_extension: false,
            trace: false,
        }
    }
}

/// How peers are scored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scoring {
    /// The score function.
    pub settings: score::Settings,
    /// What follows from it.
    pub thresholds: score::Thresholds,
    /// How wanted topics are scored that are not in the settings. Default: as in [`presets::small`]. `None`: not.
    pub each_topic: Option<TopicParams>,
}

impl Scoring {
    /// As in a preset; topics that it does not name are not scored.
    pub fn preset(preset: presets::Preset) -> Self {
        Self { settings: preset.settings, thresholds: preset.thresholds, each_topic: None }
    }
}

impl Default for Scoring {
    fn default() -> Self {
        Self { each_topic: Some(presets::small_topic()), ..Self::preset(presets::small([])) }
    }
}

/// How many peers are in a mesh.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Mesh {
    /// D: so many. Default: 6.
    pub size: usize,
    /// Dlo: fewer are filled up. Default: 5.
    pub low: usize,
    /// Dhi: more are cut down. Default: 12.
    pub high: usize,
    /// Dscore: so many of the best stay when a mesh is cut down. Default: 4.
    pub best: usize,
    /// Dout: so many at least are peers that this node has dialed; below Dlo, and half of D at most. Default: 2.
    pub outbound: usize,
    /// Dlazy: so many peers at least are told of messages. Default: 6.
    pub lazy: usize,
    /// The part of all peers of a topic that is told of messages. Default: 0.25.
    pub gossip_factor: f64,
}

impl Default for Mesh {
    fn default() -> Self {
        Self { size: 6, low: 5, high: 12, best: 4, outbound: 2, lazy: 6, gossip_factor: 0.25 }
    }
}

/// The rules of a topic. All nodes have to agree on them, but for `partial`.
#[derive(Clone)]
#[non_exhaustive]
pub struct TopicConfig {
    /// Who vouches for its messages. Default: their authors, by signatures.
    pub signing: Signing,
    /// The most bytes that a message may say. Default: what fits into an RPC, 1 KiB of it left for the rest.
    pub max_size: usize,
    /// What tells its messages apart. Default: author and number; the SHA-256 of what they say, if they have none.
    pub id: Option<MessageIdFn>,
    /// Whether its messages travel in parts, to and from peers that want that. Default: no.
    pub partial: Mode,
}

/// Makes the id of a message. It must be quick, and sees what nobody has verified yet.
pub type MessageIdFn = Arc<dyn Fn(&WireMessage) -> MessageId + Send + Sync>;
/// Whether a topic is of interest.
#[derive(Clone)]
pub struct Filter(Arc<dyn Fn(&Topic) -> bool + Send + Sync>);

impl Filter {
    /// Topics for which `takes` is true. It must be quick: it is asked of whatever strangers name.
    pub fn new(takes: impl Fn(&Topic) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(takes))
    }

    /// These topics only.
    pub fn only(topics: impl IntoIterator<Item = Topic>) -> Self {
        let topics: std::collections::BTreeSet<_> = topics.into_iter().collect();
        Self::new(move |topic| topics.contains(topic))
    }

    pub(crate) fn takes(&self, topic: &Topic) -> bool {
        (self.0)(topic)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self { signing: Signing::Strict, max_size: codec::MAX_RPC - 1024, id: None, partial: Mode::Off }
    }
}

impl fmt::Debug for TopicConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicConfig")
            .field("signing", &self.signing)
            .field("max_size", &self.max_size)
            .field("id", &self.id.as_ref().map(|_| ".."))
            .field("partial", &self.partial)
            .finish()
    }
}

impl TopicConfig {
    /// Sets who vouches for its messages.
    #[must_use]
    pub fn signing(mut self, signing: Signing) -> Self {
        self.signing = signing;
        self
    }

    /// Sets what tells its messages apart.
    #[must_use]
    pub fn id(mut self, id: impl Fn(&WireMessage) -> MessageId + Send + Sync + 'static) -> Self {
        self.id = Some(Arc::new(id));
        self
    }

    /// Sets the most bytes of a message.
    #[must_use]
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// Sets whether its messages travel in parts.
    #[must_use]
    pub fn partial(mut self, mode: Mode) -> Self {
        self.partial = mode;
        self
    }

    /// The id of a message of this topic.
    pub fn id_of(&self, message: &WireMessage) -> MessageId {
        match &self.id {
            Some(id) => id(message),
            None => signing::default_id(message),
        }
    }
}

/// A rule that a [`Config`] breaks; always this program's own doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a configuration: {0}")]
pub struct ConfigError(String);

impl Config {
    /// The rules of a topic.
    pub fn topic(&self, topic: &Topic) -> &TopicConfig {
        self.topics.get(topic).unwrap_or(&self.other_topics)
    }

    /// Whether the numbers fit together.
    ///
    /// # Errors
    /// [`ConfigError`], with the first rule that is broken.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mesh = &self.mesh;
        let rules = [
            (!self.versions.is_empty(), "a version is spoken"),
            (mesh.low <= mesh.size && mesh.size <= mesh.high, "Dlo <= D <= Dhi"),
            (mesh.best <= mesh.size, "Dscore <= D"),
            (
                mesh.outbound < mesh.low.max(1) && mesh.outbound <= mesh.size / 2,
                "Dout < Dlo and Dout <= D / 2",
            ),
            ((0.0..=1.0).contains(&mesh.gossip_factor), "the gossip factor is between 0 and 1"),
            (!self.heartbeat.is_zero(), "the heartbeat takes time"),
            (self.history_gossip <= self.history && self.history > 0, "0 < history, gossip <= history"),
            (self.opportunistic_ticks > 0 && self.direct_ticks > 0, "ticks are not zero"),
            (self.prune_backoff <= MAX_BACKOFF && self.unsubscribe_backoff <= MAX_BACKOFF, "backoffs <= 1 h"),
            (self.topics.len() <= MAX_TOPIC_RULES, "topics with rules <= 4096"),
            (self.direct.len() <= MAX_DIRECT, "direct peers <= 256"),
            (self.max_seen > 0 && self.max_validating > 0 && self.subscriber_queue > 0, "queues have room"),
            (
                self.topics.values().chain([&self.other_topics]).all(|topic| topic.max_size < self.rpc.bytes),
                "a message fits into an RPC",
            ),
            (self.partial.is_none_or(|limits| limits.heartbeats > 0), "partial messages last a heartbeat"),
            (
                self.partial.is_some()
                    || self.topics.values().chain([&self.other_topics]).all(|topic| !topic.partial.sends()),
                "partial messages are spoken where a topic has them",
            ),
            (
                !self.scores_silence_in_parts(),
                "P3 is off where parts are requested: they count as no delivery",
            ),
        ];
        if let Some((_, rule)) = rules.iter().find(|(kept, _)| !kept) {
            return Err(ConfigError((*rule).to_owned()));
        }
        let say = |error: score::ParamsError| ConfigError(error.to_string());
        if let Some(scoring) = &self.scoring {
            score::Params::new(scoring.settings.clone()).map_err(say)?;
            scoring.thresholds.validate().map_err(say)?;
        }
        if let Some(gater) = &self.gater {
            gater::Gater::new(gater.clone()).map_err(say)?;
        }
        Ok(())
    }

    /// Whether a topic whose messages come in parts is scored by whole ones that a mesh delivers.
    fn scores_silence_in_parts(&self) -> bool {
        let Some(Scoring { settings, each_topic, .. }) = &self.scoring else { return false };
        let named = self.topics.keys().chain(settings.topics.keys());
        let named =
            named.map(|topic| (self.topic(topic), settings.topics.get(topic).or(each_topic.as_ref())));
        named.chain([(&self.other_topics, each_topic.as_ref())]).any(|(rules, params)| {
            rules.partial == Mode::Requests
                && params.and_then(|params| params.mesh_deliveries).is_some_and(|p3| p3.weight < 0.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::MeshDeliveries;

    /// Parts are requested of all topics, or of one, and peers owe whole messages there.
    fn scored_by_deliveries(config: &mut Config, topic: Option<Topic>) {
        let second = Duration::from_secs(1);
        let (weight, decay, threshold, cap, window) = (-1.0, 0.5, 1.0, 2.0, Duration::from_millis(10));
        let p3 = MeshDeliveries { weight, decay, threshold, cap, activation: second, window };
        let params = TopicParams { mesh_deliveries: Some(p3), ..TopicParams::default() };
        let requests = TopicConfig::default().partial(Mode::Requests);
        let scoring = config.scoring.as_mut().unwrap();
        config.partial = Some(partial::Limits::default());
        match topic {
            Some(topic) => {
                config.topics.insert(topic.clone(), requests);
                scoring.settings.topics.insert(topic, params);
            }
            None => (config.other_topics, scoring.each_topic) = (requests, Some(params)),
        }
    }

    #[test]
    fn every_rule_is_checked() {
        assert_eq!(Config::default().validate(), Ok(()));
        let breaks: [fn(&mut Config); 18] = [
            |c| c.versions.clear(),
            |c| c.mesh.low = 7,
            |c| c.mesh.best = 7,
            |c| c.mesh.outbound = 4,
            |c| c.mesh.gossip_factor = f64::NAN,
            |c| c.heartbeat = Duration::ZERO,
            |c| c.history_gossip = 6,
            |c| c.opportunistic_ticks = 0,
            |c| c.prune_backoff = Duration::from_secs(3601),
            |c| c.max_seen = 0,
            |c| c.other_topics.max_size = c.rpc.bytes,
            |c| c.other_topics.partial = Mode::Sends,
            |c| c.partial = Some(partial::Limits { heartbeats: 0, ..partial::Limits::default() }),
            |c| scored_by_deliveries(c, None),
            |c| scored_by_deliveries(c, Some(Topic::new("t").unwrap())),
            |c| (c.history, c.history_gossip) = (0, 0),
            |c| c.scoring.iter_mut().for_each(|scoring| scoring.thresholds.gossip = 1.0),
            |c| c.scoring.iter_mut().for_each(|scoring| scoring.settings.decay_to_zero = 2.0),
        ];
        for (n, breaks) in breaks.into_iter().enumerate() {
            let mut config = Config::default();
            breaks(&mut config);
            assert!(config.validate().is_err(), "{n}");
        }
    }
}
