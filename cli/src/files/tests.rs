//! Transfers between nodes, and with peers that do it badly: in one paused runtime, over memory transport.

use std::fs;

use peerage::{Keypair, Multiaddr, transport::memory::Network};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    disk::{PIECE, Scratch, sha256_of},
    name::Name,
    *,
};

/// Runs a test in a paused runtime; it fails if virtual time runs past an hour.
fn run(test: impl Future<Output = ()> + 'static) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build_local(Default::default());
    let limit = Duration::from_secs(3600);
    let test = async move { timeout(limit, test).await.expect("the test hangs") };
    runtime.expect("a runtime").block_on(test);
}

/// A participant.
struct Side {
    node: Node,
    files: Files,
    scratch: Scratch,
}

impl Side {
    async fn new(network: &Network, seed: u8, test: &str) -> Self {
        Self::with(network, seed, test, |_| {}).await
    }

    async fn with(network: &Network, seed: u8, test: &str, change: impl FnOnce(&mut Config)) -> Self {
        let scratch = Scratch::new(&format!("{test}-{seed}"));
        let node = node(network, seed).await;
        let mut config = Config::new(scratch.folder());
        change(&mut config);
        let files = Files::start(&node, config).unwrap();
        Self { node, files, scratch }
    }

    async fn happened(&mut self) -> Happened {
        self.happened_while(|_| true).await
    }

    async fn happened_while(&mut self, here: impl Fn(PeerId) -> bool) -> Happened {
        loop {
            let event = self.files.next().await;
            if let Some(happened) = self.files.handle(event, &here) {
                return happened;
            }
        }
    }

    async fn asked(&mut self) -> Transfer {
        match self.happened().await {
            Happened::Asked(transfer) => transfer,
            other => panic!("{other:?}"),
        }
    }

    async fn failed(&mut self) -> String {
        match self.happened().await {
            Happened::Failed { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    async fn done(&mut self) -> (Transfer, Option<PathBuf>) {
        match self.happened().await {
            Happened::Done { transfer, path } => (transfer, path),
            other => panic!("{other:?}"),
        }
    }

    async fn turned_away(&mut self) -> String {
        match self.happened().await {
            Happened::TurnedAway { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }
}

async fn node(network: &Network, seed: u8) -> Node {
    let builder =
        Node::builder(Keypair::from_ed25519_seed([seed; 32])).in_thread().transport(network.transport());
    builder.listen("/memory/0").unwrap().start().await.unwrap()
}

fn address(node: &Node) -> Multiaddr {
    node.addresses().swap_remove(0)
}

/// Two who are connected.
async fn pair(test: &str) -> (Side, Side) {
    let network = Network::new();
    let (ada, bob) = (Side::new(&network, 1, test).await, Side::new(&network, 2, test).await);
    bob.node.connect(address(&ada.node)).await.unwrap();
    (ada, bob)
}

/// Somebody who receives as they should, and a node that offers what a test wants.
async fn with_raw(test: &str, change: impl FnOnce(&mut Config)) -> (Side, Node) {
    let network = Network::new();
    let ada = Side::with(&network, 1, test, change).await;
    let raw = node(&network, 2).await;
    raw.connect(address(&ada.node)).await.unwrap();
    (ada, raw)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn offer(name: &str, bytes: &[u8]) -> Offer {
    Offer { name: Name::new(name).unwrap(), size: bytes.len() as u64, sha256: sha256_of(bytes) }
}

/// Opens a stream and offers something on it.
async fn offering(from: &Node, to: &Side, message: &[u8]) -> Stream {
    let mut stream = from.open(to.node.peer_id(), PROTOCOL.as_str()).await.unwrap();
    wire::write(&mut stream, message).await.unwrap();
    stream
}

async fn reply(stream: &mut Stream) -> Reply {
    wire::read_reply(stream).await.unwrap()
}

#[test]
fn a_file_arrives_and_one_of_its_name_beside_it() {
    run(async {
        let (mut ada, mut bob) = pair("arrives").await;
        let content = bytes(3 * PIECE + 7);
        let path = ada.scratch.file("10:30 report.pdf", &content);
        for expected in ["10_30 report.pdf", "10_30 report (1).pdf"] {
            let id = ada.files.send(bob.node.peer_id(), path.clone()).unwrap();
            let Happened::Offered(offered) = ada.happened().await else { panic!() };
            assert_eq!((offered.id, offered.size, offered.state), (id, content.len() as u64, State::Offered));
            let asked = bob.asked().await;
            assert_eq!((asked.peer, asked.name.as_str()), (ada.node.peer_id(), "10_30 report.pdf"));
            assert_eq!((asked.size, asked.direction), (content.len() as u64, Direction::In));
            assert!(bob.scratch.received().len() < 2, "nothing is written before it is accepted");
            bob.files.accept(asked.id).unwrap();
            assert_eq!(bob.files.accept(asked.id), Err(CommandError::Unknown), "once");
            let (done, path) = bob.done().await;
            assert_eq!((done.moved(), path), (done.size, Some(bob.scratch.folder().join(expected))));
            assert_eq!(fs::read(bob.scratch.folder().join(expected)).unwrap(), content);
            assert!(matches!(ada.happened().await, Happened::Accepted(_)));
            let (done, path) = ada.done().await;
            assert_eq!((done.moved(), path), (done.size, None));
        }
        assert_eq!(bob.scratch.received().len(), 2);
        assert_eq!(ada.files.transfers().count() + bob.files.transfers().count(), 0);
    });
}

#[test]
fn an_empty_file_is_a_file() {
    run(async {
        let (mut ada, mut bob) = pair("empty").await;
        let path = ada.scratch.file("empty", b"");
        ada.files.send(bob.node.peer_id(), path).unwrap();
        let asked = bob.asked().await;
        bob.files.accept(asked.id).unwrap();
        bob.done().await;
        assert_eq!(bob.scratch.received(), ["empty"]);
    });
}

#[test]
fn who_declines_has_no_file() {
    run(async {
        let (mut ada, mut bob) = pair("decline").await;
        let path = ada.scratch.file("x", b"x");
        ada.files.send(bob.node.peer_id(), path).unwrap();
        let asked = bob.asked().await;
        bob.files.decline(asked.id).unwrap();
        assert_eq!(bob.files.accept(asked.id), Err(CommandError::Unknown), "the answer stands");
        assert_eq!(bob.failed().await, "you declined it");
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert_eq!(ada.failed().await, "it was declined");
        assert!(!bob.scratch.folder().exists());
    });
}

#[test]
fn who_can_answer_no_more_declines_all() {
    run(async {
        let (mut ada, raw) = with_raw("closed", |_| {}).await;
        let mut before = offering(&raw, &ada, &offer("x", b"x").encode()).await;
        ada.asked().await;
        ada.files.close();
        assert_eq!(reply(&mut before).await, Reply::No(Refusal::Declined));
        drop(before);
        assert_eq!(ada.failed().await, "you declined it");
        let mut after = offering(&raw, &ada, &offer("x", b"x").encode()).await;
        assert_eq!(ada.turned_away().await, "nobody is here to answer");
        assert_eq!(reply(&mut after).await, Reply::No(Refusal::Declined));
    });
}

#[test]
fn an_offer_that_nobody_answers_expires() {
    run(async {
        let (mut ada, mut bob) = pair("expires").await;
        let path = ada.scratch.file("x", b"x");
        ada.files.send(bob.node.peer_id(), path).unwrap();
        let asked = bob.asked().await;
        let since = Instant::now();
        assert_eq!(bob.failed().await, "it was not answered within 120 s");
        assert_eq!(since.elapsed().as_secs(), OFFER_TIMEOUT.as_secs());
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert_eq!(ada.failed().await, "nobody answered in time");
        assert_eq!(bob.files.accept(asked.id), Err(CommandError::Unknown));
    });
}

#[test]
fn a_receiver_that_never_says_anything_is_given_up() {
    run(async {
        let network = Network::new();
        let mut ada = Side::new(&network, 1, "mute").await;
        let mute = node(&network, 2).await;
        let streams = Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = streams.clone();
        mute.serve(PROTOCOL.as_str(), move |stream, _| {
            kept.lock().unwrap().push(stream);
            async {}
        })
        .unwrap();
        ada.node.connect(address(&mute)).await.unwrap();
        let path = ada.scratch.file("x", b"x");
        ada.files.send(mute.peer_id(), path).unwrap();
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert_eq!(ada.failed().await, "the receiver was silent for 130 s");
    });
}

#[test]
fn a_receiver_that_stops_reading_is_given_up() {
    run(async {
        let network = Network::new();
        let mut ada = Side::new(&network, 1, "deaf").await;
        let deaf = node(&network, 2).await;
        let streams = Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = streams.clone();
        deaf.serve(PROTOCOL.as_str(), move |mut stream, _| {
            let kept = kept.clone();
            async move {
                wire::read_offer(&mut stream).await.unwrap();
                wire::write(&mut stream, &Reply::Yes.encode()).await.unwrap();
                kept.lock().unwrap().push(stream);
            }
        })
        .unwrap();
        ada.node.connect(address(&deaf)).await.unwrap();
        let path = ada.scratch.file("x", &bytes(40 << 20));
        let id = ada.files.send(deaf.peer_id(), path.clone()).unwrap();
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert!(matches!(ada.happened().await, Happened::Accepted(_)));
        let moving: Vec<u32> = ada.files.transfers().map(|one| one.id).collect();
        assert_eq!(moving, [id]);
        assert_eq!(ada.failed().await, "the receiver was silent for 30 s");

        // And by the user, who is told so at once; the other side sees a reset.
        streams.lock().unwrap().clear();
        let id = ada.files.send(deaf.peer_id(), path).unwrap();
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert!(matches!(ada.happened().await, Happened::Accepted(_)));
        ada.files.cancel(id).unwrap();
        assert_eq!(ada.failed().await, "you cancelled it");
        let mut stream = streams.lock().unwrap().pop().unwrap();
        assert!(stream.read_to_end(&mut Vec::new()).await.is_err());
    });
}

#[test]
fn an_offer_can_be_withdrawn() {
    run(async {
        let (mut ada, mut bob) = pair("withdrawn").await;
        let path = ada.scratch.file("x", b"x");
        let id = ada.files.send(bob.node.peer_id(), path).unwrap();
        bob.asked().await;
        ada.files.cancel(id).unwrap();
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert_eq!(ada.failed().await, "you cancelled it");
        assert_eq!(bob.failed().await, "the offer was withdrawn");
    });
}

/// How a sender does it badly, what it is told, and what the user is told.
async fn badly(test: &str, offered: &[u8], body: &[u8], refusal: Refusal, why: &str) {
    let (mut ada, raw) = with_raw(test, |_| {}).await;
    let mut stream = offering(&raw, &ada, &offer("x.bin", offered).encode()).await;
    let asked = ada.asked().await;
    ada.files.accept(asked.id).unwrap();
    assert_eq!(reply(&mut stream).await, Reply::Yes);
    stream.write_all(body).await.unwrap();
    stream.close_write().await.unwrap();
    assert_eq!(reply(&mut stream).await, Reply::No(refusal));
    assert_eq!(ada.failed().await, why);
    assert!(ada.scratch.received().is_empty(), "{:?}", ada.scratch.received());
}

#[test]
fn what_is_not_what_was_offered_is_removed() {
    run(async {
        let good = bytes(PIECE + 10);
        let mut other = good.clone();
        other[PIECE] ^= 1;
        let why = "what the sender sent is not what it announced: its SHA-256 is another one";
        badly("hash", &good, &other, Refusal::WrongHash, why).await;
        let longer = [&good[..], b"x"].concat();
        let why = "the sender sent more than the 262154 bytes that it announced";
        badly("longer", &good, &longer, Refusal::TooLong, why).await;
        let why = "the sender sent 262153 of 262154 bytes";
        badly("shorter", &good, &good[..good.len() - 1], Refusal::TooShort, why).await;
        badly("nothing", &good, b"", Refusal::TooShort, "the sender sent 0 of 262154 bytes").await;
        let why = "the sender sent more than the 0 bytes that it announced";
        badly("something", b"", b"x", Refusal::TooLong, why).await;
    });
}

#[test]
fn who_does_not_wait_to_be_asked_is_refused() {
    run(async {
        let (mut ada, raw) = with_raw("early", |_| {}).await;
        let mut stream = offering(&raw, &ada, &offer("x", b"x").encode()).await;
        stream.write_all(b"x").await.unwrap();
        ada.asked().await;
        assert_eq!(ada.failed().await, "the sender did not wait for an answer");
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::TooLong));
        assert!(!ada.scratch.folder().exists());
    });
}

#[test]
fn a_sender_that_stalls_or_vanishes_leaves_no_file() {
    run(async {
        let (mut ada, raw) = with_raw("stalls", |_| {}).await;
        let content = bytes(PIECE);
        let mut stream = offering(&raw, &ada, &offer("x", &content).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        stream.write_all(&content[..1000]).await.unwrap();
        let since = Instant::now();
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::Stalled));
        assert_eq!(since.elapsed().as_secs(), IDLE_TIMEOUT.as_secs());
        drop(stream);
        assert_eq!(ada.failed().await, "the sender was silent for 30 s");
        assert!(ada.scratch.received().is_empty());

        // Its stream is reset.
        let mut stream = offering(&raw, &ada, &offer("x", &content).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        stream.write_all(&content[..1000]).await.unwrap();
        drop(stream);
        let why = ada.failed().await;
        assert!(why.starts_with("the sender broke off"), "{why}");
        assert!(ada.scratch.received().is_empty());

        // It is gone.
        let mut stream = offering(&raw, &ada, &offer("x", &content).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        stream.write_all(&content[..1000]).await.unwrap();
        raw.shutdown().await;
        let why = ada.failed().await;
        assert!(why.starts_with("the sender broke off"), "{why}");
        assert!(ada.scratch.received().is_empty());
    });
}

#[test]
fn the_receiver_can_cancel_midway() {
    run(async {
        let (mut ada, raw) = with_raw("cancel", |_| {}).await;
        let content = bytes(PIECE);
        let mut stream = offering(&raw, &ada, &offer("x", &content).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        stream.write_all(&content[..1000]).await.unwrap();
        while asked.moved() < 1000 {
            task::yield_now().await;
        }
        assert_eq!(ada.scratch.received(), [".x.0.part"]);
        ada.files.cancel(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::Cancelled));
        drop(stream);
        assert_eq!(ada.failed().await, "you cancelled it");
        assert!(ada.scratch.received().is_empty());
    });
}

#[test]
fn a_sender_hears_at_once_that_the_receiver_has_had_enough() {
    run(async {
        let (mut ada, mut bob) = pair("enough").await;
        let path = ada.scratch.file("x", &bytes(40 << 20));
        ada.files.send(bob.node.peer_id(), path).unwrap();
        let asked = bob.asked().await;
        bob.files.accept(asked.id).unwrap();
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert!(matches!(ada.happened().await, Happened::Accepted(_)));
        while asked.moved() == 0 {
            task::yield_now().await;
        }
        bob.files.cancel(asked.id).unwrap();
        assert_eq!(bob.failed().await, "you cancelled it");
        assert_eq!(ada.failed().await, "it was cancelled there");
        assert!(bob.scratch.received().is_empty());
    });
}

#[test]
fn the_end_of_the_chat_removes_what_is_not_complete() {
    run(async {
        let (mut ada, raw) = with_raw("stop", |_| {}).await;
        let content = bytes(PIECE);
        let mut stream = offering(&raw, &ada, &offer("x", &content).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        assert_eq!(ada.scratch.received(), [".x.0.part"]);
        ada.files.stop().await;
        assert!(ada.scratch.received().is_empty());
        assert!(wire::read_reply(&mut stream).await.is_err());
    });
}

#[test]
fn the_largest_file_and_one_byte_more() {
    run(async {
        let (mut ada, raw) = with_raw("largest", |config| config.max_size = 1000).await;
        let mut stream = offering(&raw, &ada, &offer("x", &bytes(1001)).encode()).await;
        assert_eq!(ada.turned_away().await, "x has 1001 bytes, 1000 are taken");
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::TooLarge { max: 1000 }));
        let _open = offering(&raw, &ada, &offer("x", &bytes(1000)).encode()).await;
        assert_eq!(ada.asked().await.size, 1000);
    });
}

#[test]
fn offers_that_are_none_reach_nobody() {
    run(async {
        let (mut ada, raw) = with_raw("none", |_| {}).await;
        let named = |name: &[u8]| {
            let hash = [&[0x1a, 0x20][..], &[7; 32]].concat();
            [&[0x0a, u8::try_from(name.len()).unwrap()][..], name, &[0x10, 1], &hash].concat()
        };
        for (message, why) in [
            (named(b"../x"), "a name with '/' in it"),
            (named(b".bashrc"), "a name that begins with '.'"),
            (named(b"a\x1b[2J"), "a name with '\\u{1b}' in it"),
            (named("a\u{202e}b".as_bytes()), "a name with '\\u{202e}' in it"),
            (named(b"NUL.txt"), "the name of a device"),
            (named(b""), "a name of 0 bytes; 1 to 200 are allowed"),
            (b"\x0a\x01x".to_vec(), "not an offer or a reply: a hash that is not of 32 bytes"),
            (vec![0; wire::MAX_OFFER + 1], "frame of 257 bytes, 256 allowed"),
        ] {
            let mut stream = offering(&raw, &ada, &message).await;
            assert_eq!(ada.turned_away().await, why);
            assert_eq!(reply(&mut stream).await, Reply::No(Refusal::BadOffer));
        }
        assert!(!ada.scratch.folder().exists());
    });
}

#[test]
fn so_many_offers_are_open_and_not_one_more() {
    run(async {
        let network = Network::new();
        let mut ada = Side::new(&network, 1, "many").await;
        let message = offer("x", b"x").encode();
        let mut open = Vec::new();
        for seed in 0..=(MAX_INCOMING / MAX_PER_PEER) as u8 {
            let raw = node(&network, 10 + seed).await;
            raw.connect(address(&ada.node)).await.unwrap();
            let room = (MAX_INCOMING - open.len()).min(MAX_PER_PEER);
            for _ in 0..room {
                let stream = offering(&raw, &ada, &message).await;
                ada.asked().await;
                open.push((raw.clone(), stream));
            }
            let mut stream = offering(&raw, &ada, &message).await;
            assert_eq!(ada.turned_away().await, "too many files are offered already");
            assert_eq!(reply(&mut stream).await, Reply::No(Refusal::TooMany));
        }
        assert_eq!(open.len(), MAX_INCOMING);
        // One that is answered makes room for the next.
        let id = ada.files.transfers().next().unwrap().id;
        ada.files.decline(id).unwrap();
        let (raw, mut stream) = open.remove(0);
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::Declined));
        drop(stream);
        ada.failed().await;
        let _stream = offering(&raw, &ada, &message).await;
        ada.asked().await;
    });
}

#[test]
fn so_many_files_are_sent_and_not_one_more() {
    run(async {
        let (mut ada, bob) = pair("outgoing").await;
        let path = ada.scratch.file("x", b"x");
        for _ in 0..MAX_OUTGOING {
            ada.files.send(bob.node.peer_id(), path.clone()).unwrap();
        }
        assert_eq!(ada.files.send(bob.node.peer_id(), path), Err(CommandError::TooMany));
    });
}

#[test]
fn strangers_offer_nothing_unless_they_are_known_in_a_moment() {
    run(async {
        let (mut ada, raw) = with_raw("strangers", |_| {}).await;
        let message = offer("x", b"x").encode();
        let mut stream = offering(&raw, &ada, &message).await;
        let event = ada.files.next().await;
        assert!(ada.files.handle(event, |_| false).is_none());
        assert!(ada.files.sweep(|_| false).is_empty());
        assert!(matches!(ada.files.sweep(|_| true)[..], [Happened::Asked(_)]));
        drop(stream);
        assert_eq!(ada.failed().await, "the offer was withdrawn");

        stream = offering(&raw, &ada, &message).await;
        let event = ada.files.next().await;
        assert!(ada.files.handle(event, |_| false).is_none());
        tokio::time::advance(ACQUAINTANCE).await;
        assert!(ada.files.sweep(|_| false).is_empty());
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::NotHere));
        drop(stream);
        assert!(ada.files.sweep(|_| true).is_empty());
    });
}

#[test]
fn so_many_strangers_wait_and_not_one_more() {
    run(async {
        let network = Network::new();
        let mut ada = Side::new(&network, 1, "crowd").await;
        let message = offer("x", b"x").encode();
        let mut waiting = Vec::new();
        for number in 0..=MAX_STRANGERS {
            let raw = node(&network, 10 + number as u8).await;
            raw.connect(address(&ada.node)).await.unwrap();
            let mut stream = offering(&raw, &ada, &message).await;
            let event = ada.files.next().await;
            assert!(ada.files.handle(event, |_| false).is_none());
            if number == MAX_STRANGERS {
                assert_eq!(reply(&mut stream).await, Reply::No(Refusal::NotHere));
            }
            waiting.push((raw, stream));
        }
        assert_eq!(ada.files.strangers.len(), MAX_STRANGERS);
    });
}

#[test]
fn a_file_that_changes_while_it_is_offered_does_not_arrive_as_another_one() {
    run(async {
        let (mut ada, mut bob) = pair("changes").await;
        let content = bytes(1000);
        for (changed, why_ada, why_bob) in [
            (bytes(999), "the file has changed since it was offered", "the sender broke off"),
            (vec![0; 1000], "what arrived is not what was offered", "what the sender sent is not"),
        ] {
            let path = ada.scratch.file("x", &content);
            ada.files.send(bob.node.peer_id(), path.clone()).unwrap();
            assert!(matches!(ada.happened().await, Happened::Offered(_)));
            let asked = bob.asked().await;
            fs::write(&path, changed).unwrap();
            bob.files.accept(asked.id).unwrap();
            let why = bob.failed().await;
            assert!(why.starts_with(why_bob), "{why}");
            assert!(matches!(ada.happened().await, Happened::Accepted(_)));
            let why = ada.failed().await;
            assert!(why.starts_with(why_ada), "{why}");
            assert!(bob.scratch.received().is_empty());
        }
        // What is appended was not offered.
        let path = ada.scratch.file("x", &content);
        ada.files.send(bob.node.peer_id(), path.clone()).unwrap();
        let asked = bob.asked().await;
        fs::write(&path, bytes(2000)).unwrap();
        bob.files.accept(asked.id).unwrap();
        bob.done().await;
        assert_eq!(fs::read(bob.scratch.folder().join("x")).unwrap(), content);
    });
}

#[test]
fn what_cannot_be_read_is_not_offered() {
    run(async {
        let (mut ada, bob) = pair("unreadable").await;
        let folder = ada.scratch.0.clone();
        for path in [folder.join("missing"), folder] {
            ada.files.send(bob.node.peer_id(), path).unwrap();
            let why = ada.failed().await;
            assert!(why.starts_with("the file cannot be read"), "{why}");
        }
    });
}

#[test]
fn a_folder_that_cannot_be_written_is_said_to_both() {
    run(async {
        let (mut ada, raw) = with_raw("disk", |_| {}).await;
        // A file where the folder should be.
        ada.scratch.file("in", b"");
        let mut stream = offering(&raw, &ada, &offer("x", b"x").encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::Disk));
        drop(stream);
        let why = ada.failed().await;
        assert!(why.starts_with("it cannot be written"), "{why}");
    });
}
