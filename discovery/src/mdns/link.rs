//! The links that a node is found on: which of the machine's interfaces, and who can be reached there. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use if_addrs::{IfAddr, IfOperStatus, Interface};
use peerage_core::Multiaddr;

/// Links at once; an interface is one for IPv4 and one for IPv6.
pub const MAX_LINKS: usize = 32;

/// Which interfaces a node looks for others on, and is found on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interfaces {
    /// Loopback alone: nodes of this machine find one another, and nothing leaves it.
    #[default]
    Loopback,
    /// Loopback, and each interface that is in a private network: one with a private IPv4 address, or with IPv6 alone. In
    /// what is likely a data centre's network nobody is told anything.
    Lan,
    /// Those of these names: `eth0`.
    Named(Vec<String>),
}

/// One of the machine's interfaces, and a version of IP there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId {
    /// The system's number of the interface.
    pub(crate) interface: u32,
    pub(crate) v6: bool,
}

/// A link, and who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) name: String,
    /// This machine's addresses there, of both versions.
    pub(crate) own: Vec<IpAddr>,
    /// What is reached there.
    nets: Vec<Net>,
}

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Net {
    ip: IpAddr,
    prefix: u8,
}

impl Link {
    /// Whether an address is one of this link. Those that name no host, or that mean nothing without a zone, are of none.
    pub(crate) fn reaches(&self, ip: IpAddr) -> bool {
        if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            return false;
        }
        !ip.is_unspecified() && !ip.is_multicast() && self.nets.iter().any(|net| net.contains(ip))
    }

    /// Whether an address leads to somebody on this link.
    pub(crate) fn leads_to(&self, address: &Multiaddr) -> bool {
        address.ip().is_some_and(|ip| self.reaches(ip)) && !address.is_relayed()
    }

    /// Whether a message can have come from this link (RFC 6762, 11).
    pub(crate) fn is_source(&self, ip: IpAddr) -> bool {
        let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        ip.is_ipv6() == self.id.v6 && (self.reaches(ip) || (link_local && !self.is_loopback()))
    }

    /// An address of this machine there, of the link's version.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.own.iter().copied().find(|ip| ip.is_ipv6() == self.id.v6)
    }

    /// Whether one socket does for both.
    pub(crate) fn has_socket_of(&self, other: &Self) -> bool {
        self.id == other.id && (self.id.v6 || self.ip() == other.ip())
    }

    fn is_loopback(&self) -> bool {
        self.own.iter().any(IpAddr::is_loopback)
    }
}

impl Net {
    fn contains(&self, ip: IpAddr) -> bool {
        let shifted = |ip: IpAddr| {
            let (bits, width) = match ip {
                IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32_u32),
                IpAddr::V6(ip) => (ip.to_bits(), 128),
            };
            width.checked_sub(self.prefix.into()).map(|rest| bits.checked_shr(rest).unwrap_or(0))
        };
        ip.is_ipv4() == self.ip.is_ipv4() && shifted(ip).is_some() && shifted(ip) == shifted(self.ip)
    }

    fn host(ip: IpAddr) -> Self {
        Self { ip, prefix: if ip.is_ipv4() { 32 } else { 128 } }
    }
}

/// The links that were chosen, of those that there are.
pub(crate) fn links(interfaces: &[Interface], chosen: &Interfaces) -> Vec<Link> {
    let mut by_index: BTreeMap<u32, Vec<&Interface>> = BTreeMap::new();
    for interface in interfaces {
        let down = matches!(interface.oper_status, IfOperStatus::Down | IfOperStatus::NotPresent);
        if let Some(index) = interface.index.filter(|_| !down) {
            by_index.entry(index).or_default().push(interface);
        }
    }
    let everywhere = interfaces.iter().map(|interface| Net::host(interface.ip()));
    let everywhere: Vec<Net> = everywhere.collect();
    let mut links = Vec::new();
    for (index, addresses) in by_index {
        let Some(name) = addresses.first().map(|interface| interface.name.clone()) else { continue };
        if !chosen.has(&name, &addresses) {
            continue;
        }
        let mut own: Vec<IpAddr> = addresses.iter().map(|interface| interface.ip()).collect();
        // The system's order may change, and the link has not.
        own.sort_unstable();
        let mut nets: Vec<Net> = addresses.iter().map(|interface| net(&interface.addr)).collect();
        if own.iter().any(IpAddr::is_loopback) {
            // Another program of this machine is reached wherever it listens.
            nets.extend(&everywhere);
        } else {
            nets.retain(|net| !net.ip.is_loopback());
        }
        nets.sort_unstable();
        nets.dedup();
        for v6 in [false, true] {
            if own.iter().any(|ip| ip.is_ipv6() == v6) {
                let id = LinkId { interface: index, v6 };
                links.push(Link { id, name: name.clone(), own: own.clone(), nets: nets.clone() });
            }
        }
    }
    links.truncate(MAX_LINKS);
    links
}

impl Interfaces {
    fn has(&self, name: &str, addresses: &[&Interface]) -> bool {
        let loopback = addresses.iter().any(|interface| interface.is_loopback());
        match self {
            Self::Loopback => loopback,
            Self::Named(names) => names.iter().any(|named| named == name),
            Self::Lan => {
                let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) =
                    addresses.iter().map(|interface| interface.ip()).partition(IpAddr::is_ipv4);
                let private = v4.iter().any(|ip| match ip {
                    IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
                    IpAddr::V6(_) => false,
                });
                let to_one = addresses.iter().any(|interface| interface.is_p2p());
                loopback || (!to_one && (private || (v4.is_empty() && !v6.is_empty())))
            }
        }
    }
}

fn net(address: &IfAddr) -> Net {
    match address {
        // All of 127.0.0.0/8 is this machine, whatever the mask says.
        IfAddr::V4(v4) if v4.ip.is_loopback() => Net { ip: Ipv4Addr::LOCALHOST.into(), prefix: 8 },
        IfAddr::V6(v6) if v6.ip.is_loopback() => Net::host(Ipv6Addr::LOCALHOST.into()),
        // A prefix of nothing would be the whole internet.
        IfAddr::V4(v4) if v4.prefixlen == 0 => Net::host(v4.ip.into()),
        IfAddr::V6(v6) if v6.prefixlen == 0 => Net::host(v6.ip.into()),
        IfAddr::V4(v4) => Net { ip: v4.ip.into(), prefix: v4.prefixlen },
        IfAddr::V6(v6) => Net { ip: v6.ip.into(), prefix: v6.prefixlen },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use if_addrs::{Ifv4Addr, Ifv6Addr};

    use super::*;

    fn interface(name: &str, index: u32, ip: &str, prefix: u8) -> Interface {
        let addr = match ip.parse().unwrap() {
            IpAddr::V4(ip) => {
                let netmask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0));
                IfAddr::V4(Ifv4Addr { ip, netmask, prefixlen: prefix, broadcast: None })
            }
            IpAddr::V6(ip) => IfAddr::V6(Ifv6Addr {
                ip,
                netmask: Ipv6Addr::UNSPECIFIED,
                prefixlen: prefix,
                broadcast: None,
            }),
        };
        let up = IfOperStatus::Up;
        Interface { name: name.into(), addr, index: Some(index), oper_status: up, is_p2p: false }
    }

    /// Loopback, a network at home, a server's in the internet, and one with IPv6 alone.
    fn machine() -> Vec<Interface> {
        vec![
            interface("lo", 1, "127.0.0.1", 8),
            interface("lo", 1, "::1", 128),
            interface("home", 2, "192.168.1.7", 24),
            interface("home", 2, "fe80::7", 64),
            interface("home", 2, "2a01:db9::7", 64),
            interface("server", 3, "8.8.8.8", 24),
            interface("server", 3, "fe80::8", 64),
            interface("six", 4, "fe80::9", 64),
        ]
    }

    pub(in super::super) fn home() -> Link {
        links(&machine(), &Interfaces::Lan).into_iter().find(|link| link.name == "home").unwrap()
    }

    pub(in super::super) fn loopback() -> Link {
        links(&machine(), &Interfaces::Loopback).remove(0)
    }

    fn names(chosen: &Interfaces) -> Vec<(String, bool)> {
        links(&machine(), chosen).into_iter().map(|link| (link.name, link.id.v6)).collect()
    }

    #[test]
    fn loopback_is_all_unless_the_user_says_more() {
        let named = |all: &[(&str, bool)]| -> Vec<(String, bool)> {
            all.iter().map(|(name, v6)| ((*name).to_owned(), *v6)).collect()
        };
        assert_eq!(names(&Interfaces::default()), named(&[("lo", false), ("lo", true)]));
        let lan = [("lo", false), ("lo", true), ("home", false), ("home", true), ("six", true)];
        assert_eq!(names(&Interfaces::Lan), named(&lan), "nothing in the internet");
        let chosen = Interfaces::Named(vec!["server".into(), "none".into()]);
        assert_eq!(names(&chosen), named(&[("server", false), ("server", true)]), "but by name");
    }

    #[test]
    fn an_interface_that_is_down_is_no_link() {
        let mut down = interface("home", 2, "192.168.1.7", 24);
        down.oper_status = IfOperStatus::Down;
        assert!(links(&[down], &Interfaces::Lan).is_empty());
        let mut tunnel = interface("tun", 2, "10.0.0.1", 32);
        tunnel.is_p2p = true;
        assert!(links(&[tunnel], &Interfaces::Lan).is_empty());
    }

    #[test]
    fn so_many_links_and_no_more() {
        let many = |count| (1..=count).map(|n| interface("x", n, "10.0.0.1", 8)).collect::<Vec<_>>();
        let most = u32::try_from(MAX_LINKS).unwrap();
        assert_eq!(links(&many(most), &Interfaces::Lan).len(), MAX_LINKS);
        assert_eq!(links(&many(most + 1), &Interfaces::Lan).len(), MAX_LINKS);
    }

    #[test]
    fn what_a_link_reaches() {
        let reaches = |link: &Link, ip: &str| link.reaches(ip.parse().unwrap());
        let home = home();
        for ip in ["192.168.1.200", "2a01:db9::1234"] {
            assert!(reaches(&home, ip), "{ip}");
        }
        for ip in ["127.0.0.1", "::1", "192.168.2.1", "8.8.8.8", "fe80::1", "0.0.0.0", "::", "224.0.0.251"] {
            assert!(!reaches(&home, ip), "{ip}");
        }
        let loopback = loopback();
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "192.168.1.7", "8.8.8.8"] {
            assert!(reaches(&loopback, ip), "{ip}");
        }
        for ip in ["192.168.1.8", "8.8.4.4", "fe80::7"] {
            assert!(!reaches(&loopback, ip), "{ip}");
        }
    }

    #[test]
    fn where_messages_of_a_link_come_from() {
        let links = links(&machine(), &Interfaces::Lan);
        let of = |name: &str, v6: bool| {
            links.iter().find(|link| link.name == name && link.id.v6 == v6).unwrap().clone()
        };
        let comes = |link: &Link, ip: &str| link.is_source(ip.parse().unwrap());
        assert!(comes(&of("home", false), "192.168.1.9") && !comes(&of("home", false), "192.168.2.9"));
        assert!(comes(&of("home", true), "fe80::1") && !comes(&of("home", true), "2a01:dba::1"));
        assert!(!comes(&of("home", true), "192.168.1.9"));
        assert!(comes(&of("lo", false), "127.0.0.1") && !comes(&of("lo", false), "192.168.1.9"));
        assert!(!comes(&of("lo", true), "fe80::1"));
    }

    #[test]
    fn a_prefix_of_nothing_is_not_the_whole_internet() {
        let all = links(&[interface("x", 1, "10.0.0.1", 0)], &Interfaces::Lan);
        assert!(!all[0].reaches("8.8.8.8".parse().unwrap()));
    }
}
