//! The text form: `/name/value/name/value`.

use super::error::{Error, ErrorKind};
use super::protocol::{Entry, MAX_DIGEST_LEN, Protocol, Size, by_name};
use crate::PeerId;
use data_encoding::{BASE32_NOPAD, BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use std::fmt;

/// Characters of an unknown name that an error repeats.
const SHOWN: usize = 32;

/// The most characters of a certificate's hash: hexadecimal, with prefix, code and length. Base58 takes quadratic time.
const MAX_CERTHASH_TEXT_LEN: usize = 2 * MAX_DIGEST_LEN + 2 * 18 + 1;

/// Reads the components of `text` one after the other and hands each, valid, to `take` with its position.
pub(super) fn parse(
    text: &str,
    mut take: impl FnMut(usize, Protocol<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(body) = text.strip_prefix('/') else {
        return Err(Error::new(0, if text.is_empty() { ErrorKind::Empty } else { ErrorKind::NoSlash }));
    };
    // go and js let a slash stand at the end; people type it.
    let body = body.strip_suffix('/').unwrap_or(body);
    if body.is_empty() {
        return Err(Error::new(0, ErrorKind::Empty));
    }
    let mut scratch = Vec::new();
    let mut cursor = Cursor { rest: Some(body), at: 1 };
    while let Some((at, name)) = cursor.next() {
        let entry = by_name(name)
            .ok_or_else(|| Error::new(at, ErrorKind::UnknownName(name.chars().take(SHOWN).collect())))?;
        let (value_at, value) = match entry.size {
            Size::None => (at, Some("")),
            // The path is all that is left, and keeps the slash before it.
            _ if entry.name == "unix" => cursor.path(text),
            _ => match cursor.next() {
                Some((at, value)) => (at, Some(value)),
                None => (text.len(), None),
            },
        };
        let protocol =
            value.and_then(|value| protocol(entry, value, &mut scratch)).filter(Protocol::is_valid).ok_or(
                Error::new(value_at, ErrorKind::Value { protocol: entry.name, expected: entry.expected }),
            )?;
        take(at, protocol)?;
    }
    Ok(())
}

/// What is between slashes, and where it starts.
struct Cursor<'a> {
    rest: Option<&'a str>,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn next(&mut self) -> Option<(usize, &'a str)> {
        let (at, rest) = (self.at, self.rest?);
        let word = match rest.split_once('/') {
            Some((word, rest)) => {
                self.rest = Some(rest);
                word
            }
            None => {
                self.rest = None;
                rest
            }
        };
        self.at = at.saturating_add(word.len()).saturating_add(1);
        Some((at, word))
    }

    /// Everything that is left, with the slash before it.
    fn path(&mut self, text: &'a str) -> (usize, Option<&'a str>) {
        let Some(rest) = self.rest.take() else {
            return (text.len(), None);
        };
        let start = self.at.saturating_sub(1);
        let end = self.at.saturating_add(rest.len());
        (start, text.get(start..end))
    }
}

/// Makes a protocol of an entry of the table and the text of its value. What has to be decoded goes into `scratch`.
fn protocol<'a>(entry: &Entry, value: &'a str, scratch: &'a mut Vec<u8>) -> Option<Protocol<'a>> {
    scratch.clear();
    Some(match entry.code {
        4 => Protocol::Ip4(value.parse().ok()?),
        6 => Protocol::Tcp(number(value)?),
        41 => Protocol::Ip6(value.parse().ok()?),
        42 => Protocol::Ip6zone(value),
        43 => Protocol::Ipcidr(number(value)?),
        53 => Protocol::Dns(value),
        54 => Protocol::Dns4(value),
        55 => Protocol::Dns6(value),
        56 => Protocol::Dnsaddr(value),
        273 => Protocol::Udp(number(value)?),
        280 => Protocol::WebrtcDirect,
        281 => Protocol::Webrtc,
        290 => Protocol::P2pCircuit,
        400 => Protocol::Unix(value),
        421 => Protocol::P2p(value.parse::<PeerId>().ok()?),
        443 => Protocol::Https,
        445 => {
            let (host, port) = value.split_once(':')?;
            *scratch = base32(host)?;
            Protocol::Onion3 { host: scratch.as_slice().try_into().ok()?, port: number(port)? }
        }
        446 => {
            *scratch = from_i2p_base64(value)?;
            Protocol::Garlic64(scratch)
        }
        447 => {
            *scratch = base32(value)?;
            Protocol::Garlic32(scratch)
        }
        448 => Protocol::Tls,
        449 => Protocol::Sni(value),
        454 => Protocol::Noise,
        460 => Protocol::Quic,
        461 => Protocol::QuicV1,
        465 => Protocol::Webtransport,
        466 => {
            *scratch = multibase(value)?;
            Protocol::Certhash(scratch)
        }
        477 => Protocol::Ws,
        478 => Protocol::Wss,
        480 => Protocol::Http,
        481 => {
            percent_decode(value, scratch)?;
            Protocol::HttpPath(scratch)
        }
        777 => Protocol::Memory(number(value)?),
        7_367_777 => Protocol::Plaintextv2,
        _ => return None,
    })
}

/// Digits only: the standard parser would let a plus sign pass.
fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn base32(text: &str) -> Option<Vec<u8>> {
    BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()
}

/// I2P's base64 has `-` and `~` in the place of `+` and `/`.
fn from_i2p_base64(text: &str) -> Option<Vec<u8>> {
    if text.contains('+') {
        return None;
    }
    BASE64.decode(text.replace('-', "+").replace('~', "/").as_bytes()).ok()
}

fn to_i2p_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes).replace('+', "-").replace('/', "~")
}

/// The bases in which certificate hashes are met; `u` is the one that everyone writes.
fn multibase(text: &str) -> Option<Vec<u8>> {
    if text.len() > MAX_CERTHASH_TEXT_LEN {
        return None;
    }
    let mut characters = text.chars();
    let base = characters.next()?;
    let digits = characters.as_str();
    match base {
        'u' => BASE64URL_NOPAD.decode(digits.as_bytes()).ok(),
        'm' => BASE64_NOPAD.decode(digits.as_bytes()).ok(),
        'b' => base32(digits),
        'z' => bs58::decode(digits).into_vec().ok(),
        'f' => HEXLOWER.decode(digits.as_bytes()).ok(),
        _ => None,
    }
}

/// RFC 3986, section 2.1.
fn percent_decode(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                *data_encoding::HEXLOWER_PERMISSIVE.decode(&digits).ok()?.first()?
            }
            byte if byte.is_ascii_control() => return None,
            byte => byte,
        });
    }
    Some(())
}

/// Everything but the characters of a path segment (RFC 3986, section 3.3) is encoded.
fn write_percent_encoded(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            write!(f, "{}", char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

/// As it stands in an address, with its slashes.
impl fmt::Display for Protocol<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.name())?;
        match self {
            Protocol::Ip4(ip) => write!(f, "/{ip}"),
            Protocol::Ip6(ip) => write!(f, "/{ip}"),
            Protocol::Ipcidr(bits) => write!(f, "/{bits}"),
            Protocol::Tcp(port) | Protocol::Udp(port) => write!(f, "/{port}"),
            Protocol::Ip6zone(text)
            | Protocol::Dns(text)
            | Protocol::Dns4(text)
            | Protocol::Dns6(text)
            | Protocol::Dnsaddr(text)
            | Protocol::Sni(text) => write!(f, "/{text}"),
            Protocol::Unix(path) => f.write_str(path),
            Protocol::P2p(peer) => write!(f, "/{peer}"),
            Protocol::Certhash(hash) => write!(f, "/u{}", BASE64URL_NOPAD.encode(hash)),
            Protocol::HttpPath(path) => {
                f.write_str("/")?;
                write_percent_encoded(path, f)
            }
            Protocol::Memory(number) => write!(f, "/{number}"),
            Protocol::Onion3 { host, port } => {
                write!(f, "/{}:{port}", BASE32_NOPAD.encode(&host[..]).to_ascii_lowercase())
            }
            Protocol::Garlic32(bytes) => write!(f, "/{}", BASE32_NOPAD.encode(bytes).to_ascii_lowercase()),
            Protocol::Garlic64(bytes) => write!(f, "/{}", to_i2p_base64(bytes)),
            _ => Ok(()),
        }
    }
}
