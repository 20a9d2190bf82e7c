use std::{
    future::Future,
    io,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, ThreadId},
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

struct Worker {
    runtime: Handle,
    thread: ThreadId,
}

impl Worker {
    /// Whether the caller runs on it, and so can spawn what is not `Send`.
    fn is_here(&self) -> bool {
        // The handle alone says nothing: it can be entered from anywhere.
        self.thread == thread::current().id()
            && Handle::try_current().is_ok_and(|here| here.id() == self.runtime.id())
    }
}

enum Kind {
    Threads { threads: Vec<Worker>, stop: CancellationToken },
    Here,
}

impl Workers {
    /// Starts `count` threads. They end when this is dropped.
    pub(crate) fn threads(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let threads = (0..count.max(1)).map(|i| start(i, stop.clone())).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { kind: Kind::Threads { threads, stop }, next: AtomicUsize::new(0) })
    }

    /// No threads: everything runs where it is started from, which must be inside a `LocalSet` or `LocalRuntime`.
    pub(crate) fn here() -> Self {
        Self { kind: Kind::Here, next: AtomicUsize::new(0) }
    }

    /// How many workers there are.
    pub(crate) fn count(&self) -> usize {
        match &self.kind {
            Kind::Threads { threads, .. } => threads.len(),
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
            Kind::Threads { threads, .. } => {
                let index = worker.checked_rem(threads.len()).unwrap_or(0);
                match threads.get(index) {
                    // What begins where it is asked for needs no second task to carry it there.
                    Some(worker) if worker.is_here() => drop(spawn(make())),
                    Some(worker) => {
                        worker.runtime.spawn(async move {
                            spawn(make());
                        });
                    }
                    None => {}
                }
            }
            Kind::Here => {
                spawn(make());
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

/// In a box, as [`Tasks`](super::Tasks) do.
fn spawn(task: impl Future<Output = ()> + 'static) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_local(Box::pin(task))
}

fn start(index: usize, stop: CancellationToken) -> io::Result<Worker> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name(format!("peerage-{index}")).spawn(
        move || match Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => {
                let (runtime_handle, thread) = (runtime.handle().clone(), thread::current().id());
                let _ = sender.send(Ok(Worker { runtime: runtime_handle, thread }));
                runtime.block_on(stop.cancelled());
            }
            Err(error) => {
                let _ = sender.send(Err(error));
            }
        },
    )?;
    receiver.recv().unwrap_or_else(|_| Err(io::Error::other("a worker thread ended before it began")))
}
