//! Which foreign peers there are.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::plan::{Key, Muxer, Security, Setup, Transport};

/// A foreign peer.
#[derive(Debug, PartialEq)]
pub(crate) struct Peer {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Its directory among the peers.
    dir: &'static str,
    /// Arguments beside those that all take.
    args: &'static [&'static str],
    /// Types of keys that its library does not have. It then takes part with one of Ed25519, and meets ours of this type.
    lacks: &'static [Key],
    /// Transports over which its library does not tell from where it sees others come.
    silent: &'static [Transport],
    /// Whether one setup says all that it is for.
    once: bool,
    /// Whether it is in a browser: it only dials, and not over everything.
    browser: bool,
    /// Programs that building or running it takes; of each group, one is enough.
    needs: &'static [&'static [&'static str]],
    /// What to install if one is missing.
    install: &'static str,
}

const GO: Peer = Peer {
    name: "go",
    dir: "go",
    args: &[],
    lacks: &[],
    silent: &[],
    once: false,
    browser: false,
    needs: &[&["go"]],
    install: "Go 1.26 or newer",
};
const JS: Peer = Peer {
    name: "js",
    dir: "js",
    args: &[],
    lacks: &[Key::Ecdsa],
    silent: &[],
    once: false,
    browser: false,
    needs: &[&["node"], &["npm"]],
    install: "Node 20 or newer with npm",
};
const PY: Peer = Peer {
    name: "py",
    dir: "py",
    args: &[],
    lacks: &[Key::Ecdsa],
    silent: &[Transport::Ws, Transport::Wss, Transport::WebRtc],
    once: false,
    browser: false,
    needs: &[&["python3.11", "python3"], &["cc", "gcc"]],
    install: "Python 3.11 with venv, its headers and those of GMP, and a C compiler \
              (Debian: python3-venv python3-dev libgmp-dev gcc)",
};
const RUST: Peer = Peer {
    name: "rust",
    dir: "rust",
    args: &[],
    lacks: &[],
    silent: &[],
    once: false,
    browser: false,
    needs: &[&["cargo"]],
    install: "Rust 1.88 or newer",
};
/// It signs its record in a form of its own, which costs js-libp2p the whole of identify.
const RUST_SIGNED: Peer = Peer { name: "rust-signed", args: &["--signed-record"], once: true, ..RUST };
/// js-libp2p where most of it runs.
const CHROMIUM: Peer = Peer {
    name: "chromium",
    dir: "browser",
    browser: true,
    needs: &[&["node"], &["npm"], &["chromium", "chromium-browser", "google-chrome"]],
    install: "Node 20 or newer with npm, and Chromium (Debian: chromium)",
    ..JS
};

/// All of them, in the order of the table.
pub(crate) const ALL: [Peer; 6] = [GO, JS, CHROMIUM, PY, RUST, RUST_SIGNED];

/// The peer of a name.
pub(crate) fn find(name: &str) -> Option<&'static Peer> {
    ALL.iter().find(|peer| peer.name == name)
}

impl Peer {
    /// Its directory.
    pub(crate) fn dir(&self, peers: &Path) -> PathBuf {
        peers.join(self.dir)
    }

    /// Whether it takes part in this setup.
    pub(crate) fn takes(&self, setup: Setup) -> bool {
        let one = Setup::upgraded(Transport::Tcp, Security::Noise, Muxer::Yamux, Key::Ed25519);
        (!self.once || setup == one) && (!self.browser || is_in_browsers(setup))
    }

    /// Whether it can be dialed.
    pub(crate) fn listens(&self) -> bool {
        !self.browser
    }

    /// Whether it tells from where it sees us come.
    pub(crate) fn tells_observed(&self, setup: Setup) -> bool {
        !self.silent.contains(&setup.transport)
    }

    /// The arguments that make it speak so.
    pub(crate) fn arguments(&self, setup: Setup) -> Vec<&'static str> {
        let key = if self.lacks.contains(&setup.key) { Key::Ed25519 } else { setup.key };
        let mut words = vec!["--transport", setup.transport.word(), "--key-type", key.word()];
        words.extend(setup.security.into_iter().flat_map(|security| ["--security", security.word()]));
        words.extend(setup.muxer.into_iter().flat_map(|muxer| ["--muxer", muxer.word()]));
        words.extend(self.args);
        words
    }

    /// Whether both are made by the same build.
    pub(crate) fn same_program(&self, other: &Self) -> bool {
        self.dir == other.dir
    }

    /// What to install to build and run it, if something is missing.
    pub(crate) fn missing(&self) -> Option<String> {
        self.missing_in(&env::var_os("PATH").unwrap_or_default())
    }

    fn missing_in(&self, path: &std::ffi::OsStr) -> Option<String> {
        let there = |program: &&str| env::split_paths(path).any(|dir| dir.join(program).is_file());
        let missing: Vec<String> =
            self.needs.iter().filter(|any| !any.iter().any(there)).map(|any| any.join(" or ")).collect();
        if missing.is_empty() {
            return None;
        }
        Some(format!(
            "{} is not installed; the {} peer needs {}",
            missing.join(", "),
            self.name,
            self.install
        ))
    }

    /// What a failed build may come from.
    pub(crate) fn install(&self) -> &'static str {
        self.install
    }
}

/// What a page has: what its browser carries, and of the rest the one that everybody has.
fn is_in_browsers(setup: Setup) -> bool {
    matches!(setup.transport, Transport::Ws | Transport::Wss | Transport::WebRtc)
        && setup.security.is_none_or(|security| security == Security::Noise)
        && setup.muxer.is_none_or(|muxer| muxer == Muxer::Yamux)
        && setup.key == Key::Ed25519
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_toolchain_is_named() {
        let missing = JS.missing_in("/nonexistent".as_ref()).unwrap();
        assert_eq!(missing, "node, npm is not installed; the js peer needs Node 20 or newer with npm");
        assert!(PY.missing_in("".as_ref()).unwrap().starts_with("python3.11 or python3, cc or gcc is not"));
    }

    #[test]
    fn names_find_peers() {
        assert!(ALL.iter().all(|peer| find(peer.name).is_some_and(|found| found.name == peer.name)));
        assert!(find("nim").is_none());
        assert!(RUST.same_program(&RUST_SIGNED) && !RUST.same_program(&GO) && !JS.same_program(&CHROMIUM));
    }

    #[test]
    fn arguments_name_all_that_is_spoken() {
        let setup = Setup::upgraded(Transport::Ws, Security::Tls, Muxer::Yamux, Key::Ecdsa);
        assert_eq!(
            GO.arguments(setup).join(" "),
            "--transport ws --key-type ecdsa --security tls --muxer yamux"
        );
        assert!(PY.arguments(setup).contains(&"ed25519"));
        assert!(RUST_SIGNED.arguments(setup).ends_with(&["yamux", "--signed-record"]));
        let setup = Setup::standalone(Transport::Quic, Key::Rsa);
        assert_eq!(JS.arguments(setup).join(" "), "--transport quic-v1 --key-type rsa");
    }
}
