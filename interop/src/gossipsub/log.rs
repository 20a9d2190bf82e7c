//! Lines of JSON on stdout, as the suite's scripts read them.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use peerage::{
    PeerId,
    pubsub::{MessageId, Topic},
};
use serde_json::{Value, json};

/// Where the lines go. Cheap to clone.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<dyn Write + Send>>);

impl Log {
    pub(super) fn to_stdout() -> Self {
        Self(Arc::new(Mutex::new(io::stdout())))
    }

    /// Who this node is.
    pub(super) fn started(&self, peer: PeerId, node: u32) {
        self.line(json!({ "msg": "PeerID", "id": peer.to_string(), "node_id": node }));
    }

    /// A message came, be it for the first time or again.
    pub(super) fn received(&self, id: &MessageId, from: PeerId, topic: &Topic) {
        let (from, topic) = (from.to_string(), topic.as_str());
        self.line(json!({ "msg": "Received Message", "id": number(id), "from": from, "topic": topic }));
    }

    /// All parts of a message are there.
    pub(super) fn whole(&self, group: u64) {
        self.line(json!({ "msg": "All parts received", "group id": group }));
    }

    /// A line is written at once and as a whole, so that a node that is killed has said what it did.
    fn line(&self, mut line: Value) {
        if let Some(fields) = line.as_object_mut() {
            fields.insert("time".to_owned(), Timestamp::now().to_string().into());
            fields.insert("level".to_owned(), "INFO".into());
        }
        let text = format!("{line}\n");
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who reads may be gone; then there is nobody to tell.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// The id in base 10. One that is shorter than eight bytes, which only a foreign node could have made, is as if zeros
/// came before it.
fn number(id: &MessageId) -> String {
    let number = id.as_bytes().iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    number.to_string()
}

#[cfg(test)]
mod tests {
    use peerage::Keypair;

    use super::*;

    #[test]
    fn ids_are_numbers_in_base_10() {
        let of = |bytes: &[u8]| number(&MessageId::new(bytes).unwrap());
        assert_eq!(of(&31_u64.to_be_bytes()), "31");
        assert_eq!(of(&u64::MAX.to_be_bytes()), "18446744073709551615");
        assert_eq!(of(&[1, 0]), "256");
        assert_eq!(of(&[]), "0");
    }

    #[test]
    fn a_line_is_one_object_with_a_time_and_a_message() {
        let kept: Arc<Mutex<Vec<u8>>> = Arc::default();
        let log = Log(kept.clone());
        let peer = Keypair::from_ed25519_seed([1; 32]).peer_id();
        log.started(peer, 7);
        log.received(&MessageId::new(5_u64.to_be_bytes()).unwrap(), peer, &Topic::new("a\n\"b\"").unwrap());
        let text = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = lines.as_slice() else { panic!("{text}") };
        assert_eq!((&first["msg"], &first["node_id"]), (&json!("PeerID"), &json!(7)));
        assert_eq!(first["id"], peer.to_string());
        assert_eq!((&second["msg"], &second["id"]), (&json!("Received Message"), &json!("5")));
        assert_eq!((&second["from"], &second["topic"]), (&first["id"], &json!("a\n\"b\"")));
        for line in &lines {
            let time = line["time"].as_str().unwrap();
            assert!(time.parse::<Timestamp>().is_ok() && time.contains('T'), "{time}");
        }
    }
}
