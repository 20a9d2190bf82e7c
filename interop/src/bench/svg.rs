//! The same as a picture: for each measure and transport a group of bars, to be seen on light and dark pages.

use std::fmt::Write as _;

use super::{
    peers::{OURS, RAW},
    plan::transport_title,
    results::{Results, Summary},
    table::{self, digits},
};

const WIDTH: usize = 950;
/// Where bars begin, and how long the longest is; its number stands behind it. The longest title ends before it.
const LEFT: usize = 430;
const LENGTH: usize = 400;
const BAR: usize = 15;
const GAP: usize = 3;
/// Between two groups.
const SPACE: usize = 16;
const TOP: usize = 64;

/// Colours that can be told apart by everybody on white and on black. Ours is the strong one.
const COLOURS: [&str; 6] = ["#d9480f", "#1c7ed6", "#2f9e44", "#9c36b5", "#f08c00", "#0c8599"];
/// What is nobody's: the limit, and the span of the measurements.
const GREY: &str = "#868e96";

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#24292f}.t{font-weight:600}.s{fill:#57606a}.h{font-size:15px;font-weight:600}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}}";

/// Draws what was measured.
pub(crate) fn draw(results: &Results) -> String {
    let groups = groups(results);
    let bars: usize = groups.iter().map(|group| group.bars.len().max(2)).sum();
    let height = TOP + bars * (BAR + GAP) + groups.len() * SPACE + 24;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Peerage beside other libraries\">\n<style>{STYLE}</style>\n\
         <text x=\"12\" y=\"24\" class=\"h\">Peerage beside other libraries, two processes over loopback</text>\n"
    );
    legend(&mut svg, results);
    let mut y = TOP;
    for group in &groups {
        let _ = writeln!(
            svg,
            "<text x=\"12\" y=\"{}\" class=\"t\">{}</text><text x=\"12\" y=\"{}\" class=\"s\">{}</text>",
            y + 12,
            escape(&group.title),
            y + 29,
            escape(&group.subtitle)
        );
        let longest = group.bars.iter().map(|bar| bar.summary.median).fold(0.0, f64::max);
        for bar in &group.bars {
            draw_bar(&mut svg, y, bar, longest);
            y += BAR + GAP;
        }
        y += 2_usize.saturating_sub(group.bars.len()) * (BAR + GAP) + SPACE;
    }
    let _ = writeln!(
        svg,
        "<text x=\"12\" y=\"{}\" class=\"s\">{}</text>\n</svg>",
        y + 8,
        escape(&results.machine)
    );
    svg
}

struct Group {
    title: String,
    subtitle: String,
    bars: Vec<Bar>,
}

struct Bar {
    label: &'static str,
    colour: &'static str,
    summary: Summary,
}

/// What can be compared: where there is ours and somebody else's.
fn groups(results: &Results) -> Vec<Group> {
    let mut groups = Vec::new();
    for (figure, case) in table::shown(results) {
        let bar = |(index, label): (usize, &&'static str)| {
            let summary = results.summary(label, case, figure)?;
            Some(Bar { label, colour: colour(index, label), summary })
        };
        let bars: Vec<Bar> = results.labels.iter().enumerate().filter_map(bar).collect();
        if bars.len() > 1 && bars.iter().any(|bar| bar.label == OURS.label) {
            let better = if figure.less { "less is better" } else { "more is better" };
            groups.push(Group {
                title: figure.title.to_owned(),
                subtitle: format!("{}; {}, {better}", transport_title(case.transport), figure.unit),
                bars,
            });
        }
    }
    groups
}

fn colour(index: usize, label: &str) -> &'static str {
    if label == RAW.label { GREY } else { COLOURS.get(index).copied().unwrap_or(GREY) }
}

fn legend(svg: &mut String, results: &Results) {
    let mut x = 12;
    for (index, label) in results.labels.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"38\" width=\"11\" height=\"11\" rx=\"2\" fill=\"{}\"/><text x=\"{}\" y=\"48\">{}</text>",
            colour(index, label),
            x + 16,
            escape(label)
        );
        x += 36 + label.len() * 7;
    }
}

fn draw_bar(svg: &mut String, y: usize, bar: &Bar, longest: f64) {
    let Summary { median, least, most, count, .. } = bar.summary;
    let length =
        |value: f64| if longest > 0.0 { (value / longest).clamp(0.0, 1.1) * LENGTH as f64 } else { 0.0 };
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{}\"/>",
        length(median).max(1.0),
        bar.colour
    );
    let mut end = length(median);
    if count > 1 {
        // From the least to the most, as a thin line.
        let (from, to) = (length(least), length(most));
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"1.5\" fill=\"{GREY}\"/>",
            LEFT as f64 + from,
            y as f64 + BAR as f64 / 2.0 - 0.75,
            (to - from).max(0.5)
        );
        end = end.max(to);
    }
    let digits = digits(most);
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{}\">{median:.digits$}</text>",
        LEFT as f64 + end + 6.0,
        y + BAR - 3
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::{UP, cell, results};

    #[test]
    fn a_bar_for_each_and_nothing_without_ours() {
        let both =
            vec![cell("peerage", UP, &[(8.0, 0.0), (9.0, 0.0)]), cell("rust-libp2p", UP, &[(4.25, 0.0)])];
        let svg = draw(&results(both));
        assert_eq!(svg.matches(&format!("height=\"{BAR}\"")).count(), 2);
        assert!(svg.contains(">8.50</text>") && svg.contains(">4.25</text>"), "{svg}");
        assert!(svg.contains("width=\"200.0\""), "half as long: {svg}");
        let theirs = draw(&results(vec![cell("rust-libp2p", UP, &[(4.25, 0.0)])]));
        assert!(!theirs.contains("4.25"));
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b & c>"), "a&lt;b &amp; c&gt;");
    }
}
