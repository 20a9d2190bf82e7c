use std::{fmt, time::Instant};

use peerage_core::{Multiaddr, PeerId};
use peerage_transport::{Role, Stage};

use super::{
    race::{Failed, Won},
    report::{Connected, DialError, EarlySent, Skip},
};
use crate::{hub::Refused, limits::ConnectionId, reply::Reply};

/// A request to dial. Whoever asks, numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestId(pub(crate) u64);

/// A dial under way, for one or more requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DialId(pub(super) u64);

/// An attempt at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptId(pub(super) u64);

/// How to dial. Requests that differ in it are different dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct How {
    /// Which side this node plays in security and muxer.
    pub(crate) role: Role,
    /// Dial from a port that is listened on, if a listener shares its own.
    pub(crate) reuse_listen_port: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { role: Role::Initiator, reuse_listen_port: true }
    }
}

pub(super) type DialReply = Reply<Result<Connected, DialError>>;

/// How far whoever named an address is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trust {
    /// Another peer may have made it up.
    Hearsay,
    /// A part of this node, which has weighed it.
    Own,
    /// Whoever asked for the dial: it is tried whatever it is, and however often it failed.
    Asked,
}

/// Whether an address may be dialed at all; what the engine cannot know.
pub(crate) trait Screen: fmt::Debug {
    /// Why a peer is not dialed, wherever it is.
    fn refuses(&self, peer: PeerId) -> Option<String>;

    /// Why not, if so. The address has no peer id at its end, and may begin with a name; `expected` has to be there, if
    /// that is known.
    fn skip(&self, address: &Multiaddr, expected: Option<PeerId>, trust: Trust) -> Option<Skip>;
}

/// An address to dial, from whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) address: Multiaddr,
    /// Who named it, for the report.
    pub(crate) source: &'static str,
    pub(crate) trust: Trust,
}

/// What the Dialer is asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// Connect with `peer`, or with whoever is at the addresses; all of them are one peer's, and if one that was
    /// [asked for](Trust::Asked) names it, it is known. Joins the dial to that peer (or, without one, to the first
    /// address) that is under way. Answered by `deadline`.
    Dial {
        /// For [`Command::Cancel`].
        request: Option<RequestId>,
        peer: Option<PeerId>,
        addresses: Vec<Given>,
        how: How,
        deadline: Instant,
        reply: DialReply,
    },
    /// Whoever made the request does not wait any more.
    Cancel { request: RequestId },
    /// End everything, and dial nothing any more.
    ShutDown,
}

/// What came of the Dialer's actions.
#[derive(Debug)]
pub(crate) enum Input<C> {
    /// One source of addresses answered.
    SourceSaid { dial: DialId, source: &'static str, trust: Trust, said: Result<Vec<Multiaddr>, String> },
    /// No source will say anything any more. Owed for every [`Action::AskSources`].
    SourcesDone { dial: DialId },
    /// Some of what a name stands for. There may be more.
    Resolved { attempt: AttemptId, addresses: Vec<Multiaddr> },
    /// All was said of a name. Owed for every [`Action::Resolve`].
    ResolveEnded { attempt: AttemptId, result: Result<(), Failed> },
    /// An attempt reached a stage.
    AttemptStage { attempt: AttemptId, stage: Stage },
    /// What became of data that an attempt carried ahead of its handshake.
    AttemptEarly { attempt: AttemptId, early: EarlySent },
    /// An attempt is over, aborted or not.
    AttemptEnded { attempt: AttemptId, result: Result<Won<C>, Failed> },
    /// What the Host said to a connection. Owed for every [`Action::Adopt`].
    Adopted { dial: DialId, result: Result<ConnectionId, Refused> },
}

/// What the Dialer wants done.
#[derive(Debug)]
pub(crate) enum Action<C> {
    /// Ask whoever may know addresses of the peer.
    AskSources { dial: DialId, peer: PeerId, deadline: Instant },
    /// Dial an address (without the peer's id at its end), and say how that ended by `deadline`.
    Attempt { attempt: AttemptId, address: Multiaddr, expected: Option<PeerId>, how: How, deadline: Instant },
    /// Resolve the name at the beginning of an address (with the peer's id at its end, if that is known), and say how
    /// that ended by `deadline`.
    Resolve { attempt: AttemptId, address: Multiaddr, deadline: Instant },
    /// Drop an attempt.
    Abort { attempt: AttemptId },
    /// Hand a connection to the Host.
    Adopt { dial: DialId, connection: C },
    /// Close a connection: it came too late, or from the wrong peer.
    Discard { connection: C },
    /// Answer a request.
    Answer { reply: DialReply, result: Result<Connected, DialError> },
}
