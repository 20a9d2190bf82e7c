//! How a side tells the other of a new channel (RFC 8832, "Data Channel Establishment Protocol").

const ACK: u8 = 2;
const OPEN: u8 = 3;

/// Everything arrives, in the order in which it was sent.
const RELIABLE: u8 = 0;

/// The fields before label and protocol.
const HEADER: usize = 12;

/// Opens a channel without a name ("implementations MUST pass an empty string", webrtc/README.md).
pub(super) const OPEN_MESSAGE: [u8; HEADER] = [OPEN, RELIABLE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Says that it was opened.
pub(super) const ACK_MESSAGE: [u8; 1] = [ACK];

/// What a message of this protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Opens a channel that can carry a stream.
    Open,
    Ack,
    /// Opens a channel that loses messages or their order, or is no message at all.
    Unusable,
}

impl Message {
    /// Name and protocol of a channel mean nothing here ("implementations MUST NOT require `label` to be an empty string").
    pub(super) fn parse(bytes: &[u8]) -> Self {
        match bytes {
            [ACK, ..] => Self::Ack,
            [OPEN, RELIABLE, _, _, _, _, _, _, label, label_low, protocol, protocol_low, rest @ ..] => {
                let number = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
                let expected = number(*label, *label_low).saturating_add(number(*protocol, *protocol_low));
                if rest.len() == expected { Self::Open } else { Self::Unusable }
            }
            _ => Self::Unusable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reliable_channels_in_order_are_streams() {
        assert_eq!(Message::parse(&OPEN_MESSAGE), Message::Open);
        assert_eq!(Message::parse(&ACK_MESSAGE), Message::Ack);
        assert_eq!(Message::parse(b"\x03\x00\x01\x00\0\0\0\0\0\x02\0\x01abc"), Message::Open);
        for bytes in [
            &b""[..],
            b"\x01",
            b"\x03",
            b"\x03\x80\0\0\0\0\0\0\0\0\0\0",
            b"\x03\x01\0\0\0\0\0\x05\0\0\0\0",
            b"\x03\x00\0\0\0\0\0\0\0\x02\0\0a",
            b"\x03\x00\0\0\0\0\0\0\0\x00\0\0a",
            b"\x03\x00\0\0\0\0\0\0\xff\xff\xff\xff",
        ] {
            assert_eq!(Message::parse(bytes), Message::Unusable, "{bytes:?}");
        }
    }
}
