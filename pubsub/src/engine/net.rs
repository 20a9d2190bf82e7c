use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use peerage_core::{PeerId, budget::Budget};
use peerage_host::ConnectionId;

use super::{Action, IdMap};
use crate::{
    codec::Extensions,
    config::Config,
    event::{DropReason, Event},
    parcel::Parcel,
    partial::Mode,
    queue::{self, Lane, Pushed, Queue},
    seen::Keyed,
    stats::Stats,
    topic::Topic,
    version::Version,
};

/// The peers, and what waits for them.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) peers: BTreeMap<PeerId, Peer>,
    pub(super) actions: VecDeque<Action>,
    pub(super) stats: Stats,
    /// Peers whose control messages had no room.
    pub(super) broken: BTreeSet<PeerId>,
    /// Peers for whose control messages there was no memory.
    pub(super) starved: BTreeSet<PeerId>,
    /// What is kept and waits is charged to it.
    pub(super) budget: Budget,
    limits: queue::Limits,
    /// Bytes of what one peer says of partial messages that are remembered.
    words: usize,
    trace: bool,
    next_session: u64,
    key: u64,
}

/// A peer that is connected, or has sent something before that was known.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) connections: BTreeSet<ConnectionId>,
    /// When it was heard of first.
    pub(super) since: Instant,
    /// Whether this node dialed it.
    pub(super) dialed: bool,
    pub(super) link: Link,
    pub(super) session: u64,
    pub(super) queue: Queue,
    /// The stream on which it talks.
    pub(super) inbound: Option<u64>,
    /// What it wants.
    pub(super) topics: BTreeSet<Topic>,
    /// In which way it takes part in partial messages of those of them where it does.
    pub(super) partial: BTreeMap<Topic, Mode>,
    /// In how many meshes it is.
    pub(super) meshes: usize,
    /// Whether it has said anything on its stream.
    pub(super) heard: bool,
    pub(super) extensions: Option<Extensions>,
    /// Topics in whose mesh it may count this node, but is not in this node's: it is told once there is a stream to it, and it
    /// wants them.
    pub(super) owed: BTreeSet<Topic>,
    pub(super) spent: Spent,
    /// Messages it does not want, and for how many heartbeats more.
    pub(super) dont_want: IdMap<u8>,
    /// Its messages that are being verified or validated.
    pub(super) in_progress: usize,
    /// What it may say of partial messages that is remembered.
    pub(super) words: Budget,
}

/// What a peer has used up since the last heartbeat.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub(super) ihave_messages: u32,
    pub(super) asked: usize,
    pub(super) idontwant_entries: usize,
    pub(super) idontwant_ids: usize,
    pub(super) answers: u32,
    /// Bytes of parts that were made for it.
    pub(super) parts: usize,
}

/// The stream to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// There is none; when it is tried again.
    Closed {
        failures: u32,
        again: Option<Instant>,
    },
    Opening {
        failures: u32,
    },
    Open(Version),
}

/// What became of a message to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Taken,
    Full,
    /// There is no stream to it, or it does not want it.
    Skipped,
}

impl Peer {
    pub(super) fn version(&self) -> Option<Version> {
        match self.link {
            Link::Open(version) => Some(version),
            _ => None,
        }
    }

    /// Whether it may come into meshes. It may do so before this node's stream to it is there: after a restart of the actor
    /// it knows this node already.
    pub(super) fn can_join_meshes(&self) -> bool {
        matches!(self.link, Link::Opening { .. }) || self.is_gossip()
    }

    /// Whether it can be told of partial messages: on a stream of 1.3, after it has said that it speaks of them.
    pub(super) fn takes_partial(&self) -> bool {
        self.version() == Some(Version::V13) && self.extensions.is_some_and(|can| can.partial_messages)
    }

    /// Whether it can be taken into meshes, and be told of messages.
    pub(super) fn is_gossip(&self) -> bool {
        self.version().is_some_and(Version::is_gossip)
    }
}

impl Net {
    pub(super) fn new(config: &Config, first_id: u64, key: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            actions: VecDeque::new(),
            stats: Stats::default(),
            broken: BTreeSet::new(),
            starved: BTreeSet::new(),
            budget: Budget::unlimited(),
            limits: config.queue,
            words: config.partial.map_or(0, |limits| limits.bytes_per_peer),
            trace: config.trace,
            next_session: first_id,
            key,
        }
    }

    /// The peer; made, if it is not known.
    pub(super) fn peer(&mut self, peer: PeerId, now: Instant) -> &mut Peer {
        let (limits, words, key, budget) = (self.limits, self.words, self.key, &self.budget);
        self.peers.entry(peer).or_insert_with(|| Peer {
            connections: BTreeSet::new(),
            since: now,
            dialed: false,
            link: Link::Closed { failures: 0, again: None },
            session: 0,
            queue: Queue::new(limits, budget.clone()),
            inbound: None,
            topics: BTreeSet::new(),
            partial: BTreeMap::new(),
            meshes: 0,
            heard: false,
            extensions: None,
            owed: BTreeSet::new(),
            spent: Spent::default(),
            dont_want: HashMap::with_hasher(Keyed(key, 0)),
            in_progress: 0,
            words: Budget::limited(words),
        })
    }

    /// Begins to open a stream.
    pub(super) fn open(&mut self, peer: PeerId) {
        let limits = self.limits;
        let session = self.next_session;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let failures = match state.link {
            Link::Closed { failures, .. } | Link::Opening { failures } => failures,
            Link::Open(_) => 0,
        };
        self.next_session = session.wrapping_add(1);
        (state.link, state.session) = (Link::Opening { failures }, session);
        state.queue = Queue::new(limits, self.budget.clone());
        let queue = state.queue.clone();
        self.actions.push_back(Action::Open { peer, session, queue });
    }

    /// Sends a frame of no topic, if there is a stream and there is room; whether it will be sent.
    pub(super) fn control(&mut self, peer: PeerId, lane: Lane, frame: Bytes) -> bool {
        let Some(state) = self.peers.get(&peer) else { return false };
        if state.version().is_none() {
            self.dropped(peer, lane, None, DropReason::NoStream);
            return false;
        }
        let pushed = state.queue.control(lane, frame);
        match pushed {
            Pushed::First => self.actions.push_back(Action::Flush { peer }),
            Pushed::Waits => {}
            Pushed::Full => {
                self.dropped(peer, lane, None, DropReason::QueueFull);
                if lane == Lane::Control {
                    self.broken.insert(peer);
                }
            }
            Pushed::NoMemory => {
                self.dropped(peer, lane, None, DropReason::NoMemory);
                if lane == Lane::Control {
                    self.starved.insert(peer);
                }
            }
        }
        matches!(pushed, Pushed::First | Pushed::Waits)
    }

    /// Sends several; whether all will be sent.
    pub(super) fn controls(&mut self, peer: PeerId, lane: Lane, frames: Vec<Bytes>) -> bool {
        let mut all = true;
        for frame in frames {
            all &= self.control(peer, lane, frame);
        }
        all
    }

    /// A peer that may count this node to its mesh of a topic is not in this node's, and that cannot be said now. As much waits
    /// as there may be control frames.
    pub(super) fn owe(&mut self, peer: PeerId, topic: &Topic) {
        let max = self.limits.control;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.owed.len() < max || state.owed.contains(topic) {
            state.owed.insert(topic.clone());
        } else {
            self.dropped(peer, Lane::Control, None, DropReason::NoStream);
        }
    }

    /// Sends a message, if there is a stream and the peer has not said that it does not want it.
    pub(super) fn message(&mut self, peer: PeerId, parcel: &Parcel, own: bool) -> Sent {
        let Some(state) = self.peers.get(&peer).filter(|state| state.version().is_some()) else {
            return Sent::Skipped;
        };
        if !state.dont_want.is_empty() && state.dont_want.contains_key(&parcel.id) {
            self.stats.unwanted = self.stats.unwanted.saturating_add(1);
            return Sent::Skipped;
        }
        let topic = &parcel.message.topic;
        let pushed = state.queue.message(topic, parcel.frame.clone(), own, parcel.charge.clone());
        match pushed {
            Pushed::First => self.actions.push_back(Action::Flush { peer }),
            Pushed::Waits => {}
            Pushed::Full | Pushed::NoMemory => {
                let lane = if own { Lane::Own } else { Lane::Forward };
                self.dropped(peer, lane, Some(topic.clone()), DropReason::QueueFull);
                return Sent::Full;
            }
        }
        let sent = self.stats.topic(topic);
        sent.sent = sent.sent.saturating_add(1);
        sent.sent_bytes = sent.sent_bytes.saturating_add(parcel.frame.len() as u64);
        Sent::Taken
    }

    /// In which way a peer takes part in partial messages of a topic.
    pub(super) fn mode_of(&self, peer: &PeerId, topic: &Topic) -> Mode {
        let state = self.peers.get(peer).filter(|state| state.takes_partial());
        state.and_then(|state| state.partial.get(topic)).copied().unwrap_or_default()
    }

    /// Sends something of a partial message, `parts` bytes of parts in it. What is said of one topic stays in its order.
    pub(super) fn partial(&mut self, peer: PeerId, topic: &Topic, frame: Bytes, parts: usize) -> Sent {
        let Some(state) = self.peers.get(&peer).filter(|state| state.takes_partial()) else {
            return Sent::Skipped;
        };
        let Ok(charge) = self.budget.reserve(frame.len()) else {
            self.dropped(peer, Lane::Forward, Some(topic.clone()), DropReason::NoMemory);
            return Sent::Full;
        };
        match state.queue.message(topic, frame, false, Some(Arc::new(charge))) {
            Pushed::First => self.actions.push_back(Action::Flush { peer }),
            Pushed::Waits => {}
            Pushed::Full | Pushed::NoMemory => {
                self.dropped(peer, Lane::Forward, Some(topic.clone()), DropReason::QueueFull);
                return Sent::Full;
            }
        }
        let stats = &mut self.stats.partial;
        stats.sent = stats.sent.saturating_add(1);
        stats.sent_bytes = stats.sent_bytes.saturating_add(parts as u64);
        Sent::Taken
    }

    pub(super) fn dropped(&mut self, peer: PeerId, lane: Lane, topic: Option<Topic>, why: DropReason) {
        self.stats.dropped(lane, why, 1);
        self.event(Event::Dropped { peer, lane, topic, why });
    }

    /// Tells who watches.
    pub(super) fn event(&mut self, event: Event) {
        self.actions.push_back(Action::Event(event));
    }

    /// Tells who watches everything; the event is made only then.
    pub(super) fn trace(&mut self, event: impl FnOnce() -> Event) {
        if self.trace {
            self.event(event());
        }
    }

    /// A peer has come into a mesh, or left one.
    pub(super) fn meshes(&mut self, peer: PeerId, entered: bool) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let before = state.meshes;
        state.meshes = if entered { before.saturating_add(1) } else { before.saturating_sub(1) };
        if (before == 0) != (state.meshes == 0) {
            self.actions.push_back(Action::InMesh { peer, any: entered });
        }
    }
}
