//! TLS as web servers and browsers have it, below the WebSocket. What makes sure who the peer is, is spoken inside of it.

use std::{fmt, io, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::NoServerSessionStorage,
    version::TLS13,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OnceCell,
    task::spawn_blocking,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::Error;

/// The one protocol that a WebSocket comes in (ALPN).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// The file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Which.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// It has no certificate, or no key, in PEM.
    #[error("{file}: {why}")]
    Malformed {
        /// Which.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key do not belong together, or are of a kind that cannot be used.
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(String),
}

/// Certificates of authorities, from a file in PEM.
///
/// # Errors
/// If it cannot be read, or there is none in it.
pub fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    certificates(&read(file)?, file)
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, PemError> {
    std::fs::read(file).map_err(|source| PemError::Read { file: file.display().to_string(), source })
}

fn certificates(pem: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let malformed = |why: String| PemError::Malformed { file: file.display().to_string(), why };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| malformed(error.to_string()))?;
    if all.is_empty() { Err(malformed("there is no certificate in it".to_owned())) } else { Ok(all) }
}

/// What a server shows and has, from the contents of two files.
pub(super) fn server_config(
    (chain, chain_file): (&[u8], &Path),
    (key, key_file): (&[u8], &Path),
) -> Result<Arc<ServerConfig>, PemError> {
    let chain = certificates(chain, chain_file)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| PemError::Malformed {
        file: key_file.display().to_string(),
        why: error.to_string(),
    })?;
    let unusable = |error: rustls::Error| PemError::Unusable(error.to_string());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    // Peers that come again are few, and what would be kept of them is many.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// AWS-LC, named here and never installed for the whole process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Whose certificates a client believes.
pub(super) struct Believed {
    whom: Whom,
    /// Made at the first dial: most nodes never need it, and reading the system's takes milliseconds.
    config: OnceCell<Arc<ClientConfig>>,
}

enum Whom {
    Everybody,
    Authorities { added: Vec<CertificateDer<'static>>, system: bool },
}

impl Believed {
    pub(super) fn new(added: Vec<CertificateDer<'static>>, system: bool) -> Self {
        Self { whom: Whom::Authorities { added, system }, config: OnceCell::new() }
    }

    pub(super) fn everybody() -> Self {
        Self { whom: Whom::Everybody, config: OnceCell::new() }
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let made = self.config.get_or_try_init(|| async {
            let config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&TLS13])
                .map_err(|error| Error::Internal(error.to_string()))?;
            let config = match &self.whom {
                Whom::Everybody => {
                    config.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
                }
                Whom::Authorities { added, system } => {
                    config.with_root_certificates(roots(added, *system).await?)
                }
            };
            let mut config = config.with_no_client_auth();
            config.alpn_protocols = vec![HTTP_1_1.to_vec()];
            // A resumed session would prove nothing anew of who is there.
            config.resumption = Resumption::disabled();
            Ok(Arc::new(config))
        });
        made.await.cloned()
    }

    /// The client's handshake with the server of that name.
    pub(super) async fn dial<S>(
        &self,
        io: S,
        name: ServerName<'static>,
    ) -> Result<client::TlsStream<S>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(self.config().await?);
        let who = name.to_str().into_owned();
        connector.connect(name, io).await.map_err(|error| handshake_error(error, &who))
    }
}

impl fmt::Debug for Believed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Believed");
        match &self.whom {
            Whom::Everybody => debug.field("everybody", &true),
            Whom::Authorities { added, system } => {
                debug.field("authorities", &added.len()).field("system", system)
            }
        };
        debug.finish_non_exhaustive()
    }
}

/// Those that were added, and those of the system.
async fn roots(added: &[CertificateDer<'static>], system: bool) -> Result<RootCertStore, Error> {
    let system = match system {
        true => spawn_blocking(rustls_native_certs::load_native_certs).await.ok(),
        false => None,
    };
    let (found, errors) = system.map_or_else(Default::default, |found| (found.certs, found.errors));
    let mut roots = RootCertStore::empty();
    // Machines have some that are odd.
    roots.add_parsable_certificates(found);
    roots.add_parsable_certificates(added.iter().cloned());
    if roots.is_empty() {
        let why = errors.first().map_or_else(|| "none is installed".to_owned(), ToString::to_string);
        return Err(Error::NoRoots(why));
    }
    Ok(roots)
}

/// Believes every certificate, if only who shows it has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The server's handshake.
pub(super) async fn accept<S>(io: S, config: Arc<ServerConfig>) -> Result<server::TlsStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    TlsAcceptor::from(config).accept(io).await.map_err(|error| handshake_error(error, ""))
}

fn handshake_error(error: io::Error, name: &str) -> Error {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return error.into();
    };
    let certificate = |why: String| Error::Certificate { name: name.to_owned(), why };
    match tls {
        rustls::Error::InvalidCertificate(why) => certificate(match why {
            CertificateError::UnknownIssuer => "signed by nobody whom this node believes".to_owned(),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired".to_owned(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "not valid yet".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "it is somebody else's".to_owned()
            }
            CertificateError::BadSignature => "its signature is wrong".to_owned(),
            CertificateError::Revoked => "revoked".to_owned(),
            other => other.to_string(),
        }),
        rustls::Error::NoCertificatesPresented => certificate("there is none".to_owned()),
        other => Error::Tls(other.to_string()),
    }
}
