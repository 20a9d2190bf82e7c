//! What a peer's frames carry, out of bytes that come in any pieces. Pure.

use tokio::io::ReadBuf;

use super::frame::{Header, MAX_CONTROL_LEN, Mask, Opcode, Violation};

/// Reads frames. Bytes that were received and not asked for yet wait in it; payload may go past it
/// ([`Inbound::direct`]).
#[derive(Debug)]
pub(super) struct Inbound {
    of_client: bool,
    ahead: Vec<u8>,
    at: usize,
    frame: Option<Frame>,
    /// A message has begun, and its last frame has not.
    in_message: bool,
}

/// A frame whose payload is not all there.
#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    mask: Option<Mask>,
    left: u64,
    /// Of a control frame, what has come.
    control: Vec<u8>,
}

/// What the bytes came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// More bytes are needed.
    Missing,
    /// Payload was read.
    Data,
    /// A frame without payload.
    Empty,
    /// To be answered with the same bytes.
    Ping(Vec<u8>),
    Pong,
    /// The peer says nothing more, with its status.
    Close(Option<u16>),
}

impl Inbound {
    /// Reads what a client sends, or a server. `ahead` has come already.
    pub(super) fn new(of_client: bool, ahead: Vec<u8>) -> Self {
        Self { of_client, ahead, at: 0, frame: None, in_message: false }
    }

    /// Takes bytes for [`Inbound::read`]; not before it has said that some are missing.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.ahead.extend_from_slice(bytes);
    }

    /// Reads on; payload goes to `buf`, which has room.
    pub(super) fn read(&mut self, buf: &mut ReadBuf<'_>) -> Result<Event, Violation> {
        let Some(frame) = &mut self.frame else {
            let rest = self.ahead.get(self.at..).unwrap_or_default();
            return match Header::decode(rest, self.of_client)? {
                Some((header, used)) => {
                    self.consume(used);
                    self.begin(header)
                }
                None => {
                    self.tidy();
                    Ok(Event::Missing)
                }
            };
        };
        let rest = self.ahead.get(self.at..).unwrap_or_default();
        let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
        if frame.opcode.is_control() {
            let some = rest.get(..left.min(rest.len())).unwrap_or_default();
            let used = some.len();
            frame.control.extend_from_slice(some);
            self.consume(used);
            return if self.took(used) { self.control() } else { Ok(Event::Missing) };
        }
        let some = rest.get(..left.min(rest.len()).min(buf.remaining())).unwrap_or_default();
        if some.is_empty() {
            return Ok(Event::Missing);
        }
        let (from, used) = (buf.filled().len(), some.len());
        buf.put_slice(some);
        if let (Some(mask), Some(bytes)) = (&mut frame.mask, buf.filled_mut().get_mut(from..)) {
            mask.apply(bytes);
        }
        self.consume(used);
        if self.took(used) {
            self.frame = None;
        }
        Ok(Event::Data)
    }

    /// How many bytes of payload may be read past this, for [`Inbound::received`]. Zero if something waits in here.
    pub(super) fn direct(&self) -> u64 {
        match &self.frame {
            Some(frame) if !frame.opcode.is_control() && self.ahead.is_empty() => frame.left,
            _ => 0,
        }
    }

    /// Payload that was read past this: it is unmasked.
    pub(super) fn received(&mut self, payload: &mut [u8]) {
        if let Some(frame) = &mut self.frame {
            if let Some(mask) = &mut frame.mask {
                mask.apply(payload);
            }
            if self.took(payload.len()) {
                self.frame = None;
            }
        }
    }

    /// Whether the peer may end here without cutting a frame in two.
    pub(super) fn is_between_frames(&self) -> bool {
        self.frame.is_none() && self.ahead.is_empty()
    }

    fn begin(&mut self, header: Header) -> Result<Event, Violation> {
        let Header { last, opcode, mask, len } = header;
        match opcode {
            Opcode::Text => return Err(Violation::Text),
            Opcode::Binary if self.in_message => return Err(Violation::Fragment),
            Opcode::Continue if !self.in_message => return Err(Violation::Fragment),
            Opcode::Binary | Opcode::Continue => self.in_message = !last,
            Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        self.frame = Some(Frame { opcode, mask, left: len, control: Vec::new() });
        match (len, opcode.is_control()) {
            (0, true) => self.control(),
            (0, false) => {
                self.frame = None;
                Ok(Event::Empty)
            }
            // Its payload is looked at by the next call.
            _ => Ok(Event::Data),
        }
    }

    /// Counts bytes of the current frame; `true` if those were its last.
    fn took(&mut self, count: usize) -> bool {
        self.frame.as_mut().is_none_or(|frame| {
            frame.left = frame.left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
            frame.left == 0
        })
    }

    /// The current frame is a control frame, and all there.
    fn control(&mut self) -> Result<Event, Violation> {
        let Some(Frame { opcode, mask, mut control, .. }) = self.frame.take() else {
            return Ok(Event::Missing);
        };
        debug_assert!(control.len() <= MAX_CONTROL_LEN, "headers of more are refused");
        if let Some(mut mask) = mask {
            mask.apply(&mut control);
        }
        Ok(match opcode {
            Opcode::Ping => Event::Ping(control),
            Opcode::Close => Event::Close(status(&control)?),
            _ => Event::Pong,
        })
    }

    fn consume(&mut self, used: usize) {
        self.at = self.at.saturating_add(used);
        if self.at >= self.ahead.len() {
            // Given back, so that a connection on which nothing happens has no buffer.
            (self.at, self.ahead) = (0, Vec::new());
        }
    }

    /// What was read goes, so that what is missing can be put behind the rest.
    fn tidy(&mut self) {
        self.ahead.drain(..self.at.min(self.ahead.len()));
        self.at = 0;
    }
}

/// RFC 6455, sections 5.5.1 and 7.4: nothing, or a status and a reason in UTF-8. Some statuses are never sent.
fn status(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match payload {
        [] => Ok(None),
        [high, low, reason @ ..] => {
            let status = u16::from_be_bytes([*high, *low]);
            let sent = matches!(status, 1000..=1003 | 1007..=1014 | 3000..=4999);
            match std::str::from_utf8(reason) {
                Ok(_) if sent => Ok(Some(status)),
                _ => Err(Violation::Close),
            }
        }
        [_] => Err(Violation::Close),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of bytes that come in pieces of a size.
    fn read(of_client: bool, bytes: &[u8], piece: usize) -> (Vec<u8>, Vec<Event>, Option<Violation>) {
        let mut inbound = Inbound::new(of_client, Vec::new());
        let (mut data, mut events, mut pieces) = (Vec::new(), Vec::new(), bytes.chunks(piece));
        loop {
            let mut space = [0; 7];
            let mut buf = ReadBuf::new(&mut space);
            match inbound.read(&mut buf) {
                Ok(Event::Data) => data.extend_from_slice(buf.filled()),
                Ok(Event::Missing) => match pieces.next() {
                    Some(piece) => inbound.receive(piece),
                    None => return (data, events, None),
                },
                Ok(event) => events.push(event),
                Err(violation) => return (data, events, Some(violation)),
            }
        }
    }

    #[track_caller]
    fn check(bytes: &[u8], data: &[u8], events: &[Event], violation: Option<Violation>) {
        for piece in [1, 2, 3, 5, 1000] {
            let got = read(false, bytes, piece);
            assert_eq!(got.0, data);
            assert_eq!((&got.1[..], got.2), (events, violation), "in pieces of {piece}");
        }
    }

    #[test]
    fn messages_and_fragments_are_one_stream() {
        let bytes = b"\x82\x03abc\x02\x02de\x00\x01f\x80\x01g\x82\x01h";
        check(bytes, b"abcdefgh", &[], None);
    }

    #[test]
    fn control_frames_come_between_fragments() {
        let bytes = b"\x02\x01a\x89\x02hi\x8a\x00\x80\x01b\x88\x02\x03\xe8";
        let events = [Event::Ping(b"hi".to_vec()), Event::Pong, Event::Close(Some(1000))];
        check(bytes, b"ab", &events, None);
    }

    #[test]
    fn frames_without_payload_are_frames() {
        let empty = || Event::Empty;
        check(b"\x82\x00\x02\x00\x00\x00\x80\x00", b"", &[empty(), empty(), empty(), empty()], None);
        check(b"\x89\x00\x88\x00", b"", &[Event::Ping(Vec::new()), Event::Close(None)], None);
    }

    #[test]
    fn fragments_that_belong_nowhere() {
        check(b"\x80\x01a", b"", &[], Some(Violation::Fragment));
        check(b"\x02\x01a\x82\x01b", b"a", &[], Some(Violation::Fragment));
        check(b"\x82\x01a\x80\x01b", b"a", &[], Some(Violation::Fragment));
        check(b"\x81\x01a", b"", &[], Some(Violation::Text));
        check(b"\x02\x01a\x01\x01b", b"a", &[], Some(Violation::Text));
    }

    #[test]
    fn statuses_of_close_frames() {
        let close = |payload: &[u8]| {
            let frame = [&[0x88, u8::try_from(payload.len()).unwrap()], payload].concat();
            let (_, events, violation) = read(false, &frame, 1000);
            (events.into_iter().next(), violation)
        };
        for status in [1000_u16, 1001, 1002, 1003, 1007, 1014, 3000, 4999] {
            assert_eq!(close(&status.to_be_bytes()), (Some(Event::Close(Some(status))), None));
        }
        for status in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert_eq!(close(&status.to_be_bytes()), (None, Some(Violation::Close)), "{status}");
        }
        assert_eq!(close(&[3]), (None, Some(Violation::Close)));
        assert_eq!(close(b"\x03\xe8\xff"), (None, Some(Violation::Close)));
        assert_eq!(close(b"\x03\xe8bye").0, Some(Event::Close(Some(1000))));
    }

    #[test]
    fn payload_read_past_the_buffer_is_unmasked_and_counted() {
        let mut inbound = Inbound::new(true, b"\x82\x85\x37\xfa\x21\x3d".to_vec());
        assert_eq!(inbound.read(&mut ReadBuf::new(&mut [0; 1])), Ok(Event::Data));
        assert_eq!(inbound.direct(), 5);
        assert!(!inbound.is_between_frames());
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let (one, two) = payload.split_at_mut(2);
        inbound.received(one);
        assert_eq!(inbound.direct(), 3);
        inbound.received(two);
        assert_eq!(&payload, b"Hello");
        assert!(inbound.is_between_frames() && inbound.direct() == 0);
    }

    #[test]
    fn an_idle_connection_has_no_buffer() {
        let mut inbound = Inbound::new(false, Vec::new());
        inbound.receive(b"\x82\x01a");
        let mut space = [0; 4];
        let mut buf = ReadBuf::new(&mut space);
        while inbound.read(&mut buf) != Ok(Event::Missing) {}
        assert_eq!(buf.filled(), b"a");
        assert_eq!(inbound.ahead.capacity(), 0);
    }
}
