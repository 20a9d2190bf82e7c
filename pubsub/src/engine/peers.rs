use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use peerage_core::{Multiaddr, Now, PeerId};
use peerage_host::ConnectionId;

use super::{Action, Engine, net::Link};
use crate::{
    codec::{self, Control, Extensions, Rpc, Subscription},
    event::{DropReason, Event, Misdeed, PruneReason},
    queue::Lane,
    topic::Topic,
    version::Version,
};

/// How long after a stream has broken another one is opened; it doubles with each failure.
pub(super) const REOPEN: Duration = Duration::from_secs(1);
/// The longest that it becomes.
const MAX_REOPEN: Duration = Duration::from_secs(64);
/// How long a peer is remembered of whose connection nothing was heard: what it sent may have come first.
pub(super) const PROVISIONAL: Duration = Duration::from_secs(10);

impl Engine {
    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        ip: Option<IpAddr>,
        dialed: bool,
        now: Now,
    ) {
        let state = self.net.peer(peer, now.mono);
        let first = state.connections.is_empty();
        if !state.connections.insert(id) || !first {
            return;
        }
        state.dialed = dialed;
        self.judge.connected(peer, ip, now);
        if !self.blacklist.contains(&peer) {
            self.open_link(peer);
        }
    }

    pub(super) fn disconnected(&mut self, peer: PeerId, id: ConnectionId, now: Now) {
        let Some(state) = self.net.peers.get_mut(&peer) else { return };
        if !state.connections.remove(&id) || !state.connections.is_empty() {
            return;
        }
        self.forget(peer, now);
        self.judge.disconnected(peer, now);
    }

    /// Lets go of a peer and of everything about it.
    pub(super) fn forget(&mut self, peer: PeerId, now: Now) {
        let had_link =
            self.net.peers.get(&peer).is_some_and(|state| !matches!(state.link, Link::Closed { .. }));
        self.link_ended(peer, now);
        self.wants_nothing(peer, now);
        self.net.peers.remove(&peer);
        self.promises.forget(peer);
        if had_link {
            self.net.actions.push_back(Action::Close { peer });
        }
    }

    pub(super) fn open_link(&mut self, peer: PeerId) {
        if self.net.peers.get(&peer).is_some_and(|state| !state.connections.is_empty()) {
            self.net.open(peer);
        }
    }

    pub(super) fn opened(&mut self, peer: PeerId, session: u64, version: Version, now: Now) {
        let direct = self.direct.contains_key(&peer);
        let Some(state) = self.net.peers.get_mut(&peer) else { return };
        if state.session != session || !matches!(state.link, Link::Opening { .. }) {
            return;
        }
        state.link = Link::Open(version);
        if direct || !version.is_gossip() {
            for topic in state.topics.clone() {
                self.leave_mesh(peer, &topic, PruneReason::Gone, now);
                if let Some(known) = self.topics.get_mut(&topic) {
                    known.always.insert(peer);
                }
            }
        }
        self.net.event(Event::PeerJoined { peer, version });
        self.hello(peer, version);
        if version.is_gossip() {
            self.settle_meshes(peer, now);
        }
    }

    /// The first thing that is said on a stream: what this node can do, and all that it wants.
    fn hello(&mut self, peer: PeerId, version: Version) {
        let can =
            Extensions { partial_messages: self.config.partial.is_some(), test: self.config.test_extension };
        if version == Version::V13 && can != Extensions::default() {
            let mut control = Control::default();
            control.extensions(can);
            self.net.controls(peer, Lane::Control, control.finish());
        }
        let wanted = self.topics.iter().filter(|(_, state)| state.subscribed);
        let wanted =
            wanted.map(|(topic, _)| Subscription::to(topic.clone()).partial(self.partial_mode(topic)));
        let frames = codec::subscriptions(wanted);
        self.net.controls(peer, Lane::Control, frames);
        self.greet_extension(peer);
    }

    pub(super) fn link_failed(&mut self, peer: PeerId, session: u64, unsupported: bool, now: Now) {
        let Some(state) = self.net.peers.get(&peer) else { return };
        if state.session != session {
            return;
        }
        let failures = match state.link {
            Link::Closed { .. } => return,
            Link::Opening { failures } => failures.saturating_add(1),
            Link::Open(_) => 1,
        };
        self.link_ended(peer, now);
        let wait = REOPEN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_REOPEN);
        let again = if unsupported { None } else { Some(now.after(wait)) };
        if let Some(state) = self.net.peers.get_mut(&peer) {
            state.link = Link::Closed { failures, again };
        }
    }

    /// There is no stream to the peer any more: it is in no mesh, and what waited for it is lost.
    pub(super) fn link_ended(&mut self, peer: PeerId, now: Now) {
        let Some(state) = self.net.peers.get_mut(&peer) else { return };
        let was_open = state.version().is_some();
        state.link = Link::Closed { failures: 0, again: None };
        let lost = state.queue.clear();
        self.groups.link_ended(&peer);
        for topic in state.topics.clone() {
            let left = self.leave_mesh(peer, &topic, PruneReason::Gone, now);
            // The end of a stream says as much; of one that was never there the peer has seen nothing.
            if left && !was_open {
                self.net.owe(peer, &topic);
            }
            if let Some(topic) = self.topics.get_mut(&topic) {
                topic.always.remove(&peer);
            }
        }
        if was_open {
            self.net.stats.dropped(Lane::Forward, DropReason::StreamEnded, lost as u64);
            self.net.event(Event::PeerLeft { peer });
        }
    }

    pub(super) fn inbound(&mut self, peer: PeerId, stream: u64, now: Now) {
        self.wants_nothing(peer, now);
        let state = self.net.peer(peer, now.mono);
        (state.inbound, state.heard, state.extensions) = (Some(stream), false, None);
        // It speaks this after all, or is there again.
        if matches!(state.link, Link::Closed { .. }) && !self.blacklist.contains(&peer) {
            self.open_link(peer);
        }
    }

    /// A peer talks on a stream that an earlier life of the engine has listened to.
    pub(super) fn recalled(
        &mut self,
        peer: PeerId,
        stream: u64,
        subscriptions: Vec<Subscription>,
        heard: Option<Extensions>,
        now: Now,
    ) {
        self.inbound(peer, stream, now);
        let state = self.net.peer(peer, now.mono);
        (state.heard, state.extensions) = (heard.is_some(), heard);
        for wanted in subscriptions {
            self.peer_wants(peer, wanted.topic.clone());
            self.peer_wants_parts(peer, &wanted.topic, wanted.partial);
        }
    }

    pub(super) fn inbound_ended(&mut self, peer: PeerId, stream: u64, now: Now) {
        let Some(state) = self.net.peers.get_mut(&peer) else { return };
        if state.inbound == Some(stream) {
            state.inbound = None;
            self.wants_nothing(peer, now);
        }
    }

    pub(super) fn rpc(&mut self, peer: PeerId, rpc: Rpc, now: Now) {
        if self.blacklist.contains(&peer) {
            return;
        }
        let direct = self.direct.contains_key(&peer);
        if !direct && self.judge.is_graylisted(&peer) {
            self.net.stats.graylisted = self.net.stats.graylisted.saturating_add(1);
            return;
        }
        self.net.stats.rpcs = self.net.stats.rpcs.saturating_add(1);
        self.extensions(peer, &rpc, now);
        for change in rpc.subscriptions {
            match change.subscribe {
                true => {
                    self.peer_wants(peer, change.topic.clone());
                    self.peer_wants_parts(peer, &change.topic, change.partial);
                    self.settle_again(peer, change.topic, now);
                }
                false => self.peer_wants_no_more(peer, &change.topic, now),
            }
        }
        if !rpc.messages.is_empty() && (direct || self.judge.takes_messages(&peer, now, &mut self.rng)) {
            for message in rpc.messages {
                self.message(peer, message, now);
            }
        }
        if let Some(partial) = rpc.partial {
            self.heard_partial(peer, *partial, now);
        }
        self.heard_ihave(peer, rpc.ihave, now);
        self.heard_iwant(peer, &rpc.iwant);
        let mut answer = Control::default();
        for topic in rpc.grafts {
            self.heard_graft(peer, topic, &mut answer, now);
        }
        for prune in rpc.prunes {
            self.heard_prune(peer, prune, now);
        }
        self.net.controls(peer, Lane::Control, answer.finish());
        self.heard_idontwant(peer, &rpc.idontwant, rpc.idontwant_entries);
    }

    /// What a peer can do, it says in its first RPC and never again (gossipsub 1.3).
    fn extensions(&mut self, peer: PeerId, rpc: &Rpc, now: Now) {
        let state = self.net.peer(peer, now.mono);
        let first = !std::mem::replace(&mut state.heard, true);
        match (rpc.extensions, first) {
            (Some(extensions), true) => {
                state.extensions = Some(extensions);
                self.greet_extension(peer);
            }
            (Some(_), false) => self.misbehaved(peer, Misdeed::ExtensionsTwice, 1),
            (None, _) => {}
        }
        if rpc.test_extension {
            self.net.stats.test_extensions = self.net.stats.test_extensions.saturating_add(1);
        }
    }

    /// Says the word of the extension for tests, once both are known to have it.
    fn greet_extension(&mut self, peer: PeerId) {
        let both = self.config.test_extension
            && self.net.peers.get(&peer).is_some_and(|state| {
                state.version() == Some(Version::V13) && state.extensions.is_some_and(|theirs| theirs.test)
            });
        if both {
            self.net.control(peer, Lane::Control, codec::test_extension());
        }
    }

    /// A peer wants a topic. How many it may want is bounded, and what nobody here can be interested in is not kept.
    pub(super) fn peer_wants(&mut self, peer: PeerId, topic: Topic) {
        let Some(state) = self.net.peers.get_mut(&peer) else { return };
        let full = state.topics.len() >= self.config.max_topics_per_peer;
        let filtered = self.config.filter.as_ref().is_some_and(|filter| !filter.takes(&topic));
        if full || filtered {
            self.net.stats.subscriptions_passed_over = self
                .net
                .stats
                .subscriptions_passed_over
                .saturating_add(u64::from(!state.topics.contains(&topic)));
            return;
        }
        if !state.topics.insert(topic.clone()) {
            return;
        }
        let always =
            self.direct.contains_key(&peer) || state.version().is_some_and(|version| !version.is_gossip());
        let known = self.topics.entry(topic.clone()).or_default();
        known.peers.insert(peer);
        if always {
            known.always.insert(peer);
        }
        self.net.event(Event::Subscribed { peer, topic });
    }

    fn peer_wants_no_more(&mut self, peer: PeerId, topic: &Topic, now: Now) {
        let Some(state) = self.net.peers.get_mut(&peer) else { return };
        if !state.topics.remove(topic) {
            return;
        }
        state.partial.remove(topic);
        self.groups.forget_in(topic, &peer);
        if self.leave_mesh(peer, topic, PruneReason::Gone, now) {
            // A GRAFT may be on its way to it, which it will take if it wants the topic again meanwhile.
            self.net.owe(peer, topic);
        }
        if let Some(known) = self.topics.get_mut(topic) {
            known.peers.remove(&peer);
            known.always.remove(&peer);
            known.gossiped.remove(&peer);
            if let Some(fanout) = &mut known.fanout {
                fanout.peers.remove(&peer);
            }
            self.tidy(topic);
        }
        self.net.event(Event::Unsubscribed { peer, topic: topic.clone() });
    }

    fn wants_nothing(&mut self, peer: PeerId, now: Now) {
        let topics = self.net.peers.get(&peer).map(|state| state.topics.clone()).unwrap_or_default();
        topics.iter().for_each(|topic| self.peer_wants_no_more(peer, topic, now));
        self.groups.forget(&peer);
    }

    /// Forgets a topic of which there is nothing to know.
    pub(super) fn tidy(&mut self, topic: &Topic) {
        if self.topics.get(topic).is_some_and(|known| !known.is_needed()) {
            self.topics.remove(topic);
        }
    }

    /// Who wants a topic; all who speak with this node, if none is named.
    pub(super) fn peers_of(&self, topic: Option<&Topic>) -> Vec<PeerId> {
        match topic {
            Some(topic) => {
                self.topics.get(topic).into_iter().flat_map(|known| &known.peers).copied().collect()
            }
            None => {
                let talking = self.net.peers.iter().filter(|(_, state)| state.version().is_some());
                talking.map(|(peer, _)| *peer).collect()
            }
        }
    }

    pub(super) fn set_blacklisted(&mut self, peer: PeerId, on: bool, now: Now) {
        if on && self.blacklist.insert(peer) {
            self.wants_nothing(peer, now);
            self.link_ended(peer, now);
            self.net.actions.push_back(Action::Close { peer });
        } else if !on && self.blacklist.remove(&peer) {
            self.open_link(peer);
        }
    }

    pub(super) fn add_direct(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, now: Now) {
        if self.direct.len() >= crate::config::MAX_DIRECT && !self.direct.contains_key(&peer) {
            return;
        }
        self.direct.insert(peer, addresses);
        let topics = self.net.peers.get(&peer).map(|state| state.topics.clone()).unwrap_or_default();
        for topic in topics {
            self.put_out(peer, &topic, PruneReason::Left, now);
            if let Some(known) = self.topics.get_mut(&topic) {
                known.always.insert(peer);
            }
        }
        self.dial_direct();
    }

    pub(super) fn remove_direct(&mut self, peer: PeerId) {
        self.direct.remove(&peer);
        let floods = self.net.peers.get(&peer).and_then(super::net::Peer::version) == Some(Version::Floodsub);
        for known in self.topics.values_mut() {
            if !floods {
                known.always.remove(&peer);
            }
        }
    }

    pub(super) fn dial_direct(&mut self) {
        let connected: BTreeSet<_> = self
            .net
            .peers
            .iter()
            .filter(|(_, state)| !state.connections.is_empty())
            .map(|(peer, _)| *peer)
            .collect();
        for (peer, addresses) in &self.direct {
            if !connected.contains(peer) {
                let (peer, addresses) = (*peer, addresses.clone());
                self.net.actions.push_back(Action::ConnectDirect { peer, addresses });
            }
        }
    }
}
