//! A driver with a virtual clock, for tests.
//!
//! Compiled always, so that other crates' tests can use it; no running node does.

use super::{Deadline, Engine, Now};
use std::time::{Duration, Instant};

/// How often an engine may be called at one instant of virtual time before it counts as spinning.
pub const MAX_CALLS_PER_INSTANT: u32 = 1000;

/// Unix time at which simulations start: 2023-11-14T22:13:20Z.
pub const UNIX_START: Duration = Duration::from_secs(1_700_000_000);

/// An engine and its virtual clock. Time moves in [`Sim::advance`] only, and nothing sleeps.
///
/// For an example see the [engine module](super).
#[derive(Debug)]
pub struct Sim<E: Engine> {
    engine: E,
    now: Now,
    actions: Vec<E::Action>,
}

/// The time at which a simulation starts. The monotonic part differs from run to run; only differences mean
/// something. It can move forward by [`NEVER`](super::NEVER).
pub fn start() -> Now {
    #[allow(
        clippy::disallowed_methods,
        reason = "an `Instant` cannot be made otherwise; the clock is not read again"
    )]
    let mono = Instant::now();
    Now { mono, unix: UNIX_START }
}

impl<E: Engine> Sim<E> {
    /// Drives `engine` from [`start`].
    pub fn new(engine: E) -> Sim<E> {
        Sim::at(engine, start())
    }

    /// Drives `engine` from `now`: for several engines on one clock.
    pub fn at(engine: E, now: Now) -> Sim<E> {
        let mut sim = Sim { engine, now, actions: Vec::new() };
        sim.drain();
        sim
    }

    /// Gives a command and collects the actions.
    pub fn command(&mut self, command: E::Command) {
        self.engine.handle_command(command, self.now);
        self.drain();
    }

    /// Gives an input and collects the actions.
    pub fn input(&mut self, input: E::Input) {
        self.engine.handle_input(input, self.now);
        self.drain();
    }

    /// Moves the clock forward by `by`, firing every deadline on the way in order, each at its exact time; one that is
    /// due now, or past, fires first. `advance(Duration::ZERO)` fires only these.
    ///
    /// # Panics
    ///
    /// With the deadline's reason, when the engine asks for more than [`MAX_CALLS_PER_INSTANT`] calls without time
    /// moving: on a real clock that is a busy loop.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now.plus(by);
        let mut calls = 0_u32;
        while let Some(deadline) = self.next_deadline().filter(|deadline| deadline.at <= end.mono) {
            let wait = deadline.at.saturating_duration_since(self.now.mono);
            calls = if wait.is_zero() { calls.saturating_add(1) } else { 1 };
            assert!(
                calls <= MAX_CALLS_PER_INSTANT,
                "busy loop: the engine was called {MAX_CALLS_PER_INSTANT} times for {:?} and still wants it at once",
                deadline.reason,
            );
            self.now = self.now.plus(wait);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Moves the clock to the next deadline and fires it; `false` when there is none. Panics as [`Sim::advance`].
    pub fn advance_to_deadline(&mut self) -> bool {
        let Some(deadline) = self.next_deadline() else {
            return false;
        };
        self.advance(deadline.at.saturating_duration_since(self.now.mono));
        true
    }

    /// Takes the actions since the last call, oldest first.
    pub fn actions(&mut self) -> Vec<E::Action> {
        std::mem::take(&mut self.actions)
    }

    /// What the engine waits for.
    pub fn next_deadline(&self) -> Option<Deadline> {
        self.engine.poll_timeout()
    }

    /// The virtual time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// The engine, to prepare it; what this makes it want to do is collected with the next call.
    pub fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    fn drain(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            self.actions.push(action);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Fires every `period`, and never moves its deadline when `stuck`.
    struct Ticker {
        next: Instant,
        period: Duration,
        stuck: bool,
        out: VecDeque<(Instant, Duration)>,
    }

    impl Engine for Ticker {
        type Command = Duration;
        type Input = u8;
        type Action = (Instant, Duration);

        fn handle_command(&mut self, period: Duration, now: Now) {
            self.period = period;
            self.next = now.after(period);
        }
        fn handle_input(&mut self, _: u8, now: Now) {
            self.out.push_back((now.mono, now.unix));
        }
        fn handle_timeout(&mut self, now: Now) {
            if self.next <= now.mono && !self.stuck {
                self.next += self.period;
                self.out.push_back((now.mono, now.unix));
            }
        }
        fn poll_timeout(&self) -> Option<Deadline> {
            Some(Deadline { at: self.next, reason: "tick" })
        }
        fn poll_action(&mut self) -> Option<(Instant, Duration)> {
            self.out.pop_front()
        }
    }

    fn ticker(stuck: bool) -> Sim<Ticker> {
        let now = start();
        let period = Duration::from_secs(10);
        Sim::at(Ticker { next: now.mono + period, period, stuck, out: VecDeque::new() }, now)
    }

    #[test]
    fn deadlines_fire_in_order_at_their_time() {
        let mut sim = ticker(false);
        let began = sim.now();
        sim.advance(Duration::from_secs(35));
        let offsets: Vec<_> =
            sim.actions().iter().map(|(at, unix)| (*at - began.mono, *unix - began.unix)).collect();
        let expected = [10, 20, 30].map(Duration::from_secs);
        assert_eq!(offsets, expected.map(|at| (at, at)));
        assert_eq!(sim.now(), began.plus(Duration::from_secs(35)));
        assert!(sim.actions().is_empty());
    }

    #[test]
    fn inputs_and_commands_see_virtual_time() {
        let mut sim = ticker(false);
        sim.command(Duration::from_secs(3600));
        sim.advance(Duration::from_secs(3599));
        assert!(sim.actions().is_empty());
        sim.input(1);
        assert_eq!(sim.actions(), [(sim.now().mono, UNIX_START + Duration::from_secs(3599))]);
        assert!(sim.advance_to_deadline());
        assert_eq!(sim.actions(), [(sim.now().mono, UNIX_START + Duration::from_secs(3600))]);
    }

    #[test]
    fn hours_and_years_ahead() {
        let mut sim = ticker(false);
        sim.command(Duration::from_secs(100 * 24 * 3600));
        sim.advance(Duration::from_secs(10 * 366 * 24 * 3600));
        assert_eq!(sim.actions().len(), 36);
    }

    #[test]
    #[should_panic(expected = "busy loop: the engine was called 1000 times for \"tick\"")]
    fn a_deadline_that_does_not_move() {
        ticker(true).advance(Duration::from_secs(10));
    }
}
