//! Our node, as one test wants it: one transport, one security, one muxer.

use std::{net::IpAddr, path::Path};

use peerage::{
    Builder, Keypair, Multiaddr, Node,
    transport::websocket::{self, Certificate},
};

use super::settings::{Carrier, Settings};
use crate::site::Site;

/// How it calls itself in identify.
const AGENT: &str = concat!("peerage/", env!("CARGO_PKG_VERSION"));

/// Begins to put the node together. Who only dials, listens nowhere.
pub(crate) fn builder(settings: &Settings) -> Result<Builder, String> {
    let mut builder = Node::builder(Keypair::generate()).agent(AGENT);
    if let Some(security) = settings.security {
        builder = builder.security([security]);
    }
    if let Some(muxer) = settings.muxer {
        builder = builder.muxers([muxer]);
    }
    if settings.carrier == Carrier::Wss {
        builder = builder.websocket(wss(settings.is_dialer)?);
    }
    if !settings.is_dialer {
        let address = listen_address(settings);
        builder = builder.listen(address.as_str()).map_err(|error| format!("{address}: {error}"))?;
    }
    Ok(builder)
}

/// The suites have no authority that all believe: who listens makes a certificate for the one test, and who dials believes
/// it. Who is there is proven inside, by noise or TLS.
fn wss(is_dialer: bool) -> Result<websocket::Config, String> {
    let mut config = websocket::Config::default();
    if is_dialer {
        config.any_certificate = true;
    } else {
        // Once it is read, its files are not needed any more.
        let site = Site::new(Path::new(""))?;
        let certificate = Certificate::from_files(site.certificate(), site.key());
        config.certificate = Some(certificate.map_err(|error| error.to_string())?);
    }
    Ok(config)
}

/// Where a listener listens; the port is the system's to choose.
fn listen_address(settings: &Settings) -> String {
    let ip = match settings.ip {
        IpAddr::V4(ip) => format!("/ip4/{ip}"),
        IpAddr::V6(ip) => format!("/ip6/{ip}"),
    };
    let rest = match settings.carrier {
        Carrier::Tcp => "tcp/0",
        Carrier::Ws => "tcp/0/ws",
        Carrier::Wss => "tcp/0/tls/ws",
        Carrier::Quic => "udp/0/quic-v1",
        Carrier::WebRtcDirect => "udp/0/webrtc-direct",
    };
    format!("{ip}/{rest}")
}

/// The address to publish: one that other containers reach, so loopback only where nothing else was asked for.
pub(crate) fn published(node: &Node, settings: &Settings) -> Result<Multiaddr, String> {
    choose(node.addresses(), settings.ip.is_loopback())
}

fn choose(addresses: Vec<Multiaddr>, on_loopback: bool) -> Result<Multiaddr, String> {
    let found = addresses.iter().find(|address| on_loopback || !address.is_loopback()).cloned();
    found.ok_or_else(|| format!("no address to publish among the {} there are", addresses.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::settings::Settings;

    fn settings(words: &[(&str, &str)]) -> Settings {
        let more = [("IS_DIALER", "false"), ("REDIS_ADDR", "redis:1"), ("TEST_KEY", "k"), ("MUXER", "yamux")];
        let of = |name: &str| {
            let mut all = words.iter().chain(&more).chain(&[("SECURE_CHANNEL", "noise")]);
            all.find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::read(of, None).unwrap()
    }

    #[test]
    fn where_to_listen() {
        for (transport, address) in [
            ("tcp", "/ip4/127.0.0.1/tcp/0"),
            ("ws", "/ip4/127.0.0.1/tcp/0/ws"),
            ("wss", "/ip4/127.0.0.1/tcp/0/tls/ws"),
            ("quic-v1", "/ip4/127.0.0.1/udp/0/quic-v1"),
            ("webrtc-direct", "/ip4/127.0.0.1/udp/0/webrtc-direct"),
        ] {
            let listener = settings(&[("TRANSPORT", transport), ("LISTENER_IP", "127.0.0.1")]);
            assert_eq!(listen_address(&listener), address);
        }
        let listener = settings(&[("TRANSPORT", "tcp"), ("LISTENER_IP", "::1")]);
        assert_eq!(listen_address(&listener), "/ip6/::1/tcp/0");
    }

    #[test]
    fn loopback_is_published_only_where_it_was_asked_for() {
        let [first, other] = ["/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.7/tcp/1"]
            .map(|address| address.parse::<Multiaddr>().unwrap());
        let all = || vec![first.clone(), other.clone()];
        assert_eq!(choose(all(), false), Ok(other.clone()));
        assert_eq!(choose(all(), true), Ok(first.clone()));
        assert!(choose(vec![first], false).is_err());
    }
}
