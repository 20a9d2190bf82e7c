//! What handles ask for.

use bytes::BufMut;
use peerage_muxer::{ConnectionError, ErrorCode, StreamError};

use super::{Engine, HANDSHAKE_KEY, Key, MAX_STREAMS, Phase, RECEIVE_BUFFER};
use crate::webrtc::session::Side;

impl Engine {
    /// The number of a new stream. `None` means to wait for [`Event::Openable`](super::Event::Openable).
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection has ended.
    pub(crate) fn open(&mut self) -> Result<Option<Key>, ConnectionError> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        if !self.may_open() {
            return Ok(None);
        }
        let Some(channel) = self.ids.take() else {
            return Ok(None);
        };
        self.outbound = self.outbound.saturating_add(1);
        Ok(Some(self.add(channel, true)))
    }

    pub(crate) fn may_open(&self) -> bool {
        self.outbound < MAX_STREAMS
    }

    /// The next stream of the peer, or `None`: wait for [`Event::Acceptable`](super::Event::Acceptable).
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection has ended.
    pub(crate) fn accept(&mut self) -> Result<Option<Key>, ConnectionError> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let id = self.backlog.pop_front();
        if let Some(stream) = id.and_then(|id| self.streams.get_mut(&id)) {
            stream.accepted = true;
        }
        Ok(id)
    }

    pub(crate) fn may_accept(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Moves received bytes to `into`, which has room. `Ok(None)` means to wait, zero is the end.
    ///
    /// # Errors
    /// [`StreamError`], after what was received before it.
    pub(crate) fn read(&mut self, id: Key, into: &mut impl BufMut) -> Result<Option<usize>, StreamError> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(self.gone());
        };
        let n = stream.receive.take(into);
        if n > 0 {
            if self.blocked.contains(&stream.channel) {
                self.shut = None;
                // The driver looks again what has room.
                self.stirred |= stream.receive.len() <= RECEIVE_BUFFER / 2;
            }
            return Ok(Some(n));
        }
        if stream.fin_received {
            return Ok(Some(0));
        }
        if let Some(error) = &stream.read_error {
            return Err(error.clone());
        }
        if let Some(end) = &self.end {
            return Err(end.clone().into());
        }
        stream.reader_waits = true;
        // The peer has to know of a stream from which something is expected.
        stream.announce = !stream.has_channel;
        self.schedule(id);
        Ok(None)
    }

    /// Takes as much of `data` as there is room for. `None` means to wait.
    ///
    /// # Errors
    /// [`StreamError`].
    pub(crate) fn write(&mut self, id: Key, data: &[u8]) -> Result<Option<usize>, StreamError> {
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
        let n = stream.send.fill(data);
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
    pub(crate) fn writable(&self, id: Key) -> Result<(), StreamError> {
        let Some(stream) = self.streams.get(&id) else {
            return Err(self.gone());
        };
        match (&stream.write_error, &self.end) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(end)) => Err(end.clone().into()),
            (None, None) => Ok(()),
        }
    }

    /// Ends the writing half after what was written.
    ///
    /// # Errors
    /// [`StreamError`].
    pub(crate) fn finish(&mut self, id: Key) -> Result<(), StreamError> {
        // That the peer wants nothing more is no reason not to end: go-libp2p says so of every stream that it closes.
        if self.streams.get(&id).is_some_and(|stream| {
            let stopped = matches!(stream.write_error, Some(StreamError::ResetByPeer(ErrorCode::NONE)));
            stopped && stream.read_error.is_none()
        }) {
            return Ok(());
        }
        self.writable(id)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.finishing = true;
            self.schedule(id);
        }
        Ok(())
    }

    /// The handle is gone: the stream is given up with a code, or (`None`) nothing more will be read of it.
    pub(crate) fn release(&mut self, id: Key, code: Option<ErrorCode>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.released = true;
        stream.discarded = stream.receive.len();
        (stream.reader_waits, stream.writer_waits) = (false, false);
        stream.receive.discard();
        match self.phase {
            Phase::Ended => return self.forget(id),
            // What was written before is still sent.
            Phase::Closing => return,
            Phase::Open => {}
        }
        self.stirred |= self.blocked.contains(&stream.channel);
        if id == HANDSHAKE_KEY {
            return self.release_handshake();
        }
        // An unfinished half that is dropped is a reset, however it was dropped.
        if let Some(code) = code.or(if stream.finishing { None } else { Some(ErrorCode::NONE) }) {
            // Of a stream that was given up before it was made known the peer need not hear.
            if stream.local && !stream.has_channel && !stream.has_output() {
                let channel = stream.channel;
                self.forget(id);
                return self.handle_free(channel);
            }
            if !stream.reading_is_over() {
                stream.read_error = Some(StreamError::ResetLocally(code));
                stream.stop = Some(code);
            }
            if !stream.writing_is_over() {
                stream.write_error = Some(StreamError::ResetLocally(code));
                stream.reset = Some(code);
            }
        }
        self.settle(id);
        if self.streams.contains_key(&id) {
            self.wait(id);
        }
    }

    /// Its messages were acknowledged by being answered. The dialer, which hears the last of them, closes the channel.
    fn release_handshake(&mut self) {
        if let Some(stream) = self.streams.get_mut(&HANDSHAKE_KEY)
            && self.side == Side::Dialer
        {
            stream.close = true;
        }
        self.schedule(HANDSHAKE_KEY);
    }

    /// Why a stream is not there any more.
    fn gone(&self) -> StreamError {
        self.end.clone().unwrap_or(ConnectionError::DriverGone).into()
    }
}
