use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Now, engine};

use super::{
    Policy,
    board::{Board, Entries, Reading},
};
use crate::{
    hub::ConnInfo,
    limits::{ConnectionId, Direction},
};

/// The least time between two rounds of making room.
pub const TRIM_PAUSE: Duration = Duration::from_secs(10);
/// The least [`Policy::idle_timeout`]; nobody can use a connection that is idle the moment it is there.
pub const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the manager is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// A connection is open. It may be told twice.
    Opened { info: ConnInfo },
    /// A connection is gone.
    Closed { id: ConnectionId },
}

/// What the manager decided.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Close a connection; it may be gone already.
    Close { id: ConnectionId, why: String },
}

/// Decides which connections are kept. What is in use is on the board, which it reads when something is due.
#[derive(Debug)]
pub(crate) struct Engine {
    policy: Policy,
    board: Board,
    /// Bounded by the ledger: each connection has its place there.
    connections: BTreeMap<ConnectionId, Managed>,
    /// When room may be made next; `None` while there is enough.
    trim_at: Option<Instant>,
    trimmed_at: Option<Instant>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Managed {
    info: ConnInfo,
    /// When to look whether it is idle. In use until then, it cannot have been idle for long enough before.
    look_at: Option<Instant>,
    /// It was told to go.
    going: bool,
}

impl Managed {
    /// Whether it has one of the places that others compete for.
    fn takes_room(&self) -> bool {
        !self.going && self.info.direction == Direction::Inbound
    }

    fn go(&mut self) {
        self.going = true;
        self.look_at = None;
    }
}

impl Engine {
    pub(crate) fn new(mut policy: Policy, board: Board) -> Self {
        policy.idle_timeout = policy.idle_timeout.map(|timeout| timeout.max(MIN_IDLE_TIMEOUT));
        Self {
            policy,
            board,
            connections: BTreeMap::new(),
            trim_at: None,
            trimmed_at: None,
            actions: VecDeque::new(),
        }
    }

    fn opened(&mut self, info: ConnInfo, now: Now) {
        let look_at = self.policy.idle_timeout.map(|timeout| now.after(timeout));
        self.connections.entry(info.id).or_insert(Managed { info, look_at, going: false });
        self.plan_trim(now);
    }

    /// Inbound connections that are there to stay, as far as it is known.
    fn staying(&self) -> usize {
        self.connections.values().filter(|managed| managed.takes_room()).count()
    }

    fn plan_trim(&mut self, now: Now) {
        if self.staying() <= self.policy.high_water {
            self.trim_at = None;
        } else if self.trim_at.is_none() {
            let pause = self.trimmed_at.and_then(|at| at.checked_add(TRIM_PAUSE));
            self.trim_at = Some(pause.map_or(now.mono, |pause| pause.max(now.mono)));
        }
    }

    fn close_idle(&mut self, timeout: Duration, now: Now) {
        let board = self.board.lock();
        for (id, managed) in &mut self.connections {
            if managed.going || managed.look_at.is_none_or(|at| at > now.mono) {
                continue;
            }
            managed.look_at = Some(now.after(timeout));
            let Some(reading) = board.activity(*id) else { continue };
            if reading.in_use() || board.is_protected(&managed.info.peer) {
                continue;
            }
            match reading.idle_since.checked_add(timeout) {
                Some(at) if at > now.mono => managed.look_at = Some(at),
                _ => {
                    managed.go();
                    let why = format!("idle for {} s", now.since(reading.idle_since).as_secs());
                    self.actions.push_back(Action::Close { id: *id, why });
                }
            }
        }
    }

    fn trim(&mut self, now: Now) {
        let (there, high) = (self.staying(), self.policy.high_water);
        let many = there.saturating_sub(self.policy.low_water.min(high));
        let board = self.board.lock();
        let mut candidates: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, managed)| managed.takes_room())
            .filter_map(|(id, managed)| Some((worth(managed, &board, self.policy.grace, now)?, *id)))
            .collect();
        candidates.sort_unstable();
        for (worth, id) in candidates.into_iter().take(many) {
            if let Some(managed) = self.connections.get_mut(&id) {
                managed.go();
            }
            let used = if worth.used { "this node uses it" } else { "this node does not use it" };
            let why = format!(
                "closed to make room: {there} inbound connections are more than {high}; its value is {}, and {used}",
                worth.value
            );
            self.actions.push_back(Action::Close { id, why });
        }
        drop(board);
        self.trimmed_at = Some(now.mono);
        self.trim_at = None;
        self.plan_trim(now);
    }
}

/// The order in which connections go, the first first. Nothing in it is the peer's to choose, but how long it stays.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    /// One through a relay goes before a direct one: it is slow, and costs somebody else.
    direct: bool,
    /// Of its peer's tags.
    value: i64,
    /// Whether this node has opened a stream on it. Those that the peer opens cost it nothing.
    used: bool,
    /// Of two alike, the younger goes: who floods is young.
    opened: Reverse<Instant>,
}

/// `None` for what must not go.
fn worth(managed: &Managed, board: &Entries, grace: Duration, now: Now) -> Option<Worth> {
    let info = &managed.info;
    let Reading { opened, own_streams, keeps, .. } = board.activity(info.id)?;
    let stays = keeps > 0 || now.since(opened) < grace || board.is_protected(&info.peer);
    (!stays).then(|| Worth {
        direct: !info.limited,
        value: board.value(&info.peer),
        used: own_streams > 0,
        opened: Reverse(opened),
    })
}

impl engine::Engine for Engine {
    type Command = Command;
    type Input = Infallible;
    type Action = Action;

    fn handle_command(&mut self, command: Command, now: Now) {
        match command {
            Command::Opened { info } => self.opened(info, now),
            Command::Closed { id } => {
                self.connections.remove(&id);
                self.plan_trim(now);
            }
        }
    }

    fn handle_input(&mut self, input: Infallible, _: Now) {
        match input {}
    }

    fn handle_timeout(&mut self, now: Now) {
        if let Some(timeout) = self.policy.idle_timeout {
            self.close_idle(timeout, now);
        }
        if self.trim_at.is_some_and(|at| at <= now.mono) {
            self.trim(now);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let idle = self.connections.values().filter_map(|managed| managed.look_at).min();
        let idle = idle.map(|at| Deadline { at, reason: "look for idle connections" });
        let trim = self.trim_at.map(|at| Deadline { at, reason: "make room" });
        Deadline::earlier(idle, trim)
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
