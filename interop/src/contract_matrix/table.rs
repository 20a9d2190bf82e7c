//! Results, to be read: a line for each pair and transport, a column for each stack.

use std::fmt::Write as _;

use super::{Results, Row, plan::Contract};

const STACKS: [&str; 5] = ["noise+yamux", "noise+mplex", "tls+yamux", "tls+mplex", "alone"];

pub(super) fn render(results: &Results) -> String {
    let mut out = String::new();
    for of_contract in results.rows.chunk_by(|one, next| one.test.contract == next.test.contract) {
        grid(&mut out, of_contract);
        out.push('\n');
    }
    for row in results.rows.iter().filter(|row| !row.ok) {
        let why = row.error.as_deref().unwrap_or("it did not say why");
        match row.excused {
            Some(reason) => {
                let _ = writeln!(out, "excused {}: {why} ({reason})\n", row.test.label());
            }
            None => {
                let _ = writeln!(out, "FAIL {}: {why}", row.test.label());
                for line in &row.stderr {
                    let _ = writeln!(out, "  {line}");
                }
                out.push('\n');
            }
        }
    }
    for stale in &results.stale {
        let _ = writeln!(out, "FAIL {stale}\n");
    }
    let count = |is: fn(&Row) -> bool| results.rows.iter().filter(|row| is(row)).count();
    let (passed, excused) = (count(|row| row.ok), count(|row| !row.ok && row.excused.is_some()));
    let failed = results.rows.len().saturating_sub(passed + excused);
    let _ = writeln!(
        out,
        "{} tests: {passed} passed, {excused} excused, {failed} failed, in {:.1} s",
        results.rows.len(),
        results.seconds
    );
    out
}

/// All tests of one contract.
fn grid(out: &mut String, rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let what = match first.test.contract {
        Contract::Perf => "upload in Gbps, round trip in ms",
        Contract::Unified | Contract::TestPlans => "handshake and one round trip, in ms",
    };
    let _ = writeln!(out, "{} ({what})", first.test.contract.word());
    let line_of = |row: &Row| (row.test.dialer, row.test.listener, row.test.transport);
    let mut line = format!("  {:20} {:14}", "dialer -> listener", "transport");
    for stack in STACKS {
        let _ = write!(line, " {stack:>12}");
    }
    let _ = writeln!(out, "{}", line.trim_end());
    for pair in rows.chunk_by(|one, next| line_of(one) == line_of(next)) {
        let Some(first) = pair.first() else { continue };
        let who = format!("{} -> {}", first.test.dialer, first.test.listener);
        let mut line = format!("  {who:20} {:14}", first.test.transport);
        for stack in STACKS {
            let cell = pair.iter().find(|row| row.test.stack() == stack).map_or("-".to_owned(), cell);
            let _ = write!(line, " {cell:>12}");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn cell(row: &Row) -> String {
    match (row.ok, row.excused) {
        (true, _) => match (row.upload_gbps, row.ping_rtt) {
            (Some(gbps), Some(ms)) => format!("{gbps:.1} / {ms:.2}"),
            _ => format!("{:.1}", row.handshake_plus_one_rtt.unwrap_or_default()),
        },
        (false, Some(_)) => "excused".to_owned(),
        (false, None) => "FAIL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract_matrix::{
        pair::{Failed, Measured},
        plan::Test,
    };

    #[test]
    fn a_table_to_read() {
        let test = Test {
            contract: Contract::Unified,
            dialer: "peerage",
            listener: "go",
            transport: "tcp",
            security: Some("noise"),
            muxer: Some("yamux"),
        };
        let good = Row::new(test, Ok(Measured { first: 5.01, second: 0.6 }));
        let failed =
            || Failed { why: "the dialer ended with 1".to_owned(), stderr: vec!["dialer: no".to_owned()] };
        let bad = Row::new(Test { muxer: Some("mplex"), ..test }, Err(failed()));
        let quic = Test { transport: "quic-v1", security: None, muxer: None, ..test };
        let mut excused = Row::new(quic, Err(failed()));
        excused.excused = Some("theirs");
        let perf = Test { contract: Contract::Perf, ..test };
        let perf = Row::new(perf, Ok(Measured { first: 9.87, second: 0.123 }));
        let rows = vec![good, bad, excused, perf];
        let results = Results { ok: false, seconds: 1.25, rows, stale: vec!["an excuse".to_owned()] };
        let expected = "\
unified (handshake and one round trip, in ms)
  dialer -> listener   transport       noise+yamux  noise+mplex    tls+yamux    tls+mplex        alone
  peerage -> go        tcp                     5.0         FAIL            -            -            -
  peerage -> go        quic-v1                   -            -            -            -      excused

perf (upload in Gbps, round trip in ms)
  dialer -> listener   transport       noise+yamux  noise+mplex    tls+yamux    tls+mplex        alone
  peerage -> go        tcp              9.9 / 0.12            -            -            -            -

FAIL unified peerage -> go tcp noise+mplex: the dialer ended with 1
  dialer: no

excused unified peerage -> go quic-v1 alone: the dialer ended with 1 (theirs)

FAIL an excuse

4 tests: 2 passed, 1 excused, 1 failed, in 1.2 s
";
        assert_eq!(render(&results), expected);
    }
}
