//! Private networks: who has the key, who has another one, and who has none.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{
    Outcome, Then, assert_error, echo_both_ways, keypair, link, memory_link, opts, peer, slow, upgrade_both,
};
use peerage_security::pnet;
use peerage_transport::{
    Fault, Link, Raw, Role, Stage, Upgrader,
    pnet::PreSharedKey,
    tcp::Tcp,
    upgrade,
    upgrade::{Config, TIMEOUT, UpgradeErrorKind},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

/// Whose peer is `seed`, in the private network of this key.
fn member(seed: u8, key: Option<u8>) -> Upgrader {
    let mut config = Config::default();
    config.private_network = key.map(|key| PreSharedKey::from_bytes([key; 32]));
    Upgrader::new(&keypair(seed), config)
}

async fn upgrade(near: Raw, near_key: Option<u8>, far: Raw, far_key: Option<u8>) -> (Outcome, Outcome) {
    let (one, two) = (member(1, near_key), member(2, far_key));
    tokio::join!(
        one.upgrade(near, opts(Role::Initiator, Some(peer(2)))),
        two.upgrade(far, opts(Role::Responder, None))
    )
}

#[tokio::test]
async fn members_of_one_network_connect() {
    let (near, far) = memory_link().await;
    let (near, far) = upgrade(near, Some(7), far, Some(7)).await;
    echo_both_ways(near.unwrap(), far.unwrap()).await;
    let (near, far) = link(&Tcp::new(), "/ip4/127.0.0.1/tcp/0").await;
    let (near, far) = upgrade(near, Some(7), far, Some(7)).await;
    echo_both_ways(near.unwrap(), far.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn not_a_word_is_said_in_plaintext() {
    for role in [Role::Initiator, Role::Responder] {
        let (near, far) = memory_link().await;
        let one = member(1, Some(7));
        let listening = async {
            let mut io = far.io;
            let mut heard = Vec::new();
            io.write_all(&[9; 64]).await.unwrap();
            io.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let (failed, heard) = tokio::join!(one.upgrade(near, opts(role, None)), listening);
        failed.unwrap_err();
        assert!(heard.len() >= 24);
        assert!(!heard.windows(6).any(|window| window == b"/multi" || window == b"/noise"));
    }
}

#[tokio::test(start_paused = true)]
async fn members_of_different_networks_do_not() {
    // What the wrong key makes of the first words is different each time.
    for _ in 0..100 {
        let (near, far) = memory_link().await;
        let start = Instant::now();
        let (near, far) = upgrade(near, Some(7), far, Some(8)).await;
        assert!(start.elapsed() <= TIMEOUT);
        for error in [near.unwrap_err(), far.unwrap_err()] {
            assert_eq!(error.stage, Stage::Security);
            assert!(matches!(error.kind, UpgradeErrorKind::PreSharedKey(_)), "{error}");
            assert!(error.to_string().ends_with("is the pre-shared key the same on both sides?"), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_key_is_told_apart_from_either_side() {
    for _ in 0..100 {
        for keys in [[Some(7), None], [None, Some(7)]] {
            let (near, far) = memory_link().await;
            let start = Instant::now();
            let (near, far) = upgrade(near, keys[0], far, keys[1]).await;
            assert!(start.elapsed() <= TIMEOUT);
            let errors = [near.unwrap_err(), far.unwrap_err()];
            for (key, error) in keys.iter().zip(errors) {
                assert_eq!(error.stage, Stage::Security);
                // The keyless listener says nothing before it is spoken to, and may hang up at what it hears.
                let told = matches!(
                    error.kind,
                    UpgradeErrorKind::PrivateNetwork(pnet::Error::Plaintext)
                        | UpgradeErrorKind::PreSharedKey(_)
                );
                assert_eq!(told, key.is_some(), "{error}");
            }
        }
    }
    let (near, far) = memory_link().await;
    let (_, far) = upgrade(near, None, far, Some(7)).await;
    let error = far.unwrap_err();
    assert_error(&error, Stage::Security, Fault::Remote);
    assert!(error.to_string().contains("the peer has no pre-shared key"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn silence_and_drips_in_the_nonce_end_in_time() {
    for role in [Role::Initiator, Role::Responder] {
        // So many bytes at once, and then nothing; or a byte a second.
        for (said, more) in (0..=24).map(|said| (said, 0)).chain([(0, 24), (10, 14), (24, 100)]) {
            let (near, far) = memory_link().await;
            let one = member(1, Some(7));
            let start = Instant::now();
            let other = async {
                let mut io = far.io;
                io.write_all(&vec![3; said]).await.unwrap();
                for _ in 0..more {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    io.write_all(&[3]).await.unwrap();
                }
                std::future::pending::<()>().await;
            };
            let error = tokio::select! {
                result = one.upgrade(near, opts(role, None)) => result.unwrap_err(),
                () = other => unreachable!(),
            };
            assert!(start.elapsed() <= TIMEOUT, "{said} {more}");
            assert_eq!(error.stage, Stage::Security);
            let UpgradeErrorKind::PreSharedKey(why) = error.kind else { panic!("{error}") };
            // What follows the nonce may be refused at once.
            assert!(said + more > 24 || matches!(*why, UpgradeErrorKind::Timeout), "{why}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn drips_that_are_fast_enough_are_as_good_as_anything() {
    let (near, far) = memory_link().await;
    let near = slow(near, 0, Then::ByteEvery(Duration::from_millis(1)));
    let (near, far) = upgrade(near, Some(7), far, Some(7)).await;
    near.unwrap();
    far.unwrap();
}

#[tokio::test(start_paused = true)]
async fn links_that_come_secured_are_refused() {
    let (near, far) = memory_link().await;
    let (near, _far) = upgrade_both(upgrade::Security::Noise, near, far).await;
    let link = Link::Established(Box::new(near.unwrap()));
    let error = member(1, Some(7)).finish(link, opts(Role::Initiator, None)).await.unwrap_err();
    assert_error(&error, Stage::Security, Fault::Local);
    assert!(matches!(error.kind, UpgradeErrorKind::NotPrivate));

    let (near, far) = memory_link().await;
    let (near, _far) = upgrade_both(upgrade::Security::Noise, near, far).await;
    let link = Link::Established(Box::new(near.unwrap()));
    member(1, None).finish(link, opts(Role::Initiator, None)).await.unwrap();
}
