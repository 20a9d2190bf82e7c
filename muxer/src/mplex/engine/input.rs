//! What the peer's frames do.

use std::time::Instant;

use super::{Blocked, Engine, Event, LINGER_BYTES, MAX_RESETS, Violation, later, stream::Stream};
use crate::mplex::frame::{Head, Key, Kind, MAX_HEAD};

/// Where in a frame the input is.
pub(super) enum Reading {
    Head { bytes: [u8; MAX_HEAD], len: usize },
    Body { target: Option<Key>, left: usize },
}

impl Reading {
    pub(super) fn start() -> Self {
        Self::Head { bytes: [0; MAX_HEAD], len: 0 }
    }

    pub(super) fn is_start(&self) -> bool {
        matches!(self, Self::Head { len: 0, .. })
    }

    /// What the body still has.
    pub(super) fn left(&self) -> usize {
        match self {
            Self::Head { .. } => 0,
            Self::Body { left, .. } => *left,
        }
    }
}

impl Engine {
    /// Takes input, and says how much. What was not taken comes again when [`Engine::wants_input`] says so.
    pub(in crate::mplex) fn handle_input(&mut self, input: &[u8], now: Instant) -> Result<usize, Violation> {
        let mut taken: usize = 0;
        while self.wants_input()
            && let Some(rest) = input.get(taken..).filter(|rest| !rest.is_empty())
        {
            let n = match self.reading {
                Reading::Head { mut bytes, len } => self.read_head(&mut bytes, len, rest, now)?,
                Reading::Body { target, left } => self.read_body(target, left, rest, now),
            };
            taken = taken.saturating_add(n);
        }
        Ok(taken)
    }

    /// Adds to the bytes of the head, one by one, until it is one.
    fn read_head(
        &mut self,
        bytes: &mut [u8; MAX_HEAD],
        mut len: usize,
        input: &[u8],
        now: Instant,
    ) -> Result<usize, Violation> {
        let mut taken: usize = 0;
        for byte in input {
            if let Some(slot) = bytes.get_mut(len) {
                *slot = *byte;
            }
            (len, taken) = (len.saturating_add(1), taken.saturating_add(1));
            // A head has ended with a byte whose top bit is clear.
            let complete = bytes.get(..len).unwrap_or(bytes);
            if let Some((head, _)) = Head::decode(complete)? {
                let target = self.handle_head(head, now)?;
                self.start_body(target, head.length);
                return Ok(taken);
            }
        }
        self.reading = Reading::Head { bytes: *bytes, len };
        Ok(taken)
    }

    fn start_body(&mut self, target: Option<Key>, left: usize) {
        self.reading = if left == 0 { Reading::start() } else { Reading::Body { target, left } };
    }

    /// Gives some of the body to whom it belongs; without a target it is thrown away.
    fn read_body(&mut self, target: Option<Key>, left: usize, input: &[u8], now: Instant) -> usize {
        let input = input.get(..left).unwrap_or(input);
        let taken = match target {
            Some(key) => self.receive(key, input, now),
            None => input.len(),
        };
        self.start_body(target, left.saturating_sub(taken));
        taken
    }

    /// Whose the body is.
    fn handle_head(&mut self, head: Head, now: Instant) -> Result<Option<Key>, Violation> {
        let key = head.key;
        match head.kind {
            // What follows is a name, which means nothing.
            Kind::NewStream => self.opened_by_peer(key, now).map(|()| None),
            Kind::Message if self.streams.get(&key).is_some_and(Stream::receives) => Ok(Some(key)),
            Kind::Message if self.recent.expects(key, head.length) => Ok(None),
            Kind::Message => self.stray(now).map(|()| None),
            Kind::Close => self.closed_by_peer(key, now).map(|()| None),
            Kind::Reset => self.reset_by_peer(key, now).map(|()| None),
        }
    }

    fn stray(&mut self, now: Instant) -> Result<(), Violation> {
        if self.strays.take(now) { Ok(()) } else { Err(Violation::Strays) }
    }

    fn opened_by_peer(&mut self, key: Key, now: Instant) -> Result<(), Violation> {
        if self.streams.contains_key(&key) {
            return Err(Violation::Reused(key.id));
        }
        if self.end.is_some() {
            return Ok(());
        }
        let full = self.inbound >= self.config.max_inbound_streams
            || self.backlog.len() >= self.config.accept_backlog
            || self.resets.len() >= MAX_RESETS;
        if full {
            self.refusals.push_back(Head { kind: Kind::Reset, key, length: 0 });
            self.recent.add(key);
            return self.stray(now);
        }
        self.recent.over(key);
        self.streams.insert(key, Stream::new(self.budget.nothing(), false));
        self.inbound = self.inbound.saturating_add(1);
        self.backlog.push_back(key);
        self.events.push_back(Event::Acceptable);
        Ok(())
    }

    fn closed_by_peer(&mut self, key: Key, now: Instant) -> Result<(), Violation> {
        if self.recent.over(key) {
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(&key).filter(|stream| stream.receives()) else {
            return self.stray(now);
        };
        stream.fin_received = true;
        self.wake(key);
        if self.streams.get(&key).is_some_and(|stream| stream.lingering) {
            self.forget(key);
        } else {
            self.settle(key);
        }
        Ok(())
    }

    fn reset_by_peer(&mut self, key: Key, now: Instant) -> Result<(), Violation> {
        if self.recent.over(key) {
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(&key) else {
            return self.stray(now);
        };
        // What this side opened the peer may refuse, each once: that costs it as much as us.
        let is_refusal = key.local && stream.reset.is_none();
        stream.end_by_peer();
        let (taken, lingering) = (stream.taken, stream.lingering);
        self.wake(key);
        if !taken {
            // Opened and reset at once: nobody need hear of it.
            self.backlog.retain(|waiting| *waiting != key);
            self.forget(key);
        } else if lingering {
            self.forget(key);
        } else {
            self.settle(key);
        }
        // Whenever it comes, it is not for nothing.
        if is_refusal { Ok(()) } else { self.stray(now) }
    }

    /// Keeps what came for a stream, as far as there is room.
    fn receive(&mut self, key: Key, input: &[u8], now: Instant) -> usize {
        let (limit, room) = (self.config.stream_buffer, self.room(key));
        let Some(stream) = self.streams.get_mut(&key).filter(|stream| stream.receives()) else {
            self.blocked = None;
            return input.len();
        };
        if stream.released {
            stream.discarded = stream.discarded.saturating_add(input.len());
            if stream.discarded > LINGER_BYTES && stream.lingering {
                self.push_reset(key);
                self.forget(key);
            }
            self.blocked = None;
            return input.len();
        }
        let bytes = input.get(..room).unwrap_or(input);
        let kept = stream.keep(bytes, limit);
        if kept == 0 {
            let until =
                self.blocked.map_or_else(|| later(now, self.config.read_timeout), |blocked| blocked.until);
            self.blocked = Some(Blocked { key, until, retry: false });
            return 0;
        }
        self.blocked = None;
        self.unread = self.unread.saturating_add(kept);
        if std::mem::take(&mut stream.reader_waits) {
            self.events.push_back(Event::Readable(key));
        }
        kept
    }
}
