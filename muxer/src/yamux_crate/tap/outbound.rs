//! From the crate to the socket.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::io::AsyncWrite;

use crate::{
    ErrorCode,
    yamux_crate::{
        frame::{DATA, FIN, GO_AWAY, HEADER, Header, RST, SYN, WINDOW_UPDATE},
        table::Link,
    },
};

/// Headers and injected frames that wait for the socket; beyond it the crate is told to wait.
const OUT_LIMIT: usize = 4 * 1024;

pub(super) struct Outbound {
    state: Writing,
    /// Header bytes on their way out.
    out: VecDeque<u8>,
    /// The code of our GoAway.
    pub(super) farewell: ErrorCode,
    /// The crate gave the peer up. It only says so to the peer and in its log, and would go on serving it.
    pub(super) accused: bool,
    /// The crate was told to wait in the middle of a frame.
    pub(super) blocked: bool,
    /// The socket did not take the bytes that were last offered.
    pub(super) stuck: bool,
    /// It holds bytes that it has not sent on.
    pub(super) unflushed: bool,
    /// Counts the writes that the socket took.
    pub(super) progress: u64,
}

enum Writing {
    Header { bytes: [u8; HEADER], have: usize },
    Body { left: u32, swallow: bool },
}

const START: Writing = Writing::Header { bytes: [0; HEADER], have: 0 };

impl Outbound {
    pub(super) fn new() -> Self {
        Self {
            state: START,
            out: VecDeque::new(),
            farewell: ErrorCode::NONE,
            accused: false,
            blocked: false,
            stuck: false,
            unflushed: false,
            progress: 0,
        }
    }

    pub(super) fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        link: &Link,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.state {
            Writing::Header { bytes, have } => {
                if self.out.len() >= OUT_LIMIT {
                    ready!(self.poll_drain(io, link, cx))?;
                    return self.poll_write(io, link, cx, buf);
                }
                let room = bytes.get_mut(*have..).unwrap_or_default();
                let n = room.len().min(buf.len());
                if let (Some(to), Some(from)) = (room.get_mut(..n), buf.get(..n)) {
                    to.copy_from_slice(from);
                }
                *have = have.saturating_add(n);
                if *have == HEADER {
                    let header = Header::parse(*bytes);
                    self.state = self.header_sent(link, header);
                }
                Poll::Ready(Ok(n))
            }
            Writing::Body { left, swallow } => {
                let (left, swallow) = (*left, *swallow);
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                let n = if swallow {
                    take
                } else {
                    ready!(self.poll_drain(io, link, cx))?;
                    let written = Pin::new(&mut *io).poll_write(cx, buf.get(..take).unwrap_or_default());
                    self.note(&written);
                    ready!(written)?
                };
                if let Writing::Body { left, .. } = &mut self.state {
                    *left = left.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
                    if *left == 0 {
                        self.state = START;
                    }
                }
                Poll::Ready(Ok(n))
            }
        }
    }

    /// Puts what goes out for the crate's `header` behind what was injected meanwhile.
    fn header_sent(&mut self, link: &Link, mut header: Header) -> Writing {
        if header.kind <= WINDOW_UPDATE {
            link.frame_passed(header);
        }
        let replaced = if header.kind <= WINDOW_UPDATE && header.has(SYN | FIN | RST) {
            link.outbound_frame(header)
        } else {
            if header.kind == GO_AWAY && header.length == 0 {
                header.length = self.farewell.0;
            } else if header.kind == GO_AWAY {
                self.accused = true;
            }
            Some(header)
        };
        // After that, not before: an announcement made meanwhile has to precede a frame that lost its SYN to it.
        self.collect_injected(link);
        self.out.extend(replaced.iter().flat_map(|header| header.encode()));
        match header.body() {
            0 => START,
            left => Writing::Body { left, swallow: replaced.is_none_or(|header| header.kind != DATA) },
        }
    }

    fn note<R>(&mut self, written: &Poll<R>) {
        self.stuck = written.is_pending();
        if written.is_ready() {
            self.progress = self.progress.wrapping_add(1);
        }
    }

    fn collect_injected(&mut self, link: &Link) {
        while let Some(frame) = link.next_injected() {
            self.out.extend(frame);
        }
    }

    /// Writes the headers that wait, and between frames also what was injected.
    pub(super) fn poll_drain<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        link: &Link,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.out.is_empty() && matches!(self.state, Writing::Header { .. }) {
                self.collect_injected(link);
            }
            let (head, _) = self.out.as_slices();
            if head.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let written = Pin::new(&mut *io).poll_write(cx, head);
            self.note(&written);
            let n = ready!(written)?;
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
