//! What is measured over what, and what of it is shown.

use bench_peer::{Measure, Transport};
use serde::Serialize;

use super::run::Run;

/// The transports that are measured unless told otherwise.
pub(crate) const TRANSPORTS: &[&str] = &["tcp-noise", "tcp-tls", "quic"];

/// What is measured over a long link unless told otherwise.
const OVER_A_LINK: &[Measure] =
    &[Measure::Up, Measure::Down, Measure::Connect, Measure::FirstContact, Measure::Early];

/// A number that comes of a measure, as it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) measure: Measure,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    /// Whether less of it is better.
    pub(crate) less: bool,
    /// What the CPU seconds are for.
    pub(crate) cpu: &'static str,
    pub(crate) of: fn(&Run) -> Option<f64>,
}

fn per_second(run: &Run) -> Option<f64> {
    Some(run.operations? / run.seconds)
}

fn gbits(run: &Run) -> Option<f64> {
    Some(run.bytes? * 8.0 / 1e9 / run.seconds)
}

/// How many round trips of a link it took until there was an answer; nothing on loopback, which has none to count.
fn round_trips(run: &Run) -> Option<f64> {
    Some(run.p50_us? / run.round_trip_us?)
}

const fn trips(measure: Measure, title: &'static str) -> Figure {
    Figure { measure, title, unit: "round trips", less: true, cpu: "ms", of: round_trips }
}

const fn rate(measure: Measure, title: &'static str) -> Figure {
    Figure { measure, title, unit: "1/s", less: false, cpu: "ms", of: per_second }
}

const fn median(measure: Measure, title: &'static str) -> Figure {
    Figure { measure, title, unit: "µs", less: true, cpu: "ms", of: |run| run.p50_us }
}

const fn p99(measure: Measure, title: &'static str) -> Figure {
    Figure { measure, title, unit: "µs", less: true, cpu: "ms", of: |run| run.p99_us }
}

const fn memory(measure: Measure, title: &'static str, of: fn(&Run) -> Option<f64>) -> Figure {
    Figure { measure, title, unit: "KiB", less: true, cpu: "ms", of }
}

const fn percent(measure: Measure, title: &'static str, less: bool, of: fn(&Run) -> Option<f64>) -> Figure {
    Figure { measure, title, unit: "% of the mean", less, cpu: "s/GB", of }
}

/// All of them, in the order of the tables.
pub(crate) const FIGURES: [Figure; 27] = [
    Figure {
        measure: Measure::Up,
        title: "one stream, up",
        unit: "Gbit/s",
        less: false,
        cpu: "s/GB",
        of: gbits,
    },
    Figure {
        measure: Measure::Down,
        title: "one stream, down",
        unit: "Gbit/s",
        less: false,
        cpu: "s/GB",
        of: gbits,
    },
    rate(Measure::Connect32, "connections, 32 at once"),
    rate(Measure::Connect, "connections one by one, with a ping"),
    trips(Measure::FirstContact, "dial and first answer, strangers"),
    trips(Measure::Connect, "dial and first answer, known peer"),
    trips(Measure::Early, "dial and first answer, known peer, 0-RTT"),
    median(Measure::Ping, "ping, median"),
    p99(Measure::Ping, "ping, 99th percentile"),
    median(Measure::PingApart, "ping from a thread of the program, median"),
    p99(Measure::PingApart, "ping from a thread of the program, 99th percentile"),
    rate(Measure::Requests, "requests, one by one"),
    rate(Measure::Requests64, "requests, 64 at once"),
    memory(Measure::Idle, "memory of an idle connection", |run| run.server_kib),
    median(Measure::PingBusy, "ping beside a stream that sends all it can, median"),
    p99(Measure::PingBusy, "ping beside a stream that sends all it can, 99th percentile"),
    percent(Measure::Share, "slowest of 256 streams", false, |run| run.least_percent),
    percent(Measure::Share, "fastest of 256 streams", true, |run| run.most_percent),
    memory(Measure::Saturated, "memory of a connection that carries all it can", |run| run.server_kib),
    rate(Measure::GossipPair, "gossip, one to one, 1 KiB, delivered"),
    rate(Measure::GossipPair64k, "gossip, one to one, 64 KiB, delivered"),
    rate(Measure::GossipMesh, "gossip, one to 19, 1 KiB, delivered"),
    rate(Measure::GossipMesh64k, "gossip, one to 19, 64 KiB, delivered"),
    median(Measure::GossipPaced, "gossip, one to 19, 50 a second, median"),
    p99(Measure::GossipPaced, "gossip, one to 19, 50 a second, 99th percentile"),
    memory(Measure::GossipTopics, "memory of a topic for each peer in its mesh", |run| run.client_kib),
    memory(Measure::GossipPeers, "memory of a peer that gossips", |run| run.server_kib),
];

/// A measure over a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    #[serde(serialize_with = "word")]
    pub(crate) measure: Measure,
    #[serde(serialize_with = "word")]
    pub(crate) transport: Transport,
}

fn word<S: serde::Serializer>(word: &impl Word, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word.text())
}

trait Word {
    fn text(&self) -> &'static str;
}

impl Word for Measure {
    fn text(&self) -> &'static str {
        self.word()
    }
}

impl Word for Transport {
    fn text(&self) -> &'static str {
        self.word()
    }
}

/// What the words ask for; the parser has seen to it that they are known.
pub(crate) fn cases(measures: &[String], transports: &[String], link: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    let usual = |measure: Measure| match link {
        true => OVER_A_LINK.contains(&measure),
        false => !matches!(measure, Measure::FirstContact | Measure::Early),
    };
    let transports: Vec<Transport> = transports.iter().filter_map(|word| word.parse().ok()).collect();
    for &measure in Measure::ALL {
        let asked = measures.iter().any(|word| word == measure.word());
        let taken = asked || (measures.is_empty() && usual(measure));
        if !taken {
            continue;
        }
        // What gossip costs has little to do with what is below it: over one of them it is enough.
        let count = if measure.is_gossip() { 1 } else { transports.len() };
        // Nothing goes ahead of the other handshakes.
        let possible = |transport: &&Transport| measure != Measure::Early || **transport == Transport::Quic;
        let over = transports.iter().filter(possible).take(count);
        cases.extend(over.map(|&transport| Case { measure, transport }));
    }
    cases
}

/// As people say it.
pub(crate) fn transport_title(transport: Transport) -> &'static str {
    match transport {
        Transport::TcpNoise => "tcp, noise, yamux",
        Transport::TcpTls => "tcp, TLS, yamux",
        Transport::Quic => "QUIC",
        Transport::WsNoise => "WebSocket, noise, yamux",
        Transport::WebRtc => "WebRTC",
    }
}

/// What the limit is that stands beside it.
pub(crate) fn limit_title(transport: Transport) -> &'static str {
    match transport {
        Transport::TcpNoise => "TCP",
        Transport::TcpTls => "rustls over TCP",
        Transport::Quic => "quinn",
        Transport::WsNoise | Transport::WebRtc => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_is_shown_and_every_word_known() {
        for measure in Measure::ALL {
            assert!(FIGURES.iter().any(|figure| figure.measure == *measure), "{measure:?}");
        }
        let transports: Vec<String> = TRANSPORTS.iter().map(ToString::to_string).collect();
        let gossip = Measure::ALL.iter().filter(|measure| measure.is_gossip()).count();
        let others = Measure::ALL.len() - 2 - gossip;
        assert_eq!(cases(&[], &transports, false).len(), others * TRANSPORTS.len() + gossip);
        assert_eq!(cases(&[], &transports, true).len(), (OVER_A_LINK.len() - 1) * TRANSPORTS.len() + 1);
        let one = cases(&["up".to_owned()], &["quic".to_owned()], false);
        assert_eq!(one, [Case { measure: Measure::Up, transport: Transport::Quic }]);
        let one = cases(&["gossip-pair".to_owned()], &transports, false);
        assert_eq!(one, [Case { measure: Measure::GossipPair, transport: Transport::TcpNoise }]);
    }
}
