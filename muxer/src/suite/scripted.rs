//! One end is the implementation's, the other is played frame by frame.

use futures::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
};

use super::{super::start_linked, assert_reset, pattern, read_to_end, stream_error};
use crate::{
    Connection, ConnectionError, ErrorCode, Muxed, StreamError,
    yamux::{
        Config, INITIAL_WINDOW, Mode,
        frame::{ACK, DATA, FIN, GO_AWAY, HEADER, Header, PING, RST, SYN, WINDOW_UPDATE},
    },
};

/// The client by hand against a server of ours.
pub(in super::super) struct Script {
    pub(in super::super) wire: DuplexStream,
    pub(in super::super) ours: Connection,
    pub(in super::super) driver: JoinHandle<Result<(), ConnectionError>>,
}

pub(in super::super) fn script() -> Script {
    script_with(Config::default(), 1024 * 1024)
}

pub(in super::super) fn script_with(config: Config, pipe: usize) -> Script {
    let (wire, io) = tokio::io::duplex(pipe);
    let (Muxed { connection, driver }, _) = start_linked(io, Mode::Server, config);
    Script { wire, ours: connection, driver: tokio::spawn(driver) }
}

pub(in super::super) fn frame(kind: u8, flags: u16, stream: u32, length: u32) -> Header {
    Header { version: 0, kind, flags, stream, length }
}

impl Script {
    pub(in super::super) async fn send(&mut self, header: Header) {
        self.wire.write_all(&header.encode()).await.unwrap();
    }

    pub(in super::super) async fn data(&mut self, flags: u16, stream: u32, body: &[u8]) {
        self.send(frame(DATA, flags, stream, body.len() as u32)).await;
        self.wire.write_all(body).await.unwrap();
    }

    /// The next frame other than a ping, with its body.
    pub(in super::super) async fn next(&mut self) -> (Header, Vec<u8>) {
        loop {
            let mut bytes = [0; HEADER];
            self.wire.read_exact(&mut bytes).await.expect("a frame");
            let header = Header::parse(bytes);
            let mut body = vec![0; header.body() as usize];
            self.wire.read_exact(&mut body).await.unwrap();
            if header.kind != PING {
                return (header, body);
            }
        }
    }

    /// The connection ends, and it was the peer.
    pub(in super::super) async fn ends_as_a_violation(mut self) {
        let end = self.driver.await.expect("no panic").expect_err("an end");
        assert!(matches!(end, ConnectionError::Protocol(_)), "{end:?}");
        // It was told so, unless it does not read.
        let mut rest = Vec::new();
        self.wire.read_to_end(&mut rest).await.unwrap();
        let last = rest.last_chunk::<HEADER>().map(|bytes| Header::parse(*bytes));
        assert_eq!(last.map(|header| (header.kind, header.length)), Some((GO_AWAY, 1)));
    }
}

#[tokio::test]
async fn a_peers_reset_carries_its_code_in_either_form() {
    for (reset, code) in [
        (frame(WINDOW_UPDATE, RST, 1, 0x1002), ErrorCode::RATE_LIMITED),
        (frame(WINDOW_UPDATE, RST, 1, 0), ErrorCode::NONE),
        (frame(DATA, RST, 1, 0), ErrorCode::NONE),
    ] {
        let mut peer = script();
        peer.data(SYN, 1, b"unread").await;
        let mut stream = peer.ours.accept().await.unwrap();
        peer.send(reset).await;
        let mut got = Vec::new();
        assert_reset(stream.read_to_end(&mut got).await, code);
        assert_eq!(got, b"unread");
        assert_reset(stream.write(b"x").await, code);
    }
}

#[tokio::test]
async fn a_syn_may_carry_data_and_fin() {
    let mut peer = script();
    peer.data(SYN | FIN, 1, b"all at once").await;
    let mut stream = peer.ours.accept().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.unwrap(), b"all at once");
    stream.close_write().await.unwrap();
    let (header, _) = peer.next().await;
    assert!(header.has(FIN) && header.has(ACK) && !header.has(RST), "{header:?}");
}

#[tokio::test]
async fn what_a_reset_looks_like_on_the_wire() {
    let mut peer = script();
    for (stream, code, expected) in [
        (1, ErrorCode::SHUTDOWN, frame(WINDOW_UPDATE, RST, 1, 0x1006)),
        (3, ErrorCode::NONE, frame(DATA, RST, 3, 0)),
    ] {
        peer.data(SYN | FIN, stream, b"").await;
        peer.ours.accept().await.unwrap().reset(code);
        assert_eq!(peer.next().await.0, expected);
    }
    // Given up before anything was sent: not a word. The next one is heard of.
    drop(peer.ours.open().await.unwrap());
    let mut stream = peer.ours.open().await.unwrap();
    stream.write_all(b"hi").await.unwrap();
    let (header, body) = peer.next().await;
    assert_eq!((header.kind, header.flags, header.stream, body), (DATA, SYN, 4, b"hi".to_vec()));
}

#[tokio::test]
async fn go_away_carries_the_code_of_close() {
    let mut peer = script();
    peer.ours.close(ErrorCode::SUPPLANTED);
    assert_eq!(peer.next().await.0, frame(GO_AWAY, 0, 0, 0x1004));
    assert!(peer.driver.await.unwrap().is_ok());
}

#[tokio::test]
async fn the_peers_go_away_is_an_orderly_end() {
    for code in [0, 1, 0x1006] {
        let mut peer = script();
        peer.data(SYN, 1, b"").await;
        let mut stream = peer.ours.accept().await.unwrap();
        peer.send(frame(GO_AWAY, 0, 0, code)).await;
        let end = peer.driver.await.unwrap().expect_err("closed");
        assert!(matches!(end, ConnectionError::ClosedByPeer(ErrorCode(c)) if c == code));
        let error = stream_error(&stream.read(&mut [0; 1]).await.expect_err("no end of file"));
        assert!(matches!(error, StreamError::Connection(ConnectionError::ClosedByPeer(_))));
    }
}

/// js-libp2p sends whatever the window allows in one frame; rust-yamux ends the connection over 1 MiB.
#[tokio::test]
async fn one_frame_may_fill_the_window() {
    let mut peer = script();
    let data = pattern(INITIAL_WINDOW as usize);
    peer.data(SYN | FIN, 1, &data).await;
    let mut stream = peer.ours.accept().await.unwrap();
    assert!(read_to_end(&mut stream).await.unwrap() == data);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_end_of_file() {
    for cut in [0, 1, 99] {
        let mut peer = script();
        peer.data(SYN, 1, b"").await;
        let mut stream = peer.ours.accept().await.unwrap();
        peer.send(frame(DATA, FIN, 1, 100)).await;
        peer.wire.write_all(&pattern(cut)).await.unwrap();
        drop(peer.wire);
        let end = peer.driver.await.unwrap().expect_err("cut off");
        assert!(matches!(end, ConnectionError::Io(_)), "{end:?}");
        let error = stream_error(&stream.read_to_end(&mut Vec::new()).await.expect_err("no end of file"));
        assert!(matches!(error, StreamError::Connection(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_header_that_breaks_off_is_told_from_an_end() {
    for cut in 0..HEADER {
        let mut peer = script();
        let bytes = frame(DATA, SYN, 1, 0).encode();
        peer.wire.write_all(&bytes[..cut]).await.unwrap();
        drop(peer.wire);
        let end = peer.driver.await.unwrap().expect_err("the end");
        match cut {
            0 => assert!(matches!(end, ConnectionError::ClosedByPeer(ErrorCode::NONE)), "{end:?}"),
            _ => assert!(matches!(end, ConnectionError::Io(_)), "{cut}: {end:?}"),
        }
    }
}

/// CVE-2026-31814: credit that overflows the send window.
#[tokio::test]
async fn credit_beyond_32_bits_ends_the_connection() {
    for credit in [u32::MAX - INITIAL_WINDOW + 1, 0xFFFF_0000, u32::MAX] {
        let mut peer = script();
        peer.send(frame(WINDOW_UPDATE, SYN, 1, 0)).await;
        let _stream = peer.ours.accept().await.unwrap();
        peer.send(frame(WINDOW_UPDATE, 0, 1, credit)).await;
        peer.ends_as_a_violation().await;
        // The same on the frame that opens the stream (yamux #228).
        let mut peer = script();
        peer.send(frame(WINDOW_UPDATE, SYN, 1, credit)).await;
        peer.ends_as_a_violation().await;
    }
    let mut peer = script();
    peer.send(frame(WINDOW_UPDATE, SYN, 1, u32::MAX - INITIAL_WINDOW)).await;
    peer.ours.accept().await.expect("the largest that fits");
}

/// CVE-2026-32314: a first frame over the initial window.
#[tokio::test]
async fn a_first_frame_over_the_window_ends_the_connection_before_its_body() {
    for length in [INITIAL_WINDOW + 1, 1 << 20, 1 << 31, u32::MAX] {
        let mut peer = script();
        peer.send(frame(DATA, SYN, 1, length)).await;
        peer.ends_as_a_violation().await;
    }
}

#[tokio::test]
async fn a_later_frame_over_any_window_ends_the_connection_before_its_body() {
    let config = Config::default();
    let mut peer = script();
    peer.data(SYN, 1, b"").await;
    let _stream = peer.ours.accept().await.unwrap();
    peer.send(frame(DATA, 0, 1, config.window_growth + INITIAL_WINDOW + 1)).await;
    peer.ends_as_a_violation().await;

    // One that some window would allow, but not this one: found out when the window is full.
    let mut peer = script();
    peer.data(SYN, 1, b"").await;
    let _stream = peer.ours.accept().await.unwrap();
    peer.data(0, 1, &pattern(INITIAL_WINDOW as usize + 1)).await;
    peer.ends_as_a_violation().await;
}

#[tokio::test]
async fn frames_that_no_honest_peer_sends() {
    let nonsense = [
        ("wrong parity", frame(DATA, SYN, 2, 0)),
        ("wrong parity, window update", frame(WINDOW_UPDATE, SYN, 2, 0)),
        ("opened twice", frame(DATA, SYN, 1, 0)),
        ("opened twice, window update", frame(WINDOW_UPDATE, SYN, 1, 0)),
        ("stream 0", frame(DATA, SYN, 0, 0)),
        ("stream 0, no SYN", frame(WINDOW_UPDATE, 0, 0, 1)),
        ("version", Header { version: 1, ..frame(DATA, 0, 1, 0) }),
        ("kind", frame(4, 0, 0, 0)),
    ];
    for (what, header) in nonsense {
        let mut peer = script();
        peer.data(SYN, 1, b"").await;
        let _stream = peer.ours.accept().await.unwrap();
        peer.send(header).await;
        println!("{what}");
        peer.ends_as_a_violation().await;
    }
}

#[tokio::test]
async fn frames_for_streams_that_are_not_there_are_ignored() {
    let mut peer = script();
    for id in [1, 2, 77, u32::MAX] {
        peer.data(0, id, &pattern(300_000)).await;
        peer.send(frame(WINDOW_UPDATE, 0, id, u32::MAX)).await;
        peer.data(FIN, id, b"").await;
        peer.send(frame(WINDOW_UPDATE, RST, id, 5)).await;
        peer.send(frame(DATA, SYN | RST, id, 0)).await;
    }
    peer.data(SYN | FIN, 1, b"alive").await;
    let mut stream = peer.ours.accept().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.unwrap(), b"alive");
}

#[tokio::test]
async fn a_flood_of_streams_is_refused_one_by_one() {
    let mut peer = script();
    let flood = u32::try_from(Config::default().accept_backlog).unwrap() + 1000;
    for i in 0..flood {
        peer.send(frame(DATA, SYN, 2 * i + 1, 0)).await;
    }
    for _ in 0..1000 {
        let (header, _) = peer.next().await;
        assert_eq!((header.kind, header.flags, header.length), (WINDOW_UPDATE, RST, 0x1001));
    }
    for _ in 0..Config::default().accept_backlog {
        peer.ours.accept().await.unwrap();
    }
}

/// CVE-2024-32984: answers to a peer that does not read them.
#[tokio::test]
async fn pings_to_a_peer_that_does_not_read_stop_being_read() {
    let mut peer = script_with(Config::default(), 1024);
    let pings = frame(PING, SYN, 0, 7).encode().repeat(100);
    let (mut written, mut idle) = (0, 0);
    // Until the pipe stays full although the driver has had every chance.
    while idle < 100 {
        let rest = &pings[written % pings.len()..];
        match peer.wire.write(rest).now_or_never() {
            Some(n) => (written, idle) = (written + n.unwrap(), 0),
            None => idle += 1,
        }
        tokio::task::yield_now().await;
        assert!(written < 16 * 1024, "answers are piling up");
    }
    assert!(!peer.driver.is_finished());
}
