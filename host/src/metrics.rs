//! What a node counts, as OpenMetrics text for a collector: [`Node::metrics`](crate::Node::metrics).
//!
//! With the feature `metrics`, which is on by default. Labels are bounded: directions, the names of limits, stages, the actors that every node has, and the protocols that
//! are served under an exact name. Never a peer, an address, or what a stranger named.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{PoisonError, atomic::Ordering},
};

use peerage_core::ProtocolId;
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{limits::Usage, node::Inner};

/// The content type of the text, as HTTP names it.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Protocols that are counted by name at most; the others are `other`.
const MAX_PROTOCOLS: usize = 128;

/// The labels of one value: their names, and what they are. Who adds them keeps their number bounded.
pub type Labels = Vec<(&'static str, String)>;

/// Metrics as they are being gathered; a protocol adds its own with
/// [`Registrar::metrics`](crate::Registrar::metrics).
#[derive(Debug)]
pub struct Sheet(Registry);

impl Sheet {
    /// A number that goes up and down, one value for each set of labels.
    pub fn gauge<V: TryInto<i64>>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels, V)>,
    ) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value.try_into().unwrap_or(i64::MAX));
        }
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, family),
            None => self.0.register(name, help, family),
        }
    }

    /// A number that only grows, one value for each set of labels; `_total` is added to its name.
    pub fn counter(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }
}

fn by(label: &'static str, value: impl fmt::Display) -> Labels {
    vec![(label, value.to_string())]
}

fn directions(inbound: usize, outbound: usize) -> [(Labels, usize); 2] {
    [(by("direction", "inbound"), inbound), (by("direction", "outbound"), outbound)]
}

/// Everything, as OpenMetrics text.
pub(crate) fn text(node: &Inner) -> String {
    let (usage, limits) = (node.ledger.snapshot(), node.ledger.limits());
    let mut sheet = Sheet(Registry::with_prefix("peerage"));
    let peers = usage.peers.values().filter(|peer| peer.connections > 0).count();
    let connections = directions(usage.connections_inbound, usage.connections_outbound);
    let handshakes = directions(usage.handshakes_inbound, usage.handshakes_outbound);
    sheet.gauge("connections", "Established connections", None, connections);
    sheet.gauge("handshakes", "Handshakes under way", None, handshakes);
    sheet.gauge("peers", "Peers that are connected", None, [(Vec::new(), peers)]);
    sheet.gauge("streams", "Open streams", None, streams(&usage, &node.registry.advertised()));
    let sockets =
        [(by("kind", "used"), usage.file_descriptors), (by("kind", "limit"), limits.file_descriptors)];
    sheet.gauge("file_descriptors", "Sockets of connections", None, sockets);
    let memory = [
        (by("kind", "used"), usage.memory),
        (by("kind", "transient"), usage.memory_transient),
        (by("kind", "limit"), limits.memory),
    ];
    sheet.gauge("memory", "Memory taken for what peers send", Some(Unit::Bytes), memory);
    let listening = node.bound_addresses().len();
    sheet.gauge("listen_addresses", "Addresses that are listened on", None, [(Vec::new(), listening)]);

    let refusals = node.ledger.refusals();
    let refusals = refusals.into_iter().map(|(limit, count)| (by("limit", limit), count));
    sheet.counter("limit_refusals", "What limits refused", refusals);
    let dials = node.counters.dials.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let dials = dials.into_iter().map(|((connected, stage), count)| {
        let outcome = if connected { "connected" } else { "failed" };
        (vec![("outcome", outcome.to_owned()), ("stage", stage.to_string())], count)
    });
    sheet.counter("dial_attempts", "Addresses that were tried, by the stage they reached", dials);
    let early = node.counters.early.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let early = early.into_iter().map(|(became, count)| (by("outcome", became), count));
    sheet.counter("early_data", "Dials that carried data ahead of their handshake (0-RTT)", early);
    let panics = node.counters.panics.load(Ordering::Relaxed);
    sheet.counter("panics", "Panics of actors, tasks and handlers", [(Vec::new(), panics)]);
    let missed = node.counters.missed.load(Ordering::Relaxed);
    sheet.counter("events_missed", "Events that were lost to slow subscribers", [(Vec::new(), missed)]);
    // Connections come and go, and there are as many as there are.
    let actors = node.kernel.tree.snapshot().0.into_iter();
    let actors = actors.filter(|actor| !actor.path.starts_with("connections/"));
    let restarts = actors.map(|actor| (by("actor", actor.path), actor.generation.saturating_sub(1)));
    sheet.counter("actor_restarts", "Times that actors were started again", restarts);

    // What protocols count has the names that their specs give it.
    let mut protocols = Sheet(Registry::default());
    node.metrics.iter().for_each(|write| write(&mut protocols));

    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode_registry(&mut text, &sheet.0);
    let _ = encode_registry(&mut text, &protocols.0);
    let _ = encode_eof(&mut text);
    text
}

/// By direction and protocol. Protocols that are not served by an exact name are added up: their number is in the
/// hands of others.
fn streams(usage: &Usage, served: &[ProtocolId]) -> Vec<(Labels, usize)> {
    let named: BTreeSet<_> = served.iter().take(MAX_PROTOCOLS).collect();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (protocol, of) in &usage.protocols {
        let name = if named.contains(protocol) { protocol.as_str() } else { "other" };
        for (direction, count) in [("inbound", of.inbound), ("outbound", of.outbound)] {
            let sum = counts.entry((direction, name)).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    // What the peers opened and is not agreed on yet.
    let negotiating = usage.connections.values().map(|connection| connection.negotiating).sum();
    counts.insert(("inbound", "negotiating"), negotiating);
    let labels = |direction: &str, protocol: &str| {
        vec![("direction", direction.to_owned()), ("protocol", protocol.to_owned())]
    };
    counts.into_iter().map(|((direction, protocol), count)| (labels(direction, protocol), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ProtocolUsage;

    #[test]
    fn the_number_of_labels_is_not_in_the_hands_of_others() {
        let served = ProtocolId::from_static("/served/1");
        let mut usage = Usage::default();
        for n in 0..1_000 {
            let name = ProtocolId::new(format!("/made/up/{n}")).unwrap();
            usage.protocols.insert(name, ProtocolUsage { inbound: 2, ..ProtocolUsage::default() });
        }
        usage.protocols.insert(served.clone(), ProtocolUsage { outbound: 3, ..ProtocolUsage::default() });
        let mut counted: Vec<String> = streams(&usage, &[served])
            .into_iter()
            .map(|(labels, count)| format!("{} {} {count}", labels[0].1, labels[1].1))
            .collect();
        counted.sort();
        let expected = [
            "inbound /served/1 0",
            "inbound negotiating 0",
            "inbound other 2000",
            "outbound /served/1 3",
            "outbound other 0",
        ];
        assert_eq!(counted, expected);
    }
}
