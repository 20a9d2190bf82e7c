//! Panics in every actor, at every point of its work: what they take with them, and what they leave alone.

mod common;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use common::*;
use futures::future::BoxFuture;
use peerage_core::{Multiaddr, engine};
use peerage_host::{
    ConnectOptions, Event, Fault, Faults, Node, Point, Policy,
    identify::{self, Identify},
    perf::{self, Perf},
    ping::{self, Ping, PingError},
    store,
};
use peerage_transport::{
    dns::{DnsError, Resolver},
    memory::Network,
};
use rand::RngExt as _;
use tokio::time::{Instant, sleep, timeout};

/// The node that is struck, with its handles, and another one that must not notice more than a broken connection.
struct Pair {
    struck: Node,
    ping: ping::Handle,
    identify: identify::Handle,
    perf: perf::Handle,
    other: Node,
}

async fn pair(faults: &Faults) -> Option<Pair> {
    let network = Network::new();
    let (other, _) = builder(&network, 2).with(Perf::default());
    let other = other.listen("/memory/0").expect("an address").start().await.expect("it starts");
    serve_echo(&other);
    // Book and dialer have all that they can have: something to keep, and names to ask for.
    let builder = builder(&network, 1).faults(faults.clone()).store_in(store::Memory::default());
    let mut policy = Policy::default();
    policy.idle_timeout = Some(Duration::from_secs(20));
    let builder = builder.connection_policy(policy).resolver(Names(address(&other).to_string()));
    let (builder, ping) = builder.with(Ping::default());
    let (builder, identify) = builder.with(Identify::default());
    let (builder, perf) = builder.with(Perf::default());
    // A fault may strike while the listener is being bound; then there is no node, and the error has said so.
    let struck = builder.listen("/memory/0").expect("an address").start().await.ok()?;
    serve_echo(&struck);
    Some(Pair { struck, ping, identify, perf, other })
}

/// Knows `other.example`, which leads to one address by a second name; every other name is never resolved.
struct Names(String);

impl Resolver for Names {
    fn ip4(&self, _: &str) -> BoxFuture<'static, Result<Vec<Ipv4Addr>, DnsError>> {
        Box::pin(std::future::pending())
    }

    fn ip6(&self, _: &str) -> BoxFuture<'static, Result<Vec<Ipv6Addr>, DnsError>> {
        Box::pin(std::future::pending())
    }

    fn texts(&self, name: &str) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DnsError>> {
        let answer = match name {
            "_dnsaddr.other.example." => "dnsaddr=/dnsaddr/second.example".to_owned(),
            "_dnsaddr.second.example." => format!("dnsaddr={}", self.0),
            _ => return Box::pin(std::future::pending()),
        };
        Box::pin(std::future::ready(Ok(vec![answer.into_bytes()])))
    }
}

/// Everything that a small node does. Steps may fail, by a typed error and in time; that is checked elsewhere.
async fn exercise(pair: &Pair) {
    let Pair { struck, ping, identify, perf, other } = pair;
    let named = |name: &str| name.parse::<Multiaddr>().expect("an address");
    let mut options = ConnectOptions::default();
    options.addresses = vec![named("/dnsaddr/silent.example")];
    let _ = struck.connect_with(named("/dnsaddr/other.example"), options).await;
    let _ = struck.connect(address(other)).await;
    if let Ok(stream) = struck.open(other.peer_id(), ECHO).await {
        let _ = timeout(Duration::from_secs(30), echo(stream)).await;
    }
    let _ = ping.rtt(other.peer_id()).await;
    let _ = identify.info(other.peer_id()).await;
    let _ = struck.peer(other.peer_id()).await;
    // What peers are told of, what is kept, and who is kept.
    let _ = perf.measure(other.peer_id(), perf::Request::new(1000, 1000)).await;
    if let Ok(id) = struck.serve("/more/1", |stream, _| echo(stream)) {
        sleep(Duration::from_secs(2)).await;
        struck.unserve(id);
    }
    let _ = struck.protect(other.peer_id(), "friend");
    let _ = struck.tag(other.peer_id(), "useful", 5);
    drop(struck.connections().first().and_then(|one| struck.keep(one.id)));
    struck.add_addresses(peer(9), [named("/memory/77777")]).await;
    let _ = struck.connect(peer(9)).await;
    struck.forget(peer(9)).await;
    struck.ban(peer(9), Duration::from_secs(1)).await;
    struck.unban(peer(9)).await;
    struck.unprotect(other.peer_id(), "friend");
    if let Some(listening) = struck.addresses().into_iter().next() {
        let _ = other.connect(listening).await;
    }
    let _ = other.open(struck.peer_id(), ECHO).await;
    struck.disconnect(other.peer_id()).await;
    if let Ok(listening) = struck.listen("/memory/0".parse().expect("an address")).await {
        struck.unlisten(listening.id).await;
    }
    let _ = struck.connect(address(other)).await;
    // Idle streams and connections are closed, deadlines pass.
    sleep(Duration::from_secs(30)).await;
}

/// Whether the user's handles do what they are for.
async fn works(pair: &Pair) -> Result<(), String> {
    let Pair { struck, ping, identify, other, .. } = pair;
    let other_id = other.peer_id();
    struck.connect(address(other)).await.map_err(|error| error.report.to_string())?;
    let stream = struck.open(other_id, ECHO).await.map_err(|error| format!("open: {error}"))?;
    check_echo(stream, 100).await;
    ping.rtt(other_id).await.map_err(|error| format!("ping: {error}"))?;
    identify.info(other_id).await.map_err(|error| format!("identify: {error}"))?;
    let listening = struck.addresses().into_iter().next().ok_or("it does not listen")?;
    other.connect(listening).await.map_err(|error| format!("it cannot be dialed: {error}"))?;
    let stream =
        other.open(struck.peer_id(), ECHO).await.map_err(|error| format!("from outside: {error}"))?;
    check_echo(stream, 100).await;
    Ok(())
}

/// Strikes once, then expects everything to work again within 100 ms, and exact accounts in the end.
fn strike(fault: Fault) -> bool {
    run(async move {
        let faults = Faults::new();
        faults.add(fault.clone());
        let Some(pair) = pair(&faults).await else { return true };
        exercise(&pair).await;
        if faults.struck() == 0 {
            return false;
        }
        let since = Instant::now();
        let mut last = works(&pair).await;
        while last.is_err() && since.elapsed() < Duration::from_millis(100) {
            sleep(Duration::from_millis(5)).await;
            last = works(&pair).await;
        }
        assert_eq!(last, Ok(()), "after {fault:?}\n{}", pair.struck.tree());
        let took = since.elapsed();
        assert!(took <= Duration::from_millis(100), "{took:?} after {fault:?}");

        pair.struck.disconnect(pair.other.peer_id()).await;
        idle(&pair.struck).await;
        idle(&pair.other).await;
        let healthy = pair.other.tree().0.into_iter().all(|actor| actor.panics == 0);
        assert!(healthy, "the other node caught it after {fault:?}");
        pair.struck.shutdown().await;
        true
    })
}

/// What there is to strike: every point of every actor, with how often it is passed.
fn passages() -> BTreeMap<(String, Point), u64> {
    run(async {
        let faults = Faults::new();
        let pair = pair(&faults).await.expect("no faults");
        exercise(&pair).await;
        works(&pair).await.expect("no faults");
        faults.passages()
    })
}

#[test]
fn a_panic_anywhere_is_over_in_100_ms_and_leaves_exact_accounts() {
    let passages = passages();
    let timed = ("core/manager".to_owned(), Point::Timer);
    assert!(passages.contains_key(&timed), "no connection was idle");
    let actors: std::collections::BTreeSet<_> = passages.keys().map(|(actor, _)| actor.as_str()).collect();
    for actor in [
        "core/book",
        "core/host",
        "core/dialer",
        "core/manager",
        "transports/memory",
        "upgrades/0",
        "protocols/identify",
        "protocols/ping",
    ] {
        assert!(actors.contains(actor), "{actor} is not struck: {actors:?}");
    }
    let mut rng = engine::rng(7);
    let mut struck = 0;
    for ((actor, point), count) in passages {
        // Every passage of the first, and a seeded choice of what comes after. The fault is the same in every run: the
        // counts of a run that was struck differ only after the strike.
        let later = (0..8).map(|_| rng.random_range(1..=count));
        let places: std::collections::BTreeSet<u64> = (1..=count.min(40)).chain(later).collect();
        for nth in places {
            struck += usize::from(strike(Fault { actor: actor.clone(), point, nth, times: 1 }));
        }
    }
    assert!(struck > 100, "only {struck} faults struck");
}

#[test]
fn a_protocol_in_a_loop_of_panics_is_switched_off_and_the_node_lives_on() {
    run(async {
        let faults = Faults::new();
        let pair = pair(&faults).await.expect("no faults yet");
        let mut events = pair.struck.events();
        works(&pair).await.expect("no faults yet");
        faults.add(Fault { actor: "protocols/ping".into(), point: Point::Message, nth: 1, times: u64::MAX });
        let other = pair.other.peer_id();
        let mut calls = 0;
        while pair.ping.rtt(other).await.is_err() && calls < 100 {
            calls += 1;
        }
        let off = event(&mut events, |event| match event {
            Event::ActorSwitchedOff { actor, .. } => Some(actor),
            _ => None,
        });
        assert_eq!(off.await, "protocols/ping");
        assert_eq!(pair.ping.rtt(other).await, Err(PingError::Closed));
        let stream = pair.struck.open(other, ECHO).await.expect("the rest works");
        check_echo(stream, 100).await;
        pair.identify.info(other).await.expect("the rest works");
    });
}

#[test]
fn a_core_in_a_loop_of_panics_escalates_to_a_reported_end() {
    run(async {
        let faults = Faults::new();
        let pair = pair(&faults).await.expect("no faults yet");
        works(&pair).await.expect("no faults yet");
        faults.add(Fault { actor: "core/host".into(), point: Point::Message, nth: 1, times: u64::MAX });
        let ended = pair.struck.clone();
        let ended = tokio::task::spawn_local(async move { ended.closed().await });
        for _ in 0..10_000 {
            if ended.is_finished() {
                break;
            }
            pair.struck.disconnect(pair.other.peer_id()).await;
            sleep(Duration::from_millis(10)).await;
        }
        let why = ended.await.expect("no panic");
        assert!(why.contains("core"), "{why}");
        // Never half dead: every request ends, and says so.
        pair.struck.connect(address(&pair.other)).await.expect_err("ended");
        pair.struck.open(pair.other.peer_id(), ECHO).await.expect_err("ended");
        assert_eq!(pair.ping.rtt(pair.other.peer_id()).await, Err(PingError::Closed));
        pair.struck.shutdown().await;
        idle(&pair.other).await;
    });
}

#[test]
fn a_handler_that_panics_takes_its_stream_and_the_third_time_its_peer() {
    run(async {
        let network = Network::new();
        let (alice, bob, carol) = (node(&network, 1).await, node(&network, 2).await, node(&network, 3).await);
        alice
            .serve("/bug/1", |stream, _| async move { assert!(stream.is_limited(), "a bug in a handler") })
            .expect("not served yet");
        let mut events = alice.events();
        carol.connect(address(&alice)).await.expect("connected");
        let mut honest = carol.open(alice.peer_id(), ECHO).await.expect("open");

        for _ in 0..2 {
            let mut stream = bob_opens(&bob, &alice).await.expect("open");
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await;
            read.expect_err("the stream was reset, not ended");
            assert_eq!(bob.connections().len(), 1, "only the stream suffers");
        }
        let _ = bob_opens(&bob, &alice).await;
        let banned = event(&mut events, |event| match event {
            Event::PeerBanned { peer, .. } => Some(peer),
            _ => None,
        });
        assert_eq!(banned.await, bob.peer_id());
        until("bob is gone", || bob.connections().is_empty()).await;
        let _ = bob.connect(address(&alice)).await;
        until("bob is refused", || alice.peers() == [carol.peer_id()]).await;

        tokio::io::AsyncWriteExt::write_all(&mut honest, b"still here").await.expect("written");
        let mut back = [0; 10];
        tokio::io::AsyncReadExt::read_exact(&mut honest, &mut back).await.expect("read");
        assert!(alice.tree().0.iter().all(|actor| actor.generation == 1), "no actor was restarted");
        // The ban ends.
        sleep(Duration::from_secs(601)).await;
        bob.connect(address(&alice)).await.expect("forgiven");
    });
}

async fn bob_opens(bob: &Node, alice: &Node) -> Option<peerage_host::Stream> {
    let mut options = peerage_host::OpenOptions::new(["/bug/1".try_into().expect("a name")]);
    options.addresses = alice.addresses();
    // The handler is to run now, not when something is said.
    options.optimism = peerage_host::Optimism::Never;
    bob.open_with(alice.peer_id(), options).await.ok()
}
