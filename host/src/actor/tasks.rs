use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use futures::{FutureExt as _, future::LocalBoxFuture};
use tokio::task::JoinSet;

/// The tasks that an actor's effects have under way, on the actor's own worker. They end with it: when an actor is
/// restarted, nothing of its former life goes on.
#[derive(Debug, Default)]
pub struct Tasks(JoinSet<()>);

impl Tasks {
    /// Runs `task`. A panic in it is caught and its text handed to `panicked`.
    ///
    /// To be called from an actor's effects only: it needs the worker that they run on.
    pub fn spawn(
        &mut self,
        task: impl Future<Output = ()> + 'static,
        panicked: impl FnOnce(String) + 'static,
    ) -> tokio::task::AbortHandle {
        self.add(Box::pin(task), Box::new(panicked))
    }

    /// In boxes as at [`Workers::spawn`](super::Workers::spawn). tokio also writes as much again when a task ends: of several
    /// kilobytes that is half of what a handshake copies.
    fn add(
        &mut self,
        task: LocalBoxFuture<'static, ()>,
        panicked: Box<dyn FnOnce(String)>,
    ) -> tokio::task::AbortHandle {
        while self.0.try_join_next().is_some() {}
        self.0.spawn_local(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                panicked(panic_text(panic.as_ref()));
            }
        })
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "a panic without a message",
    };
    // A message may quote what a peer sent; logs and reports stay short.
    text.chars().take(PANIC_TEXT_MAX).collect()
}

/// Characters of a panic's message that are kept.
const PANIC_TEXT_MAX: usize = 300;
