//! Sessions that clients may come back to, as a server keeps them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustls::{pki_types::UnixTime, server::StoresServerSessions};

use super::sessions::SESSION_AGE;

/// Sessions that clients may come back to; beyond that, and beyond [`MAX_TICKET_BYTES`], not to those that began the longest
/// ago.
pub const MAX_TICKETS: usize = 4096;

/// Bytes of all of them. One has some 600, most of which is the client's certificate, and that may have 8 KiB.
pub const MAX_TICKET_BYTES: usize = 4 * 1024 * 1024;

/// Every session behind a ticket, which is only its name. (The other way, to seal the session into the ticket, would let
/// whoever recorded a first flight have its early data taken again.)
///
/// Each is for one use: who comes with a ticket takes the session out, before anything it sent is believed.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Issued>);

#[derive(Default)]
struct Issued {
    by_name: BTreeMap<Vec<u8>, Session>,
    /// The oldest first, with those that were taken meanwhile.
    order: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    last: u64,
}

struct Session {
    value: Vec<u8>,
    since: UnixTime,
    number: u64,
}

impl Issued {
    fn remove(&mut self, name: &[u8]) -> Option<Session> {
        let session = self.by_name.remove(name)?;
        self.bytes = self.bytes.saturating_sub(session.size(name));
        Some(session)
    }

    /// Drops the oldest, until what is left is allowed.
    fn make_room(&mut self) {
        while self.by_name.len() > MAX_TICKETS || self.bytes > MAX_TICKET_BYTES {
            let Some((number, name)) = self.order.pop_front() else { return };
            if self.by_name.get(&name).is_some_and(|session| session.number == number) {
                self.remove(&name);
            }
        }
        // Names of sessions that are gone.
        if self.order.len() > MAX_TICKETS.saturating_mul(2) {
            let Self { order, by_name, .. } = self;
            order.retain(|(number, name)| by_name.get(name).is_some_and(|session| session.number == *number));
        }
    }
}

impl Session {
    fn size(&self, name: &[u8]) -> usize {
        self.value.len().saturating_add(name.len())
    }
}

impl Tickets {
    fn put_at(&self, name: Vec<u8>, value: Vec<u8>, now: UnixTime) {
        let mut issued = self.lock();
        issued.remove(&name);
        issued.last = issued.last.saturating_add(1);
        let session = Session { value, since: now, number: issued.last };
        issued.bytes = issued.bytes.saturating_add(session.size(&name));
        issued.order.push_back((session.number, name.clone()));
        issued.by_name.insert(name, session);
        issued.make_room();
    }

    fn take_at(&self, name: &[u8], now: UnixTime) -> Option<Vec<u8>> {
        let session = self.lock().remove(name)?;
        let age = now.as_secs().checked_sub(session.since.as_secs())?;
        (age < SESSION_AGE.as_secs()).then_some(session.value)
    }

    fn lock(&self) -> MutexGuard<'_, Issued> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoresServerSessions for Tickets {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.put_at(key, value, UnixTime::now());
        true
    }

    /// For TLS 1.2, which is not spoken.
    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.take_at(key, UnixTime::now())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("sessions", &self.lock().by_name.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn name(n: usize) -> Vec<u8> {
        n.to_le_bytes().to_vec()
    }

    #[test]
    fn each_is_for_one_use_and_for_a_time() {
        let tickets = Tickets::default();
        let age = SESSION_AGE.as_secs();
        for (passed, good) in [(0, true), (age - 1, true), (age, false)] {
            tickets.put_at(name(1), vec![7], at(10));
            assert_eq!(tickets.take_at(&name(1), at(10 + passed)).is_some(), good);
            assert_eq!(tickets.take_at(&name(1), at(10)), None);
        }
        assert_eq!(tickets.get(&name(1)), None);
    }

    #[test]
    fn so_many_are_kept_and_the_oldest_makes_room() {
        let tickets = Tickets::default();
        (0..MAX_TICKETS).for_each(|n| tickets.put_at(name(n), vec![7], at(10)));
        assert_eq!(tickets.lock().by_name.len(), MAX_TICKETS);
        tickets.put_at(name(MAX_TICKETS), vec![7], at(10));
        assert_eq!(tickets.lock().by_name.len(), MAX_TICKETS);
        assert_eq!(tickets.take_at(&name(0), at(10)), None);
        assert!((1..=MAX_TICKETS).all(|n| tickets.take_at(&name(n), at(10)).is_some()));
        assert_eq!(tickets.lock().bytes, 0);
    }

    #[test]
    fn so_many_bytes_are_kept() {
        let tickets = Tickets::default();
        let each = MAX_TICKET_BYTES / 8;
        let value = || vec![7; each - name(0).len()];
        (0..8).for_each(|n| tickets.put_at(name(n), value(), at(10)));
        assert_eq!(tickets.lock().bytes, MAX_TICKET_BYTES);
        tickets.put_at(name(8), vec![7], at(10));
        assert_eq!(tickets.take_at(&name(0), at(10)), None);
        assert!((1..=8).all(|n| tickets.take_at(&name(n), at(10)).is_some()));
    }

    #[test]
    fn what_was_taken_leaves_nothing() {
        let tickets = Tickets::default();
        for n in 0..10 * MAX_TICKETS {
            tickets.put_at(name(n), vec![7], at(10));
            assert!(tickets.take_at(&name(n), at(10)).is_some());
        }
        assert!(tickets.lock().order.len() <= 2 * MAX_TICKETS);
    }
}
