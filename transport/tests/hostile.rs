//! What the upgrade says of peers that do not keep to it, and that it says so at once. (Those that say nothing are in
//! `silence.rs`.)
#![allow(clippy::unwrap_used)]

mod common;

use common::{UNKNOWN, assert_error, lines, memory_link, opts, peer, secure, secured, upgrader, upgrader_by};
use peerage_core::{PeerId, ProtocolId, multistream::HEADER};
use peerage_security::tls;
use peerage_transport::{
    Fault, Io, Role, Stage, UpgradeError, Upgrader, select,
    upgrade::{Security, UpgradeErrorKind as Kind},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

#[track_caller]
fn assert_wrong_peer(error: &UpgradeError, someone: PeerId) {
    assert_error(error, Stage::Security, Fault::Remote);
    let Kind::WrongPeer { expected, found } = error.kind else { panic!("{error}") };
    assert_eq!((expected, found), (peer(3), someone));
}

#[tokio::test(start_paused = true)]
async fn another_listener_than_expected() {
    for &security in Security::ALL {
        let (near, far) = memory_link().await;
        let (one, two) = (upgrader_by(security, 1), upgrader_by(security, 2));
        let (near, far) = tokio::join!(
            one.upgrade(near, opts(Role::Initiator, Some(peer(3)))),
            two.upgrade(far, opts(Role::Responder, None))
        );
        assert_wrong_peer(&near.unwrap_err(), peer(2));
        let left = far.unwrap_err();
        match security {
            // It is the one protocol that says so.
            Security::Tls => {
                assert_error(&left, Stage::Security, Fault::Remote);
                assert!(matches!(left.kind, Kind::Tls(tls::Error::Refused(_))), "{left}");
            }
            // The initiator said who it is before it was sure of the other.
            Security::Plaintext => {
                assert_error(&left, Stage::Muxer, Fault::Network);
                assert!(matches!(left.kind, Kind::Closed), "{left}");
            }
            _ => {
                assert_error(&left, Stage::Security, Fault::Network);
                assert!(matches!(left.kind, Kind::Closed), "{left}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_dialer_than_expected() {
    for &security in Security::ALL {
        let (near, far) = memory_link().await;
        let (one, two) = (upgrader_by(security, 1), upgrader_by(security, 2));
        let (near, far) = tokio::join!(
            one.upgrade(near, opts(Role::Initiator, None)),
            two.upgrade(far, opts(Role::Responder, Some(peer(3))))
        );
        assert_wrong_peer(&far.unwrap_err(), peer(1));
        // The initiator has said its last word before it is judged, and finds an end where the connection was.
        match near {
            Ok(near) => drop(near.muxed.driver.await.unwrap_err()),
            Err(error) => assert_error(&error, Stage::Muxer, Fault::Network),
        }
    }
}

/// A client that is refused after its handshake, and has a muxer to negotiate, hears why there.
#[tokio::test(start_paused = true)]
async fn a_dialer_that_is_refused_late() {
    let (near, far) = memory_link().await;
    let mut config = peerage_transport::upgrade::Config::default();
    config.security = vec![Security::Tls];
    let one = Upgrader::new(&common::keypair(1), config);
    let other = async {
        let mut io = far.io;
        select::listen(&mut io, |_| Some(tls::PROTOCOL)).await.unwrap();
        // Without early muxers, so that the dialer goes on to negotiate.
        let config = tls::Config::new(&common::keypair(2)).unwrap().expecting(peer(3));
        tls::upgrade(io, Role::Responder, &config).await.unwrap_err()
    };
    let (near, refused) = tokio::join!(one.upgrade(near, opts(Role::Initiator, None)), other);
    assert!(matches!(refused, tls::Error::WrongPeer { .. }), "{refused}");
    let error = near.unwrap_err();
    assert_error(&error, Stage::Security, Fault::Remote);
    assert!(matches!(error.kind, Kind::Tls(tls::Error::Refused(_))), "{error}");
}

/// Each reads its own proposal's echo in the other's proposal, and learns better from the handshake. (plaintext has
/// none, and its two sides do the same.)
#[tokio::test(start_paused = true)]
async fn two_initiators_do_not_get_along() {
    for security in [Security::Noise, Security::Tls] {
        let (near, far) = memory_link().await;
        let (one, two) = (upgrader_by(security, 1), upgrader_by(security, 2));
        let start = Instant::now();
        let (near, far) = tokio::join!(
            one.upgrade(near, opts(Role::Initiator, None)),
            two.upgrade(far, opts(Role::Initiator, None))
        );
        for error in [near.unwrap_err(), far.unwrap_err()] {
            assert_eq!(error.stage, Stage::Security);
        }
        assert_eq!(start.elapsed(), std::time::Duration::ZERO);
    }
}

/// What our side, in either role, makes of a peer whose side of the link `other` plays.
async fn against<F, T>(one: Upgrader, role: Role, other: impl FnOnce(Box<dyn Io>) -> F) -> UpgradeError
where
    F: Future<Output = T>,
{
    let (near, far) = memory_link().await;
    let start = Instant::now();
    let (result, _) = tokio::join!(one.upgrade(near, opts(role, None)), other(far.io));
    assert_eq!(start.elapsed(), std::time::Duration::ZERO, "seen when it happens");
    result.unwrap_err()
}

const ROLES: [Role; 2] = [Role::Initiator, Role::Responder];

async fn saying(one: Upgrader, role: Role, said: Vec<u8>) -> UpgradeError {
    // It keeps its end open: what is wrong has to be seen in what was said.
    against(one, role, async move |mut io: Box<dyn Io>| {
        io.write_all(&said).await.unwrap();
        let _ = io.read_to_end(&mut Vec::new()).await;
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_speak_multistream_select() {
    for role in ROLES {
        for said in [
            // "G" is a length of 71.
            format!("GET / HTTP/1.1\r\nUser-Agent: {}\r\n\r\n", "x".repeat(50)).into_bytes(),
            vec![0xff; 9],
            vec![0xff; 11],
            vec![0x81, 0x08],
            vec![0x00],
            lines(&["/multistream/2.0.0"]),
        ] {
            let error = saying(upgrader(1), role, said.clone()).await;
            assert_error(&error, Stage::Security, Fault::Remote);
            assert!(matches!(error.kind, Kind::Negotiation(_)), "{said:?}: {error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_instead_of_noise() {
    for role in ROLES {
        for garbage in [&[0, 0][..], &[0, 4, 1, 2, 3, 4], &[0xff, 0xff], &[0, 32], &[0, 200]] {
            let mut said = lines(&[HEADER, "/noise"]);
            said.extend_from_slice(garbage);
            if let [0, len @ (32 | 200)] = garbage {
                said.extend(vec![7; usize::from(*len)]);
                // 32 bytes of anything are a public key; it is what follows that is wrong.
                said.extend([0, 64].iter().chain(&[9; 64]));
            }
            let error = saying(upgrader(1), role, said).await;
            assert_error(&error, Stage::Security, Fault::Remote);
            assert!(matches!(error.kind, Kind::Noise(_)), "{garbage:?}: {error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_instead_of_tls_or_plaintext() {
    for role in ROLES {
        for garbage in [&[0xff; 16][..], b"GET / HTTP/1.1\r\n\r\n", &[0x7f; 300]] {
            for security in [Security::Tls, Security::Plaintext] {
                let mut said = lines(&[HEADER, security.protocol().as_str()]);
                said.extend_from_slice(garbage);
                said.extend_from_slice(&[0; 200]);
                let error = saying(upgrader_by(security, 1), role, said).await;
                assert_error(&error, Stage::Security, Fault::Remote);
                assert!(matches!(error.kind, Kind::Tls(_) | Kind::Plaintext(_)), "{garbage:?}: {error}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_speaks_only_an_unknown_security_protocol() {
    let error = against(upgrader(1), Role::Initiator, async |mut io: Box<dyn Io>| {
        select::listen(&mut io, |name| (UNKNOWN == *name).then_some(UNKNOWN)).await
    })
    .await;
    assert_error(&error, Stage::Security, Fault::Remote);
    assert!(matches!(error.kind, Kind::NoCommonSecurity), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_dialer_that_speaks_only_unknown_security_protocols() {
    let plaintext = ProtocolId::from_static("/plaintext/2.0.0");
    let error = against(upgrader(1), Role::Responder, async |mut io: Box<dyn Io>| {
        select::dial(&mut io, vec![UNKNOWN, plaintext]).await
    })
    .await;
    assert_error(&error, Stage::Security, Fault::Remote);
    assert!(matches!(error.kind, Kind::NoCommonSecurity), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves() {
    for &security in Security::ALL {
        for role in ROLES {
            let error = against(upgrader_by(security, 1), role, async |mut io: Box<dyn Io>| {
                io.write_all(&lines(&[HEADER, security.protocol().as_str()])).await.unwrap();
                io.shutdown().await.unwrap();
                let _ = io.read_to_end(&mut Vec::new()).await;
            })
            .await;
            assert_error(&error, Stage::Security, Fault::Network);
            assert!(matches!(error.kind, Kind::Closed), "{security}, {role:?}: {error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_muxer_in_common_named_in_the_handshake() {
    let noise = Security::Noise;
    let error = against(upgrader_by(noise, 1), Role::Initiator, async |io| {
        drop(secure(noise, io, Role::Responder, &[UNKNOWN]).await);
    })
    .await;
    assert_error(&error, Stage::Muxer, Fault::Remote);
    assert!(matches!(error.kind, Kind::NoCommonMuxer), "{error}");
    // The initiator sees it first, and leaves without a word.
    let error = against(upgrader_by(noise, 1), Role::Responder, async |io| {
        drop(secure(noise, io, Role::Initiator, &[UNKNOWN]).await);
    })
    .await;
    assert_error(&error, Stage::Security, Fault::Network);
    assert!(matches!(error.kind, Kind::Closed), "{error}");
}

/// Also where both named some in a TLS handshake: "libp2p" among them leaves it to multistream-select.
#[tokio::test(start_paused = true)]
async fn no_muxer_in_common_afterwards() {
    for &security in Security::ALL {
        for early in [&[][..], &[UNKNOWN]] {
            if security == Security::Noise && !early.is_empty() {
                continue;
            }
            let error = against(upgrader_by(security, 1), Role::Initiator, async |io| {
                let mut io = secured(security, io, Role::Responder, early).await;
                select::listen(&mut io, |name| (UNKNOWN == *name).then_some(UNKNOWN)).await
            })
            .await;
            assert_error(&error, Stage::Muxer, Fault::Remote);
            assert!(matches!(error.kind, Kind::NoCommonMuxer), "{error}");
            let error = against(upgrader_by(security, 1), Role::Responder, async |io| {
                let mut io = secured(security, io, Role::Initiator, early).await;
                select::dial(&mut io, vec![UNKNOWN]).await
            })
            .await;
            assert_error(&error, Stage::Muxer, Fault::Remote);
            assert!(matches!(error.kind, Kind::NoCommonMuxer), "{error}");
        }
    }
}
