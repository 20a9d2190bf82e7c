//! The orderly end of a socket on which everything was said.
//!
//! A TCP socket that is dropped while input waits in it, or comes later, is reset by the kernel, which throws away what
//! it had not yet sent. A healthy peer does send something: credit for the last data, if nothing else. So this side
//! shuts its half, and listens without caring for what comes until the peer has closed as well.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at a time.
const CHUNK: usize = 4 * 1024;

/// Chunks that one poll reads before it lets others run.
const CHUNKS_PER_POLL: usize = 32;

/// How far the end has come.
#[derive(Default)]
pub(crate) struct Leaving {
    /// This side's half is shut.
    shut: bool,
    /// The peer's half has ended.
    ended: bool,
}

impl Leaving {
    /// Ready when both halves are over. It has no time limit of its own.
    pub(crate) fn poll<T>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        // Reading does not wait for the shutting: a peer that does the same may not read before it has written.
        if !self.shut {
            self.shut = Pin::new(&mut *io).poll_shutdown(cx)?.is_ready();
        }
        if !self.ended {
            self.ended = discard(io, cx)?.is_ready();
        }
        if self.shut && self.ended { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

/// Ready at the end of the input.
fn discard<T: AsyncRead + Unpin>(io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut chunk = [0; CHUNK];
    for _ in 0..CHUNKS_PER_POLL {
        let mut buf = ReadBuf::new(&mut chunk);
        match Pin::new(&mut *io).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(test)]
mod tests {
    //! Over real TCP: what is tried is what the kernel does with a socket that goes.

    use peerage_core::budget::Budget;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpSocket, TcpStream},
    };

    use crate::{
        ErrorCode, Muxed, mplex,
        yamux::{
            self, Mode,
            frame::{HEADER, Header},
        },
    };

    /// More than the peer's socket takes unread, less than this side's takes unsent.
    const LENGTH: usize = 200_000;

    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpSocket::new_v4().unwrap();
        listener.set_recv_buffer_size(16 * 1024).unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1).unwrap();
        let ours = TcpSocket::new_v4().unwrap();
        ours.set_send_buffer_size(2 * 1024 * 1024).unwrap();
        let (ours, theirs) = tokio::join!(ours.connect(listener.local_addr().unwrap()), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    /// Writes, closes and ends the connection; then a peer says `something` before it reads. What it reads.
    async fn last_words(muxed: Muxed, mut peer: TcpStream, something: &[u8]) -> Vec<u8> {
        let driver = tokio::spawn(muxed.driver);
        let mut stream = muxed.connection.open().await.unwrap();
        stream.write_all(&vec![7; LENGTH]).await.unwrap();
        stream.close_write().await.unwrap();
        muxed.connection.close(ErrorCode::SHUTDOWN);
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(!driver.is_finished(), "the peer has not closed");
        peer.write_all(something).await.unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).await.expect("an orderly end");
        drop(peer);
        driver.await.unwrap().unwrap();
        all
    }

    #[tokio::test]
    async fn yamux_loses_nothing_when_it_closes_while_the_peer_gives_credit() {
        let (ours, theirs) = sockets().await;
        let muxed = yamux::start(ours, Mode::Client, yamux::Config::default(), Budget::unlimited());
        let credit = Header::new(yamux::frame::WINDOW_UPDATE, 0, 1, 128 * 1024).encode();
        let all = last_words(muxed, theirs, &credit).await;
        assert_eq!(all.iter().filter(|byte| **byte == 7).count(), LENGTH);
        assert!(
            all.ends_with(&Header::go_away(ErrorCode::SHUTDOWN.0).encode()),
            "{:?}",
            &all[all.len() - HEADER..]
        );
    }

    #[tokio::test]
    async fn mplex_loses_nothing_when_it_closes_while_the_peer_speaks() {
        let (ours, theirs) = sockets().await;
        let muxed = mplex::start(ours, mplex::Config::default(), Budget::unlimited());
        // A new stream.
        let all = last_words(muxed, theirs, &[8, 0]).await;
        assert_eq!(all.iter().filter(|byte| **byte == 7).count(), LENGTH);
        assert!(all.ends_with(&[4, 0]), "its end");
    }
}
