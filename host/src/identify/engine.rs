use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Now, PeerId, engine};

use super::{IdentifyError, Info};
use crate::{limits::ConnectionId, reply::Reply};

/// How long a peer may take to say who it is.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Peers that are asked at once; the others' turn comes later.
pub const MAX_RUNNING: usize = 64;
/// Requests that may wait for one connection's answer.
const MAX_WAITING: usize = 64;

/// Asks on every connection who the peer is, and remembers it as long as the connection is there.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    connections: BTreeMap<ConnectionId, Connection>,
    queue: VecDeque<ConnectionId>,
    running: usize,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Connection {
    peer: PeerId,
    state: State,
    waiting: Vec<Answer>,
}

#[derive(Debug)]
enum State {
    Queued,
    Running { until: Instant },
    Known(Arc<Info>),
    Failed(IdentifyError),
}

pub(crate) type Answer = Reply<Result<Arc<Info>, IdentifyError>>;

#[derive(Debug)]
pub(crate) enum Command {
    /// A connection is there; it may be said more than once.
    Opened { id: ConnectionId, peer: PeerId },
    /// A connection has ended.
    Closed { id: ConnectionId },
    /// Who is that?
    Ask { peer: PeerId, reply: Answer },
}

#[derive(Debug)]
pub(crate) enum Input {
    /// The peer has said something, or nothing that could be read.
    Said { id: ConnectionId, result: Result<Info, IdentifyError> },
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
    /// A peer is known.
    Identified {
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
            place.insert(Connection { peer, state: State::Queued, waiting: Vec::new() });
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
            State::Known(_) | State::Failed(_) => {}
        }
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
            State::Failed(_) => 2,
        };
        let Some(best) = of_peer.min_by_key(rank) else {
            self.actions.push_back(Action::Answer { reply, result: Err(IdentifyError::NotConnected) });
            return;
        };
        let result = match &best.state {
            State::Known(info) => Ok(info.clone()),
            State::Failed(error) => Err(error.clone()),
            State::Queued | State::Running { .. } if best.waiting.len() < MAX_WAITING => {
                best.waiting.push(reply);
                return;
            }
            State::Queued | State::Running { .. } => Err(IdentifyError::TooMany),
        };
        self.actions.push_back(Action::Answer { reply, result });
    }

    fn said(&mut self, id: ConnectionId, result: Result<Info, IdentifyError>) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !matches!(connection.state, State::Running { .. }) {
            return;
        }
        self.running = self.running.saturating_sub(1);
        let result = result.map(Arc::new);
        connection.state = match &result {
            Ok(info) => {
                let peer = connection.peer;
                self.actions.push_back(Action::Identified { peer, info: info.clone() });
                State::Known(info.clone())
            }
            Err(error) => State::Failed(error.clone()),
        };
        for reply in connection.waiting.drain(..) {
            self.actions.push_back(Action::Answer { reply, result: result.clone() });
        }
    }

    fn start_queued(&mut self, now: Now) {
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
            Command::Ask { peer, reply } => self.ask(peer, reply),
        }
        self.start_queued(now);
    }

    fn handle_input(&mut self, Input::Said { id, result }: Input, now: Now) {
        self.said(id, result);
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
            self.said(id, Err(IdentifyError::Timeout));
        }
        self.start_queued(now);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let running = self.connections.values().filter_map(|connection| match connection.state {
            State::Running { until } => Some(until),
            _ => None,
        });
        running.min().map(|at| Deadline { at, reason: "a peer does not say who it is" })
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
