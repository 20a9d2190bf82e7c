use std::fmt;

use peerage_core::{Multiaddr, PeerId, ProtocolId};
use peerage_muxer::Muxed;
use tokio::io::{AsyncRead, AsyncWrite};

/// A raw, ordered byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// What a transport yields.
#[derive(Debug)]
pub enum Link {
    /// A byte stream that has to be secured and multiplexed.
    Raw(Raw),
    /// A connection of a transport that secures and multiplexes by itself.
    Established(Box<Established>),
}

/// A byte stream with its two ends.
pub struct Raw {
    /// The bytes.
    pub io: Box<dyn Io>,
    /// This side's address.
    pub local: Multiaddr,
    /// The other side's address, without its peer id.
    pub remote: Multiaddr,
    /// Whether it goes through a relay that bounds time and bytes.
    pub limited: bool,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("limited", &self.limited)
            .finish_non_exhaustive()
    }
}

/// A secured, multiplexed connection whose peer has proven its identity.
#[derive(Debug)]
pub struct Established {
    /// Who the other side is.
    pub peer: PeerId,
    /// This side's address.
    pub local: Multiaddr,
    /// The other side's address, without its peer id.
    pub remote: Multiaddr,
    /// Whether it goes through a relay that bounds time and bytes.
    pub limited: bool,
    /// The security protocol, as negotiated.
    pub security: ProtocolId,
    /// The muxer, as negotiated.
    pub muxer: ProtocolId,
    /// Whether the muxer came with the security handshake and cost no round trip.
    pub early_muxer: bool,
    /// The connection and its driver.
    pub muxed: Muxed,
}
