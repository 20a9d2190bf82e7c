//! Names of files that peers choose.
//!
//! A name is taken if it is the name of a file in the folder, and nothing else, on every system: Unix, Windows, macOS. What is
//! not is refused, not mended: whoever sends a file mends its name first ([`Name::tame`]).

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::text::{is_harmless, is_visible};

/// Bytes of a name. File systems take 255; what is added to tell it from others, or while it is not complete, fits beside it.
pub const MAX_NAME: usize = 200;
/// Names of devices, which Windows finds in every folder and under every extension. With 0 to 9, or their superscripts.
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// The name of a file, which cannot leave the folder that it is put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// Why a name is not taken. The fault of whoever chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is empty, or longer than [`MAX_NAME`].
    #[error("a name of {0} bytes; 1 to {MAX_NAME} are allowed")]
    Length(usize),
    /// A separator, a control character, one that is not seen or that turns the direction of writing, or one that Windows has
    /// another use for.
    #[error("a name with {0:?} in it")]
    Character(char),
    /// It begins with a dot, as those of hidden files and of other folders do; or with `-`, as options do; or with a space.
    #[error("a name that begins with {0:?}")]
    Begins(char),
    /// It ends with a dot or a space, which Windows leaves out.
    #[error("a name that ends with {0:?}")]
    Ends(char),
    /// There are several spaces in a row, which could push what follows the name out of sight.
    #[error("a name with spaces in a row")]
    Spaces,
    /// There is nothing in it to be seen.
    #[error("a name that cannot be seen")]
    Unseen,
    /// It is that of a device of Windows.
    #[error("the name of a device")]
    Device,
}

impl Name {
    /// Takes a name, or says what is wrong with it.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > MAX_NAME {
            return Err(NameError::Length(text.len()));
        }
        if let Some(wrong) = text.chars().find(|c| !fits(*c)) {
            return Err(NameError::Character(wrong));
        }
        if let Some(first) = text.chars().next().filter(|c| matches!(c, '.' | '-') || c.is_whitespace()) {
            return Err(NameError::Begins(first));
        }
        if let Some(last) = text.chars().next_back().filter(|c| *c == '.' || c.is_whitespace()) {
            return Err(NameError::Ends(last));
        }
        if !text.chars().any(is_visible) {
            return Err(NameError::Unseen);
        }
        if text.chars().any(one_more_space()) {
            return Err(NameError::Spaces);
        }
        if is_device(text) { Err(NameError::Device) } else { Ok(Self(text.to_owned())) }
    }

    /// A name that everybody takes, made of one of this system.
    pub fn tame(text: &str) -> Self {
        let mut name: String = text.chars().map(|c| if fits(c) { c } else { '_' }).collect();
        let mut one_more_space = one_more_space();
        name.retain(|c| !one_more_space(c));
        if name.starts_with(|c: char| matches!(c, '.' | '-') || c.is_whitespace()) || is_device(&name) {
            name.insert(0, '_');
        }
        name.truncate(name.floor_char_boundary(MAX_NAME));
        let name = name.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
        Self(if name.chars().any(is_visible) { name.to_owned() } else { "file".to_owned() })
    }

    /// As it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where it is in `folder`; with a number, if it is not the first of this name there: `report (1).pdf`.
    pub fn inside(&self, folder: &Path, number: u32) -> PathBuf {
        if number == 0 {
            return folder.join(&self.0);
        }
        folder.join(match self.0.rsplit_once('.') {
            Some((stem, extension)) => format!("{stem} ({number}).{extension}"),
            None => format!("{} ({number})", self.0),
        })
    }

    /// Where it is in `folder` before it is complete. It begins with a dot, so that it is the name of no file that was sent.
    pub fn partial(&self, folder: &Path, number: u32) -> PathBuf {
        folder.join(format!(".{}.{number}.part", self.0))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn fits(c: char) -> bool {
    is_harmless(c) && !matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
}

/// Tells of one character after the other whether it is a space behind a space, as far as one sees.
fn one_more_space() -> impl FnMut(char) -> bool {
    let mut after_space = false;
    move |c| {
        let again = after_space && c.is_whitespace();
        if c.is_whitespace() || is_visible(c) {
            after_space = c.is_whitespace();
        }
        again
    }
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    let numbered = |device: &str| {
        let mut rest = stem.strip_prefix(device).unwrap_or_default().chars();
        let number = rest.next().is_some_and(|c| c.is_ascii_digit() || matches!(c, '¹' | '²' | '³'));
        number && rest.next().is_none()
    };
    DEVICES.contains(&stem.as_str()) || NUMBERED_DEVICES.into_iter().any(numbered)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        for hostile in [
            "",
            ".",
            "..",
            "../x",
            "..\\x",
            "a/b",
            "/etc/passwd",
            "a\\b",
            "C:\\x",
            "C:x",
            "x:stream",
            ".bashrc",
            ".report.pdf.0.part",
            "...",
            " x",
            "x ",
            "x.",
            "\u{a0}x",
            "x\u{3000}",
            "-rf",
            "a\0b",
            "a\nb",
            "a\rb",
            "a\tb",
            "\x1b[2Jx",
            "\u{9b}2Jx",
            "x\u{7f}",
            "gpj.\u{202e}exe",
            "x\u{2066}y",
            "x\u{200b}y",
            "x\u{feff}",
            "x\u{2028}y",
            "x\u{e0041}",
            "what?",
            "a*b",
            "a|b",
            "a\"b",
            "<b>",
            "CON",
            "con.txt",
            "NUL",
            "nul.tar.gz",
            "Aux ",
            "aux .txt",
            "COM1",
            "com0.log",
            "LPT9.x",
            "LPT¹",
            "CONIN$",
            "report.pdf  x",
            "report.pdf \u{200d} x",
            "report.pdf\u{a0}\u{3000}x",
            "\u{200d}",
            "\u{fe0f}\u{200c}",
            "\u{3164}",
            "x\u{2800}",
        ] {
            assert!(Name::new(hostile).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn what_people_call_their_files_is_taken() {
        for name in [
            "report.pdf",
            "Grüße aus Köln.txt",
            "你好.txt",
            "سلام",
            "a b (1).tar.gz",
            "CONtract.pdf",
            "com10",
            "console",
            "COM",
            "a..b",
            "it's & that; $(done)",
            "~",
            "👨\u{200d}👩\u{200d}👧.png",
        ] {
            assert_eq!(Name::new(name).map(|name| name.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn the_longest_name_and_one_byte_more() {
        assert!(Name::new(&"x".repeat(MAX_NAME)).is_ok());
        assert_eq!(Name::new(&"x".repeat(MAX_NAME + 1)), Err(NameError::Length(MAX_NAME + 1)));
        assert!(Name::new(&"é".repeat(MAX_NAME / 2)).is_ok());
        assert!(Name::new(&"é".repeat(MAX_NAME / 2 + 1)).is_err());
        let longest = Name::new(&"x".repeat(MAX_NAME)).unwrap();
        for path in [longest.inside(Path::new("."), u32::MAX), longest.partial(Path::new("."), u32::MAX)] {
            assert!(path.file_name().unwrap().len() <= 255, "{path:?}");
        }
    }

    #[test]
    fn numbers_go_before_the_extension() {
        let path = |name: &str, number| {
            Name::new(name).unwrap().inside(Path::new("in"), number).to_string_lossy().replace('\\', "/")
        };
        assert_eq!(path("report.pdf", 0), "in/report.pdf");
        assert_eq!(path("report.pdf", 2), "in/report (2).pdf");
        assert_eq!(path("README", 1), "in/README (1)");
    }

    #[test]
    fn names_of_this_system_are_mended() {
        for (name, tame) in [
            ("report.pdf", "report.pdf"),
            (".bashrc", "_.bashrc"),
            ("10:30?.txt", "10_30_.txt"),
            ("nul", "_nul"),
            ("-x", "_-x"),
            ("end. .", "end"),
            ("", "file"),
            ("\u{200d}", "file"),
            ("a  b \u{a0} c", "a b c"),
            ("  x", "_ x"),
        ] {
            assert_eq!(Name::tame(name).as_str(), tame);
        }
    }

    /// What is dangerous, more often than chance has it.
    fn texts() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            any::<char>().prop_map(|c| c.to_string()),
            "[a-z. /\\\\:~-]{1,4}",
            Just("..".to_owned()),
            Just("../".to_owned()),
            Just("CON".to_owned()),
            Just("lpt1".to_owned()),
            Just("\0".to_owned()),
            Just("\u{202e}".to_owned()),
            Just("\u{200d}".to_owned()),
            Just("  ".to_owned()),
            Just("x".repeat(70)),
        ];
        prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_leaves_the_folder(text in texts(), number in 0_u32..2000) {
            let folder = Path::new("some/folder");
            for name in [Name::new(&text).ok(), Some(Name::tame(&text))].into_iter().flatten() {
                for path in [name.inside(folder, number), name.partial(folder, number)] {
                    prop_assert_eq!(path.parent(), Some(folder));
                    prop_assert_eq!(path.components().count(), 3);
                    let last = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
                    prop_assert!(last.is_some_and(|last| !last.contains(['/', '\\', ':', '\0']) && last.len() <= 255));
                }
            }
        }

        #[test]
        fn mended_names_are_taken(text in texts()) {
            let tame = Name::tame(&text);
            prop_assert_eq!(Name::new(tame.as_str()), Ok(tame));
        }

        #[test]
        fn what_is_taken_needs_no_mending(text in texts()) {
            if let Ok(name) = Name::new(&text) {
                prop_assert_eq!(Name::tame(&text), name);
            }
        }
    }
}
