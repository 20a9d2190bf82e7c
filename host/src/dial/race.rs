use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use peerage_core::{Multiaddr, Now, PeerId};
use peerage_transport::{Fault, Stage};

use super::{
    messages::AttemptId,
    report::{
        AttemptReport, AttemptResult, DialErrorKind, MAX_REPORTED, MAX_SOURCES, Report, SourceReport,
        tidy_error,
    },
};

/// The most attempts of one dial at the same time.
pub const MAX_PARALLEL: usize = 8;
/// The most addresses that one dial tries: whoever poisons a source of addresses gains no more than that.
pub const MAX_ADDRESSES: usize = 16;
/// How long the next attempt waits for the previous one to succeed or to fail (RFC 8305, section 5).
pub const HEAD_START: Duration = Duration::from_millis(250);

/// An attempt that came through.
#[derive(Debug)]
pub(crate) struct Won<C> {
    /// Who answered, proven.
    pub(crate) peer: PeerId,
    pub(crate) connection: C,
}

/// An attempt that did not.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// The stage that failed.
    pub(crate) stage: Stage,
    pub(crate) error: String,
    pub(crate) fault: Fault,
    /// Who answered, if it was the wrong one.
    pub(crate) found: Option<PeerId>,
}

/// The addresses of one dial: which of them may be tried, and when.
#[derive(Debug)]
pub(super) struct Race {
    peer: Option<PeerId>,
    began: Instant,
    /// Whose turn has not come: places in `attempts`.
    queue: VecDeque<usize>,
    running: BTreeMap<AttemptId, usize>,
    seen: BTreeSet<Multiaddr>,
    next_start: Instant,
    sources: Vec<SourceReport>,
    attempts: Vec<AttemptReport>,
    skipped: usize,
    omitted: usize,
}

impl Race {
    pub(super) fn new(peer: Option<PeerId>, now: Now) -> Self {
        Self {
            peer,
            began: now.mono,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            seen: BTreeSet::new(),
            next_start: now.mono,
            sources: Vec::new(),
            attempts: Vec::new(),
            skipped: 0,
            omitted: 0,
        }
    }

    pub(super) fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// Takes an address into the race, or says in the report why not.
    pub(super) fn offer(&mut self, address: &Multiaddr, source: &'static str) {
        let names = address.peer_id();
        let (address, _) = address.split_peer();
        if self.seen.contains(&address) {
            return;
        }
        let why = match (names, self.peer) {
            _ if address.is_empty() => Some("it says only who, not where".to_owned()),
            (Some(named), Some(peer)) if named != peer => Some(format!("it leads to {named}")),
            _ if self.seen.len() >= MAX_ADDRESSES => {
                Some(format!("a dial tries {MAX_ADDRESSES} addresses at most"))
            }
            _ => None,
        };
        if why.is_some() {
            // What is tried is always reported; of what is not, as much as fits beside that.
            if self.skipped >= MAX_REPORTED.saturating_sub(MAX_ADDRESSES) {
                self.omitted = self.omitted.saturating_add(1);
                return;
            }
            self.skipped = self.skipped.saturating_add(1);
        }
        let result = match why {
            Some(why) => AttemptResult::Skipped { why },
            None => {
                self.seen.insert(address.clone());
                self.enqueue(address.is_relayed());
                AttemptResult::UnderWay
            }
        };
        let source = source.to_owned();
        let stage = Stage::Address;
        self.attempts.push(AttemptReport { address, source, started: None, ended: None, stage, result });
    }

    /// Puts the next attempt in line: a relay's bandwidth is not spent while a direct way may do.
    fn enqueue(&mut self, relayed: bool) {
        let is_relayed =
            |place: &usize| self.attempts.get(*place).is_some_and(|attempt| attempt.address.is_relayed());
        let first_relayed = self.queue.iter().position(is_relayed).filter(|_| !relayed);
        self.queue.insert(first_relayed.unwrap_or(self.queue.len()), self.attempts.len());
    }

    /// Takes what a source of addresses said.
    pub(super) fn source_said(&mut self, source: &'static str, said: Result<Vec<Multiaddr>, String>) {
        if self.sources.len() < MAX_SOURCES {
            let said = said.as_ref().map(Vec::len).map_err(|error| tidy_error(error));
            self.sources.push(SourceReport { name: source.to_owned(), said });
        }
        for address in said.into_iter().flatten() {
            self.offer(&address, source);
        }
    }

    /// Starts the next attempt, as `id`, if its time has come.
    pub(super) fn start(&mut self, id: AttemptId, now: Now) -> Option<Multiaddr> {
        if self.next_start()? > now.mono {
            return None;
        }
        let place = self.queue.pop_front()?;
        let attempt = self.attempts.get_mut(place)?;
        attempt.started = Some(now.since(self.began));
        self.running.insert(id, place);
        self.next_start = now.after(HEAD_START);
        Some(attempt.address.clone())
    }

    /// When the next attempt may start; `None` while none waits, or as many run as may.
    pub(super) fn next_start(&self) -> Option<Instant> {
        (!self.queue.is_empty() && self.running.len() < MAX_PARALLEL).then_some(self.next_start)
    }

    /// Whether nothing runs and nothing waits.
    pub(super) fn is_over(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }

    pub(super) fn stage(&mut self, id: AttemptId, stage: Stage) {
        let place = self.running.get(&id).copied();
        if let Some(attempt) = place.and_then(|place| self.attempts.get_mut(place)) {
            attempt.stage = attempt.stage.max(stage);
        }
    }

    /// Ends an attempt that failed; the next need not wait for it.
    pub(super) fn failed(&mut self, id: AttemptId, failed: Failed, now: Now) {
        self.stage(id, failed.stage);
        let result = match failed.found {
            Some(found) => AttemptResult::WrongPeer { found },
            None => AttemptResult::Failed { error: tidy_error(&failed.error), fault: failed.fault },
        };
        self.end(id, result, now);
        self.next_start = now.mono;
    }

    /// Ends an attempt at whose end another peer was.
    pub(super) fn wrong_peer(&mut self, id: AttemptId, found: PeerId, now: Now) {
        self.end(id, AttemptResult::WrongPeer { found }, now);
        self.next_start = now.mono;
    }

    /// Ends an attempt that came through.
    pub(super) fn won(&mut self, id: AttemptId, now: Now) {
        self.stage(id, Stage::Muxer);
        self.end(id, AttemptResult::Connected, now);
    }

    /// Ends what runs and forgets what waits. Returns what ran.
    pub(super) fn abandon(&mut self, now: Now) -> Vec<AttemptId> {
        let running: Vec<_> = self.running.keys().copied().collect();
        for id in &running {
            self.end(*id, AttemptResult::Abandoned, now);
        }
        self.queue.clear();
        running
    }

    /// The report as of now.
    pub(super) fn report(&self, now: Now) -> Report {
        let mut attempts = self.attempts.clone();
        for attempt in &mut attempts {
            if attempt.started.is_none() && attempt.result == AttemptResult::UnderWay {
                attempt.result = AttemptResult::Skipped { why: "its turn did not come".to_owned() };
            }
        }
        let sources = self.sources.clone();
        Report { peer: self.peer, took: now.since(self.began), sources, attempts, omitted: self.omitted }
    }

    /// Why it came to nothing, once it is over.
    pub(super) fn verdict(&self) -> DialErrorKind {
        let mut tried = self.attempts.iter().filter(|attempt| attempt.started.is_some()).peekable();
        let Some(first) = tried.peek() else {
            return DialErrorKind::NoAddresses;
        };
        match (&first.result, self.peer) {
            (AttemptResult::WrongPeer { found }, Some(expected))
                if tried.all(|attempt| matches!(attempt.result, AttemptResult::WrongPeer { .. })) =>
            {
                DialErrorKind::WrongPeer { expected, found: *found }
            }
            _ => DialErrorKind::AllFailed,
        }
    }

    fn end(&mut self, id: AttemptId, result: AttemptResult, now: Now) {
        let place = self.running.remove(&id);
        if let Some(attempt) = place.and_then(|place| self.attempts.get_mut(place)) {
            attempt.ended = Some(now.since(self.began));
            attempt.result = result;
        }
    }
}
