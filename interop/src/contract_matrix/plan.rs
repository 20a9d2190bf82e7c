//! Which tests there are: as in the suites, every dialer with every listener, over all that both of them have.

use serde::Serialize;

use crate::peers::{self, Peer};

/// What our own program is called.
pub(super) const OURS: &str = "peerage";

/// Whose words the environment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Contract {
    /// `transport/` of `libp2p/unified-testing`.
    Unified,
    /// `transport-interop/` of `libp2p/test-plans`.
    TestPlans,
    /// `perf/` of `libp2p/unified-testing`.
    Perf,
}

impl Contract {
    pub(super) const WORDS: &[&str] = &["unified", "test-plans", "perf"];
    const ALL: [Self; 3] = [Self::Unified, Self::TestPlans, Self::Perf];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unified => "unified",
            Self::TestPlans => "test-plans",
            Self::Perf => "perf",
        }
    }
}

/// A program that obeys the contracts, and what it has.
struct Program {
    name: &'static str,
    transports: &'static [&'static str],
    /// What it only dials over.
    dial_only: &'static [&'static str],
    securities: &'static [&'static str],
    muxers: &'static [&'static str],
    /// Whether it measures as a dialer, too; else it is only measured.
    measures: bool,
}

pub(super) const TRANSPORTS: &[&str] = &["tcp", "ws", "wss", "quic-v1", "webrtc-direct"];
/// They bring their own security and streams.
const STANDALONE: &[&str] = &["quic-v1", "webrtc-direct"];
const SECURITIES: &[&str] = &["noise", "tls"];
const MUXERS: &[&str] = &["yamux", "mplex"];

pub(super) const NAMES: &[&str] = &[OURS, "go", "js", "py", "rust"];
/// The first is ours.
const PROGRAMS: [Program; 5] = [
    Program {
        name: OURS,
        transports: TRANSPORTS,
        dial_only: &[],
        securities: SECURITIES,
        muxers: MUXERS,
        measures: true,
    },
    Program {
        name: "go",
        transports: TRANSPORTS,
        dial_only: &[],
        securities: SECURITIES,
        muxers: MUXERS,
        measures: false,
    },
    // It has no certificate of its own to listen with.
    Program {
        name: "js",
        transports: TRANSPORTS,
        dial_only: &["wss"],
        securities: SECURITIES,
        muxers: MUXERS,
        measures: true,
    },
    Program {
        name: "py",
        transports: TRANSPORTS,
        dial_only: &[],
        securities: SECURITIES,
        muxers: MUXERS,
        measures: false,
    },
    // Its WebSocket trusts nobody whose certificate it does not know.
    Program {
        name: "rust",
        transports: &["tcp", "ws", "quic-v1", "webrtc-direct"],
        dial_only: &[],
        securities: SECURITIES,
        muxers: MUXERS,
        measures: false,
    },
];

/// One test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Test {
    pub(super) contract: Contract,
    pub(super) dialer: &'static str,
    pub(super) listener: &'static str,
    pub(super) transport: &'static str,
    pub(super) security: Option<&'static str>,
    pub(super) muxer: Option<&'static str>,
}

impl Test {
    /// What it is spoken over.
    pub(super) fn stack(&self) -> String {
        match (self.security, self.muxer) {
            (Some(security), Some(muxer)) => format!("{security}+{muxer}"),
            _ => "alone".to_owned(),
        }
    }

    pub(super) fn label(&self) -> String {
        let Self { contract, dialer, listener, transport, .. } = self;
        format!("{} {dialer} -> {listener} {transport} {}", contract.word(), self.stack())
    }
}

/// What was asked for; what is empty asks for everything.
#[derive(Default)]
pub(crate) struct Filter {
    pub(crate) peers: Vec<String>,
    pub(crate) contracts: Vec<String>,
    pub(crate) transports: Vec<String>,
}

/// The foreign peers that take part.
pub(crate) fn foreign(filter: &Filter) -> Vec<&'static Peer> {
    let names = PROGRAMS.iter().map(|program| program.name).filter(|name| admits(&filter.peers, name));
    names.filter_map(peers::find).collect()
}

/// All tests with us at one end or at both.
pub(super) fn tests(filter: &Filter) -> Vec<Test> {
    let [ours, ..] = &PROGRAMS;
    let mut tests = Vec::new();
    for contract in Contract::ALL.into_iter().filter(|one| admits(&filter.contracts, one.word())) {
        for other in PROGRAMS.iter().filter(|program| admits(&filter.peers, program.name)) {
            pair(&mut tests, contract, ours, other);
            if other.name != OURS && (other.measures || contract != Contract::Perf) {
                pair(&mut tests, contract, other, ours);
            }
        }
    }
    tests.retain(|test| admits(&filter.transports, test.transport));
    tests
}

fn admits(asked: &[String], it: &str) -> bool {
    asked.is_empty() || asked.iter().any(|one| one == it)
}

fn pair(tests: &mut Vec<Test>, contract: Contract, dialer: &Program, listener: &Program) {
    let (dialer_name, listener_name) = (dialer.name, listener.name);
    let test = |transport, security, muxer| Test {
        contract,
        dialer: dialer_name,
        listener: listener_name,
        transport,
        security,
        muxer,
    };
    for transport in common(dialer.transports, listener.transports) {
        if listener.dial_only.contains(&transport) {
            continue;
        }
        if STANDALONE.contains(&transport) {
            tests.push(test(transport, None, None));
            continue;
        }
        for security in common(dialer.securities, listener.securities) {
            for muxer in common(dialer.muxers, listener.muxers) {
                // The stacks are the same in every contract. mplex, without flow control, is not for measurements.
                let first = (security, muxer) == ("noise", "yamux");
                if first || contract == Contract::Unified {
                    tests.push(test(transport, Some(security), Some(muxer)));
                }
            }
        }
    }
}

fn common(one: &'static [&'static str], other: &[&str]) -> impl Iterator<Item = &'static str> {
    one.iter().copied().filter(move |word| other.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stack_that_both_have_in_both_directions() {
        let all = tests(&Filter::default());
        let has = |label: &str| all.iter().any(|test| test.label() == label);
        for label in [
            "unified peerage -> peerage tcp noise+yamux",
            "unified go -> peerage webrtc-direct alone",
            "unified peerage -> go quic-v1 alone",
            "unified js -> peerage wss tls+mplex",
            "test-plans py -> peerage ws noise+yamux",
            "perf peerage -> rust tcp noise+yamux",
        ] {
            assert!(has(label), "{label}");
        }
        assert!(!all.iter().any(|test| (test.listener, test.transport) == ("js", "wss")));
        assert!(all.iter().all(|test| test.dialer == OURS || test.listener == OURS));
        let measures =
            |dialer| all.iter().any(|test| test.contract == Contract::Perf && test.dialer == dialer);
        assert!(measures("js") && !["go", "py", "rust"].into_iter().any(measures));
        let twice = all.iter().filter(|test| all.iter().filter(|other| other == test).count() > 1);
        assert_eq!(twice.count(), 0);
    }

    #[test]
    fn filters() {
        let word = |word: &str| vec![word.to_owned()];
        let filter = Filter { peers: word("go"), contracts: word("test-plans"), transports: word("ws") };
        let labels: Vec<String> = tests(&filter).iter().map(Test::label).collect();
        assert_eq!(
            labels,
            ["test-plans peerage -> go ws noise+yamux", "test-plans go -> peerage ws noise+yamux"]
        );
        assert_eq!(foreign(&filter).len(), 1);
        assert_eq!(foreign(&Filter::default()).len(), PROGRAMS.len() - 1);
    }

    #[test]
    fn words() {
        assert_eq!(Contract::ALL.map(Contract::word), Contract::WORDS);
        assert_eq!(PROGRAMS.map(|program| program.name), NAMES);
        assert!(tests(&Filter::default()).len() < 400, "what the watch allows time for");
    }
}
