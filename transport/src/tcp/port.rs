//! Listening sockets, and what is served on them.
//!
//! Plain TCP, WebSocket and WebSocket over TLS may share a port: each has a listener of its own, all of them accept from the
//! one socket, and what comes is told apart by its first byte, which a client of each kind sends before it expects
//! anything. It is looked at when the connection is upgraded, by the time and in the place that every upgrade has, and so
//! nobody who waits in silence holds up anybody.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{FutureExt as _, future::BoxFuture};
use peerage_core::Multiaddr;
use peerage_muxer::Outflow;
use tokio::{net::TcpListener, sync, time};

use super::{
    Connected,
    accept::Accepting,
    bind,
    movable::Movable,
    reuse::{Lease, ReusePorts},
};
use crate::{
    Io, Link, Listener, ListenerEvent, Opening, Raw,
    websocket::{Error, OPENING_TIMEOUT},
};

/// The first byte of a TLS client (RFC 8446, section 5.1: a handshake record).
const TLS_HANDSHAKE: u8 = 0x16;

/// What a listener serves.
#[cfg_attr(not(feature = "websocket"), allow(dead_code, reason = "plain TCP is all there is"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Http,
    Tls,
}

/// What turns an accepted socket into a link.
pub(crate) type Serve = Arc<dyn Fn(Accepted) -> BoxFuture<'static, Result<Raw, Error>> + Send + Sync>;

/// A socket whose other end came to this node.
pub(crate) struct Accepted {
    /// What it takes is counted already.
    pub(crate) io: Box<dyn Io>,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// The ports that the listeners of some transports are on.
#[derive(Clone, Default)]
pub(super) struct Ports(Arc<Mutex<Vec<Weak<Port>>>>);

/// One listening socket.
struct Port {
    local: SocketAddr,
    /// Whoever accepts holds it until somebody came; those who wait get it in the order in which they came.
    accepting: sync::Mutex<Accepting<TcpListener>>,
    served: Mutex<Served>,
    /// It accepts nobody any more.
    failed: AtomicBool,
    /// Ends with the socket: after that, dials cannot rely on the port.
    _lease: Option<Lease>,
}

#[derive(Clone, Default)]
struct Served {
    plain: Option<Serve>,
    http: Option<Serve>,
    tls: Option<Serve>,
}

impl Ports {
    /// Serves `kind` at an address: on the socket that is bound there for other kinds, or on one of its own.
    pub(super) fn bind(
        &self,
        wanted: SocketAddr,
        kind: Kind,
        serve: Serve,
        reuse: Option<&ReusePorts>,
    ) -> io::Result<Place> {
        let mut ports = self.lock();
        ports.retain(|port| port.strong_count() > 0);
        let there =
            ports.iter().filter_map(Weak::upgrade).find(|port| port.local == wanted && !port.has_failed());
        let port = match there {
            Some(port) => port,
            None => {
                let socket = bind(wanted, reuse.is_some())?;
                let local = socket.local_addr()?;
                let port = Arc::new(Port {
                    local,
                    accepting: sync::Mutex::new(Accepting::new(socket)),
                    served: Mutex::default(),
                    failed: AtomicBool::new(false),
                    _lease: reuse.map(|reuse| reuse.lease(local)),
                });
                ports.push(Arc::downgrade(&port));
                port
            }
        };
        let mut served = port.served();
        let place = served.of(kind);
        if place.is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        *place = Some(serve);
        drop(served);
        Ok(Place { port, kind })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Port>>> {
        // Every change is one push or one removal: a panic cannot leave half of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.lock().iter().filter_map(Weak::upgrade).map(|port| port.local).collect::<Vec<_>>();
        f.debug_set().entries(ports).finish()
    }
}

impl Port {
    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    async fn next(&self) -> ListenerEvent {
        let accepted = self.accepting.lock().await.next().await;
        match accepted {
            Ok(connected) => ListenerEvent::Incoming(self.served().clone().link(connected)),
            Err(event) => {
                if matches!(event, ListenerEvent::Failed(_)) {
                    self.failed.store(true, Ordering::Relaxed);
                }
                event
            }
        }
    }
}

impl Served {
    fn of(&mut self, kind: Kind) -> &mut Option<Serve> {
        match kind {
            Kind::Plain => &mut self.plain,
            Kind::Http => &mut self.http,
            Kind::Tls => &mut self.tls,
        }
    }

    /// Where only plain TCP is served there is nothing to find out.
    fn link(self, connected: Connected) -> Link {
        if self.http.is_none() && self.tls.is_none() {
            return Link::Raw(connected.into_raw());
        }
        let Connected { stream, local, remote } = connected;
        let (near, far) = (Multiaddr::tcp(local), Multiaddr::tcp(remote));
        Link::Opening(Opening::new(near, far, move |outflow| {
            self.open(stream, local, remote, outflow).boxed()
        }))
    }

    async fn open(
        self,
        mut stream: Movable,
        local: SocketAddr,
        remote: SocketAddr,
        outflow: Outflow,
    ) -> Result<Raw, Error> {
        let opening = async {
            let serve = self.choose(&mut stream).await?;
            serve(Accepted { io: Box::new(outflow.watch(stream)), local, remote }).await
        };
        time::timeout(OPENING_TIMEOUT, opening).await.unwrap_or(Err(Error::Timeout))
    }

    async fn choose(self, stream: &mut Movable) -> Result<Serve, Error> {
        let alone = match (&self.plain, &self.http, &self.tls) {
            (Some(one), None, None) | (None, Some(one), None) | (None, None, Some(one)) => Some(one),
            _ => None,
        };
        if let Some(alone) = alone {
            return Ok(alone.clone());
        }
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(Error::Ended);
        }
        self.by_first_byte(first).ok_or(Error::Unexpected)
    }

    /// A TLS handshake, or the capital that a method of HTTP begins with. Everything else is left to multistream-select,
    /// which begins with the length of a line, or refused.
    fn by_first_byte(self, first: [u8; 1]) -> Option<Serve> {
        match first {
            [TLS_HANDSHAKE] if self.tls.is_some() => self.tls,
            [b'A'..=b'Z'] if self.http.is_some() => self.http,
            _ => self.plain,
        }
    }
}

/// A listener's place on a port. The socket is closed with the last one.
pub(super) struct Place {
    port: Arc<Port>,
    kind: Kind,
}

impl Place {
    /// Listens there; `address` says where that is.
    pub(super) fn listener(self, address: impl FnOnce(SocketAddr) -> Multiaddr) -> Box<dyn Listener> {
        let address = address(self.port.local);
        Box::new(Bound { place: self, address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.port.served().of(self.kind) = None;
    }
}

/// Whatever is served on the port, each of its listeners yields what comes.
struct Bound {
    place: Place,
    address: Multiaddr,
}

impl Listener for Bound {
    fn addresses(&self) -> Vec<Multiaddr> {
        vec![self.address.clone()]
    }

    fn next(&mut self) -> BoxFuture<'_, ListenerEvent> {
        self.place.port.next().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(plain: bool, http: bool, tls: bool) -> Served {
        let serve = |local: u16| -> Option<Serve> {
            Some(Arc::new(move |_| {
                let at = Multiaddr::tcp(SocketAddr::from(([127, 0, 0, 1], local)));
                let io = Box::new(tokio::io::duplex(1).0);
                async { Ok(Raw { io, local: at.clone(), remote: at, limited: false }) }.boxed()
            }))
        };
        Served {
            plain: serve(1).filter(|_| plain),
            http: serve(2).filter(|_| http),
            tls: serve(3).filter(|_| tls),
        }
    }

    /// Which one it is: 1 plain, 2 HTTP, 3 TLS.
    fn chosen(served: Served, first: u8) -> Option<u16> {
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let serve = served.by_first_byte([first])?;
        let io = Box::new(tokio::io::duplex(1).0);
        let raw = serve(Accepted { io, local: at, remote: at }).now_or_never()?.ok()?;
        Some(raw.local.socket_addr()?.addr.port())
    }

    #[test]
    fn the_first_byte_decides_among_what_is_served() {
        for first in 0..=u8::MAX {
            let expected = match first {
                0x16 => 3,
                b'A'..=b'Z' => 2,
                _ => 1,
            };
            assert_eq!(chosen(served(true, true, true), first), Some(expected), "{first:#x}");
        }
        assert_eq!(chosen(served(true, true, false), 0x16), Some(1), "multistream-select says what is wrong");
        assert_eq!(chosen(served(false, true, true), 0x13), None);
        assert_eq!(chosen(served(true, false, true), b'G'), Some(1));
    }
}
