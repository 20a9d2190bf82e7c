//! TLS 1.3 with one cipher and one group, so that it is known what was measured.

use std::sync::Arc;

use bench_peer::{Error, Result, failed};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer},
};

/// The name in the certificate.
pub(crate) const NAME: &str = "localhost";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

/// A listener's configuration, and its address with its certificate, without which nobody would trust it.
pub(crate) fn server(at: impl FnOnce(ServerConfig) -> Result<std::net::SocketAddr>) -> Result<String> {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).map_err(failed("a certificate"))?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(failed("a key"))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed("TLS"))?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .map_err(failed("TLS"))?;
    Ok(format!("{}/{}", at(config)?, hex(&certificate)))
}

/// Who is at such an address, and how to talk with them.
pub(crate) fn client(address: &str) -> Result<(std::net::SocketAddr, ClientConfig)> {
    let (address, certificate) = address
        .split_once('/')
        .ok_or_else(|| Error::Failed("an address without a certificate".to_owned()))?;
    let mut roots = RootCertStore::empty();
    let certificate =
        unhex(certificate).ok_or_else(|| Error::Failed("a certificate that is none".to_owned()))?;
    roots.add(CertificateDer::from(certificate)).map_err(failed("the certificate"))?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed("TLS"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((address.parse().map_err(failed("the address"))?, config))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal() {
        assert_eq!(hex(&[0, 171, 255]), "00abff");
        assert_eq!(unhex("00abff"), Some(vec![0, 171, 255]));
        assert_eq!((unhex("0"), unhex("0g")), (None, None));
    }
}
