use peerage_core::PeerId;

use super::Engine;
use crate::{config::TopicConfig, partial::Mode, topic::Topic};

impl Engine {
    /// In which way this node takes part in partial messages of a topic.
    pub(super) fn partial_mode(&self, topic: &Topic) -> Mode {
        match self.config.partial_messages {
            true => self.rules.get(topic).unwrap_or(&self.config.other_topics).partial,
            false => Mode::Off,
        }
    }

    /// A topic has other rules from now on. Peers are told if that changes what they send.
    pub(super) fn set_rules(&mut self, topic: Topic, rules: Option<TopicConfig>) {
        let before = self.partial_mode(&topic);
        match rules {
            Some(rules) => drop(self.rules.insert(topic.clone(), rules)),
            None => drop(self.rules.remove(&topic)),
        }
        if self.partial_mode(&topic) != before
            && self.topics.get(&topic).is_some_and(|known| known.subscribed)
        {
            self.announce(&topic, true);
        }
    }

    /// In which way a peer takes part, of a topic that it wants. A node that does not speak of partial messages ignores that
    /// (spec "Changes to `SubOpts`").
    pub(super) fn peer_wants_parts(&mut self, peer: PeerId, topic: &Topic, mode: Mode) {
        let Some(state) = self.net.peers.get_mut(&peer).filter(|state| state.topics.contains(topic)) else {
            return;
        };
        if self.config.partial_messages && mode.sends() {
            state.partial.insert(topic.clone(), mode);
        } else {
            state.partial.remove(topic);
        }
    }
}
