use std::fmt;

use futures::future::BoxFuture;
use peerage_core::{Multiaddr, PeerId};
pub use peerage_security::Role;
use tokio::time::Instant;

use crate::{Link, ListenError, TransportError, upgrade::Belief};

/// A way to reach peers.
///
/// Implementations hold no state that a panic could break: a transport's actor is restarted around the same object.
pub trait Transport: Send + Sync + 'static {
    /// A short name for reports and metrics: `tcp`, `memory`, `quic`.
    fn name(&self) -> &'static str;

    /// Whether this transport can dial `address`, which names no peer (`/p2p`) at its end: whom it leads to is
    /// [`DialOpts::expected`].
    fn dials(&self, address: &Multiaddr) -> bool;

    /// Whether this transport can listen on `address`.
    fn listens(&self, address: &Multiaddr) -> bool;

    /// Whether its links secure and multiplex themselves ([`Link::Unfinished`], [`Link::Established`]). A node in a private network does not use
    /// such a transport: nothing would protect its handshake. Default: `false`.
    fn brings_security(&self) -> bool {
        false
    }

    /// Whether a dial to `peer` can carry [`DialOpts::early`]: there is a session to resume, with a peer that takes such data.
    /// Default: `false`.
    fn may_be_early(&self, peer: PeerId) -> bool {
        let _ = peer;
        false
    }

    /// Opens a link to `address`, which [`Transport::dials`] accepted: it is there once the other side has answered. Ends
    /// by `opts.deadline`.
    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>>;

    /// Binds `address`, which [`Transport::listens`] accepted.
    fn listen(
        &self,
        address: Multiaddr,
        opts: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>>;
}

/// How to dial. It is carried through security and muxer.
#[derive(Clone, Debug)]
pub struct DialOpts {
    /// When everything, the upgrade included, has to be done.
    pub deadline: Instant,
    /// The peer that has to answer; another one's answer is an error.
    pub expected: Option<PeerId>,
    /// Which side this node plays in security and muxer. A hole punch makes both sides dial, and gives one of them
    /// the listener's role. Default: [`Role::Initiator`].
    pub role_override: Role,
    /// Dial from a port on which this transport listens, so that a NAT keeps one mapping (and a hole can be
    /// punched). Transports that cannot, dial from any port. Default: `false`.
    pub reuse_listen_port: bool,
    /// What is believed of the peer's security protocols. Default: nothing.
    pub belief: Belief,
    /// The beginning of the connection's first stream, to be sent along with the first message of the handshake, by transports
    /// that [can](Transport::may_be_early); others leave it alone. What came of it is in
    /// [`Resumption::early`](crate::Resumption::early). Default: nothing.
    pub early: Option<EarlyData>,
}

/// What may be sent before the handshake is done. Only the peer can read it; but whoever is on the way can hold it back, and
/// deliver it later, and once more than it was sent. So it must be something that does no harm when it is done
/// again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EarlyData {
    /// The first bytes of the stream.
    pub bytes: Vec<u8>,
    /// Whether the stream's writing half ends with them.
    pub end: bool,
}

impl EarlyData {
    /// These bytes, and more to follow once the handshake is done, unless they are the `end`.
    pub fn new(bytes: Vec<u8>, end: bool) -> Self {
        Self { bytes, end }
    }
}

impl DialOpts {
    /// Options with the defaults named at each field.
    pub fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            expected: None,
            role_override: Role::Initiator,
            reuse_listen_port: false,
            belief: Belief::None,
            early: None,
        }
    }
}

/// How to listen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenOpts {
    /// Allow dials from this port ([`DialOpts::reuse_listen_port`]). A port that somebody else listens on is refused all
    /// the same. Default: `true`.
    pub reuse_port: bool,
}

impl Default for ListenOpts {
    fn default() -> Self {
        Self { reuse_port: true }
    }
}

/// A bound socket. Dropping it closes it.
pub trait Listener: Send + 'static {
    /// The addresses it is bound to; a port of 0 is resolved. An unspecified IP is left as it is.
    fn addresses(&self) -> Vec<Multiaddr>;

    /// The next thing that happens. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, ListenerEvent>;
}

/// What happens on a listener.
#[non_exhaustive]
pub enum ListenerEvent {
    /// Somebody came. A transport with a handshake of its own yields an [`Unfinished`](crate::Unfinished) link, before
    /// it has spent work on who that is.
    Incoming(Link),
    /// Accepting failed for now (out of file descriptors, an aborted handshake). The listener goes on: ask for the
    /// next event, which waits as long as it should.
    Retry(std::io::Error),
    /// The listener is done for; it has to be bound again.
    Failed(std::io::Error),
}

impl fmt::Debug for ListenerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incoming(link) => f.debug_tuple("Incoming").field(link).finish(),
            Self::Retry(error) => f.debug_tuple("Retry").field(error).finish(),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}
