//! QUIC peers that mean harm, frame by frame, after an honest handshake, against a whole node: S7 and S25 of
//! the hostile scenarios. Only they suffer for it.

mod common;

use std::time::Duration;

use common::{
    puppet::{Puppet, frame, socket},
    raw::ask_for,
    *,
};
use frame::{MAX, crypto, new_connection_id, numbers, path_challenge, stream};
use peerage_core::Keypair;
use peerage_host::{Event, Node, Usage};
use peerage_transport::quic::{MAX_STREAMS, RECEIVE_WINDOW, STREAM_WINDOW};
use tokio::time::timeout;

/// Long enough for any machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

const LOOPBACK: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// What becomes of the connection.
enum Then {
    /// It ends, by the peer's fault, for a reason that contains this.
    Ends(&'static str),
    /// It goes on.
    Lives,
    /// It goes on at an id of which quinn's client knows nothing, so that it cannot be heard what becomes of
    /// it.
    Deaf,
}

use Then::{Deaf, Ends, Lives};

type Frames = Box<dyn Iterator<Item = Vec<u8>>>;

fn once(frame: Vec<u8>) -> Frames {
    Box::new(std::iter::once(frame))
}

fn many(count: u64, frame: impl FnMut(u64) -> Vec<u8> + 'static) -> Frames {
    Box::new((0..count).map(frame))
}

/// Streams of a client have the numbers 0, 4, 8 and so on. The first few are left to what is said honestly.
const FIRST: u64 = 4 * 10;

fn attacks() -> Vec<(&'static str, Frames, Then)> {
    let window = u64::from(RECEIVE_WINDOW);
    let last = 4 * (u64::from(MAX_STREAMS) - 1);
    vec![
        // Gaps.
        // What is not there counts as what is: half of the window is left for what is said honestly.
        ("the middle of a window and never its beginning", once(stream(FIRST, window / 2, b"x")), Lives),
        ("a byte over the window", once(stream(FIRST, window, b"x")), Ends("data limits")),
        ("a byte over a stream's", once(stream(FIRST, u64::from(STREAM_WINDOW), b"x")), Ends("data limits")),
        ("the largest offset there is", once(stream(FIRST, MAX - 1, b"x")), Ends("data limits")),
        ("an offset that overflows", once(stream(FIRST, MAX, b"x")), Ends("")),
        ("every second byte of a stream", many(100_000, |n| stream(FIRST, 2 * n + 1, b"x")), Ends("gaps")),
        ("six bytes and a gap of one", many(30_000, |n| stream(FIRST, 7 * n + 1, b"sixsix")), Ends("gaps")),
        ("the same byte a hundred thousand times", many(100_000, |_| stream(FIRST, 9, b"x")), Lives),
        ("byte after byte, from behind", many(100_000, |n| stream(FIRST, 100_000 - n, b"x")), Lives),
        ("a late answer in TLS, and a gap before it", once(crypto(1000, b"x")), Lives),
        ("one at an offset far away", once(crypto(1 << 40, b"x")), Ends("crypto")),
        ("every second byte of TLS", many(8_000, |n| crypto(2 * n + 1, b"x")), Ends("gaps")),
        // Streams.
        ("one stream too many", once(stream(last + 4, 0, b"x")), Ends("stream")),
        ("a stream of the largest number", once(stream(MAX - 3, 0, b"x")), Ends("stream")),
        ("a stream that only goes one way", once(stream(2, 0, b"x")), Ends("stream")),
        ("a stream of the other side's that is not there", once(stream(4001, 0, b"x")), Ends("")),
        (
            "two ends of one stream",
            Box::new([numbers(&[0x0f, FIRST, 5, 0]), numbers(&[0x0f, FIRST, 6, 0])].into_iter()),
            Ends("final"),
        ),
        (
            "an end before what came",
            Box::new([stream(FIRST, 5, b"x"), numbers(&[0x04, FIRST, 0, 3])].into_iter()),
            Ends("final"),
        ),
        ("a reset far away", once(numbers(&[0x04, FIRST, 0, MAX])), Ends("data limits")),
        ("credit for what is not there", once(numbers(&[0x11, 4001, MAX])), Ends("")),
        ("all the credit there is", once(numbers(&[0x10, MAX])), Lives),
        ("more streams than there can be", once(numbers(&[0x12, MAX])), Ends("")),
        ("all streams that there can be", once(numbers(&[0x12, 1 << 60])), Lives),
        // Connection ids and paths: quic-go CVE-2023-49295, CVE-2024-22189; quiche CVE-2023-6193, CVE-2024-1410.
        ("ten thousand path challenges", many(10_000, path_challenge), Lives),
        ("answers that nobody asked for", many(10_000, |n| [&[0x1b], &n.to_be_bytes()[..]].concat()), Lives),
        ("ids over the limit", many(100, |n| new_connection_id(n + 100, 0)), Ends("")),
        ("ids that each retire all before", many(200, |n| new_connection_id(n + 100, n + 100)), Deaf),
        ("an id that retires itself", once(new_connection_id(100, 101)), Ends("malformed")),
        ("an id that retires 2^60 others", once(new_connection_id(1 << 60, 1 << 60)), Deaf),
        ("an id retired that never was", once(numbers(&[0x19, MAX])), Ends("")),
        // What no client says, nobody knows, or is no frame.
        ("a packet that was never sent, acknowledged", once(numbers(&[0x02, 1 << 40, 0, 0, 0])), Ends("ack")),
        ("ranges of acknowledgements that never end", once(numbers(&[0x02, 5, 0, MAX, 0])), Ends("")),
        ("a token, from a client", once([&numbers(&[0x07, 1])[..], b"x"].concat()), Ends("NEW_TOKEN")),
        ("the end of the handshake, from a client", once(vec![0x1e]), Ends("HANDSHAKE_DONE")),
        ("a datagram that was not agreed on", once([&numbers(&[0x31, 1])[..], b"x"].concat()), Ends("")),
        ("a frame of no kind", once(numbers(&[0x21])), Ends("")),
        ("a frame of the largest kind", once(numbers(&[MAX])), Ends("")),
        ("a frame that is longer than its packet", once(numbers(&[0x0e, FIRST, 0, 2000])), Ends("")),
        ("a thousand pings in one packet", once(vec![0x01; 1000]), Lives),
    ]
}

async fn start() -> Node {
    let node = Node::builder(Keypair::generate()).in_thread().listen(LOOPBACK).expect("an address");
    let node = node.start().await.expect("it starts");
    serve_echo(&node);
    node
}

/// Another stream on the same connection still works.
async fn speaks(puppet: &Puppet) -> Result<(), Box<dyn std::error::Error>> {
    let (mut send, mut recv) = puppet.connection.open_bi().await?;
    send.write_all(&[&ask_for(ECHO)[..], b"hello"].concat()).await?;
    send.finish()?;
    let said = timeout(PATIENCE, recv.read_to_end(1000)).await??;
    if said.ends_with(b"hello") { Ok(()) } else { Err(format!("{said:?}").into()) }
}

#[test]
fn frames_that_break_the_rules_end_one_connection_and_others_do_nothing() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build_local(Default::default()).expect("a runtime");
    runtime.block_on(async {
        let alice = start().await;
        let bob = start().await;
        bob.connect(address(&alice)).await.expect("connected");
        let mut surprises = Vec::new();
        for (n, (name, frames, then)) in attacks().into_iter().enumerate() {
            let seed = 10 + u8::try_from(n).expect("few attacks");
            let mut events = alice.events();
            let mut puppet = Puppet::connect(socket(&alice.listen_addresses()[0]), seed).await;
            let connected = event(&mut events, |event| match event {
                Event::Connected { connection, .. } => Some(connection),
                _ => None,
            });
            let connection = timeout(PATIENCE, connected).await.expect("it is let in");
            let said = puppet.say_all(frames).await;
            match then {
                Ends(what) => {
                    let ended = event(&mut events, |event| match event {
                        Event::Disconnected { connection: ended, why, .. } if ended.id == connection.id => {
                            Some(why)
                        }
                        _ => None,
                    });
                    match timeout(PATIENCE, ended).await {
                        Ok(why)
                            if why.contains("the peer broke the protocol")
                                && why.to_lowercase().contains(&what.to_lowercase()) => {}
                        other => surprises.push(format!("{name}: {other:?}")),
                    }
                }
                Deaf => {}
                Lives => {
                    let speaks = speaks(&puppet).await;
                    if !said || speaks.is_err() {
                        surprises.push(format!("{name}: {speaks:?}"));
                    }
                }
            }
            drop(puppet);
            check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 10_000).await;
        }
        assert!(surprises.is_empty(), "{surprises:#?}");
        assert!(alice.tree().0.iter().all(|actor| actor.panics == 0), "{}", alice.tree());
        bob.disconnect(alice.peer_id()).await;
        until("all is given back", || alice.usage() == Usage::default()).await;
        alice.shutdown().await;
        bob.shutdown().await;
    });
}
