use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use peerage_core::{Multiaddr, Now, PeerId, engine::Rng};
use rand::RngExt as _;

/// After the first failure, an address of a peer rests for half of this to all of it; after each further one twice as
/// long.
pub const BACKOFF: Duration = Duration::from_secs(5);
/// It never rests longer than this, and after as much time again its failures are forgotten.
pub const MAX_BACKOFF: Duration = Duration::from_secs(5 * 60);
/// Failures that are remembered, each of one address of one peer; beyond that, those that rest the shortest are not.
pub const MAX_FAILURES: usize = 1024;
/// Peers of which it is remembered which address worked; beyond that, not of those connected with the longest ago.
pub const MAX_WORKED: usize = 1024;

/// What earlier dials say about addresses.
#[derive(Debug)]
pub(super) struct Memory {
    failures: BTreeMap<(PeerId, Multiaddr), Failures>,
    /// With the order of connecting.
    worked: BTreeMap<PeerId, (Multiaddr, u64)>,
    connected: u64,
    rng: Rng,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    rests_until: Instant,
}

/// That an address rests, because attempts there failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rests {
    pub(super) failures: u32,
    pub(super) remaining: Duration,
}

impl Memory {
    /// Nothing happened yet. `rng` is for the lengths of rests, so that many nodes do not come back at once.
    pub(super) fn new(rng: Rng) -> Self {
        Self { failures: BTreeMap::new(), worked: BTreeMap::new(), connected: 0, rng }
    }

    pub(super) fn failed(&mut self, peer: PeerId, address: &Multiaddr, now: Now) {
        let key = (peer, address.clone());
        let before = self.failures.get(&key).filter(|failures| !failures.forgotten(now));
        let count = before.map_or(0, |failures| failures.count).saturating_add(1);
        let doublings = count.saturating_sub(1).min(16);
        let longest = BACKOFF.saturating_mul(1 << doublings).min(MAX_BACKOFF);
        let rest = longest.mul_f64(self.rng.random_range(0.5..=1.0));
        if before.is_none() {
            self.make_room(now);
        }
        self.failures.insert(key, Failures { count, rests_until: now.after(rest) });
    }

    fn make_room(&mut self, now: Now) {
        if self.failures.len() < MAX_FAILURES {
            return;
        }
        self.failures.retain(|_, failures| !failures.forgotten(now));
        while self.failures.len() >= MAX_FAILURES {
            let first = self.failures.iter().min_by_key(|(_, failures)| failures.rests_until);
            let Some(first) = first.map(|(key, _)| key.clone()) else {
                return;
            };
            self.failures.remove(&first);
        }
    }

    pub(super) fn worked(&mut self, peer: PeerId, address: &Multiaddr) {
        self.failures.remove(&(peer, address.clone()));
        self.connected = self.connected.saturating_add(1);
        self.worked.insert(peer, (address.clone(), self.connected));
        if self.worked.len() > MAX_WORKED {
            let oldest = self.worked.iter().min_by_key(|(_, (_, connected))| *connected);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.worked.remove(&oldest);
            }
        }
    }

    /// The address at which the peer was reached the last time.
    pub(super) fn best(&self, peer: PeerId) -> Option<&Multiaddr> {
        self.worked.get(&peer).map(|(address, _)| address)
    }

    pub(super) fn rests(&self, peer: PeerId, address: &Multiaddr, now: Now) -> Option<Rests> {
        let failures = self.failures.get(&(peer, address.clone()))?;
        let remaining = failures.rests_until.saturating_duration_since(now.mono);
        (!remaining.is_zero()).then_some(Rests { failures: failures.count, remaining })
    }
}

impl Failures {
    fn forgotten(&self, now: Now) -> bool {
        now.since(self.rests_until) >= MAX_BACKOFF
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::{Keypair, engine};

    use super::*;

    fn peer(n: u8) -> PeerId {
        Keypair::from_ed25519_seed([n; 32]).peer_id()
    }

    fn address(n: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{n}").parse().unwrap()
    }

    fn memory() -> Memory {
        Memory::new(engine::rng(7))
    }

    #[test]
    fn rests_double_up_to_five_minutes() {
        let (mut memory, mut now) = (memory(), engine::sim::start());
        let mut rests = Vec::new();
        for nth in 1..=12 {
            memory.failed(peer(1), &address(1), now);
            let rest = memory.rests(peer(1), &address(1), now).unwrap();
            assert_eq!(rest.failures, nth);
            let longest = (BACKOFF * 2_u32.pow(nth - 1)).min(MAX_BACKOFF);
            assert!(rest.remaining <= longest && rest.remaining >= longest / 2, "{rest:?}");
            rests.push(rest.remaining);
            now = now.plus(rest.remaining);
            assert_eq!(memory.rests(peer(1), &address(1), now), None);
        }
        assert!(rests[8..].windows(2).any(|pair| pair[0] != pair[1]), "chance is in it");
    }

    #[test]
    fn others_do_not_rest() {
        let (mut memory, now) = (memory(), engine::sim::start());
        memory.failed(peer(1), &address(1), now);
        assert_eq!(memory.rests(peer(2), &address(1), now), None);
        assert_eq!(memory.rests(peer(1), &address(2), now), None);
    }

    #[test]
    fn success_and_time_forget() {
        let (mut memory, now) = (memory(), engine::sim::start());
        for _ in 0..3 {
            memory.failed(peer(1), &address(1), now);
            memory.failed(peer(1), &address(2), now);
        }
        memory.worked(peer(1), &address(1));
        assert_eq!(memory.rests(peer(1), &address(1), now), None);
        let rest = memory.rests(peer(1), &address(2), now).unwrap().remaining;
        let just_before = now.plus(rest + MAX_BACKOFF - Duration::from_nanos(1));
        memory.failed(peer(1), &address(2), just_before);
        assert_eq!(memory.rests(peer(1), &address(2), just_before).unwrap().failures, 4);
        let long_after = just_before.plus(2 * MAX_BACKOFF);
        memory.failed(peer(1), &address(2), long_after);
        assert_eq!(memory.rests(peer(1), &address(2), long_after).unwrap().failures, 1);
    }

    #[test]
    fn so_many_failures_are_remembered_and_no_more() {
        let (mut memory, now) = (memory(), engine::sim::start());
        for _ in 0..5 {
            memory.failed(peer(1), &address(0), now);
        }
        let max = u16::try_from(MAX_FAILURES).unwrap();
        for n in 1..max {
            memory.failed(peer(1), &address(n), now);
        }
        assert!((0..max).all(|n| memory.rests(peer(1), &address(n), now).is_some()));
        memory.failed(peer(1), &address(max), now);
        assert_eq!(memory.failures.len(), MAX_FAILURES);
        assert!(memory.rests(peer(1), &address(max), now).is_some());
        assert!(memory.rests(peer(1), &address(0), now).is_some(), "it rests the longest");
    }

    #[test]
    fn of_so_many_peers_the_best_address_is_remembered() {
        let mut memory = memory();
        let peers: Vec<_> = (0..=MAX_WORKED)
            .map(|n| {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&n.to_le_bytes());
                Keypair::from_ed25519_seed(seed).peer_id()
            })
            .collect();
        for peer in &peers[..MAX_WORKED] {
            memory.worked(*peer, &address(1));
        }
        memory.worked(peers[0], &address(2));
        assert_eq!(memory.best(peers[0]), Some(&address(2)));
        memory.worked(peers[MAX_WORKED], &address(1));
        assert_eq!(memory.worked.len(), MAX_WORKED);
        assert_eq!(memory.best(peers[1]), None, "the longest ago");
        assert!(memory.best(peers[0]).is_some() && memory.best(peers[MAX_WORKED]).is_some());
    }
}
