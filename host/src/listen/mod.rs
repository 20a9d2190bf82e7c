//! Transports: an actor each, which dials on command and keeps its listeners bound.

mod effects;
mod engine;

pub(crate) use effects::{Dial, Wanted, spawn};
pub(crate) use engine::{Command, Engine};
pub use engine::{ListenerId, MAX_LISTENERS};
