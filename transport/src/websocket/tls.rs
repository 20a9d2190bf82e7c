//! TLS as web servers and browsers have it, below the WebSocket. What makes sure who the peer is, is spoken inside of it.

use std::{fmt, io, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
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
    authorities: Vec<CertificateDer<'static>>,
    system: bool,
    /// Made at the first dial: most nodes never need it, and reading the system's takes milliseconds.
    config: OnceCell<Arc<ClientConfig>>,
}

impl Believed {
    pub(super) fn new(authorities: Vec<CertificateDer<'static>>, system: bool) -> Self {
        Self { authorities, system, config: OnceCell::new() }
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let made = self.config.get_or_try_init(|| async {
            let system = match self.system {
                true => spawn_blocking(rustls_native_certs::load_native_certs).await.ok(),
                false => None,
            };
            let (found, errors) = system.map_or_else(Default::default, |found| (found.certs, found.errors));
            let mut roots = RootCertStore::empty();
            // Machines have some that are odd.
            roots.add_parsable_certificates(found);
            roots.add_parsable_certificates(self.authorities.iter().cloned());
            if roots.is_empty() {
                let why = errors.first().map_or_else(|| "none is installed".to_owned(), ToString::to_string);
                return Err(Error::NoRoots(why));
            }
            let mut config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&TLS13])
                .map_err(|error| Error::Internal(error.to_string()))?
                .with_root_certificates(roots)
                .with_no_client_auth();
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
        f.debug_struct("Believed")
            .field("authorities", &self.authorities.len())
            .field("system", &self.system)
            .finish_non_exhaustive()
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
