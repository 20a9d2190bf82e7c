use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Where in an actor's work a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Point {
    /// Before a piece of mail is handled.
    Message,
    /// Before a deadline is handled.
    Timer,
    /// Before an action is performed.
    Action,
}

/// A panic to inject: at the `nth` (from 1) passage of `point` in the actor at `actor`, and at the `times - 1`
/// passages after that.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The actor's path, as in the tree: `core/host`. A `*` at the end matches every path that begins so.
    pub actor: String,
    /// Where.
    pub point: Point,
    /// At which passage, counted from 1 over all incarnations of the actor.
    pub nth: u64,
    /// How many passages in a row.
    pub times: u64,
}

/// Panics injected into actors, for tests of supervision: real handlers of every actor can be struck, not a special
/// message. A node has none unless its builder was given some.
///
/// It also counts the passages, so that a first run without faults tells which can be struck.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    passages: BTreeMap<(String, Point), u64>,
    struck: u64,
}

impl Faults {
    /// No faults yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault.
    pub fn add(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// How often each point of each actor was passed.
    pub fn passages(&self) -> BTreeMap<(String, Point), u64> {
        self.lock().passages.clone()
    }

    /// How many panics were injected.
    pub fn struck(&self) -> u64 {
        self.lock().struck
    }

    /// Passes a point; panics if a fault is due there.
    pub(crate) fn pass(&self, actor: &str, point: Point) {
        let due = {
            let mut state = self.lock();
            let count = state.passages.entry((actor.to_owned(), point)).or_default();
            *count = count.saturating_add(1);
            let count = *count;
            let due = state.faults.iter().any(|fault| fault.due(actor, point, count));
            state.struck = state.struck.saturating_add(u64::from(due));
            due
        };
        assert!(!due, "injected fault in {actor} at {point:?}");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    fn due(&self, actor: &str, point: Point, count: u64) -> bool {
        let here = match self.actor.strip_suffix('*') {
            Some(prefix) => actor.starts_with(prefix),
            None => self.actor == actor,
        };
        here && self.point == point && count.checked_sub(self.nth).is_some_and(|past| past < self.times)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("faults", &self.lock().faults).finish_non_exhaustive()
    }
}
