//! The other side is played by hand, frame by frame.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::mplex::{
    MAX_MESSAGE,
    engine::{LINGER_BYTES, MAX_REFUSALS},
};
use peerage_core::varint;

fn frame(id: u64, flag: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::encode(id << 3 | flag, &mut out);
    varint::encode(body.len() as u64, &mut out);
    out.extend_from_slice(body);
    out
}

fn scripted(config: Config) -> (Side, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    (side(ours, config, Budget::unlimited()), theirs)
}

async fn expect(io: &mut DuplexStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    io.read_exact(&mut got).await.unwrap();
    assert_eq!(got, bytes);
}

async fn ends_with_violation(side: Side, what: &str) {
    let ended = side.driver.await.unwrap();
    assert!(matches!(&ended, Err(ConnectionError::Protocol(text)) if text.contains(what)), "{ended:?}");
}

#[tokio::test]
async fn what_is_sent() {
    let (side, mut io) = scripted(Config::default());
    let mut stream = side.connection.open().await.unwrap();
    expect(&mut io, &[0, 0]).await;
    stream.write_all(b"abc").await.unwrap();
    expect(&mut io, &[2, 3, b'a', b'b', b'c']).await;
    stream.close_write().await.unwrap();
    expect(&mut io, &[4, 0]).await;
    let second = side.connection.open().await.unwrap();
    expect(&mut io, &[8, 0]).await;
    drop(second);
    expect(&mut io, &[14, 0]).await;
    // The answerer's flags, and a name that means nothing.
    io.write_all(&frame(5, 0, b"name")).await.unwrap();
    let mut theirs = side.connection.accept().await.unwrap();
    theirs.write_all(b"x").await.unwrap();
    expect(&mut io, &[41, 1, b'x']).await;
    theirs.reset(ErrorCode::NONE);
    expect(&mut io, &[45, 0]).await;
}

#[tokio::test]
async fn long_writes_are_cut_at_64_kib() {
    let (side, mut io) = scripted(Config::default());
    let mut stream = side.connection.open().await.unwrap();
    expect(&mut io, &[0, 0]).await;
    tokio::spawn(async move {
        stream.write_all(&pattern(200_000)).await.unwrap();
        stream.close_write().await.unwrap();
    });
    let mut got = Vec::new();
    loop {
        let head = io.read_u8().await.unwrap();
        if head == 4 {
            break;
        }
        assert_eq!(head, 2);
        let mut length = Vec::new();
        while length.last().is_none_or(|byte| byte & 0x80 != 0) {
            length.push(io.read_u8().await.unwrap());
        }
        let (length, _) = varint::decode(&length).unwrap().unwrap();
        assert!(length as usize <= crate::mplex::SEND_MESSAGE);
        let mut body = vec![0; length as usize];
        io.read_exact(&mut body).await.unwrap();
        got.extend(body);
    }
    assert!(got == pattern(200_000));
}

#[tokio::test]
async fn a_message_of_1_mib_and_one_byte_more() {
    let (side, mut io) = scripted(Config::default());
    io.write_all(&frame(1, 0, b"")).await.unwrap();
    let mut stream = side.connection.accept().await.unwrap();
    let write = tokio::spawn(async move {
        io.write_all(&frame(1, 2, &pattern(MAX_MESSAGE))).await.unwrap();
        io
    });
    let mut all = vec![0; MAX_MESSAGE];
    stream.read_exact(&mut all).await.unwrap();
    assert!(all == pattern(MAX_MESSAGE));
    let mut io = write.await.unwrap();
    let head = frame(1, 2, &vec![0; MAX_MESSAGE + 1]);
    // It ends before there is a byte of the body.
    io.write_all(&head[..4]).await.unwrap();
    ends_with_violation(side, "message of 1048577 bytes").await;
    assert!(stream.read(&mut all).await.is_err());
}

#[tokio::test]
async fn frames_that_end_the_connection() {
    for (bytes, what) in [
        (vec![7, 0], "flag 7"),
        (vec![0xff; 9], "varint"),
        (vec![0xff; 11], "varint"),
        (vec![0x82, 0x00], "shortest"),
        ([&[2][..], &[0xff; 10]].concat(), "varint"),
        ([&[2][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat(), "4294967295"),
        ([&[2][..], &[0x80, 0x80, 0x80, 0x80, 0x08]].concat(), "2147483648"),
        ([frame(3, 0, b""), frame(3, 0, b"")].concat(), "opened twice"),
    ] {
        let (side, mut io) = scripted(Config::default());
        io.write_all(&bytes).await.unwrap();
        ends_with_violation(side, what).await;
    }
}

#[tokio::test]
async fn an_end_inside_a_frame_is_not_orderly() {
    for (bytes, orderly) in [(&[][..], true), (&[0x82], false), (&[10, 5, b'x'], false), (&[8, 0], true)] {
        let (side, mut io) = scripted(Config::default());
        io.write_all(bytes).await.unwrap();
        drop(io);
        let ended = side.driver.await.unwrap();
        assert_eq!(matches!(ended, Err(ConnectionError::ClosedByPeer(_))), orderly, "{bytes:?} {ended:?}");
    }
}

#[tokio::test]
async fn strays_are_put_up_with_up_to_a_number() {
    let config = Config { max_strays: 4, ..Config::default() };
    let (side, mut io) = scripted(config);
    // Of nobody's streams, and of our side's, which are not open: data, close, reset.
    for stray in [frame(9, 2, b"lost"), frame(9, 1, b"lost"), frame(9, 4, b""), frame(9, 5, b"")] {
        io.write_all(&stray).await.unwrap();
    }
    io.write_all(&frame(1, 0, b"")).await.unwrap();
    side.connection.accept().await.unwrap();
    io.write_all(&frame(9, 6, b"")).await.unwrap();
    ends_with_violation(side, "not there").await;
}

#[tokio::test]
async fn one_stream_too_many_is_reset_and_the_others_live() {
    let config = Config { max_inbound_streams: 2, ..Config::default() };
    let (side, mut io) = scripted(config);
    for id in 0..3 {
        io.write_all(&frame(id, 0, b"")).await.unwrap();
    }
    let first = side.connection.accept().await.unwrap();
    let mut second = side.connection.accept().await.unwrap();
    expect(&mut io, &frame(2, 5, b"")).await;
    io.write_all(&frame(1, 2, b"hi")).await.unwrap();
    let mut hi = [0; 2];
    second.read_exact(&mut hi).await.unwrap();
    drop(first);
    expect(&mut io, &frame(0, 5, b"")).await;
    io.write_all(&frame(3, 0, b"")).await.unwrap();
    side.connection.accept().await.unwrap();
}

#[tokio::test]
async fn the_backlog_has_an_end() {
    let config = Config { accept_backlog: 2, ..Config::default() };
    let (side, mut io) = scripted(config);
    for id in 0..3 {
        io.write_all(&frame(id, 0, b"")).await.unwrap();
    }
    expect(&mut io, &frame(2, 5, b"")).await;
    assert_eq!(side.shared.probe(|engine| engine.live()), (2, 0));
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once() {
    let config = Config { max_strays: 100, ..Config::default() };
    let (side, mut io) = scripted(config);
    for id in 0..=100 {
        io.write_all(&[frame(id, 0, b""), frame(id, 6, b"")].concat()).await.unwrap();
    }
    ends_with_violation(side, "not there").await;
}

/// A peer that opens streams and reads no refusal: what waits has an end, and so has the connection.
#[tokio::test(start_paused = true)]
async fn refusals_that_nobody_reads() {
    let config = Config { max_inbound_streams: 0, max_strays: u32::MAX, ..Config::default() };
    let (side, mut io) = scripted(config);
    let flood = tokio::spawn(async move {
        for id in 0..1_000_000 {
            if io.write_all(&frame(id, 0, b"")).await.is_err() {
                return id;
            }
        }
        u64::MAX
    });
    assert!(matches!(side.driver.await.unwrap(), Err(ConnectionError::Stalled)));
    assert!(side.shared.probe(|engine| engine.queued_refusals()) <= MAX_REFUSALS);
    assert!(flood.await.unwrap() < 200_000);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_given_up() {
    let (side, _io) = scripted(Config::default());
    let mut stream = side.connection.open().await.unwrap();
    let error = stream.write_all(&pattern(1 << 20)).await.unwrap_err();
    assert!(matches!(stream_error(&error), StreamError::Connection(ConnectionError::Stalled)));
    assert!(matches!(side.driver.await.unwrap(), Err(ConnectionError::Stalled)));
}

/// Closing does not wait longer than that either.
#[tokio::test(start_paused = true)]
async fn closing_on_a_peer_that_reads_nothing() {
    let (side, _io) = scripted(Config::default());
    let mut stream = side.connection.open().await.unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&pattern(1 << 20))).await;
    side.connection.close(ErrorCode::NONE);
    assert!(side.driver.await.unwrap().is_ok());
}

/// A body that never comes holds up nobody but its own connection's input, and costs nothing.
#[tokio::test(start_paused = true)]
async fn a_withheld_body_costs_nothing() {
    let (side, mut io) = scripted(Config::default());
    io.write_all(&frame(1, 0, b"")).await.unwrap();
    let mut stream = side.connection.accept().await.unwrap();
    io.write_all(&frame(1, 2, &vec![7; MAX_MESSAGE])[..5]).await.unwrap();
    let mut byte = [0; 1];
    stream.read_exact(&mut byte).await.unwrap();
    assert_eq!(side.shared.probe(|engine| engine.unread()), 0);
    stream.write_all(b"still").await.unwrap();
    expect(&mut io, &frame(1, 1, b"still")).await;
}

/// After closing and dropping, the answer that comes all the same is ignored, and one without end is not.
#[tokio::test]
async fn a_closed_stream_ignores_a_little() {
    let (side, mut io) = scripted(Config::default());
    let mut stream = side.connection.open().await.unwrap();
    stream.close_write().await.unwrap();
    drop(stream);
    expect(&mut io, &[0, 0, 4, 0]).await;
    io.write_all(&frame(0, 1, &vec![0; LINGER_BYTES])).await.unwrap();
    io.write_all(&frame(0, 1, &[0])).await.unwrap();
    expect(&mut io, &frame(0, 6, b"")).await;
    assert_eq!(side.shared.probe(|engine| engine.entries()), 0);
}

#[tokio::test]
async fn data_before_a_reset_is_read_and_a_close_before_it_counts() {
    let (side, mut io) = scripted(Config::default());
    io.write_all(&[frame(1, 0, b""), frame(2, 0, b"")].concat()).await.unwrap();
    let mut first = side.connection.accept().await.unwrap();
    let mut second = side.connection.accept().await.unwrap();
    io.write_all(&[frame(1, 2, b"ab"), frame(1, 6, b"")].concat()).await.unwrap();
    let mut ab = [0; 2];
    first.read_exact(&mut ab).await.unwrap();
    assert!(matches!(stream_error(&first.read(&mut ab).await.unwrap_err()), StreamError::ResetByPeer(_)));
    io.write_all(&[frame(2, 2, b"ab"), frame(2, 4, b""), frame(2, 6, b"")].concat()).await.unwrap();
    assert_eq!(read_to_end(&mut second).await.unwrap(), b"ab");
    assert!(second.write(b"x").await.is_err());
}

/// S6: neither opening over the limit nor resetting what was accepted is for nothing.
#[tokio::test]
async fn refusals_and_resets_are_counted() {
    let config = Config { max_inbound_streams: 0, max_strays: 100, ..Config::default() };
    let (side, mut io) = scripted(config);
    for id in 0..=100 {
        io.write_all(&[frame(id, 0, b""), frame(id, 6, b"")].concat()).await.unwrap();
    }
    ends_with_violation(side, "refusals").await;

    let (side, mut io) = scripted(Config { max_strays: 100, ..Config::default() });
    for id in 0..=100 {
        io.write_all(&frame(id, 0, b"")).await.unwrap();
        let mut stream = side.connection.accept().await.unwrap();
        io.write_all(&frame(id, 6, b"")).await.unwrap();
        // Dropped before, it would be reset here, and the peer's reset be an answer.
        stream.read(&mut [0; 1]).await.unwrap_err();
    }
    ends_with_violation(side, "resets").await;
}

/// A slow reader is this side's fault: the peer pays with the stream and not with the connection.
#[tokio::test(start_paused = true)]
async fn what_was_on_the_way_to_a_stream_that_was_reset_is_no_stray() {
    let config = Config { max_strays: 0, stream_buffer: 4096, ..Config::default() };
    let (side, mut io) = scripted(config);
    io.write_all(&frame(1, 0, b"")).await.unwrap();
    let mut slow = side.connection.accept().await.unwrap();
    for _ in 0..1000 {
        io.write_all(&frame(1, 2, &[7; 100])).await.unwrap();
    }
    expect(&mut io, &frame(1, 5, b"")).await;
    io.write_all(&frame(1, 4, b"")).await.unwrap();
    assert!(read_to_end(&mut slow).await.is_err());
    io.write_all(&frame(2, 0, b"")).await.unwrap();
    side.connection.accept().await.expect("the connection lives");
}

#[tokio::test]
async fn a_reset_does_not_undo_the_end_that_was_promised() {
    let (side, mut io) = scripted(Config::default());
    let mut stream = side.connection.open().await.unwrap();
    stream.write_all(b"abc").await.unwrap();
    stream.close_write().await.unwrap();
    stream.reset(ErrorCode::NONE);
    expect(&mut io, &[0, 0, 2, 3, b'a', b'b', b'c', 4, 0, 6, 0]).await;
    assert_eq!(side.shared.probe(|engine| engine.entries()), 0);
}

/// A stream that is small costs the budget nothing, so that an empty one stops nobody.
#[tokio::test(start_paused = true)]
async fn without_memory_streams_are_small_and_live() {
    let (ours, mut io) = tokio::io::duplex(64 * 1024);
    let side = side(ours, Config::default(), Budget::limited(0));
    let mut stream = side.connection.open().await.unwrap();
    stream.write_all(&pattern(10_000)).await.unwrap();
    io.write_all(&frame(0, 1, &pattern(10_000))).await.unwrap();
    let mut all = vec![0; 10_000];
    stream.read_exact(&mut all).await.unwrap();
    assert!(all == pattern(10_000));
}

/// What is opened and given up before a frame of it was made takes places that only the driver empties.
#[tokio::test]
async fn an_open_that_waits_for_the_queue_goes_on() {
    let (side, mut io) = scripted(Config::default());
    tokio::spawn(async move { while io.read(&mut [0; 4096]).await.unwrap() > 0 {} });
    // All in one turn of the task: the driver sees nothing of it before the queue is full.
    let open = async {
        for _ in 0..5000 {
            drop(side.connection.open().await.unwrap());
        }
    };
    tokio::task::unconstrained(open).await;
}
