//! The future that moves bytes between the socket and the engine.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Instant, Sleep},
};

use super::handle::Shared;
use crate::{ConnectionError, ErrorCode, Outflow, leaving::Leaving, outflow::Stall};

/// What one poll may move before it lets others run.
const TURN: usize = 128 * 1024;

/// What a call costs of a turn at least, so that many small reads and writes are not free.
const CALL: usize = 1024;

/// Frames are made until there is so much to be written together.
const BATCH: usize = 128 * 1024;

/// The buffer for input.
const READ: usize = 16 * 1024;

/// What stays allocated while nothing is to be sent.
const KEPT: usize = 4 * 1024;

pub(super) struct Driver<T> {
    io: T,
    shared: Arc<Shared>,
    input: Box<[u8]>,
    /// The part of the input that the engine has not taken.
    taken: usize,
    filled: usize,
    output: Vec<u8>,
    written: usize,
    unflushed: bool,
    stall: Stall,
    write_timeout: Duration,
    close_by: Option<Instant>,
    /// Everything is said.
    leaving: Option<Leaving>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Driver<T> {
    pub(super) fn new(io: T, outflow: Outflow, shared: Arc<Shared>, write_timeout: Duration) -> Self {
        Self {
            io,
            shared,
            input: vec![0; READ].into_boxed_slice(),
            taken: 0,
            filled: 0,
            output: Vec::new(),
            written: 0,
            unflushed: false,
            stall: Stall::new(outflow, write_timeout),
            write_timeout,
            close_by: None,
            leaving: None,
            timer: None,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.shared.driver.register(cx.waker());
        let now = Instant::now();
        let closing = this.shared.drive(|engine| engine.is_closing());
        if closing && this.close_by.is_none() {
            this.close_by = now.checked_add(this.write_timeout);
        }
        let result = match this.poll_move(cx, now) {
            Ok(Poll::Pending) => this.poll_timers(cx).map(|()| Poll::Pending),
            result => result,
        };
        match result {
            Ok(Poll::Pending) => Poll::Pending,
            // A socket that went first, or a peer that does not read: closed all the same.
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(_) if closing => Poll::Ready(Ok(())),
            Err(error) => {
                this.shared.end(error.clone());
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    /// Ready when the connection was closed by this side, everything is said, and the peer has closed as well.
    fn poll_move(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Poll<()>, ConnectionError> {
        if let Some(leaving) = &mut self.leaving {
            return Ok(leaving.poll(&mut self.io, cx)?);
        }
        let mut left = TURN;
        loop {
            let wrote = self.poll_write(cx, now)?;
            if self.output.is_empty() && self.shared.drive(|engine| engine.is_closed()) {
                return Ok(self.leaving.insert(Leaving::default()).poll(&mut self.io, cx)?);
            }
            let read = self.poll_read(cx)?;
            if wrote.is_none() && read.is_none() {
                break;
            }
            let moved =
                [wrote, read].into_iter().flatten().fold(0, |all: usize, n| all.saturating_add(n.max(CALL)));
            left = left.saturating_sub(moved);
            if left == 0 {
                cx.waker().wake_by_ref();
                break;
            }
        }
        if self.output.is_empty() && self.output.capacity() > KEPT {
            self.output = Vec::new();
        }
        self.poll_flush(cx, now)?;
        Ok(Poll::Pending)
    }

    /// Writes once; `None` if nothing can be written.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Option<usize>, ConnectionError> {
        if self.output.is_empty() {
            let output = &mut self.output;
            self.shared.drive(|engine| engine.poll_output(output, BATCH));
        }
        let rest = self.output.get(self.written..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        match Pin::new(&mut self.io).poll_write(cx, rest)? {
            Poll::Ready(0) => Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Poll::Ready(n) => {
                self.written = self.written.saturating_add(n);
                if self.written >= self.output.len() {
                    self.output.clear();
                    self.written = 0;
                }
                self.unflushed = true;
                Ok(Some(n))
            }
            Poll::Pending => {
                self.stall.blocked(now);
                Ok(None)
            }
        }
    }

    /// Reads once, if nothing is left of the last time, and lets the engine have it.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<Option<usize>, ConnectionError> {
        if !self.shared.drive(|engine| engine.wants_input()) {
            return Ok(None);
        }
        if self.taken >= self.filled {
            let mut buf = ReadBuf::new(&mut self.input);
            if Pin::new(&mut self.io).poll_read(cx, &mut buf)?.is_pending() {
                return Ok(None);
            }
            (self.taken, self.filled) = (0, buf.filled().len());
            if self.filled == 0 {
                return Err(self.end_of_input());
            }
        }
        let input = self.input.get(self.taken..self.filled).unwrap_or_default();
        let now = Instant::now().into_std();
        let taken = self
            .shared
            .drive(|engine| engine.handle_input(input, now))
            .map_err(|violation| ConnectionError::Protocol(violation.to_string()))?;
        self.taken = self.taken.saturating_add(taken);
        Ok(Some(taken))
    }

    fn end_of_input(&self) -> ConnectionError {
        if self.shared.drive(|engine| engine.is_between_frames()) {
            ConnectionError::ClosedByPeer(ErrorCode::NONE)
        } else {
            io::Error::from(io::ErrorKind::UnexpectedEof).into()
        }
    }

    /// Once for all frames of a turn.
    fn poll_flush(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), ConnectionError> {
        if self.unflushed && self.output.is_empty() {
            match Pin::new(&mut self.io).poll_flush(cx)? {
                Poll::Ready(()) => {
                    self.unflushed = false;
                    self.stall.cleared();
                }
                Poll::Pending => self.stall.blocked(now),
            }
        }
        Ok(())
    }

    /// What is late, and a timer for what will be.
    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        loop {
            let now = Instant::now();
            let blocked_until = self.stall.deadline(now);
            if blocked_until.into_iter().chain(self.close_by).any(|at| at <= now) {
                return Err(ConnectionError::Stalled);
            }
            let (late, next) = self.shared.drive(|engine| {
                let late = engine.poll_timeout().is_some_and(|at| at <= now.into_std());
                if late {
                    engine.handle_timeout(now.into_std());
                }
                (late, engine.poll_timeout())
            });
            if late {
                // There is a reset to be sent, and reading goes on.
                cx.waker().wake_by_ref();
            }
            let next = next.map(Instant::from_std);
            let Some(next) = [blocked_until, self.close_by, next].into_iter().flatten().min() else {
                self.timer = None;
                return Ok(());
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(time::sleep_until(next)));
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
        }
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        // If the future ended by itself, its own reason stands.
        self.shared.end(ConnectionError::DriverGone);
    }
}
