//! What one dial remembers for the next.

use super::*;
use crate::dial::{AttemptReport, MAX_BACKOFF};

/// Dials a peer at what a source names, and fails everywhere.
fn fail_all(dialer: &mut Dialer, addresses: &[Multiaddr]) -> DialError {
    ask(dialer, 1, Some(1), &[], 60 * SECOND);
    let dial = wants(dialer).sources[0];
    said(dialer, dial, addresses.to_vec());
    dialer.input(Input::SourcesDone { dial });
    loop {
        let Wants { attempts, answers, .. } = wants(dialer);
        attempts.iter().for_each(|(_, attempt, _)| fails(dialer, *attempt));
        if let Some(answer) = answers.into_iter().next() {
            return answer.unwrap_err();
        }
    }
}

fn skipped(error: &DialError) -> Vec<bool> {
    let rests =
        |attempt: &AttemptReport| matches!(attempt.result, AttemptResult::Skipped(Skip::Backoff { .. }));
    error.report.attempts.iter().map(rests).collect()
}

#[test]
fn what_failed_rests_unless_it_is_asked_for() {
    let mut dialer = dialer();
    assert_eq!(fail_all(&mut dialer, &[address(1)]).kind, DialErrorKind::AllFailed);
    let error = fail_all(&mut dialer, &[address(1), address(2)]);
    assert_eq!(skipped(&error), [true, false]);
    let error = fail_all(&mut dialer, &[address(1), address(2)]);
    assert!(matches!(error.kind, DialErrorKind::Backoff { retry_in } if retry_in <= 5 * SECOND), "{error}");
    assert!(error.to_string().contains("or by an address"), "{error}");
    ask(&mut dialer, 2, Some(1), &[address(1)], SECOND);
    assert_eq!(wants(&mut dialer).attempts.len(), 1);
    dialer.command(Command::Cancel { request: RequestId(2) });
    wants(&mut dialer);
    dialer.advance(5 * SECOND);
    assert_eq!(skipped(&fail_all(&mut dialer, &[address(1), address(2)])), [false, false]);
    dialer.advance(2 * MAX_BACKOFF);
    assert_empty(&dialer);
}

#[test]
fn of_other_peers_it_does_not_rest() {
    let mut dialer = dialer();
    fail_all(&mut dialer, &[address(1)]);
    ask(&mut dialer, 1, Some(2), &[], SECOND);
    let dial = wants(&mut dialer).sources[0];
    said(&mut dialer, dial, vec![address(1)]);
    assert_eq!(wants(&mut dialer).attempts.len(), 1);
}

#[test]
fn this_nodes_own_faults_are_not_the_addresses() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(1), &[], 60 * SECOND);
    let dial = wants(&mut dialer).sources[0];
    said(&mut dialer, dial, vec![address(1)]);
    let attempt = wants(&mut dialer).attempts.remove(0).1;
    let failed =
        Failed { stage: Stage::Connect, error: "EMFILE".to_owned(), fault: Fault::Local, found: None };
    dialer.input(Input::AttemptEnded { attempt, result: Err(failed) });
    dialer.input(Input::SourcesDone { dial });
    wants(&mut dialer);
    assert_eq!(skipped(&fail_all(&mut dialer, &[address(1)])), [false]);
}

#[test]
fn what_worked_is_tried_first_and_alone() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(1), &[address(3)], SECOND);
    let Wants { attempts, sources, .. } = wants(&mut dialer);
    wins(&mut dialer, attempts[0].1, 1);
    adopted(&mut dialer, sources[0], Ok(1));
    wants(&mut dialer);
    let near: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().unwrap();
    ask(&mut dialer, 2, Some(1), &[address(1), near.clone(), address(3)], 60 * SECOND);
    let first = wants(&mut dialer).attempts;
    assert_eq!((first.len(), &first[0].2), (1, &address(3)));
    dialer.advance(HEAD_START);
    let second: Vec<_> = wants(&mut dialer).attempts.into_iter().map(|attempt| attempt.2).collect();
    assert_eq!(second, [near, address(1)]);
}

/// A source that was poisoned with everything that is of no use costs one dial, of sixteen attempts at most.
#[test]
fn ten_thousand_useless_addresses() {
    let mut dialer = dialer();
    let poison: Vec<_> = (0..10_000_u16)
        .map(|n| match n % 3 {
            0 => address(n),
            1 => of_peer(n, 2),
            _ => format!("/ip4/192.0.2.1/udp/{n}/quic-v1").parse().unwrap(),
        })
        .collect();
    let error = fail_all(&mut dialer, &poison);
    let tried = error.report.attempts.iter().filter(|attempt| attempt.started.is_some()).count();
    assert_eq!(tried, MAX_ADDRESSES);
    assert_eq!(error.report.attempts.len() + error.report.omitted, 10_000);
    assert_empty(&dialer);
}
