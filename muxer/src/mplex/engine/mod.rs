//! The protocol, pure: bytes, commands and instants come in; bytes and events come out.
//!
//! Bytes go straight from the socket's buffer into the streams' buffers ([`Engine::handle_input`]) and from there into
//! the buffer for the socket ([`Engine::poll_output`]). After every call the caller drains [`Engine::poll_event`], and
//! asks [`Engine::poll_timeout`] again.
//!
//! `input` has what frames do, `local` what handles ask for.

mod input;
mod local;
mod strays;
mod stream;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use peerage_core::budget::Budget;

use self::{
    input::Reading,
    strays::{Recent, Strays},
    stream::Stream,
};
use super::{
    Config, SEND_MESSAGE,
    frame::{Head, HeadError, Key, Kind},
};
use crate::{ConnectionError, ErrorCode, StreamError};

/// Refusals waiting to be sent. At this number nothing more is read: it is the peer that makes them necessary.
pub(super) const MAX_REFUSALS: usize = 1024;

/// Resets of streams that were there, waiting to be sent. At this number no stream begins, on whichever side: so there
/// are never more than these and one for each live stream. Reading goes on: two sides that give up many streams at once
/// would else wait for each other.
pub(super) const MAX_RESETS: usize = 1024;

/// Streams that were given up before a frame of theirs was made may leave this many places in the queue of frames.
const MAX_READY_SLACK: usize = 1024;

/// Streams that were closed and dropped here while the peer may still write. More of them are forgotten at once.
pub(super) const MAX_LINGERING: usize = 256;

/// What a peer may send to a stream that nobody reads any more before it is told so by a reset.
pub(super) const LINGER_BYTES: usize = 64 * 1024;

/// A stream that had no room has room again when there is this much, or all that its message still has: whoever
/// reads single bytes does not hold up the others for ever.
pub(super) const RESUME: usize = 4 * 1024;

/// How a peer broke the protocol. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("{0}")]
    Head(#[from] HeadError),
    #[error("stream {0} was opened twice")]
    Reused(u64),
    #[error("too many resets, refusals, or frames for streams that are not there")]
    Strays,
}

/// Something that a waiting caller can go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Readable(Key),
    Writable(Key),
    /// A stream can be accepted.
    Acceptable,
    /// A stream can be opened.
    Openable,
}

/// Nothing is read, because this stream has no room for what comes next.
#[derive(Clone, Copy, Debug)]
struct Blocked {
    key: Key,
    until: Instant,
    /// There may be room now.
    retry: bool,
}

pub(super) struct Engine {
    config: Config,
    budget: Budget,
    /// Why streams end.
    end: Option<ConnectionError>,
    /// This side closed the connection; what was written is still sent.
    closing: bool,
    streams: BTreeMap<Key, Stream>,
    next_id: u64,
    inbound: usize,
    outbound: usize,
    lingering: usize,
    /// Opened by the peer and not yet accepted.
    backlog: VecDeque<Key>,
    /// Streams with something to send, in turn.
    ready: VecDeque<Key>,
    refusals: VecDeque<Head>,
    resets: VecDeque<Head>,
    /// Bytes that are unread, of all streams.
    unread: usize,
    blocked: Option<Blocked>,
    strays: Strays,
    recent: Recent,
    reading: Reading,
    events: VecDeque<Event>,
    /// There is more for the driver to do than at its last turn.
    stirred: bool,
}

impl Engine {
    pub(super) fn new(config: Config, budget: Budget) -> Self {
        Self {
            strays: Strays::new(config.max_strays),
            recent: Recent::default(),
            config,
            budget,
            end: None,
            closing: false,
            streams: BTreeMap::new(),
            next_id: 0,
            inbound: 0,
            outbound: 0,
            lingering: 0,
            backlog: VecDeque::new(),
            ready: VecDeque::new(),
            refusals: VecDeque::new(),
            resets: VecDeque::new(),
            unread: 0,
            blocked: None,
            reading: Reading::start(),
            events: VecDeque::new(),
            stirred: false,
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn take_stirred(&mut self) -> bool {
        std::mem::take(&mut self.stirred)
    }

    /// Appends frames to `out` until it has `batch` bytes or there are no more.
    pub(super) fn poll_output(&mut self, out: &mut Vec<u8>, batch: usize) {
        let could_open = self.may_open();
        while out.len() < batch {
            if let Some(head) = self.refusals.pop_front().or_else(|| self.resets.pop_front()) {
                head.encode(out);
            } else if let Some(key) = self.ready.pop_front() {
                self.put_frame(key, out);
            } else {
                break;
            }
        }
        if !could_open && self.may_open() {
            // It was the queues that had no room.
            self.events.push_back(Event::Openable);
        }
    }

    /// One frame, and a place at the end of the queue for the next one.
    fn put_frame(&mut self, key: Key, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        stream.queued = false;
        if !stream.has_output() {
            return;
        }
        if !stream.announced {
            stream.announced = true;
            Head { kind: Kind::NewStream, key, length: 0 }.encode(out);
        } else if stream.unsent.is_empty() {
            stream.fin_sent = true;
            Head { kind: Kind::Close, key, length: 0 }.encode(out);
            if stream.reset_after && !stream.fin_received {
                self.push_reset(key);
                self.forget(key);
                return;
            }
        } else {
            let length = stream.unsent.len().min(SEND_MESSAGE);
            Head { kind: Kind::Message, key, length }.encode(out);
            out.extend(stream.unsent.drain(..length));
            stream.shrink();
            if std::mem::take(&mut stream.writer_waits) {
                self.events.push_back(Event::Writable(key));
            }
        }
        self.schedule(key);
        self.settle(key);
    }

    /// Whether input is taken: not while a stream has no room, nor while there are too many refusals to be sent.
    pub(super) fn wants_input(&self) -> bool {
        self.refusals.len() < MAX_REFUSALS && self.blocked.is_none_or(|blocked| blocked.retry)
    }

    /// When [`Engine::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.blocked.filter(|blocked| !blocked.retry).map(|blocked| blocked.until)
    }

    /// Resets the stream that is to blame for that nothing is read.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let Some(blocked) = self.blocked.filter(|blocked| !blocked.retry && blocked.until <= now) else {
            return;
        };
        let own = self.unread_of(blocked.key);
        let most = self.streams.iter().max_by_key(|(_, stream)| stream.received.len());
        let culprit = match most {
            Some((key, stream)) if own < self.config.stream_buffer && stream.received.len() > own => *key,
            _ => blocked.key,
        };
        self.give_up(culprit, ErrorCode::RESOURCE_LIMIT_EXCEEDED);
        self.blocked = None;
        if culprit != blocked.key {
            let until = later(now, self.config.read_timeout);
            self.blocked = Some(Blocked { until, retry: true, ..blocked });
        }
        self.stirred = true;
    }

    /// Resets a stream whose handle is still there, or that nobody accepted yet.
    fn give_up(&mut self, key: Key, code: ErrorCode) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        let (announced, taken) = (stream.announced, stream.taken);
        self.unread = self.unread.saturating_sub(stream.received.len());
        stream.end(StreamError::ResetLocally(code));
        if announced {
            self.push_reset(key);
        }
        self.wake(key);
        if !taken {
            self.backlog.retain(|waiting| *waiting != key);
            self.forget(key);
        } else {
            self.settle(key);
        }
    }

    /// This side ends the connection: handles fail from now on, what they had written is still sent.
    pub(super) fn close(&mut self) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(ConnectionError::Closed);
        self.closing = true;
        self.stirred = true;
        self.wake_all();
    }

    /// It is over: handles fail (by an earlier reason, if there was one) and nothing is sent any more.
    pub(super) fn end(&mut self, reason: ConnectionError) {
        self.end.get_or_insert(reason);
        self.ready = VecDeque::new();
        self.refusals = VecDeque::new();
        self.resets = VecDeque::new();
        self.backlog = VecDeque::new();
        self.blocked = None;
        self.streams.retain(|_, stream| stream.taken && !stream.released);
        self.unread = self.streams.values().map(|stream| stream.received.len()).sum();
        for stream in self.streams.values_mut() {
            stream.unsent = VecDeque::new();
            stream.shrink();
        }
        self.wake_all();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Everything was given out that will be sent.
    pub(super) fn is_closed(&self) -> bool {
        self.closing && self.ready.is_empty() && self.refusals.is_empty() && self.resets.is_empty()
    }

    pub(super) fn is_between_frames(&self) -> bool {
        self.reading.is_start()
    }

    fn wake(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(&key) {
            if std::mem::take(&mut stream.reader_waits) {
                self.events.push_back(Event::Readable(key));
            }
            if std::mem::take(&mut stream.writer_waits) {
                self.events.push_back(Event::Writable(key));
            }
        }
    }

    fn wake_all(&mut self) {
        let keys: Vec<Key> = self.streams.keys().copied().collect();
        keys.into_iter().for_each(|key| self.wake(key));
        self.events.extend([Event::Acceptable, Event::Openable]);
    }

    /// Puts a stream in the queue for a frame, if it has one to send.
    fn schedule(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(&key)
            && !stream.queued
            && stream.has_output()
        {
            stream.queued = true;
            self.ready.push_back(key);
            self.stirred = true;
        }
    }

    fn push_reset(&mut self, key: Key) {
        self.resets.push_back(Head { kind: Kind::Reset, key, length: 0 });
        self.recent.add(key);
        self.stirred = true;
    }

    fn unread_of(&self, key: Key) -> usize {
        self.streams.get(&key).map_or(0, |stream| stream.received.len())
    }

    /// Lets a stream go whose handle is gone, as far as it is over: for good, or but for what the peer may still send.
    fn settle(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        if !stream.released || stream.lingering {
            return;
        }
        if stream.reset.is_some() || stream.fin_sent && stream.fin_received {
            self.forget(key);
        } else if stream.fin_sent {
            if self.lingering >= MAX_LINGERING {
                self.forget(key);
                return;
            }
            stream.lingering = true;
            self.lingering = self.lingering.saturating_add(1);
            self.uncount(key);
        }
    }

    /// Takes a stream off the limits.
    fn uncount(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        if !std::mem::take(&mut stream.counted) {
            return;
        }
        if key.local {
            self.outbound = self.outbound.saturating_sub(1);
            self.events.push_back(Event::Openable);
        } else {
            self.inbound = self.inbound.saturating_sub(1);
        }
    }

    fn forget(&mut self, key: Key) {
        self.uncount(key);
        if let Some(stream) = self.streams.remove(&key) {
            self.unread = self.unread.saturating_sub(stream.received.len());
            if stream.lingering {
                self.lingering = self.lingering.saturating_sub(1);
            }
        }
        self.look_for_room();
    }

    /// After something was read or let go: whether reading the connection can go on.
    fn look_for_room(&mut self) {
        let Some(blocked) = self.blocked else {
            return;
        };
        let enough = RESUME.min(self.reading.left());
        if !self.streams.contains_key(&blocked.key) || self.room(blocked.key) >= enough {
            self.blocked = Some(Blocked { retry: true, ..blocked });
            self.stirred = true;
        }
    }

    /// What may still be received for a stream, by the limits.
    fn room(&self, key: Key) -> usize {
        let own = self.config.stream_buffer.saturating_sub(self.unread_of(key));
        own.min(self.config.connection_buffer.saturating_sub(self.unread))
    }
}

fn later(now: Instant, wait: Duration) -> Instant {
    // A wait without end is one of a day.
    now.checked_add(wait).or_else(|| now.checked_add(Duration::from_secs(24 * 60 * 60))).unwrap_or(now)
}

#[cfg(test)]
impl Engine {
    pub(super) fn entries(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn unread(&self) -> usize {
        self.unread
    }

    pub(super) fn live(&self) -> (usize, usize) {
        (self.inbound, self.outbound)
    }

    pub(super) fn queued_refusals(&self) -> usize {
        self.refusals.len()
    }
}
