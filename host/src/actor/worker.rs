use std::{
    future::Future,
    io,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// Where actors, drivers and streams' handlers run.
///
/// Either threads that the node owns, each with a runtime of its own (so that handles work from any runtime of the
/// program), or the thread and runtime that the caller is on: that is the in-thread mode of tests and simulation, in
/// which a paused clock makes everything deterministic.
pub(crate) struct Workers {
    kind: Kind,
    next: AtomicUsize,
}

enum Kind {
    Threads { handles: Vec<Handle>, stop: CancellationToken },
    Here,
}

impl Workers {
    /// Starts `count` threads. They end when this is dropped.
    pub(crate) fn threads(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let handles = (0..count.max(1)).map(|i| start(i, stop.clone())).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { kind: Kind::Threads { handles, stop }, next: AtomicUsize::new(0) })
    }

    /// No threads: everything runs where it is started from, which must be inside a `LocalSet` or `LocalRuntime`.
    pub(crate) fn here() -> Self {
        Self { kind: Kind::Here, next: AtomicUsize::new(0) }
    }

    /// How many workers there are.
    pub(crate) fn count(&self) -> usize {
        match &self.kind {
            Kind::Threads { handles, .. } => handles.len(),
            Kind::Here => 1,
        }
    }

    /// The worker whose turn it is.
    pub(crate) fn next(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.count()).unwrap_or(0)
    }

    /// Runs `make` on a worker and spawns there the future that it makes, which need not be `Send`.
    pub(crate) fn spawn<F>(&self, worker: usize, make: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        match &self.kind {
            Kind::Threads { handles, .. } => {
                if let Some(handle) = handles.get(worker.checked_rem(handles.len()).unwrap_or(0)) {
                    handle.spawn(async move {
                        tokio::task::spawn_local(make());
                    });
                }
            }
            Kind::Here => {
                tokio::task::spawn_local(make());
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Kind::Threads { stop, .. } = &self.kind {
            stop.cancel();
        }
    }
}

fn start(index: usize, stop: CancellationToken) -> io::Result<Handle> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name(format!("peerage-{index}")).spawn(
        move || match Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => {
                let _ = sender.send(Ok(runtime.handle().clone()));
                runtime.block_on(stop.cancelled());
            }
            Err(error) => {
                let _ = sender.send(Err(error));
            }
        },
    )?;
    receiver.recv().unwrap_or_else(|_| Err(io::Error::other("a worker thread ended before it began")))
}
