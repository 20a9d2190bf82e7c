use std::{
    fmt, io,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
};

use peerage_core::{PeerId, ProtocolId, budget::Budget};
use peerage_muxer as muxer;
use peerage_transport::select::Optimistic;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

pub use peerage_muxer::{ErrorCode, StreamError};

use crate::{
    conn,
    limits::{ConnectionId, MemoryScope, StreamLease},
    manager::Use,
};

/// A stream on which a protocol was agreed: `AsyncRead + AsyncWrite`, usable from any task and any runtime.
///
/// - To a peer that announced the protocol, the first write leaves with the proposal, and nobody waits for its agreement.
///   Should it refuse all the same, reads, and writes from then on, fail with the kind
///   [`Unsupported`](io::ErrorKind::Unsupported), or find the stream reset. [`OpenOptions::optimism`](crate::OpenOptions::optimism) turns that off.
/// - An end of file means that the peer closed its writing half. A reset is an error, out of which
///   [`StreamError::of`] takes the code.
/// - Closing the writing half ([`Stream::close_write`], `shutdown`) leaves the reading half as it is.
/// - A stream that is dropped before its writing half was closed is reset, so that the peer never takes half an answer
///   for a whole one.
///
/// It counts against the limits of its peer and its protocol until it is dropped.
pub struct Stream {
    inner: Optimistic<muxer::Stream>,
    protocol: ProtocolId,
    peer: PeerId,
    connection: ConnectionId,
    limited: bool,
    memory: OnceLock<Budget>,
    within: MemoryScope,
    in_use: Option<Use>,
    early: bool,
    _lease: StreamLease,
}

impl Stream {
    pub(crate) fn new(
        inner: Optimistic<muxer::Stream>,
        protocol: ProtocolId,
        on: &conn::Handle,
        in_use: Use,
        lease: StreamLease,
    ) -> Self {
        let (peer, connection, limited) = (on.info.peer, on.info.id, on.info.limited);
        let (memory, within) = (OnceLock::new(), on.memory.clone());
        Self {
            inner,
            protocol,
            peer,
            connection,
            limited,
            memory,
            within,
            in_use: Some(in_use),
            early: !on.proven.is_known(),
            _lease: lease,
        }
    }

    /// The protocol that was agreed on, or is taken for agreed, as the dialer named it.
    pub fn protocol(&self) -> &ProtocolId {
        &self.protocol
    }

    /// Who is on the other side.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// The connection under it.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Whether the connection goes through a relay that bounds time and bytes.
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    /// Whether a peer opened it before its handshake was done. Then what is read may be a recording of what it said earlier, which
    /// only handlers of protocols that are [safe from that](crate::ServeOptions::replay_safe) get to see. What is written can
    /// nobody read but the peer.
    pub fn is_early(&self) -> bool {
        self.early
    }

    /// Where a handler asks for memory before it keeps what the peer sent: charged to this stream, its protocol, its
    /// connection, the peer, its address and the node, each within its limit ([`Limits`](crate::Limits)). What was taken
    /// is given back when it is dropped, and may outlive the stream.
    pub fn memory(&self) -> &Budget {
        self.memory.get_or_init(|| self.within.of_stream(&self.protocol, self.peer).budget())
    }

    /// From now on this stream does not keep its connection: it is closed when nothing else uses it for a while
    /// ([`Policy`](crate::manager::Policy)). For what runs beside the things that a connection is there for, as answers
    /// to pings do.
    pub fn in_background(&mut self) {
        if let Some(in_use) = self.in_use.take() {
            in_use.unnoticed();
        }
    }

    /// Closes the writing half: the peer reads an end of file after all that was written.
    ///
    /// # Errors
    /// What a write would have given.
    pub async fn close_write(&mut self) -> io::Result<()> {
        self.shutdown().await
    }

    /// Gives up both directions and tells the peer `code`, where the muxer carries codes.
    pub fn reset(self, code: ErrorCode) {
        self.inner.into_inner().reset(code);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("protocol", &self.protocol)
            .field("peer", &self.peer)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
