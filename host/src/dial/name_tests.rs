//! Names in a dial, and the lanes in which their addresses are raced.

use peerage_transport::Stage;

use super::*;
use crate::dial::{MAX_LOOKUPS, MAX_NAME_DEPTH, NEAR_HEAD_START};

fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn resolved(dialer: &mut Dialer, name: AttemptId, addresses: &[&str]) {
    let addresses = addresses.iter().map(|text| addr(text)).collect();
    dialer.input(Input::Resolved { attempt: name, addresses });
}

fn resolve_ended(dialer: &mut Dialer, name: AttemptId) {
    dialer.input(Input::ResolveEnded { attempt: name, result: Ok(()) });
}

fn unresolved(dialer: &mut Dialer, name: AttemptId) {
    let failed =
        Failed { stage: Stage::Dns, error: "NXDOMAIN".to_owned(), fault: Fault::Remote, found: None };
    dialer.input(Input::ResolveEnded { attempt: name, result: Err(failed) });
}

fn tried(wants: &Wants) -> Vec<String> {
    wants.attempts.iter().map(|(_, _, address)| address.to_string()).collect()
}

#[test]
fn what_a_name_stands_for_joins_the_race() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[addr("/dns/h/tcp/1"), address(1)], 5 * SECOND);
    let first = wants(&mut dialer);
    assert_eq!(first.names[0].1, "/dns/h/tcp/1");
    assert_eq!(tried(&first), ["/ip4/192.0.2.1/tcp/1"], "meanwhile");
    let name = first.names[0].0;
    dialer.advance(HEAD_START);
    resolved(&mut dialer, name, &["/ip6/2001:db8::7/tcp/1"]);
    let six = wants(&mut dialer);
    assert_eq!(tried(&six), ["/ip6/2001:db8::7/tcp/1"], "as it comes");
    resolved(&mut dialer, name, &["/ip4/192.0.2.7/tcp/1"]);
    resolve_ended(&mut dialer, name);
    fails(&mut dialer, first.attempts[0].1);
    let four = wants(&mut dialer);
    assert_eq!(tried(&four), ["/ip4/192.0.2.7/tcp/1"]);
    wins(&mut dialer, four.attempts[0].1, 1);
    let won = wants(&mut dialer);
    assert_eq!(won.aborts, [six.attempts[0].1]);
    adopted(&mut dialer, won.adopts[0].0, Ok(1));
    let report = wants(&mut dialer).answers.remove(0).unwrap().report;
    let via: Vec<_> = report.attempts.iter().map(|attempt| attempt.via).collect();
    assert_eq!(via, [None, None, Some(0), Some(0)]);
    assert_eq!(report.attempts[0].result, AttemptResult::Resolved { addresses: 2 });
    assert_eq!(report.attempts[0].stage, Stage::Dns);
    let lines: Vec<_> = report.nested().iter().map(|(depth, _)| *depth).collect();
    assert_eq!(lines, [0, 1, 1, 0]);
    assert_empty(&dialer);
}

#[test]
fn a_name_that_is_never_resolved_holds_nothing_up() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(1), &[addr("/dns/h/tcp/1"), address(1)], 5 * SECOND);
    let Wants { sources, names, attempts, .. } = wants(&mut dialer);
    dialer.input(Input::SourcesDone { dial: sources[0] });
    fails(&mut dialer, attempts[0].1);
    assert!(wants(&mut dialer).answers.is_empty(), "the name may still bring something");
    dialer.advance(5 * SECOND);
    let end = wants(&mut dialer);
    assert_eq!(end.aborts, [names[0].0]);
    assert_eq!(kinds(end), [DialErrorKind::Timeout]);
    // What comes now is for nobody.
    resolved(&mut dialer, names[0].0, &["/ip4/192.0.2.7/tcp/1"]);
    resolve_ended(&mut dialer, names[0].0);
    assert!(wants(&mut dialer).attempts.is_empty());
    assert_empty(&dialer);
}

#[test]
fn only_a_name_and_it_does_not_exist() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[addr("/dns4/h/tcp/1")], 5 * SECOND);
    let name = wants(&mut dialer).names[0].0;
    unresolved(&mut dialer, name);
    let error = wants(&mut dialer).answers.remove(0).unwrap_err();
    assert_eq!(error.kind, DialErrorKind::AllFailed);
    assert!(error.to_string().contains("failed at dns, the peer's fault: NXDOMAIN"), "{error}");
    assert_empty(&dialer);
}

#[test]
fn whose_records_count_is_said() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(1), &[addr("/dnsaddr/h")], 5 * SECOND);
    let Wants { names, .. } = wants(&mut dialer);
    assert_eq!(names[0].1, format!("/dnsaddr/h/p2p/{}", peer(1)));
    resolved(&mut dialer, names[0].0, &[&of_peer(1, 2).to_string(), &of_peer(2, 1).to_string()]);
    assert_eq!(tried(&wants(&mut dialer)), [address(2).to_string()]);
}

/// Nobody was asked for, and the record says who is there: then nobody else may be.
#[test]
fn records_say_who_is_to_be_there() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[addr("/dnsaddr/h")], 5 * SECOND);
    let name = wants(&mut dialer).names[0].0;
    resolved(&mut dialer, name, &[&of_peer(1, 1).to_string(), &of_peer(2, OWN).to_string()]);
    resolve_ended(&mut dialer, name);
    let attempt = wants(&mut dialer).attempts.remove(0).1;
    wins(&mut dialer, attempt, 2);
    let end = wants(&mut dialer);
    assert_eq!(end.discards, [attempt.0]);
    let report = end.answers[0].as_ref().unwrap_err().report.clone();
    assert_eq!(report.attempts[1].result, AttemptResult::WrongPeer { found: peer(2) });
    assert_eq!(report.attempts[2].result, AttemptResult::Skipped(Skip::Own));
}

#[test]
fn a_name_is_no_attempt_at_its_addresses() {
    let name = addr(&format!("/dns4/h/tcp/1/p2p/{}", peer(1)));
    for (address, kind) in [
        ("/ip4/192.0.2.1/tcp/1", DialErrorKind::WrongPeer { expected: peer(1), found: peer(2) }),
        ("/ip4/192.0.2.1/udp/1/quic-v1", DialErrorKind::NoAddresses),
    ] {
        let mut dialer = dialer();
        ask(&mut dialer, 1, None, std::slice::from_ref(&name), 5 * SECOND);
        let Wants { names, sources, .. } = wants(&mut dialer);
        dialer.input(Input::SourcesDone { dial: sources[0] });
        resolved(&mut dialer, names[0].0, &[address]);
        resolve_ended(&mut dialer, names[0].0);
        let Wants { attempts, mut answers, .. } = wants(&mut dialer);
        if let Some((_, attempt, _)) = attempts.first() {
            wins(&mut dialer, *attempt, 2);
            answers = wants(&mut dialer).answers;
        }
        assert_eq!(answers.remove(0).unwrap_err().kind, kind);
    }
}

#[test]
fn names_that_lead_to_themselves_end() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[addr("/dnsaddr/a")], 60 * SECOND);
    let mut asked = 0;
    loop {
        let Wants { names, answers, .. } = wants(&mut dialer);
        for (name, text) in names {
            asked += 1;
            let other = if text == "/dnsaddr/a" { "/dnsaddr/b" } else { "/dnsaddr/a" };
            resolved(&mut dialer, name, &[&text, other]);
            resolve_ended(&mut dialer, name);
        }
        if let Some(answer) = answers.into_iter().next() {
            assert_eq!(answer.unwrap_err().kind, DialErrorKind::NoAddresses);
            break;
        }
    }
    assert_eq!(asked, 2);
    assert_empty(&dialer);
}

#[test]
fn so_many_names_one_after_another_and_no_more() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[addr("/dnsaddr/0")], 60 * SECOND);
    let mut asked = Vec::new();
    let error = loop {
        let Wants { names, answers, .. } = wants(&mut dialer);
        for (name, text) in names {
            asked.push(text);
            resolved(&mut dialer, name, &[&format!("/dnsaddr/{}", asked.len())]);
            resolve_ended(&mut dialer, name);
        }
        if let Some(answer) = answers.into_iter().next() {
            break answer.unwrap_err();
        }
    };
    assert_eq!(asked.len(), MAX_NAME_DEPTH);
    let last = &error.report.attempts.last().unwrap().result;
    let limit = Skip::Limit { what: "names one after another", max: MAX_NAME_DEPTH };
    assert_eq!(*last, AttemptResult::Skipped(limit));
}

#[test]
fn so_many_questions_and_no_more() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[addr("/dnsaddr/all")], 60 * SECOND);
    let first = wants(&mut dialer).names[0].0;
    let many: Vec<_> = (0..100).map(|n| format!("/dns4/{n}/tcp/1")).collect();
    resolved(&mut dialer, first, &many.iter().map(String::as_str).collect::<Vec<_>>());
    resolve_ended(&mut dialer, first);
    let mut asked = 1;
    loop {
        let Wants { names, answers, .. } = wants(&mut dialer);
        assert!(names.len() <= MAX_PARALLEL);
        asked += names.len();
        names.iter().for_each(|(name, _)| unresolved(&mut dialer, *name));
        if let Some(answer) = answers.into_iter().next() {
            let report = &answer.unwrap_err().report;
            assert_eq!(report.attempts.len() + report.omitted, 101);
            break;
        }
    }
    assert_eq!(asked, MAX_LOOKUPS);
}

#[test]
fn a_name_does_not_widen_the_limit_of_addresses() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[addr("/dns4/h/tcp/1")], 60 * SECOND);
    let name = wants(&mut dialer).names[0].0;
    let many: Vec<_> = (1..=200).map(|n| format!("/ip4/192.0.2.{n}/tcp/1")).collect();
    resolved(&mut dialer, name, &many.iter().map(String::as_str).collect::<Vec<_>>());
    resolve_ended(&mut dialer, name);
    let mut count = 0;
    loop {
        let Wants { attempts, answers, .. } = wants(&mut dialer);
        count += attempts.len();
        attempts.iter().for_each(|(_, attempt, _)| fails(&mut dialer, *attempt));
        if !answers.is_empty() {
            break;
        }
    }
    assert_eq!(count, MAX_ADDRESSES);
}

#[test]
fn what_no_transport_dials_takes_nobodys_place() {
    let mut dialer = dialer();
    let quic = |n: u16| addr(&format!("/ip4/192.0.2.1/udp/{n}/quic-v1"));
    let all: Vec<_> = (1..=20).map(quic).chain((1..=16).map(address)).collect();
    ask(&mut dialer, 1, None, &all, 60 * SECOND);
    dialer.advance(SECOND);
    let first = wants(&mut dialer);
    assert!(first.attempts.iter().all(|(_, _, address)| address.to_string().contains("tcp")));
    assert_eq!(first.attempts.len(), 5);
}

#[test]
fn near_by_and_the_internet_are_raced_side_by_side() {
    let mut dialer = dialer();
    let all = [
        "/ip4/8.8.8.1/tcp/1",
        "/ip4/192.168.1.1/tcp/1",
        "/ip6/2a01::1/tcp/1",
        "/ip4/127.0.0.1/tcp/1",
        "/ip6/::1/tcp/1",
    ];
    ask(&mut dialer, 1, None, &all.map(addr), 60 * SECOND);
    assert_eq!(tried(&wants(&mut dialer)), [all[4], all[2]], "IPv6 of both");
    dialer.advance(NEAR_HEAD_START);
    assert_eq!(tried(&wants(&mut dialer)), [all[1]]);
    dialer.advance(NEAR_HEAD_START);
    assert_eq!(tried(&wants(&mut dialer)), [all[3]]);
    dialer.advance(HEAD_START - 2 * NEAR_HEAD_START - Duration::from_nanos(1));
    assert!(wants(&mut dialer).attempts.is_empty());
    dialer.advance(Duration::from_nanos(1));
    assert_eq!(tried(&wants(&mut dialer)), [all[0]]);
}

#[test]
fn a_relay_waits_for_names_and_not_for_long() {
    let mut dialer = dialer();
    let relayed = addr(&format!("{}/p2p-circuit", of_peer(1, 9)));
    ask(&mut dialer, 1, Some(1), &[relayed.clone(), addr("/dns/h/tcp/1")], 60 * SECOND);
    assert!(wants(&mut dialer).attempts.is_empty());
    dialer.advance(RELAY_HEAD_START);
    assert_eq!(tried(&wants(&mut dialer)), [relayed.to_string()]);
}

#[test]
fn stages_are_told_with_their_times() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[address(1)], 5 * SECOND);
    let attempt = wants(&mut dialer).attempts.remove(0).1;
    let ms = Duration::from_millis;
    for (stage, after) in
        [(Stage::Connect, 0), (Stage::Security, 10), (Stage::Security, 5), (Stage::Muxer, 7)]
    {
        dialer.advance(ms(after));
        dialer.input(Input::AttemptStage { attempt, stage });
    }
    wins(&mut dialer, attempt, 1);
    let dial = wants(&mut dialer).adopts[0].0;
    adopted(&mut dialer, dial, Ok(1));
    let report = wants(&mut dialer).answers.remove(0).unwrap().report;
    let expected = [(Stage::Connect, ms(0)), (Stage::Security, ms(10)), (Stage::Muxer, ms(22))];
    assert_eq!(report.attempts[0].stages, expected);
}

#[test]
fn a_name_stands_for_no_path_of_this_machine() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[addr("/dnsaddr/h"), addr("/unix/asked")], 5 * SECOND);
    let first = wants(&mut dialer);
    assert_eq!(tried(&first), ["/unix/asked"]);
    resolved(&mut dialer, first.names[0].0, &["/unix/run/docker.sock"]);
    resolve_ended(&mut dialer, first.names[0].0);
    fails(&mut dialer, first.attempts[0].1);
    let report = wants(&mut dialer).answers.remove(0).unwrap_err().report;
    assert!(matches!(report.attempts[2].result, AttemptResult::Skipped(Skip::Filtered(_))));
    assert_empty(&dialer);
}
