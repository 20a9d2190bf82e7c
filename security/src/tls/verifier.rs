use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peerage_core::{PeerId, PublicKey, identity::Proofs};
use rustls::{
    CertificateError as Alert, DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::{CertificateError, Error, certificate};

/// Judges the peer's certificate, on either side, in one handshake, and remembers what it found: rustls asks whether,
/// and the upgrade needs to know who, or why not. A handshake that resumes a session has the verifier of the one before
/// it, which has forgotten what it found there.
#[derive(Debug)]
pub(super) struct Verifier {
    expected: Option<PeerId>,
    algorithms: WebPkiSupportedAlgorithms,
    proofs: Arc<Proofs>,
    verdict: Mutex<Option<Result<PublicKey, Error>>>,
}

impl Verifier {
    pub(super) fn new(
        expected: Option<PeerId>,
        algorithms: WebPkiSupportedAlgorithms,
        proofs: Arc<Proofs>,
    ) -> Self {
        Self { expected, algorithms, proofs, verdict: Mutex::new(None) }
    }

    /// What came of the peer's certificate; `None` if it has not come. The key is the peer's only when the handshake is
    /// done.
    pub(super) fn verdict(&self) -> Option<Result<PublicKey, Error>> {
        self.lock().clone()
    }

    /// Another handshake begins.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<PublicKey, Error>>> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, first: &[u8], others: usize, now: UnixTime) -> Result<(), TlsError> {
        let verdict = self.check(first, others, now);
        let answer = verdict.as_ref().map(|_| ()).map_err(alert);
        let mut first = self.lock();
        if first.is_some() {
            // It must not be taken for the first.
            return Err(TlsError::General("a second certificate".to_owned()));
        }
        *first = Some(verdict);
        answer
    }

    fn check(&self, first: &[u8], others: usize, now: UnixTime) -> Result<PublicKey, Error> {
        if others > 0 {
            return Err(CertificateError::Chain(others.saturating_add(1)).into());
        }
        let key = certificate::check(first, now, &self.algorithms, &self.proofs)?;
        let found = key.peer_id();
        match self.expected {
            Some(expected) if expected != found => Err(Error::WrongPeer { expected, found }),
            _ => Ok(key),
        }
    }

    /// The signature on the handshake, by the key of the certificate. webpki itself is shown the bare key: it would
    /// refuse a certificate whose libp2p extension is critical.
    fn check_handshake(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let key = certificate::subject_key(certificate)
            .map_err(|_| TlsError::InvalidCertificate(Alert::BadEncoding))?;
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(key),
            signature,
            &self.algorithms,
        )
    }
}

/// What the peer is told, as far as there is an alert for it.
fn alert(error: &Error) -> TlsError {
    TlsError::InvalidCertificate(match error {
        Error::Certificate(CertificateError::Expired) => Alert::Expired,
        Error::Certificate(CertificateError::NotYetValid) => Alert::NotValidYet,
        Error::Certificate(CertificateError::SelfSignature | CertificateError::BadSignature) => {
            Alert::BadSignature
        }
        Error::WrongPeer { .. } => Alert::ApplicationVerificationFailure,
        _ => Alert::BadEncoding,
    })
}

fn no_tls12() -> Result<HandshakeSignatureValid, TlsError> {
    Err(TlsError::General("TLS 1.2 is not spoken".to_owned()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.judge(end_entity, intermediates.len(), now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.check_handshake(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.judge(end_entity, intermediates.len(), now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.check_handshake(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
