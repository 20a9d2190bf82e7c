use bytes::Bytes;
use peerage_core::{
    PeerId,
    protobuf::{self, Value, fields},
};

use super::{
    Exchanged, Extensions, IHave, Limits, MAX_ENTRIES, MAX_EXCHANGED, MAX_IDS, MAX_MESSAGES, MAX_RECORD,
    Prune, Rpc, Subscription, WireMessage, field, partial::Raw,
};
use crate::{message::MAX_ID, partial::Mode, topic::Topic};

/// Why a peer's bytes are not an RPC that is taken; always the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is not protobuf.
    #[error(transparent)]
    Malformed(#[from] protobuf::Error),
    /// It is too long.
    #[error("RPC of {len} bytes, {max} allowed")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// There are too many of something in it; empty ones count.
    #[error("more than {max} {what} in one RPC")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        max: usize,
    },
}

/// Reads an RPC, without its length. Nothing is allocated for an entry before it was counted.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(frame: &Bytes, limits: &Limits) -> Result<Rpc, DecodeError> {
    decode_with(frame, limits, &mut None)
}

/// The same, for one RPC after another of a stream: a message of the same topic as the last one shares its name.
pub(crate) fn decode_with(
    frame: &Bytes,
    limits: &Limits,
    last: &mut Option<Topic>,
) -> Result<Rpc, DecodeError> {
    if frame.len() > limits.bytes {
        return Err(DecodeError::TooLong { len: frame.len(), max: limits.bytes });
    }
    let mut reader = Reader { frame, limits, last, rpc: Rpc::default(), counts: Counts::default() };
    reader.rpc(frame)?;
    Ok(reader.rpc)
}

struct Reader<'a> {
    frame: &'a Bytes,
    limits: &'a Limits,
    /// The topic of the last message.
    last: &'a mut Option<Topic>,
    rpc: Rpc,
    counts: Counts,
}

/// How many of each there were, those that were passed over included.
#[derive(Default)]
struct Counts {
    subscriptions: usize,
    messages: usize,
    ihave: usize,
    ihave_ids: usize,
    iwant: usize,
    grafts: usize,
    prunes: usize,
    idontwant: usize,
}

fn count(counter: &mut usize, what: &'static str, max: usize) -> Result<(), DecodeError> {
    *counter = counter.saturating_add(1);
    if *counter > max { Err(DecodeError::TooMany { what, max }) } else { Ok(()) }
}

impl Reader<'_> {
    fn rpc(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut partial = None;
        for one in fields(bytes) {
            let one = one?;
            let Value::Bytes(inner) = one.value else { continue };
            match one.number {
                field::SUBSCRIPTIONS => {
                    count(&mut self.counts.subscriptions, "subscriptions", self.limits.subscriptions)?;
                    self.subscription(inner)?;
                }
                field::PUBLISH => {
                    count(&mut self.counts.messages, "messages", MAX_MESSAGES)?;
                    self.message(inner)?;
                }
                // Protobuf merges an embedded message that is there twice; so does this.
                field::CONTROL => self.control(inner)?,
                field::PARTIAL => partial.get_or_insert_with(Raw::default).merge(inner)?,
                field::TEST_EXTENSION => self.rpc.test_extension = true,
                _ => {}
            }
        }
        if let Some(raw) = partial {
            self.rpc.partial = raw.read(self.frame).map(Box::new);
            if self.rpc.partial.is_none() {
                self.skip();
            }
        }
        Ok(())
    }

    fn subscription(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let (mut subscribe, mut topic, mut requests, mut sends) = (false, None, false, false);
        for one in fields(bytes) {
            match (one?.number, one?.value) {
                (field::subscription::SUBSCRIBE, Value::Varint(value)) => subscribe = value != 0,
                (field::subscription::TOPIC, Value::Bytes(name)) => topic = read_topic(name),
                (field::subscription::REQUESTS_PARTIAL, Value::Varint(value)) => requests = value != 0,
                (field::subscription::SENDS_PARTIAL, Value::Varint(value)) => sends = value != 0,
                _ => {}
            }
        }
        match topic {
            Some(topic) => {
                let partial = match (subscribe, requests, sends) {
                    (true, true, _) => Mode::Requests,
                    (true, false, true) => Mode::Sends,
                    _ => Mode::Off,
                };
                self.rpc.subscriptions.push(Subscription { subscribe, topic, partial });
            }
            None => self.skip(),
        }
        Ok(())
    }

    fn message(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        // A message that is small beside its frame must not keep all of the frame alive.
        let alone = bytes.len() >= self.frame.len() / 2;
        let frame = self.frame;
        let keep = |part: &[u8]| match alone {
            true => frame.slice_ref(part),
            false => Bytes::copy_from_slice(part),
        };
        let (mut from, mut data, mut sequence, mut topic, mut signature, mut key) =
            (None, None, None, None, None, None);
        for one in fields(bytes) {
            let one = one?;
            let Value::Bytes(part) = one.value else { continue };
            match one.number {
                field::message::FROM => from = Some(keep(part)),
                field::message::DATA => data = Some(keep(part)),
                field::message::SEQUENCE => sequence = Some(keep(part)),
                field::message::TOPIC => topic = self.message_topic(part),
                field::message::SIGNATURE => signature = Some(keep(part)),
                field::message::KEY => key = Some(keep(part)),
                _ => {}
            }
        }
        match topic {
            Some(topic) => {
                self.rpc.messages.push(WireMessage { from, data, sequence, topic, signature, key });
            }
            None => self.skip(),
        }
        Ok(())
    }

    fn message_topic(&mut self, name: &[u8]) -> Option<Topic> {
        if self.last.as_ref().is_none_or(|last| last.as_str().as_bytes() != name) {
            *self.last = read_topic(name);
        }
        self.last.clone()
    }

    fn control(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        for one in fields(bytes) {
            let one = one?;
            let Value::Bytes(inner) = one.value else { continue };
            match one.number {
                field::control::IHAVE => {
                    count(&mut self.counts.ihave, "IHAVE", MAX_ENTRIES)?;
                    self.ihave(inner)?;
                }
                field::control::IWANT => {
                    count(&mut self.counts.iwant, "IWANT", MAX_ENTRIES)?;
                    let mut ids = std::mem::take(&mut self.rpc.iwant);
                    self.ids(field::IDS, inner, &mut ids)?;
                    self.rpc.iwant = ids;
                }
                field::control::GRAFT => {
                    count(&mut self.counts.grafts, "GRAFT", MAX_ENTRIES)?;
                    match entry_topic(inner)? {
                        Some(topic) => self.rpc.grafts.push(topic),
                        None => self.skip(),
                    }
                }
                field::control::PRUNE => {
                    count(&mut self.counts.prunes, "PRUNE", MAX_ENTRIES)?;
                    self.prune(inner)?;
                }
                field::control::IDONTWANT => {
                    count(&mut self.counts.idontwant, "IDONTWANT", MAX_ENTRIES)?;
                    self.rpc.idontwant_entries = self.counts.idontwant;
                    let mut ids = std::mem::take(&mut self.rpc.idontwant);
                    self.ids(field::IDS, inner, &mut ids)?;
                    self.rpc.idontwant = ids;
                }
                field::control::EXTENSIONS => self.extensions(inner)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn ihave(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let Some(topic) = entry_topic(bytes)? else {
            self.skip();
            return Ok(());
        };
        let mut ids = Vec::new();
        let before = self.counts.ihave_ids;
        for one in fields(bytes) {
            let one = one?;
            if let (field::IHAVE_IDS, Value::Bytes(id)) = (one.number, one.value) {
                if self.counts.ihave_ids < MAX_IDS && is_id(id) {
                    self.counts.ihave_ids = self.counts.ihave_ids.saturating_add(1);
                    ids.push(self.frame.slice_ref(id));
                } else {
                    self.skip();
                }
            }
        }
        if self.counts.ihave_ids > before {
            self.rpc.ihave.push(IHave { topic, ids });
        }
        Ok(())
    }

    fn ids(&mut self, number: u32, bytes: &[u8], ids: &mut Vec<Bytes>) -> Result<(), DecodeError> {
        for one in fields(bytes) {
            let one = one?;
            if let Value::Bytes(id) = one.value
                && one.number == number
            {
                if ids.len() < MAX_IDS && is_id(id) {
                    ids.push(self.frame.slice_ref(id));
                } else {
                    self.skip();
                }
            }
        }
        Ok(())
    }

    fn prune(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let (mut topic, mut peers, mut backoff) = (None, Vec::new(), None);
        for one in fields(bytes) {
            let one = one?;
            match (one.number, one.value) {
                (field::ENTRY_TOPIC, Value::Bytes(name)) => topic = read_topic(name),
                (field::PRUNE_BACKOFF, Value::Varint(seconds)) => backoff = Some(seconds),
                (field::PRUNE_PEERS, Value::Bytes(inner)) if peers.len() < MAX_EXCHANGED => {
                    match exchanged(inner)? {
                        Some(peer) => peers.push(peer),
                        None => self.skip(),
                    }
                }
                (field::PRUNE_PEERS, _) => self.skip(),
                _ => {}
            }
        }
        match topic {
            Some(topic) => self.rpc.prunes.push(Prune { topic, peers, backoff }),
            None => self.skip(),
        }
        Ok(())
    }

    fn extensions(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let extensions = self.rpc.extensions.get_or_insert(Extensions::default());
        for one in fields(bytes) {
            match (one?.number, one?.value) {
                (field::PARTIAL_MESSAGES, Value::Varint(value)) => extensions.partial_messages = value != 0,
                (field::TEST_EXTENSION, Value::Varint(value)) => extensions.test = value != 0,
                _ => {}
            }
        }
        Ok(())
    }

    fn skip(&mut self) {
        self.rpc.skipped = self.rpc.skipped.saturating_add(1);
    }
}

pub(super) fn read_topic(name: &[u8]) -> Option<Topic> {
    Topic::new(std::str::from_utf8(name).ok()?).ok()
}

fn is_id(id: &[u8]) -> bool {
    (1..=MAX_ID).contains(&id.len())
}

fn entry_topic(bytes: &[u8]) -> Result<Option<Topic>, DecodeError> {
    let mut topic = None;
    for one in fields(bytes) {
        let one = one?;
        if let (field::ENTRY_TOPIC, Value::Bytes(name)) = (one.number, one.value) {
            topic = read_topic(name);
        }
    }
    Ok(topic)
}

fn exchanged(bytes: &[u8]) -> Result<Option<Exchanged>, DecodeError> {
    let (mut peer, mut record) = (None, None);
    for one in fields(bytes) {
        match (one?.number, one?.value) {
            (field::PEER_ID, Value::Bytes(id)) => peer = PeerId::from_bytes(id).ok(),
            (field::PEER_RECORD, Value::Bytes(bytes)) if (1..=MAX_RECORD).contains(&bytes.len()) => {
                record = Some(Bytes::copy_from_slice(bytes));
            }
            _ => {}
        }
    }
    Ok(peer.map(|peer| Exchanged { peer, record }))
}
