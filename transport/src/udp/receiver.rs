use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSliceMut},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use quinn::udp::RecvMeta;

use super::{Datagram, socket::Shared};

/// Datagrams that are read at once, where there is no QUIC endpoint to read them.
const BATCH: usize = 8;

/// The kernel may merge as many bytes of one sender.
const MAX_MERGED: usize = 64 * 1024;

/// STUN and DTLS of one socket. There is one at a time, and it has to be polled: without a QUIC endpoint on the socket
/// nobody else reads it.
pub struct Receiver {
    shared: Arc<Shared>,
    /// Made when it is needed: with a QUIC endpoint it never is.
    buffer: Box<[u8]>,
}

impl Receiver {
    pub(super) fn attach(shared: &Arc<Shared>) -> io::Result<Self> {
        if !shared.queue.open() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(Self { shared: Arc::clone(shared), buffer: Box::default() })
    }

    /// The next datagram. Cancel-safe.
    ///
    /// # Errors
    /// The socket is done for.
    pub async fn recv(&mut self) -> io::Result<Datagram> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`Self::recv`].
    ///
    /// # Errors
    /// The socket is done for.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Datagram>> {
        self.shared.queue.watch(cx);
        loop {
            if let Some(datagram) = self.shared.queue.pop() {
                return Poll::Ready(Ok(datagram));
            }
            if self.shared.endpoint.load(Ordering::Acquire) != 0 {
                return Poll::Pending;
            }
            ready!(self.read(cx))?;
        }
    }

    /// Reads a batch into the queue.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BATCH.saturating_mul(MAX_MERGED)].into();
        }
        let mut slices: Vec<_> = self.buffer.chunks_mut(MAX_MERGED).map(IoSliceMut::new).collect();
        let mut metas = [RecvMeta::default(); BATCH];
        let count = ready!(self.shared.poll_recv(cx, &mut slices, &mut metas))?;
        metas.iter().take(count).for_each(|meta| self.shared.throw_away(meta));
        Poll::Ready(Ok(()))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("local", &self.shared.local).finish_non_exhaustive()
    }
}
