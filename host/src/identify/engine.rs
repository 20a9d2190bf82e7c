use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Now, PeerId, engine};

use super::{IdentifyError, Info, PUSH};
use crate::{limits::ConnectionId, reply::Reply};

/// How long a peer may take to say who it is.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Peers that are asked at once; the others' turn comes later.
pub const MAX_RUNNING: usize = 64;
/// Requests that may wait for one connection's answer.
const MAX_WAITING: usize = 64;

/// How long changes of this node are gathered before its peers are told.
pub const PUSH_DELAY: Duration = Duration::from_secs(1);
/// Peers that are told at once; the others' turn comes later.
pub const MAX_PUSHES: usize = 32;
/// How long after each failure a peer is asked again on the same connection, and one that refused to hear of a change is
/// told again; after the last one it is not.
pub const RETRIES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// Asks on every connection who the peer is, and remembers it as long as the connection is there. Tells peers when this node
/// changes, and hears when they do.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    connections: BTreeMap<ConnectionId, Connection>,
    queue: VecDeque<ConnectionId>,
    running: usize,
    /// When the user is told of the own addresses.
    announce_at: Option<Instant>,
    /// When peers are told that this node has changed.
    tell_at: Option<Instant>,
    to_tell: VecDeque<ConnectionId>,
    telling: BTreeSet<ConnectionId>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Connection {
    peer: PeerId,
    state: State,
    waiting: Vec<Answer>,
    /// How often asking has failed.
    failures: usize,
    /// What the peer has pushed before it has answered.
    early: Option<Info>,
    /// Whether this node has changed since the peer may have heard of it.
    behind: bool,
    /// How often the peer has refused to hear of the last change.
    refused: usize,
    /// When it is told again.
    tell_again: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Queued,
    Running { until: Instant },
    Known(Arc<Info>),
    Failed { error: IdentifyError, again: Option<Instant> },
}

pub(crate) type Answer = Reply<Result<Arc<Info>, IdentifyError>>;

#[derive(Debug)]
pub(crate) enum Command {
    /// A connection is there; it may be said more than once.
    Opened { id: ConnectionId, peer: PeerId },
    /// A connection has ended.
    Closed { id: ConnectionId },
    /// What peers are told has changed: this node's addresses or protocols.
    Changed,
    /// What others observe of this node's addresses has changed; no peer is told of that.
    Observed,
    /// Who is that?
    Ask { peer: PeerId, reply: Answer },
}

#[derive(Debug)]
pub(crate) enum Input {
    /// The peer has said something, or nothing that could be read.
    Said { id: ConnectionId, result: Result<Info, IdentifyError> },
    /// The peer tells of a change; what it did not name has stayed.
    Pushed { id: ConnectionId, change: Info },
    /// It was told of ours; whether it wanted to hear it.
    Told { id: ConnectionId, heard: bool },
}

#[derive(Debug)]
pub(crate) enum Action {
    /// Ask on that connection.
    Ask {
        id: ConnectionId,
        peer: PeerId,
    },
    /// Stop asking there.
    Abort {
        id: ConnectionId,
    },
    /// Tell the peer on that connection what this node is now.
    Tell {
        id: ConnectionId,
        peer: PeerId,
    },
    /// Tell the user of what has changed.
    Announce,
    /// A peer is known.
    Identified {
        id: ConnectionId,
        peer: PeerId,
        info: Arc<Info>,
    },
    Answer {
        reply: Answer,
        result: Result<Arc<Info>, IdentifyError>,
    },
}

impl Engine {
    fn opened(&mut self, id: ConnectionId, peer: PeerId) {
        if let Entry::Vacant(place) = self.connections.entry(id) {
            place.insert(Connection {
                peer,
                state: State::Queued,
                waiting: Vec::new(),
                failures: 0,
                early: None,
                behind: false,
                refused: 0,
                tell_again: None,
            });
            self.queue.push_back(id);
        }
    }

    fn closed(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        match connection.state {
            State::Running { .. } => {
                self.running = self.running.saturating_sub(1);
                self.actions.push_back(Action::Abort { id });
            }
            State::Queued => self.queue.retain(|queued| *queued != id),
            State::Known(_) | State::Failed { .. } => {}
        }
        self.to_tell.retain(|waiting| *waiting != id);
        for reply in connection.waiting {
            self.actions.push_back(Action::Answer { reply, result: Err(IdentifyError::NotConnected) });
        }
    }

    /// The newest connection speaks for the peer; one on which it has said something before one on which it has not.
    fn ask(&mut self, peer: PeerId, reply: Answer) {
        let of_peer = self.connections.values_mut().rev().filter(|connection| connection.peer == peer);
        let rank = |connection: &&mut Connection| match connection.state {
            State::Known(_) => 0,
            State::Queued | State::Running { .. } => 1,
            State::Failed { .. } => 2,
        };
        let Some(best) = of_peer.min_by_key(rank) else {
            self.actions.push_back(Action::Answer { reply, result: Err(IdentifyError::NotConnected) });
            return;
        };
        let result = match &best.state {
            State::Known(info) => Ok(info.clone()),
            State::Failed { error, .. } => Err(error.clone()),
            State::Queued | State::Running { .. } if best.waiting.len() < MAX_WAITING => {
                best.waiting.push(reply);
                return;
            }
            State::Queued | State::Running { .. } => Err(IdentifyError::TooMany),
        };
        self.actions.push_back(Action::Answer { reply, result });
    }

    fn said(&mut self, id: ConnectionId, result: Result<Info, IdentifyError>, now: Now) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !matches!(connection.state, State::Running { .. }) {
            return;
        }
        self.running = self.running.saturating_sub(1);
        match (result, connection.early.take()) {
            (Ok(info), None) => self.known(id, info),
            (Ok(info), Some(change)) => self.known(id, info.changed_by(change)),
            (Err(error), early) => {
                let again = RETRIES.get(connection.failures).map(|wait| now.after(*wait));
                connection.failures = connection.failures.saturating_add(1);
                connection.early = early;
                connection.state = State::Failed { error: error.clone(), again };
                for reply in connection.waiting.drain(..) {
                    self.actions.push_back(Action::Answer { reply, result: Err(error.clone()) });
                }
            }
        }
    }

    /// What the peer is, as far as it has said.
    fn known(&mut self, id: ConnectionId, info: Info) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (peer, info) = (connection.peer, Arc::new(info));
        self.actions.push_back(Action::Identified { id, peer, info: info.clone() });
        for reply in connection.waiting.drain(..) {
            self.actions.push_back(Action::Answer { reply, result: Ok(info.clone()) });
        }
        connection.state = State::Known(info);
        self.owe(id);
    }

    fn pushed(&mut self, id: ConnectionId, change: Info) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match &connection.state {
            State::Known(info) => {
                let info = info.as_ref().clone().changed_by(change);
                self.known(id, info);
            }
            // The answer may have been written before the change, and says all of the rest.
            State::Queued | State::Running { .. } | State::Failed { .. } => {
                connection.early = Some(match connection.early.take() {
                    Some(early) => early.changed_by(change),
                    None => change,
                });
            }
        }
    }

    /// This node has changed: each peer that listens to such is told once, on its newest connection.
    fn tell_all(&mut self) {
        self.tell_at = None;
        let mut told = BTreeSet::new();
        let mut owed = Vec::new();
        for (id, connection) in self.connections.iter_mut().rev() {
            connection.behind = told.insert(connection.peer);
            (connection.refused, connection.tell_again) = (0, None);
            owed.push(*id);
        }
        owed.into_iter().for_each(|id| self.owe(id));
    }

    /// Tells the peer if it is behind, speaks the protocol, and is not being told already.
    fn owe(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let State::Known(info) = &connection.state else {
            return;
        };
        if connection.behind && info.protocols.contains(&PUSH) && !self.to_tell.contains(&id) {
            self.to_tell.push_back(id);
        }
    }

    /// Who could not be told, mostly because it hears of too many changes, is told again: nothing else would.
    fn told(&mut self, id: ConnectionId, heard: bool, now: Now) {
        self.telling.remove(&id);
        if let Some(connection) = self.connections.get_mut(&id)
            // Of a change since then it hears in any case.
            && !connection.behind
            && !heard
        {
            connection.tell_again = RETRIES.get(connection.refused).map(|wait| now.after(*wait));
            connection.refused = connection.refused.saturating_add(1);
        }
    }

    fn start_telling(&mut self) {
        while self.telling.len() < MAX_PUSHES {
            // Who is being told of the last change hears of this one afterwards.
            let next = self.to_tell.iter().position(|id| !self.telling.contains(id));
            let Some(id) = next.and_then(|place| self.to_tell.remove(place)) else {
                return;
            };
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.behind = false;
                self.telling.insert(id);
                self.actions.push_back(Action::Tell { id, peer: connection.peer });
            }
        }
    }

    fn start_queued(&mut self, now: Now) {
        self.start_telling();
        while self.running < MAX_RUNNING
            && let Some(id) = self.queue.pop_front()
        {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.state = State::Running { until: now.after(TIMEOUT) };
                self.running = self.running.saturating_add(1);
                self.actions.push_back(Action::Ask { id, peer: connection.peer });
            }
        }
    }
}

impl engine::Engine for Engine {
    type Command = Command;
    type Input = Input;
    type Action = Action;

    fn handle_command(&mut self, command: Command, now: Now) {
        match command {
            Command::Opened { id, peer } => self.opened(id, peer),
            Command::Closed { id } => self.closed(id),
            Command::Changed => {
                self.announce_at.get_or_insert_with(|| now.after(PUSH_DELAY));
                self.tell_at.get_or_insert_with(|| now.after(PUSH_DELAY));
            }
            Command::Observed => {
                self.announce_at.get_or_insert_with(|| now.after(PUSH_DELAY));
            }
            Command::Ask { peer, reply } => self.ask(peer, reply),
        }
        self.start_queued(now);
    }

    fn handle_input(&mut self, input: Input, now: Now) {
        match input {
            Input::Said { id, result } => self.said(id, result, now),
            Input::Pushed { id, change } => self.pushed(id, change),
            Input::Told { id, heard } => self.told(id, heard, now),
        }
        self.start_queued(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        let late = |(id, connection): (&ConnectionId, &Connection)| match connection.state {
            State::Running { until } if until <= now.mono => Some(*id),
            _ => None,
        };
        let late: Vec<ConnectionId> = self.connections.iter().filter_map(late).collect();
        for id in late {
            self.actions.push_back(Action::Abort { id });
            self.said(id, Err(IdentifyError::Timeout), now);
        }
        for (id, connection) in &mut self.connections {
            if matches!(connection.state, State::Failed { again: Some(at), .. } if at <= now.mono) {
                connection.state = State::Queued;
                self.queue.push_back(*id);
            }
        }
        let mut again = Vec::new();
        for (id, connection) in &mut self.connections {
            if connection.tell_again.is_some_and(|at| at <= now.mono) {
                (connection.tell_again, connection.behind) = (None, true);
                again.push(*id);
            }
        }
        again.into_iter().for_each(|id| self.owe(id));
        if self.announce_at.is_some_and(|at| at <= now.mono) {
            self.announce_at = None;
            self.actions.push_back(Action::Announce);
        }
        if self.tell_at.is_some_and(|at| at <= now.mono) {
            self.tell_all();
        }
        self.start_queued(now);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let again = self.connections.values().filter_map(|connection| connection.tell_again).min();
        let again = again.map(|at| Deadline { at, reason: "a peer is told again of a change" });
        let announce =
            self.announce_at.map(|at| Deadline { at, reason: "the user is told of own addresses" });
        let waits = self.connections.values().filter_map(|connection| match connection.state {
            State::Running { until } => Some(Deadline { at: until, reason: "a peer does not say who it is" }),
            State::Failed { again: Some(at), .. } => {
                Some(Deadline { at, reason: "a peer is asked again who it is" })
            }
            _ => None,
        });
        let tell = self.tell_at.map(|at| Deadline { at, reason: "peers are told of a change" });
        [waits.min_by_key(|wait| wait.at), tell, again, announce]
            .into_iter()
            .flatten()
            .min_by_key(|next| next.at)
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
