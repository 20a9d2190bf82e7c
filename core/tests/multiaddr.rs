//! Multiaddrs against the vectors of go-multiaddr's tests, a table of refusals, and round trips.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use data_encoding::HEXLOWER;
use peerage_core::multiaddr::{
    ErrorKind, MAX_COMPONENTS, MAX_DIGEST_LEN, MAX_LEN, MAX_NAME_LEN, MAX_TEXT_LEN, WithPeerError,
};
use peerage_core::{Multiaddr, PeerId, Protocol};

const PEER: &str = "12D3KooWCryG7Mon9orvQxcS1rYZjotPgpwoJNHHKcLLfE4Hf5mV";
const OTHER: &str = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC";

fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn text_and_bytes() {
    // I2P's own base64: `-~` are the bytes of `+/`. 516 characters are 387 bytes, the shortest destination.
    let (garlic64, garlic64_hex) = (format!("/garlic64/{}", "-~Az".repeat(129)), "fbf033".repeat(129));
    let garlic64_hex = format!("be038303{garlic64_hex}");
    let vectors = [
        ("/ip4/127.0.0.1/udp/1234", "047f000001910204d2"),
        ("/ip4/127.0.0.1/tcp/4321", "047f0000010610e1"),
        ("/ip4/127.0.0.1/udp/1234/ip4/127.0.0.1/tcp/4321", "047f000001910204d2047f0000010610e1"),
        (
            "/onion3/vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd:1234",
            "bd03adadec040be047f9658668b11a504f3155001f231a37f54c4476c07fb4cc139ed7e30304d2",
        ),
        (
            "/garlic32/566niximlxdzpanmn4qouucvua3k7neniwss47li5r6ugoertzuq",
            "bf0320efbcd45d0c5dc79781ac6f20ea5055a036afb48d45a52e7d68ec7d4338919e69",
        ),
        (&garlic64, &garlic64_hex),
        ("/memory/4", "89060000000000000004"),
        ("/ip4/192.0.2.0/ipcidr/24", "04c00002002b18"),
        ("/ip6/::1/udp/1/quic-v1", "2900000000000000000000000000000001910200 01cd03"),
        ("/dns/a.b/tcp/443/tls/ws", "3503612e620601bbc003dd03"),
    ];
    for (text, hex) in vectors {
        let bytes = HEXLOWER.decode(hex.replace(' ', "").as_bytes()).unwrap();
        assert_eq!(addr(text).as_bytes(), bytes, "{text}");
        assert_eq!(Multiaddr::from_bytes(&bytes).unwrap().to_string(), text);
    }
}

/// What go-multiaddr accepts, of the protocols that are known here.
#[test]
fn texts_that_come_back_as_they_are() {
    let texts = [
        "/ip4/1.2.3.4",
        "/ip6/2601:9:4f81:9700:803e:ca65:66e8:c21/udp/1234/quic",
        "/ip6/::ffff:127.0.0.1/tcp/111",
        "/ip6/2001:db8::/ipcidr/32",
        "/ip6zone/x%y/ip6/fe80::1/udp/1234/quic-v1",
        "/onion3/vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd:80/http",
        "/garlic32/566niximlxdzpanmn4qouucvua3k7neniwss47li5r6ugoertzuqzwas",
        "/tcp/0",
        "/udp/65535",
        "/tcp/1234/tls/http",
        "/tcp/1234/https",
        "/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC/tcp/1234",
        "/ip4/127.0.0.1/udp/1234/quic-v1/webtransport/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g",
        "/unix/a/b/c/d/e",
        "/ip4/1.2.3.4/tcp/80/unix/a/b/c/d/e/f",
        "/ip4/127.0.0.1/tcp/127/wss",
        "/ip4/127.0.0.1/tcp/127/tls/sni/example.com/ws",
        "/ip4/127.0.0.1/tcp/127/noise",
        "/ip4/127.0.0.1/udp/127/webrtc-direct",
        "/ip4/127.0.0.1/tcp/127/webrtc",
        "/ip4/127.0.0.1/tcp/1/plaintextv2",
        "/dns4/example.com/tcp/443",
        "/dns6/example.com/tcp/443",
        "/dnsaddr/bootstrap.libp2p.io/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC",
        "/http-path/tmp%2Fbar%2Fbaz",
        "/ip4/127.0.0.1/tcp/0/p2p/12D3KooWCryG7Mon9orvQxcS1rYZjotPgpwoJNHHKcLLfE4Hf5mV/http-path/foo",
        "/p2p-circuit/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC",
        "/memory/18446744073709551615",
    ];
    for text in texts {
        let addr = addr(text);
        assert_eq!(addr.to_string(), text);
        assert_eq!(Multiaddr::from_bytes(addr.as_bytes()), Ok(addr));
    }
}

#[test]
fn texts_that_come_back_otherwise() {
    let texts = [
        (
            "/ipfs/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC",
            "/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC",
        ),
        ("/ip4/127.0.0.1/tcp/1234/", "/ip4/127.0.0.1/tcp/1234"),
        ("/ip6/0:0::0:1", "/ip6/::1"),
        ("/tcp/0080", "/tcp/80"),
        ("/http-path/a%2fb%20c,d", "/http-path/a%2Fb%20c,d"),
        ("/http-path/a%25b%0A", "/http-path/a%25b%0A"),
    ];
    for (given, shown) in texts {
        assert_eq!(addr(given).to_string(), shown);
        assert_eq!(addr(given), addr(shown));
    }
    // One peer id, one certificate hash, in several bases.
    let cids = [
        "k51qzi5uqu5dhb6l8spkdx7yxafegfkee5by8h7lmjh2ehc2sgg34z7c15vzqs",
        "bafzaajaiaejcalj543iwv2d7pkjt7ykvefrkfu7qjfi6sduakhso4lay6abn2d5u",
    ];
    for cid in cids {
        assert_eq!(addr(&format!("/p2p/{cid}")), addr(&format!("/p2p/{PEER}")));
    }
    let hash = addr("/certhash/b2uaraocy6yrdblb4sfptaddgimjmmpy");
    assert_eq!(addr(&hash.to_string()), hash);
    let hash = addr("/certhash/zQmbWTwYGcmdyK9CYfNBcfs9nhZs17a6FQ4Y8oea278xx41");
    assert!(hash.to_string().starts_with("/certhash/uEi"), "{hash}");
}

/// Every refusal with the byte at which it is, and what was expected there.
#[test]
fn refused_texts() {
    let value = |protocol, expected| ErrorKind::Value { protocol, expected };
    let (ip4, port, cidr) = ("an IPv4 address", "a port, 0 to 65535", "a number of bits, 0 to 255");
    let name = "a name of 1 to 255 bytes without '/' and control characters";
    let onion3 = "56 characters of base32, ':' and a port, 1 to 65535";
    let onion = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd";
    let table = [
        ("", 0, ErrorKind::Empty),
        ("/", 0, ErrorKind::Empty),
        ("//", 0, ErrorKind::Empty),
        ("ip4/1.2.3.4", 0, ErrorKind::NoSlash),
        ("/ip4", 4, value("ip4", ip4)),
        ("/ip4/", 5, value("ip4", ip4)),
        ("/ip4/::1", 5, value("ip4", ip4)),
        ("/ip4/1.2.3.4.5/tcp/1", 5, value("ip4", ip4)),
        ("/ip4/1.2.3.04", 5, value("ip4", ip4)),
        ("/ip6/1.2.3.4", 5, value("ip6", "an IPv6 address")),
        ("/ip4/1.2.3.4/tcp", 16, value("tcp", port)),
        ("/ip4/1.2.3.4/tcp/-1", 17, value("tcp", port)),
        ("/ip4/1.2.3.4/tcp/+1", 17, value("tcp", port)),
        ("/ip4/1.2.3.4/tcp/65536", 17, value("tcp", port)),
        ("/ip4/1.2.3.4/tcp//ws", 17, value("tcp", port)),
        ("/udp/x/quic", 5, value("udp", port)),
        ("/ip4/0.0.0.0/ipcidr/256", 20, value("ipcidr", cidr)),
        ("/ip6zone//ip6/fe80::1", 9, value("ip6zone", name)),
        ("/dns", 4, value("dns", name)),
        ("/dns/a\u{1b}[2J", 5, value("dns", name)),
        ("/tcp/1/quic/1234", 12, ErrorKind::UnknownName("1234".into())),
        ("/tcp/1//", 7, ErrorKind::UnknownName(String::new())),
        ("/tcp/1/onion/aaimaq4ygg2iegci:80", 7, ErrorKind::UnknownName("onion".into())),
        ("/IP4/1.2.3.4", 1, ErrorKind::UnknownName("IP4".into())),
        ("/p2p", 4, value("p2p", "a peer id")),
        ("/ip4/1.2.3.4/p2p/tcp", 17, value("p2p", "a peer id")),
        ("/p2p/QmxoHT6iViN5xAjoz1VZ553cL31U9F94ht3QvWR1FrEbZY", 5, value("p2p", "a peer id")),
        ("/p2p/k2jmtxwoe2phm1hbqp0e7nufqf6umvuu2e9qd7ana7h411a0haqj6i2z", 5, value("p2p", "a peer id")),
        ("/unix", 5, value("unix", "a path without control characters")),
        ("/unix/", 6, value("unix", "a path without control characters")),
        ("/unix/a\n", 5, value("unix", "a path without control characters")),
        ("/certhash/b2uaraocy6yrdblb4sfptaddgimjmmp", 10, value("certhash", "a multihash in a multibase")),
        ("/certhash/x00", 10, value("certhash", "a multihash in a multibase")),
        ("/certhash", 9, value("certhash", "a multihash in a multibase")),
        ("/http-path/a%2", 11, value("http-path", "a percent-encoded path")),
        ("/http-path/a%zz", 11, value("http-path", "a percent-encoded path")),
        ("/http-path//x", 11, value("http-path", "a percent-encoded path")),
        ("/memory/18446744073709551616", 8, value("memory", "a number of 64 bits")),
        ("/memory/x", 8, value("memory", "a number of 64 bits")),
        (&format!("/onion3/{onion}:0"), 8, value("onion3", onion3)),
        (&format!("/onion3/{onion}:-1"), 8, value("onion3", onion3)),
        (&format!("/onion3/{onion}"), 8, value("onion3", onion3)),
        (&format!("/onion3/{onion}7:80"), 8, value("onion3", onion3)),
        (&format!("/onion3/9{}:80", &onion[1..]), 8, value("onion3", onion3)),
        (
            "/garlic32/566niximlxdzpanmn4qouucvua3k7neniwss47li5r6ugoertzu",
            10,
            value("garlic32", "an I2P address in base32"),
        ),
        ("/garlic64/AAAA", 10, value("garlic64", "an I2P destination in base64")),
        ("/p2p-circuit/p2p-circuit", 13, ErrorKind::TooManyCircuits),
    ];
    for (text, at, kind) in table {
        let error = text.parse::<Multiaddr>().unwrap_err();
        assert_eq!((error.position(), error.kind()), (at, &kind), "{text}");
    }
}

#[test]
fn refused_bytes() {
    let value = |protocol| move |kind: &ErrorKind| matches!(kind, ErrorKind::Value { protocol: p, .. } if *p == protocol);
    type Check = Box<dyn Fn(&ErrorKind) -> bool>;
    let is = |wanted: ErrorKind| -> Check { Box::new(move |kind| *kind == wanted) };
    let table: Vec<(&str, usize, Check)> = vec![
        ("", 0, is(ErrorKind::Empty)),
        ("047f0000", 0, is(ErrorKind::Truncated)),
        ("047f00000106", 5, is(ErrorKind::Truncated)),
        ("047f0000010610", 5, is(ErrorKind::Truncated)),
        ("047f000001910204", 5, is(ErrorKind::Truncated)),
        ("80", 0, is(ErrorKind::Truncated)),
        ("8400", 0, Box::new(|kind| matches!(kind, ErrorKind::Varint(_)))),
        ("ffffffffffffffffff", 0, Box::new(|kind| matches!(kind, ErrorKind::Varint(_)))),
        ("05", 0, is(ErrorKind::UnknownCode(5))),
        ("0600010702", 3, is(ErrorKind::UnknownCode(7))),
        ("3500", 0, Box::new(value("dns"))),
        ("35012f", 0, Box::new(value("dns"))),
        ("350107", 0, Box::new(value("dns"))),
        ("3501ff", 0, Box::new(value("dns"))),
        ("3502610a", 0, Box::new(value("dns"))),
        ("35ffffffffffffffff7f", 0, is(ErrorKind::Truncated)),
        ("a50322122122", 0, is(ErrorKind::Truncated)),
        (
            "a503221221c05877cbae039d70a5e600ea02c6f9f2942439285c9e344e26f8d280c850fad6",
            0,
            Box::new(value("p2p")),
        ),
        ("a50300", 0, Box::new(value("p2p"))),
        ("d203021201", 0, Box::new(value("certhash"))),
        ("e10300", 0, Box::new(value("http-path"))),
        ("90030161", 0, Box::new(value("unix"))),
        ("9003012f", 0, Box::new(value("unix"))),
        ("9003032f612f", 0, Box::new(value("unix"))),
        ("9003022f61060001", 5, is(ErrorKind::AfterUnix)),
        ("a202a202", 2, is(ErrorKind::TooManyCircuits)),
    ];
    for (hex, at, check) in table {
        let error = Multiaddr::from_bytes(&HEXLOWER.decode(hex.as_bytes()).unwrap()).unwrap_err();
        assert!(error.position() == at && check(error.kind()), "{hex}: {error:?}");
    }
}

#[test]
fn limits_at_n_and_n_plus_one() {
    let components = |n| "/ws".repeat(n).parse::<Multiaddr>();
    let full = components(MAX_COMPONENTS).unwrap();
    let error = components(MAX_COMPONENTS + 1).unwrap_err();
    assert_eq!((error.position(), error.kind()), (3 * MAX_COMPONENTS + 1, &ErrorKind::TooManyComponents));
    let error = Multiaddr::from_bytes(&[full.as_bytes(), &[0xdd, 0x03]].concat()).unwrap_err();
    assert_eq!((error.position(), error.kind()), (2 * MAX_COMPONENTS, &ErrorKind::TooManyComponents));
    assert_eq!(full.clone().with(Protocol::Ws).unwrap_err().kind(), &ErrorKind::TooManyComponents);

    // /http-path: two bytes of code, two of length.
    let of_len = |len: usize| format!("/http-path/{}", "x".repeat(len - 4));
    let longest = addr(&of_len(MAX_LEN));
    assert_eq!(longest.as_bytes().len(), MAX_LEN);
    assert_eq!(Multiaddr::from_bytes(longest.as_bytes()), Ok(longest.clone()));
    let too_long = ErrorKind::TooLong { len: MAX_LEN + 1, max: MAX_LEN };
    assert_eq!(of_len(MAX_LEN + 1).parse::<Multiaddr>().unwrap_err().kind(), &too_long);
    assert_eq!(Multiaddr::from_bytes(&[0; MAX_LEN + 1]).unwrap_err().kind(), &too_long);
    assert!(matches!(longest.with(Protocol::Ws).unwrap_err().kind(), ErrorKind::TooLong { .. }));

    let name = |len| format!("/dns/{}", "x".repeat(len)).parse::<Multiaddr>();
    assert!(name(MAX_NAME_LEN).is_ok());
    assert!(name(MAX_NAME_LEN + 1).is_err());

    let hash = |len: usize| {
        Multiaddr::empty().with(Protocol::Certhash(&[&[0x13, len as u8], &vec![1; len][..]].concat()))
    };
    let longest = hash(MAX_DIGEST_LEN).unwrap();
    assert_eq!(addr(&longest.to_string()), longest);
    assert!(hash(MAX_DIGEST_LEN + 1).is_err());

    let text = |len: usize| "/".repeat(len).parse::<Multiaddr>().unwrap_err();
    assert!(!matches!(text(MAX_TEXT_LEN).kind(), ErrorKind::TooLong { .. }));
    assert_eq!(
        text(MAX_TEXT_LEN + 1).kind(),
        &ErrorKind::TooLong { len: MAX_TEXT_LEN + 1, max: MAX_TEXT_LEN }
    );
}

#[test]
fn an_error_repeats_little_and_escapes_it() {
    let error = format!("/{}", "\u{1b}".repeat(1000)).parse::<Multiaddr>().unwrap_err().to_string();
    assert!(error.len() < 300 && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn push_and_pop() {
    let mut built = Multiaddr::empty();
    assert!(built.is_empty() && !built.pop());
    for protocol in [Protocol::Dns("example.com"), Protocol::Tcp(443), Protocol::Wss] {
        built.push(protocol).unwrap();
    }
    assert_eq!(built, addr("/dns/example.com/tcp/443/wss"));
    assert_eq!(built.iter().map(|protocol| protocol.name()).collect::<Vec<_>>(), ["dns", "tcp", "wss"]);
    assert!(built.push(Protocol::Sni("a/b")).is_err());
    assert!(built.push(Protocol::Dns("")).is_err());
    assert!(built.pop() && built.pop());
    assert_eq!(built, addr("/dns/example.com"));
    assert!(built.pop());
    assert!(built.is_empty());
    assert_eq!(addr("/unix/a").with(Protocol::Ws).unwrap_err().kind(), &ErrorKind::AfterUnix);
}

#[test]
fn whom_an_address_leads_to() {
    let (peer, other): (PeerId, PeerId) = (PEER.parse().unwrap(), OTHER.parse().unwrap());
    let plain = addr("/ip4/1.2.3.4/tcp/1");
    let full = addr(&format!("/ip4/1.2.3.4/tcp/1/p2p/{PEER}"));
    assert_eq!((plain.peer_id(), full.peer_id()), (None, Some(peer)));
    assert_eq!(full.split_peer(), (plain.clone(), Some(peer)));
    assert_eq!(plain.split_peer(), (plain.clone(), None));
    assert_eq!(plain.with_peer(peer), Ok(full.clone()));
    assert_eq!(full.with_peer(peer), Ok(full.clone()));
    assert_eq!(full.with_peer(other), Err(WithPeerError::Conflict { found: peer, wanted: other }));

    // The peer before the circuit is the relay.
    let relay = addr(&format!("/ip4/1.2.3.4/tcp/1/p2p/{PEER}/p2p-circuit"));
    assert!(relay.is_relayed() && !full.is_relayed());
    assert_eq!(relay.peer_id(), None);
    assert_eq!(relay.split_peer(), (relay.clone(), None));
    let relayed = relay.with_peer(other).unwrap();
    assert_eq!(relayed.peer_id(), Some(other));
    assert_eq!(relayed.split_peer(), (relay, Some(other)));

    // A path after the peer is no other destination.
    let http = addr(&format!("/ip4/1.2.3.4/tcp/1/http/p2p/{PEER}/http-path/x"));
    assert_eq!(http.peer_id(), Some(peer));
    assert_eq!(http.with_peer(peer), Ok(http.clone()));
    let full = addr(&"/ws".repeat(MAX_COMPONENTS));
    assert!(matches!(full.with_peer(peer), Err(WithPeerError::NoRoom(_))));
}
