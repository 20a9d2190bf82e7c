use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Error, http,
    inbound::{Event, Inbound},
    outbound::Outbound,
};

/// What is read from the socket at once, but for large payloads, which are read to where they are wanted.
const READ_AHEAD: usize = 4 * 1024;

/// Frames that carry nothing, in one poll, before others get their turn.
const IDLE_FRAMES_PER_POLL: usize = 32;

/// Statuses that are no error (RFC 6455, section 7.4.1): done, and going away.
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;

/// An open WebSocket as a byte stream.
///
/// - What is written is collected into binary messages of one frame each, of
///   [`MAX_PAYLOAD_LEN`](super::MAX_PAYLOAD_LEN) at most; flushing sends the rest. Where the messages of the other side
///   begin and end makes no difference.
/// - Pings are answered while it is read.
/// - Shutting it down sends the close frame after everything else, and reading gives the end where the other side's
///   close frame is, or where its socket ends between two frames: nothing that has to be proven hangs on it, because
///   what is spoken inside is secured. After the other side's close frame nothing can be written.
/// - Once it was shut down, it is read to the end of the socket: whoever waits for that knows that the other side has
///   read everything.
/// - What breaks the protocol is an [`Error`] inside the `io::Error`, which stays, and the other side is told.
pub struct WebSocketStream<S> {
    io: S,
    inbound: Inbound,
    outbound: Outbound,
    /// The other side's close frame came, or its socket has ended.
    ended: bool,
    /// The socket itself has ended.
    hung_up: bool,
    shut: bool,
    /// Control frames may wait in a buffer below.
    unflushed: bool,
    read_failed: Option<Error>,
    write_failed: Option<Error>,
}

impl<S> WebSocketStream<S> {
    /// On the client's side of a socket on which the opening handshake is over; `ahead` came after it.
    pub fn client(io: S, ahead: Vec<u8>) -> Self {
        Self::new(io, Inbound::new(false, ahead), Outbound::new(true))
    }

    /// Likewise, on the server's.
    pub fn server(io: S, ahead: Vec<u8>) -> Self {
        Self::new(io, Inbound::new(true, ahead), Outbound::new(false))
    }

    fn new(io: S, inbound: Inbound, outbound: Outbound) -> Self {
        Self {
            io,
            inbound,
            outbound,
            ended: false,
            hung_up: false,
            shut: false,
            unflushed: false,
            read_failed: None,
            write_failed: None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketStream<S> {
    /// Asks the server on the other side of `io` for a WebSocket. No time limits this.
    ///
    /// # Errors
    /// [`Error`], when there is none to be had.
    pub async fn dial(mut io: S, host: &str, path: &str) -> Result<Self, Error> {
        let ahead = http::dial(&mut io, host, path).await?;
        Ok(Self::client(io, ahead))
    }

    /// Answers the client on the other side of `io`, which has to ask for `path` (as bytes, without an encoding) if there is
    /// one. No time limits this.
    ///
    /// # Errors
    /// [`Error`], when it asks for something else; it was told so.
    pub async fn accept(mut io: S, path: Option<&[u8]>) -> Result<Self, Error> {
        let ahead = http::accept(&mut io, path).await?;
        Ok(Self::server(io, ahead))
    }

    /// Reads payload into `buf`, which has room, or comes to an end.
    fn poll_payload(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let mut idle: usize = 0;
        while !self.ended && buf.remaining() > 0 {
            match self.inbound.read(buf) {
                Ok(Event::Data) => continue,
                Ok(Event::Missing) if buf.filled().len() > before => break,
                Ok(Event::Missing) => {
                    ready!(self.poll_receive(cx, buf))?;
                    continue;
                }
                Ok(Event::Empty | Event::Pong) => {}
                Ok(Event::Ping(payload)) => {
                    self.outbound.pong(payload);
                    self.unflushed = true;
                }
                Ok(Event::Close(status)) => self.close_of_peer(status),
                Err(violation) => {
                    self.outbound.close(violation.status());
                    self.unflushed = true;
                    let error = Error::from(violation);
                    self.write_failed.get_or_insert_with(|| error.clone());
                    self.read_failed = Some(error);
                    self.ended = true;
                }
            }
            self.poll_control(cx);
            idle = idle.saturating_add(1);
            if idle == IDLE_FRAMES_PER_POLL && !self.ended && buf.filled().len() == before {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(if buf.filled().len() > before { Ok(()) } else { check(&self.read_failed) })
    }

    /// Nothing follows from the other side, and it takes nothing more.
    fn close_of_peer(&mut self, status: Option<u16>) {
        self.ended = true;
        self.outbound.close(NORMAL);
        self.unflushed = true;
        if let Some(status) = status.filter(|status| !matches!(*status, NORMAL | GOING_AWAY)) {
            self.read_failed = Some(Error::Closed(status));
        }
    }

    /// Reads from the socket: payload to where it is wanted if there is much of it, everything else into a buffer.
    fn poll_receive(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let direct = usize::try_from(self.inbound.direct()).unwrap_or(usize::MAX).min(buf.remaining());
        let received = if direct >= READ_AHEAD {
            let mut payload = ReadBuf::new(buf.initialize_unfilled_to(direct));
            let polled = ready!(Pin::new(&mut self.io).poll_read(cx, &mut payload));
            self.inbound.received(payload.filled_mut());
            let count = payload.filled().len();
            buf.advance(count);
            polled.map(|()| count)
        } else {
            let mut space = [0; READ_AHEAD];
            let mut ahead = ReadBuf::new(&mut space);
            let polled = ready!(Pin::new(&mut self.io).poll_read(cx, &mut ahead));
            self.inbound.receive(ahead.filled());
            polled.map(|()| ahead.filled().len())
        };
        match received {
            Ok(0) => self.end_of_socket(),
            Ok(_) => {}
            // TLS without a farewell.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.end_of_socket(),
            Err(error) => {
                let error = Error::Io(error.into());
                self.read_failed = Some(error.clone());
                self.ended = true;
                self.hung_up = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end_of_socket(&mut self) {
        self.ended = true;
        self.hung_up = true;
        if !self.inbound.is_between_frames() {
            self.read_failed = Some(Error::Truncated);
        }
    }

    /// Reads what comes after the end, without caring for it, until the socket has ended.
    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut idle: usize = 0;
        while !self.hung_up {
            let mut space = [0; READ_AHEAD];
            let mut chunk = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk)) {
                Ok(()) if !chunk.filled().is_empty() => {}
                _ => self.hung_up = true,
            }
            idle = idle.saturating_add(1);
            if idle == IDLE_FRAMES_PER_POLL && !self.hung_up {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Sends control frames as far as the socket takes them now. Should it not take them, the task is woken when it does.
    fn poll_control(&mut self, cx: &mut Context<'_>) {
        if !self.unflushed {
            return;
        }
        // Data that is not sealed stays; what is on its way has to go first. An error is found by whoever writes.
        while self.outbound.has_control() {
            match self.poll_send_some(cx) {
                Poll::Ready(Ok(())) => {}
                _ => return,
            }
        }
        if !matches!(Pin::new(&mut self.io).poll_flush(cx), Poll::Pending) {
            self.unflushed = false;
        }
    }

    /// Gives the socket one piece; there is one.
    fn poll_send_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.io).poll_write(cx, self.outbound.next())) {
            Ok(0) => self.fail_write(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                self.outbound.sent(count);
                Poll::Ready(Ok(()))
            }
            Err(error) => self.fail_write(error),
        }
    }

    /// Gives the socket every complete frame.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbound.next().is_empty() {
            ready!(self.poll_send_some(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Reading goes on: the peer's last words may be in the socket.
    fn fail_write(&mut self, error: io::Error) -> Poll<io::Result<()>> {
        let error = self.write_failed.insert(Error::Io(error.into())).clone();
        Poll::Ready(Err(error.into()))
    }

    /// Gives the socket everything, and has it sent.
    fn poll_send_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&self.write_failed)?;
        self.outbound.seal();
        ready!(self.poll_send(cx))?;
        self.outbound.rest();
        match ready!(Pin::new(&mut self.io).poll_flush(cx)) {
            Ok(()) => {
                self.unflushed = false;
                Poll::Ready(Ok(()))
            }
            Err(error) => self.fail_write(error),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        this.poll_control(cx);
        let before = buf.filled().len();
        ready!(this.poll_payload(cx, buf))?;
        if buf.filled().len() == before && this.shut {
            ready!(this.poll_hang_up(cx));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        check(&this.write_failed)?;
        if this.shut || this.outbound.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if this.outbound.is_sealed() {
            ready!(this.poll_send(cx))?;
        }
        let taken = this.outbound.push(buf);
        // A full frame goes at once if it can. If it cannot, the next write waits for it.
        if this.outbound.is_sealed()
            && let Poll::Ready(Err(error)) = this.poll_send(cx)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send_all(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.shut = true;
        ready!(this.poll_send_all(cx))?;
        if !this.outbound.is_closed() {
            this.outbound.close(NORMAL);
            ready!(this.poll_send_all(cx))?;
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

fn check(failed: &Option<Error>) -> io::Result<()> {
    failed.clone().map_or(Ok(()), |error| Err(error.into()))
}

impl<S> fmt::Debug for WebSocketStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketStream")
            .field("ended", &self.ended)
            .field("shut", &self.shut)
            .field("read_failed", &self.read_failed)
            .field("write_failed", &self.write_failed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
