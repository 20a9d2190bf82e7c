//! Streams on data channels, pure: what channels bring, what handles ask for and instants come in; [`Action`]s for the
//! channels and [`Event`]s for those who wait come out.
//!
//! The rules are those of webrtc/README.md, "Multiplexing" and "Closing an `RTCDataChannel`". Beyond them:
//!
//! - A stream is made known to the peer when it is first written to, read from or closed.
//! - A stream that was closed and dropped takes what the peer still sends for a while, and throws it away: a small
//!   answer to somebody who has gone is no error. Then the peer is told to stop.
//! - Whoever opened a channel closes it; the other side only if that takes too long. When both do, their resets cross, and
//!   sctp-proto answers the other's with a second one of its own, which libdatachannel takes for the end of the next
//!   channel with the number.
//! - go-libp2p and js-libp2p take a reset for the end of both halves, so it is taken for that here.
//!
//! `input` has what channels bring, `output` what goes to them, `local` what handles ask for.

mod ids;
mod input;
mod local;
mod output;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use peerage_core::budget::Budget;
use peerage_muxer::{ConnectionError, ErrorCode, StreamError, handles};

use self::{ids::Ids, stream::Stream};
use super::session::{ChannelId, NEGOTIATED, Side};

/// The channel of the noise handshake, of which both sides know.
pub(crate) const HANDSHAKE: ChannelId = NEGOTIATED;

/// Streams in each direction at once.
pub(crate) const MAX_STREAMS: usize = 256;

/// Streams of the peer that nobody has accepted yet.
pub(crate) const ACCEPT_BACKLOG: usize = 256;

/// Bytes of a stream that were received and not read. What comes then stays in SCTP, and counts against its window.
pub(crate) const RECEIVE_BUFFER: usize = 256 * 1024;

/// Bytes of a stream that were written and not handed to SCTP.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// How long a stream whose handle is gone waits: for the peer to acknowledge its end, and for the peer to come to an
/// end itself. After that it is closed without.
pub(crate) const FIN_ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a peer may send to a stream that nobody reads any more before it is told so.
pub(crate) const LINGER_BYTES: usize = 64 * 1024;

/// A stream that was dropped with something unsent, and of which SCTP took nothing for so long, is reset.
pub(crate) const ABANDONED_TIMEOUT: Duration = Duration::from_secs(60);

/// All streams share SCTP's window. One that is not read for so long while it keeps the window shut is reset: the
/// others wait for it.
pub(crate) const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Refusals that wait to be told to the peer. At this number no channel is taken note of.
const MAX_REFUSALS: usize = 256;

/// Refused streams in [`REFUSAL_PERIOD`]. An honest peer may open as many as it has room for, again and again, before
/// it learns that they are refused.
pub(crate) const MAX_REFUSED: usize = 4096;
const REFUSAL_PERIOD: Duration = Duration::from_secs(10);

/// The number of a stream here. Channels have numbers of their own, which are used again while somebody may still read
/// what came on the one before.
pub(crate) type Key = u64;

/// The stream on [`HANDSHAKE`].
pub(crate) const HANDSHAKE_KEY: Key = 0;

/// For a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Open(ChannelId),
    /// The one that both sides know of.
    OpenNegotiated(ChannelId),
    Send(ChannelId, Vec<u8>),
    Close(ChannelId),
}

/// Something that a waiting caller can go on with.
pub(crate) type Event = handles::Event<Key>;

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// What was written is still sent.
    Closing,
    Ended,
}

pub(crate) struct Engine {
    side: Side,
    budget: Budget,
    phase: Phase,
    /// Why streams end.
    end: Option<ConnectionError>,
    /// Streams with a handle, or with something to say or to hear.
    streams: BTreeMap<Key, Stream>,
    next_key: Key,
    /// The streams that have a channel, or a number for one.
    channels: BTreeMap<ChannelId, Key>,
    ids: Ids,
    /// Live streams, as the limits count them.
    inbound: usize,
    outbound: usize,
    /// Opened by the peer and not yet accepted.
    backlog: VecDeque<Key>,
    /// Streams with something to send, in turn.
    ready: VecDeque<Key>,
    /// Channels of the peer that are refused; of the first, the peer may have been told already.
    refusals: VecDeque<ChannelId>,
    /// Those that the peer was told of, and by when it should have closed them.
    refused_channels: VecDeque<(Instant, ChannelId)>,
    /// Those that it has not.
    unclosed: VecDeque<ChannelId>,
    refused: VecDeque<Instant>,
    /// Streams whose handle is gone and that wait, by when they wait no longer.
    deadlines: BTreeSet<(Instant, Key)>,
    /// Channels with messages in SCTP for which there is no room.
    blocked: BTreeSet<ChannelId>,
    /// Since when blocked streams keep the window shut, and none is read.
    shut: Option<Instant>,
    events: VecDeque<Event>,
    /// A handle has made something to do since it was last asked.
    stirred: bool,
    /// As the connectivity checks measure it.
    rtt: Option<Duration>,
    now: Instant,
}

impl Engine {
    pub(crate) fn new(side: Side, budget: Budget, now: Instant) -> Self {
        let mut engine = Self {
            side,
            phase: Phase::Open,
            end: None,
            streams: BTreeMap::new(),
            next_key: HANDSHAKE_KEY,
            channels: BTreeMap::new(),
            ids: Ids::new(side),
            inbound: 0,
            outbound: 0,
            backlog: VecDeque::new(),
            ready: VecDeque::new(),
            refusals: VecDeque::new(),
            refused_channels: VecDeque::new(),
            unclosed: VecDeque::new(),
            refused: VecDeque::new(),
            deadlines: BTreeSet::new(),
            blocked: BTreeSet::new(),
            shut: None,
            events: VecDeque::new(),
            stirred: false,
            rtt: None,
            now,
            budget,
        };
        let key = engine.add(HANDSHAKE, true);
        if let Some(handshake) = engine.streams.get_mut(&key) {
            handshake.announce = true;
        }
        engine.schedule(key);
        engine
    }

    fn add(&mut self, channel: ChannelId, local: bool) -> Key {
        let key = self.next_key;
        self.next_key = key.saturating_add(1);
        self.streams.insert(key, Stream::new(channel, local, &self.budget));
        self.channels.insert(channel, key);
        key
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is more to do than at the last asking, which the driver has to be told.
    pub(crate) fn take_stirred(&mut self) -> bool {
        std::mem::take(&mut self.stirred)
    }

    pub(crate) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(rtt);
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// When [`Engine::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let shut = self.shut.and_then(|since| since.checked_add(UNREAD_TIMEOUT));
        let refused = self.refused_channels.front().map(|(at, _)| *at);
        self.deadlines.first().map(|(at, _)| *at).into_iter().chain(shut).chain(refused).min()
    }

    /// To be called with every turn, whether something is due or not.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some((at, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, id));
            self.overdue(id);
        }
        while let Some((_, channel)) = self.refused_channels.pop_front_if(|(at, _)| *at <= now) {
            self.unclosed.push_back(channel);
        }
        let late = self.shut.is_some_and(|since| now.saturating_duration_since(since) >= UNREAD_TIMEOUT);
        if late && let Some(channel) = self.blocked.pop_first() {
            self.shut = Some(now);
            if let Some(id) = self.channels.get(&channel) {
                self.give_up(*id, ErrorCode::RESOURCE_LIMIT_EXCEEDED);
            }
        }
    }

    /// The other side sees a window that is all but shut, or not.
    pub(crate) fn window_is_shut(&mut self, shut: bool) {
        self.shut = match self.shut {
            _ if !shut || self.blocked.is_empty() => None,
            Some(since) => Some(since),
            None => Some(self.now),
        };
    }

    /// This side says goodbye: handles fail from now on, what they had written is still sent.
    pub(crate) fn close(&mut self) {
        if self.phase != Phase::Open {
            return;
        }
        self.phase = Phase::Closing;
        self.end = Some(ConnectionError::Closed);
        self.stirred = true;
        self.backlog = VecDeque::new();
        self.wake_all();
    }

    /// It is over: handles fail (by an earlier reason, if there was one) and nothing is sent any more.
    pub(crate) fn end(&mut self, reason: ConnectionError) {
        self.end.get_or_insert(reason);
        self.phase = Phase::Ended;
        self.backlog = VecDeque::new();
        self.ready = VecDeque::new();
        self.refusals = VecDeque::new();
        self.refused_channels = VecDeque::new();
        self.unclosed = VecDeque::new();
        self.deadlines = BTreeSet::new();
        self.blocked = BTreeSet::new();
        self.shut = None;
        self.streams.retain(|_, stream| stream.accepted && !stream.released);
        self.channels.retain(|_, id| self.streams.contains_key(id));
        for stream in self.streams.values_mut() {
            stream.send.discard();
        }
        self.wake_all();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Whether everything was handed to SCTP.
    pub(crate) fn is_flushed(&self) -> bool {
        self.ready.is_empty() && self.refusals.is_empty()
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

    /// Puts a stream in the queue of those that have something to send, if it has.
    fn schedule(&mut self, id: Key) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.queued
            && stream.has_output()
        {
            stream.queued = true;
            self.ready.push_back(id);
            self.stirred = true;
        }
    }

    fn notify_reader(&mut self, id: Key) {
        if let Some(stream) = self.streams.get_mut(&id)
            && std::mem::take(&mut stream.reader_waits)
        {
            self.events.push_back(Event::Readable(id));
        }
    }

    fn notify_writer(&mut self, id: Key) {
        if let Some(stream) = self.streams.get_mut(&id)
            && std::mem::take(&mut stream.writer_waits)
        {
            self.events.push_back(Event::Writable(id));
        }
    }

    /// Takes a stream off the limits.
    fn uncount(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if id == HANDSHAKE_KEY || !std::mem::take(&mut stream.counted) {
            return;
        }
        if stream.local {
            self.outbound = self.outbound.saturating_sub(1);
            self.events.push_back(Event::Openable);
        } else {
            self.inbound = self.inbound.saturating_sub(1);
        }
    }

    /// Gives a stream up from this side, with what was written to it and not sent.
    fn give_up(&mut self, id: Key, code: ErrorCode) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        // What waits in SCTP is thrown away when the driver looks again.
        self.stirred = true;
        let error = StreamError::ResetLocally(code);
        stream.receive.discard();
        stream.send.discard();
        if !stream.reading_is_over() {
            stream.read_error = Some(error.clone());
            stream.stop = Some(code);
        }
        if !stream.writing_is_over() {
            stream.write_error = Some(error);
            stream.reset = Some(code);
        }
        self.notify_reader(id);
        self.notify_writer(id);
        self.settle(id);
    }

    /// A stream without a handle has waited long enough.
    fn overdue(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.deadline = None;
        if !stream.send.is_empty() && stream.moved {
            return self.wait(id);
        }
        stream.send.discard();
        if !stream.writing_is_over() && !stream.fin_sent {
            return self.give_up(id, ErrorCode::NONE);
        }
        // What is left to be done is the peer's: it has everything, or will never have it.
        (stream.overdue, stream.fin_acknowledged) = (true, true);
        if !stream.reading_is_over() {
            stream.read_error = Some(StreamError::ResetLocally(ErrorCode::NONE));
            stream.stop = Some(ErrorCode::NONE);
        }
        self.settle(id);
    }

    /// Gives a stream whose handle is gone a time to come to its end.
    fn wait(&mut self, id: Key) {
        let now = self.now;
        if let Some(stream) = self.streams.get_mut(&id) {
            let said = stream.fin_sent || stream.writing_is_over() && stream.send.is_empty();
            let time = if said { FIN_ACK_TIMEOUT } else { ABANDONED_TIMEOUT };
            stream.moved = false;
            if let Some(at) = now.checked_add(time) {
                if let Some(before) = stream.deadline.replace(at) {
                    self.deadlines.remove(&(before, id));
                }
                self.deadlines.insert((at, id));
            }
        }
    }

    /// Lets a stream go whose handle is gone, as far as it is over.
    fn settle(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !stream.released {
            return self.schedule(id);
        }
        let over = stream.writing_is_over() && stream.reading_is_over();
        if over && stream.channel_closed {
            return self.forget(id);
        }
        stream.close |= over && (stream.local || stream.overdue);
        let waits = over && !stream.close && stream.deadline.is_none();
        let fin_sent = stream.fin_sent;
        if waits {
            self.wait(id);
        }
        if over || fin_sent {
            // The peer may take its time with the rest.
            self.uncount(id);
        }
        self.schedule(id);
    }

    fn forget(&mut self, id: Key) {
        self.uncount(id);
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        if self.channels.get(&stream.channel) == Some(&id) {
            self.channels.remove(&stream.channel);
            self.blocked.remove(&stream.channel);
        }
        if let Some(at) = stream.deadline {
            self.deadlines.remove(&(at, id));
        }
    }
}
