use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// Bytes read ahead at most: an honest negotiation's first flight, header and proposal, is about 30.
pub(crate) const CAPACITY: usize = 256;

/// Bytes that are held back at most: an honest negotiation's answers are about 30, and the first message of a handshake
/// that leaves with them a few hundred.
pub(crate) const HELD_MAX: usize = 4096;

/// A socket of which small reads and answers are cheap.
///
/// A negotiation must not read a byte that belongs to the next layer, so it reads in small pieces, and each would be
/// a system call. Here one call reads ahead, and what nobody has asked for yet stays in front of the socket for the
/// layer that comes next. [`ReadAhead::settle`] ends it: from then on reads go to the socket directly, and the
/// memory is given back. So does a layer that reads in large pieces by itself.
///
/// A dialer that is sure of itself sends all that it has to say in one flight, and each piece of it is answered. For who
/// [answers](ReadAhead::answering), as long as more of it is there to be read, the answers are held back, to leave in one
/// write with the last of them and with what the next layer says first: nobody can wait for them who has more to say. What was
/// held back leaves as soon as there is nothing more to read.
pub(crate) struct ReadAhead<S> {
    io: S,
    ahead: Vec<u8>,
    at: usize,
    settled: bool,
    answers: bool,
    held: Vec<u8>,
    /// Of `held`, what the socket has taken.
    sent: usize,
    /// All of it was taken, by a socket that has it to flush still.
    unflushed: bool,
}

impl<S> ReadAhead<S> {
    pub(crate) fn new(io: S) -> Self {
        Self {
            io,
            ahead: Vec::new(),
            at: 0,
            settled: false,
            answers: false,
            held: Vec::new(),
            sent: 0,
            unflushed: false,
        }
    }

    /// For the side that answers.
    pub(crate) fn answering(io: S) -> Self {
        Self { answers: true, ..Self::new(io) }
    }

    /// No more reading ahead, for layers that read in large pieces themselves.
    pub(crate) fn settle(mut self) -> Self {
        self.settled = true;
        self.tidy();
        self
    }

    /// Whether answers are held back: something is there that was not asked for yet.
    fn holds_back(&self) -> bool {
        self.answers && !self.settled && self.at < self.ahead.len()
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

impl<S: AsyncWrite + Unpin> ReadAhead<S> {
    /// Sends what was held back, whatever else is there to be read: nobody will read it.
    pub(crate) async fn let_out(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx)).await?;
        self.io.flush().await
    }

    /// Hands what was held back to the socket.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent = self.sent.saturating_add(sent),
            }
        }
        self.held = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Nothing is there to be read: whoever is to send more may wait for what was held back. What is wrong with sending it, the
    /// next write says; reading goes on.
    fn let_go(&mut self, cx: &mut Context<'_>) {
        if (self.unflushed || !self.held.is_empty()) && self.poll_send(cx).is_ready() {
            self.unflushed = Pin::new(&mut self.io).poll_flush(cx).is_pending();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ReadAhead<S> {
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
            let read = Pin::new(&mut self.io).poll_read(cx, buf);
            if read.is_pending() {
                self.let_go(cx);
            }
            return read;
        }
        let mut space = [0; CAPACITY];
        let mut read = ReadBuf::new(&mut space);
        if Pin::new(&mut self.io).poll_read(cx, &mut read)?.is_pending() {
            self.let_go(cx);
            return Poll::Pending;
        }
        self.ahead.extend_from_slice(read.filled());
        // Nothing to take means that the socket has ended, and nothing in `buf` says so.
        self.take(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let room = HELD_MAX.saturating_sub(self.held.len());
        if buf.len() > room || (self.held.is_empty() && !self.holds_back()) {
            ready!(self.poll_send(cx))?;
            return Pin::new(&mut self.io).poll_write(cx, buf);
        }
        self.held.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    /// What is held back stays so while there is more to read.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.holds_back() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.held.is_empty() && !self.holds_back() {
            return Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

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

    /// What the far end finds there by now.
    async fn there(far: &mut tokio::io::DuplexStream) -> Vec<u8> {
        let mut space = [0; 2 * HELD_MAX];
        let mut read = ReadBuf::new(&mut space);
        poll_fn(|cx| {
            let _ = Pin::new(&mut *far).poll_read(cx, &mut read)?;
            Poll::Ready(Ok::<_, io::Error>(()))
        })
        .await
        .expect("open");
        read.filled().to_vec()
    }

    async fn answer(near: &mut ReadAhead<tokio::io::DuplexStream>, bytes: &[u8]) {
        near.write_all(bytes).await.expect("room");
        near.flush().await.expect("open");
    }

    #[tokio::test]
    async fn answers_to_what_came_together_leave_together() {
        let (mut far, near) = tokio::io::duplex(4 * HELD_MAX);
        far.write_all(b"abc").await.expect("room");
        let mut near = ReadAhead::answering(near);
        for (read, answered) in [(b'a', &b""[..]), (b'b', b""), (b'c', b"ABC")] {
            assert_eq!(near.read_u8().await.expect("there"), read);
            answer(&mut near, &[read.to_ascii_uppercase()]).await;
            assert_eq!(there(&mut far).await, answered);
        }
        answer(&mut near, b"D").await;
        assert_eq!(there(&mut far).await, b"D", "nothing is left to be read");
    }

    #[tokio::test]
    async fn the_next_layer_answers_in_the_same_write() {
        let (mut far, near) = tokio::io::duplex(4 * HELD_MAX);
        far.write_all(b"abc").await.expect("room");
        let mut near = ReadAhead::answering(near);
        assert_eq!(near.read_u8().await.expect("there"), b'a');
        answer(&mut near, b"A").await;
        let mut near = near.settle();
        // It may say something before it has read all that is there, and not wait with that.
        answer(&mut near, b"BC").await;
        assert_eq!(there(&mut far).await, b"ABC");
        assert_eq!(near.held.capacity(), 0, "the memory is given back");
        let mut space = [0; CAPACITY];
        assert_eq!(near.read(&mut space).await.expect("there"), 2);
    }

    #[tokio::test]
    async fn who_asks_holds_nothing_back() {
        let (mut far, near) = tokio::io::duplex(4 * HELD_MAX);
        far.write_all(b"abc").await.expect("room");
        let mut near = ReadAhead::new(near);
        assert_eq!(near.read_u8().await.expect("there"), b'a');
        answer(&mut near, b"A").await;
        assert_eq!(there(&mut far).await, b"A");
    }

    /// Has what is written when it is flushed, and is not ready to flush at first.
    struct Slow {
        io: tokio::io::DuplexStream,
        written: Vec<u8>,
        busy: bool,
    }

    impl AsyncRead for Slow {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.written.extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if std::mem::take(&mut self.busy) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let written = std::mem::take(&mut self.written);
            Pin::new(&mut self.io).poll_write(cx, &written).map_ok(drop)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn a_socket_that_is_slow_to_flush_is_asked_again() {
        let (mut far, io) = tokio::io::duplex(4 * HELD_MAX);
        far.write_all(b"ab").await.expect("room");
        let mut near = ReadAhead::answering(Slow { io, written: Vec::new(), busy: true });
        assert_eq!(near.read_u8().await.expect("there"), b'a');
        near.write_all(b"A").await.expect("room");
        near.flush().await.expect("held back");
        let there = async {
            let answer = far.read_u8().await.expect("an answer");
            far.write_all(b"c").await.expect("room");
            answer
        };
        let here = async {
            let mut rest = [0; 2];
            near.read_exact(&mut rest).await.expect("the rest");
            rest
        };
        assert_eq!(tokio::join!(there, here), (b'A', *b"bc"));
    }

    #[tokio::test]
    async fn who_waits_for_an_answer_gets_it() {
        for settled in [false, true] {
            let (mut far, near) = tokio::io::duplex(4 * HELD_MAX);
            far.write_all(b"ab").await.expect("room");
            let mut near = ReadAhead::answering(near);
            assert_eq!(near.read_u8().await.expect("there"), b'a');
            answer(&mut near, b"A").await;
            let mut near = if settled { near.settle() } else { near };
            let (there, here) = tokio::join!(
                async {
                    let answer = far.read_u8().await.expect("an answer");
                    far.write_all(b"c").await.expect("room");
                    answer
                },
                async {
                    let mut rest = [0; 2];
                    near.read_exact(&mut rest).await.expect("the rest");
                    rest
                }
            );
            assert_eq!((there, &here), (b'A', b"bc"));
        }
    }

    #[tokio::test]
    async fn no_more_is_held_back_than_the_limit() {
        for (size, at_once) in [(HELD_MAX, false), (HELD_MAX + 1, true)] {
            let (mut far, near) = tokio::io::duplex(4 * HELD_MAX);
            far.write_all(b"ab").await.expect("room");
            let mut near = ReadAhead::answering(near);
            assert_eq!(near.read_u8().await.expect("there"), b'a');
            answer(&mut near, &vec![b'A'; size]).await;
            assert_eq!(there(&mut far).await.len(), if at_once { size } else { 0 });
            answer(&mut near, b"B").await;
            near.shutdown().await.expect("open");
            let mut rest = Vec::new();
            far.read_to_end(&mut rest).await.expect("the rest");
            assert_eq!(rest.len(), if at_once { 1 } else { size + 1 });
            assert_eq!(rest.last(), Some(&b'B'));
        }
    }

    #[tokio::test]
    async fn the_last_answer_is_sent_though_more_is_there() {
        let (mut far, near) = tokio::io::duplex(4 * HELD_MAX);
        far.write_all(b"abc").await.expect("room");
        let mut near = ReadAhead::answering(near);
        assert_eq!(near.read_u8().await.expect("there"), b'a');
        answer(&mut near, b"no").await;
        assert!(there(&mut far).await.is_empty());
        near.let_out().await.expect("open");
        assert_eq!(there(&mut far).await, b"no");
    }

    #[tokio::test]
    async fn a_narrow_pipe_takes_what_was_held_back() {
        let (mut far, near) = tokio::io::duplex(4);
        far.write_all(b"ab").await.expect("room");
        let mut near = ReadAhead::answering(near);
        let here = async {
            assert_eq!(near.read_u8().await.expect("there"), b'a');
            answer(&mut near, b"0123456789").await;
            assert_eq!(near.read_u8().await.expect("there"), b'b');
            assert_eq!(near.read_u8().await.expect("there"), b'c');
        };
        let there = async {
            let mut got = [0; 10];
            far.read_exact(&mut got).await.expect("there");
            far.write_all(b"c").await.expect("room");
            got
        };
        assert_eq!(tokio::join!(here, there).1, *b"0123456789");
    }
}
