//! A stream whose protocol is taken for agreed before the other side has said so (connections/README.md, "Optimistic
//! multistream negotiation"): what is written first leaves together with the proposal, and the agreement costs no
//! round trip of its own.
//!
//! A peer that refuses goes on to read proposals, and could take the first written bytes for one (go-multistream#20). So
//! that is done with bytes that no peer can take for a proposal; or where the peer announced the protocol on the same
//! connection, with any.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use peerage_core::{
    ProtocolId,
    multistream::{self, Dialer},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{CHUNK, Error, Message};

/// Of the first write, what leaves with the proposal; the rest follows as it would on any stream.
pub const FIRST_FLIGHT: usize = 16 * 1024;

/// A byte stream on which a protocol was agreed, or is believed to be.
///
/// As long as the other side has not agreed:
/// - the first write, flush or read sends the proposal,
/// - reads and [`shutdown`](tokio::io::AsyncWriteExt::shutdown) wait for the agreement. The end of writing comes after
///   it, because some implementations lose what arrives together with an end (js-libp2p), or fail when nobody reads
///   their answer (go-multistream#115),
/// - a refusal is an [`io::Error`] with an [`Error`] in it, of the kind [`Unsupported`](io::ErrorKind::Unsupported) where the
///   peer does not speak the protocol.
#[derive(Debug)]
pub struct Optimistic<S> {
    io: S,
    /// `None` once it is agreed.
    hope: Option<Box<Hope>>,
}

#[derive(Debug)]
struct Hope {
    dialer: Dialer,
    message: Message,
    /// The proposal, then with it the first flight.
    unsent: Vec<u8>,
    sent: usize,
    flushed: bool,
    /// Whether `unsent` can still take data.
    open: bool,
    /// Whether any bytes may be sent before it is agreed, or only what cannot be taken for a proposal.
    sure: bool,
    /// Why there is no agreement, and never will be.
    failed: Option<multistream::Error>,
}

impl<S> Optimistic<S> {
    /// A stream whose protocol is agreed.
    pub fn agreed(io: S) -> Self {
        Self { io, hope: None }
    }

    /// A fresh stream to a peer that speaks `protocol`. Nothing is sent yet. Unless that is `sure`, a first write that could
    /// be taken for a proposal waits for the agreement.
    ///
    /// # Errors
    /// As of [`Dialer::new`], which takes one proposal.
    pub fn hoping(io: S, protocol: ProtocolId, sure: bool) -> Result<Self, multistream::Error> {
        let mut dialer = Dialer::new(vec![protocol])?;
        let unsent = dialer.poll_transmit().unwrap_or_default();
        let message = Message::default();
        let hope = Hope { dialer, message, unsent, sent: 0, flushed: false, open: true, sure, failed: None };
        Ok(Self { io, hope: Some(Box::new(hope)) })
    }

    /// A stream on which `protocol` was proposed already, with what comes first.
    ///
    /// # Errors
    /// As of [`Dialer::new`], which takes one proposal.
    pub fn proposed(io: S, protocol: ProtocolId) -> Result<Self, multistream::Error> {
        let mut this = Self::hoping(io, protocol, true)?;
        if let Some(hope) = &mut this.hope {
            hope.unsent = Vec::new();
            hope.open = false;
            hope.flushed = true;
        }
        Ok(this)
    }

    /// Whether the other side has agreed.
    pub fn is_agreed(&self) -> bool {
        self.hope.is_none()
    }

    /// The stream below. Where nothing was agreed yet, it is in the middle of a sentence.
    pub fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Optimistic<S> {
    /// Waits until the other side has agreed.
    ///
    /// # Errors
    /// As reading.
    pub async fn agreed_on(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_agreed(cx)).await
    }

    /// Sends what was held back.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(hope) = &mut self.hope else {
            return Poll::Ready(Ok(()));
        };
        hope.open = false;
        loop {
            let rest = hope.unsent.get(hope.sent..).unwrap_or_default();
            if rest.is_empty() {
                hope.unsent = Vec::new();
                hope.sent = 0;
                return Poll::Ready(Ok(()));
            }
            let wrote = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            hope.sent = hope.sent.saturating_add(wrote);
        }
    }

    /// Waits until the other side has agreed.
    fn poll_agreed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.hope.is_none() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(cx))?;
        if let Some(hope) = &mut self.hope
            && !hope.flushed
        {
            // Once: a peer that has answered may want nothing more, and flushing would fail.
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            hope.flushed = true;
        }
        while let Some(hope) = &mut self.hope {
            if let Some(error) = &hope.failed {
                return Poll::Ready(Err(refused(error.clone())));
            }
            let mut space = [0; CHUNK];
            let mut piece = ReadBuf::new(space.get_mut(..hope.message.want()).unwrap_or_default());
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
            let taken = match piece.filled() {
                [] => hope.dialer.handle_end(),
                bytes => {
                    hope.message.follow(bytes);
                    hope.dialer.handle_input(bytes).map(drop)
                }
            };
            if let Err(error) = taken {
                hope.failed = Some(error);
            } else if hope.dialer.outcome().is_some() {
                self.hope = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn refused(error: multistream::Error) -> io::Error {
    let kind = match error {
        multistream::Error::NoneSupported => io::ErrorKind::Unsupported,
        multistream::Error::Ended => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, Error::Negotiation(error))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Optimistic<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_agreed(cx))?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Optimistic<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(hope) = &mut self.hope else {
            return Pin::new(&mut self.io).poll_write(cx, buf);
        };
        if let Some(error) = &hope.failed {
            return Poll::Ready(Err(refused(error.clone())));
        }
        let first = buf.get(..buf.len().min(FIRST_FLIGHT)).unwrap_or_default();
        // As a whole, so that it is what was looked at.
        let whole = hope.open || !hope.sure;
        if !hope.sure && !multistream::breaks(first) {
            ready!(self.poll_agreed(cx))?;
            return Pin::new(&mut self.io).poll_write(cx, buf);
        }
        if !whole || first.is_empty() {
            ready!(self.poll_send(cx))?;
            return Pin::new(&mut self.io).poll_write(cx, buf);
        }
        // Whatever follows them, nobody takes it for a proposal.
        hope.sure = true;
        hope.unsent.extend_from_slice(first);
        // Those bytes are taken now, whether they could leave or not: whatever is called next sends the rest.
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(first.len())),
        }
    }

    /// As a whole: TLS tells of an error in one go, with what was waiting before it.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.hope.is_none() {
            return Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_agreed(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::{super::listen, *};

    fn protocol() -> ProtocolId {
        ProtocolId::new("/echo/1").expect("a protocol id")
    }

    fn hoping(room: usize) -> (Optimistic<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(room);
        (Optimistic::hoping(near, protocol(), true).expect("one proposal"), far)
    }

    async fn agree(far: &mut DuplexStream) -> Result<ProtocolId, Error> {
        listen(far, |name| (name == "/echo/1").then(protocol)).await
    }

    #[tokio::test]
    async fn the_first_write_leaves_with_the_proposal() {
        let (mut near, mut far) = hoping(1024);
        near.write_all(b"hello").await.expect("room");
        let mut first = [0; 128];
        let read = far.read(&mut first).await.expect("there");
        assert_eq!(&first[..read], b"\x13/multistream/1.0.0\n\x08/echo/1\nhello");
    }

    #[tokio::test]
    async fn what_follows_the_agreement_is_the_protocol() {
        let (mut near, mut far) = hoping(1024);
        let here = async {
            near.write_all(b"hello").await.expect("room");
            assert!(!near.is_agreed());
            near.shutdown().await.expect("agreed");
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.expect("an answer");
            assert!(near.is_agreed());
            answer
        };
        let there = async {
            agree(&mut far).await.expect("spoken here");
            let mut request = Vec::new();
            far.read_to_end(&mut request).await.expect("a request");
            far.write_all(b"you said ").await.expect("room");
            far.write_all(&request).await.expect("room");
            far.shutdown().await.expect("open");
        };
        assert_eq!(join(here, there).await.0, b"you said hello");
    }

    #[tokio::test]
    async fn who_reads_first_proposes_first() {
        let (mut near, mut far) = hoping(1024);
        let here = async {
            let mut answer = [0; 2];
            near.read_exact(&mut answer).await.expect("an answer");
            answer
        };
        let there = async {
            agree(&mut far).await.expect("spoken here");
            far.write_all(b"hi").await.expect("room");
        };
        assert_eq!(join(here, there).await.0, *b"hi");
    }

    #[tokio::test]
    async fn a_narrow_pipe_carries_all_of_it() {
        // Wide enough for the answer, which nobody reads meanwhile.
        let (mut near, mut far) = hoping(64);
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(2 * FIRST_FLIGHT).collect();
        let here = async {
            near.write_all(&sent).await.expect("it is read");
            near.shutdown().await.expect("agreed");
        };
        let there = async {
            agree(&mut far).await.expect("spoken here");
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.expect("there");
            got
        };
        assert!(join(here, there).await.1 == sent);
    }

    #[tokio::test]
    async fn a_refusal_is_an_error_of_everything_that_follows() {
        let (mut near, mut far) = hoping(1024);
        // Drops its end when it is done.
        let here = async move {
            near.write_all(b"\xff\xff\xff").await.expect("room");
            let refused = near.read(&mut [0]).await.expect_err("refused");
            assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
            let inner = refused.get_ref().and_then(|inner| inner.downcast_ref());
            assert!(matches!(inner, Some(Error::Negotiation(multistream::Error::NoneSupported))));
            assert!(near.write(b"more").await.is_err());
            assert!(near.shutdown().await.is_err());
        };
        let there = async { listen(&mut far, |_| None).await };
        join(here, there).await.1.expect_err("nothing was agreed");
    }

    #[tokio::test]
    async fn what_could_be_taken_for_a_proposal_waits_for_the_agreement() {
        for sure in [false, true] {
            let (near, mut far) = duplex(1024);
            let mut near = Optimistic::hoping(near, protocol(), sure).expect("one proposal");
            let here = async {
                near.flush().await.expect("room");
                near.write_all(b"\x03/a\n").await.map(|()| near)
            };
            let there = async { listen(&mut far, |name| (name == "/a").then(protocol)).await };
            let (wrote, agreed) = join(here, there).await;
            assert_eq!((wrote.is_err(), agreed.is_ok()), (!sure, sure));
        }
    }

    #[tokio::test]
    async fn an_end_instead_of_an_answer_is_one() {
        let (mut near, far) = hoping(1024);
        near.flush().await.expect("room");
        drop(far);
        let error = near.read(&mut [0]).await.expect_err("no answer");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_was_proposed_is_not_proposed_again() {
        let (mut near, mut far) = duplex(1024);
        near.write_all(b"\x13/multistream/1.0.0\n\x08/echo/1\nhello").await.expect("room");
        let mut near = Optimistic::proposed(near, protocol()).expect("one proposal");
        let there = async {
            agree(&mut far).await.expect("spoken here");
            far.write_all(b"you").await.expect("room");
        };
        join(async { near.agreed_on().await.expect("agreed") }, there).await;
        near.write_all(b", too").await.expect("room");
        let mut got = [0; 10];
        far.read_exact(&mut got).await.expect("there");
        assert_eq!(&got, b"hello, too");
        let mut answer = [0; 3];
        near.read_exact(&mut answer).await.expect("there");
        assert_eq!(&answer, b"you");
    }

    #[tokio::test]
    async fn an_agreed_stream_is_the_stream() {
        let (near, mut far) = duplex(16);
        let mut near = Optimistic::agreed(near);
        near.write_all(b"x").await.expect("room");
        assert_eq!(far.read_u8().await.expect("there"), b'x');
        poll_fn(|cx| Pin::new(&mut near).poll_flush(cx)).await.expect("nothing to do");
        assert!(near.is_agreed());
    }
}
