use std::{
    collections::HashMap,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::{
    Datagram, Kind, QuicSocket, Receiver,
    kind::sift,
    queue::{Pushed, Queue},
};

/// Bytes that the system is asked to buffer in each direction, of which it gives what it allows: 2 MiB. The usual 200 KiB
/// are less than what arrives within a few milliseconds at the speed of loopback.
pub const BUFFER: usize = 2 * 1024 * 1024;

/// Errors in a row after which a reader lets others go first.
const MAX_ERRORS_AT_ONCE: usize = 64;

/// The UDP sockets of a node, by their local address. Cheap to clone; clones share the sockets, which live as long as
/// somebody has them.
#[derive(Clone, Debug, Default)]
pub struct Sockets(Arc<Mutex<HashMap<SocketAddr, Weak<Shared>>>>);

impl Sockets {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The socket that is bound to `local`, or a new one. Port 0 always makes a new one, on a port that is free. IPv6
    /// sockets carry no IPv4.
    ///
    /// It belongs to the tokio runtime in which this is called, and is of no use when that has ended.
    ///
    /// # Errors
    /// What the operating system says; [`AddrInUse`](io::ErrorKind::AddrInUse) above all.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O.
    pub fn bind(&self, local: SocketAddr) -> io::Result<Socket> {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(|_, socket| socket.strong_count() > 0);
        if let Some(shared) = sockets.get(&local).and_then(Weak::upgrade) {
            return Ok(Socket { shared });
        }
        let shared = Arc::new(Shared::bind(local)?);
        sockets.insert(shared.local, Arc::downgrade(&shared));
        Ok(Socket { shared })
    }
}

/// A bound UDP socket. Cheap to clone; it is closed with the last clone, QUIC endpoint and [`Receiver`].
#[derive(Clone, Debug)]
pub struct Socket {
    pub(super) shared: Arc<Shared>,
}

/// Datagrams that were thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// STUN and DTLS for which the queue had no room.
    pub overflown: u64,
    /// Those of no known kind, and those of a kind for which nobody is there.
    pub junk: u64,
}

impl Socket {
    /// Where it is bound; the port is never 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// What was thrown away so far.
    pub fn counts(&self) -> Counts {
        Counts {
            overflown: self.shared.overflown.load(Ordering::Relaxed),
            junk: self.shared.junk.load(Ordering::Relaxed),
        }
    }

    /// The side for a QUIC endpoint.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if there is one that was not [retired](QuicSocket::retire).
    pub(crate) fn quic(&self) -> io::Result<Arc<QuicSocket>> {
        QuicSocket::attach(&self.shared).map(Arc::new)
    }

    /// The side for STUN and DTLS.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if there is one.
    pub fn receiver(&self) -> io::Result<Receiver> {
        Receiver::attach(&self.shared)
    }

    /// Sends one datagram, as soon as the system takes it. `from` is the address that the peer shall see, on a socket that
    /// is bound to a wildcard; the routing table decides without it.
    ///
    /// # Errors
    /// That the socket is done for. That the datagram is lost (no route, too long) is no error: nobody could tell it
    /// from a loss on the way.
    pub async fn send_to(&self, datagram: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        loop {
            match self.try_send_to(datagram, to, from) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.shared.io.writable().await?,
                result => return result,
            }
        }
    }

    /// As [`Self::send_to`], now or not at all.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the system has no room for it now.
    pub fn try_send_to(&self, datagram: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        let transmit =
            Transmit { destination: to, ecn: None, contents: datagram, segment_size: None, src_ip: from };
        self.shared.try_send(&transmit)
    }
}

/// What everybody who has the socket shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) io: UdpSocket,
    pub(super) state: UdpSocketState,
    pub(super) local: SocketAddr,
    pub(super) queue: Queue,
    /// The number of the QUIC endpoint that reads the socket; 0 if the receiver has to.
    pub(super) endpoint: AtomicU64,
    /// The number of the last one there was.
    pub(super) endpoints: AtomicU64,
    overflown: AtomicU64,
    junk: AtomicU64,
}

impl Shared {
    fn bind(local: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // A socket with smaller buffers works as well, only slower.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        socket.bind(&local.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        let io = UdpSocket::from_std(socket.into())?;
        let local = io.local_addr()?;
        Ok(Self {
            io,
            state,
            local,
            queue: Queue::default(),
            endpoint: AtomicU64::new(0),
            endpoints: AtomicU64::new(0),
            overflown: AtomicU64::new(0),
            junk: AtomicU64::new(0),
        })
    }

    pub(super) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || self.state.send((&self.io).into(), transmit))
    }

    /// Reads what is there, hands on what is not QUIC, and leaves QUIC in the buffers. An error means that the socket is
    /// done for.
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..MAX_ERRORS_AT_ONCE {
            ready!(self.io.poll_recv_ready(cx))?;
            let received =
                self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), buffers, metas));
            match received {
                Ok(count) => {
                    for (buffer, meta) in buffers.iter_mut().zip(metas.iter_mut()).take(count) {
                        self.sift(buffer, meta);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if is_fatal(&error) => return Poll::Ready(Err(error)),
                // Nothing there yet; or word of a datagram sent before, which anybody may forge.
                Err(_) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn sift(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let source = meta.addr;
        let local = meta.dst_ip.map_or(self.local, |ip| SocketAddr::new(ip, self.local.port()));
        sift(buffer, meta, |datagram| self.take(datagram, source, local));
    }

    fn take(&self, datagram: &[u8], source: SocketAddr, local: SocketAddr) {
        let Some(kind) = Kind::of(datagram) else {
            return count(&self.junk);
        };
        let copy = || Datagram { kind, bytes: Bytes::copy_from_slice(datagram), source, local };
        match self.queue.push(copy, datagram.len()) {
            Pushed::Queued => {}
            Pushed::Full => count(&self.overflown),
            Pushed::NobodyThere => count(&self.junk),
        }
    }

    /// QUIC for which there is no endpoint.
    pub(super) fn throw_away(&self, meta: &RecvMeta) {
        if meta.len > 0 {
            self.junk.fetch_add(meta.len.div_ceil(meta.stride.max(1)) as u64, Ordering::Relaxed);
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// That the socket itself is of no use any more.
fn is_fatal(error: &io::Error) -> bool {
    #[cfg(unix)]
    let broken = matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK | libc::EINVAL));
    #[cfg(not(unix))]
    let broken = false;
    broken || matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().expect("an address")
    }

    #[tokio::test]
    async fn an_address_has_one_socket_as_long_as_somebody_has_it() {
        let sockets = Sockets::new();
        let first = sockets.bind(at("127.0.0.1:0")).expect("loopback");
        let other = sockets.bind(at("127.0.0.1:0")).expect("loopback");
        assert_ne!(first.local_addr(), other.local_addr());
        let again = sockets.clone().bind(first.local_addr()).expect("the same");
        assert!(Arc::ptr_eq(&first.shared, &again.shared));
        let stranger = Sockets::new().bind(first.local_addr()).expect_err("bound by somebody else");
        assert_eq!(stranger.kind(), io::ErrorKind::AddrInUse);

        let local = first.local_addr();
        drop((first, again));
        Sockets::new().bind(local).expect("it is free again");
    }

    #[tokio::test]
    async fn an_ipv6_socket_carries_no_ipv4() {
        let six = Sockets::new().bind(at("[::]:0")).expect("loopback");
        let port = six.local_addr().port();
        Sockets::new().bind(SocketAddr::new(at("0.0.0.0:0").ip(), port)).expect("the port is free in IPv4");
    }
}
