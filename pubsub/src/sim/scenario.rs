//! Whole runs, and what has to be true of them.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use rand::{RngExt as _, seq::SliceRandom as _};

use super::{LinkModel, Network, NodeId, Strategy, Summary};
use crate::{
    Config, Mesh, Scoring, Topic,
    engine::{Command, Sizes},
    score::{
        Decaying, FirstDeliveries, MeshDeliveries, Settings, Thresholds, TimeInMesh, TopicCap, TopicParams,
        decay_in,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn the_topic() -> Topic {
    Topic::try_from("simulated").expect("a name")
}

/// Something was not as it has to be; the seed that shows it again, and what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}: {what}")]
pub struct Broken {
    /// The seed.
    pub seed: u64,
    /// What was wrong.
    pub what: String,
}

/// What became of one run of [`small`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Small {
    /// What was delivered.
    pub summary: Summary,
    /// See [`Network::trace`].
    pub trace: u64,
}

/// How many nodes [`small`] has.
pub const SMALL: usize = 30;
/// How many nodes each of them dials.
const SMALL_DIALS: usize = 6;
/// Messages that are published.
const SMALL_MESSAGES: usize = 40;

/// Thirty nodes on a random graph whose links differ from seed to seed: near or far, wide or narrow, some with losses.
/// They form a mesh, publish, lose some connections meanwhile, leave the topic, and part.
///
/// # Errors
/// When a message does not come to every other node exactly once; a mesh is not between Dlo and Dhi before anything is
/// published, though there are neighbours with room; a node is graylisted; anything is still remembered at the end.
pub fn small(seed: u64) -> Result<Small, Broken> {
    let broken = |what: String| Broken { seed, what };
    let topic = the_topic();
    // Remembered only as long as a backoff lasts, so that less time has to pass until all is forgotten.
    let config = Arc::new(Config { seen_ttl: SECOND * 60, ..Config::default() });
    let mut network = Network::new(seed, LinkModel::default());
    let link = random_link(&mut network);
    network.set_link(link);
    let nodes: Vec<NodeId> = (0..SMALL).map(|_| network.add(&config)).collect();
    dial_at_random(&mut network, &nodes, SMALL_DIALS);
    for node in &nodes {
        let wait = network.rng().random_range(0..100);
        network.run(Duration::from_millis(wait));
        network.command(*node, Command::Subscribe(topic.clone()));
    }
    // Who was pruned by all but a few waits for its backoffs to pass.
    let settled = network.age() + config.prune_backoff + SECOND * 10;
    network.run(SECOND * 5);
    while let Err(what) = check_meshes(&network, &topic, &config) {
        if network.age() > settled {
            return Err(broken(what));
        }
        network.run(SECOND);
    }

    for n in 0..SMALL_MESSAGES {
        let publisher = pick(&mut network, &nodes);
        let size = network.rng().random_range(1..4096);
        network.publish(publisher, &topic, Bytes::from(vec![n as u8; size]));
        let wait = network.rng().random_range(0..500);
        network.run(Duration::from_millis(wait));
        if n % 10 == 9 {
            cut_one(&mut network, &nodes);
        }
    }
    network.run(SECOND * 10);
    check_scores(&network, &config).map_err(broken)?;
    let summary = network.tally().summary(SMALL - 1);
    if !summary.is_complete() {
        let missing = network.tally().missing(nodes.iter().copied());
        return Err(broken(format!("{summary}\nmissing {missing:?}")));
    }

    // Past everything that is remembered of the topic and its messages.
    for node in &nodes {
        network.command(*node, Command::Unsubscribe(topic.clone()));
    }
    network.run(config.seen_ttl + SECOND * 5);
    let expected = |peers| Sizes { peers, ..Sizes::default() };
    check_sizes(&network, |node| expected(network.neighbours(node).count())).map_err(broken)?;
    for node in &nodes {
        let others: Vec<NodeId> = network.neighbours(*node).collect();
        others.into_iter().for_each(|other| network.disconnect(*node, other));
    }
    network.run(SECOND);
    check_sizes(&network, |_| expected(0)).map_err(broken)?;
    Ok(Small { summary, trace: network.trace() })
}

fn random_link(network: &mut Network) -> LinkModel {
    let rng = network.rng();
    LinkModel {
        latency: Duration::from_millis(rng.random_range(1..100)),
        jitter: rng.random_range(0.0..0.5),
        bandwidth: rng.random_range(250_000..12_500_000),
        loss: if rng.random::<bool>() { rng.random_range(0.0..0.05) } else { 0.0 },
    }
}

/// Each node dials some others. A ring among them keeps the graph in one piece.
fn dial_at_random(network: &mut Network, nodes: &[NodeId], dials: usize) {
    for (n, node) in nodes.iter().enumerate() {
        let next = nodes[(n + 1) % nodes.len()];
        // They begin one after another, so that their heartbeats are not at the same time.
        network.run(Duration::from_millis(1));
        network.connect(*node, next);
        for _ in 1..dials {
            let other = pick(network, nodes);
            network.connect(*node, other);
        }
    }
}

fn pick(network: &mut Network, nodes: &[NodeId]) -> NodeId {
    nodes[network.rng().random_range(0..nodes.len())]
}

/// Cuts a connection between two nodes that have others left, and not one of the ring.
fn cut_one(network: &mut Network, nodes: &[NodeId]) {
    let node = pick(network, nodes);
    let far = |other: &NodeId| other.0.abs_diff(node.0) != 1 && other.0.abs_diff(node.0) != nodes.len() - 1;
    let others: Vec<NodeId> = network.neighbours(node).filter(far).collect();
    let Some(other) = others.first().copied() else {
        return;
    };
    if network.neighbours(other).count() > SMALL_DIALS && others.len() > SMALL_DIALS {
        network.disconnect(node, other);
    }
}

fn check_meshes(network: &Network, topic: &Topic, config: &Config) -> Result<(), String> {
    for node in network.honest() {
        let mesh = network.mesh(node, topic);
        // A full mesh takes nobody who dialed it: a node all of whose other neighbours are full has to do with fewer.
        let has_room = |other: &NodeId| network.mesh(*other, topic).len() < config.mesh.high;
        let could_grow = network.neighbours(node).any(|other| !mesh.contains(&other) && has_room(&other));
        if mesh.len() > config.mesh.high || (mesh.len() < config.mesh.low && could_grow) {
            return Err(format!("{node:?} has a mesh of {}: {mesh:?}", mesh.len()));
        }
        if let Some(one_sided) = mesh.iter().find(|other| !network.mesh(**other, topic).contains(&node)) {
            return Err(format!("{node:?} is not in the mesh of {one_sided:?}, which is in its mesh"));
        }
    }
    Ok(())
}

fn check_scores(network: &Network, config: &Config) -> Result<(), String> {
    let graylist = config.scoring.as_ref().map_or(f64::NEG_INFINITY, |scoring| scoring.thresholds.graylist);
    match worst(network) {
        Some((of, by, score)) if score < graylist => Err(format!("{of:?} is graylisted by {by:?}: {score}")),
        _ => Ok(()),
    }
}

/// The worst that an honest node thinks of an honest neighbour: of whom, who, and what.
fn worst(network: &Network) -> Option<(NodeId, NodeId, f64)> {
    let honest = network.honest();
    let pairs = honest.flat_map(|by| {
        let neighbours = network.neighbours(by).filter(|of| network.engine(*of).is_some());
        neighbours.filter_map(move |of| Some((of, by, network.engine(by)?.score(&network.peer(of)))))
    });
    pairs.min_by(|a, b| a.2.total_cmp(&b.2))
}

fn check_sizes(network: &Network, expected: impl Fn(NodeId) -> Sizes) -> Result<(), String> {
    for node in network.honest() {
        let sizes = network.engine(node).map(crate::engine::Engine::sizes).unwrap_or_default();
        if sizes != expected(node) {
            return Err(format!("{node:?} still remembers {sizes:?}"));
        }
    }
    Ok(())
}

/// A large network under load, and under attack: the setting of the evaluation of gossipsub 1.1 (Vyzovitis et al.,
/// "GossipSub: Attack-Resilient Message Propagation in the Filecoin and ETH2.0 Networks").
#[derive(Clone, Debug)]
pub struct Large {
    /// Nodes that do what they should.
    pub honest: usize,
    /// How many others an honest node dials; it is dialed by as many.
    pub dials: usize,
    /// Honest nodes that publish.
    pub publishers: usize,
    /// Messages a second, of all of them together.
    pub rate: u32,
    /// Bytes of a message.
    pub size: usize,
    /// How long there is to form meshes before anything is published, or anybody attacks.
    pub warm_up: Duration,
    /// How long messages are published.
    pub publish: Duration,
    /// How long there is for what is late.
    pub tail: Duration,
    /// Nodes that do not do what they should; each dials a hundred others.
    pub sybils: usize,
    /// What they do.
    pub attack: Attack,
    /// Of all chance.
    pub seed: u64,
    /// What wires are like.
    pub link: LinkModel,
    /// How large meshes are.
    pub mesh: Mesh,
}

/// How many honest nodes a Sybil dials.
const SYBIL_DIALS: usize = 100;

/// What Sybils do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attack {
    /// Nothing: there are none.
    None,
    /// They come when meshes are there, go into as many as they can, and forward nothing.
    Eclipse,
    /// They forward everything but what a tenth of the publishers write.
    Censor,
    /// They are there from the beginning, as everybody is, and forward nothing.
    ColdBoot,
    /// They forward everything, for half of the time; then all together nothing.
    CovertFlash,
}

/// What became of a [`Large`] run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What was delivered.
    pub summary: Summary,
    /// The lowest score that an honest node had with another one, at any full second.
    pub worst_score: f64,
    /// Honest nodes that another one had on its graylist, at any full second, counted for each pair and second.
    pub graylisted: u64,
    /// Members of honest meshes that are Sybils, as a part of all, at the end of publishing.
    pub sybil_share: f64,
    /// The highest that was.
    pub worst_sybil_share: f64,
    /// The smallest and the largest honest mesh at the end of publishing.
    pub meshes: (usize, usize),
    /// See [`Network::trace`].
    pub trace: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary)?;
        writeln!(f, "meshes       {} to {}", self.meshes.0, self.meshes.1)?;
        let [share, worst] = [self.sybil_share, self.worst_sybil_share].map(|share| share * 100.0);
        writeln!(f, "sybils       {share:.1} % of meshes at the end, {worst:.1} % at worst")?;
        writeln!(
            f,
            "scores       {:.1} at worst among the honest, {} graylisted",
            self.worst_score, self.graylisted
        )?;
        write!(f, "trace        {:016x}", self.trace)
    }
}

impl Default for Large {
    fn default() -> Self {
        Self {
            honest: 1000,
            dials: 10,
            publishers: 100,
            rate: 120,
            size: 2048,
            warm_up: SECOND * 10,
            publish: SECOND * 60,
            tail: SECOND * 10,
            sybils: 0,
            attack: Attack::None,
            seed: 1,
            link: LinkModel::default(),
            // With Dhi at 12 a mesh that began with everybody grafting at once has nine members, and nearly as many
            // copies of each message.
            mesh: Mesh { high: 8, ..Mesh::default() },
        }
    }
}

impl Large {
    /// Runs it.
    pub fn run(&self) -> Outcome {
        let topic = the_topic();
        let config = Arc::new(busy_config(&topic, self.mesh, self.rate));
        let mut network = Network::new(self.seed, self.link);
        let nodes: Vec<NodeId> = (0..self.honest).map(|_| network.add(&config)).collect();
        dial_at_random(&mut network, &nodes, self.dials);
        let publishers = &nodes[..self.publishers.min(nodes.len())];
        if self.attack == Attack::ColdBoot || self.attack == Attack::CovertFlash {
            self.add_sybils(&mut network, &nodes, publishers, &topic);
        }
        for node in &nodes {
            network.command(*node, Command::Subscribe(topic.clone()));
        }
        let mut watch = Watch::new(&config, &topic);
        if self.attack != Attack::ColdBoot {
            watch.run(&mut network, self.warm_up);
        }
        if self.attack == Attack::Eclipse || self.attack == Attack::Censor {
            self.add_sybils(&mut network, &nodes, publishers, &topic);
        }
        self.publish(&mut network, publishers, &topic, &mut watch);
        let (share, meshes) = watch.meshes(&network);
        watch.run(&mut network, self.tail);
        Outcome {
            summary: network.tally().summary(self.honest.saturating_sub(1)),
            worst_score: watch.worst_score,
            graylisted: watch.graylisted,
            sybil_share: share,
            worst_sybil_share: watch.worst_share,
            meshes,
            trace: network.trace(),
        }
    }

    fn add_sybils(&self, network: &mut Network, nodes: &[NodeId], publishers: &[NodeId], topic: &Topic) {
        let strategy = match self.attack {
            Attack::None => return,
            Attack::Eclipse | Attack::ColdBoot => Strategy::Silent,
            Attack::CovertFlash => Strategy::Covert(network.age() + self.warm_up + self.publish / 2),
            Attack::Censor => {
                let censored = publishers.iter().step_by(10);
                Strategy::Censor(censored.map(|node| network.peer(*node)).collect())
            }
        };
        let mut order = nodes.to_vec();
        for _ in 0..self.sybils {
            let sybil = network.add_sybil(strategy.clone(), topic.clone());
            order.shuffle(network.rng());
            order.iter().take(SYBIL_DIALS).for_each(|node| network.connect(sybil, *node));
        }
    }

    fn publish(&self, network: &mut Network, publishers: &[NodeId], topic: &Topic, watch: &mut Watch) {
        let every = SECOND / self.rate.max(1);
        let messages = self.publish.as_nanos() / every.as_nanos().max(1);
        for n in 0..messages {
            let publisher = pick(network, publishers);
            let mut data = vec![0; self.size];
            data.iter_mut().zip(n.to_be_bytes()).for_each(|(to, from)| *to = from);
            network.publish(publisher, topic, Bytes::from(data));
            watch.run(network, every);
        }
    }
}

/// What is looked at every second.
struct Watch<'a> {
    topic: &'a Topic,
    graylist: f64,
    next: Duration,
    worst_score: f64,
    graylisted: u64,
    worst_share: f64,
}

impl<'a> Watch<'a> {
    fn new(config: &Config, topic: &'a Topic) -> Self {
        let thresholds = config.scoring.as_ref().map(|scoring| scoring.thresholds).unwrap_or_default();
        Self {
            topic,
            graylist: thresholds.graylist,
            next: SECOND,
            worst_score: 0.0,
            graylisted: 0,
            worst_share: 0.0,
        }
    }

    fn run(&mut self, network: &mut Network, time: Duration) {
        let end = network.age() + time;
        while self.next <= end {
            network.run(self.next.saturating_sub(network.age()));
            self.look(network);
            self.next += SECOND;
        }
        network.run(end.saturating_sub(network.age()));
    }

    fn look(&mut self, network: &Network) {
        let neighbours = |by: NodeId| network.neighbours(by).filter(|of| network.engine(*of).is_some());
        for by in network.honest() {
            let Some(engine) = network.engine(by) else {
                continue;
            };
            for of in neighbours(by) {
                let score = engine.score(&network.peer(of));
                self.worst_score = self.worst_score.min(score);
                self.graylisted += u64::from(score < self.graylist);
            }
        }
        self.worst_share = self.worst_share.max(self.meshes(network).0);
    }

    fn meshes(&self, network: &Network) -> (f64, (usize, usize)) {
        let meshes: Vec<BTreeSet<NodeId>> =
            network.honest().map(|node| network.mesh(node, self.topic)).collect();
        let sizes = meshes.iter().map(BTreeSet::len);
        let members = sizes.clone().sum::<usize>().max(1);
        let sybils = meshes.iter().flatten().filter(|node| network.engine(**node).is_none()).count();
        let range = (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0));
        (sybils as f64 / members as f64, range)
    }
}

/// A topic whose traffic is known.
fn busy_config(topic: &Topic, mesh: Mesh, rate: u32) -> Config {
    let settings = Settings {
        topics: [(topic.clone(), busy_topic(rate))].into(),
        cap: TopicCap::Rewards(50.0),
        ..Settings::default()
    };
    let thresholds = Thresholds {
        gossip: -500.0,
        publish: -1000.0,
        graylist: -2500.0,
        accept_px: 1000.0,
        opportunistic_graft: 3.5,
    };
    Config {
        mesh,
        // For less memory: no message is under way for longer.
        seen_ttl: SECOND * 30,
        scoring: Some(Scoring { settings, thresholds, each_topic: None }),
        ..Config::default()
    }
}

/// A topic of so many messages a second. One that does its part in a mesh of eight comes to more than 1.5 times as many
/// in its counter; what it owes is a twelfth.
fn busy_topic(rate: u32) -> TopicParams {
    let threshold = f64::from(rate.max(1)) / 12.0;
    // A silent member gets -100, whatever the rate.
    let weight = -100.0 / (threshold * threshold);
    let minute = decay_in(SECOND * 60, SECOND, 0.01);
    TopicParams {
        weight: 1.0,
        time_in_mesh: Some(TimeInMesh { weight: 0.01, quantum: SECOND, cap: 300.0 }),
        first_deliveries: Some(FirstDeliveries { weight: 0.1, decay: minute, cap: 200.0 }),
        mesh_deliveries: Some(MeshDeliveries {
            weight,
            decay: minute,
            threshold,
            cap: threshold * 10.0,
            // Longer than the warm-up: in a topic in which nothing is said, everybody owes everything.
            activation: SECOND * 15,
            // Longer than a hop of 25 ms, else an honest member whose way is a hop longer than that of another one counts
            // as silent; shorter than there and back, else one that only echoes counts as honest (gossipsub 1.1, P3).
            window: Duration::from_millis(40),
        }),
        mesh_failures: Some(Decaying { weight, decay: decay_in(SECOND * 600, SECOND, 0.01) }),
        invalid: Some(Decaying { weight: -100.0, decay: decay_in(SECOND * 3600, SECOND, 0.01) }),
    }
}
