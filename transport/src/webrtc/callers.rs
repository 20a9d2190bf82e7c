//! Whom a listener talks to: a table, pure.
//!
//! ```text
//!   a check with a proper name     answered, and its sender noted          (nothing of it is a session)
//!   a DTLS hello of one noted      a session, if there is room
//!   anything of one in a session   goes there
//!   everything else                is thrown away
//! ```
//!
//! A check says all that is needed to answer it: in both versions the server's password is in the name. So an answer needs
//! no state, and is shorter than what it answers. What is noted is small, the oldest goes when there is no room, and
//! none of it keeps anybody else out. Sessions do: so there are few that are not done with their handshakes, of each
//! network fewer, and they have a deadline.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    names::Name,
    stun::{self, Binding, Class},
};

/// Addresses that are noted, in all and of one network.
pub(crate) const MAX_CALLERS: usize = 1024;
pub(crate) const MAX_CALLERS_PER_NETWORK: usize = 64;

/// A caller that does not go on is forgotten. Dialers repeat their checks every few seconds.
pub(crate) const CALLER_TIMEOUT: Duration = Duration::from_secs(30);

/// Sessions whose handshakes are not done, in all and of one network.
pub(crate) const MAX_HANDSHAKES: usize = 128;
pub(crate) const MAX_HANDSHAKES_PER_NETWORK: usize = 16;

/// Addresses of one session: a browser on several networks tries from all of them, and may change its mind.
pub(crate) const MAX_ADDRESSES: usize = 4;

/// What a network may begin: so many at once, and one more in each interval.
pub(crate) const BURST: u32 = 32;
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

/// Networks whose beginnings are counted. Those that have been quiet for long go first.
const MAX_NETWORKS: usize = 4096;

/// The number of a session.
pub(crate) type SessionId = u64;

/// What is to be done with a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Drop,
    /// Send this to the sender.
    Answer(Vec<u8>),
    /// The same; and the session's other side is there.
    AnswerIn(SessionId, Vec<u8>),
    /// Hand it to the session.
    Deliver(SessionId),
    /// It begins a session, which is counted until [`Callers::established`] or [`Callers::ended`].
    Begin(SessionId),
}

/// One IPv4 address, or the part of an IPv6 address that one customer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Network(u128);

impl Network {
    fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self(ip.to_ipv6_mapped().to_bits()),
            IpAddr::V6(ip) => Self(ip.to_bits() & (u128::MAX << 72)),
        }
    }
}

#[derive(Debug)]
struct Caller {
    name: String,
    since: Instant,
}

#[derive(Debug)]
struct Session {
    name: String,
    network: Network,
    handshaking: bool,
    addresses: Vec<SocketAddr>,
}

/// Tokens of a network.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    since: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Callers {
    callers: HashMap<SocketAddr, Caller>,
    /// The same by age.
    ages: BTreeMap<(Instant, SocketAddr), ()>,
    per_network: HashMap<Network, usize>,
    sessions: HashMap<SessionId, Session>,
    by_address: HashMap<SocketAddr, SessionId>,
    by_name: HashMap<String, SessionId>,
    handshakes: usize,
    handshakes_per_network: HashMap<Network, usize>,
    buckets: HashMap<Network, Bucket>,
    last: SessionId,
}

impl Callers {
    /// Looks at a STUN message.
    pub(crate) fn handle_stun(&mut self, message: &[u8], source: SocketAddr, now: Instant) -> Verdict {
        let Some(binding) = Binding::parse(message).filter(|binding| binding.class == Class::Request) else {
            return Verdict::Drop;
        };
        let Some(username) = binding.username else { return Verdict::Drop };
        // Before anything else is done with it.
        let Ok(name) = Name::parse(username) else { return Verdict::Drop };
        if !binding.is_from(name.server) {
            return Verdict::Drop;
        }
        let full = format!("{}:{}", name.server, name.client);
        let answer = stun::success(binding.transaction, source, name.server);
        if let Some(id) = self.by_address.get(&source).copied() {
            let same = self.sessions.get(&id).is_some_and(|session| session.name == full);
            // Somebody else behind the same address, or the same one anew: the session in its way will end.
            return if same { Verdict::AnswerIn(id, answer) } else { Verdict::Answer(answer) };
        }
        if let Some(id) = self.by_name.get(&full).copied() {
            return self.another_address(id, source, answer);
        }
        self.note(source, full, now);
        Verdict::Answer(answer)
    }

    /// Whoever knows a session's name is its other side, or has seen its checks and could send in its name anyway.
    fn another_address(&mut self, id: SessionId, source: SocketAddr, answer: Vec<u8>) -> Verdict {
        let Some(session) = self.sessions.get_mut(&id) else { return Verdict::Drop };
        if session.addresses.len() < MAX_ADDRESSES {
            session.addresses.push(source);
            self.by_address.insert(source, id);
        }
        Verdict::Answer(answer)
    }

    fn note(&mut self, source: SocketAddr, name: String, now: Instant) {
        self.forget_old(now);
        let network = Network::of(source.ip());
        self.forget(source);
        if self.per_network.get(&network).is_some_and(|count| *count >= MAX_CALLERS_PER_NETWORK) {
            let oldest = self.ages.keys().find(|(_, other)| Network::of(other.ip()) == network).copied();
            if let Some((_, oldest)) = oldest {
                self.forget(oldest);
            }
        }
        if self.callers.len() >= MAX_CALLERS
            && let Some((_, oldest)) = self.ages.keys().next().copied()
        {
            self.forget(oldest);
        }
        self.callers.insert(source, Caller { name, since: now });
        self.ages.insert((now, source), ());
        let count = self.per_network.entry(network).or_default();
        *count = count.saturating_add(1);
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((since, source)) = self.ages.keys().next().copied()
            && now.saturating_duration_since(since) >= CALLER_TIMEOUT
        {
            self.forget(source);
        }
    }

    fn forget(&mut self, source: SocketAddr) -> Option<Caller> {
        let caller = self.callers.remove(&source)?;
        self.ages.remove(&(caller.since, source));
        decrement(&mut self.per_network, Network::of(source.ip()));
        Some(caller)
    }

    /// Looks at a DTLS record. `open` says whether anybody takes new sessions.
    pub(crate) fn handle_dtls(
        &mut self,
        record: &[u8],
        source: SocketAddr,
        now: Instant,
        open: bool,
    ) -> Verdict {
        if let Some(id) = self.by_address.get(&source) {
            return Verdict::Deliver(*id);
        }
        self.forget_old(now);
        if !open || !is_client_hello(record) || !self.callers.contains_key(&source) {
            return Verdict::Drop;
        }
        let network = Network::of(source.ip());
        let of_network = self.handshakes_per_network.get(&network).copied().unwrap_or(0);
        // The caller stays noted, and its hello comes again.
        if self.handshakes >= MAX_HANDSHAKES || of_network >= MAX_HANDSHAKES_PER_NETWORK {
            return Verdict::Drop;
        }
        if !self.pay(network, now) {
            return Verdict::Drop;
        }
        let Some(Caller { name, .. }) = self.forget(source) else { return Verdict::Drop };
        self.last = self.last.wrapping_add(1);
        let id = self.last;
        self.by_name.insert(name.clone(), id);
        self.by_address.insert(source, id);
        let session = Session { name, network, handshaking: true, addresses: vec![source] };
        self.sessions.insert(id, session);
        self.handshakes = self.handshakes.saturating_add(1);
        let count = self.handshakes_per_network.entry(network).or_default();
        *count = count.saturating_add(1);
        Verdict::Begin(id)
    }

    fn pay(&mut self, network: Network, now: Instant) -> bool {
        if self.buckets.len() >= MAX_NETWORKS && !self.buckets.contains_key(&network) {
            let full = |bucket: &Bucket| {
                now.saturating_duration_since(bucket.since) >= INTERVAL.saturating_mul(BURST)
            };
            self.buckets.retain(|_, bucket| !full(bucket));
            if self.buckets.len() >= MAX_NETWORKS {
                // So many at once are an attack, and then everybody has to wait.
                return false;
            }
        }
        let bucket = self.buckets.entry(network).or_insert(Bucket { tokens: BURST, since: now });
        let earned = now
            .saturating_duration_since(bucket.since)
            .as_millis()
            .checked_div(INTERVAL.as_millis())
            .and_then(|earned| u32::try_from(earned).ok())
            .unwrap_or(BURST);
        if earned > 0 {
            bucket.tokens = bucket.tokens.saturating_add(earned).min(BURST);
            bucket.since = now;
        }
        let left = bucket.tokens.checked_sub(1);
        bucket.tokens = left.unwrap_or(0);
        left.is_some()
    }

    /// The handshakes of a session are done.
    pub(crate) fn established(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id)
            && std::mem::take(&mut session.handshaking)
        {
            self.handshakes = self.handshakes.saturating_sub(1);
            decrement(&mut self.handshakes_per_network, session.network);
        }
    }

    /// A session is over.
    pub(crate) fn ended(&mut self, id: SessionId) {
        self.established(id);
        if let Some(session) = self.sessions.remove(&id) {
            for address in session.addresses {
                if self.by_address.get(&address) == Some(&id) {
                    self.by_address.remove(&address);
                }
            }
            if self.by_name.get(&session.name) == Some(&id) {
                self.by_name.remove(&session.name);
            }
        }
    }

    /// Sessions whose handshakes are not done.
    #[cfg(test)]
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes
    }
}

fn decrement(counts: &mut HashMap<Network, usize>, network: Network) {
    if let Some(count) = counts.get_mut(&network) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&network);
        }
    }
}

/// The beginning of a DTLS handshake: a handshake record of the first epoch with a ClientHello in it (RFC 6347, sections
/// 4.1 and 4.2.2). Whether it is a good one is the session's to find out.
fn is_client_hello(record: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    matches!(record, [HANDSHAKE, 0xfe, _, 0, 0, _, _, _, _, _, _, _, _, CLIENT_HELLO, ..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HELLO: &[u8] = b"\x16\xfe\xff\0\0\0\0\0\0\0\0\0\x05\x01\0\0\0\0";

    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> Instant {
        Instant::now()
    }

    fn address(host: u32, port: u16) -> SocketAddr {
        (std::net::Ipv4Addr::from_bits(0x0a00_0000 + host), port).into()
    }

    fn name(number: u32) -> String {
        format!("libp2p+webrtc+v1/{number:08}")
    }

    fn check(number: u32) -> Vec<u8> {
        let server = name(number);
        stun::request([1; 12], &format!("{server}:{server}"), &server, 1)
    }

    fn call(callers: &mut Callers, number: u32, source: SocketAddr, now: Instant) -> Verdict {
        callers.handle_stun(&check(number), source, now)
    }

    fn begin(callers: &mut Callers, number: u32, source: SocketAddr, now: Instant) -> Option<SessionId> {
        call(callers, number, source, now);
        match callers.handle_dtls(HELLO, source, now, true) {
            Verdict::Begin(id) => Some(id),
            _ => None,
        }
    }

    #[test]
    fn a_session_begins_with_the_hello_of_somebody_who_was_answered() {
        let (mut callers, now, source) = (Callers::default(), now(), address(1, 1));
        assert_eq!(callers.handle_dtls(HELLO, source, now, true), Verdict::Drop, "no name");
        let Verdict::Answer(answer) = call(&mut callers, 1, source, now) else { panic!("no answer") };
        assert!(Binding::parse(&answer).unwrap().is_from(&name(1)) && answer.len() <= check(1).len());
        assert_eq!(callers.handshakes(), 0);
        for junk in [&b"\x14"[..], &HELLO[..13], b"\x17\xfe\xfd\0\0\0\0\0\0\0\0\0\x05\x01", &[22; 30]] {
            assert_eq!(callers.handle_dtls(junk, source, now, true), Verdict::Drop);
        }
        assert_eq!(callers.handle_dtls(HELLO, address(1, 2), now, true), Verdict::Drop, "another port");
        assert_eq!(callers.handle_dtls(HELLO, source, now, false), Verdict::Drop, "nobody listens");
        assert_eq!(callers.handle_dtls(HELLO, source, now, true), Verdict::Begin(1));
        assert_eq!(callers.handle_dtls(b"\x17", source, now, true), Verdict::Deliver(1));
        assert!(matches!(call(&mut callers, 1, source, now), Verdict::AnswerIn(1, _)));
        callers.ended(1);
        assert_eq!(callers.handle_dtls(HELLO, source, now, true), Verdict::Drop);
        assert!(callers.sessions.is_empty() && callers.handshakes() == 0);
    }

    #[test]
    fn checks_that_are_none_are_not_answered() {
        let (mut callers, now, source) = (Callers::default(), now(), address(1, 1));
        let server = name(1);
        let mut forged = stun::request([1; 12], &format!("{server}:{server}"), &name(2), 1);
        for message in [
            forged.clone(),
            stun::request_named(b"", "password"),
            stun::request_named(b"libp2p+webrtc+v1/abcdefgh", "libp2p+webrtc+v1/abcdefgh"),
            stun::request_named(b"libp2p+webrtc+v1/ab\r\na=b:abcd", "libp2p+webrtc+v1/ab\r\na=b"),
            stun::request_named(b"evtj:h6vY", "evtj"),
            stun::success([1; 12], source, &server),
        ] {
            assert_eq!(callers.handle_stun(&message, source, now), Verdict::Drop);
        }
        forged.truncate(19);
        assert_eq!(callers.handle_stun(&forged, source, now), Verdict::Drop);
        assert!(callers.callers.is_empty());
    }

    #[test]
    fn callers_are_forgotten_with_time_and_when_there_are_many() {
        let (mut callers, begin) = (Callers::default(), now());
        for number in 0..=u32::try_from(MAX_CALLERS).unwrap() {
            call(&mut callers, number, address(number, 1), begin + Duration::from_millis(number.into()));
        }
        assert_eq!(callers.callers.len(), MAX_CALLERS);
        let later = begin + Duration::from_secs(2);
        assert_eq!(callers.handle_dtls(HELLO, address(0, 1), later, true), Verdict::Drop, "the oldest");
        assert_eq!(callers.handle_dtls(HELLO, address(1, 1), later, true), Verdict::Begin(1));
        callers.handle_dtls(HELLO, address(0, 1), begin + CALLER_TIMEOUT + Duration::from_secs(2), true);
        assert!(callers.callers.is_empty() && callers.ages.is_empty() && callers.per_network.is_empty());
    }

    #[test]
    fn one_network_takes_no_more_than_its_part() {
        let (mut callers, now) = (Callers::default(), now());
        for port in 1..=u16::try_from(MAX_CALLERS_PER_NETWORK + 1).unwrap() {
            call(&mut callers, port.into(), address(1, port), now + Duration::from_millis(port.into()));
        }
        assert_eq!(callers.callers.len(), MAX_CALLERS_PER_NETWORK);
        let later = now + Duration::from_secs(1);
        let begun = (1..=100).filter(|port| {
            matches!(callers.handle_dtls(HELLO, address(1, *port), later, true), Verdict::Begin(_))
        });
        assert_eq!(begun.count(), MAX_HANDSHAKES_PER_NETWORK);
        assert!(begin(&mut callers, 1000, address(2, 1), later).is_some(), "others can");
    }

    #[test]
    fn handshakes_are_bounded_and_their_places_come_back() {
        let (mut callers, now) = (Callers::default(), now());
        let most = u32::try_from(MAX_HANDSHAKES).unwrap();
        let ids: Vec<_> =
            (0..most).map(|number| begin(&mut callers, number, address(number, 1), now).unwrap()).collect();
        assert_eq!(begin(&mut callers, most, address(most, 1), now), None);
        assert_eq!(callers.handshakes(), MAX_HANDSHAKES);
        callers.established(ids[0]);
        callers.established(ids[0]);
        // It was not forgotten.
        assert!(matches!(callers.handle_dtls(HELLO, address(most, 1), now, true), Verdict::Begin(_)));
        assert_eq!(begin(&mut callers, most + 1, address(most + 1, 1), now), None);
        for id in ids {
            callers.ended(id);
        }
        assert_eq!((callers.handshakes(), callers.sessions.len()), (1, 1));
    }

    #[test]
    fn a_network_begins_only_so_often() {
        let (mut callers, start) = (Callers::default(), now());
        let mut number = 0;
        let mut try_at = |now: Instant| {
            number += 1;
            let begun = begin(&mut callers, number, address(7, number as u16), now);
            begun.inspect(|id| callers.ended(*id)).is_some()
        };
        assert_eq!((0..BURST + 10).filter(|_| try_at(start)).count(), BURST as usize);
        assert!(!try_at(start + INTERVAL - Duration::from_millis(1)));
        assert!(try_at(start + INTERVAL) && !try_at(start + INTERVAL));
        assert_eq!((0..100).filter(|_| try_at(start + 100 * INTERVAL)).count(), BURST as usize);
    }

    #[test]
    fn a_session_has_a_few_addresses() {
        let (mut callers, now) = (Callers::default(), now());
        let id = begin(&mut callers, 5, address(1, 1), now).unwrap();
        for host in 2..10 {
            assert!(matches!(call(&mut callers, 5, address(host, 1), now), Verdict::Answer(_)));
            let known = host as usize <= MAX_ADDRESSES;
            let expected = if known { Verdict::Deliver(id) } else { Verdict::Drop };
            assert_eq!(callers.handle_dtls(HELLO, address(host, 1), now, true), expected, "{host}");
        }
        callers.ended(id);
        assert!(callers.by_address.is_empty() && callers.by_name.is_empty());
    }

    proptest! {
        #[test]
        fn counts_are_of_what_is_there(steps in proptest::collection::vec((0..6_u32, 0..40_u32, 0..5_u64), 1..300)) {
            let (mut callers, mut now) = (Callers::default(), now());
            let mut ids = Vec::new();
            for (step, number, wait) in steps {
                now += Duration::from_millis(wait * 40);
                match step {
                    0 | 1 => drop(call(&mut callers, number, address(number % 5, number as u16), now)),
                    2 | 3 => ids.extend(begin(&mut callers, number, address(number % 5, number as u16), now)),
                    4 if !ids.is_empty() => callers.established(ids[number as usize % ids.len()]),
                    5 if !ids.is_empty() => callers.ended(ids.swap_remove(number as usize % ids.len())),
                    _ => {}
                }
                let handshaking = callers.sessions.values().filter(|session| session.handshaking).count();
                prop_assert_eq!(callers.handshakes, handshaking);
                prop_assert_eq!(callers.handshakes_per_network.values().sum::<usize>(), handshaking);
                prop_assert_eq!(callers.per_network.values().sum::<usize>(), callers.callers.len());
                prop_assert_eq!(callers.ages.len(), callers.callers.len());
                let addresses: usize = callers.sessions.values().map(|session| session.addresses.len()).sum();
                prop_assert_eq!(callers.by_address.len(), addresses);
            }
        }
    }
}
