//! Data channels over DTLS over datagrams, without I/O: datagrams and instants come in, datagrams and [`Event`]s come out.
//!
//! ```text
//!   messages of channels ── Sctp ── packets ── Dtls ── datagrams
//! ```
//!
//! dimpl does DTLS, sctp-proto does SCTP: the parts that str0m is made of. str0m itself takes every message off SCTP at
//! once, so that a slow reader's peer is never slowed down; here what is not read stays in SCTP, whose window then
//! tells the peer.

mod dcep;
mod dtls;
mod flight;
mod packet;
mod resets;
mod sctp;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use self::{
    dtls::{Dtls, Incoming},
    sctp::Sctp,
};
use super::certificate::{Certificate, Fingerprint};

/// The number of a channel: that of its SCTP streams, one in each direction.
pub(crate) type ChannelId = u16;

/// The channel of which both sides know without being told.
pub(crate) const NEGOTIATED: ChannelId = 0;

/// Who shakes hands how. The dialer is the DTLS client, and begins the SCTP association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialer,
    Listener,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// DTLS is done. The other side has the certificate with this fingerprint.
    Secured(Fingerprint),
    /// SCTP is done: channels can be opened.
    Connected,
    /// The other side opened a channel.
    Opened(ChannelId),
    /// There is a message to read.
    Readable(ChannelId),
    /// The other side has closed the channel, and everything it sent before was read.
    Closed(ChannelId),
    /// A channel that was closed, by either side, is closed on both: its number may be used again.
    Free(ChannelId),
    /// It is over. Nothing follows.
    Ended(Ended),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the other side closed")]
    ByPeer,
    #[error("closed")]
    Closed,
    #[error("DTLS: {0}")]
    Dtls(String),
    #[error("SCTP: {0}")]
    Sctp(String),
    /// The listener is not the one that its address names.
    #[error("expected a certificate with the fingerprint {expected}, found {found}")]
    Certificate { expected: Fingerprint, found: Fingerprint },
}

/// One side of a connection.
pub(crate) struct Session {
    dtls: Dtls,
    sctp: Sctp,
    /// The certificates that the other side may have; any if there are none.
    expected: Vec<Fingerprint>,
    secured: bool,
    closing: bool,
    ended: bool,
    /// The last words were said.
    finished: bool,
    out: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Session {
    /// A dialer's session goes on only with a listener whose certificate is one of `expected`. `window` is what the peer
    /// may send and this side has not read, in bytes.
    pub(crate) fn new(
        side: Side,
        certificate: &Certificate,
        expected: Vec<Fingerprint>,
        window: u32,
        now: Instant,
    ) -> Self {
        let mut session = Self {
            dtls: Dtls::new(side, certificate, now),
            sctp: Sctp::new(side, window),
            expected,
            secured: false,
            closing: false,
            ended: false,
            finished: false,
            out: VecDeque::new(),
            events: VecDeque::new(),
        };
        // The dialer's hello.
        session.handle_timeout(now);
        session
    }

    /// A datagram that is no STUN. Nothing but DTLS is taken, and of that only what the other side has protected.
    /// Whether it was, and so is a sign of life.
    pub(crate) fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> bool {
        if self.ended {
            return false;
        }
        let result = self.dtls.handle_datagram(datagram, now);
        let heard = self.settle(result, now);
        self.advance(now);
        heard
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        let result = self.dtls.handle_timeout(now);
        self.settle(result, now);
        self.sctp.handle_timeout(now);
        self.advance(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        self.dtls.poll_timeout().into_iter().chain(self.sctp.poll_timeout()).min()
    }

    /// The next datagram to be sent.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.out.is_empty() && !self.ended {
            self.advance(now);
        }
        self.out.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        if self.has_event() { self.events.pop_front() } else { None }
    }

    /// Whether there is one.
    pub(crate) fn has_event(&mut self) -> bool {
        if self.events.is_empty() {
            // Some wait in SCTP until what came before them was read.
            self.collect();
        }
        !self.events.is_empty()
    }

    /// Opens a channel, telling the other side; data may follow at once. `false` if the number is in use.
    #[must_use]
    pub(crate) fn open(&mut self, id: ChannelId) -> bool {
        self.sctp.open(id)
    }

    /// Opens a channel that both sides know of.
    pub(crate) fn open_negotiated(&mut self, id: ChannelId) -> bool {
        self.sctp.open_negotiated(id)
    }

    /// Sends a message of at most 64 KiB; `false` if the channel is closed. How much waits to be
    /// acknowledged, [`Session::buffered`] says: it is the caller's to keep that in bounds.
    pub(crate) fn write(&mut self, id: ChannelId, message: Vec<u8>) -> bool {
        !self.ended && self.sctp.write(id, message)
    }

    /// The next message of a channel. What is not read counts against the window.
    pub(crate) fn read(&mut self, id: ChannelId) -> Option<Bytes> {
        self.sctp.read(id)
    }

    /// Closes a channel after everything written was acknowledged. What comes in is thrown away from now on.
    pub(crate) fn close_channel(&mut self, id: ChannelId) {
        self.sctp.close(id);
    }

    /// Bytes that were written to all channels and not acknowledged.
    pub(crate) fn buffered(&mut self) -> usize {
        self.sctp.buffered()
    }

    /// More bytes than that should not be written and not acknowledged. It depends on the path.
    pub(crate) fn limit(&self) -> usize {
        self.sctp.limit()
    }

    /// The window as the other side last heard of it.
    pub(crate) fn advertised(&self) -> u32 {
        self.sctp.advertised()
    }

    /// Tells the other side of the window again, now that something was read: SCTP tells it of itself only when
    /// data comes in, and of a closed window none does.
    pub(crate) fn advertise(&mut self, now: Instant) {
        self.sctp.advertise(now);
    }

    /// Says goodbye. Everything written should have been acknowledged before; what is not is lost.
    pub(crate) fn close(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.closing, true) {
            self.sctp.shutdown();
            self.advance(now);
        }
    }

    /// The end of a goodbye, or of the patience with it.
    pub(crate) fn finish(&mut self, now: Instant) {
        if !self.ended {
            self.advance(now);
        }
        if !std::mem::replace(&mut self.finished, true)
            && let Ok(last) = self.dtls.close(now)
        {
            self.out.extend(last.into_iter().filter_map(|incoming| match incoming {
                Incoming::Datagram(datagram) => Some(datagram),
                _ => None,
            }));
        }
        self.end(Ended::Closed);
    }

    /// Lets SCTP have what DTLS brought, and notes what else it did.
    fn settle(&mut self, result: Result<Vec<Incoming>, Ended>, now: Instant) -> bool {
        let incoming = match result {
            Ok(incoming) => incoming,
            Err(why) => {
                self.end(why);
                return false;
            }
        };
        let mut heard = false;
        for incoming in incoming {
            match incoming {
                Incoming::Datagram(datagram) => self.out.push_back(datagram),
                Incoming::Certificate(found) => {
                    // Before anything else is said to somebody who may be anybody.
                    if let Some(expected) = self.expected.first()
                        && !self.expected.contains(&found)
                    {
                        self.end(Ended::Certificate { expected: *expected, found });
                        return false;
                    }
                }
                Incoming::Connected(fingerprint) => {
                    self.secured = true;
                    self.events.push_back(Event::Secured(fingerprint));
                    self.sctp.start(now);
                }
                Incoming::Data(packet) => {
                    heard = true;
                    self.sctp.handle_packet(packet, now);
                }
                Incoming::Closed => {
                    self.collect();
                    self.end(Ended::ByPeer);
                    return true;
                }
            }
        }
        heard
    }

    /// Encrypts what SCTP has to send, and collects what happened there.
    fn advance(&mut self, now: Instant) {
        while self.secured && !self.ended {
            let Some(packet) = self.sctp.poll_transmit(now) else { break };
            let result = self.dtls.encrypt(&packet, now);
            self.settle(result, now);
        }
        self.collect();
    }

    fn collect(&mut self) {
        while !self.ended
            && let Some(event) = self.sctp.poll_event()
        {
            match event {
                Event::Ended(why) => {
                    let why = if self.closing { Ended::Closed } else { why };
                    return self.end(why);
                }
                event => self.events.push_back(event),
            }
        }
    }

    fn end(&mut self, why: Ended) {
        if !std::mem::replace(&mut self.ended, true) {
            self.events.push_back(Event::Ended(why));
        }
    }
}
