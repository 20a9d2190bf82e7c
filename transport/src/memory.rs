//! `/memory/<port>`: links between nodes of one process, for tests and simulation.
//!
//! Ports belong to a [`Network`], not to the process, so that tests run side by side. Nothing here depends on a clock
//! or on chance: on a paused, single-threaded runtime the same calls give the same ports and the same order.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt, future::BoxFuture};
use peerage_core::Multiaddr;
use tokio::{io::DuplexStream, sync::mpsc, time};

use crate::{
    DialOpts, Link, ListenError, ListenOpts, Listener, ListenerEvent, Raw, Transport, TransportError, address,
};

/// Bytes in flight in each direction of a link; a writer waits beyond it.
pub const PIPE_CAPACITY: usize = 64 * 1024;

/// Links that a listener has not taken yet; a dial waits beyond it, as a full TCP backlog makes it wait.
pub const ACCEPT_BACKLOG: usize = 128;

/// The ports that some nodes share. Cheap to clone; clones are the same network.
#[derive(Clone, Default)]
pub struct Network {
    ports: Arc<Mutex<Ports>>,
}

#[derive(Default)]
struct Ports {
    bound: BTreeMap<u64, mpsc::Sender<Raw>>,
    last: u64,
}

impl Network {
    /// A network on which nobody listens.
    pub fn new() -> Self {
        Self::default()
    }

    /// A transport that dials and listens on this network.
    pub fn transport(&self) -> Memory {
        Memory { network: self.clone() }
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        // No method leaves the map half changed, so a panic elsewhere in a holder's thread says nothing about it.
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bind(&self, wanted: u64) -> io::Result<(u64, mpsc::Receiver<Raw>)> {
        let mut ports = self.ports();
        let port = if wanted == 0 { ports.pick() } else { wanted };
        match ports.bound.entry(port) {
            Entry::Occupied(_) => Err(io::ErrorKind::AddrInUse.into()),
            Entry::Vacant(free) => {
                let (sender, receiver) = mpsc::channel(ACCEPT_BACKLOG);
                free.insert(sender);
                Ok((port, receiver))
            }
        }
    }

    async fn connect(self, port: u64) -> io::Result<Raw> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listener = self.ports().bound.get(&port).cloned().ok_or_else(refused)?;
        // The listener may go while this waits for room.
        let place = listener.reserve().await.map_err(|_| refused())?;
        let own = self.ports().pick();
        let (near, far) = tokio::io::duplex(PIPE_CAPACITY);
        place.send(raw(far, port, own));
        Ok(raw(near, own, port))
    }
}

impl Ports {
    /// A port that nobody listens on, other than 0 and than the last one picked. Counting up keeps a run repeatable.
    fn pick(&mut self) -> u64 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.bound.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

fn raw(io: DuplexStream, local: u64, remote: u64) -> Raw {
    Raw { io: Box::new(io), local: address::memory(local), remote: address::memory(remote), limited: false }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ports().bound.keys()).finish()
    }
}

/// The transport of a [`Network`].
#[derive(Clone, Debug)]
pub struct Memory {
    network: Network,
}

impl Transport for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        address::as_memory(address).is_some_and(|port| port != 0)
    }

    fn listens(&self, address: &Multiaddr) -> bool {
        address::as_memory(address).is_some()
    }

    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        let network = self.network.clone();
        async move {
            let port = address::as_memory(&address)
                .filter(|port| *port != 0)
                .ok_or(TransportError::Unsupported(address))?;
            let raw = time::timeout_at(opts.deadline, network.connect(port))
                .await
                .map_err(|_| TransportError::Timeout)??;
            Ok(Link::Raw(raw))
        }
        .boxed()
    }

    fn listen(
        &self,
        address: Multiaddr,
        _: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        let network = self.network.clone();
        async move {
            let Some(wanted) = address::as_memory(&address) else {
                return Err(ListenError::Unsupported(address));
            };
            let (port, incoming) =
                network.bind(wanted).map_err(|source| ListenError::Bind { address, source })?;
            Ok(Box::new(Bound { network, port, incoming }) as Box<dyn Listener>)
        }
        .boxed()
    }
}

struct Bound {
    network: Network,
    port: u64,
    incoming: mpsc::Receiver<Raw>,
}

impl Listener for Bound {
    fn addresses(&self) -> Vec<Multiaddr> {
        vec![address::memory(self.port)]
    }

    fn next(&mut self) -> BoxFuture<'_, ListenerEvent> {
        async {
            match self.incoming.recv().await {
                Some(raw) => ListenerEvent::Incoming(Link::Raw(raw)),
                // The network holds the sender for as long as this listener lives.
                None => ListenerEvent::Failed(io::ErrorKind::NotConnected.into()),
            }
        }
        .boxed()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Taken out under the lock, dropped after it: dropping the sender wakes whoever waits in `connect`.
        let sender = self.network.ports().bound.remove(&self.port);
        drop(sender);
    }
}
