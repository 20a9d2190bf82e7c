use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    time::{Duration, Instant},
};

use peerage_core::Now;

/// The beginning of an IP address, which all addresses of one network have in common: `192.0.2.0/24`.
///
/// An IPv4 address that is dressed as IPv6 (`::ffff:192.0.2.1`) counts as the IPv4 address that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    network: IpAddr,
    bits: u8,
}

impl Prefix {
    /// The first `bits` of an address; more bits than it has are all that it has.
    pub fn of(ip: IpAddr, bits: u8) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let bits = bits.min(32);
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0);
                Self { network: Ipv4Addr::from_bits(ip.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(ip) => {
                let bits = bits.min(128);
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0);
                Self { network: Ipv6Addr::from_bits(ip.to_bits() & mask).into(), bits }
            }
        }
    }

    /// Whether an address begins with this prefix.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Self::of(ip, self.bits) == *self
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

/// A text that is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an IP network: {0:?}; write it like 192.0.2.0/24 or 2001:db8::/32")]
pub struct NotAPrefix(String);

impl FromStr for Prefix {
    type Err = NotAPrefix;

    /// An address alone stands for itself. Bits that are set behind the prefix are an error: the text may not say what
    /// was meant.
    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        let wrong = || NotAPrefix(text.chars().take(64).collect());
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let most = if ip.to_canonical().is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        let prefix = Self::of(ip, bits);
        if bits > most || prefix.network != ip.to_canonical() { Err(wrong()) } else { Ok(prefix) }
    }
}

/// What the addresses with one prefix of a certain length may use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrefixLimit {
    /// How long the prefix is.
    pub bits: u8,
    /// Connections that they opened, those included whose peer is not known yet.
    pub connections: usize,
    /// Those of them whose peer is not known yet, so that one host cannot take every place for handshakes.
    pub handshakes: usize,
    /// Bytes of memory that their connections hold.
    pub memory: usize,
    /// How long it takes until one more new connection is allowed, once the `burst` is spent.
    pub every: Duration,
    /// New connections that may come at once.
    pub burst: u32,
}

impl PrefixLimit {
    /// For prefixes of `bits`; everything else without limit.
    pub const fn new(bits: u8) -> Self {
        let most = usize::MAX;
        Self {
            bits,
            connections: most,
            handshakes: most,
            memory: most,
            every: Duration::ZERO,
            burst: u32::MAX,
        }
    }
}

/// Prefixes whose new connections are counted over time. When there are more, those of further ones are not counted
/// until some are forgotten; their number is limited all the same.
pub const MAX_RATED: usize = 16_384;
/// How often forgetting is worth a look at all of them.
const SWEEP: Duration = Duration::from_secs(1);

/// Token buckets, one for each prefix that had a new connection lately.
///
/// A bucket is kept as the time at which it will be full again: taking a token moves that time on by what one token
/// takes to come back, and there is a token as long as that time is less than a whole bucket away.
#[derive(Debug, Default)]
pub(super) struct Rates {
    full_at: BTreeMap<Prefix, Instant>,
    swept: Option<Instant>,
}

impl Rates {
    /// Whether there is a token.
    pub(super) fn has(&self, prefix: Prefix, limit: &PrefixLimit, now: Now) -> bool {
        let Some(missing) = self.full_at.get(&prefix).map(|at| at.saturating_duration_since(now.mono)) else {
            return limit.burst > 0;
        };
        missing.saturating_add(limit.every) <= limit.every.saturating_mul(limit.burst)
    }

    /// Takes a token that [there is](Self::has).
    pub(super) fn take(&mut self, prefix: Prefix, limit: &PrefixLimit, now: Now) {
        if limit.every.is_zero() {
            return;
        }
        self.sweep(now);
        if self.full_at.len() >= MAX_RATED && !self.full_at.contains_key(&prefix) {
            return;
        }
        let full_at = self.full_at.entry(prefix).or_insert(now.mono);
        let from = Now { mono: (*full_at).max(now.mono), ..now };
        *full_at = from.after(limit.every);
    }

    /// Forgets the buckets that are full.
    fn sweep(&mut self, now: Now) {
        if self.swept.is_none_or(|at| now.since(at) >= SWEEP) {
            self.swept = Some(now.mono);
            self.full_at.retain(|_, at| *at > now.mono);
        }
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::engine::sim;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes() {
        for (address, bits, prefix) in [
            ("192.0.2.77", 32, "192.0.2.77/32"),
            ("192.0.2.77", 24, "192.0.2.0/24"),
            ("192.0.2.77", 0, "0.0.0.0/0"),
            ("192.0.2.77", 200, "192.0.2.77/32"),
            ("::ffff:192.0.2.77", 24, "192.0.2.0/24"),
            ("2001:db8:1:2ff:3::4", 56, "2001:db8:1:200::/56"),
            ("2001:db8:1:2ff:3::4", 48, "2001:db8:1::/48"),
            ("2001:db8:1:2ff:3::4", 0, "::/0"),
            ("2001:db8::1", 255, "2001:db8::1/128"),
        ] {
            let of = Prefix::of(ip(address), bits);
            assert_eq!(of.to_string(), prefix);
            assert_eq!(prefix.parse(), Ok(of));
            assert!(of.contains(ip(address)));
        }
        let net: Prefix = "198.51.100.0/24".parse().unwrap();
        assert!(net.contains(ip("::ffff:198.51.100.9")) && !net.contains(ip("198.51.101.9")));
        assert!(!net.contains(ip("2001:db8::1")));
        assert_eq!("::1".parse(), Ok(Prefix::of(ip("::1"), 128)));
        for wrong in ["", "/", "192.0.2.1/24", "192.0.2.0/33", "::/129", "a/8", "192.0.2.0/", "192.0.2.0/+8x"]
        {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_burst_and_then_one_by_one() {
        let limit = PrefixLimit { every: Duration::from_secs(5), burst: 16, ..PrefixLimit::new(32) };
        let prefix = Prefix::of(ip("192.0.2.1"), 32);
        let (mut rates, mut now) = (Rates::default(), sim::start());
        let mut come =
            |now| rates.has(prefix, &limit, now).then(|| rates.take(prefix, &limit, now)).is_some();
        assert_eq!((0..20).filter(|_| come(now)).count(), 16);
        now = now.plus(Duration::from_millis(4_999));
        assert!(!come(now));
        now = now.plus(Duration::from_millis(1));
        assert!(come(now) && !come(now));
        // Longer away than a whole bucket takes: still no more than a burst.
        now = now.plus(Duration::from_secs(3_600));
        assert_eq!((0..20).filter(|_| come(now)).count(), 16);
        let per_minute: usize = (0..60)
            .map(|_| {
                now = now.plus(Duration::from_secs(1));
                (0..3).filter(|_| come(now)).count()
            })
            .sum();
        assert_eq!(per_minute, 12, "0.2 a second");
    }

    #[test]
    fn what_is_counted_is_bounded_and_forgotten() {
        let limit = PrefixLimit { every: Duration::from_secs(5), burst: 1, ..PrefixLimit::new(32) };
        let (mut rates, now) = (Rates::default(), sim::start());
        for n in 0..=u32::try_from(MAX_RATED).unwrap() {
            rates.take(Prefix::of(Ipv4Addr::from_bits(n).into(), 32), &limit, now);
        }
        assert_eq!(rates.full_at.len(), MAX_RATED);
        let known = Prefix::of(ip("0.0.0.0"), 32);
        assert!(!rates.has(known, &limit, now));
        let later = now.plus(Duration::from_secs(5));
        assert!(rates.has(known, &limit, later));
        rates.take(known, &limit, later);
        assert_eq!(rates.full_at.len(), 1);
    }

    #[test]
    fn a_burst_of_none_is_none() {
        let limit = PrefixLimit { every: Duration::from_secs(5), burst: 0, ..PrefixLimit::new(32) };
        assert!(!Rates::default().has(Prefix::of(ip("192.0.2.1"), 32), &limit, sim::start()));
    }
}
