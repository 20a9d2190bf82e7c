use std::{
    any::Any,
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context as Cx, Poll, ready},
    time::{Duration, Instant},
};

use actix::{Actor, ActorFuture, Addr, AsyncContext, Context, Handler, Message, Supervised, dev::channel};
use futures::{
    FutureExt as _,
    future::{self, Either},
};
use peerage_core::{
    Engine, PeerId,
    engine::{Deadline, Now},
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Exit, Intensity, Kernel, Point, Port,
    guard::Guard,
    port::{Letter, Mail, Route},
    tree::ActorKind,
};

/// Performs what an engine asks for: the side of an actor that touches streams, sockets and other actors. It must not
/// wait; what takes time is a task that sends its result back as input.
pub trait Effects<A>: 'static {
    /// Performs one action.
    fn perform(&mut self, action: A);

    /// Called at the beginning of each life of the actor, before any mail, with its number (1 at first). A later
    /// life has to ask again for what the former one knew.
    fn born(&mut self, _generation: u64) {}
}

/// What a factory is told when it makes an actor's state.
pub struct Birth<E: Engine> {
    /// The actor's own port, for tasks that report back.
    pub port: Port<E>,
    /// Counts the lives of all actors of the process.
    life: u32,
}

impl<E: Engine> Birth<E> {
    /// Where this life may begin to count what it gives numbers to, so that reports on what a former life began,
    /// which may still be on their way, mean nothing to it.
    pub fn first_id(&self) -> u64 {
        u64::from(self.life) << 32
    }
}

fn next_life() -> u32 {
    static LIVES: AtomicU32 = AtomicU32::new(1);
    LIVES.fetch_add(1, Ordering::Relaxed)
}

/// How to make one actor. The factory runs on the actor's worker, at its start and after every panic.
///
/// From here on an actor's types are hidden: what carries it is compiled once, and not for each engine.
pub(crate) struct Spawn {
    route: Route,
    pub(crate) intensity: Intensity,
    make: Make,
}

/// Makes the state of one life.
type Make = Arc<dyn Fn() -> Box<dyn State> + Send + Sync>;

impl Spawn {
    pub(crate) fn new<E: Engine, F: Effects<E::Action>>(
        port: Port<E>,
        make: impl Fn(&Birth<E>) -> (E, F) + Send + Sync + 'static,
    ) -> Self {
        let intensity = Intensity { max: 5, period: Duration::from_secs(30) };
        let route = port.route().clone();
        let make = Arc::new(move || -> Box<dyn State> {
            let (engine, effects) = make(&Birth { port: port.clone(), life: next_life() });
            Box::new(Typed { engine, effects })
        });
        Self { route, intensity, make }
    }

    /// Switches the actor off: who asks it is told so at once.
    pub(crate) fn closing(&self) -> impl FnMut() + Send + use<> {
        let route = self.route.clone();
        move || route.close()
    }

    /// Starts the actor on `worker`; from the return of this call on, its port takes mail. The future ends with it.
    pub(crate) fn start(
        &self,
        kernel: &Kernel,
        worker: usize,
        stop: CancellationToken,
    ) -> impl Future<Output = Exit> + Send + use<> {
        // actix's capacity is per handle and does not bound anything; the port's credits do.
        let (sender, receiver) = channel::channel(super::port::MAILBOX);
        let recipient = Addr::<Shell>::new(sender).recipient();
        let life = next_life();
        let deliver = Arc::new(move |letter| {
            #[allow(clippy::disallowed_methods, reason = "the port holds the credits")]
            recipient.do_send(letter);
        });
        self.route.connect(u64::from(life), deliver);

        let (exited, exit) = oneshot::channel();
        let (kernel, route, make, intensity) =
            (kernel.clone(), self.route.clone(), Arc::clone(&self.make), self.intensity);
        let workers = Arc::clone(&kernel.workers);
        workers.spawn(worker, move || {
            let charged = Rc::new(Cell::new(None));
            let shell = Shell::new(kernel.clone(), route.clone(), make, Rc::clone(&charged));
            let path = route.path().to_owned();
            let guarded = match shell {
                Ok(shell) => {
                    let actor = Context::with_receiver(receiver).into_future(shell);
                    Either::Left(Guard::new(kernel, path, actor, intensity, charged, stop))
                }
                Err(text) => Either::Right(future::ready(Exit::Panicked(text))),
            };
            // No async block around it: that would keep room for it twice, for each actor, and each connection has one.
            guarded.map(move |exit| {
                route.disconnect(u64::from(life));
                let _ = exited.send(exit);
            })
        });
        async move { exit.await.unwrap_or(Exit::Killed) }
    }
}

/// An engine with its effects, of whatever types: the state of one life.
trait State {
    /// As [`Effects::born`].
    fn born(&mut self, generation: u64);

    /// Takes a [`Mail`] in.
    fn handle(&mut self, mail: Box<dyn Any + Send>, now: Now);

    /// Performs all that the engine has decided. `before` is called ahead of each action.
    fn settle(&mut self, before: &dyn Fn());

    /// As [`Engine::poll_timeout`].
    fn deadline(&self) -> Option<Deadline>;

    /// As [`Engine::handle_timeout`].
    fn handle_timeout(&mut self, now: Now);
}

struct Typed<E, F> {
    engine: E,
    effects: F,
}

impl<E: Engine, F: Effects<E::Action>> State for Typed<E, F> {
    fn born(&mut self, generation: u64) {
        self.effects.born(generation);
    }

    fn handle(&mut self, mail: Box<dyn Any + Send>, now: Now) {
        match mail.downcast::<Mail<E>>().map(|mail| *mail) {
            Ok(Mail::Command(command)) => self.engine.handle_command(command, now),
            Ok(Mail::Input(input)) => self.engine.handle_input(input, now),
            // The route is the one of a Port<E>, which packs nothing else.
            Err(_) => tracing::error!("mail of another engine"),
        }
    }

    fn settle(&mut self, before: &dyn Fn()) {
        while let Some(action) = self.engine.poll_action() {
            before();
            self.effects.perform(action);
        }
    }

    fn deadline(&self) -> Option<Deadline> {
        self.engine.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Now) {
        self.engine.handle_timeout(now);
    }
}

/// The actix actor around an engine.
pub(super) struct Shell {
    kernel: Kernel,
    route: Route,
    make: Make,
    state: Box<dyn State>,
    generation: u64,
    /// The peer whose input is being handled; a panic meanwhile is charged to it. The guard reads it.
    charged: Rc<Cell<Option<PeerId>>>,
    /// Credits of handled mail. They go back once the mailbox is empty, so that waiting senders cannot keep the
    /// mailbox full and the drive, with its timers, from its turn.
    spent: Vec<OwnedSemaphorePermit>,
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
}

impl Shell {
    fn new(
        kernel: Kernel,
        route: Route,
        make: Make,
        charged: Rc<Cell<Option<PeerId>>>,
    ) -> Result<Self, String> {
        let state = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| make()));
        let state = state.map_err(|panic| super::panic_text(panic.as_ref()))?;
        Ok(Self {
            kernel,
            route,
            make,
            state,
            generation: 0,
            charged,
            spent: Vec::new(),
            sleep: Box::pin(sleep(Duration::ZERO)),
            armed: None,
        })
    }

    fn pass(&self, point: Point) {
        pass(&self.kernel, &self.route, point);
    }

    fn settle(&mut self) {
        let Self { kernel, route, state, .. } = self;
        state.settle(&|| pass(kernel, route, Point::Action));
    }
}

fn pass(kernel: &Kernel, route: &Route, point: Point) {
    if let Some(faults) = &kernel.faults {
        faults.pass(route.path(), point);
    }
}

impl Actor for Shell {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.generation = self.generation.saturating_add(1);
        let credits = (Arc::downgrade(self.route.credits()), super::port::MAILBOX);
        self.kernel.tree.started(self.route.path(), ActorKind::Actor, Some(credits));
        self.state.born(self.generation);
        context.spawn(Drive);
    }
}

impl Supervised for Shell {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.spent.clear();
        self.armed = None;
        self.state = (self.make)();
    }
}

impl Message for Letter {
    type Result = ();
}

impl Handler<Letter> for Shell {
    type Result = ();

    fn handle(&mut self, letter: Letter, _: &mut Self::Context) {
        let now = self.kernel.clock.now();
        self.charged.set(letter.from);
        self.pass(Point::Message);
        self.state.handle(letter.mail, now);
        self.settle();
        self.charged.set(None);
        self.spent.extend(letter.credit);
    }
}

/// The one item of every actor's context, polled whenever the mailbox was drained: gives the credits back and waits
/// for the engine's one deadline.
struct Drive;

impl ActorFuture<Shell> for Drive {
    type Output = ();

    fn poll(self: Pin<&mut Self>, shell: &mut Shell, _: &mut Context<Shell>, cx: &mut Cx<'_>) -> Poll<()> {
        shell.spent.clear();
        shell.settle();
        for _ in 0..TIMEOUTS_PER_POLL {
            let Some(deadline) = shell.state.deadline() else {
                shell.armed = None;
                return Poll::Pending;
            };
            if shell.armed != Some(deadline.at) {
                shell.armed = Some(deadline.at);
                shell.sleep.as_mut().reset(deadline.at.into());
            }
            ready!(shell.sleep.as_mut().poll(cx));
            shell.armed = None;
            tracing::trace!(actor = shell.route.path(), reason = deadline.reason, "deadline");
            shell.pass(Point::Timer);
            shell.state.handle_timeout(shell.kernel.clock.now());
            shell.settle();
        }
        // An engine that always has a deadline in the past must not keep the others from their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Deadlines handled before the others get their turn.
const TIMEOUTS_PER_POLL: usize = 16;
