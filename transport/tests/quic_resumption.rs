//! Peers that come back over QUIC: sessions that are resumed, and what is sent before the handshake is done.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{keypair, opts, peer};
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use peerage_core::{Multiaddr, PeerId};
use peerage_muxer::{Connection, ErrorCode};
use peerage_transport::{
    DialOpts, Early, EarlyData, Established, Link, ListenOpts, Listener, ListenerEvent, Resumption, Role,
    Transport, UpgradeError, UpgradeOpts, Upgrader,
    quic::{Config, Quic},
    udp::Sockets,
    upgrade::{self, UpgradeErrorKind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
    time::{Instant, timeout},
};

const LONG: Duration = Duration::from_secs(20);
const FIRST: &[u8] = b"what comes first";

fn quic(seed: u8) -> Quic {
    Quic::new(&keypair(seed), Sockets::new(), Config::default())
}

/// Somebody who listens, and what leads there.
struct Far {
    listener: Box<dyn Listener>,
    address: Multiaddr,
    seed: u8,
}

impl Far {
    async fn new(seed: u8) -> Self {
        Self::of(&quic(seed), seed).await
    }

    async fn of(quic: &Quic, seed: u8) -> Self {
        let anywhere = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
        let listener = quic.listen(anywhere, ListenOpts::default()).await.unwrap();
        let address = listener.addresses().remove(0);
        Self { listener, address, seed }
    }

    async fn accept(&mut self, early: bool) -> Result<Established, UpgradeError> {
        let link = match timeout(LONG, self.listener.next()).await.expect("somebody comes") {
            ListenerEvent::Incoming(link) => link,
            other => panic!("{other:?}"),
        };
        let opts = UpgradeOpts { early, ..opts(Role::Responder, None) };
        Upgrader::new(&keypair(self.seed), upgrade::Config::default()).finish(link, opts).await
    }
}

async fn dial(
    near: &Quic,
    address: &Multiaddr,
    expected: Option<PeerId>,
    early: Option<EarlyData>,
) -> Result<Established, UpgradeError> {
    let opts = DialOpts { expected, early, ..DialOpts::new(Instant::now() + LONG) };
    let upgrade = UpgradeOpts::from(&opts);
    let link: Link = near.dial(address.clone(), opts).await.expect("somebody answers");
    Upgrader::new(&keypair(1), upgrade::Config::default()).finish(link, upgrade).await
}

/// A connection with its driver running.
struct End {
    connection: Connection,
    resumption: Resumption,
    peer: PeerId,
    driver: JoinHandle<()>,
}

impl End {
    fn of(established: Established) -> Self {
        let Established { muxed, resumption, peer, .. } = established;
        let driver = tokio::spawn(muxed.driver.map(drop));
        Self { connection: muxed.connection, resumption, peer, driver }
    }

    async fn close(self) {
        self.connection.close(ErrorCode::NONE);
        timeout(LONG, self.driver).await.expect("it ends").unwrap();
    }
}

/// Dials peer `far.seed`, and is accepted.
async fn meet(near: &Quic, far: &mut Far, early: Option<EarlyData>) -> (End, End) {
    let (address, expected) = (far.address.clone(), peer(far.seed));
    let (near, far) = tokio::join!(dial(near, &address, Some(expected), early), far.accept(false));
    (End::of(near.unwrap()), End::of(far.unwrap()))
}

/// A question and its answer: what the server had to say after the handshake has come before it.
async fn talk(near: &End, far: &End) {
    let asked = async {
        let mut stream = near.connection.open().await.unwrap();
        stream.write_all(b"?").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
    };
    let answered = async {
        let mut stream = far.connection.accept().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'?');
        stream.write_all(b"!").await.unwrap();
        stream
    };
    timeout(LONG, async { tokio::join!(asked, answered) }).await.expect("a question and its answer");
}

async fn part(near: End, far: End) {
    near.close().await;
    timeout(LONG, far.driver).await.expect("it ends").unwrap();
}

/// One connection, from which `near` knows `far`.
async fn acquaint(near: &Quic, far: &mut Far) {
    let (here, there) = meet(near, far, None).await;
    talk(&here, &there).await;
    part(here, there).await;
}

fn first(end: bool) -> Option<EarlyData> {
    Some(EarlyData::new(FIRST.to_vec(), end))
}

#[tokio::test]
async fn a_known_peer_is_come_back_to() {
    let (near, mut far) = (quic(1), Far::new(2).await);
    for times in 0..3 {
        let (here, there) = meet(&near, &mut far, None).await;
        assert_eq!((here.peer, there.peer), (peer(2), peer(1)));
        let resumed = (here.resumption.resumed, there.resumption.resumed);
        assert_eq!(resumed, (times > 0, times > 0));
        talk(&here, &there).await;
        part(here, there).await;
    }
}

#[tokio::test]
async fn who_is_not_named_is_a_stranger() {
    let (near, mut far) = (quic(1), Far::new(2).await);
    acquaint(&near, &mut far).await;
    let address = far.address.clone();
    let (here, there) = tokio::join!(dial(&near, &address, None, None), far.accept(false));
    let (here, there) = (End::of(here.unwrap()), End::of(there.unwrap()));
    assert!(!here.resumption.resumed && !there.resumption.resumed);
    part(here, there).await;
}

#[tokio::test]
async fn early_data_come_before_the_handshake_is_done_and_are_answered() {
    for end in [false, true] {
        let (near, mut far) = (quic(1), Far::new(2).await);
        assert!(!near.may_be_early(peer(2)));
        acquaint(&near, &mut far).await;
        assert!(near.may_be_early(peer(2)));
        let address = far.address.clone();
        let here = async {
            let here = End::of(dial(&near, &address, Some(peer(2)), first(end)).await.unwrap());
            assert!(here.resumption.resumed);
            assert_eq!(here.peer, peer(2));
            here
        };
        let there = async {
            let there = far.accept(true).await.unwrap();
            // It is handed out over the client's first flight.
            assert_eq!(there.peer, peer(1));
            let mut there = End::of(there);
            let mut stream = there.connection.accept().await.unwrap();
            let mut got = [0; FIRST.len()];
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(got, FIRST);
            stream.write_all(b"so early!").await.unwrap();
            there.resumption.unproven.take().expect("it is not done").await.unwrap();
            (there, stream)
        };
        let (mut here, (there, mut answered)) =
            timeout(LONG, async { tokio::join!(here, there) }).await.unwrap();
        let Some(Early::Taken(mut stream)) = here.resumption.early.take() else { panic!("refused") };
        let mut answer = [0; 9];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"so early!");
        if !end {
            stream.write_all(b"and more").await.unwrap();
            stream.close_write().await.unwrap();
        }
        let mut rest = Vec::new();
        timeout(LONG, answered.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!(rest, if end { &b""[..] } else { b"and more" });
        part(here, there).await;
    }
}

#[tokio::test]
async fn early_data_wait_where_nobody_asked_for_them() {
    let (near, mut far) = (quic(1), Far::new(2).await);
    acquaint(&near, &mut far).await;
    let (here, there) = meet(&near, &mut far, first(true)).await;
    assert!(matches!(here.resumption.early, Some(Early::Taken(_))));
    assert!(there.resumption.resumed && there.resumption.unproven.is_none());
    let mut got = Vec::new();
    there.connection.accept().await.unwrap().read_to_end(&mut got).await.unwrap();
    assert_eq!(got, FIRST);
    part(here, there).await;
}

#[tokio::test]
async fn a_peer_that_was_started_anew_refuses_them_and_is_not_sent_any_the_next_time() {
    let (near, mut far) = (quic(1), Far::new(2).await);
    acquaint(&near, &mut far).await;
    let mut far = Far::new(2).await;
    assert!(near.may_be_early(peer(2)));
    let (here, there) = meet(&near, &mut far, first(true)).await;
    assert!(matches!(here.resumption.early, Some(Early::Refused)));
    assert!(!here.resumption.resumed, "with the certificate, as anew");
    // Nothing of it has come: what comes first is what is sent now.
    talk(&here, &there).await;
    part(here, there).await;

    assert!(!near.may_be_early(peer(2)), "it is remembered");
    let (here, there) = meet(&near, &mut far, first(true)).await;
    assert!(here.resumption.early.is_none());
    assert!(here.resumption.resumed);
    talk(&here, &there).await;
    part(here, there).await;
    assert!(near.may_be_early(peer(2)), "until a connection came about without");
}

#[tokio::test]
async fn who_takes_none_is_not_sent_any() {
    let mut config = Config::default();
    config.early_data = false;
    let reserved = |seed| Quic::new(&keypair(seed), Sockets::new(), config.clone());
    for (near, far) in [(quic(1), reserved(2)), (reserved(1), quic(2))] {
        let mut far = Far::of(&far, 2).await;
        acquaint(&near, &mut far).await;
        assert!(!near.may_be_early(peer(2)));
        let (here, there) = meet(&near, &mut far, first(true)).await;
        assert!(here.resumption.early.is_none());
        assert!(here.resumption.resumed);
        talk(&here, &there).await;
        part(here, there).await;
    }
}

#[tokio::test]
async fn another_peers_ticket_is_good_for_nothing() {
    let (near, mut second, mut third) = (quic(1), Far::new(2).await, Far::new(3).await);
    acquaint(&near, &mut second).await;
    // The one peer now listens where the other is believed to be, and has no use for what was meant for that.
    let address = third.address.clone();
    let (here, there) = tokio::join!(dial(&near, &address, Some(peer(2)), first(true)), third.accept(true));
    let error = here.unwrap_err();
    assert!(matches!(error.kind, UpgradeErrorKind::WrongPeer { .. }), "{error:?}");
    // It may have been told after it had done all that a server does.
    if let Ok(there) = there {
        let mut there = End::of(there);
        assert!(!there.resumption.resumed);
        let proof = there.resumption.unproven.take();
        assert!(proof.is_none());
        assert!(timeout(LONG, there.connection.accept()).await.unwrap().is_err());
    }
    // And with the third, the second's is not even tried.
    let (here, there) = meet(&near, &mut third, None).await;
    assert!(!here.resumption.resumed && !there.resumption.resumed);
    part(here, there).await;
}

#[tokio::test]
async fn of_many_who_come_at_once_one_has_the_ticket() {
    let (near, mut far) = (quic(1), Far::new(2).await);
    acquaint(&near, &mut far).await;
    let address = far.address.clone();
    let dials: FuturesUnordered<_> =
        (0..8).map(|_| dial(&near, &address, Some(peer(2)), first(true))).collect();
    let dialed = dials.map(|dialed| End::of(dialed.unwrap())).collect::<Vec<_>>();
    let accepted = async {
        let mut ends = Vec::new();
        for _ in 0..8 {
            ends.push(End::of(far.accept(false).await.unwrap()));
        }
        ends
    };
    let (dialed, accepted) = timeout(LONG, async { tokio::join!(dialed, accepted) }).await.unwrap();
    let resumed = |ends: &[End]| ends.iter().filter(|end| end.resumption.resumed).count();
    assert_eq!((resumed(&dialed), resumed(&accepted)), (1, 1));
    let early = dialed.iter().filter(|end| end.resumption.early.is_some()).count();
    assert_eq!(early, 1);
}
