//! Text: of strangers, before it reaches a terminal; and of numbers.

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
            | '\u{034f}' | '\u{17b4}' | '\u{17b5}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
            | '\u{e0100}'..='\u{e01ef}'
            // Letters that are blank: fillers of Hangul, and Braille without a dot.
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}')
}

/// Whether a character can be seen on its own, if it is [harmless](is_harmless): joiners and variants of others cannot.
pub fn is_visible(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// Units of bytes, the largest first.
pub const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// `1023 B`, `1.5 MiB`.
pub fn in_units(bytes: u64) -> String {
    match UNITS.into_iter().find(|(_, size)| bytes >= *size) {
        Some((name, size)) if size > 1 => format!("{:.1} {name}", bytes as f64 / size as f64),
        _ => format!("{bytes} B"),
    }
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
        let unseen = "\u{34f}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{2800}\u{3164}\u{ffa0}\u{e0100}\u{e01ef}";
        assert_eq!(clean(unseen), "");
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
