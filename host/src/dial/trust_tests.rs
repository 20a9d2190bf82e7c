use super::*;

/// Does not want peer 9, nor ports below 100; and nobody is sent to port 666 by strangers.
#[derive(Debug)]
struct Strict;

impl Screen for Strict {
    fn refuses(&self, who: PeerId) -> Option<String> {
        (who == peer(9)).then(|| "not that one".to_owned())
    }

    fn skip(&self, address: &Multiaddr, _: Option<PeerId>, trust: Trust) -> Option<Skip> {
        let port = address.socket_addr()?.addr.port();
        if trust == Trust::Hearsay && port == 666 {
            return Some(Skip::Filtered("a stranger's"));
        }
        (port < 100).then(|| Skip::Gated("not there".to_owned()))
    }
}

fn strict() -> Dialer {
    Sim::new(Engine::new(peer(OWN), 7 << 32, Box::new(Strict), engine::rng(7)))
}

fn name() -> Multiaddr {
    "/dns4/a.example/tcp/666".parse().unwrap()
}

fn ask_by_hearsay(dialer: &mut Dialer, who: Option<u8>, addresses: Vec<Multiaddr>) {
    let given = |address| Given { address, source: "hearsay", trust: Trust::Hearsay };
    dialer.command(Command::Dial {
        request: None,
        peer: who.map(peer),
        addresses: addresses.into_iter().map(given).collect(),
        how: How::default(),
        deadline: dialer.now().after(5 * SECOND),
        reply: Reply::new(drop),
    });
}

#[test]
fn a_peer_that_is_gated_is_not_asked_about() {
    let mut dialer = strict();
    ask(&mut dialer, 1, Some(9), &[address(200)], 5 * SECOND);
    let wants = wants(&mut dialer);
    assert!(wants.sources.is_empty() && wants.attempts.is_empty());
    assert_eq!(kinds(wants), [DialErrorKind::Gated("not that one".to_owned())]);
    assert_empty(&dialer);
}

#[test]
fn a_peer_that_a_name_stands_for_can_be_gated() {
    let mut dialer = strict();
    ask(&mut dialer, 1, None, &["/dnsaddr/a.example".parse().unwrap()], 5 * SECOND);
    let (attempt, _) = wants(&mut dialer).names[0].clone();
    dialer.input(Input::Resolved { attempt, addresses: vec![of_peer(200, 9)] });
    dialer.input(Input::ResolveEnded { attempt, result: Ok(()) });
    let wants = wants(&mut dialer);
    assert!(wants.attempts.is_empty());
    assert_eq!(kinds(wants), [DialErrorKind::Gated("not that one".to_owned())]);
}

#[test]
fn gated_addresses_take_no_place_of_others() {
    let mut dialer = strict();
    let gated: Vec<_> = (1..=16).map(address).collect();
    let most = u16::try_from(MAX_ADDRESSES).unwrap();
    let good = (200..200 + most).map(address);
    ask(&mut dialer, 1, None, &gated.iter().cloned().chain(good).collect::<Vec<_>>(), 60 * SECOND);
    let mut tried = 0;
    while let Some((_, attempt, _)) = wants(&mut dialer).attempts.pop() {
        tried += 1;
        fails(&mut dialer, attempt);
    }
    assert_eq!(tried, MAX_ADDRESSES);

    ask(&mut dialer, 2, None, &gated, 5 * SECOND);
    let Some(Err(error)) = wants(&mut dialer).answers.pop() else { panic!("it is not over") };
    assert_eq!(error.kind, DialErrorKind::Gated("not there".to_owned()));
    assert_eq!(error.to_string(), "not dialed: not there (the report has all)");
    assert_eq!(error.report.attempts[0].result, AttemptResult::Skipped(Skip::Gated("not there".to_owned())));
}

#[test]
fn what_is_given_as_hearsay_is_screened_and_rests() {
    let mut dialer = strict();
    ask_by_hearsay(&mut dialer, Some(1), vec![address(666), address(200)]);
    let first = wants(&mut dialer);
    let (dial, attempt, at) = first.attempts[0].clone();
    assert_eq!((first.attempts.len(), at), (1, address(200)));
    dialer.input(Input::SourcesDone { dial });
    fails(&mut dialer, attempt);
    assert_eq!(kinds(wants(&mut dialer)), [DialErrorKind::AllFailed]);

    ask_by_hearsay(&mut dialer, Some(1), vec![address(200)]);
    let dial = wants(&mut dialer).sources[0];
    dialer.input(Input::SourcesDone { dial });
    assert!(matches!(kinds(wants(&mut dialer))[..], [DialErrorKind::Backoff { .. }]));

    // It does not say whom the dial is for.
    ask_by_hearsay(&mut dialer, None, vec![of_peer(300, 1)]);
    assert!(wants(&mut dialer).sources.is_empty());
}

#[test]
fn what_a_name_stands_for_is_believed_as_far_as_the_name() {
    let mut dialer = strict();
    let resolve = |dialer: &mut Dialer| {
        let (attempt, _) = wants(dialer).names[0].clone();
        dialer.input(Input::Resolved { attempt, addresses: vec![address(666)] });
        dialer.input(Input::ResolveEnded { attempt, result: Ok(()) });
        wants(dialer).attempts.len()
    };
    ask_by_hearsay(&mut dialer, Some(1), vec![name()]);
    assert_eq!(resolve(&mut dialer), 0);
    // Whoever joins the dial and asks for the same name is not held to that.
    ask(&mut dialer, 1, Some(1), &[name()], 5 * SECOND);
    assert_eq!(resolve(&mut dialer), 1);
    // Once is enough.
    ask(&mut dialer, 2, Some(1), &[name()], 5 * SECOND);
    assert!(wants(&mut dialer).names.is_empty());
}
