//! From a pair of addresses to a connection whose peer has proven who it is.
//!
//! DTLS proves that the other side has the certificate; the noise handshake on the first channel, whose prologue has
//! both certificates' fingerprints in it, proves that the owner of that certificate is the peer (webrtc-direct.md,
//! "Connection Security").

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll};

use futures::FutureExt as _;
use peerage_core::{Multiaddr, ProtocolId};
use peerage_muxer::{Connection, ConnectionError, Muxed, handles::Handle};
use peerage_security::{Authenticated, noise};
use tokio::time::Instant;

use super::{
    Error,
    certificate::{Certificate, Fingerprint},
    driver::{self, Parts},
    handle::Shared,
    ice::Checks,
    listen::Accepted,
    path::{Dialed, Path},
    session::{Ended, Session, Side},
    transport::Own,
};
use crate::{
    Established, Fault, Resumption, Role, Stage, UpgradeError, UpgradeOpts, upgrade::UpgradeErrorKind,
};

/// What js-libp2p calls the data channels as a muxer.
pub const MUXER: ProtocolId = ProtocolId::from_static("/webrtc");

/// What the other side may send and this side has not read, in bytes: the first for which there is memory.
const WINDOWS: [u32; 2] = [512 * 1024, 128 * 1024];

/// "libp2p-webrtc-noise:", and the fingerprints of dialer and listener.
const PROLOGUE: &[u8] = b"libp2p-webrtc-noise:";

/// A listener's part.
pub(super) async fn accept(
    own: Arc<Own>,
    path: Accepted,
    addresses: (Multiaddr, Multiaddr),
    opts: UpgradeOpts,
) -> Result<Established, UpgradeError> {
    let certificate = &own.certificate;
    let start = Start { side: Side::Listener, certificate, expected: vec![], checks: None };
    complete(&own, path, start, addresses, opts, Accepted::established).await
}

/// A dialer's part, once the listener has answered.
pub(super) async fn dial(
    own: Arc<Own>,
    path: Dialed,
    checks: Checks,
    expected: Vec<Fingerprint>,
    addresses: (Multiaddr, Multiaddr),
    opts: UpgradeOpts,
) -> Result<Established, UpgradeError> {
    let certificate = &Certificate::random().ok_or_else(|| failure(Fault::Local, Error::Randomness))?;
    let start = Start { side: Side::Dialer, certificate, expected, checks: Some(checks) };
    complete(&own, path, start, addresses, opts, |_| {}).await
}

struct Start<'a> {
    side: Side,
    certificate: &'a Certificate,
    expected: Vec<Fingerprint>,
    checks: Option<Checks>,
}

async fn complete<P: Path>(
    own: &Own,
    path: P,
    start: Start<'_>,
    addresses: (Multiaddr, Multiaddr),
    opts: UpgradeOpts,
    established: impl FnOnce(&P),
) -> Result<Established, UpgradeError> {
    let Start { side, certificate, expected, checks } = start;
    let [most, least] = WINDOWS;
    let reserve = |window| {
        let bytes = usize::try_from(window).unwrap_or(usize::MAX);
        opts.budget.reserve(bytes).map(|held| (window, held))
    };
    let (window, held) = reserve(most)
        .or_else(|_| reserve(least))
        .map_err(|refusal| failure_of(Fault::Local, UpgradeErrorKind::NoMemory(refusal)))?;
    let session = Session::new(side, certificate, expected, window, Instant::now().into_std());
    let shared = Arc::new(Shared::new(side, opts.budget));
    let parts = Parts { path, session, checks, shared: Arc::clone(&shared), window, held };
    let mut driver = driver::Driver::new(parts);

    let mut config = own.noise.clone();
    if let Some(peer) = opts.expected {
        config = config.expecting(peer);
    }
    let handshake = authenticate(&shared, side, certificate.fingerprint, config);
    let authenticated = drive(&mut driver, handshake, &shared).await?;
    established(driver.path());
    let (local, remote) = addresses;
    let connection = Connection::new(Arc::new(Handle::new(Arc::clone(&shared.streams))));
    Ok(Established {
        peer: authenticated.peer,
        local,
        remote,
        limited: false,
        security: noise::PROTOCOL,
        muxer: MUXER,
        early_muxer: true,
        resumption: Resumption::default(),
        muxed: Muxed { connection, driver: peerage_muxer::Driver::new(driver) },
    })
}

/// The noise handshake, in the roles that the spec gives the two sides: the listener can speak first.
async fn authenticate(
    shared: &Arc<Shared>,
    side: Side,
    own: Fingerprint,
    config: noise::Config,
) -> Result<Authenticated, UpgradeError> {
    let theirs = shared.secured().await.map_err(ended)?;
    let (role, prologue) = match side {
        Side::Dialer => (Role::Responder, prologue(own, theirs)),
        Side::Listener => (Role::Initiator, prologue(theirs, own)),
    };
    let (_, authenticated) =
        noise::upgrade(shared.handshake(), role, &config.prologue(prologue)).await.map_err(refused)?;
    Ok(authenticated)
}

/// What both sides know of the connection, and nobody in between could make the same on both of his.
pub(super) fn prologue(dialer: Fingerprint, listener: Fingerprint) -> Vec<u8> {
    [PROLOGUE, &dialer.to_multihash(), &listener.to_multihash()].concat()
}

/// Runs the driver until the handshake is done, or one of the two fails.
async fn drive<P: Path>(
    driver: &mut driver::Driver<P>,
    handshake: impl Future<Output = Result<Authenticated, UpgradeError>>,
    shared: &Shared,
) -> Result<Authenticated, UpgradeError> {
    let mut handshake = std::pin::pin!(handshake);
    poll_fn(|cx| {
        let done = handshake.as_mut().poll(cx);
        // What the handshake has left to be sent goes out even if nobody runs the driver for now.
        let driven = Pin::new(&mut *driver).poll(cx);
        if done.is_ready() {
            return done;
        }
        match driven {
            Poll::Ready(result) => {
                // The session knows better what happened.
                let why = shared.secured().now_or_never();
                Poll::Ready(Err(match (why, result) {
                    (Some(Err(why)), _) => ended(why),
                    (_, Err(error)) => broken(error),
                    (_, Ok(())) => failure_of(Fault::Network, UpgradeErrorKind::Closed),
                }))
            }
            // It may have brought what the handshake waits for, and will then be woken.
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn refused(error: noise::Error) -> UpgradeError {
    let fault = error.fault();
    let kind = match error {
        noise::Error::WrongPeer { expected, found } => UpgradeErrorKind::WrongPeer { expected, found },
        noise::Error::Closed => UpgradeErrorKind::Closed,
        noise::Error::Io(error) => UpgradeErrorKind::Io(error),
        error => UpgradeErrorKind::Noise(error),
    };
    failure_of(fault, kind)
}

fn ended(why: Ended) -> UpgradeError {
    match why {
        Ended::ByPeer | Ended::Closed => failure_of(Fault::Network, UpgradeErrorKind::Closed),
        Ended::Certificate { expected, found } => {
            failure(Fault::Remote, Error::Certificate { expected, found })
        }
        why @ (Ended::Dtls(_) | Ended::Sctp(_)) => failure(Fault::Remote, Error::Protocol(why.to_string())),
    }
}

fn broken(error: ConnectionError) -> UpgradeError {
    match error {
        ConnectionError::Io(error) => failure_of(Fault::Network, UpgradeErrorKind::Io(error)),
        ConnectionError::Protocol(what) => failure(Fault::Remote, Error::Protocol(what)),
        _ => failure_of(Fault::Network, UpgradeErrorKind::Closed),
    }
}

fn failure(fault: Fault, error: Error) -> UpgradeError {
    failure_of(fault, UpgradeErrorKind::WebRtc(error))
}

fn failure_of(fault: Fault, kind: UpgradeErrorKind) -> UpgradeError {
    UpgradeError { stage: Stage::Security, fault, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// webrtc-direct.md, "Test vectors".
    #[test]
    fn the_prologue_is_that_of_the_specification() {
        let unhex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let fingerprint =
            |text: &str| Fingerprint::from_multihash(&[&[0x12, 32][..], &unhex(text)].concat()).unwrap();
        let client = fingerprint("3e79af40d6059617a0d83b83a52ce73b0c1f37a72c6043ad2969e2351bdca870");
        let server = fingerprint("30fc9f469c207419dfdd0aab5f27a86c973c94e40548db9375cca2e915973b99");
        let expected = "6c69627032702d7765627274632d6e6f6973653a12203e79af40d6059617a0d83b83a52ce73b0c1f37a72c6043ad2\
            969e2351bdca870122030fc9f469c207419dfdd0aab5f27a86c973c94e40548db9375cca2e915973b99";
        assert_eq!(prologue(client, server), unhex(expected));
    }
}
