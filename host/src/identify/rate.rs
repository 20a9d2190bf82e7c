use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use peerage_core::{Now, PeerId};

use crate::hub::ConnInfo;

/// Changes that one network (IPv4 /24, IPv6 /56) may tell of at once; a peer on this machine is one for itself.
pub const PUSH_BURST: u32 = 10;
/// How long after one it may tell of another.
pub const PUSH_EVERY: Duration = Duration::from_secs(5);
/// Changes that all peers together may tell of at once.
pub const ALL_PUSH_BURST: u32 = 3000;
/// How long after one they may tell of another: 2000 a second.
pub const ALL_PUSH_EVERY: Duration = Duration::from_micros(500);
/// Networks that are counted apart; when there are more, the one goes that has been quiet longest.
const MAX_SOURCES: usize = 1024;

/// Counts the changes that peers tell of, before anything of them is read.
#[derive(Debug, Default)]
pub(super) struct PushRate(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: Option<Instant>,
    of: BTreeMap<Source, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    V4([u8; 3]),
    V6([u8; 7]),
    Peer(PeerId),
}

impl PushRate {
    /// Whether the peer at the other end may tell of a change now.
    pub(super) fn allows(&self, from: &ConnInfo, now: Now) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source = Source::of(from);
        let own = taken(counts.of.get(&source).copied(), PUSH_BURST, PUSH_EVERY, now);
        let all = taken(counts.all, ALL_PUSH_BURST, ALL_PUSH_EVERY, now);
        let (Some(own), Some(all)) = (own, all) else {
            return false;
        };
        if !counts.of.contains_key(&source) && counts.of.len() >= MAX_SOURCES {
            let quietest = counts.of.iter().min_by_key(|(_, at)| **at).map(|(source, _)| *source);
            quietest.map(|quietest| counts.of.remove(&quietest));
        }
        counts.of.insert(source, own);
        counts.all = Some(all);
        true
    }
}

/// A bucket of `burst` tokens, one of which comes back `every` so often, kept as the time at which it will be full
/// again. What that time is after one more is taken; `None` if there is none.
fn taken(full_at: Option<Instant>, burst: u32, every: Duration, now: Now) -> Option<Instant> {
    let full_at = full_at.filter(|at| *at > now.mono).unwrap_or(now.mono).checked_add(every)?;
    (full_at <= now.after(every.saturating_mul(burst))).then_some(full_at)
}

impl Source {
    fn of(info: &ConnInfo) -> Self {
        if info.nearness().is_loopback() {
            return Self::Peer(info.peer);
        }
        match info.remote.ip().map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, e, f, g, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g])
            }
            None => Self::Peer(info.peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::{Keypair, ProtocolId, engine::sim};

    use super::*;
    use crate::limits::{ConnectionId, Direction};

    fn from(remote: &str, seed: u8) -> ConnInfo {
        ConnInfo {
            id: ConnectionId(1),
            peer: Keypair::from_ed25519_seed([seed; 32]).peer_id(),
            direction: Direction::Inbound,
            limited: false,
            local: remote.parse().unwrap(),
            remote: remote.parse().unwrap(),
            security: ProtocolId::from_static("/noise"),
            muxer: ProtocolId::from_static("/yamux/1.0.0"),
        }
    }

    #[test]
    fn ten_at_once_and_then_one_every_five_seconds() {
        let (rate, mut now) = (PushRate::default(), sim::start());
        let one = from("/ip4/192.0.2.1/tcp/1", 1);
        // S10: ten thousand in one second.
        let allowed = (0..10_000).filter(|_| rate.allows(&one, now)).count();
        assert_eq!(allowed, PUSH_BURST as usize);
        assert!(!rate.allows(&from("/ip4/192.0.2.200/tcp/9", 2), now), "the same network");
        assert!(rate.allows(&from("/ip4/192.0.3.1/tcp/9", 1), now), "another one");
        now = now.plus(PUSH_EVERY - Duration::from_nanos(1));
        assert!(!rate.allows(&one, now));
        now = now.plus(Duration::from_nanos(1));
        assert!(rate.allows(&one, now) && !rate.allows(&one, now));
        now = now.plus(PUSH_EVERY * 1000);
        assert_eq!(
            (0..100).filter(|_| rate.allows(&one, now)).count(),
            PUSH_BURST as usize,
            "no more is saved up"
        );
    }

    #[test]
    fn peers_on_this_machine_do_not_pay_for_each_other() {
        let (rate, now) = (PushRate::default(), sim::start());
        while rate.allows(&from("/ip4/127.0.0.1/tcp/1", 1), now) {}
        assert!(rate.allows(&from("/ip4/127.0.0.1/tcp/1", 2), now));
    }

    #[test]
    fn all_together_and_the_table_are_bounded() {
        let (rate, now) = (PushRate::default(), sim::start());
        let allowed = (0..5000_u32).filter(|n| {
            let [.., a, b] = n.to_be_bytes();
            rate.allows(&from(&format!("/ip4/9.{a}.{b}.1/tcp/1"), 1), now)
        });
        assert_eq!(allowed.count(), ALL_PUSH_BURST as usize);
        assert_eq!(rate.0.lock().unwrap().of.len(), MAX_SOURCES);
    }
}
