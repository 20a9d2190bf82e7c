use std::time::Duration;

use peerage_core::PeerId;

use super::engine::{Command, Engine};
use crate::actor::Port;

/// Measures round trips. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    port: Port<Engine>,
}

/// Why there is no round-trip time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// The peer did not answer in time, or could not be reached in time.
    #[error("the peer did not answer within {} s", super::TIMEOUT.as_secs())]
    Timeout,
    /// The peer answered with other bytes than it was sent; its fault.
    #[error("the peer answered with the wrong bytes")]
    WrongAnswer,
    /// Too many pings of that peer wait already.
    #[error("{} pings of that peer wait already", super::MAX_WAITING)]
    TooMany,
    /// No stream could be opened.
    #[error("{0}")]
    Open(String),
    /// The stream broke.
    #[error("the stream broke: {0}")]
    Stream(String),
    /// The ping actor, or its node, is not running.
    #[error("ping is not running")]
    Closed,
}

impl Handle {
    pub(super) fn new(port: Port<Engine>) -> Self {
        Self { port }
    }

    /// Measures one round trip; connects first if there is no connection.
    ///
    /// # Errors
    /// [`PingError`], by [`TIMEOUT`](super::TIMEOUT) after the pings that were asked for before it.
    pub async fn rtt(&self, peer: PeerId) -> Result<Duration, PingError> {
        let measured = self.port.ask(|reply| Command::Measure { peer, reply }).await;
        measured.unwrap_or(Err(PingError::Closed))
    }
}
