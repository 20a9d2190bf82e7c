//! This side's frames. Pure.

use super::frame::{Header, MAX_HEADER_LEN, Mask, Opcode};

/// The most bytes that a frame of this side carries. What is written is collected up to here, so that a frame's cost is
/// shared by many small writes; flushing sends it earlier.
pub const MAX_PAYLOAD_LEN: usize = 64 * 1024;

/// Frames that wait for the socket: one of data, and the latest of control.
#[derive(Debug)]
pub(super) struct Outbound {
    /// Clients mask what they send.
    masks: bool,
    /// Room for a header, and the payload. Empty if there is none.
    data: Vec<u8>,
    /// `None` while more is collected.
    sealed: Option<Sealed>,
    /// One frame that is on its way, and the next one.
    control: Vec<u8>,
    control_sent: usize,
    /// The end of the control frame that is on its way.
    control_end: usize,
    closed: bool,
}

/// A complete frame of data, as places in its buffer.
#[derive(Clone, Copy, Debug)]
struct Sealed {
    start: usize,
    sent: usize,
}

impl Outbound {
    pub(super) fn new(masks: bool) -> Self {
        Self {
            masks,
            data: Vec::new(),
            sealed: None,
            control: Vec::new(),
            control_sent: 0,
            control_end: 0,
            closed: false,
        }
    }

    /// Collects payload, as much of it as there is room for: none once the frame is sealed.
    pub(super) fn push(&mut self, payload: &[u8]) -> usize {
        if self.sealed.is_some() || self.closed {
            return 0;
        }
        if self.data.is_empty() {
            self.data.resize(MAX_HEADER_LEN, 0);
        }
        let room = MAX_HEADER_LEN.saturating_add(MAX_PAYLOAD_LEN).saturating_sub(self.data.len());
        let some = payload.get(..room.min(payload.len())).unwrap_or_default();
        self.data.extend_from_slice(some);
        if some.len() == room {
            self.seal();
        }
        some.len()
    }

    /// Makes a frame of what was collected.
    pub(super) fn seal(&mut self) {
        if self.sealed.is_some() {
            return;
        }
        let Some((space, payload)) = self.data.split_first_chunk_mut::<MAX_HEADER_LEN>() else {
            return;
        };
        let (header, len) = header(Opcode::Binary, payload, self.masks);
        // At the end of its room, before the payload.
        let start = MAX_HEADER_LEN.saturating_sub(len);
        if let (Some(place), Some(header)) = (space.get_mut(start..), header.get(..len)) {
            place.copy_from_slice(header);
        }
        self.sealed = Some(Sealed { start, sent: start });
    }

    /// Answers a ping. Only the latest one is, if several come while the socket takes nothing (RFC 6455, section 5.5.3).
    pub(super) fn pong(&mut self, payload: Vec<u8>) {
        if !self.closed {
            self.replace_control(Opcode::Pong, payload);
        }
    }

    /// Says that nothing follows. What was collected and not sealed is not sent any more, and nothing can be.
    pub(super) fn close(&mut self, status: u16) {
        if self.closed {
            return;
        }
        self.closed = true;
        if self.sealed.is_none() {
            self.data = Vec::new();
        }
        self.replace_control(Opcode::Close, status.to_be_bytes().to_vec());
    }

    /// Whether the close frame was queued.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a control frame waits.
    pub(super) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Whether a frame is complete, so that nothing more can be collected before it is sent.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// What the socket gets next; nothing if there is none. Control frames go first, but not into the middle of another.
    pub(super) fn next(&self) -> &[u8] {
        match self.sealed {
            Some(Sealed { sent, .. }) if self.is_turn_of_data() => self.data.get(sent..).unwrap_or_default(),
            _ => self.control.get(self.control_sent..).unwrap_or_default(),
        }
    }

    /// The socket took this many bytes of [`Outbound::next`].
    pub(super) fn sent(&mut self, count: usize) {
        let turn_of_data = self.is_turn_of_data();
        if let (true, Some(sealed)) = (turn_of_data, &mut self.sealed) {
            sealed.sent = sealed.sent.saturating_add(count);
            if sealed.sent >= self.data.len() {
                self.sealed = None;
                self.data.clear();
            }
            return;
        }
        self.control_sent = self.control_sent.saturating_add(count);
        if self.control_sent >= self.control.len() {
            (self.control, self.control_sent, self.control_end) = (Vec::new(), 0, 0);
        } else if self.control_sent >= self.control_end {
            self.control_end = self.control.len();
        }
    }

    /// Gives back memory that nothing is in.
    pub(super) fn rest(&mut self) {
        if self.data.is_empty() {
            self.data = Vec::new();
        }
    }

    /// Data waits for control frames, unless a part of it is sent.
    fn is_turn_of_data(&self) -> bool {
        self.sealed.is_some_and(|sealed| self.control.is_empty() || sealed.sent > sealed.start)
    }

    /// Puts a control frame in the place of the one that waits.
    fn replace_control(&mut self, opcode: Opcode, mut payload: Vec<u8>) {
        let keep = if self.control_sent > 0 { self.control_end } else { 0 };
        self.control.truncate(keep);
        let (header, len) = header(opcode, &mut payload, self.masks);
        self.control.extend_from_slice(header.get(..len).unwrap_or_default());
        self.control.extend_from_slice(&payload);
        if keep == 0 {
            self.control_end = self.control.len();
        }
    }
}

/// The header of a whole message, whose payload is masked if it has to be.
fn header(opcode: Opcode, payload: &mut [u8], masks: bool) -> ([u8; MAX_HEADER_LEN], usize) {
    let mask = masks.then(|| Mask::new(rand::random()));
    let len = u64::try_from(payload.len()).unwrap_or(u64::MAX);
    if let Some(mut mask) = mask {
        mask.apply(payload);
    }
    Header { last: true, opcode, mask, len }.encode()
}

#[cfg(test)]
mod tests {
    use tokio::io::ReadBuf;

    use super::super::inbound::{Event, Inbound};
    use super::*;

    /// Takes what there is, in pieces of a size.
    fn take(outbound: &mut Outbound, piece: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !outbound.next().is_empty() {
            let some = &outbound.next()[..piece.min(outbound.next().len())];
            all.extend_from_slice(some);
            let count = some.len();
            outbound.sent(count);
        }
        all
    }

    fn read(of_client: bool, bytes: &[u8]) -> (Vec<u8>, Vec<Event>) {
        let mut inbound = Inbound::new(of_client, bytes.to_vec());
        let (mut data, mut events, mut space) = (Vec::new(), Vec::new(), vec![0; 1 << 20]);
        loop {
            let mut buf = ReadBuf::new(&mut space);
            match inbound.read(&mut buf).unwrap() {
                Event::Data => data.extend_from_slice(buf.filled()),
                Event::Missing => return (data, events),
                event => events.push(event),
            }
        }
    }

    #[test]
    fn small_writes_share_a_frame() {
        let mut outbound = Outbound::new(false);
        for piece in [&b"ab"[..], b"", b"cde"] {
            assert_eq!(outbound.push(piece), piece.len());
        }
        assert!(outbound.next().is_empty(), "not before it is sealed");
        outbound.seal();
        assert_eq!(outbound.push(b"x"), 0);
        assert_eq!(take(&mut outbound, 3), b"\x82\x05abcde");
        outbound.seal();
        assert!(outbound.next().is_empty(), "no empty frames");
        assert_eq!(outbound.push(b"x"), 1);
    }

    #[test]
    fn a_frame_is_full_at_its_limit() {
        for (len, taken, sealed) in [
            (MAX_PAYLOAD_LEN - 1, MAX_PAYLOAD_LEN - 1, false),
            (MAX_PAYLOAD_LEN, MAX_PAYLOAD_LEN, true),
            (MAX_PAYLOAD_LEN + 1, MAX_PAYLOAD_LEN, true),
        ] {
            let mut outbound = Outbound::new(true);
            assert_eq!(outbound.push(&vec![7; len]), taken);
            assert_eq!(outbound.is_sealed(), sealed);
            outbound.seal();
            assert_eq!(read(true, &take(&mut outbound, 1000)).0, vec![7; taken]);
            outbound.rest();
            assert_eq!(outbound.data.capacity(), 0);
        }
    }

    #[test]
    fn control_frames_go_first_but_not_inside_another() {
        for piece in 1..20 {
            let mut outbound = Outbound::new(false);
            outbound.push(b"0123456789");
            outbound.seal();
            outbound.pong(b"one".to_vec());
            let first = outbound.next()[..piece.min(outbound.next().len())].to_vec();
            outbound.sent(first.len());
            outbound.pong(b"two".to_vec());
            let all = [first, take(&mut outbound, piece)].concat();
            let (data, events) = read(false, &all);
            assert_eq!(data, b"0123456789");
            assert!((1..=2).contains(&events.len()) && events.iter().all(|event| *event == Event::Pong));
            assert!(all.windows(5).any(|bytes| bytes == b"\x8a\x03two"), "the latest is answered");
        }
        let mut outbound = Outbound::new(false);
        outbound.push(b"0123456789");
        outbound.seal();
        outbound.sent(1);
        outbound.pong(b"x".to_vec());
        assert_eq!(take(&mut outbound, 100), b"\x0a0123456789\x8a\x01x");
    }

    #[test]
    fn of_many_pings_the_latest_is_answered() {
        let mut outbound = Outbound::new(false);
        (0..1000).for_each(|_| outbound.pong(vec![1; 125]));
        outbound.pong(b"last".to_vec());
        assert!(outbound.control.capacity() <= 4 * 127);
        assert_eq!(take(&mut outbound, 3), b"\x8a\x04last");
    }

    #[test]
    fn nothing_follows_the_close_frame() {
        let mut outbound = Outbound::new(false);
        outbound.push(b"lost");
        outbound.close(1000);
        outbound.close(1002);
        outbound.pong(b"no".to_vec());
        assert_eq!(outbound.push(b"no"), 0);
        assert_eq!(take(&mut outbound, 1), b"\x88\x02\x03\xe8");

        let mut outbound = Outbound::new(false);
        outbound.push(b"kept");
        outbound.seal();
        outbound.sent(2);
        outbound.close(1000);
        assert_eq!(take(&mut outbound, 1), b"kept\x88\x02\x03\xe8", "a frame on its way is sent");
    }

    #[test]
    fn each_frame_of_a_client_has_its_own_mask() {
        let mut outbound = Outbound::new(true);
        let mut frame = || {
            outbound.push(b"the same");
            outbound.seal();
            take(&mut outbound, 100)
        };
        let (one, two) = (frame(), frame());
        assert_ne!(one, two);
        assert_eq!(read(true, &one), read(true, &two));
    }
}
