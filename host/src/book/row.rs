use std::time::Duration;

use bytes::Bytes;
use peerage_core::{Multiaddr, PeerId, ProtocolId, envelope::Envelope, peer_record::PeerRecord, protobuf};
use prost::Message as _;

use super::{MAX_ADDRESSES_PER_PEER, MAX_AGENT, MAX_PROTOCOLS_PER_PEER, Source, address_of};
use crate::{
    dial::tidy,
    store::{MAX_VALUE, Table},
};

/// The peers, by the bytes of their ids.
pub(crate) const TABLE: Table = Table("peers");
/// A row before it is decoded: the addresses with their fields, the protocols, and some.
const LIMITS: protobuf::Limits<'_> = protobuf::Limits::new(
    MAX_VALUE,
    1024,
    &[protobuf::Rule::new(&[2], MAX_ADDRESSES_PER_PEER), protobuf::Rule::new(&[3], MAX_PROTOCOLS_PER_PEER)],
);
/// Wall clocks before 2020 are not set yet.
const PLAUSIBLE: Duration = Duration::from_secs(1_577_836_800);

/// What is kept of one peer. Times are what was left of them when it was written, and when that was: so a clock that
/// was wrong, or is, makes nothing live for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) addresses: Vec<KeptAddress>,
    pub(crate) protocols: Vec<ProtocolId>,
    pub(crate) agent: Option<String>,
    pub(crate) facts_left: Duration,
    pub(crate) record: Option<Certified>,
    pub(crate) security: Option<ProtocolId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptAddress {
    pub(crate) address: Multiaddr,
    pub(crate) source: Source,
    pub(crate) left: Duration,
    pub(crate) worked: bool,
    pub(crate) failures: u32,
}

/// A peer's signed record of its addresses. Whoever makes one has checked the signature and that it is the peer's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certified {
    pub(crate) record: PeerRecord,
    /// As it came, to be passed on.
    pub(crate) envelope: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    /// Unix time in seconds.
    #[prost(uint64, tag = "1")]
    written: u64,
    #[prost(message, repeated, tag = "2")]
    addresses: Vec<Address>,
    #[prost(string, repeated, tag = "3")]
    protocols: Vec<String>,
    #[prost(string, optional, tag = "4")]
    agent: Option<String>,
    /// Milliseconds.
    #[prost(uint64, tag = "5")]
    facts_left: u64,
    #[prost(bytes = "bytes", optional, tag = "6")]
    record: Option<Bytes>,
    #[prost(string, optional, tag = "7")]
    security: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Address {
    #[prost(bytes = "bytes", tag = "1")]
    address: Bytes,
    #[prost(uint32, tag = "2")]
    source: u32,
    /// Milliseconds.
    #[prost(uint64, tag = "3")]
    left: u64,
    #[prost(bool, tag = "4")]
    worked: bool,
    #[prost(uint32, tag = "5")]
    failures: u32,
}

/// The row of a peer; `unix` is the wall clock.
pub(crate) fn encode(kept: &Kept, unix: Duration) -> Vec<u8> {
    let address = |kept: &KeptAddress| Address {
        address: Bytes::copy_from_slice(kept.address.as_bytes()),
        source: match kept.source {
            Source::Other(_) => 0,
            Source::Identify => 1,
            Source::Dialed => 2,
            Source::Manual => 3,
        },
        left: millis(kept.left),
        worked: kept.worked,
        failures: kept.failures,
    };
    let mut row = Row {
        written: unix.as_secs(),
        addresses: kept.addresses.iter().map(address).collect(),
        protocols: kept.protocols.iter().map(|protocol| protocol.as_str().to_owned()).collect(),
        agent: kept.agent.clone(),
        facts_left: millis(kept.facts_left),
        record: kept.record.as_ref().map(|certified| certified.envelope.clone()),
        security: kept.security.as_ref().map(|security| security.as_str().to_owned()),
    };
    if row.encoded_len() > MAX_VALUE {
        // Names as long as can be, and addresses too: the latter are what a row is for.
        row.protocols.clear();
        row.addresses.truncate(super::KEPT_UNCONNECTED);
    }
    row.encode_to_vec()
}

/// Reads a row. What has expired is left out; `None` if nothing is left, or if it is no row.
///
/// The file is ours, but others may have had it in their hands: everything is checked again.
pub(crate) fn decode(peer: PeerId, bytes: &[u8], unix: Duration) -> Option<Kept> {
    protobuf::scan(bytes, &LIMITS).ok()?;
    let row = Row::decode(bytes).ok()?;
    let gone = elapsed(Duration::from_secs(row.written), unix);
    let left = |millis: u64| Duration::from_millis(millis).saturating_sub(gone);
    let address = |address: Address| {
        let known = address_of(peer, &Multiaddr::from_bytes(&address.address).ok()?).ok()?;
        let source = match address.source {
            0 => Source::Other("stored"),
            1 => Source::Identify,
            2 => Source::Dialed,
            3 => Source::Manual,
            _ => return None,
        };
        let (left, worked, failures) = (left(address.left), address.worked, address.failures);
        (!left.is_zero()).then_some(KeptAddress { address: known, source, left, worked, failures })
    };
    let addresses: Vec<_> = row.addresses.into_iter().filter_map(address).collect();
    let facts_left = left(row.facts_left);
    let (mut protocols, mut agent) = (Vec::new(), None);
    if !facts_left.is_zero() {
        protocols = row.protocols.into_iter().filter_map(|name| ProtocolId::new(name).ok()).collect();
        agent = row.agent.map(|agent| tidy(&agent, MAX_AGENT));
    }
    if addresses.is_empty() && agent.is_none() {
        return None;
    }
    let record = row.record.and_then(|envelope| certified(peer, envelope));
    let security = row.security.and_then(|name| ProtocolId::new(name).ok());
    Some(Kept { addresses, protocols, agent, facts_left, record, security })
}

fn certified(peer: PeerId, envelope: Bytes) -> Option<Certified> {
    let record = PeerRecord::open(&Envelope::decode(&envelope).ok()?).ok()?;
    (record.peer_id() == peer).then_some(Certified { record, envelope })
}

/// How much time has passed between two readings of the wall clock. If one of them was made before the clock was set,
/// or it was set back meanwhile, nobody knows, and nothing has: what is kept lives a little longer, not for ever.
fn elapsed(then: Duration, now: Duration) -> Duration {
    if then < PLAUSIBLE || now < PLAUSIBLE { Duration::ZERO } else { now.saturating_sub(then) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
