use std::{collections::VecDeque, panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt as _, future::LocalBoxFuture};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Exit, Intensity, Kernel, Notice,
    budget::Budget,
    panic_text,
    tree::{ActorKind, ActorState},
};

/// Which children are started again when one of them failed, as in OTP. Children start in order and stop in reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// That one.
    OneForOne,
    /// All of them.
    #[cfg_attr(not(test), expect(dead_code, reason = "OTP has three, and tests hold all of them"))]
    OneForAll,
    /// That one and those that were started after it.
    RestForOne,
}

/// Whether a child that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Always.
    Permanent,
    /// If it ended abnormally.
    #[cfg_attr(not(test), expect(dead_code, reason = "OTP has three, and tests hold all of them"))]
    Transient,
    /// Never.
    #[cfg_attr(not(test), expect(dead_code, reason = "OTP has three, and tests hold all of them"))]
    Temporary,
}

/// What happens when the budget of restarts is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnSpent {
    /// The supervisor stops its children and fails; its parent decides. Children share one budget.
    Escalate,
    /// The child that failed stays off and is reported; its siblings live on. Each child has a budget of its own.
    SwitchOff,
}

/// A child: an actor, a task, or another supervisor.
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) restart: Restart,
    /// Makes one life of it. The future ends with it, and in good order soon after the token is cancelled.
    pub(crate) start: Start,
    /// Called when it is switched off for good.
    pub(crate) off: Box<dyn FnMut() + Send>,
}

/// Starts a child. `Send`, so that a child can be handed to a supervisor that already runs.
pub(crate) type Start = Box<dyn FnMut(CancellationToken) -> LocalBoxFuture<'static, Exit> + Send>;

impl Spec {
    /// A child that is always started again.
    pub(crate) fn permanent(
        name: impl Into<String>,
        start: impl FnMut(CancellationToken) -> LocalBoxFuture<'static, Exit> + Send + 'static,
    ) -> Self {
        let off = Box::new(|| ());
        Self { name: name.into(), restart: Restart::Permanent, start: Box::new(start), off }
    }
}

/// A supervisor's description.
pub(crate) struct Group {
    pub(crate) path: String,
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) on_spent: OnSpent,
    pub(crate) children: Vec<Spec>,
    /// Children that come while it runs.
    pub(crate) arrivals: Option<mpsc::Receiver<Spec>>,
}

/// How long a child may take to stop before it is killed. Longer than an actor's own grace.
const SHUTDOWN: Duration = Duration::from_secs(4);

/// Runs a supervisor until it is stopped, or has to give up. It is a plain future, so that supervisors nest.
pub(crate) async fn supervise(kernel: Kernel, group: Group, stop: CancellationToken) -> Exit {
    kernel.tree.started(&group.path, ActorKind::Supervisor, None);
    let shared = Budget::new(group.intensity);
    let children = group.children.into_iter().map(|spec| Child::new(spec, group.intensity)).collect();
    let arrivals = group.arrivals;
    let mut supervisor = Supervisor {
        kernel,
        path: group.path,
        strategy: group.strategy,
        on_spent: group.on_spent,
        shared,
        children,
        running: JoinSet::new(),
        missed: VecDeque::new(),
    };
    let exit = supervisor.run(arrivals, group.intensity, stop).await;
    let all = 0..supervisor.children.len();
    supervisor.stop(all).await;
    if exit.is_abnormal() {
        supervisor.kernel.tree.state(&supervisor.path, ActorState::Restarting);
    }
    exit
}

struct Supervisor {
    kernel: Kernel,
    path: String,
    strategy: Strategy,
    on_spent: OnSpent,
    shared: Budget,
    children: Vec<Child>,
    running: JoinSet<Report>,
    /// Children that ended while others were being stopped.
    missed: VecDeque<Report>,
}

struct Child {
    spec: Spec,
    /// Counts its lives; a report of an earlier one is stale.
    generation: u64,
    budget: Budget,
    state: Life,
}

enum Life {
    /// Dropping it tells the child to stop, also when this supervisor itself is dropped half way.
    Running {
        stop: DropGuard,
        abort: AbortHandle,
    },
    Waiting {
        until: Instant,
    },
    Ended,
}

struct Report {
    index: usize,
    generation: u64,
    exit: Exit,
}

impl Child {
    fn new(spec: Spec, intensity: Intensity) -> Self {
        Self { spec, generation: 0, budget: Budget::new(intensity), state: Life::Ended }
    }
}

impl Supervisor {
    async fn run(
        &mut self,
        mut arrivals: Option<mpsc::Receiver<Spec>>,
        intensity: Intensity,
        stop: CancellationToken,
    ) -> Exit {
        for index in 0..self.children.len() {
            self.start(index);
        }
        loop {
            if let Some(report) = self.missed.pop_front() {
                if let Some(exit) = self.ended(report).await {
                    return exit;
                }
                continue;
            }
            let restart_at = self.children.iter().filter_map(|child| match child.state {
                Life::Waiting { until } => Some(until),
                _ => None,
            });
            let restart_at = restart_at.min();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Exit::Shutdown,
                Some(report) = next(&mut self.running) => {
                    if let Some(exit) = self.ended(report).await {
                        return exit;
                    }
                }
                () = sleep_until(restart_at.unwrap_or_else(Instant::now)), if restart_at.is_some() => {
                    self.start_due();
                }
                Some(spec) = arrive(&mut arrivals) => {
                    self.children.push(Child::new(spec, intensity));
                    self.start(self.children.len().saturating_sub(1));
                }
            }
        }
    }

    fn start(&mut self, index: usize) {
        let Some(child) = self.children.get_mut(index) else {
            return;
        };
        child.generation = child.generation.wrapping_add(1);
        let (generation, stop) = (child.generation, CancellationToken::new());
        let life = std::panic::catch_unwind(AssertUnwindSafe(|| (child.spec.start)(stop.clone())));
        let abort = self.running.spawn_local(async move {
            let exit = match life {
                Ok(life) => AssertUnwindSafe(life).catch_unwind().await,
                Err(panic) => Err(panic),
            };
            let exit = exit.unwrap_or_else(|panic| Exit::Panicked(panic_text(panic.as_ref())));
            Report { index, generation, exit }
        });
        child.state = Life::Running { stop: stop.drop_guard(), abort };
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for index in 0..self.children.len() {
            if matches!(self.children.get(index), Some(Child { state: Life::Waiting { until }, .. }) if *until <= now)
            {
                self.start(index);
            }
        }
    }

    /// A child ended by itself. `Some` if this supervisor has to give up.
    async fn ended(&mut self, report: Report) -> Option<Exit> {
        let now = self.kernel.clock.now().mono;
        let child = self.children.get_mut(report.index)?;
        if child.generation != report.generation || !matches!(child.state, Life::Running { .. }) {
            return None;
        }
        child.state = Life::Ended;
        let path = join(&self.path, &child.spec.name);
        let again = match child.spec.restart {
            Restart::Permanent => true,
            Restart::Transient => report.exit.is_abnormal(),
            Restart::Temporary => false,
        };
        if !again {
            return None;
        }
        tracing::warn!(actor = path, exit = %report.exit, "an actor ended and is started again");
        let budget = match self.on_spent {
            OnSpent::Escalate => &mut self.shared,
            OnSpent::SwitchOff => &mut child.budget,
        };
        if !budget.take(now) {
            let why = report.exit.to_string();
            return match self.on_spent {
                OnSpent::Escalate => Some(Exit::Failed(format!("{path} used up the restarts: {why}"))),
                OnSpent::SwitchOff => {
                    tracing::error!(actor = path, why, "switched off: it used up its restarts");
                    (child.spec.off)();
                    self.kernel.tree.state(&path, ActorState::Off);
                    (self.kernel.notices)(Notice::SwitchedOff { actor: path, why });
                    None
                }
            };
        }
        let wait = budget.backoff();
        let set = match self.strategy {
            Strategy::OneForOne => report.index..report.index.saturating_add(1),
            Strategy::OneForAll => 0..self.children.len(),
            Strategy::RestForOne => report.index..self.children.len(),
        };
        self.stop(set.clone()).await;
        let now = Instant::now();
        let until = now.checked_add(wait).unwrap_or(now);
        for child in self.children.get_mut(set).into_iter().flatten() {
            self.kernel.tree.state(&join(&self.path, &child.spec.name), ActorState::Restarting);
            child.state = Life::Waiting { until };
        }
        None
    }

    /// Stops children, the last started first; kills those that take too long.
    async fn stop(&mut self, set: std::ops::Range<usize>) {
        for index in set.rev() {
            let Some(child) = self.children.get_mut(index) else {
                continue;
            };
            let Life::Running { stop, abort } = std::mem::replace(&mut child.state, Life::Ended) else {
                continue;
            };
            let generation = child.generation;
            drop(stop);
            let is_it = |report: &Report| report.index == index && report.generation == generation;
            if self.missed.iter().any(is_it) {
                self.missed.retain(|report| !is_it(report));
                continue;
            }
            let ended = async {
                while let Some(report) = next(&mut self.running).await {
                    if is_it(&report) {
                        break;
                    }
                    self.missed.push_back(report);
                }
            };
            if timeout(SHUTDOWN, ended).await.is_err() {
                abort.abort();
            }
        }
    }
}

async fn arrive(arrivals: &mut Option<mpsc::Receiver<Spec>>) -> Option<Spec> {
    arrivals.as_mut()?.recv().await
}

/// The next child's end. Never an abort: those are stale by then.
async fn next(running: &mut JoinSet<Report>) -> Option<Report> {
    loop {
        match running.join_next().await? {
            Ok(report) => return Some(report),
            Err(_) => continue,
        }
    }
}

/// A path one level down. The root's children stand at the top.
pub(crate) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}
