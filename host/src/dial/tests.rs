mod any_order;
mod memory_tests;
mod name_tests;
mod paths_tests;
mod trust_tests;

use peerage_core::{Keypair, engine::sim::Sim, multiaddr::Protocol};
use peerage_transport::{Fault, Stage};

use super::{
    super::{AttemptResult, HEAD_START, MAX_ADDRESSES, MAX_PARALLEL, MAX_SOURCES, RELAY_HEAD_START, Skip},
    *,
};
use crate::reply::Reply;

type Dialer = Sim<Engine<u64>>;

const SECOND: Duration = Duration::from_secs(1);
const OWN: u8 = 0;

fn peer(n: u8) -> PeerId {
    Keypair::from_ed25519_seed([n; 32]).peer_id()
}

fn address(n: u16) -> Multiaddr {
    format!("/ip4/192.0.2.1/tcp/{n}").parse().unwrap()
}

fn of_peer(n: u16, who: u8) -> Multiaddr {
    format!("/ip4/192.0.2.1/tcp/{n}/p2p/{}", peer(who)).parse().unwrap()
}

fn dialer() -> Dialer {
    Sim::new(Engine::new(peer(OWN), 7 << 32, Box::new(Quic), engine::rng(7)))
}

/// A node that dials everything but QUIC.
#[derive(Debug)]
struct Quic;

impl Screen for Quic {
    fn refuses(&self, _: PeerId) -> Option<String> {
        None
    }

    fn skip(&self, address: &Multiaddr, _: Option<PeerId>, _: Trust) -> Option<Skip> {
        address.iter().any(|part| part == Protocol::QuicV1).then_some(Skip::Unsupported)
    }
}

fn given(address: Multiaddr) -> Given {
    Given { address, source: "user", trust: Trust::Asked }
}

fn ask(dialer: &mut Dialer, id: u64, who: Option<u8>, addresses: &[Multiaddr], within: Duration) {
    dialer.command(Command::Dial {
        request: Some(RequestId(id)),
        peer: who.map(peer),
        addresses: addresses.iter().cloned().map(given).collect(),
        how: How::default(),
        deadline: dialer.now().after(within),
        reply: Reply::new(drop),
    });
}

/// What an engine wants, sorted.
#[derive(Default)]
struct Wants {
    sources: Vec<DialId>,
    attempts: Vec<(DialId, AttemptId, Multiaddr)>,
    names: Vec<(AttemptId, String)>,
    deadlines: Vec<Instant>,
    aborts: Vec<AttemptId>,
    adopts: Vec<(DialId, u64)>,
    discards: Vec<u64>,
    answers: Vec<Result<Connected, DialError>>,
}

fn wants(dialer: &mut Dialer) -> Wants {
    let mut wants = Wants::default();
    for action in dialer.actions() {
        match action {
            Action::AskSources { dial, .. } => wants.sources.push(dial),
            Action::Attempt { attempt, address, deadline, .. } => {
                let dial = dialer.engine().attempts.get(&attempt).copied().unwrap_or(DialId(0));
                wants.attempts.push((dial, attempt, address));
                wants.deadlines.push(deadline);
            }
            Action::Resolve { attempt, address, .. } => wants.names.push((attempt, address.to_string())),
            Action::Abort { attempt } => wants.aborts.push(attempt),
            Action::Adopt { dial, connection, .. } => wants.adopts.push((dial, connection)),
            Action::Discard { connection } => wants.discards.push(connection),
            Action::Answer { result, .. } => wants.answers.push(result),
        }
    }
    wants
}

fn kinds(wants: Wants) -> Vec<DialErrorKind> {
    wants.answers.into_iter().map(|answer| answer.unwrap_err().kind).collect()
}

fn fails(dialer: &mut Dialer, attempt: AttemptId) {
    fails_with(dialer, attempt, None);
}

fn fails_with(dialer: &mut Dialer, attempt: AttemptId, found: Option<PeerId>) {
    let failed = Failed { stage: Stage::Connect, error: "refused".to_owned(), fault: Fault::Remote, found };
    dialer.input(Input::AttemptEnded { attempt, result: Err(failed) });
}

fn wins(dialer: &mut Dialer, attempt: AttemptId, who: u8) {
    let won = Won { peer: peer(who), connection: attempt.0 };
    dialer.input(Input::AttemptEnded { attempt, result: Ok(won) });
}

fn adopted(dialer: &mut Dialer, dial: DialId, result: Result<u64, Refused>) {
    dialer.input(Input::Adopted { dial, result: result.map(ConnectionId) });
}

fn said(dialer: &mut Dialer, dial: DialId, addresses: Vec<Multiaddr>) {
    dialer.input(Input::SourceSaid { dial, source: "book", trust: Trust::Own, said: Ok(addresses) });
}

/// Nothing is kept of what is over.
fn assert_empty(dialer: &Dialer) {
    let engine = dialer.engine();
    assert!(engine.dials.is_empty() && engine.by_key.is_empty() && engine.attempts.is_empty());
    assert_eq!(dialer.next_deadline(), None);
}

#[test]
fn a_dial_by_address() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[address(1)], 5 * SECOND);
    let first = wants(&mut dialer);
    assert!(first.sources.is_empty(), "nobody knows whom to ask for");
    let (dial, attempt, at) = first.attempts[0].clone();
    assert_eq!(at, address(1));
    dialer.input(Input::AttemptStage { attempt, stage: Stage::Security });
    wins(&mut dialer, attempt, 7);
    assert_eq!(wants(&mut dialer).adopts, [(dial, attempt.0)]);
    adopted(&mut dialer, dial, Ok(42));
    let dialed = wants(&mut dialer).answers.remove(0).unwrap();
    assert_eq!((dialed.connection, dialed.peer), (ConnectionId(42), peer(7)));
    assert_eq!(dialed.report.attempts[0].result, AttemptResult::Connected);
    assert_empty(&dialer);
}

#[test]
fn a_dial_by_peer_takes_the_addresses_of_all_sources() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(1), &[], 5 * SECOND);
    let dial = wants(&mut dialer).sources[0];
    dialer.input(Input::SourceSaid {
        dial,
        source: "kad",
        trust: Trust::Hearsay,
        said: Err("offline".to_owned()),
    });
    said(&mut dialer, dial, vec![of_peer(1, 1)]);
    let attempt = wants(&mut dialer).attempts.remove(0);
    assert_eq!(attempt.2, address(1), "without the peer's id");
    fails(&mut dialer, attempt.1);
    assert!(wants(&mut dialer).answers.is_empty(), "a source may still know more");
    said(&mut dialer, dial, vec![address(2)]);
    let attempt = wants(&mut dialer).attempts.remove(0);
    fails(&mut dialer, attempt.1);
    dialer.input(Input::SourcesDone { dial });
    let error = wants(&mut dialer).answers.remove(0).unwrap_err();
    assert_eq!(error.kind, DialErrorKind::AllFailed);
    assert_eq!(error.report.sources[0].said, Err("offline".to_owned()));
    assert_eq!(error.report.sources[1].said, Ok(1));
    assert_eq!(error.report.attempts[1].stage, Stage::Connect);
    assert_empty(&dialer);
}

#[test]
fn nothing_to_try() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[], SECOND);
    assert_eq!(kinds(wants(&mut dialer)), [DialErrorKind::NoAddresses]);
    ask(&mut dialer, 2, Some(1), &[of_peer(1, 2)], SECOND);
    let dial = wants(&mut dialer).sources[0];
    dialer.input(Input::SourcesDone { dial });
    let error = wants(&mut dialer).answers.remove(0).unwrap_err();
    assert_eq!(error.kind, DialErrorKind::NoAddresses);
    assert_eq!(error.report.attempts[0].result, AttemptResult::Skipped(Skip::OtherPeer(peer(2))));
    assert_empty(&dialer);
}

#[test]
fn what_is_refused_at_once() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(OWN), &[], SECOND);
    ask(&mut dialer, 2, None, &[of_peer(1, OWN)], SECOND);
    ask(&mut dialer, 3, Some(1), &[], Duration::ZERO);
    let expected = [DialErrorKind::SelfDial, DialErrorKind::SelfDial, DialErrorKind::Timeout];
    assert_eq!(kinds(wants(&mut dialer)), expected);
    dialer.command(Command::ShutDown);
    ask(&mut dialer, 4, Some(1), &[], SECOND);
    assert_eq!(kinds(wants(&mut dialer)), [DialErrorKind::Closed]);
    assert_empty(&dialer);
}

#[test]
fn the_next_starts_after_the_head_start_or_a_failure() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, None, &[address(1), address(2), address(3)], 5 * SECOND);
    let first = wants(&mut dialer).attempts;
    assert_eq!(first.len(), 1);
    dialer.advance(HEAD_START - Duration::from_nanos(1));
    assert!(wants(&mut dialer).attempts.is_empty());
    dialer.advance(Duration::from_nanos(1));
    assert_eq!(wants(&mut dialer).attempts.len(), 1);
    dialer.advance(HEAD_START / 2);
    fails(&mut dialer, first[0].1);
    assert_eq!(wants(&mut dialer).attempts[0].2, address(3), "at once");
}

#[test]
fn relayed_addresses_come_after_direct_ones() {
    let mut dialer = dialer();
    let relayed = |n| format!("{}/p2p-circuit", of_peer(n, 9)).parse::<Multiaddr>().unwrap();
    let all = [relayed(1), relayed(2), address(3), relayed(4), address(5)];
    ask(&mut dialer, 1, Some(1), &all, 60 * SECOND);
    dialer.advance(HEAD_START + RELAY_HEAD_START - Duration::from_nanos(1));
    let order = |dialer: &mut Dialer| -> Vec<_> {
        wants(dialer).attempts.into_iter().map(|(_, _, address)| address).collect()
    };
    assert_eq!(order(&mut dialer), [address(3), address(5)]);
    dialer.advance(Duration::from_nanos(1) + HEAD_START * 2);
    assert_eq!(order(&mut dialer), [relayed(1), relayed(2), relayed(4)]);
}

#[test]
fn eight_in_parallel_and_no_more() {
    let mut dialer = dialer();
    let all: Vec<_> = (1..=12).map(address).collect();
    ask(&mut dialer, 1, None, &all, 60 * SECOND);
    dialer.advance(HEAD_START * 20);
    let started = wants(&mut dialer).attempts;
    assert_eq!(started.len(), MAX_PARALLEL);
    fails(&mut dialer, started[3].1);
    assert_eq!(wants(&mut dialer).attempts.len(), 1);
    dialer.advance(HEAD_START * 20);
    assert!(wants(&mut dialer).attempts.is_empty());
}

#[test]
fn sixteen_addresses_and_no_more_each_once() {
    let mut dialer = dialer();
    let mut all: Vec<_> = (1..=17).flat_map(|n| [address(n), of_peer(n, 1)]).collect();
    all.insert(0, of_peer(99, 2));
    ask(&mut dialer, 1, Some(1), &all, 60 * SECOND);
    let mut tried = Vec::new();
    loop {
        let Wants { sources, attempts, answers, .. } = wants(&mut dialer);
        sources.into_iter().for_each(|dial| dialer.input(Input::SourcesDone { dial }));
        for (_, attempt, address) in attempts {
            tried.push(address);
            fails(&mut dialer, attempt);
        }
        if let Some(answer) = answers.into_iter().next() {
            let report = &answer.unwrap_err().report;
            let skipped = report.attempts.iter().filter(|attempt| attempt.started.is_none()).count();
            assert_eq!((report.attempts.len(), skipped), (19, 3), "the 17th was named twice");
            break;
        }
    }
    assert_eq!(tried, (1..=16).map(address).collect::<Vec<_>>());
    assert_eq!(tried.len(), MAX_ADDRESSES);
    assert_empty(&dialer);
}

#[test]
fn a_report_does_not_grow_with_what_strangers_name() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(1), &[], SECOND);
    let dial = wants(&mut dialer).sources[0];
    for n in 0..100_u16 {
        said(&mut dialer, dial, (0..10).map(|m| of_peer(n * 10 + m, 2)).collect());
    }
    said(&mut dialer, dial, (1..=16).map(address).collect());
    dialer.advance(SECOND);
    let report = wants(&mut dialer).answers.remove(0).unwrap_err().report;
    assert_eq!(report.attempts.len(), 48 + 16);
    assert_eq!(report.omitted, 1000 - 48);
    assert_eq!(report.sources.len(), MAX_SOURCES);
    assert_eq!(report.attempts.iter().filter(|attempt| attempt.started.is_some()).count(), 4);
}

#[test]
fn requests_for_the_same_peer_are_one_dial() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(1), &[address(1)], SECOND);
    ask(&mut dialer, 2, None, &[of_peer(2, 1)], 3 * SECOND);
    let Wants { sources, attempts, .. } = wants(&mut dialer);
    assert_eq!((sources.len(), attempts.len()), (1, 1));
    dialer.advance(SECOND);
    let second = wants(&mut dialer);
    assert_eq!(second.attempts[0].2, address(2), "the joiner's address");
    assert_eq!(kinds(second), [DialErrorKind::Timeout], "the first request's deadline");
    wins(&mut dialer, attempts[0].1, 1);
    let won = wants(&mut dialer);
    assert_eq!(won.aborts.len(), 1);
    adopted(&mut dialer, sources[0], Ok(1));
    let dialed = wants(&mut dialer).answers.remove(0).unwrap();
    assert_eq!(dialed.report.attempts[1].result, AttemptResult::Abandoned);
    assert_empty(&dialer);
}

#[test]
fn a_late_winner_is_discarded_and_so_is_the_wrong_peer() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(1), &[address(1), address(2), address(3)], 5 * SECOND);
    dialer.advance(2 * HEAD_START);
    let Wants { attempts, sources, .. } = wants(&mut dialer);
    wins(&mut dialer, attempts[0].1, 2);
    let wrong = wants(&mut dialer);
    assert_eq!(wrong.discards, [attempts[0].1.0]);
    assert!(wrong.adopts.is_empty());
    wins(&mut dialer, attempts[1].1, 1);
    assert_eq!(wants(&mut dialer).aborts, [attempts[2].1]);
    wins(&mut dialer, attempts[2].1, 1);
    assert_eq!(wants(&mut dialer).discards, [attempts[2].1.0]);
    adopted(&mut dialer, sources[0], Ok(1));
    let report = wants(&mut dialer).answers.remove(0).unwrap().report;
    assert_eq!(report.attempts[0].result, AttemptResult::WrongPeer { found: peer(2) });
}

#[test]
fn only_wrong_peers_answered() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(1), &[address(1), address(2)], 5 * SECOND);
    let Wants { attempts, sources, .. } = wants(&mut dialer);
    dialer.input(Input::SourcesDone { dial: sources[0] });
    fails_with(&mut dialer, attempts[0].1, Some(peer(2)));
    let second = wants(&mut dialer).attempts.remove(0);
    wins(&mut dialer, second.1, 3);
    let expected = DialErrorKind::WrongPeer { expected: peer(1), found: peer(2) };
    assert_eq!(kinds(wants(&mut dialer)), [expected]);
}

#[test]
fn what_the_host_refuses_ends_the_dial() {
    for (refused, kind) in [
        (Refused::OwnPeer, DialErrorKind::SelfDial),
        (Refused::Banned { peer: peer(1), remaining: SECOND }, DialErrorKind::Banned(peer(1))),
        (Refused::ShuttingDown, DialErrorKind::Closed),
    ] {
        let mut dialer = dialer();
        ask(&mut dialer, 1, None, &[address(1)], SECOND);
        let (dial, attempt, _) = wants(&mut dialer).attempts.remove(0);
        adopted(&mut dialer, dial, Ok(9));
        assert!(wants(&mut dialer).answers.is_empty(), "nothing was handed over yet");
        wins(&mut dialer, attempt, 1);
        wants(&mut dialer);
        adopted(&mut dialer, dial, Err(refused));
        assert_eq!(kinds(wants(&mut dialer)), [kind]);
        assert_empty(&dialer);
    }
}

#[test]
fn addresses_that_come_while_the_host_decides_wake_nobody() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(1), &[address(1)], 5 * SECOND);
    let Wants { attempts, sources, .. } = wants(&mut dialer);
    wins(&mut dialer, attempts[0].1, 1);
    said(&mut dialer, sources[0], vec![address(2)]);
    ask(&mut dialer, 2, Some(1), &[address(3)], 3 * SECOND);
    dialer.advance(5 * SECOND);
    let end = wants(&mut dialer);
    assert!(end.attempts.is_empty());
    assert_eq!(kinds(end), [DialErrorKind::Timeout, DialErrorKind::Timeout], "the Host never said a word");
    adopted(&mut dialer, sources[0], Ok(1));
    assert!(wants(&mut dialer).answers.is_empty());
    assert_empty(&dialer);
}

#[test]
fn nobody_waits_any_more() {
    let mut dialer = dialer();
    ask(&mut dialer, 1, Some(1), &[address(1)], 5 * SECOND);
    ask(&mut dialer, 2, Some(1), &[], 5 * SECOND);
    let attempt = wants(&mut dialer).attempts.remove(0);
    dialer.command(Command::Cancel { request: RequestId(1) });
    dialer.command(Command::Cancel { request: RequestId(7) });
    let one_left = wants(&mut dialer);
    assert!(one_left.aborts.is_empty());
    assert_eq!(kinds(one_left), [DialErrorKind::Cancelled]);
    dialer.command(Command::Cancel { request: RequestId(2) });
    let nobody = wants(&mut dialer);
    assert_eq!(nobody.aborts, [attempt.1]);
    assert_eq!(kinds(nobody), [DialErrorKind::Cancelled]);
    assert_empty(&dialer);
}

#[test]
fn an_attempt_gets_ten_seconds_or_what_is_left() {
    let mut dialer = dialer();
    let began = dialer.now();
    ask(&mut dialer, 1, None, &[address(1)], 60 * SECOND);
    ask(&mut dialer, 2, None, &[address(2)], 4 * SECOND);
    let ends = [began.after(ATTEMPT_TIMEOUT), began.after(4 * SECOND)];
    assert_eq!(wants(&mut dialer).deadlines, ends);
}

#[test]
fn five_hundred_and_twelve_dials_and_no_more() {
    let mut dialer = dialer();
    let max = u16::try_from(MAX_DIALS).unwrap();
    for n in 1..=max {
        ask(&mut dialer, n.into(), None, &[address(n)], SECOND);
    }
    assert_eq!(wants(&mut dialer).attempts.len(), MAX_DIALS);
    ask(&mut dialer, 0, None, &[address(max + 1)], SECOND);
    let limit = LimitError::new("dials under way", MAX_DIALS, Scope::System);
    assert_eq!(kinds(wants(&mut dialer)), [DialErrorKind::Limit(limit)]);
    ask(&mut dialer, 0, None, &[address(1)], SECOND);
    assert!(wants(&mut dialer).answers.is_empty(), "to join is allowed");
    dialer.advance(SECOND);
    assert_eq!(kinds(wants(&mut dialer)).len(), MAX_DIALS + 1);
    assert_empty(&dialer);
}

#[test]
fn so_many_requests_join_and_one_more_does_not() {
    let mut dialer = dialer();
    for n in 0..MAX_REQUESTS_PER_DIAL {
        ask(&mut dialer, u64::try_from(n).unwrap(), Some(1), &[], SECOND);
    }
    assert!(wants(&mut dialer).answers.is_empty());
    ask(&mut dialer, 0, Some(1), &[], SECOND);
    let limit = LimitError::new("requests for one dial", MAX_REQUESTS_PER_DIAL, Scope::Peer(peer(1)));
    assert_eq!(kinds(wants(&mut dialer)), [DialErrorKind::Limit(limit)]);
    dialer.command(Command::ShutDown);
    assert_eq!(kinds(wants(&mut dialer)), vec![DialErrorKind::Closed; MAX_REQUESTS_PER_DIAL]);
}
