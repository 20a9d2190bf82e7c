//! Files in a chat: what the user says about them, and what the user is told.

mod progress;
mod tell;

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::Duration,
};

use peerage::{Node, PeerId};
use peerage_cli::files::{self, CommandError, Config, Direction, Files, Happened, State, Transfer};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use self::progress::Progress;
use super::show::Show;
use crate::{Context, args::Chat, failure::Failure, text::count};

/// What there is to say about files.
pub(super) const HELP: &str =
    "/send NAME FILE offers a file to one; /accept and /decline answer, /cancel stops one, /files lists them";

/// Names of files that were not sent, which are told at the end. The others are counted.
const MAX_NAMED: usize = 16;
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
    /// Nobody looks at what is said: whether all was sent is told by how the command ends.
    scripted: bool,
    /// What was not sent, as far as that matters at the end.
    unsent: Unsent,
}

/// Files that were not sent.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    names: Vec<String>,
    more: usize,
}

/// Why a command about a file does nothing.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("There is no file to say that about.")]
    NoFile,
    #[error("Which file? /files lists their numbers.")]
    ManyFiles,
    #[error("Files have numbers; /files lists them.")]
    NoNumber,
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// What [`Transfers::handle`] is for.
pub(super) enum Event {
    Files(files::Event),
    Tick,
}

impl Transfers {
    pub(super) fn start(context: &Context, node: &Node, args: &Chat) -> Result<Self, Failure> {
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
            scripted: context.out.is_json() || !io::stdin().is_terminal(),
            unsent: Unsent::default(),
        })
    }

    /// Whether anything is under way, or waits to be. After [`Transfers::end`] all of it ends by itself, except for what waits
    /// for somebody to be there.
    pub(super) fn are_busy(&self) -> bool {
        !self.waiting.is_empty() || self.files.transfers().next().is_some()
    }

    /// What the user typed, if it is about files: `false` if it is not.
    pub(super) fn command(
        &mut self,
        word: &str,
        rest: &str,
        people: &impl People,
        show: &Show,
    ) -> Result<bool, Failure> {
        let rest = rest.trim();
        let done = match word {
            "send" => return self.send(rest, people, show).map(|()| true),
            "accept" => {
                self.which(rest, Transfer::is_open_offer).and_then(|id| self.accept(id, people, show))
            }
            "decline" => {
                self.which(rest, Transfer::is_open_offer).and_then(|id| Ok(self.files.decline(id)?))
            }
            "cancel" => self.which(rest, |_| true).and_then(|id| Ok(self.files.cancel(id)?)),
            "files" => {
                self.list(people, show);
                Ok(())
            }
            _ => return Ok(false),
        };
        match done {
            Ok(()) => Ok(true),
            Err(why) => {
                let command = format!("{word} {rest}");
                tell::command_failed(command.trim_end(), &why.to_string(), show).map(|()| true)
            }
        }
    }

    fn send(&mut self, rest: &str, people: &impl People, show: &Show) -> Result<(), Failure> {
        let Some((meant, path)) = rest.split_once(' ').filter(|(_, path)| !path.trim().is_empty()) else {
            self.not_sent(format!("/send {rest}"));
            let (command, why) =
                (format!("send {rest}"), "/send wants a name and a file: /send ada report.pdf");
            return tell::command_failed(command.trim_end(), why, show);
        };
        let path = path_of(path.trim());
        if people.are_here() || people.find(meant).is_ok() {
            return self.send_to(meant, path, people, show);
        }
        let file = path.display().to_string();
        if self.waiting.len() >= MAX_WAITING {
            let told = tell::not_sent(meant, &file, &CommandError::TooMany.to_string(), show);
            self.not_sent(file);
            return told;
        }
        show.note(format_args!("{meant} is not here yet: {file} is offered once {meant} is."));
        self.waiting.push_back((meant.to_owned(), path));
        Ok(())
    }

    fn send_to(
        &mut self,
        meant: &str,
        path: PathBuf,
        people: &impl People,
        show: &Show,
    ) -> Result<(), Failure> {
        let file = path.display().to_string();
        let sent = match people.find(meant) {
            Ok(peer) => self.files.send(peer, path).map(drop).map_err(|error| error.to_string()),
            Err(found) if found.is_empty() => {
                Err(format!("nobody here is called {meant}; /who tells who is"))
            }
            Err(found) => Err(format!("{meant} may be {}", found.join(" or "))),
        };
        let Err(why) = sent else { return Ok(()) };
        let told = tell::not_sent(meant, &file, &why, show);
        self.not_sent(file);
        told
    }

    /// Counts what fails and will not be tried again by whoever typed it.
    fn not_sent(&mut self, file: String) {
        if self.ended || self.scripted {
            self.unsent.add(file);
        }
    }

    /// Offers what waited for somebody to be there.
    pub(super) fn speak(&mut self, people: &impl People, show: &Show) -> Result<(), Failure> {
        for (meant, path) in std::mem::take(&mut self.waiting) {
            if people.find(&meant).is_ok() {
                self.send_to(&meant, path, people, show)?;
            } else {
                self.waiting.push_back((meant, path));
            }
        }
        if self.waiting.is_empty() || !people.are_here() {
            self.looking = None;
            return Ok(());
        }
        let late = self.looking.get_or_insert_with(Instant::now).elapsed() >= LOOKING;
        for (meant, path) in std::mem::take(&mut self.waiting) {
            let unknown = people.find(&meant).is_err_and(|found| found.is_empty());
            if unknown && !late {
                self.waiting.push_back((meant, path));
            } else {
                self.send_to(&meant, path, people, show)?;
            }
        }
        Ok(())
    }

    fn accept(&mut self, id: u32, people: &impl People, show: &Show) -> Result<(), Problem> {
        self.files.accept(id)?;
        self.progress.insert(id, Progress::new(Instant::now()));
        for one in self.files.transfers().filter(|one| one.id == id) {
            tell::taking(one, &people.called(one.peer), show);
        }
        Ok(())
    }

    /// The file of a number, or the only one of some that there is.
    fn which(&self, number: &str, fits: impl Fn(&Transfer) -> bool) -> Result<u32, Problem> {
        let mut fitting = self.files.transfers().filter(|one| fits(one)).map(|one| one.id);
        match (number, fitting.next(), fitting.next()) {
            ("", None, _) => Err(Problem::NoFile),
            ("", Some(only), None) => Ok(only),
            ("", Some(_), Some(_)) => Err(Problem::ManyFiles),
            (number, ..) => number.parse().map_err(|_| Problem::NoNumber),
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
                self.speak(people, show)?;
                self.tell_progress(people, show)
            }
        }
    }

    fn happened(&mut self, happened: &Happened, people: &impl People, show: &Show) -> Result<(), Failure> {
        match happened {
            Happened::Accepted(transfer) => {
                self.progress.insert(transfer.id, Progress::new(Instant::now()));
            }
            Happened::Failed { transfer, unconfirmed, .. } if transfer.direction == Direction::Out => {
                let perhaps = if *unconfirmed { " (which may have arrived)" } else { "" };
                self.not_sent(format!("{}{perhaps}", transfer.name));
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
    pub(super) async fn stop(&mut self) -> Unsent {
        for one in self.files.transfers().filter(|one| one.direction == Direction::Out) {
            self.unsent.add(one.name.clone());
        }
        for (_, path) in self.waiting.drain(..) {
            self.unsent.add(path.display().to_string());
        }
        self.files.stop().await;
        std::mem::take(&mut self.unsent)
    }
}

impl Unsent {
    fn add(&mut self, name: String) {
        if self.names.len() < MAX_NAMED {
            self.names.push(name);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// A failure, if there are any.
    pub(super) fn none(&self) -> Result<(), Failure> {
        let names = self.names.join(", ");
        match (self.names.len(), self.more) {
            (0, _) => Ok(()),
            (_, 0) => Err(Failure::new(format!("not sent: {names}"))),
            (_, more) => Err(Failure::new(format!("not sent: {names}, and {}", count(more, "other file")))),
        }
    }
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

    #[test]
    fn so_many_are_named_and_the_rest_is_counted() {
        let mut unsent = Unsent::default();
        assert!(unsent.none().is_ok());
        let message = |unsent: &Unsent| match unsent.none() {
            Err(Failure::Error(told)) => told.message,
            other => panic!("{other:?}"),
        };
        for _ in 0..MAX_NAMED {
            unsent.add("x".to_owned());
        }
        let names = ["x"; MAX_NAMED].join(", ");
        assert_eq!(message(&unsent), format!("not sent: {names}"));
        unsent.add("y".to_owned());
        assert_eq!(message(&unsent), format!("not sent: {names}, and 1 other file"));
    }
}
