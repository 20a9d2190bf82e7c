use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn named(n: u16) -> Multiaddr {
    format!("/dnsaddr/{n}.example").parse().unwrap()
}

proptest! {
    /// Whatever happens in whatever order: every request is answered once and by its deadline, no attempt is lost
    /// sight of, at most eight of one dial run, and every connection is adopted or discarded, once.
    #[test]
    fn any_order(ops in proptest::collection::vec((0..17_u8, 0..4_u8, 0..24_u16), 1..200)) {
        let mut dialer = dialer();
        let mut due: BTreeMap<u64, Instant> = BTreeMap::new();
        let answered = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut running: BTreeSet<AttemptId> = BTreeSet::new();
        let mut names: BTreeSet<AttemptId> = BTreeSet::new();
        let mut over: Vec<AttemptId> = Vec::new();
        let mut made: BTreeSet<u64> = BTreeSet::new();
        let mut placed: BTreeSet<u64> = BTreeSet::new();
        let (mut sources, mut adopting): (Vec<DialId>, Vec<DialId>) = (Vec::new(), Vec::new());
        let mut connections = 0;
        for (nth, (op, who, n)) in ops.into_iter().enumerate() {
            let request = u64::try_from(nth).unwrap();
            let pick = |from: &[DialId]| from.get(usize::from(n) % from.len().max(1)).copied();
            let attempt = running.iter().chain(&over).nth(usize::from(n)).copied();
            match op {
                0..=2 => {
                    let deadline = dialer.now().after(SECOND * u32::from(n));
                    due.insert(request, deadline);
                    let answered = std::sync::Arc::clone(&answered);
                    let name = (n % 3 == 0).then(|| given(named(n)));
                    dialer.command(Command::Dial {
                        request: Some(RequestId(request)),
                        peer: (op < 2).then(|| peer(who)),
                        addresses: (0..n % 5).map(|m| given(address(n + m))).chain(name).collect(),
                        how: How::default(),
                        deadline,
                        reply: Reply::new(move |_| answered.lock().unwrap().push(request)),
                    });
                }
                3 => dialer.advance(Duration::from_millis(100) * u32::from(n)),
                4 => if let Some(dial) = pick(&sources) {
                    said(&mut dialer, dial, (n..n + 4).map(|n| of_peer(n, who)).collect());
                },
                5 => if let Some(dial) = pick(&sources) {
                    dialer.input(Input::SourcesDone { dial });
                },
                6 | 7 => if let Some(attempt) = attempt.filter(|attempt| !names.contains(attempt)) {
                    fails(&mut dialer, attempt);
                    running.remove(&attempt);
                },
                8 | 9 => if let Some(attempt) = attempt.filter(|attempt| !names.contains(attempt)) {
                    connections += 1;
                    made.insert(connections);
                    let won = Won { peer: peer(who), connection: connections };
                    dialer.input(Input::AttemptEnded { attempt, result: Ok(won) });
                    running.remove(&attempt);
                },
                10 => if let Some(attempt) = attempt {
                    dialer.input(Input::AttemptStage { attempt, stage: Stage::Security });
                },
                11 => if let Some(dial) = pick(&adopting) {
                    adopted(&mut dialer, dial, if who == 0 { Err(Refused::OwnPeer) } else { Ok(1) });
                },
                12 => dialer.command(Command::Cancel { request: RequestId(n.into()) }),
                13 | 14 => if let Some(attempt) = attempt {
                    let addresses = (n..n + 3).flat_map(|n| [address(n), named(n)]).collect();
                    dialer.input(Input::Resolved { attempt, addresses });
                },
                15 => if let Some(attempt) = attempt.filter(|attempt| names.contains(attempt)) {
                    dialer.input(Input::ResolveEnded { attempt, result: Ok(()) });
                    running.remove(&attempt);
                },
                _ if n == 0 => dialer.command(Command::ShutDown),
                _ => {}
            }
            let now = dialer.now().mono;
            for action in dialer.actions() {
                match action {
                    Action::AskSources { dial, .. } => sources.push(dial),
                    Action::Attempt { attempt, deadline, .. } => {
                        prop_assert!(deadline > now || op == 3);
                        prop_assert!(running.insert(attempt));
                    }
                    Action::Resolve { attempt, deadline, .. } => {
                        prop_assert!(deadline > now || op == 3);
                        prop_assert!(running.insert(attempt) && names.insert(attempt));
                    }
                    Action::Abort { attempt } => {
                        prop_assert!(running.remove(&attempt));
                        over.push(attempt);
                    }
                    Action::Adopt { dial, connection, .. } => {
                        adopting.push(dial);
                        prop_assert!(placed.insert(connection));
                    }
                    Action::Discard { connection } => prop_assert!(placed.insert(connection)),
                    Action::Answer { reply, result } => reply.send(result),
                }
            }
            prop_assert_eq!(&made, &placed);
            let known = &dialer.engine().attempts;
            prop_assert_eq!(known.keys().copied().collect::<BTreeSet<_>>(), running.clone());
            for dial in known.values() {
                let of_it = |names_too| {
                    let of_it = known.iter().filter(|(_, other)| *other == dial);
                    of_it.filter(|(attempt, _)| names.contains(attempt) == names_too).count()
                };
                prop_assert!(of_it(false) <= MAX_PARALLEL && of_it(true) <= MAX_PARALLEL);
            }
            let answered = answered.lock().unwrap();
            prop_assert!(due.iter().all(|(id, at)| *at > now || answered.contains(id)));
        }
        dialer.advance(SECOND * 30);
        for action in dialer.actions() {
            match action {
                Action::Answer { reply, result } => reply.send(result),
                Action::Attempt { attempt, .. } | Action::Resolve { attempt, .. } => {
                    prop_assert!(running.insert(attempt));
                }
                Action::Abort { attempt } => prop_assert!(running.remove(&attempt)),
                _ => {}
            }
        }
        prop_assert!(running.is_empty());
        let mut answered = answered.lock().unwrap().clone();
        answered.sort_unstable();
        prop_assert_eq!(answered, due.into_keys().collect::<Vec<_>>());
        assert_empty(&dialer);
    }
}
