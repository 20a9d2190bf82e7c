#[cfg(feature = "store")]
use std::path::PathBuf;
use std::{
    io,
    net::IpAddr,
    sync::{Arc, Mutex, RwLock, atomic::AtomicU64},
    thread::available_parallelism,
    time::Duration,
};

use peerage_core::{Keypair, Multiaddr};
#[cfg(feature = "websocket")]
use peerage_transport::websocket::{self, WebSocket};
use peerage_transport::{
    Transport, Upgrader,
    dns::{self, Resolver},
    pnet::{self, PreSharedKey},
    tcp::{Proxy, Tcp},
    upgrade::{self as upgrades, KeyExchange, MuxerKind, Security},
};
#[cfg(feature = "quic")]
use peerage_transport::{
    quic::{self, Quic},
    udp::Sockets,
};
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::{AddressSource, Inner, Node, Plan, Ports, TransportEntry, early, inner, known, tree};
#[cfg(feature = "store")]
use crate::store::{self, FileStore};
use crate::{
    Event,
    actor::{Clock, Faults, Kernel, Notice, Nursery, Port, Surroundings, Workers},
    addresses::{Filter, Interfaces, List, Table},
    book, conn,
    counters::Counters,
    events,
    gater::{Gater, Gaters},
    hub, identify,
    limits::{Ledger, Limits},
    manager, ping,
    protocol::{Protocol, Registrar},
    registry::Registry,
    store::{Shared, Store},
};

/// Puts a node together. Conditional parts are plain `if`s: there are no phases.
pub struct Builder {
    keypair: Keypair,
    agent: String,
    listen: Vec<Multiaddr>,
    transports: Option<Vec<Arc<dyn Transport>>>,
    #[cfg(feature = "websocket")]
    websocket: websocket::Config,
    proxy: Option<Proxy>,
    security: Vec<Security>,
    muxers: Vec<MuxerKind>,
    key_exchange: KeyExchange,
    private_network: Option<PreSharedKey>,
    limits: Option<Limits>,
    gaters: Gaters,
    policy: Option<manager::Policy>,
    workers: Option<usize>,
    linger: Duration,
    faults: Option<Faults>,
    sources: Vec<Arc<dyn AddressSource>>,
    resolver: Arc<dyn Resolver>,
    interfaces: List,
    store: Option<Keep>,
    announce: Vec<Multiaddr>,
    no_announce: Vec<Filter>,
    plan: Plan,
}

/// Where what a node remembers is kept.
enum Keep {
    #[cfg(feature = "store")]
    File(PathBuf),
    Store(Shared),
}

/// How long a worker looks for the next message of a conversation, unless told otherwise.
const LINGER: Duration = Duration::from_micros(200);

/// What a node calls itself in identify, unless told otherwise.
pub const AGENT: &str = concat!("peerage/", env!("CARGO_PKG_VERSION"));

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What stood in the way.
        why: String,
    },
    /// Two protocols have the same name, or serve the same protocol id.
    #[error("two protocols clash: {0}")]
    Clash(String),
    /// The environment forbids nodes without the key of a private network.
    #[error("{} is set, and this node has no pre-shared key", pnet::FORCE)]
    NoPrivateNetwork,
    /// Plaintext was configured beside a protocol that secures something, which it would nullify.
    #[error("plaintext cannot be offered beside other security protocols")]
    Plaintext,
    /// The store cannot be used; the file is as it was.
    #[cfg(feature = "store")]
    #[error("cannot keep the peer book in {}: {why}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What stood in the way.
        why: store::OpenError,
    },
    /// The operating system gave no thread.
    #[error("cannot start a worker thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Builder {
    pub(crate) fn new(keypair: Keypair) -> Self {
        Self {
            keypair,
            agent: AGENT.to_owned(),
            listen: Vec::new(),
            transports: None,
            #[cfg(feature = "websocket")]
            websocket: websocket::Config::default(),
            proxy: None,
            security: Security::DEFAULT.to_vec(),
            muxers: MuxerKind::ALL.to_vec(),
            key_exchange: KeyExchange::default(),
            private_network: None,
            limits: None,
            gaters: Gaters::default(),
            policy: None,
            workers: None,
            linger: LINGER,
            faults: None,
            sources: Vec::new(),
            resolver: Arc::new(dns::System::new()),
            interfaces: Interfaces::system(),
            store: None,
            announce: Vec::new(),
            no_announce: Vec::new(),
            plan: Plan::default(),
        }
    }

    /// Listens on an address; repeatable. A port of 0 lets the system choose. Without any, the node only dials.
    ///
    /// # Errors
    /// If `address` is not a multiaddr.
    pub fn listen<A>(mut self, address: A) -> Result<Self, A::Error>
    where
        A: TryInto<Multiaddr>,
    {
        self.listen.push(address.try_into()?);
        Ok(self)
    }

    /// Adds a protocol, and hands its handle back beside the builder. Identify and ping are part of every node;
    /// adding them by hand is for their handles and settings.
    #[must_use]
    pub fn with<P: Protocol>(mut self, protocol: P) -> (Self, P::Handle) {
        let name = protocol.name();
        self.plan.names.push(name.clone());
        let handle = protocol.register(&mut Registrar { name, keypair: &self.keypair, plan: &mut self.plan });
        (self, handle)
    }

    /// Sets the name and version that identify tells. Default: [`AGENT`].
    #[must_use]
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = agent.into();
        self
    }

    /// Adds a transport. Default, if none is added: tcp and websocket, which share ports outside of private networks,
    /// QUIC and webrtc-direct, which share theirs, and Unix domain sockets where there are any. QUIC and
    /// webrtc-direct are left out if there is a [proxy](Self::proxy), which they would go around. What a feature leaves
    /// out of the library is not among them.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transports.get_or_insert_default().push(Arc::new(transport));
        self
    }

    /// Sets what the default websocket transport shows and believes: a certificate to listen with over TLS, and authorities
    /// of other nodes' certificates. Default: no certificate, and the authorities of this machine.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn websocket(mut self, config: websocket::Config) -> Self {
        self.websocket = config;
        self
    }

    /// Has every dial of the default transports go through a proxy, which carries TCP. What that protects is up to the proxy;
    /// names are asked of name servers without it, unless a [`Builder::resolver`] does otherwise. Default: none.
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Adds a source of addresses for dials by peer id.
    #[must_use]
    pub fn address_source(mut self, source: impl AddressSource) -> Self {
        self.sources.push(Arc::new(source));
        self
    }

    /// Sets who resolves names in addresses. Default: whom the operating system asks ([`dns::System`]).
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Sets who lists the addresses of this machine's interfaces, for which wildcards stand; it may wait for the system.
    /// Default: the operating system.
    #[must_use]
    pub fn interfaces(mut self, list: impl Fn() -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        self.interfaces = Arc::new(list);
        self
    }

    /// Tells peers of an address beside those that it listens on, as that of a port that a router forwards; repeatable,
    /// [`MAX_ANNOUNCED`](crate::addresses::MAX_ANNOUNCED) are kept. It is told to everybody, and is not tried before.
    ///
    /// # Errors
    /// If `address` is not a multiaddr.
    pub fn announce<A>(mut self, address: A) -> Result<Self, A::Error>
    where
        A: TryInto<Multiaddr>,
    {
        self.announce.push(address.try_into()?);
        Ok(self)
    }

    /// Keeps an address, or those of a network (`10.0.0.0/8`), from peers on other machines; repeatable. What is
    /// [announced](Builder::announce) is told all the same: with `0.0.0.0/0` and `::/0` that is all they are told.
    ///
    /// # Errors
    /// If `filter` is neither a multiaddr nor a network.
    pub fn no_announce<F>(mut self, filter: F) -> Result<Self, F::Error>
    where
        F: TryInto<Filter>,
    {
        self.no_announce.push(filter.try_into()?);
        Ok(self)
    }

    /// Keeps the peer book in the file at `path`, which is made if it is missing: addresses and protocols of peers that
    /// this node met, and of those that the user named. Only its owner can read it; one node uses it at a time.
    ///
    /// A damaged file is renamed to `NAME.damaged-N` and reported ([`Event::StoreDamaged`]); a full or failing disk is
    /// reported ([`Event::StoreFailed`]), and the node goes on from memory. Default: nothing is kept.
    #[cfg(feature = "store")]
    #[must_use]
    pub fn store(mut self, path: impl Into<PathBuf>) -> Self {
        self.store = Some(Keep::File(path.into()));
        self
    }

    /// As [`Builder::store`], in a store of the program's own.
    #[must_use]
    pub fn store_in(mut self, store: impl Store) -> Self {
        self.store = Some(Keep::Store(Shared::new(store)));
        self
    }

    /// Sets the security protocols to offer and accept, the preferred first. Default: [`Security::DEFAULT`]. Plaintext
    /// only goes alone: beside another the node does not start.
    #[must_use]
    pub fn security(mut self, security: impl Into<Vec<Security>>) -> Self {
        self.security = security.into();
        self
    }

    /// Sets the muxers to offer and accept, the preferred first. Default: [`MuxerKind::ALL`], which is yamux alone.
    #[must_use]
    pub fn muxers(mut self, muxers: impl Into<Vec<MuxerKind>>) -> Self {
        self.muxers = muxers.into();
        self
    }

    /// Sets how TLS and QUIC agree on keys. Default: [`KeyExchange::Hybrid`], which is X25519 with ML-KEM where the peer has
    /// it. noise has X25519 alone.
    #[must_use]
    pub fn key_exchange(mut self, key_exchange: KeyExchange) -> Self {
        self.key_exchange = key_exchange;
        self
    }

    /// Puts the node into a private network: it speaks only with nodes that have the same key, and only over transports
    /// that bring no security of their own. Default: none. If the environment variable `LIBP2P_FORCE_PNET` is `1`, a
    /// node without a key does not start.
    #[must_use]
    pub fn private_network(mut self, key: PreSharedKey) -> Self {
        self.private_network = Some(key);
        self
    }

    /// Sets the limits, as they are. Default: [`Limits::default`], but no more memory than an eighth of what this machine
    /// has, and no more file descriptors than half of what this process may open.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Adds a gater, which decides who may connect; all of them have to agree. [`Lists`](crate::gater::Lists) are ready-made.
    #[must_use]
    pub fn gater(mut self, gater: impl Gater) -> Self {
        self.gaters.push(gater);
        self
    }

    /// Sets which connections are kept. Default: [`Policy::of`](manager::Policy::of) the limits.
    #[must_use]
    pub fn connection_policy(mut self, policy: manager::Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// How many threads the node has. Default: one for each processor.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = Some(count.max(1));
        self
    }

    /// How long a thread looks for the next message of a conversation before it sleeps, if the last ones came within this
    /// time. Default: 200 µs, as hypervisors do with idle processors; zero is never, and so it is with one processor.
    ///
    /// Between nodes of one machine, or of one fast network, a ping then takes a fifth of the time, and while it goes back and
    /// forth without a pause a processor is busy with it. Only connections over yamux with few streams and short messages are
    /// waited for so, only if the peer's round trip was once within 1 ms, and only while messages come so soon: what comes over the
    /// internet never does.
    #[must_use]
    pub fn linger(mut self, window: Duration) -> Self {
        self.linger = window;
        self
    }

    /// No threads: the whole node runs on the thread that starts it, which must be inside a `tokio::task::LocalSet`
    /// or a `LocalRuntime`. With the memory transport and a paused clock, everything is then deterministic.
    #[must_use]
    pub fn in_thread(mut self) -> Self {
        self.workers = Some(0);
        self
    }

    /// Injects panics, for tests of supervision.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Starts the node. Once this returns, it accepts connections on every address that it was told to.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(mut self) -> Result<Node, StartError> {
        warn_if_panics_abort();
        if self.private_network.is_none() && pnet::is_forced() {
            return Err(StartError::NoPrivateNetwork);
        }
        if !self.plan.names.iter().any(|name| name == identify::NAME) {
            self = self.with(identify::Identify::default()).0;
        }
        if !self.plan.names.iter().any(|name| name == ping::NAME) {
            self = self.with(ping::Ping::default()).0;
        }
        let listen = std::mem::take(&mut self.listen);
        let (store, damage) = self.open_store().await?;
        let (inner, planned) = self.assemble(store, damage)?;
        tree::start(&inner, planned);
        let node = Node::guarded(inner);
        for address in listen {
            if let Err(why) = node.listen(address.clone()).await {
                node.shutdown().await;
                return Err(StartError::Listen { address, why: why.to_string() });
            }
        }
        Ok(node)
    }

    async fn open_store(&mut self) -> Result<(Option<Shared>, Option<Event>), StartError> {
        match self.store.take() {
            None => Ok((None, None)),
            Some(Keep::Store(store)) => Ok((Some(store), None)),
            #[cfg(feature = "store")]
            Some(Keep::File(path)) => open_file(path).await,
        }
    }

    fn assemble(
        mut self,
        store: Option<Shared>,
        first_event: Option<Event>,
    ) -> Result<(Arc<Inner>, Vec<super::plan::Planned>), StartError> {
        let mut names = self.plan.names.clone();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(StartError::Clash(format!("{twice:?}")));
        }
        let plaintext = |one: &Security| *one == Security::Plaintext;
        if self.security.iter().any(plaintext) && !self.security.iter().all(plaintext) {
            return Err(StartError::Plaintext);
        }
        let workers = match self.workers {
            Some(0) => Workers::here(),
            Some(count) => Workers::threads(count, self.linger)?,
            None => Workers::threads(available_parallelism().map_or(1, usize::from), self.linger)?,
        };
        let registry = Registry::new();
        for (matcher, options, handler) in self.plan.serving.drain(..) {
            registry.add(matcher, options, handler).map_err(|clash| StartError::Clash(clash.to_string()))?;
        }
        let ports = Ports {
            book: Port::new("core/book"),
            hub: Port::new("core/host"),
            dialer: Port::new("core/dialer"),
            upgrades: (0..workers.count()).map(|worker| Port::new(format!("upgrades/{worker}"))).collect(),
            manager: Port::new("core/manager"),
        };
        let book = |hearsay| book::BookSource { port: ports.book.clone(), hearsay };
        let mut sources: Vec<Arc<dyn AddressSource>> = vec![Arc::new(book(false)), Arc::new(book(true))];
        sources.extend(self.sources);
        let book_subscription = self.plan.subscribe(ports.book.clone(), book::on_connection);
        let manager_subscription = self.plan.subscribe(ports.manager.clone(), manager::on_connection);
        let (events, _) = broadcast::channel(events::QUEUE);
        let counters = Arc::new(Counters::default());
        let kernel = Kernel::new(Surroundings {
            clock: Clock::start(),
            tree: Default::default(),
            faults: self.faults,
            workers: Arc::new(workers),
            notices: notices(ports.hub.clone(), events.clone(), counters.clone()),
        });
        let nurseries = (0..kernel.workers.count())
            .map(|worker| Arc::new(Nursery::new(kernel.clone(), format!("connections/{worker}"), worker)))
            .collect();
        #[cfg(feature = "websocket")]
        let private = self.private_network.is_some();
        let keypair = self.keypair;
        let defaults = || {
            let tcp = through(self.proxy.as_ref());
            let mut all: Vec<Arc<dyn Transport>> = vec![Arc::new(tcp.clone())];
            #[cfg(feature = "websocket")]
            {
                // In a private network plain TCP begins with any byte at all, and so has ports of its own.
                let beside = if private { through(self.proxy.as_ref()) } else { tcp };
                all.push(Arc::new(WebSocket::sharing(&beside, self.websocket)));
            }
            // A proxy carries TCP alone: over UDP a dial would pass by it.
            #[cfg(feature = "quic")]
            if self.proxy.is_none() {
                let (mut config, sockets) = (quic::Config::default(), Sockets::new());
                config.key_exchange = self.key_exchange;
                all.push(Arc::new(Quic::new(&keypair, sockets.clone(), config)));
                #[cfg(feature = "webrtc")]
                all.push(Arc::new(peerage_transport::webrtc::WebRtc::new(&keypair, sockets)));
            }
            #[cfg(unix)]
            all.push(Arc::new(peerage_transport::unix::Unix::new()));
            all
        };
        let transports = self.transports.unwrap_or_else(defaults);
        let limits = self.limits.unwrap_or_else(Limits::default_here);
        let policy = self.policy.unwrap_or_else(|| manager::Policy::of(&limits));
        let mut config = upgrades::Config::default();
        config.security = self.security;
        config.muxers = self.muxers;
        config.key_exchange = self.key_exchange;
        config.private_network = self.private_network;
        let inner = Arc::new(Inner {
            local: keypair.peer_id(),
            upgrader: Upgrader::new(&keypair, config),
            keypair,
            agent: self.agent,
            kernel,
            ports,
            outbound_turns: Semaphore::new(limits.handshakes_outbound.min(Semaphore::MAX_PERMITS)),
            ledger: Ledger::new(limits),
            store,
            gaters: self.gaters,
            policy,
            board: manager::Board::default(),
            manager_subscription,
            closers: self.plan.closers,
            registry,
            directory: conn::Directory::default(),
            known: known::Known::default(),
            offers: early::Offers::default(),
            accounts: hub::SharedAccounts::default(),
            subscribers: self.plan.subscribers,
            book_subscription,
            sources: RwLock::new(sources),
            resolver: self.resolver,
            interfaces: Interfaces::new(self.interfaces),
            bound: Notify::new(),
            transports: RwLock::new(transports.into_iter().map(TransportEntry::new).collect()),
            transport_arrivals: Mutex::new(None),
            nurseries,
            own: Mutex::new(Table::new(self.announce, self.no_announce)),
            on_change: self.plan.on_change,
            #[cfg(feature = "metrics")]
            metrics: self.plan.metrics,
            events,
            failed_incoming: Mutex::default(),
            first_event: Mutex::new(first_event),
            counters,
            stop: CancellationToken::new(),
            ended: watch::Sender::new(None),
            next_connection: AtomicU64::new(1),
            next_listener: AtomicU64::new(1),
            next_request: AtomicU64::new(1),
        });
        self.plan.node.set(&inner);
        Ok((inner, self.plan.actors))
    }
}

/// Opens the store, on a thread that may wait: a file is checked when it is opened.
#[cfg(feature = "store")]
async fn open_file(path: PathBuf) -> Result<(Option<Shared>, Option<Event>), StartError> {
    let at = path.clone();
    let opened = tokio::task::spawn_blocking(move || FileStore::open(&at)).await;
    let opened = opened.unwrap_or_else(|broke| Err(std::io::Error::other(broke).into()));
    let mut store = opened.map_err(|why| StartError::Store { path, why })?;
    let damage = store.take_damage();
    let event = damage.map(|damage| Event::StoreDamaged { moved_to: damage.moved_to, why: damage.why });
    Ok((Some(Shared::new(store)), event))
}

/// TCP, by a proxy if there is one. Each has ports of its own.
fn through(proxy: Option<&Proxy>) -> Tcp {
    proxy.cloned().into_iter().fold(Tcp::new(), Tcp::through)
}

/// Passes on what the kernel notices: to the user as events, and a panic that a peer provoked to the host, which
/// keeps the account.
fn notices(
    hub: Port<hub::Engine<conn::Candidate>>,
    events: broadcast::Sender<Event>,
    counters: Arc<Counters>,
) -> Arc<dyn Fn(Notice) + Send + Sync> {
    Arc::new(move |notice| {
        let event = match notice {
            Notice::Panicked { actor, text, peer } => {
                counters.panicked();
                if let Some(peer) = peer {
                    // A stream's handler takes its stream with it and nothing else; what an actor loses is everybody's.
                    let disconnect = !actor.starts_with(inner::STREAM_ACTOR);
                    let (actor, panic) = (actor.clone(), text.clone());
                    hub.post(hub::Command::Blame { peer, disconnect, actor, panic });
                }
                Event::ActorPanicked { actor, panic: text, peer }
            }
            Notice::SwitchedOff { actor, why } => Event::ActorSwitchedOff { actor, why },
        };
        let _ = events.send(event);
    })
}

/// Supervision needs unwinding: with `panic = "abort"` the first panic is the process's last.
fn warn_if_panics_abort() {
    if cfg!(panic = "abort") {
        tracing::warn!(
            "this program is built with panic = \"abort\": a panic anywhere ends the process, and supervision cannot \
             help; set panic = \"unwind\" in its profile"
        );
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("peer", &self.keypair.peer_id())
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}
