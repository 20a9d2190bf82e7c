use std::{
    cmp::Reverse,
    collections::BTreeSet,
    time::{Duration, Instant},
};

use peerage_core::{Multiaddr, Now, PeerId, ProtocolId, engine::NEVER};

use super::{
    AddressInfo, PeerInfo, RECENT, Source, address_of,
    row::{Certified, Kept, KeptAddress},
};
use crate::{dial::tidy, limits::ConnectionId};

/// The most addresses that are kept of one peer. The user's stay longest, then those that worked; of the others, those
/// that failed least and expire last.
pub const MAX_ADDRESSES_PER_PEER: usize = 64;
/// The most of these that stay when the last connection with the peer is gone, the best of them.
pub const KEPT_UNCONNECTED: usize = 20;
/// The most protocols that are kept of one peer.
pub const MAX_PROTOCOLS_PER_PEER: usize = 128;
/// The most characters that are kept of the name of a peer's software.
pub const MAX_AGENT: usize = 128;

/// How a peer came to be known, the least worth first: peers that somebody made up shall not wash away those that are
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It was only spoken of.
    Hearsay,
    /// This node talked with it; the peer may have come by itself, as anybody can.
    Met,
    /// This node reached it, at an address that worked the last time.
    Reached,
    /// The user named an address of it.
    Manual,
}

/// What is known of one peer.
#[derive(Debug)]
pub(super) struct Entry {
    addresses: Vec<Known>,
    /// Bounded by the ledger's connections per peer. The numbers, because a restarted Host tells of a connection again.
    pub(super) connections: BTreeSet<ConnectionId>,
    facts: Option<Facts>,
    record: Option<Certified>,
    /// The security protocol of the last connection whose transport brings none.
    pub(super) security: Option<ProtocolId>,
    /// When somebody last asked for it or it was connected.
    pub(super) used: Instant,
}

#[derive(Debug)]
struct Known {
    address: Multiaddr,
    source: Source,
    expires: Instant,
    worked: Option<Instant>,
    failures: u32,
    /// Whether it stands in the peer's record.
    certified: bool,
}

/// What a peer says of itself in identify.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) protocols: Vec<ProtocolId>,
    pub(crate) agent: String,
    /// Where it listens, uncertified.
    pub(crate) addresses: Vec<Multiaddr>,
    /// Its own record, if it sent one: then only the addresses in there count.
    pub(crate) record: Option<Certified>,
    /// Those of the record that are believed, as far as the connection shows.
    pub(crate) certified: Vec<Multiaddr>,
}

/// What a peer said of itself.
#[derive(Debug)]
struct Facts {
    protocols: Vec<ProtocolId>,
    agent: String,
    expires: Instant,
}

impl Entry {
    pub(super) fn new(now: Now) -> Self {
        Self {
            addresses: Vec::new(),
            connections: BTreeSet::new(),
            facts: None,
            record: None,
            security: None,
            used: now.mono,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }

    /// What it is worth when there is no room for all.
    pub(super) fn standing(&self) -> Standing {
        if self.addresses.iter().any(|known| known.source == Source::Manual) {
            Standing::Manual
        } else if self.addresses.iter().any(|known| known.worked.is_some()) {
            Standing::Reached
        } else if self.facts.is_some() {
            Standing::Met
        } else {
            Standing::Hearsay
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.facts.is_none() && !self.is_connected()
    }

    /// When the next thing expires. While there is a connection, nothing does.
    pub(super) fn lapses(&self) -> Option<Instant> {
        let addresses = self.addresses.iter().map(|known| known.expires);
        let all = addresses.chain(self.facts.iter().map(|facts| facts.expires));
        all.min().filter(|_| !self.is_connected())
    }

    /// Forgets what has expired.
    pub(super) fn expire(&mut self, now: Now) {
        if !self.is_connected() {
            self.addresses.retain(|known| known.expires > now.mono);
            self.facts = self.facts.take().filter(|facts| facts.expires > now.mono);
        }
        // A record is as good as the addresses in it.
        if !self.addresses.iter().any(|known| known.certified) {
            self.record = None;
        }
    }

    /// Forgets everything but the connections.
    pub(super) fn forget(&mut self) {
        self.addresses.clear();
        self.facts = None;
        self.record = None;
    }

    /// Lets nothing expire before `until`.
    pub(super) fn keep_until(&mut self, until: Instant) {
        for known in &mut self.addresses {
            known.expires = known.expires.max(until);
        }
        if let Some(facts) = &mut self.facts {
            facts.expires = facts.expires.max(until);
        }
    }

    /// Keeps the best addresses only.
    pub(super) fn shrink(&mut self) {
        if self.addresses.len() > KEPT_UNCONNECTED {
            let is_the_users = |index: &usize| {
                self.addresses.get(*index).is_some_and(|known| known.source == Source::Manual)
            };
            // The user's stay, however they did.
            let (users, others): (Vec<_>, Vec<_>) = self.order().into_iter().partition(is_the_users);
            let kept: Vec<usize> = users.into_iter().chain(others).take(KEPT_UNCONNECTED).collect();
            let mut index = 0..;
            self.addresses.retain(|_| index.next().is_some_and(|index| kept.contains(&index)));
        }
    }

    pub(super) fn add(&mut self, address: Multiaddr, source: Source, expires: Instant) {
        if let Some(known) = self.find(&address) {
            known.expires = known.expires.max(expires);
            known.source = known.source.max(source);
            return;
        }
        self.push(Known { address, source, expires, worked: None, failures: 0, certified: false });
    }

    fn push(&mut self, known: Known) {
        self.addresses.push(known);
        if self.addresses.len() > MAX_ADDRESSES_PER_PEER {
            // It may be the one that was just added.
            let value = |known: &Known| {
                let manual = known.source == Source::Manual;
                (manual, known.worked, Reverse(known.failures), known.expires)
            };
            let least = self.addresses.iter().enumerate().min_by_key(|(_, known)| value(known));
            if let Some(least) = least.map(|(place, _)| place) {
                self.addresses.remove(least);
            }
        }
    }

    /// Notes a success, also at an address that was not known.
    pub(super) fn worked(&mut self, address: &Multiaddr, expires: Instant, now: Now) {
        if let Some(known) = self.find(address) {
            known.source = known.source.max(Source::Dialed);
            known.expires = known.expires.max(expires);
            known.worked = Some(now.mono);
            known.failures = 0;
            return;
        }
        // Worth more than any that did not work: makes its room before, not after, being judged.
        if self.addresses.len() >= MAX_ADDRESSES_PER_PEER {
            let idle = |known: &Known| known.source != Source::Manual && known.worked.is_none();
            let Some(place) = self.addresses.iter().position(idle) else {
                return;
            };
            self.addresses.remove(place);
        }
        let (address, worked) = (address.clone(), Some(now.mono));
        let source = Source::Dialed;
        self.addresses.push(Known { address, source, expires, worked, failures: 0, certified: false });
    }

    pub(super) fn failed(&mut self, address: &Multiaddr) {
        if let Some(known) = self.find(address) {
            known.worked = None;
            known.failures = known.failures.saturating_add(1);
        }
    }

    /// What the peer says now takes the place of what it said before. Its record is listened to if it is not older
    /// than the one that is there; one that is has no say.
    pub(super) fn identified(&mut self, peer: PeerId, said: Said, facts: Instant, addresses: Instant) {
        let mut protocols = said.protocols;
        protocols.truncate(MAX_PROTOCOLS_PER_PEER);
        self.facts = Some(Facts { protocols, agent: tidy(&said.agent, MAX_AGENT), expires: facts });
        let Some(new) = said.record else {
            // What it certified stays; what it only said before does not.
            self.replace(
                said.addresses.iter().filter_map(|said| address_of(peer, said).ok()).collect(),
                addresses,
            );
            return;
        };
        if self.record.as_ref().is_some_and(|old| old.record.seq() > new.record.seq()) {
            return;
        }
        for known in &mut self.addresses {
            known.certified = false;
        }
        let certified: Vec<_> =
            said.certified.iter().filter_map(|said| address_of(peer, said).ok()).collect();
        self.replace(certified.clone(), addresses);
        for known in &mut self.addresses {
            known.certified = certified.contains(&known.address);
        }
        self.record = Some(new);
    }

    /// These are the peer's addresses by its own account, and no others.
    fn replace(&mut self, new: Vec<Multiaddr>, expires: Instant) {
        self.addresses.retain(|known| {
            known.source != Source::Identify || known.certified || new.contains(&known.address)
        });
        for address in new.into_iter().take(MAX_ADDRESSES_PER_PEER) {
            self.add(address, Source::Identify, expires);
        }
    }

    /// What is kept of it on disk; `None` of a peer that was only spoken of.
    pub(super) fn kept(&self, now: Now) -> Option<Kept> {
        if self.standing() == Standing::Hearsay {
            return None;
        }
        let left = |until: Instant| {
            let left = until.saturating_duration_since(now.mono);
            // When this node comes back, it is as if the connection had just ended.
            if self.is_connected() { left.max(RECENT) } else { left }
        };
        let mut addresses = self.by_rank();
        addresses.truncate(MAX_ADDRESSES_PER_PEER);
        let address = |known: &Known| KeptAddress {
            address: known.address.clone(),
            source: known.source,
            left: left(known.expires),
            worked: known.worked.is_some(),
            failures: known.failures,
        };
        Some(Kept {
            addresses: addresses.into_iter().map(address).collect(),
            protocols: self.facts.as_ref().map(|facts| facts.protocols.clone()).unwrap_or_default(),
            agent: self.facts.as_ref().map(|facts| facts.agent.clone()),
            facts_left: self.facts.as_ref().map_or(Duration::ZERO, |facts| left(facts.expires)),
            record: self.record.clone(),
            security: self.security.clone(),
        })
    }

    /// Adds what was kept. What is known already is newer.
    pub(super) fn restore(&mut self, kept: Kept, now: Now) {
        let until = |left: Duration| now.after(left.min(NEVER));
        for KeptAddress { address, source, left, worked, failures } in kept.addresses {
            if self.find(&address).is_none() {
                let certified = false;
                let worked = worked.then_some(now.mono);
                self.push(Known { address, source, expires: until(left), worked, failures, certified });
            }
        }
        self.security = self.security.take().or(kept.security);
        if let (None, Some(agent)) = (&self.facts, kept.agent) {
            let (protocols, expires) = (kept.protocols, until(kept.facts_left));
            self.facts = Some(Facts { protocols, agent, expires });
        }
        if let (None, Some(record)) = (&self.record, kept.record) {
            for known in &mut self.addresses {
                known.certified = record.record.addresses().contains(&known.address);
            }
            self.record = Some(record);
        }
    }

    /// The addresses that are hearsay, or those that are not, best first: where it worked last, then where it failed
    /// least, then by trust.
    pub(super) fn ranked(&self, hearsay: bool) -> Vec<Multiaddr> {
        let ranked = self.by_rank().into_iter().filter(|known| known.is_hearsay() == hearsay);
        ranked.map(|known| known.address.clone()).collect()
    }

    pub(super) fn info(&self, peer: PeerId, now: Now) -> PeerInfo {
        let connected = self.is_connected();
        let left = |until: Instant| (!connected).then(|| until.saturating_duration_since(now.mono));
        let info = |known: &Known| AddressInfo {
            address: known.address.clone(),
            source: known.source,
            expires_in: left(known.expires),
            worked: known.worked.is_some(),
            failures: known.failures,
            certified: known.certified,
        };
        PeerInfo {
            peer,
            connected,
            addresses: self.by_rank().into_iter().map(info).collect(),
            protocols: self.facts.as_ref().map(|facts| facts.protocols.clone()).unwrap_or_default(),
            agent: self.facts.as_ref().map(|facts| facts.agent.clone()),
            record: self.record.as_ref().map(|certified| certified.envelope.clone()),
        }
    }

    fn by_rank(&self) -> Vec<&Known> {
        self.order().into_iter().filter_map(|index| self.addresses.get(index)).collect()
    }

    /// The indices of the addresses, the best first.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.addresses.len()).collect();
        order.sort_by_key(|&index| self.addresses.get(index).map(Known::rank));
        order
    }

    fn find(&mut self, address: &Multiaddr) -> Option<&mut Known> {
        self.addresses.iter_mut().find(|known| known.address == *address)
    }
}

impl Known {
    /// Whether others have named it, and nobody else.
    fn is_hearsay(&self) -> bool {
        self.source < Source::Dialed
    }

    /// The best have the least.
    fn rank(&self) -> impl Ord + use<> {
        let said = (Reverse(self.source), Reverse(self.certified));
        (Reverse(self.worked), self.failures, said, Reverse(self.expires))
    }
}

/// How long from `now` until `ttl` is over; without one, never.
pub(super) fn expiry(ttl: Option<Duration>, now: Now) -> Instant {
    now.after(ttl.unwrap_or(Duration::MAX))
}
