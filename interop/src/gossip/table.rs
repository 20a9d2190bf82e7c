//! Results, to be read: a grid for each peer, and below them what failed and why.

use std::fmt::Write as _;

use super::{Results, Row};
use crate::{
    row::Cell,
    table::{DIM, Field, GREEN, RED, YELLOW, cell_field, columns, paint},
};

/// The grids, and below them what failed and why.
pub(crate) fn render(results: &Results, colour: bool) -> String {
    let mut out = String::new();
    for of_peer in results
        .rows
        .chunk_by(|one, next| (one.peer, one.crowd, one.partial) == (next.peer, next.crowd, next.partial))
    {
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

fn grid(out: &mut String, rows: &[Row], colour: bool) {
    let Some(first) = rows.first() else { return };
    let (name, steps) = (first.peer, first.steps());
    let _ = match rows.iter().find_map(|row| row.version.as_deref()) {
        Some(version) => writeln!(out, "{name} (our stream is {version})"),
        None if first.crowd => writeln!(out, "many {name}"),
        None if first.partial => writeln!(out, "{name}, in parts"),
        None => writeln!(out, "{name}"),
    };
    let heading = ["dialer", "messages"].into_iter().chain(steps.iter().copied());
    let mut lines: Vec<Vec<Field>> =
        vec![heading.map(|name| Field { text: name.to_owned(), colour: DIM }).collect()];
    lines.extend(rows.iter().map(|row| {
        let words =
            [row.dialer(), row.signing.word()].map(|word| Field { text: word.to_owned(), colour: "" });
        let cells = steps.iter().map(|step| match row.cell(step) {
            Some(cell) => cell_field(cell),
            None => Field { text: "not run".to_owned(), colour: RED },
        });
        words.into_iter().chain(cells).collect()
    }));
    columns(out, &lines, colour);
}

fn failure(out: &mut String, row: &Row, colour: bool) {
    let failed = row.cells.iter().filter(|cell| !cell.ok).collect::<Vec<_>>();
    for cell in &failed {
        let why = cell.error.as_deref().unwrap_or("it did not say why");
        let (word, excuse) = match cell.excused {
            Some(reason) => (paint("excused", YELLOW, colour), format!(" ({reason})")),
            None => (paint("FAIL", RED, colour), String::new()),
        };
        let _ = writeln!(out, "{word} {}, {}: {why}{excuse}", row.label(), cell.step);
    }
    if row.excused() {
        return;
    }
    let quotes =
        [("our node noticed", &row.first_noticed), ("the peer wrote on stderr, last", &row.second_noticed)];
    for (title, lines) in quotes.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(out, "  {title}:");
        for line in lines {
            let _ = writeln!(out, "    {}", line.replace('\n', "\n    "));
        }
    }
}

fn verdict(results: &Results, colour: bool) -> String {
    let count = |is: fn(&Cell) -> bool| {
        results.rows.iter().flat_map(|row| &row.cells).filter(|cell| is(cell)).count()
    };
    let (passed, excused) = (count(|cell| cell.ok), count(|cell| !cell.ok && cell.excused.is_some()));
    let all = count(|_| true);
    let counts = format!(
        "{all} steps in {} rows: {passed} passed, {excused} excused, {} failed, in {:.1} s",
        results.rows.len(),
        all.saturating_sub(passed + excused),
        results.seconds
    );
    paint(&counts, if results.ok { GREEN } else { RED }, colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gossip::plan::{STEPS, Signing},
        plan::Direction,
    };

    #[test]
    fn grids_to_read() {
        let mut good = Row::new(None, "go", Direction::WeDial, Signing::Strict);
        good.version = Some("/meshsub/1.3.0, theirs /meshsub/1.2.0".to_owned());
        for step in STEPS {
            good.note(step, Ok(String::new()));
        }
        let mut bad = Row::new(None, "go", Direction::TheyDial, Signing::Named);
        bad.note("dial", Ok(String::new()));
        bad.note("version", Err("it says nothing".to_owned()));
        bad.cells[1].excused = Some("it never does");
        bad.first_noticed = vec!["nothing".to_owned()];
        let mut many = Row::mixed(Signing::Strict);
        many.note("start", Err("one is missing".to_owned()));
        let results = Results { ok: false, seconds: 2.5, rows: vec![good, bad, many], stale: Vec::new() };
        let text = render(&results, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "go (our stream is /meshsub/1.3.0, theirs /meshsub/1.2.0)");
        assert!(lines[2].starts_with("  peerage  strict    ok    ok "), "{text}");
        assert!(lines[3].starts_with("  go       named     ok    excused  not run"), "{text}");
        assert!(
            text.contains("excused go -> peerage named, version: it says nothing (it never does)"),
            "{text}"
        );
        assert!(text.contains("\nFAIL mixed strict, start: one is missing\n"), "{text}");
        assert!(!text.contains("noticed"), "nothing is quoted for what is excused: {text}");
        assert!(text.ends_with("\n18 steps in 3 rows: 16 passed, 1 excused, 1 failed, in 2.5 s\n"), "{text}");
    }
}
