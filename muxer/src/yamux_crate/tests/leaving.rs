//! Dropped streams that the crate holds until it can write their end, and floods.

use std::time::Duration;

use futures::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::suite::{
    pattern, read_to_end,
    scripted::{frame as any_frame, script},
    unread::blocked,
};
use crate::{
    yamux::{
        Config, INITIAL_WINDOW,
        frame::{ACK, DATA, FIN, HEADER, Header, PING, RST, SYN},
    },
    yamux_crate::table::MAX_LEAVING_BYTES,
};

fn frame(flags: u16, stream: u32, length: u32) -> Header {
    Header::new(DATA, flags, stream, length)
}

/// With `flags` on a frame of its own after each body. How many streams were taken before reading stopped.
async fn refused_until_reading_stops(then: u16) -> u64 {
    let (mut wire, ours) =
        blocked(Config { max_inbound_streams: 1, accept_backlog: 1, ..Config::default() }).await;
    let body = pattern(INITIAL_WINDOW as usize);
    let mut taken = 0;
    for i in 1..2000u32 {
        let mut bytes = frame(SYN, 2 * i + 1, INITIAL_WINDOW).encode().to_vec();
        bytes.extend_from_slice(&body);
        if then != 0 {
            bytes.extend(frame(then, 2 * i + 1, 0).encode());
        }
        if tokio::time::timeout(Duration::from_secs(1), wire.write_all(&bytes)).await.is_err() {
            break;
        }
        taken += 1;
    }
    assert!(!ours.driver.is_finished());
    // When the peer reads, reading goes on.
    let (mut reader, _writer) = tokio::io::split(wire);
    let mut resets = 0;
    while resets < taken {
        let mut bytes = [0; HEADER];
        let frame = tokio::time::timeout(Duration::from_secs(3600), reader.read_exact(&mut bytes)).await;
        if frame.is_err() {
            break;
        }
        let header = Header::parse(bytes);
        reader.read_exact(&mut vec![0; header.body() as usize]).await.unwrap();
        resets += u64::from(header.has(RST));
    }
    assert!(then != 0 || resets >= taken, "{resets} of {taken}");
    assert!(!ours.link.crowded());
    taken
}

#[tokio::test(start_paused = true)]
async fn refused_streams_of_a_peer_that_does_not_read_hold_a_bounded_amount() {
    let bound = MAX_LEAVING_BYTES / u64::from(INITIAL_WINDOW);
    for then in [0, RST] {
        let taken = refused_until_reading_stops(then).await;
        assert!(taken <= bound + 1, "{taken} with flags {then}");
    }
}

#[tokio::test]
async fn a_flood_of_resets_leaves_the_connection_usable() {
    let mut peer = script();
    for i in 0..5000u32 {
        peer.data(SYN, 2 * i + 1, b"x").await;
        peer.send(frame(RST, 2 * i + 1, 0)).await;
        if let Some(stream) = peer.ours.accept().now_or_never() {
            drop(stream.unwrap());
        }
    }
    while let Some(stream) = peer.ours.accept().now_or_never() {
        drop(stream.unwrap());
    }
    peer.data(SYN | FIN, 20_001, b"alive").await;
    loop {
        let mut stream = peer.ours.accept().await.unwrap();
        if let Ok(all) = read_to_end(&mut stream).await {
            assert_eq!(all, b"alive");
            break;
        }
    }
}

#[tokio::test]
async fn a_pong_nobody_asked_for_ends_the_connection() {
    let mut peer = script();
    peer.send(any_frame(PING, ACK, 0, 99)).await;
    peer.ends_as_a_violation().await;
}
