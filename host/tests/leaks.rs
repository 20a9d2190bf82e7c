//! What is over leaves nothing behind.

mod common;

use std::time::Duration;

use common::{
    raw::{NOISE_MPLEX, NOISE_YAMUX, Stack, TLS_YAMUX},
    *,
};
use peerage_host::{Direction, Limits, Node, OpenError, OpenOptions, Optimism, Stream};
use peerage_transport::memory::Network;

#[test]
fn a_thousand_dials_and_hang_ups_leave_nothing_behind() {
    dial_and_hang_up(NOISE_YAMUX);
}

#[test]
fn a_thousand_of_them_over_tls() {
    dial_and_hang_up(TLS_YAMUX);
}

#[test]
fn a_thousand_of_them_over_mplex() {
    dial_and_hang_up(NOISE_MPLEX);
}

async fn speaking(network: &Network, seed: u8, stack: Stack, limits: Limits) -> Node {
    let builder = builder(network, seed).security([stack.0]).muxers([stack.1]).limits(limits);
    let node = builder.listen("/memory/0").expect("an address").start().await.expect("it starts");
    serve_echo(&node);
    node
}

fn dial_and_hang_up(stack: Stack) {
    run(async move {
        let network = Network::new();
        let start = |seed| speaking(&network, seed, stack, Limits::default());
        let (alice, bob) = (start(1).await, start(2).await);
        let one = async || {
            bob.connect(address(&alice)).await.expect("connected");
            check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 100).await;
            bob.disconnect(alice.peer_id()).await;
            idle(&alice).await;
            idle(&bob).await;
        };
        one().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let (before, places) = (tasks(), (alice.tree().0.len(), bob.tree().0.len()));
        for _ in 0..1_000 {
            one().await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(tasks(), before, "tasks are left");
        assert_eq!((alice.tree().0.len(), bob.tree().0.len()), places);
        assert!(alice.connections().is_empty() && bob.connections().is_empty());
        assert!(alice.tree().0.iter().all(|actor| actor.queue == 0 && actor.panics == 0));
        alice.shutdown().await;
        bob.shutdown().await;
    });
}

/// Two hundred and fifty at once, forty times: as many as a muxer lets live at once are seen by it alone, in its tests.
#[test]
fn ten_thousand_streams_over_one_connection_leave_nothing_behind() {
    for stack in [NOISE_YAMUX, NOISE_MPLEX] {
        run(async move {
            let network = Network::new();
            let mut limits = Limits::default();
            limits.streams_negotiating_per_connection = 256;
            limits.streams_inbound_per_protocol_and_peer = 256;
            let (alice, bob) = (
                speaking(&network, 1, stack, limits.clone()).await,
                speaking(&network, 2, stack, limits).await,
            );
            let connected = bob.connect(address(&alice)).await.expect("connected");
            tokio::time::sleep(Duration::from_secs(60)).await;
            let (before, usage) = (tasks(), alice.usage());
            for _ in 0..40 {
                let one = async || {
                    let stream = bob.open(alice.peer_id(), ECHO).await.expect("open");
                    check_echo(stream, 1000).await;
                };
                futures::future::join_all((0..250).map(|_| one())).await;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(
                bob.connections().iter().map(|one| one.id).collect::<Vec<_>>(),
                [connected.connection]
            );
            assert_eq!(alice.usage(), usage);
            assert_eq!(tasks(), before, "tasks are left");
            assert_eq!((alice.refusals(), bob.refusals()), ([].into(), [].into()));
            bob.disconnect(alice.peer_id()).await;
            idle(&alice).await;
            idle(&bob).await;
        });
    }
}

#[test]
fn a_node_that_was_shut_down_leaves_no_task() {
    run(async {
        let before = tasks();
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        bob.connect(address(&alice)).await.expect("connected");
        let open = bob.open(alice.peer_id(), ECHO).await.expect("open");
        alice.shutdown().await;
        bob.shutdown().await;
        drop(open);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(tasks(), before);
    });
}

#[test]
fn a_dropped_request_gives_everything_back() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        // Cut off after each of the first steps that a dial with a first stream takes.
        for steps in 0..60 {
            let peer = alice.peer_id();
            let mut options = peerage_host::OpenOptions::new([ECHO.try_into().expect("a name")]);
            options.addresses = alice.addresses();
            let mut opening = Box::pin(bob.open_with(peer, options));
            for _ in 0..steps {
                if futures::poll!(opening.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(opening);
            tokio::time::sleep(Duration::from_secs(1)).await;
            bob.disconnect(peer).await;
            idle(&alice).await;
            idle(&bob).await;
        }
    });
}

#[test]
fn connections_per_peer_are_limited_on_both_sides() {
    run(async {
        let network = Network::new();
        let mut limits = Limits::default();
        limits.connections_per_peer = 2;
        let alice = builder(&network, 1).limits(limits).listen("/memory/0").expect("an address");
        let alice = alice.start().await.expect("it starts");
        let bob = node(&network, 2).await;
        let again = || {
            let mut options = peerage_host::ConnectOptions::default();
            options.always_dial = true;
            bob.connect_with(address(&alice), options)
        };
        again().await.expect("the first");
        again().await.expect("the second");
        let _ = again().await;
        until("the third is gone", || bob.connections().len() == 2 && alice.connections().len() == 2).await;
        assert_eq!(alice.usage().connections_inbound, 2);
        assert!(alice.connections().iter().all(|one| one.direction == Direction::Inbound));
    });
}

#[test]
fn streams_per_peer_are_limited_and_the_connection_stays() {
    run(async {
        let network = Network::new();
        let mut limits = Limits::default();
        limits.streams_inbound_per_peer = 10;
        let alice = builder(&network, 1).limits(limits).listen("/memory/0").expect("an address");
        let alice = alice.start().await.expect("it starts");
        serve_echo(&alice);
        let bob = node(&network, 2).await;
        bob.connect(address(&alice)).await.expect("connected");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut open = Vec::new();
        for _ in 0..10 {
            open.push(agreed(&bob, &alice).await.expect("within the limit"));
        }
        let refused = agreed(&bob, &alice).await.expect_err("one too many");
        assert!(matches!(refused, OpenError::Negotiation(_)), "{refused}");
        open.pop();
        tokio::time::sleep(Duration::from_secs(1)).await;
        check_echo(agreed(&bob, &alice).await.expect("a place is free"), 10).await;
    });
}

/// A stream on which the other side has agreed, not only is expected to.
async fn agreed(from: &Node, to: &Node) -> Result<Stream, OpenError> {
    let mut options = OpenOptions::new([ECHO.try_into().expect("a name")]);
    options.optimism = Optimism::Never;
    from.open_with(to.peer_id(), options).await
}
