use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Multiaddr, Now, PeerId, engine};

use super::{
    PeerInfo, Source, address_of,
    entry::{Entry, Said, Standing, expiry},
    keep::{Keeping, Tell},
    row::Kept,
};
use crate::{hub::ConnInfo, limits::Direction, reply::Reply};

/// The most peers that are remembered. For one more the peer goes that was of use longest ago, of those that were only
/// spoken of; then of those that it talked with; then of those that it reached itself; then of those that the user
/// named. One that is connected never goes.
pub const MAX_PEERS: usize = 1024;
/// How long everything about a peer is kept at least, after its last connection or since it was identified.
pub const RECENT: Duration = Duration::from_secs(30 * 60);
/// How long an address is kept where this node reached the peer.
pub const WORKED_TTL: Duration = Duration::from_secs(60 * 60);
/// How long addresses are kept that a peer named, after its last connection.
pub const SAID_TTL: Duration = Duration::from_secs(60 * 60);

/// What the book is told and asked. What strangers said is in here, too: it was checked and is charged where it came
/// in.
#[derive(Debug)]
pub(crate) enum Command {
    /// Addresses of a peer; those that [lead elsewhere](address_of) are left out. Without a `ttl`, for as long as the
    /// peer is remembered. An address that is known is kept for the longer of the two times.
    Add { peer: PeerId, addresses: Vec<Multiaddr>, source: Source, ttl: Option<Duration> },
    /// Where a peer may be, the best address first: by hearsay, or as this node knows for itself.
    Lookup { peer: PeerId, hearsay: bool, reply: Reply<Vec<Multiaddr>> },
    /// A connection is open, or was since before. The address of an outbound one has worked.
    Connected { info: ConnInfo, first: bool },
    /// A connection is gone.
    Disconnected { info: ConnInfo, last: bool },
    /// The peer was not reached there.
    Failed { peer: PeerId, address: Multiaddr },
    /// What a peer said of itself.
    Identified { peer: PeerId, said: Said },
    /// Everything about a peer; `None` if it is not known.
    Known { peer: PeerId, reply: Reply<Option<PeerInfo>> },
    /// Forget everything about a peer, but that it is connected.
    Forget { peer: PeerId },
    /// Write what has changed now; answered when that is done or has failed, at once without a store.
    Flush { reply: Reply<()> },
}

/// What the store brought.
#[derive(Debug)]
pub(crate) enum Input {
    /// Rows that were read; what has expired is not among them.
    Read { rows: Vec<(PeerId, Kept)> },
    /// There are no more, or they cannot be read.
    Loaded { failed: Option<String> },
    /// How a write went.
    Written { failed: Option<String> },
}

/// What the book answers.
#[derive(Debug)]
pub(crate) enum Action {
    /// Answer a `Lookup`.
    AnswerLookup { reply: Reply<Vec<Multiaddr>>, addresses: Vec<Multiaddr> },
    /// Answer a `Known`.
    AnswerKnown { reply: Reply<Option<PeerInfo>>, info: Option<PeerInfo> },
    /// Answer a `Flush`.
    AnswerFlush { reply: Reply<()> },
    /// Read the store, and bring it as input.
    Load,
    /// Write these rows, delete those without a value, and say how it went.
    Write { rows: Vec<(PeerId, Option<Kept>)> },
    /// Tell the user that the store fails; the book goes on from memory.
    StoreFailed { why: String },
    /// Tell the user that it works again.
    StoreResumed,
}

/// The state of the book.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    peers: BTreeMap<PeerId, Entry>,
    /// When each peer has something that expires.
    lapses: BTreeSet<(Instant, PeerId)>,
    /// The peers that are not connected, in the order in which they go when there is no room.
    idle: BTreeSet<(Standing, Instant, PeerId)>,
    keeping: Keeping,
    actions: VecDeque<Action>,
}

impl Engine {
    /// Nothing known, and nothing kept.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Kept in a store, and begins with reading it.
    pub(crate) fn kept() -> Self {
        let actions = [Action::Load].into();
        Self { keeping: Keeping::on(), actions, ..Self::default() }
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
            entry.security = info.negotiated_security().cloned().or(entry.security.take());
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
                entry.shrink();
            }
        });
    }

    fn failed(&mut self, peer: PeerId, address: &Multiaddr, now: Now) {
        if let Ok(address) = address_of(peer, address) {
            self.edit(&peer, now, |entry| entry.failed(&address));
        }
    }

    fn lookup(&mut self, peer: &PeerId, hearsay: bool, reply: Reply<Vec<Multiaddr>>, now: Now) {
        let mut addresses = Vec::new();
        self.touch(peer, now, |entry| {
            entry.used = now.mono;
            entry.expire(now);
            addresses = entry.ranked(hearsay);
        });
        self.actions.push_back(Action::AnswerLookup { reply, addresses });
    }

    fn known(&mut self, peer: PeerId, reply: Reply<Option<PeerInfo>>, now: Now) {
        self.touch(&peer, now, |_| ());
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
                self.keeping.changed(idlest, false, now);
            }
            self.put(peer, Entry::new(now));
        }
        self.edit(&peer, now, change);
    }

    /// Changes the entry of a peer that is known, and drops it if nothing is left.
    fn edit(&mut self, peer: &PeerId, now: Now, change: impl FnOnce(&mut Entry)) {
        self.touch(peer, now, change);
        self.keeping.changed(*peer, is_worth(self.peers.get(peer)), now);
    }

    /// The same for changes that are not worth writing. What expires does so on disk as well.
    fn touch(&mut self, peer: &PeerId, now: Now, change: impl FnOnce(&mut Entry)) {
        let Some(mut entry) = self.remove(peer) else {
            return;
        };
        let worth = is_worth(Some(&entry));
        change(&mut entry);
        entry.expire(now);
        if worth && !is_worth(Some(&entry)) {
            self.keeping.changed(*peer, false, now);
        }
        if !entry.is_empty() {
            self.put(*peer, entry);
        }
    }

    fn read(&mut self, rows: Vec<(PeerId, Kept)>, now: Now) {
        for (peer, kept) in rows {
            self.keeping.read(peer);
            let room = self.peers.len() < MAX_PEERS || self.peers.contains_key(&peer);
            if room {
                let mut entry = self.remove(&peer).unwrap_or_else(|| Entry::new(now));
                entry.restore(kept, now);
                self.put(peer, entry);
            } else {
                self.keeping.changed(peer, false, now);
            }
        }
    }

    fn write(&mut self, now: Now) {
        let peers = &self.peers;
        let batch = self.keeping.take(|peer| is_worth(peers.get(peer)), now);
        if !batch.is_empty() {
            let row = |peer: PeerId| (peer, peers.get(&peer).and_then(|entry| entry.kept(now)));
            self.actions.push_back(Action::Write { rows: batch.into_iter().map(row).collect() });
        }
        let answers = self.keeping.answered().into_iter().map(|reply| Action::AnswerFlush { reply });
        self.actions.extend(answers);
    }

    fn tell(&mut self, tell: Tell, why: Option<String>) {
        match tell {
            Tell::Nothing => {}
            Tell::Failed => {
                self.actions.push_back(Action::StoreFailed { why: why.unwrap_or_default() });
            }
            Tell::Resumed => self.actions.push_back(Action::StoreResumed),
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

/// Peers that were only spoken of are not written: else strangers could make this node write.
fn is_worth(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| entry.standing() > Standing::Hearsay)
}

impl engine::Engine for Engine {
    type Command = Command;
    type Input = Input;
    type Action = Action;

    fn handle_command(&mut self, command: Command, now: Now) {
        match command {
            Command::Add { peer, addresses, source, ttl } => {
                self.add(peer, &addresses, source, expiry(ttl, now), now);
            }
            Command::Lookup { peer, hearsay, reply } => self.lookup(&peer, hearsay, reply, now),
            Command::Connected { info, first } => self.connected(&info, first, now),
            Command::Disconnected { info, last } => self.disconnected(&info, last, now),
            Command::Failed { peer, address } => self.failed(peer, &address, now),
            Command::Identified { peer, said } => self.edit_or_new(peer, now, |entry| {
                entry.used = now.mono;
                entry.identified(peer, said, now.after(RECENT), now.after(SAID_TTL));
            }),
            Command::Known { peer, reply } => self.known(peer, reply, now),
            Command::Forget { peer } => self.edit(&peer, now, Entry::forget),
            Command::Flush { reply } => {
                let done = self.keeping.flush(reply, now);
                self.actions.extend(done.map(|reply| Action::AnswerFlush { reply }));
                self.write(now);
            }
        }
    }

    fn handle_input(&mut self, input: Input, now: Now) {
        match input {
            Input::Read { rows } => self.read(rows, now),
            Input::Loaded { failed } => {
                self.keeping.loaded(now);
                if failed.is_some() {
                    let tell = self.keeping.report(now);
                    self.tell(tell, failed);
                }
            }
            Input::Written { failed } => {
                let tell = self.keeping.written(failed.is_none(), now);
                self.tell(tell, failed);
                self.write(now);
            }
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        while let Some((at, peer)) = self.lapses.first().copied() {
            if at > now.mono {
                break;
            }
            self.touch(&peer, now, |_| ());
        }
        self.write(now);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let lapse = self.lapses.first().map(|(at, _)| Deadline { at: *at, reason: "an address expires" });
        Deadline::earlier(lapse, self.keeping.deadline())
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
