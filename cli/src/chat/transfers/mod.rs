//! Files in a chat: what the user says about them, and what the user is told.

mod progress;
mod tell;

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    path::PathBuf,
    time::Duration,
};

use peerage::{Node, PeerId};
use peerage_cli::files::{self, CommandError, Config, Direction, Files, Happened, State, Transfer};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use self::progress::Progress;
use super::show::Show;
use crate::{args::Chat, failure::Failure};

/// What there is to say about files.
pub(super) const HELP: &str =
    "/send NAME FILE offers a file to one; /accept and /decline answer, /cancel stops one, /files lists them";

/// Files that wait for somebody to be there.
const MAX_WAITING: usize = files::MAX_OUTGOING;
/// So long those to whom they go are waited for, once anybody is there.
const LOOKING: Duration = Duration::from_secs(5);
/// How often it is looked how far they are.
const TICK: Duration = Duration::from_millis(250);

/// Who is there.
pub(super) trait People {
    /// Whether anybody is, and nobody is still on the way.
    fn are_here(&self) -> bool;
    fn is_here(&self, peer: PeerId) -> bool;
    fn called(&self, peer: PeerId) -> String;
    /// Whom somebody means by a name, or by the end of an id. `Err` has all that it could mean.
    fn find(&self, meant: &str) -> Result<PeerId, Vec<String>>;
}

pub(super) struct Transfers {
    files: Files,
    /// To whom, and what.
    waiting: VecDeque<(String, PathBuf)>,
    /// Since when anybody is there, as far as something waits.
    looking: Option<Instant>,
    tick: Interval,
    progress: BTreeMap<u32, Progress>,
    /// Nothing more will be typed: nobody is there to be asked.
    ended: bool,
    /// What could not be sent since.
    unsent: Vec<String>,
}

/// What [`Transfers::handle`] is for.
pub(super) enum Event {
    Files(files::Event),
    Tick,
}

impl Transfers {
    pub(super) fn start(node: &Node, args: &Chat) -> Result<Self, Failure> {
        let mut config = Config::new(args.downloads.clone());
        config.max_size = args.max_file_size.0;
        let files = Files::start(node, config).map_err(|error| Failure::new(error.to_string()))?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            files,
            waiting: VecDeque::new(),
            looking: None,
            tick,
            progress: BTreeMap::new(),
            ended: false,
            unsent: Vec::new(),
        })
    }

    /// Whether anything is under way, or waits to be. After [`Transfers::end`] all of it ends by itself, except for what waits
    /// for somebody to be there.
    pub(super) fn are_busy(&self) -> bool {
        !self.waiting.is_empty() || self.files.transfers().next().is_some()
    }

    /// What the user typed, if it is about files: `false` if it is not.
    pub(super) fn command(&mut self, word: &str, rest: &str, people: &impl People, show: &Show) -> bool {
        let rest = rest.trim();
        match word {
            "send" => self.send(rest, people, show),
            "accept" => self.answer(rest, Transfer::is_open_offer, show, |this, id| {
                this.files.accept(id)?;
                this.progress.insert(id, Progress::new(Instant::now()));
                Ok(())
            }),
            "decline" => self.answer(rest, Transfer::is_open_offer, show, |this, id| this.files.decline(id)),
            "cancel" => self.answer(rest, |_| true, show, |this, id| this.files.cancel(id)),
            "files" => self.list(people, show),
            _ => return false,
        }
        true
    }

    fn send(&mut self, rest: &str, people: &impl People, show: &Show) {
        let Some((meant, path)) = rest.split_once(' ').filter(|(_, path)| !path.trim().is_empty()) else {
            return show.note("/send wants a name and a file: /send ada report.pdf");
        };
        let path = path_of(path.trim());
        if people.are_here() {
            return self.send_to(meant, path, people, show);
        }
        if self.waiting.len() >= MAX_WAITING {
            return show.note(CommandError::TooMany);
        }
        show.note(format_args!("Nobody is here yet: {} is offered once {meant} is.", path.display()));
        self.waiting.push_back((meant.to_owned(), path));
    }

    fn send_to(&mut self, meant: &str, path: PathBuf, people: &impl People, show: &Show) {
        let file = path.display().to_string();
        let sent = match people.find(meant) {
            Ok(peer) => self.files.send(peer, path).map(drop).map_err(|error| error.to_string()),
            Err(found) if found.is_empty() => {
                Err(format!("nobody here is called {meant}; /who tells who is"))
            }
            Err(found) => Err(format!("{meant} may be {}", found.join(" or "))),
        };
        if let Err(why) = sent {
            show.note(format_args!("{file} is not sent: {why}"));
            if self.ended {
                self.unsent.push(file);
            }
        }
    }

    /// Offers what waited for somebody to be there.
    pub(super) fn speak(&mut self, people: &impl People, show: &Show) {
        if self.waiting.is_empty() || !people.are_here() {
            self.looking = None;
            return;
        }
        let late = self.looking.get_or_insert_with(Instant::now).elapsed() >= LOOKING;
        for (meant, path) in std::mem::take(&mut self.waiting) {
            let unknown = people.find(&meant).is_err_and(|found| found.is_empty());
            if unknown && !late {
                self.waiting.push_back((meant, path));
            } else {
                self.send_to(&meant, path, people, show);
            }
        }
    }

    /// Does what the user says about the file of a number, or about the only one there is.
    fn answer(
        &mut self,
        rest: &str,
        fits: impl Fn(&Transfer) -> bool,
        show: &Show,
        act: impl FnOnce(&mut Self, u32) -> Result<(), CommandError>,
    ) {
        let mut fitting = self.files.transfers().filter(|one| fits(one)).map(|one| one.id);
        let id = match (rest, fitting.next(), fitting.next()) {
            ("", None, _) => return show.note("There is no file to say that about."),
            ("", Some(only), None) => only,
            ("", Some(_), Some(_)) => return show.note("Which file? /files lists their numbers."),
            (number, ..) => match number.parse() {
                Ok(id) => id,
                Err(_) => return show.note("Files have numbers; /files lists them."),
            },
        };
        drop(fitting);
        if let Err(error) = act(self, id) {
            show.note(error);
        }
    }

    fn list(&self, people: &impl People, show: &Show) {
        if self.files.transfers().next().is_none() {
            return show.note("No files are on their way.");
        }
        for one in self.files.transfers() {
            show.note(tell::line(one, &people.called(one.peer)));
        }
    }

    /// Nothing more will be typed: what is offered now is declined.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.files.close();
    }

    /// The next thing for [`Transfers::handle`]. It may be dropped without losing any.
    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            event = self.files.next() => Event::Files(event),
            _ = self.tick.tick() => Event::Tick,
        }
    }

    pub(super) fn handle(&mut self, event: Event, people: &impl People, show: &Show) -> Result<(), Failure> {
        match event {
            Event::Files(event) => {
                let happened = self.files.handle(event, |peer| people.is_here(peer));
                happened.into_iter().try_for_each(|happened| self.happened(&happened, people, show))?;
                self.draw(people, show);
                Ok(())
            }
            Event::Tick => {
                let happened = self.files.sweep(|peer| people.is_here(peer));
                happened.iter().try_for_each(|happened| self.happened(happened, people, show))?;
                self.speak(people, show);
                self.tell_progress(people, show)
            }
        }
    }

    fn happened(&mut self, happened: &Happened, people: &impl People, show: &Show) -> Result<(), Failure> {
        match happened {
            Happened::Accepted(transfer) => {
                self.progress.insert(transfer.id, Progress::new(Instant::now()));
            }
            Happened::Failed { transfer, .. } if self.ended && transfer.direction == Direction::Out => {
                self.unsent.push(transfer.name.clone());
            }
            _ => {}
        }
        let took = match happened {
            Happened::Done { transfer, .. } | Happened::Failed { transfer, .. } => {
                self.progress.remove(&transfer.id).map(|progress| progress.elapsed(Instant::now()))
            }
            _ => None,
        };
        tell::happened(happened, took, self.files.config(), people, show)
    }

    fn tell_progress(&mut self, people: &impl People, show: &Show) -> Result<(), Failure> {
        let now = Instant::now();
        for one in self.files.transfers() {
            let Some(progress) = self.progress.get_mut(&one.id) else { continue };
            let due = progress.update(one.moved(), now, tell::pause(show));
            if due && one.state == State::Moving {
                tell::progress(one, &people.called(one.peer), progress.rate(), show)?;
            }
        }
        self.draw(people, show);
        Ok(())
    }

    /// Shows the bars, where there is a screen.
    fn draw(&self, people: &impl People, show: &Show) {
        show.files(|| {
            let moving = self.files.transfers().filter(|one| one.state == State::Moving);
            let bars = moving.map(|one| {
                let rate = self.progress.get(&one.id).map_or(0, Progress::rate);
                tell::bar(one, &people.called(one.peer), rate)
            });
            (bars.collect(), self.files.transfers().filter(|one| one.is_open_offer()).count())
        });
    }

    /// Ends all that is under way, and removes what is not complete. What is not sent therefore, and what was not before.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        let outgoing = self.files.transfers().filter(|one| one.direction == Direction::Out);
        self.unsent.extend(outgoing.map(|one| one.name.clone()));
        self.unsent.extend(self.waiting.drain(..).map(|(_, path)| path.display().to_string()));
        self.files.stop().await;
        std::mem::take(&mut self.unsent)
    }
}

/// A failure, if something was not sent.
pub(super) fn all_sent(unsent: &[String]) -> Result<(), Failure> {
    if unsent.is_empty() { Ok(()) } else { Err(Failure::new(format!("not sent: {}", unsent.join(", ")))) }
}

/// A path as people type it: with quotes around it, or from the home directory on.
fn path_of(typed: &str) -> PathBuf {
    let quoted = ['"', '\''].into_iter().find_map(|quote| typed.strip_prefix(quote)?.strip_suffix(quote));
    let home = || Some(env::home_dir()?.join(typed.strip_prefix("~/")?));
    match quoted {
        Some(inside) => PathBuf::from(inside),
        None => home().unwrap_or_else(|| PathBuf::from(typed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_typed_as_in_a_shell() {
        for (typed, path) in [
            ("a.txt", "a.txt"),
            ("my file", "my file"),
            ("'my file'", "my file"),
            ("\"~/x\"", "~/x"),
            ("'", "'"),
        ] {
            assert_eq!(path_of(typed), PathBuf::from(path), "{typed}");
        }
        assert_eq!(path_of("~/x"), env::home_dir().unwrap().join("x"));
    }
}
