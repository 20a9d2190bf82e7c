//! Which connections are kept: those that are in use, those that are protected, and of the rest as many as there is
//! room for.
//!
//! | | closed by the manager |
//! | --- | --- |
//! | a peer is protected ([`Node::protect`](crate::Node::protect)) | never |
//! | a [`Keep`] is held | never |
//! | a stream is open | only to make room |
//! | neither, for [`Policy::idle_timeout`] | yes |
//! | neither, for less | only to make room |
//!
//! Room is made among the connections that others opened, and not in their first [`Policy::grace`]. Those that this
//! node opened are its own choice: they are bounded by its limits, and however many strangers come, none of them goes.
//!
//! The Manager actor runs the `Engine`; who is connected it hears from the host, and what is in use it reads from the
//! `Board`, which streams and keeps write to themselves, without mail.

mod board;
mod effects;
mod engine;

use std::time::Duration;

use crate::limits::Limits;

pub(crate) use board::{Activity, Board, Entered, Use};
pub use board::{Keep, MAX_MARKED, MAX_TAG, MAX_TAGS_PER_PEER, TagError};
pub(crate) use effects::{on_connection, spawn};
pub(crate) use engine::{Action, Command, Engine};
pub use engine::{MIN_IDLE_TIMEOUT, TRIM_PAUSE};

/// When connections are closed that nobody uses, and how many there may be before some are closed to make room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// How long a connection may be without a stream and without a [`Keep`]. `None`: for ever. Default: 10 minutes. Less
    /// than [`MIN_IDLE_TIMEOUT`] is taken for that.
    ///
    /// Longer than what programs leave between two requests, and than the two minutes for which the boxes on the way
    /// remember a silent connection: what is closed by this was not going to be used. rust-libp2p closes after ten
    /// seconds, which surprises; go-libp2p never does, which leaves it all to its watermarks.
    pub idle_timeout: Option<Duration>,
    /// With more inbound connections than this, some of them are closed. Default: three quarters of those that the limits
    /// allow, one at least, so that room is made before anybody is refused: 384.
    pub high_water: usize,
    /// How many inbound ones are left then. Default: five eighths, one at least: 320.
    pub low_water: usize,
    /// How old a connection has to be before it is closed to make room: nobody can say of a younger one what it is
    /// worth. Default: 1 minute.
    pub grace: Duration,
}

impl Policy {
    /// The defaults for these limits.
    pub fn of(limits: &Limits) -> Self {
        let eighths = |count: usize| (limits.connections_inbound.saturating_mul(count) / 8).max(1);
        Self {
            idle_timeout: Some(Duration::from_secs(600)),
            high_water: eighths(6),
            low_water: eighths(5),
            grace: Duration::from_secs(60),
        }
    }
}

impl Default for Policy {
    /// For the default limits.
    fn default() -> Self {
        Self::of(&Limits::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults() {
        let policy = Policy::default();
        assert_eq!((policy.high_water, policy.low_water), (384, 320));
    }

    #[test]
    fn small_limits_leave_water_as_well() {
        for (inbound, waters) in [(0, (1, 1)), (1, (1, 1)), (4, (3, 2)), (7, (5, 4)), (8, (6, 5))] {
            let limits = Limits { connections_inbound: inbound, ..Limits::default() };
            let policy = Policy::of(&limits);
            assert_eq!((policy.high_water, policy.low_water), waters, "{inbound}");
        }
    }
}
