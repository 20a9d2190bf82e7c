//! Peers that mean harm, frame by frame: S6 and S7 of the hostile scenarios. What ends a connection in the engine's
//! tests is not repeated here.

use futures::FutureExt as _;
use peerage_core::budget::Budget;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Config, Mode,
    suite::{
        pattern, read_to_end,
        scripted::{frame, script, script_with},
        stream_error,
        unread::turns,
    },
};
use crate::{
    ConnectionError, ErrorCode, StreamError,
    yamux::{
        INITIAL_WINDOW,
        frame::{ACK, DATA, FIN, HEADER, Header, PING, RST, SYN, WINDOW_UPDATE},
        start,
    },
};

/// S6, rapid reset: the peer pays with its connection.
#[tokio::test]
async fn opening_and_resetting_without_end_ends_the_connection() {
    let mut peer = script();
    let mut sent = 0u32;
    while !peer.driver.is_finished() && sent < 100_000 {
        let bytes = [frame(DATA, SYN, 2 * sent + 1, 0).encode(), frame(DATA, RST, 2 * sent + 1, 0).encode()];
        if peer.wire.write_all(&bytes.concat()).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
        sent += 1;
    }
    assert!((1000..3000).contains(&sent), "{sent}");
    let end = peer.driver.await.unwrap().expect_err("ended");
    assert!(matches!(end, ConnectionError::Protocol(_)), "{end:?}");
    // What was reset before anybody saw it is not handed out.
    assert!(peer.ours.accept().await.is_err());
}

/// Refusing is not an attack: as often as this side opens, the peer may reset.
#[tokio::test]
async fn a_peer_may_refuse_any_number_of_streams() {
    let mut peer = script();
    for _ in 0..3_000 {
        let mut stream = peer.ours.open().await.unwrap();
        stream.write_all(b"?").await.unwrap();
        stream.flush().await.unwrap();
        let opened = loop {
            let (header, _) = peer.next().await;
            if header.has(SYN) && header.kind != PING {
                break header.stream;
            }
        };
        peer.send(Header::reset(opened, 0x1001)).await;
        let error = stream_error(&read_to_end(&mut stream).await.expect_err("refused"));
        assert!(matches!(error, StreamError::ResetByPeer(ErrorCode(0x1001))), "{error:?}");
    }
    assert!(!peer.driver.is_finished());
    // A second reset of the same stream is one that nobody needs.
    let mut stream = peer.ours.open().await.unwrap();
    stream.write_all(b"?").await.unwrap();
    stream.flush().await.unwrap();
    let (header, _) = peer.next().await;
    for _ in 0..2_000 {
        let _ = peer.wire.write_all(&Header::reset(header.stream, 1).encode()).await;
    }
    let end = peer.driver.await.unwrap().expect_err("ended");
    assert!(matches!(end, ConnectionError::Protocol(_)), "{end:?}");
}

/// S6: ten thousand streams that never say a word.
#[tokio::test]
async fn ten_thousand_silent_streams_cost_the_backlog() {
    let mut peer = script_with(Config::default(), 1 << 20);
    for i in 0..10_000u32 {
        peer.send(frame(DATA, SYN, 2 * i + 1, 0)).await;
        if i % 100 == 0 {
            // It reads the refusals.
            let mut answers = [0; 64 * 1024];
            while peer.wire.read(&mut answers).now_or_never().is_some() {}
            turns().await;
        }
    }
    let mut accepted = 0;
    while let Some(stream) = peer.ours.accept().now_or_never() {
        accepted += 1;
        stream.unwrap().close_write().await.unwrap();
    }
    assert_eq!(accepted, Config::default().accept_backlog);
    assert!(!peer.driver.is_finished());
}

/// S7: data, credit, FIN and RST for streams that are over here.
#[tokio::test]
async fn frames_for_closed_streams_touch_nothing() {
    let mut peer = script();
    peer.data(SYN | FIN, 1, b"x").await;
    let mut stream = peer.ours.accept().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.unwrap(), b"x");
    stream.close_write().await.unwrap();
    drop(stream);
    assert_eq!(peer.next().await.0, Header::new(DATA, ACK | FIN, 1, 0));
    for _ in 0..100 {
        peer.data(0, 1, b"late").await;
        peer.send(frame(WINDOW_UPDATE, 0, 1, 0xFFFF_0000)).await;
        peer.send(frame(DATA, FIN, 1, 0)).await;
        peer.send(frame(DATA, RST, 1, 0)).await;
    }
    peer.data(SYN | FIN, 3, b"alive").await;
    let mut stream = peer.ours.accept().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.unwrap(), b"alive");
}

/// S7: a pong that nobody asked for is no reason to end; the crate takes it for one.
#[tokio::test]
async fn a_pong_nobody_asked_for_is_ignored() {
    let mut peer = script();
    peer.send(frame(PING, ACK, 0, 99)).await;
    peer.send(frame(PING, 0, 0, 99)).await;
    peer.data(SYN | FIN, 1, b"alive").await;
    let mut stream = peer.ours.accept().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.unwrap(), b"alive");
}

/// A stream that nobody reads costs its window: in single bytes as well, and the budget knows.
#[tokio::test]
async fn unread_single_bytes_cost_twice_their_number_at_most() {
    let budget = Budget::limited(4 * INITIAL_WINDOW as usize);
    let (mut wire, io) = tokio::io::duplex(1 << 20);
    let ours = start(io, Mode::Server, Config::default(), budget.clone());
    let driver = tokio::spawn(ours.driver);
    wire.write_all(&frame(DATA, SYN, 1, 0).encode()).await.unwrap();
    let mut one = frame(DATA, 0, 1, 1).encode().to_vec();
    one.push(b'x');
    let block = one.repeat(4096);
    for _ in 0..INITIAL_WINDOW / 4096 {
        wire.write_all(&block).await.unwrap();
        turns().await;
    }
    let mut stream = ours.connection.accept().await.unwrap();
    assert!(budget.reserve(2 * INITIAL_WINDOW as usize).is_ok());
    assert!(budget.reserve(3 * INITIAL_WINDOW as usize + 8192).is_err());
    let mut all = vec![0; INITIAL_WINDOW as usize];
    stream.read_exact(&mut all).await.unwrap();
    drop(budget.reserve(4 * INITIAL_WINDOW as usize).expect("given back"));
    assert!(!driver.is_finished());
}

#[tokio::test]
async fn a_stream_for_which_there_is_no_memory_is_reset_alone() {
    let (mut wire, io) = tokio::io::duplex(1 << 20);
    let ours = start(io, Mode::Server, Config::default(), Budget::limited(100_000));
    let driver = tokio::spawn(ours.driver);
    wire.write_all(&frame(DATA, SYN, 1, 200_000).encode()).await.unwrap();
    wire.write_all(&pattern(200_000)).await.unwrap();
    wire.write_all(&frame(DATA, SYN | FIN, 3, 5).encode()).await.unwrap();
    wire.write_all(b"alive").await.unwrap();
    let mut large = ours.connection.accept().await.unwrap();
    let mut small = ours.connection.accept().await.unwrap();
    assert_eq!(read_to_end(&mut small).await.unwrap(), b"alive");
    let error = stream_error(&read_to_end(&mut large).await.expect_err("no memory"));
    assert!(matches!(error, StreamError::ResetLocally(ErrorCode::RESOURCE_LIMIT_EXCEEDED)), "{error:?}");
    let mut header = [0; HEADER];
    loop {
        wire.read_exact(&mut header).await.unwrap();
        let header = Header::parse(header);
        if header.kind != PING {
            assert_eq!(header, Header::reset(1, ErrorCode::RESOURCE_LIMIT_EXCEEDED.0));
            break;
        }
    }
    assert!(!driver.is_finished());
}
