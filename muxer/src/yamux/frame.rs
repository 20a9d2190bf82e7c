//! The 12-byte frame header (yamux, "Framing").

pub(crate) const HEADER: usize = 12;

pub(crate) const DATA: u8 = 0;
pub(crate) const WINDOW_UPDATE: u8 = 1;
pub(crate) const PING: u8 = 2;
pub(crate) const GO_AWAY: u8 = 3;

pub(crate) const SYN: u16 = 1;
pub(crate) const ACK: u16 = 2;
pub(crate) const FIN: u16 = 4;
pub(crate) const RST: u16 = 8;

/// GoAway with "protocol error" (yamux, "Session termination").
pub(crate) const GO_AWAY_PROTOCOL_ERROR: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u8,
    pub(crate) kind: u8,
    pub(crate) flags: u16,
    pub(crate) stream: u32,
    /// Body length, credit, ping value or error code, as `kind` has it.
    pub(crate) length: u32,
}

impl Header {
    pub(crate) fn new(kind: u8, flags: u16, stream: u32, length: u32) -> Self {
        Self { version: 0, kind, flags, stream, length }
    }

    pub(crate) fn parse(bytes: [u8; HEADER]) -> Self {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        Self {
            version,
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        }
    }

    pub(crate) fn encode(self) -> [u8; HEADER] {
        let [f0, f1] = self.flags.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        [self.version, self.kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3]
    }

    /// What follows the header.
    pub(crate) fn body(self) -> u32 {
        if self.kind == DATA { self.length } else { 0 }
    }

    pub(crate) fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Announces a stream, giving no credit beyond the initial window.
    #[cfg(any(test, feature = "yamux-crate"))]
    pub(crate) fn syn(stream: u32) -> Self {
        Self::new(WINDOW_UPDATE, SYN, stream, 0)
    }

    /// Resets a stream. The code travels in the length of a window update (libp2p/specs PR 622), which has no
    /// meaning on a stream that ends: go-yamux (from v5), rust yamux, js and py take that frame for a plain reset or
    /// read the code. Without a code it is the Data frame that py-libp2p understood in all versions (its issue 931).
    pub(crate) fn reset(stream: u32, code: u32) -> Self {
        Self::new(if code == 0 { DATA } else { WINDOW_UPDATE }, RST, stream, code)
    }

    pub(crate) fn go_away(code: u32) -> Self {
        Self::new(GO_AWAY, 0, 0, code)
    }
}
