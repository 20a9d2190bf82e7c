//! The node: what users hold, and how it is put together.

mod beside;
mod builder;
pub(crate) mod early;
mod inner;
pub(crate) mod known;
mod open;
mod plan;
mod source;
mod tree;

pub use beside::BesideError;
pub use builder::{AGENT, Builder, StartError};
pub use open::{
    CONNECT_TIMEOUT, ConnectOptions, First, OPEN_TIMEOUT, OpenError, OpenOptions, Optimism, Target,
};
pub use plan::NodeRef;
pub use source::AddressSource;

pub(crate) use inner::{Inner, Ports, STREAM_ACTOR, TransportEntry};
pub(crate) use plan::{Plan, Subscribed, Where};

use std::{
    fmt,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use peerage_core::{Keypair, Multiaddr, PeerId, ProtocolId, PublicKey, budget::Budget};
use peerage_transport::{ListenOpts, Transport, pnet::Fingerprint};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Events, Stream,
    actor::{Gone, Port, TreeSnapshot},
    addresses::{OwnAddress, is_path},
    book, dial, hub,
    hub::ConnInfo,
    limits::{ConnectionId, Usage},
    listen::{self, ListenerId},
    manager::{Keep, TagError},
    protocol::{self, Outcome, ServeOptions},
    registry::{Matcher, ServeError, ServingId},
};

/// A running node: a handle, cheap to clone, usable from every task and every runtime.
///
/// It stops when [`Node::shutdown`] is called or the last clone is dropped; only the former waits until it has
/// stopped.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use peerage_core::Keypair;
/// use peerage_host::Node;
/// use tokio::io::AsyncReadExt;
///
/// let node = Node::builder(Keypair::generate()).listen("/ip4/127.0.0.1/tcp/0")?.start().await?;
/// node.serve("/hello/1", |mut stream, _peer| async move {
///     tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await?;
///     stream.close_write().await
/// })?;
///
/// # let address: peerage_core::Multiaddr = "/ip4/127.0.0.1/tcp/1".parse()?;
/// let peer = node.connect(address).await?.peer;
/// let mut stream = node.open(peer, "/hello/1").await?;
/// let mut answer = String::new();
/// stream.read_to_string(&mut answer).await?;
/// node.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
    /// Stops the node with the last user's clone. What the node itself holds has none.
    _guard: Option<Arc<DropGuard>>,
}

/// Why an address is not listened on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeListenError {
    /// No transport of this node listens on such an address.
    #[error("no transport of this node listens on {0}")]
    Unsupported(Multiaddr),
    /// The node is in a private network, and this transport brings its own security, which the network's key cannot
    /// protect.
    #[error("{0} brings its own security, which a private network does not allow")]
    NotPrivate(Multiaddr),
    /// It could not be bound.
    #[error("{0}")]
    Failed(String),
    /// The node, or the transport's actor, is not running.
    #[error("the node is not running")]
    Closed,
}

/// A listener that was bound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listening {
    /// For [`Node::unlisten`].
    pub id: ListenerId,
    /// Where it is bound; ports are resolved.
    pub addresses: Vec<Multiaddr>,
}

impl Node {
    /// Begins to put a node together. Its identity is `keypair`.
    pub fn builder(keypair: Keypair) -> Builder {
        Builder::new(keypair)
    }

    pub(crate) fn guarded(inner: Arc<Inner>) -> Self {
        let guard = Arc::new(inner.stop.clone().drop_guard());
        Self { inner, _guard: Some(guard) }
    }

    pub(crate) fn unguarded(inner: Arc<Inner>) -> Self {
        Self { inner, _guard: None }
    }

    /// Who this node is.
    pub fn peer_id(&self) -> PeerId {
        self.inner.local
    }

    /// The key that proves it.
    pub fn public_key(&self) -> PublicKey {
        self.inner.keypair.public().clone()
    }

    /// The addresses that this node accepts connections on, without its peer id.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.inner.bound_addresses()
    }

    /// What another node can dial, the peer id at the end: what the user announced, then what listeners are bound to,
    /// loopback last. A wildcard IP stands for the interfaces' addresses; it is never among them itself. Behind the path of
    /// a Unix domain socket no peer id fits, so that one stands alone.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        let with_peer = |address: Multiaddr| {
            if is_path(&address) { Some(address) } else { address.with_peer(self.inner.local).ok() }
        };
        self.inner.lock_own().dialable().into_iter().filter_map(with_peer).collect()
    }

    /// All own addresses that are known, without the peer id: where each came from, whether it was tried, and whether
    /// peers are told of it.
    pub fn own_addresses(&self) -> Vec<OwnAddress> {
        self.inner.lock_own().all()
    }

    /// Listens on one more address, and keeps it bound.
    ///
    /// # Errors
    /// [`NodeListenError`]; the address is not tried again then.
    pub async fn listen(&self, address: Multiaddr) -> Result<Listening, NodeListenError> {
        self.listen_with(address, ListenOpts::default()).await
    }

    /// As [`Node::listen`], with all that can be said about it.
    ///
    /// # Errors
    /// As [`Node::listen`].
    pub async fn listen_with(
        &self,
        address: Multiaddr,
        opts: ListenOpts,
    ) -> Result<Listening, NodeListenError> {
        let transport = self.inner.transport(|transport| transport.listens(&address));
        let transport = transport.ok_or_else(|| NodeListenError::Unsupported(address.clone()))?;
        if self.inner.upgrader.is_private() && transport.object.brings_security() {
            return Err(NodeListenError::NotPrivate(address));
        }
        let id = ListenerId(self.inner.next_listener.fetch_add(1, Ordering::Relaxed));
        // Unless the answer comes, nobody knows of the listener; then there shall be none.
        let unlisten = Unlisten { port: Some(transport.port.clone()), id };
        let asked = transport.port.ask(|reply| listen::Command::Listen { id, address, opts, reply });
        let bound = timeout(LISTEN_TIMEOUT, asked).await.unwrap_or(Err(Gone));
        let addresses = bound.map_err(|_| NodeListenError::Closed)?.map_err(NodeListenError::Failed)?;
        unlisten.defuse();
        Ok(Listening { id, addresses })
    }

    /// Closes a listener. Connections that came through it stay.
    pub async fn unlisten(&self, id: ListenerId) {
        for transport in self.inner.all_transports() {
            let _ = transport.port.tell(listen::Command::Unlisten { id }).await;
        }
    }

    /// Registers a transport on the running node. It is used for dials and listens from the return of this call on.
    pub async fn add_transport(&self, transport: impl Transport) {
        let entry = TransportEntry::new(Arc::new(transport));
        let spec = tree::transport(&self.inner, &entry);
        let arrivals = {
            // The supervisor describes its children under the same lock: it finds the transport among them, or is
            // handed it here, and not both.
            let arrivals = self.inner.lock_arrivals();
            self.inner.transports.write().unwrap_or_else(PoisonError::into_inner).push(entry);
            arrivals.clone()
        };
        if let Some(arrivals) = arrivals {
            let _ = arrivals.send(spec).await;
        }
    }

    /// Adds a source of addresses for dials by peer id.
    pub fn add_address_source(&self, source: impl AddressSource) {
        self.inner.sources.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(source));
    }

    /// Remembers addresses of a peer, for an hour.
    pub async fn add_addresses(&self, peer: PeerId, addresses: impl IntoIterator<Item = Multiaddr>) {
        let addresses = addresses.into_iter().collect();
        let command =
            book::Command::Add { peer, addresses, source: book::Source::Manual, ttl: Some(MANUAL_TTL) };
        let _ = self.inner.ports.book.tell(command).await;
    }

    /// Remembers addresses of a peer for as long as `ttl`, as something that others said and `source` has heard: they are
    /// dialed where a stranger may send this node, as those of an [`AddressSource`] that is hearsay.
    pub async fn remember(
        &self,
        peer: PeerId,
        addresses: impl IntoIterator<Item = Multiaddr>,
        source: &'static str,
        ttl: Duration,
    ) {
        let (addresses, source) = (addresses.into_iter().collect(), book::Source::Other(source));
        let command = book::Command::Add { peer, addresses, source, ttl: Some(ttl) };
        let _ = self.inner.ports.book.tell(command).await;
    }

    /// The fingerprint of the key of the private network that this node is in, if it is in one.
    pub fn private_network(&self) -> Option<Fingerprint> {
        self.inner.upgrader.private_network()
    }

    /// Serves a protocol: `handler` runs for each stream that a peer opens, in a task of its own. Its name matches
    /// exactly; [`Node::serve_with`] also takes prefixes and predicates, and limits.
    ///
    /// A panic in a handler ends its stream, and is charged to the peer. When the connection has ended, its handlers
    /// have 5 s to notice by their streams' errors, and are dropped then. A handler that needs the node holds
    /// [`Node::downgrade`]: a clone would keep the node from ever stopping by itself.
    ///
    /// # Errors
    /// [`ServeError`] if the name is not one, or is served already.
    pub fn serve<H, Fut, O>(&self, protocol: &str, handler: H) -> Result<ServingId, ServeError>
    where
        H: Fn(Stream, PeerId) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
        O: Outcome,
    {
        self.serve_with(ProtocolId::new(protocol)?, ServeOptions::default(), handler)
    }

    /// As [`Node::serve`], with all that can be said about it.
    ///
    /// # Errors
    /// [`ServeError`] if it is served already.
    pub fn serve_with<H, Fut, O>(
        &self,
        matcher: impl Into<Matcher>,
        options: ServeOptions,
        handler: H,
    ) -> Result<ServingId, ServeError>
    where
        H: Fn(Stream, PeerId) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
        O: Outcome,
    {
        let handler = protocol::handler(handler);
        let id = self.inner.registry.add(matcher.into(), options, handler)?;
        self.inner.changed();
        Ok(id)
    }

    /// Serves a protocol no more; streams that are open go on. `false` if it was not served.
    pub fn unserve(&self, id: ServingId) -> bool {
        let removed = self.inner.registry.remove(id);
        if removed {
            self.inner.changed();
        }
        removed
    }

    /// Subscribes to what happens from now on.
    pub fn events(&self) -> Events {
        let first = self.inner.first_event.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (events, ended) = (self.inner.events.subscribe(), self.inner.ended.subscribe());
        Events::new(events, ended, first, self.inner.counters.clone())
    }

    /// The connections that there are.
    pub fn connections(&self) -> Vec<ConnInfo> {
        let live = |(info, ended): (ConnInfo, Option<String>)| ended.is_none().then_some(info);
        self.inner.directory.all().into_iter().filter_map(live).collect()
    }

    /// The peers that this node is connected with, in order.
    pub fn peers(&self) -> Vec<PeerId> {
        let mut peers: Vec<PeerId> = self.connections().into_iter().map(|info| info.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// What the node knows about a peer.
    pub async fn peer(&self, peer: PeerId) -> Option<book::PeerInfo> {
        self.inner.ports.book.ask(|reply| book::Command::Known { peer, reply }).await.ok()?
    }

    /// Closes all connections with a peer; returns how many there were, once they are gone.
    pub async fn disconnect(&self, peer: PeerId) -> usize {
        self.inner.ports.hub.ask(|reply| hub::Command::Disconnect { peer, reply }).await.unwrap_or(0)
    }

    /// Closes all connections with a peer, and refuses it for a while; `Duration::MAX` means for good. The ban of a
    /// peer that provoked too many panics is such a ban.
    pub async fn ban(&self, peer: PeerId, period: Duration) {
        let _ = self.inner.ports.hub.tell(hub::Command::Ban { peer, period }).await;
    }

    /// Ends a ban.
    pub async fn unban(&self, peer: PeerId) {
        let _ = self.inner.ports.hub.tell(hub::Command::Unban { peer }).await;
    }

    /// Keeps a connection from being closed for being idle, or to make room, until what is returned is dropped. `None`
    /// when it is gone.
    pub fn keep(&self, connection: ConnectionId) -> Option<Keep> {
        self.inner.directory.connection(connection).map(|handle| handle.activity.keep())
    }

    /// Protects all connections with a peer, those to come as well, from being closed for being idle or to make room.
    /// Whoever protects does so by a tag of its own: the protection ends with the last tag.
    ///
    /// # Errors
    /// [`TagError`] if there are too many.
    pub fn protect(&self, peer: PeerId, tag: &str) -> Result<(), TagError> {
        self.inner.board.protect(peer, tag)
    }

    /// Takes a protection back; whether another one remains.
    pub fn unprotect(&self, peer: PeerId, tag: &str) -> bool {
        self.inner.board.unprotect(peer, tag)
    }

    /// Whether connections with a peer are protected.
    pub fn is_protected(&self, peer: PeerId) -> bool {
        self.inner.board.is_protected(&peer)
    }

    /// Says what a peer is worth when room has to be made: connections whose peer's values add up to little are closed
    /// first. Without tags it is 0. The same tag again replaces its value.
    ///
    /// # Errors
    /// [`TagError`] if there are too many.
    pub fn tag(&self, peer: PeerId, tag: &str, value: i32) -> Result<(), TagError> {
        self.inner.board.tag(peer, tag, value)
    }

    /// Takes a value back; whether there was one.
    pub fn untag(&self, peer: PeerId, tag: &str) -> bool {
        self.inner.board.untag(peer, tag)
    }

    /// Forgets the addresses of a peer and what it said of itself.
    pub async fn forget(&self, peer: PeerId) {
        let _ = self.inner.ports.book.tell(book::Command::Forget { peer }).await;
    }

    /// The node for those that it holds itself, as handlers are: it does not keep the node running.
    pub fn downgrade(&self) -> NodeRef {
        NodeRef::of(&self.inner)
    }

    /// The tree of actors as it is now; `Display` draws it.
    pub fn tree(&self) -> TreeSnapshot {
        self.inner.kernel.tree.snapshot()
    }

    /// What is in use of the limited resources.
    pub fn usage(&self) -> Usage {
        self.inner.ledger.snapshot()
    }

    /// Where a protocol asks for memory that belongs to no peer, as of messages that it keeps for whoever asks: charged to the
    /// protocol and the node, each within its limit ([`Limits`](crate::Limits)). For what a peer has sent, or makes this node
    /// keep, there is [`Stream::memory`].
    pub fn memory(&self, protocol: &ProtocolId) -> Budget {
        self.inner.ledger.protocol_memory(protocol).budget()
    }

    /// How many times each limit of the [`ledger`](crate::limits) has refused something since the start, by the name
    /// that the refusal gave ([`LimitError::limit`](crate::LimitError)). The dialer's own, of dials under way and of
    /// requests for one dial, are told to the caller and not counted.
    pub fn refusals(&self) -> std::collections::BTreeMap<&'static str, u64> {
        self.inner.ledger.refusals()
    }

    /// What the node counts, as [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/) text. Its content
    /// type is [`CONTENT_TYPE`](crate::metrics::CONTENT_TYPE). No label names a peer.
    #[cfg(feature = "metrics")]
    pub fn metrics(&self) -> String {
        crate::metrics::text(&self.inner)
    }

    /// Stops the node: connections say goodbye, actors end in good order. Returns when it is done: in a second or two, or,
    /// where parts are stuck and are left behind, after 4 s for each of the five groups of actors. What is to be kept is
    /// written before, and its file can be opened again; a disk that hangs is waited for 4 s.
    pub async fn shutdown(&self) {
        if self.inner.store.is_some() {
            let flush = self.inner.ports.book.ask(|reply| book::Command::Flush { reply });
            let _ = timeout(FLUSH_TIMEOUT, flush).await;
        }
        // Posted, not told: a stuck actor must not keep the node from stopping.
        self.inner.ports.dialer.post(dial::Command::ShutDown);
        self.inner.ports.hub.post(hub::Command::ShuttingDown);
        self.inner.stop.cancel();
        self.closed().await;
    }

    /// Waits until the node has ended, for whatever reason, and says which.
    pub async fn closed(&self) -> String {
        let mut ended = self.inner.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Cancelled when the node is told to stop, for tasks that live beside it.
    pub fn stopping(&self) -> CancellationToken {
        self.inner.stop.child_token()
    }
}

/// How long writing what is to be kept may take at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long binding an address may take.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);

struct Unlisten {
    port: Option<Port<listen::Engine<listen::Dial>>>,
    id: ListenerId,
}

impl Unlisten {
    fn defuse(mut self) {
        self.port = None;
    }
}

impl Drop for Unlisten {
    fn drop(&mut self) {
        if let Some(port) = &self.port {
            port.post(listen::Command::Unlisten { id: self.id });
        }
    }
}

/// How long addresses are remembered that the user gave.
const MANUAL_TTL: Duration = Duration::from_secs(60 * 60);

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("peer", &self.inner.local).finish_non_exhaustive()
    }
}
