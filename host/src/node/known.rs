use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use peerage_core::{PeerId, ProtocolId};

/// Peers of which it is remembered how they speak; beyond that, not of those met the longest ago.
pub(crate) const MAX_KNOWN: usize = 1024;

/// The names of protocols, as hashes, sorted: there is one of these for every connection. The hash is keyed, so that no
/// peer can choose names that collide; by accident one would cost a stream.
pub(crate) type Names = Arc<[u64]>;

/// How peers spoke when they were met the last time. With that, the first flights of a new connection say at once what
/// would otherwise be asked first: each saves a round trip. It is a guess: who makes it, copes with a refusal.
#[derive(Debug, Default)]
pub(crate) struct Known {
    hasher: RandomState,
    peers: Mutex<Peers>,
}

#[derive(Debug, Default)]
struct Peers {
    entries: BTreeMap<PeerId, Entry>,
    met: u64,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    security: Option<ProtocolId>,
    names: Option<Names>,
    /// The order of meeting.
    met: u64,
}

impl Known {
    /// A connection to `peer` was secured with this protocol.
    pub(crate) fn secured(&self, peer: PeerId, security: &ProtocolId) {
        self.edit(peer, |entry| entry.security = Some(security.clone()));
    }

    /// What is kept of a peer that was not met since.
    pub(crate) fn remember(&self, peer: PeerId, security: Option<&ProtocolId>, protocols: &[ProtocolId]) {
        if self.lock().entries.contains_key(&peer) {
            return;
        }
        if let Some(security) = security {
            self.secured(peer, security);
        }
        if !protocols.is_empty() {
            self.speaks(peer, protocols);
        }
    }

    /// The peer did not take what it was said to speak.
    pub(crate) fn misled(&self, peer: PeerId) {
        self.lock().entries.remove(&peer);
    }

    /// The peer told what it speaks.
    pub(crate) fn speaks(&self, peer: PeerId, protocols: &[ProtocolId]) -> Names {
        let mut names: Vec<u64> = protocols.iter().map(|protocol| self.hash(protocol)).collect();
        names.sort_unstable();
        let names = Names::from(names);
        self.edit(peer, |entry| entry.names = Some(names.clone()));
        names
    }

    /// The security protocol of the last connection.
    pub(crate) fn security(&self, peer: PeerId) -> Option<ProtocolId> {
        self.lock().entries.get(&peer)?.security.clone()
    }

    /// What it said it speaks, the last time it did.
    pub(crate) fn names(&self, peer: PeerId) -> Option<Names> {
        self.lock().entries.get(&peer)?.names.clone()
    }

    pub(crate) fn hash(&self, protocol: &ProtocolId) -> u64 {
        self.hasher.hash_one(protocol.as_str())
    }

    fn edit(&self, peer: PeerId, edit: impl FnOnce(&mut Entry)) {
        let mut peers = self.lock();
        peers.met = peers.met.saturating_add(1);
        let met = peers.met;
        let entry = peers.entries.entry(peer).or_default();
        entry.met = met;
        edit(entry);
        if peers.entries.len() > MAX_KNOWN {
            let oldest = peers.entries.iter().min_by_key(|(_, entry)| entry.met).map(|(peer, _)| *peer);
            oldest.and_then(|peer| peers.entries.remove(&peer));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;

    use super::*;

    fn peer(n: usize) -> PeerId {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        Keypair::from_ed25519_seed(seed).peer_id()
    }

    const NOISE: ProtocolId = ProtocolId::from_static("/noise");
    const ECHO: ProtocolId = ProtocolId::from_static("/echo/1");

    #[test]
    fn what_was_said_last_counts_until_it_misleads() {
        let known = Known::default();
        known.secured(peer(1), &NOISE);
        known.speaks(peer(1), &[ECHO, NOISE]);
        known.speaks(peer(1), &[ECHO]);
        assert_eq!(known.security(peer(1)), Some(NOISE));
        assert_eq!(known.names(peer(1)).unwrap()[..], [known.hash(&ECHO)]);
        assert_eq!(known.security(peer(2)), None);
        known.remember(peer(1), None, &[NOISE]);
        assert_eq!(known.names(peer(1)).unwrap()[..], [known.hash(&ECHO)], "what is kept is older");
        known.misled(peer(1));
        assert_eq!((known.security(peer(1)), known.names(peer(1))), (None, None));
        known.remember(peer(1), Some(&NOISE), &[]);
        assert_eq!((known.security(peer(1)), known.names(peer(1))), (Some(NOISE), None));
    }

    #[test]
    fn so_many_are_remembered_and_those_met_the_longest_ago_are_not() {
        let known = Known::default();
        for n in 0..MAX_KNOWN {
            known.secured(peer(n), &NOISE);
        }
        known.speaks(peer(0), &[ECHO]);
        assert!((0..MAX_KNOWN).all(|n| known.security(peer(n)).is_some()));
        known.secured(peer(MAX_KNOWN), &NOISE);
        assert_eq!(known.security(peer(1)), None);
        assert!(known.security(peer(0)).is_some() && known.security(peer(MAX_KNOWN)).is_some());
    }
}
