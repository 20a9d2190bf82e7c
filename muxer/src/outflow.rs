//! What the socket itself has taken, seen from above the layers that buffer.
//!
//! Encryption takes bytes before the socket does: a write that it accepts says nothing about the peer. Whether the peer
//! still reads can be seen only below all buffers, so the socket is watched there and the muxer looks.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Counts the bytes that a socket takes. Cheap to clone; all clones are one counter.
#[derive(Clone, Debug, Default)]
pub struct Outflow(Arc<AtomicU64>);

impl Outflow {
    /// Counts what `socket` takes from now on. It belongs under everything that buffers.
    pub fn watch<T>(&self, socket: T) -> Watched<T> {
        Watched { socket, outflow: self.clone() }
    }

    fn taken(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A socket whose [`Outflow`] is counted.
#[derive(Debug)]
pub struct Watched<T> {
    socket: T,
    outflow: Outflow,
}

impl<T> Watched<T> {
    fn count(&self, taken: usize) {
        self.outflow.0.fetch_add(u64::try_from(taken).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.socket).poll_write(cx, buf))?;
        self.count(n);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, bufs))?;
        self.count(n);
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// For a driver: since when the socket takes nothing that it should take.
pub(crate) struct Stall {
    outflow: Outflow,
    timeout: Duration,
    since: Option<Instant>,
    /// What the socket had taken then.
    taken: u64,
}

impl Stall {
    pub(crate) fn new(outflow: Outflow, timeout: Duration) -> Self {
        Self { outflow, timeout, since: None, taken: 0 }
    }

    /// A write or a flush has to wait.
    pub(crate) fn blocked(&mut self, now: Instant) {
        let taken = self.outflow.taken();
        if self.since.is_none() || taken != self.taken {
            (self.since, self.taken) = (Some(now), taken);
        }
    }

    /// Everything went through.
    pub(crate) fn cleared(&mut self) {
        self.since = None;
    }

    /// When it has lasted too long, unless the socket takes something before.
    pub(crate) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        if self.since.is_some() {
            self.blocked(now);
        }
        self.since?.checked_add(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_socket_takes_moves_the_deadline() {
        let (outflow, second) = (Outflow::default(), Duration::from_secs(1));
        let socket = outflow.watch(());
        let mut stall = Stall::new(outflow.clone(), 10 * second);
        let start = Instant::now();
        assert_eq!(stall.deadline(start), None);
        stall.blocked(start);
        stall.blocked(start + second);
        assert_eq!(stall.deadline(start + 2 * second), Some(start + 10 * second));
        socket.count(1);
        assert_eq!(stall.deadline(start + 3 * second), Some(start + 13 * second));
        assert_eq!(stall.deadline(start + 4 * second), Some(start + 13 * second));
        stall.cleared();
        assert_eq!(stall.deadline(start + 5 * second), None);
    }
}
