//! What every muxer promises, as tests that [`conformance!`](crate::conformance) makes of a [`Muxer`]. For the tests of this
//! crate, and of the transports that multiplex by themselves (feature `testing`).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "these are tests"
)]

use std::{future::Future, io};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
};

use crate::{Connection, ConnectionError, Driver, ErrorCode, Stream, StreamError};

/// One side of a connection, its driver running, and whatever else its tests look at.
#[derive(Debug)]
pub struct Side<L = ()> {
    pub connection: Connection,
    pub link: L,
    pub driver: JoinHandle<Result<(), ConnectionError>>,
}

impl<L> Side<L> {
    /// Runs the driver.
    pub fn new(connection: Connection, driver: Driver, link: L) -> Self {
        Self { connection, link, driver: tokio::spawn(driver) }
    }
}

/// What is tested.
pub trait Muxer {
    /// What a side has beside its connection.
    type Link;

    /// Whether what was sent before a reset is read before it.
    const RESETS_KEEP_DATA: bool = true;

    /// Whether a writer hears at once that its stream was dropped on the other side, which had closed its half before.
    const TELLS_THAT_NOBODY_READS: bool = false;

    /// Whether the code of a goodbye reaches the peer.
    const CARRIES_GOODBYES: bool = true;

    /// Two sides of one connection.
    fn pair() -> impl Future<Output = (Side<Self::Link>, Side<Self::Link>)>;
}

/// Opens on one side and accepts on the other; the opener speaks first, as streams are announced by their first byte.
pub async fn stream_between<L>(a: &Side<L>, b: &Side<L>) -> (Stream, Stream) {
    let mut ours = a.connection.open().await.unwrap();
    ours.write_all(b"?").await.unwrap();
    let mut theirs = b.connection.accept().await.unwrap();
    let mut first = [0; 1];
    theirs.read_exact(&mut first).await.unwrap();
    (ours, theirs)
}

pub fn stream_error(error: &io::Error) -> StreamError {
    StreamError::of(error).unwrap_or_else(|| panic!("not ours: {error}")).clone()
}

pub fn assert_reset(result: io::Result<usize>, code: ErrorCode) {
    let error = stream_error(&result.expect_err("reset"));
    assert!(matches!(error, StreamError::ResetByPeer(c) if c == code), "{error:?}");
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

pub async fn read_to_end(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.map(|_| all)
}

/// Polls both drivers until the peer has seen what was sent: a round trip on a stream of its own.
pub async fn settle<L>(a: &Side<L>, b: &Side<L>) {
    for (x, y) in [(a, b), (b, a), (a, b)] {
        let (mut ours, mut theirs) = stream_between(x, y).await;
        theirs.write_all(b"!").await.unwrap();
        theirs.close_write().await.unwrap();
        ours.close_write().await.unwrap();
        assert_eq!(read_to_end(&mut ours).await.unwrap(), b"!");
        assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"");
    }
}

pub async fn echo_in_both_directions<M: Muxer>() {
    let (a, b) = M::pair().await;
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

pub async fn large_payloads_with_half_close<M: Muxer>() {
    let (a, b) = M::pair().await;
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

pub async fn a_reset_is_an_error_and_carries_its_code<M: Muxer>() {
    let (a, b) = M::pair().await;
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
pub async fn closing_a_stream_that_was_reset_is_an_error<M: Muxer>() {
    let (a, b) = M::pair().await;
    let (ours, mut theirs) = stream_between(&a, &b).await;
    ours.reset(ErrorCode::RATE_LIMITED);
    settle(&a, &b).await;
    assert_reset(theirs.close_write().await.map(|()| 0), ErrorCode::RATE_LIMITED);
}

pub async fn the_accepting_side_resets_as_well<M: Muxer>() {
    let (a, b) = M::pair().await;
    let (mut ours, theirs) = stream_between(&a, &b).await;
    theirs.reset(ErrorCode::GATED);
    assert_reset(ours.read(&mut [0; 8]).await, ErrorCode::GATED);
    assert_reset(ours.write(b"x").await, ErrorCode::GATED);
}

pub async fn a_dropped_stream_is_reset<M: Muxer>() {
    let (a, b) = M::pair().await;
    let (mut ours, theirs) = stream_between(&a, &b).await;
    ours.write_all(b"half").await.unwrap();
    drop(ours);
    let mut theirs = theirs;
    let mut read = Vec::new();
    let error = theirs.read_to_end(&mut read).await.expect_err("not the end");
    assert_reset(Err(error), ErrorCode::NONE);
    assert!(b"half".starts_with(&read));
    assert!(read.len() == 4 || !M::RESETS_KEEP_DATA, "what came before is still read");
}

/// A polite FIN here would make half an answer look whole.
pub async fn an_answer_dropped_half_way_after_the_request_ended_is_a_reset<M: Muxer>() {
    let (a, b) = M::pair().await;
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    ours.close_write().await.unwrap();
    assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"");
    theirs.write_all(b"half an ans").await.unwrap();
    drop(theirs);
    let mut answer = Vec::new();
    let error = ours.read_to_end(&mut answer).await.expect_err("not the end");
    assert!(matches!(stream_error(&error), StreamError::ResetByPeer(ErrorCode::NONE)));
    assert!(b"half an ans".starts_with(&answer));
    assert!(answer.len() == 11 || !M::RESETS_KEEP_DATA, "what came before is still read");
}

pub async fn after_the_peer_closed_its_half_a_reset_fails_only_writes<M: Muxer>() {
    let (a, b) = M::pair().await;
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    theirs.write_all(b"whole answer").await.unwrap();
    theirs.close_write().await.unwrap();
    settle(&a, &b).await;
    theirs.reset(ErrorCode::SHUTDOWN);
    settle(&a, &b).await;
    assert_reset(ours.write(b"x").await, ErrorCode::SHUTDOWN);
    assert_eq!(read_to_end(&mut ours).await.unwrap(), b"whole answer");
}

pub async fn a_reset_reaches_a_peer_that_still_writes<M: Muxer>() {
    let (a, b) = M::pair().await;
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

pub async fn close_write_and_drop_is_a_clean_end<M: Muxer>() {
    let (a, b) = M::pair().await;
    for (x, y) in [(&a, &b), (&b, &a)] {
        let (mut ours, mut theirs) = stream_between(x, y).await;
        ours.write_all(b"message").await.unwrap();
        ours.close_write().await.unwrap();
        drop(ours);
        assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"message");
        // A small answer to somebody who has gone is no error either, unless the muxer tells.
        if !M::TELLS_THAT_NOBODY_READS {
            theirs.write_all(b"thanks").await.unwrap();
            theirs.close_write().await.unwrap();
        }
    }
}

pub async fn after_closing_its_writing_half_a_stream_still_reads<M: Muxer>() {
    let (a, b) = M::pair().await;
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    ours.close_write().await.unwrap();
    let error = ours.write(b"x").await.expect_err("closed");
    assert!(matches!(stream_error(&error), StreamError::WriteClosed));
    ours.close_write().await.expect("again is fine");
    theirs.write_all(b"later").await.unwrap();
    let mut buf = [0; 5];
    ours.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"later");
}

pub async fn many_streams_at_once_in_both_directions<M: Muxer>() {
    let (a, b) = M::pair().await;
    let mut tasks = Vec::new();
    for (x, y) in [(&a, &b), (&b, &a)] {
        for _ in 0..100 {
            let (opener, accepter) = (x.connection.clone(), y.connection.clone());
            tasks.push(tokio::spawn(async move {
                let mut stream = opener.open().await.unwrap();
                stream.write_all(&pattern(50_000)).await.unwrap();
                stream.close_write().await.unwrap();
                assert!(read_to_end(&mut stream).await.unwrap() == pattern(50_000));
            }));
            tasks.push(tokio::spawn(async move {
                let mut stream = accepter.accept().await.unwrap();
                let (mut read, mut write) = tokio::io::split(&mut stream);
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                stream.close_write().await.unwrap();
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
}

pub async fn close_tells_the_peer_and_ends_both_drivers<M: Muxer>() {
    let (a, b) = M::pair().await;
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    theirs.write_all(b"unread").await.unwrap();
    ours.write_all(b"last words").await.unwrap();
    a.connection.close(ErrorCode::SHUTDOWN);
    a.connection.close(ErrorCode::GATED);
    assert!(a.driver.await.unwrap().is_ok());
    let code = if M::CARRIES_GOODBYES { ErrorCode::SHUTDOWN } else { ErrorCode::NONE };
    let end = b.driver.await.unwrap().expect_err("the peer closed");
    assert!(matches!(end, ConnectionError::ClosedByPeer(heard) if heard == code), "{end:?}");

    let mut buf = [0; 10];
    theirs.read_exact(&mut buf).await.expect("what was written before the end is delivered");
    let error = stream_error(&theirs.read(&mut buf).await.expect_err("no end of file"));
    assert!(
        matches!(error, StreamError::Connection(ConnectionError::ClosedByPeer(heard)) if heard == code),
        "{error:?}"
    );
    let error = stream_error(&ours.write(b"x").await.expect_err("closed"));
    assert!(matches!(error, StreamError::Connection(ConnectionError::Closed)), "{error:?}");
    assert!(matches!(a.connection.open().await, Err(ConnectionError::Closed)));
    assert!(matches!(a.connection.accept().await, Err(ConnectionError::Closed)));
    assert!(matches!(b.connection.open().await, Err(ConnectionError::ClosedByPeer(_))));
}

/// Much more than a window, so that the end of the writing has to wait for the peer's reading.
pub async fn a_connection_that_is_closed_still_delivers_what_was_ended<M: Muxer>() {
    for held in [true, false] {
        let (a, b) = M::pair().await;
        let (mut ours, mut theirs) = stream_between(&a, &b).await;
        let data = pattern(1024 * 1024);
        let reads = tokio::spawn(async move { read_to_end(&mut theirs).await });
        ours.write_all(&data).await.unwrap();
        ours.close_write().await.unwrap();
        let _held = held.then_some(ours);
        a.connection.close(ErrorCode::SHUTDOWN);
        assert!(reads.await.unwrap().expect("whole, with its end") == data);
        assert!(a.driver.await.unwrap().is_ok());
    }
}

pub async fn a_dropped_driver_ends_everything_that_waits<M: Muxer>() {
    let (a, b) = M::pair().await;
    let (mut reader, _theirs) = stream_between(&a, &b).await;
    let (mut writer, _not_reading) = stream_between(&a, &b).await;
    let (x, y) = (a.connection.clone(), a.connection.clone());
    let accept = tokio::spawn(async move { x.accept().await.map(drop) });
    let read = tokio::spawn(async move { reader.read(&mut [0; 1]).await });
    let write = tokio::spawn(async move { writer.write_all(&pattern(4 * 1024 * 1024)).await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!accept.is_finished() && !read.is_finished() && !write.is_finished());
    a.driver.abort();
    assert!(matches!(accept.await.unwrap(), Err(ConnectionError::DriverGone)));
    let error = stream_error(&read.await.unwrap().expect_err("no end of file"));
    assert!(matches!(error, StreamError::Connection(ConnectionError::DriverGone)), "{error:?}");
    let error = stream_error(&write.await.unwrap().expect_err("gone"));
    assert!(matches!(error, StreamError::Connection(ConnectionError::DriverGone)), "{error:?}");
    assert!(matches!(y.open().await, Err(ConnectionError::DriverGone)));
    // The other side's socket came to its end.
    let end = b.driver.await.unwrap().expect_err("ended");
    assert!(
        matches!(end, ConnectionError::ClosedByPeer(ErrorCode::NONE) | ConnectionError::Io(_)),
        "{end:?}"
    );
}

/// What nobody will read is not written for ever.
pub async fn writing_to_a_stream_that_nobody_reads_any_more_fails_instead_of_hanging<M: Muxer>() {
    let (a, b) = M::pair().await;
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    ours.close_write().await.unwrap();
    drop(ours);
    assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"");
    let error = theirs.write_all(&pattern(1024 * 1024)).await.expect_err("nobody gives credit");
    assert_reset(Err(error), ErrorCode::NONE);
}

/// Else who opens and waits for the other to speak waits for ever.
pub async fn a_stream_is_announced_by_reading_and_by_closing<M: Muxer>() {
    let (a, b) = M::pair().await;
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
}

/// Makes a test of everything that [`testing`](crate::testing) promises of a muxer.
#[macro_export]
macro_rules! conformance {
    ($muxer:ty) => {
        $crate::conformance! { $muxer:
            echo_in_both_directions,
            large_payloads_with_half_close,
            a_reset_is_an_error_and_carries_its_code,
            closing_a_stream_that_was_reset_is_an_error,
            the_accepting_side_resets_as_well,
            a_dropped_stream_is_reset,
            an_answer_dropped_half_way_after_the_request_ended_is_a_reset,
            after_the_peer_closed_its_half_a_reset_fails_only_writes,
            a_reset_reaches_a_peer_that_still_writes,
            close_write_and_drop_is_a_clean_end,
            after_closing_its_writing_half_a_stream_still_reads,
            many_streams_at_once_in_both_directions,
            close_tells_the_peer_and_ends_both_drivers,
            a_connection_that_is_closed_still_delivers_what_was_ended,
            a_dropped_driver_ends_everything_that_waits,
            writing_to_a_stream_that_nobody_reads_any_more_fails_instead_of_hanging,
            a_stream_is_announced_by_reading_and_by_closing
        }
    };
    ($muxer:ty: $($name:ident),*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::testing::$name::<$muxer>().await;
            }
        )*
    };
}
