//! A node that publishes and subscribes as the lines on stdin tell it to.

use std::time::Duration;

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, Swarm,
    gossipsub::{
        self, Behaviour as Gossipsub, ConfigBuilder, IdentTopic, Message, MessageAuthenticity, MessageId,
        PublishError, ValidationMode,
    },
    identify,
    multiaddr::Protocol,
    swarm::{self, ConnectionId, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{Options, Result, emit, merge, transport};

/// What others allow. The library's own default is 64 KiB.
const MAX_MESSAGE: usize = 1 << 20;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    gossip: Gossipsub,
}

/// Does what the lines on stdin say, one after the other, until there are no more.
pub async fn gossip(options: Options) -> Result<bool> {
    let identify = identify::Config::new("ipfs/0.1.0".to_owned(), options.key.public());
    let behaviour = Behaviour { identify: identify::Behaviour::new(identify), gossip: new_gossip(&options)? };
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(600));
    let me = options.key.public().to_peer_id();
    let mut swarm = Swarm::new(transport::new(&options)?, behaviour, me, config);
    swarm.listen_on(options.addr)?;

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut dialing = None;
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(true) };
                let command: Value = serde_json::from_str(&line)?;
                if command["do"] == "dial" {
                    match dial(&mut swarm, &command) {
                        Ok(id) => dialing = Some(id),
                        Err(error) => answer("dial", Err(error)),
                    }
                } else {
                    let name = command["do"].as_str().unwrap_or_default();
                    answer(name, obey(&mut swarm.behaviour_mut().gossip, &command));
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::NewListenAddr { address, .. } => {
                    let addr = address.with(Protocol::P2p(me)).to_string();
                    emit(json!({ "event": "listening", "peer": me.to_string(), "addrs": [addr] }));
                }
                SwarmEvent::ConnectionEstablished { connection_id, .. } if dialing == Some(connection_id) => {
                    answer("dial", Ok(json!({})));
                }
                SwarmEvent::OutgoingConnectionError { connection_id, error, .. } if dialing == Some(connection_id) => {
                    answer("dial", Err(error.into()));
                }
                SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. })) => relate(&message),
                other => tracing::debug!(?other),
            },
        }
    }
}

fn new_gossip(options: &Options) -> Result<Gossipsub> {
    let mut config = ConfigBuilder::default();
    config.max_transmit_size(MAX_MESSAGE).message_id_fn(author_and_number);
    let authenticity = match options.signing.as_str() {
        "strict" => MessageAuthenticity::Signed(options.key.clone()),
        "named" => {
            config.validation_mode(ValidationMode::Permissive);
            MessageAuthenticity::Author(options.key.public().to_peer_id())
        }
        "anonymous" => {
            // Without an author, messages are told apart by what they say.
            let id = |message: &Message| MessageId::new(&Sha256::digest(&message.data));
            config.validation_mode(ValidationMode::Anonymous).message_id_fn(id);
            MessageAuthenticity::Anonymous
        }
        other => return Err(format!("no such signing: {other}").into()),
    };
    Ok(Gossipsub::new(authenticity, config.build()?)?)
}

/// The id of a message that has an author: its peer id and its number, as the specification says. The library makes a text
/// of both, which is nobody else's id.
fn author_and_number(message: &Message) -> MessageId {
    let author = message.source.map(|peer| peer.to_bytes()).unwrap_or_default();
    let number = message.sequence_number.unwrap_or_default().to_be_bytes();
    MessageId::new(&[&author[..], &number].concat())
}

/// Begins to dial. Whoever is there may be waiting for us to go on, so nothing is waited for here.
fn dial(swarm: &mut Swarm<Behaviour>, command: &Value) -> Result<ConnectionId> {
    let addr: Multiaddr = command["addr"].as_str().unwrap_or_default().parse()?;
    let options = DialOpts::from(addr);
    let id = options.connection_id();
    swarm.dial(options)?;
    Ok(id)
}

fn obey(gossip: &mut Gossipsub, command: &Value) -> Result<Value> {
    let topic = IdentTopic::new(command["topic"].as_str().unwrap_or_default());
    match command["do"].as_str().unwrap_or_default() {
        "subscribe" => {
            gossip.subscribe(&topic)?;
        }
        "unsubscribe" => {
            gossip.unsubscribe(&topic);
        }
        "publish" => {
            let name = command["name"].as_str().unwrap_or_default();
            let size = command["bytes"].as_u64().unwrap_or_default().try_into()?;
            match gossip.publish(topic, write(name, size)) {
                // Others do not call it an error that nobody is there.
                Ok(_) | Err(PublishError::NoPeersSubscribedToTopic) => {}
                Err(error) => return Err(error.into()),
            }
        }
        "state" => return Ok(state(gossip, &topic)),
        other => return Err(format!("no such command: {other}").into()),
    }
    Ok(json!({}))
}

fn state(gossip: &Gossipsub, topic: &IdentTopic) -> Value {
    let topic = topic.hash();
    let subscribers = gossip.all_peers().filter(|(_, topics)| topics.contains(&&topic));
    let protocols = gossip.peer_protocol().filter_map(|(peer, kind)| Some((peer.to_string(), protocol(kind.as_ref())?.into())));
    json!({
        "subscribers": subscribers.map(|(peer, _)| peer.to_string()).collect::<Vec<_>>(),
        "mesh": gossip.mesh_peers(&topic).map(ToString::to_string).collect::<Vec<_>>(),
        "protocols": protocols.collect::<serde_json::Map<String, Value>>(),
    })
}

/// The name on the wire of what was agreed, which the library only tells by a name of its own.
fn protocol(kind: &str) -> Option<&'static str> {
    match kind {
        "Floodsub" => Some("/floodsub/1.0.0"),
        "Gossipsub v1.0" => Some("/meshsub/1.0.0"),
        "Gossipsub v1.1" => Some("/meshsub/1.1.0"),
        "Gossipsub v1.2" => Some("/meshsub/1.2.0"),
        "Gossipsub v1.3" => Some("/meshsub/1.3.0"),
        _ => None,
    }
}

fn answer(to: &str, result: Result<Value>) {
    let head = json!({ "event": "answer", "do": to, "ok": result.is_ok() });
    let tail = result.unwrap_or_else(|error| json!({ "error": error.to_string() }));
    emit(merge(head, tail));
}

fn relate(message: &Message) {
    let name = message.data.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    emit(json!({
        "event": "message",
        "topic": message.topic.as_str(),
        "name": name,
        "bytes": message.data.len(),
        "intact": message.data == write(&name, message.data.len()),
        "author": message.source.map(|peer| peer.to_string()).unwrap_or_default(),
    }));
}

/// A message: its name, a line feed, and the pattern.
fn write(name: &str, size: usize) -> Vec<u8> {
    let mut message = format!("{name}\n").into_bytes();
    let pattern = (0..size.saturating_sub(message.len())).map(|i| ((i * 31 + 7) % 251) as u8);
    message.extend(pattern);
    message
}
