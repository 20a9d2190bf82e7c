//! `gossipSubParams`: the parameters of go-libp2p-pubsub by the names they have there, times in nanoseconds.

use std::{collections::BTreeMap, time::Duration};

use peerage::pubsub::{Config, MAX_ID, MessageId, Signing, TopicConfig, partial};
use serde::Deserialize;
use serde_json::Value;

use super::script::{MAX_MESSAGE, MIN_MESSAGE};

/// What one RPC holds beyond the largest message.
const RPC_ROOM: usize = 64 << 10;
/// Frames that may wait for one peer, and messages that may be validated at once, as go's program of the suite sets them.
const QUEUE: usize = 600;
/// Bytes that may wait for one peer: a few of the largest messages.
const QUEUE_BYTES: usize = 64 << 20;
/// The longest time of a parameter.
const MAX_SECONDS: f64 = 24.0 * 3600.0;

/// What differs from go's defaults. Numbers of which there is nothing here that they could change are in `rest`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct GossipSubParams {
    d: Option<usize>,
    dlo: Option<usize>,
    dhi: Option<usize>,
    dscore: Option<usize>,
    dout: Option<usize>,
    history_length: Option<usize>,
    history_gossip: Option<usize>,
    dlazy: Option<usize>,
    gossip_factor: Option<f64>,
    gossip_retransmission: Option<u32>,
    heartbeat_initial_delay: Option<f64>,
    heartbeat_interval: Option<f64>,
    #[serde(rename = "FanoutTTL")]
    fanout_ttl: Option<f64>,
    prune_peers: Option<usize>,
    prune_backoff: Option<f64>,
    unsubscribe_backoff: Option<f64>,
    direct_connect_ticks: Option<u64>,
    opportunistic_graft_ticks: Option<u64>,
    opportunistic_graft_peers: Option<usize>,
    graft_flood_threshold: Option<f64>,
    #[serde(rename = "MaxIHaveLength")]
    max_ihave_length: Option<usize>,
    #[serde(rename = "MaxIHaveMessages")]
    max_ihave_messages: Option<u32>,
    #[serde(rename = "MaxIDontWantMessages")]
    max_idontwant_messages: Option<usize>,
    #[serde(rename = "IWantFollowupTime")]
    iwant_followup_time: Option<f64>,
    #[serde(rename = "IDontWantMessageThreshold")]
    idontwant_message_threshold: Option<usize>,
    #[serde(rename = "IDontWantMessageTTL")]
    idontwant_message_ttl: Option<u8>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Parameters with which no node can run.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BadParams {
    /// It is negative, or longer than a day.
    #[error("{name}: {nanoseconds} ns is no time of at most a day")]
    Time { name: &'static str, nanoseconds: f64 },
    /// They break a rule that all nodes keep.
    #[error(transparent)]
    Rule(#[from] peerage::pubsub::ConfigError),
}

/// Those of go's parameters that nothing here corresponds to.
const WITHOUT_EFFECT: [&str; 6] = [
    "SlowHeartbeatWarning",
    "Connectors",
    "MaxPendingConnections",
    "ConnectionTimeout",
    "DirectConnectInitialDelay",
    "MaxIDontWantLength",
];

impl GossipSubParams {
    /// Parameters that nobody here knows, for they may matter.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.rest.keys().map(String::as_str).filter(|name| !WITHOUT_EFFECT.contains(name))
    }

    /// A node with these parameters, as go's program of the suite makes one: no scores, no flood publishing, and messages
    /// without authors, whose first eight bytes are their id.
    pub(super) fn config(&self) -> Result<Config, BadParams> {
        let mut config = Config::default();
        set(&mut config.mesh.size, self.d);
        set(&mut config.mesh.low, self.dlo);
        set(&mut config.mesh.high, self.dhi);
        set(&mut config.mesh.best, self.dscore);
        set(&mut config.mesh.outbound, self.dout);
        set(&mut config.mesh.lazy, self.dlazy);
        set(&mut config.mesh.gossip_factor, self.gossip_factor);
        set(&mut config.history, self.history_length);
        set(&mut config.history_gossip, self.history_gossip);
        set(&mut config.retransmissions, self.gossip_retransmission);
        set(&mut config.exchange_peers, self.prune_peers);
        set(&mut config.direct_ticks, self.direct_connect_ticks);
        set(&mut config.opportunistic_ticks, self.opportunistic_graft_ticks);
        set(&mut config.opportunistic_peers, self.opportunistic_graft_peers);
        set(&mut config.max_ihave, self.max_ihave_length);
        set(&mut config.max_ihave_messages, self.max_ihave_messages);
        set(&mut config.max_idontwant, self.max_idontwant_messages);
        // Where go's default is another one than ours.
        config.idontwant_size = self.idontwant_message_threshold.unwrap_or(1024);
        set(&mut config.idontwant_ttl, self.idontwant_message_ttl);
        for (place, name, given) in [
            (&mut config.first_heartbeat, "HeartbeatInitialDelay", self.heartbeat_initial_delay),
            (&mut config.heartbeat, "HeartbeatInterval", self.heartbeat_interval),
            (&mut config.fanout_ttl, "FanoutTTL", self.fanout_ttl),
            (&mut config.prune_backoff, "PruneBackoff", self.prune_backoff),
            (&mut config.unsubscribe_backoff, "UnsubscribeBackoff", self.unsubscribe_backoff),
            (&mut config.graft_flood, "GraftFloodThreshold", self.graft_flood_threshold),
            (&mut config.promise, "IWantFollowupTime", self.iwant_followup_time),
        ] {
            set(place, given.map(|nanoseconds| time(name, nanoseconds)).transpose()?);
        }
        config.scoring = None;
        config.flood_publish = false;
        config.rpc.bytes = MAX_MESSAGE + RPC_ROOM;
        (config.queue.own, config.queue.topic, config.queue.bytes) = (QUEUE, QUEUE, QUEUE_BYTES);
        config.max_validating = config.max_validating.max(4 * QUEUE);
        // Of which topics, the script says; go's program speaks of them always.
        config.partial = Some(partial::Limits::default());
        // The log wants to know of duplicates.
        config.trace = true;
        config.other_topics =
            TopicConfig::default().signing(Signing::Anonymous).max_size(MAX_MESSAGE).id(|message| {
                let data = message.data.as_deref().unwrap_or_default();
                id(data.get(..MIN_MESSAGE).unwrap_or(data))
            });
        config.validate()?;
        Ok(config)
    }
}

fn id(bytes: &[u8]) -> MessageId {
    const { assert!(MIN_MESSAGE <= MAX_ID) };
    MessageId::new(bytes).unwrap_or_else(|_| unreachable!("eight bytes are not too long"))
}

fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

fn time(name: &'static str, nanoseconds: f64) -> Result<Duration, BadParams> {
    let seconds = nanoseconds / 1e9;
    if !(0.0..=MAX_SECONDS).contains(&seconds) {
        return Err(BadParams::Time { name, nanoseconds });
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use peerage::pubsub::Topic;

    use super::*;

    fn config(json: &str) -> Result<Config, BadParams> {
        serde_json::from_str::<GossipSubParams>(json).unwrap().config()
    }

    #[test]
    fn go_s_defaults_where_nothing_is_said() {
        let config = config("{}").unwrap();
        let mesh = config.mesh;
        assert_eq!((mesh.size, mesh.low, mesh.high, mesh.best, mesh.outbound), (6, 5, 12, 4, 2));
        assert_eq!((mesh.lazy, config.history, config.history_gossip), (6, 5, 3));
        assert_eq!((config.idontwant_size, config.idontwant_ttl, config.max_idontwant), (1024, 3, 1000));
        assert_eq!(config.first_heartbeat, Duration::from_millis(100));
        assert!(config.scoring.is_none() && !config.flood_publish && !config.exchange);
        assert_eq!(config.other_topics.signing, Signing::Anonymous);
    }

    #[test]
    fn names_are_go_s_and_times_are_nanoseconds() {
        let config = config(
            r#"{"D":8,"Dlo":6,"Dhi":14,"Dscore":5,"Dout":3,"Dlazy":0,"GossipFactor":0,"HistoryLength":7,
                "HeartbeatInterval":700000000.0,"HeartbeatInitialDelay":100200000,"FanoutTTL":1e9,
                "MaxIHaveLength":9,"IWantFollowupTime":2000000000,"IDontWantMessageThreshold":2048,
                "IDontWantMessageTTL":4,"Connectors":8}"#,
        );
        let config = config.unwrap();
        let mesh = config.mesh;
        assert_eq!((mesh.size, mesh.low, mesh.high, mesh.best, mesh.outbound), (8, 6, 14, 5, 3));
        assert_eq!((mesh.lazy, mesh.gossip_factor, config.history), (0, 0.0, 7));
        assert_eq!(config.heartbeat, Duration::from_millis(700));
        assert_eq!(config.first_heartbeat, Duration::from_micros(100_200));
        assert_eq!((config.fanout_ttl, config.promise), (Duration::from_secs(1), Duration::from_secs(2)));
        assert_eq!((config.max_ihave, config.idontwant_size, config.idontwant_ttl), (9, 2048, 4));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = config(r#"{"HeartbeatInterval":-1}"#).unwrap_err();
        assert_eq!(error, BadParams::Time { name: "HeartbeatInterval", nanoseconds: -1.0 });
        let day = MAX_SECONDS * 1e9;
        assert!(config(&format!(r#"{{"FanoutTTL":{day}}}"#)).is_ok());
        assert!(config(&format!(r#"{{"FanoutTTL":{}}}"#, day + 1e9)).is_err());
        assert!(matches!(config(r#"{"D":4}"#), Err(BadParams::Rule(_))), "Dlo is 5");
    }

    #[test]
    fn parameters_that_nobody_knows_are_told_of() {
        let params: GossipSubParams =
            serde_json::from_str(r#"{"Connectors":8,"SlowHeartbeatWarning":0.1,"Choke":1}"#).unwrap();
        assert_eq!(params.unknown().collect::<Vec<_>>(), ["Choke"]);
    }

    #[test]
    fn an_id_is_what_a_message_begins_with() {
        let rules = config("{}").unwrap().other_topics;
        let of = |data: &'static [u8]| {
            let data = Some(Bytes::from_static(data));
            let topic = Topic::new("t").unwrap();
            let message = peerage::pubsub::codec::WireMessage {
                from: None,
                data,
                sequence: None,
                topic,
                signature: None,
                key: None,
            };
            rules.id_of(&message).as_bytes().to_vec()
        };
        assert_eq!(of(&[0, 0, 0, 0, 0, 0, 0, 31, 9, 9]), [0, 0, 0, 0, 0, 0, 0, 31]);
        assert_eq!(of(&[7]), [7]);
    }
}
