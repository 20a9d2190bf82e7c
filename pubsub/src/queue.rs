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
}

/// The queue of one peer. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limits: Limits,
    control: VecDeque<Bytes>,
    gossip: VecDeque<Bytes>,
    own: VecDeque<Bytes>,
    /// Bytes in `own`.
    own_bytes: usize,
    topics: BTreeMap<Topic, VecDeque<Bytes>>,
    /// Topics that have something, in the order of their turns.
    turns: VecDeque<Topic>,
    /// Bytes in `topics`.
    forward_bytes: usize,
    waker: Option<Waker>,
}

impl Queue {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(State {
            limits,
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
        match lane {
            Lane::Gossip => state.gossip.push_back(frame),
            _ => state.control.push_back(frame),
        }
        if empty { Pushed::First } else { Pushed::Waits }
    }

    /// Adds a message.
    pub fn message(&self, topic: &Topic, frame: Bytes, own: bool) -> Pushed {
        let mut state = self.lock();
        let empty = state.is_empty();
        let fits = if own { state.push_own(frame) } else { state.push_forward(topic, frame) };
        match (fits, empty) {
            (false, _) => Pushed::Full,
            (true, true) => Pushed::First,
            (true, false) => Pushed::Waits,
        }
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

    fn push_own(&mut self, frame: Bytes) -> bool {
        let bytes = self.own_bytes.saturating_add(frame.len());
        if self.own.len() >= self.limits.own || (bytes > self.limits.bytes && !self.own.is_empty()) {
            return false;
        }
        self.own_bytes = bytes;
        self.own.push_back(frame);
        true
    }

    fn push_forward(&mut self, topic: &Topic, frame: Bytes) -> bool {
        let bytes = self.forward_bytes.saturating_add(frame.len());
        if bytes > self.limits.bytes && !self.topics.is_empty() {
            return false;
        }
        match self.topics.get_mut(topic) {
            Some(frames) if frames.len() >= self.limits.topic => return false,
            Some(frames) => frames.push_back(frame),
            None => {
                self.topics.insert(topic.clone(), VecDeque::from([frame]));
                self.turns.push_back(topic.clone());
            }
        }
        self.forward_bytes = bytes;
        true
    }

    fn pop(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.control.pop_front().or_else(|| self.gossip.pop_front()) {
            return Some(frame);
        }
        if let Some(frame) = self.own.pop_front() {
            self.own_bytes = self.own_bytes.saturating_sub(frame.len());
            return Some(frame);
        }
        let topic = self.turns.pop_front()?;
        let frames = self.topics.get_mut(&topic)?;
        let frame = frames.pop_front()?;
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
        let queue = Queue::new(Limits::default());
        assert_eq!(queue.message(&topic("a"), frame("a1"), false), Pushed::First);
        assert_eq!(queue.message(&topic("a"), frame("a2"), false), Pushed::Waits);
        queue.message(&topic("a"), frame("a3"), false);
        queue.message(&topic("b"), frame("b1"), false);
        queue.message(&topic("b"), frame("own"), true);
        queue.control(Lane::Gossip, frame("ihave"));
        queue.control(Lane::Control, frame("graft"));
        assert_eq!(queue.len(), 7);
        assert_eq!(drain(&queue), ["graft", "ihave", "own", "a1", "b1", "a2", "a3"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn every_lane_has_its_limit() {
        let limits = Limits { control: 2, gossip: 1, own: 3, topic: 2, bytes: 1000 };
        let queue = Queue::new(limits);
        let fits = |push: &dyn Fn() -> Pushed| {
            std::iter::repeat_with(push).take_while(|pushed| *pushed != Pushed::Full).count()
        };
        assert_eq!(fits(&|| queue.control(Lane::Control, frame("c"))), 2);
        assert_eq!(fits(&|| queue.control(Lane::Gossip, frame("g"))), 1);
        assert_eq!(fits(&|| queue.message(&topic("a"), frame("o"), true)), 3);
        assert_eq!(fits(&|| queue.message(&topic("a"), frame("a"), false)), 2);
        assert_eq!(fits(&|| queue.message(&topic("b"), frame("b"), false)), 2);
        assert_eq!(drain(&queue).len(), 10);
    }

    #[test]
    fn bytes_are_bounded_but_one_message_always_fits() {
        let queue = Queue::new(Limits { bytes: 100, ..Limits::default() });
        let big = Bytes::from(vec![0; 200]);
        for own in [true, false] {
            assert_ne!(queue.message(&topic("a"), big.clone(), own), Pushed::Full);
            assert_eq!(queue.message(&topic("b"), frame("small"), own), Pushed::Full);
        }
        assert_eq!(drain(&queue).len(), 2);
        for own in [true, false] {
            assert_ne!(queue.message(&topic("a"), Bytes::from(vec![0; 99]), own), Pushed::Full);
            assert_ne!(queue.message(&topic("a"), frame("1"), own), Pushed::Full);
            assert_eq!(queue.message(&topic("a"), frame("2"), own), Pushed::Full);
        }
    }

    #[test]
    fn who_waits_is_woken() {
        let queue = Queue::new(Limits::default());
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
