//! From the socket to the crate.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::io::AsyncRead;

use crate::{
    ErrorCode,
    yamux_crate::{
        INITIAL_WINDOW,
        frame::{ACK, DATA, FIN, GO_AWAY, HEADER, Header, RST, SYN, WINDOW_UPDATE},
        table::Link,
    },
};

/// Bodies longer than this are shown to the crate as several frames. The crate allocates a body before it has come,
/// so this is also what a withheld body costs.
const PIECE: u32 = 64 * 1024;

pub(super) struct Inbound {
    max_frame: u32,
    state: Reading,
    /// The frame that came last: the guilty one if the crate now gives up.
    pub(super) last: Option<Header>,
    /// What the peer did wrong, if it was found out here.
    pub(super) violation: Option<String>,
    /// The peer's GoAway.
    pub(super) go_away: Option<ErrorCode>,
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

const START: Reading = Reading::Header { bytes: [0; HEADER], have: 0 };

impl Inbound {
    pub(super) fn new(max_frame: u32) -> Self {
        Self { max_frame, state: START, last: None, violation: None, go_away: None }
    }

    pub(super) fn poll_read<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        link: &Link,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match &mut self.state {
                Reading::Header { bytes, have } => {
                    let Some(room) = bytes.get_mut(*have..).filter(|room| !room.is_empty()) else {
                        let header = Header::parse(*bytes);
                        self.state = self.header_received(link, header)?;
                        continue;
                    };
                    let n = ready!(Pin::new(&mut *io).poll_read(cx, room))?;
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
                Reading::Show { bytes, shown, frame, piece, rest } => {
                    let left = bytes.get(*shown..).unwrap_or_default();
                    let n = left.len().min(buf.len());
                    if let (Some(to), Some(from)) = (buf.get_mut(..n), left.get(..n)) {
                        to.copy_from_slice(from);
                    }
                    *shown = shown.saturating_add(n);
                    if *shown == HEADER {
                        let (frame, piece, rest) = (*frame, *piece, *rest);
                        self.state = after_piece(link, frame, piece, rest);
                    }
                    return Poll::Ready(Ok(n));
                }
                Reading::Body { frame, piece, rest } => {
                    let take = usize::try_from(*piece).unwrap_or(usize::MAX).min(buf.len());
                    let room = buf.get_mut(..take).unwrap_or_default();
                    let n = ready!(Pin::new(&mut *io).poll_read(cx, room))?;
                    if n == 0 && take > 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    let left = piece.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
                    let (frame, rest) = (*frame, *rest);
                    self.state = after_piece(link, frame, left, rest);
                    return Poll::Ready(Ok(n));
                }
            }
        }
    }

    pub(super) fn between_frames(&self) -> bool {
        matches!(self.state, Reading::Header { have: 0, .. })
    }

    fn header_received(&mut self, link: &Link, header: Header) -> io::Result<Reading> {
        self.last = Some(header);
        if header.version != 0 || header.kind > GO_AWAY {
            // The crate refuses it; what would follow has no meaning.
            return Ok(show(header, 0));
        }
        let body = header.body();
        // Nothing may be allocated for such a body, and the crate would wait for all of it before it complains.
        let limit = if header.has(SYN) { INITIAL_WINDOW } else { self.max_frame };
        if body > limit {
            return Err(
                self.refuse(format!("a frame of {body} bytes on stream {}, over the window", header.stream))
            );
        }
        if header.kind <= WINDOW_UPDATE {
            if header.stream == 0 {
                return Err(self.refuse("stream 0 used for data".to_owned()));
            }
            if header.has(RST) {
                let code = if header.kind == WINDOW_UPDATE { header.length } else { 0 };
                link.reset_received(header.stream, ErrorCode(code));
            } else if header.has(SYN) {
                link.syn_received(header.stream);
            }
            if body > 0 {
                link.data_received(header.stream, body);
            }
            if body > 0 && link.anyone_lingers() {
                link.discarded(header.stream, body);
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
}

/// Where reading goes on with `piece` bytes of a piece and `rest` bytes of the frame to come.
fn after_piece(link: &Link, frame: Header, piece: u32, rest: u32) -> Reading {
    if piece > 0 {
        return Reading::Body { frame, piece, rest };
    }
    if rest > 0 {
        return show(Header { flags: frame.flags & !(SYN | ACK), ..frame }, rest);
    }
    // Only now, with the whole body gone by: a connection that breaks within it must not look like an end of file.
    if frame.kind <= WINDOW_UPDATE && frame.has(FIN) && !frame.has(RST) {
        link.fin_received(frame.stream);
    }
    START
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
    Reading::Show { bytes: shown.encode(), shown: 0, frame, piece, rest }
}
