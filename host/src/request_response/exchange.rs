use std::{fmt, io, time::Duration};

use peerage_core::{PeerId, ProtocolId, budget::Reserved};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{Codec, CodecError, Config, Handler};
use crate::{ErrorCode, First, NodeRef, OpenOptions, Stream, node::early::MAX_EARLY};

/// Bytes that are asked for at once; a message is never given room for more than came, and this.
const CHUNK: usize = 16 * 1024;

/// Asks peers. Cheap to clone.
pub struct Handle<C: Codec> {
    node: NodeRef,
    protocol: ProtocolId,
    codec: C,
    config: Config,
    replay_safe: bool,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request cannot be written; this side's fault.
    #[error("the request cannot be encoded: {0}")]
    Encode(CodecError),
    /// The request is longer than is allowed here; this side's fault.
    #[error("a request of {len} bytes, {max} allowed")]
    TooLong {
        /// Bytes it has.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// No stream could be opened.
    #[error("{0}")]
    Open(String),
    /// It took longer than was allowed.
    #[error("no response within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The stream broke, or the peer refused to answer.
    #[error("the stream broke: {0}")]
    Stream(String),
    /// The response is longer than is allowed here, or than this node has memory for.
    #[error("a response of more than {max} bytes, or more than there is memory for")]
    ResponseTooLong {
        /// Bytes allowed.
        max: usize,
    },
    /// The response is not one; the peer's fault.
    #[error("the response is broken: {0}")]
    Decode(CodecError),
    /// The node is not running.
    #[error("the node is not running")]
    Closed,
}

impl<C: Codec> Handle<C> {
    pub(super) fn new(
        node: NodeRef,
        protocol: ProtocolId,
        codec: C,
        config: Config,
        replay_safe: bool,
    ) -> Self {
        Self { node, protocol, codec, config, replay_safe }
    }

    /// The protocol's name.
    pub fn protocol(&self) -> &ProtocolId {
        &self.protocol
    }

    /// Asks `peer`, and waits for its answer; connects first if there is no connection. Dropping the future tells the
    /// peer that nobody waits.
    ///
    /// # Errors
    /// [`RequestError`], by [`Config::timeout`] at the latest.
    pub async fn request(&self, peer: PeerId, request: &C::Request) -> Result<C::Response, RequestError> {
        let bytes = self.codec.encode_request(request).map_err(RequestError::Encode)?;
        let (len, max) = (bytes.len(), self.config.max_request);
        if len > max {
            return Err(RequestError::TooLong { len, max });
        }
        let limit = self.config.timeout;
        let exchange = timeout(limit, self.exchange(peer, bytes)).await;
        let (answer, _memory) = exchange.unwrap_or(Err(RequestError::Timeout(limit)))?;
        self.codec.decode_response(answer).map_err(RequestError::Decode)
    }

    async fn exchange(&self, peer: PeerId, request: Vec<u8>) -> Result<(Vec<u8>, Reserved), RequestError> {
        let broke = |error: io::Error| RequestError::Stream(error.to_string());
        let node = self.node.get().ok_or(RequestError::Closed)?;
        let mut options = OpenOptions::new([self.protocol.clone()]);
        options.timeout = self.config.timeout;
        if self.replay_safe && request.len() <= MAX_EARLY {
            options.first = Some(First::new(request.clone()).end().replay_safe());
        }
        let opened = node.open_first(peer, options).await;
        drop(node);
        let (mut stream, sent) = opened.map_err(|error| RequestError::Open(error.to_string()))?;
        if !sent {
            stream.write_all(&request).await.map_err(broke)?;
            stream.close_write().await.map_err(broke)?;
        }
        let max = self.config.max_response;
        match read(&mut stream, max).await.map_err(broke)? {
            Some(answer) => Ok(answer),
            None => {
                stream.reset(ErrorCode::RESOURCE_LIMIT_EXCEEDED);
                Err(RequestError::ResponseTooLong { max })
            }
        }
    }
}

impl<C: Codec> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Self {
            node: self.node.clone(),
            protocol: self.protocol.clone(),
            codec: self.codec.clone(),
            config: self.config.clone(),
            replay_safe: self.replay_safe,
        }
    }
}

impl<C: Codec> fmt::Debug for Handle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// The other side.
pub(super) async fn answer<C: Codec>(
    mut stream: Stream,
    peer: PeerId,
    codec: C,
    config: Config,
    handler: Handler<C>,
) -> io::Result<()> {
    let request = timeout(config.timeout, read(&mut stream, config.max_request)).await??;
    let Some((request, memory)) = request else {
        stream.reset(ErrorCode::RESOURCE_LIMIT_EXCEEDED);
        return Err(io::Error::other(format!(
            "a request over {} bytes, or over the memory",
            config.max_request
        )));
    };
    let request = match codec.decode_request(request) {
        Ok(request) => request,
        Err(error) => {
            stream.reset(ErrorCode::PROTOCOL_VIOLATION);
            return Err(io::Error::other(format!("the request is broken: {error}")));
        }
    };
    // From here on the stream's end means that nobody waits; a write finds that out.
    let response = handler(peer, request).await.map_err(io::Error::other)?;
    // The handler has had the request for as long.
    drop(memory);
    let response = codec.encode_response(&response).map_err(io::Error::other)?;
    if response.len() > config.max_response {
        let (len, max) = (response.len(), config.max_response);
        return Err(io::Error::other(format!("a response of {len} bytes, {max} allowed")));
    }
    let writing = async {
        stream.write_all(&response).await?;
        stream.close_write().await
    };
    timeout(config.timeout, writing).await?
}

/// A message of the peer, and the memory that it was given; `None` if it is too long, or the node has no memory for it.
async fn read(stream: &mut Stream, max: usize) -> io::Result<Option<(Vec<u8>, Reserved)>> {
    let mut memory = stream.memory().nothing();
    let mut bytes = Vec::new();
    loop {
        // One more than is allowed, which tells whether there is one.
        let room = max.saturating_sub(bytes.len()).saturating_add(1).min(CHUNK);
        if let Err(exhausted) = memory.resize(bytes.len().saturating_add(room)) {
            tracing::debug!(peer = %stream.peer(), %exhausted, "refused a message");
            return Ok(None);
        }
        let read = (&mut *stream).take(u64::try_from(room).unwrap_or(u64::MAX)).read_buf(&mut bytes).await?;
        if read == 0 {
            return Ok(Some((bytes, memory)));
        }
        if bytes.len() > max {
            return Ok(None);
        }
    }
}
