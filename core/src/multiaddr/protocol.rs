use crate::{PeerId, varint};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The most bytes of a domain name (RFC 1035 says 253 characters), of an SNI name and of a zone.
pub const MAX_NAME_LEN: usize = 255;

/// The most bytes of the digest inside a certificate's hash: SHA-512 has 64.
pub const MAX_DIGEST_LEN: usize = 64;

const ONION3_HOST_LEN: usize = 35;
/// I2P: a destination has at least 386 bytes, a hash of one 32, an encrypted lease set's address 35 or more.
const GARLIC64_MIN_LEN: usize = 386;
const GARLIC32_HASH_LEN: usize = 32;
const GARLIC32_MIN_ADDRESS_LEN: usize = 35;

/// One component of a multiaddr: a protocol and, if it has one, its value.
///
/// Codes and names are those of
/// [protocols.csv](https://github.com/multiformats/multiaddr/blob/master/protocols.csv). Not every value of this type
/// is valid (a domain name may be too long, say); a multiaddr takes only those that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol<'a> {
    /// `/ip4/192.0.2.1`
    Ip4(Ipv4Addr),
    /// `/ip6/2001:db8::1`
    Ip6(Ipv6Addr),
    /// `/ip6zone/eth0`, before the `/ip6` it belongs to.
    Ip6zone(&'a str),
    /// `/ipcidr/24`: how many bits of the address before it count.
    Ipcidr(u8),
    /// `/tcp/4001`
    Tcp(u16),
    /// `/udp/4001`
    Udp(u16),
    /// `/dns/example.com`: a name for both families.
    Dns(&'a str),
    /// `/dns4/example.com`
    Dns4(&'a str),
    /// `/dns6/example.com`
    Dns6(&'a str),
    /// `/dnsaddr/example.com`: a name whose TXT records hold multiaddrs.
    Dnsaddr(&'a str),
    /// `/unix/run/node.sock`: the path, with its leading slash. The last component.
    Unix(&'a str),
    /// `/p2p/12D3KooW...`, also read as `/ipfs/...`.
    P2p(PeerId),
    /// `/p2p-circuit`: what is before it is a relay.
    P2pCircuit,
    /// `/quic`: draft 29, which nobody speaks any more.
    Quic,
    /// `/quic-v1`: RFC 9000.
    QuicV1,
    /// `/webtransport`
    Webtransport,
    /// `/certhash/uEi...`: a multihash of a certificate.
    Certhash(&'a [u8]),
    /// `/ws`
    Ws,
    /// `/wss`, the same as `/tls/ws`.
    Wss,
    /// `/tls`
    Tls,
    /// `/sni/example.com`
    Sni(&'a str),
    /// `/noise`
    Noise,
    /// `/http`
    Http,
    /// `/https`, the same as `/tls/http`.
    Https,
    /// `/http-path/a%2Fb`: the path itself, here `a/b`.
    HttpPath(&'a [u8]),
    /// `/webrtc`: between browsers, by signalling over a relay.
    Webrtc,
    /// `/webrtc-direct`
    WebrtcDirect,
    /// `/memory/7`: inside one process. The table leaves its value open; eight bytes, big endian, is what every
    /// implementation writes.
    Memory(u64),
    /// `/onion3/<56 characters>:<port>`
    Onion3 {
        /// Key, checksum and version.
        host: &'a [u8; 35],
        /// Not zero.
        port: u16,
    },
    /// `/garlic32/<base32>`
    Garlic32(&'a [u8]),
    /// `/garlic64/<base64>`
    Garlic64(&'a [u8]),
    /// `/plaintextv2`: no security, for tests.
    Plaintextv2,
}

/// How the value of a protocol is laid out in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    None,
    Fixed(usize),
    /// Length first, as a varint.
    Prefixed,
}

/// What the tables of codes, names and sizes say of one protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) code: u64,
    pub(super) name: &'static str,
    pub(super) size: Size,
    /// What a value is, as an error says it.
    pub(super) expected: &'static str,
}

const fn entry(code: u64, name: &'static str, size: Size, expected: &'static str) -> Entry {
    Entry { code, name, size, expected }
}

const fn bare(code: u64, name: &'static str) -> Entry {
    entry(code, name, Size::None, "no value")
}

const NAME: &str = "a name of 1 to 255 bytes without '/' and control characters";

pub(super) const ENTRIES: &[Entry] = &[
    entry(4, "ip4", Size::Fixed(4), "an IPv4 address"),
    entry(6, "tcp", Size::Fixed(2), "a port, 0 to 65535"),
    entry(41, "ip6", Size::Fixed(16), "an IPv6 address"),
    entry(42, "ip6zone", Size::Prefixed, NAME),
    entry(43, "ipcidr", Size::Fixed(1), "a number of bits, 0 to 255"),
    entry(53, "dns", Size::Prefixed, NAME),
    entry(54, "dns4", Size::Prefixed, NAME),
    entry(55, "dns6", Size::Prefixed, NAME),
    entry(56, "dnsaddr", Size::Prefixed, NAME),
    entry(273, "udp", Size::Fixed(2), "a port, 0 to 65535"),
    bare(280, "webrtc-direct"),
    bare(281, "webrtc"),
    bare(290, "p2p-circuit"),
    entry(400, "unix", Size::Prefixed, "a path without control characters"),
    entry(421, "p2p", Size::Prefixed, "a peer id"),
    bare(443, "https"),
    entry(
        445,
        "onion3",
        Size::Fixed(ONION3_HOST_LEN + 2),
        "56 characters of base32, ':' and a port, 1 to 65535",
    ),
    entry(446, "garlic64", Size::Prefixed, "an I2P destination in base64"),
    entry(447, "garlic32", Size::Prefixed, "an I2P address in base32"),
    bare(448, "tls"),
    entry(449, "sni", Size::Prefixed, NAME),
    bare(454, "noise"),
    bare(460, "quic"),
    bare(461, "quic-v1"),
    bare(465, "webtransport"),
    entry(466, "certhash", Size::Prefixed, "a multihash in a multibase"),
    bare(477, "ws"),
    bare(478, "wss"),
    bare(480, "http"),
    entry(481, "http-path", Size::Prefixed, "a percent-encoded path"),
    entry(777, "memory", Size::Fixed(8), "a number of 64 bits"),
    bare(7_367_777, "plaintextv2"),
];

pub(super) fn by_code(code: u64) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.code == code)
}

pub(super) fn by_name(name: &str) -> Option<&'static Entry> {
    // addressing: /ipfs is the older name of /p2p.
    let name = if name == "ipfs" { "p2p" } else { name };
    ENTRIES.iter().find(|entry| entry.name == name)
}

impl Protocol<'_> {
    /// The number in the table of protocols.
    pub fn code(&self) -> u64 {
        match self {
            Protocol::Ip4(_) => 4,
            Protocol::Tcp(_) => 6,
            Protocol::Ip6(_) => 41,
            Protocol::Ip6zone(_) => 42,
            Protocol::Ipcidr(_) => 43,
            Protocol::Dns(_) => 53,
            Protocol::Dns4(_) => 54,
            Protocol::Dns6(_) => 55,
            Protocol::Dnsaddr(_) => 56,
            Protocol::Udp(_) => 273,
            Protocol::WebrtcDirect => 280,
            Protocol::Webrtc => 281,
            Protocol::P2pCircuit => 290,
            Protocol::Unix(_) => 400,
            Protocol::P2p(_) => 421,
            Protocol::Https => 443,
            Protocol::Onion3 { .. } => 445,
            Protocol::Garlic64(_) => 446,
            Protocol::Garlic32(_) => 447,
            Protocol::Tls => 448,
            Protocol::Sni(_) => 449,
            Protocol::Noise => 454,
            Protocol::Quic => 460,
            Protocol::QuicV1 => 461,
            Protocol::Webtransport => 465,
            Protocol::Certhash(_) => 466,
            Protocol::Ws => 477,
            Protocol::Wss => 478,
            Protocol::Http => 480,
            Protocol::HttpPath(_) => 481,
            Protocol::Memory(_) => 777,
            Protocol::Plaintextv2 => 7_367_777,
        }
    }

    /// The name in the table of protocols.
    pub fn name(&self) -> &'static str {
        by_code(self.code()).map_or("", |entry| entry.name)
    }

    /// Whether a multiaddr may have it. Everything that has a text form has the same one again after reading it, and
    /// prints no control characters.
    pub(super) fn is_valid(&self) -> bool {
        match self {
            Protocol::Dns(name)
            | Protocol::Dns4(name)
            | Protocol::Dns6(name)
            | Protocol::Dnsaddr(name)
            | Protocol::Sni(name)
            | Protocol::Ip6zone(name) => {
                (1..=MAX_NAME_LEN).contains(&name.len())
                    && !name.contains(|c: char| c == '/' || c.is_control())
            }
            Protocol::Unix(path) => {
                path.len() > 1
                    && path.starts_with('/')
                    && !path.ends_with('/')
                    && !path.contains(char::is_control)
            }
            Protocol::Certhash(hash) => is_multihash(hash),
            Protocol::HttpPath(path) => !path.is_empty(),
            Protocol::Onion3 { port, .. } => *port != 0,
            Protocol::Garlic64(bytes) => bytes.len() >= GARLIC64_MIN_LEN,
            Protocol::Garlic32(bytes) => {
                bytes.len() == GARLIC32_HASH_LEN || bytes.len() >= GARLIC32_MIN_ADDRESS_LEN
            }
            _ => true,
        }
    }
}

fn is_multihash(bytes: &[u8]) -> bool {
    let Ok(Some((_code, used))) = varint::decode(bytes) else {
        return false;
    };
    let rest = bytes.get(used..).unwrap_or_default();
    let Ok(Some((len, used))) = varint::decode(rest) else {
        return false;
    };
    let digest = rest.get(used..).unwrap_or_default();
    usize::try_from(len) == Ok(digest.len()) && digest.len() <= MAX_DIGEST_LEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_duplicates() {
        for (at, entry) in ENTRIES.iter().enumerate() {
            for other in &ENTRIES[at + 1..] {
                assert!(entry.code != other.code && entry.name != other.name, "{entry:?} {other:?}");
            }
        }
    }

    #[test]
    fn digests_of_64_bytes_and_65() {
        let multihash = |len: usize| [&[0x12, len as u8][..], &vec![1; len]].concat();
        assert!(is_multihash(&multihash(MAX_DIGEST_LEN)));
        assert!(!is_multihash(&multihash(MAX_DIGEST_LEN + 1)));
        for bad in [&[][..], &[0x12], &[0x12, 1], &[0x12, 1, 1, 1], &[0x80, 0x00, 0], &[0x12, 0x80, 0x00]] {
            assert!(!is_multihash(bad), "{bad:?}");
        }
    }
}
