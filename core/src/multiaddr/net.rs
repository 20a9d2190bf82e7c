//! What an address says about the network under it.

use super::{Iter, Multiaddr, Protocol, binary};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The kind of port at the bottom of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `/tcp`
    Tcp,
    /// `/udp`
    Udp,
}

/// The bottom of an address, as the operating system takes it.
#[derive(Clone, Debug)]
pub struct Socket<'a> {
    /// Address and port; with a scope, when the zone was a number.
    pub addr: SocketAddr,
    /// Of which kind the port is.
    pub transport: Transport,
    /// The components above.
    pub rest: Iter<'a>,
}

impl Multiaddr {
    /// The address of a TCP socket.
    pub fn tcp(addr: SocketAddr) -> Multiaddr {
        Multiaddr::socket(addr, Protocol::Tcp(addr.port()))
    }

    /// The address of a UDP socket.
    pub fn udp(addr: SocketAddr) -> Multiaddr {
        Multiaddr::socket(addr, Protocol::Udp(addr.port()))
    }

    fn socket(addr: SocketAddr, port: Protocol<'_>) -> Multiaddr {
        let mut bytes = Vec::new();
        match addr {
            SocketAddr::V4(addr) => binary::encode(&Protocol::Ip4(*addr.ip()), &mut bytes),
            SocketAddr::V6(addr) => {
                if addr.scope_id() != 0 {
                    binary::encode(&Protocol::Ip6zone(&addr.scope_id().to_string()), &mut bytes);
                }
                binary::encode(&Protocol::Ip6(*addr.ip()), &mut bytes);
            }
        }
        binary::encode(&port, &mut bytes);
        Multiaddr(bytes.into())
    }

    /// The socket at the bottom of the address and what is above it, when the address starts with an IP address and a
    /// port.
    ///
    /// `None` for a domain name, which has to be resolved first, and for a zone that is a name: only the operating
    /// system knows the number of an interface.
    ///
    /// ```
    /// use peerage_core::{Multiaddr, Protocol, multiaddr::Transport};
    ///
    /// let addr: Multiaddr = "/ip6/::1/udp/4001/quic-v1".parse()?;
    /// let mut socket = addr.socket_addr().unwrap();
    /// assert_eq!(socket.addr.to_string(), "[::1]:4001");
    /// assert_eq!(socket.transport, Transport::Udp);
    /// assert_eq!(socket.rest.next(), Some(Protocol::QuicV1));
    /// # Ok::<(), peerage_core::multiaddr::Error>(())
    /// ```
    pub fn socket_addr(&self) -> Option<Socket<'_>> {
        let mut rest = self.iter();
        let (ip, scope) = match rest.next()? {
            Protocol::Ip4(ip) => (IpAddr::V4(ip), 0),
            Protocol::Ip6(ip) => (IpAddr::V6(ip), 0),
            Protocol::Ip6zone(zone) => match rest.next()? {
                Protocol::Ip6(ip) => (IpAddr::V6(ip), zone.parse().ok()?),
                _ => return None,
            },
            _ => return None,
        };
        let (port, transport) = match rest.next()? {
            Protocol::Tcp(port) => (port, Transport::Tcp),
            Protocol::Udp(port) => (port, Transport::Udp),
            _ => return None,
        };
        let addr = match ip {
            IpAddr::V4(_) => SocketAddr::new(ip, port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
        };
        Some(Socket { addr, transport, rest })
    }

    /// The IP address at the bottom; of a relayed address, the relay's.
    pub fn ip(&self) -> Option<IpAddr> {
        self.iter().find_map(|protocol| match protocol {
            Protocol::Ip6zone(_) => None,
            Protocol::Ip4(ip) => Some(Some(ip.into())),
            Protocol::Ip6(ip) => Some(Some(ip.into())),
            _ => Some(None),
        })?
    }

    /// Whether the IP address at the bottom never leaves this machine. `false` without one.
    pub fn is_loopback(&self) -> bool {
        self.ip().is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    /// Whether the IP address at the bottom stands for all of this machine's (`0.0.0.0`, `::`).
    pub fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|ip| ip.to_canonical().is_unspecified())
    }

    /// Whether the IP address at the bottom is of a network that the internet does not route to: private (RFC 1918),
    /// carrier-grade NAT (RFC 6598), unique local (RFC 4193), link-local. Loopback is not among them.
    pub fn is_private(&self) -> bool {
        match self.ip().map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => ip.is_private() || ip.is_link_local() || is_shared(ip),
            Some(IpAddr::V6(ip)) => ip.is_unique_local() || ip.is_unicast_link_local(),
            None => false,
        }
    }

    /// Whether there is an IP address at the bottom that the whole internet can reach: none of the above, and not one
    /// for multicast, broadcast, documentation, benchmarks or other special purposes. An IPv6 address that leads to an
    /// IPv4 address (NAT64 at 64:ff9b::/96, 6to4) is as public as that is.
    pub fn is_public(&self) -> bool {
        if self.is_loopback() || self.is_unspecified() || self.is_private() {
            return false;
        }
        match self.ip().map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => is_public_v4(ip),
            Some(IpAddr::V6(ip)) => is_public_v6(ip),
            None => false,
        }
    }
}

/// 100.64.0.0/10.
fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && b & 0xc0 == 64
}

/// IANA's special-purpose registry.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let this_network = a == 0;
    let protocol_assignments = (a, b, c) == (192, 0, 0);
    let benchmarks = a == 198 && b & 0xfe == 18;
    let reserved = a >= 240;
    !(this_network
        || protocol_assignments
        || benchmarks
        || reserved
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || is_shared(ip)
        || ip.is_multicast()
        || ip.is_documentation())
}

/// Global unicast is 2000::/3, but for documentation (2001:db8::/32, 3fff::/20) and 2001::/23, which is for protocols:
/// Teredo, benchmarks, ORCHID. Of the rest of IANA's special-purpose registry, 64:ff9b::/96 leads to IPv4 by NAT64 (the
/// local 64:ff9b:1::/48 to whatever a network likes), and 2002::/16 by 6to4.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        [0x2001, b, ..] if b < 0x200 || b == 0xdb8 => false,
        [0x3fff, b, ..] if b < 0x1000 => false,
        [a, ..] => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(ip: &str) -> Multiaddr {
        let ip: IpAddr = ip.parse().unwrap();
        Multiaddr::tcp(SocketAddr::new(ip, 1))
    }

    #[test]
    fn classes_of_addresses() {
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(addr(ip).is_loopback() && !addr(ip).is_private() && !addr(ip).is_public(), "{ip}");
        }
        for ip in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(addr(ip).is_private() && !addr(ip).is_loopback() && !addr(ip).is_public(), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "2a01:4f8::1",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
        ] {
            assert!(addr(ip).is_public() && !addr(ip).is_private(), "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "::",
            "0.1.2.3",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.19.255.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "2001:db8::1",
            "3fff::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!addr(ip).is_public() && !addr(ip).is_private() && !addr(ip).is_loopback(), "{ip}");
        }
        assert!(addr("::").is_unspecified() && addr("0.0.0.0").is_unspecified());
        let name: Multiaddr = "/dns4/localhost/tcp/1/ip4/127.0.0.1".parse().unwrap();
        assert!(name.ip().is_none() && !name.is_loopback() && !name.is_public());
    }

    #[test]
    fn special_networks_of_ip6() {
        for (ip, public) in [
            // NAT64: all 96 bits, and the address inside.
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b::127.0.0.1", false),
            ("64:ff9b::169.254.1.1", false),
            ("64:ff9b::100.64.0.1", false),
            ("64:ff9b::192.0.2.1", false),
            ("64:ff9b::0.0.0.0", false),
            ("64:ff9b::1:808:808", false),
            ("64:ff9b:0:0:1::808:808", false),
            ("64:ff9b:1::808:808", false),
            ("64:ff9b:1:ffff::808:808", false),
            ("64:ff9b:2::808:808", false),
            ("64:ff9a::808:808", false),
            // 2001::/23: Teredo, benchmarks, ORCHID and more.
            ("2001::1", false),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", false),
            ("2001:2::1", false),
            ("2001:20::1", false),
            ("2001:1ff:ffff::1", false),
            ("2001:200::1", true),
            ("2001:db7::1", true),
            ("2001:db8:ffff::1", false),
            ("2001:db9::1", true),
            ("2001:4860:4860::8888", true),
            // 6to4.
            ("2002:808:808::1", true),
            ("2002:a00:1::1", false),
            ("2002:7f00:1::1", false),
            ("2002:c0a8:101:1::1", false),
            ("2002:e000:1::1", false),
            // The edges of global unicast.
            ("1fff::1", false),
            ("2000::1", true),
            ("2003::1", true),
            ("3ffe::1", true),
            ("3fff:fff::1", false),
            ("3fff:1000::1", true),
            ("4000::1", false),
        ] {
            assert_eq!(addr(ip).is_public(), public, "{ip}");
        }
    }

    #[test]
    fn sockets_both_ways() {
        for text in ["192.0.2.1:80", "[2001:db8::1]:4001", "[fe80::1%3]:9"] {
            let socket: SocketAddr = text.parse().unwrap();
            let (tcp, udp) = (Multiaddr::tcp(socket), Multiaddr::udp(socket));
            let back = tcp.socket_addr().unwrap();
            assert_eq!((back.addr, back.transport, back.rest.count()), (socket, Transport::Tcp, 0));
            assert_eq!(udp.socket_addr().unwrap().transport, Transport::Udp);
            assert_eq!(Multiaddr::from_bytes(tcp.as_bytes()), Ok(tcp));
        }
        assert_eq!(
            Multiaddr::tcp("[fe80::1%3]:9".parse().unwrap()).to_string(),
            "/ip6zone/3/ip6/fe80::1/tcp/9"
        );
    }

    #[test]
    fn addresses_without_a_socket() {
        for text in [
            "/ip4/1.2.3.4",
            "/ip6zone/eth0/ip6/fe80::1/tcp/1",
            "/ip6zone/1/ip4/1.2.3.4/tcp/1",
            "/dns/x/tcp/1",
            "/memory/1",
            "/tcp/1",
            "/ip4/1.2.3.4/ws",
        ] {
            let addr: Multiaddr = text.parse().unwrap();
            assert!(addr.socket_addr().is_none(), "{text}");
        }
    }
}
