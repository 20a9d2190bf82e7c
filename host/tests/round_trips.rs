//! How many round trips it takes until the first byte of an answer, over links with a delay, in virtual time.

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{ECHO, address, builder, peer, run, serve_echo};
use futures::{FutureExt as _, future::BoxFuture};
use peerage_core::{Multiaddr, ProtocolId};
use peerage_host::{
    Builder, ErrorCode, Node, OpenOptions, Optimism,
    store::{self, Batch, Row, StoreError, Table},
};
use peerage_transport::{
    DialOpts, Io, Link, ListenError, ListenOpts, Listener, Raw, Transport, TransportError,
    memory::{Memory, Network},
    upgrade::Security,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex, split},
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

const ROUND_TRIP: Duration = Duration::from_millis(200);

/// Memory transport, far away: TCP's own handshake takes a round trip, and so do a byte and its answer.
struct Far(Memory);

impl Transport for Far {
    fn name(&self) -> &'static str {
        "far"
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        self.0.dials(address)
    }

    fn listens(&self, address: &Multiaddr) -> bool {
        self.0.listens(address)
    }

    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        let dialed = self.0.dial(address, opts);
        async move {
            sleep(ROUND_TRIP).await;
            match dialed.await? {
                Link::Raw(raw) => Ok(Link::Raw(Raw { io: delayed(raw.io), ..raw })),
                other => Ok(other),
            }
        }
        .boxed()
    }

    fn listen(
        &self,
        address: Multiaddr,
        opts: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        self.0.listen(address, opts)
    }
}

fn delayed(io: Box<dyn Io>) -> Box<dyn Io> {
    let (near, middle) = duplex(1 << 20);
    let ((from_near, to_near), (from_far, to_far)) = (split(middle), split(io));
    carry(from_near, to_far);
    carry(from_far, to_near);
    Box::new(near)
}

fn carry(
    mut from: impl AsyncRead + Send + Unpin + 'static,
    mut to: impl AsyncWrite + Send + Unpin + 'static,
) {
    let (sent, mut arrives) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    tokio::spawn(async move {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            let piece = chunk.get(..read).unwrap_or_default().to_vec();
            if sent.send((Instant::now() + ROUND_TRIP / 2, piece)).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((at, piece)) = arrives.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    });
}

/// A node that dials over the distance.
async fn dialer(network: &Network, security: &[Security]) -> Node {
    in_making(network, security).start().await.expect("it starts")
}

fn in_making(network: &Network, security: &[Security]) -> Builder {
    Node::builder(common::keypair(1)).in_thread().security(security).transport(Far(network.transport()))
}

async fn listener(network: &Network, security: &[Security]) -> Node {
    let node = builder(network, 2).security(security).listen("/memory/7").expect("an address");
    let node = node.start().await.expect("it starts");
    serve_echo(&node);
    node
}

/// Round trips until the first byte of an echo, the dial included where there is no connection.
async fn first_byte(from: &Node, to: &Multiaddr, optimism: Optimism) -> u32 {
    let began = Instant::now();
    let mut options = OpenOptions::new([ProtocolId::new(ECHO).expect("a name")]);
    options.addresses = vec![to.clone()];
    options.optimism = optimism;
    let mut stream = from.open_with(peer(2), options).await.expect("it opens");
    stream.write_all(b"\x08anything").await.expect("written");
    assert_eq!(stream.read_u8().await.expect("the echo"), 8);
    let took = began.elapsed();
    // What the work itself takes is nothing in virtual time, but timers have a grain of a millisecond.
    (took.as_secs_f64() / ROUND_TRIP.as_secs_f64()).round() as u32
}

/// Until both know of the end, and nothing is under way.
async fn hang_up(node: &Node, other: &Node) {
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.disconnect(peer(2)).await, 1);
    common::until("both are alone", || node.connections().is_empty() && other.connections().is_empty()).await;
}

/// Whether a scenario takes so many round trips at each of its steps.
///
/// One ClientHello in 256 has, at random, a byte that could end a line of multistream-select. Then nothing is sent ahead, and
/// there is a round trip more (`multistream::breaks`). A scenario that met one is tried again: five in a row are not chance.
async fn takes<F: Future<Output = Vec<u32>>>(expected: &[u32], scenario: impl Fn() -> F) {
    let mut unlucky = Vec::new();
    for _ in 0..5 {
        let counted = scenario().await;
        if counted == expected {
            return;
        }
        let one_more = |(counted, expected): (&u32, &u32)| (*expected..=expected + 1).contains(counted);
        assert!(counted.iter().zip(expected).all(one_more), "{counted:?} and not {expected:?}");
        unlucky.push(counted);
    }
    panic!("{unlucky:?}, and never {expected:?}");
}

#[test]
fn a_first_contact_a_known_peer_and_a_connection_that_is_there() {
    for security in [[Security::Noise], [Security::Tls]] {
        run(async move {
            // First TCP; security; its end with the proposal; the request. Then what identify has said is known.
            takes(&[4, 1, 2, 3, 4], || async {
                let network = Network::new();
                let far = listener(&network, &security).await;
                let near = dialer(&network, &security).await;
                let to = address(&far);
                let stranger = first_byte(&near, &to, Optimism::Known).await;
                sleep(Duration::from_secs(1)).await;
                let there = first_byte(&near, &to, Optimism::Known).await;
                let there_in_doubt = first_byte(&near, &to, Optimism::Never).await;
                hang_up(&near, &far).await;
                let known = first_byte(&near, &to, Optimism::Known).await;
                hang_up(&near, &far).await;
                let known_in_doubt = first_byte(&near, &to, Optimism::Never).await;
                vec![stranger, there, there_in_doubt, known, known_in_doubt]
            })
            .await;
        });
    }
}

/// What outlives a node.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<store::Memory>>);

impl store::Store for Kept {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.lock().expect("sound").get(table, key)
    }

    fn scan(&mut self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.0.lock().expect("sound").scan(table, after, limit)
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.0.lock().expect("sound").write(batch)
    }
}

#[test]
fn a_peer_is_known_after_a_restart() {
    run(takes(&[3], || async {
        let network = Network::new();
        let (far, kept) = (listener(&network, &[Security::Tls]).await, Kept::default());
        let near = || in_making(&network, Security::DEFAULT).store_in(kept.clone()).start();
        let to = address(&far);
        let node = near().await.expect("it starts");
        first_byte(&node, &to, Optimism::Known).await;
        hang_up(&node, &far).await;
        node.shutdown().await;
        let node = near().await.expect("it starts");
        // Until the rows are read.
        sleep(Duration::from_secs(1)).await;
        vec![first_byte(&node, &to, Optimism::Known).await]
    }));
}

#[test]
fn a_first_contact_in_a_hurry() {
    run(takes(&[3], || async {
        let network = Network::new();
        let far = listener(&network, Security::DEFAULT).await;
        let near = dialer(&network, Security::DEFAULT).await;
        vec![first_byte(&near, &address(&far), Optimism::Always).await]
    }));
}

#[test]
fn a_wrong_guess_costs_a_dial_and_is_not_made_again() {
    // TCP and the refusal; TCP, TLS, its end with the request. And then without the former.
    run(takes(&[5, 3], || async {
        let network = Network::new();
        let far = listener(&network, &[Security::Noise]).await;
        let near = dialer(&network, Security::DEFAULT).await;
        let to = address(&far);
        first_byte(&near, &to, Optimism::Known).await;
        hang_up(&near, &far).await;
        // It comes back, and takes TLS alone.
        far.shutdown().await;
        let far = listener(&network, &[Security::Tls]).await;
        let wrong = first_byte(&near, &to, Optimism::Always).await;
        hang_up(&near, &far).await;
        vec![wrong, first_byte(&near, &to, Optimism::Known).await]
    }));
}

#[test]
fn a_peer_that_takes_nothing_of_it_is_reported_as_before() {
    run(async {
        let network = Network::new();
        let far = listener(&network, &[Security::Tls]).await;
        let near = dialer(&network, &[Security::Noise]).await;
        let error = near.connect(address(&far)).await.expect_err("nothing in common");
        assert!(error.to_string().contains("no security protocol in common"), "{error}");
        assert_eq!(error.report.attempts.len(), 1);
        common::idle(&near).await;
    });
}

#[test]
fn a_protocol_that_is_gone_is_refused_when_the_stream_is_used() {
    run(async {
        let network = Network::new();
        let far = listener(&network, Security::DEFAULT).await;
        let near = dialer(&network, Security::DEFAULT).await;
        let to = address(&far);
        first_byte(&near, &to, Optimism::Known).await;
        hang_up(&near, &far).await;
        far.shutdown().await;
        let far =
            builder(&network, 2).listen("/memory/7").expect("an address").start().await.expect("it starts");
        let mut options = OpenOptions::new([ProtocolId::new(ECHO).expect("a name")]);
        options.addresses = vec![address(&far)];
        let mut stream = near.open_with(peer(2), options).await.expect("it opens");
        stream.write_all(b"\x08anything").await.expect("written");
        let error = stream.read_u8().await.expect_err("nobody speaks it");
        // The refusal, unless the end of the negotiation that follows it was faster.
        let (refused, reset) = (std::io::ErrorKind::Unsupported, std::io::ErrorKind::ConnectionReset);
        assert!([refused, reset].contains(&error.kind()), "{error}");
        assert!(stream.write_all(b"more").await.is_err());
        stream.reset(ErrorCode::NONE);
    });
}
