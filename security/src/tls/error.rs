use std::{io, sync::Arc};

use peerage_core::PeerId;
use rustls::{AlertDescription, CertificateError as Webpki};

use super::CertificateError;
use crate::Fault;

/// Why a handshake failed, or an encrypted stream broke (then inside the `io::Error`).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's certificate proves nothing.
    #[error("the peer's certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The peer presented no certificate.
    #[error("the peer has no certificate")]
    NoCertificate,
    /// The handshake was not signed with the key of the certificate: somebody poses as the peer.
    #[error("the peer's signature on the handshake is wrong")]
    BadSignature,
    /// Somebody else is at the address.
    #[error("expected peer {expected}, found {found}")]
    WrongPeer {
        /// Who was dialed.
        expected: PeerId,
        /// Who answered.
        found: PeerId,
    },
    /// The client named protocols (ALPN), and the server has none of them. Whoever follows the spec names `libp2p` among
    /// them, which every server has.
    #[error("no muxer in common")]
    NoCommonMuxer,
    /// The peer ended the connection with this alert (RFC 8446, section 6). It says so of this side's certificate, too,
    /// and to a client only after the handshake is done.
    #[error("the peer refused with the alert {0}")]
    Refused(String),
    /// The peer broke TLS, or speaks another version of it.
    #[error("the peer does not speak TLS 1.3 as it should: {0}")]
    Protocol(String),
    /// Not encrypted with the right key: damaged or forged on the way.
    #[error("a record could not be decrypted")]
    Decrypt,
    /// The peer hung up during the handshake.
    #[error("the connection ended during the handshake")]
    Closed,
    /// The socket ended, and the peer had not said that it would: somebody may have cut it.
    #[error("the connection ended without a farewell")]
    Truncated,
    /// The socket failed.
    #[error("the connection broke: {0}")]
    Io(Arc<io::Error>),
    /// The TLS implementation refused something that this side asked of it.
    #[error("TLS: {0}")]
    Internal(String),
}

impl Error {
    /// Who was at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Certificate(error) => error.fault(),
            Self::Internal(_) => Fault::Local,
            Self::Closed | Self::Truncated | Self::Io(_) => Fault::Network,
            _ => Fault::Remote,
        }
    }

    /// What ended a handshake.
    pub(super) fn of_handshake(error: io::Error) -> Self {
        match Self::of_stream(error) {
            Self::Truncated => Self::Closed,
            error => error,
        }
    }

    /// What ended an encrypted stream.
    pub(super) fn of_stream(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => tls.into(),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated,
            None => Self::Io(Arc::new(error)),
        }
    }
}

impl From<&rustls::Error> for Error {
    fn from(error: &rustls::Error) -> Self {
        use rustls::Error as Tls;
        match error {
            // What a verifier of ours refuses has an error of ours; what is left is the signature on the handshake.
            Tls::InvalidCertificate(Webpki::BadSignature) => Self::BadSignature,
            Tls::NoCertificatesPresented => Self::NoCertificate,
            Tls::NoApplicationProtocol | Tls::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                Self::NoCommonMuxer
            }
            Tls::AlertReceived(alert) => Self::Refused(format!("{alert:?}")),
            Tls::DecryptError => Self::Decrypt,
            Tls::InvalidCertificate(_)
            | Tls::InappropriateMessage { .. }
            | Tls::InappropriateHandshakeMessage { .. }
            | Tls::InvalidMessage(_)
            | Tls::PeerIncompatible(_)
            | Tls::PeerMisbehaved(_)
            | Tls::PeerSentOversizedRecord => Self::Protocol(error.to_string()),
            _ => internal(error),
        }
    }
}

/// For what can only go wrong on this side.
pub(super) fn internal(error: impl ToString) -> Error {
    Error::Internal(error.to_string())
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io(error) => error.kind(),
            Error::Truncated | Error::Closed => io::ErrorKind::UnexpectedEof,
            Error::Internal(_) => io::ErrorKind::Other,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
