use super::{Error, MAX_LINES};
use crate::frame;

/// The most bytes of one message, its line feed included and its length prefix not.
pub const MAX_MESSAGE_LEN: usize = 1024;

/// Appends `text` as a message. It is at most a protocol's name, far below [`MAX_MESSAGE_LEN`].
pub(super) fn write(text: &str, out: &mut Vec<u8>) {
    frame::encode(&[text.as_bytes(), b"\n"].concat(), out);
}

/// Reads lines, and counts them.
#[derive(Debug)]
pub(super) struct Reader {
    decoder: frame::Decoder,
    lines: usize,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader { decoder: frame::Decoder::new(MAX_MESSAGE_LEN), lines: 0 }
    }

    /// Takes the next line off the front of `input`, and nothing behind it. The line feed is cut off.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<String>, Error> {
        let Some(message) = self.decoder.decode(input).map_err(Error::Frame)? else {
            return Ok(None);
        };
        self.lines = self.lines.saturating_add(1);
        if self.lines > MAX_LINES {
            return Err(Error::TooManyLines);
        }
        match message.split_last() {
            Some((b'\n', line)) if !line.contains(&b'\n') => {
                String::from_utf8(line.to_vec()).map(Some).map_err(|_| Error::NotALine)
            }
            _ => Err(Error::NotALine),
        }
    }
}
