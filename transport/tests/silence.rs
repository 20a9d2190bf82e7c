//! Peers that stop, or nearly stop, anywhere in an upgrade (slowloris), or after it. Time is virtual.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use common::{
    Moved, Slow, Then, YAMUX, has_early_muxer, memory_link, opts, secure, secured, slow, upgrade_both,
    upgrader_by, with,
};
use peerage_muxer::{ConnectionError, Muxed, yamux::WRITE_TIMEOUT};
use peerage_transport::{
    Established, Fault, Raw, Role, Stage, UpgradeError, select,
    upgrade::{Security, TIMEOUT, UpgradeErrorKind},
};
use tokio::{io::AsyncWriteExt as _, time::Instant};

const MILLI: Duration = Duration::from_millis(1);

/// An honest peer, which may know nothing of early muxer negotiation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Peer {
    Ours,
    WithoutEarlyMuxer,
}

/// Who is upgraded, and with whom.
#[derive(Clone, Copy, Debug)]
struct Case {
    security: Security,
    victim: Role,
    peer: Peer,
}

/// What every one of these tests goes through: every security protocol, both roles of the victim, and peers of both
/// kinds.
fn cases() -> impl Iterator<Item = Case> {
    Security::ALL.iter().flat_map(|&security| {
        [Role::Initiator, Role::Responder].into_iter().flat_map(move |victim| {
            [Peer::Ours, Peer::WithoutEarlyMuxer]
                .into_iter()
                .filter(move |peer| *peer == Peer::WithoutEarlyMuxer || has_early_muxer(security))
                .map(move |peer| Case { security, victim, peer })
        })
    })
}

impl Case {
    /// How much longer or shorter the same handshake may be another time: an ECDSA signature has one byte more or less
    /// for each zero or one that its two numbers begin with.
    fn slack(self) -> usize {
        if self.security == Security::Tls { 8 } else { 0 }
    }

    /// TLS reads what there is. What a client sends for its muxer at once is then read with its last message, so that a
    /// recording does not know where the handshake ended.
    fn reads_ahead(self) -> bool {
        self.security == Security::Tls && self.peer == Peer::WithoutEarlyMuxer
    }

    /// The bytes at which to stop. Both kinds of peers say the same in a TLS handshake, which is long.
    fn stops(self, all: usize) -> impl Iterator<Item = usize> {
        let said_again = self.security == Security::Tls && self.peer == Peer::Ours;
        (0..all).step_by(if said_again { 7 } else { 1 })
    }
}

/// Takes the other role than the victim's, as far as it gets. It ends when its link does.
async fn honest(case: Case, raw: Raw) {
    let role = match case.victim {
        Role::Initiator => Role::Responder,
        Role::Responder => Role::Initiator,
    };
    match case.peer {
        Peer::Ours => drop(upgrader_by(case.security, 2).upgrade(raw, opts(role, None)).await),
        Peer::WithoutEarlyMuxer => drop(without_early_muxer(case.security, raw, role).await),
    }
}

async fn without_early_muxer(
    security: Security,
    raw: Raw,
    role: Role,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut io = secure(security, raw.io, role, &[]).await?;
    match role {
        Role::Initiator => select::dial(&mut io, vec![YAMUX]).await?,
        Role::Responder => select::listen(&mut io, |name| (YAMUX == *name).then_some(YAMUX)).await?,
    };
    Ok(())
}

/// Upgrades the near end, in the role of the victim, over a link that `around` describes.
async fn victim(
    case: Case,
    around: impl FnOnce(Raw, Arc<Moved>) -> Raw,
) -> (Result<Established, UpgradeError>, Arc<Moved>) {
    let (near, far) = memory_link().await;
    let moved = Arc::new(Moved::default());
    let mut opts = opts(case.victim, None);
    opts.progress = Some(moved.progress.clone());
    let one = upgrader_by(case.security, 1);
    let near = around(near, moved.clone());
    let (result, ()) = tokio::join!(one.upgrade(near, opts), honest(case, far));
    (result, moved)
}

fn around(reads: usize, then: Then, writes: usize) -> impl FnOnce(Raw, Arc<Moved>) -> Raw {
    move |raw, moved| with(raw, |io| Slow { io, reads, then, writes, moved, waiting: None })
}

async fn record(case: Case) -> Arc<Moved> {
    let (result, moved) = victim(case, around(usize::MAX, Then::Silence, usize::MAX)).await;
    assert_eq!(result.unwrap().early_muxer, case.peer == Peer::Ours);
    moved
}

/// `k` bytes of `all` were moved, of which the first `security` are those of the handshake.
fn assert_stopped(
    result: Result<Established, UpgradeError>,
    case: Case,
    k: usize,
    security: usize,
    all: usize,
) {
    if result.is_ok() && k + case.slack() >= all && k < all && case.slack() > 0 {
        return;
    }
    let at = format!("{case:?}, {k} of {all} bytes");
    let stage = match &result {
        Err(error) if case.reads_ahead() => error.stage,
        _ if k < security => Stage::Security,
        _ => Stage::Muxer,
    };
    assert_timeout(result, stage, &at);
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

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_sending_at_any_byte() {
    for case in cases() {
        let honest = record(case).await;
        let security = honest.security_read.load(Ordering::Relaxed);
        let all = honest.read.load(Ordering::Relaxed);
        if !case.reads_ahead() {
            assert_eq!(all > security, case.peer == Peer::WithoutEarlyMuxer, "only its muxer costs bytes");
        }
        for k in case.stops(all) {
            let start = Instant::now();
            let (result, _) = victim(case, around(k, Then::Silence, usize::MAX)).await;
            let ended = result.is_err();
            assert_stopped(result, case, k, security, all);
            assert!(!ended || start.elapsed() == TIMEOUT);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_taking_at_any_byte() {
    for case in cases() {
        let honest = record(case).await;
        let security = honest.security_written.load(Ordering::Relaxed);
        let all = honest.written.load(Ordering::Relaxed);
        for k in case.stops(all) {
            let start = Instant::now();
            let (result, _) = victim(case, around(usize::MAX, Then::Silence, k)).await;
            let ended = result.is_err();
            assert_stopped(result, case, k, security, all);
            assert!(!ended || start.elapsed() == TIMEOUT);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_does_not_move_the_deadline() {
    let drip = Then::ByteEvery(Duration::from_secs(4));
    for case in cases() {
        let honest = record(case).await;
        let security = honest.security_read.load(Ordering::Relaxed);
        let all = honest.read.load(Ordering::Relaxed);
        // Two more bytes come in ten seconds. With all but two at once that is enough, with all but three it is not.
        let exact = [0, 1, 20, security - 3, security - 2, all - 3, all - 2];
        let about = [0, 1, 20, security - 20, all - 20];
        for &k in if case.slack() == 0 { &exact[..] } else { &about } {
            let start = Instant::now();
            let (result, _) = victim(case, around(k, drip, usize::MAX)).await;
            if k + 2 == all {
                assert!(result.is_ok());
                continue;
            }
            let stage = match &result {
                Err(error) if case.reads_ahead() => error.stage,
                _ if k + 2 < security => Stage::Security,
                _ => Stage::Muxer,
            };
            assert_timeout(result, stage, &format!("{case:?}, {k} bytes at once"));
            assert_eq!(start.elapsed(), TIMEOUT);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn just_in_time_and_just_too_late() {
    for case in cases().filter(|case| case.peer == Peer::WithoutEarlyMuxer) {
        for (pause, in_time) in [(TIMEOUT - MILLI, true), (TIMEOUT + MILLI, false)] {
            let (near, far) = memory_link().await;
            let one = upgrader_by(case.security, 1);
            let near = slow(near, 30, Then::RestAfter(pause));
            // This peer has no deadline of its own.
            let peer = honest(case, far);
            let (result, ()) = tokio::join!(one.upgrade(near, opts(case.victim, None)), peer);
            assert_eq!(result.is_ok(), in_time, "{case:?}, {pause:?}");
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
        let result = upgrader_by(Security::Noise, 1).upgrade(near, opts).await;
        assert_timeout_by(fault, result, Stage::Security, &format!("{given:?}"));
        assert_eq!(start.elapsed(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn two_listeners_wait_for_each_other_no_longer_than_that() {
    let (near, far) = memory_link().await;
    let start = Instant::now();
    let (one, two) = (upgrader_by(Security::Noise, 1), upgrader_by(Security::Noise, 2));
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
    // 3 ms a byte: seconds for the longest of the handshakes, and still in time.
    for &security in Security::ALL {
        let (near, far) = memory_link().await;
        let near = slow(near, 0, Then::ByteEvery(3 * MILLI));
        let (ours, theirs) = upgrade_both(security, near, far).await;
        assert!(ours.is_ok() && theirs.is_ok());
    }
}

/// S5 under encryption, which takes what the socket does not: a pong that it takes is no sign that the peer reads.
#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_and_reads_nothing_is_given_up() {
    for &security in Security::ALL {
        let (near, far) = memory_link().await;
        let one = upgrader_by(security, 1);
        let other = async {
            let mut io = secured(security, far.io, Role::Responder, &[]).await;
            select::listen(&mut io, |name| (YAMUX == *name).then_some(YAMUX)).await.unwrap();
            io
        };
        let (near, mut io) = tokio::join!(one.upgrade(near, opts(Role::Initiator, None)), other);
        let Muxed { connection, driver, .. } = near.unwrap().muxed;
        let driver = tokio::spawn(driver);
        let mut stream = connection.open().await.unwrap();
        let writing = tokio::spawn(async move { stream.write_all(&[0; 1 << 20]).await });
        let start = Instant::now();
        let ping = [0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
        while !driver.is_finished() && start.elapsed() < 10 * WRITE_TIMEOUT {
            tokio::time::sleep(WRITE_TIMEOUT - Duration::from_secs(1)).await;
            let _ = io.write_all(&ping).await;
            let _ = io.flush().await;
        }
        assert!(start.elapsed() <= 2 * WRITE_TIMEOUT, "{security}: {:?}", start.elapsed());
        let end = driver.await.unwrap().unwrap_err();
        assert!(matches!(end, ConnectionError::Stalled), "{security}: {end}");
        writing.await.unwrap().unwrap_err();
    }
}
