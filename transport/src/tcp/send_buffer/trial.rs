//! What lets more through, found out by trying.
//!
//! Where the buffer is not what limits, a wider one only makes a queue longer somewhere, or overflows it; and over a short
//! way, trying early costs wake-ups for nothing. So each step is measured against the one before, and taken back, for good,
//! unless it helped.
//!
//! Over a round trip of less than about 15 ms the kernel speaks before it is tried early, so that nothing is changed.

use tokio::time::{Duration, Instant};

/// Bytes that pass before a step is measured, in buffers (with what the kernel counts for itself): until then the path gets
/// used to it, and a connection that is new leaves its slow start behind.
const SETTLE: usize = 2;
/// Bytes that pass while it is measured, in buffers: some round trips, if the buffer is what limits.
const MEASURE: usize = 3;
/// How long it is measured at least: over a short way, a few buffers say nothing.
const MEASURE_MIN: Duration = Duration::from_millis(100);
/// How long it may take until the buffer, which had room, is full again: a program that pauses says nothing about the path.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// What a step has to let through, in hundredths of what the one before did: what trying early brings, up to a fifth, is
/// little more than chance makes of it; and twice the buffer may bring twice as much.
const EARLY_WORTH: u128 = 105;
const WIDE_WORTH: u128 = 125;

/// How a buffer is dealt with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// As the kernel does.
    Kernel,
    /// It is tried again before the kernel says that there is room.
    Early,
    /// The buffer is as many times as large.
    Wide(usize),
}

impl Step {
    /// What comes after it, in a buffer that may be as many times as large.
    fn next(self, most: usize) -> Option<Self> {
        match self {
            Self::Kernel => Some(Self::Early),
            Self::Early => Some(Self::Wide(2)),
            Self::Wide(times) => times.checked_mul(2).map(Self::Wide),
        }
        .filter(|next| next.times() <= most)
    }

    fn before(self) -> Self {
        match self {
            Self::Kernel | Self::Early => Self::Kernel,
            Self::Wide(times) if times > 2 => Self::Wide(times / 2),
            Self::Wide(_) => Self::Early,
        }
    }

    pub(super) fn times(self) -> usize {
        match self {
            Self::Kernel | Self::Early => 1,
            Self::Wide(times) => times,
        }
    }

    /// Whether it helped.
    fn helped(self, before: u128, after: u128) -> bool {
        let worth = if self.times() > 1 { WIDE_WORTH } else { EARLY_WORTH };
        after.saturating_mul(100) >= before.saturating_mul(worth)
    }
}

/// What is known so far.
#[derive(Debug)]
pub(super) struct Trial {
    step: Step,
    /// Bytes of the buffer that the kernel gives by itself, and how many times that there may be.
    own: usize,
    most: usize,
    /// What the step before let through, in bytes a second.
    before: Option<u128>,
    phase: Phase,
    since: Instant,
    /// Bytes since then.
    passed: usize,
    /// When it took something for the first time since it was full.
    room: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Settling,
    Measuring,
    Over,
}

impl Trial {
    /// Of a buffer of `own` bytes that may have up to `limit`.
    pub(super) fn new(own: usize, limit: usize, now: Instant) -> Self {
        let most = limit.checked_div(own).unwrap_or_default().max(1);
        let (step, phase) = (Step::Kernel, Phase::Settling);
        Self { step, own, most, before: None, phase, since: now, passed: 0, room: None }
    }

    /// One that has ended with that.
    #[cfg(test)]
    pub(super) fn early(own: usize) -> Self {
        Self { step: Step::Early, phase: Phase::Over, ..Self::new(own, 0, Instant::now()) }
    }

    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// Bytes that the buffer is to have.
    pub(super) fn wanted(&self) -> usize {
        self.own.saturating_mul(self.step.times())
    }

    /// The buffer took more.
    pub(super) fn passed(&mut self, len: usize, now: impl FnOnce() -> Instant) {
        self.passed = self.passed.saturating_add(len);
        self.room.get_or_insert_with(now);
    }

    /// The last step is taken back, because it did not help or was not to be had, and it ends there.
    pub(super) fn take_back(&mut self) {
        self.step = self.step.before();
        self.phase = Phase::Over;
    }

    /// The buffer is full: what it took since it was full before is what has passed. Whether the step is another one now.
    pub(super) fn full(&mut self, now: Instant) -> bool {
        let filling = self.room.take().map(|room| now.saturating_duration_since(room));
        let paused = filling.is_some_and(|time| time > PAUSE_MAX);
        let (buffers, least) = match self.phase {
            Phase::Over => return false,
            _ if paused => {
                self.begin(Phase::Settling, now);
                return false;
            }
            Phase::Settling => (SETTLE, Duration::ZERO),
            Phase::Measuring => (MEASURE, MEASURE_MIN),
        };
        let took = now.saturating_duration_since(self.since);
        if self.passed < self.wanted().saturating_mul(buffers) || took < least {
            return false;
        }
        let rate = per_second(self.passed, took);
        if self.phase == Phase::Settling {
            self.begin(Phase::Measuring, now);
            return false;
        }
        tracing::debug!(step = ?self.step, rate, before = self.before, "measured how much a send buffer lets through");
        if self.before.is_some_and(|before| !self.step.helped(before, rate)) {
            self.take_back();
            return true;
        }
        let Some(next) = self.step.next(self.most) else {
            self.phase = Phase::Over;
            return false;
        };
        (self.step, self.before) = (next, Some(rate));
        self.begin(Phase::Settling, now);
        true
    }

    fn begin(&mut self, phase: Phase, now: Instant) {
        (self.phase, self.since, self.passed) = (phase, now, 0);
    }
}

fn per_second(bytes: usize, time: Duration) -> u128 {
    let bytes = u128::try_from(bytes).unwrap_or(u128::MAX);
    let bytes = bytes.saturating_mul(Duration::from_secs(1).as_nanos());
    bytes.checked_div(time.as_nanos()).unwrap_or(u128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const OWN: usize = 4 * MIB;

    /// A way that has a rate and a length. Where the queue before its narrowest place cannot hold what comes, a fifth is sent
    /// again.
    struct Way {
        per_ms: usize,
        round_trip: usize,
        queue: usize,
    }

    impl Way {
        /// Bytes that pass in a millisecond. The kernel speaks when a third of the buffer is free, which takes a third of the
        /// round trip, and it is tried early each 4 ms.
        fn rate(&self, step: Step, size: usize) -> usize {
            let asked = if step == Step::Kernel { self.round_trip } else { self.round_trip.min(12) };
            let held = size - size * asked / (6 * self.round_trip);
            let on_its_way = self.per_ms * self.round_trip;
            let lost = if size > on_its_way + self.queue { self.per_ms / 5 } else { 0 };
            (held / self.round_trip).min(self.per_ms) - lost
        }

        /// The steps that are taken, as long as it takes.
        fn steps(&self, limit: usize) -> Vec<Step> {
            let mut now = Instant::now();
            let mut trial = Trial::new(OWN, limit, now);
            let mut steps = Vec::new();
            for _ in 0..60_000 {
                now += Duration::from_millis(1);
                trial.passed(self.rate(trial.step(), trial.wanted()), || now);
                if trial.full(now) {
                    steps.push(trial.step());
                }
            }
            assert_eq!(trial.phase, Phase::Over);
            steps
        }
    }

    #[test]
    fn what_helps_is_kept_and_nothing_else() {
        use Step::{Early, Kernel, Wide};

        let gigabit = |round_trip| Way { per_ms: 125_000, round_trip, queue: OWN };
        assert_eq!(gigabit(200).steps(4 * OWN), [Early, Wide(2), Wide(4)]);
        assert_eq!(gigabit(200).steps(4 * OWN - 1), [Early, Wide(2)]);
        // 7.5 MB are on their way.
        assert_eq!(gigabit(60).steps(4 * OWN), [Early, Wide(2), Wide(4), Wide(2)]);
        assert_eq!(gigabit(60).steps(2 * OWN), [Early, Wide(2)]);
        assert_eq!(gigabit(60).steps(2 * OWN - 1), [Early]);
        assert_eq!(gigabit(60).steps(0), [Early]);
        // 5 MB are, and no queue holds what is more.
        assert_eq!(Way { queue: 0, ..gigabit(40) }.steps(2 * OWN), [Early, Wide(2), Early]);
        // 2.5 MB are.
        assert_eq!(gigabit(20).steps(4 * OWN), [Early, Kernel]);
        assert_eq!(gigabit(1).steps(4 * OWN), [Early, Kernel]);
        // Nor does it see that twice as much could pass here.
        assert_eq!(Way { per_ms: 1_250_000, ..gigabit(10) }.steps(4 * OWN), [Early, Kernel]);
    }

    #[test]
    fn how_much_more_is_worth_it() {
        assert!(Step::Early.helped(100, 105) && !Step::Early.helped(100, 104));
        assert!(Step::Wide(2).helped(100, 125) && !Step::Wide(2).helped(100, 124));
        assert!(Step::Wide(4).helped(u128::MAX, u128::MAX));
    }

    #[test]
    fn it_is_measured_for_so_long_and_so_much() {
        let start = Instant::now();
        let mut trial = Trial::new(1000, 2000, start);
        let mut full = |passed, ms| {
            let now = start + Duration::from_millis(ms);
            trial.passed(passed, || now);
            trial.full(now).then(|| trial.step())
        };
        assert_eq!(full(1999, 100), None);
        assert_eq!(full(1, 200), None);
        // It has settled. Too few bytes, and enough of them.
        assert_eq!(full(2999, 400), None);
        assert_eq!(full(1, 400), Some(Step::Early));
        assert_eq!(full(2000, 500), None);
        // Too early, and late enough.
        assert_eq!(full(6000, 599), None);
        assert_eq!(full(0, 600), Some(Step::Wide(2)));
        // That helped, and there is no more to be had.
        assert_eq!(full(4000, 700), None);
        assert_eq!(full(80_000, 800), None);
        assert_eq!(full(1, 900), None);
        assert_eq!(trial.step(), Step::Wide(2));
    }

    #[test]
    fn after_a_pause_it_is_measured_anew() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut trial = Trial::new(1000, 0, start);
        let mut full = |passed, from, to| {
            trial.passed(passed, || at(from));
            trial.passed(0, || at(to));
            trial.full(at(to));
            (trial.phase, trial.step())
        };
        assert_eq!(full(2000, 0, 251), (Phase::Settling, Step::Kernel));
        assert_eq!(full(2000, 251, 501), (Phase::Measuring, Step::Kernel));
        assert_eq!(full(2999, 501, 751), (Phase::Measuring, Step::Kernel));
        assert_eq!(full(2999, 751, 1002), (Phase::Settling, Step::Kernel));
        assert_eq!(full(2000, 1002, 1003), (Phase::Measuring, Step::Kernel));
        assert_eq!(full(3000, 1003, 1200), (Phase::Settling, Step::Early));
    }

    /// Over a very long way, room comes at once each round trip, and not for long.
    #[test]
    fn it_is_no_pause_to_wait_for_the_path() {
        let mut now = Instant::now();
        let mut trial = Trial::new(OWN, 2 * OWN, now);
        let mut steps = Vec::new();
        for _ in 0..100 {
            now += Duration::from_secs(if trial.step() == Step::Kernel { 2 } else { 1 });
            trial.passed(trial.wanted(), || now);
            if trial.full(now) {
                steps.push(trial.step());
            }
        }
        assert_eq!(steps, [Step::Early, Step::Wide(2)]);
    }

    #[test]
    fn what_is_taken_back_is_for_good() {
        let now = Instant::now();
        let later = |ms| now + Duration::from_millis(ms);
        let mut trial = Trial::new(1000, 4000, now);
        trial.passed(2000, || now);
        assert!(!trial.full(later(1)));
        trial.passed(3000, || later(1));
        assert!(trial.full(later(101)));
        assert_eq!(trial.step(), Step::Early);
        trial.take_back();
        assert_eq!(trial.step(), Step::Kernel);
        for ms in 102..1000 {
            trial.passed(1_000_000, || later(ms));
            assert!(!trial.full(later(ms)));
        }
        assert_eq!(trial.step(), Step::Kernel);
    }

    #[test]
    fn nothing_overflows() {
        let mut trial = Trial::new(usize::MAX, usize::MAX, Instant::now());
        trial.passed(usize::MAX, Instant::now);
        trial.passed(usize::MAX, Instant::now);
        assert!(!trial.full(Instant::now()));
        assert_eq!(per_second(1, Duration::ZERO), u128::MAX);
        assert_eq!(Trial::new(0, 1, Instant::now()).most, 1);
    }
}
