use std::{
    cmp::Reverse,
    collections::BTreeSet,
    time::{Duration, Instant},
};

use peerage_core::{Multiaddr, Now, PeerId, ProtocolId};

use super::{AddressInfo, PeerInfo, Source};
use crate::{dial::tidy, limits::ConnectionId};

/// The most addresses that are kept of one peer. The user's stay longest, then those that worked; of the others, those
/// that failed least and expire last.
pub const MAX_ADDRESSES_PER_PEER: usize = 64;
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
    /// This node talked with it.
    Met,
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
        Self { addresses: Vec::new(), connections: BTreeSet::new(), facts: None, used: now.mono }
    }

    pub(super) fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }

    /// What it is worth when there is no room for all.
    pub(super) fn standing(&self) -> Standing {
        if self.addresses.iter().any(|known| known.source == Source::Manual) {
            Standing::Manual
        } else if self.facts.is_some() || self.addresses.iter().any(|known| known.worked.is_some()) {
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
    }

    /// Forgets everything but the connections.
    pub(super) fn forget(&mut self) {
        self.addresses.clear();
        self.facts = None;
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

    pub(super) fn add(&mut self, address: Multiaddr, source: Source, expires: Instant) {
        if let Some(known) = self.find(&address) {
            known.expires = known.expires.max(expires);
            known.source = known.source.max(source);
            return;
        }
        self.addresses.push(Known { address, source, expires, worked: None, failures: 0 });
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
        self.addresses.push(Known { address, source: Source::Dialed, expires, worked, failures: 0 });
    }

    pub(super) fn failed(&mut self, address: &Multiaddr) {
        if let Some(known) = self.find(address) {
            known.worked = None;
            known.failures = known.failures.saturating_add(1);
        }
    }

    pub(super) fn identified(&mut self, mut protocols: Vec<ProtocolId>, agent: &str, expires: Instant) {
        protocols.truncate(MAX_PROTOCOLS_PER_PEER);
        self.facts = Some(Facts { protocols, agent: tidy(agent, MAX_AGENT), expires });
    }

    /// The addresses, best first: where it worked last, then where it failed least, then by trust.
    pub(super) fn ranked(&self) -> Vec<Multiaddr> {
        self.by_rank().into_iter().map(|known| known.address.clone()).collect()
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
        };
        PeerInfo {
            peer,
            connected,
            addresses: self.by_rank().into_iter().map(info).collect(),
            protocols: self.facts.as_ref().map(|facts| facts.protocols.clone()).unwrap_or_default(),
            agent: self.facts.as_ref().map(|facts| facts.agent.clone()),
        }
    }

    fn by_rank(&self) -> Vec<&Known> {
        let mut all: Vec<_> = self.addresses.iter().collect();
        all.sort_by_key(|known| {
            (Reverse(known.worked), known.failures, Reverse(known.source), Reverse(known.expires))
        });
        all
    }

    fn find(&mut self, address: &Multiaddr) -> Option<&mut Known> {
        self.addresses.iter_mut().find(|known| known.address == *address)
    }
}

/// How long from `now` until `ttl` is over; without one, never.
pub(super) fn expiry(ttl: Option<Duration>, now: Now) -> Instant {
    now.after(ttl.unwrap_or(Duration::MAX))
}
