//! Sockets that are unpleasant: they take and give bytes in pieces of any size, make one wait for nothing, fail at a
//! chosen moment, and do not forgive being touched after that.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

use super::{
    Config, Mode, start_linked,
    suite::{pattern, read_to_end, stream_error},
};
use crate::{ConnectionError, ErrorCode, Muxed, StreamError};

/// Numbers that look like chance and are the same every time.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

pub(super) struct Rough {
    io: DuplexStream,
    dice: Dice,
    /// Polls until it fails.
    life: u64,
    /// It failed.
    dead: bool,
    /// There is nothing more to read.
    ended: bool,
}

impl Rough {
    pub(super) fn new(io: DuplexStream, seed: u64, life: u64) -> Self {
        Self { io, dice: Dice::new(seed), life, dead: false, ended: false }
    }

    /// Whether to go on, and how far.
    fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        assert!(!self.dead, "touched after it failed");
        if self.life == 0 {
            self.dead = true;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.life -= 1;
        if self.dice.below(4) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = if self.dice.below(2) == 0 { 30 } else { 100_000 };
        Poll::Ready(Ok(1 + usize::try_from(self.dice.below(most)).unwrap()))
    }
}

impl AsyncRead for Rough {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        assert!(!self.ended, "read after its end");
        let most = std::task::ready!(self.poll_turn(cx))?;
        let mut part = buf.take(most);
        let result = Pin::new(&mut self.io).poll_read(cx, &mut part);
        let n = part.filled().len();
        if n > 0 {
            // The duplex pipe has initialised what it filled; say so without unsafe code.
            let bytes = part.filled().to_vec();
            buf.put_slice(&bytes);
        } else if result.is_ready() {
            self.ended = true;
        }
        result
    }
}

impl AsyncWrite for Rough {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let most = std::task::ready!(self.poll_turn(cx))?;
        let result = Pin::new(&mut self.io).poll_write(cx, &buf[..most.min(buf.len())]);
        self.dead |= matches!(result, Poll::Ready(Err(_)));
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_turn(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_turn(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// An exchange over a socket that lives for so many polls. Whether it lived to the end.
async fn exchange(seed: u64, life: u64) -> bool {
    let (a, b) = tokio::io::duplex(50_000);
    let (client, _) = start_linked(Rough::new(a, seed, life), Mode::Client, Config::default());
    let (server, _) = start_linked(Rough::new(b, seed + 1, u64::MAX), Mode::Server, Config::default());
    let Muxed { connection, driver } = client;
    let driver = tokio::spawn(driver);
    let theirs = tokio::spawn(server.driver);
    let echo = tokio::spawn(async move {
        while let Ok(mut stream) = server.connection.accept().await {
            tokio::spawn(async move {
                let all = read_to_end(&mut stream).await?;
                stream.write_all(&all).await?;
                stream.close_write().await
            });
        }
    });
    let talk = async {
        let mut stream = connection.open().await.map_err(StreamError::from)?;
        stream.write_all(&pattern(70_000)).await?;
        stream.close_write().await?;
        let all = read_to_end(&mut stream).await?;
        assert!(all == pattern(70_000), "a false end");
        Ok::<_, std::io::Error>(())
    };
    let talked = talk.await;
    connection.close(ErrorCode::SHUTDOWN);
    let end = driver.await.expect("no panic, and nothing touched after its end");
    theirs.await.expect("no panic there either").expect_err("closed by the other side");
    echo.await.unwrap();
    match (&talked, &end) {
        (Ok(()), end) => end.is_ok(),
        (Err(error), Err(ConnectionError::Io(_))) => {
            assert!(matches!(stream_error(error), StreamError::Connection(_)), "{error:?}");
            false
        }
        other => panic!("{other:?}"),
    }
}

/// Class C9 of the known holes (rust-yamux 202, 211, 445): a socket is not polled after it failed.
#[tokio::test]
async fn an_error_at_any_poll_is_the_end_of_it() {
    for seed in 0..4 {
        let mut life = 0;
        loop {
            let lived = exchange(seed, life).await;
            if lived && life > 300 {
                break;
            }
            life += 1 + life / 20;
        }
    }
}
