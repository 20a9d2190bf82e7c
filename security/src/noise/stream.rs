//! The encrypted stream after the handshake: the record layer on a socket.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Error,
    buffer::Buffer,
    handshake::Keys,
    record::{Opened, Opener, Sealer},
};

/// How much is read from the socket at once: as little at first, as much when it keeps coming.
const READ_AT_FIRST: usize = 2 * 1024;
const READ_AT_MOST: usize = 128 * 1024;

/// Frames without content in one poll before others get their turn.
const EMPTY_FRAMES_PER_POLL: usize = 32;

/// An encrypted byte stream.
///
/// - What is written is collected into full frames; flushing seals and sends the rest. Several frames go to the socket
///   at once, and come from it.
/// - Reading gives an end of file only at the end of a frame. Noise has no closing message, so that an attacker who
///   cuts the connection between frames can feign it: whoever needs to know (yamux does) says goodbye inside.
/// - A frame that cannot be decrypted ends the stream for good, in both directions. Any error stays; a socket that no longer
///   takes anything is still read.
pub struct NoiseStream<S> {
    io: S,
    opener: Opener,
    sealer: Sealer,
    read_size: usize,
    ended: bool,
    shut: bool,
    read_failed: Option<Error>,
    write_failed: Option<Error>,
}

impl<S> NoiseStream<S> {
    pub(super) fn new(io: S, received: Buffer, keys: Keys) -> Self {
        Self {
            io,
            opener: Opener::new(keys.theirs, received),
            sealer: Sealer::new(keys.ours),
            read_size: READ_AT_FIRST,
            ended: false,
            shut: false,
            read_failed: None,
            write_failed: None,
        }
    }

    /// The socket under it.
    pub fn get_ref(&self) -> &S {
        &self.io
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.opener.allocated() + self.sealer.allocated()
    }

    /// A broken frame: nothing that follows can be trusted, nor is the peer owed anything.
    fn fail(&mut self, error: Error) -> io::Result<()> {
        self.write_failed.get_or_insert_with(|| error.clone());
        self.fail_read(error)
    }

    fn fail_read(&mut self, error: Error) -> io::Result<()> {
        self.read_failed = Some(error.clone());
        Err(error.into())
    }

    /// Reading goes on: the peer's last words may be in the socket.
    fn fail_write<T>(&mut self, error: Error) -> Poll<io::Result<T>> {
        self.write_failed = Some(error.clone());
        Poll::Ready(Err(error.into()))
    }
}

impl<S: AsyncRead + Unpin> NoiseStream<S> {
    /// Reads from the socket; zero at its end.
    fn poll_receive(&mut self, cx: &mut Context<'_>, missing: usize) -> Poll<io::Result<usize>> {
        let offered = missing.max(self.read_size);
        let buffer = self.opener.buffer();
        buffer.reserve(offered);
        let n = ready!(buffer.poll_read(&mut self.io, cx))?;
        if n >= offered {
            self.read_size = self.read_size.saturating_mul(2).min(READ_AT_MOST);
        } else if n < self.read_size / 4 {
            self.read_size = (self.read_size / 2).max(READ_AT_FIRST);
        }
        Poll::Ready(Ok(n))
    }

    /// Opens a frame with something in it, or comes to the end.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&self.read_failed)?;
        let mut empty: usize = 0;
        while !self.ended {
            let missing = match self.opener.open() {
                Ok(Opened::Plain) => break,
                Ok(Opened::Empty) => {
                    empty = empty.saturating_add(1);
                    if empty == EMPTY_FRAMES_PER_POLL {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    continue;
                }
                Ok(Opened::Missing(missing)) => missing,
                Err(error) => return Poll::Ready(self.fail(error)),
            };
            match self.poll_receive(cx, missing) {
                Poll::Ready(Ok(0)) if self.opener.is_empty() => self.ended = true,
                Poll::Ready(Ok(0)) => return Poll::Ready(self.fail_read(Error::Truncated)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(self.fail_read(error.into())),
                Poll::Pending => {
                    self.opener.rest();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Opens the next frame if all of it is there. If it does not open, that is told after what came before it.
    fn open_more(&mut self) -> bool {
        match self.opener.open() {
            Ok(opened) => opened == Opened::Plain,
            Err(error) => {
                let _ = self.fail(error);
                false
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NoiseStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.opener.plain().is_empty() {
            ready!(this.poll_open(cx))?;
        }
        loop {
            let plain = this.opener.plain();
            let take = plain.len().min(buf.remaining());
            buf.put_slice(plain.get(..take).unwrap_or_default());
            this.opener.consume(take);
            // At the end there is nothing to take, and no frame to open.
            if buf.remaining() == 0 || !this.open_more() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Lends what was decrypted where it lies, a frame at a time.
impl<S: AsyncRead + Unpin> AsyncBufRead for NoiseStream<S> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.opener.plain().is_empty() {
            ready!(this.poll_open(cx))?;
        }
        Poll::Ready(Ok(this.opener.plain()))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        self.get_mut().opener.consume(n);
    }
}

impl<S: AsyncWrite + Unpin> NoiseStream<S> {
    /// Hands all sealed frames to the socket.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.sealer.sealed().is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, self.sealer.sealed())) {
                Ok(0) => return self.fail_write(Error::from(io::Error::from(io::ErrorKind::WriteZero))),
                Ok(n) => self.sealer.sent(n),
                Err(error) => return self.fail_write(error.into()),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Seals and hands over everything that was accepted.
    fn poll_send_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&self.write_failed)?;
        if let Err(error) = self.sealer.seal() {
            return self.fail_write(error);
        }
        ready!(self.poll_send(cx))?;
        self.sealer.rest();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NoiseStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        check(&this.write_failed)?;
        if this.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // All of it, so that the buffer starts anew: what is left over would have to be moved.
        if this.sealer.is_full() {
            ready!(this.poll_send(cx))?;
        }
        match this.sealer.push(buf) {
            Ok(n) => Poll::Ready(Ok(n)),
            Err(error) => this.fail_write(error),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut taken: usize = 0;
        for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
            let n = match self.as_mut().poll_write(cx, buf) {
                Poll::Ready(Ok(n)) => n,
                // What was taken is taken; an error stays, and is told next time.
                _ if taken > 0 => break,
                other => return other,
            };
            taken = taken.saturating_add(n);
            if n < buf.len() {
                break;
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send_all(cx))?;
        match ready!(Pin::new(&mut this.io).poll_flush(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => this.fail_write(error.into()),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send_all(cx))?;
        this.shut = true;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

fn check(failed: &Option<Error>) -> io::Result<()> {
    failed.clone().map_or(Ok(()), |error| Err(error.into()))
}

impl<S> fmt::Debug for NoiseStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoiseStream")
            .field("ended", &self.ended)
            .field("read_failed", &self.read_failed)
            .field("write_failed", &self.write_failed)
            .finish_non_exhaustive()
    }
}
