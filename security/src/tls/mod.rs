//! `/tls/1.0.0`: TLS 1.3 in which both sides show a certificate that carries their identity
//! ([spec](https://github.com/libp2p/specs/blob/master/tls/tls.md)).
//!
//! [`upgrade`] does everything on a socket. What TLS has beyond the spec is left out: no older versions, no sessions that
//! are resumed, no data before the handshake is done, no compressed certificates, no server names. (Over QUIC there are
//! such sessions, and such data: [`quic`].)
//!
//! ```text
//! initiator (client)                      responder (server)
//! muxers (ALPN) ── ClientHello ─────────▶ picks the first it has
//! checks identity ◀ ServerHello … Finished ── muxer, certificate
//! certificate ──── Certificate … Finished ▶ checks identity
//! ```
//!
//! The client is done when it has sent its last message, a round trip before it could hear that it was refused. It
//! finds that out, by the server's alert, when it reads.

mod alpn;
mod certificate;
mod config;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod quic;
mod sessions;
mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod tickets;
mod verifier;

pub use certificate::CertificateError;
pub use config::{Config, KeyExchange};
pub use error::Error;
pub use stream::TlsStream;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use peerage_core::ProtocolId;
use rustls::{pki_types::ServerName, server::Acceptor};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use crate::{Authenticated, Role};
use verifier::Verifier;

/// The protocol id in multistream-select.
pub const PROTOCOL: ProtocolId = ProtocolId::from_static("/tls/1.0.0");

/// The longest certificate that is looked at, in bytes. One with an RSA key of 8192 bits has some 2600. (Messages over
/// 64 KiB are refused before that, by rustls.)
pub const MAX_CERTIFICATE: usize = 8 * 1024;

/// Secures `io`: shakes hands in the given role and gives the encrypted stream.
///
/// The future may be dropped at any time, which drops `io`.
///
/// # Errors
/// [`Error`] says what was wrong and, by [`Error::fault`], on which side.
pub async fn upgrade<S>(io: S, role: Role, config: &Config) -> Result<(TlsStream<S>, Authenticated), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let verifier = config.verifier();
    let result = match role {
        Role::Initiator => connect(io, config, &verifier).await,
        Role::Responder => accept(io, config, &verifier).await,
    };
    let (tls, public_key) = match (result, verifier.verdict()) {
        // It says more than the alert that was made of it.
        (_, Some(Err(refused))) => return Err(refused),
        (Err(error), _) => return Err(error),
        (Ok(_), None) => return Err(Error::NoCertificate),
        (Ok(tls), Some(Ok(public_key))) => (tls, public_key),
    };
    let muxer = alpn::agreed(tls.get_ref().1.alpn_protocol(), config.muxers());
    let authenticated = Authenticated { peer: public_key.peer_id(), public_key, muxer };
    Ok((TlsStream::new(tls), authenticated))
}

async fn connect<S>(
    io: S,
    config: &Config,
    verifier: &Arc<Verifier>,
) -> Result<tokio_rustls::TlsStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = Arc::new(config.client(verifier.clone())?);
    // rustls wants to know whom a client calls. A name might be told to the server; an address is not.
    let nobody = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let tls = TlsConnector::from(client).connect(nobody, io).await;
    Ok(tls.map_err(Error::of_handshake)?.into())
}

async fn accept<S>(
    io: S,
    config: &Config,
    verifier: &Arc<Verifier>,
) -> Result<tokio_rustls::TlsStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), io).await.map_err(Error::of_handshake)?;
    let named = start.client_hello().alpn().into_iter().flatten();
    let protocols = alpn::answer(named, config.muxers());
    let server = Arc::new(config.server(verifier.clone(), protocols)?);
    let tls = start.into_stream(server).await;
    Ok(tls.map_err(Error::of_handshake)?.into())
}
