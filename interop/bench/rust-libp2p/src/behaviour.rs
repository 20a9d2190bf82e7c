//! Opens streams for other tasks, and serves those that come, each in a task of its own.
//!
//! The crate libp2p-stream is for this, but drops an incoming stream while another one waits to be taken.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bench_peer::{Error, PROTOCOLS, Result, serve};
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
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

type Opened = oneshot::Sender<std::result::Result<Stream, String>>;
type Requests = mpsc::UnboundedSender<(StreamProtocol, Opened)>;
type Connections = Arc<Mutex<HashMap<ConnectionId, Requests>>>;

/// Opens streams on the connection that there is.
#[derive(Clone, Default)]
pub struct Control(Connections);

impl Control {
    pub async fn open(&self, protocol: &'static str) -> Result<Stream> {
        let (reply, opened) = oneshot::channel();
        let requests = {
            let connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            connections.values().next().cloned()
        };
        let requests = requests.ok_or_else(|| Error::Failed("there is no connection".to_owned()))?;
        let gone = || Error::Failed("the connection has ended".to_owned());
        requests.unbounded_send((StreamProtocol::new(protocol), reply)).map_err(|_| gone())?;
        let opened = opened.await.map_err(|_| gone())?;
        opened.map_err(|why| Error::Failed(format!("opening {protocol}: {why}")))
    }
}

/// The behaviour; what it does is asked for by its `Control`.
#[derive(Default)]
pub struct Behaviour(Control);

impl Behaviour {
    pub fn control(&self) -> Control {
        self.0.clone()
    }

    fn handler(&self, connection: ConnectionId) -> Handler {
        let (sender, requests) = mpsc::unbounded();
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).insert(connection, sender);
        Handler { requests }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> std::result::Result<Handler, ConnectionDenied> {
        Ok(self.handler(connection))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> std::result::Result<Handler, ConnectionDenied> {
        Ok(self.handler(connection))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = event {
            self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&closed.connection_id);
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
    requests: mpsc::UnboundedReceiver<(StreamProtocol, Opened)>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opened;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade(PROTOCOLS.map(StreamProtocol::new).to_vec()), ())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, Opened, Infallible>> {
        match self.requests.poll_next_unpin(cx) {
            Poll::Ready(Some((protocol, opened))) => {
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(Upgrade(vec![protocol]), opened),
                })
            }
            _ => Poll::Pending,
        }
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
                tokio::spawn(async move { serve(protocol.as_ref(), stream.compat()).await });
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
