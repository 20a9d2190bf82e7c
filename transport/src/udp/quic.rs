//! The side of a socket that quinn has.

use std::{
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;

use super::socket::Shared;

/// A socket as a QUIC endpoint sees it: nothing but QUIC comes from it.
#[derive(Debug)]
pub(crate) struct QuicSocket {
    shared: Arc<Shared>,
    number: u64,
}

impl QuicSocket {
    pub(super) fn attach(shared: &Arc<Shared>) -> io::Result<Self> {
        let number = shared.endpoints.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        match shared.endpoint.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Self { shared: Arc::clone(shared), number }),
            Err(_) => Err(io::ErrorKind::AddrInUse.into()),
        }
    }

    /// Reads no more. The endpoint may still send what it has to say in the end, while the next one reads the socket
    /// already.
    pub(crate) fn retire(&self) {
        let endpoint = &self.shared.endpoint;
        if endpoint.compare_exchange(self.number, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            // Who reads now?
            self.shared.queue.wake();
        }
    }
}

impl Drop for QuicSocket {
    fn drop(&mut self) {
        self.retire();
    }
}

impl AsyncUdpSocket for QuicSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { shared: Arc::clone(&self.shared), waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.shared.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.shared.endpoint.load(Ordering::Acquire) != self.number {
            return Poll::Pending;
        }
        self.shared.poll_recv(cx, buffers, metas)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.shared.local)
    }

    fn max_transmit_segments(&self) -> usize {
        self.shared.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.shared.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.shared.state.may_fragment()
    }
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// One of those who wait until the socket takes datagrams again.
struct Writable {
    shared: Arc<Shared>,
    waiting: Option<Waiting>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It nearly always is, and then nothing has to be allocated to find that out.
        if self.waiting.is_none() && self.shared.io.try_io(Interest::WRITABLE, || Ok(())).is_ok() {
            return Poll::Ready(Ok(()));
        }
        let shared = Arc::clone(&self.shared);
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { shared.io.writable().await }));
        let result = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").field("local", &self.shared.local).finish_non_exhaustive()
    }
}
