//! S1 and S2 against a whole node: sixty links that hang or drip somewhere in their handshakes, on every security
//! protocol and every muxer. An honest dial succeeds meanwhile, and after ten seconds they are gone. (Each single byte
//! is in `transport/tests/silence.rs`.)

mod common;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use common::{
    raw::{Stack, link, upgrade},
    *,
};
use peerage_host::{Event, Node, Usage};
use peerage_transport::{
    Io, Role,
    memory::Network,
    upgrade::{MuxerKind, Security, TIMEOUT},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, timeout},
};

/// One less than what a node takes at once by default.
const LINKS: usize = 60;

/// A link on which a peer stops talking.
struct Stops {
    io: Box<dyn Io>,
    /// What it may still say at once.
    left: usize,
    /// How often it says a byte afterwards; never, if not at all.
    every: Option<Duration>,
    pause: Option<Pin<Box<Sleep>>>,
    said: Arc<AtomicUsize>,
}

impl AsyncRead for Stops {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stops {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            let every = self.every.unwrap_or(4 * TIMEOUT);
            ready!(self.pause.get_or_insert_with(|| Box::pin(sleep(every))).as_mut().poll(cx));
            self.pause = None;
            self.left = usize::from(self.every.is_some());
        }
        let room = self.left.min(buf.len());
        if room == 0 {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, &buf[..room]))?;
        self.left -= count;
        self.said.fetch_add(count, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

async fn start(network: &Network, seed: u8, stack: Stack) -> Node {
    let builder = builder(network, seed).security([stack.0]).muxers([stack.1]);
    let node = builder.listen("/memory/0").expect("an address").start().await.expect("it starts");
    serve_echo(&node);
    node
}

async fn stopping(network: &Network, alice: &Node, left: usize, every: Option<Duration>) -> Stops {
    Stops { io: link(network, alice).await, left, every, pause: None, said: Arc::default() }
}

/// How many bytes a whole handshake has.
async fn length(network: &Network, alice: &Node, stack: Stack) -> usize {
    let io = stopping(network, alice, usize::MAX, None).await;
    let said = io.said.clone();
    drop(upgrade(Box::new(io), Role::Initiator, stack, 3).await.expect("an honest handshake"));
    idle(alice).await;
    said.load(Ordering::Relaxed)
}

fn hang(every: Option<Duration>) {
    for security in Security::ALL {
        for muxer in [MuxerKind::Yamux, MuxerKind::YamuxCrate, MuxerKind::Mplex] {
            let stack = Stack(*security, muxer);
            run(async move {
                let network = Network::new();
                let alice = start(&network, 1, stack).await;
                let all = length(&network, &alice, stack).await;
                let mut events = alice.events();
                let begin = Instant::now();
                let mut links = Vec::new();
                for n in 0..LINKS {
                    // A TLS handshake may be some bytes shorter the next time; of the drips two bytes come in time.
                    let io = stopping(&network, &alice, n * (all - 12) / (LINKS - 1), every).await;
                    links.push(tokio::task::spawn_local(async move {
                        upgrade(Box::new(io), Role::Initiator, stack, 4).await.is_ok()
                    }));
                }
                until("all of them hang", || alice.usage().handshakes_inbound == LINKS).await;

                let bob = start(&network, 2, stack).await;
                let asked = Instant::now();
                bob.connect(address(&alice)).await.expect("an honest dial");
                check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 1000).await;
                assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
                assert_eq!(alice.usage().handshakes_inbound, LINKS, "they still hang");

                // Ten in a second are told of, and the others counted.
                for _ in 0..10 {
                    let failed = event(&mut events, |event| match event {
                        Event::IncomingFailed { why, .. } => Some(why),
                        _ => None,
                    });
                    let why = timeout(2 * TIMEOUT, failed).await.expect("it is ended");
                    assert!(why.contains("not done in time"), "{stack:?}: {why}");
                }
                until("all of them are gone", || alice.usage().handshakes_inbound == 0).await;
                assert!(begin.elapsed() < TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
                let usage = alice.usage();
                assert_eq!((usage.handshakes_inbound, usage.connections_inbound), (0, 1));
                check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 1000).await;
                bob.disconnect(alice.peer_id()).await;
                idle(&alice).await;
                assert_eq!(alice.usage(), Usage::default());
                for link in links {
                    assert!(!link.await.expect("no panic"), "{stack:?}: a handshake has succeeded");
                }
                alice.shutdown().await;
                bob.shutdown().await;
            });
        }
    }
}

#[test]
fn sixty_silent_links_hinder_nobody() {
    hang(None);
}

#[test]
fn sixty_links_that_drip_hinder_nobody() {
    hang(Some(Duration::from_secs(4)));
}
