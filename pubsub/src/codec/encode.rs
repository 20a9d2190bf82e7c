use std::ops::Range;

use bytes::Bytes;
use peerage_core::{
    frame,
    protobuf::{put_bytes, put_varint},
    varint,
};

use super::{Extensions, Prune, Subscription, WireMessage, field};
use crate::{message::MessageId, partial::Mode, topic::Topic};

/// Bytes of ids that go into one RPC: well under what everybody takes.
const IDS_BYTES: usize = 256 << 10;
/// Subscriptions that go into one RPC.
const SUBSCRIPTIONS: usize = 100;

/// A message as a whole frame, ready for every peer.
pub fn publish(message: &WireMessage) -> Bytes {
    Parts::write(message).0
}

/// The same, and the message with all its parts in the frame, so that what it came in need not be kept.
pub(crate) fn publish_parts(message: WireMessage) -> (Bytes, WireMessage) {
    let (frame, parts) = Parts::write(&message);
    let kept = |part: Range<usize>, was: Option<Bytes>| was.map(|_| frame.slice(part));
    let message = WireMessage {
        from: kept(parts.from, message.from),
        data: kept(parts.data, message.data),
        sequence: kept(parts.sequence, message.sequence),
        topic: message.topic,
        signature: kept(parts.signature, message.signature),
        key: kept(parts.key, message.key),
    };
    (frame, message)
}

/// Where in a frame the parts of its message are; empty for those that it does not have.
#[derive(Default)]
struct Parts {
    from: Range<usize>,
    data: Range<usize>,
    sequence: Range<usize>,
    signature: Range<usize>,
    key: Range<usize>,
}

impl Parts {
    fn write(message: &WireMessage) -> (Bytes, Self) {
        let proof = len(&message.signature).saturating_add(len(&message.key));
        let inner = signed_len(message).saturating_add(proof);
        // The RPC's one field, as `put_bytes` writes it, without writing the message twice.
        let rpc = inner.saturating_add(head_len(inner));
        let mut out = Vec::with_capacity(rpc.saturating_add(varint::len(rpc as u64)));
        varint::encode(rpc as u64, &mut out);
        varint::encode(u64::from(field::PUBLISH) << 3 | 2, &mut out);
        varint::encode(inner as u64, &mut out);
        let mut parts = Self::default();
        put_signed_parts(message, &mut out, &mut parts);
        parts.signature = put(field::message::SIGNATURE, &message.signature, &mut out);
        parts.key = put(field::message::KEY, &message.key, &mut out);
        (out.into(), parts)
    }
}

/// What the author signs: the message without signature and key, its fields in order (spec "Message Signing").
pub(crate) fn put_signed(message: &WireMessage, out: &mut Vec<u8>) {
    put_signed_parts(message, out, &mut Parts::default());
}

/// How many bytes that is.
pub(crate) fn signed_len(message: &WireMessage) -> usize {
    let topic = message.topic.as_str().len();
    [&message.from, &message.data, &message.sequence]
        .into_iter()
        .map(len)
        .fold(topic.saturating_add(head_len(topic)), usize::saturating_add)
}

fn put_signed_parts(message: &WireMessage, out: &mut Vec<u8>, parts: &mut Parts) {
    parts.from = put(field::message::FROM, &message.from, out);
    parts.data = put(field::message::DATA, &message.data, out);
    parts.sequence = put(field::message::SEQUENCE, &message.sequence, out);
    put_bytes(field::message::TOPIC, message.topic.as_str().as_bytes(), out);
}

/// Writes a field that may be absent; where its bytes are then.
fn put(number: u32, part: &Option<Bytes>, out: &mut Vec<u8>) -> Range<usize> {
    let Some(part) = part else { return 0..0 };
    put_bytes(number, part, out);
    out.len().saturating_sub(part.len())..out.len()
}

/// Bytes of a field that may be absent.
fn len(part: &Option<Bytes>) -> usize {
    part.as_ref().map_or(0, |part| part.len().saturating_add(head_len(part.len())))
}

/// Bytes of a field's key and length: all fields here have numbers below 16.
pub(super) fn head_len(len: usize) -> usize {
    varint::len(len as u64).saturating_add(1)
}

/// What this node wants, as frames of a number of subscriptions that everybody takes.
pub fn subscriptions(changes: impl IntoIterator<Item = Subscription>) -> Vec<Bytes> {
    let (mut frames, mut rpc, mut count) = (Vec::new(), Vec::new(), 0_usize);
    for Subscription { subscribe, topic, partial } in changes {
        let mut inner = Vec::new();
        put_varint(field::subscription::SUBSCRIBE, subscribe.into(), &mut inner);
        put_bytes(field::subscription::TOPIC, topic.as_str().as_bytes(), &mut inner);
        if subscribe && partial == Mode::Requests {
            put_varint(field::subscription::REQUESTS_PARTIAL, 1, &mut inner);
        }
        if subscribe && partial.sends() {
            put_varint(field::subscription::SENDS_PARTIAL, 1, &mut inner);
        }
        put_bytes(field::SUBSCRIPTIONS, &inner, &mut rpc);
        count = count.saturating_add(1);
        if count == SUBSCRIPTIONS {
            frames.push(framed(&rpc));
            (rpc, count) = (Vec::new(), 0);
        }
    }
    if count > 0 {
        frames.push(framed(&rpc));
    }
    frames
}

/// Control messages for one peer, gathered into as few frames as others take. A frame of its own begins when one has
/// grown to a quarter of a MiB.
#[derive(Debug, Default)]
pub struct Control {
    inner: Vec<u8>,
    frames: Vec<Bytes>,
}

impl Control {
    /// Says what this node has.
    pub fn ihave<'a>(&mut self, topic: &Topic, ids: impl IntoIterator<Item = &'a MessageId>) {
        let mut head = Vec::new();
        put_bytes(field::ENTRY_TOPIC, topic.as_str().as_bytes(), &mut head);
        let ids = ids.into_iter().map(MessageId::as_bytes);
        self.ids(field::control::IHAVE, &head, field::IHAVE_IDS, ids);
    }

    /// Asks for messages.
    pub fn iwant<'a>(&mut self, ids: impl IntoIterator<Item = &'a [u8]>) {
        self.ids(field::control::IWANT, &[], field::IDS, ids.into_iter());
    }

    /// Says what this node does not want any more.
    pub fn idontwant<'a>(&mut self, ids: impl IntoIterator<Item = &'a [u8]>) {
        self.ids(field::control::IDONTWANT, &[], field::IDS, ids.into_iter());
    }

    /// Takes the peer into a mesh.
    pub fn graft(&mut self, topic: &Topic) {
        let mut entry = Vec::new();
        put_bytes(field::ENTRY_TOPIC, topic.as_str().as_bytes(), &mut entry);
        self.put(field::control::GRAFT, &entry);
    }

    /// Puts the peer out of a mesh.
    pub fn prune(&mut self, prune: &Prune) {
        let mut entry = Vec::new();
        put_bytes(field::ENTRY_TOPIC, prune.topic.as_str().as_bytes(), &mut entry);
        for exchanged in &prune.peers {
            let mut peer = Vec::new();
            put_bytes(field::PEER_ID, exchanged.peer.as_bytes(), &mut peer);
            if let Some(record) = &exchanged.record {
                put_bytes(field::PEER_RECORD, record, &mut peer);
            }
            put_bytes(field::PRUNE_PEERS, &peer, &mut entry);
        }
        if let Some(backoff) = prune.backoff {
            put_varint(field::PRUNE_BACKOFF, backoff, &mut entry);
        }
        self.put(field::control::PRUNE, &entry);
    }

    /// Says what this node can do; for the first RPC of a stream only (gossipsub 1.3).
    pub fn extensions(&mut self, extensions: Extensions) {
        let mut entry = Vec::new();
        if extensions.partial_messages {
            put_varint(field::PARTIAL_MESSAGES, 1, &mut entry);
        }
        if extensions.test {
            put_varint(field::TEST_EXTENSION, 1, &mut entry);
        }
        self.put(field::control::EXTENSIONS, &entry);
    }

    /// The frames; none, if nothing was said.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.cut();
        self.frames
    }

    fn ids<'a>(&mut self, number: u32, head: &[u8], id: u32, ids: impl Iterator<Item = &'a [u8]>) {
        let mut entry = head.to_vec();
        for one in ids {
            put_bytes(id, one, &mut entry);
            if entry.len() >= IDS_BYTES {
                self.put(number, &entry);
                entry = head.to_vec();
            }
        }
        if entry.len() > head.len() {
            self.put(number, &entry);
        }
    }

    fn put(&mut self, number: u32, entry: &[u8]) {
        put_bytes(number, entry, &mut self.inner);
        if self.inner.len() >= IDS_BYTES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if !self.inner.is_empty() {
            let mut rpc = Vec::with_capacity(self.inner.len().saturating_add(8));
            put_bytes(field::CONTROL, &std::mem::take(&mut self.inner), &mut rpc);
            self.frames.push(framed(&rpc));
        }
    }
}

/// The message of the extension that exists for tests.
pub(crate) fn test_extension() -> Bytes {
    let mut rpc = Vec::new();
    put_bytes(field::TEST_EXTENSION, &[], &mut rpc);
    framed(&rpc)
}

fn framed(rpc: &[u8]) -> Bytes {
    let mut out = Vec::new();
    frame::encode(rpc, &mut out);
    out.into()
}
