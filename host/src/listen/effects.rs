use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use peerage_core::Multiaddr;
use peerage_transport::{DialOpts, Link, ListenOpts, ListenerEvent, Transport, TransportError};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::engine::{Action, Engine, Input, ListenerId};
use crate::{
    actor::{Effects, Port, Spawn, Tasks},
    limits::Direction,
    node::Inner,
    reply::Reply,
    upgrade,
};

/// A dial on its way through a transport's actor.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) address: Multiaddr,
    pub(crate) opts: DialOpts,
    /// Cancelled when nobody wants the link any more.
    pub(crate) cancelled: CancellationToken,
    pub(crate) reply: Reply<Result<Link, TransportError>>,
}

/// The listeners that a transport shall have. It outlives the actor's lives, so that a restarted one binds them again.
pub(crate) type Wanted = Arc<Mutex<BTreeMap<ListenerId, (Multiaddr, ListenOpts)>>>;

/// How to make a transport's actor.
pub(crate) fn spawn(
    node: &Arc<Inner>,
    object: Arc<dyn Transport>,
    port: Port<Engine<Dial>>,
    wanted: Wanted,
) -> Spawn {
    let node = node.clone();
    Spawn::new(port, move |birth| {
        let listeners = wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What a former life had bound is bound no more; it is told again once it is.
        listeners.keys().for_each(|id| node.forget_listening(*id));
        let performer = Performer {
            node: node.clone(),
            object: object.clone(),
            port: birth.port.clone(),
            wanted: wanted.clone(),
            tasks: Tasks::default(),
            listeners: BTreeMap::new(),
        };
        (Engine::new(listeners), performer)
    })
}

pub(crate) struct Performer {
    node: Arc<Inner>,
    object: Arc<dyn Transport>,
    port: Port<Engine<Dial>>,
    wanted: Wanted,
    tasks: Tasks,
    listeners: BTreeMap<ListenerId, AbortHandle>,
}

impl Effects<Action<Dial>> for Performer {
    fn perform(&mut self, action: Action<Dial>) {
        match action {
            Action::Bind { id, address, opts } => self.bind(id, address, opts),
            Action::Unbind { id } => self.unbind(id),
            Action::Dial(dial) => self.dial(dial),
            Action::Answer { reply, result } => reply.send(result),
            Action::Listening { id, addresses, opts } => {
                // From now on it shall be bound where it is bound now, also by a later life.
                if let Some(address) = addresses.first() {
                    self.wanted().insert(id, (address.clone(), opts));
                }
                self.node.listening(id, addresses);
            }
            Action::NotListening { id, addresses, why } => self.node.not_listening(id, &addresses, &why),
        }
    }
}

impl Performer {
    fn wanted(&self) -> std::sync::MutexGuard<'_, BTreeMap<ListenerId, (Multiaddr, ListenOpts)>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bind(&mut self, id: ListenerId, address: Multiaddr, opts: ListenOpts) {
        let task = accept(self.node.clone(), self.object.clone(), self.port.clone(), id, address, opts);
        let (port, node, path) = (self.port.clone(), self.node.clone(), self.port.path().to_owned());
        let handle = self.tasks.spawn(task, move |panic| {
            node.panicked(format!("{path}/{id}"), panic.clone(), None);
            port.post_input(None, Input::Failed { id, why: format!("it panicked: {panic}") });
        });
        // Those that could not be bound have ended by themselves.
        self.listeners.retain(|_, listener| !listener.is_finished());
        self.listeners.insert(id, handle);
    }

    fn unbind(&mut self, id: ListenerId) {
        self.wanted().remove(&id);
        if let Some(listener) = self.listeners.remove(&id) {
            listener.abort();
        }
    }

    fn dial(&mut self, dial: Dial) {
        let Dial { address, opts, cancelled, reply } = dial;
        let object = self.object.clone();
        let (node, path) = (self.node.clone(), self.port.path().to_owned());
        let task = async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                result = object.dial(address, opts) => reply.send(result),
            }
        };
        // The reply is dropped with a panicking task, and who waits for it is told so by that.
        self.tasks.spawn(task, move |panic| node.panicked(format!("{path}/dial"), panic, None));
    }
}

async fn accept(
    node: Arc<Inner>,
    object: Arc<dyn Transport>,
    port: Port<Engine<Dial>>,
    id: ListenerId,
    address: Multiaddr,
    opts: ListenOpts,
) {
    let mut listener = match object.listen(address, opts).await {
        Ok(listener) => listener,
        Err(error) => {
            return port.post_input(None, Input::Failed { id, why: error.to_string() });
        }
    };
    let addresses = listener.addresses();
    if addresses.iter().any(Multiaddr::is_unspecified) {
        // Who is told that it is bound, can ask at once what the wildcard stands for.
        node.interfaces.refresh().await;
    }
    port.post_input(None, Input::Bound { id, addresses });
    loop {
        match listener.next().await {
            ListenerEvent::Incoming(link) => incoming(&node, link).await,
            ListenerEvent::Failed(error) => {
                return port.post_input(None, Input::Failed { id, why: error.to_string() });
            }
            ListenerEvent::Retry(error) => tracing::warn!(%id, %error, "accepting failed for a while"),
            event => tracing::debug!(?event, "an event of a listener that this node does not know"),
        }
    }
}

/// Over the limit, or not wanted, the socket is dropped before it costs anything else. Limits are asked first: what they
/// refuse comes by the thousand, and shall not be the gaters' work.
async fn incoming(node: &Inner, link: Link) {
    let remote = upgrade::remote(&link);
    match node.ledger.handshake(Direction::Inbound, &remote, node.kernel.clock.now()) {
        Ok(lease) => {
            let local = upgrade::local(&link);
            if let Err(gated) = node.gate(|gater| gater.accept(&local, &remote)) {
                return node.incoming_failed(remote, gated.to_string());
            }
            let berth = node.kernel.workers.berth();
            if let Some(upgrades) = node.upgrades(&berth) {
                let _ = upgrades.tell(upgrade::Command::Inbound { link, lease, berth }).await;
            }
        }
        Err(limit) => {
            tracing::debug!(%remote, %limit, "refused an incoming connection");
            node.incoming_failed(remote, limit.to_string());
        }
    }
}
