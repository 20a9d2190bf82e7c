//! An interop peer of Peerage on rust-libp2p. See ../README.md for the command line and the events.

mod streams;

use std::{error::Error, process::ExitCode, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, identify,
    multiaddr::Protocol,
    noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use libp2p_stream::Control;
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt as _,
    sync::watch,
    time::{Instant, timeout},
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const STEP_DEADLINE: Duration = Duration::from_secs(20);
const PINGS: usize = 3;
const STEPS: &str = "dial,ping,identify,echo-64k,echo-4m,callback";

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: libp2p_stream::Behaviour,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("peer: {error}");
            return ExitCode::from(2);
        }
    };
    let all_ok = if options.listen {
        listen(options).await
    } else {
        dial(options).await
    };
    match all_ok {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peer: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    listen: bool,
    addr: Multiaddr,
    steps: Vec<String>,
    signed_record: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let listen = match args.next().as_deref() {
            Some("listen") => true,
            Some("dial") => false,
            _ => {
                return Err("usage: peer listen|dial --addr <multiaddr> [--steps a,b] \
                            [--security noise] [--muxer yamux] [--signed-record]"
                    .into());
            }
        };
        let mut addr = "/ip4/127.0.0.1/tcp/0".to_owned();
        let mut steps = STEPS.to_owned();
        let mut signed_record = false;
        while let Some(flag) = args.next() {
            if flag == "--signed-record" {
                signed_record = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{flag} wants a value"))?;
            match (flag.as_str(), value.as_str()) {
                ("--addr", _) => addr = value,
                ("--steps", _) => steps = value,
                ("--security", "noise") | ("--muxer", "yamux") => {}
                _ => return Err(format!("no such option: {flag} {value}").into()),
            }
        }
        let steps: Vec<_> = steps.split(',').map(str::to_owned).collect();
        if !listen && steps[0] != "dial" {
            return Err("the first step must be dial".into());
        }
        Ok(Self {
            listen,
            addr: addr.parse()?,
            steps,
            signed_record,
        })
    }
}

fn new_swarm(options: &Options) -> Result<Swarm<Behaviour>> {
    let builder = SwarmBuilder::with_new_identity() // Ed25519
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?;
    let swarm = builder
        .with_behaviour(|key| {
            let version = "ipfs/0.1.0".to_owned();
            // What rust-libp2p signs is not what the specification says and what the others verify: js-libp2p
            // then drops the whole identify message. So without a record, as is the default, unless asked.
            let identify = if options.signed_record {
                identify::Config::new_with_signed_peer_record(version, key)
            } else {
                identify::Config::new(version, key.public())
            };
            let ping = if options.listen {
                ping::Config::new()
            } else {
                // The library has no way to ask for a ping. The step waits for the next ones.
                ping::Config::new().with_interval(Duration::from_millis(50))
            };
            Behaviour {
                identify: identify::Behaviour::new(identify),
                ping: ping::Behaviour::new(ping),
                streams: libp2p_stream::Behaviour::new(),
            }
        })?
        // Pings and idle streams do not keep a connection. Between two steps there is nothing else.
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    Ok(swarm)
}

async fn listen(options: Options) -> Result<bool> {
    let mut swarm = new_swarm(&options)?;
    let mut control = swarm.behaviour().streams.new_control();
    tokio::spawn(streams::serve_echo(control.accept(streams::ECHO)?));
    let incoming = control.accept(streams::CALLBACK)?;
    tokio::spawn(streams::serve_callback(incoming, control, STEP_DEADLINE));
    swarm.listen_on(options.addr)?;

    // The harness holds the other end of stdin: when it goes away, so do we.
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    loop {
        tokio::select! {
            read = stdin.read(&mut ignored) => {
                if matches!(read, Ok(0) | Err(_)) {
                    return Ok(true);
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::NewListenAddr { address, .. } => {
                    let peer = *swarm.local_peer_id();
                    let addr = address.with(Protocol::P2p(peer)).to_string();
                    emit(json!({ "event": "listening", "peer": peer.to_string(), "addrs": [addr] }));
                }
                SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                    emit(merge(json!({ "event": "identified" }), identify_fields(peer_id, &info)));
                }
                other => tracing::debug!(?other),
            },
        }
    }
}

async fn dial(options: Options) -> Result<bool> {
    let Some(Protocol::P2p(remote)) = options.addr.iter().last() else {
        return Err("the address to dial must end in /p2p/<id>".into());
    };
    let mut swarm = new_swarm(&options)?;
    let mut control = swarm.behaviour().streams.new_control();
    tokio::spawn(streams::serve_echo(control.accept(streams::ECHO)?));

    // The swarm lives in a task of its own, because nothing happens unless it is polled. It notes what the
    // steps want to know, and never waits for them.
    let (notes, mut seen) = watch::channel(Seen::default());
    swarm.dial(DialOpts::peer_id(remote).addresses(vec![options.addr]).build())?;
    tokio::spawn(async move {
        loop {
            let event = swarm.select_next_some().await;
            notes.send_if_modified(|seen| seen.note(event));
        }
    });

    let mut all_ok = true;
    for step in &options.steps {
        let started = Instant::now();
        let outcome = timeout(STEP_DEADLINE, run_step(step, remote, &mut seen, &mut control))
            .await
            .unwrap_or_else(|_| Err("timed out".into()));
        let head =
            json!({ "event": "step", "step": step, "ok": outcome.is_ok(), "ms": millis(started.elapsed()) });
        match outcome {
            Ok(details) => emit(merge(head, details)),
            Err(error) => {
                emit(merge(head, json!({ "error": error.to_string() })));
                all_ok = false;
                if step == "dial" {
                    break; // nothing works without a connection
                }
            }
        }
    }
    emit(json!({ "event": "done", "ok": all_ok }));
    Ok(all_ok)
}

async fn run_step(
    step: &str,
    remote: PeerId,
    seen: &mut watch::Receiver<Seen>,
    control: &mut Control,
) -> Result<Value> {
    match step {
        "dial" => {
            let seen = seen.wait_for(|seen| seen.dialed.is_some()).await?;
            match seen.dialed.as_ref().expect("waited for it") {
                Ok(()) => Ok(json!({ "peer": remote.to_string() })),
                Err(error) => Err(error.clone().into()),
            }
        }
        "ping" => {
            // Pings that came before the step do not count for it.
            let before = seen.borrow().pings.len();
            let enough = |seen: &Seen| {
                let pings = &seen.pings[before..];
                pings.len() >= PINGS || pings.iter().any(std::result::Result::is_err)
            };
            let seen = seen.wait_for(enough).await?;
            let pings = seen.pings[before..].iter().take(PINGS).cloned();
            let rtts = pings.collect::<std::result::Result<Vec<_>, _>>()?;
            Ok(json!({ "rtts_ms": rtts }))
        }
        "identify" => {
            let seen = seen.wait_for(|seen| seen.identified.is_some()).await?;
            Ok(seen.identified.clone().expect("waited for it"))
        }
        "echo-64k" => streams::echo(control, remote, 64 << 10).await,
        "echo-4m" => streams::echo(control, remote, 4 << 20).await,
        "callback" => streams::callback(control, remote).await,
        other => Err(format!("no such step: {other}").into()),
    }
}

/// What the swarm of a dialer has told so far.
#[derive(Default)]
struct Seen {
    dialed: Option<std::result::Result<(), String>>,
    identified: Option<Value>,
    pings: Vec<std::result::Result<f64, String>>,
}

impl Seen {
    /// Notes the event, and says whether it was news.
    fn note(&mut self, event: SwarmEvent<BehaviourEvent>) -> bool {
        match event {
            SwarmEvent::ConnectionEstablished { .. } => self.dialed = Some(Ok(())),
            SwarmEvent::OutgoingConnectionError { error, .. } => self.dialed = Some(Err(error.to_string())),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => {
                self.identified = Some(identify_fields(peer_id, &info));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { result, .. })) => {
                self.pings
                    .push(result.map(millis).map_err(|error| error.to_string()));
            }
            other => {
                tracing::debug!(?other);
                return false;
            }
        }
        true
    }
}

fn identify_fields(peer: PeerId, info: &identify::Info) -> Value {
    let strings = |addrs: &[Multiaddr]| addrs.iter().map(Multiaddr::to_string).collect::<Vec<_>>();
    json!({
        "peer": peer.to_string(),
        "agent": info.agent_version,
        "protocol_version": info.protocol_version,
        "protocols": info.protocols.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
        "addrs": strings(&info.listen_addrs),
        "observed": info.observed_addr.to_string(),
    })
}

fn merge(mut head: Value, tail: Value) -> Value {
    if let (Value::Object(head), Value::Object(tail)) = (&mut head, tail) {
        head.extend(tail);
    }
    head
}

fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

fn emit(event: Value) {
    println!("{event}");
}
