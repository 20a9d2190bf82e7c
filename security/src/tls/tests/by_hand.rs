//! Peers that do as they are told, on rustls alone, and a wire that can be tampered with.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rcgen::KeyPair;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs::default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Config, Error, Role, TlsStream, Upgraded, certificate, key, upgrade};

/// A peer that speaks TLS and believes everything.
pub(super) struct ByHand {
    certificates: Vec<CertificateDer<'static>>,
    key: Option<PrivateKeyDer<'static>>,
    protocols: Vec<Vec<u8>>,
    provider: CryptoProvider,
}

impl ByHand {
    pub(super) fn honest(seed: u8) -> Self {
        let (certificate, key) = certificate::issue(&super::key(seed)).unwrap();
        Self { certificates: vec![certificate], key: Some(key), ..Self::anonymous() }
    }

    pub(super) fn with((certificate, key): (Vec<u8>, KeyPair)) -> Self {
        Self::showing(certificate, key.serialize_der())
    }

    pub(super) fn showing(certificate: Vec<u8>, key: Vec<u8>) -> Self {
        let key = PrivatePkcs8KeyDer::from(key).into();
        Self { certificates: vec![certificate.into()], key: Some(key), ..Self::anonymous() }
    }

    pub(super) fn anonymous() -> Self {
        Self {
            certificates: Vec::new(),
            key: None,
            protocols: vec![b"libp2p".to_vec()],
            provider: default_provider(),
        }
    }

    pub(super) fn and_certificate_of(mut self, seed: u8) -> Self {
        self.certificates.push(certificate::issue(&key(seed)).unwrap().0);
        self
    }

    pub(super) fn with_key_of_another(mut self) -> Self {
        self.key = Some(certificate::issue(&key(9)).unwrap().1);
        self
    }

    pub(super) fn naming(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    pub(super) fn exchanging(mut self, group: &'static dyn SupportedKxGroup) -> Self {
        self.provider.kx_groups = vec![group];
        self
    }

    fn certified(&self) -> Arc<SingleCertAndKey> {
        let key = self.key.as_ref().unwrap().clone_key();
        let key = self.provider.key_provider.load_private_key(key).unwrap();
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(self.certificates.clone(), key)))
    }

    /// Plays the client; what it comes to, and what ours does.
    pub(super) async fn dials(
        self,
        ours: &Config,
    ) -> (Result<TlsStream<DuplexStream>, Error>, Result<Upgraded<DuplexStream>, Error>) {
        let builder = ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Believing));
        let mut client = match self.key {
            Some(_) => builder.with_client_cert_resolver(self.certified()),
            None => builder.with_no_client_auth(),
        };
        client.alpn_protocols = self.protocols;
        let (a, b) = duplex(64 * 1024);
        let name = ServerName::try_from("peer.example").unwrap();
        let connect = TlsConnector::from(Arc::new(client)).connect(name, a);
        let (theirs, ours) = tokio::join!(connect, upgrade(b, Role::Responder, ours));
        (theirs.map(|tls| TlsStream::new(tls.into())).map_err(Error::of_handshake), ours)
    }

    /// Plays the server; what ours comes to, and what it does.
    pub(super) async fn answers(
        self,
        ours: &Config,
    ) -> (Result<Upgraded<DuplexStream>, Error>, Result<TlsStream<DuplexStream>, Error>) {
        let mut server = ServerConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Believing))
            .with_cert_resolver(self.certified());
        server.alpn_protocols = self.protocols;
        let (a, b) = duplex(64 * 1024);
        let accept = TlsAcceptor::from(Arc::new(server)).accept(b);
        let (ours, theirs) = tokio::join!(upgrade(a, Role::Initiator, ours), accept);
        (ours, theirs.map(|tls| TlsStream::new(tls.into())).map_err(Error::of_handshake))
    }
}

#[derive(Debug)]
struct Believing;

impl ServerCertVerifier for Believing {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Believing {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A wire that keeps what is read from it, may flip one bit of that, and gives so much at once.
pub(super) struct Flip<S> {
    io: S,
    bit: Option<usize>,
    at_once: usize,
    pub(super) passed: Vec<u8>,
}

impl<S> Flip<S> {
    pub(super) fn new(io: S) -> Self {
        Self { io, bit: None, at_once: usize::MAX, passed: Vec::new() }
    }

    pub(super) fn at(io: S, bit: usize) -> Self {
        Self { bit: Some(bit), ..Self::new(io) }
    }

    pub(super) fn in_pieces_of(io: S, at_once: usize) -> Self {
        Self { at_once, ..Self::new(io) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flip<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut piece = vec![0; buf.remaining().min(self.at_once)];
        let mut room = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
        let (start, read) = (self.passed.len(), room.filled_mut());
        if let Some(bit) = self.bit
            && let Some(byte) = (bit / 8).checked_sub(start).and_then(|at| read.get_mut(at))
        {
            *byte ^= 1 << (bit % 8);
        }
        buf.put_slice(read);
        self.passed.extend_from_slice(read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flip<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
