//! The contract of the official suites: the environment says what to do, `libp2p/unified-testing` in upper case and
//! `libp2p/test-plans` in lower case. What is printed is what they read. See ../README.md.

use std::{env, net::IpAddr, time::Duration};

use futures::StreamExt as _;
use libp2p::{Multiaddr, Swarm, identity::Keypair, multiaddr::Protocol, ping, swarm::SwarmEvent};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{Behaviour, BehaviourEvent, Mode, Options, Result, new_swarm, perf, redis::Redis, streams, transport};

const TIMEOUT: u64 = 180;

struct Settings {
    unified: bool,
    is_dialer: bool,
    redis: String,
    key: String,
    ip: IpAddr,
    timeout: Duration,
    options: Options,
}

impl Settings {
    fn read() -> Result<Self> {
        let unified = env::var("TRANSPORT").is_ok();
        let of = |name: &str, old: &str, otherwise: &str| {
            env::var(if unified { name } else { old }).unwrap_or_else(|_| otherwise.to_owned())
        };
        let transport = of("TRANSPORT", "transport", "");
        let ip: IpAddr = of("LISTENER_IP", "ip", "0.0.0.0").parse()?;
        let addr = transport::listen_address(&transport)?.replace("127.0.0.1", &ip.to_string());
        let options = Options {
            mode: if of("IS_DIALER", "is_dialer", "") == "true" { Mode::Dial } else { Mode::Listen },
            addr: addr.parse()?,
            steps: Vec::new(),
            transport,
            tls_cert: None,
            tls_key: None,
            tls_ca: None,
            tls: of("SECURE_CHANNEL", "security", "noise") == "tls",
            mplex: of("MUXER", "muxer", "yamux") == "mplex",
            key: Keypair::generate_ed25519(),
            signed_record: false,
            signing: "strict".to_owned(),
        };
        let key = if unified {
            format!("{}_listener_multiaddr", env::var("TEST_KEY")?)
        } else {
            "listenerAddr".to_owned()
        };
        let timeout = of("TEST_TIMEOUT_SECS", "test_timeout_seconds", &TIMEOUT.to_string()).parse()?;
        Ok(Self {
            unified,
            is_dialer: options.mode == Mode::Dial,
            redis: of("REDIS_ADDR", "redis_addr", "redis:6379"),
            key,
            ip,
            timeout: Duration::from_secs(timeout),
            options,
        })
    }
}

pub async fn run(suite: Option<String>) -> Result<bool> {
    let settings = Settings::read()?;
    let measures = suite.as_deref() == Some("perf");
    let done = async {
        let redis = Redis::connect(&settings.redis).await;
        if settings.is_dialer {
            dial(&settings, measures, redis).await
        } else {
            listen(&settings, measures, redis).await
        }
    };
    timeout(settings.timeout, done).await?
}

/// Runs until it is killed: who ends first, ends the test.
async fn listen(settings: &Settings, measures: bool, mut redis: Redis) -> Result<bool> {
    let mut swarm = new_swarm(&settings.options)?;
    let served = swarm.behaviour().streams.control().accept(perf::PERF);
    streams::serve(served, |_, stream| perf::serve(stream));
    swarm.listen_on(settings.options.addr.clone())?;
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await
            && (settings.ip.is_loopback() || !is_loopback(&address))
        {
            let address = address.with(Protocol::P2p(*swarm.local_peer_id())).to_string();
            redis.command(&["DEL", &settings.key]).await?;
            redis.command(&[if measures { "SET" } else { "RPUSH" }, &settings.key, &address]).await?;
        }
    }
}

fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Ip4(ip) if ip.is_loopback()))
}

async fn dial(settings: &Settings, measures: bool, mut redis: Redis) -> Result<bool> {
    if measures {
        return Err("this peer measures nothing as a dialer".into());
    }
    let mut swarm = new_swarm(&settings.options)?;
    if settings.options.transport == transport::WEBRTC_DIRECT {
        // It dials only from a socket that it listens on.
        swarm.listen_on(transport::listen_address(transport::WEBRTC_DIRECT)?.parse()?)?;
        while !matches!(swarm.select_next_some().await, SwarmEvent::NewListenAddr { .. }) {}
    }
    let reply = redis.command(&["BLPOP", &settings.key, "0"]).await?;
    let address: Multiaddr = reply.last().ok_or("redis has no address")?.parse()?;
    let began = Instant::now();
    swarm.dial(address)?;
    let round_trip = first_ping(&mut swarm).await?;
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let (handshake, round_trip) = (millis(began.elapsed()), millis(round_trip));
    if settings.unified {
        println!("latency:\n  handshake_plus_one_rtt: {handshake}\n  ping_rtt: {round_trip}\n  unit: ms");
    } else {
        println!("{}", json!({ "handshakePlusOneRTTMillis": handshake, "pingRTTMilllis": round_trip }));
    }
    Ok(true)
}

async fn first_ping(swarm: &mut Swarm<Behaviour>) -> Result<Duration> {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { result, .. })) => {
                return result.map_err(|error| error.to_string().into());
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
}
