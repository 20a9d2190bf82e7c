//! One test: two programs that know nothing but their environment.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use super::plan::{Contract, OURS, Test};
use crate::peers;

/// How long a test may take: much less than the suites allow.
const LIMIT: Duration = Duration::from_secs(60);
/// How much of what a program says is kept.
const OUTPUT: u64 = 256 * 1024;
/// How many lines of its stderr are quoted.
const QUOTED: usize = 8;
/// How long the rest of an ended program's output is waited for.
const REST: Duration = Duration::from_secs(2);

/// What a measurement moves here: enough to be one, and little enough to be done soon.
const BYTES: &str = "4194304";
const ITERATIONS: [(&str, &str); 3] =
    [("UPLOAD_ITERATIONS", "3"), ("DOWNLOAD_ITERATIONS", "3"), ("LATENCY_ITERATIONS", "20")];

/// Every word of either contract: none may come from outside.
const WORDS: [&str; 21] = [
    "IS_DIALER",
    "REDIS_ADDR",
    "TEST_KEY",
    "TRANSPORT",
    "LISTENER_IP",
    "DEBUG",
    "SECURE_CHANNEL",
    "MUXER",
    "TEST_TIMEOUT_SECS",
    "UPLOAD_BYTES",
    "DOWNLOAD_BYTES",
    "UPLOAD_ITERATIONS",
    "DOWNLOAD_ITERATIONS",
    "LATENCY_ITERATIONS",
    "transport",
    "muxer",
    "security",
    "is_dialer",
    "ip",
    "redis_addr",
    "test_timeout_seconds",
];

/// What the dialer measured.
pub(super) struct Measured {
    /// `handshake_plus_one_rtt`, or the median upload in Gbps.
    pub(super) first: f64,
    /// `ping_rtt`, or the median latency in ms.
    pub(super) second: f64,
}

/// Why a test failed, and the end of what both wrote on stderr.
pub(super) struct Failed {
    pub(super) why: String,
    pub(super) stderr: Vec<String>,
}

/// Where both meet.
pub(super) struct Place {
    pub(super) peers: PathBuf,
    /// Our program.
    pub(super) ours: PathBuf,
    /// `host:port` of Redis.
    pub(super) redis: String,
}

/// Runs a test under a key of its own.
pub(super) async fn run(test: &Test, place: &Place, key: &str) -> Result<Measured, Failed> {
    let plainly = |why: String| Failed { why, stderr: Vec::new() };
    let mut listener = Running::start(test, test.listener, false, place, key).map_err(plainly)?;
    let mut dialer = Running::start(test, test.dialer, true, place, key).map_err(plainly)?;
    let ended = tokio::select! {
        status = timeout(LIMIT, dialer.child.wait()) => match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the dialer ended with {status}")),
            Ok(Err(error)) => Err(format!("the dialer: {error}")),
            Err(_) => Err(format!("the dialer was not done within {} s", LIMIT.as_secs())),
        },
        // The suites then end the dialer, whatever it is at.
        status = listener.child.wait() => Err(match status {
            Ok(status) => format!("the listener ended first, with {status}"),
            Err(error) => format!("the listener: {error}"),
        }),
    };
    let (dialed, dialer_errors) = dialer.end().await;
    let (listened, listener_errors) = listener.end().await;
    let measured = ended.and_then(|()| {
        if test.listener == OURS && !listened.is_empty() {
            return Err(format!("our listener wrote on stdout: {listened:?}"));
        }
        read(test.contract, &dialed, test.dialer == OURS)
    });
    measured.map_err(|why| {
        let quote = |who: &str, text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.iter().skip(lines.len().saturating_sub(QUOTED));
            last.map(|line| format!("{who}: {}", tidy(line))).collect::<Vec<_>>()
        };
        let mut stderr = quote("dialer", &dialer_errors);
        stderr.extend(quote("listener", &listener_errors));
        Failed { why, stderr }
    })
}

fn tidy(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// One of the two programs. Dropping it kills it.
struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Running {
    fn start(test: &Test, who: &str, dials: bool, place: &Place, key: &str) -> Result<Self, String> {
        let mut command = match peers::find(who) {
            Some(peer) => {
                let mut command = Command::new(peer.dir(&place.peers).join("run"));
                command.arg("contract");
                command
            }
            None => Command::new(&place.ours),
        };
        // What suite it is, our dialer has to see for itself; to tell a listener, the suite has the name of its server.
        if test.contract == Contract::Perf && !(who == OURS && dials) {
            if who == OURS {
                command.arg("contract");
            }
            command.args(["--suite", "perf"]);
        }
        for word in WORDS {
            command.env_remove(word);
        }
        command.envs(environment(test, dials, &place.redis, key));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("{who}: {error}"))?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(format!("{who}: it has no output"));
        };
        Ok(Self { child, stdout: tokio::spawn(keep(out)), stderr: tokio::spawn(keep(err)) })
    }

    /// Kills it, as the suites do, and says what it wrote on stdout and stderr.
    async fn end(mut self) -> (String, String) {
        let _ = self.child.kill().await;
        let rest = async { (self.stdout.await.unwrap_or_default(), self.stderr.await.unwrap_or_default()) };
        timeout(REST, rest).await.unwrap_or_default()
    }
}

/// Reads to the end, and keeps the beginning.
async fn keep(from: impl AsyncRead + Unpin) -> String {
    let (mut from, mut kept) = (from, Vec::new());
    let _ = (&mut from).take(OUTPUT).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}

/// The words of one side.
fn environment(test: &Test, dials: bool, redis: &str, key: &str) -> Vec<(&'static str, String)> {
    let dials_word = dials.to_string();
    let mut words = match test.contract {
        Contract::TestPlans => {
            vec![("is_dialer", dials_word), ("redis_addr", redis.to_owned()), ("ip", "127.0.0.1".to_owned())]
        }
        Contract::Unified | Contract::Perf => vec![
            ("IS_DIALER", dials_word),
            ("REDIS_ADDR", redis.to_owned()),
            ("TEST_KEY", key.to_owned()),
            ("LISTENER_IP", "127.0.0.1".to_owned()),
            ("DEBUG", "false".to_owned()),
        ],
    };
    let names = match test.contract {
        Contract::TestPlans => ["transport", "security", "muxer"],
        Contract::Unified | Contract::Perf => ["TRANSPORT", "SECURE_CHANNEL", "MUXER"],
    };
    let values = [Some(test.transport), test.security, test.muxer];
    words.extend(names.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?.to_owned()))));
    if test.contract == Contract::Perf && dials {
        words.extend([("UPLOAD_BYTES", BYTES.to_owned()), ("DOWNLOAD_BYTES", BYTES.to_owned())]);
        words.extend(ITERATIONS.map(|(name, value)| (name, value.to_owned())));
        words.push(("DURATION", "20".to_owned()));
    }
    words
}

/// Reads what a dialer wrote on stdout. Of ours, nothing else may be there.
fn read(contract: Contract, text: &str, is_ours: bool) -> Result<Measured, String> {
    let (known, first, second): (&[&str], _, _) = match contract {
        Contract::Unified => (
            &["latency:", "  handshake_plus_one_rtt: ", "  ping_rtt: ", "  unit: ms"],
            number(text, "latency:", "handshake_plus_one_rtt"),
            number(text, "latency:", "ping_rtt"),
        ),
        Contract::TestPlans => return read_json(text),
        Contract::Perf => (
            &[
                "upload:",
                "download:",
                "latency:",
                "  iterations: ",
                "  min: ",
                "  q1: ",
                "  median: ",
                "  q3: ",
                "  max: ",
                "  outliers: [",
                "  samples: [",
                "  unit: ",
            ],
            number(text, "upload:", "median"),
            number(text, "latency:", "median"),
        ),
    };
    let strange = text.lines().find(|line| !known.iter().any(|word| line.starts_with(word)));
    if let (true, Some(line)) = (is_ours, strange) {
        return Err(format!("the dialer wrote on stdout what is not in the contract: {}", tidy(line)));
    }
    Ok(Measured { first: first?, second: second? })
}

/// The number of a key in one map, indented by exactly two spaces, as the suite's scripts want it.
fn number(text: &str, map: &str, key: &str) -> Result<f64, String> {
    let within =
        text.lines().skip_while(|line| *line != map).skip(1).take_while(|line| line.starts_with("  "));
    let prefix = format!("  {key}: ");
    let found =
        within.filter_map(|line| line.strip_prefix(&prefix)).find_map(|value| value.trim().parse().ok());
    let found = found.filter(|number: &f64| number.is_finite() && *number >= 0.0);
    found.ok_or_else(|| format!("the dialer did not say {key} of {map} but {:?}", tidy(text)))
}

fn read_json(text: &str) -> Result<Measured, String> {
    #[derive(serde::Deserialize)]
    struct Line {
        #[serde(rename = "handshakePlusOneRTTMillis")]
        handshake: f64,
        #[serde(rename = "pingRTTMilllis")]
        ping: f64,
    }
    // The suite takes all of stdout for one value.
    let line: Line =
        serde_json::from_str(text).map_err(|error| format!("the dialer said {:?}: {error}", tidy(text)))?;
    Ok(Measured { first: line.handshake, second: line.ping })
}

/// A key of this many hex digits for a test, as the suite makes them.
pub(super) fn key(number: usize) -> String {
    format!("{number:08x}")
}

/// Our own program, as it runs now.
pub(super) fn ours() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("this program does not find itself: {error}"))
}

/// Where both of every test meet.
pub(super) fn place(peers: &Path, redis: &str) -> Result<Place, String> {
    Ok(Place { peers: peers.to_path_buf(), ours: ours()?, redis: redis.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "latency:\n  handshake_plus_one_rtt: 5.011\n  ping_rtt: 0.599\n  unit: ms\n";

    #[test]
    fn reports_of_unified_testing() {
        let measured = read(Contract::Unified, UNIFIED, true).map(|found| (found.first, found.second));
        assert_eq!(measured, Ok((5.011, 0.599)));
        let chatty = format!("# Measurements\nhello\n{UNIFIED}");
        assert!(read(Contract::Unified, &chatty, false).is_ok());
        assert!(read(Contract::Unified, &chatty, true).is_err_and(|why| why.contains("# Measurements")));
        for wrong in ["", "latency:\n    handshake_plus_one_rtt: 5\n", &UNIFIED.replace("5.011", "NaN")] {
            assert!(read(Contract::Unified, wrong, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn reports_of_test_plans() {
        let line = "{\"handshakePlusOneRTTMillis\":5.0,\"pingRTTMilllis\":0.6}\n";
        let measured = read(Contract::TestPlans, line, true).map(|found| (found.first, found.second));
        assert_eq!(measured, Ok((5.0, 0.6)));
        assert!(read(Contract::TestPlans, UNIFIED, true).is_err());
        assert!(read(Contract::TestPlans, &line.replace("Milllis", "Millis"), true).is_err());
    }

    #[test]
    fn environments() {
        let test = Test {
            contract: Contract::Unified,
            dialer: OURS,
            listener: "go",
            transport: "quic-v1",
            security: None,
            muxer: None,
        };
        let words = environment(&test, true, "127.0.0.1:1", "0000000a");
        assert!(words.contains(&("TEST_KEY", "0000000a".to_owned())));
        assert!(words.iter().all(|(name, _)| WORDS.contains(name) && *name != "MUXER"));
        let old = Test { contract: Contract::TestPlans, security: Some("tls"), muxer: Some("mplex"), ..test };
        let words = environment(&old, false, "127.0.0.1:1", "0000000a");
        assert!(
            words.contains(&("security", "tls".to_owned()))
                && words.contains(&("is_dialer", "false".to_owned()))
        );
        assert!(words.iter().all(|(name, _)| *name == name.to_lowercase()));
    }
}
