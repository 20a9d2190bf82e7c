//! Two engines, a wire that tears bytes apart, and operations at random. The model of a direction of a stream is what
//! was written to it, and how that ended.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Open,
    Accept,
    Write {
        pick: usize,
        len: usize,
    },
    Read {
        pick: usize,
        len: usize,
    },
    Finish(usize),
    Drop(usize),
    Reset(usize),
    /// Makes frames, up to so many bytes of them.
    Send(usize),
    /// Lets so many bytes arrive.
    Deliver(usize),
    Sleep(u16),
}

fn op() -> impl Strategy<Value = (bool, Op)> {
    let pick = 0..1000usize;
    let op = prop_oneof![
        2 => Just(Op::Open),
        3 => Just(Op::Accept),
        6 => (pick.clone(), 0..40_000usize).prop_map(|(pick, len)| Op::Write { pick, len }),
        6 => (pick.clone(), 1..200_000usize).prop_map(|(pick, len)| Op::Read { pick, len }),
        1 => pick.clone().prop_map(Op::Finish),
        1 => pick.clone().prop_map(Op::Drop),
        1 => pick.prop_map(Op::Reset),
        6 => (1..300_000usize).prop_map(Op::Send),
        6 => (1..300_000usize).prop_map(Op::Deliver),
        1 => any::<u16>().prop_map(Op::Sleep),
    ];
    (any::<bool>(), op)
}

/// One direction of a stream, as its writer and reader know it.
#[derive(Default)]
struct Direction {
    written: Vec<u8>,
    finished: bool,
    read: usize,
    ended: bool,
}

struct World {
    sides: [Side; 2],
    /// From each side to the other.
    wires: [Vec<u8>; 2],
    /// Handles of each side.
    handles: [Vec<u32>; 2],
    /// By stream and writing side.
    directions: BTreeMap<(u32, usize), Direction>,
    /// Streams that somebody gave up.
    broken: BTreeMap<u32, bool>,
    bytes: u8,
}

impl World {
    fn new(config: Config) -> Self {
        let side = |mode| Side::new(mode, config.clone(), Budget::limited(4 << 20));
        Self {
            sides: [side(Mode::Client), side(Mode::Server)],
            wires: Default::default(),
            handles: Default::default(),
            directions: BTreeMap::new(),
            broken: BTreeMap::new(),
            bytes: 0,
        }
    }

    fn pick(&self, me: usize, pick: usize) -> Option<u32> {
        let handles = &self.handles[me];
        (!handles.is_empty()).then(|| handles[pick % handles.len()])
    }

    fn apply(&mut self, me: usize, op: Op) {
        match op {
            Op::Open => {
                if let Some(id) = self.sides[me].engine.open().unwrap() {
                    self.handles[me].push(id);
                }
            }
            Op::Accept => {
                if let Some(id) = self.sides[me].engine.accept().unwrap() {
                    self.handles[me].push(id);
                }
            }
            Op::Write { pick, len } => {
                let Some(id) = self.pick(me, pick) else { return };
                let data: Vec<u8> =
                    (0..len).map(|i| (i as u8).wrapping_mul(3).wrapping_add(self.bytes)).collect();
                self.bytes = self.bytes.wrapping_add(1);
                let direction = self.directions.entry((id, me)).or_default();
                match self.sides[me].engine.write(id, &data) {
                    Ok(n) => direction.written.extend(&data[..n.unwrap_or(0)]),
                    Err(StreamError::WriteClosed) => assert!(direction.finished),
                    Err(error) => self.assert_broken(id, &error),
                }
            }
            Op::Read { pick, len } => {
                if let Some(id) = self.pick(me, pick) {
                    self.read(me, id, len);
                }
            }
            Op::Finish(pick) => {
                let Some(id) = self.pick(me, pick) else { return };
                match self.sides[me].engine.finish(id) {
                    Ok(()) => self.directions.entry((id, me)).or_default().finished = true,
                    Err(error) => self.assert_broken(id, &error),
                }
            }
            Op::Drop(pick) => self.release(me, pick, None),
            Op::Reset(pick) => self.release(me, pick, Some(ErrorCode(9))),
            Op::Send(limit) => {
                let mut out = super::Frames::default();
                let side = &mut self.sides[me];
                side.engine.poll_output(&mut out, limit, side.now);
                self.wires[me].extend_from_slice(&out.to_vec());
            }
            Op::Deliver(len) => {
                let len = len.min(self.wires[1 - me].len());
                let bytes = self.wires[1 - me][..len].to_vec();
                let taken = self.sides[me].input(&bytes).expect("two of ours understand each other");
                self.wires[1 - me].drain(..taken);
            }
            Op::Sleep(ms) => {
                for side in &mut self.sides {
                    side.now += Duration::from_millis(ms.into());
                }
            }
        }
        self.sides[me].engine.check();
        while self.sides[me].engine.poll_event().is_some() {}
    }

    fn release(&mut self, me: usize, pick: usize, code: Option<ErrorCode>) {
        let Some(id) = self.pick(me, pick) else { return };
        self.handles[me].retain(|other| *other != id);
        self.sides[me].engine.release(id, code);
        // Even one that was closed in order: the peer may be told that nobody reads it any more.
        self.broken.insert(id, true);
    }

    fn read(&mut self, me: usize, id: u32, len: usize) -> bool {
        let result = self.sides[me].read(id, len);
        let direction = self.directions.entry((id, 1 - me)).or_default();
        match result {
            Ok(None) => false,
            Ok(Some(bytes)) if bytes.is_empty() => {
                assert!(direction.finished && direction.read == direction.written.len(), "a false end");
                direction.ended = true;
                false
            }
            Ok(Some(bytes)) => {
                let from = direction.read;
                direction.read += bytes.len();
                assert!(bytes == direction.written[from..direction.read]);
                true
            }
            Err(error) => {
                self.assert_broken(id, &error);
                false
            }
        }
    }

    fn assert_broken(&self, id: u32, error: &StreamError) {
        let memory = |code: &ErrorCode| *code == ErrorCode::RESOURCE_LIMIT_EXCEEDED;
        match error {
            StreamError::ResetLocally(code) | StreamError::ResetByPeer(code) if memory(code) => {}
            StreamError::ResetByPeer(_) => {
                assert!(self.broken.contains_key(&id), "stream {id} was not given up")
            }
            error => panic!("{error}"),
        }
    }

    /// Lets everything arrive and be read that can be.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut moved = false;
            for me in [0, 1] {
                self.apply(me, Op::Send(usize::MAX));
                moved |= !self.wires[1 - me].is_empty();
                self.apply(me, Op::Deliver(usize::MAX));
                let before = self.handles[me].len();
                self.apply(me, Op::Accept);
                moved |= self.handles[me].len() > before;
                for id in self.handles[me].clone() {
                    while self.read(me, id, 1 << 20) {
                        moved = true;
                    }
                }
                moved |= self.sides[me].engine.has_output();
            }
            // What one side has said before it heard the other.
            moved |= self.wires.iter().any(|wire| !wire.is_empty());
            if !moved {
                return;
            }
        }
        panic!("it never comes to rest");
    }
}

fn run(config: Config, ops: Vec<(bool, Op)>) {
    let mut world = World::new(config);
    for (side, op) in ops {
        world.apply(usize::from(side), op);
    }
    world.settle();
    // What nobody gave up has arrived, all of it, and no end that was not sent.
    for ((id, writer), direction) in &world.directions {
        let alive =
            world.handles.iter().all(|handles| handles.contains(id)) && !world.broken.contains_key(id);
        let refused = world.sides.iter_mut().any(|side| side.engine.writable(*id).is_err());
        if alive && !refused {
            assert_eq!(direction.read, direction.written.len(), "stream {id} of side {writer}");
            assert_eq!(direction.ended, direction.finished);
        }
    }
    // And when all handles are gone, nothing is left.
    for me in [0, 1] {
        while !world.handles[me].is_empty() {
            world.apply(me, Op::Reset(0));
        }
    }
    world.settle();
    for me in [0, 1] {
        while !world.handles[me].is_empty() {
            world.apply(me, Op::Reset(0));
        }
    }
    world.settle();
    for side in &world.sides {
        assert_eq!((side.engine.inbound(), side.engine.outbound(), side.engine.growth()), (0, 0, 0));
        assert_eq!(side.engine.entries(), side.engine.lingering());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn streams_carry_what_was_written_whatever_happens(ops in proptest::collection::vec(op(), 0..300)) {
        run(Config::default(), ops);
    }

    #[test]
    fn streams_carry_what_was_written_under_small_limits(
        ops in proptest::collection::vec(op(), 0..300),
        max_frame in 1..5000u32,
    ) {
        run(
            Config {
                max_inbound_streams: 3,
                max_outbound_streams: 5,
                accept_backlog: 2,
                window_growth: 300_000,
                max_frame,
                ..Config::default()
            },
            ops,
        );
    }

    /// No sequence of frames brings the engine down, or beyond its bounds.
    #[test]
    fn any_frames_are_survived(
        frames in proptest::collection::vec(
            (0..5u8, any::<u16>(), 0..12u32, prop_oneof![0..70_000u32, any::<u32>()], 0..4u8),
            0..200,
        ),
        client in any::<bool>(),
    ) {
        let mode = if client { Mode::Client } else { Mode::Server };
        let mut side = Side::new(mode, Config::default(), Budget::limited(1 << 20));
        let mut handles = Vec::new();
        for (kind, flags, stream, length, then) in frames {
            let header = Header::new(kind, flags, stream, length);
            let mut bytes = header.encode().to_vec();
            if header.body() < 70_000 {
                bytes.resize(HEADER + header.body() as usize, 1);
            }
            match side.input(&bytes) {
                Ok(_) => {}
                Err(_) => break,
            }
            match then {
                0 => handles.extend(side.engine.accept().unwrap()),
                1 => handles.extend(side.engine.open().unwrap()),
                2 => for id in &handles {
                    let _ = (side.read(*id, 1000), side.engine.write(*id, &[0; 1000]));
                },
                _ => if let Some(id) = handles.pop() {
                    side.engine.release(id, None);
                },
            }
            side.output();
            while side.engine.poll_event().is_some() {}
        }
    }
}
