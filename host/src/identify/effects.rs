use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use peerage_core::PeerId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::AbortHandle,
    time::timeout,
};

use super::{
    IdentifyError, Info, PROTOCOL, PUSH, PeerRecordState, TIMEOUT,
    codec::{self, Decoder, Own},
    credible::credible,
    engine::{Action, Engine, Input},
    rate::PushRate,
};
use crate::{
    ConnectionId, ErrorCode, Event, NodeRef, OwnAddress, Stream,
    actor::{Effects, Port, Tasks},
    addresses::Observation,
    book,
    node::Inner,
};

pub(super) struct Performer {
    node: NodeRef,
    port: Port<Engine>,
    tasks: Tasks,
    asking: BTreeMap<ConnectionId, AbortHandle>,
    /// The own addresses that the user was told of last.
    announced: Vec<OwnAddress>,
}

impl Performer {
    pub(super) fn new(node: NodeRef, port: Port<Engine>) -> Self {
        Self { node, port, tasks: Tasks::default(), asking: BTreeMap::new(), announced: Vec::new() }
    }

    fn ask(&mut self, id: ConnectionId, peer: PeerId) {
        let (node, port) = (self.node.clone(), self.port.clone());
        let task = {
            let port = port.clone();
            async move {
                let result = ask(node, id, peer).await;
                let _ = port.input(Some(peer), Input::Said { id, result }).await;
            }
        };
        let handle = self.tasks.spawn(task, move |panic| {
            let result = Err(IdentifyError::Stream(format!("reading the answer panicked: {panic}")));
            port.post_input(Some(peer), Input::Said { id, result });
        });
        self.asking.retain(|_, task| !task.is_finished());
        self.asking.insert(id, handle);
    }

    fn tell(&mut self, id: ConnectionId, peer: PeerId) {
        let (node, port, panicked) = (self.node.clone(), self.port.clone(), self.port.clone());
        let task = async move {
            if let Err(error) = push(node, id).await {
                // It hears of it when it asks.
                tracing::debug!(%peer, error, "a peer was not told of a change");
            }
            let _ = port.input(None, Input::Told { id }).await;
        };
        self.tasks.spawn(task, move |_| panicked.post_input(None, Input::Told { id }));
    }
}

impl Effects<Action> for Performer {
    fn perform(&mut self, action: Action) {
        match action {
            Action::Ask { id, peer } => self.ask(id, peer),
            Action::Abort { id } => {
                if let Some(task) = self.asking.remove(&id) {
                    task.abort();
                }
            }
            Action::Identified { id, peer, info } => {
                let Some(node) = self.node.inner() else { return };
                observed(&node, id, &info);
                let remote = node.directory.connection(id).map(|handle| handle.info.remote.clone());
                let said = book::Said {
                    protocols: info.protocols.clone(),
                    agent: info.agent_version.clone(),
                    addresses: credible(&info.listen_addrs, remote.as_ref()),
                    certified: match &info.signed_record {
                        PeerRecordState::Valid(record) => credible(record.addresses(), remote.as_ref()),
                        _ => Vec::new(),
                    },
                    record: info.certified(),
                };
                node.ports.book.post_for(peer, book::Command::Identified { peer, said });
                node.emit(Event::Identified { peer, info });
            }
            Action::Tell { id, peer } => self.tell(id, peer),
            Action::Announce => {
                let Some(node) = self.node.inner() else { return };
                let addresses = node.lock_own().all();
                if addresses != self.announced {
                    self.announced.clone_from(&addresses);
                    node.emit(Event::OwnAddresses { addresses });
                }
            }
            Action::Answer { reply, result } => reply.send(result),
        }
    }
}

/// From where the peer sees this node come.
fn observed(node: &Inner, id: ConnectionId, info: &Info) {
    let (Some(address), Some(handle)) = (&info.observed_addr, node.directory.connection(id)) else {
        return;
    };
    let observation = Observation { connection: &handle.info, address };
    if node.lock_own().observed(&observation) {
        node.changed();
    }
}

async fn ask(node: NodeRef, id: ConnectionId, peer: PeerId) -> Result<Info, IdentifyError> {
    let node = node.get().ok_or(IdentifyError::Closed)?;
    let opened = node.open_on(id, PROTOCOL).await;
    drop(node);
    let mut stream = opened.map_err(|error| IdentifyError::Stream(error.to_string()))?;
    // Nothing will be said on it; go-libp2p's answerer does not wait for that, others do.
    let _ = stream.close_write().await;
    read(&mut stream, peer).await
}

/// Reads what a peer says of itself, until it ends.
async fn read(stream: &mut Stream, peer: PeerId) -> Result<Info, IdentifyError> {
    let mut decoder = Decoder::new(peer);
    let mut chunk = [0; 1024];
    loop {
        let read = stream.read(&mut chunk).await.map_err(|error| IdentifyError::Stream(error.to_string()))?;
        if read == 0 {
            return Ok(decoder.finish()?);
        }
        decoder.feed(chunk.get(..read).unwrap_or_default())?;
    }
}

/// Tells a peer what this node is now.
async fn push(node: NodeRef, id: ConnectionId) -> Result<(), String> {
    let running = node.get().ok_or("the node has ended")?;
    let opened = running.open_on(id, PUSH).await;
    drop(running);
    let mut stream = opened.map_err(|error| error.to_string())?;
    let answer = answer(&node, id).ok_or("the connection has ended")?;
    write(&mut stream, &answer).await.map_err(|error| error.to_string())
}

/// A peer tells of a change. One that does so too often is not listened to, before anything is read.
pub(super) async fn hear(
    node: NodeRef,
    port: Port<Engine>,
    rate: Arc<PushRate>,
    mut stream: Stream,
) -> Result<(), IdentifyError> {
    let (id, peer) = (stream.connection(), stream.peer());
    {
        let Some(node) = node.inner() else { return Ok(()) };
        let Some(handle) = node.directory.connection(id) else { return Ok(()) };
        if !rate.allows(&handle.info, node.kernel.clock.now()) {
            stream.reset(ErrorCode::RATE_LIMITED);
            return Ok(());
        }
    }
    let change = timeout(TIMEOUT, read(&mut stream, peer)).await.unwrap_or(Err(IdentifyError::Timeout))?;
    let _ = stream.close_write().await;
    let _ = port.input(Some(peer), Input::Pushed { id, change }).await;
    Ok(())
}

/// The other side: says who this node is, and closes.
pub(super) async fn tell(node: NodeRef, mut stream: Stream) -> io::Result<()> {
    match answer(&node, stream.connection()) {
        Some(answer) => write(&mut stream, &answer).await,
        None => Ok(()),
    }
}

/// What this node says of itself on a connection; `None` if one of them has ended.
fn answer(node: &NodeRef, id: ConnectionId) -> Option<Vec<u8>> {
    let node = node.inner()?;
    let handle = node.directory.connection(id)?;
    Some(codec::encode(&Own {
        keypair: &node.keypair,
        agent: &node.agent,
        listen_addrs: &node.advertised_addresses(&handle.info),
        observed_addr: &handle.info.remote,
        protocols: &node.registry.advertised(),
        sequence: node.kernel.clock.now().unix,
    }))
}

async fn write(stream: &mut Stream, answer: &[u8]) -> io::Result<()> {
    let writing = async {
        stream.write_all(answer).await?;
        stream.close_write().await
    };
    timeout(TELL_TIMEOUT, writing).await?
}

/// How long a peer may take to read what this node says.
const TELL_TIMEOUT: Duration = TIMEOUT;
