//! What goes ahead of the handshake over QUIC (0-RTT), and who gets to see it: nodes on loopback, and somebody between
//! them who records, holds back, and sends again.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{puppet::socket, way::Way, *};
use futures::{FutureExt as _, future::BoxFuture};
use peerage_core::{Multiaddr, PeerId, ProtocolId};
use peerage_host::{
    Builder, Event, First, Node, OpenError, OpenOptions, Optimism, ServeOptions, Stream,
    request_response::RequestResponse,
};
use peerage_transport::{
    DialOpts, Link, ListenError, ListenOpts, Listener, Transport, TransportError,
    memory::{Memory, Network},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};

/// Long enough for any machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOPBACK: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
/// Answers `early` or `late`, by when it was asked.
const WHEN: &str = "/when/1";
const CLIENT: u8 = 1;
const SERVER: u8 = 2;

/// In real time, in this thread.
fn on_loopback<T: 'static>(test: impl Future<Output = T> + 'static) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build_local(Default::default()).expect("a runtime");
    runtime.block_on(async { timeout(2 * PATIENCE, test).await.expect("the test hangs") })
}

fn in_making(seed: u8) -> Builder {
    Node::builder(keypair(seed)).in_thread()
}

/// A server, and what its handler was called for: whether that was early.
struct Server {
    node: Node,
    calls: Arc<AtomicUsize>,
    called: mpsc::Receiver<bool>,
}

impl Server {
    async fn start(options: ServeOptions) -> Self {
        let node = in_making(SERVER).listen(LOOPBACK).expect("an address");
        Self::of(node.start().await.expect("it starts"), options)
    }

    fn of(node: Node, options: ServeOptions) -> Self {
        let (tell, called) = mpsc::channel(64);
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let handler = move |stream, _| {
            count.fetch_add(1, Ordering::Relaxed);
            when(stream, tell.clone())
        };
        node.serve_with(ProtocolId::new(WHEN).expect("a name"), options, handler).expect("not served yet");
        Self { node, calls, called }
    }

    async fn way(&self) -> Way {
        Way::to(socket(&self.node.listen_addresses()[0])).await
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    async fn next_call(&mut self) -> bool {
        timeout(PATIENCE, self.called.recv()).await.expect("it is called").expect("it is served")
    }
}

async fn when(mut stream: Stream, tell: mpsc::Sender<bool>) -> std::io::Result<()> {
    let early = stream.is_early();
    let _ = tell.send(early).await;
    let mut question = Vec::new();
    stream.read_to_end(&mut question).await?;
    assert_eq!(question, QUESTION);
    stream.write_all(if early { b"early" } else { b"late" }).await?;
    stream.close_write().await
}

const QUESTION: &[u8] = b"when?";

fn asking(address: &Multiaddr, first: First) -> OpenOptions {
    let mut options = OpenOptions::new([ProtocolId::new(WHEN).expect("a name")]);
    options.addresses = vec![address.clone()];
    options.first = Some(first);
    options
}

fn question() -> First {
    First::new(QUESTION).end()
}

async fn answer(mut stream: Stream) -> String {
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
    answer
}

async fn ask(client: &Node, address: &Multiaddr) -> String {
    let opened = client.open_with(peer(SERVER), asking(address, question().replay_safe())).await;
    answer(opened.expect("it opens")).await
}

/// A client that has met the server, and heard what it speaks, and parted.
async fn acquainted(server: &Server, address: &Multiaddr) -> Node {
    let client = in_making(CLIENT).start().await.expect("it starts");
    meet(&client, server, address).await;
    client
}

async fn meet(client: &Node, server: &Server, address: &Multiaddr) {
    let mut events = client.events();
    client.connect(address.with_peer(peer(SERVER)).expect("it has none")).await.expect("connected");
    let identified = event(&mut events, |event| matches!(event, Event::Identified { .. }).then_some(()));
    timeout(PATIENCE, identified).await.expect("it says what it speaks");
    part(client, server).await;
}

async fn part(client: &Node, server: &Server) {
    client.disconnect(peer(SERVER)).await;
    until("both are alone", || client.connections().is_empty() && server.node.connections().is_empty()).await;
}

/// How often early data became this.
fn early(client: &Node, outcome: &str) -> u64 {
    let name = format!("peerage_early_data_total{{outcome=\"{outcome}\"}} ");
    let metrics = client.metrics();
    let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
    count.map_or(0, |count| count.parse().expect("a number"))
}

fn replay_safe() -> ServeOptions {
    ServeOptions::default().replay_safe()
}

#[test]
fn a_known_peer_is_answered_before_its_handshake_is_done() {
    on_loopback(async {
        let mut server = Server::start(replay_safe()).await;
        let way = server.way().await;
        let client = acquainted(&server, &way.address).await;
        let mut events = server.node.events();
        way.hold_answers(true);
        let answered = tokio::task::spawn_local({
            let (client, address) = (client.clone(), way.address.clone());
            async move { ask(&client, &address).await }
        });
        assert!(server.next_call().await, "no answer has gone to the client yet");
        assert!(server.node.connections().is_empty(), "it has not proven that it is there");
        assert!(client.connections().is_empty());
        way.hold_answers(false);
        assert_eq!(answered.await.expect("no panic"), "early");
        let connected = event(&mut events, |event| matches!(event, Event::Connected { .. }).then_some(()));
        timeout(PATIENCE, connected).await.expect("it has now");
        assert_eq!((early(&client, "taken"), early(&client, "refused")), (1, 0));
        // It is a connection as every other.
        assert_eq!(ask(&client, &way.address).await, "late");
        assert_eq!(server.calls(), 2);
        part(&client, &server).await;
        assert_eq!(ask(&client, &way.address).await.len(), "early".len());
        assert_eq!(early(&client, "taken"), 2);
    });
}

#[test]
fn what_is_not_safe_from_replays_waits_for_the_handshake() {
    on_loopback(async {
        let mut server = Server::start(ServeOptions::default()).await;
        let way = server.way().await;
        let client = acquainted(&server, &way.address).await;
        way.hold_answers(true);
        let answered = tokio::task::spawn_local({
            let (client, address) = (client.clone(), way.address.clone());
            async move { ask(&client, &address).await }
        });
        // The stream is there, its protocol is known, and its handler is not called.
        until("the stream is there", || {
            let usage = server.node.usage();
            usage.protocols.values().any(|protocol| protocol.inbound == 1)
        })
        .await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.calls(), 0);
        way.hold_answers(false);
        assert!(!server.next_call().await);
        assert_eq!(answered.await.expect("no panic"), "late");
        assert_eq!((server.calls(), early(&client, "taken")), (1, 1));
    });
}

#[test]
fn what_the_user_does_not_call_safe_goes_after_the_handshake() {
    on_loopback(async {
        let server = Server::start(replay_safe()).await;
        let way = server.way().await;
        let client = acquainted(&server, &way.address).await;
        let opened = client.open_with(peer(SERVER), asking(&way.address, question())).await;
        assert_eq!(answer(opened.expect("it opens")).await, "late");
        assert_eq!(early(&client, "taken"), 0);
    });
}

#[test]
fn a_first_flight_is_answered_once_whoever_sends_it_and_how_often() {
    on_loopback(async {
        let mut server = Server::start(replay_safe()).await;
        let way = server.way().await;
        let client = acquainted(&server, &way.address).await;
        way.take_recorded();
        way.hold_answers(true);
        let answered = tokio::task::spawn_local({
            let (client, address) = (client.clone(), way.address.clone());
            async move { ask(&client, &address).await }
        });
        assert!(server.next_call().await);
        let flight = way.take_recorded();
        way.hold_answers(false);
        assert_eq!(answered.await.expect("no panic"), "early");
        // While the connection is there, and when it is gone.
        let _at_once = way.replay(&flight).await;
        part(&client, &server).await;
        let later = way.replay(&flight).await;
        let mut said = [0; 2048];
        timeout(PATIENCE, later.recv_from(&mut said)).await.expect("it answers").expect("something");
        // What was sent before this has been looked at.
        assert_eq!(ask(&client, &way.address).await.len(), "early".len());
        assert_eq!(server.calls(), 2);
    });
}

#[test]
fn a_first_flight_that_was_held_back_is_answered_and_its_sender_is_nobody() {
    on_loopback(async {
        let mut server = Server::start(replay_safe()).await;
        let way = server.way().await;
        let client = acquainted(&server, &way.address).await;
        way.take_recorded();
        way.lose_questions(true);
        let asking = tokio::task::spawn_local({
            let (client, address) = (client.clone(), way.address.clone());
            async move { ask(&client, &address).await }
        });
        // A flight has two or three datagrams, and is sent again when nobody answers.
        until("all of it is on its way", || way.recorded() >= 4).await;
        asking.abort();
        let flight = way.take_recorded();
        let mut events = server.node.events();
        // Twice, from two places. It is known who wrote it, and to nobody that he is there.
        let _here = way.replay(&flight).await;
        let _there = way.replay(&flight).await;
        assert!(server.next_call().await);
        way.lose_questions(false);
        let other = in_making(9).start().await.expect("it starts");
        meet_as(&other, &server, &way.address, &mut events).await;
        assert_eq!(server.calls(), 1);
        assert!(server.node.connections().is_empty());
    });
}

/// Another peer comes and goes; it is the only one of which the server tells.
async fn meet_as(other: &Node, server: &Server, address: &Multiaddr, events: &mut peerage_host::Events) {
    other.connect(address.with_peer(peer(SERVER)).expect("it has none")).await.expect("connected");
    let first = event(events, |event| match event {
        Event::Connected { connection, .. } => Some(connection.peer),
        _ => None,
    });
    assert_eq!(timeout(PATIENCE, first).await.expect("it tells"), other.peer_id());
    other.disconnect(peer(SERVER)).await;
    until("both are alone", || server.node.connections().is_empty()).await;
}

#[test]
fn a_server_that_was_started_anew_is_asked_again_and_not_early_the_next_time() {
    on_loopback(async {
        let server = Server::start(replay_safe()).await;
        let address = server.node.listen_addresses()[0].clone();
        let client = acquainted(&server, &address).await;
        server.node.shutdown().await;
        let node = in_making(SERVER).listen(address.clone()).expect("an address");
        let server = Server::of(node.start().await.expect("it starts"), replay_safe());
        assert_eq!(ask(&client, &address).await, "late");
        assert_eq!((early(&client, "taken"), early(&client, "refused")), (0, 1));
        part(&client, &server).await;
        assert_eq!(ask(&client, &address).await, "late");
        assert_eq!((early(&client, "taken"), early(&client, "refused")), (0, 1), "it is remembered");
        part(&client, &server).await;
        ask(&client, &address).await;
        assert_eq!((early(&client, "taken"), early(&client, "refused")), (1, 1));
        assert_eq!(server.calls(), 3);
    });
}

/// Memory transport to a peer that is said to take early data, and hangs up over them.
struct Touchy(Memory, Arc<AtomicUsize>);

impl Transport for Touchy {
    fn name(&self) -> &'static str {
        "touchy"
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        self.0.dials(address)
    }

    fn listens(&self, address: &Multiaddr) -> bool {
        self.0.listens(address)
    }

    fn may_be_early(&self, _: PeerId) -> bool {
        true
    }

    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        if opts.early.is_none() {
            return self.0.dial(address, opts);
        }
        self.1.fetch_add(1, Ordering::Relaxed);
        async { Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()) }.boxed()
    }

    fn listen(
        &self,
        address: Multiaddr,
        opts: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        self.0.listen(address, opts)
    }
}

#[test]
fn an_attempt_that_fails_over_them_is_made_once_more_without() {
    run(async {
        let network = Network::new();
        let node = builder(&network, SERVER).listen("/memory/0").expect("an address");
        let server = Server::of(node.start().await.expect("it starts"), replay_safe());
        let touched = Arc::new(AtomicUsize::new(0));
        let touchy = Touchy(network.transport(), Arc::clone(&touched));
        let client = Node::builder(keypair(CLIENT)).in_thread().transport(touchy);
        let client = client.start().await.expect("it starts");
        let address = address(&server.node);
        let mut options = asking(&address, question().replay_safe());
        options.optimism = Optimism::Always;
        let stream = client.open_with(peer(SERVER), options).await.expect("it opens");
        assert_eq!(answer(stream).await, "late");
        assert_eq!((touched.load(Ordering::Relaxed), early(&client, "failed"), server.calls()), (1, 1, 1));
        // Without an offer there is nothing to be touchy about.
        client.disconnect(peer(SERVER)).await;
        let mut options = asking(&address, question());
        options.optimism = Optimism::Always;
        client.open_with(peer(SERVER), options).await.expect("it opens");
        assert_eq!(touched.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn another_peer_at_the_address_is_found_out() {
    on_loopback(async {
        let server = Server::start(replay_safe()).await;
        let address = server.node.listen_addresses()[0].clone();
        let client = acquainted(&server, &address).await;
        server.node.shutdown().await;
        let node = in_making(3).listen(address.clone()).expect("an address");
        let server = Server::of(node.start().await.expect("it starts"), replay_safe());
        let opened = client.open_with(peer(SERVER), asking(&address, question().replay_safe())).await;
        let OpenError::Dial(error) = opened.expect_err("somebody else is there") else { panic!("no dial") };
        assert!(error.to_string().contains(&peer(3).to_string()), "{error}");
        assert_eq!(server.calls(), 0);
        assert_eq!((early(&client, "taken"), early(&client, "failed")), (0, 0));
    });
}

#[test]
fn a_protocol_that_is_gone_is_negotiated_anew() {
    on_loopback(async {
        let server = Server::start(replay_safe()).await;
        let address = server.node.listen_addresses()[0].clone();
        let client = acquainted(&server, &address).await;
        // The way it was, as far as the client knows.
        let gone = ProtocolId::new("/gone/1").expect("a name");
        let mut options = asking(&address, question().replay_safe());
        options.protocols.insert(0, gone.clone());
        options.optimism = Optimism::Always;
        let served = server.node.serve("/gone/1", |_, _| async {}).expect("not served yet");
        meet(&client, &server, &address).await;
        server.node.unserve(served);
        let stream = client.open_with(peer(SERVER), options).await.expect("it opens");
        assert_eq!(stream.protocol().as_str(), WHEN);
        assert_eq!(answer(stream).await, "late");
        assert_eq!(early(&client, "taken"), 1);
        assert_eq!(server.calls(), 1);
    });
}

#[test]
fn who_is_banned_is_not_answered_early_either() {
    on_loopback(async {
        let server = Server::start(replay_safe()).await;
        let address = server.node.listen_addresses()[0].clone();
        let client = acquainted(&server, &address).await;
        server.node.ban(peer(CLIENT), Duration::MAX).await;
        // The host has noted it when it answers this.
        server.node.disconnect(peer(CLIENT)).await;
        let opened = client.open_with(peer(SERVER), asking(&address, question().replay_safe())).await;
        match opened {
            Ok(mut stream) => assert!(stream.read_u8().await.is_err(), "it is closed"),
            Err(error) => assert!(!matches!(error, OpenError::Timeout(_)), "{error}"),
        }
        assert_eq!(server.calls(), 0);
    });
}

#[test]
fn requests_that_are_safe_go_ahead() {
    on_loopback(async {
        let sums = || RequestResponse::cbor::<Vec<u64>, u64>("/sum/1").expect("a name").replay_safe();
        let served = sums().serve(|_, terms: Vec<u64>| async move { Ok::<_, String>(terms.iter().sum()) });
        let (node, _) = in_making(SERVER).listen(LOOPBACK).expect("an address").with(served);
        let server = Server::of(node.start().await.expect("it starts"), replay_safe());
        let (client, sums) = in_making(CLIENT).with(sums());
        let client = client.start().await.expect("it starts");
        meet(&client, &server, &server.node.listen_addresses()[0].clone()).await;
        for times in 1..=3 {
            // The book knows where it is.
            assert_eq!(sums.request(peer(SERVER), &vec![1, 2, 3]).await, Ok(6));
            assert_eq!(early(&client, "taken"), times);
            part(&client, &server).await;
        }
        // Longer ones go as ever.
        let long = vec![1; 20_000];
        assert_eq!(sums.request(peer(SERVER), &long).await, Ok(20_000));
        assert_eq!(early(&client, "taken"), 3);
    });
}
