//! What a program runs on the thread of a connection.

use std::{future::Future, panic::AssertUnwindSafe};

use futures::FutureExt as _;
use tokio::sync::oneshot;

use super::Node;
use crate::{actor::panic_text, limits::ConnectionId};

/// Why [`Node::run_beside`] has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BesideError {
    /// There is no such connection, or no longer; the task was not begun.
    #[error("connection {0} has ended")]
    NotConnected(ConnectionId),
    /// The task panicked; nothing else did.
    #[error("the task panicked: {0}")]
    Panicked(String),
    /// The node stopped before the task had ended.
    #[error("the node has stopped")]
    Closed,
}

impl Node {
    /// Runs a task on the worker that serves a connection, where its bytes arrive and handlers of its streams run.
    ///
    /// What comes on a stream reaches a task elsewhere by waking another thread. That costs about as much as the network
    /// within a machine does, so who asks and waits for the answer, again and again, does it here. The task shares the thread
    /// with other connections: it must not block, nor compute for long. It need not be `Send`; `task`, which makes it, is.
    ///
    /// It goes on when the connection ends (its streams fail then), and ends with the node, or when what this returns is
    /// dropped.
    ///
    /// ```no_run
    /// # async fn example(node: peerage_host::Node, peer: peerage_core::PeerId) -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let mut stream = node.open(peer, "/echo/1").await?;
    /// let echoed = node.run_beside(stream.connection(), move || async move {
    ///     let mut echo = [0; 5];
    ///     for _ in 0..1000 {
    ///         stream.write_all(b"hello").await?;
    ///         stream.read_exact(&mut echo).await?;
    ///     }
    ///     Ok::<_, std::io::Error>(echo)
    /// });
    /// println!("{:?}", echoed.await??);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BesideError`].
    pub async fn run_beside<F>(
        &self,
        connection: ConnectionId,
        task: impl FnOnce() -> F + Send + 'static,
    ) -> Result<F::Output, BesideError>
    where
        F: Future<Output: Send + 'static> + 'static,
    {
        let handle = self.inner.directory.connection(connection);
        let handle = handle.ok_or(BesideError::NotConnected(connection))?;
        let (mut given, result) = oneshot::channel();
        let stop = self.inner.stop.clone();
        self.inner.kernel.workers.spawn(handle.worker, move || async move {
            // Made inside, as a closure may panic as well.
            let work = AssertUnwindSafe(async move { task().await }).catch_unwind();
            let ended = tokio::select! {
                biased;
                ended = work => ended,
                () = given.closed() => return,
                () = stop.cancelled() => return,
            };
            let _ = given.send(ended.map_err(|panic| BesideError::Panicked(panic_text(panic.as_ref()))));
        });
        result.await.unwrap_or(Err(BesideError::Closed))
    }
}
