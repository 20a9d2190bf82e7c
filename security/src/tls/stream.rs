use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::Error;

/// An encrypted byte stream.
///
/// - Reading gives an end of file only where the peer said goodbye (`close_notify`); a socket that just ends is
///   [`Error::Truncated`]. A muxer that has its own farewell has ended by then.
/// - What a client reads first may be that the server refused it: it hears of that only after its handshake is done.
/// - Errors carry an [`Error`], and stay.
pub struct TlsStream<S> {
    tls: tokio_rustls::TlsStream<S>,
    shut: bool,
    read_failed: Option<Error>,
    write_failed: Option<Error>,
}

impl<S> TlsStream<S> {
    pub(super) fn new(tls: tokio_rustls::TlsStream<S>) -> Self {
        Self { tls, shut: false, read_failed: None, write_failed: None }
    }

    /// The socket under it.
    pub fn get_ref(&self) -> &S {
        self.tls.get_ref().0
    }

    #[cfg(test)]
    pub(super) fn session(&self) -> &rustls::CommonState {
        self.tls.get_ref().1
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        check(&this.read_failed)?;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut this.tls).poll_read(cx, buf));
        Poll::Ready(keep(&mut this.read_failed, result))
    }
}

/// Lends what was decrypted where it lies, a record at a time.
impl<S: AsyncRead + AsyncWrite + Unpin> AsyncBufRead for TlsStream<S> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        check(&this.read_failed)?;
        let lent = ready!(Pin::new(&mut this.tls).poll_fill_buf(cx));
        Poll::Ready(keep(&mut this.read_failed, lent))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        Pin::new(&mut self.get_mut().tls).consume(n);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        check(&this.write_failed)?;
        if this.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let result = ready!(Pin::new(&mut this.tls).poll_write(cx, buf));
        Poll::Ready(keep(&mut this.write_failed, result))
    }

    /// All of them in as few records as they fit in.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        check(&this.write_failed)?;
        if this.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let result = ready!(Pin::new(&mut this.tls).poll_write_vectored(cx, bufs));
        Poll::Ready(keep(&mut this.write_failed, result))
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        check(&this.write_failed)?;
        let result = ready!(Pin::new(&mut this.tls).poll_flush(cx));
        Poll::Ready(keep(&mut this.write_failed, result))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        check(&this.write_failed)?;
        this.shut = true;
        let result = ready!(Pin::new(&mut this.tls).poll_shutdown(cx));
        Poll::Ready(keep(&mut this.write_failed, result))
    }
}

fn check(failed: &Option<Error>) -> io::Result<()> {
    failed.clone().map_or(Ok(()), |error| Err(error.into()))
}

fn keep<T>(failed: &mut Option<Error>, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| failed.insert(Error::of_stream(error)).clone().into())
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("shut", &self.shut)
            .field("read_failed", &self.read_failed)
            .field("write_failed", &self.write_failed)
            .finish_non_exhaustive()
    }
}
