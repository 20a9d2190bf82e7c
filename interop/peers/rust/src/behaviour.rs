//! Streams as plain values: a behaviour that opens and accepts them for other tasks.
//!
//! The crate libp2p-stream is for this, but drops an incoming stream while another one waits to be taken. A suite
//! that opens a hundred at once wants them all.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{
    StreamExt as _,
    channel::{mpsc, oneshot},
};
use libp2p::{
    InboundUpgrade, Multiaddr, OutboundUpgrade, PeerId, Stream, StreamProtocol,
    core::{Endpoint, UpgradeInfo, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use crate::Result;

/// The streams of one protocol that come in, and who opened them.
pub type Incoming = mpsc::UnboundedReceiver<(PeerId, Stream)>;

type Opened = oneshot::Sender<std::result::Result<Stream, String>>;

/// What is asked of the handler of a connection.
enum Request {
    Open(StreamProtocol, Opened),
    /// Look again at what is accepted.
    Changed,
}

#[derive(Default)]
struct Shared {
    accepted: HashMap<StreamProtocol, mpsc::UnboundedSender<(PeerId, Stream)>>,
    connections: HashMap<ConnectionId, (PeerId, mpsc::UnboundedSender<Request>)>,
}

/// Opens and accepts streams.
#[derive(Clone, Default)]
pub struct Control(Arc<Mutex<Shared>>);

impl Control {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts the streams of a protocol from now on.
    pub fn accept(&self, protocol: StreamProtocol) -> Incoming {
        let (sender, incoming) = mpsc::unbounded();
        let mut shared = self.lock();
        shared.accepted.insert(protocol, sender);
        for (_, requests) in shared.connections.values() {
            let _ = requests.unbounded_send(Request::Changed);
        }
        incoming
    }

    /// Opens a stream on the connection that there is.
    pub async fn open(&self, peer: PeerId, protocol: StreamProtocol) -> Result<Stream> {
        let (reply, opened) = oneshot::channel();
        let requests = self
            .lock()
            .connections
            .values()
            .find(|(who, _)| *who == peer)
            .map(|(_, requests)| requests.clone());
        let requests = requests.ok_or("there is no connection")?;
        requests
            .unbounded_send(Request::Open(protocol.clone(), reply))
            .map_err(|_| "the connection has ended")?;
        let opened = opened.await.map_err(|_| "the connection has ended")?;
        Ok(opened.map_err(|why| format!("opening {protocol}: {why}"))?)
    }
}

/// The behaviour; what it does is asked for by its `Control`.
#[derive(Default)]
pub struct Behaviour {
    control: Control,
}

impl Behaviour {
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    fn handler(&self, connection: ConnectionId, peer: PeerId) -> Handler {
        let (sender, requests) = mpsc::unbounded();
        self.control.lock().connections.insert(connection, (peer, sender));
        Handler { peer, control: self.control.clone(), requests }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> std::result::Result<Handler, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> std::result::Result<Handler, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = event {
            self.control.lock().connections.remove(&closed.connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

pub struct Handler {
    peer: PeerId,
    control: Control,
    requests: mpsc::UnboundedReceiver<Request>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opened;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade(self.control.lock().accepted.keys().cloned().collect()), ())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, Opened, Infallible>> {
        while let Poll::Ready(Some(request)) = self.requests.poll_next_unpin(cx) {
            // The library compares what is accepted with what was, after each time that it polled us.
            if let Request::Open(protocol, opened) = request {
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(Upgrade(vec![protocol]), opened),
                });
            }
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade, (), Opened>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => {
                if let Some(accepted) = self.control.lock().accepted.get(&protocol) {
                    let _ = accepted.unbounded_send((self.peer, stream));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info,
            }) => {
                let _ = info.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let _ = info.send(Err(error.to_string()));
            }
            _ => {}
        }
    }
}

/// Any of these protocols; the stream is left as it is.
pub struct Upgrade(Vec<StreamProtocol>);

impl UpgradeInfo for Upgrade {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<std::result::Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<std::result::Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}
