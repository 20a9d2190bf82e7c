//! From the first packet to a connection, on either side.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{FutureExt as _, future::poll_fn};
use peerage_core::{Multiaddr, PeerId};
use peerage_muxer::{Connection, Driver as Muxer, Muxed, Stream};
use peerage_security::tls::{self, quic::Verdict};
use quinn::{
    ClientConfig, Connecting, ZeroRttAccepted,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
    rustls::pki_types::CertificateDer,
};
use tokio::io::AsyncWriteExt as _;

use super::{
    PROTOCOL, Shared as Quic, UnderWay,
    contained::{Contained, contain},
    driver::Driver,
    error::{Failure, failure},
    flight::Flight,
    handle::Handle,
    port::{Guest, Port},
    qlog,
    shared::Shared,
    stream::Substream,
};
use crate::{
    Early, EarlyData, Established, Resumption, Stage, Unproven, UpgradeError, UpgradeOpts,
    upgrade::Failure as UpgradeFailure,
};

/// What TLS calls the server. It is not told: libp2p has no server names.
const NOBODY: &str = "0.0.0.0";

/// A connection in the making. Dropped, it is closed, and the peer told so.
pub(super) struct Handshake {
    /// `None` once there is more of it, or it is dropped.
    connecting: Option<Connecting>,
    begun: Option<Begun>,
    driver: Option<Contained>,
    verdict: Verdict,
    flight: Flight,
    port: Arc<Port>,
}

/// A connection on which streams may be opened, or accepted.
struct Begun {
    shared: Arc<Shared>,
    /// While the handshake is not done; whether early data were taken.
    accepted: Option<ZeroRttAccepted>,
    early: Option<EarlyStream>,
}

/// A stream that was opened early.
struct EarlyStream {
    stream: Stream,
    taken: bool,
}

impl Begun {
    fn new(connection: quinn::Connection, flight: &Flight, accepted: Option<ZeroRttAccepted>) -> Self {
        Self { shared: Arc::new(Shared::new(connection, flight.clone())), accepted, early: None }
    }

    /// Sends what can be sent before the server has answered: all of it, or nothing. What the server takes of a stream that
    /// is given up here, is an error to whoever reads it.
    fn send(&mut self, early: &EarlyData) {
        let Some(Ok(halves)) = self.shared.connection.open_bi().now_or_never() else { return };
        let mut stream = Stream::new(Substream::opened(Arc::clone(&self.shared), halves));
        let sending = async {
            stream.write_all(&early.bytes).await?;
            if early.end { stream.shutdown().await } else { Ok(()) }
        };
        if let Some(Ok(())) = sending.now_or_never() {
            self.early = Some(EarlyStream { stream, taken: false });
        }
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if let Some(accepted) = &mut self.accepted {
            let taken = ready!(Pin::new(accepted).poll(cx));
            self.accepted = None;
            if let Some(early) = &mut self.early {
                early.taken = taken;
            }
        }
        Poll::Ready(self.shared.connection.close_reason().map_or(Ok(()), |end| Err(failure(end))))
    }
}

impl Handshake {
    /// As a client.
    pub(super) fn dial(
        quic: &Quic,
        port: Arc<Port>,
        remote: SocketAddr,
        expected: Option<PeerId>,
        early: Option<EarlyData>,
    ) -> Result<Self, Failure> {
        let tls = quic.tls.clone().early_data(quic.config.early_data && early.is_some());
        let tls = match expected {
            Some(peer) => tls.expecting(peer),
            None => tls,
        };
        let (crypto, verdict) = tls.quic_client()?;
        let crypto = QuicClientConfig::try_from(crypto).map_err(Failure::internal)?;
        let flight = Flight::default();
        let mut transport = quic.config.transport(port.reach(), &flight);
        qlog::attach(&mut transport, quic.config.qlog.as_deref(), "client", remote);
        let mut client = ClientConfig::new(Arc::new(crypto));
        client.transport_config(Arc::new(transport));
        let started = port.begin(|endpoint| endpoint.connect_with(client, remote, NOBODY));
        let (connecting, driver) = started.map_err(Failure::internal)?;
        let mut this = Self { connecting: Some(connecting), begun: None, driver, verdict, flight, port };
        if let Some(early) = early {
            this.begin();
            this.begun.iter_mut().for_each(|begun| begun.send(&early));
        }
        Ok(this)
    }

    /// As a server.
    pub(super) fn accept(quic: &Quic, guest: Guest, expected: Option<PeerId>) -> Result<Self, Failure> {
        let tls = match expected {
            Some(peer) => quic.tls.clone().expecting(peer),
            None => quic.tls.clone(),
        };
        let (crypto, verdict) = tls.quic_server()?;
        let crypto = QuicServerConfig::try_from(crypto).map_err(Failure::internal)?;
        let flight = Flight::default();
        let port = Arc::clone(&guest.port);
        let incoming = guest.admit().ok_or_else(|| Failure::internal("nobody to admit"))?;
        let mut transport = quic.config.transport(port.reach(), &flight);
        qlog::attach(&mut transport, quic.config.qlog.as_deref(), "server", incoming.remote_address());
        let mut server = quic.server.clone();
        server.crypto = Arc::new(crypto);
        server.transport = Arc::new(transport);
        let started = port.begin(|_| incoming.accept_with(Arc::new(server)));
        let (connecting, driver) = started.map_err(failure)?;
        Ok(Self { connecting: Some(connecting), begun: None, driver, verdict, flight, port })
    }

    /// Uses the connection before the handshake is done, if there are keys for that: of a client, if it resumes a session
    /// with early data; of a server, from its answer on.
    fn begin(&mut self) {
        match self.connecting.take().map(Connecting::into_0rtt) {
            Some(Ok((connection, accepted))) => {
                self.begun = Some(Begun::new(connection, &self.flight, Some(accepted)))
            }
            Some(Err(connecting)) => self.connecting = Some(connecting),
            None => {}
        }
    }

    /// Waits until the server has answered, with its part of the handshake that is. (Whether it takes early data is known
    /// only a moment later, when that is done.)
    pub(super) async fn answered(&mut self) -> Result<(), Failure> {
        if self.begun.is_some() {
            return self.done().await;
        }
        let Self { connecting, driver, verdict, .. } = self;
        let Some(connecting) = connecting else { return Ok(()) };
        let mut answer = pin!(connecting.handshake_data());
        let answered = poll_fn(|cx| {
            drive(driver, cx)?;
            answer.as_mut().poll(cx).map(|answer| answer.map(drop).map_err(failure))
        });
        answered.await.map_err(|failure| better(verdict, failure))
    }

    /// Waits for the end of the handshake.
    async fn done(&mut self) -> Result<(), Failure> {
        let Self { connecting, begun, driver, verdict, flight, .. } = self;
        let done = poll_fn(|cx| {
            drive(driver, cx)?;
            if let Some(begun) = begun {
                return begun.poll_done(cx);
            }
            let Some(waiting) = connecting else {
                return Poll::Ready(Err(Failure::internal("the handshake was done before")));
            };
            let connection = ready!(Pin::new(waiting).poll(cx)).map_err(failure)?;
            *connecting = None;
            *begun = Some(Begun::new(connection, flight, None));
            Poll::Ready(Ok(()))
        });
        done.await.map_err(|failure| better(verdict, failure))
    }

    /// Of a server: whether the client resumes a session, so that it is known who it is, and what it sends early
    /// can be answered.
    async fn is_half_done(&mut self) -> Result<bool, Failure> {
        self.answered().await?;
        self.begin();
        Ok(self.begun.as_ref().is_some_and(|begun| !certificates(&begun.shared).is_empty()))
    }

    pub(super) async fn finish(
        mut self,
        quic: Arc<Quic>,
        local: Multiaddr,
        remote: Multiaddr,
        opts: UpgradeOpts,
        counted: Option<UnderWay>,
    ) -> Result<Established, UpgradeFailure> {
        let memory = opts.budget.reserve(quic.config.base_memory(self.port.reach()))?;
        let server = counted.is_some();
        if !(server && opts.early && self.is_half_done().await?) {
            self.done().await?;
        }
        let begun = self.begun.take().ok_or_else(|| Failure::internal("a handshake without a connection"))?;
        let Begun { shared, accepted, early } = begun;
        let authenticated = self.verdict.authenticated(&certificates(&shared));
        let inner = self.driver.take().ok_or_else(|| Failure::internal("a connection without a driver"))?;
        // From here on the connection is closed by its driver, also if the next line finds that it has to be.
        let driver = Driver::new(Arc::clone(&shared), inner, memory, Arc::clone(&self.port));
        let peer = authenticated.map_err(Failure::from)?.peer;
        let resumption = Resumption {
            resumed: self.verdict.is_resumed(),
            early: early.map(|early| match early {
                EarlyStream { stream, taken: true } => Early::Taken(stream),
                EarlyStream { taken: false, .. } => {
                    self.verdict.early_refused();
                    Early::Refused
                }
            }),
            unproven: accepted.map(|accepted| unproven(accepted, Arc::clone(&shared), counted)),
        };
        let muxed =
            Muxed { connection: Connection::new(Arc::new(Handle::new(shared))), driver: Muxer::new(driver) };
        Ok(Established {
            peer,
            local,
            remote,
            limited: false,
            security: tls::PROTOCOL,
            muxer: PROTOCOL,
            early_muxer: false,
            resumption,
            muxed,
        })
    }
}

/// What the peer has shown, here or when the session began.
fn certificates(shared: &Shared) -> Vec<CertificateDer<'static>> {
    let identity = shared.connection.peer_identity().and_then(|any| any.downcast().ok());
    identity.map(|certificates| *certificates).unwrap_or_default()
}

/// The rest of a server's handshake, which counts as one until it is done.
fn unproven(accepted: ZeroRttAccepted, shared: Arc<Shared>, counted: Option<UnderWay>) -> Unproven {
    Unproven::new(async move {
        let _counted = counted;
        // What it says is of interest to clients.
        accepted.await;
        let Some(end) = shared.connection.close_reason() else { return Ok(()) };
        Err(UpgradeFailure::from(failure(end)).at(Stage::Security))
    })
}

/// What the verifier found says more than the alert that was made of it.
fn better(verdict: &Verdict, failure: Failure) -> Failure {
    verdict.refusal().map_or(failure, Failure::Tls)
}

fn drive(driver: &mut Option<Contained>, cx: &mut Context<'_>) -> Result<(), Failure> {
    let Some(inner) = driver else { return Ok(()) };
    match Pin::new(inner).poll(cx) {
        // Its end is the handshake's, which says why.
        Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
        Poll::Ready(Err(panic)) => {
            *driver = None;
            std::panic::resume_unwind(panic)
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let unfinished = (self.connecting.take(), self.begun.take());
        match self.driver.take() {
            // The last handle closes the connection, and the endpoint's task says so.
            Some(driver) => {
                contain(|| drop(unfinished));
                self.port.see_off(driver);
            }
            // It panicked, or the connection has taken it.
            None => std::mem::forget(unfinished),
        }
    }
}

/// Answers somebody who came.
pub(super) async fn welcome(
    quic: Arc<Quic>,
    guest: Guest,
    local: Multiaddr,
    remote: Multiaddr,
    opts: UpgradeOpts,
    counted: UnderWay,
) -> Result<Established, UpgradeError> {
    let stage = opts.progress.clone().unwrap_or_default();
    let finished = match Handshake::accept(&quic, guest, opts.expected) {
        Ok(handshake) => handshake.finish(quic, local, remote, opts, Some(counted)).await,
        Err(failure) => Err(failure.into()),
    };
    finished.map_err(|failure| failure.at(stage.stage()))
}

/// Goes on with somebody who has answered, or whose answer was an end.
pub(super) async fn proceed(
    quic: Arc<Quic>,
    answered: Result<Handshake, Failure>,
    local: Multiaddr,
    remote: Multiaddr,
    opts: UpgradeOpts,
) -> Result<Established, UpgradeError> {
    let stage = opts.progress.clone().unwrap_or_default();
    let finished = match answered {
        Ok(handshake) => handshake.finish(quic, local, remote, opts, None).await,
        Err(failure) => Err(failure.into()),
    };
    finished.map_err(|failure| failure.at(stage.stage()))
}
