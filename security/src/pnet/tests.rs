use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

use super::{
    Error, KeyError, MAX_FILE_LEN, PnetStream, PreSharedKey,
    stream::{KEEP, MAX_PENDING, NONCE},
};

fn key(n: u8) -> PreSharedKey {
    PreSharedKey::from_bytes([n; 32])
}

fn counting() -> [u8; 32] {
    std::array::from_fn(|i| i as u8)
}

/// As Go's `x/crypto/salsa20` and NaCl have it.
#[tokio::test]
async fn what_others_have_computed() {
    let key = PreSharedKey::from_bytes(*b"this is 32-byte key for xsalsa20");
    let nonce = *b"24-byte nonce for xsalsa";
    let (near, mut wire) = tokio::io::duplex(200);
    let mut stream = PnetStream::with_nonce(near, &key, nonce);
    // However it is cut.
    stream.write_all(b"Hello").await.unwrap();
    stream.flush().await.unwrap();
    stream.write_all(b" world!").await.unwrap();
    stream.flush().await.unwrap();
    let mut sent = [0; NONCE + 12];
    wire.read_exact(&mut sent).await.unwrap();
    assert_eq!(sent[..NONCE], nonce);
    assert_eq!(HEXLOWER.encode(&sent[NONCE..]), "002d4513843fc240c401e541");
    // And the other way: the keystream itself makes zeroes.
    let zeroes = "4848297feb1fb52fb66d81609bd547fabcbe7026edc8b5e5e449d088bfa69c08\
                  8f5d8da1d791267c2c195a7f8cae9c4b4050d08ce6d3a151ec265f3a58e47648";
    wire.write_all(&[&nonce[..], &HEXLOWER.decode(zeroes.as_bytes()).unwrap()].concat()).await.unwrap();
    let mut got = [1; 64];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(got, [0; 64]);
}

#[test]
fn the_fingerprint_is_that_of_go_and_rust() {
    let file =
        b"/key/swarm/psk/1.0.0/\n/base16/\n6189c5cf0b87fb800c1a9feeda73c6ab5e998db48fb9e6a978575c770ceef683";
    let key = PreSharedKey::from_file(file).unwrap();
    assert_eq!(key.fingerprint().to_string(), "45fc986bbc9388a11d939df26f730f0c");
    assert_eq!(format!("{key:?}").matches("6189").count(), 0, "the key itself is not printed");
    let again = PreSharedKey::from_file(key.to_file().as_bytes()).unwrap();
    assert_eq!(again, key);
    assert_ne!(PreSharedKey::generate().unwrap(), PreSharedKey::generate().unwrap());
}

#[test]
fn every_form_of_the_file_is_read() {
    let key = counting();
    for end in ["\n", "\r\n"] {
        for last in ["", end, "\n\n"] {
            for (encoding, text) in [
                ("/base16/", HEXLOWER.encode(&key)),
                ("/base16/", HEXUPPER.encode(&key)),
                ("/base64/", BASE64.encode(&key)),
            ] {
                let file = format!("/key/swarm/psk/1.0.0/{end}{encoding}{end}{text}{last}");
                assert_eq!(
                    PreSharedKey::from_file(file.as_bytes()),
                    Ok(PreSharedKey::from_bytes(key)),
                    "{file:?}"
                );
            }
        }
        for last in ["", end] {
            let head = format!("/key/swarm/psk/1.0.0/{end}/bin/{end}");
            let file = [head.as_bytes(), &key, last.as_bytes()].concat();
            assert_eq!(PreSharedKey::from_file(&file), Ok(PreSharedKey::from_bytes(key)));
        }
    }
}

#[test]
fn a_wrong_file_is_told_by_its_line() {
    let head = "/key/swarm/psk/1.0.0/\n";
    let digits = |n: usize| "f".repeat(n);
    for (file, error) in [
        (String::new(), KeyError::Header),
        ("/key/swarm/psk/2.0.0/\n/base16/\n".to_owned(), KeyError::Header),
        (format!(" {head}"), KeyError::Header),
        (head.to_owned(), KeyError::Encoding),
        (format!("{head}/verybadbase/\nHave fun decoding that key"), KeyError::Encoding),
        (format!("{head}/base16/\n"), KeyError::Length { len: 0 }),
        (format!("{head}/base16/\n{}", digits(62)), KeyError::Length { len: 31 }),
        (format!("{head}/base16/\n{}", digits(66)), KeyError::Length { len: 33 }),
        (format!("{head}/base16/\n{}", digits(63)), KeyError::Digits("base16")),
        (format!("{head}/base16/\n{}g", digits(63)), KeyError::Digits("base16")),
        (format!("{head}/base64/\n{}", digits(43)), KeyError::Digits("base64")),
        (format!("{head}/base16/\n{}\nmore", digits(64)), KeyError::Trailing),
        (format!("{head}/bin/\n{}", digits(31)), KeyError::Length { len: 31 }),
        (format!("{head}/bin/\n{}", digits(33)), KeyError::Length { len: 33 }),
        (" ".repeat(MAX_FILE_LEN), KeyError::Header),
        (" ".repeat(MAX_FILE_LEN + 1), KeyError::TooLong { len: MAX_FILE_LEN + 1 }),
    ] {
        assert_eq!(PreSharedKey::from_file(file.as_bytes()), Err(error), "{file:?}");
    }
    let error = KeyError::Digits("base16").to_string();
    assert_eq!(error, "line 3: not base16");
}

/// A socket that moves at most so many bytes at once, and says that it is not ready every other time.
struct Dripping {
    io: DuplexStream,
    at_once: usize,
    ready: [bool; 2],
}

impl Dripping {
    fn is_ready(&mut self, way: usize, cx: &mut Context<'_>) -> bool {
        self.ready[way] = !self.ready[way];
        if !self.ready[way] {
            cx.waker().wake_by_ref();
        }
        self.ready[way]
    }
}

impl AsyncRead for Dripping {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_ready(0, cx) {
            return Poll::Pending;
        }
        let mut part = vec![0; self.at_once.min(buf.remaining())];
        let mut part = ReadBuf::new(&mut part);
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut part);
        buf.put_slice(part.filled());
        polled
    }
}

impl AsyncWrite for Dripping {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.is_ready(1, cx) {
            return Poll::Pending;
        }
        let part = &buf[..buf.len().min(self.at_once)];
        Pin::new(&mut self.io).poll_write(cx, part)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), data: &[u8], sizes: &[usize]) {
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

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_sizes_in_both_directions_whatever_the_socket_takes(
        len in 0..20_000usize,
        pipe in 1..3000usize,
        at_once in prop_oneof![Just(1usize), 1..40usize, 1..5000usize],
        sizes in proptest::collection::vec(1..9000usize, 1..8),
    ) {
        let data = pattern(len);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (a, b) = tokio::io::duplex(pipe);
            let [a, b] = [a, b].map(|io| {
                PnetStream::new(Dripping { io, at_once, ready: [false; 2] }, &key(1)).unwrap()
            });
            let ((mut ar, mut aw), (mut br, mut bw)) = (tokio::io::split(a), tokio::io::split(b));
            let ((), there, (), back) = tokio::join!(
                send(&mut aw, &data, &sizes), receive(&mut br), send(&mut bw, &data, &sizes), receive(&mut ar),
            );
            assert!(there == data && back == data);
        });
    }
}

#[tokio::test]
async fn more_than_is_kept_for_the_socket() {
    let (a, b) = tokio::io::duplex(10_000);
    let (mut a, mut b) = (PnetStream::new(a, &key(1)).unwrap(), PnetStream::new(b, &key(1)).unwrap());
    let data = pattern(3 * MAX_PENDING + 17);
    let ((), got) = tokio::join!(send(&mut a, &data, &[usize::MAX]), receive(&mut b));
    assert!(got == data);
}

#[tokio::test]
async fn a_peer_that_does_not_read_stops_the_writer_and_an_idle_stream_holds_little() {
    let (a, mut wire) = tokio::io::duplex(1000);
    let mut a = PnetStream::new(a, &key(1)).unwrap();
    let data = pattern(10_000);
    let mut accepted = 0;
    std::future::poll_fn(|cx| {
        loop {
            match Pin::new(&mut a).poll_write(cx, &data) {
                Poll::Ready(n) => accepted += n.unwrap(),
                Poll::Pending => return Poll::Ready(()),
            }
            assert!(accepted <= 2 * MAX_PENDING);
        }
    })
    .await;
    assert!(a.allocated() <= 2 * MAX_PENDING);
    let (flushed, read) = tokio::join!(a.flush(), async {
        let mut read = vec![0; NONCE + accepted];
        wire.read_exact(&mut read).await.map(|_| ())
    });
    flushed.unwrap();
    read.unwrap();
    assert!(a.allocated() <= KEEP, "{}", a.allocated());
}

#[tokio::test]
async fn the_nonce_leaves_even_if_nothing_is_written() {
    // A peer may wait for it before it says a word, even if its own has come already.
    for sends_first in [false, true] {
        let (a, mut wire) = tokio::io::duplex(1000);
        let mut a = PnetStream::new(a, &key(1)).unwrap();
        if sends_first {
            wire.write_all(&[7; NONCE]).await.unwrap();
        }
        let mut buf = [0; 1];
        tokio::select! {
            biased;
            _ = a.read(&mut buf) => panic!("nothing was said"),
            read = async { wire.read_exact(&mut [0; NONCE]).await } => assert_eq!(read.unwrap(), NONCE),
        };
    }
}

#[tokio::test]
async fn with_another_key_nothing_can_be_read() {
    let (a, b) = tokio::io::duplex(1000);
    let (mut a, mut b) = (PnetStream::new(a, &key(1)).unwrap(), PnetStream::new(b, &key(2)).unwrap());
    let data = pattern(500);
    let ((), got) = tokio::join!(send(&mut a, &data, &[500]), receive(&mut b));
    assert_eq!(got.len(), data.len());
    let same = got.iter().zip(&data).filter(|(got, sent)| got == sent).count();
    assert!(same < 50, "{same}");
}

#[tokio::test]
async fn a_peer_without_a_key_is_told_apart() {
    let (a, mut wire) = tokio::io::duplex(1000);
    let mut a = PnetStream::new(a, &key(1)).unwrap();
    for byte in b"\x13/multistream/1.0.0\n\x07/noise\n" {
        wire.write_all(&[*byte]).await.unwrap();
    }
    for _ in 0..2 {
        let error = a.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        assert_eq!(inner, Some(&Error::Plaintext));
    }
}

#[tokio::test]
async fn a_stream_may_end_at_any_byte_of_the_nonce() {
    for cut in 0..=NONCE {
        let (a, mut wire) = tokio::io::duplex(1000);
        let mut a = PnetStream::new(a, &key(1)).unwrap();
        wire.write_all(&[7; NONCE][..cut]).await.unwrap();
        wire.shutdown().await.unwrap();
        for _ in 0..2 {
            assert_eq!(a.read(&mut [0; 10]).await.unwrap(), 0, "{cut}");
        }
    }
}
