//! The streams: one to each peer, on which this node talks, and one from it, on which it listens.

use std::{collections::BTreeMap, future::poll_fn, io, sync::Arc, time::Duration};

use bytes::Bytes;
use peerage_core::{PeerId, budget::Exhausted, frame};
use peerage_host::{ErrorCode, NodeRef, OpenOptions, Optimism, Port, Stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    codec::{self, DecodeError, Extensions, Rpc, Subscription},
    engine::{Engine, Input},
    partial::Mode,
    queue::Queue,
    shared::Shared,
    topic::Topic,
    version::Version,
};

/// How long opening a stream may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to let this node write 64 KiB of small frames, or one message.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of small frames that are written at once.
const GATHER: usize = 64 << 10;
/// Bytes that are read at once, of a peer that sends so much at once; and of one that has not yet, for most say little.
const CHUNK: usize = 16 << 10;
const FIRST_CHUNK: usize = 1 << 10;
/// RPCs that go to the engine at once, at most: what is read at once may be thousands of empty ones.
const MAX_RPCS: usize = 32;

/// Why a stream to a peer is not there any more.
pub(crate) struct Ended {
    pub(crate) unsupported: bool,
    pub(crate) why: String,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self { unsupported: false, why: error.to_string() }
    }
}

/// Opens a stream to a peer, and sends what is in the queue until it breaks.
pub(crate) async fn talk(
    node: NodeRef,
    port: Port<Engine>,
    peer: PeerId,
    session: u64,
    versions: Vec<Version>,
    queue: Queue,
) -> Result<(), Ended> {
    let closed = || Ended { unsupported: false, why: "the node has ended".to_owned() };
    let opened = {
        let node = node.get().ok_or_else(closed)?;
        let mut options = OpenOptions::new(versions.into_iter().map(Version::protocol));
        (options.dial, options.timeout) = (false, OPEN_TIMEOUT);
        // What the peer took decides what it is sent.
        options.optimism = Optimism::Never;
        node.open_with(peer, options).await
    };
    let mut stream =
        opened.map_err(|error| Ended { unsupported: error.is_unsupported(), why: error.to_string() })?;
    let version = Version::of(stream.protocol()).ok_or_else(closed)?;
    port.input(Some(peer), Input::Opened { peer, session, version }).await.map_err(|_| closed())?;

    let mut gathered = Vec::new();
    // A peer says nothing on this stream. Some close their side at once; that it is reset is noticed here.
    let (mut silent, mut unasked) = (false, [0; 64]);
    loop {
        let frame = tokio::select! {
            biased;
            frame = poll_fn(|cx| queue.poll_pop(cx)) => frame,
            read = stream.read(&mut unasked), if !silent => {
                silent = read? == 0;
                continue;
            }
        };
        timeout(WRITE_TIMEOUT, write(&mut stream, frame, &queue, &mut gathered))
            .await
            .map_err(io::Error::from)??;
    }
}

/// Writes a frame, and with it what else is small and waits.
async fn write(stream: &mut Stream, frame: Bytes, queue: &Queue, gathered: &mut Vec<u8>) -> io::Result<()> {
    gathered.clear();
    let mut next = Some(frame);
    while let Some(frame) = next.take() {
        if gathered.len().saturating_add(frame.len()) <= GATHER {
            gathered.extend_from_slice(&frame);
            next = if gathered.len() < GATHER { queue.pop() } else { None };
            continue;
        }
        // Large ones go as they are, not copied.
        stream.write_all(gathered).await?;
        gathered.clear();
        stream.write_all(&frame).await?;
        break;
    }
    stream.write_all(gathered).await?;
    stream.flush().await
}

/// Why a peer is not listened to any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] frame::Error),
    #[error(transparent)]
    Rpc(#[from] DecodeError),
    #[error(transparent)]
    Memory(#[from] Exhausted),
    #[error("gossip is not running")]
    Closed,
}

/// Listens to what a peer says, until it closes its stream or opens another one.
pub(crate) async fn listen(
    shared: Arc<Shared>,
    port: Port<Engine>,
    mut stream: Stream,
) -> Result<(), ListenError> {
    let peer = stream.peer();
    let (number, mut replaced) = shared.listens(peer);
    let _ends = Ends { shared: shared.clone(), port: port.clone(), peer, stream: number };
    let result = tokio::select! {
        result = read(&shared, &port, &mut stream, number) => result,
        _ = &mut replaced => return Ok(()),
    };
    match &result {
        Ok(()) => stream.close_write().await?,
        Err(ListenError::Frame(frame::Error::Truncated)) => {}
        Err(ListenError::Frame(_) | ListenError::Rpc(_)) => {
            port.post_input(Some(peer), Input::Malformed { peer });
            stream.reset(ErrorCode::PROTOCOL_VIOLATION);
        }
        Err(_) => {}
    }
    result
}

/// However listening ends, the engine hears of it.
struct Ends {
    shared: Arc<Shared>,
    port: Port<Engine>,
    peer: PeerId,
    stream: u64,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.shared.listens_no_more(self.peer, self.stream);
        let (peer, stream) = (self.peer, self.stream);
        self.port.post_input(Some(peer), Input::InboundEnded { peer, stream });
    }
}

async fn read(
    shared: &Shared,
    port: &Port<Engine>,
    stream: &mut Stream,
    number: u64,
) -> Result<(), ListenError> {
    let peer = stream.peer();
    let limits = shared.config.rpc;
    let budget = stream.memory().clone();
    let mut life = shared.life.subscribe();
    life.mark_unchanged();
    port.input(Some(peer), Input::Inbound { peer, stream: number }).await.map_err(|_| ListenError::Closed)?;

    // What the peer can do, and wants, by what it has said here: a new life of the actor does not know, and nobody would say it
    // again.
    let mut wanted: BTreeMap<Topic, Mode> = BTreeMap::new();
    let mut heard: Option<Extensions> = None;
    let (mut decoder, mut last_topic) = (frame::Decoder::new(limits.bytes), None);
    let (mut chunk, mut buffered) = (vec![0; FIRST_CHUNK], budget.nothing());
    loop {
        let read = tokio::select! {
            biased;
            changed = life.changed() => {
                changed.map_err(|_| ListenError::Closed)?;
                let wants = wanted.iter().map(|(topic, mode)| Subscription::to(topic.clone()).partial(*mode));
                let recalled =
                    Input::Recalled { peer, stream: number, subscriptions: wants.collect(), heard };
                port.input(Some(peer), recalled).await.map_err(|_| ListenError::Closed)?;
                continue;
            }
            read = stream.read(&mut chunk) => read?,
        };
        if read == 0 {
            decoder.finish()?;
            return Ok(());
        }
        let mut input = chunk.get(..read).unwrap_or_default();
        while !input.is_empty() {
            let mut batch = Batch::default();
            let filled = batch.fill(&mut decoder, &mut input, &limits, &mut last_topic);
            // What was said before a flaw is heard.
            if !batch.rpcs.is_empty() {
                if let (None, Some(first)) = (heard, batch.rpcs.first()) {
                    heard = Some(first.extensions.unwrap_or_default());
                }
                for change in batch.rpcs.iter().flat_map(|rpc| &rpc.subscriptions) {
                    if !change.subscribe {
                        wanted.remove(&change.topic);
                    } else if wanted.len() < shared.config.max_topics_per_peer
                        || wanted.contains_key(&change.topic)
                    {
                        wanted.insert(change.topic.clone(), change.partial);
                    }
                }
                let charge = Some(budget.reserve(batch.bytes)?);
                let input = Input::Rpcs { peer, rpcs: batch.rpcs, charge };
                port.input(Some(peer), input).await.map_err(|_| ListenError::Closed)?;
            }
            filled?;
        }
        buffered.resize(decoder.buffered())?;
        if read == chunk.len() && read < CHUNK {
            chunk = vec![0; read.saturating_mul(4).min(CHUNK)];
        }
    }
}

/// What goes to the engine as one piece of mail, for each costs a wake-up and more.
#[derive(Default)]
struct Batch {
    rpcs: Vec<Rpc>,
    bytes: usize,
}

impl Batch {
    /// Takes RPCs off the front of `input`, until it is used up or [`MAX_RPCS`] are there.
    fn fill(
        &mut self,
        decoder: &mut frame::Decoder,
        input: &mut &[u8],
        limits: &codec::Limits,
        last_topic: &mut Option<Topic>,
    ) -> Result<(), ListenError> {
        while self.rpcs.len() < MAX_RPCS
            && let Some(frame) = decoder.decode(input)?
        {
            self.rpcs.push(codec::decode_with(&frame, limits, last_topic)?);
            self.bytes = self.bytes.saturating_add(frame.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many frames of one empty RPC each, and then these bytes.
    fn stream(rpcs: usize, then: &[u8]) -> Vec<u8> {
        [vec![0; rpcs], then.to_vec()].concat()
    }

    #[test]
    fn batches_are_bounded_and_keep_what_came_before_a_flaw() {
        let limits = codec::Limits::default();
        // A frame that is no protobuf, and one that is too long.
        for flaw in [&[1, 0xff][..], &[0xff, 0xff, 0xff, 0x7f]] {
            let bytes = stream(MAX_RPCS + 1, flaw);
            let (mut input, mut decoder) = (bytes.as_slice(), frame::Decoder::new(limits.bytes));
            let mut fill = || {
                let mut batch = Batch::default();
                let filled = batch.fill(&mut decoder, &mut input, &limits, &mut None);
                (batch.rpcs.len(), filled.is_ok())
            };
            assert_eq!(fill(), (MAX_RPCS, true));
            assert_eq!(fill(), (1, false));
        }
    }
}
