//! Who is let in, who is kept, and who is let go.

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::*;
use peerage_core::{Multiaddr, PeerId};
use peerage_host::{
    ConnInfo, ConnectOptions, DialErrorKind, Event, Gated, Gater, Limits, Node, Policy, Usage, gater::Lists,
    limits::PrefixLimit,
};
use peerage_transport::memory::Network;

async fn start(builder: peerage_host::Builder) -> Node {
    let node = builder.listen("/memory/0").expect("an address").start().await.expect("it starts");
    serve_echo(&node);
    node
}

/// The end of a connection, as a node tells it.
async fn ended(node: &Node) -> String {
    let mut events = node.events();
    event(&mut events, |event| match event {
        Event::Disconnected { why, .. } => Some(why),
        _ => None,
    })
    .await
}

async fn incoming_failed(node: &Node) -> String {
    let mut events = node.events();
    event(&mut events, |event| match event {
        Event::IncomingFailed { why, .. } => Some(why),
        _ => None,
    })
    .await
}

#[test]
fn a_connection_that_nobody_uses_is_closed_and_both_sides_hear_why() {
    run(async {
        let network = Network::new();
        let alice = start(builder(&network, 1)).await;
        let mut policy = Policy::default();
        policy.idle_timeout = None;
        let bob = start(builder(&network, 2).connection_policy(policy)).await;
        bob.connect(address(&alice)).await.expect("connected");
        let begin = tokio::time::Instant::now();
        let (at_alice, at_bob) = tokio::join!(ended(&alice), ended(&bob));
        assert_eq!(at_alice, "idle for 600 s");
        assert!(at_bob.contains("garbage collected"), "{at_bob}");
        let took = begin.elapsed();
        assert!((600..630).contains(&took.as_secs()), "{took:?}");
        idle(&alice).await;
        idle(&bob).await;
    });
}

#[test]
fn streams_keeps_and_protection_keep_a_connection() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        let connected = bob.connect(address(&alice)).await.expect("connected");
        let hour = Duration::from_secs(1_000);
        // A stream is seen by both.
        let stream = bob.open(alice.peer_id(), ECHO).await.expect("open");
        tokio::time::sleep(hour).await;
        assert_eq!(bob.connections().len(), 1);
        check_echo(stream, 10).await;
        // Protection and keeps are each side's own.
        alice.protect(bob.peer_id(), "test").expect("a tag");
        let keep = bob.keep(connected.connection).expect("it is there");
        tokio::time::sleep(hour).await;
        assert_eq!(bob.connections().len(), 1);
        drop(keep);
        let why = ended(&bob).await;
        assert!(why.starts_with("idle for"), "{why}");
        assert!(bob.keep(connected.connection).is_none());
        assert!(alice.is_protected(bob.peer_id()) && !alice.unprotect(bob.peer_id(), "test"));
    });
}

#[test]
fn pings_that_are_answered_do_not_keep_a_connection() {
    run(async {
        let network = Network::new();
        let alice = node(&network, 1).await;
        let mut policy = Policy::default();
        policy.idle_timeout = None;
        let (pinger, ping) =
            builder(&network, 2).connection_policy(policy).with(peerage_host::ping::Ping::default());
        let bob = start(pinger).await;
        bob.connect(address(&alice)).await.expect("connected");
        let pinging = async {
            while ping.rtt(alice.peer_id()).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(15)).await;
            }
        };
        let why = tokio::select! {
            why = ended(&alice) => why,
            () = pinging => panic!("a ping failed while there was a connection"),
        };
        assert!(why.starts_with("idle for"), "{why}");
    });
}

#[test]
fn room_is_made_above_the_high_water() {
    run(async {
        let network = Network::new();
        let mut policy = Policy::default();
        (policy.high_water, policy.low_water) = (3, 2);
        let alice = start(builder(&network, 1).connection_policy(policy)).await;
        alice.tag(peer(11), "friend", 10).expect("a tag");
        alice.protect(peer(12), "family").expect("a tag");
        let mut others = Vec::new();
        for seed in 10..14 {
            let other = node(&network, seed).await;
            other.connect(address(&alice)).await.expect("connected");
            others.push(other);
        }
        assert_eq!(alice.connections().len(), 4);
        let why = ended(&alice).await;
        assert!(why.contains("4 inbound connections are more than 3"), "{why}");
        until("two are left", || alice.connections().len() == 2).await;
        let mut left = [peer(11), peer(12)];
        left.sort_unstable();
        assert_eq!(alice.peers(), left);
    });
}

/// Refuses at one point, and notes every point at which it was asked.
#[derive(Clone, Default)]
struct At(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl At {
    fn ask(&self, point: &'static str) -> Result<(), Gated> {
        self.1.lock().expect("no panic").push(point);
        match self.0.strip_suffix('!') {
            Some(panics) if panics == point => panic!("on purpose"),
            _ if self.0 == point => Err(Gated::because("not today")),
            _ => Ok(()),
        }
    }
}

impl Gater for At {
    fn name(&self) -> &'static str {
        "at"
    }

    fn dial_peer(&self, _: PeerId) -> Result<(), Gated> {
        self.ask("peer")
    }

    fn dial_address(&self, _: Option<PeerId>, _: &Multiaddr) -> Result<(), Gated> {
        self.ask("address")
    }

    fn accept(&self, _: &Multiaddr, _: &Multiaddr) -> Result<(), Gated> {
        self.ask("accept")
    }

    fn secured(&self, _: &ConnInfo) -> Result<(), Gated> {
        self.ask("secured")
    }
}

#[test]
fn a_gater_of_the_dialer_is_asked_at_each_point_and_shows_in_the_report() {
    run(async {
        for (refuse, asked) in [
            ("peer", ["peer"].as_slice()),
            ("address", &["peer", "address"]),
            ("secured", &["peer", "address", "secured"]),
            ("", &["peer", "address", "secured"]),
        ] {
            let network = Network::new();
            let at = At(refuse, Arc::default());
            let alice = node(&network, 1).await;
            let bob = start(builder(&network, 2).gater(at.clone())).await;
            let result = bob.connect(address(&alice)).await;
            assert_eq!(*at.1.lock().expect("no panic"), asked);
            match result {
                Ok(_) => assert_eq!(refuse, ""),
                Err(error) => {
                    let kind = match refuse {
                        "secured" => DialErrorKind::AllFailed,
                        _ => DialErrorKind::Gated("refused by at: not today".to_owned()),
                    };
                    assert_eq!(error.kind, kind);
                    assert!(error.to_string().contains("refused by at: not today"), "{error}");
                    idle(&bob).await;
                    idle(&alice).await;
                }
            }
        }
    });
}

#[test]
fn a_gater_of_the_listener_is_asked_at_each_point_and_tells_the_peer() {
    run(async {
        for (refuse, asked) in [
            ("accept", ["accept"].as_slice()),
            ("secured", &["accept", "secured"]),
            ("", &["accept", "secured"]),
        ] {
            let network = Network::new();
            let at = At(refuse, Arc::default());
            let alice = start(builder(&network, 1).gater(at.clone())).await;
            let bob = node(&network, 2).await;
            let target = address(&alice);
            if refuse.is_empty() {
                bob.connect(target).await.expect("connected");
            } else {
                let (why, at_bob, _) = tokio::join!(
                    incoming_failed(&alice),
                    async { if refuse == "secured" { ended(&bob).await } else { String::new() } },
                    bob.connect(target),
                );
                assert_eq!(why, "refused by at: not today");
                assert!(refuse == "accept" || at_bob.contains("gated"), "{at_bob}");
                idle(&alice).await;
                idle(&bob).await;
            }
            assert_eq!(*at.1.lock().expect("no panic"), asked);
        }
    });
}

#[test]
fn a_gater_that_panics_refuses_and_the_node_goes_on() {
    run(async {
        for point in ["peer!", "address!", "secured!", "accept!"] {
            let network = Network::new();
            let (strict, plain) = (At(point, Arc::default()), At("", Arc::default()));
            let inbound = point == "accept!";
            let alice =
                start(builder(&network, 1).gater(if inbound { strict.clone() } else { plain.clone() })).await;
            let bob = start(builder(&network, 2).gater(if inbound { plain } else { strict })).await;
            let broken = if inbound { &alice } else { &bob };
            let mut events = broken.events();
            let (panicked, dialed) = tokio::join!(
                event(&mut events, |event| match event {
                    Event::ActorPanicked { actor, panic, peer } => Some((actor, panic, peer)),
                    _ => None,
                }),
                bob.connect(address(&alice)),
            );
            assert_eq!(panicked, ("gater".to_owned(), "on purpose".to_owned(), None));
            assert!(dialed.is_err());
            assert!(broken.tree().0.iter().all(|actor| actor.panics == 0), "no actor is restarted for it");
            idle(&alice).await;
            idle(&bob).await;
        }
    });
}

#[test]
fn lists_change_while_the_node_runs() {
    run(async {
        let network = Network::new();
        let lists = Lists::new();
        let alice = start(builder(&network, 1).gater(lists.clone())).await;
        let bob = node(&network, 2).await;
        let connect = async || {
            let mut options = ConnectOptions::default();
            options.always_dial = true;
            let _ = bob.connect_with(address(&alice), options).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let connected = !alice.connections().is_empty();
            bob.disconnect(alice.peer_id()).await;
            connected
        };
        assert!(connect().await);
        lists.deny_peer(bob.peer_id()).expect("room");
        assert!(!connect().await);
        lists.forget_peer(&bob.peer_id());
        assert!(connect().await);
        lists.allow_peer(peer(9)).expect("room");
        assert!(!connect().await);
    });
}

#[test]
fn a_handler_takes_memory_from_its_stream() {
    run(async {
        let network = Network::new();
        let mut limits = Limits::default();
        limits.memory_per_stream = 1_000;
        let alice = start(builder(&network, 1).limits(limits)).await;
        let (told, mut hears) = tokio::sync::mpsc::channel(8);
        alice
            .serve("/hold/1", move |stream, _| {
                let told = told.clone();
                async move {
                    let held = stream.memory().reserve(1_000);
                    let more = stream.memory().reserve(1).map_err(|error| error.to_string());
                    let _ = told.send((held.is_ok(), more.map(drop))).await;
                    let mut stream = stream;
                    let mut rest = Vec::new();
                    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
                }
            })
            .expect("served");
        let bob = node(&network, 2).await;
        bob.connect(address(&alice)).await.expect("connected");
        let stream = bob.open(alice.peer_id(), "/hold/1").await.expect("open");
        let (held, more) = hears.recv().await.expect("told");
        let refused = more.expect_err("one byte too many");
        assert!(held && refused.contains("memory per stream: limit of 1000"), "{refused}");
        let usage = alice.usage();
        let of_bob = &usage.peers[&bob.peer_id()];
        assert!(usage.memory >= 1_000 && of_bob.memory >= 1_000);
        assert_eq!(usage.protocols["/hold/1"].memory, 1_000);
        drop(stream);
        bob.disconnect(alice.peer_id()).await;
        idle(&alice).await;
        assert_eq!(alice.refusals(), [("memory per stream", 1)].into());
    });
}

#[test]
fn metrics_say_what_is_in_use_and_name_nobody() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        bob.connect(address(&alice)).await.expect("connected");
        let nowhere: Multiaddr = "/memory/999999".parse().expect("an address");
        bob.connect(nowhere).await.expect_err("nobody is there");
        let _stream = bob.open(alice.peer_id(), ECHO).await.expect("open");
        let text = bob.metrics();
        for line in [
            "peerage_connections{direction=\"outbound\"} 1",
            "peerage_connections{direction=\"inbound\"} 0",
            "peerage_peers 1",
            "peerage_streams{direction=\"outbound\",protocol=\"/echo/1\"} 1",
            "peerage_dial_attempts_total{outcome=\"connected\",stage=\"muxer\"} 1",
            "peerage_dial_attempts_total{outcome=\"failed\",stage=\"connect\"} 1",
            "peerage_memory_bytes{kind=\"limit\"}",
            "peerage_actor_restarts_total{actor=\"core/host\"} 0",
            "peerage_events_missed_total 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains(&alice.peer_id().to_string()) && !text.contains(&bob.peer_id().to_string()));
    });
}

/// Over real sockets, since memory has no addresses; the limits hold for loopback only when asked to.
#[tokio::test]
async fn one_address_is_refused_what_is_over_its_limit() {
    let mut limit = PrefixLimit::new(8);
    limit.connections = 2;
    let mut limits = Limits::default();
    limits.ipv4 = vec![limit];
    limits.limit_loopback = true;
    let alice =
        Node::builder(keypair(1)).workers(1).limits(limits).listen("/ip4/127.0.0.1/tcp/0").expect("one");
    let alice = alice.start().await.expect("it starts");
    let mut events = alice.events();
    let mut others = Vec::new();
    for seed in 2..5 {
        let other = Node::builder(keypair(seed)).workers(1).start().await.expect("it starts");
        let connected = other.connect(address(&alice)).await;
        assert_eq!(connected.is_ok(), seed < 4, "{connected:?}");
        others.push(other);
    }
    let why = event(&mut events, |event| match event {
        Event::IncomingFailed { why, .. } => Some(why),
        _ => None,
    })
    .await;
    assert_eq!(why, "connections per address prefix: limit of 2 reached for 127.0.0.0/8");
    let usage = alice.usage();
    assert_eq!((usage.file_descriptors, usage.connections_inbound), (2, 2));
    for other in &others {
        other.shutdown().await;
    }
    let mut events = alice.events();
    while alice.usage() != Usage::default() {
        let _ = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
    }
    alice.shutdown().await;
}
