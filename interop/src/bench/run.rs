//! One measurement: a fresh listener, a fresh client, and what both used meanwhile.

use std::{path::Path, time::Duration};

use bench_peer::Measure;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{
    machine::{self, BUSY, Moment, Usage},
    peers::{OURS, Peer},
    plan::Case,
};
use crate::{
    child::Child,
    link::{FAR, Link, NEAR, Shape},
};

/// How long it may take until a program listens: an interpreter loads its libraries first.
const START: Duration = Duration::from_secs(60);
/// How much longer than the time to measure a client may take.
const MORE: Duration = Duration::from_secs(120);

/// The same for every program.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    /// Our node has ML-KEM beside X25519.
    pub(crate) hybrid: bool,
    /// Worker threads of each process.
    pub(crate) workers: usize,
    /// Seconds for each measurement.
    pub(crate) seconds: f64,
    /// Bytes that are handed to a stream at once.
    pub(crate) write: usize,
    /// Idle connections, at most.
    pub(crate) idle: usize,
    /// How long to wait for an idle machine, in seconds, each time.
    pub(crate) patience: f64,
    /// What lies between the two; nothing on loopback.
    pub(crate) link: Option<Shape>,
}

/// What a program says on stdout.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Said {
    Listening { address: String, about: String },
    Begin,
    Result { result: Measured },
    Unsupported { what: String },
}

/// What the client measured.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Measured {
    seconds: f64,
    bytes: Option<f64>,
    operations: Option<f64>,
    connections: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    least_percent: Option<f64>,
    most_percent: Option<f64>,
}

/// A measurement.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    pub(crate) bytes: Option<f64>,
    pub(crate) operations: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// What the slowest and the fastest of many have, in hundredths of the mean.
    pub(crate) least_percent: Option<f64>,
    pub(crate) most_percent: Option<f64>,
    /// CPU seconds of each side.
    pub(crate) client_cpu: f64,
    pub(crate) server_cpu: f64,
    /// KiB by which each side grew for each connection, or for whatever else only is there.
    pub(crate) client_kib: Option<f64>,
    pub(crate) server_kib: Option<f64>,
    /// Of the link between them, without what they do themselves.
    pub(crate) round_trip_us: Option<f64>,
    /// How many processors others kept busy meanwhile.
    pub(crate) foreign: f64,
}

impl Run {
    /// Whether the machine had nothing else to do.
    pub(crate) fn quiet(&self) -> bool {
        self.foreign < BUSY
    }

    /// CPU time of client and server, in seconds for each GB, or in milliseconds for each operation.
    pub(crate) fn cpu(&self) -> Option<(f64, f64)> {
        let unit = match (self.bytes, self.operations) {
            (Some(bytes), _) => bytes / 1e9,
            (_, Some(operations)) => operations / 1e3,
            _ => return None,
        };
        (unit > 0.0).then(|| (self.client_cpu / unit, self.server_cpu / unit))
    }
}

/// What comes of an attempt to measure.
#[derive(Debug)]
pub(crate) enum Outcome {
    Measured {
        run: Run,
        about: String,
    },
    /// The library has no such thing.
    Unsupported(String),
}

/// Takes a measure once.
pub(crate) async fn once(
    peer: &Peer,
    dir: &Path,
    case: Case,
    settings: &Settings,
    link: Option<&Link>,
) -> Result<Outcome, String> {
    machine::idle(Duration::from_secs_f64(settings.patience)).await.map_err(|error| error.to_string())?;
    let script = peer.script(dir, "run");
    let shared = ["--transport".to_owned(), case.transport.word().to_owned()];
    let shared = shared.into_iter().chain(["--workers".to_owned(), settings.workers.to_string()]);
    let hybrid = (settings.hybrid && *peer == OURS).then(|| ["--hybrid", "true"].map(str::to_owned));
    let shared: Vec<String> = shared.chain(hybrid.into_iter().flatten()).collect();
    let at = |host: &str| link.map(|_| ["--host".to_owned(), host.to_owned()]).into_iter().flatten();
    // A server for peers that gossip does nothing else.
    let gossip = (case.measure == Measure::GossipPeers).then(|| ["--gossip", "true"].map(str::to_owned));
    let server = ["server".to_owned()].into_iter().chain(at(FAR)).chain(shared.iter().cloned());
    let server = server.chain(gossip.into_iter().flatten());
    let mut server = match link {
        Some(link) => link.far.spawn(&script, server),
        None => Child::spawn(&script, server),
    }?;
    let listening = say(START, &mut server).await.map_err(|why| told(&why, "the server", &server))?;
    let (address, about) = match listening {
        Said::Listening { address, about } => (address, about),
        Said::Unsupported { what } => return Ok(Outcome::Unsupported(what)),
        other => return Err(format!("the server said {other:?}")),
    };
    let connections = settings.idle.min(peer.idle);
    let client = [
        "client".to_owned(),
        address,
        case.measure.word().to_owned(),
        "--seconds".to_owned(),
        settings.seconds.to_string(),
        "--write".to_owned(),
        settings.write.to_string(),
        "--connections".to_owned(),
        connections.to_string(),
    ];
    let client = client.into_iter().chain(at(NEAR)).chain(shared);
    let mut client = match link {
        Some(link) => link.near.spawn(&script, client),
        None => Child::spawn(&script, client),
    }?;
    let measured = measure(&mut server, &mut client, case.measure, settings).await;
    let outcome = measured.map_err(|why| {
        format!("{}; the server: {}", told(&why, "the client", &client), server.stderr().join(" / "))
    })?;
    // The listener of a library that hangs at its end has been measured all the same.
    let _ = client.end().await;
    let _ = server.end().await;
    Ok(match outcome {
        Ok(run) => Outcome::Measured { run, about },
        Err(what) => Outcome::Unsupported(what),
    })
}

/// Follows a client to its result; the inner error is what is not supported.
async fn measure(
    server: &mut Child,
    client: &mut Child,
    measure: Measure,
    settings: &Settings,
) -> Result<Result<Run, String>, String> {
    let limit = Duration::from_secs_f64(settings.seconds) + MORE;
    match say(limit, client).await? {
        Said::Begin => {}
        Said::Unsupported { what } => return Ok(Err(what)),
        other => return Err(format!("it said {other:?}")),
    }
    let before = look(server, client)?;
    let measured = match say(limit, client).await? {
        Said::Result { result } => result,
        Said::Unsupported { what } => return Ok(Err(what)),
        other => return Err(format!("it said {other:?}")),
    };
    let after = look(server, client)?;
    let (server_before, client_before, moment) = before;
    let (server_after, client_after, end) = after;
    let grown = |before: Usage, after: Usage| match measure {
        Measure::Idle | Measure::Saturated | Measure::GossipTopics | Measure::GossipPeers => {
            measured.connections.map(|count| (after.resident - before.resident) / count)
        }
        _ => None,
    };
    Ok(Ok(Run {
        seconds: measured.seconds,
        bytes: measured.bytes,
        operations: measured.operations,
        p50_us: measured.p50_us,
        p99_us: measured.p99_us,
        least_percent: measured.least_percent,
        most_percent: measured.most_percent,
        client_cpu: client_after.cpu - client_before.cpu,
        server_cpu: server_after.cpu - server_before.cpu,
        client_kib: grown(client_before, client_after),
        server_kib: grown(server_before, server_after),
        round_trip_us: settings.link.as_ref().map(|link| link.rtt.as_secs_f64() * 1e6),
        foreign: moment.foreign_until(&end),
    }))
}

/// What both use at this moment, and everybody else.
fn look(server: &Child, client: &Child) -> Result<(Usage, Usage, Moment), String> {
    let of = |child: &Child| {
        let id = child.id().ok_or("a program has ended")?;
        Usage::of(id).map_err(|error| error.to_string())
    };
    let (server, client) = (of(server)?, of(client)?);
    let moment = Moment::now(server.cpu + client.cpu).map_err(|error| error.to_string())?;
    Ok((server, client, moment))
}

/// What a program says next.
async fn say(limit: Duration, child: &mut Child) -> Result<Said, String> {
    let line =
        timeout(limit, child.line()).await.map_err(|_| format!("nothing for {} s", limit.as_secs()))?;
    let line = line.ok_or("it has ended")?;
    serde_json::from_str(&line).map_err(|error| format!("it said {line:?}: {error}"))
}

/// A failure with what the program wrote about it.
fn told(why: &str, who: &str, child: &Child) -> String {
    format!("{who}: {why}: {}", child.stderr().join(" / "))
}

/// How fast the ciphers are by themselves, in Gbit/s, by their names.
pub(crate) async fn ciphers(raw: &Peer, dir: &Path) -> Result<Vec<(String, f64)>, String> {
    let mut child = Child::spawn(&raw.script(dir, "run"), ["aead"])?;
    let line = timeout(START, child.line()).await.ok().flatten().ok_or("the ciphers said nothing")?;
    let said: serde_json::Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
    child.end().await?;
    let speeds =
        said.get("result").and_then(|speeds| speeds.as_object()).ok_or("the ciphers said nothing")?;
    Ok(speeds.iter().filter_map(|(name, speed)| Some((name.clone(), speed.as_f64()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        let line = r#"{"event":"result","result":{"operations":10,"seconds":0.5,"p50_us":1.5,"p99_us":2}}"#;
        let Said::Result { result } = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        assert_eq!((result.operations, result.p99_us, result.bytes), (Some(10.0), Some(2.0), None));
        assert!(matches!(serde_json::from_str(r#"{"event":"begin"}"#), Ok(Said::Begin)));
    }

    #[test]
    fn cpu_time_is_for_what_was_done() {
        let run = Run { bytes: Some(2e9), client_cpu: 3.0, server_cpu: 1.0, ..Run::default() };
        assert_eq!(run.cpu(), Some((1.5, 0.5)));
        let run = Run { operations: Some(2000.0), client_cpu: 3.0, server_cpu: 1.0, ..Run::default() };
        assert_eq!(run.cpu(), Some((1.5, 0.5)), "milliseconds");
        assert_eq!(Run::default().cpu(), None);
    }
}
