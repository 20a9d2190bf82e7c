use std::{
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context as Cx, Poll},
    time::Duration,
};

use actix::{ActorContext, Context, dev::ContextFut};
use peerage_core::PeerId;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{Intensity, Kernel, Notice, budget::Budget, panic_text, shell::Shell};

/// How an actor or a supervisor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, its work done.
    Normal,
    /// Because it was told to stop.
    Shutdown,
    /// Because it did not stop in time, or its task was dropped.
    Killed,
    /// A panic that its restart budget did not cover.
    Panicked(String),
    /// It, or what it supervises, could not go on.
    Failed(String),
}

impl Exit {
    /// Whether something went wrong.
    pub(crate) fn is_abnormal(&self) -> bool {
        !matches!(self, Self::Normal | Self::Shutdown)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("done"),
            Self::Shutdown => f.write_str("stopped"),
            Self::Killed => f.write_str("killed"),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// An actor with its context, as actix polls it.
type Running = ContextFut<Shell, Context<Shell>>;

/// What an actor may take to stop in good order.
const GRACE: Duration = Duration::from_secs(2);

/// Polls one actor; lets no panic out; restarts it in place (same port, same waiting mail, fresh state) within its
/// budget. A panic over a peer's input is charged to that peer and not to the budget: else one peer could use it up
/// and take the actor down for all.
///
/// actix would poll the broken actor again while unwinding, and a second panic there aborts the process. So the
/// context is terminated before it is dropped, and no lifecycle hook runs on broken state.
pub(super) struct Guard {
    kernel: Kernel,
    path: String,
    actor: Option<Running>,
    budget: Budget,
    charged: Rc<Cell<Option<PeerId>>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    stopping: Option<Pin<Box<Sleep>>>,
}

impl Guard {
    pub(super) fn new(
        kernel: Kernel,
        path: String,
        actor: Running,
        intensity: Intensity,
        charged: Rc<Cell<Option<PeerId>>>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            kernel,
            path,
            actor: Some(actor),
            budget: Budget::new(intensity),
            charged,
            stop: Box::pin(stop.cancelled_owned()),
            stopping: None,
        }
    }

    /// `None` if it lives again.
    fn after_panic(&mut self, text: String) -> Option<Exit> {
        let peer = self.charged.take();
        let path = self.path.clone();
        tracing::error!(actor = path, panic = text, ?peer, "an actor panicked");
        self.kernel.tree.panicked(&path, &text);
        (self.kernel.notices)(Notice::Panicked { actor: path, text: text.clone(), peer });

        let affordable = peer.is_some() || self.budget.take(self.kernel.clock.now().mono);
        let restarted = affordable
            && match &mut self.actor {
                Some(actor) => matches!(catch_unwind(AssertUnwindSafe(|| actor.restart())), Ok(true)),
                None => false,
            };
        if restarted {
            return None;
        }
        self.scrap();
        Some(Exit::Panicked(text))
    }

    fn scrap(&mut self) {
        if let Some(mut actor) = self.actor.take() {
            actor.ctx().terminate();
            // Dropping broken state may panic once more; there is nobody left to tell.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(actor)));
        }
    }
}

impl Future for Guard {
    type Output = Exit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Exit> {
        let this = &mut *self;
        if this.stopping.is_none() && this.stop.as_mut().poll(cx).is_ready() {
            this.stopping = Some(Box::pin(sleep(GRACE)));
            if let Some(actor) = &mut this.actor {
                actor.ctx().stop();
            }
        }
        loop {
            let Some(actor) = &mut this.actor else {
                return Poll::Ready(Exit::Killed);
            };
            match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *actor).poll(cx))) {
                Ok(Poll::Ready(())) => {
                    this.actor = None;
                    let stopped = this.stopping.is_some();
                    return Poll::Ready(if stopped { Exit::Shutdown } else { Exit::Normal });
                }
                Ok(Poll::Pending) => break,
                Err(panic) => {
                    let text = panic_text(panic.as_ref());
                    if this.stopping.is_some() {
                        this.scrap();
                        return Poll::Ready(Exit::Panicked(text));
                    }
                    if let Some(exit) = this.after_panic(text) {
                        return Poll::Ready(exit);
                    }
                }
            }
        }
        if let Some(grace) = &mut this.stopping
            && grace.as_mut().poll(cx).is_ready()
        {
            this.scrap();
            return Poll::Ready(Exit::Killed);
        }
        Poll::Pending
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.scrap();
    }
}
