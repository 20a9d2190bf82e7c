//! A file on its way, and what the user hears and says of it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use peerage::PeerId;
use tokio::sync::watch;

use super::{MAX_OUTGOING, MAX_PER_PEER};

/// The user's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Wait,
    Accept,
    Decline,
    Cancel,
}

/// Which way a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To this node.
    In,
    /// From this node.
    Out,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The file is read, for its hash.
    Preparing,
    /// It is offered, and the receiver's user has to answer.
    Offered,
    /// Bytes flow.
    Moving,
}

/// A file on its way.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// What the user calls it by.
    pub id: u32,
    /// From or to whom.
    pub peer: PeerId,
    /// From or to.
    pub direction: Direction,
    /// What it is called: the name that was offered; before, the user's.
    pub name: String,
    /// Its bytes; 0 while it is prepared.
    pub size: u64,
    /// How far it is.
    pub state: State,
    pub(super) moved: Arc<AtomicU64>,
    pub(super) orders: watch::Sender<Order>,
}

impl Transfer {
    /// Bytes that have gone or come.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether it is offered to this node, and not answered yet.
    pub fn is_open_offer(&self) -> bool {
        self.direction == Direction::In
            && self.state == State::Offered
            && *self.orders.borrow() == Order::Wait
    }
}

/// Something to tell the user.
#[derive(Debug)]
#[non_exhaustive]
pub enum Happened {
    /// A peer offers a file: [`Files::accept`](super::Files::accept) or [`Files::decline`](super::Files::decline).
    Asked(Transfer),
    /// A peer offered something that the user is not asked about.
    TurnedAway {
        /// Who.
        peer: PeerId,
        /// What was wrong with it.
        why: String,
    },
    /// A file of ours is offered.
    Offered(Transfer),
    /// It was accepted.
    Accepted(Transfer),
    /// It arrived, and is at `path` if it came to us.
    Done {
        /// Which.
        transfer: Transfer,
        /// Where it is.
        path: Option<PathBuf>,
    },
    /// It did not arrive.
    Failed {
        /// Which.
        transfer: Transfer,
        /// Why not.
        why: String,
        /// It may be there all the same: all of it was sent, and the receiver has not said whether it arrived.
        unconfirmed: bool,
    },
}

/// Why a command of the user's does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no transfer of that number, or none that this can be said to.
    #[error("there is no such file")]
    Unknown,
    /// [`MAX_OUTGOING`] files are under way.
    #[error("{MAX_OUTGOING} files are on their way already")]
    TooMany,
    /// [`MAX_PER_PEER`] files are under way to that peer, which takes no more.
    #[error("{MAX_PER_PEER} files are on their way there already; send it when one of them is there")]
    TooManyToOne,
    /// It is not offered any more, but comes.
    #[error("it is on its way already; /cancel stops it")]
    UnderWay,
}
