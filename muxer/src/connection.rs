use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;

use crate::{ConnectionError, ErrorCode, Stream};

/// What a muxer can do for its connection. Implemented by every muxer, and by transports that multiplex
/// themselves (QUIC, WebRTC).
///
/// The futures may be dropped at any time without losing a stream: one that was opened or accepted but not handed
/// over is reset.
pub trait Control: Send + Sync + 'static {
    /// Opens a stream; waits while the peer has not acknowledged enough of the earlier ones.
    fn open(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>>;

    /// The next stream that the peer opened.
    fn accept(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>>;

    /// Says goodbye and ends the connection; the driver then finishes. Calling it again changes nothing.
    fn close(&self, code: ErrorCode);

    /// The round-trip time to the peer, if the muxer measures it and has done so.
    fn rtt(&self) -> Option<Duration> {
        None
    }
}

/// A multiplexed connection: a handle, cheap to clone.
///
/// Dropping the last handle does not end the connection; [`Connection::close`] and the end of its [`Driver`] do.
#[derive(Clone)]
pub struct Connection {
    control: Arc<dyn Control>,
}

impl Connection {
    /// Wraps what a muxer implements.
    pub fn new(control: Arc<dyn Control>) -> Self {
        Self { control }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection has ended or ends meanwhile.
    pub async fn open(&self) -> Result<Stream, ConnectionError> {
        self.control.open().await
    }

    /// Waits for the next stream that the peer opens. Those that nobody accepted before the connection ended are lost,
    /// with what was received on them: nobody could be answered on them.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection has ended; no stream comes after that.
    pub async fn accept(&self) -> Result<Stream, ConnectionError> {
        self.control.accept().await
    }

    /// Ends the connection, telling the peer `code` where the muxer can carry it.
    pub fn close(&self, code: ErrorCode) {
        self.control.close(code);
    }

    /// The smoothed round-trip time to the peer, as far as the muxer knows it: yamux measures while data comes in, and
    /// when it asks a silent peer for a sign of life.
    pub fn rtt(&self) -> Option<Duration> {
        self.control.rtt()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Moves the connection's bytes. It must be polled, by one task, until it ends.
///
/// `Ok(())` means that this side closed the connection; every other end is an error that says who was at fault.
/// Dropping it ends the connection at once: every stream and every pending open fails. After its end it gives
/// [`ConnectionError::DriverGone`].
pub struct Driver(Option<BoxFuture<'static, Result<(), ConnectionError>>>);

impl Driver {
    /// Wraps a muxer's own driver.
    pub fn new(driver: impl Future<Output = Result<(), ConnectionError>> + Send + 'static) -> Self {
        Self(Some(Box::pin(driver)))
    }
}

impl Future for Driver {
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(driver) = &mut self.0 else {
            return Poll::Ready(Err(ConnectionError::DriverGone));
        };
        let result = ready!(driver.as_mut().poll(cx));
        // What it holds goes now, not when somebody gets round to dropping this: others wait for it.
        self.0 = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// What starting a muxer gives: the handle, and the driver that somebody has to poll.
#[derive(Debug)]
pub struct Muxed {
    /// The handle.
    pub connection: Connection,
    /// The future that moves the bytes.
    pub driver: Driver,
}
