//! `/yamux/1.0.0` on the `yamux` crate: a second, independent implementation beside [ours](crate::yamux), kept as its
//! partner in differential tests and for whoever wants to compare. It does without liveness, round-trip times and the
//! memory budget.
//!
//! The crate moves the frames and keeps the windows. Four things it does not do well enough for [`Stream`]'s promises:
//! it gives a remote reset as an end of file; it turns a dropped stream into an orderly FIN once the peer has sent
//! its own, so that half an answer looks whole; it carries no error codes; and a stream closed before its first byte
//! is never announced to the peer at all. All four are visible in the 12-byte frame headers, so the module `tap`,
//! a thin layer between the crate and the socket, follows the headers in both directions (bodies pass through
//! uncopied), notes what the crate would forget, and sends what it should have sent. `table` holds those notes, one
//! entry per live stream. They also let a frame be as long as the receive window allows, which the crate refuses
//! over 1 MiB: the tap shows it to the crate in pieces.
//!
//! # What a peer can make one connection hold
//!
//! - Unread data: 256 KiB for each stream (the window that the protocol gives it at birth), at most
//!   [`Config::max_inbound_streams`] of them opened by the peer, and [`Config::window_growth`] for all streams
//!   together. The crate keeps one buffer per frame, which costs some 60 bytes besides: a peer that sends single bytes
//!   to a reader that does not read makes this 16 MiB for each stream (and 1 GiB for all the growth together).
//!   Nothing here bounds that but the readers: a stream that is not read should be dropped.
//! - Streams that were dropped or refused here, which the crate keeps with their unread data until their end is
//!   written: 16 MiB and one frame, or 1024 of them. While there are so many nothing more is read.
//! - Unsent data: at most twelve frames of 16 KiB for each stream, and then writes wait.
//! - The connection itself, if it reads nothing: [`Config::write_timeout`].
//! - Answers: one pong. While it cannot be written nothing more is read.
//! - Streams nobody accepted yet: [`Config::accept_backlog`].
//!
//! [`Stream`]: crate::Stream

mod driver;
mod substream;
mod table;
mod tap;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::{
    Connection, Driver, Muxed,
    yamux::{Config, INITIAL_WINDOW, Mode, frame},
};

/// What the crate's limit of streams leaves for those that are between two states.
const SPARE: usize = 64;

/// The longest Data frame that fits into a window, however far it has grown.
fn max_frame(config: &Config) -> u32 {
    config.window_growth.saturating_add(INITIAL_WINDOW)
}

/// The crate *ends the connection* at its limit, so it stands above the limits that refuse a single stream: a
/// dropped stream counts there until its end is written, and a peer that does not read delays that.
fn hard_limit(config: &Config) -> usize {
    config
        .max_inbound_streams
        .saturating_add(config.max_outbound_streams)
        .saturating_add(table::MAX_LEAVING)
        .saturating_add(SPARE)
}

fn of_the_crate(config: &Config) -> yamux::Config {
    let streams = hard_limit(config);
    let windows = streams.saturating_mul(usize::try_from(INITIAL_WINDOW).unwrap_or(usize::MAX));
    let growth = usize::try_from(config.window_growth).unwrap_or(usize::MAX);
    let mut config = yamux::Config::default();
    // Each setter asserts the relation of the two, hence the order: no bound, the count, then the bound.
    config
        .set_max_connection_receive_window(None)
        .set_max_num_streams(streams)
        .set_max_connection_receive_window(Some(windows.saturating_add(growth)))
        .set_read_after_close(true);
    config
}

/// Starts yamux on a secured connection. Nothing moves until the driver is polled.
/// The driver needs a tokio runtime with time; the connection and its streams may be used from anywhere.
///
/// Dropping the driver ends the connection without a word to the peer. After [`Connection::close`] it sends what
/// streams had already written, says goodbye and ends; the bytes for that are bounded, but a peer that reads them
/// slowly can hold it up, so whoever polls it should give it a deadline and then drop it.
pub fn start(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, mode: Mode, config: Config) -> Muxed {
    start_linked(io, mode, config).0
}

fn start_linked(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mode: Mode,
    config: Config,
) -> (Muxed, Arc<table::Link>) {
    let config = config.within_limits();
    let link = Arc::new(table::Link::new(mode));
    let tap = tap::Tap::new(io.compat(), Arc::clone(&link), max_frame(&config));
    let (control, driver) = driver::new(tap, Arc::clone(&link), mode, config);
    let connection = Connection::new(Arc::new(control));
    (Muxed { connection, driver: Driver::new(driver) }, link)
}
