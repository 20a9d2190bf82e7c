//! WebSockets on loopback: with our own other side, with tungstenite, and with peers that are written out here.
#![allow(clippy::unwrap_used)]

mod common;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use common::{assert_error, echo_both_ways, opts as upgrade_opts, peer, upgrader, upgrader_by};
use data_encoding::BASE64;
use futures::{SinkExt as _, StreamExt as _};
use peerage_core::Multiaddr;
use peerage_muxer::{
    ConnectionError, ErrorCode, Outflow,
    testing::{self, Side},
};
use peerage_transport::{
    DialOpts, Established, Fault, Link, ListenError, ListenOpts, Listener, ListenerEvent, Progress, Raw,
    Role, Stage, Transport, TransportError, UpgradeError,
    tcp::Tcp,
    upgrade::{Security, UpgradeErrorKind},
    websocket::{
        Certificate, Config, Error, MAX_HEAD_LEN, OPENING_TIMEOUT, RELOAD_INTERVAL, Violation, WebSocket,
        authorities,
    },
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, advance, timeout},
};
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};

/// Long enough for any machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
}

/// A certificate authority, and what it signs, in a directory of its own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("peerage-websocket-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(dir.join("ca.pem"), pem("CERTIFICATE", params.self_signed(&key).unwrap().der()))
            .unwrap();
        Self { issuer: Issuer::new(params, key), dir }
    }

    /// Signs for these names, and writes both files.
    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        self.write(names, change);
        Certificate::from_files(self.file("chain.pem"), self.file("key.pem")).unwrap()
    }

    fn write(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file("chain.pem"), pem("CERTIFICATE", signed.der())).unwrap();
        std::fs::write(self.file("key.pem"), pem("PRIVATE KEY", &key.serialize_der())).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A transport that believes this authority and no other.
    fn believing(&self, certificate: Option<Certificate>) -> WebSocket {
        WebSocket::new(self.config(certificate))
    }

    fn config(&self, certificate: Option<Certificate>) -> Config {
        let mut config = Config::default();
        config.system_roots = false;
        config.authorities = authorities(&self.file("ca.pem")).unwrap();
        config.certificate = certificate;
        config
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn plain() -> WebSocket {
    WebSocket::new(Config::default())
}

async fn listen(transport: &dyn Transport, address: &str) -> (Box<dyn Listener>, Multiaddr) {
    let listener = transport.listen(address.parse().unwrap(), ListenOpts::default()).await.unwrap();
    let address = listener.addresses().remove(0);
    (listener, address)
}

fn opts() -> DialOpts {
    DialOpts::new(Instant::now() + PATIENCE)
}

fn socket(address: &Multiaddr) -> SocketAddr {
    address.socket_addr().unwrap().addr
}

async fn incoming(listener: &mut Box<dyn Listener>) -> Link {
    match timeout(PATIENCE, listener.next()).await.unwrap() {
        ListenerEvent::Incoming(link) => link,
        other => panic!("{other:?}"),
    }
}

async fn open(link: Link) -> Result<Raw, Error> {
    match link {
        Link::Opening(opening) => opening.open(Outflow::default()).await,
        Link::Raw(raw) => Ok(raw),
        other => panic!("{other:?}"),
    }
}

async fn dialed(transport: &dyn Transport, to: &Multiaddr) -> Result<Raw, Error> {
    open(transport.dial(to.clone(), opts()).await.unwrap()).await
}

/// The next link, as far as it opens.
async fn accepted(listener: &mut Box<dyn Listener>) -> Result<Raw, Error> {
    open(incoming(listener).await).await
}

async fn finish(role: Role, link: Link) -> Result<Established, UpgradeError> {
    let (seed, expected) = if role == Role::Initiator { (1, Some(peer(2))) } else { (2, None) };
    upgrader(seed).finish(link, upgrade_opts(role, expected)).await
}

/// Dials and accepts, through security and muxer, and sends something both ways.
async fn connected(
    transport: &dyn Transport,
    listener: &mut Box<dyn Listener>,
    to: &Multiaddr,
) -> [Multiaddr; 4] {
    let near = async { finish(Role::Initiator, transport.dial(to.clone(), opts()).await.unwrap()).await };
    let far = async { finish(Role::Responder, incoming(listener).await).await };
    let (near, far) = tokio::join!(near, far);
    let (near, far) = (near.unwrap(), far.unwrap());
    let addresses = [near.local.clone(), near.remote.clone(), far.local.clone(), far.remote.clone()];
    timeout(PATIENCE, echo_both_ways(near, far)).await.unwrap();
    addresses
}

/// One that says these bytes to whoever comes, after some of theirs.
async fn scripted_server(says: &'static [u8]) -> Multiaddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Multiaddr::tcp(listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut some = [0; 4];
            socket.read_exact(&mut some).await.unwrap();
            socket.write_all(says).await.unwrap();
            // Whether it hangs up is the other side's.
            tokio::spawn(
                async move { while socket.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} },
            );
        }
    });
    format!("{address}/ws").parse().unwrap()
}

#[tokio::test]
async fn connections_go_through_and_each_side_knows_the_other() {
    for at in ["/ip4/127.0.0.1/tcp/0/ws", "/ip6/::1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0/ws/http-path/a%2Fb%20c"]
    {
        let transport = plain();
        let (mut listener, to) = listen(&transport, at).await;
        let [near_local, near_remote, far_local, far_remote] =
            connected(&transport, &mut listener, &to).await;
        assert_eq!((&near_remote, &far_local), (&to, &to));
        assert_eq!(near_local, far_remote);
        assert!(near_local.to_string().ends_with("/ws"), "{near_local}");
    }
}

#[tokio::test]
async fn connections_go_through_over_tls() {
    let authority = Authority::new("tls");
    let certificate = authority.issue(&["localhost", "127.0.0.1", "::1"], |_| {});
    let transport = authority.believing(Some(certificate));
    for (at, dial) in [
        ("/ip4/127.0.0.1/tcp/0/tls/ws", "/tls/ws"),
        ("/ip4/127.0.0.1/tcp/0/wss", "/wss"),
        ("/ip6/::1/tcp/0/tls/ws", "/tls/ws"),
        ("/ip4/127.0.0.1/tcp/0/tls/sni/localhost/ws", "/tls/sni/localhost/ws"),
        ("/ip4/127.0.0.1/tcp/0/tls/ws/http-path/x", "/tls/sni/localhost/ws/http-path/x"),
    ] {
        let (mut listener, bound) = listen(&transport, at).await;
        let to: Multiaddr = format!("{}{dial}", Multiaddr::tcp(socket(&bound))).parse().unwrap();
        let [near_local, near_remote, far_local, far_remote] =
            connected(&transport, &mut listener, &to).await;
        assert_eq!((&near_remote, &far_local), (&to, &bound));
        assert_eq!(near_local, far_remote);
        assert!(near_local.to_string().ends_with("/tls/ws"), "{near_local}");
    }
}

#[tokio::test]
async fn certificates_that_prove_nothing() {
    let (authority, other) = (Authority::new("proof"), Authority::new("proof-other"));
    let fine: fn(&mut CertificateParams) = |_| {};
    let past: fn(&mut CertificateParams) = |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let future: fn(&mut CertificateParams) = |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1);
    for (signed_by, of, change, name, why) in [
        (&authority, "example.com", fine, "", "somebody else's"),
        (&authority, "example.com", fine, "/sni/example.org", "somebody else's"),
        (&authority, "127.0.0.1", fine, "/sni/localhost", "somebody else's"),
        (&authority, "127.0.0.1", past, "", "expired"),
        (&authority, "127.0.0.1", future, "", "not valid yet"),
        (&other, "127.0.0.1", fine, "", "signed by nobody whom this node believes"),
    ] {
        let certificate = signed_by.issue(&[of], change);
        let server = authority.believing(Some(certificate));
        let (mut listener, bound) = listen(&server, "/ip4/127.0.0.1/tcp/0/tls/ws").await;
        let to: Multiaddr = format!("{}/tls{name}/ws", Multiaddr::tcp(socket(&bound))).parse().unwrap();
        let client = authority.believing(None);
        let near = async { finish(Role::Initiator, client.dial(to.clone(), opts()).await.unwrap()).await };
        let (near, far) = tokio::join!(near, accepted(&mut listener));
        let error = near.unwrap_err();
        assert_error(&error, Stage::WebSocket, Fault::Remote);
        assert!(error.to_string().contains(why), "{error}");
        assert!(matches!(far, Err(Error::Tls(_))), "the server hears of it: {far:?}");
    }
}

#[tokio::test]
async fn nobody_is_believed_without_authorities() {
    let authority = Authority::new("none");
    let server = authority.believing(Some(authority.issue(&["127.0.0.1"], |_| {})));
    let (_listener, to) = listen(&server, "/ip4/127.0.0.1/tcp/0/tls/ws").await;
    let mut config = Config::default();
    config.system_roots = false;
    let error = dialed(&WebSocket::new(config), &to).await.err().unwrap();
    assert!(matches!(error, Error::NoRoots(_)) && error.fault() == Fault::Local, "{error}");
}

#[tokio::test]
async fn whoever_believes_everybody_believes_a_certificate_of_a_stranger() {
    let authority = Authority::new("everybody");
    let past: fn(&mut CertificateParams) = |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let server = authority.believing(Some(authority.issue(&["example.com"], past)));
    let (mut listener, to) = listen(&server, "/ip4/127.0.0.1/tcp/0/tls/ws").await;
    let mut config = Config::default();
    config.any_certificate = true;
    let client = WebSocket::new(config);
    let (near, far) = tokio::join!(dialed(&client, &to), accepted(&mut listener));
    assert!(near.is_ok() && far.is_ok(), "{near:?} {far:?}");
}

#[tokio::test]
async fn listening_over_tls_needs_a_certificate() {
    let listening =
        plain().listen("/ip4/127.0.0.1/tcp/0/tls/ws".parse().unwrap(), ListenOpts::default()).await;
    let error = listening.err().unwrap();
    assert!(matches!(error, ListenError::NoCertificate(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_read_again_when_its_files_change() {
    let authority = Authority::new("reload");
    let certificate = authority.issue(&["localhost"], |_| {});
    let transport = authority.believing(Some(certificate));
    let (mut listener, bound) = listen(&transport, "/ip4/127.0.0.1/tcp/0/tls/ws").await;
    let mut shows = async |name: &str| {
        let to: Multiaddr = format!("{}/tls/sni/{name}/ws", Multiaddr::tcp(socket(&bound))).parse().unwrap();
        let (near, far) = tokio::join!(dialed(&transport, &to), accepted(&mut listener));
        assert_eq!(near.is_ok(), far.is_ok());
        near.is_ok()
    };
    let later = |file: &str, seconds: u64| {
        let file = std::fs::File::options().write(true).open(authority.file(file)).unwrap();
        let when = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + seconds);
        file.set_modified(when).unwrap();
    };
    assert!(shows("localhost").await);

    authority.write(&["example.com"], |_| {});
    later("chain.pem", 1);
    assert!(!shows("example.com").await, "not looked at so soon");
    advance(RELOAD_INTERVAL).await;
    assert!(shows("example.com").await);

    std::fs::write(authority.file("key.pem"), "not a key").unwrap();
    advance(RELOAD_INTERVAL).await;
    assert!(shows("example.com").await, "the old one stays");
    std::fs::remove_file(authority.file("key.pem")).unwrap();
    advance(RELOAD_INTERVAL).await;
    assert!(shows("example.com").await, "the old one stays");

    authority.write(&["example.net"], |_| {});
    later("chain.pem", 2);
    advance(RELOAD_INTERVAL).await;
    assert!(shows("example.net").await);
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_refused_at_once() {
    let authority = Authority::new("unusable");
    authority.write(&["localhost"], |_| {});
    let (chain, key) = (authority.file("chain.pem"), authority.file("key.pem"));
    let other = KeyPair::generate().unwrap().serialize_der();
    std::fs::write(authority.file("other.pem"), pem("PRIVATE KEY", &other)).unwrap();
    std::fs::write(authority.file("empty.pem"), "").unwrap();
    for (chain, key) in [
        (&chain, &authority.file("other.pem")),
        (&chain, &authority.file("missing.pem")),
        (&chain, &authority.file("empty.pem")),
        (&authority.file("empty.pem"), &key),
        (&key, &chain),
    ] {
        let error = Certificate::from_files(chain, key).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
    assert!(authorities(&authority.file("empty.pem")).is_err());
    Certificate::from_files(chain, key).unwrap();
}

#[tokio::test]
async fn tungstenite_is_served() {
    let (mut listener, to) = listen(&plain(), "/ip4/127.0.0.1/tcp/0/ws").await;
    let client = async {
        let stream = TcpStream::connect(socket(&to)).await.unwrap();
        let (mut theirs, _) = client_async("ws://localhost/", stream).await.unwrap();
        for len in [0, 1, 125, 126, 65535, 65536, 1 << 20] {
            theirs.send(Message::Ping(vec![1].into())).await.unwrap();
            theirs.send(Message::binary(vec![7; len])).await.unwrap();
            let mut got = 0;
            while got < len {
                match theirs.next().await.unwrap().unwrap() {
                    Message::Binary(bytes) => got += bytes.len(),
                    Message::Pong(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        theirs.close(None).await.unwrap();
        while let Some(Ok(_)) = theirs.next().await {}
    };
    let server = async {
        let raw = accepted(&mut listener).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(raw.io);
        tokio::io::copy(&mut reader, &mut writer).await.unwrap()
    };
    let ((), copied) = timeout(PATIENCE, async { tokio::join!(client, server) }).await.unwrap();
    assert_eq!(copied, 1 + 125 + 126 + 65535 + 65536 + (1 << 20));
}

#[tokio::test]
async fn tungstenite_is_dialed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to: Multiaddr = format!("{}/ws", Multiaddr::tcp(listener.local_addr().unwrap())).parse().unwrap();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut theirs = accept_async(stream).await.unwrap();
        while let Some(message) = theirs.next().await {
            match message.unwrap() {
                message @ Message::Binary(_) => theirs.send(message).await.unwrap(),
                Message::Close(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let client = async {
        let mut raw = dialed(&plain(), &to).await.unwrap();
        let sent = vec![7; 300_000];
        let mut got = vec![0; sent.len()];
        let (mut reader, mut writer) = tokio::io::split(&mut raw.io);
        let write = async {
            writer.write_all(&sent).await.unwrap();
            writer.flush().await.unwrap();
        };
        let (read, ()) = tokio::join!(reader.read_exact(&mut got), write);
        read.unwrap();
        assert!(got == sent);
        raw.io.shutdown().await.unwrap();
        assert_eq!(raw.io.read(&mut got).await.unwrap(), 0);
    };
    timeout(PATIENCE, async { tokio::join!(client, server) }).await.unwrap();
}

/// What a dialer makes of servers that are none.
#[tokio::test]
async fn servers_that_open_no_websocket() {
    const MOVED: &[u8] = b"HTTP/1.1 301 Moved Permanently\r\nLocation: ws://127.0.0.1:1/\r\n\r\n";
    for (says, why) in [
        (&b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"[..], "HTTP status 404 (Not Found)"),
        (MOVED, "HTTP status 301 (Moved Permanently)"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "HTTP status 200 (OK)"),
        (b"\x13/multistream/1.0.0\n", "does not speak HTTP"),
        (b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "another request"),
    ] {
        let to = scripted_server(says).await;
        let error = finish(Role::Initiator, plain().dial(to, opts()).await.unwrap()).await.unwrap_err();
        assert_error(&error, Stage::WebSocket, Fault::Remote);
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_one_with() {
    let to = scripted_server(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let to: Multiaddr = format!("{}/tls/ws", Multiaddr::tcp(socket(&to))).parse().unwrap();
    let authority = Authority::new("no-tls");
    let error = finish(Role::Initiator, authority.believing(None).dial(to, opts()).await.unwrap()).await;
    let error = error.unwrap_err();
    assert_error(&error, Stage::WebSocket, Fault::Remote);
    assert!(matches!(error.kind, UpgradeErrorKind::WebSocket(Error::Tls(_))), "{error}");
}

#[tokio::test]
async fn requests_for_another_path_are_told_so() {
    let (mut listener, bound) = listen(&plain(), "/ip4/127.0.0.1/tcp/0/ws/http-path/here").await;
    let to: Multiaddr = format!("{}/ws/http-path/there", Multiaddr::tcp(socket(&bound))).parse().unwrap();
    let (transport, far) = (plain(), finish_incoming(&mut listener));
    let (near, far) = tokio::join!(dialed(&transport, &to), far);
    assert!(matches!(near, Err(Error::Status(404))), "{near:?}");
    let far = far.unwrap_err();
    assert_error(&far, Stage::WebSocket, Fault::Remote);
    assert!(matches!(far.kind, UpgradeErrorKind::WebSocket(Error::Refused { status: 404, .. })), "{far}");
}

async fn finish_incoming(listener: &mut Box<dyn Listener>) -> Result<Established, UpgradeError> {
    finish(Role::Responder, incoming(listener).await).await
}

/// What breaks the framing in the middle of an upgrade ends that, and says what it was.
#[tokio::test]
async fn broken_frames_end_the_upgrade() {
    let text = b"\x81\x82\0\0\0\0hi";
    let unmasked = b"\x82\x02hi";
    let huge = [&[0x82, 0xff][..], &(256_u64 << 20).to_be_bytes(), &[0; 4]].concat();
    for (frame, violation) in [
        (&text[..], Violation::Text),
        (unmasked, Violation::Unmasked),
        (&huge, Violation::TooLong(256 << 20)),
    ] {
        let (mut listener, to) = listen(&plain(), "/ip4/127.0.0.1/tcp/0/ws").await;
        let client = async {
            let stream = TcpStream::connect(socket(&to)).await.unwrap();
            let (mut theirs, _) = client_async("ws://h/", stream).await.unwrap();
            theirs.get_mut().write_all(frame).await.unwrap();
            while let Some(Ok(message)) = theirs.next().await {
                if let Message::Close(close) = message {
                    return close.map(|close| u16::from(close.code));
                }
            }
            None
        };
        let (told, failed) = tokio::join!(client, finish_incoming(&mut listener));
        let error = failed.unwrap_err();
        assert_error(&error, Stage::Security, Fault::Remote);
        let UpgradeErrorKind::WebSocket(Error::Violation(found)) = error.kind else { panic!("{error}") };
        assert_eq!(found, violation);
        assert!(matches!(told, Some(1002 | 1003 | 1009)), "{told:?}");
    }
}

#[tokio::test]
async fn a_giant_head_is_not_read_to_its_end() {
    let (mut listener, to) = listen(&plain(), "/ip4/127.0.0.1/tcp/0/ws").await;
    let client = async {
        let mut stream = TcpStream::connect(socket(&to)).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nCookie: {}", "x".repeat(MAX_HEAD_LEN));
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    };
    let ((), failed) = tokio::join!(client, finish_incoming(&mut listener));
    let error = failed.unwrap_err();
    assert_error(&error, Stage::WebSocket, Fault::Remote);
    assert!(matches!(error.kind, UpgradeErrorKind::WebSocket(Error::HeadTooLong)), "{error}");
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// S1: silence after any byte of the upgrade ends it in time, on a port of one kind and on one of several.
#[tokio::test(start_paused = true)]
async fn silence_after_any_byte_ends_in_time() {
    let tcp = Tcp::new();
    let shared = WebSocket::sharing(&tcp, Config::default());
    let (mut alone, alone_at) = listen(&plain(), "/ip4/127.0.0.1/tcp/0/ws").await;
    let (_plain, plain_at) = listen(&tcp, "/ip4/127.0.0.1/tcp/0").await;
    let (mut sharing, sharing_at) = listen(&shared, &format!("{plain_at}/ws")).await;
    for (listener, at) in [(&mut alone, &alone_at), (&mut sharing, &sharing_at)] {
        for said in 0..REQUEST.len() {
            let mut stream = TcpStream::connect(socket(at)).await.unwrap();
            stream.write_all(&REQUEST[..said]).await.unwrap();
            let link = incoming(listener).await;
            let start = Instant::now();
            let error = finish(Role::Responder, link).await.unwrap_err();
            assert_error(&error, Stage::WebSocket, Fault::Remote);
            assert!(matches!(error.kind, UpgradeErrorKind::Timeout), "{said}: {error}");
            assert_eq!(start.elapsed().as_secs(), OPENING_TIMEOUT.as_secs(), "after {said} bytes");
        }
    }
}

/// S1: whoever sends a byte now and then gets no more time.
#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_buys_no_time() {
    let (mut listener, to) = listen(&plain(), "/ip4/127.0.0.1/tcp/0/ws").await;
    let mut stream = TcpStream::connect(socket(&to)).await.unwrap();
    let link = incoming(&mut listener).await;
    let dripping = tokio::spawn(async move {
        for byte in REQUEST {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
    let start = Instant::now();
    let error = finish(Role::Responder, link).await.unwrap_err();
    assert!(matches!(error.kind, UpgradeErrorKind::Timeout), "{error}");
    assert_eq!(start.elapsed().as_secs(), OPENING_TIMEOUT.as_secs());
    dripping.abort();
}

/// A server that accepts and says nothing costs a dial the time of the opening, and the report says where.
#[tokio::test(start_paused = true)]
async fn a_silent_server_ends_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = Authority::new("silent");
    for above in ["/ws", "/tls/ws"] {
        let to: Multiaddr =
            format!("{}{above}", Multiaddr::tcp(listener.local_addr().unwrap())).parse().unwrap();
        let link = authority.believing(None).dial(to, opts()).await.unwrap();
        let _accepted = listener.accept().await.unwrap();
        let progress = Arc::new(Progress::new());
        let mut opts = upgrade_opts(Role::Initiator, None);
        opts.progress = Some(progress.clone());
        let start = Instant::now();
        let error = upgrader(1).finish(link, opts).await.unwrap_err();
        assert_error(&error, Stage::WebSocket, Fault::Remote);
        assert!(matches!(error.kind, UpgradeErrorKind::Timeout), "{error}");
        assert_eq!(start.elapsed().as_secs(), OPENING_TIMEOUT.as_secs());
        assert_eq!(progress.stage(), Stage::WebSocket);
    }
}

/// Whoever waits in silence holds up nobody.
#[tokio::test]
async fn others_are_served_while_some_wait() {
    let (mut listener, to) = listen(&plain(), "/ip4/127.0.0.1/tcp/0/ws").await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let stream = TcpStream::connect(socket(&to)).await.unwrap();
        let link = incoming(&mut listener).await;
        waiting.push((stream, tokio::spawn(finish(Role::Responder, link))));
    }
    connected(&plain(), &mut listener, &to).await;
    for (_, task) in waiting {
        assert!(!task.is_finished());
        task.abort();
    }
}

#[tokio::test]
async fn tcp_and_websocket_share_a_port() {
    let authority = Authority::new("shared");
    let certificate = authority.issue(&["127.0.0.1"], |_| {});
    let tcp = Tcp::new();
    let websocket = WebSocket::sharing(&tcp, authority.config(Some(certificate)));
    let (mut first, plain_at) = listen(&tcp, "/ip4/127.0.0.1/tcp/0").await;
    let at = |above: &str| format!("{plain_at}{above}");
    let (mut second, ws_at) = listen(&websocket, &at("/ws")).await;
    let (third, wss_at) = listen(&websocket, &at("/tls/ws")).await;
    assert_eq!([ws_at.to_string(), wss_at.to_string()], [at("/ws"), at("/tls/ws")]);

    for kind in ["", "/ws", "/tls/ws"] {
        let again: &dyn Transport = if kind.is_empty() { &tcp } else { &websocket };
        let twice = again.listen(at(kind).parse().unwrap(), ListenOpts::default()).await;
        assert!(matches!(twice, Err(ListenError::Bind { .. })), "{kind:?} is taken");
    }

    // Any of the listeners yields what comes, and what it is is found out.
    for listener in [&mut first, &mut second] {
        for (transport, to) in
            [(&tcp as &dyn Transport, &plain_at), (&websocket, &ws_at), (&websocket, &wss_at)]
        {
            let [_, _, far_local, far_remote] = connected(transport, listener, to).await;
            assert_eq!(&far_local, to);
            assert_eq!(far_remote.iter().count(), to.iter().count());
        }
    }

    // What is not served any more is refused, and what is, is.
    drop((first, third));
    connected(&websocket, &mut second, &ws_at).await;
    drop(second);
    let refused = websocket.dial(ws_at, opts()).await;
    assert!(matches!(refused, Err(TransportError::Io(_))), "the socket is closed with the last of them");
}

#[tokio::test]
async fn a_port_is_shared_whoever_comes_first() {
    let tcp = Tcp::new();
    let websocket = WebSocket::sharing(&tcp, Config::default());
    let (mut first, ws_at) = listen(&websocket, "/ip6/::1/tcp/0/ws").await;
    let (mut second, plain_at) = listen(&tcp, &Multiaddr::tcp(socket(&ws_at)).to_string()).await;
    connected(&tcp, &mut first, &plain_at).await;
    connected(&websocket, &mut second, &ws_at).await;
    // Each accepts while the other waits, too.
    let (one, two) =
        (tokio::spawn(async move { (incoming(&mut first).await, first) }), incoming(&mut second));
    let dials = async {
        let dials = (tcp.dial(plain_at.clone(), opts()), tcp.dial(plain_at.clone(), opts()));
        tokio::join!(dials.0, dials.1)
    };
    let (_, one, dials) = tokio::join!(two, one, dials);
    drop((one.unwrap(), dials));
}

#[tokio::test]
async fn transports_that_share_nothing_do_not_take_each_others_ports() {
    let (one, two) = (Tcp::new(), plain());
    let (_listener, at) = listen(&one, "/ip4/127.0.0.1/tcp/0").await;
    let taken = two.listen(format!("{at}/ws").parse().unwrap(), ListenOpts::default()).await;
    assert!(matches!(taken, Err(ListenError::Bind { .. })));
}

#[tokio::test]
async fn a_dial_goes_out_from_the_port_that_is_listened_on() {
    let (tcp, other) = (Tcp::new(), plain());
    let websocket = WebSocket::sharing(&tcp, Config::default());
    let (_own, own_at) = listen(&websocket, "/ip4/127.0.0.1/tcp/0/ws").await;
    let (mut listener, to) = listen(&other, "/ip4/127.0.0.1/tcp/0/ws").await;
    let mut opts = opts();
    opts.reuse_listen_port = true;
    let link = websocket.dial(to, opts).await.unwrap();
    let (near, far) = tokio::join!(open(link), accepted(&mut listener));
    assert_eq!(socket(&near.unwrap().local).port(), socket(&own_at).port());
    assert_eq!(socket(&far.unwrap().remote), socket(&own_at));
}

/// Whoever closes a connection has said everything, whatever is on its way from the other side.
#[tokio::test]
async fn last_words_arrive() {
    const LENGTH: usize = 200_000;
    let authority = Authority::new("words");
    let transport = authority.believing(Some(authority.issue(&["127.0.0.1"], |_| {})));
    for at in ["/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0/tls/ws"] {
        let (mut listener, to) = listen(&transport, at).await;
        let near = async {
            finish(Role::Initiator, transport.dial(to.clone(), opts()).await.unwrap()).await.unwrap()
        };
        let far = async { finish_incoming(&mut listener).await.unwrap() };
        let (near, far) = tokio::join!(near, far);
        let drivers = [tokio::spawn(near.muxed.driver), tokio::spawn(far.muxed.driver)];
        let (near, far) = (near.muxed.connection, far.muxed.connection);
        let speaking = async {
            let mut stream = near.open().await.unwrap();
            stream.write_all(&[7; LENGTH]).await.unwrap();
            stream.close_write().await.unwrap();
            near.close(ErrorCode::SHUTDOWN);
        };
        let hearing = async {
            let mut stream = far.accept().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            all.len()
        };
        let ((), heard) = timeout(PATIENCE, async { tokio::join!(speaking, hearing) }).await.unwrap();
        assert_eq!(heard, LENGTH);
        let [ours, theirs] =
            timeout(PATIENCE, futures::future::join_all(drivers)).await.unwrap().try_into().unwrap();
        ours.unwrap().expect("this side closed, and the other has followed");
        assert!(matches!(theirs.unwrap(), Err(ConnectionError::ClosedByPeer(ErrorCode::SHUTDOWN))));
    }
}

async fn ends(transport: &dyn Transport, at: &str) -> (Side, Side) {
    let (mut listener, to) = listen(transport, at).await;
    let near = async { finish(Role::Initiator, transport.dial(to, opts()).await.unwrap()).await };
    let far = async { finish_incoming(&mut listener).await };
    let (near, far) = tokio::join!(near, far);
    let side = |end: Established| Side::new(end.muxed.connection, end.muxed.driver, ());
    (side(near.unwrap()), side(far.unwrap()))
}

/// What every muxer promises holds with WebSockets below it.
mod without_tls {
    struct Over;

    impl super::testing::Muxer for Over {
        type Link = ();

        async fn pair() -> (super::Side, super::Side) {
            super::ends(&super::plain(), "/ip4/127.0.0.1/tcp/0/ws").await
        }
    }

    peerage_muxer::conformance!(Over);
}

/// And with TLS below those.
mod with_tls {
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Over;

    impl super::testing::Muxer for Over {
        type Link = ();

        async fn pair() -> (super::Side, super::Side) {
            static TESTS: AtomicU32 = AtomicU32::new(0);
            let name = format!("muxer{}", TESTS.fetch_add(1, Ordering::Relaxed));
            let authority = super::Authority::new(&name);
            let transport = authority.believing(Some(authority.issue(&["127.0.0.1"], |_| {})));
            super::ends(&transport, "/ip4/127.0.0.1/tcp/0/tls/ws").await
        }
    }

    peerage_muxer::conformance!(Over);
}

#[tokio::test]
async fn the_other_security_protocols_go_inside() {
    for security in [Security::Tls, Security::Plaintext] {
        let transport = plain();
        let (mut listener, to) = listen(&transport, "/ip4/127.0.0.1/tcp/0/ws").await;
        let near = async {
            let link = transport.dial(to.clone(), opts()).await.unwrap();
            upgrader_by(security, 1).finish(link, upgrade_opts(Role::Initiator, Some(peer(2)))).await
        };
        let far = async {
            let link = incoming(&mut listener).await;
            upgrader_by(security, 2).finish(link, upgrade_opts(Role::Responder, None)).await
        };
        let (near, far) = tokio::join!(near, far);
        timeout(PATIENCE, echo_both_ways(near.unwrap(), far.unwrap())).await.unwrap();
    }
}
