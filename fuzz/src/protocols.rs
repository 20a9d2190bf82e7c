//! The whole way up to a connection, and messages on streams.

use std::{
    future::ready,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::LazyLock,
    time::Duration,
};

use futures::future::BoxFuture;
use peerage_cli::files::{
    name::Name,
    wire::{Offer, Refusal, Reply},
};
use peerage_core::{Keypair, Multiaddr, frame};
use peerage_host::{
    fuzzing,
    request_response::{Codec, RequestResponse},
};
use peerage_transport::{
    Raw, UpgradeOpts, Upgrader,
    dns::{self, DnsError, Resolver},
    upgrade::{Config, Security},
    websocket::WebSocketStream,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};

use crate::{
    io::{Scripted, run},
    security::exchange,
    values::keypair,
};

static UPGRADER: LazyLock<Upgrader> = LazyLock::new(|| {
    let mut config = Config::default();
    config.security = vec![Security::Plaintext];
    Upgrader::new(&keypair(), config)
});

/// As a listener, without encryption, which no fuzzer gets through: a stranger's bytes from the first line to frames.
pub(crate) fn upgrade(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let io = Scripted::new(bytes, if how & 1 == 0 { 1 << 20 } else { 1 });
    let memory = || "/memory/1".parse().expect("an address");
    let raw = Raw { io: Box::new(io), local: memory(), remote: memory(), limited: false };
    run(async {
        let opts = UpgradeOpts::incoming(Instant::now() + Duration::from_secs(10));
        if let Ok(established) = UPGRADER.upgrade(raw, opts).await {
            let _ = established.muxed.driver.await;
        }
    });
}

pub(crate) fn upgrade_seeds() -> Vec<Vec<u8>> {
    let lines = |protocol: &str| {
        let mut bytes = Vec::new();
        frame::encode(b"/multistream/1.0.0\n", &mut bytes);
        frame::encode(format!("{protocol}\n").as_bytes(), &mut bytes);
        bytes
    };
    let exchange = exchange(&Keypair::from_ed25519_seed([8; 32]));
    let frames: &[u8] = &[0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
    [0, 1]
        .map(|how| {
            [&[how], &lines("/plaintext/2.0.0")[..], &exchange, &lines("/yamux/1.0.0"), frames].concat()
        })
        .into()
}

/// Frames of a client or a server, as the byte stream that they are: in any pieces it is the same.
pub(crate) fn websocket(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let read = |piece: usize| {
        let io = Scripted::new(bytes, piece);
        let mut stream = match how & 1 {
            0 => WebSocketStream::server(io, Vec::new()),
            _ => WebSocketStream::client(io, Vec::new()),
        };
        run(async {
            let (mut all, mut space) = (Vec::new(), vec![0; 1 << usize::from(how >> 1 & 15)]);
            let result = loop {
                match stream.read(&mut space).await {
                    Ok(0) => break Ok(()),
                    Ok(read) => all.extend_from_slice(&space[..read]),
                    Err(error) => break Err(error.to_string()),
                }
                // What it says itself changes nothing of what it reads.
                if how & 32 != 0 && stream.write_all(b"and you?").await.is_ok() {
                    let _ = stream.flush().await;
                }
            };
            if how & 64 != 0 {
                let _ = stream.shutdown().await;
                assert_eq!(stream.read(&mut space).await.unwrap_or(0), 0, "nothing comes after the end");
            }
            (all, result)
        })
    };
    let (whole, pieces) = (read(1 << 20), read(1 + usize::from(*how >> 4)));
    assert_eq!(whole, pieces);
    assert!(whole.0.len() <= bytes.len(), "a frame is more than what it carries");
}

pub(crate) fn websocket_seeds() -> Vec<Vec<u8>> {
    let of_server = b"\x02\x03abc\x89\x02hi\x80\x01d\x82\x7e\x00\x80";
    let of_server = [&of_server[..], &[7; 128], b"\x88\x02\x03\xe8"].concat();
    let of_client =
        b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x8a\x80\0\0\0\0\x02\x80\0\0\0\0\x88\x80\0\0\0\0";
    let huge = [&[0x82, 0x7f][..], &(256_u64 << 20).to_be_bytes(), b"x"].concat();
    let hows = [0, 2, 24, 30, 62, 94, 126];
    let with = |role: u8, bytes: &[u8]| hows.map(|how| [&[how | role][..], bytes].concat());
    [with(1, &of_server), with(0, of_client), with(1, &huge), with(1, b"\x81\x01a")].concat()
}

/// The opening handshake, on both sides.
pub(crate) fn websocket_opening(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let io = Scripted::new(bytes, if how & 1 == 0 { 1 << 20 } else { 7 });
    run(async {
        // Whose key the fuzzer cannot know; what it says after that is the other target's.
        let opened = match how & 2 {
            0 => WebSocketStream::accept(io, (how & 4 != 0).then_some(b"a/b")).await,
            _ => WebSocketStream::dial(io, "h", "/").await,
        };
        if let Ok(mut stream) = opened {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
}

pub(crate) fn websocket_opening_seeds() -> Vec<Vec<u8>> {
    let request = "GET /a%2Fb?c HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Extensions: permessage-deflate\r\n\r\nframes";
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let with = |how: u8, text: &str| [&[how][..], text.as_bytes()].concat();
    let mut seeds: Vec<_> = [0, 1, 4, 5].map(|how| with(how, request)).into();
    seeds.extend([with(2, answer), with(3, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")]);
    seeds
}

pub(crate) fn identify(data: &[u8]) {
    fuzzing::identify(keypair().peer_id(), data);
}

pub(crate) fn identify_seeds() -> Vec<Vec<u8>> {
    let addresses = ["/ip4/127.0.0.1/tcp/4001", "/dns/h/tcp/1"].map(|text| text.parse().expect("an address"));
    vec![fuzzing::identify_message(&keypair(), &addresses), fuzzing::identify_message(&keypair(), &[])]
}

/// What senders and receivers of files say, and names that leave no folder.
pub(crate) fn chat_file(data: &[u8]) {
    if let Ok(offer) = Offer::decode(data) {
        assert_eq!(Offer::decode(&offer.encode()).expect("what was read is written"), offer);
        stays_inside(&offer.name);
    }
    if let Ok(reply) = Reply::decode(data) {
        assert_eq!(Reply::decode(&reply.encode()).expect("what was read is written"), reply);
    }
    let text = String::from_utf8_lossy(data);
    let tame = Name::tame(&text);
    assert_eq!(Name::new(tame.as_str()).as_ref(), Ok(&tame), "what was mended is taken");
    for name in Name::new(&text).iter().chain([&tame]) {
        stays_inside(name);
    }
}

fn stays_inside(name: &Name) {
    let folder = Path::new("folder");
    for path in [name.inside(folder, 0), name.inside(folder, 1), name.partial(folder, 0)] {
        assert_eq!((path.parent(), path.components().count()), (Some(folder), 2), "{path:?}");
        assert!(path.file_name().is_some_and(|name| name.len() <= 255), "{path:?}");
    }
}

pub(crate) fn chat_file_seeds() -> Vec<Vec<u8>> {
    let offer = |name: &str| Offer { name: Name::tame(name), size: 20 << 20, sha256: [7; 32] }.encode();
    let hostile = ["../x", "CON.txt", "a\u{202e}b", ".", "a/../b"].map(|name| name.as_bytes().to_vec());
    let mut seeds = vec![offer("report.pdf"), offer(&"x".repeat(200))];
    seeds.extend([Reply::Yes, Reply::No(Refusal::TooLarge { max: 1 << 30 })].map(Reply::encode));
    seeds.extend(hostile);
    seeds
}

type Message = (u32, Option<String>, Vec<(i64, bool)>, std::collections::BTreeMap<String, f64>);

pub(crate) fn cbor(data: &[u8]) {
    let codec = RequestResponse::cbor::<Message, ()>("/x").expect("a name").codec().clone();
    if let Ok(message) = codec.decode_request(data.to_vec()) {
        codec.encode_request(&message).expect("what was read is written");
    }
}

pub(crate) fn json(data: &[u8]) {
    let codec = RequestResponse::json::<Message, ()>("/x").expect("a name").codec().clone();
    if let Ok(message) = codec.decode_request(data.to_vec()) {
        codec.encode_request(&message).expect("what was read is written");
    }
}

fn message() -> Message {
    let numbers = [("one".to_owned(), 1.0)].into_iter().collect();
    (7, Some("text".into()), vec![(-1, true), (i64::MAX, false)], numbers)
}

pub(crate) fn cbor_seeds() -> Vec<Vec<u8>> {
    let codec = RequestResponse::cbor::<Message, ()>("/x").expect("a name").codec().clone();
    codec.encode_request(&message()).into_iter().collect()
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let codec = RequestResponse::json::<Message, ()>("/x").expect("a name").codec().clone();
    codec.encode_request(&message()).into_iter().collect()
}

pub(crate) fn book_row(data: &[u8]) {
    fuzzing::book_row(keypair().peer_id(), data);
}

pub(crate) fn book_row_seeds() -> Vec<Vec<u8>> {
    vec![fuzzing::book_row_of("/ip4/192.0.2.1/tcp/4001".parse().expect("an address"))]
}

pub(crate) fn key_file(data: &[u8]) {
    if let Some(keypair) = fuzzing::key_file(data) {
        let again = fuzzing::key_file(&keypair.to_protobuf()).expect("what was written is read");
        assert_eq!(again.peer_id(), keypair.peer_id());
    }
}

pub(crate) fn key_file_seeds() -> Vec<Vec<u8>> {
    let base64 = "CAESQEd+r7AXyT+ZkYq8bEkN4VhJvqYPMRWQ6Yk1pUWAdRG3";
    vec![
        keypair().to_protobuf().to_vec(),
        vec![7; 32],
        base64.into(),
        format!("{{\"Identity\":{{\"PrivKey\":\"{base64}\"}}}}").into(),
    ]
}

/// A name server that says anything: its records are the lines of the input.
struct Says(Vec<Vec<u8>>);

impl Resolver for Says {
    fn ip4(&self, _: &str) -> BoxFuture<'static, Result<Vec<Ipv4Addr>, DnsError>> {
        let ips =
            self.0.iter().filter_map(|line| <[u8; 4]>::try_from(line.as_slice()).ok()).map(Ipv4Addr::from);
        Box::pin(ready(Ok(ips.collect())))
    }

    fn ip6(&self, _: &str) -> BoxFuture<'static, Result<Vec<Ipv6Addr>, DnsError>> {
        let ips =
            self.0.iter().filter_map(|line| <[u8; 16]>::try_from(line.as_slice()).ok()).map(Ipv6Addr::from);
        Box::pin(ready(Ok(ips.collect())))
    }

    fn texts(&self, _: &str) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DnsError>> {
        Box::pin(ready(Ok(self.0.clone())))
    }
}

pub(crate) fn dnsaddr(data: &[u8]) {
    let says = Says(data.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect());
    let peer = keypair().peer_id();
    for address in ["/dnsaddr/example.com", "/dns/example.com/tcp/1", "/dns4/example.com/tcp/1/ws"] {
        let address =
            address.parse::<Multiaddr>().expect("an address").with_peer(peer).expect("there is room");
        run(async {
            let deadline = Instant::now() + Duration::from_secs(5);
            let found = |found: Vec<Multiaddr>| {
                assert!(found.len() <= dns::MAX_ANSWERS);
                // Whatever a name server says, the dial stays one to this peer.
                assert!(found.iter().all(|address| address.split_peer().1 == Some(peer)), "{found:?}");
            };
            let _ = dns::resolve(&says, &address, deadline, found).await;
        });
    }
}

pub(crate) fn dnsaddr_seeds() -> Vec<Vec<u8>> {
    let peer = keypair().peer_id();
    vec![
        format!("dnsaddr=/ip4/192.0.2.1/tcp/4001/p2p/{peer}\ndnsaddr=/dnsaddr/b.example.com/p2p/{peer}")
            .into(),
        vec![192, 0, 2, 1, b'\n', 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ]
}
