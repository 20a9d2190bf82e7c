use std::time::{Duration, Instant};

use peerage_core::{Now, PeerId};
use rand::seq::SliceRandom as _;

use super::{Action, Engine, Fanout};
use crate::{
    codec::{self, Control, Prune, Subscription},
    config::{MAX_BACKOFF, MAX_BACKOFFS},
    event::{Event, Misdeed, PruneReason},
    queue::Lane,
    topic::Topic,
};

impl Engine {
    /// Somebody here wants a topic: its mesh is formed of those that messages went to before, and of others.
    pub(super) fn subscribe(&mut self, topic: Topic, now: Now) {
        let known = self.topics.entry(topic.clone()).or_default();
        if std::mem::replace(&mut known.subscribed, true) {
            return;
        }
        self.judge.topic_wanted(&topic);
        self.net.stats.watch(&topic);
        let fanout = known.fanout.take().map(|fanout| fanout.peers).unwrap_or_default();
        self.announce(&topic, true);
        let size = self.config.mesh.size;
        let mut chosen: Vec<PeerId> =
            fanout.into_iter().filter(|peer| self.may_be_grafted(peer, &topic)).take(size).collect();
        let others = self.choose(&topic, size, |engine, peer| engine.may_be_grafted(peer, &topic));
        for peer in others {
            if chosen.len() < size && !chosen.contains(&peer) {
                chosen.push(peer);
            }
        }
        for peer in chosen {
            let mut control = Control::default();
            self.graft(peer, &topic, true, now);
            control.graft(&topic);
            self.net.controls(peer, Lane::Control, control.finish());
        }
    }

    /// Nobody here wants it any more.
    pub(super) fn unsubscribe(&mut self, topic: &Topic, now: Now) {
        let Some(known) = self.topics.get_mut(topic) else { return };
        if !std::mem::replace(&mut known.subscribed, false) {
            return;
        }
        for peer in known.mesh.clone() {
            self.put_out(peer, topic, PruneReason::Left, now);
        }
        self.judge.topic_left(topic);
        self.groups.topic_left(topic);
        self.announce(topic, false);
        self.net.stats.retire(topic);
        self.tidy(topic);
    }

    pub(super) fn announce(&mut self, topic: &Topic, subscribe: bool) {
        let change = match subscribe {
            true => Subscription::to(topic.clone()).partial(self.partial_mode(topic)),
            false => Subscription::end(topic.clone()),
        };
        let frames = codec::subscriptions([change]);
        let peers: Vec<PeerId> = self.peers_of(None);
        for peer in peers {
            self.net.controls(peer, Lane::Control, frames.clone());
        }
    }

    /// Peers of a topic, at random, that fit.
    pub(super) fn choose(
        &mut self,
        topic: &Topic,
        count: usize,
        fits: impl Fn(&Self, &PeerId) -> bool,
    ) -> Vec<PeerId> {
        let Some(known) = self.topics.get(topic) else { return Vec::new() };
        let mut fitting: Vec<PeerId> = known.peers.iter().filter(|peer| fits(self, peer)).copied().collect();
        let (chosen, _) = fitting.partial_shuffle(&mut self.rng, count);
        chosen.to_vec()
    }

    /// Whether a peer can be taken into a mesh that it is not in.
    pub(super) fn may_be_grafted(&self, peer: &PeerId, topic: &Topic) -> bool {
        let Some(known) = self.topics.get(topic) else { return false };
        known.peers.contains(peer)
            && !known.mesh.contains(peer)
            && !known.backoff.contains_key(peer)
            && !self.direct.contains_key(peer)
            && self.net.peers.get(peer).is_some_and(super::net::Peer::is_gossip)
            && self.judge.standing(peer, topic) >= 0.0
    }

    /// Takes a peer into a mesh, without telling it.
    pub(super) fn graft(&mut self, peer: PeerId, topic: &Topic, local: bool, now: Now) {
        let Some(known) = self.topics.get_mut(topic) else { return };
        if !known.mesh.insert(peer) {
            return;
        }
        self.judge.grafted(peer, topic, now);
        self.net.meshes(peer, true);
        if let Some(state) = self.net.peers.get_mut(&peer) {
            state.owed.remove(topic);
        }
        self.net.stats.grafted(local);
        self.net.event(Event::Grafted { peer, topic: topic.clone(), local });
    }

    /// Takes note that a peer is not in a mesh any more.
    pub(super) fn leave_mesh(&mut self, peer: PeerId, topic: &Topic, why: PruneReason, now: Now) -> bool {
        let Some(known) = self.topics.get_mut(topic) else { return false };
        if !known.mesh.remove(&peer) {
            return false;
        }
        self.judge.pruned(peer, topic, now);
        self.net.meshes(peer, false);
        self.net.stats.pruned(why);
        self.net.event(Event::Pruned { peer, topic: topic.clone(), why });
        true
    }

    /// Puts a peer out of a mesh, and tells it.
    pub(super) fn put_out(&mut self, peer: PeerId, topic: &Topic, why: PruneReason, now: Now) {
        if !self.leave_mesh(peer, topic, why, now) {
            return;
        }
        let backoff = match why {
            PruneReason::Left => self.config.unsubscribe_backoff,
            _ => self.config.prune_backoff,
        };
        self.back_off(peer, topic, backoff, now);
        if !self.can_be_told(&peer) {
            return self.net.owe(peer, topic);
        }
        if why == PruneReason::TooMany && self.config.exchange {
            return self.exchange(peer, topic, backoff);
        }
        let mut control = Control::default();
        control.prune(&prune(topic, backoff));
        self.net.controls(peer, Lane::Control, control.finish());
    }

    /// Puts it out, and names others that it could ask.
    fn exchange(&mut self, peer: PeerId, topic: &Topic, backoff: Duration) {
        let judge_ok = |engine: &Self, other: &PeerId| *other != peer && engine.judge.score(other) >= 0.0;
        let others = self.choose(topic, self.config.exchange_peers, judge_ok);
        let Some(state) = self.net.peers.get(&peer) else { return };
        let (session, queue, topic) = (state.session, state.queue.clone(), topic.clone());
        self.net.actions.push_back(Action::Exchange { peer, session, queue, topic, backoff, others });
    }

    /// Whether there is a stream to a peer.
    fn can_be_told(&self, peer: &PeerId) -> bool {
        self.net.peers.get(peer).is_some_and(|state| state.version().is_some())
    }

    /// Says, on a stream that is new, what could not be said before: in whose mesh the peer is, and in whose it is not. Who
    /// came into a mesh before may have been given up by the peer meanwhile, so it hears a GRAFT, which means nothing to one
    /// that has not.
    pub(super) fn settle_meshes(&mut self, peer: PeerId, now: Now) {
        let Some(state) = self.net.peers.get_mut(&peer) else { return };
        let owed = std::mem::take(&mut state.owed);
        let mut control = Control::default();
        let meshes = self.topics.iter().filter(|(_, known)| known.mesh.contains(&peer));
        meshes.for_each(|(topic, _)| control.graft(topic));
        owed.into_iter().for_each(|topic| self.settle(peer, topic, &mut control, now));
        self.net.controls(peer, Lane::Control, control.finish());
    }

    /// A peer may count this node to its mesh of a topic, and is not in this node's. It is taken if it would be taken now,
    /// and told otherwise, so that backoffs end on both sides at the same time.
    fn settle(&mut self, peer: PeerId, topic: Topic, control: &mut Control, now: Now) {
        let Some(known) = self.topics.get(&topic) else { return };
        let backoff = known.backoff.get(&peer).map(|until| until.saturating_duration_since(now.mono));
        if known.mesh.contains(&peer) || (!known.subscribed && backoff.is_none()) {
            return;
        }
        let has_room = known.mesh.len() < self.config.mesh.high;
        if backoff.is_none() && !known.peers.contains(&peer) {
            // It does not want the topic; if it does again, it is time.
            self.net.owe(peer, &topic);
        } else if has_room && known.subscribed && self.may_be_grafted(&peer, &topic) {
            self.graft(peer, &topic, true, now);
            control.graft(&topic);
        } else {
            let left = backoff.unwrap_or(self.config.prune_backoff);
            self.back_off(peer, &topic, left, now);
            control.prune(&prune(&topic, left));
        }
    }

    /// A peer whose stream had ended says again that it wants a topic.
    pub(super) fn settle_again(&mut self, peer: PeerId, topic: Topic, now: Now) {
        let state = self.net.peers.get_mut(&peer).filter(|state| state.is_gossip());
        if state.is_some_and(|state| state.owed.remove(&topic)) {
            let mut control = Control::default();
            self.settle(peer, topic, &mut control, now);
            self.net.controls(peer, Lane::Control, control.finish());
        }
    }

    /// Until when a peer is not grafted. The longer time counts.
    pub(super) fn back_off(&mut self, peer: PeerId, topic: &Topic, backoff: Duration, now: Now) {
        let Some(known) = self.topics.get_mut(topic) else { return };
        let until = now.after(backoff.min(MAX_BACKOFF));
        if known.backoff.len() >= MAX_BACKOFFS && !known.backoff.contains_key(&peer) {
            let first = known.backoff.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            first.and_then(|peer| known.backoff.remove(&peer));
        }
        let kept = known.backoff.entry(peer).or_insert(until);
        *kept = (*kept).max(until);
    }

    /// A peer takes this node into its mesh. A topic that nobody here wants costs neither state nor an answer (gossipsub
    /// 1.1, "Spam Protection Measures").
    pub(super) fn heard_graft(&mut self, peer: PeerId, topic: Topic, answer: &mut Control, now: Now) {
        let Some(known) = self.topics.get(&topic).filter(|known| known.subscribed) else { return };
        if known.mesh.contains(&peer) {
            return;
        }
        if !self.net.peers.get(&peer).is_some_and(super::net::Peer::can_join_meshes) {
            if !self.can_be_told(&peer) {
                self.net.owe(peer, &topic);
            }
            return;
        }
        if !known.peers.contains(&peer) {
            // Some send control before the rest: the subscription is still on its way. py-libp2p does, now and then.
            self.peer_wants(peer, topic.clone());
        }
        let Some(known) = self.topics.get(&topic) else { return };
        // The peer's clock began when it sent the PRUNE, and may count whole seconds, as py-libp2p's does.
        let slack = self.config.heartbeat.saturating_mul(self.config.backoff_slack);
        let in_backoff = known.backoff.get(&peer).copied().filter(|until| *until > now.after(slack));
        let full = known.mesh.len() >= self.config.mesh.high;
        let wants = known.peers.contains(&peer);
        if let Some(until) = in_backoff {
            let sooner = self.is_flood(until, now);
            self.misbehaved(peer, Misdeed::GraftInBackoff, if sooner { 2 } else { 1 });
        }
        let dialed = self.net.peers.get(&peer).is_some_and(|state| state.dialed);
        let direct = self.direct.contains_key(&peer);
        if direct
            || in_backoff.is_some()
            || !wants
            || self.judge.standing(&peer, &topic) < 0.0
            || (full && !dialed)
        {
            let backoff = self.config.prune_backoff;
            self.back_off(peer, &topic, backoff, now);
            if !self.can_be_told(&peer) {
                return self.net.owe(peer, &topic);
            }
            // Others are named only to who did nothing wrong.
            if self.config.exchange
                && full
                && wants
                && !direct
                && in_backoff.is_none()
                && self.judge.score(&peer) >= 0.0
            {
                return self.exchange(peer, &topic, backoff);
            }
            answer.prune(&prune(&topic, backoff));
            return;
        }
        self.graft(peer, &topic, false, now);
    }

    /// Whether a GRAFT comes so soon after the PRUNE that it cannot be an accident.
    fn is_flood(&self, until: Instant, now: Now) -> bool {
        let left = until.saturating_duration_since(now.mono);
        left.saturating_add(self.config.graft_flood) > self.config.prune_backoff
    }

    /// A peer puts this node out of its mesh.
    pub(super) fn heard_prune(&mut self, peer: PeerId, prune: Prune, now: Now) {
        let Prune { topic, peers, backoff } = prune;
        if !self.topics.get(&topic).is_some_and(|known| known.subscribed) {
            return;
        }
        self.leave_mesh(peer, &topic, PruneReason::Asked, now);
        if let Some(state) = self.net.peers.get_mut(&peer) {
            state.owed.remove(&topic);
        }
        let backoff = backoff.map_or(self.config.prune_backoff, Duration::from_secs);
        // Also for one that was not in the mesh: it has refused this node's GRAFT, or would.
        self.back_off(peer, &topic, backoff, now);
        if self.judge.accepts_exchange(&peer) {
            for exchanged in peers.into_iter().take(self.config.exchange_peers) {
                let known = self.net.peers.contains_key(&exchanged.peer) || exchanged.peer == self.local;
                if !known && !self.blacklist.contains(&exchanged.peer) {
                    let (peer, record) = (exchanged.peer, exchanged.record);
                    self.net.actions.push_back(Action::Connect { peer, record });
                }
            }
        }
    }

    /// Fills up who messages go to of a topic that is only published to.
    pub(super) fn fill_fanout(&mut self, topic: &Topic) {
        let Some(Fanout { peers, .. }) = self.topics.get(topic).and_then(|known| known.fanout.as_ref())
        else {
            return;
        };
        let missing = self.config.mesh.size.saturating_sub(peers.len());
        if missing == 0 {
            return;
        }
        let more = self.choose(topic, missing, |engine, peer| {
            let fanout = engine.topics.get(topic).and_then(|known| known.fanout.as_ref());
            !fanout.is_some_and(|fanout| fanout.peers.contains(peer))
                && engine.net.peers.get(peer).is_some_and(super::net::Peer::is_gossip)
                && engine.judge.may_be_published_to(peer)
        });
        if let Some(fanout) = self.topics.get_mut(topic).and_then(|known| known.fanout.as_mut()) {
            fanout.peers.extend(more);
        }
    }

    /// A list in random order.
    pub(super) fn shuffled(&mut self, mut peers: Vec<PeerId>) -> Vec<PeerId> {
        peers.shuffle(&mut self.rng);
        peers
    }
}

pub(super) fn prune(topic: &Topic, backoff: Duration) -> Prune {
    Prune { topic: topic.clone(), peers: Vec::new(), backoff: Some(backoff.as_secs()) }
}
