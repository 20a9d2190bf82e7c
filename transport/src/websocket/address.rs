//! What the address of a WebSocket stands for.

use std::net::{IpAddr, SocketAddr};

use peerage_core::{Multiaddr, Protocol, multiaddr};
use rustls::pki_types::ServerName;

use super::http;

/// The ports that an address without one means (websockets, "Addressing").
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// `<ip>[/tcp/<port>]/ws`, `/tls/ws`, `/tls/sni/<name>/ws` or `/wss`, each with `/http-path/<path>` behind it or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) socket: SocketAddr,
    /// Over TLS.
    pub(super) secure: bool,
    /// Whose certificate it has to be, if not the IP address's.
    pub(super) name: Option<String>,
    /// As bytes, without an encoding.
    pub(super) path: Option<Vec<u8>>,
}

impl Address {
    /// Reads an address; `None` if it is not one of a WebSocket, and nothing else.
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        let (ip, port, mut rest) = match address.socket_addr() {
            Some(socket) if socket.transport == multiaddr::Transport::Tcp => {
                (socket.addr, Some(socket.addr.port()), socket.rest)
            }
            Some(_) => return None,
            None => {
                let mut rest = address.iter();
                let ip = match rest.next()? {
                    Protocol::Ip4(ip) => IpAddr::V4(ip),
                    Protocol::Ip6(ip) => IpAddr::V6(ip),
                    _ => return None,
                };
                (SocketAddr::new(ip, 0), None, rest)
            }
        };
        if matches!(ip.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
            return None;
        }
        let (secure, name) = match rest.next()? {
            Protocol::Ws => (false, None),
            Protocol::Wss => (true, None),
            Protocol::Tls => match (rest.next()?, rest.clone().next()) {
                (Protocol::Ws, _) => (true, None),
                (Protocol::Sni(name), Some(Protocol::Ws)) => {
                    rest.next();
                    (true, Some(name.to_owned()))
                }
                _ => return None,
            },
            _ => return None,
        };
        let path = match rest.next() {
            None => None,
            Some(Protocol::HttpPath(path)) => Some(path.to_vec()),
            Some(_) => return None,
        };
        let mut socket = ip;
        socket.set_port(port.unwrap_or(if secure { HTTPS_PORT } else { HTTP_PORT }));
        rest.next().is_none().then_some(Self { socket, secure, name, path })
    }

    /// Where a dial goes, if one can. Port 0 and the unspecified address mean "choose one" to a listener and nothing to a
    /// dialer; and a name has to be one that a certificate can have.
    pub(super) fn dialable(address: &Multiaddr) -> Option<Self> {
        let this = Self::of(address)?;
        let named = this.name.is_none() || this.server_name().is_some();
        (this.socket.port() != 0 && !this.socket.ip().is_unspecified() && named).then_some(this)
    }

    /// Whose certificate it has to be: that of a name, or that of an IP address.
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        match &self.name {
            Some(name) => ServerName::try_from(name.clone()).ok(),
            None => Some(ServerName::from(self.socket.ip())),
        }
    }

    /// What a request names as its host (RFC 6455, section 4.1): with the port, unless that goes without saying.
    pub(super) fn host(&self) -> String {
        let port = self.socket.port();
        let usual = port == if self.secure { HTTPS_PORT } else { HTTP_PORT };
        let host = match (&self.name, self.socket.ip()) {
            (Some(name), _) => name.clone(),
            (None, IpAddr::V4(ip)) => ip.to_string(),
            (None, IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        if usual { host } else { format!("{host}:{port}") }
    }

    /// What a request names as its path.
    pub(super) fn request_path(&self) -> String {
        http::encode_path(self.path.as_deref().unwrap_or_default())
    }

    /// The same at another socket.
    pub(super) fn at(&self, socket: SocketAddr) -> Multiaddr {
        let name = self.name.as_deref().map(Protocol::Sni);
        let path = self.path.as_deref().map(Protocol::HttpPath);
        let tls = self.secure.then_some(Protocol::Tls);
        let above = tls.into_iter().chain(name).chain([Protocol::Ws]).chain(path);
        with(Multiaddr::tcp(socket), above)
    }
}

/// The address of an end of which only that much is known.
pub(super) fn bare(socket: SocketAddr, secure: bool) -> Multiaddr {
    let tls = secure.then_some(Protocol::Tls);
    with(Multiaddr::tcp(socket), tls.into_iter().chain([Protocol::Ws]))
}

#[allow(clippy::expect_used, reason = "what was an address with another port is one with this")]
fn with<'a>(address: Multiaddr, above: impl Iterator<Item = Protocol<'a>>) -> Multiaddr {
    above.fold(address, |address, part| address.with(part).expect("there is room"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Address> {
        Address::of(&text.parse().unwrap())
    }

    #[test]
    fn addresses_that_are_websockets() {
        for (text, host, path, canonical) in [
            ("/ip4/192.0.2.1/tcp/80/ws", "192.0.2.1", "/", ""),
            ("/ip4/192.0.2.1/tcp/4001/ws", "192.0.2.1:4001", "/", ""),
            ("/ip6/2001:db8::1/tcp/4001/ws", "[2001:db8::1]:4001", "/", ""),
            ("/ip4/192.0.2.1/tcp/443/tls/ws", "192.0.2.1", "/", ""),
            ("/ip4/192.0.2.1/tcp/443/wss", "192.0.2.1", "/", "/ip4/192.0.2.1/tcp/443/tls/ws"),
            ("/ip4/192.0.2.1/tcp/80/tls/ws", "192.0.2.1:80", "/", ""),
            ("/ip4/192.0.2.1/tcp/443/tls/sni/example.com/ws", "example.com", "/", ""),
            (
                "/ip4/192.0.2.1/tcp/4443/tls/sni/example.com/ws/http-path/a%2Fb",
                "example.com:4443",
                "/a/b",
                "",
            ),
            ("/ip4/192.0.2.1/ws", "192.0.2.1", "/", "/ip4/192.0.2.1/tcp/80/ws"),
            ("/ip4/192.0.2.1/wss", "192.0.2.1", "/", "/ip4/192.0.2.1/tcp/443/tls/ws"),
            ("/ip6/::1/tls/ws", "[::1]", "/", "/ip6/::1/tcp/443/tls/ws"),
            ("/ip6zone/2/ip6/fe80::1/tcp/1/ws", "[fe80::1]:1", "/", ""),
        ] {
            let address = of(text).expect(text);
            assert_eq!((address.host().as_str(), address.request_path().as_str()), (host, path), "{text}");
            let canonical = if canonical.is_empty() { text } else { canonical };
            assert_eq!(address.at(address.socket).to_string(), canonical);
            assert!(Address::dialable(&text.parse().unwrap()).is_some());
        }
    }

    #[test]
    fn other_addresses_are_not_taken_for_ours() {
        for text in [
            "/ip4/192.0.2.1/tcp/1",
            "/ip4/192.0.2.1/udp/1/ws",
            "/ip4/192.0.2.1/tcp/1/tls",
            "/ip4/192.0.2.1/tcp/1/tls/sni/h",
            "/ip4/192.0.2.1/tcp/1/sni/h/ws",
            "/ip4/192.0.2.1/tcp/1/tls/wss",
            "/ip4/192.0.2.1/tcp/1/ws/ws",
            "/ip4/192.0.2.1/tcp/1/http",
            "/ip4/192.0.2.1/tcp/1/ws/http-path/a/ws",
            "/ip4/192.0.2.1/tcp/1/ws/p2p/12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcqzMFHZnnsTzqD",
            "/ip4/192.0.2.1/tcp/1/ws/p2p-circuit",
            "/ip6/::ffff:192.0.2.1/tcp/1/ws",
            "/dns4/example.com/tcp/443/tls/ws",
            "/dns/example.com/wss",
            "/memory/1/ws",
            "/ws",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        for text in ["/ip4/127.0.0.1/tcp/0/ws", "/ip4/0.0.0.0/tcp/1/ws", "/ip6/::/tcp/1/wss"] {
            assert!(of(text).is_some(), "{text}");
            assert_eq!(Address::dialable(&text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn names_are_ones_that_certificates_have() {
        let name = |text: &str| of(&format!("/ip4/192.0.2.1/tcp/1/tls{text}/ws")).unwrap().server_name();
        assert_eq!(name(""), Some(ServerName::from(IpAddr::from([192, 0, 2, 1]))));
        assert_eq!(name("/sni/example.com"), ServerName::try_from("example.com").ok());
        assert_eq!(name("/sni/::1"), Some(ServerName::from(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]))));
        for bad in ["exa mple.com", "a\u{e4}", "-"] {
            assert_eq!(name(&format!("/sni/{bad}")), None, "{bad}");
            let address = format!("/ip4/192.0.2.1/tcp/1/tls/sni/{bad}/ws").parse().unwrap();
            assert_eq!(Address::dialable(&address), None, "{bad}");
        }
    }
}
