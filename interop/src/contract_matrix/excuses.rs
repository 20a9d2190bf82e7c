//! Failures that are not ours: with a foreign program in our place, the same test fails as well. That is tried again in
//! each run, and an excuse that is not needed any more fails it.

use std::path::Path;

use super::{
    Row, one,
    pair::Place,
    plan::{Contract, OURS, Test},
};

/// Tests over one transport with one foreign program, and why they fail.
struct Excuse {
    contract: Contract,
    dialer: &'static str,
    listener: &'static str,
    transport: &'static str,
    /// `None` means any.
    security: Option<&'static str>,
    /// Who takes our place to show it.
    stand_in: &'static str,
    reason: &'static str,
}

const ALL: &[Excuse] = &[Excuse {
    contract: Contract::Perf,
    dialer: OURS,
    listener: "rust",
    transport: "webrtc-direct",
    security: None,
    stand_in: "js",
    reason: "rust-libp2p reads no message over 8 KiB on WebRTC, though the specification allows 16 KiB",
}];

impl Excuse {
    fn covers(&self, test: &Test) -> bool {
        (self.dialer, self.listener, self.transport) == (test.dialer, test.listener, test.transport)
            && self.contract == test.contract
            && (self.security.is_none() || self.security == test.security)
    }

    /// The same test without us.
    fn shown_by(&self, test: &Test) -> Test {
        let replaced = |who| if who == OURS { self.stand_in } else { who };
        Test { dialer: replaced(test.dialer), listener: replaced(test.listener), ..*test }
    }
}

/// Marks the failures that have an excuse which still holds, and says which excuses do not.
pub(super) async fn look_again(rows: &mut [Row], place: &Place, peers: &Path) -> Vec<String> {
    let mut stale = Vec::new();
    // Keys that no other test has had.
    let mut number = rows.len();
    for row in rows {
        let Some(excuse) = ALL.iter().find(|excuse| excuse.covers(&row.test)) else { continue };
        if row.ok {
            stale.push(format!("{}: passes, and needs no excuse any more", row.test.label()));
            continue;
        }
        let shown = one(excuse.shown_by(&row.test), number, place, peers).await;
        number += 1;
        stale.extend(settle(row, &shown, excuse));
    }
    stale
}

fn settle(row: &mut Row, shown: &Row, excuse: &Excuse) -> Option<String> {
    if shown.ok {
        return Some(format!("{}: {} passes, so this failure is ours", row.test.label(), shown.test.label()));
    }
    row.excused = Some(excuse.reason);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract_matrix::pair::{Failed, Measured};

    #[test]
    fn an_excuse_holds_while_the_stand_in_fails_too() {
        let excuse = Excuse {
            contract: Contract::Unified,
            dialer: OURS,
            listener: "py",
            transport: "ws",
            security: Some("tls"),
            stand_in: "go",
            reason: "theirs",
        };
        let test = Test {
            contract: Contract::Unified,
            dialer: OURS,
            listener: "py",
            transport: "ws",
            security: Some("tls"),
            muxer: Some("yamux"),
        };
        assert!(excuse.covers(&test) && !excuse.covers(&Test { security: Some("noise"), ..test }));
        assert!(!excuse.covers(&Test { contract: Contract::Perf, ..test }));
        let shown_by = excuse.shown_by(&test);
        assert_eq!((shown_by.dialer, shown_by.listener), ("go", "py"));
        let bad = |test| Row::new(test, Err(Failed { why: "no".to_owned(), stderr: Vec::new() }));
        let mut row = bad(test);
        assert_eq!(settle(&mut row, &bad(shown_by), &excuse), None);
        assert_eq!(row.excused, Some("theirs"));
        let mut row = bad(test);
        let good = Row::new(shown_by, Ok(Measured { first: 1.0, second: 1.0 }));
        let stale = settle(&mut row, &good, &excuse);
        assert!(
            row.excused.is_none() && stale.is_some_and(|why| why.contains("go -> py ws tls+yamux passes"))
        );
    }
}
