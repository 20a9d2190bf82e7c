//! One stream: the crate's, and what the [table](super::table) knows better.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead as _, AsyncWrite as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::table::{Link, Side};
use crate::{ErrorCode, StreamError};

pub(super) struct Substream {
    inner: yamux::Stream,
    link: Arc<Link>,
    /// The peer knows of it, or the crate has something queued that makes it known.
    announced: bool,
    closed: bool,
}

impl Substream {
    pub(super) fn outbound(inner: yamux::Stream, link: Arc<Link>) -> Self {
        Self { inner, link, announced: false, closed: false }
    }

    pub(super) fn inbound(inner: yamux::Stream, link: Arc<Link>) -> Self {
        Self { inner, link, announced: true, closed: false }
    }

    fn id(&self) -> u32 {
        self.inner.id().val()
    }

    /// Replaces an error of the crate, which only ever says that it is over.
    fn poll_why<T>(&self, cx: &Context<'_>) -> Poll<io::Result<T>> {
        match ready!(self.link.why(self.id(), Side::Write, cx)) {
            Ok(()) => Poll::Ready(Err(StreamError::WriteClosed.into())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl crate::Substream for Substream {
    fn reset(&mut self, code: ErrorCode) {
        self.link.release(self.id(), Some(code));
    }
}

impl Drop for Substream {
    fn drop(&mut self) {
        // Before the crate's stream goes: its last frame depends on what the table says. Without effect after a reset.
        self.link.release(self.id(), if self.closed { None } else { Some(ErrorCode::NONE) });
    }
}

impl AsyncRead for Substream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_read(cx, buf.initialize_unfilled()) {
            Poll::Ready(Ok(n)) if n > 0 => {
                buf.advance(n);
                self.link.data_read(self.id(), n);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(_) => {
                let why = ready!(self.link.why(self.id(), Side::Read, cx));
                Poll::Ready(why.map_err(io::Error::from))
            }
            Poll::Pending => {
                if !self.announced {
                    self.announced = true;
                    self.link.announce(self.id());
                }
                match self.link.wait(self.id(), Side::Read, cx) {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(Err(error.into())),
                }
            }
        }
    }
}

impl AsyncWrite for Substream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            // The crate would send an empty frame.
            return Poll::Ready(Ok(0));
        }
        match Pin::new(&mut self.inner).poll_write(cx, buf) {
            Poll::Ready(Ok(n)) => {
                self.announced = true;
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(_)) => self.poll_why(cx),
            Poll::Pending => match self.link.wait(self.id(), Side::Write, cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            },
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The crate calls everything flushed of a stream that is over.
        self.link.writable(self.id())?;
        match Pin::new(&mut self.inner).poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => self.poll_why(cx),
            Poll::Pending => match self.link.wait(self.id(), Side::Write, cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            },
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        // Of a stream that is over the crate says that it is closed well.
        self.link.writable(self.id())?;
        match Pin::new(&mut self.inner).poll_close(cx) {
            Poll::Ready(Ok(())) => {
                (self.closed, self.announced) = (true, true);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => self.poll_why(cx),
            Poll::Pending => match self.link.wait(self.id(), Side::Write, cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            },
        }
    }
}
