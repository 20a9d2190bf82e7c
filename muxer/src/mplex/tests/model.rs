//! Random operations on two engines that are wired together, against what streams are: two queues of bytes each.
#![allow(clippy::disallowed_methods, reason = "any instant will do")]

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;
use crate::mplex::{engine::Engine, frame::Key};

#[derive(Clone, Debug)]
enum Op {
    Open,
    Accept,
    Write(prop::sample::Index, usize),
    Read(prop::sample::Index, usize),
    Finish(prop::sample::Index),
    Release(prop::sample::Index),
    /// So many bytes on their way arrive.
    Deliver(usize),
}

fn ops() -> impl Strategy<Value = Vec<(bool, Op)>> {
    let index = any::<prop::sample::Index>;
    let op = prop_oneof![
        2 => Just(Op::Open),
        2 => Just(Op::Accept),
        4 => (index(), 1..3000_usize).prop_map(|(at, len)| Op::Write(at, len)),
        4 => (index(), 1..3000_usize).prop_map(|(at, len)| Op::Read(at, len)),
        1 => index().prop_map(Op::Finish),
        1 => index().prop_map(Op::Release),
        6 => (1..5000_usize).prop_map(Op::Deliver),
    ];
    proptest::collection::vec((any::<bool>(), op), 0..120)
}

/// What one side wrote to a stream, as the other will read it.
#[derive(Default)]
struct Sent {
    written: VecDeque<u8>,
    finished: bool,
    /// Either side gave it up.
    broken: bool,
}

struct Half {
    engine: Engine,
    keys: Vec<Key>,
    wire: VecDeque<u8>,
    next: u8,
}

proptest! {
    #[test]
    fn streams_are_what_was_written(ops in ops()) {
        let config = Config { stream_buffer: 4096, connection_buffer: 8192, ..Config::default() };
        let half = || Half {
            engine: Engine::new(config.clone(), Budget::unlimited()),
            keys: Vec::new(),
            wire: VecDeque::new(),
            next: 0,
        };
        let mut sides = [half(), half()];
        // By who sends, and by the stream as the sender knows it.
        let mut sent: BTreeMap<(usize, Key), Sent> = BTreeMap::new();
        let now = Instant::now();
        let there = |key: Key| Key { local: !key.local, ..key };
        for (which, op) in ops {
            let me = usize::from(which);
            let you = 1 - me;
            let side = &mut sides[me];
            let pick = |at: &prop::sample::Index| (!side.keys.is_empty()).then(|| side.keys[at.index(side.keys.len())]);
            match op {
                Op::Open => side.keys.extend(side.engine.open().unwrap()),
                Op::Accept => side.keys.extend(side.engine.accept().unwrap()),
                Op::Write(at, len) => if let Some(key) = pick(&at) {
                    let bytes: Vec<u8> = (0..len).map(|i| side.next.wrapping_add(i as u8)).collect();
                    let entry = sent.entry((me, key)).or_default();
                    match side.engine.write(key, &bytes) {
                        Ok(Some(n)) => {
                            side.next = side.next.wrapping_add(n as u8);
                            entry.written.extend(&bytes[..n]);
                        }
                        Ok(None) => {}
                        Err(_) => prop_assert!(entry.finished || entry.broken),
                    }
                },
                Op::Read(at, len) => if let Some(key) = pick(&at) {
                    let mut space = vec![0; len];
                    let mut buf = ReadBuf::new(&mut space);
                    let entry = sent.entry((you, there(key))).or_default();
                    match side.engine.read(key, &mut buf) {
                        Ok(Some(0)) => prop_assert!(entry.finished && entry.written.is_empty()),
                        Ok(Some(n)) => {
                            let expected: Vec<u8> = entry.written.drain(..n).collect();
                            prop_assert_eq!(buf.filled(), expected);
                        }
                        Ok(None) => {}
                        Err(_) => prop_assert!(entry.broken),
                    }
                },
                Op::Finish(at) => if let Some(key) = pick(&at) {
                    let entry = sent.entry((me, key)).or_default();
                    match side.engine.finish(key) {
                        Ok(()) => entry.finished = true,
                        Err(_) => prop_assert!(entry.broken),
                    }
                },
                Op::Release(at) => if let Some(key) = pick(&at) {
                    let code = (!sent.entry((me, key)).or_default().finished).then_some(ErrorCode::NONE);
                    side.keys.retain(|other| *other != key);
                    side.engine.release(key, code);
                    sent.entry((me, key)).or_default().broken = true;
                    sent.entry((you, there(key))).or_default().broken = true;
                },
                Op::Deliver(len) => {
                    let mut out = Vec::new();
                    sides[you].engine.poll_output(&mut out, len);
                    sides[me].wire.extend(out);
                    let side = &mut sides[me];
                    let len = len.min(side.wire.len());
                    let bytes: Vec<u8> = side.wire.iter().copied().take(len).collect();
                    let taken = side.engine.handle_input(&bytes, now).unwrap();
                    side.wire.drain(..taken);
                    prop_assert!(side.engine.unread() <= 8192);
                }
            }
        }
    }

    /// However the bytes are cut, the same comes of them.
    #[test]
    fn cuts_do_not_matter(
        frames in proptest::collection::vec((0..4_u64, 0..7_u64, proptest::collection::vec(any::<u8>(), 0..200)), 0..30),
        cuts in proptest::collection::vec(1..50_usize, 1..60),
    ) {
        let mut bytes = Vec::new();
        for (id, flag, body) in frames {
            peerage_core::varint::encode(id << 3 | flag, &mut bytes);
            peerage_core::varint::encode(body.len() as u64, &mut bytes);
            bytes.extend(body);
        }
        let now = Instant::now();
        let outcome = |pieces: Vec<&[u8]>| {
            let mut engine = Engine::new(Config::default(), Budget::unlimited());
            let result = pieces.into_iter().try_for_each(|piece| engine.handle_input(piece, now).map(|_| ()));
            let mut out = Vec::new();
            engine.poll_output(&mut out, usize::MAX);
            (result, out, engine.entries(), engine.unread(), engine.live())
        };
        let whole = outcome(vec![&bytes]);
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, next) = rest.split_at(rest.len().min(*cut));
            pieces.push(piece);
            rest = next;
        }
        prop_assert_eq!(outcome(pieces), whole);
    }

    #[test]
    fn strangers_bytes(bytes: Vec<u8>) {
        let mut engine = Engine::new(Config::default(), Budget::unlimited());
        let _ = engine.handle_input(&bytes, Instant::now());
    }
}
