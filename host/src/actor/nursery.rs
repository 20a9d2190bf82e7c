use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use peerage_core::PeerId;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Exit, Kernel, Notice, panic_text, tree::ActorKind};

/// The supervisor of one worker's connections: children come and go at run time, none is started again, and the
/// failure of one is nobody else's.
pub(crate) struct Nursery {
    kernel: Kernel,
    path: String,
    worker: usize,
    /// Of the present life; a restarted nursery takes children again.
    stop: Mutex<CancellationToken>,
    tracker: TaskTracker,
}

impl Nursery {
    pub(crate) fn new(kernel: Kernel, path: String, worker: usize) -> Self {
        Self { kernel, path, worker, stop: Mutex::default(), tracker: TaskTracker::new() }
    }

    /// Runs a child on this nursery's worker. `make` gets the token that asks the child to stop, and does nothing but make
    /// the future; `ended` is called with the way that ended, whatever happens. A panic of the child itself is charged to `peer`.
    pub(crate) fn spawn<F>(
        &self,
        peer: PeerId,
        make: impl FnOnce(CancellationToken) -> F + Send + 'static,
        ended: impl FnOnce(Exit) + Send + 'static,
    ) where
        F: Future<Output = Exit> + 'static,
    {
        let (stop, token) = (self.stop().child_token(), self.tracker.token());
        let (notices, actor) = (self.kernel.notices.clone(), self.path.clone());
        self.kernel.workers.spawn(self.worker, move || {
            // No async block around it: that would keep room for it twice.
            std::panic::AssertUnwindSafe(make(stop)).catch_unwind().map(move |exit| {
                let _token = token;
                ended(exit.unwrap_or_else(|panic| {
                    let text = panic_text(panic.as_ref());
                    notices(Notice::Panicked { actor, text: text.clone(), peer: Some(peer) });
                    Exit::Panicked(text)
                }));
            })
        });
    }

    /// The supervisor's own life: when it is stopped, so are the children.
    pub(crate) fn supervise(&self, stop: CancellationToken) -> impl Future<Output = Exit> + 'static {
        self.kernel.tree.started(&self.path, ActorKind::Supervisor, None);
        let (children, tracker) = (CancellationToken::new(), self.tracker.clone());
        *self.stop() = children.clone();
        tracker.reopen();
        async move {
            stop.cancelled().await;
            children.cancel();
            tracker.close();
            tracker.wait().await;
            Exit::Shutdown
        }
    }

    fn stop(&self) -> MutexGuard<'_, CancellationToken> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
