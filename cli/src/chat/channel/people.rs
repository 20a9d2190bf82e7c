//! Who was heard in a room lately, and what they are called.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use peerage::PeerId;

use crate::chat::{means, transfers};

/// Participants that are kept. What others say is shown all the same.
pub(super) const MAX_PEOPLE: usize = 500;
/// So long somebody is taken for present without a word: three times what they let pass between two.
pub(super) const SILENCE: Duration = Duration::from_secs(35);

pub(super) struct People {
    me: String,
    people: BTreeMap<PeerId, Person>,
}

struct Person {
    name: String,
    heard: Instant,
}

impl People {
    pub(super) fn new(me: String) -> Self {
        Self { me, people: BTreeMap::new() }
    }

    /// Somebody was heard who calls themselves so. Whether they are new.
    pub(super) fn heard(&mut self, peer: PeerId, name: String, now: Instant) -> bool {
        let name = if name.is_empty() { peer.short() } else { name };
        let room = self.people.len() < MAX_PEOPLE;
        match self.people.get_mut(&peer) {
            Some(person) => {
                *person = Person { name, heard: now };
                false
            }
            None if room => self.people.insert(peer, Person { name, heard: now }).is_none(),
            None => false,
        }
    }

    /// What to call somebody: by their name, with the end of the id where others have the same.
    pub(super) fn called(&self, peer: PeerId) -> String {
        let Some(Person { name, .. }) = self.people.get(&peer) else { return peer.short() };
        let same = |other: &str| other.to_lowercase() == name.to_lowercase();
        let twice = self.people.iter().any(|(other, person)| *other != peer && same(&person.name));
        if twice || same(&self.me) { format!("{name} ({})", peer.short()) } else { name.clone() }
    }

    /// Whom somebody means by a name, or by the end of an id. `Err` has all that it could mean.
    pub(super) fn find(&self, meant: &str) -> Result<PeerId, Vec<String>> {
        let people = self.people.iter().filter(|(peer, person)| means(meant, **peer, &person.name));
        let found: Vec<PeerId> = people.map(|(peer, _)| *peer).collect();
        match found[..] {
            [one] => Ok(one),
            _ => Err(found.into_iter().map(|peer| self.called(peer)).collect()),
        }
    }

    /// Somebody is gone. `false` if they were not there.
    pub(super) fn gone(&mut self, peer: PeerId) -> bool {
        self.people.remove(&peer).is_some()
    }

    /// Those who have not been heard for too long.
    pub(super) fn silent(&self, now: Instant) -> Vec<PeerId> {
        let silent = |person: &Person| now.saturating_duration_since(person.heard) >= SILENCE;
        self.people.iter().filter(|(_, person)| silent(person)).map(|(peer, _)| *peer).collect()
    }

    /// All, as they are called.
    pub(super) fn names(&self) -> Vec<String> {
        self.people.keys().map(|peer| self.called(*peer)).collect()
    }
}

impl transfers::People for People {
    fn are_here(&self) -> bool {
        !self.people.is_empty()
    }

    fn is_here(&self, peer: PeerId) -> bool {
        self.people.contains_key(&peer)
    }

    fn called(&self, peer: PeerId) -> String {
        Self::called(self, peer)
    }

    fn find(&self, meant: &str) -> Result<PeerId, Vec<String>> {
        Self::find(self, meant)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use peerage::Keypair;

    use super::*;

    fn peer(seed: u8) -> PeerId {
        Keypair::from_ed25519_seed([seed; 32]).peer_id()
    }

    #[test]
    fn names_that_clash_are_told_apart() {
        let (mut people, now) = (People::new("eve".to_owned()), Instant::now());
        assert!(people.heard(peer(1), "ada".to_owned(), now));
        assert_eq!((people.called(peer(1)), people.find("Ada")), ("ada".to_owned(), Ok(peer(1))));
        people.heard(peer(2), "ADA".to_owned(), now);
        assert_eq!(people.called(peer(1)), format!("ada ({})", peer(1).short()));
        assert_eq!(people.find("ada").unwrap_err().len(), 2);
        assert_eq!(people.find(&peer(2).short()), Ok(peer(2)));
        assert_eq!(people.find("bob"), Err(Vec::new()));
        people.heard(peer(3), "eve".to_owned(), now);
        assert!(people.called(peer(3)).starts_with("eve ("));
        people.heard(peer(4), String::new(), now);
        assert_eq!(people.called(peer(4)), peer(4).short());
    }

    #[test]
    fn who_is_silent_is_gone_in_the_end() {
        let (mut people, now) = (People::new("eve".to_owned()), Instant::now());
        people.heard(peer(1), "ada".to_owned(), now);
        people.heard(peer(2), "bob".to_owned(), now + Duration::from_secs(1));
        assert!(people.silent(now + SILENCE - Duration::from_millis(1)).is_empty());
        assert_eq!(people.silent(now + SILENCE), [peer(1)]);
        assert!(!people.heard(peer(1), "ada".to_owned(), now + SILENCE));
        assert!(people.silent(now + SILENCE).is_empty());
        assert!(people.gone(peer(1)) && !people.gone(peer(1)));
    }

    #[test]
    fn so_many_are_kept_and_not_one_more() {
        let (mut people, now) = (People::new("eve".to_owned()), Instant::now());
        let strangers: Vec<PeerId> = (0..=MAX_PEOPLE).map(|_| Keypair::generate().peer_id()).collect();
        let new = strangers.iter().filter(|peer| people.heard(**peer, "x".to_owned(), now)).count();
        assert_eq!((new, people.names().len()), (MAX_PEOPLE, MAX_PEOPLE));
    }
}
