use std::sync::Mutex;

use peerage_core::{Keypair, engine::sim::Sim};

use super::*;
use crate::identify::PeerRecordState;

type Answers = Arc<Mutex<Vec<Result<Arc<Info>, IdentifyError>>>>;

fn peer(seed: u8) -> PeerId {
    Keypair::from_ed25519_seed([seed; 32]).peer_id()
}

fn id(id: usize) -> ConnectionId {
    ConnectionId(id as u64)
}

fn info(agent: &str) -> Info {
    Info {
        public_key: None,
        protocol_version: String::new(),
        agent_version: agent.to_owned(),
        listen_addrs: Vec::new(),
        observed_addr: None,
        protocols: Vec::new(),
        signed_record: PeerRecordState::Absent,
        envelope: None,
        incomplete: false,
    }
}

fn ask(sim: &mut Sim<Engine>, who: u8, answers: &Answers) {
    let answers = answers.clone();
    let reply = Reply::new(move |answer| answers.lock().expect("no panic").push(answer));
    sim.command(Command::Ask { peer: peer(who), reply });
}

/// Sends the answers that are due, and names the rest.
fn perform(sim: &mut Sim<Engine>) -> Vec<String> {
    let name = |action| match action {
        Action::Answer { reply, result } => {
            reply.send(result);
            "answer".to_owned()
        }
        Action::Ask { id, .. } => format!("ask {id}"),
        Action::Abort { id } => format!("abort {id}"),
        Action::Tell { id, .. } => format!("tell {id}"),
        Action::Announce => "announce".to_owned(),
        Action::Identified { info, .. } => format!("identified {}", info.agent_version),
    };
    sim.actions().into_iter().map(name).collect()
}

#[test]
fn each_connection_is_asked_once_however_often_it_is_announced() {
    let (mut sim, answers) = (Sim::new(Engine::default()), Answers::default());
    sim.command(Command::Opened { id: id(1), peer: peer(1) });
    sim.command(Command::Opened { id: id(1), peer: peer(1) });
    assert_eq!(perform(&mut sim), ["ask #1"]);
    ask(&mut sim, 1, &answers);
    assert!(perform(&mut sim).is_empty(), "it waits");
    sim.input(Input::Said { id: id(1), result: Ok(info("a")) });
    assert_eq!(perform(&mut sim), ["identified a", "answer"]);
    ask(&mut sim, 1, &answers);
    assert_eq!(perform(&mut sim), ["answer"], "it is known");
    sim.command(Command::Opened { id: id(1), peer: peer(1) });
    sim.input(Input::Said { id: id(1), result: Ok(info("b")) });
    assert!(perform(&mut sim).is_empty(), "nobody asked");
    let agents = answers.lock().expect("no panic");
    assert!(agents.iter().all(|answer| answer.as_ref().is_ok_and(|info| info.agent_version == "a")));
}

#[test]
fn silence_ends_at_the_timeout() {
    let (mut sim, answers) = (Sim::new(Engine::default()), Answers::default());
    sim.command(Command::Opened { id: id(1), peer: peer(1) });
    ask(&mut sim, 1, &answers);
    perform(&mut sim);
    sim.advance(TIMEOUT - Duration::from_millis(1));
    assert!(perform(&mut sim).is_empty());
    sim.advance(Duration::from_millis(1));
    assert_eq!(perform(&mut sim), ["abort #1", "answer"]);
    assert_eq!(answers.lock().expect("no panic").pop(), Some(Err(IdentifyError::Timeout)));
    // What comes later is not heard; who asks later is told what happened.
    sim.input(Input::Said { id: id(1), result: Ok(info("late")) });
    ask(&mut sim, 1, &answers);
    assert_eq!(perform(&mut sim), ["answer"]);
    assert_eq!(answers.lock().expect("no panic").pop(), Some(Err(IdentifyError::Timeout)));
}

#[test]
fn so_many_are_asked_at_once_and_the_others_in_their_turn() {
    let mut sim = Sim::new(Engine::default());
    for n in 0..=MAX_RUNNING {
        sim.command(Command::Opened { id: id(n), peer: peer(1) });
    }
    assert_eq!(perform(&mut sim).len(), MAX_RUNNING);
    sim.input(Input::Said { id: id(3), result: Ok(info("a")) });
    assert_eq!(perform(&mut sim), ["identified a".to_owned(), format!("ask #{MAX_RUNNING}")]);
    // One that ends makes room, too; one that was queued leaves the queue.
    sim.command(Command::Opened { id: id(100), peer: peer(1) });
    sim.command(Command::Opened { id: id(101), peer: peer(1) });
    sim.command(Command::Closed { id: id(100) });
    assert!(perform(&mut sim).is_empty());
    sim.command(Command::Closed { id: id(4) });
    assert_eq!(perform(&mut sim), ["abort #4", "ask #101"]);
}

#[test]
fn the_end_of_the_connection_answers_who_waits() {
    let (mut sim, answers) = (Sim::new(Engine::default()), Answers::default());
    ask(&mut sim, 1, &answers);
    perform(&mut sim);
    assert_eq!(answers.lock().expect("no panic").pop(), Some(Err(IdentifyError::NotConnected)));
    sim.command(Command::Opened { id: id(1), peer: peer(1) });
    (0..MAX_WAITING).for_each(|_| ask(&mut sim, 1, &answers));
    perform(&mut sim);
    assert!(answers.lock().expect("no panic").is_empty());
    ask(&mut sim, 1, &answers);
    perform(&mut sim);
    assert_eq!(answers.lock().expect("no panic").pop(), Some(Err(IdentifyError::TooMany)));
    sim.command(Command::Closed { id: id(1) });
    perform(&mut sim);
    assert_eq!(answers.lock().expect("no panic").len(), MAX_WAITING);
    assert!(sim.next_deadline().is_none());
}

/// What a peer says that listens to changes.
fn listener(agent: &str) -> Info {
    Info { protocols: vec![PUSH], ..info(agent) }
}

fn known(sim: &mut Sim<Engine>, n: usize, who: u8, info: Info) {
    sim.command(Command::Opened { id: id(n), peer: peer(who) });
    sim.input(Input::Said { id: id(n), result: Ok(info) });
    perform(sim);
}

#[test]
fn changes_are_told_once_a_second_to_those_who_listen() {
    let mut sim = Sim::new(Engine::default());
    known(&mut sim, 1, 1, listener("a"));
    known(&mut sim, 2, 1, listener("a"));
    known(&mut sim, 3, 2, info("b"));
    for _ in 0..9 {
        sim.command(Command::Changed);
        sim.advance(PUSH_DELAY / 10);
    }
    assert!(perform(&mut sim).is_empty());
    sim.advance(PUSH_DELAY / 10);
    assert_eq!(perform(&mut sim), ["announce", "tell #2"], "each peer once");
    // A change while it is being told: told again, afterwards.
    sim.command(Command::Changed);
    sim.advance(PUSH_DELAY);
    assert_eq!(perform(&mut sim), ["announce"]);
    sim.input(Input::Told { id: id(2), heard: true });
    assert_eq!(perform(&mut sim), ["tell #2"]);
    sim.input(Input::Told { id: id(2), heard: true });
    sim.advance(PUSH_DELAY * 10);
    assert!(perform(&mut sim).is_empty());
}

#[test]
fn what_others_observe_is_told_to_no_peer() {
    let mut sim = Sim::new(Engine::default());
    known(&mut sim, 1, 1, listener("a"));
    for _ in 0..9 {
        sim.command(Command::Observed);
        sim.advance(PUSH_DELAY / 10);
    }
    sim.advance(PUSH_DELAY / 10);
    assert_eq!(perform(&mut sim), ["announce"], "the user is");
    sim.advance(PUSH_DELAY * 100);
    assert!(perform(&mut sim).is_empty() && sim.next_deadline().is_none());
}

#[test]
fn who_refuses_to_hear_is_told_again_twice() {
    let mut sim = Sim::new(Engine::default());
    known(&mut sim, 1, 1, listener("a"));
    sim.command(Command::Changed);
    sim.advance(PUSH_DELAY);
    assert_eq!(perform(&mut sim), ["announce", "tell #1"]);
    for wait in RETRIES {
        sim.input(Input::Told { id: id(1), heard: false });
        sim.advance(wait - Duration::from_nanos(1));
        assert!(perform(&mut sim).is_empty());
        sim.advance(Duration::from_nanos(1));
        assert_eq!(perform(&mut sim), ["tell #1"]);
    }
    sim.input(Input::Told { id: id(1), heard: false });
    assert!(sim.next_deadline().is_none(), "and then no more");
    // The next change is another matter; one that comes before the time is told instead.
    sim.command(Command::Changed);
    sim.advance(PUSH_DELAY);
    assert_eq!(perform(&mut sim), ["announce", "tell #1"]);
    sim.input(Input::Told { id: id(1), heard: false });
    sim.command(Command::Changed);
    sim.advance(PUSH_DELAY);
    assert_eq!(perform(&mut sim), ["announce", "tell #1"]);
    sim.input(Input::Told { id: id(1), heard: true });
    assert!(sim.next_deadline().is_none());
}

#[test]
fn who_is_identified_after_the_change_is_told_then() {
    let mut sim = Sim::new(Engine::default());
    sim.command(Command::Opened { id: id(1), peer: peer(1) });
    sim.command(Command::Changed);
    sim.advance(PUSH_DELAY);
    assert_eq!(perform(&mut sim), ["ask #1", "announce"]);
    sim.input(Input::Said { id: id(1), result: Ok(listener("a")) });
    assert_eq!(perform(&mut sim), ["identified a", "tell #1"]);
}

#[test]
fn so_many_are_told_at_once() {
    let mut sim = Sim::new(Engine::default());
    for n in 0..=MAX_PUSHES {
        known(&mut sim, n, n as u8, listener("a"));
    }
    sim.command(Command::Changed);
    sim.advance(PUSH_DELAY);
    assert_eq!(perform(&mut sim).len(), 1 + MAX_PUSHES);
    sim.input(Input::Told { id: id(5), heard: true });
    assert_eq!(perform(&mut sim), ["tell #0"]);
    // One that closes while it waits is not told.
    sim.command(Command::Changed);
    sim.advance(PUSH_DELAY);
    sim.command(Command::Closed { id: id(9) });
    perform(&mut sim);
    sim.input(Input::Told { id: id(9), heard: true });
    assert!(!perform(&mut sim).contains(&"tell #9".to_owned()));
}

#[test]
fn what_a_change_does_not_name_stays() {
    let (mut sim, answers) = (Sim::new(Engine::default()), Answers::default());
    let address: peerage_core::Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().expect("valid");
    known(&mut sim, 1, 1, Info { listen_addrs: vec![address.clone()], ..listener("a") });
    sim.input(Input::Pushed {
        id: id(1),
        change: Info { protocols: vec![PUSH, "/x/1".parse().expect("valid")], ..info("") },
    });
    assert_eq!(perform(&mut sim), ["identified a"]);
    ask(&mut sim, 1, &answers);
    perform(&mut sim);
    let known = answers.lock().expect("no panic").pop().expect("answered").expect("known");
    assert_eq!((known.listen_addrs.clone(), known.protocols.len()), (vec![address], 2));
    // Before the answer: what is told comes on top of it. Of nobody: nothing.
    sim.command(Command::Opened { id: id(2), peer: peer(2) });
    sim.input(Input::Pushed { id: id(2), change: info("new") });
    sim.input(Input::Pushed { id: id(7), change: info("nobody") });
    assert_eq!(perform(&mut sim), ["ask #2"]);
    sim.input(Input::Said { id: id(2), result: Ok(info("old")) });
    assert_eq!(perform(&mut sim), ["identified new"]);
}

#[test]
fn who_did_not_answer_is_asked_again_twice() {
    let mut sim = Sim::new(Engine::default());
    sim.command(Command::Opened { id: id(1), peer: peer(1) });
    for wait in RETRIES {
        assert_eq!(perform(&mut sim), ["ask #1"]);
        sim.input(Input::Said { id: id(1), result: Err(IdentifyError::Stream("reset".to_owned())) });
        sim.advance(wait - Duration::from_nanos(1));
        assert!(perform(&mut sim).is_empty());
        sim.advance(Duration::from_nanos(1));
    }
    assert_eq!(perform(&mut sim), ["ask #1"]);
    sim.input(Input::Said { id: id(1), result: Err(IdentifyError::Timeout) });
    assert!(sim.next_deadline().is_none(), "and then no more");
}
