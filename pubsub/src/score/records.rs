use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use peerage_core::PeerId;

use crate::MessageId;

/// The most messages of which it is remembered who delivered them. For one more the one goes that would go next.
pub const MAX_RECORDS: usize = 16_384;
/// The most peers that are remembered for a message. Who delivers it after so many others earns nothing by it.
pub const MAX_SENDERS: usize = 1024;
/// How long a message may be in validation before it is forgotten.
pub(super) const VALIDATION: Duration = Duration::from_secs(120);

/// Who delivered which message, as long as that matters: until it is validated and the window after that has passed, or
/// for a time if it was invalid. Of all others a duplicate changes nothing, so that they need no record.
#[derive(Debug, Default)]
pub(super) struct Records {
    records: BTreeMap<MessageId, Record>,
    /// When each goes.
    expiry: BTreeSet<(Instant, MessageId)>,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) state: State,
    /// Who sent it, the first peer included.
    senders: BTreeSet<PeerId>,
    expires: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Validating,
    /// Since when.
    Valid(Instant),
    Invalid,
}

impl Record {
    /// Whether this is the first time that the peer sends it.
    pub(super) fn sent_by(&mut self, peer: PeerId) -> bool {
        self.senders.len() < MAX_SENDERS && self.senders.insert(peer)
    }

    pub(super) fn take_senders(&mut self) -> BTreeSet<PeerId> {
        std::mem::take(&mut self.senders)
    }

    pub(super) fn senders(&self) -> impl Iterator<Item = &PeerId> {
        self.senders.iter()
    }
}

impl Records {
    /// The record of a message; a new one, if there is none, is in validation.
    pub(super) fn entry(&mut self, id: &MessageId, now: Instant) -> &mut Record {
        if !self.records.contains_key(id) {
            self.make_room();
            let expires = after(now, VALIDATION);
            self.expiry.insert((expires, id.clone()));
        }
        let new =
            || Record { state: State::Validating, senders: BTreeSet::new(), expires: after(now, VALIDATION) };
        self.records.entry(id.clone()).or_insert_with(new)
    }

    pub(super) fn get(&mut self, id: &MessageId) -> Option<&mut Record> {
        self.records.get_mut(id)
    }

    /// Sets what became of a message, and how long that is remembered.
    pub(super) fn settle(&mut self, id: &MessageId, state: State, expires: Instant) {
        let Some(record) = self.records.get_mut(id) else {
            return;
        };
        record.state = state;
        if let Some((_, id)) = self.expiry.take(&(record.expires, id.clone())) {
            self.expiry.insert((expires, id));
        }
        record.expires = expires;
    }

    pub(super) fn remove(&mut self, id: &MessageId) {
        if let Some(record) = self.records.remove(id) {
            self.expiry.remove(&(record.expires, id.clone()));
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((_, id)) = self.expiry.first().filter(|(at, _)| *at <= now).cloned() {
            self.remove(&id);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    fn make_room(&mut self) {
        while self.records.len() >= MAX_RECORDS
            && let Some((_, id)) = self.expiry.pop_first()
        {
            self.records.remove(&id);
        }
    }
}

/// An instant as far ahead as the clock goes.
pub(super) fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait.min(peerage_core::engine::NEVER)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerage_core::engine::sim;

    fn id(n: usize) -> MessageId {
        MessageId::new(n.to_be_bytes()).unwrap()
    }

    #[test]
    fn the_next_to_go_makes_room() {
        let mut records = Records::default();
        let now = sim::start().mono;
        for n in 0..MAX_RECORDS {
            records.entry(&id(n), now);
        }
        let late = after(now, VALIDATION * 2);
        records.settle(&id(0), State::Invalid, late);
        assert_eq!(records.len(), MAX_RECORDS);
        records.entry(&id(MAX_RECORDS), now);
        assert_eq!(records.len(), MAX_RECORDS);
        assert!(records.get(&id(0)).is_some() && records.get(&id(1)).is_none());
        records.expire(after(now, VALIDATION));
        assert_eq!(records.len(), 1);
        records.expire(late);
        assert_eq!((records.len(), records.expiry.len()), (0, 0));
    }

    #[test]
    fn senders_have_a_limit() {
        let mut records = Records::default();
        let record = records.entry(&id(0), sim::start().mono);
        let peers = crate::score::tests::peers(MAX_SENDERS + 1);
        assert!(peers[..MAX_SENDERS].iter().all(|peer| record.sent_by(*peer)));
        assert!(!record.sent_by(peers[0]));
        assert!(!record.sent_by(peers[MAX_SENDERS]));
    }
}
