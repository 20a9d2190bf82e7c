//! What is tested: which peers, over which protocols, with which identities, in which steps.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::peers::Peer;

/// Makes an enum of words, as the command lines and the table say them.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$of])* $variant),* }

        impl $name {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];
            pub(crate) const WORDS: &[&str] = &[$($word),*];

            pub(crate) const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().copied().find(|one| one.word() == word);
                found.ok_or_else(|| format!("{word} is none of {}", Self::WORDS.join(", ")))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }
    };
}

pub(crate) use words;

words! {
    /// What carries bytes, and where it brings its own security and muxer, those too.
    Transport {
        Tcp = "tcp",
        Ws = "ws",
        Wss = "wss",
        Quic = "quic-v1",
        WebRtc = "webrtc-direct",
    }
}
words! {
    /// Who encrypts.
    Security { Noise = "noise", Tls = "tls" }
}
words! {
    /// Who makes streams.
    Muxer { Yamux = "yamux", Mplex = "mplex" }
}
words! {
    /// The type of an identity's key, on both sides.
    Key { Ed25519 = "ed25519", Secp256k1 = "secp256k1", Ecdsa = "ecdsa", Rsa = "rsa" }
}
words! {
    /// Who dials.
    Direction {
        /// Our node dials the foreign peer.
        WeDial = "we-dial",
        /// The foreign peer dials our node.
        TheyDial = "they-dial",
    }
}

impl Transport {
    /// Where one listens, so that the system picks the port.
    pub(crate) const fn listen(self) -> &'static str {
        match self {
            Self::Tcp => "/ip4/127.0.0.1/tcp/0",
            Self::Ws => "/ip4/127.0.0.1/tcp/0/ws",
            Self::Wss => "/ip4/127.0.0.1/tcp/0/tls/ws",
            Self::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
            Self::WebRtc => "/ip4/127.0.0.1/udp/0/webrtc-direct",
        }
    }
}

/// What two peers speak, and with keys of which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Setup {
    pub(crate) transport: Transport,
    /// `None` where the transport brings its own.
    pub(crate) security: Option<Security>,
    /// As for the security.
    pub(crate) muxer: Option<Muxer>,
    pub(crate) key: Key,
}

impl Setup {
    /// A transport that has to be upgraded.
    pub(crate) const fn upgraded(transport: Transport, security: Security, muxer: Muxer, key: Key) -> Self {
        Self { transport, security: Some(security), muxer: Some(muxer), key }
    }

    /// A transport that brings its own security and muxer.
    pub(crate) const fn standalone(transport: Transport, key: Key) -> Self {
        Self { transport, security: None, muxer: None, key }
    }

    /// Its words, a dash for what it does not have.
    pub(crate) fn words(self) -> [&'static str; 4] {
        let (security, muxer) = (self.security.map(Security::word), self.muxer.map(Muxer::word));
        [self.transport.word(), security.unwrap_or("-"), muxer.unwrap_or("-"), self.key.word()]
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words().into_iter().filter(|word| *word != "-");
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

/// All steps, in order. Most are the dialer's; `identified` is what the listener sees, and `end` how both end.
pub(crate) const STEPS: [&str; 13] = [
    "dial",
    "ping",
    "identify",
    "identified",
    "echo-64k",
    "echo-4m",
    "perf",
    "many",
    "callback",
    "ping-back",
    "push",
    "pushed",
    "end",
];
/// mplex has no flow control: whoever sends much over it kills streams, as its specification says.
const MPLEX_STEPS: &[&str] = &["dial", "ping", "identify", "identified", "echo-64k", "end"];
/// What may depend on the type of a key: who somebody is, and signed records.
const KEY_STEPS: &[&str] =
    &["dial", "ping", "identify", "identified", "echo-64k", "callback", "push", "pushed", "end"];

impl Setup {
    /// The steps that are taken over it.
    pub(crate) fn steps(self) -> &'static [&'static str] {
        match (self.muxer, self.key) {
            (Some(Muxer::Mplex), _) => MPLEX_STEPS,
            (_, Key::Ed25519) => &STEPS,
            (_, _) => KEY_STEPS,
        }
    }
}

/// What of all there is was asked for; what is empty asks for everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) directions: Vec<Direction>,
    pub(crate) transports: Vec<Transport>,
    pub(crate) securities: Vec<Security>,
    pub(crate) muxers: Vec<Muxer>,
    pub(crate) keys: Vec<Key>,
}

impl Filter {
    fn admits(&self, direction: Direction, setup: Setup) -> bool {
        fn one<T: PartialEq>(asked: &[T], it: Option<T>) -> bool {
            asked.is_empty() || it.is_some_and(|it| asked.contains(&it))
        }
        one(&self.directions, Some(direction))
            && one(&self.transports, Some(setup.transport))
            && one(&self.securities, setup.security)
            && one(&self.muxers, setup.muxer)
            && one(&self.keys, Some(setup.key))
    }
}

/// All that is spoken.
///
/// Over TCP every security meets every muxer, and every type of key every security. WebSocket carries the same
/// handshakes, so there it is enough that each can be carried; wss differs from ws below all of them. QUIC has its keys in
/// a certificate, of which one of RSA is too long for what a server may send to an address it does not know yet.
fn setups() -> Vec<Setup> {
    use Transport::{Quic, Tcp, WebRtc, Ws, Wss};
    let mut setups = Vec::new();
    for &key in Key::ALL {
        for &muxer in Muxer::ALL {
            for &security in Security::ALL {
                if muxer == Muxer::Yamux || key == Key::Ed25519 {
                    setups.push(Setup::upgraded(Tcp, security, muxer, key));
                }
            }
        }
    }
    for (transport, security, muxer) in [
        (Ws, Security::Noise, Muxer::Yamux),
        (Ws, Security::Tls, Muxer::Yamux),
        (Ws, Security::Noise, Muxer::Mplex),
        (Wss, Security::Noise, Muxer::Yamux),
        (Wss, Security::Tls, Muxer::Yamux),
    ] {
        setups.push(Setup::upgraded(transport, security, muxer, Key::Ed25519));
    }
    for (transport, key) in [(Quic, Key::Ed25519), (Quic, Key::Rsa), (WebRtc, Key::Ed25519)] {
        setups.push(Setup::standalone(transport, key));
    }
    setups
}

/// What fails by chance between foreign peers as well, at another step each time: a run that has to be green cannot tell
/// whose failure it is. Only who names the transport gets these rows.
pub(crate) const BY_CHANCE: &[(&str, Transport, &str)] = &[
    ("py", Transport::Quic, "QUIC of py-libp2p cuts streams short and loses openings, with go-libp2p too"),
    ("py", Transport::WebRtc, "WebRTC of py-libp2p drops messages and stalls, with go-libp2p too"),
];

/// The rows: all that is spoken, with each peer that has it, in both directions.
pub(crate) fn rows(peers: &[&'static Peer], filter: &Filter) -> Vec<(&'static Peer, Direction, Setup)> {
    let mut rows = Vec::new();
    for peer in peers {
        for &direction in Direction::ALL {
            if direction == Direction::WeDial && !peer.listens() {
                continue;
            }
            for setup in setups() {
                let by_chance = |(name, transport, _): &(&str, Transport, &str)| {
                    *name == peer.name && *transport == setup.transport
                };
                if filter.transports.is_empty() && BY_CHANCE.iter().any(by_chance) {
                    continue;
                }
                if peer.takes(setup) && filter.admits(direction, setup) {
                    rows.push((*peer, direction, setup));
                }
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers;

    #[test]
    fn every_cell_that_has_to_be() {
        let go = [peers::find("go").unwrap()];
        let all = rows(&go, &Filter::default());
        assert_eq!(all.len(), 2 * ((4 + 2 * 3) + 3 + 2 + 2 + 1));
        for &direction in Direction::ALL {
            let has = |setup| all.contains(&(go[0], direction, setup));
            for &security in Security::ALL {
                let tcp = |muxer, key| has(Setup::upgraded(Transport::Tcp, security, muxer, key));
                assert!(Muxer::ALL.iter().all(|muxer| tcp(*muxer, Key::Ed25519)));
                assert!(Key::ALL.iter().all(|key| tcp(Muxer::Yamux, *key)));
                for transport in [Transport::Ws, Transport::Wss] {
                    assert!(has(Setup::upgraded(transport, security, Muxer::Yamux, Key::Ed25519)));
                }
            }
            for transport in [Transport::Quic, Transport::WebRtc] {
                assert!(has(Setup::standalone(transport, Key::Ed25519)));
            }
        }
        let chromium = rows(&[peers::find("chromium").unwrap()], &Filter::default());
        let words: Vec<String> = chromium.iter().map(|(_, way, setup)| format!("{way} {setup}")).collect();
        assert_eq!(
            words,
            [
                "they-dial ws noise yamux ed25519",
                "they-dial wss noise yamux ed25519",
                "they-dial webrtc-direct ed25519"
            ]
        );
        let signed = rows(&[peers::find("rust-signed").unwrap()], &Filter::default());
        assert_eq!(signed.len(), 2, "the record does not depend on what it travels over");
    }

    #[test]
    fn filters() {
        let go = [peers::find("go").unwrap()];
        let filter = Filter { keys: vec![Key::Rsa], securities: vec![Security::Tls], ..Filter::default() };
        let setup = Setup::upgraded(Transport::Tcp, Security::Tls, Muxer::Yamux, Key::Rsa);
        assert_eq!(
            rows(&go, &filter),
            [(go[0], Direction::WeDial, setup), (go[0], Direction::TheyDial, setup)],
            "who asks for a security does not want transports that have none to choose"
        );
        let filter = Filter { directions: vec![Direction::WeDial], ..filter };
        assert_eq!(rows(&go, &filter).len(), 1);
        let filter = Filter { transports: vec![Transport::Quic, Transport::Wss], ..Filter::default() };
        assert_eq!(rows(&go, &filter).len(), 8);
    }

    #[test]
    fn steps_of_each_setup_are_steps_in_their_order() {
        for steps in [MPLEX_STEPS, KEY_STEPS] {
            let known: Vec<&str> = STEPS.into_iter().filter(|step| steps.contains(step)).collect();
            assert_eq!(known, steps);
        }
    }

    #[test]
    fn words() {
        assert_eq!("tls".parse(), Ok(Security::Tls));
        assert_eq!("dsa".parse::<Key>(), Err("dsa is none of ed25519, secp256k1, ecdsa, rsa".to_owned()));
        let setup = Setup::upgraded(Transport::Ws, Security::Tls, Muxer::Mplex, Key::Rsa);
        assert_eq!(setup.to_string(), "ws tls mplex rsa");
        let setup = Setup::standalone(Transport::Quic, Key::Rsa);
        assert_eq!(
            (setup.to_string().as_str(), setup.words()),
            ("quic-v1 rsa", ["quic-v1", "-", "-", "rsa"])
        );
    }
}
