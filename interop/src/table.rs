//! Results, to be read: a grid for each peer, and below them what failed and why.

use std::fmt::Write as _;

use crate::{
    plan::STEPS,
    row::{Cell, Results, Row},
};

/// Steps that take longer show their time.
const SLOW_MS: f64 = 1000.0;

pub(crate) const GREEN: &str = "\x1b[32m";
pub(crate) const YELLOW: &str = "\x1b[33m";
pub(crate) const RED: &str = "\x1b[1;31m";
pub(crate) const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// A text in a column, and how it is coloured.
pub(crate) struct Field {
    pub(crate) text: String,
    pub(crate) colour: &'static str,
}

/// The grids, and below them what failed and why.
pub(crate) fn render(results: &Results, colour: bool) -> String {
    let mut out = String::new();
    for of_peer in results.rows.chunk_by(|one, next| one.peer == next.peer) {
        grid(&mut out, of_peer, colour);
        out.push('\n');
    }
    for row in results.rows.iter().filter(|row| !row.ok()) {
        failure(&mut out, row, colour);
        out.push('\n');
    }
    for stale in &results.stale {
        let _ = writeln!(out, "{} {stale}\n", paint("FAIL", RED, colour));
    }
    out += &verdict(results, colour);
    out.push('\n');
    out
}

/// All rows of one peer. Steps that none of them takes have no column.
fn grid(out: &mut String, rows: &[Row], colour: bool) {
    let taken = |step: &&str| rows.iter().any(|row| row.setup.steps().contains(step));
    let steps: Vec<&str> = STEPS.into_iter().filter(taken).collect();
    let agent = rows.iter().find_map(|row| row.agent.as_deref()).unwrap_or("it never said who it is");
    let name = rows.first().map_or("", |row| row.peer);
    let _ = writeln!(out, "{name} ({agent})");

    let mut lines: Vec<Vec<Field>> = vec![heading(&steps)];
    lines.extend(rows.iter().map(|row| fields(row, &steps)));
    columns(out, &lines, colour);
}

/// Writes lines of fields, each column as wide as it has to be.
pub(crate) fn columns(out: &mut String, lines: &[Vec<Field>], colour: bool) {
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|field| field.text.chars().count()).max()
    };
    let most = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..most).map(|column| width(column).unwrap_or(0)).collect();
    for line in lines {
        let mut row = String::from("  ");
        for (field, width) in line.iter().zip(&widths) {
            let pad = " ".repeat(width.saturating_sub(field.text.chars().count()) + 2);
            row += &paint(&field.text, field.colour, colour);
            row += &pad;
        }
        *out += row.trim_end();
        out.push('\n');
    }
}

pub(crate) fn paint(text: &str, with: &str, colour: bool) -> String {
    if colour && !with.is_empty() { format!("{with}{text}{PLAIN}") } else { text.to_owned() }
}

fn heading(steps: &[&str]) -> Vec<Field> {
    let names = ["dialer", "transport", "security", "muxer", "keys"].into_iter().chain(steps.iter().copied());
    names.map(|name| Field { text: name.to_owned(), colour: DIM }).collect()
}

fn fields(row: &Row, steps: &[&str]) -> Vec<Field> {
    let words = std::iter::once(row.dialer).chain(row.setup.words());
    let mut line: Vec<Field> = words.map(|word| Field { text: word.to_owned(), colour: "" }).collect();
    line.extend(steps.iter().map(|step| match row.cell(step) {
        Some(cell) => cell_field(cell),
        None if row.setup.steps().contains(step) => Field { text: "not run".to_owned(), colour: RED },
        None => Field { text: "-".to_owned(), colour: DIM },
    }));
    line
}

pub(crate) fn cell_field(cell: &Cell) -> Field {
    let (word, colour) = match (cell.ok, cell.excused) {
        (true, _) => ("ok", GREEN),
        (false, Some(_)) => ("excused", YELLOW),
        (false, None) => ("FAIL", RED),
    };
    let text = if cell.ms < SLOW_MS { word.to_owned() } else { format!("{word} {:.1} s", cell.ms / 1000.0) };
    Field { text, colour }
}

fn failure(out: &mut String, row: &Row, colour: bool) {
    let name = row.label();
    let failed: Vec<&Cell> = row.cells.iter().filter(|cell| !cell.ok).collect();
    for same in failed.chunk_by(|one, next| (&one.error, one.excused) == (&next.error, next.excused)) {
        let steps: Vec<&str> = same.iter().map(|cell| cell.step).collect();
        let Some(first) = same.first() else { continue };
        let (word, excuse) = match first.excused {
            Some(reason) => (paint("excused", YELLOW, colour), format!(" ({reason})")),
            None => (paint("FAIL", RED, colour), String::new()),
        };
        let why = first.error.as_deref().unwrap_or("it did not say why");
        let _ = writeln!(out, "{word} {name}, {}: {why}{excuse}", steps.join(", "));
    }
    if failed.is_empty() {
        let _ = writeln!(out, "{} {name}: steps were not run", paint("FAIL", RED, colour));
    }
    if row.excused() {
        return;
    }
    if let Some(report) = &row.dial_report {
        let _ = writeln!(out, "  {}", report.replace('\n', "\n  "));
    }
    let quotes = [("our node noticed", &row.noticed), ("the peer wrote on stderr, last", &row.stderr)];
    for (title, lines) in quotes.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(out, "  {title}:");
        for line in lines {
            let _ = writeln!(out, "    {}", line.replace('\n', "\n    "));
        }
    }
}

fn verdict(results: &Results, colour: bool) -> String {
    let all: usize = results.rows.iter().map(|row| row.setup.steps().len()).sum();
    let count = |is: fn(&Cell) -> bool| {
        results.rows.iter().flat_map(|row| &row.cells).filter(|cell| is(cell)).count()
    };
    let passed = count(|cell| cell.ok);
    let excused = count(|cell| !cell.ok && cell.excused.is_some());
    let failed = all.saturating_sub(passed + excused);
    let repeat = if results.repeat > 1 { format!(", {} times", results.repeat) } else { String::new() };
    let counts = format!(
        "{all} steps in {} rows: {passed} passed, {excused} excused, {failed} failed{repeat}, in {:.1} s",
        results.rows.len(),
        results.seconds
    );
    paint(&counts, if results.ok { GREEN } else { RED }, colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Direction, Key, Muxer, Security, Setup, Transport};

    fn results() -> Results {
        let setup = Setup::upgraded(Transport::Ws, Security::Noise, Muxer::Mplex, Key::Ed25519);
        let mut good = Row::new("go", Direction::WeDial, setup);
        good.agent = Some("go-libp2p/0.51.0".to_owned());
        for step in setup.steps() {
            good.note(step, if *step == "echo-64k" { 2504.0 } else { 1.0 }, Ok(String::new()));
        }
        let mut bad = Row::new("js", Direction::TheyDial, setup);
        bad.note("dial", 15_000.0, Err("nobody there".to_owned()));
        bad.note("ping", 0.0, Err("nobody there".to_owned()));
        bad.note("end", 0.0, Err("it hangs".to_owned()));
        bad.cells[2].excused = Some("it always does");
        bad.dial_report = Some("dial of x\n  one address".to_owned());
        bad.stderr = vec!["Error: no".to_owned()];
        Results { ok: false, repeat: 1, seconds: 16.25, rows: vec![good, bad], ..Results::default() }
    }

    #[test]
    fn grids_to_read() {
        let expected = "\
go (go-libp2p/0.51.0)
  dialer   transport  security  muxer  keys     dial  ping  identify  identified  echo-64k  end
  peerage  ws         noise     mplex  ed25519  ok    ok    ok        ok          ok 2.5 s  ok

js (it never said who it is)
  dialer  transport  security  muxer  keys     dial         ping  identify  identified  echo-64k  end
  js      ws         noise     mplex  ed25519  FAIL 15.0 s  FAIL  not run   not run     not run   excused

FAIL js -> peerage ws noise mplex ed25519, dial, ping: nobody there
excused js -> peerage ws noise mplex ed25519, end: it hangs (it always does)
  dial of x
    one address
  the peer wrote on stderr, last:
    Error: no

12 steps in 2 rows: 6 passed, 1 excused, 5 failed, in 16.2 s
";
        assert_eq!(render(&results(), false), expected);
    }

    #[test]
    fn colours_only_where_asked_and_never_in_the_way_of_columns() {
        let coloured = render(&results(), true);
        assert!(coloured.contains("\x1b[32mok\x1b[0m") && coloured.contains("\x1b[1;31mFAIL 15.0 s\x1b[0m"));
        let mut stripped = coloured;
        for code in [GREEN, YELLOW, RED, DIM, PLAIN] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, render(&results(), false));
    }

    #[test]
    fn all_passed() {
        let mut results = results();
        results.rows.truncate(1);
        (results.ok, results.repeat) = (true, 3);
        let end = "\n6 steps in 1 rows: 6 passed, 0 excused, 0 failed, 3 times, in 16.2 s\n";
        assert!(render(&results, false).ends_with(end));
        results.stale = vec!["go: passes, and needs no excuse any more".to_owned()];
        assert!(render(&results, false).contains("\nFAIL go: passes, and needs"));
    }
}
