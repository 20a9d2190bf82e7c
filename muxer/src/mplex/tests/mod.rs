//! The engine by itself, and two of ours over a pipe; `scripted` has one end played by hand.

mod model;
mod scripted;

use std::{io, sync::Arc, time::Duration};

use peerage_core::budget::Budget;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
};

use super::{Config, handle::Shared, start_shared};
use crate::{Connection, ConnectionError, ErrorCode, Muxed, Outflow, Stream, StreamError};

/// One side, its driver running.
struct Side {
    connection: Connection,
    shared: Arc<Shared>,
    driver: JoinHandle<Result<(), ConnectionError>>,
}

fn side(io: DuplexStream, config: Config, budget: Budget) -> Side {
    let outflow = Outflow::default();
    let watched = outflow.watch(io);
    let (Muxed { connection, driver }, shared) = start_shared(watched, outflow, config, budget);
    Side { connection, shared, driver: tokio::spawn(driver) }
}

fn pair() -> (Side, Side) {
    let (a, b) = tokio::io::duplex(64 * 1024);
    let start = |io| side(io, Config::default(), Budget::unlimited());
    (start(a), start(b))
}

async fn stream_between(a: &Side, b: &Side) -> (Stream, Stream) {
    let ours = a.connection.open().await.unwrap();
    let theirs = b.connection.accept().await.unwrap();
    (ours, theirs)
}

fn stream_error(error: &io::Error) -> StreamError {
    StreamError::of(error).unwrap_or_else(|| panic!("not ours: {error}")).clone()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

async fn read_to_end(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.map(|_| all)
}

#[tokio::test]
async fn echo_in_both_directions_on_the_same_id() {
    let (a, b) = pair();
    let pairs = [stream_between(&a, &b).await, stream_between(&b, &a).await];
    let sent = pattern(3 * 1024 * 1024);
    let echoes = pairs.map(|(mut ours, mut theirs)| {
        let sent = sent.clone();
        async move {
            let echo = async {
                let all = read_to_end(&mut theirs).await.unwrap();
                theirs.write_all(&all).await.unwrap();
                theirs.close_write().await.unwrap();
            };
            let ask = async {
                ours.write_all(&sent).await.unwrap();
                ours.close_write().await.unwrap();
                assert!(read_to_end(&mut ours).await.unwrap() == sent);
            };
            tokio::join!(echo, ask);
        }
    });
    for echo in echoes {
        echo.await;
    }
    assert_eq!(a.shared.probe(|engine| (engine.entries(), engine.unread(), engine.live())), (0, 0, (0, 0)));
}

#[tokio::test]
async fn a_half_that_is_closed_leaves_the_other_open() {
    let (a, b) = pair();
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    ours.close_write().await.unwrap();
    assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"");
    assert!(matches!(stream_error(&ours.write(b"x").await.unwrap_err()), StreamError::WriteClosed));
    theirs.write_all(b"answer").await.unwrap();
    theirs.close_write().await.unwrap();
    assert_eq!(read_to_end(&mut ours).await.unwrap(), b"answer");
}

#[tokio::test]
async fn a_reset_is_an_error_after_what_came_before_it() {
    let (a, b) = pair();
    for (x, y) in [(&a, &b), (&b, &a)] {
        let (mut ours, mut theirs) = stream_between(x, y).await;
        ours.write_all(b"half").await.unwrap();
        let mut half = [0; 4];
        theirs.read_exact(&mut half).await.unwrap();
        ours.reset(ErrorCode::SHUTDOWN);
        let error = stream_error(&theirs.read(&mut half).await.unwrap_err());
        // mplex carries no code.
        assert!(matches!(error, StreamError::ResetByPeer(ErrorCode::NONE)), "{error:?}");
        assert!(theirs.write(b"x").await.is_err());
    }
}

#[tokio::test]
async fn closing_sends_what_was_written() {
    let (a, b) = pair();
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    ours.write_all(b"last words").await.unwrap();
    ours.close_write().await.unwrap();
    a.connection.close(ErrorCode::NONE);
    assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"last words");
    assert!(a.driver.await.unwrap().is_ok());
    assert!(matches!(b.driver.await.unwrap(), Err(ConnectionError::ClosedByPeer(_))));
    assert!(matches!(a.connection.open().await, Err(ConnectionError::Closed)));
    assert!(matches!(b.connection.accept().await, Err(ConnectionError::ClosedByPeer(_))));
    assert!(ours.write(b"x").await.is_err());
}

#[tokio::test]
async fn dropping_the_driver_ends_everything() {
    let (a, b) = pair();
    let (mut ours, _theirs) = stream_between(&a, &b).await;
    a.driver.abort();
    assert!(read_to_end(&mut ours).await.is_err());
    assert!(matches!(a.connection.accept().await, Err(ConnectionError::DriverGone)));
}

/// The slow one loses its stream; the others wait for that long, and no longer.
#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_is_reset_in_five_seconds() {
    let (a, b) = pair();
    let (mut slow, mut unread) = stream_between(&a, &b).await;
    let (mut other, mut read) = stream_between(&a, &b).await;
    let start = tokio::time::Instant::now();
    let flood = tokio::spawn(async move { slow.write_all(&pattern(8 * 1024 * 1024)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    other.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    read.read_exact(&mut hello).await.unwrap();
    assert!((4..=6).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(matches!(stream_error(&flood.await.unwrap().unwrap_err()), StreamError::ResetByPeer(_)));
    let error = stream_error(&unread.read(&mut hello).await.unwrap_err());
    assert!(matches!(error, StreamError::ResetLocally(ErrorCode::RESOURCE_LIMIT_EXCEEDED)), "{error:?}");
    assert_eq!(b.shared.probe(|engine| engine.unread()), 0);
}

#[tokio::test(start_paused = true)]
async fn memory_is_asked_for_and_given_back() {
    let (a, b) = tokio::io::duplex(64 * 1024);
    let budget = Budget::limited(64 * 1024);
    let a = side(a, Config::default(), Budget::unlimited());
    let b = side(b, Config::default(), budget.clone());
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    let write = tokio::spawn(async move {
        ours.write_all(&pattern(1 << 20)).await?;
        ours.close_write().await
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    // All is taken and nothing was thrown away: it goes on when there is room.
    assert!(budget.reserve(32 * 1024).is_err());
    assert!(read_to_end(&mut theirs).await.unwrap() == pattern(1 << 20));
    write.await.unwrap().unwrap();
    drop(theirs);
    a.connection.close(ErrorCode::NONE);
    let _ = b.driver.await;
    drop((b.connection, b.shared));
    assert!(budget.reserve(64 * 1024).is_ok());
}
