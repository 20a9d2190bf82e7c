//! Signed envelopes: bytes of some type, signed by a peer for one purpose.
//!
//! Spec: [RFC 0002](https://github.com/libp2p/specs/blob/master/RFC/0002-signed-envelopes.md). What an envelope holds
//! can be had only through [`Envelope::open`], which checks the signature first.

use crate::identity::{DecodeError as KeyError, Proofs};
use crate::protobuf::{self, Value};
use crate::{Keypair, PublicKey, varint};

/// The most bytes of an encoded envelope.
pub const MAX_LEN: usize = 8 * 1024;

/// The fields of the message. Four is not used.
const PUBLIC_KEY: u32 = 1;
const PAYLOAD_TYPE: u32 = 2;
const PAYLOAD: u32 = 3;
const SIGNATURE: u32 = 5;

/// A payload with its type, its signer, and a signature that has not been checked yet.
///
/// ```
/// use peerage_core::{Keypair, envelope::Envelope};
///
/// let keypair = Keypair::generate();
/// let bytes = Envelope::seal(&keypair, "my-records", b"/my/1", b"payload".to_vec()).encode();
///
/// let envelope = Envelope::decode(&bytes)?;
/// assert_eq!(envelope.open("my-records", b"/my/1"), Ok(&b"payload"[..]));
/// assert!(envelope.open("other-records", b"/my/1").is_err());
/// assert_eq!(envelope.signer(), keypair.public());
/// # Ok::<(), peerage_core::envelope::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    signer: PublicKey,
    payload_type: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// Why bytes are not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// More than [`MAX_LEN`].
    #[error("envelope of {len} bytes, {MAX_LEN} allowed")]
    TooLong {
        /// Bytes given.
        len: usize,
    },
    /// Not protobuf.
    #[error("envelope is not protobuf: {0}")]
    Malformed(#[from] protobuf::Error),
    /// There is no public key.
    #[error("envelope has no public key")]
    NoKey,
    /// The public key is none, or of a type that is not supported.
    #[error("envelope's public key: {0}")]
    Key(#[from] KeyError),
}

/// Why an envelope is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The payload is of another type than the one asked for.
    #[error("envelope holds another type of payload")]
    OtherType,
    /// The signature is not the signer's over this payload, its type and the domain.
    #[error("envelope's signature is wrong")]
    BadSignature,
}

impl Envelope {
    /// Signs `payload` for the purpose that `domain` names.
    ///
    /// The encoded envelope is some 120 bytes longer than type and payload; one over [`MAX_LEN`] can be made, and
    /// nobody like us takes it.
    pub fn seal(keypair: &Keypair, domain: &str, payload_type: &[u8], payload: Vec<u8>) -> Envelope {
        let signature = keypair.sign(&signed_bytes(domain, payload_type, &payload));
        Envelope { signer: keypair.public().clone(), payload_type: payload_type.to_vec(), payload, signature }
    }

    /// Reads the encoded form, and checks no signature yet.
    ///
    /// A field that is missing is empty, as proto3 has it; one that is not known is skipped.
    ///
    /// # Errors
    ///
    /// When it is too long, malformed, or without a key that is supported.
    pub fn decode(bytes: &[u8]) -> Result<Envelope, DecodeError> {
        if bytes.len() > MAX_LEN {
            return Err(DecodeError::TooLong { len: bytes.len() });
        }
        let mut signer = None;
        let (mut payload_type, mut payload, mut signature) = (&[][..], &[][..], &[][..]);
        for field in protobuf::fields(bytes) {
            let field = field?;
            match (field.number, field.value) {
                (PUBLIC_KEY, Value::Bytes(bytes)) => signer = Some(bytes),
                (PAYLOAD_TYPE, Value::Bytes(bytes)) => payload_type = bytes,
                (PAYLOAD, Value::Bytes(bytes)) => payload = bytes,
                (SIGNATURE, Value::Bytes(bytes)) => signature = bytes,
                _ => {}
            }
        }
        Ok(Envelope {
            signer: PublicKey::from_protobuf3(signer.ok_or(DecodeError::NoKey)?)?,
            payload_type: payload_type.to_vec(),
            payload: payload.to_vec(),
            signature: signature.to_vec(),
        })
    }

    /// Writes the encoded form. The signature of an envelope that came from elsewhere stays valid, so that it can be
    /// handed on.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        protobuf::put_bytes(PUBLIC_KEY, &self.signer.to_protobuf(), &mut out);
        protobuf::put_bytes(PAYLOAD_TYPE, &self.payload_type, &mut out);
        protobuf::put_bytes(PAYLOAD, &self.payload, &mut out);
        protobuf::put_bytes(SIGNATURE, &self.signature, &mut out);
        out
    }

    /// Checks type and signature, and hands out the payload.
    ///
    /// That the signer is who it should be is for the caller to check.
    ///
    /// # Errors
    ///
    /// When the payload is of another type, or not signed by the signer for this domain.
    pub fn open(&self, domain: &str, payload_type: &[u8]) -> Result<&[u8], OpenError> {
        self.open_if(domain, payload_type, |signed| self.signer.verify(signed, &self.signature))
    }

    /// The same for a signature that may have been looked at before.
    ///
    /// # Errors
    ///
    /// As [`Envelope::open`].
    pub fn open_again(&self, domain: &str, payload_type: &[u8], proofs: &Proofs) -> Result<&[u8], OpenError> {
        self.open_if(domain, payload_type, |signed| proofs.verify(&self.signer, signed, &self.signature))
    }

    fn open_if(
        &self,
        domain: &str,
        payload_type: &[u8],
        verify: impl FnOnce(&[u8]) -> bool,
    ) -> Result<&[u8], OpenError> {
        if self.payload_type != payload_type {
            return Err(OpenError::OtherType);
        }
        if !verify(&signed_bytes(domain, payload_type, &self.payload)) {
            return Err(OpenError::BadSignature);
        }
        Ok(&self.payload)
    }

    /// Who signed it, or claims to have.
    pub fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// What the payload claims to be.
    pub fn payload_type(&self) -> &[u8] {
        &self.payload_type
    }
}

/// RFC 0002, "Signature Production / Verification": each part with its length before it.
fn signed_bytes(domain: &str, payload_type: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [domain.as_bytes(), payload_type, payload] {
        varint::encode(part.len() as u64, &mut out);
        out.extend_from_slice(part);
    }
    out
}
