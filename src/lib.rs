//! **Peerage** is a libp2p networking stack on supervised actors: a node that speaks with every other libp2p
//! implementation, that lives on when one of its parts panics or one of its peers is hostile, and that says why a
//! connection was made or was not.
//!
//! # A first program
//!
//! One node serves a protocol, another one opens a stream of it. A protocol is a name and a closure; a stream is
//! `AsyncRead + AsyncWrite`, encrypted, and its peer proven to be who it says.
//!
//! ```
//! use peerage::{Keypair, Node};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Node::builder(Keypair::generate()).listen("/ip4/127.0.0.1/tcp/0")?.start().await?;
//! server.serve("/shout/1", |mut stream, _peer| async move {
//!     let mut text = String::new();
//!     stream.read_to_string(&mut text).await?;
//!     stream.write_all(text.to_uppercase().as_bytes()).await?;
//!     stream.close_write().await
//! })?;
//!
//! let client = Node::builder(Keypair::generate()).start().await?;
//! let address = server.addresses().swap_remove(0); // /ip4/127.0.0.1/tcp/40123/p2p/12D3KooW...
//! let peer = client.connect(address).await?.peer;
//!
//! let mut stream = client.open(peer, "/shout/1").await?;
//! stream.write_all(b"hello").await?;
//! stream.close_write().await?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer).await?;
//! assert_eq!(answer, "HELLO");
//!
//! client.shutdown().await;
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! | you want to | look at |
//! | --- | --- |
//! | put a node together | [`Node::builder`], [`Builder`] |
//! | connect, and know how it went | [`Node::connect`], [`Report`], [`DialError`] |
//! | talk with a peer | [`Node::open`], [`Stream`] |
//! | have an answer of a known peer in one round trip | [`First`], [`ServeOptions::replay_safe`] |
//! | ask, and be asked: one message there, one back | [`request_response`] |
//! | be talked to | [`Node::serve`], [`Node::serve_with`] |
//! | find the nodes of this machine, or of the networks it is in | [`mdns`] |
//! | know who comes and goes | [`Node::events`], [`Event`], [`Node::peers`] |
//! | publish and subscribe | [`Gossipsub`], [`pubsub`] |
//! | measure, and ask who a peer is | [`ping`], [`perf`], [`identify`] |
//! | bound what a node spends | [`Limits`], [`LimitError`], [`Node::usage`] |
//! | decide who may connect | [`Gater`], [`gater::Lists`], [`Node::ban`] |
//! | decide which connections are kept | [`Policy`], [`Node::protect`], [`Node::keep`], [`Node::tag`] |
//! | see the actors at work | [`Node::tree`] |
//! | watch it over time | [`Node::metrics`] |
//! | keep an identity | [`KeyFile`] |
//! | keep what is known of peers | [`Builder::store`] |
//! | read and build addresses | [`Multiaddr`], [`multiaddr::Protocol`] |
//! | write a protocol that has an actor of its own | [`Protocol`], [`engine`], [`actor`] |
//! | write a transport, or run without sockets | [`transport`] |
//!
//! # Features
//!
//! All are on by default. Without them a node speaks TCP and Unix domain sockets, with noise, TLS, yamux, identify and
//! ping, and is smaller and sooner built.
//!
//! | feature | what it brings |
//! | --- | --- |
//! | `quic` | QUIC |
//! | `webrtc` | webrtc-direct, and QUIC, whose sockets it shares |
//! | `websocket` | WebSocket, with TLS around it or not |
//! | `mplex` | mplex, for old peers that are asked for it |
//! | `yamux-crate` | yamux on the crate of that name, beside our own, to compare the two |
//! | `secp256k1` | identities on the curve of Bitcoin; without it peers that have one cannot be connected with |
//! | `store` | [`Builder::store`] |
//! | `metrics` | [`Node::metrics`], and [`metrics`] for protocols that add theirs |
//! | `cbor` | requests and responses in CBOR |
//! | `json` | the same in JSON; and keys as js-libp2p and kubo keep them |
//! | `mdns` | [`mdns`] |
//! | `gossipsub` | [`Gossipsub`], [`pubsub`]; brings `metrics` |
//!
//! # What to know
//!
//! - A [`Node`] brings its own threads; its handle works from every task of every tokio runtime, and is cheap to clone.
//! - What asks a peer and waits, again and again, is soonest done on the connection's own thread: [`Node::run_beside`].
//! - Every request ends by a deadline, and every queue has a bound. A refusal names the limit that was reached.
//! - Supervision needs unwinding: with `panic = "abort"` in the profile, the first panic is the process's last. Aborts,
//!   overflown stacks, exhausted memory and endless loops are not survived either way.

pub use peerage_core::{
    Keypair, Multiaddr, PeerId, ProtocolId, PublicKey, budget, engine, envelope, frame, identity, multiaddr,
    peer_record, protocol_id,
};
#[cfg(feature = "mdns")]
pub use peerage_discovery::mdns;
#[cfg(feature = "metrics")]
pub use peerage_host::metrics;
pub use peerage_host::{
    AddressSource, BesideError, Builder, ConnInfo, ConnectOptions, Connected, ConnectionEvent, ConnectionId,
    DialError, DialErrorKind, Direction, ErrorCode, Event, Events, First, Gated, Gater, Keep, KeyFile,
    KeyFileError, LimitError, Limits, Matcher, Node, NodeRef, OpenError, OpenOptions, Optimism, Outcome,
    OwnAddress, Policy, Protocol, Registrar, Report, ServeError, ServeOptions, ServingId, StartError, Stream,
    StreamError, StreamLimits, TagError, Target, Usage, actor, addresses, book, dial, gater, identify,
    key_file, limits, listen, manager, node, perf, ping, request_response, store,
};
#[cfg(feature = "gossipsub")]
pub use peerage_pubsub as pubsub;
#[cfg(feature = "gossipsub")]
pub use peerage_pubsub::Gossipsub;

/// How bytes reach a peer: the [`Transport`](transport::Transport) contract, and the transports there are.
pub mod transport {
    #[cfg(feature = "webrtc")]
    pub use peerage_transport::webrtc;
    pub use peerage_transport::{
        DialOpts, Early, EarlyData, Established, Fault, Io, Link, ListenError, ListenOpts, Listener,
        ListenerEvent, Opening, Progress, Raw, Resumption, Role, Stage, Transport, TransportError, Unproven,
        dns, memory, pnet, tcp, upgrade, websocket,
    };
    #[cfg(feature = "quic")]
    pub use peerage_transport::{quic, udp};
}

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
