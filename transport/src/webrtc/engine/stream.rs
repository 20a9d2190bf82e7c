//! One stream: what is known of its two halves.

use std::{collections::VecDeque, time::Instant};

use bytes::BufMut;
use peerage_core::budget::{Budget, Exhausted, Reserved};
use peerage_muxer::{ErrorCode, StreamError};

use super::SEND_BUFFER;
use crate::webrtc::{message::Decoder, session::ChannelId};

/// Bytes of a buffer for which the budget is not asked: a small request costs no look at the ledger, and is not lost
/// when the ledger is empty.
pub(super) const GUARANTEED: usize = 4 * 1024;

/// Memory is taken from the budget in steps.
const STEP: usize = 16 * 1024;

pub(super) struct Stream {
    pub(super) channel: ChannelId,
    /// Opened by this side.
    pub(super) local: bool,
    /// One that the peer opened was handed over by `accept`.
    pub(super) accepted: bool,
    /// To be made known to the peer, which a channel does.
    pub(super) announce: bool,
    /// There is a channel, or was one.
    pub(super) has_channel: bool,
    /// By the peer.
    pub(super) channel_closed: bool,

    pub(super) decoder: Decoder,
    pub(super) receive: Buffer,
    pub(super) fin_received: bool,
    /// To be acknowledged.
    pub(super) fin_ack: bool,
    /// To be told that nothing is read any more.
    pub(super) stop: Option<ErrorCode>,
    /// Why reading is over, other than by the peer's end.
    pub(super) read_error: Option<StreamError>,

    pub(super) send: Buffer,
    /// To be ended after what was written.
    pub(super) finishing: bool,
    pub(super) fin_sent: bool,
    pub(super) fin_acknowledged: bool,
    /// To be reset after what was written.
    pub(super) reset: Option<ErrorCode>,
    /// Why writing is over, other than by its end.
    pub(super) write_error: Option<StreamError>,

    /// The handle is gone.
    pub(super) released: bool,
    /// Received after that.
    pub(super) discarded: usize,
    /// By when it is over without a handle.
    pub(super) deadline: Option<Instant>,
    /// Something was sent since the deadline was set.
    pub(super) moved: bool,
    /// It has waited long enough.
    pub(super) overdue: bool,
    /// The channel is to be closed, after everything else.
    pub(super) close: bool,
    /// It counts against the limit of live streams.
    pub(super) counted: bool,
    /// It stands in the queue of those that have something to send.
    pub(super) queued: bool,
    pub(super) reader_waits: bool,
    pub(super) writer_waits: bool,
}

impl Stream {
    pub(super) fn new(channel: ChannelId, local: bool, budget: &Budget) -> Self {
        Self {
            channel,
            local,
            accepted: local,
            announce: false,
            has_channel: !local,
            channel_closed: false,
            decoder: Decoder::default(),
            receive: Buffer::new(budget),
            fin_received: false,
            fin_ack: false,
            stop: None,
            read_error: None,
            send: Buffer::new(budget),
            finishing: false,
            fin_sent: false,
            fin_acknowledged: false,
            reset: None,
            write_error: None,
            released: false,
            discarded: 0,
            deadline: None,
            moved: false,
            overdue: false,
            close: false,
            counted: true,
            queued: false,
            reader_waits: false,
            writer_waits: false,
        }
    }

    /// Nothing will come that anybody waits for.
    pub(super) fn reading_is_over(&self) -> bool {
        self.fin_received || self.read_error.is_some()
    }

    /// Nothing will be sent but what the peer is told about the end.
    pub(super) fn writing_is_over(&self) -> bool {
        self.fin_acknowledged || self.write_error.is_some()
    }

    pub(super) fn has_output(&self) -> bool {
        if self.channel_closed {
            return false;
        }
        if !self.has_channel {
            return self.announce || !self.send.is_empty() || self.finishing && !self.fin_sent;
        }
        self.fin_ack
            || self.stop.is_some()
            || self.reset.is_some()
            || !self.send.is_empty()
            || self.finishing && !self.fin_sent && self.write_error.is_none()
            || self.close
    }
}

/// Bytes in one direction, with the memory that was taken for them.
pub(super) struct Buffer {
    bytes: VecDeque<u8>,
    held: Reserved,
}

impl Buffer {
    fn new(budget: &Budget) -> Self {
        Self { bytes: VecDeque::new(), held: budget.nothing() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Makes sure that there is memory for `more` bytes, and for `beside` that others keep.
    pub(super) fn reserve(&mut self, more: usize, beside: usize) -> Result<(), Exhausted> {
        let beyond = self.len().saturating_add(more).saturating_add(beside).saturating_sub(GUARANTEED);
        if beyond > self.held.bytes() {
            self.held.resize(beyond.div_ceil(STEP).saturating_mul(STEP))?;
        }
        Ok(())
    }

    pub(super) fn push(&mut self, data: &[u8]) -> Result<(), Exhausted> {
        self.reserve(data.len(), 0)?;
        self.bytes.extend(data);
        Ok(())
    }

    /// Takes as much as a writer may have waiting.
    pub(super) fn fill(&mut self, data: &[u8]) -> usize {
        let mut taken = data.len().min(SEND_BUFFER.saturating_sub(self.len()));
        if self.reserve(taken, 0).is_err() {
            let most = self.held.bytes().saturating_add(GUARANTEED).saturating_sub(self.len());
            taken = taken.min(most);
        }
        self.bytes.extend(data.get(..taken).unwrap_or_default());
        taken
    }

    /// Moves bytes out, as many as there are and as there is room for.
    pub(super) fn take(&mut self, into: &mut impl BufMut) -> usize {
        let mut moved = 0_usize;
        while into.has_remaining_mut() {
            let (first, _) = self.bytes.as_slices();
            let part = first.get(..into.remaining_mut()).unwrap_or(first);
            if part.is_empty() {
                break;
            }
            into.put_slice(part);
            let n = part.len();
            self.bytes.drain(..n);
            moved = moved.saturating_add(n);
        }
        if self.is_empty() {
            self.discard();
        }
        moved
    }

    pub(super) fn discard(&mut self) {
        if self.bytes.capacity() > GUARANTEED {
            self.bytes = VecDeque::new();
        } else {
            self.bytes.clear();
        }
        self.held.shrink(self.held.bytes());
    }
}
