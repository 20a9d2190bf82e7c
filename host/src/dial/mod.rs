//! Getting connected to a peer, and saying how it went.
//!
//! The Dialer actor runs this `Engine`: one dial per peer however many ask, addresses raced with a head start for
//! the earlier ones, and a [`Report`] of everything that was tried.

mod effects;
mod engine;
mod messages;
mod race;
mod report;

pub(crate) use effects::spawn;
pub(crate) use engine::Engine;
pub use engine::{ATTEMPT_TIMEOUT, MAX_DIALS, MAX_REQUESTS_PER_DIAL};
pub(crate) use messages::{Action, AttemptId, Command, DialId, How, Input, RequestId};
pub(crate) use race::{Failed, Won};
pub use race::{HEAD_START, MAX_ADDRESSES, MAX_PARALLEL};
pub(crate) use report::tidy;
pub use report::{
    AttemptReport, AttemptResult, Connected, DialError, DialErrorKind, MAX_REPORTED, MAX_SOURCES, Report,
    SourceReport,
};
