//! One stream: what is known of its two halves.

use peerage_core::budget::{Budget, Reserved};

use super::{
    super::{INITIAL_WINDOW, SEND_BUFFER},
    frames::{Frames, HANDED_OVER},
    receive::{GUARANTEED, Receive},
    segments::Segments,
};
use crate::ErrorCode;

pub(super) struct Stream {
    /// Opened by this side.
    pub(super) local: bool,
    /// One that the peer opened was handed over by `accept`.
    pub(super) accepted: bool,
    /// The first frame of this side was sent: SYN for a local stream, ACK for another.
    pub(super) greeted: bool,
    /// The peer has answered a local stream.
    pub(super) acknowledged: bool,
    /// To be made known even without data.
    pub(super) announce: bool,
    pub(super) send: Send,
    pub(super) finishing: bool,
    pub(super) fin_sent: bool,
    pub(super) receive: Receive,
    pub(super) fin_received: bool,
    pub(super) reset_by_peer: Option<ErrorCode>,
    /// Given up here while there is still a handle: for lack of memory.
    pub(super) reset_locally: Option<ErrorCode>,
    /// To be reset when what was written before is sent, as far as the window allows.
    pub(super) reset_after: Option<ErrorCode>,
    /// The handle is gone.
    pub(super) released: bool,
    /// Since the last look nothing was sent of what it left.
    pub(super) unmoved: bool,
    /// Received after that.
    pub(super) discarded: u32,
    /// It counts against the limit of live streams.
    pub(super) counted: bool,
    pub(super) lingering: bool,
    /// It stands in the queue of those that have something to send.
    pub(super) queued: bool,
    pub(super) reader_waits: bool,
    pub(super) writer_waits: bool,
}

/// Written here and not yet sent.
pub(super) struct Send {
    pub(super) buffer: Segments,
    pub(super) window: u32,
    held: Reserved,
}

impl Stream {
    pub(super) fn new(local: bool, budget: &Budget) -> Self {
        Self {
            local,
            accepted: local,
            greeted: false,
            acknowledged: !local,
            announce: false,
            send: Send { buffer: Segments::default(), window: INITIAL_WINDOW, held: budget.nothing() },
            finishing: false,
            fin_sent: false,
            receive: Receive::new(budget),
            fin_received: false,
            reset_by_peer: None,
            reset_locally: None,
            reset_after: None,
            released: false,
            unmoved: false,
            discarded: 0,
            counted: true,
            lingering: false,
            queued: false,
            reader_waits: false,
            writer_waits: false,
        }
    }

    /// Over before its end, by whomever.
    pub(super) fn is_reset(&self) -> bool {
        self.reset_by_peer.is_some() || self.reset_locally.is_some()
    }

    /// Its writing half was closed, and the peer, which may still read it, has not been sent everything.
    pub(super) fn owes_its_end(&self) -> bool {
        self.finishing && !self.fin_sent && !self.is_reset()
    }

    /// A frame of it would say something.
    pub(super) fn has_output(&self) -> bool {
        if self.is_reset() || self.fin_sent && self.released {
            return false;
        }
        let data = !self.send.buffer.is_empty() && self.send.window > 0;
        let end = self.finishing && !self.fin_sent && self.send.buffer.is_empty();
        data || end
            || self.reset_after.is_some()
            || self.announce && !self.greeted
            || self.credit_due().is_some()
    }

    /// Credit for a peer that may still need it.
    pub(super) fn credit_due(&self) -> Option<u32> {
        if self.fin_received || self.released || self.is_reset() {
            return None;
        }
        self.receive.due()
    }
}

impl Send {
    /// Takes what there is room and memory for.
    pub(super) fn push(&mut self, data: &[u8]) -> usize {
        let used = self.buffer.len();
        let data = data.get(..SEND_BUFFER.saturating_sub(used)).unwrap_or(data);
        let held = &mut self.held;
        let mut reserve = |allocated: usize| {
            let needed = allocated.saturating_sub(GUARANTEED);
            if needed > held.bytes() { held.resize(needed) } else { Ok(()) }
        };
        if self.buffer.push(data, &mut reserve).is_err() && self.buffer.is_empty() {
            // There is no memory for so much; for a little there always is.
            let _full = self.buffer.push(data.get(..GUARANTEED).unwrap_or(data), reserve);
        }
        self.buffer.len().saturating_sub(used)
    }

    /// How many bytes the next frame has, of at most `most`.
    pub(super) fn next_frame(&self, most: usize) -> usize {
        // A large piece goes as it is; what follows it has a frame of its own.
        let whole = self.buffer.first_whole().filter(|whole| (HANDED_OVER..=most).contains(whole));
        whole.unwrap_or(most).min(self.buffer.len())
    }

    /// The next `bytes` go into a frame.
    pub(super) fn pop(&mut self, bytes: usize, out: &mut Frames) {
        let whole = self.buffer.first_whole() == Some(bytes) && bytes >= HANDED_OVER;
        match whole.then(|| self.buffer.take_first()).flatten() {
            Some(body) => out.hand_over(body),
            None => drop(self.buffer.take(bytes, |part| out.put(part))),
        }
        let needed = self.buffer.allocated().saturating_sub(GUARANTEED);
        self.held.shrink(self.held.bytes().saturating_sub(needed));
    }

    /// The peer's window keeps back what was written.
    pub(super) fn is_blocked(&self) -> bool {
        self.window == 0 && !self.buffer.is_empty()
    }

    pub(super) fn discard(&mut self) {
        self.buffer.clear();
        self.held.shrink(self.held.bytes());
    }
}
