use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use peerage_core::PeerId;

use crate::{
    actor::Clock,
    limits::{ConnectionId, Direction},
};

/// The most peers that have tags.
pub const MAX_MARKED: usize = 16_384;
/// The most tags of one peer, protections included.
pub const MAX_TAGS_PER_PEER: usize = 64;
/// The longest tag, in bytes.
pub const MAX_TAG: usize = 256;

/// What is in use, and what is worth how much. It outlives the lives of the manager's actor.
#[derive(Clone, Default)]
pub(crate) struct Board(Arc<Mutex<Entries>>);

#[derive(Default)]
pub(super) struct Entries {
    connections: BTreeMap<ConnectionId, Activity>,
    marks: BTreeMap<PeerId, Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    protections: BTreeSet<String>,
    values: BTreeMap<String, i32>,
}

/// Why a peer got no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// The tag is too long.
    #[error("a tag has {MAX_TAG} bytes at most")]
    TooLong,
    /// The peer has too many.
    #[error("a peer has {MAX_TAGS_PER_PEER} tags at most")]
    TooManyTags,
    /// Too many peers have some.
    #[error("{MAX_MARKED} peers have tags at most")]
    TooManyPeers,
}

impl Board {
    /// Enters a connection, until the returned guard is dropped.
    pub(crate) fn enter(&self, id: ConnectionId, clock: &Clock) -> (Activity, Entered) {
        let activity = Activity::new(clock.clone());
        self.lock().connections.insert(id, activity.clone());
        (activity, Entered { board: self.clone(), id })
    }

    pub(crate) fn protect(&self, peer: PeerId, tag: &str) -> Result<(), TagError> {
        self.lock().marks(peer, tag)?.protections.insert(tag.to_owned());
        Ok(())
    }

    /// Whether the peer is still protected, by another tag.
    pub(crate) fn unprotect(&self, peer: PeerId, tag: &str) -> bool {
        let mut entries = self.lock();
        entries.unmark(peer, |marks| marks.protections.remove(tag));
        entries.is_protected(&peer)
    }

    pub(crate) fn is_protected(&self, peer: &PeerId) -> bool {
        self.lock().is_protected(peer)
    }

    pub(crate) fn tag(&self, peer: PeerId, tag: &str, value: i32) -> Result<(), TagError> {
        self.lock().marks(peer, tag)?.values.insert(tag.to_owned(), value);
        Ok(())
    }

    /// Whether there was such a tag.
    pub(crate) fn untag(&self, peer: PeerId, tag: &str) -> bool {
        self.lock().unmark(peer, |marks| marks.values.remove(tag).is_some())
    }

    /// Writes a connection's use by hand.
    #[cfg(test)]
    pub(super) fn write(&self, id: ConnectionId, reading: Reading) {
        let state = Arc::new(Mutex::new(reading));
        self.lock().connections.insert(id, Activity { clock: Clock::start(), state });
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// The marks of a peer, to add `tag` to.
    fn marks(&mut self, peer: PeerId, tag: &str) -> Result<&mut Marks, TagError> {
        if tag.len() > MAX_TAG {
            return Err(TagError::TooLong);
        }
        if self.marks.len() >= MAX_MARKED && !self.marks.contains_key(&peer) {
            return Err(TagError::TooManyPeers);
        }
        let marks = self.marks.entry(peer).or_default();
        let known = marks.protections.contains(tag) || marks.values.contains_key(tag);
        let count = marks.protections.len().saturating_add(marks.values.len());
        if count >= MAX_TAGS_PER_PEER && !known { Err(TagError::TooManyTags) } else { Ok(marks) }
    }

    fn unmark(&mut self, peer: PeerId, unmark: impl FnOnce(&mut Marks) -> bool) -> bool {
        let Some(marks) = self.marks.get_mut(&peer) else { return false };
        let was = unmark(marks);
        if marks.protections.is_empty() && marks.values.is_empty() {
            self.marks.remove(&peer);
        }
        was
    }

    pub(super) fn is_protected(&self, peer: &PeerId) -> bool {
        self.marks.get(peer).is_some_and(|marks| !marks.protections.is_empty())
    }

    /// The sum of a peer's tags.
    pub(super) fn value(&self, peer: &PeerId) -> i64 {
        self.marks.get(peer).map_or(0, |marks| marks.values.values().map(|value| i64::from(*value)).sum())
    }

    /// How a connection is used; `None` once it is gone.
    pub(super) fn activity(&self, id: ConnectionId) -> Option<Reading> {
        self.connections.get(&id).map(Activity::read)
    }
}

/// A connection's place on the board.
pub(crate) struct Entered {
    board: Board,
    id: ConnectionId,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.board.lock().connections.remove(&self.id);
    }
}

/// How a connection is used, written by those who do.
#[derive(Clone)]
pub(crate) struct Activity {
    clock: Clock,
    state: Arc<Mutex<Reading>>,
}

/// How a connection is used at a certain time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Since when it is there.
    pub(super) opened: Instant,
    /// Open streams that the peer opened.
    pub(super) streams: usize,
    /// Open streams that this node opened.
    pub(super) own_streams: usize,
    /// [`Keep`]s that are held.
    pub(super) keeps: usize,
    /// When the last use ended; of interest only while there is none.
    pub(super) idle_since: Instant,
}

impl Reading {
    pub(super) fn in_use(&self) -> bool {
        self.streams > 0 || self.own_streams > 0 || self.keeps > 0
    }

    fn count(&mut self, of: Of) -> &mut usize {
        match of {
            Of::Stream => &mut self.streams,
            Of::OwnStream => &mut self.own_streams,
            Of::Keep => &mut self.keeps,
        }
    }
}

impl Activity {
    pub(crate) fn new(clock: Clock) -> Self {
        let now = clock.now().mono;
        let state = Reading { opened: now, streams: 0, own_streams: 0, keeps: 0, idle_since: now };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    /// A stream that `opener` opened is there, until what is returned is dropped.
    pub(crate) fn stream(&self, opener: Direction) -> Use {
        self.begin(match opener {
            Direction::Inbound => Of::Stream,
            Direction::Outbound => Of::OwnStream,
        })
    }

    /// Somebody wants the connection kept, until what is returned is dropped.
    pub(crate) fn keep(&self) -> Keep {
        Keep { _use: self.begin(Of::Keep) }
    }

    fn begin(&self, of: Of) -> Use {
        let mut state = self.lock();
        let count = state.count(of);
        *count = count.saturating_add(1);
        drop(state);
        Use { activity: self.clone(), of, unnoticed: false }
    }

    fn read(&self) -> Reading {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A use of a connection, which it lasts as long as.
pub(crate) struct Use {
    activity: Activity,
    of: Of,
    unnoticed: bool,
}

/// What uses a connection.
#[derive(Clone, Copy)]
enum Of {
    Stream,
    OwnStream,
    Keep,
}

impl Use {
    /// Ends it as if it had not been: the connection is as idle as it was before.
    pub(crate) fn unnoticed(mut self) {
        self.unnoticed = true;
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let now = self.activity.clock.now().mono;
        let mut state = self.activity.lock();
        let count = state.count(self.of);
        *count = count.saturating_sub(1);
        if !self.unnoticed {
            state.idle_since = now;
        }
    }
}

/// Keeps a connection from being closed by the manager, until it is dropped. The peer, the network and the user may
/// still end it.
#[must_use = "dropping it lets the connection go"]
pub struct Keep {
    _use: Use,
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keep")
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Board")
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;

    use super::*;

    fn peer(n: u8) -> PeerId {
        Keypair::from_ed25519_seed([n; 32]).peer_id()
    }

    #[test]
    fn a_peer_is_protected_as_long_as_one_tag_says_so() {
        let board = Board::default();
        board.protect(peer(1), "relay").unwrap();
        board.protect(peer(1), "friend").unwrap();
        board.protect(peer(1), "friend").unwrap();
        assert!(board.unprotect(peer(1), "relay") && board.is_protected(&peer(1)));
        assert!(!board.unprotect(peer(1), "friend") && !board.unprotect(peer(1), "friend"));
        assert!(board.lock().marks.is_empty());
    }

    #[test]
    fn values_add_up() {
        let board = Board::default();
        board.tag(peer(1), "a", i32::MAX).unwrap();
        board.tag(peer(1), "b", i32::MAX).unwrap();
        board.tag(peer(1), "b", 3).unwrap();
        assert_eq!(board.lock().value(&peer(1)), i64::from(i32::MAX) + 3);
        assert!(!board.is_protected(&peer(1)));
        assert!(board.untag(peer(1), "a") && !board.untag(peer(1), "a") && board.untag(peer(1), "b"));
        assert!(board.lock().marks.is_empty());
    }

    #[test]
    fn tags_are_bounded() {
        let board = Board::default();
        for n in 0..MAX_TAGS_PER_PEER {
            board.tag(peer(1), &n.to_string(), 1).unwrap();
        }
        assert_eq!(board.tag(peer(1), "more", 1), Err(TagError::TooManyTags));
        assert_eq!(board.protect(peer(1), "more"), Err(TagError::TooManyTags));
        assert_eq!(board.tag(peer(1), "0", 2), Ok(()));
        assert_eq!(board.tag(peer(2), &"x".repeat(MAX_TAG + 1), 1), Err(TagError::TooLong));
        assert_eq!(board.tag(peer(2), &"x".repeat(MAX_TAG), 1), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn uses_are_counted_and_the_end_of_the_last_is_kept() {
        let (board, clock) = (Board::default(), Clock::start());
        let (activity, entered) = board.enter(ConnectionId(1), &clock);
        let second = || tokio::time::advance(std::time::Duration::from_secs(1));
        let read = || board.lock().activity(ConnectionId(1)).unwrap();
        let opened = read().opened;
        second().await;
        let (stream, keep) = (activity.stream(Direction::Inbound), activity.keep());
        let own = activity.stream(Direction::Outbound);
        assert_eq!((read().streams, read().own_streams, read().keeps), (1, 1, 1));
        drop(own);
        assert_eq!((read().own_streams, read().in_use()), (0, true));
        second().await;
        drop(keep);
        assert!(read().in_use());
        second().await;
        drop(stream);
        second().await;
        activity.stream(Direction::Inbound).unnoticed();
        assert!(!read().in_use());
        assert_eq!(read().idle_since - opened, std::time::Duration::from_secs(3));
        drop(entered);
        assert!(board.lock().activity(ConnectionId(1)).is_none());
    }
}
