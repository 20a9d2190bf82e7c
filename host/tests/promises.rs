//! What the documentation promises in a subordinate clause.

mod common;

use std::{borrow::Cow, sync::Arc, time::Duration};

use common::*;
use futures::{FutureExt as _, future::BoxFuture};
use peerage_core::{Deadline, Engine, Multiaddr, Now, PeerId};
use peerage_host::{
    AddressSource, ConnectOptions, ConnectionEvent, Effects, Event, Fault, Faults, Matcher, Node, OpenError,
    OpenOptions, Point, Protocol, Registrar, ServeOptions, ping::Ping,
};
use peerage_transport::{
    DialOpts, Link, ListenError, ListenOpts, Listener, Role, Transport, TransportError, memory::Network,
};
use tokio::time::{Instant, sleep, timeout};

#[test]
fn events_end_with_the_node_also_while_a_handle_is_held() {
    run(async {
        let node = node(&Network::new(), 1).await;
        let mut events = node.events();
        node.shutdown().await;
        while events.next().await.is_some() {}
    });
}

#[test]
fn a_ping_after_a_reconnect_does_not_use_the_stream_of_before() {
    run(async {
        let network = Network::new();
        let other = node(&network, 2).await;
        let (builder, ping) = builder(&network, 1).with(Ping::default());
        let node = builder.start().await.expect("it starts");
        for _ in 0..3 {
            node.connect(address(&other)).await.expect("connected");
            ping.rtt(other.peer_id()).await.expect("answered");
            node.disconnect(other.peer_id()).await;
        }
    });
}

#[test]
fn a_predicate_that_panics_is_charged_to_the_peer() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        let predicate = Matcher::predicate(|name| {
            assert!(!name.starts_with("/bad"), "a bug in a predicate");
            false
        });
        alice
            .serve_with(predicate, ServeOptions::default(), |stream, _| echo(stream))
            .expect("not served yet");
        let mut events = alice.events();
        bob.connect(address(&alice)).await.expect("connected");
        bob.open(alice.peer_id(), "/bad/1").await.expect_err("it panicked");
        let charged = event(&mut events, |event| match event {
            Event::ActorPanicked { peer, .. } => Some(peer),
            _ => None,
        });
        assert_eq!(charged.await, Some(bob.peer_id()));
    });
}

#[test]
fn a_timeout_may_be_as_long_as_one_likes() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        let mut options = ConnectOptions::default();
        options.timeout = Duration::MAX;
        bob.connect_with(address(&alice), options).await.expect("connected");
        let mut options = OpenOptions::new([ECHO.try_into().expect("a name")]);
        options.timeout = Duration::MAX;
        check_echo(bob.open_with(alice.peer_id(), options).await.expect("open"), 10).await;
    });
}

#[test]
fn more_dials_at_once_than_handshakes_are_allowed_wait_for_their_turn() {
    run(async {
        let network = Network::new();
        let mut limits = peerage_host::Limits::default();
        limits.handshakes_outbound = 4;
        let node = builder(&network, 1).limits(limits).start().await.expect("it starts");
        let mut others = Vec::new();
        for seed in 0..20 {
            others.push(common::node(&network, seed + 10).await);
        }
        let dials = others.iter().map(|other| node.connect(address(other)));
        for dialed in futures::future::join_all(dials).await {
            dialed.expect("connected");
        }
    });
}

#[test]
fn a_listen_that_was_interrupted_leaves_no_listener() {
    run(async {
        let network = Network::new();
        let faults = Faults::new();
        let node = builder(&network, 1).faults(faults.clone()).start().await.expect("it starts");
        faults.add(Fault { actor: "transports/memory".into(), point: Point::Message, nth: 1, times: 1 });
        let memory: Multiaddr = "/memory/0".parse().expect("an address");
        node.listen(memory.clone()).await.expect_err("interrupted");
        sleep(Duration::from_secs(1)).await;
        assert!(node.listen_addresses().is_empty());
        let listening = node.listen(memory).await.expect("the actor lives again");
        assert_eq!(node.listen_addresses(), listening.addresses);
    });
}

#[test]
fn a_source_of_addresses_that_panics_does_not_silence_the_others() {
    struct Bad;
    impl AddressSource for Bad {
        fn name(&self) -> &'static str {
            "bad"
        }
        fn addresses(&self, _: PeerId) -> BoxFuture<'static, Result<Vec<Multiaddr>, String>> {
            panic!("a bug in a source")
        }
    }
    struct Late(Multiaddr);
    impl AddressSource for Late {
        fn name(&self) -> &'static str {
            "late"
        }
        fn addresses(&self, _: PeerId) -> BoxFuture<'static, Result<Vec<Multiaddr>, String>> {
            let address = self.0.clone();
            Box::pin(async move {
                sleep(Duration::from_millis(50)).await;
                Ok(vec![address])
            })
        }
    }
    run(async {
        let network = Network::new();
        let other = node(&network, 2).await;
        let builder = builder(&network, 1).address_source(Bad).address_source(Late(address(&other)));
        let node = builder.start().await.expect("it starts");
        let report = node.connect(other.peer_id()).await.expect("by the late one").report.to_string();
        assert!(
            report.contains("bad could not be asked: it panicked") && report.contains("late"),
            "{report}"
        );
    });
}

#[test]
fn a_stream_that_is_not_opened_in_time_says_what_the_dial_did() {
    struct Slow;
    impl AddressSource for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }
        fn addresses(&self, _: PeerId) -> BoxFuture<'static, Result<Vec<Multiaddr>, String>> {
            Box::pin(std::future::pending())
        }
    }
    run(async {
        let node = builder(&Network::new(), 1).address_source(Slow).start().await.expect("it starts");
        let error = node.open(peer(9), ECHO).await.expect_err("nobody there");
        assert!(matches!(error, OpenError::Dial(_)), "{error}");
    });
}

/// A memory transport whose dials panic, or whose links are limited as a relay's are.
struct Odd {
    inner: Arc<peerage_transport::memory::Memory>,
    panics: bool,
}

impl Odd {
    fn new(network: &Network, panics: bool) -> Self {
        Self { inner: Arc::new(network.transport()), panics }
    }
}

impl Transport for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }
    fn dials(&self, address: &Multiaddr) -> bool {
        self.inner.dials(address)
    }
    fn listens(&self, address: &Multiaddr) -> bool {
        self.inner.listens(address)
    }
    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        let (dial, panics) = (self.inner.dial(address, opts), self.panics);
        Box::pin(async move {
            assert!(!panics, "a bug in a transport");
            Ok(match dial.await? {
                Link::Raw(mut raw) => {
                    raw.limited = true;
                    Link::Raw(raw)
                }
                link => link,
            })
        })
    }
    fn listen(
        &self,
        address: Multiaddr,
        opts: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        self.inner.listen(address, opts)
    }
}

#[test]
fn who_has_not_proven_who_it_is_is_charged_with_nothing() {
    run(async {
        let network = Network::new();
        let victim = node(&network, 2).await;
        let node = Node::builder(keypair(1)).in_thread().transport(Odd::new(&network, true));
        let node = node.start().await.expect("it starts");
        let mut events = node.events();
        for _ in 0..5 {
            node.connect(address(&victim)).await.expect_err("it panics");
        }
        let charged = event(&mut events, |event| match event {
            Event::PeerBanned { .. } | Event::ActorPanicked { peer: Some(_), .. } => Some(event),
            _ => None,
        });
        timeout(Duration::from_secs(5), charged).await.expect_err("nobody is charged");
    });
}

#[test]
fn a_limited_connection_is_for_those_who_opt_in() {
    run(async {
        let network = Network::new();
        let other = node(&network, 2).await;
        let node = Node::builder(keypair(1)).in_thread().transport(Odd::new(&network, false));
        let node = node.start().await.expect("it starts");
        node.add_addresses(other.peer_id(), other.addresses()).await;
        let error = node.open(other.peer_id(), ECHO).await.expect_err("limited");
        assert!(matches!(error, OpenError::OnlyLimited(_)), "{error}");
        let mut options = OpenOptions::new([ECHO.try_into().expect("a name")]);
        options.allow_limited = true;
        let stream = node.open_with(other.peer_id(), options).await.expect("opted in");
        assert!(stream.is_limited());
        check_echo(stream, 10).await;
    });
}

/// A protocol with a bug that every peer provokes by hanging up.
struct Buggy;

struct BuggyEngine;

impl Engine for BuggyEngine {
    type Command = bool;
    type Input = ();
    type Action = ();
    fn handle_command(&mut self, closed: bool, _: Now) {
        assert!(!closed, "a bug in a protocol");
    }
    fn handle_input(&mut self, (): (), _: Now) {}
    fn handle_timeout(&mut self, _: Now) {}
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
    fn poll_action(&mut self) -> Option<()> {
        None
    }
}

struct Nothing;

impl Effects<()> for Nothing {
    fn perform(&mut self, (): ()) {}
}

impl Protocol for Buggy {
    type Handle = ();
    fn name(&self) -> Cow<'static, str> {
        "buggy".into()
    }
    fn register(self, registrar: &mut Registrar<'_>) {
        let closed = |event| matches!(event, ConnectionEvent::Closed { .. });
        registrar.actor(|_| (BuggyEngine, Nothing), Some(closed));
    }
}

/// Has every peer banned between the start of its connection and whatever comes after that.
struct Bans;

thread_local! {
    static BANS: std::cell::RefCell<Option<Node>> = const { std::cell::RefCell::new(None) };
}

impl Protocol for Bans {
    type Handle = ();

    fn name(&self) -> Cow<'static, str> {
        "bans".into()
    }

    fn register(self, registrar: &mut Registrar<'_>) {
        let ban = |event: ConnectionEvent| {
            if let (ConnectionEvent::Opened { info, .. }, Some(node)) = (event, BANS.take()) {
                // The host is at work: it reads this before anybody else's turn comes.
                node.ban(info.peer, Duration::MAX).now_or_never().expect("there is room for it");
            }
            false
        };
        registrar.actor(|_| (BuggyEngine, Nothing), Some(ban));
    }
}

#[test]
fn a_ban_counts_for_a_connection_that_has_only_just_been_started() {
    run(async {
        let network = Network::new();
        let (builder, ()) = builder(&network, 1).listen("/memory/0").expect("an address").with(Bans);
        let node = builder.start().await.expect("it starts");
        let peer = common::node(&network, 2).await;
        BANS.set(Some(node.clone()));
        let mut events = node.events();
        let connecting = peer.connect(address(&node));
        let ended = event(&mut events, |event| match event {
            Event::Disconnected { why, .. } => Some(why),
            _ => None,
        });
        let (_, ended) = tokio::join!(connecting, timeout(Duration::from_secs(60), ended));
        assert_eq!(ended.expect("it is closed"), "the peer is banned");
        idle(&node).await;
    });
}

#[test]
fn a_peer_that_comes_and_goes_cannot_switch_a_protocol_off() {
    run(async {
        let network = Network::new();
        let (builder, ()) = builder(&network, 1).listen("/memory/0").expect("an address").with(Buggy);
        let node = builder.start().await.expect("it starts");
        let (evil, honest) = (common::node(&network, 2).await, common::node(&network, 3).await);
        let mut events = node.events();
        for _ in 0..60 {
            let _ = evil.connect(address(&node)).await;
            evil.disconnect(node.peer_id()).await;
            sleep(Duration::from_millis(100)).await;
        }
        let banned = event(&mut events, |event| match event {
            Event::ActorSwitchedOff { actor, .. } => panic!("{actor} is switched off"),
            Event::PeerBanned { peer, .. } => Some(peer),
            _ => None,
        });
        assert_eq!(banned.await, evil.peer_id());
        honest.connect(address(&node)).await.expect("the others are not affected");
    });
}

#[test]
fn callers_wait_while_core_is_being_restarted() {
    run(async {
        let network = Network::new();
        let faults = Faults::new();
        let other = node(&network, 2).await;
        let node = builder(&network, 1).faults(faults.clone()).start().await.expect("it starts");
        sleep(Duration::from_millis(50)).await;
        // More than restarts in place: the dialer is stopped and started with the book.
        faults.add(Fault { actor: "core/book".into(), point: Point::Message, nth: 1, times: 6 });
        for _ in 0..6 {
            node.peer(other.peer_id()).await;
        }
        node.connect(address(&other)).await.expect("it waited");
    });
}

#[test]
fn requests_to_a_node_that_has_ended_fail_at_once() {
    run(async {
        let faults = Faults::new();
        let node = builder(&Network::new(), 1).faults(faults.clone()).start().await.expect("it starts");
        sleep(Duration::from_millis(50)).await;
        faults.add(Fault { actor: "core/host".into(), point: Point::Message, nth: 1, times: u64::MAX });
        let ended = tokio::task::spawn_local({
            let node = node.clone();
            async move { node.closed().await }
        });
        while !ended.is_finished() {
            node.disconnect(peer(3)).await;
            sleep(Duration::from_millis(10)).await;
        }
        let since = Instant::now();
        node.disconnect(peer(3)).await;
        node.connect(peer(3)).await.expect_err("ended");
        node.listen("/memory/0".parse().expect("an address")).await.expect_err("ended");
        assert_eq!(since.elapsed(), Duration::ZERO);
    });
}

#[test]
fn a_handler_that_holds_the_node_weakly_lets_it_end() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        let weak = alice.downgrade();
        alice
            .serve("/who/1", move |mut stream, _| {
                let node = weak.clone();
                async move {
                    let name = node.get().map(|node| node.peer_id().to_string()).unwrap_or_default();
                    tokio::io::AsyncWriteExt::write_all(&mut stream, name.as_bytes()).await?;
                    stream.close_write().await
                }
            })
            .expect("not served yet");
        bob.connect(address(&alice)).await.expect("connected");
        let mut stream = bob.open(alice.peer_id(), "/who/1").await.expect("open");
        let mut name = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut name).await.expect("read");
        assert_eq!(name, alice.peer_id().to_string());
        drop(alice);
        until("the node has ended", || bob.peers().is_empty()).await;
    });
}

#[test]
fn the_role_that_a_dial_asks_for_reaches_the_handshake() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        let mut options = ConnectOptions::default();
        options.role = Role::Responder;
        options.timeout = Duration::from_secs(3);
        // The listener waits for the initiator, as ever, and now so does the dialer.
        let error = bob.connect_with(address(&alice), options).await.expect_err("two responders");
        assert!(error.report.to_string().contains("security"), "{}", error.report);
        bob.connect(address(&alice)).await.expect("one of each");
    });
}
