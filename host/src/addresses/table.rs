use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
};

use peerage_core::{Multiaddr, PeerId, Protocol};

use super::{Filter, OwnAddress, OwnSource, Reachability, filter::masked, is_path};
use crate::{hub::ConnInfo, limits::Direction, listen::ListenerId};

/// Peers of different networks that must observe an address before it counts.
pub const MIN_OBSERVERS: usize = 3;
/// Observers that are remembered of one address, the last ones.
pub const OBSERVERS_KEPT: usize = 10;
/// Observed addresses that are remembered, those with the most observers.
pub const MAX_OBSERVED: usize = 32;
/// Addresses that the user may announce.
pub const MAX_ANNOUNCED: usize = 64;

/// The own addresses of a node. Pure: interfaces and observations come in, lists come out.
#[derive(Debug, Default)]
pub(crate) struct Table {
    listeners: BTreeMap<ListenerId, Vec<Bound>>,
    /// How often `listeners` has changed.
    revision: u64,
    announced: Vec<Multiaddr>,
    hidden: Vec<Filter>,
    observed: BTreeMap<Multiaddr, VecDeque<Observer>>,
}

/// An address that a listener is bound to.
#[derive(Debug)]
struct Bound {
    address: Multiaddr,
    /// If it is a wildcard: what it stands for.
    interfaces: Vec<Multiaddr>,
}

/// Who observed an address. Peers of one network count once: one machine can be many peers.
#[derive(Debug, PartialEq, Eq)]
struct Observer {
    peer: PeerId,
    network: u128,
}

/// What a peer observed of one connection.
#[derive(Debug)]
pub(crate) struct Observation<'a> {
    pub(crate) connection: &'a ConnInfo,
    pub(crate) address: &'a Multiaddr,
}

impl Table {
    pub(crate) fn new(announced: Vec<Multiaddr>, hidden: Vec<Filter>) -> Self {
        let mut this = Self { hidden, ..Self::default() };
        for address in announced.into_iter().take(MAX_ANNOUNCED) {
            push(&mut this.announced, address.split_peer().0);
        }
        this
    }

    /// A listener is bound there. `interfaces`: the addresses of the machine.
    pub(crate) fn listening(&mut self, id: ListenerId, addresses: Vec<Multiaddr>, interfaces: &[IpAddr]) {
        let bound = |address: Multiaddr| {
            let interfaces = expand(&address, interfaces);
            Bound { address, interfaces }
        };
        self.listeners.insert(id, addresses.into_iter().map(bound).collect());
        self.revision = self.revision.wrapping_add(1);
    }

    /// A listener is not bound any more.
    pub(crate) fn not_listening(&mut self, id: ListenerId) {
        self.listeners.remove(&id);
        self.revision = self.revision.wrapping_add(1);
    }

    /// Whether a listener is bound to a wildcard.
    pub(crate) fn has_wildcard(&self) -> bool {
        self.bound().any(Multiaddr::is_unspecified)
    }

    /// What the addresses of the machine are now; whether that changes what a wildcard stands for.
    pub(crate) fn interfaces(&mut self, interfaces: &[IpAddr]) -> bool {
        let mut changed = false;
        for bound in self.listeners.values_mut().flatten() {
            let now = expand(&bound.address, interfaces);
            // In another order they are the same ones.
            let same = now.len() == bound.interfaces.len()
                && now.iter().all(|address| bound.interfaces.contains(address));
            if !same {
                bound.interfaces = now;
                changed = true;
            }
        }
        if changed {
            self.revision = self.revision.wrapping_add(1);
        }
        changed
    }

    /// Another one as soon as peers may be told something else than before.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// A peer says from where it sees this node come; `true` if that makes an address known.
    ///
    /// Only connections that this node opened count, from a port that it listens on: whoever comes in could make up
    /// anything, and an ephemeral port says nothing of where a listener is reached.
    pub(crate) fn observed(&mut self, observation: &Observation<'_>) -> bool {
        let Some((address, network)) = self.believable(observation) else {
            return false;
        };
        let peer = observation.connection.peer;
        let before = self.known_observed();
        // One peer, one vote; its network's former one is replaced, too.
        for (observed, observers) in &mut self.observed {
            observers
                .retain(|other| other.peer != peer && !(other.network == network && *observed == address));
        }
        self.observed.retain(|observed, observers| !observers.is_empty() || *observed == address);
        if !self.observed.contains_key(&address) && self.observed.len() >= MAX_OBSERVED {
            let least = self.observed.iter().min_by_key(|(_, observers)| observers.len());
            if let Some(least) = least.map(|(address, _)| address.clone()) {
                self.observed.remove(&least);
            }
        }
        let observers = self.observed.entry(address).or_default();
        if observers.len() >= OBSERVERS_KEPT {
            observers.pop_front();
        }
        observers.push_back(Observer { peer, network });
        self.known_observed() != before
    }

    /// The address without what the peer could not know, and the observer's network.
    fn believable(&self, observation: &Observation<'_>) -> Option<(Multiaddr, u128)> {
        let Observation { connection, address } = observation;
        if connection.direction != Direction::Outbound || connection.limited {
            return None;
        }
        let (observed, local) = (address.socket_addr()?, connection.local.socket_addr()?);
        let same_kind =
            observed.transport == local.transport && observed.addr.is_ipv4() == local.addr.is_ipv4();
        let useless = address.is_loopback() || address.is_unspecified() || observed.addr.port() == 0;
        let listens = self.bound().any(|bound| {
            bound.socket_addr().is_some_and(|bound| {
                bound.transport == local.transport
                    && bound.addr.port() == local.addr.port()
                    && bound.addr.is_ipv4() == local.addr.is_ipv4()
            })
        });
        // Inside a private network nobody sees how the internet does.
        let same_reach = connection.remote.is_public() == address.is_public();
        if !same_kind || useless || !listens || !same_reach {
            return None;
        }
        let observer = connection.remote.ip()?.to_canonical();
        let network = masked(observer, if observer.is_ipv4() { 24 } else { 56 })?;
        let family = u128::from(observer.is_ipv6()) << 127;
        Some((address.split_peer().0, network | family))
    }

    fn known_observed(&self) -> Vec<Multiaddr> {
        let known = self.observed.iter().filter(|(_, observers)| observers.len() >= MIN_OBSERVERS);
        known.map(|(address, _)| address.clone()).collect()
    }

    /// Where listeners are bound, wildcards as they are.
    pub(crate) fn bound(&self) -> impl Iterator<Item = &Multiaddr> {
        self.listeners.values().flatten().map(|bound| &bound.address)
    }

    /// What another node can dial, the most useful first: what the user announced, then by how far it reaches.
    pub(crate) fn dialable(&self) -> Vec<Multiaddr> {
        let mut all = self.announced.clone();
        let mut local: Vec<_> = self.local().map(|(address, _)| address).collect();
        local.sort_by_key(|address| address.is_loopback());
        local.into_iter().for_each(|address| push(&mut all, address.clone()));
        all
    }

    /// What a peer at the other end of `to` is told.
    pub(crate) fn told(&self, to: &ConnInfo) -> Vec<Multiaddr> {
        let (remote, local) = (to.nearness(), to.local.ip());
        // What has no IP address is a transport inside this machine.
        let same_machine = remote.is_loopback() || remote.ip().is_none();
        let fits = |address: &Multiaddr| {
            if is_path(address) {
                return false;
            }
            same_machine
                || (!self.is_hidden(address)
                    && !address.is_loopback()
                    // Nor does anybody else reach it there; what does reach further is announced.
                    && address.ip().is_some()
                    && (!remote.is_public() || address.is_public()))
        };
        let mut all = self.announced.clone();
        self.local()
            .map(|(address, _)| address)
            .filter(|address| fits(address))
            .for_each(|address| push(&mut all, address.clone()));
        // Where interfaces cannot be listed, the peer has found one.
        let blind = self.listeners.values().flatten().filter(|bound| {
            bound.address.is_unspecified()
                && bound.interfaces.is_empty()
                && to.direction == Direction::Inbound
        });
        blind
            .filter_map(|bound| with_ip(&bound.address, local?))
            .filter(|address| fits(address))
            .for_each(|address| push(&mut all, address));
        all
    }

    /// All of them, with what is known of each.
    pub(crate) fn all(&self) -> Vec<OwnAddress> {
        let mut all: BTreeMap<&Multiaddr, OwnAddress> = BTreeMap::new();
        let announced = self.announced.iter().map(|address| (address, OwnSource::Announced));
        let observed = self.observed.iter().filter(|(_, observers)| observers.len() >= MIN_OBSERVERS);
        let observed = observed.map(|(address, _)| (address, OwnSource::Observed));
        for (address, source) in self.local().chain(announced).chain(observed) {
            let own = all.entry(address).or_insert_with(|| OwnAddress {
                address: address.clone(),
                sources: Vec::new(),
                reachability: Reachability::Unverified,
                observers: self.observed.get(address).map_or(0, VecDeque::len),
                announced: false,
            });
            push(&mut own.sources, source);
            own.announced |= match source {
                OwnSource::Announced => true,
                OwnSource::Listen | OwnSource::Interface => !self.is_hidden(address) && !is_path(address),
                OwnSource::Observed => own.reachability == Reachability::Confirmed,
            };
        }
        all.into_values().collect()
    }

    /// What listeners make of this node's addresses, wildcards expanded.
    fn local(&self) -> impl Iterator<Item = (&Multiaddr, OwnSource)> {
        self.listeners.values().flatten().flat_map(|bound| {
            let own = (!bound.address.is_unspecified()).then_some((&bound.address, OwnSource::Listen));
            let interfaces = bound.interfaces.iter().map(|address| (address, OwnSource::Interface));
            own.into_iter().chain(interfaces)
        })
    }

    fn is_hidden(&self, address: &Multiaddr) -> bool {
        self.hidden.iter().any(|filter| filter.matches(address))
    }
}

/// The addresses of the machine's interfaces that a wildcard stands for.
fn expand(address: &Multiaddr, interfaces: &[IpAddr]) -> Vec<Multiaddr> {
    let Some(wildcard) = address.ip().filter(IpAddr::is_unspecified) else {
        return Vec::new();
    };
    let reaches = |ip: &&IpAddr| match ip {
        IpAddr::V4(ip) => wildcard.is_ipv4() && !ip.is_unspecified(),
        // Link-local ones mean nothing without their zone.
        IpAddr::V6(ip) => wildcard.is_ipv6() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
    };
    let mut all = Vec::new();
    let expanded = interfaces.iter().filter(reaches).filter_map(|ip| with_ip(address, *ip));
    expanded.for_each(|address| push(&mut all, address));
    all
}

/// The address with another IP at the bottom.
fn with_ip(address: &Multiaddr, ip: IpAddr) -> Option<Multiaddr> {
    let mut above = address.iter().skip_while(|part| matches!(part, Protocol::Ip6zone(_)));
    let old = above.next()?;
    let ip = match (ip, old) {
        (IpAddr::V4(ip), Protocol::Ip4(_)) => Protocol::Ip4(ip),
        (IpAddr::V6(ip), Protocol::Ip6(_)) => Protocol::Ip6(ip),
        _ => return None,
    };
    std::iter::once(ip).chain(above).try_fold(Multiaddr::empty(), |to, next| to.with(next).ok())
}

/// Adds what is not there; lists of addresses are short.
fn push<T: PartialEq>(to: &mut Vec<T>, new: T) {
    if !to.contains(&new) {
        to.push(new);
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
