//! From the first packet to a connection, on either side.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::poll_fn;
use peerage_core::{Multiaddr, PeerId};
use peerage_muxer::{Connection, Driver as Muxer, Muxed};
use peerage_security::tls::{self, quic::Verdict};
use quinn::{
    ClientConfig, Connecting,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
    rustls::pki_types::CertificateDer,
};

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
};
use crate::{Established, UpgradeError, UpgradeOpts, upgrade::Failure as UpgradeFailure};

/// What TLS calls the server. It is not told: libp2p has no server names.
const NOBODY: &str = "0.0.0.0";

/// A connection in the making. Dropped, it is closed, and the peer told so.
pub(super) struct Handshake {
    /// `None` once it is done or dropped.
    connecting: Option<Connecting>,
    driver: Option<Contained>,
    verdict: Verdict,
    flight: Flight,
    port: Arc<Port>,
}

impl Handshake {
    /// As a client.
    pub(super) fn dial(
        quic: &Quic,
        port: Arc<Port>,
        remote: SocketAddr,
        expected: Option<PeerId>,
    ) -> Result<Self, Failure> {
        let tls = match expected {
            Some(peer) => quic.tls.clone().expecting(peer),
            None => quic.tls.clone(),
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
        Ok(Self { connecting: Some(connecting), driver, verdict, flight, port })
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
        Ok(Self { connecting: Some(connecting), driver, verdict, flight, port })
    }

    /// Waits until the server has answered, with its part of the handshake that is.
    pub(super) async fn answered(&mut self) -> Result<(), Failure> {
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
    async fn done(&mut self) -> Result<quinn::Connection, Failure> {
        let Self { connecting, driver, verdict, .. } = self;
        let done = poll_fn(|cx| {
            drive(driver, cx)?;
            match connecting {
                Some(connecting) => Pin::new(connecting).poll(cx).map_err(failure),
                None => Poll::Ready(Err(Failure::internal("the handshake was done before"))),
            }
        });
        done.await.map_err(|failure| better(verdict, failure))
    }

    pub(super) async fn finish(
        mut self,
        quic: Arc<Quic>,
        local: Multiaddr,
        remote: Multiaddr,
        opts: UpgradeOpts,
    ) -> Result<Established, UpgradeFailure> {
        let memory = opts.budget.reserve(quic.config.base_memory(self.port.reach()))?;
        let connection = self.done().await?;
        self.connecting = None;
        let certificates = connection.peer_identity().and_then(|any| any.downcast().ok());
        let certificates: Box<Vec<CertificateDer<'static>>> = certificates.unwrap_or_default();
        let authenticated = self.verdict.authenticated(&certificates);
        let shared = Arc::new(Shared::new(connection));
        let inner = self.driver.take().ok_or_else(|| Failure::internal("a connection without a driver"))?;
        // From here on the connection is closed by its driver, also if the next line finds that it has to be.
        let driver =
            Driver::new(Arc::clone(&shared), inner, self.flight.clone(), memory, Arc::clone(&self.port));
        let peer = authenticated.map_err(Failure::from)?.peer;
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
            muxed,
        })
    }
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
        let connecting = self.connecting.take();
        match self.driver.take() {
            // The last handle closes the connection, and the endpoint's task says so.
            Some(driver) => {
                contain(|| drop(connecting));
                self.port.see_off(driver);
            }
            // It panicked, or the connection has taken it.
            None => std::mem::forget(connecting),
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
    _counted: UnderWay,
) -> Result<Established, UpgradeError> {
    let stage = opts.progress.clone().unwrap_or_default();
    let finished = match Handshake::accept(&quic, guest, opts.expected) {
        Ok(handshake) => handshake.finish(quic, local, remote, opts).await,
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
        Ok(handshake) => handshake.finish(quic, local, remote, opts).await,
        Err(failure) => Err(failure.into()),
    };
    finished.map_err(|failure| failure.at(stage.stage()))
}
