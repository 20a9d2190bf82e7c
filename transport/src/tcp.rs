//! `/ip4/<a>/tcp/<p>` and `/ip6/<a>/tcp/<p>`.
//!
//! Addresses are literal here; names are resolved above. An IPv4 address in IPv6's clothes (`::ffff:a.b.c.d`) is not
//! accepted, because it would pass by whatever filters addresses by family; IPv6 sockets are v6-only for the same
//! reason.
//!
//! Nothing is spawned: listening sockets register with the runtime on which a future of this module is first polled, and
//! connections with the one on which they are first used.

mod accept;
mod movable;
mod port;
mod proxy;
mod reuse;
#[cfg(target_os = "linux")]
mod send_buffer;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use futures::{FutureExt, future::BoxFuture};
use peerage_core::Multiaddr;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time,
};

#[cfg(unix)]
pub(crate) use self::accept::{Accepting, Failure, Socket as Accepts, classify};
pub(crate) use self::port::{Accepted, Kind, Serve};
pub use self::proxy::{BadProxy, MAX_ANSWER_LEN, MAX_CREDENTIAL_LEN, Proxy, ProxyError};
use self::{movable::Movable, port::Ports, reuse::ReusePorts};
use crate::{
    DialOpts, Io, Link, ListenError, ListenOpts, Listener, Raw, Transport, TransportError, address, websocket,
};

/// Connections that the operating system keeps for a listener that is not accepting just now. (It may cap this
/// further: `net.core.somaxconn` on Linux.)
pub const LISTEN_BACKLOG: i32 = 1024;

/// The TCP transport. Clones share the ports that they listen on, and that dials may reuse.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    ports: Ports,
    reuse: ReusePorts,
    proxy: Option<Arc<Proxy>>,
}

impl Tcp {
    /// A transport without listeners.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has every dial go through a proxy; from which port it goes out is then the proxy's to choose. Listening is as it was.
    #[must_use]
    pub fn through(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(Arc::new(proxy));
        self
    }

    /// Opens a connection, by the options' deadline.
    pub(crate) async fn connect(
        &self,
        remote: SocketAddr,
        opts: &DialOpts,
    ) -> Result<Connected, TransportError> {
        let source = if opts.reuse_listen_port { self.reuse.source_for(remote) } else { None };
        let connecting = async {
            let Some(proxy) = &self.proxy else {
                return Ok(connect(remote, source).await?);
            };
            let mut stream = connect(proxy.server(), None).await.map_err(ProxyError::from)?;
            proxy.lead(&mut stream, remote).await?;
            Ok::<_, TransportError>(stream)
        };
        let stream =
            time::timeout_at(opts.deadline, connecting).await.map_err(|_| TransportError::Timeout)??;
        Ok(Connected::new(stream, remote)?)
    }

    /// Serves `kind` at an address, on the socket of other kinds if there is one. `name` is how the listener's address
    /// is written.
    pub(crate) fn serve(
        &self,
        wanted: SocketAddr,
        opts: &ListenOpts,
        kind: Kind,
        serve: Serve,
        name: impl FnOnce(SocketAddr) -> Multiaddr,
    ) -> io::Result<Box<dyn Listener>> {
        let reuse = opts.reuse_port.then_some(&self.reuse);
        Ok(self.ports.bind(wanted, kind, serve, reuse)?.listener(name))
    }
}

impl Transport for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        dialable(address).is_some()
    }

    fn listens(&self, address: &Multiaddr) -> bool {
        address::as_tcp(address).is_some()
    }

    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        let this = self.clone();
        async move {
            let remote = dialable(&address).ok_or(TransportError::Unsupported(address))?;
            Ok(Link::Raw(this.connect(remote, &opts).await?.into_raw()))
        }
        .boxed()
    }

    fn listen(
        &self,
        address: Multiaddr,
        opts: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        let this = self.clone();
        async move {
            let Some(wanted) = address::as_tcp(&address) else {
                return Err(ListenError::Unsupported(address));
            };
            let bound = this.serve(wanted, &opts, Kind::Plain, Arc::new(plain), Multiaddr::tcp);
            bound.map_err(|source| ListenError::Bind { address, source })
        }
        .boxed()
    }
}

/// Where a dial to `address` goes. Port 0 and the unspecified address mean "choose one" to a listener and nothing to
/// a dialer.
fn dialable(address: &Multiaddr) -> Option<SocketAddr> {
    address::as_tcp(address).filter(|to| to.port() != 0 && !to.ip().is_unspecified())
}

async fn connect(remote: SocketAddr, source: Option<SocketAddr>) -> io::Result<TcpStream> {
    if let Some(source) = source {
        match connect_from(remote, Some(source)).await {
            // The pair of ports is taken, by a connection that is open or has just been, or this process may not bind
            // the port a second time. A connection from another port is worth more than none.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AddrInUse
                        | io::ErrorKind::AddrNotAvailable
                        | io::ErrorKind::PermissionDenied
                ) =>
            {
                tracing::debug!(%remote, %source, %error, "dialing from another port than the listener's");
            }
            result => return result,
        }
    }
    connect_from(remote, None).await
}

async fn connect_from(remote: SocketAddr, source: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = socket(remote)?;
    if let Some(source) = source {
        allow_reuse(&socket)?;
        socket.bind(&source.into())?;
    }
    let stream = TcpSocket::from_std_stream(socket.into()).connect(remote).await?;
    // A dial to a port of this machine that is its own source port meets itself (TCP's simultaneous open), and would
    // hear its own words as the peer's.
    if stream.local_addr()? == stream.peer_addr()? {
        let kind = match source {
            Some(_) => io::ErrorKind::AddrNotAvailable,
            None => io::ErrorKind::ConnectionRefused,
        };
        return Err(kind.into());
    }
    Ok(stream)
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    if reuse_port && address.port() != 0 {
        // Sockets that share their port share it with every one that does. Two listeners would each get a part of what
        // comes in, and none would know; so it is asked first whether somebody is there.
        let alone = socket(address)?;
        #[cfg(unix)]
        alone.set_reuse_address(true)?;
        alone.bind(&address.into())?;
    }
    let socket = socket(address)?;
    if reuse_port {
        allow_reuse(&socket)?;
    }
    // Elsewhere than on Unix, this would let another program take the port over. On Unix it only lets a listener
    // that is started again have its port while old connections time out.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A non-blocking socket of the address's family.
fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Lets a listener and dials share one local port. A listener that is bound without this admits nobody beside it, so
/// every socket that may be shared has to say so from the start.
#[cfg_attr(not(unix), allow(clippy::unnecessary_wraps, unused_variables))]
fn allow_reuse(socket: &Socket) -> io::Result<()> {
    #[cfg(unix)]
    {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    Ok(())
}

/// A connection, with its two ends.
pub(crate) struct Connected {
    pub(crate) stream: Movable,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

impl Connected {
    fn new(stream: TcpStream, remote: SocketAddr) -> io::Result<Self> {
        // Frames are written whole and ping-pong; waiting to merge them only adds latency. A socket that is already dead
        // may refuse, and says so again at the first read.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%remote, %error, "cannot set TCP_NODELAY");
        }
        let local = stream.local_addr()?;
        let far = !local.ip().is_loopback() && local.ip() != remote.ip();
        Ok(Self { stream: Movable::new(stream, far), local, remote })
    }

    fn into_raw(self) -> Raw {
        let Self { stream, local, remote } = self;
        raw(Box::new(stream), local, remote)
    }
}

fn raw(io: Box<dyn Io>, local: SocketAddr, remote: SocketAddr) -> Raw {
    Raw { io, local: Multiaddr::tcp(local), remote: Multiaddr::tcp(remote), limited: false }
}

/// Nothing has to be opened.
fn plain(Accepted { io, local, remote }: Accepted) -> BoxFuture<'static, Result<Raw, websocket::Error>> {
    std::future::ready(Ok(raw(io, local, remote))).boxed()
}

/// The unspecified address of the same family.
fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_of_one_family() {
        let six = socket("[::1]:0".parse().unwrap()).unwrap();
        assert!(six.only_v6().unwrap());
        let four = socket("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(four.domain().unwrap(), Domain::IPV4);
    }
}
