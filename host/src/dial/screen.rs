use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Weak},
};

use peerage_core::{Multiaddr, PeerId, multiaddr::Protocol};
use peerage_transport::dns;

use super::{Screen, Skip, Trust};
use crate::{addresses::is_path, node::Inner};

/// What this node can and will dial. An address that was asked for is dialed if it can be.
pub(super) struct NodeScreen {
    node: Weak<Inner>,
}

impl NodeScreen {
    pub(super) fn new(node: &Arc<Inner>) -> Self {
        Self { node: Arc::downgrade(node) }
    }
}

impl fmt::Debug for NodeScreen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeScreen").finish_non_exhaustive()
    }
}

impl Screen for NodeScreen {
    fn refuses(&self, peer: PeerId) -> Option<String> {
        let gated = self.node.upgrade()?.gate(|gater| gater.dial_peer(peer)).err()?;
        Some(gated.to_string())
    }

    fn skip(&self, address: &Multiaddr, expected: Option<PeerId>, trust: Trust) -> Option<Skip> {
        if dns::is_name(address) {
            return None;
        }
        let node = self.node.upgrade()?;
        if node.transport(|transport| transport.dials(address)).is_none() {
            return Some(Skip::Unsupported);
        }
        if trust < Trust::Asked {
            let bound = node.bound_addresses();
            if bound.contains(address) {
                return Some(Skip::Own);
            }
            if let Some(why) = filtered(address, trust, || here(&bound, &node.interfaces.known())) {
                return Some(Skip::Filtered(why));
            }
        }
        // Last: what this node would not dial anyhow is not worth the program's time.
        let gated = node.gate(|gater| gater.dial_address(expected, address)).err()?;
        Some(Skip::Gated(gated.to_string()))
    }
}

/// Where this node is: what it listens on, and the interfaces of its machine. Loopback is among them only if it listens
/// there.
fn here(bound: &[Multiaddr], interfaces: &[IpAddr]) -> Vec<IpAddr> {
    let mut here: Vec<IpAddr> = bound.iter().filter_map(Multiaddr::ip).collect();
    if here.iter().any(IpAddr::is_unspecified) {
        here.push(Ipv4Addr::LOCALHOST.into());
    }
    here.extend(interfaces.iter().filter(|ip| !ip.is_loopback()));
    here
}

/// Why an address that nobody asked for is not dialed, if it is not: because nobody is there, or because a stranger could
/// make this node knock at doors that only it reaches. Pure.
fn filtered(address: &Multiaddr, trust: Trust, here: impl Fn() -> Vec<IpAddr>) -> Option<&'static str> {
    if trust == Trust::Hearsay && is_path(address) {
        return Some("it is a path of this machine, which is nobody else's to name");
    }
    let ip = address.ip()?;
    if ip.is_unspecified() {
        return Some("it stands for every address of a machine");
    }
    let nobodys = match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast() || ip.to_ipv4_mapped().is_some(),
    };
    if nobodys {
        return Some("it is not the address of one machine");
    }
    let has_zone = matches!(address.iter().next(), Some(Protocol::Ip6zone(_)));
    if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) && !has_zone {
        return Some("it does not say on which link");
    }
    if trust > Trust::Hearsay {
        return None;
    }
    if port(address).is_some_and(|port| OTHER_SERVICES.contains(&port)) {
        return Some("another service has that port");
    }
    if address.is_loopback() {
        let too = here().iter().any(IpAddr::is_loopback);
        return (!too).then_some("another machine means itself by it");
    }
    if address.is_private() {
        let too = here().into_iter().any(|own| network(own) == network(ip));
        return (!too).then_some("this node is in no such private network");
    }
    (!address.is_public()).then_some("the internet does not lead there")
}

/// Ports where a connection that nobody expects does harm or raises alarms: ssh, telnet, mail.
const OTHER_SERVICES: [u16; 5] = [22, 23, 25, 465, 587];

fn port(address: &Multiaddr) -> Option<u16> {
    address.socket_addr().map(|socket| socket.addr.port())
}

/// Which of the private networks an address is of; `None` for a public one, which is in none.
fn network(ip: IpAddr) -> Option<Private> {
    let (high, low) = match ip {
        IpAddr::V4(ip) => {
            let [high, low, ..] = ip.octets();
            (high, low)
        }
        IpAddr::V6(ip) => {
            let [high, low, ..] = ip.octets();
            (high, low)
        }
    };
    Some(match (ip, high, low) {
        (IpAddr::V4(_), 10, _) => Private::Ten,
        (IpAddr::V4(_), 172, 16..=31) => Private::OneSevenTwo,
        (IpAddr::V4(_), 192, 168) => Private::OneNineTwo,
        (IpAddr::V4(_), 100, 64..=127) => Private::Shared,
        (IpAddr::V4(_), 169, 254) | (IpAddr::V6(_), 0xfe, 0x80..=0xbf) => Private::Link(ip.is_ipv4()),
        (IpAddr::V6(ip), 0xfc | 0xfd, _) => {
            let [a, b, c, ..] = ip.segments();
            Private::Local([a, b, c])
        }
        _ => return None,
    })
}

/// Networks of the same kind may be different ones; a node in one of them reaches at most its own. Unique local ones
/// say by their first 48 bits which they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Private {
    Ten,
    OneSevenTwo,
    OneNineTwo,
    Shared,
    Link(bool),
    Local([u16; 3]),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(address: &str, trust: Trust, here: &[&str]) -> bool {
        let here = || here.iter().map(|ip| ip.parse().unwrap()).collect();
        filtered(&address.parse().unwrap(), trust, here).is_some()
    }

    #[test]
    fn what_nobody_reaches_is_not_dialed_whoever_names_it() {
        for address in [
            "/ip4/0.0.0.0/tcp/1",
            "/ip6/::/tcp/1",
            "/ip4/224.0.0.1/tcp/1",
            "/ip4/255.255.255.255/tcp/1",
            "/ip6/ff02::1/tcp/1",
            "/ip6/::ffff:127.0.0.1/tcp/1",
            "/ip6/fe80::1/tcp/1",
        ] {
            assert!(skipped(address, Trust::Own, &["127.0.0.1", "::1"]), "{address}");
        }
        for address in
            ["/ip4/127.0.0.1/tcp/22", "/ip4/10.0.0.1/tcp/1", "/ip6zone/1/ip6/fe80::1/tcp/1", "/memory/1"]
        {
            assert!(!skipped(address, Trust::Own, &[]), "{address}");
        }
    }

    #[test]
    fn strangers_do_not_send_this_node_into_its_own_networks() {
        for (address, too) in [
            ("/ip4/127.0.0.1/tcp/4001", "127.0.0.1"),
            ("/ip6/::1/tcp/4001", "::1"),
            ("/ip4/10.1.2.3/tcp/4001", "10.9.9.9"),
            ("/ip4/172.16.0.1/tcp/4001", "172.31.0.1"),
            ("/ip4/192.168.1.1/tcp/4001", "192.168.7.7"),
            ("/ip4/100.64.0.1/tcp/4001", "100.127.0.1"),
            ("/ip4/169.254.1.1/tcp/4001", "169.254.9.9"),
            ("/ip6/fd00:1:2::1/tcp/4001", "fd00:1:2:3::9"),
            ("/ip6zone/2/ip6/fe80::1/tcp/4001", "fe80::2"),
        ] {
            assert!(skipped(address, Trust::Hearsay, &["8.8.8.8", "2a01::1"]), "{address}");
            assert!(!skipped(address, Trust::Hearsay, &["8.8.8.8", too]), "{address}");
        }
        assert!(skipped("/ip6/fd00:1:2::1/tcp/1", Trust::Hearsay, &["fd00:1:3::1"]), "another network");
        assert!(skipped("/ip4/10.0.0.1/tcp/1", Trust::Hearsay, &["192.168.0.1", "172.16.0.1"]));
    }

    #[test]
    fn strangers_name_no_path_of_this_machine() {
        assert!(skipped("/unix/run/docker.sock", Trust::Hearsay, &["127.0.0.1"]));
        assert!(!skipped("/unix/run/docker.sock", Trust::Own, &[]));
    }

    #[test]
    fn strangers_do_not_make_this_node_knock_at_other_services() {
        for port in OTHER_SERVICES {
            assert!(skipped(&format!("/ip4/8.8.8.8/tcp/{port}"), Trust::Hearsay, &[]));
        }
        for address in ["/ip4/192.0.2.1/tcp/1", "/ip4/240.0.0.1/tcp/1", "/ip6/2001:db8::1/tcp/1"] {
            assert!(skipped(address, Trust::Hearsay, &[]), "{address}");
        }
        for address in ["/ip4/8.8.8.8/tcp/443", "/ip6/2a01:4f8::1/tcp/4001", "/memory/1"] {
            assert!(!skipped(address, Trust::Hearsay, &[]), "{address}");
        }
    }
}
