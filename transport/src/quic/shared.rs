//! What a connection's handle, its streams and its driver share beside quinn's own state.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures::task::AtomicWaker;
use peerage_muxer::{ConnectionError, ErrorCode};
use quinn::ConnectionError as End;
use tokio::sync::Notify;

use super::{
    contained::contain,
    error,
    flight::Flight,
    turns::Turns,
    window::{self, usual},
};

pub(super) struct Shared {
    pub(super) connection: quinn::Connection,
    pub(super) flight: Flight,
    /// What this side closed the connection with.
    closing: OnceLock<ErrorCode>,
    /// Those who wait to open or to accept, which ends with the closing.
    waiting: Notify,
    /// Why it ended, where that was not the peer's doing.
    reason: OnceLock<ConnectionError>,
    pub(super) driver: AtomicWaker,
    /// Bytes that were read from streams.
    pub(super) read: AtomicU64,
    /// A writer had to wait since the driver looked last.
    pub(super) writer_waited: AtomicBool,
    pub(super) turns: Arc<Turns>,
    /// Bytes that are kept until the peer acknowledges them.
    send_window: Mutex<u32>,
    /// Something was given to quinn to be delivered.
    pub(super) touched: AtomicBool,
}

impl Shared {
    pub(super) fn new(connection: quinn::Connection, flight: Flight) -> Self {
        Self {
            connection,
            flight,
            closing: OnceLock::new(),
            waiting: Notify::new(),
            reason: OnceLock::new(),
            driver: AtomicWaker::new(),
            read: AtomicU64::new(0),
            writer_waited: AtomicBool::new(false),
            turns: Arc::default(),
            send_window: Mutex::new(window::SEND_WINDOW),
            touched: AtomicBool::new(false),
        }
    }

    /// From now on nothing begins; the driver does the rest. The first code counts.
    pub(super) fn close(&self, code: ErrorCode) {
        if self.closing.set(code).is_ok() {
            self.waiting.notify_waiters();
            self.driver.wake();
        }
    }

    pub(super) fn closing(&self) -> Option<ErrorCode> {
        self.closing.get().copied()
    }

    /// Does something that waits for the connection, unless it is being closed.
    pub(super) async fn unless_closing<T>(
        &self,
        act: impl Future<Output = Result<T, End>>,
    ) -> Result<T, ConnectionError> {
        let mut closed = std::pin::pin!(self.waiting.notified());
        closed.as_mut().enable();
        if self.closing().is_some() {
            return Err(self.ended());
        }
        tokio::select! {
            () = closed => Err(self.ended()),
            result = act => result.map_err(|end| self.end_of(end)),
        }
    }

    /// Ends the connection for everybody, without waiting for anything.
    pub(super) fn abandon(&self, reason: ConnectionError) {
        let _ = self.reason.set(reason);
        self.flight.let_go();
        self.connection.close(error::varint(ErrorCode::NONE), b"");
    }

    /// What ended it, as this side says it.
    pub(super) fn end_of(&self, end: End) -> ConnectionError {
        error::ended(end, || self.reason.get().cloned().unwrap_or(ConnectionError::Closed))
    }

    fn ended(&self) -> ConnectionError {
        self.connection.close_reason().map_or(ConnectionError::Closed, |end| self.end_of(end))
    }

    fn send_window(&self) -> MutexGuard<'_, u32> {
        self.send_window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_send_window(&self, bytes: u32) {
        let mut window = self.send_window();
        *window = bytes;
        self.connection.set_send_window(usual(bytes));
    }

    /// Writes with all the room there is.
    pub(super) fn with_reserve<T>(&self, write: impl FnOnce() -> T) -> T {
        let window = self.send_window();
        self.connection.set_send_window((*window).into());
        let written = write();
        self.connection.set_send_window(usual(*window));
        written
    }

    pub(super) fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    /// Whether nothing panicked while it held quinn's lock. If something did, this makes sure that quinn never tries to
    /// take it again when handles go.
    pub(super) fn is_sound(&self) -> bool {
        let sound = contain(|| self.connection.side()).is_some();
        if !sound {
            mem::forget(self.connection.clone());
        }
        sound
    }
}
