//! What stands in for keys on the curve of Bitcoin in a program that was built without them.

use super::{DecodeError, KeyType};
use std::convert::Infallible;
use zeroize::Zeroizing;

pub(super) const PUBLIC_LEN: usize = 33;

pub(super) fn read_public(_: &[u8]) -> Result<[u8; PUBLIC_LEN], DecodeError> {
    Err(DecodeError::Unsupported(KeyType::Secp256k1))
}

/// Never asked: there is no key that was read.
pub(super) fn verify(_: &[u8; PUBLIC_LEN], _: &[u8], _: &[u8]) -> bool {
    false
}

/// There is none.
pub(super) struct Private(Infallible);

impl Private {
    /// # Panics
    ///
    /// Always.
    #[allow(clippy::panic, reason = "documented where it is called from")]
    pub(super) fn generate() -> Self {
        panic!("secp256k1 keys need the feature of that name");
    }

    pub(super) fn read(_: &[u8]) -> Result<Self, DecodeError> {
        Err(DecodeError::Unsupported(KeyType::Secp256k1))
    }

    pub(super) fn data(&self) -> Zeroizing<[u8; 0]> {
        match self.0 {}
    }

    pub(super) fn public(&self) -> [u8; PUBLIC_LEN] {
        match self.0 {}
    }

    pub(super) fn sign(&self, _: &[u8]) -> Vec<u8> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use crate::{Keypair, PublicKey, identity::DecodeError, identity::KeyType};

    #[test]
    fn keys_are_refused_by_name() {
        let unsupported = DecodeError::Unsupported(KeyType::Secp256k1);
        assert_eq!(unsupported.to_string(), "secp256k1 keys need the feature of that name");
        let public = [&[8, 2, 0x12, 33, 2][..], &[7; 32]].concat();
        assert_eq!(PublicKey::from_protobuf(&public), Err(unsupported));
        let private = [&[8, 2, 0x12, 32][..], &[7; 32]].concat();
        assert_eq!(Keypair::from_protobuf(&private).err(), Some(unsupported));
    }
}
