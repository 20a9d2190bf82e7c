//! What several commands say.

use peerage::{
    Multiaddr, Node, PeerId,
    identify::{Info, PeerRecordState},
};
use serde::Serialize;

use crate::{failure::Failure, output::Output, text::clean};

/// The node accepts connections.
#[derive(Serialize)]
#[serde(tag = "event", rename = "listening")]
pub(crate) struct Listening {
    peer: String,
    addrs: Vec<String>,
}

impl Listening {
    pub(crate) fn of(node: &Node) -> Self {
        Self { peer: node.peer_id().to_string(), addrs: texts(&node.addresses()) }
    }

    pub(crate) fn addrs(&self) -> &[String] {
        &self.addrs
    }
}

/// Says where the node listens.
pub(crate) fn say_listening(out: &Output, node: &Node) -> Result<(), Failure> {
    let event = Listening::of(node);
    let paint = out.paint();
    let text = format!("{} listens on\n  {}", paint.bold(&event.peer), event.addrs.join("\n  "));
    out.say(&event, text)
}

/// A peer said who it is. All of it but the peer id is what the peer says.
#[derive(Serialize)]
#[serde(tag = "event", rename = "identified")]
pub(crate) struct Identified {
    pub(crate) peer: String,
    pub(crate) agent: String,
    pub(crate) protocol_version: String,
    pub(crate) protocols: Vec<String>,
    pub(crate) addrs: Vec<String>,
    pub(crate) observed: Option<String>,
    pub(crate) key_type: Option<String>,
    /// `valid`, `absent` or `invalid`.
    pub(crate) signed_record: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signed_record_error: Option<String>,
    /// Whether it named more than is kept, or things that could not be read.
    pub(crate) incomplete: bool,
}

impl Identified {
    pub(crate) fn of(peer: PeerId, info: &Info) -> Self {
        let (signed_record, signed_record_error) = match &info.signed_record {
            PeerRecordState::Valid(_) => ("valid", None),
            PeerRecordState::Absent => ("absent", None),
            PeerRecordState::Invalid(why) => ("invalid", Some(clean(why))),
            _ => ("unknown", None),
        };
        Self {
            peer: peer.to_string(),
            agent: clean(&info.agent_version),
            protocol_version: clean(&info.protocol_version),
            protocols: info.protocols.iter().map(|protocol| clean(protocol.as_str())).collect(),
            addrs: texts(&info.listen_addrs),
            observed: info.observed_addr.as_ref().map(|address| clean(&address.to_string())),
            key_type: info.public_key.as_ref().map(|key| key.key_type().to_string()),
            signed_record,
            signed_record_error,
            incomplete: info.incomplete,
        }
    }
}

fn texts(addresses: &[Multiaddr]) -> Vec<String> {
    addresses.iter().map(|address| clean(&address.to_string())).collect()
}
