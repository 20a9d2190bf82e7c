//! Results, to be read.

use std::fmt::Write as _;

use crate::row::{Cell, Direction, Results, Row, STEPS};

/// Steps that take longer show their time.
const SLOW_MS: f64 = 100.0;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// A text in a column, and how it is coloured.
struct Field {
    text: String,
    colour: &'static str,
}

/// The table, and below it what failed and why.
pub(crate) fn render(results: &Results, colour: bool) -> String {
    let mut lines: Vec<Vec<Field>> = vec![heading()];
    lines.extend(results.rows.iter().map(fields));
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|field| field.text.chars().count()).max()
    };
    let widths: Vec<usize> = (0..STEPS.len() + 2).map(|column| width(column).unwrap_or(0)).collect();

    let mut out = String::new();
    for line in &lines {
        let mut row = String::new();
        for (field, width) in line.iter().zip(&widths) {
            let pad = " ".repeat(width.saturating_sub(field.text.chars().count()) + 2);
            row += &paint(&field.text, field.colour, colour);
            row += &pad;
        }
        out += row.trim_end();
        out.push('\n');
    }
    for row in results.rows.iter().filter(|row| !row.ok()) {
        out.push('\n');
        failure(&mut out, row, colour);
    }
    out.push('\n');
    out += &verdict(results, colour);
    out.push('\n');
    out
}

fn paint(text: &str, with: &str, colour: bool) -> String {
    if colour && !with.is_empty() { format!("{with}{text}{PLAIN}") } else { text.to_owned() }
}

fn heading() -> Vec<Field> {
    let names = std::iter::once("dialer -> listener").chain(STEPS).chain(["agent"]);
    names.map(|name| Field { text: name.to_owned(), colour: "" }).collect()
}

fn label(row: &Row) -> String {
    match row.direction {
        Direction::WeDial => format!("peerage -> {}", row.peer),
        Direction::TheyDial => format!("{} -> peerage", row.peer),
    }
}

fn fields(row: &Row) -> Vec<Field> {
    let mut line = vec![Field { text: label(row), colour: "" }];
    line.extend(STEPS.iter().map(|step| match row.cell(step) {
        Some(cell) => Field { text: cell_text(cell), colour: if cell.ok { GREEN } else { RED } },
        None if row.expected().any(|expected| expected == *step) => {
            Field { text: "not run".to_owned(), colour: RED }
        }
        None => Field { text: "-".to_owned(), colour: DIM },
    }));
    line.push(Field { text: row.agent.clone().unwrap_or_else(|| "?".to_owned()), colour: "" });
    line
}

fn cell_text(cell: &Cell) -> String {
    let word = if cell.ok { "ok" } else { "FAIL" };
    if cell.ms < SLOW_MS { word.to_owned() } else { format!("{word} {:.0} ms", cell.ms) }
}

fn failure(out: &mut String, row: &Row, colour: bool) {
    let name = label(row);
    let failed: Vec<&Cell> = row.cells.iter().filter(|cell| !cell.ok).collect();
    let fail = paint("FAIL", RED, colour);
    for same in failed.chunk_by(|one, next| one.error == next.error) {
        let steps: Vec<&str> = same.iter().map(|cell| cell.step).collect();
        let why = same.first().and_then(|cell| cell.error.as_deref()).unwrap_or("it did not say why");
        let _ = writeln!(out, "{fail} {name}, {}: {why}", steps.join(", "));
    }
    if failed.is_empty() {
        let _ = writeln!(out, "{fail} {name}: steps were not run");
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
    let all: usize = results.rows.iter().map(|row| row.expected().count()).sum();
    let passed = |row: &Row| row.cells.iter().filter(|cell| cell.ok).count();
    let passed: usize = results.rows.iter().map(passed).sum();
    let repeat = if results.repeat > 1 { format!(", {} times", results.repeat) } else { String::new() };
    let took = format!("in {:.1} s", results.seconds);
    if results.ok {
        paint(&format!("all {all} steps passed{repeat}, {took}"), GREEN, colour)
    } else {
        paint(&format!("{} of {all} steps failed{repeat}, {took}", all.saturating_sub(passed)), RED, colour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let mut good = Row::new("go", Direction::WeDial);
        good.agent = Some("go-libp2p/0.51.0".to_owned());
        for step in good.expected().collect::<Vec<_>>() {
            good.note(step, if step == "echo-4m" { 250.4 } else { 1.0 }, Ok(String::new()));
        }
        let mut bad = Row::new("js", Direction::TheyDial);
        bad.note("dial", 15_000.0, Err("nobody there".to_owned()));
        bad.note("ping", 0.0, Err("nobody there".to_owned()));
        bad.dial_report = Some("dial of x\n  one address".to_owned());
        bad.stderr = vec!["Error: no".to_owned()];
        Results { ok: false, repeat: 1, seconds: 16.25, builds: vec![], rows: vec![good, bad] }
    }

    #[test]
    fn a_table_to_read() {
        let expected = "\
dialer -> listener  dial           ping  identify  identified  echo-64k  echo-4m    callback  ping-back  end      agent
peerage -> go       ok             ok    ok        ok          ok        ok 250 ms  ok        -          ok       go-libp2p/0.51.0
js -> peerage       FAIL 15000 ms  FAIL  not run   not run     not run   not run    not run   not run    not run  ?

FAIL js -> peerage, dial, ping: nobody there
  dial of x
    one address
  the peer wrote on stderr, last:
    Error: no

9 of 17 steps failed, in 16.2 s
";
        assert_eq!(render(&results(), false), expected);
    }

    #[test]
    fn colours_only_where_asked_and_never_in_the_way_of_columns() {
        let coloured = render(&results(), true);
        assert!(
            coloured.contains("\x1b[32mok\x1b[0m") && coloured.contains("\x1b[1;31mFAIL 15000 ms\x1b[0m")
        );
        let mut stripped = coloured;
        for code in [GREEN, RED, DIM, PLAIN] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, render(&results(), false));
    }

    #[test]
    fn all_passed() {
        let mut results = results();
        results.rows.truncate(1);
        (results.ok, results.repeat) = (true, 3);
        assert!(render(&results, false).ends_with("\nall 8 steps passed, 3 times, in 16.2 s\n"));
    }
}
