//! Our node, as a user of the library puts it together: identify, ping, and the two services of the suite.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use peerage::{Event, Keypair, Multiaddr, Node, PeerId, ProtocolId, identify, ping};
use tokio::time::timeout;

use crate::streams::{self, CALLBACK, CALLBACK_SIZE, ECHO};

/// How our node calls itself in identify.
pub(crate) const AGENT: &str = concat!("peerage-interop/", env!("CARGO_PKG_VERSION"));
/// How long our node may take to end: it says goodbye to its connections.
const SHUTDOWN: Duration = Duration::from_secs(15);
/// How much of what it noticed is kept.
const NOTICES: usize = 20;

/// Our node.
pub(crate) struct Ours {
    pub(crate) node: Node,
    ping: ping::Handle,
    pub(crate) identify: identify::Handle,
    noticed: Arc<Mutex<Vec<String>>>,
    panicked: Arc<Mutex<Vec<String>>>,
}

impl Ours {
    /// Starts it, listening on loopback, with both services.
    pub(crate) async fn start() -> Result<Self, String> {
        let builder = Node::builder(Keypair::generate()).agent(AGENT);
        let builder = builder.listen("/ip4/127.0.0.1/tcp/0").map_err(|error| error.to_string())?;
        let (builder, ping) = builder.with(ping::Ping::default());
        let (builder, identify) = builder.with(identify::Identify::default());
        let node = builder.start().await.map_err(|error| format!("our node does not start: {error}"))?;
        let noticed = Arc::<Mutex<Vec<String>>>::default();
        let panicked = Arc::<Mutex<Vec<String>>>::default();
        tokio::spawn(listen_to(node.events(), Arc::clone(&noticed), Arc::clone(&panicked)));
        let ours = Self { node, ping, identify, noticed, panicked };
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
        let (node, noticed) = (self.node.clone(), Arc::clone(&self.noticed));
        let callback = self.node.serve(CALLBACK, move |stream, _| {
            let (node, noticed) = (node.clone(), Arc::clone(&noticed));
            async move {
                let connection = stream.connection();
                let echoed = async {
                    let opened = node.open_on(connection, ProtocolId::from_static(ECHO)).await;
                    let stream = opened.map_err(|error| format!("opening the stream back: {error}"))?;
                    streams::echo(stream, CALLBACK_SIZE).await
                };
                if let Err(why) = streams::serve_callback(stream, echoed).await {
                    note(&noticed, format!("serving a callback: {why}"));
                }
            }
        });
        callback.map(drop).map_err(|error| error.to_string())
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

    /// A callback; the echo that it leads to is served beside.
    pub(crate) async fn callback(&self, peer: PeerId) -> Result<((), String), String> {
        let stream = self.node.open(peer, CALLBACK).await.map_err(|error| format!("opening: {error}"))?;
        streams::callback(stream).await?;
        Ok(((), String::new()))
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

/// Keeps what a failure may be explained by.
async fn listen_to(
    mut events: peerage::Events,
    noticed: Arc<Mutex<Vec<String>>>,
    panicked: Arc<Mutex<Vec<String>>>,
) {
    while let Some(event) = events.next().await {
        match event {
            Event::Connected { connection, .. } => {
                note(&noticed, format!("connected with {} at {}", connection.peer, connection.remote));
            }
            Event::Disconnected { connection, why, .. } => {
                note(&noticed, format!("disconnected from {}: {why}", connection.peer));
            }
            Event::IncomingFailed { remote, why } => {
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
