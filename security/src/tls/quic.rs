//! TLS as QUIC carries it (RFC 9001): the same certificates and the same judgement of them, but no records and no choice of
//! a muxer. For the transport that has QUIC; its messages go in QUIC's own frames.
//!
//! Servers hand out tickets, so that a client may come back in fewer round trips. A session that is resumed shows no
//! certificate again: who is there is then read from the one that the session began with, which the server has sealed
//! into the ticket. This node's clients do not resume yet.

use std::sync::Arc;

use peerage_core::PeerId;
use rustls::{
    AlertDescription, ClientConfig, ServerConfig,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, UnixTime},
};

use super::{Config, Error, certificate, config::Own, verifier::Verifier};
use crate::Authenticated;

/// Who calls whom, in ALPN (libp2p/specs, quic/README.md, "ALPN").
pub const ALPN: &[u8] = b"libp2p";

/// Tickets for each connection.
const TICKETS: usize = 1;

/// What one handshake finds out about the peer.
#[derive(Clone, Debug)]
pub struct Verdict {
    verifier: Arc<Verifier>,
    expected: Option<PeerId>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Config {
    /// The client's side of one handshake.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn quic_client(&self) -> Result<(ClientConfig, Verdict), Error> {
        let verdict = Verdict::of(self);
        let mut config = self.client(verdict.verifier.clone())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok((config, verdict))
    }

    /// The server's side of one handshake.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn quic_server(&self) -> Result<(ServerConfig, Verdict), Error> {
        let verdict = Verdict::of(self);
        let mut config = self.server(verdict.verifier.clone(), vec![ALPN.to_vec()])?;
        config.ticketer = self.own().ticketer()?;
        config.send_tls13_tickets = TICKETS;
        Ok((config, verdict))
    }
}

impl Verdict {
    fn of(config: &Config) -> Self {
        Self::by(config, config.verifier())
    }

    pub(super) fn by(config: &Config, verifier: Arc<Verifier>) -> Self {
        let Own { provider, .. } = config.own();
        let algorithms = provider.signature_verification_algorithms;
        Self { verifier, expected: config.expected(), algorithms }
    }

    /// Who is there. To be asked when the handshake is done, with the peer's certificates as the session has them.
    ///
    /// # Errors
    /// What is wrong with the certificate; [`Error::WrongPeer`].
    pub fn authenticated(&self, certificates: &[CertificateDer<'_>]) -> Result<Authenticated, Error> {
        self.authenticated_at(certificates, UnixTime::now())
    }

    pub(super) fn authenticated_at(
        &self,
        certificates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Authenticated, Error> {
        let public_key = match self.verifier.verdict() {
            Some(verdict) => verdict.clone()?,
            // A session that was resumed.
            None => {
                let first = certificates.first().ok_or(Error::NoCertificate)?;
                certificate::check(first, now, &self.algorithms)?
            }
        };
        let peer = public_key.peer_id();
        match self.expected {
            Some(expected) if expected != peer => Err(Error::WrongPeer { expected, found: peer }),
            _ => Ok(Authenticated { peer, public_key, muxer: None }),
        }
    }

    /// Why the peer's certificate was refused, if it was. It says more than the alert that was made of it.
    pub fn refusal(&self) -> Option<Error> {
        self.verifier.verdict()?.as_ref().err().cloned()
    }
}

impl Error {
    /// The peer ended the handshake with this alert (RFC 8446, section 6).
    pub fn of_their_alert(alert: u8) -> Self {
        Self::Refused(format!("{:?}", AlertDescription::from(alert)))
    }

    /// This side ended the handshake with this alert, for the reason that `text` says.
    pub fn of_our_alert(alert: u8, text: &str) -> Self {
        match AlertDescription::from(alert) {
            AlertDescription::CertificateRequired => Self::NoCertificate,
            AlertDescription::DecryptError => Self::BadSignature,
            AlertDescription::InternalError => Self::Internal(text.to_owned()),
            _ => Self::Protocol(text.to_owned()),
        }
    }
}
