//! Ping, as in the libp2p spec `ping/ping.md`: 32 random bytes go out, the same come back.

mod engine;
mod handle;
mod session;

#[cfg(feature = "fuzzing")]
pub(crate) use engine::steps;
pub use engine::{MAX_WAITING, TIMEOUT};
pub use handle::{Handle, PingError};

use std::{borrow::Cow, time::Duration};

use peerage_core::ProtocolId;

use crate::{Protocol, Registrar, limits::StreamLimits, protocol::ServeOptions};

/// The protocol's name on the wire.
pub const PROTOCOL: ProtocolId = ProtocolId::from_static("/ipfs/ping/1.0.0");
/// Its name in the tree of actors.
pub(crate) const NAME: &str = "ping";
/// Bytes of one ping.
pub(crate) const SIZE: usize = 32;
/// Streams that one peer may have open to be answered on; the spec asks for two.
pub const MAX_INBOUND_STREAMS: usize = 2;

/// Answers pings, and measures round trips for the user.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Ping {}

impl Protocol for Ping {
    type Handle = Handle;

    fn name(&self) -> Cow<'static, str> {
        NAME.into()
    }

    fn register(self, registrar: &mut Registrar<'_>) -> Handle {
        let node = registrar.node();
        let port = registrar.actor(
            move |birth| {
                (
                    engine::Engine::new(birth.first_id()),
                    session::Performer::new(node.clone(), birth.port.clone()),
                )
            },
            None,
        );
        let limits = StreamLimits::new(MAX_INBOUND_STREAMS, StreamLimits::default().inbound_total);
        registrar.serve(
            PROTOCOL,
            ServeOptions::default().limits(limits).allow_limited().replay_safe(),
            |stream, _| session::answer(stream),
        );
        Handle::new(port)
    }
}

/// How long an answering stream may be idle. Some pingers keep theirs for the life of the connection and use it
/// rarely; an idle stream that was closed is opened again by them.
pub(crate) const ANSWER_IDLE: Duration = Duration::from_secs(120);
