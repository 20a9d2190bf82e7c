use std::{borrow::Cow, fmt, sync::Arc};

use peerage_core::{Engine, Keypair, PeerId};

use crate::{
    Stream,
    actor::{Birth, Effects, Port},
    conn::Handler,
    hub::ConnectionEvent,
    limits::StreamLimits,
    node::{NodeRef, Plan, Where},
    registry::Matcher,
};

/// A protocol that a node runs: an engine with its effects, handlers for the streams that peers open, or both.
///
/// It is given to the node's builder, which hands its typed handle back:
///
/// ```
/// use peerage_core::Keypair;
/// use peerage_host::{Node, ping::Ping};
///
/// let node = Node::builder(Keypair::generate());
/// let (node, ping) = node.with(Ping::default());
/// # let _ = (node, ping);
/// ```
pub trait Protocol {
    /// What the user holds: cheap to clone, usable from everywhere, valid as long as the node lives.
    type Handle: Clone + Send + Sync + 'static;

    /// Its name in the tree of actors: `ping`. One protocol of a name per node.
    fn name(&self) -> Cow<'static, str>;

    /// Registers what it runs, and makes the handle.
    fn register(self, registrar: &mut Registrar<'_>) -> Self::Handle;
}

/// What a protocol registers itself with.
pub struct Registrar<'a> {
    pub(crate) name: Cow<'static, str>,
    pub(crate) keypair: &'a Keypair,
    pub(crate) plan: &'a mut Plan,
}

impl Registrar<'_> {
    /// The node, for effects and handlers. It is there once the node has started, and does not keep it alive.
    pub fn node(&self) -> NodeRef {
        self.plan.node.clone()
    }

    /// Adds the protocol's actor. `make` builds its state, on the actor's worker: at the start, and again after every
    /// panic. If `connections` is given, it turns what happens to connections into commands; after a (re)start the
    /// actor is told of every live connection, so it may hear of one twice.
    pub fn actor<E, F>(
        &mut self,
        make: impl Fn(&Birth<E>) -> (E, F) + Send + Sync + 'static,
        connections: Option<fn(ConnectionEvent) -> E::Command>,
    ) -> Port<E>
    where
        E: Engine,
        F: Effects<E::Action>,
    {
        self.plan.actor(self.name.clone(), Where::Next, make, connections)
    }

    /// Adds the actor of a protocol that has a word with the host over each connection, and little else to do.
    pub(crate) fn core_actor<E, F>(
        &mut self,
        make: impl Fn(&Birth<E>) -> (E, F) + Send + Sync + 'static,
        connections: Option<fn(ConnectionEvent) -> E::Command>,
    ) -> Port<E>
    where
        E: Engine,
        F: Effects<E::Action>,
    {
        self.plan.actor(self.name.clone(), Where::Core, make, connections)
    }

    /// The node's key pair, for protocols that sign what they send.
    pub fn keypair(&self) -> &Keypair {
        self.keypair
    }

    /// Has `write` called whenever the node's metrics are asked for, to add what this protocol counts. It must be quick.
    #[cfg(feature = "metrics")]
    pub fn metrics(&mut self, write: impl Fn(&mut crate::metrics::Sheet) + Send + Sync + 'static) {
        self.plan.metrics.push(Box::new(write));
    }

    /// Has `told` called whenever the node's own addresses or served protocols change. It must be quick.
    pub fn on_change(&mut self, told: impl Fn() + Send + Sync + 'static) {
        self.plan.on_change.push(Box::new(told));
    }

    /// Serves the streams that peers open for `matcher`, from the node's start on.
    pub fn serve<H, Fut, O>(&mut self, matcher: impl Into<Matcher>, options: ServeOptions, handler: H)
    where
        H: Fn(Stream, PeerId) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
        O: Outcome,
    {
        self.plan.serving.push((matcher.into(), options, self::handler(handler)));
    }
}

/// How a protocol is served.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ServeOptions {
    /// How many streams peers may have open at once; checked before a handler is spawned.
    pub limits: StreamLimits,
    /// Whether it is also served on connections that go through a relay, which bounds time and bytes. Default: no.
    pub allow_limited: bool,
    /// Whether it does no harm to do again what a peer asked for, or to do it later than it was asked. Then the handler may be
    /// called before the peer's handshake is done, where the transport has such data (QUIC), and a known peer's question is answered
    /// in one round trip. By then it is known who wrote what it reads; not that it was now, nor that it was for
    /// the first time ([`Stream::is_early`]). Default: no.
    pub replay_safe: bool,
}

impl ServeOptions {
    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: StreamLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Says that what peers ask for may be done twice.
    ///
    /// ```
    /// # async fn example(node: peerage_host::Node) -> Result<(), Box<dyn std::error::Error>> {
    /// use peerage_core::ProtocolId;
    /// use peerage_host::ServeOptions;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// let options = ServeOptions::default().replay_safe();
    /// node.serve_with(ProtocolId::new("/height/1")?, options, |mut stream, _peer| async move {
    ///     stream.write_all(b"8848").await?;
    ///     stream.close_write().await
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn replay_safe(mut self) -> Self {
        self.replay_safe = true;
        self
    }

    /// Serves limited connections, too.
    #[must_use]
    pub fn allow_limited(mut self) -> Self {
        self.allow_limited = true;
        self
    }
}

/// What a stream's handler may return: nothing, or a `Result` whose error is logged. Either way the stream has ended
/// by then, or is reset if its writing half was not closed.
pub trait Outcome: Send + 'static {
    /// The error's text, if it is one.
    fn into_result(self) -> Result<(), String>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<T: Send + 'static, E: fmt::Display + Send + 'static> Outcome for Result<T, E> {
    fn into_result(self) -> Result<(), String> {
        self.map(drop).map_err(|error| error.to_string())
    }
}

pub(crate) fn handler<H, Fut, O>(handler: H) -> Handler
where
    H: Fn(Stream, PeerId) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send + 'static,
    O: Outcome,
{
    Arc::new(move |stream| {
        let peer = stream.peer();
        let handling = handler(stream, peer);
        Box::pin(async move { handling.await.into_result() })
    })
}
