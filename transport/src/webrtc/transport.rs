//! The transport: what dials and what listens.

use std::{fmt, future::poll_fn, io, net::IpAddr, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use peerage_core::{Keypair, Multiaddr, Protocol, multiaddr};
use peerage_security::noise;
use tokio::time::{self, Instant};

use super::{
    certificate::{Certificate, Fingerprint},
    ice::Checks,
    listen::{Listening, address},
    names::{Credentials, Version},
    path::{Dialed, Path as _},
    stun, upgrade,
};
use crate::{
    DialOpts, Link, ListenError, ListenOpts, Listener, Transport, TransportError, Unfinished, udp::Sockets,
};

/// Certificates that one address may name.
const MAX_CERTIFICATES: usize = 4;

/// The webrtc-direct transport. Clones share what they listen on.
#[derive(Clone)]
pub struct WebRtc {
    own: Arc<Own>,
    sockets: Sockets,
    listening: Listening,
    version: Version,
}

/// What a node brings into handshakes.
pub(super) struct Own {
    pub(super) noise: noise::Config,
    pub(super) certificate: Certificate,
}

impl WebRtc {
    /// A transport that proves to be `keypair`'s peer, and listens on `sockets`, which QUIC may have as well.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, as [`Keypair::generate`] does.
    #[allow(clippy::expect_used, reason = "a machine without randomness can do nothing that follows")]
    pub fn new(keypair: &Keypair, sockets: Sockets) -> Self {
        let noise = noise::Config::new(keypair).expect("the operating system gives randomness");
        let own = Own { noise, certificate: Certificate::derive(keypair) };
        Self { own: Arc::new(own), sockets, listening: Listening::default(), version: Version::default() }
    }

    /// The version that this node dials with. Default: [`Version::V1`], which every listener understands.
    #[must_use]
    pub fn dialing_with(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// The certificate that this node's addresses name.
    pub fn fingerprint(&self) -> Fingerprint {
        self.own.certificate.fingerprint
    }
}

impl Transport for WebRtc {
    fn name(&self) -> &'static str {
        "webrtc-direct"
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        dialable(address).is_some()
    }

    fn listens(&self, address: &Multiaddr) -> bool {
        Target::parse(address).is_some_and(|target| target.certificates.is_empty())
    }

    fn brings_security(&self) -> bool {
        true
    }

    /// Dials from a socket of its own: [`DialOpts::reuse_listen_port`] changes nothing.
    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        let (own, version) = (Arc::clone(&self.own), self.version);
        async move {
            let target = dialable(&address).ok_or_else(|| TransportError::Unsupported(address.clone()))?;
            time::timeout_at(opts.deadline, connect(own, version, target, address))
                .await
                .map_err(|_| TransportError::Timeout)?
        }
        .boxed()
    }

    fn listen(
        &self,
        address: Multiaddr,
        _: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        let Self { own, sockets, listening, .. } = self.clone();
        async move {
            let target = Target::parse(&address).filter(|target| target.certificates.is_empty());
            let Some(target) = target else {
                return Err(ListenError::Unsupported(address));
            };
            let bound = sockets.bind(target.socket).and_then(|socket| listening.listen(&socket, &own));
            match bound {
                Ok(bound) => Ok(Box::new(bound) as Box<dyn Listener>),
                Err(source) => Err(ListenError::Bind { address, source }),
            }
        }
        .boxed()
    }
}

impl fmt::Debug for WebRtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebRtc")
            .field("certificate", &self.own.certificate)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Asks until the listener answers.
async fn connect(
    own: Arc<Own>,
    version: Version,
    target: Target,
    remote: Multiaddr,
) -> Result<Link, TransportError> {
    let mut path = Dialed::connect(target.socket).await?;
    let credentials = Credentials::new(version).ok_or_else(|| io::Error::other("no randomness"))?;
    let mut checks = Checks::new(credentials, Instant::now().into_std());
    loop {
        let now = Instant::now().into_std();
        if let Some(check) = checks.handle_timeout(now) {
            poll_fn(|cx| path.poll_send(cx, &check)).await?;
        }
        let next = Instant::from_std(checks.poll_timeout());
        let Ok(received) = time::timeout_at(next, poll_fn(|cx| path.poll_recv(cx))).await else { continue };
        let message = received?;
        // A listener that checks as well is answered when it asks again.
        let now = Instant::now().into_std();
        if stun::is_stun(&message) && checks.handle_message(&message, target.socket, now).is_some() {
            break;
        }
    }
    let local = address(path.local);
    let addresses = (local.clone(), remote.clone());
    let handshake = move |opts| upgrade::dial(own, path, checks, target.certificates, addresses, opts);
    Ok(Link::Unfinished(Unfinished::new(local, remote, handshake)))
}

/// What an address of this transport says.
#[derive(Debug)]
struct Target {
    socket: std::net::SocketAddr,
    certificates: Vec<Fingerprint>,
}

impl Target {
    /// `/ip4/<a>/udp/<p>/webrtc-direct`, or the same with IPv6, with certificates behind it and nothing else. One that is
    /// named by another hash function than SHA-256 would ask for a handshake with that function, which nobody has.
    fn parse(address: &Multiaddr) -> Option<Self> {
        let mut parsed = address.socket_addr()?;
        let disguised = matches!(parsed.addr.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        let udp = parsed.transport == multiaddr::Transport::Udp;
        if !udp || disguised || parsed.rest.next() != Some(Protocol::WebrtcDirect) {
            return None;
        }
        let mut certificates = Vec::new();
        for part in parsed.rest {
            let Protocol::Certhash(hash) = part else { return None };
            if certificates.len() >= MAX_CERTIFICATES {
                return None;
            }
            certificates.push(Fingerprint::from_multihash(hash)?);
        }
        Some(Self { socket: parsed.addr, certificates })
    }
}

/// Where a dial goes, and which certificates may be there: at least one.
fn dialable(address: &Multiaddr) -> Option<Target> {
    Target::parse(address).filter(|target| {
        !target.certificates.is_empty() && target.socket.port() != 0 && !target.socket.ip().is_unspecified()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "uEiDjsMRCmPwcFJr79MiZb7kkJ65B5GSbk0yklZkbeFK4VQ";

    fn transport() -> WebRtc {
        WebRtc::new(&Keypair::generate(), Sockets::new())
    }

    #[test]
    fn addresses_are_dialed_with_a_certificate_and_listened_on_without() {
        let transport = transport();
        for (base, dials, listens) in [
            ("/ip4/127.0.0.1/udp/4001/webrtc-direct", true, true),
            ("/ip6/::1/udp/4001/webrtc-direct", true, true),
            ("/ip4/127.0.0.1/udp/0/webrtc-direct", false, true),
            ("/ip4/0.0.0.0/udp/4001/webrtc-direct", false, true),
            ("/ip4/127.0.0.1/udp/4001", false, false),
            ("/ip4/127.0.0.1/tcp/4001/webrtc-direct", false, false),
            ("/ip6/::ffff:127.0.0.1/udp/4001/webrtc-direct", false, false),
            ("/ip4/127.0.0.1/udp/4001/webrtc", false, false),
            ("/dns4/localhost/udp/4001/webrtc-direct", false, false),
        ] {
            let plain: Multiaddr = base.parse().unwrap();
            let named: Multiaddr = format!("{base}/certhash/{HASH}").parse().unwrap();
            assert!(!transport.dials(&plain) && !transport.listens(&named), "{base}");
            assert_eq!((transport.dials(&named), transport.listens(&plain)), (dials, listens), "{base}");
        }
    }

    #[test]
    fn certificates_are_named_by_sha256_and_by_a_few_names() {
        let transport = transport();
        let address = |hashes: usize| -> Multiaddr {
            let text =
                format!("/ip4/127.0.0.1/udp/1/webrtc-direct{}", format!("/certhash/{HASH}").repeat(hashes));
            text.parse().unwrap()
        };
        assert!(
            transport.dials(&address(MAX_CERTIFICATES)) && !transport.dials(&address(MAX_CERTIFICATES + 1))
        );
        // SHA-512.
        let mut hash = vec![0x13, 64];
        hash.extend([7; 64]);
        let other: Multiaddr = "/ip4/127.0.0.1/udp/1/webrtc-direct".parse().unwrap();
        assert!(!transport.dials(&other.with(Protocol::Certhash(&hash)).unwrap()));
    }
}
