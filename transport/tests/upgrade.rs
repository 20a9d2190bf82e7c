//! The upgrade between honest peers, and what is left of one that does not come to its end.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use common::{
    UNKNOWN, YAMUX, accept, assert_error, echo_both_ways, has_early_muxer, keypair, lines, link, memory_link,
    opts, peer, secured, upgrade_both, upgrader_by, with,
};
use futures::FutureExt;
use peerage_core::{ProtocolId, multistream::HEADER};
use peerage_transport::{
    DialOpts, Fault, Io, Link, ListenOpts, Progress, Raw, Role, Stage, Transport, UpgradeOpts, Upgrader,
    memory::Network,
    select,
    tcp::Tcp,
    upgrade::{Config, Security, TIMEOUT},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Instant,
};

#[tokio::test(start_paused = true)]
async fn memory_through_a_full_upgrade() {
    for &security in Security::ALL {
        let (near, far) = memory_link().await;
        let addresses = (near.local.clone(), near.remote.clone());
        let (near, far) = upgrade_both(security, near, far).await;
        let (near, far) = (near.unwrap(), far.unwrap());
        assert_eq!((near.peer, far.peer), (peer(2), peer(1)));
        for end in [&near, &far] {
            assert_eq!((&end.security, &end.muxer), (&security.protocol(), &YAMUX));
            assert_eq!((end.early_muxer, end.limited), (has_early_muxer(security), false));
        }
        assert_eq!((near.local.clone(), near.remote.clone()), addresses);
        echo_both_ways(near, far).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_through_a_full_upgrade() {
    for &security in Security::ALL {
        for loopback in ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"] {
            let (near, far) = link(&Tcp::new(), loopback).await;
            let (near, far) = upgrade_both(security, near, far).await;
            echo_both_ways(near.unwrap(), far.unwrap()).await;
        }
    }
}

#[tokio::test]
async fn a_connection_outlives_its_listener_and_its_upgrader() {
    let tcp = Tcp::new();
    let (near, far) = link(&tcp, "/ip4/127.0.0.1/tcp/0").await;
    drop(tcp);
    let (near, far) = upgrade_both(Security::Noise, near, far).await;
    echo_both_ways(near.unwrap(), far.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn the_dialer_as_responder() {
    for &security in Security::ALL {
        dialer_as_responder(security).await;
    }
}

async fn dialer_as_responder(security: Security) {
    let network = Network::new();
    let transport = network.transport();
    let mut listener = transport.listen("/memory/0".parse().unwrap(), ListenOpts::default()).await.unwrap();
    let mut dial = DialOpts::new(Instant::now() + TIMEOUT);
    dial.role_override = Role::Responder;
    dial.expected = Some(peer(2));
    let to = listener.addresses().remove(0);
    let (dialed, accepted) = tokio::join!(transport.dial(to, dial.clone()), accept(&mut listener));
    let Link::Raw(dialed) = dialed.unwrap() else { panic!() };
    let (one, two) = (upgrader_by(security, 1), upgrader_by(security, 2));
    let (near, far) = tokio::join!(
        one.upgrade(dialed, UpgradeOpts::from(&dial)),
        two.upgrade(accepted, opts(Role::Initiator, Some(peer(1))))
    );
    let (near, far) = (near.unwrap(), far.unwrap());
    assert_eq!((near.peer, far.peer), (peer(2), peer(1)));
    echo_both_ways(near, far).await;
}

const BOTH_WAYS: [(Role, Role); 2] = [(Role::Initiator, Role::Responder), (Role::Responder, Role::Initiator)];

#[tokio::test(start_paused = true)]
async fn a_peer_without_early_muxers_negotiates_them_afterwards() {
    for &security in Security::ALL {
        for (ours, theirs) in BOTH_WAYS {
            let (near, far) = memory_link().await;
            let one = upgrader_by(security, 1);
            let other = async {
                let mut io = secured(security, far.io, theirs, &[]).await;
                let agreed = match theirs {
                    // It would rather have another, and takes ours.
                    Role::Initiator => select::dial(&mut io, vec![UNKNOWN, YAMUX]).await,
                    Role::Responder => {
                        select::listen(&mut io, |name| (YAMUX == *name).then_some(YAMUX)).await
                    }
                };
                assert_eq!(agreed.unwrap(), YAMUX);
            };
            let (established, ()) = tokio::join!(one.upgrade(near, opts(ours, None)), other);
            let established = established.unwrap();
            assert!(!established.early_muxer);
            assert_eq!(established.muxer, YAMUX);
        }
    }
}

/// Each proposes or picks noise where both know it, and TLS where one knows nothing else.
#[tokio::test(start_paused = true)]
async fn what_both_know_is_agreed_on() {
    let both = [Security::Noise, Security::Tls];
    for (near_knows, far_knows, agreed) in [
        (&both[..], &both[..], Security::Noise),
        (&both[..], &[Security::Tls][..], Security::Tls),
        (&[Security::Tls][..], &both[..], Security::Tls),
        (&[Security::Tls, Security::Noise][..], &both[..], Security::Tls),
    ] {
        let (near, far) = memory_link().await;
        let (one, two) = (knowing(1, near_knows), knowing(2, far_knows));
        let (near, far) = tokio::join!(
            one.upgrade(near, opts(Role::Initiator, None)),
            two.upgrade(far, opts(Role::Responder, None))
        );
        assert_eq!(near.unwrap().security, agreed.protocol());
        assert_eq!(far.unwrap().security, agreed.protocol());
    }
}

fn knowing(seed: u8, security: &[Security]) -> Upgrader {
    let mut config = Config::default();
    config.security = security.to_vec();
    Upgrader::new(&keypair(seed), config)
}

#[tokio::test(start_paused = true)]
async fn plaintext_is_never_spoken_beside_another() {
    assert!(!Config::default().security.contains(&Security::Plaintext));
    for (ours, theirs) in BOTH_WAYS {
        let (near, far) = memory_link().await;
        let careless = knowing(1, &[Security::Plaintext, Security::Tls]);
        let plain = upgrader_by(Security::Plaintext, 2);
        let (one, two) =
            tokio::join!(careless.upgrade(near, opts(ours, None)), plain.upgrade(far, opts(theirs, None)));
        for error in [one.unwrap_err(), two.unwrap_err()] {
            assert_eq!(error.stage, Stage::Security, "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_nothing_configured_the_fault_is_ours() {
    for &security in Security::ALL {
        let mut nothing = Config::default();
        nothing.security.clear();
        let mut no_muxers = Config::default();
        no_muxers.security = vec![security];
        no_muxers.muxers.clear();
        for (config, stage) in [(nothing, Stage::Security), (no_muxers, Stage::Muxer)] {
            for (ours, theirs) in BOTH_WAYS {
                let (near, far) = memory_link().await;
                let (one, two) = (Upgrader::new(&keypair(1), config.clone()), upgrader_by(security, 2));
                let (result, other) =
                    tokio::join!(one.upgrade(near, opts(ours, None)), two.upgrade(far, opts(theirs, None)));
                assert_error(&result.unwrap_err(), stage, Fault::Local);
                other.unwrap_err();
            }
        }
    }
}

/// A link that says when it is gone.
struct Tracked {
    io: Box<dyn Io>,
    _alive: Arc<()>,
}

impl AsyncRead for Tracked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tracked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn tracked(raw: Raw) -> (Raw, Arc<()>) {
    let alive = Arc::new(());
    let raw = with(raw, |io| Tracked { io, _alive: alive.clone() });
    (raw, alive)
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_is_dropped_half_way_leaves_nothing() {
    for &security in Security::ALL {
        for early in [&[YAMUX][..], &[]] {
            // At each of its polls until it is done.
            for polls in 0.. {
                if dropped_after(polls, security, early).await {
                    break;
                }
                assert!(polls < 100, "it never ends");
            }
        }
    }
}

/// Whether it was done by then.
async fn dropped_after(polls: usize, security: Security, early: &[ProtocolId]) -> bool {
    let (near, far) = memory_link().await;
    let (near, alive) = tracked(near);
    let progress = Arc::new(Progress::new());
    let mut opts = opts(Role::Initiator, None);
    opts.progress = Some(progress.clone());
    let one = upgrader_by(security, 1);
    let mut ours = Box::pin(one.upgrade(near, opts));
    let mut theirs = Box::pin(async {
        let mut io = secured(security, far.io, Role::Responder, early).await;
        if early.is_empty() || !has_early_muxer(security) {
            let _ = select::listen(&mut io, |name| (YAMUX == *name).then_some(YAMUX)).await;
        }
        io
    });
    let mut done = false;
    let mut their_end = None;
    for _ in 0..polls {
        done = (&mut ours).now_or_never().is_some();
        if done {
            break;
        }
        if their_end.is_none() {
            their_end = (&mut theirs).now_or_never();
        }
    }
    drop(ours);
    assert_eq!(Arc::strong_count(&alive), 1, "{security} dropped after {polls} polls");
    assert_eq!(Arc::strong_count(&progress), 1);
    done
}

#[tokio::test(start_paused = true)]
async fn a_failed_upgrade_leaves_nothing_either() {
    for &security in Security::ALL {
        for said in [vec![0xff; 9], lines(&[HEADER, security.protocol().as_str()])] {
            let (near, mut far) = memory_link().await;
            let (near, alive) = tracked(near);
            let one = upgrader_by(security, 1);
            let other = async {
                far.io.write_all(&said).await.unwrap();
                far.io.shutdown().await.unwrap();
                // Ours ends, and this hears of it.
                far.io.read_to_end(&mut Vec::new()).await.unwrap();
            };
            let (result, ()) = tokio::join!(one.upgrade(near, opts(Role::Initiator, None)), other);
            result.unwrap_err();
            assert_eq!(Arc::strong_count(&alive), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn progress_says_where_it_is() {
    for &security in Security::ALL {
        let progress = Arc::new(Progress::new());
        let (near, far) = memory_link().await;
        let mut opts = opts(Role::Initiator, None);
        opts.progress = Some(progress.clone());
        let one = upgrader_by(security, 1);
        let mut ours = Box::pin(one.upgrade(near, opts));
        assert_eq!(progress.stage(), Stage::Address);
        assert!((&mut ours).now_or_never().is_none());
        assert_eq!(progress.stage(), Stage::Security);
        let other = async { secured(security, far.io, Role::Responder, &[]).await };
        tokio::select! {
            _ = &mut ours => panic!("nobody chose a muxer"),
            _io = async {
                let io = other.await;
                // Until ours has read what was the last message.
                while progress.stage() < Stage::Muxer {
                    tokio::task::yield_now().await;
                }
                io
            } => assert_eq!(progress.stage(), Stage::Muxer),
        }
    }
}
