use std::sync::{Arc, Mutex};

use peerage_core::{Keypair, engine::sim::Sim};

use super::*;
use crate::mdns::link::tests::{home, loopback};

const SECOND: Duration = Duration::from_secs(1);

fn names() -> Names {
    Names::new(None).unwrap()
}

fn peer(n: usize) -> PeerId {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    Keypair::from_ed25519_seed(seed).peer_id()
}

/// Who speaks on the link at home.
const NEIGHBOUR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 9));

const ME: usize = 1_000_000;

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// The nth address on the link at home.
fn nth(n: usize) -> Multiaddr {
    address(&format!("/ip4/192.168.1.9/tcp/{}", n + 1))
}

fn engine(dials: bool) -> Sim<Engine> {
    Sim::new(Engine::new(peer(ME), names(), dials, engine::rng(1)))
}

/// A node with an address on its one link, quiet after its first words.
fn settled() -> Sim<Engine> {
    let mut sim = engine(false);
    sim.command(Command::Own(vec![address("/ip4/192.168.1.7/tcp/4001"), address("/ip4/127.0.0.1/tcp/4001")]));
    sim.command(Command::Links(vec![home()]));
    sim.advance(10 * SECOND);
    sim.actions();
    sim
}

fn name(n: usize) -> Name {
    names().service.child(&format!("instance{n}")).unwrap()
}

fn announced(n: usize, addresses: Vec<Multiaddr>, ttl: Duration) -> Announced {
    Announced { instance: name(n), peer: peer(n), addresses, ttl, whole: false }
}

fn hear(sim: &mut Sim<Engine>, announced: Announced) {
    let response = Response { announced: vec![announced], gone: Vec::new() };
    sim.input(Input::Heard { link: home().id, from: NEIGHBOUR, message: Message::Response(response) });
}

fn hear_query(sim: &mut Sim<Engine>, questions: Vec<Question>, known: Vec<(Name, Duration)>) {
    let message = Message::Query(Query { id: 0, questions, known });
    sim.input(Input::Heard { link: home().id, from: NEIGHBOUR, message });
}

/// What was said meanwhile: questions, and messages with addresses.
fn said(sim: &mut Sim<Engine>) -> (usize, Vec<Response>) {
    let (mut questions, mut answers) = (0, Vec::new());
    for action in sim.actions() {
        let Action::Send { messages, .. } = action else { continue };
        for message in messages {
            match names().decode(&message).unwrap() {
                Message::Query(_) => questions += 1,
                Message::Response(response) => answers.push(response),
            }
        }
    }
    (questions, answers)
}

fn told(sim: &mut Sim<Engine>) -> Vec<Event> {
    let told = |action| match action {
        Action::Tell(event) => Some(event),
        _ => None,
    };
    sim.actions().into_iter().filter_map(told).collect()
}

fn known(sim: &mut Sim<Engine>) -> Vec<Found> {
    let answer = Arc::new(Mutex::new(Vec::new()));
    let reply = answer.clone();
    sim.command(Command::Peers(Reply::new(move |peers| *reply.lock().unwrap() = peers)));
    for action in sim.actions() {
        if let Action::Answer { reply, peers } = action {
            reply.send(peers);
        }
    }
    answer.lock().unwrap().clone()
}

#[test]
fn a_node_announces_itself_twice_and_asks_ever_less_often() {
    let mut sim = engine(false);
    sim.command(Command::Own(vec![address("/ip4/192.168.1.7/tcp/4001")]));
    sim.command(Command::Links(vec![home()]));
    sim.advance(Duration::ZERO);
    let (questions, answers) = said(&mut sim);
    assert_eq!((questions, answers.len()), (0, 1), "itself at once");
    assert_eq!(answers[0].announced[0].peer, peer(ME));
    sim.advance(SECOND);
    let (questions, answers) = said(&mut sim);
    assert_eq!((questions, answers.len()), (1, 1));
    let mut times = Vec::new();
    let start = sim.now().mono;
    while sim.now().since(start) < Duration::from_secs(300) {
        sim.advance_to_deadline();
        let (questions, answers) = said(&mut sim);
        assert!(answers.is_empty());
        times.extend((0..questions).map(|_| sim.now().since(start)));
    }
    let waits: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(waits[..10], [2, 4, 8, 16, 32, 40, 40, 40, 40, 40], "{times:?}");
}

#[test]
fn only_addresses_of_the_link_are_said_and_nothing_without_any() {
    let mut sim = engine(false);
    sim.command(Command::Links(vec![home(), loopback()]));
    sim.advance(5 * SECOND);
    assert!(said(&mut sim).1.is_empty(), "there is nothing to say");
    sim.command(Command::Own(vec![address("/ip4/127.0.0.1/tcp/4001")]));
    sim.advance(5 * SECOND);
    for action in sim.actions() {
        if let Action::Send { link, messages } = action {
            let responses = messages.iter().filter(|message| message[2] & 0x80 != 0).count();
            assert!(responses == 0 || link == loopback().id, "loopback stays at home");
        }
    }
}

#[test]
fn all_who_ask_within_a_second_share_an_answer() {
    let mut sim = settled();
    for _ in 0..10_000 {
        hear_query(&mut sim, vec![Question::Peers], Vec::new());
    }
    sim.advance(Duration::from_millis(JITTER.end));
    assert_eq!(said(&mut sim).1.len(), 1);
    // A flood, for ten seconds.
    for _ in 0..1000 {
        hear_query(&mut sim, vec![Question::Peers, Question::About(name(3))], Vec::new());
        sim.advance(Duration::from_millis(10));
    }
    let answers = said(&mut sim).1.len();
    assert!((9..=10).contains(&answers), "{answers}");
}

#[test]
fn an_answer_is_never_answered() {
    let mut sim = settled();
    for n in 0..1000 {
        let response = Response { announced: vec![announced(n, vec![nth(1)], TTL)], gone: vec![name(n)] };
        sim.input(Input::Heard { link: home().id, from: NEIGHBOUR, message: Message::Response(response) });
    }
    sim.advance(5 * SECOND);
    assert!(said(&mut sim).1.is_empty());
}

#[test]
fn who_knows_this_node_gets_no_answer() {
    let mut sim = settled();
    let own = sim.engine().links[&home().id].own.instances()[0].name.clone();
    let ask = |sim: &mut Sim<Engine>, ttl| {
        hear_query(sim, vec![Question::Peers], vec![(own.clone(), ttl)]);
        sim.advance(2 * SECOND);
        said(sim).1.len()
    };
    assert_eq!(ask(&mut sim, TTL / 2), 0);
    assert_eq!(ask(&mut sim, TTL / 2 - SECOND), 1, "it is about to forget");
}

#[test]
fn questions_of_administrators_are_answered_and_of_others_not() {
    let mut sim = settled();
    let own = sim.engine().links[&home().id].own.instances()[0].clone();
    for (question, answers) in [
        (Question::About(own.name.clone()), 1),
        (Question::About(own.host), 1),
        (Question::About(name(7)), 0),
    ] {
        hear_query(&mut sim, vec![question.clone()], Vec::new());
        sim.advance(2 * SECOND);
        assert_eq!(said(&mut sim).1.len(), answers, "{question:?}");
    }
    for _ in 0..100 {
        hear_query(&mut sim, vec![Question::Services], Vec::new());
    }
    sim.advance(SECOND);
    assert_eq!(said(&mut sim).1, [Response::default()], "one, which names no peer");
}

#[test]
fn others_questions_stand_for_its_own_but_not_for_ever() {
    let mut sim = settled();
    sim.advance(Duration::from_secs(300));
    said(&mut sim);
    let asked = sim.engine().links[&home().id].asked;
    let mut quiet = None;
    for _ in 0..200 {
        hear_query(&mut sim, vec![Question::Peers], Vec::new());
        sim.advance(SECOND);
        if said(&mut sim).0 > 0 {
            quiet.get_or_insert(sim.now().since(asked));
        }
    }
    let quiet = quiet.unwrap();
    assert!((MAX_QUIET..=MAX_QUIET + SECOND).contains(&quiet), "{quiet:?}");
    assert!(MAX_QUIET < TTL);
}

#[test]
fn a_peer_is_found_and_expires_when_it_is_silent() {
    let mut sim = settled();
    hear(&mut sim, announced(1, vec![nth(1), nth(2)], Duration::from_secs(100)));
    let actions = sim.actions();
    assert!(matches!(&actions[0], Action::Remember { peer: who, addresses, ttl }
        if *who == peer(1) && addresses.len() == 2 && *ttl == Duration::from_secs(100)));
    let event = Event::Found { peer: peer(1), addresses: vec![nth(1), nth(2)] };
    assert!(matches!(&actions[1], Action::Tell(told) if *told == event), "{actions:?}");
    sim.advance(Duration::from_secs(60));
    assert_eq!(known(&mut sim)[0].expires_in, Duration::from_secs(40));
    // One of the two is said again.
    hear(&mut sim, announced(1, vec![nth(1)], Duration::from_secs(100)));
    assert_eq!(told(&mut sim), [], "that is no news");
    sim.advance(Duration::from_secs(40));
    assert_eq!(known(&mut sim)[0].addresses, [nth(1)]);
    sim.advance(Duration::from_secs(60) - Duration::from_millis(1));
    assert_eq!(told(&mut sim), []);
    sim.advance(Duration::from_millis(1));
    assert_eq!(told(&mut sim), [Event::Expired { peer: peer(1) }]);
    assert!(known(&mut sim).is_empty() && sim.engine().instances.is_empty());
}

#[test]
fn nobody_holds_for_longer_than_the_limit() {
    let mut sim = settled();
    hear(&mut sim, announced(1, vec![nth(1)], MAX_TTL));
    hear(&mut sim, announced(2, vec![nth(1)], MAX_TTL + SECOND));
    hear(&mut sim, announced(3, vec![nth(1)], Duration::from_secs(u32::MAX.into())));
    assert!(known(&mut sim).iter().all(|found| found.expires_in == MAX_TTL));
    sim.advance(MAX_TTL);
    assert!(known(&mut sim).is_empty());
}

#[test]
fn a_goodbye_holds_after_a_second_unless_somebody_objects() {
    let mut sim = settled();
    for n in [1, 2, 3] {
        hear(&mut sim, announced(n, vec![nth(n)], TTL));
    }
    // By the instance's name, or by its text.
    let gone = Response { announced: Vec::new(), gone: vec![name(1), name(9)] };
    sim.input(Input::Heard { link: home().id, from: NEIGHBOUR, message: Message::Response(gone) });
    hear(&mut sim, announced(2, vec![nth(2)], Duration::ZERO));
    hear(&mut sim, announced(3, vec![nth(3)], Duration::ZERO));
    hear(&mut sim, announced(3, vec![nth(3)], TTL));
    told(&mut sim);
    sim.advance(GOODBYE - Duration::from_millis(1));
    assert_eq!(told(&mut sim), []);
    sim.advance(Duration::from_millis(1));
    let mut gone = told(&mut sim);
    gone.sort_by_key(|event| !matches!(event, Event::Expired { peer: who } if *who == peer(1)));
    assert_eq!(gone, [Event::Expired { peer: peer(1) }, Event::Expired { peer: peer(2) }]);
    assert_eq!(known(&mut sim).len(), 1);
}

#[test]
fn what_an_instance_does_not_name_any_more_is_gone() {
    let mut sim = settled();
    let whole = |addresses| Announced { whole: true, ..announced(1, addresses, TTL) };
    hear(&mut sim, whole(vec![nth(1), nth(2)]));
    // Of another instance of the same peer.
    hear(&mut sim, Announced { instance: name(2), ..announced(1, vec![nth(3)], TTL) });
    hear(&mut sim, whole(vec![nth(2)]));
    sim.advance(GOODBYE);
    let mut left = known(&mut sim)[0].addresses.clone();
    left.sort();
    assert_eq!(left, [nth(2), nth(3)]);
}

#[test]
fn only_what_the_link_reaches_is_believed() {
    let mut sim = settled();
    let elsewhere =
        ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/8.8.8.8/tcp/1", "/dns4/example.com/tcp/1"];
    hear(&mut sim, announced(1, elsewhere.map(address).to_vec(), TTL));
    assert_eq!(told(&mut sim), []);
    assert!(known(&mut sim).is_empty());
    // Nor is what others say of this node itself.
    hear(&mut sim, announced(ME, vec![nth(1)], TTL));
    assert!(known(&mut sim).is_empty());
    // Nor what comes from elsewhere, or from a link that is not there any more.
    let message =
        Message::Response(Response { announced: vec![announced(1, vec![nth(1)], TTL)], gone: Vec::new() });
    sim.input(Input::Heard {
        link: home().id,
        from: "192.168.2.9".parse().unwrap(),
        message: message.clone(),
    });
    sim.input(Input::Heard { link: LinkId { interface: 99, v6: false }, from: NEIGHBOUR, message });
    assert!(known(&mut sim).is_empty());
}

#[test]
fn so_many_are_found_in_a_minute() {
    let mut sim = settled();
    for n in 0..MAX_FOUND_PER_MINUTE {
        hear(&mut sim, announced(n, vec![nth(1)], MAX_TTL));
    }
    assert_eq!(told(&mut sim).len(), MAX_FOUND_PER_MINUTE);
    hear(&mut sim, announced(MAX_FOUND_PER_MINUTE, vec![nth(1)], MAX_TTL));
    // News of one that is known are a find as well.
    hear(&mut sim, announced(1, vec![nth(1), nth(2)], MAX_TTL));
    sim.advance(MINUTE - Duration::from_millis(1));
    hear(&mut sim, announced(MAX_FOUND_PER_MINUTE, vec![nth(1)], MAX_TTL));
    assert_eq!(told(&mut sim), []);
    assert_eq!(known(&mut sim).len(), MAX_FOUND_PER_MINUTE);
    sim.advance(Duration::from_millis(1));
    hear(&mut sim, announced(MAX_FOUND_PER_MINUTE, vec![nth(1)], MAX_TTL));
    assert_eq!(told(&mut sim).len(), 1);
}

/// However many are made up, there is room for those who come.
#[test]
fn a_flood_of_made_up_peers_is_bounded_and_ends() {
    let mut sim = settled();
    let mut n = 0;
    for _ in 0..20 {
        for _ in 0..5 * MAX_FOUND_PER_MINUTE {
            hear(&mut sim, announced(n, vec![nth(1)], Duration::MAX));
            n += 1;
        }
        let found = told(&mut sim).iter().filter(|event| matches!(event, Event::Found { .. })).count();
        assert_eq!(found, MAX_FOUND_PER_MINUTE);
        assert!(sim.engine().peers.len() < MAX_PEERS, "{}", sim.engine().peers.len());
        sim.advance(MINUTE);
    }
    sim.advance(MAX_TTL);
    assert!(sim.engine().peers.is_empty() && sim.engine().instances.is_empty());
}

#[test]
fn so_many_peers_are_known() {
    let mut sim = settled();
    // As if they had been found over a longer time.
    for n in 0..MAX_PEERS - 1 {
        sim.engine_mut().peers.entry(peer(n)).or_default();
    }
    hear(&mut sim, announced(MAX_PEERS, vec![nth(1)], TTL));
    hear(&mut sim, announced(MAX_PEERS + 1, vec![nth(1)], TTL));
    assert_eq!(sim.engine().peers.len(), MAX_PEERS);
    assert_eq!(told(&mut sim).len(), 1);
}

#[test]
fn so_many_addresses_of_a_peer_are_known() {
    let mut sim = settled();
    hear(&mut sim, announced(1, (0..MAX_ADDRESSES_PER_PEER).map(nth).collect(), TTL));
    assert_eq!(known(&mut sim)[0].addresses.len(), MAX_ADDRESSES_PER_PEER);
    hear(&mut sim, announced(1, vec![nth(1000)], TTL));
    assert_eq!(known(&mut sim)[0].addresses.len(), MAX_ADDRESSES_PER_PEER);
    hear(&mut sim, announced(2, (0..=MAX_ADDRESSES_PER_PEER).map(nth).collect(), TTL));
    assert!(known(&mut sim).iter().all(|found| found.addresses.len() == MAX_ADDRESSES_PER_PEER));
}

#[test]
fn so_many_instances_of_a_peer_are_known() {
    let mut sim = settled();
    for n in 0..=MAX_INSTANCES_PER_PEER {
        hear(&mut sim, Announced { instance: name(n), ..announced(1, vec![nth(n)], TTL) });
        assert_eq!(sim.engine().instances.len(), (n + 1).min(MAX_INSTANCES_PER_PEER));
    }
    assert!(!sim.engine().instances.contains_key(&name(0)));
}

#[test]
fn expiry_is_looked_for_once_a_second_at_most() {
    let mut sim = settled();
    let mut sweeps = 0;
    for n in 0..1000 {
        hear(&mut sim, announced(n % 50, vec![nth(1)], SECOND));
        let swept = sim.engine().swept;
        sim.advance(Duration::from_millis(10));
        sweeps += usize::from(sim.engine().swept != swept);
    }
    assert!(sweeps <= 10, "{sweeps}");
}

#[test]
fn found_peers_are_dialed_if_the_user_said_so_a_few_at_once() {
    let mut sim = engine(true);
    sim.command(Command::Links(vec![home()]));
    for n in 0..=MAX_DIALS {
        hear(&mut sim, announced(n, vec![nth(1)], TTL));
        // What is being dialed, or waits, is not dialed twice.
        hear(&mut sim, announced(n, vec![nth(2)], TTL));
    }
    let dials = |sim: &mut Sim<Engine>| -> Vec<PeerId> {
        let dial = |action| match action {
            Action::Dial { peer, .. } => Some(peer),
            _ => None,
        };
        sim.actions().into_iter().filter_map(dial).collect()
    };
    assert_eq!(dials(&mut sim).len(), MAX_DIALS);
    sim.input(Input::Dialed { peer: peer(0) });
    assert_eq!(dials(&mut sim), [peer(MAX_DIALS)]);
    // One that has expired before its turn is not dialed.
    hear(&mut sim, announced(100, vec![nth(1)], SECOND));
    sim.advance(SECOND);
    sim.input(Input::Dialed { peer: peer(1) });
    assert_eq!(dials(&mut sim), []);

    let mut shy = engine(false);
    shy.command(Command::Links(vec![home()]));
    hear(&mut shy, announced(1, vec![nth(1)], TTL));
    assert_eq!(dials(&mut shy), []);
}

#[test]
fn what_is_said_at_the_end_is_ready_before() {
    let mut sim = engine(false);
    sim.command(Command::Links(vec![home()]));
    sim.command(Command::Own(vec![address("/ip4/192.168.1.7/tcp/4001")]));
    let farewells = |sim: &mut Sim<Engine>| -> Vec<Vec<Vec<u8>>> {
        let farewell = |action| match action {
            Action::Farewell { messages, .. } => Some(messages),
            _ => None,
        };
        sim.actions().into_iter().filter_map(farewell).collect()
    };
    let ready = farewells(&mut sim).pop().unwrap();
    let Ok(Message::Response(goodbye)) = names().decode(&ready[0]) else { panic!("not read") };
    assert_eq!((goodbye.gone.len(), goodbye.announced[0].ttl), (1, Duration::ZERO));
    // Nothing left to say goodbye for: it is said at once.
    sim.command(Command::Own(Vec::new()));
    let actions = sim.actions();
    assert!(matches!(&actions[0], Action::Send { messages, .. } if *messages == ready), "{actions:?}");
    assert!(matches!(&actions[1], Action::Farewell { messages, .. } if messages.is_empty()));
}

#[test]
fn links_come_go_and_fail() {
    let mut sim = settled();
    let opened = |sim: &mut Sim<Engine>| -> Vec<String> {
        let name = |action| match action {
            Action::Open(link) => Some(format!("open {}", link.name)),
            Action::Close(_) => Some("close".to_owned()),
            _ => None,
        };
        sim.actions().into_iter().filter_map(name).collect()
    };
    sim.command(Command::Links(vec![home(), loopback()]));
    assert_eq!(opened(&mut sim), ["open lo"]);
    sim.command(Command::Links(vec![home(), loopback()]));
    assert!(opened(&mut sim).is_empty());
    // Another address there changes what is said, not the socket.
    let mut moved = home();
    moved.own.push("192.168.1.77".parse().unwrap());
    sim.command(Command::Links(vec![moved.clone(), loopback()]));
    let actions = sim.actions();
    assert!(matches!(&actions[..], [Action::Farewell { .. }]), "{actions:?}");
    sim.command(Command::Links(vec![home(), loopback()]));
    moved.own.remove(0);
    sim.actions();
    moved.own.retain(IpAddr::is_ipv4);
    sim.command(Command::Links(vec![moved, loopback()]));
    assert_eq!(opened(&mut sim), ["close", "open home"]);
    sim.command(Command::Links(vec![home(), loopback()]));
    sim.actions();
    sim.input(Input::Failed { link: home().id });
    sim.input(Input::Failed { link: home().id });
    assert_eq!(opened(&mut sim), ["close"]);
    sim.advance(RETRY - Duration::from_millis(1));
    assert!(opened(&mut sim).is_empty());
    sim.advance(Duration::from_millis(1));
    assert_eq!(opened(&mut sim), ["open home"]);
    sim.advance(SECOND);
    assert!(said(&mut sim).0 > 0, "it works again");
    sim.command(Command::Links(vec![loopback()]));
    assert_eq!(opened(&mut sim), ["close"]);
}
