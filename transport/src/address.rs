//! Addresses of this crate's transports, to and from what they stand for.

use std::net::{IpAddr, SocketAddr};

use peerage_core::{Multiaddr, Protocol, multiaddr};

/// `/memory/<port>`, and nothing else.
pub(crate) fn as_memory(address: &Multiaddr) -> Option<u64> {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Memory(port)), None) => Some(port),
        _ => None,
    }
}

#[allow(clippy::expect_used, reason = "one component of eight bytes always has room")]
pub(crate) fn memory(port: u64) -> Multiaddr {
    Multiaddr::empty().with(Protocol::Memory(port)).expect("/memory has room")
}

/// The path of `/unix/<path>`, and nothing else.
#[cfg(unix)]
pub(crate) fn as_unix(address: &Multiaddr) -> Option<&str> {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Unix(path)), None) => Some(path),
        _ => None,
    }
}

/// `/ip4/<a>/tcp/<p>` or `/ip6/<a>/tcp/<p>`, and nothing else: a `/p2p` part is the caller's to take off, because what
/// it demands has to reach the upgrade.
pub(crate) fn as_tcp(address: &Multiaddr) -> Option<SocketAddr> {
    let mut socket = address.socket_addr()?;
    let disguised = matches!(socket.addr.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    let plain = socket.transport == multiaddr::Transport::Tcp && socket.rest.next().is_none();
    (plain && !disguised).then_some(socket.addr)
}

/// `/ip4/<a>/udp/<p>/quic-v1` or `/ip6/<a>/udp/<p>/quic-v1`, and nothing else.
#[cfg(any(feature = "quic", test))]
pub(crate) fn as_quic(address: &Multiaddr) -> Option<SocketAddr> {
    let mut socket = address.socket_addr()?;
    let disguised = matches!(socket.addr.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    let quic = socket.transport == multiaddr::Transport::Udp
        && socket.rest.next() == Some(Protocol::QuicV1)
        && socket.rest.next().is_none();
    (quic && !disguised).then_some(socket.addr)
}

#[allow(clippy::expect_used, reason = "one component without content always has room")]
#[cfg(any(feature = "quic", test))]
pub(crate) fn quic(address: SocketAddr) -> Multiaddr {
    Multiaddr::udp(address).with(Protocol::QuicV1).expect("/quic-v1 has room")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multiaddr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_go_both_ways() {
        for text in [
            "/ip4/127.0.0.1/tcp/4001",
            "/ip6/::1/tcp/0",
            "/ip6/2001:db8::1/tcp/65535",
            "/ip6zone/2/ip6/fe80::1/tcp/1",
        ] {
            let socket = as_tcp(&multiaddr(text)).expect("tcp");
            assert_eq!(Multiaddr::tcp(socket).to_string(), text);
        }
        for text in [
            "/ip4/127.0.0.1/udp/4001/quic-v1",
            "/ip6/::1/udp/0/quic-v1",
            "/ip6zone/2/ip6/fe80::1/udp/1/quic-v1",
        ] {
            let socket = as_quic(&multiaddr(text)).expect("quic");
            assert_eq!(quic(socket).to_string(), text);
        }
        for text in ["/memory/0", "/memory/18446744073709551615"] {
            let port = as_memory(&multiaddr(text)).expect("memory");
            assert_eq!(memory(port).to_string(), text);
        }
    }

    #[test]
    fn other_addresses_are_not_taken_for_ours() {
        for text in [
            "/ip4/127.0.0.1",
            "/tcp/1",
            "/ip4/127.0.0.1/udp/1",
            "/ip4/127.0.0.1/udp/1/quic-v1",
            "/ip4/127.0.0.1/tcp/1/ws",
            "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcqzMFHZnnsTzqD",
            "/ip6/::ffff:127.0.0.1/tcp/1",
            "/dns/localhost/tcp/1",
            "/dns4/localhost/tcp/1",
            "/memory/1/ip4/127.0.0.1/tcp/1",
            "/memory/1/p2p-circuit",
        ] {
            assert_eq!(as_tcp(&multiaddr(text)), None, "{text}");
            assert_eq!(as_memory(&multiaddr(text)), None, "{text}");
        }
        for text in [
            "/ip4/127.0.0.1/tcp/1/quic-v1",
            "/ip4/127.0.0.1/udp/1",
            "/ip4/127.0.0.1/udp/1/quic",
            "/ip4/127.0.0.1/udp/1/quic-v1/webtransport",
            "/ip4/127.0.0.1/udp/1/quic-v1/p2p/12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcqzMFHZnnsTzqD",
            "/ip4/127.0.0.1/udp/1/webrtc-direct",
            "/ip6/::ffff:127.0.0.1/udp/1/quic-v1",
            "/dns4/localhost/udp/1/quic-v1",
        ] {
            assert_eq!(as_quic(&multiaddr(text)), None, "{text}");
        }
    }
}
