//! Breaking lines.

use unicode_width::UnicodeWidthChar as _;

/// Cuts `text` into pieces of at most `width` columns, at spaces where there are some. Spaces at a cut are left out.
pub(super) fn wrap(text: &str, width: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(cut) = cut(rest, width.max(2)) {
        let (piece, later) = rest.split_at(cut);
        pieces.push(piece.trim_end_matches(' '));
        rest = later.trim_start_matches(' ');
    }
    if pieces.is_empty() || !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// Where the first piece ends, if not everything fits.
fn cut(text: &str, width: usize) -> Option<usize> {
    let (mut used, mut space) = (0_usize, None);
    for (at, c) in text.char_indices() {
        used = used.saturating_add(c.width().unwrap_or(0));
        if used > width {
            return Some(if c == ' ' { at } else { space.unwrap_or(at) });
        }
        if c == ' ' && at > 0 {
            space = Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("short", 5), ["short"]);
        assert_eq!(wrap("to be or not", 6), ["to be", "or not"]);
        assert_eq!(wrap("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrap("你好你好", 5), ["你好", "你好"]);
        assert_eq!(wrap("ends here   ", 9), ["ends here"]);
    }

    proptest! {
        #[test]
        fn nothing_but_spaces_is_lost_and_nothing_is_too_wide(text in "[ a-cé你\u{301}]{0,60}", width in 0_usize..20) {
            let pieces = wrap(&text, width);
            let bare = |text: &str| text.replace(' ', "");
            prop_assert_eq!(bare(&pieces.concat()), bare(&text));
            for piece in pieces {
                prop_assert!(piece.width() <= width.max(2), "{:?}", piece);
            }
        }
    }
}
