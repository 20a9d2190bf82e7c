use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Now, PeerId};

use super::MAX_PEERS;
use crate::reply::Reply;

/// How long changes are gathered before they are written.
pub const WRITE_DELAY: Duration = Duration::from_secs(1);
/// How long after a failed write the next is tried. A full disk that has room again is noticed by then.
pub const RETRY: Duration = Duration::from_secs(4);
/// A store that goes on failing is reported so often.
pub const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Peers that are written at once.
pub(super) const WRITE_BATCH: usize = 64;
/// Peers that are noted as changed while the store is being read. What changes beyond that, because reading hangs, is
/// written when it changes again.
const MAX_CHANGED: usize = 4 * MAX_PEERS;
/// Requests to write at once that may wait; one more is answered without waiting.
const MAX_FLUSHES: usize = 16;

/// Decides when which peers are written. It knows which have a row on disk, so that peers that come and go between two
/// writes cost nothing.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    on: bool,
    /// Rows are being read. Until that is over nothing is written: it would replace what was not read yet.
    loading: bool,
    changed: BTreeSet<PeerId>,
    stored: BTreeSet<PeerId>,
    /// Whose rows are being written, and whether they have one afterwards.
    writing: Vec<(PeerId, bool)>,
    due: Option<Instant>,
    failing: bool,
    reported: Option<Instant>,
    flushes: Vec<Reply<()>>,
}

/// What the user is told of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tell {
    Nothing,
    Failed,
    Resumed,
}

impl Keeping {
    /// Begins with reading what is there.
    pub(super) fn on() -> Self {
        Self { on: true, loading: true, ..Self::default() }
    }

    /// A row was read, and is on disk.
    pub(super) fn read(&mut self, peer: PeerId) {
        self.stored.insert(peer);
    }

    /// Reading is over.
    pub(super) fn loaded(&mut self, now: Now) {
        self.loading = false;
        self.schedule(now);
    }

    /// What is known of a peer has changed. `worth`: whether it is to be on disk at all.
    pub(super) fn changed(&mut self, peer: PeerId, worth: bool, now: Now) {
        if !self.on {
            return;
        }
        if self.loading && self.changed.len() >= MAX_CHANGED {
            return;
        }
        // Of a peer that is not on disk and shall not be, nothing has to be done.
        if worth
            || self.loading
            || self.stored.contains(&peer)
            || self.writing.iter().any(|(writing, _)| *writing == peer)
        {
            self.changed.insert(peer);
            self.schedule(now);
        } else {
            self.changed.remove(&peer);
        }
    }

    /// Writes at once, and answers when it is done or has failed.
    pub(super) fn flush(&mut self, reply: Reply<()>, now: Now) -> Option<Reply<()>> {
        if !self.on || self.is_clean() || self.flushes.len() >= MAX_FLUSHES {
            return Some(reply);
        }
        self.flushes.push(reply);
        if !self.failing {
            self.due = Some(now.mono);
        }
        None
    }

    /// The peers whose rows are to be written now, or deleted where they are not `worth` one. The latter come first: else
    /// churn could keep them waiting while the file grows.
    pub(super) fn take(&mut self, worth: impl Fn(&PeerId) -> bool, now: Now) -> Vec<PeerId> {
        if self.loading || !self.writing.is_empty() || self.due.is_none_or(|due| due > now.mono) {
            return Vec::new();
        }
        self.due = None;
        let changed = self.changed.iter().map(|peer| (*peer, worth(peer)));
        let (kept, gone): (Vec<_>, Vec<_>) = changed.partition(|(_, worth)| *worth);
        self.writing = gone.into_iter().chain(kept).take(WRITE_BATCH).collect();
        let peers: Vec<_> = self.writing.iter().map(|(peer, _)| *peer).collect();
        for peer in &peers {
            self.changed.remove(peer);
        }
        peers
    }

    /// How the write went.
    pub(super) fn written(&mut self, ok: bool, now: Now) -> Tell {
        let written = std::mem::take(&mut self.writing);
        if ok {
            for (peer, kept) in written {
                if kept {
                    self.stored.insert(peer)
                } else {
                    self.stored.remove(&peer)
                };
            }
            // More may be left over than one batch; it does not wait.
            self.due = (!self.changed.is_empty()).then_some(now.mono);
            let told = self.reported.take().is_some();
            self.failing = false;
            return if told { Tell::Resumed } else { Tell::Nothing };
        }
        self.changed.extend(written.into_iter().map(|(peer, _)| peer));
        self.failing = true;
        self.due = Some(now.after(RETRY));
        self.report(now)
    }

    /// The store has failed: whether it is time to say so.
    pub(super) fn report(&mut self, now: Now) -> Tell {
        if self.reported.is_some_and(|at| now.since(at) < REPORT_EVERY) {
            return Tell::Nothing;
        }
        self.reported = Some(now.mono);
        Tell::Failed
    }

    /// Those who wait for a write that is done, or that has failed.
    pub(super) fn answered(&mut self) -> Vec<Reply<()>> {
        if self.failing || self.is_clean() { std::mem::take(&mut self.flushes) } else { Vec::new() }
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        let at = self.due.filter(|_| !self.loading && self.writing.is_empty())?;
        Some(Deadline { at, reason: "the peer book is written" })
    }

    fn is_clean(&self) -> bool {
        self.changed.is_empty() && self.writing.is_empty()
    }

    fn schedule(&mut self, now: Now) {
        if self.due.is_none() && !self.changed.is_empty() {
            self.due = Some(now.after(WRITE_DELAY));
        }
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::{Keypair, Now};

    use super::*;

    #[test]
    fn a_store_that_hangs_does_not_gather_peers() {
        let now = Now { mono: tokio::time::Instant::now().into_std(), unix: Duration::ZERO };
        let mut keeping = Keeping::on();
        let change = |keeping: &mut Keeping, n: usize| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&n.to_le_bytes());
            keeping.changed(Keypair::from_ed25519_seed(seed).peer_id(), false, now);
            keeping.changed.len()
        };
        for n in 1..=MAX_CHANGED {
            assert_eq!(change(&mut keeping, n), n);
        }
        assert_eq!(change(&mut keeping, MAX_CHANGED + 1), MAX_CHANGED);
        keeping.loaded(now);
        assert!(keeping.deadline().is_some());
    }
}
