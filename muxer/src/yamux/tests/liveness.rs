//! Virtual time: peers that are silent, stuck, or just idle.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep, timeout},
};

use super::{
    Config, Mode,
    suite::{
        pair, pattern, read_to_end,
        scripted::{frame, script, script_with},
        settle, stream_between, stream_error,
        unread::{against, turns},
    },
};
use crate::{
    ConnectionError, ErrorCode, StreamError,
    yamux::{
        INITIAL_WINDOW, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, SEND_BUFFER, WRITE_TIMEOUT,
        frame::{ACK, DATA, HEADER, Header, PING, SYN},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanished_is_found_within_40_seconds() {
    let mut peer = script();
    peer.data(SYN, 1, b"").await;
    let mut stream = peer.ours.accept().await.unwrap();
    let begin = Instant::now();
    let end = timeout(MINUTE, peer.driver).await.expect("it ends").unwrap().expect_err("vanished");
    assert!(matches!(end, ConnectionError::Vanished), "{end:?}");
    let took = begin.elapsed();
    assert!(took >= KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT && took < Duration::from_secs(40), "{took:?}");
    let error = stream_error(&stream.read(&mut [0; 1]).await.expect_err("no end of file"));
    assert!(matches!(error, StreamError::Connection(ConnectionError::Vanished)));
    assert!(matches!(peer.ours.open().await, Err(ConnectionError::Vanished)));
}

#[tokio::test(start_paused = true)]
async fn any_byte_is_a_sign_of_life() {
    let mut peer = script();
    // The header of a frame, byte by byte, slower than any ping is answered.
    for byte in frame(DATA, SYN, 1, 0).encode() {
        sleep(KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT - Duration::from_secs(1)).await;
        peer.wire.write_all(&[byte]).await.unwrap();
    }
    peer.ours.accept().await.unwrap();
    assert!(!peer.driver.is_finished());
}

#[tokio::test(start_paused = true)]
async fn idle_connections_live_and_know_their_round_trip() {
    let (a, b) = pair();
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    assert_eq!(a.connection.rtt(), None);
    sleep(60 * MINUTE).await;
    assert!(a.connection.rtt().is_some() || b.connection.rtt().is_some());
    theirs.write_all(b"!").await.unwrap();
    ours.read_exact(&mut [0; 1]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_round_trip_is_what_the_pong_took() {
    let mut peer = script();
    peer.data(SYN, 1, &pattern(20_000)).await;
    let mut ping = [0; HEADER];
    peer.wire.read_exact(&mut ping).await.unwrap();
    let ping = Header::parse(ping);
    assert_eq!((ping.kind, ping.flags, ping.stream), (PING, SYN, 0));
    sleep(Duration::from_millis(70)).await;
    peer.send(frame(PING, ACK, 0, ping.length)).await;
    turns().await;
    let rtt = peer.ours.rtt().expect("measured");
    assert!(rtt >= Duration::from_millis(70) && rtt < Duration::from_millis(75), "{rtt:?}");
}

/// CVE-2026-73568: a body that does not come. Whoever sends nothing more is gone in time, and this side still speaks.
#[tokio::test(start_paused = true)]
async fn cve_2026_73568_a_withheld_body_is_not_waited_for_longer_than_a_dead_peer() {
    let mut peer = script();
    peer.data(SYN, 1, b"").await;
    let mut stream = peer.ours.accept().await.unwrap();
    peer.send(frame(DATA, SYN, 3, 200_000)).await;
    stream.write_all(b"still here").await.unwrap();
    assert_eq!(peer.next().await.1, b"still here");
    let end = timeout(MINUTE, peer.driver).await.expect("it ends").unwrap().expect_err("vanished");
    assert!(matches!(end, ConnectionError::Vanished), "{end:?}");
}

/// CVE-2024-32984, S5: a million pings, and nothing is read of the answers.
#[tokio::test(start_paused = true)]
async fn cve_2024_32984_who_floods_and_does_not_read_is_gone_after_the_write_timeout() {
    let mut peer = script_with(Config::default(), 1024);
    let flood = frame(PING, SYN, 0, 7).encode().repeat(1_000_000);
    let begin = Instant::now();
    let (_answers, mut wire) = tokio::io::split(peer.wire);
    let sent = wire.write_all(&flood).await;
    sent.expect_err("the pipe is closed on it");
    let end = (&mut peer.driver).await.unwrap().expect_err("given up");
    assert!(matches!(end, ConnectionError::Stalled), "{end:?}");
    assert!(begin.elapsed() <= WRITE_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn closing_sends_what_was_written_and_waits_for_no_slow_reader() {
    let (mut wire, ours) = against(Mode::Client, 4096, Config::default());
    let mut stream = ours.connection.open().await.unwrap();
    stream.write_all(&pattern(100_000)).await.unwrap();
    ours.connection.close(ErrorCode::SHUTDOWN);
    let begin = Instant::now();
    // One byte a second would take a day.
    let end = tokio::spawn(ours.driver);
    while !end.is_finished() {
        wire.read_exact(&mut [0; 1]).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert!(end.await.unwrap().unwrap().is_ok());
    assert!(begin.elapsed() <= WRITE_TIMEOUT + Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn two_sides_that_close_at_once_with_full_pipes_both_end() {
    let (a, b) = pair();
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    ours.write_all(&pattern(120_000)).await.unwrap();
    theirs.write_all(&pattern(120_000)).await.unwrap();
    a.connection.close(ErrorCode::SHUTDOWN);
    b.connection.close(ErrorCode::SHUTDOWN);
    let (a, b) = timeout(MINUTE, async { tokio::join!(a.driver, b.driver) }).await.expect("they end");
    assert!(a.unwrap().is_ok() && b.unwrap().is_ok());
}

/// Nothing is read before the connection is closed, so that the window holds the last of it back.
#[tokio::test(start_paused = true)]
async fn the_goodbye_waits_for_what_the_window_holds_back() {
    let (a, b) = pair();
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    let data = pattern(INITIAL_WINDOW as usize + SEND_BUFFER / 2);
    ours.write_all(&data).await.unwrap();
    ours.close_write().await.unwrap();
    settle(&a, &b).await;
    a.connection.close(ErrorCode::SHUTDOWN);
    assert!(read_to_end(&mut theirs).await.expect("whole, with its end") == data);
    assert!(a.driver.await.unwrap().is_ok());
}

/// And not for what nobody promised to end, or will read.
#[tokio::test(start_paused = true)]
async fn the_goodbye_does_not_wait_for_more() {
    for reset in [false, true] {
        let (a, b) = pair();
        let (mut ours, theirs) = stream_between(&a, &b).await;
        ours.write_all(&pattern(INITIAL_WINDOW as usize + 1)).await.unwrap();
        if reset {
            ours.close_write().await.unwrap();
            theirs.reset(ErrorCode::NONE);
        }
        settle(&a, &b).await;
        a.connection.close(ErrorCode::SHUTDOWN);
        assert!(b.driver.await.unwrap().is_err());
        assert!(a.driver.await.unwrap().is_ok());
    }
}

/// Whoever does not read is not waited for.
#[tokio::test(start_paused = true)]
async fn the_goodbye_waits_only_so_long() {
    let (a, b) = pair();
    let (mut ours, _unread) = stream_between(&a, &b).await;
    ours.write_all(&pattern(INITIAL_WINDOW as usize + 1)).await.unwrap();
    ours.close_write().await.unwrap();
    let begin = Instant::now();
    a.connection.close(ErrorCode::SHUTDOWN);
    assert!(a.driver.await.unwrap().is_ok());
    assert_eq!(begin.elapsed().as_secs(), WRITE_TIMEOUT.as_secs());
}
