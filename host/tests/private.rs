//! Nodes in private networks.

mod common;

use common::*;
use futures::future::BoxFuture;
use peerage_core::Multiaddr;
use peerage_host::{Builder, DialErrorKind, Node, StartError, dial::AttemptResult, node::NodeListenError};
use peerage_transport::{
    DialOpts, Fault, Link, ListenError, ListenOpts, Listener, Transport, TransportError, memory::Network,
    pnet::PreSharedKey,
};

fn member(network: &Network, seed: u8, key: u8) -> Builder {
    builder(network, seed).private_network(PreSharedKey::from_bytes([key; 32]))
}

async fn started(builder: Builder) -> Node {
    let node = builder.listen("/memory/0").expect("an address").start().await.expect("it starts");
    serve_echo(&node);
    node
}

#[test]
fn members_speak_with_each_other_and_with_nobody_else() {
    run(async {
        let network = Network::new();
        let alice = started(member(&network, 1, 7)).await;
        let bob = started(member(&network, 2, 7)).await;
        let key = PreSharedKey::from_bytes([7; 32]);
        assert_eq!(alice.private_network(), Some(key.fingerprint()));
        bob.connect(address(&alice)).await.expect("connected");
        check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 100_000).await;

        for stranger in [started(member(&network, 3, 8)).await, node(&network, 4).await] {
            for (from, to) in [(&stranger, &alice), (&alice, &stranger)] {
                let error = from.connect(address(to)).await.expect_err("not in one network");
                assert_eq!(error.kind, DialErrorKind::AllFailed, "{error}");
                assert_ne!(from.private_network(), to.private_network());
                if from.peer_id() == alice.peer_id() {
                    assert!(error.to_string().contains("pre-shared key"), "{error}");
                }
            }
        }
    });
}

/// A transport that says that it brings its own security, and gets nowhere.
struct Secured(Network);

impl Transport for Secured {
    fn name(&self) -> &'static str {
        "secured"
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        self.0.transport().dials(address)
    }

    fn listens(&self, address: &Multiaddr) -> bool {
        self.0.transport().listens(address)
    }

    fn brings_security(&self) -> bool {
        true
    }

    fn dial(&self, _: Multiaddr, _: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        panic!("nothing of it may be used")
    }

    fn listen(
        &self,
        _: Multiaddr,
        _: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        panic!("nothing of it may be used")
    }
}

#[test]
fn transports_that_cannot_be_protected_are_refused() {
    run(async {
        let network = Network::new();
        let private = || {
            Node::builder(keypair(1))
                .in_thread()
                .transport(Secured(network.clone()))
                .private_network(PreSharedKey::from_bytes([7; 32]))
        };
        let node = private().start().await.expect("it starts");
        let to: Multiaddr = "/memory/1".parse().expect("an address");
        assert_eq!(node.listen(to.clone()).await, Err(NodeListenError::NotPrivate(to.clone())));
        let error = node.connect(to.clone()).await.expect_err("refused");
        let attempt = error.report.attempts.first().expect("it was tried");
        let AttemptResult::Failed { error, fault } = &attempt.result else { panic!("{attempt}") };
        assert_eq!(*fault, Fault::Local);
        assert!(error.contains("which a private network does not allow"), "{error}");

        let failed = private().listen("/memory/1").expect("an address").start().await;
        let Err(StartError::Listen { why, .. }) = failed else { panic!("it started") };
        assert!(why.contains("which a private network does not allow"), "{why}");
    });
}
