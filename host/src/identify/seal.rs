use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use peerage_core::{Keypair, Multiaddr, Now, peer_record::PeerRecord};

/// Lists of addresses whose records are kept. Peers are told one of a few: of the internet, of a private network, of this
/// machine.
const MAX_LISTS: usize = 16;

/// The signed records of this node's addresses. A record is signed once and sent to everybody who asks: signing is the
/// dearest part of an answer, and anybody can ask without end.
#[derive(Debug, Default)]
pub(super) struct Seals(Mutex<Sealed>);

#[derive(Debug, Default)]
struct Sealed {
    /// Of the own addresses from which the lists were taken.
    revision: u64,
    /// Of the newest record.
    sequence: u64,
    envelopes: VecDeque<(Vec<Multiaddr>, Bytes)>,
}

impl Seals {
    /// The envelope with a record of these addresses; `None` if there are none, or no record can be made of them.
    ///
    /// With a new `revision` of the own addresses all records are made anew, with higher numbers: else a list that comes
    /// back would be older than the one it replaces.
    pub(super) fn envelope(
        &self,
        keypair: &Keypair,
        addresses: &[Multiaddr],
        revision: u64,
        now: Now,
    ) -> Option<Bytes> {
        // Without addresses there is nothing to certify.
        if addresses.is_empty() {
            return None;
        }
        let mut sealed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sealed.revision != revision {
            sealed.revision = revision;
            sealed.envelopes.clear();
        }
        if let Some((_, envelope)) = sealed.envelopes.iter().find(|(of, _)| of == addresses) {
            return Some(envelope.clone());
        }
        // The time makes it higher than those before a restart, too.
        let time = u64::try_from(now.unix.as_nanos()).unwrap_or(u64::MAX);
        sealed.sequence = time.max(sealed.sequence.saturating_add(1));
        let record = PeerRecord::new(keypair.peer_id(), sealed.sequence, addresses.to_vec()).ok()?;
        let envelope = Bytes::from(record.seal(keypair).ok()?.encode());
        if sealed.envelopes.len() >= MAX_LISTS {
            sealed.envelopes.pop_front();
        }
        sealed.envelopes.push_back((addresses.to_vec(), envelope.clone()));
        Some(envelope)
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::{engine::sim, envelope::Envelope};

    use super::*;

    fn list(port: usize) -> Vec<Multiaddr> {
        vec![format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()]
    }

    fn sequence(envelope: &Bytes) -> u64 {
        PeerRecord::open(&Envelope::decode(envelope).unwrap()).unwrap().seq()
    }

    #[test]
    fn a_list_is_signed_once_until_the_addresses_change() {
        let (seals, keypair) = (Seals::default(), Keypair::from_ed25519_seed([3; 32]));
        let seal = |port, revision| seals.envelope(&keypair, &list(port), revision, sim::start()).unwrap();
        let (first, other) = (seal(1, 1), seal(2, 1));
        for _ in 0..100 {
            // The very same bytes, and not equal ones.
            assert_eq!((seal(1, 1).as_ptr(), seal(2, 1).as_ptr()), (first.as_ptr(), other.as_ptr()));
        }
        // It was changed and changed back: newer than what was said in between, by the same clock.
        let (between, back) = (seal(2, 2), seal(1, 3));
        let sequences = [&first, &other, &between, &back].map(sequence);
        assert!(sequences.is_sorted_by(|before, after| before < after), "{sequences:?}");
        assert_eq!(seals.envelope(&keypair, &[], 3, sim::start()), None);
    }

    #[test]
    fn so_many_lists_are_kept() {
        let (seals, keypair) = (Seals::default(), Keypair::from_ed25519_seed([3; 32]));
        let seal = |port| seals.envelope(&keypair, &list(port), 1, sim::start()).unwrap();
        let first = seal(1);
        (2..=MAX_LISTS).for_each(|port| drop(seal(port)));
        assert_eq!(seal(1).as_ptr(), first.as_ptr());
        seal(MAX_LISTS + 1);
        assert!(sequence(&seal(1)) > sequence(&first), "the oldest went");
        assert_eq!(seals.0.lock().unwrap().envelopes.len(), MAX_LISTS);
    }
}
