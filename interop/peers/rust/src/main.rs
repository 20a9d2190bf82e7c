//! An interop peer of Peerage on rust-libp2p. See ../README.md for the command line and the events.

mod behaviour;
mod contract;
mod gossip;
mod perf;
mod redis;
mod streams;
mod transport;

use std::{collections::HashMap, error::Error, path::PathBuf, process::ExitCode, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, identify,
    identity::Keypair,
    multiaddr::Protocol,
    ping,
    swarm::{self, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt as _,
    sync::watch,
    time::{Instant, timeout},
};

use behaviour::Control;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const STEP_DEADLINE: Duration = Duration::from_secs(20);
const PINGS: usize = 3;
const STEPS: &str = "dial,ping,identify,echo-64k,echo-4m,perf,many,callback,ping-back,push,pushed";
/// The library reads RSA keys, but makes none. This one is known to everybody.
const RSA_KEY: &[u8] = include_bytes!("../rsa-2048.pk8");

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: behaviour::Behaviour,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let all_ok = if std::env::args().nth(1).as_deref() == Some("contract") {
        // Of `--suite NAME`, the name.
        contract::run(std::env::args().nth(3)).await
    } else {
        match Options::parse(std::env::args().skip(1)) {
            Ok(options) => match options.mode {
                Mode::Listen => listen(options).await,
                Mode::Dial => dial(options).await,
                Mode::Gossip => gossip::gossip(options).await,
            },
            Err(error) => {
                eprintln!("peer: {error}");
                return ExitCode::from(2);
            }
        }
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

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Listen,
    Dial,
    Gossip,
}

struct Options {
    mode: Mode,
    addr: Multiaddr,
    steps: Vec<String>,
    transport: String,
    /// Of a listener over wss, as PEM files.
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    /// Whom a dialer over wss trusts, as a PEM file.
    tls_ca: Option<PathBuf>,
    tls: bool,
    mplex: bool,
    key: Keypair,
    signed_record: bool,
    /// Of messages: strict, named or anonymous.
    signing: String,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mode = match args.next().as_deref() {
            Some("listen") => Mode::Listen,
            Some("dial") => Mode::Dial,
            Some("gossip") => Mode::Gossip,
            _ => {
                return Err("usage: peer listen|dial|gossip --addr <multiaddr> [--steps a,b] \
                            [--transport tcp|ws|wss|quic-v1|webrtc-direct] [--tls-cert FILE --tls-key FILE] \
                            [--tls-ca FILE] [--security noise|tls] [--muxer yamux|mplex] \
                            [--key-type ed25519|secp256k1|ecdsa|rsa] [--signed-record] \
                            [--signing strict|named|anonymous]"
                    .into());
            }
        };
        let mut addr = None;
        let mut transport = "tcp".to_owned();
        let (mut tls_cert, mut tls_key, mut tls_ca) = (None, None, None);
        let mut steps = STEPS.to_owned();
        let mut signing = "strict".to_owned();
        let (mut tls, mut mplex, mut signed_record) = (false, false, false);
        let mut key = Keypair::generate_ed25519();
        while let Some(flag) = args.next() {
            if flag == "--signed-record" {
                signed_record = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{flag} wants a value"))?;
            match (flag.as_str(), value.as_str()) {
                ("--addr", _) => addr = Some(value),
                ("--steps", _) => steps = value,
                ("--signing", "strict" | "named" | "anonymous") => signing = value,
                ("--transport", _) => transport = value,
                ("--tls-cert", _) => tls_cert = Some(value.into()),
                ("--tls-key", _) => tls_key = Some(value.into()),
                ("--tls-ca", _) => tls_ca = Some(value.into()),
                ("--security", "noise" | "tls") => tls = value == "tls",
                ("--muxer", "yamux" | "mplex") => mplex = value == "mplex",
                ("--key-type", "ed25519") => key = Keypair::generate_ed25519(),
                ("--key-type", "secp256k1") => key = Keypair::generate_secp256k1(),
                ("--key-type", "ecdsa") => key = Keypair::generate_ecdsa(),
                ("--key-type", "rsa") => key = Keypair::rsa_from_pkcs8(&mut RSA_KEY.to_vec())?,
                _ => return Err(format!("no such option: {flag} {value}").into()),
            }
        }
        let steps: Vec<_> = steps.split(',').map(str::to_owned).collect();
        if mode == Mode::Dial && steps[0] != "dial" {
            return Err("the first step must be dial".into());
        }
        let default = transport::listen_address(&transport)?;
        let addr = addr.as_deref().unwrap_or(default).parse()?;
        Ok(Self {
            mode,
            addr,
            steps,
            transport,
            tls_cert,
            tls_key,
            tls_ca,
            tls,
            mplex,
            key,
            signed_record,
            signing,
        })
    }
}

fn new_swarm(options: &Options) -> Result<Swarm<Behaviour>> {
    let version = "ipfs/0.1.0".to_owned();
    // What rust-libp2p signs is not what the specification says and what the others verify: js-libp2p
    // then drops the whole identify message. So without a record, as is the default, unless asked.
    let identify = if options.signed_record {
        identify::Config::new_with_signed_peer_record(version, &options.key)
    } else {
        identify::Config::new(version, options.key.public())
    };
    let behaviour = Behaviour {
        identify: identify::Behaviour::new(identify),
        // The library has no way to ask for a ping. The steps wait for the next ones.
        ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_millis(50))),
        streams: behaviour::Behaviour::default(),
    };
    // Pings and idle streams do not keep a connection. Between two steps there is nothing else.
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(600));
    Ok(Swarm::new(transport::new(options)?, behaviour, options.key.public().to_peer_id(), config))
}

async fn listen(options: Options) -> Result<bool> {
    let mut swarm = new_swarm(&options)?;
    let (notes, seen) = watch::channel(Seen::default());
    serve(&swarm.behaviour().streams.control(), seen);
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
            event = swarm.select_next_some() => {
                match &event {
                    SwarmEvent::NewListenAddr { address, .. } => {
                        let peer = *swarm.local_peer_id();
                        let addr = address.clone().with(Protocol::P2p(peer)).to_string();
                        emit(json!({ "event": "listening", "peer": peer.to_string(), "addrs": [addr] }));
                    }
                    SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                        emit(merge(json!({ "event": "identified" }), identify_fields(*peer_id, info)));
                    }
                    _ => {}
                }
                notes.send_if_modified(|seen| seen.note(event));
            },
        }
    }
}

/// All that a listener serves.
fn serve(control: &Control, seen: watch::Receiver<Seen>) {
    use streams::{CALLBACK, CALLBACK_BYTES, CHANGE, ECHO, PING_BACK, SEEN};

    streams::serve(control.accept(ECHO), |_, stream| streams::serve_echo(stream));
    streams::serve(control.accept(perf::PERF), |_, stream| perf::serve(stream));
    let echoing = control.clone();
    streams::serve_ask(control.accept(CALLBACK), STEP_DEADLINE, move |peer| {
        let control = echoing.clone();
        async move { streams::echo(&control, peer, CALLBACK_BYTES).await }
    });
    let pings = seen.clone();
    streams::serve_ask(control.accept(PING_BACK), STEP_DEADLINE, move |peer| {
        let seen = pings.clone();
        async move { next_pings(seen, peer).await }
    });
    streams::serve_ask(control.accept(SEEN), STEP_DEADLINE, move |peer| {
        let seen = seen.clone();
        async move { changed(seen, peer).await }
    });
    let changing = control.clone();
    streams::serve_ask(control.accept(CHANGE), STEP_DEADLINE, move |_| {
        change(&changing);
        async { Ok(json!({})) }
    });
}

async fn dial(options: Options) -> Result<bool> {
    let Some(Protocol::P2p(remote)) = options.addr.iter().last() else {
        return Err("the address to dial must end in /p2p/<id>".into());
    };
    let mut swarm = new_swarm(&options)?;
    let control = swarm.behaviour().streams.control();
    streams::serve(control.accept(streams::ECHO), |_, stream| streams::serve_echo(stream));

    if options.transport == transport::WEBRTC_DIRECT {
        // It dials only from a socket that it listens on.
        swarm.listen_on(transport::listen_address(&options.transport)?.parse()?)?;
    }

    // The swarm lives in a task of its own, because nothing happens unless it is polled. It notes what the
    // steps want to know, and never waits for them.
    let (notes, seen) = watch::channel(Seen::default());
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
        let outcome = timeout(STEP_DEADLINE, run_step(step, remote, seen.clone(), &control))
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
    mut seen: watch::Receiver<Seen>,
    control: &Control,
) -> Result<Value> {
    match step {
        "dial" => {
            let seen = seen.wait_for(|seen| seen.dialed.is_some()).await?;
            match seen.dialed.as_ref().expect("waited for it") {
                Ok(()) => Ok(json!({ "peer": remote.to_string() })),
                Err(error) => Err(error.clone().into()),
            }
        }
        "ping" => next_pings(seen, remote).await,
        "identify" => {
            let seen = seen.wait_for(|seen| seen.identified(remote).is_some()).await?;
            Ok(seen.identified(remote).cloned().expect("waited for it"))
        }
        "echo-64k" => streams::echo(control, remote, 64 << 10).await,
        "echo-4m" => streams::echo(control, remote, 4 << 20).await,
        "perf" => perf::perf(control, remote).await,
        "many" => streams::many(control, remote).await,
        "callback" => streams::ask(control, remote, streams::CALLBACK).await,
        "ping-back" => streams::ask(control, remote, streams::PING_BACK).await,
        "push" => {
            change(control);
            streams::ask(control, remote, streams::SEEN).await
        }
        "pushed" => {
            streams::ask(control, remote, streams::CHANGE).await?;
            changed(seen, remote).await
        }
        other => Err(format!("no such step: {other}").into()),
    }
}

/// The next pings; those that came before do not count.
async fn next_pings(mut seen: watch::Receiver<Seen>, peer: PeerId) -> Result<Value> {
    let before = seen.borrow().pings_of(peer).count();
    let pings = |seen: &Seen| -> std::result::Result<Vec<f64>, String> {
        seen.pings_of(peer).skip(before).take(PINGS).cloned().collect()
    };
    let seen = seen.wait_for(|seen| pings(seen).map_or(true, |pings| pings.len() == PINGS)).await?;
    Ok(json!({ "rtts_ms": pings(&seen)? }))
}

/// Makes identify push: from now on we speak one protocol more.
fn change(control: &Control) {
    drop(control.accept(streams::CHANGED)); // it only is to be named
}

/// Waits until identify has told that the remote speaks one protocol more.
async fn changed(mut seen: watch::Receiver<Seen>, peer: PeerId) -> Result<Value> {
    let speaks = |found: &Value| {
        found["protocols"].as_array().is_some_and(|all| all.contains(&json!(streams::CHANGED.as_ref())))
    };
    seen.wait_for(|seen| seen.identified(peer).is_some_and(speaks)).await?;
    Ok(json!({}))
}

/// What the swarm has told so far.
#[derive(Default)]
struct Seen {
    dialed: Option<std::result::Result<(), String>>,
    /// What identify told last of each peer.
    identified: HashMap<PeerId, Value>,
    pings: Vec<(PeerId, std::result::Result<f64, String>)>,
}

impl Seen {
    fn identified(&self, peer: PeerId) -> Option<&Value> {
        self.identified.get(&peer)
    }

    fn pings_of(&self, peer: PeerId) -> impl Iterator<Item = &std::result::Result<f64, String>> {
        self.pings.iter().filter(move |(who, _)| *who == peer).map(|(_, result)| result)
    }

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
                self.identified.insert(peer_id, identify_fields(peer_id, &info));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, result, .. })) => {
                self.pings.push((peer, result.map(millis).map_err(|error| error.to_string())));
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
