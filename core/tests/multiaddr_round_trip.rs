//! Multiaddrs there and back, as text and as bytes, and bytes of strangers.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use peerage_core::multiaddr::{MAX_DIGEST_LEN, MAX_TEXT_LEN};
use peerage_core::{Multiaddr, PeerId, Protocol};
use proptest::prelude::*;

fn any_bytes(len: impl Into<proptest::collection::SizeRange>) -> BoxedStrategy<Vec<u8>> {
    proptest::collection::vec(any::<u8>(), len).boxed()
}

/// Appends something valid: the value is drawn, and the component made of it.
fn any_component() -> BoxedStrategy<Multiaddr> {
    fn one(protocol: Protocol<'_>) -> Multiaddr {
        Multiaddr::empty().with(protocol).unwrap()
    }
    let name = "[a-z0-9.ü%_-]{1,60}";
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| one(Protocol::Ip4(ip.into()))),
        any::<[u8; 16]>().prop_map(|ip| one(Protocol::Ip6(ip.into()))),
        any::<u16>().prop_map(|port| one(Protocol::Tcp(port))),
        any::<u16>().prop_map(|port| one(Protocol::Udp(port))),
        any::<u8>().prop_map(|bits| one(Protocol::Ipcidr(bits))),
        any::<u64>().prop_map(|number| one(Protocol::Memory(number))),
        name.prop_map(|name| one(Protocol::Dns(&name))),
        name.prop_map(|name| one(Protocol::Dns4(&name))),
        name.prop_map(|name| one(Protocol::Dns6(&name))),
        name.prop_map(|name| one(Protocol::Dnsaddr(&name))),
        name.prop_map(|name| one(Protocol::Sni(&name))),
        name.prop_map(|name| one(Protocol::Ip6zone(&name))),
        any::<[u8; 32]>().prop_map(|hash| {
            one(Protocol::P2p(PeerId::from_bytes(&[&[0x12, 32], &hash[..]].concat()).unwrap()))
        }),
        any_bytes(0..=MAX_DIGEST_LEN)
            .prop_map(|digest| one(Protocol::Certhash(&[&[0x12, digest.len() as u8], &digest[..]].concat()))),
        any_bytes(1..60).prop_map(|path| one(Protocol::HttpPath(&path))),
        (any::<[u8; 32]>(), 1_u16..).prop_map(|(key, port)| {
            let host: [u8; 35] = [&key[..], &[1, 2, 3]].concat().try_into().unwrap();
            one(Protocol::Onion3 { host: &host, port })
        }),
        any_bytes(35..60).prop_map(|bytes| one(Protocol::Garlic32(&bytes))),
        any_bytes(386..390).prop_map(|bytes| one(Protocol::Garlic64(&bytes))),
        prop::sample::select(vec![
            Protocol::Quic,
            Protocol::QuicV1,
            Protocol::Webtransport,
            Protocol::Ws,
            Protocol::Wss,
            Protocol::Tls,
            Protocol::Noise,
            Protocol::Http,
            Protocol::Https,
            Protocol::Webrtc,
            Protocol::WebrtcDirect,
            Protocol::Plaintextv2,
        ])
        .prop_map(one),
    ]
    .boxed()
}

fn any_addr() -> impl Strategy<Value = Multiaddr> {
    let unix = "(/[a-z /.]{0,20}[a-z])?";
    (proptest::collection::vec(any_component(), 1..=4), any::<bool>(), unix).prop_map(
        |(parts, circuit, path)| {
            let mut addr = Multiaddr::empty();
            for protocol in parts.iter().flat_map(Multiaddr::iter) {
                // Two of the longest do not fit together.
                let _ = addr.push(protocol);
            }
            if circuit {
                addr.push(Protocol::P2pCircuit).unwrap();
            }
            if !path.is_empty() {
                addr.push(Protocol::Unix(&path)).unwrap();
            }
            addr
        },
    )
}

proptest! {
    #[test]
    fn round_trip(addr in any_addr()) {
        let text = addr.to_string();
        prop_assert!(text.len() <= MAX_TEXT_LEN);
        prop_assert_eq!(Multiaddr::parse(&text), Ok(addr.clone()));
        prop_assert_eq!(Multiaddr::from_bytes(addr.as_bytes()), Ok(addr.clone()));
        let mut again = Multiaddr::empty();
        for protocol in &addr {
            again.push(protocol).unwrap();
        }
        prop_assert_eq!(again, addr);
    }

    #[test]
    fn truncated_or_changed_bytes(addr in any_addr(), at: prop::sample::Index, byte: u8) {
        let mut bytes = addr.as_bytes().to_vec();
        let at = at.index(bytes.len());
        // Whatever is still valid has a text that leads back to it.
        let checked = |bytes: &[u8]| {
            if let Ok(addr) = Multiaddr::from_bytes(bytes) {
                assert_eq!(addr.as_bytes(), bytes);
                assert_eq!(Multiaddr::parse(&addr.to_string()), Ok(addr));
            }
        };
        checked(&bytes[..at]);
        bytes[at] = byte;
        checked(&bytes);
    }

    #[test]
    fn strangers_bytes(bytes: Vec<u8>, text: String, slashed in "(/[a-z0-9:.%-]{0,12}){1,20}") {
        let read = [Multiaddr::from_bytes(&bytes), Multiaddr::parse(&text), Multiaddr::parse(&slashed)];
        for addr in read.into_iter().flatten() {
            prop_assert_eq!(Multiaddr::parse(&addr.to_string()), Ok(addr));
        }
    }
}
