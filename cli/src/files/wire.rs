//! `/peerage/chat/file/1`: one file, on a stream of its own, from whoever opens it.
//!
//! ```text
//! sender                                receiver
//! frame: Offer { name, size, sha256 }
//!                                       frame: Reply, once the user has answered
//! the file, `size` bytes
//! end of the writing half
//!                                       frame: Reply, once it is checked and in its place
//!                                       end of the writing half
//! ```
//!
//! A frame is a protobuf with its length before it, as elsewhere in libp2p. A reply that refuses may come at any time and
//! ends it. Whoever gives up otherwise resets the stream.

use std::io;

use peerage::{ProtocolId, frame};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::name::{MAX_NAME, Name, NameError};
use crate::text::in_units;

/// The protocol's name.
pub const PROTOCOL: ProtocolId = ProtocolId::from_static("/peerage/chat/file/1");
/// Bytes of an offer: a name, a size, a hash, and some of a later version. Checked before anything is allocated.
pub const MAX_OFFER: usize = MAX_NAME + 56;
/// Bytes of a reply.
pub const MAX_REPLY: usize = 64;

/// A file that somebody would send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What it is called.
    pub name: Name,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// What the receiver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// First: send it. Then: it is here.
    Yes,
    /// It is not taken.
    No(Refusal),
}

/// Why a receiver does not take a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The user does not want it.
    #[error("it was declined")]
    Declined,
    /// The user did not answer in time.
    #[error("nobody answered in time")]
    Expired,
    /// It is too large.
    #[error("it is larger than the {} that are taken there", in_units(*max))]
    TooLarge {
        /// Bytes that are taken.
        max: u64,
    },
    /// There are too many offers already.
    #[error("too many files are offered there already")]
    TooMany,
    /// The sender is not in the chat, as far as the receiver knows.
    #[error("the receiver does not see you in this chat")]
    NotHere,
    /// The offer is none, or its name is not taken.
    #[error("the offer is not valid there")]
    BadOffer,
    /// The user stopped it.
    #[error("it was cancelled there")]
    Cancelled,
    /// What arrived has another hash.
    #[error("what arrived is not what was offered: its SHA-256 is another one")]
    WrongHash,
    /// More came than was offered.
    #[error("more arrived than was offered")]
    TooLong,
    /// Less came than was offered.
    #[error("less arrived than was offered")]
    TooShort,
    /// Nothing came for too long.
    #[error("nothing arrived there for too long")]
    Stalled,
    /// The receiver cannot write it.
    #[error("it could not be written there")]
    Disk,
    /// A reason of a later version.
    #[error("for a reason that this version does not know ({0})")]
    Other(u32),
}

/// Why a frame could not be read. Except for the first, the peer's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream broke.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    /// The stream ended before or inside a frame.
    #[error("the stream ended too early")]
    Ended,
    /// A frame is too long, or its length no length.
    #[error(transparent)]
    Frame(#[from] frame::Error),
    /// Not a protobuf, or not of this shape.
    #[error("not an offer or a reply: {0}")]
    Shape(String),
    /// The file's name is not taken.
    #[error("{0}")]
    Name(#[from] NameError),
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfferMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    size: u64,
    #[prost(bytes = "vec", tag = "3")]
    sha256: Vec<u8>,
}

/// `refusal` is 0 for yes; `limit` goes with [`Refusal::TooLarge`].
#[derive(Clone, PartialEq, prost::Message)]
struct ReplyMessage {
    #[prost(uint32, tag = "1")]
    refusal: u32,
    #[prost(uint64, tag = "2")]
    limit: u64,
}

impl Offer {
    /// Without a frame: at most [`MAX_OFFER`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let Self { name, size, sha256 } = self;
        OfferMessage { name: name.to_string(), size: *size, sha256: sha256.to_vec() }.encode_to_vec()
    }

    /// # Errors
    /// [`Error`], if it is too long, no protobuf, or has a name or a hash that is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let OfferMessage { name, size, sha256 } = decode(bytes, MAX_OFFER)?;
        let sha256 =
            sha256.try_into().map_err(|_| Error::Shape("a hash that is not of 32 bytes".to_owned()))?;
        Ok(Self { name: Name::new(&name)?, size, sha256 })
    }
}

impl Reply {
    /// Without a frame: at most [`MAX_REPLY`] bytes.
    pub fn encode(self) -> Vec<u8> {
        let (refusal, limit) = match self {
            Self::Yes => (0, 0),
            Self::No(refusal) => refusal.code(),
        };
        ReplyMessage { refusal, limit }.encode_to_vec()
    }

    /// # Errors
    /// [`Error`], if it is too long or no protobuf.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let ReplyMessage { refusal, limit } = decode(bytes, MAX_REPLY)?;
        Ok(if refusal == 0 { Self::Yes } else { Self::No(Refusal::of(refusal, limit)) })
    }
}

fn decode<M: prost::Message + Default>(bytes: &[u8], max: usize) -> Result<M, Error> {
    if bytes.len() > max {
        return Err(frame::Error::TooLong { len: bytes.len() as u64, max }.into());
    }
    M::decode(bytes).map_err(|error| Error::Shape(error.to_string()))
}

impl Refusal {
    fn code(self) -> (u32, u64) {
        let code = match self {
            Self::Declined => 1,
            Self::Expired => 2,
            Self::TooLarge { max } => return (3, max),
            Self::TooMany => 4,
            Self::NotHere => 5,
            Self::BadOffer => 6,
            Self::Cancelled => 7,
            Self::WrongHash => 8,
            Self::TooLong => 9,
            Self::TooShort => 10,
            Self::Stalled => 11,
            Self::Disk => 12,
            Self::Other(code) => code,
        };
        (code, 0)
    }

    fn of(code: u32, limit: u64) -> Self {
        match code {
            1 => Self::Declined,
            2 => Self::Expired,
            3 => Self::TooLarge { max: limit },
            4 => Self::TooMany,
            5 => Self::NotHere,
            6 => Self::BadOffer,
            7 => Self::Cancelled,
            8 => Self::WrongHash,
            9 => Self::TooLong,
            10 => Self::TooShort,
            11 => Self::Stalled,
            12 => Self::Disk,
            other => Self::Other(other),
        }
    }
}

/// Writes a frame.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let mut framed = Vec::new();
    frame::encode(message, &mut framed);
    to.write_all(&framed).await?;
    to.flush().await
}

pub(super) async fn read_offer(from: &mut (impl AsyncRead + Unpin)) -> Result<Offer, Error> {
    Offer::decode(&read(from, MAX_OFFER).await?)
}

pub(super) async fn read_reply(from: &mut (impl AsyncRead + Unpin)) -> Result<Reply, Error> {
    Reply::decode(&read(from, MAX_REPLY).await?)
}

/// A byte at a time, which are few, so that nothing behind the frame is taken.
async fn read(from: &mut (impl AsyncRead + Unpin), max: usize) -> Result<Vec<u8>, Error> {
    let mut decoder = frame::Decoder::new(max);
    loop {
        let mut byte = [0];
        if from.read(&mut byte).await? == 0 {
            return Err(Error::Ended);
        }
        if let Some(frame) = decoder.decode(&mut &byte[..])? {
            return Ok(frame.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer(name: &str) -> Offer {
        Offer { name: Name::new(name).unwrap(), size: 3, sha256: [7; 32] }
    }

    #[test]
    fn an_offer_on_the_wire() {
        let bytes = offer("a.b").encode();
        assert_eq!(bytes, [&b"\x0a\x03a.b\x10\x03\x1a\x20"[..], &[7; 32]].concat());
        assert_eq!(Offer::decode(&bytes).unwrap(), offer("a.b"));
    }

    #[test]
    fn replies_round_trip() {
        assert!(Reply::Yes.encode().is_empty());
        for code in 1..20 {
            let refusal = Refusal::of(code, 1 << 40);
            assert_eq!(refusal.code().0, code);
            assert_eq!(Reply::decode(&Reply::No(refusal).encode()).unwrap(), Reply::No(refusal));
        }
        let longest = Reply::No(Refusal::TooLarge { max: u64::MAX }).encode();
        assert!(longest.len() <= MAX_REPLY);
        // Fields of a later version fill it up.
        let filled = |len: usize| [&[0x1a, u8::try_from(len - 2).unwrap()][..], &vec![0; len - 2]].concat();
        assert_eq!(Reply::decode(&filled(MAX_REPLY)).unwrap(), Reply::Yes);
        assert!(matches!(Reply::decode(&filled(MAX_REPLY + 1)), Err(Error::Frame(_))));
    }

    #[test]
    fn offers_that_are_none() {
        let message = |name: &str, hash: usize| {
            OfferMessage { name: name.to_owned(), size: 1, sha256: vec![0; hash] }.encode_to_vec()
        };
        assert!(matches!(Offer::decode(b""), Err(Error::Shape(_))));
        assert!(matches!(Offer::decode(b"\xff"), Err(Error::Shape(_))));
        assert!(matches!(Offer::decode(b"\x0a\x01\xff"), Err(Error::Shape(_))), "a name that is not UTF-8");
        assert!(matches!(Offer::decode(&message("x", 31)), Err(Error::Shape(_))));
        assert!(matches!(Offer::decode(&message("x", 33)), Err(Error::Shape(_))));
        assert!(matches!(Offer::decode(&message("../x", 32)), Err(Error::Name(_))));
        let long = message(&"x".repeat(MAX_NAME + 1), 32);
        assert!(matches!(Offer::decode(&long), Err(Error::Name(NameError::Length(201)))));
    }

    #[test]
    fn the_largest_offer_fits_and_one_byte_more_is_not_looked_at() {
        let mut largest =
            Offer { name: Name::new(&"x".repeat(MAX_NAME)).unwrap(), size: u64::MAX, sha256: [255; 32] }
                .encode();
        assert!(largest.len() <= MAX_OFFER);
        // A field of a later version fills it up.
        let room = MAX_OFFER - largest.len() - 2;
        largest.extend([0x22, u8::try_from(room).unwrap()]);
        largest.extend(vec![0; room]);
        assert!(Offer::decode(&largest).is_ok());
        largest.push(0);
        assert!(matches!(Offer::decode(&largest), Err(Error::Frame(frame::Error::TooLong { .. }))));
    }

    #[tokio::test]
    async fn frames_are_read_to_their_end_and_no_further() {
        let mut stream = Vec::new();
        frame::encode(&offer("x").encode(), &mut stream);
        stream.extend(b"body");
        let mut rest = &stream[..];
        assert_eq!(read_offer(&mut rest).await.unwrap(), offer("x"));
        assert_eq!(rest, b"body");
        assert!(matches!(read_offer(&mut &stream[..9]).await, Err(Error::Ended)));
        // 257 is `81 02`: refused with the length, before any of the frame.
        let long = [0x81, 0x02];
        assert!(matches!(read_offer(&mut &long[..]).await, Err(Error::Frame(frame::Error::TooLong { .. }))));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_the_same(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(offer) = Offer::decode(&bytes) {
                prop_assert_eq!(Offer::decode(&offer.encode()).unwrap(), offer);
            }
            if let Ok(reply) = Reply::decode(&bytes) {
                prop_assert_eq!(Reply::decode(&reply.encode()).unwrap(), reply);
            }
        }

        #[test]
        fn offers_round_trip(name in "[a-zäß你]{1,50}", size: u64, sha256: [u8; 32]) {
            let offer = Offer { name: Name::tame(&name), size, sha256 };
            prop_assert_eq!(Offer::decode(&offer.encode()).unwrap(), offer);
        }
    }
}
