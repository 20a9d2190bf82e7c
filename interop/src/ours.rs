//! Our node, as a user of the library puts it together: identify, ping, perf, and the services of the suite.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use peerage::{
    Event, Keypair, Multiaddr, Node, PeerId, identify,
    identity::KeyType,
    perf, ping,
    transport::{
        upgrade::{MuxerKind, Security},
        websocket::{self, Certificate},
    },
};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{
    plan::{Key, Setup, Transport},
    site::Site,
    streams::{self, CALLBACK, CALLBACK_SIZE, CHANGE, CHANGED, ECHO, MANY, MANY_SIZE, PING_BACK, SEEN},
};

/// How our node calls itself in identify.
pub(crate) const AGENT: &str = concat!("peerage-interop/", env!("CARGO_PKG_VERSION"));
/// How long our node may take to end: it says goodbye to its connections.
const SHUTDOWN: Duration = Duration::from_secs(15);
/// How much of what it noticed is kept.
const NOTICES: usize = 20;

/// How long it does what a peer asked for. The peers take as long.
const ASKED: Duration = Duration::from_secs(20);
/// What perf carries each way.
const PERF_SIZE: u64 = 10 << 20;

/// What identify told last of each peer.
type Known = watch::Receiver<HashMap<PeerId, Arc<identify::Info>>>;
/// Something that a peer asked for, while it is done.
type Doing = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Our node.
#[derive(Clone)]
pub(crate) struct Ours {
    pub(crate) node: Node,
    ping: ping::Handle,
    perf: perf::Handle,
    pub(crate) identify: identify::Handle,
    known: Known,
    noticed: Arc<Mutex<Vec<String>>>,
    panicked: Arc<Mutex<Vec<String>>>,
}

impl Ours {
    /// Starts it, listening on loopback over one transport, with one security protocol and one muxer where that has
    /// none of its own, and all services.
    pub(crate) async fn start(setup: Setup, site: &Site) -> Result<Self, String> {
        let wrong = |error| format!("our node: {error}");
        let mut builder = Node::builder(keypair(setup.key)).agent(AGENT);
        if let Some(security) = setup.security {
            let security: Security = security.word().parse().map_err(wrong)?;
            builder = builder.security([security]);
        }
        if let Some(muxer) = setup.muxer {
            let muxer: MuxerKind = muxer.word().parse().map_err(wrong)?;
            builder = builder.muxers([muxer]);
        }
        if setup.transport == Transport::Wss {
            builder = builder.websocket(wss(site).map_err(|error| format!("our node: {error}"))?);
        }
        let builder = builder.listen(setup.transport.listen()).map_err(|error| error.to_string())?;
        let (builder, ping) = builder.with(ping::Ping::default());
        let (builder, perf) = builder.with(perf::Perf::default());
        let (builder, identify) = builder.with(identify::Identify::default());
        let node = builder.start().await.map_err(|error| format!("our node does not start: {error}"))?;
        let (knowing, known) = watch::channel(HashMap::new());
        let noticed = Arc::<Mutex<Vec<String>>>::default();
        let panicked = Arc::<Mutex<Vec<String>>>::default();
        tokio::spawn(listen_to(node.events(), knowing, Arc::clone(&noticed), Arc::clone(&panicked)));
        let ours = Self { node, ping, perf, identify, known, noticed, panicked };
        ours.serve()?;
        Ok(ours)
    }

    fn serve(&self) -> Result<(), String> {
        let noticed = Arc::clone(&self.noticed);
        let echo = self.node.serve(ECHO, move |stream, _| {
            let noticed = Arc::clone(&noticed);
            async move {
                if let Err(error) = streams::serve_echo(stream).await {
                    note(&noticed, format!("serving an echo: {error}"));
                }
            }
        });
        echo.map_err(|error| error.to_string())?;
        self.serve_ask(PING_BACK, |ours, peer| Box::pin(async move { ours.ping(peer).await.map(drop) }))?;
        self.serve_ask(SEEN, |ours, peer| Box::pin(async move { ours.changed(peer).await }))?;
        self.serve_ask(CHANGE, |ours, _| Box::pin(async move { ours.change() }))?;
        self.serve_ask(CALLBACK, |ours, peer| {
            Box::pin(async move { ours.echo(peer, CALLBACK_SIZE).await.map(drop) })
        })
    }

    /// Does what is asked for under a name.
    fn serve_ask(
        &self,
        name: &'static str,
        doing: impl Fn(Self, PeerId) -> Doing + Send + Sync + 'static,
    ) -> Result<(), String> {
        let (ours, doing) = (self.clone(), Arc::new(doing));
        let serving = self.node.serve(name, move |stream, peer| {
            let (ours, doing) = (ours.clone(), Arc::clone(&doing));
            async move {
                let noticed = Arc::clone(&ours.noticed);
                let doing = timeout(ASKED, doing(ours, peer));
                let done = async { doing.await.unwrap_or_else(|_| Err("it takes too long".to_owned())) };
                if let Err(why) = streams::serve_ask(stream, done).await {
                    note(&noticed, format!("serving {name}: {why}"));
                }
            }
        });
        serving.map(drop).map_err(|error| error.to_string())
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.node.peer_id()
    }

    /// Where it can be dialed, with its peer id.
    pub(crate) fn address(&self) -> Result<Multiaddr, String> {
        self.node.addresses().into_iter().next().ok_or_else(|| "our node listens nowhere".to_owned())
    }

    /// Three round trips.
    pub(crate) async fn ping(&self, peer: PeerId) -> Result<((), String), String> {
        let mut trips = Vec::new();
        for _ in 0..3 {
            let rtt = self.ping.rtt(peer).await.map_err(|error| error.to_string())?;
            trips.push(format!("{:.2} ms", rtt.as_secs_f64() * 1000.0));
        }
        Ok(((), trips.join(", ")))
    }

    /// An echo of `size` bytes.
    pub(crate) async fn echo(&self, peer: PeerId, size: usize) -> Result<((), String), String> {
        let stream = self.node.open(peer, ECHO).await.map_err(|error| format!("opening: {error}"))?;
        streams::echo(stream, size).await?;
        Ok(((), format!("{size} bytes")))
    }

    /// Many echoes at once.
    pub(crate) async fn many(&self, peer: PeerId) -> Result<((), String), String> {
        let mut echoes = JoinSet::new();
        for _ in 0..MANY {
            let ours = self.clone();
            echoes.spawn(async move { ours.echo(peer, MANY_SIZE).await });
        }
        let mut failed = Vec::new();
        while let Some(echoed) = echoes.join_next().await {
            failed.extend(echoed.unwrap_or_else(|error| Err(error.to_string())).err());
        }
        match failed.first() {
            None => Ok(((), format!("{MANY} streams"))),
            Some(first) => Err(format!("{} of {MANY} failed, the first: {first}", failed.len())),
        }
    }

    /// A measurement, the same amount each way.
    pub(crate) async fn perf(&self, peer: PeerId) -> Result<((), String), String> {
        let measured = self.perf.measure(peer, perf::Request::new(PERF_SIZE, PERF_SIZE)).await;
        let measured = measured.map_err(|error| error.to_string())?;
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        Ok(((), rates(ms(measured.upload_time), ms(measured.download_time))))
    }

    /// Asks the peer to do what it does under this name.
    pub(crate) async fn ask(&self, peer: PeerId, name: &'static str) -> Result<((), String), String> {
        let stream = self.node.open(peer, name).await.map_err(|error| format!("opening: {error}"))?;
        streams::ask(stream).await?;
        Ok(((), String::new()))
    }

    /// Pushes a change to the peer, and asks whether it has seen it.
    pub(crate) async fn push(&self, peer: PeerId) -> Result<((), String), String> {
        self.change()?;
        self.ask(peer, SEEN).await
    }

    /// Lets the peer push a change, and waits for it.
    pub(crate) async fn pushed(&self, peer: PeerId) -> Result<((), String), String> {
        self.ask(peer, CHANGE).await?;
        self.changed(peer).await?;
        Ok(((), String::new()))
    }

    /// Speaks one protocol more from now on.
    fn change(&self) -> Result<(), String> {
        let serving = self.node.serve(CHANGED, |stream, _| async move { drop(stream) });
        serving.map(drop).map_err(|error| error.to_string())
    }

    /// Waits until identify has told that the peer speaks one protocol more.
    async fn changed(&self, peer: PeerId) -> Result<(), String> {
        let mut known = self.known.clone();
        let speaks = |info: &Arc<identify::Info>| info.protocols.iter().any(|one| one.as_str() == CHANGED);
        let changed = known.wait_for(|known| known.get(&peer).is_some_and(speaks)).await;
        changed.map(drop).map_err(|_| "our node has ended".to_owned())
    }

    /// What it noticed beside the steps.
    pub(crate) fn noticed(&self) -> Vec<String> {
        self.noticed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it; an error if it does not end, or if one of its actors has panicked.
    pub(crate) async fn stop(&self) -> Result<(), String> {
        if timeout(SHUTDOWN, self.node.shutdown()).await.is_err() {
            note(&self.noticed, format!("its actors, when it should have ended:\n{}", self.node.tree()));
            return Err(format!("our node did not end within {} s", SHUTDOWN.as_secs()));
        }
        let panicked = self.panicked.lock().unwrap_or_else(PoisonError::into_inner);
        if panicked.is_empty() { Ok(()) } else { Err(panicked.join("; ")) }
    }
}

/// How fast the two halves of perf were.
pub(crate) fn rates(up_ms: f64, down_ms: f64) -> String {
    let rate = |ms: f64| PERF_SIZE as f64 / 1e3 / ms.max(0.001);
    format!("up {:.0} MB/s, down {:.0} MB/s", rate(up_ms), rate(down_ms))
}

/// What it shows over wss, and whom it believes: the run's own authority, and nobody else.
fn wss(site: &Site) -> Result<websocket::Config, websocket::PemError> {
    let mut config = websocket::Config::default();
    config.certificate = Some(Certificate::from_files(site.certificate(), site.key())?);
    config.authorities = websocket::authorities(&site.authority())?;
    config.system_roots = false;
    Ok(config)
}

fn keypair(key: Key) -> Keypair {
    Keypair::generate_of(match key {
        Key::Ed25519 => KeyType::Ed25519,
        Key::Secp256k1 => KeyType::Secp256k1,
        Key::Ecdsa => KeyType::Ecdsa,
        Key::Rsa => KeyType::Rsa,
    })
}

/// Keeps what identify tells, and what a failure may be explained by.
async fn listen_to(
    mut events: peerage::Events,
    knowing: watch::Sender<HashMap<PeerId, Arc<identify::Info>>>,
    noticed: Arc<Mutex<Vec<String>>>,
    panicked: Arc<Mutex<Vec<String>>>,
) {
    while let Some(event) = events.next().await {
        match event {
            Event::Identified { peer, info } => {
                knowing.send_modify(|known| drop(known.insert(peer, info)));
            }
            Event::Connected { connection, .. } => {
                note(&noticed, format!("connected with {} at {}", connection.peer, connection.remote));
            }
            Event::Disconnected { connection, why, .. } => {
                note(&noticed, format!("disconnected from {}: {why}", connection.peer));
            }
            Event::IncomingFailed { remote, why, .. } => {
                note(&noticed, format!("an incoming connection from {remote} failed: {why}"));
            }
            Event::PeerBanned { peer, why, .. } => note(&noticed, format!("{peer} was banned: {why}")),
            Event::NotListening { address, why } => {
                note(&noticed, format!("no longer listening on {address}: {why}"));
            }
            Event::ActorPanicked { actor, panic, .. } => {
                note(&panicked, format!("our actor {actor} panicked: {panic}"));
            }
            Event::ActorSwitchedOff { actor, why } => {
                note(&panicked, format!("our actor {actor} was switched off: {why}"));
            }
            _ => {}
        }
    }
}

fn note(noticed: &Mutex<Vec<String>>, text: String) {
    let mut noticed = noticed.lock().unwrap_or_else(PoisonError::into_inner);
    if noticed.len() < NOTICES {
        noticed.push(text);
    }
}
