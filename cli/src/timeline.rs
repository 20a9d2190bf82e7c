//! How a dial went, drawn over time: a row for each address, with a bar from the start of its attempt to its end.

use std::{fmt, time::Duration};

use peerage::{
    Report,
    dial::{AttemptReport, AttemptResult},
    transport::{Fault, Stage},
};

use crate::{output::Paint, text::clean};

/// Below this the bars say nothing, and above that they say no more.
const BAR: std::ops::RangeInclusive<usize> = 10..=60;
/// The least that is left of an address.
const MIN_ADDRESS: usize = 20;

/// A report as a timeline, `width` columns wide.
pub(crate) struct Timeline<'a> {
    pub(crate) report: &'a Report,
    pub(crate) width: usize,
    pub(crate) paint: Paint,
}

/// What a bar is made of.
fn character(stage: Stage) -> char {
    match stage {
        Stage::Dns => '?',
        Stage::Connect => '-',
        Stage::WebSocket => ':',
        Stage::Security => '=',
        Stage::Muxer => '#',
        _ => '.',
    }
}

const LEGEND: &str =
    ". waits  ? dns  - connect  : websocket  = security  # muxer  then  + connected  x failed  ~ given up";

impl fmt::Display for Timeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.report.nested();
        let labels: Vec<String> = rows.iter().map(|(depth, attempt)| label(*depth, attempt)).collect();
        let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        // The address, two spaces, the bar between two edges.
        let bar = self.width.saturating_sub(longest.max(MIN_ADDRESS).saturating_add(5));
        let bar = bar.clamp(*BAR.start(), *BAR.end());
        let address = longest.min(self.width.saturating_sub(bar.saturating_add(5)).max(MIN_ADDRESS));

        self.sources(f)?;
        for ((depth, attempt), label) in rows.iter().zip(&labels) {
            let drawn = self.bar(attempt, bar);
            writeln!(f, "{}  |{}|", fit(label, address), self.coloured(attempt, &drawn))?;
            writeln!(f, "{:indent$}{}", "", self.paint.dim(ended(attempt)), indent = depth * 2 + 2)?;
        }
        if self.report.omitted > 0 {
            writeln!(f, "and {} addresses more that were not tried", self.report.omitted)?;
        }
        if rows.is_empty() {
            return write!(f, "no address was tried");
        }
        let (zero, end) = ("0", millis(self.report.took));
        let between = bar.saturating_sub(end.len()).saturating_add(1);
        writeln!(f, "{:address$}  {zero:<between$}{end}", "")?;
        write!(f, "{}", self.paint.dim(LEGEND))
    }
}

impl Timeline<'_> {
    fn sources(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for source in &self.report.sources {
            match &source.said {
                Ok(count) => writeln!(f, "{} names {count}", source.name)?,
                Err(error) => writeln!(f, "{} could not be asked: {}", source.name, clean(error))?,
            }
        }
        Ok(())
    }

    /// The bar of one attempt. What took any time at all is seen.
    fn bar(&self, attempt: &AttemptReport, width: usize) -> String {
        let Some(started) = attempt.started else { return " ".repeat(width) };
        let last = width.saturating_sub(1);
        let column = |at: Duration| {
            let whole = self.report.took.as_secs_f64();
            let part = if whole > 0.0 { at.as_secs_f64() / whole } else { 0.0 };
            ((part * last as f64) as usize).min(last)
        };
        let end = attempt.ended.unwrap_or(self.report.took);
        let (from, to) = (column(started), column(end));
        let mut drawn = vec![' '; width];
        for (column_of, cell) in drawn.iter_mut().enumerate().take(to).skip(from) {
            let reached = attempt.stages.iter().rfind(|(_, at)| column(*at) <= column_of);
            *cell = character(reached.map_or(Stage::Address, |(stage, _)| *stage));
        }
        if let Some(cell) = drawn.get_mut(to) {
            *cell = match attempt.result {
                AttemptResult::Connected | AttemptResult::Resolved { .. } => '+',
                AttemptResult::Abandoned => '~',
                AttemptResult::UnderWay => character(attempt.stage),
                _ => 'x',
            };
        }
        drawn.into_iter().collect()
    }

    fn coloured(&self, attempt: &AttemptReport, drawn: &str) -> String {
        match attempt.result {
            AttemptResult::Connected => self.paint.green(drawn).to_string(),
            AttemptResult::Failed { .. } | AttemptResult::WrongPeer { .. } => {
                self.paint.red(drawn).to_string()
            }
            _ => drawn.to_owned(),
        }
    }
}

fn label(depth: usize, attempt: &AttemptReport) -> String {
    format!("{:indent$}{}", "", clean(&attempt.address.to_string()), indent = depth * 2)
}

/// How it ended, and when.
fn ended(attempt: &AttemptReport) -> String {
    let source = clean(&attempt.source);
    let how = match &attempt.result {
        AttemptResult::UnderWay => format!("still at {}", attempt.stage),
        AttemptResult::Resolved { addresses: 1 } => "stands for 1 address".to_owned(),
        AttemptResult::Resolved { addresses } => format!("stands for {addresses} addresses"),
        AttemptResult::Connected => "connected".to_owned(),
        AttemptResult::Failed { error, fault } => {
            let whose = match fault {
                Fault::Local => "this node's fault",
                Fault::Remote => "the peer's fault",
                Fault::Network => "the network's fault",
            };
            format!("failed at {}, {whose}: {}", attempt.stage, clean(error))
        }
        AttemptResult::WrongPeer { found } => format!("{found} answered instead"),
        AttemptResult::Abandoned => format!("given up at {}", attempt.stage),
        AttemptResult::Skipped(why) => format!("not tried, {}", clean(&why.to_string())),
        _ => "ended".to_owned(),
    };
    let how = match attempt.doubt {
        Some(kind) => format!("{how} (left for the end: {kind} seems to lead nowhere here)"),
        None => how,
    };
    match (attempt.started, attempt.ended) {
        (Some(started), Some(ended)) => {
            format!("{source}, {} to {}: {how}", millis(started), millis(ended))
        }
        (Some(started), None) => format!("{source}, from {}: {how}", millis(started)),
        _ => format!("{source}: {how}"),
    }
}

fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

/// Cut in the middle, where an address says least, or filled up.
fn fit(text: &str, width: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= width {
        return format!("{text:<width$}");
    }
    let kept = width.saturating_sub(2);
    let tail = kept / 2;
    let head = characters.iter().take(kept - tail);
    let tail = characters.iter().skip(characters.len() - tail);
    head.chain(&['.', '.']).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use peerage::{ConnectOptions, Keypair, Multiaddr, Node};

    use super::*;

    #[test]
    fn long_addresses_are_cut_in_the_middle() {
        assert_eq!(fit("abc", 5), "abc  ");
        assert_eq!(fit("abcdefghij", 8), "abc..hij");
        assert_eq!(fit("abcdefghij", 7), "abc..ij");
    }

    #[tokio::test]
    async fn rows_fit_the_terminal() {
        let node = Node::builder(Keypair::generate()).workers(1).start().await.unwrap();
        let mut options = ConnectOptions::default();
        options.addresses = vec!["/ip4/127.0.0.1/udp/1".parse().unwrap()];
        let nobody: Multiaddr = "/dns4/localhost/tcp/1".parse().unwrap();
        let report = node.connect_with(nobody, options).await.unwrap_err().report;
        for width in [40, 80, 100, 200] {
            let drawn = Timeline { report: &report, width, paint: Paint::none() }.to_string();
            let rows: Vec<_> = drawn.lines().filter(|line| line.ends_with('|')).collect();
            assert_eq!(rows.len(), 3, "{drawn}");
            assert!(rows.iter().all(|row| row.chars().count() <= width), "{width}:\n{drawn}");
            let edges: Vec<_> = rows.iter().map(|row| row.find('|')).collect();
            assert!(edges.windows(2).all(|pair| pair[0] == pair[1]), "one below the other:\n{drawn}");
            assert!(rows[0].contains('+'), "{drawn}");
            assert!(rows[1].contains('x') && rows[2].trim_end_matches('|').ends_with("  "), "{drawn}");
        }
        node.shutdown().await;
    }

    #[test]
    fn times_are_read_easily() {
        assert_eq!(millis(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(millis(Duration::from_millis(1234)), "1234 ms");
    }
}
