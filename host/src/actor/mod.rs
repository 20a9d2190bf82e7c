//! The actor kernel: the one module of the project that names actix.
//!
//! An [`Engine`](peerage_core::Engine) decides; an [`Effects`] performs what it decided; the kernel runs the two as an
//! actor: it feeds the engine its mail and its one deadline, catches its panics, restarts it in place with fresh
//! state, and keeps its [`Port`] alive through that.
//!
//! ```text
//!  Port::tell ──credit──► mailbox ──► Shell { state, ... }          polled by Guard (catch_unwind, budget)
//!                                       │  one Drive: deadline       restarted in place, else by its supervisor
//!                                       └─ perform(action)
//! ```
//!
//! What actix gives is the mailbox and the context; what it lacks is here: backpressure (credits, returned once the
//! mailbox was drained), restart after a panic (its own `Supervisor` does not), and supervisors in the sense of OTP.
//! No actix type is in a public signature.

mod budget;
mod clock;
mod faults;
mod guard;
mod linger;

mod nursery;
mod port;
mod shell;
mod supervisor;
mod tasks;
mod tree;
mod worker;

#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use faults::{Fault, Faults, Point};
pub use port::{Gone, Port};
pub use shell::{Birth, Effects};
pub use tasks::Tasks;
pub use tree::{ActorInfo, ActorKind, ActorState, TreeSnapshot};

pub(crate) use budget::Intensity;
pub(crate) use guard::Exit;
pub(crate) use nursery::Nursery;
pub(crate) use shell::Spawn;
#[cfg(test)]
pub(crate) use supervisor::Restart;
pub(crate) use supervisor::{Group, OnSpent, Spec, Strategy, supervise};
pub(crate) use tasks::panic_text;
pub(crate) use worker::{Berth, Workers};

use std::{ops::Deref, sync::Arc};

use peerage_core::PeerId;

/// What every actor of one node shares.
#[derive(Clone)]
pub(crate) struct Kernel(Arc<Surroundings>);

/// What a [`Kernel`] consists of.
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) tree: tree::Tree,
    pub(crate) faults: Option<Faults>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) notices: Arc<dyn Fn(Notice) + Send + Sync>,
}

impl Kernel {
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        Self(Arc::new(surroundings))
    }
}

impl Deref for Kernel {
    type Target = Surroundings;

    fn deref(&self) -> &Surroundings {
        &self.0
    }
}

/// What the kernel tells the node about its actors.
#[derive(Clone, Debug)]
pub(crate) enum Notice {
    /// An actor panicked; it was restarted or is about to be.
    Panicked { actor: String, text: String, peer: Option<PeerId> },
    /// A child spent its restart budget and stays off; its siblings live on.
    SwitchedOff { actor: String, why: String },
}
