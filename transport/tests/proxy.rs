//! Dials through proxies on loopback, which know their trade.
#![allow(clippy::unwrap_used)]

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{echo_both_ways, opts as upgrade_opts, peer, upgrader};
use peerage_core::Multiaddr;
use peerage_transport::{
    DialOpts, Fault, Link, ListenOpts, ListenerEvent, Role, Transport, TransportError,
    tcp::{Proxy, ProxyError, Tcp},
    websocket::{Config, WebSocket},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

/// Long enough for any machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

fn opts() -> DialOpts {
    DialOpts::new(Instant::now() + PATIENCE)
}

/// A SOCKS5 proxy for IPv4, without credentials.
async fn socks(mut client: TcpStream) -> std::io::Result<()> {
    let mut hello = [0; 3];
    client.read_exact(&mut hello).await?;
    assert_eq!(hello, [5, 1, 0]);
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 10];
    client.read_exact(&mut request).await?;
    let [5, 1, 0, 1, a, b, c, d, high, low] = request else { panic!("{request:?}") };
    let to = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
    let Ok(mut server) = TcpStream::connect(to).await else {
        return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// A proxy for CONNECT.
async fn connect(mut client: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await?);
    }
    let request = String::from_utf8(request).unwrap();
    let to = request.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
    let Ok(mut server) = TcpStream::connect(to).await else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Where a proxy of that kind is.
async fn proxy(kind: &str) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socks5 = kind == "socks5";
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move { if socks5 { socks(client).await } else { connect(client).await } });
        }
    });
    format!("{kind}://{address}").parse().unwrap()
}

async fn goes_through(listens: &dyn Transport, dials: &dyn Transport, at: &str) {
    let mut listener = listens.listen(at.parse().unwrap(), ListenOpts::default()).await.unwrap();
    let to = listener.addresses().remove(0);
    let near = async {
        let link = dials.dial(to.clone(), opts()).await.unwrap();
        upgrader(1).finish(link, upgrade_opts(Role::Initiator, Some(peer(2)))).await.unwrap()
    };
    let far = async {
        let ListenerEvent::Incoming(link) = listener.next().await else { panic!() };
        upgrader(2).finish(link, upgrade_opts(Role::Responder, None)).await.unwrap()
    };
    let (near, far) = timeout(PATIENCE, async { tokio::join!(near, far) }).await.unwrap();
    assert_eq!(near.remote, to);
    assert_ne!(far.remote, near.local, "it is the proxy that comes");
    timeout(PATIENCE, echo_both_ways(near, far)).await.unwrap();
}

#[tokio::test]
async fn tcp_and_websocket_go_through() {
    for kind in ["socks5", "http"] {
        let tcp = Tcp::new().through(proxy(kind).await);
        let websocket = WebSocket::sharing(&tcp, Config::default());
        goes_through(&Tcp::new(), &tcp, "/ip4/127.0.0.1/tcp/0").await;
        goes_through(&WebSocket::new(Config::default()), &websocket, "/ip4/127.0.0.1/tcp/0/ws").await;
        goes_through(&tcp, &tcp, "/ip4/127.0.0.1/tcp/0").await;
    }
}

/// Somewhere nobody listens.
const DEAD: &str = "/ip4/127.0.0.1/tcp/1";

async fn failure(tcp: &Tcp, opts: DialOpts) -> TransportError {
    let to: Multiaddr = DEAD.parse().unwrap();
    match tcp.dial(to, opts).await {
        Err(error) => error,
        Ok(Link::Raw(raw)) => panic!("{raw:?}"),
        Ok(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whose_fault_it_is_that_nobody_is_there() {
    for (kind, fault) in [("socks5", Fault::Remote), ("http", Fault::Network)] {
        let error = failure(&Tcp::new().through(proxy(kind).await), opts()).await;
        assert!(matches!(error, TransportError::Proxy(_)), "{error}");
        assert_eq!(error.fault(), fault, "{error}");
    }
    let nobody: Proxy = "socks5://127.0.0.1:1".parse().unwrap();
    let error = failure(&Tcp::new().through(nobody), opts()).await;
    assert!(matches!(error, TransportError::Proxy(ProxyError::Io(_))), "{error}");
    assert_eq!(error.fault(), Fault::Local, "the proxy is this node's choice");
}

#[tokio::test(start_paused = true)]
async fn a_silent_proxy_ends_with_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy: Proxy = format!("socks5://{}", listener.local_addr().unwrap()).parse().unwrap();
    let tcp = Tcp::new().through(proxy);
    let start = Instant::now();
    let error = failure(&tcp, DialOpts::new(start + Duration::from_secs(3))).await;
    assert!(matches!(error, TransportError::Timeout), "{error}");
    assert_eq!(start.elapsed().as_secs(), 3);
}
