use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use peerage_core::{
    PeerId, ProtocolId,
    budget::{Account, Budget, Exhausted},
};

use super::{ConnectionId, LimitError, Scope, ledger::Ledger};

/// The bytes that one scope has in use.
#[derive(Debug)]
pub(super) struct Meter {
    used: AtomicUsize,
    max: usize,
    limit: &'static str,
    scope: Scope,
}

impl Meter {
    pub(super) fn new(limit: &'static str, max: usize, scope: Scope) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max, limit, scope })
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    fn take(&self, bytes: usize) -> Result<(), LimitError> {
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        match self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
            Ok(_) => Ok(()),
            Err(_) => Err(LimitError::new(self.limit, self.max, self.scope.clone())),
        }
    }

    fn give(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes, "given back twice");
    }
}

/// The memory of one connection or of one stream: what it takes counts for all scopes that it belongs to, or for none.
///
/// It lives as long as anything that was taken from it. The way of a byte does not lead through the ledger's lock: an
/// account has a lock of its own, which its connection shares with nobody, and the scopes are counted by atomics.
#[derive(Clone)]
pub struct MemoryScope(Arc<Inner>);

struct Inner {
    ledger: Ledger,
    chain: Mutex<Chain>,
    /// For a stream: that of its connection, which is charged as well.
    parent: Option<MemoryScope>,
}

struct Chain {
    used: usize,
    /// Its own first. That of its peer takes the place of the transient one at admission.
    meters: Vec<Arc<Meter>>,
}

impl MemoryScope {
    pub(super) fn new(ledger: Ledger, meters: Vec<Arc<Meter>>, parent: Option<MemoryScope>) -> Self {
        Self(Arc::new(Inner { ledger, chain: Mutex::new(Chain { used: 0, meters }), parent }))
    }

    /// Where memory of this scope is asked for.
    pub fn budget(&self) -> Budget {
        Budget::new(self.clone())
    }

    /// A scope within this connection's, for a stream.
    pub fn of_stream(&self, protocol: &ProtocolId, peer: PeerId) -> MemoryScope {
        let ledger = &self.0.ledger;
        ledger.stream_memory(protocol, peer, self.clone())
    }

    /// The peer is known: it is charged from now on, and for what there is already. Nothing changes if its share does
    /// not suffice.
    pub(super) fn admit(&self, id: ConnectionId, peer: PeerId) -> Result<(), LimitError> {
        let ledger = &self.0.ledger;
        let known = ledger.connection_meters(id, peer);
        let mut chain = self.lock();
        let used = chain.used;
        if let Err((taken, error)) = take_all(&known, used) {
            give_all(known.iter().take(taken), used);
            drop(chain);
            ledger.put_away(known);
            return Err(ledger.refused(error));
        }
        // Its own and the transient one; the prefixes' and the system's stay.
        let replaced = known.len().min(chain.meters.len());
        let transient: Vec<_> = chain.meters.splice(..replaced, known).collect();
        give_all(transient.iter(), used);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Chain> {
        // Nothing that is called under the lock can panic half way.
        self.0.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_take(&self, bytes: usize) -> Result<(), LimitError> {
        let mut chain = self.lock();
        if let Err((taken, error)) = take_all(&chain.meters, bytes) {
            give_all(chain.meters.iter().take(taken), bytes);
            return Err(error);
        }
        // A stream's lock is held while its connection's is taken, and never the other way round.
        if let Some(parent) = &self.0.parent
            && let Err(error) = parent.try_take(bytes)
        {
            give_all(chain.meters.iter(), bytes);
            return Err(error);
        }
        chain.used = chain.used.saturating_add(bytes);
        Ok(())
    }
}

/// Takes from each, or says how many were taken from before one refused.
fn take_all(meters: &[Arc<Meter>], bytes: usize) -> Result<(), (usize, LimitError)> {
    for (place, meter) in meters.iter().enumerate() {
        meter.take(bytes).map_err(|error| (place, error))?;
    }
    Ok(())
}

fn give_all<'a>(meters: impl Iterator<Item = &'a Arc<Meter>>, bytes: usize) {
    meters.for_each(|meter| meter.give(bytes));
}

impl Account for MemoryScope {
    fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let refused = |error| Exhausted::new(bytes, self.0.ledger.refused(error).to_string());
        self.try_take(bytes).map_err(refused)
    }

    fn give_back(&self, bytes: usize) {
        let mut chain = self.lock();
        chain.used = chain.used.saturating_sub(bytes);
        give_all(chain.meters.iter(), bytes);
        if let Some(parent) = &self.0.parent {
            parent.give_back(bytes);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let chain = self.chain.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.ledger.put_away(std::mem::take(&mut chain.meters));
    }
}

impl fmt::Debug for MemoryScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryScope").field("used", &self.lock().used).finish_non_exhaustive()
    }
}
