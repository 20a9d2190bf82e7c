//! What waits to be sent to one peer.
//!
//! The engine puts frames in, the task that owns the peer's stream takes them out, and neither waits for the other: the
//! engine is told at once when there is no room. Control goes before data, own messages before those of others, and topics
//! take turns.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use peerage_core::budget::{Budget, Reserved};

use crate::topic::Topic;

/// What may wait for one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Frames of subscriptions, GRAFT and PRUNE. A peer that lets more wait has lost track; its stream begins anew.
    /// Default: 512.
    pub control: usize,
    /// Frames of IHAVE, IWANT and IDONTWANT, which are worth something only when they are fresh. Default: 64.
    pub gossip: usize,
    /// Own messages. Default: 256.
    pub own: usize,
    /// Messages of others, of each topic. Default: 256.
    pub topic: usize,
    /// Bytes of own messages; as many again of all messages of others. Default: 8 MiB.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { control: 512, gossip: 64, own: 256, topic: 256, bytes: 8 << 20 }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Lane {
    /// Subscriptions, GRAFT, PRUNE.
    Control,
    /// IHAVE, IWANT, IDONTWANT.
    Gossip,
    /// A message of this node.
    Own,
    /// A message of somebody else.
    Forward,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits, and it is the first: who takes frames out has to be told.
    First,
    /// It waits behind others.
    Waits,
    /// There is no room for it.
    Full,
    /// There is no memory for it.
    NoMemory,
}

/// The queue of one peer. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limits: Limits,
    budget: Budget,
    control: VecDeque<Waiting>,
    gossip: VecDeque<Waiting>,
    own: VecDeque<Waiting>,
    /// Bytes in `own`.
    own_bytes: usize,
    topics: BTreeMap<Topic, VecDeque<Waiting>>,
    /// Topics that have something, in the order of their turns.
    turns: VecDeque<Topic>,
    /// Bytes in `topics`.
    forward_bytes: usize,
    waker: Option<Waker>,
}

/// A frame, and the memory that it takes; a message's is shared by all whom it waits for.
#[derive(Debug)]
struct Waiting {
    frame: Bytes,
    _charge: Option<Arc<Reserved>>,
}

impl Queue {
    /// An empty one, whose control frames are charged to `budget`. Messages bring their charge.
    pub fn new(limits: Limits, budget: Budget) -> Self {
        Self(Arc::new(Mutex::new(State {
            limits,
            budget,
            control: VecDeque::new(),
            gossip: VecDeque::new(),
            own: VecDeque::new(),
            own_bytes: 0,
            topics: BTreeMap::new(),
            turns: VecDeque::new(),
            forward_bytes: 0,
            waker: None,
        })))
    }

    /// Adds a frame of no topic.
    pub fn control(&self, lane: Lane, frame: Bytes) -> Pushed {
        let mut state = self.lock();
        let empty = state.is_empty();
        let (frames, max) = match lane {
            Lane::Gossip => (state.gossip.len(), state.limits.gossip),
            _ => (state.control.len(), state.limits.control),
        };
        if frames >= max {
            return Pushed::Full;
        }
        let Ok(charge) = state.budget.reserve(frame.len()) else { return Pushed::NoMemory };
        let waiting = Waiting { frame, _charge: Some(Arc::new(charge)) };
        match lane {
            Lane::Gossip => state.gossip.push_back(waiting),
            _ => state.control.push_back(waiting),
        }
        if empty { Pushed::First } else { Pushed::Waits }
    }

    /// Adds a message, and the memory that is charged for it.
    pub fn message(&self, topic: &Topic, frame: Bytes, own: bool, charge: Option<Arc<Reserved>>) -> Pushed {
        let mut state = self.lock();
        let empty = state.is_empty();
        let waiting = Waiting { frame, _charge: charge };
        let fits = if own { state.push_own(waiting) } else { state.push_forward(topic, waiting) };
        match (fits, empty) {
            (false, _) => Pushed::Full,
            (true, true) => Pushed::First,
            (true, false) => Pushed::Waits,
        }
    }

    /// How many bytes a message of somebody else's may have to find room now; `None` if none does, however short. Where none
    /// waits, one of any length does.
    pub fn room(&self, topic: &Topic) -> Option<usize> {
        let state = self.lock();
        if state.topics.is_empty() {
            return Some(usize::MAX);
        }
        let frames = state.topics.get(topic).map_or(0, VecDeque::len);
        let bytes = state.limits.bytes.saturating_sub(state.forward_bytes);
        Some(bytes).filter(|bytes| *bytes > 0 && frames < state.limits.topic)
    }

    /// Whether messages of others wait that are of this topic.
    pub fn has(&self, topic: &Topic) -> bool {
        self.lock().topics.contains_key(topic)
    }

    /// Lets go of all that waits; how many frames that were.
    pub fn clear(&self) -> usize {
        std::iter::from_fn(|| self.pop()).count()
    }

    /// Takes the next frame.
    pub fn pop(&self) -> Option<Bytes> {
        self.lock().pop()
    }

    /// Takes the next frame, or has the task woken by [`Queue::wake`].
    pub fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let mut state = self.lock();
        match state.pop() {
            Some(frame) => Poll::Ready(frame),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Wakes the task that waits in [`Queue::poll_pop`].
    pub fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        let state = self.lock();
        let frames = [state.control.len(), state.gossip.len(), state.own.len()];
        frames.into_iter().chain(state.topics.values().map(VecDeque::len)).sum()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.control.is_empty() && self.gossip.is_empty() && self.own.is_empty() && self.topics.is_empty()
    }

    fn push_own(&mut self, waiting: Waiting) -> bool {
        let bytes = self.own_bytes.saturating_add(waiting.frame.len());
        if self.own.len() >= self.limits.own || (bytes > self.limits.bytes && !self.own.is_empty()) {
            return false;
        }
        self.own_bytes = bytes;
        self.own.push_back(waiting);
        true
    }

    fn push_forward(&mut self, topic: &Topic, waiting: Waiting) -> bool {
        let bytes = self.forward_bytes.saturating_add(waiting.frame.len());
        if bytes > self.limits.bytes && !self.topics.is_empty() {
            return false;
        }
        match self.topics.get_mut(topic) {
            Some(frames) if frames.len() >= self.limits.topic => return false,
            Some(frames) => frames.push_back(waiting),
            None => {
                self.topics.insert(topic.clone(), VecDeque::from([waiting]));
                self.turns.push_back(topic.clone());
            }
        }
        self.forward_bytes = bytes;
        true
    }

    fn pop(&mut self) -> Option<Bytes> {
        if let Some(Waiting { frame, .. }) = self.control.pop_front().or_else(|| self.gossip.pop_front()) {
            return Some(frame);
        }
        if let Some(Waiting { frame, .. }) = self.own.pop_front() {
            self.own_bytes = self.own_bytes.saturating_sub(frame.len());
            return Some(frame);
        }
        let topic = self.turns.pop_front()?;
        let frames = self.topics.get_mut(&topic)?;
        let Waiting { frame, .. } = frames.pop_front()?;
        if frames.is_empty() {
            self.topics.remove(&topic);
        } else {
            self.turns.push_back(topic);
        }
        self.forward_bytes = self.forward_bytes.saturating_sub(frame.len());
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(limits: Limits) -> Queue {
        Queue::new(limits, Budget::unlimited())
    }

    fn frame(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    fn drain(queue: &Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|frame| String::from_utf8(frame.to_vec()).unwrap()).collect()
    }

    #[test]
    fn control_goes_before_own_goes_before_others_and_topics_take_turns() {
        let queue = queue(Limits::default());
        assert_eq!(queue.message(&topic("a"), frame("a1"), false, None), Pushed::First);
        assert_eq!(queue.message(&topic("a"), frame("a2"), false, None), Pushed::Waits);
        queue.message(&topic("a"), frame("a3"), false, None);
        queue.message(&topic("b"), frame("b1"), false, None);
        queue.message(&topic("b"), frame("own"), true, None);
        queue.control(Lane::Gossip, frame("ihave"));
        queue.control(Lane::Control, frame("graft"));
        assert_eq!(queue.len(), 7);
        assert_eq!(drain(&queue), ["graft", "ihave", "own", "a1", "b1", "a2", "a3"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn every_lane_has_its_limit() {
        let limits = Limits { control: 2, gossip: 1, own: 3, topic: 2, bytes: 1000 };
        let queue = queue(limits);
        let fits = |push: &dyn Fn() -> Pushed| {
            std::iter::repeat_with(push).take_while(|pushed| *pushed != Pushed::Full).count()
        };
        assert_eq!(fits(&|| queue.control(Lane::Control, frame("c"))), 2);
        assert_eq!(fits(&|| queue.control(Lane::Gossip, frame("g"))), 1);
        assert_eq!(fits(&|| queue.message(&topic("a"), frame("o"), true, None)), 3);
        assert_eq!(fits(&|| queue.message(&topic("a"), frame("a"), false, None)), 2);
        assert_eq!(fits(&|| queue.message(&topic("b"), frame("b"), false, None)), 2);
        assert_eq!(drain(&queue).len(), 10);
    }

    #[test]
    fn bytes_are_bounded_but_one_message_always_fits() {
        let queue = queue(Limits { bytes: 100, ..Limits::default() });
        let big = Bytes::from(vec![0; 200]);
        for own in [true, false] {
            assert_ne!(queue.message(&topic("a"), big.clone(), own, None), Pushed::Full);
            assert_eq!(queue.message(&topic("b"), frame("small"), own, None), Pushed::Full);
        }
        assert_eq!(drain(&queue).len(), 2);
        for own in [true, false] {
            assert_ne!(queue.message(&topic("a"), Bytes::from(vec![0; 99]), own, None), Pushed::Full);
            assert_ne!(queue.message(&topic("a"), frame("1"), own, None), Pushed::Full);
            assert_eq!(queue.message(&topic("a"), frame("2"), own, None), Pushed::Full);
        }
    }

    /// What it says fits, and a byte more does not.
    #[test]
    fn the_room_is_told_before_a_message_is_made() {
        let queue = queue(Limits { topic: 2, bytes: 100, ..Limits::default() });
        let (a, b) = (topic("a"), topic("b"));
        let push = |of: &Topic, len: usize| queue.message(of, Bytes::from(vec![0; len]), false, None);
        assert_eq!((queue.room(&a), queue.has(&a)), (Some(usize::MAX), false));
        push(&a, 60);
        assert_eq!((queue.room(&a), queue.has(&a), queue.has(&b)), (Some(40), true, false));
        assert_eq!(push(&a, 41), Pushed::Full);
        push(&a, 39);
        assert_eq!((queue.room(&a), queue.room(&b)), (None, Some(1)), "no third of a topic");
        assert_eq!(push(&b, 1), Pushed::Waits);
        assert_eq!(queue.room(&topic("c")), None);
        queue.clear();
        push(&a, 200);
        assert_eq!(queue.room(&b), None);
    }

    #[test]
    fn control_is_charged_and_messages_bring_their_charge() {
        let budget = Budget::limited(10);
        let queue = Queue::new(Limits::default(), budget.clone());
        assert_eq!(queue.control(Lane::Control, frame("12345678901")), Pushed::NoMemory);
        assert_eq!(queue.control(Lane::Control, frame("12345")), Pushed::First);
        assert_eq!(queue.control(Lane::Gossip, frame("12345")), Pushed::Waits);
        assert_eq!(queue.control(Lane::Gossip, frame("1")), Pushed::NoMemory);
        assert!(queue.pop().is_some());
        let charge = Some(Arc::new(budget.reserve(5).unwrap()));
        assert_eq!(queue.message(&topic("a"), frame("a"), false, charge), Pushed::Waits);
        assert!(budget.reserve(1).is_err());
        assert_eq!(queue.clear(), 2);
        assert!(queue.is_empty() && budget.reserve(10).is_ok());
    }

    #[test]
    fn who_waits_is_woken() {
        let queue = queue(Limits::default());
        let (waker, woken) = futures_waker();
        let mut cx = Context::from_waker(&waker);
        assert!(queue.poll_pop(&mut cx).is_pending());
        queue.control(Lane::Control, frame("graft"));
        assert!(!woken.load(std::sync::atomic::Ordering::Relaxed));
        queue.wake();
        assert!(woken.load(std::sync::atomic::Ordering::Relaxed));
        assert!(queue.poll_pop(&mut cx).is_ready());
    }

    fn futures_waker() -> (Waker, Arc<std::sync::atomic::AtomicBool>) {
        struct Flag(Arc<std::sync::atomic::AtomicBool>);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let woken = Arc::new(std::sync::atomic::AtomicBool::new(false));
        (Arc::new(Flag(woken.clone())).into(), woken)
    }
}
