//! Where a connection's datagrams go and come from: one pair of addresses.

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::{io::ReadBuf, net::UdpSocket};

/// The longest datagram that is read: no implementation sends longer ones than a packet of Ethernet.
pub(super) const MAX_DATAGRAM: usize = 2048;

/// A pair of addresses, as a driver sees it.
pub(super) trait Path: Send + Unpin + 'static {
    /// The next datagram, or that the socket is done for.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>>;

    /// Sends one, if there is room. That it is lost is no error.
    fn poll_send(&mut self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>>;

    /// Where they are sent to.
    fn remote(&self) -> SocketAddr;

    /// The last datagram that came was the other side's, and nobody else's.
    fn confirm(&mut self) {}
}

/// A dialer's socket, which is for one connection: the system lets nobody else's datagrams through, and tells when
/// nobody is there.
pub(super) struct Dialed {
    socket: UdpSocket,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    buffer: BytesMut,
}

impl Dialed {
    pub(super) async fn connect(remote: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match remote {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0; 16], 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(remote).await?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local, remote, buffer: BytesMut::new() })
    }
}

impl Path for Dialed {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.buffer.resize(MAX_DATAGRAM, 0);
        let mut buf = ReadBuf::new(&mut self.buffer);
        ready!(self.socket.poll_recv(cx, &mut buf))?;
        let len = buf.filled().len();
        Poll::Ready(Ok(self.buffer.split_to(len).freeze()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>> {
        match ready!(self.socket.poll_send(cx, datagram)) {
            Ok(_) => Poll::Ready(Ok(())),
            // Too long for this path, or no buffers: lost.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Poll::Ready(Err(error)),
            Err(_) => Poll::Ready(Ok(())),
        }
    }

    fn remote(&self) -> SocketAddr {
        self.remote
    }
}
