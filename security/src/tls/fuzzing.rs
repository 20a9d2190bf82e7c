//! What the fuzz targets reach: certificates, which no peer's bytes get to without a signature.

use std::{sync::Arc, time::Duration};

use peerage_core::{Keypair, PublicKey, identity::Proofs};
use rustls::{
    client::danger::ServerCertVerifier as _,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::ClientCertVerifier as _,
};

use super::{Config, Error, certificate, quic::Verdict, verifier::Verifier};

/// Checks a certificate, at a time when one of ours is valid: as TLS and QUIC have it checked, which is by
/// the same verifier, of a server, of a client, and of one that comes back with a ticket.
///
/// # Panics
/// When they do not say the same.
pub fn check(config: &Config, der: &[u8]) -> bool {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let plain: Result<PublicKey, Error> =
        certificate::check(der, now, &algorithms, &Proofs::default()).map_err(Error::from);
    let certificate = CertificateDer::from(der);
    let says = |judge: &dyn Fn(&Verifier) -> bool| {
        let verifier = config.verifier();
        let verdict = Verdict::by(config, Arc::clone(&verifier));
        assert_eq!(judge(&verifier), plain.is_ok());
        verdict.authenticated_at(std::slice::from_ref(&certificate), now).map(|peer| peer.public_key)
    };
    let nobody = ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into());
    let all = [
        says(&|verifier| verifier.verify_server_cert(&certificate, &[], &nobody, &[], now).is_ok()),
        says(&|verifier| verifier.verify_client_cert(&certificate, &[], now).is_ok()),
        says(&|_| plain.is_ok()),
    ];
    for one in all {
        assert_eq!(format!("{one:?}"), format!("{plain:?}"));
    }
    plain.is_ok()
}

/// One of ours.
pub fn certificate(identity: &Keypair) -> Vec<u8> {
    certificate::issue(identity).map(|(certificate, _)| certificate.to_vec()).unwrap_or_default()
}
