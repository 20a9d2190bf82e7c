use std::{fmt, sync::Arc};

use peerage_core::{Keypair, PeerId, ProtocolId, identity::Proofs};
use rustls::{
    ClientConfig, ServerConfig, SupportedCipherSuite,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite, kx_group},
    },
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use super::{
    Error, alpn, certificate, error::internal, sessions::Sessions, tickets::Tickets, verifier::Verifier,
};

/// How the two sides of TLS and QUIC agree on a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyExchange {
    /// X25519MLKEM768 before X25519 and the curves of NIST: what is recorded today stays secret from the quantum computers
    /// of later years, with a peer that has it as well. It costs a client 1,184 bytes more in its first message, and the
    /// server 1,088 in its answer.
    #[default]
    Hybrid,
    /// X25519 and the curves of NIST alone.
    Classical,
}

/// What this node brings into handshakes. Cheap to clone: one for the node, and for each dial a clone that
/// [expects](Config::expecting) somebody.
#[derive(Clone)]
pub struct Config {
    own: Arc<Own>,
    expected: Option<PeerId>,
    muxers: Vec<ProtocolId>,
    early_data: bool,
}

/// The certificate with its key, which lives as long as the configuration and is never stored, and the cryptography,
/// which is named here and never installed for the whole process.
pub(super) struct Own {
    certified: Arc<SingleCertAndKey>,
    pub(super) provider: Arc<CryptoProvider>,
    /// What QUIC servers gave.
    pub(super) sessions: Arc<Sessions>,
    /// What was given to QUIC clients.
    pub(super) tickets: Arc<Tickets>,
    /// Of peers that have been here.
    pub(super) proofs: Arc<Proofs>,
}

impl Config {
    /// Makes a key and a certificate that `keypair` vouches for.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(keypair: &Keypair) -> Result<Self, Error> {
        let (certificate, key) = certificate::issue(keypair)?;
        let provider = provider(aes_in_hardware(), KeyExchange::default());
        let certified = CertifiedKey::from_der(vec![certificate], key, &provider).map_err(internal)?;
        let own = Own {
            certified: Arc::new(SingleCertAndKey::from(certified)),
            provider: Arc::new(provider),
            sessions: Arc::default(),
            tickets: Arc::default(),
            proofs: Arc::default(),
        };
        Ok(Self { own: Arc::new(own), expected: None, muxers: Vec::new(), early_data: false })
    }

    /// Fails the handshake with [`Error::WrongPeer`] if anybody else is there.
    #[must_use]
    pub fn expecting(mut self, peer: PeerId) -> Self {
        self.expected = Some(peer);
        self
    }

    /// Offers these muxers, the one that is liked best first, to be agreed on during the handshake. None by default,
    /// which leaves it to multistream-select.
    #[must_use]
    pub fn offering(mut self, muxers: impl IntoIterator<Item = ProtocolId>) -> Self {
        self.muxers = muxers.into_iter().collect();
        self
    }

    /// Sends early data with a session that is resumed, or takes it: over QUIC, and only there. Default: `false`.
    #[must_use]
    pub fn early_data(mut self, early_data: bool) -> Self {
        self.early_data = early_data;
        self
    }

    /// Agrees on keys in this way. Default: [`KeyExchange::Hybrid`].
    #[must_use]
    pub fn exchanging(mut self, key_exchange: KeyExchange) -> Self {
        self.own = Arc::new(Own {
            certified: self.own.certified.clone(),
            provider: Arc::new(provider(aes_in_hardware(), key_exchange)),
            sessions: Arc::default(),
            tickets: Arc::default(),
            proofs: Arc::default(),
        });
        self
    }

    pub(super) fn muxers(&self) -> &[ProtocolId] {
        &self.muxers
    }

    pub(super) fn expected(&self) -> Option<PeerId> {
        self.expected
    }

    pub(super) fn has_early_data(&self) -> bool {
        self.early_data
    }

    pub(super) fn own(&self) -> &Own {
        &self.own
    }

    /// For one handshake.
    pub(super) fn verifier(&self) -> Arc<Verifier> {
        let algorithms = self.own.provider.signature_verification_algorithms;
        Arc::new(Verifier::new(self.expected, algorithms, Arc::clone(&self.own.proofs)))
    }

    pub(super) fn client(&self, verifier: Arc<Verifier>) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(self.own.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(internal)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(self.own.certified.clone());
        config.alpn_protocols = alpn::offer(&self.muxers);
        // "MUST NOT send any value in the Server Name Indication" (TLS spec, "Future Extensibility").
        config.enable_sni = false;
        // Over streams a resumed session would save no round trip. QUIC has its own say.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// `protocols` is what the client may be answered.
    pub(super) fn server(
        &self,
        verifier: Arc<Verifier>,
        protocols: Vec<Vec<u8>>,
    ) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(self.own.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(internal)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.own.certified.clone());
        config.alpn_protocols = protocols;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("expected", &self.expected)
            .field("muxers", &self.muxers)
            .finish_non_exhaustive()
    }
}

/// AWS-LC, with the fastest cipher first, and key exchange that a quantum computer does not undo. A client sends a key
/// share for plain X25519 beside the hybrid one, so that servers without the latter cost no round trip.
fn provider(fast_aes: bool, key_exchange: KeyExchange) -> CryptoProvider {
    let classical = [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    let hybrid = (key_exchange == KeyExchange::Hybrid).then_some(kx_group::X25519MLKEM768);
    CryptoProvider {
        cipher_suites: cipher_suites(fast_aes),
        kx_groups: hybrid.into_iter().chain(classical).collect(),
        ..aws_lc_rs::default_provider()
    }
}

fn cipher_suites(fast_aes: bool) -> Vec<SupportedCipherSuite> {
    use cipher_suite::{
        TLS13_AES_128_GCM_SHA256 as AES_128, TLS13_AES_256_GCM_SHA384 as AES_256,
        TLS13_CHACHA20_POLY1305_SHA256 as CHACHA20,
    };
    if fast_aes { vec![AES_128, CHACHA20, AES_256] } else { vec![CHACHA20, AES_128, AES_256] }
}

/// Whether the processor has instructions for AES-GCM; without them ChaCha20 is several times faster.
fn aes_in_hardware() -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    let has = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has =
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
    let has = false;
    has
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_cipher_comes_first() {
        let first = |fast_aes| cipher_suites(fast_aes)[0];
        assert_eq!(first(true), cipher_suite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(first(false), cipher_suite::TLS13_CHACHA20_POLY1305_SHA256);
        for fast_aes in [true, false] {
            assert_eq!(cipher_suites(fast_aes).len(), 3, "either way a peer may have any of them");
        }
    }

    #[test]
    fn keys_are_agreed_on_as_asked() {
        let groups = |key_exchange| {
            let groups = provider(true, key_exchange).kx_groups;
            groups.iter().map(|group| group.name()).collect::<Vec<_>>()
        };
        let hybrid = groups(KeyExchange::Hybrid);
        assert_eq!(hybrid[..2], [rustls::NamedGroup::X25519MLKEM768, rustls::NamedGroup::X25519]);
        assert_eq!(groups(KeyExchange::Classical), hybrid[1..]);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let config = Config::new(&Keypair::from_ed25519_seed([1; 32])).unwrap();
        assert_eq!(format!("{config:?}"), "Config { expected: None, muxers: [], .. }");
    }
}
