//! The kernel under a paused clock: guards, credits, supervisors.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::LocalBoxFuture;
use peerage_core::{Deadline, Engine, Keypair, Now, PeerId};
use tokio::{sync::mpsc, task::LocalSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::*;

/// Counts; what it is told decides what it does.
#[derive(Default)]
struct Counter {
    count: u32,
    due: Option<std::time::Instant>,
    actions: VecDeque<Do>,
}

enum Say {
    Add(crate::Reply<u32>),
    Explode,
    ExplodeInAction,
    ExplodeIn(Duration),
    Hold(crate::Reply<()>),
}

enum Do {
    Answer(crate::Reply<u32>, u32),
    Release(crate::Reply<()>),
    Explode,
}

impl Engine for Counter {
    type Command = Say;
    type Input = Say;
    type Action = Do;

    fn handle_command(&mut self, command: Say, now: Now) {
        match command {
            Say::Add(reply) => {
                self.count += 1;
                self.actions.push_back(Do::Answer(reply, self.count));
            }
            Say::Explode => panic!("a bug in a handler"),
            Say::ExplodeInAction => self.actions.push_back(Do::Explode),
            Say::ExplodeIn(wait) => self.due = Some(now.after(wait)),
            Say::Hold(reply) => self.actions.push_back(Do::Release(reply)),
        }
    }

    fn handle_input(&mut self, input: Say, now: Now) {
        self.handle_command(input, now);
    }

    fn handle_timeout(&mut self, now: Now) {
        assert!(self.due.is_none_or(|due| due > now.mono), "a bug in a timer");
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.due.map(|at| Deadline { at, reason: "explodes" })
    }

    fn poll_action(&mut self) -> Option<Do> {
        self.actions.pop_front()
    }
}

struct Perform;

impl Effects<Do> for Perform {
    fn perform(&mut self, action: Do) {
        match action {
            Do::Answer(reply, count) => reply.send(count),
            Do::Release(reply) => reply.send(()),
            Do::Explode => panic!("a bug in an action"),
        }
    }
}

type Notices = Arc<Mutex<Vec<Notice>>>;

fn kernel() -> (Kernel, Notices) {
    kernel_on(Arc::new(Workers::here()))
}

fn kernel_on(workers: Arc<Workers>) -> (Kernel, Notices) {
    let notices = Notices::default();
    let sink = notices.clone();
    let kernel = Kernel::new(Surroundings {
        clock: Clock::start(),
        tree: Default::default(),
        faults: None,
        workers,
        notices: Arc::new(move |notice| sink.lock().expect("no panic").push(notice)),
    });
    (kernel, notices)
}

fn counter(
    kernel: &Kernel,
    port: &Port<Counter>,
    stop: CancellationToken,
) -> impl Future<Output = Exit> + use<> {
    Spawn::new(port.clone(), |_| (Counter::default(), Perform)).start(kernel, 0, stop)
}

/// Runs a test inside a paused runtime that can spawn local tasks.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), test)
}

fn peer() -> PeerId {
    Keypair::from_ed25519_seed([9; 32]).peer_id()
}

#[test]
fn after_a_panic_the_same_port_reaches_fresh_state_and_waiting_mail_is_kept() {
    run(async {
        let (kernel, notices) = kernel();
        let port = Port::new("counter");
        let exit = tokio::task::spawn_local(counter(&kernel, &port, CancellationToken::new()));
        assert_eq!(port.ask(Say::Add).await, Ok(1));
        assert_eq!(port.ask(Say::Add).await, Ok(2));
        // All three wait in the mailbox before the first is handled.
        port.post(Say::Explode);
        let (third, fourth) = tokio::join!(port.ask(Say::Add), port.ask(Say::Add));
        assert_eq!((third, fourth), (Ok(1), Ok(2)));
        assert_eq!(notices.lock().expect("no panic").len(), 1);
        let info = kernel.tree.snapshot();
        let info = info.at("counter").expect("in the tree");
        assert_eq!((info.generation, info.panics), (2, 1));
        assert_eq!(info.last_panic.as_deref(), Some("a bug in a handler"));
        assert!(!exit.is_finished());
    });
}

#[test]
fn a_panic_in_a_timer_or_an_action_is_the_same() {
    run(async {
        let (kernel, notices) = kernel();
        let port = Port::new("counter");
        let _exit = tokio::task::spawn_local(counter(&kernel, &port, CancellationToken::new()));
        port.ask(Say::Add).await.expect("running");
        port.tell(Say::ExplodeInAction).await.expect("running");
        assert_eq!(port.ask(Say::Add).await, Ok(1));
        port.tell(Say::ExplodeIn(Duration::from_secs(3600))).await.expect("running");
        tokio::time::sleep(Duration::from_secs(3601)).await;
        assert_eq!(port.ask(Say::Add).await, Ok(1));
        assert_eq!(notices.lock().expect("no panic").len(), 2);
    });
}

#[test]
fn a_loop_of_panics_spends_the_budget_and_then_nobody_is_at_home() {
    run(async {
        let (kernel, _) = kernel();
        let port = Port::new("counter");
        let exit = tokio::task::spawn_local(counter(&kernel, &port, CancellationToken::new()));
        for _ in 0..5 {
            port.tell(Say::Explode).await.expect("running");
            assert_eq!(port.ask(Say::Add).await, Ok(1));
        }
        port.tell(Say::Explode).await.expect("running");
        assert_eq!(port.ask(Say::Add).await, Err(Gone));
        assert_eq!(exit.await.expect("no panic"), Exit::Panicked("a bug in a handler".into()));
        assert_eq!(port.tell(Say::Explode).await, Err(Gone));
    });
}

#[test]
fn panics_that_a_peer_provokes_are_its_own_and_not_the_budgets() {
    run(async {
        let (kernel, notices) = kernel();
        let port = Port::new("counter");
        let _exit = tokio::task::spawn_local(counter(&kernel, &port, CancellationToken::new()));
        for _ in 0..100 {
            port.input(Some(peer()), Say::Explode).await.expect("running");
            // Actions that an input leads to are the peer's, too.
            port.input(Some(peer()), Say::ExplodeInAction).await.expect("running");
        }
        assert_eq!(port.ask(Say::Add).await, Ok(1));
        let charged =
            |notice: &Notice| matches!(notice, Notice::Panicked { peer: Some(who), .. } if *who == peer());
        assert_eq!(notices.lock().expect("no panic").iter().filter(|notice| charged(notice)).count(), 200);
    });
}

#[test]
fn senders_wait_for_credit_and_every_credit_comes_back() {
    run(async {
        let (kernel, _) = kernel();
        let port = Port::new("counter");
        let _exit = tokio::task::spawn_local(counter(&kernel, &port, CancellationToken::new()));
        // The actor has not been polled yet: the mailbox fills up.
        for _ in 0..port::MAILBOX {
            let told = tokio::task::unconstrained(port.tell(Say::Hold(crate::Reply::new(|()| ()))));
            assert_eq!(futures::FutureExt::now_or_never(told), Some(Ok(())));
        }
        let mut one_more = Box::pin(port.tell(Say::Hold(crate::Reply::new(|()| ()))));
        assert!(futures::poll!(one_more.as_mut()).is_pending());
        assert_eq!(one_more.await, Ok(()));
        port.tell(Say::Explode).await.expect("running");
        assert_eq!(port.ask(Say::Add).await, Ok(1));
        tokio::task::yield_now().await;
        assert_eq!(port.route().credits().available_permits(), port::MAILBOX);
        assert_eq!(kernel.tree.snapshot().at("counter").map(|info| info.queue), Some(0));
    });
}

#[test]
fn stopping_ends_an_actor_in_good_order() {
    run(async {
        let (kernel, _) = kernel();
        let (port, stop) = (Port::new("counter"), CancellationToken::new());
        let exit = tokio::task::spawn_local(counter(&kernel, &port, stop.clone()));
        assert_eq!(port.ask(Say::Add).await, Ok(1));
        stop.cancel();
        assert_eq!(exit.await.expect("no panic"), Exit::Shutdown);
        assert_eq!(port.ask(Say::Add).await, Err(Gone));
    });
}

/// What the children of a supervisor did: `+a` is a start, `-a` a stop.
type Log = Arc<Mutex<Vec<String>>>;

/// A child that lives until it is told to stop, or to fail through its channel.
fn child(name: &'static str, restart: Restart, log: &Log, fail: &Failing) -> Spec {
    let (log, fail) = (log.clone(), fail.clone());
    let start = move |stop: CancellationToken| -> LocalBoxFuture<'static, Exit> {
        log.lock().expect("no panic").push(format!("+{name}"));
        let (sender, mut receiver) = mpsc::channel(1);
        fail.lock().expect("no panic").insert(name, sender);
        let log = log.clone();
        Box::pin(async move {
            let exit = tokio::select! {
                () = stop.cancelled() => Exit::Shutdown,
                Some(exit) = receiver.recv() => exit,
            };
            log.lock().expect("no panic").push(format!("-{name}"));
            exit
        })
    };
    Spec { name: name.into(), restart, start: Box::new(start), off: Box::new(|| ()) }
}

type Failing = Arc<Mutex<std::collections::BTreeMap<&'static str, mpsc::Sender<Exit>>>>;

fn fail(failing: &Failing, name: &str) {
    let exit = Exit::Failed("told to".into());
    failing.lock().expect("no panic")[name].try_send(exit).expect("alive");
}

fn group(strategy: Strategy, max: usize, on_spent: OnSpent, children: Vec<Spec>) -> Group {
    let intensity = Intensity { max, period: Duration::from_secs(30) };
    Group { path: "group".into(), strategy, intensity, on_spent, children, arrivals: None }
}

async fn settled() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn taken(log: &Log) -> String {
    std::mem::take(&mut *log.lock().expect("no panic")).join(" ")
}

#[test]
fn who_is_restarted_follows_the_strategy() {
    let cases = [
        (Strategy::OneForOne, "-b +b"),
        (Strategy::RestForOne, "-b -c +b +c"),
        (Strategy::OneForAll, "-b -c -a +a +b +c"),
    ];
    for (strategy, expected) in cases {
        run(async move {
            let (log, failing) = (Log::default(), Failing::default());
            let children = ["a", "b", "c"].map(|name| child(name, Restart::Permanent, &log, &failing));
            let (kernel, stop) = (kernel().0, CancellationToken::new());
            let group = group(strategy, 3, OnSpent::Escalate, children.into());
            let supervisor = tokio::task::spawn_local(supervise(kernel, group, stop.clone()));
            settled().await;
            assert_eq!(taken(&log), "+a +b +c");
            fail(&failing, "b");
            settled().await;
            assert_eq!(taken(&log), expected, "{strategy:?}");
            stop.cancel();
            assert_eq!(supervisor.await.expect("no panic"), Exit::Shutdown);
            assert_eq!(taken(&log), "-c -b -a");
        });
    }
}

#[test]
fn who_comes_back_follows_the_kind_of_child() {
    run(async {
        let (log, failing) = (Log::default(), Failing::default());
        let children = vec![
            child("permanent", Restart::Permanent, &log, &failing),
            child("transient", Restart::Transient, &log, &failing),
            child("temporary", Restart::Temporary, &log, &failing),
        ];
        let group = group(Strategy::OneForOne, 9, OnSpent::Escalate, children);
        let _supervisor = tokio::task::spawn_local(supervise(kernel().0, group, CancellationToken::new()));
        settled().await;
        taken(&log);
        for name in ["permanent", "transient", "temporary"] {
            fail(&failing, name);
            settled().await;
        }
        assert_eq!(taken(&log), "-permanent +permanent -transient +transient -temporary");
        failing.lock().expect("no panic")["transient"].try_send(Exit::Normal).expect("alive");
        failing.lock().expect("no panic")["permanent"].try_send(Exit::Normal).expect("alive");
        settled().await;
        let mut rest: Vec<_> = taken(&log).split(' ').map(str::to_owned).collect();
        rest.sort();
        assert_eq!(rest, ["+permanent", "-permanent", "-transient"]);
    });
}

#[test]
fn a_spent_budget_escalates_and_the_parent_starts_the_group_anew() {
    run(async {
        let (log, failing) = (Log::default(), Failing::default());
        let (kernel, stop) = (kernel().0, CancellationToken::new());
        let inner = {
            let (kernel, log, failing) = (kernel.clone(), log.clone(), failing.clone());
            Spec::permanent("inner", move |stop| -> LocalBoxFuture<'static, Exit> {
                let children = ["a", "b"].map(|name| child(name, Restart::Permanent, &log, &failing));
                let group = group(Strategy::OneForOne, 1, OnSpent::Escalate, children.into());
                Box::pin(supervise(kernel.clone(), group, stop))
            })
        };
        let outer = group(Strategy::OneForOne, 1, OnSpent::Escalate, vec![inner]);
        let outer = tokio::task::spawn_local(supervise(kernel, outer, stop));
        settled().await;
        for expected in ["+a +b -a +a", "-a -b +a +b", "-a +a"] {
            fail(&failing, "a");
            settled().await;
            assert_eq!(taken(&log), expected);
        }
        fail(&failing, "a");
        let exit = outer.await.expect("no panic");
        assert!(matches!(exit, Exit::Failed(why) if why.contains("group/inner")));
        assert_eq!(taken(&log), "-a -b");
    });
}

#[test]
fn a_child_that_is_switched_off_leaves_its_siblings_alone() {
    run(async {
        let (log, failing) = (Log::default(), Failing::default());
        let (kernel, notices) = kernel();
        let children = ["a", "b"].map(|name| child(name, Restart::Permanent, &log, &failing));
        let group = group(Strategy::OneForOne, 2, OnSpent::SwitchOff, children.into());
        let supervisor = tokio::task::spawn_local(supervise(kernel, group, CancellationToken::new()));
        settled().await;
        for _ in 0..3 {
            fail(&failing, "a");
            settled().await;
        }
        assert_eq!(taken(&log), "+a +b -a +a -a +a -a");
        assert!(
            matches!(&notices.lock().expect("no panic")[..], [Notice::SwitchedOff { actor, .. }] if actor == "group/a")
        );
        assert!(!supervisor.is_finished());
        // Its own budget is untouched.
        fail(&failing, "b");
        settled().await;
        assert_eq!(taken(&log), "-b +b");
    });
}

#[test]
fn restarts_wait_longer_and_longer() {
    run(async {
        let starts = Arc::new(Mutex::new(Vec::new()));
        let log = starts.clone();
        let failing = Spec::permanent("failing", move |_| -> LocalBoxFuture<'static, Exit> {
            log.lock().expect("no panic").push(Instant::now());
            Box::pin(async { Exit::Failed("at once".into()) })
        });
        let group = group(Strategy::OneForOne, 5, OnSpent::Escalate, vec![failing]);
        let exit = supervise(kernel().0, group, CancellationToken::new()).await;
        assert!(exit.is_abnormal());
        let starts = starts.lock().expect("no panic");
        let waits: Vec<_> = starts.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        // Timers of a paused runtime have a granularity of one millisecond.
        let expected = [10, 20, 40, 80, 160];
        assert!(
            waits.len() == 5 && waits.iter().zip(expected).all(|(wait, due)| wait.abs_diff(due) <= 1),
            "{waits:?}"
        );
    });
}

#[test]
fn a_child_that_does_not_stop_is_killed() {
    run(async {
        let stop = CancellationToken::new();
        let deaf = Spec::permanent("deaf", |_| -> LocalBoxFuture<'static, Exit> {
            Box::pin(std::future::pending())
        });
        let group = group(Strategy::OneForOne, 1, OnSpent::Escalate, vec![deaf]);
        let supervisor = tokio::task::spawn_local(supervise(kernel().0, group, stop.clone()));
        settled().await;
        stop.cancel();
        assert_eq!(supervisor.await.expect("no panic"), Exit::Shutdown);
    });
}

#[test]
fn a_panicking_child_future_and_a_panicking_start_are_failures_like_others() {
    run(async {
        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        let child = Spec::permanent("child", move |_| -> LocalBoxFuture<'static, Exit> {
            match counted.fetch_add(1, Ordering::Relaxed) {
                0 => Box::pin(async { panic!("in its future") }),
                1 => panic!("in its start"),
                _ => Box::pin(std::future::pending()),
            }
        });
        let group = group(Strategy::OneForOne, 3, OnSpent::Escalate, vec![child]);
        let _supervisor = tokio::task::spawn_local(supervise(kernel().0, group, CancellationToken::new()));
        settled().await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn actors_live_on_worker_threads_and_their_ports_work_from_any_runtime() {
    let workers = Arc::new(Workers::threads(2, Duration::from_micros(200)).expect("threads"));
    let kernel = kernel_on(workers).0;
    let ports: Vec<Port<Counter>> = (0..4).map(|i| Port::new(format!("counter-{i}"))).collect();
    let stop = CancellationToken::new();
    let exits: Vec<_> = ports
        .iter()
        .enumerate()
        .map(|(i, port)| {
            Spawn::new(port.clone(), |_| (Counter::default(), Perform)).start(&kernel, i, stop.clone())
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        for port in &ports {
            port.tell(Say::Explode).await.expect("running");
            assert_eq!(port.ask(Say::Add).await, Ok(1));
        }
        stop.cancel();
        for exit in exits {
            assert_eq!(exit.await, Exit::Shutdown);
        }
    });
}

#[test]
fn a_life_that_was_given_up_does_not_close_the_port_of_the_next() {
    run(async {
        let (kernel, _) = kernel();
        let port = Port::<Counter>::new("counter");
        let (first, second) = (CancellationToken::new(), CancellationToken::new());
        let one = counter(&kernel, &port, first.clone());
        let _two = tokio::task::spawn_local(counter(&kernel, &port, second));
        settled().await;
        first.cancel();
        one.await;
        assert_eq!(port.ask(Say::Add).await, Ok(1));
    });
}
