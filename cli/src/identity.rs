//! The private key in a file.

use std::path::Path;

use peerage::{KeyFile, Keypair, identity::KeyType};

use crate::failure::Failure;

/// The identity in `file`, made if there is none; without a file, a new one that is not kept.
pub(crate) fn keypair(file: Option<&Path>) -> Result<Keypair, Failure> {
    keypair_of(file, KeyType::Ed25519)
}

/// The same; if one is made, it is of this type.
pub(crate) fn keypair_of(file: Option<&Path>, key_type: KeyType) -> Result<Keypair, Failure> {
    let Some(file) = file else { return Ok(Keypair::generate_of(key_type)) };
    KeyFile::new(file).load_or_create_of(key_type).map_err(|error| {
        let failure = Failure::new(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}
