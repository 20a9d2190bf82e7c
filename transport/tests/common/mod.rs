//! What the tests of the upgrade share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use peerage_core::{Keypair, PeerId, ProtocolId, frame};
use peerage_muxer::Stream;
use peerage_security::{noise, plaintext, tls};
use peerage_transport::{
    DialOpts, Established, Fault, Io, Link, ListenOpts, Listener, ListenerEvent, Progress, Raw, Role, Stage,
    Transport, UpgradeError, UpgradeOpts, Upgrader,
    memory::Network,
    select,
    upgrade::{Config, Security, TIMEOUT},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, Sleep, sleep},
};

pub const FAR: Duration = Duration::from_secs(3600);

pub fn keypair(seed: u8) -> Keypair {
    Keypair::from_ed25519_seed([seed; 32])
}

pub fn peer(seed: u8) -> PeerId {
    keypair(seed).peer_id()
}

pub fn upgrader(seed: u8) -> Upgrader {
    Upgrader::new(&keypair(seed), Config::default())
}

/// The upgrader of a peer that knows one security protocol. It is made once, so that its certificate is the same.
pub fn upgrader_by(security: Security, seed: u8) -> Upgrader {
    static MADE: Mutex<BTreeMap<(Security, u8), Upgrader>> = Mutex::new(BTreeMap::new());
    let make = || {
        let mut config = Config::default();
        config.security = vec![security];
        Upgrader::new(&keypair(seed), config)
    };
    MADE.lock().unwrap().entry((security, seed)).or_insert_with(make).clone()
}

/// Whether the muxer can come with the security handshake.
pub fn has_early_muxer(security: Security) -> bool {
    security != Security::Plaintext
}

pub fn opts(role: Role, expected: Option<PeerId>) -> UpgradeOpts {
    let mut opts = UpgradeOpts::incoming(Instant::now() + FAR);
    opts.role = role;
    opts.expected = expected;
    opts
}

pub async fn accept(listener: &mut Box<dyn Listener>) -> Raw {
    match listener.next().await {
        ListenerEvent::Incoming(Link::Raw(raw)) => raw,
        other => panic!("{other:?}"),
    }
}

/// A link: the dialer's end and the listener's.
pub async fn link(transport: &dyn Transport, address: &str) -> (Raw, Raw) {
    let mut listener = transport.listen(address.parse().unwrap(), ListenOpts::default()).await.unwrap();
    let to = listener.addresses().remove(0);
    let dial = transport.dial(to, DialOpts::new(Instant::now() + TIMEOUT));
    let (dialed, accepted) = tokio::join!(dial, accept(&mut listener));
    match dialed.unwrap() {
        Link::Raw(dialed) => (dialed, accepted),
        other => panic!("{other:?}"),
    }
}

pub async fn memory_link() -> (Raw, Raw) {
    link(&Network::new().transport(), "/memory/0").await
}

/// What the two sides of an upgrade come to.
pub type Outcome = Result<Established, UpgradeError>;

/// Both ends of a link that is upgraded by peers 1, the initiator, and 2.
pub async fn upgrade_both(security: Security, near: Raw, far: Raw) -> (Outcome, Outcome) {
    let (one, two) = (upgrader_by(security, 1), upgrader_by(security, 2));
    tokio::join!(
        one.upgrade(near, opts(Role::Initiator, Some(peer(2)))),
        two.upgrade(far, opts(Role::Responder, None))
    )
}

/// Each side opens a stream, and the other sends back what comes.
pub async fn echo_both_ways(near: Established, far: Established) {
    let drivers = [tokio::spawn(near.muxed.driver), tokio::spawn(far.muxed.driver)];
    let (near, far) = (near.muxed.connection, far.muxed.connection);
    for (opens, accepts) in [(&near, &far), (&far, &near)] {
        let ask = async {
            let stream = opens.open().await.unwrap();
            let sent: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
            let (mut read, mut write) = tokio::io::split(stream);
            let write = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (read, ()) = tokio::join!(read.read_to_end(&mut got), write);
            read.unwrap();
            assert!(got == sent, "{} of {} bytes came back", got.len(), sent.len());
        };
        let answer = async {
            let stream: Stream = accepts.accept().await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        };
        tokio::join!(ask, answer);
    }
    for driver in drivers {
        driver.abort();
    }
}

/// What comes after the bytes that are let through.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// Nothing, for ever.
    Silence,
    /// The rest, after this time.
    RestAfter(Duration),
    /// One byte each such time.
    ByteEvery(Duration),
}

/// A link whose other side is quick for some bytes, and then is not.
pub struct Slow {
    pub io: Box<dyn Io>,
    /// Bytes that are still let through.
    pub reads: usize,
    pub then: Then,
    /// Bytes that may still be written; after them writes wait for ever.
    pub writes: usize,
    /// Read and written, so far.
    pub moved: Arc<Moved>,
    pub waiting: Option<Pin<Box<Sleep>>>,
}

/// Bytes that a link moved.
#[derive(Debug, Default)]
pub struct Moved {
    pub read: AtomicUsize,
    pub written: AtomicUsize,
    /// Of those, what was moved before [`Progress`] said `Muxer`.
    pub security_read: AtomicUsize,
    pub security_written: AtomicUsize,
    pub progress: Arc<Progress>,
}

impl Moved {
    fn add(&self, all: &AtomicUsize, security: &AtomicUsize, count: usize) {
        all.fetch_add(count, Ordering::Relaxed);
        if self.progress.stage() < Stage::Muxer {
            security.fetch_add(count, Ordering::Relaxed);
        }
    }
}

pub fn slow(raw: Raw, reads: usize, then: Then) -> Raw {
    with(raw, |io| Slow { io, reads, then, writes: usize::MAX, moved: Arc::default(), waiting: None })
}

/// The link with something around its bytes.
pub fn with<I: Io>(raw: Raw, wrap: impl FnOnce(Box<dyn Io>) -> I) -> Raw {
    Raw { io: Box::new(wrap(raw.io)), ..raw }
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.reads == 0 {
            let wait = match self.then {
                Then::Silence => return Poll::Pending,
                Then::RestAfter(wait) | Then::ByteEvery(wait) => wait,
            };
            ready!(self.waiting.get_or_insert_with(|| Box::pin(sleep(wait))).as_mut().poll(cx));
            self.waiting = None;
            self.reads = match self.then {
                Then::ByteEvery(_) => 1,
                _ => usize::MAX,
            };
        }
        // One byte at a time, so that a recording knows which byte made a difference.
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut one))?;
        let count = one.filled().len();
        buf.put_slice(one.filled());
        self.reads -= count;
        self.moved.add(&self.moved.read, &self.moved.security_read, count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let room = self.writes.min(buf.len());
        if room == 0 && !buf.is_empty() {
            return Poll::Pending;
        }
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, &buf[..room]))?;
        self.writes -= count;
        self.moved.add(&self.moved.written, &self.moved.security_written, count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

pub const YAMUX: ProtocolId = ProtocolId::from_static("/yamux/1.0.0");
pub const UNKNOWN: ProtocolId = ProtocolId::from_static("/unknown/1");

pub fn lines(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        frame::encode(format!("{line}\n").as_bytes(), &mut out);
    }
    out
}

#[track_caller]
pub fn assert_error(error: &UpgradeError, stage: Stage, fault: Fault) {
    assert_eq!((error.stage, error.fault), (stage, fault), "{error}");
}

pub type Secured = Box<dyn Io>;

/// The other side of the link, up to where the muxer is chosen.
pub async fn secure(
    security: Security,
    mut io: Box<dyn Io>,
    role: Role,
    early: &[ProtocolId],
) -> Result<Secured, Box<dyn std::error::Error>> {
    match role {
        Role::Initiator => select::dial(&mut io, vec![security.protocol()]).await?,
        Role::Responder => select::listen(&mut io, |_| Some(security.protocol())).await?,
    };
    let early = early.iter().cloned();
    Ok(match security {
        Security::Noise => {
            let config = noise::Config::new(&keypair(2))?.offering(early);
            Box::new(noise::upgrade(io, role, &config).await?.0)
        }
        Security::Tls => {
            let config = tls::Config::new(&keypair(2))?.offering(early);
            Box::new(tls::upgrade(io, role, &config).await?.0)
        }
        Security::Plaintext => plaintext::upgrade(io, role, &plaintext::Config::new(&keypair(2))).await?.0,
        other => panic!("{other}"),
    })
}

pub async fn secured(security: Security, io: Box<dyn Io>, role: Role, early: &[ProtocolId]) -> Secured {
    secure(security, io, role, early).await.unwrap()
}
