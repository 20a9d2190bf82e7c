//! One protocol of the benchmarks, as the library wants them: a task of its own, to which the connections report.

use bench_peer::{Error, Result, serve};
use litep2p::{
    PeerId,
    codec::ProtocolCodec,
    protocol::{Direction, TransportEvent, TransportService, UserProtocol},
    substream::Substream,
    types::{SubstreamId, protocol::ProtocolName},
};
use tokio::sync::{mpsc, oneshot};

use std::collections::HashMap;

type Opened = oneshot::Sender<Result<Substream>>;

/// What a protocol is asked for.
pub enum Request {
    Open(Opened),
    /// Close the connection, whatever else uses it.
    HangUp,
}

pub struct Protocol {
    name: &'static str,
    requests: mpsc::Receiver<Request>,
    connected: Option<PeerId>,
    /// Whether to hang up as soon as this protocol is told of the connection, which others hear of before.
    leaving: bool,
    /// Asked for before this protocol was told of the connection.
    early: Vec<Opened>,
    opening: HashMap<SubstreamId, Opened>,
}

impl Protocol {
    /// The protocol, and where to ask it.
    pub fn new(name: &'static str) -> (Self, mpsc::Sender<Request>) {
        let (sender, requests) = mpsc::channel(128);
        let protocol = Self {
            name,
            requests,
            connected: None,
            leaving: false,
            early: Vec::new(),
            opening: HashMap::new(),
        };
        (protocol, sender)
    }

    fn open(&mut self, service: &mut TransportService, peer: PeerId, opened: Opened) {
        match service.open_substream(peer) {
            Ok(id) => drop(self.opening.insert(id, opened)),
            Err(error) => drop(opened.send(Err(Error::Failed(format!("opening {}: {error}", self.name))))),
        }
    }

    fn hear(&mut self, service: &mut TransportService, event: TransportEvent) {
        match event {
            TransportEvent::ConnectionEstablished { peer, .. } => {
                self.connected = Some(peer);
                if std::mem::take(&mut self.leaving) {
                    let _ = service.force_close(peer);
                }
                for opened in std::mem::take(&mut self.early) {
                    self.open(service, peer, opened);
                }
            }
            TransportEvent::ConnectionClosed { .. } => self.connected = None,
            TransportEvent::SubstreamOpened { substream, direction: Direction::Inbound, .. } => {
                let name = self.name;
                tokio::spawn(async move { serve(name, substream).await });
            }
            TransportEvent::SubstreamOpened { substream, direction: Direction::Outbound(id), .. } => {
                if let Some(opened) = self.opening.remove(&id) {
                    let _ = opened.send(Ok(substream));
                }
            }
            TransportEvent::SubstreamOpenFailure { substream, error } => {
                if let Some(opened) = self.opening.remove(&substream) {
                    let _ = opened.send(Err(Error::Failed(format!("opening {}: {error}", self.name))));
                }
            }
            TransportEvent::DialFailure { .. } => {}
        }
    }
}

#[async_trait::async_trait]
impl UserProtocol for Protocol {
    fn protocol(&self) -> ProtocolName {
        ProtocolName::from(self.name)
    }

    fn codec(&self) -> ProtocolCodec {
        ProtocolCodec::Unspecified
    }

    async fn run(mut self: Box<Self>, mut service: TransportService) -> litep2p::Result<()> {
        use futures::StreamExt as _;
        loop {
            tokio::select! {
                request = self.requests.recv() => match (request, self.connected) {
                    (Some(Request::Open(opened)), Some(peer)) => self.open(&mut service, peer, opened),
                    (Some(Request::Open(opened)), None) => self.early.push(opened),
                    (Some(Request::HangUp), Some(peer)) => drop(service.force_close(peer)),
                    (Some(Request::HangUp), None) => self.leaving = true,
                    (None, _) => return Ok(()),
                },
                event = service.next() => match event {
                    Some(event) => self.hear(&mut service, event),
                    None => return Ok(()),
                },
            }
        }
    }
}
