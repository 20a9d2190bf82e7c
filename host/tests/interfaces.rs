//! The machine's interfaces change under a node that listens on all of them: in virtual time, with interfaces of the
//! test's own.

mod common;

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::*;
use futures::{FutureExt, future::BoxFuture};
use peerage_core::Multiaddr;
use peerage_host::{Event, Node, addresses::INTERFACES_EVERY};
use peerage_transport::{
    DialOpts, Link, ListenError, ListenOpts, Listener, ListenerEvent, Transport, TransportError,
    memory::Network,
};
use tokio::time::{Instant, sleep};

const WILDCARD: &str = "/ip4/0.0.0.0/tcp/4001";
/// Where the wildcard's listener really is.
const DOOR: &str = "/memory/7";

fn addr(text: &str) -> Multiaddr {
    text.parse().expect("an address")
}

/// A listener that says that it is bound to all interfaces, and is bound to a door in memory.
struct Everywhere(Network);

struct Bound(Box<dyn Listener>);

impl Transport for Everywhere {
    fn name(&self) -> &'static str {
        "everywhere"
    }

    fn dials(&self, _: &Multiaddr) -> bool {
        false
    }

    fn listens(&self, address: &Multiaddr) -> bool {
        address.is_unspecified()
    }

    fn dial(&self, address: Multiaddr, _: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        async { Err(TransportError::Unsupported(address)) }.boxed()
    }

    fn listen(
        &self,
        _: Multiaddr,
        opts: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        let binding = self.0.transport().listen(addr(DOOR), opts);
        async { Ok(Box::new(Bound(binding.await?)) as Box<dyn Listener>) }.boxed()
    }
}

impl Listener for Bound {
    fn addresses(&self) -> Vec<Multiaddr> {
        vec![addr(WILDCARD)]
    }

    fn next(&mut self) -> BoxFuture<'_, ListenerEvent> {
        self.0.next()
    }
}

/// The interfaces of a made-up machine. Without any, they cannot be listed.
#[derive(Clone, Default)]
struct Machine {
    ips: Arc<Mutex<Vec<IpAddr>>>,
    listed: Arc<AtomicUsize>,
}

impl Machine {
    fn has(&self, ips: &[&str]) {
        *self.ips.lock().expect("no panic") = ips.iter().map(|ip| ip.parse().expect("an ip")).collect();
    }

    fn list(&self) -> io::Result<Vec<IpAddr>> {
        self.listed.fetch_add(1, Ordering::Relaxed);
        let ips = self.ips.lock().expect("no panic").clone();
        if ips.is_empty() { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(ips) }
    }

    fn times(&self) -> usize {
        self.listed.load(Ordering::Relaxed)
    }

    async fn node(&self, network: &Network) -> Node {
        let machine = self.clone();
        let builder = Node::builder(keypair(1)).in_thread().transport(Everywhere(network.clone()));
        builder.interfaces(move || machine.list()).start().await.expect("it starts")
    }
}

fn own(node: &Node) -> Vec<String> {
    node.own_addresses().iter().map(|own| own.address.to_string()).collect()
}

#[test]
fn addresses_come_and_go_with_interfaces_and_peers_are_told() {
    run(async {
        let (network, machine) = (Network::new(), Machine::default());
        machine.has(&["127.0.0.1", "192.168.1.7"]);
        let alice = machine.node(&network).await;
        alice.listen(addr(WILDCARD)).await.expect("bound");
        assert_eq!(own(&alice), ["/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.1.7/tcp/4001"], "at once");

        let bob = node(&network, 2).await;
        let (mut alices, mut bobs) = (alice.events(), bob.events());
        bob.connect(addr(DOOR)).await.expect("connected");
        event(&mut bobs, |event| matches!(event, Event::Identified { .. }).then_some(())).await;

        machine.has(&["192.168.1.8", "127.0.0.1"]);
        let (now, began) = (["/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.1.8/tcp/4001"], Instant::now());
        let told = event(&mut alices, |event| match event {
            Event::OwnAddresses { addresses } => {
                let addresses: Vec<_> = addresses.iter().map(|own| own.address.to_string()).collect();
                (addresses == now).then_some(())
            }
            _ => None,
        });
        told.await;
        assert_eq!(own(&alice), now);
        event(&mut bobs, |event| match event {
            Event::Identified { info, .. } => {
                let mut said: Vec<_> = info.listen_addrs.iter().map(Multiaddr::to_string).collect();
                said.sort();
                (said == now).then_some(())
            }
            _ => None,
        })
        .await;
        // Noticed, and then gathered with what else changes.
        assert!(began.elapsed() <= INTERFACES_EVERY + Duration::from_secs(2));

        machine.has(&[]);
        sleep(INTERFACES_EVERY * 3).await;
        assert_eq!(own(&alice), now, "what cannot be listed is as it was");
    });
}

#[test]
fn without_a_wildcard_nobody_looks() {
    run(async {
        let (network, machine) = (Network::new(), Machine::default());
        machine.has(&["192.168.1.7"]);
        let alice = machine.node(&network).await;
        sleep(INTERFACES_EVERY * 10).await;
        assert_eq!(machine.times(), 0);

        let listening = alice.listen(addr(WILDCARD)).await.expect("bound");
        assert_eq!(machine.times(), 1);
        sleep(INTERFACES_EVERY * 10 + INTERFACES_EVERY / 2).await;
        assert_eq!(machine.times(), 11);

        alice.unlisten(listening.id).await;
        sleep(INTERFACES_EVERY * 10).await;
        assert!(machine.times() <= 12, "the one that was due already");
        let times = machine.times();
        sleep(INTERFACES_EVERY * 10).await;
        assert_eq!(machine.times(), times);
        alice.listen(addr(WILDCARD)).await.expect("bound");
        sleep(INTERFACES_EVERY * 2).await;
        assert!(machine.times() > times + 1, "it looks again");
    });
}
