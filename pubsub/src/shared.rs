use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use peerage_core::{PeerId, budget::Budget};
use peerage_host::Port;
use tokio::sync::{broadcast, oneshot, watch};

use crate::{
    config::{Config, MAX_TOPIC_RULES, TopicConfig},
    engine::{Command, Engine, Memory, SetTopicError},
    event::{DropReason, Event},
    inbox::{Inbox, Item},
    message::Message,
    partial::Received,
    queue::Lane,
    signing::Author,
    stats::Stats,
    topic::Topic,
    validator::Validator,
};

/// Events that wait for one who watches, at most.
pub(crate) const EVENT_QUEUE: usize = 1024;

/// What outlives the lives of the actor: who subscribes, who validates, what was counted.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) author: Author,
    desks: Mutex<BTreeMap<Topic, Vec<Desk>>>,
    validators: Mutex<BTreeMap<Topic, Validator>>,
    rules: Mutex<BTreeMap<Topic, TopicConfig>>,
    /// What messages are charged to, once the node runs.
    pub(crate) budget: OnceLock<Budget>,
    counted: Mutex<Counted>,
    /// What one life of the engine leaves to the next.
    pub(crate) memory: Memory,
    pub(crate) events: broadcast::Sender<Event>,
    /// The streams on which peers talk; of each the newest.
    inbound: Mutex<BTreeMap<PeerId, (u64, oneshot::Sender<()>)>>,
    /// Counts the lives of the actor.
    pub(crate) life: watch::Sender<u64>,
    next_id: AtomicU64,
}

/// One who subscribes.
#[derive(Debug)]
struct Desk {
    id: u64,
    gets: Gets,
}

/// What one who subscribes gets.
#[derive(Debug)]
pub(crate) enum Gets {
    Messages(Arc<Inbox<Message>>),
    Parts(Arc<Inbox<Received>>),
}

/// What former lives have counted, and what this one has.
#[derive(Debug, Default)]
struct Counted {
    before: Stats,
    now: Stats,
    missed: u64,
}

impl Shared {
    pub(crate) fn new(config: Arc<Config>, author: Author) -> Self {
        Self {
            author,
            desks: Mutex::default(),
            validators: Mutex::default(),
            rules: Mutex::new(config.topics.clone()),
            budget: OnceLock::new(),
            counted: Mutex::default(),
            memory: Memory::default(),
            events: broadcast::channel(EVENT_QUEUE).0,
            inbound: Mutex::default(),
            life: watch::Sender::new(0),
            next_id: AtomicU64::new(1),
            config,
        }
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a subscriber. The engine is told under the lock, so that it hears of comings and goings in their order.
    pub(crate) fn subscribe<T: Item>(
        &self,
        topic: &Topic,
        gets: fn(Arc<Inbox<T>>) -> Gets,
        port: &Port<Engine>,
    ) -> (u64, Arc<Inbox<T>>) {
        let inbox = Inbox::new(self.config.subscriber_queue, self.config.subscriber_bytes);
        let (id, inbox) = (self.next_id(), Arc::new(inbox));
        let desk = Desk { id, gets: gets(inbox.clone()) };
        let mut desks = lock(&self.desks);
        desks.entry(topic.clone()).or_default().push(desk);
        port.post(Command::Subscribe(topic.clone()));
        (id, inbox)
    }

    pub(crate) fn unsubscribe(&self, topic: &Topic, id: u64, port: &Port<Engine>) {
        let mut desks = lock(&self.desks);
        let Some(of_topic) = desks.get_mut(topic) else { return };
        of_topic.retain(|desk| desk.id != id);
        if of_topic.is_empty() {
            desks.remove(topic);
            port.post(Command::Unsubscribe(topic.clone()));
        }
    }

    /// What somebody here wants.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        lock(&self.desks).keys().cloned().collect()
    }

    /// Gives a message to all who want it. Who is too slow misses it, and is told so.
    pub(crate) fn deliver(&self, message: &Message) {
        self.give(&message.topic, |gets| match gets {
            Gets::Messages(inbox) => inbox.give(message),
            Gets::Parts(_) => true,
        });
    }

    /// The same of what a peer has said of a partial message.
    pub(crate) fn deliver_partial(&self, received: &Received) {
        self.give(&received.topic, |gets| match gets {
            Gets::Parts(inbox) => inbox.give(received),
            Gets::Messages(_) => true,
        });
    }

    fn give(&self, topic: &Topic, takes: impl Fn(&Gets) -> bool) {
        let mut lost = 0_u64;
        if let Some(of_topic) = lock(&self.desks).get(topic) {
            for desk in of_topic {
                if !takes(&desk.gets) {
                    lost = lost.saturating_add(1);
                }
            }
        }
        if lost > 0 {
            let mut counted = lock(&self.counted);
            counted.missed = counted.missed.saturating_add(lost);
        }
    }

    pub(crate) fn set_validator(&self, topic: &Topic, validator: Option<Validator>, port: &Port<Engine>) {
        let concurrency = validator.as_ref().map(|validator| validator.options.concurrency);
        let mut validators = lock(&self.validators);
        match validator {
            Some(validator) => drop(validators.insert(topic.clone(), validator)),
            None => drop(validators.remove(topic)),
        }
        port.post(Command::Validator { topic: topic.clone(), concurrency });
    }

    /// Sets a topic's rules. The engine is told under the lock, so that it hears of the last word last.
    pub(crate) fn set_rules(
        &self,
        topic: &Topic,
        new: Option<TopicConfig>,
        port: &Port<Engine>,
    ) -> Result<(), SetTopicError> {
        let rpc = self.config.rpc.bytes;
        let mut rules = lock(&self.rules);
        match &new {
            Some(new) if new.max_size >= rpc => {
                return Err(SetTopicError::TooLarge { max_size: new.max_size, rpc });
            }
            Some(new) if new.partial.sends() && self.config.partial.is_none() => {
                return Err(SetTopicError::NotPartial);
            }
            Some(_) if rules.len() >= MAX_TOPIC_RULES && !rules.contains_key(topic) => {
                return Err(SetTopicError::TooMany { max: MAX_TOPIC_RULES });
            }
            Some(new) => drop(rules.insert(topic.clone(), new.clone())),
            None => drop(rules.remove(topic)),
        }
        port.post(Command::SetTopic { topic: topic.clone(), rules: new });
        Ok(())
    }

    pub(crate) fn rules_of(&self, topic: &Topic) -> TopicConfig {
        lock(&self.rules).get(topic).unwrap_or(&self.config.other_topics).clone()
    }

    pub(crate) fn rules(&self) -> BTreeMap<Topic, TopicConfig> {
        lock(&self.rules).clone()
    }

    pub(crate) fn validator(&self, topic: &Topic) -> Option<Validator> {
        lock(&self.validators).get(topic).cloned()
    }

    pub(crate) fn validators(&self) -> Vec<(Topic, usize)> {
        let validators = lock(&self.validators);
        validators.iter().map(|(topic, validator)| (topic.clone(), validator.options.concurrency)).collect()
    }

    /// A peer talks on a new stream; what is returned ends when there is a newer one.
    pub(crate) fn listens(&self, peer: PeerId) -> (u64, oneshot::Receiver<()>) {
        let (id, (sender, replaced)) = (self.next_id(), oneshot::channel());
        lock(&self.inbound).insert(peer, (id, sender));
        (id, replaced)
    }

    pub(crate) fn listens_no_more(&self, peer: PeerId, id: u64) {
        let mut inbound = lock(&self.inbound);
        if inbound.get(&peer).is_some_and(|(newest, _)| *newest == id) {
            inbound.remove(&peer);
        }
    }

    pub(crate) fn counted(&self, stats: Stats) {
        lock(&self.counted).now = stats;
    }

    /// A life has ended, with that many frames in its queues.
    pub(crate) fn life_ended(&self, lost: usize) {
        let mut counted = lock(&self.counted);
        let mut now = std::mem::take(&mut counted.now);
        now.dropped(Lane::Forward, DropReason::StreamEnded, lost as u64);
        counted.before.add(&now);
    }

    /// All that was counted, and how many messages subscribers missed.
    pub(crate) fn stats(&self) -> (Stats, u64) {
        let counted = lock(&self.counted);
        let mut all = counted.before.clone();
        all.add(&counted.now);
        (all, counted.missed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
