//! The node that obeys a script.

use std::{collections::HashMap, future::pending, time::Duration};

use peerage::{
    Multiaddr, Node,
    identify::Identify,
    pubsub::{
        Event, Events, Gossipsub, Handle, Happened, Refusal, Subscription, TopicConfig, ValidateOptions,
        Verdict, partial::Mode,
    },
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Error,
    log::Log,
    network::{Network, keypair},
    params::GossipSubParams,
    partial::Collector,
    script::Instruction,
};

/// How long another node may take to be there. Simulators start all at once, and other machines do not.
const CONNECT: Duration = Duration::from_secs(60);
/// How long until it is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How many messages a topic validates at once, as go-libp2p-pubsub does.
const VALIDATED: usize = 1024;
/// How much longer than its delay a validation may take.
const VALIDATION_SLACK: Duration = Duration::from_secs(30);

/// A node, and what it has been told so far.
pub(super) struct ScriptedNode {
    me: u32,
    network: Network,
    log: Log,
    began: Instant,
    running: Option<Running>,
    /// What was said of topics before anybody wanted them.
    delays: HashMap<String, Duration>,
}

/// What there is from initGossipSub on.
struct Running {
    node: Node,
    gossip: Handle,
    /// The rules of all topics, without partial messages.
    rules: TopicConfig,
    /// What there is of messages in parts.
    parts: Collector,
    /// Topics that have them, and their tasks.
    in_parts: HashMap<String, Option<JoinHandle<()>>>,
    /// Kept, for who drops one is not subscribed any more; tasks, since what comes has to be taken.
    subscribed: HashMap<String, JoinHandle<()>>,
    watching: JoinHandle<()>,
}

impl ScriptedNode {
    /// One that has done nothing yet; `began` is when this program did.
    pub(super) fn new(me: u32, network: Network, log: Log, began: Instant) -> Self {
        log.started(keypair(me).peer_id(), me);
        Self { me, network, log, began, running: None, delays: HashMap::new() }
    }

    /// Does one instruction after the other.
    pub(super) async fn obey(&mut self, script: &[Instruction]) -> Result<(), Error> {
        for instruction in script {
            let mut instruction = instruction;
            while let Instruction::IfNodeIdEquals { node, instruction: inner } = instruction
                && *node == self.me
            {
                instruction = inner;
            }
            self.follow(instruction).await?;
        }
        Ok(())
    }

    async fn follow(&mut self, instruction: &Instruction) -> Result<(), Error> {
        let name = instruction.name();
        let failed = |why: String| Error::Failed { instruction: name, why };
        match instruction {
            // Another node is meant.
            Instruction::IfNodeIdEquals { .. } => {}
            Instruction::WaitUntil { elapsed_seconds } => {
                eprintln!("waiting until {elapsed_seconds} s");
                // Longer than any clock goes is for ever.
                match self.began.checked_add(Duration::from_secs(*elapsed_seconds)) {
                    Some(time) => sleep_until(time).await,
                    None => pending().await,
                }
            }
            Instruction::InitGossipSub { gossip_sub_params } => self.start(gossip_sub_params).await?,
            Instruction::Connect { connect_to } => {
                for other in connect_to {
                    let address = self.network.address_of(*other).await?;
                    connect(&self.running(name)?.node, &address).await.map_err(failed)?;
                    eprintln!("connected to node {other}");
                }
            }
            Instruction::SubscribeToTopic { topic, partial } => {
                if *partial {
                    self.subscribe_partial(name, topic)?;
                }
                self.subscribe(name, topic)?;
            }
            Instruction::SetTopicValidationDelay { topic, delay_seconds } => {
                // Checked when the script was read.
                self.delays.insert(topic.clone(), Duration::from_secs_f64(*delay_seconds));
                if self.running(name)?.subscribed.contains_key(topic) {
                    self.validate(name, topic)?;
                }
            }
            Instruction::Publish { message, message_size_bytes, topic } => {
                let data = message_of(*message, *message_size_bytes);
                let published = self.running(name)?.gossip.publish(topic.as_str(), data).await;
                let published = published.map_err(|error| failed(error.to_string()))?;
                eprintln!("published message {message} to {} peers", published.peers);
            }
            Instruction::AddPartialMessage { parts, topic, group } => {
                self.running(name)?.parts.add(topic, *group, *parts);
            }
            Instruction::PublishPartial { topic, group, to } => {
                let running = self.running(name)?;
                running.has_parts(topic, Mode::Sends).map_err(failed)?;
                let published = running.parts.publish(topic, *group).await;
                let peers = published.map_err(|error| failed(error.to_string()))?;
                eprintln!("published what there is of message {group} to {peers} peers");
                if to.is_some() {
                    eprintln!("they are of this node's choosing, and not those that are named");
                }
            }
        }
        Ok(())
    }

    fn running(&mut self, instruction: &'static str) -> Result<&mut Running, Error> {
        self.running.as_mut().ok_or(Error::Order { instruction, why: "initGossipSub has to come before" })
    }

    async fn start(&mut self, params: &GossipSubParams) -> Result<(), Error> {
        let instruction = "initGossipSub";
        if self.running.is_some() {
            return Err(Error::Order { instruction, why: "gossipsub runs already" });
        }
        for name in params.unknown() {
            eprintln!("{name} is no parameter that is known here");
        }
        let failed = |error: &dyn std::fmt::Display| Error::Failed { instruction, why: error.to_string() };
        let config = params.config().map_err(|error| failed(&error))?;
        let rules = config.other_topics.clone();
        let gossip = Gossipsub::new(config).map_err(|error| failed(&error))?;
        let address = self.network.listen_address(self.me)?.to_string();
        let builder = Node::builder(keypair(self.me)).agent(crate::ours::AGENT);
        let builder = builder.listen(address.as_str()).map_err(|error| failed(&error))?;
        let (builder, _) = builder.with(Identify::default());
        let (builder, gossip) = builder.with(gossip);
        let node = builder.start().await.map_err(|error| failed(&error))?;
        let watching = tokio::spawn(watch(gossip.events(), self.log.clone()));
        let parts = Collector::new(gossip.clone(), self.log.clone());
        let (in_parts, subscribed) = (HashMap::new(), HashMap::new());
        self.running = Some(Running { node, gossip, rules, parts, in_parts, subscribed, watching });
        Ok(())
    }

    /// Subscribes to what comes in parts. What comes whole, too, is another subscription's.
    fn subscribe_partial(&mut self, instruction: &'static str, topic: &str) -> Result<(), Error> {
        let failed = |why: String| Error::Failed { instruction, why };
        let running = self.running(instruction)?;
        if running.in_parts.get(topic).is_some_and(Option::is_some) {
            return Ok(());
        }
        // Before it is wanted, that the first that others hear is how.
        running.in_parts.remove(topic);
        running.has_parts(topic, Mode::Requests).map_err(failed)?;
        let subscription =
            running.gossip.subscribe_partial(topic).map_err(|error| failed(error.to_string()))?;
        let collecting = tokio::spawn(running.parts.clone().collect(subscription));
        running.in_parts.insert(topic.to_owned(), Some(collecting));
        Ok(())
    }

    fn subscribe(&mut self, instruction: &'static str, topic: &str) -> Result<(), Error> {
        if self.running(instruction)?.subscribed.contains_key(topic) {
            return Ok(());
        }
        self.validate(instruction, topic)?;
        let running = self.running(instruction)?;
        let subscription = running.gossip.subscribe(topic);
        let subscription =
            subscription.map_err(|error| Error::Failed { instruction, why: error.to_string() })?;
        running.subscribed.insert(topic.to_owned(), tokio::spawn(take(subscription)));
        Ok(())
    }

    /// Every topic has a validator: it sees messages as they come, which is when they are logged, and not after the delay.
    fn validate(&mut self, instruction: &'static str, topic: &str) -> Result<(), Error> {
        let delay = self.delays.get(topic).copied().unwrap_or_default();
        let options = ValidateOptions::default().concurrency(VALIDATED);
        let options = options.timeout(delay.saturating_add(VALIDATION_SLACK));
        let log = self.log.clone();
        let set = self.running(instruction)?.gossip.validate(topic, options, move |message| {
            log.received(&message.id, message.received_from, &message.topic);
            async move {
                sleep(delay).await;
                Verdict::Accept
            }
        });
        set.map_err(|error| Error::Failed { instruction, why: error.to_string() })
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        let Some(running) = self.running else { return };
        running.node.shutdown().await;
        let collecting = running.in_parts.into_values().flatten();
        running
            .subscribed
            .into_values()
            .chain(collecting)
            .chain([running.watching])
            .for_each(|task| task.abort());
    }
}

impl Running {
    /// A topic has messages in parts from now on, in this way, if it had none.
    fn has_parts(&mut self, topic: &str, mode: Mode) -> Result<(), String> {
        if !self.in_parts.contains_key(topic) {
            let rules = self.rules.clone().partial(mode);
            self.gossip.set_topic(topic, rules).map_err(|error| error.to_string())?;
            self.in_parts.insert(topic.to_owned(), None);
        }
        Ok(())
    }
}

/// The id first, and as many zeros as it takes.
fn message_of(id: u64, size: usize) -> Vec<u8> {
    let mut data = id.to_be_bytes().to_vec();
    data.resize(size, 0);
    data
}

async fn connect(node: &Node, address: &Multiaddr) -> Result<(), String> {
    let deadline = Instant::now() + CONNECT;
    loop {
        match node.connect(address.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() + RETRY >= deadline => return Err(format!("{address}: {error}")),
            Err(_) => sleep(RETRY).await,
        }
    }
}

/// The script has no use for what is delivered.
async fn take(mut subscription: Subscription) {
    while subscription.next().await.is_some() {}
}

/// Logs what the validators do not see: copies, and what there was no room for.
async fn watch(mut events: Events, log: Log) {
    while let Some(happened) = events.next().await {
        match happened {
            Happened::Event(
                Event::Duplicate { peer, topic, id }
                | Event::Refused { peer, topic, id: Some(id), why: Refusal::Throttled },
            ) => log.received(&id, peer, &topic),
            Happened::Missed(events) => {
                eprintln!("{events} events were lost, and copies of messages among them")
            }
            _ => {}
        }
    }
}
