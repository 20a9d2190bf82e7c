//! Identify, as in the libp2p spec `identify/README.md`: who a peer is, what it speaks, where it listens, and from
//! where it sees the asker come.
//!
//! When this node's addresses or protocols change, the peers that speak `/ipfs/id/push/1.0.0` are told after
//! [`PUSH_DELAY`]. What they tell in turn changes what is known of them: what a message does not name stays.
//!
//! Nothing waits for it: streams are opened as soon as a connection is there.

mod codec;
mod credible;
mod effects;
mod engine;
mod rate;
mod seal;

pub use codec::{
    DecodeError, MAX_ADDRESSES, MAX_AGENT, MAX_FIELDS, MAX_MESSAGE, MAX_MESSAGES, MAX_PROTOCOLS,
    PeerRecordState,
};
pub use engine::{MAX_PUSHES, MAX_RUNNING, PUSH_DELAY, RETRIES, TIMEOUT};
pub use rate::{ALL_PUSH_BURST, ALL_PUSH_EVERY, PUSH_BURST, PUSH_EVERY};

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use peerage_core::{Multiaddr, PeerId, ProtocolId, PublicKey};
use tokio::time::timeout;

use crate::{
    Protocol, Registrar, actor::Port, book, hub::ConnectionEvent, limits::StreamLimits,
    protocol::ServeOptions,
};

/// The protocol's name on the wire.
pub const PROTOCOL: ProtocolId = ProtocolId::from_static("/ipfs/id/1.0.0");
/// The protocol by which a peer tells of its changes.
pub const PUSH: ProtocolId = ProtocolId::from_static("/ipfs/id/push/1.0.0");
/// Streams on which one peer may tell of changes at once.
pub const MAX_PUSH_STREAMS: usize = 2;
/// What is said for the protocol version, as all others say it.
pub const PROTOCOL_VERSION: &str = "ipfs/0.1.0";
/// Its name in the tree of actors.
pub(crate) const NAME: &str = "identify";
/// Identify streams that one peer may have open here.
pub const MAX_INBOUND_STREAMS: usize = 4;

/// Tells every peer that asks who this node is, and asks every peer that it is connected with.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Identify {}

/// What a peer said of itself. Everything but the key is hearsay.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The key, if the peer sent it; it is the one that it proved.
    pub public_key: Option<PublicKey>,
    /// `ipfs/0.1.0`, mostly.
    pub protocol_version: String,
    /// Name and version of its software; at most [`MAX_AGENT`] characters, none of them a control character.
    pub agent_version: String,
    /// Where it listens, by its own account; at most [`MAX_ADDRESSES`].
    pub listen_addrs: Vec<Multiaddr>,
    /// From where it sees this node come.
    pub observed_addr: Option<Multiaddr>,
    /// The protocols that it speaks; at most [`MAX_PROTOCOLS`].
    pub protocols: Vec<ProtocolId>,
    /// What became of the signed record of its addresses.
    pub signed_record: PeerRecordState,
    /// The valid record as it came, an envelope that can be passed on.
    pub envelope: Option<Bytes>,
    /// Whether it named more addresses or protocols than are kept, or some that are none.
    pub incomplete: bool,
}

impl Info {
    /// What is known after the peer has told of a change: identify/README.md, "identify/push", says that missing fields
    /// have stayed as they were.
    pub(crate) fn changed_by(self, change: Info) -> Info {
        fn newer<T: Default + PartialEq>(old: T, new: T) -> T {
            if new == T::default() { old } else { new }
        }
        let certified = change.signed_record != PeerRecordState::Absent;
        Info {
            public_key: change.public_key.or(self.public_key),
            protocol_version: newer(self.protocol_version, change.protocol_version),
            agent_version: newer(self.agent_version, change.agent_version),
            listen_addrs: newer(self.listen_addrs, change.listen_addrs),
            observed_addr: change.observed_addr.or(self.observed_addr),
            protocols: newer(self.protocols, change.protocols),
            signed_record: if certified { change.signed_record } else { self.signed_record },
            envelope: if certified { change.envelope } else { self.envelope },
            incomplete: self.incomplete || change.incomplete,
        }
    }

    /// The peer's own record, if it sent one that holds.
    pub(crate) fn certified(&self) -> Option<book::Certified> {
        match (&self.signed_record, &self.envelope) {
            (PeerRecordState::Valid(record), Some(envelope)) => {
                Some(book::Certified { record: record.clone(), envelope: envelope.clone() })
            }
            _ => None,
        }
    }
}

/// Asks peers who they are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    port: Port<engine::Engine>,
}

/// Why a peer is not identified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentifyError {
    /// There is no connection with it.
    #[error("not connected with the peer")]
    NotConnected,
    /// It did not answer in time.
    #[error("the peer did not say who it is within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// It does not speak identify, or the stream broke.
    #[error("{0}")]
    Stream(String),
    /// It sent something else; its fault.
    #[error("the peer's answer is broken: {0}")]
    Decode(#[from] DecodeError),
    /// Too many wait for answers already.
    #[error("too many wait for that peer already")]
    TooMany,
    /// The identify actor, or its node, is not running.
    #[error("identify is not running")]
    Closed,
}

impl Handle {
    /// What the peer says: at once if it said it already on a connection that is still there, else when it does.
    /// A peer is asked once for each connection; where that failed, the answer is how, until it is asked again
    /// ([`RETRIES`]).
    ///
    /// # Errors
    /// [`IdentifyError`], by [`TIMEOUT`] at the latest.
    pub async fn info(&self, peer: PeerId) -> Result<Arc<Info>, IdentifyError> {
        let asked = self.port.ask(|reply| engine::Command::Ask { peer, reply });
        // Its query may wait behind those of others.
        match timeout(TIMEOUT, asked).await {
            Ok(answer) => answer.unwrap_or(Err(IdentifyError::Closed)),
            Err(_) => Err(IdentifyError::Timeout),
        }
    }
}

impl Protocol for Identify {
    type Handle = Handle;

    fn name(&self) -> Cow<'static, str> {
        NAME.into()
    }

    fn register(self, registrar: &mut Registrar<'_>) -> Handle {
        let node = registrar.node();
        let own = effects::Own { node, seals: Arc::default(), proofs: Arc::default() };
        let (told, hears) = (own.clone(), own.clone());
        let port = registrar.core_actor(
            move |birth| {
                (engine::Engine::default(), effects::Performer::new(own.clone(), birth.port.clone()))
            },
            Some(|event| match event {
                ConnectionEvent::Opened { info, .. } => {
                    engine::Command::Opened { id: info.id, peer: info.peer }
                }
                ConnectionEvent::Closed { info, .. } => engine::Command::Closed { id: info.id },
            }),
        );
        let changed = port.clone();
        registrar.on_change(move || changed.post(engine::Command::Changed));
        let streams = |per_peer| {
            let limits = StreamLimits::new(per_peer, StreamLimits::default().inbound_total);
            ServeOptions::default().limits(limits).allow_limited()
        };
        let pushed = (hears, port.clone(), Arc::new(rate::PushRate::default()));
        registrar.serve(PROTOCOL, streams(MAX_INBOUND_STREAMS), move |stream, _| {
            effects::tell(told.clone(), stream)
        });
        registrar.serve(PUSH, streams(MAX_PUSH_STREAMS), move |stream, _| {
            let (own, port, rate) = pushed.clone();
            effects::hear(own, port, rate, stream)
        });
        Handle { port }
    }
}

/// For the fuzz targets: whole and in pieces are the same.
#[cfg(feature = "fuzzing")]
#[allow(clippy::panic, reason = "that is what the fuzzer looks for")]
pub(crate) fn decode(peer: PeerId, bytes: &[u8]) {
    let read = |size: usize| {
        let mut decoder = codec::Decoder::new(peer, Arc::default());
        for piece in bytes.chunks(size) {
            decoder.feed(piece)?;
        }
        decoder.finish()
    };
    assert_eq!(read(bytes.len().max(1)), read(1));
}

/// For the benchmarks.
#[cfg(feature = "fuzzing")]
pub(crate) fn decode_whole(peer: PeerId, bytes: &[u8]) -> bool {
    let mut decoder = codec::Decoder::new(peer, Arc::default());
    decoder.feed(bytes).is_ok() && decoder.finish().is_ok()
}

/// For the fuzz targets and the benchmarks.
#[cfg(feature = "fuzzing")]
pub(crate) fn example(keypair: &peerage_core::Keypair, addresses: &[Multiaddr]) -> Vec<u8> {
    let (seals, now) = (seal::Seals::default(), peerage_core::engine::sim::start());
    codec::encode(codec::Own {
        public_key: keypair.public(),
        agent: "agent/1",
        listen_addrs: addresses,
        observed_addr: &Multiaddr::empty(),
        protocols: &[PROTOCOL],
        envelope: seals.envelope(keypair, addresses, 0, now),
    })
}
