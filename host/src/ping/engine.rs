use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Now, PeerId, engine};

use super::PingError;
use crate::reply::Reply;

/// How long a ping may take, the opening of its stream included.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stream is kept after its last ping. py-libp2p gives an idle one up after 10 s.
pub(crate) const IDLE: Duration = Duration::from_secs(5);
/// Requests that may wait for one peer.
pub const MAX_WAITING: usize = 64;

/// Who is being pinged: one stream for each peer, one ping on it at a time, as the spec asks for.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    next: u64,
    sessions: BTreeMap<PeerId, Session>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Session {
    id: u64,
    /// The first of them is under way, unless the session is idle.
    waiting: VecDeque<Answer>,
    /// When the ping under way has taken too long, or the idle stream is closed.
    until: Instant,
}

pub(crate) type Answer = Reply<Result<Duration, PingError>>;

#[derive(Debug)]
pub(crate) enum Command {
    /// Measure a round trip.
    Measure { peer: PeerId, reply: Answer },
}

#[derive(Debug)]
pub(crate) enum Input {
    /// The answer came.
    Pong { peer: PeerId, session: u64, rtt: Duration },
    /// The stream is of no more use.
    Failed { peer: PeerId, session: u64, error: PingError },
}

#[derive(Debug)]
pub(crate) enum Action {
    /// Open a stream, and send a ping on it.
    Open {
        peer: PeerId,
        session: u64,
    },
    /// Send a ping on the session's stream.
    Send {
        session: u64,
    },
    /// Let go of the session's stream.
    Close {
        session: u64,
    },
    Answer {
        reply: Answer,
        result: Result<Duration, PingError>,
    },
}

impl Engine {
    /// Numbers its sessions from `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self { next: first, ..Self::default() }
    }

    fn measure(&mut self, peer: PeerId, reply: Answer, now: Now) {
        let until = now.after(TIMEOUT);
        let Some(session) = self.sessions.get_mut(&peer) else {
            let id = self.next;
            self.next = self.next.wrapping_add(1);
            self.sessions.insert(peer, Session { id, waiting: [reply].into(), until });
            self.actions.push_back(Action::Open { peer, session: id });
            return;
        };
        if session.waiting.len() >= MAX_WAITING {
            self.actions.push_back(Action::Answer { reply, result: Err(PingError::TooMany) });
            return;
        }
        if session.waiting.is_empty() {
            session.until = until;
            self.actions.push_back(Action::Send { session: session.id });
        }
        session.waiting.push_back(reply);
    }

    fn pong(&mut self, peer: PeerId, id: u64, rtt: Duration, now: Now) {
        let Some(session) = self.sessions.get_mut(&peer).filter(|session| session.id == id) else {
            return;
        };
        let Some(reply) = session.waiting.pop_front() else {
            return;
        };
        self.actions.push_back(Action::Answer { reply, result: Ok(rtt) });
        if session.waiting.is_empty() {
            session.until = now.after(IDLE);
        } else {
            session.until = now.after(TIMEOUT);
            self.actions.push_back(Action::Send { session: id });
        }
    }

    fn end(&mut self, peer: PeerId, error: &PingError) {
        let Some(session) = self.sessions.remove(&peer) else {
            return;
        };
        self.actions.push_back(Action::Close { session: session.id });
        for reply in session.waiting {
            self.actions.push_back(Action::Answer { reply, result: Err(error.clone()) });
        }
    }
}

impl engine::Engine for Engine {
    type Command = Command;
    type Input = Input;
    type Action = Action;

    fn handle_command(&mut self, Command::Measure { peer, reply }: Command, now: Now) {
        self.measure(peer, reply, now);
    }

    fn handle_input(&mut self, input: Input, now: Now) {
        match input {
            Input::Pong { peer, session, rtt } => self.pong(peer, session, rtt, now),
            Input::Failed { peer, session, error } => {
                if self.sessions.get(&peer).is_some_and(|current| current.id == session) {
                    self.end(peer, &error);
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        let due: Vec<PeerId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.until <= now.mono)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            self.end(peer, &PingError::Timeout);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let at = self.sessions.values().map(|session| session.until).min()?;
        Some(Deadline { at, reason: "a ping takes too long, or a stream is idle" })
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

/// For the benchmarks: a round trip with each, from the question to the answer; how many actions there were.
#[cfg(feature = "fuzzing")]
pub(crate) fn steps(peers: &[PeerId]) -> usize {
    use engine::Engine as _;

    let (mut engine, now) = (Engine::new(0), engine::sim::start());
    for peer in peers {
        engine.handle_command(Command::Measure { peer: *peer, reply: Reply::new(drop) }, now);
    }
    let mut actions: usize = 0;
    while let Some(action) = engine.poll_action() {
        actions = actions.saturating_add(1);
        if let Action::Open { peer, session } = action {
            engine.handle_input(Input::Pong { peer, session, rtt: Duration::from_millis(3) }, now);
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use peerage_core::{Keypair, engine::sim::Sim};

    use super::*;

    type Answers = Arc<Mutex<Vec<Result<Duration, PingError>>>>;

    fn peer() -> PeerId {
        Keypair::from_ed25519_seed([1; 32]).peer_id()
    }

    fn measure(sim: &mut Sim<Engine>, answers: &Answers) {
        let answers = answers.clone();
        let reply = Reply::new(move |answer| answers.lock().expect("no panic").push(answer));
        sim.command(Command::Measure { peer: peer(), reply });
    }

    fn pong(sim: &mut Sim<Engine>, session: u64) {
        sim.input(Input::Pong { peer: peer(), session, rtt: Duration::from_millis(3) });
    }

    fn perform(sim: &mut Sim<Engine>) -> Vec<String> {
        let name = |action| match action {
            Action::Answer { reply, result } => {
                reply.send(result);
                "answer".to_owned()
            }
            Action::Open { session, .. } => format!("open {session}"),
            Action::Send { session } => format!("send {session}"),
            Action::Close { session } => format!("close {session}"),
        };
        sim.actions().into_iter().map(name).collect()
    }

    #[test]
    fn pings_of_one_peer_share_a_stream_one_after_another() {
        let (mut sim, answers) = (Sim::new(Engine::default()), Answers::default());
        measure(&mut sim, &answers);
        measure(&mut sim, &answers);
        assert_eq!(perform(&mut sim), ["open 0"]);
        pong(&mut sim, 0);
        assert_eq!(perform(&mut sim), ["answer", "send 0"]);
        pong(&mut sim, 0);
        assert_eq!(perform(&mut sim), ["answer"]);
        measure(&mut sim, &answers);
        assert_eq!(perform(&mut sim), ["send 0"]);
        pong(&mut sim, 0);
        perform(&mut sim);
        assert_eq!(answers.lock().expect("no panic").len(), 3);
        sim.advance(IDLE);
        assert_eq!(perform(&mut sim), ["close 0"]);
        assert!(sim.next_deadline().is_none());
    }

    #[test]
    fn a_silent_peer_is_a_timeout_for_all_who_wait() {
        let (mut sim, answers) = (Sim::new(Engine::default()), Answers::default());
        measure(&mut sim, &answers);
        measure(&mut sim, &answers);
        perform(&mut sim);
        sim.advance(TIMEOUT - Duration::from_millis(1));
        assert!(perform(&mut sim).is_empty());
        sim.advance(Duration::from_millis(1));
        assert_eq!(perform(&mut sim), ["close 0", "answer", "answer"]);
        assert!(answers.lock().expect("no panic").iter().all(|answer| *answer == Err(PingError::Timeout)));
    }

    #[test]
    fn what_an_earlier_session_says_does_not_count() {
        let (mut sim, answers) = (Sim::new(Engine::default()), Answers::default());
        measure(&mut sim, &answers);
        sim.advance(TIMEOUT);
        measure(&mut sim, &answers);
        perform(&mut sim);
        pong(&mut sim, 0);
        sim.input(Input::Failed { peer: peer(), session: 0, error: PingError::WrongAnswer });
        assert!(perform(&mut sim).is_empty());
        pong(&mut sim, 1);
        pong(&mut sim, 1);
        assert_eq!(perform(&mut sim), ["answer"], "an answer that nobody asked for is nothing");
    }

    #[test]
    fn one_request_too_many_is_refused() {
        let (mut sim, answers) = (Sim::new(Engine::default()), Answers::default());
        (0..MAX_WAITING).for_each(|_| measure(&mut sim, &answers));
        perform(&mut sim);
        assert!(answers.lock().expect("no panic").is_empty());
        measure(&mut sim, &answers);
        perform(&mut sim);
        assert_eq!(answers.lock().expect("no panic")[..], [Err(PingError::TooMany)]);
    }
}
