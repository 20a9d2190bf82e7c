use std::{
    borrow::Cow,
    sync::{Arc, OnceLock, Weak},
};

use futures::future::LocalBoxFuture;
use peerage_core::Engine;
use tokio_util::sync::CancellationToken;

use super::{Inner, Node};
use crate::{
    actor::{Birth, Effects, Exit, Port, Spawn, Spec, Workers},
    conn::Handler,
    hub::{self, ConnectionEvent, SubscriberId},
    protocol::ServeOptions,
    registry::Matcher,
};

/// What protocols have registered, before the node is there.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) node: NodeRef,
    pub(crate) names: Vec<Cow<'static, str>>,
    pub(crate) actors: Vec<Planned>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) serving: Vec<(Matcher, ServeOptions, Handler)>,
    pub(crate) closers: Vec<Box<dyn Fn() + Send + Sync>>,
    /// Told when own addresses or served protocols change.
    pub(crate) on_change: Vec<Box<dyn Fn() + Send + Sync>>,
    /// What protocols count.
    #[cfg(feature = "metrics")]
    pub(crate) metrics: Vec<MetricsWriter>,
}

/// Adds what a protocol counts to the node's metrics.
#[cfg(feature = "metrics")]
pub(crate) type MetricsWriter = Box<dyn Fn(&mut crate::metrics::Sheet) + Send + Sync>;

/// An actor that will be started with the node: makes its child of the supervisor of protocols.
pub(crate) type Planned = Box<dyn Fn(Arc<Inner>) -> Spec + Send + Sync>;

/// A protocol that is told of connections.
pub(crate) struct Subscriber {
    pub(crate) id: SubscriberId,
    pub(crate) tell: Box<dyn Fn(ConnectionEvent) + Send + Sync>,
}

/// A node that may not have started yet, or may have ended. It does not keep the node alive.
#[derive(Clone, Default)]
pub struct NodeRef(Arc<OnceLock<Weak<Inner>>>);

impl NodeRef {
    /// The node, while it runs.
    pub fn get(&self) -> Option<Node> {
        self.inner().map(Node::unguarded)
    }

    pub(crate) fn inner(&self) -> Option<Arc<Inner>> {
        self.0.get()?.upgrade()
    }

    pub(crate) fn of(node: &Arc<Inner>) -> Self {
        let this = Self::default();
        this.set(node);
        this
    }

    pub(crate) fn set(&self, node: &Arc<Inner>) {
        // A builder starts one node.
        let _ = self.0.set(Arc::downgrade(node));
    }
}

impl std::fmt::Debug for NodeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeRef").field("running", &self.inner().is_some()).finish()
    }
}

impl Plan {
    pub(crate) fn actor<E, F>(
        &mut self,
        name: Cow<'static, str>,
        place: Where,
        make: impl Fn(&Birth<E>) -> (E, F) + Send + Sync + 'static,
        connections: Option<fn(ConnectionEvent) -> E::Command>,
    ) -> Port<E>
    where
        E: Engine,
        F: Effects<E::Action>,
    {
        let port = Port::<E>::new(format!("protocols/{name}"));
        let subscriber = connections.map(|translate| self.subscribe(port.clone(), translate));
        let closed = port.clone();
        self.closers.push(Box::new(move || closed.close()));
        let (own, node) = (port.clone(), self.node.clone());
        let make = Arc::new(move |birth: &Birth<E>| {
            let (engine, effects) = make(birth);
            (engine, Subscribed { effects, node: node.clone(), subscriber })
        });
        self.actors.push(Box::new(move |node| {
            let make = make.clone();
            spec(name.clone(), &node, place, Spawn::new(own.clone(), move |birth| make(birth)))
        }));
        port
    }

    pub(crate) fn subscribe<E: Engine>(
        &mut self,
        port: Port<E>,
        translate: fn(ConnectionEvent) -> E::Command,
    ) -> SubscriberId {
        let id = SubscriberId(u64::try_from(self.subscribers.len()).unwrap_or(u64::MAX));
        // What comes of a connection is its peer's doing, and so is a panic over it.
        let tell = Box::new(move |event: ConnectionEvent| port.post_for(event.info().peer, translate(event)));
        self.subscribers.push(Subscriber { id, tell });
        id
    }
}

/// On which worker an actor runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Where {
    /// Together with the others of which each connection has several say a word, and each but a word: between workers,
    /// every word would wake a thread.
    Core,
    /// On a certain one.
    At(usize),
    /// On the one whose turn it is, at each of its starts.
    Next,
}

impl Where {
    fn worker(self, workers: &Workers) -> usize {
        match self {
            Self::Core => 0,
            Self::At(worker) => worker,
            Self::Next => workers.next(),
        }
    }
}

/// A child that is an actor.
pub(crate) fn spec(name: impl Into<String>, node: &Arc<Inner>, place: Where, spawn: Spawn) -> Spec {
    let (node, closing) = (node.clone(), spawn.closing());
    let start = move |stop: CancellationToken| -> LocalBoxFuture<'static, Exit> {
        Box::pin(spawn.start(&node.kernel, place.worker(&node.kernel.workers), stop))
    };
    // Who asks a protocol that was switched off, is told so at once.
    Spec { off: Box::new(closing), ..Spec::permanent(name, start) }
}

/// Effects of an actor that is told of connections: at the beginning of each life it asks who is connected.
pub(crate) struct Subscribed<F> {
    pub(crate) effects: F,
    pub(crate) node: NodeRef,
    pub(crate) subscriber: Option<SubscriberId>,
}

impl<A, F: Effects<A>> Effects<A> for Subscribed<F> {
    fn perform(&mut self, action: A) {
        self.effects.perform(action);
    }

    fn born(&mut self, generation: u64) {
        self.effects.born(generation);
        if let (Some(subscriber), Some(node)) = (self.subscriber, self.node.inner()) {
            node.ports.hub.post(hub::Command::Replay { subscriber });
        }
    }
}
