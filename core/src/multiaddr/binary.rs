//! The binary form: a code, then the value, for each component.

use super::error::{Error, ErrorKind};
use super::protocol::{Entry, Protocol, Size, by_code};
use crate::{PeerId, varint};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Appends one component, which the caller has found valid.
pub(super) fn encode(protocol: &Protocol<'_>, out: &mut Vec<u8>) {
    varint::encode(protocol.code(), out);
    match protocol {
        Protocol::Ip4(ip) => out.extend(ip.octets()),
        Protocol::Ip6(ip) => out.extend(ip.octets()),
        Protocol::Ipcidr(bits) => out.push(*bits),
        Protocol::Tcp(port) | Protocol::Udp(port) => out.extend(port.to_be_bytes()),
        Protocol::Ip6zone(text)
        | Protocol::Dns(text)
        | Protocol::Dns4(text)
        | Protocol::Dns6(text)
        | Protocol::Dnsaddr(text)
        | Protocol::Sni(text)
        | Protocol::Unix(text) => prefixed(text.as_bytes(), out),
        Protocol::P2p(peer) => prefixed(peer.as_bytes(), out),
        Protocol::Certhash(bytes)
        | Protocol::HttpPath(bytes)
        | Protocol::Garlic32(bytes)
        | Protocol::Garlic64(bytes) => prefixed(bytes, out),
        Protocol::Memory(number) => out.extend(number.to_be_bytes()),
        Protocol::Onion3 { host, port } => {
            out.extend_from_slice(&host[..]);
            out.extend(port.to_be_bytes());
        }
        Protocol::P2pCircuit
        | Protocol::Quic
        | Protocol::QuicV1
        | Protocol::Webtransport
        | Protocol::Ws
        | Protocol::Wss
        | Protocol::Tls
        | Protocol::Noise
        | Protocol::Http
        | Protocol::Https
        | Protocol::Webrtc
        | Protocol::WebrtcDirect
        | Protocol::Plaintextv2 => {}
    }
}

fn prefixed(value: &[u8], out: &mut Vec<u8>) {
    varint::encode(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Steps through components, of bytes that may be anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { rest: bytes, at: 0 }
    }

    /// Where the next component starts.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next component; `None` at the end. After an error there is nothing more to ask.
    pub(super) fn next(&mut self) -> Result<Option<Protocol<'a>>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = self.at;
        self.component().map(Some).map_err(|kind| Error::new(at, kind))
    }

    fn component(&mut self) -> Result<Protocol<'a>, ErrorKind> {
        let code = self.varint()?;
        let entry = by_code(code).ok_or(ErrorKind::UnknownCode(code))?;
        let len = match entry.size {
            Size::None => 0,
            Size::Fixed(len) => len,
            Size::Prefixed => usize::try_from(self.varint()?).map_err(|_| ErrorKind::Truncated)?,
        };
        let (value, rest) = self.rest.split_at_checked(len).ok_or(ErrorKind::Truncated)?;
        self.advance_to(rest, len);
        protocol(entry, value)
            .filter(Protocol::is_valid)
            .ok_or(ErrorKind::Value { protocol: entry.name, expected: entry.expected })
    }

    fn varint(&mut self) -> Result<u64, ErrorKind> {
        let (value, used) =
            varint::decode(self.rest).map_err(ErrorKind::Varint)?.ok_or(ErrorKind::Truncated)?;
        self.advance_to(self.rest.get(used..).unwrap_or_default(), used);
        Ok(value)
    }

    fn advance_to(&mut self, rest: &'a [u8], by: usize) {
        self.rest = rest;
        self.at = self.at.saturating_add(by);
    }
}

/// Makes a protocol of an entry of the table and a value of the size that the entry asks for.
fn protocol<'a>(entry: &Entry, value: &'a [u8]) -> Option<Protocol<'a>> {
    let text = || std::str::from_utf8(value).ok();
    let port = || value.try_into().ok().map(u16::from_be_bytes);
    Some(match entry.code {
        4 => Protocol::Ip4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?)),
        6 => Protocol::Tcp(port()?),
        41 => Protocol::Ip6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)),
        42 => Protocol::Ip6zone(text()?),
        43 => Protocol::Ipcidr(*value.first()?),
        53 => Protocol::Dns(text()?),
        54 => Protocol::Dns4(text()?),
        55 => Protocol::Dns6(text()?),
        56 => Protocol::Dnsaddr(text()?),
        273 => Protocol::Udp(port()?),
        280 => Protocol::WebrtcDirect,
        281 => Protocol::Webrtc,
        290 => Protocol::P2pCircuit,
        400 => Protocol::Unix(text()?),
        421 => Protocol::P2p(PeerId::from_bytes(value).ok()?),
        443 => Protocol::Https,
        445 => {
            let (host, port) = value.split_first_chunk()?;
            Protocol::Onion3 { host, port: u16::from_be_bytes(port.try_into().ok()?) }
        }
        446 => Protocol::Garlic64(value),
        447 => Protocol::Garlic32(value),
        448 => Protocol::Tls,
        449 => Protocol::Sni(text()?),
        454 => Protocol::Noise,
        460 => Protocol::Quic,
        461 => Protocol::QuicV1,
        465 => Protocol::Webtransport,
        466 => Protocol::Certhash(value),
        477 => Protocol::Ws,
        478 => Protocol::Wss,
        480 => Protocol::Http,
        481 => Protocol::HttpPath(value),
        777 => Protocol::Memory(u64::from_be_bytes(value.try_into().ok()?)),
        7_367_777 => Protocol::Plaintextv2,
        _ => return None,
    })
}
