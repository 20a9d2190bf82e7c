use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use peerage_core::{
    Keypair, Now, PeerId,
    engine::{self, Engine as _, sim},
    varint,
};
use peerage_host::{ConnectionId, Reply};
use rand::Rng as _;

use super::{
    link::{LinkModel, Uplink},
    sybil::{BEAT, Outgoing, Strategy, Sybil},
    tally::Tally,
};
use crate::{
    Author, Config, Flaw, Message, Parcel, Topic, Verdict, Version,
    codec::{self, WireMessage},
    engine::{Action, Command, Engine, Input},
    partial::Received,
    queue::Queue,
    verify,
};

/// A node of a [`Network`], in the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// Nodes, their connections, and what is under way between them.
pub struct Network {
    nodes: Vec<Node>,
    ids: BTreeMap<PeerId, NodeId>,
    world: World,
}

/// What nodes share.
struct World {
    now: Now,
    start: Instant,
    events: BinaryHeap<Reverse<Event>>,
    order: u64,
    rng: engine::Rng,
    link: LinkModel,
    tally: Tally,
    trace: u64,
    /// Signatures that were verified, with what was signed: the answer is the same at every node.
    verified: BTreeMap<Bytes, (Arc<WireMessage>, Result<(), Flaw>)>,
    next_id: u64,
    /// What was said of partial messages, and to whom, until somebody asks.
    parts: VecDeque<(NodeId, Received)>,
    /// From which age on each node does not look at messages, so that they need not arrive.
    deaf: Vec<Option<Duration>>,
}

struct Node {
    peer: PeerId,
    kind: Kind,
    links: BTreeMap<PeerId, Link>,
    uplink: Uplink,
    /// Links that have something to send, in the order of their turns.
    ready: VecDeque<PeerId>,
    /// When it wants to be called, as it was last said to the clock.
    wake: Option<Instant>,
}

enum Kind {
    Honest(Box<Honest>),
    Sybil(Sybil),
}

struct Honest {
    engine: Engine,
    author: Author,
}

/// One direction of a connection.
struct Link {
    to: NodeId,
    connection: ConnectionId,
    session: u64,
    queue: Option<Queue>,
    /// Frames of a Sybil, which has no engine to queue them.
    frames: VecDeque<Bytes>,
    is_ready: bool,
    /// When the last frame arrives that is under way; later ones come behind it.
    last: Instant,
}

#[derive(Debug)]
struct Event {
    at: Instant,
    order: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A node's deadline.
    Wake(NodeId),
    /// A node can send more.
    Uplink(NodeId),
    /// A frame arrives.
    Frame { from: NodeId, to: NodeId, connection: ConnectionId, frame: Bytes },
    /// A stream was agreed on; the other side knows already.
    Opened { node: NodeId, peer: PeerId, session: u64 },
    /// A peer has opened a stream.
    Inbound { node: NodeId, peer: PeerId, session: u64 },
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl World {
    fn at(&mut self, at: Instant, what: What) {
        self.order += 1;
        self.events.push(Reverse(Event { at, order: self.order, what }));
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn age(&self) -> Duration {
        self.now.mono.saturating_duration_since(self.start)
    }

    fn is_deaf(&self, node: NodeId) -> bool {
        self.deaf.get(node.0).copied().flatten().is_some_and(|from| self.age() >= from)
    }

    /// Folds a number into the trace.
    fn note(&mut self, number: u64) {
        self.trace = (self.trace.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn verify(&mut self, message: &Arc<WireMessage>) -> Result<(), Flaw> {
        let Some(signature) = &message.signature else {
            return verify(message);
        };
        if let Some((known, result)) = self.verified.get(signature)
            && known == message
        {
            return *result;
        }
        let result = verify(message);
        self.verified.insert(signature.clone(), (message.clone(), result));
        result
    }
}

impl Network {
    /// Without nodes. Everything that happens by chance follows from `seed`.
    pub fn new(seed: u64, link: LinkModel) -> Self {
        let now = sim::start();
        let world = World {
            now,
            start: now.mono,
            events: BinaryHeap::new(),
            order: 0,
            rng: engine::rng(seed),
            link,
            tally: Tally::default(),
            trace: seed,
            verified: BTreeMap::new(),
            next_id: 0,
            parts: VecDeque::new(),
            deaf: Vec::new(),
        };
        Self { nodes: Vec::new(), ids: BTreeMap::new(), world }
    }

    /// Adds a node that does what it should.
    pub fn add(&mut self, config: &Arc<Config>) -> NodeId {
        let keypair = self.keypair();
        let rng = engine::rng(self.world.rng.next_u64());
        let engine = Engine::new(config.clone(), keypair.peer_id(), rng, 1);
        let peer = keypair.peer_id();
        self.push(peer, Kind::Honest(Box::new(Honest { engine, author: Author::new(keypair, 1) })))
    }

    /// Adds a node that does not.
    pub fn add_sybil(&mut self, strategy: Strategy, topic: Topic) -> NodeId {
        let peer = self.keypair().peer_id();
        let node = self.push(peer, Kind::Sybil(Sybil::new(strategy, topic)));
        // Not all at the same moment.
        let wait = Duration::from_millis(self.world.rng.next_u64() % 1000);
        self.nodes[node.0].wake = Some(self.world.now.after(wait));
        self.world.at(self.world.now.after(wait), What::Wake(node));
        node
    }

    fn keypair(&mut self) -> Keypair {
        let mut seed = [0; 32];
        self.world.rng.fill_bytes(&mut seed);
        Keypair::from_ed25519_seed(seed)
    }

    fn push(&mut self, peer: PeerId, kind: Kind) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.world.deaf.push(match &kind {
            Kind::Honest(_) => None,
            Kind::Sybil(sybil) => sybil.deaf_from(),
        });
        self.nodes.push(Node {
            peer,
            kind,
            links: BTreeMap::new(),
            uplink: Uplink::new(self.world.now.mono),
            ready: VecDeque::new(),
            wake: None,
        });
        self.ids.insert(peer, id);
        id
    }

    /// Connects two nodes; `from` dials. Nothing happens if they are connected.
    pub fn connect(&mut self, from: NodeId, to: NodeId) {
        let (dialer, listener) = (self.nodes[from.0].peer, self.nodes[to.0].peer);
        if from == to || self.nodes[from.0].links.contains_key(&listener) {
            return;
        }
        let connection = ConnectionId::from(self.world.next_id());
        for (here, there, peer, dialed) in [(from, to, listener, true), (to, from, dialer, false)] {
            let link = Link {
                to: there,
                connection,
                session: 0,
                queue: None,
                frames: VecDeque::new(),
                is_ready: false,
                last: self.world.now.mono,
            };
            self.nodes[here.0].links.insert(peer, link);
            let command = Command::Connected { peer, id: connection, ip: Some(address(there)), dialed };
            self.connected(here, peer, command);
        }
    }

    fn connected(&mut self, here: NodeId, peer: PeerId, command: Command) {
        match &mut self.nodes[here.0].kind {
            Kind::Honest(_) => self.command(here, command),
            Kind::Sybil(_) => {
                let session = self.world.next_id();
                open(&mut self.world, &mut self.nodes[here.0], here, peer, session, None);
            }
        }
    }

    /// Cuts the connection of two nodes, and what is under way on it.
    pub fn disconnect(&mut self, a: NodeId, b: NodeId) {
        let peers = [self.nodes[a.0].peer, self.nodes[b.0].peer];
        for (here, peer) in [(a, peers[1]), (b, peers[0])] {
            let Some(link) = self.nodes[here.0].links.remove(&peer) else {
                continue;
            };
            match &mut self.nodes[here.0].kind {
                Kind::Honest(_) => self.command(here, Command::Disconnected { peer, id: link.connection }),
                Kind::Sybil(sybil) => sybil.closed(&peer),
            }
        }
    }

    /// Gives a command to an honest node.
    pub fn command(&mut self, node: NodeId, command: Command) {
        if let Kind::Honest(honest) = &mut self.nodes[node.0].kind {
            honest.engine.handle_command(command, self.world.now);
            self.settle(node);
        }
    }

    /// An honest node publishes.
    pub fn publish(&mut self, node: NodeId, topic: &Topic, data: Bytes) {
        let Kind::Honest(honest) = &mut self.nodes[node.0].kind else {
            return;
        };
        let rules = Config::default();
        let rules = rules.topic(topic);
        let message = honest.author.write(topic.clone(), data, rules.signing);
        let parcel = Arc::new(Parcel::new(rules.id_of(&message), message));
        self.world.tally.published(parcel.id.clone(), node, self.world.now.mono);
        // Its own copy has the same answer as all others.
        self.world.verify(&Arc::new(parcel.message.clone())).expect("it was signed just now");
        self.command(node, Command::Publish { parcel, reply: Reply::new(|_| {}) });
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.world.now.plus(time);
        while let Some(Reverse(event)) = self.world.events.peek()
            && event.at <= end.mono
        {
            let Some(Reverse(Event { at, what, .. })) = self.world.events.pop() else {
                break;
            };
            self.world.now = self.world.now.plus(at.saturating_duration_since(self.world.now.mono));
            self.happens(what);
        }
        self.world.now = end;
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Wake(node) => self.wake(node),
            What::Uplink(node) => {
                self.nodes[node.0].uplink.waiting = false;
                pump(&mut self.world, &mut self.nodes[node.0], node);
            }
            What::Frame { from, to, connection, frame } => self.frame(from, to, connection, &frame),
            What::Opened { node, peer, session } => self.opened(node, peer, session),
            What::Inbound { node, peer, session } => {
                if self.nodes[node.0].links.contains_key(&peer) {
                    self.input(node, Input::Inbound { peer, stream: session });
                }
            }
        }
    }

    fn wake(&mut self, node: NodeId) {
        let now = self.world.now;
        let Node { kind, wake, .. } = &mut self.nodes[node.0];
        // The deadline may have moved since.
        if *wake != Some(now.mono) {
            return;
        }
        match kind {
            Kind::Honest(honest) => {
                *wake = None;
                honest.engine.handle_timeout(now);
                self.settle(node);
            }
            Kind::Sybil(sybil) => {
                let out = sybil.beat(now);
                *wake = Some(now.after(BEAT));
                self.world.at(now.after(BEAT), What::Wake(node));
                self.send_all(node, out);
            }
        }
    }

    fn opened(&mut self, node: NodeId, peer: PeerId, session: u64) {
        let Node { kind, links, .. } = &mut self.nodes[node.0];
        if links.get(&peer).is_none_or(|link| link.session != session) {
            return;
        }
        match kind {
            Kind::Honest(_) => self.input(node, Input::Opened { peer, session, version: Version::V13 }),
            Kind::Sybil(sybil) => {
                let out = sybil.opened(peer, self.world.now);
                self.send_all(node, out);
            }
        }
    }

    fn frame(&mut self, from: NodeId, to: NodeId, connection: ConnectionId, frame: &Bytes) {
        let peer = self.nodes[from.0].peer;
        let age = self.world.age();
        let Node { kind, links, .. } = &mut self.nodes[to.0];
        if links.get(&peer).is_none_or(|link| link.connection != connection) {
            return;
        }
        self.world.note(age.as_nanos() as u64);
        self.world.note((from.0 as u64) << 40 | (to.0 as u64) << 20 | frame.len() as u64);
        match kind {
            Kind::Honest(_) => {
                let limits = codec::Limits::default();
                let rpc = payload(frame).map(|body| codec::decode(&body, &limits));
                let Some(Ok(rpc)) = rpc else {
                    return self.input(to, Input::Malformed { peer });
                };
                self.world.tally.copies(rpc.messages.len());
                self.input(to, Input::Rpcs { peer, rpcs: vec![rpc], charge: None });
            }
            Kind::Sybil(sybil) => {
                let out = sybil.heard(peer, frame, age, self.world.now);
                self.send_all(to, out);
            }
        }
    }

    fn send_all(&mut self, node: NodeId, frames: Vec<Outgoing>) {
        let Node { links, ready, .. } = &mut self.nodes[node.0];
        for (peer, frame) in frames {
            if let Some(link) = links.get_mut(&peer) {
                link.frames.push_back(frame);
                if !std::mem::replace(&mut link.is_ready, true) {
                    ready.push_back(peer);
                }
            }
        }
        pump(&mut self.world, &mut self.nodes[node.0], node);
    }

    fn input(&mut self, node: NodeId, input: Input) {
        if let Kind::Honest(honest) = &mut self.nodes[node.0].kind {
            honest.engine.handle_input(input, self.world.now);
            self.settle(node);
        }
    }

    /// Performs what an engine wants, and answers it, until it wants nothing more.
    fn settle(&mut self, id: NodeId) {
        let mut answers = VecDeque::new();
        let mut wanted = Vec::new();
        let node = &mut self.nodes[id.0];
        loop {
            while let Some(action) = node.engine().poll_action() {
                perform(&mut self.world, node, id, action, &mut answers, &mut wanted);
            }
            let Some(answer) = answers.pop_front() else {
                break;
            };
            node.engine().handle_input(answer, self.world.now);
        }
        let deadline = node.engine().poll_timeout().map(|deadline| deadline.at.max(self.world.now.mono));
        if let Some(at) = deadline
            && node.wake != deadline
        {
            node.wake = deadline;
            self.world.at(at, What::Wake(id));
        }
        pump(&mut self.world, node, id);
        for peer in wanted {
            if let Some(other) = self.ids.get(&peer).copied() {
                self.connect(id, other);
            }
        }
    }

    /// The time since the network was made.
    pub fn age(&self) -> Duration {
        self.world.age()
    }

    /// A number that two runs have in common only if the same frames arrived at the same times in both.
    pub fn trace(&self) -> u64 {
        self.world.trace
    }

    /// What nodes have heard of partial messages since this was asked the last time.
    pub fn take_parts(&mut self) -> Vec<(NodeId, Received)> {
        self.world.parts.drain(..).collect()
    }

    /// What was published and delivered.
    pub fn tally(&self) -> &Tally {
        &self.world.tally
    }

    /// Begins to count anew.
    pub fn reset_tally(&mut self) {
        self.world.tally = Tally::default();
    }

    /// A node's id as others know it.
    pub fn peer(&self, node: NodeId) -> PeerId {
        self.nodes[node.0].peer
    }

    /// The engine of an honest node.
    pub fn engine(&self, node: NodeId) -> Option<&Engine> {
        match &self.nodes[node.0].kind {
            Kind::Honest(honest) => Some(&honest.engine),
            Kind::Sybil(_) => None,
        }
    }

    /// All honest nodes.
    pub fn honest(&self) -> impl Iterator<Item = NodeId> + Clone + '_ {
        (0..self.nodes.len()).map(NodeId).filter(|node| self.engine(*node).is_some())
    }

    /// The nodes that a node is connected with.
    pub fn neighbours(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes[node.0].links.values().map(|link| link.to)
    }

    /// The members of a node's mesh.
    pub fn mesh(&self, node: NodeId, topic: &Topic) -> BTreeSet<NodeId> {
        let members = self.engine(node).into_iter().flat_map(|engine| engine.mesh(topic));
        members.filter_map(|peer| self.ids.get(peer).copied()).collect()
    }

    /// From now on wires are like this.
    pub fn set_link(&mut self, link: LinkModel) {
        self.world.link = link;
    }

    /// The dice of this network.
    pub fn rng(&mut self) -> &mut engine::Rng {
        &mut self.world.rng
    }
}

impl Node {
    fn engine(&mut self) -> &mut Engine {
        match &mut self.kind {
            Kind::Honest(honest) => &mut honest.engine,
            Kind::Sybil(_) => unreachable!("only honest nodes are settled"),
        }
    }

    fn link(&mut self, peer: &PeerId) -> Option<&mut Link> {
        self.links.get_mut(peer)
    }
}

fn perform(
    world: &mut World,
    node: &mut Node,
    id: NodeId,
    action: Action,
    answers: &mut VecDeque<Input>,
    wanted: &mut Vec<PeerId>,
) {
    match action {
        Action::Open { peer, session, queue } => open(world, node, id, peer, session, Some(queue)),
        Action::Close { peer } => {
            if let Some(link) = node.link(&peer) {
                (link.queue, link.session) = (None, 0);
            }
        }
        Action::Flush { peer } => {
            if let Some(link) = node.links.get_mut(&peer)
                && !std::mem::replace(&mut link.is_ready, true)
            {
                node.ready.push_back(peer);
            }
        }
        Action::Verify { ticket, message, .. } => {
            let result = world.verify(&message);
            answers.push_back(Input::Verified { ticket, result });
        }
        Action::Validate { ticket, .. } => {
            answers.push_back(Input::Validated { ticket, verdict: Verdict::Accept });
        }
        Action::Deliver(message) => delivered(world, id, &message),
        Action::DeliverPartial(received) => world.parts.push_back((id, received)),
        Action::Connect { peer, .. } | Action::ConnectDirect { peer, .. } => wanted.push(peer),
        // Without records: who is named is dialed by its id.
        Action::Exchange { peer, queue, topic, backoff, others, .. } => {
            let others = others.into_iter().map(|peer| codec::Exchanged { peer, record: None });
            let prune = codec::Prune { topic, peers: others.collect(), backoff: Some(backoff.as_secs()) };
            let mut control = codec::Control::default();
            control.prune(&prune);
            for frame in control.finish() {
                queue.control(crate::Lane::Control, frame);
            }
            if let Some(link) = node.links.get_mut(&peer)
                && !std::mem::replace(&mut link.is_ready, true)
            {
                node.ready.push_back(peer);
            }
        }
        // What is counted is asked of the engine, and nobody here waits for an answer.
        Action::InMesh { .. }
        | Action::Event(_)
        | Action::Stats(_)
        | Action::Published { .. }
        | Action::PublishedPartial { .. }
        | Action::AnswerPeers { .. }
        | Action::AnswerScored { .. }
        | Action::AnswerScore { .. } => {}
    }
}

fn delivered(world: &mut World, to: NodeId, message: &Message) {
    let now = world.now.mono;
    world.tally.delivered(&message.id, to, now);
}

/// A stream to a peer: its name is agreed on in a round trip, and the other side is told on the way.
fn open(world: &mut World, node: &mut Node, id: NodeId, peer: PeerId, session: u64, queue: Option<Queue>) {
    let from = node.peer;
    let Some(link) = node.link(&peer) else {
        return;
    };
    (link.session, link.queue) = (session, queue);
    let there = world.now.after(world.link.under_way(&mut world.rng));
    let back = there.max(world.now.mono) + world.link.under_way(&mut world.rng);
    link.last = link.last.max(back);
    world.at(there, What::Inbound { node: link.to, peer: from, session });
    world.at(back, What::Opened { node: id, peer, session });
}

/// Sends what is ready, as long as the uplink takes it.
fn pump(world: &mut World, node: &mut Node, id: NodeId) {
    let now = world.now.mono;
    let is_sybil = matches!(node.kind, Kind::Sybil(_));
    while let Some(peer) = node.ready.pop_front() {
        // Sybils are not held up by their own wires.
        if let Some(until) = node.uplink.full_until(now).filter(|_| !is_sybil) {
            node.ready.push_front(peer);
            if !std::mem::replace(&mut node.uplink.waiting, true) {
                world.at(until, What::Uplink(id));
            }
            return;
        }
        let Some(link) = node.links.get_mut(&peer) else {
            continue;
        };
        let queued = link.frames.pop_front();
        let Some(frame) = queued.or_else(|| link.queue.as_ref().and_then(Queue::pop)) else {
            link.is_ready = false;
            continue;
        };
        let sent = if is_sybil { now } else { node.uplink.send(frame.len(), &world.link, now) };
        let arrives = (sent + world.link.under_way(&mut world.rng)).max(link.last);
        link.last = arrives;
        let (to, connection) = (link.to, link.connection);
        node.ready.push_back(peer);
        if !(world.is_deaf(to) && is_message(&frame)) {
            world.at(arrives, What::Frame { from: id, to, connection, frame });
        }
    }
}

/// The address of a node: each has its own.
fn address(node: NodeId) -> IpAddr {
    let [.., a, b, c] = (node.0 as u32).to_be_bytes();
    Ipv4Addr::new(10, a, b, c).into()
}

/// Whether a frame begins with a message, as those do that have one.
fn is_message(frame: &Bytes) -> bool {
    const PUBLISH: u8 = 2 << 3 | 2;
    matches!(varint::decode(frame), Ok(Some((_, head))) if frame.get(head) == Some(&PUBLISH))
}

/// A frame without its length.
pub(super) fn payload(frame: &Bytes) -> Option<Bytes> {
    let (len, head) = varint::decode(frame).ok()??;
    let body = frame.slice(head..);
    (body.len() as u64 == len).then_some(body)
}
