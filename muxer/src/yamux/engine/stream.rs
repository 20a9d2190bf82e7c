//! One stream: what is known of its two halves.

use std::collections::VecDeque;

use peerage_core::budget::{Budget, Reserved};

use super::{
    super::{INITIAL_WINDOW, SEND_BUFFER},
    receive::{GUARANTEED, Receive},
};
use crate::ErrorCode;

/// Memory for unsent bytes is taken from the budget in steps, not for every write.
const STEP: usize = 16 * 1024;

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
    pub(super) buffer: VecDeque<u8>,
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
            send: Send { buffer: VecDeque::new(), window: INITIAL_WINDOW, held: budget.nothing() },
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
        let mut taken = data.len().min(SEND_BUFFER.saturating_sub(used));
        let beyond = used.saturating_add(taken).saturating_sub(GUARANTEED);
        if beyond > self.held.bytes() && self.held.resize(beyond.div_ceil(STEP).saturating_mul(STEP)).is_err()
        {
            let most = self.held.bytes().saturating_add(GUARANTEED).saturating_sub(used);
            taken = taken.min(most);
        }
        self.buffer.extend(data.get(..taken).unwrap_or_default());
        taken
    }

    /// The next `bytes` go into a frame.
    pub(super) fn pop(&mut self, bytes: usize, out: &mut Vec<u8>) {
        let (first, second) = self.buffer.as_slices();
        let of_first = first.get(..bytes).unwrap_or(first);
        out.extend_from_slice(of_first);
        let rest = bytes.saturating_sub(of_first.len());
        out.extend_from_slice(second.get(..rest).unwrap_or(second));
        self.buffer.drain(..bytes.min(self.buffer.len()));
        if self.buffer.is_empty() {
            self.held.shrink(self.held.bytes());
            if self.buffer.capacity() > GUARANTEED {
                self.buffer = VecDeque::new();
            }
        }
    }

    /// The peer's window keeps back what was written.
    pub(super) fn is_blocked(&self) -> bool {
        self.window == 0 && !self.buffer.is_empty()
    }

    pub(super) fn discard(&mut self) {
        self.buffer = VecDeque::new();
        self.held.shrink(self.held.bytes());
    }
}
