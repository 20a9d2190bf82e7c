//! What is counted, under three kinds of names.
//!
//! - Those of rust-libp2p, which dashboards of Ethereum's clients read (`gossipsub_topic_msg_recv_counts_total` ...). Its
//!   label `hash` is `topic` here, and reasons have words of their own.
//! - Those of the draft of the specs (libp2p/specs, pull request 695, `metrics/README.md`, r0 of 2025-08-28), which agree with
//!   nobody's so far: [`draft`] writes all that this node counts.
//! - Its own, for what neither of them has.
//!
//! go-libp2p-pubsub has no metrics of its own, but a tracer, whose events are [`trace`](crate::trace)'s.
//!
//! Of the draft there is not: what needs a histogram (`peer_score`, `message_latency_seconds`,
//! `heartbeat_duration_seconds`), GRAFT, PRUNE, IHAVE, IWANT and IDONTWANT by topic, and RPCs by type
//! (`gossipsub_control_ids` counts ids). Of rust-libp2p's: `score_per_mesh`, `heartbeat_duration`, `queue_size`, and the
//! sizes of the last message.

use peerage_host::metrics::{Labels, Sheet};

use crate::{
    event::{Misdeed, Refusal},
    shared::Shared,
    stats::{Stats, TopicStats},
};

/// Topics that are counted by name; the others are left out. They are all of this node's own choosing.
const MAX_TOPICS: usize = 256;

fn by(label: &'static str, value: impl ToString) -> Labels {
    vec![(label, value.to_string())]
}

pub(crate) fn write(shared: &Shared, sheet: &mut Sheet) {
    let (stats, missed) = shared.stats();
    topics(&stats, sheet);
    draft(&stats, sheet);
    meshes(&stats, sheet);
    gossip(&stats, sheet);

    let versions = stats.versions.iter().map(|(version, count)| (by("protocol", version), *count));
    sheet.gauge("gossipsub_peers_per_protocol", "Peers, by what was agreed with them", None, versions);
    let refused = stats.refused.iter().map(|(why, count)| (by("reason", why), *count));
    sheet.counter("gossipsub_invalid_messages", "Messages that were not taken", refused);
    let misdeeds = stats.misdeeds.iter().map(|(rule, count)| (by("penalty", rule), *count));
    sheet.counter("gossipsub_scoring_penalties", "Rules that peers broke", misdeeds);
    let dropped = stats
        .dropped
        .iter()
        .map(|((lane, why), count)| (vec![("lane", lane.to_string()), ("reason", why.to_string())], *count));
    sheet.counter("gossipsub_rpcs_dropped", "Frames that were not sent", dropped);
    let lost = &stats.lost;
    sheet.counter("gossipsub_panics", "Panics that gossip went on after", [(Labels::new(), lost.lives)]);
    let lost = [
        ("cached", lost.cached),
        ("in_progress", lost.in_progress),
        ("promises", lost.promises),
        ("groups", lost.groups),
        ("rewarded_peers", lost.rewarded),
        ("seen", lost.seen),
        ("judged_peers", lost.judged),
    ];
    let lost = lost.map(|(what, count)| (by("what", what), count));
    sheet.counter("gossipsub_lost_in_panics", "What did not outlive a panic", lost);
    let subscribers = [(Labels::new(), missed)];
    sheet.counter("gossipsub_subscriber_missed", "Messages that slow subscribers missed", subscribers);
}

/// A counter that is kept for each topic.
fn topic_counter(stats: &Stats, sheet: &mut Sheet, name: &str, help: &str, value: fn(&TopicStats) -> u64) {
    let topics = stats.topics.iter().take(MAX_TOPICS);
    let values = topics.map(|(topic, counted)| (by("topic", topic), value(counted)));
    sheet.counter(name, help, values.chain([(by("topic", "other"), value(&stats.retired))]));
}

fn topics(stats: &Stats, sheet: &mut Sheet) {
    let mut counter = |name: &str, help: &str, value: fn(&TopicStats) -> u64| {
        topic_counter(stats, sheet, name, help, value);
    };
    counter("gossipsub_topic_msg_published", "Own messages", |of| of.published);
    counter("gossipsub_topic_msg_sent_counts", "Messages to a peer, each counted", |of| of.sent);
    counter("gossipsub_topic_msg_sent_bytes", "Their bytes", |of| of.sent_bytes);
    counter("gossipsub_topic_msg_recv_counts_unfiltered", "Messages from peers, duplicates included", |of| {
        of.received_unfiltered
    });
    counter("gossipsub_topic_msg_recv_bytes_unfiltered", "Their bytes", |of| of.received_unfiltered_bytes);
    counter("gossipsub_topic_msg_recv_counts", "New messages from peers", |of| of.received);
    counter("gossipsub_topic_msg_recv_bytes", "Their bytes", |of| of.received_bytes);
    counter("gossipsub_topic_msg_recv_duplicates", "Copies of messages that were known", |of| of.duplicates);
    counter("gossipsub_accepted_messages_per_topic", "Messages that were accepted", |of| of.delivered);
    counter("gossipsub_invalid_messages_per_topic", "Messages that are none of the topic", |of| of.invalid);
    counter("gossipsub_rejected_messages_per_topic", "Messages that the validator rejected", |of| {
        of.rejected
    });
    counter("gossipsub_ignored_messages_per_topic", "Messages that were passed over", |of| of.ignored);
}

/// The names of the draft of the specs. Its gauges end in `_total`, too.
fn draft(stats: &Stats, sheet: &mut Sheet) {
    let mut counter = |name: &str, help: &str, value: fn(&TopicStats) -> u64| {
        topic_counter(stats, sheet, name, help, value);
    };
    counter("gossipsub_message_received", "Messages from peers", |of| of.received_unfiltered);
    counter("gossipsub_message_delivered", "Messages that were accepted", |of| of.delivered);
    counter("gossipsub_message_rejected", "Messages that were not taken", |of| {
        of.invalid.saturating_add(of.rejected)
    });
    counter("gossipsub_message_duplicate", "Copies of messages that were known", |of| of.duplicates);
    counter("gossipsub_message_published", "Own messages", |of| of.published);
    let meshes = || stats.meshes.iter().take(MAX_TOPICS);
    let peers = meshes().map(|(topic, (_, peers))| (by("topic", topic), *peers));
    sheet.gauge("gossipsub_peers_total", "Peers that want the topic", None, peers);
    let mesh = meshes().map(|(topic, (mesh, _))| (by("topic", topic), *mesh));
    sheet.gauge("gossipsub_mesh_peers_total", "Peers in the mesh", None, mesh);
    let backoff = stats.misdeeds.get(&Misdeed::GraftInBackoff).copied().unwrap_or_default();
    sheet.counter("gossipsub_backoff_violations", "GRAFTs in a backoff", [(Labels::new(), backoff)]);
    let penalties = stats.misdeeds.iter().map(|(rule, count)| (by("penalty_type", rule), *count));
    sheet.counter("gossipsub_score_penalty", "Rules that peers broke", penalties);
    let throttled = stats.refused.get(&Refusal::Throttled).copied().unwrap_or_default();
    sheet.counter("gossipsub_peer_throttled", "Messages there was no time for", [(Labels::new(), throttled)]);
}

fn meshes(stats: &Stats, sheet: &mut Sheet) {
    let meshes = || stats.meshes.iter().take(MAX_TOPICS);
    let mesh = meshes().map(|(topic, (mesh, _))| (by("topic", topic), *mesh));
    sheet.gauge("gossipsub_mesh_peer_counts", "Peers in the mesh", None, mesh);
    let peers = meshes().map(|(topic, (_, peers))| (by("topic", topic), *peers));
    sheet.gauge("gossipsub_topic_peers_counts", "Peers that want the topic", None, peers);
    let grafts = [(by("reason", "local"), stats.grafts.0), (by("reason", "remote"), stats.grafts.1)];
    sheet.counter("gossipsub_mesh_peer_inclusion_events", "Peers that came into a mesh", grafts);
    let prunes = stats.prunes.iter().map(|(why, count)| (by("reason", why), *count));
    sheet.counter("gossipsub_mesh_peer_churn_events", "Peers that left a mesh", prunes);
}

fn gossip(stats: &Stats, sheet: &mut Sheet) {
    let ids = [
        ("ihave", "received", stats.ihave_received),
        ("ihave", "sent", stats.ihave_sent),
        ("iwant", "received", stats.iwant_received),
        ("iwant", "sent", stats.iwant_sent),
        ("idontwant", "received", stats.idontwant_received),
        ("idontwant", "sent", stats.idontwant_sent),
    ];
    let ids = ids.map(|(kind, direction, count)| {
        (vec![("kind", kind.to_owned()), ("direction", direction.to_owned())], count)
    });
    sheet.counter("gossipsub_control_ids", "Ids in control messages", ids);
    let partial = [
        ("sent", stats.partial.sent),
        ("received", stats.partial.received),
        ("passed_over", stats.partial.passed_over),
        ("not_remembered", stats.partial.not_remembered),
        ("not_answered", stats.partial.not_answered),
    ];
    let partial = partial.map(|(state, count)| (by("state", state), count));
    sheet.counter("gossipsub_partial_messages", "What was said of messages that travel in parts", partial);
    let bytes = [("sent", stats.partial.sent_bytes), ("received", stats.partial.received_bytes)];
    let bytes = bytes.map(|(direction, count)| (by("direction", direction), count));
    sheet.counter("gossipsub_partial_bytes", "Bytes of parts of messages", bytes);
    let heartbeats = [(Labels::new(), stats.heartbeats)];
    sheet.counter("gossipsub_heartbeats", "Heartbeats", heartbeats);
    let now = [("seen", stats.seen), ("cached", stats.cached), ("in_progress", stats.in_progress)];
    let now = now.map(|(state, count)| (by("state", state), count));
    sheet.gauge("gossipsub_messages", "Messages that are remembered", None, now);
    let bytes = [(Labels::new(), stats.cached_bytes)];
    sheet.gauge("gossipsub_cache_bytes", "Bytes of messages kept for who asks", None, bytes);
}
