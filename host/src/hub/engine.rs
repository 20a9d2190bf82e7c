use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Now, PeerId, engine};

use super::{CloseReason, ConnInfo, ConnectionEvent, HubEvent, Refused, SharedAccounts, SubscriberId};
use crate::{limits::ConnectionId, reply::Reply};

/// Panics that one peer may provoke within [`BLAME_WINDOW`]; with this one it is banned.
pub const BAN_AFTER_BLAMES: usize = 3;
/// How long a provoked panic counts.
pub const BLAME_WINDOW: Duration = Duration::from_secs(10 * 60);
/// How long a peer is banned that provoked too many panics.
pub const BLAME_BAN: Duration = Duration::from_secs(10 * 60);
/// The most bans at once; the one that would end first makes room.
pub const MAX_BANS: usize = 4096;
/// The most peers whose panics are counted; the one whose last is longest ago makes room.
pub const MAX_BLAMED: usize = 4096;
/// How long a request to disconnect waits for the connections to be gone, before it is answered nevertheless.
pub const DISCONNECT_WAIT: Duration = Duration::from_secs(5);
/// The most requests to disconnect that wait; more are answered at once.
const MAX_DISCONNECTING: usize = 1024;
/// What is kept of the text of a panic.
const MAX_PANIC_TEXT: usize = 256;

/// What the Host is asked.
#[derive(Debug)]
pub(crate) enum Command<C> {
    /// A connection is established. What `connection` is, is the effects' matter; it holds a lease of the ledger,
    /// which is what bounds the number of connections here.
    Admit { info: ConnInfo, connection: C, reply: Option<Reply<Result<ConnectionId, Refused>>> },
    /// A connection is gone. Also for one that was admitted but could not be started.
    Closed { id: ConnectionId, reason: String },
    /// A peer provoked a panic.
    Blame { peer: PeerId, disconnect: bool, actor: String, panic: String },
    /// A restarted protocol asks who is connected.
    Replay { subscriber: SubscriberId },
    /// After a restart, before anything else: what is in the directory, dead or alive. A dead one's `Closed` is to
    /// follow, and is then reported as for every other.
    Present { infos: Vec<ConnInfo> },
    /// Close all connections of a peer. Answered once they are gone, with their number; those that are not gone
    /// after [`DISCONNECT_WAIT`] do not count.
    Disconnect { peer: PeerId, reply: Reply<usize> },
    /// Close all connections of a peer and admit none for a while. `Duration::MAX` means for good.
    Ban { peer: PeerId, period: Duration },
    /// End a ban.
    Unban { peer: PeerId },
    /// Close everything and admit nothing any more.
    ShuttingDown,
}

/// What the Host has done.
#[derive(Debug)]
pub(crate) enum Action<C> {
    /// Start the connection's actor, then answer.
    Start { info: ConnInfo, connection: C, reply: Option<Reply<Result<ConnectionId, Refused>>> },
    /// Close the connection, and answer with `why`.
    Refuse {
        info: ConnInfo,
        connection: C,
        why: Refused,
        reply: Option<Reply<Result<ConnectionId, Refused>>>,
    },
    /// The end of a connection was passed on; the directory need not keep it any more.
    Forget { id: ConnectionId },
    /// Tell one subscriber, or all.
    Notify { subscriber: Option<SubscriberId>, event: ConnectionEvent },
    /// Ask a connection to close. It may be closed already, and may be asked more than once.
    CloseConnection { id: ConnectionId, why: CloseReason },
    /// Tell the user.
    Emit(HubEvent),
    /// Answer a `Disconnect`.
    AnswerDisconnect { reply: Reply<usize>, closed: usize },
}

/// The state of the Host.
#[derive(Debug)]
pub(crate) struct Engine<C> {
    own: PeerId,
    connections: BTreeMap<ConnectionId, ConnInfo>,
    peers: BTreeMap<PeerId, BTreeSet<ConnectionId>>,
    accounts: SharedAccounts,
    disconnecting: Vec<Disconnecting>,
    shutting_down: bool,
    actions: VecDeque<Action<C>>,
}

#[derive(Debug)]
struct Disconnecting {
    waits_for: BTreeSet<ConnectionId>,
    closed: usize,
    until: Instant,
    reply: Reply<usize>,
}

impl<C> Engine<C> {
    /// The Host of the node `own`, going on with the accounts of its former lives.
    pub(crate) fn new(own: PeerId, accounts: SharedAccounts) -> Self {
        Self {
            own,
            connections: BTreeMap::new(),
            peers: BTreeMap::new(),
            accounts,
            disconnecting: Vec::new(),
            shutting_down: false,
            actions: VecDeque::new(),
        }
    }

    fn admit(
        &mut self,
        info: ConnInfo,
        connection: C,
        reply: Option<Reply<Result<ConnectionId, Refused>>>,
        now: Now,
    ) {
        if let Err(why) = self.admissible(&info, now) {
            self.actions.push_back(Action::Refuse { info, connection, why, reply });
            return;
        }
        let first = self.insert(info.clone());
        self.actions.push_back(Action::Start { info: info.clone(), connection, reply });
        let event = ConnectionEvent::Opened { info: info.clone(), first };
        self.actions.push_back(Action::Notify { subscriber: None, event });
        self.actions.push_back(Action::Emit(HubEvent::Connected { info, first }));
    }

    fn admissible(&self, info: &ConnInfo, now: Now) -> Result<(), Refused> {
        if self.shutting_down {
            return Err(Refused::ShuttingDown);
        }
        if info.peer == self.own {
            return Err(Refused::OwnPeer);
        }
        if let Some(remaining) = self.accounts.lock().banned(&info.peer, now) {
            return Err(Refused::Banned { peer: info.peer, remaining });
        }
        if self.connections.contains_key(&info.id) {
            return Err(Refused::Duplicate(info.id));
        }
        Ok(())
    }

    /// Whether it is the peer's first.
    fn insert(&mut self, info: ConnInfo) -> bool {
        let of_peer = self.peers.entry(info.peer).or_default();
        let first = of_peer.is_empty();
        of_peer.insert(info.id);
        self.connections.insert(info.id, info);
        first
    }

    fn closed(&mut self, id: ConnectionId, reason: String) {
        let Some(info) = self.connections.remove(&id) else {
            self.actions.push_back(Action::Forget { id });
            return;
        };
        let last = match self.peers.get_mut(&info.peer) {
            Some(of_peer) => {
                of_peer.remove(&id);
                of_peer.is_empty()
            }
            None => true,
        };
        if last {
            self.peers.remove(&info.peer);
        }
        let event = ConnectionEvent::Closed { info: info.clone(), last, reason: reason.clone() };
        self.actions.push_back(Action::Notify { subscriber: None, event });
        self.actions.push_back(Action::Emit(HubEvent::Disconnected { info, last, reason }));
        // Last, so that a life that ends before this is told of the end again.
        self.actions.push_back(Action::Forget { id });
        self.answer_disconnects(|waiting| {
            if waiting.waits_for.remove(&id) {
                waiting.closed = waiting.closed.saturating_add(1);
            }
            waiting.waits_for.is_empty()
        });
    }

    fn blame(&mut self, peer: PeerId, disconnect: bool, actor: &str, panic: &str, now: Now) {
        // A node that panics on its own behalf shall not cut itself off.
        if peer == self.own {
            return;
        }
        if self.accounts.lock().blame(peer, now) {
            let text: String = panic.chars().take(MAX_PANIC_TEXT).collect();
            let reason = format!("it provoked {BAN_AFTER_BLAMES} panics, the last in {actor}: {text}");
            self.ban(peer, BLAME_BAN, reason, now);
            return;
        }
        if disconnect {
            self.close_all(&peer, CloseReason::Blamed);
        }
    }

    fn ban(&mut self, peer: PeerId, period: Duration, reason: String, now: Now) {
        if peer == self.own {
            return;
        }
        let period = self.accounts.lock().ban(peer, period, now);
        self.close_all(&peer, CloseReason::Banned);
        self.actions.push_back(Action::Emit(HubEvent::PeerBanned { peer, period, reason }));
    }

    fn disconnect(&mut self, peer: &PeerId, reply: Reply<usize>, now: Now) {
        let waits_for = self.peers.get(peer).cloned().unwrap_or_default();
        self.close_all(peer, CloseReason::Disconnected);
        if waits_for.is_empty() || self.disconnecting.len() >= MAX_DISCONNECTING {
            self.actions.push_back(Action::AnswerDisconnect { reply, closed: 0 });
            return;
        }
        let until = now.after(DISCONNECT_WAIT);
        self.disconnecting.push(Disconnecting { waits_for, closed: 0, until, reply });
    }

    fn answer_disconnects(&mut self, mut done: impl FnMut(&mut Disconnecting) -> bool) {
        for Disconnecting { reply, closed, .. } in self.disconnecting.extract_if(.., |waiting| done(waiting))
        {
            self.actions.push_back(Action::AnswerDisconnect { reply, closed });
        }
    }

    fn close_all(&mut self, peer: &PeerId, why: CloseReason) {
        let ids = self.peers.get(peer).into_iter().flatten();
        self.actions.extend(ids.map(|id| Action::CloseConnection { id: *id, why }));
    }

    fn replay(&mut self, subscriber: SubscriberId) {
        for of_peer in self.peers.values() {
            let infos = of_peer.iter().filter_map(|id| self.connections.get(id));
            for (place, info) in infos.enumerate() {
                let event = ConnectionEvent::Opened { info: info.clone(), first: place == 0 };
                self.actions.push_back(Action::Notify { subscriber: Some(subscriber), event });
            }
        }
    }

    fn present(&mut self, infos: Vec<ConnInfo>) {
        for info in infos {
            if self.connections.contains_key(&info.id) {
                continue;
            }
            if self.shutting_down {
                let why = CloseReason::ShuttingDown;
                self.actions.push_back(Action::CloseConnection { id: info.id, why });
            }
            self.insert(info);
        }
    }

    fn shut_down(&mut self) {
        self.shutting_down = true;
        let why = CloseReason::ShuttingDown;
        self.actions.extend(self.connections.keys().map(|id| Action::CloseConnection { id: *id, why }));
    }
}

impl<C: Send + 'static> engine::Engine for Engine<C> {
    type Command = Command<C>;
    type Input = Infallible;
    type Action = Action<C>;

    fn handle_command(&mut self, command: Command<C>, now: Now) {
        match command {
            Command::Admit { info, connection, reply } => self.admit(info, connection, reply, now),
            Command::Closed { id, reason } => self.closed(id, reason),
            Command::Blame { peer, disconnect, actor, panic } => {
                self.blame(peer, disconnect, &actor, &panic, now);
            }
            Command::Replay { subscriber } => self.replay(subscriber),
            Command::Present { infos } => self.present(infos),
            Command::Disconnect { peer, reply } => self.disconnect(&peer, reply, now),
            Command::Ban { peer, period } => self.ban(peer, period, "the user asked for it".to_owned(), now),
            Command::Unban { peer } => self.accounts.lock().unban(&peer),
            Command::ShuttingDown => self.shut_down(),
        }
    }

    fn handle_input(&mut self, input: Infallible, _: Now) {
        match input {}
    }

    fn handle_timeout(&mut self, now: Now) {
        self.accounts.lock().expire(now);
        self.answer_disconnects(|waiting| waiting.until <= now.mono);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let disconnect = self.disconnecting.iter().map(|waiting| waiting.until).min();
        let disconnect = disconnect.map(|at| Deadline { at, reason: "answer a disconnect" });
        Deadline::earlier(disconnect, self.accounts.lock().next_expiry())
    }

    fn poll_action(&mut self) -> Option<Action<C>> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
