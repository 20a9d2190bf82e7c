//! The encrypted stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

use super::{ALICE, BOB, config, connect, differential, sessions};
use crate::Role;
use crate::noise::{
    Error, NoiseStream, TAG,
    buffer::Buffer,
    record::{MAX_FRAME, MAX_PLAIN, MAX_SEALED, Opened, Opener, Sealer},
};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn streams(pipe: usize) -> (NoiseStream<DuplexStream>, NoiseStream<DuplexStream>) {
    let (one, two) = sessions(&config(ALICE), &config(BOB)).unwrap();
    let (a, b) = tokio::io::duplex(pipe);
    (NoiseStream::new(a, Buffer::default(), one.keys), NoiseStream::new(b, Buffer::default(), two.keys))
}

/// The other end, which makes frames one by one.
struct Peer {
    noise: snow::TransportState,
}

/// A stream of ours, and the other end: its keys, which are in the hands of snow, and its socket.
fn by_hand() -> (NoiseStream<DuplexStream>, DuplexStream, Peer) {
    let (a, wire) = tokio::io::duplex(1024 * 1024);
    let (stream, noise) = differential::with_snow(a, Role::Initiator);
    (stream, wire, Peer { noise })
}

fn frame(peer: &mut Peer, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; plain.len() + TAG];
    let n = peer.noise.write_message(plain, &mut out).unwrap();
    [&(n as u16).to_be_bytes(), &out[..n]].concat()
}

fn noise_error(error: io::Error) -> Error {
    error.get_ref().and_then(|error| error.downcast_ref::<Error>()).expect("ours").clone()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

async fn read_in(stream: &mut (impl AsyncRead + Unpin), sizes: &[usize]) -> Vec<u8> {
    let mut all = Vec::new();
    for size in sizes.iter().cycle() {
        let mut buf = vec![0; *size];
        match stream.read(&mut buf).await.unwrap() {
            0 => break,
            n => all.extend_from_slice(&buf[..n]),
        }
    }
    all
}

async fn write_in(stream: &mut (impl AsyncWrite + Unpin), data: &[u8], sizes: &[usize]) {
    let mut rest = data;
    for (i, size) in sizes.iter().cycle().enumerate() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at((*size).min(rest.len()));
        stream.write_all(now).await.unwrap();
        rest = later;
        if i % 3 == 0 {
            stream.flush().await.unwrap();
        }
    }
    stream.shutdown().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_sizes_in_both_directions(
        len in 0..200_000usize,
        pipe in 1..5000usize,
        writes in proptest::collection::vec(1..70_000usize, 1..8),
        reads in proptest::collection::vec(1..70_000usize, 1..8),
    ) {
        let data = pattern(len);
        runtime().block_on(async {
            let (a, b) = streams(pipe.max(len / 100));
            let ((mut ar, mut aw), (mut br, mut bw)) = (tokio::io::split(a), tokio::io::split(b));
            let ((), there, (), back) = tokio::join!(
                write_in(&mut aw, &data, &writes),
                read_in(&mut br, &reads),
                write_in(&mut bw, &data, &reads),
                read_in(&mut ar, &writes),
            );
            assert!(there == data && back == data);
        });
    }
}

#[tokio::test]
async fn four_megabytes() {
    let ((mut a, _), (mut b, _)) = connect(&config(ALICE), &config(BOB)).await;
    let data = pattern(4 * 1024 * 1024);
    let (sent, received) = tokio::join!(
        async {
            a.write_all(&data).await.unwrap();
            a.shutdown().await.unwrap();
        },
        async {
            let mut all = Vec::new();
            b.read_to_end(&mut all).await.unwrap();
            all
        }
    );
    let () = sent;
    assert!(received == data);
    let error = a.write(b"x").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn what_was_accepted_goes_out_with_a_flush_in_full_frames() {
    let (mut stream, mut wire, mut peer) = by_hand();
    let data = pattern(MAX_PLAIN + 100);
    for part in data.chunks(1000) {
        stream.write_all(part).await.unwrap();
    }
    stream.flush().await.unwrap();
    let mut all = Vec::new();
    for expected in [MAX_PLAIN, 100] {
        let len = usize::from(wire.read_u16().await.unwrap());
        assert_eq!(len, expected + TAG);
        let mut message = vec![0; len];
        wire.read_exact(&mut message).await.unwrap();
        let mut plain = vec![0; len];
        let n = peer.noise.read_message(&message, &mut plain).unwrap();
        all.extend_from_slice(&plain[..n]);
    }
    assert!(all == data);
}

#[tokio::test]
async fn a_frame_of_any_length_is_read() {
    let (mut stream, mut wire, mut peer) = by_hand();
    for len in [1, 2, 1000, MAX_PLAIN - 1, MAX_PLAIN] {
        let data = pattern(len);
        wire.write_all(&frame(&mut peer, &data)).await.unwrap();
        let mut read = vec![0; len];
        stream.read_exact(&mut read).await.unwrap();
        assert!(read == data);
    }
}

#[tokio::test]
async fn only_the_end_of_a_frame_is_an_end() {
    let (_, _, mut peer) = by_hand();
    let whole = frame(&mut peer, b"content").len();
    for cut in 0..=whole {
        let (mut stream, mut wire, mut peer) = by_hand();
        wire.write_all(&frame(&mut peer, b"first")).await.unwrap();
        wire.write_all(&frame(&mut peer, b"content")[..cut]).await.unwrap();
        drop(wire);
        let mut all = Vec::new();
        let result = stream.read_to_end(&mut all).await;
        assert!(all.starts_with(b"first"));
        if cut == 0 || cut == whole {
            result.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "and stays one");
        } else {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert!(matches!(noise_error(error), Error::Truncated));
            assert!(stream.read(&mut [0; 1]).await.is_err(), "and stays one");
        }
    }
}

#[tokio::test]
async fn a_frame_that_does_not_open_ends_the_stream_for_good() {
    let len = frame(&mut by_hand().2, b"content").len();
    for bit in 16..len * 8 {
        let (mut stream, mut wire, mut peer) = by_hand();
        wire.write_all(&frame(&mut peer, b"good")).await.unwrap();
        let mut bad = frame(&mut peer, b"content");
        bad[bit / 8] ^= 1 << (bit % 8);
        wire.write_all(&bad).await.unwrap();
        // Good ones after it change nothing (the class of CVE-2024-58265), not even the same frame unharmed.
        wire.write_all(&frame(&mut peer, b"late")).await.unwrap();
        let mut buf = [0; 16];
        assert_eq!(stream.read(&mut buf).await.unwrap(), 4);
        for _ in 0..3 {
            assert!(matches!(noise_error(stream.read(&mut buf).await.unwrap_err()), Error::Decrypt));
        }
        assert!(matches!(noise_error(stream.write(b"x").await.unwrap_err()), Error::Decrypt));
        assert!(matches!(noise_error(stream.flush().await.unwrap_err()), Error::Decrypt));
    }
}

#[tokio::test]
async fn replayed_dropped_and_swapped_frames_do_not_open() {
    for order in [&[0, 0][..], &[1], &[1, 0], &[0, 2]] {
        let (mut stream, mut wire, mut peer) = by_hand();
        let frames: Vec<_> = (0..3).map(|_| frame(&mut peer, b"content")).collect();
        for i in order {
            wire.write_all(&frames[*i]).await.unwrap();
        }
        drop(wire);
        let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert!(matches!(noise_error(error), Error::Decrypt), "{order:?}");
    }
}

#[tokio::test]
async fn a_frame_shorter_than_a_tag_is_refused_at_once() {
    for len in 0..TAG as u16 {
        let (mut stream, mut wire, _) = by_hand();
        wire.write_u16(len).await.unwrap();
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert!(matches!(noise_error(error), Error::Malformed(_)));
    }
}

#[tokio::test]
async fn empty_frames_are_tolerated_and_do_not_hold_up_others() {
    let (mut stream, mut wire, mut peer) = by_hand();
    for _ in 0..1000 {
        wire.write_all(&frame(&mut peer, b"")).await.unwrap();
    }
    wire.write_all(&frame(&mut peer, b"content")).await.unwrap();
    let mut buf = [0; 7];
    let mut polls = 0;
    std::future::poll_fn(|cx| {
        polls += 1;
        Pin::new(&mut stream).poll_read(cx, &mut ReadBuf::new(&mut buf))
    })
    .await
    .unwrap();
    assert_eq!(&buf, b"content");
    assert!(polls > 30, "{polls}");
}

#[tokio::test]
async fn an_idle_stream_holds_little() {
    let ((mut a, _), (mut b, _)) = connect(&config(ALICE), &config(BOB)).await;
    let data = pattern(2 * 1024 * 1024);
    for _ in 0..2 {
        let mut read = vec![0; data.len()];
        let (sent, got) = tokio::join!(
            async {
                a.write_all(&data).await?;
                a.flush().await
            },
            b.read_exact(&mut read)
        );
        sent.unwrap();
        got.unwrap();
        // It finds out by asking for more.
        let waiting = std::future::poll_fn(|cx| {
            let mut buf = [0; 1];
            Poll::Ready(Pin::new(&mut b).poll_read(cx, &mut ReadBuf::new(&mut buf)).is_pending())
        });
        assert!(waiting.await);
        assert!(a.allocated() + b.allocated() <= 32 * 1024, "{} {}", a.allocated(), b.allocated());
    }
}

#[tokio::test]
async fn a_peer_that_stops_within_a_frame_holds_little() {
    let (mut stream, mut wire, mut peer) = by_hand();
    let data = pattern(MAX_PLAIN);
    let mut read = vec![0; data.len()];
    // Until reads are as large as they get.
    for _ in 0..40 {
        let whole = frame(&mut peer, &data);
        let (sent, got) = tokio::join!(wire.write_all(&whole), stream.read_exact(&mut read));
        sent.unwrap();
        got.unwrap();
    }
    let last = frame(&mut peer, &data);
    for (from, to) in [(0, 1), (1, 2), (2, 3), (3, 1000)] {
        wire.write_all(&last[from..to]).await.unwrap();
        let waiting = std::future::poll_fn(|cx| {
            let mut buf = [0; 1];
            Poll::Ready(Pin::new(&mut stream).poll_read(cx, &mut ReadBuf::new(&mut buf)).is_pending())
        });
        assert!(waiting.await);
        assert!(stream.allocated() <= 16 * 1024, "after {to} bytes: {}", stream.allocated());
    }
    let (sent, got) = tokio::join!(wire.write_all(&last[1000..]), stream.read_exact(&mut read));
    sent.unwrap();
    got.unwrap();
    assert!(read == data);
}

#[tokio::test]
async fn a_peer_that_does_not_read_stops_the_writer() {
    let (mut stream, _other) = streams(1024);
    let mut accepted = 0;
    let data = pattern(100_000);
    std::future::poll_fn(|cx| {
        loop {
            match Pin::new(&mut stream).poll_write(cx, &data) {
                Poll::Ready(n) => accepted += n.unwrap(),
                Poll::Pending => return Poll::Ready(()),
            }
            assert!(accepted < 1_000_000);
        }
    })
    .await;
    assert!(stream.allocated() < 800_000, "{}", stream.allocated());
}

/// A socket that takes `left` bytes and then fails, and gives what it was given.
struct Failing {
    left: usize,
    give: io::Cursor<Vec<u8>>,
}

impl AsyncRead for Failing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.give).poll_read(cx, buf)
    }
}

impl AsyncWrite for Failing {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let n = self.left.min(buf.len());
        self.left -= n;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_socket_that_takes_no_more_is_still_read() {
    let (one, two) = sessions(&config(ALICE), &config(BOB)).unwrap();
    let mut sealer = Sealer::new(two.keys.ours);
    sealer.push(b"last words").unwrap();
    sealer.seal().unwrap();
    let give = io::Cursor::new(sealer.sealed().to_vec());
    let mut stream = NoiseStream::new(Failing { left: 10, give }, Buffer::default(), one.keys);
    stream.write_all(b"content").await.unwrap();
    for _ in 0..2 {
        let error = stream.flush().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    assert_eq!(stream.write(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"last words");
}

fn pair() -> (Sealer, Opener) {
    let (one, two) = sessions(&config(ALICE), &config(BOB)).unwrap();
    (Sealer::new(one.keys.ours), Opener::new(two.keys.theirs, Buffer::default()))
}

fn receive(opener: &mut Opener, bytes: &[u8]) {
    opener.buffer().push(bytes);
}

#[test]
fn a_sealer_takes_what_it_says_and_no_more() {
    for (len, taken) in [
        (MAX_SEALED, 4 * MAX_PLAIN),
        (4 * MAX_PLAIN, 4 * MAX_PLAIN),
        (4 * MAX_PLAIN - 1, 4 * MAX_PLAIN - 1),
        (0, 0),
    ] {
        let (mut sealer, _) = pair();
        assert_eq!(sealer.push(&pattern(len)).unwrap(), taken);
        assert_eq!(sealer.is_full(), taken == 4 * MAX_PLAIN);
        let was_full = sealer.is_full();
        assert_eq!(sealer.push(&pattern(2 * MAX_PLAIN)).unwrap() == 0, was_full);
        assert!(sealer.sealed().len() <= MAX_SEALED + MAX_FRAME);
        let sealed = sealer.sealed().len();
        sealer.sent(1);
        assert_eq!(sealer.sealed().len(), sealed.saturating_sub(1));
    }
}

#[test]
fn many_frames_of_one_write_are_opened_where_they_lie() {
    let (mut sealer, mut opener) = pair();
    let data = pattern(3 * MAX_PLAIN + 5);
    assert_eq!(sealer.push(&data).unwrap(), data.len());
    sealer.seal().unwrap();
    assert_eq!(sealer.sealed().len(), 3 * MAX_FRAME + 2 + 5 + TAG);
    receive(&mut opener, sealer.sealed());
    let mut all = Vec::new();
    for len in [MAX_PLAIN, MAX_PLAIN, MAX_PLAIN, 5] {
        assert_eq!(opener.open().unwrap(), Opened::Plain);
        assert_eq!(opener.plain().len(), len);
        all.extend_from_slice(opener.plain());
        opener.consume(1);
        assert_eq!(opener.open().unwrap(), Opened::Plain, "the same frame, until it is used up");
        opener.consume(len);
    }
    assert!(all == data && opener.is_empty());
    assert_eq!(opener.open().unwrap(), Opened::Missing(2));
}

#[test]
fn a_key_is_used_2_to_the_64_minus_1_times_and_no_more() {
    let last = u64::MAX - 1;
    let (one, two) = sessions(&config(ALICE), &config(BOB)).unwrap();
    let mut sealer = Sealer::new(one.keys.ours.used(last));
    let mut opener = Opener::new(two.keys.theirs.used(last), Buffer::default());
    sealer.push(b"the last").unwrap();
    sealer.seal().unwrap();
    receive(&mut opener, sealer.sealed());
    assert_eq!(opener.open().unwrap(), Opened::Plain);
    assert_eq!(opener.plain(), b"the last");
    opener.consume(8);

    sealer.push(b"one more").unwrap();
    for _ in 0..3 {
        assert!(matches!(sealer.seal(), Err(Error::Exhausted)));
    }
    receive(&mut opener, &[0, 16].into_iter().chain([0; 16]).collect::<Vec<u8>>());
    for _ in 0..3 {
        assert!(matches!(opener.open(), Err(Error::Exhausted)));
    }
}

#[test]
fn after_bad_frames_a_good_one_still_has_its_nonce() {
    // The stream ends at the first bad frame; the keys below it must not depend on that (class of CVE-2024-58265).
    for bad in [1, 2, 100] {
        let (one, two) = sessions(&config(ALICE), &config(BOB)).unwrap();
        let mut sealer = Sealer::new(one.keys.ours);
        let mut key = two.keys.theirs;
        sealer.push(b"good").unwrap();
        sealer.seal().unwrap();
        for i in 0..bad {
            let mut opener = Opener::new(key, Buffer::default());
            let mut frame = sealer.sealed().to_vec();
            let at = 2 + i % (frame.len() - 2);
            frame[at] ^= 1;
            receive(&mut opener, &frame);
            assert!(matches!(opener.open(), Err(Error::Decrypt)));
            key = opener.into_key();
        }
        let mut opener = Opener::new(key, Buffer::default());
        receive(&mut opener, sealer.sealed());
        assert_eq!(opener.open().unwrap(), Opened::Plain);
        assert_eq!(opener.plain(), b"good");
    }
}
