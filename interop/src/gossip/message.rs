//! What is published: a message that says its own name, and by its bytes whether it came as it was sent.

use crate::streams::pattern;

/// Its name, a line feed, and the pattern, `size` bytes in all; more only where the name alone is longer.
pub(super) fn write(name: &str, size: usize) -> Vec<u8> {
    let mut message = format!("{name}\n").into_bytes();
    let rest = size.saturating_sub(message.len());
    message.extend((0..rest).map(pattern));
    message
}

/// The name of a message, and whether it is as it was written.
pub(super) fn read(message: &[u8]) -> (String, bool) {
    let name = message.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    let intact = write(&name, message.len()) == message;
    (name, intact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_altered_is_noticed() {
        let mut message = write("a", 1024);
        assert_eq!((message.len(), read(&message)), (1024, ("a".to_owned(), true)));
        message[1023] ^= 1;
        assert_eq!(read(&message), ("a".to_owned(), false));
        assert_eq!(read(&write("longer", 3)), ("longer".to_owned(), true));
        assert_eq!(read(b"no line"), ("no line".to_owned(), false));
    }
}
