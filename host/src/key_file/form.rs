use data_encoding::{BASE64, BASE64_NOPAD};
use peerage_core::{Keypair, identity::DecodeError};
use zeroize::Zeroizing;

use super::MAX_LEN;

const SEED: usize = 32;
const SEED_AND_PUBLIC: usize = 64;

/// Why bytes are no key in any form that is known. It quotes nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("it is empty")]
    Empty,
    #[error("it has more than {MAX_LEN} bytes")]
    TooLong,
    /// A file system that loses power may leave zeros where a file was.
    #[error("it is {0} times the same byte, which is no key but what a crash leaves")]
    Blank(usize),
    #[cfg(not(feature = "json"))]
    #[error("it is JSON, which this program was built without (the feature `json`)")]
    Json,
    #[cfg(feature = "json")]
    #[error("the JSON in it has no privKey")]
    NoPrivKey,
    #[error("what it has for a private key is no base64")]
    NotBase64,
    #[error("{0}")]
    Key(#[from] DecodeError),
}

/// Reads a key in each form that is known.
pub(super) fn read(bytes: &[u8]) -> Result<Keypair, Error> {
    let first = *bytes.first().ok_or(Error::Empty)?;
    if bytes.len() > MAX_LEN {
        return Err(Error::TooLong);
    }
    if bytes.len() >= SEED && bytes.iter().all(|byte| *byte == first) {
        return Err(Error::Blank(bytes.len()));
    }
    // No key of 32 random bytes is all text.
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.chars().all(is_text));
    match text.map(str::trim) {
        Some(text) if text.starts_with('{') => base64(&private_key_of(text)?),
        Some(text) => base64(text),
        None => binary(bytes),
    }
}

fn is_text(char: char) -> bool {
    char.is_ascii_graphic() || char.is_ascii_whitespace()
}

fn binary(bytes: &[u8]) -> Result<Keypair, Error> {
    let error = match Keypair::from_protobuf(bytes) {
        Ok(keypair) => return Ok(keypair),
        Err(error) => error,
    };
    match bytes.len() {
        SEED => {
            let mut seed = Zeroizing::new([0; SEED]);
            seed.copy_from_slice(bytes);
            Ok(Keypair::from_ed25519_seed(*seed))
        }
        // Both halves behind the protobuf's head: the check that they belong together is there.
        SEED_AND_PUBLIC => {
            let mut message = Zeroizing::new(Vec::with_capacity(SEED_AND_PUBLIC.saturating_add(HEAD.len())));
            message.extend_from_slice(&HEAD);
            message.extend_from_slice(bytes);
            Ok(Keypair::from_protobuf(&message)?)
        }
        _ => Err(error.into()),
    }
}

/// `Type` 1, Ed25519, and `Data` of 64 bytes: peer-ids, "Keys".
const HEAD: [u8; 4] = [0x08, 0x01, 0x12, 0x40];

fn base64(text: &str) -> Result<Keypair, Error> {
    let decoded = BASE64.decode(text.as_bytes()).or_else(|_| BASE64_NOPAD.decode(text.as_bytes()));
    let bytes = Zeroizing::new(decoded.map_err(|_| Error::NotBase64)?);
    Ok(Keypair::from_protobuf(&bytes)?)
}

/// `{"id", "privKey", "pubKey"}` of js-libp2p, or the part of kubo's configuration that says who it is.
#[cfg(feature = "json")]
fn private_key_of(json: &str) -> Result<Zeroizing<String>, Error> {
    let json: serde_json::Value = serde_json::from_str(json).map_err(|_| Error::NoPrivKey)?;
    let places = [json.get("privKey"), json.get("PrivKey"), json.pointer("/Identity/PrivKey")];
    let found = places.into_iter().flatten().find_map(serde_json::Value::as_str);
    found.map(|text| Zeroizing::new(text.to_owned())).ok_or(Error::NoPrivKey)
}

#[cfg(not(feature = "json"))]
fn private_key_of(_: &str) -> Result<Zeroizing<String>, Error> {
    Err(Error::Json)
}
