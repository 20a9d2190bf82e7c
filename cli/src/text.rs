//! Text: of strangers, before it reaches a terminal; and in the plural.

/// Without what would move the cursor, colour the screen, ring the bell, turn the direction of writing or hide
/// itself. A tab becomes a space.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| is_harmless(*c)).collect()
}

/// Whether a character only shows itself: see [`clean`].
pub fn is_harmless(c: char) -> bool {
    // Cc has ESC and, at U+0080 to U+009F, one-character forms of escape sequences.
    !c.is_control()
        && !matches!(c,
            // Direction of writing.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line breaks that are not control characters.
            | '\u{2028}' | '\u{2029}'
            // Of no width. The joiners U+200C and U+200D stay: Persian and families of emoji need them.
            | '\u{00ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `1 line`, `2 lines`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_played_with() {
        assert_eq!(clean("\x1b]0;title\x07a\x1b[2Jb\x08\r\n\x7f\u{9b}31m"), "]0;titlea[2Jb31m");
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{200f}\u{feff}\u{2028}"), "abc");
        assert_eq!(clean("a\tb"), "a b");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|number| count(number, "line")), ["0 lines", "1 line", "2 lines"]);
    }

    #[test]
    fn what_people_write_stays() {
        for text in ["Grüße, 你好, سلام", "👨\u{200d}👩\u{200d}👧 👍", "a'b\"c<d>&"] {
            assert_eq!(clean(text), text);
        }
    }
}
