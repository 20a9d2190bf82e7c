//! Multicast DNS messages (RFC 1035, RFC 6762), as far as libp2p's discovery needs them (libp2p spec `discovery/mdns.md`).
//!
//! What is read: questions, and PTR and TXT records. Others are skipped. Where implementations deviate, all are understood:
//! rust-libp2p names its instances without the service behind them, js-libp2p writes TXT records among the answers instead
//! of behind them, and py-libp2p counts its keys, `dnsaddr`, `dnsaddr2`, and so on.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, time::Duration};

use peerage_core::{Multiaddr, PeerId};

use super::name::{Builder, Name};

/// Bytes of a message (RFC 6762, 17, without counting the headers below).
pub const MAX_MESSAGE: usize = 9000;
/// Questions and records of one message.
pub const MAX_ENTRIES: usize = 64;
/// Pointers that are followed for one name. Each leads backwards, but a chain of them could be as long as the message, and
/// be walked for every record.
pub const MAX_POINTERS: usize = 8;
/// Addresses that are taken from one message.
pub const MAX_FOUND_ADDRESSES: usize = 64;
/// Bytes of one `dnsaddr=` attribute, which is a DNS character string.
pub const MAX_TXT: usize = 255;
/// Bytes of a message that this node sends: what fits into one Ethernet frame with all headers.
pub const MAX_SENT: usize = 1400;

const HEADER: usize = 12;
/// QR: the message is an answer.
const RESPONSE: u16 = 0x8000;
/// The operation, and the result of one; both are zero here (RFC 6762, 18.3 and 18.11).
const OPCODE_AND_RCODE: u16 = 0x780f;
/// An answer that has authority, as all are (RFC 6762, 18.4).
const AUTHORITATIVE: u16 = 0x0400;
const IN: u16 = 1;
/// In the class of a record: there are no others of this name and type (RFC 6762, 10.2). In that of a question: an answer
/// to this one alone is fine (5.4), which this node never gives.
const TOP_BIT: u16 = 0x8000;
const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const ANY: u16 = 255;
const KEY: &[u8] = b"dnsaddr";

/// A message that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Query(Query),
    Response(Response),
}

/// Somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// A number of the asker's choice.
    pub(crate) id: u16,
    pub(crate) questions: Vec<Question>,
    /// Instances of the service that the asker knows already, and for how long yet (RFC 6762, 7.1).
    pub(crate) known: Vec<(Name, Duration)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Who is there?
    Peers,
    /// Which services are there? (RFC 6763, 9)
    Services,
    /// Something about one name.
    About(Name),
}

/// Somebody answers, or announces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) announced: Vec<Announced>,
    /// Instances that are no more.
    pub(crate) gone: Vec<Name>,
}

/// What one instance of the service says of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) instance: Name,
    pub(crate) peer: PeerId,
    /// Without the peer id.
    pub(crate) addresses: Vec<Multiaddr>,
    /// How long it holds; zero takes it back.
    pub(crate) ttl: Duration,
    /// Whether that is all there is of this instance.
    pub(crate) whole: bool,
}

/// Why a message is not read. Whoever sent it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is longer than any may be.
    #[error("the message has {0} bytes, {MAX_MESSAGE} allowed")]
    TooLong(
        /// Its length.
        usize,
    ),
    /// It announces more than is read.
    #[error("the message has {0} questions and records, {MAX_ENTRIES} allowed")]
    TooMany(
        /// How many.
        usize,
    ),
    /// It is neither a query nor an answer.
    #[error("the message is of another kind")]
    Kind,
    /// It ends too early.
    #[error("the message ends too early")]
    Truncated,
    /// A name in it is none.
    #[error("a name is broken")]
    Name,
}

/// The names that matter to a node.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// `_p2p._udp.local`, or that of a private network.
    pub(crate) service: Name,
    /// `local`
    pub(crate) local: Name,
    /// `_services._dns-sd._udp.local`
    pub(crate) services: Name,
}

impl Names {
    /// Those of the public network, or of the private one with this fingerprint in hexadecimal digits.
    pub(crate) fn new(private: Option<&str>) -> Option<Self> {
        let service = match private {
            None => Cow::Borrowed("_p2p"),
            Some(fingerprint) => Cow::Owned(format!("_p2p-{fingerprint}")),
        };
        Some(Self {
            service: Name::new([service.as_bytes(), b"_udp", b"local"])?,
            local: Name::new([&b"local"[..]])?,
            services: Name::new([&b"_services"[..], b"_dns-sd", b"_udp", b"local"])?,
        })
    }

    /// Reads a message.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Message, DecodeError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        let mut reader = Reader { bytes, at: 0 };
        let (id, flags) = (reader.u16()?, reader.u16()?);
        if flags & OPCODE_AND_RCODE != 0 {
            return Err(DecodeError::Kind);
        }
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?].map(usize::from);
        let [questions, answers, authorities, additionals] = counts;
        let entries = counts.into_iter().fold(0_usize, usize::saturating_add);
        if entries > MAX_ENTRIES {
            return Err(DecodeError::TooMany(entries));
        }
        if flags & RESPONSE == 0 {
            let questions = self.questions(&mut reader, questions)?;
            let known = self.known(&mut reader, answers)?;
            return Ok(Message::Query(Query { id, questions, known }));
        }
        self.questions(&mut reader, questions)?;
        let records = answers.saturating_add(authorities).saturating_add(additionals);
        Ok(Message::Response(self.response(&mut reader, records)?))
    }

    fn questions(&self, reader: &mut Reader<'_>, count: usize) -> Result<Vec<Question>, DecodeError> {
        let mut questions = Vec::new();
        for _ in 0..count {
            let name = reader.name()?;
            let (kind, class) = (reader.u16()?, reader.u16()? & !TOP_BIT);
            if class != IN && class != ANY {
                continue;
            }
            let asks_for_names = kind == PTR || kind == ANY;
            questions.push(match name {
                name if name == self.service && asks_for_names => Question::Peers,
                name if name == self.services && asks_for_names => Question::Services,
                name => Question::About(name),
            });
        }
        Ok(questions)
    }

    fn known(&self, reader: &mut Reader<'_>, count: usize) -> Result<Vec<(Name, Duration)>, DecodeError> {
        let mut known = Vec::new();
        for _ in 0..count {
            let record = reader.record()?;
            if let Some(instance) = self.instance(reader, &record)? {
                known.push((instance, record.ttl));
            }
        }
        Ok(known)
    }

    /// Gathers pointers and texts, wherever they stand: a text counts if this message points to it, or if its name says that
    /// it belongs to the service.
    fn response(&self, reader: &mut Reader<'_>, count: usize) -> Result<Response, DecodeError> {
        let (mut gone, mut pointed) = (Vec::new(), Vec::new());
        let mut texts: BTreeMap<Name, Text> = BTreeMap::new();
        let mut room = MAX_FOUND_ADDRESSES;
        for _ in 0..count {
            let record = reader.record()?;
            if let Some(instance) = self.instance(reader, &record)? {
                if record.ttl.is_zero() { &mut gone } else { &mut pointed }.push(instance);
            } else if record.kind == TXT && record.class & !TOP_BIT == IN {
                let text = texts.entry(record.name).or_default();
                text.ttl = record.ttl;
                text.whole |= record.class & TOP_BIT != 0;
                text.read(record.data, &mut room);
            }
        }
        let announced = texts
            .into_iter()
            .filter(|(name, _)| {
                name.is_child_of(&self.service) || pointed.contains(name) || gone.contains(name)
            })
            .filter_map(|(instance, text)| {
                let Text { peer, addresses, ttl, whole } = text;
                Some(Announced { instance, peer: peer?, addresses, ttl, whole })
            })
            .collect();
        Ok(Response { announced, gone })
    }

    /// The instance that a record points to, if that is what it does.
    fn instance(&self, reader: &Reader<'_>, record: &Record<'_>) -> Result<Option<Name>, DecodeError> {
        if record.kind != PTR || record.class & !TOP_BIT != IN || record.name != self.service {
            return Ok(None);
        }
        let mut target = Reader { bytes: reader.bytes, at: record.at };
        target.name().map(Some)
    }
}

/// What TXT records of one name say.
#[derive(Default)]
struct Text {
    peer: Option<PeerId>,
    addresses: Vec<Multiaddr>,
    ttl: Duration,
    whole: bool,
}

impl Text {
    /// Reads character strings, until one is cut off.
    fn read(&mut self, mut data: &[u8], room: &mut usize) {
        while let Some((length, rest)) = data.split_first() {
            let Some((attribute, rest)) = rest.split_at_checked((*length).into()) else { return };
            data = rest;
            let Some((peer, address)) = dnsaddr(attribute) else { continue };
            // An instance is one peer: the first that is named.
            if *self.peer.get_or_insert(peer) != peer || self.addresses.contains(&address) {
                continue;
            }
            let Some(left) = room.checked_sub(1) else { return };
            *room = left;
            self.addresses.push(address);
        }
    }
}

/// `dnsaddr=/ip4/192.0.2.1/tcp/4001/p2p/12D3...`: who, and where.
fn dnsaddr(attribute: &[u8]) -> Option<(PeerId, Multiaddr)> {
    let equals = attribute.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (attribute.get(..equals)?, attribute.get(equals.checked_add(1)?..)?);
    let (key, number) = key.split_at_checked(KEY.len())?;
    // Keys of attributes know no case (RFC 6763, 6.4).
    if !key.eq_ignore_ascii_case(KEY) || !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let address: Multiaddr = std::str::from_utf8(value).ok()?.parse().ok()?;
    let (address, peer) = address.split_peer();
    // Of whom a relay's address ends, the relay is not on this link.
    if address.is_empty() || address.is_relayed() {
        return None;
    }
    Some((peer?, address))
}

struct Record<'a> {
    name: Name,
    kind: u16,
    class: u16,
    ttl: Duration,
    /// Where the data begins.
    at: usize,
    data: &'a [u8],
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(length).ok_or(DecodeError::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(DecodeError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        let taken = self.take(2)?.try_into().map_err(|_| DecodeError::Truncated)?;
        Ok(u16::from_be_bytes(taken))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        let taken = self.take(4)?.try_into().map_err(|_| DecodeError::Truncated)?;
        Ok(u32::from_be_bytes(taken))
    }

    fn record(&mut self) -> Result<Record<'a>, DecodeError> {
        let name = self.name()?;
        let (kind, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let length = self.u16()?;
        let at = self.at;
        let data = self.take(length.into())?;
        Ok(Record { name, kind, class, ttl: Duration::from_secs(ttl.into()), at, data })
    }

    /// A name, which may end with a pointer to another one further ahead (RFC 1035, 4.1.4).
    fn name(&mut self) -> Result<Name, DecodeError> {
        let mut name = Builder::default();
        // Where this part begins; the next one has to begin before it.
        let mut start = self.at;
        let mut part = Reader { bytes: self.bytes, at: self.at };
        let mut end = None;
        let mut pointers: usize = 0;
        loop {
            let length = part.u8()?;
            match length >> 6 {
                0 if length == 0 => break,
                0 => name.push(part.take(length.into())?).ok_or(DecodeError::Name)?,
                3 => {
                    let low = part.u8()?;
                    let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    pointers = pointers.saturating_add(1);
                    if target < HEADER || target >= start || pointers > MAX_POINTERS {
                        return Err(DecodeError::Name);
                    }
                    end.get_or_insert(part.at);
                    (start, part.at) = (target, target);
                }
                _ => return Err(DecodeError::Name),
            }
        }
        self.at = end.unwrap_or(part.at);
        Ok(name.finish())
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take(1)?.first().copied().ok_or(DecodeError::Truncated)
    }
}

/// The question of who is there.
pub(crate) fn query(names: &Names, id: u16) -> Vec<u8> {
    let mut writer = Writer::new(id, 0);
    writer.name(&names.service);
    writer.u16(PTR);
    writer.u16(IN);
    writer.counted([1, 0, 0, 0])
}

/// The answer to the question which services there are.
pub(crate) fn services(names: &Names, ttl: Duration) -> Vec<u8> {
    let mut writer = Writer::new(0, RESPONSE | AUTHORITATIVE);
    writer.record(&names.services, PTR, IN, ttl, |writer| writer.name(&names.service));
    writer.counted([0, 1, 0, 0])
}

/// One instance of the service: what one message says of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) name: Name,
    /// Who DNS-SD says can be reached there; what libp2p needs is in the attributes alone.
    pub(crate) host: Name,
    pub(crate) port: u16,
    pub(crate) ips: Vec<IpAddr>,
    /// `dnsaddr=...`, each [`MAX_TXT`] bytes long at most.
    pub(crate) attributes: Vec<String>,
}

/// The answer of an instance: PTR, and all that belongs to it. go-libp2p keeps the last TXT record of a name, so
/// there is only one; py-libp2p wants SRV and an address record.
pub(crate) fn announcement(names: &Names, instance: &Instance, ttl: Duration) -> Vec<u8> {
    let mut writer = Writer::new(0, RESPONSE | AUTHORITATIVE);
    // Who else is an instance of the service is others' business: this one record is not the only one of its name.
    writer.record(&names.service, PTR, IN, ttl, |writer| writer.name(&instance.name));
    let own = IN | TOP_BIT;
    writer.record(&instance.name, SRV, own, ttl, |writer| {
        writer.u16(0);
        writer.u16(0);
        writer.u16(instance.port);
        writer.name(&instance.host);
    });
    writer.record(&instance.name, TXT, own, ttl, |writer| {
        for attribute in &instance.attributes {
            writer.text(attribute.as_bytes());
        }
        // A TXT record without any string is none (RFC 6763, 6.1).
        if instance.attributes.is_empty() {
            writer.text(b"");
        }
    });
    let mut additionals: u16 = 2;
    for ip in &instance.ips {
        match ip {
            IpAddr::V4(ip) => writer.record(&instance.host, A, own, ttl, |writer| writer.bytes(&ip.octets())),
            IpAddr::V6(ip) => {
                writer.record(&instance.host, AAAA, own, ttl, |writer| writer.bytes(&ip.octets()));
            }
        }
        additionals = additionals.saturating_add(1);
    }
    writer.counted([0, 1, 0, additionals])
}

/// Writes names once, and points to them afterwards.
struct Writer {
    bytes: Vec<u8>,
    /// Names and their ends, and where they stand.
    written: Vec<(Vec<u8>, u16)>,
}

impl Writer {
    fn new(id: u16, flags: u16) -> Self {
        let mut writer = Self { bytes: Vec::with_capacity(MAX_SENT), written: Vec::new() };
        writer.u16(id);
        writer.u16(flags);
        writer.bytes(&[0; 8]);
        writer
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn u16(&mut self, number: u16) {
        self.bytes(&number.to_be_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        debug_assert!(text.len() <= MAX_TXT, "longer ones are left out before");
        if let Ok(length) = u8::try_from(text.len()) {
            self.bytes.push(length);
            self.bytes(text);
        }
    }

    fn name(&mut self, name: &Name) {
        let mut rest = name.as_bytes();
        while let Some((length, after)) = rest.split_first().filter(|(length, _)| **length != 0) {
            let found = self.written.iter().find(|(written, _)| written == rest);
            if let Some((_, at)) = found {
                let pointer = at | 0xc000;
                return self.u16(pointer);
            }
            if let Ok(at) = u16::try_from(self.bytes.len())
                && at < 0x4000
            {
                self.written.push((rest.to_vec(), at));
            }
            let (label, after) = after.split_at_checked((*length).into()).unwrap_or_default();
            self.bytes.push(*length);
            self.bytes(label);
            rest = after;
        }
        self.bytes.push(0);
    }

    fn record(&mut self, name: &Name, kind: u16, class: u16, ttl: Duration, data: impl FnOnce(&mut Self)) {
        self.name(name);
        self.u16(kind);
        self.u16(class);
        self.bytes(&u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
        let at = self.bytes.len();
        self.u16(0);
        data(self);
        let length = self.bytes.len().saturating_sub(at).saturating_sub(2);
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        self.patch(at, &length);
    }

    fn counted(mut self, counts: [u16; 4]) -> Vec<u8> {
        let counts: Vec<u8> = counts.into_iter().flat_map(u16::to_be_bytes).collect();
        self.patch(4, &counts);
        self.bytes
    }

    fn patch(&mut self, at: usize, bytes: &[u8]) {
        let place = self.bytes.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len()));
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
