//! A peer that is a slice of bytes.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Runtime,
};

/// Says its bytes, in pieces of a size, and then its end. Takes what it is sent, in the same pieces, up to a number of
/// bytes, and nothing after that.
///
/// Once it has failed or ended it must not be asked again: whoever does, panics.
pub(crate) struct Scripted {
    says: Vec<u8>,
    said: usize,
    piece: usize,
    takes: usize,
    ended: bool,
}

impl Scripted {
    pub(crate) fn new(says: &[u8], piece: usize) -> Self {
        Self { says: says.to_vec(), said: 0, piece: piece.max(1), takes: usize::MAX, ended: false }
    }

    pub(crate) fn taking(mut self, bytes: usize) -> Self {
        self.takes = bytes;
        self
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        assert!(!self.ended, "read again after the end");
        let rest = &self.says[self.said..];
        let now = rest.len().min(self.piece).min(buf.remaining());
        buf.put_slice(&rest[..now]);
        self.ended = rest.is_empty() && buf.remaining() > 0;
        self.said += now;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = bytes.len().min(self.piece).min(self.takes);
        self.takes -= now;
        if now == 0 && !bytes.is_empty() { Poll::Pending } else { Poll::Ready(Ok(now)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs something that waits, in time that jumps over every wait. Whatever a peer does, it has to end in an hour.
pub(crate) fn run<T>(what: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
    }
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime.get_or_insert_with(|| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_time().start_paused(true).build().expect("a runtime")
        });
        let hour = std::time::Duration::from_secs(3600);
        runtime.block_on(async { tokio::time::timeout(hour, what).await.expect("it does not end") })
    })
}
