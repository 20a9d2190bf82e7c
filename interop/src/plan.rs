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

/// What two peers speak, and with keys of which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Setup {
    pub(crate) security: Security,
    pub(crate) muxer: Muxer,
    pub(crate) key: Key,
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:5} {:5} {:9}", self.security, self.muxer, self.key)
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
            (Muxer::Mplex, _) => MPLEX_STEPS,
            (Muxer::Yamux, Key::Ed25519) => &STEPS,
            (Muxer::Yamux, _) => KEY_STEPS,
        }
    }
}

/// What of all there is was asked for; what is empty asks for everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) directions: Vec<Direction>,
    pub(crate) securities: Vec<Security>,
    pub(crate) muxers: Vec<Muxer>,
    pub(crate) keys: Vec<Key>,
}

impl Filter {
    fn admits(&self, direction: Direction, setup: Setup) -> bool {
        fn one<T: PartialEq>(asked: &[T], it: T) -> bool {
            asked.is_empty() || asked.contains(&it)
        }
        one(&self.directions, direction)
            && one(&self.securities, setup.security)
            && one(&self.muxers, setup.muxer)
            && one(&self.keys, setup.key)
    }
}

/// The rows: every security with every muxer, and every type of key over each security with yamux.
pub(crate) fn rows(peers: &[&'static Peer], filter: &Filter) -> Vec<(&'static Peer, Direction, Setup)> {
    let mut rows = Vec::new();
    for peer in peers {
        for &direction in Direction::ALL {
            for &key in Key::ALL {
                for &muxer in Muxer::ALL {
                    for &security in Security::ALL {
                        let setup = Setup { security, muxer, key };
                        let told_apart = muxer == Muxer::Yamux || key == Key::Ed25519;
                        if told_apart && peer.takes(setup) && filter.admits(direction, setup) {
                            rows.push((*peer, direction, setup));
                        }
                    }
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
        assert_eq!(all.len(), 2 * (4 + 2 * 3));
        for &direction in Direction::ALL {
            for &security in Security::ALL {
                let has = |muxer, key| all.contains(&(go[0], direction, Setup { security, muxer, key }));
                assert!(Muxer::ALL.iter().all(|muxer| has(*muxer, Key::Ed25519)));
                assert!(Key::ALL.iter().all(|key| has(Muxer::Yamux, *key)));
            }
        }
        let signed = rows(&[peers::find("rust-signed").unwrap()], &Filter::default());
        assert_eq!(signed.len(), 2, "the record does not depend on what it travels over");
    }

    #[test]
    fn filters() {
        let go = [peers::find("go").unwrap()];
        let filter = Filter { keys: vec![Key::Rsa], securities: vec![Security::Tls], ..Filter::default() };
        let setup = Setup { security: Security::Tls, muxer: Muxer::Yamux, key: Key::Rsa };
        assert_eq!(
            rows(&go, &filter),
            [(go[0], Direction::WeDial, setup), (go[0], Direction::TheyDial, setup)]
        );
        let filter = Filter { directions: vec![Direction::WeDial], ..filter };
        assert_eq!(rows(&go, &filter).len(), 1);
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
        let setup = Setup { security: Security::Tls, muxer: Muxer::Mplex, key: Key::Rsa };
        assert_eq!(format!("[{setup}]"), "[tls   mplex rsa      ]");
    }
}
