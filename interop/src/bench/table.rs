//! The tables, in Markdown that is readable as it is: for a terminal and for the README.

use std::fmt::Write as _;

use super::{
    peers::{OURS, RAW},
    plan::{Case, FIGURES, Figure, limit_title, transport_title},
    results::{Results, Summary},
};

/// All tables, each with the configuration that it was measured with.
pub(crate) fn render(results: &Results) -> String {
    let mut text = String::new();
    for part in [speeds(results), cpu(results), machine(results), builds(results)] {
        if part.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{part}\n{}", configuration(results));
    }
    for failure in &results.failures {
        let _ = writeln!(text, "FAILED  {failure}");
    }
    text
}

/// What is the same for all that is in a table, and who they are.
pub(crate) fn configuration(results: &Results) -> String {
    let settings = &results.settings;
    let (quiet, all) = results.quiet();
    let way = settings.link.as_ref().map_or_else(|| "loopback".to_owned(), |link| format!("a link ({link})"));
    let mut text = format!(
        "{}; two processes over {way}, {} workers each, writes of {} KiB, {} s each, {} rounds, interleaved; keys by X25519{}; \
         {quiet} of {all} measurements with less than 0.15 processors of other load.\n",
        results.machine,
        settings.workers,
        settings.write / 1024,
        settings.seconds,
        results.rounds,
        if settings.hybrid { ", ours by X25519MLKEM768" } else { "" },
    );
    for label in &results.labels {
        if let Some(about) = results.about.get(label) {
            let _ = writeln!(text, "- {label}: {about}");
        }
    }
    text
}

/// A row for each figure and transport, a column for each program.
fn speeds(results: &Results) -> String {
    let columns = columns(results);
    let mut rows = Vec::new();
    for (figure, case) in shown(results) {
        let ours = results.summary(OURS.label, case, figure);
        let mut row =
            vec![format!("{}, {}", figure.title, figure.unit), transport_title(case.transport).to_owned()];
        for label in &columns {
            let summary = results.summary(label, case, figure);
            row.push(summary.map_or_else(|| "-".to_owned(), number));
            if *label != OURS.label {
                row.push(ratio(ours, summary));
            }
        }
        if row.iter().skip(2).any(|cell| cell != "-") {
            rows.push(row);
        }
    }
    let mut head = vec!["measure".to_owned(), "over".to_owned()];
    for label in columns {
        head.push(label.to_owned());
        if label != OURS.label {
            head.push("ours : it".to_owned());
        }
    }
    markdown(&head, &rows)
}

/// CPU time of both sides.
fn cpu(results: &Results) -> String {
    let columns = columns(results);
    let mut rows = Vec::new();
    let mut seen = None;
    for (figure, case) in shown(results) {
        // Some measures have two figures.
        if seen.replace(case) == Some(case) {
            continue;
        }
        let cells: Vec<String> = columns
            .iter()
            .map(|label| results.cell(label, case).and_then(|cell| cell.cpu()))
            .map(|cpu| {
                cpu.map_or_else(|| "-".to_owned(), |(client, server)| format!("{client:.3} + {server:.3}"))
            })
            .collect();
        if cells.iter().any(|cell| cell != "-") {
            let title = figure.title.split(", median").next().unwrap_or_default();
            let mut row =
                vec![format!("{title}, {}", figure.cpu), transport_title(case.transport).to_owned()];
            row.extend(cells);
            rows.push(row);
        }
    }
    let mut head = vec!["CPU of client + server".to_owned(), "over".to_owned()];
    head.extend(columns.iter().map(ToString::to_string));
    markdown(&head, &rows)
}

/// What the machine can do.
fn machine(results: &Results) -> String {
    let mut rows = Vec::new();
    for cell in &results.wide {
        for figure in FIGURES.iter().filter(|figure| figure.measure == cell.case.measure) {
            let summary = cell.summary(figure).map_or_else(|| "-".to_owned(), number);
            rows.push(vec![format!("TCP, writes of 1 MiB: {}", figure.title), summary]);
        }
    }
    for (cipher, speed) in &results.ciphers {
        rows.push(vec![format!("seal {cipher}"), format!("{speed:.1}")]);
    }
    markdown(&["limits of the machine".to_owned(), "Gbit/s".to_owned()], &rows)
}

fn builds(results: &Results) -> String {
    let row = |build: &super::echo::Build| {
        let cells = [build.label.to_owned(), format!("{:.2}", build.mib), format!("{:.0}", build.seconds)];
        cells.into_iter().chain([build.crates.to_string()]).collect()
    };
    let rows: Vec<Vec<String>> = results.builds.iter().map(row).collect();
    let head = ["the program echo", "stripped, MiB", "clean release build, s", "crates"];
    markdown(&head.map(str::to_owned), &rows)
}

/// Everybody, and the limit last.
fn columns(results: &Results) -> Vec<&'static str> {
    results.labels.clone()
}

/// What there is to show, figure by figure.
pub(crate) fn shown(results: &Results) -> Vec<(&'static Figure, Case)> {
    let cases = results.cases();
    let mut shown = Vec::new();
    for figure in &FIGURES {
        for case in cases.iter().filter(|case| case.measure == figure.measure) {
            shown.push((figure, *case));
        }
    }
    // The figures of one case beside each other.
    shown.sort_by_key(|(figure, _)| FIGURES.iter().position(|one| one.title == figure.title));
    shown
}

/// The median, and the least and the most; with a mark if the machine was busy.
fn number(summary: Summary) -> String {
    let Summary { median, least, most, count, quiet } = summary;
    let digits = digits(most);
    let mark = if quiet { "" } else { "~" };
    if count == 1 {
        return format!("{mark}{median:.digits$}");
    }
    format!("{mark}{median:.digits$} ({least:.digits$}-{most:.digits$})")
}

/// How many digits after the point say something.
pub(crate) fn digits(number: f64) -> usize {
    match number {
        number if number < 10.0 => 2,
        number if number < 100.0 => 1,
        _ => 0,
    }
}

/// Ours to another one's, as it is: where less is better, a ratio under 1 is what we want.
fn ratio(ours: Option<Summary>, other: Option<Summary>) -> String {
    match (ours, other) {
        (Some(ours), Some(other)) if other.median > 0.0 => format!("{:.2}", ours.median / other.median),
        _ => "-".to_owned(),
    }
}

fn markdown(head: &[String], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().map(Vec::as_slice).chain([head]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    let mut line = |row: &[String], fill: char| {
        for (cell, width) in row.iter().zip(&widths) {
            let pad = width.saturating_sub(cell.chars().count());
            let _ = write!(text, "| {cell}{} ", fill.to_string().repeat(pad));
        }
        text.push_str("|\n");
    };
    line(head, ' ');
    line(&vec!["---".to_owned(); head.len()], '-');
    for row in rows {
        line(row, ' ');
    }
    text
}

/// What stands beside the numbers of the last column.
pub(crate) fn limits(results: &Results) -> Option<String> {
    results.labels.contains(&RAW.label).then(|| {
        let mut titles = Vec::new();
        for case in results.cases() {
            let title = format!("{} beside {}", limit_title(case.transport), transport_title(case.transport));
            if !titles.contains(&title) {
                titles.push(title);
            }
        }
        format!("The limit: {}.", titles.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::{UP, cell, results};

    #[test]
    fn a_table() {
        let ours = cell("peerage", UP, &[(8.0, 0.0), (7.5, 0.0), (9.0, 0.0)]);
        let theirs = cell("rust-libp2p", UP, &[(5.0, 1.0)]);
        let text = render(&results(vec![ours, theirs]));
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some(
                "| measure                | over              | peerage          | rust-libp2p | ours : it |"
            )
        );
        lines.next();
        assert_eq!(
            lines.next(),
            Some(
                "| one stream, up, Gbit/s | tcp, noise, yamux | 8.00 (7.50-9.00) | ~5.00       | 1.60      |"
            )
        );
        assert!(text.contains("3 of 4 measurements with less than"), "{text}");
        assert!(
            text.contains("| one stream, up, s/GB   | tcp, noise, yamux | 1.000 + 2.000 | 1.000 + 2.000 |"),
            "{text}"
        );
        assert!(text.contains("- rust-libp2p: rust-libp2p 1.0"), "{text}");
        assert!(text.contains("| seal AES-128-GCM, 16384 B | 99.5"), "{text}");
    }

    #[test]
    fn as_many_digits_as_say_something() {
        assert_eq!([9.99, 10.0, 99.9, 100.0].map(digits), [2, 1, 1, 0]);
    }
}
