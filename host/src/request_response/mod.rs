//! Request and response: one message there, one message back, each on a stream of its own.
//!
//! The form on the wire is that of rust-libp2p's `request-response`, which others read as well: the request until the
//! writing half is closed, then the response until the other one is. There is no length before a message, so whoever
//! stops in the middle has to say so by resetting the stream; ours does, and an unfinished message is an error here.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use peerage_core::Keypair;
//! use peerage_host::{Node, request_response::RequestResponse};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Add(i64, i64);
//!
//! let sums = RequestResponse::cbor::<Add, i64>("/sum/1")?
//!     .serve(|_peer, Add(a, b)| async move { a.checked_add(b).ok_or("too large") });
//! let (node, sums) = Node::builder(Keypair::generate()).with(sums);
//! let node = node.start().await?;
//! # let peer = node.peer_id();
//! let sum = sums.request(peer, &Add(1, 2)).await?;
//! # let _: i64 = sum;
//! # Ok(())
//! # }
//! ```
//!
//! It has no actor, because it has nothing to decide: each request is one stream between two tasks, and how many of
//! them there may be is the ledger's to say.

mod codec;
mod exchange;

#[cfg(feature = "cbor")]
pub use codec::Cbor;
#[cfg(feature = "json")]
pub use codec::Json;
pub use codec::{Codec, CodecError, Raw};
pub use exchange::{Handle, RequestError};

#[cfg(any(feature = "cbor", feature = "json"))]
use std::marker::PhantomData;
use std::{borrow::Cow, fmt, pin::Pin, sync::Arc, time::Duration};

use peerage_core::{PeerId, ProtocolId, protocol_id};

use crate::{Protocol, Registrar, limits::StreamLimits, protocol::ServeOptions};

/// The longest request that is read, unless told otherwise: 1 MiB.
pub const MAX_REQUEST: usize = 1 << 20;
/// The longest response that is read, unless told otherwise: 10 MiB.
pub const MAX_RESPONSE: usize = 10 << 20;
/// How long a request may take, unless told otherwise: the dial, the request, the response.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that one peer may have under way here, unless told otherwise.
pub const MAX_INBOUND_PER_PEER: usize = 32;
/// Requests that all peers together may have under way here, unless told otherwise.
pub const MAX_INBOUND: usize = 512;

/// A protocol of requests and responses. It is given to the node's builder, which gives its [`Handle`] back.
pub struct RequestResponse<C: Codec> {
    protocol: ProtocolId,
    codec: C,
    config: Config,
    replay_safe: bool,
    handler: Option<Handler<C>>,
}

/// The numbers of one such protocol.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Bytes of a request; longer ones are refused here, and not sent. Default: [`MAX_REQUEST`].
    pub max_request: usize,
    /// Bytes of a response; longer ones are refused here, and not sent. Default: [`MAX_RESPONSE`].
    pub max_response: usize,
    /// How long a request may take, and how long a peer may take to send one or to take its answer. The handler has
    /// as long as it wants while the connection lasts: a peer that gives up its request does not end it. Default: [`TIMEOUT`].
    pub timeout: Duration,
    /// How many requests peers may have under way here. Default: [`MAX_INBOUND_PER_PEER`] and [`MAX_INBOUND`].
    pub limits: StreamLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_request: MAX_REQUEST,
            max_response: MAX_RESPONSE,
            timeout: TIMEOUT,
            limits: StreamLimits::new(MAX_INBOUND_PER_PEER, MAX_INBOUND),
        }
    }
}

type Answering<R> = Pin<Box<dyn Future<Output = Result<R, String>> + Send>>;
type Handler<C> =
    Arc<dyn Fn(PeerId, <C as Codec>::Request) -> Answering<<C as Codec>::Response> + Send + Sync>;

impl RequestResponse<Raw> {
    /// Requests and responses are bytes.
    ///
    /// # Errors
    /// If `protocol` is not the name of one.
    pub fn raw(protocol: &str) -> Result<Self, protocol_id::Error> {
        Self::new(protocol, Raw)
    }
}

/// For the codecs whose messages are any that serde knows.
#[cfg(any(feature = "cbor", feature = "json"))]
impl RequestResponse<Raw> {
    /// Requests and responses are CBOR (RFC 8949), as serde writes them.
    ///
    /// # Errors
    /// If `protocol` is not the name of one.
    #[cfg(feature = "cbor")]
    pub fn cbor<Q, A>(protocol: &str) -> Result<RequestResponse<Cbor<Q, A>>, protocol_id::Error>
    where
        Cbor<Q, A>: Codec,
    {
        RequestResponse::new(protocol, Cbor(PhantomData))
    }

    /// Requests and responses are JSON.
    ///
    /// # Errors
    /// If `protocol` is not the name of one.
    #[cfg(feature = "json")]
    pub fn json<Q, A>(protocol: &str) -> Result<RequestResponse<Json<Q, A>>, protocol_id::Error>
    where
        Json<Q, A>: Codec,
    {
        RequestResponse::new(protocol, Json(PhantomData))
    }
}

impl<C: Codec> RequestResponse<C> {
    /// A protocol with messages of your own making.
    ///
    /// # Errors
    /// If `protocol` is not the name of one.
    pub fn new(protocol: &str, codec: C) -> Result<Self, protocol_id::Error> {
        let protocol = ProtocolId::new(protocol)?;
        Ok(Self { protocol, codec, config: Config::default(), replay_safe: false, handler: None })
    }

    /// How messages are written and read, without a node.
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// Sets the numbers.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Says that it does no harm to answer a request twice, or later than it was made: somebody on the way can have that
    /// done (and not read any of it). Then a request to a known peer that is not connected leaves ahead of the handshake,
    /// where both sides say so and the transport can (QUIC), and its answer is there after one round trip. Default: no.
    ///
    /// ```
    /// # use peerage_host::request_response::RequestResponse;
    /// let heights = RequestResponse::cbor::<String, u32>("/height/1")?.replay_safe();
    /// # Ok::<(), peerage_core::protocol_id::Error>(())
    /// ```
    #[must_use]
    pub fn replay_safe(mut self) -> Self {
        self.replay_safe = true;
        self
    }

    /// Answers the requests of others; without this, the node only asks. An error is logged, and the peer's stream
    /// reset: what it is about belongs into the response where the peer shall know.
    #[must_use]
    pub fn serve<F, Fut, E>(mut self, handler: F) -> Self
    where
        F: Fn(PeerId, C::Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Response, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.handler = Some(Arc::new(move |peer, request| {
            let answering = handler(peer, request);
            Box::pin(async move { answering.await.map_err(|error| error.to_string()) })
        }));
        self
    }
}

impl<C: Codec> Protocol for RequestResponse<C> {
    type Handle = Handle<C>;

    fn name(&self) -> Cow<'static, str> {
        Cow::Owned(self.protocol.to_string())
    }

    fn register(self, registrar: &mut Registrar<'_>) -> Handle<C> {
        let Self { protocol, codec, config, replay_safe, handler } = self;
        if let Some(handler) = handler {
            let (codec, config) = (codec.clone(), config.clone());
            let mut options = ServeOptions::default().limits(config.limits);
            options.replay_safe = replay_safe;
            registrar.serve(protocol.clone(), options, move |stream, peer| {
                exchange::answer(stream, peer, codec.clone(), config.clone(), handler.clone())
            });
        }
        Handle::new(registrar.node(), protocol, codec, config, replay_safe)
    }
}

impl<C: Codec> fmt::Debug for RequestResponse<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestResponse").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}
