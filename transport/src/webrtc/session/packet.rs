//! What SCTP packets say that sctp-proto has no word for.

use std::ops::Range;

use bytes::Bytes;

/// Where the checksum is, and the first chunk.
const CHECKSUM: Range<usize> = 8..12;
pub(super) const FIRST_CHUNK: usize = 12;

/// What a chunk begins with, and a parameter in one: type and length.
const HEADER: usize = 4;

/// Types of chunks.
pub(super) const DATA: u8 = 0;
pub(super) const INIT: u8 = 1;
pub(super) const SACK: u8 = 3;
pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
pub(super) const RE_CONFIG: u8 = 130;

/// "SACK immediately" (RFC 7053).
const IMMEDIATELY: u8 = 0x08;

/// The same packet, whose data the other side is asked to acknowledge at once.
///
/// Otherwise that takes up to 200 ms. A channel is closed only when its data is acknowledged, and libdatachannel (so
/// js-libp2p in Node) gives the number of a channel to the next while the close is under way, which then hits that one.
pub(super) fn hurried(packet: Bytes) -> Bytes {
    if packet.get(FIRST_CHUNK) != Some(&DATA) {
        return packet;
    }
    let flags: Vec<usize> =
        chunks(&packet).filter(|chunk| chunk.kind == DATA).map(|chunk| chunk.flags).collect();
    changed(&packet, |packet| {
        for at in flags {
            if let Some(flags) = packet.get_mut(at) {
                *flags |= IMMEDIATELY;
            }
        }
    })
}

/// A chunk, and where it has what.
pub(super) struct Chunk {
    pub(super) kind: u8,
    flags: usize,
    pub(super) value: Range<usize>,
}

/// The chunks of a packet.
pub(super) fn chunks(packet: &[u8]) -> impl Iterator<Item = Chunk> {
    let mut at = FIRST_CHUNK;
    std::iter::from_fn(move || {
        let start = at;
        let [kind, _, high, low, ..] = packet.get(start..)? else { return None };
        let length = u16::from_be_bytes([*high, *low]);
        at = start.saturating_add(padded(length));
        let value = start.saturating_add(HEADER)..start.saturating_add(length.into()).min(packet.len());
        Some(Chunk { kind: *kind, flags: start.saturating_add(1), value })
    })
}

/// What a chunk or a parameter of this length takes: they are filled up to a multiple of four.
pub(super) fn padded(length: u16) -> usize {
    usize::from(length).next_multiple_of(4).max(HEADER)
}

/// The number that each chunk of a kind begins with: of data its own, of an acknowledgement the last before which there
/// is no gap.
pub(super) fn first_numbers(packet: &[u8], kind: u8) -> impl Iterator<Item = u32> {
    chunks(packet)
        .filter(move |chunk| chunk.kind == kind)
        .filter_map(|chunk| number(packet.get(chunk.value)?, 0))
}

/// The number at a place.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// Whether one number comes after another (serial numbers, RFC 9260, section 1.6).
pub(super) fn is_after(number: u32, other: u32) -> bool {
    other.wrapping_sub(number) >= 1 << 31
}

/// The packet with a change, and with the checksum that it then has.
pub(super) fn changed(packet: &[u8], change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut packet = packet.to_vec();
    change(&mut packet);
    if let Some(field) = packet.get_mut(CHECKSUM) {
        field.fill(0);
    }
    let checksum = crc32c(&packet);
    if let Some(field) = packet.get_mut(CHECKSUM) {
        field.copy_from_slice(&checksum.to_le_bytes());
    }
    packet.into()
}

/// CRC-32C (RFC 9260, appendix A), a byte at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let [low, ..] = (crc ^ u32::from(*byte)).to_le_bytes();
        crc >> 8 ^ TABLE.get(usize::from(low)).copied().unwrap_or(0)
    };
    !bytes.iter().fold(u32::MAX, step)
}

static TABLE: [u32; 256] = table();

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "made by the compiler"
)]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the check value of the CRC catalogues.
    #[test]
    fn the_checksum_is_the_one_of_the_rfc() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_go_around() {
        for (number, other, after) in
            [(1, 0, true), (0, 0, false), (0, 1, false), (0, u32::MAX, true), (u32::MAX, 0, false)]
        {
            assert_eq!(is_after(number, other), after, "{number} {other}");
        }
    }

    #[test]
    fn only_data_is_hurried() {
        let mut packet = vec![7; 12];
        packet.extend([DATA, 3, 0, 17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 53, b'x', 0, 0, 0]);
        packet.extend([DATA, 0, 0, 4, 9, 9, 0, 4]);
        let hurried = hurried(packet.clone().into());
        assert_eq!((hurried[13], hurried[33], hurried[37]), (3 | IMMEDIATELY, IMMEDIATELY, 9));
        assert_eq!(hurried[14..33], packet[14..33]);
        let sack = Bytes::from([vec![7; 12], vec![3, 0, 0, 16]].concat());
        assert_eq!(super::hurried(sack.clone()), sack);
        assert_eq!(super::hurried(Bytes::new()), Bytes::new());
    }
}
