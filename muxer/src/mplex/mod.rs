//! `/mplex/6.7.0`, bounded although the protocol is not
//! ([spec](https://github.com/libp2p/specs/blob/master/mplex/README.md)).
//!
//! mplex is deprecated, and offered only where it was chosen: it has no flow control, so that a stream that nobody
//! reads leaves a receiver three bad choices: to keep everything, to stop reading the whole connection, or to throw
//! the stream away. As go-mplex does, this keeps a little, then stops for a while, then throws away:
//!
//! - up to [`Config::stream_buffer`] bytes are kept for each stream, and [`Config::connection_buffer`] for all;
//! - when more comes than has room, *nothing* more is read from the connection for [`Config::read_timeout`];
//! - then the stream is reset with [`RESOURCE_LIMIT_EXCEEDED`](crate::ErrorCode::RESOURCE_LIMIT_EXCEEDED) (a code that
//!   only this side sees): the one that came to its own limit, or else the one with the most unread.
//!
//! So one slow reader delays the other streams of its connection. Nor is there a sign of life to ask for: a peer that
//! vanishes is noticed when something has to be written.
//!
//! # What a peer can make one connection hold
//!
//! - Unread data: as above, and beyond 4 KiB for each stream as much as the [`Budget`] gives.
//! - Unsent data: 64 KiB for each stream, and then writes wait; the connection itself for [`Config::write_timeout`].
//! - Streams nobody accepted yet: [`Config::accept_backlog`].
//! - Refusals: 1024 that wait to be sent, and then nothing more is read.
//! - Resets of this side: 1024 that wait to be sent, and then no stream begins.
//! - Closed streams that the peer has not closed: 256.
//!
//! Resets and refusals, and frames for streams that are not there, are put up with, [`Config::max_strays`] of them at
//! once. What may have been on the way to a stream that was reset here is not counted.

mod driver;
mod engine;
mod frame;
mod handle;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use peerage_core::budget::Budget;
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::frame::MAX_MESSAGE;
use crate::{Connection, Driver, Muxed, Outflow, yamux::WRITE_TIMEOUT};

/// The protocol id in multistream-select, in TLS ALPN and among the noise extensions.
pub const PROTOCOL: &str = "/mplex/6.7.0";

/// The longest body that is sent: others wait no longer than for that.
pub const SEND_MESSAGE: usize = 64 * 1024;

/// How long a connection is not read because a stream is not, as in go-mplex.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The most that the numbers of streams in [`Config`] can be; what is above is taken for this.
pub const MAX_STREAMS: usize = 1 << 16;

/// Limits of one mplex connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Streams opened by the peer that may live at once; one more is reset. Default 512.
    pub max_inbound_streams: usize,
    /// Streams opened by this side that may live at once; the next [`Connection::open`] waits. Default 1024.
    pub max_outbound_streams: usize,
    /// Inbound streams waiting for [`Connection::accept`], at least 1; one more is reset. Default 256.
    pub accept_backlog: usize,
    /// Unread bytes of one stream, at least 4 KiB. Default 1 MiB.
    pub stream_buffer: usize,
    /// Unread bytes of all streams together, at least those of one. Default 4 MiB.
    pub connection_buffer: usize,
    /// How long nothing is read because a stream has no room, before one is reset. Default [`READ_TIMEOUT`].
    pub read_timeout: Duration,
    /// How long the socket may refuse to take a byte that is to be sent before the connection ends as
    /// [`ConnectionError::Stalled`](crate::ConnectionError::Stalled). Default [`WRITE_TIMEOUT`].
    pub write_timeout: Duration,
    /// Streams of the peer that it resets or that are refused, and frames for streams that are not there, that are put
    /// up with at once; a tenth of them more each second. One more ends the connection. Default 10,000: an honest peer may
    /// open as many streams as it has room for, again and again, before it learns that they are refused.
    pub max_strays: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_inbound_streams: 512,
            max_outbound_streams: 1024,
            accept_backlog: 256,
            stream_buffer: 1024 * 1024,
            connection_buffer: 4 * 1024 * 1024,
            read_timeout: READ_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            max_strays: 10_000,
        }
    }
}

impl Config {
    fn within_limits(mut self) -> Self {
        self.max_inbound_streams = self.max_inbound_streams.min(MAX_STREAMS);
        self.max_outbound_streams = self.max_outbound_streams.min(MAX_STREAMS);
        self.accept_backlog = self.accept_backlog.clamp(1, MAX_STREAMS);
        self.stream_buffer = self.stream_buffer.max(engine::RESUME);
        self.connection_buffer = self.connection_buffer.max(self.stream_buffer);
        self
    }
}

/// Starts mplex on a secured connection. Nothing moves until the driver is polled.
/// The driver needs a tokio runtime with time; the connection and its streams may be used from anywhere. Memory for
/// what is unread or unsent beyond 4 KiB of a stream is taken from `budget`; where it has none, that is as if a limit were
/// reached.
///
/// It does not matter who dialed: both sides count their streams, and frames say whose they are.
///
/// Dropping the driver ends the connection without a word to the peer. After [`Connection::close`] it sends what
/// streams had already written, waits for the peer to close as well (else the kernel may throw the last words away) and
/// ends, in [`Config::write_timeout`] at the latest; mplex has no goodbye.
pub fn start(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    config: Config,
    budget: Budget,
) -> Muxed {
    let outflow = Outflow::default();
    start_over(outflow.watch(io), outflow, config, budget)
}

/// As [`start`], over layers that buffer what is written: `outflow` watches the socket under them, so that
/// [`Config::write_timeout`] is about the peer and not about the buffers.
pub fn start_over(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    outflow: Outflow,
    config: Config,
    budget: Budget,
) -> Muxed {
    start_shared(io, outflow, config, budget).0
}

fn start_shared(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    outflow: Outflow,
    config: Config,
    budget: Budget,
) -> (Muxed, Arc<handle::Shared>) {
    let config = config.within_limits();
    let write_timeout = config.write_timeout;
    let shared = Arc::new(handle::Shared::new(engine::Engine::new(config, budget)));
    let connection = Connection::new(Arc::new(handle::Handle(Arc::clone(&shared))));
    let driver = Driver::new(driver::Driver::new(io, outflow, Arc::clone(&shared), write_timeout));
    (Muxed { connection, driver }, shared)
}
