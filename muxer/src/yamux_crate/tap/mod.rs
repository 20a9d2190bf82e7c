//! The layer between the `yamux` crate and the socket. [The module above](super) says what it is for.
//!
//! It is used by the driver's task alone; the lock around it is only there because both the crate and the driver
//! hold it. It also gives a poll of the driver its budget, and keeps the crate from flushing after every frame: the
//! driver flushes once, when nothing more is to be sent.

mod inbound;
mod outbound;

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead, AsyncWrite};

use super::{
    frame::{DATA, Header, SYN, WINDOW_UPDATE},
    table::Link,
};
use crate::ErrorCode;
use inbound::Inbound;
use outbound::Outbound;

/// What one poll of the driver may move in each direction before it lets others run.
const BUDGET: usize = 128 * 1024;

/// What a call costs in the budget at least, so that empty frames are not free.
const CALL: usize = 256;

pub(super) struct Tap<T>(Arc<Mutex<Inner<T>>>);

impl<T> Clone for Tap<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<T> {
    io: T,
    link: Arc<Link>,
    inbound: Inbound,
    outbound: Outbound,
    read_budget: usize,
    write_budget: usize,
    /// Nothing was read because too many dropped streams have not left.
    held_back: bool,
}

impl<T> Tap<T> {
    pub(super) fn new(io: T, link: Arc<Link>, max_frame: u32) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            io,
            link,
            inbound: Inbound::new(max_frame),
            outbound: Outbound::new(),
            read_budget: BUDGET,
            write_budget: BUDGET,
            held_back: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A poll of the driver begins.
    pub(super) fn refill(&self) {
        let mut inner = self.lock();
        (inner.read_budget, inner.write_budget) = (BUDGET, BUDGET);
    }

    /// What the peer did wrong, if it was found out here or by the crate.
    pub(super) fn violation(&self) -> Option<String> {
        let inner = self.lock();
        let accused = || inner.outbound.accused.then(|| describe(inner.inbound.last));
        inner.inbound.violation.clone().or_else(accused)
    }

    /// The peer's GoAway.
    pub(super) fn go_away(&self) -> Option<ErrorCode> {
        self.lock().inbound.go_away
    }

    pub(super) fn set_farewell(&self, code: ErrorCode) {
        self.lock().outbound.farewell = code;
    }

    /// Whether the crate has nothing that it could not write.
    pub(super) fn caught_up(&self) -> bool {
        !self.lock().outbound.blocked
    }

    /// Whether reading was put off until streams have left, since this was last asked.
    pub(super) fn take_held_back(&self) -> bool {
        std::mem::take(&mut self.lock().held_back)
    }

    /// While the socket does not take what is to be sent: a number that changes when it has taken some.
    pub(super) fn stuck_at(&self) -> Option<u64> {
        let inner = self.lock();
        let outbound = &inner.outbound;
        (outbound.stuck || outbound.unflushed).then_some(outbound.progress)
    }

    #[cfg(test)]
    pub(super) fn with_socket<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock().io)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Tap<T> {
    /// Sends what waits, for good.
    pub(super) fn poll_flush_socket(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.lock();
        ready!(inner.outbound.poll_drain(&mut inner.io, &inner.link, cx))?;
        let flushed = Pin::new(&mut inner.io).poll_flush(cx);
        inner.outbound.unflushed = flushed.is_pending();
        flushed
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tap<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let inner = &mut *self.lock();
        if inner.read_budget == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if inner.inbound.between_frames() && inner.link.crowded() {
            // The crate is in the middle of a write, whose progress wakes it, or the driver asks `take_held_back`.
            inner.held_back = true;
            return Poll::Pending;
        }
        let n = ready!(inner.inbound.poll_read(&mut inner.io, &inner.link, cx, buf))?;
        inner.read_budget = inner.read_budget.saturating_sub(n.max(CALL));
        Poll::Ready(Ok(n))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tap<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let inner = &mut *self.lock();
        inner.outbound.blocked = true;
        if inner.write_budget == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = ready!(inner.outbound.poll_write(&mut inner.io, &inner.link, cx, buf))?;
        inner.outbound.blocked = false;
        inner.write_budget = inner.write_budget.saturating_sub(n.max(CALL));
        Poll::Ready(Ok(n))
    }

    /// Nothing: see [`Tap::poll_flush_socket`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush_socket(cx))?;
        let inner = &mut *self.lock();
        let closed = Pin::new(&mut inner.io).poll_close(cx);
        inner.outbound.unflushed = closed.is_pending();
        closed
    }
}

/// The frame at which the crate gave the peer up.
fn describe(last: Option<Header>) -> String {
    let Some(frame) = last else {
        return "a frame was refused".to_owned();
    };
    let what = match (frame.kind, frame.has(SYN)) {
        (DATA, true) => "data with SYN",
        (DATA, false) => "data",
        (WINDOW_UPDATE, true) => "window update with SYN",
        (WINDOW_UPDATE, false) => "window update",
        _ => "ping",
    };
    format!("{what} on stream {}, length {}", frame.stream, frame.length)
}
