//! WebSocket: `/ip4/<a>/tcp/<p>/ws` and `/ip6/...`, over TLS `/tls/ws`, `/tls/sni/<name>/ws` or `/wss`, each with
//! `/http-path/<path>` behind it or not.
//!
//! Specs: RFC 6455; libp2p's [websockets](https://github.com/libp2p/specs/blob/master/websockets/README.md).
//!
//! A link is a socket on which TLS and HTTP have to be spoken first ([`Link::Opening`](crate::Link::Opening)), by the upgrade's deadline. What
//! comes of it is a byte stream; who the peer is, is proven inside it, as on every raw link. TLS only makes browsers
//! content, which open nothing else from secure pages.
//!
//! - tungstenite reads and checks the HTTP of the opening handshake; the frames are ours, so that a payload goes where it
//!   is wanted, whatever length its frame claims.
//! - Extensions (compression) are neither offered nor taken, redirections not followed.
//! - A server's certificate has to be that of the name in the address, or of its IP address, signed by an authority that
//!   this machine believes ([`Config::system_roots`]) or the user added ([`Config::authorities`]).
//! - Listeners share a port with those of [`Tcp`](crate::tcp::Tcp) and with each other: by the first byte it is seen what a client speaks.

#[cfg(feature = "websocket")]
mod address;
#[cfg(feature = "websocket")]
mod certificate;
mod error;
#[cfg_attr(not(feature = "websocket"), allow(dead_code, reason = "only what errors name"))]
mod frame;
#[cfg(feature = "websocket")]
mod http;
#[cfg(feature = "websocket")]
mod inbound;
#[cfg(feature = "websocket")]
mod outbound;
#[cfg(feature = "websocket")]
mod stream;
#[cfg(feature = "websocket")]
mod tls;
#[cfg(feature = "websocket")]
mod transport;

use std::time::Duration;

#[cfg(feature = "websocket")]
pub use self::{
    certificate::{Certificate, RELOAD_INTERVAL},
    outbound::MAX_PAYLOAD_LEN,
    stream::WebSocketStream,
    tls::{PemError, authorities},
    transport::{Config, WebSocket},
};
pub use self::{
    error::Error,
    frame::{MAX_FRAME_LEN, Violation},
};

/// How long TLS and HTTP may take, from the first byte that is waited for; the upgrade that they are part of may end
/// sooner. It is half of that, so that one who is slow here is told apart from one who is slow later.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes of a request's or a response's head. Browsers add cookies and their own name; node and nginx take as
/// much. Its header lines are [`MAX_HEADERS`](tokio_tungstenite::tungstenite::handshake::headers::MAX_HEADERS) at most.
pub const MAX_HEAD_LEN: usize = 16 * 1024;
