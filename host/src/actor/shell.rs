use std::{
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
use peerage_core::{Engine, PeerId};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Exit, Intensity, Kernel, Point, Port,
    guard::{Guard, Running},
    port::{Letter, Mail},
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

    fn new(port: Port<E>) -> Self {
        Self { port, life: next_life() }
    }
}

fn next_life() -> u32 {
    static LIVES: AtomicU32 = AtomicU32::new(1);
    LIVES.fetch_add(1, Ordering::Relaxed)
}

/// How to make one actor. The factory runs on the actor's worker, at its start and after every panic.
pub(crate) struct Spawn<E: Engine, F> {
    pub(crate) port: Port<E>,
    pub(crate) intensity: Intensity,
    pub(crate) make: Make<E, F>,
}

/// Makes the state of one life.
type Make<E, F> = Arc<dyn Fn(&Birth<E>) -> (E, F) + Send + Sync>;

impl<E: Engine, F: Effects<E::Action>> Spawn<E, F> {
    pub(crate) fn new(port: Port<E>, make: impl Fn(&Birth<E>) -> (E, F) + Send + Sync + 'static) -> Self {
        let intensity = Intensity { max: 5, period: Duration::from_secs(30) };
        Self { port, intensity, make: Arc::new(make) }
    }

    /// Starts the actor on `worker`; from the return of this call on, its port takes mail. The future ends with it.
    pub(crate) fn start(
        &self,
        kernel: &Kernel,
        worker: usize,
        stop: CancellationToken,
    ) -> impl Future<Output = Exit> + Send + use<E, F> {
        // actix's capacity is per handle and does not bound anything; the port's credits do.
        let (sender, receiver) = channel::channel(super::port::MAILBOX);
        let recipient = Addr::<Shell<E, F>>::new(sender).recipient();
        let life = next_life();
        let deliver = Arc::new(move |letter| {
            #[allow(clippy::disallowed_methods, reason = "the port holds the credits")]
            recipient.do_send(letter);
        });
        self.port.connect(u64::from(life), deliver);

        let (exited, exit) = oneshot::channel();
        let (kernel, port, make, intensity) =
            (kernel.clone(), self.port.clone(), Arc::clone(&self.make), self.intensity);
        let workers = Arc::clone(&kernel.workers);
        workers.spawn(worker, move || {
            let charged = Rc::new(Cell::new(None));
            let shell = Shell::<E, F>::new(kernel.clone(), port.clone(), make, Rc::clone(&charged));
            let actor = shell.map(|shell| -> Box<dyn Running> {
                Box::new(Context::with_receiver(receiver).into_future(shell))
            });
            let path = port.path().to_owned();
            let guarded = actor.map(|actor| Guard::new(kernel, path, actor, intensity, charged, stop));
            async move {
                let exit = match guarded {
                    Ok(guarded) => guarded.await,
                    Err(text) => Exit::Panicked(text),
                };
                port.disconnect(u64::from(life));
                let _ = exited.send(exit);
            }
        });
        async move { exit.await.unwrap_or(Exit::Killed) }
    }
}

/// The actix actor around an engine.
pub(super) struct Shell<E: Engine, F: Effects<E::Action>> {
    kernel: Kernel,
    birth: Birth<E>,
    make: Make<E, F>,
    engine: Box<E>,
    effects: Box<F>,
    generation: u64,
    /// The peer whose input is being handled; a panic meanwhile is charged to it. The guard reads it.
    charged: Rc<Cell<Option<PeerId>>>,
    /// Credits of handled mail. They go back once the mailbox is empty, so that waiting senders cannot keep the
    /// mailbox full and the drive, with its timers, from its turn.
    spent: Vec<OwnedSemaphorePermit>,
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
}

impl<E: Engine, F: Effects<E::Action>> Shell<E, F> {
    fn new(
        kernel: Kernel,
        port: Port<E>,
        make: Make<E, F>,
        charged: Rc<Cell<Option<PeerId>>>,
    ) -> Result<Self, String> {
        let birth = Birth::new(port);
        let state = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| make(&birth)));
        let (engine, effects) = state.map_err(|panic| super::panic_text(panic.as_ref()))?;
        Ok(Self {
            kernel,
            birth,
            make,
            engine: Box::new(engine),
            effects: Box::new(effects),
            generation: 0,
            charged,
            spent: Vec::new(),
            sleep: Box::pin(sleep(Duration::ZERO)),
            armed: None,
        })
    }

    fn pass(&self, point: Point) {
        if let Some(faults) = &self.kernel.faults {
            faults.pass(self.birth.port.path(), point);
        }
    }

    fn settle(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            self.pass(Point::Action);
            self.effects.perform(action);
        }
    }
}

impl<E: Engine, F: Effects<E::Action>> Actor for Shell<E, F> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.generation = self.generation.saturating_add(1);
        let credits = (Arc::downgrade(self.birth.port.credits()), super::port::MAILBOX);
        self.kernel.tree.started(self.birth.port.path(), ActorKind::Actor, Some(credits));
        self.effects.born(self.generation);
        context.spawn(Drive);
    }
}

impl<E: Engine, F: Effects<E::Action>> Supervised for Shell<E, F> {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.spent.clear();
        self.armed = None;
        self.birth = Birth::new(self.birth.port.clone());
        let (engine, effects) = (self.make)(&self.birth);
        *self.engine = engine;
        *self.effects = effects;
    }
}

impl<E: Engine> Message for Letter<E> {
    type Result = ();
}

impl<E: Engine, F: Effects<E::Action>> Handler<Letter<E>> for Shell<E, F> {
    type Result = ();

    fn handle(&mut self, letter: Letter<E>, _: &mut Self::Context) {
        let now = self.kernel.clock.now();
        self.charged.set(letter.from);
        self.pass(Point::Message);
        match letter.mail {
            Mail::Command(command) => self.engine.handle_command(command, now),
            Mail::Input(input) => self.engine.handle_input(input, now),
        }
        self.settle();
        self.charged.set(None);
        self.spent.extend(letter.credit);
    }
}

/// The one item of every actor's context, polled whenever the mailbox was drained: gives the credits back and waits
/// for the engine's one deadline.
struct Drive;

impl<E: Engine, F: Effects<E::Action>> ActorFuture<Shell<E, F>> for Drive {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        shell: &mut Shell<E, F>,
        _: &mut Context<Shell<E, F>>,
        cx: &mut Cx<'_>,
    ) -> Poll<()> {
        shell.spent.clear();
        shell.settle();
        for _ in 0..TIMEOUTS_PER_POLL {
            let Some(deadline) = shell.engine.poll_timeout() else {
                shell.armed = None;
                return Poll::Pending;
            };
            if shell.armed != Some(deadline.at) {
                shell.armed = Some(deadline.at);
                shell.sleep.as_mut().reset(deadline.at.into());
            }
            ready!(shell.sleep.as_mut().poll(cx));
            shell.armed = None;
            tracing::trace!(actor = shell.birth.port.path(), reason = deadline.reason, "deadline");
            shell.pass(Point::Timer);
            shell.engine.handle_timeout(shell.kernel.clock.now());
            shell.settle();
        }
        // An engine that always has a deadline in the past must not keep the others from their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Deadlines handled before the others get their turn.
const TIMEOUTS_PER_POLL: usize = 16;
