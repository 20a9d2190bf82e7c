//! The private key in a file.

use std::path::Path;

use peerage::{KeyFile, Keypair};

use crate::failure::Failure;

/// The identity in `file`, made if there is none; without a file, a new one that is not kept.
pub(crate) fn keypair(file: Option<&Path>) -> Result<Keypair, Failure> {
    let Some(file) = file else { return Ok(Keypair::generate()) };
    KeyFile::new(file).load_or_create().map_err(|error| {
        let failure = Failure::new(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}
