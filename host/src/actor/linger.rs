//! How a worker waits for what comes soon.
//!
//! A thread that sleeps is woken by whoever has something for it, in a system call of several microseconds, and begins some ten
//! microseconds later: of the way of a short message within a machine that is most. So a worker on which such messages go back
//! and forth looks for a little while whether the next has come, before it sleeps, as hypervisors do with idle processors. A
//! worker for which they come more rarely, as over most real networks, never does, nor one that moves bulk, or serves many streams
//! of a connection: those gain when more comes together. One that has looked in vain does so no more until waits were short again.
//!
//! The decisions are here, without a clock; the runtime asks for them before it parks its thread, and after.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use peerage_muxer::soon;
use tokio::runtime::Builder;

/// Short waits of a conversation, one after another, after which a worker begins to look.
const BRIEF_WAITS: u32 = 4;

/// A round of the runtime without work takes less than this between a look and the next; a round with work takes more.
const IDLE_ROUND: Duration = Duration::from_micros(2);

/// What a worker's waits were like.
#[derive(Debug)]
struct Waits {
    /// How long to look in vain, and up to when a wait is short.
    window: Duration,
    /// How many short waits there were since there was another one.
    brief: u32,
    /// Since when nothing has come, while it looks.
    looking: Option<Instant>,
    /// When it was last left to the runtime to sleep or look.
    parked: Option<Instant>,
    unparked: Option<Instant>,
}

impl Waits {
    fn new(window: Duration) -> Self {
        Self { window, brief: 0, looking: None, parked: None, unparked: None }
    }

    /// There is nothing more to do: whether to look for events, instead of sleeping until there is one. `expects` says whether
    /// what was done was part of a conversation.
    fn looks(&mut self, expects: bool, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let worked = self.unparked.is_none_or(|at| since(at) > IDLE_ROUND);
        if worked && !expects {
            (self.looking, self.brief) = (None, 0);
        }
        match self.looking {
            Some(_) if worked => self.looking = Some(now),
            Some(start) if since(start) >= self.window => (self.looking, self.brief) = (None, 0),
            None if self.brief >= BRIEF_WAITS => self.looking = Some(now),
            _ => {}
        }
        self.parked = Some(now);
        self.looking.is_some()
    }

    /// It has slept, or looked.
    fn waited(&mut self, now: Instant) {
        if self.looking.is_none() {
            let brief = self.parked.is_some_and(|at| now.saturating_duration_since(at) < self.window);
            self.brief = if brief { self.brief.saturating_add(1) } else { 0 };
        }
        self.unparked = Some(now);
    }
}

/// Makes the runtime of a worker look before it sleeps.
#[derive(Clone, Debug)]
pub(super) struct Linger(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    waits: Waits,
    /// Wakes a task that does nothing: a runtime that has a task looks for events once, and does not sleep.
    idler: Option<Waker>,
}

impl Linger {
    pub(super) fn new(window: Duration) -> Self {
        Self(Arc::new(Mutex::new(State { waits: Waits::new(window), idler: None })))
    }

    pub(super) fn install(&self, builder: &mut Builder) {
        let (before, after) = (self.clone(), self.clone());
        builder.on_thread_park(move || before.park()).on_thread_unpark(move || after.unpark());
    }

    /// To be spawned on the runtime.
    pub(super) async fn idle(self) {
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            self.lock().idler = Some(waker);
            Poll::Pending
        })
        .await
    }

    fn park(&self) {
        let mut state = self.lock();
        let looks = state.waits.looks(soon::take(), now());
        let idler = state.idler.clone().filter(|_| looks);
        drop(state);
        if let Some(idler) = idler {
            idler.wake();
            // Who has something to do on this processor goes first.
            thread::yield_now();
        }
    }

    fn unpark(&self) {
        self.lock().waits.waited(now());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "threads sleep in real time, whatever time their tasks are told"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_micros(200);

    /// A worker's day, in microseconds.
    struct Day {
        waits: Waits,
        now: Instant,
    }

    impl Day {
        fn new() -> Self {
            Self { waits: Waits::new(WINDOW), now: now() }
        }

        /// It works for 10 µs, and then has nothing to do; says whether it looks.
        fn works(&mut self, expects: bool) -> bool {
            self.now += Duration::from_micros(10);
            self.waits.looks(expects, self.now)
        }

        fn sleeps(&mut self, micros: u64) {
            self.now += Duration::from_micros(micros);
            self.waits.waited(self.now);
        }

        /// It looks in vain for so long, in rounds of 1 µs; says whether it still does.
        fn looks(&mut self, micros: u64) -> bool {
            (0..micros).all(|_| {
                self.now += Duration::from_micros(1);
                self.waits.waited(self.now);
                self.waits.looks(false, self.now)
            })
        }

        fn begins_to_look(&mut self) {
            for _ in 0..BRIEF_WAITS {
                assert!(!self.works(true));
                self.sleeps(90);
            }
            assert!(self.works(true), "after so many short waits");
        }
    }

    #[test]
    fn it_looks_while_answers_come_soon() {
        let mut day = Day::new();
        day.begins_to_look();
        for _ in 0..100 {
            assert!(day.looks(199));
            assert!(day.works(true));
        }
    }

    #[test]
    fn it_sleeps_when_nothing_came() {
        let mut day = Day::new();
        day.begins_to_look();
        assert!(!day.looks(200));
        // From the beginning: such a wait is not short.
        day.sleeps(90);
        day.works(true);
        day.sleeps(WINDOW.as_micros() as u64);
        day.begins_to_look();
    }

    #[test]
    fn what_is_no_conversation_ends_it() {
        let mut day = Day::new();
        day.begins_to_look();
        assert!(!day.works(false));
        for _ in 0..100 {
            day.sleeps(20);
            assert!(!day.works(false), "bulk is not waited for, however soon it comes");
        }
        day.begins_to_look();
    }

    #[test]
    fn over_a_network_it_never_looks() {
        let mut day = Day::new();
        for _ in 0..100 {
            assert!(!day.works(true));
            day.sleeps(200);
        }
    }
}
