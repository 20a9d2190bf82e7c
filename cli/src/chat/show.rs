//! What a participant sees.

use std::fmt::Display;

use jiff::{Timestamp, Zoned};
use peerage::{Multiaddr, PeerId};
use serde::Serialize;

use super::invocation;
use crate::{failure::Failure, output::Output};

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Listening { peer: String, addrs: Vec<String>, name: &'a str },
    Joined { time: String, peer: String, name: &'a str },
    Said { time: String, peer: String, name: &'a str, text: &'a str },
    Left { time: String, peer: String, name: &'a str, why: Option<&'a str> },
    Unreachable { time: String, peer: String, why: &'a str },
}

/// Says what happens in the room. Names and texts that come here are clean.
pub(super) struct Show {
    out: Output,
    me: PeerId,
    name: String,
}

impl Show {
    pub(super) fn new(out: Output, me: PeerId, name: String) -> Self {
        Self { out, me, name }
    }

    /// Who we are, whom we join, and how others join.
    pub(super) fn welcome(&self, addresses: &[Multiaddr], joins: Option<PeerId>) -> Result<(), Failure> {
        let addrs: Vec<String> = addresses.iter().map(Multiaddr::to_string).collect();
        let paint = self.out.paint();
        let mut text = format!("You are {}, peer {}.\n", paint.bold(&self.name), self.me);
        match (joins, addrs.split_first()) {
            (Some(peer), _) => text += &format!("You join {peer}.\n"),
            (None, Some((address, others))) => {
                let command = invocation::command();
                text += &format!("You are at {address}\nTo chat with you, others paste into a terminal:\n");
                text += &format!("\n  {}\n\n", paint.bold(format_args!("{command} chat {address}")));
                for other in others {
                    text += &format!("  or with {other}\n");
                }
            }
            (None, None) => {}
        }
        text += &paint.dim("Type a line to say it. Ctrl-D leaves.").to_string();
        self.out.say(&Event::Listening { peer: self.me.to_string(), addrs, name: &self.name }, text)
    }

    pub(super) fn joined(&self, peer: PeerId, name: &str) -> Result<(), Failure> {
        let event = Event::Joined { time: now(), peer: peer.to_string(), name };
        self.line(&event, format_args!("{} joined", self.paint(peer, name)))
    }

    pub(super) fn said(&self, peer: PeerId, name: &str, text: &str) -> Result<(), Failure> {
        let event = Event::Said { time: now(), peer: peer.to_string(), name, text };
        self.line(&event, format_args!("{}: {text}", self.paint(peer, name)))
    }

    pub(super) fn left(&self, peer: PeerId, name: &str, why: Option<&str>) -> Result<(), Failure> {
        let event = Event::Left { time: now(), peer: peer.to_string(), name, why };
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        self.line(&event, format_args!("{} left{why}", self.paint(peer, name)))
    }

    /// Somebody who was introduced, or who knocked, and is not heard or not spoken to.
    pub(super) fn unreachable(&self, peer: PeerId, why: &str) -> Result<(), Failure> {
        let event = Event::Unreachable { time: now(), peer: peer.to_string(), why };
        self.line(&event, format_args!("{peer} is not in this chat with you: {why}"))
    }

    /// Advice, which is for people.
    pub(super) fn note(&self, text: impl Display) {
        self.out.note(text);
    }

    fn line(&self, event: &Event<'_>, text: impl Display) -> Result<(), Failure> {
        let paint = self.out.paint();
        self.out.say(event, format_args!("{} {text}", paint.dim(Zoned::now().strftime("%H:%M:%S"))))
    }

    fn paint(&self, peer: PeerId, name: &str) -> String {
        // The last byte of an id is as good as random.
        let seed = peer.as_bytes().last().copied().unwrap_or_default();
        self.out.paint().one_of(seed, name).to_string()
    }
}

/// For programs, in UTC.
fn now() -> String {
    format!("{:.3}", Timestamp::now())
}
