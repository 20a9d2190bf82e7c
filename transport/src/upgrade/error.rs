use std::{error::Error, fmt, io, sync::Arc};

use peerage_core::{PeerId, budget, multistream};
use peerage_security::{noise, plaintext, pnet, tls};

#[cfg(feature = "quic")]
use crate::quic;
#[cfg(feature = "webrtc")]
use crate::webrtc;
use crate::{Fault, Stage, select, websocket};

/// Why a raw link did not become a connection: where it happened, whose fault it was, and what it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpgradeError {
    /// How far it came.
    pub stage: Stage,
    /// Whose fault it was.
    pub fault: Fault,
    /// What happened.
    pub kind: UpgradeErrorKind,
}

/// What ended an upgrade.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeErrorKind {
    /// It took too long. When the whole of [`Config::timeout`](super::Config::timeout) passed, that is counted as the
    /// peer's fault: the link was there, and the peer did not use it. When the options' deadline came first, it is this
    /// side's: it gave the peer less than that.
    #[error("not done in time")]
    Timeout,
    /// Somebody else is there.
    #[error("expected {expected}, found {found}")]
    WrongPeer {
        /// Who should have been there.
        expected: PeerId,
        /// Who was, with proof.
        found: PeerId,
    },
    /// The two sides have no security protocol in common.
    #[error("no security protocol in common")]
    NoCommonSecurity,
    /// The two sides have no muxer in common.
    #[error("no muxer in common")]
    NoCommonMuxer,
    /// The other side ended the link before the upgrade was done. Why, it does not say: among its reasons may be that
    /// it expected another peer.
    #[error("the connection ended early")]
    Closed,
    /// The link, or the encryption on it, broke.
    #[error("the connection broke: {0}")]
    Io(#[source] Arc<io::Error>),
    /// The WebSocket could not be opened, or its other side broke its rules.
    #[error(transparent)]
    WebSocket(websocket::Error),
    /// The peer broke multistream-select.
    #[error("negotiation failed: {0}")]
    Negotiation(#[source] multistream::Error),
    /// The peer could not be understood before its security protocol was agreed on, in a private network: most likely it
    /// has another key, or none.
    #[error("{0}; is the pre-shared key the same on both sides?")]
    PreSharedKey(#[source] Box<UpgradeErrorKind>),
    /// Private network: the peer has no key.
    #[error(transparent)]
    PrivateNetwork(pnet::Error),
    /// The link came secured, so that the key of the private network cannot protect it.
    #[error("this transport brings its own security, which a private network does not allow")]
    NotPrivate,
    /// The noise handshake failed.
    #[error("noise handshake failed: {0}")]
    Noise(#[source] noise::Error),
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Tls(#[source] tls::Error),
    /// The QUIC handshake failed.
    #[cfg(feature = "quic")]
    #[error("QUIC handshake failed: {0}")]
    Quic(#[source] quic::Error),
    /// The budget has no memory for the connection.
    #[error(transparent)]
    NoMemory(budget::Exhausted),
    /// A webrtc-direct connection could not be made.
    #[cfg(feature = "webrtc")]
    #[error("webrtc-direct: {0}")]
    WebRtc(#[source] webrtc::Error),
    /// The plaintext exchange failed.
    #[error("plaintext exchange failed: {0}")]
    Plaintext(#[source] plaintext::Error),
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upgrade failed at {}: {}", self.stage, self.kind)
    }
}

impl Error for UpgradeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

impl UpgradeError {
    /// Whether the peer refused what it was [believed](super::Belief::Takes) to take. It may take another.
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind, UpgradeErrorKind::Negotiation(multistream::Error::NoneSupported))
    }
}

/// An [`UpgradeError`] in the making: the stage is the one that was reached, unless the failure itself says more.
#[derive(Debug)]
pub(crate) struct Failure {
    stage: Option<Stage>,
    fault: Fault,
    kind: UpgradeErrorKind,
}

impl Failure {
    pub(crate) fn new(fault: Fault, kind: UpgradeErrorKind) -> Self {
        Self { stage: None, fault, kind }
    }

    /// Of what was said under the key of a private network, before anything shows that the peer has the same.
    pub(super) fn under_key(self) -> Self {
        use UpgradeErrorKind as Kind;
        let kind = match self.kind {
            kind @ (Kind::Timeout | Kind::Closed | Kind::Io(_) | Kind::Negotiation(_)) => {
                Kind::PreSharedKey(Box::new(kind))
            }
            kind => kind,
        };
        Self { kind, ..self }
    }

    pub(crate) fn at(self, reached: Stage) -> UpgradeError {
        UpgradeError { stage: self.stage.unwrap_or(reached), fault: self.fault, kind: self.kind }
    }
}

impl From<select::Error> for Failure {
    fn from(error: select::Error) -> Self {
        let fault = error.fault();
        let kind = match error {
            select::Error::Negotiation(multistream::Error::Ended) => UpgradeErrorKind::Closed,
            select::Error::Negotiation(error) => UpgradeErrorKind::Negotiation(error),
            // The second negotiation reads through the encryption, whose own errors come as the socket's.
            select::Error::Io(error) => return error.into(),
        };
        Self::new(fault, kind)
    }
}

impl Failure {
    /// What broke under a security protocol: the link, or the belief that the peer takes that protocol.
    fn broke(error: Arc<io::Error>) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(select::Error::Negotiation(refused)) => select::Error::Negotiation(refused.clone()).into(),
            _ => Self::new(Fault::Network, UpgradeErrorKind::Io(error)),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(noise) = inner.and_then(|inner| inner.downcast_ref::<noise::Error>()) {
            return noise.clone().into();
        }
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<tls::Error>()) {
            return tls.clone().into();
        }
        if let Some(websocket) = inner.and_then(|inner| inner.downcast_ref::<websocket::Error>()) {
            return websocket.clone().into();
        }
        match inner.and_then(|inner| inner.downcast_ref::<pnet::Error>()) {
            Some(pnet) => (*pnet).into(),
            None => Self::broke(Arc::new(error)),
        }
    }
}

impl From<websocket::Error> for Failure {
    fn from(error: websocket::Error) -> Self {
        let fault = error.fault();
        let kind = match error {
            websocket::Error::Timeout => UpgradeErrorKind::Timeout,
            websocket::Error::Ended | websocket::Error::Truncated => UpgradeErrorKind::Closed,
            websocket::Error::Io(error) => UpgradeErrorKind::Io(error),
            error => UpgradeErrorKind::WebSocket(error),
        };
        Self::new(fault, kind)
    }
}

impl From<pnet::Error> for Failure {
    fn from(error: pnet::Error) -> Self {
        let fault = match error {
            pnet::Error::Plaintext => Fault::Remote,
            _ => Fault::Local,
        };
        Self::new(fault, UpgradeErrorKind::PrivateNetwork(error))
    }
}

impl From<noise::Error> for Failure {
    fn from(error: noise::Error) -> Self {
        let fault = error.fault();
        let (stage, kind) = match error {
            noise::Error::WrongPeer { expected, found } => {
                (None, UpgradeErrorKind::WrongPeer { expected, found })
            }
            // The muxers were named inside the security handshake, which itself was fine.
            noise::Error::NoCommonMuxer => (Some(Stage::Muxer), UpgradeErrorKind::NoCommonMuxer),
            noise::Error::Closed => (None, UpgradeErrorKind::Closed),
            noise::Error::Io(error) => return Self::broke(error),
            error => (None, UpgradeErrorKind::Noise(error)),
        };
        Self { stage, fault, kind }
    }
}

impl From<tls::Error> for Failure {
    fn from(error: tls::Error) -> Self {
        let fault = error.fault();
        let (stage, kind) = match error {
            tls::Error::WrongPeer { expected, found } => {
                (None, UpgradeErrorKind::WrongPeer { expected, found })
            }
            tls::Error::NoCommonMuxer => (Some(Stage::Muxer), UpgradeErrorKind::NoCommonMuxer),
            tls::Error::Closed | tls::Error::Truncated => (None, UpgradeErrorKind::Closed),
            tls::Error::Io(error) => return Self::broke(error),
            // A client hears of it in the second negotiation; what was refused is the handshake before it.
            tls::Error::Refused(_) => (Some(Stage::Security), UpgradeErrorKind::Tls(error)),
            error => (None, UpgradeErrorKind::Tls(error)),
        };
        Self { stage, fault, kind }
    }
}

#[cfg(feature = "quic")]
impl From<quic::Failure> for Failure {
    fn from(failure: quic::Failure) -> Self {
        match failure {
            quic::Failure::Tls(error) => error.into(),
            quic::Failure::Quic(error) => Self::new(error.fault(), UpgradeErrorKind::Quic(error)),
            quic::Failure::Closed => Self::new(Fault::Remote, UpgradeErrorKind::Closed),
            quic::Failure::TimedOut => Self::new(Fault::Network, UpgradeErrorKind::Timeout),
        }
    }
}

impl From<budget::Exhausted> for Failure {
    fn from(exhausted: budget::Exhausted) -> Self {
        Self::new(Fault::Local, UpgradeErrorKind::NoMemory(exhausted))
    }
}

impl From<plaintext::Error> for Failure {
    fn from(error: plaintext::Error) -> Self {
        let fault = error.fault();
        let kind = match error {
            plaintext::Error::WrongPeer { expected, found } => {
                UpgradeErrorKind::WrongPeer { expected, found }
            }
            plaintext::Error::Closed => UpgradeErrorKind::Closed,
            plaintext::Error::Io(error) => return Self::broke(error),
            error => UpgradeErrorKind::Plaintext(error),
        };
        Self::new(fault, kind)
    }
}
