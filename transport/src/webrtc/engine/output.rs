//! What goes to the channels.

use peerage_muxer::ErrorCode;

use super::{Action, Engine, FIN_ACK_TIMEOUT, HANDSHAKE, Key, Stream};
use crate::webrtc::message::{Flag, MAX_DATA, Message};

/// What a stream has to do next.
enum Next {
    Action(Action),
    /// There is data, and no room for it.
    Wait,
    Nothing,
}

impl Engine {
    /// The next thing to do. Data is sent only if SCTP has `room` for a whole message; what is said about streams beside
    /// data is little, and goes out without.
    pub(crate) fn poll_action(&mut self, room: bool) -> Option<Action> {
        if let Some(channel) = self.refusals.pop_front() {
            let by = self.now.checked_add(FIN_ACK_TIMEOUT).unwrap_or(self.now);
            self.refused_channels.push_back((by, channel));
            let refusal = Message::flag(Flag::Reset, ErrorCode::RESOURCE_LIMIT_EXCEEDED.0);
            return Some(Action::Send(channel, refusal.encode()));
        }
        if let Some(channel) = self.unclosed.pop_front() {
            return Some(Action::Close(channel));
        }
        for _ in 0..self.ready.len() {
            let id = self.ready.pop_front()?;
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.queued = false;
            match next(stream, room) {
                Next::Action(action) => {
                    self.sent(id, &action);
                    return Some(action);
                }
                Next::Wait => {
                    stream.queued = true;
                    self.ready.push_back(id);
                }
                Next::Nothing => {}
            }
        }
        None
    }

    fn sent(&mut self, id: Key, action: &Action) {
        match action {
            Action::Close(_) => return self.forget(id),
            Action::Send(..) => {
                self.notify_writer(id);
                let stream = self.streams.get_mut(&id).filter(|stream| stream.released);
                if let Some(stream) = stream {
                    stream.moved = true;
                    if stream.fin_sent && !stream.fin_acknowledged {
                        self.wait(id);
                    }
                }
                self.settle(id);
            }
            Action::Open(_) | Action::OpenNegotiated(_) => {}
        }
        self.schedule(id);
    }
}

fn next(stream: &mut Stream, room: bool) -> Next {
    let id = stream.channel;
    let flag = |flag, code: ErrorCode| Next::Action(Action::Send(id, Message::flag(flag, code.0).encode()));
    if !stream.has_output() {
        return Next::Nothing;
    }
    if !stream.has_channel {
        stream.has_channel = true;
        stream.announce = false;
        let open = if id == HANDSHAKE { Action::OpenNegotiated(id) } else { Action::Open(id) };
        return Next::Action(open);
    }
    if std::mem::take(&mut stream.fin_ack) {
        return flag(Flag::FinAck, ErrorCode::NONE);
    }
    if let Some(code) = stream.stop.take() {
        return flag(Flag::StopSending, code);
    }
    if !stream.send.is_empty() {
        if !room {
            return Next::Wait;
        }
        let mut data = Vec::with_capacity(stream.send.len().min(MAX_DATA));
        stream.send.take(&mut bytes::BufMut::limit(&mut data, MAX_DATA));
        return Next::Action(Action::Send(id, Message::data(&data).encode()));
    }
    if let Some(code) = stream.reset.take() {
        return flag(Flag::Reset, code);
    }
    if stream.finishing && !stream.fin_sent && stream.write_error.is_none() {
        stream.fin_sent = true;
        return flag(Flag::Fin, ErrorCode::NONE);
    }
    if stream.close {
        return Next::Action(Action::Close(id));
    }
    Next::Nothing
}
