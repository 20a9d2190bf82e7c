//! A node that publishes and subscribes: ours, or a foreign one. Both are told the same, and say the same.

use std::{collections::VecDeque, time::Duration};

use peerage::pubsub::{Config, TopicConfig, partial::Mode};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{ours::Ours, pieces::Share, plan::Signing};
use crate::{
    matrix::{START, listening},
    peers::Peer,
    plan::{Key, Muxer, Security, Setup, Transport},
    process::{Event, Process, Received, State},
    site::Site,
};

/// What all of them speak below gossip.
const SETUP: Setup = Setup::upgraded(Transport::Tcp, Security::Noise, Muxer::Yamux, Key::Ed25519);
/// Our node's name among the others'.
pub(super) const OURS: &str = "peerage";
/// How long our node may take to start.
const OURS_START: Duration = Duration::from_secs(20);

/// How our node gossips, if nothing is said: as nodes do by default.
pub(super) fn config(signing: Signing) -> Config {
    let mut config = Config::default();
    config.other_topics = TopicConfig::default().signing(signing.ours());
    config
}

/// A node.
pub(super) enum Node {
    Ours(Box<Ours>),
    Theirs(Box<Theirs>),
}

/// A foreign one.
pub(super) struct Theirs {
    process: Process,
    id: String,
    address: String,
    /// Messages that came while an answer was waited for.
    inbox: VecDeque<Received>,
}

impl Node {
    /// Starts one: a foreign one, or ours, which gossips as configured.
    pub(super) async fn start(
        peer: Option<&Peer>,
        config: Config,
        signing: Signing,
        site: &Site,
    ) -> Result<Self, String> {
        let Some(peer) = peer else {
            let starting = timeout(OURS_START, Ours::start(config));
            let ours = starting.await.map_err(|_| "our node does not start in time".to_owned())??;
            return Ok(Self::Ours(Box::new(ours)));
        };
        let mut process = Process::gossip(peer, site, SETUP, signing.word(), config.partial.is_some())?;
        let started = timeout(START, listening(&mut process)).await;
        let late = |_| format!("the {} peer does not listen after {} s", peer.name, START.as_secs());
        match started.map_err(late)? {
            Ok((id, address)) => {
                let (id, address) = (id.to_string(), address.to_string());
                Ok(Self::Theirs(Box::new(Theirs { process, id, address, inbox: VecDeque::new() })))
            }
            Err(why) => {
                Err(format!("the {} peer does not listen: {why}; {}", peer.name, process.stderr().join("; ")))
            }
        }
    }

    /// Its peer id.
    pub(super) fn id(&self) -> String {
        match self {
            Self::Ours(ours) => ours.id(),
            Self::Theirs(theirs) => theirs.id.clone(),
        }
    }

    /// Where it can be dialed, with its peer id.
    pub(super) fn address(&self) -> Result<String, String> {
        match self {
            Self::Ours(ours) => ours.address(),
            Self::Theirs(theirs) => Ok(theirs.address.clone()),
        }
    }

    /// Connects.
    pub(super) async fn dial(&mut self, address: &str) -> Result<(), String> {
        match self {
            Self::Ours(ours) => ours.dial(address).await,
            Self::Theirs(theirs) => theirs.obey(&json!({ "do": "dial", "addr": address })).await.map(drop),
        }
    }

    /// Wants a topic from now on.
    pub(super) async fn subscribe(&mut self, topic: &str) -> Result<(), String> {
        match self {
            Self::Ours(ours) => ours.subscribe(topic),
            Self::Theirs(theirs) => {
                theirs.obey(&json!({ "do": "subscribe", "topic": topic })).await.map(drop)
            }
        }
    }

    /// Wants a topic from now on, and takes part in its partial messages like this.
    pub(super) async fn subscribe_partial(&mut self, topic: &str, mode: Mode) -> Result<(), String> {
        match self {
            Self::Ours(ours) => ours.subscribe_partial(topic, mode),
            Self::Theirs(theirs) => {
                let parts = if mode == Mode::Requests { "requests" } else { "sends" };
                theirs.obey(&json!({ "do": "subscribe", "topic": topic, "parts": parts })).await.map(drop)
            }
        }
    }

    /// Does not want it any more.
    pub(super) async fn unsubscribe(&mut self, topic: &str) -> Result<(), String> {
        match self {
            Self::Ours(ours) => ours.unsubscribe(topic).await,
            Self::Theirs(theirs) => {
                theirs.obey(&json!({ "do": "unsubscribe", "topic": topic })).await.map(drop)
            }
        }
    }

    /// Publishes a message of this name and size.
    pub(super) async fn publish(&mut self, topic: &str, name: &str, bytes: usize) -> Result<(), String> {
        match self {
            Self::Ours(ours) => ours.publish(topic, name, bytes).await,
            Self::Theirs(theirs) => {
                let command = json!({ "do": "publish", "topic": topic, "name": name, "bytes": bytes });
                theirs.obey(&command).await.map(drop)
            }
        }
    }

    /// Has a share of the pieces of a message, and publishes that.
    pub(super) async fn publish_partial(
        &mut self,
        topic: &str,
        name: &str,
        bytes: usize,
        share: Share,
    ) -> Result<(), String> {
        match self {
            Self::Ours(ours) => ours.publish_partial(topic, name, bytes, share).await,
            Self::Theirs(theirs) => {
                let parts = share.word();
                let command =
                    json!({ "do": "publish", "topic": topic, "name": name, "bytes": bytes, "parts": parts });
                theirs.obey(&command).await.map(drop)
            }
        }
    }

    /// What it says of a topic, and of its neighbours.
    pub(super) async fn state(&mut self, topic: &str) -> Result<State, String> {
        match self {
            Self::Ours(ours) => ours.state(topic).await,
            Self::Theirs(theirs) => theirs.obey(&json!({ "do": "state", "topic": topic })).await,
        }
    }

    /// The next message that it is sent. Cancel-safe.
    pub(super) async fn received(&mut self) -> Result<Received, String> {
        match self {
            Self::Ours(ours) => ours.received().await,
            Self::Theirs(theirs) => theirs.received().await,
        }
    }

    /// Ends it.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        match self {
            Self::Ours(ours) => ours.stop().await,
            Self::Theirs(theirs) => theirs.process.end().await,
        }
    }

    /// An error if others broke the rules, as our node counts; else what it says of gossip. Foreign ones do not tell.
    pub(super) fn misdeeds(&self) -> Result<String, String> {
        match self {
            Self::Ours(ours) => ours.misdeeds(),
            Self::Theirs(_) => Ok(String::new()),
        }
    }

    /// Bytes of parts that our node has sent, and that came to it. Foreign ones do not tell.
    pub(super) fn parts(&self) -> Option<(u64, u64)> {
        match self {
            Self::Ours(ours) => Some(ours.parts()),
            Self::Theirs(_) => None,
        }
    }

    /// What a failure may be explained by.
    pub(super) fn noticed(&self) -> Vec<String> {
        match self {
            Self::Ours(ours) => ours.noticed(),
            Self::Theirs(theirs) => theirs.process.stderr(),
        }
    }
}

impl Theirs {
    async fn obey(&mut self, command: &Value) -> Result<State, String> {
        self.process.tell(command).await?;
        loop {
            match self.process.event().await? {
                Event::Answer(answer) if command["do"] == answer.to.as_str() => {
                    if answer.ok {
                        return Ok(answer.state);
                    }
                    return Err(answer.error.unwrap_or_else(|| "it does not say why".to_owned()));
                }
                Event::Message(message) => self.inbox.push_back(message),
                _ => {}
            }
        }
    }

    async fn received(&mut self) -> Result<Received, String> {
        if let Some(message) = self.inbox.pop_front() {
            return Ok(message);
        }
        loop {
            if let Event::Message(message) = self.process.event().await? {
                return Ok(message);
            }
        }
    }
}
