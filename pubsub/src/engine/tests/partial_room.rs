//! What peers can make this node do and keep by what they say of partial messages.

use std::sync::atomic::{AtomicUsize, Ordering};

use peerage_core::budget::Budget;

use super::{partial::*, *};
use crate::partial::{Have, Hearer, Limits, Mode, NotMetadata, Published, Say};

/// Says so many bytes of metadata, and gives so many of parts where there is room for them; to everybody, always. Counts how often
/// it is asked.
struct Fixed {
    metadata: usize,
    parts: usize,
    asked: Arc<AtomicUsize>,
}

impl Fixed {
    fn parts(parts: usize) -> Self {
        Self { metadata: 0, parts, asked: Arc::default() }
    }
}

impl Have for Fixed {
    fn say(&self, to: &Hearer<'_>) -> Result<Say, NotMetadata> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let parts = if self.parts <= to.room { self.parts } else { 0 };
        Ok(Say {
            metadata: vec![0; self.metadata].into(),
            parts: vec![0; parts].into(),
            given: Bytes::from_static(b"all"),
        })
    }
}

/// A node with these limits, and a peer that requests parts.
fn limited(change: impl FnOnce(&mut Config)) -> Rig {
    let mut rig = rig_with(Mode::Requests, change);
    wants(&mut rig, 1, Mode::Requests);
    rig.command(Command::Subscribe(topic("t")));
    rig.told(1);
    rig
}

/// Bytes of parts that a peer is given.
fn given(rig: &mut Rig, n: u16) -> Vec<usize> {
    let partials = rig.told(n).into_iter().filter_map(|rpc| rpc.partial);
    partials.filter_map(|partial| partial.parts).map(|parts| parts.len()).collect()
}

fn asks(rig: &mut Rig, n: u16, group: &[u8]) {
    rig.hears(n, said(group, None, Some(Bytes::new())));
    rig.parts.clear();
}

/// Too many messages wait for it, or too many bytes: whatever it asks, nothing is made for it, until it reads.
#[test]
fn for_who_reads_nothing_nothing_is_made() {
    let full: [fn(&mut Config); 2] = [|config| config.queue.topic = 1, |config| config.queue.bytes = 9000];
    for change in full {
        let mut rig = limited(change);
        let have = Fixed { metadata: 0, parts: 8000, asked: Arc::default() };
        let asked = have.asked.clone();
        assert_eq!(publish(&mut rig, b"g", have).unwrap().peers, 1);
        for _ in 0..4 {
            (0..1000).for_each(|_| asks(&mut rig, 1, b"g"));
            rig.heartbeats(1);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let full = Published { full: 1, ..Published::default() };
        assert_eq!(publish(&mut rig, b"g", Fixed::parts(8000)), Ok(full));
        assert_eq!(given(&mut rig, 1), [8000]);
        rig.heartbeats(1);
        assert_eq!(given(&mut rig, 1), [8000], "what it has asked since");
    }
}

#[test]
fn parts_for_one_peer_are_bounded_between_two_heartbeats() {
    let of = |bytes: usize| {
        let mut rig = limited(|config| {
            config.partial = Some(Limits { answer_bytes: 10, ..Limits::default() });
        });
        wants(&mut rig, 2, Mode::Requests);
        publish(&mut rig, b"g", Fixed::parts(bytes)).unwrap();
        let mut rounds = vec![given(&mut rig, 1)];
        for _ in 0..2 {
            rig.heartbeats(1);
            rounds.push(given(&mut rig, 1));
            (0..9).for_each(|_| asks(&mut rig, 1, b"g"));
            rounds.push(given(&mut rig, 1));
        }
        // What one has had is not missing to others.
        given(&mut rig, 2);
        asks(&mut rig, 2, b"g");
        (rounds, given(&mut rig, 2))
    };
    assert_eq!(of(10), (vec![vec![10], vec![], vec![10], vec![10], vec![]], vec![10]));
    assert_eq!(of(11), (vec![vec![]; 5], vec![]));
    assert_eq!(of(5).0, [vec![5], vec![], vec![5, 5], vec![5], vec![5]], "what is owed counts as well");
}

/// With its subscription a peer takes back what it was given; it is not given all of it as often as it likes.
#[test]
fn who_comes_and_goes_is_given_no_more_than_others() {
    let bytes = 100;
    let mut rig = limited(|config| {
        config.partial = Some(Limits { answer_bytes: bytes, ..Limits::default() });
    });
    publish(&mut rig, b"g", pieces(0..8)).unwrap();
    rig.told(1);
    let mut sum = 0;
    for _ in 0..1000 {
        let again = vec![Subscription::end(topic("t")), Subscription::to(topic("t")).partial(Mode::Requests)];
        rig.hears(1, Rpc { subscriptions: again, ..said(b"g", None, Some(wants_others([]))) });
        sum += given(&mut rig, 1).iter().sum::<usize>();
    }
    assert!((1..=bytes).contains(&sum), "{sum}");
}

/// Also of messages that others have brought up, or this node, and of all topics.
#[test]
fn what_one_peer_says_and_is_remembered_is_bounded() {
    // A group id of a byte, metadata of two, and what an entry takes.
    const ENTRY: usize = 1 + 2 + 256;
    for (bytes, expected) in [(2 * ENTRY - 1, 1), (2 * ENTRY, 2), (3 * ENTRY, 3)] {
        let mut rig = limited(|config| {
            config.partial = Some(Limits { bytes_per_peer: bytes, ..Limits::default() });
        });
        wants(&mut rig, 2, Mode::Requests);
        (0..9).for_each(|group| drop(publish(&mut rig, &[group], pieces([]))));
        rig.prunes(1, "t", None);
        let remembered = |rig: &mut Rig, n: u16, groups: std::ops::Range<u8>| {
            let before = rig.engine().stats().partial.not_remembered;
            groups.clone().for_each(|group| rig.hears(n, said(&[group], None, Some(bits([])))));
            groups.len() as u64 - (rig.engine().stats().partial.not_remembered - before)
        };
        assert_eq!(remembered(&mut rig, 1, 0..9), expected);
        assert_eq!(rig.parts.len(), 9, "the program hears all");
        assert_eq!(remembered(&mut rig, 1, 0..1), 1, "a newer word of the same");
        assert_eq!(remembered(&mut rig, 2, 0..9), expected, "what another one says");
        rig.hears(1, subscription("t", false));
        wants(&mut rig, 1, Mode::Requests);
        assert_eq!(remembered(&mut rig, 1, 0..9), expected, "all over again");
        rig.heartbeats(5);
        (0..9).for_each(|group| drop(publish(&mut rig, &[group], pieces([]))));
        assert_eq!(remembered(&mut rig, 1, 0..9), expected, "what was forgotten takes no room");
    }
}

/// What a peer was told and given is charged to the node's memory; where there is none, it is told later.
#[test]
fn what_a_peer_was_told_is_charged() {
    let budget = Budget::limited(4000);
    let mut rig = rig(Mode::Requests);
    let config = rig.engine().config.clone();
    rig.sim = Sim::new(Engine::new(config, peer(0), rng(7), 1).charged_to(budget.clone()));
    wants(&mut rig, 1, Mode::Requests);
    rig.command(Command::Subscribe(topic("t")));
    rig.told(1);
    let have = || Fixed { metadata: 1000, parts: 1, asked: Arc::default() };
    assert_eq!(publish(&mut rig, b"1", have()).unwrap().peers, 1);
    assert_eq!(given(&mut rig, 1), [1]);
    drop(budget.reserve(2997).unwrap());
    assert!(budget.reserve(2998).is_err(), "metadata, and what says that all was given");
    let taken = budget.reserve(2000).unwrap();
    let full = Published { full: 1, ..Published::default() };
    assert_eq!(publish(&mut rig, b"2", have()), Ok(full));
    drop(taken);
    rig.heartbeats(1);
    assert_eq!(given(&mut rig, 1), [1]);
    rig.disconnect(1);
    drop(budget.reserve(4000).unwrap());
}
