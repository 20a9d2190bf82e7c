use std::{fmt, net::IpAddr, str::FromStr};

use peerage_core::Multiaddr;

/// Addresses that are not announced: one multiaddr, or a network.
///
/// ```
/// use peerage_host::addresses::Filter;
///
/// let network: Filter = "10.0.0.0/8".parse()?;
/// assert!(network.matches(&"/ip4/10.1.2.3/tcp/4001".parse()?));
/// assert_eq!("/ip4/10.0.0.0/ipcidr/8".parse::<Filter>()?, network);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Address(Multiaddr),
    Network { ip: IpAddr, prefix: u8 },
}

/// Why a text names no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a multiaddr nor a network, as 10.0.0.0/8 or /ip4/10.0.0.0/ipcidr/8")]
pub struct FilterError(String);

impl Filter {
    /// Whether it names this address. A network names every address with an IP in it at the bottom.
    pub fn matches(&self, address: &Multiaddr) -> bool {
        match &self.0 {
            Kind::Address(named) => *named == address.split_peer().0,
            Kind::Network { ip, prefix } => address.ip().is_some_and(|found| {
                found.is_ipv4() == ip.is_ipv4() && masked(found, *prefix) == masked(*ip, *prefix)
            }),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(&self.0, Kind::Address(address) if address.is_empty())
    }

    fn network(ip: &str, prefix: &str) -> Option<Self> {
        let (ip, prefix) = (ip.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
        masked(ip, prefix)?;
        Some(Self(Kind::Network { ip, prefix }))
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let parts: Vec<&str> = text.split('/').collect();
        let filter = match parts.as_slice() {
            ["", "ip4" | "ip6", ip, "ipcidr", prefix] | [ip, prefix] => Self::network(ip, prefix),
            _ => text.parse::<Multiaddr>().ok().map(Self::from).filter(|filter| !filter.is_empty()),
        };
        filter.ok_or_else(|| FilterError(text.chars().take(100).collect()))
    }
}

impl TryFrom<&str> for Filter {
    type Error = FilterError;

    fn try_from(text: &str) -> Result<Self, FilterError> {
        text.parse()
    }
}

impl From<Multiaddr> for Filter {
    fn from(address: Multiaddr) -> Self {
        Self(Kind::Address(address.split_peer().0))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Address(address) => address.fmt(f),
            Kind::Network { ip, prefix } => write!(f, "{ip}/{prefix}"),
        }
    }
}

/// The first `prefix` bits, as a number; `None` if the address has fewer.
pub(super) fn masked(ip: IpAddr, prefix: u8) -> Option<u128> {
    let (bits, width) = match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32_u32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    let rest = width.checked_sub(prefix.into())?;
    // All of an IPv6 address shifted out is nothing.
    Some(bits.checked_shr(rest).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses() {
        let filter = |text: &str| text.parse::<Filter>();
        for (text, inside, outside) in [
            ("10.0.0.0/8", "/ip4/10.255.0.1/tcp/1", "/ip4/11.0.0.1/tcp/1"),
            ("/ip4/192.168.4.0/ipcidr/22", "/ip4/192.168.7.255/udp/1", "/ip4/192.168.8.0/udp/1"),
            ("192.0.2.7/32", "/ip4/192.0.2.7/tcp/1", "/ip4/192.0.2.6/tcp/1"),
            ("0.0.0.0/0", "/ip4/192.0.2.7/tcp/1", "/ip6/::1/tcp/1"),
            ("fd00::/8", "/ip6/fdff::1/tcp/1", "/ip6/fe80::1/tcp/1"),
            ("::/0", "/ip6/fdff::1/tcp/1", "/ip4/10.0.0.1/tcp/1"),
            ("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/2"),
        ] {
            let filter = filter(text).unwrap();
            assert!(filter.matches(&inside.parse().unwrap()), "{text} {inside}");
            assert!(!filter.matches(&outside.parse().unwrap()), "{text} {outside}");
            assert!(!filter.matches(&"/dns4/example.com/tcp/1".parse().unwrap()), "{text}");
        }
        for wrong in ["", "/", "10.0.0.0/33", "::/129", "10.0.0/8", "x", "/ip4/10.0.0.0/ipcidr/40"] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
    }
}
