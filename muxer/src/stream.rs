use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::{ConnectionError, ErrorCode, StreamError};

/// What a muxer's own stream does. `poll_read` gives an end of file only if the peer closed its writing half;
/// everything else is an error made from [`StreamError`]. `poll_shutdown` closes the writing half.
///
/// After an error [`Stream`] does not ask that half again.
pub trait Substream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Gives up both directions and tells the peer so. Called at most once, and nothing else after it; never when
    /// both halves have ended.
    fn reset(&mut self, code: ErrorCode);
}

/// One stream of a connection.
///
/// - Reading gives an end of file only when the peer closed its writing half. A reset by the peer is an error
///   ([`StreamError::ResetByPeer`] inside the `io::Error`), which comes after the data received before it (on QUIC, what
///   was not read yet may be lost with it); if the peer had closed its half before the reset, reading ends in order and
///   only writing fails.
/// - Flushing means that what was written was handed to the connection, whose driver sends it without being asked;
///   not that it was sent, nor that the peer has it.
/// - [`Stream::close_write`] (or `shutdown`) ends the writing half; reading goes on.
/// - Dropping a stream whose writing half was not closed resets it, so that the peer never takes half a message
///   for a whole one. Once the writing half is closed, dropping it only means that nothing more will be read.
/// - The error with which a half failed is what that half gives ever after.
pub struct Stream {
    inner: Box<dyn Substream>,
    write: Half,
    read: Half,
}

#[derive(Debug)]
enum Half {
    Open,
    /// Read to the end, or closed.
    Ended,
    Failed(StreamError),
}

impl Half {
    fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Keeps the error. One that is not ours (a muxer's own, against the trait) is taken for the connection's.
    fn fail(&mut self, error: io::Error) -> io::Error {
        let error = match StreamError::of(&error) {
            Some(error) => error.clone(),
            None => ConnectionError::from(error).into(),
        };
        *self = Self::Failed(error.clone());
        error.into()
    }
}

impl Stream {
    /// Wraps what a muxer implements.
    pub fn new(inner: impl Substream) -> Self {
        Self { inner: Box::new(inner), write: Half::Open, read: Half::Open }
    }

    /// Closes the writing half after everything written was handed to the connection: the peer reads an end of file.
    ///
    /// # Errors
    /// What a write would have given.
    pub async fn close_write(&mut self) -> io::Result<()> {
        self.shutdown().await
    }

    /// Gives up both directions; the peer's reads and writes fail with `code`, where the muxer carries codes. A half
    /// that has ended stays ended.
    pub fn reset(mut self, code: ErrorCode) {
        if self.write.is_open() || self.read.is_open() {
            self.abandon(code);
        }
    }

    fn abandon(&mut self, code: ErrorCode) {
        self.write = Half::Ended;
        self.read = Half::Ended;
        self.inner.reset(code);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &self.read {
            Half::Failed(error) => return Poll::Ready(Err(error.clone().into())),
            Half::Ended => return Poll::Ready(Ok(())),
            Half::Open if buf.remaining() == 0 => return Poll::Ready(Ok(())),
            Half::Open => {}
        }
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        if result.is_ok() && buf.filled().len() == before {
            self.read = Half::Ended;
        }
        Poll::Ready(result.map_err(|error| self.read.fail(error)))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &self.write {
            Half::Open => {}
            Half::Ended => return Poll::Ready(Err(StreamError::WriteClosed.into())),
            Half::Failed(error) => return Poll::Ready(Err(error.clone().into())),
        }
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        Poll::Ready(result.map_err(|error| self.write.fail(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.write {
            Half::Open => {}
            Half::Ended => return Poll::Ready(Ok(())),
            Half::Failed(error) => return Poll::Ready(Err(error.clone().into())),
        }
        let result = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        Poll::Ready(result.map_err(|error| self.write.fail(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.write {
            Half::Open => {}
            Half::Ended => return Poll::Ready(Ok(())),
            Half::Failed(error) => return Poll::Ready(Err(error.clone().into())),
        }
        let result = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        if result.is_ok() {
            self.write = Half::Ended;
        }
        Poll::Ready(result.map_err(|error| self.write.fail(error)))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.write.is_open() {
            self.abandon(ErrorCode::NONE);
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("read", &self.read).field("write", &self.write).finish_non_exhaustive()
    }
}
