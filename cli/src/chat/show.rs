//! What a participant sees.

use std::fmt::Display;

use jiff::{Timestamp, Zoned};
use peerage::{Multiaddr, PeerId};
use serde::Serialize;

use super::{
    invocation,
    screen::{Bar, Entry, Model, Screen},
};
use crate::{failure::Failure, output::Output};

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Listening {
        peer: String,
        addrs: Vec<String>,
        name: &'a str,
    },
    Joined {
        time: String,
        peer: String,
        name: &'a str,
    },
    Said {
        time: String,
        peer: String,
        name: &'a str,
        text: &'a str,
    },
    /// To this one alone.
    Direct {
        time: String,
        peer: String,
        name: &'a str,
        text: &'a str,
    },
    Left {
        time: String,
        peer: String,
        name: &'a str,
        why: Option<&'a str>,
    },
    Unreachable {
        time: String,
        peer: String,
        why: &'a str,
    },
}

/// Says what happens in the room. Names and texts that come here are clean.
pub(super) struct Show {
    out: Output,
    me: PeerId,
    name: String,
    /// Where it is shown, if not line by line.
    screen: Option<Screen>,
}

impl Show {
    pub(super) fn new(out: Output, me: PeerId, name: String, screen: Option<Screen>) -> Self {
        Self { out, me, name, screen }
    }

    /// Who we are, whom we join, and how others join.
    pub(super) fn welcome(&self, addresses: &[Multiaddr], joins: Option<PeerId>) -> Result<(), Failure> {
        let addrs: Vec<String> = addresses.iter().map(Multiaddr::to_string).collect();
        if let Some(screen) = &self.screen {
            screen.update(|model| greet(model, self.me, &addrs, joins));
            return Ok(());
        }
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
        text +=
            &paint.dim("Type a line to say it; /send NAME FILE offers a file. Ctrl-D leaves.").to_string();
        self.out.say(&Event::Listening { peer: self.me.to_string(), addrs, name: &self.name }, text)
    }

    /// Who we are, in which room, and how others come into it.
    pub(super) fn welcome_to_room(
        &self,
        room: &str,
        addresses: &[Multiaddr],
        finds: bool,
    ) -> Result<(), Failure> {
        let addrs: Vec<String> = addresses.iter().map(Multiaddr::to_string).collect();
        let command = invocation::command();
        let mut ways: Vec<String> =
            finds.then(|| format!("{command} chat --room {room}")).into_iter().collect();
        ways.extend(addrs.iter().map(|address| format!("{command} chat --room {room} {address}")));
        let hint = "/msg NAME TEXT says something to one alone, /send NAME FILE offers a file, /who tells who is here, \
                    Ctrl-D leaves.";
        if let Some(screen) = &self.screen {
            screen.update(|model| {
                model.add(Entry::Note { text: format!("You are peer {}, in room {room}.", self.me) });
                model.add(Entry::Note { text: "Others come in with".to_owned() });
                for text in ways {
                    model.add(Entry::Command { text });
                }
                model.add(Entry::Note { text: hint.to_owned() });
            });
            return Ok(());
        }
        let paint = self.out.paint();
        let mut text = format!("You are {}, peer {}, in room {room}.\n", paint.bold(&self.name), self.me);
        for (nth, way) in ways.iter().enumerate() {
            let head = if nth == 0 { "Others come in with" } else { "or with" };
            text += &format!("{head}\n\n  {}\n\n", paint.bold(way));
        }
        text += &paint.dim(hint).to_string();
        self.out.say(&Event::Listening { peer: self.me.to_string(), addrs, name: &self.name }, text)
    }

    /// Said to us alone.
    pub(super) fn whispered(&self, peer: PeerId, name: &str, text: &str) -> Result<(), Failure> {
        if let Some(screen) = &self.screen {
            let (name, text) = (format!("{name} to you"), text.to_owned());
            screen.update(|model| model.add(Entry::Said { time: clock(), peer, name, text }));
            return Ok(());
        }
        let event = Event::Direct { time: now(), peer: peer.to_string(), name, text };
        self.line(&event, format_args!("{} to you: {text}", self.paint(peer, name)))
    }

    pub(super) fn joined(&self, peer: PeerId, name: &str) -> Result<(), Failure> {
        if let Some(screen) = &self.screen {
            screen.update(|model| {
                model.joined(peer, name);
                model.add(happened(format!("{name} joined")));
            });
            return Ok(());
        }
        let event = Event::Joined { time: now(), peer: peer.to_string(), name };
        self.line(&event, format_args!("{} joined", self.paint(peer, name)))
    }

    pub(super) fn said(&self, peer: PeerId, name: &str, text: &str) -> Result<(), Failure> {
        if let Some(screen) = &self.screen {
            let (name, text) = (name.to_owned(), text.to_owned());
            screen.update(|model| model.add(Entry::Said { time: clock(), peer, name, text }));
            return Ok(());
        }
        let event = Event::Said { time: now(), peer: peer.to_string(), name, text };
        self.line(&event, format_args!("{}: {text}", self.paint(peer, name)))
    }

    pub(super) fn left(&self, peer: PeerId, name: &str, why: Option<&str>) -> Result<(), Failure> {
        let because = why.map(|why| format!(": {why}")).unwrap_or_default();
        if let Some(screen) = &self.screen {
            screen.update(|model| {
                model.left(peer);
                model.add(happened(format!("{name} left{because}")));
            });
            return Ok(());
        }
        let event = Event::Left { time: now(), peer: peer.to_string(), name, why };
        self.line(&event, format_args!("{} left{because}", self.paint(peer, name)))
    }

    /// Somebody who was introduced, or who knocked, and is not heard or not spoken to.
    pub(super) fn unreachable(&self, peer: PeerId, why: &str) -> Result<(), Failure> {
        let text = format!("{peer} is not in this chat with you: {why}");
        if let Some(screen) = &self.screen {
            screen.update(|model| model.add(happened(text)));
            return Ok(());
        }
        self.line(&Event::Unreachable { time: now(), peer: peer.to_string(), why }, text)
    }

    /// Something that there is no other word for.
    pub(super) fn happened(&self, event: &impl Serialize, text: String) -> Result<(), Failure> {
        if let Some(screen) = &self.screen {
            screen.update(|model| model.add(happened(text)));
            return Ok(());
        }
        self.line(event, text)
    }

    /// What the user asked for cannot be done. People get advice, and programs an event.
    pub(super) fn not_done(&self, event: &impl Serialize, text: impl Display) -> Result<(), Failure> {
        self.note(text);
        if self.is_for_programs() { self.out.say(event, "") } else { Ok(()) }
    }

    /// How far something is. A screen has a bar for it.
    pub(super) fn progress(&self, event: &impl Serialize, text: String) -> Result<(), Failure> {
        if self.is_for_programs() {
            return self.out.say(event, "");
        }
        if self.screen.is_none() {
            self.out.note(text);
        }
        Ok(())
    }

    /// Whether events are shown, and not words.
    pub(super) fn is_for_programs(&self) -> bool {
        self.out.is_json()
    }

    /// The bars of files that move, and how many are offered to this one.
    pub(super) fn files(&self, files: impl FnOnce() -> (Vec<Bar>, usize)) {
        if let Some(screen) = &self.screen {
            let (bars, offers) = files();
            screen.update_if(|model| model.show_files(bars, offers));
        }
    }

    pub(super) fn who(&self, names: &[String]) {
        match names {
            [] => self.note("Nobody else is here."),
            names => self.note(format_args!("Here: {}", names.join(", "))),
        }
    }

    /// Advice, which is for people.
    pub(super) fn note(&self, text: impl Display) {
        match &self.screen {
            Some(screen) => screen.update(|model| model.add(Entry::Note { text: text.to_string() })),
            None => self.out.note(text),
        }
    }

    fn line(&self, event: &impl Serialize, text: impl Display) -> Result<(), Failure> {
        let paint = self.out.paint();
        self.out.say(event, format_args!("{} {text}", paint.dim(clock())))
    }

    fn paint(&self, peer: PeerId, name: &str) -> String {
        // The last byte of an id is as good as random.
        let seed = peer.as_bytes().last().copied().unwrap_or_default();
        self.out.paint().one_of(seed, name).to_string()
    }
}

/// What one said, which only a screen has to repeat: a terminal shows what is typed.
impl Show {
    pub(super) fn whispered_by_me(&self, to: &str, text: &str) {
        if let Some(screen) = &self.screen {
            let (name, text) = (format!("{} to {to}", self.name), text.to_owned());
            screen.update(|model| model.add(Entry::Said { time: clock(), peer: self.me, name, text }));
        }
    }

    pub(super) fn said_by_me(&self, text: &str) {
        if let Some(screen) = &self.screen {
            let (name, text) = (self.name.clone(), text.to_owned());
            screen.update(|model| model.add(Entry::Said { time: clock(), peer: self.me, name, text }));
        }
    }
}

fn greet(model: &mut Model, me: PeerId, addrs: &[String], joins: Option<PeerId>) {
    model.add(Entry::Note { text: format!("You are peer {me}.") });
    if let Some(peer) = joins {
        return model.add(Entry::Note { text: format!("You join {peer}.") });
    }
    model.add(Entry::Note { text: "To chat with you, others paste into a terminal:".to_owned() });
    let command = invocation::command();
    for address in addrs {
        model.add(Entry::Command { text: format!("{command} chat {address}") });
    }
}

fn happened(text: String) -> Entry {
    Entry::Happened { time: clock(), text }
}

/// For people, where they are.
fn clock() -> String {
    Zoned::now().strftime("%H:%M:%S").to_string()
}

/// For programs, in UTC.
pub(super) fn now() -> String {
    format!("{:.3}", Timestamp::now())
}
