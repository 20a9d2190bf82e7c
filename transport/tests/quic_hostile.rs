//! QUIC peers that mean no good, or do not know what they do.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Outcome, keypair, opts, peer};
use peerage_core::budget::Budget;
use peerage_security::tls;
use peerage_transport::{
    DialOpts, Fault, Link, ListenOpts, Listener, ListenerEvent, Role, Stage, Transport, UpgradeOpts,
    Upgrader,
    quic::{
        Config, MAX_LARGE_PACKET, MAX_PACKET, MAX_STREAMS, Quic, RECEIVE_WINDOW, RETRY_THRESHOLD, SEND_WINDOW,
    },
    udp::Sockets,
    upgrade::{self, UpgradeErrorKind},
};
use quinn::{
    VarInt,
    crypto::rustls::QuicClientConfig,
    rustls::{
        self, ConfigBuilder, DigitallySignedStruct, SignatureScheme,
        client::{
            WantsClientCert,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::aws_lc_rs::default_provider as provider,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    },
};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout},
};

const LONG: Duration = Duration::from_secs(30);

fn quic(seed: u8) -> Quic {
    Quic::new(&keypair(seed), Sockets::new(), Config::default())
}

async fn listen() -> (Box<dyn Listener>, SocketAddr) {
    let address = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
    let listener = quic(2).listen(address, ListenOpts::default()).await.unwrap();
    let address = listener.addresses()[0].socket_addr().unwrap().addr;
    (listener, address)
}

async fn next(listener: &mut Box<dyn Listener>) -> Link {
    match timeout(LONG, listener.next()).await.expect("somebody comes") {
        ListenerEvent::Incoming(link) => link,
        other => panic!("{other:?}"),
    }
}

async fn finish(link: Link, budget: Budget) -> Outcome {
    let upgrader = Upgrader::new(&keypair(2), upgrade::Config::default());
    upgrader.finish(link, UpgradeOpts { budget, ..opts(Role::Responder, None) }).await
}

/// The client's configuration of an honest peer, to be spoiled.
fn honest() -> rustls::ClientConfig {
    tls::Config::new(&keypair(1)).unwrap().quic_client().unwrap().0
}

fn client(config: rustls::ClientConfig) -> (quinn::Endpoint, quinn::ClientConfig) {
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    (endpoint, quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap())))
}

/// A client that is otherwise honest, and what the listener makes of it.
async fn strange(
    config: rustls::ClientConfig,
) -> (Result<quinn::Connection, quinn::ConnectionError>, Outcome) {
    let (mut listener, address) = listen().await;
    let (endpoint, config) = client(config);
    let dialed = async { endpoint.connect_with(config, address, "0.0.0.0").unwrap().await };
    let accepted = async { finish(next(&mut listener).await, Budget::unlimited()).await };
    timeout(LONG, async { tokio::join!(dialed, accepted) }).await.expect("both end")
}

/// Takes any server, and counts how many it was shown.
#[derive(Clone, Debug, Default)]
struct Anybody(Arc<AtomicUsize>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn strange_config(anybody: Anybody) -> ConfigBuilder<rustls::ClientConfig, WantsClientCert> {
    rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody))
}

#[tokio::test]
async fn no_certificate() {
    let mut config = strange_config(Anybody::default()).with_no_client_auth();
    config.alpn_protocols = vec![b"libp2p".to_vec()];
    let (_, accepted) = strange(config).await;
    let error = accepted.unwrap_err();
    assert_eq!((error.stage, error.fault), (Stage::Security, Fault::Remote));
    assert!(matches!(error.kind, UpgradeErrorKind::Tls(tls::Error::NoCertificate)), "{error:?}");
}

#[tokio::test]
async fn a_certificate_that_is_no_libp2p_certificate() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut config = strange_config(Anybody::default())
        .with_client_auth_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = vec![b"libp2p".to_vec()];
    let (_, accepted) = strange(config).await;
    let error = accepted.unwrap_err();
    assert_eq!((error.stage, error.fault), (Stage::Security, Fault::Remote));
    let reason = tls::CertificateError::NoExtension;
    assert!(
        matches!(&error.kind, UpgradeErrorKind::Tls(tls::Error::Certificate(why)) if *why == reason),
        "{error:?}"
    );
}

#[tokio::test]
async fn another_protocol_or_none_at_all() {
    for alpn in [vec![], vec![b"h3".to_vec()]] {
        let mut config = honest();
        config.alpn_protocols = alpn;
        let (dialed, accepted) = strange(config).await;
        let error = accepted.unwrap_err();
        assert_eq!((error.stage, error.fault), (Stage::Security, Fault::Remote), "{error:?}");
        assert!(dialed.is_err());
    }
}

/// The server hands out tickets; a session that is resumed shows no certificate again.
#[tokio::test]
async fn who_comes_back_with_a_ticket_is_still_known() {
    let (mut listener, address) = listen().await;
    let config = honest();
    let anybody = Anybody::default();
    let mut lenient =
        strange_config(anybody.clone()).with_client_cert_resolver(config.client_auth_cert_resolver.clone());
    lenient.alpn_protocols = config.alpn_protocols.clone();
    lenient.enable_sni = false;
    let (endpoint, config) = client(lenient);
    for _ in 0..3 {
        let dialed = async {
            let connection =
                endpoint.connect_with(config.clone(), address, "0.0.0.0").unwrap().await.unwrap();
            // The ticket comes with, or after, the first stream.
            let (mut send, _recv) = connection.open_bi().await.unwrap();
            send.write_all(b"?").await.unwrap();
            connection
        };
        let accepted = async { finish(next(&mut listener).await, Budget::unlimited()).await.unwrap() };
        let (connection, accepted) = timeout(LONG, async { tokio::join!(dialed, accepted) }).await.unwrap();
        assert_eq!(accepted.peer, peer(1));
        let driver = tokio::spawn(accepted.muxed.driver);
        accepted.muxed.connection.accept().await.unwrap();
        accepted.muxed.connection.close(peerage_muxer::ErrorCode::NONE);
        connection.closed().await;
        driver.await.unwrap().unwrap();
    }
    assert_eq!(anybody.0.load(Ordering::Relaxed), 1, "the later ones were resumed");
}

/// A peer that writes on every stream it may open, to somebody who reads nothing.
#[tokio::test]
async fn what_nobody_reads_is_bounded_by_the_budget() {
    let (mut listener, address) = listen().await;
    let (endpoint, config) = client(honest());
    let long_packets = 10 * usize::from(MAX_LARGE_PACKET - MAX_PACKET);
    let base = (RECEIVE_WINDOW + SEND_WINDOW) as usize + long_packets;
    // Room for one step of growth, and not for two.
    let budget = Budget::limited(base + RECEIVE_WINDOW as usize);
    let dialed = async { endpoint.connect_with(config, address, "0.0.0.0").unwrap().await.unwrap() };
    let accepted = async { finish(next(&mut listener).await, budget).await.unwrap() };
    let (connection, accepted) = tokio::join!(dialed, accepted);
    let driver = tokio::spawn(accepted.muxed.driver);
    connection.set_send_window(1 << 30);
    let mut written = 0;
    let mut streams = Vec::new();
    for _ in 0..MAX_STREAMS {
        let Ok(Ok((mut send, recv))) = timeout(Duration::from_millis(200), connection.open_bi()).await else {
            break;
        };
        // However long it tries.
        while let Ok(Ok(())) = timeout(Duration::from_millis(50), send.write_all(&[7; 10_000])).await {
            written += 10_000;
        }
        streams.push((send, recv));
        if streams.len() > 8 && written >= 2 * RECEIVE_WINDOW as usize - 20_000 {
            break;
        }
    }
    assert!(written <= 2 * RECEIVE_WINDOW as usize, "{written}");
    assert!(!driver.is_finished(), "it did nothing that is forbidden");
    driver.abort();
}

/// Resets, in a loop.
#[tokio::test]
async fn streams_that_are_reset_as_soon_as_they_are_opened() {
    let (mut listener, address) = listen().await;
    let (endpoint, config) = client(honest());
    let dialed = async { endpoint.connect_with(config, address, "0.0.0.0").unwrap().await.unwrap() };
    let accepted = async { finish(next(&mut listener).await, Budget::unlimited()).await.unwrap() };
    let (connection, accepted) = tokio::join!(dialed, accepted);
    let driver = tokio::spawn(accepted.muxed.driver);
    let flood = async {
        for _ in 0..5_000 {
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            send.reset(VarInt::from_u32(1)).unwrap();
            recv.stop(VarInt::from_u32(1)).unwrap();
        }
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(b"honest").await.unwrap();
        send.finish().unwrap();
        send.stopped().await.unwrap();
    };
    let accepting = async {
        loop {
            let mut stream = accepted.muxed.connection.accept().await.unwrap();
            if peerage_muxer::testing::read_to_end(&mut stream).await.is_ok_and(|all| all == b"honest") {
                break;
            }
        }
    };
    timeout(LONG, async { tokio::join!(flood, accepting) }).await.expect("in time");
    driver.abort();
}

/// First packets of clients that are not there: taken from dials to nobody, and sent from many places.
async fn first_packets(count: usize) -> Vec<Vec<u8>> {
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address: peerage_core::Multiaddr =
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", nobody.local_addr().unwrap().port()).parse().unwrap();
    let near = quic(1);
    let mut packets = Vec::new();
    let mut buffer = vec![0; 2000];
    let mut known = HashSet::new();
    while packets.len() < count {
        let dial = near.dial(address.clone(), DialOpts::new(Instant::now() + LONG));
        let received = tokio::select! {
            _ = dial => panic!("nobody answers"),
            received = nobody.recv(&mut buffer) => received.unwrap(),
        };
        // A client's first flight is two datagrams with one destination connection id (RFC 9000, section 17.2).
        if known.insert(buffer[5..26].to_vec()) {
            packets.push(buffer[..received].to_vec());
        }
    }
    packets
}

fn is_retry(datagram: &[u8]) -> bool {
    // RFC 9000, section 17.2.5.
    datagram.first().is_some_and(|first| first & 0xf0 == 0xf0)
}

#[tokio::test]
async fn forged_first_packets_do_not_keep_others_out() {
    let (mut listener, address) = listen().await;
    let packets = first_packets(100).await;
    let forger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for packet in packets.iter().take(RETRY_THRESHOLD) {
        forger.send_to(packet, address).await.unwrap();
    }
    // They take what there is of places without a proof.
    let mut half_open = Vec::new();
    for _ in 0..RETRY_THRESHOLD {
        half_open.push(next(&mut listener).await);
    }
    // From now on everybody is asked for one.
    let mut asked = 0;
    let mut buffer = vec![0; 2000];
    for packet in packets.iter().skip(RETRY_THRESHOLD) {
        forger.send_to(packet, address).await.unwrap();
        let received = tokio::select! {
            link = listener.next() => panic!("{link:?}"),
            received = timeout(LONG, forger.recv(&mut buffer)) => received.expect("an answer").unwrap(),
        };
        assert!(received <= packet.len(), "no more than it sent");
        asked += usize::from(is_retry(&buffer[..received]));
    }
    assert_eq!(asked, 100 - RETRY_THRESHOLD);

    // One after the other, as fast as they are answered, while somebody honest comes, who proves its address and is let
    // in. (Faster, the system's own queue overflows, and whoever comes is lost in it with most of them.)
    let flood = tokio::spawn(async move {
        loop {
            for packet in &packets {
                let _ = forger.send_to(packet, address).await;
                tokio::task::yield_now().await;
            }
        }
    });
    let honest = quic(1);
    let to: peerage_core::Multiaddr =
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", address.port()).parse().unwrap();
    let dialed = async {
        let link = honest.dial(to, DialOpts::new(Instant::now() + LONG)).await.unwrap();
        let upgrader = Upgrader::new(&keypair(1), upgrade::Config::default());
        upgrader.finish(link, opts(Role::Initiator, Some(peer(2)))).await.unwrap()
    };
    let accepted = async { finish(next(&mut listener).await, Budget::unlimited()).await.unwrap() };
    let (dialed, accepted) = timeout(LONG, async { tokio::join!(dialed, accepted) }).await.expect("in time");
    flood.abort();
    assert_eq!((dialed.peer, accepted.peer), (peer(2), peer(1)));
    common::echo_both_ways(dialed, accepted).await;

    // Given up, the half-open ones are refused, and newcomers need no proof any more.
    drop(half_open);
}
