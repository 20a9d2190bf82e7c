//! What the driver, the tap and the streams tell each other: one entry per stream, and how the connection ended.
//!
//! An entry lives from the stream's first frame (or its opening here) until its last: until the [`Substream`] was
//! dropped *and* the frame that ends it has passed the tap. So the table is bounded by the crate's own limit of
//! streams, and [`MAX_LINGERING`] more.
//!
//! [`Substream`]: super::substream::Substream

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::task::AtomicWaker;

use super::{
    Mode,
    frame::{FIN, HEADER, Header, RST, SYN},
};
use crate::{ConnectionError, ErrorCode, StreamError};

/// Streams that were closed and dropped here while the peer may still write. More of them are forgotten at once,
/// and then such a peer waits for credit until the connection ends.
const MAX_LINGERING: usize = 256;

/// Streams that were dropped here while the crate still holds them, and what they received, because it has other
/// things to write first. At this number nothing more is read, nor opened, until the peer has read of ours. Ordinary
/// traffic must not come here: two sides that both wait for the other to read would wait for ever.
pub(super) const MAX_LEAVING: usize = 1024;

/// The same for the unread bytes of these streams.
pub(super) const MAX_LEAVING_BYTES: u64 = 16 * 1024 * 1024;

/// What a peer may send to a stream that nobody reads any more before it is told so by a reset. Large enough for the
/// answers that a one-way sender ignores (multistream-select), well below the window at whose end it would hang.
const LINGER_BYTES: u32 = 64 * 1024;

/// The state that is shared. Everything is short and under one lock, except the bytes themselves.
pub(super) struct Link {
    table: Mutex<Table>,
    /// How many entries linger, readable without the lock for every Data frame.
    lingering: AtomicUsize,
    driver: AtomicWaker,
}

struct Table {
    streams: HashMap<u32, Entry>,
    inbound: usize,
    outbound: usize,
    /// Dropped streams that the crate may still hold.
    leaving: HashMap<u32, Leaving>,
    /// What they hold together.
    leaving_bytes: u64,
    /// Frames of streams that the crate has sent.
    passed: u64,
    /// Frames that the crate does not know of. At most two for each entry: an announcement and a reset.
    inject: VecDeque<[u8; HEADER]>,
    end: Option<ConnectionError>,
    close: Option<ErrorCode>,
    mode: Mode,
}

struct Leaving {
    /// The value of `passed` when the stream was last heard of.
    last: u64,
    unread: u64,
}

#[derive(Default)]
struct Entry {
    /// This side opened it.
    local: bool,
    /// The peer knows of it (or opened it).
    announced: bool,
    /// The driver took it over from the crate: it counts against the limits.
    adopted: bool,
    fin_sent: bool,
    fin_received: bool,
    reset_by_peer: Option<ErrorCode>,
    /// Given up here: the frame with which the crate ends the stream becomes a reset with this code.
    reset: Option<ErrorCode>,
    /// The substream was dropped.
    gone: bool,
    lingering: bool,
    /// Bytes of body received, and not read.
    unread: u64,
    discarded: u32,
    /// Woken at the end of the connection; for everything else the crate wakes.
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Which half of a stream asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Read,
    Write,
}

/// What the driver may do with a stream that the peer opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Adopt {
    Yes,
    /// The peer opened an id again whose first life was not over.
    Reused,
}

impl Link {
    pub(super) fn new(mode: Mode) -> Self {
        let table = Table {
            streams: HashMap::new(),
            inbound: 0,
            outbound: 0,
            leaving: HashMap::new(),
            leaving_bytes: 0,
            passed: 0,
            inject: VecDeque::new(),
            end: None,
            close: None,
            mode,
        };
        Self { table: Mutex::new(table), lingering: AtomicUsize::new(0), driver: AtomicWaker::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics half way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The driver's side.

    pub(super) fn register_driver(&self, cx: &Context<'_>) {
        self.driver.register(cx.waker());
    }

    pub(super) fn close_requested(&self) -> Option<ErrorCode> {
        self.lock().close
    }

    pub(super) fn inbound(&self) -> usize {
        self.lock().inbound
    }

    pub(super) fn outbound(&self) -> usize {
        self.lock().outbound
    }

    /// Whether so many dropped streams are still held by the crate that there must not be more.
    pub(super) fn crowded(&self) -> bool {
        let mut table = self.lock();
        let table = &mut *table;
        if !table.crowded() {
            return false;
        }
        // The crate asks its streams in turn. When all had theirs since one's last frame, it has seen that one's end.
        let held = table.inbound.saturating_add(table.outbound).saturating_add(table.leaving.len());
        let (round, passed) = (u64::try_from(held).unwrap_or(u64::MAX), table.passed);
        table.leaving.retain(|_, stream| passed.saturating_sub(stream.last) <= round);
        table.leaving_bytes = table.leaving.values().fold(0, |all, stream| stream.unread.saturating_add(all));
        table.crowded()
    }

    /// The crate has nothing left to write, so it has let go of every stream that was dropped.
    pub(super) fn caught_up(&self) {
        let mut table = self.lock();
        if !table.leaving.is_empty() {
            table.leaving = HashMap::new();
            table.leaving_bytes = 0;
        }
    }

    pub(super) fn opened(&self, id: u32) {
        let mut table = self.lock();
        table.outbound = table.outbound.saturating_add(1);
        let entry = Entry { local: true, adopted: true, ..Entry::default() };
        table.streams.insert(id, entry);
    }

    /// Takes over what the tap noted when the stream's first frame came.
    pub(super) fn adopt(&self, id: u32) -> Adopt {
        let mut table = self.lock();
        let entry = table.streams.entry(id).or_default();
        if entry.gone || entry.adopted {
            return Adopt::Reused;
        }
        entry.adopted = true;
        entry.announced = true;
        table.inbound = table.inbound.saturating_add(1);
        Adopt::Yes
    }

    /// Records how the connection ended (the first reason stays) and wakes everyone who waits for it.
    pub(super) fn end(&self, reason: ConnectionError) {
        let mut table = self.lock();
        table.end.get_or_insert(reason);
        let wakers: Vec<Waker> = table
            .streams
            .values_mut()
            .flat_map(|entry| [entry.reader.take(), entry.writer.take()])
            .flatten()
            .collect();
        drop(table);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// After the driver's last frame: nothing is waited for any more.
    pub(super) fn forget(&self) {
        let mut table = self.lock();
        table.streams.retain(|_, entry| !entry.gone);
        table.inject = VecDeque::new();
        table.leaving = HashMap::new();
        table.leaving_bytes = 0;
        self.lingering.store(0, Ordering::Relaxed);
    }

    pub(super) fn ended(&self) -> Option<ConnectionError> {
        self.lock().end.clone()
    }

    // The handle's and the streams' side.

    pub(super) fn close(&self, code: ErrorCode) {
        self.lock().close.get_or_insert(code);
        self.driver.wake();
    }

    pub(super) fn data_read(&self, id: u32, bytes: usize) {
        if let Some(entry) = self.lock().streams.get_mut(&id) {
            entry.unread = entry.unread.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }

    /// Makes a stream known to the peer that was opened but not written to, since this side waits for the peer.
    pub(super) fn announce(&self, id: u32) {
        let mut table = self.lock();
        let Some(entry) = table.streams.get_mut(&id) else {
            return;
        };
        if entry.local && !entry.announced && !entry.fin_sent {
            entry.announced = true;
            table.inject.push_back(Header::syn(id).encode());
            drop(table);
            self.driver.wake();
        }
    }

    /// Why the crate says that one half of a stream is over. `Ok` is the end of file and only for a reader; pending
    /// while the crate knows that the connection ended and the driver has not yet said why.
    pub(super) fn why(&self, id: u32, side: Side, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut table = self.lock();
        let end = table.end.clone();
        let entry = table.streams.get_mut(&id);
        if let Some(entry) = &entry {
            if side == Side::Read && entry.fin_received {
                return Poll::Ready(Ok(()));
            }
            if let Some(code) = entry.reset_by_peer {
                return Poll::Ready(Err(StreamError::ResetByPeer(code)));
            }
        }
        match (end, entry) {
            (Some(end), _) => Poll::Ready(Err(end.into())),
            (None, Some(entry)) => {
                entry.watch(side, cx);
                Poll::Pending
            }
            (None, None) => Poll::Ready(Err(ConnectionError::DriverGone.into())),
        }
    }

    /// For a half that waits: fails if nothing will come any more, otherwise the end of the connection wakes it.
    pub(super) fn wait(&self, id: u32, side: Side, cx: &Context<'_>) -> Result<(), StreamError> {
        let mut table = self.lock();
        if let Some(end) = &table.end {
            return Err(end.clone().into());
        }
        if let Some(entry) = table.streams.get_mut(&id) {
            entry.watch(side, cx);
        }
        Ok(())
    }

    /// Whether writing is over before the crate is asked.
    pub(super) fn writable(&self, id: u32) -> Result<(), StreamError> {
        let table = self.lock();
        match table.streams.get(&id).and_then(|entry| entry.reset_by_peer) {
            Some(code) => Err(StreamError::ResetByPeer(code)),
            None => table.end.clone().map_or(Ok(()), |end| Err(end.into())),
        }
    }

    /// The substream is gone: given up with a code, or (`None`) in order, its writing half being closed. Called
    /// before the crate learns of it.
    pub(super) fn release(&self, id: u32, code: Option<ErrorCode>) {
        let mut table = self.lock();
        let over = table.end.is_some();
        let Some(entry) = table.streams.get_mut(&id) else {
            return;
        };
        if entry.gone {
            return;
        }
        entry.gone = true;
        (entry.reader, entry.writer) = (None, None);
        // The crate sends a last frame of its own unless it has sent it, or the peer has reset the stream.
        let waits_for_crate = !over && entry.reset_by_peer.is_none() && !entry.fin_sent;
        let unread = entry.unread;
        let (adopted, local, open) = (entry.adopted, entry.local, !entry.fin_received);
        entry.reset = code;
        if adopted && local {
            table.outbound = table.outbound.saturating_sub(1);
        } else if adopted {
            table.inbound = table.inbound.saturating_sub(1);
        }
        if !over {
            let last = table.passed;
            if let Some(before) = table.leaving.insert(id, Leaving { last, unread }) {
                table.leaving_bytes = table.leaving_bytes.saturating_sub(before.unread);
            }
            table.leaving_bytes = table.leaving_bytes.saturating_add(unread);
        }
        if waits_for_crate {
            return;
        }
        let reset = table.streams.get(&id).is_some_and(|entry| entry.reset_by_peer.is_some());
        match code {
            Some(code) if open && !reset && !over => {
                table.streams.remove(&id);
                table.inject.push_back(Header::reset(id, code.0).encode());
                drop(table);
                self.driver.wake();
            }
            None if open && !reset && !over => self.linger(&mut table, id),
            _ => {
                table.streams.remove(&id);
            }
        }
    }

    /// Keeps an entry of a closed and dropped stream whose peer has not closed its half.
    fn linger(&self, table: &mut Table, id: u32) {
        if self.lingering.load(Ordering::Relaxed) >= MAX_LINGERING {
            table.streams.remove(&id);
        } else if let Some(entry) = table.streams.get_mut(&id) {
            entry.lingering = true;
            self.lingering.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remove(&self, table: &mut Table, id: u32) {
        if table.streams.remove(&id).is_some_and(|entry| entry.lingering) {
            self.lingering.fetch_sub(1, Ordering::Relaxed);
        }
    }

    // The tap's side: inbound, always before the crate sees the frame.

    pub(super) fn syn_received(&self, id: u32) {
        let mut table = self.lock();
        let odd = id % 2 == 1;
        // With the wrong parity, or in use, the crate ends the connection.
        if odd == (table.mode == Mode::Server) {
            table.streams.entry(id).or_insert_with(|| Entry { announced: true, ..Entry::default() });
        }
    }

    pub(super) fn fin_received(&self, id: u32) {
        let mut table = self.lock();
        let Some(entry) = table.streams.get_mut(&id) else {
            return;
        };
        entry.fin_received = true;
        if entry.lingering {
            self.remove(&mut table, id);
        }
    }

    pub(super) fn reset_received(&self, id: u32, code: ErrorCode) {
        let mut table = self.lock();
        let Some(entry) = table.streams.get_mut(&id) else {
            return;
        };
        if entry.gone {
            self.remove(&mut table, id);
        } else {
            entry.reset_by_peer.get_or_insert(code);
        }
    }

    /// The body of a frame is coming in, which the crate will keep until it is read.
    pub(super) fn data_received(&self, id: u32, bytes: u32) {
        let mut table = self.lock();
        let table = &mut *table;
        let bytes = u64::from(bytes);
        if let Some(entry) = table.streams.get_mut(&id).filter(|entry| !entry.gone) {
            entry.unread = entry.unread.saturating_add(bytes);
        } else if let Some(stream) = table.leaving.get_mut(&id) {
            stream.unread = stream.unread.saturating_add(bytes);
            table.leaving_bytes = table.leaving_bytes.saturating_add(bytes);
        }
    }

    pub(super) fn anyone_lingers(&self) -> bool {
        self.lingering.load(Ordering::Relaxed) > 0
    }

    /// Data for a stream that nobody reads any more: the peer will be told before it waits for credit in vain.
    pub(super) fn discarded(&self, id: u32, bytes: u32) {
        let mut table = self.lock();
        let Some(entry) = table.streams.get_mut(&id).filter(|entry| entry.lingering) else {
            return;
        };
        entry.discarded = entry.discarded.saturating_add(bytes);
        if entry.discarded > LINGER_BYTES {
            self.remove(&mut table, id);
            table.inject.push_back(Header::reset(id, 0).encode());
        }
    }

    // The tap's side: outbound.

    /// The crate sends a frame of a stream.
    pub(super) fn frame_passed(&self, header: Header) {
        let mut table = self.lock();
        let table = &mut *table;
        table.passed = table.passed.saturating_add(1);
        if header.has(RST) {
            // Sent in the moment in which the crate forgets the stream.
            if let Some(stream) = table.leaving.remove(&header.stream) {
                table.leaving_bytes = table.leaving_bytes.saturating_sub(stream.unread);
            }
        } else if let Some(stream) = table.leaving.get_mut(&header.stream) {
            stream.last = table.passed;
        }
    }

    /// What to send instead of a frame with SYN, FIN or RST that the crate sends; nothing if `None`.
    pub(super) fn outbound_frame(&self, mut header: Header) -> Option<Header> {
        let mut table = self.lock();
        let id = header.stream;
        let own = (id % 2 == 1) == (table.mode == Mode::Client);
        let Some(entry) = table.streams.get_mut(&id) else {
            // One of ours that is over: its SYN would open it again, and nothing would end it.
            return (!own).then_some(header);
        };
        let unknown = entry.local && !entry.announced;
        if header.has(RST) || header.has(FIN) && entry.reset.is_some() {
            let code = entry.reset.unwrap_or_default();
            if entry.gone {
                self.remove(&mut table, id);
            }
            // Of a stream that was given up before its first frame the peer need not hear.
            return if unknown { None } else { Some(Header::reset(id, code.0)) };
        }
        if entry.local {
            header.flags &= !SYN;
            if unknown {
                header.flags |= SYN;
                entry.announced = true;
            }
        }
        if header.has(FIN) {
            entry.fin_sent = true;
            if entry.gone && entry.fin_received {
                self.remove(&mut table, id);
            } else if entry.gone {
                self.linger(&mut table, id);
            }
        }
        Some(header)
    }

    /// The next frame that goes before whatever the crate sends next.
    pub(super) fn next_injected(&self) -> Option<[u8; HEADER]> {
        self.lock().inject.pop_front()
    }

    pub(super) fn inject(&self, header: Header) {
        self.lock().inject.push_back(header.encode());
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.lock().streams.len()
    }
}

impl Table {
    fn crowded(&self) -> bool {
        self.leaving.len() >= MAX_LEAVING || self.leaving_bytes >= MAX_LEAVING_BYTES
    }
}

impl Entry {
    fn watch(&mut self, side: Side, cx: &Context<'_>) {
        let slot = match side {
            Side::Read => &mut self.reader,
            Side::Write => &mut self.writer,
        };
        match slot {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *slot = Some(cx.waker().clone()),
        }
    }
}
