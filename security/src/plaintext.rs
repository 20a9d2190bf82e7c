//! `/plaintext/2.0.0`: both sides say who they are, and nobody proves anything
//! ([spec](https://github.com/libp2p/specs/blob/master/plaintext/README.md)).
//!
//! Nothing is encrypted and nothing authenticated: whoever is on the way reads and changes everything, and anybody can
//! pass for any peer. It is for tests and for looking at what protocols send, on links that somebody else protects.

use std::{io, sync::Arc};

use peerage_core::{
    Keypair, PeerId, ProtocolId, PublicKey, frame,
    identity::{DecodeError, ParseError},
    protobuf::{self, Value},
    varint,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{Authenticated, Fault, Role};

/// The protocol id in multistream-select.
pub const PROTOCOL: ProtocolId = ProtocolId::from_static("/plaintext/2.0.0");

/// The longest `Exchange` message that is read, in bytes. An RSA key of 8192 bits with its id takes some 1110.
pub const MAX_MESSAGE: usize = 4 * 1024;

/// What this node says of itself. Cheap to clone: one for the node, and for each dial a clone that
/// [expects](Config::expecting) somebody.
#[derive(Clone, Debug)]
pub struct Config {
    own: Arc<[u8]>,
    expected: Option<PeerId>,
}

impl Config {
    /// For the peer that has this key.
    pub fn new(keypair: &Keypair) -> Self {
        let mut message = Vec::new();
        protobuf::put_bytes(1, keypair.peer_id().as_bytes(), &mut message);
        protobuf::put_bytes(2, &keypair.public().to_protobuf(), &mut message);
        let mut own = Vec::new();
        frame::encode(&message, &mut own);
        Self { own: own.into(), expected: None }
    }

    /// Fails with [`Error::WrongPeer`] if somebody else claims to be there.
    #[must_use]
    pub fn expecting(mut self, peer: PeerId) -> Self {
        self.expected = Some(peer);
        self
    }
}

/// Why the two sides did not come to know each other.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The length of the peer's message is not a varint.
    #[error("message length: {0}")]
    Length(#[from] varint::Error),
    /// The peer's message is longer than is read for one.
    #[error("a message of {len} bytes, {max} allowed")]
    MessageTooLong {
        /// Its length.
        len: u64,
        /// The limit.
        max: usize,
    },
    /// The peer's message is not protobuf.
    #[error("malformed message: {0}")]
    Malformed(#[from] protobuf::Error),
    /// The peer's message lacks a field it must have.
    #[error("the message has no {0}")]
    Missing(&'static str),
    /// The peer's id is none.
    #[error("the peer's id: {0}")]
    Id(#[from] ParseError),
    /// The peer's key is malformed, or of a kind that this build does not know.
    #[error("the peer's identity key: {0}")]
    Key(#[from] DecodeError),
    /// The peer's key has another id than the one that it gave.
    #[error("the peer calls itself {id}, and its key belongs to {of_key}")]
    Mismatch {
        /// The id in the message.
        id: PeerId,
        /// The id of the key in the message.
        of_key: PeerId,
    },
    /// Somebody else is at the address, by its own word.
    #[error("expected peer {expected}, found {found}")]
    WrongPeer {
        /// Who was dialed.
        expected: PeerId,
        /// Who answered.
        found: PeerId,
    },
    /// The peer hung up before it said who it is.
    #[error("the connection ended during the exchange")]
    Closed,
    /// The socket failed.
    #[error("the connection broke: {0}")]
    Io(Arc<io::Error>),
}

impl Error {
    /// Who was at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Key(DecodeError::Curve(_)) => Fault::Local,
            Self::Closed | Self::Io(_) => Fault::Network,
            _ => Fault::Remote,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

/// Exchanges ids and keys over `io` and gives it back: what follows is sent as it is. Both sides do the same, so the
/// role does not matter.
///
/// Not a byte is read beyond the peer's message. The future may be dropped at any time, which drops `io`.
///
/// # Errors
/// [`Error`] says what was wrong and, by [`Error::fault`], on which side.
pub async fn upgrade<S>(mut io: S, _: Role, config: &Config) -> Result<(S, Authenticated), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    io.write_all(&config.own).await?;
    io.flush().await?;
    let (peer, public_key) = decode(&receive(&mut io).await?)?;
    match config.expected {
        Some(expected) if expected != peer => Err(Error::WrongPeer { expected, found: peer }),
        _ => Ok((io, Authenticated { peer, public_key, muxer: None })),
    }
}

async fn receive<S: AsyncRead + Unpin>(io: &mut S) -> Result<Vec<u8>, Error> {
    let mut prefix = Vec::new();
    let len = loop {
        prefix.push(io.read_u8().await?);
        if let Some((len, _)) = varint::decode(&prefix)? {
            break len;
        }
    };
    let too_long = Error::MessageTooLong { len, max: MAX_MESSAGE };
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_MESSAGE).ok_or(too_long)?;
    let mut message = vec![0; len];
    io.read_exact(&mut message).await?;
    Ok(message)
}

/// Reads `Exchange`, and checks that its two fields belong together.
fn decode(message: &[u8]) -> Result<(PeerId, PublicKey), Error> {
    let (mut id, mut key) = (None, None);
    for field in protobuf::fields(message) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Bytes(bytes)) => id = Some(bytes),
            (2, Value::Bytes(bytes)) => key = Some(bytes),
            _ => {}
        }
    }
    let id = PeerId::from_bytes(id.ok_or(Error::Missing("id"))?)?;
    let key = PublicKey::from_protobuf(key.ok_or(Error::Missing("key"))?)?;
    let of_key = key.peer_id();
    if id != of_key {
        return Err(Error::Mismatch { id, of_key });
    }
    Ok((id, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> Keypair {
        Keypair::from_ed25519_seed([seed; 32])
    }

    /// What our side makes of a peer that says this, and then nothing more.
    async fn saying(said: &[u8], config: &Config) -> Result<Authenticated, Error> {
        let (ours, mut theirs) = tokio::io::duplex(16 * 1024);
        theirs.write_all(said).await.unwrap();
        theirs.shutdown().await.unwrap();
        Ok(upgrade(ours, Role::Responder, config).await?.1)
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::encode(message, &mut out);
        out
    }

    fn exchange(id: &[u8], key: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        protobuf::put_bytes(1, id, &mut out);
        protobuf::put_bytes(2, key, &mut out);
        out
    }

    fn honest() -> Vec<u8> {
        exchange(key(2).peer_id().as_bytes(), &key(2).public().to_protobuf())
    }

    #[tokio::test]
    async fn each_learns_who_the_other_claims_to_be() {
        let (a, b) = tokio::io::duplex(1024);
        let one = Config::new(&key(1)).expecting(key(2).peer_id());
        let two = Config::new(&key(2));
        let (one, two) = tokio::join!(upgrade(a, Role::Initiator, &one), upgrade(b, Role::Responder, &two));
        let ((mut a, one), (mut b, two)) = (one.unwrap(), two.unwrap());
        assert_eq!((one.peer, two.peer), (key(2).peer_id(), key(1).peer_id()));
        assert_eq!((&one.public_key, one.muxer), (key(2).public(), None));
        a.write_all(b"as it is").await.unwrap();
        let mut read = [0; 8];
        b.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"as it is");
    }

    #[tokio::test]
    async fn another_peer_than_expected() {
        let config = Config::new(&key(1)).expecting(key(3).peer_id());
        let error = saying(&framed(&honest()), &config).await.unwrap_err();
        let Error::WrongPeer { expected, found } = error else { panic!("{error}") };
        assert_eq!((expected, found), (key(3).peer_id(), key(2).peer_id()));
    }

    #[tokio::test]
    async fn id_and_key_must_be_there_and_belong_together() {
        let config = Config::new(&key(1));
        let refused = async |message: &[u8]| saying(&framed(message), &config).await.unwrap_err();
        let public = key(2).public().to_protobuf();
        let error = refused(&exchange(key(3).peer_id().as_bytes(), &public)).await;
        assert!(matches!(error, Error::Mismatch { .. }), "{error}");
        let error = refused(&exchange(b"someone", &public)).await;
        assert!(matches!(error, Error::Id(_)), "{error}");
        let error = refused(&exchange(key(2).peer_id().as_bytes(), b"\xff")).await;
        assert!(matches!(error, Error::Key(_)), "{error}");
        let mut only = Vec::new();
        protobuf::put_bytes(2, &public, &mut only);
        assert!(matches!(refused(&only).await, Error::Missing("id")));
        assert!(matches!(refused(&[]).await, Error::Missing("id")));
        assert_eq!(refused(b"\xff").await.fault(), Fault::Remote);
    }

    #[tokio::test]
    async fn a_message_is_limited_before_it_is_read() {
        let config = Config::new(&key(1));
        let exact = |len: usize| {
            let mut out = honest();
            // A field nobody knows: key of two bytes, length of two.
            protobuf::put_bytes(99, &vec![0; len - out.len() - 4], &mut out);
            assert_eq!(out.len(), len);
            framed(&out)
        };
        assert!(saying(&exact(MAX_MESSAGE), &config).await.is_ok());
        let error = saying(&exact(MAX_MESSAGE + 1), &config).await.unwrap_err();
        assert!(matches!(error, Error::MessageTooLong { len: 4097, max: MAX_MESSAGE }));
        for len in [1 << 31, (1 << 32) - 1, varint::MAX] {
            let mut prefix = Vec::new();
            varint::encode(len, &mut prefix);
            let error = saying(&prefix, &config).await.unwrap_err();
            assert!(matches!(error, Error::MessageTooLong { .. }), "{error}");
        }
        for prefix in [[0xff; 10], [0x80; 10]] {
            assert!(matches!(saying(&prefix, &config).await, Err(Error::Length(_))));
        }
    }

    #[tokio::test]
    async fn a_peer_that_hangs_up_at_any_byte_is_an_error() {
        let said = framed(&honest());
        for k in 0..said.len() {
            let error = saying(&said[..k], &Config::new(&key(1))).await.unwrap_err();
            assert!(matches!(error, Error::Closed), "{k}: {error}");
            assert_eq!(error.fault(), Fault::Network);
        }
        assert!(saying(&said, &Config::new(&key(1))).await.is_ok());
    }

    #[tokio::test]
    async fn what_follows_the_message_is_not_read() {
        let (ours, mut theirs) = tokio::io::duplex(16 * 1024);
        theirs.write_all(&framed(&honest())).await.unwrap();
        theirs.write_all(b"more").await.unwrap();
        let (mut ours, _) = upgrade(ours, Role::Initiator, &Config::new(&key(1))).await.unwrap();
        let mut read = [0; 4];
        ours.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"more");
    }

    proptest! {
        #[test]
        fn no_message_of_a_stranger_panics(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&message);
        }
    }
}
