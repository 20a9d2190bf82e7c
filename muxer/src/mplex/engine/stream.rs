//! One stream: what it received and has to send, and how far each half has come.

use std::collections::VecDeque;

use peerage_core::budget::Reserved;

use crate::{ErrorCode, StreamError, mplex::SEND_MESSAGE};

/// Bytes that a stream can always have unread, and unsent, without asking the budget.
pub(super) const BASE: usize = 4 * 1024;

pub(super) struct Stream {
    pub(super) received: VecDeque<u8>,
    pub(super) unsent: VecDeque<u8>,
    memory: Reserved,
    /// The peer knows of it (or opened it).
    pub(super) announced: bool,
    /// Handed over by `accept` or `open`.
    pub(super) taken: bool,
    /// Counted among the live ones.
    pub(super) counted: bool,
    /// In the queue for a frame.
    pub(super) queued: bool,
    /// This side closed its half; the frame that says so is sent after what is unsent.
    pub(super) finished: bool,
    pub(super) fin_sent: bool,
    pub(super) fin_received: bool,
    /// To be reset behind the frame that says that this half is over.
    pub(super) reset_after: bool,
    /// It was reset, by whom and why.
    pub(super) reset: Option<StreamError>,
    /// The handle is gone.
    pub(super) released: bool,
    pub(super) lingering: bool,
    /// Bytes thrown away since.
    pub(super) discarded: usize,
    pub(super) reader_waits: bool,
    pub(super) writer_waits: bool,
}

impl Stream {
    /// `memory` is nothing yet.
    pub(super) fn new(memory: Reserved, local: bool) -> Self {
        Self {
            received: VecDeque::new(),
            unsent: VecDeque::new(),
            memory,
            announced: !local,
            taken: local,
            counted: true,
            queued: false,
            finished: false,
            fin_sent: false,
            fin_received: false,
            reset_after: false,
            reset: None,
            released: false,
            lingering: false,
            discarded: 0,
            reader_waits: false,
            writer_waits: false,
        }
    }

    /// Whether data of the peer is still to be expected.
    pub(super) fn receives(&self) -> bool {
        !self.fin_received && self.reset.is_none()
    }

    pub(super) fn has_output(&self) -> bool {
        self.reset.is_none()
            && (!self.announced || !self.unsent.is_empty() || self.finished && !self.fin_sent)
    }

    /// Keeps as much of what came as there is memory for, and says how much.
    pub(super) fn keep(&mut self, bytes: &[u8], limit: usize) -> usize {
        let used = self.received.len();
        let mut capacity = grown(&self.received, bytes.len(), limit);
        if self.memory.resize(cost(capacity, self.unsent.capacity())).is_err() {
            capacity = self.received.capacity().max(BASE);
        }
        let room = capacity.saturating_sub(used);
        self.received.reserve_exact(room);
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.received.extend(kept);
        kept.len()
    }

    /// Takes as much of `bytes` as there is room and memory for.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let room = SEND_MESSAGE.saturating_sub(self.unsent.len());
        let mut take = bytes.len().min(room);
        let capacity = grown(&self.unsent, take, SEND_MESSAGE);
        if self.memory.resize(cost(self.received.capacity(), capacity)).is_ok() {
            self.unsent.reserve_exact(capacity.saturating_sub(self.unsent.len()));
        } else {
            take = take.min(BASE.saturating_sub(self.unsent.len()));
        }
        self.unsent.extend(bytes.get(..take).unwrap_or_default());
        take
    }

    /// Gives memory back that is not needed.
    pub(super) fn shrink(&mut self) {
        if self.received.is_empty() && self.received.capacity() > 0 {
            self.received = VecDeque::new();
        }
        if self.unsent.is_empty() && self.unsent.capacity() > BASE {
            self.unsent = VecDeque::new();
        }
        // It never grows here.
        let _ = self.memory.resize(cost(self.received.capacity(), self.unsent.capacity()));
    }

    /// It is over in both directions. What was received before stays only if the peer ended it.
    pub(super) fn end(&mut self, reason: StreamError) {
        if matches!(reason, StreamError::ResetLocally(_)) {
            self.received = VecDeque::new();
        }
        self.reset.get_or_insert(reason);
        self.unsent = VecDeque::new();
        self.shrink();
    }

    pub(super) fn end_by_peer(&mut self) {
        self.end(StreamError::ResetByPeer(ErrorCode::NONE));
    }
}

fn cost(received: usize, unsent: usize) -> usize {
    received.saturating_sub(BASE).saturating_add(unsent.saturating_sub(BASE))
}

/// The capacity for `more` bytes: doubling, so that bytes are rarely moved, up to the limit.
fn grown(buffer: &VecDeque<u8>, more: usize, limit: usize) -> usize {
    let needed = buffer.len().saturating_add(more);
    if needed <= buffer.capacity() {
        return buffer.capacity();
    }
    needed.checked_next_power_of_two().unwrap_or(needed).max(BASE).min(limit).max(needed)
}
