use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use peerage_core::{Multiaddr, PeerId, ProtocolId};
use peerage_muxer::{Muxed, Outflow, Stream};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{UpgradeError, UpgradeOpts, websocket};

/// A raw, ordered byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// What a transport yields.
#[derive(Debug)]
pub enum Link {
    /// A byte stream that has to be secured and multiplexed.
    Raw(Raw),
    /// A socket on which a byte stream has to be opened first.
    Opening(Opening),
    /// A link of a transport that secures and multiplexes by itself, before it has done so.
    Unfinished(Unfinished),
    /// A connection of a transport that secures and multiplexes by itself.
    Established(Box<Established>),
}

/// A byte stream with its two ends.
pub struct Raw {
    /// The bytes.
    pub io: Box<dyn Io>,
    /// This side's address.
    pub local: Multiaddr,
    /// The other side's address, without its peer id.
    pub remote: Multiaddr,
    /// Whether it goes through a relay that bounds time and bytes.
    pub limited: bool,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("limited", &self.limited)
            .finish_non_exhaustive()
    }
}

/// A socket that becomes a byte stream by a handshake of its transport: TLS and HTTP of a WebSocket. It is part of the
/// upgrade, under whose deadline, place and budget it is done, so that a listener that yields it has spent nothing yet.
/// Dropping it hangs up.
pub struct Opening {
    /// This side's address, as far as it is known before.
    pub local: Multiaddr,
    /// The other side's, likewise.
    pub remote: Multiaddr,
    run: Box<dyn FnOnce(Outflow) -> BoxFuture<'static, Result<Raw, websocket::Error>> + Send>,
}

impl Opening {
    pub(crate) fn new(
        local: Multiaddr,
        remote: Multiaddr,
        run: impl FnOnce(Outflow) -> BoxFuture<'static, Result<Raw, websocket::Error>> + Send + 'static,
    ) -> Self {
        Self { local, remote, run: Box::new(run) }
    }

    /// Does the handshake. What the socket below takes is counted by `outflow`, because what comes of it buffers.
    ///
    /// # Errors
    /// [`websocket::Error`], by [`OPENING_TIMEOUT`](websocket::OPENING_TIMEOUT) at the latest.
    pub async fn open(self, outflow: Outflow) -> Result<Raw, websocket::Error> {
        (self.run)(outflow).await
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// A link whose transport has a handshake of its own, as QUIC has. Nothing was spent on it yet: whoever holds it decides
/// whether it is worth the work. Dropping it refuses or forgets the other side.
pub struct Unfinished {
    /// This side's address.
    pub local: Multiaddr,
    /// The other side's address, without its peer id.
    pub remote: Multiaddr,
    handshake: Box<dyn FnOnce(UpgradeOpts) -> BoxFuture<'static, Result<Established, UpgradeError>> + Send>,
}

impl Unfinished {
    /// A link that `handshake` finishes. Its future is dropped once the time is over; it need not look at the clock.
    pub fn new<F, H>(local: Multiaddr, remote: Multiaddr, handshake: H) -> Self
    where
        H: FnOnce(UpgradeOpts) -> F + Send + 'static,
        F: Future<Output = Result<Established, UpgradeError>> + Send + 'static,
    {
        Self { local, remote, handshake: Box::new(|opts| handshake(opts).boxed()) }
    }

    pub(crate) fn finish(self, opts: UpgradeOpts) -> BoxFuture<'static, Result<Established, UpgradeError>> {
        (self.handshake)(opts)
    }
}

impl fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unfinished")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// A secured, multiplexed connection whose peer has proven its identity (unless it is [`Unproven`] yet).
#[derive(Debug)]
pub struct Established {
    /// Who the other side is.
    pub peer: PeerId,
    /// This side's address.
    pub local: Multiaddr,
    /// The other side's address, without its peer id.
    pub remote: Multiaddr,
    /// Whether it goes through a relay that bounds time and bytes.
    pub limited: bool,
    /// The security protocol, as negotiated.
    pub security: ProtocolId,
    /// The muxer, as negotiated.
    pub muxer: ProtocolId,
    /// Whether the muxer came with the security handshake and cost no round trip.
    pub early_muxer: bool,
    /// What came of an earlier connection's session, for transports that resume them.
    pub resumption: Resumption,
    /// The connection and its driver.
    pub muxed: Muxed,
}

/// What became of the session that an earlier connection with the same peer had.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Resumption {
    /// Whether it was resumed: the peer has proven who it is by having the session's secret, and not by signing anew.
    pub resumed: bool,
    /// On the dialer's side, what became of the data of [`DialOpts::early`](crate::DialOpts::early); `None` where none was
    /// sent.
    pub early: Option<Early>,
    /// On the listener's side, with [`UpgradeOpts::early`]: the handshake is not done yet.
    pub unproven: Option<Unproven>,
}

/// What became of early data.
#[derive(Debug)]
#[non_exhaustive]
pub enum Early {
    /// The peer took them, on this stream, from which they have to be left out.
    Taken(Stream),
    /// The peer has seen none of them, and they may be sent as any others.
    Refused,
}

/// The rest of a handshake, at whose end it is known that the peer is there, and was not recorded. Until then the connection
/// carries what came early, and its answers, which nobody but the peer can read.
///
/// A future: it ends by what the connection's driver finds out, which has to be polled meanwhile, and by the upgrade's
/// deadline.
pub struct Unproven(BoxFuture<'static, Result<(), UpgradeError>>);

impl Unproven {
    pub(crate) fn new(proof: impl Future<Output = Result<(), UpgradeError>> + Send + 'static) -> Self {
        Self(proof.boxed())
    }
}

impl Future for Unproven {
    type Output = Result<(), UpgradeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unproven").finish_non_exhaustive()
    }
}
