//! What the environment asks for. Two contracts are spoken: that of `libp2p/unified-testing`, in upper case, and the
//! older one of `libp2p/test-plans`, in lower case.

use std::{net::IpAddr, str::FromStr, time::Duration};

use peerage::transport::upgrade::{MuxerKind, Security};

/// How long a transport test may take unless the environment says otherwise; both suites' own limit.
const TRANSPORT_TIMEOUT: Duration = Duration::from_secs(180);
/// The same of a measurement. The suite ends them itself, after 300 s unless it is told otherwise, which it does not
/// tell us: a listener must not be gone before that.
const PERF_TIMEOUT: Duration = Duration::from_secs(3600);
/// The longest that is believed.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// The most iterations of one measurement: their samples are kept, and printed on one line.
const MAX_ITERATIONS: u32 = 100_000;
/// Whose name in `REDIS_ADDR` says that this is a measurement.
const PERF_REDIS: &str = "perf-redis";

/// Whose words the environment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `libp2p/unified-testing`.
    Unified,
    /// `libp2p/test-plans`.
    TestPlans,
}

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// A dial and a ping.
    Transport,
    /// Throughput and latency.
    Perf,
}

/// What carries the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Tcp,
    Ws,
    Wss,
    Quic,
    WebRtcDirect,
}

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) upload_bytes: u64,
    pub(crate) download_bytes: u64,
    pub(crate) upload_iterations: u32,
    pub(crate) download_iterations: u32,
    pub(crate) latency_iterations: u32,
}

/// One test, as one of its two sides is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) dialect: Dialect,
    pub(crate) suite: Suite,
    pub(crate) is_dialer: bool,
    /// `host:port`.
    pub(crate) redis: String,
    /// Under which the listener's address is found.
    pub(crate) key: String,
    pub(crate) carrier: Carrier,
    /// `None` where the carrier brings its own.
    pub(crate) security: Option<Security>,
    pub(crate) muxer: Option<MuxerKind>,
    /// Where to listen.
    pub(crate) ip: IpAddr,
    pub(crate) timeout: Duration,
    pub(crate) debug: bool,
    pub(crate) amounts: Amounts,
}

impl Carrier {
    /// Whether it brings its own security and streams.
    pub(crate) fn is_standalone(self) -> bool {
        matches!(self, Self::Quic | Self::WebRtcDirect)
    }
}

impl FromStr for Carrier {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "tcp" => Ok(Self::Tcp),
            "ws" => Ok(Self::Ws),
            "wss" => Ok(Self::Wss),
            "quic-v1" => Ok(Self::Quic),
            "webrtc-direct" => Ok(Self::WebRtcDirect),
            _ => Err(format!("{word:?} is no transport of ours: tcp, ws, wss, quic-v1, webrtc-direct")),
        }
    }
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "transport" => Ok(Self::Transport),
            "perf" => Ok(Self::Perf),
            _ => Err(format!("{word:?} is no suite: transport, perf")),
        }
    }
}

/// Whether somebody means us to obey a contract.
pub(crate) fn are_there(of: impl Fn(&str) -> Option<String>) -> bool {
    of("TRANSPORT").is_some() || of("transport").is_some()
}

impl Settings {
    /// Reads them from an environment. Which suite it is, its words do not say: measurements have a Redis server of
    /// their own, and their dialer is told what to measure.
    pub(crate) fn read(of: impl Fn(&str) -> Option<String>, suite: Option<Suite>) -> Result<Self, String> {
        let dialect = if of("TRANSPORT").is_some() { Dialect::Unified } else { Dialect::TestPlans };
        let reader = Reader { of, dialect };
        let suite = suite.unwrap_or_else(|| reader.suite());
        if (dialect, suite) == (Dialect::TestPlans, Suite::Perf) {
            return Err("measurements are in the contract of unified-testing only".to_owned());
        }
        let carrier: Carrier = reader.need("TRANSPORT", "transport")?;
        let (mut security, mut muxer) = (None, None);
        if !carrier.is_standalone() {
            security = Some(reader.need("SECURE_CHANNEL", "security")?);
            muxer = Some(reader.need("MUXER", "muxer")?);
        }
        let timeout = match suite {
            Suite::Transport => TRANSPORT_TIMEOUT,
            Suite::Perf => PERF_TIMEOUT,
        };
        let seconds = reader.or("TEST_TIMEOUT_SECS", "test_timeout_seconds", timeout.as_secs())?;
        let redis = match dialect {
            Dialect::Unified => reader.need("REDIS_ADDR", "")?,
            Dialect::TestPlans => reader.or("", "redis_addr", "redis:6379".to_owned())?,
        };
        let key = match dialect {
            Dialect::Unified => format!("{}_listener_multiaddr", reader.need::<String>("TEST_KEY", "")?),
            Dialect::TestPlans => "listenerAddr".to_owned(),
        };
        Ok(Self {
            dialect,
            suite,
            is_dialer: reader.need("IS_DIALER", "is_dialer")?,
            redis,
            key,
            carrier,
            security,
            muxer,
            ip: reader.or("LISTENER_IP", "ip", IpAddr::from([0, 0, 0, 0]))?,
            timeout: Duration::from_secs(seconds).min(MAX_TIMEOUT),
            debug: reader.or("DEBUG", "", false)?,
            amounts: reader.amounts()?,
        })
    }
}

/// An environment, and whose words it has.
struct Reader<F> {
    of: F,
    dialect: Dialect,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn suite(&self) -> Suite {
        let measures = |name: &str| (self.of)(name).is_some();
        let redis = (self.of)("REDIS_ADDR").unwrap_or_default();
        let of_perf = redis.split(':').next() == Some(PERF_REDIS);
        let perf = self.dialect == Dialect::Unified
            && (of_perf || measures("UPLOAD_BYTES") || measures("UPLOAD_ITERATIONS"));
        if perf { Suite::Perf } else { Suite::Transport }
    }

    /// What was given under its name in this dialect. The scripts say `null` for what nobody has set.
    fn given(&self, unified: &str, test_plans: &str) -> Option<(String, String)> {
        let name = match self.dialect {
            Dialect::Unified => unified,
            Dialect::TestPlans => test_plans,
        };
        let value = (self.of)(name).filter(|value| !value.is_empty() && value != "null")?;
        Some((name.to_owned(), value))
    }

    fn need<T: FromStr<Err: ToString>>(&self, unified: &str, test_plans: &str) -> Result<T, String> {
        let Some((name, value)) = self.given(unified, test_plans) else {
            let name = if self.dialect == Dialect::Unified { unified } else { test_plans };
            return Err(format!("{name} is not set"));
        };
        value.parse().map_err(|error: T::Err| format!("{name}={value}: {}", error.to_string()))
    }

    fn or<T: FromStr<Err: ToString>>(&self, unified: &str, test_plans: &str, or: T) -> Result<T, String> {
        if self.given(unified, test_plans).is_some() { self.need(unified, test_plans) } else { Ok(or) }
    }

    fn amounts(&self) -> Result<Amounts, String> {
        let iterations = |name, or| {
            let iterations: u32 = self.or(name, "", or)?;
            if iterations == 0 || iterations > MAX_ITERATIONS {
                return Err(format!("{name}={iterations}: it has to be 1 to {MAX_ITERATIONS}"));
            }
            Ok(iterations)
        };
        Ok(Amounts {
            upload_bytes: self.or("UPLOAD_BYTES", "", 1 << 30)?,
            download_bytes: self.or("DOWNLOAD_BYTES", "", 1 << 30)?,
            upload_iterations: iterations("UPLOAD_ITERATIONS", 10)?,
            download_iterations: iterations("DOWNLOAD_ITERATIONS", 10)?,
            latency_iterations: iterations("LATENCY_ITERATIONS", 100)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &[(&str, &str)] = &[
        ("IS_DIALER", "true"),
        ("REDIS_ADDR", "transport-redis:6379"),
        ("TEST_KEY", "a5b50d5e"),
        ("TRANSPORT", "tcp"),
        ("LISTENER_IP", "0.0.0.0"),
        ("DEBUG", "false"),
        ("SECURE_CHANNEL", "noise"),
        ("MUXER", "yamux"),
    ];
    const TEST_PLANS: &[(&str, &str)] = &[
        ("transport", "ws"),
        ("muxer", "mplex"),
        ("security", "tls"),
        ("is_dialer", "false"),
        ("ip", "0.0.0.0"),
    ];

    /// Reads an environment with some words changed; an empty one is taken out.
    fn read(words: &[(&str, &str)], changed: &[(&str, &str)]) -> Result<Settings, String> {
        let of = |name: &str| {
            let all = changed.iter().chain(words);
            all.filter(|(key, _)| *key == name).map(|(_, value)| *value).next().map(str::to_owned)
        };
        assert!(are_there(|name| of(name).filter(|value| !value.is_empty())));
        Settings::read(|name| of(name).filter(|value| !value.is_empty()), None)
    }

    #[test]
    fn unified_testing() {
        let settings = read(UNIFIED, &[]).unwrap();
        assert_eq!((settings.dialect, settings.suite), (Dialect::Unified, Suite::Transport));
        assert!(settings.is_dialer && !settings.debug);
        assert_eq!(settings.redis, "transport-redis:6379");
        assert_eq!(settings.key, "a5b50d5e_listener_multiaddr");
        assert_eq!((settings.security, settings.muxer), (Some(Security::Noise), Some(MuxerKind::Yamux)));
        assert_eq!(settings.timeout, Duration::from_secs(180));
        let settings = read(UNIFIED, &[("TEST_TIMEOUT_SECS", "7"), ("IS_DIALER", "false")]).unwrap();
        assert_eq!((settings.timeout, settings.is_dialer), (Duration::from_secs(7), false));
    }

    #[test]
    fn test_plans() {
        let settings = read(TEST_PLANS, &[]).unwrap();
        assert_eq!((settings.dialect, settings.suite), (Dialect::TestPlans, Suite::Transport));
        assert_eq!((settings.redis.as_str(), settings.key.as_str()), ("redis:6379", "listenerAddr"));
        assert_eq!(settings.carrier, Carrier::Ws);
        assert_eq!((settings.security, settings.muxer), (Some(Security::Tls), Some(MuxerKind::Mplex)));
        let changed = [("redis_addr", "127.0.0.1:1"), ("test_timeout_seconds", "9")];
        let settings = read(TEST_PLANS, &changed).unwrap();
        assert_eq!((settings.redis.as_str(), settings.timeout.as_secs()), ("127.0.0.1:1", 9));
        // Who has both, is meant by the new one.
        let both = [UNIFIED, TEST_PLANS].concat();
        assert_eq!(read(&both, &[]).unwrap().dialect, Dialect::Unified);
    }

    #[test]
    fn standalone_transports_need_no_more_words() {
        for transport in ["quic-v1", "webrtc-direct"] {
            let settings = read(UNIFIED, &[("TRANSPORT", transport), ("SECURE_CHANNEL", ""), ("MUXER", "")]);
            let settings = settings.unwrap();
            assert_eq!((settings.security, settings.muxer), (None, None));
        }
        let missing = read(UNIFIED, &[("MUXER", "")]);
        assert_eq!(missing.unwrap_err(), "MUXER is not set");
    }

    #[test]
    fn measurements() {
        let listener = [("REDIS_ADDR", "perf-redis:6379"), ("IS_DIALER", "false")];
        let settings = read(UNIFIED, &listener).unwrap();
        assert_eq!(settings.suite, Suite::Perf);
        assert!(settings.timeout > Duration::from_secs(900), "longer than the suite waits");
        let dialer = [
            ("UPLOAD_BYTES", "5000"),
            ("DOWNLOAD_BYTES", "6000"),
            ("UPLOAD_ITERATIONS", "null"),
            ("DOWNLOAD_ITERATIONS", "3"),
            ("LATENCY_ITERATIONS", "100"),
            ("DURATION", "20"),
        ];
        let settings = read(UNIFIED, &dialer).unwrap();
        assert_eq!(settings.suite, Suite::Perf);
        assert_eq!(
            settings.amounts,
            Amounts {
                upload_bytes: 5000,
                download_bytes: 6000,
                upload_iterations: 10,
                download_iterations: 3,
                latency_iterations: 100
            }
        );
        assert!(read(UNIFIED, &[("LATENCY_ITERATIONS", "0")]).is_err());
        assert!(read(UNIFIED, &[("LATENCY_ITERATIONS", "100000")]).is_ok());
        assert!(read(UNIFIED, &[("LATENCY_ITERATIONS", "100001")]).is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (changed, why) in [
            (("IS_DIALER", "yes"), "IS_DIALER=yes"),
            (
                ("TRANSPORT", "webtransport"),
                "TRANSPORT=webtransport: \"webtransport\" is no transport of ours",
            ),
            (("SECURE_CHANNEL", "plaintext2"), "SECURE_CHANNEL=plaintext2"),
            (("LISTENER_IP", "here"), "LISTENER_IP=here"),
            (("TEST_KEY", ""), "TEST_KEY is not set"),
            (("REDIS_ADDR", ""), "REDIS_ADDR is not set"),
            (("TEST_TIMEOUT_SECS", "-1"), "TEST_TIMEOUT_SECS=-1"),
        ] {
            let error = read(UNIFIED, &[changed]).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
