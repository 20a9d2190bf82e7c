//! Class C9 of the known holes: a link that fails is not touched again, by no layer above it, and costs nothing else.

mod common;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use common::{
    raw::{NOISE_MPLEX, NOISE_YAMUX, Stack, TLS_YAMUX},
    *,
};
use futures::future::BoxFuture;
use peerage_core::Multiaddr;
use peerage_host::{Event, Node, Stream};
use peerage_transport::{
    DialOpts, Io, Link, ListenError, ListenOpts, Listener, Raw, Transport, TransportError,
    memory::{Memory, Network},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::{sleep, timeout},
};

/// Lets so many polls through and fails afterwards. A half that has failed is not to be asked again; the other may be,
/// since a peer that cannot be heard may still hear.
struct Breaks {
    io: Box<dyn Io>,
    life: Arc<AtomicUsize>,
    broken: [bool; 2],
}

const READING: usize = 0;
const WRITING: usize = 1;

impl Breaks {
    fn poll(&mut self, half: usize) -> io::Result<()> {
        assert!(!self.broken[half], "touched after its end");
        let left = self.life.load(Ordering::Relaxed);
        self.life.store(left.saturating_sub(1), Ordering::Relaxed);
        self.broken[half] = left == 0;
        if self.broken[half] { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Breaks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(READING)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Breaks {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(WRITING)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(WRITING)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(WRITING)?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The memory transport, whose dialed links break.
struct Breaking {
    inner: Memory,
    life: Arc<AtomicUsize>,
}

impl Transport for Breaking {
    fn name(&self) -> &'static str {
        "breaking"
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        self.inner.dials(address)
    }

    fn listens(&self, address: &Multiaddr) -> bool {
        self.inner.listens(address)
    }

    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        let (dialing, life) = (self.inner.dial(address, opts), self.life.clone());
        Box::pin(async move {
            Ok(match dialing.await? {
                Link::Raw(raw) => {
                    Link::Raw(Raw { io: Box::new(Breaks { io: raw.io, life, broken: [false; 2] }), ..raw })
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

async fn start(transport: impl Transport, seed: u8, stack: Stack) -> Node {
    let builder = Node::builder(keypair(seed)).in_thread().transport(transport);
    let builder = builder.security([stack.0]).muxers([stack.1]);
    let node = builder.listen("/memory/0").expect("an address").start().await.expect("it starts");
    serve_echo(&node);
    node
}

/// There and back, unless the link breaks; then by an error, and never by a false end.
async fn talk(mut stream: Stream) -> io::Result<()> {
    let sent = [7; 50_000];
    let mut got = Vec::new();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let write = async {
        writer.write_all(&sent).await?;
        writer.shutdown().await
    };
    tokio::try_join!(write, reader.read_to_end(&mut got))?;
    assert!(got == sent, "a false end after {} bytes", got.len());
    Ok(())
}

#[test]
fn a_link_that_breaks_anywhere_is_not_touched_again() {
    for stack in [NOISE_YAMUX, TLS_YAMUX, NOISE_MPLEX] {
        run(async move {
            let network = Network::new();
            let life = Arc::new(AtomicUsize::new(0));
            let alice = start(network.transport(), 1, stack).await;
            let bob = start(Breaking { inner: network.transport(), life: life.clone() }, 2, stack).await;
            let (mut at_alice, mut at_bob) = (alice.events(), bob.events());
            let (mut polls, mut talked, mut broken) = (0, 0, 0);
            while talked < 5 {
                life.store(polls, Ordering::Relaxed);
                let talking = async {
                    bob.connect(address(&alice)).await.ok()?;
                    let stream = bob.open(alice.peer_id(), ECHO).await.ok()?;
                    talk(stream).await.ok()
                };
                let whole = timeout(Duration::from_secs(60), talking).await.expect("it does not hang");
                match whole {
                    Some(()) => talked += 1,
                    None => broken += 1,
                }
                bob.disconnect(alice.peer_id()).await;
                idle(&bob).await;
                idle(&alice).await;
                polls += 1 + polls / 20;
            }
            assert!(broken > 15, "{stack:?}: it broke {broken} times");
            sleep(Duration::from_secs(1)).await;
            for (node, events) in [(&alice, &mut at_alice), (&bob, &mut at_bob)] {
                assert!(node.tree().0.iter().all(|actor| actor.panics == 0), "{stack:?}\n{}", node.tree());
                while let Ok(Some(event)) = timeout(Duration::ZERO, events.next()).await {
                    assert!(!matches!(event, Event::ActorPanicked { .. }), "{stack:?}: {event:?}");
                }
            }
            alice.shutdown().await;
            bob.shutdown().await;
        });
    }
}
