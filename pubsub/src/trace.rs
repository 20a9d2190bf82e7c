//! Events as lines of JSON, for those who study networks.

use std::{io, time::Duration};

use peerage_host::actor::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::{
    event::Event,
    handle::{Events, Happened},
};

/// Writes every event as a line of JSON, until gossip ends. Messages are among them only with
/// [`Config::trace`](crate::Config::trace).
///
/// # Errors
/// What writing gave.
pub async fn write(mut events: Events, mut out: impl AsyncWrite + Unpin) -> io::Result<()> {
    let clock = Clock::start();
    while let Some(happened) = events.next().await {
        let mut line = to_json(&happened, clock.now().unix);
        line.push('\n');
        out.write_all(line.as_bytes()).await?;
    }
    out.flush().await
}

/// One event. `time` is that since 1970; ids are in hexadecimal.
pub fn to_json(happened: &Happened, time: Duration) -> String {
    let mut value = match happened {
        Happened::Event(event) => of_event(event),
        Happened::Missed(events) => json!({ "type": "missed", "events": events }),
    };
    if let Some(fields) = value.as_object_mut() {
        fields.insert("time".to_owned(), json!(time.as_secs_f64()));
    }
    value.to_string()
}

fn of_event(event: &Event) -> Value {
    let text = |value: &dyn std::fmt::Display| Value::from(value.to_string());
    match event {
        Event::PeerJoined { peer, version } => {
            json!({ "type": "peer_joined", "peer": text(peer), "version": text(version) })
        }
        Event::PeerLeft { peer } => json!({ "type": "peer_left", "peer": text(peer) }),
        Event::Subscribed { peer, topic } => {
            json!({ "type": "subscribed", "peer": text(peer), "topic": text(topic) })
        }
        Event::Unsubscribed { peer, topic } => {
            json!({ "type": "unsubscribed", "peer": text(peer), "topic": text(topic) })
        }
        Event::Grafted { peer, topic, local } => {
            json!({ "type": "grafted", "peer": text(peer), "topic": text(topic), "local": local })
        }
        Event::Pruned { peer, topic, why } => {
            json!({ "type": "pruned", "peer": text(peer), "topic": text(topic), "why": text(why) })
        }
        Event::Dropped { peer, lane, topic, why } => {
            let topic = topic.as_ref().map(|topic| text(topic));
            json!({ "type": "dropped", "peer": text(peer), "lane": text(lane), "topic": topic, "why": text(why) })
        }
        Event::Refused { peer, topic, id, why } => {
            let id = id.as_ref().map(|id| text(id));
            json!({ "type": "refused", "peer": text(peer), "topic": text(topic), "id": id, "why": text(why) })
        }
        Event::Misbehaved { peer, rule, count } => {
            json!({ "type": "misbehaved", "peer": text(peer), "rule": text(rule), "count": count })
        }
        Event::Delivered { peer, topic, id } => {
            json!({ "type": "delivered", "peer": text(peer), "topic": text(topic), "id": text(id) })
        }
        Event::Duplicate { peer, topic, id } => {
            json!({ "type": "duplicate", "peer": text(peer), "topic": text(topic), "id": text(id) })
        }
        Event::Published { topic, id, peers } => {
            json!({ "type": "published", "topic": text(topic), "id": text(id), "peers": peers })
        }
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;

    use super::*;
    use crate::{MessageId, Topic, Verdict, event::Refusal};

    #[test]
    fn an_event_is_an_object_with_a_type_and_a_time() {
        let peer = Keypair::from_ed25519_seed([1; 32]).peer_id();
        let event = Event::Refused {
            peer,
            topic: Topic::new("a \"quoted\"\nname").unwrap(),
            id: Some(MessageId::new([0xca, 0xfe]).unwrap()),
            why: Refusal::Validator(Verdict::Reject),
        };
        let line = to_json(&Happened::Event(event), Duration::from_millis(1500));
        let expected = json!({
            "type": "refused",
            "time": 1.5,
            "peer": peer.to_string(),
            "topic": "a \"quoted\"\nname",
            "id": "cafe",
            "why": "rejected",
        });
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
        assert!(!line.contains('\n'));
        let missed = to_json(&Happened::Missed(3), Duration::ZERO);
        assert_eq!(missed, r#"{"events":3,"time":0.0,"type":"missed"}"#);
    }
}
