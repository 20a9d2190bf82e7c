use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use peerage_core::{Keypair, Multiaddr, PeerId};
use peerage_muxer::{ErrorCode, Muxed};
use peerage_transport::{Established, Transport as Object, Upgrader, dns::Resolver};
use tokio::{
    sync::{Notify, Semaphore, broadcast, mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Event,
    actor::{Berth, Kernel, Nursery, Port, Spec},
    addresses::{Interfaces, Table},
    book, conn,
    counters::Counters,
    dial,
    events::FailedIncoming,
    gater::{Gated, Gater, Gaters},
    hub::{self, ConnInfo, SharedAccounts, SubscriberId},
    limits::{ConnectionId, Direction, Ledger, Place},
    listen::{self, ListenerId},
    manager,
    node::{AddressSource, early::Offers, known::Known, plan::Subscriber},
    registry::Registry,
    store::Shared,
    upgrade,
};

/// What all parts of one node share. It holds ways to actors and tables; what is decided about peers, dials and
/// addresses is the actors' own.
pub(crate) struct Inner {
    pub(crate) local: PeerId,
    pub(crate) keypair: Keypair,
    pub(crate) agent: String,
    pub(crate) upgrader: Upgrader,
    pub(crate) kernel: Kernel,
    pub(crate) ports: Ports,
    pub(crate) ledger: Ledger,
    /// Where the peer book is kept; closed at the node's end.
    pub(crate) store: Option<Shared>,
    pub(crate) gaters: Gaters,
    pub(crate) policy: manager::Policy,
    pub(crate) board: manager::Board,
    /// The manager's own subscription to connections.
    pub(crate) manager_subscription: SubscriberId,
    /// As many as the ledger allows outbound handshakes.
    pub(crate) outbound_turns: Semaphore,
    /// Tells everybody who waits at an actor that nobody will be there any more.
    pub(crate) closers: Vec<Box<dyn Fn() + Send + Sync>>,
    pub(crate) registry: Registry<conn::Handler>,
    pub(crate) directory: conn::Directory,
    pub(crate) known: Known,
    pub(crate) offers: Offers,
    pub(crate) accounts: SharedAccounts,
    pub(crate) subscribers: Vec<Subscriber>,
    /// The peer book's own subscription to connections.
    pub(crate) book_subscription: SubscriberId,
    pub(crate) sources: RwLock<Vec<Arc<dyn AddressSource>>>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) interfaces: Interfaces,
    /// Told when a listener is bound.
    pub(crate) bound: Notify,
    pub(crate) transports: RwLock<Vec<TransportEntry>>,
    /// Where transports that come later are handed to their supervisor; of its present life.
    pub(crate) transport_arrivals: Mutex<Option<mpsc::Sender<Spec>>>,
    pub(crate) nurseries: Vec<Arc<Nursery>>,
    pub(crate) own: Mutex<Table>,
    /// Told when own addresses or served protocols have changed.
    pub(crate) on_change: Vec<Box<dyn Fn() + Send + Sync>>,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: Vec<super::plan::MetricsWriter>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) failed_incoming: Mutex<FailedIncoming>,
    /// What the first subscriber is told: it happened before there could be one.
    pub(crate) first_event: Mutex<Option<Event>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: CancellationToken,
    /// `Some` once the root supervisor has ended, with the way it did.
    pub(crate) ended: watch::Sender<Option<String>>,
    pub(crate) next_connection: AtomicU64,
    pub(crate) next_listener: AtomicU64,
    pub(crate) next_request: AtomicU64,
}

/// The ways to the actors that every node has.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) book: Port<book::Engine>,
    pub(crate) hub: Port<hub::Engine<conn::Candidate>>,
    pub(crate) dialer: Port<dial::Engine<conn::Candidate>>,
    /// One for each worker.
    pub(crate) upgrades: Vec<Port<upgrade::Engine>>,
    pub(crate) manager: Port<manager::Engine>,
}

/// A registered transport.
#[derive(Clone)]
pub(crate) struct TransportEntry {
    pub(crate) object: Arc<dyn Object>,
    pub(crate) port: Port<listen::Engine<listen::Dial>>,
    pub(crate) wanted: listen::Wanted,
}

impl TransportEntry {
    pub(crate) fn new(object: Arc<dyn Object>) -> Self {
        let port = Port::new(format!("transports/{}", object.name()));
        Self { object, port, wanted: listen::Wanted::default() }
    }
}

/// How a stream's handler is called in reports of its panics.
pub(crate) const STREAM_ACTOR: &str = "stream ";
/// What a refused connection may take to say goodbye.
const REFUSAL: Duration = Duration::from_secs(1);

impl Inner {
    pub(crate) fn emit(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    /// Somebody's connection did not come about, which is told of unless it happens too often.
    pub(crate) fn incoming_failed(&self, remote: Multiaddr, why: String) {
        let now = self.kernel.clock.now();
        let mut failed = self.failed_incoming.lock().unwrap_or_else(PoisonError::into_inner);
        let left_out = failed.left_out(now);
        drop(failed);
        if let Some(left_out) = left_out {
            self.emit(Event::IncomingFailed { remote, why, left_out });
        }
    }

    /// A panic in a task beside an actor.
    pub(crate) fn panicked(&self, actor: String, text: String, peer: Option<PeerId>) {
        tracing::error!(actor, panic = text, ?peer, "a task panicked");
        (self.kernel.notices)(crate::actor::Notice::Panicked { actor, text, peer });
    }

    /// Asks the gaters. One that panics refuses.
    pub(crate) fn gate(&self, ask: impl Fn(&dyn Gater) -> Result<(), Gated>) -> Result<(), Gated> {
        self.gaters.ask(ask, |panic| self.panicked("gater".to_owned(), panic, None))
    }

    pub(crate) fn info(&self, established: &Established, direction: Direction) -> ConnInfo {
        ConnInfo {
            id: ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed)),
            peer: established.peer,
            direction,
            limited: established.limited,
            local: established.local.clone(),
            remote: established.remote.clone(),
            security: established.security.clone(),
            muxer: established.muxer.clone(),
        }
    }

    /// Closes a connection that was not admitted, telling the peer why. It keeps its socket until then.
    pub(crate) fn refuse(&self, muxed: Muxed, code: ErrorCode, place: Place) {
        let Muxed { connection, driver } = muxed;
        connection.close(code);
        self.kernel.workers.spawn(self.kernel.workers.next(), move || async move {
            let _ = timeout(REFUSAL, driver).await;
            drop(place);
        });
    }

    /// The way to the upgrades' actor of the worker on which a connection will live.
    pub(crate) fn upgrades(&self, berth: &Berth) -> Option<&Port<upgrade::Engine>> {
        self.ports.upgrades.get(berth.worker())
    }

    /// Of a worker, as [`Workers::next`](crate::actor::Workers::next) counts them.
    pub(crate) fn nursery(&self, worker: usize) -> Option<&Arc<Nursery>> {
        self.nurseries.get(worker)
    }

    /// The transport for an address.
    pub(crate) fn transport(&self, fits: impl Fn(&dyn Object) -> bool) -> Option<TransportEntry> {
        let transports = self.transports.read().unwrap_or_else(PoisonError::into_inner);
        transports.iter().find(|entry| fits(entry.object.as_ref())).cloned()
    }

    /// The root has ended: whoever waits for an actor is told so, and handlers let go of what they hold.
    pub(crate) fn close_all(&self) {
        self.ports.book.close();
        self.ports.hub.close();
        self.ports.dialer.close();
        self.ports.upgrades.iter().for_each(Port::close);
        self.ports.manager.close();
        self.all_transports().iter().for_each(|entry| entry.port.close());
        self.closers.iter().for_each(|close| close());
        self.registry.clear();
    }

    /// Whether the node has been told to stop, or has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.stop.is_cancelled() || self.ended.borrow().is_some()
    }

    pub(crate) fn all_transports(&self) -> Vec<TransportEntry> {
        self.transports.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn address_sources(&self) -> Vec<Arc<dyn AddressSource>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn lock_arrivals(&self) -> MutexGuard<'_, Option<mpsc::Sender<Spec>>> {
        self.transport_arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn listening(&self, id: ListenerId, addresses: Vec<Multiaddr>) {
        self.lock_own().listening(id, addresses.clone(), &self.interfaces.known());
        self.bound.notify_one();
        for address in addresses {
            self.emit(Event::Listening { address });
        }
        self.changed();
    }

    pub(crate) fn forget_listening(&self, id: ListenerId) {
        self.lock_own().not_listening(id);
        self.changed();
    }

    pub(crate) fn not_listening(&self, id: ListenerId, addresses: &[Multiaddr], why: &str) {
        self.lock_own().not_listening(id);
        for address in addresses {
            self.emit(Event::NotListening { address: address.clone(), why: why.to_owned() });
        }
        self.changed();
    }

    /// Own addresses, or the protocols that are served, have changed.
    pub(crate) fn changed(&self) {
        self.on_change.iter().for_each(|told| told());
    }

    /// The addresses that the node is bound to.
    pub(crate) fn bound_addresses(&self) -> Vec<Multiaddr> {
        self.lock_own().bound().cloned().collect()
    }

    /// The addresses that are told to a peer, and the [`Table::revision`] that they are of.
    pub(crate) fn advertised_addresses(&self, to: &ConnInfo) -> (Vec<Multiaddr>, u64) {
        let own = self.lock_own();
        (own.told(to), own.revision())
    }

    pub(crate) fn lock_own(&self) -> MutexGuard<'_, Table> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
