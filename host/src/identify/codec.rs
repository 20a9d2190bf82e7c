use std::sync::Arc;

use bytes::Bytes;
use peerage_core::{
    Multiaddr, PeerId, ProtocolId, PublicKey, envelope::Envelope, frame, identity::Proofs,
    peer_record::PeerRecord, protobuf,
};
use prost::Message as _;

use super::{Info, PROTOCOL_VERSION};
use crate::dial;

/// Bytes of one message. go-libp2p takes 8 KiB, rust-libp2p 4 KiB; more than the latter is split when sent.
pub const MAX_MESSAGE: usize = 8 * 1024;
/// Messages of one answer, which are merged: go-libp2p splits what is over 2 KiB, and takes ten.
pub const MAX_MESSAGES: usize = 10;
/// Listen addresses that are kept of one peer.
pub const MAX_ADDRESSES: usize = 64;
/// Protocols that are kept of one peer.
pub const MAX_PROTOCOLS: usize = 128;
/// Characters of an agent version that are kept.
pub const MAX_AGENT: usize = 128;
/// Fields that one message may have at all. Checked before decoding: an empty field costs the sender two bytes and
/// the receiver many more.
pub const MAX_FIELDS: usize = 1_200;
/// One message, before it is decoded.
const LIMITS: protobuf::Limits<'_> = protobuf::Limits::new(MAX_MESSAGE, MAX_FIELDS, &[]);
/// Bytes of a message that is sent, so that every reader takes it.
const SEND_MESSAGE: usize = 2 * 1024;

/// `Identify` of the spec, field by field. `signedPeerRecord` stands in no merged text, but all send it.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(bytes = "bytes", optional, tag = "1")]
    public_key: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    listen_addrs: Vec<Bytes>,
    #[prost(string, repeated, tag = "3")]
    protocols: Vec<String>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    observed_addr: Option<Bytes>,
    #[prost(string, optional, tag = "5")]
    protocol_version: Option<String>,
    #[prost(string, optional, tag = "6")]
    agent_version: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    signed_peer_record: Option<Bytes>,
}

/// What became of the signed record of a peer's addresses. A bad one costs nothing else of the answer: by default
/// rust-libp2p signs in a form that is not the standard one, and js-libp2p throws such an answer away.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerRecordState {
    /// The peer sent none.
    Absent,
    /// It is valid and of that peer.
    Valid(PeerRecord),
    /// It is not, and was left out of account.
    Invalid(String),
}

/// Why an identify answer could not be read. The peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A message is too long, or its length no length.
    #[error(transparent)]
    Frame(#[from] frame::Error),
    /// More messages than [`MAX_MESSAGES`].
    #[error("more than {MAX_MESSAGES} messages")]
    TooManyMessages,
    /// More fields than [`MAX_FIELDS`], or not a protobuf.
    #[error("{0}")]
    Shape(String),
    /// The key is not the one that the peer proved in the handshake.
    #[error("the public key is not the one that the peer proved")]
    WrongKey,
    /// The stream ended before the first message.
    #[error("there is no message in it")]
    Empty,
}

/// What this node says of itself to one peer.
pub(super) struct Own<'a> {
    pub(super) public_key: &'a PublicKey,
    pub(super) agent: &'a str,
    /// At most [`MAX_ADDRESSES`].
    pub(super) listen_addrs: &'a [Multiaddr],
    pub(super) observed_addr: &'a Multiaddr,
    pub(super) protocols: &'a [ProtocolId],
    /// With the signed record of the addresses.
    pub(super) envelope: Option<Bytes>,
}

/// Encodes the answer: one message, or several when it is long.
pub(super) fn encode(own: Own<'_>) -> Vec<u8> {
    let mut messages = vec![Message {
        public_key: Some(own.public_key.to_protobuf().into()),
        observed_addr: Some(Bytes::copy_from_slice(own.observed_addr.as_bytes())),
        protocol_version: Some(PROTOCOL_VERSION.to_owned()),
        agent_version: Some(own.agent.to_owned()),
        ..Message::default()
    }];
    for address in own.listen_addrs {
        let bytes = Bytes::copy_from_slice(address.as_bytes());
        add(&mut messages, address.as_bytes().len(), |message| message.listen_addrs.push(bytes));
    }
    for protocol in own.protocols {
        let name = protocol.as_str().to_owned();
        add(&mut messages, name.len(), |message| message.protocols.push(name));
    }
    if let Some(envelope) = own.envelope {
        add(&mut messages, envelope.len(), |message| message.signed_peer_record = Some(envelope));
    }
    let mut out = Vec::new();
    for message in messages {
        frame::encode(&message.encode_to_vec(), &mut out);
    }
    out
}

/// Adds a field to the last message, or to a new one when the last is full.
fn add(messages: &mut Vec<Message>, len: usize, put: impl FnOnce(&mut Message)) {
    // A field's tag and length take a few bytes more.
    let full = |message: &Message| message.encoded_len().saturating_add(len).saturating_add(8) > SEND_MESSAGE;
    if messages.last().is_none_or(full) && messages.len() < MAX_MESSAGES {
        messages.push(Message::default());
    }
    if let Some(last) = messages.last_mut() {
        put(last);
    }
}

/// Reads an answer piece by piece. Messages are merged as protobufs are: lists grow, and what stands once is
/// replaced.
pub(super) struct Decoder {
    peer: PeerId,
    proofs: Arc<Proofs>,
    frames: frame::Decoder,
    messages: usize,
    merged: Message,
    incomplete: bool,
}

impl Decoder {
    /// `proofs` are of the records that this node has seen.
    pub(super) fn new(peer: PeerId, proofs: Arc<Proofs>) -> Self {
        Self {
            peer,
            proofs,
            frames: frame::Decoder::new(MAX_MESSAGE),
            messages: 0,
            merged: Message::default(),
            incomplete: false,
        }
    }

    /// Takes what was read.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        let mut rest = chunk;
        while let Some(message) = self.frames.decode(&mut rest)? {
            self.merge(message)?;
        }
        Ok(())
    }

    /// The stream has ended.
    pub(super) fn finish(self) -> Result<Info, DecodeError> {
        self.frames.finish()?;
        if self.messages == 0 {
            return Err(DecodeError::Empty);
        }
        self.info()
    }

    fn merge(&mut self, bytes: Bytes) -> Result<(), DecodeError> {
        self.messages = self.messages.saturating_add(1);
        if self.messages > MAX_MESSAGES {
            return Err(DecodeError::TooManyMessages);
        }
        protobuf::scan(&bytes, &LIMITS).map_err(|error| DecodeError::Shape(error.to_string()))?;
        let message = Message::decode(bytes).map_err(|error| DecodeError::Shape(error.to_string()))?;
        let Message { public_key, listen_addrs, protocols, .. } = message;
        self.extend(listen_addrs, |merged| &mut merged.listen_addrs, MAX_ADDRESSES);
        self.extend(protocols, |merged| &mut merged.protocols, MAX_PROTOCOLS);
        let merged = &mut self.merged;
        replace(&mut merged.public_key, public_key);
        replace(&mut merged.observed_addr, message.observed_addr);
        replace(&mut merged.protocol_version, message.protocol_version);
        replace(&mut merged.agent_version, message.agent_version);
        replace(&mut merged.signed_peer_record, message.signed_peer_record);
        Ok(())
    }

    fn extend<T>(&mut self, more: Vec<T>, list: fn(&mut Message) -> &mut Vec<T>, max: usize) {
        let list = list(&mut self.merged);
        let room = max.saturating_sub(list.len());
        self.incomplete |= more.len() > room;
        list.extend(more.into_iter().take(room));
    }

    fn info(mut self) -> Result<Info, DecodeError> {
        let merged = std::mem::take(&mut self.merged);
        let public_key = match merged.public_key {
            // A key of a kind that this node cannot read proves nothing, and was not needed: the handshake has one.
            Some(bytes) => PublicKey::from_protobuf(&bytes).ok(),
            None => None,
        };
        if public_key.as_ref().is_some_and(|key| key.peer_id() != self.peer) {
            return Err(DecodeError::WrongKey);
        }
        // Addresses and names that are none, by ours or by everybody's reading, cost nothing but themselves.
        let (named, kept) = (merged.listen_addrs.len(), |bytes: &Bytes| Multiaddr::from_bytes(bytes).ok());
        let listen_addrs: Vec<_> = merged.listen_addrs.iter().filter_map(kept).collect();
        self.incomplete |= listen_addrs.len() < named;
        let named = merged.protocols.len();
        let protocols: Vec<_> =
            merged.protocols.into_iter().filter_map(|name| ProtocolId::new(name).ok()).collect();
        self.incomplete |= protocols.len() < named;
        let envelope = merged.signed_peer_record.clone();
        let signed_record = record(merged.signed_peer_record, self.peer, &self.proofs);
        Ok(Info {
            public_key,
            protocol_version: tidy(merged.protocol_version),
            agent_version: tidy(merged.agent_version),
            listen_addrs,
            observed_addr: merged.observed_addr.and_then(|bytes| Multiaddr::from_bytes(&bytes).ok()),
            protocols,
            envelope: envelope.filter(|_| matches!(signed_record, PeerRecordState::Valid(_))),
            signed_record,
            incomplete: self.incomplete,
        })
    }
}

fn replace<T>(old: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *old = new;
    }
}

/// The text is shown in terminals and logs.
fn tidy(text: Option<String>) -> String {
    dial::tidy(&text.unwrap_or_default(), MAX_AGENT)
}

fn record(envelope: Option<Bytes>, peer: PeerId, proofs: &Proofs) -> PeerRecordState {
    let Some(bytes) = envelope else {
        return PeerRecordState::Absent;
    };
    let record = Envelope::decode(&bytes).map_err(|error| error.to_string());
    match record
        .and_then(|envelope| PeerRecord::open_again(&envelope, proofs).map_err(|error| error.to_string()))
    {
        Ok(record) if record.peer_id() == peer => PeerRecordState::Valid(record),
        Ok(_) => PeerRecordState::Invalid("it is another peer's".to_owned()),
        Err(error) => PeerRecordState::Invalid(error),
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
