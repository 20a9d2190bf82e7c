//! Many nodes on few threads: a node brings threads of its own, unless it is told to run on the one that starts it.

use bench_peer::{Error, Result, failed};
use peerage::{Builder, Node};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    task::{LocalSet, spawn_local},
};

type Started = oneshot::Sender<Result<Node>>;

/// Nodes that wait to be started on one thread; whoever has more waits.
const WAITING: usize = 64;

/// Threads that nodes are spread over.
pub(crate) struct Crowd {
    threads: Vec<mpsc::Sender<(Builder, Started)>>,
    next: usize,
}

impl Crowd {
    pub(crate) fn start_threads(count: usize) -> Result<Self> {
        let mut threads = Vec::new();
        for _ in 0..count {
            let (sender, mut started) = mpsc::channel::<(Builder, Started)>(WAITING);
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(failed("a runtime"))?;
            std::thread::spawn(move || {
                let nodes = LocalSet::new();
                runtime.block_on(nodes.run_until(async move {
                    while let Some((builder, reply)) = started.recv().await {
                        spawn_local(async move {
                            drop(reply.send(builder.in_thread().start().await.map_err(failed("starting"))));
                        });
                    }
                }));
            });
            threads.push(sender);
        }
        Ok(Self { threads, next: 0 })
    }

    /// Starts a node on the next thread.
    pub(crate) fn start(&mut self, builder: Builder) -> impl Future<Output = Result<Node>> + Send + use<> {
        let (reply, node) = oneshot::channel();
        let thread = self.threads.get(self.next.checked_rem(self.threads.len()).unwrap_or(0)).cloned();
        self.next = self.next.wrapping_add(1);
        async move {
            if let Some(thread) = thread {
                let _ = thread.send((builder, reply)).await;
            }
            node.await.unwrap_or_else(|_| Err(Error::Failed("the thread has ended".to_owned())))
        }
    }
}
