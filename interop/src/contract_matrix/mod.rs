//! Our program against foreign ones that obey the contracts of the official suites, without containers: they meet in a
//! Redis server on loopback, and know of each other nothing but what they find there.

mod excuses;
mod pair;
mod plan;
mod redis_server;
mod table;

use std::{path::Path, sync::Arc};

use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use pair::Failed;
use plan::{Contract, Test};
pub(crate) use plan::{Filter, foreign};
use redis_server::RedisServer;

/// The words of the command line.
pub(crate) const CONTRACTS: &[&str] = Contract::WORDS;
pub(crate) const TRANSPORTS: &[&str] = plan::TRANSPORTS;
pub(crate) const PROGRAMS: &[&str] = plan::NAMES;
/// More tests than there are, excuses included.
pub(crate) const MOST_TESTS: u32 = 500;

/// Everything that came out.
#[derive(Serialize)]
pub(crate) struct Results {
    /// Whether every test passed or is excused.
    pub(crate) ok: bool,
    seconds: f64,
    rows: Vec<Row>,
    /// Excuses that no longer hold.
    stale: Vec<String>,
}

/// One test, and how it went.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    test: Test,
    ok: bool,
    /// In ms; of measurements, the median upload in Gbps.
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake_plus_one_rtt: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_gbps: Option<f64>,
    /// In ms; of measurements, the median latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    ping_rtt: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Why it is not our failure. It is one all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    excused: Option<&'static str>,
    /// The end of what both wrote on stderr.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stderr: Vec<String>,
}

impl Row {
    fn new(test: Test, result: Result<pair::Measured, Failed>) -> Self {
        let mut row = Self {
            test,
            ok: result.is_ok(),
            handshake_plus_one_rtt: None,
            upload_gbps: None,
            ping_rtt: None,
            error: None,
            excused: None,
            stderr: Vec::new(),
        };
        match result {
            Ok(measured) => {
                let first = if test.contract == Contract::Perf {
                    &mut row.upload_gbps
                } else {
                    &mut row.handshake_plus_one_rtt
                };
                *first = Some(measured.first);
                row.ping_rtt = Some(measured.second);
            }
            Err(failed) => (row.error, row.stderr) = (Some(failed.why), failed.stderr),
        }
        row
    }
}

/// Runs all tests, so many at once.
pub(crate) async fn run(filter: &Filter, peers: &Path, jobs: usize) -> Result<Results, String> {
    let started = Instant::now();
    let tests = plan::tests(filter);
    if tests.is_empty() {
        return Err("there is no such test".to_owned());
    }
    let shared = RedisServer::start().await?;
    let shared_place = Arc::new(pair::place(peers, &shared.address)?);
    let places = Arc::new(Semaphore::new(jobs));
    let mut running = JoinSet::new();
    for (at, test) in tests.iter().copied().enumerate() {
        let (places, place, peers) = (Arc::clone(&places), Arc::clone(&shared_place), peers.to_path_buf());
        running.spawn(async move {
            let permit = places.acquire_owned().await;
            let row = one(test, at, &place, &peers).await;
            drop(permit);
            eprintln!("{}: {}", test.label(), if row.ok { "ok" } else { "FAIL" });
            (at, row)
        });
    }
    let mut rows: Vec<Option<Row>> = tests.iter().map(|_| None).collect();
    while let Some(done) = running.join_next().await {
        let Ok((at, row)) = done else { continue };
        if let Some(place) = rows.get_mut(at) {
            *place = Some(row);
        }
    }
    let complete = rows.iter().all(Option::is_some);
    let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
    let stale = excuses::look_again(&mut rows, &shared_place, peers).await;
    let ok = complete && stale.is_empty() && rows.iter().all(|row| row.ok || row.excused.is_some());
    Ok(Results { ok, seconds: started.elapsed().as_secs_f64(), rows, stale })
}

/// Runs one test. The older contract has but one key for all tests, and so each needs a server of its own.
async fn one(test: Test, number: usize, place: &pair::Place, peers: &Path) -> Row {
    let key = pair::key(number);
    let result = if test.contract == Contract::TestPlans {
        let alone = async {
            let server = RedisServer::start().await?;
            let place = pair::place(peers, &server.address)?;
            Ok((server, place))
        };
        match alone.await {
            Ok((_server, place)) => pair::run(&test, &place, &key).await,
            Err(why) => Err(Failed { why, stderr: Vec::new() }),
        }
    } else {
        pair::run(&test, place, &key).await
    };
    Row::new(test, result)
}

/// To be read.
pub(crate) fn render(results: &Results) -> String {
    table::render(results)
}
