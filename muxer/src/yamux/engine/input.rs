//! What the peer's frames do.

use std::time::Instant;

use super::{
    super::INITIAL_WINDOW,
    super::frame::{ACK, DATA, FIN, GO_AWAY, HEADER, Header, PING, RST, SYN, WINDOW_UPDATE},
    Engine, Event, MAX_PONGS, MAX_REFUSALS, MAX_RESETS, Phase, Violation,
    stream::Stream,
};
use crate::ErrorCode;

/// Where the next byte belongs.
pub(super) enum Reading {
    Header { bytes: [u8; HEADER], have: usize },
    Body(Body),
}

#[derive(Clone, Copy)]
pub(super) struct Body {
    id: u32,
    left: u32,
    fin: bool,
    /// For a stream that is over or was never there.
    discard: bool,
}

impl Reading {
    pub(super) fn start() -> Self {
        Self::Header { bytes: [0; HEADER], have: 0 }
    }
}

impl Engine {
    /// Whether input is wanted. It is not while many answers wait that only the peer's reading lets go, so that a
    /// peer cannot pile them up here (CVE-2024-32984).
    pub(in super::super) fn wants_input(&self) -> bool {
        self.pongs.len() < MAX_PONGS && self.refusals.len() < MAX_REFUSALS && self.farewell.is_none()
    }

    /// Takes bytes from the socket, and says how many: fewer than all when it [wants no more](Self::wants_input).
    ///
    /// # Errors
    /// [`Violation`], which ends the connection.
    pub(in super::super) fn handle_input(&mut self, input: &[u8], now: Instant) -> Result<usize, Violation> {
        if !input.is_empty() {
            self.liveness.heard(input.len(), now);
        }
        let mut rest = input;
        while !rest.is_empty() && self.wants_input() {
            match &mut self.reading {
                Reading::Header { bytes, have } => {
                    let room = bytes.get_mut(*have..).unwrap_or_default();
                    let (part, later) = rest.split_at(room.len().min(rest.len()));
                    for (to, from) in room.iter_mut().zip(part) {
                        *to = *from;
                    }
                    *have = have.saturating_add(part.len());
                    rest = later;
                    if *have == HEADER {
                        let header = Header::parse(*bytes);
                        self.reading = Reading::start();
                        self.handle_frame(header, now)?;
                    }
                }
                Reading::Body(body) => {
                    let left = usize::try_from(body.left).unwrap_or(usize::MAX);
                    let (part, later) = rest.split_at(left.min(rest.len()));
                    body.left = body.left.saturating_sub(u32::try_from(part.len()).unwrap_or(u32::MAX));
                    let body = *body;
                    rest = later;
                    self.handle_body(body, part);
                }
            }
        }
        Ok(input.len().saturating_sub(rest.len()))
    }

    /// The socket came to its end: in the middle of a frame, or not.
    pub(in super::super) fn is_between_frames(&self) -> bool {
        matches!(self.reading, Reading::Header { have: 0, .. })
    }

    fn handle_frame(&mut self, header: Header, now: Instant) -> Result<(), Violation> {
        if header.version != 0 {
            return Err(Violation::Version(header.version));
        }
        match header.kind {
            DATA | WINDOW_UPDATE => self.handle_stream_frame(header, now),
            PING => self.handle_ping(header, now),
            GO_AWAY => {
                if matches!(self.phase, Phase::Open) {
                    self.farewell = Some(ErrorCode(header.length));
                }
                Ok(())
            }
            kind => Err(Violation::Kind(kind)),
        }
    }

    fn handle_ping(&mut self, header: Header, now: Instant) -> Result<(), Violation> {
        if header.has(SYN) {
            self.pongs.push_back(header.length);
            return Ok(());
        }
        if self.liveness.pong(header.length, now) { Ok(()) } else { self.stray(now) }
    }

    /// Counts what an honest peer does rarely.
    fn stray(&mut self, now: Instant) -> Result<(), Violation> {
        if self.is_closing() || self.strays.count(now) { Ok(()) } else { Err(Violation::Strays) }
    }

    fn handle_stream_frame(&mut self, header: Header, now: Instant) -> Result<(), Violation> {
        let Header { stream: id, length, .. } = header;
        if id == 0 {
            return Err(Violation::StreamZero);
        }
        let longest = self.longest_body();
        if header.body() > longest {
            return Err(Violation::Window { id, length, credit: longest });
        }
        if header.has(RST) {
            self.discard_body(header);
            return self.handle_reset(header, now);
        }
        if header.has(SYN) && !self.handle_syn(header, now)? {
            self.discard_body(header);
            return Ok(());
        }
        let unknown = |stream: &Stream| stream.local && !stream.greeted;
        if self.streams.get(&id).is_none_or(unknown) {
            return self.handle_unknown(header, now);
        }
        if header.has(ACK) || !header.has(SYN) {
            // A peer that answers has taken the stream, whether it says so or not.
            self.acknowledged(id);
        }
        if header.kind == WINDOW_UPDATE { self.handle_credit(header) } else { self.handle_data(header, now) }
    }

    /// `false` if the stream was refused.
    fn handle_syn(&mut self, header: Header, now: Instant) -> Result<bool, Violation> {
        let Header { stream: id, length, .. } = header;
        if self.is_local_id(id) {
            return Err(Violation::Parity(id));
        }
        if self.streams.contains_key(&id) || self.recent.contains(id) {
            return Err(Violation::Reused(id));
        }
        // Before there is a stream that would have to be undone (CVE-2026-32314, rust-yamux 228).
        if header.body() > INITIAL_WINDOW {
            return Err(Violation::Window { id, length, credit: INITIAL_WINDOW });
        }
        if header.kind == WINDOW_UPDATE && length.checked_add(INITIAL_WINDOW).is_none() {
            return Err(Violation::Credit { id, length });
        }
        if self.is_closing() {
            return Ok(false);
        }
        let full = self.inbound >= self.config.max_inbound_streams || self.resets.len() >= MAX_RESETS;
        if full || self.backlog.len() >= self.config.accept_backlog {
            if !header.has(FIN) {
                self.recent.add(id, INITIAL_WINDOW.saturating_sub(header.body()));
            }
            if !self.refused.count(now) {
                return Err(Violation::Refusals);
            }
            self.refusals.push_back(Header::reset(id, ErrorCode::RESOURCE_LIMIT_EXCEEDED.0).encode());
            return Ok(false);
        }
        self.streams.insert(id, Stream::new(false, &self.budget));
        self.inbound = self.inbound.saturating_add(1);
        self.backlog.push_back(id);
        self.events.push_back(Event::Acceptable);
        Ok(true)
    }

    fn handle_unknown(&mut self, header: Header, now: Instant) -> Result<(), Violation> {
        self.discard_body(header);
        let expected = self.recent.expects(header.stream, header.body());
        if header.has(FIN) {
            self.recent.over(header.stream);
        }
        if expected { Ok(()) } else { self.stray(now) }
    }

    fn handle_credit(&mut self, header: Header) -> Result<(), Violation> {
        let Header { stream: id, length, .. } = header;
        if let Some(stream) = self.streams.get_mut(&id) {
            let Some(window) = stream.send.window.checked_add(length) else {
                return Err(Violation::Credit { id, length });
            };
            stream.send.window = window;
            self.schedule(id);
        }
        if header.has(FIN) {
            self.handle_fin(id);
        }
        Ok(())
    }

    fn handle_data(&mut self, header: Header, now: Instant) -> Result<(), Violation> {
        let Header { stream: id, length, .. } = header;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let credit = stream.receive.credit();
        if !stream.receive.spend(length) {
            return Err(Violation::Window { id, length, credit });
        }
        if stream.fin_received {
            self.discard_body(header);
            return self.stray(now);
        }
        stream.receive.begin(now);
        let discard = stream.released || stream.is_reset() || self.end.is_some();
        if length > 0 {
            self.reading = Reading::Body(Body { id, left: length, fin: header.has(FIN), discard });
        } else if header.has(FIN) {
            self.handle_fin(id);
        }
        Ok(())
    }

    fn discard_body(&mut self, header: Header) {
        if header.body() > 0 {
            self.reading =
                Reading::Body(Body { id: header.stream, left: header.length, fin: false, discard: true });
        }
    }

    /// A part of a body; the last one, if nothing is left.
    fn handle_body(&mut self, body: Body, part: &[u8]) {
        if let Some(stream) = self.streams.get_mut(&body.id) {
            stream.receive.arrived(part.len());
            if stream.released {
                let bytes = u32::try_from(part.len()).unwrap_or(u32::MAX);
                stream.discarded = stream.discarded.saturating_add(bytes);
            } else if !body.discard && !stream.is_reset() {
                match stream.receive.push(part) {
                    Ok(()) => self.notify_reader(body.id),
                    Err(_) => self.reset_for_memory(body.id),
                }
            }
        }
        if body.left == 0 {
            self.reading = Reading::start();
            if body.fin {
                self.handle_fin(body.id);
            } else if self.end.is_none() {
                self.settle(body.id);
            }
        }
    }

    /// The budget has no memory for what the peer was allowed to send: that costs the stream, not the connection.
    fn reset_for_memory(&mut self, id: u32) {
        let code = ErrorCode::RESOURCE_LIMIT_EXCEEDED;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.reset_locally = Some(code);
        stream.send.discard();
        self.growth = self.growth.saturating_sub(stream.receive.discard());
        let credit = stream.receive.credit();
        self.recent.add(id, credit);
        self.push_reset(id, code);
        self.acknowledged(id);
        self.notify_reader(id);
        self.notify_writer(id);
    }

    fn handle_fin(&mut self, id: u32) {
        if self.recent.over(id) {
            return;
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.fin_received = true;
            self.notify_reader(id);
            self.settle(id);
        }
    }

    fn handle_reset(&mut self, header: Header, now: Instant) -> Result<(), Violation> {
        let id = header.stream;
        let code = if header.kind == WINDOW_UPDATE { ErrorCode(header.length) } else { ErrorCode::NONE };
        if self.recent.over(id) {
            return Ok(());
        }
        let unknown = |stream: &Stream| stream.local && !stream.greeted;
        // What this side opened the peer may refuse, each once: that costs it as much as us.
        let refused = |stream: &Stream| stream.local && stream.greeted && !stream.is_reset();
        let is_refusal = self.streams.get(&id).is_some_and(refused);
        if self.streams.get(&id).is_some_and(|stream| !unknown(stream)) {
            self.acknowledged(id);
            if let Some(stream) = self.streams.get_mut(&id)
                && !stream.is_reset()
            {
                stream.reset_by_peer = Some(code);
                stream.send.discard();
                if !stream.accepted {
                    // Given up before anybody saw it: then nobody need.
                    stream.released = true;
                    self.backlog.retain(|waiting| *waiting != id);
                }
            }
            self.notify_reader(id);
            self.notify_writer(id);
            self.settle(id);
        }
        if is_refusal { Ok(()) } else { self.stray(now) }
    }
}
