//! What an address asks, and what answers make of it. Pure.

use std::net::{IpAddr, Ipv6Addr};

use peerage_core::{Multiaddr, Protocol};

use super::MAX_RECORD_LEN;

/// The name at the beginning of an address, by what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// `/dns`: both families.
    Any(String),
    Ip4(String),
    Ip6(String),
    /// `/dnsaddr`: the domain, without `_dnsaddr`.
    Addresses(String),
}

/// Whether an address begins with a name, which has to be resolved before anybody can dial it.
pub fn is_name(address: &Multiaddr) -> bool {
    of(address).is_some()
}

/// How many questions one [step](super::resolve) asks for an address.
pub fn lookups(address: &Multiaddr) -> usize {
    match of(address) {
        Some(Named::Any(_)) => 2,
        Some(_) => 1,
        None => 0,
    }
}

pub(super) fn of(address: &Multiaddr) -> Option<Named> {
    Some(match address.iter().next()? {
        Protocol::Dns(name) => Named::Any(name.to_owned()),
        Protocol::Dns4(name) => Named::Ip4(name.to_owned()),
        Protocol::Dns6(name) => Named::Ip6(name.to_owned()),
        Protocol::Dnsaddr(name) => Named::Addresses(name.to_owned()),
        _ => return None,
    })
}

/// The address with `ip` in the place of its name. `None` for an IPv4 address in IPv6's clothes, which would pass by
/// whatever filters addresses by family.
///
/// Who is dialed over TLS has to prove that it is who the name says, so the name stays: as `/sni`, unless the address has
/// one (websockets, "Addressing").
pub(super) fn with_ip(address: &Multiaddr, ip: IpAddr) -> Option<Multiaddr> {
    let ip = match ip {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) if is_disguised(ip) => return None,
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    };
    let mut resolved = Multiaddr::empty().with(ip).ok()?;
    let parts: Vec<_> = address.iter().collect();
    let name = parts.first().and_then(dns_name).map(|name| name.trim_end_matches('.'));
    // What is behind a peer is another one's.
    let own = parts.iter().take_while(|part| !matches!(part, Protocol::P2p(_))).count();
    for (at, part) in parts.iter().enumerate().skip(1) {
        let next = parts.get(at.saturating_add(1));
        let websocket = matches!((part, next), (Protocol::Tls, Some(Protocol::Ws)) | (Protocol::Wss, _));
        match name.filter(|name| websocket && at < own && name.parse::<IpAddr>().is_err()) {
            Some(name) if *part == Protocol::Wss => {
                resolved = resolved.with(Protocol::Tls).ok()?.with(Protocol::Sni(name)).ok()?;
                resolved = resolved.with(Protocol::Ws).ok()?;
            }
            Some(name) => resolved = resolved.with(*part).ok()?.with(Protocol::Sni(name)).ok()?,
            None => resolved = resolved.with(*part).ok()?,
        }
    }
    Some(resolved)
}

fn dns_name<'a>(part: &Protocol<'a>) -> Option<&'a str> {
    match part {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Some(name),
        _ => None,
    }
}

/// `::ffff:a.b.c.d`, and the deprecated `::a.b.c.d`; `::` and `::1` are themselves.
fn is_disguised(ip: Ipv6Addr) -> bool {
    ip.to_ipv4_mapped().is_some() || matches!(ip.segments(), [0, 0, 0, 0, 0, 0, high, _] if high != 0)
}

/// The address in a record of a `/dnsaddr` (`dnsaddr=<multiaddr>`), if it counts: what follows the name in `address`
/// has to be at the record's end.
pub(super) fn in_record(address: &Multiaddr, record: &[u8]) -> Option<Multiaddr> {
    if record.len() > MAX_RECORD_LEN {
        return None;
    }
    let text = std::str::from_utf8(record).ok()?.strip_prefix("dnsaddr=")?;
    let found: Multiaddr = text.parse().ok()?;
    let suffix: Vec<_> = address.iter().skip(1).collect();
    let parts: Vec<_> = found.iter().collect();
    // More than the end: a record has to say where.
    let counts = parts.len() > suffix.len() && parts.ends_with(&suffix);
    // The same clothes, in a record.
    let disguised = matches!(found.ip(), Some(IpAddr::V6(ip)) if is_disguised(ip));
    (counts && !disguised).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q: &str = "12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcqzMFHZnnsTzqD";
    const R: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn names_and_how_much_they_ask() {
        for (text, asks) in [
            ("/dns/h/tcp/1", 2),
            ("/dns4/h/tcp/1", 1),
            ("/dns6/h/udp/1/quic-v1", 1),
            ("/dnsaddr/h", 1),
            ("/ip4/1.2.3.4/tcp/1", 0),
            ("/ip4/1.2.3.4/tcp/1/dns4/h", 0),
            ("/memory/1", 0),
        ] {
            assert_eq!(lookups(&addr(text)), asks, "{text}");
            assert_eq!(is_name(&addr(text)), asks > 0, "{text}");
        }
    }

    #[test]
    fn what_follows_the_name_stays() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (name, is, becomes) in [
            ("/dns4/h/tcp/1".to_owned(), "192.0.2.1", "/ip4/192.0.2.1/tcp/1".to_owned()),
            (format!("/dns/h/tcp/1/p2p/{Q}"), "2001:db8::1", format!("/ip6/2001:db8::1/tcp/1/p2p/{Q}")),
            ("/dns/h/tcp/1/ws".into(), "192.0.2.1", "/ip4/192.0.2.1/tcp/1/ws".into()),
            ("/dns/h/tcp/1/tls/ws".into(), "192.0.2.1", "/ip4/192.0.2.1/tcp/1/tls/sni/h/ws".into()),
            ("/dns/h./tcp/1/wss".into(), "192.0.2.1", "/ip4/192.0.2.1/tcp/1/tls/sni/h/ws".into()),
            ("/dns/h/wss/http-path/x".into(), "::1", "/ip6/::1/tls/sni/h/ws/http-path/x".into()),
            ("/dns/h/tcp/1/tls/sni/i/ws".into(), "192.0.2.1", "/ip4/192.0.2.1/tcp/1/tls/sni/i/ws".into()),
            ("/dns4/192.0.2.1/tcp/1/wss".into(), "192.0.2.1", "/ip4/192.0.2.1/tcp/1/wss".into()),
            (
                format!("/dns4/h/tcp/1/wss/p2p/{R}/p2p-circuit/wss"),
                "192.0.2.1",
                format!("/ip4/192.0.2.1/tcp/1/tls/sni/h/ws/p2p/{R}/p2p-circuit/wss"),
            ),
            ("/dns6/h/udp/1/quic-v1".into(), "::1", "/ip6/::1/udp/1/quic-v1".into()),
            (
                format!("/dns4/h/tcp/1/p2p/{R}/p2p-circuit/p2p/{Q}"),
                "192.0.2.1",
                format!("/ip4/192.0.2.1/tcp/1/p2p/{R}/p2p-circuit/p2p/{Q}"),
            ),
        ] {
            assert_eq!(with_ip(&addr(&name), ip(is)), Some(addr(&becomes)));
        }
        for disguised in ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::8.8.8.8"] {
            assert_eq!(with_ip(&addr("/dns/h/tcp/1"), ip(disguised)), None, "{disguised}");
        }
    }

    #[test]
    fn records_that_count() {
        let whole = |record: &str| in_record(&addr("/dnsaddr/h"), record.as_bytes());
        assert_eq!(whole("dnsaddr=/ip4/192.0.2.1/tcp/1"), Some(addr("/ip4/192.0.2.1/tcp/1")));
        assert_eq!(whole("dnsaddr=/dnsaddr/other"), Some(addr("/dnsaddr/other")));
        for nothing in [
            "",
            "dnsaddr=",
            "dnsaddr=/",
            "dnsaddr",
            "/ip4/192.0.2.1/tcp/1",
            "DNSADDR=/ip4/192.0.2.1/tcp/1",
            " dnsaddr=/ip4/192.0.2.1/tcp/1",
            "dnsaddr=/ip4/192.0.2.1/tcp/99999",
            "dnsaddr=/ip6/::ffff:127.0.0.1/tcp/1",
            "dnsaddr=/nothing/1",
            "v=spf1 -all",
        ] {
            assert_eq!(whole(nothing), None, "{nothing}");
        }
        assert_eq!(in_record(&addr("/dnsaddr/h"), b"dnsaddr=/ip4/192.0.2.1/tcp/1\xff"), None);
    }

    #[test]
    fn only_records_of_the_peer_that_is_asked_for() {
        let of = |suffix: &str, record: &str| {
            in_record(&addr(&format!("/dnsaddr/h{suffix}")), format!("dnsaddr={record}").as_bytes())
        };
        let (q, r) = (format!("/p2p/{Q}"), format!("/p2p/{R}"));
        assert!(of(&q, &format!("/ip4/192.0.2.1/tcp/1{q}")).is_some());
        assert!(of(&q, &format!("/dnsaddr/other{q}")).is_some());
        assert!(of(&q, &format!("/ip4/192.0.2.1/tcp/1{r}/p2p-circuit{q}")).is_some());
        assert!(of("/tcp/1", "/ip4/192.0.2.1/tcp/1").is_some());
        assert_eq!(of(&q, "/ip4/192.0.2.1/tcp/1"), None);
        assert_eq!(of(&q, &format!("/ip4/192.0.2.1/tcp/1{r}")), None);
        assert_eq!(of(&q, &format!("/ip4/192.0.2.1/tcp/1{q}/p2p-circuit")), None);
        assert_eq!(of(&q, &q), None, "who, but not where");
    }

    #[test]
    fn the_length_of_a_record_is_bounded() {
        // The longest address that fits: a name of 255 bytes, and paths.
        let address = |len: usize| format!("dnsaddr=/unix/{}", "x".repeat(len));
        let frame = address(0).len();
        let of = |record: &str| in_record(&addr("/dnsaddr/h"), record.as_bytes());
        assert!(of(&address(MAX_RECORD_LEN - frame)).is_some());
        assert_eq!(of(&address(MAX_RECORD_LEN - frame + 1)), None);
    }
}
