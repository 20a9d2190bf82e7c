use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use peerage_core::{Multiaddr, PeerId};
use peerage_host::Port;
use tokio::sync::broadcast;

use crate::{
    config::TopicConfig,
    engine::{Command, Engine, PublishError, Published, SetTopicError},
    event::Event,
    inbox::Inbox,
    message::Message,
    parcel::Parcel,
    partial::{self, Have, Holding},
    score::{Breakdown, TopicParams},
    shared::{Gets, Shared},
    stats::Stats,
    topic::{Topic, TopicError},
    validator::{ValidateOptions, Validator, Verdict},
};

/// Publishes and subscribes. Cheap to clone; valid as long as the node lives.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    port: Port<Engine>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("peer", &self.shared.author.peer_id()).finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, port: Port<Engine>) -> Self {
        Self { shared, port }
    }

    /// Gets the messages of a topic, from now until the subscription is dropped. Several of one topic get each message
    /// each. Other nodes are told with the first, and again when the last is gone.
    ///
    /// # Errors
    /// [`TopicError`] if the name is no topic's.
    pub fn subscribe(
        &self,
        topic: impl TryInto<Topic, Error = TopicError>,
    ) -> Result<Subscription, TopicError> {
        let topic = topic.try_into()?;
        let (id, inbox) = self.shared.subscribe(&topic, Gets::Messages, &self.port);
        Ok(Subscription { handle: self.clone(), topic, id, inbox })
    }

    /// Gets what peers say of a topic's partial messages, from now until the subscription is dropped. The topic has to have such
    /// by its rules ([`TopicConfig::partial`]), or nothing comes until it has; the whole messages that others publish in it are
    /// [another subscription's](Self::subscribe).
    ///
    /// # Errors
    /// [`TopicError`] if the name is no topic's.
    pub fn subscribe_partial(
        &self,
        topic: impl TryInto<Topic, Error = TopicError>,
    ) -> Result<partial::Subscription, TopicError> {
        let topic = topic.try_into()?;
        let (id, inbox) = self.shared.subscribe(&topic, Gets::Parts, &self.port);
        Ok(partial::Subscription::new(self.clone(), topic, id, inbox))
    }

    /// Publishes a message: it is sent to all peers of the topic, or, if the configuration says so, to the mesh alone. One
    /// need not subscribe to publish.
    ///
    /// # Errors
    /// [`PublishError`]. That nobody took the message is none, it may be that nobody is there; the answer says how many
    /// did.
    pub async fn publish(
        &self,
        topic: impl TryInto<Topic, Error = TopicError>,
        data: impl Into<Bytes>,
    ) -> Result<Published, PublishError> {
        let (topic, data) = (topic.try_into()?, data.into());
        let rules = self.shared.rules_of(&topic);
        if data.len() > rules.max_size {
            return Err(PublishError::TooLarge { len: data.len(), max: rules.max_size });
        }
        // Signed and written here, on the caller's thread: the actor only decides where it goes.
        let message = self.shared.author.write(topic, data, rules.signing);
        let mut parcel = Parcel::new(rules.id_of(&message), message);
        if let Some(budget) = self.shared.budget.get() {
            parcel = parcel.charged_to(budget)?;
        }
        let parcel = Arc::new(parcel);
        let asked = self.port.ask(|reply| Command::Publish { parcel, reply }).await;
        asked.unwrap_or(Err(PublishError::Closed))
    }

    /// Publishes what this node has of a message, however little. It takes the place of what was published of that message
    /// before, and holds until [`Limits::heartbeats`](partial::Limits::heartbeats) have passed without publishing again: peers are
    /// answered by it. One need not subscribe to publish.
    ///
    /// # Errors
    /// [`partial::PublishError`]. That nobody took anything is none.
    pub async fn publish_partial(
        &self,
        topic: impl TryInto<Topic, Error = TopicError>,
        group: impl Into<Bytes>,
        have: Arc<dyn Have>,
    ) -> Result<partial::Published, partial::PublishError> {
        let (topic, group, have) = (topic.try_into()?, group.into(), Holding(have));
        let asked = self.port.ask(|reply| Command::PublishPartial { topic, group, have, reply }).await;
        asked.unwrap_or(Err(partial::PublishError::Closed))
    }

    /// Says that the parts which a peer has sent are not of the message. That is held against it as an invalid message is (P4).
    pub async fn reject_partial(&self, received: &partial::Received) {
        let (peer, topic) = (received.received_from, received.topic.clone());
        let _ = self.port.tell(Command::RejectPartial { peer, topic }).await;
    }

    /// Has `judge` look at every message of a topic from peers, before it is given to anybody or sent on. It takes the
    /// place of the one before. A validator that panics, or takes too long, has ignored the message.
    ///
    /// # Errors
    /// [`TopicError`] if the name is no topic's.
    pub fn validate<F>(
        &self,
        topic: impl TryInto<Topic, Error = TopicError>,
        options: ValidateOptions,
        judge: impl Fn(Message) -> F + Send + Sync + 'static,
    ) -> Result<(), TopicError>
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        let topic = topic.try_into()?;
        self.shared.set_validator(&topic, Some(Validator::new(options, judge)), &self.port);
        Ok(())
    }

    /// Gives a topic rules of its own, or with `None` those of all others
    /// ([`Config::other_topics`](crate::Config::other_topics)). They hold until they are set again, and outlive a panic.
    ///
    /// What is published after this returns follows the new rules. Of what peers send, a message follows the rules at the
    /// time when it is looked at: those whose signature is being verified, or that the validator looks at, go on by the
    /// old ones. With another [`id`](TopicConfig::id), a message that was seen before, and comes again, is a new one.
    /// Nobody else is told: all nodes have to agree on the rules of a topic, and until they do, peers with other rules break
    /// this node's, and are scored for it.
    ///
    /// # Errors
    /// [`SetTopicError`]; nothing has changed then.
    pub fn set_topic(
        &self,
        topic: impl TryInto<Topic, Error = TopicError>,
        rules: impl Into<Option<TopicConfig>>,
    ) -> Result<(), SetTopicError> {
        self.shared.set_rules(&topic.try_into()?, rules.into(), &self.port)
    }

    /// Scores a topic by parameters of its own, or with `None` like others
    /// ([`Scoring::each_topic`](crate::Scoring::each_topic)). What is counted stays, up to the new caps; in a topic that is
    /// not scored any more it goes.
    ///
    /// # Errors
    /// [`SetTopicError`]; nothing has changed then.
    pub async fn score_topic(
        &self,
        topic: impl TryInto<Topic, Error = TopicError>,
        params: impl Into<Option<TopicParams>>,
    ) -> Result<(), SetTopicError> {
        let (topic, params) = (topic.try_into()?, params.into());
        let asked = self.port.ask(|reply| Command::ScoreTopic { topic, params, reply }).await;
        asked.unwrap_or(Err(SetTopicError::Closed))
    }

    /// Takes a topic's validator away.
    pub fn unvalidate(&self, topic: &Topic) {
        self.shared.set_validator(topic, None, &self.port);
    }

    /// The peers in the mesh of a topic; nobody, if gossip is not running.
    pub async fn mesh(&self, topic: &Topic) -> Vec<PeerId> {
        let topic = topic.clone();
        self.port.ask(|reply| Command::Mesh { topic, reply }).await.unwrap_or_default()
    }

    /// The peers that want a topic.
    pub async fn peers(&self, topic: &Topic) -> Vec<PeerId> {
        let topic = Some(topic.clone());
        self.port.ask(|reply| Command::Peers { topic, reply }).await.unwrap_or_default()
    }

    /// All peers that speak with this node about anything.
    pub async fn all_peers(&self) -> Vec<PeerId> {
        self.port.ask(|reply| Command::Peers { topic: None, reply }).await.unwrap_or_default()
    }

    /// What this node wants.
    pub fn topics(&self) -> Vec<Topic> {
        self.shared.topics()
    }

    /// What a peer is worth, and why.
    pub async fn score(&self, peer: PeerId) -> Breakdown {
        self.port.ask(|reply| Command::Score { peer, reply }).await.unwrap_or_default()
    }

    /// Sets what this program thinks of a peer: P5 of its score.
    pub async fn set_app_score(&self, peer: PeerId, score: f64) {
        let _ = self.port.tell(Command::SetAppScore { peer, score }).await;
    }

    /// Puts a peer on the blacklist: nothing is taken from it, nothing that it wrote is taken from anybody, and nothing is
    /// sent to it.
    pub async fn blacklist(&self, peer: PeerId) {
        let _ = self.port.tell(Command::Blacklist { peer, on: true }).await;
    }

    /// Takes it off the blacklist.
    pub async fn unblacklist(&self, peer: PeerId) {
        let _ = self.port.tell(Command::Blacklist { peer, on: false }).await;
    }

    /// Makes a peer a direct one, as [`Config::direct`](crate::Config::direct) does.
    pub async fn add_direct(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let _ = self.port.tell(Command::AddDirect { peer, addresses }).await;
    }

    /// Makes it one like others again.
    pub async fn remove_direct(&self, peer: PeerId) {
        let _ = self.port.tell(Command::RemoveDirect(peer)).await;
    }

    pub(crate) fn unsubscribe(&self, topic: &Topic, id: u64) {
        self.shared.unsubscribe(topic, id, &self.port);
    }

    /// Gossip, or its node, has ended.
    pub(crate) async fn closed(&self) {
        self.port.closed().await;
    }

    /// What happens in the meshes, from now on.
    pub fn events(&self) -> Events {
        Events { events: self.shared.events.subscribe(), port: self.port.clone() }
    }

    /// What was counted, up to the last heartbeat.
    pub fn stats(&self) -> Stats {
        self.shared.stats().0
    }
}

/// The messages of a topic.
///
/// Who reads too slowly misses messages: what waits is bounded
/// ([`Config::subscriber_queue`](crate::Config::subscriber_queue) and `subscriber_bytes`), and nobody else waits for it.
pub struct Subscription {
    handle: Handle,
    topic: Topic,
    id: u64,
    inbox: Arc<Inbox<Message>>,
}

impl Subscription {
    /// The next message; `None` once gossip, or its node, has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Message> {
        tokio::select! {
            biased;
            message = self.inbox.next() => Some(message),
            () = self.handle.closed() => None,
        }
    }

    /// The next message, if there is one now.
    pub fn try_next(&mut self) -> Option<Message> {
        self.inbox.try_next()
    }

    /// How many messages were missed since this was asked the last time.
    pub fn missed(&self) -> u64 {
        self.inbox.missed()
    }

    /// What it is of.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.unsubscribe(&self.topic, self.id);
    }
}

/// What happens in the meshes. Who reads too slowly loses the oldest, and is told how many.
#[derive(Debug)]
pub struct Events {
    events: broadcast::Receiver<Event>,
    port: Port<Engine>,
}

/// Something happened, or was lost.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Happened {
    /// This.
    Event(Event),
    /// So many events were lost to this one who watches.
    Missed(u64),
}

impl Events {
    /// The next; `None` once gossip, or its node, has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Happened> {
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event,
            () = self.port.closed() => return None,
        };
        match event {
            Ok(event) => Some(Happened::Event(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Happened::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
