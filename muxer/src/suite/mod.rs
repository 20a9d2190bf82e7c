//! What every yamux promises, whoever implements it: the tests of each implementation include this module. Two sides of
//! it over a pipe; `scripted` and `unread` have one end played by hand.

mod connection;
pub(super) mod scripted;
pub(super) mod unread;

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
};

use super::{Link, start_linked};
use crate::{
    Connection, ConnectionError, ErrorCode, Muxed, Stream, StreamError,
    yamux::{Config, Mode},
};

/// One side, its driver running.
pub(super) struct Side {
    pub(super) connection: Connection,
    pub(super) link: Arc<Link>,
    pub(super) driver: JoinHandle<Result<(), ConnectionError>>,
}

pub(super) fn side(io: DuplexStream, mode: Mode, config: Config) -> Side {
    let (Muxed { connection, driver }, link) = start_linked(io, mode, config);
    Side { connection, link, driver: tokio::spawn(driver) }
}

pub(super) fn pair_with(config: Config) -> (Side, Side) {
    let (a, b) = tokio::io::duplex(64 * 1024);
    (side(a, Mode::Client, config.clone()), side(b, Mode::Server, config))
}

pub(super) fn pair() -> (Side, Side) {
    pair_with(Config::default())
}

/// Opens on one side and accepts on the other; the opener speaks first, as streams are announced by their first byte.
pub(super) async fn stream_between(a: &Side, b: &Side) -> (Stream, Stream) {
    let mut ours = a.connection.open().await.unwrap();
    ours.write_all(b"?").await.unwrap();
    let mut theirs = b.connection.accept().await.unwrap();
    let mut first = [0; 1];
    theirs.read_exact(&mut first).await.unwrap();
    (ours, theirs)
}

pub(super) fn stream_error(error: &io::Error) -> StreamError {
    StreamError::of(error).unwrap_or_else(|| panic!("not ours: {error}")).clone()
}

pub(super) fn assert_reset(result: io::Result<usize>, code: ErrorCode) {
    let error = stream_error(&result.expect_err("reset"));
    assert!(matches!(error, StreamError::ResetByPeer(c) if c == code), "{error:?}");
}

pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

pub(super) async fn read_to_end(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.map(|_| all)
}

/// Polls both drivers until the peer has seen what was sent: a round trip on a stream of its own.
pub(super) async fn settle(a: &Side, b: &Side) {
    for (x, y) in [(a, b), (b, a), (a, b)] {
        let (mut ours, mut theirs) = stream_between(x, y).await;
        theirs.write_all(b"!").await.unwrap();
        theirs.close_write().await.unwrap();
        ours.close_write().await.unwrap();
        assert_eq!(read_to_end(&mut ours).await.unwrap(), b"!");
        assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"");
    }
}

#[tokio::test]
async fn echo_in_both_directions() {
    let (a, b) = pair();
    for (x, y) in [(&a, &b), (&b, &a)] {
        let (mut ours, mut theirs) = stream_between(x, y).await;
        ours.write_all(b"hello").await.unwrap();
        let mut buf = [0; 5];
        theirs.read_exact(&mut buf).await.unwrap();
        theirs.write_all(&buf).await.unwrap();
        ours.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"hello");
    }
}

#[tokio::test]
async fn large_payloads_with_half_close() {
    let (a, b) = pair();
    for len in [0, 1, 64 * 1024, 4 * 1024 * 1024] {
        let mut ours = a.connection.open().await.unwrap();
        let connection = b.connection.clone();
        let echo = tokio::spawn(async move {
            let mut theirs = connection.accept().await.unwrap();
            let all = read_to_end(&mut theirs).await.unwrap();
            theirs.write_all(&all).await.unwrap();
            theirs.close_write().await.unwrap();
        });
        let data = pattern(len);
        ours.write_all(&data).await.unwrap();
        ours.close_write().await.unwrap();
        assert!(read_to_end(&mut ours).await.unwrap() == data, "{len}");
        echo.await.unwrap();
    }
}

#[tokio::test]
async fn a_reset_is_an_error_and_carries_its_code() {
    let (a, b) = pair();
    for (x, y) in [(&a, &b), (&b, &a)] {
        for code in [ErrorCode::NONE, ErrorCode::RATE_LIMITED, ErrorCode(7), ErrorCode(u32::MAX)] {
            let (ours, mut theirs) = stream_between(x, y).await;
            ours.reset(code);
            assert_reset(theirs.read(&mut [0; 8]).await, code);
            assert_reset(theirs.write(b"x").await, code);
            // And stays one.
            assert_reset(theirs.read(&mut [0; 8]).await, code);
            assert_reset(theirs.shutdown().await.map(|()| 0), code);
            assert_reset(theirs.flush().await.map(|()| 0), code);
        }
    }
}

/// And not one that closed well.
#[tokio::test]
async fn closing_a_stream_that_was_reset_is_an_error() {
    let (a, b) = pair();
    let (ours, mut theirs) = stream_between(&a, &b).await;
    ours.reset(ErrorCode::RATE_LIMITED);
    settle(&a, &b).await;
    assert_reset(theirs.close_write().await.map(|()| 0), ErrorCode::RATE_LIMITED);
}

#[tokio::test]
async fn the_accepting_side_resets_as_well() {
    let (a, b) = pair();
    let (mut ours, theirs) = stream_between(&a, &b).await;
    theirs.reset(ErrorCode::GATED);
    assert_reset(ours.read(&mut [0; 8]).await, ErrorCode::GATED);
    assert_reset(ours.write(b"x").await, ErrorCode::GATED);
}

#[tokio::test]
async fn a_dropped_stream_is_reset() {
    let (a, b) = pair();
    let (mut ours, theirs) = stream_between(&a, &b).await;
    ours.write_all(b"half").await.unwrap();
    drop(ours);
    let mut theirs = theirs;
    let mut buf = [0; 16];
    assert_eq!(theirs.read(&mut buf).await.unwrap(), 4, "what came before is still read");
    assert_reset(theirs.read(&mut buf).await, ErrorCode::NONE);
}

/// A polite FIN here would make half an answer look whole.
#[tokio::test]
async fn an_answer_dropped_half_way_after_the_request_ended_is_a_reset() {
    let (a, b) = pair();
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    ours.close_write().await.unwrap();
    assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"");
    theirs.write_all(b"half an ans").await.unwrap();
    drop(theirs);
    let mut answer = Vec::new();
    let error = ours.read_to_end(&mut answer).await.expect_err("not the end");
    assert!(matches!(stream_error(&error), StreamError::ResetByPeer(ErrorCode::NONE)));
    assert_eq!(answer, b"half an ans");
}

#[tokio::test]
async fn after_the_peer_closed_its_half_a_reset_fails_only_writes() {
    let (a, b) = pair();
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    theirs.write_all(b"whole answer").await.unwrap();
    theirs.close_write().await.unwrap();
    settle(&a, &b).await;
    theirs.reset(ErrorCode::SHUTDOWN);
    settle(&a, &b).await;
    assert_reset(ours.write(b"x").await, ErrorCode::SHUTDOWN);
    assert_eq!(read_to_end(&mut ours).await.unwrap(), b"whole answer");
}

#[tokio::test]
async fn a_reset_reaches_a_peer_that_still_writes() {
    let (a, b) = pair();
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    ours.close_write().await.unwrap();
    // No longer interested in the answer.
    ours.reset(ErrorCode::GARBAGE_COLLECTED);
    let error = loop {
        if let Err(error) = theirs.write(&[0; 1000]).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert_reset(Err(error), ErrorCode::GARBAGE_COLLECTED);
    // The request itself was whole, if it was flushed before the reset, or was cut off by it.
    let _ = read_to_end(&mut theirs).await;
}

#[tokio::test]
async fn close_write_and_drop_is_a_clean_end() {
    let (a, b) = pair();
    for (x, y) in [(&a, &b), (&b, &a)] {
        let (mut ours, mut theirs) = stream_between(x, y).await;
        ours.write_all(b"message").await.unwrap();
        ours.close_write().await.unwrap();
        drop(ours);
        assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"message");
        // A small answer to somebody who has gone is no error either.
        theirs.write_all(b"thanks").await.unwrap();
        theirs.close_write().await.unwrap();
    }
}

#[tokio::test]
async fn writing_to_a_stream_that_nobody_reads_any_more_fails_instead_of_hanging() {
    let (a, b) = pair();
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    ours.close_write().await.unwrap();
    drop(ours);
    assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"");
    let error = theirs.write_all(&pattern(1024 * 1024)).await.expect_err("nobody gives credit");
    assert_reset(Err(error), ErrorCode::NONE);
    settle(&a, &b).await;
    assert!(!a.link.anyone_lingers());
}

#[tokio::test]
async fn after_closing_its_writing_half_a_stream_still_reads() {
    let (a, b) = pair();
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    ours.close_write().await.unwrap();
    let error = ours.write(b"x").await.expect_err("closed");
    assert!(matches!(stream_error(&error), StreamError::WriteClosed));
    ours.close_write().await.expect("again is fine");
    theirs.write_all(b"later").await.unwrap();
    drop(theirs);
    let mut buf = [0; 5];
    ours.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"later");
}

/// Else who opens and waits for the other to speak waits for ever.
#[tokio::test]
async fn a_stream_is_announced_by_reading_and_by_closing() {
    let (a, b) = pair();
    let mut reads = a.connection.open().await.unwrap();
    let accepting = b.connection.clone();
    let speaks_first = tokio::spawn(async move {
        let mut stream = accepting.accept().await.unwrap();
        stream.write_all(b"first").await.unwrap();
        stream.close_write().await.unwrap();
        stream
    });
    assert_eq!(read_to_end(&mut reads).await.unwrap(), b"first");
    let mut theirs = speaks_first.await.unwrap();
    // It was announced once only.
    reads.write_all(b"second").await.unwrap();
    reads.close_write().await.unwrap();
    assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"second");

    let mut closes = a.connection.open().await.unwrap();
    closes.close_write().await.unwrap();
    let mut theirs = b.connection.accept().await.unwrap();
    assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"");
    theirs.write_all(b"yes").await.unwrap();
    theirs.close_write().await.unwrap();
    assert_eq!(read_to_end(&mut closes).await.unwrap(), b"yes");

    // And one that nothing was done with is no business of the peer's.
    drop(a.connection.open().await.unwrap());
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    theirs.write_all(b"z").await.unwrap();
    ours.read_exact(&mut [0; 1]).await.unwrap();
    assert_eq!(b.link.inbound(), 3, "nobody told the peer of the idle one");
}
