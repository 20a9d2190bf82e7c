//! How this program is called, for lines to paste.

use std::env;

/// What to type to start it again: `cargo run --release --` if cargo runs it, else as it was called.
pub(crate) fn command() -> String {
    // Cargo tells what it runs of the package; nobody else does.
    if env::var_os("CARGO_MANIFEST_DIR").is_some() {
        return if cfg!(debug_assertions) { "cargo run --" } else { "cargo run --release --" }.to_owned();
    }
    env::args().next().map_or_else(|| "peerage".to_owned(), |called| quote(&called))
}

/// For a shell, if there is anything in it that a shell would not leave alone.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:\\".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quote("./target/release/peerage"), "./target/release/peerage");
        assert_eq!(quote("/my programs/peerage"), "'/my programs/peerage'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
