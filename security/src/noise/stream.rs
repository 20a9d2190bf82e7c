//! The encrypted stream after the handshake (noise spec, "Wire Format"): frames of two bytes of length, big endian, and
//! up to 65535 bytes of ciphertext, 16 of them the tag.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use snow::{TransportState, error::StateProblem};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Error, TAG, buffer::Buffer, error::internal};

/// The longest plaintext of one frame.
pub(super) const MAX_PLAIN: usize = 65535 - TAG;

/// The two bytes of length.
const PREFIX: usize = 2;

/// Sealed frames that may wait for the socket; at this many bytes writing waits.
const MAX_SEALED: usize = 4 * (PREFIX + MAX_PLAIN + TAG);

/// How much is read from the socket at once: as little at first, as much when it keeps coming.
const READ_AT_FIRST: usize = 2 * 1024;
const READ_AT_MOST: usize = 128 * 1024;

/// Frames without content in one poll before others get their turn.
const EMPTY_FRAMES_PER_POLL: usize = 32;

/// An encrypted byte stream.
///
/// - What is written is collected into full frames; flushing seals and sends the rest.
/// - Reading gives an end of file only at the end of a frame. Noise has no closing message, so that an attacker who
///   cuts the connection between frames can feign it: whoever needs to know (yamux does) says goodbye inside.
/// - A frame that cannot be decrypted ends the stream for good, in both directions. Any error stays; a socket that no longer
///   takes anything is still read.
pub struct NoiseStream<S> {
    io: S,
    keys: TransportState,
    /// From the socket.
    received: Buffer,
    /// Decrypted, of one frame.
    opened: Buffer,
    /// To be sealed, of one frame.
    pending: Buffer,
    /// For the socket.
    sealed: Buffer,
    read_size: usize,
    ended: bool,
    shut: bool,
    read_failed: Option<Error>,
    write_failed: Option<Error>,
}

impl<S> NoiseStream<S> {
    pub(super) fn new(io: S, received: Buffer, keys: TransportState) -> Self {
        Self {
            io,
            keys,
            received,
            opened: Buffer::default(),
            pending: Buffer::default(),
            sealed: Buffer::default(),
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
        [&self.received, &self.opened, &self.pending, &self.sealed].map(Buffer::allocated).iter().sum()
    }

    /// A broken frame: nothing that follows can be trusted, nor is the peer owed anything.
    fn fail<T>(&mut self, error: Error) -> Poll<io::Result<T>> {
        self.write_failed.get_or_insert_with(|| error.clone());
        self.fail_read(error)
    }

    fn fail_read<T>(&mut self, error: Error) -> Poll<io::Result<T>> {
        self.read_failed = Some(error.clone());
        Poll::Ready(Err(error.into()))
    }

    /// Reading goes on: the peer's last words may be in the socket.
    fn fail_write<T>(&mut self, error: Error) -> Poll<io::Result<T>> {
        self.write_failed = Some(error.clone());
        Poll::Ready(Err(error.into()))
    }

    /// Opens the next frame if all of it is there: `Ok(false)` if not.
    fn open(&mut self) -> Result<bool, Error> {
        let Some((prefix, rest)) = self.received.filled().split_first_chunk::<PREFIX>() else {
            return Ok(false);
        };
        let len = usize::from(u16::from_be_bytes(*prefix));
        if len < TAG {
            return Err(Error::Malformed("a frame shorter than its tag"));
        }
        let Some(ciphertext) = rest.get(..len) else {
            return Ok(false);
        };
        // snow wants no more than the plaintext needs.
        let n = self.keys.read_message(ciphertext, self.opened.spare(len)).map_err(keys_failed)?;
        self.opened.fill(n);
        self.received.consume(len.saturating_add(PREFIX));
        Ok(true)
    }

    /// Bytes still missing of the frame that is coming in.
    fn missing(&self) -> usize {
        match self.received.filled().split_first_chunk::<PREFIX>() {
            None => PREFIX,
            Some((prefix, rest)) => usize::from(u16::from_be_bytes(*prefix)).saturating_sub(rest.len()),
        }
    }
}

impl<S: AsyncRead + Unpin> NoiseStream<S> {
    /// Reads from the socket; zero at its end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wanted = self.missing().max(self.read_size);
        let mut room = ReadBuf::new(self.received.spare(wanted));
        let offered = room.remaining();
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
        let n = room.filled().len();
        self.received.fill(n);
        if n == offered {
            self.read_size = self.read_size.saturating_mul(2).min(READ_AT_MOST);
        } else if n < self.read_size / 4 {
            self.read_size = (self.read_size / 2).max(READ_AT_FIRST);
        }
        Poll::Ready(Ok(n))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NoiseStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut empty = 0;
        while this.opened.is_empty() {
            check(&this.read_failed)?;
            if this.ended || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            match this.open() {
                Err(error) => return this.fail(error),
                Ok(true) if this.opened.is_empty() => {
                    empty = usize::saturating_add(empty, 1);
                    if empty == EMPTY_FRAMES_PER_POLL {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Ok(true) => {}
                Ok(false) => match this.poll_receive(cx) {
                    Poll::Ready(Ok(0)) if this.received.is_empty() => this.ended = true,
                    Poll::Ready(Ok(0)) => return this.fail_read(Error::Truncated),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return this.fail_read(error.into()),
                    Poll::Pending => {
                        this.received.rest();
                        this.opened.rest();
                        return Poll::Pending;
                    }
                },
            }
        }
        let take = this.opened.len().min(buf.remaining());
        buf.put_slice(this.opened.filled().get(..take).unwrap_or_default());
        this.opened.consume(take);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> NoiseStream<S> {
    /// Seals what was collected into one frame.
    fn seal_pending(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        seal(&mut self.keys, self.pending.filled(), &mut self.sealed)?;
        self.pending.consume(MAX_PLAIN);
        Ok(())
    }

    /// Hands sealed frames to the socket until `keep` bytes or less are left.
    fn poll_send(&mut self, cx: &mut Context<'_>, keep: usize) -> Poll<io::Result<()>> {
        while self.sealed.len() > keep {
            match ready!(Pin::new(&mut self.io).poll_write(cx, self.sealed.filled())) {
                Ok(0) => return self.fail_write(Error::from(io::Error::from(io::ErrorKind::WriteZero))),
                Ok(n) => self.sealed.consume(n),
                Err(error) => return self.fail_write(error.into()),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Seals and hands over everything that was accepted.
    fn poll_send_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&self.write_failed)?;
        if let Err(error) = self.seal_pending() {
            return self.fail_write(error);
        }
        ready!(self.poll_send(cx, 0))?;
        self.pending.rest();
        self.sealed.rest();
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
        ready!(this.poll_send(cx, MAX_SEALED))?;
        // A flush that was given up half way has sealed but not sent; what is collected is less than a frame.
        let whole = buf.get(..MAX_PLAIN).filter(|_| this.pending.is_empty());
        let result = match whole {
            Some(plain) => seal(&mut this.keys, plain, &mut this.sealed).map(|()| MAX_PLAIN),
            None => {
                let take = MAX_PLAIN.saturating_sub(this.pending.len()).min(buf.len());
                this.pending.push(buf.get(..take).unwrap_or_default());
                let full = this.pending.len() == MAX_PLAIN;
                if full { this.seal_pending().map(|()| take) } else { Ok(take) }
            }
        };
        match result {
            Ok(n) => Poll::Ready(Ok(n)),
            Err(error) => this.fail_write(error),
        }
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

/// Appends `plain`, [`MAX_PLAIN`] bytes at most, as one frame.
fn seal(keys: &mut TransportState, plain: &[u8], out: &mut Buffer) -> Result<(), Error> {
    let too_long = || internal(snow::Error::Input);
    let len = plain.len().saturating_add(TAG);
    let prefix = u16::try_from(len).map_err(|_| too_long())?.to_be_bytes();
    let room = out.spare(len.saturating_add(PREFIX));
    let (head, body) = room.split_first_chunk_mut::<PREFIX>().ok_or_else(too_long)?;
    *head = prefix;
    let n = keys.write_message(plain, body).map_err(keys_failed)?;
    out.fill(n.saturating_add(PREFIX));
    Ok(())
}

fn check(failed: &Option<Error>) -> io::Result<()> {
    failed.clone().map_or(Ok(()), |error| Err(error.into()))
}

fn keys_failed(error: snow::Error) -> Error {
    match error {
        snow::Error::Decrypt => Error::Decrypt,
        snow::Error::State(StateProblem::Exhausted) => Error::Exhausted,
        error => internal(error),
    }
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
