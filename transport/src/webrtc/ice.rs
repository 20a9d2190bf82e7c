//! The dialer's connectivity checks (RFC 8445), and its consent to go on (RFC 7675). No I/O, no clock.
//!
//! There is one pair of addresses: the dialer's socket, and the one that the listener's address names. So checking
//! comes down to asking until there is an answer, and then asking now and then whether the other side is still there.
//! The listener, which is an "ice-lite" agent, has only to answer, for which it needs no state (see `callers`).

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use aws_lc_rs::rand;

use super::{
    names::Credentials,
    stun::{self, Binding, Class, Transaction},
};

/// The first check is repeated after this; the pause doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(1600);

/// How often the other side is asked for its consent, once it has answered (RFC 7675, section 5.1).
pub(crate) const CONSENT_INTERVAL: Duration = Duration::from_secs(5);

/// A side that has not heard from the other for so long gives it up (the same section).
pub(crate) const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Checks whose answers are still waited for. Answers come late, not never.
const MAX_PENDING: usize = 8;

/// Of a host candidate, as RFC 8445, section 5.1.2.1, computes it for the first component.
const PRIORITY: u32 = (110 << 24) | (65535 << 8) | 255;

/// What a message was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An answer to a check, after so long.
    Answer(Duration),
    /// The other side's own check, with the answer to it.
    Check(Vec<u8>),
}

/// The dialer's side.
pub(crate) struct Checks {
    credentials: Credentials,
    pending: Vec<(Transaction, Instant)>,
    next: Instant,
    pause: Duration,
    answered: bool,
}

impl Checks {
    pub(crate) fn new(credentials: Credentials, now: Instant) -> Self {
        Self { credentials, pending: Vec::new(), next: now, pause: FIRST_PAUSE, answered: false }
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// The check that is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now < self.next {
            return None;
        }
        let pause = if self.answered {
            CONSENT_INTERVAL
        } else {
            let longer = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
            std::mem::replace(&mut self.pause, longer)
        };
        self.next = now.checked_add(pause)?;
        let mut transaction = Transaction::default();
        // Without randomness there is no check, and the other side will be given up.
        rand::fill(&mut transaction).ok()?;
        if self.pending.len() >= MAX_PENDING {
            self.pending.remove(0);
        }
        self.pending.push((transaction, now));
        let Credentials { server, .. } = &self.credentials;
        Some(stun::request(transaction, &self.credentials.username(), server, PRIORITY))
    }

    /// A STUN message from the listener's address. `None` if it is not from the listener.
    pub(crate) fn handle_message(
        &mut self,
        message: &[u8],
        source: SocketAddr,
        now: Instant,
    ) -> Option<Heard> {
        let message = Binding::parse(message)?;
        match message.class {
            Class::Success => {
                let at = self.pending.iter().position(|(pending, _)| *pending == message.transaction)?;
                if !message.is_from(&self.credentials.server) {
                    return None;
                }
                let (_, sent) = self.pending.remove(at);
                if !std::mem::replace(&mut self.answered, true) {
                    self.next = now.checked_add(CONSENT_INTERVAL)?;
                }
                Some(Heard::Answer(now.saturating_duration_since(sent)))
            }
            // A listener may be a full agent, and check as well.
            Class::Request => {
                let name = self.credentials.reverse_username();
                let own = &self.credentials.password;
                let known = message.username == Some(name.as_bytes()) && message.is_from(own);
                known.then(|| Heard::Check(stun::success(message.transaction, source, own)))
            }
            Class::Indication | Class::Failure => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webrtc::names::{Name, Version};

    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    fn source() -> SocketAddr {
        "192.0.2.1:4001".parse().unwrap()
    }

    fn checks(version: Version) -> (Checks, Credentials) {
        let credentials = Credentials::new(version).unwrap();
        (Checks::new(credentials.clone(), start()), credentials)
    }

    #[test]
    fn a_check_is_repeated_until_it_is_answered_and_then_now_and_then() {
        let (mut checks, credentials) = checks(Version::V1);
        let begin = checks.poll_timeout();
        let (mut now, mut at) = (begin, Vec::new());
        let mut last = Vec::new();
        for _ in 0..7 {
            last = checks.handle_timeout(now).unwrap();
            assert_eq!(checks.handle_timeout(now), None);
            at.push(now.duration_since(begin).as_millis());
            now = checks.poll_timeout();
        }
        assert_eq!(at, [0, 100, 300, 700, 1500, 3100, 4700]);

        let request = Binding::parse(&last).unwrap();
        let answer = stun::success(request.transaction, source(), &credentials.server);
        let later = now + Duration::from_millis(7);
        let rtt = later - (begin + Duration::from_millis(4700));
        assert_eq!(checks.handle_message(&answer, source(), later), Some(Heard::Answer(rtt)));
        assert_eq!(checks.handle_message(&answer, source(), later), None, "once");
        assert_eq!(checks.poll_timeout(), later + CONSENT_INTERVAL);
        assert!(checks.handle_timeout(later + CONSENT_INTERVAL).is_some());
        assert_eq!(checks.poll_timeout(), later + 2 * CONSENT_INTERVAL);
    }

    #[test]
    fn checks_name_what_a_listener_has_to_know() {
        for version in [Version::V1, Version::V2] {
            let (mut checks, credentials) = checks(version);
            let check = checks.handle_timeout(checks.poll_timeout()).unwrap();
            let check = Binding::parse(&check).unwrap();
            let name = Name::parse(check.username.unwrap()).unwrap();
            assert_eq!((name.version, name.server), (version, &*credentials.server));
            assert!(check.is_from(name.server));
        }
    }

    #[test]
    fn strangers_are_not_heard() {
        let (mut checks, credentials) = checks(Version::V2);
        let now = checks.poll_timeout();
        let check = checks.handle_timeout(now).unwrap();
        let transaction = Binding::parse(&check).unwrap().transaction;
        let with_other_password = stun::success(transaction, source(), &credentials.password);
        assert_eq!(checks.handle_message(&with_other_password, source(), now), None);
        let to_nothing = stun::success([9; 12], source(), &credentials.server);
        assert_eq!(checks.handle_message(&to_nothing, source(), now), None);
        assert_eq!(checks.handle_message(&check, source(), now), None, "its own check, sent back");
        assert_eq!(checks.handle_message(b"\x16\xfe\xfd", source(), now), None);
    }

    #[test]
    fn a_listener_that_checks_is_answered() {
        for version in [Version::V1, Version::V2] {
            let (mut checks, credentials) = checks(version);
            let now = checks.poll_timeout();
            let name = credentials.reverse_username();
            let check = stun::request([3; 12], &name, &credentials.password, 1);
            let Some(Heard::Check(answer)) = checks.handle_message(&check, source(), now) else {
                panic!("no answer")
            };
            let answer = Binding::parse(&answer).unwrap();
            assert_eq!((answer.class, answer.transaction), (Class::Success, [3; 12]));
            assert!(answer.is_from(&credentials.password));
            if version == Version::V2 {
                let other = stun::request([3; 12], &name, &credentials.server, 1);
                assert_eq!(checks.handle_message(&other, source(), now), None);
            }
        }
    }
}
