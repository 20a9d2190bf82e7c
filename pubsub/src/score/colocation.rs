use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use peerage_core::PeerId;
use peerage_host::limits::Prefix;

use super::params::Colocation;

/// Which peers are at which address. Peers that are gone but remembered count as well: else a crowd at one address could
/// take turns.
#[derive(Debug, Default)]
pub(super) struct Addresses(BTreeMap<Prefix, BTreeSet<PeerId>>);

impl Addresses {
    pub(super) fn insert(&mut self, at: Prefix, peer: PeerId) {
        self.0.entry(at).or_default().insert(peer);
    }

    pub(super) fn remove(&mut self, at: Prefix, peer: PeerId) {
        if let Some(peers) = self.0.get_mut(&at) {
            peers.remove(&peer);
            if peers.is_empty() {
                self.0.remove(&at);
            }
        }
    }

    pub(super) fn peers(&self, at: Prefix) -> impl Iterator<Item = &PeerId> {
        self.0.get(&at).into_iter().flatten()
    }

    /// How many peers are too many there.
    pub(super) fn surplus(&self, at: Prefix, params: &Colocation) -> u32 {
        let peers = self.0.get(&at).map_or(0, BTreeSet::len);
        u32::try_from(peers).unwrap_or(u32::MAX).saturating_sub(params.threshold)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What an address counts as; `None` if any number of peers may be there.
pub(super) fn counted(ip: IpAddr, params: &Colocation) -> Option<Prefix> {
    let ip = ip.to_canonical();
    let free = ip.is_loopback() || params.allowed.iter().any(|network| network.contains(ip));
    (!free).then(|| Prefix::of(ip, if ip.is_ipv4() { 32 } else { 64 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_addresses_count_as() {
        let allowed = vec!["198.51.100.0/24".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()];
        let params = Colocation { weight: -1.0, threshold: 1, allowed };
        let counted = |ip: &str| counted(ip.parse().unwrap(), &params).map(|prefix| prefix.to_string());
        assert_eq!(counted("192.0.2.1").as_deref(), Some("192.0.2.1/32"));
        assert_eq!(counted("::ffff:192.0.2.1").as_deref(), Some("192.0.2.1/32"));
        assert_eq!(counted("2001:db8::1:2").as_deref(), Some("2001:db8::/64"));
        for free in ["127.0.0.1", "::1", "198.51.100.77", "::ffff:198.51.100.77", "2001:db8:1::1"] {
            assert_eq!(counted(free), None, "{free}");
        }
    }
}
