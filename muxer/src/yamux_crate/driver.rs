//! The driver future, and the handle that talks with it.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{
    future::BoxFuture,
    io::{AsyncRead, AsyncWrite},
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{self, Sleep},
};
use yamux::FrameDecodeError;

use super::{
    Config, Mode,
    frame::{GO_AWAY_PROTOCOL_ERROR, Header},
    substream::Substream,
    table::{Adopt, Link},
    tap::Tap,
};
use crate::{ConnectionError, Control, ErrorCode, Stream, Substream as _};

/// Callers of `open` that the driver has not yet looked at; the next one waits in its own future.
const OPEN_QUEUE: usize = 32;

/// New streams in one poll, opened and accepted each, before others get their turn.
const STREAMS_PER_POLL: usize = 64;

type Reply = oneshot::Sender<Result<Stream, ConnectionError>>;

/// What [`Connection`](crate::Connection) holds.
pub(super) struct Handle {
    link: Arc<Link>,
    opens: mpsc::Sender<Reply>,
    accepted: Arc<Mutex<mpsc::Receiver<Stream>>>,
}

pub(super) struct Driver<T> {
    connection: yamux::Connection<Tap<T>>,
    tap: Tap<T>,
    link: Arc<Link>,
    opens: mpsc::Receiver<Reply>,
    /// The caller whose stream the crate is not yet ready to open.
    waiting: Option<Reply>,
    /// Gone once the connection is closing, which ends whoever waits in `accept`.
    accepted: Option<mpsc::Sender<Stream>>,
    config: Config,
    closing: bool,
    /// Runs while the socket takes nothing, since the tap's number was the one beside it.
    stuck: Option<(u64, Pin<Box<Sleep>>)>,
}

pub(super) fn new<T>(tap: Tap<T>, link: Arc<Link>, mode: Mode, config: Config) -> (Handle, Driver<T>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mode = match mode {
        Mode::Client => yamux::Mode::Client,
        Mode::Server => yamux::Mode::Server,
    };
    let (opens, requests) = mpsc::channel(OPEN_QUEUE);
    let (accepted, queue) = mpsc::channel(config.accept_backlog);
    let handle = Handle { link: Arc::clone(&link), opens, accepted: Arc::new(Mutex::new(queue)) };
    let driver = Driver {
        connection: yamux::Connection::new(tap.clone(), super::of_the_crate(&config), mode),
        tap,
        link,
        opens: requests,
        waiting: None,
        accepted: Some(accepted),
        config,
        closing: false,
        stuck: None,
    };
    (handle, driver)
}

impl Control for Handle {
    fn open(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>> {
        let (link, opens) = (Arc::clone(&self.link), self.opens.clone());
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let gone = || link.ended().unwrap_or(ConnectionError::DriverGone);
            opens.send(reply).await.map_err(|_| gone())?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn accept(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>> {
        let (link, accepted) = (Arc::clone(&self.link), Arc::clone(&self.accepted));
        Box::pin(async move {
            let stream = accepted.lock().await.recv().await;
            stream.ok_or_else(|| link.ended().unwrap_or(ConnectionError::DriverGone))
        })
    }

    fn close(&self, code: ErrorCode) {
        self.link.close(code);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.link.register_driver(cx);
        this.tap.refill();
        if let (false, Some(code)) = (this.closing, this.link.close_requested()) {
            this.closing = true;
            this.tap.set_farewell(code);
            // Before the crate stops: it does not wake the streams that wait.
            this.link.end(ConnectionError::Closed);
            this.stop_serving();
        }
        if this.closing {
            // An error here is a socket that went first: closed all the same.
            if this.connection.poll_close(cx).is_pending() {
                // Nor does a peer that does not read hold this up.
                ready!(this.poll_stalled(cx));
            }
            return Poll::Ready(Ok(()));
        }
        let result = this.poll_streams(cx).and_then(|()| this.poll_flush(cx)).and_then(|()| {
            match this.poll_stalled(cx) {
                Poll::Ready(()) => Err(ConnectionError::Stalled),
                Poll::Pending => Ok(()),
            }
        });
        match result {
            Ok(()) => Poll::Pending,
            Err(error) => {
                this.link.end(error.clone());
                this.stop_serving();
                if let ConnectionError::Protocol(_) = error {
                    this.link.inject(Header::go_away(GO_AWAY_PROTOCOL_ERROR));
                    // As far as the socket takes it: this connection is owed nothing.
                    let _ = this.tap.poll_flush_socket(cx);
                }
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        self.poll_opens(cx)?;
        for _ in 0..STREAMS_PER_POLL {
            let next = self.connection.poll_next_inbound(cx);
            if let Some(what) = self.tap.violation() {
                return Err(ConnectionError::Protocol(what));
            }
            match next {
                Poll::Pending => return self.after_the_crate(cx),
                Poll::Ready(Some(Ok(stream))) => self.accept(stream)?,
                Poll::Ready(Some(Err(error))) => return Err(blame(error)),
                Poll::Ready(None) => {
                    return Err(ConnectionError::ClosedByPeer(self.tap.go_away().unwrap_or_default()));
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// The crate has gone as far as it can.
    fn after_the_crate(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        if self.tap.caught_up() {
            self.link.caught_up();
            if self.tap.take_held_back() {
                cx.waker().wake_by_ref();
            }
        }
        if self.waiting.is_some() {
            // It has just let dropped streams go and wakes nobody for that. It must then be asked again itself, or it
            // would not hear of the new streams.
            self.poll_opens(cx)?;
            if self.waiting.is_none() {
                cx.waker().wake_by_ref();
            }
        }
        Ok(())
    }

    /// Ready when the socket has taken nothing for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.tap.stuck_at() else {
            self.stuck = None;
            return Poll::Pending;
        };
        let timeout = self.config.write_timeout;
        let (since, sleep) = self.stuck.get_or_insert_with(|| (at, Box::pin(time::sleep(timeout))));
        if *since != at {
            (*since, *sleep) = (at, Box::pin(time::sleep(timeout)));
        }
        sleep.as_mut().poll(cx)
    }

    /// The crate's own flushes stop at the tap, so that many frames go to the socket together.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        match self.tap.poll_flush_socket(cx) {
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    fn poll_opens(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        for _ in 0..STREAMS_PER_POLL {
            let Some(reply) = self.waiting.take().or_else(|| match self.opens.poll_recv(cx) {
                Poll::Ready(reply) => reply,
                Poll::Pending => None,
            }) else {
                return Ok(());
            };
            if reply.is_closed() {
                continue;
            }
            // The end of one of our streams polls the driver again, as does an acknowledgement.
            if self.link.outbound() >= self.config.max_outbound_streams || self.link.crowded() {
                self.waiting = Some(reply);
                return Ok(());
            }
            match self.connection.poll_new_outbound(cx) {
                Poll::Pending => {
                    self.waiting = Some(reply);
                    return Ok(());
                }
                Poll::Ready(Err(error)) => return Err(blame(error)),
                Poll::Ready(Ok(stream)) => {
                    self.link.opened(stream.id().val());
                    let stream = Stream::new(Substream::outbound(stream, Arc::clone(&self.link)));
                    // If the caller went away meanwhile, dropping the stream undoes it.
                    let _ = reply.send(Ok(stream));
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn accept(&mut self, stream: yamux::Stream) -> Result<(), ConnectionError> {
        let id = stream.id().val();
        if self.link.adopt(id) == Adopt::Reused {
            return Err(ConnectionError::Protocol(format!("stream id {id} used twice")));
        }
        let full = self.link.inbound() > self.config.max_inbound_streams;
        let mut stream = Substream::inbound(stream, Arc::clone(&self.link));
        let Some(Ok(slot)) = self.accepted.as_ref().map(mpsc::Sender::try_reserve) else {
            stream.reset(ErrorCode::RESOURCE_LIMIT_EXCEEDED);
            return Ok(());
        };
        if full {
            stream.reset(ErrorCode::RESOURCE_LIMIT_EXCEEDED);
        } else {
            slot.send(Stream::new(stream));
        }
        Ok(())
    }
}

impl<T> Driver<T> {
    fn stop_serving(&mut self) {
        self.accepted = None;
        self.waiting = None;
        self.opens.close();
        while self.opens.try_recv().is_ok() {}
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        // If the future ended by itself, its own reason stands.
        self.link.end(ConnectionError::DriverGone);
        self.stop_serving();
        self.link.forget();
    }
}

fn blame(error: yamux::ConnectionError) -> ConnectionError {
    use yamux::ConnectionError as Theirs;
    match error {
        Theirs::Io(error) | Theirs::Decode(FrameDecodeError::Io(error)) => error.into(),
        Theirs::Decode(error) => ConnectionError::Protocol(error.to_string()),
        Theirs::NoMoreStreamIds => ConnectionError::Exhausted,
        Theirs::Closed => ConnectionError::ClosedByPeer(ErrorCode::NONE),
        // Its limit is above ours, and whatever goes beyond ours waits.
        Theirs::TooManyStreams => ConnectionError::Protocol("too many streams left unfinished".to_owned()),
        error => ConnectionError::Protocol(error.to_string()),
    }
}
