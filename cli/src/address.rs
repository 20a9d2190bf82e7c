//! Addresses, as users give them and as they are told them.

use std::net::{IpAddr, SocketAddr};

use peerage::{Multiaddr, Node, PeerId, multiaddr::Protocol};

/// Reads a multiaddr. Whoever gives something else is told what it would be as one.
pub(crate) fn parse(text: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|error: peerage::multiaddr::Error| {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return format!("an address is written {}", Multiaddr::tcp(socket));
        }
        if text.parse::<PeerId>().is_ok() {
            return format!("that is a peer id; say where it is: /ip4/HOST/tcp/PORT/p2p/{text}");
        }
        if !text.starts_with('/') {
            return format!("{error}; an address is written /ip4/127.0.0.1/tcp/4001");
        }
        error.to_string()
    })
}

/// What others can dial, the most useful first. A node that listens on all interfaces says so (`0.0.0.0`), and nobody
/// can dial that: it stands for the address of each interface.
pub(crate) fn dialable(node: &Node) -> Vec<Multiaddr> {
    let mut interfaces: Vec<IpAddr> = Vec::new();
    if node.addresses().iter().any(Multiaddr::is_unspecified) {
        match if_addrs::get_if_addrs() {
            Ok(found) => interfaces
                .extend(found.iter().filter(|one| !one.is_link_local()).map(if_addrs::Interface::ip)),
            Err(error) => tracing::warn!(%error, "cannot list the interfaces of this machine"),
        }
    }
    interfaces.sort_by_key(|ip| ip.is_loopback());
    node.addresses().into_iter().flat_map(|address| expand(address, &interfaces)).collect()
}

fn expand(address: Multiaddr, interfaces: &[IpAddr]) -> Vec<Multiaddr> {
    let Some(wildcard) = address.ip().filter(IpAddr::is_unspecified) else { return vec![address] };
    let same_family = interfaces.iter().filter(|ip| ip.is_ipv4() == wildcard.is_ipv4());
    let expanded: Vec<_> = same_family.filter_map(|ip| with_ip(&address, *ip)).collect();
    if expanded.is_empty() { vec![address] } else { expanded }
}

fn with_ip(address: &Multiaddr, ip: IpAddr) -> Option<Multiaddr> {
    let ip = match ip {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    };
    let above = address.iter().skip(1);
    std::iter::once(ip).chain(above).try_fold(Multiaddr::empty(), |to, next| to.with(next).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_no_multiaddr_is_told_how_to() {
        assert!(parse("127.0.0.1:4001").unwrap_err().contains("/ip4/127.0.0.1/tcp/4001"));
        let peer = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
        assert!(parse(peer).unwrap_err().ends_with(&format!("/ip4/HOST/tcp/PORT/p2p/{peer}")));
        assert!(parse("example.com").unwrap_err().ends_with("/ip4/127.0.0.1/tcp/4001"));
        assert!(parse("/ip4/127.0.0.1/tcp/x").unwrap_err().contains("port"));
        assert!(parse("/ip4/127.0.0.1/tcp/4001").is_ok());
    }

    #[test]
    fn an_unspecified_address_becomes_one_of_each_interface() {
        let interfaces: Vec<IpAddr> =
            ["192.0.2.7", "::1", "127.0.0.1"].iter().map(|ip| ip.parse().unwrap()).collect();
        let expanded = |address: &str| -> Vec<String> {
            expand(address.parse().unwrap(), &interfaces).iter().map(Multiaddr::to_string).collect()
        };
        assert_eq!(expanded("/ip4/0.0.0.0/tcp/1"), ["/ip4/192.0.2.7/tcp/1", "/ip4/127.0.0.1/tcp/1"]);
        assert_eq!(expanded("/ip6/::/tcp/1"), ["/ip6/::1/tcp/1"]);
        assert_eq!(expanded("/ip4/192.0.2.9/tcp/1"), ["/ip4/192.0.2.9/tcp/1"]);
    }
}
