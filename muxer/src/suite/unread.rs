//! Peers that do not read, and streams that end while nothing can be written.

use std::time::Duration;

use futures::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::Instant,
};

use super::{Side, assert_reset, pattern, side, stream_error};
use crate::{
    ConnectionError, ErrorCode, StreamError,
    yamux::{
        Config, MAX_STREAMS, Mode, WRITE_TIMEOUT,
        frame::{DATA, HEADER, Header, RST, SYN},
    },
};

fn frame(flags: u16, stream: u32, length: u32) -> Header {
    Header { version: 0, kind: DATA, flags, stream, length }
}

pub(in super::super) async fn turns() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// One of ours, and the other end of its pipe.
pub(in super::super) fn against(mode: Mode, pipe: usize, config: Config) -> (DuplexStream, Side) {
    let (wire, io) = tokio::io::duplex(pipe);
    (wire, side(io, mode, config))
}

/// A server whose way out is full: it writes to stream 1, and the peer does not read.
pub(in super::super) async fn blocked(config: Config) -> (DuplexStream, Side) {
    let (mut wire, ours) = against(Mode::Server, 4096, config);
    wire.write_all(&frame(SYN, 1, 0).encode()).await.unwrap();
    let mut stream = ours.connection.accept().await.unwrap();
    tokio::spawn(async move {
        let _ = stream.write_all(&pattern(300_000)).await;
        std::future::pending::<()>().await;
    });
    turns().await;
    (wire, ours)
}

#[tokio::test(start_paused = true)]
async fn an_open_that_waits_for_acknowledgements_goes_on_when_streams_are_dropped() {
    let (mut wire, ours) = against(Mode::Client, 1024 * 1024, Config::default());
    tokio::spawn(async move { while wire.read(&mut [0; 65536]).await.unwrap() > 0 {} });
    let mut held = Vec::new();
    for _ in 0..256 {
        let mut stream = ours.connection.open().await.unwrap();
        stream.write_all(b"x").await.unwrap();
        held.push(stream);
    }
    let connection = ours.connection.clone();
    let opening = tokio::spawn(async move {
        let mut stream = connection.open().await.unwrap();
        // The driver hears of it.
        stream.write_all(&pattern(200_000)).await.unwrap();
    });
    turns().await;
    assert!(!opening.is_finished());
    drop(held);
    tokio::time::timeout(Duration::from_secs(3600), opening).await.expect("it goes on").unwrap();
}

#[tokio::test]
async fn flushing_fails_when_the_connection_is_gone() {
    let (_wire, ours) = against(Mode::Client, 64, Config::default());
    let mut stream = ours.connection.open().await.unwrap();
    ours.driver.abort();
    let _ = ours.driver.await;
    let error = stream_error(&stream.flush().await.expect_err("gone"));
    assert!(matches!(error, StreamError::Connection(ConnectionError::DriverGone)), "{error:?}");
}

#[tokio::test]
async fn flushing_fails_when_the_stream_was_reset() {
    let (mut wire, ours) = against(Mode::Server, 1024, Config::default());
    wire.write_all(&frame(SYN, 1, 0).encode()).await.unwrap();
    let mut stream = ours.connection.accept().await.unwrap();
    wire.write_all(&frame(RST, 1, 0).encode()).await.unwrap();
    turns().await;
    assert_reset(stream.flush().await.map(|()| 0), ErrorCode::NONE);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_over_is_not_announced_again() {
    let (mut wire, ours) = against(Mode::Client, 4096, Config::default());
    let mut stream = ours.connection.open().await.unwrap();
    assert!(stream.read(&mut [0; 1]).now_or_never().is_none());
    let mut other = ours.connection.open().await.unwrap();
    turns().await;
    let blocks = tokio::spawn(async move {
        let _ = other.write_all(&pattern(200_000)).await;
        std::future::pending::<()>().await;
    });
    turns().await;
    stream.write_all(b"late").await.unwrap();
    wire.write_all(&frame(RST, 1, 0).encode()).await.unwrap();
    turns().await;
    drop(stream);
    let mut seen = Vec::new();
    loop {
        let mut bytes = [0; HEADER];
        match tokio::time::timeout(Duration::from_secs(1), wire.read_exact(&mut bytes)).await {
            Ok(read) => read.unwrap(),
            Err(_) => break,
        };
        let header = Header::parse(bytes);
        wire.read_exact(&mut vec![0; header.body() as usize]).await.unwrap();
        if header.stream == 1 {
            seen.push(header);
        }
    }
    assert_eq!(seen, [Header::syn(1)]);
    blocks.abort();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_given_up_after_the_timeout() {
    let begin = Instant::now();
    let (_wire, ours) = blocked(Config::default()).await;
    tokio::time::sleep_until(begin + WRITE_TIMEOUT - Duration::from_millis(1)).await;
    turns().await;
    assert!(!ours.driver.is_finished());
    let end = ours.driver.await.unwrap().expect_err("given up");
    assert!(matches!(end, ConnectionError::Stalled), "{end:?}");
    assert!(begin.elapsed() <= WRITE_TIMEOUT + Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_is_not_given_up() {
    // It says nothing either, which is not what is tried here.
    let config = Config { keepalive_interval: Duration::from_secs(3600), ..Config::default() };
    let (mut wire, ours) = blocked(config).await;
    for _ in 0..10 {
        tokio::time::sleep(WRITE_TIMEOUT - Duration::from_millis(2)).await;
        wire.read_exact(&mut [0; 100]).await.unwrap();
        turns().await;
    }
    assert!(!ours.driver.is_finished());
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_longer_for_a_peer_that_reads_nothing() {
    let (_wire, ours) = blocked(Config::default()).await;
    ours.connection.close(ErrorCode::SHUTDOWN);
    let end = tokio::time::timeout(2 * WRITE_TIMEOUT, ours.driver).await.expect("it ends");
    assert!(end.unwrap().is_ok());
}

#[tokio::test]
async fn any_number_in_the_limits_is_taken() {
    for number in [0, MAX_STREAMS, usize::MAX] {
        let config = Config {
            max_inbound_streams: number,
            max_outbound_streams: number,
            accept_backlog: number,
            window_growth: u32::MAX,
            ..Config::default()
        };
        let (_wire, _ours) = against(Mode::Client, 64, config);
    }
}

#[test]
fn the_codes_of_a_peers_farewell_have_names() {
    for (code, text) in [(0, "no code"), (1, "protocol error"), (2, "internal error"), (0x1006, "shutdown")] {
        assert!(ConnectionError::ClosedByPeer(ErrorCode(code)).to_string().contains(text));
    }
}
