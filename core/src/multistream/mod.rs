//! multistream-select 1.0: two peers agree on the protocol of a connection or a stream.
//!
//! Spec: libp2p's [connections](https://github.com/libp2p/specs/blob/master/connections/README.md#multistream-select)
//! and [multistream-select](https://github.com/multiformats/multistream-select).
//!
//! Both sides name multistream-select itself; then the dialer proposes protocols, one after the other, and the listener
//! echoes the one it takes and answers `na` to the others. [`Dialer`] and [`Listener`] take bytes and give bytes;
//! neither takes a byte that follows the agreement, because that one belongs to the protocol agreed on.
//!
//! ```
//! use peerage_core::{ProtocolId, multistream::{Dialer, Listener}};
//!
//! let (a, b) = (ProtocolId::from_static("/a/1"), ProtocolId::from_static("/b/1"));
//! let mut dialer = Dialer::new(vec![a, b.clone()])?;
//! let mut listener = Listener::new();
//!
//! while dialer.outcome().is_none() {
//!     if let Some(bytes) = dialer.poll_transmit() {
//!         listener.handle_input(&bytes, |name| (b == name).then(|| b.clone()))?;
//!     }
//!     if let Some(bytes) = listener.poll_transmit() {
//!         dialer.handle_input(&bytes)?;
//!     }
//! }
//! assert_eq!(dialer.outcome(), Some(&b));
//! assert_eq!(listener.outcome(), Some(&b));
//! # Ok::<(), peerage_core::multistream::Error>(())
//! ```

mod breaks;
mod dialer;
mod line;
mod listener;

pub use breaks::{breaks, breaks_at_its_end};
pub use dialer::Dialer;
pub use line::MAX_MESSAGE_LEN;
pub use listener::Listener;

use crate::frame;

/// What both sides say first.
pub const HEADER: &str = "/multistream/1.0.0";

/// "Not available": the answer to a proposal that is not taken.
const NA: &str = "na";

/// The question for the list of protocols, which nobody has to answer.
const LS: &str = "ls";

/// The most lines that either side reads from the other in one negotiation, the header included.
pub const MAX_LINES: usize = 64;

/// The most protocols that a dialer proposes: a listener like ours reads no more lines.
pub const MAX_PROPOSALS: usize = MAX_LINES - 1;

/// Why two peers did not agree on a protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The dialer was given nothing to propose.
    #[error("no protocol to propose")]
    NoProposals,
    /// The dialer was given more than [`MAX_PROPOSALS`].
    #[error("{count} protocols to propose, {MAX_PROPOSALS} allowed")]
    TooManyProposals {
        /// How many it was given.
        count: usize,
    },
    /// The listener has none of the protocols that were proposed.
    #[error("the remote supports none of the proposed protocols")]
    NoneSupported,
    /// The remote sent a message that is too long, or whose length is malformed.
    #[error("bad message from the remote: {0}")]
    Frame(frame::Error),
    /// The remote sent a message that is not one line of UTF-8.
    #[error("message from the remote is not a line of text")]
    NotALine,
    /// The remote's first message is not [`HEADER`].
    #[error("the remote does not speak multistream-select 1.0")]
    NoHeader,
    /// The remote answered a proposal with neither its echo nor `na`.
    #[error("the remote answered with a protocol that was not proposed")]
    UnexpectedAnswer,
    /// The remote sent more than [`MAX_LINES`].
    #[error("more than {MAX_LINES} lines from the remote")]
    TooManyLines,
    /// The remote ended the stream before there was an agreement.
    #[error("the remote ended the negotiation")]
    Ended,
}

/// Who is at fault for an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This program.
    Local,
    /// The peer broke the protocol, or a limit.
    Remote,
    /// Nobody: the two have no protocol in common, or one of them gave up.
    Neither,
}

impl Error {
    /// Who is at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Error::NoProposals | Error::TooManyProposals { .. } => Fault::Local,
            Error::NoneSupported | Error::Ended => Fault::Neither,
            Error::Frame(_)
            | Error::NotALine
            | Error::NoHeader
            | Error::UnexpectedAnswer
            | Error::TooManyLines => Fault::Remote,
        }
    }
}
