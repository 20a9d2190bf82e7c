//! Which frames are sent, and in which order.

use std::time::{Duration, Instant};

use super::{
    super::frame::{ACK, DATA, FIN, Header, PING, SYN, WINDOW_UPDATE},
    super::{INITIAL_WINDOW, SEND_BUFFER},
    ABANDONED_TIMEOUT, Engine, Event, Phase,
    frames::Frames,
    receive::Receive,
    stream::Stream,
};
use crate::window;

/// Bytes that streams send in turn until the first has its turn again, if they are not too many: 512 KiB.
const ROUND: u32 = 512 * 1024;

/// The longest frame of a stream is not shorter than this, 16 KiB, however many there are.
const SHORTEST_TURN: u32 = 16 * 1024;

impl Engine {
    /// Appends frames to `out` until it has `limit` bytes, exceeded by at most one frame of each kind. Answers go first,
    /// then streams, one frame each in turn.
    pub(in super::super) fn poll_output(&mut self, out: &mut Frames, limit: usize, now: Instant) {
        if matches!(self.phase, Phase::Closed | Phase::Ended) {
            return;
        }
        if std::mem::take(&mut self.abandoned) && self.sweep.is_none() {
            self.sweep = now.checked_add(ABANDONED_TIMEOUT);
        }
        let could_open = self.may_open();
        while let Some(value) = self.pongs.pop_front() {
            out.put(&Header::new(PING, ACK, 0, value).encode());
        }
        if let Some(value) = self.liveness.take_ping(now) {
            out.put(&Header::new(PING, SYN, 0, value).encode());
        }
        while out.len() < limit
            && let Some(reset) = self.refusals.pop_front().or_else(|| self.resets.pop_front())
        {
            out.put(&reset);
        }
        while out.len() < limit
            && let Some(id) = self.ready.pop_front()
        {
            self.send_frames(id, out, now);
        }
        if let Phase::Closing(code) = self.phase
            && self.ready.is_empty()
            && self.refusals.is_empty()
            && self.resets.is_empty()
            && !self.streams.values().any(Stream::owes_its_end)
        {
            out.put(&Header::go_away(code.0).encode());
            self.phase = Phase::Closed;
        }
        if !could_open && self.may_open() {
            // It was the queues that had no room.
            self.events.push_back(Event::Openable);
        }
    }

    /// Whether [`Self::poll_output`] would give anything.
    #[cfg(test)]
    pub(in super::super) fn has_output(&self) -> bool {
        let frames = !self.pongs.is_empty()
            || self.liveness.ping_is_due()
            || !self.refusals.is_empty()
            || !self.resets.is_empty()
            || !self.ready.is_empty();
        match self.phase {
            Phase::Open => frames,
            Phase::Closing(_) => true,
            Phase::Closed | Phase::Ended => false,
        }
    }

    /// At most a window update and one Data frame.
    fn send_frames(&mut self, id: u32, out: &mut Frames, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.queued = false;
        if !stream.has_output() {
            return;
        }
        if let Some(owed) = stream.credit_due() {
            let shortest = self.liveness.shortest();
            let mut credit = owed;
            if let Some(more) = wider(&mut stream.receive, owed, shortest, now, self.config.max_window) {
                let more = more.min(self.config.window_growth.saturating_sub(self.growth));
                if more > 0 && stream.receive.grow(more) {
                    self.growth = self.growth.saturating_add(more);
                    credit = credit.saturating_add(more);
                }
            }
            stream.receive.give(credit);
            let flags = greeting(stream);
            out.put(&Header::new(WINDOW_UPDATE, flags, id, credit).encode());
        }
        // Frames are shorter the more streams have something to send, so that each has its turn soon.
        let turns = u32::try_from(self.ready.len()).unwrap_or(u32::MAX).saturating_add(1);
        let share = ROUND.checked_div(turns).unwrap_or(ROUND).max(SHORTEST_TURN);
        let most = self.config.max_frame.min(share).min(stream.send.window);
        let body = stream.send.next_frame(usize::try_from(most).unwrap_or(usize::MAX));
        let length = u32::try_from(body).unwrap_or(u32::MAX);
        let last = body == stream.send.buffer.len();
        let ends = stream.finishing && !stream.fin_sent && last;
        if length > 0 || ends {
            stream.unmoved = false;
            if length > 0 {
                let flags = greeting(stream);
                out.put(&Header::new(DATA, flags, id, length).encode());
                stream.send.pop(body, out);
                stream.send.window = stream.send.window.saturating_sub(length);
            }
            // In a frame of its own: go-yamux and js-yamux look at the flags first, and then lose the body that came
            // with the end.
            if ends {
                let flags = greeting(stream) | FIN;
                out.put(&Header::new(DATA, flags, id, 0).encode());
                stream.fin_sent = true;
            }
        } else if stream.announce && !stream.greeted {
            let flags = greeting(stream);
            out.put(&Header::new(WINDOW_UPDATE, flags, id, 0).encode());
        }
        if let Some(code) = stream.reset_after
            && (stream.send.buffer.is_empty() || stream.send.window == 0)
        {
            if !(stream.fin_sent && stream.fin_received) {
                out.put(&Header::reset(id, code.0).encode());
            }
            self.forget_recent(id);
            return;
        }
        if stream.send.buffer.len() <= SEND_BUFFER / 2 {
            self.notify_writer(id);
        }
        if self.streams.get(&id).is_some_and(|stream| stream.fin_sent || stream.released) {
            self.settle(id);
        }
        self.schedule(id);
    }
}

/// By how much the window of a stream should grow, of which `owed` bytes were read since there was credit.
fn wider(
    receive: &mut Receive,
    owed: u32,
    round_trip: Option<Duration>,
    now: Instant,
    max_window: u32,
) -> Option<u32> {
    let (read, took) = receive.pace(owed, now)?;
    let wanted = window::wanted(read, took, round_trip?.max(window::SHORTEST));
    let wider = window::grown(receive.window(), wanted, max_window.max(INITIAL_WINDOW))?;
    Some(wider.saturating_sub(receive.window()))
}

/// The flag that the first frame of a stream carries.
fn greeting(stream: &mut Stream) -> u16 {
    match (std::mem::replace(&mut stream.greeted, true), stream.local) {
        (true, _) => 0,
        (false, true) => SYN,
        (false, false) => ACK,
    }
}
