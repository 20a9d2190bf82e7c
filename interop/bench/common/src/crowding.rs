//! What becomes of streams and connections while others take all that there is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{io::AsyncWriteExt as _, task::JoinSet, time::sleep};

use crate::{
    Dialer, Options, PERF, PING, Result, Stack, failed,
    measure::{connected, hold, in_time, operations, round_trip},
    say,
};

/// Streams that share a connection.
const STREAMS: usize = 256;
/// Connections that carry a stream each.
const CONNECTIONS: usize = 100;
/// How long the streams send before it counts: until buffers and windows are full.
const FILL: Duration = Duration::from_millis(500);

/// Streams that send without end, and how much each has got rid of.
#[derive(Default)]
struct Senders {
    tasks: JoinSet<Result<()>>,
    sent: Vec<Arc<AtomicU64>>,
}

impl Senders {
    fn add<S: tokio::io::AsyncWrite + Unpin + Send + 'static>(&mut self, mut stream: S, write: usize) {
        let sent = Arc::new(AtomicU64::new(0));
        self.sent.push(Arc::clone(&sent));
        self.tasks.spawn(async move {
            let chunk = vec![0; write];
            stream.write_all(&1_u64.to_be_bytes()).await.map_err(failed("writing"))?;
            loop {
                stream.write_all(&chunk).await.map_err(failed("writing"))?;
                sent.fetch_add(write as u64, Ordering::Relaxed);
            }
        });
    }

    fn sent(&self) -> Vec<u64> {
        self.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).collect()
    }

    /// Whether all of them still send.
    fn check(&mut self) -> Result<()> {
        match self.tasks.try_join_next() {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => Err(failed("a stream")(error)),
            None => Ok(()),
        }
    }
}

/// Pings on one stream, while another one of the same connection sends all it can.
pub(crate) async fn ping_beside_bulk<S: Stack>(stack: &S, address: &str, options: &Options) -> Result<()> {
    let dialer = connected(stack, address, options).await?;
    let mut bulk = Senders::default();
    bulk.add(in_time("opening", dialer.open(PERF)).await?, options.write);
    let mut stream = in_time("opening", dialer.open(PING)).await?;
    let warm = Instant::now();
    while warm.elapsed() < FILL {
        round_trip(&mut stream).await?;
    }
    say::begin();
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < options.duration {
        times.push(round_trip(&mut stream).await?);
    }
    bulk.check()?;
    say::result(&operations(times, began.elapsed()));
    Ok(())
}

/// How evenly streams share a connection, of which each would like to have all.
pub(crate) async fn share<S: Stack>(stack: &S, address: &str, options: &Options) -> Result<()> {
    let dialer = connected(stack, address, options).await?;
    let mut senders = Senders::default();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(in_time("opening", dialer.open(PERF)).await?);
    }
    for stream in streams {
        senders.add(stream, options.write);
    }
    sleep(FILL).await;
    let before = senders.sent();
    say::begin();
    let began = Instant::now();
    sleep(options.duration).await;
    let shares: Vec<u64> =
        senders.sent().iter().zip(before).map(|(after, before)| after.saturating_sub(before)).collect();
    let took = began.elapsed();
    senders.check()?;
    let total: u64 = shares.iter().sum();
    let mean = total as f64 / STREAMS as f64;
    let percent = |share: Option<&u64>| share.map_or(0.0, |&share| 100.0 * share as f64 / mean.max(1.0));
    say::result(&json!({
        "bytes": total,
        "seconds": took.as_secs_f64(),
        "least_percent": percent(shares.iter().min()),
        "most_percent": percent(shares.iter().max()),
    }));
    Ok(())
}

/// Connections of many nodes, of which each sends all it can. They still do when the result is said, so that the harness
/// sees what they take.
pub(crate) async fn saturate<S: Stack>(
    stack: &S,
    address: &str,
    options: &Options,
) -> Result<Kept<S::Dialer>> {
    let mut held = Vec::new();
    hold(stack, address, options, CONNECTIONS, &mut held).await?;
    say::begin();
    let began = Instant::now();
    let mut senders = Senders::default();
    for dialer in &held {
        senders.add(in_time("opening", dialer.open(PERF)).await?, options.write);
    }
    sleep(options.duration).await;
    senders.check()?;
    let bytes: u64 = senders.sent().iter().sum();
    say::result(&json!({
        "bytes": bytes,
        "connections": CONNECTIONS,
        "seconds": began.elapsed().as_secs_f64(),
    }));
    Ok(Kept { _nodes: held, _senders: senders })
}

/// What goes on until it is dropped.
pub(crate) struct Kept<D> {
    _senders: Senders,
    _nodes: Vec<D>,
}

impl<D> Kept<D> {
    /// Nodes that send nothing.
    pub(crate) fn idle(nodes: Vec<D>) -> Self {
        Self { _senders: Senders::default(), _nodes: nodes }
    }
}
