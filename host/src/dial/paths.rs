//! What of the network seems to lead nowhere. Pure.
//!
//! Some networks drop UDP without a word, some offer IPv6 that ends behind the router. An attempt there costs every dial
//! its head start. So it is noticed when peers answer at their other addresses and never at these, and then these
//! have their turn after all others: nothing is given up for it, and a dial that needs them still reaches them.
//!
//! Only addresses of the internet count, since a path near by says nothing of it.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use peerage_core::{Multiaddr, Now, PeerId, multiaddr::Protocol};

use super::rank::Lane;

/// After so many different peers in a row that answered elsewhere, and not there, a kind of path is in doubt. More than
/// one, so that one peer's dead port is not taken for the network's doing.
pub const SILENT_PEERS: usize = 5;
/// Every so many dials with an address of that kind, one tries it at its usual turn: the network may have changed.
pub const PROBE_EVERY: u32 = 16;
/// After so long, the next dial does.
pub const PROBE_AFTER: Duration = Duration::from_secs(5 * 60);

/// A kind of path that a network may swallow as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Udp,
    Six,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Udp, Self::Six];

    pub(super) fn covers(self, address: &Multiaddr) -> bool {
        if Lane::of(address) != Lane::Internet {
            return false;
        }
        match self {
            Self::Udp => address.iter().any(|part| matches!(part, Protocol::Udp(_))),
            Self::Six => matches!(address.ip(), Some(IpAddr::V6(_))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Six => "IPv6",
        }
    }
}

/// The kinds of paths that one dial leaves for the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubts {
    pub(super) udp: bool,
    pub(super) six: bool,
}

impl Doubts {
    /// The kind for which `address` has to wait.
    pub(super) fn about(self, address: &Multiaddr) -> Option<&'static str> {
        let doubted = |kind| match kind {
            Kind::Udp => self.udp,
            Kind::Six => self.six,
        };
        Kind::ALL.into_iter().find(|kind| doubted(*kind) && kind.covers(address)).map(Kind::name)
    }
}

/// What a dial showed of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Somebody answered there, be it with a refusal.
    Answer {
        /// How long it took.
        after: Duration,
    },
    /// Nobody had answered when the attempt ended.
    Nothing {
        /// How long it lasted.
        lasted: Duration,
    },
    /// It was not tried: another address was sooner.
    Untried,
}

/// What dials showed of the network so far.
#[derive(Debug, Default)]
pub(super) struct Paths {
    udp: Path,
    six: Path,
}

#[derive(Debug, Default)]
struct Path {
    /// Who answered elsewhere only, since somebody last answered there; [`SILENT_PEERS`] at most.
    silent: BTreeSet<PeerId>,
    /// Dials that passed it by since it was tried at its turn.
    passed: u32,
    tried: Option<Instant>,
}

impl Paths {
    /// Learns from a dial to `peer`.
    pub(super) fn learn(&mut self, peer: PeerId, heard: &[(&Multiaddr, Heard)], now: Now) {
        for kind in Kind::ALL {
            let (there, elsewhere): (Vec<_>, Vec<_>) = heard
                .iter()
                .filter(|(address, _)| Lane::of(address) == Lane::Internet)
                .partition(|(address, _)| kind.covers(address));
            let path = self.path(kind);
            let untried = |(_, heard): &(&Multiaddr, Heard)| *heard == Heard::Untried;
            if there.iter().all(untried) {
                let passed = u32::from(!there.is_empty());
                path.passed = path.passed.saturating_add(passed);
                continue;
            }
            if there.iter().any(|(_, heard)| matches!(heard, Heard::Answer { .. })) {
                *path = Path::default();
                continue;
            }
            // The peer is there, and took less time elsewhere than it had here.
            let answered = elsewhere.iter().filter_map(|(_, heard)| match heard {
                Heard::Answer { after } => Some(*after),
                Heard::Nothing { .. } | Heard::Untried => None,
            });
            let waited = there.iter().filter_map(|(_, heard)| match heard {
                Heard::Nothing { lasted } => Some(*lasted),
                Heard::Answer { .. } | Heard::Untried => None,
            });
            if let (Some(answered), Some(waited)) = (answered.min(), waited.max())
                && waited > answered
            {
                (path.passed, path.tried) = (0, Some(now.mono));
                if path.silent.len() < SILENT_PEERS {
                    path.silent.insert(peer);
                }
            }
        }
    }

    /// What a dial that begins now leaves for the end.
    pub(super) fn doubts(&self, now: Now) -> Doubts {
        Doubts { udp: self.udp.in_doubt(now), six: self.six.in_doubt(now) }
    }

    fn path(&mut self, kind: Kind) -> &mut Path {
        match kind {
            Kind::Udp => &mut self.udp,
            Kind::Six => &mut self.six,
        }
    }
}

impl Path {
    fn in_doubt(&self, now: Now) -> bool {
        let lately = self.tried.is_some_and(|tried| now.since(tried) < PROBE_AFTER);
        self.silent.len() >= SILENT_PEERS && self.passed < PROBE_EVERY && lately
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::{Keypair, engine::sim};

    use super::*;

    const TCP: &str = "/ip4/8.8.8.8/tcp/1";
    const QUIC: &str = "/ip4/8.8.8.8/udp/1/quic-v1";
    const SIX: &str = "/ip6/2a01::1/tcp/1";

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn peer(n: u8) -> PeerId {
        Keypair::from_ed25519_seed([n; 32]).peer_id()
    }

    fn answer(ms: u64) -> Heard {
        Heard::Answer { after: Duration::from_millis(ms) }
    }

    fn nothing(ms: u64) -> Heard {
        Heard::Nothing { lasted: Duration::from_millis(ms) }
    }

    fn learn(paths: &mut Paths, n: u8, heard: &[(&str, Heard)], now: Now) {
        let heard: Vec<_> = heard.iter().map(|(text, heard)| (addr(text), *heard)).collect();
        let heard: Vec<_> = heard.iter().map(|(address, heard)| (address, *heard)).collect();
        paths.learn(peer(n), &heard, now);
    }

    fn swallowed(now: Now) -> Paths {
        let mut paths = Paths::default();
        for n in 0..5 {
            assert_eq!(paths.doubts(now), Doubts::default(), "after {n}");
            learn(&mut paths, n, &[(QUIC, nothing(300)), (TCP, answer(40))], now);
        }
        paths
    }

    #[test]
    fn udp_that_five_peers_did_not_answer_is_in_doubt() {
        let now = sim::start();
        let doubts = swallowed(now).doubts(now);
        assert_eq!(doubts, Doubts { udp: true, six: false });
        assert_eq!(doubts.about(&addr(QUIC)), Some("UDP"));
        for other in [TCP, SIX, "/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/192.168.0.1/udp/1/quic-v1"] {
            assert_eq!(doubts.about(&addr(other)), None, "{other}");
        }
    }

    #[test]
    fn ip6_is_by_itself() {
        let (now, mut paths) = (sim::start(), Paths::default());
        for n in 0..5 {
            learn(&mut paths, n, &[(SIX, nothing(300)), (TCP, answer(40)), (QUIC, answer(40))], now);
        }
        assert_eq!(paths.doubts(now), Doubts { udp: false, six: true });
    }

    #[test]
    fn one_peer_says_nothing_of_the_network() {
        let (now, mut paths) = (sim::start(), Paths::default());
        for _ in 0..100 {
            learn(&mut paths, 1, &[(QUIC, nothing(300)), (TCP, answer(40))], now);
        }
        assert_eq!(paths.doubts(now), Doubts::default());
    }

    #[test]
    fn a_peer_that_is_not_there_says_nothing() {
        let (now, mut paths) = (sim::start(), Paths::default());
        for n in 0..50 {
            learn(&mut paths, n, &[(QUIC, nothing(10_000)), (TCP, nothing(10_000))], now);
            // Nor does one that had less time here than it took elsewhere, or is near by.
            learn(&mut paths, n, &[(QUIC, nothing(30)), (TCP, answer(40))], now);
            learn(&mut paths, n, &[(QUIC, nothing(300)), ("/ip4/127.0.0.1/tcp/1", answer(1))], now);
            learn(&mut paths, n, &[("/ip4/10.0.0.1/udp/1/quic-v1", nothing(300)), (TCP, answer(1))], now);
        }
        assert_eq!(paths.doubts(now), Doubts::default());
    }

    #[test]
    fn an_answer_ends_the_doubt() {
        let now = sim::start();
        let mut paths = swallowed(now);
        learn(&mut paths, 9, &[(QUIC, answer(20))], now);
        assert_eq!(paths.doubts(now), Doubts::default());
        learn(&mut paths, 1, &[(QUIC, nothing(300)), (TCP, answer(40))], now);
        assert_eq!(paths.doubts(now), Doubts::default(), "it starts again from nothing");
    }

    #[test]
    fn now_and_then_it_is_tried_at_its_turn() {
        let mut now = sim::start();
        let mut paths = swallowed(now);
        for _ in 0..3 {
            for passed in 0..PROBE_EVERY {
                assert!(paths.doubts(now).udp, "after {passed}");
                learn(&mut paths, 1, &[(QUIC, Heard::Untried), (TCP, answer(40))], now);
                learn(&mut paths, 1, &[(TCP, answer(40))], now);
            }
            assert!(!paths.doubts(now).udp);
            learn(&mut paths, 1, &[(QUIC, nothing(300)), (TCP, answer(40))], now);
        }
        assert!(paths.doubts(now).udp);
        now = now.plus(PROBE_AFTER);
        assert!(!paths.doubts(now).udp, "after a while");
        learn(&mut paths, 1, &[(QUIC, nothing(300)), (TCP, answer(40))], now);
        assert!(paths.doubts(now).udp, "and not again before as long");
    }
}
