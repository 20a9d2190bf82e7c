//! Connections: their limits, and their ends.

use futures::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    super::start_linked, assert_reset, pair, pair_with, pattern, read_to_end, settle, stream_between,
    stream_error,
};
use crate::{
    ConnectionError, ErrorCode, Muxed, Stream, StreamError,
    yamux::{Config, Mode},
};

#[tokio::test]
async fn a_thousand_streams_leave_nothing_behind() {
    let (a, b) = pair();
    for i in 0..1200 {
        let (mut ours, mut theirs) = stream_between(&a, &b).await;
        match i % 6 {
            0 => drop((ours, theirs)),
            1 => ours.reset(ErrorCode::RATE_LIMITED),
            2 => theirs.reset(ErrorCode::NONE),
            3 => {
                ours.close_write().await.unwrap();
                theirs.close_write().await.unwrap();
            }
            4 => {
                ours.close_write().await.unwrap();
                ours.reset(ErrorCode::SHUTDOWN);
                drop(theirs);
            }
            _ => {
                // Both close, both read to the end.
                ours.close_write().await.unwrap();
                read_to_end(&mut theirs).await.unwrap();
                theirs.close_write().await.unwrap();
                read_to_end(&mut ours).await.unwrap();
            }
        }
    }
    settle(&a, &b).await;
    for side in [&a, &b] {
        assert_eq!((side.link.inbound(), side.link.outbound()), (0, 0));
        assert!(side.link.entries() <= 2, "{}", side.link.entries());
        assert!(!side.link.anyone_lingers());
    }
}

#[tokio::test]
async fn a_driver_that_was_never_polled_ends_everything_too() {
    let (io, _other) = tokio::io::duplex(1024);
    let (Muxed { connection, driver }, _) = start_linked(io, Mode::Client, Config::default());
    let opening = tokio::spawn({
        let connection = connection.clone();
        async move { connection.open().await }
    });
    tokio::task::yield_now().await;
    drop(driver);
    match opening.await.unwrap() {
        Err(error) => assert!(matches!(error, ConnectionError::DriverGone), "{error:?}"),
        // Opening need not involve the driver.
        Ok(mut stream) => {
            let error = stream_error(&stream.write(b"x").await.expect_err("gone"));
            assert!(matches!(error, StreamError::Connection(ConnectionError::DriverGone)), "{error:?}");
        }
    }
    assert!(matches!(connection.accept().await, Err(ConnectionError::DriverGone)));
}

#[tokio::test]
async fn the_accept_queue_takes_its_number_and_refuses_one_more() {
    let (a, b) = pair_with(Config { accept_backlog: 4, ..Config::default() });
    let mut streams = Vec::new();
    for i in 0..5u8 {
        let mut stream = a.connection.open().await.unwrap();
        stream.write_all(&[i]).await.unwrap();
        streams.push(stream);
    }
    assert_reset(streams[4].read(&mut [0; 1]).await, ErrorCode::RESOURCE_LIMIT_EXCEEDED);
    for i in 0..4u8 {
        let mut theirs = b.connection.accept().await.unwrap();
        let mut buf = [0; 1];
        theirs.read_exact(&mut buf).await.unwrap();
        assert_eq!(buf, [i]);
        theirs.write_all(&buf).await.unwrap();
        streams[usize::from(i)].read_exact(&mut buf).await.unwrap();
    }
    // The connection lives, and there is room again.
    stream_between(&a, &b).await;
}

#[tokio::test]
async fn live_inbound_streams_are_counted() {
    let (a, b) = pair_with(Config { max_inbound_streams: 3, ..Config::default() });
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(stream_between(&a, &b).await);
    }
    let mut more = a.connection.open().await.unwrap();
    more.write_all(b"?").await.unwrap();
    assert_reset(more.read(&mut [0; 1]).await, ErrorCode::RESOURCE_LIMIT_EXCEEDED);
    kept.pop();
    stream_between(&a, &b).await;
}

#[tokio::test]
async fn opening_waits_at_the_own_limit() {
    let (a, b) = pair_with(Config { max_outbound_streams: 2, ..Config::default() });
    let one = stream_between(&a, &b).await;
    let _two = stream_between(&a, &b).await;
    let connection = a.connection.clone();
    let opening = tokio::spawn(async move { connection.open().await.map(drop) });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!opening.is_finished());
    drop(one);
    opening.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_caller_that_stops_waiting_loses_no_stream() {
    let (a, b) = pair_with(Config { max_outbound_streams: 1, ..Config::default() });
    let held = stream_between(&a, &b).await;
    for _ in 0..10 {
        let mut open = Box::pin(a.connection.open());
        let mut accept = Box::pin(b.connection.accept());
        assert!(open.as_mut().now_or_never().is_none());
        assert!(accept.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(held);
    stream_between(&a, &b).await;
    settle(&a, &b).await;
    assert_eq!(a.link.outbound(), 0);
}

#[test]
fn streams_work_from_another_runtime() {
    let drivers = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (a, b) = drivers.block_on(async { pair() });
    let (ours, theirs) = drivers.block_on(stream_between(&a, &b));
    // The drivers' thread runs until both ends of the stream are done.
    let (done, finished) = tokio::sync::oneshot::channel::<()>();
    let drive = std::thread::spawn(move || drivers.block_on(finished));
    let run = |mut stream: Stream, send: bool| {
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async move {
                if send {
                    stream.write_all(&pattern(2_000_000)).await.unwrap();
                    stream.close_write().await.unwrap();
                }
                let all = read_to_end(&mut stream).await.unwrap();
                if !send {
                    stream.write_all(&all).await.unwrap();
                    stream.close_write().await.unwrap();
                }
                assert!(all == pattern(2_000_000));
            });
        })
    };
    let (x, y) = (run(ours, true), run(theirs, false));
    x.join().unwrap();
    y.join().unwrap();
    done.send(()).unwrap();
    drive.join().unwrap().unwrap();
}
