//! How each measure is taken, by the client.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    Dialer, Error, Measure, Options, PERF, PING, REQUEST, Result, Stack,
    crowding::{self, Kept},
    failed, say,
    serve::{PING_SIZE, REQUEST_SIZE},
};

/// What is wanted of a download that ends by time: more than anybody sends in that time.
const ENDLESS: u64 = 1 << 44;
/// How long anything goes on before it counts, at most: caches fill, windows open, code is loaded.
const WARM_UP: Duration = Duration::from_millis(200);
/// Nodes that connect at once, and requests that are under way at once.
const NODES: usize = 32;
const REQUESTS: usize = 64;
/// Idle connections that are opened before memory is looked at: what a process allocates once is not theirs.
const FIRST_IDLE: usize = 16;
/// How many of them are opened at once.
const IDLE_AT_ONCE: usize = 16;
/// How long idle connections are left alone before memory is looked at: identify and the like are through by then.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a single connection, stream or answer may take. What is later hangs.
const STUCK: Duration = Duration::from_secs(30);

/// Takes a measure and says what it is. What is given back shall live until the harness has looked at this process.
pub(crate) async fn take<S: Stack>(
    stack: &S,
    address: &str,
    measure: Measure,
    options: &Options,
) -> Result<Kept<S::Dialer>> {
    match measure {
        Measure::Up => up(&connected(stack, address, options).await?, options).await?,
        Measure::Down => down(&connected(stack, address, options).await?, options).await?,
        Measure::Ping => {
            let (dialer, options) = (connected(stack, address, options).await?, options.clone());
            let stream = in_time("opening", dialer.open(PING)).await?;
            dialer.beside(stream, move |stream| pings(stream, options)).await?;
        }
        Measure::PingApart => {
            let dialer = connected(stack, address, options).await?;
            pings(in_time("opening", dialer.open(PING)).await?, options.clone()).await?;
        }
        Measure::Connect => connect(stack, address, options, 1, true).await?,
        Measure::FirstContact => first_contact(stack, address, options).await?,
        Measure::Early => early(stack, address, options).await?,
        Measure::Connect32 => connect(stack, address, options, NODES, false).await?,
        Measure::Requests => requests(connected(stack, address, options).await?, options, 1).await?,
        Measure::Requests64 => requests(connected(stack, address, options).await?, options, REQUESTS).await?,
        Measure::Idle => return idle(stack, address, options).await.map(Kept::idle),
        Measure::PingBusy => crowding::ping_beside_bulk(stack, address, options).await?,
        Measure::Share => crowding::share(stack, address, options).await?,
        Measure::Saturated => return crowding::saturate(stack, address, options).await,
        gossip => return Err(Error::Failed(format!("{} is taken elsewhere", gossip.word()))),
    }
    Ok(Kept::idle(Vec::new()))
}

pub(crate) async fn connected<S: Stack>(stack: &S, address: &str, options: &Options) -> Result<S::Dialer> {
    let dialer = stack.dialer(options, false).await?;
    in_time("connecting", dialer.dial(address)).await?;
    Ok(dialer)
}

/// An end to everything that a peer may never answer.
pub(crate) async fn in_time<T>(doing: &'static str, future: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(STUCK, future)
        .await
        .unwrap_or_else(|_| Err(Error::Failed(format!("{doing}: no answer within {} s", STUCK.as_secs()))))
}

async fn up<D: Dialer>(dialer: &D, options: &Options) -> Result<()> {
    upload(dialer, options.write, WARM_UP.min(options.duration)).await?;
    say::begin();
    let (bytes, took) = upload(dialer, options.write, options.duration).await?;
    say::result(&json!({ "bytes": bytes, "seconds": took.as_secs_f64() }));
    Ok(())
}

/// Sends for so long, and until the listener has read everything.
async fn upload<D: Dialer>(dialer: &D, write: usize, duration: Duration) -> Result<(u64, Duration)> {
    let began = Instant::now();
    let sending = async {
        let chunk = vec![0; write];
        let mut bytes: u64 = 0;
        let mut stream = dialer.open(PERF).await?;
        stream.write_all(&1_u64.to_be_bytes()).await.map_err(failed("writing"))?;
        while began.elapsed() < duration {
            stream.write_all(&chunk).await.map_err(failed("writing"))?;
            bytes = bytes.saturating_add(write as u64);
        }
        stream.shutdown().await.map_err(failed("half-closing"))?;
        stream.read_exact(&mut [0]).await.map_err(failed("reading the listener's byte"))?;
        Ok((bytes, began.elapsed()))
    };
    timeout(duration.saturating_add(STUCK), sending)
        .await
        .unwrap_or_else(|_| Err(Error::Failed("the upload does not end".to_owned())))
}

async fn down<D: Dialer>(dialer: &D, options: &Options) -> Result<()> {
    download(dialer, options.write, WARM_UP.min(options.duration)).await?;
    say::begin();
    let (bytes, took) = download(dialer, options.write, options.duration).await?;
    say::result(&json!({ "bytes": bytes, "seconds": took.as_secs_f64() }));
    Ok(())
}

/// Reads for so long, and then leaves the rest.
async fn download<D: Dialer>(dialer: &D, read: usize, duration: Duration) -> Result<(u64, Duration)> {
    let began = Instant::now();
    let mut chunk = vec![0; read];
    let mut bytes: u64 = 0;
    let mut stream = in_time("opening", dialer.open(PERF)).await?;
    stream.write_all(&ENDLESS.to_be_bytes()).await.map_err(failed("writing"))?;
    stream.shutdown().await.map_err(failed("half-closing"))?;
    while began.elapsed() < duration {
        let reading = async { stream.read(&mut chunk).await.map_err(failed("reading")) };
        match in_time("reading", reading).await? {
            0 => return Err(Error::Failed(format!("the download ended after {bytes} bytes"))),
            read => bytes = bytes.saturating_add(read as u64),
        }
    }
    Ok((bytes, began.elapsed()))
}

async fn pings<S>(mut stream: S, options: Options) -> Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let warm = Instant::now();
    while warm.elapsed() < WARM_UP.min(options.duration) {
        round_trip(&mut stream).await?;
    }
    say::begin();
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < options.duration {
        times.push(round_trip(&mut stream).await?);
    }
    say::result(&operations(times, began.elapsed()));
    Ok(())
}

pub(crate) async fn round_trip<S>(stream: &mut S) -> Result<Duration>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut bytes = [7; PING_SIZE];
    let began = Instant::now();
    let there_and_back = async {
        stream.write_all(&bytes).await.map_err(failed("pinging"))?;
        stream.flush().await.map_err(failed("pinging"))?;
        stream.read_exact(&mut bytes).await.map_err(failed("pinging")).map(drop)
    };
    in_time("pinging", there_and_back).await?;
    Ok(began.elapsed())
}

async fn connect<S: Stack>(
    stack: &S,
    address: &str,
    options: &Options,
    nodes: usize,
    with_ping: bool,
) -> Result<()> {
    let mut dialers = Vec::new();
    for _ in 0..nodes {
        dialers.push(Arc::new(stack.dialer(options, nodes > 1).await?));
    }
    for dialer in &dialers {
        connection(&**dialer, address, with_ping).await?;
    }
    say::begin();
    let began = Instant::now();
    let duration = options.duration;
    let times = all(dialers, |dialer| {
        let address = address.to_owned();
        async move {
            let mut times = Vec::new();
            while began.elapsed() < duration {
                times.push(connection(&*dialer, &address, with_ping).await?);
            }
            Ok(times)
        }
    })
    .await?;
    say::result(&operations(times, began.elapsed()));
    Ok(())
}

/// Nodes that have never heard of the listener.
async fn first_contact<S: Stack>(stack: &S, address: &str, options: &Options) -> Result<()> {
    let stranger = || async { stack.dialer(options, true).await };
    connection(&stranger().await?, address, true).await?;
    say::begin();
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < options.duration {
        times.push(connection(&stranger().await?, address, true).await?);
    }
    say::result(&operations(times, began.elapsed()));
    Ok(())
}

/// A node that has met the listener, and asks it something ahead of the handshake.
async fn early<S: Stack>(stack: &S, address: &str, options: &Options) -> Result<()> {
    let dialer = stack.dialer(options, false).await?;
    connection(&dialer, address, true).await?;
    ask(&dialer, address).await?;
    say::begin();
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < options.duration {
        times.push(ask(&dialer, address).await?);
    }
    say::result(&operations(times, began.elapsed()));
    Ok(())
}

/// Asks, and closes when the connection has said all that it has to say to somebody who will come back: a ticket, which is
/// there before the answer to a ping.
async fn ask<D: Dialer>(dialer: &D, address: &str) -> Result<Duration> {
    let began = Instant::now();
    let asking = async {
        let mut request = [64; REQUEST_SIZE]; // the first of them is the length
        let mut stream = dialer.ask(address, REQUEST, &request).await?;
        stream.read_exact(&mut request).await.map_err(failed("reading an answer"))?;
        let took = began.elapsed();
        stream.shutdown().await.map_err(failed("half-closing"))?;
        Ok((stream, took))
    };
    let (stream, took) = in_time("asking", asking).await?;
    let mut ping = in_time("opening", dialer.open(PING)).await?;
    round_trip(&mut ping).await?;
    drop((stream, ping));
    in_time("hanging up", dialer.hang_up()).await?;
    Ok(took)
}

/// Dials and closes. What it took does not count the close, but how many there are in a second does.
async fn connection<D: Dialer>(dialer: &D, address: &str, with_ping: bool) -> Result<Duration> {
    let began = Instant::now();
    in_time("dialing", dialer.dial(address)).await?;
    if with_ping {
        let mut stream = in_time("opening", dialer.open(PING)).await?;
        round_trip(&mut stream).await?;
    }
    let took = began.elapsed();
    in_time("hanging up", dialer.hang_up()).await?;
    Ok(took)
}

async fn requests<D: Dialer>(dialer: D, options: &Options, at_once: usize) -> Result<()> {
    let dialer = Arc::new(dialer);
    let warm_up = WARM_UP.min(options.duration);
    request_for(&dialer, at_once, warm_up).await?;
    say::begin();
    let began = Instant::now();
    let times = request_for(&dialer, at_once, options.duration).await?;
    say::result(&operations(times, began.elapsed()));
    Ok(())
}

async fn request_for<D: Dialer>(
    dialer: &Arc<D>,
    at_once: usize,
    duration: Duration,
) -> Result<Vec<Duration>> {
    let began = Instant::now();
    let dialers = std::iter::repeat_n(Arc::clone(dialer), at_once).collect();
    all(dialers, |dialer: Arc<D>| async move {
        let mut times = Vec::new();
        while began.elapsed() < duration {
            times.push(request(&*dialer).await?);
        }
        Ok(times)
    })
    .await
}

async fn request<D: Dialer>(dialer: &D) -> Result<Duration> {
    let began = Instant::now();
    let asking = async {
        let mut request = [64; REQUEST_SIZE]; // the first of them is the length
        let mut stream = dialer.open(REQUEST).await?;
        stream.write_all(&request).await.map_err(failed("writing a request"))?;
        stream.shutdown().await.map_err(failed("half-closing"))?;
        stream.read_exact(&mut request).await.map_err(failed("reading an answer"))?;
        // To the end, without which dropping the stream would reset it.
        match stream.read(&mut request).await.map_err(failed("reading to the end"))? {
            0 => Ok(()),
            _ => Err(Error::Failed("the answer is too long".to_owned())),
        }
    };
    in_time("a request", asking).await?;
    Ok(began.elapsed())
}

async fn idle<S: Stack>(stack: &S, address: &str, options: &Options) -> Result<Vec<S::Dialer>> {
    let mut held = Vec::new();
    hold(stack, address, options, FIRST_IDLE, &mut held).await?;
    sleep(SETTLE).await;
    say::begin();
    let began = Instant::now();
    hold(stack, address, options, options.connections, &mut held).await?;
    sleep(SETTLE).await;
    say::result(&json!({ "connections": options.connections, "seconds": began.elapsed().as_secs_f64() }));
    Ok(held)
}

/// Opens so many connections more, each by a node of its own.
pub(crate) async fn hold<S: Stack>(
    stack: &S,
    address: &str,
    options: &Options,
    count: usize,
    held: &mut Vec<S::Dialer>,
) -> Result<()> {
    let wanted = held.len().saturating_add(count);
    while held.len() < wanted {
        let mut dialers = Vec::new();
        for _ in 0..IDLE_AT_ONCE.min(wanted.saturating_sub(held.len())) {
            dialers.push(Arc::new(stack.dialer(options, true).await?));
        }
        let dialed = all(dialers.clone(), |dialer| {
            let address = address.to_owned();
            async move { in_time("dialing", dialer.dial(&address)).await.map(|()| Vec::<()>::new()) }
        });
        dialed.await?;
        held.extend(dialers.into_iter().filter_map(Arc::into_inner));
    }
    Ok(())
}

/// Does the same with each, at once, and puts together what comes of it.
async fn all<D, T, F>(each: Vec<Arc<D>>, doing: impl Fn(Arc<D>) -> F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<Vec<T>>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for one in each {
        tasks.spawn(doing(one));
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done.unwrap_or_else(|error| Err(Error::Failed(error.to_string())))?);
    }
    Ok(all)
}

/// How many there were in which time, and how long half of them and all but the hundredth took.
pub(crate) fn operations(mut times: Vec<Duration>, took: Duration) -> Value {
    times.sort_unstable();
    json!({
        "operations": times.len(),
        "seconds": took.as_secs_f64(),
        "p50_us": quantile(&times, 50),
        "p99_us": quantile(&times, 99),
    })
}

/// The time that so many of a hundred do not exceed, in microseconds; the next higher where it falls between two.
fn quantile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert!((quantile(&times, 50) - 100.0).abs() < 1e-6);
        assert!((quantile(&times, 99) - 198.0).abs() < 1e-6);
        assert!((quantile(&times[..1], 99) - 1.0).abs() < 1e-6);
        assert!(quantile(&[], 50).abs() < 1e-6);
    }
}
