//! What channels bring.

use peerage_muxer::{ConnectionError, ErrorCode, StreamError};

use super::{
    ACCEPT_BACKLOG, Engine, Event, HANDSHAKE, HANDSHAKE_KEY, Key, LINGER_BYTES, MAX_REFUSALS, MAX_REFUSED,
    MAX_STREAMS, Phase, RECEIVE_BUFFER, REFUSAL_PERIOD,
};
use crate::webrtc::{
    message::{Flag, MAX_MESSAGE, Message},
    session::ChannelId,
};

impl Engine {
    /// Whether new channels can be taken note of.
    pub(crate) fn wants_channels(&self) -> bool {
        self.refusals.len() < MAX_REFUSALS
    }

    /// The peer opened a channel.
    ///
    /// # Errors
    /// [`ConnectionError::Protocol`]: it opened far too many.
    pub(crate) fn handle_opened(&mut self, id: ChannelId) -> Result<(), ConnectionError> {
        if self.ids.is_own(id) || id == HANDSHAKE {
            return Err(ConnectionError::Protocol(format!("channel {id} is this side's to open")));
        }
        let room = self.inbound < MAX_STREAMS && self.backlog.len() < ACCEPT_BACKLOG;
        if self.phase != Phase::Open || !room || self.channels.contains_key(&id) {
            return self.refuse(id);
        }
        let key = self.add(id, false);
        self.inbound = self.inbound.saturating_add(1);
        self.backlog.push_back(key);
        self.events.push_back(Event::Acceptable);
        Ok(())
    }

    fn refuse(&mut self, id: ChannelId) -> Result<(), ConnectionError> {
        let now = self.now;
        while self.refused.front().is_some_and(|at| now.saturating_duration_since(*at) >= REFUSAL_PERIOD) {
            self.refused.pop_front();
        }
        if self.refused.len() >= MAX_REFUSED {
            return Err(ConnectionError::Protocol("too many streams over the limit".to_owned()));
        }
        self.refused.push_back(now);
        self.refusals.push_back(id);
        Ok(())
    }

    /// Whether the next message of a channel has a place. If not, it stays where it is until
    /// [`Engine::poll_unblocked`] names the channel.
    pub(crate) fn make_room(&mut self, channel: ChannelId) -> bool {
        let Some(stream) = self.channels.get(&channel).and_then(|id| self.streams.get_mut(id)) else {
            return true;
        };
        let unread = stream.receive.len();
        let room = stream.released
            || stream.read_error.is_some()
            || unread == 0
            || unread < RECEIVE_BUFFER && stream.receive.reserve(MAX_MESSAGE, stream.decoder.held()).is_ok();
        if room {
            self.blocked.remove(&channel);
        } else {
            self.blocked.insert(channel);
        }
        room
    }

    /// A channel whose messages had no place and may have one now. It is named once.
    pub(crate) fn poll_unblocked(&mut self) -> Option<ChannelId> {
        let has_room = |channel: &ChannelId| {
            let stream = self.channels.get(channel).and_then(|id| self.streams.get(id));
            stream.is_none_or(|stream| {
                // Half of it at once, not each byte that is read.
                stream.released || stream.read_error.is_some() || stream.receive.len() <= RECEIVE_BUFFER / 2
            })
        };
        let channel = self.blocked.iter().copied().find(has_room)?;
        self.blocked.remove(&channel);
        Some(channel)
    }

    /// A message came on a channel.
    pub(crate) fn handle_message(&mut self, channel: ChannelId, message: &[u8]) {
        let Some(id) = self.channels.get(&channel).copied() else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let mut decoder = std::mem::take(&mut stream.decoder);
        let result = decoder.feed(message, |message| self.handle_one(id, message));
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.decoder = decoder;
        }
        if result.is_err() {
            // Nothing after it can be understood.
            self.give_up(id, ErrorCode::PROTOCOL_VIOLATION);
        }
    }

    fn handle_one(&mut self, id: Key, message: Message<'_>) {
        self.handle_data(id, message.data);
        let code = ErrorCode(message.code);
        match message.flag {
            Some(Flag::Fin) => self.handle_fin(id),
            Some(Flag::FinAck) => self.handle_fin_ack(id),
            Some(Flag::StopSending) => self.handle_stop_sending(id, code),
            Some(Flag::Reset) => self.handle_reset(id, code),
            None => {}
        }
    }

    fn handle_data(&mut self, id: Key, data: &[u8]) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if data.is_empty() || stream.reading_is_over() {
            return;
        }
        if stream.released {
            stream.discarded = stream.discarded.saturating_add(data.len());
            if stream.discarded > LINGER_BYTES && id != HANDSHAKE_KEY {
                stream.read_error = Some(StreamError::ResetLocally(ErrorCode::NONE));
                stream.stop = Some(ErrorCode::NONE);
                self.settle(id);
            }
            return;
        }
        match stream.receive.push(data) {
            Ok(()) => self.notify_reader(id),
            Err(_) => self.give_up(id, ErrorCode::RESOURCE_LIMIT_EXCEEDED),
        }
    }

    fn handle_fin(&mut self, id: Key) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut stream.fin_received, true)
        {
            // That it arrived is acknowledged, whether it was read or not: SCTP has lost nothing.
            stream.fin_ack = true;
            self.notify_reader(id);
            self.schedule(id);
            self.settle(id);
        }
    }

    fn handle_fin_ack(&mut self, id: Key) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.fin_sent
        {
            stream.fin_acknowledged = true;
            self.settle(id);
        }
    }

    /// A peer that reads no more need not acknowledge an end, either.
    fn handle_stop_sending(&mut self, id: Key, code: ErrorCode) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !stream.writing_is_over() {
            stream.write_error = Some(StreamError::ResetByPeer(code));
            stream.reset = None;
            stream.send.discard();
            self.notify_writer(id);
            self.settle(id);
        }
    }

    fn handle_reset(&mut self, id: Key, code: ErrorCode) {
        self.end_by_peer(id, code);
        self.settle(id);
    }

    fn end_by_peer(&mut self, id: Key, code: ErrorCode) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.stop = None;
        stream.reset = None;
        if !stream.reading_is_over() {
            stream.read_error = Some(StreamError::ResetByPeer(code));
        }
        if !stream.writing_is_over() {
            stream.write_error = Some(StreamError::ResetByPeer(code));
        }
        stream.send.discard();
        self.notify_reader(id);
        self.notify_writer(id);
    }

    /// The peer closed a channel. Without an end before it, that is a reset: implementations that throw away what they
    /// had not sent say nothing else.
    pub(crate) fn handle_closed(&mut self, channel: ChannelId) {
        self.blocked.remove(&channel);
        self.refused_channels.retain(|(_, refused)| *refused != channel);
        self.unclosed.retain(|refused| *refused != channel);
        let Some(id) = self.channels.remove(&channel) else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.channel_closed = true;
            // Whether it heard of the end cannot be known; it has read what it wanted.
            stream.fin_acknowledged = stream.fin_sent;
        }
        self.end_by_peer(id, ErrorCode::NONE);
        self.settle(id);
    }

    /// The number of a channel can be used again.
    pub(crate) fn handle_free(&mut self, channel: ChannelId) {
        if self.ids.is_own(channel) && !self.channels.contains_key(&channel) {
            self.ids.give_back(channel);
            self.events.push_back(Event::Openable);
        }
    }
}
