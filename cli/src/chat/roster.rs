//! Who is there, who is on the way, and what they are called.

use std::collections::BTreeMap;

use peerage::{Multiaddr, PeerId};
use tokio::{
    sync::mpsc,
    task::{self, AbortHandle},
    time::Instant,
};

use super::{
    links::Line,
    means,
    transfers::People,
    wire::{GREETING, Greeting, MAX_ADDRESSES, MAX_PARTICIPANTS},
};

/// Lines that wait for one participant.
const QUEUE: usize = 256;

/// Who is there, and who is on the way.
pub(super) struct Roster {
    me: PeerId,
    name: String,
    addresses: Vec<Multiaddr>,
    participants: BTreeMap<PeerId, Participant>,
}

pub(super) struct Participant {
    /// Known once they have greeted.
    pub(super) name: Option<String>,
    /// Where they are reached.
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) hearing: Option<AbortHandle>,
    pub(super) speaking: AbortHandle,
    /// Whether they can be spoken to.
    pub(super) reached: bool,
    lines: mpsc::Sender<Line>,
    since: Instant,
}

impl Participant {
    /// The queue of a participant, and its end for the task that speaks.
    pub(super) fn queue() -> (mpsc::Sender<Line>, mpsc::Receiver<Line>) {
        mpsc::channel(QUEUE)
    }

    /// Somebody who has not greeted.
    pub(super) fn new(addresses: Vec<Multiaddr>, speaking: AbortHandle, lines: mpsc::Sender<Line>) -> Self {
        Self { name: None, addresses, hearing: None, speaking, reached: false, lines, since: Instant::now() }
    }

    fn is_there(&self) -> bool {
        self.name.is_some() && self.reached
    }

    /// Whether what is said is also for them. Who has greeted and cannot be spoken to yet hears it in a moment.
    fn listens(&self) -> bool {
        self.name.is_some() || self.reached
    }
}

impl Roster {
    /// Nobody but `me`.
    pub(super) fn new(me: PeerId, name: String, addresses: Vec<Multiaddr>) -> Self {
        Self { me, name, addresses, participants: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.participants.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.participants.len() >= MAX_PARTICIPANTS
    }

    /// Whether that is a participant, or oneself.
    pub(super) fn knows(&self, peer: PeerId) -> bool {
        peer == self.me || self.participants.contains_key(&peer)
    }

    /// Whether they speak to us.
    pub(super) fn hears(&self, peer: PeerId) -> bool {
        self.participants.get(&peer).is_some_and(|one| one.hearing.is_some())
    }

    pub(super) fn participant(&mut self, peer: PeerId) -> Option<&mut Participant> {
        self.participants.get_mut(&peer)
    }

    pub(super) fn insert(&mut self, peer: PeerId, participant: Participant) {
        self.participants.insert(peer, participant);
    }

    pub(super) fn remove(&mut self, peer: PeerId) -> Option<Participant> {
        self.participants.remove(&peer)
    }

    /// Whether everybody who is on the way has arrived.
    pub(super) fn has_settled(&self) -> bool {
        !self.is_empty() && self.participants.values().all(Participant::is_there)
    }

    /// Whether there is somebody to speak to, and nobody of them has a full queue.
    pub(super) fn can_hear(&self) -> bool {
        let mut listeners = self.participants.values().filter(|one| one.listens()).peekable();
        listeners.peek().is_some() && listeners.all(|one| one.lines.capacity() > 0)
    }

    /// Says a line to everybody.
    pub(super) fn tell(&self, text: &str) {
        let line = Line { text: text.into(), at: Instant::now() };
        for participant in self.participants.values().filter(|one| one.listens()) {
            // There is room, or the task has just ended and says so.
            let _ = participant.lines.try_send(line.clone());
        }
    }

    /// How one greets somebody now.
    pub(super) fn greeting(&self) -> Greeting {
        let others = self.participants.iter();
        let others =
            others.flat_map(|(peer, one)| one.addresses.iter().map(|address| (*peer, address.clone())));
        Greeting {
            name: self.name.clone(),
            addresses: self
                .addresses
                .iter()
                .take(MAX_ADDRESSES)
                .map(|address| address.split_peer().0)
                .collect(),
            others: others.collect(),
        }
    }

    /// Those who should have greeted by now.
    pub(super) fn late(&self) -> Vec<PeerId> {
        let late = |one: &Participant| !one.is_there() && one.since.elapsed() > GREETING;
        self.participants.iter().filter(|(_, one)| late(one)).map(|(peer, _)| *peer).collect()
    }

    /// The name of a participant, with a piece of the peer id if somebody else is called the same.
    pub(super) fn called(&self, peer: PeerId) -> String {
        let Some(name) = self.participants.get(&peer).and_then(|one| one.name.as_ref()) else {
            return peer.short();
        };
        let same = |other: &str| other.to_lowercase() == name.to_lowercase();
        let mut others = self.participants.iter().filter(|(other, _)| **other != peer);
        if same(&self.name) || others.any(|(_, one)| one.name.as_deref().is_some_and(same)) {
            format!("{name} ({})", peer.short())
        } else {
            name.clone()
        }
    }

    /// All who have greeted, as they are called.
    pub(super) fn names(&self) -> Vec<String> {
        let greeted = self.participants.iter().filter(|(_, one)| one.name.is_some());
        greeted.map(|(peer, _)| self.called(*peer)).collect()
    }

    /// Ends all queues: the tasks say what is left in them, and then goodbye. Returns the tasks, and to whom they
    /// speak.
    pub(super) fn end(&mut self) -> Vec<(task::Id, String)> {
        let listeners = self.participants.iter().filter(|(_, one)| one.listens());
        let tasks = listeners.map(|(peer, one)| (one.speaking.id(), self.called(*peer))).collect();
        self.participants.clear();
        tasks
    }
}

impl People for Roster {
    fn are_here(&self) -> bool {
        self.has_settled()
    }

    fn is_here(&self, peer: PeerId) -> bool {
        self.participants.get(&peer).is_some_and(|one| one.name.is_some())
    }

    fn called(&self, peer: PeerId) -> String {
        Self::called(self, peer)
    }

    fn find(&self, meant: &str) -> Result<PeerId, Vec<String>> {
        let fits = |peer: PeerId, one: &Participant| {
            one.name.as_deref().is_some_and(|name| means(meant, peer, name))
        };
        let participants = self.participants.iter();
        let found: Vec<PeerId> =
            participants.filter(|(peer, one)| fits(**peer, one)).map(|(peer, _)| *peer).collect();
        match found[..] {
            [one] => Ok(one),
            _ => Err(found.into_iter().map(|peer| self.called(peer)).collect()),
        }
    }
}

/// Whether somebody at `by` may send us to `address`: nobody on another machine gets this one to dial itself, and
/// nobody on the internet gets it to dial its own network. Names could stand for both.
pub(super) fn is_in_reach(by: &Multiaddr, address: &Multiaddr) -> bool {
    if address.is_unspecified() || address.ip().is_none() {
        false
    } else if address.is_loopback() {
        by.is_loopback()
    } else if address.is_private() {
        by.is_loopback() || by.is_private()
    } else {
        true
    }
}

#[cfg(test)]
mod tests {
    use peerage::Keypair;

    use super::*;

    #[test]
    fn introductions_lead_no_further_in_than_whoever_makes_them() {
        let (here, lan, internet) = ("/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.7/tcp/1", "/ip4/8.8.8.8/tcp/1");
        let reach = |by: &str, to: &str| is_in_reach(&by.parse().unwrap(), &to.parse().unwrap());
        for (by, expected) in
            [(here, [true, true, true]), (lan, [false, true, true]), (internet, [false, false, true])]
        {
            assert_eq!([here, lan, internet].map(|to| reach(by, to)), expected, "{by}");
        }
        for to in ["/ip4/0.0.0.0/tcp/1", "/dns4/127.0.0.1/tcp/1", "/dns/example.com/tcp/1"] {
            assert!(!reach(here, to), "{to}");
        }
    }

    fn participant(name: &str) -> (PeerId, Participant, mpsc::Receiver<Line>) {
        let (lines, queue) = Participant::queue();
        let mut participant = Participant::new(Vec::new(), tokio::spawn(async {}).abort_handle(), lines);
        participant.name = Some(name.to_owned());
        participant.reached = true;
        (Keypair::generate().peer_id(), participant, queue)
    }

    #[tokio::test]
    async fn names_that_clash_get_a_piece_of_the_peer_id() {
        let mut roster = Roster::new(Keypair::generate().peer_id(), "ada".to_owned(), Vec::new());
        let people = ["bob", "Bob", "Ada", "eve"].map(participant);
        let ids: Vec<PeerId> = people.iter().map(|(peer, ..)| *peer).collect();
        for (peer, participant, _) in people {
            roster.insert(peer, participant);
        }
        let called: Vec<String> = ids.iter().map(|peer| roster.called(*peer)).collect();
        let with_id = |name: &str, at: usize| format!("{name} ({})", ids[at].short());
        assert_eq!(called, [with_id("bob", 0), with_id("Bob", 1), with_id("Ada", 2), "eve".to_owned()]);
    }

    #[tokio::test]
    async fn nothing_is_said_while_a_queue_is_full_and_nothing_is_lost() {
        let mut roster = Roster::new(Keypair::generate().peer_id(), "ada".to_owned(), Vec::new());
        assert!(!roster.can_hear() && !roster.has_settled());
        let (bob, participant, mut queue) = participant("bob");
        roster.insert(bob, participant);
        assert!(roster.has_settled());
        let mut said = 0;
        while roster.can_hear() {
            roster.tell("line");
            said += 1;
        }
        assert_eq!(said, QUEUE);
        roster.end();
        let mut heard = 0;
        while queue.recv().await.is_some() {
            heard += 1;
        }
        assert_eq!(heard, said);
    }
}
