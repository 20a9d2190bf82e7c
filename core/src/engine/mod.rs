//! The contract of every protocol core: state and policy, without sockets, tasks or clocks.
//!
//! An [`Engine`] is driven by a shell, which owns the sockets, or by [`sim::Sim`], which owns a virtual clock. The
//! same engine runs in both. The rules:
//!
//! 1. **After every `handle_*`, drain.** The driver calls [`Engine::poll_action`] until it returns `None` and performs
//!    the actions in that order. Only then is [`Engine::poll_timeout`] current, and the driver asks it again.
//! 2. **A deadline is an invitation.** The driver calls [`Engine::handle_timeout`] at or after the deadline. It may
//!    also call it early, or without need: an engine compares every time it keeps with `now` and does only what is
//!    due. A deadline in the past means "at once"; after that call it must have moved or gone, else the driver spins.
//! 3. **One deadline, with a reason.** An engine keeps as many times as it likes and returns the earliest. The reason
//!    is a short constant text, for logs and for the panic of a simulation that spins.
//! 4. **Time comes in.** `now.mono` never runs backwards from call to call; `now.unix` may, and is for what is signed,
//!    stored or shown. No engine reads a clock. [`Now::after`] makes deadlines that cannot overflow, however large
//!    a peer's number was.
//! 5. **Chance comes in.** An engine that draws numbers is built with an [`Rng`] and uses no other source.
//! 6. **The same calls give the same actions**, byte for byte: containers that are iterated are ordered (`BTreeMap`,
//!    `Vec`), or hash with fixed keys; never a `HashMap` with random state.
//! 7. **Commands and inputs differ in who pays.** A command is what this node asks for. An input is what the network
//!    brought: it carries the peer it came from, and whatever it costs is charged there. Neither is answered by a
//!    return value; answers, errors included, are actions.
//! 8. **Nothing a peer sends may panic an engine**, and every collection in it has a limit.
//!
//! ```
//! use peerage_core::engine::{Deadline, Engine, Now, sim::Sim};
//! use std::time::{Duration, Instant};
//!
//! /// Says "tick" a second after it was wound up.
//! #[derive(Default)]
//! struct Clockwork {
//!     due: Option<Instant>,
//!     said: Option<&'static str>,
//! }
//!
//! impl Engine for Clockwork {
//!     type Command = ();
//!     type Input = ();
//!     type Action = &'static str;
//!
//!     fn handle_command(&mut self, (): (), now: Now) {
//!         self.due = Some(now.after(Duration::from_secs(1)));
//!     }
//!     fn handle_input(&mut self, (): (), _: Now) {}
//!     fn handle_timeout(&mut self, now: Now) {
//!         if self.due.is_some_and(|due| due <= now.mono) {
//!             self.due = None;
//!             self.said = Some("tick");
//!         }
//!     }
//!     fn poll_timeout(&self) -> Option<Deadline> {
//!         self.due.map(|at| Deadline { at, reason: "tick" })
//!     }
//!     fn poll_action(&mut self) -> Option<&'static str> {
//!         self.said.take()
//!     }
//! }
//!
//! let mut sim = Sim::new(Clockwork::default());
//! sim.command(());
//! sim.advance(Duration::from_millis(999));
//! assert!(sim.actions().is_empty());
//! sim.advance(Duration::from_millis(1));
//! assert_eq!(sim.actions(), ["tick"]);
//! ```

pub mod sim;

use std::time::{Duration, Instant};

/// The random numbers an engine draws: seeded, the same on every machine. Not for keys.
///
/// ```
/// use peerage_core::engine;
/// assert_eq!(engine::rng(7), engine::rng(7));
/// ```
pub use rand_chacha::ChaCha8Rng as Rng;

/// The furthest ahead that [`Now::after`] looks: a hundred years, which stands for "never".
pub const NEVER: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// An [`Rng`] from a small seed.
pub fn rng(seed: u64) -> Rng {
    <Rng as rand_chacha::rand_core::SeedableRng>::seed_from_u64(seed)
}

/// The time, as the driver of an engine reads it once per call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and durations; never runs backwards.
    pub mono: Instant,
    /// Since 1970-01-01T00:00:00Z, as far as this machine knows; may jump.
    pub unix: Duration,
}

impl Now {
    /// The instant `wait` from now. A wait over [`NEVER`] counts as that: a peer's number cannot overflow it.
    pub fn after(&self, wait: Duration) -> Instant {
        // The fallback is for platforms whose clock ends sooner.
        self.mono.checked_add(wait.min(NEVER)).unwrap_or(self.mono)
    }

    /// How long ago `then` was; zero when it is still to come.
    pub fn since(&self, then: Instant) -> Duration {
        self.mono.saturating_duration_since(then)
    }

    /// This time, moved forward on both clocks.
    #[must_use]
    pub fn plus(&self, wait: Duration) -> Now {
        Now { mono: self.after(wait), unix: self.unix.saturating_add(wait.min(NEVER)) }
    }
}

/// When an engine wants [`Engine::handle_timeout`], and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The instant; one in the past means at once.
    pub at: Instant,
    /// What will be done then, in two or three words.
    pub reason: &'static str,
}

impl Deadline {
    /// The earlier of two deadlines, the first of equal ones: for an engine that keeps several.
    pub fn earlier(a: Option<Deadline>, b: Option<Deadline>) -> Option<Deadline> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// The state and policy of one protocol. The rules are in the [module's documentation](self).
pub trait Engine: 'static {
    /// What this node asks for.
    type Command: Send + 'static;
    /// What the network brought; charged to the peer it came from.
    type Input: Send + 'static;
    /// What the shell shall do.
    type Action: 'static;

    /// Takes a command.
    fn handle_command(&mut self, command: Self::Command, now: Now);
    /// Takes what the network brought.
    fn handle_input(&mut self, input: Self::Input, now: Now);
    /// Does what is due at `now`; nothing, when nothing is.
    fn handle_timeout(&mut self, now: Now);
    /// The earliest deadline, current once [`Engine::poll_action`] has returned `None`.
    fn poll_timeout(&self) -> Option<Deadline>;
    /// The next thing to do, in order; `None` until the next `handle_*`.
    fn poll_action(&mut self) -> Option<Self::Action>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_cannot_overflow() {
        let now = sim::start();
        assert_eq!(now.after(Duration::MAX), now.after(NEVER));
        assert!(now.after(NEVER) > now.mono);
        assert_eq!(now.plus(Duration::MAX).unix, now.unix + NEVER);
    }

    #[test]
    fn the_earlier_deadline() {
        let now = sim::start();
        let soon = Deadline { at: now.mono, reason: "soon" };
        let late = Deadline { at: now.after(Duration::from_secs(1)), reason: "late" };
        assert_eq!(Deadline::earlier(Some(late), Some(soon)), Some(soon));
        assert_eq!(Deadline::earlier(None, Some(late)), Some(late));
        assert_eq!(Deadline::earlier(Some(late), None), Some(late));
        assert_eq!(Deadline::earlier(None, None), None);
    }

    /// A seed that reproduces a failure today must do so after an update of the generator.
    #[test]
    fn the_generator_does_not_change() {
        use rand_chacha::rand_core::Rng as _;
        let mut rng = rng(7);
        assert_eq!([rng.next_u64(), rng.next_u64()], [2_910_824_217_569_608_635, 3_098_856_782_162_503_994]);
    }
}
