//! What handles ask for.

use bytes::BufMut;

use super::{Engine, MAX_READY_SLACK, MAX_RESETS, MAX_UNACKNOWLEDGED, Phase, stream::Stream};
use crate::{ConnectionError, ErrorCode, StreamError};

impl Engine {
    /// The id of a new stream. `None` means to wait for [`Event::Openable`](super::Event::Openable).
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection has ended, or ids have.
    pub(in super::super) fn open(&mut self) -> Result<Option<u32>, ConnectionError> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let Some(id) = self.next_id else {
            return Err(ConnectionError::Exhausted);
        };
        if !self.may_open() {
            return Ok(None);
        }
        self.next_id = id.checked_add(2);
        self.streams.insert(id, Stream::new(true, &self.budget));
        self.outbound = self.outbound.saturating_add(1);
        self.unacknowledged = self.unacknowledged.saturating_add(1);
        Ok(Some(id))
    }

    pub(in super::super) fn may_open(&self) -> bool {
        self.outbound < self.config.max_outbound_streams
            && self.unacknowledged < MAX_UNACKNOWLEDGED
            && self.resets.len() < MAX_RESETS
            && self.ready.len() < self.streams.len().saturating_add(MAX_READY_SLACK)
    }

    /// The next stream of the peer, or `None`: wait for [`Event::Acceptable`](super::Event::Acceptable).
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection has ended.
    pub(in super::super) fn accept(&mut self) -> Result<Option<u32>, ConnectionError> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let id = self.backlog.pop_front();
        if let Some(stream) = id.and_then(|id| self.streams.get_mut(&id)) {
            stream.accepted = true;
        }
        Ok(id)
    }

    pub(in super::super) fn may_accept(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Moves received bytes to `into`, which has room. `Ok(None)` means to wait, zero is the end.
    ///
    /// # Errors
    /// [`StreamError`], after what was received before it.
    pub(in super::super) fn read(
        &mut self,
        id: u32,
        into: &mut impl BufMut,
    ) -> Result<Option<usize>, StreamError> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(self.gone());
        };
        let n = stream.receive.read(into);
        if n > 0 {
            if stream.credit_due().is_some() {
                self.schedule(id);
            }
            return Ok(Some(n));
        }
        if stream.fin_received && stream.reset_locally.is_none() {
            return Ok(Some(0));
        }
        self.failure(id)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.reader_waits = true;
            // The peer has to know of a stream from which something is expected.
            stream.announce = stream.local;
            self.schedule(id);
        }
        Ok(None)
    }

    /// Takes as much of `data` as there is room for. `None` means to wait.
    ///
    /// # Errors
    /// [`StreamError`].
    pub(in super::super) fn write(&mut self, id: u32, data: &[u8]) -> Result<Option<usize>, StreamError> {
        self.writable(id)?;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(self.gone());
        };
        if stream.finishing {
            return Err(StreamError::WriteClosed);
        }
        if data.is_empty() {
            return Ok(Some(0));
        }
        let n = stream.send.push(data);
        if n == 0 {
            stream.writer_waits = true;
            return Ok(None);
        }
        self.schedule(id);
        Ok(Some(n))
    }

    /// Whether writing is over by an error.
    ///
    /// # Errors
    /// [`StreamError`].
    pub(in super::super) fn writable(&self, id: u32) -> Result<(), StreamError> {
        self.failure(id)
    }

    /// Ends the writing half after what was written.
    ///
    /// # Errors
    /// [`StreamError`].
    pub(in super::super) fn finish(&mut self, id: u32) -> Result<(), StreamError> {
        self.writable(id)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.finishing = true;
            self.schedule(id);
        }
        Ok(())
    }

    /// The handle is gone: the stream is given up with a code, or (`None`) nothing more will be read of it.
    pub(in super::super) fn release(&mut self, id: u32, code: Option<ErrorCode>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.released = true;
        stream.discarded = u32::try_from(stream.receive.unread()).unwrap_or(u32::MAX);
        (stream.reader_waits, stream.writer_waits) = (false, false);
        self.growth = self.growth.saturating_sub(stream.receive.discard());
        match self.phase {
            Phase::Ended | Phase::Closed => {
                self.streams.remove(&id);
                return;
            }
            // What was written before is still sent; the goodbye behind it says that it may not be whole.
            Phase::Closing(_) => return,
            Phase::Open => {}
        }
        if stream.is_reset() {
            self.forget(id);
            return;
        }
        // An unfinished half that is dropped is a reset, however it was dropped.
        let over = stream.fin_sent && stream.fin_received;
        match code.or(if stream.finishing { None } else { Some(ErrorCode::NONE) }) {
            Some(code) if !over => {
                // Of a stream that was given up before its first frame the peer need not hear.
                if stream.local && !stream.greeted && !stream.finishing {
                    self.forget(id);
                } else if stream.send.buffer.is_empty() && (stream.fin_sent || !stream.finishing) {
                    self.push_reset(id, code);
                    self.forget_recent(id);
                } else {
                    // Neither what was written nor the end that was promised is undone.
                    stream.reset_after = Some(code);
                    self.abandon();
                    self.schedule(id);
                }
            }
            _ => {
                if !stream.fin_sent {
                    self.abandon();
                }
                self.settle(id);
            }
        }
    }

    /// The next output sets the time for looking after what was dropped.
    fn abandon(&mut self) {
        (self.abandoned, self.stirred) = (true, true);
    }

    fn failure(&self, id: u32) -> Result<(), StreamError> {
        let Some(stream) = self.streams.get(&id) else {
            return Err(self.gone());
        };
        if let Some(code) = stream.reset_by_peer {
            return Err(StreamError::ResetByPeer(code));
        }
        if let Some(code) = stream.reset_locally {
            return Err(StreamError::ResetLocally(code));
        }
        match &self.end {
            Some(end) => Err(end.clone().into()),
            None => Ok(()),
        }
    }

    /// Without an entry there is no handle; what is said then is of the connection.
    fn gone(&self) -> StreamError {
        self.end.clone().unwrap_or(ConnectionError::DriverGone).into()
    }
}
