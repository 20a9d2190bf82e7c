//! What outlives a life of the engine, when it panics.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use peerage_core::{Multiaddr, Now, PeerId};

use super::{Engine, judge};
use crate::{seen::Seen, topic::Topic};

/// Lives in a row that end before their first heartbeat, after which nothing is handed on: what they got may be what they
/// die of.
const STILLBORN: u32 = 3;

/// Where an engine that dies leaves what the next one has to know. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Option<Kept>>>);

/// What is handed on. What a panic has interrupted may be counted half.
#[derive(Debug)]
struct Kept {
    seen: Seen,
    judge: judge::Kept,
    blacklist: BTreeSet<PeerId>,
    direct: BTreeMap<PeerId, Vec<Multiaddr>>,
    backoffs: BTreeMap<Topic, BTreeMap<PeerId, Instant>>,
    /// Lives that ended without a heartbeat.
    stillborn: u32,
    /// What is not handed on, by number.
    cached: usize,
    in_progress: usize,
    promises: usize,
    groups: usize,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// The same engine, which hands on what it knows when it dies, and begins with what the one before has left.
    #[must_use]
    pub fn remembering(mut self, memory: Memory) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Takes what the one before has left. It is made while that is still there, and is told nothing before it is gone.
    pub(super) fn recall(&mut self, now: Now) {
        self.awake = true;
        let Some(kept) = self.memory.as_ref().and_then(|memory| memory.lock().take()) else { return };
        let lost = &mut self.net.stats.lost;
        lost.lives = 1;
        (lost.cached, lost.in_progress) = (kept.cached as u64, kept.in_progress as u64);
        (lost.promises, lost.groups) = (kept.promises as u64, kept.groups as u64);
        if kept.stillborn >= STILLBORN {
            lost.seen = kept.seen.len() as u64;
            lost.judged = kept.judge.len() as u64;
            return;
        }
        self.stillborn = kept.stillborn;
        self.seen = kept.seen;
        (self.blacklist, self.direct) = (kept.blacklist, kept.direct);
        for (topic, backoff) in kept.backoffs {
            self.topics.entry(topic).or_default().backoff = backoff;
        }
        let wanted = |topic: &Topic| self.topics.get(topic).is_some_and(|known| known.subscribed);
        lost.rewarded = self.judge.recall(kept.judge, wanted, now) as u64;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // One that did nothing has left what it would have got to the next.
        let Some(memory) = self.memory.take().filter(|_| self.awake) else { return };
        let backoffs = mem::take(&mut self.topics).into_iter().map(|(topic, known)| (topic, known.backoff));
        let kept = Kept {
            judge: self.judge.hand_on(),
            blacklist: mem::take(&mut self.blacklist),
            direct: mem::take(&mut self.direct),
            backoffs: backoffs.filter(|(_, backoff)| !backoff.is_empty()).collect(),
            stillborn: if self.heartbeats == 0 { self.stillborn.saturating_add(1) } else { 0 },
            cached: self.cache.len(),
            in_progress: self.intake.in_progress(),
            promises: self.promises.len(),
            groups: self.groups.published(),
            seen: self.seen.hand_on(),
        };
        *memory.lock() = Some(kept);
    }
}
