use std::collections::{BTreeMap, VecDeque};

use peerage_core::{Deadline, Multiaddr, Now, engine};
use peerage_transport::{DialOpts, Established, Link, Progress, UpgradeError};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{actor::Berth, conn::Candidate, limits::HandshakeLease, reply::Reply};

/// The handshakes under way. It hands each to a task and passes on how it ended; a handshake whose task panicked
/// ends as any other failure, so that nobody waits for it in vain.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    next: u64,
    running: BTreeMap<u64, Origin>,
    actions: VecDeque<Action>,
}

/// A link that this node dialed.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) link: Link,
    pub(crate) lease: HandshakeLease,
    pub(crate) berth: Berth,
    pub(crate) opts: DialOpts,
    pub(crate) progress: Arc<Progress>,
    /// Cancelled when nobody wants the connection any more.
    pub(crate) cancelled: CancellationToken,
    /// Of the attempt that it is part of.
    pub(crate) span: Span,
    pub(crate) reply: Reply<Result<Upgraded, UpgradeError>>,
}

/// A connection whose peer is known, and the place that it had while it was not.
#[derive(Debug)]
pub(crate) struct Upgraded {
    pub(crate) established: Box<Established>,
    pub(crate) lease: HandshakeLease,
    /// Where its handshake was done, and it will live.
    pub(crate) berth: Berth,
}

#[derive(Debug)]
enum Origin {
    Inbound { remote: Multiaddr },
    Outbound { reply: Reply<Result<Upgraded, UpgradeError>> },
}

#[derive(Debug)]
pub(crate) enum Command {
    /// Somebody came.
    Inbound { link: Link, lease: HandshakeLease, berth: Berth },
    /// This node went to somebody.
    Outbound(Outbound),
}

#[derive(Debug)]
pub(crate) enum Input {
    /// A handshake succeeded.
    Done { job: u64, upgraded: Upgraded },
    /// One did, on whose connection something was served before.
    Proven { job: u64, candidate: Box<Candidate> },
    /// It was refused, and everybody has been told so.
    Refused { job: u64 },
    /// It did not. `error` is empty when nobody wanted it any more, or its task panicked.
    Failed { job: u64, error: Option<UpgradeError> },
}

#[derive(Debug)]
pub(crate) enum Action {
    Run(Box<Job>),
    /// An inbound connection wants to be admitted.
    Admit(Upgraded),
    /// One that has its place in the ledger does.
    AdmitProven(Box<Candidate>),
    Answer {
        reply: Reply<Result<Upgraded, UpgradeError>>,
        result: Result<Upgraded, UpgradeError>,
    },
    InboundFailed {
        remote: Multiaddr,
        error: Option<UpgradeError>,
    },
}

/// A handshake that is to be done.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) link: Link,
    pub(crate) lease: HandshakeLease,
    pub(crate) berth: Berth,
    pub(crate) how: How,
}

/// What a handshake's task has to know.
#[derive(Debug)]
pub(crate) enum How {
    AsListener,
    AsDialer { opts: DialOpts, progress: Arc<Progress>, cancelled: CancellationToken, span: Span },
}

impl Engine {
    /// Numbers its handshakes from `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self { next: first, ..Self::default() }
    }
}

impl engine::Engine for Engine {
    type Command = Command;
    type Input = Input;
    type Action = Action;

    fn handle_command(&mut self, command: Command, _: Now) {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let (origin, link, lease, berth, how) = match command {
            Command::Inbound { link, lease, berth } => {
                (Origin::Inbound { remote: super::remote(&link) }, link, lease, berth, How::AsListener)
            }
            Command::Outbound(Outbound { link, lease, berth, opts, progress, cancelled, span, reply }) => {
                let how = How::AsDialer { opts, progress, cancelled, span };
                (Origin::Outbound { reply }, link, lease, berth, how)
            }
        };
        // Bounded by the ledger's handshakes: each job holds a lease.
        self.running.insert(id, origin);
        self.actions.push_back(Action::Run(Box::new(Job { id, link, lease, berth, how })));
    }

    fn handle_input(&mut self, input: Input, _: Now) {
        let (job, result) = match input {
            Input::Done { job, upgraded } => (job, Ok(upgraded)),
            Input::Failed { job, error } => (job, Err(error)),
            Input::Proven { job, candidate } => {
                let known = self.running.remove(&job);
                return self.actions.extend(known.map(|_| Action::AdmitProven(candidate)));
            }
            Input::Refused { job } => {
                self.running.remove(&job);
                return;
            }
        };
        let action = match (self.running.remove(&job), result) {
            (None, _) => return,
            (Some(Origin::Inbound { .. }), Ok(upgraded)) => Action::Admit(upgraded),
            (Some(Origin::Inbound { remote }), Err(error)) => Action::InboundFailed { remote, error },
            (Some(Origin::Outbound { reply }), Ok(upgraded)) => {
                Action::Answer { reply, result: Ok(upgraded) }
            }
            (Some(Origin::Outbound { reply }), Err(Some(error))) => {
                Action::Answer { reply, result: Err(error) }
            }
            // The reply is dropped, which its holder's task notices.
            (Some(Origin::Outbound { .. }), Err(None)) => return,
        };
        self.actions.push_back(action);
    }

    fn handle_timeout(&mut self, _: Now) {}

    /// Each handshake has its deadline in its task.
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}
