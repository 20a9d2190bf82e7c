//! `/yamux/1.0.0` ([spec](https://github.com/libp2p/specs/blob/master/yamux/README.md)).
//!
//! `engine` is the protocol without I/O and without a clock; `driver` moves bytes between it and the socket; `handle`
//! has what connections and streams do, from whatever task. The engine stands behind one lock, which is held to copy
//! bytes and never to wait.
//!
//! ```text
//!   Stream::poll_write ─► send buffer ─┐                     ┌─► frames ─► socket
//!                                      ├─ Engine (one lock) ─┤   Driver
//!   Stream::poll_read ◄─ receive buffer┘                     └─◄ frames ◄─ socket
//! ```
//!
//! # What a peer can make one connection hold
//!
//! - Unread data: for each stream the window, 256 KiB at birth, in buffers that frames of any size share (at most twice
//!   the bytes). There are at most [`Config::max_inbound_streams`] of the peer's, and all windows together
//!   grow by [`Config::window_growth`]. What is buffered beyond 4 KiB of a stream is taken from the budget; growth is
//!   taken before the peer is told of it. A stream for whose bytes the budget has no memory is reset with
//!   [`RESOURCE_LIMIT_EXCEEDED`](crate::ErrorCode::RESOURCE_LIMIT_EXCEEDED).
//! - Unsent data: [`SEND_BUFFER`] for each stream, from the budget beyond 4 KiB, and then writes wait. A stream that was
//!   dropped counts against the limits until what was written, and its end, is sent; it is reset when the peer takes
//!   nothing of it for one to two minutes.
//! - The connection itself, if it reads nothing: [`Config::write_timeout`]; if it vanished:
//!   [`Config::keepalive_interval`] and [`Config::keepalive_timeout`].
//! - Answers: eight pongs, and 1,024 refusals. While they cannot be written nothing more is read. While 1,024 resets of
//!   this side cannot be written no stream begins.
//! - Streams nobody accepted yet: [`Config::accept_backlog`].
//! - Work: [`Config::max_strays`] resets, or frames for streams that are not there, in ten seconds; and ten times as many
//!   streams over the limits.
//!
//! # How it treats peers
//!
//! - SYN goes with the first data, or with the first read; ACK with the first frame of the answer. Any frame of the
//!   peer on a stream acknowledges it, with or without the flag.
//! - A reset is never an end of file. Its code travels in the length of a window update (libp2p/specs PR 622).
//! - The peer's GoAway ends the connection, whatever its code: go, rust and js close the socket with it. What was
//!   received before can still be read.
//! - A window grows to what is read in two round trips, up to [`Config::max_window`]; so it grows for readers that are
//!   fast on paths that are long, and for no others: on a short path a wide window would only make other streams wait.
//!   Round trips are measured by pings once data comes in, and the shortest one counts.
//! - Frames for streams that are over are ignored, as far as the peer could not know; beyond that they are counted. Ids
//!   of the wrong parity, used twice, data over the window, credit that overflows, unknown types and versions
//!   end the connection with GoAway 1. Unknown flags are ignored.

mod driver;
mod engine;
pub(crate) mod frame;
mod handle;
#[cfg(test)]
mod tests;

use std::{hash::RandomState, sync::Arc, time::Duration};

use peerage_core::budget::Budget;
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite},
    time::Instant,
};

use crate::{Buffered, Connection, Driver, Muxed, Outflow, handles::Handle};

/// The protocol id in multistream-select, in TLS ALPN and among the noise extensions.
pub const PROTOCOL: &str = "/yamux/1.0.0";

/// The window every stream starts with (yamux, "Flow Control").
pub const INITIAL_WINDOW: u32 = 256 * 1024;

/// The most that a window can grow to: 16 MiB, as in go and js.
pub const MAX_WINDOW: u32 = 16 * 1024 * 1024;

/// The longest body this side sends: 64 KiB. rust-yamux ends the connection over 1 MiB, and longer frames make other
/// streams wait.
pub const MAX_FRAME: u32 = 64 * 1024;

/// Bytes that a stream takes from its writer before they are sent: 128 KiB.
pub const SEND_BUFFER: usize = 128 * 1024;

/// How long a peer may leave everything unread that is sent to it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// After so long without a byte from the peer it is asked for a sign of life.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(25);

/// So long it has for it. Together with [`KEEPALIVE_INTERVAL`] a dead peer is found within 40 s.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most that the numbers of streams in [`Config`] can be; what is above is taken for this.
pub const MAX_STREAMS: usize = 1 << 16;

/// Which side of the connection this is; it decides who uses odd stream ids (yamux, "StreamID Field").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dialed, or was given the dialer's role: odd ids.
    Client,
    /// Accepted the connection: even ids.
    Server,
}

/// Limits of one yamux connection. The defaults suit a node with many peers. Numbers of streams are at most
/// [`MAX_STREAMS`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Streams opened by the peer that may live at once; one more is reset with
    /// [`RESOURCE_LIMIT_EXCEEDED`](crate::ErrorCode::RESOURCE_LIMIT_EXCEEDED). Default 512.
    pub max_inbound_streams: usize,
    /// Streams opened by this side that may live at once; the next [`Connection::open`] waits. Default 1024.
    pub max_outbound_streams: usize,
    /// Inbound streams waiting for [`Connection::accept`], at least 1; one more is reset like one too many. Default
    /// 256, which is also how many a peer may open before the first is acknowledged (yamux, "ACK backlog & backpressure").
    pub accept_backlog: usize,
    /// Bytes by which the receive windows of all streams together may grow over 256 KiB each, where the round-trip
    /// time and the reader's speed ask for it. Default 16 MiB.
    pub window_growth: u32,
    /// Bytes that one window may grow to, at most [`MAX_WINDOW`] and at least [`INITIAL_WINDOW`]. Default
    /// [`MAX_WINDOW`].
    pub max_window: u32,
    /// Bytes of body in a frame that is sent, from 1 to [`MAX_FRAME`], which is the default.
    pub max_frame: u32,
    /// How long the socket may refuse to take a byte that is to be sent before the connection ends as
    /// [`ConnectionError::Stalled`](crate::ConnectionError::Stalled); and how long the sending of what was written
    /// may take after [`Connection::close`], with the peer's closing. Default [`WRITE_TIMEOUT`].
    pub write_timeout: Duration,
    /// After so long without a byte from the peer it is sent a ping. Default [`KEEPALIVE_INTERVAL`].
    pub keepalive_interval: Duration,
    /// How long it may then remain silent before the connection ends as
    /// [`ConnectionError::Vanished`](crate::ConnectionError::Vanished). Default [`KEEPALIVE_TIMEOUT`].
    pub keepalive_timeout: Duration,
    /// Resets by the peer, and frames of it for streams that are not there, in ten seconds; one more ends the
    /// connection. Of streams that are refused, ten times as many. Default 1000.
    pub max_strays: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_inbound_streams: 512,
            max_outbound_streams: 1024,
            accept_backlog: 256,
            window_growth: 16 * 1024 * 1024,
            max_window: MAX_WINDOW,
            max_frame: MAX_FRAME,
            write_timeout: WRITE_TIMEOUT,
            keepalive_interval: KEEPALIVE_INTERVAL,
            keepalive_timeout: KEEPALIVE_TIMEOUT,
            max_strays: 1000,
        }
    }
}

impl Config {
    pub(crate) fn within_limits(mut self) -> Self {
        self.max_inbound_streams = self.max_inbound_streams.min(MAX_STREAMS);
        self.max_outbound_streams = self.max_outbound_streams.min(MAX_STREAMS);
        self.accept_backlog = self.accept_backlog.clamp(1, MAX_STREAMS);
        self.max_window = self.max_window.clamp(INITIAL_WINDOW, MAX_WINDOW);
        self.max_frame = self.max_frame.clamp(1, MAX_FRAME);
        self
    }
}

/// Starts yamux on a secured connection. Nothing moves until the driver is polled.
/// The driver needs a tokio runtime with time; the connection and its streams may be used from anywhere. Buffers take
/// their memory from `budget`.
///
/// Dropping the driver ends the connection without a word to the peer. After [`Connection::close`] it sends what
/// streams had already written and the peer's windows allow, says goodbye, waits for the peer to close as well (else the
/// kernel may throw the last words away) and ends, all within [`Config::write_timeout`].
pub fn start(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mode: Mode,
    config: Config,
    budget: Budget,
) -> Muxed {
    let outflow = Outflow::default();
    start_over(Buffered::new(outflow.watch(io)), outflow, mode, config, budget)
}

/// As [`start`], over layers that buffer what is written: `outflow` watches the socket under them, so that
/// [`Config::write_timeout`] is about the peer and not about the buffers. What comes is taken from where `io` has it; a
/// layer that has no buffer of its own gets one by [`Buffered`].
pub fn start_over(
    io: impl AsyncBufRead + AsyncWrite + Send + Unpin + 'static,
    outflow: Outflow,
    mode: Mode,
    config: Config,
    budget: Budget,
) -> Muxed {
    start_shared(io, outflow, mode, config, budget).0
}

fn start_shared(
    io: impl AsyncBufRead + AsyncWrite + Send + Unpin + 'static,
    outflow: Outflow,
    mode: Mode,
    config: Config,
    budget: Budget,
) -> (Muxed, Arc<handle::Shared>) {
    let mut engine = engine::Engine::new(mode, config.clone(), budget, Instant::now().into_std());
    engine.hide_pings(RandomState::new());
    let shared = Arc::new(handle::Shared::new(engine));
    let driver = driver::Driver::new(io, outflow, Arc::clone(&shared), config.write_timeout);
    let connection = Connection::new(Arc::new(Handle::new(Arc::clone(&shared))));
    (Muxed { connection, driver: Driver::new(driver) }, shared)
}
