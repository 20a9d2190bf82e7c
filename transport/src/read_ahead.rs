use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read ahead at most: an honest negotiation's first flight, header and proposal, is about 30.
pub(crate) const CAPACITY: usize = 256;

/// A socket of which small reads are cheap.
///
/// A negotiation must not read a byte that belongs to the next layer, so it reads in small pieces, and each would be
/// a system call. Here one call reads ahead, and what nobody has asked for yet stays in front of the socket for the
/// layer that comes next. [`ReadAhead::settle`] ends it: from then on reads go to the socket directly, and the
/// memory is given back. So does a layer that reads in large pieces by itself.
pub(crate) struct ReadAhead<S> {
    io: S,
    ahead: Vec<u8>,
    at: usize,
    settled: bool,
}

impl<S> ReadAhead<S> {
    pub(crate) fn new(io: S) -> Self {
        Self { io, ahead: Vec::new(), at: 0, settled: false }
    }

    /// No more reading ahead, for layers that read in large pieces themselves.
    pub(crate) fn settle(mut self) -> Self {
        self.settled = true;
        self.tidy();
        self
    }

    fn take(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = self.ahead.get(self.at..).unwrap_or_default();
        let Some(given) = rest.get(..rest.len().min(buf.remaining())) else {
            return false;
        };
        if given.is_empty() {
            return false;
        }
        buf.put_slice(given);
        self.at = self.at.saturating_add(given.len());
        self.tidy();
        true
    }

    fn tidy(&mut self) {
        if self.at >= self.ahead.len() {
            self.at = 0;
            self.ahead.clear();
            if self.settled {
                self.ahead = Vec::new();
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 || self.take(buf) {
            return Poll::Ready(Ok(()));
        }
        if self.settled || buf.remaining() >= CAPACITY {
            self.ahead = Vec::new();
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let mut space = [0; CAPACITY];
        let mut read = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        self.ahead.extend_from_slice(read.filled());
        // Nothing to take means that the socket has ended, and nothing in `buf` says so.
        self.take(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_comes_first_and_nothing_is_lost() {
        let (mut far, near) = tokio::io::duplex(4 * CAPACITY);
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(3 * CAPACITY).collect();
        far.write_all(&sent).await.expect("room");
        far.shutdown().await.expect("open");

        let mut near = ReadAhead::new(near);
        let mut got = vec![0; 7];
        near.read_exact(&mut got).await.expect("there");
        assert_eq!(near.ahead.len() - near.at, CAPACITY - 7);

        let mut near = near.settle();
        near.read_to_end(&mut got).await.expect("there");
        assert_eq!(got, sent);
        assert_eq!(near.ahead.capacity(), 0, "the memory is given back");
    }

    #[tokio::test]
    async fn reads_below_capacity_read_ahead_and_reads_of_it_do_not() {
        for (size, left) in [(CAPACITY - 1, 1), (CAPACITY, 0)] {
            let (mut far, near) = tokio::io::duplex(4 * CAPACITY);
            far.write_all(&[1; 2 * CAPACITY]).await.expect("room");
            let mut near = ReadAhead::new(near);
            near.read_exact(&mut vec![0; size]).await.expect("there");
            assert_eq!(near.ahead.len() - near.at, left);
        }
    }

    #[tokio::test]
    async fn the_end_is_an_end() {
        let (far, near) = tokio::io::duplex(16);
        drop(far);
        let mut near = ReadAhead::new(near);
        assert_eq!(near.read(&mut [0; 4]).await.expect("an end"), 0);
    }
}
