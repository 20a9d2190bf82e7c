//! What moves bytes between the socket and the engine: a future, and for what is short whoever writes it.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak},
    task::{Context, Poll, Waker, ready},
    thread::{self, ThreadId},
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncWrite},
    time::{self, Instant, Sleep},
};

use super::{
    engine::Frames,
    frame::{GO_AWAY_PROTOCOL_ERROR, Header},
    handle::Shared,
};
use crate::{ConnectionError, ErrorCode, Outflow, handles::Push, leaving::Leaving, outflow::Stall, soon};

/// What one poll may move before it lets others run.
const BUDGET: usize = 128 * 1024;

/// What a call costs in the budget at least, so that many small reads and writes are not free.
const CALL: usize = 1024;

/// Frames are made until there is so much to be written together.
const BATCH: usize = 128 * 1024;

/// Pieces of frames that are written together. A header and a body are two.
const PIECES: usize = 16;

/// Messages that are pushed from other threads until the peer has said something. A message that waits for no answer is
/// one of many, which the driver sends together; and a request is often followed by the end of its stream.
const UNANSWERED: usize = 2;

/// What a turn of the driver moves at most, in bytes as its budget counts them, if it is one of a conversation.
const SHORT: usize = 4 * CALL;

/// While more streams than these are open nothing is pushed: what many say at once is better sent together.
const FEW_STREAMS: usize = 4;

/// The future. It and whoever pushes take turns at the mover, which goes with the future.
pub(super) struct Driver<T> {
    mover: Arc<Mutex<Option<Mover<T>>>>,
    shared: Arc<Shared>,
}

/// For handles: pushes what they write, while the driver sleeps.
struct Pusher<T>(Weak<Mutex<Option<Mover<T>>>>);

struct Mover<T> {
    io: T,
    shared: Arc<Shared>,
    /// The engine takes input.
    wanted: bool,
    output: Frames,
    /// Something was written since the last flush.
    unflushed: bool,
    stall: Stall,
    write_timeout: Duration,
    close_by: Option<Instant>,
    /// Everything is said.
    leaving: Option<Leaving>,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the timer runs off, at the latest the next deadline.
    armed: Option<Instant>,
    left: usize,
    /// The thread on which the future was polled last, and what wakes it.
    home: Option<(ThreadId, Waker)>,
    /// Messages that may be pushed before the peer says something.
    pushes: usize,
    /// What pushing came upon; the future ends with it.
    failed: Option<ConnectionError>,
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Something moved.
    Moved,
    /// Nothing can move before the task is woken.
    Idle,
}

impl<T: AsyncBufRead + AsyncWrite + Send + Unpin + 'static> Driver<T> {
    pub(super) fn new(io: T, outflow: Outflow, shared: Arc<Shared>, write_timeout: Duration) -> Self {
        let mover = Mover {
            io,
            shared: Arc::clone(&shared),
            wanted: true,
            output: Frames::default(),
            unflushed: false,
            stall: Stall::new(outflow, write_timeout),
            write_timeout,
            close_by: None,
            leaving: None,
            timer: None,
            armed: None,
            left: 0,
            home: None,
            pushes: UNANSWERED,
            failed: None,
        };
        let mover = Arc::new(Mutex::new(Some(mover)));
        shared.push_by(Pusher(Arc::downgrade(&mover)));
        Self { mover, shared }
    }
}

impl<T> Driver<T> {
    fn lock(&self) -> MutexGuard<'_, Option<Mover<T>>> {
        self.mover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncBufRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = Result<(), ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.shared.register_driver(cx.waker());
        match &mut *self.lock() {
            Some(mover) => mover.poll(cx),
            None => Poll::Ready(Err(ConnectionError::DriverGone)),
        }
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        // If the future ended by itself, its own reason stands.
        self.shared.end(ConnectionError::DriverGone);
        let mover = self.lock().take();
        drop(mover);
    }
}

impl<T: AsyncBufRead + AsyncWrite + Send + Unpin> Push for Pusher<T> {
    fn push(&self) -> bool {
        let Some(mover) = self.0.upgrade() else {
            return false;
        };
        // Whoever has it is about to send, and is woken to look once more.
        let mut mover = match mover.try_lock() {
            Ok(mover) => mover,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        mover.as_mut().is_some_and(Mover::push)
    }
}

impl<T: AsyncBufRead + AsyncWrite + Unpin> Mover<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.come_home(cx);
        let (closing, result) = self.turn(cx);
        let Err(error) = ready!(result) else {
            return Poll::Ready(Ok(()));
        };
        if closing {
            // A socket that went first, or a peer that does not read: closed all the same.
            return Poll::Ready(Ok(()));
        }
        self.shared.end(error.clone());
        if matches!(error, ConnectionError::Protocol(_)) {
            self.last_words(cx);
        }
        Poll::Ready(Err(error))
    }

    fn come_home(&mut self, cx: &Context<'_>) {
        let here = thread::current().id();
        match &mut self.home {
            Some((thread, waker)) if *thread == here => waker.clone_from(cx.waker()),
            home => *home = Some((here, cx.waker().clone())),
        }
    }

    /// Sends, from any thread but the driver's own, where it is soon polled anyway and then does all at once. Whether
    /// nothing is left for the driver to do.
    fn push(&mut self) -> bool {
        let Some((thread, waker)) = &self.home else {
            return false;
        };
        let idle = self.output.is_empty() && !self.unflushed && self.leaving.is_none();
        if !idle || self.pushes == 0 || self.failed.is_some() || *thread == thread::current().id() {
            return false;
        }
        if self.shared.drive(|engine| engine.entries()) > FEW_STREAMS {
            return false;
        }
        self.pushes = self.pushes.saturating_sub(1);
        let waker = waker.clone();
        let (cx, now) = (&mut Context::from_waker(&waker), Instant::now());
        self.left = BUDGET;
        let pushed = self.poll_write(cx, now).and_then(|_| self.poll_flush(cx, now));
        self.failed = pushed.err();
        let rest = !self.output.is_empty() || self.unflushed || self.left == 0;
        !rest && self.failed.is_none() && !self.is_early()
    }

    /// Whether there is a deadline before the one that the timer is set to.
    fn is_early(&self) -> bool {
        let next = self.shared.drive(|engine| engine.poll_timeout()).map(Instant::from_std);
        next.is_some_and(|next| self.armed.is_none_or(|armed| next < armed))
    }

    /// Whether this side is closing the connection, and how far it came.
    fn turn(&mut self, cx: &mut Context<'_>) -> (bool, Poll<Result<(), ConnectionError>>) {
        let now = Instant::now();
        if let Some(error) = self.failed.take() {
            return (false, Poll::Ready(Err(error)));
        }
        let closing = self.shared.drive(|engine| engine.is_closing());
        if closing && self.close_by.is_none() {
            self.close_by = now.checked_add(self.write_timeout);
        }
        let moved = match self.poll_move(cx, now) {
            Ok(Poll::Ready(())) => return (closing, Poll::Ready(Ok(()))),
            Ok(Poll::Pending) => self.poll_timers(cx),
            Err(error) => Err(error),
        };
        match moved {
            Ok(()) => (closing, Poll::Pending),
            Err(error) => (closing, Poll::Ready(Err(error))),
        }
    }

    /// Ready when the connection was closed by this side, everything is said, and the peer has closed as well.
    fn poll_move(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Poll<()>, ConnectionError> {
        if let Some(leaving) = &mut self.leaving {
            return Ok(leaving.poll(&mut self.io, cx)?);
        }
        self.left = BUDGET;
        loop {
            let wrote = self.poll_write(cx, now)?;
            if self.output.is_empty() && self.shared.drive(|engine| engine.is_closed()) {
                return Ok(self.leaving.insert(Leaving::default()).poll(&mut self.io, cx)?);
            }
            let read = self.poll_read(cx, now)?;
            if (wrote, read) == (Step::Idle, Step::Idle) {
                break;
            }
            if self.left == 0 {
                cx.waker().wake_by_ref();
                break;
            }
        }
        self.poll_flush(cx, now)?;
        let moved = BUDGET.saturating_sub(self.left);
        if (1..=SHORT).contains(&moved)
            && self.shared.drive(|engine| engine.entries() <= FEW_STREAMS && engine.is_near())
        {
            soon::expect();
        }
        Ok(Poll::Pending)
    }

    /// Writes what the engine has to send, until it or the socket has enough.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Step, ConnectionError> {
        let mut step = Step::Idle;
        loop {
            if self.output.is_empty() {
                let output = &mut self.output;
                self.wanted = self.shared.drive(|engine| {
                    engine.poll_output(output, BATCH, now.into_std());
                    engine.wants_input()
                });
                if self.output.is_empty() {
                    return Ok(step);
                }
            }
            match write(&mut self.io, cx, &self.output)? {
                Poll::Ready(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Poll::Ready(n) => {
                    self.output.advance(n);
                    (step, self.unflushed) = (Step::Moved, true);
                    self.left = self.left.saturating_sub(n.max(CALL));
                    if self.left == 0 {
                        return Ok(step);
                    }
                }
                Poll::Pending => {
                    self.stall.blocked(now);
                    return Ok(step);
                }
            }
        }
    }

    /// Lets the engine have what is there, from where it lies.
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Step, ConnectionError> {
        if !self.wanted {
            return Ok(Step::Idle);
        }
        let Poll::Ready(input) = Pin::new(&mut self.io).poll_fill_buf(cx)? else {
            return Ok(Step::Idle);
        };
        if input.is_empty() {
            return Err(self.end_of_input());
        }
        let (taken, farewell) = self.shared.drive(|engine| {
            let taken = engine.handle_input(input, now.into_std());
            self.wanted = engine.wants_input();
            (taken, engine.farewell())
        });
        let taken = taken.map_err(|violation| ConnectionError::Protocol(violation.to_string()))?;
        if let Some(code) = farewell {
            return Err(ConnectionError::ClosedByPeer(code));
        }
        self.pushes = UNANSWERED;
        Pin::new(&mut self.io).consume(taken);
        self.left = self.left.saturating_sub(taken.max(CALL));
        Ok(Step::Moved)
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
            let close_by = self.close_by;
            if blocked_until.into_iter().chain(close_by).any(|at| at <= now) {
                return Err(ConnectionError::Stalled);
            }
            let (asked, next) = self.shared.drive(|engine| {
                let late = engine.poll_timeout().is_some_and(|at| at <= now.into_std());
                let asked = if late { Some(engine.handle_timeout(now.into_std())) } else { None };
                (asked, engine.poll_timeout())
            });
            if let Some(asked) = asked {
                asked?;
                // There may be a ping to be sent.
                cx.waker().wake_by_ref();
            }
            let next = next.map(Instant::from_std);
            let Some(next) = [blocked_until, close_by, next].into_iter().flatten().min() else {
                return Ok(());
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(time::sleep_until(next)));
            // Deadlines mostly move away from it. One that is too early only looks again.
            if self.armed.is_none_or(|at| next < at) {
                timer.as_mut().reset(next);
                self.armed = Some(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.armed = None;
        }
    }

    /// Tells the peer that it broke the protocol, as far as the socket takes it: the peer is owed nothing.
    fn last_words(&mut self, cx: &mut Context<'_>) {
        self.output.put(&Header::go_away(GO_AWAY_PROTOCOL_ERROR).encode());
        while !self.output.is_empty() {
            match write(&mut self.io, cx, &self.output) {
                Poll::Ready(Ok(n)) if n > 0 => self.output.advance(n),
                Poll::Pending => break,
                Poll::Ready(_) => return,
            }
        }
        let _ = Pin::new(&mut self.io).poll_flush(cx);
    }
}

fn write<T: AsyncWrite + Unpin>(
    io: &mut T,
    cx: &mut Context<'_>,
    output: &Frames,
) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); PIECES];
    let filled = output.slices(&mut slices);
    Pin::new(io).poll_write_vectored(cx, slices.get(..filled).unwrap_or_default())
}
