//! `peerage chat --room NAME`: a room that has a name and no owner.
//!
//! What is said is published in the room's topic, so that nobody has to be connected with everybody. Others of the room
//! are found by multicast DNS, or by one address.

mod order;
mod people;
mod wire;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use peerage::{
    Gossipsub, Node, OpenOptions, PeerId, ServeOptions, Stream, StreamLimits,
    mdns::Mdns,
    ping::{self, Ping},
    pubsub::{self, Message, Subscription, Topic},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use self::{
    order::Order,
    people::People,
    wire::{DIRECT, MAX_MESSAGE, Word},
};
use super::{
    Interface, interface, named,
    show::Show,
    transfers::{self, Transfers},
    wire::MAX_LINE,
};
use crate::{
    Context,
    args::Chat,
    dial,
    failure::Failure,
    node::{self, Unless},
    text::{clean, count},
};

/// Lines that wait for somebody to hear them. More stay where they come from.
const MAX_HELD: usize = 100;
/// Words to this one alone that wait to be shown.
const ARRIVALS: usize = 16;
/// How long a direct word may take to be heard, either side.
const DIRECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Direct words that are on their way out.
const MAX_WHISPERS: usize = 16;
/// How often this one says that it is here.
const HERE: Duration = Duration::from_secs(10);
/// And how soon again at the earliest, whoever comes.
const HERE_AGAIN: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(500);
/// How long leaving may take: until the neighbours have what was said last.
const FAREWELL: Duration = Duration::from_secs(2);

const HELP: &str =
    "/msg NAME TEXT says something to one alone; /who tells who is here; // begins a line with a slash";

pub(super) async fn run(context: &Context, args: &Chat, room: &str) -> Result<(), Failure> {
    let Some(topic) = wire::topic(room) else {
        return Err(Failure::new(format!("{room:?} is no name of a room"))
            .hint("letters, digits, -, _ and . make one, as in --room tea"));
    };
    let builder = node::builder(&context.common, Unless::Loopback)?;
    let (builder, gossip) = builder.with(Gossipsub::default());
    let (mut builder, ping) = builder.with(Ping::default());
    if !args.no_mdns {
        let mdns = if context.common.lan { Mdns::default().lan() } else { Mdns::default() };
        builder = builder.with(mdns.dial(true)).0;
    }
    let node = node::start(context, builder).await?;
    let chatted = chat(context, args, (room, topic), &node, gossip, ping).await;
    node::stop(&node).await;
    chatted
}

async fn chat(
    context: &Context,
    args: &Chat,
    (room, topic): (&str, Topic),
    node: &Node,
    gossip: pubsub::Handle,
    ping: ping::Handle,
) -> Result<(), Failure> {
    let me = node.peer_id();
    let name = named(args, me)?;
    let heard = gossip.subscribe(&topic).map_err(|error| Failure::new(error.to_string()))?;
    let whispers = whispers(node)?;
    let transfers = Transfers::start(context, node, args)?;
    if let Some(address) = &args.address {
        dial::connect(context, node, address).await?;
    }
    let addresses = node.addresses();
    let Interface { screen, lines, _running } = interface(context, args, me, &name)?;
    let show = Show::new(context.out, me, name.clone(), screen);
    show.welcome_to_room(room, &addresses, !args.no_mdns)?;
    let channel = Channel {
        node: node.clone(),
        gossip,
        ping,
        topic,
        show,
        transfers,
        people: People::new(name.clone()),
        order: Order::new(),
        name,
        held: VecDeque::new(),
        said_here: None,
        asked: false,
        ended: false,
        whispering: JoinSet::new(),
    };
    channel.run(context, heard, whispers, lines).await
}

/// What others say to this one alone.
fn whispers(node: &Node) -> Result<mpsc::Receiver<(PeerId, Word)>, Failure> {
    let (arrived, arrivals) = mpsc::channel(ARRIVALS);
    let options = ServeOptions::default().limits(StreamLimits::new(2, ARRIVALS));
    let serving = node.serve_with(DIRECT, options, move |mut stream: Stream, peer| {
        let arrived = arrived.clone();
        async move {
            let listening = async {
                let word = wire::read_direct(&mut stream).await?;
                arrived.send((peer, word)).await.ok()?;
                stream.close_write().await.ok()
            };
            // Without an end of this half, the other side knows that it was not heard.
            if !matches!(timeout(DIRECT_TIMEOUT, listening).await, Ok(Some(()))) {
                tracing::debug!(%peer, "a direct word that was none");
            }
        }
    });
    serving.map_err(|error| Failure::new(error.to_string()))?;
    Ok(arrivals)
}

struct Channel {
    node: Node,
    gossip: pubsub::Handle,
    ping: ping::Handle,
    topic: Topic,
    show: Show,
    transfers: Transfers,
    name: String,
    people: People,
    order: Order<Word>,
    /// Said, and heard by nobody yet.
    held: VecDeque<String>,
    /// When it was said last that this one is here.
    said_here: Option<Instant>,
    /// Somebody has come since, who wants to know.
    asked: bool,
    /// Nothing more will be typed.
    ended: bool,
    whispering: JoinSet<Result<(), String>>,
}

#[allow(clippy::disallowed_methods, reason = "a command lives by the clock on the wall")]
impl Channel {
    /// Chats until nothing more is typed and somebody has heard all, or until the user has had enough.
    async fn run(
        mut self,
        context: &Context,
        heard: Subscription,
        whispers: mpsc::Receiver<(PeerId, Word)>,
        typed: mpsc::Receiver<String>,
    ) -> Result<(), Failure> {
        let chatted = self.chat(context, heard, whispers, typed).await;
        let unsent = self.transfers.stop().await;
        chatted?;
        self.farewell().await?;
        unsent.none()
    }

    async fn chat(
        &mut self,
        context: &Context,
        mut heard: Subscription,
        mut whispers: mpsc::Receiver<(PeerId, Word)>,
        mut typed: mpsc::Receiver<String>,
    ) -> Result<(), Failure> {
        let node = self.node.clone();
        let mut events = self.gossip.events();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.ended && self.held.is_empty() && self.whispering.is_empty() && !self.transfers.are_busy()
            {
                return Ok(());
            }
            let room = !self.ended && self.held.len() < MAX_HELD && self.whispering.len() < MAX_WHISPERS;
            tokio::select! {
                () = context.interrupt.wait() => return Ok(()),
                why = node.closed() => return Err(Failure::new(format!("the node has ended: {why}"))),
                line = typed.recv(), if room => self.typed(line).await?,
                message = heard.next() => match message {
                    Some(message) => self.heard(message).await?,
                    None => return Err(Failure::new("gossip has ended".to_owned())),
                },
                event = self.transfers.next() => self.transfers.handle(event, &self.people, &self.show)?,
                Some((peer, word)) = whispers.recv() => self.whispered(peer, word)?,
                Some(done) = self.whispering.join_next() => {
                    if let Ok(Err(why)) = done {
                        self.show.note(why);
                    }
                }
                Some(event) = events.next() => {
                    if matches!(event, pubsub::Happened::Event(pubsub::Event::Subscribed { ref topic, .. }) if *topic == self.topic) {
                        self.asked = true;
                        self.here().await;
                        self.speak().await;
                    }
                }
                _ = tick.tick() => {
                    for (peer, word) in self.order.late(Instant::now()) {
                        self.word(peer, word).await?;
                    }
                    self.here().await;
                    self.speak().await;
                    self.sweep()?;
                }
            }
        }
    }

    async fn typed(&mut self, line: Option<String>) -> Result<(), Failure> {
        let Some(line) = line else {
            self.ended = true;
            self.transfers.end();
            if !self.held.is_empty() {
                let lines = count(self.held.len(), "line");
                self.show.note(format_args!("Waiting for somebody to hear {lines}. Ctrl-C gives up."));
            }
            return Ok(());
        };
        let line = clean(&line);
        let line = line.trim_end();
        match line.strip_prefix('/') {
            Some(rest) if !rest.starts_with('/') => self.command(rest),
            rest => {
                self.say(rest.unwrap_or(line)).await;
                Ok(())
            }
        }
    }

    async fn say(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        self.show.said_by_me(line);
        let mut rest = line;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.floor_char_boundary(MAX_LINE));
            self.held.push_back(now.to_owned());
            rest = later;
        }
        self.speak().await;
        if !self.held.is_empty() {
            self.show.note("Nobody is here yet: what you say is kept for whoever joins first.");
        }
    }

    fn command(&mut self, line: &str) -> Result<(), Failure> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "who" => self.show.who(&self.people.names()),
            "msg" => match rest.trim_start().split_once(' ') {
                Some((meant, text)) if !text.trim().is_empty() => self.whisper(meant, text.trim()),
                _ => self.show.note("/msg wants a name and a text: /msg ada hello"),
            },
            _ if self.transfers.command(word, rest, &self.people, &self.show)? => {}
            _ => {
                self.show.note(HELP);
                self.show.note(transfers::HELP);
            }
        }
        Ok(())
    }

    /// Says something to one alone.
    fn whisper(&mut self, meant: &str, text: &str) {
        let peer = match self.people.find(meant) {
            Ok(peer) => peer,
            Err(found) if found.is_empty() => {
                return self.show.note(format_args!("nobody here is called {meant}; /who tells who is"));
            }
            Err(found) => return self.show.note(format_args!("{meant} may be {}", found.join(" or "))),
        };
        let called = self.people.called(peer);
        self.show.whispered_by_me(&called, text);
        let (node, said) = (self.node.clone(), format!("{}\n{text}", self.name));
        self.whispering.spawn(async move {
            let saying = async {
                let mut options = OpenOptions::new([DIRECT]);
                options.timeout = DIRECT_TIMEOUT;
                let mut stream = node.open_with(peer, options).await.map_err(|error| error.to_string())?;
                let said = async {
                    stream.write_all(said.as_bytes()).await?;
                    stream.close_write().await?;
                    stream.read(&mut [0]).await
                };
                said.await.map_err(|error| error.to_string())
            };
            match timeout(DIRECT_TIMEOUT, saying).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(why)) => Err(format!("{called} did not hear that: {why}")),
                Err(_) => Err(format!("{called} did not hear that within {} s", DIRECT_TIMEOUT.as_secs())),
            }
        });
    }

    /// Says what there is to say, as long as somebody takes it.
    async fn speak(&mut self) {
        while let Some(text) = self.held.pop_front() {
            let word = Word::Said { name: self.name.clone(), text };
            if !self.publish(&word).await {
                let Word::Said { text, .. } = word else { return };
                self.held.push_front(text);
                return;
            }
        }
    }

    /// Says that this one is here, if that was not said for long, or if somebody has come.
    async fn here(&mut self) {
        let now = Instant::now();
        let least = if self.asked { HERE_AGAIN } else { HERE };
        if self.said_here.is_none_or(|at| now.saturating_duration_since(at) >= least)
            && self.publish(&Word::Here(self.name.clone())).await
        {
            (self.said_here, self.asked) = (Some(now), false);
        }
    }

    /// Whether anybody took it.
    async fn publish(&self, word: &Word) -> bool {
        let data = word.encode();
        debug_assert!(data.len() <= MAX_MESSAGE);
        self.gossip.publish(&self.topic, data).await.is_ok_and(|published| published.peers > 0)
    }

    async fn heard(&mut self, message: Message) -> Result<(), Failure> {
        let Some(peer) = message.author.filter(|author| *author != self.node.peer_id()) else {
            return Ok(());
        };
        let Some(word) = Word::decode(&message.data) else { return Ok(()) };
        for word in self.order.take(peer, message.sequence_number(), word, Instant::now()) {
            self.word(peer, word).await?;
        }
        Ok(())
    }

    async fn word(&mut self, peer: PeerId, word: Word) -> Result<(), Failure> {
        match word {
            Word::Here(name) => self.present(peer, name).await,
            Word::Said { name, text } => {
                self.present(peer, name).await?;
                self.show.said(peer, &self.people.called(peer), &text)
            }
            Word::Left(_) => self.gone(peer, None),
        }
    }

    async fn present(&mut self, peer: PeerId, name: String) -> Result<(), Failure> {
        if self.people.heard(peer, name, Instant::now()) {
            self.show.joined(peer, &self.people.called(peer))?;
            self.transfers.speak(&self.people, &self.show)?;
            self.asked = true;
            self.here().await;
        }
        Ok(())
    }

    fn gone(&mut self, peer: PeerId, why: Option<&str>) -> Result<(), Failure> {
        let called = self.people.called(peer);
        // What waits behind something that was lost would come after the goodbye.
        drop(self.order.forget(peer));
        if self.people.gone(peer) { self.show.left(peer, &called, why) } else { Ok(()) }
    }

    fn sweep(&mut self) -> Result<(), Failure> {
        let silent = self.people.silent(Instant::now());
        silent.into_iter().try_for_each(|peer| self.gone(peer, Some("not heard any more")))
    }

    fn whispered(&mut self, peer: PeerId, word: Word) -> Result<(), Failure> {
        let Word::Said { name, text } = word else { return Ok(()) };
        // Who speaks to this one alone may be of another room, or of none.
        let called = match self.people.called(peer) {
            called if called == peer.short() && !name.is_empty() => format!("{name} ({called})"),
            called => called,
        };
        self.show.whispered(peer, &called, &text)
    }

    /// Leaves, and gives the neighbours time to take what was said last.
    async fn farewell(self) -> Result<(), Failure> {
        self.publish(&Word::Left(self.name.clone())).await;
        let neighbours = self.gossip.peers(&self.topic).await;
        let mut waiting = JoinSet::new();
        for peer in neighbours {
            let ping = self.ping.clone();
            // It goes the same way, and its answer shows that what went before it has arrived.
            waiting.spawn(async move { ping.rtt(peer).await });
        }
        let _ = timeout(FAREWELL, waiting.join_all()).await;
        match self.held.len() {
            0 => Ok(()),
            lines => {
                let lines = count(lines, "line");
                Err(Failure::new(format!("not said, for nobody was there to hear it: {lines}")))
            }
        }
    }
}
