use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use peerage_core::{PeerId, identity::Proofs};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::AbortHandle,
    time::timeout,
};

use super::{
    IdentifyError, Info, PROTOCOL, PUSH, PeerRecordState, TIMEOUT,
    codec::{self, Decoder, MAX_ADDRESSES},
    credible::credible,
    engine::{Action, Command, Engine, Input},
    rate::PushRate,
    seal::Seals,
};
use crate::{
    ConnectionId, ErrorCode, Event, NodeRef, OwnAddress, Stream,
    actor::{Effects, Port, Tasks},
    addresses::Observation,
    book,
    node::Inner,
};

/// What this node says of itself comes from here.
#[derive(Clone)]
pub(super) struct Own {
    pub(super) node: NodeRef,
    pub(super) seals: Arc<Seals>,
    /// Of what peers say of themselves: the same at each connection.
    pub(super) proofs: Arc<Proofs>,
}

pub(super) struct Performer {
    own: Own,
    port: Port<Engine>,
    tasks: Tasks,
    asking: BTreeMap<ConnectionId, AbortHandle>,
    /// The own addresses that the user was told of last.
    announced: Vec<OwnAddress>,
}

impl Performer {
    pub(super) fn new(own: Own, port: Port<Engine>) -> Self {
        Self { own, port, tasks: Tasks::default(), asking: BTreeMap::new(), announced: Vec::new() }
    }

    fn ask(&mut self, id: ConnectionId, peer: PeerId) {
        let (own, port) = (self.own.clone(), self.port.clone());
        let task = {
            let port = port.clone();
            async move {
                let result = ask(own, id, peer).await;
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
        let (own, port, panicked) = (self.own.clone(), self.port.clone(), self.port.clone());
        let task = async move {
            let told = push(&own, id).await;
            if let Err(error) = &told {
                tracing::debug!(%peer, error, "a peer was not told of a change");
            }
            // Posted: one that got lost would take its place among those under way with it.
            port.post_input(None, Input::Told { id, heard: told.is_ok() });
        };
        self.tasks.spawn(task, move |_| panicked.post_input(None, Input::Told { id, heard: false }));
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
                let Some(node) = self.own.node.inner() else { return };
                if observed(&node, id, &info) {
                    self.port.post(Command::Observed);
                }
                let handle = node.directory.connection(id);
                if let Some(handle) = &handle {
                    handle.announced.set(node.known.speaks(peer, &info.protocols));
                }
                let remote = handle.map(|handle| handle.info.nearness().clone());
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
                let Some(node) = self.own.node.inner() else { return };
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

/// From where the peer sees this node come; whether that changes what is known of the own addresses.
fn observed(node: &Inner, id: ConnectionId, info: &Info) -> bool {
    let (Some(address), Some(handle)) = (&info.observed_addr, node.directory.connection(id)) else {
        return false;
    };
    node.lock_own().observed(&Observation { connection: &handle.info, address })
}

async fn ask(own: Own, id: ConnectionId, peer: PeerId) -> Result<Info, IdentifyError> {
    let node = own.node.get().ok_or(IdentifyError::Closed)?;
    let opened = node.open_on(id, PROTOCOL).await;
    drop(node);
    let mut stream = opened.map_err(|error| IdentifyError::Stream(error.to_string()))?;
    // Nothing will be said on it; go-libp2p's answerer does not wait for that, others do.
    let _ = stream.close_write().await;
    read(&mut stream, peer, own.proofs).await
}

/// Reads what a peer says of itself, until it ends.
async fn read(stream: &mut Stream, peer: PeerId, proofs: Arc<Proofs>) -> Result<Info, IdentifyError> {
    let mut decoder = Decoder::new(peer, proofs);
    let mut chunk = [0; 1024];
    loop {
        let read = stream.read(&mut chunk).await.map_err(|error| IdentifyError::Stream(error.to_string()))?;
        if read == 0 {
            return Ok(decoder.finish()?);
        }
        decoder.feed(chunk.get(..read).unwrap_or_default())?;
    }
}

/// Tells a peer what this node is now. It closes the stream when it has read that, and resets it if it does not want to.
async fn push(own: &Own, id: ConnectionId) -> Result<(), String> {
    let running = own.node.get().ok_or("the node has ended")?;
    let opened = running.open_on(id, PUSH).await;
    drop(running);
    let mut stream = opened.map_err(|error| error.to_string())?;
    let answer = answer(own, id).ok_or("the connection has ended")?;
    write(&mut stream, &answer).await.map_err(|error| error.to_string())?;
    match timeout(TELL_TIMEOUT, stream.read(&mut [0])).await {
        Ok(Err(error)) => Err(error.to_string()),
        // One that leaves it open has not refused.
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// A peer tells of a change. One that does so too often is not listened to, before anything is read.
pub(super) async fn hear(
    own: Own,
    port: Port<Engine>,
    rate: Arc<PushRate>,
    mut stream: Stream,
) -> Result<(), IdentifyError> {
    let (id, peer) = (stream.connection(), stream.peer());
    {
        let Some(node) = own.node.inner() else { return Ok(()) };
        let Some(handle) = node.directory.connection(id) else { return Ok(()) };
        if !rate.allows(&handle.info, node.kernel.clock.now()) {
            stream.reset(ErrorCode::RATE_LIMITED);
            return Ok(());
        }
    }
    let reading = read(&mut stream, peer, own.proofs);
    let change = timeout(TIMEOUT, reading).await.unwrap_or(Err(IdentifyError::Timeout))?;
    let _ = stream.close_write().await;
    let _ = port.input(Some(peer), Input::Pushed { id, change }).await;
    Ok(())
}

/// The other side: says who this node is, and closes.
pub(super) async fn tell(own: Own, mut stream: Stream) -> io::Result<()> {
    match answer(&own, stream.connection()) {
        Some(answer) => write(&mut stream, &answer).await,
        None => Ok(()),
    }
}

/// What this node says of itself on a connection; `None` if one of them has ended.
fn answer(own: &Own, id: ConnectionId) -> Option<Vec<u8>> {
    let node = own.node.inner()?;
    let handle = node.directory.connection(id)?;
    let (mut addresses, revision) = node.advertised_addresses(&handle.info);
    addresses.truncate(MAX_ADDRESSES);
    Some(codec::encode(codec::Own {
        public_key: node.keypair.public(),
        agent: &node.agent,
        listen_addrs: &addresses,
        observed_addr: &handle.info.remote,
        protocols: &node.registry.advertised(),
        envelope: own.seals.envelope(&node.keypair, &addresses, revision, node.kernel.clock.now()),
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
