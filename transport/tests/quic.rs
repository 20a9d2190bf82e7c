//! QUIC between this transport's own ends.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Outcome, assert_error, keypair, opts, peer};
use futures::FutureExt as _;
use peerage_core::{Multiaddr, PeerId, budget::Budget};
use peerage_muxer::{
    Connection, ConnectionError, ErrorCode,
    testing::{self, Side, pattern, read_to_end, stream_between, stream_error},
};
use peerage_security::tls;
use peerage_transport::{
    DialOpts, Established, Fault, Link, ListenError, ListenOpts, Listener, ListenerEvent, Role, Stage,
    Transport, TransportError, UpgradeOpts, Upgrader,
    quic::{Config, MAX_LARGE_PACKET, MAX_PACKET, MAX_STREAMS, Quic, RECEIVE_WINDOW, SEND_WINDOW},
    udp::Sockets,
    upgrade::{self, UpgradeErrorKind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout},
};

const LOOPBACK: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const LONG: Duration = Duration::from_secs(20);

fn quic(seed: u8) -> Quic {
    Quic::new(&keypair(seed), Sockets::new(), Config::default())
}

async fn listen(transport: &Quic, address: &str) -> Box<dyn Listener> {
    transport.listen(address.parse().unwrap(), ListenOpts::default()).await.unwrap()
}

fn dial_opts(expected: Option<PeerId>) -> DialOpts {
    let mut dial = DialOpts::new(Instant::now() + LONG);
    dial.expected = expected;
    dial
}

async fn next(listener: &mut Box<dyn Listener>) -> Link {
    match timeout(LONG, listener.next()).await.expect("somebody comes") {
        ListenerEvent::Incoming(link) => link,
        other => panic!("{other:?}"),
    }
}

fn upgrader(seed: u8) -> Upgrader {
    Upgrader::new(&keypair(seed), upgrade::Config::default())
}

/// What the dialer and the listener come to.
async fn meet(
    near: &Quic,
    address: Multiaddr,
    dial: DialOpts,
    listener: &mut Box<dyn Listener>,
) -> (Outcome, Outcome) {
    let upgrade = UpgradeOpts::from(&dial);
    let dial = async {
        let link = near.dial(address, dial).await.expect("somebody answers");
        upgrader(1).finish(link, upgrade).await
    };
    let accept = async {
        let link = next(listener).await;
        upgrader(2).finish(link, opts(Role::Responder, None)).await
    };
    tokio::join!(dial, accept)
}

/// Both ends of a connection between peers 1, who dials, and 2.
async fn connect(near: &Quic, listener: &mut Box<dyn Listener>) -> (Established, Established) {
    let address = listener.addresses().remove(0);
    let (near, far) = meet(near, address, dial_opts(Some(peer(2))), listener).await;
    (near.unwrap(), far.unwrap())
}

fn side(end: Established) -> Side {
    Side::new(end.muxed.connection, end.muxed.driver, ())
}

async fn pair() -> (Side, Side) {
    let mut listener = listen(&quic(2), LOOPBACK).await;
    let (near, far) = connect(&quic(1), &mut listener).await;
    (side(near), side(far))
}

struct OverQuic;

impl testing::Muxer for OverQuic {
    type Link = ();

    const RESETS_KEEP_DATA: bool = false;
    const TELLS_THAT_NOBODY_READS: bool = true;

    async fn pair() -> (Side, Side) {
        pair().await
    }
}

peerage_muxer::conformance!(OverQuic);

#[tokio::test]
async fn over_ipv4_and_ipv6_from_any_port_and_from_the_listeners() {
    for loopback in [LOOPBACK, "/ip6/::1/udp/0/quic-v1"] {
        for reuse in [false, true] {
            let (near, far) = (quic(1), quic(2));
            let mut listener = listen(&far, loopback).await;
            let own = listen(&near, loopback).await;
            let address = listener.addresses().remove(0);
            let mut dial = dial_opts(Some(peer(2)));
            dial.reuse_listen_port = reuse;
            let (dialed, accepted) = meet(&near, address.clone(), dial, &mut listener).await;
            let (dialed, accepted) = (dialed.unwrap(), accepted.unwrap());
            assert_eq!((dialed.peer, accepted.peer), (peer(2), peer(1)));
            assert_eq!((&dialed.remote, &accepted.local), (&address, &address));
            assert_eq!(dialed.local, accepted.remote);
            assert_eq!(accepted.remote == own.addresses()[0], reuse, "{}", accepted.remote);
            assert!(dialed.muxed.connection.rtt().is_some());
            common::echo_both_ways(dialed, accepted).await;
        }
    }
}

#[tokio::test]
async fn another_peer_than_the_one_that_was_dialed() {
    let mut listener = listen(&quic(2), LOOPBACK).await;
    let address = listener.addresses().remove(0);
    let (near, far) = meet(&quic(1), address, dial_opts(Some(peer(3))), &mut listener).await;
    let error = near.unwrap_err();
    assert_eq!((error.stage, error.fault), (Stage::Security, Fault::Remote));
    let UpgradeErrorKind::WrongPeer { expected, found } = error.kind else { panic!("{error:?}") };
    assert_eq!((expected, found), (peer(3), peer(2)));
    let error = far.unwrap_err();
    assert_eq!(error.stage, Stage::Security);
    assert!(matches!(error.kind, UpgradeErrorKind::Tls(_)), "the dialer said so: {error:?}");
}

#[tokio::test]
async fn nobody_there_is_a_timeout_at_the_deadline() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", nobody.local_addr().unwrap().port());
    let begin = Instant::now();
    let mut dial = dial_opts(None);
    dial.deadline = begin + Duration::from_millis(300);
    let error = quic(1).dial(address.parse().unwrap(), dial).await.unwrap_err();
    assert!(matches!(error, TransportError::Timeout), "{error:?}");
    assert!(begin.elapsed() < LONG);
}

/// No certificate, no ALPN, another ALPN: nothing is heard of them above, and the listener goes on.
#[tokio::test]
async fn a_listener_survives_its_sockets_junk() {
    let mut listener = listen(&quic(2), LOOPBACK).await;
    let port = listener.addresses()[0].socket_addr().unwrap().addr;
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for len in [0, 1, 20, 1199, 1200, 1472, 9000, 65_507] {
        for first in 0..=255 {
            let mut datagram = vec![0xaa; len];
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            let _ = stranger.send_to(&datagram, port);
        }
        assert!(listener.next().now_or_never().is_none());
    }
    let (near, far) = connect(&quic(1), &mut listener).await;
    common::echo_both_ways(near, far).await;
}

#[tokio::test]
async fn a_port_is_listened_on_once_and_free_again_afterwards() {
    let transport = quic(2);
    let listener = listen(&transport, LOOPBACK).await;
    let address = listener.addresses().remove(0);
    for other in [transport.clone(), quic(3)] {
        let error = other.listen(address.clone(), ListenOpts::default()).await.err().expect("in use");
        assert!(matches!(error, ListenError::Bind { .. }), "{error:?}");
    }
    drop(listener);
    let listener = transport.listen(address.clone(), ListenOpts::default()).await.expect("again");
    drop((listener, transport));
    timeout(LONG, async {
        while quic(3).listen(address.clone(), ListenOpts::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("another transport may have it");
}

#[tokio::test]
async fn connections_outlive_their_listener_and_their_transport() {
    let (near, far) = (quic(1), quic(2));
    let mut listener = listen(&far, LOOPBACK).await;
    let address = listener.addresses().remove(0);
    let (dialed, accepted) = connect(&near, &mut listener).await;
    drop(listener);
    let mut dial = dial_opts(None);
    dial.deadline = Instant::now() + Duration::from_millis(200);
    assert!(near.dial(address.clone(), dial).await.is_err(), "nobody is accepted any more");
    // The port can be listened on again while its connections live.
    let mut listener = listen(&far, &address.to_string()).await;
    let (more, too) = connect(&near, &mut listener).await;
    drop((near, far, listener));
    common::echo_both_ways(dialed, accepted).await;
    common::echo_both_ways(more, too).await;
}

/// Dropped before anybody was accepted, the dialer hears of it.
#[tokio::test]
async fn a_newcomer_that_is_dropped_is_refused() {
    let mut listener = listen(&quic(2), LOOPBACK).await;
    let address = listener.addresses().remove(0);
    let near = quic(1);
    let refuse = async { drop(next(&mut listener).await) };
    let (dialed, ()) = tokio::join!(near.dial(address, dial_opts(None)), refuse);
    let error = dialed.unwrap_err();
    assert_eq!(error.fault(), Fault::Remote, "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn memory_is_taken_from_the_budget_and_given_back() {
    let long_packets = 10 * usize::from(MAX_LARGE_PACKET - MAX_PACKET);
    let base = (RECEIVE_WINDOW + SEND_WINDOW) as usize + long_packets;
    for (bytes, enough) in [(base, true), (base - 1, false)] {
        let mut listener = listen(&quic(2), LOOPBACK).await;
        let address = listener.addresses().remove(0);
        let budget = Budget::limited(bytes);
        let near = async {
            let link = quic(1).dial(address, dial_opts(None)).await.expect("somebody answers");
            upgrader(1).finish(link, opts(Role::Initiator, None)).await
        };
        let far = async {
            let upgrade = UpgradeOpts { budget: budget.clone(), ..opts(Role::Responder, None) };
            let link = next(&mut listener).await;
            upgrader(2).finish(link, upgrade).await
        };
        let (near, far) = tokio::join!(near, far);
        if !enough {
            let error = far.unwrap_err();
            assert_error(&error, Stage::Security, Fault::Local);
            assert!(matches!(error.kind, UpgradeErrorKind::NoMemory(_)), "{error:?}");
            assert!(near.is_err());
            continue;
        }
        assert!(budget.reserve(1).is_err(), "all of it is taken");
        drop((near, far));
        assert!(budget.reserve(base).is_ok());
    }
}

#[tokio::test]
async fn streams_over_the_limit_wait_and_nothing_is_lost() {
    let (a, b) = pair().await;
    let mut streams = Vec::new();
    for _ in 0..MAX_STREAMS {
        let mut stream = a.connection.open().await.unwrap();
        stream.write_all(b"x").await.unwrap();
        streams.push(stream);
    }
    let more = a.connection.open();
    let mut more = std::pin::pin!(more);
    assert!((&mut more).now_or_never().is_none(), "one more has to wait");
    for _ in 0..MAX_STREAMS {
        let mut stream = timeout(LONG, b.connection.accept()).await.unwrap().unwrap();
        stream.read_exact(&mut [0; 1]).await.unwrap();
        stream.close_write().await.unwrap();
    }
    assert!((&mut more).now_or_never().is_none(), "all of them are half open");
    streams.clear();
    timeout(LONG, more).await.expect("there is room").unwrap();
}

/// go-libp2p stops reading when it closes a stream, and that is no reset.
#[tokio::test]
async fn closing_after_the_peer_closed_and_left_is_no_error() {
    let (a, b) = pair().await;
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    theirs.write_all(b"answer").await.unwrap();
    theirs.close_write().await.unwrap();
    drop(theirs);
    assert_eq!(read_to_end(&mut ours).await.unwrap(), b"answer");
    testing::settle(&a, &b).await;
    ours.close_write().await.expect("nothing is lost");
}

/// One stream is not read at all; the others have to live on, while there is memory.
#[tokio::test]
async fn a_stream_that_nobody_reads_does_not_stop_the_others() {
    let (a, b) = pair().await;
    let (mut stuck, _unread) = stream_between(&a, &b).await;
    let writing = tokio::spawn(async move {
        let _ = stuck.write_all(&pattern(64 << 20)).await;
    });
    for _ in 0..20 {
        let (mut ours, mut theirs) = timeout(LONG, stream_between(&a, &b)).await.expect("there is room");
        let send = async {
            ours.write_all(&pattern(100_000)).await.unwrap();
            ours.close_write().await.unwrap();
        };
        let (read, ()) = timeout(LONG, async { tokio::join!(read_to_end(&mut theirs), send) }).await.unwrap();
        assert!(read.unwrap() == pattern(100_000));
    }
    assert!(!writing.is_finished(), "nobody reads it");
    writing.abort();
}

/// What is written just before the close still comes, however much it is.
/// quinn would let whoever was woken last have all the room there is, each time.
#[tokio::test]
async fn streams_that_all_send_share_the_connection() {
    const STREAMS: usize = 40;
    const TOTAL: usize = STREAMS * 1024 * 1024;
    let (a, b) = pair().await;
    let reader = tokio::spawn(async move {
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..STREAMS {
            let mut stream = b.connection.accept().await.unwrap();
            readers.spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
        }
        readers.join_all().await;
    });
    let sent: Arc<[AtomicUsize; STREAMS]> = Arc::new(std::array::from_fn(|_| AtomicUsize::new(0)));
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..STREAMS {
        let (mut stream, sent) = (a.connection.open().await.unwrap(), Arc::clone(&sent));
        writers.spawn(async move {
            while sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum::<usize>() < TOTAL {
                let written = stream.write(&[0; 64 * 1024]).await.unwrap();
                sent[number].fetch_add(written, Ordering::Relaxed);
            }
            stream.close_write().await.unwrap();
        });
    }
    timeout(LONG, writers.join_all()).await.expect("all are sent");
    timeout(LONG, reader).await.expect("all are read").unwrap();
    let sent: Vec<_> = sent.iter().map(|sent| sent.load(Ordering::Relaxed)).collect();
    let mean = sent.iter().sum::<usize>() / STREAMS;
    assert!(sent.iter().all(|&sent| sent > mean / 2 && sent < 2 * mean), "{sent:?}");
}

/// quinn would keep its goodbye back as well, and the peer wait for it until it gives the connection up.
#[tokio::test]
async fn the_peer_is_told_of_the_end_although_the_network_is_full() {
    let mut listener = listen(&quic(2), LOOPBACK).await;
    let dialer = quic(1);
    let (near, far) = connect(&dialer, &mut listener).await;
    let (a, b) = (side(near), far.muxed);
    let mut stream = a.connection.open().await.unwrap();
    // Nobody drives the other end: nothing is acknowledged.
    let writing = tokio::spawn(async move { stream.write_all(&[0; 1024 * 1024]).await });
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    a.driver.abort();
    assert!(a.driver.await.unwrap_err().is_cancelled());
    assert!(writing.await.unwrap().is_err());
    let end = timeout(LONG, b.driver).await.expect("it is told");
    assert!(matches!(end, Err(ConnectionError::ClosedByPeer(ErrorCode::NONE))), "{end:?}");
}

#[tokio::test]
async fn an_orderly_close_delivers_what_was_written() {
    let (a, b) = pair().await;
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    let reading = tokio::spawn(async move {
        let mut all = vec![0; 100_000];
        theirs.read_exact(&mut all).await.map(|_| all)
    });
    ours.write_all(&pattern(100_000)).await.unwrap();
    a.connection.close(ErrorCode::GARBAGE_COLLECTED);
    assert!(reading.await.unwrap().unwrap() == pattern(100_000));
    assert!(timeout(LONG, a.driver).await.unwrap().unwrap().is_ok());
    let end = b.driver.await.unwrap().expect_err("closed");
    assert!(matches!(end, ConnectionError::ClosedByPeer(ErrorCode::GARBAGE_COLLECTED)), "{end:?}");
    assert!(stream_error(&ours.write(b"x").await.expect_err("closed")).to_string().contains("this node"));
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let mut config = Config::default();
    config.idle_timeout = Duration::from_millis(500);
    config.keep_alive = Duration::from_millis(200);
    let near = Quic::new(&keypair(1), Sockets::new(), config);
    let mut listener = listen(&quic(2), LOOPBACK).await;
    let (dialed, accepted) = connect(&near, &mut listener).await;
    let near = side(dialed);
    // Held, and not driven.
    let end = timeout(LONG, near.driver).await.expect("it is noticed").unwrap().expect_err("it vanished");
    assert!(matches!(end, ConnectionError::Vanished), "{end:?}");
    drop(accepted);
}

#[tokio::test]
async fn keep_alive_keeps_an_idle_connection() {
    let mut config = Config::default();
    config.idle_timeout = Duration::from_millis(500);
    config.keep_alive = Duration::from_millis(100);
    let near = Quic::new(&keypair(1), Sockets::new(), config);
    let mut listener = listen(&quic(2), LOOPBACK).await;
    let (dialed, accepted) = connect(&near, &mut listener).await;
    let (a, b) = (side(dialed), side(accepted));
    assert!(timeout(Duration::from_secs(2), a.driver).await.is_err(), "it lives");
    drop(b);
}

#[tokio::test]
async fn long_packets_and_a_log_for_who_asks_for_them() {
    let directory = std::env::temp_dir().join(format!("peerage-qlog-{}", std::process::id()));
    let mut config = Config::default();
    config.max_packet = Some(MAX_LARGE_PACKET);
    config.qlog = Some(directory.clone());
    let (near, far) = (
        Quic::new(&keypair(1), Sockets::new(), config.clone()),
        Quic::new(&keypair(2), Sockets::new(), config),
    );
    let mut listener = listen(&far, LOOPBACK).await;
    let (dialed, accepted) = connect(&near, &mut listener).await;
    common::echo_both_ways(dialed, accepted).await;
    let mut logs: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.sort();
    assert_eq!(logs.len(), 2, "{logs:?}");
    for log in logs {
        let text = std::fs::read_to_string(log).unwrap();
        assert!(text.contains("qlog"), "{}", text.chars().take(100).collect::<String>());
    }
    std::fs::remove_dir_all(directory).unwrap();
}

/// As a client of another kind sees it: packets become as long as is taken, unless less is asked for.
#[tokio::test]
async fn packets_within_the_machine_are_long() {
    for (max_packet, longest) in [(None, MAX_LARGE_PACKET), (Some(MAX_PACKET), 1472)] {
        let mut config = Config::default();
        config.max_packet = max_packet;
        let far = Quic::new(&keypair(2), Sockets::new(), config);
        let mut listener = listen(&far, LOOPBACK).await;
        let address = listener.addresses()[0].socket_addr().unwrap().addr;
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let tls = tls::Config::new(&keypair(1)).unwrap().quic_client().unwrap().0;
        let mut client = quinn::ClientConfig::new(Arc::new(
            quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap(),
        ));
        let mut transport = quinn::TransportConfig::default();
        let mut discovery = quinn::MtuDiscoveryConfig::default();
        discovery.upper_bound(9000).minimum_change(1);
        client.transport_config(Arc::new(std::mem::take(transport.mtu_discovery_config(Some(discovery)))));
        let dialed = async { endpoint.connect_with(client, address, "0.0.0.0").unwrap().await.unwrap() };
        let accepted = async {
            let link = next(&mut listener).await;
            upgrader(2).finish(link, opts(Role::Responder, None)).await.unwrap()
        };
        let (connection, accepted) = tokio::join!(dialed, accepted);
        let far = side(accepted);
        tokio::spawn(echo(far.connection.clone()));
        // A probe goes with what is sent, and the next when the last was answered.
        let grown = async {
            while connection.stats().path.current_mtu < longest {
                let (mut send, mut recv) = connection.open_bi().await.unwrap();
                send.write_all(b"on").await.unwrap();
                send.finish().unwrap();
                recv.read_to_end(2).await.unwrap();
            }
        };
        timeout(LONG, grown).await.expect("it is found out");
        assert_eq!(connection.stats().path.current_mtu, longest);
    }
}

async fn echo(connection: Connection) {
    while let Ok(mut stream) = connection.accept().await {
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(&mut stream);
            tokio::io::copy(&mut read, &mut write).await.ok();
            stream.close_write().await.ok();
        });
    }
}

/// Many at once, dropped or closed in every way; in the end the socket is free, which it is not while anything is left.
#[tokio::test]
async fn a_thousand_connections_leave_nothing_behind() {
    let (near, far) = (quic(1), quic(2));
    let mut listener = listen(&far, LOOPBACK).await;
    let address = listener.addresses().remove(0);
    for round in 0..1000 {
        let (dialed, accepted) = connect(&near, &mut listener).await;
        let (a, b) = (side(dialed), side(accepted));
        let serving = tokio::spawn(echo(b.connection.clone()));
        if round % 3 > 0 {
            let mut stream = a.connection.open().await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            stream.close_write().await.unwrap();
            assert_eq!(read_to_end(&mut stream).await.unwrap(), b"ping");
        }
        match round % 4 {
            0 => a.connection.close(ErrorCode::NONE),
            1 => a.driver.abort(),
            2 => b.driver.abort(),
            _ => b.connection.close(ErrorCode::SHUTDOWN),
        }
        drop((a, b));
        serving.abort();
    }
    drop((near, far, listener));
    timeout(LONG, async {
        while std::net::UdpSocket::bind(address.socket_addr().unwrap().addr).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("nothing is left");
}
