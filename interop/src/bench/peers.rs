//! Who is measured.

use std::{
    env,
    path::{Path, PathBuf},
};

use bench_peer::Measure;

/// A program in `interop/bench`.
#[derive(Debug, PartialEq)]
pub(crate) struct Peer {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Its name in tables.
    pub(crate) label: &'static str,
    /// Its directory.
    dir: &'static str,
    /// How many idle connections are held by it, at most: some take their time to open them.
    pub(crate) idle: usize,
    /// Whether it gossips.
    gossips: bool,
    /// Whether it takes what happens to streams in a crowd: the programs in Rust do.
    crowds: bool,
    /// Programs that building or running it takes; of each group, one is enough.
    needs: &'static [&'static [&'static str]],
    /// What to install if one is missing.
    pub(crate) install: &'static str,
}

const RUST: &[&[&str]] = &[&["cargo"]];

pub(crate) const OURS: Peer = Peer {
    name: "peerage",
    label: "peerage",
    dir: "peerage",
    idle: 1000,
    gossips: true,
    crowds: true,
    needs: RUST,
    install: "Rust 1.95 or newer",
};
/// What the machine can do.
pub(crate) const RAW: Peer = Peer { name: "raw", label: "limit", dir: "raw", gossips: false, ..OURS };

/// With whom this library is compared.
pub(crate) const OTHERS: [Peer; 5] = [
    Peer { name: "rust", label: "rust-libp2p", dir: "rust-libp2p", install: "Rust 1.88 or newer", ..OURS },
    Peer {
        name: "litep2p",
        label: "litep2p",
        dir: "litep2p",
        gossips: false,
        needs: &[&["cargo"], &["protoc"]],
        install: "Rust 1.88 or newer, and protoc (Debian: protobuf-compiler)",
        ..OURS
    },
    Peer {
        name: "go",
        label: "go-libp2p",
        dir: "go",
        gossips: false,
        crowds: false,
        idle: 1000,
        needs: &[&["go"]],
        install: "Go 1.26 or newer",
    },
    Peer {
        name: "js",
        label: "js-libp2p",
        dir: "js",
        gossips: false,
        crowds: false,
        idle: 300,
        needs: &[&["node"], &["npm"]],
        install: "Node 20 or newer with npm",
    },
    Peer {
        name: "py",
        label: "py-libp2p",
        dir: "py",
        gossips: false,
        crowds: false,
        idle: 100,
        needs: &[&["python3.11", "python3"], &["cc", "gcc"]],
        install: "Python 3.11 with venv, its headers and those of GMP, and a C compiler",
    },
];

/// The one of this name.
pub(crate) fn find(name: &str) -> Option<&'static Peer> {
    OTHERS.iter().find(|peer| peer.name == name)
}

impl Peer {
    /// Whether it can take a measure at all. A socket that is idle takes memory of the kernel alone, and has no streams that
    /// share it: that is no limit of anything. Nobody else sends anything ahead of a handshake.
    pub(crate) fn takes(&self, measure: Measure) -> bool {
        let crowd =
            matches!(measure, Measure::PingApart | Measure::PingBusy | Measure::Share | Measure::Saturated);
        (self.gossips || !measure.is_gossip())
            && (self.crowds || !crowd)
            && !(*self == RAW && (measure == Measure::Idle || crowd))
            && (*self == OURS || measure != Measure::Early)
    }

    /// One of its scripts.
    pub(crate) fn script(&self, dir: &Path, name: &str) -> PathBuf {
        dir.join(self.dir).join(name)
    }

    /// What to install to build and run it, if something is missing.
    pub(crate) fn missing(&self) -> Option<String> {
        let path = env::var_os("PATH").unwrap_or_default();
        let there = |program: &&str| env::split_paths(&path).any(|dir| dir.join(program).is_file());
        let all = self.needs.iter().all(|any| any.iter().any(there));
        (!all).then(|| format!("{} needs {}", self.label, self.install))
    }
}
