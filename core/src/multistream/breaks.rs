use crate::varint;

/// The longest message that any implementation reads (go-libp2p; others stop at 16 KiB or 1 KiB).
const LONGEST: u64 = 64 * 1024;

/// Whether everybody who reads `bytes` as messages of multistream-select gives up over them, whatever follows: then they
/// may be sent before it is known that the other side takes them for something else.
///
/// That is so if the first message is there as a whole and is not a line, or has a length that nobody accepts. An
/// incomplete one may yet become a line.
pub fn breaks(bytes: &[u8]) -> bool {
    match varint::decode(bytes) {
        // Some read lengths that are not in their shortest form.
        Ok(None) | Err(varint::Error::NotMinimal) => false,
        Err(varint::Error::TooLong) | Ok(Some((0, _))) => true,
        Ok(Some((length, _))) if length > LONGEST => true,
        Ok(Some((length, prefix))) => {
            let message = bytes.get(prefix..).unwrap_or_default();
            let last = usize::try_from(length).ok().and_then(|length| message.get(length.checked_sub(1)?));
            last.is_some_and(|last| *last != b'\n')
        }
    }
}

/// Whether everybody who reads `bytes` as messages of multistream-select, and then the end of the stream, gives up without
/// having found a proposal: the first message is no line, or is not there as a whole.
pub fn breaks_at_its_end(bytes: &[u8]) -> bool {
    match varint::decode(bytes) {
        Ok(None) => true,
        Err(varint::Error::NotMinimal) => false,
        Ok(Some((length, prefix))) => {
            let rest = bytes.len().saturating_sub(prefix);
            breaks(bytes) || usize::try_from(length).map_or(true, |length| length > rest)
        }
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Listener, *};

    #[test]
    fn what_breaks_a_negotiation_and_what_may_not() {
        for (bytes, broken) in [
            (&b"\x03/a\n"[..], false),
            (b"\x03ls\n\x00", false),
            (b"", false),
            (b"\x80", false),
            (b"\x05ab", false),
            (b"\x05abcd", false),
            (b"\x05abcd\n", false),
            (b"\x05abcde", true),
            (b"\x05abcdefgh", true),
            (b"\x00", true),
            // The first message of noise, and of TLS.
            (b"\x00\x20abcdefghijklmnopqrstuvwxyz012345", true),
            (b"\x80\x80\x04", false),
            (b"\x81\x80\x04", true),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", true),
            (b"\x85\x00abcde", false),
            (b"GET / HTTP/1.1\r\n", false),
        ] {
            assert_eq!(breaks(bytes), broken, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn what_is_no_proposal_if_nothing_follows() {
        for (bytes, nothing) in [
            (&b""[..], true),
            (b"\x80", true),
            (b"\x05ab", true),
            (b"\x05abcd", true),
            (b"\x05abcde", true),
            (b"GET / HTTP/1.1\r\n", true),
            (b"\x05abcd\n", false),
            (b"\x03ls\n", false),
            (b"\x85\x00abcde", false),
        ] {
            assert_eq!(breaks_at_its_end(bytes), nothing, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    proptest! {
        #[test]
        fn no_listener_is_asked_for_what_is_no_proposal(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assume!(breaks_at_its_end(&bytes));
            let mut listener = Listener::new();
            listener.handle_input(b"\x13/multistream/1.0.0\n\x03/x\n", |_| None).unwrap();
            let mut asked = false;
            let read = listener.handle_input(&bytes, |_| {
                asked = true;
                None
            });
            prop_assert!(!asked && (read.is_err() || listener.handle_end().is_err()));
        }

        #[test]
        fn no_listener_survives_what_breaks(first in prop::collection::vec(any::<u8>(), 0..300), more: Vec<u8>) {
            prop_assume!(breaks(&first));
            let mut listener = Listener::new();
            listener.handle_input(b"\x13/multistream/1.0.0\n\x03/x\n", |_| None).unwrap();
            let all = [first, more].concat();
            prop_assert!(listener.handle_input(&all, |_| None).is_err());
        }
    }
}
