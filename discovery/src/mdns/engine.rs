use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Multiaddr, Now, PeerId, engine, engine::Rng};
use peerage_host::Reply;
use rand::RngExt as _;

use super::{
    Event, Found,
    codec::{self, Announced, Instance, Message, Names, Query, Question, Response},
    link::{Link, LinkId},
    name::Name,
    own::Own,
};

/// How long what this node says holds.
pub const TTL: Duration = Duration::from_secs(120);
/// How long what others say holds at most, whatever they say; they are asked again long before.
pub const MAX_TTL: Duration = Duration::from_secs(600);
/// How long what was taken back still holds, so that who else said it can say so again (RFC 6762, 10.1).
pub const GOODBYE: Duration = Duration::from_secs(1);
/// The time between the first two questions; each further one is twice as long, up to [`MAX_INTERVAL`] (RFC 6762, 5.2).
pub const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// Three times within [`TTL`], so that two answers may be lost.
pub const MAX_INTERVAL: Duration = Duration::from_secs(40);
/// How long others' questions may keep this node from asking itself (RFC 6762, 7.3).
pub const MAX_QUIET: Duration = Duration::from_secs(80);
/// The same is not said again on a link sooner (RFC 6762, 6). Questions that come meanwhile share one answer.
pub const ANSWER_EVERY: Duration = Duration::from_secs(1);
/// Before an answer, and before the first question: so that not all nodes speak at once (RFC 6762, 6).
pub const JITTER: std::ops::Range<u64> = 20..120;
/// How often news of this node are said, [`ANSWER_EVERY`] between (RFC 6762, 8.3).
pub const ANNOUNCEMENTS: u8 = 2;
/// Peers that are known at once. With [`MAX_TTL`], more than [`MAX_FOUND_PER_MINUTE`] can make of them.
pub const MAX_PEERS: usize = 1024;
/// Addresses of one peer.
pub const MAX_ADDRESSES_PER_PEER: usize = 16;
/// Instances by which a peer can be taken back; the last ones. rust-libp2p has another one in every answer.
pub const MAX_INSTANCES_PER_PEER: usize = 8;
/// How often what has expired is looked for at most.
pub const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often a peer, or something new of a peer, is found in a minute. What comes beyond that is not kept.
pub const MAX_FOUND_PER_MINUTE: usize = 100;
/// Dials under way at once, if found peers are dialed.
pub const MAX_DIALS: usize = 8;
/// How long a link rests that failed.
pub const RETRY: Duration = Duration::from_secs(30);

const MINUTE: Duration = Duration::from_secs(60);

/// Who is there, and when this node speaks.
#[derive(Debug)]
pub(crate) struct Engine {
    me: PeerId,
    names: Names,
    dials: bool,
    rng: Rng,
    links: BTreeMap<LinkId, State>,
    addresses: Vec<Multiaddr>,
    peers: BTreeMap<PeerId, Peer>,
    /// Whose an instance is.
    instances: BTreeMap<Arc<Name>, PeerId>,
    /// When what has expired is looked for next.
    sweep_at: Option<Instant>,
    swept: Option<Instant>,
    /// When the minute began that is counted, and how many were found in it.
    minute: Option<(Instant, usize)>,
    dialing: BTreeSet<PeerId>,
    to_dial: VecDeque<PeerId>,
    actions: VecDeque<Action>,
}

/// A link that is spoken on.
#[derive(Debug)]
struct State {
    link: Link,
    own: Own,
    /// By which own questions are known.
    id: u16,
    asked: Instant,
    ask_at: Instant,
    interval: Duration,
    answer: Paced,
    services: Paced,
    announcements: u8,
    /// Set while the link does not work.
    retry_at: Option<Instant>,
}

/// Something that is said when it was asked for, but not too often.
#[derive(Debug, Default)]
struct Paced {
    last: Option<Instant>,
    due: Option<Instant>,
}

#[derive(Debug, Default)]
struct Peer {
    addresses: BTreeMap<Multiaddr, Known>,
    instances: VecDeque<Arc<Name>>,
    /// When the peer book was told last.
    remembered: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    /// Which instance said so last.
    instance: Arc<Name>,
    expires: Instant,
}

#[derive(Debug)]
pub(crate) enum Command {
    /// The links that there are now.
    Links(Vec<Link>),
    /// This node's addresses as they are now.
    Own(Vec<Multiaddr>),
    /// Who is known?
    Peers(Reply<Vec<Found>>),
}

#[derive(Debug)]
pub(crate) enum Input {
    /// A message came, from an address.
    Heard { link: LinkId, from: IpAddr, message: Message },
    /// A link cannot be spoken on.
    Failed { link: LinkId },
    /// A dial has ended, well or not.
    Dialed { peer: PeerId },
}

#[derive(Debug)]
pub(crate) enum Action {
    Open(Link),
    Close(LinkId),
    /// Say something on a link.
    Send {
        link: LinkId,
        messages: Vec<Vec<u8>>,
    },
    /// What is to be said when the link is closed, however that happens.
    Farewell {
        link: LinkId,
        messages: Vec<Vec<u8>>,
    },
    Remember {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        ttl: Duration,
    },
    Dial {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    Tell(Event),
    Answer {
        reply: Reply<Vec<Found>>,
        peers: Vec<Found>,
    },
}

impl Engine {
    pub(crate) fn new(me: PeerId, names: Names, dials: bool, rng: Rng) -> Self {
        Self {
            me,
            names,
            dials,
            rng,
            links: BTreeMap::new(),
            addresses: Vec::new(),
            peers: BTreeMap::new(),
            instances: BTreeMap::new(),
            sweep_at: None,
            swept: None,
            minute: None,
            dialing: BTreeSet::new(),
            to_dial: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// A link whose socket would be another one is closed and opened again. On the others addresses come and go.
    fn links(&mut self, links: Vec<Link>, now: Now) {
        let stays = |state: &State| links.iter().any(|link| link.has_socket_of(&state.link));
        let gone: Vec<LinkId> =
            self.links.values().filter(|state| !stays(state)).map(|state| state.link.id).collect();
        for id in gone {
            self.links.remove(&id);
            self.actions.push_back(Action::Close(id));
        }
        for link in links {
            match self.links.get_mut(&link.id) {
                None => self.open(link, now),
                Some(state) if state.link != link => {
                    let id = link.id;
                    state.link = link;
                    self.update(id, now);
                }
                Some(_) => {}
            }
        }
    }

    fn open(&mut self, link: Link, now: Now) {
        let id = link.id;
        self.actions.push_back(Action::Open(link.clone()));
        let ask_at = now.after(jitter(&mut self.rng));
        let state = State {
            link,
            own: Own::default(),
            id: self.rng.random_range(1..=u16::MAX),
            asked: now.mono,
            ask_at,
            interval: FIRST_INTERVAL,
            answer: Paced::default(),
            services: Paced::default(),
            announcements: 0,
            retry_at: None,
        };
        self.links.insert(id, state);
        self.update(id, now);
    }

    /// Says on a link what of this node has changed there.
    fn update(&mut self, id: LinkId, now: Now) {
        let Self { links, names, rng, actions, .. } = self;
        let Some(state) = links.get_mut(&id).filter(|state| state.retry_at.is_none()) else { return };
        let Some(gone) = state.own.update(names, &state.link, self.me, &self.addresses, rng) else { return };
        if !gone.is_empty() {
            actions.push_back(Action::Send { link: id, messages: messages(names, &gone, Duration::ZERO) });
        }
        let farewell = messages(names, state.own.instances(), Duration::ZERO);
        actions.push_back(Action::Farewell { link: id, messages: farewell });
        if !state.own.instances().is_empty() {
            state.announcements = ANNOUNCEMENTS;
            state.answer.ask(now, Duration::ZERO);
        }
    }

    fn heard(&mut self, id: LinkId, from: IpAddr, message: Message, now: Now) {
        let Some(state) = self.links.get_mut(&id).filter(|state| state.retry_at.is_none()) else { return };
        if !state.link.is_source(from) {
            return;
        }
        match message {
            Message::Query(query) => state.asked_for(&query, &mut self.rng, now),
            // Nothing is ever said to an answer.
            Message::Response(response) => {
                let link = state.link.clone();
                self.response(&link, response, now);
            }
        }
    }

    fn response(&mut self, link: &Link, response: Response, now: Now) {
        let soon = now.after(GOODBYE);
        for gone in response.gone {
            if let Some(peer) = self.instances.get(&gone).copied() {
                self.expire_sooner(peer, soon, |known, _| *known.instance == gone);
            }
        }
        for announced in response.announced {
            if announced.peer == self.me {
                continue;
            }
            let Announced { ref instance, peer, ref addresses, ttl, whole } = announced;
            if ttl.is_zero() {
                self.expire_sooner(peer, soon, |_, address| addresses.contains(address));
                continue;
            }
            if whole {
                let dropped = |known: &Known, address: &Multiaddr| {
                    *known.instance == *instance && !addresses.contains(address)
                };
                self.expire_sooner(peer, soon, dropped);
            }
            self.found(link, announced, now);
        }
    }

    fn found(&mut self, link: &Link, announced: Announced, now: Now) {
        let Announced { instance, peer, mut addresses, ttl, .. } = announced;
        addresses.retain(|address| link.leads_to(address));
        let ttl = ttl.min(MAX_TTL);
        let expires = now.after(ttl);
        let known = self.peers.get(&peer);
        let count = known.map_or(0, |known| known.addresses.len());
        let is_new = |address: &Multiaddr| known.is_none_or(|known| !known.addresses.contains_key(address));
        let (new, old): (Vec<Multiaddr>, Vec<Multiaddr>) = addresses.into_iter().partition(is_new);
        let room = MAX_ADDRESSES_PER_PEER.saturating_sub(count);
        let new: Vec<Multiaddr> = new.into_iter().take(room).collect();
        let place = known.is_some() || self.peers.len() < MAX_PEERS;
        let news = !new.is_empty() && place && self.finds(now);
        let kept: Vec<Multiaddr> = if news { [old, new].concat() } else { old };
        if kept.is_empty() {
            return;
        }
        let instance = Arc::new(instance);
        let known = self.peers.entry(peer).or_default();
        for address in &kept {
            known.addresses.insert(address.clone(), Known { instance: instance.clone(), expires });
        }
        if !known.instances.contains(&instance) {
            known.instances.push_back(instance.clone());
            if known.instances.len() > MAX_INSTANCES_PER_PEER
                && let Some(oldest) = known.instances.pop_front()
            {
                forget(&mut self.instances, &oldest, peer);
            }
            self.instances.insert(instance, peer);
        }
        let stale = known.remembered.is_none_or(|at| now.since(at) >= half(ttl));
        if news || stale {
            known.remembered = Some(now.mono);
            self.actions.push_back(Action::Remember { peer, addresses: kept, ttl });
        }
        let all: Vec<Multiaddr> = known.addresses.keys().cloned().collect();
        self.sweep_by(expires);
        if news {
            let addresses = all;
            self.actions.push_back(Action::Tell(Event::Found { peer, addresses }));
            if self.dials && !self.to_dial.contains(&peer) && !self.dialing.contains(&peer) {
                self.to_dial.push_back(peer);
                self.dial();
            }
        }
    }

    /// Whether one more may be found.
    fn finds(&mut self, now: Now) -> bool {
        let minute = self.minute.filter(|(began, _)| now.since(*began) < MINUTE);
        let (began, count) = minute.unwrap_or((now.mono, 0));
        if count >= MAX_FOUND_PER_MINUTE {
            return false;
        }
        self.minute = Some((began, count.saturating_add(1)));
        true
    }

    fn dial(&mut self) {
        while self.dialing.len() < MAX_DIALS
            && let Some(peer) = self.to_dial.pop_front()
        {
            if let Some(known) = self.peers.get(&peer) {
                self.dialing.insert(peer);
                let addresses = known.addresses.keys().cloned().collect();
                self.actions.push_back(Action::Dial { peer, addresses });
            }
        }
    }

    fn expire_sooner(&mut self, peer: PeerId, at: Instant, which: impl Fn(&Known, &Multiaddr) -> bool) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let mut sooner = false;
        for (address, known) in &mut known.addresses {
            if known.expires > at && which(known, address) {
                known.expires = at;
                sooner = true;
            }
        }
        if sooner {
            self.sweep_by(at);
        }
    }

    /// Something expires then. Somebody may make something expire in every message.
    fn sweep_by(&mut self, at: Instant) {
        let earliest =
            self.swept.and_then(|last| last.checked_add(SWEEP_EVERY)).map_or(at, |next| next.max(at));
        self.sweep_at = Some(self.sweep_at.map_or(earliest, |planned| planned.min(earliest)));
    }

    fn sweep(&mut self, now: Now) {
        if self.sweep_at.is_none_or(|at| at > now.mono) {
            return;
        }
        let Self { peers, instances, actions, to_dial, .. } = self;
        peers.retain(|peer, known| {
            known.addresses.retain(|_, known| known.expires > now.mono);
            if !known.addresses.is_empty() {
                return true;
            }
            for instance in &known.instances {
                forget(instances, instance, *peer);
            }
            to_dial.retain(|waiting| waiting != peer);
            actions.push_back(Action::Tell(Event::Expired { peer: *peer }));
            false
        });
        (self.swept, self.sweep_at) = (Some(now.mono), None);
        let left = self.peers.values().flat_map(|known| known.addresses.values());
        if let Some(next) = left.map(|known| known.expires).min() {
            self.sweep_by(next);
        }
    }

    fn speak(&mut self, now: Now) {
        let Self { links, names, rng, actions, .. } = self;
        let mut reopen = Vec::new();
        for (id, state) in links {
            if let Some(at) = state.retry_at {
                if at <= now.mono {
                    reopen.push(*id);
                }
                continue;
            }
            let mut messages = Vec::new();
            if state.ask_at <= now.mono {
                messages.push(codec::query(names, state.id));
                state.asked = now.mono;
                state.ask_at = now.after(state.interval.saturating_add(jitter(rng)));
                state.interval = state.interval.saturating_mul(2).min(MAX_INTERVAL);
            }
            if state.answer.is_due(now) {
                messages.extend(self::messages(names, state.own.instances(), TTL));
                state.announcements = state.announcements.saturating_sub(1);
                if state.announcements > 0 {
                    state.answer.ask(now, Duration::ZERO);
                }
            }
            if state.services.is_due(now) {
                messages.push(codec::services(names, TTL));
            }
            if !messages.is_empty() {
                actions.push_back(Action::Send { link: *id, messages });
            }
        }
        for id in reopen {
            if let Some(state) = self.links.remove(&id) {
                self.open(state.link, now);
            }
        }
    }

    fn known(&self, now: Now) -> Vec<Found> {
        let found = |(peer, known): (&PeerId, &Peer)| Found {
            peer: *peer,
            addresses: known.addresses.keys().cloned().collect(),
            expires_in: known
                .addresses
                .values()
                .map(|known| known.expires.saturating_duration_since(now.mono))
                .max()
                .unwrap_or_default(),
        };
        self.peers.iter().map(found).collect()
    }
}

impl State {
    fn asked_for(&mut self, query: &Query, rng: &mut Rng, now: Now) {
        for question in &query.questions {
            match question {
                Question::Peers => {
                    // Who asks for all saves others the same question; but not for ever.
                    if query.id != self.id && query.known.is_empty() {
                        let quiet = now.after(self.interval.saturating_add(jitter(rng)));
                        let latest = self.asked.checked_add(MAX_QUIET).unwrap_or(quiet);
                        self.ask_at = self.ask_at.max(quiet.min(latest));
                    }
                    let instances = self.own.instances();
                    let knows = |instance: &Instance| {
                        query.known.iter().any(|(name, ttl)| *name == instance.name && *ttl >= half(TTL))
                    };
                    if !instances.iter().all(knows) {
                        self.answer.ask(now, jitter(rng));
                    }
                }
                Question::Services => {
                    if !self.own.instances().is_empty() {
                        self.services.ask(now, jitter(rng));
                    }
                }
                Question::About(name) => {
                    if self.own.has(name) {
                        self.answer.ask(now, jitter(rng));
                    }
                }
            }
        }
    }
}

impl Paced {
    /// It shall be said after a wait, or when it may be said again.
    fn ask(&mut self, now: Now, wait: Duration) {
        let at = now.after(wait);
        let earliest =
            self.last.and_then(|last| last.checked_add(ANSWER_EVERY)).map_or(at, |next| next.max(at));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    fn is_due(&mut self, now: Now) -> bool {
        let due = self.due.is_some_and(|at| at <= now.mono);
        if due {
            (self.last, self.due) = (Some(now.mono), None);
        }
        due
    }
}

/// An instance is the peer's no more. Another one may have taken its name since.
fn forget(instances: &mut BTreeMap<Arc<Name>, PeerId>, instance: &Name, peer: PeerId) {
    if instances.get(instance) == Some(&peer) {
        instances.remove(instance);
    }
}

fn half(ttl: Duration) -> Duration {
    ttl.checked_div(2).unwrap_or_default()
}

fn jitter(rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.random_range(JITTER))
}

fn messages(names: &Names, instances: &[Instance], ttl: Duration) -> Vec<Vec<u8>> {
    instances.iter().map(|instance| codec::announcement(names, instance, ttl)).collect()
}

impl engine::Engine for Engine {
    type Command = Command;
    type Input = Input;
    type Action = Action;

    fn handle_command(&mut self, command: Command, now: Now) {
        match command {
            Command::Links(links) => self.links(links, now),
            Command::Own(addresses) => {
                self.addresses = addresses;
                let ids: Vec<LinkId> = self.links.keys().copied().collect();
                ids.into_iter().for_each(|id| self.update(id, now));
            }
            Command::Peers(reply) => {
                let peers = self.known(now);
                self.actions.push_back(Action::Answer { reply, peers });
            }
        }
    }

    fn handle_input(&mut self, input: Input, now: Now) {
        match input {
            Input::Heard { link, from, message } => self.heard(link, from, message, now),
            Input::Failed { link } => {
                if let Some(state) = self.links.get_mut(&link)
                    && state.retry_at.is_none()
                {
                    state.retry_at = Some(now.after(RETRY));
                    self.actions.push_back(Action::Close(link));
                }
            }
            Input::Dialed { peer } => {
                self.dialing.remove(&peer);
                self.dial();
            }
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        self.sweep(now);
        self.speak(now);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let speaks = |state: &State| match state.retry_at {
            Some(at) => Some(Deadline { at, reason: "a link that failed is tried again" }),
            None => [
                Some(Deadline { at: state.ask_at, reason: "who is there is asked" }),
                state.answer.due.map(|at| Deadline { at, reason: "who this node is, is said" }),
                state.services.due.map(|at| Deadline { at, reason: "which service there is, is said" }),
            ]
            .into_iter()
            .fold(None, Deadline::earlier),
        };
        let links = self.links.values().map(speaks).fold(None, Deadline::earlier);
        let sweep = self.sweep_at.map(|at| Deadline { at, reason: "what others said has expired" });
        Deadline::earlier(links, sweep)
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
