//! One engine, whose channels are played by hand.

use std::time::{Duration, Instant};

use peerage_core::budget::Budget;
use peerage_muxer::{ConnectionError, ErrorCode, StreamError};

use super::{
    ABANDONED_TIMEOUT, Action, Engine, Event, FIN_ACK_TIMEOUT, HANDSHAKE, HANDSHAKE_KEY, Key, LINGER_BYTES,
    MAX_REFUSED, MAX_STREAMS, RECEIVE_BUFFER, SEND_BUFFER, UNREAD_TIMEOUT,
};
use crate::webrtc::{
    message::{Decoder, Flag, MAX_DATA, Message},
    session::{ChannelId, Side},
};

#[allow(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}

/// What was sent on a channel, put together again.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    data: Vec<u8>,
    flags: Vec<(Flag, u32)>,
}

struct Script {
    engine: Engine,
    now: Instant,
}

impl Script {
    fn with(side: Side, budget: Budget) -> Self {
        let now = start();
        let mut engine = Engine::new(side, budget, now);
        assert_eq!(engine.poll_action(true), Some(Action::OpenNegotiated(HANDSHAKE)));
        Self { engine, now }
    }

    fn listener() -> Self {
        Self::with(Side::Listener, Budget::unlimited())
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.engine.handle_timeout(self.now);
    }

    /// The peer opens a channel, and its stream is accepted.
    fn accept(&mut self, channel: ChannelId) -> Key {
        self.engine.handle_opened(channel).unwrap();
        self.engine.accept().unwrap().unwrap()
    }

    /// A stream of this side, made known.
    fn open(&mut self) -> (Key, ChannelId) {
        let id = self.engine.open().unwrap().unwrap();
        assert_eq!(self.got(id), None);
        let Some(Action::Open(channel)) = self.engine.poll_action(true) else { panic!("not opened") };
        (id, channel)
    }

    fn data(&mut self, channel: ChannelId, data: &[u8]) {
        self.engine.handle_message(channel, &Message::data(data).encode());
    }

    fn flag(&mut self, channel: ChannelId, flag: Flag, code: u32) {
        self.engine.handle_message(channel, &Message::flag(flag, code).encode());
    }

    fn read(&mut self, id: Key) -> Option<Result<Vec<u8>, StreamError>> {
        let mut into = Vec::new();
        match self.engine.read(id, &mut bytes::BufMut::limit(&mut into, 1 << 20)) {
            Ok(Some(_)) => Some(Ok(into)),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// The same; an error is nothing.
    fn got(&mut self, id: Key) -> Option<Option<Vec<u8>>> {
        self.read(id).map(Result::ok)
    }

    /// What goes to one channel, until there is nothing more; and whether it was closed.
    fn sent(&mut self, channel: ChannelId) -> (Sent, bool) {
        let (mut sent, mut decoder) = (Sent::default(), Decoder::default());
        while let Some(action) = self.engine.poll_action(true) {
            match action {
                Action::Send(to, bytes) => {
                    assert_eq!(to, channel);
                    let each = |message: Message<'_>| {
                        sent.data.extend(message.data);
                        sent.flags.extend(message.flag.map(|flag| (flag, message.code)));
                    };
                    decoder.feed(&bytes, each).unwrap();
                }
                Action::Close(closed) => {
                    assert_eq!(closed, channel);
                    return (sent, true);
                }
                action => panic!("{action:?}"),
            }
        }
        (sent, false)
    }

    fn flags(&mut self, channel: ChannelId) -> Vec<(Flag, u32)> {
        self.sent(channel).0.flags
    }

    fn is_empty(&self) -> bool {
        // But for the handshake's.
        self.engine.streams.len() <= 1 && self.engine.deadlines.is_empty() && self.engine.channels.len() <= 1
    }
}

fn reset(result: Option<Result<Vec<u8>, StreamError>>) -> Option<ErrorCode> {
    match result {
        Some(Err(StreamError::ResetByPeer(code))) => Some(code),
        _ => None,
    }
}

#[test]
fn a_stream_ends_in_order_and_the_opener_closes_the_channel() {
    let mut script = Script::listener();
    let (id, channel) = script.open();
    assert_eq!(channel, 1);
    assert_eq!(script.engine.write(id, b"question").unwrap(), Some(8));
    script.engine.finish(id).unwrap();
    let expected = Sent { data: b"question".to_vec(), flags: vec![(Flag::Fin, 0)] };
    assert_eq!(script.sent(channel), (expected, false));
    script.flag(channel, Flag::FinAck, 0);
    script.data(channel, b"answer");
    script.flag(channel, Flag::Fin, 0);
    assert_eq!(script.flags(channel), [(Flag::FinAck, 0)]);
    assert_eq!(script.got(id), Some(Some(b"answer".to_vec())));
    assert_eq!(script.got(id), Some(Some(vec![])));
    script.engine.release(id, None);
    assert_eq!(script.sent(channel), (Sent::default(), true));
    assert!(script.is_empty());
    script.engine.handle_free(channel);
}

#[test]
fn the_other_side_closes_only_if_the_opener_takes_too_long() {
    let mut script = Script::listener();
    for patient in [true, false] {
        let id = script.accept(2);
        script.flag(2, Flag::Fin, 0);
        script.engine.finish(id).unwrap();
        script.flags(2);
        script.flag(2, Flag::FinAck, 0);
        script.engine.release(id, None);
        assert_eq!(script.sent(2), (Sent::default(), false));
        if patient {
            script.engine.handle_closed(2);
        } else {
            script.pass(FIN_ACK_TIMEOUT);
            assert_eq!(script.sent(2), (Sent::default(), true));
        }
        assert!(script.is_empty(), "{patient}");
    }
}

#[test]
fn an_end_that_nobody_acknowledges_is_waited_for_for_a_while() {
    let mut script = Script::listener();
    let (id, channel) = script.open();
    script.engine.finish(id).unwrap();
    script.engine.release(id, None);
    assert_eq!(script.sent(channel), (Sent { data: vec![], flags: vec![(Flag::Fin, 0)] }, false));
    script.pass(FIN_ACK_TIMEOUT - Duration::from_millis(1));
    assert_eq!(script.sent(channel), (Sent::default(), false));
    script.pass(Duration::from_millis(1));
    assert_eq!(script.sent(channel), (Sent { data: vec![], flags: vec![(Flag::StopSending, 0)] }, true));
    assert!(script.is_empty());
}

/// "it MUST continue to act on any flags present in received messages".
#[test]
fn flags_count_after_this_side_stopped_reading() {
    let mut script = Script::listener();
    let (id, channel) = script.open();
    script.engine.finish(id).unwrap();
    script.flags(channel);
    script.engine.release(id, Some(ErrorCode::RATE_LIMITED));
    // Its own half had ended: only the other is given up.
    assert_eq!(script.flags(channel), [(Flag::StopSending, 0x1002), (Flag::Reset, 0x1002)]);
    assert!(script.is_empty());

    let (id, channel) = script.open();
    script.engine.finish(id).unwrap();
    script.engine.release(id, None);
    script.flags(channel);
    script.data(channel, &vec![0; MAX_DATA]);
    for _ in 0..LINGER_BYTES / MAX_DATA {
        script.data(channel, &vec![0; MAX_DATA]);
    }
    assert_eq!(script.flags(channel), [(Flag::StopSending, 0)]);
    script.flag(channel, Flag::FinAck, 0);
    assert_eq!(script.sent(channel), (Sent::default(), true));
    assert!(script.is_empty());
}

#[test]
fn a_reset_ends_both_halves_and_keeps_what_came_before() {
    let mut script = Script::listener();
    let id = script.accept(2);
    script.data(2, b"half");
    script.flag(2, Flag::Reset, 7);
    assert_eq!(script.got(id), Some(Some(b"half".to_vec())));
    assert_eq!(reset(script.read(id)), Some(ErrorCode(7)));
    assert!(matches!(script.engine.write(id, b"x"), Err(StreamError::ResetByPeer(ErrorCode(7)))));

    // After an end only writing fails.
    let id = script.accept(4);
    script.flag(4, Flag::Fin, 0);
    script.flag(4, Flag::Reset, 0);
    assert_eq!(script.got(id), Some(Some(vec![])));
    assert!(script.engine.write(id, b"x").is_err());
}

#[test]
fn a_channel_that_is_closed_without_an_end_is_a_reset() {
    let mut script = Script::listener();
    let id = script.accept(2);
    script.data(2, b"half");
    script.engine.handle_closed(2);
    assert_eq!(script.got(id), Some(Some(b"half".to_vec())));
    assert_eq!(reset(script.read(id)), Some(ErrorCode::NONE));
    // Its number is the next one's while the handle is there.
    let next = script.accept(2);
    script.data(2, b"other");
    assert_eq!(reset(script.read(id)), Some(ErrorCode::NONE));
    assert_eq!(script.got(next), Some(Some(b"other".to_vec())));
    script.engine.release(id, None);
    assert_eq!(script.sent(2), (Sent::default(), false));
}

#[test]
fn a_dropped_stream_is_reset_behind_what_was_written() {
    let mut script = Script::listener();
    let id = script.accept(2);
    script.engine.write(id, b"half").unwrap();
    script.engine.release(id, None);
    let flags = vec![(Flag::StopSending, 0), (Flag::Reset, 0)];
    assert_eq!(script.sent(2), (Sent { data: b"half".to_vec(), flags }, false));
    script.engine.handle_closed(2);
    assert!(script.is_empty());
}

#[test]
fn a_stream_that_nothing_was_done_with_is_no_business_of_the_peers() {
    let mut script = Script::listener();
    let id = script.engine.open().unwrap().unwrap();
    script.engine.release(id, None);
    assert_eq!(script.engine.poll_action(true), None);
    assert!(script.is_empty() && script.engine.outbound == 0);
}

#[test]
fn what_is_not_sent_in_time_is_given_up() {
    let mut script = Script::listener();
    let id = script.accept(2);
    script.engine.write(id, &vec![0; SEND_BUFFER]).unwrap();
    assert_eq!(script.engine.write(id, b"x").unwrap(), None);
    script.engine.finish(id).unwrap();
    script.engine.release(id, None);
    assert_eq!(script.engine.poll_action(false), None);
    script.pass(ABANDONED_TIMEOUT - Duration::from_millis(1));
    assert!(matches!(script.engine.poll_action(true), Some(Action::Send(2, _))));
    // It moved.
    script.pass(Duration::from_millis(1));
    assert_eq!(script.engine.poll_action(false), None);
    script.pass(ABANDONED_TIMEOUT);
    assert_eq!(script.flags(2), [(Flag::StopSending, 0), (Flag::Reset, 0)]);
}

#[test]
fn streams_over_the_limit_are_refused_and_too_many_of_them_end_the_connection() {
    let mut script = Script::listener();
    let channel = |number: usize| u16::try_from(2 * number + 2).unwrap();
    for number in 0..MAX_STREAMS {
        script.accept(channel(number));
    }
    let over = channel(MAX_STREAMS);
    script.engine.handle_opened(over).unwrap();
    assert_eq!(script.engine.accept().unwrap(), None);
    assert_eq!(script.sent(over), (Sent { data: vec![], flags: vec![(Flag::Reset, 0x1001)] }, false));
    script.pass(FIN_ACK_TIMEOUT);
    assert_eq!(script.sent(over), (Sent::default(), true));
    for _ in 0..MAX_REFUSED {
        script.engine.handle_opened(over).unwrap();
        script.flags(over);
        script.engine.handle_closed(over);
    }
    assert!(matches!(script.engine.handle_opened(over), Err(ConnectionError::Protocol(_))));
    assert!(script.engine.refused_channels.is_empty() && script.engine.refused.len() <= MAX_REFUSED);
}

#[test]
fn refusals_that_cannot_be_told_hold_up_new_channels() {
    let mut script = Script::listener();
    let mut channel = 2;
    while script.engine.wants_channels() {
        let _ = script.engine.handle_opened(channel);
        channel += 2;
        assert!(channel < 2000);
    }
    assert!(script.engine.poll_action(false).is_some());
    assert!(script.engine.wants_channels());
}

#[test]
fn channels_of_this_side_are_not_the_peers_to_open() {
    for (side, channel) in [(Side::Listener, 1), (Side::Dialer, 2), (Side::Listener, 0)] {
        let mut script = Script::with(side, Budget::unlimited());
        assert!(script.engine.handle_opened(channel).is_err());
    }
}

#[test]
fn a_full_stream_leaves_the_rest_where_it_is() {
    let mut script = Script::listener();
    let id = script.accept(2);
    let mut came = 0;
    while script.engine.make_room(2) {
        script.data(2, &vec![1; MAX_DATA]);
        came += MAX_DATA;
    }
    assert!((RECEIVE_BUFFER..RECEIVE_BUFFER + MAX_DATA).contains(&came), "{came}");
    assert_eq!(script.engine.poll_unblocked(), None);
    let mut into = Vec::new();
    script.engine.read(id, &mut bytes::BufMut::limit(&mut into, came - RECEIVE_BUFFER / 2 - 1)).unwrap();
    assert_eq!(script.engine.poll_unblocked(), None);
    script.engine.read(id, &mut bytes::BufMut::limit(&mut into, 1)).unwrap();
    assert!(script.engine.take_stirred());
    assert_eq!((script.engine.poll_unblocked(), script.engine.poll_unblocked()), (Some(2), None));
}

/// All streams share one window.
#[test]
fn a_stream_that_keeps_the_window_shut_is_reset_in_the_end() {
    let mut script = Script::listener();
    let (id, other) = (script.accept(2), script.accept(4));
    while script.engine.make_room(2) {
        script.data(2, &vec![1; MAX_DATA]);
    }
    script.engine.window_is_shut(true);
    script.pass(UNREAD_TIMEOUT - Duration::from_millis(1));
    // It reads: all is well.
    assert!(script.read(id).is_some());
    while script.engine.make_room(2) {
        script.data(2, &vec![1; MAX_DATA]);
    }
    script.engine.window_is_shut(true);
    script.pass(UNREAD_TIMEOUT - Duration::from_millis(1));
    script.engine.window_is_shut(true);
    assert!(script.flags(2).is_empty());
    script.pass(Duration::from_millis(1));
    assert_eq!(script.flags(2), [(Flag::StopSending, 0x1001), (Flag::Reset, 0x1001)]);
    assert!(matches!(
        script.read(id),
        Some(Err(StreamError::ResetLocally(ErrorCode::RESOURCE_LIMIT_EXCEEDED)))
    ));
    assert_eq!(script.got(other), None);
    assert!(script.engine.make_room(2), "what comes is thrown away");
}

#[test]
fn memory_is_asked_for_and_given_back() {
    let budget = Budget::limited(64 * 1024);
    let mut script = Script::with(Side::Listener, budget.clone());
    let id = script.accept(2);
    let mut came = 0;
    while script.engine.make_room(2) {
        script.data(2, &vec![1; 8000]);
        came += 8000;
    }
    assert!((40_000..70_000).contains(&came), "{came}");
    // Somebody else's first message still has its guaranteed part, and no more.
    let other = script.accept(4);
    assert!(script.engine.make_room(4));
    script.data(4, &[1; 4000]);
    assert_eq!(script.read(other).unwrap().unwrap().len(), 4000);
    script.data(4, &vec![1; MAX_DATA]);
    assert!(matches!(
        script.read(other),
        Some(Err(StreamError::ResetLocally(ErrorCode::RESOURCE_LIMIT_EXCEEDED)))
    ));
    assert_eq!(script.read(id).unwrap().unwrap().len(), came);
    drop(budget.reserve(64 * 1024).unwrap());
}

#[test]
fn what_cannot_be_understood_ends_its_stream_alone() {
    let mut script = Script::listener();
    let (id, other) = (script.accept(2), script.accept(4));
    let mut bytes = Message::data(b"good").encode();
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x7f]);
    script.engine.handle_message(2, &bytes);
    assert_eq!(script.flags(2), [(Flag::StopSending, 0x1003), (Flag::Reset, 0x1003)]);
    assert!(matches!(script.read(id), Some(Err(StreamError::ResetLocally(ErrorCode::PROTOCOL_VIOLATION)))));
    script.data(4, b"fine");
    assert_eq!(script.got(other), Some(Some(b"fine".to_vec())));
}

#[test]
fn flags_without_sense_change_nothing() {
    let mut script = Script::listener();
    let id = script.accept(2);
    script.flag(2, Flag::FinAck, 0);
    assert_eq!(script.engine.write(id, b"x").unwrap(), Some(1));
    for _ in 0..10 {
        script.flag(2, Flag::Fin, 0);
    }
    script.data(2, b"after the end");
    assert_eq!(script.got(id), Some(Some(vec![])));
    assert_eq!(script.flags(2), [(Flag::FinAck, 0)], "once");
    // For nobody.
    script.data(77, b"x");
    script.engine.handle_closed(77);
    script.engine.handle_free(77);
}

#[test]
fn the_dialer_closes_the_channel_of_the_handshake() {
    for (side, closes) in [(Side::Dialer, true), (Side::Listener, false)] {
        let mut script = Script::with(side, Budget::unlimited());
        script.engine.write(HANDSHAKE_KEY, b"noise").unwrap();
        script.engine.release(HANDSHAKE_KEY, None);
        let expected = Sent { data: b"noise".to_vec(), flags: vec![] };
        assert_eq!(script.sent(HANDSHAKE), (expected, closes));
        script.data(HANDSHAKE, &vec![0; 200_000 % MAX_DATA]);
        script.engine.handle_closed(HANDSHAKE);
        assert!(script.engine.streams.is_empty(), "{side:?}");
    }
}

#[test]
fn the_end_of_the_connection_is_the_end_of_everything() {
    let mut script = Script::listener();
    let (id, kept) = (script.accept(2), script.accept(4));
    script.data(2, b"last");
    assert_eq!(script.got(kept), None);
    script.engine.handle_opened(6).unwrap();
    script.engine.end(ConnectionError::Vanished);
    assert_eq!(script.got(id), Some(Some(b"last".to_vec())));
    assert!(matches!(script.read(id), Some(Err(StreamError::Connection(ConnectionError::Vanished)))));
    assert!(matches!(script.engine.open(), Err(ConnectionError::Vanished)));
    assert!(matches!(script.engine.accept(), Err(ConnectionError::Vanished)));
    let events: Vec<_> = std::iter::from_fn(|| script.engine.poll_event()).collect();
    assert!(events.contains(&Event::Readable(kept)), "{events:?}");
    assert_eq!((script.engine.poll_action(true), script.engine.poll_timeout()), (None, None));
    script.engine.release(id, None);
    script.engine.release(kept, None);
    assert!(script.is_empty());
}

#[test]
fn streams_take_turns() {
    let mut script = Script::listener();
    let ids = [script.accept(2), script.accept(4), script.accept(6)];
    for id in ids {
        script.engine.write(id, &vec![0; 3 * MAX_DATA]).unwrap();
    }
    let order: Vec<_> = std::iter::from_fn(|| match script.engine.poll_action(true)? {
        Action::Send(channel, message) => {
            assert!(message.len() <= MAX_DATA + 15);
            Some(channel)
        }
        action => panic!("{action:?}"),
    })
    .collect();
    assert_eq!(order, [2, 4, 6, 2, 4, 6, 2, 4, 6]);
}
