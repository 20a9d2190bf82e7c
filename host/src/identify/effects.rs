use std::{collections::BTreeMap, io, time::Duration};

use peerage_core::PeerId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::AbortHandle,
    time::timeout,
};

use super::{
    IdentifyError, Info, PROTOCOL, TIMEOUT,
    codec::{self, Decoder, Own},
    engine::{Action, Engine, Input},
};
use crate::{
    ConnectionId, Event, NodeRef, Stream,
    actor::{Effects, Port, Tasks},
    book,
};

pub(super) struct Performer {
    node: NodeRef,
    port: Port<Engine>,
    tasks: Tasks,
    asking: BTreeMap<ConnectionId, AbortHandle>,
}

impl Performer {
    pub(super) fn new(node: NodeRef, port: Port<Engine>) -> Self {
        Self { node, port, tasks: Tasks::default(), asking: BTreeMap::new() }
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
            Action::Identified { peer, info } => {
                let Some(node) = self.node.inner() else { return };
                let said = book::Said {
                    protocols: info.protocols.clone(),
                    agent: info.agent_version.clone(),
                    addresses: info.listen_addrs.clone(),
                    record: info.certified(),
                };
                node.ports.book.post_for(peer, book::Command::Identified { peer, said });
                node.emit(Event::Identified { peer, info });
            }
            Action::Answer { reply, result } => reply.send(result),
        }
    }
}

async fn ask(node: NodeRef, id: ConnectionId, peer: PeerId) -> Result<Info, IdentifyError> {
    let node = node.get().ok_or(IdentifyError::Closed)?;
    let opened = node.open_on(id, PROTOCOL).await;
    drop(node);
    let mut stream = opened.map_err(|error| IdentifyError::Stream(error.to_string()))?;
    // Nothing will be said on it; go-libp2p's answerer does not wait for that, others do.
    let _ = stream.close_write().await;
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

/// The other side: says who this node is, and closes.
pub(super) async fn tell(node: NodeRef, mut stream: Stream) -> io::Result<()> {
    let Some(node) = node.inner() else { return Ok(()) };
    let Some(handle) = node.directory.connection(stream.connection()) else {
        return Ok(());
    };
    let answer = codec::encode(&Own {
        keypair: &node.keypair,
        agent: &node.agent,
        listen_addrs: &node.advertised_addresses(&handle.info),
        observed_addr: &handle.info.remote,
        protocols: &node.registry.advertised(),
        sequence: node.kernel.clock.now().unix,
    });
    drop(node);
    let writing = async {
        stream.write_all(&answer).await?;
        stream.close_write().await
    };
    timeout(TELL_TIMEOUT, writing).await?
}

/// How long a peer may take to read the answer.
const TELL_TIMEOUT: Duration = TIMEOUT;
