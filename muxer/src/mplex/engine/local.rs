//! What the handles ask for. `Ok(None)` says that the caller has to wait for an event.

use tokio::io::ReadBuf;

use super::{Engine, MAX_READY_SLACK, MAX_RESETS, stream::Stream};
use crate::{
    ConnectionError, ErrorCode, StreamError,
    mplex::frame::{Key, MAX_ID},
};

impl Engine {
    pub(in crate::mplex) fn open(&mut self) -> Result<Option<Key>, ConnectionError> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        if self.next_id > MAX_ID {
            return Err(ConnectionError::Exhausted);
        }
        if !self.may_open() {
            return Ok(None);
        }
        let key = Key { id: self.next_id, local: true };
        self.next_id = self.next_id.saturating_add(1);
        self.outbound = self.outbound.saturating_add(1);
        self.streams.insert(key, Stream::new(self.budget.nothing(), true));
        self.schedule(key);
        Ok(Some(key))
    }

    pub(super) fn may_open(&self) -> bool {
        self.outbound < self.config.max_outbound_streams
            && self.resets.len() < MAX_RESETS
            && self.ready.len() < self.streams.len().saturating_add(MAX_READY_SLACK)
    }

    pub(in crate::mplex) fn accept(&mut self) -> Result<Option<Key>, ConnectionError> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let key = self.backlog.pop_front();
        if let Some(stream) = key.and_then(|key| self.streams.get_mut(&key)) {
            stream.taken = true;
        }
        Ok(key)
    }

    /// `Some(0)` is the end of file.
    pub(in crate::mplex) fn read(
        &mut self,
        key: Key,
        buf: &mut ReadBuf<'_>,
    ) -> Result<Option<usize>, StreamError> {
        let end = self.end.clone();
        let Some(stream) = self.streams.get_mut(&key) else {
            return Err(end.unwrap_or(ConnectionError::DriverGone).into());
        };
        if stream.received.is_empty() {
            // A reset after the peer had closed its half is about the other half.
            return match (&stream.reset, end) {
                (Some(StreamError::ResetByPeer(_)) | None, _) if stream.fin_received => Ok(Some(0)),
                (Some(error), _) => Err(error.clone()),
                (None, Some(end)) => Err(end.into()),
                (None, None) => {
                    stream.reader_waits = true;
                    Ok(None)
                }
            };
        }
        let (front, back) = stream.received.as_slices();
        let mut n: usize = 0;
        for part in [front, back] {
            let part = part.get(..buf.remaining()).unwrap_or(part);
            buf.put_slice(part);
            n = n.saturating_add(part.len());
        }
        stream.received.drain(..n);
        stream.shrink();
        self.unread = self.unread.saturating_sub(n);
        self.look_for_room();
        Ok(Some(n))
    }

    pub(in crate::mplex) fn write(&mut self, key: Key, bytes: &[u8]) -> Result<Option<usize>, StreamError> {
        self.writable(key)?;
        if bytes.is_empty() {
            return Ok(Some(0));
        }
        let Some(stream) = self.streams.get_mut(&key) else {
            return Err(ConnectionError::DriverGone.into());
        };
        let taken = stream.write(bytes);
        if taken == 0 {
            stream.writer_waits = true;
            return Ok(None);
        }
        self.schedule(key);
        Ok(Some(taken))
    }

    /// Whether writing is over.
    pub(in crate::mplex) fn writable(&self, key: Key) -> Result<(), StreamError> {
        let stream = self.streams.get(&key);
        if let Some(reset) = stream.and_then(|stream| stream.reset.clone()) {
            return Err(reset);
        }
        if let Some(end) = &self.end {
            return Err(end.clone().into());
        }
        match stream {
            Some(stream) if stream.finished => Err(StreamError::WriteClosed),
            Some(_) => Ok(()),
            None => Err(ConnectionError::DriverGone.into()),
        }
    }

    /// Closes the writing half after what was written.
    pub(in crate::mplex) fn finish(&mut self, key: Key) -> Result<(), StreamError> {
        match self.writable(key) {
            Ok(()) => {}
            Err(StreamError::WriteClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.finished = true;
        }
        self.schedule(key);
        Ok(())
    }

    /// The handle is gone: given up with a code, or (`None`) in order.
    pub(in crate::mplex) fn release(&mut self, key: Key, code: Option<ErrorCode>) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        if stream.released {
            return;
        }
        stream.released = true;
        let unread = stream.received.len();
        stream.received.clear();
        stream.shrink();
        self.unread = self.unread.saturating_sub(unread);
        if self.end.is_some() && !self.closing {
            self.forget(key);
            return;
        }
        match code {
            // mplex has no code on the wire. A stream that both sides have closed needs no reset.
            Some(code) if stream.reset.is_none() && !(stream.fin_sent && stream.fin_received) => {
                if stream.finished && !stream.fin_sent {
                    // The end that was promised, and what was written before it, are not undone.
                    stream.reset_after = true;
                } else {
                    self.give_up(key, code);
                }
            }
            _ => self.settle(key),
        }
        self.look_for_room();
    }
}
