//! UDP sockets with a QUIC endpoint on each: those that are listened on, and one for each family to dial from.

use std::{
    collections::BTreeMap,
    fmt, io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
};

use futures::{FutureExt as _, StreamExt as _, future::poll_fn, stream::FuturesUnordered, task::AtomicWaker};
use quinn::{Connecting, Endpoint, EndpointConfig, ServerConfig};
use tokio::sync::watch;

use super::{
    Config,
    config::Reach,
    contained::{Contained, Panic, contain},
    runtime::Runtime,
};
use crate::udp::{QuicSocket, Sockets};

/// A socket and its endpoint. It lives as long as a listener, a connection, or the transport (if it is for dials) has it;
/// the endpoint then says its last words and is gone.
pub(super) struct Port {
    pub(super) endpoint: Endpoint,
    pub(super) local: SocketAddr,
    socket: Arc<QuicSocket>,
    runtime: Arc<Runtime>,
    /// Taken while a connection begins, so that each gets its own driver.
    beginning: Mutex<()>,
    listening: AtomicBool,
    /// Closed with the endpoint's driver.
    alive: watch::Receiver<()>,
    leaving: Arc<Leaving>,
}

/// Connections that nobody waits for on their way out, at once. How long each takes is up to its round-trip time, and so
/// to the peer; for further ones their owners wait, who hold their places in the limits.
const MAX_LEAVING: usize = 256;

/// Connections that were closed, or dropped in the middle: the endpoint's task lets them say goodbye.
#[derive(Default)]
struct Leaving {
    drivers: Mutex<Vec<Contained>>,
    /// Those and the ones that the task has taken.
    count: AtomicUsize,
    task: AtomicWaker,
}

impl Leaving {
    fn has_time(&self) -> bool {
        self.count.load(Ordering::Acquire) < MAX_LEAVING
    }

    fn add(&self, driver: Contained) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner).push(driver);
        self.task.wake();
    }

    fn take(&self) -> Vec<Contained> {
        mem::take(&mut self.drivers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Port {
    /// Binds, and starts the one task that there is for each socket: it reads the datagrams and tells them apart by
    /// connection. It ends with the port, once its connections have ended.
    fn open(sockets: &Sockets, local: SocketAddr, config: &Config) -> io::Result<Arc<Self>> {
        let socket = sockets.bind(local)?;
        let local = socket.local_addr();
        let socket = socket.quic()?;
        let runtime = Arc::new(Runtime::default());
        let endpoint = Endpoint::new_with_abstract_socket(
            endpoint_config(config, Reach::of(local.ip()))?,
            None,
            Arc::clone(&socket) as _,
            Arc::clone(&runtime) as _,
        )?;
        let driver = runtime.take().ok_or_else(|| io::Error::other("an endpoint without a driver"))?;
        let (lives, alive) = watch::channel(());
        let leaving = Arc::new(Leaving::default());
        let port = Arc::new(Self {
            endpoint,
            local,
            socket,
            runtime,
            beginning: Mutex::new(()),
            listening: AtomicBool::new(false),
            alive,
            leaving: Arc::clone(&leaving),
        });
        let weak = Arc::downgrade(&port);
        tokio::spawn(async move {
            if run(Contained::new(driver), &leaving).await.is_err() {
                tracing::error!(%local, "the QUIC endpoint panicked; its connections end");
                if let Some(port) = weak.upgrade() {
                    port.write_off();
                }
            }
            drop(lives);
        });
        Ok(port)
    }

    /// Begins a connection, and gives its driver with it.
    pub(super) fn begin<E>(
        &self,
        begin: impl FnOnce(&Endpoint) -> Result<Connecting, E>,
    ) -> Result<(Connecting, Option<Contained>), E> {
        let _turn = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        let connecting = begin(&self.endpoint)?;
        Ok((connecting, self.runtime.take().map(Contained::new)))
    }

    /// How far what is sent from here goes.
    pub(super) fn reach(&self) -> Reach {
        Reach::of(self.local.ip())
    }

    /// Whether one more may be left to [`Port::see_off`].
    pub(super) fn has_time(&self) -> bool {
        self.leaving.has_time()
    }

    /// Drives a connection that was closed and has nobody else any more, until it has told the peer, and has answered with
    /// the same what was still under way (RFC 9000, section 10.2).
    pub(super) fn see_off(&self, driver: Contained) {
        if self.is_over() {
            return;
        }
        self.leaving.add(driver);
    }

    /// Whether the endpoint ended although the port is still there.
    pub(super) fn is_over(&self) -> bool {
        self.alive.has_changed().is_err()
    }

    /// Waits until the endpoint ends.
    pub(super) fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut alive = self.alive.clone();
        async move { while alive.changed().await.is_ok() {} }
    }

    /// Accepts nobody any more. Connections live on.
    pub(super) fn stop_listening(&self) {
        if !self.is_over() {
            self.endpoint.set_server_config(None);
        }
        self.listening.store(false, Ordering::Release);
    }

    /// After a panic in it: the next endpoint may have the socket, and nothing of this one is touched again.
    fn write_off(&self) {
        self.socket.retire();
        // The last handle's destructor would take a poisoned lock; so it never is the last.
        mem::forget(self.endpoint.clone());
    }

    fn suits(&self, remote: SocketAddr) -> bool {
        self.local.is_ipv4() == remote.is_ipv4()
            && (self.local.ip().is_unspecified()
                || self.local.ip().is_loopback() == remote.ip().is_loopback())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Who binds the address now gets a socket that is read by nobody else.
        self.socket.retire();
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("local", &self.local).finish_non_exhaustive()
    }
}

/// The task: the endpoint, and those who are leaving.
async fn run(mut endpoint: Contained, leaving: &Leaving) -> Result<(), Panic> {
    let mut last_words = FuturesUnordered::new();
    poll_fn(|cx| {
        leaving.task.register(cx.waker());
        last_words.extend(leaving.take());
        while let Poll::Ready(Some(_)) = last_words.poll_next_unpin(cx) {
            leaving.count.fetch_sub(1, Ordering::AcqRel);
        }
        endpoint.poll_unpin(cx)
    })
    .await
}

fn endpoint_config(config: &Config, reach: Reach) -> io::Result<EndpointConfig> {
    let mut endpoint = EndpointConfig::default();
    endpoint.supported_versions(vec![1]);
    // STUN and DTLS, which may come to the same socket, are told from QUIC by the bit that this would let peers change.
    endpoint.grease_quic_bit(false);
    endpoint.max_udp_payload_size(config.largest_packet(reach)).map_err(io::Error::other)?;
    Ok(endpoint)
}

/// All ports of a transport.
#[derive(Debug)]
pub(super) struct Ports {
    sockets: Sockets,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    listened: Vec<Weak<Port>>,
    /// By the address that they are bound to, which tells the family, and loopback from the rest.
    dialing: BTreeMap<IpAddr, Arc<Port>>,
}

impl Ports {
    pub(super) fn new(sockets: Sockets) -> Self {
        Self { sockets, known: Mutex::default() }
    }

    /// Binds `local` and accepts there. A port on which connections of a former listener still live goes on.
    pub(super) fn listen(
        &self,
        local: SocketAddr,
        config: &Config,
        server: ServerConfig,
    ) -> io::Result<Arc<Port>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.listened.retain(|port| port.strong_count() > 0);
        let there = known.listened().find(|port| port.local == local);
        let port = match there {
            Some(port) => port,
            None => {
                let port = Port::open(&self.sockets, local, config)?;
                known.listened.push(Arc::downgrade(&port));
                port
            }
        };
        if port.listening.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        port.endpoint.set_server_config(Some(server));
        Ok(port)
    }

    /// From where to dial `remote`: where this transport listens, if it does so in the same network and `reuse` is
    /// wanted; else from a port that all such dials share.
    pub(super) fn dial(&self, remote: SocketAddr, reuse: bool, config: &Config) -> io::Result<Arc<Port>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let suits = |port: &Arc<Port>| port.listening.load(Ordering::Acquire) && port.suits(remote);
        if reuse && let Some(port) = known.listened().find(suits) {
            return Ok(port);
        }
        let own = match (remote.ip(), Reach::of(remote.ip())) {
            (IpAddr::V4(_), Reach::Network) => Ipv4Addr::UNSPECIFIED.into(),
            (IpAddr::V4(_), Reach::Machine) => Ipv4Addr::LOCALHOST.into(),
            (IpAddr::V6(_), Reach::Network) => Ipv6Addr::UNSPECIFIED.into(),
            (IpAddr::V6(_), Reach::Machine) => Ipv6Addr::LOCALHOST.into(),
        };
        if let Some(port) = known.dialing.get(&own).filter(|port| !port.is_over()) {
            return Ok(Arc::clone(port));
        }
        let port = Port::open(&self.sockets, SocketAddr::new(own, 0), config)?;
        known.dialing.insert(own, Arc::clone(&port));
        Ok(port)
    }
}

impl Known {
    fn listened(&self) -> impl Iterator<Item = Arc<Port>> + '_ {
        self.listened.iter().filter_map(Weak::upgrade).filter(|port| !port.is_over())
    }
}

/// Somebody who came and was not answered yet. Dropped, it is refused.
pub(super) struct Guest {
    incoming: Option<quinn::Incoming>,
    pub(super) port: Arc<Port>,
}

impl Guest {
    pub(super) fn new(incoming: quinn::Incoming, port: Arc<Port>) -> Self {
        Self { incoming: Some(incoming), port }
    }

    pub(super) fn admit(mut self) -> Option<quinn::Incoming> {
        self.incoming.take()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let incoming = self.incoming.take();
        if self.port.is_over() {
            // There is nobody to refuse for, and maybe a poisoned lock.
            return mem::forget(incoming);
        }
        contain(|| drop(incoming));
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, channel::oneshot};

    use super::*;

    #[test]
    fn so_many_may_leave_at_once_and_each_that_has_left_makes_room() {
        let leaving = Leaving::default();
        let mut task = Box::pin(run(Contained::new(Box::pin(std::future::pending())), &leaving));
        let mut ends = Vec::new();
        for _ in 0..MAX_LEAVING {
            assert!(leaving.has_time());
            let (end, ended) = oneshot::channel::<()>();
            leaving.add(Contained::new(Box::pin(ended.map(drop))));
            ends.push(end);
            // Whether the task has taken it or not.
            assert!((&mut task).now_or_never().is_none());
        }
        assert!(!leaving.has_time());
        drop(ends.pop());
        assert!((&mut task).now_or_never().is_none());
        assert!(leaving.has_time());
    }
}
