//! What is counted as it happens, with or without the feature that makes text of it (`metrics`).

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use peerage_transport::Stage;

use crate::dial::EarlySent;

/// What is counted where it happens; all else is read when it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) dials: Mutex<BTreeMap<(bool, Stage), u64>>,
    /// By what became of it.
    pub(crate) early: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) panics: AtomicU64,
    pub(crate) missed: AtomicU64,
}

impl Counters {
    /// An attempt at one address ended.
    pub(crate) fn dialed(&self, connected: bool, stage: Stage) {
        let mut dials = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
        let count = dials.entry((connected, stage)).or_default();
        *count = count.saturating_add(1);
    }

    /// A dial carried data ahead of its handshake.
    pub(crate) fn early(&self, became: &EarlySent) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        let count = early.entry(became.code()).or_default();
        *count = count.saturating_add(1);
    }

    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn missed(&self, events: u64) {
        self.missed.fetch_add(events, Ordering::Relaxed);
    }
}
