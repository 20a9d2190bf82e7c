//! Hostile libp2p certificates over QUIC, shown to a listener and to a dialer. What is wrong with each is the
//! same as over TLS (`security/src/tls/tests/certificates.rs`), because the same verifier judges them; here
//! it is seen that it is asked.
#![allow(clippy::unwrap_used)]

mod common;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use certificates::vectors::{ECDSA, ED25519, FORGED, SECP256K1};
use common::{keypair, opts};
use data_encoding::HEXLOWER;
use peerage_security::tls::{self, CertificateError, testing as certificates};
use peerage_transport::{
    DialOpts, Fault, ListenOpts, ListenerEvent, Role, Stage, Transport, UpgradeError, Upgrader,
    quic::{Config, Quic},
    udp::Sockets,
    upgrade::{self, UpgradeErrorKind},
};
use quinn::{
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
    rustls::{
        crypto::aws_lc_rs::default_provider as provider,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
        sign::{CertifiedKey, SingleCertAndKey},
    },
};
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_secs(30);

fn decode(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

/// Certificates and a key, which need not fit.
fn showing(chain: Vec<Vec<u8>>, key: &[u8]) -> Arc<SingleCertAndKey> {
    let key = PrivatePkcs8KeyDer::from(key.to_vec()).into();
    let key = provider().key_provider.load_private_key(key).unwrap();
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)))
}

/// What our listener says of a client that shows this.
async fn listener_says(shown: Arc<SingleCertAndKey>) -> UpgradeError {
    let quic = Quic::new(&keypair(2), Sockets::new(), Config::default());
    let any = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
    let mut listener = quic.listen(any, ListenOpts::default()).await.unwrap();
    let address = listener.addresses()[0].socket_addr().unwrap().addr;
    let mut config = tls::Config::new(&keypair(1)).unwrap().quic_client().unwrap().0;
    config.client_auth_cert_resolver = shown;
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let crypto = QuicClientConfig::try_from(config).unwrap();
    let dialing = async {
        let client = quinn::ClientConfig::new(Arc::new(crypto));
        // A client is done before the server has seen its certificate; then it hears what came of it.
        if let Ok(connection) = endpoint.connect_with(client, address, "0.0.0.0").unwrap().await {
            connection.closed().await;
        }
    };
    let accepting = async {
        let ListenerEvent::Incoming(link) = listener.next().await else { panic!("nobody") };
        let upgrader = Upgrader::new(&keypair(2), upgrade::Config::default());
        upgrader.finish(link, opts(Role::Responder, None)).await
    };
    let both = async { tokio::join!(dialing, accepting) };
    timeout(LONG, both).await.expect("both end").1.expect_err("it proves nothing")
}

/// What our dialer says of a server that shows this.
async fn dialer_says(shown: Arc<SingleCertAndKey>) -> UpgradeError {
    let mut config = tls::Config::new(&keypair(1)).unwrap().quic_server().unwrap().0;
    config.cert_resolver = shown;
    let crypto = QuicServerConfig::try_from(config).unwrap();
    let server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(server, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let port = endpoint.local_addr().unwrap().port();
    let quic = Quic::new(&keypair(2), Sockets::new(), Config::default());
    let dialing = async {
        let to = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap();
        let link = quic.dial(to, DialOpts::new(Instant::now() + LONG)).await.unwrap();
        let upgrader = Upgrader::new(&keypair(2), upgrade::Config::default());
        upgrader.finish(link, opts(Role::Initiator, None)).await
    };
    let accepting = async { endpoint.accept().await.unwrap().await };
    let both = async { tokio::join!(dialing, accepting) };
    timeout(LONG, both).await.expect("both end").0.expect_err("it proves nothing")
}

async fn both_say(chain: Vec<Vec<u8>>, key: &[u8]) -> [UpgradeError; 2] {
    [listener_says(showing(chain.clone(), key)).await, dialer_says(showing(chain, key)).await]
}

#[track_caller]
fn assert_is(error: &UpgradeError, expected: &tls::Error, name: &str) {
    assert_eq!((error.stage, error.fault), (Stage::Security, Fault::Remote), "{name}: {error}");
    let UpgradeErrorKind::Tls(found) = &error.kind else { panic!("{name}: {error:?}") };
    assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{name}");
}

#[tokio::test]
async fn every_hostile_certificate_is_refused_for_what_it_is() {
    for certificates::Hostile { name, certificate, key, wrong, .. } in certificates::hostile(&keypair(1)) {
        for error in both_say(vec![certificate], &key).await {
            assert_is(&error, &tls::Error::Certificate(wrong.clone()), name);
        }
    }
}

/// They have been published, so anybody can show them. Those that hold prove nothing without their key.
#[tokio::test]
async fn the_certificates_of_the_spec_without_their_keys() {
    let (_, key) = certificates::issue(&keypair(1));
    for certificate in [ED25519, ECDSA, SECP256K1] {
        for error in both_say(vec![decode(certificate)], &key).await {
            assert_is(&error, &tls::Error::BadSignature, "not its own key");
        }
    }
    for error in both_say(vec![decode(FORGED)], &key).await {
        assert_is(&error, &tls::Error::Certificate(CertificateError::BadSignature), "forged");
    }
}

#[tokio::test]
async fn a_chain_is_refused() {
    let (certificate, key) = certificates::issue(&keypair(1));
    let (other, _) = certificates::issue(&keypair(3));
    for error in both_say(vec![certificate, other], &key).await {
        assert_is(&error, &tls::Error::Certificate(CertificateError::Chain(2)), "two");
    }
}

#[tokio::test]
async fn every_kind_of_damage_is_refused() {
    let (certificate, key) = certificates::issue(&keypair(1));
    for at in (0..certificate.len()).step_by(29) {
        let mut damaged = certificate.clone();
        damaged[at] ^= 0x10;
        for error in both_say(vec![damaged], &key).await {
            assert_eq!((error.stage, error.fault), (Stage::Security, Fault::Remote), "{at}: {error}");
        }
    }
}
