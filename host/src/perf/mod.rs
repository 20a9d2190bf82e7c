//! Perf, as in the libp2p spec `perf/perf.md`: how many bytes a second a connection carries.
//!
//! The client says how many bytes it wants (8 bytes, big endian), uploads, and closes its writing half; the server,
//! having read all of that, sends as many bytes as were asked for, and closes its own.
//!
//! It has no actor, because it has nothing to decide: each measurement is one stream between two tasks, and how many
//! of them there may be is the ledger's to say.

mod measure;
mod serve;

pub use measure::{Handle, Measured, OPEN_TIMEOUT, PerfError, Progress, Request, TIMEOUT};
pub use serve::STALL_TIMEOUT;

use std::{borrow::Cow, time::Duration};

use peerage_core::ProtocolId;

use crate::{Protocol, Registrar, limits::StreamLimits, protocol::ServeOptions};

/// The protocol's name on the wire.
pub const PROTOCOL: ProtocolId = ProtocolId::from_static("/perf/1.0.0");
/// Its name among the node's protocols.
const NAME: &str = "perf";
/// Measurements that one peer may have under way here.
pub const MAX_INBOUND_PER_PEER: usize = 4;
/// Measurements that all peers together may have under way here.
pub const MAX_INBOUND: usize = 16;
/// What a peer may ask to be sent in one measurement, unless told otherwise: 64 GiB.
pub const MAX_DOWNLOAD: u64 = 64 << 30;
/// Bytes that are written and read at once.
const CHUNK: usize = 64 * 1024;

/// Answers measurements, and makes them for the user.
///
/// Eight bytes of a peer make a node send what they say, so it is served only where it was asked for, and not on
/// connections through a relay.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Perf {
    /// The most that a peer may ask to be sent in one measurement; whoever asks for more has its stream reset.
    /// Default: [`MAX_DOWNLOAD`].
    pub max_download: u64,
    /// How long one measurement of a peer may take; then its stream is reset, however fast it is. Default:
    /// [`TIMEOUT`].
    pub max_time: Duration,
}

impl Default for Perf {
    fn default() -> Self {
        Self { max_download: MAX_DOWNLOAD, max_time: TIMEOUT }
    }
}

impl Protocol for Perf {
    type Handle = Handle;

    fn name(&self) -> Cow<'static, str> {
        NAME.into()
    }

    fn register(self, registrar: &mut Registrar<'_>) -> Handle {
        let limits = StreamLimits::new(MAX_INBOUND_PER_PEER, MAX_INBOUND);
        let Self { max_download, max_time } = self;
        registrar.serve(PROTOCOL, ServeOptions::default().limits(limits), move |stream, _| {
            serve::answer(stream, max_download, max_time)
        });
        Handle::new(registrar.node())
    }
}
