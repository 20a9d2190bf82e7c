//! Dials by name and by several addresses, as whole nodes see them.

mod common;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use common::*;
use futures::{FutureExt as _, future::BoxFuture};
use peerage_core::{Keypair, Multiaddr, PeerId};
use peerage_host::{
    AddressSource, Builder, ConnectOptions, DialErrorKind, Event, Fault, Faults, Node, Point, Report,
    dial::{AttemptResult, Skip},
};
use peerage_transport::{
    DialOpts, Link, ListenError, ListenOpts, Listener, Stage, Transport, TransportError,
    dns::{DnsError, Resolver},
    memory::{Memory, Network},
    tcp::Tcp,
};

/// Names, each with what it stands for. A name without anything is never resolved.
#[derive(Default)]
struct Names(BTreeMap<String, Vec<String>>);

impl Names {
    fn with(mut self, name: &str, answers: &[&str]) -> Self {
        self.0.insert(name.to_owned(), answers.iter().map(|answer| (*answer).to_owned()).collect());
        self
    }

    fn answer<T: Send + 'static>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> BoxFuture<'static, Result<Vec<T>, DnsError>> {
        let result = match self.0.get(name) {
            None => Err(DnsError::NotFound(name.to_owned())),
            Some(answers) if answers.is_empty() => return futures::future::pending().boxed(),
            Some(answers) => Ok(answers.iter().filter_map(|answer| read(answer)).collect()),
        };
        futures::future::ready(result).boxed()
    }
}

impl Resolver for Names {
    fn ip4(&self, name: &str) -> BoxFuture<'static, Result<Vec<Ipv4Addr>, DnsError>> {
        self.answer(name, |ip| ip.parse().ok())
    }

    fn ip6(&self, name: &str) -> BoxFuture<'static, Result<Vec<Ipv6Addr>, DnsError>> {
        self.answer(name, |ip| ip.parse().ok())
    }

    fn texts(&self, name: &str) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DnsError>> {
        self.answer(name, |text| Some(text.as_bytes().to_vec()))
    }
}

fn tcp_builder() -> Builder {
    Node::builder(Keypair::generate()).workers(1)
}

async fn tcp_node(address: &str) -> Node {
    let node = tcp_builder().listen(address).expect("an address").start().await.expect("it starts");
    serve_echo(&node);
    node
}

fn port(node: &Node) -> u16 {
    node.listen_addresses()[0].socket_addr().expect("a socket").addr.port()
}

fn parsed(text: impl AsRef<str>) -> Multiaddr {
    text.as_ref().parse().expect("an address")
}

fn results(report: &Report) -> Vec<(String, AttemptResult)> {
    report.attempts.iter().map(|attempt| (attempt.address.to_string(), attempt.result.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_a_dead_and_a_living_address() {
    let alice = tcp_node("/ip4/127.0.0.2/tcp/0").await;
    let port = port(&alice);
    // Nobody listens at 127.0.0.1 on that port.
    let names = Names::default().with("alice.example", &["127.0.0.1", "127.0.0.2"]);
    let bob = tcp_builder().resolver(names).start().await.expect("it starts");
    let address = parsed(format!("/dns/alice.example/tcp/{port}/p2p/{}", alice.peer_id()));
    let connected = bob.connect(address).await.expect("connected");
    assert_eq!(connected.peer, alice.peer_id());
    let results = results(&connected.report);
    assert_eq!(results[0].1, AttemptResult::Resolved { addresses: 2 });
    assert!(matches!(results[1].1, AttemptResult::Failed { .. }), "{}", connected.report);
    assert_eq!(results[2], (format!("/ip4/127.0.0.2/tcp/{port}"), AttemptResult::Connected));
    assert_eq!(connected.report.attempts[2].via, Some(0));
    let text = connected.report.to_string();
    assert!(text.contains(&format!("\n  /dns/alice.example/tcp/{port} (caller)")), "{text}");
    assert!(text.contains(&format!("\n    /ip4/127.0.0.2/tcp/{port} (caller)")), "{text}");
    check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 10_000).await;
    alice.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn localhost_and_ip6_over_loopback() {
    let alice = tcp_node("/ip6/::1/tcp/0").await;
    let bob = tcp_builder().start().await.expect("it starts");
    let connected = bob.connect(address(&alice)).await.expect("connected");
    assert_eq!(connected.report.attempts[0].address, parsed(format!("/ip6/::1/tcp/{}", port(&alice))));
    bob.disconnect(alice.peer_id()).await;
    // Whatever this machine's file of hosts says, IPv4's loopback is localhost, with the real resolver.
    let carol = tcp_node("/ip4/127.0.0.1/tcp/0").await;
    let name = parsed(format!("/dns4/localhost/tcp/{}/p2p/{}", port(&carol), carol.peer_id()));
    bob.connect(name).await.expect("connected");
    check_echo(bob.open(carol.peer_id(), ECHO).await.expect("open"), 10_000).await;
    for node in [alice, bob, carol] {
        node.shutdown().await;
    }
}

/// What strangers name does not lead this node to what only it reaches, not by a name either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hearsay_does_not_lead_into_this_machine() {
    let alice = tcp_node("/ip4/127.0.0.1/tcp/0").await;
    let names = Names::default().with("alice.example", &["127.0.0.1"]);
    let bob = tcp_builder().resolver(names).start().await.expect("it starts");
    let port = port(&alice);
    let mut options = ConnectOptions::default();
    for host in ["ip4/127.0.0.1", "dns4/127.0.0.1", "dns4/alice.example"] {
        options.hearsay.push(parsed(format!("/{host}/tcp/{port}")));
    }
    let error = bob.connect_with(alice.peer_id(), options.clone()).await.expect_err("it is hearsay");
    let filtered = |result: &AttemptResult| matches!(result, AttemptResult::Skipped(Skip::Filtered(_)));
    let all = results(&error.report);
    let leads = all.iter().filter(|(address, _)| address.starts_with("/ip4/127.0.0.1/"));
    assert!(leads.clone().count() >= 2 && leads.clone().all(|(_, result)| filtered(result)), "{error:?}");
    assert_eq!(bob.connections().len(), 0);
    // A node that is there itself believes it.
    bob.listen(parsed("/ip4/127.0.0.1/tcp/0")).await.expect("it listens");
    bob.connect_with(alice.peer_id(), options).await.expect("connected");
    alice.shutdown().await;
    bob.shutdown().await;
}

/// Says something of every peer, as a stranger would.
struct Rumours;

impl AddressSource for Rumours {
    fn name(&self) -> &'static str {
        "rumours"
    }

    fn addresses(&self, _: PeerId) -> BoxFuture<'static, Result<Vec<Multiaddr>, String>> {
        futures::future::ready(Ok(vec![parsed("/memory/77")])).boxed()
    }
}

/// A panic over what this node knows for itself is its own; one over what others said of a peer is that peer's.
#[test]
fn a_panic_over_what_others_said_is_charged_to_the_peer() {
    run(async {
        let mut charged = Vec::new();
        // The dial, the rumours, what the book knows for itself, and what it was told.
        for nth in 1..=4 {
            let faults = Faults::new();
            faults.add(Fault { actor: "core/dialer".into(), point: Point::Message, nth, times: 1 });
            let builder = builder(&Network::new(), 1).faults(faults).address_source(Rumours);
            let node = builder.start().await.expect("it starts");
            let mut events = node.events();
            let panicked = event(&mut events, |event| match event {
                Event::ActorPanicked { peer, .. } => Some(peer),
                _ => None,
            });
            let (_, from) = tokio::join!(node.connect(peer(2)), panicked);
            charged.push(from);
        }
        assert_eq!(charged, [None, Some(peer(2)), None, Some(peer(2))]);
    });
}

/// A node dials from where it listens, without being told to, and over IPv6 as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_comes_from_the_listening_port() {
    for loopback in ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"] {
        let (alice, bob) = (tcp_node(loopback).await, tcp_node(loopback).await);
        bob.connect(address(&alice)).await.expect("connected");
        until("the other side has it", || !alice.connections().is_empty()).await;
        assert_eq!(alice.connections()[0].remote, bob.listen_addresses()[0]);
        // The pair of ports is taken now; from another one, then.
        let mut options = ConnectOptions::default();
        options.always_dial = true;
        bob.connect_with(address(&alice), options).await.expect("connected again");
        alice.shutdown().await;
        bob.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_is_not_shared_with_another_listener() {
    let alice = tcp_node("/ip4/127.0.0.1/tcp/0").await;
    let taken = alice.listen_addresses().remove(0);
    let bob = tcp_builder().start().await.expect("it starts");
    let error = bob.listen(taken.clone()).await.expect_err("alice has it");
    assert!(error.to_string().contains("in use"), "{error}");
    alice.shutdown().await;
    bob.listen(taken).await.expect("it is free");
    bob.shutdown().await;
}

#[test]
fn a_name_that_is_never_resolved_does_not_hold_up_what_works() {
    run(async {
        let network = Network::new();
        let alice = node(&network, 1).await;
        let names = Names::default().with("silent.example", &[]);
        let bob = builder(&network, 2).resolver(names).start().await.expect("it starts");
        let began = tokio::time::Instant::now();
        let mut options = ConnectOptions::default();
        options.addresses = vec![parsed("/dnsaddr/silent.example"), address(&alice)];
        let name = parsed("/dns/silent.example/tcp/1");
        let connected = bob.connect_with(name, options).await.expect("connected");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let results = results(&connected.report);
        assert_eq!(results[0].1, AttemptResult::Abandoned);
        assert_eq!(connected.report.attempts[0].stage, Stage::Dns);
        assert_eq!(results[2].1, AttemptResult::Connected);
    });
}

#[test]
fn only_a_name_that_is_never_resolved() {
    run(async {
        let network = Network::new();
        let names = Names::default().with("silent.example", &[]);
        let bob = builder(&network, 2).resolver(names).start().await.expect("it starts");
        let began = tokio::time::Instant::now();
        let error = bob.connect(parsed("/dns/silent.example/tcp/1")).await.expect_err("nobody is there");
        assert_eq!(error.kind, DialErrorKind::AllFailed);
        assert!(error.to_string().contains("failed at dns, the network's fault"), "{error}");
        assert!(began.elapsed() <= peerage_transport::dns::LOOKUP_TIMEOUT + Duration::from_secs(1));
    });
}

#[test]
fn records_of_another_peer_do_not_count() {
    run(async {
        let network = Network::new();
        let (alice, mallory) = (node(&network, 1).await, node(&network, 3).await);
        let records = [format!("dnsaddr={}", address(&mallory)), format!("dnsaddr={}", address(&alice))];
        let names = Names::default()
            .with("_dnsaddr.both.example.", &[&records[0], &records[1]])
            .with("_dnsaddr.other.example.", &[&records[0]])
            .with("_dnsaddr.first.example.", &["dnsaddr=/dnsaddr/both.example"])
            .with("_dnsaddr.loop.example.", &["dnsaddr=/dnsaddr/loop.example"]);
        let bob = builder(&network, 2).resolver(names).start().await.expect("it starts");

        let of_alice = |name: &str| parsed(format!("/dnsaddr/{name}.example/p2p/{}", alice.peer_id()));
        let error = bob.connect(of_alice("other")).await.expect_err("it is mallory's");
        assert!(error.to_string().contains("none of 1 records of other.example"), "{error}");
        assert!(mallory.connections().is_empty());

        let error = bob.connect(parsed("/dnsaddr/loop.example")).await.expect_err("it leads nowhere");
        let AttemptResult::Skipped(why) = &error.report.attempts[1].result else { panic!("{error}") };
        assert_eq!(*why, Skip::Duplicate);

        // Without the suffix a name in between is followed, and the peer is whom the record names.
        let connected = bob.connect(of_alice("both")).await.expect("connected");
        assert_eq!((connected.peer, connected.report.attempts.len()), (alice.peer_id(), 2));
        bob.disconnect(alice.peer_id()).await;
        let connected = bob.connect(parsed("/dnsaddr/first.example")).await.expect("connected");
        assert!([alice.peer_id(), mallory.peer_id()].contains(&connected.peer));
        let via: Vec<_> = connected.report.attempts.iter().map(|attempt| attempt.via).collect();
        assert_eq!(via, [None, Some(0), Some(1), Some(1)]);
    });
}

#[test]
fn a_resolver_that_panics_ends_its_name_only() {
    struct Panics;
    impl Resolver for Panics {
        fn ip4(&self, _: &str) -> BoxFuture<'static, Result<Vec<Ipv4Addr>, DnsError>> {
            async { panic!("on purpose") }.boxed()
        }
        fn ip6(&self, _: &str) -> BoxFuture<'static, Result<Vec<Ipv6Addr>, DnsError>> {
            panic!("on purpose")
        }
        fn texts(&self, _: &str) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DnsError>> {
            panic!("on purpose")
        }
    }
    run(async {
        let network = Network::new();
        let alice = node(&network, 1).await;
        let bob = builder(&network, 2).resolver(Panics).start().await.expect("it starts");
        for name in ["/dns/h/tcp/1", "/dns4/h/tcp/1", "/dnsaddr/h"] {
            let mut options = ConnectOptions::default();
            options.addresses = vec![address(&alice)];
            options.always_dial = true;
            bob.connect_with(parsed(name), options).await.expect("connected all the same");
            let error = bob.connect(parsed(name)).await.expect_err("nobody knows it");
            assert!(error.to_string().contains("this node's fault: it panicked"), "{error}");
        }
    });
}

/// Dials of one port take longer.
struct Slow {
    memory: Memory,
    port: Multiaddr,
    by: Duration,
}

impl Transport for Slow {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn dials(&self, address: &Multiaddr) -> bool {
        self.memory.dials(address)
    }
    fn listens(&self, address: &Multiaddr) -> bool {
        self.memory.listens(address)
    }
    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        let wait = if address == self.port { self.by } else { Duration::ZERO };
        let dial = self.memory.dial(address, opts);
        async move {
            tokio::time::sleep(wait).await;
            dial.await
        }
        .boxed()
    }
    fn listen(
        &self,
        address: Multiaddr,
        opts: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        self.memory.listen(address, opts)
    }
}

/// Two ways to the same peer come through at the same time, or nearly. One connection is left, both sides agree which,
/// nobody is told of the other, and nothing stays in use.
#[test]
fn a_loser_leaves_no_trace() {
    // The second starts 30 ms later; in between, it is ahead, behind and beside the first at every step.
    for late in (0..=60).chain([500]) {
        run(async move {
            let network = Network::new();
            let alice = node(&network, 1).await;
            alice.listen(parsed("/memory/0")).await.expect("bound");
            let addresses = alice.addresses();
            let slow = Slow {
                memory: network.transport(),
                port: alice.listen_addresses().remove(0),
                by: Duration::from_millis(late),
            };
            let bob = Node::builder(keypair(2)).in_thread().transport(slow).start().await.expect("it starts");
            let mut events = bob.events();
            let mut options = ConnectOptions::default();
            options.addresses = vec![addresses[1].clone()];
            let connected = bob.connect_with(addresses[0].clone(), options).await.expect("connected");
            check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 1000).await;
            until("both have one", || {
                bob.usage().connections_outbound == 1 && alice.usage().connections_inbound == 1
            })
            .await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!((bob.connections().len(), alice.connections().len()), (1, 1), "{late} ms");
            assert_eq!(bob.connections()[0].id, connected.connection);
            check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 1000).await;
            bob.shutdown().await;
            let mut told = 0;
            while let Some(event) = events.next().await {
                told += usize::from(matches!(event, Event::Connected { .. }));
            }
            assert_eq!(told, 1, "{late} ms");
            idle(&alice).await;
        });
    }
}

/// Ports of loopback that nobody listens on: as many as a source likes, and this node tries sixteen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_source() {
    struct Poison(Vec<Multiaddr>);
    impl peerage_host::AddressSource for Poison {
        fn name(&self) -> &'static str {
            "stranger"
        }
        fn addresses(&self, _: peerage_core::PeerId) -> BoxFuture<'static, Result<Vec<Multiaddr>, String>> {
            futures::future::ready(Ok(self.0.clone())).boxed()
        }
    }
    let victim = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at: SocketAddr = victim.local_addr().expect("bound");
    victim.set_nonblocking(true).expect("it can");
    let mut poison = vec![Multiaddr::tcp(at), parsed("/ip4/224.0.0.1/tcp/1"), parsed("/ip4/240.0.0.1/tcp/1")];
    poison.extend((1..10_000_u16).map(|port| Multiaddr::tcp((Ipv4Addr::LOCALHOST, port).into())));
    // It listens nowhere, so it has no business on loopback.
    let node =
        tcp_builder().transport(Tcp::new()).address_source(Poison(poison)).start().await.expect("starts");
    let error = node.connect(Keypair::generate().peer_id()).await.expect_err("nobody is there");
    assert_eq!(error.kind, DialErrorKind::NoAddresses, "{error}");
    assert!(victim.accept().is_err(), "it was knocked at");
    assert!(error.report.attempts.len() <= peerage_host::dial::MAX_REPORTED);
    assert!(error.report.omitted > 9000);
    node.shutdown().await;
}
