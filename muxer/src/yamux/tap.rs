//! The layer between the `yamux` crate and the socket. [The module above](super) says what it is for.
//!
//! It is used by the driver's task alone; the lock around it is only there because both the crate and the driver
//! hold it. It also gives a poll of the driver its budget, and keeps the crate from flushing after every frame: the
//! driver flushes once, when nothing more is to be sent.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead, AsyncWrite};

use super::{
    INITIAL_WINDOW,
    frame::{ACK, DATA, FIN, GO_AWAY, HEADER, Header, RST, SYN, WINDOW_UPDATE},
    table::Link,
};
use crate::ErrorCode;

/// Bodies longer than this are shown to the crate as several frames. The crate allocates a body before it has come,
/// so this is also what a withheld body costs.
const PIECE: u32 = 64 * 1024;

/// Headers and injected frames that wait for the socket; beyond it the crate is told to wait.
const OUT_LIMIT: usize = 4 * 1024;

/// What one poll of the driver may move in each direction before it lets others run.
const BUDGET: usize = 128 * 1024;

/// What a call costs in the budget at least, so that empty frames are not free.
const CALL: usize = 256;

pub(super) struct Tap<T>(Arc<Mutex<Inner<T>>>);

impl<T> Clone for Tap<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<T> {
    io: T,
    link: Arc<Link>,
    max_frame: u32,
    read: Reading,
    write: Writing,
    /// Header bytes on their way out.
    out: VecDeque<u8>,
    read_budget: usize,
    write_budget: usize,
    /// The frame that came last: the guilty one if the crate now gives up.
    last: Option<Header>,
    /// What the peer did wrong, if it was found out here or by the crate.
    violation: Option<String>,
    /// The peer's GoAway.
    go_away: Option<ErrorCode>,
    /// The code of our own.
    farewell: ErrorCode,
}

enum Reading {
    /// A header is coming in.
    Header {
        bytes: [u8; HEADER],
        have: usize,
    },
    /// A header is being shown to the crate, then `piece` bytes of its body, then `rest` more of the same frame.
    Show {
        bytes: [u8; HEADER],
        shown: usize,
        frame: Header,
        piece: u32,
        rest: u32,
    },
    Body {
        frame: Header,
        piece: u32,
        rest: u32,
    },
}

enum Writing {
    Header { bytes: [u8; HEADER], have: usize },
    Body { left: u32, swallow: bool },
}

const START_READING: Reading = Reading::Header {
    bytes: [0; HEADER],
    have: 0,
};
const START_WRITING: Writing = Writing::Header {
    bytes: [0; HEADER],
    have: 0,
};

impl<T> Tap<T> {
    pub(super) fn new(io: T, link: Arc<Link>, max_frame: u32) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            io,
            link,
            max_frame,
            read: START_READING,
            write: START_WRITING,
            out: VecDeque::new(),
            read_budget: BUDGET,
            write_budget: BUDGET,
            last: None,
            violation: None,
            go_away: None,
            farewell: ErrorCode::NONE,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A poll of the driver begins.
    pub(super) fn refill(&self) {
        let mut inner = self.lock();
        (inner.read_budget, inner.write_budget) = (BUDGET, BUDGET);
    }

    pub(super) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    pub(super) fn go_away(&self) -> Option<ErrorCode> {
        self.lock().go_away
    }

    #[cfg(test)]
    pub(super) fn with_socket<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock().io)
    }

    pub(super) fn set_farewell(&self, code: ErrorCode) {
        self.lock().farewell = code;
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Tap<T> {
    /// Sends what waits, for good.
    pub(super) fn poll_flush_socket(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.io).poll_flush(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tap<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.read_budget == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = ready!(inner.poll_read(cx, buf))?;
        inner.read_budget = inner.read_budget.saturating_sub(n.max(CALL));
        Poll::Ready(Ok(n))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tap<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.write_budget == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = ready!(inner.poll_write(cx, buf))?;
        inner.write_budget = inner.write_budget.saturating_sub(n.max(CALL));
        Poll::Ready(Ok(n))
    }

    /// Nothing: see [`Tap::poll_flush_socket`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush_socket(cx))?;
        Pin::new(&mut self.lock().io).poll_close(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Inner<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match &mut self.read {
                Reading::Header { bytes, have } => {
                    let Some(room) = bytes.get_mut(*have..).filter(|room| !room.is_empty()) else {
                        let header = Header::parse(*bytes);
                        self.read = self.header_received(header)?;
                        continue;
                    };
                    let n = ready!(Pin::new(&mut self.io).poll_read(cx, room))?;
                    if n == 0 {
                        // Half a header is not for the crate to see: it would take the end for an orderly one.
                        return Poll::Ready(if *have == 0 {
                            Ok(0)
                        } else {
                            Err(io::ErrorKind::UnexpectedEof.into())
                        });
                    }
                    *have = have.saturating_add(n);
                }
                Reading::Show {
                    bytes,
                    shown,
                    frame,
                    piece,
                    rest,
                } => {
                    let left = bytes.get(*shown..).unwrap_or_default();
                    let n = left.len().min(buf.len());
                    if let (Some(to), Some(from)) = (buf.get_mut(..n), left.get(..n)) {
                        to.copy_from_slice(from);
                    }
                    *shown = shown.saturating_add(n);
                    if *shown == HEADER {
                        let (frame, piece, rest) = (*frame, *piece, *rest);
                        self.read = self.after_piece(frame, piece, rest);
                    }
                    return Poll::Ready(Ok(n));
                }
                Reading::Body { frame, piece, rest } => {
                    let take = usize::try_from(*piece).unwrap_or(usize::MAX).min(buf.len());
                    let room = buf.get_mut(..take).unwrap_or_default();
                    let n = ready!(Pin::new(&mut self.io).poll_read(cx, room))?;
                    if n == 0 && take > 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    let left = piece.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
                    let (frame, rest) = (*frame, *rest);
                    self.read = self.after_piece(frame, left, rest);
                    return Poll::Ready(Ok(n));
                }
            }
        }
    }

    /// Where reading goes on with `piece` bytes of a piece and `rest` bytes of the frame to come.
    fn after_piece(&mut self, frame: Header, piece: u32, rest: u32) -> Reading {
        if piece > 0 {
            return Reading::Body { frame, piece, rest };
        }
        if rest > 0 {
            return show(
                Header {
                    flags: frame.flags & !(SYN | ACK),
                    ..frame
                },
                rest,
            );
        }
        // Only now, with the whole body gone by: a connection that breaks within it must not look like an end of file.
        if frame.kind <= WINDOW_UPDATE && frame.has(FIN) && !frame.has(RST) {
            self.link.fin_received(frame.stream);
        }
        START_READING
    }

    fn header_received(&mut self, header: Header) -> io::Result<Reading> {
        self.last = Some(header);
        if header.version != 0 || header.kind > GO_AWAY {
            // The crate refuses it; what would follow has no meaning.
            return Ok(show(header, 0));
        }
        let body = header.body();
        // Nothing may be allocated for such a body, and the crate would wait for all of it before it complains.
        let limit = if header.has(SYN) {
            INITIAL_WINDOW
        } else {
            self.max_frame
        };
        if body > limit {
            return Err(self.refuse(format!(
                "a frame of {body} bytes on stream {}, over the window",
                header.stream
            )));
        }
        if header.kind <= WINDOW_UPDATE {
            if header.stream == 0 {
                return Err(self.refuse("stream 0 used for data".to_owned()));
            }
            if header.has(RST) {
                let code = if header.kind == WINDOW_UPDATE {
                    header.length
                } else {
                    0
                };
                self.link.reset_received(header.stream, ErrorCode(code));
            } else if header.has(SYN) {
                self.link.syn_received(header.stream);
            }
            if body > 0 && self.link.anyone_lingers() {
                self.link.discarded(header.stream, body);
            }
        }
        if header.kind == GO_AWAY {
            self.go_away.get_or_insert(ErrorCode(header.length));
        }
        Ok(show(header, body))
    }

    fn refuse(&mut self, what: String) -> io::Error {
        let error = io::Error::new(io::ErrorKind::InvalidData, what.clone());
        self.violation.get_or_insert(what);
        error
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.write {
            Writing::Header { bytes, have } => {
                if self.out.len() >= OUT_LIMIT {
                    ready!(self.poll_drain(cx))?;
                    return self.poll_write(cx, buf);
                }
                let room = bytes.get_mut(*have..).unwrap_or_default();
                let n = room.len().min(buf.len());
                if let (Some(to), Some(from)) = (room.get_mut(..n), buf.get(..n)) {
                    to.copy_from_slice(from);
                }
                *have = have.saturating_add(n);
                if *have == HEADER {
                    let header = Header::parse(*bytes);
                    self.write = self.header_sent(header);
                }
                Poll::Ready(Ok(n))
            }
            Writing::Body { left, swallow } => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                let n = if *swallow {
                    take
                } else {
                    ready!(self.poll_drain(cx))?;
                    ready!(Pin::new(&mut self.io).poll_write(cx, buf.get(..take).unwrap_or_default()))?
                };
                if let Writing::Body { left, .. } = &mut self.write {
                    *left = left.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
                    if *left == 0 {
                        self.write = START_WRITING;
                    }
                }
                Poll::Ready(Ok(n))
            }
        }
    }

    /// Puts what goes out for the crate's `header` behind what was injected meanwhile.
    fn header_sent(&mut self, mut header: Header) -> Writing {
        let replaced = if header.kind <= WINDOW_UPDATE && header.has(SYN | FIN | RST) {
            self.link.outbound_frame(header)
        } else {
            if header.kind == GO_AWAY && header.length == 0 {
                header.length = self.farewell.0;
            } else if header.kind == GO_AWAY {
                // The crate only says so in its log and would go on serving the peer.
                let what = self.last.map_or_else(String::new, |frame| {
                    format!(
                        " ({} on stream {}, length {})",
                        describe(frame),
                        frame.stream,
                        frame.length
                    )
                });
                self.violation.get_or_insert(format!("a frame was refused{what}"));
            }
            Some(header)
        };
        self.collect_injected();
        self.out
            .extend(replaced.iter().flat_map(|header| header.encode()));
        match header.body() {
            0 => START_WRITING,
            left => Writing::Body {
                left,
                swallow: replaced.is_none_or(|header| header.kind != DATA),
            },
        }
    }

    fn collect_injected(&mut self) {
        while let Some(frame) = self.link.next_injected() {
            self.out.extend(frame);
        }
    }

    /// Writes the headers that wait, and between frames also what was injected.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.out.is_empty() && matches!(self.write, Writing::Header { .. }) {
                self.collect_injected();
            }
            let (head, _) = self.out.as_slices();
            if head.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, head))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.drain(..n.min(self.out.len()));
            if self.out.is_empty() {
                // An idle connection holds no buffer.
                self.out = VecDeque::new();
            }
        }
    }
}

/// The next piece of a frame with `left` bytes of body: what ends a stream goes with the last.
fn show(frame: Header, left: u32) -> Reading {
    let piece = left.min(PIECE);
    let rest = left.saturating_sub(piece);
    let mut shown = frame;
    if frame.kind == DATA {
        shown.length = piece;
        if rest > 0 {
            shown.flags &= !(FIN | RST);
        }
    }
    Reading::Show {
        bytes: shown.encode(),
        shown: 0,
        frame,
        piece,
        rest,
    }
}

fn describe(frame: Header) -> &'static str {
    match (frame.kind, frame.has(SYN)) {
        (DATA, true) => "data with SYN",
        (DATA, false) => "data",
        (WINDOW_UPDATE, true) => "window update with SYN",
        (WINDOW_UPDATE, false) => "window update",
        _ => "ping",
    }
}
