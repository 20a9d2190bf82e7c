//! Who is there, and what is said to whom.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use peerage::{Multiaddr, Node, PeerId, Stream};
use tokio::{
    sync::mpsc,
    task::{self, AbortHandle, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    First,
    links::{self, Door, LAG, Way, What, Word},
    roster::{Participant, Roster, is_in_reach},
    show::Show,
    transfers::{self, Transfers},
    wire::{GREETING, Greeting, MAX_ADDRESSES, MAX_LINE, MAX_PARTICIPANTS},
};
use crate::{
    Context,
    failure::Failure,
    text::{clean, count},
};

/// Lines that wait to be said, for somebody to join or somebody slow. More stay where they come from.
const MAX_HELD: usize = 100;
/// Words of all tasks that wait for the room.
const WORDS: usize = 64;
/// How many are introduced to us within [`PERIOD`], by all together: names of participants cost nothing, and each is
/// an address that we dial. A full chat has half as many.
const MAX_INTRODUCED: usize = 2 * MAX_PARTICIPANTS;
const PERIOD: Duration = Duration::from_secs(60);
/// How often it is looked for those who never greeted.
const SWEEP: Duration = Duration::from_secs(1);

pub(super) struct Room {
    node: Node,
    show: Show,
    transfers: Transfers,
    roster: Roster,
    /// Those who opened a stream and have not greeted yet.
    strangers: HashMap<task::Id, Stranger>,
    /// Whose task it is. A task that is not here is not listened to any more.
    tasks: HashMap<task::Id, PeerId>,
    running: JoinSet<()>,
    /// When others were introduced to us lately.
    introduced: VecDeque<Instant>,
    door: Door,
    words: mpsc::Receiver<Word>,
    held: VecDeque<String>,
    /// Whether all who were there at first have greeted: before, what is said would not reach all of them.
    settled: bool,
    /// Nothing more will be typed.
    ended: bool,
    /// Without whom there is no chat; until they have greeted.
    wanted: Option<PeerId>,
}

struct Stranger {
    hearing: AbortHandle,
    remote: Option<Multiaddr>,
}

impl Room {
    pub(super) fn new(
        node: Node,
        show: Show,
        transfers: Transfers,
        name: String,
        addresses: Vec<Multiaddr>,
    ) -> Self {
        let (door, words) = mpsc::channel(WORDS);
        Self {
            roster: Roster::new(node.peer_id(), name, addresses),
            node,
            show,
            transfers,
            strangers: HashMap::new(),
            tasks: HashMap::new(),
            running: JoinSet::new(),
            introduced: VecDeque::new(),
            door: Door(door),
            words,
            held: VecDeque::new(),
            settled: false,
            ended: false,
            wanted: None,
        }
    }

    /// Chats until nothing more is typed and all is delivered, or until the user has had enough.
    pub(super) async fn run(
        mut self,
        context: &Context,
        first: Option<First>,
        arrivals: mpsc::Receiver<Stream>,
        typed: mpsc::Receiver<String>,
    ) -> Result<(), Failure> {
        let chatted = self.chat(context, first, arrivals, typed).await;
        let unsent = self.transfers.stop().await;
        chatted?;
        self.farewell().await?;
        unsent.none()
    }

    async fn chat(
        &mut self,
        context: &Context,
        first: Option<First>,
        mut arrivals: mpsc::Receiver<Stream>,
        mut typed: mpsc::Receiver<String>,
    ) -> Result<(), Failure> {
        if let Some(First { peer, stream, address }) = first {
            self.wanted = Some(peer);
            self.admit(peer, Way::Open(Box::new(stream)), vec![address]);
        }
        let node = self.node.clone();
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.speak()?;
            if self.is_over() {
                return Ok(());
            }
            tokio::select! {
                () = context.interrupt.wait() => return Ok(()),
                why = node.closed() => return Err(Failure::new(format!("the node has ended: {why}"))),
                line = typed.recv(), if !self.ended && self.held.len() < MAX_HELD => self.typed(line)?,
                Some(stream) = arrivals.recv() => self.knock(stream),
                Some(word) = self.words.recv() => self.listen(word)?,
                event = self.transfers.next() => self.transfers.handle(event, &self.roster, &self.show)?,
                Some(Err(error)) = self.running.join_next() => self.panicked(&error)?,
                _ = sweep.tick() => self.sweep()?,
            }
        }
    }

    fn typed(&mut self, line: Option<String>) -> Result<(), Failure> {
        let alone = self.roster.is_empty();
        let Some(line) = line else {
            self.ended = true;
            self.transfers.end();
            if alone && !self.held.is_empty() {
                let lines = count(self.held.len(), "line");
                let what = format_args!("Waiting for somebody to join, to deliver {lines}. Ctrl-C gives up.");
                self.show.note(what);
            }
            return Ok(());
        };
        let line = clean(&line);
        let line = match line.strip_prefix('/') {
            Some(rest) if !rest.starts_with('/') => return self.command(rest.trim_end()),
            rest => rest.unwrap_or(&line),
        };
        if line.trim().is_empty() {
            return Ok(());
        }
        if alone && self.held.is_empty() {
            self.show.note("Nobody is here yet: what you say is kept for whoever joins first.");
        }
        self.show.said_by_me(line);
        let mut rest = line;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.floor_char_boundary(MAX_LINE));
            self.held.push_back(now.to_owned());
            rest = later;
        }
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result<(), Failure> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "who" => self.show.who(&self.roster.names()),
            _ if self.transfers.command(word, rest, &self.roster, &self.show)? => {}
            _ => {
                self.show.note("/who tells who is here; // begins a line with a slash");
                self.show.note(transfers::HELP);
            }
        }
        Ok(())
    }

    /// Says what there is to say, as long as nobody's queue is full: whoever lags too far behind is dropped by their
    /// own task.
    fn speak(&mut self) -> Result<(), Failure> {
        self.settled |= self.roster.has_settled();
        while self.settled
            && self.roster.can_hear()
            && let Some(text) = self.held.pop_front()
        {
            self.roster.tell(&text);
        }
        self.transfers.speak(&self.roster, &self.show)
    }

    fn is_over(&self) -> bool {
        let said = self.held.is_empty() && (self.settled || self.roster.is_empty());
        self.ended && said && !self.transfers.are_busy()
    }

    /// Somebody opened a stream to speak to us.
    fn knock(&mut self, stream: Stream) {
        let (peer, connection) = (stream.peer(), stream.connection());
        let connections = self.node.connections();
        let remote = connections.into_iter().find(|info| info.id == connection).map(|info| info.remote);
        let hearing = self.running.spawn(links::hear(self.door.clone(), stream));
        self.tasks.insert(hearing.id(), peer);
        self.strangers.insert(hearing.id(), Stranger { hearing, remote });
    }

    fn listen(&mut self, Word { from, what }: Word) -> Result<(), Failure> {
        let Some(peer) = self.tasks.get(&from).copied() else { return Ok(()) };
        match what {
            What::Greeted(greeting) => self.greeted(peer, from, *greeting),
            What::Said(text) => self.show.said(peer, &self.roster.called(peer), &text),
            What::Reached => {
                if let Some(participant) = self.roster.participant(peer) {
                    participant.reached = true;
                }
                Ok(())
            }
            What::Ended(ended) => {
                self.tasks.remove(&from);
                if self.strangers.remove(&from).is_some() {
                    tracing::debug!(%peer, ?ended, "somebody knocked and did not greet");
                    return Ok(());
                }
                self.remove(peer, ended.err().as_deref())
            }
        }
    }

    fn greeted(&mut self, peer: PeerId, from: task::Id, greeting: Greeting) -> Result<(), Failure> {
        let Some(Stranger { hearing, remote }) = self.strangers.remove(&from) else { return Ok(()) };
        if self.roster.hears(peer) {
            self.remove(peer, Some("they come again"))?;
        }
        if !self.roster.knows(peer) {
            if self.roster.is_full() {
                hearing.abort();
                self.tasks.remove(&from);
                return self
                    .show
                    .unreachable(peer, &format!("there are {MAX_PARTICIPANTS} participants already"));
            }
            self.admit(peer, Way::Connected(peer), greeting.addresses.clone());
        }
        let Some(participant) = self.roster.participant(peer) else { return Ok(()) };
        participant.hearing = Some(hearing);
        participant.name = Some(if greeting.name.is_empty() { peer.short() } else { greeting.name });
        if !greeting.addresses.is_empty() {
            participant.addresses = greeting.addresses;
        }
        if self.wanted == Some(peer) {
            self.wanted = None;
        }
        self.show.joined(peer, &self.roster.called(peer))?;
        self.introduced(remote.as_ref(), greeting.others);
        Ok(())
    }

    /// Gets to know those whom somebody at `by` is connected with.
    fn introduced(&mut self, by: Option<&Multiaddr>, others: Vec<(PeerId, Multiaddr)>) {
        let mut invited: BTreeMap<PeerId, Vec<Multiaddr>> = BTreeMap::new();
        for (peer, address) in others {
            let addresses = invited.entry(peer).or_default();
            if addresses.len() < MAX_ADDRESSES && by.is_some_and(|by| is_in_reach(by, &address)) {
                addresses.push(address);
            }
        }
        while self.introduced.front().is_some_and(|at| at.elapsed() >= PERIOD) {
            self.introduced.pop_front();
        }
        for (peer, addresses) in invited {
            let room = !self.roster.is_full() && self.introduced.len() < MAX_INTRODUCED;
            if room && !self.roster.knows(peer) && !addresses.is_empty() {
                self.introduced.push_back(Instant::now());
                self.admit(peer, Way::Dial(peer, addresses.clone()), addresses);
            }
        }
    }

    fn admit(&mut self, peer: PeerId, way: Way, addresses: Vec<Multiaddr>) {
        let (lines, queue) = Participant::queue();
        let greeting = self.roster.greeting();
        let speaking = links::speak(self.door.clone(), self.node.clone(), way, greeting, queue);
        let speaking = self.running.spawn(speaking);
        self.tasks.insert(speaking.id(), peer);
        self.roster.insert(peer, Participant::new(addresses, speaking, lines));
    }

    fn remove(&mut self, peer: PeerId, why: Option<&str>) -> Result<(), Failure> {
        let called = self.roster.called(peer);
        let Some(participant) = self.roster.remove(peer) else { return Ok(()) };
        for task in participant.hearing.iter().chain([&participant.speaking]) {
            task.abort();
            self.tasks.remove(&task.id());
        }
        if self.wanted == Some(peer) {
            let why = why.unwrap_or("they left without a greeting");
            return Err(Failure::new(format!("cannot join {peer}: {why}"))
                .hint("is it `peerage chat` that runs there?"));
        }
        match participant.name {
            Some(_) => self.show.left(peer, &called, why),
            None => self.show.unreachable(peer, why.unwrap_or("they left without a greeting")),
        }
    }

    fn sweep(&mut self) -> Result<(), Failure> {
        let why = format!("no greeting within {} s", GREETING.as_secs());
        self.roster.late().into_iter().try_for_each(|peer| self.remove(peer, Some(&why)))
    }

    /// A task did not get to its last word. That is a mistake in this program, and costs one participant.
    fn panicked(&mut self, error: &JoinError) -> Result<(), Failure> {
        self.strangers.remove(&error.id());
        match self.tasks.remove(&error.id()) {
            Some(peer) if error.is_panic() => self.remove(peer, Some("an error in this program")),
            _ => Ok(()),
        }
    }

    /// Leaves, once everybody has everything, or is too slow.
    async fn farewell(mut self) -> Result<(), Failure> {
        // The ends of the queues: the tasks say what is left in them, and then goodbye.
        let mut waiting: HashMap<task::Id, String> = self.roster.end().into_iter().collect();
        let mut missed = Vec::new();
        let goodbyes = async {
            while !waiting.is_empty()
                && let Some(Word { from, what }) = self.words.recv().await
            {
                if let What::Ended(ended) = what
                    && let Some(name) = waiting.remove(&from)
                {
                    missed.extend(ended.err().map(|_| name));
                }
            }
        };
        let _ = timeout(LAG, goodbyes).await;
        missed.extend(waiting.into_values());
        let undelivered = self.held.len();
        if undelivered > 0 {
            let lines = count(undelivered, "line");
            return Err(Failure::new(format!("not said, for nobody was there to hear it: {lines}")));
        }
        if !missed.is_empty() {
            return Err(Failure::new(format!("{} may have missed what you said last", missed.join(", "))));
        }
        Ok(())
    }
}
