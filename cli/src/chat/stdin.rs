//! What the user types.

use std::{
    io::{self, BufRead, Read as _},
    thread,
};

use tokio::sync::mpsc;

use super::wire::MAX_LINE;
use crate::failure::Failure;

/// Lines that were read and not taken. More stay where they come from.
const AHEAD: usize = 16;

/// The lines of standard input. The channel closes after the last one.
///
/// A thread of its own: reading a terminal cannot be cancelled, and shall not hold up the end of the program.
pub(super) fn lines() -> Result<mpsc::Receiver<String>, Failure> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let read = move || {
        let mut input = io::stdin().lock();
        let mut pending = Vec::new();
        while let Ok(Some(line)) = next(&mut input, &mut pending) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(read)
        .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
    Ok(receiver)
}

/// The next line without its end, or the next [`MAX_LINE`] bytes of a longer one, cut between two characters.
fn next(input: &mut impl BufRead, pending: &mut Vec<u8>) -> io::Result<Option<String>> {
    let room = MAX_LINE.saturating_sub(pending.len());
    let read = input.by_ref().take(room as u64).read_until(b'\n', pending)?;
    if pending.is_empty() {
        return Ok(None);
    }
    let ends = pending.last() == Some(&b'\n');
    let cut = if ends || read < room { pending.len() } else { whole_characters(pending) };
    let line = String::from_utf8_lossy(pending.get(..cut).unwrap_or_default()).into_owned();
    pending.drain(..cut);
    Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// How many bytes there are before a character that has only begun.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8]) -> Vec<String> {
        let mut pending = Vec::new();
        std::iter::from_fn(|| next(&mut input, &mut pending).unwrap()).collect()
    }

    #[test]
    fn lines_come_without_their_ends() {
        assert_eq!(all(b"one\r\ntwo\n\nlast"), ["one", "two", "", "last"]);
        assert!(all(b"").is_empty());
        assert_eq!(all(b"a\xffb\n"), ["a\u{fffd}b"]);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let long = format!("{}é{}", "x".repeat(MAX_LINE - 1), "y".repeat(MAX_LINE));
        let cut = all(long.as_bytes());
        assert!(cut.iter().all(|line| line.len() <= MAX_LINE));
        assert_eq!(cut.len(), 3);
        assert_eq!(cut.concat(), long);
        assert_eq!(
            all(format!("{}\nz", "x".repeat(MAX_LINE)).as_bytes()).concat(),
            format!("{}z", "x".repeat(MAX_LINE))
        );
    }
}
