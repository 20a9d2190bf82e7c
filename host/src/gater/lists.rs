use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use peerage_core::{Multiaddr, PeerId};

use super::{Gated, Gater};
use crate::{hub::ConnInfo, limits::Prefix};

/// The most entries of each of the four lists.
pub const MAX_LISTED: usize = 65_536;

/// A list is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a list has {MAX_LISTED} entries at most")]
pub struct TooMany;

/// A [`Gater`] by lists of peers and networks, which may be changed while the node runs. Clones share the lists.
///
/// - What is denied is refused, in either direction, even if it is allowed as well.
/// - Once anything of a kind is allowed, nothing else of that kind is: with one peer allowed, all others are refused.
/// - Networks are compared with the address at the other end of the wire; of a relayed connection that is the relay's.
///   Addresses without an IP (names, memory, paths) match no network. A name is checked once it is resolved.
/// - Connections that are there stay; close them with [`Node::disconnect`](crate::Node::disconnect).
///
/// ```
/// use peerage_host::gater::Lists;
///
/// let lists = Lists::new();
/// lists.deny_network("192.0.2.0/24".parse()?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Lists(Arc<RwLock<Sets>>);

#[derive(Debug, Default)]
struct Sets {
    allowed_peers: BTreeSet<PeerId>,
    denied_peers: BTreeSet<PeerId>,
    allowed_networks: BTreeSet<Prefix>,
    denied_networks: BTreeSet<Prefix>,
}

impl Lists {
    /// Empty lists, which allow everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses a peer.
    ///
    /// # Errors
    /// [`TooMany`]
    pub fn deny_peer(&self, peer: PeerId) -> Result<(), TooMany> {
        self.edit(|sets| insert(&mut sets.denied_peers, peer))
    }

    /// Refuses a network.
    ///
    /// # Errors
    /// [`TooMany`]
    pub fn deny_network(&self, network: Prefix) -> Result<(), TooMany> {
        self.edit(|sets| insert(&mut sets.denied_networks, network))
    }

    /// Refuses all peers but this one and others that are allowed.
    ///
    /// # Errors
    /// [`TooMany`]
    pub fn allow_peer(&self, peer: PeerId) -> Result<(), TooMany> {
        self.edit(|sets| insert(&mut sets.allowed_peers, peer))
    }

    /// Refuses all networks but this one and others that are allowed.
    ///
    /// # Errors
    /// [`TooMany`]
    pub fn allow_network(&self, network: Prefix) -> Result<(), TooMany> {
        self.edit(|sets| insert(&mut sets.allowed_networks, network))
    }

    /// Takes a peer out of both lists; whether it was in one.
    pub fn forget_peer(&self, peer: &PeerId) -> bool {
        self.edit(|sets| sets.denied_peers.remove(peer) | sets.allowed_peers.remove(peer))
    }

    /// Takes a network out of both lists, by the very prefix that was put in; whether it was in one.
    pub fn forget_network(&self, network: &Prefix) -> bool {
        self.edit(|sets| sets.denied_networks.remove(network) | sets.allowed_networks.remove(network))
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut Sets) -> T) -> T {
        edit(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn check<T>(&self, check: impl FnOnce(&Sets) -> T) -> T {
        check(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn insert<T: Ord>(set: &mut BTreeSet<T>, entry: T) -> Result<(), TooMany> {
    if set.len() >= MAX_LISTED && !set.contains(&entry) {
        return Err(TooMany);
    }
    set.insert(entry);
    Ok(())
}

impl Sets {
    fn peer(&self, peer: &PeerId) -> Result<(), Gated> {
        if self.denied_peers.contains(peer) {
            return Err(Gated::because(format!("{peer} is denied")));
        }
        if !self.allowed_peers.is_empty() && !self.allowed_peers.contains(peer) {
            return Err(Gated::because(format!("{peer} is not among the allowed peers")));
        }
        Ok(())
    }

    fn address(&self, address: &Multiaddr) -> Result<(), Gated> {
        let Some(ip) = address.ip() else { return Ok(()) };
        if let Some(network) = find(&self.denied_networks, ip) {
            return Err(Gated::because(format!("{ip} is in {network}, which is denied")));
        }
        if !self.allowed_networks.is_empty() && find(&self.allowed_networks, ip).is_none() {
            return Err(Gated::because(format!("{ip} is in no allowed network")));
        }
        Ok(())
    }
}

/// A network of the set that an address is in. One look-up for each length of prefix there may be: it does not matter
/// how many networks are listed.
fn find(set: &BTreeSet<Prefix>, ip: IpAddr) -> Option<Prefix> {
    if set.is_empty() {
        return None;
    }
    let bits: u8 = if ip.to_canonical().is_ipv4() { 32 } else { 128 };
    (0..=bits).map(|bits| Prefix::of(ip, bits)).find(|prefix| set.contains(prefix))
}

impl Gater for Lists {
    fn name(&self) -> &'static str {
        "lists"
    }

    fn dial_peer(&self, peer: PeerId) -> Result<(), Gated> {
        self.check(|sets| sets.peer(&peer))
    }

    fn dial_address(&self, _: Option<PeerId>, address: &Multiaddr) -> Result<(), Gated> {
        self.check(|sets| sets.address(address))
    }

    fn accept(&self, _: &Multiaddr, remote: &Multiaddr) -> Result<(), Gated> {
        self.check(|sets| sets.address(remote))
    }

    fn secured(&self, connection: &ConnInfo) -> Result<(), Gated> {
        self.check(|sets| sets.peer(&connection.peer))
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;

    use super::*;

    fn peer(n: u8) -> PeerId {
        Keypair::from_ed25519_seed([n; 32]).peer_id()
    }

    fn comes(lists: &Lists, address: &str) -> bool {
        let (local, remote) = ("/ip4/127.0.0.1/tcp/1".parse().unwrap(), address.parse().unwrap());
        let accepted = lists.accept(&local, &remote).is_ok();
        assert_eq!(lists.dial_address(None, &remote).is_ok(), accepted, "in both directions");
        accepted
    }

    #[test]
    fn peers() {
        let lists = Lists::new();
        assert!(lists.dial_peer(peer(1)).is_ok());
        lists.deny_peer(peer(1)).unwrap();
        let refused = lists.clone().dial_peer(peer(1)).unwrap_err();
        assert_eq!(refused.why, format!("{} is denied", peer(1)));
        assert!(lists.dial_peer(peer(2)).is_ok());
        lists.allow_peer(peer(2)).unwrap();
        lists.allow_peer(peer(1)).unwrap();
        assert!(lists.dial_peer(peer(1)).is_err(), "denying goes first");
        assert!(lists.dial_peer(peer(2)).is_ok() && lists.dial_peer(peer(3)).is_err());
        assert!(lists.forget_peer(&peer(1)) && lists.forget_peer(&peer(2)) && !lists.forget_peer(&peer(2)));
        assert!(lists.dial_peer(peer(1)).is_ok() && lists.dial_peer(peer(3)).is_ok());
    }

    #[test]
    fn networks() {
        let lists = Lists::new();
        lists.deny_network("192.0.2.0/24".parse().unwrap()).unwrap();
        lists.deny_network("2001:db8::/32".parse().unwrap()).unwrap();
        for denied in
            ["/ip4/192.0.2.200/tcp/1", "/ip6/::ffff:192.0.2.1/tcp/1", "/ip6/2001:db8:9::1/udp/1/quic-v1"]
        {
            assert!(!comes(&lists, denied), "{denied}");
        }
        for fine in ["/ip4/192.0.3.1/tcp/1", "/ip6/2001:db9::1/tcp/1", "/dns4/a.example/tcp/1", "/memory/1"] {
            assert!(comes(&lists, fine), "{fine}");
        }
        lists.allow_network("198.51.100.0/24".parse().unwrap()).unwrap();
        assert!(comes(&lists, "/ip4/198.51.100.1/tcp/1") && !comes(&lists, "/ip4/192.0.3.1/tcp/1"));
        assert!(!comes(&lists, "/ip4/192.0.2.200/tcp/1"));
        assert!(lists.forget_network(&"198.51.100.0/24".parse().unwrap()));
        assert!(!lists.forget_network(&"192.0.2.0/25".parse().unwrap()), "not the one that was put in");
        assert!(comes(&lists, "/ip4/192.0.3.1/tcp/1"));
        lists.deny_network("0.0.0.0/0".parse().unwrap()).unwrap();
        assert!(!comes(&lists, "/ip4/192.0.3.1/tcp/1") && comes(&lists, "/ip6/2001:db9::1/tcp/1"));
    }

    #[test]
    fn a_list_that_is_full() {
        let mut set = BTreeSet::new();
        for n in 0..MAX_LISTED {
            insert(&mut set, n).unwrap();
        }
        assert_eq!(insert(&mut set, MAX_LISTED), Err(TooMany));
        assert_eq!(insert(&mut set, 0), Ok(()));
    }
}
