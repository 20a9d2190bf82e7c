//! Peer records: the addresses of a peer, signed by itself.
//!
//! Spec: [RFC 0003](https://github.com/libp2p/specs/blob/master/RFC/0003-routing-records.md), but for domain and
//! payload type: every implementation in use has [`DOMAIN`] and [`PAYLOAD_TYPE`] instead of those in the text. Older
//! versions of rust-libp2p followed the text, and are understood.

use crate::envelope::{Envelope, OpenError};
use crate::identity::Proofs;
use crate::protobuf::{self, Value};
use crate::{Keypair, Multiaddr, PeerId, identity};

/// The most addresses of one record.
pub const MAX_ADDRESSES: usize = 64;

/// For which purpose records are signed.
pub const DOMAIN: &str = "libp2p-peer-record";

/// The multicodec of peer records, `libp2p-peer-record`: 0x0301.
pub const PAYLOAD_TYPE: &[u8] = &[0x03, 0x01];

/// What the text of RFC 0003 has in their place.
const LEGACY_DOMAIN: &str = "libp2p-routing-state";
const LEGACY_PAYLOAD_TYPE: &[u8] = b"/libp2p/routing-state-record";

const PEER_ID: u32 = 1;
const SEQ: u32 = 2;
const ADDRESSES: u32 = 3;
/// Inside an address.
const MULTIADDR: u32 = 1;

/// The addresses that a peer says it has.
///
/// One that came from another peer is only ever made of an envelope whose signature, signer and peer id agree.
///
/// ```
/// use peerage_core::{Keypair, envelope::Envelope, peer_record::PeerRecord};
///
/// let keypair = Keypair::generate();
/// let addresses = vec!["/ip4/192.0.2.1/tcp/4001".parse()?];
/// let record = PeerRecord::new(keypair.peer_id(), 1_700_000_000, addresses)?;
/// let bytes = record.seal(&keypair)?.encode();
///
/// assert_eq!(PeerRecord::open(&Envelope::decode(&bytes)?)?, record);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    peer_id: PeerId,
    seq: u64,
    addresses: Vec<Multiaddr>,
    skipped: usize,
}

/// Why a record is not made or not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The envelope holds something else, or its signature is wrong.
    #[error(transparent)]
    Envelope(#[from] OpenError),
    /// The payload is not protobuf.
    #[error("peer record is not protobuf: {0}")]
    Malformed(#[from] protobuf::Error),
    /// The payload's peer id is none.
    #[error("peer record: {0}")]
    PeerId(#[from] identity::ParseError),
    /// The record is about another peer than its signer.
    #[error("peer record of {subject}, signed by {signer}")]
    NotTheSigner {
        /// Whom it is about.
        subject: PeerId,
        /// Who signed it.
        signer: PeerId,
    },
    /// More than [`MAX_ADDRESSES`].
    #[error("peer record with more than {MAX_ADDRESSES} addresses")]
    TooManyAddresses,
}

impl PeerRecord {
    /// Makes a record for [`seal`](PeerRecord::seal).
    ///
    /// `seq` has to grow from record to record of a peer, over restarts too: by custom it is the time, in seconds or
    /// nanoseconds since 1970.
    ///
    /// # Errors
    ///
    /// With more than [`MAX_ADDRESSES`].
    pub fn new(peer_id: PeerId, seq: u64, addresses: Vec<Multiaddr>) -> Result<PeerRecord, Error> {
        if addresses.len() > MAX_ADDRESSES {
            return Err(Error::TooManyAddresses);
        }
        Ok(PeerRecord { peer_id, seq, addresses, skipped: 0 })
    }

    /// Signs the record.
    ///
    /// Many long addresses can make an envelope that is over [`envelope::MAX_LEN`](crate::envelope::MAX_LEN).
    ///
    /// # Errors
    ///
    /// When `keypair` is not that of the peer the record is about.
    pub fn seal(&self, keypair: &Keypair) -> Result<Envelope, Error> {
        if keypair.peer_id() != self.peer_id {
            return Err(Error::NotTheSigner { subject: self.peer_id, signer: keypair.peer_id() });
        }
        Ok(Envelope::seal(keypair, DOMAIN, PAYLOAD_TYPE, self.encode()))
    }

    /// Checks the envelope's signature, and that the record in it is about its signer.
    ///
    /// An address that cannot be read, of a newer protocol perhaps, costs the record nothing: it is skipped and
    /// counted in [`skipped`](PeerRecord::skipped).
    ///
    /// # Errors
    ///
    /// When the signature is wrong, the payload is no peer record or one about somebody else, or when it has more than
    /// [`MAX_ADDRESSES`], the skipped ones included.
    pub fn open(envelope: &Envelope) -> Result<PeerRecord, Error> {
        Self::open_if(envelope, |domain, payload_type| envelope.open(domain, payload_type))
    }

    /// The same for a record that may have been looked at before, as peers show theirs at each connection.
    ///
    /// # Errors
    ///
    /// As [`PeerRecord::open`].
    pub fn open_again(envelope: &Envelope, proofs: &Proofs) -> Result<PeerRecord, Error> {
        Self::open_if(envelope, |domain, payload_type| envelope.open_again(domain, payload_type, proofs))
    }

    fn open_if<'a>(
        envelope: &'a Envelope,
        open: impl FnOnce(&str, &[u8]) -> Result<&'a [u8], OpenError>,
    ) -> Result<PeerRecord, Error> {
        let payload = match envelope.payload_type() {
            LEGACY_PAYLOAD_TYPE => open(LEGACY_DOMAIN, LEGACY_PAYLOAD_TYPE)?,
            _ => open(DOMAIN, PAYLOAD_TYPE)?,
        };
        let record = PeerRecord::decode(payload)?;
        let signer = envelope.signer().peer_id();
        if record.peer_id != signer {
            return Err(Error::NotTheSigner { subject: record.peer_id, signer });
        }
        Ok(record)
    }

    /// Whose addresses they are.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Which of a peer's records is newer: the one with the larger number, which says nothing else.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The addresses, in the peer's order; at most [`MAX_ADDRESSES`].
    pub fn addresses(&self) -> &[Multiaddr] {
        &self.addresses
    }

    /// How many addresses could not be read.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        protobuf::put_bytes(PEER_ID, self.peer_id.as_bytes(), &mut out);
        protobuf::put_varint(SEQ, self.seq, &mut out);
        for address in &self.addresses {
            let mut info = Vec::new();
            protobuf::put_bytes(MULTIADDR, address.as_bytes(), &mut info);
            protobuf::put_bytes(ADDRESSES, &info, &mut out);
        }
        out
    }

    fn decode(payload: &[u8]) -> Result<PeerRecord, Error> {
        let mut peer_id = &[][..];
        let mut seq = 0;
        let mut addresses = Vec::new();
        let mut skipped = 0_usize;
        for field in protobuf::fields(payload) {
            let field = field?;
            match (field.number, field.value) {
                (PEER_ID, Value::Bytes(bytes)) => peer_id = bytes,
                (SEQ, Value::Varint(number)) => seq = number,
                (ADDRESSES, Value::Bytes(info)) => {
                    if addresses.len().saturating_add(skipped) == MAX_ADDRESSES {
                        return Err(Error::TooManyAddresses);
                    }
                    match decode_address(info)? {
                        Some(address) => addresses.push(address),
                        None => skipped = skipped.saturating_add(1),
                    }
                }
                _ => {}
            }
        }
        Ok(PeerRecord { peer_id: PeerId::from_bytes(peer_id)?, seq, addresses, skipped })
    }
}

fn decode_address(info: &[u8]) -> Result<Option<Multiaddr>, protobuf::Error> {
    let mut address = None;
    for field in protobuf::fields(info) {
        let field = field?;
        if let (MULTIADDR, Value::Bytes(bytes)) = (field.number, field.value) {
            address = Some(bytes);
        }
    }
    Ok(address.and_then(|bytes| Multiaddr::from_bytes(bytes).ok()))
}
