//! The handshake without I/O: each state is consumed by the message it waits for.

use std::{fmt, sync::Arc};

use peerage_core::{Keypair, PeerId, ProtocolId, identity::Proofs};
use snow::{Builder, HandshakeState, params::NoiseParams};
use zeroize::Zeroizing;

use super::{
    Error, KEY, MAX_HANDSHAKE_MESSAGE, NoiseStream, TAG,
    buffer::Buffer,
    error::internal,
    payload::{self, Payload},
    record::Direction,
    resolver::{Loaded, Resolver},
};
use crate::{Authenticated, Role};

/// Noise spec, "Noise Protocol Name".
pub(super) const NAME: &str = "Noise_XX_25519_ChaChaPoly_SHA256";

/// What this node brings into handshakes. Cheap to clone: one for the node, and for each dial a clone that
/// [expects](Config::expecting) somebody.
#[derive(Clone)]
pub struct Config {
    own: Arc<Own>,
    expected: Option<PeerId>,
    muxers: Vec<ProtocolId>,
    prologue: Vec<u8>,
}

/// The static key, and the identity's signature on it. It lives as long as the configuration and is never stored
/// (noise spec, "Static Key Authentication"); the keys of a connection also depend on ones made for it alone.
///
/// The key is wiped with the last clone of the configuration, and so is whatever the resolver makes of it, of ephemeral
/// keys and of the keys of a connection. snow 0.10 wipes nothing of its own: chaining keys, and copies of derived keys on
/// the stack, stay until their memory is used again.
struct Own {
    secret: Zeroizing<Vec<u8>>,
    key: Arc<Loaded>,
    identity: Vec<u8>,
    signature: Vec<u8>,
    /// Of peers that have been here.
    proofs: Proofs,
}

impl Config {
    /// Makes a static key and signs it.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(keypair: &Keypair) -> Result<Self, Error> {
        let snow::Keypair { private, public } =
            builder(Resolver::default())?.generate_keypair().map_err(internal)?;
        // Moved, so that no copy of ours stays unwiped.
        let secret = Zeroizing::new(private);
        let key =
            Loaded::of(&secret).ok_or_else(|| Error::Internal("X25519 refused its own key".to_owned()))?;
        let own = Own {
            secret,
            key: Arc::new(key),
            identity: keypair.public().to_protobuf(),
            signature: keypair.sign(&payload::signed(&public)),
            proofs: Proofs::default(),
        };
        Ok(Self { own: Arc::new(own), expected: None, muxers: Vec::new(), prologue: Vec::new() })
    }

    /// Fails the handshake with [`Error::WrongPeer`] if anybody else is there.
    #[must_use]
    pub fn expecting(mut self, peer: PeerId) -> Self {
        self.expected = Some(peer);
        self
    }

    /// Offers these muxers, the one that is liked best first, to be agreed on during the handshake. None by default,
    /// which leaves it to multistream-select.
    #[must_use]
    pub fn offering(mut self, muxers: impl IntoIterator<Item = ProtocolId>) -> Self {
        self.muxers = muxers.into_iter().collect();
        self
    }

    /// Binds the handshake to what both sides must know alike. Empty by default; webrtc-direct puts its certificate
    /// fingerprints here.
    #[must_use]
    pub fn prologue(mut self, prologue: impl Into<Vec<u8>>) -> Self {
        self.prologue = prologue.into();
        self
    }

    fn begin(&self, role: Role) -> Result<HandshakeState, Error> {
        let builder = builder(Resolver::having(&self.own.key))?
            .local_private_key(&self.own.secret)
            .and_then(|builder| builder.prologue(&self.prologue))
            .map_err(internal)?;
        match role {
            Role::Initiator => builder.build_initiator(),
            Role::Responder => builder.build_responder(),
        }
        .map_err(internal)
    }

    fn payload(&self) -> Vec<u8> {
        payload::encode(&self.own.identity, &self.own.signature, &self.muxers)
    }

    /// What was offered, as the peer sees it: an empty list is not sent.
    fn offered(&self) -> Option<&[ProtocolId]> {
        (!self.muxers.is_empty()).then_some(self.muxers.as_slice())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("expected", &self.expected)
            .field("muxers", &self.muxers)
            .finish_non_exhaustive()
    }
}

fn builder(resolver: Resolver) -> Result<Builder<'static>, Error> {
    let params: NoiseParams = NAME.parse().map_err(internal)?;
    Ok(Builder::with_resolver(params, Box::new(resolver)))
}

/// What both sides come out with: who is there, and the keys for what follows.
pub struct Session {
    /// Who is there.
    pub authenticated: Authenticated,
    pub(super) keys: Keys,
}

/// The keys of both directions.
pub(super) struct Keys {
    /// For what this side sends.
    pub(super) ours: Direction,
    /// For what the other one does.
    pub(super) theirs: Direction,
}

impl Session {
    /// The encrypted stream over `io`, which has come to the end of the handshake and not a byte further.
    pub fn stream<S>(self, io: S) -> NoiseStream<S> {
        NoiseStream::new(io, Buffer::default(), self.keys)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("authenticated", &self.authenticated).finish_non_exhaustive()
    }
}

/// The side that speaks first.
#[derive(Debug)]
pub struct Initiator;

/// The side that answers.
#[derive(Debug)]
pub struct Responder;

/// An initiator that has said hello.
pub struct AwaitResponse(State);

/// A responder that has heard nothing yet.
pub struct AwaitHello(State);

/// A responder that has answered.
pub struct AwaitFinal(State);

impl Initiator {
    /// Gives the first message. Messages are without the two bytes of length that precede them on a stream.
    ///
    /// # Errors
    /// [`Error::Internal`] when the operating system has no randomness to give.
    pub fn start(config: &Config) -> Result<(AwaitResponse, Vec<u8>), Error> {
        let mut state = State::new(config, Role::Initiator)?;
        // The first message guarantees no secrecy and carries nothing (noise spec).
        let hello = state.write(&[])?;
        Ok((AwaitResponse(state), hello))
    }
}

impl AwaitResponse {
    /// Reads the second message, and gives the third.
    ///
    /// # Errors
    /// [`Error`]: nothing was authenticated, and the peer is owed no answer.
    pub fn read(self, message: &[u8]) -> Result<(Session, Vec<u8>), Error> {
        let Self(mut state) = self;
        let authenticated = state.read_identity(message)?;
        let last = state.write(&state.config.payload())?;
        Ok((state.finish(authenticated)?, last))
    }
}

impl Responder {
    /// Waits for the first message.
    ///
    /// # Errors
    /// [`Error::Internal`] if the key in the configuration does not do.
    pub fn start(config: &Config) -> Result<AwaitHello, Error> {
        Ok(AwaitHello(State::new(config, Role::Responder)?))
    }
}

impl AwaitHello {
    /// Reads the first message, and gives the second.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not one public key and nothing more.
    pub fn read(self, message: &[u8]) -> Result<(AwaitFinal, Vec<u8>), Error> {
        let Self(mut state) = self;
        if message.len() != KEY {
            return Err(Error::Malformed("the first message is not one key"));
        }
        state.read(message)?;
        let response = state.write(&state.config.payload())?;
        Ok((AwaitFinal(state), response))
    }
}

impl AwaitFinal {
    /// Reads the third message, with which the initiator has proved who it is.
    ///
    /// # Errors
    /// [`Error`]: nothing was authenticated.
    pub fn read(self, message: &[u8]) -> Result<Session, Error> {
        let Self(mut state) = self;
        let authenticated = state.read_identity(message)?;
        state.finish(authenticated)
    }
}

/// What all states have in common.
struct State {
    noise: HandshakeState,
    config: Config,
    role: Role,
}

impl State {
    fn new(config: &Config, role: Role) -> Result<Self, Error> {
        Ok(Self { noise: config.begin(role)?, config: config.clone(), role })
    }

    fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, Error> {
        // Two keys and two tags at the most.
        let mut message = vec![0; payload.len().saturating_add(2 * (KEY + TAG))];
        let len = self.noise.write_message(payload, &mut message).map_err(|error| match error {
            // What was read is first used now.
            snow::Error::Dh => Error::Malformed("not a public key"),
            error => internal(error),
        })?;
        message.truncate(len);
        Ok(message)
    }

    fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, Error> {
        if message.len() > MAX_HANDSHAKE_MESSAGE {
            return Err(Error::MessageTooLong { len: message.len(), max: MAX_HANDSHAKE_MESSAGE });
        }
        let mut payload = vec![0; message.len()];
        let len = self.noise.read_message(message, &mut payload).map_err(|error| match error {
            snow::Error::Decrypt => Error::Decrypt,
            snow::Error::Input => Error::Malformed("too short"),
            snow::Error::Dh => Error::Malformed("not a public key"),
            error => internal(error),
        })?;
        payload.truncate(len);
        Ok(payload)
    }

    /// Reads a message with the peer's identity in it. Early data is looked at only after the signature held, and
    /// is handed on only with the session (noise spec, "libp2p Data in Handshake Messages").
    fn read_identity(&mut self, message: &[u8]) -> Result<Authenticated, Error> {
        let payload = self.read(message)?;
        let static_key = self.noise.get_remote_static().ok_or(Error::Missing("static key"))?;
        let Payload { public_key, muxers } = payload::decode(&payload, static_key, &self.config.own.proofs)?;
        let found = public_key.peer_id();
        if let Some(expected) = self.config.expected.filter(|expected| *expected != found) {
            return Err(Error::WrongPeer { expected, found });
        }
        let (ours, theirs) = (self.config.offered(), muxers.as_deref());
        let muxer = match self.role {
            Role::Initiator => payload::choose(ours, theirs)?,
            Role::Responder => payload::choose(theirs, ours)?,
        };
        Ok(Authenticated { peer: found, public_key, muxer })
    }

    fn finish(self, authenticated: Authenticated) -> Result<Session, Error> {
        Ok(Session { authenticated, keys: split(self.noise, self.role)? })
    }
}

/// Takes the keys out of a handshake that is done (Noise, section 5.2, "Split"): the initiator's comes first.
pub(super) fn split(mut noise: HandshakeState, role: Role) -> Result<Keys, Error> {
    if !noise.is_handshake_finished() {
        return Err(Error::Internal("the handshake is not done".to_owned()));
    }
    let keys = Zeroizing::new(noise.dangerously_get_raw_split());
    let (initiator, responder) = (Direction::new(&keys.0)?, Direction::new(&keys.1)?);
    Ok(match role {
        Role::Initiator => Keys { ours: initiator, theirs: responder },
        Role::Responder => Keys { ours: responder, theirs: initiator },
    })
}

macro_rules! opaque_debug {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("config", &self.0.config).finish_non_exhaustive()
            }
        }
    )*};
}
// Derived, they would print keys.
opaque_debug!(AwaitResponse AwaitHello AwaitFinal);
