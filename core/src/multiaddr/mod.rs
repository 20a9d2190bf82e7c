//! Addresses that say every layer: `/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW...`.
//!
//! Spec: [multiformats/multiaddr](https://github.com/multiformats/multiaddr) and libp2p's
//! [addressing](https://github.com/libp2p/specs/blob/master/addressing/README.md).

mod binary;
mod error;
mod net;
mod protocol;
mod text;

pub use error::{Error, ErrorKind, WithPeerError};
pub use net::{Socket, Transport};
pub use protocol::{MAX_DIGEST_LEN, MAX_NAME_LEN, Protocol};

use crate::PeerId;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The most bytes of the binary form.
pub const MAX_LEN: usize = 1024;

/// The most bytes of a text that is looked at. The text of any address that fits [`MAX_LEN`] is shorter.
pub const MAX_TEXT_LEN: usize = 4096;

/// The most components.
pub const MAX_COMPONENTS: usize = 16;

/// The most relays on the way: circuit relay has one hop.
pub const MAX_CIRCUITS: usize = 1;

/// A valid multiaddr. Cloning costs a counter; compares and hashes as its bytes.
///
/// ```
/// use peerage_core::{Multiaddr, Protocol};
///
/// let addr: Multiaddr = "/ip4/192.0.2.1/tcp/4001/ws".parse()?;
/// assert_eq!(addr.iter().nth(1), Some(Protocol::Tcp(4001)));
/// assert_eq!(addr.to_string(), "/ip4/192.0.2.1/tcp/4001/ws");
///
/// let error = "/ip4/192.0.2.1/tcp/http".parse::<Multiaddr>().unwrap_err();
/// assert_eq!(error.to_string(), "/tcp: expected a port, 0 to 65535, at byte 19");
/// # Ok::<(), peerage_core::multiaddr::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiaddr(Arc<[u8]>);

impl Multiaddr {
    /// An address without components, to [`push`](Multiaddr::push) on. It has no text and no binary form that could be
    /// read again: neither an empty text nor no bytes are taken from anyone.
    pub fn empty() -> Multiaddr {
        Multiaddr(Arc::from([]))
    }

    /// Reads the text form, with at most one slash at the end.
    ///
    /// # Errors
    ///
    /// When it is too long, has too many components, a protocol that is not known, or a value that is not right. The
    /// error says where.
    pub fn parse(text: &str) -> Result<Multiaddr, Error> {
        if text.len() > MAX_TEXT_LEN {
            let kind = ErrorKind::TooLong { len: text.len(), max: MAX_TEXT_LEN };
            return Err(Error::new(MAX_TEXT_LEN, kind));
        }
        let mut budget = Budget::default();
        let mut bytes = Vec::new();
        text::parse(text, |at, protocol| {
            budget.spend(&protocol).map_err(|kind| Error::new(at, kind))?;
            binary::encode(&protocol, &mut bytes);
            check_len(bytes.len(), at)
        })?;
        Ok(Multiaddr(bytes.into()))
    }

    /// Reads the binary form, all of it.
    ///
    /// # Errors
    ///
    /// As [`Multiaddr::parse`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Multiaddr, Error> {
        check_len(bytes.len(), MAX_LEN)?;
        if bytes.is_empty() {
            return Err(Error::new(0, ErrorKind::Empty));
        }
        let mut budget = Budget::default();
        let mut decoder = binary::Decoder::new(bytes);
        loop {
            let at = decoder.position();
            let Some(protocol) = decoder.next()? else {
                return Ok(Multiaddr(bytes.into()));
            };
            budget.spend(&protocol).map_err(|kind| Error::new(at, kind))?;
        }
    }

    /// The binary form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, from the outermost layer inwards.
    pub fn iter(&self) -> Iter<'_> {
        Iter(binary::Decoder::new(&self.0))
    }

    /// Whether there are no components.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends a component.
    ///
    /// # Errors
    ///
    /// When its value is not valid, when there is no room for it, or after `/unix`. The address stays as it was.
    pub fn push(&mut self, protocol: Protocol<'_>) -> Result<(), Error> {
        let at = self.0.len();
        let mut budget = Budget::default();
        for there in self.iter() {
            budget.spend(&there).map_err(|kind| Error::new(at, kind))?;
        }
        budget.spend(&protocol).map_err(|kind| Error::new(at, kind))?;
        if !protocol.is_valid() {
            let expected = protocol::by_code(protocol.code()).map_or("", |entry| entry.expected);
            return Err(Error::new(at, ErrorKind::Value { protocol: protocol.name(), expected }));
        }
        let mut bytes = self.0.to_vec();
        binary::encode(&protocol, &mut bytes);
        check_len(bytes.len(), at)?;
        self.0 = bytes.into();
        Ok(())
    }

    /// The address with a component more; see [`Multiaddr::push`].
    ///
    /// # Errors
    ///
    /// As [`Multiaddr::push`].
    pub fn with(mut self, protocol: Protocol<'_>) -> Result<Multiaddr, Error> {
        self.push(protocol)?;
        Ok(self)
    }

    /// Cuts the last component off; `false` when there was none.
    pub fn pop(&mut self) -> bool {
        match self.last() {
            Some((at, _)) => {
                self.0 = self.0.get(..at).unwrap_or_default().into();
                true
            }
            None => false,
        }
    }

    /// Whom the address leads to: its last `/p2p`. `None` when a `/p2p-circuit` follows that, because then it names the
    /// relay on the way.
    pub fn peer_id(&self) -> Option<PeerId> {
        self.iter().fold(None, |peer, protocol| match protocol {
            Protocol::P2p(peer) => Some(peer),
            Protocol::P2pCircuit => None,
            _ => peer,
        })
    }

    /// The address without its `/p2p` at the end, and the peer that was named there.
    pub fn split_peer(&self) -> (Multiaddr, Option<PeerId>) {
        match self.last() {
            Some((at, Protocol::P2p(peer))) => {
                (Multiaddr(self.0.get(..at).unwrap_or_default().into()), Some(peer))
            }
            _ => (self.clone(), None),
        }
    }

    /// The address with the peer it leads to; the same address when that is there already.
    ///
    /// # Errors
    ///
    /// When it leads to another peer, or when there is no room.
    pub fn with_peer(&self, peer: PeerId) -> Result<Multiaddr, WithPeerError> {
        match self.peer_id() {
            Some(found) if found == peer => Ok(self.clone()),
            Some(found) => Err(WithPeerError::Conflict { found, wanted: peer }),
            None => Ok(self.clone().with(Protocol::P2p(peer))?),
        }
    }

    /// Whether the way leads over a relay.
    pub fn is_relayed(&self) -> bool {
        self.iter().any(|protocol| protocol == Protocol::P2pCircuit)
    }

    /// The last component, and where it starts.
    fn last(&self) -> Option<(usize, Protocol<'_>)> {
        let mut iter = self.iter();
        let mut last = None;
        loop {
            let at = iter.0.position();
            match iter.next() {
                Some(protocol) => last = Some((at, protocol)),
                None => return last,
            }
        }
    }
}

fn check_len(len: usize, at: usize) -> Result<(), Error> {
    if len > MAX_LEN {
        return Err(Error::new(at, ErrorKind::TooLong { len, max: MAX_LEN }));
    }
    Ok(())
}

/// What an address has so far of the things that are counted.
#[derive(Default)]
struct Budget {
    components: usize,
    circuits: usize,
    ended: bool,
}

impl Budget {
    fn spend(&mut self, protocol: &Protocol<'_>) -> Result<(), ErrorKind> {
        if self.ended {
            return Err(ErrorKind::AfterUnix);
        }
        self.ended = matches!(protocol, Protocol::Unix(_));
        self.components = self.components.saturating_add(1);
        if self.components > MAX_COMPONENTS {
            return Err(ErrorKind::TooManyComponents);
        }
        self.circuits = self.circuits.saturating_add((*protocol == Protocol::P2pCircuit).into());
        if self.circuits > MAX_CIRCUITS {
            return Err(ErrorKind::TooManyCircuits);
        }
        Ok(())
    }
}

/// The components of an address.
#[derive(Clone, Debug)]
pub struct Iter<'a>(binary::Decoder<'a>);

impl<'a> Iterator for Iter<'a> {
    type Item = Protocol<'a>;

    fn next(&mut self) -> Option<Protocol<'a>> {
        // The bytes were read once already, so that there is no error.
        self.0.next().ok().flatten()
    }
}

impl<'a> IntoIterator for &'a Multiaddr {
    type Item = Protocol<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromStr for Multiaddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Multiaddr, Error> {
        Multiaddr::parse(text)
    }
}

impl TryFrom<&str> for Multiaddr {
    type Error = Error;

    fn try_from(text: &str) -> Result<Multiaddr, Error> {
        Multiaddr::parse(text)
    }
}

impl TryFrom<&[u8]> for Multiaddr {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Multiaddr, Error> {
        Multiaddr::from_bytes(bytes)
    }
}

impl AsRef<[u8]> for Multiaddr {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Multiaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|protocol| write!(f, "{protocol}"))
    }
}

impl fmt::Debug for Multiaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Multiaddr({self})")
    }
}
