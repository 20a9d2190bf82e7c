//! Received bytes, lent to the muxer where they lie.
//!
//! A muxer copies them once, from the buffer of the layer below into those of the streams. A layer that decrypts has such a
//! buffer, and lends from it as [`AsyncBufRead`]; anything else gets one here.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// What is read at once: so much while little comes in.
const SMALL_READ: usize = 4 * 1024;

/// So much while it keeps coming.
const LARGE_READ: usize = 64 * 1024;

/// A byte stream that has a buffer for what it receives: of 4 KiB while little comes in, of up to 64 KiB while much does.
/// Writes go through.
#[derive(Debug)]
pub struct Buffered<T> {
    io: T,
    received: Vec<u8>,
    taken: usize,
    read_size: usize,
}

impl<T> Buffered<T> {
    /// With nothing in the buffer.
    pub fn new(io: T) -> Self {
        Self { io, received: Vec::new(), taken: 0, read_size: SMALL_READ }
    }

    fn rest(&self) -> &[u8] {
        self.received.get(self.taken..).unwrap_or_default()
    }

    fn take(&mut self, n: usize) {
        self.taken = self.taken.saturating_add(n);
        if self.taken >= self.received.len() {
            self.received.clear();
            self.taken = 0;
        }
    }

    /// More was offered than came, or it came so fast that more should be.
    fn adapt(&mut self, n: usize) {
        if n >= self.read_size {
            self.read_size = self.read_size.saturating_mul(2).min(LARGE_READ);
        } else if n < self.read_size / 4 {
            self.read_size = (self.read_size / 2).max(SMALL_READ);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncBufRead for Buffered<T> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.received.is_empty() {
            this.received.reserve(this.read_size);
            match poll_read_buf(Pin::new(&mut this.io), cx, &mut this.received) {
                Poll::Ready(n) => this.adapt(n?),
                Poll::Pending => {
                    // Connections are mostly idle, and there are many.
                    if this.read_size == SMALL_READ && this.received.capacity() > SMALL_READ {
                        this.received = Vec::new();
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(this.rest()))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        self.get_mut().take(n);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Buffered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let there = ready!(self.as_mut().poll_fill_buf(cx))?;
        let n = there.len().min(buf.remaining());
        buf.put_slice(there.get(..n).unwrap_or_default());
        self.consume(n);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Buffered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_lent_and_what_is_read_are_one_stream() {
        let data: Vec<u8> = (0..=u8::MAX).cycle().take(300_000).collect();
        let mut buffered = Buffered::new(&data[..]);
        let mut got = Vec::new();
        for size in [1, 4095, 10_000, 70_000].into_iter().cycle() {
            let lent = buffered.fill_buf().await.unwrap();
            if lent.is_empty() {
                break;
            }
            assert!(lent.len() <= LARGE_READ);
            let n = lent.len().min(size);
            got.extend_from_slice(&lent[..n]);
            buffered.consume(n);
            let mut chunk = vec![0; size];
            let n = buffered.read(&mut chunk).await.unwrap();
            got.extend_from_slice(&chunk[..n]);
        }
        assert!(got == data);
    }

    #[tokio::test]
    async fn a_large_buffer_goes_back_when_little_comes() {
        let (mut theirs, ours) = tokio::io::duplex(1 << 20);
        let mut buffered = Buffered::new(ours);
        tokio::io::AsyncWriteExt::write_all(&mut theirs, &[7; 1 << 20]).await.unwrap();
        buffered.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
        assert!(buffered.received.capacity() >= LARGE_READ);
        for _ in 0..8 {
            tokio::io::AsyncWriteExt::write_all(&mut theirs, &[7]).await.unwrap();
            buffered.read_u8().await.unwrap();
        }
        assert!(futures::poll!(std::pin::pin!(buffered.fill_buf())).is_pending());
        assert!(buffered.received.capacity() <= SMALL_READ);
    }
}
