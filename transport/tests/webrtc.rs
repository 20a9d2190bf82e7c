//! webrtc-direct over real sockets, two of ours.

use std::time::Duration;

use futures::future::join_all;
use peerage_core::{Keypair, Multiaddr, PeerId, budget::Budget};
use peerage_muxer::{Connection, ConnectionError, ErrorCode, Stream, testing};
use peerage_transport::{
    DialOpts, Established, Link, ListenOpts, Listener, ListenerEvent, Transport, UpgradeError, UpgradeOpts,
    Upgrader,
    udp::Sockets,
    upgrade::{self, UpgradeErrorKind},
    webrtc::{self, Version, WebRtc},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
    time::Instant,
};

const LONG: Duration = Duration::from_secs(60);

struct Node {
    keypair: Keypair,
    transport: WebRtc,
    upgrader: Upgrader,
}

impl Node {
    fn new() -> Self {
        let keypair = Keypair::generate();
        let transport = WebRtc::new(&keypair, Sockets::new());
        let upgrader = Upgrader::new(&keypair, upgrade::Config::default());
        Self { keypair, transport, upgrader }
    }

    fn peer(&self) -> PeerId {
        self.keypair.peer_id()
    }

    async fn listen(&self, address: &str) -> Box<dyn Listener> {
        let address: Multiaddr = address.parse().expect("an address");
        assert!(self.transport.listens(&address));
        self.transport.listen(address, ListenOpts::default()).await.expect("loopback")
    }

    async fn dial(&self, address: &Multiaddr, expected: Option<PeerId>) -> Result<Established, UpgradeError> {
        let opts = DialOpts { expected, ..DialOpts::new(Instant::now() + LONG) };
        let link = self.transport.dial(address.clone(), opts.clone()).await.expect("somebody answers");
        assert!(matches!(link, Link::Unfinished(_)));
        self.upgrader.finish(link, UpgradeOpts::from(&opts)).await
    }

    async fn accept(&self, listener: &mut dyn Listener) -> Result<Established, UpgradeError> {
        let ListenerEvent::Incoming(link) = listener.next().await else { panic!("nobody") };
        self.upgrader.finish(link, UpgradeOpts::incoming(Instant::now() + LONG)).await
    }
}

/// One end of a connection, its driver running.
struct End {
    peer: PeerId,
    local: Multiaddr,
    remote: Multiaddr,
    connection: Connection,
    driver: JoinHandle<Result<(), ConnectionError>>,
}

fn run(established: Established) -> End {
    let Established { peer, local, remote, muxed, .. } = established;
    End { peer, local, remote, connection: muxed.connection, driver: tokio::spawn(muxed.driver) }
}

async fn connect(listen: &str, version: Version) -> (End, End) {
    let (mut dialer, listener) = (Node::new(), Node::new());
    dialer.transport = dialer.transport.dialing_with(version);
    let mut bound = listener.listen(listen).await;
    let address = bound.addresses().remove(0);
    let (dialed, accepted) =
        tokio::join!(dialer.dial(&address, Some(listener.peer())), listener.accept(bound.as_mut()));
    let (dialed, accepted) = (run(dialed.expect("dialed")), run(accepted.expect("accepted")));
    assert_eq!((dialed.peer, accepted.peer), (listener.peer(), dialer.peer()));
    assert_eq!(dialed.remote, address);
    assert_eq!(accepted.remote.to_string(), dialed.local.to_string().replace("0.0.0.0", "127.0.0.1"));
    assert!(accepted.local.to_string().ends_with("/webrtc-direct"));
    (dialed, accepted)
}

struct OverWebRtc;

impl testing::Muxer for OverWebRtc {
    type Link = ();

    /// WebRTC has no place for it.
    const CARRIES_GOODBYES: bool = false;

    async fn pair() -> (testing::Side, testing::Side) {
        let (dialed, accepted) = connect("/ip4/127.0.0.1/udp/0/webrtc-direct", Version::V1).await;
        let side = |End { connection, driver, .. }| testing::Side { connection, link: (), driver };
        (side(dialed), side(accepted))
    }
}

peerage_muxer::conformance!(OverWebRtc);

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// Answers every stream with what came on it, as it comes.
fn echo(connection: &Connection) -> JoinHandle<()> {
    let connection = connection.clone();
    tokio::spawn(async move {
        while let Ok(stream) = connection.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(stream);
                tokio::io::copy(&mut read, &mut write).await.expect("copied");
                write.shutdown().await.expect("closed");
            });
        }
    })
}

async fn through_echo(connection: &Connection, data: &[u8]) {
    let stream = connection.open().await.expect("a stream");
    let (mut read, mut write) = tokio::io::split(stream);
    let write = async {
        write.write_all(data).await.expect("written");
        write.shutdown().await.expect("closed");
    };
    let mut all = Vec::new();
    let (_, result) = tokio::join!(write, read.read_to_end(&mut all));
    result.expect("read");
    assert!(all == data, "{} of {} bytes", all.len(), data.len());
}

#[tokio::test]
async fn four_mebibytes_go_both_ways_and_back() {
    for (address, version) in
        [("/ip4/127.0.0.1/udp/0/webrtc-direct", Version::V1), ("/ip6/::1/udp/0/webrtc-direct", Version::V2)]
    {
        let (dialed, accepted) =
            tokio::time::timeout(LONG, connect(address, version)).await.expect("in time");
        let _echoes = (echo(&dialed.connection), echo(&accepted.connection));
        for data in [&b"hello"[..], &pattern(4 * 1024 * 1024)] {
            for end in [&dialed, &accepted] {
                tokio::time::timeout(LONG, through_echo(&end.connection, data)).await.expect("in time");
            }
        }
        assert!(dialed.connection.rtt().is_none_or(|rtt| rtt < LONG));
    }
}

#[tokio::test]
async fn a_hundred_streams_at_once_in_both_directions() {
    let (dialed, accepted) = connect("/ip4/127.0.0.1/udp/0/webrtc-direct", Version::V2).await;
    let _echoes = (echo(&dialed.connection), echo(&accepted.connection));
    for _ in 0..3 {
        let data = pattern(20_000);
        let all = [&dialed, &accepted].into_iter().flat_map(|end| vec![&end.connection; 100]);
        let all = join_all(all.map(|connection| through_echo(connection, &data)));
        tokio::time::timeout(LONG, all).await.expect("in time");
    }
}

/// More streams than there are numbers for channels that all implementations know.
#[tokio::test]
async fn numbers_of_channels_are_used_again() {
    let (dialed, accepted) = connect("/ip4/127.0.0.1/udp/0/webrtc-direct", Version::V1).await;
    let _echo = echo(&accepted.connection);
    for _ in 0..13 {
        let all = join_all((0..100).map(|_| through_echo(&dialed.connection, b"small")));
        tokio::time::timeout(LONG, all).await.expect("in time");
    }
}

/// A reader that takes its time is waited for, and loses nothing.
#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    let (dialed, accepted) = connect("/ip4/127.0.0.1/udp/0/webrtc-direct", Version::V1).await;
    let data = pattern(3 * 1024 * 1024);
    let mut ours = dialed.connection.open().await.expect("a stream");
    let sent = data.clone();
    let writing = tokio::spawn(async move {
        ours.write_all(&sent).await.expect("written");
        ours.close_write().await.expect("closed");
        ours
    });
    let mut theirs = accepted.connection.accept().await.expect("a stream");
    let mut all = vec![0; 1];
    theirs.read_exact(&mut all).await.expect("the first byte");
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!writing.is_finished(), "nobody has read it");
    tokio::time::timeout(LONG, theirs.read_to_end(&mut all)).await.expect("in time").expect("all of it");
    assert!(all == data);
    writing.await.expect("no panic");
}

fn kind(error: UpgradeError) -> UpgradeErrorKind {
    error.kind
}

#[tokio::test]
async fn another_certificate_than_the_addresss_is_refused_by_name() {
    let (dialer, listener, other) = (Node::new(), Node::new(), Node::new());
    let mut bound = listener.listen("/ip4/127.0.0.1/udp/0/webrtc-direct").await;
    let mut address = bound.addresses().remove(0);
    assert!(address.pop());
    let expected = other.transport.fingerprint();
    let wrong = address.with(peerage_core::Protocol::Certhash(&expected.to_multihash())).expect("short");
    let accepting =
        tokio::spawn(async move { listener.accept(bound.as_mut()).await.map(drop).map_err(kind) });
    let error = dialer.dial(&wrong, None).await.expect_err("refused");
    assert_eq!(error.fault, peerage_transport::Fault::Remote);
    let UpgradeErrorKind::WebRtc(webrtc::Error::Certificate { expected: named, .. }) = kind(error) else {
        panic!("another error")
    };
    assert_eq!(named, expected);
    accepting.abort();
}

#[tokio::test]
async fn another_peer_than_the_expected_is_refused() {
    let (dialer, listener, other) = (Node::new(), Node::new(), Node::new());
    let mut bound = listener.listen("/ip4/127.0.0.1/udp/0/webrtc-direct").await;
    let address = bound.addresses().remove(0);
    let accepting = tokio::spawn({
        let peer = listener.peer();
        async move {
            // The listener, which has said its last word, hears of the refusal as the end of the connection.
            let accepted = run(listener.accept(bound.as_mut()).await.expect("it cannot know"));
            (accepted.driver.await.expect("no panic"), peer)
        }
    });
    let error = kind(dialer.dial(&address, Some(other.peer())).await.expect_err("refused"));
    let (ended, peer) = tokio::time::timeout(LONG, accepting).await.expect("in time").expect("no panic");
    assert!(
        matches!(error, UpgradeErrorKind::WrongPeer { expected, found } if expected == other.peer() && found == peer),
        "{error:?}"
    );
    assert!(matches!(ended, Err(ConnectionError::ClosedByPeer(_))), "{ended:?}");
}

#[tokio::test]
async fn the_address_is_the_same_after_a_restart() {
    let node = Node::new();
    let first = node.listen("/ip4/127.0.0.1/udp/0/webrtc-direct").await;
    let address = first.addresses().remove(0);
    drop(first);
    let mut plain = address.clone();
    assert!(plain.pop());
    let again = WebRtc::new(&node.keypair, Sockets::new());
    let second = again.listen(plain, ListenOpts::default()).await.expect("the port is free again");
    assert_eq!(second.addresses(), [address]);
}

#[tokio::test]
async fn sessions_outlive_their_listener_and_another_one_takes_its_place() {
    let (dialer, listener) = (Node::new(), Node::new());
    let mut bound = listener.listen("/ip4/127.0.0.1/udp/0/webrtc-direct").await;
    let address = bound.addresses().remove(0);
    let (dialed, accepted) = tokio::join!(dialer.dial(&address, None), listener.accept(bound.as_mut()));
    let (dialed, accepted) = (run(dialed.expect("dialed")), run(accepted.expect("accepted")));
    let _echo = echo(&accepted.connection);
    let mut plain = address.clone();
    assert!(plain.pop());
    let twice = listener.transport.listen(plain.clone(), ListenOpts::default()).await;
    assert!(twice.is_err(), "one at a time");
    drop(bound);
    through_echo(&dialed.connection, &pattern(100_000)).await;
    let mut bound = listener.listen(&plain.to_string()).await;
    assert_eq!(bound.addresses(), std::slice::from_ref(&address));
    let (another, _accepted) = tokio::join!(dialer.dial(&address, None), listener.accept(bound.as_mut()));
    drop(another.expect("dialed"));
    through_echo(&dialed.connection, &pattern(100_000)).await;
}

#[tokio::test]
async fn a_goodbye_ends_both_sides() {
    for closer in [0, 1] {
        let (dialed, accepted) = connect("/ip4/127.0.0.1/udp/0/webrtc-direct", Version::V1).await;
        let mut ends = [dialed, accepted];
        ends.rotate_left(closer);
        let [one, other] = ends;
        let mut stream: Stream = one.connection.open().await.expect("a stream");
        stream.write_all(&pattern(200_000)).await.expect("written");
        stream.close_write().await.expect("closed");
        one.connection.close(ErrorCode::SHUTDOWN);
        let mut theirs = other.connection.accept().await.expect("a stream");
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.expect("all of it, with the end");
        assert_eq!(all.len(), 200_000);
        let end = tokio::time::timeout(LONG, one.driver).await.expect("in time").expect("no panic");
        assert!(end.is_ok(), "{end:?}");
        let end = tokio::time::timeout(LONG, other.driver).await.expect("in time").expect("no panic");
        assert!(matches!(end, Err(ConnectionError::ClosedByPeer(_))), "{end:?}");
    }
}

/// Memory is asked for before anything is said to the other side.
#[tokio::test]
async fn without_memory_there_is_no_connection() {
    let (dialer, listener) = (Node::new(), Node::new());
    let bound = listener.listen("/ip4/127.0.0.1/udp/0/webrtc-direct").await;
    let address = bound.addresses().remove(0);
    let opts = DialOpts::new(Instant::now() + LONG);
    let link = dialer.transport.dial(address, opts.clone()).await.expect("somebody answers");
    let opts = UpgradeOpts { budget: Budget::limited(100 * 1024), ..UpgradeOpts::from(&opts) };
    let error = kind(dialer.upgrader.finish(link, opts).await.expect_err("refused"));
    assert!(matches!(error, UpgradeErrorKind::NoMemory(_)), "{error:?}");
}

/// The system says that nobody is there.
#[tokio::test]
async fn a_dial_to_nobody_is_refused_at_once() {
    let node = Node::new();
    let bound = node.listen("/ip4/127.0.0.1/udp/0/webrtc-direct").await;
    let address = bound.addresses().remove(0);
    drop(bound);
    let error = node.transport.dial(address, DialOpts::new(Instant::now() + LONG)).await.expect_err("nobody");
    assert_eq!(error.fault(), peerage_transport::Fault::Remote, "{error}");
}
