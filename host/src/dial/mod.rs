//! Getting connected to a peer, and saying how it went.
//!
//! The Dialer actor runs this `Engine`: one dial per peer however many ask, names resolved while addresses are already
//! raced with a head start for the better ones, and a [`Report`] of everything that was tried.

mod effects;
mod engine;
mod memory;
mod messages;
mod paths;
mod race;
mod rank;
mod report;
mod screen;

pub(crate) use effects::spawn;
pub(crate) use engine::Engine;
pub use engine::{ATTEMPT_TIMEOUT, MAX_DIALS, MAX_REQUESTS_PER_DIAL};
pub use memory::{BACKOFF, MAX_BACKOFF, MAX_FAILURES, MAX_WORKED};
pub(crate) use messages::{Action, AttemptId, Command, DialId, Given, How, Input, RequestId, Screen, Trust};
pub use paths::{PROBE_AFTER, PROBE_EVERY, SILENT_PEERS};
pub(crate) use race::{Failed, Won};
pub use race::{MAX_ADDRESSES, MAX_LOOKUPS, MAX_NAME_DEPTH, MAX_PARALLEL, MAX_SAID};
pub use rank::{HEAD_START, NEAR_HEAD_START, RELAY_HEAD_START};
pub(crate) use report::tidy;
pub use report::{
    AttemptReport, AttemptResult, Connected, DialError, DialErrorKind, EarlySent, MAX_REPORTED, MAX_SOURCES,
    Report, Skip, SourceReport,
};
