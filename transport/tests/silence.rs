//! Peers that stop, or nearly stop, anywhere in an upgrade (slowloris). Time is virtual.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use common::{Moved, Slow, Then, keypair, memory_link, opts, slow, upgrade_both, upgrader, with};
use peerage_core::ProtocolId;
use peerage_security::noise;
use peerage_transport::{
    Established, Fault, Raw, Role, Stage, UpgradeError, select,
    upgrade::{TIMEOUT, UpgradeErrorKind},
};
use tokio::time::Instant;

const MILLI: Duration = Duration::from_millis(1);
const YAMUX: ProtocolId = ProtocolId::from_static("/yamux/1.0.0");

/// An honest peer, which may know nothing of early muxer negotiation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Peer {
    Ours,
    WithoutEarlyMuxer,
}

/// Takes the other role than the victim's, as far as it gets. It ends when its link does.
async fn honest(peer: Peer, raw: Raw, victim: Role) {
    let role = match victim {
        Role::Initiator => Role::Responder,
        Role::Responder => Role::Initiator,
    };
    match peer {
        Peer::Ours => drop(upgrader(2).upgrade(raw, opts(role, None)).await),
        Peer::WithoutEarlyMuxer => drop(without_early_muxer(raw, role).await),
    }
}

async fn without_early_muxer(raw: Raw, role: Role) -> Result<(), Box<dyn std::error::Error>> {
    let mut io = raw.io;
    choose(&mut io, role, noise::PROTOCOL).await?;
    let (mut io, _) = noise::upgrade(io, role, &noise::Config::new(&keypair(2))?).await?;
    choose(&mut io, role, YAMUX).await?;
    Ok(())
}

async fn choose<S>(io: &mut S, role: Role, protocol: ProtocolId) -> Result<ProtocolId, select::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    match role {
        Role::Initiator => select::dial(io, vec![protocol]).await,
        Role::Responder => select::listen(io, |name| (protocol == *name).then(|| protocol.clone())).await,
    }
}

/// Upgrades the near end, in the role of the victim, over a link that `around` describes.
async fn victim(
    role: Role,
    peer: Peer,
    around: impl FnOnce(Raw, Arc<Moved>) -> Raw,
) -> (Result<Established, UpgradeError>, Arc<Moved>) {
    let (near, far) = memory_link().await;
    let moved = Arc::new(Moved::default());
    let mut opts = opts(role, None);
    opts.progress = Some(moved.progress.clone());
    let one = upgrader(1);
    let near = around(near, moved.clone());
    let (result, ()) = tokio::join!(one.upgrade(near, opts), honest(peer, far, role));
    (result, moved)
}

fn around(reads: usize, then: Then, writes: usize) -> impl FnOnce(Raw, Arc<Moved>) -> Raw {
    move |raw, moved| with(raw, |io| Slow { io, reads, then, writes, moved, waiting: None })
}

async fn record(role: Role, peer: Peer) -> Arc<Moved> {
    let (result, moved) = victim(role, peer, around(usize::MAX, Then::Silence, usize::MAX)).await;
    assert_eq!(result.unwrap().early_muxer, peer == Peer::Ours);
    moved
}

fn assert_timeout(result: Result<Established, UpgradeError>, stage: Stage, at: &str) {
    assert_timeout_by(Fault::Remote, result, stage, at);
}

fn assert_timeout_by(fault: Fault, result: Result<Established, UpgradeError>, stage: Stage, at: &str) {
    let error = result.expect_err(at);
    assert!(matches!(error.kind, UpgradeErrorKind::Timeout), "{at}: {error}");
    assert_eq!(error.stage, stage, "{at}");
    assert_eq!(error.fault, fault, "{at}");
}

/// What every one of these tests goes through: both roles of the victim, and peers of both kinds.
const CASES: [(Role, Peer); 4] = [
    (Role::Initiator, Peer::Ours),
    (Role::Responder, Peer::Ours),
    (Role::Initiator, Peer::WithoutEarlyMuxer),
    (Role::Responder, Peer::WithoutEarlyMuxer),
];

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_sending_at_any_byte() {
    for (role, peer) in CASES {
        let honest = record(role, peer).await;
        let security = honest.security_read.load(Ordering::Relaxed);
        let all = honest.read.load(Ordering::Relaxed);
        assert_eq!(all > security, peer == Peer::WithoutEarlyMuxer, "only its muxer costs bytes");
        for k in 0..all {
            let start = Instant::now();
            let (result, _) = victim(role, peer, around(k, Then::Silence, usize::MAX)).await;
            let stage = if k < security { Stage::Security } else { Stage::Muxer };
            assert_timeout(result, stage, &format!("{role:?}, {peer:?}, {k} of {all} bytes"));
            assert_eq!(start.elapsed(), TIMEOUT);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_taking_at_any_byte() {
    for (role, peer) in CASES {
        let honest = record(role, peer).await;
        let security = honest.security_written.load(Ordering::Relaxed);
        let all = honest.written.load(Ordering::Relaxed);
        for k in 0..all {
            let start = Instant::now();
            let (result, _) = victim(role, peer, around(usize::MAX, Then::Silence, k)).await;
            let stage = if k < security { Stage::Security } else { Stage::Muxer };
            assert_timeout(result, stage, &format!("{role:?}, {peer:?}, {k} of {all} bytes"));
            assert_eq!(start.elapsed(), TIMEOUT);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_does_not_move_the_deadline() {
    let drip = Then::ByteEvery(Duration::from_secs(4));
    for (role, peer) in CASES {
        let honest = record(role, peer).await;
        let security = honest.security_read.load(Ordering::Relaxed);
        let all = honest.read.load(Ordering::Relaxed);
        // Two more bytes come in ten seconds. With all but two at once that is enough, with all but three it is not.
        for k in [0, 1, 20, security - 3, security - 2, all - 3, all - 2] {
            let start = Instant::now();
            let (result, _) = victim(role, peer, around(k, drip, usize::MAX)).await;
            if k + 2 == all {
                assert!(result.is_ok());
                continue;
            }
            let stage = if k + 2 < security { Stage::Security } else { Stage::Muxer };
            assert_timeout(result, stage, &format!("{role:?}, {peer:?}, {k} bytes at once"));
            assert_eq!(start.elapsed(), TIMEOUT);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn just_in_time_and_just_too_late() {
    for role in [Role::Initiator, Role::Responder] {
        for (pause, in_time) in [(TIMEOUT - MILLI, true), (TIMEOUT + MILLI, false)] {
            let (near, far) = memory_link().await;
            let one = upgrader(1);
            let near = slow(near, 30, Then::RestAfter(pause));
            // This peer has no deadline of its own.
            let peer = honest(Peer::WithoutEarlyMuxer, far, role);
            let (result, ()) = tokio::join!(one.upgrade(near, opts(role, None)), peer);
            assert_eq!(result.is_ok(), in_time, "{role:?}, {pause:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_both_deadlines_counts_and_only_a_whole_timeout_is_the_peers_fault() {
    let second = Duration::from_secs(1);
    for (given, expected, fault) in [
        (Duration::ZERO, Duration::ZERO, Fault::Local),
        (second, second, Fault::Local),
        (TIMEOUT - MILLI, TIMEOUT - MILLI, Fault::Local),
        (TIMEOUT, TIMEOUT, Fault::Remote),
        (TIMEOUT + second, TIMEOUT, Fault::Remote),
    ] {
        let (near, _far) = memory_link().await;
        let start = Instant::now();
        let mut opts = opts(Role::Responder, None);
        opts.deadline = start + given;
        let result = upgrader(1).upgrade(near, opts).await;
        assert_timeout_by(fault, result, Stage::Security, &format!("{given:?}"));
        assert_eq!(start.elapsed(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn two_listeners_wait_for_each_other_no_longer_than_that() {
    let (near, far) = memory_link().await;
    let start = Instant::now();
    let (one, two) = (upgrader(1), upgrader(2));
    let (ours, theirs) = tokio::join!(
        one.upgrade(near, opts(Role::Responder, None)),
        two.upgrade(far, opts(Role::Responder, None))
    );
    let errors = [ours.unwrap_err(), theirs.unwrap_err()];
    // Both clocks run out at the same instant; whoever looks second finds the link closed by the other.
    assert!(errors.iter().any(|error| matches!(error.kind, UpgradeErrorKind::Timeout)));
    assert!(errors.iter().all(|error| error.stage == Stage::Security));
    assert_eq!(start.elapsed(), TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_is_not_a_silent_one() {
    // 30 ms a byte: several seconds for the whole handshake, and still in time.
    let (near, far) = memory_link().await;
    let near = slow(near, 0, Then::ByteEvery(30 * MILLI));
    let (ours, theirs) = upgrade_both(near, far).await;
    assert!(ours.is_ok() && theirs.is_ok());
}
