use std::fmt;

use peerage_core::PeerId;

use crate::{
    message::MessageId, queue::Lane, signing::Flaw, topic::Topic, validator::Verdict, version::Version,
};

/// What happens in the meshes, for programs that watch and for traces.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A peer speaks one of our versions.
    PeerJoined {
        /// Who.
        peer: PeerId,
        /// What was agreed.
        version: Version,
    },
    /// It does not any more.
    PeerLeft {
        /// Who.
        peer: PeerId,
    },
    /// A peer wants a topic.
    Subscribed {
        /// Who.
        peer: PeerId,
        /// What.
        topic: Topic,
    },
    /// It does not want it any more.
    Unsubscribed {
        /// Who.
        peer: PeerId,
        /// What.
        topic: Topic,
    },
    /// A peer came into a mesh.
    Grafted {
        /// Who.
        peer: PeerId,
        /// Of what.
        topic: Topic,
        /// Whether this node wanted it; else the peer did.
        local: bool,
    },
    /// A peer left a mesh.
    Pruned {
        /// Who.
        peer: PeerId,
        /// Of what.
        topic: Topic,
        /// Why.
        why: PruneReason,
    },
    /// A frame to a peer was not sent.
    Dropped {
        /// To whom.
        peer: PeerId,
        /// What it was.
        lane: Lane,
        /// Of what topic, if it was a message.
        topic: Option<Topic>,
        /// Why.
        why: DropReason,
    },
    /// A message of a peer was not taken.
    Refused {
        /// Who sent it.
        peer: PeerId,
        /// Of what.
        topic: Topic,
        /// Which, if that is known.
        id: Option<MessageId>,
        /// Why.
        why: Refusal,
    },
    /// A peer broke a rule, so many times.
    Misbehaved {
        /// Who.
        peer: PeerId,
        /// Which rule.
        rule: Misdeed,
        /// How many times.
        count: u32,
    },
    /// A message was taken. Only with [`Config::trace`](crate::Config::trace).
    Delivered {
        /// The neighbour that it came from.
        peer: PeerId,
        /// Of what.
        topic: Topic,
        /// Which.
        id: MessageId,
    },
    /// A message came again. Only with [`Config::trace`](crate::Config::trace).
    Duplicate {
        /// From whom.
        peer: PeerId,
        /// Of what.
        topic: Topic,
        /// Which.
        id: MessageId,
    },
    /// This node published. Only with [`Config::trace`](crate::Config::trace).
    Published {
        /// Of what.
        topic: Topic,
        /// Which.
        id: MessageId,
        /// How many peers took it.
        peers: usize,
    },
}

/// Why a peer left a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PruneReason {
    /// The mesh was too large.
    TooMany,
    /// Its score was bad.
    BadScore,
    /// It asked to.
    Asked,
    /// It does not want the topic any more, or is gone.
    Gone,
    /// This node left the topic.
    Left,
}

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DropReason {
    /// Too much waits for that peer already.
    QueueFull,
    /// The stream to the peer ended.
    StreamEnded,
    /// There was no stream to the peer yet.
    NoStream,
    /// The node's memory is used up.
    NoMemory,
    /// What is to be said of a partial message does not fit.
    TooLarge,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not what the topic's messages are.
    Flaw(Flaw),
    /// It says more than the topic's messages may.
    TooLarge,
    /// Nobody here wants its topic.
    UnknownTopic,
    /// It names this node as its author, which did not write it.
    NotOurs,
    /// Its author is on the blacklist.
    Blacklisted,
    /// Too much is being verified and validated.
    Throttled,
    /// The node's memory is used up.
    NoMemory,
    /// The validator said so.
    Validator(Verdict),
}

/// Which rule a peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Misdeed {
    /// It grafted in its backoff.
    GraftInBackoff,
    /// It did not send what it said it had.
    BrokenPromise,
    /// It said twice what it can do.
    ExtensionsTwice,
    /// It sent what is no RPC, or one that breaks a limit.
    Malformed,
    /// What it says that it has of a partial message is not what the topic's programs write.
    NotMetadata,
}

macro_rules! texts {
    ($($kind:ident { $($variant:pat => $text:literal,)* })*) => {
        $(impl $kind {
            /// In a word, as labels of metrics have it.
            pub fn label(self) -> &'static str {
                match self { $($variant => $text,)* }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.label())
            }
        })*
    };
}

texts! {
    PruneReason {
        Self::TooMany => "too_many",
        Self::BadScore => "bad_score",
        Self::Asked => "asked",
        Self::Gone => "gone",
        Self::Left => "left",
    }
    DropReason {
        Self::QueueFull => "queue_full",
        Self::StreamEnded => "stream_ended",
        Self::NoStream => "no_stream",
        Self::NoMemory => "no_memory",
        Self::TooLarge => "too_large",
    }
    Refusal {
        Self::Flaw(Flaw::NoAuthor) => "no_author",
        Self::Flaw(Flaw::BadAuthor) => "bad_author",
        Self::Flaw(Flaw::BadSequence) => "bad_sequence",
        Self::Flaw(Flaw::NoSignature) => "no_signature",
        Self::Flaw(Flaw::NotAnonymous) => "not_anonymous",
        Self::Flaw(Flaw::BadKey) => "bad_key",
        Self::Flaw(Flaw::BadSignature) => "bad_signature",
        Self::TooLarge => "too_large",
        Self::UnknownTopic => "unknown_topic",
        Self::NotOurs => "not_ours",
        Self::Blacklisted => "blacklisted",
        Self::Throttled => "throttled",
        Self::NoMemory => "no_memory",
        Self::Validator(Verdict::Reject) => "rejected",
        Self::Validator(_) => "ignored",
    }
    Misdeed {
        Self::GraftInBackoff => "graft_in_backoff",
        Self::BrokenPromise => "broken_promise",
        Self::ExtensionsTwice => "extensions_twice",
        Self::Malformed => "malformed",
        Self::NotMetadata => "not_metadata",
    }
    Lane {
        Self::Control => "control",
        Self::Gossip => "gossip",
        Self::Own => "own",
        Self::Forward => "forward",
    }
}
