//! Two sessions that hand each other their datagrams, in virtual time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use peerage_core::Keypair;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{super::certificate::Certificate, Ended, Event, Session, Side};

pub(crate) const WINDOW: u32 = 256 * 1024;

const LATENCY: Duration = Duration::from_millis(5);

#[allow(clippy::disallowed_methods, reason = "any instant will do")]
fn now() -> Instant {
    Instant::now()
}

/// Both sides and the wire between them.
struct Pair {
    now: Instant,
    sides: [Session; 2],
    /// What is under way, to which side.
    wire: VecDeque<(Instant, usize, Vec<u8>)>,
    events: [Vec<Event>; 2],
    /// Of each so many datagrams one is lost; none if 0.
    loss: usize,
    /// Of a thousand datagrams so many are lost, by lot.
    lossy: Option<(ChaCha8Rng, u32)>,
    sent: usize,
    longest: usize,
}

const DIALER: usize = 0;
const LISTENER: usize = 1;

impl Pair {
    fn new() -> Self {
        let certificate = Certificate::derive(&Keypair::from_ed25519_seed([1; 32]));
        Self::with(vec![certificate.fingerprint], certificate)
    }

    fn with(expected: Vec<super::Fingerprint>, certificate: Certificate) -> Self {
        let now = now();
        let dialer = Session::new(Side::Dialer, &Certificate::random().unwrap(), expected, WINDOW, now);
        let listener = Session::new(Side::Listener, &certificate, vec![], WINDOW, now);
        let sides = [dialer, listener];
        Self {
            now,
            sides,
            wire: VecDeque::new(),
            events: [vec![], vec![]],
            loss: 0,
            lossy: None,
            sent: 0,
            longest: 0,
        }
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        pair.run(Duration::from_secs(5));
        for side in &mut pair.events {
            assert!(matches!(side[..], [Event::Secured(_), Event::Connected]), "{side:?}");
            side.clear();
        }
        pair
    }

    fn flush(&mut self) {
        for from in [DIALER, LISTENER] {
            while let Some(datagram) = self.sides[from].poll_transmit(self.now) {
                self.longest = self.longest.max(datagram.len());
                self.sent += 1;
                let lost = self.loss != 0 && self.sent.is_multiple_of(self.loss)
                    || self
                        .lossy
                        .as_mut()
                        .is_some_and(|(rng, permille)| rng.random_range(0..1000) < *permille);
                if !lost {
                    self.wire.push_back((self.now + LATENCY, 1 - from, datagram));
                }
            }
            while let Some(event) = self.sides[from].poll_event() {
                self.events[from].push(event);
            }
        }
    }

    /// Lets time pass, at most so much, until nothing is under way.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.flush();
            let arrival = self.wire.front().map(|(at, ..)| *at);
            let timers = self.sides.iter().filter_map(Session::poll_timeout).min();
            let Some(next) = arrival.into_iter().chain(timers).min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            while self.wire.front().is_some_and(|(at, ..)| *at <= self.now) {
                let (_, to, datagram) = self.wire.pop_front().unwrap();
                self.sides[to].handle_datagram(&datagram, self.now);
            }
            for side in &mut self.sides {
                side.handle_timeout(self.now);
            }
        }
    }

    fn run_a_little(&mut self) {
        self.run(Duration::from_millis(500));
    }

    fn take(&mut self, side: usize) -> Vec<Event> {
        std::mem::take(&mut self.events[side])
    }

    fn read_all(&mut self, side: usize, id: u16) -> Vec<u8> {
        std::iter::from_fn(|| self.sides[side].read(id)).flatten().collect()
    }
}

#[test]
fn both_sides_know_each_others_certificates() {
    let mut pair = Pair::new();
    let listener = Certificate::derive(&Keypair::from_ed25519_seed([1; 32])).fingerprint;
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.events[DIALER], [Event::Secured(listener), Event::Connected]);
    assert!(
        matches!(pair.events[LISTENER][..], [Event::Secured(other), Event::Connected] if other != listener)
    );
    assert!(pair.longest <= 1200, "{}", pair.longest);
}

#[test]
fn a_wrong_certificate_ends_the_dialers_side() {
    let certificate = Certificate::derive(&Keypair::from_ed25519_seed([1; 32]));
    let found = certificate.fingerprint;
    let expected = super::Fingerprint::of(b"another");
    let mut pair = Pair::with(vec![expected], certificate);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.events[DIALER], [Event::Ended(Ended::Certificate { expected, found })]);
    assert_eq!(pair.events[LISTENER], []);
}

#[test]
fn handshakes_survive_losses() {
    for loss in [3, 5, 7] {
        let mut pair = Pair::new();
        pair.loss = loss;
        pair.run(Duration::from_secs(40));
        for side in &pair.events {
            assert!(matches!(side[..], [Event::Secured(_), Event::Connected]), "{loss}: {side:?}");
        }
    }
}

#[test]
fn channels_carry_messages_both_ways() {
    let mut pair = Pair::connected();
    assert!(pair.sides[DIALER].open(2) && !pair.sides[DIALER].open(2));
    // Without waiting for an answer.
    assert!(pair.sides[DIALER].write(2, vec![7; 50_000]));
    pair.run_a_little();
    assert_eq!(pair.take(LISTENER), [Event::Opened(2), Event::Readable(2), Event::Readable(2)]);
    assert_eq!(pair.read_all(LISTENER, 2), vec![7; 50_000]);
    assert!(pair.sides[LISTENER].write(2, b"answer".to_vec()));
    pair.run_a_little();
    assert_eq!(pair.read_all(DIALER, 2), b"answer");
    assert_eq!(pair.sides[DIALER].buffered(), 0);
    assert!(pair.longest <= 1200, "{}", pair.longest);
    for len in 1..400 {
        assert!(pair.sides[DIALER].write(2, vec![7; len]));
    }
    pair.run_a_little();
    // The padding of tiny chunks is not counted where they are put together.
    assert!(pair.longest <= 1400, "{}", pair.longest);
}

#[test]
fn both_know_of_a_negotiated_channel() {
    let mut pair = Pair::connected();
    // The listener speaks before the dialer has it.
    assert!(pair.sides[LISTENER].open_negotiated(0) && pair.sides[LISTENER].write(0, b"hello".to_vec()));
    pair.run_a_little();
    assert_eq!(pair.take(DIALER), []);
    assert!(pair.sides[DIALER].open_negotiated(0));
    pair.run_a_little();
    assert_eq!(pair.take(DIALER), [Event::Readable(0)]);
    assert_eq!(pair.read_all(DIALER, 0), b"hello");
    assert!(pair.sides[DIALER].write(0, b"hello yourself".to_vec()));
    pair.run_a_little();
    assert_eq!(pair.read_all(LISTENER, 0), b"hello yourself");
}

#[test]
fn a_channel_is_closed_after_everything_arrived_and_its_number_is_free_again() {
    let mut pair = Pair::connected();
    for round in 0..3 {
        assert!(pair.sides[DIALER].open(4), "{round}");
        assert!(pair.sides[DIALER].write(4, vec![1; 30_000]));
        pair.sides[DIALER].close_channel(4);
        assert!(!pair.sides[DIALER].write(4, b"too late".to_vec()));
        pair.run_a_little();
        let events = pair.take(LISTENER);
        assert!(events.contains(&Event::Opened(4)) && !events.contains(&Event::Closed(4)), "{events:?}");
        assert_eq!(pair.read_all(LISTENER, 4).len(), 30_000);
        pair.run_a_little();
        assert_eq!(pair.take(LISTENER), [Event::Closed(4), Event::Free(4)]);
        assert_eq!(pair.take(DIALER), [Event::Free(4)]);
    }
}

#[test]
fn many_channels_close_at_once() {
    let mut pair = Pair::connected();
    for id in 0..200 {
        assert!(pair.sides[DIALER].open(2 + 2 * id));
    }
    pair.run_a_little();
    for id in 0..200 {
        // What says that it is open.
        assert_eq!(pair.sides[DIALER].read(2 + 2 * id), None);
        pair.sides[usize::from(id % 2)].close_channel(2 + 2 * id);
    }
    pair.run(Duration::from_secs(60));
    for side in [DIALER, LISTENER] {
        let events = pair.take(side);
        let free = events.iter().filter(|event| matches!(event, Event::Free(_))).count();
        assert_eq!(free, 200, "{side}");
    }
}

/// What is not read stays in SCTP, which takes no more than its window; and goes on at once when it is read.
#[test]
fn a_slow_reader_slows_the_sender_down() {
    let mut pair = Pair::connected();
    assert!(pair.sides[DIALER].open(2));
    for _ in 0..64 {
        assert!(pair.sides[DIALER].write(2, vec![9; 16 * 1024]));
    }
    pair.run(Duration::from_secs(3));
    let waiting = pair.sides[DIALER].buffered();
    assert!(waiting >= 64 * 16 * 1024 - WINDOW as usize - 16 * 1024, "{waiting}");
    assert!(pair.sides[LISTENER].advertised() < 16 * 1024);

    let (mut read, begin) = (0, pair.now);
    while read < 64 * 16 * 1024 {
        let now = pair.now;
        read += pair.read_all(LISTENER, 2).len();
        pair.sides[LISTENER].advertise(now);
        pair.run(Duration::from_millis(20));
        assert!(pair.now - begin < Duration::from_secs(2), "{read} bytes");
    }
}

#[test]
fn a_goodbye_is_heard() {
    let mut pair = Pair::connected();
    let now = pair.now;
    pair.sides[DIALER].close(now);
    pair.run_a_little();
    assert_eq!(pair.take(DIALER), [Event::Ended(Ended::Closed)]);
    assert_eq!(pair.take(LISTENER), [Event::Ended(Ended::ByPeer)]);
    assert!(!pair.sides[LISTENER].write(2, b"x".to_vec()));

    let mut pair = Pair::connected();
    // In a hurry: the record alone.
    pair.sides[LISTENER].finish(pair.now);
    pair.run_a_little();
    assert_eq!(pair.take(DIALER), [Event::Ended(Ended::ByPeer)]);
}

#[test]
fn junk_changes_nothing() {
    let mut pair = Pair::connected();
    let now = pair.now;
    for junk in
        [&b""[..], b"\x16", b"\x17\xfe\xfd\0\0\0\0\0\0\0\0\0\x05hello", &[20; 1200], &[63; 13], &[22; 2000]]
    {
        for side in &mut pair.sides {
            assert!(!side.handle_datagram(junk, now));
        }
    }
    pair.run_a_little();
    assert!(pair.sides[DIALER].open(2) && pair.sides[DIALER].write(2, b"fine".to_vec()));
    pair.run_a_little();
    assert_eq!(pair.read_all(LISTENER, 2), b"fine");
}

#[test]
fn junk_before_the_handshake_costs_nothing_but_its_reading() {
    let certificate = Certificate::derive(&Keypair::from_ed25519_seed([1; 32]));
    let mut listener = Session::new(Side::Listener, &certificate, vec![], WINDOW, now());
    for first in 20..=63 {
        for len in [1, 12, 13, 14, 25, 100, 1400] {
            let mut junk = vec![first; len];
            if len > 12 {
                junk[1..3].copy_from_slice(&[0xfe, 0xfd]);
                junk[11..13].copy_from_slice(&(len as u16 - 13).to_be_bytes());
            }
            listener.handle_datagram(&junk, now());
        }
    }
    assert!(listener.poll_transmit(now()).is_none());
}

/// A peer may open every number there is.
#[test]
fn too_many_channels_end_the_session() {
    let mut pair = Pair::connected();
    let mut opened = 0;
    for id in (2..=u16::MAX - 1).step_by(2) {
        if !pair.sides[DIALER].open(id) {
            break;
        }
        opened += 1;
        if id % 64 == 0 {
            pair.run(Duration::from_millis(50));
        }
        if pair.events[LISTENER].iter().any(|event| matches!(event, Event::Ended(_))) {
            break;
        }
    }
    let ended = pair.events[LISTENER].last().unwrap();
    assert!(matches!(ended, Event::Ended(Ended::Sctp(why)) if why.contains("channels")), "{ended:?}");
    assert!(opened < 2200, "{opened}");
}

/// Whatever is lost, all channels come to their end, and their numbers are free again: also those of which a reset
/// comes before the data that it waits for, and overtakes another in the other direction.
#[test]
fn no_loss_keeps_a_channel_from_its_end() {
    const CHANNELS: u16 = 100;
    for seed in 0..25 {
        let mut pair = Pair::connected();
        pair.lossy = Some((ChaCha8Rng::seed_from_u64(seed), 20));
        for round in 0..3 {
            for id in (2..).step_by(2).take(CHANNELS.into()) {
                assert!(pair.sides[DIALER].open(id) && pair.sides[DIALER].write(id, vec![7; 1024]));
            }
            let (begin, mut free) = (pair.now, [0; 2]);
            while free != [CHANNELS; 2] {
                pair.run(Duration::from_millis(10));
                for event in pair.take(LISTENER) {
                    match event {
                        Event::Readable(id) => {
                            if let Some(message) = pair.sides[LISTENER].read(id) {
                                assert!(pair.sides[LISTENER].write(id, message.to_vec()));
                            }
                        }
                        Event::Free(_) => free[LISTENER] += 1,
                        _ => {}
                    }
                }
                for event in pair.take(DIALER) {
                    match event {
                        Event::Readable(id) if pair.sides[DIALER].read(id).is_some() => {
                            pair.sides[DIALER].close_channel(id);
                        }
                        Event::Free(_) => free[DIALER] += 1,
                        _ => {}
                    }
                }
                assert!(pair.now - begin < Duration::from_secs(30), "seed {seed}, round {round}: {free:?}");
            }
        }
    }
}
