//! The engine alone: two of them with a wire of bytes between, and one with frames made by hand.

mod model;
mod windows;

use std::time::{Duration, Instant};

use bytes::BufMut as _;
use peerage_core::budget::Budget;

use super::{Engine, Frames, NEAR, Violation};
use crate::{
    ConnectionError, ErrorCode, StreamError,
    yamux::{
        Config, INITIAL_WINDOW, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Mode,
        frame::{ACK, DATA, FIN, HEADER, Header, PING, RST, SYN, WINDOW_UPDATE},
    },
};

/// An engine, its time, and what it wants to say.
struct Side {
    engine: Engine,
    now: Instant,
}

impl Side {
    fn new(mode: Mode, config: Config, budget: Budget) -> Self {
        #[allow(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        Self { engine: Engine::new(mode, config, budget, now), now }
    }

    fn server() -> Self {
        Self::new(Mode::Server, Config::default(), Budget::unlimited())
    }

    fn input(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let taken = self.engine.handle_input(bytes, self.now);
        if taken.is_ok() {
            self.engine.check();
        }
        taken
    }

    fn frame(&mut self, kind: u8, flags: u16, stream: u32, length: u32) -> Result<(), Violation> {
        let bytes = Header::new(kind, flags, stream, length).encode();
        assert_eq!(self.input(&bytes)?, HEADER);
        Ok(())
    }

    fn data(&mut self, flags: u16, stream: u32, body: &[u8]) -> Result<(), Violation> {
        self.frame(DATA, flags, stream, body.len() as u32)?;
        assert_eq!(self.input(body)?, body.len());
        Ok(())
    }

    fn output(&mut self) -> Vec<u8> {
        let mut out = Frames::default();
        self.engine.poll_output(&mut out, usize::MAX, self.now);
        self.engine.check();
        out.to_vec()
    }

    fn frames(&mut self) -> Vec<(Header, Vec<u8>)> {
        let bytes = self.output();
        let (mut frames, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((header, later)) = rest.split_first_chunk::<HEADER>() {
            let header = Header::parse(*header);
            let (body, later) = later.split_at(header.body() as usize);
            frames.push((header, body.to_vec()));
            rest = later;
        }
        assert!(rest.is_empty());
        frames
    }

    /// Without pings, which are sent when it is their time.
    fn answers(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut frames = self.frames();
        frames.retain(|(header, _)| (header.kind, header.flags) != (PING, SYN));
        frames
    }

    fn headers(&mut self) -> Vec<Header> {
        self.frames().into_iter().map(|(header, _)| header).collect()
    }

    fn open(&mut self) -> u32 {
        self.engine.open().unwrap().expect("there is room")
    }

    fn accept(&mut self) -> u32 {
        self.engine.accept().unwrap().expect("a stream")
    }

    /// Up to `most` bytes; `None` to wait.
    fn read(&mut self, id: u32, most: usize) -> Result<Option<Vec<u8>>, StreamError> {
        let mut bytes = Vec::new();
        let n = self.engine.read(id, &mut (&mut bytes).limit(most))?;
        assert_eq!(n.unwrap_or(0), bytes.len());
        Ok(n.map(|_| bytes))
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn the_first_data_carries_syn_and_its_answer_ack() {
    let mut client = Side::new(Mode::Client, Config::default(), Budget::unlimited());
    let mut server = Side::server();
    let id = client.open();
    assert!(client.output().is_empty(), "an unused stream is not announced");
    assert_eq!(client.engine.write(id, b"hi").unwrap(), Some(2));
    let bytes = client.output();
    assert_eq!(bytes, [&Header::new(DATA, SYN, 1, 2).encode()[..], b"hi"].concat());
    server.input(&bytes).unwrap();
    let theirs = server.accept();
    assert!(server.read(theirs, 9).unwrap().is_some() && server.output().is_empty(), "acknowledged lazily");
    server.engine.write(theirs, b"yo").unwrap();
    server.engine.finish(theirs).unwrap();
    assert_eq!(server.headers(), [Header::new(DATA, ACK, 1, 2), Header::new(DATA, FIN, 1, 0)]);
}

#[test]
fn a_stream_that_is_only_read_announces_itself() {
    let mut client = Side::new(Mode::Client, Config::default(), Budget::unlimited());
    let id = client.open();
    assert_eq!(client.read(id, 1).unwrap(), None);
    assert_eq!(client.headers(), [Header::syn(1)]);
    client.read(id, 1).unwrap();
    assert!(client.output().is_empty());
}

#[test]
fn ids_end_before_they_wrap() {
    for (mode, last) in [(Mode::Client, u32::MAX), (Mode::Server, u32::MAX - 1)] {
        let mut side = Side::new(mode, Config::default(), Budget::unlimited());
        side.engine.set_next_id(last);
        assert_eq!(side.open(), last);
        assert!(matches!(side.engine.open(), Err(ConnectionError::Exhausted)));
    }
}

#[test]
fn two_hundred_and_fifty_six_streams_may_be_unacknowledged() {
    let mut client = Side::new(Mode::Client, Config::default(), Budget::unlimited());
    let ids: Vec<u32> = (0..super::MAX_UNACKNOWLEDGED).map(|_| client.open()).collect();
    assert_eq!(client.engine.open().unwrap(), None);
    for id in &ids {
        client.engine.write(*id, b"x").unwrap();
    }
    client.output();
    assert_eq!(client.engine.open().unwrap(), None);
    // An answer makes room, with the flag, or without it.
    client.frame(WINDOW_UPDATE, ACK, ids[0], 0).unwrap();
    client.open();
    client.data(0, ids[1], b"late").unwrap();
    client.open();
    client.frame(DATA, RST, ids[2], 0).unwrap();
    client.open();
    client.engine.release(ids[3], None);
    client.open();
    assert_eq!(client.engine.open().unwrap(), None);
}

#[test]
fn input_may_come_in_any_pieces() {
    let mut wire = Vec::new();
    for i in 0..20u32 {
        let body = pattern(i as usize * 7);
        wire.extend(Header::new(DATA, SYN, 2 * i + 1, body.len() as u32).encode());
        wire.extend(&body);
        wire.extend(Header::new(PING, SYN, 0, i).encode());
        wire.extend(Header::new(DATA, FIN, 2 * i + 1, 3).encode());
        wire.extend(b"end");
        wire.extend(Header::new(WINDOW_UPDATE, if i % 3 == 0 { RST } else { 0 }, 2 * i + 1, 5).encode());
    }
    let run = |piece: usize| {
        let mut side = Side::server();
        let (mut rest, mut said) = (&wire[..], Vec::new());
        while !rest.is_empty() {
            let taken = side.input(&rest[..piece.min(rest.len())]).unwrap();
            rest = &rest[taken..];
            said.extend(side.answers());
        }
        let mut read = Vec::new();
        while let Some(id) = side.engine.accept().unwrap() {
            read.push((id, side.read(id, 1 << 20).unwrap()));
        }
        (said, read)
    };
    let whole = run(usize::MAX);
    assert_eq!(whole.0.len(), 20);
    for piece in (1..40).chain([100, 1000]) {
        assert_eq!(run(piece), whole, "{piece}");
    }
}

/// CVE-2026-31814, and rust-yamux 228: by what sums ever, credit does not overflow.
#[test]
fn cve_2026_31814_credit_that_overflows_is_a_violation() {
    for credit in [u32::MAX - INITIAL_WINDOW + 1, 1 << 31, 0xFFFF_0000, u32::MAX] {
        let fits = credit <= u32::MAX - INITIAL_WINDOW;
        let mut side = Side::server();
        side.frame(WINDOW_UPDATE, SYN, 1, 0).unwrap();
        assert_eq!(side.frame(WINDOW_UPDATE, 0, 1, credit).is_ok(), fits);
        if fits {
            assert_eq!(
                side.frame(WINDOW_UPDATE, 0, 1, credit),
                Err(Violation::Credit { id: 1, length: credit })
            );
        }
        let mut side = Side::server();
        assert_eq!(side.frame(WINDOW_UPDATE, SYN, 1, credit).is_ok(), fits);
        assert_eq!(side.engine.entries(), usize::from(fits), "refused before there is a stream");
    }
}

/// CVE-2026-32314: refused before there is a stream.
#[test]
fn cve_2026_32314_a_first_frame_over_the_window_leaves_no_stream() {
    let mut side = Side::server();
    side.data(SYN, 1, &pattern(INITIAL_WINDOW as usize)).unwrap();
    for length in [INITIAL_WINDOW + 1, 1 << 24, (1 << 24) + 1, 1 << 31, u32::MAX] {
        let mut side = Side::server();
        assert!(matches!(side.frame(DATA, SYN, 1, length), Err(Violation::Window { .. })));
        assert_eq!(side.engine.entries(), 0);
    }
}

/// CVE-2026-73568: a length is believed only within the window, on every stream, also on one that is not there.
#[test]
fn cve_2026_73568_lengths_are_checked_in_the_header() {
    for length in [1u32 << 31, u32::MAX] {
        for (flags, stream) in [(0, 1), (0, 3), (0, 2), (FIN, 1), (RST, 1), (SYN, 5), (RST, 77)] {
            let mut side = Side::server();
            side.data(SYN, 1, b"").unwrap();
            assert!(matches!(side.frame(DATA, flags, stream, length), Err(Violation::Window { .. })));
        }
    }
    // Not one byte over the window, and the last one within it.
    let mut side = Side::server();
    side.data(SYN, 1, &pattern(INITIAL_WINDOW as usize - 1)).unwrap();
    side.data(0, 1, b"x").unwrap();
    assert_eq!(side.frame(DATA, 0, 1, 1), Err(Violation::Window { id: 1, length: 1, credit: 0 }));
}

/// CVE-2024-32984: pings to which the answer cannot be sent.
#[test]
fn cve_2024_32984_a_few_pongs_wait_and_then_nothing_is_read() {
    let mut side = Side::server();
    let ping = Header::new(PING, SYN, 0, 7).encode();
    let pings = ping.repeat(100);
    for _ in 0..3 {
        assert_eq!(side.input(&pings).unwrap(), super::MAX_PONGS * HEADER);
        assert_eq!(side.input(&ping).unwrap(), 0);
        assert_eq!(side.headers(), [Header::new(PING, ACK, 0, 7); super::MAX_PONGS]);
    }
}

/// Two busy sides that ask each other for the round trip do not stop each other.
#[test]
fn a_single_ping_does_not_stop_reading() {
    let mut side = Side::server();
    side.frame(PING, SYN, 0, 7).unwrap();
    side.data(SYN, 1, b"more").unwrap();
}

#[test]
fn refusals_that_cannot_be_sent_stop_reading() {
    let config = Config { accept_backlog: 1, ..Config::default() };
    let mut side = Side::new(Mode::Server, config, Budget::unlimited());
    let mut taken = 0u32;
    while side.input(&Header::new(DATA, SYN, 2 * taken + 1, 0).encode()).unwrap() == HEADER {
        taken += 1;
        assert!(taken < 10_000);
    }
    assert_eq!(taken as usize, 1 + super::MAX_REFUSALS);
    assert_eq!(side.frames().len(), super::MAX_REFUSALS);
    assert!(side.engine.wants_input());
}

#[test]
fn frames_that_no_honest_peer_sends_are_violations() {
    use Violation::*;
    let header = |version, kind, flags, stream| Header { version, kind, flags, stream, length: 0 };
    for (frame, violation) in [
        (header(1, DATA, 0, 1), Version(1)),
        (header(255, 9, 0, 1), Version(255)),
        (header(0, 4, 0, 0), Kind(4)),
        (header(0, 255, 0, 0), Kind(255)),
        (header(0, DATA, SYN, 0), StreamZero),
        (header(0, WINDOW_UPDATE, 0, 0), StreamZero),
        (header(0, DATA, SYN, 2), Parity(2)),
        (header(0, WINDOW_UPDATE, SYN, u32::MAX - 1), Parity(u32::MAX - 1)),
        (header(0, DATA, SYN, 1), Reused(1)),
        (header(0, WINDOW_UPDATE, SYN, 1), Reused(1)),
    ] {
        let mut side = Side::server();
        side.data(SYN, 1, b"").unwrap();
        assert_eq!(side.input(&frame.encode()), Err(violation));
    }
}

#[test]
fn an_id_is_not_used_again_while_its_first_life_is_not_over_for_the_peer() {
    let mut side = Side::server();
    side.data(SYN, 1, b"").unwrap();
    let id = side.accept();
    side.engine.release(id, None);
    assert_eq!(side.headers(), [Header::reset(1, 0)]);
    assert_eq!(side.data(SYN, 1, b""), Err(Violation::Reused(1)));
}

#[test]
fn unknown_flags_are_ignored() {
    let mut side = Side::server();
    side.data(SYN | 0xFFF0, 1, b"x").unwrap();
    let id = side.accept();
    assert_eq!(side.read(id, 9).unwrap().unwrap(), b"x");
}

#[test]
fn every_code_of_go_away_is_an_end() {
    for code in [0, 1, 2, 3, 0x1006, u32::MAX] {
        let mut side = Side::server();
        side.data(SYN, 1, b"last").unwrap();
        let id = side.accept();
        side.frame(3, 0xFFFF, 77, code).unwrap();
        assert_eq!(side.engine.farewell(), Some(ErrorCode(code)));
        // Whatever comes after it.
        assert_eq!(side.input(&[0xFF; 100]).unwrap(), 0);
        side.engine.end(ConnectionError::ClosedByPeer(ErrorCode(code)));
        assert_eq!(side.read(id, 9).unwrap().unwrap(), b"last");
        assert!(matches!(side.read(id, 9), Err(StreamError::Connection(_))));
    }
}

/// S6: resets, and frames for what is not there, are counted; the limit is exact.
#[test]
fn so_many_strays_and_not_one_more() {
    let max = Config::default().max_strays as u32;
    type Kind = fn(&mut Side, u32) -> Result<(), Violation>;
    let kinds: [Kind; 5] = [
        |side, i| {
            side.data(SYN, 2 * i + 1, b"x")?;
            side.frame(DATA, RST, 2 * i + 1, 0)
        },
        |side, i| side.frame(WINDOW_UPDATE, 0, 2 * i + 1, 1),
        |side, i| side.data(0, 2 * i + 2, b"x"),
        |side, i| side.data(FIN, 2 * i + 1, b""),
        |side, i| side.frame(PING, ACK, 0, i),
    ];
    for kind in kinds {
        let mut side = Side::server();
        for i in 0..max {
            kind(&mut side, i).unwrap();
        }
        assert_eq!(kind(&mut side, max), Err(Violation::Strays));
        // The same over a longer time is nobody's loss.
        let mut side = Side::server();
        for i in 0..3 * max {
            kind(&mut side, i).unwrap();
            side.now += Duration::from_millis(11);
        }
        assert_eq!(side.engine.entries(), 0);
    }
}

#[test]
fn what_was_on_its_way_to_a_stream_that_was_given_up_is_no_stray() {
    let mut side = Side::server();
    side.data(SYN, 1, b"").unwrap();
    let id = side.accept();
    side.engine.release(id, None);
    for _ in 0..INITIAL_WINDOW / 100 {
        side.data(0, 1, &[0; 100]).unwrap();
    }
    side.frame(WINDOW_UPDATE, 0, 1, 100).unwrap();
    side.data(FIN, 1, b"").unwrap();
    side.data(SYN | FIN, 3, b"alive").unwrap();
    let id = side.accept();
    assert_eq!(side.read(id, 9).unwrap().unwrap(), b"alive");
}

/// S7: windows of nothing and of one byte.
#[test]
fn a_window_that_stays_shut_stalls_its_stream_only() {
    let mut side = Side::server();
    side.data(SYN, 1, b"").unwrap();
    side.data(SYN, 3, b"").unwrap();
    let (shut, open) = (side.accept(), side.accept());
    let mut sent = 0;
    while let Some(n) = side.engine.write(shut, &pattern(10_000)).unwrap() {
        sent += n;
        side.output();
    }
    assert!(sent >= INITIAL_WINDOW as usize);
    assert!(side.output().is_empty());
    for _ in 0..100 {
        side.engine.write(open, b"still here").unwrap();
        side.frame(WINDOW_UPDATE, 0, 1, 1).unwrap();
        let frames = side.headers();
        assert_eq!(frames.len(), 2);
        assert!(frames.contains(&Header::new(DATA, 0, 1, 1)));
    }
}

#[test]
fn many_streams_get_one_frame_each_in_turn() {
    let config = Config { max_frame: 1000, ..Config::default() };
    let mut client = Side::new(Mode::Client, config, Budget::unlimited());
    for _ in 0..4 {
        let id = client.open();
        client.engine.write(id, &pattern(3000)).unwrap();
    }
    let order: Vec<(u32, u32)> = client.headers().iter().map(|h| (h.stream, h.length)).collect();
    let round = [(1, 1000), (3, 1000), (5, 1000), (7, 1000)];
    assert_eq!(order, round.repeat(3));
}

#[test]
fn a_stream_without_memory_is_reset_and_the_connection_lives() {
    let budget = Budget::limited(50_000);
    let mut side = Side::new(Mode::Server, Config::default(), budget.clone());
    side.data(SYN, 1, b"small").unwrap();
    side.data(SYN, 3, &pattern(200_000)).unwrap();
    let (small, large) = (side.accept(), side.accept());
    let reset = Header::reset(3, ErrorCode::RESOURCE_LIMIT_EXCEEDED.0);
    assert_eq!(side.answers(), [(reset, Vec::new())]);
    let error = side.read(large, 9).unwrap_err();
    assert!(matches!(error, StreamError::ResetLocally(ErrorCode::RESOURCE_LIMIT_EXCEEDED)), "{error:?}");
    side.data(0, 3, &pattern(1000)).unwrap();
    side.engine.release(large, None);
    assert_eq!(side.read(small, 9).unwrap().unwrap(), b"small");
    drop(budget.reserve(50_000).expect("all was given back"));
}

#[test]
fn what_was_written_before_a_reset_goes_before_it_as_far_as_the_window_allows() {
    let mut side = Side::server();
    side.data(SYN, 1, b"").unwrap();
    side.data(SYN, 3, b"").unwrap();
    let (one, two) = (side.accept(), side.accept());
    side.engine.write(one, b"why").unwrap();
    side.engine.release(one, Some(ErrorCode(5)));
    assert_eq!(side.engine.inbound(), 2, "it counts until its end is sent");
    assert_eq!(side.headers(), [Header::new(DATA, ACK, 1, 3), Header::reset(1, 5)]);
    for _ in 0..3 {
        side.engine.write(two, &pattern(100_000)).unwrap();
        side.output();
    }
    side.engine.finish(two).unwrap();
    side.engine.release(two, Some(ErrorCode(6)));
    assert_eq!(side.headers(), [Header::reset(3, 6)]);
    assert_eq!(side.engine.entries(), 0);
}

#[test]
fn writes_wait_for_memory_beyond_what_is_guaranteed() {
    let mut side = Side::new(Mode::Client, Config::default(), Budget::limited(0));
    let id = side.open();
    assert_eq!(side.engine.write(id, &pattern(10_000)).unwrap(), Some(4096));
    assert_eq!(side.engine.write(id, &pattern(10_000)).unwrap(), None);
    side.output();
    assert_eq!(side.engine.poll_event(), Some(super::Event::Writable(id)));
    assert_eq!(side.engine.write(id, &pattern(10_000)).unwrap(), Some(4096));
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let mut side = Side::server();
    let start = side.now;
    let asks = start + KEEPALIVE_INTERVAL;
    assert_eq!(side.engine.poll_timeout(), Some(asks));
    side.engine.handle_timeout(asks - Duration::from_millis(1)).unwrap();
    assert!(side.output().is_empty());
    side.now = asks;
    side.engine.handle_timeout(side.now).unwrap();
    assert_eq!(side.headers(), [Header::new(PING, SYN, 0, 0)]);
    let ends = asks + KEEPALIVE_TIMEOUT;
    assert!(ends - start <= Duration::from_secs(40));
    assert_eq!(side.engine.poll_timeout(), Some(ends));
    side.engine.handle_timeout(ends - Duration::from_millis(1)).unwrap();
    // Any byte is a sign of life.
    side.now = ends - Duration::from_millis(1);
    side.input(&[0]).unwrap();
    side.engine.handle_timeout(ends).unwrap();
    assert_eq!(side.engine.poll_timeout(), Some(side.now + KEEPALIVE_INTERVAL));
    side.now += KEEPALIVE_INTERVAL;
    side.engine.handle_timeout(side.now).unwrap();
    let end = side.engine.handle_timeout(side.now + KEEPALIVE_TIMEOUT);
    assert!(matches!(end, Err(ConnectionError::Vanished)));
}

/// Nothing else tells the opener.
#[test]
fn an_open_that_waits_for_the_queues_is_woken_when_they_are_sent() {
    let openable = |side: &mut Side| {
        let events: Vec<_> = std::iter::from_fn(|| side.engine.poll_event()).collect();
        events.contains(&super::Event::Openable)
    };
    // The queue of frames: streams that were written to and reset, all before one output.
    let mut side = Side::new(Mode::Client, Config::default(), Budget::unlimited());
    while let Some(id) = side.engine.open().unwrap() {
        side.engine.write(id, b"x").unwrap();
        side.engine.release(id, None);
        openable(&mut side);
    }
    assert!(!openable(&mut side));
    side.output();
    assert!(openable(&mut side) && side.engine.may_open());

    // The queue of resets: streams that the peer knows.
    let config = Config { max_outbound_streams: 2 * super::MAX_RESETS, ..Config::default() };
    let mut side = Side::new(Mode::Client, config, Budget::unlimited());
    let mut ids = Vec::new();
    for _ in 0..super::MAX_RESETS {
        let id = side.open();
        side.engine.write(id, b"x").unwrap();
        side.output();
        side.frame(WINDOW_UPDATE, ACK, id, 0).unwrap();
        ids.push(id);
    }
    ids.into_iter().for_each(|id| side.engine.release(id, None));
    openable(&mut side);
    assert_eq!(side.engine.open().unwrap(), None);
    side.output();
    assert!(openable(&mut side) && side.engine.may_open());
}

/// With both ways out full, two sides that each stop reading for their own resets would wait for each other.
#[test]
fn resets_of_this_side_do_not_stop_its_reading() {
    let config = Config { max_inbound_streams: 2 * super::MAX_RESETS, ..Config::default() };
    let mut side = Side::new(Mode::Server, config, Budget::unlimited());
    let all = super::MAX_RESETS as u32 + 5;
    let mut ids = Vec::new();
    for i in 0..all {
        side.data(SYN, 2 * i + 1, b"").unwrap();
        ids.push(side.accept());
    }
    ids.into_iter().for_each(|id| side.engine.release(id, None));
    assert!(side.engine.wants_input());
    // But nothing begins that may need another.
    side.data(SYN, 2 * all + 1, b"").unwrap();
    assert_eq!(side.engine.inbound(), 0);
    assert_eq!(side.headers().len() as u32, all + 1);
    side.data(SYN, 2 * all + 3, b"").unwrap();
    assert_eq!(side.engine.inbound(), 1);
}

/// S6: opening over the limit is not for nothing.
#[test]
fn so_many_refusals_and_not_one_more() {
    let config = Config { max_inbound_streams: 0, max_strays: 100, ..Config::default() };
    let mut side = Side::new(Mode::Server, config, Budget::unlimited());
    let refused = 100 * super::REFUSALS_PER_STRAY as u32;
    for i in 0..refused {
        side.data(SYN, 2 * i + 1, b"").unwrap();
        // Nor does it help to take it back.
        side.frame(DATA, RST, 2 * i + 1, 0).unwrap();
        side.output();
    }
    assert_eq!(side.data(SYN, 2 * refused + 1, b""), Err(Violation::Refusals));
}

/// Go and js look at the flags first and then lose the body (seen with real peers).
#[test]
fn fin_never_rides_on_a_frame_with_data() {
    for max_frame in [1, 7, 1000, 65_536] {
        for len in [0, 1, 7, 1000, 1001, 65_536, 100_000] {
            let config = Config { max_frame, ..Config::default() };
            let mut side = Side::new(Mode::Client, config, Budget::unlimited());
            let id = side.open();
            assert_eq!(side.engine.write(id, &pattern(len)).unwrap(), Some(len));
            side.engine.finish(id).unwrap();
            let headers = side.headers();
            let (end, rest) = headers.split_last().unwrap();
            assert!(end.has(FIN) && end.length == 0, "{end:?}");
            assert!(rest.iter().all(|header| !header.has(FIN)));
            assert_eq!(rest.iter().map(|header| header.length as usize).sum::<usize>(), len);
        }
    }
}

#[test]
fn a_reset_does_not_undo_the_end_that_was_promised() {
    for data in [&b""[..], b"whole"] {
        let mut side = Side::server();
        side.data(SYN, 1, b"").unwrap();
        let id = side.accept();
        side.engine.write(id, data).unwrap();
        side.engine.finish(id).unwrap();
        side.engine.release(id, Some(ErrorCode(5)));
        let mut headers = side.headers();
        assert_eq!(headers.pop(), Some(Header::reset(1, 5)));
        let end = headers.pop().unwrap();
        assert!(end.has(FIN) && end.length == 0, "{end:?}");
        assert_eq!(headers.len(), usize::from(!data.is_empty()));
        assert_eq!(side.engine.entries(), 0);
    }
    // Where the peer has ended as well there is nothing to reset.
    let mut side = Side::server();
    side.data(SYN | FIN, 1, b"").unwrap();
    let id = side.accept();
    side.engine.finish(id).unwrap();
    side.engine.release(id, Some(ErrorCode(5)));
    assert_eq!(side.headers(), [Header::new(DATA, ACK | FIN, 1, 0)]);
}

/// One stream with more to send than its window lets out.
fn blocked() -> (Side, u32) {
    let mut side = Side::server();
    side.data(SYN, 1, b"").unwrap();
    let id = side.accept();
    for _ in 0..3 {
        side.engine.write(id, &pattern(100_000)).unwrap();
        side.output();
    }
    side.engine.finish(id).unwrap();
    (side, id)
}

/// An echo: each side waits with its writing for the other to read.
#[test]
fn a_dropped_stream_that_is_blocked_both_ways_is_reset() {
    for before in [true, false] {
        let (mut side, id) = blocked();
        if before {
            side.engine.release(id, None);
        }
        for _ in 0..INITIAL_WINDOW / 65_536 {
            side.data(0, 1, &pattern(65_536)).unwrap();
        }
        if !before {
            side.engine.release(id, None);
        }
        assert_eq!(side.answers().pop().map(|(header, _)| header), Some(Header::reset(1, 0)));
        assert_eq!(side.engine.entries(), 0);
    }
}

#[test]
fn a_dropped_stream_to_which_no_credit_is_given_is_reset_in_time() {
    let (mut side, id) = blocked();
    side.engine.release(id, None);
    assert!(side.answers().is_empty());
    let mut sweep = |credit: u32| {
        side.now += super::ABANDONED_TIMEOUT;
        side.frame(WINDOW_UPDATE, 0, 1, credit).unwrap();
        let moved = side.answers();
        side.engine.handle_timeout(side.now).unwrap();
        (moved.len(), side.engine.entries())
    };
    // As long as it moves it may take its time.
    for _ in 0..10 {
        assert_eq!(sweep(1), (1, 1));
    }
    assert_eq!(sweep(0), (0, 0));
    assert_eq!(side.answers(), [(Header::reset(1, 0), Vec::new())]);
    assert!(side.engine.poll_timeout().unwrap() - side.now <= KEEPALIVE_INTERVAL);
}
