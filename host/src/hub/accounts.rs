use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Now, PeerId};

use super::{BAN_AFTER_BLAMES, BLAME_WINDOW, MAX_BANS, MAX_BLAMED};

/// Who provoked panics, and who is banned. It outlives the lives of the host's actor: a peer that makes the host
/// itself panic shall not be forgiven by that.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedAccounts(Arc<Mutex<Accounts>>);

impl SharedAccounts {
    /// For how much longer a peer is banned, if it is.
    pub(crate) fn banned(&self, peer: &PeerId, now: Now) -> Option<Duration> {
        self.lock().banned(peer, now)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(super) struct Accounts {
    pub(super) bans: BTreeMap<PeerId, Instant>,
    pub(super) blames: BTreeMap<PeerId, VecDeque<Instant>>,
}

impl Accounts {
    /// Counts a panic; whether it was one too many. The count then begins anew.
    pub(super) fn blame(&mut self, peer: PeerId, now: Now) -> bool {
        let blames = self.blames.entry(peer).or_default();
        blames.retain(|at| counts(*at, now.mono));
        blames.push_back(now.mono);
        if blames.len() >= BAN_AFTER_BLAMES {
            self.blames.remove(&peer);
            return true;
        }
        if self.blames.len() > MAX_BLAMED {
            let others = self.blames.iter().filter(|(blamed, _)| **blamed != peer);
            let oldest = others.min_by_key(|(_, at)| at.back().copied()).map(|(blamed, _)| *blamed);
            oldest.map(|oldest| self.blames.remove(&oldest));
        }
        false
    }

    /// Bans; how long from now. A ban is not shortened by another one: a blame does not pardon whom the user banned
    /// for good.
    pub(super) fn ban(&mut self, peer: PeerId, period: Duration, now: Now) -> Duration {
        let until = now.after(period);
        let until = self.bans.get(&peer).map_or(until, |before| (*before).max(until));
        if !self.bans.contains_key(&peer) && self.bans.len() >= MAX_BANS {
            let soonest = self.bans.iter().min_by_key(|(_, until)| **until).map(|(banned, _)| *banned);
            soonest.map(|soonest| self.bans.remove(&soonest));
        }
        self.bans.insert(peer, until);
        until.saturating_duration_since(now.mono)
    }

    /// For how much longer a peer is banned, if it is.
    pub(super) fn banned(&self, peer: &PeerId, now: Now) -> Option<Duration> {
        let until = self.bans.get(peer).filter(|until| **until > now.mono)?;
        Some(until.saturating_duration_since(now.mono))
    }

    pub(super) fn unban(&mut self, peer: &PeerId) {
        self.bans.remove(peer);
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: Now) {
        self.bans.retain(|_, until| *until > now.mono);
        self.blames.retain(|_, blames| blames.back().is_some_and(|at| counts(*at, now.mono)));
    }

    pub(super) fn next_expiry(&self) -> Option<Deadline> {
        let ban = self.bans.values().min().map(|at| Deadline { at: *at, reason: "end of a ban" });
        let last = self.blames.values().filter_map(|blames| blames.back()?.checked_add(BLAME_WINDOW)).min();
        let blame = last.map(|at| Deadline { at, reason: "forget a panic" });
        Deadline::earlier(ban, blame)
    }
}

/// Whether a panic at `at` still counts.
fn counts(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < BLAME_WINDOW
}
