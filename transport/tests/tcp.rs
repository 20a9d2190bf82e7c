//! TCP on loopback, both families.
#![allow(clippy::unwrap_used)]

use std::{io, time::Duration};

use futures::FutureExt;
use peerage_core::{Multiaddr, Protocol};
use peerage_transport::{
    DialOpts, Link, ListenError, ListenOpts, Listener, ListenerEvent, Raw, Transport, TransportError,
    tcp::Tcp,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::Instant,
};

const LOOPBACKS: [&str; 2] = ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"];

async fn listen(tcp: &Tcp, address: &str, reuse_port: bool) -> (Box<dyn Listener>, Multiaddr) {
    let mut opts = ListenOpts::default();
    opts.reuse_port = reuse_port;
    let listener = tcp.listen(address.parse().unwrap(), opts).await.unwrap();
    let address = listener.addresses().remove(0);
    (listener, address)
}

fn opts() -> DialOpts {
    DialOpts::new(Instant::now() + Duration::from_secs(20))
}

async fn dial(tcp: &Tcp, address: &Multiaddr, opts: DialOpts) -> Result<Raw, TransportError> {
    match tcp.dial(address.clone(), opts).await? {
        Link::Raw(raw) => Ok(raw),
        other => panic!("{other:?}"),
    }
}

async fn accept(listener: &mut Box<dyn Listener>) -> Raw {
    match listener.next().await {
        ListenerEvent::Incoming(Link::Raw(raw)) => raw,
        other => panic!("{other:?}"),
    }
}

fn port(address: &Multiaddr) -> u16 {
    match address.iter().nth(1) {
        Some(Protocol::Tcp(port)) => port,
        other => panic!("{other:?} in {address}"),
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_side_knows_the_other() {
    for loopback in LOOPBACKS {
        let tcp = Tcp::new();
        let (mut listener, address) = listen(&tcp, loopback, false).await;
        assert_ne!(port(&address), 0);
        let (dialed, mut accepted) = tokio::join!(dial(&tcp, &address, opts()), accept(&mut listener));
        let mut dialed = dialed.unwrap();
        assert_eq!(dialed.remote, address);
        assert_eq!(accepted.local, address);
        assert_eq!(dialed.local, accepted.remote);

        dialed.io.write_all(b"there").await.unwrap();
        dialed.io.shutdown().await.unwrap();
        let mut all = String::new();
        accepted.io.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "there");
        accepted.io.write_all(b"back").await.unwrap();
        drop(accepted);
        all.clear();
        dialed.io.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "back");
    }
}

#[tokio::test]
async fn what_it_dials_and_listens_on() {
    let tcp = Tcp::new();
    assert_eq!(tcp.name(), "tcp");
    for (text, dials, listens) in [
        ("/ip4/127.0.0.1/tcp/1", true, true),
        ("/ip6/::1/tcp/1", true, true),
        ("/ip4/127.0.0.1/tcp/0", false, true),
        ("/ip4/0.0.0.0/tcp/1", false, true),
        ("/ip6/::/tcp/1", false, true),
        ("/ip6/::ffff:127.0.0.1/tcp/1", false, false),
        ("/dns/localhost/tcp/1", false, false),
        ("/dns4/localhost/tcp/1", false, false),
        ("/ip4/127.0.0.1/udp/1", false, false),
        ("/ip4/127.0.0.1/tcp/1/ws", false, false),
        ("/memory/1", false, false),
    ] {
        let address: Multiaddr = text.parse().unwrap();
        assert_eq!(tcp.dials(&address), dials, "{text}");
        assert_eq!(tcp.listens(&address), listens, "{text}");
        if !dials {
            let dialed = tcp.dial(address.clone(), opts()).await;
            assert!(matches!(dialed, Err(TransportError::Unsupported(_))), "{text}");
        }
        if !listens {
            let listening = tcp.listen(address, ListenOpts::default()).await;
            assert!(matches!(listening, Err(ListenError::Unsupported(_))), "{text}");
        }
    }
}

#[tokio::test]
async fn nobody_listening_is_a_refusal() {
    for loopback in LOOPBACKS {
        // A socket that is bound and does not listen keeps the port from everybody else.
        let (socket, local) = match loopback {
            "/ip6/::1/tcp/0" => (TcpSocket::new_v6().unwrap(), "[::1]:0"),
            _ => (TcpSocket::new_v4().unwrap(), "127.0.0.1:0"),
        };
        socket.bind(local.parse().unwrap()).unwrap();
        let address = Multiaddr::tcp(socket.local_addr().unwrap());
        let Err(TransportError::Io(error)) = dial(&Tcp::new(), &address, opts()).await else { panic!() };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}

/// The clock stands still but for what is said here. Connecting takes a turn of the runtime's, even on loopback, and a
/// deadline that is over leaves none.
#[tokio::test(start_paused = true)]
async fn a_dial_ends_by_its_deadline() {
    for loopback in LOOPBACKS {
        let tcp = Tcp::new();
        let (_listener, address) = listen(&tcp, loopback, false).await;
        let deadline = Instant::now() + Duration::from_secs(5);
        tokio::time::advance(Duration::from_secs(10)).await;
        let late = dial(&tcp, &address, DialOpts::new(deadline)).await;
        assert!(matches!(late, Err(TransportError::Timeout)), "{late:?}");
        // It was for nothing else that it failed.
        dial(&tcp, &address, opts()).await.unwrap();
    }
}

#[tokio::test]
async fn an_address_in_use_is_a_bind_error() {
    let tcp = Tcp::new();
    let (_listener, address) = listen(&tcp, LOOPBACKS[0], false).await;
    let Err(ListenError::Bind { address: named, source }) =
        tcp.listen(address.clone(), ListenOpts::default()).await
    else {
        panic!()
    };
    assert_eq!(named, address);
    assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_dropped_listener_frees_its_port_though_connections_live() {
    let tcp = Tcp::new();
    let (mut listener, address) = listen(&tcp, LOOPBACKS[0], false).await;
    let (dialed, accepted) = tokio::join!(dial(&tcp, &address, opts()), accept(&mut listener));
    drop(listener);
    let (_again, same) = listen(&tcp, &address.to_string(), false).await;
    assert_eq!(same, address);
    drop((dialed, accepted));
}

#[tokio::test]
async fn a_dial_comes_from_the_listeners_port_if_both_say_so() {
    for loopback in LOOPBACKS {
        let (near, far) = (Tcp::new(), Tcp::new());
        let (_own, own) = listen(&near, loopback, true).await;
        for (reuse, same) in [(true, true), (false, false)] {
            let (mut listener, address) = listen(&far, loopback, false).await;
            let mut opts = opts();
            opts.reuse_listen_port = reuse;
            let (dialed, accepted) = tokio::join!(dial(&near, &address, opts), accept(&mut listener));
            let dialed = dialed.unwrap();
            assert_eq!(port(&dialed.local) == port(&own), same);
            assert_eq!(accepted.remote, dialed.local);
        }
    }
}

#[tokio::test]
async fn a_listener_that_did_not_say_so_keeps_its_port_to_itself() {
    let (near, far) = (Tcp::new(), Tcp::new());
    let (_own, own) = listen(&near, LOOPBACKS[0], false).await;
    let (mut listener, address) = listen(&far, LOOPBACKS[0], false).await;
    let mut opts = opts();
    opts.reuse_listen_port = true;
    let (dialed, _accepted) = tokio::join!(dial(&near, &address, opts), accept(&mut listener));
    assert_ne!(port(&dialed.unwrap().local), port(&own));
}

#[tokio::test]
async fn a_pair_of_ports_in_use_falls_back_to_another_port() {
    let (near, far) = (Tcp::new(), Tcp::new());
    let (_own, own) = listen(&near, LOOPBACKS[0], true).await;
    let (mut listener, address) = listen(&far, LOOPBACKS[0], false).await;
    let mut opts = opts();
    opts.reuse_listen_port = true;
    let (first, _one) = tokio::join!(dial(&near, &address, opts.clone()), accept(&mut listener));
    let (second, _two) = tokio::join!(dial(&near, &address, opts), accept(&mut listener));
    assert_eq!(port(&first.unwrap().local), port(&own));
    assert_ne!(port(&second.unwrap().local), port(&own));
}

#[tokio::test]
async fn a_dial_to_the_own_listener_does_not_meet_itself() {
    let tcp = Tcp::new();
    let (mut listener, address) = listen(&tcp, LOOPBACKS[0], true).await;
    let mut opts = opts();
    opts.reuse_listen_port = true;
    let dialed = dial(&tcp, &address, opts).await.unwrap();
    assert_eq!(dialed.remote, address);
    assert_ne!(dialed.local, dialed.remote);
    let accepted = accept(&mut listener).await;
    assert_eq!(accepted.remote, dialed.local);
}

#[tokio::test]
async fn next_may_be_dropped_at_any_time() {
    let tcp = Tcp::new();
    let (mut listener, address) = listen(&tcp, LOOPBACKS[0], false).await;
    assert!(listener.next().now_or_never().is_none());
    let (dialed, accepted) = tokio::join!(dial(&tcp, &address, opts()), accept(&mut listener));
    assert_eq!(accepted.remote, dialed.unwrap().local);
}

#[test]
fn a_listener_and_its_links_work_from_another_runtime() {
    let one = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tcp = Tcp::new();
    let (mut listener, address) = one.block_on(listen(&tcp, LOOPBACKS[0], false));
    other.block_on(async {
        let (dialed, mut accepted) = tokio::join!(dial(&tcp, &address, opts()), accept(&mut listener));
        let mut dialed = dialed.unwrap();
        dialed.io.write_all(b"x").await.unwrap();
        accepted.io.read_exact(&mut [0]).await.unwrap();
    });
}
