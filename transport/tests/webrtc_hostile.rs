//! Strangers at the port of a webrtc-direct listener.

use std::{net::SocketAddr, time::Duration};

use peerage_core::{Keypair, Multiaddr};
use peerage_transport::{
    DialOpts, Fault, Link, ListenOpts, Listener, ListenerEvent, Transport, UpgradeOpts, Upgrader,
    udp::Sockets,
    upgrade::{self, UpgradeErrorKind},
    webrtc::{WebRtc, fuzzing},
};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout},
};

const LONG: Duration = Duration::from_secs(60);

/// A DTLS record that begins a handshake, with nothing of use in it.
const HELLO: &[u8] = b"\x16\xfe\xff\0\0\0\0\0\0\0\0\0\x05\x01\0\0\0\0";

struct Target {
    upgrader: Upgrader,
    listener: Box<dyn Listener>,
    address: Multiaddr,
    socket: SocketAddr,
}

async fn target() -> Target {
    let keypair = Keypair::generate();
    let transport = WebRtc::new(&keypair, Sockets::new());
    let mut config = upgrade::Config::default();
    config.timeout = Duration::from_secs(2);
    let address: Multiaddr = "/ip4/127.0.0.1/udp/0/webrtc-direct".parse().expect("an address");
    let listener = transport.listen(address, ListenOpts::default()).await.expect("loopback");
    let address = listener.addresses().remove(0);
    let socket = address.socket_addr().expect("a socket").addr;
    Target { upgrader: Upgrader::new(&keypair, config), listener, address, socket }
}

impl Target {
    async fn next(&mut self) -> Link {
        match self.listener.next().await {
            ListenerEvent::Incoming(link) => link,
            other => panic!("{other:?}"),
        }
    }

    /// Whether somebody honest still comes through.
    async fn is_well(&mut self) {
        let keypair = Keypair::generate();
        let dialer = WebRtc::new(&keypair, Sockets::new());
        let upgrader = Upgrader::new(&keypair, upgrade::Config::default());
        let opts = DialOpts::new(Instant::now() + LONG);
        let (address, own) = (self.address.clone(), self.upgrader.clone());
        let dialing = tokio::spawn(async move {
            let link = dialer.dial(address, opts.clone()).await.expect("it answers");
            upgrader.finish(link, UpgradeOpts::from(&opts)).await.expect("a connection")
        });
        let mut accepted = None;
        while accepted.is_none() {
            // Those of strangers come to nothing.
            let link = timeout(LONG, self.next()).await.expect("the dialer comes");
            accepted = own.finish(link, UpgradeOpts::incoming(Instant::now() + LONG)).await.ok();
        }
        let accepted = accepted.expect("one");
        let driver = tokio::spawn(accepted.muxed.driver);
        timeout(LONG, dialing).await.expect("in time").expect("no panic");
        driver.abort();
    }
}

async fn stranger(host: [u8; 4]) -> UdpSocket {
    UdpSocket::bind(SocketAddr::from((host, 0))).await.expect("all of 127/8 is this machine")
}

/// A proper check.
fn check(number: u32) -> Vec<u8> {
    let name = format!("libp2p+webrtc+v1/{number:08}");
    fuzzing::check(format!("{name}:{name}").as_bytes(), &name)
}

async fn answered(socket: &UdpSocket) -> bool {
    let mut answer = [0; 2000];
    match timeout(LONG, socket.recv(&mut answer)).await {
        Ok(Ok(len)) => len > 20 && answer[..2] == [1, 1],
        _ => false,
    }
}

#[tokio::test]
async fn names_with_line_ends_and_worse_are_not_answered() {
    let mut target = target().await;
    let socket = stranger([127, 0, 0, 1]).await;
    let long = "a".repeat(300);
    for (name, password) in [
        (
            "libp2p+webrtc+v1/ab\r\na=candidate:1 1 UDP 1 127.0.0.1 9 typ host:abcd",
            "libp2p+webrtc+v1/ab\r\na=candidate",
        ),
        ("libp2p+webrtc+v2/0123456789abcdefghijkl\r\n:abcd", "libp2p+webrtc+v2/0123456789abcdefghijkl\r\n"),
        ("libp2p+webrtc+v1/abcdefgh:abcd\n", "libp2p+webrtc+v1/abcdefgh"),
        ("libp2p+webrtc+v2/short:abcd", "libp2p+webrtc+v2/short"),
        ("libp2p+webrtc+v9/0123456789abcdefghijkl:abcd", "libp2p+webrtc+v9/0123456789abcdefghijkl"),
        ("nobody:abcd", "nobody"),
        ("", ""),
        (":", ""),
        (&*format!("libp2p+webrtc+v1/{long}:abcd"), &*format!("libp2p+webrtc+v1/{long}")),
        // Without the password.
        ("libp2p+webrtc+v1/abcdefgh:libp2p+webrtc+v1/abcdefgh", "another"),
    ] {
        let message = fuzzing::check(name.as_bytes(), password);
        socket.send_to(&message, target.socket).await.expect("sent");
        socket.send_to(HELLO, target.socket).await.expect("sent");
    }
    // The first answer is to the first good one: datagrams keep their order here.
    let good = check(1);
    socket.send_to(&good, target.socket).await.expect("sent");
    let mut answer = [0; 2000];
    let len = timeout(LONG, socket.recv(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(answer[8..20], good[8..20]);
    assert!(len <= good.len(), "no amplification");
    target.is_well().await;
}

#[tokio::test]
async fn junk_of_every_kind_costs_nothing() {
    let mut target = target().await;
    let socket = stranger([127, 0, 0, 1]).await;
    let mut junk: Vec<Vec<u8>> =
        vec![vec![], b"\r\n\r\n".to_vec(), vec![0; 65_507], HELLO.repeat(60), check(1)[..30].to_vec()];
    junk.extend((0..=255).map(|first| [vec![first], check(2)[1..].to_vec()].concat()));
    junk.extend((0..=255).map(|first| vec![first; 1200]));
    let mut long = check(3);
    long.resize(1600, 0);
    junk.push(long);
    for datagram in &junk {
        // The kernel loses some of them, if it must.
        let _ = socket.send_to(datagram, target.socket).await;
    }
    target.is_well().await;
}

/// From a hundred and more addresses, with proper checks before.
#[tokio::test]
async fn a_flood_of_hellos_is_bounded_and_leaves_room_again() {
    let mut target = target().await;
    let mut sockets = Vec::new();
    for number in 0..300_u32 {
        let socket = stranger([127, 1, (number / 200) as u8, (number % 200 + 1) as u8]).await;
        socket.send_to(&check(number), target.socket).await.expect("sent");
        assert!(answered(&socket).await, "{number}");
        socket.send_to(HELLO, target.socket).await.expect("sent");
        sockets.push(socket);
    }
    // One more round trip: everything before it was looked at.
    let last = stranger([127, 2, 0, 1]).await;
    last.send_to(&check(1000), target.socket).await.expect("sent");
    assert!(answered(&last).await);
    let mut links = Vec::new();
    while let Ok(link) = timeout(Duration::from_millis(200), target.next()).await {
        links.push(link);
    }
    assert!((1..=128).contains(&links.len()), "{}", links.len());
    drop(links);
    target.is_well().await;
}

#[tokio::test]
async fn one_address_takes_no_more_than_its_part() {
    let mut target = target().await;
    let mut sockets = Vec::new();
    for number in 0..60 {
        let socket = stranger([127, 0, 0, 1]).await;
        socket.send_to(&check(number), target.socket).await.expect("sent");
        assert!(answered(&socket).await, "{number}");
        socket.send_to(HELLO, target.socket).await.expect("sent");
        sockets.push(socket);
    }
    let mut links = Vec::new();
    while let Ok(link) = timeout(Duration::from_millis(200), target.next()).await {
        links.push(link);
    }
    assert_eq!(links.len(), 16);
}

/// Nothing follows the hello: the deadline ends it, and its place is free.
#[tokio::test]
async fn silence_after_the_hello_ends_by_the_deadline() {
    let mut target = target().await;
    let socket = stranger([127, 0, 0, 1]).await;
    socket.send_to(&check(1), target.socket).await.expect("sent");
    assert!(answered(&socket).await);
    socket.send_to(HELLO, target.socket).await.expect("sent");
    let link = timeout(LONG, target.next()).await.expect("it comes");
    let finishing = target.upgrader.finish(link, UpgradeOpts::incoming(Instant::now() + LONG));
    let error = timeout(LONG, finishing).await.expect("by the deadline").expect_err("nobody");
    assert!(matches!(error.kind, UpgradeErrorKind::Timeout), "{error:?}");
    assert_eq!(error.fault, Fault::Remote);
    target.is_well().await;
}

/// A listener that answers checks, and nothing else.
#[tokio::test]
async fn a_listener_that_falls_silent_ends_by_the_deadline() {
    let keypair = Keypair::generate();
    let dialer = WebRtc::new(&keypair, Sockets::new());
    let mut config = upgrade::Config::default();
    config.timeout = Duration::from_secs(1);
    let upgrader = Upgrader::new(&keypair, config);
    let silent = stranger([127, 0, 0, 1]).await;
    let local = silent.local_addr().expect("bound");
    let address = Multiaddr::udp(local).with(peerage_core::Protocol::WebrtcDirect).expect("short");
    let address =
        address.with(peerage_core::Protocol::Certhash(&dialer.fingerprint().to_multihash())).expect("short");
    let answering = tokio::spawn(async move {
        let mut buffer = [0; 2000];
        loop {
            let (len, source) = silent.recv_from(&mut buffer).await.expect("it lives");
            if let Some(answer) = fuzzing::answer(&buffer[..len], source) {
                silent.send_to(&answer, source).await.expect("sent");
            }
        }
    });
    let opts = DialOpts::new(Instant::now() + LONG);
    let link = dialer.dial(address.clone(), opts.clone()).await.expect("it answers");
    let finishing = upgrader.finish(link, UpgradeOpts::from(&opts));
    let error = timeout(LONG, finishing).await.expect("by the deadline").expect_err("nobody");
    assert!(matches!(error.kind, UpgradeErrorKind::Timeout), "{error:?}");

    // Without even an answer, the dial itself ends.
    answering.abort();
    let _ = answering.await;
    let again = UdpSocket::bind(local).await.expect("free again");
    let error = dialer.dial(address, DialOpts::new(Instant::now() + Duration::from_millis(500))).await;
    assert!(matches!(error, Err(peerage_transport::TransportError::Timeout)), "{error:?}");
    drop(again);
}
