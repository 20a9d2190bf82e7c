//! Two nodes and what they do together.

mod common;

use std::time::Duration;

use common::*;
use peerage_host::{
    Event, Node, OpenError, OpenOptions, Optimism, StreamError,
    book::Source,
    identify::{self, Identify, PUSH_BURST, PUSH_DELAY, RETRIES},
    ping::Ping,
};
use peerage_transport::memory::Network;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn two_nodes_connect_echo_ping_and_know_each_other() {
    run(async {
        let network = Network::new();
        let alice = node(&network, 1).await;
        let (bob, ping) = builder(&network, 2).with(Ping::default());
        let (bob, identify) = bob.with(Identify::default());
        let bob =
            bob.agent("bob/1").listen("/memory/0").expect("an address").start().await.expect("it starts");
        let mut events = alice.events();

        let connected = bob.connect(address(&alice)).await.expect("connected");
        assert_eq!(connected.peer, alice.peer_id());
        check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 100_000).await;
        ping.rtt(alice.peer_id()).await.expect("answered");
        let info = identify.info(alice.peer_id()).await.expect("identified");
        assert!(info.protocols.iter().any(|protocol| protocol.as_str() == ECHO));
        assert_eq!(info.listen_addrs, alice.listen_addresses());
        assert!(
            matches!(&info.signed_record, identify::PeerRecordState::Valid(record) if record.peer_id() == alice.peer_id())
        );

        let info = event(&mut events, |event| match event {
            Event::Identified { peer, info } if peer == bob.peer_id() => Some(info),
            _ => None,
        });
        assert_eq!(info.await.agent_version, "bob/1");
        // The listener opens a stream on the connection that it did not dial.
        serve_echo(&bob);
        check_echo(alice.open(bob.peer_id(), ECHO).await.expect("open"), 10).await;

        bob.shutdown().await;
        idle(&alice).await;
        assert!(alice.peers().is_empty());
        alice.shutdown().await;
    });
}

#[test]
fn a_protocol_that_is_not_served_is_refused_and_the_connection_stays() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        bob.connect(address(&alice)).await.expect("connected");
        let refused = bob.open(alice.peer_id(), "/nothing/1").await.expect_err("not served");
        assert!(matches!(refused, OpenError::Negotiation(_)), "{refused}");
        check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 10).await;
        // The first of several that is served.
        let protocols = ["/nothing/1", ECHO].map(|name| name.try_into().expect("a name"));
        let stream = bob.open_with(alice.peer_id(), OpenOptions::new(protocols)).await.expect("open");
        assert_eq!(stream.protocol().as_str(), ECHO);
    });
}

#[test]
fn a_stream_that_is_dropped_unfinished_is_an_error_at_the_other_side() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        alice
            .serve("/half/1", |mut stream, _| async move {
                stream.write_all(b"half an answ").await?;
                stream.flush().await
            })
            .expect("not served yet");
        bob.connect(address(&alice)).await.expect("connected");
        let mut stream = bob.open(alice.peer_id(), "/half/1").await.expect("open");
        let error = stream.read_to_end(&mut Vec::new()).await.expect_err("not the end");
        assert!(matches!(StreamError::of(&error), Some(StreamError::ResetByPeer(_))), "{error}");
    });
}

#[test]
fn serving_can_begin_and_end_at_run_time() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        bob.connect(address(&alice)).await.expect("connected");
        let id = alice.serve("/late/1", |stream, _| echo(stream)).expect("not served yet");
        check_echo(bob.open(alice.peer_id(), "/late/1").await.expect("open"), 10).await;
        assert!(alice.serve("/late/1", |stream, _| echo(stream)).is_err());
        assert!(alice.unserve(id));
        // By default bob need not ask, if identify has told him of it meanwhile.
        let mut options = OpenOptions::new(["/late/1".try_into().expect("a name")]);
        options.optimism = Optimism::Never;
        bob.open_with(alice.peer_id(), options).await.expect_err("not served any more");
    });
}

#[test]
fn a_dial_that_nobody_answers_says_what_was_tried() {
    run(async {
        let network = Network::new();
        let bob = node(&network, 2).await;
        let nowhere = format!("/memory/77/p2p/{}", peer(9));
        let nowhere: peerage_core::Multiaddr = nowhere.parse().expect("an address");
        let error = bob.connect(nowhere).await.expect_err("nobody there");
        let report = error.report.to_string();
        assert!(report.contains("/memory/77") && report.contains("connect"), "{report}");
        let error = bob.connect(peer(8)).await.expect_err("unknown");
        assert!(error.to_string().contains("no address"), "{error}");
        idle(&bob).await;
    });
}

#[test]
fn another_peer_than_the_expected_one_is_not_connected_with() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        let wrong = alice.listen_addresses()[0].with_peer(peer(9)).expect("an address");
        let error = bob.connect(wrong).await.expect_err("somebody else");
        assert!(error.to_string().contains(&alice.peer_id().to_string()), "{error}");
        idle(&alice).await;
        idle(&bob).await;
    });
}

#[test]
fn a_known_address_is_enough_to_open_a_stream() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        bob.add_addresses(alice.peer_id(), alice.listen_addresses()).await;
        check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 10).await;
        let mut options = OpenOptions::new([ECHO.try_into().expect("a name")]);
        options.dial = false;
        let error = bob.open_with(peer(9), options).await.expect_err("not connected");
        assert!(matches!(error, OpenError::NotConnected(_)));
    });
}

#[test]
fn many_dials_to_one_peer_are_one_connection() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        let dials = (0..20).map(|_| bob.connect(address(&alice)));
        let connections: Vec<_> = futures::future::join_all(dials).await;
        let first = connections[0].as_ref().expect("connected").connection;
        assert!(connections.iter().all(|one| one.as_ref().expect("connected").connection == first));
        assert_eq!(alice.connections().len(), 1);
    });
}

#[test]
fn disconnecting_is_seen_by_both() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        let mut events = alice.events();
        bob.connect(address(&alice)).await.expect("connected");
        assert_eq!(bob.disconnect(alice.peer_id()).await, 1);
        let last = event(&mut events, |event| match event {
            Event::Disconnected { last, .. } => Some(last),
            _ => None,
        });
        assert!(last.await);
        assert_eq!(bob.disconnect(alice.peer_id()).await, 0);
        idle(&alice).await;
        idle(&bob).await;
    });
}

#[test]
fn the_node_ends_with_its_last_handle() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        bob.connect(address(&alice)).await.expect("connected");
        let mut events = alice.events();
        drop(bob);
        event(&mut events, |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
        idle(&alice).await;
    });
}

#[test]
fn a_transport_can_be_added_to_a_running_node() {
    run(async {
        let (one, other) = (Network::new(), Network::new());
        let (alice, bob) = (node(&one, 1).await, node(&other, 2).await);
        bob.connect(address(&alice)).await.expect_err("another network");
        struct Second(peerage_transport::memory::Memory);
        impl peerage_transport::Transport for Second {
            fn name(&self) -> &'static str {
                "second"
            }
            fn dials(&self, address: &peerage_core::Multiaddr) -> bool {
                self.0.dials(address)
            }
            fn listens(&self, address: &peerage_core::Multiaddr) -> bool {
                self.0.listens(address)
            }
            fn dial(
                &self,
                address: peerage_core::Multiaddr,
                opts: peerage_transport::DialOpts,
            ) -> futures::future::BoxFuture<
                'static,
                Result<peerage_transport::Link, peerage_transport::TransportError>,
            > {
                self.0.dial(address, opts)
            }
            fn listen(
                &self,
                address: peerage_core::Multiaddr,
                opts: peerage_transport::ListenOpts,
            ) -> futures::future::BoxFuture<
                'static,
                Result<Box<dyn peerage_transport::Listener>, peerage_transport::ListenError>,
            > {
                self.0.listen(address, opts)
            }
        }
        // Bob's first transport says that it dials memory addresses, too; so the newcomer gets a node of its own.
        let carol = Node::builder(keypair(3)).in_thread().start().await.expect("it starts");
        carol.connect(address(&alice)).await.expect_err("tcp only");
        carol.add_transport(Second(one.transport())).await;
        carol.connect(address(&alice)).await.expect("connected");
        assert!(carol.tree().at("transports/second").is_some());
    });
}

#[test]
fn a_peer_hears_of_what_has_changed() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        let mut events = alice.events();
        alice.connect(address(&bob)).await.expect("connected");
        let speaks = |name: &'static str| {
            move |event| match event {
                Event::Identified { peer: who, info } if who == peer(2) => {
                    Some(info.protocols.iter().any(|known| known.as_str() == name))
                }
                _ => None,
            }
        };
        assert!(!event(&mut events, speaks("/new/1")).await);
        let id = bob.serve("/new/1", |_, _| async {}).expect("not served yet");
        while !event(&mut events, speaks("/new/1")).await {}
        let known = alice.peer(bob.peer_id()).await.expect("known");
        assert!(known.protocols.iter().any(|known| known.as_str() == "/new/1"), "the book is told");
        bob.unserve(id);
        while event(&mut events, speaks("/new/1")).await {}

        let mut told = bob.events();
        let second = bob.listen("/memory/0".parse().expect("valid")).await.expect("bound");
        let own = event(&mut told, |event| match event {
            Event::OwnAddresses { addresses } => Some(addresses),
            _ => None,
        });
        assert_eq!(own.await, bob.own_addresses());
        assert_eq!(bob.own_addresses().len(), 2);
        let hears = move |event| match event {
            Event::Identified { info, .. } => {
                second.addresses.iter().all(|new| info.listen_addrs.contains(new)).then_some(())
            }
            _ => None,
        };
        event(&mut events, hears).await;
        alice.shutdown().await;
        bob.shutdown().await;
    });
}

#[test]
fn a_peer_that_did_not_want_to_hear_of_a_change_hears_of_it_later() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        alice.connect(address(&bob)).await.expect("connected");
        let heard = async |name: &str| {
            let known = alice.peer(bob.peer_id()).await.expect("known");
            known.protocols.iter().any(|known| known.as_str() == name)
        };
        // Changes, until there are more than alice listens to.
        let mut refused = None;
        for name in (0..2 * PUSH_BURST).map(|n| format!("/new/{n}")) {
            bob.serve(&name, |_, _| async {}).expect("not served yet");
            tokio::time::sleep(PUSH_DELAY + PUSH_DELAY / 10).await;
            if !heard(&name).await {
                refused = Some(name);
                break;
            }
        }
        let refused = refused.expect("too many");
        tokio::time::sleep(RETRIES.iter().sum()).await;
        assert!(heard(&refused).await, "bob gave up");
        alice.shutdown().await;
        bob.shutdown().await;
    });
}

#[test]
fn what_a_protocol_has_heard_is_remembered_for_as_long_as_it_says() {
    run(async {
        let network = Network::new();
        let alice = node(&network, 1).await;
        let (bob, address) = (keypair(2).peer_id(), "/ip4/127.0.0.1/tcp/4001".parse().expect("an address"));
        alice.remember(bob, [address], "mdns", Duration::from_secs(120)).await;
        let known = alice.peer(bob).await.expect("remembered");
        assert_eq!(known.addresses[0].source, Source::Other("mdns"));
        assert_eq!(known.addresses[0].expires_in, Some(Duration::from_secs(120)));
        tokio::time::sleep(Duration::from_secs(121)).await;
        assert!(alice.peer(bob).await.is_none_or(|known| known.addresses.is_empty()));
        alice.shutdown().await;
    });
}
