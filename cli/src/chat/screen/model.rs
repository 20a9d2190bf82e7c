use std::collections::{BTreeMap, VecDeque};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use peerage::PeerId;

use super::edit::Input;

/// Lines that can be scrolled back to.
const HISTORY: usize = 2000;
/// Lines that one typed and can have again.
const TYPED: usize = 100;

/// One line of the chat. Names and texts are clean.
#[derive(Clone, Debug)]
pub(in crate::chat) enum Entry {
    /// Somebody said something.
    Said { time: String, peer: PeerId, name: String, text: String },
    /// Something happened.
    Happened { time: String, text: String },
    /// Advice.
    Note { text: String },
    /// Something to copy and paste into a shell.
    Command { text: String },
}

/// How far a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::chat) struct Bar {
    /// Which file, and from or to whom. Clean.
    pub(in crate::chat) label: String,
    /// 0 to 100.
    pub(in crate::chat) percent: u64,
    /// The same in bytes, and how fast.
    pub(in crate::chat) amount: String,
}

/// What a key is for the rest of the program.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::chat) enum Reaction {
    /// Nothing.
    None,
    /// A line was typed.
    Say(String),
    /// Ctrl-D: leave, once everything is said.
    Leave,
    /// Ctrl-C: leave now.
    Interrupt,
}

/// All that there is to see.
#[derive(Debug)]
pub(in crate::chat) struct Model {
    pub(super) me: PeerId,
    pub(super) name: String,
    pub(super) entries: VecDeque<Entry>,
    pub(super) people: BTreeMap<PeerId, String>,
    pub(super) bars: Vec<Bar>,
    /// Files that wait for an answer.
    pub(super) offers: usize,
    pub(super) input: Input,
    /// Rows between the last line and the bottom of what is seen.
    pub(super) back: usize,
    /// Lines that came while one was reading further up.
    pub(super) unread: usize,
    /// Rows of the last picture: how far a page is.
    pub(super) page: usize,
    pub(super) leaving: bool,
    /// Why the last line is still in the input.
    pub(super) waits: bool,
    typed: VecDeque<String>,
    /// How far back in `typed` one is looking.
    recalled: usize,
}

impl Model {
    pub(in crate::chat) fn new(me: PeerId, name: String) -> Self {
        Self {
            me,
            name,
            entries: VecDeque::new(),
            people: BTreeMap::new(),
            bars: Vec::new(),
            offers: 0,
            input: Input::default(),
            back: 0,
            unread: 0,
            page: 1,
            leaving: false,
            waits: false,
            typed: VecDeque::new(),
            recalled: 0,
        }
    }

    pub(in crate::chat) fn add(&mut self, entry: Entry) {
        if self.entries.len() >= HISTORY {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        if self.back > 0 {
            self.unread = self.unread.saturating_add(1);
        }
    }

    pub(in crate::chat) fn joined(&mut self, peer: PeerId, name: &str) {
        self.people.insert(peer, name.to_owned());
    }

    pub(in crate::chat) fn left(&mut self, peer: PeerId) {
        self.people.remove(&peer);
    }

    /// Whether that is something new to see.
    pub(in crate::chat) fn show_files(&mut self, bars: Vec<Bar>, offers: usize) -> bool {
        let new = self.bars != bars || self.offers != offers;
        (self.bars, self.offers) = (bars, offers);
        new
    }

    /// The line could not be taken: too much waits already.
    pub(super) fn unsaid(&mut self, line: String) {
        self.typed.pop_back();
        self.input.set(line);
        self.waits = true;
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Reaction {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Reaction::Interrupt,
            KeyCode::Char('d') if control && self.input.is_empty() => {
                self.leaving = true;
                return Reaction::Leave;
            }
            KeyCode::Enter => return self.enter(),
            KeyCode::PageUp => self.back = self.back.saturating_add(self.page),
            KeyCode::PageDown => self.scroll_down(self.page),
            KeyCode::Esc => self.scroll_down(usize::MAX),
            KeyCode::Up => self.recall(self.recalled.saturating_add(1)),
            KeyCode::Down => self.recall(self.recalled.saturating_sub(1)),
            _ => {
                self.input.key(key);
            }
        }
        Reaction::None
    }

    fn enter(&mut self) -> Reaction {
        if self.leaving || self.input.text().trim().is_empty() {
            return Reaction::None;
        }
        self.scroll_down(usize::MAX);
        self.waits = false;
        self.recalled = 0;
        let line = self.input.take();
        if self.typed.len() >= TYPED {
            self.typed.pop_front();
        }
        self.typed.push_back(line.clone());
        Reaction::Say(line)
    }

    fn scroll_down(&mut self, rows: usize) {
        self.back = self.back.saturating_sub(rows);
        if self.back == 0 {
            self.unread = 0;
        }
    }

    fn recall(&mut self, back: usize) {
        if back > self.typed.len() {
            return;
        }
        self.recalled = back;
        let line = back.checked_sub(1).and_then(|at| self.typed.iter().rev().nth(at)).cloned();
        self.input.set(line.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use peerage::Keypair;

    use super::*;

    fn model() -> Model {
        Model::new(Keypair::from_ed25519_seed([1; 32]).peer_id(), "ada".into())
    }

    fn note(number: usize) -> Entry {
        Entry::Note { text: number.to_string() }
    }

    fn control(model: &mut Model, c: char) -> Reaction {
        model.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL))
    }

    fn say(model: &mut Model, line: &str) -> Reaction {
        line.chars().for_each(|c| assert_eq!(model.key(KeyCode::Char(c).into()), Reaction::None));
        model.key(KeyCode::Enter.into())
    }

    #[test]
    fn lines_are_said_once_and_can_be_had_again() {
        let mut model = model();
        assert_eq!(say(&mut model, "   "), Reaction::None);
        model.input.take();
        assert_eq!(say(&mut model, "one"), Reaction::Say("one".into()));
        assert_eq!(say(&mut model, "two"), Reaction::Say("two".into()));
        let recalled = |model: &mut Model, key: KeyCode| {
            model.key(key.into());
            model.input.text().to_owned()
        };
        use KeyCode::{Down, Up};
        let seen = [Up, Up, Up, Down, Down, Down].map(|key| recalled(&mut model, key));
        assert_eq!(seen, ["two", "one", "one", "two", "", ""]);
    }

    #[test]
    fn a_line_that_cannot_be_taken_stays() {
        let mut model = model();
        assert_eq!(say(&mut model, "wait"), Reaction::Say("wait".into()));
        model.unsaid("wait".into());
        assert!(model.waits);
        assert_eq!(model.key(KeyCode::Enter.into()), Reaction::Say("wait".into()));
        assert!(!model.waits);
    }

    #[test]
    fn leaving_has_two_ways_and_neither_loses_a_line() {
        let mut model = model();
        model.key(KeyCode::Char('x').into());
        assert_eq!(control(&mut model, 'd'), Reaction::None, "there is something in the input");
        model.input.take();
        assert_eq!(control(&mut model, 'd'), Reaction::Leave);
        assert_eq!(say(&mut model, "too late"), Reaction::None);
        assert_eq!(control(&mut model, 'c'), Reaction::Interrupt);
    }

    #[test]
    fn who_reads_further_up_is_told_of_new_lines() {
        let mut model = model();
        model.page = 5;
        (0..20).for_each(|number| model.add(note(number)));
        model.key(KeyCode::PageUp.into());
        model.key(KeyCode::PageUp.into());
        model.add(note(20));
        assert_eq!((model.back, model.unread), (10, 1));
        model.key(KeyCode::PageDown.into());
        assert_eq!((model.back, model.unread), (5, 1));
        model.key(KeyCode::Esc.into());
        assert_eq!((model.back, model.unread), (0, 0));
    }

    #[test]
    fn what_can_be_scrolled_back_to_is_bounded() {
        let mut model = model();
        (0..=HISTORY).for_each(|number| model.add(note(number)));
        assert_eq!(model.entries.len(), HISTORY);
        for number in 0..=TYPED {
            say(&mut model, &number.to_string());
        }
        assert_eq!(model.typed.len(), TYPED);
    }
}
