use std::{
    fmt,
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use super::linger::Linger;
use futures::future::LocalBoxFuture;
use tokio::{
    runtime::{Builder, Handle},
    task::spawn_local,
};
use tokio_util::sync::CancellationToken;

/// Where actors, drivers and streams' handlers run.
///
/// Either threads that the node owns, each with a runtime of its own (so that handles work from any runtime of the
/// program), or the thread and runtime that the caller is on: that is the in-thread mode of tests and simulation, in
/// which a paused clock makes everything deterministic.
pub(crate) struct Workers {
    kind: Kind,
    next: AtomicUsize,
    /// How many connections each worker has.
    berths: Vec<AtomicUsize>,
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
    /// Starts `count` threads, which [linger](super::linger) for so long. They end when this is dropped.
    pub(crate) fn threads(count: usize, linger: Duration) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let threads =
            (0..count.max(1)).map(|i| start(i, linger, stop.clone())).collect::<io::Result<Vec<_>>>()?;
        let berths = threads.iter().map(|_| AtomicUsize::default()).collect();
        Ok(Self { kind: Kind::Threads { threads, stop }, next: AtomicUsize::new(0), berths })
    }

    /// No threads: everything runs where it is started from, which must be inside a `LocalSet` or `LocalRuntime`.
    pub(crate) fn here() -> Self {
        Self { kind: Kind::Here, next: AtomicUsize::new(0), berths: vec![AtomicUsize::default()] }
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

    /// A place for a connection, on the worker that has the fewest; of equal ones on the first, where the actors are that it has
    /// to do with, and the sockets of transports that have one for many connections.
    pub(crate) fn berth(self: &Arc<Self>) -> Berth {
        let load = |worker: &usize| self.berths.get(*worker).map(|berths| berths.load(Ordering::Relaxed));
        let worker = (0..self.berths.len()).min_by_key(load).unwrap_or(0);
        if let Some(berths) = self.berths.get(worker) {
            berths.fetch_add(1, Ordering::Relaxed);
        }
        Berth { workers: self.clone(), worker }
    }

    /// Runs `make` on a worker and spawns there the future that it makes, which need not be `Send`.
    pub(crate) fn spawn<F>(&self, worker: usize, make: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        self.place(worker, Box::new(|| Box::pin(make())));
    }

    /// All that is spawned passes here in boxes: a task's machinery is compiled for each type of future, and was a twelfth of
    /// a small program. tokio moves a task from hand to hand as well, which is cheaper for a box.
    fn place(&self, worker: usize, make: Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>) {
        match &self.kind {
            Kind::Threads { threads, .. } => {
                let index = worker.checked_rem(threads.len()).unwrap_or(0);
                match threads.get(index) {
                    // What begins where it is asked for needs no second task to carry it there.
                    Some(worker) if worker.is_here() => drop(spawn_local(make())),
                    Some(worker) => {
                        worker.runtime.spawn(async move {
                            spawn_local(make());
                        });
                    }
                    None => {}
                }
            }
            Kind::Here => drop(spawn_local(make())),
        }
    }
}

/// A connection's place on a worker, from its handshake to its end.
pub(crate) struct Berth {
    workers: Arc<Workers>,
    worker: usize,
}

impl Berth {
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        if let Some(berths) = self.workers.berths.get(self.worker) {
            berths.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Berth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Berth").field(&self.worker).finish()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Kind::Threads { stop, .. } = &self.kind {
            stop.cancel();
        }
    }
}

fn start(index: usize, linger: Duration, stop: CancellationToken) -> io::Result<Worker> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name(format!("peerage-{index}")).spawn(move || {
        let mut builder = Builder::new_current_thread();
        // Where there is but one processor, who would send something waits for it.
        let alone = thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
        let linger = (!alone && !linger.is_zero()).then(|| Linger::new(linger));
        if let Some(linger) = &linger {
            linger.install(&mut builder);
        }
        match builder.enable_all().build_local(Default::default()) {
            Ok(runtime) => {
                let (runtime_handle, thread) = (runtime.handle().clone(), thread::current().id());
                let _ = sender.send(Ok(Worker { runtime: runtime_handle, thread }));
                runtime.block_on(async {
                    linger.map(|linger| spawn_local(linger.idle()));
                    stop.cancelled().await;
                });
            }
            Err(error) => {
                let _ = sender.send(Err(error));
            }
        }
    })?;
    receiver.recv().unwrap_or_else(|_| Err(io::Error::other("a worker thread ended before it began")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_where_the_fewest_are() {
        let workers = Arc::new(Workers::threads(3, Duration::ZERO).expect("threads"));
        let mut berths: Vec<_> = (0..7).map(|_| workers.berth()).collect();
        assert_eq!(berths.iter().map(Berth::worker).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0]);
        // Two of the second worker's end.
        berths.retain(|berth| berth.worker() != 1);
        assert_eq!([workers.berth(), workers.berth()].map(|berth| berth.worker()), [1, 1]);
        drop(berths);
        assert_eq!(workers.berth().worker(), 0, "all have ended");
        assert_eq!(Arc::new(Workers::here()).berth().worker(), 0);
    }
}
