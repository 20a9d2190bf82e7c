//! Connections: an actor each, beside its driver and the streams that its peer opens.

mod announced;
mod begun;
mod engine;
mod inbound;
mod life;

pub(crate) use announced::{Announced, Sure};
pub(crate) use begun::{Begun, Proven, prove};
use engine::Command;
pub(crate) use engine::Engine;
pub(crate) use inbound::{Handler, NEGOTIATION_TIMEOUT};
pub(crate) use life::{Candidate, start};

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use peerage_core::PeerId;
use peerage_muxer::{self as muxer, ErrorCode};

use crate::{
    actor::Port,
    hub::{ConnInfo, pick},
    limits::{ConnectionId, MemoryScope},
    manager::Activity,
};

/// A live connection, as the rest of the node holds it.
pub(crate) struct Handle {
    pub(crate) info: ConnInfo,
    pub(crate) muxer: muxer::Connection,
    pub(crate) port: Port<Engine>,
    pub(crate) memory: MemoryScope,
    pub(crate) activity: Activity,
    /// What the peer speaks.
    pub(crate) announced: Announced,
    pub(crate) proven: Proven,
    /// On which its driver and its streams' handlers run.
    pub(crate) worker: usize,
    /// Why this node has ended it, if it has.
    ended: OnceLock<(ErrorCode, String)>,
}

impl Handle {
    /// Ends the connection. What was said first counts.
    ///
    /// It is noted before it is posted: a connection is in use as soon as the host has started it, and its actor hears
    /// nothing until a worker has come to it. It looks at the note when it begins.
    pub(crate) fn close(&self, code: ErrorCode, why: impl Into<String>) {
        let (code, why) = self.ended.get_or_init(|| (code, why.into())).clone();
        self.port.post(Command::Close { code, why });
    }
}

/// The connections there are. A connection stands here from the moment the host starts it until the host has heard
/// of its end; so a host that was restarted finds here what it has to know again, and misses no end.
#[derive(Clone, Default)]
pub(crate) struct Directory(Arc<Mutex<Map>>);

#[derive(Default)]
struct Map {
    connections: BTreeMap<ConnectionId, Entry>,
    peers: BTreeMap<PeerId, Vec<ConnectionId>>,
}

struct Entry {
    handle: Arc<Handle>,
    /// Why it ended, if it has.
    ended: Option<String>,
}

impl Directory {
    pub(crate) fn enter(&self, handle: Arc<Handle>) {
        let (id, peer) = (handle.info.id, handle.info.peer);
        let mut map = self.lock();
        map.connections.insert(id, Entry { handle, ended: None });
        map.peers.entry(peer).or_default().push(id);
    }

    /// A connection is over; no stream is opened on it any more.
    pub(crate) fn end(&self, id: ConnectionId, why: &str) {
        if let Some(entry) = self.lock().connections.get_mut(&id) {
            entry.ended = Some(why.to_owned());
        }
    }

    /// The host has heard of its end.
    pub(crate) fn remove(&self, id: ConnectionId) {
        let mut map = self.lock();
        let Some(entry) = map.connections.remove(&id) else {
            return;
        };
        let peer = entry.handle.info.peer;
        if let Some(ids) = map.peers.get_mut(&peer) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                map.peers.remove(&peer);
            }
        }
    }

    /// The connection to use for a new stream: a direct one before a limited one, the oldest first.
    pub(crate) fn best(&self, peer: &PeerId, allow_limited: bool) -> Option<Arc<Handle>> {
        let map = self.lock();
        let live = map.peers.get(peer)?.iter().filter_map(|id| map.connections.get(id));
        let live = live.filter(|entry| entry.ended.is_none());
        let picked = pick(live.map(|entry| &entry.handle.info), allow_limited)?;
        map.connections.get(&picked).map(|entry| entry.handle.clone())
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<Arc<Handle>> {
        self.lock().connections.get(&id).map(|entry| entry.handle.clone())
    }

    /// Every connection, with the reason of its end if it has ended.
    pub(crate) fn all(&self) -> Vec<(ConnInfo, Option<String>)> {
        let map = self.lock();
        map.connections.values().map(|entry| (entry.handle.info.clone(), entry.ended.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
