use std::sync::Arc;

use peerage_core::{Now, PeerId};

use super::{Action, Engine, Fanout, PublishError, Published, net::Sent};
use crate::{
    codec::Control, event::Event, parcel::Parcel, partial::Mode, queue::Lane, signing, topic::Topic,
    version::Version,
};

impl Engine {
    /// Sends a message of this node's out.
    pub(super) fn publish(&mut self, parcel: &Arc<Parcel>, now: Now) -> Result<Published, PublishError> {
        let topic = parcel.message.topic.clone();
        if !self.seen.insert(parcel.id.clone(), now) {
            return Err(PublishError::Duplicate);
        }
        self.cache.put(parcel);
        let targets = self.publish_to(&topic, now);
        self.tell_unwanted(parcel, None);
        let (mut peers, mut full) = (0_usize, 0_usize);
        for peer in targets {
            if self.takes_parts(&peer, &topic) {
                continue;
            }
            match self.net.message(peer, parcel, true) {
                Sent::Taken => peers = peers.saturating_add(1),
                Sent::Full => full = full.saturating_add(1),
                Sent::Skipped => {}
            }
        }
        let published = self.net.stats.topic(&topic);
        published.published = published.published.saturating_add(1);
        if self.config.deliver_own && self.topics.get(&topic).is_some_and(|known| known.subscribed) {
            self.net.actions.push_back(Action::Deliver(parcel.to_message(self.local)));
        }
        self.net.trace(|| Event::Published { topic, id: parcel.id.clone(), peers });
        Ok(Published { id: parcel.id.clone(), peers, full })
    }

    /// To whom an own message goes: by flood publishing to all whose score allows it, else to the mesh, or to those that
    /// stand in for one.
    fn publish_to(&mut self, topic: &Topic, now: Now) -> Vec<PeerId> {
        if self.config.flood_publish {
            let known = self.topics.entry(topic.clone()).or_default();
            let judge = &self.judge;
            let known_peers = known.peers.iter();
            let targets: Vec<_> = known_peers
                .filter(|peer| known.always.contains(peer) || judge.may_be_published_to(peer))
                .copied()
                .collect();
            self.tidy(topic);
            return targets;
        }
        self.meshed_with(topic, now)
    }

    /// The mesh of a topic, or those that stand in for it.
    pub(super) fn meshed_with(&mut self, topic: &Topic, now: Now) -> Vec<PeerId> {
        let known = self.topics.entry(topic.clone()).or_default();
        if known.subscribed {
            let standing_in: Vec<PeerId> = if known.mesh.is_empty() {
                // Between subscribing and the first heartbeat; nobody is to miss what is said then.
                self.choose(topic, self.config.mesh.size, |engine, peer| {
                    engine.judge.may_be_published_to(peer)
                })
            } else {
                known.mesh.iter().copied().collect()
            };
            let always = self.topics.get(topic).into_iter().flat_map(|known| &known.always);
            return always
                .copied()
                .filter(|peer| !standing_in.contains(peer))
                .chain(standing_in.clone())
                .collect();
        }
        if known.fanout.is_none() {
            self.net.stats.watch(topic);
            known.fanout = Some(Fanout { peers: std::collections::BTreeSet::new(), published: now.mono });
        }
        self.fill_fanout(topic);
        let Some(known) = self.topics.get_mut(topic) else { return Vec::new() };
        let Some(fanout) = &mut known.fanout else { return Vec::new() };
        fanout.published = now.mono;
        fanout.peers.union(&known.always).copied().collect()
    }

    /// Sends on what somebody else has published.
    pub(super) fn forward(&mut self, parcel: &Arc<Parcel>, from: PeerId) {
        let Some(known) = self.topics.get(&parcel.message.topic) else { return };
        let author = signing::author(&parcel.message);
        let in_parts = self.partial_mode(&parcel.message.topic).sends();
        let goes = |peer: &&PeerId| **peer != from && Some(**peer) != author;
        for peer in known.mesh.union(&known.always).filter(goes) {
            // To who requests parts, parts go instead.
            if !in_parts || self.net.mode_of(peer, &parcel.message.topic) != Mode::Requests {
                self.net.message(*peer, parcel, false);
            }
        }
    }

    /// Tells the mesh that a large message need not be sent here any more (gossipsub 1.2).
    pub(super) fn tell_unwanted(&mut self, parcel: &Arc<Parcel>, from: Option<PeerId>) {
        if parcel.message.data.as_ref().map_or(0, bytes::Bytes::len) < self.config.idontwant_size {
            return;
        }
        let topic = &parcel.message.topic;
        let Some(known) = self.topics.get(topic) else { return };
        // Who sends parts where they are requested sends nothing of which it could be told that it is not wanted.
        let knows = |peer: &PeerId| {
            Some(*peer) != from
                && !self.gives_parts(peer, topic)
                && self.net.peers.get(peer).and_then(super::net::Peer::version) >= Some(Version::V12)
        };
        let peers: Vec<PeerId> = known.mesh.iter().copied().filter(knows).collect();
        if peers.is_empty() {
            return;
        }
        let mut control = Control::default();
        control.idontwant([parcel.id.as_bytes()]);
        for frame in control.finish() {
            for peer in &peers {
                self.net.stats.idontwant_sent = self.net.stats.idontwant_sent.saturating_add(1);
                self.net.control(*peer, Lane::Gossip, frame.clone());
            }
        }
    }
}
