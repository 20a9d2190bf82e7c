//! What lets more through, found out by trying.
//!
//! Where the buffer is not what limits, a wider one only makes a queue longer somewhere, or overflows it; and over a short
//! way, trying early costs wake-ups for nothing. So each step is measured against the one before, and taken back, for good,
//! unless it helped.

use tokio::time::{Duration, Instant};

/// Bytes that pass before a step is measured, in buffers: until then the path gets used to it.
const SETTLE: usize = 2;
/// Bytes that pass while it is measured, in buffers.
const MEASURE: usize = 3;
/// How long it is measured at least: over a short way, a few buffers say nothing.
const MEASURE_MIN: Duration = Duration::from_millis(100);

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

    /// Whether it helped. A buffer that is tried early is fuller by up to a fifth, and one of twice the size may let through
    /// twice as much; where the path is full already, neither changes anything but by chance.
    fn helped(self, before: u128, after: u128) -> bool {
        let hundredths: u128 = if self.times() > 1 { 125 } else { 105 };
        after.saturating_mul(100) >= before.saturating_mul(hundredths)
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
        Self { step, own, most, before: None, phase, since: now, passed: 0 }
    }

    /// One that has ended with that.
    #[cfg(test)]
    pub(super) fn early(own: usize) -> Self {
        Self { step: Step::Early, phase: Phase::Over, ..Self::new(own, 0, Instant::now()) }
    }

    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// Bytes of the buffer.
    pub(super) fn size(&self) -> usize {
        self.own.saturating_mul(self.step.times())
    }

    /// The buffer took more.
    pub(super) fn passed(&mut self, len: usize) {
        self.passed = self.passed.saturating_add(len);
    }

    /// The step that was to be taken could not be.
    pub(super) fn refused(&mut self) {
        self.step = self.step.before();
        self.phase = Phase::Over;
    }

    /// The buffer is full: what it took since it was full before is what has passed. Whether another step is taken.
    pub(super) fn full(&mut self, now: Instant) -> bool {
        let took = now.saturating_duration_since(self.since);
        let (buffers, least) = match self.phase {
            Phase::Settling => (SETTLE, Duration::ZERO),
            Phase::Measuring => (MEASURE, MEASURE_MIN),
            Phase::Over => return false,
        };
        if self.passed < self.size().saturating_mul(buffers) || took < least {
            return false;
        }
        let rate = per_second(self.passed, took);
        (self.since, self.passed) = (now, 0);
        if self.phase == Phase::Settling {
            self.phase = Phase::Measuring;
            return false;
        }
        tracing::debug!(step = ?self.step, rate, before = self.before, "measured how much a send buffer lets through");
        if self.before.is_some_and(|before| !self.step.helped(before, rate)) {
            self.refused();
            return true;
        }
        let Some(next) = self.step.next(self.most) else {
            self.phase = Phase::Over;
            return false;
        };
        (self.step, self.before, self.phase) = (next, Some(rate), Phase::Settling);
        true
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
        /// Bytes that pass in a millisecond.
        fn rate(&self, step: Step, size: usize) -> usize {
            let held = if step == Step::Kernel { size * 5 / 6 } else { size };
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
                trial.passed(self.rate(trial.step(), trial.size()));
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
        let mut trial = Trial::new(1000, 0, start);
        let mut full = |passed, ms| {
            trial.passed(passed);
            trial.full(start + Duration::from_millis(ms)).then(|| trial.step())
        };
        assert_eq!(full(1999, 500), None);
        assert_eq!(full(1, 500), None);
        // It has settled. Too few bytes, and enough of them.
        assert_eq!(full(2999, 600), None);
        assert_eq!(full(1, 600), Some(Step::Early));
        assert_eq!(full(2000, 700), None);
        // Too early, and late enough.
        assert_eq!(full(6000, 799), None);
        assert_eq!(full(0, 800), None);
        // That helped, and there is no more to be had.
        assert_eq!(full(80_000, 9000), None);
        assert_eq!(trial.step(), Step::Early);
    }

    #[test]
    fn nothing_more_is_tried_after_a_refusal() {
        let now = Instant::now();
        let mut trial = Trial::new(0, 4000, now);
        assert!(trial.size() == 0 && !trial.full(now));
        assert!(trial.full(now + MEASURE_MIN));
        trial.refused();
        trial.passed(1_000_000);
        assert!(!trial.full(now + Duration::from_secs(10)));
        assert_eq!((trial.step(), per_second(1, Duration::ZERO)), (Step::Kernel, u128::MAX));
    }
}
