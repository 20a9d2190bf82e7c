use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Multiaddr, Now, PeerId, ProtocolId, engine};

use super::{
    PeerInfo, Source, address_of,
    entry::{Entry, Standing, expiry},
};
use crate::{hub::ConnInfo, limits::Direction, reply::Reply};

/// The most peers that are remembered. For one more the peer goes that was of use longest ago, of those that were only
/// spoken of; then of those that this node talked with; then of those that the user named. One that is connected
/// never goes.
pub const MAX_PEERS: usize = 1024;
/// How long everything about a peer is kept at least, after its last connection or since it was identified.
pub const RECENT: Duration = Duration::from_secs(30 * 60);
/// How long an address is kept where this node reached the peer.
pub const WORKED_TTL: Duration = Duration::from_secs(60 * 60);

/// What the book is told and asked. What strangers said is in here, too: it was checked and is charged where it came
/// in.
#[derive(Debug)]
pub(crate) enum Command {
    /// Addresses of a peer; those that [lead elsewhere](address_of) are left out. Without a `ttl`, for as long as the
    /// peer is remembered. An address that is known is kept for the longer of the two times.
    Add { peer: PeerId, addresses: Vec<Multiaddr>, source: Source, ttl: Option<Duration> },
    /// Where a peer may be, the best address first.
    Lookup { peer: PeerId, reply: Reply<Vec<Multiaddr>> },
    /// A connection is open, or was since before. The address of an outbound one has worked.
    Connected { info: ConnInfo, first: bool },
    /// A connection is gone.
    Disconnected { info: ConnInfo, last: bool },
    /// The peer was not reached there.
    Failed { peer: PeerId, address: Multiaddr },
    /// What a peer said of itself.
    Identified { peer: PeerId, protocols: Vec<ProtocolId>, agent: String },
    /// Everything about a peer; `None` if it is not known.
    Known { peer: PeerId, reply: Reply<Option<PeerInfo>> },
    /// Forget everything about a peer, but that it is connected.
    Forget { peer: PeerId },
}

/// What the book answers.
#[derive(Debug)]
pub(crate) enum Action {
    /// Answer a `Lookup`.
    AnswerLookup { reply: Reply<Vec<Multiaddr>>, addresses: Vec<Multiaddr> },
    /// Answer a `Known`.
    AnswerKnown { reply: Reply<Option<PeerInfo>>, info: Option<PeerInfo> },
}

/// The state of the book.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    peers: BTreeMap<PeerId, Entry>,
    /// When each peer has something that expires.
    lapses: BTreeSet<(Instant, PeerId)>,
    /// The peers that are not connected, in the order in which they go when there is no room.
    idle: BTreeSet<(Standing, Instant, PeerId)>,
    actions: VecDeque<Action>,
}

impl Engine {
    /// Nothing known.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn add(&mut self, peer: PeerId, addresses: &[Multiaddr], source: Source, expires: Instant, now: Now) {
        let valid = addresses.iter().filter_map(|address| address_of(peer, address).ok());
        let mut valid = valid.peekable();
        // Before room is made for a peer about which nothing will be known.
        if valid.peek().is_none() || expires <= now.mono {
            return;
        }
        self.edit_or_new(peer, now, |entry| {
            valid.for_each(|address| entry.add(address, source, expires));
        });
    }

    fn connected(&mut self, info: &ConnInfo, first: bool, now: Now) {
        self.edit_or_new(info.peer, now, |entry| {
            // Heals what was missed: nothing else is open.
            if first {
                entry.connections.retain(|id| *id == info.id);
            }
            entry.used = now.mono;
            if entry.connections.insert(info.id)
                && info.direction == Direction::Outbound
                && let Ok(address) = address_of(info.peer, &info.remote)
            {
                entry.worked(&address, now.after(WORKED_TTL), now);
            }
        });
    }

    fn disconnected(&mut self, info: &ConnInfo, last: bool, now: Now) {
        self.edit(&info.peer, now, |entry| {
            if last {
                entry.connections.clear();
            }
            entry.connections.remove(&info.id);
            entry.used = now.mono;
            if !entry.is_connected() {
                entry.keep_until(now.after(RECENT));
            }
        });
    }

    fn failed(&mut self, peer: PeerId, address: &Multiaddr, now: Now) {
        if let Ok(address) = address_of(peer, address) {
            self.edit(&peer, now, |entry| entry.failed(&address));
        }
    }

    fn lookup(&mut self, peer: &PeerId, reply: Reply<Vec<Multiaddr>>, now: Now) {
        let mut addresses = Vec::new();
        self.edit(peer, now, |entry| {
            entry.used = now.mono;
            entry.expire(now);
            addresses = entry.ranked();
        });
        self.actions.push_back(Action::AnswerLookup { reply, addresses });
    }

    fn known(&mut self, peer: PeerId, reply: Reply<Option<PeerInfo>>, now: Now) {
        self.edit(&peer, now, |_| ());
        let info = self.peers.get(&peer).map(|entry| entry.info(peer, now));
        self.actions.push_back(Action::AnswerKnown { reply, info });
    }

    /// Changes the entry of a peer, makes one if there is room or room can be made.
    fn edit_or_new(&mut self, peer: PeerId, now: Now, change: impl FnOnce(&mut Entry)) {
        if !self.peers.contains_key(&peer) {
            if self.peers.len() >= MAX_PEERS {
                let Some((_, _, idlest)) = self.idle.first().copied() else {
                    return;
                };
                self.remove(&idlest);
            }
            self.put(peer, Entry::new(now));
        }
        self.edit(&peer, now, change);
    }

    /// Changes the entry of a peer that is known, and drops it if nothing is left.
    fn edit(&mut self, peer: &PeerId, now: Now, change: impl FnOnce(&mut Entry)) {
        let Some(mut entry) = self.remove(peer) else {
            return;
        };
        change(&mut entry);
        entry.expire(now);
        if !entry.is_empty() {
            self.put(*peer, entry);
        }
    }

    fn remove(&mut self, peer: &PeerId) -> Option<Entry> {
        let entry = self.peers.remove(peer)?;
        self.idle.remove(&(entry.standing(), entry.used, *peer));
        entry.lapses().map(|at| self.lapses.remove(&(at, *peer)));
        Some(entry)
    }

    fn put(&mut self, peer: PeerId, entry: Entry) {
        if !entry.is_connected() {
            self.idle.insert((entry.standing(), entry.used, peer));
        }
        entry.lapses().map(|at| self.lapses.insert((at, peer)));
        self.peers.insert(peer, entry);
    }
}

impl engine::Engine for Engine {
    type Command = Command;
    type Input = Infallible;
    type Action = Action;

    fn handle_command(&mut self, command: Command, now: Now) {
        match command {
            Command::Add { peer, addresses, source, ttl } => {
                self.add(peer, &addresses, source, expiry(ttl, now), now);
            }
            Command::Lookup { peer, reply } => self.lookup(&peer, reply, now),
            Command::Connected { info, first } => self.connected(&info, first, now),
            Command::Disconnected { info, last } => self.disconnected(&info, last, now),
            Command::Failed { peer, address } => self.failed(peer, &address, now),
            Command::Identified { peer, protocols, agent } => self.edit_or_new(peer, now, |entry| {
                entry.used = now.mono;
                entry.identified(protocols, &agent, now.after(RECENT));
            }),
            Command::Known { peer, reply } => self.known(peer, reply, now),
            Command::Forget { peer } => self.edit(&peer, now, Entry::forget),
        }
    }

    fn handle_input(&mut self, input: Infallible, _: Now) {
        match input {}
    }

    fn handle_timeout(&mut self, now: Now) {
        while let Some((at, peer)) = self.lapses.first().copied() {
            if at > now.mono {
                break;
            }
            self.edit(&peer, now, |_| ());
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.lapses.first().map(|(at, _)| Deadline { at: *at, reason: "an address expires" })
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
