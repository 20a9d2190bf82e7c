//! The 12-byte frame header (yamux, "Framing"): as much of it as the tap reads and changes.

pub(super) const HEADER: usize = 12;

pub(super) const DATA: u8 = 0;
pub(super) const WINDOW_UPDATE: u8 = 1;
pub(super) const GO_AWAY: u8 = 3;

pub(super) const SYN: u16 = 1;
pub(super) const ACK: u16 = 2;
pub(super) const FIN: u16 = 4;
pub(super) const RST: u16 = 8;

/// GoAway with "protocol error" (yamux, "Session termination").
pub(super) const GO_AWAY_PROTOCOL_ERROR: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u8,
    pub(super) kind: u8,
    pub(super) flags: u16,
    pub(super) stream: u32,
    /// Body length, credit, ping value or error code, as `kind` has it.
    pub(super) length: u32,
}

impl Header {
    pub(super) fn parse(bytes: [u8; HEADER]) -> Self {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        Self {
            version,
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        }
    }

    pub(super) fn encode(self) -> [u8; HEADER] {
        let [f0, f1] = self.flags.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        [self.version, self.kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3]
    }

    /// What follows the header.
    pub(super) fn body(self) -> u32 {
        if self.kind == DATA { self.length } else { 0 }
    }

    pub(super) fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Announces a stream, giving no credit beyond the initial window.
    pub(super) fn syn(stream: u32) -> Self {
        Self { version: 0, kind: WINDOW_UPDATE, flags: SYN, stream, length: 0 }
    }

    /// Resets a stream. The code travels in the length of a window update (libp2p/specs PR 622), which has no
    /// meaning on a stream that ends: go-yamux (from v5), rust yamux, js and py take that frame for a plain reset or
    /// read the code. Without a code it is the Data frame that py-libp2p understood in all versions (its issue 931).
    pub(super) fn reset(stream: u32, code: u32) -> Self {
        let kind = if code == 0 { DATA } else { WINDOW_UPDATE };
        Self { version: 0, kind, flags: RST, stream, length: code }
    }

    pub(super) fn go_away(code: u32) -> Self {
        Self { version: 0, kind: GO_AWAY, flags: 0, stream: 0, length: code }
    }
}
