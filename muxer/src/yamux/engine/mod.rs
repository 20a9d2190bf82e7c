//! The protocol, pure: bytes, commands and instants come in; bytes and events come out.
//!
//! Unlike the engines of other protocols it is not fed messages: bytes go straight from the socket's buffer into the
//! streams' buffers ([`Engine::handle_input`]), copied once; and large bodies go to the socket as they were written
//! ([`Engine::poll_output`]), not copied at all. The rules are the same: after every call the caller drains
//! [`Engine::poll_event`], and asks [`Engine::poll_timeout`] again.
//!
//! `input` has what frames do, `output` which frames are made and in which order, `local` what handles ask for.

mod frames;
mod input;
mod limits;
mod liveness;
mod local;
mod output;
mod receive;
mod segments;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, DefaultHasher, RandomState},
    time::{Duration, Instant},
};

use peerage_core::budget::Budget;

pub(super) use self::frames::Frames;
use self::{
    input::Reading,
    limits::{Recent, Strays},
    liveness::Liveness,
    stream::Stream,
};
use super::{
    Config, Mode,
    frame::{HEADER, Header},
};
use crate::{ConnectionError, ErrorCode, handles};

/// Something that a waiting caller can go on with.
pub(super) type Event = handles::Event<u32>;

/// Streams of this side that the peer has not acknowledged (yamux, "ACK backlog"); the next open waits.
pub(super) const MAX_UNACKNOWLEDGED: usize = 256;

/// Pongs waiting to be sent. At this number nothing more is read. One alone must not stop the reading: two sides whose
/// ways out are full, and that ask each other at the same time, would then wait for each other.
pub(super) const MAX_PONGS: usize = 8;

/// Refusals waiting to be sent. At this number nothing more is read: it is the peer that makes them necessary.
pub(super) const MAX_REFUSALS: usize = 1024;

/// Resets of streams that were there, waiting to be sent. At this number no stream begins, on whichever side: so there
/// are never more than these and one for each live stream. Reading goes on: two sides that give up many streams at once
/// would else wait for each other.
pub(super) const MAX_RESETS: usize = 1024;

/// Streams that were closed and dropped here while the peer may still write. More of them are forgotten at once; such
/// a peer's data is then dropped without the reset that would tell it so.
const MAX_LINGERING: usize = 256;

/// What a peer may send to a stream that nobody reads any more before it is told so by a reset. Large enough for the
/// answers that a one-way sender ignores (multistream-select), well below the window at whose end it would hang.
const LINGER_BYTES: u32 = 64 * 1024;

/// Streams that were dropped with something unsent, and of which the peer took nothing for so long, are reset. They are
/// looked at only so often, so it may take twice the time.
pub(super) const ABANDONED_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest round trip to a peer that is near.
pub(super) const NEAR: Duration = Duration::from_millis(1);

/// How many refusals are put up with for each stray: an honest peer may open as many streams as it has room for, again
/// and again, before it learns that they are refused.
const REFUSALS_PER_STRAY: usize = 10;

/// Streams that were given up before a frame of theirs was made may leave this many places in the queue of frames.
const MAX_READY_SLACK: usize = 1024;

/// How a peer broke the protocol. The connection ends with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("version {0}")]
    Version(u8),
    #[error("frame of unknown type {0}")]
    Kind(u8),
    #[error("a frame of a stream on stream 0")]
    StreamZero,
    #[error("stream id {0} belongs to this side")]
    Parity(u32),
    #[error("stream id {0} used twice")]
    Reused(u32),
    #[error("stream {id}: {length} bytes where {credit} are allowed")]
    Window { id: u32, length: u32, credit: u32 },
    #[error("stream {id}: credit of {length} overflows the window")]
    Credit { id: u32, length: u32 },
    #[error("too many resets or frames without a stream")]
    Strays,
    #[error("too many streams over the limit")]
    Refusals,
}

/// How far the end has come.
#[derive(Debug)]
enum Phase {
    Open,
    /// Sends what was written, then says goodbye.
    Closing(ErrorCode),
    /// The goodbye was made.
    Closed,
    /// By the peer, or by an error; nothing is sent any more.
    Ended,
}

pub(super) struct Engine {
    mode: Mode,
    config: Config,
    budget: Budget,
    phase: Phase,
    /// Why streams end.
    end: Option<ConnectionError>,
    streams: HashMap<u32, Stream, BuildHasherDefault<DefaultHasher>>,
    /// `None` when they are used up.
    next_id: Option<u32>,
    /// Live streams, as the limits count them.
    inbound: usize,
    outbound: usize,
    unacknowledged: usize,
    lingering: usize,
    /// Opened by the peer and not yet accepted.
    backlog: VecDeque<u32>,
    /// Streams with something to send, in turn.
    ready: VecDeque<u32>,
    refusals: VecDeque<[u8; HEADER]>,
    resets: VecDeque<[u8; HEADER]>,
    pongs: VecDeque<u32>,
    /// By how much windows have grown, all together.
    growth: u32,
    recent: Recent,
    strays: Strays,
    refused: Strays,
    /// There may be streams that were dropped with something unsent.
    abandoned: bool,
    /// When they are looked at.
    sweep: Option<Instant>,
    liveness: Liveness,
    reading: Reading,
    farewell: Option<ErrorCode>,
    events: VecDeque<Event>,
    /// A handle has made something to send since it was last asked.
    stirred: bool,
}

impl Engine {
    pub(super) fn new(mode: Mode, config: Config, budget: Budget, now: Instant) -> Self {
        let config = config.within_limits();
        Self {
            mode,
            liveness: Liveness::new(config.keepalive_interval, config.keepalive_timeout, now),
            strays: Strays::new(config.max_strays),
            refused: Strays::new(config.max_strays.saturating_mul(REFUSALS_PER_STRAY)),
            abandoned: false,
            sweep: None,
            config,
            budget,
            phase: Phase::Open,
            end: None,
            streams: HashMap::default(),
            next_id: Some(match mode {
                Mode::Client => 1,
                Mode::Server => 2,
            }),
            inbound: 0,
            outbound: 0,
            unacknowledged: 0,
            lingering: 0,
            backlog: VecDeque::new(),
            ready: VecDeque::new(),
            refusals: VecDeque::new(),
            resets: VecDeque::new(),
            pongs: VecDeque::new(),
            growth: 0,
            recent: Recent::default(),
            reading: Reading::start(),
            farewell: None,
            events: VecDeque::new(),
            stirred: false,
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is more to send than at the last asking, which the driver has to be told.
    pub(super) fn take_stirred(&mut self) -> bool {
        std::mem::take(&mut self.stirred)
    }

    /// When [`Engine::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.liveness.poll_timeout().into_iter().chain(self.sweep).min()
    }

    /// # Errors
    /// [`ConnectionError::Vanished`].
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.sweep.is_some_and(|at| at <= now) {
            self.sweep_abandoned(now);
        }
        if self.liveness.handle_timeout(now) { Ok(()) } else { Err(ConnectionError::Vanished) }
    }

    /// Makes the values of pings unknown to the peer before it gets them; they count up otherwise.
    pub(super) fn hide_pings(&mut self, key: RandomState) {
        self.liveness.hide(key);
    }

    /// Whether what the peer answers can be here at once: it is in this machine, or beside it. Nothing that a peer says makes it
    /// nearer than it is.
    pub(super) fn is_near(&self) -> bool {
        self.liveness.shortest().is_some_and(|shortest| shortest <= NEAR)
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.liveness.rtt()
    }

    /// The code of the peer's GoAway, once it came. The connection is over then: every implementation sends it as its
    /// last words (go-yamux, rust-yamux and js-libp2p close the socket with it).
    pub(super) fn farewell(&self) -> Option<ErrorCode> {
        self.farewell
    }

    /// This side says goodbye: handles fail from now on, what they had written is still sent. The goodbye waits for the
    /// windows of streams whose writing half was closed, since nothing that comes after it is read.
    pub(super) fn close(&mut self, code: ErrorCode) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        self.phase = Phase::Closing(code);
        self.end = Some(ConnectionError::Closed);
        self.stirred = true;
        self.backlog = VecDeque::new();
        self.wake_all();
    }

    /// It is over: handles fail (by an earlier reason, if there was one) and nothing is sent any more.
    pub(super) fn end(&mut self, reason: ConnectionError) {
        self.end.get_or_insert(reason);
        self.phase = Phase::Ended;
        self.backlog = VecDeque::new();
        self.ready = VecDeque::new();
        self.refusals = VecDeque::new();
        self.resets = VecDeque::new();
        (self.abandoned, self.sweep) = (false, None);
        self.streams.retain(|_, stream| stream.accepted && !stream.released);
        for stream in self.streams.values_mut() {
            stream.send.discard();
        }
        self.wake_all();
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Closed)
    }

    /// Everything was sent that will be, the goodbye included.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn wake_all(&mut self) {
        for (id, stream) in &mut self.streams {
            if std::mem::take(&mut stream.reader_waits) {
                self.events.push_back(Event::Readable(*id));
            }
            if std::mem::take(&mut stream.writer_waits) {
                self.events.push_back(Event::Writable(*id));
            }
        }
    }

    /// Puts a stream in the queue for a frame, if it has one to send.
    fn schedule(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !stream.queued && stream.has_output() {
            stream.queued = true;
            self.ready.push_back(id);
            self.stirred = true;
        }
    }

    fn notify_reader(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && std::mem::take(&mut stream.reader_waits)
        {
            self.events.push_back(Event::Readable(id));
        }
    }

    fn notify_writer(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && std::mem::take(&mut stream.writer_waits)
        {
            self.events.push_back(Event::Writable(id));
        }
    }

    fn push_reset(&mut self, id: u32, code: ErrorCode) {
        self.resets.push_back(Header::reset(id, code.0).encode());
        self.stirred = true;
    }

    /// Takes a stream off the limits.
    fn uncount(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !std::mem::take(&mut stream.counted) {
            return;
        }
        if stream.local {
            self.outbound = self.outbound.saturating_sub(1);
            self.events.push_back(Event::Openable);
        } else {
            self.inbound = self.inbound.saturating_sub(1);
        }
    }

    /// Nobody waits for an answer of the peer to a local stream any more: it came, or the stream is over.
    fn acknowledged(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut stream.acknowledged, true) {
            self.unacknowledged = self.unacknowledged.saturating_sub(1);
            self.events.push_back(Event::Openable);
        }
    }

    /// Lets a stream go whose handle is gone, as far as it is over: for good, or but for what the peer may still send.
    fn settle(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if !stream.released {
            return;
        }
        if stream.is_reset() || stream.fin_sent && stream.fin_received {
            self.forget(id);
        } else if (stream.fin_sent || stream.send.is_blocked()) && self.is_stuck(id) {
            // Blocked both ways, each side would wait for the other.
            self.give_up(id);
        } else if stream.fin_sent && !stream.lingering {
            self.uncount(id);
            self.acknowledged(id);
            if self.lingering >= MAX_LINGERING {
                self.forget_recent(id);
            } else if let Some(stream) = self.streams.get_mut(&id) {
                stream.lingering = true;
                self.lingering = self.lingering.saturating_add(1);
            }
        }
    }

    /// Resets what was dropped and did not move since the last look. (A peer that gives no credit for what was written
    /// to a stream would else hold it for ever.)
    fn sweep_abandoned(&mut self, now: Instant) {
        let (mut stuck, mut more) = (Vec::new(), false);
        for (id, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.released && !stream.fin_sent)
        {
            if std::mem::replace(&mut stream.unmoved, true) {
                stuck.push(*id);
            } else {
                more = true;
            }
        }
        stuck.into_iter().for_each(|id| self.give_up(id));
        self.sweep = if more { now.checked_add(ABANDONED_TIMEOUT) } else { None };
    }

    /// Resets a stream whose handle is gone.
    fn give_up(&mut self, id: u32) {
        let code = self.streams.get(&id).and_then(|stream| stream.reset_after).unwrap_or(ErrorCode::NONE);
        self.push_reset(id, code);
        self.forget_recent(id);
    }

    /// Whether the peer of a stream that nobody reads any more has to be told, or it would wait for credit for ever.
    fn is_stuck(&self, id: u32) -> bool {
        self.streams.get(&id).is_some_and(|stream| {
            let waits = stream.discarded > LINGER_BYTES || stream.receive.credit() == 0;
            stream.released && waits && !stream.fin_received
        })
    }

    fn forget(&mut self, id: u32) {
        self.uncount(id);
        self.acknowledged(id);
        if let Some(mut stream) = self.streams.remove(&id) {
            self.growth = self.growth.saturating_sub(stream.receive.discard());
            if stream.lingering {
                self.lingering = self.lingering.saturating_sub(1);
            }
        }
    }

    /// Forgets a stream while frames of the peer for it may be on their way.
    fn forget_recent(&mut self, id: u32) {
        if let Some(stream) = self.streams.get(&id)
            && !stream.fin_received
        {
            self.recent.add(id, stream.receive.credit());
        }
        self.forget(id);
    }

    /// The longest body that any window could allow.
    fn longest_body(&self) -> u32 {
        let growth =
            self.config.max_window.saturating_sub(super::INITIAL_WINDOW).min(self.config.window_growth);
        super::INITIAL_WINDOW.saturating_add(growth)
    }

    fn is_local_id(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.mode == Mode::Client)
    }
}

impl Engine {
    /// Streams that are not over, or whose end is not sent.
    pub(super) fn entries(&self) -> usize {
        self.streams.len()
    }
}

#[cfg(test)]
impl Engine {
    pub(super) fn inbound(&self) -> usize {
        self.inbound
    }

    pub(super) fn outbound(&self) -> usize {
        self.outbound
    }

    pub(super) fn lingering(&self) -> usize {
        self.lingering
    }

    pub(super) fn set_next_id(&mut self, id: u32) {
        self.next_id = Some(id);
    }

    pub(super) fn window_of(&self, id: u32) -> Option<u32> {
        self.streams.get(&id).map(|stream| stream.receive.window())
    }

    pub(super) fn growth(&self) -> u32 {
        self.growth
    }

    /// What the counters say is what is there.
    pub(super) fn check(&self) {
        let count = |local| self.streams.values().filter(|s| s.counted && s.local == local).count();
        assert_eq!((self.inbound, self.outbound), (count(false), count(true)));
        assert_eq!(self.unacknowledged, self.streams.values().filter(|s| !s.acknowledged).count());
        assert_eq!(self.lingering, self.streams.values().filter(|s| s.lingering).count());
        assert_eq!(self.growth, self.streams.values().map(|s| s.receive.growth()).sum::<u32>());
        assert!(self.unacknowledged <= MAX_UNACKNOWLEDGED && self.lingering <= MAX_LINGERING);
        assert!(self.inbound <= self.config.max_inbound_streams);
        assert!(self.outbound <= self.config.max_outbound_streams);
        assert!(self.refusals.len() <= MAX_REFUSALS);
        assert!(
            self.resets.len()
                <= MAX_RESETS + self.config.max_inbound_streams + self.config.max_outbound_streams
        );
        for stream in self.streams.values() {
            let unread = u32::try_from(stream.receive.unread()).unwrap();
            let over = stream.released || stream.is_reset();
            assert!(over || unread + stream.receive.credit() <= stream.receive.window());
            assert!(stream.send.buffer.len() <= super::SEND_BUFFER);
        }
    }
}
