//! The encrypted stream: a nonce, and then XSalsa20 over everything, each way.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use salsa20::{
    XSalsa20,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Error, PreSharedKey};

/// The nonce that each side sends first.
pub(super) const NONCE: usize = 24;

/// Encrypted bytes that wait for the socket, at most.
pub(super) const MAX_PENDING: usize = 128 * 1024;

/// Memory that an idle stream may keep.
pub(super) const KEEP: usize = 4 * 1024;

/// With this begins everything that a node without a key says: the header of multistream-select. A nonce does so with a
/// chance of one in 2^160.
const PLAINTEXT: &[u8] = b"\x13/multistream/1.0.0\n";

/// A byte stream in a private network.
///
/// The nonce leaves with the first bytes that are written, or when the stream is first read: a peer may wait for it before
/// it says anything. What is written is kept until the socket has taken it, and flushing waits for that. Bytes are
/// encrypted in the buffer from which the socket takes them, and decrypted in the reader's.
pub struct PnetStream<S> {
    io: S,
    ours: XSalsa20,
    theirs: Theirs,
    /// Encrypted; what is before `sent` is with the socket.
    pending: Vec<u8>,
    sent: usize,
    /// Nothing was flushed since the nonce was made.
    greeting: bool,
}

enum Theirs {
    /// The peer's nonce, as far as it has come.
    Nonce {
        key: PreSharedKey,
        nonce: [u8; NONCE],
        have: usize,
    },
    Known(XSalsa20),
}

impl<S> PnetStream<S> {
    /// Nothing is sent or read yet.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(io: S, key: &PreSharedKey) -> Result<Self, Error> {
        let mut nonce = [0; NONCE];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Error::Randomness)?;
        Ok(Self::with_nonce(io, key, nonce))
    }

    pub(super) fn with_nonce(io: S, key: &PreSharedKey, nonce: [u8; NONCE]) -> Self {
        Self {
            io,
            ours: XSalsa20::new(key.bytes().into(), &nonce.into()),
            theirs: Theirs::Nonce { key: key.clone(), nonce: [0; NONCE], have: 0 },
            pending: nonce.to_vec(),
            sent: 0,
            greeting: true,
        }
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.pending.capacity()
    }

    fn waiting(&self) -> &[u8] {
        self.pending.get(self.sent..).unwrap_or_default()
    }

    /// Encrypts and takes what fits.
    fn take(&mut self, plain: &[u8]) -> Result<usize, Error> {
        if self.sent > 0 {
            self.pending.drain(..self.sent);
            self.sent = 0;
        }
        let room = MAX_PENDING.saturating_sub(self.pending.len());
        let plain = plain.get(..room).unwrap_or(plain);
        let before = self.pending.len();
        self.pending.extend_from_slice(plain);
        let taken = self.pending.get_mut(before..).unwrap_or_default();
        self.ours.try_apply_keystream(taken).map_err(|_| Error::Exhausted)?;
        Ok(plain.len())
    }
}

impl<S: AsyncWrite + Unpin> PnetStream<S> {
    /// Hands everything to the socket.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting().is_empty() {
            let waiting = self.pending.get(self.sent..).unwrap_or_default();
            match ready!(Pin::new(&mut self.io).poll_write(cx, waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent = self.sent.saturating_add(n),
            }
        }
        self.pending.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Sends the nonce, and what was written since, without waiting for it. If that fails, the next write tells.
    fn greet(&mut self, cx: &mut Context<'_>) {
        if self.greeting
            && let Poll::Ready(Ok(())) = self.poll_send(cx)
            && let Poll::Ready(Ok(())) = Pin::new(&mut self.io).poll_flush(cx)
        {
            self.greeting = false;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PnetStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.greet(cx);
        loop {
            match &mut this.theirs {
                Theirs::Known(cipher) => {
                    let before = buf.filled().len();
                    ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
                    let read = buf.filled_mut().get_mut(before..).unwrap_or_default();
                    cipher.try_apply_keystream(read).map_err(|_| Error::Exhausted)?;
                    return Poll::Ready(Ok(()));
                }
                Theirs::Nonce { key, nonce, have } => {
                    if nonce.get(..*have).is_some_and(|start| start.starts_with(PLAINTEXT)) {
                        return Poll::Ready(Err(Error::Plaintext.into()));
                    }
                    if *have == NONCE {
                        this.theirs = Theirs::Known(XSalsa20::new(key.bytes().into(), &(*nonce).into()));
                        continue;
                    }
                    let mut rest = ReadBuf::new(nonce.get_mut(*have..).unwrap_or_default());
                    ready!(Pin::new(&mut this.io).poll_read(cx, &mut rest))?;
                    if rest.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    *have = have.saturating_add(rest.filled().len());
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PnetStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.waiting().len() >= MAX_PENDING {
            ready!(this.poll_send(cx))?;
        }
        let taken = this.take(buf)?;
        // Small writes wait for the flush.
        if this.waiting().len() >= MAX_PENDING
            && let Poll::Ready(Err(error)) = this.poll_send(cx)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        if this.pending.capacity() > KEEP {
            this.pending = Vec::new();
        }
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        this.greeting = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for PnetStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heard = matches!(self.theirs, Theirs::Known(_));
        f.debug_struct("PnetStream").field("nonce_received", &heard).finish_non_exhaustive()
    }
}
