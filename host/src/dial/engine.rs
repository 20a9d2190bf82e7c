use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Multiaddr, Now, PeerId, engine};
use peerage_transport::Fault;

use super::{
    memory::Memory,
    messages::{Action, AttemptId, Command, DialId, DialReply, Given, How, Input, RequestId, Screen, Trust},
    paths::Paths,
    race::{Failed, Origin, Outside, Race, Start, Won},
    report::{Connected, DialError, DialErrorKind, Report},
};
use crate::{
    hub::Refused,
    limits::{ConnectionId, LimitError, Scope},
};

/// The most dials under way; one more is refused.
pub const MAX_DIALS: usize = 512;
/// The most requests that wait for one dial; one more is refused.
pub const MAX_REQUESTS_PER_DIAL: usize = 1024;
/// What one attempt gets at most, so that addresses where nobody answers make room for others in a long dial.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The state of the Dialer, for connections `C` of which it knows nothing.
#[derive(Debug)]
pub(crate) struct Engine<C> {
    own: PeerId,
    dials: BTreeMap<DialId, Dial>,
    by_key: BTreeMap<Key, DialId>,
    /// Attempts, and names that are being resolved.
    attempts: BTreeMap<AttemptId, DialId>,
    memory: Memory,
    paths: Paths,
    screen: Box<dyn Screen + Send>,
    /// The last number given to a dial, an attempt or a place in line.
    last: u64,
    shut_down: bool,
    actions: VecDeque<Action<C>>,
}

/// What makes two requests the same dial: whom, and how.
type Key = (Whom, How);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    Peer(PeerId),
    Address(Multiaddr),
}

#[derive(Debug)]
struct Dial {
    key: Key,
    race: Race,
    /// By deadline, and by a number that tells equal ones apart.
    requests: BTreeMap<(Instant, u64), Request>,
    sources_open: bool,
    /// Who answered, while the Host decides.
    adopting: Option<PeerId>,
}

#[derive(Debug)]
struct Request {
    id: Option<RequestId>,
    reply: DialReply,
}

impl Dial {
    /// When the last request ends.
    fn deadline(&self, now: Now) -> Instant {
        self.requests.last_key_value().map_or(now.mono, |((deadline, _), _)| *deadline)
    }
}

impl<C> Engine<C> {
    /// The Dialer of the node `own`. Its numbers begin at `first`: in a later life at others than in the former, whose
    /// attempts may still report. What `screen` says no to is not dialed.
    pub(crate) fn new(own: PeerId, first: u64, screen: Box<dyn Screen + Send>, rng: engine::Rng) -> Self {
        Self {
            own,
            dials: BTreeMap::new(),
            by_key: BTreeMap::new(),
            attempts: BTreeMap::new(),
            memory: Memory::new(rng),
            paths: Paths::default(),
            screen,
            last: first,
            shut_down: false,
            actions: VecDeque::new(),
        }
    }

    fn dial(
        &mut self,
        peer: Option<PeerId>,
        addresses: &[Given],
        how: How,
        deadline: Instant,
        request: Request,
        now: Now,
    ) {
        let mut asked = addresses.iter().filter(|given| given.trust == Trust::Asked);
        let peer = peer.or_else(|| asked.find_map(|given| given.address.peer_id()));
        let whom = match (peer, addresses.first()) {
            (Some(peer), _) => Whom::Peer(peer),
            (None, Some(given)) => Whom::Address(given.address.clone()),
            (None, None) => return self.refuse(request, DialErrorKind::NoAddresses, peer),
        };
        let key = (whom, how);
        if let Some(kind) = self.refusal(peer, &key, deadline, now) {
            return self.refuse(request, kind, peer);
        }
        let line = self.next();
        let id = self.join_or_begin(key, peer, deadline, now);
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        let (memory, screen) = (&self.memory, self.screen.as_ref());
        let outside = Outside { own: self.own, memory, screen, now };
        for Given { address, source, trust } in addresses {
            dial.race.offer(address, Origin::Source(source, *trust), &outside);
        }
        dial.requests.insert((deadline, line), request);
        self.go_on(id, now);
    }

    fn refusal(&self, peer: Option<PeerId>, key: &Key, deadline: Instant, now: Now) -> Option<DialErrorKind> {
        if self.shut_down {
            return Some(DialErrorKind::Closed);
        }
        if peer == Some(self.own) {
            return Some(DialErrorKind::SelfDial);
        }
        if let Some(why) = peer.and_then(|peer| self.screen.refuses(peer)) {
            return Some(DialErrorKind::Gated(why));
        }
        if deadline <= now.mono {
            return Some(DialErrorKind::Timeout);
        }
        let full = match self.by_key.get(key).and_then(|id| self.dials.get(id)) {
            Some(dial) => {
                let scope = || peer.map_or(Scope::System, Scope::Peer);
                LimitError::check(dial.requests.len(), MAX_REQUESTS_PER_DIAL, "requests for one dial", scope)
            }
            None => LimitError::check(self.dials.len(), MAX_DIALS, "dials under way", || Scope::System),
        };
        full.err().map(DialErrorKind::Limit)
    }

    fn refuse(&mut self, request: Request, kind: DialErrorKind, peer: Option<PeerId>) {
        let result = Err(DialError::new(kind, Arc::new(Report::of(peer))));
        self.actions.push_back(Action::Answer { reply: request.reply, result });
    }

    fn join_or_begin(&mut self, key: Key, peer: Option<PeerId>, deadline: Instant, now: Now) -> DialId {
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let id = DialId(self.next());
        self.by_key.insert(key.clone(), id);
        if let Some(peer) = peer {
            self.actions.push_back(Action::AskSources { dial: id, peer, deadline });
        }
        let worked = peer.and_then(|peer| self.memory.best(peer)).cloned();
        let race = Race::new(peer, worked, self.paths.doubts(now), now);
        let sources_open = peer.is_some();
        self.dials.insert(id, Dial { key, race, requests: BTreeMap::new(), sources_open, adopting: None });
        id
    }

    /// Starts the attempts whose time has come, and ends the dial if nothing can come any more.
    fn go_on(&mut self, id: DialId, now: Now) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        if dial.adopting.is_some() {
            return;
        }
        loop {
            let attempt = AttemptId(self.last.saturating_add(1));
            let Some(start) = dial.race.start(attempt, now) else {
                break;
            };
            self.last = attempt.0;
            self.attempts.insert(attempt, id);
            let deadline = dial.deadline(now).min(now.after(ATTEMPT_TIMEOUT));
            self.actions.push_back(match start {
                Start::Attempt { address, expected } => {
                    Action::Attempt { attempt, address, expected, how: dial.key.1, deadline }
                }
                Start::Resolve { address } => Action::Resolve { attempt, address, deadline },
            });
        }
        if dial.race.is_over() && !dial.sources_open {
            let kind = dial.race.verdict();
            self.finish(id, Err(kind), now);
        }
    }

    fn attempt_ended(&mut self, attempt: AttemptId, result: Result<Won<C>, Failed>, now: Now) {
        let id = self.attempts.remove(&attempt);
        let dial = id.and_then(|id| Some((id, self.dials.get_mut(&id)?)));
        match (dial, result) {
            (Some((id, dial)), Ok(Won { peer, connection })) => {
                let expected = dial.race.expected(attempt);
                let address = dial.race.address(attempt);
                if let Some(expected) = expected.filter(|expected| *expected != peer) {
                    if let Some(address) = address {
                        self.memory.failed(expected, address, now);
                    }
                    dial.race.wrong_peer(attempt, peer, now);
                    self.actions.push_back(Action::Discard { connection });
                    self.go_on(id, now);
                    return;
                }
                if let Some(address) = address {
                    self.memory.worked(peer, address);
                }
                dial.race.won(attempt, now);
                dial.adopting = Some(peer);
                self.abandon(id, now);
                self.actions.push_back(Action::Adopt { dial: id, connection });
            }
            (Some((id, dial)), Err(failed)) => {
                // What is this node's own fault says nothing of the address.
                if failed.fault != Fault::Local
                    && let (Some(peer), Some(address)) =
                        (dial.race.expected(attempt), dial.race.address(attempt))
                {
                    self.memory.failed(peer, address, now);
                }
                dial.race.failed(attempt, failed, now);
                self.go_on(id, now);
            }
            (None, Ok(Won { connection, .. })) => self.actions.push_back(Action::Discard { connection }),
            (None, Err(_)) => {}
        }
    }

    /// Takes more of what a name stands for.
    fn resolved(&mut self, name: AttemptId, addresses: &[Multiaddr], now: Now) {
        let Some((id, dial)) = self.attempts.get(&name).and_then(|id| Some((*id, self.dials.get_mut(id)?)))
        else {
            return;
        };
        let (memory, screen) = (&self.memory, self.screen.as_ref());
        let outside = Outside { own: self.own, memory, screen, now };
        for address in addresses {
            dial.race.offer(address, Origin::Name(name), &outside);
        }
        self.go_on(id, now);
    }

    fn resolve_ended(&mut self, name: AttemptId, result: Result<(), Failed>, now: Now) {
        let id = self.attempts.remove(&name);
        if let Some((id, dial)) = id.and_then(|id| Some((id, self.dials.get_mut(&id)?))) {
            dial.race.resolved(name, result, now);
            self.go_on(id, now);
        }
    }

    fn adopted(&mut self, id: DialId, result: Result<ConnectionId, Refused>, now: Now) {
        let adopting = self.dials.get(&id).and_then(|dial| dial.adopting);
        // Unknown when nobody waited for the Host's word any more.
        let Some(peer) = adopting else { return };
        let result = result.map(|connection| (connection, peer)).map_err(DialErrorKind::from);
        self.finish(id, result, now);
    }

    /// Ends a dial and answers all its requests.
    fn finish(&mut self, id: DialId, result: Result<(ConnectionId, PeerId), DialErrorKind>, now: Now) {
        self.abandon(id, now);
        let Some(dial) = self.dials.remove(&id) else {
            return;
        };
        self.by_key.remove(&dial.key);
        if let Some(peer) = dial.race.peer() {
            self.paths.learn(peer, &dial.race.heard(), now);
        }
        let report = Arc::new(dial.race.report(now));
        for request in dial.requests.into_values() {
            let result = match &result {
                Ok((connection, peer)) => {
                    Ok(Connected { peer: *peer, connection: *connection, report: (*report).clone() })
                }
                Err(kind) => Err(DialError::new(kind.clone(), Arc::clone(&report))),
            };
            self.actions.push_back(Action::Answer { reply: request.reply, result });
        }
    }

    fn abandon(&mut self, id: DialId, now: Now) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        for attempt in dial.race.abandon(now) {
            self.attempts.remove(&attempt);
            self.actions.push_back(Action::Abort { attempt });
        }
    }

    /// Answers the requests of a dial that `ends` picks, and ends the dial if none is left.
    fn end_requests(
        &mut self,
        id: DialId,
        kind: &DialErrorKind,
        ends: impl Fn(Instant, &Request) -> bool,
        now: Now,
    ) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        let ending: Vec<_> =
            dial.requests.extract_if(.., |(deadline, _), request| ends(*deadline, request)).collect();
        if ending.is_empty() {
            return;
        }
        let report = Arc::new(dial.race.report(now));
        let nobody_left = dial.requests.is_empty();
        for (_, request) in ending {
            let result = Err(DialError::new(kind.clone(), Arc::clone(&report)));
            self.actions.push_back(Action::Answer { reply: request.reply, result });
        }
        if nobody_left {
            self.finish(id, Err(kind.clone()), now);
        }
    }

    fn cancel(&mut self, request: RequestId, now: Now) {
        let waits = |dial: &Dial| dial.requests.values().any(|waiting| waiting.id == Some(request));
        let id = self.dials.iter().find(|(_, dial)| waits(dial)).map(|(id, _)| *id);
        if let Some(id) = id {
            self.end_requests(id, &DialErrorKind::Cancelled, |_, waiting| waiting.id == Some(request), now);
        }
    }

    fn shut_down(&mut self, now: Now) {
        self.shut_down = true;
        while let Some(id) = self.dials.keys().next().copied() {
            self.finish(id, Err(DialErrorKind::Closed), now);
        }
    }

    fn next(&mut self) -> u64 {
        self.last = self.last.saturating_add(1);
        self.last
    }
}

impl<C: Send + 'static> engine::Engine for Engine<C> {
    type Command = Command;
    type Input = Input<C>;
    type Action = Action<C>;

    fn handle_command(&mut self, command: Command, now: Now) {
        match command {
            Command::Dial { request, peer, addresses, how, deadline, reply } => {
                self.dial(peer, &addresses, how, deadline, Request { id: request, reply }, now);
            }
            Command::Cancel { request } => self.cancel(request, now),
            Command::ShutDown => self.shut_down(now),
        }
    }

    fn handle_input(&mut self, input: Input<C>, now: Now) {
        match input {
            Input::SourceSaid { dial: id, source, trust, said } => {
                if let Some(dial) = self.dials.get_mut(&id).filter(|dial| dial.sources_open) {
                    let (memory, screen) = (&self.memory, self.screen.as_ref());
                    let outside = Outside { own: self.own, memory, screen, now };
                    dial.race.source_said(source, trust, said, &outside);
                    self.go_on(id, now);
                }
            }
            Input::SourcesDone { dial: id } => {
                if let Some(dial) = self.dials.get_mut(&id) {
                    dial.sources_open = false;
                    self.go_on(id, now);
                }
            }
            Input::AttemptStage { attempt, stage } => {
                let dial = self.attempts.get(&attempt).and_then(|id| self.dials.get_mut(id));
                if let Some(dial) = dial {
                    dial.race.stage(attempt, stage, now);
                }
            }
            Input::AttemptEarly { attempt, early } => {
                let dial = self.attempts.get(&attempt).and_then(|id| self.dials.get_mut(id));
                if let Some(dial) = dial {
                    dial.race.early(attempt, early);
                }
            }
            Input::Resolved { attempt, addresses } => self.resolved(attempt, &addresses, now),
            Input::ResolveEnded { attempt, result } => self.resolve_ended(attempt, result, now),
            Input::AttemptEnded { attempt, result } => self.attempt_ended(attempt, result, now),
            Input::Adopted { dial, result } => self.adopted(dial, result, now),
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        let ids: Vec<_> = self.dials.keys().copied().collect();
        for id in ids {
            self.end_requests(id, &DialErrorKind::Timeout, |deadline, _| deadline <= now.mono, now);
            self.go_on(id, now);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.dials.values().fold(None, |earliest, dial| {
            let first = dial.requests.first_key_value();
            let first = first.map(|((at, _), _)| Deadline { at: *at, reason: "end of a dial request" });
            let start = dial.race.next_start().filter(|_| dial.adopting.is_none());
            let start = start.map(|at| Deadline { at, reason: "next dial attempt" });
            Deadline::earlier(earliest, Deadline::earlier(first, start))
        })
    }

    fn poll_action(&mut self) -> Option<Action<C>> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
