//! Two engines whose streams come late, break, and are opened again: when all is said, each is in the other's mesh, or
//! neither is.

use proptest::prelude::*;

use super::*;
use crate::{event::DropReason, queue::Lane};

const TOPICS: [&str; 2] = ["a", "b"];

/// An engine, and its stream to the other one.
struct Side {
    sim: Sim<Engine>,
    /// What waits for the other: since it was asked for, and by which number.
    stream: Option<(u64, Queue)>,
    open: bool,
}

/// Nothing is under way for longer. What crosses a PRUNE and arrives when its backoff is over counts, and only the other
/// side knows better: the protocol has no answer to that.
const LATEST: Duration = Duration::from_secs(5);

/// Both sides, and since when nothing was delivered.
struct Pair([Side; 2], Duration);

impl Pair {
    fn new() -> Self {
        let side = |n: u16| {
            let config = Arc::new(Config::default());
            let sim = Sim::new(Engine::new(config, peer(n), rng(n.into()), 1));
            Side { sim, stream: None, open: false }
        };
        let mut pair = Self([side(0), side(1)], Duration::ZERO);
        for n in 0..2 {
            let id = ConnectionId::from(1);
            let command = Command::Connected { peer: pair.other(n), id, ip: None, dialed: n == 0 };
            pair.0[n].sim.command(command);
        }
        pair.settle();
        pair
    }

    fn other(&self, n: usize) -> PeerId {
        peer(1 - n as u16)
    }

    fn settle(&mut self) {
        for side in &mut self.0 {
            for action in side.sim.actions() {
                match action {
                    Action::Open { session, queue, .. } => {
                        (side.stream, side.open) = (Some((session, queue)), false);
                    }
                    Action::Close { .. } => (side.stream, side.open) = (None, false),
                    _ => {}
                }
            }
        }
    }

    fn command(&mut self, n: usize, command: Command) {
        self.0[n].sim.command(command);
        self.settle();
    }

    /// The stream that was asked for is there.
    fn open(&mut self, n: usize) {
        let (here, there) = (peer(n as u16), self.other(n));
        let Some((session, _)) = self.0[n].stream.as_ref().filter(|_| !self.0[n].open) else { return };
        let session = *session;
        self.0[n].open = true;
        self.0[1 - n].sim.input(Input::Inbound { peer: here, stream: session });
        self.0[n].sim.input(Input::Opened { peer: there, session, version: Version::V11 });
        self.settle();
    }

    /// The stream breaks, or does not come about.
    fn fail(&mut self, n: usize) {
        let (here, there) = (peer(n as u16), self.other(n));
        let Some((session, _)) = self.0[n].stream.take() else { return };
        if std::mem::take(&mut self.0[n].open) {
            self.0[1 - n].sim.input(Input::InboundEnded { peer: here, stream: session });
        }
        self.0[n].sim.input(Input::LinkFailed { peer: there, session, unsupported: false });
        self.settle();
    }

    /// What waits on the open streams arrives, and what is answered to it.
    fn deliver(&mut self) {
        self.1 = Duration::ZERO;
        loop {
            let mut quiet = true;
            for n in 0..2 {
                let Some((_, queue)) = self.0[n].stream.clone().filter(|_| self.0[n].open) else { continue };
                let mut decoder = frame::Decoder::new(codec::MAX_RPC);
                while let Some(frame) = queue.pop() {
                    quiet = false;
                    let mut input = &frame[..];
                    while let Some(rpc) = decoder.decode(&mut input).unwrap() {
                        let rpc = codec::decode(&rpc, &Limits::default()).unwrap();
                        let input = Input::Rpcs { peer: peer(n as u16), rpcs: vec![rpc], charge: None };
                        self.0[1 - n].sim.input(input);
                    }
                    self.settle();
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn advance(&mut self, by: Duration) {
        if self.1 + by > LATEST {
            self.deliver();
        }
        self.1 += by;
        self.0.iter_mut().for_each(|side| side.sim.advance(by));
        self.settle();
    }

    /// Opens what can be opened, and lets all arrive.
    fn quiet(&mut self) {
        for _ in 0..70 {
            (0..2).for_each(|n| self.open(n));
            self.deliver();
            if self.0.iter().all(|side| side.open) {
                return;
            }
            // Until a stream that broke is tried again.
            self.advance(Duration::from_secs(1));
        }
    }

    fn has(&self, n: usize, name: &str) -> bool {
        self.0[n].sim.engine().mesh(&topic(name)).any(|member| *member == self.other(n))
    }

    fn agree(&self) {
        for name in TOPICS {
            assert_eq!(self.has(0, name), self.has(1, name), "of {name}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Score(usize, bool),
    Open(usize),
    Fail(usize),
    Deliver,
    Advance(u64),
    Quiet,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize, 0..2_usize).prop_map(|(n, name)| Step::Subscribe(n, name)),
        2 => (0..2_usize, 0..2_usize).prop_map(|(n, name)| Step::Unsubscribe(n, name)),
        1 => (0..2_usize, any::<bool>()).prop_map(|(n, bad)| Step::Score(n, bad)),
        3 => (0..2_usize).prop_map(Step::Open),
        1 => (0..2_usize).prop_map(Step::Fail),
        4 => Just(Step::Deliver),
        4 => (0..3000_u64).prop_map(Step::Advance),
        1 => Just(Step::Quiet),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn both_sides_agree_on_the_mesh_however_late_their_streams_are(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut pair = Pair::new();
        for step in steps {
            match step {
                Step::Subscribe(n, name) => pair.command(n, Command::Subscribe(topic(TOPICS[name]))),
                Step::Unsubscribe(n, name) => pair.command(n, Command::Unsubscribe(topic(TOPICS[name]))),
                Step::Score(n, bad) => {
                    let (peer, score) = (pair.other(n), if bad { -1.0 } else { 0.0 });
                    pair.command(n, Command::SetAppScore { peer, score });
                }
                Step::Open(n) => pair.open(n),
                Step::Fail(n) => pair.fail(n),
                Step::Deliver => pair.deliver(),
                Step::Advance(millis) => pair.advance(Duration::from_millis(millis)),
                Step::Quiet => {
                    pair.quiet();
                    pair.agree();
                }
            }
        }
        pair.quiet();
        pair.agree();
    }
}

/// The other side speaks first: it grafts while this side's stream is on its way.
fn grafted_early(score: f64) -> Pair {
    let mut pair = Pair::new();
    let other = pair.other(1);
    pair.command(1, Command::SetAppScore { peer: other, score });
    (0..2).for_each(|n| pair.command(n, Command::Subscribe(topic("a"))));
    pair.open(0);
    pair.deliver();
    // It knows of the subscription from an earlier stream.
    let subscriptions = vec![Subscription::to(topic("a"))];
    let recalled = Input::Recalled { peer: peer(1), stream: 99, subscriptions, heard: None };
    pair.0[0].sim.input(recalled);
    pair.advance(Duration::from_secs(1));
    pair.deliver();
    pair
}

#[test]
fn a_refusal_waits_for_the_stream() {
    let mut pair = grafted_early(-1.0);
    assert!(pair.has(0, "a") && !pair.has(1, "a"), "it cannot know yet");
    pair.open(1);
    pair.deliver();
    assert!(!pair.has(0, "a") && !pair.has(1, "a"));
}

#[test]
fn who_leaves_before_its_stream_is_there_says_so_then() {
    let mut pair = grafted_early(0.0);
    assert!(pair.has(0, "a") && pair.has(1, "a"));
    pair.command(1, Command::Unsubscribe(topic("a")));
    pair.open(1);
    pair.deliver();
    assert!(!pair.has(0, "a"));
    // Who leaves, and comes back, as well: it would not take the other one before the backoff is over.
    let mut pair = grafted_early(0.0);
    pair.command(1, Command::Unsubscribe(topic("a")));
    pair.command(1, Command::Subscribe(topic("a")));
    pair.open(1);
    pair.deliver();
    pair.agree();
}

#[test]
fn a_stream_that_does_not_come_about_leaves_nobody_in_a_mesh_alone() {
    let mut pair = grafted_early(0.0);
    pair.fail(1);
    assert!(pair.has(0, "a") && !pair.has(1, "a"));
    pair.quiet();
    pair.agree();
}

#[test]
fn refusals_that_wait_for_a_stream_are_as_many_as_control_frames_and_more_are_counted() {
    const MOST: u16 = 5;
    for (topics, lost) in [(MOST, 0), (MOST + 1, 1)] {
        let mut rig = Rig::new(|config| config.queue.control = MOST.into());
        rig.command(Command::SetAppScore { peer: peer(1), score: -1.0 });
        // Its stream never comes.
        let id = ConnectionId::from(1);
        rig.command(Command::Connected { peer: peer(1), id, ip: None, dialed: true });
        for n in 0..topics {
            rig.command(Command::Subscribe(topic(&n.to_string())));
            rig.hears(1, subscription(&n.to_string(), true));
            rig.grafts(1, &n.to_string());
            rig.grafts(1, &n.to_string());
        }
        let counted = rig.engine().stats().dropped.get(&(Lane::Control, DropReason::NoStream)).copied();
        // Each GRAFT is refused twice.
        assert_eq!(counted.unwrap_or_default(), lost * 2);
    }
}

#[test]
fn nothing_is_promised_that_could_not_be_asked_for() {
    // No stream yet.
    let mut rig = Rig::new(|config| config.max_ihave_messages = 100);
    rig.command(Command::Subscribe(topic("t")));
    let id = ConnectionId::from(1);
    rig.command(Command::Connected { peer: peer(1), id, ip: None, dialed: true });
    rig.hears(1, ihave(made_up(0, 10)));
    assert_eq!(rig.engine().sizes().promises, 0);
    // No room on it.
    rig.wants(2, "t");
    let room = rig.engine().config.queue.gossip as u32;
    for n in 0..=room {
        rig.hears(2, ihave(made_up(n * 10, 10)));
    }
    let dropped = |why| rig.engine().stats().dropped.get(&(Lane::Gossip, why)).copied();
    assert_eq!((dropped(DropReason::NoStream), dropped(DropReason::QueueFull)), (Some(1), Some(1)));
    assert_eq!(rig.engine().stats().iwant_sent, u64::from(room) * 10);
    rig.heartbeats(5);
    assert_eq!(rig.misdeeds(Misdeed::BrokenPromise), u64::from(room), "one for each that was asked");
}
