use std::{fmt, str::FromStr, time::Duration};

use peerage_core::ProtocolId;
#[cfg(feature = "mplex")]
use peerage_muxer::mplex;
use peerage_muxer::yamux;
use peerage_security::{noise, plaintext, pnet::PreSharedKey, tls};

/// How long a whole upgrade may take: security, muxer, and the choice of both. go allows 15 s, js 10 s.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// A security protocol.
///
/// ```
/// use peerage_transport::upgrade::Security;
/// assert_eq!("noise".parse(), Ok(Security::Noise));
/// assert_eq!(Security::Noise.to_string(), "noise");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Security {
    /// `/noise`: Noise XX with Curve25519, ChaCha20-Poly1305 and SHA-256.
    Noise,
    /// `/tls/1.0.0`: TLS 1.3 with the peer's identity in the certificate.
    Tls,
    /// `/plaintext/2.0.0`: no encryption, and no proof of who is there. For tests. It is offered and accepted only
    /// where it is the only one: beside another it would be what an attacker negotiates.
    Plaintext,
}

impl Security {
    /// Every one there is, the preferred first.
    pub const ALL: &'static [Self] = &[Self::Noise, Self::Tls, Self::Plaintext];

    /// Those that secure something, the preferred first. noise comes first because every implementation has it: a
    /// dialer that proposes it loses no round trip to a refusal.
    pub const DEFAULT: &'static [Self] = &[Self::Noise, Self::Tls];

    /// What it is called on the wire.
    pub const fn protocol(self) -> ProtocolId {
        match self {
            Self::Noise => noise::PROTOCOL,
            Self::Tls => tls::PROTOCOL,
            Self::Plaintext => plaintext::PROTOCOL,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Tls => "tls",
            Self::Plaintext => "plaintext",
        }
    }
}

/// A stream multiplexer.
///
/// ```
/// use peerage_transport::upgrade::MuxerKind;
/// assert_eq!("yamux".parse(), Ok(MuxerKind::Yamux));
/// assert_eq!(MuxerKind::Yamux.to_string(), "yamux");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MuxerKind {
    /// `/yamux/1.0.0`.
    Yamux,
    /// `/mplex/6.7.0`: [deprecated](mplex), for peers that have nothing else; never offered unless it is asked for. Feature
    /// `mplex`.
    #[cfg(feature = "mplex")]
    Mplex,
    /// yamux on the `yamux` crate, to compare the two; never offered unless it is asked for. Feature `yamux-crate`.
    #[cfg(feature = "yamux-crate")]
    YamuxCrate,
}

impl MuxerKind {
    /// Every protocol that is offered unless others are asked for, the preferred first.
    pub const ALL: &'static [Self] = &[Self::Yamux];

    /// Beside [`Self::ALL`], what has to be asked for by name.
    const OTHERS: &'static [Self] = &[
        #[cfg(feature = "mplex")]
        Self::Mplex,
        #[cfg(feature = "yamux-crate")]
        Self::YamuxCrate,
    ];

    /// What it is called on the wire.
    pub const fn protocol(self) -> ProtocolId {
        match self {
            Self::Yamux => ProtocolId::from_static(yamux::PROTOCOL),
            #[cfg(feature = "yamux-crate")]
            Self::YamuxCrate => ProtocolId::from_static(yamux::PROTOCOL),
            #[cfg(feature = "mplex")]
            Self::Mplex => ProtocolId::from_static(mplex::PROTOCOL),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Yamux => "yamux",
            #[cfg(feature = "mplex")]
            Self::Mplex => "mplex",
            #[cfg(feature = "yamux-crate")]
            Self::YamuxCrate => "yamux-crate",
        }
    }
}

/// A name that stands for no security protocol, or no muxer, of this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown name; known: {known}")]
pub struct UnknownName {
    known: String,
}

impl FromStr for Security {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        find(Self::ALL.iter().copied(), Self::name, name)
    }
}

impl FromStr for MuxerKind {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        find(Self::ALL.iter().chain(Self::OTHERS).copied(), Self::name, name)
    }
}

fn find<T: Copy>(
    known: impl Iterator<Item = T> + Clone,
    name_of: fn(T) -> &'static str,
    name: &str,
) -> Result<T, UnknownName> {
    let unknown = || UnknownName { known: known.clone().map(name_of).collect::<Vec<_>>().join(", ") };
    known.clone().find(|one| name_of(*one) == name).ok_or_else(unknown)
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for MuxerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What an [`Upgrader`](super::Upgrader) offers and accepts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Security protocols, the preferred first. Default: [`Security::DEFAULT`]. With none, every upgrade fails.
    /// [`Security::Plaintext`] counts only if it is the only one.
    pub security: Vec<Security>,
    /// Muxers, the preferred first. Default: [`MuxerKind::ALL`]. With none, every upgrade fails.
    pub muxers: Vec<MuxerKind>,
    /// How TLS agrees on keys. Default: the hybrid of X25519 and ML-KEM first.
    pub key_exchange: tls::KeyExchange,
    /// The key of the private network that all connections belong to. With one, nothing is said before it is encrypted
    /// with it, and links that come secured are refused. Default: none, the public network.
    pub private_network: Option<PreSharedKey>,
    /// How long a whole upgrade may take, counted from its start; the options of one upgrade may shorten it.
    /// Default: [`TIMEOUT`].
    pub timeout: Duration,
    /// Limits of every yamux connection.
    pub yamux: yamux::Config,
    /// Limits of every mplex connection.
    #[cfg(feature = "mplex")]
    pub mplex: mplex::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            security: Security::DEFAULT.to_vec(),
            muxers: MuxerKind::ALL.to_vec(),
            key_exchange: tls::KeyExchange::default(),
            private_network: None,
            timeout: TIMEOUT,
            yamux: yamux::Config::default(),
            #[cfg(feature = "mplex")]
            mplex: mplex::Config::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for one in Security::ALL {
            assert_eq!(one.to_string().parse(), Ok(*one));
        }
        for one in MuxerKind::ALL.iter().chain(MuxerKind::OTHERS) {
            assert_eq!(one.to_string().parse(), Ok(*one));
        }
        let error = "rot13".parse::<Security>().unwrap_err();
        assert_eq!(error.to_string(), "unknown name; known: noise, tls, plaintext");
        assert_eq!(
            "Yamux".parse::<MuxerKind>().unwrap_err().to_string(),
            "unknown name; known: yamux, mplex, yamux-crate"
        );
    }
}
