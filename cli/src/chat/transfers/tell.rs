//! What the user is told of files: in words, and as events for programs.

use std::time::Duration;

use peerage_cli::files::{Config, Direction, Happened, State, Transfer};
use serde::Serialize;

use super::People;
use crate::{
    args::Bytes,
    chat::{
        screen::Bar,
        show::{Show, now},
    },
    failure::Failure,
};

/// How often a program is told how far a file is.
const PAUSE_OF_PROGRAMS: Duration = Duration::from_secs(1);
/// And a person who has no bar to look at.
const PAUSE_OF_PEOPLE: Duration = Duration::from_secs(5);

/// `name` is that of the other participant, `peer` its id, `file` the name of the file; sizes and rates are in bytes.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "these are names of events, among those of the chat")]
enum Event<'a> {
    /// Somebody offers this one a file, and waits for so many seconds.
    FileOffer {
        #[serde(flatten)]
        file: File<'a>,
        seconds: u64,
    },
    /// A file of this one is offered.
    FileOffered {
        #[serde(flatten)]
        file: File<'a>,
    },
    /// And accepted.
    FileAccepted {
        #[serde(flatten)]
        file: File<'a>,
    },
    FileProgress {
        #[serde(flatten)]
        file: File<'a>,
        bytes: u64,
        percent: u64,
        rate: u64,
    },
    /// It arrived, whole.
    FileDone {
        #[serde(flatten)]
        file: File<'a>,
        path: Option<String>,
    },
    /// It did not. `unconfirmed` if it may have: all of it was sent, and the receiver did not say so.
    FileFailed {
        #[serde(flatten)]
        file: File<'a>,
        why: &'a str,
        unconfirmed: bool,
    },
    /// Somebody offered something that nobody was asked about.
    FileTurnedAway { time: String, peer: String, name: &'a str, why: &'a str },
    /// This one was told to send a file, which it does not even offer.
    FileNotSent { time: String, to: &'a str, file: &'a str, why: &'a str },
    /// What this one was told to do about files cannot be done.
    FileCommandFailed { time: String, command: &'a str, why: &'a str },
}

#[derive(Serialize)]
struct File<'a> {
    time: String,
    id: u32,
    direction: &'static str,
    peer: String,
    name: &'a str,
    file: &'a str,
    size: u64,
}

impl<'a> File<'a> {
    fn of(transfer: &'a Transfer, name: &'a str) -> Self {
        Self {
            time: now(),
            id: transfer.id,
            direction: match transfer.direction {
                Direction::In => "in",
                Direction::Out => "out",
            },
            peer: transfer.peer.to_string(),
            name,
            file: &transfer.name,
            size: transfer.size,
        }
    }
}

pub(super) fn happened(
    happened: &Happened,
    took: Option<Duration>,
    config: &Config,
    people: &impl People,
    show: &Show,
) -> Result<(), Failure> {
    let (transfer, why, unconfirmed) = match happened {
        Happened::TurnedAway { peer, why } => {
            let name = &people.called(*peer);
            let event = Event::FileTurnedAway { time: now(), peer: peer.to_string(), name, why };
            return show.happened(&event, format!("{name} offered a file that is not taken: {why}"));
        }
        Happened::Asked(transfer) | Happened::Offered(transfer) | Happened::Accepted(transfer) => {
            (transfer, "", false)
        }
        Happened::Done { transfer, .. } => (transfer, "", false),
        Happened::Failed { transfer, why, unconfirmed } => (transfer, why.as_str(), *unconfirmed),
        _ => return Ok(()),
    };
    let name = people.called(transfer.peer);
    let file = File::of(transfer, &name);
    let (id, size, peer) = (transfer.id, Bytes(transfer.size), transfer.peer);
    let what = quoted(&transfer.name);
    let incoming = transfer.direction == Direction::In;
    match happened {
        Happened::Asked(_) => {
            let seconds = config.offer_timeout.as_secs();
            let text = format!(
                "{name} (peer {peer}) offers you {what}, {size}: /accept {id} or /decline {id} within {seconds} s"
            );
            show.happened(&Event::FileOffer { file, seconds }, text)
        }
        Happened::Offered(_) => {
            let text =
                format!("{what}, {size}, is offered to {name} (peer {peer}); /cancel {id} withdraws it");
            show.happened(&Event::FileOffered { file }, text)
        }
        Happened::Accepted(_) => {
            show.happened(&Event::FileAccepted { file }, format!("{name} accepts {what}"))
        }
        Happened::Done { path, .. } => {
            let path = path.as_ref().map(|path| path.display().to_string());
            let took = took.map(|took| format!(", in {:.1} s", took.as_secs_f64())).unwrap_or_default();
            let text = match &path {
                Some(path) => format!("{what} of {name} is here, {size}{took}: {path}"),
                None => format!("{name} has {what}, {size}{took}"),
            };
            show.happened(&Event::FileDone { file, path }, text)
        }
        _ => {
            let text = if incoming {
                format!("{what} of {name} is not here: {why}")
            } else if unconfirmed {
                format!("{name} may have {what}, or not: {why}")
            } else {
                format!("{name} does not have {what}: {why}")
            };
            show.happened(&Event::FileFailed { file, why, unconfirmed }, text)
        }
    }
}

/// A file that is not even offered.
pub(super) fn not_sent(to: &str, file: &str, why: &str, show: &Show) -> Result<(), Failure> {
    let event = Event::FileNotSent { time: now(), to, file, why };
    show.not_done(&event, format_args!("{file} is not sent: {why}"))
}

/// A command that is none, or not now.
pub(super) fn command_failed(command: &str, why: &str, show: &Show) -> Result<(), Failure> {
    show.not_done(&Event::FileCommandFailed { time: now(), command, why }, why)
}

/// The user's word is heard; the bar may come later.
pub(super) fn taking(transfer: &Transfer, name: &str, show: &Show) {
    let (id, what) = (transfer.id, quoted(&transfer.name));
    show.note(format_args!("Taking {what} from {name}; /cancel {id} stops it."));
}

/// Quotes cannot be in a name that was offered: one sees where it ends.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// How often to tell how far a file is.
pub(super) fn pause(show: &Show) -> Duration {
    if show.is_for_programs() { PAUSE_OF_PROGRAMS } else { PAUSE_OF_PEOPLE }
}

pub(super) fn progress(transfer: &Transfer, name: &str, rate: u64, show: &Show) -> Result<(), Failure> {
    let (bytes, size) = (transfer.moved(), transfer.size);
    let percent = percent(bytes, size);
    let event = Event::FileProgress { file: File::of(transfer, name), bytes, percent, rate };
    let text = format!("{}: {}", label(transfer, name), amount(bytes, size, rate));
    show.progress(&event, text)
}

pub(super) fn bar(transfer: &Transfer, name: &str, rate: u64) -> Bar {
    let (moved, size) = (transfer.moved(), transfer.size);
    Bar { label: label(transfer, name), percent: percent(moved, size), amount: amount(moved, size, rate) }
}

/// A transfer, in a list of them.
pub(super) fn line(transfer: &Transfer, name: &str) -> String {
    let (moved, size) = (transfer.moved(), transfer.size);
    let state = match transfer.state {
        State::Preparing => "is read".to_owned(),
        State::Offered => format!("{}, is offered", Bytes(size)),
        State::Moving => format!("{} %, {} of {}", percent(moved, size), Bytes(moved), Bytes(size)),
    };
    format!("{}: {state}", label(transfer, name))
}

fn label(transfer: &Transfer, name: &str) -> String {
    let (id, file) = (transfer.id, quoted(&transfer.name));
    match transfer.direction {
        Direction::In => format!("{id} {file} from {name}"),
        Direction::Out => format!("{id} {file} to {name}"),
    }
}

fn amount(moved: u64, size: u64, rate: u64) -> String {
    format!("{} %, {} of {}, {}/s", percent(moved, size), Bytes(moved), Bytes(size), Bytes(rate))
}

/// Of an empty file, there is all.
fn percent(moved: u64, size: u64) -> u64 {
    let percent = u128::from(moved).saturating_mul(100).checked_div(u128::from(size));
    percent.and_then(|percent| u64::try_from(percent).ok()).unwrap_or(100).min(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_hundred() {
        for (moved, size, expected) in
            [(0, 10, 0), (5, 10, 50), (999, 1000, 99), (10, 10, 100), (0, 0, 100), (u64::MAX, u64::MAX, 100)]
        {
            assert_eq!(percent(moved, size), expected, "{moved} of {size}");
        }
    }
}
