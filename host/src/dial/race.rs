use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use peerage_core::{Multiaddr, Now, PeerId};
use peerage_transport::{Fault, Stage, dns};

use super::{
    memory::Memory,
    messages::{AttemptId, Screen, Trust},
    paths::{Doubts, Heard},
    rank::{self, Family, Lane, RELAY_HEAD_START},
    report::{
        AttemptReport, AttemptResult, DialErrorKind, EarlySent, MAX_REPORTED, MAX_SOURCES, Report, Skip,
        SourceReport, tidy_error,
    },
};
use crate::addresses::is_path;

/// The most attempts of one dial at the same time; and beside them as many names that are being resolved.
pub const MAX_PARALLEL: usize = 8;
/// The most addresses that one dial tries: whoever poisons a source of addresses gains no more than that.
pub const MAX_ADDRESSES: usize = 16;
/// The most addresses that are looked at of what one source says.
pub const MAX_SAID: usize = 256;
/// The most questions that one dial asks of name servers; `/dns` is two, the other names are one.
pub const MAX_LOOKUPS: usize = 32;
/// How many names one dial resolves one after another to come to an address.
pub const MAX_NAME_DEPTH: usize = 4;

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

/// What is to be started.
#[derive(Debug)]
pub(super) enum Start {
    Attempt { address: Multiaddr, expected: Option<PeerId> },
    Resolve { address: Multiaddr },
}

/// What a race knows beside its addresses.
pub(super) struct Outside<'a> {
    pub(super) own: PeerId,
    pub(super) memory: &'a Memory,
    pub(super) screen: &'a dyn Screen,
    pub(super) now: Now,
}

/// The addresses of one dial: which of them may be tried, and when.
#[derive(Debug)]
pub(super) struct Race {
    peer: Option<PeerId>,
    /// The address that worked the last time.
    worked: Option<Multiaddr>,
    doubts: Doubts,
    began: Instant,
    /// Whose turn has not come: places in `attempts`.
    lanes: BTreeMap<Lane, Turns>,
    names: VecDeque<usize>,
    running: BTreeMap<AttemptId, usize>,
    resolving: BTreeMap<AttemptId, usize>,
    /// How far each was believed when it was taken.
    seen: BTreeMap<(Multiaddr, Option<PeerId>), Trust>,
    /// Addresses that are or were in the lanes.
    raced: usize,
    lookups: usize,
    last_direct: Instant,
    sources: Vec<SourceReport>,
    attempts: Vec<AttemptReport>,
    entries: Vec<Entry>,
    skipped: usize,
    omitted: usize,
}

/// What the report does not say of an address in it.
#[derive(Debug)]
struct Entry {
    /// Who has to be there, and for a name whose records count.
    expected: Option<PeerId>,
    trust: Trust,
    /// How many names are above it.
    depth: usize,
}

#[derive(Debug)]
struct Turns {
    waiting: Vec<usize>,
    next: Instant,
    last: Option<Family>,
}

/// Where an address is from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    Source(&'static str, Trust),
    /// A name.
    Name(AttemptId),
}

impl Race {
    pub(super) fn new(peer: Option<PeerId>, worked: Option<Multiaddr>, doubts: Doubts, now: Now) -> Self {
        let turns = |lane| (lane, Turns { waiting: Vec::new(), next: now.mono, last: None });
        Self {
            peer,
            worked,
            doubts,
            began: now.mono,
            lanes: Lane::ALL.into_iter().map(turns).collect(),
            names: VecDeque::new(),
            running: BTreeMap::new(),
            resolving: BTreeMap::new(),
            seen: BTreeMap::new(),
            raced: 0,
            lookups: 0,
            last_direct: now.mono,
            sources: Vec::new(),
            attempts: Vec::new(),
            entries: Vec::new(),
            skipped: 0,
            omitted: 0,
        }
    }

    /// Whom the dial is for, if that was said.
    pub(super) fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// Who has to be at the other end of an attempt.
    pub(super) fn expected(&self, id: AttemptId) -> Option<PeerId> {
        self.entries.get(*self.running.get(&id)?)?.expected
    }

    /// The address of an attempt or a resolution under way.
    pub(super) fn address(&self, id: AttemptId) -> Option<&Multiaddr> {
        let place = self.running.get(&id).or_else(|| self.resolving.get(&id))?;
        self.attempts.get(*place).map(|attempt| &attempt.address)
    }

    /// Takes an address into the race, or says in the report why not.
    pub(super) fn offer(&mut self, address: &Multiaddr, from: Origin, outside: &Outside<'_>) {
        let Some((source, via, trust, depth)) = self.origin(from) else {
            return;
        };
        let expected = address.peer_id().or(self.peer);
        let (address, _) = address.split_peer();
        let skip = self.skip(&address, expected, trust, depth, outside);
        if let Some(why) = &skip {
            let again = |attempt: &AttemptReport| attempt.address == address && attempt.source == source;
            if *why == Skip::Duplicate && via.is_none() && self.attempts.iter().any(again) {
                // The same one said it twice.
                return;
            }
            // What is tried is always reported; of what is not, as much as fits beside that.
            if self.skipped >= MAX_REPORTED.saturating_sub(MAX_ADDRESSES).saturating_sub(MAX_LOOKUPS) {
                self.omitted = self.omitted.saturating_add(1);
                return;
            }
            self.skipped = self.skipped.saturating_add(1);
        }
        let result = match skip {
            Some(why) => AttemptResult::Skipped(why),
            None => {
                self.seen.insert((address.clone(), expected), trust);
                self.enqueue(&address);
                AttemptResult::UnderWay
            }
        };
        let (stage, stages) = (Stage::Address, Vec::new());
        let (started, ended) = (None, None);
        let doubt = self.doubts.about(&address).filter(|_| result == AttemptResult::UnderWay);
        self.attempts.push(AttemptReport {
            address,
            source,
            via,
            doubt,
            started,
            ended,
            stage,
            stages,
            early: None,
            result,
        });
        self.entries.push(Entry { expected, trust, depth });
    }

    fn origin(&self, from: Origin) -> Option<(String, Option<usize>, Trust, usize)> {
        match from {
            Origin::Source(source, trust) => Some((source.to_owned(), None, trust, 0)),
            Origin::Name(id) => {
                let place = *self.resolving.get(&id)?;
                let (name, entry) = (self.attempts.get(place)?, self.entries.get(place)?);
                Some((name.source.clone(), Some(place), entry.trust, entry.depth.saturating_add(1)))
            }
        }
    }

    fn skip(
        &self,
        address: &Multiaddr,
        expected: Option<PeerId>,
        trust: Trust,
        depth: usize,
        outside: &Outside<'_>,
    ) -> Option<Skip> {
        if address.is_empty() {
            return Some(Skip::Nowhere);
        }
        if let (Some(named), Some(peer)) = (expected, self.peer)
            && named != peer
        {
            return Some(Skip::OtherPeer(named));
        }
        if expected == Some(outside.own) {
            return Some(Skip::Own);
        }
        // What a name stands for is believed as far as the name: asked for by somebody who is believed more, it is
        // another question.
        let enough = if dns::is_name(address) { trust } else { Trust::Hearsay };
        if self.seen.get(&(address.clone(), expected)).is_some_and(|seen| *seen >= enough) {
            return Some(Skip::Duplicate);
        }
        // However much whoever named the name is believed, a name server is somebody else.
        if depth > 0 && is_path(address) {
            return Some(Skip::Filtered("a name stands for no path of this machine"));
        }
        if let Some(skip) = outside.screen.skip(address, expected, trust) {
            return Some(skip);
        }
        // The peer of a dial was asked about before it began; here a name said who it is.
        if self.peer.is_none()
            && let Some(why) = expected.and_then(|peer| outside.screen.refuses(peer))
        {
            return Some(Skip::Gated(why));
        }
        if trust < Trust::Asked
            && let Some(peer) = expected
            && let Some(rests) = outside.memory.rests(peer, address, outside.now)
        {
            return Some(Skip::Backoff { failures: rests.failures, remaining: rests.remaining });
        }
        let asks = dns::lookups(address);
        if asks > 0 && depth >= MAX_NAME_DEPTH {
            return Some(Skip::Limit { what: "names one after another", max: MAX_NAME_DEPTH });
        }
        if asks > 0 && self.lookups.saturating_add(asks) > MAX_LOOKUPS {
            return Some(Skip::Limit { what: "questions of name servers", max: MAX_LOOKUPS });
        }
        if asks == 0 && self.raced >= MAX_ADDRESSES {
            return Some(Skip::Limit { what: "addresses", max: MAX_ADDRESSES });
        }
        None
    }

    /// Puts the next attempt in line.
    fn enqueue(&mut self, address: &Multiaddr) {
        let place = self.attempts.len();
        match dns::lookups(address) {
            0 => {
                self.raced = self.raced.saturating_add(1);
                if let Some(turns) = self.lanes.get_mut(&Lane::of(address)) {
                    turns.waiting.push(place);
                }
            }
            asks => {
                self.lookups = self.lookups.saturating_add(asks);
                self.names.push_back(place);
            }
        }
    }

    /// Takes what a source of addresses said.
    pub(super) fn source_said(
        &mut self,
        source: &'static str,
        trust: Trust,
        said: Result<Vec<Multiaddr>, String>,
        outside: &Outside<'_>,
    ) {
        if self.sources.len() < MAX_SOURCES {
            let said = said.as_ref().map(Vec::len).map_err(|error| tidy_error(error));
            self.sources.push(SourceReport { name: source.to_owned(), said });
        }
        let said = said.unwrap_or_default();
        self.omitted = self.omitted.saturating_add(said.len().saturating_sub(MAX_SAID));
        for address in said.iter().take(MAX_SAID) {
            self.offer(address, Origin::Source(source, trust), outside);
        }
    }

    /// Starts what may be started next, as `id`, if its time has come.
    pub(super) fn start(&mut self, id: AttemptId, now: Now) -> Option<Start> {
        if self.resolving.len() < MAX_PARALLEL
            && let Some(place) = self.names.pop_front()
        {
            return self.start_name(id, place, now);
        }
        if self.running.len() >= MAX_PARALLEL {
            return None;
        }
        let (lane, place) = self.next_in_line(now)?;
        let attempt = self.attempts.get_mut(place)?;
        attempt.started = Some(now.since(self.began));
        self.running.insert(id, place);
        let address = attempt.address.clone();
        let turns = self.lanes.get_mut(&lane)?;
        turns.waiting.retain(|waiting| *waiting != place);
        turns.next = now.after(lane.head_start());
        turns.last = Some(Family::of(&address));
        if lane != Lane::Relayed {
            self.last_direct = now.mono;
        }
        if self.worked.as_ref() == Some(&address) {
            // It probably does so again: its head start is one over all.
            self.lanes
                .values_mut()
                .for_each(|turns| turns.next = turns.next.max(now.after(lane.head_start())));
        }
        let expected = self.entries.get(place)?.expected;
        Some(Start::Attempt { address, expected })
    }

    fn start_name(&mut self, id: AttemptId, place: usize, now: Now) -> Option<Start> {
        let attempt = self.attempts.get_mut(place)?;
        let since = now.since(self.began);
        attempt.started = Some(since);
        attempt.result = AttemptResult::UnderWay;
        attempt.stage = Stage::Dns;
        attempt.stages.push((Stage::Dns, since));
        self.resolving.insert(id, place);
        let expected = self.entries.get(place)?.expected;
        let with_peer = expected.and_then(|peer| attempt.address.with_peer(peer).ok());
        Some(Start::Resolve { address: with_peer.unwrap_or_else(|| attempt.address.clone()) })
    }

    /// The lane whose turn it is, and the place of its next. What worked the last time goes before everything else.
    fn next_in_line(&self, now: Now) -> Option<(Lane, usize)> {
        let due = Lane::ALL.into_iter().filter(|lane| self.turn(*lane).is_some_and(|at| at <= now.mono));
        let next: Vec<_> = due.filter_map(|lane| Some((lane, self.next_of(lane)?))).collect();
        let worked = next.iter().find(|(_, place)| {
            self.attempts.get(*place).map(|attempt| &attempt.address) == self.worked.as_ref()
        });
        worked.or(next.first()).copied()
    }

    fn next_of(&self, lane: Lane) -> Option<usize> {
        let turns = self.lanes.get(&lane)?;
        let addresses = turns.waiting.iter().filter_map(|place| self.attempts.get(*place));
        let addresses = addresses.map(|attempt| &attempt.address);
        let next = rank::next(addresses, self.worked.as_ref(), turns.last, self.doubts)?;
        turns.waiting.get(next).copied()
    }

    /// When a lane may start its next; `None` while none waits in it.
    fn turn(&self, lane: Lane) -> Option<Instant> {
        let turns = self.lanes.get(&lane).filter(|turns| !turns.waiting.is_empty())?;
        if lane != Lane::Relayed {
            return Some(turns.next);
        }
        let direct_waits = [Lane::Near, Lane::Internet].into_iter().any(|lane| self.turn(lane).is_some());
        if direct_waits {
            return None;
        }
        let direct_runs = !self.resolving.is_empty()
            || self
                .running
                .values()
                .any(|place| self.attempts.get(*place).is_some_and(|attempt| !attempt.address.is_relayed()));
        let patience = self.last_direct.checked_add(RELAY_HEAD_START).filter(|_| direct_runs);
        Some(patience.map_or(turns.next, |patience| patience.max(turns.next)))
    }

    /// When the next may start; `None` while none waits, or as many run as may.
    pub(super) fn next_start(&self) -> Option<Instant> {
        if !self.names.is_empty() && self.resolving.len() < MAX_PARALLEL {
            return Some(self.began);
        }
        let turns = Lane::ALL.into_iter().filter_map(|lane| self.turn(lane));
        turns.min().filter(|_| self.running.len() < MAX_PARALLEL)
    }

    /// Whether nothing runs and nothing waits.
    pub(super) fn is_over(&self) -> bool {
        self.running.is_empty()
            && self.resolving.is_empty()
            && self.names.is_empty()
            && self.lanes.values().all(|turns| turns.waiting.is_empty())
    }

    pub(super) fn stage(&mut self, id: AttemptId, stage: Stage, now: Now) {
        let place = self.running.get(&id).copied();
        if let Some(attempt) = place.and_then(|place| self.attempts.get_mut(place))
            && stage > attempt.stage
        {
            attempt.stage = stage;
            attempt.stages.push((stage, now.since(self.began)));
        }
    }

    /// Notes what became of data that an attempt carried ahead of its handshake.
    pub(super) fn early(&mut self, id: AttemptId, early: EarlySent) {
        let place = self.running.get(&id).copied();
        if let Some(attempt) = place.and_then(|place| self.attempts.get_mut(place)) {
            attempt.early = Some(match early {
                EarlySent::Failed { error } => EarlySent::Failed { error: tidy_error(&error) },
                early => early,
            });
        }
    }

    /// Ends an attempt that failed; the next need not wait for it.
    pub(super) fn failed(&mut self, id: AttemptId, failed: Failed, now: Now) {
        self.stage(id, failed.stage, now);
        let result = match failed.found {
            Some(found) => AttemptResult::WrongPeer { found },
            None => AttemptResult::Failed { error: tidy_error(&failed.error), fault: failed.fault },
        };
        self.end_and_go_on(id, result, now);
    }

    /// Ends an attempt at whose end another peer was.
    pub(super) fn wrong_peer(&mut self, id: AttemptId, found: PeerId, now: Now) {
        self.end_and_go_on(id, AttemptResult::WrongPeer { found }, now);
    }

    fn end_and_go_on(&mut self, id: AttemptId, result: AttemptResult, now: Now) {
        let lane = self.address(id).map(Lane::of);
        self.end(id, result, now);
        if let Some(turns) = lane.and_then(|lane| self.lanes.get_mut(&lane)) {
            turns.next = now.mono;
        }
    }

    /// Ends the resolution of a name.
    pub(super) fn resolved(&mut self, id: AttemptId, result: Result<(), Failed>, now: Now) {
        let place = self.resolving.get(&id).copied();
        let result = match result {
            Ok(()) => {
                let from_it = |attempt: &&AttemptReport| attempt.via.is_some() && attempt.via == place;
                AttemptResult::Resolved { addresses: self.attempts.iter().filter(from_it).count() }
            }
            Err(failed) => AttemptResult::Failed { error: tidy_error(&failed.error), fault: failed.fault },
        };
        self.end(id, result, now);
    }

    /// Ends an attempt that came through.
    pub(super) fn won(&mut self, id: AttemptId, now: Now) {
        self.stage(id, Stage::Muxer, now);
        self.end(id, AttemptResult::Connected, now);
    }

    /// Ends what runs and forgets what waits. Returns what ran.
    pub(super) fn abandon(&mut self, now: Now) -> Vec<AttemptId> {
        let running: Vec<_> = self.running.keys().chain(self.resolving.keys()).copied().collect();
        for id in &running {
            self.end(*id, AttemptResult::Abandoned, now);
        }
        self.names.clear();
        self.lanes.values_mut().for_each(|turns| turns.waiting.clear());
        running
    }

    /// The report as of now.
    pub(super) fn report(&self, now: Now) -> Report {
        let mut attempts = self.attempts.clone();
        for attempt in &mut attempts {
            if attempt.started.is_none() && attempt.result == AttemptResult::UnderWay {
                attempt.result = AttemptResult::Skipped(Skip::NotReached);
            }
        }
        let sources = self.sources.clone();
        Report { peer: self.peer, took: now.since(self.began), sources, attempts, omitted: self.omitted }
    }

    /// What the attempts, none of which runs any more, showed of the network.
    pub(super) fn heard(&self) -> Vec<(&Multiaddr, Heard)> {
        let heard = |attempt: &AttemptReport| {
            if attempt.result == AttemptResult::UnderWay {
                return Some(Heard::Untried);
            }
            let (started, ended) = (attempt.started?, attempt.ended?);
            let refused = matches!(attempt.result, AttemptResult::Failed { fault: Fault::Remote, .. });
            let answered = attempt.stages.iter().find(|(stage, _)| *stage > Stage::Connect);
            let answered = answered.map(|(_, at)| *at).or(refused.then_some(ended));
            Some(match answered {
                Some(at) => Heard::Answer { after: at.saturating_sub(started) },
                None => Heard::Nothing { lasted: ended.saturating_sub(started) },
            })
        };
        let tried = self.attempts.iter().filter(|attempt| !attempt.is_name());
        tried.filter_map(|attempt| Some((&attempt.address, heard(attempt)?))).collect()
    }

    /// Why it came to nothing, once it is over.
    pub(super) fn verdict(&self) -> DialErrorKind {
        // A name that was resolved is no attempt, and one that was not is a failed one.
        let resolved = |attempt: &AttemptReport| matches!(attempt.result, AttemptResult::Resolved { .. });
        let tried = self.attempts.iter().filter(|attempt| attempt.started.is_some() && !resolved(attempt));
        let mut tried = tried.peekable();
        let Some(first) = tried.peek() else {
            let rests = self.attempts.iter().filter_map(|attempt| match attempt.result {
                AttemptResult::Skipped(Skip::Backoff { remaining, .. }) => Some(remaining),
                _ => None,
            });
            if let Some(retry_in) = rests.min() {
                return DialErrorKind::Backoff { retry_in };
            }
            let gated = self.attempts.iter().find_map(|attempt| match &attempt.result {
                AttemptResult::Skipped(Skip::Gated(why)) => Some(why.clone()),
                _ => None,
            });
            return gated.map_or(DialErrorKind::NoAddresses, DialErrorKind::Gated);
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
        let place = self.running.remove(&id).or_else(|| self.resolving.remove(&id));
        if let Some(attempt) = place.and_then(|place| self.attempts.get_mut(place)) {
            attempt.ended = Some(now.since(self.began));
            attempt.result = result;
        }
    }
}
