use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use peerage_core::{Now, PeerId};

use super::{Action, Engine, IdMap};
use crate::{
    codec::WireMessage,
    event::{Event, Refusal},
    message::MessageId,
    parcel::Parcel,
    score::Reject,
    seen::Keyed,
    signing::{self, Flaw, Signing},
    topic::Topic,
    validator::Verdict,
};

/// Messages of one id that differ, and wait for the verification of the first.
const MAX_COPIES: usize = 8;
/// Peers of which it is remembered that they sent a message that is being verified.
const MAX_SENDERS: usize = 32;

/// The messages that are being verified, and those that are being validated.
///
/// A message enters the seen cache when its signature was verified, not before: else whoever is quick could forge a message
/// with another one's author and number, and the true one would be taken for a duplicate.
#[derive(Debug)]
pub(super) struct Intake {
    next_ticket: u64,
    verifying: BTreeMap<u64, MessageId>,
    checking: IdMap<Checking>,
    validating: BTreeMap<u64, Validating>,
    validators: BTreeMap<Topic, Validator>,
}

/// All that came under one id, in the order in which it is verified; the first is under way.
#[derive(Debug)]
struct Checking {
    copies: VecDeque<Copy>,
}

#[derive(Clone, Debug)]
struct Copy {
    message: Arc<WireMessage>,
    senders: Vec<PeerId>,
}

#[derive(Debug)]
struct Validating {
    parcel: Arc<Parcel>,
    from: PeerId,
}

#[derive(Debug)]
struct Validator {
    concurrency: usize,
    running: usize,
}

impl Intake {
    pub(super) fn new(first_ticket: u64, key: Keyed) -> Self {
        Self {
            next_ticket: first_ticket,
            verifying: BTreeMap::new(),
            checking: HashMap::with_hasher(key),
            validating: BTreeMap::new(),
            validators: BTreeMap::new(),
        }
    }

    pub(super) fn set_validator(&mut self, topic: Topic, concurrency: Option<usize>) {
        match concurrency {
            Some(concurrency) => {
                let running = self.validators.get(&topic).map_or(0, |validator| validator.running);
                self.validators.insert(topic, Validator { concurrency, running });
            }
            None => drop(self.validators.remove(&topic)),
        }
    }

    /// Whether a message of this id is being verified.
    pub(super) fn is_checking(&self, id: &[u8]) -> bool {
        self.checking.contains_key(id)
    }

    pub(super) fn in_progress(&self) -> usize {
        self.checking.len().saturating_add(self.validating.len())
    }

    fn ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        ticket
    }
}

impl Engine {
    /// A peer has sent a message.
    pub(super) fn message(&mut self, peer: PeerId, message: WireMessage, now: Now) {
        let topic = message.topic.clone();
        if !self.topics.get(&topic).is_some_and(|known| known.subscribed) {
            return self.refuse(peer, &topic, None, Refusal::UnknownTopic, now);
        }
        let size = message.data.as_ref().map_or(0, bytes::Bytes::len);
        let received = self.net.stats.topic(&topic);
        received.received_unfiltered = received.received_unfiltered.saturating_add(1);
        received.received_unfiltered_bytes = received.received_unfiltered_bytes.saturating_add(size as u64);

        let rules = self.rules.get(&topic).unwrap_or(&self.config.other_topics).clone();
        if size > rules.max_size {
            return self.refuse(peer, &topic, None, Refusal::TooLarge, now);
        }
        if let Err(flaw) = signing::check(&message, rules.signing) {
            return self.refuse(peer, &topic, None, Refusal::Flaw(flaw), now);
        }
        let id = rules.id_of(&message);
        if self.seen.again(&id, now) {
            return self.duplicate(peer, &id, &topic, now);
        }
        match signing::author(&message) {
            Some(author) if author == self.local => {
                return self.refuse(peer, &topic, Some(id), Refusal::NotOurs, now);
            }
            Some(author) if self.blacklist.contains(&author) => {
                return self.refuse(peer, &topic, Some(id), Refusal::Blacklisted, now);
            }
            _ => {}
        }
        if let Some(checking) = self.intake.checking.get_mut(&id) {
            checking.add(peer, message);
            return;
        }
        let own_share = self.config.max_validating / 4;
        let theirs = self.net.peers.get(&peer).map_or(0, |state| state.in_progress);
        if self.intake.in_progress() >= self.config.max_validating || theirs > own_share {
            self.judge.throttled(now);
            return self.refuse(peer, &topic, Some(id), Refusal::Throttled, now);
        }
        if rules.signing != Signing::Strict {
            return self.genuine(id, message, peer, &[], now);
        }
        self.begins(peer);
        let copy = Copy { message: Arc::new(message), senders: vec![peer] };
        self.verify(&id, &copy);
        self.intake.checking.insert(id, Checking { copies: VecDeque::from([copy]) });
    }

    fn verify(&mut self, id: &MessageId, copy: &Copy) {
        let Some(peer) = copy.senders.first().copied() else { return };
        let ticket = self.intake.ticket();
        self.intake.verifying.insert(ticket, id.clone());
        self.net.actions.push_back(Action::Verify { ticket, peer, message: copy.message.clone() });
    }

    pub(super) fn verified(&mut self, ticket: u64, result: Result<(), Flaw>, now: Now) {
        let Some(id) = self.intake.verifying.remove(&ticket) else { return };
        let Some(checking) = self.intake.checking.get_mut(&id) else { return };
        let Some(copy) = checking.copies.pop_front() else { return };
        match (result, checking.copies.front()) {
            (Ok(()), _) => {
                self.intake.checking.remove(&id);
                let Some((first, others)) = copy.senders.split_first() else { return };
                self.ends(*first);
                let message = Arc::unwrap_or_clone(copy.message);
                self.genuine(id, message, *first, others, now);
            }
            (Err(flaw), next) => {
                let next = next.cloned();
                let first = copy.senders.first().copied();
                match next {
                    Some(next) => self.verify(&id, &next),
                    None => drop(self.intake.checking.remove(&id)),
                }
                first.into_iter().for_each(|peer| self.ends(peer));
                for peer in copy.senders {
                    self.refuse(peer, &copy.message.topic, Some(id.clone()), Refusal::Flaw(flaw), now);
                }
            }
        }
    }

    /// A message is its author's, and new. From now on another copy of it is a duplicate.
    fn genuine(&mut self, id: MessageId, message: WireMessage, from: PeerId, others: &[PeerId], now: Now) {
        self.seen.insert(id.clone(), now);
        self.promises.kept(&id);
        let topic = message.topic.clone();
        let received = self.net.stats.topic(&topic);
        received.received = received.received.saturating_add(1);
        let size = message.data.as_ref().map_or(0, bytes::Bytes::len) as u64;
        received.received_bytes = received.received_bytes.saturating_add(size);
        self.judge.validating(from, &id, &topic, now);
        for other in others {
            self.duplicate(*other, &id, &topic, now);
        }
        let Some(parcel) = self.charged(Parcel::new(id.clone(), message)) else {
            return self.refuse(from, &topic, Some(id), Refusal::NoMemory, now);
        };
        let parcel = Arc::new(parcel);
        self.tell_unwanted(&parcel, Some(from));

        match self.intake.validators.get_mut(&topic) {
            Some(validator) if validator.running >= validator.concurrency => {
                self.judge.throttled(now);
                self.refuse(from, &topic, Some(parcel.id.clone()), Refusal::Throttled, now);
            }
            Some(validator) => {
                validator.running = validator.running.saturating_add(1);
                let (ticket, message) = (self.intake.ticket(), parcel.to_message(from));
                self.begins(from);
                self.intake.validating.insert(ticket, Validating { parcel, from });
                self.net.actions.push_back(Action::Validate { ticket, message });
            }
            None => self.accept(&parcel, from, now),
        }
    }

    pub(super) fn validated(&mut self, ticket: u64, verdict: Verdict, now: Now) {
        let Some(Validating { parcel, from }) = self.intake.validating.remove(&ticket) else { return };
        let topic = &parcel.message.topic;
        if let Some(validator) = self.intake.validators.get_mut(topic) {
            validator.running = validator.running.saturating_sub(1);
        }
        self.ends(from);
        match verdict {
            Verdict::Accept => self.accept(&parcel, from, now),
            verdict => self.refuse(from, topic, Some(parcel.id.clone()), Refusal::Validator(verdict), now),
        }
    }

    /// Finds memory for a message. What is kept for who asks gives way, the oldest first.
    fn charged(&mut self, mut parcel: Parcel) -> Option<Parcel> {
        loop {
            match self.net.budget.reserve(parcel.frame.len()) {
                Ok(charge) => {
                    parcel.charge = Some(Arc::new(charge));
                    return Some(parcel);
                }
                Err(_) if self.cache.forget_oldest() => {}
                Err(_) => return None,
            }
        }
    }

    fn accept(&mut self, parcel: &Arc<Parcel>, from: PeerId, now: Now) {
        let topic = &parcel.message.topic;
        self.judge.delivered(from, &parcel.id, topic, now);
        let accepted = self.net.stats.topic(topic);
        accepted.delivered = accepted.delivered.saturating_add(1);
        // The topic may have been left meanwhile.
        if !self.topics.get(topic).is_some_and(|known| known.subscribed) {
            return;
        }
        self.net.trace(|| Event::Delivered { peer: from, topic: topic.clone(), id: parcel.id.clone() });
        self.net.actions.push_back(Action::Deliver(parcel.to_message(from)));
        self.cache.put(parcel);
        self.forward(parcel, from);
    }

    fn duplicate(&mut self, peer: PeerId, id: &MessageId, topic: &Topic, now: Now) {
        self.judge.duplicate(peer, id, topic, now);
        let received = self.net.stats.topic(topic);
        received.duplicates = received.duplicates.saturating_add(1);
        self.net.trace(|| Event::Duplicate { peer, topic: topic.clone(), id: id.clone() });
    }

    pub(super) fn refuse(
        &mut self,
        peer: PeerId,
        topic: &Topic,
        id: Option<MessageId>,
        why: Refusal,
        now: Now,
    ) {
        self.net.stats.refused(topic, why);
        let no_id = MessageId::truncated(&[]);
        let named = id.as_ref().unwrap_or(&no_id);
        let reject = match why {
            Refusal::Flaw(_) | Refusal::TooLarge => Some(Reject::Unauthentic),
            Refusal::Validator(Verdict::Reject) => Some(Reject::Invalid),
            Refusal::Validator(_) => Some(Reject::Ignored),
            Refusal::Throttled | Refusal::NoMemory => Some(Reject::Throttled),
            Refusal::Blacklisted => Some(Reject::Blacklisted),
            // A peer may not know that this node has left the topic; nor can it know that this node, started anew, has
            // forgotten what it wrote.
            Refusal::UnknownTopic | Refusal::NotOurs => None,
        };
        if let Some(reject) = reject {
            self.judge.rejected(peer, named, topic, reject, now);
        }
        self.net.event(Event::Refused { peer, topic: topic.clone(), id, why });
    }

    fn begins(&mut self, peer: PeerId) {
        if let Some(state) = self.net.peers.get_mut(&peer) {
            state.in_progress = state.in_progress.saturating_add(1);
        }
    }

    fn ends(&mut self, peer: PeerId) {
        if let Some(state) = self.net.peers.get_mut(&peer) {
            state.in_progress = state.in_progress.saturating_sub(1);
        }
    }
}

impl Checking {
    /// One more copy. What is the same, byte for byte, is verified once.
    fn add(&mut self, peer: PeerId, message: WireMessage) {
        if let Some(copy) = self.copies.iter_mut().find(|copy| *copy.message == message) {
            if copy.senders.len() < MAX_SENDERS {
                copy.senders.push(peer);
            }
        } else if self.copies.len() < MAX_COPIES {
            self.copies.push_back(Copy { message: Arc::new(message), senders: vec![peer] });
        }
    }
}
