use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Multiaddr, Now, engine};
use peerage_transport::ListenOpts;

use crate::reply::Reply;

/// Listeners of one transport.
pub const MAX_LISTENERS: usize = 64;
/// The wait before a listener that failed is bound again; it doubles from there.
pub(crate) const REBIND_FIRST: Duration = Duration::from_millis(100);
/// The longest wait before that.
pub(crate) const REBIND_MAX: Duration = Duration::from_secs(30);

/// One call of `listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub(crate) u64);

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listener-{}", self.0)
    }
}

/// The listeners of one transport: binds them, and binds them again when they fail. `D` is a dial, which it passes on.
#[derive(Debug)]
pub(crate) struct Engine<D> {
    listeners: BTreeMap<ListenerId, Listener>,
    actions: VecDeque<Action<D>>,
}

#[derive(Debug)]
struct Listener {
    address: Multiaddr,
    opts: ListenOpts,
    state: State,
    failures: u32,
    /// Who waits to hear of the first binding. A listener that never was bound is given up when that fails.
    reply: Option<ListenReply>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Binding,
    Bound(Vec<Multiaddr>),
    Waiting(Instant),
}

pub(crate) type ListenReply = Reply<Result<Vec<Multiaddr>, String>>;

#[derive(Debug)]
pub(crate) enum Command<D> {
    /// Bind an address and keep it bound.
    Listen { id: ListenerId, address: Multiaddr, opts: ListenOpts, reply: ListenReply },
    /// Close a listener.
    Unlisten { id: ListenerId },
    /// Open a link.
    Dial(D),
}

#[derive(Debug)]
pub(crate) enum Input {
    Bound { id: ListenerId, addresses: Vec<Multiaddr> },
    Failed { id: ListenerId, why: String },
}

#[derive(Debug)]
pub(crate) enum Action<D> {
    Bind {
        id: ListenerId,
        address: Multiaddr,
        opts: ListenOpts,
    },
    Unbind {
        id: ListenerId,
    },
    Dial(D),
    Answer {
        reply: ListenReply,
        result: Result<Vec<Multiaddr>, String>,
    },
    /// It is bound, and is to be bound there with these options from now on.
    Listening {
        id: ListenerId,
        addresses: Vec<Multiaddr>,
        opts: ListenOpts,
    },
    NotListening {
        id: ListenerId,
        addresses: Vec<Multiaddr>,
        why: String,
    },
}

impl<D> Engine<D> {
    /// Starts with listeners that shall be bound: those of the actor's former life.
    pub(crate) fn new(wanted: impl IntoIterator<Item = (ListenerId, (Multiaddr, ListenOpts))>) -> Self {
        let mut this = Self { listeners: BTreeMap::new(), actions: VecDeque::new() };
        for (id, (address, opts)) in wanted {
            this.listen(id, address, opts, None);
        }
        this
    }

    fn listen(&mut self, id: ListenerId, address: Multiaddr, opts: ListenOpts, reply: Option<ListenReply>) {
        if self.listeners.len() >= MAX_LISTENERS {
            if let Some(reply) = reply {
                let why = format!("a transport keeps {MAX_LISTENERS} listeners at most");
                self.actions.push_back(Action::Answer { reply, result: Err(why) });
            }
            return;
        }
        self.actions.push_back(Action::Bind { id, address: address.clone(), opts: opts.clone() });
        self.listeners.insert(id, Listener { address, opts, state: State::Binding, failures: 0, reply });
    }

    fn unlisten(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.remove(&id) else {
            return;
        };
        self.actions.push_back(Action::Unbind { id });
        if let State::Bound(addresses) = listener.state {
            let why = "closed by this node".to_owned();
            self.actions.push_back(Action::NotListening { id, addresses, why });
        }
        if let Some(reply) = listener.reply {
            let result = Err("closed by this node".to_owned());
            self.actions.push_back(Action::Answer { reply, result });
        }
    }

    fn bound(&mut self, id: ListenerId, addresses: Vec<Multiaddr>) {
        let Some(listener) = self.listeners.get_mut(&id) else {
            return;
        };
        // Port 0 is asked for once: after a failure the listener comes back where peers know it.
        if let Some(address) = addresses.first() {
            listener.address = address.clone();
        }
        listener.failures = 0;
        listener.state = State::Bound(addresses.clone());
        let opts = listener.opts.clone();
        self.actions.push_back(Action::Listening { id, addresses: addresses.clone(), opts });
        if let Some(reply) = listener.reply.take() {
            self.actions.push_back(Action::Answer { reply, result: Ok(addresses) });
        }
    }

    fn failed(&mut self, id: ListenerId, why: String, now: Now) {
        let Some(listener) = self.listeners.get_mut(&id) else {
            return;
        };
        if let Some(reply) = listener.reply.take() {
            self.listeners.remove(&id);
            self.actions.push_back(Action::Answer { reply, result: Err(why) });
            return;
        }
        let wait = REBIND_FIRST.saturating_mul(1 << listener.failures.min(16)).min(REBIND_MAX);
        listener.failures = listener.failures.saturating_add(1);
        let before = std::mem::replace(&mut listener.state, State::Waiting(now.after(wait)));
        if let State::Bound(addresses) = before {
            self.actions.push_back(Action::NotListening { id, addresses, why });
        }
    }
}

impl<D: Send + 'static> engine::Engine for Engine<D> {
    type Command = Command<D>;
    type Input = Input;
    type Action = Action<D>;

    fn handle_command(&mut self, command: Command<D>, _: Now) {
        match command {
            Command::Listen { id, address, opts, reply } => self.listen(id, address, opts, Some(reply)),
            Command::Unlisten { id } => self.unlisten(id),
            Command::Dial(dial) => self.actions.push_back(Action::Dial(dial)),
        }
    }

    fn handle_input(&mut self, input: Input, now: Now) {
        match input {
            Input::Bound { id, addresses } => self.bound(id, addresses),
            Input::Failed { id, why } => self.failed(id, why, now),
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        for (id, listener) in &mut self.listeners {
            if matches!(listener.state, State::Waiting(until) if until <= now.mono) {
                listener.state = State::Binding;
                let (address, opts) = (listener.address.clone(), listener.opts.clone());
                self.actions.push_back(Action::Bind { id: *id, address, opts });
            }
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let waits = self.listeners.values().filter_map(|listener| match listener.state {
            State::Waiting(until) => Some(until),
            _ => None,
        });
        waits.min().map(|at| Deadline { at, reason: "a listener is bound again" })
    }

    fn poll_action(&mut self) -> Option<Action<D>> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use peerage_core::engine::sim::Sim;

    use super::*;

    type Answers = Arc<Mutex<Vec<Result<Vec<Multiaddr>, String>>>>;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid")
    }

    fn listen(sim: &mut Sim<Engine<()>>, id: u64, answers: &Answers) {
        let answers = answers.clone();
        let reply = Reply::new(move |answer| answers.lock().expect("no panic").push(answer));
        sim.command(Command::Listen {
            id: ListenerId(id),
            address: address(0),
            opts: ListenOpts::default(),
            reply,
        });
    }

    /// Sends the answers that are due, and names the rest.
    fn perform(sim: &mut Sim<Engine<()>>) -> Vec<String> {
        let name = |action| match action {
            Action::Answer { reply, result } => {
                reply.send(result);
                "answer".to_owned()
            }
            Action::Bind { address, .. } => format!("bind {address}"),
            Action::Listening { .. } => "listening".to_owned(),
            Action::NotListening { .. } => "not listening".to_owned(),
            other => format!("{other:?}"),
        };
        sim.actions().into_iter().map(name).collect()
    }

    #[test]
    fn a_listener_that_fails_is_bound_again_at_the_port_it_had() {
        let (mut sim, answers) = (Sim::new(Engine::new([])), Answers::default());
        listen(&mut sim, 1, &answers);
        assert_eq!(perform(&mut sim), ["bind /ip4/127.0.0.1/tcp/0"]);
        sim.input(Input::Bound { id: ListenerId(1), addresses: vec![address(4001)] });
        assert_eq!(perform(&mut sim), ["listening", "answer"]);
        assert_eq!(answers.lock().expect("no panic")[..], [Ok(vec![address(4001)])]);

        for (wait, named) in [(100, true), (200, false), (400, false)] {
            sim.input(Input::Failed { id: ListenerId(1), why: "gone".into() });
            assert_eq!(perform(&mut sim).contains(&"not listening".to_owned()), named);
            sim.advance(Duration::from_millis(wait - 1));
            assert!(perform(&mut sim).is_empty());
            sim.advance(Duration::from_millis(1));
            assert_eq!(perform(&mut sim), ["bind /ip4/127.0.0.1/tcp/4001"]);
        }
    }

    #[test]
    fn the_wait_has_a_maximum() {
        let mut sim = Sim::new(Engine::<()>::new([(ListenerId(1), (address(1), ListenOpts::default()))]));
        for _ in 0..40 {
            sim.input(Input::Failed { id: ListenerId(1), why: "gone".into() });
            sim.advance(REBIND_MAX);
            assert_eq!(perform(&mut sim).last().map(String::as_str), Some("bind /ip4/127.0.0.1/tcp/1"));
        }
    }

    #[test]
    fn a_first_binding_that_fails_is_answered_and_not_tried_again() {
        let (mut sim, answers) = (Sim::new(Engine::new([])), Answers::default());
        listen(&mut sim, 1, &answers);
        sim.input(Input::Failed { id: ListenerId(1), why: "in use".into() });
        assert_eq!(perform(&mut sim).last().map(String::as_str), Some("answer"));
        assert_eq!(answers.lock().expect("no panic")[..], [Err("in use".to_owned())]);
        assert!(sim.next_deadline().is_none());
    }

    #[test]
    fn one_listener_too_many_is_refused() {
        let (mut sim, answers) = (Sim::new(Engine::new([])), Answers::default());
        for id in 0..=MAX_LISTENERS {
            listen(&mut sim, u64::try_from(id).expect("small"), &answers);
        }
        perform(&mut sim);
        assert_eq!(answers.lock().expect("no panic").len(), 1);
        assert!(answers.lock().expect("no panic")[0].is_err());
    }
}
