//! Messages in parts among many nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use peerage_host::Reply;
use rand::RngExt as _;

use super::{LinkModel, Network, NodeId};
use crate::{
    Config, Topic, TopicConfig,
    engine::Command,
    partial::{Have, Hearer, Holding, Limits, Mode, NotMetadata, Pieces, PublishError, Say},
};

const NODES: usize = 30;
const NEIGHBOURS: usize = 8;
const COUNT: usize = 64;
const PIECE: usize = 1024;
/// How often programs look whether anything has come.
const TICK: Duration = Duration::from_millis(5);

/// Nodes, and what each of them has of one message.
struct Parts {
    network: Network,
    topic: Topic,
    message: Vec<u8>,
    has: BTreeMap<NodeId, Pieces>,
    /// Those that do nothing more.
    misers: BTreeSet<NodeId>,
    /// Pieces that came, and how many of them were new.
    came: (usize, usize),
    /// Of how much that programs are to hear they miss one thing, at random.
    misses: Option<u32>,
}

impl Parts {
    /// All of them are connected with some others, at random, and want the topic.
    fn new(seed: u64) -> Self {
        Self::connected(seed, NODES, |network, nodes| {
            for (n, node) in nodes.iter().enumerate() {
                network.connect(*node, nodes[(n + 1) % NODES]);
                for _ in 0..NEIGHBOURS / 2 {
                    let other = network.rng().random_range(0..NODES);
                    network.connect(*node, nodes[other]);
                }
            }
        })
    }

    /// Each is connected with the next, so that nobody has two to ask of whom one has everything.
    fn chain(seed: u64, nodes: usize) -> Self {
        Self::connected(seed, nodes, |network, nodes| {
            nodes.windows(2).for_each(|pair| network.connect(pair[0], pair[1]));
        })
    }

    fn connected(seed: u64, nodes: usize, connect: impl FnOnce(&mut Network, &[NodeId])) -> Self {
        let mut config = Config { partial: Some(Limits::default()), ..Config::default() };
        config.other_topics = TopicConfig::default().partial(Mode::Requests);
        let (config, topic) = (Arc::new(config), Topic::new("t").unwrap());
        let mut network = Network::new(seed, LinkModel::default());
        let nodes: Vec<_> = (0..nodes).map(|_| network.add(&config)).collect();
        connect(&mut network, &nodes);
        for node in &nodes {
            network.command(*node, Command::Subscribe(topic.clone()));
        }
        network.run(Duration::from_secs(5));
        let message: Vec<u8> = (0..COUNT * PIECE).map(|n| (n / PIECE) as u8).collect();
        let nothing = || Pieces::nothing(COUNT).unwrap();
        let has = nodes.into_iter().map(|node| (node, nothing())).collect();
        Self { network, topic, message, has, misers: BTreeSet::new(), came: (0, 0), misses: None }
    }

    fn publish(&mut self, node: NodeId) {
        self.publish_of(node, Arc::new(self.has[&node].clone()));
    }

    fn publish_of(&mut self, node: NodeId, have: Arc<dyn Have>) {
        let (topic, group) = (self.topic.clone(), Bytes::from_static(b"g"));
        let reply = Reply::new(|result: Result<_, PublishError>| assert!(result.is_ok()));
        self.network.command(node, Command::PublishPartial { topic, group, have: Holding(have), reply });
    }

    /// A node has all of it.
    fn begin(&mut self, node: NodeId) {
        self.has.insert(node, Pieces::cut(&self.message, COUNT).unwrap());
        self.publish(node);
    }

    fn whole(&self) -> usize {
        self.has.values().filter(|pieces| pieces.whole().as_ref() == Some(&self.message)).count()
    }

    /// Lets time pass; each node takes what comes, and says at once what it has then.
    fn run(&mut self, time: Duration) {
        let end = self.network.age() + time;
        while self.network.age() < end && self.whole() < self.has.len() {
            self.network.run(TICK);
            let mut news: BTreeMap<NodeId, bool> = BTreeMap::new();
            for (node, received) in self.network.take_parts() {
                if self.misses.is_some_and(|of| self.network.rng().random_range(0..of) == 0) {
                    continue;
                }
                let pieces = self.has.get_mut(&node).unwrap();
                let new = received.parts.map_or(0, |parts| {
                    let mut all = Pieces::nothing(COUNT).unwrap();
                    let is_piece = |n: usize, piece: &[u8]| piece == vec![n as u8; PIECE];
                    self.came.0 += all.take(&parts, is_piece).unwrap();
                    pieces.take(&parts, is_piece).unwrap()
                });
                self.came.1 += new;
                let metadata = received.metadata.unwrap_or_default();
                let asked = pieces.ask(received.received_from, &metadata).unwrap_or_default();
                *news.entry(node).or_default() |= new > 0 || asked > 0;
            }
            news.retain(|node, is_news| *is_news && !self.misers.contains(node));
            for node in news.into_keys() {
                self.publish(node);
            }
        }
    }

    /// The same for so many seconds, after each of which everybody asks anew for what has not come.
    fn run_asking(&mut self, seconds: usize) {
        for _ in 0..seconds {
            self.run(Duration::from_secs(1));
            let mut nodes: Vec<NodeId> = self.has.keys().copied().collect();
            nodes.retain(|node| !self.misers.contains(node));
            for node in nodes {
                self.has.get_mut(&node).unwrap().ask_anew();
                self.publish(node);
            }
        }
    }
}

/// Every piece comes to everybody, once, and with the time all of that is forgotten.
#[test]
fn all_pieces_come_to_all_and_none_twice() {
    for seed in 0..6 {
        let mut parts = Parts::new(seed);
        parts.begin(NodeId(0));
        let began = parts.network.age();
        parts.run(Duration::from_secs(10));
        assert_eq!(parts.whole(), NODES, "seed {seed}");
        assert!(parts.network.age() - began < Duration::from_secs(1), "seed {seed}");
        let all = (NODES - 1) * COUNT;
        assert_eq!(parts.came, (all, all), "seed {seed}");
        parts.network.run(Duration::from_secs(6));
        for node in parts.network.honest() {
            let sizes = parts.network.engine(node).unwrap().sizes();
            assert_eq!((sizes.groups, sizes.hearers), (0, 0), "seed {seed}");
        }
    }
}

/// Where most have most of it, only what is missing travels.
#[test]
fn only_what_is_missing_travels() {
    for seed in 0..6 {
        let mut parts = Parts::new(seed);
        let whole = Pieces::cut(&parts.message, COUNT).unwrap();
        let nodes: Vec<NodeId> = parts.has.keys().copied().collect();
        let mut missing = 0;
        for node in nodes {
            let mut pieces = Pieces::nothing(COUNT).unwrap();
            for n in 0..COUNT {
                if node == NodeId(0) || parts.network.rng().random_range(0..16) > 0 {
                    pieces.put(n, whole.piece(n).unwrap().clone());
                } else {
                    missing += 1;
                }
            }
            parts.has.insert(node, pieces);
            parts.publish(node);
        }
        parts.run(Duration::from_secs(10));
        assert_eq!((parts.whole(), parts.came), (NODES, (missing, missing)), "seed {seed}");
    }
}

/// A sixth of all nodes say that they have everything, and give nothing.
#[test]
fn who_promises_and_does_not_give_only_costs_time() {
    /// Says what the pieces would say, and keeps them.
    struct Miser(Pieces);
    impl Have for Miser {
        fn say(&self, to: &Hearer<'_>) -> Result<Say, NotMetadata> {
            Ok(Say { parts: Bytes::new(), ..self.0.say(to)? })
        }
    }
    for seed in 0..4 {
        let mut parts = Parts::new(seed);
        for node in (1..=5).map(NodeId) {
            let whole = Pieces::cut(&parts.message, COUNT).unwrap();
            parts.publish_of(node, Arc::new(Miser(whole.clone())));
            parts.has.insert(node, whole);
            parts.misers.insert(node);
        }
        parts.begin(NodeId(0));
        parts.run_asking(20);
        assert_eq!(parts.whole(), NODES, "seed {seed}");
    }
}

/// Of all that peers say, programs miss a third: what does not come is asked for, and given, until it does.
#[test]
fn what_programs_miss_comes_again() {
    for seed in 0..4 {
        let mut parts = Parts::chain(seed, 4);
        parts.misses = Some(3);
        parts.begin(NodeId(0));
        parts.run_asking(100);
        assert_eq!(parts.whole(), 4, "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let trace = |seed| {
        let mut parts = Parts::new(seed);
        parts.begin(NodeId(0));
        parts.run(Duration::from_secs(10));
        parts.network.trace()
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}
