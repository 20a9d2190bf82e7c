//! What participants of a named room tell each other: the messages of its topic, and what is said to one alone.
//!
//! A message is text. Its first line is a word and the author's name, and after it comes what was said:
//!
//! ```text
//! here ada                 I am here; again every ten seconds, and when somebody new is heard
//! say ada⏎hello everybody
//! leave ada
//! ```
//!
//! Who the author is needs no word: gossip proves it.

use peerage::{ProtocolId, pubsub::Topic};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::{
    chat::wire::{MAX_LINE, MAX_NAME, name},
    text::clean,
};

/// To one alone: a stream with a name, a line end and what is said; the listener closes its half when it has read it.
pub(super) const DIRECT: ProtocolId = ProtocolId::from_static("/peerage/chat/direct/1");
/// Bytes of a message; a name has characters of four bytes at most.
pub(super) const MAX_MESSAGE: usize = MAX_LINE + 4 * MAX_NAME + 8;
/// Characters of a room's name.
const MAX_ROOM: usize = 64;

/// What is heard in a room. Names and texts are clean; a name is empty if nothing is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Here(String),
    Said { name: String, text: String },
    Left(String),
}

impl Word {
    pub(super) fn encode(&self) -> String {
        match self {
            Self::Here(name) => format!("here {name}"),
            Self::Said { name, text } => format!("say {name}\n{text}"),
            Self::Left(name) => format!("leave {name}"),
        }
    }

    /// `None` for what is not understood, as a later version may say.
    pub(super) fn decode(data: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(data).ok().filter(|text| text.len() <= MAX_MESSAGE)?;
        let (head, body) = text.split_once('\n').unwrap_or((text, ""));
        let (word, called) = head.split_once(' ')?;
        let called = name(called);
        match word {
            "here" => Some(Self::Here(called)),
            "leave" => Some(Self::Left(called)),
            "say" => said(called, body),
            _ => None,
        }
    }
}

fn said(name: String, body: &str) -> Option<Word> {
    let text = clean(body);
    if text.trim().is_empty() { None } else { Some(Word::Said { name, text }) }
}

/// What a stream of [`DIRECT`] says.
pub(super) async fn read_direct(stream: &mut (impl AsyncRead + Unpin)) -> Option<Word> {
    let mut bytes = Vec::new();
    stream.take(MAX_MESSAGE as u64 + 1).read_to_end(&mut bytes).await.ok()?;
    let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= MAX_MESSAGE)?;
    let (called, body) = text.split_once('\n')?;
    said(name(called), body)
}

/// The topic of a room.
pub(super) fn topic(room: &str) -> Option<Topic> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = !room.is_empty() && room.chars().all(fits) && room.chars().count() <= MAX_ROOM;
    if good { Topic::new(format!("peerage/chat/1/{room}")).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        let ada = || "ada".to_owned();
        for word in [
            Word::Here(ada()),
            Word::Said { name: ada(), text: "hello, all of you".to_owned() },
            Word::Left(ada()),
        ] {
            assert_eq!(Word::decode(word.encode().as_bytes()), Some(word));
        }
    }

    #[test]
    fn what_is_not_understood_says_nothing() {
        for data in
            [&b""[..], b"here", b"dance ada", b"say ada", b"say ada\n \n", b"say ada\n\x07", b"here \xff"]
        {
            assert_eq!(Word::decode(data), None, "{data:?}");
        }
        let text = "x".repeat(MAX_MESSAGE - "say ada\n".len());
        assert!(Word::decode(format!("say ada\n{text}").as_bytes()).is_some());
        assert!(Word::decode(format!("say ada\n{text}x").as_bytes()).is_none());
    }

    #[test]
    fn nothing_that_moves_a_cursor_comes_through() {
        let word = Word::decode(b"say a\x1b[1mda\nhello\x1b[2J").unwrap();
        let Word::Said { name, text } = word else { panic!("{word:?}") };
        assert!(!name.contains('\x1b') && !text.contains('\x1b'), "{name:?} {text:?}");
    }

    #[tokio::test]
    async fn direct_words_have_a_limit() {
        let said = |text: &str| Word::Said { name: "ada".to_owned(), text: text.to_owned() };
        assert_eq!(read_direct(&mut &b"ada\npsst"[..]).await, Some(said("psst")));
        let text = "x".repeat(MAX_MESSAGE - "ada\n".len());
        assert_eq!(read_direct(&mut format!("ada\n{text}").as_bytes()).await, Some(said(&text)));
        assert_eq!(read_direct(&mut format!("ada\n{text}x").as_bytes()).await, None);
        assert_eq!(read_direct(&mut &b"no line end"[..]).await, None);
    }

    #[test]
    fn names_of_rooms() {
        assert!(topic("tea-room_2.Straße").is_some());
        for wrong in ["", "a room", "a/b", "a\n"] {
            assert!(topic(wrong).is_none(), "{wrong:?}");
        }
        assert!(topic(&"x".repeat(MAX_ROOM)).is_some() && topic(&"x".repeat(MAX_ROOM + 1)).is_none());
    }
}
