//! Noise frames: the stream of ours against snow's transport state, in one run.
//!
//! Ours pays for the whole way between the writer's bytes and the socket's, snow for its own copies and nothing else.
#![allow(clippy::unwrap_used)]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use divan::{Bencher, counter::BytesCount};
use peerage_core::Keypair;
use peerage_security::noise::{Config, Initiator, NoiseStream, Responder, Session};
use snow::TransportState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Plaintext of a frame; the last one is the longest there is.
const SIZES: [usize; 3] = [1024, 16 * 1024, 65519];

/// Bytes of each measurement, so that all sizes do the same work.
const TOTAL: usize = 1024 * 1024;

fn main() {
    divan::main();
}

fn sessions() -> (Session, Session) {
    let [alice, bob] = [1, 2].map(|seed| Config::new(&Keypair::from_ed25519_seed([seed; 32])).unwrap());
    let (initiator, message) = Initiator::start(&alice).unwrap();
    let (responder, message) = Responder::start(&bob).unwrap().read(&message).unwrap();
    let (one, message) = initiator.read(&message).unwrap();
    (one, responder.read(&message).unwrap())
}

fn snow_sessions() -> (TransportState, TransportState) {
    let builder = || snow::Builder::new("Noise_XX_25519_ChaChaPoly_SHA256".parse().unwrap());
    let [alice, bob] = [builder(), builder()].map(|builder| builder.generate_keypair().unwrap().private);
    let mut one = builder().local_private_key(&alice).unwrap().build_initiator().unwrap();
    let mut two = builder().local_private_key(&bob).unwrap().build_responder().unwrap();
    let (mut message, mut payload) = ([0; 200], [0; 200]);
    for turn in 0..3 {
        let (from, to) = if turn == 1 { (&mut two, &mut one) } else { (&mut one, &mut two) };
        let n = from.write_message(&[], &mut message).unwrap();
        to.read_message(&message[..n], &mut payload).unwrap();
    }
    (one.into_transport_mode().unwrap(), two.into_transport_mode().unwrap())
}

/// A socket of memory: it gives what it was given.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    at: usize,
    /// Throws away what it is given.
    sink: bool,
}

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let take = (self.bytes.len() - self.at).min(buf.remaining());
        buf.put_slice(&self.bytes[self.at..self.at + take]);
        self.at += take;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.sink {
            self.bytes.extend_from_slice(buf);
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Writes all of [`TOTAL`] in frames of `size`.
fn write(stream: &mut NoiseStream<Memory>, plain: &[u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..TOTAL / plain.len() {
        let mut rest = plain;
        while !rest.is_empty() {
            let Poll::Ready(n) = Pin::new(&mut *stream).poll_write(&mut cx, rest) else { unreachable!() };
            rest = &rest[n.unwrap()..];
        }
        // A frame ends here; whole ones end by themselves, and many go out at once.
        if plain.len() < 65519 {
            assert!(Pin::new(&mut *stream).poll_flush(&mut cx).is_ready());
        }
    }
    assert!(Pin::new(&mut *stream).poll_flush(&mut cx).is_ready());
}

fn of(size: usize) -> BytesCount {
    BytesCount::new(TOTAL / size * size)
}

#[divan::bench(args = SIZES)]
fn seal(bencher: Bencher<'_, '_>, size: usize) {
    let mut stream = sessions().0.stream(Memory { sink: true, ..Memory::default() });
    let plain = vec![7; size];
    bencher.counter(of(size)).bench_local(|| write(&mut stream, &plain));
}

#[divan::bench(args = SIZES)]
fn seal_snow(bencher: Bencher<'_, '_>, size: usize) {
    let (mut keys, _) = snow_sessions();
    let (plain, mut message) = (vec![7; size], vec![0; 65535]);
    bencher.counter(of(size)).bench_local(|| {
        for _ in 0..TOTAL / size {
            divan::black_box(keys.write_message(&plain, &mut message).unwrap());
        }
    });
}

#[divan::bench(args = SIZES)]
fn open(bencher: Bencher<'_, '_>, size: usize) {
    let (plain, mut read) = (vec![7; size], vec![0; 256 * 1024]);
    let input = || {
        // Each frame opens once, and so does each pair of keys.
        let (one, two) = sessions();
        let mut writer = one.stream(Memory::default());
        write(&mut writer, &plain);
        let sealed = Memory { bytes: writer.get_ref().bytes.clone(), ..Memory::default() };
        two.stream(sealed)
    };
    bencher.counter(of(size)).with_inputs(input).bench_local_refs(|stream| {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut buf = ReadBuf::new(&mut read);
            let Poll::Ready(result) = Pin::new(&mut *stream).poll_read(&mut cx, &mut buf) else {
                unreachable!()
            };
            result.unwrap();
            if buf.filled().is_empty() {
                break;
            }
        }
    });
}

#[divan::bench(args = SIZES)]
fn open_snow(bencher: Bencher<'_, '_>, size: usize) {
    let (plain, mut read) = (vec![7; size], vec![0; 65535]);
    let input = || {
        let (mut one, two) = snow_sessions();
        let frames: Vec<Vec<u8>> = (0..TOTAL / size)
            .map(|_| {
                let mut message = vec![0; size + 16];
                one.write_message(&plain, &mut message).unwrap();
                message
            })
            .collect();
        (two, frames)
    };
    bencher.counter(of(size)).with_inputs(input).bench_local_refs(|(keys, frames)| {
        for frame in frames {
            divan::black_box(keys.read_message(frame, &mut read).unwrap());
        }
    });
}

/// Both sides of a handshake, with the signatures of the identities.
#[divan::bench]
fn handshake(bencher: Bencher<'_, '_>) {
    bencher.bench_local(sessions);
}
