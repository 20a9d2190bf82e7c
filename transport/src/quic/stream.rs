use std::{
    io, mem,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker, ready},
};

use peerage_muxer::{ConnectionError, ErrorCode, StreamError};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{error, shared::Shared, turns::Place};

/// A stream, in both directions.
pub(super) struct Substream {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    halves: Option<(SendStream, RecvStream)>,
    /// Whether the peer knows of the stream, or will as soon as something is sent.
    announced: bool,
    finished: bool,
    /// Among those that wait for room.
    place: Place,
}

/// A write up to this size, 4 KiB, goes before longer ones: a question or an answer need not wait for bulk.
const SHORT: usize = 4 * 1024;

impl Substream {
    pub(super) fn opened(shared: Arc<Shared>, halves: (SendStream, RecvStream)) -> Self {
        Self { shared, halves: Some(halves), announced: false, finished: false, place: Place::default() }
    }

    pub(super) fn accepted(shared: Arc<Shared>, halves: (SendStream, RecvStream)) -> Self {
        Self { shared, halves: Some(halves), announced: true, finished: false, place: Place::default() }
    }

    /// Gives quinn as much as there is room for, when it is this stream's turn.
    fn poll_send(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize, WriteError>> {
        let (shared, place) = (&self.shared, &mut self.place);
        let Some((send, _)) = &mut self.halves else {
            return Poll::Ready(Err(WriteError::ClosedStream));
        };
        let (mut send, turns) = (Pin::new(send), &shared.turns);
        let short = buf.len() <= SHORT;
        let most = if short { None } else { Some(turns.turn(place, cx.waker(), || shared.driver.wake())) };
        let buf = match most {
            None => buf,
            Some(Some(most)) => buf.get(..most).unwrap_or(buf),
            Some(None) => return Poll::Pending,
        };
        let mut written = send.as_mut().poll_write(cx, buf);
        if written.is_pending() && short {
            written = shared.with_reserve(|| send.as_mut().poll_write(cx, buf));
        }
        if written.is_pending() {
            shared.writer_waited.store(true, Ordering::Relaxed);
            let waker = turns.draw(place, cx.waker());
            written = send.poll_write(&mut Context::from_waker(&waker), buf);
        }
        written
    }

    fn read_error(&self, error: ReadError) -> io::Error {
        let error = match error {
            ReadError::Reset(code) => StreamError::ResetByPeer(error::code(code)),
            ReadError::ConnectionLost(end) => self.shared.end_of(end).into(),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead => {
                StreamError::ResetLocally(ErrorCode::NONE)
            }
            ReadError::ZeroRttRejected => ConnectionError::DriverGone.into(),
        };
        error.into()
    }

    fn write_error(&self, error: WriteError) -> io::Error {
        let error = match error {
            WriteError::Stopped(code) => StreamError::ResetByPeer(error::code(code)),
            WriteError::ConnectionLost(end) => self.shared.end_of(end).into(),
            WriteError::ClosedStream => StreamError::WriteClosed,
            WriteError::ZeroRttRejected => ConnectionError::DriverGone.into(),
        };
        error.into()
    }
}

fn over() -> io::Error {
    StreamError::ResetLocally(ErrorCode::NONE).into()
}

impl peerage_muxer::Substream for Substream {
    fn reset(&mut self, code: ErrorCode) {
        self.shared.turns.leave(&mut self.place);
        let code = error::varint(code);
        let Some((send, recv)) = &mut self.halves else { return };
        // The end that was promised is kept: only what the peer still sends is given up.
        if !self.finished {
            let _ = send.reset(code);
        }
        let _ = recv.stop(code);
        self.shared.touch();
    }
}

impl AsyncRead for Substream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some((send, recv)) = &mut this.halves else {
            return Poll::Ready(Err(over()));
        };
        if !this.announced {
            // An empty frame, for whoever opens a stream and lets the other speak first. If it cannot be sent now, the
            // task that reads is woken when it can.
            match Pin::new(send).poll_write(cx, &[]) {
                Poll::Ready(Ok(_)) => this.announced = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(this.write_error(error))),
                Poll::Pending => {}
            }
        }
        let before = buf.filled().len();
        let result = ready!(recv.poll_read_buf(cx, buf));
        let read = buf.filled().len().saturating_sub(before);
        this.shared.read.fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(result.map_err(|error| this.read_error(error)))
    }
}

impl AsyncWrite for Substream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.halves.is_none() {
            return Poll::Ready(Err(over()));
        }
        let written = ready!(this.poll_send(cx, buf)).map_err(|error| this.write_error(error))?;
        this.shared.turns.wrote(&mut this.place, written);
        this.announced = true;
        this.shared.touch();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is the driver's already.
        match self.shared.connection.close_reason() {
            Some(end) => Poll::Ready(Err(StreamError::from(self.shared.end_of(end)).into())),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some((send, _)) = &mut this.halves else {
            return Poll::Ready(Err(over()));
        };
        // quinn keeps it to itself if the peer has stopped reading.
        let stopped = pin!(send.stopped()).poll(&mut Context::from_waker(Waker::noop()));
        match stopped {
            // Without a code it may only mean that the peer has closed the stream and reads no more, as go-libp2p says that
            // of every stream; and nothing more is to be read. A reset is seen when reading.
            Poll::Ready(Ok(Some(code))) if error::code(code) != ErrorCode::NONE => {
                return Poll::Ready(Err(StreamError::ResetByPeer(error::code(code)).into()));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(this.write_error(error.into()))),
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
        let _ = send.finish();
        this.shared.turns.leave(&mut this.place);
        this.announced = true;
        this.finished = true;
        this.shared.touch();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Substream {
    fn drop(&mut self) {
        self.shared.turns.leave(&mut self.place);
        let halves = self.halves.take();
        if self.shared.is_sound() {
            drop(halves);
        } else {
            mem::forget(halves);
        }
    }
}
