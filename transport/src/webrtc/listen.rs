//! The listener's side: one socket for many peers.
//!
//! A task reads what comes to the socket, for as long as there is a listener or a session on it: sessions live on when
//! their listener goes, and would hear nothing from a socket that nobody reads. What the task decides, `callers` says.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use peerage_core::{Multiaddr, Protocol};
use tokio::{sync::mpsc, task::AbortHandle, time::Instant};

use super::{
    callers::{Callers, SessionId, Verdict},
    path::Path,
    transport::Own,
    upgrade,
};
use crate::{
    Link, Listener, ListenerEvent, Unfinished,
    udp::{Datagram, Kind, Receiver, Socket},
};

/// Those who came and were not taken yet; beyond it, who comes has to say hello again.
const BACKLOG: usize = 64;

/// Datagrams that wait for a session; more are lost, as on a network that is full.
const QUEUE: usize = 512;

/// The sockets that are read, by their local address.
#[derive(Clone, Debug, Default)]
pub(super) struct Listening(Arc<Mutex<HashMap<SocketAddr, Weak<Port>>>>);

impl Listening {
    /// A listener on `socket`. Only one at a time; sessions that an earlier one has left are no hindrance.
    pub(super) fn listen(&self, socket: &Socket, own: &Arc<Own>) -> io::Result<Bound> {
        let local = socket.local_addr();
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ports.retain(|_, port| port.strong_count() > 0);
        let port = match ports.get(&local).and_then(Weak::upgrade) {
            Some(port) => port,
            None => {
                let port = Port::open(socket, own)?;
                ports.insert(local, Arc::downgrade(&port));
                port
            }
        };
        let (sender, incoming) = mpsc::channel(BACKLOG);
        let mut state = port.lock();
        if state.incoming.as_ref().is_some_and(|incoming| !incoming.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.incoming = Some(sender);
        drop(state);
        Ok(Bound { incoming, local, own: Arc::clone(own), _port: port })
    }
}

/// A socket that is read.
struct Port {
    socket: Socket,
    own: Arc<Own>,
    state: Mutex<State>,
    /// Shared with the task that reads, so that it is gone when this is, and not when the task gets round to it.
    receiver: Arc<Mutex<Option<Receiver>>>,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    callers: Callers,
    sessions: HashMap<SessionId, mpsc::Sender<Arrived>>,
    incoming: Option<mpsc::Sender<Unfinished>>,
}

/// What came for a session.
#[derive(Debug)]
struct Arrived {
    bytes: Bytes,
    source: SocketAddr,
    /// The address of this side that it came to.
    local: IpAddr,
}

impl Port {
    fn open(socket: &Socket, own: &Arc<Own>) -> io::Result<Arc<Self>> {
        let receiver = Arc::new(Mutex::new(Some(socket.receiver()?)));
        Ok(Arc::new_cyclic(|port| Self {
            socket: socket.clone(),
            own: Arc::clone(own),
            state: Mutex::default(),
            task: tokio::spawn(read(Arc::clone(&receiver), Weak::clone(port))).abort_handle(),
            receiver,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No change has a middle in which something could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(self: &Arc<Self>, datagram: Datagram, now: Instant) {
        let Datagram { kind, bytes, source, local } = datagram;
        let mut state = self.lock();
        let now = now.into_std();
        let verdict = match kind {
            Kind::Stun => state.callers.handle_stun(&bytes, source, now),
            Kind::Dtls => {
                let open = state.incoming.as_ref().is_some_and(|incoming| incoming.capacity() > 0);
                state.callers.handle_dtls(&bytes, source, now, open)
            }
            Kind::Quic => Verdict::Drop,
        };
        let arrived = Arrived { bytes, source, local: local.ip() };
        let answer = match verdict {
            Verdict::Drop => None,
            Verdict::Answer(answer) => Some(answer),
            Verdict::AnswerIn(id, answer) => {
                state.deliver(id, arrived);
                Some(answer)
            }
            Verdict::Deliver(id) => {
                state.deliver(id, arrived);
                None
            }
            Verdict::Begin(id) => {
                self.begin(state, id, arrived);
                None
            }
        };
        if let Some(answer) = answer {
            // Lost if there is no room: it will be asked for again.
            let _ = self.socket.try_send_to(&answer, source, Some(local.ip()).filter(is_specified));
        }
    }

    fn begin(self: &Arc<Self>, mut state: MutexGuard<'_, State>, id: SessionId, first: Arrived) {
        let (sender, arrivals) = mpsc::channel(QUEUE);
        let (remote, local) = (first.source, SocketAddr::new(first.local, self.socket.local_addr().port()));
        state.sessions.insert(id, sender);
        state.deliver(id, first);
        let incoming = state.incoming.clone();
        drop(state);
        let session = Registered { port: Arc::clone(self), id };
        let from = Some(local.ip()).filter(is_specified);
        let path = Accepted { session, arrivals, remote, from, last: None, sending: None };
        let own = Arc::clone(&self.own);
        let link = Unfinished::new(address(local), address(remote), move |opts| {
            upgrade::accept(own, path, (address(local), address(remote)), opts)
        });
        // Dropped, it takes the session with it.
        if let Some(incoming) = incoming {
            let _ = incoming.try_send(link);
        }
    }
}

impl State {
    fn deliver(&mut self, id: SessionId, arrived: Arrived) {
        if let Some(session) = self.sessions.get(&id) {
            // Lost if it does not keep up.
            let _ = session.try_send(arrived);
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.task.abort();
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("local", &self.socket.local_addr()).finish_non_exhaustive()
    }
}

/// Reads the socket, as long as anybody is on it.
async fn read(receiver: Arc<Mutex<Option<Receiver>>>, port: Weak<Port>) {
    loop {
        let datagram = poll_fn(|cx| {
            let mut receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
            receiver.as_mut().map_or(Poll::Ready(None), |receiver| receiver.poll_recv(cx).map(Some))
        });
        let (Some(datagram), Some(port)) = (datagram.await, port.upgrade()) else { return };
        match datagram {
            Ok(datagram) => port.handle(datagram, Instant::now()),
            Err(error) => {
                tracing::warn!(local = %port.socket.local_addr(), %error, "a UDP socket is done for");
                let mut state = port.lock();
                // Ends the listener, and the sessions.
                state.incoming = None;
                state.sessions = HashMap::new();
                return;
            }
        }
    }
}

/// A session's place in the table. Dropping it frees the place.
struct Registered {
    port: Arc<Port>,
    id: SessionId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = self.port.lock();
        state.callers.ended(self.id);
        let sender = state.sessions.remove(&self.id);
        drop(state);
        drop(sender);
    }
}

/// A session's pair of addresses on the shared socket.
pub(super) struct Accepted {
    session: Registered,
    arrivals: mpsc::Receiver<Arrived>,
    remote: SocketAddr,
    from: Option<IpAddr>,
    /// Where the last datagram came from, and to.
    last: Option<(SocketAddr, IpAddr)>,
    sending: Option<BoxFuture<'static, io::Result<()>>>,
}

impl Accepted {
    /// The handshakes are done.
    pub(super) fn established(&self) {
        self.session.port.lock().callers.established(self.session.id);
    }
}

impl Path for Accepted {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match ready!(self.arrivals.poll_recv(cx)) {
            Some(Arrived { bytes, source, local }) => {
                self.last = Some((source, local));
                Poll::Ready(Ok(bytes))
            }
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>> {
        if let Some(sending) = &mut self.sending {
            let result = ready!(sending.as_mut().poll(cx));
            self.sending = None;
            result?;
        }
        let socket = &self.session.port.socket;
        match socket.try_send_to(datagram, self.remote, self.from) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let (socket, datagram) = (socket.clone(), datagram.to_vec());
                let (remote, from) = (self.remote, self.from);
                let sending = async move { socket.send_to(&datagram, remote, from).await };
                let mut sending = sending.boxed();
                if sending.as_mut().poll(cx)?.is_pending() {
                    self.sending = Some(sending);
                }
                Poll::Ready(Ok(()))
            }
            result => Poll::Ready(result),
        }
    }

    fn remote(&self) -> SocketAddr {
        self.remote
    }

    fn confirm(&mut self) {
        if let Some((source, local)) = self.last {
            self.remote = source;
            self.from = Some(local).filter(is_specified);
        }
    }
}

/// What a transport gives out.
pub(super) struct Bound {
    incoming: mpsc::Receiver<Unfinished>,
    local: SocketAddr,
    own: Arc<Own>,
    _port: Arc<Port>,
}

impl Listener for Bound {
    fn addresses(&self) -> Vec<Multiaddr> {
        let named = self.own.certificate.fingerprint.name(address(self.local));
        named.into_iter().collect()
    }

    fn next(&mut self) -> BoxFuture<'_, ListenerEvent> {
        async {
            match self.incoming.recv().await {
                Some(link) => ListenerEvent::Incoming(Link::Unfinished(link)),
                None => ListenerEvent::Failed(io::ErrorKind::NotConnected.into()),
            }
        }
        .boxed()
    }
}

/// `/webrtc-direct`, without a certificate.
pub(super) fn address(socket: SocketAddr) -> Multiaddr {
    let udp = Multiaddr::udp(socket);
    udp.clone().with(Protocol::WebrtcDirect).unwrap_or(udp)
}

fn is_specified(ip: &IpAddr) -> bool {
    !ip.is_unspecified()
}
