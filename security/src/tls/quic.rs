//! TLS as QUIC carries it (RFC 9001): the same certificates and the same judgement of them, but no records and no choice of
//! a muxer. For the transport that has QUIC; its messages go in QUIC's own frames.
//!
//! # Sessions that are resumed
//!
//! Servers hand out tickets, and a client that expects the same peer again comes back with one. Keys are agreed on anew all the
//! same (`psk_dhe_ke` is the only mode), so what is recorded stays secret. No certificate is shown: who is there
//! is read from the one that the session began with, which either side has kept, and which is checked again. That the
//! other side is the same is proven by its having the session's secret, which came of a handshake that was signed. A
//! session of one peer is of no use with another; each is for one use; and none is older than [`SESSION_AGE`].
//!
//! # Early data
//!
//! With such a session a client may send data along with its first message ([`Config::early_data`]). The server knows whose
//! they are as soon as it has read that message: it was made by somebody who has the session's secret. What it does not
//! know until the client's answer has come is whether that was now. So whoever records a first flight may hold
//! it back, and deliver it from somewhere else, once: the ticket is for one use, and a node that was started anew
//! knows none of the old ones. Such a client never gets further, and can read nothing of what it is answered.

use std::sync::Arc;

use peerage_core::{PeerId, identity::Proofs};
use rustls::{
    AlertDescription, ClientConfig, ServerConfig,
    client::Resumption,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, UnixTime},
};

use super::{Config, Error, certificate, config::Own, sessions::Visit, verifier::Verifier};
pub use super::{
    sessions::{MAX_SESSIONS, SESSION_AGE},
    tickets::{MAX_TICKET_BYTES, MAX_TICKETS},
};
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
    proofs: Arc<Proofs>,
    /// Of a client that may have come back.
    visit: Option<Arc<Visit>>,
}

impl Config {
    /// The client's side of one handshake. If somebody is [expected](Config::expecting), it resumes the session with that
    /// peer, if there is one; without, with nobody. Early data may be sent if the session's server takes it.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn quic_client(&self) -> Result<(ClientConfig, Verdict), Error> {
        let sessions = &self.own().sessions;
        let visit = self
            .expected()
            .map(|peer| Arc::new(Visit::begin(sessions, peer, || self.verifier(), UnixTime::now())));
        let verifier = visit.as_ref().map_or_else(|| self.verifier(), |visit| Arc::clone(visit.verifier()));
        let mut config = self.client(Arc::clone(&verifier) as _)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        if let Some(visit) = &visit {
            config.enable_early_data = self.has_early_data() && visit.is_early();
            config.resumption = Resumption::store(Arc::clone(visit) as _);
        }
        let verdict = Verdict { visit, ..Verdict::by(self, verifier) };
        Ok((config, verdict))
    }

    /// Whether a [client](Config::quic_client) that expects `peer` may send early data. It takes the session, so the next
    /// one may not.
    pub fn may_be_early(&self, peer: PeerId) -> bool {
        self.has_early_data() && self.own().sessions.has_early(peer, UnixTime::now())
    }

    /// The server's side of one handshake.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn quic_server(&self) -> Result<(ServerConfig, Verdict), Error> {
        let verdict = Verdict::by(self, self.verifier());
        let mut config = self.server(verdict.verifier.clone(), vec![ALPN.to_vec()])?;
        config.session_storage = self.own().tickets.clone();
        config.send_tls13_tickets = TICKETS;
        // QUIC has limits of its own (RFC 9001, section 4.6.1).
        config.max_early_data_size = if self.has_early_data() { u32::MAX } else { 0 };
        Ok((config, verdict))
    }
}

impl Verdict {
    pub(super) fn by(config: &Config, verifier: Arc<Verifier>) -> Self {
        let Own { provider, proofs, .. } = config.own();
        let (algorithms, proofs) = (provider.signature_verification_algorithms, Arc::clone(proofs));
        Self { verifier, expected: config.expected(), algorithms, proofs, visit: None }
    }

    /// Who is there. To be asked when the handshake is done, with the peer's certificates as the session has them. Of a client
    /// with early data it may be asked before that.
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
            Some(verdict) => verdict?,
            // A session that was resumed.
            None => {
                let first = certificates.first().ok_or(Error::NoCertificate)?;
                certificate::check(first, now, &self.algorithms, &self.proofs)?
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
        self.verifier.verdict()?.err()
    }

    /// Whether the peer has shown no certificate: at the end of a handshake that succeeded, it resumed a session.
    pub fn is_resumed(&self) -> bool {
        self.verifier.verdict().is_none()
    }

    /// The server did not take the early data that it was sent. To be said when the handshake is done; with the session that
    /// comes after it, none is sent to this peer.
    pub fn early_refused(&self) {
        if let Some(visit) = &self.visit {
            visit.refuse_early();
        }
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
