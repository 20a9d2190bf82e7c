//! One owner for each UDP socket.
//!
//! QUIC and WebRTC share a port (the QUIC and the WebRTC specification want one socket to carry both), so a socket
//! belongs to neither. [`Sockets`] has the bound ones by their local address; whoever binds an address that is there
//! already gets the same [`Socket`].
//!
//! ```text
//!                 ┌─ QUIC ───────► quinn, in its own buffers         (Socket::quic)
//!   socket ─ first byte
//!                 └─ STUN, DTLS ─► a bounded queue                   (Socket::receiver)
//! ```
//!
//! What a datagram is, its first byte says (RFC 9443, section 3). Whoever of the two is polled reads the socket: the
//! QUIC endpoint as long as there is one, for it is always polled; the [`Receiver`] without one. So a socket that
//! carries QUIC alone has no task and no copy more than quinn's own, and one that carries WebRTC alone needs no QUIC.
//!
//! Errors that a socket reports of single datagrams (ICMP messages, above all) and datagrams of no known kind end
//! nothing: anybody can provoke those.

mod kind;
mod queue;
mod quic;
mod receiver;
mod socket;
#[cfg(test)]
mod tests;

pub use kind::Kind;
pub use queue::{Datagram, MAX_QUEUED, MAX_QUEUED_BYTES};
pub(crate) use quic::QuicSocket;
pub use receiver::Receiver;
pub use socket::{BUFFER, Counts, Socket, Sockets};
