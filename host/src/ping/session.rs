use std::{collections::BTreeMap, io};

use peerage_core::PeerId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    ANSWER_IDLE, PROTOCOL, PingError, SIZE,
    engine::{Action, Engine, Input},
};
use crate::{
    NodeRef, OpenOptions, Stream,
    actor::{Effects, Port, Tasks},
};

/// Owns the streams: a task each, told by a channel when to send.
pub(super) struct Performer {
    node: NodeRef,
    port: Port<Engine>,
    tasks: Tasks,
    sessions: BTreeMap<u64, mpsc::Sender<()>>,
}

impl Performer {
    pub(super) fn new(node: NodeRef, port: Port<Engine>) -> Self {
        Self { node, port, tasks: Tasks::default(), sessions: BTreeMap::new() }
    }

    fn open(&mut self, peer: PeerId, session: u64) {
        // One ping at a time: the engine sends the next go after the answer to the last.
        let (go, gone) = mpsc::channel(1);
        self.sessions.insert(session, go);
        let (node, port) = (self.node.clone(), self.port.clone());
        let failed = {
            let port = port.clone();
            move |error| port.post_input(Some(peer), Input::Failed { peer, session, error })
        };
        let task = {
            let failed = failed.clone();
            async move {
                if let Err(error) = ping(&node, &port, peer, session, gone).await {
                    failed(error);
                }
            }
        };
        self.tasks.spawn(task, move |panic| failed(PingError::Stream(format!("its task panicked: {panic}"))));
    }
}

impl Effects<Action> for Performer {
    fn perform(&mut self, action: Action) {
        match action {
            Action::Open { peer, session } => self.open(peer, session),
            Action::Send { session } => {
                if let Some(go) = self.sessions.get(&session) {
                    let _ = go.try_send(());
                }
            }
            Action::Close { session } => {
                self.sessions.remove(&session);
            }
            Action::Answer { reply, result } => reply.send(result),
        }
    }
}

async fn ping(
    node: &NodeRef,
    port: &Port<Engine>,
    peer: PeerId,
    session: u64,
    mut go: mpsc::Receiver<()>,
) -> Result<(), PingError> {
    let node = node.get().ok_or(PingError::Closed)?;
    let mut options = OpenOptions::new([PROTOCOL]);
    options.allow_limited = true;
    let opened = tokio::select! {
        opened = node.open_with(peer, options) => opened,
        // Closed meanwhile: nobody waits any more.
        None = go.recv() => return Ok(()),
    };
    let mut stream = opened.map_err(|error| PingError::Open(error.to_string()))?;
    drop(node);
    loop {
        let rtt = tokio::select! {
            rtt = round_trip(&mut stream) => rtt?,
            None = go.recv() => return Ok(()),
        };
        port.input(Some(peer), Input::Pong { peer, session, rtt }).await.map_err(|_| PingError::Closed)?;
        let mut unasked = [0; 1];
        let go_on = tokio::select! {
            go = go.recv() => go.is_some(),
            // The peer, or the end of the connection, closed the idle stream; the next ping gets a new one.
            _ = stream.read(&mut unasked) => return Err(PingError::Stream("the peer closed it".to_owned())),
        };
        if !go_on {
            // The answerer sees the end of the stream and closes its side.
            let _ = stream.close_write().await;
            return Ok(());
        }
    }
}

async fn round_trip(stream: &mut Stream) -> Result<std::time::Duration, PingError> {
    let sent: [u8; SIZE] = rand::random();
    let mut answer = [0; SIZE];
    let start = Instant::now();
    let exchange = async {
        stream.write_all(&sent).await?;
        stream.flush().await?;
        stream.read_exact(&mut answer).await
    };
    exchange.await.map_err(|error| PingError::Stream(error.to_string()))?;
    if answer == sent { Ok(start.elapsed()) } else { Err(PingError::WrongAnswer) }
}

/// The other side: sends back what comes, until the pinger closes or is idle for too long.
pub(super) async fn answer(mut stream: Stream) -> io::Result<()> {
    stream.in_background();
    let mut bytes = [0; SIZE];
    loop {
        // A total time for the 32 bytes, not one between them: a drip does not keep the stream.
        match timeout(ANSWER_IDLE, stream.read_exact(&mut bytes)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return stream.close_write().await;
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        }
        timeout(ANSWER_IDLE, async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        })
        .await??;
    }
}
