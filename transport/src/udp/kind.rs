use quinn::udp::RecvMeta;

/// What a datagram is, by its first byte (RFC 9443, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// QUIC, also where TURN channels would be meant: this node has no TURN server to hear from.
    Quic,
    /// A STUN message.
    Stun,
    /// A record of DTLS.
    Dtls,
}

impl Kind {
    /// `None` is what no protocol of this node says: it is thrown away.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        match datagram.first()? {
            0..=3 => Some(Self::Stun),
            20..=63 => Some(Self::Dtls),
            // With the bit of QUIC that is always set: peers are not told that they may clear it (RFC 9287).
            64..=127 | 192..=255 => Some(Self::Quic),
            _ => None,
        }
    }
}

/// Takes out of a buffer what is not QUIC and hands it to `other`, one datagram after the other. What is left moves
/// together, and `meta` says how much there is. The kernel merges datagrams of one sender that are of one length, but for
/// the last, whatever is in them.
pub(super) fn sift(buffer: &mut [u8], meta: &mut RecvMeta, mut other: impl FnMut(&[u8])) {
    let all = meta.len.min(buffer.len());
    let stride = meta.stride.max(1);
    let (mut at, mut kept) = (0_usize, 0_usize);
    while at < all {
        let end = at.saturating_add(stride).min(all);
        match buffer.get(at..end) {
            Some(datagram) if Kind::of(datagram) == Some(Kind::Quic) => {
                if kept < at {
                    buffer.copy_within(at..end, kept);
                }
                kept = kept.saturating_add(end.saturating_sub(at));
            }
            Some(datagram) => other(datagram),
            None => break,
        }
        at = end;
    }
    meta.len = kept;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_byte_decides() {
        let kind = |first: u8| Kind::of(&[first, 0, 0]);
        for first in 0..=255 {
            let expected = match first {
                0..=3 => Some(Kind::Stun),
                4..=19 => None,
                20..=63 => Some(Kind::Dtls),
                64..=127 => Some(Kind::Quic),
                128..=191 => None,
                192..=255 => Some(Kind::Quic),
            };
            assert_eq!(kind(first), expected, "{first}");
        }
        assert_eq!(Kind::of(&[]), None);
    }

    fn sifted(buffer: &mut [u8], stride: usize) -> (usize, Vec<Vec<u8>>) {
        let mut meta = RecvMeta { len: buffer.len(), stride, ..RecvMeta::default() };
        let mut others = Vec::new();
        sift(buffer, &mut meta, |datagram| others.push(datagram.to_vec()));
        (meta.len, others)
    }

    #[test]
    fn a_buffer_of_quic_alone_is_left_as_it_is() {
        let mut buffer = *b"\xc01234\x401234\x4012";
        assert_eq!(sifted(&mut buffer, 5), (13, vec![]));
        assert_eq!(&buffer, b"\xc01234\x401234\x4012");
    }

    #[test]
    fn what_is_not_quic_is_taken_out() {
        let mut buffer = *b"\x00aa\x40bb\x16cc\xc0dd\x85e";
        let (kept, others) = sifted(&mut buffer, 3);
        assert_eq!(&buffer[..kept], b"\x40bb\xc0dd");
        assert_eq!(others, [b"\x00aa".to_vec(), b"\x16cc".to_vec(), b"\x85e".to_vec()]);
    }

    #[test]
    fn nothing_and_nonsense_are_no_trouble() {
        assert_eq!(sifted(&mut [], 0), (0, vec![]));
        assert_eq!(sifted(&mut [0x40, 0x40], 0), (2, vec![]));
        let mut meta = RecvMeta { len: 100, stride: 50, ..RecvMeta::default() };
        sift(&mut [0x40; 60], &mut meta, |_| panic!("all of it is QUIC"));
        assert_eq!(meta.len, 60, "never more than there is");
    }

    proptest! {
        #[test]
        fn every_datagram_goes_one_way(
            firsts in proptest::collection::vec(any::<u8>(), 0..20),
            stride in 1_usize..40,
            last in 1_usize..40,
        ) {
            let mut buffer = Vec::new();
            for (number, first) in firsts.iter().enumerate() {
                let len = if number + 1 == firsts.len() { last.min(stride) } else { stride };
                let mut datagram = vec![number as u8; len];
                datagram[0] = *first;
                buffer.extend(datagram);
            }
            let before: Vec<_> = buffer.chunks(stride).map(<[u8]>::to_vec).collect();
            let (kept, others) = sifted(&mut buffer, stride);
            let (quic, rest): (Vec<_>, Vec<_>) =
                before.into_iter().partition(|datagram| Kind::of(datagram) == Some(Kind::Quic));
            prop_assert_eq!(buffer[..kept].chunks(stride).map(<[u8]>::to_vec).collect::<Vec<_>>(), quic);
            prop_assert_eq!(others, rest);
        }
    }
}
