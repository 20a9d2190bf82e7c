//! Sessions to come back to, as a client has them: what servers gave with their tickets.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use peerage_core::PeerId;
use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::{ServerName, UnixTime},
};

use super::verifier::Verifier;

/// Peers whose session is kept, one for each; beyond that, not of those whose came the longest ago. A session has a ticket
/// and a certificate of the peer's making, 72 KiB at most, so all of them together have 18 MiB.
pub const MAX_SESSIONS: usize = 256;

/// How long a session may be come back to: 6 hours. What was proven of the peer is not proven anew meanwhile.
pub const SESSION_AGE: Duration = Duration::from_secs(6 * 60 * 60);

/// What rustls calls a session.
type Value = Tls13ClientSessionValue;

/// By peer, and each for one use: nobody sees the same ticket twice (RFC 8446, appendix C.4).
pub(super) struct Sessions<V = Value>(Mutex<Kept<V>>);

struct Kept<V> {
    peers: BTreeMap<PeerId, Session<V>>,
    last: u64,
}

impl<V> Default for Sessions<V> {
    fn default() -> Self {
        Self(Mutex::new(Kept { peers: BTreeMap::new(), last: 0 }))
    }
}

struct Session<V> {
    value: V,
    /// The one that judged the peer's certificate: rustls resumes a session under no other.
    verifier: Arc<Verifier>,
    /// Whether the server takes early data, as far as is known.
    early: bool,
    since: UnixTime,
    /// The order of their coming.
    number: u64,
}

impl<V> Session<V> {
    fn is_young(&self, now: UnixTime) -> bool {
        // A clock that was set back makes none of them younger.
        now.as_secs().checked_sub(self.since.as_secs()).is_some_and(|age| age < SESSION_AGE.as_secs())
    }
}

impl<V> Sessions<V> {
    fn keep(&self, peer: PeerId, value: V, verifier: Arc<Verifier>, early: bool, now: UnixTime) {
        let mut kept = self.lock();
        kept.last = kept.last.saturating_add(1);
        let session = Session { value, verifier, early, since: now, number: kept.last };
        kept.peers.insert(peer, session);
        if kept.peers.len() > MAX_SESSIONS {
            let oldest = kept.peers.iter().min_by_key(|(_, session)| session.number).map(|(peer, _)| *peer);
            oldest.and_then(|peer| kept.peers.remove(&peer));
        }
    }

    fn take(&self, peer: PeerId, now: UnixTime) -> Option<Session<V>> {
        self.lock().peers.remove(&peer).filter(|session| session.is_young(now))
    }

    /// Whether a session waits whose server takes early data.
    pub(super) fn has_early(&self, peer: PeerId, now: UnixTime) -> bool {
        self.lock().peers.get(&peer).is_some_and(|session| session.early && session.is_young(now))
    }

    fn lock(&self) -> MutexGuard<'_, Kept<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> fmt::Debug for Sessions<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("peers", &self.lock().peers.len()).finish()
    }
}

/// What one handshake with `peer` sees of the sessions: the peer's, and no other's, whatever name rustls asks for. It
/// brings one back at most, so that a verifier never serves two handshakes at once.
pub(super) struct Visit {
    sessions: Arc<Sessions>,
    peer: PeerId,
    verifier: Arc<Verifier>,
    taken: Mutex<Option<Value>>,
    early: bool,
    early_refused: AtomicBool,
    brought: AtomicBool,
}

impl Visit {
    /// Takes the session that there is, if there is one. Without, `fresh` judges the peer.
    pub(super) fn begin(
        sessions: &Arc<Sessions>,
        peer: PeerId,
        fresh: impl FnOnce() -> Arc<Verifier>,
        now: UnixTime,
    ) -> Self {
        let session = sessions.take(peer, now);
        let early = session.as_ref().is_some_and(|session| session.early);
        let (taken, verifier) = match session {
            Some(session) => (Some(session.value), session.verifier),
            None => (None, fresh()),
        };
        verifier.forget();
        Self {
            sessions: Arc::clone(sessions),
            peer,
            verifier,
            taken: Mutex::new(taken),
            early,
            early_refused: AtomicBool::new(false),
            brought: AtomicBool::new(false),
        }
    }

    pub(super) fn verifier(&self) -> &Arc<Verifier> {
        &self.verifier
    }

    /// Whether the server is believed to take early data.
    pub(super) fn is_early(&self) -> bool {
        self.early
    }

    /// The server did not take the early data: with the session that it gives now, none is sent.
    pub(super) fn refuse_early(&self) {
        self.early_refused.store(true, Ordering::Relaxed);
    }
}

impl ClientSessionStore for Visit {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    /// None: the groups are offered as this node likes them, to everybody.
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Value) {
        if self.brought.swap(true, Ordering::Relaxed) {
            return;
        }
        let early = value.max_early_data_size() > 0 && !self.early_refused.load(Ordering::Relaxed);
        self.sessions.keep(self.peer, value, Arc::clone(&self.verifier), early, UnixTime::now());
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Value> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    fn peer(n: usize) -> PeerId {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        Keypair::from_ed25519_seed(seed).peer_id()
    }

    fn verifier() -> Arc<Verifier> {
        Arc::new(Verifier::new(None, default_provider().signature_verification_algorithms, Arc::default()))
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn keep(sessions: &Sessions<usize>, n: usize, early: bool, now: UnixTime) {
        sessions.keep(peer(n), n, verifier(), early, now);
    }

    fn take(sessions: &Sessions<usize>, n: usize, now: UnixTime) -> Option<usize> {
        sessions.take(peer(n), now).map(|session| session.value)
    }

    #[test]
    fn each_is_the_peers_own_and_for_one_use() {
        let sessions = Sessions::default();
        keep(&sessions, 1, true, at(10));
        assert_eq!(take(&sessions, 2, at(10)), None);
        assert_eq!(take(&sessions, 1, at(10)), Some(1));
        assert_eq!(take(&sessions, 1, at(10)), None);
    }

    #[test]
    fn so_many_are_kept_and_the_oldest_makes_room() {
        let sessions = Sessions::default();
        (0..MAX_SESSIONS).for_each(|n| keep(&sessions, n, true, at(10)));
        assert!((0..MAX_SESSIONS).all(|n| sessions.has_early(peer(n), at(10))));
        keep(&sessions, 0, true, at(10));
        keep(&sessions, MAX_SESSIONS, true, at(10));
        assert_eq!(take(&sessions, 1, at(10)), None);
        assert_eq!(take(&sessions, 0, at(10)), Some(0), "it came anew");
        assert_eq!(take(&sessions, MAX_SESSIONS, at(10)), Some(MAX_SESSIONS));
    }

    #[test]
    fn they_grow_old() {
        let sessions = Sessions::default();
        let age = SESSION_AGE.as_secs();
        for (passed, young) in [(0, true), (age - 1, true), (age, false)] {
            keep(&sessions, 1, true, at(10));
            assert_eq!(sessions.has_early(peer(1), at(10 + passed)), young);
            assert_eq!(take(&sessions, 1, at(10 + passed)).is_some(), young);
        }
        keep(&sessions, 1, true, at(10));
        assert_eq!(take(&sessions, 1, at(9)), None, "the clock was set back");
    }

    #[test]
    fn early_data_is_for_servers_that_take_it() {
        let sessions = Sessions::default();
        keep(&sessions, 1, false, at(10));
        assert!(!sessions.has_early(peer(1), at(10)));
        keep(&sessions, 1, true, at(10));
        assert!(sessions.has_early(peer(1), at(10)));
    }
}
