//! The tap alone: whatever the sizes of reads and writes, the same frames.

use std::sync::Arc;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _, Cursor};
use proptest::prelude::*;

use crate::yamux_crate::{
    Config, Mode,
    frame::{DATA, FIN, HEADER, Header, RST, SYN, WINDOW_UPDATE},
    max_frame,
    table::Link,
    tap::Tap,
};

fn frame(kind: u8, flags: u16, stream: u32, length: u32) -> Header {
    Header { version: 0, kind, flags, stream, length }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Headers and bodies as the other side of the tap has them, bodies of one stream joined.
fn parse(mut bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let header = Header::parse(*header);
        let (body, rest) = rest.split_at(header.body() as usize);
        frames.push((header, body.to_vec()));
        bytes = rest;
    }
    frames
}

fn wire(frames: &[(Header, Vec<u8>)]) -> Vec<u8> {
    frames.iter().flat_map(|(header, body)| [header.encode().to_vec(), body.clone()].concat()).collect()
}

fn tap(io: Cursor<Vec<u8>>) -> (Tap<Cursor<Vec<u8>>>, Arc<Link>) {
    let link = Arc::new(Link::new(Mode::Server));
    (Tap::new(io, Arc::clone(&link), max_frame(&Config::default())), link)
}

/// Of streams that the other side opened, which the tap leaves alone if it knows nothing of them.
fn frames() -> impl Strategy<Value = Vec<(Header, Vec<u8>)>> {
    let stream = (0..4u32).prop_map(|n| 2 * n + 1);
    let data = (0..16u16, stream.clone(), proptest::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(flags, stream, body)| (frame(DATA, flags, stream, body.len() as u32), body));
    let other = (1..3u8, 0..16u16, stream, any::<u32>())
        .prop_map(|(kind, flags, stream, length)| (frame(kind, flags, stream, length), Vec::new()));
    proptest::collection::vec(prop_oneof![data, other], 0..20)
}

proptest! {
    #[test]
    fn reading_in_any_sizes_shows_the_same_bytes(frames in frames(), sizes in proptest::collection::vec(1..40usize, 1..9)) {
        let bytes = wire(&frames);
        let (mut tap, _) = tap(Cursor::new(bytes.clone()));
        let read = block_on(async {
            let mut read = Vec::new();
            for size in sizes.iter().cycle() {
                tap.refill();
                let mut buf = vec![0; *size];
                match tap.read(&mut buf).await.unwrap() {
                    0 => break,
                    n => read.extend_from_slice(&buf[..n]),
                }
            }
            read
        });
        prop_assert_eq!(read, bytes);
    }

    #[test]
    fn writing_in_any_sizes_sends_the_same_frames(frames in frames(), sizes in proptest::collection::vec(1..40usize, 1..9)) {
        let bytes = wire(&frames);
        let (mut tap, _) = tap(Cursor::new(Vec::new()));
        block_on(async {
            let (mut sizes, mut rest) = (sizes.iter().cycle(), &bytes[..]);
            while !rest.is_empty() {
                tap.refill();
                let take = (*sizes.next().unwrap()).min(rest.len());
                let n = tap.write(&rest[..take]).await.unwrap();
                rest = &rest[n..];
            }
            std::future::poll_fn(|cx| tap.poll_flush_socket(cx)).await.unwrap();
        });
        let sent = tap.with_socket(|socket| socket.get_ref().clone());
        prop_assert_eq!(parse(&sent), frames);
    }
}

#[test]
fn a_long_frame_is_shown_in_pieces_that_open_and_end_once() {
    let body: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
    for flags in [0, SYN, FIN, SYN | FIN] {
        let (mut tap, link) = tap(Cursor::new(wire(&[(frame(DATA, flags, 1, 200_000), body.clone())])));
        let mut all = Vec::new();
        block_on(async {
            let mut buf = [0; 5000];
            loop {
                tap.refill();
                match tap.read(&mut buf).await.unwrap() {
                    0 => break,
                    n => all.extend_from_slice(&buf[..n]),
                }
            }
        });
        let pieces = parse(&all);
        assert_eq!(pieces.len(), 4);
        assert_eq!(pieces.iter().map(|(_, body)| body.len()).max(), Some(64 * 1024));
        assert_eq!(pieces.concat_bodies(), body);
        let syn: Vec<bool> = pieces.iter().map(|(header, _)| header.has(SYN)).collect();
        let fin: Vec<bool> = pieces.iter().map(|(header, _)| header.has(FIN)).collect();
        assert_eq!(syn, [flags & SYN != 0, false, false, false]);
        assert_eq!(fin, [false, false, false, flags & FIN != 0]);
        assert_eq!(link.entries(), usize::from(flags & SYN != 0));
    }
}

trait Bodies {
    fn concat_bodies(&self) -> Vec<u8>;
}

impl Bodies for Vec<(Header, Vec<u8>)> {
    fn concat_bodies(&self) -> Vec<u8> {
        self.iter().flat_map(|(_, body)| body.clone()).collect()
    }
}

#[test]
fn a_reset_with_a_code_is_a_window_update() {
    assert_eq!(Header::reset(3, 0), frame(DATA, RST, 3, 0));
    assert_eq!(Header::reset(3, 9), frame(WINDOW_UPDATE, RST, 3, 9));
}
