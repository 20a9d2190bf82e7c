//! Peers that mean harm, after an honest handshake, against a whole node: S5 to S8 of the hostile scenarios. Only they
//! suffer for it: an honest peer is served all the time, and in the end the node has nothing in use.

mod common;

use std::{cell::Cell, rc::Rc, time::Duration};

use common::{
    raw::{Hostile, NOISE_MPLEX, NOISE_YAMUX, Stack, TLS_YAMUX, ask_for, line_attacks, mplex, yamux},
    *,
};
use peerage_host::{Builder, Event, Node};
use peerage_transport::{Role, memory::Network};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};
use yamux::{DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE};

/// What becomes of the connection.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// It ends, for a reason that contains this.
    Ends(&'static str),
    /// It goes on; what was attacked was one stream.
    Lives,
}

use Then::{Ends, Lives};

/// Its streams are not read.
const HOLD: &str = "/hold/1";

const BROKE: Then = Ends("the peer broke the protocol");
const STALLED: Then = Ends("the peer stopped reading");
const BAD_STREAMS: Then = Ends("streams in 10 s that came to nothing");

/// What is sent, piece by piece, by a peer that reads the answers or does not.
struct Attack {
    name: &'static str,
    reads: bool,
    pieces: Box<dyn Iterator<Item = Vec<u8>>>,
    then: Then,
}

fn once(name: &'static str, bytes: Vec<u8>, then: Then) -> Attack {
    many(name, true, 1, move |_| bytes.clone(), then)
}

fn many(
    name: &'static str,
    reads: bool,
    count: u32,
    piece: impl FnMut(u32) -> Vec<u8> + 'static,
    then: Then,
) -> Attack {
    Attack { name, reads, pieces: Box::new((0..count).map(piece)), then }
}

fn yamux_attacks(role: Role) -> Vec<Attack> {
    use yamux::{data, frame};
    // Dialers have the odd ids.
    let first = if role == Role::Initiator { 1 } else { 2 };
    let id = move |n: u32| 2 * n + first;
    let after_open = move |bytes: &[u8]| [&data(SYN, first, &ask_for(ECHO)), bytes].concat();
    let blocks = move |protocol: &'static str| {
        move |n: u32| match n {
            0 => data(SYN, first, &ask_for(protocol)),
            _ => data(0, first, &[n as u8; 16 * 1024]),
        }
    };
    let pings = frame(PING, SYN, 0, 7).repeat(1000);
    let more = pings.clone();
    let (unread, held) = (blocks(ECHO), blocks(HOLD));
    vec![
        many("S5: a million pings, their answers not read", false, 1000, move |_| pings.clone(), STALLED),
        many("S5: ten thousand pings, their answers read", true, 10, move |_| more.clone(), Lives),
        many("S5: an echo that is not read", false, 17, unread, STALLED),
        many(
            "S5: thousands of questions who this is, their answers not read",
            false,
            5000,
            move |n| data(SYN | FIN, id(n), &ask_for("/ipfs/id/1.0.0")),
            STALLED,
        ),
        many(
            "S6: ten thousand streams without a word",
            true,
            10_000,
            move |n| data(SYN, id(n), b""),
            BAD_STREAMS,
        ),
        many(
            "S6: a hundred thousand streams, opened and reset",
            true,
            100_000,
            move |n| [frame(DATA, SYN, id(n), 0), frame(DATA, RST, id(n), 0)].concat(),
            BROKE,
        ),
        many(
            "S6: two hundred hanging negotiations",
            true,
            200,
            move |n| data(SYN, id(n), b"\x13/multi"),
            Lives,
        ),
        once("S7: credit of 0xFFFF0000", after_open(&frame(WINDOW_UPDATE, 0, first, 0xFFFF_0000)), BROKE),
        once("S7: credit on a SYN", frame(WINDOW_UPDATE, SYN, first, 0xFFFF_0000), BROKE),
        once("S7: the largest credit on a SYN", frame(WINDOW_UPDATE, SYN, first, u32::MAX), BROKE),
        once("S7: a SYN with 262,145 bytes", frame(DATA, SYN, first, 262_145), BROKE),
        once("S7: an id of the other side", frame(DATA, SYN, 3 - first, 0), BROKE),
        once("S7: an id used twice", after_open(&data(SYN, first, b"")), BROKE),
        once("S7: stream 0", frame(DATA, SYN, 0, 0), BROKE),
        once("S7: a frame of no kind", frame(4, 0, first, 0), BROKE),
        once("S7: another version", vec![1, DATA, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], BROKE),
        once("S7: a goodbye that means nothing", frame(GO_AWAY, 0, 0, 77), Ends("the peer closed")),
        many(
            "S7: a few bytes on closed streams",
            true,
            100,
            move |n| {
                [data(SYN | FIN, id(n), b""), data(0, id(n), b"late"), frame(DATA, RST, id(n), 0)].concat()
            },
            Lives,
        ),
        many("S7: bytes on streams that never were", true, 2000, move |n| data(0, id(n), b"lost"), BROKE),
        many("S7: a window that nobody reads", true, 16, held, Lives),
        many("S7: more than a window that nobody reads", true, 18, held, BROKE),
        once("S8: 2^31 bytes, withheld", after_open(&frame(DATA, 0, first, 1 << 31)), BROKE),
        once("S8: 2^32-1 bytes, withheld", after_open(&frame(DATA, 0, first, u32::MAX)), BROKE),
        once("S8: 2^32-1 bytes on a SYN, withheld", frame(DATA, SYN, first, u32::MAX), BROKE),
        once("S8: a body within the window, withheld", after_open(&frame(DATA, 0, first, 100_000)), Lives),
    ]
    .into_iter()
    .chain(line_attacks().map(|(name, said)| once(name, data(SYN, first, &said), Lives)))
    .collect()
}

fn mplex_attacks(_: Role) -> Vec<Attack> {
    use mplex::{CLOSE, MESSAGE, NEW, RESET, frame, head};
    let opened = |id: u64| [frame(NEW, id, b""), frame(MESSAGE, id, &ask_for(ECHO))].concat();
    let then = move |bytes: &[u8]| [&opened(1), bytes].concat();
    let held = move |n: u32| match n {
        0 => [frame(NEW, 1, b""), frame(MESSAGE, 1, &ask_for(HOLD))].concat(),
        _ => frame(MESSAGE, 1, &[n as u8; 64 * 1024]),
    };
    let unread = move |n: u32| if n == 0 { opened(1) } else { frame(MESSAGE, 1, &[n as u8; 16 * 1024]) };
    vec![
        many("S5: an echo that is not read", false, 17, unread, STALLED),
        many(
            "S5: thousands of questions who this is, their answers not read",
            false,
            5000,
            |n| [frame(NEW, n.into(), b""), frame(MESSAGE, n.into(), &ask_for("/ipfs/id/1.0.0"))].concat(),
            STALLED,
        ),
        many(
            "S6: ten thousand streams without a word",
            true,
            10_000,
            |n| frame(NEW, n.into(), b""),
            BAD_STREAMS,
        ),
        many(
            "S6: a hundred thousand streams, opened and reset",
            true,
            100_000,
            |n| [frame(NEW, n.into(), b""), frame(RESET, n.into(), b"")].concat(),
            BROKE,
        ),
        once("S7: an id used twice", [frame(NEW, 1, b""), frame(NEW, 1, b"")].concat(), BROKE),
        once("S7: a flag that means nothing", vec![7, 0], BROKE),
        many(
            "S7: a few bytes on closed streams",
            true,
            100,
            |n| {
                let id = n.into();
                [
                    frame(NEW, id, b""),
                    frame(CLOSE, id, b""),
                    frame(MESSAGE, id, b"late"),
                    frame(RESET, id, b""),
                ]
                .concat()
            },
            Lives,
        ),
        many(
            "S7: bytes on streams that never were",
            true,
            12_000,
            |n| frame(MESSAGE, n.into(), b"lost"),
            BROKE,
        ),
        many("S7: 5 MiB that nobody reads", true, 81, held, Lives),
        once("S8: 2^31 bytes, withheld", then(&head(MESSAGE, 1, 1 << 31)), BROKE),
        once("S8: 2^32-1 bytes, withheld", then(&head(MESSAGE, 1, u32::MAX.into())), BROKE),
        once("S8: a byte over 1 MiB, withheld", then(&head(MESSAGE, 1, (1 << 20) + 1)), BROKE),
        once("S8: 1 MiB, withheld", then(&head(MESSAGE, 1, 1 << 20)), Lives),
        once("S8: a length of ten bytes", [&[2][..], &[0xff; 9], &[1]].concat(), BROKE),
        once("S8: an id of eleven bytes", [&[0xff; 10][..], &[1]].concat(), BROKE),
    ]
    .into_iter()
    .chain(
        line_attacks()
            .map(|(name, said)| once(name, [frame(NEW, 1, b""), frame(MESSAGE, 1, &said)].concat(), Lives)),
    )
    .collect()
}

/// Echoes on a stream of its own until it is told to stop, and counts the times.
struct Honest {
    node: Node,
    rounds: Rc<Cell<u32>>,
    stop: Rc<Cell<bool>>,
    task: tokio::task::JoinHandle<()>,
}

impl Honest {
    async fn connect(network: &Network, alice: &Node, stack: Stack) -> Self {
        let node = start(network, 2, stack).await;
        node.connect(address(alice)).await.expect("connected");
        let mut stream = node.open(alice.peer_id(), ECHO).await.expect("open");
        let (rounds, stop) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let (counted, stopped) = (rounds.clone(), stop.clone());
        let task = tokio::task::spawn_local(async move {
            let (sent, mut back) = ([7; 1000], [0; 1000]);
            while !stopped.get() {
                let echo = async {
                    stream.write_all(&sent).await?;
                    stream.read_exact(&mut back).await
                };
                timeout(Duration::from_secs(1), echo).await.expect("it is not held up").expect("it works");
                assert_eq!(back, sent);
                counted.set(counted.get() + 1);
                sleep(Duration::from_millis(50)).await;
            }
        });
        Self { node, rounds, stop, task }
    }

    /// How often it was served since the last time that this was asked.
    fn served(&self) -> u32 {
        self.rounds.take()
    }

    async fn leave(self, alice: &Node) {
        self.stop.set(true);
        self.task.await.expect("it was served all the time");
        // Another stream, and another connection: nothing is left that would hinder them.
        check_echo(self.node.open(alice.peer_id(), ECHO).await.expect("open"), 100_000).await;
        self.node.disconnect(alice.peer_id()).await;
        self.node.connect(address(alice)).await.expect("connected");
        self.node.disconnect(alice.peer_id()).await;
        idle(&self.node).await;
        self.node.shutdown().await;
    }
}

fn speaking(network: &Network, seed: u8, stack: Stack) -> Builder {
    builder(network, seed).security([stack.0]).muxers([stack.1])
}

async fn start(network: &Network, seed: u8, stack: Stack) -> Node {
    let builder = speaking(network, seed, stack).listen("/memory/0").expect("an address");
    let node = builder.start().await.expect("it starts");
    serve_echo(&node);
    let hold = |stream: peerage_host::Stream, _| async move {
        sleep(Duration::from_secs(60)).await;
        drop(stream);
    };
    node.serve(HOLD, hold).expect("not served yet");
    node
}

/// One after the other against one node, each from a peer of its own, that dialed the node or was dialed by it.
fn suffer(stack: Stack, role: Role, attacks: fn(Role) -> Vec<Attack>) {
    run(async move {
        let network = Network::new();
        let alice = start(&network, 1, stack).await;
        let honest = Honest::connect(&network, &alice, stack).await;
        sleep(Duration::from_secs(1)).await;
        let mut surprises = Vec::new();
        for (n, attack) in attacks(role).into_iter().enumerate() {
            let Attack { name, reads, pieces, then } = attack;
            let seed = 10 + u8::try_from(n).expect("few attacks");
            let mut events = alice.events();
            let mut peer = match role {
                Role::Initiator => Hostile::connect(&network, &alice, stack, seed, reads).await,
                Role::Responder => Hostile::listen(&network, &alice, stack, seed, reads).await,
            };
            let connected = event(&mut events, |event| match event {
                Event::Connected { connection, .. } => Some(connection),
                _ => None,
            });
            let connection = connected.await;
            assert_eq!(connection.peer, common::peer(seed));
            honest.served();
            for piece in pieces {
                if !peer.send(&piece).await {
                    break;
                }
            }
            match then {
                Ends(what) => {
                    let ended = event(&mut events, |event| match event {
                        Event::Disconnected { connection: ended, why, .. } if ended.id == connection.id => {
                            Some(why)
                        }
                        _ => None,
                    });
                    match timeout(Duration::from_secs(30), ended).await {
                        Ok(why) if why.contains(what) => {}
                        other => surprises.push(format!("{name}: {other:?}")),
                    }
                }
                Lives => {
                    // Longer than a negotiation may take.
                    sleep(Duration::from_secs(15)).await;
                    let lives = alice.connections().iter().any(|one| one.id == connection.id);
                    if !lives {
                        surprises.push(format!("{name}: the connection has ended"));
                    }
                    let negotiating =
                        alice.usage().connections.get(&connection.id).map(|one| one.negotiating);
                    assert_eq!(negotiating.unwrap_or(0), 0, "{name}: it still negotiates");
                    assert!(honest.served() > 100, "{name}: the honest peer is held up");
                }
            }
            peer.leave().await;
            let id = connection.id;
            until(name, || !alice.usage().connections.contains_key(&id)).await;
            until(name, || !alice.usage().peers.contains_key(&common::peer(seed))).await;
        }
        assert!(surprises.is_empty(), "{surprises:#?}");
        honest.leave(&alice).await;
        idle(&alice).await;
        let panics = alice.tree().0.iter().map(|actor| actor.panics).max();
        assert_eq!(panics, Some(0));
        alice.shutdown().await;
    });
}

#[test]
fn on_noise_and_yamux() {
    suffer(NOISE_YAMUX, Role::Initiator, yamux_attacks);
    suffer(NOISE_YAMUX, Role::Responder, yamux_attacks);
}

#[test]
fn on_tls_and_yamux() {
    suffer(TLS_YAMUX, Role::Initiator, yamux_attacks);
    suffer(TLS_YAMUX, Role::Responder, yamux_attacks);
}

#[test]
fn on_noise_and_mplex() {
    suffer(NOISE_MPLEX, Role::Initiator, mplex_attacks);
    suffer(NOISE_MPLEX, Role::Responder, mplex_attacks);
}

/// S7: a window that is never opened again stalls its stream and no other on the same connection; one of single bytes
/// lets single bytes through.
#[test]
fn a_closed_window_and_one_of_single_bytes() {
    for stack in [NOISE_YAMUX, TLS_YAMUX] {
        run(async move {
            let network = Network::new();
            let alice = start(&network, 1, stack).await;
            let mut peer = Hostile::connect(&network, &alice, stack, 2, true).await;
            let block = [5; 16 * 1024];
            assert!(peer.send(&yamux::data(SYN, 1, &ask_for(ECHO))).await);
            // All of the window, and two blocks more once the first are read.
            for _ in 0..18 {
                assert!(peer.send(&yamux::data(0, 1, &block)).await);
                sleep(Duration::from_millis(10)).await;
            }
            for _ in 0..100 {
                assert!(peer.send(&yamux::frame(WINDOW_UPDATE, 0, 1, 1)).await);
                sleep(Duration::from_millis(10)).await;
            }
            assert!(peer.send(&yamux::data(SYN | FIN, 3, &[&ask_for(ECHO)[..], b"hello"].concat())).await);
            // As long as a peer may owe the answer to a ping of keepalive.
            sleep(Duration::from_secs(25)).await;
            assert_eq!(alice.connections().len(), 1);
            let got = peer.leave().await;
            assert_eq!(body_of(&got, 1).len(), 256 * 1024 + 100);
            assert!(body_of(&got, 3).ends_with(b"hello"));
            idle(&alice).await;
        });
    }
}

/// The bytes of one stream among frames.
fn body_of(mut frames: &[u8], stream: u32) -> Vec<u8> {
    let mut body = Vec::new();
    while let [_, kind, _, _, s0, s1, s2, s3, l0, l1, l2, l3, rest @ ..] = frames {
        let length = if *kind == DATA { u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize } else { 0 };
        let (this, rest) = rest.split_at(length);
        if u32::from_be_bytes([*s0, *s1, *s2, *s3]) == stream {
            body.extend_from_slice(this);
        }
        frames = rest;
    }
    body
}
