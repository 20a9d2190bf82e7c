//! Ours against the `yamux` crate, over a pipe in memory, both in one run: `cargo bench -p peerage-muxer`.
//!
//! Each measure is taken several times in turn (ours, the crate's, ours, ...), and the medians are compared, so that
//! whatever else the machine does meets both alike.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock"
)]

use std::time::{Duration, Instant};

use peerage_core::budget::Budget;
use peerage_muxer::{
    Connection, Muxed,
    yamux::{self, Config, Mode},
    yamux_crate,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

const RUNS: usize = 7;

#[derive(Clone, Copy)]
enum Which {
    Ours,
    Crate,
}

fn start(which: Which, io: DuplexStream, mode: Mode) -> Connection {
    let Muxed { connection, driver } = match which {
        Which::Ours => yamux::start(io, mode, Config::default(), Budget::unlimited()),
        Which::Crate => yamux_crate::start(io, mode, Config::default()),
    };
    tokio::spawn(driver);
    connection
}

fn pair(which: Which) -> (Connection, Connection) {
    let (a, b) = tokio::io::duplex(256 * 1024);
    (start(which, a, Mode::Client), start(which, b, Mode::Server))
}

/// Writes `total` bytes on each of `streams` streams, `write` at a time.
async fn bulk(which: Which, streams: usize, total: usize, write: usize) {
    let (a, b) = pair(which);
    let sink = tokio::spawn(async move {
        let mut reading = Vec::new();
        for _ in 0..streams {
            let mut stream = b.accept().await.unwrap();
            reading.push(tokio::spawn(async move {
                let mut buf = vec![0; 64 * 1024];
                let mut all = 0;
                loop {
                    match stream.read(&mut buf).await.unwrap() {
                        0 => break all,
                        n => all += n,
                    }
                }
            }));
        }
        let mut all = 0;
        for one in reading {
            all += one.await.unwrap();
        }
        all
    });
    let mut writing = Vec::new();
    for _ in 0..streams {
        let mut stream = a.open().await.unwrap();
        writing.push(tokio::spawn(async move {
            let data = vec![7; write];
            for _ in 0..total / write {
                stream.write_all(&data).await.unwrap();
            }
            stream.close_write().await.unwrap();
            stream
        }));
    }
    assert_eq!(sink.await.unwrap(), streams * (total / write) * write);
    drop(writing);
}

/// `count` requests of 64 bytes on a stream each, `flight` at a time.
async fn requests(which: Which, count: usize, flight: usize) {
    let (a, b) = pair(which);
    tokio::spawn(async move {
        while let Ok(mut stream) = b.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 64];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(&request).await.unwrap();
                stream.close_write().await.unwrap();
            });
        }
    });
    let mut flying = Vec::new();
    for _ in 0..flight {
        let connection = a.clone();
        flying.push(tokio::spawn(async move {
            for _ in 0..count / flight {
                let mut stream = connection.open().await.unwrap();
                stream.write_all(&[7; 64]).await.unwrap();
                stream.close_write().await.unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                assert_eq!(answer.len(), 64);
            }
        }));
    }
    for one in flying {
        one.await.unwrap();
    }
}

fn time<F: Future>(work: impl FnOnce() -> F) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let begin = Instant::now();
    runtime.block_on(work());
    begin.elapsed()
}

fn compare<F: Future>(name: &str, unit: &str, amount: f64, work: impl Fn(Which) -> F) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(time(|| work(Which::Ours)));
        theirs.push(time(|| work(Which::Crate)));
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        amount / times[times.len() / 2].as_secs_f64()
    };
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    println!("{name:32} {ours:10.1} {theirs:10.1} {unit:10} {:5.2} x", ours / theirs);
}

fn main() {
    const MB: usize = 1 << 20;
    println!("{:32} {:>10} {:>10}", "", "ours", "crate");
    compare("1 stream, 64 KiB writes", "MiB/s", 256.0, |w| bulk(w, 1, 256 * MB, 64 * 1024));
    compare("1 stream, 1 KiB writes", "MiB/s", 64.0, |w| bulk(w, 1, 64 * MB, 1024));
    compare("16 streams, 64 KiB writes", "MiB/s", 256.0, |w| bulk(w, 16, 16 * MB, 64 * 1024));
    compare("16 streams, 100 B writes", "MiB/s", 16.0, |w| bulk(w, 16, MB, 100));
    compare("requests, 1 in flight", "1000/s", 5.0, |w| requests(w, 5000, 1));
    compare("requests, 64 in flight", "1000/s", 20.0, |w| requests(w, 19_968, 64));
}
