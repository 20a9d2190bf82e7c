//! `/peerage/chat/1`: lines of UTF-8 on a stream that only its opener speaks on.
//!
//! First a greeting, up to an empty line; after it, every line is something said. The end of the stream means that
//! the speaker leaves, and whoever hears it closes the other half once everything was read.
//!
//! ```text
//! name ada
//! at /ip4/127.0.0.1/tcp/40123                       where others reach the speaker
//! peer /ip4/127.0.0.1/tcp/40456/p2p/12D3KooW...     where the speaker reaches somebody else
//!
//! hello everybody
//! ```

use std::{io, time::Duration};

use peerage::{Multiaddr, PeerId, ProtocolId};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use crate::text::clean;

pub(super) const PROTOCOL: ProtocolId = ProtocolId::from_static("/peerage/chat/1");
/// Bytes of a line, its end not counted.
pub(super) const MAX_LINE: usize = 4096;
/// Characters of a name.
pub(super) const MAX_NAME: usize = 24;
/// Addresses that are kept of one participant.
pub(super) const MAX_ADDRESSES: usize = 4;
/// Participants of a room, beside oneself.
pub(super) const MAX_PARTICIPANTS: usize = 32;
/// Lines of a greeting: a name, one's own addresses, those of all others, and some of a later version.
const MAX_GREETING: usize = 16 + MAX_ADDRESSES + MAX_PARTICIPANTS * MAX_ADDRESSES;
/// How long a greeting may take.
pub(super) const GREETING: Duration = Duration::from_secs(10);

/// What a speaker says first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Clean; empty if there is nothing in it that a name may have.
    pub(super) name: String,
    /// Where the speaker is reached.
    pub(super) addresses: Vec<Multiaddr>,
    /// Whom else the speaker is connected with, and where.
    pub(super) others: Vec<(PeerId, Multiaddr)>,
}

/// Why a speaker is not listened to any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    #[error("a line of more than {MAX_LINE} bytes")]
    LongLine,
    #[error("a line that does not end")]
    Truncated,
    #[error("a line that is not UTF-8")]
    NotText,
    #[error("a greeting of more than {MAX_GREETING} lines")]
    LongGreeting,
    #[error("it left without a word")]
    NoGreeting,
    #[error("no greeting within {} s", GREETING.as_secs())]
    LateGreeting,
}

/// What is left of a name: letters, digits and `-_.`. Nothing that could imitate how names are told apart.
pub(super) fn name(text: &str) -> String {
    let fits = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    clean(text).chars().filter(fits).take(MAX_NAME).collect()
}

impl Greeting {
    pub(super) fn encode(&self) -> String {
        let mut text = format!("name {}\n", self.name);
        for address in self.addresses.iter().take(MAX_ADDRESSES) {
            text += &format!("at {address}\n");
        }
        for (peer, address) in self.others.iter().take(MAX_PARTICIPANTS * MAX_ADDRESSES) {
            if let Ok(address) = address.with_peer(*peer) {
                text += &format!("peer {address}\n");
            }
        }
        text + "\n"
    }

    pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Self, Error> {
        let reading = tokio::time::timeout(GREETING, Self::read_lines(from));
        reading.await.unwrap_or(Err(Error::LateGreeting))
    }

    async fn read_lines(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Self, Error> {
        let mut greeting = Self::default();
        for _ in 0..MAX_GREETING {
            let line = read_line(from).await?.ok_or(Error::NoGreeting)?;
            if line.is_empty() {
                return Ok(greeting);
            }
            greeting.add(&line);
        }
        Err(Error::LongGreeting)
    }

    /// What is not understood, or is too much, is left out: a later version may say more.
    fn add(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("name", text)) => self.name = name(text),
            Some(("at", text)) if self.addresses.len() < MAX_ADDRESSES => {
                self.addresses.extend(text.parse::<Multiaddr>().map(|address| address.split_peer().0));
            }
            Some(("peer", text)) if self.others.len() < MAX_PARTICIPANTS * MAX_ADDRESSES => {
                if let Ok((address, Some(peer))) =
                    text.parse::<Multiaddr>().map(|address| address.split_peer())
                {
                    self.others.push((peer, address));
                }
            }
            _ => {}
        }
    }
}

/// The next line without its end; `None` at the end of the stream.
pub(super) async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<String>, Error> {
    let mut bytes = Vec::new();
    from.take(MAX_LINE as u64 + 1).read_until(b'\n', &mut bytes).await?;
    match bytes.pop() {
        None => Ok(None),
        Some(b'\n') => String::from_utf8(bytes).map(Some).map_err(|_| Error::NotText),
        Some(_) if bytes.len() < MAX_LINE => Err(Error::Truncated),
        Some(_) => Err(Error::LongLine),
    }
}

#[cfg(test)]
mod tests {
    use peerage::Keypair;

    use super::*;

    async fn greeting(text: &str) -> Result<Greeting, Error> {
        Greeting::read(&mut text.as_bytes()).await
    }

    #[tokio::test]
    async fn greetings_round_trip() {
        let sent = Greeting {
            name: "ada".to_owned(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()],
            others: vec![(Keypair::generate().peer_id(), "/ip4/127.0.0.1/tcp/2".parse().unwrap())],
        };
        assert_eq!(greeting(&sent.encode()).await.unwrap(), sent);
    }

    #[tokio::test]
    async fn what_is_not_understood_is_left_out() {
        let read =
            greeting("name ada\ncolour green\nat nowhere\npeer /ip4/127.0.0.1/tcp/2\nat\n\n").await.unwrap();
        assert_eq!(read, Greeting { name: "ada".to_owned(), ..Greeting::default() });
    }

    #[tokio::test]
    async fn greetings_have_an_end() {
        assert!(matches!(greeting("").await, Err(Error::NoGreeting)));
        assert!(matches!(greeting("name ada\n").await, Err(Error::NoGreeting)));
        assert!(matches!(greeting(&"at x\n".repeat(MAX_GREETING)).await, Err(Error::LongGreeting)));
        let most = "at /ip4/127.0.0.1/tcp/1\n".repeat(MAX_GREETING - 1) + "\n";
        assert_eq!(greeting(&most).await.unwrap().addresses.len(), MAX_ADDRESSES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_greeting_does_not_take_forever() {
        let (_silent, stream) = tokio::io::duplex(64);
        let read = Greeting::read(&mut tokio::io::BufReader::new(stream)).await;
        assert!(matches!(read, Err(Error::LateGreeting)));
    }

    #[tokio::test]
    async fn lines_have_a_limit() {
        let longest = "x".repeat(MAX_LINE) + "\n";
        assert_eq!(read_line(&mut longest.as_bytes()).await.unwrap().unwrap().len(), MAX_LINE);
        let longer = "x".repeat(MAX_LINE + 1) + "\n";
        assert!(matches!(read_line(&mut longer.as_bytes()).await, Err(Error::LongLine)));
        assert!(matches!(read_line(&mut &b"x"[..]).await, Err(Error::Truncated)));
        assert!(matches!(read_line(&mut &b"\xff\n"[..]).await, Err(Error::NotText)));
        assert!(read_line(&mut &b""[..]).await.unwrap().is_none());
    }

    #[test]
    fn names_imitate_nothing() {
        assert_eq!(name("\x1b[31mada (AJU5SA)\u{202e}"), "31madaAJU5SA");
        assert_eq!(name("Jürgen_李-2"), "Jürgen_李-2");
        assert_eq!(name(&"x".repeat(100)).len(), MAX_NAME);
        assert_eq!(name("\x07 \u{200d}"), "");
    }
}
