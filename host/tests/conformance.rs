//! Every limit on every path on which it applies: three are let through, the fourth is refused by that limit, and in the
//! end nothing is in use. Here through whole nodes; what is elsewhere is listed, so that nothing is forgotten.
//!
//! | limit | where |
//! | --- | --- |
//! | `Limits`: connections, handshakes, streams, memory | here; the ledger alone in `src/limits/tests.rs` |
//! | `handshakes_outbound` | dials wait for their turn: `promises.rs`; the ledger's in `src/limits/tests.rs::handshakes` |
//! | `file_descriptors`, over TCP, both directions | here |
//! | `ipv4`, `ipv6`, `limit_loopback` | `guard.rs::one_address_is_refused_what_is_over_its_limit`, `src/limits/tests.rs` |
//! | `memory_transient` | `src/limits/tests.rs::memory`: before its peer is known, a muxer has nothing to keep |
//! | streams of ping, identify push, perf, request-response | here |
//! | `identify::MAX_INBOUND_STREAMS` | `src/limits/tests.rs::streams_of_a_protocol`: an answer is shorter than any window |
//! | what identify reads: `MAX_MESSAGE`, `MAX_MESSAGES`, `MAX_FIELDS`, `MAX_ADDRESSES`, `MAX_PROTOCOLS`, `MAX_AGENT` | `identify_bombs.rs`, `src/identify/codec_tests.rs` |
//! | `identify::PUSH_BURST`, `PUSH_EVERY`, `ALL_PUSH_BURST`, `ALL_PUSH_EVERY` | `identify_bombs.rs`, `src/identify/rate.rs` |
//! | `identify::MAX_RUNNING`, `MAX_PUSHES`, `TIMEOUT`, `RETRIES` | `src/identify/engine_tests.rs` |
//! | `ping::MAX_WAITING`, `TIMEOUT` | `src/ping/engine.rs` |
//! | `perf::MAX_DOWNLOAD`, `STALL_TIMEOUT`, `TIMEOUT` | `perf.rs` |
//! | `request_response::Config` | `request_response.rs` |
//! | `dial::MAX_DIALS`, `MAX_REQUESTS_PER_DIAL` | `src/dial/tests.rs` |
//! | `dial::MAX_PARALLEL`, `MAX_ADDRESSES`, `MAX_SAID` | `src/dial/tests.rs`, `dial.rs::a_poisoned_source` |
//! | `dial::MAX_LOOKUPS`, `MAX_NAME_DEPTH` | `src/dial/name_tests.rs` |
//! | `dns::MAX_ANSWERS`, `MAX_RECORD_LEN`, `LOOKUP_TIMEOUT` | `transport/src/dns/step_tests.rs`, `transport/tests/dns.rs` |
//! | `upgrade::TIMEOUT` | `slowloris.rs`, `transport/tests/silence.rs`, `transport/tests/private.rs` |
//! | `websocket`: `MAX_FRAME_LEN`, `MAX_PAYLOAD_LEN`, `MAX_HEAD_LEN`, `OPENING_TIMEOUT` | `transport/src/websocket`, `transport/tests/websocket.rs` |
//! | `tcp`: `MAX_ANSWER_LEN`, `MAX_CREDENTIAL_LEN` of proxies | `transport/src/tcp/proxy_tests.rs` |
//! | `NEGOTIATION_TIMEOUT` | `hostile_peers.rs`: two hundred hanging negotiations |
//! | `MAX_BAD_STREAMS` | `hostile_peers.rs`: ten thousand streams without a word; `src/conn/engine.rs` |
//! | `registry::MAX_SERVED` | `src/registry.rs` |
//! | `gater::lists::MAX_LISTED` | `src/gater/lists.rs` |
//! | `manager::board::MAX_MARKED`, `MAX_TAGS_PER_PEER`, `MAX_TAG` | `src/manager/board.rs` |
//! | `hub::MAX_BANS`, `MAX_BLAMED`, `BAN_AFTER_BLAMES` | `src/hub/tests.rs`, `panics.rs` |
//! | `addresses`: `MAX_OBSERVED`, `OBSERVERS_KEPT`, `MAX_ANNOUNCED` | `src/addresses/table_tests.rs` |
//! | `store`: `MAX_KEY`, `MAX_VALUE`, `MAX_BATCH`, `MAX_FILE` | `src/store/mod.rs`, `src/store/file_tests.rs` |
//! | muxers: windows, frames, backlogs, strays, timeouts | `muxer/src/suite`, `muxer/src/yamux`, `muxer/src/mplex` |

mod common;

use std::{any::Any, time::Duration};

use common::{
    raw::{Hostile, NOISE_YAMUX, link, yamux},
    *,
};
use peerage_core::{PeerId, budget::Reserved};
use peerage_host::{
    ConnectOptions, ErrorCode, Limits, Node, OpenError, OpenOptions, Optimism, Policy, Stream, StreamError,
    Usage, identify, perf, ping,
    request_response::{self, RequestResponse},
};
use peerage_transport::memory::Network;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Mutex,
    time::{sleep, timeout},
};

/// How one more of something comes to a node.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Path {
    /// Somebody connects.
    In,
    /// The same peer connects again.
    InAgain,
    /// The node connects with somebody, or with the same peer again.
    Out,
    OutAgain,
    /// By turns.
    InAndOut,
    /// Somebody dials and says nothing.
    Silent,
    /// A peer opens a stream; each another one, or always the same.
    StreamIn,
    StreamInAgain,
    /// A peer opens a stream and proposes nothing.
    StreamSilent,
    /// The node opens a stream.
    StreamOut,
    StreamOutAgain,
    /// A handler on a stream takes a kilobyte.
    Memory,
    MemoryAgain,
    /// One handler takes a kilobyte more.
    MemoryMore,
}

use Path::*;

/// Brings a limit near.
type Set = fn(&mut Limits, usize);

/// A limit by its name in refusals, how it is set, and the paths on which it applies.
const TABLE: &[(&str, Set, &[Path])] = &[
    ("inbound connections", |l, n| l.connections_inbound = n, &[In, InAgain]),
    ("outbound connections", |l, n| l.connections_outbound = n, &[Out, OutAgain]),
    ("connections", |l, n| l.connections_total = n, &[In, Out, InAndOut]),
    ("connections per peer", |l, n| l.connections_per_peer = n, &[InAgain, OutAgain]),
    ("inbound handshakes", |l, n| l.handshakes_inbound = n, &[Silent]),
    ("inbound streams", |l, n| l.streams_inbound = n, &[StreamIn, StreamInAgain, StreamSilent]),
    ("inbound streams per peer", |l, n| l.streams_inbound_per_peer = n, &[StreamInAgain, StreamSilent]),
    (
        "inbound streams per connection",
        |l, n| l.streams_inbound_per_connection = n,
        &[StreamInAgain, StreamSilent],
    ),
    ("negotiating streams per connection", |l, n| l.streams_negotiating_per_connection = n, &[StreamSilent]),
    ("inbound streams per protocol", |l, n| l.streams_inbound_per_protocol = n, &[StreamIn, StreamInAgain]),
    (
        "inbound streams per protocol and peer",
        |l, n| l.streams_inbound_per_protocol_and_peer = n,
        &[StreamInAgain],
    ),
    ("outbound streams", |l, n| l.streams_outbound = n, &[StreamOut, StreamOutAgain]),
    ("outbound streams per peer", |l, n| l.streams_outbound_per_peer = n, &[StreamOutAgain]),
    ("memory", |l, n| l.memory = n * 1000, &[Memory, MemoryAgain, MemoryMore]),
    ("memory per peer", |l, n| l.memory_per_peer = n * 1000, &[MemoryAgain, MemoryMore]),
    ("memory per connection", |l, n| l.memory_per_connection = n * 1000, &[MemoryAgain, MemoryMore]),
    ("memory per protocol", |l, n| l.memory_per_protocol = n * 1000, &[Memory, MemoryAgain, MemoryMore]),
    ("memory per stream", |l, n| l.memory_per_stream = n * 1000, &[MemoryMore]),
];

const HOLD: &str = "/hold/1";

/// The limited node, four others, and what is held.
struct Scene {
    network: Network,
    alice: Node,
    others: Vec<Node>,
    silent: Mutex<Option<Hostile>>,
    held: Mutex<Vec<Box<dyn Any>>>,
}

impl Scene {
    async fn new(limits: Limits, path: Path) -> Self {
        let network = Network::new();
        // Nothing is closed to make room.
        let builder = builder(&network, 1).limits(limits).connection_policy(Policy::default());
        let alice = builder.listen("/memory/0").expect("an address").start().await.expect("it starts");
        serve_echo(&alice);
        alice.serve(HOLD, hold).expect("not served yet");
        let mut others = Vec::new();
        for seed in 2..6 {
            others.push(node(&network, seed).await);
        }
        if !matches!(path, In | InAgain | Out | OutAgain | InAndOut | Silent | StreamSilent) {
            for other in &others {
                other.connect(address(&alice)).await.expect("connected");
                // Identify takes streams as well, for a moment.
                sleep(Duration::from_secs(1)).await;
            }
        }
        let mut silent = None;
        if path == StreamSilent {
            silent = Some(Hostile::connect(&network, &alice, NOISE_YAMUX, 9, true).await);
        }
        // Identify is done, or not answered.
        sleep(Duration::from_secs(7)).await;
        Self { network, alice, others, silent: Mutex::new(silent), held: Mutex::default() }
    }

    /// Takes one more, unless it is refused.
    async fn one(&self, path: Path, n: usize) -> Result<(), String> {
        let (alice, first, own) = (&self.alice, &self.others[0], &self.others[n]);
        match path {
            In => self.connect(own, alice).await,
            InAgain => self.connect(first, alice).await,
            Out => self.connect(alice, own).await,
            OutAgain => self.connect(alice, first).await,
            InAndOut if n.is_multiple_of(2) => self.connect(own, alice).await,
            InAndOut => self.connect(alice, own).await,
            Silent => {
                let mut io = link(&self.network, alice).await;
                match timeout(Duration::from_secs(1), io.read_u8()).await {
                    // Nothing is said before the other has proposed something.
                    Err(_) => self.hold(io).await,
                    Ok(_) => return Err("hung up".into()),
                }
                Ok(())
            }
            StreamIn => self.open(own, alice.peer_id(), ECHO).await.map(drop),
            StreamInAgain => self.open(first, alice.peer_id(), ECHO).await.map(drop),
            StreamOut => self.open(alice, own.peer_id(), ECHO).await.map(drop),
            StreamOutAgain => self.open(alice, first.peer_id(), ECHO).await.map(drop),
            StreamSilent => {
                let id = 2 * u32::try_from(n).expect("few") + 1;
                let before = alice.refusals();
                let mut silent = self.silent.lock().await;
                let syn = yamux::data(yamux::SYN, id, b"");
                assert!(silent.as_mut().expect("it is there").send(&syn).await);
                sleep(Duration::from_millis(100)).await;
                if alice.refusals() == before { Ok(()) } else { Err("reset".into()) }
            }
            Memory => self.memory(own, 1).await,
            MemoryAgain => self.memory(first, 1).await,
            MemoryMore if n < 3 => Ok(()),
            MemoryMore => {
                self.memory(first, 3).await?;
                self.held.lock().await.clear();
                sleep(Duration::from_secs(1)).await;
                self.memory(first, 4).await
            }
        }
    }

    async fn hold(&self, what: impl Any) {
        self.held.lock().await.push(Box::new(what));
    }

    async fn connect(&self, from: &Node, to: &Node) -> Result<(), String> {
        let before = self.alice.connections().len();
        let mut options = ConnectOptions::default();
        options.always_dial = true;
        from.connect_with(address(to), options).await.map_err(|error| error.to_string())?;
        // A connection that is over a limit of the other side ends at once.
        sleep(Duration::from_secs(1)).await;
        let there = self.alice.connections().len() > before;
        if there { Ok(()) } else { Err("it was closed".into()) }
    }

    async fn open(&self, from: &Node, to: PeerId, protocol: &str) -> Result<(), String> {
        let mut stream = from.open(to, protocol).await.map_err(|error| error.to_string())?;
        // Limits of the protocol count when it is agreed on: then the stream is reset.
        let echo = async {
            stream.write_u8(7).await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        let back = echo.await.map_err(|error| error.to_string())?;
        assert_eq!(back, 7);
        self.hold(stream).await;
        Ok(())
    }

    /// A stream whose handler takes as many kilobytes, one by one.
    async fn memory(&self, from: &Node, kilobytes: u8) -> Result<(), String> {
        let opened = from.open(self.alice.peer_id(), HOLD).await;
        let mut stream = opened.map_err(|error| error.to_string())?;
        stream.write_u8(kilobytes).await.expect("written");
        stream.flush().await.expect("written");
        let taken = stream.read_u8().await.expect("the handler answers");
        self.hold(stream).await;
        if taken == kilobytes { Ok(()) } else { Err(format!("{taken} of {kilobytes} kB")) }
    }
}

/// Takes as many kilobytes of memory as it is told, and says how many it got.
async fn hold(mut stream: Stream, _: PeerId) -> std::io::Result<()> {
    let wanted = stream.read_u8().await?;
    let memory = stream.memory().clone();
    let taken: Vec<Reserved> = (0..wanted).map_while(|_| memory.reserve(1000).ok()).collect();
    let count = u8::try_from(taken.len()).expect("few");
    stream.write_u8(count).await?;
    stream.flush().await?;
    let _ = stream.read_u8().await;
    Ok(())
}

fn three_and_no_more(name: &'static str, set: Set, path: Path) {
    run(async move {
        let mut limits = Limits::default();
        set(&mut limits, 3);
        let scene = Scene::new(limits, path).await;
        assert_eq!(scene.alice.refusals(), [].into(), "{name}, {path:?}: something else is in the way");
        for n in 0..3 {
            let one = scene.one(path, n).await;
            assert_eq!(one, Ok(()), "{name}, {path:?}, the {n}. of three");
        }
        assert_eq!(scene.alice.refusals(), [].into(), "{name}, {path:?}");
        let refused = scene.one(path, 3).await;
        assert!(refused.is_err(), "{name}, {path:?}: the fourth is let through");
        let refusals = scene.alice.refusals();
        assert_eq!(refusals.keys().collect::<Vec<_>>(), [&name], "{path:?}: {refused:?}");

        scene.held.lock().await.clear();
        if let Some(silent) = scene.silent.lock().await.take() {
            silent.leave().await;
        }
        sleep(Duration::from_secs(1)).await;
        for other in &scene.others {
            other.disconnect(scene.alice.peer_id()).await;
        }
        idle(&scene.alice).await;
        assert_eq!(scene.alice.usage(), Usage::default());
        // There is room again.
        scene.others[0].connect(address(&scene.alice)).await.expect("connected");
        scene.alice.shutdown().await;
        for other in &scene.others {
            other.shutdown().await;
        }
    });
}

#[test]
fn limits_of_the_node() {
    for (name, set, paths) in TABLE {
        for path in *paths {
            three_and_no_more(name, *set, *path);
        }
    }
}

/// Sockets, in both directions. They are given back when the connections are gone.
#[tokio::test]
async fn file_descriptors() {
    let mut limits = Limits::default();
    limits.file_descriptors = 3;
    let tcp =
        |seed| Node::builder(keypair(seed)).workers(1).listen("/ip4/127.0.0.1/tcp/0").expect("an address");
    let alice = tcp(1).limits(limits).start().await.expect("it starts");
    let mut others = Vec::new();
    for seed in 2..6 {
        others.push(tcp(seed).start().await.expect("it starts"));
    }
    for inbound in [true, false] {
        for (n, other) in others.iter().enumerate() {
            let (from, to) = if inbound { (other, &alice) } else { (&alice, other) };
            let connected = from.connect(address(to)).await;
            assert_eq!(connected.is_ok(), n < 3, "{connected:?}");
        }
        assert!(alice.usage().file_descriptors == 3 && alice.refusals()["file descriptors"] > 0);
        for other in &others {
            alice.disconnect(other.peer_id()).await;
        }
        let mut events = alice.events();
        while alice.usage() != Usage::default() {
            let _ = timeout(Duration::from_millis(20), events.next()).await;
        }
    }
    for node in others.iter().chain([&alice]) {
        node.shutdown().await;
    }
}

/// Streams of one protocol: of one peer, and of all of them.
#[test]
fn streams_of_the_protocols() {
    let asked = request_response::Config::default();
    let protocols = [
        (ping::PROTOCOL.to_string(), ping::MAX_INBOUND_STREAMS, None),
        (identify::PUSH.to_string(), identify::MAX_PUSH_STREAMS, None),
        (perf::PROTOCOL.to_string(), perf::MAX_INBOUND_PER_PEER, Some(perf::MAX_INBOUND)),
        ("/ask/1".to_owned(), asked.limits.inbound_per_peer, Some(asked.limits.inbound_total)),
    ];
    for (protocol, per_peer, total) in protocols {
        run(async move {
            let network = Network::new();
            let never = |_, request: bytes::Bytes| async move {
                sleep(Duration::from_secs(3600)).await;
                Ok::<_, std::convert::Infallible>(request)
            };
            let (alice, _) = builder(&network, 1).with(perf::Perf::default());
            let (alice, _) = alice.with(RequestResponse::raw("/ask/1").expect("a name").serve(never));
            let alice = alice.listen("/memory/0").expect("an address").start().await.expect("it starts");
            let share = "inbound streams per protocol and peer";
            let all = "inbound streams per protocol";
            let mut held = Vec::new();
            let mut others = Vec::new();
            let peers = total.map_or(1, |total| total.div_ceil(per_peer));
            for seed in 0..peers {
                let other = node(&network, 10 + u8::try_from(seed).expect("few")).await;
                other.connect(address(&alice)).await.expect("connected");
                sleep(Duration::from_secs(1)).await;
                others.push(other);
            }
            // All in a moment, since who says nothing loses its place.
            for other in &others {
                for _ in 0..per_peer.min(total.unwrap_or(usize::MAX) - held.len()) {
                    held.push(agreed(other, &alice, &protocol).await.expect("within the limit"));
                }
            }
            assert_eq!(alice.refusals(), [].into(), "{protocol}");
            one_too_many(&others[0], &alice, &protocol).await;
            let expected = match total {
                // Whatever is looked at first, both are full.
                Some(_) => [(all, 1)],
                None => [(share, 1)],
            };
            assert_eq!(alice.refusals(), expected.into(), "{protocol}");
            if total.is_some() {
                // With one place free among all of them, the share of one peer still counts.
                held.pop();
                sleep(Duration::from_secs(1)).await;
                one_too_many(&others[0], &alice, &protocol).await;
                assert_eq!(alice.refusals()[share], 1, "{protocol}");
            }
            drop(held);
            for other in &others {
                other.disconnect(alice.peer_id()).await;
            }
            idle(&alice).await;
            alice.shutdown().await;
        });
    }
}

/// A stream on which the other side has agreed, not only is expected to.
async fn agreed(from: &Node, to: &Node, protocol: &str) -> Result<Stream, OpenError> {
    let mut options = OpenOptions::new([protocol.try_into().expect("a name")]);
    options.optimism = Optimism::Never;
    from.open_with(to.peer_id(), options).await
}

async fn one_too_many(from: &Node, to: &Node, protocol: &str) {
    if let Ok(mut stream) = agreed(from, to, protocol).await {
        let error = stream.read_u8().await.expect_err("one too many");
        let why = StreamError::of(&error).expect("an error of the stream");
        assert!(
            matches!(why, StreamError::ResetByPeer(ErrorCode::RESOURCE_LIMIT_EXCEEDED)),
            "{protocol}: {why:?}"
        );
    }
}
