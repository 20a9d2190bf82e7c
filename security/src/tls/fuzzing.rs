//! What the fuzz targets reach: certificates, which no peer's bytes get to without a signature.

use std::time::Duration;

use peerage_core::Keypair;
use rustls::{crypto::aws_lc_rs, pki_types::UnixTime};

use super::certificate;

/// Checks a certificate, at a time when one of ours is valid.
pub fn check(der: &[u8]) -> bool {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    certificate::check(der, now, &algorithms).is_ok()
}

/// One of ours.
pub fn certificate(identity: &Keypair) -> Vec<u8> {
    certificate::issue(identity).map(|(certificate, _)| certificate.to_vec()).unwrap_or_default()
}
