//! Handshakes. `certificates` has what is asked of certificates, `records` the encrypted stream that follows.

mod by_hand;
mod certificates;
mod records;

use peerage_core::{Keypair, ProtocolId, identity::KeyType};
use rustls::{
    NamedGroup, ProtocolVersion,
    crypto::aws_lc_rs::kx_group::{SECP256R1, X25519},
    server::Acceptor,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};

use super::{
    CertificateError, Config, Error, MAX_CERTIFICATE, TlsStream, certificate, testing, upgrade,
    verifier::Verifier,
};
use crate::{Authenticated, Fault, Role};
use by_hand::{ByHand, Flip};

const ROLES: [Role; 2] = [Role::Initiator, Role::Responder];

fn key(seed: u8) -> Keypair {
    Keypair::from_ed25519_seed([seed; 32])
}

fn config(seed: u8) -> Config {
    Config::new(&key(seed)).unwrap()
}

fn muxers(names: &[&str]) -> Vec<ProtocolId> {
    names.iter().map(|name| ProtocolId::new(*name).unwrap()).collect()
}

type Upgraded<S> = (TlsStream<S>, Authenticated);

/// Both sides, of which one may be a client that is done before the server has refused it.
async fn both<S>(
    pipe: (S, S),
    alice: &Config,
    bob: &Config,
) -> (Result<Upgraded<S>, Error>, Result<Upgraded<S>, Error>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio::join!(upgrade(pipe.0, Role::Initiator, alice), upgrade(pipe.1, Role::Responder, bob))
}

async fn connect(alice: &Config, bob: &Config) -> (Upgraded<DuplexStream>, Upgraded<DuplexStream>) {
    let (one, two) = both(duplex(16 * 1024), alice, bob).await;
    (one.unwrap(), two.unwrap())
}

/// What is read from a stream that is about to fail.
async fn read_error(stream: &mut (impl AsyncRead + Unpin)) -> Error {
    tls_error(stream.read_u8().await.unwrap_err())
}

fn tls_error(error: std::io::Error) -> Error {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).expect("one of ours").clone()
}

async fn send(from: &mut TlsStream<DuplexStream>, to: &mut TlsStream<DuplexStream>) {
    from.write_all(b"hello").await.unwrap();
    from.flush().await.unwrap();
    let mut read = [0; 5];
    to.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"hello");
}

#[tokio::test]
async fn each_learns_who_the_other_is() {
    let alice = config(1).expecting(key(2).peer_id());
    let bob = config(2).expecting(key(1).peer_id());
    // A configuration is good for many handshakes.
    for _ in 0..2 {
        let ((mut a, one), (mut b, two)) = connect(&alice, &bob).await;
        assert_eq!((one.peer, &one.public_key), (key(2).peer_id(), key(2).public()));
        assert_eq!((two.peer, &two.public_key), (key(1).peer_id(), key(1).public()));
        assert_eq!(a.session().protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let group = a.session().negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
        send(&mut a, &mut b).await;
        send(&mut b, &mut a).await;
    }
}

/// Each kind of key vouches for a certificate.
#[tokio::test]
async fn identities_of_every_kind() {
    for key_type in [KeyType::Ed25519, KeyType::Secp256k1, KeyType::Ecdsa, KeyType::Rsa] {
        let keypair = Keypair::generate_of(key_type);
        let ((_, one), (_, two)) =
            connect(&Config::new(&keypair).unwrap(), &Config::new(&keypair).unwrap()).await;
        assert_eq!((one.peer, two.peer), (keypair.peer_id(), keypair.peer_id()));
    }
}

#[tokio::test]
async fn another_responder_than_expected() {
    let alice = config(1).expecting(key(3).peer_id());
    let (one, two) = both(duplex(16 * 1024), &alice, &config(2)).await;
    let error = one.unwrap_err();
    assert_eq!(error.fault(), Fault::Remote);
    let Error::WrongPeer { expected, found } = error else { panic!("{error}") };
    assert_eq!((expected, found), (key(3).peer_id(), key(2).peer_id()));
    // It is told so, and not who the initiator is.
    assert!(matches!(two.unwrap_err(), Error::Refused(alert) if alert == "AccessDenied"));
}

#[tokio::test]
async fn another_initiator_than_expected() {
    let bob = config(2).expecting(key(3).peer_id());
    let (one, two) = both(duplex(16 * 1024), &config(1), &bob).await;
    let error = two.unwrap_err();
    assert!(matches!(error, Error::WrongPeer { found, .. } if found == key(1).peer_id()), "{error}");
    // The initiator was done before that, and reads of it.
    let (mut one, authenticated) = one.unwrap();
    assert_eq!(authenticated.peer, key(2).peer_id());
    let error = read_error(&mut one).await;
    assert!(matches!(&error, Error::Refused(alert) if alert == "AccessDenied"), "{error}");
    assert_eq!(read_error(&mut one).await.to_string(), error.to_string(), "errors stay");
}

#[tokio::test]
async fn muxers_are_settled_on_alike() {
    let agreed = async |alice: &[&str], bob: &[&str]| {
        let (alice, bob) = (config(1).offering(muxers(alice)), config(2).offering(muxers(bob)));
        let ((_, one), (_, two)) = connect(&alice, &bob).await;
        assert_eq!(one.muxer, two.muxer);
        one.muxer.map(|muxer| muxer.to_string())
    };
    assert_eq!(agreed(&["/y", "/m"], &["/m", "/y"]).await.as_deref(), Some("/y"));
    assert_eq!(agreed(&["/z", "/m"], &["/y", "/m"]).await.as_deref(), Some("/m"));
    // "libp2p" is common to all, and leaves it to multistream-select.
    assert_eq!(agreed(&["/y"], &["/m"]).await, None);
    assert_eq!(agreed(&["/y"], &[]).await, None);
    assert_eq!(agreed(&[], &["/y"]).await, None);
    assert_eq!(agreed(&[], &[]).await, None);
}

#[tokio::test]
async fn a_client_that_names_no_protocols_is_taken() {
    let bob = config(2).offering(muxers(&["/y"]));
    let (one, two) = ByHand::honest(1).naming(&[]).dials(&bob).await;
    assert_eq!(two.unwrap().1.muxer, None);
    one.unwrap();
    // And a server that answers nothing.
    let (one, two) = ByHand::honest(2).naming(&[]).answers(&config(1).offering(muxers(&["/y"]))).await;
    assert_eq!(one.unwrap().1.muxer, None);
    two.unwrap();
}

#[tokio::test]
async fn a_client_of_something_else_is_refused() {
    let (one, two) = ByHand::honest(1).naming(&["h2", "http/1.1"]).dials(&config(2)).await;
    assert!(matches!(two.unwrap_err(), Error::NoCommonMuxer));
    assert!(matches!(one.unwrap_err(), Error::NoCommonMuxer), "by its alert");
}

#[tokio::test]
async fn a_client_says_no_name_and_no_more_than_it_must() {
    let (a, mut b) = duplex(16 * 1024);
    let alice = config(1).offering(muxers(&["/y"]));
    let (mut acceptor, mut hello) = (Acceptor::default(), vec![0; 16 * 1024]);
    let len = tokio::select! {
        _ = upgrade(a, Role::Initiator, &alice) => panic!("without an answer"),
        len = b.read(&mut hello) => len.unwrap(),
    };
    acceptor.read_tls(&mut &hello[..len]).unwrap();
    let accepted = acceptor.accept().unwrap().unwrap();
    let hello = accepted.client_hello();
    assert_eq!(hello.server_name(), None);
    assert_eq!(hello.alpn().unwrap().collect::<Vec<_>>(), [&b"/y"[..], b"libp2p"]);
    assert_eq!(hello.cipher_suites().len(), 3, "of TLS 1.3 alone");
}

#[tokio::test]
async fn key_exchange_with_peers_that_know_less() {
    for (group, name) in [(X25519, NamedGroup::X25519), (SECP256R1, NamedGroup::secp256r1)] {
        let (one, two) = ByHand::honest(1).exchanging(group).dials(&config(2)).await;
        assert_eq!(two.unwrap().0.session().negotiated_key_exchange_group().unwrap().name(), name);
        one.unwrap();
        let (one, two) = ByHand::honest(2).exchanging(group).answers(&config(1)).await;
        assert_eq!(one.unwrap().0.session().negotiated_key_exchange_group().unwrap().name(), name);
        two.unwrap();
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let (one, two) = ByHand::anonymous().dials(&config(2)).await;
    let error = two.unwrap_err();
    assert!(matches!(error, Error::NoCertificate), "{error}");
    assert_eq!(error.fault(), Fault::Remote);
    // It was done by then, and reads of it.
    let mut one = one.unwrap();
    assert!(matches!(read_error(&mut one).await, Error::Refused(alert) if alert == "CertificateRequired"));
}

/// What our side, in each role, makes of a peer with this certificate.
async fn refusals(peer: impl Fn() -> ByHand) -> [Error; 2] {
    let (_, as_responder) = peer().dials(&config(2)).await;
    let (as_initiator, _) = peer().answers(&config(2)).await;
    [as_responder.unwrap_err(), as_initiator.unwrap_err()]
}

#[tokio::test]
async fn two_certificates_are_refused() {
    for error in refusals(|| ByHand::honest(1).and_certificate_of(3)).await {
        assert!(matches!(error, Error::Certificate(CertificateError::Chain(2))), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused() {
    let expired =
        || ByHand::with(certificates::altered(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)));
    for error in refusals(expired).await {
        assert!(matches!(error, Error::Certificate(CertificateError::Expired)), "{error}");
    }
    let future =
        || ByHand::with(certificates::altered(|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1)));
    for error in refusals(future).await {
        assert!(matches!(error, Error::Certificate(CertificateError::NotYetValid)), "{error}");
    }
    let bare = || ByHand::with(certificates::altered(|params| params.custom_extensions.clear()));
    for error in refusals(bare).await {
        assert!(matches!(error, Error::Certificate(_)), "{error}");
    }
    let long = || {
        let unknown = rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![0; MAX_CERTIFICATE]);
        ByHand::with(certificates::altered(|params| params.custom_extensions.push(unknown)))
    };
    for error in refusals(long).await {
        assert!(matches!(error, Error::Certificate(CertificateError::TooLong { .. })), "{error}");
    }
}

#[tokio::test]
async fn every_hostile_certificate_is_refused_for_what_it_is() {
    for testing::Hostile { name, certificate, key, wrong, .. } in testing::hostile(&key(1)) {
        let shown = || ByHand::showing(certificate.clone(), key.clone());
        for error in refusals(shown).await {
            assert!(matches!(&error, Error::Certificate(found) if *found == wrong), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn a_certificate_whose_extension_is_critical_is_taken() {
    let peer =
        || ByHand::with(certificates::altered(|params| params.custom_extensions[0].set_criticality(true)));
    let (_, as_responder) = peer().dials(&config(2)).await;
    let (as_initiator, _) = peer().answers(&config(2)).await;
    assert_eq!(as_responder.unwrap().1.peer, key(1).peer_id());
    assert_eq!(as_initiator.unwrap().1.peer, key(1).peer_id());
}

/// The certificate itself is public: everyone who dialed its owner has it.
#[tokio::test]
async fn a_certificate_without_its_key_is_worth_nothing() {
    for error in refusals(|| ByHand::honest(1).with_key_of_another()).await {
        assert!(matches!(error, Error::BadSignature), "{error}");
        assert_eq!(error.fault(), Fault::Remote);
    }
}

/// What the side in this role sends in a whole handshake.
async fn transcript(role: Role) -> Vec<u8> {
    let (near, ours) = duplex(64 * 1024);
    let (far, theirs) = duplex(64 * 1024);
    let (mut ours, mut theirs) = (Flip::new(ours), theirs);
    let (alice, bob) = (config(1), config(2));
    let relay = tokio::io::copy_bidirectional(&mut ours, &mut theirs);
    let handshake = async {
        match role {
            Role::Initiator => drop(both((near, far), &alice, &bob).await),
            Role::Responder => drop(both((far, near), &alice, &bob).await),
        }
    };
    let (_, ()) = tokio::join!(relay, handshake);
    ours.passed
}

#[tokio::test]
async fn a_peer_that_hangs_up_at_any_byte_is_an_error() {
    for role in ROLES {
        let said = transcript(role).await;
        // Its first message is what counts: what follows it answers another hello than that of the transcript.
        let first = 5 + usize::from(u16::from_be_bytes([said[3], said[4]]));
        for k in 0..first {
            let (ours, mut theirs) = duplex(64 * 1024);
            theirs.write_all(&said[..k]).await.unwrap();
            theirs.shutdown().await.unwrap();
            let ours_is = if role == Role::Initiator { Role::Responder } else { Role::Initiator };
            let error = upgrade(ours, ours_is, &config_of_2()).await.unwrap_err();
            assert!(matches!(error, Error::Closed), "{role:?}, {k} of {first}: {error}");
            assert_eq!(error.fault(), Fault::Network);
        }
    }
}

fn config_of_2() -> Config {
    static CONFIG: std::sync::LazyLock<Config> = std::sync::LazyLock::new(|| config(2));
    CONFIG.clone()
}

/// A bit that is changed on the way breaks the handshake, or, where TLS ignores it (versions that stand there for old
/// middleboxes), changes nothing; it never makes another peer, or a handshake that never ends.
#[tokio::test]
async fn flipped_bits() {
    let (alice, bob) = (config(1), config(2));
    let mut broken = 0;
    for role in ROLES {
        let len = transcript(role).await.len();
        for at in (0..len).step_by(5) {
            let (near, inner) = duplex(64 * 1024);
            let (far, outer) = duplex(64 * 1024);
            let (mut flip, mut outer) = (Flip::at(inner, at * 8 + at % 8), outer);
            let relay = async {
                let _ = tokio::io::copy_bidirectional(&mut flip, &mut outer).await;
                std::future::pending::<()>().await;
            };
            let pipe = if role == Role::Initiator { (near, far) } else { (far, near) };
            let handshake = both(pipe, &alice, &bob);
            // A changed length makes one side wait for what the other does not send.
            let limit = std::time::Duration::from_millis(200);
            let result = tokio::select! {
                result = tokio::time::timeout(limit, handshake) => result,
                () = relay => unreachable!(),
            };
            let Ok((one, two)) = result else {
                broken += 1;
                continue;
            };
            if let Ok((_, found)) = &one {
                assert_eq!(found.peer, key(2).peer_id(), "{role:?} {at}");
            }
            if let Ok((_, found)) = &two {
                assert_eq!(found.peer, key(1).peer_id(), "{role:?} {at}");
            }
            broken += usize::from(one.is_err() || two.is_err());
        }
    }
    assert!(broken > 400, "{broken}");
}

#[tokio::test]
async fn a_farewell_in_the_middle_of_the_handshake_is_an_error() {
    // close_notify, as a warning and as fatal.
    for level in [1, 2] {
        for role in ROLES {
            let (ours, mut theirs) = duplex(64 * 1024);
            theirs.write_all(&[21, 3, 3, 0, 2, level, 0]).await.unwrap();
            theirs.shutdown().await.unwrap();
            let error = upgrade(ours, role, &config(1)).await.unwrap_err();
            assert_ne!(error.fault(), Fault::Local, "{error}");
        }
    }
}

#[tokio::test]
async fn garbage_is_the_peers_fault() {
    for role in ROLES {
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0; 64],
            &[0xff; 64],
            &[22, 3, 1, 0xff, 0xff],
            &[22, 3, 3, 0, 0],
        ] {
            let (ours, mut theirs) = duplex(64 * 1024);
            theirs.write_all(garbage).await.unwrap();
            theirs.write_all(&[0; 600]).await.unwrap();
            let error = upgrade(ours, role, &config(1)).await.unwrap_err();
            assert!(matches!(error, Error::Protocol(_)), "{role:?}, {garbage:?}: {error}");
        }
    }
}

/// Two clients find out at once.
#[tokio::test]
async fn two_initiators_do_not_get_along() {
    let (a, b) = duplex(64 * 1024);
    let (alice, bob) = (config(1), config(2));
    let (one, two) = tokio::join!(upgrade(a, Role::Initiator, &alice), upgrade(b, Role::Initiator, &bob));
    assert!(matches!(one.unwrap_err(), Error::Protocol(_) | Error::Refused(_) | Error::Closed));
    assert!(matches!(two.unwrap_err(), Error::Protocol(_) | Error::Refused(_) | Error::Closed));
}

#[test]
fn nothing_secret_is_printed() {
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let verifier = Verifier::new(None, algorithms, Default::default());
    assert!(verifier.verdict().is_none());
    let (_, key) = certificate::issue(&key(1)).unwrap();
    let secret = format!("{:?}", key.secret_der());
    assert!(!format!("{:?}", config(1)).contains(&secret));
}
