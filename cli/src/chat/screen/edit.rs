//! A line that is being typed.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::chat::wire::MAX_LINE;

/// The text and the place of the cursor in it, counted in bytes and always between two characters.
#[derive(Debug, Default)]
pub(super) struct Input {
    text: String,
    cursor: usize,
}

impl Input {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What is before the cursor.
    pub(super) fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    pub(super) fn set(&mut self, text: String) {
        self.cursor = text.len();
        self.text = text;
    }

    /// What a key does to the text. `false` if it does nothing here.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('a') if control => self.cursor = 0,
            KeyCode::Char('e') if control => self.cursor = self.text.len(),
            KeyCode::Char('u') if control => {
                self.text.drain(..self.cursor);
                self.cursor = 0;
            }
            KeyCode::Char('k') if control => self.text.truncate(self.cursor),
            KeyCode::Char('w') if control => {
                let kept = self.before().trim_end().rfind(char::is_whitespace).map_or(0, |at| self.next(at));
                self.text.drain(kept..self.cursor);
                self.cursor = kept;
            }
            KeyCode::Char(_) if control => return false,
            KeyCode::Char(c) => {
                if self.text.len().saturating_add(c.len_utf8()) <= MAX_LINE {
                    self.text.insert(self.cursor, c);
                    self.cursor = self.cursor.saturating_add(c.len_utf8());
                }
            }
            KeyCode::Backspace => {
                let from = self.previous();
                self.text.drain(from..self.cursor);
                self.cursor = from;
            }
            KeyCode::Delete => {
                let to = self.next(self.cursor);
                self.text.drain(self.cursor..to);
            }
            KeyCode::Left => self.cursor = self.previous(),
            KeyCode::Right => self.cursor = self.next(self.cursor),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            _ => return false,
        }
        true
    }

    /// Where the character before the cursor begins.
    fn previous(&self) -> usize {
        self.before().char_indices().next_back().map_or(0, |(at, _)| at)
    }

    /// Where the character at `at` ends.
    fn next(&self, at: usize) -> usize {
        let len = self.text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        at.saturating_add(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(text: &str) -> Input {
        let mut input = Input::default();
        for c in text.chars() {
            assert!(input.key(KeyCode::Char(c).into()));
        }
        input
    }

    fn control(input: &mut Input, c: char) {
        assert!(input.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL)));
    }

    fn keys(input: &mut Input, keys: &[KeyCode]) {
        keys.iter().for_each(|key| assert!(input.key((*key).into())));
    }

    #[test]
    fn characters_of_any_length_are_edited_whole() {
        use KeyCode::{Backspace, Delete, End, Home, Left, Right};
        let mut line = input("grüße 你好");
        keys(&mut line, &[Left, Left, Backspace, Char('-'), Home, Delete, Right, Delete, End, Backspace]);
        assert_eq!(line.text(), "rße-你");
        keys(&mut line, &[Home, Backspace, Left, End, Right, Delete]);
        assert_eq!((line.text(), line.before()), ("rße-你", "rße-你"));
    }

    #[test]
    fn words_and_halves_are_deleted_as_in_a_shell() {
        let mut line = input("one two  three ");
        control(&mut line, 'w');
        assert_eq!(line.text(), "one two  ");
        control(&mut line, 'w');
        control(&mut line, 'w');
        control(&mut line, 'w');
        assert!(line.is_empty());
        let mut line = input("left right");
        (0..5).for_each(|_| keys(&mut line, &[KeyCode::Left]));
        control(&mut line, 'u');
        assert_eq!(line.text(), "right");
        keys(&mut line, &[KeyCode::Right]);
        control(&mut line, 'k');
        assert_eq!(line.text(), "r");
        control(&mut line, 'a');
        assert_eq!(line.before(), "");
        control(&mut line, 'e');
        assert_eq!(line.before(), "r");
    }

    #[test]
    fn a_line_is_as_long_as_may_be_said_and_no_longer() {
        let mut line = input(&"x".repeat(MAX_LINE - 1));
        keys(&mut line, &[KeyCode::Char('é')]);
        assert_eq!(line.text().len(), MAX_LINE - 1);
        keys(&mut line, &[KeyCode::Char('y'), KeyCode::Char('z')]);
        assert_eq!(line.text().len(), MAX_LINE);
    }

    use KeyCode::Char;
}
